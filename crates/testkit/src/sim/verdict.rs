//! The verdict over a run: what endpoints hold at its end, against what is known to have been said.
//!
//! # Who has to have what
//!
//! A conversation has several endpoints: the business's and the customer's devices. Each of them is a listener of its own, and has to show what
//! each of the others said, except
//!
//! - what was said when its speaker did not have it in the group: it came in later, or a new group had begun without it and it had not been
//!   added again;
//! - everything, if it never came in; and what was said since it was removed, or since the device that let it in went back to before that;
//! - what such a device said: it may not have heard of it yet.
//!
//! Nothing that is said by who knows of its removal may be shown on a removed device.
//!
//! And except for a device that *stays behind*: the group is of a suite that its program does not speak. A group moves only where all in it can
//! follow, but a business that went back does not know of a device that was let in since, and a conversation never goes back to a worse suite
//! (docs/protocol.md §9.8). Until its program is newer nothing is owed to or by such a device.
//!
//! # What may be missing
//!
//! Whatever an endpoint says was accepted must be shown by those listeners, except, and this is all of it ([`Excused`]):
//!
//! - the relay threw an envelope with this message to this listener away after `Accepted`, or its time was over, or its disk went back to before
//!   it (threat model: a relay can deny service; durability: expiry, one disk). Its sender then has no receipt, and after 31 days is told. So
//!   too where the relay handed over later ones first: the keys of an epoch go once everybody was heard in the next;
//! - it could not be sent to this listener, one of several, for as long as the relay would have kept it;
//! - the speaker's own folder went back to before it was said: nobody has it any more.
//!
//! Whatever *failed* at its sender was told to him, with a reason that the world checks when it happens; some devices may have it all the same.
//!
//! # What may stand out of order
//!
//! A message that had failed, and came all the same; one about whose order the relay lied; one of which it threw an envelope away; and one that its listener had lost with a folder that went
//! back, and that was said again: if the statement of what was lost had to be made twice, later messages may have been shown before. And one that
//! its listener need not have: where others had lost it, and it is said again, that listener gets it too, if late.
//! All others keep the order in which a folder has them. Two folders of one device, of which neither has what was said out of the other, have no
//! common order: what still waits in a folder that lay in a drawer comes when that folder is used again.

use std::collections::BTreeSet;

use bulla_client::engine::Ctx;
use bulla_client::engine::record::SpareRecord;
use bulla_client::event::Status;
use bulla_client::store::Table;
use bulla_e2ee::continues::Reason;
use bulla_e2ee::seals::Ledger;
use bulla_e2ee::suite::{Suite, Suites};
use bulla_protocol::id::MailboxId;

use super::CANARY;
use super::node::Kept;
use super::relay::DAY_MS;
use super::world::{BUSINESS, Line, Standing, World};
use crate::canary::{Canary, Scanner};
use crate::history::{History, Lane};

/// A spare's secrets are erased an hour after its first use, and its endpoint looks every ten minutes.
const SPENT_MS: u64 = 4_300_000;

/// A message on its way to a mailbox.
type Passage = ([u8; 32], MailboxId);

/// Messages that need not be shown, and messages that need not keep their place.
struct Excused {
    /// Of those the relay lost an envelope.
    lost: BTreeSet<Passage>,
    /// Their place means nothing.
    anywhere: BTreeSet<Passage>,
}

