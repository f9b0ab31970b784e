//! A relay that misbehaves at random, by a seed.
//!
//! What it hands to an endpoint beyond the real envelopes, it numbers as the relay would: a subscription's numbers count from 1 without a
//! gap, and acknowledgements are translated back, so that the real relay believes what is true. Lies that an endpoint notices at once (a
//! number that skips, numbers the wrong way round) are followed by a cut, as every connection ends some day: until then the endpoint must
//! take nothing out of its order, afterwards it must get everything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bulla_protocol::frame::{Deliver, client_frame::Body as Ask, server_frame::Body as Answer};
use bytes::Bytes;
use rand_core::RngCore as _;

use crate::chance::Chance;
use crate::proxy::Meddler;

/// What a [`Hostile`] relay has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deeds {
    /// Connections cut at a random frame.
    pub cuts: u64,
    /// Envelopes swallowed; what follows them on that connection has a number that skips.
    pub drops: u64,
    /// Frames said twice, with the same number.
    pub repeats: u64,
    /// The same envelope delivered a second time, under a number of its own.
    pub copies: u64,
    /// Envelopes of long ago, of any mailbox, delivered again under a number of their own.
    pub replays: u64,
    /// Envelopes with a bit turned in envelope, tag or class, before the right one.
    pub edits: u64,
    /// Two deliveries the wrong way round, with their own numbers.
    pub swaps: u64,
    /// Two envelopes the wrong way round, each under the other's number: the lie that no number shows.
    pub lies: u64,
    /// Answers `Accepted` that were swallowed: the sender must ask again.
    pub withheld: u64,
    /// Requests said twice to the relay.
    pub asked_twice: u64,
}

impl Deeds {
    /// All of them.
    #[must_use]
    pub fn in_all(&self) -> u64 {
        self.each().iter().map(|(_, times)| times).sum()
    }

    /// Each by name.
    #[must_use]
    pub fn each(&self) -> [(&'static str, u64); 10] {
        [
            ("cuts", self.cuts),
            ("drops", self.drops),
            ("repeats", self.repeats),
            ("copies", self.copies),
            ("replays", self.replays),
            ("edits", self.edits),
            ("swaps", self.swaps),
            ("lies", self.lies),
            ("withheld answers", self.withheld),
            ("requests twice", self.asked_twice),
        ]
    }

    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.cuts += other.cuts;
        self.drops += other.drops;
        self.repeats += other.repeats;
        self.copies += other.copies;
        self.replays += other.replays;
        self.edits += other.edits;
        self.swaps += other.swaps;
        self.lies += other.lies;
        self.withheld += other.withheld;
        self.asked_twice += other.asked_twice;
    }
}

impl fmt::Display for Deeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done: Vec<_> = self.each().iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("{n} {what}")).collect();
        f.write_str(&done.join(", "))
    }
}

/// Whether it changes the order of what it hands over under honest numbers, which the numbers cannot show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// It keeps the order.
    Kept,
    /// It lies about it.
    LiedAbout,
}

/// The numbers of one subscription, as the endpoint counts: for each, up to which of the relay's own an acknowledgement of it reaches.
#[derive(Debug, Default)]
struct Numbers(Vec<u64>);

impl Numbers {
    /// The next number for the endpoint; acknowledging it acknowledges `through` at the relay.
    fn next(&mut self, through: u64) -> u64 {
        self.0.push(through);
        self.0.len() as u64
    }

    fn acknowledged(&self, number: u64) -> u64 {
        let at = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        at.and_then(|at| self.0.get(at)).copied().unwrap_or(0)
    }
}

/// A delivery that is held back: what follows decides how it comes.
#[derive(Debug)]
struct Held {
    deliver: Deliver,
    /// Its number is taken already.
    swap: bool,
    /// Looks that are left before it comes after all.
    looks: u64,
}

