//! What goes wrong under a relay, and readers that behave at random: nothing accepted is lost, nothing is out of order.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bulla_protocol::frame::{client_frame::Body as C, server_frame::Body as S};
use bulla_protocol::id::{InstanceId, MailboxId};
use bulla_relay::server::open_store;
use bulla_relay::store::{Loaded, Page, Row, Store, StoreError, Write};
use bulla_relay::{RelayError, serve_on};
use bytes::Bytes;
use rand_core::{OsRng, RngCore};

use crate::common::*;

/// A store whose disk fails when it is told to.
struct Failing {
    store: bulla_relay::store::fjall::FjallStore,
    broken: Arc<AtomicBool>,
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
    fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError::Engine("the disk is gone".to_owned()));
        }
        self.store.commit(writes)
    }
}

#[tokio::test]
async fn a_failed_sync_ends_the_relay_and_nothing_pending_is_accepted() {
    let mut world = World::start().await;
    world.stop().await;
    let broken = Arc::new(AtomicBool::new(false));
    let store = open_store(&world.config.data, InstanceId::new([0; 16])).unwrap();
    let store = Arc::new(Failing { store, broken: Arc::clone(&broken) });
    let running = serve_on(world.config.clone(), store, world.clock.clone(), Box::new(OsRng)).await.unwrap();
    world.relay = Some(running);

    let (mailbox, mut owner) = world.mailbox(1).await;
    let mut sender = world.anonymous().await;
    sender.send(&mailbox.permit(), b"safe").await;
    broken.store(true, Ordering::SeqCst);
    sender.begin_send(&mailbox.permit(), b"lost").await;
    let mut relay = world.relay.take().unwrap();
    let error = tokio::time::timeout(GUARD, relay.failed()).await.unwrap();
    assert!(matches!(&error, RelayError::Failed(why) if why.contains("the disk is gone")), "{error}");
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

/// A sender with several envelopes in flight against a reader that acknowledges, falls silent, resubscribes and vanishes at random: every envelope that was accepted is acknowledged exactly once, in its order, and every
/// subscription goes on exactly where the last acknowledgement was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_comes_and_goes_gets_everything_once_and_in_order() {
    let seed = std::env::var("BULLA_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| OsRng.next_u64());
    println!("BULLA_SEED={seed}");
    let mut random = Random(seed | 1);
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