impl Excused {
    fn of(world: &World) -> Self {
        let ledger = &world.ledger;
        let passage = |load: &super::node::Load| Some((load.message?, load.to?));
        let expired = world.relay.expired.iter().map(|(key, _)| key);
        let gone = expired.chain(&world.relay.lost).map(|(_, id)| id.to_vec()).chain(ledger.thrown.iter().cloned());
        let gone = gone.filter_map(|id| passage(ledger.loads.get(&id)?));
        let lied = world.malice.lied_about().iter().filter_map(|envelope| passage(ledger.envelopes.get(envelope)?));
        let lost: BTreeSet<_> = gone.chain(lied).collect();
        Self { anywhere: lost.clone(), lost }
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
    for customer in world.customers() {
        breaches.extend(agreement(world, customer));
        breaches.extend(best_suite(world, customer));
        for listener in members(world, customer) {
            breaches.extend(hears(world, customer, listener, &excused));
        }
        for speaker in members(world, customer) {
            breaches.extend(is_answered(world, customer, speaker));
        }
        for removed in world.devices_of(customer, Standing::Gone) {
            breaches.extend(hears_nothing_more(world, customer, removed));
        }
    }
    world.breaches.extend(breaches);
}

/// Those who have to be in a customer's conversation.
fn members(world: &mut World, customer: usize) -> Vec<usize> {
    let suite = suite_at(world, BUSINESS, customer);
    let mut devices = world.devices_of(customer, Standing::In);
    devices.retain(|device| suite.is_none_or(|suite| spoken_by(world, *device).has(suite)));
    [vec![BUSINESS], devices].concat()
}

/// What a device's program speaks. What runs counts: a copy of a folder may have been updated that is not the one that goes on.
fn spoken_by(world: &World, device: usize) -> Suites {
    world.nodes[world.devices[device].active].suites
}

/// In which suite an endpoint has a customer's conversation.
fn suite_at(world: &mut World, device: usize, customer: usize) -> Option<Suite> {
    let (node, now) = (world.devices[device].active, world.now_ms);
    let conversation = world.conversation(device, customer)?;
    world.nodes[node].look(now, |engine, ctx| engine.suite(ctx, conversation.0).ok())?
}

/// I5, at the model relay.
fn retention(world: &mut World) -> Vec<String> {
    let mut breaches = Vec::new();
    world.relay.expire(world.now_ms);
    for (_, age_ms) in world.relay.expired.iter().filter(|(_, age)| *age < 30 * DAY_MS) {
        breaches.push(format!("I5 early: an envelope went after {} h", age_ms / 3_600_000));
    }
    let oldest = world.relay.oldest(world.now_ms).max(world.relay.oldest_read_ms);
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
/// Of customers with one device: where several begin again at once, who hears a group before its statement may take that for a fork.
fn forks(world: &World) -> Vec<String> {
    let nobody_forked =
        world.malice.is_honest() && world.figures.copies == 0 && !world.ledger.denied && world.relay.expired.is_empty();
    let has_one = |customer: &usize| world.devices.iter().filter(|device| device.of == *customer).count() == 1;
    let began = world.ledger.began.iter().filter(|(customer, reason)| *reason == Reason::Fork && has_one(customer));
    let forks = began.count();
    if forks == 0 || !nobody_forked {
        return Vec::new();
    }
    vec![format!("I10 fork: {forks} groups began again for one that nobody made")]
}

/// I11.
fn spent_spares(world: &mut World) -> Vec<String> {
    let latest = world.now_ms.saturating_sub(SPENT_MS);
    let mut breaches = Vec::new();
    for person in 0..world.devices.len() {
        let node = world.devices[person].active;
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
pub(super) fn agreement(world: &mut World, customer: usize) -> Vec<String> {
    let all = members(world, customer);
    let epoch = |device: usize| {
        let (node, now) = (world.devices[device].active, world.now_ms);
        let conversation = world.conversation(device, customer)?;
        world.nodes[node].look(now, |engine, ctx| engine.epoch(ctx, conversation.0).ok())?
    };
    let epochs: Vec<_> = all.into_iter().map(epoch).collect();
    if epochs.first().is_some_and(|first| first.is_some() && epochs.iter().all(|e| e == first)) {
        return Vec::new();
    }
    let numbers: Vec<_> = epochs.iter().map(|e| e.map(|(number, _)| number)).collect();
    vec![format!("I7 fork: the business and {}'s devices are in epochs {numbers:?}", world.devices[customer].name)]
}

/// I12.
fn best_suite(world: &mut World, customer: usize) -> Vec<String> {
    let all = members(world, customer);
    // Who asked for a device to be removed may have been removed before that was done: then it is in the group, and leaves no spare any more.
    if world.devices_of(customer, Standing::Gone).into_iter().any(|gone| world.knows_device(customer, gone)) {
        return Vec::new();
    }
    let common = all.iter().try_fold(Suites::ALL, |common, device| common.common(spoken_by(world, *device)));
    let mut breaches = Vec::new();
    for device in all {
        let suite = suite_at(world, device, customer);
        // Who went back to a folder of before may have met those who speak less.
        if common.is_some_and(|common| suite.is_none_or(|suite| suite < common.best())) {
            let name = &world.devices[device].name;
            breaches.push(format!("I12 suite: {name} is in {suite:?}, and all speak {common:?}"));
        }
    }
    breaches
}

/// A conversation as a folder of an endpoint has it.
fn kept(world: &mut World, node: usize, customer: usize) -> Option<Vec<Kept>> {
    let device = world.nodes[node].device;
    if device != BUSINESS {
        return Some(world.nodes[node].messages(world.nodes[node].only_conversation()?.0));
    }
    // The number of a customer's conversation is the same in all folders that have it.
    let conversation = world.conversation(BUSINESS, customer)?;
    Some(world.nodes[node].messages(conversation))
}

fn was_accepted(status: Option<Status>) -> bool {
    matches!(status, Some(Status::Sent | Status::Delivered | Status::Read))
}

/// I1 to I4 at one listener of a conversation.
fn hears(world: &mut World, customer: usize, listener: usize, excused: &Excused) -> Vec<String> {
    let name = world.devices[listener].name.clone();
    let Some(shown) = kept(world, world.devices[listener].active, customer) else {
        return vec![format!("I8 {name} has no conversation with {}", world.devices[customer].name)];
    };
    let shown: Vec<Kept> = shown.into_iter().filter(|m| !m.is_own).collect();
    let lines = world.ledger.said.get(&customer).cloned().unwrap_or_default();
    let mailboxes = world.nodes[world.devices[listener].active].mailboxes();
    let now = world.now_ms;
    let is_in = |set: &BTreeSet<Passage>, line: &Line| {
        line.id.is_some_and(|id| mailboxes.iter().any(|mailbox| set.contains(&(id, *mailbox))))
    };
    let went_back = world.ledger.went_back.clone();
    // An old folder that was started without a network takes over later, and lacks what the other has acknowledged meanwhile.
    let others: Vec<usize> = (0..world.nodes.len())
        .filter(|n| world.nodes[*n].device == listener && *n != world.devices[listener].active)
        .collect();
    let elsewhere: BTreeSet<String> =
        others.into_iter().filter_map(|n| kept(world, n, customer)).flatten().map(|m| m.text).collect();
    let lost_there = |line: &Line| {
        let lost = |(who, had, at_ms): &(usize, BTreeSet<[u8; 32]>, u64)| {
            *who == listener
                && (line.at_ms <= *at_ms || elsewhere.contains(&line.text))
                && !line.id.is_some_and(|id| had.contains(&id))
        };
        went_back.iter().any(lost)
    };
    let failed = world.ledger.failed.clone();
    let has_no_place = |line: &Line| {
        is_in(&excused.anywhere, line)
            || lost_there(line)
            || !line.to.contains(&listener)
            || line.id.is_some_and(|id| failed.contains(&id))
    };
    // The relay would have dropped it by then; so does an endpoint that could not send it to one of several.
    let sent: BTreeSet<Passage> =
        world.ledger.loads.values().filter_map(|load| Some((load.message?, load.to?))).collect();
    let never_left = |line: &Line| line.at_ms + 31 * DAY_MS < now && !is_in(&sent, line);
    let mut breaches = Vec::new();
    let mut history = History::default();
    let suite = suite_at(world, BUSINESS, customer);
    let speakers: Vec<usize> = (0..world.nodes.len()).filter(|n| world.nodes[*n].device != listener).collect();
    for node in speakers {
        let said = kept(world, node, customer).unwrap_or_default();
        let speaker = world.nodes[node].device;
        let is_current = world.devices[speaker].active == node;
        let stays_behind = suite.is_some_and(|suite| !spoken_by(world, speaker).has(suite));
        let is_gone = world.devices[speaker].standing == Standing::Gone || stays_behind;
        let lane = Lane::new(&world.nodes[node].name, &name);
        for (said, line) in said.iter().filter(|m| m.is_own).filter_map(|m| Some((m, line_of(&lines, &m.text)?))) {
            let times = shown.iter().filter(|m| m.text == line.text).count();
            let has_failed = line.id.is_some_and(|id| failed.contains(&id));
            let must =
                is_current && !is_gone && !has_failed && was_accepted(Some(said.status)) && line.to.contains(&listener);
            let may_miss = !must || is_in(&excused.lost, line) || never_left(line);
            world.figures.missing += u64::from(is_current && line.to.contains(&listener) && times == 0);
            if times <= 1 && has_no_place(line) {
                if times == 0 && !may_miss {
                    breaches.push(format!("I1 lost     {lane}: {} was accepted and never shown", line.text));
                }
                continue;
            }
            history.sends(&lane, &line.text);
            if !may_miss {
                history.accepted(&lane, &line.text);
            }
        }
        let here: BTreeSet<&str> = said.iter().filter(|m| m.is_own).map(|m| m.text.as_str()).collect();
        let keeps_place = |m: &&Kept| {
            let times = shown.iter().filter(|other| other.text == m.text).count();
            let line = line_of(&lines, &m.text);
            times > 1 || line.is_none_or(|line| !has_no_place(line))
        };
        for m in shown.iter().filter(|m| here.contains(m.text.as_str())).filter(keeps_place) {
            history.shown(&lane, &m.text);
        }
    }
    for m in &shown {
        match line_of(&lines, &m.text) {
            None => breaches.push(format!("I4 ghost    {name} shows {}, which nobody said", m.text)),
            Some(line) if line.by == listener => {
                breaches.push(format!("I4 ghost    {name} shows its own {}", m.text));
            }
            Some(line) if line.id.is_some_and(|id| id != m.id) => {
                breaches.push(format!("I4 ghost    {name}: {} has another id", m.text));
            }
            Some(_) => {}
        }
    }
    world.figures.shown += shown.len() as u64;
    if let Err(broken) = history.verdict() {
        breaches.extend(broken.breaches.iter().map(ToString::to_string));
        breaches.push(broken.diff);
    }
    breaches
}

fn line_of<'a>(lines: &'a [Line], text: &str) -> Option<&'a Line> {
    lines.iter().find(|line| line.text == text)
}

/// I8: what a member said in the quiet was said to an honest relay between endpoints that run.
fn is_answered(world: &mut World, customer: usize, speaker: usize) -> Vec<String> {
    let name = format!("{} in {}'s conversation", world.devices[speaker].name, world.devices[customer].name);
    let sent = kept(world, world.devices[speaker].active, customer).unwrap_or_default();
    let status = |text: &str| sent.iter().find(|m| m.is_own && m.text == text).map(|m| m.status);
    let lines = world.ledger.said.get(&customer).cloned().unwrap_or_default();
    let mine: Vec<&Line> = lines.iter().filter(|line| line.by == speaker).collect();
    let waits = mine.iter().filter(|line| status(&line.text) == Some(Status::Queued));
    let mut breaches: Vec<String> = waits.map(|line| format!("I8 {name}: {} still waits", line.text)).collect();
    let last = mine.last().map(|line| (line.text.as_str(), status(&line.text)));
    let heard = match last {
        Some((_, Some(Status::Delivered | Status::Read))) => true,
        // Where the relay had refused a good permit or forgotten a mailbox, the right to write receipts may be gone.
        Some((_, Some(Status::Sent))) => world.ledger.denied,
        _ => false,
    };
    if !heard {
        breaches.push(format!("I8 {name}: after five round trips {last:?}"));
    }
    breaches
}

/// What is said by who knows that a device was removed is not for it. If somebody went back since, he may have let it in again.
fn hears_nothing_more(world: &mut World, customer: usize, removed: usize) -> Vec<String> {
    let since = world.devices[removed].gone_ms;
    if world.ledger.went_back.iter().any(|(_, _, at_ms)| *at_ms >= since) {
        return Vec::new();
    }
    let shown = kept(world, world.devices[removed].active, customer).unwrap_or_default();
    let lines = world.ledger.said.get(&customer).cloned().unwrap_or_default();
    let more = lines.iter().filter(|line| line.not_to.contains(&removed));
    let heard = more.filter(|line| shown.iter().any(|m| m.text == line.text));
    heard
        .map(|line| format!("I4 ghost    {} was removed and shows {}", world.devices[removed].name, line.text))
        .collect()
}