/// The meddler.
#[derive(Debug)]
pub struct Hostile {
    chance: Chance,
    /// One frame in so many is meddled with; 0: none.
    one_in: u64,
    order: Order,
    /// Everything delivered so far, to be replayed to anybody.
    seen: Vec<Deliver>,
    numbers: BTreeMap<(u64, u64), Numbers>,
    held: BTreeMap<u64, Held>,
    /// Connections on which something is missing, with the looks that are left before they are cut.
    missing: BTreeMap<u64, u64>,
    cut: BTreeSet<u64>,
    /// Envelopes about whose order it lied.
    lied_about: Vec<Bytes>,
    /// What it has done.
    pub deeds: Deeds,
}

impl Hostile {
    /// By a seed; one frame in `one_in` is meddled with.
    #[must_use]
    pub fn new(seed: u64, one_in: u64, order: Order) -> Self {
        Self {
            chance: Chance::new(seed),
            one_in,
            order,
            seen: Vec::new(),
            numbers: BTreeMap::new(),
            held: BTreeMap::new(),
            missing: BTreeMap::new(),
            cut: BTreeSet::new(),
            lied_about: Vec::new(),
            deeds: Deeds::default(),
        }
    }

    /// Envelopes that it handed over under honest numbers and not in their place (swapped, or replayed): nothing shows their order.
    #[must_use]
    pub fn lied_about(&self) -> &[Bytes] {
        &self.lied_about
    }

    /// Whether it holds something back on a connection, or is about to cut it: it wants to be asked [`Meddler::later`].
    #[must_use]
    pub fn waits(&self, connection: u64) -> bool {
        self.held.contains_key(&connection) || self.missing.contains_key(&connection) || self.cut.contains(&connection)
    }

    /// Does no more harm from now on: what is missing comes, because the connections on which it is missing are cut.
    pub fn calms_down(&mut self) {
        self.one_in = 0;
    }

    /// Misbehaves again.
    pub fn rages(&mut self, one_in: u64) {
        self.one_in = one_in;
    }

    fn meddles(&mut self) -> bool {
        self.one_in > 0 && self.chance.once_in(self.one_in)
    }

    fn number(&mut self, connection: u64, subscription: u64, through: u64) -> u64 {
        self.numbers.entry((connection, subscription)).or_default().next(through)
    }

    /// Under the next number.
    fn hand_over(&mut self, connection: u64, deliver: Deliver) -> Answer {
        let number = self.number(connection, deliver.subscription, deliver.number);
        Answer::Deliver(Deliver { number, ..deliver })
    }

    /// Something that the relay did not deliver here, before what it delivers now.
    fn slip_in(&mut self, connection: u64, before: &Deliver, what: Deliver) -> Answer {
        let (subscription, through) = (before.subscription, before.number - 1);
        let number = self.number(connection, subscription, through);
        Answer::Deliver(Deliver { subscription, number, ..what })
    }

    /// Something is missing on this connection: it ends after a while.
    fn is_missing(&mut self, connection: u64) {
        let looks = self.chance.below(10);
        self.missing.entry(connection).or_insert(looks);
    }

