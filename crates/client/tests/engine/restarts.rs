//! Relays and endpoints that stop, start again, or are run twice.

use bulla_client::endpoint::CommandError;
use bulla_client::event::{Connection, Draft, Event, Shown, Status};
use bulla_protocol::frame::{ServerFrame, ServerHello, server_frame};
use futures_util::SinkExt as _;

use crate::world::World;

fn text(body: &str) -> Draft {
    Draft::Text { body: body.into(), reply_to: None }
}

#[tokio::test]
async fn what_is_said_while_the_relay_is_down_arrives_in_order() {
    let mut world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut alice, conversation) = world.customer("Alice", &link).await;
    alice.endpoint.send(conversation.id, text("0")).await.unwrap();
    cortado.incoming().await;

    world.stop_relay().await;
    let mut last = None;
    for n in 1..=20 {
        last = Some(alice.endpoint.send(conversation.id, text(&n.to_string())).await.unwrap());
    }
    world.start_relay().await;
    for n in 1..=20 {
        assert_eq!(cortado.incoming().await.shown, Shown::Text(n.to_string()));
    }
    alice.status(last.unwrap().id, Status::Sent).await;
}

/// What was taken back before it could leave never leaves, and what comes after it is not held up by that.
#[tokio::test]
async fn what_is_taken_back_while_the_relay_is_down_is_never_shown() {
    let mut world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut alice, conversation) = world.customer("Alice", &link).await;
    let first = alice.endpoint.send(conversation.id, text("0")).await.unwrap();
    cortado.incoming().await;
    world.clock.advance(1_000);
    alice.status(first.id, Status::Delivered).await;

    world.stop_relay().await;
    // One is sealed at once and may be on its way; the one behind it waits.
    alice.endpoint.send(conversation.id, text("before")).await.unwrap();
    let regretted = alice.endpoint.send(conversation.id, text("regretted")).await.unwrap();
    alice.endpoint.send(conversation.id, Draft::Delete { of: regretted.id }).await.unwrap();
    let after = alice.endpoint.send(conversation.id, text("after")).await.unwrap();
    world.start_relay().await;
    let mut shown = Vec::new();
    while shown.last() != Some(&Shown::Text("after".into())) {
        shown.push(cortado.incoming().await.shown);
    }
    let texts: Vec<_> = shown.into_iter().filter(|shown| *shown != Shown::Deleted).collect();
    assert_eq!(texts, [Shown::Text("before".into()), Shown::Text("after".into())]);
    alice.status(after.id, Status::Sent).await;
    // Nor does it fail a month later: nothing was expected of it. What was late is looked for in the batch of the next question, after it.
    world.clock.advance(32 * 86_400_000);
    alice.endpoint.message(regretted.id).await.unwrap();
    let stored = alice.endpoint.message(regretted.id).await.unwrap().unwrap();
    assert_eq!((stored.shown, stored.failure), (Shown::Deleted, None));
}

#[tokio::test]
async fn an_outbox_survives_its_endpoint() {
    let mut world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut alice, conversation) = world.customer("Alice", &link).await;
    let first = alice.endpoint.send(conversation.id, text("0")).await.unwrap();
    cortado.incoming().await;
    world.clock.advance(1_000);
    alice.status(first.id, Status::Delivered).await;

    world.stop_relay().await;
    for n in 1..=5 {
        alice.endpoint.send(conversation.id, text(&n.to_string())).await.unwrap();
    }
    alice.endpoint.shutdown().await;
    world.start_relay().await;
    let mut alice = world.start("Alice", bulla_client::endpoint::RoleOptions::Customer);
    for n in 1..=5 {
        assert_eq!(cortado.incoming().await.shown, Shown::Text(n.to_string()));
    }
    let again = alice.endpoint.conversations().await.unwrap();
    assert_eq!(again.len(), 1);
    let history = alice.endpoint.messages(conversation.id, None, 100).await.unwrap();
    assert_eq!(history.len(), 6);
    alice.status(history[5].id, Status::Sent).await;
}

