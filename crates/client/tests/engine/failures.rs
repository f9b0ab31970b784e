//! Messages that do not arrive, and stores that fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bulla_client::endpoint::{CommandError, Endpoint, NoProjector, Options, RoleOptions};
use bulla_client::event::{Draft, Failure, Shown, Status};
use bulla_client::store::sqlite::SqliteStore;
use bulla_client::store::{Batch, Order, Read, Row, Store, StoreError, Table, keyfile};
use rand_core::OsRng;

use crate::world::World;

const HOUR: u64 = 3_600_000;

fn text(body: &str) -> Draft {
    Draft::Text { body: body.into(), reply_to: None }
}

#[tokio::test]
async fn free_text_outside_of_the_window_fails() {
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut alice, conversation) = world.customer("Alice", &link).await;
    alice.endpoint.send(conversation.id, text("hello")).await.unwrap();
    let heard = cortado.incoming().await;

    world.clock.advance(24 * HOUR - 1);
    let in_time = cortado.endpoint.send(heard.conversation, text("just in time")).await.unwrap();
    cortado.status(in_time.id, Status::Sent).await;
    alice.incoming().await;
    world.clock.advance(1);
    let late = cortado.endpoint.send(heard.conversation, text("too late")).await.unwrap();
    let late = cortado.status(late.id, Status::Failed).await;
    assert_eq!(late.failure, Some(Failure::WindowClosed));

    // The customer's next word opens it again.
    alice.endpoint.send(conversation.id, text("again")).await.unwrap();
    cortado.incoming().await;
    cortado.endpoint.send(heard.conversation, text("welcome")).await.unwrap();
    assert_eq!(alice.incoming().await.shown, Shown::Text("welcome".into()));
}

#[tokio::test]
async fn without_a_receipt_a_message_fails_after_31_days() {
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (alice, conversation) = world.customer("Alice", &link).await;
    alice.endpoint.send(conversation.id, text("hello")).await.unwrap();
    let heard = cortado.incoming().await;
    alice.endpoint.shutdown().await;
    let sent = cortado.endpoint.send(heard.conversation, text("hi?")).await.unwrap();
    cortado.status(sent.id, Status::Sent).await;
    world.clock.advance((30 * 24 + 24) * HOUR - 1);
    world.clock.advance(2);
    let failed = cortado.status(sent.id, Status::Failed).await;
    assert_eq!(failed.failure, Some(Failure::NoReceipt));
}

#[tokio::test]
async fn drafts_are_checked_before_anything_changes() {
    let world = World::new().await;
    let cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (alice, conversation) = world.customer("Alice", &link).await;
    let send = |draft| alice.endpoint.send(conversation.id, draft);
    assert!(matches!(send(text("")).await, Err(CommandError::Empty)));
    assert!(matches!(send(text(&"x".repeat(4_097))).await, Err(CommandError::TooLong { limit: 4_096 })));
    assert!(send(text(&"ü".repeat(4_096))).await.is_ok());
    let unknown = bulla_e2ee::content::MessageId::new([7; 32]);
    let reply = Draft::Text { body: "x".into(), reply_to: Some(unknown) };
    assert!(matches!(send(reply).await, Err(CommandError::UnknownMessage)));
    let nowhere = bulla_client::event::ConversationId(99);
    let lost = alice.endpoint.send(nowhere, text("x")).await;
    assert!(matches!(lost, Err(CommandError::UnknownConversation)));
    assert_eq!(alice.endpoint.messages(conversation.id, None, 10).await.unwrap().len(), 1);
}

/// A store whose disk is full whenever it is told to be.
struct FullDisk {
    inner: SqliteStore,
    full: Arc<AtomicBool>,
}

impl Read for FullDisk {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(table, key)
    }
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        until: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.inner.scan(table, from, until, order, limit)
    }
}

impl Store for FullDisk {
    type Parts = bulla_client::store::parts::FileParts;

    fn parts(&self) -> Self::Parts {
        self.inner.parts()
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        if !batch.is_empty() && self.full.load(Ordering::SeqCst) {
            return Err(StoreError::Backend { place: "test".into(), cause: "disk full".into() });
        }
        self.inner.commit(batch).await
    }
}

