//! The way of an envelope: stored or handed over, in order, accepted only when it is safe (P2).

use bulla_protocol::frame::server_frame::Body as S;
use bulla_protocol::limits::WINDOW;

use crate::common::*;

#[tokio::test]
async fn what_is_sent_to_an_absent_reader_waits_in_order_and_is_deleted_by_its_ack() {
    let world = World::start().await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    let mut sender = world.anonymous().await;
    for text in ["one", "two", "three"] {
        sender.send(&mailbox.permit(), text.as_bytes()).await;
    }
    assert_eq!(world.stored(&mailbox).await, 3);

    let subscription = owner.subscribe(&mailbox).await;
    assert_eq!(owner.texts(3).await, ["one", "two", "three"]);
    assert_eq!(owner.event().await, S::CaughtUp(bulla_protocol::frame::CaughtUp { subscription }));
    owner.ack(subscription, 2).await;
    owner.ping().await;
    world.stored_becomes(&mailbox, 1).await;
}

#[tokio::test]
async fn numbers_tags_and_classes_arrive_as_they_were_sent() {
    let world = World::start().await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    let mut sender = world.anonymous().await;
    sender.send(&mailbox.contact(), b"hello").await;
    sender.send(&mailbox.permit(), b"again").await;
    let subscription = owner.subscribe(&mailbox).await;
    for (number, class) in [(1, 2), (2, 1)] {
        let deliver = owner.deliver().await;
        assert_eq!((deliver.subscription, deliver.number, deliver.class), (subscription, number, class));
        assert_eq!(deliver.tag, [9; 16]);
    }
}

#[tokio::test]
async fn a_live_reader_is_handed_the_envelope_and_nothing_touches_the_disk() {
    let world = World::start().await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    let subscription = owner.live(&mailbox).await;
    let mut sender = world.anonymous().await;
    let canary = b"live-canary-4711-never-on-disk";
    let request = sender.begin_send(&mailbox.permit(), canary).await;
    assert_eq!(owner.deliver().await.envelope, canary[..]);
    // Neither delivered nor taken is accepted: only the reader's word or the disk counts.
    sender.ping().await;
    assert!(sender.is_unanswered(request));
    owner.ack(subscription, 1).await;
    sender.accepted(request).await;
    assert_eq!(world.stored(&mailbox).await, 0);
    assert!(!world.on_disk(canary));

    // What is stored is sealed, and does not stand under its mailbox's id; the same search finds whose the key is that opens it.
    let of_key = [&[2], &mailbox.id.as_bytes()[..]].concat();
    assert!(!world.on_disk(&of_key));
    drop(owner);
    let away = b"away-canary-4711-is-sealed-now!";
    sender.send(&mailbox.permit(), away).await;
    assert_eq!(world.stored(&mailbox).await, 1);
    assert!(!world.on_disk(away) && world.on_disk(&of_key));
    assert!(!world.on_disk(&[&mailbox.id.as_bytes()[..], &[0; 7]].concat()), "as a row's key was once");
}

#[tokio::test]
async fn what_a_live_reader_does_not_confirm_in_time_is_stored_and_then_accepted() {
    let world = World::start_with(|config| config.handover = std::time::Duration::from_millis(150)).await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    let subscription = owner.live(&mailbox).await;
    let mut sender = world.anonymous().await;
    let first = sender.begin_send(&mailbox.permit(), b"one").await;
    let second = sender.begin_send(&mailbox.permit(), b"two").await;
    assert_eq!(owner.texts(2).await, ["one", "two"]);
    sender.accepted(first).await;
    sender.accepted(second).await;
    assert_eq!(world.stored(&mailbox).await, 2);

    // Not delivered again on this subscription; what comes next follows.
    sender.send(&mailbox.permit(), b"three").await;
    assert_eq!(owner.texts(1).await, ["three"]);
    // A late ack deletes the stored rows.
    owner.ack(subscription, 2).await;
    owner.ping().await;
    world.stored_becomes(&mailbox, 1).await;
    // A new subscription starts at the oldest unconfirmed.
    owner.subscribe(&mailbox).await;
    assert_eq!(owner.texts(1).await, ["three"]);
}

