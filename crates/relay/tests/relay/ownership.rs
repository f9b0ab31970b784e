//! Who may make, open and read a mailbox, and which of its endpoint's incarnations.

use bulla_protocol::frame::{
    Code, DeleteMailbox, PublishBundle, Revoke, Subscribe, client_frame::Body as C, server_frame::Body as S,
};

use crate::common::*;

#[tokio::test]
async fn the_same_create_is_done_twice_and_another_key_is_told_taken() {
    let world = World::start().await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    owner.create(&mailbox).await;
    let mut thief = world.owner().await;
    thief.create(&mailbox).await; // the same key and root, on another connection
    let other = Mailbox { id: mailbox.id, ..Mailbox::new(2) };
    let create = thief.create_frame(&other);
    assert_eq!(thief.ask(C::Create(create)).await, failed(Code::Taken));
    assert_eq!(thief.try_open(&other).await, failed(Code::Denied));
}

#[tokio::test]
async fn a_mailbox_costs_work_and_the_signature_of_its_key() {
    let world = World::start_with(|config| config.work_bits = 12).await;
    let mut owner = world.owner().await;
    let mailbox = Mailbox::new(1);
    let mut create = owner.create_frame(&mailbox);
    let enough = create.work_nonce;
    let task = bulla_protocol::work::Task::mailbox(&owner.challenge(), &mailbox.id);
    create.work_nonce = (0..).find(|nonce| !task.accepts(*nonce, 12)).unwrap();
    assert_eq!(owner.ask(C::Create(create.clone())).await, failed(Code::Work));
    create.work_nonce = enough;
    create.mac_root[0] ^= 1;
    assert_eq!(owner.ask(C::Create(create)).await, failed(Code::Denied));
    // Neither left anything behind.
    assert_eq!(world.disclose().await.mailboxes, []);
}

#[tokio::test]
async fn a_wrong_key_and_an_unknown_mailbox_get_the_same_answer() {
    let world = World::start().await;
    let (mailbox, _owner) = world.mailbox(1).await;
    let mut thief = world.owner().await;
    let wrong_key = Mailbox { id: mailbox.id, ..Mailbox::new(2) };
    assert_eq!(thief.try_open(&wrong_key).await, failed(Code::Denied));
    assert_eq!(thief.try_open(&Mailbox::new(3)).await, failed(Code::Denied));
    // Another connection's signature proves nothing on this one.
    let replayed = world.owner().await.open_frame(&mailbox);
    assert_eq!(thief.ask(C::Open(replayed)).await, failed(Code::Denied));
}

#[tokio::test]
async fn nothing_is_done_to_a_mailbox_that_was_not_opened_here() {
    let world = World::start().await;
    let (mailbox, _owner) = world.mailbox(1).await;
    let mut thief = world.owner().await;
    let id = mailbox.id.to_vec();
    let tries = [
        C::Subscribe(Subscribe { mailboxes: vec![id.clone()] }),
        C::Revoke(Revoke { mailbox: id.clone(), grant: vec![1; 16] }),
        C::PublishBundle(PublishBundle { mailbox: id.clone(), bundle: vec![1] }),
        C::DeleteMailbox(DeleteMailbox { mailbox: id }),
    ];
    for body in tries {
        assert_eq!(thief.ask(body).await, failed(Code::Denied));
    }
}

#[tokio::test]
async fn a_higher_incarnation_takes_the_mailbox_from_the_lower_one() {
    let mut world = World::start().await;
    let (mailbox, mut old) = world.mailbox(1).await;
    let subscription = old.live(&mailbox).await;
    let mut sender = world.anonymous().await;
    let request = sender.begin_send(&mailbox.permit(), b"one").await;
    assert_eq!(old.texts(1).await, ["one"]);

    let raised = mailbox.raised(2, 20);
    let mut new = world.owner().await;
    new.open(&raised).await;
    match old.event().await {
        S::Superseded(superseded) => assert_eq!(superseded.mailbox, mailbox.id.to_vec()),
        other => panic!("{other:?}"),
    }
    // What it had not confirmed was stored; its acks and requests count no longer.
    sender.accepted(request).await;
    old.ack(subscription, 1).await;
    let subscribe = C::Subscribe(Subscribe { mailboxes: vec![mailbox.id.to_vec()] });
    assert_eq!(old.ask(subscribe).await, failed(Code::Denied));
    assert_eq!(old.try_open(&mailbox).await, superseded_by(2));
    assert_eq!(world.stored(&mailbox).await, 1);
    // A clone that raised to the same number in parallel.
    let clone = mailbox.raised(2, 21);
    assert_eq!(old.try_open(&clone).await, superseded_by(2));
    // The same incarnation again, on a second connection: both hold it.
    let mut second = world.owner().await;
    second.open(&raised).await;
    new.subscribe(&mailbox).await;
    assert_eq!(new.texts(1).await, ["one"]);

    world.restart().await;
    let mut late = world.owner().await;
    assert_eq!(late.try_open(&mailbox).await, superseded_by(2));
    late.open(&raised).await;
}