    fn with_a_bit_turned(&mut self, deliver: &Deliver) -> Deliver {
        let mut edited = deliver.clone();
        match self.chance.below(8) {
            0 => edited.class = if edited.class == 1 { 2 } else { 1 },
            n => {
                let mut bytes = if n == 1 { edited.tag.clone() } else { edited.envelope.to_vec() };
                let at = self.chance.next_u64() as usize % bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.chance.below(8);
                }
                if n == 1 {
                    edited.tag = bytes;
                } else {
                    edited.envelope = bytes.into();
                }
            }
        }
        edited
    }

    /// A delivery while another one is held back.
    fn after_held(&mut self, connection: u64, held: Held, deliver: Deliver) -> Vec<Answer> {
        if held.swap {
            // The later one first, each with the number that it has: the endpoint takes the earlier one only.
            self.deeds.swaps += 1;
            self.is_missing(connection);
            let later = self.hand_over(connection, deliver);
            vec![later, Answer::Deliver(held.deliver)]
        } else if held.deliver.subscription == deliver.subscription {
            self.deeds.lies += 1;
            self.lied_about.extend([held.deliver.envelope.clone(), deliver.envelope.clone()]);
            let (subscription, first, second) = (deliver.subscription, held.deliver.number, deliver.number);
            let number = self.number(connection, subscription, first - 1);
            let later = Answer::Deliver(Deliver { number, ..deliver });
            let number = self.number(connection, subscription, second);
            vec![later, Answer::Deliver(Deliver { number, ..held.deliver })]
        } else {
            let (first, second) = (self.hand_over(connection, held.deliver), self.hand_over(connection, deliver));
            vec![first, second]
        }
    }

    fn deliver(&mut self, connection: u64, deliver: Deliver) -> Vec<Answer> {
        if let Some(held) = self.held.remove(&connection) {
            return self.after_held(connection, held, deliver);
        }
        let meddles = self.meddles();
        if !meddles {
            self.seen.push(deliver.clone());
            return vec![self.hand_over(connection, deliver)];
        }
        // Two that follow each other closely are rare; who wants to lie about them has to try often.
        let lies = self.order == Order::LiedAbout && self.chance.once_in(2);
        match if lies { 4 } else { self.chance.below(7) } {
            0 => {
                self.deeds.drops += 1;
                // Its number is used up, and its place among the acknowledged is not.
                self.number(connection, deliver.subscription, deliver.number - 1);
                self.is_missing(connection);
                Vec::new()
            }
            1 => {
                self.deeds.repeats += 1;
                let answer = self.hand_over(connection, deliver);
                vec![answer.clone(), answer]
            }
            2 => {
                self.deeds.copies += 1;
                let copy = self.slip_in(connection, &deliver, deliver.clone());
                vec![copy, self.hand_over(connection, deliver)]
            }
            3 if !self.seen.is_empty() => {
                self.deeds.replays += 1;
                let old = self.chance.choose(&self.seen).clone();
                // Its reader may not have taken it yet: then it overtakes others.
                self.lied_about.push(old.envelope.clone());
                let old = self.slip_in(connection, &deliver, old);
                vec![old, self.hand_over(connection, deliver)]
            }
            4 => {
                let swap = self.order == Order::Kept;
                let mut deliver = deliver;
                if swap {
                    deliver.number = self.number(connection, deliver.subscription, deliver.number);
                }
                self.held.insert(connection, Held { deliver, swap, looks: 5 });
                Vec::new()
            }
            5 => {
                self.deeds.cuts += 1;
                self.cut.insert(connection);
                vec![self.hand_over(connection, deliver)]
            }
            _ => {
                self.deeds.edits += 1;
                let edited = self.with_a_bit_turned(&deliver);
                let edited = self.slip_in(connection, &deliver, edited);
                vec![edited, self.hand_over(connection, deliver)]
            }
        }
    }
}

impl Meddler for Hostile {
    fn to_relay(&mut self, connection: u64, request: u64, ask: Ask) -> Vec<(u64, Ask)> {
        match ask {
            Ask::Ack(mut ack) => {
                ack.through =
                    self.numbers.get(&(connection, ack.subscription)).map_or(0, |n| n.acknowledged(ack.through));
                if ack.through == 0 { Vec::new() } else { vec![(request, Ask::Ack(ack))] }
            }
            Ask::Send(send) if self.meddles() => {
                if !self.chance.once_in(4) {
                    self.deeds.asked_twice += 1;
                    vec![(request, Ask::Send(send.clone())), (request, Ask::Send(send))]
                } else {
                    // The relay may have it or not; the sender is not told.
                    self.deeds.cuts += 1;
                    self.cut.insert(connection);
                    vec![(request, Ask::Send(send))]
                }
            }
            ask => vec![(request, ask)],
        }
    }

