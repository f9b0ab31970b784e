//! A whole relay on a disk that fails, with senders and a reader that comes and goes: nothing that was accepted is lost, nothing is shown twice to a
//! reader that keeps what it has shown, everything of a sender comes in its order, and a relay that stopped says why and starts again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bulla_protocol::frame::{Role, Subscribe, client_frame::Body as C, server_frame::Body as S};
use bulla_protocol::permit::RelayName;
use bulla_relay::{Config, ManualClock, RelayError, Running};
use rand_core::OsRng;

use super::fuse::{Disk, FAULTS};
use super::memory;
use super::model::{CUTS, Cut, Image, Tape};
use crate::common::*;

/// Connections that send; each is a lane whose order counts.
const LANES: u64 = 3;

/// One message: its lane, and its number there.
type Message = (u64, u64);

/// What happened, each with the moment on the disk's tape from which it counts.
#[derive(Debug, Default)]
struct Seen {
    /// Messages that were sent, and when they were accepted.
    sent: BTreeMap<Message, Option<usize>>,
    /// What a reader has shown and will not show again.
    shown: BTreeMap<Message, usize>,
}

async fn start(data: &Path) -> Result<Running, RelayError> {
    let mut config = Config::new(data.to_owned(), "127.0.0.1:0".parse().unwrap(), RelayName::new(NAME).unwrap());
    config.work_bits = WORK_BITS;
    config.handover = Duration::from_millis(5);
    config.drain = Duration::ZERO;
    bulla_relay::serve(config, Arc::new(ManualClock::new(START)), Box::new(OsRng)).await
}

/// A lane: up to four on their way, so many in all, or until the relay goes.
async fn send(
    url: String,
    mailbox: Mailbox,
    lane: u64,
    first: u64,
    count: u64,
    disk: Arc<Disk>,
    seen: Arc<Mutex<Seen>>,
) {
    let Some(mut sender) = Client::connect_if_up(&url, Role::Anonymous).await else { return };
    let (mut waiting, mut serial) = (BTreeMap::new(), first);
    loop {
        while waiting.len() < 4 && serial < first + count {
            let text = format!("{lane} {serial} {}", "x".repeat((serial * 37 % 400) as usize));
            let frame = sender.send_frame(&mailbox.permit(), send_id(), text.as_bytes());
            seen.lock().unwrap().sent.insert((lane, serial), None);
            waiting.insert(sender.begin(C::Send(frame)).await, serial);
            serial += 1;
        }
        if waiting.is_empty() {
            return;
        }
        let Some((request, answer)) = sender.frame().await else { return };
        let serial = waiting.remove(&request).unwrap();
        if matches!(answer, S::Accepted(_)) {
            seen.lock().unwrap().sent.insert((lane, serial), Some(disk.moment()));
        }
    }
}

fn message(text: &str) -> Message {
    let mut words = text.split(' ').map(|word| word.parse().unwrap_or(u64::MAX));
    (words.next().unwrap(), words.next().unwrap())
}

/// A reader that keeps what it has shown, confirms now and then, and goes now and then.
async fn read(url: String, mailbox: Mailbox, mut random: Random, disk: Arc<Disk>, seen: Arc<Mutex<Seen>>) {
    loop {
        let Some(mut owner) = Client::connect_if_up(&url, Role::Owner).await else { return };
        let open = C::Open(owner.open_frame(&mailbox));
        owner.begin(open).await;
        let Some((_, S::Done(_))) = owner.frame().await else { return };
        owner.begin(C::Subscribe(Subscribe { mailboxes: vec![mailbox.id.to_vec()] })).await;
        let Some((_, S::Subscribed(subscribed))) = owner.frame().await else { return };
        let subscription = subscribed.subscriptions[0];
        for _ in 0..1 + random.below(40) {
            let deliver = match owner.frame().await {
                Some((0, S::Deliver(deliver))) => deliver,
                Some(_) => continue,
                None => return,
            };
            let message = message(&text(&deliver));
            seen.lock().unwrap().shown.entry(message).or_insert_with(|| disk.moment());
            if random.below(3) == 0 {
                owner.ack(subscription, deliver.number).await;
            }
        }
    }
}

