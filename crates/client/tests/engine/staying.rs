//! Conversations that stay in place: commits, forks, copies of folders, lost devices.

use bulla_client::endpoint::RoleOptions;
use bulla_client::event::{Connection, Direction, Draft, Event, Reason, Shown, Status};

use crate::world::{Actor, World};

fn text(body: &str) -> Draft {
    Draft::Text { body: body.into(), reply_to: None }
}

fn continued(event: &Event) -> Option<(Direction, Reason)> {
    match event {
        Event::Continued { by, reason, .. } => Some((*by, *reason)),
        _ => None,
    }
}

const WEEK: u64 = 7 * 86_400_000;

/// The customer's and the business's epoch, once they agree.
async fn common_epoch(a: (&Actor, u64), b: (&Actor, u64)) -> u64 {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let (one, other) = (a.0.epoch(a.1).await, b.0.epoch(b.1).await);
        if one == other {
            return one.0;
        }
        assert!(tokio::time::Instant::now() < deadline, "{one:?} and {other:?} never met");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_first_answer_brings_fresh_keys_and_every_week_more() {
    let world = World::some_days_ago(10).await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut alice, conversation) = world.customer("Alice", &link).await;
    alice.endpoint.send(conversation.id, text("hello")).await.unwrap();
    let heard = cortado.incoming().await;
    let (a, b) = ((&alice, conversation.id.0), (&cortado, heard.conversation.0));
    // Epoch 1 is the Hello's; the gateway's first answer ends it.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while common_epoch(a, b).await < 2 {
        assert!(tokio::time::Instant::now() < deadline, "the first answer brought no commit");
        tokio::task::yield_now().await;
    }
    cortado.endpoint.send(heard.conversation, text("one")).await.unwrap();
    assert_eq!(alice.incoming().await.shown, Shown::Text("one".into()));
    let before = common_epoch((&alice, conversation.id.0), (&cortado, heard.conversation.0)).await;
    world.clock.advance(WEEK);
    for n in 0..4 {
        alice.endpoint.send(conversation.id, text(&format!("still here {n}"))).await.unwrap();
        let m = cortado.incoming().await;
        cortado.endpoint.send(m.conversation, text(&format!("so are we {n}"))).await.unwrap();
        alice.incoming().await;
    }
    let after = common_epoch((&alice, conversation.id.0), (&cortado, heard.conversation.0)).await;
    assert!(after > before, "a week later the keys are others: epoch {before}, {after}");
    assert!(alice.seen.iter().chain(&cortado.seen).all(|e| continued(e).is_none()), "nothing had to begin again");
}

/// A gateway that goes back to an older folder: what customers said in between comes again, what they say now arrives, and nobody is lost.
#[tokio::test]
async fn a_restored_business_goes_on_with_its_customers() {
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut alice, conversation) = world.customer("Alice", &link).await;
    alice.endpoint.send(conversation.id, text("one")).await.unwrap();
    let first = cortado.incoming().await;
    cortado.endpoint.send(first.conversation, text("answer one")).await.unwrap();
    alice.incoming().await;
    // A spare has to have come: with the receipts.
    world.clock.advance(1_000);
    alice.endpoint.send(conversation.id, text("two")).await.unwrap();
    cortado.incoming().await;
    world.clock.advance(1_000);
    let two = cortado.endpoint.send(first.conversation, text("answer two")).await.unwrap();
    alice.incoming().await;
    world.clock.advance(1_000);
    cortado.status(two.id, Status::Delivered).await;

    let backup = world.copy_of(&mut cortado, "backup").await;
    let mut cortado = world.start("cortado", world.business_role());
    cortado.connection(Connection::Online).await;
    let lost = alice.endpoint.send(conversation.id, text("three, after the backup")).await.unwrap();
    cortado.incoming().await;
    world.clock.advance(1_000);
    alice.status(lost.id, Status::Delivered).await;
    cortado.endpoint.send(first.conversation, text("answer three")).await.unwrap();
    alice.incoming().await;
    // The lease is raised while it works, so that this copy is seen to be an old one.
    cortado.endpoint.shutdown().await;
    let cortado = world.start("cortado", world.business_role());
    cortado.endpoint.shutdown().await;

    let mut restored = world.start(&backup, world.business_role());
    let (by, reason) = alice.wait("a new group", continued).await;
    assert_eq!((by, reason), (Direction::Incoming, Reason::Restored));
    let again = restored.incoming().await;
    assert_eq!((again.id, again.shown), (lost.id, Shown::Text("three, after the backup".into())));
    let four = alice.endpoint.send(conversation.id, text("four")).await.unwrap();
    assert_eq!(restored.incoming().await.id, four.id);
    let answer = restored.endpoint.send(first.conversation, text("answer four")).await.unwrap();
    assert_eq!(alice.incoming().await.id, answer.id);
}

