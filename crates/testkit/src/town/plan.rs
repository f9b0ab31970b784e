//! What happens in a round, drawn from its seed before it begins.

use std::time::Duration;

use crate::chance::Chance;

/// Who can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Menu {
    /// Nobody.
    Nothing,
    /// Relay, gateway, terminals.
    Everything,
    /// Gateway and terminals.
    EndpointsOnly,
}

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The relay.
    Relay,
    /// The gateway.
    Gateway,
    /// A person's terminal.
    Terminal(usize),
}

/// One kill -9.
#[derive(Debug, Clone)]
pub struct Kill {
    /// Who.
    pub target: Target,
    /// After so many messages of the round have been begun …
    pub after: usize,
    /// … and so much longer: the moment itself.
    pub then: Duration,
    /// How long it stays away.
    pub away: Duration,
}

/// What one person's side and the API's side of the conversation do.
#[derive(Debug, Clone, Default)]
pub struct Talk {
    /// Lines written at once, then waited for.
    pub bursts: Vec<usize>,
    /// Messages of the API.
    pub answers: usize,
    /// How long the terminal stays away after a kill.
    pub away: Duration,
    /// At the round's end: the terminal is ended by the end of its input, and must deliver everything. Otherwise by kill -9.
    pub ends_in_order: bool,
}

/// A round.
#[derive(Debug, Clone)]
pub struct Round {
    /// How many of the people go.
    pub leave: usize,
    /// How many come for the first time.
    pub come: usize,
    /// Per person, those who come included.
    pub talks: Vec<Talk>,
    /// In the order of their moments.
    pub kills: Vec<Kill>,
}

/// At most so many people talk at once.
const CROWD: usize = 3;

impl Round {
    /// A round among `people` who are there already.
    #[must_use]
    pub fn of(chance: &mut Chance, people: usize, menu: Menu) -> Self {
        // Whoever ends in order waits until everything is delivered: where messages are lost that is for ever.
        let in_order = menu != Menu::EndpointsOnly;
        let (leave, come) = match people {
            0 => (0, 2),
            CROWD => (usize::from(in_order && chance.once_in(3)), 0),
            _ => (0, usize::from(chance.once_in(2))),
        };
        let talk = |chance: &mut Chance| {
            let talk = Self::talk(chance);
            Talk { ends_in_order: in_order && talk.ends_in_order, ..talk }
        };
        let talks: Vec<_> = (0..people - leave + come).map(|_| talk(chance)).collect();
        let messages: usize = talks.iter().map(|talk| talk.answers + talk.bursts.iter().sum::<usize>()).sum();
        let kills = if menu == Menu::Nothing { 0 } else { 1 + chance.below(3) };
        let mut kills: Vec<_> = (0..kills).map(|_| Self::kill(chance, messages, talks.len(), menu)).collect();
        kills.sort_by_key(|kill| kill.after);
        Self { leave, come, talks, kills }
    }

    fn talk(chance: &mut Chance) -> Talk {
        let bursts = (0..=chance.below(3)).map(|_| 1 + chance.below(4) as usize).collect();
        Talk {
            bursts,
            answers: 2 + chance.below(6) as usize,
            away: Duration::from_millis(if chance.once_in(2) { 0 } else { chance.below(200) }),
            ends_in_order: chance.once_in(8),
        }
    }

    fn kill(chance: &mut Chance, messages: usize, people: usize, menu: Menu) -> Kill {
        let target = match (chance.below(3), menu) {
            (0, Menu::Everything) => Target::Relay,
            (1, _) => Target::Gateway,
            _ => Target::Terminal(chance.below(people as u64) as usize),
        };
        Kill {
            target,
            after: chance.below(messages as u64 + 1) as usize,
            then: Duration::from_micros(chance.below(20_000)),
            away: Duration::from_millis(if chance.once_in(2) { 0 } else { chance.below(100) }),
        }
    }

    /// For results and failures.
    #[must_use]
    pub fn kills_in_words(&self) -> Vec<String> {
        let words = |kill: &Kill| {
            let who = match kill.target {
                Target::Relay => "relay".to_owned(),
                Target::Gateway => "gateway".to_owned(),
                Target::Terminal(person) => format!("terminal {person}"),
            };
            format!("{who} after {} + {} µs", kill.after, kill.then.as_micros())
        };
        self.kills.iter().map(words).collect()
    }

    /// How many kills of relay, gateway, terminals.
    #[must_use]
    pub fn kills_by_kind(&self) -> [usize; 3] {
        let count = |of: fn(&Target) -> bool| self.kills.iter().filter(|kill| of(&kill.target)).count();
        [count(|t| *t == Target::Relay), count(|t| *t == Target::Gateway), count(|t| matches!(t, Target::Terminal(_)))]
    }
}
