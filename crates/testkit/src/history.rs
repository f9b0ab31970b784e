//! The history checker: what was sent, what its sender was told, what its receiver showed, and whether that fits together.
//!
//! - **I1** what was accepted is shown (at the end, when all faults are over)
//! - **I2** nothing is shown twice
//! - **I3** a receiver shows one sender's messages in the order in which they were sent
//! - **I4** nothing is shown that was not sent, on this lane
//!
//! What was sent without an answer (the sender, its gateway or the connection died first) may be shown once or not at all, but in its
//! place. Texts must be different from each other; a sender that does not know whether a message left sends another one, never the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One direction of one conversation: messages from a sender to a receiver.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lane(String);

impl Lane {
    /// From whom to whom.
    #[must_use]
    pub fn new(from: &str, to: &str) -> Self {
        Self(format!("{from} → {to}"))
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What happened, as the test recorded it.
#[derive(Debug, Clone, Default)]
pub struct History {
    lanes: BTreeMap<Lane, Record>,
}

#[derive(Debug, Clone, Default)]
struct Record {
    /// In the order of sending: text, and whether the sender was told that it is accepted.
    sent: Vec<(String, bool)>,
    /// In the order of showing.
    shown: Vec<String>,
}

/// How a history breaks the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Breach {
    /// I1: accepted, and never shown.
    Lost {
        /// Where.
        lane: Lane,
        /// What.
        text: String,
    },
    /// I2: shown more than once.
    Twice {
        /// Where.
        lane: Lane,
        /// What.
        text: String,
        /// How often.
        times: usize,
    },
    /// I3: shown after a message that was sent later.
    Order {
        /// Where.
        lane: Lane,
        /// What was sent later and shown earlier.
        earlier: String,
        /// What was shown too late.
        later: String,
    },
    /// I4: shown, and never sent on this lane.
    Ghost {
        /// Where.
        lane: Lane,
        /// What.
        text: String,
    },
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { lane, text } => write!(f, "I1 lost     {lane}: {text:?} was accepted and never shown"),
            Self::Twice { lane, text, times } => write!(f, "I2 twice    {lane}: {text:?} was shown {times} times"),
            Self::Order { lane, earlier, later } => {
                write!(f, "I3 order    {lane}: {later:?} was sent before {earlier:?} and shown after it")
            }
            Self::Ghost { lane, text } => write!(f, "I4 ghost    {lane}: {text:?} was shown and never sent"),
        }
    }
}

/// A history that keeps the contract, in figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Sent, with or without an answer.
    pub sent: usize,
    /// Told to be accepted.
    pub accepted: usize,
    /// Shown.
    pub shown: usize,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sent, {} of them accepted, {} shown exactly once and in order",
            self.sent, self.accepted, self.shown
        )
    }
}

/// A history that does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Each breach.
    pub breaches: Vec<Breach>,
    /// Sent beside shown, around the first breach of each lane.
    pub diff: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for breach in &self.breaches {
            writeln!(f, "{breach}")?;
        }
        f.write_str(&self.diff)
    }
}

impl std::error::Error for Broken {}

impl History {
    /// Somebody is about to send this.
    pub fn sends(&mut self, lane: &Lane, text: &str) {
        let record = self.lanes.entry(lane.clone()).or_default();
        assert!(record.sent.iter().all(|(sent, _)| sent != text), "texts must differ: {text:?} on {lane}");
        record.sent.push((text.to_owned(), false));
    }

    /// The sender was told that it is accepted.
    pub fn accepted(&mut self, lane: &Lane, text: &str) {
        let record = self.lanes.entry(lane.clone()).or_default();
        let sent = record.sent.iter_mut().rev().find(|(sent, _)| sent == text);
        let sent = sent.unwrap_or_else(|| panic!("{text:?} was accepted on {lane} but not recorded as sent"));
        sent.1 = true;
    }

    /// The receiver showed this.
    pub fn shown(&mut self, lane: &Lane, text: &str) {
        self.lanes.entry(lane.clone()).or_default().shown.push(text.to_owned());
    }

    /// Whether anything was accepted on this lane.
    #[must_use]
    pub fn any_accepted(&self, lane: &Lane) -> bool {
        self.lanes.get(lane).is_some_and(|record| record.sent.iter().any(|(_, accepted)| *accepted))
    }