/// A customer's device that goes back to an older folder, and one that has nothing but the pseudonym's key.
#[tokio::test]
async fn a_customer_who_went_back_or_lost_everything_goes_on() {
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut alice, conversation) = world.customer("Alice", &link).await;
    alice.endpoint.send(conversation.id, text("one")).await.unwrap();
    let first = cortado.incoming().await;
    cortado.endpoint.send(first.conversation, text("answer one")).await.unwrap();
    alice.incoming().await;
    let old = world.copy_of(&mut alice, "old").await;
    let mut alice = world.start("Alice", RoleOptions::Customer);
    let said = cortado.endpoint.send(first.conversation, text("after the copy")).await.unwrap();
    alice.incoming().await;
    world.clock.advance(1_000);
    cortado.status(said.id, Status::Delivered).await;
    let key = alice.endpoint.pseudonym(conversation.id).await.unwrap();
    alice.endpoint.shutdown().await;

    let mut rolled_back = world.start(&old, RoleOptions::Customer);
    // It has forgotten what it heard since; the business says it again.
    assert_eq!(rolled_back.incoming().await.id, said.id);
    let again = rolled_back.endpoint.send(conversation.id, text("back")).await.unwrap();
    assert_eq!(cortado.incoming().await.id, again.id);
    rolled_back.endpoint.shutdown().await;

    let mut phone = world.start("new-phone", RoleOptions::Customer);
    let begin = bulla_client::endpoint::Begin { pseudonym: Some(key), ..Default::default() };
    let resumed = phone.endpoint.begin(&link, begin).await.unwrap();
    let undelivered = cortado.endpoint.send(first.conversation, text("to nobody yet")).await.unwrap();
    phone.endpoint.send(resumed.id, text("from a new phone")).await.unwrap();
    cortado.incoming().await;
    let mut came = phone.incoming().await;
    if came.id == said.id {
        // The copy died before it confirmed that it had this again.
        came = phone.incoming().await;
    }
    assert_eq!(came.id, undelivered.id, "what was on its way to the old phone comes to the new one");
}

/// A customer's folder from before the business first answered has no spare of it: it says Hello again, and can tell what it has lost only
/// in the group that this begins. By then it has been told something newer; what it lost before that comes all the same.
#[tokio::test]
async fn what_came_since_hides_nothing_of_what_was_lost() {
    let world = World::new().await;
    let cortado = world.business().await;
    let link = world.link(&cortado).await;
    cortado.endpoint.shutdown().await;
    let (mut alice, conversation) = world.customer("Alice", &link).await;
    let hello = alice.endpoint.send(conversation.id, text("hello")).await.unwrap();
    alice.status(hello.id, Status::Sent).await;
    let old = world.copy_of(&mut alice, "old").await;

    let mut alice = world.start("Alice", RoleOptions::Customer);
    let mut cortado = world.start("cortado", world.business_role());
    let first = cortado.incoming().await;
    let mut lost = Vec::new();
    for word in ["one", "two"] {
        let m = cortado.endpoint.send(first.conversation, text(word)).await.unwrap();
        alice.incoming().await;
        world.clock.advance(1_000);
        cortado.status(m.id, Status::Delivered).await;
        lost.push(m.id);
    }
    alice.endpoint.shutdown().await;
    let three = cortado.endpoint.send(first.conversation, text("three")).await.unwrap();
    cortado.status(three.id, Status::Sent).await;

    let mut restored = world.start(&old, RoleOptions::Customer);
    assert_eq!(restored.incoming().await.id, three.id);
    let (by, reason) = restored.wait("a new group", continued).await;
    assert_eq!((by, reason), (Direction::Outgoing, Reason::Restored));
    assert_eq!([restored.incoming().await.id, restored.incoming().await.id], lost[..]);
}

