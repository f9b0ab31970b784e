//! The verdict over a run: what endpoints hold at its end, against what is known to have been said.
//!
//! # What may be missing
//!
//! Whatever an endpoint says was accepted must be shown by the other side, except, and this is all of it ([`Excused`]):
//!
//! - the relay threw an envelope with this message away after `Accepted`, or its time was over, or its disk went back to before it (threat model:
//!   a relay can deny service; durability: expiry, one disk). Its sender then has no receipt, and after 31 days is told;
//! - the speaker's own folder went back to before it was said: nobody has it any more.
//!
//! Whatever *failed* at its sender was told to him, with a reason that the world checks when it happens.
//!
//! # What may stand out of order
//!
//! A message about whose order the relay lied; one of which it threw an envelope away; and one that its listener had lost with a folder that went
//! back, and that was said again: if the statement of what was lost had to be made twice, later messages may have been shown before.
//! All others keep their order.

use std::collections::{BTreeMap, BTreeSet};

use bulla_client::engine::Ctx;
use bulla_client::engine::record::SpareRecord;
use bulla_client::event::{Direction, Message, Shown, Status};
use bulla_client::store::Table;
use bulla_e2ee::continues::Reason;
use bulla_e2ee::seals::Ledger;

use super::CANARY;
use super::relay::DAY_MS;
use super::world::{BUSINESS, Line, World};
use crate::canary::{Canary, Scanner};
use crate::history::{History, Lane};

/// A spare's secrets are erased an hour after its first use, and its endpoint looks every ten minutes.
const SPENT_MS: u64 = 4_300_000;

/// Messages that need not be shown, and messages that need not keep their place.
struct Excused {
    /// Ids of messages of which the relay lost an envelope.
    lost: BTreeSet<[u8; 32]>,
    /// Ids of messages whose place means nothing.
    anywhere: BTreeSet<[u8; 32]>,
}

impl Excused {
    fn of(world: &World) -> Self {
        let ledger = &world.ledger;
        let expired = world.relay.expired.iter().map(|(key, _)| key);
        let gone = expired.chain(&world.relay.lost).map(|(_, id)| id.to_vec()).chain(ledger.thrown.iter().cloned());
        let lost: BTreeSet<_> = gone.filter_map(|id| ledger.loads.get(&id)?.message).collect();
        let lied = world.malice.lied_about().iter().filter_map(|envelope| ledger.envelopes.get(envelope)?.message);
        let anywhere = lied.chain(lost.iter().copied()).collect();
        Self { lost, anywhere }
    }
}

/// Judges; what is wrong is added to the world's breaches.
pub(super) fn check(world: &mut World) {
    if !world.breaches.is_empty() {
        return;
    }
    let mut breaches = retention(world);
    breaches.extend(sealed_twice(world));
    breaches.extend(forks(world));
    breaches.extend(spent_spares(world));
    breaches.extend(secrecy(world));
    let excused = Excused::of(world);
    for customer in 1..world.people.len() {
        breaches.extend(agreement(world, customer));
        for (from, to) in [(customer, BUSINESS), (BUSINESS, customer)] {
            breaches.extend(lane(world, from, to, &excused));
        }
    }
    world.breaches.extend(breaches);
}

/// I5, at the model relay.
fn retention(world: &World) -> Vec<String> {
    let mut breaches = Vec::new();
    for (_, age_ms) in world.relay.expired.iter().filter(|(_, age)| *age < 30 * DAY_MS) {
        breaches.push(format!("I5 early: an envelope went after {} h", age_ms / 3_600_000));
    }
    let oldest = world.relay.oldest(world.now_ms);
    if oldest > 31 * DAY_MS {
        breaches.push(format!("I5 late: an envelope is {} h old", oldest / 3_600_000));
    }
    breaches
}

/// I6.
fn secrecy(world: &World) -> Vec<String> {
    let scan = Scanner::new([&Canary::of(CANARY)]).bytes("the relay", &world.relay.seen);
    scan.must_be_clean("I6 plaintext at the relay").err().map(|e| e.to_string()).into_iter().collect()
}

/// I9: over all endpoints and all copies of them. The hashes of different runs differ in nothing; a run's own scene counts.
fn sealed_twice(world: &World) -> Vec<String> {
    let mut ledger = Ledger::default();
    ledger.add(world.ledger.seals.iter().copied());
    world.nodes.iter().for_each(|node| ledger.add(node.seals.iter().copied()));
    let mut by = ledger.twice().to_vec();
    by.dedup();
    by.iter().map(|by| format!("I9 sealed twice under one key: {by:?}")).collect()
}

/// I10: with a relay that tells the truth, without copies of folders and where nobody was away for a month, nobody ever stands on two branches.
fn forks(world: &World) -> Vec<String> {
    let nobody_forked =
        world.malice.is_honest() && world.figures.copies == 0 && !world.ledger.denied && world.relay.expired.is_empty();
    let forks = world.ledger.began.iter().filter(|reason| **reason == Reason::Fork).count();
    if forks == 0 || !nobody_forked {
        return Vec::new();
    }
    vec![format!("I10 fork: {forks} groups began again for one that nobody made")]
}

