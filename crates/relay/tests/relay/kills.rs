//! `kill -9` of the real program under 64 senders, at a random moment, again and again on the same folder.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bulla_protocol::frame::{Role, client_frame::Body as C, server_frame::Body as S};
use bulla_protocol::id::GrantId;
use bulla_protocol::permit::Class;
use tokio::sync::mpsc;

use crate::common::*;
use crate::disk::memory;
use crate::program::Process;

const SENDERS: u64 = 64;
const MAILBOXES: u8 = 8;

/// What a reader of one mailbox has shown, by lane.
#[derive(Debug, Default)]
struct Record {
    shown: BTreeMap<u64, BTreeSet<u64>>,
    again: u64,
}

impl Record {
    /// Shows a message, or knows it.
    fn show(&mut self, text: &str) {
        let (lane, serial) = text.split_once(' ').unwrap();
        let (lane, serial): (u64, u64) = (lane.parse().unwrap(), serial.parse().unwrap());
        let shown = self.shown.entry(lane).or_default();
        if shown.contains(&serial) {
            self.again += 1;
            return;
        }
        assert!(shown.last().is_none_or(|last| *last < serial), "lane {lane}: {serial} comes after {:?}", shown.last());
        shown.insert(serial);
    }
}

/// Reads and confirms; until it has caught up, or until the connection ends.
async fn read(owner: &mut Client, subscription: u64, record: &Mutex<Record>, until_caught_up: bool) {
    loop {
        match owner.frame().await {
            Some((0, S::Deliver(deliver))) => {
                record.lock().unwrap().show(&text(&deliver));
                owner.ack(subscription, deliver.number).await;
            }
            Some((0, S::CaughtUp(_))) if until_caught_up => return,
            Some(_) => {}
            None => return,
        }
    }
}

/// Sends, two on their way, until the relay is gone: what was accepted, and the next number.
async fn send(url: String, given: Given, lane: u64, from: u64, told: mpsc::UnboundedSender<()>) -> (Vec<u64>, u64) {
    let (mut accepted, mut waiting, mut serial) = (Vec::new(), BTreeMap::new(), from);
    let Some(mut sender) = Client::connect_if_up(&url, Role::Anonymous).await else { return (accepted, serial) };
    loop {
        while waiting.len() < 2 {
            let frame = sender.send_frame(&given, send_id(), format!("{lane} {serial}").as_bytes());
            waiting.insert(sender.begin(C::Send(frame)).await, serial);
            serial += 1;
        }
        match sender.frame().await {
            Some((request, S::Accepted(_))) => {
                accepted.push(waiting.remove(&request).unwrap());
                let _ = told.send(());
            }
            Some(other) => panic!("{other:?}"),
            None => return (accepted, serial),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_again_and_again_under_64_senders_loses_nothing() {
    let rounds = Rounds::of(8);
    let folder = memory();
    let data = folder.path().join("relay");
    let mailboxes: Vec<_> = (1..=MAILBOXES).map(Mailbox::new).collect();
    let records: Vec<_> = mailboxes.iter().map(|_| Arc::new(Mutex::new(Record::default()))).collect();
    let given = |lane: u64| {
        mailboxes[(lane % u64::from(MAILBOXES)) as usize].given(Class::Ordinary, |permit| {
            permit.grant = GrantId::new([lane as u8; 16]);
            permit.expires = u32::MAX;
        })
    };
    let mut process = Process::start(&data, "warn", NAME);
    let mut owner = Client::connect(&process.url, Role::Owner).await;
    for mailbox in &mailboxes {
        owner.create(mailbox).await;
    }
    owner.close().await;
    let (mut next, mut accepted, mut slowest) = (BTreeMap::<u64, u64>::new(), 0_usize, Duration::ZERO);
    for round in rounds.all() {
        let mut random = rounds.random(round);
        // Half of them are read while they are sent to.
        let mut readers = Vec::new();
        for (mailbox, record) in mailboxes.iter().zip(&records).step_by(2) {
            let (url, mailbox, record) = (process.url.clone(), mailbox.clone(), Arc::clone(record));
            readers.push(tokio::spawn(async move {
                let Some(mut owner) = Client::connect_if_up(&url, Role::Owner).await else { return };
                owner.begin(C::Open(owner.open_frame(&mailbox))).await;
                let Some((_, S::Done(_))) = owner.frame().await else { return };
                let mailboxes = vec![mailbox.id.to_vec()];
                owner.begin(C::Subscribe(bulla_protocol::frame::Subscribe { mailboxes })).await;
                let Some((_, S::Subscribed(subscribed))) = owner.frame().await else { return };
                read(&mut owner, subscribed.subscriptions[0], &record, false).await;
            }));
        }
        let (told, mut count) = mpsc::unbounded_channel();
        let senders: Vec<_> = (0..SENDERS)
            .map(|lane| {
                let from = next.get(&lane).copied().unwrap_or(0);
                (lane, tokio::spawn(send(process.url.clone(), given(lane), lane, from, told.clone())))
            })
            .collect();
        drop(told);
        for _ in 0..1 + random.below(600) {
            tokio::time::timeout(GUARD, count.recv()).await.expect("nothing was accepted").unwrap();
        }
        process.kill();
        let mut owed = BTreeMap::new();
        for (lane, sender) in senders {
            let (done, serial) = sender.await.unwrap();
            accepted += done.len();
            next.insert(lane, serial);
            owed.insert(lane, done);
        }
        for reader in readers {
            reader.await.unwrap();
        }

        let began = Instant::now();
        process = Process::start(&data, "warn", NAME);
        slowest = slowest.max(began.elapsed());
        for (mailbox, record) in mailboxes.iter().zip(&records) {
            let mut owner = Client::connect(&process.url, Role::Owner).await;
            owner.open(mailbox).await;
            let subscription = owner.subscribe(mailbox).await;
            read(&mut owner, subscription, record, true).await;
            owner.close().await;
        }
        for (lane, done) in owed {
            let record = records[(lane % u64::from(MAILBOXES)) as usize].lock().unwrap();
            let shown = record.shown.get(&lane);
            for serial in done {
                let there = shown.is_some_and(|shown| shown.contains(&serial));
                assert!(there, "{rounds}, round {round}: lane {lane}, {serial} was accepted and is lost");
            }
            let ghost = shown.and_then(|shown| shown.last()).is_some_and(|last| *last >= next[&lane]);
            assert!(!ghost, "{rounds}, round {round}: lane {lane} shows what was not sent");
        }
        rounds.held(round);
    }
    let again: u64 = records.iter().map(|record| record.lock().unwrap().again).sum();
    println!(
        "figure: {} kills, {accepted} accepted, {again} delivered again and known: nothing lost or out of order; slowest start {:.2} s",
        rounds.count(),
        slowest.as_secs_f64()
    );
}
