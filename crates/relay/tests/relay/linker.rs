//! What somebody learns of who wrote to whom (P4): a *linker* has every file of a relay and all that it discloses, knows which mailboxes are businesses', and
//! says of each customer's mailbox which of them it belongs to.
//!
//! It takes what it has as what happened one after the other — a journal is written in that order — and counts after which businesses' mailboxes
//! a customer's comes. The same is done with all that went through the relay, in its order, which is what a live observer sees: that it finds most
//! of them is the control.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bulla_protocol::frame::server_frame::Body;
use bulla_protocol::id::MailboxId;
use bulla_protocol::label;
use bulla_protocol::permit::Class;
use ed25519_dalek::SigningKey;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::common::*;

const BUSINESSES: usize = 5;
const CUSTOMERS: usize = 100;
const MESSAGES: usize = 10_000;

/// Days that go by.
const DAYS: usize = 5;

/// What somebody who guesses finds.
const GUESSED: f64 = 1.0 / BUSINESSES as f64;

/// How much more the linker may find, over all towns: what it finds in one by chance is 4 points off as often as not.
const ADVANTAGE: f64 = 0.05;

/// Towns, each of a seed.
const TOWNS: [u64; 3] = [1, 3, 5];

/// Events before a customer's in which a business's counts.
const NEAR: usize = 12;

/// A mailbox under a random id, as they are: the linker looks for it in files.
fn mailbox(random: &mut Random) -> Mailbox {
    let mut id = [0; 16];
    for half in id.as_chunks_mut::<8>().0 {
        *half = random.next().to_be_bytes();
    }
    let key = [random.next().to_be_bytes(); 4].concat();
    Mailbox { id: MailboxId::new(id), key: SigningKey::from_bytes(&key.try_into().unwrap()), ..Mailbox::new(1) }
}

/// An owner who is there, and what of his is not acknowledged.
struct There {
    client: Client,
    subscription: u64,
}

/// Businesses and customers, and what a live observer has seen: the mailboxes to which envelopes went, in their order.
struct Town {
    world: World,
    sender: Client,
    businesses: Vec<(Mailbox, Option<There>)>,
    customers: Vec<Mailbox>,
    seen: Vec<MailboxId>,
    messages: usize,
}

impl Town {
    async fn new(random: &mut Random) -> Self {
        let world = World::start().await;
        let sender = world.anonymous().await;
        let town = Self {
            sender,
            businesses: (0..BUSINESSES).map(|_| (mailbox(random), None)).collect(),
            customers: (0..CUSTOMERS).map(|_| mailbox(random)).collect(),
            seen: Vec::new(),
            messages: 0,
            world,
        };
        // In an order of its own: who came when says nothing here.
        let mut all: Vec<Mailbox> = town.businesses.iter().map(|(mailbox, _)| mailbox.clone()).collect();
        all.extend(town.customers.iter().cloned());
        while !all.is_empty() {
            let one = all.swap_remove(random.below(all.len()));
            let mut owner = town.world.owner().await;
            owner.create(&one).await;
            owner.close().await;
        }
        town
    }

    async fn send(&mut self, to: &Mailbox) {
        // Valid for ever: days go by.
        let permit = to.given(Class::Ordinary, |permit| permit.expires = u32::MAX);
        self.sender.send(&permit, &[0x5e; 2_048]).await;
        self.seen.push(to.id);
        self.messages += 1;
    }

    /// An owner connects, and acknowledges all that waits.
    async fn comes(&mut self, mailbox: &Mailbox) -> There {
        let mut client = self.world.owner().await;
        client.open(mailbox).await;
        let subscription = client.subscribe(mailbox).await;
        while let Body::Deliver(deliver) = client.event().await {
            client.ack(subscription, deliver.number).await;
        }
        There { client, subscription }
    }

    /// Somebody says something to a business: it hears that now, or when it comes back.
    async fn tells_business(&mut self, number: usize) -> bool {
        let (mailbox, there) = &mut self.businesses[number];
        let mailbox = mailbox.clone();
        let Some(mut there) = there.take() else {
            self.send(&mailbox).await;
            return false;
        };
        let permit = mailbox.given(Class::Ordinary, |permit| permit.expires = u32::MAX);
        let request = self.sender.begin_send(&permit, &[0x5e; 2_048]).await;
        let delivered = there.client.deliver().await.number;
        there.client.ack(there.subscription, delivered).await;
        self.sender.accepted(request).await;
        self.seen.push(mailbox.id);
        self.messages += 1;
        self.businesses[number].1 = Some(there);
        true
    }

    /// A customer comes, reads, says some words and goes; the answers come while it is there, or later.
    async fn visit(&mut self, customer: usize, random: &mut Random, owed: &mut Vec<usize>) {
        let (number, mailbox) = (of(customer), self.customers[customer].clone());
        let there = self.comes(&mailbox).await;
        let words = 1 + random.below(4);
        let mut heard = false;
        for _ in 0..words {
            heard = self.tells_business(number).await;
        }
        there.client.close().await;
        if !heard {
            owed.push(customer);
        } else {
            // The business answers a little later: others may come between.
            for _ in 0..words {
                self.send(&mailbox).await;
            }
        }
    }