/// Whoever says something while nothing can be kept is told so: it has not happened, and can be said again.
#[tokio::test]
async fn what_cannot_be_kept_is_said_to_be_so_and_has_not_happened() {
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (alice, conversation) = world.customer("Alice", &link).await;
    alice.endpoint.shutdown().await;
    let root = keyfile::load_or_create(&alice.folder.join("key"), None, &mut OsRng).unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let store = FullDisk { inner: SqliteStore::open(&alice.folder).unwrap(), full: full.clone() };
    let options = Options {
        role: RoleOptions::Customer,
        suites: bulla_e2ee::suite::Suites::DEFAULT,
        clock: Arc::new(world.clock.clone()),
        restored: false,
    };
    let (endpoint, _events) = Endpoint::start_over(store, root, options, Box::new(NoProjector)).unwrap();
    full.store(true, Ordering::SeqCst);
    let lost = endpoint.send(conversation.id, text("lost")).await;
    assert!(matches!(lost, Err(CommandError::NotKept)), "{lost:?}");
    full.store(false, Ordering::SeqCst);
    endpoint.send(conversation.id, text("kept")).await.unwrap();
    assert_eq!(cortado.incoming().await.shown, Shown::Text("kept".into()));
    assert_eq!(endpoint.messages(conversation.id, None, 10).await.unwrap().len(), 1);
    endpoint.shutdown().await;
    let after = endpoint.send(conversation.id, text("after")).await;
    assert!(matches!(after, Err(CommandError::Stopped)), "{after:?}");
}

#[tokio::test]
async fn nothing_is_acknowledged_while_the_store_fails() {
    let world = World::new().await;
    let cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut alice, conversation) = world.customer("Alice", &link).await;
    cortado.endpoint.shutdown().await;

    let folder = cortado.folder.clone();
    let root = keyfile::load_or_create(&folder.join("key"), None, &mut OsRng).unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let store = FullDisk { inner: SqliteStore::open(&folder).unwrap(), full: full.clone() };
    let options = Options {
        role: world.business_role(),
        suites: bulla_e2ee::suite::Suites::DEFAULT,
        clock: Arc::new(world.clock.clone()),
        restored: false,
    };
    let (endpoint, mut events) = Endpoint::start_over(store, root, options, Box::new(NoProjector)).unwrap();
    while !endpoint.business_card().await.unwrap().ready {
        tokio::task::yield_now().await;
    }
    full.store(true, Ordering::SeqCst);
    let first = alice.endpoint.send(conversation.id, text("first")).await.unwrap();
    // The relay had to store it: its reader does not confirm.
    alice.status(first.id, Status::Sent).await;
    full.store(false, Ordering::SeqCst);
    let mut shown = Vec::new();
    while shown.is_empty() {
        if let Some(bulla_client::event::Event::Message(m)) = events.recv().await {
            shown.push(m.shown);
        }
    }
    assert_eq!(shown, [Shown::Text("first".into())]);
    world.clock.advance(1_000);
    alice.status(first.id, Status::Delivered).await;
}

#[tokio::test]
async fn a_message_that_waited_for_days_is_followed_by_a_fresh_permit() {
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (alice, conversation) = world.customer("Alice", &link).await;
    alice.endpoint.send(conversation.id, text("hello")).await.unwrap();
    let heard = cortado.incoming().await;
    // Alice's next word is written offline, leaves two days later, and is answered two days after that: the permit in it is over,
    // the one that followed it is not.
    alice.endpoint.shutdown().await;
    let mut world = world;
    world.stop_relay().await;
    let mut alice = world.start("Alice", RoleOptions::Customer);
    alice.endpoint.send(conversation.id, text("on the train")).await.unwrap();
    world.clock.advance(60 * HOUR);
    world.start_relay().await;
    cortado.incoming().await;
    world.clock.advance(20 * HOUR);
    let answer = cortado.endpoint.send(heard.conversation, text("hello again")).await.unwrap();
    cortado.status(answer.id, Status::Sent).await;
    assert_eq!(alice.incoming().await.shown, Shown::Text("hello again".into()));
}