#[tokio::test]
async fn a_business_that_was_away_answers_what_waited() {
    let world = World::new().await;
    let cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut alice, conversation) = world.customer("Alice", &link).await;
    cortado.endpoint.shutdown().await;
    let hello = alice.endpoint.send(conversation.id, text("anybody there?")).await.unwrap();
    alice.status(hello.id, Status::Sent).await;

    let mut cortado = world.start("cortado", world.business_role());
    let heard = cortado.incoming().await;
    cortado.endpoint.send(heard.conversation, text("now, yes")).await.unwrap();
    assert_eq!(alice.incoming().await.shown, Shown::Text("now, yes".into()));
}

/// A relay that speaks these versions and nothing else: it says so, and ends what then comes.
async fn of_other_versions(at: std::net::SocketAddr, versions: Vec<u32>) -> tokio::task::JoinHandle<()> {
    let hello = ServerHello {
        versions,
        name: "relay.test".into(),
        instance: vec![1; 16],
        now: 0,
        challenge: vec![2; 32],
        work_bits: 1,
    };
    let hello = ServerFrame::new(0, server_frame::Body::Hello(hello)).to_bytes();
    let listener = tokio::net::TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await {
                // Whoever has gone meanwhile comes again.
                let _ = socket.send(tokio_tungstenite::tungstenite::Message::Binary(hello.clone())).await;
                let _ = socket.close(None).await;
            }
        }
    })
}

/// An old program at a new relay, and the reverse: which of the two is to be updated is said and stays said, and nothing is lost.
#[tokio::test]
async fn a_relay_without_a_common_version_is_told_and_what_was_said_meanwhile_arrives() {
    let mut world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut alice, conversation) = world.customer("Alice", &link).await;
    for (versions, update_here) in [(vec![2, 3], true), (vec![0], false)] {
        alice.connection(Connection::Online).await;
        world.stop_relay().await;
        let other = of_other_versions(world.relay_addr, versions).await;
        alice.connection(Connection::NoCommonVersion { update_here }).await;
        let said = alice.endpoint.send(conversation.id, text("meanwhile")).await.unwrap();
        other.abort();
        let _ = other.await;
        world.start_relay().await;
        assert_eq!(cortado.incoming().await.id, said.id);
        let told =
            alice.seen.iter().rev().take_while(|e| !matches!(e, Event::Connection(Connection::NoCommonVersion { .. })));
        assert!(
            !told.into_iter().any(|e| matches!(e, Event::Connection(Connection::Offline { .. }))),
            "{:#?}",
            alice.seen
        );
    }
}

#[tokio::test]
async fn a_folder_run_twice_seals_in_one_place_only() {
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut alice, conversation) = world.customer("Alice", &link).await;
    alice.endpoint.send(conversation.id, text("one")).await.unwrap();
    let heard = cortado.incoming().await;
    alice.connection(Connection::Online).await;

    let copy = world.copy_of(&mut alice, "copy").await;
    let role = bulla_client::endpoint::RoleOptions::Customer;
    let mut alice = world.start("Alice", role.clone());
    alice.connection(Connection::Online).await;
    alice.endpoint.send(conversation.id, text("two")).await.unwrap();
    assert_eq!(cortado.incoming().await.shown, Shown::Text("two".into()));

    // Whoever starts last has the mailbox; the other learns of it and seals nothing more.
    let mut clone = world.start(&copy, role);
    alice.connection(Connection::Superseded).await;
    clone.connection(Connection::Online).await;
    let refused = alice.endpoint.send(conversation.id, text("three")).await;
    assert!(matches!(refused, Err(CommandError::Superseded)), "{refused:?}");
    assert!(refused.unwrap_err().to_string().contains("another copy"));

    // The copy has no key in common with what the first sealed since: its conversation began again, and goes on.
    clone.endpoint.send(conversation.id, text("from the copy")).await.unwrap();
    assert_eq!(cortado.incoming().await.shown, Shown::Text("from the copy".into()));
    let answer = cortado.endpoint.send(heard.conversation, text("heard you")).await.unwrap();
    assert_eq!(clone.incoming().await.id, answer.id);
    let all = cortado.endpoint.messages(heard.conversation, None, 10).await.unwrap();
    assert_eq!(all.len(), 4, "{all:#?}");
}