    /// Everything that is accepted and not yet shown: what to wait for before the verdict.
    #[must_use]
    pub fn missing(&self) -> Vec<(Lane, String)> {
        let mut missing = Vec::new();
        for (lane, record) in &self.lanes {
            let shown: BTreeSet<_> = record.shown.iter().collect();
            let lost = record.sent.iter().filter(|(text, accepted)| *accepted && !shown.contains(text));
            missing.extend(lost.map(|(text, _)| (lane.clone(), text.clone())));
        }
        missing
    }

    /// Whether the contract was kept.
    pub fn verdict(&self) -> Result<Figures, Broken> {
        let (mut figures, mut breaches, mut diff) = (Figures::default(), Vec::new(), String::new());
        for (lane, record) in &self.lanes {
            let found = record.breaches(lane);
            if !found.is_empty() {
                diff.push_str(&record.diff(lane));
            }
            breaches.extend(found);
            figures.sent += record.sent.len();
            figures.accepted += record.sent.iter().filter(|(_, accepted)| *accepted).count();
            figures.shown += record.shown.len();
        }
        if breaches.is_empty() { Ok(figures) } else { Err(Broken { breaches, diff }) }
    }
}

impl Record {
    fn breaches(&self, lane: &Lane) -> Vec<Breach> {
        let place: BTreeMap<&str, usize> =
            self.sent.iter().enumerate().map(|(i, (text, _))| (text.as_str(), i)).collect();
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for text in &self.shown {
            *times.entry(text).or_default() += 1;
        }
        let mut found = Vec::new();
        for (text, accepted) in &self.sent {
            if *accepted && !times.contains_key(text.as_str()) {
                found.push(Breach::Lost { lane: lane.clone(), text: text.clone() });
            }
        }
        for (text, times) in &times {
            if !place.contains_key(text) {
                found.push(Breach::Ghost { lane: lane.clone(), text: (*text).to_owned() });
            } else if *times > 1 {
                found.push(Breach::Twice { lane: lane.clone(), text: (*text).to_owned(), times: *times });
            }
        }
        // First showings only: a repetition is I2 and not also I3.
        let mut seen = BTreeSet::new();
        let mut highest: Option<(usize, &str)> = None;
        for text in self.shown.iter().filter(|text| seen.insert(text.as_str())) {
            let Some(at) = place.get(text.as_str()).copied() else { continue };
            match highest {
                Some((high, earlier)) if at < high => {
                    found.push(Breach::Order { lane: lane.clone(), earlier: earlier.to_owned(), later: text.clone() })
                }
                _ => highest = Some((at, text)),
            }
        }
        found
    }