    fn to_endpoint(&mut self, connection: u64, request: u64, answer: Answer) -> Vec<(u64, Answer)> {
        match answer {
            Answer::Deliver(deliver) => self.deliver(connection, deliver).into_iter().map(|a| (request, a)).collect(),
            Answer::Gap(mut gap) => {
                gap.number = self.number(connection, gap.subscription, gap.number);
                vec![(request, Answer::Gap(gap))]
            }
            // Rarer: each costs the sender a new connection.
            Answer::Accepted(_) if self.meddles() && self.chance.once_in(4) => {
                self.deeds.withheld += 1;
                self.cut.insert(connection);
                Vec::new()
            }
            answer => vec![(request, answer)],
        }
    }

    fn later(&mut self, connection: u64) -> Vec<(u64, Answer)> {
        let waits = self.held.get_mut(&connection).is_some_and(|held| {
            held.looks = held.looks.saturating_sub(1);
            held.looks > 0 && self.one_in > 0
        });
        // Nothing came after it: it comes as it would have.
        let held = if waits { None } else { self.held.remove(&connection) };
        let held = held.map(|held| match held.swap {
            true => Answer::Deliver(held.deliver),
            false => self.hand_over(connection, held.deliver),
        });
        if let Some(looks) = self.missing.get_mut(&connection) {
            *looks = looks.saturating_sub(1);
        }
        held.into_iter().map(|answer| (0, answer)).collect()
    }

    fn cuts(&mut self, connection: u64) -> bool {
        let is_over = self.missing.get(&connection).is_some_and(|looks| *looks == 0);
        let cuts = self.cut.remove(&connection) || is_over;
        if cuts {
            self.missing.remove(&connection);
            self.held.remove(&connection);
        }
        cuts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulla_protocol::frame::Ack;

    fn deliver(number: u64) -> Answer {
        Answer::Deliver(Deliver { subscription: 3, number, tag: vec![7; 16], class: 1, envelope: vec![9; 64].into() })
    }

    /// What an endpoint that takes only the next number takes, and what the relay is told when it acknowledges that.
    fn through(hostile: &mut Hostile, relay_says: u64) -> (Vec<Deliver>, u64) {
        let (mut taken, mut acknowledged) = (Vec::new(), 0);
        for number in 1..=relay_says {
            let mut answers = hostile.to_endpoint(1, 0, deliver(number));
            answers.extend((0..5).flat_map(|_| hostile.later(1)));
            for (_, answer) in answers {
                let Answer::Deliver(deliver) = answer else { panic!("{answer:?}") };
                if deliver.number == taken.len() as u64 + 1 {
                    taken.push(deliver);
                }
            }
            let ack = Ask::Ack(Ack { subscription: 3, through: taken.len() as u64 });
            match hostile.to_relay(1, 0, ack).as_slice() {
                [(0, Ask::Ack(ack))] => acknowledged = ack.through,
                [] => {}
                other => panic!("{other:?}"),
            }
        }
        (taken, acknowledged)
    }

    #[test]
    fn the_relay_hears_of_no_acknowledgement_that_was_not_meant() {
        let right = deliver(1);
        for seed in 0..200 {
            let mut hostile = Hostile::new(seed, 2, Order::Kept);
            let (taken, acknowledged) = through(&mut hostile, 20);
            let mine = |d: &&Deliver| Answer::Deliver(Deliver { number: 1, ..(*d).clone() }) == right;
            let right = taken.iter().filter(mine).count() as u64;
            assert!(
                right >= acknowledged,
                "seed {seed}: {acknowledged} acknowledged, {right} taken: {}",
                hostile.deeds
            );
        }
    }

    #[test]
    fn a_calm_one_is_an_honest_one() {
        let mut hostile = Hostile::new(1, 1, Order::LiedAbout);
        hostile.calms_down();
        let (taken, acknowledged) = through(&mut hostile, 20);
        assert_eq!((taken.len(), acknowledged, hostile.deeds), (20, 20, Deeds::default()));
        assert!(!hostile.cuts(1));
    }
}