#[tokio::test]
async fn a_full_window_spills_everything_in_order_and_the_reader_gets_the_rest_later() {
    let world = World::start().await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    let subscription = owner.live(&mailbox).await;
    let mut sender = world.anonymous().await;
    let mut requests = Vec::new();
    for n in 0..WINDOW + 10 {
        requests.push(sender.begin_send(&mailbox.permit(), n.to_string().as_bytes()).await);
    }
    for request in requests {
        sender.accepted(request).await;
    }
    assert_eq!(world.stored(&mailbox).await, WINDOW + 10);
    let texts: Vec<String> = (0..WINDOW + 10).map(|n| n.to_string()).collect();
    assert_eq!(owner.texts(WINDOW).await, texts[..WINDOW]);
    // Nothing more until there is room.
    owner.ping().await;
    assert!(owner.has_no_event());
    owner.ack(subscription, 5).await;
    assert_eq!(owner.texts(5).await, texts[WINDOW..WINDOW + 5]);
    owner.ack(subscription, WINDOW as u64 + 5).await;
    assert_eq!(owner.texts(5).await, texts[WINDOW + 5..]);
    owner.ack(subscription, WINDOW as u64 + 10).await;
    owner.ping().await;
    world.stored_becomes(&mailbox, 0).await;

    // All confirmed: live again.
    let request = sender.begin_send(&mailbox.permit(), b"live again").await;
    assert_eq!(owner.texts(1).await, ["live again"]);
    sender.ping().await;
    assert!(sender.is_unanswered(request));
    owner.ack(subscription, WINDOW as u64 + 11).await;
    sender.accepted(request).await;
}

#[tokio::test]
async fn a_lost_connection_stores_what_it_did_not_confirm_and_the_next_gets_it_in_order() {
    let world = World::start().await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    let subscription = owner.live(&mailbox).await;
    let mut sender = world.anonymous().await;
    let mut requests = Vec::new();
    for text in ["one", "two", "three", "four"] {
        requests.push(sender.begin_send(&mailbox.permit(), text.as_bytes()).await);
    }
    assert_eq!(owner.texts(4).await, ["one", "two", "three", "four"]);
    owner.ack(subscription, 1).await;
    sender.accepted(requests[0]).await;
    drop(owner);
    for request in &requests[1..] {
        sender.accepted(*request).await;
    }
    sender.send(&mailbox.permit(), b"five").await;
    let mut next = world.owner().await;
    next.open(&mailbox).await;
    next.subscribe(&mailbox).await;
    assert_eq!(next.texts(4).await, ["two", "three", "four", "five"]);
}

#[tokio::test]
async fn a_newer_subscription_replaces_the_older_whose_acks_are_ignored() {
    let world = World::start().await;
    let (mailbox, mut old) = world.mailbox(1).await;
    let replaced = old.live(&mailbox).await;
    let mut sender = world.anonymous().await;
    let request = sender.begin_send(&mailbox.permit(), b"one").await;
    assert_eq!(old.texts(1).await, ["one"]);

    let mut new = world.owner().await;
    new.open(&mailbox).await;
    let current = new.subscribe(&mailbox).await;
    assert_eq!(new.texts(1).await, ["one"]);
    sender.accepted(request).await;
    old.ack(replaced, 1).await;
    old.ping().await;
    // To open waits behind whatever that may have queued.
    old.open(&mailbox).await;
    assert_eq!(world.stored(&mailbox).await, 1);
    new.ack(current, 1).await;
    new.ping().await;
    world.stored_becomes(&mailbox, 0).await;

    // On one connection too.
    let again = new.subscribe(&mailbox).await;
    assert_ne!(again, current);
    assert!(matches!(new.event().await, S::CaughtUp(_)));
    assert!(matches!(new.event().await, S::CaughtUp(_)));
    sender.begin_send(&mailbox.permit(), b"two").await;
    assert_eq!(new.deliver().await.subscription, again);
    new.ack(current, 9).await;
    new.ping().await;
    drop(new);
    world.stored_becomes(&mailbox, 1).await;
}