/// Senders and a reader until all is answered, or until the relay has failed: then why.
async fn drive(
    mut relay: Running,
    disk: &Arc<Disk>,
    mailbox: &Mailbox,
    each: u64,
    random: &mut Random,
) -> (Seen, Option<RelayError>) {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let reader = read(relay.url(), mailbox.clone(), Random(random.next() | 1), Arc::clone(disk), Arc::clone(&seen));
    let reader = tokio::spawn(reader);
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| {
            let (url, mailbox) = (relay.url(), mailbox.clone());
            tokio::spawn(send(url, mailbox, lane, 0, each, Arc::clone(disk), Arc::clone(&seen)))
        })
        .collect();
    let mut answered = futures_util::future::join_all(lanes);
    let failed = tokio::select! {
        ended = &mut answered => {
            ended.into_iter().for_each(|lane| lane.unwrap());
            None
        }
        error = relay.failed() => Some(error),
    };
    reader.abort();
    let _ = reader.await;
    let stopped = tokio::time::timeout(GUARD, relay.shutdown()).await.expect("the relay does not stop");
    if failed.is_some() {
        for lane in answered.await {
            lane.unwrap();
        }
    }
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    (seen, failed.or(stopped.err()))
}

/// What a relay delivers that starts on what is left.
async fn delivered(image: &Image, mailbox: &Mailbox) -> Result<Vec<Message>, String> {
    let folder = memory();
    image.write_to(folder.path()).map_err(|error| error.to_string())?;
    let relay = start(&folder.path().join("relay")).await.map_err(|error| format!("it does not start: {error}"))?;
    let mut owner = Client::connect(&relay.url(), Role::Owner).await;
    owner.open(mailbox).await;
    let subscription = owner.subscribe(mailbox).await;
    let mut all = Vec::new();
    loop {
        match owner.event().await {
            S::Deliver(deliver) => {
                all.push(message(&text(&deliver)));
                owner.ack(subscription, deliver.number).await;
            }
            S::CaughtUp(_) => break,
            other => return Err(format!("{other:?}")),
        }
    }
    owner.close().await;
    relay.shutdown().await.map_err(|error| error.to_string())?;
    Ok(all)
}

/// I1 to I4 of what is delivered after the power was cut at a moment.
fn check(seen: &Seen, moment: usize, delivered: &[Message]) -> Result<(), String> {
    let shown = |message: &Message| seen.shown.get(message).is_some_and(|at| *at <= moment);
    for (message, accepted) in &seen.sent {
        if accepted.is_some_and(|at| at <= moment) && !shown(message) && !delivered.contains(message) {
            return Err(format!("{message:?} was accepted and is lost"));
        }
    }
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for (lane, serial) in seen.shown.iter().filter(|(_, at)| **at <= moment).map(|(message, _)| *message) {
        let latest = last.entry(lane).or_insert(serial);
        *latest = serial.max(*latest);
    }
    let mut once = std::collections::BTreeSet::new();
    for message in delivered {
        let (lane, serial) = *message;
        if !seen.sent.contains_key(message) {
            return Err(format!("{message:?} was never sent"));
        }
        if !once.insert(*message) {
            return Err(format!("{message:?} is delivered twice"));
        }
        if !shown(message) && last.insert(lane, serial).is_some_and(|before| before > serial) {
            return Err(format!("{message:?} comes after a later one of its sender"));
        }
    }
    Ok(())
}

/// A disk on which a relay has run, with one mailbox.
async fn with_a_mailbox() -> (Image, Mailbox) {
    let disk = Disk::mount(Image::default()).unwrap();
    let relay = start(&disk.path().join("relay")).await.unwrap();
    let mailbox = Mailbox::new(1);
    let mut owner = Client::connect(&relay.url(), Role::Owner).await;
    owner.create(&mailbox).await;
    owner.open(&mailbox).await;
    let moment = disk.moment();
    owner.close().await;
    relay.shutdown().await.unwrap();
    (disk.tape().cut(moment, Cut::Drops, &mut Random(1)), mailbox)
}

