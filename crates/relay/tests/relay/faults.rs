//! What goes wrong under a relay, and readers that behave at random: nothing accepted is lost, nothing is out of order.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bulla_protocol::frame::{client_frame::Body as C, server_frame::Body as S};
use bulla_protocol::id::{BlobId, InstanceId, MailboxId, SlotId};
use bulla_relay::server::open_store;
use bulla_relay::store::{BlobEntry, BlobRecord, Loaded, Page, Row, Slot, SlotEntry, Store, StoreError, Write};
use bulla_relay::{RelayError, serve_on};
use bytes::Bytes;
use rand_core::OsRng;
use tokio::sync::Mutex;

use crate::common::*;

/// A store whose disk fails, or takes its time, when it is told to.
struct Failing {
    store: bulla_relay::store::fjall::FjallStore,
    broken: Arc<AtomicBool>,
    /// Whoever holds it holds up every commit.
    gate: Arc<Mutex<()>>,
}

/// A world on such a store.
async fn failing() -> (World, Arc<AtomicBool>, Arc<Mutex<()>>) {
    let mut world = World::start().await;
    world.stop().await;
    let (broken, gate) = (Arc::new(AtomicBool::new(false)), Arc::default());
    world.config.metrics = Some("127.0.0.1:0".parse().unwrap());
    let store = open_store(&world.config.data, Box::new(OsRng)).unwrap();
    let store = Arc::new(Failing { store, broken: Arc::clone(&broken), gate: Arc::clone(&gate) });
    let running = serve_on(world.config.clone(), store, world.clock.clone(), Box::new(OsRng)).await.unwrap();
    world.relay = Some(running);
    (world, broken, gate)
}

impl Store for Failing {
    fn instance(&self) -> InstanceId {
        self.store.instance()
    }
    fn load(&self, mailbox: &MailboxId) -> Result<Option<Loaded>, StoreError> {
        self.store.load(mailbox)
    }
    fn rows(&self, id: &MailboxId, orders: RangeInclusive<u64>, page: Page) -> Result<Vec<(u64, Row)>, StoreError> {
        self.store.rows(id, orders, page)
    }
    fn bundle(&self, mailbox: &MailboxId) -> Result<Option<Bytes>, StoreError> {
        self.store.bundle(mailbox)
    }
    fn days_before(&self, day: u32, limit: usize) -> Result<Vec<(u32, MailboxId)>, StoreError> {
        self.store.days_before(day, limit)
    }
    fn mailboxes(&self, after: Option<&MailboxId>, limit: usize) -> Result<Vec<(MailboxId, u32)>, StoreError> {
        self.store.mailboxes(after, limit)
    }
    fn slot(&self, slot: &SlotId) -> Result<Option<Slot>, StoreError> {
        self.store.slot(slot)
    }
    fn slots(&self, after: Option<&SlotEntry>, limit: usize) -> Result<Vec<SlotEntry>, StoreError> {
        self.store.slots(after, limit)
    }
    fn blob(&self, blob: &BlobId) -> Result<Option<BlobRecord>, StoreError> {
        self.store.blob(blob)
    }
    fn blobs(&self, after: Option<&BlobEntry>, limit: usize) -> Result<Vec<BlobEntry>, StoreError> {
        self.store.blobs(after, limit)
    }
    fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let _open = self.gate.blocking_lock();
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError::Engine("the disk is gone".to_owned()));
        }
        self.store.commit(writes)
    }
    fn destroy_keys(&self, today: u32) -> Result<usize, StoreError> {
        self.store.destroy_keys(today)
    }
}