    async fn lives(&mut self, random: &mut Random) {
        for day in 0..DAYS {
            let mut owed: Vec<usize> = Vec::new();
            let (mut away, target) = (Vec::new(), MESSAGES * (day + 1) / DAYS);
            while self.messages < target {
                // Gateways are restarted and cut off now and then.
                let number = random.below(BUSINESSES);
                let mailbox = self.businesses[number].0.clone();
                match self.businesses[number].1.take() {
                    Some(there) if random.below(40) == 0 => {
                        there.client.close().await;
                        away.push(number);
                    }
                    Some(there) => self.businesses[number].1 = Some(there),
                    None if random.below(10) == 0 => {
                        self.businesses[number].1 = Some(self.comes(&mailbox).await);
                        // It answers all who wrote meanwhile.
                        for customer in std::mem::take(&mut owed) {
                            if of(customer) == number {
                                let to = self.customers[customer].clone();
                                self.send(&to).await;
                            } else {
                                owed.push(customer);
                            }
                        }
                    }
                    None => {}
                }
                self.visit(random.below(CUSTOMERS), random, &mut owed).await;
            }
            self.world.clock.advance(86_400);
            let relay = self.world.relay.as_ref().unwrap();
            relay.sweep().await.unwrap();
            relay.destroy_keys().await.unwrap();
        }
    }
}

/// Whose customer somebody is.
fn of(customer: usize) -> usize {
    customer % BUSINESSES
}

/// The share of customers whose business is found.
fn found(town: &Town, events: &[MailboxId]) -> f64 {
    let businesses: BTreeMap<MailboxId, usize> =
        town.businesses.iter().enumerate().map(|(number, (mailbox, _))| (mailbox.id, number)).collect();
    let customers: BTreeMap<MailboxId, usize> =
        town.customers.iter().enumerate().map(|(number, mailbox)| (mailbox.id, number)).collect();
    let mut often = [1.0; BUSINESSES];
    for number in events.iter().filter_map(|id| businesses.get(id)) {
        often[*number] += 1.0;
    }
    let mut near = vec![[0.0; BUSINESSES]; CUSTOMERS];
    for (at, id) in events.iter().enumerate() {
        let Some(customer) = customers.get(id) else { continue };
        for (distance, before) in events[..at].iter().rev().take(NEAR).enumerate() {
            if let Some(number) = businesses.get(before) {
                near[*customer][*number] += 1.0 / (1.0 + distance as f64) / often[*number];
            }
        }
    }
    let mut sure = 0.0;
    for (customer, near) in near.iter().enumerate() {
        let best = near.iter().copied().fold(0.0, f64::max);
        let ties: Vec<usize> = (0..BUSINESSES).filter(|number| near[*number] >= best).collect();
        if ties.contains(&of(customer)) {
            sure += 1.0 / ties.len() as f64;
        }
    }
    sure / CUSTOMERS as f64
}

/// Under what names mailboxes stand in the store that have a key still: whoever has all files has these.
fn names(folder: &Path) -> Vec<([u8; 16], MailboxId)> {
    let file = std::fs::read(folder.join("keys")).unwrap();
    let backlogs = file.chunks(64).filter(|slot| slot[0] == 2);
    let name = |slot: &[u8]| {
        let mut mac = Hmac::<Sha256>::new_from_slice(&slot[17..49]).unwrap();
        mac.update(label::ROW_NAME);
        let full: [u8; 32] = mac.finalize().into_bytes().into();
        (*full.first_chunk().unwrap(), MailboxId::new(slot[1..17].try_into().unwrap()))
    };
    backlogs.map(name).collect()
}

/// Every mailbox that is named in a file, in the order of the places: file by file, the journals as they were begun.
fn named_in(folder: &Path, town: &Town) -> Vec<MailboxId> {
    let mut all = names(folder);
    let ids = town.businesses.iter().map(|(mailbox, _)| mailbox.id).chain(town.customers.iter().map(|m| m.id));
    all.extend(ids.map(|id| (*id.as_bytes(), id)));
    let by_name: BTreeMap<[u8; 16], MailboxId> = all.into_iter().collect();
    // Most places are nobody's, which shows in a few bytes.
    let starts: BTreeSet<[u8; 4]> = by_name.keys().map(|name| *name.first_chunk().unwrap()).collect();
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    let mut named = Vec::new();
    for file in files {
        // A socket is no file.
        let Ok(bytes) = std::fs::read(&file) else { continue };
        for window in bytes.windows(16) {
            if starts.contains(window.first_chunk::<4>().unwrap())
                && let Some(id) = by_name.get(window)
            {
                named.push(*id);
            }
        }
    }
    named
}

#[tokio::test]
async fn p4_what_a_relay_keeps_does_not_tell_who_wrote_to_whom() {
    let (mut by_files, mut live, mut places, mut messages) = (0.0, 0.0, 0, 0);
    for seed in TOWNS {
        let mut random = Random(seed);
        let mut town = Town::new(&mut random).await;
        town.lives(&mut random).await;
        live += found(&town, &town.seen) / TOWNS.len() as f64;
        town.world.stop().await;
        let kept = named_in(&town.world.config.data, &town);
        by_files += found(&town, &kept) / TOWNS.len() as f64;
        places += kept.len();
        messages += town.messages;
    }
    println!(
        "figure: in {} towns of {CUSTOMERS} customers and {BUSINESSES} businesses, after {messages} messages, a linker finds the business of {:.1} % by what \
         is kept ({places} places), of {:.1} % by all that went through, of {:.1} % by guessing",
        TOWNS.len(),
        by_files * 100.0,
        live * 100.0,
        GUESSED * 100.0
    );
    assert!(live > 0.8, "the control: who sees everything finds most");
    assert!(by_files <= GUESSED + ADVANTAGE, "what is kept tells who wrote to whom: {by_files}");
}