async fn after_cut(
    seen: &Seen,
    tape: &Tape,
    moment: usize,
    cut: Cut,
    mailbox: &Mailbox,
    random: &mut Random,
) -> Result<(), String> {
    let image = tape.cut(moment, cut, random);
    check(seen, moment, &delivered(&image, mailbox).await?)
}

/// R-02 for a whole relay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_power_cut_a_relay_has_everything_that_it_accepted() {
    const POINTS: usize = 20;
    if super::skips() {
        return;
    }
    let rounds = Rounds::of(2);
    let (image, mailbox) = with_a_mailbox().await;
    let (mut points, mut accepted, mut shown) = (0, 0, 0);
    for round in rounds.all() {
        let mut random = rounds.random(round);
        let disk = Arc::new(Disk::mount(image.clone()).unwrap());
        let relay = start(&disk.path().join("relay")).await.unwrap();
        let (seen, failed) = drive(relay, &disk, &mailbox, 60, &mut random).await;
        assert!(failed.is_none(), "{failed:?}");
        accepted += seen.sent.values().flatten().count();
        shown += seen.shown.len();
        let (tape, end) = (disk.tape(), disk.moment());
        drop(disk);
        for point in 0..POINTS {
            let (moment, cut) = (random.below(end + 1), CUTS[random.below(CUTS.len())]);
            if let Err(why) = after_cut(&seen, &tape, moment, cut, &mailbox, &mut random).await {
                panic!("{rounds}, round {round}, cut {point} ({cut:?} after {moment} of {end} operations): {why}");
            }
            points += 1;
        }
        rounds.held(round);
    }
    assert_eq!(accepted as u64, rounds.count() * LANES * 60, "all was accepted");
    println!(
        "figure: {points} power cuts of a relay, {accepted} accepted and {shown} shown: nothing lost, twice or out of order"
    );
}

/// R-04 for a whole relay: whichever call fails, nothing is accepted that is not durable; a relay that stopped says why, and starts again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_call_fails_a_relay_goes_on_or_stops_with_a_reason_and_loses_nothing() {
    if super::skips() {
        return;
    }
    let rounds = Rounds::of(200);
    let each = if rounds.are_many() { 800 } else { 60 };
    let (image, mailbox) = with_a_mailbox().await;
    let (mut failed, mut stopped, mut turned_away, mut accepted) = (0, 0, 0, 0);
    for round in rounds.all() {
        let mut random = rounds.random(round);
        let fault = FAULTS[round as usize % FAULTS.len()];
        // By turns a call of the start, and one of the work.
        let (call, of_start) = (round / 2 + 1, round % 2 == 0);
        let says = |why: &str| {
            format!("{rounds}, round {round}: call {call} fails ({fault:?}, of the start: {of_start}): {why}")
        };
        let disk = Arc::new(Disk::mount(image.clone()).unwrap());
        if of_start {
            disk.fail(call, fault);
        }
        let seen = match start(&disk.path().join("relay")).await {
            Ok(relay) => {
                if !of_start {
                    disk.fail(call, fault);
                }
                let (seen, why) = drive(relay, &disk, &mailbox, each, &mut random).await;
                stopped += u64::from(why.is_some());
                match why {
                    None | Some(RelayError::Failed(_)) => {}
                    Some(other) => panic!("{}", says(&other.to_string())),
                }
                seen
            }
            Err(_) => {
                assert!(of_start && disk.has_failed(), "{}", says("it does not start"));
                turned_away += 1;
                Seen::default()
            }
        };
        failed += u64::from(disk.has_failed());
        accepted += seen.sent.values().flatten().count();
        let (tape, end) = (disk.tape(), disk.moment());
        drop(disk);
        for cut in [Cut::Drops, Cut::Keeps] {
            let held = after_cut(&seen, &tape, end, cut, &mailbox, &mut random).await;
            held.unwrap_or_else(|why| panic!("{}", says(&format!("then {cut:?}: {why}"))));
        }
        rounds.held(round);
    }
    println!(
        "figure: of {} calls {failed} failed: {turned_away} relays did not start, {stopped} stopped; {accepted} accepted, nothing lost",
        rounds.count()
    );
    assert!(stopped > 0 && accepted > 0);
}