#[tokio::test]
async fn a_failed_sync_ends_the_relay_and_nothing_pending_is_accepted() {
    let (mut world, broken, _gate) = failing().await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    let mut sender = world.anonymous().await;
    sender.send(&mailbox.permit(), b"safe").await;
    broken.store(true, Ordering::SeqCst);
    sender.begin_send(&mailbox.permit(), b"lost").await;
    let mut relay = world.relay.take().unwrap();
    let error = tokio::time::timeout(GUARD, relay.failed()).await.unwrap();
    assert!(matches!(&error, RelayError::Failed(why) if why.contains("the disk is gone")), "{error}");
    let metrics = relay.metrics().unwrap().to_string();
    let health = || {
        let metrics = metrics.clone();
        tokio::task::spawn_blocking(move || crate::operator::http(&metrics, "/health"))
    };
    assert_eq!(health().await.unwrap(), (503, "the store failed\n".to_owned()));
    // Not later either: the disk works again, but nobody may rely on what was lost in between.
    broken.store(false, Ordering::SeqCst);
    let after = sender.begin_send(&mailbox.permit(), b"after").await;
    sender.ping().await;
    assert!(sender.is_unanswered(after));
    let bundle = bulla_protocol::frame::PublishBundle { mailbox: mailbox.id.to_vec(), bundle: vec![1] };
    assert_eq!(code(&owner.ask(C::PublishBundle(bundle)).await), bulla_protocol::frame::Code::Unavailable);
    assert!(relay.shutdown().await.is_err());
    assert!(!matches!(sender.until_closed().await, Some((_, S::Accepted(_)))));

    world.run().await;
    let mut owner = world.owner().await;
    owner.open(&mailbox).await;
    owner.subscribe(&mailbox).await;
    assert_eq!(owner.texts(1).await, ["safe"]);
    assert!(matches!(owner.event().await, S::CaughtUp(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_is_answered_and_shown_only_once_it_is_durable() {
    let (mut world, broken, gate) = failing().await;
    let (mut first, mut second, mut reader) =
        (world.anonymous().await, world.anonymous().await, world.anonymous().await);
    assert_eq!(first.claim(slot(1), b"safe").await, won());
    let closed = gate.clone().lock_owned().await;
    let winner = first.begin_claim(slot(2), b"first").await;
    first.ping().await;
    // Neither the winner nor who lost to it may hear of a commit that the disk may still refuse.
    let loser = second.begin_claim(slot(2), b"second").await;
    second.ping().await;
    assert_eq!(reader.read_slot(slot(2)).await, None);
    assert_eq!(reader.read_slot(slot(1)).await.unwrap(), b"safe"[..]);
    assert!(first.is_unanswered(winner) && second.is_unanswered(loser));
    drop(closed);
    assert_eq!(first.answer(winner).await, won());
    assert_eq!(second.answer(loser).await, lost(b"first"));

    broken.store(true, Ordering::SeqCst);
    first.begin_claim(slot(3), b"third").await;
    let mut relay = world.relay.take().unwrap();
    let error = tokio::time::timeout(GUARD, relay.failed()).await.unwrap();
    assert!(matches!(&error, RelayError::Failed(why) if why.contains("the disk is gone")), "{error}");
    // Not later either, and not to who comes with the same bytes.
    broken.store(false, Ordering::SeqCst);
    let after = second.begin_claim(slot(3), b"third").await;
    second.ping().await;
    assert!(second.is_unanswered(after));
    assert!(relay.shutdown().await.is_err());
    for client in [&mut first, &mut second] {
        assert!(!matches!(client.until_closed().await, Some((_, S::SlotClaimed(_)))));
    }

    world.run().await;
    let mut reader = world.anonymous().await;
    assert_eq!(reader.read_slot(slot(2)).await.unwrap(), b"first"[..]);
    assert_eq!(reader.read_slot(slot(3)).await, None);
    assert_eq!(reader.claim(slot(3), b"fourth").await, won());
}

/// What one connection has in flight is bounded, and a stop does not wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_who_waits_for_room() {
    let (mut world, _broken, gate) = failing().await;
    let mut client = world.anonymous().await;
    let closed = gate.clone().lock_owned().await;
    for n in 0..200 {
        client.begin_claim(slot(n), b"commit").await;
    }
    // Time for the relay to take what it will take: as many round trips as it got claims.
    let mut other = world.anonymous().await;
    for _ in 0..200 {
        other.ping().await;
    }
    let relay = world.relay.take().unwrap();
    let stopped = tokio::spawn(relay.shutdown());
    // The connection ends while the disk still takes its time.
    assert_eq!(client.until_closed().await, None);
    drop(closed);
    tokio::time::timeout(GUARD, stopped).await.unwrap().unwrap().unwrap();
    world.run().await;
    let held = world.disclose().await.slots.len();
    assert!(held <= 64, "{held} claims of one connection were on their way together");
}

/// A sender with several envelopes in flight against a reader that acknowledges, falls silent, resubscribes and vanishes at random: every envelope that was accepted is acknowledged exactly once, in its order, and every
/// subscription goes on exactly where the last acknowledgement was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_comes_and_goes_gets_everything_once_and_in_order() {
    let mut random = Random(seed());
    let world = World::start_with(|config| config.handover = Duration::from_millis(20)).await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    const TOTAL: usize = 3_000;

    let (url, permit) = (world.url(), mailbox.permit());
    let sending = tokio::spawn(async move {
        let mut sender = Client::connect(&url, bulla_protocol::frame::Role::Anonymous).await;
        let mut in_flight = std::collections::VecDeque::new();
        for n in 0..TOTAL {
            in_flight.push_back(sender.begin_send(&permit, n.to_string().as_bytes()).await);
            // Now more than a window, now few: so that it spills, catches up and goes live.
            let most = if n / 400 % 2 == 0 { 300 } else { 3 };
            while in_flight.len() > most {
                let request = in_flight.pop_front().unwrap();
                sender.accepted(request).await;
            }
        }
        for request in in_flight {
            sender.accepted(request).await;
        }
    });

    let mut confirmed = 0; // envelopes before this one were acknowledged
    while confirmed < TOTAL {
        let subscription = owner.subscribe(&mailbox).await;
        let mut expected = confirmed;
        let mut number = 0;
        let mut acked = 0;
        let leave_after = 1 + random.below(400);
        while number < leave_after && expected < TOTAL {
            let deliver = match owner.event().await {
                S::Deliver(deliver) => deliver,
                S::CaughtUp(_) => continue,
                other => panic!("{other:?}"),
            };
            if deliver.subscription != subscription {
                continue; // still on its way from the one before
            }
            number += 1;
            assert_eq!(deliver.number, number as u64);
            assert_eq!(text(&deliver), expected.to_string());
            expected += 1;
            if random.below(4) == 0 || number - acked >= 200 {
                acked = number - random.below(number - acked);
                owner.ack(subscription, acked as u64).await;
            }
        }
        if expected == TOTAL {
            acked = number;
            owner.ack(subscription, acked as u64).await;
        }
        // The acknowledgement has been taken before the next subscription begins.
        owner.ping().await;
        confirmed += acked;
        if random.below(2) == 0 {
            owner.close().await;
            owner = world.owner().await;
            owner.open(&mailbox).await;
        }
    }
    tokio::time::timeout(GUARD, sending).await.unwrap().unwrap();
    owner.close().await;
    world.stored_becomes(&mailbox, 0).await;
}