    /// Sent beside shown, three lines around the first difference.
    fn diff(&self, lane: &Lane) -> String {
        use std::fmt::Write as _;
        let expected: Vec<_> = self.sent.iter().collect();
        let differs = |i: usize| expected.get(i).map(|(text, _)| text) != self.shown.get(i);
        let rows = expected.len().max(self.shown.len());
        let first = (0..rows).find(|i| differs(*i)).unwrap_or(0);
        let mut out = format!("{lane}\n      {:<40} shown\n", "sent (✓ accepted)");
        for row in first.saturating_sub(3)..rows.min(first + 8) {
            let sent = expected.get(row).map_or(String::new(), |(text, accepted)| {
                format!("{} {}", if *accepted { "✓" } else { "?" }, shorten(text))
            });
            let shown = self.shown.get(row).map(|text| shorten(text)).unwrap_or_default();
            let mark = if differs(row) { "≠" } else { " " };
            let _ = writeln!(out, "{row:>4}{mark} {sent:<40} {shown}");
        }
        out
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(36).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> Lane {
        Lane::new("alice", "business")
    }

    /// a, b, c are sent; those in `accepted` are told to be; `shown` is what the receiver showed.
    fn history(accepted: &[&str], shown: &[&str]) -> History {
        let mut history = History::default();
        for text in ["a", "b", "c"] {
            history.sends(&lane(), text);
        }
        accepted.iter().for_each(|text| history.accepted(&lane(), text));
        shown.iter().for_each(|text| history.shown(&lane(), text));
        history
    }

    fn breaches(history: &History) -> Vec<Breach> {
        history.verdict().map_or_else(|broken| broken.breaches, |_| Vec::new())
    }

    #[test]
    fn what_keeps_the_contract_passes_in_figures() {
        let all = Figures { sent: 3, accepted: 3, shown: 3 };
        assert_eq!(history(&["a", "b", "c"], &["a", "b", "c"]).verdict(), Ok(all));
        // Sent without an answer: shown in its place, or not at all.
        assert!(history(&["a", "c"], &["a", "b", "c"]).verdict().is_ok());
        assert!(history(&["a", "c"], &["a", "c"]).verdict().is_ok());
    }

    #[test]
    fn i1_an_accepted_message_that_is_never_shown_is_a_breach() {
        let history = history(&["a", "b", "c"], &["a", "c"]);
        assert_eq!(breaches(&history), [Breach::Lost { lane: lane(), text: "b".into() }]);
        assert_eq!(history.missing(), [(lane(), "b".to_owned())]);
    }

    #[test]
    fn i2_a_message_shown_twice_is_a_breach() {
        let twice = history(&["a", "b", "c"], &["a", "b", "b", "c"]);
        assert_eq!(breaches(&twice), [Breach::Twice { lane: lane(), text: "b".into(), times: 2 }]);
        let much_later = history(&["a", "b", "c"], &["a", "b", "c", "a"]);
        assert_eq!(breaches(&much_later), [Breach::Twice { lane: lane(), text: "a".into(), times: 2 }]);
    }

    #[test]
    fn i3_two_messages_of_one_sender_shown_the_wrong_way_round_are_a_breach() {
        let order = history(&["a", "b", "c"], &["a", "c", "b"]);
        assert_eq!(breaches(&order), [Breach::Order { lane: lane(), earlier: "c".into(), later: "b".into() }]);
        // Also where the late one was never accepted.
        assert_eq!(breaches(&history(&["b", "c"], &["b", "a", "c"])).len(), 1);
    }

    #[test]
    fn i4_what_was_not_sent_or_was_sent_to_someone_else_is_a_breach() {
        let ghost = history(&[], &["a", "d"]);
        assert_eq!(breaches(&ghost), [Breach::Ghost { lane: lane(), text: "d".into() }]);
        let mut crossed = history(&["a"], &["a"]);
        let other = Lane::new("bob", "business");
        crossed.shown(&other, "a");
        assert_eq!(breaches(&crossed), [Breach::Ghost { lane: other, text: "a".into() }]);
    }

    #[test]
    fn a_broken_history_is_shown_side_by_side() {
        let broken = history(&["a", "b", "c"], &["a", "c"]).verdict().unwrap_err().to_string();
        assert!(broken.contains("I1 lost     alice → business: \"b\""), "{broken}");
        assert!(broken.contains("1≠ ✓ b"), "{broken}");
    }

    mod any {
        use super::*;
        use proptest::prelude::*;

        proptest! {
            /// Taking one accepted message away, repeating one, or swapping two is always found, wherever it is.
            #[test]
            fn every_single_fault_is_found(len in 3usize..40, at in 0usize..38, kind in 0u8..3) {
                let at = at % (len - 1);
                let texts: Vec<String> = (0..len).map(|i| format!("m{i}")).collect();
                let mut history = History::default();
                for text in &texts {
                    history.sends(&lane(), text);
                    history.accepted(&lane(), text);
                }
                let mut shown = texts.clone();
                match kind {
                    0 => { shown.remove(at); }
                    1 => { let again = shown[at].clone(); shown.push(again); }
                    _ => shown.swap(at, at + 1),
                }
                shown.iter().for_each(|text| history.shown(&lane(), text));
                let found = breaches(&history);
                prop_assert_eq!(found.len(), 1);
                let right = match kind {
                    0 => matches!(found[0], Breach::Lost { .. }),
                    1 => matches!(found[0], Breach::Twice { .. }),
                    _ => matches!(found[0], Breach::Order { .. }),
                };
                prop_assert!(right, "{:?}", found);
            }
        }
    }
}