/// As a running endpoint does every ten minutes: nothing is interrupted, and an older copy finds out.
#[tokio::test]
async fn a_holder_raises_its_own_incarnation_on_its_connection() {
    let world = World::start().await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    let subscription = owner.live(&mailbox).await;
    let mut sender = world.anonymous().await;
    let request = sender.begin_send(&mailbox.permit(), b"one").await;
    assert_eq!(owner.texts(1).await, ["one"]);

    let raised = mailbox.raised(2, 20);
    owner.open(&raised).await;
    // The subscription goes on where it was, and what was on its way is still its to confirm.
    owner.ack(subscription, 1).await;
    sender.accepted(request).await;
    assert_eq!(world.stored(&mailbox).await, 0, "it was confirmed, and never stored");
    let request = sender.begin_send(&mailbox.permit(), b"two").await;
    assert_eq!(owner.texts(1).await, ["two"]);
    owner.ack(subscription, 2).await;
    sender.accepted(request).await;

    let mut copy = world.owner().await;
    assert_eq!(copy.try_open(&mailbox).await, superseded_by(2));
    // Nor does the holder go back itself; it keeps what it has.
    assert_eq!(owner.try_open(&mailbox).await, superseded_by(2));
    let request = sender.begin_send(&mailbox.permit(), b"three").await;
    assert_eq!(owner.texts(1).await, ["three"]);
    owner.ack(subscription, 3).await;
    sender.accepted(request).await;
}

#[tokio::test]
async fn a_deleted_mailbox_is_gone_with_all_that_was_in_it() {
    let world = World::start().await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    let (kept, _keeper) = world.mailbox(2).await;
    let mut sender = world.anonymous().await;
    sender.send(&mailbox.permit(), b"one").await;
    sender.send(&kept.permit(), b"two").await;
    let id = mailbox.id.to_vec();
    owner.revoke(&mailbox, bulla_protocol::id::GrantId::new([3; 16])).await;
    owner.ask(C::PublishBundle(PublishBundle { mailbox: id.clone(), bundle: vec![1] })).await;
    assert!(matches!(owner.ask(C::DeleteMailbox(DeleteMailbox { mailbox: id.clone() })).await, S::Done(_)));
    assert_eq!(sender.try_send(&mailbox.permit(), b"three").await, failed(Code::Refused));
    assert_eq!(owner.try_open(&mailbox).await, failed(Code::Denied));
    let disclosed = world.disclose().await;
    assert_eq!(disclosed.mailboxes.len(), 1);
    assert_eq!(disclosed.mailboxes[0].envelopes.len(), 1);
    // The id is free again, and empty.
    owner.create(&mailbox).await;
    owner.open(&mailbox).await;
    owner.live(&mailbox).await;
}

#[tokio::test]
async fn a_mailbox_whose_owner_stays_away_for_half_a_year_goes() {
    let world = World::start().await;
    let (_away, owner) = world.mailbox(1).await;
    owner.close().await;
    let (here, _owner) = world.mailbox(2).await;
    world.clock.advance(180 * 86_400 - 1);
    world.relay.as_ref().unwrap().sweep().await.unwrap();
    assert_eq!(world.disclose().await.mailboxes.len(), 2);
    world.clock.advance(31 * 86_400);
    world.relay.as_ref().unwrap().sweep().await.unwrap();
    let left = world.disclose().await.mailboxes;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].mailbox, here.id.to_hex());
}