/// Something that is stored for a conversation does not decode any more: its messages are kept as they came after three tries, the others go on,
/// and the conversation begins again.
#[tokio::test]
async fn what_cannot_be_processed_is_set_aside_and_the_queue_goes_on() {
    use bulla_client::store::vault::Scope;
    use bulla_client::store::{Order, Table};
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut alice, conversation) = world.customer("Alice", &link).await;
    let (bob, with_bob) = world.customer("Bob", &link).await;
    alice.endpoint.send(conversation.id, text("one")).await.unwrap();
    let heard = cortado.incoming().await;
    cortado.endpoint.send(heard.conversation, text("answer")).await.unwrap();
    alice.incoming().await;
    world.clock.advance(1_000);
    alice.endpoint.send(conversation.id, text("with a spare before it")).await.unwrap();
    cortado.incoming().await;

    let number = heard.conversation.0.to_be_bytes();
    cortado
        .endpoint
        .with_store(move |tx| {
            for (key, _) in tx.scan_bytes(Table::Mls, &number, None, Order::Ascending, 1_000)? {
                tx.put_bytes(Table::Mls, &key, Scope::Peer(1), b"\x01garbage".to_vec().into());
            }
            Ok(())
        })
        .await
        .unwrap();
    cortado.endpoint.shutdown().await;
    let poison = alice.endpoint.send(conversation.id, text("poison")).await.unwrap();
    alice.status(poison.id, Status::Sent).await;
    bob.endpoint.send(with_bob.id, text("behind it")).await.unwrap();

    let mut cortado = world.start("cortado", world.business_role());
    cortado.wait("quarantine", |e| matches!(e, Event::Unreadable { .. }).then_some(())).await;
    let mut texts = vec![cortado.incoming().await.shown, cortado.incoming().await.shown];
    texts.sort_by_key(|shown| matches!(shown, Shown::Text(t) if t == "poison"));
    assert_eq!(texts, [Shown::Text("behind it".into()), Shown::Text("poison".into())]);
    alice.wait("a new group", continued).await;
}

/// A copy that was made while the gateway ran, and without telling anybody: what was sealed since is more than ten minutes old, so it finds out.
#[tokio::test]
async fn a_copy_of_a_running_folder_finds_out_that_it_is_old() {
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut alice, conversation) = world.customer("Alice", &link).await;
    alice.endpoint.send(conversation.id, text("one")).await.unwrap();
    let heard = cortado.incoming().await;
    cortado.endpoint.send(heard.conversation, text("answer one")).await.unwrap();
    alice.incoming().await;
    world.clock.advance(1_000);
    let two = alice.endpoint.send(conversation.id, text("two")).await.unwrap();
    cortado.incoming().await;
    world.clock.advance(1_000);
    alice.status(two.id, Status::Delivered).await;

    let copy = world.folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    bulla_client::store::sqlite::SqliteStore::copy(&cortado.folder, &copy.join("store.sqlite")).unwrap();
    std::fs::copy(cortado.folder.join("key"), copy.join("key")).unwrap();

    cortado.endpoint.send(heard.conversation, text("sealed after the copy")).await.unwrap();
    alice.incoming().await;
    // The incarnation is raised beside its work, on the same connection: nothing is interrupted.
    world.clock.advance(601_000);
    alice.endpoint.send(conversation.id, text("three")).await.unwrap();
    cortado.incoming().await;
    let answer = cortado.endpoint.send(heard.conversation, text("answer three")).await.unwrap();
    assert_eq!(alice.incoming().await.id, answer.id);
    let lost = |e: &Event| matches!(e, Event::Connection(Connection::Superseded | Connection::Offline { .. }));
    assert!(!cortado.seen.iter().any(lost), "{:#?}", cortado.seen);
    cortado.endpoint.shutdown().await;

    let mut restored = world.start("copy", world.business_role());
    // Whoever can begins: the copy, if it has the customer's spare, else the customer, whom it asks; she has lost nothing herself.
    let (by, reason) = alice.wait("a new group", continued).await;
    assert!(matches!((by, reason), (Direction::Incoming, Reason::Restored) | (Direction::Outgoing, Reason::Gap)));
    assert_eq!(restored.incoming().await.shown, Shown::Text("three".into()));
    let four = restored.endpoint.send(heard.conversation, text("answer four")).await.unwrap();
    assert_eq!(alice.incoming().await.id, four.id);
}