#[tokio::test]
async fn a_send_id_is_one_envelope_however_often_it_is_sent() {
    let world = World::start().await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    let subscription = owner.live(&mailbox).await;
    let (mut sender, mut other) = (world.anonymous().await, world.anonymous().await);
    let id = send_id();
    let frame = sender.send_frame(&mailbox.permit(), id, b"once");
    let first = sender.begin(bulla_protocol::frame::client_frame::Body::Send(frame.clone())).await;
    assert_eq!(owner.texts(1).await, ["once"]);
    // Joins the one in flight, from another connection as well.
    let second = sender.begin(bulla_protocol::frame::client_frame::Body::Send(frame.clone())).await;
    let third = other.begin(bulla_protocol::frame::client_frame::Body::Send(frame.clone())).await;
    sender.ping().await;
    other.ping().await;
    assert!(sender.is_unanswered(first) && sender.is_unanswered(second) && other.is_unanswered(third));
    owner.ack(subscription, 1).await;
    sender.accepted(first).await;
    sender.accepted(second).await;
    other.accepted(third).await;
    // Repeats the answer afterwards.
    let fourth = sender.begin(bulla_protocol::frame::client_frame::Body::Send(frame)).await;
    sender.accepted(fourth).await;
    owner.ping().await;
    assert!(owner.has_no_event());
    // The same id under another grant is another envelope.
    let other_grant = mailbox.given(bulla_protocol::permit::Class::Ordinary, |permit| {
        permit.grant = bulla_protocol::id::GrantId::new([8; 16]);
    });
    let frame = sender.send_frame(&other_grant, id, b"other");
    sender.begin(bulla_protocol::frame::client_frame::Body::Send(frame)).await;
    assert_eq!(owner.texts(1).await, ["other"]);
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let mut world = World::start().await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    let mut sender = world.anonymous().await;
    for n in 0..300 {
        sender.send(&mailbox.permit(), n.to_string().as_bytes()).await;
    }
    let revoked = mailbox.given(bulla_protocol::permit::Class::Ordinary, |permit| {
        permit.grant = bulla_protocol::id::GrantId::new([66; 16]);
    });
    owner.revoke(&mailbox, revoked.permit.grant).await;
    let instance = owner.hello.instance.clone();
    world.restart().await;

    let mut owner = world.owner().await;
    assert_eq!(owner.hello.instance, instance);
    let mut sender = world.anonymous().await;
    assert_eq!(code(&sender.try_send(&revoked, b"no").await), bulla_protocol::frame::Code::Refused);
    sender.send(&mailbox.permit(), b"300").await;
    owner.open(&mailbox).await;
    let subscription = owner.subscribe(&mailbox).await;
    let texts: Vec<String> = (0..=300).map(|n| n.to_string()).collect();
    assert_eq!(owner.texts(WINDOW).await, texts[..WINDOW]);
    owner.ack(subscription, WINDOW as u64).await;
    assert_eq!(owner.texts(301 - WINDOW).await, texts[WINDOW..]);
    assert!(matches!(owner.event().await, S::CaughtUp(_)));
}

#[tokio::test]
async fn sends_while_catching_up_queue_behind_the_backlog() {
    let world = World::start().await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    let mut sender = world.anonymous().await;
    let mut texts = Vec::new();
    for n in 0..WINDOW + 50 {
        texts.push(n.to_string());
        sender.send(&mailbox.permit(), n.to_string().as_bytes()).await;
    }
    let subscription = owner.subscribe(&mailbox).await;
    for n in WINDOW + 50..WINDOW + 100 {
        texts.push(n.to_string());
        // Accepted although the reader confirms nothing: it is behind, so they are stored.
        sender.send(&mailbox.permit(), n.to_string().as_bytes()).await;
    }
    let mut got = owner.texts(WINDOW).await;
    owner.ack(subscription, WINDOW as u64).await;
    while got.len() < texts.len() {
        match owner.event().await {
            S::Deliver(deliver) => got.push(text(&deliver)),
            S::CaughtUp(_) => assert!(got.len() >= WINDOW + 50),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(got, texts);
}
