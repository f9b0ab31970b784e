//! A gateway with many live conversations is killed and put back from a copy that is a day old, while its customers write.
//!
//! Relay, gateway and customers are the real ones, in one process: the gateway over SQLite, customers over stores in memory. The day is injected.
//! `BULLA_RESTORE_CONVERSATIONS` says how many conversations (`cargo xtask torture restore`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulla_client::endpoint::{Begin, Endpoint, NoProjector, Options, RoleOptions};
use bulla_client::event::{Conversation, ConversationId, Direction, Draft, Event, Status};
use bulla_client::store::sqlite::SqliteStore;
use bulla_client::store::vault::RootKey;
use bulla_e2ee::content::MessageId;
use bulla_e2ee::identity::UserId;
use bulla_e2ee::link::Link;
use bulla_e2ee::seals;
use bulla_testkit::memory_store::Disk;
use rand_core::OsRng;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::world::World;

/// Conversations in an ordinary run.
const CONVERSATIONS: usize = 50;

/// How long anything may take: a thousand conversations share a busy machine.
const GUARD: Duration = Duration::from_secs(600);

/// The quarters of the day between the copy and the kill.
const QUARTERS: u64 = 4;
const QUARTER_MS: u64 = 6 * 3_600_000;

/// An endpoint, and what its person has seen.
struct Party {
    endpoint: Endpoint,
    events: UnboundedReceiver<Event>,
    /// Incoming messages, and how often each was shown.
    shown: BTreeMap<MessageId, u32>,
    /// Own messages, and how far each has come.
    sent: BTreeMap<MessageId, Status>,
    /// Conversations that began again.
    continued: usize,
}

impl Party {
    fn new((endpoint, events): (Endpoint, UnboundedReceiver<Event>)) -> Self {
        Self { endpoint, events, shown: BTreeMap::new(), sent: BTreeMap::new(), continued: 0 }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Message(m) if m.direction == Direction::Incoming => *self.shown.entry(m.id).or_default() += 1,
            Event::Status { message, .. } => drop(self.sent.insert(message.id, message.status)),
            Event::Continued { .. } => self.continued += 1,
            _ => {}
        }
    }

    async fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let waiting = async {
            while !done(self) {
                let event = self.events.recv().await.unwrap_or_else(|| panic!("it stopped before {what}"));
                self.note(event);
            }
        };
        tokio::time::timeout(GUARD, waiting).await.unwrap_or_else(|_| panic!("no {what}"));
    }

    async fn hears(&mut self, ids: &[MessageId]) {
        let mut left = ids.to_vec();
        self.until("message", |party| {
            left.retain(|id| !party.shown.contains_key(id));
            left.is_empty()
        })
        .await;
    }

    async fn delivered(&mut self, ids: &[MessageId]) {
        let mut left = ids.to_vec();
        self.until("receipt", |party| {
            left.retain(|id| party.sent.get(id).is_none_or(|status| *status < Status::Delivered));
            left.is_empty()
        })
        .await;
    }

    async fn says(&self, to: ConversationId, body: String) -> MessageId {
        self.endpoint.send(to, Draft::Text { body, reply_to: None }).await.unwrap().id
    }

    /// Ids of all incoming messages of a conversation, as they are stored.
    async fn has(&self, of: ConversationId) -> Vec<MessageId> {
        let all = self.endpoint.messages(of, None, 10_000).await.unwrap();
        all.into_iter().filter(|m| m.direction == Direction::Incoming).map(|m| m.id).collect()
    }
}

struct Customer {
    party: Party,
    conversation: Conversation,
    /// What it has said, in order.
    said: Vec<MessageId>,
    /// What the gateway has said to it.
    told: Vec<MessageId>,
}

impl Customer {
    async fn begins(world: &World, link: &Link, n: usize) -> Self {
        let options = Options {
            role: RoleOptions::Customer,
            suites: bulla_e2ee::suite::Suites::DEFAULT,
            clock: Arc::new(world.clock.clone()),
            restored: false,
        };
        let root = RootKey::generate(&mut OsRng);
        let party = Party::new(Endpoint::start_over(Disk::default(), root, options, Box::new(NoProjector)).unwrap());
        let begin = Begin { name: Some(format!("Customer {n}")), ..Begin::default() };
        let conversation = party.endpoint.begin(link, begin).await.unwrap();
        Self { party, conversation, said: Vec::new(), told: Vec::new() }
    }

    async fn says(&mut self, body: &str) {
        let id = self.party.says(self.conversation.id, body.to_owned()).await;
        self.said.push(id);
    }
}