/// I11.
fn spent_spares(world: &mut World) -> Vec<String> {
    let latest = world.now_ms.saturating_sub(SPENT_MS);
    let mut breaches = Vec::new();
    for person in 0..world.people.len() {
        let node = world.people[person].active;
        let spares = |ctx: &mut Ctx<'_, '_>| ctx.tx.scan_prefix::<SpareRecord>(Table::Spares, b"").unwrap_or_default();
        let spares = world.nodes[node].look(world.now_ms, |_, ctx| spares(ctx)).unwrap_or_default();
        let spent = spares.iter().filter(|(_, spare)| spare.used_ms.is_some_and(|used| used < latest)).count();
        if spent > 0 {
            breaches.push(format!("I11 kept: {} has the secrets of {spent} spent spares", world.nodes[node].name));
        }
    }
    breaches
}

/// I7.
fn agreement(world: &mut World, customer: usize) -> Vec<String> {
    let mut epoch = |from: usize, to: usize| {
        let (node, now) = (world.people[from].active, world.now_ms);
        let conversation = world.conversation(from, to)?;
        world.nodes[node].look(now, |engine, ctx| engine.epoch(ctx, conversation.0).ok())?
    };
    let (theirs, ours) = (epoch(customer, BUSINESS), epoch(BUSINESS, customer));
    if theirs.is_some() && theirs == ours {
        return Vec::new();
    }
    let epochs = [theirs, ours].map(|e| e.map(|(number, _)| number));
    vec![format!("I7 fork: {} and the business are in epochs {epochs:?}", world.people[customer].name)]
}

/// I1 to I4 and I8 on one direction of one conversation.
fn lane(world: &mut World, from: usize, to: usize, excused: &Excused) -> Vec<String> {
    let mut breaches = Vec::new();
    let name = Lane::new(&world.people[from].name, &world.people[to].name);
    let said = world.ledger.said.get(&(from, to)).cloned().unwrap_or_default();
    let (Some(sent), Some(shown)) =
        (messages(world, from, to, Direction::Outgoing), messages(world, to, from, Direction::Incoming))
    else {
        return vec![format!("I8 {name}: one of them has no conversation")];
    };
    let status: BTreeMap<&str, Status> = sent.iter().map(|(text, m)| (text.as_str(), m.status)).collect();
    let times = |text: &str| shown.iter().filter(|(t, _)| t == text).count();
    let is_in = |set: &BTreeSet<[u8; 32]>, id: &Option<[u8; 32]>| id.is_some_and(|id| set.contains(&id));
    let went_back = world.ledger.went_back.clone();
    let lost_there = |line: &Line| {
        let lost = |(who, had, at_ms): &(usize, BTreeSet<[u8; 32]>, u64)| {
            *who == to && line.at_ms <= *at_ms && !line.id.is_some_and(|id| had.contains(&id))
        };
        went_back.iter().any(lost)
    };
    let is_anywhere = |line: &Line| is_in(&excused.anywhere, &line.id) || lost_there(line);
    let mut history = History::default();
    for line in &said {
        let times = times(&line.text);
        if times <= 1 && is_anywhere(line) {
            let accepted =
                matches!(status.get(line.text.as_str()), Some(Status::Sent | Status::Delivered | Status::Read));
            if times == 0 && accepted && !is_in(&excused.lost, &line.id) {
                breaches.push(format!("I1 lost     {name}: {} was accepted and never shown", line.text));
            }
            world.figures.missing += u64::from(times == 0);
            continue;
        }
        history.sends(&name, &line.text);
        match status.get(line.text.as_str()) {
            Some(Status::Sent | Status::Delivered | Status::Read) => history.accepted(&name, &line.text),
            Some(Status::Queued) => breaches.push(format!("I8 {name}: {} still waits", line.text)),
            // Failed, which its sender was told; or its sender's folder went back to before it.
            _ => world.figures.missing += u64::from(times == 0),
        }
    }
    for (text, m) in &shown {
        let line = said.iter().find(|line| line.text == *text);
        if line.is_some_and(|line| line.id.is_some_and(|id| id != *m.id.as_bytes())) {
            breaches.push(format!("I4 ghost    {name}: {text} has another id"));
        }
        if times(text) <= 1 && line.is_some_and(&is_anywhere) {
            continue;
        }
        history.shown(&name, text);
    }
    world.figures.shown += shown.len() as u64;
    if let Err(broken) = history.verdict() {
        breaches.extend(broken.breaches.iter().map(ToString::to_string));
        breaches.push(broken.diff);
    }
    // The last thing said in the quiet was said to an honest relay between endpoints that run.
    let last = said.last().map(|line| (line.text.as_str(), status.get(line.text.as_str())));
    let heard = match last {
        Some((_, Some(Status::Delivered | Status::Read))) => true,
        // Where the relay had refused a good permit or forgotten a mailbox, the right to write receipts may be gone.
        Some((text, Some(Status::Sent))) => world.ledger.denied && times(text) == 1,
        _ => false,
    };
    if !heard {
        breaches.push(format!("I8 {name}: after five round trips {last:?}"));
    }
    breaches
}

/// What an endpoint holds of a conversation, in its order.
fn messages(world: &mut World, of: usize, with: usize, direction: Direction) -> Option<Vec<(String, Message)>> {
    let (node, now) = (world.people[of].active, world.now_ms);
    let conversation = world.conversation(of, with)?;
    let all = world.nodes[node].look(now, |engine, ctx| engine.messages(ctx, conversation, None, 10_000).ok())??;
    let text = |m: &Message| match &m.shown {
        Shown::Text(text) => text.clone(),
        other => format!("{other:?}"),
    };
    Some(all.into_iter().filter(|m| m.direction == direction).map(|m| (text(&m), m)).collect())
}