/// A gateway answers some of its customers, and they hear it.
async fn answers(shop: &Party, of: &BTreeMap<UserId, ConversationId>, customers: &mut [Customer], body: &str) {
    for customer in customers.iter_mut() {
        let id = shop.says(of[&customer.conversation.user_id], body.to_owned()).await;
        customer.told.push(id);
    }
    for customer in customers {
        customer.party.hears(&customer.told).await;
    }
}

fn said(customers: &[Customer]) -> Vec<MessageId> {
    customers.iter().flat_map(|customer| customer.said.iter().copied()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mls_13_a_gateway_goes_on_with_all_its_conversations_from_a_copy_a_day_old() {
    let conversations = std::env::var("BULLA_RESTORE_CONVERSATIONS");
    let conversations = conversations.map_or(CONVERSATIONS, |n| n.parse().expect("a number of conversations"));
    let world = World::some_days_ago(3).await;
    // Time goes on by itself, so that what waits for a second does not wait for ever.
    let clock = world.clock.clone();
    let ticking = tokio::spawn(async move {
        let mut every = tokio::time::interval(Duration::from_millis(50));
        loop {
            every.tick().await;
            clock.advance(50);
        }
    });
    let gateway = world.business().await;
    let link = world.link(&gateway).await;
    let folder = gateway.folder.clone();
    let mut shop = Party::new(gateway.into_parts());
    let mut customers = Vec::new();
    for n in 0..conversations {
        customers.push(Customer::begins(&world, &link, n).await);
    }
    for customer in &mut customers {
        customer.says("one").await;
    }
    shop.hears(&said(&customers)).await;
    let known = shop.endpoint.conversations().await.unwrap();
    let of: BTreeMap<UserId, ConversationId> = known.into_iter().map(|c| (c.user_id, c.id)).collect();
    answers(&shop, &of, &mut customers, "answer one").await;
    for customer in &mut customers {
        customer.says("two").await;
    }
    shop.hears(&said(&customers)).await;
    for customer in &mut customers {
        customer.party.delivered(&customer.said).await;
        shop.delivered(&customer.told).await;
    }

    let copy = world.folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    SqliteStore::copy(&folder, &copy.join("store.sqlite")).unwrap();
    std::fs::copy(folder.join("key"), copy.join("key")).unwrap();

    // A day in which each of them writes and is answered, and of which the copy knows nothing.
    for quarter in customers.chunks_mut(conversations.div_ceil(QUARTERS as usize)) {
        world.clock.advance(QUARTER_MS);
        for customer in quarter.iter_mut() {
            customer.says("in the day").await;
        }
        shop.hears(&said(quarter)).await;
        answers(&shop, &of, quarter, "answer in the day").await;
    }

    // It dies over what they write; they write on.
    for customer in &mut customers {
        customer.says("to a gateway that dies").await;
    }
    drop(shop);
    for customer in &mut customers {
        customer.says("to no gateway").await;
    }
    let begun = Instant::now();
    let mut shop = Party::new(world.start_restored("copy", world.business_role()).into_parts());
    for customer in &mut customers {
        customer.says("to a gateway that comes back").await;
    }
    // The first two of each are in the copy.
    let lost: Vec<MessageId> = customers.iter().flat_map(|customer| customer.said.iter().skip(2).copied()).collect();
    shop.hears(&lost).await;
    answers(&shop, &of, &mut customers, "answer at last").await;
    let took = begun.elapsed();
    for customer in &mut customers {
        customer.party.delivered(&customer.said).await;
    }

    let mut moved = 0;
    for customer in &customers {
        let here = shop.has(of[&customer.conversation.user_id]).await;
        moved += usize::from(here != customer.said);
        assert_eq!(sorted(here), sorted(customer.said.clone()), "all that the customer said, once");
        let there = customer.party.has(customer.conversation.id).await;
        assert_eq!(
            sorted(there),
            sorted(customer.told.clone()),
            "all that the gateway said, also what it has forgotten"
        );
        assert!(customer.party.shown.values().all(|times| *times == 1), "nothing is shown twice");
    }
    assert!(shop.shown.values().all(|times| *times == 1), "nothing is shown twice");
    assert!(shop.continued >= 1);
    let (said, told) = (said(&customers).len(), customers.iter().map(|c| c.told.len()).sum::<usize>());
    println!(
        "figure: {conversations} conversations, {said} messages of customers and {told} of the gateway, which was put back from a copy a day old: \
         all answered again after {:.1} s, {moved} with another order, nothing lost, nothing twice; {} places, none sealed in twice",
        took.as_secs_f64(),
        seals::left().places(),
    );
    ticking.abort();
}

fn sorted(mut ids: Vec<MessageId>) -> Vec<MessageId> {
    ids.sort_by_key(|id| *id.as_bytes());
    ids
}
