//! Who may write, how much and how often: one answer for every permit that does not count, typed answers for limits.

use bulla_protocol::frame::{Code, ServerFrame, client_frame::Body as C, server_frame::Body as S};
use bulla_protocol::id::{GrantId, TagBlock};
use bulla_protocol::limits::{CONTACT_WINDOW, MAX_CONTACT_ENVELOPE, MAX_ENVELOPE};
use bulla_protocol::permit::{Class, Permit};
use bulla_protocol::work::Task;

use crate::common::*;

#[tokio::test]
async fn every_permit_that_does_not_count_gets_the_same_bytes() {
    let world = World::start().await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    let (other, _other_owner) = world.mailbox(2).await;
    let revoked = mailbox.given(Class::Ordinary, |permit| permit.grant = GrantId::new([66; 16]));
    owner.revoke(&mailbox, revoked.permit.grant).await;
    owner.revoke(&mailbox, revoked.permit.grant).await; // idempotent

    let good = mailbox.permit();
    let mut forged = good.clone();
    forged.permit.rate += 1;
    let mut retagged = good.clone();
    retagged.permit.tag = TagBlock::new([1; 16]);
    let mut elsewhere = good.clone();
    elsewhere.permit.mailbox = other.id;
    let mut promoted = mailbox.contact();
    promoted.permit.class = Class::Ordinary;
    let expired = mailbox.given(Class::Ordinary, |permit| permit.expires = Permit::expiry_at(START));
    let unknown = Mailbox::new(99).permit();

    // Fresh connections, so that the request's number is the same too.
    let mut answers = Vec::new();
    for given in [&forged, &retagged, &elsewhere, &promoted, &expired, &unknown, &revoked] {
        let mut sender = world.anonymous().await;
        let request = sender.begin_send(given, b"no").await;
        let answer = sender.answer(request).await;
        answers.push(ServerFrame::new(request, answer).to_bytes());
    }
    for change in ["class", "version", "rate", "proof"] {
        let mut sender = world.anonymous().await;
        let mut frame = sender.send_frame(&good, send_id(), b"no");
        let permit = frame.permit.as_mut().unwrap();
        match change {
            "class" => permit.class = 3,
            "version" => permit.version = 2,
            "rate" => permit.rate = 65_536 + u32::from(good.permit.rate),
            _ => frame.proof[0] ^= 1,
        }
        let request = sender.begin(C::Send(frame)).await;
        let answer = sender.answer(request).await;
        answers.push(ServerFrame::new(request, answer).to_bytes());
    }
    let refused = ServerFrame::new(2, failed(Code::Refused)).to_bytes();
    assert!(answers.iter().all(|answer| *answer == refused), "{answers:?}");
    assert_eq!(world.stored(&mailbox).await + world.stored(&other).await, 0);
    // The one that they were made from counts.
    world.anonymous().await.send(&good, b"yes").await;
}

#[tokio::test]
async fn a_permit_ends_at_its_hour() {
    let world = World::start().await;
    let (mailbox, _owner) = world.mailbox(1).await;
    let given = mailbox.given(Class::Ordinary, |permit| permit.expires = Permit::expiry_at(START + 1));
    let mut sender = world.anonymous().await;
    world.clock.advance(given.permit.expires_unix_secs() - START - 1);
    sender.send(&given, b"in time").await;
    world.clock.advance(1);
    assert_eq!(sender.try_send(&given, b"late").await, failed(Code::Refused));
}

#[tokio::test]
async fn a_proof_is_bound_to_its_envelope_and_send_id() {
    let world = World::start().await;
    let (mailbox, _owner) = world.mailbox(1).await;
    let mut sender = world.anonymous().await;
    let frame = sender.send_frame(&mailbox.permit(), send_id(), b"this");
    let mut swapped = frame.clone();
    swapped.envelope = b"that".as_slice().into();
    assert_eq!(sender.ask(C::Send(swapped)).await, failed(Code::Refused));
    let mut renamed = frame;
    renamed.send_id = send_id().to_vec();
    assert_eq!(sender.ask(C::Send(renamed)).await, failed(Code::Refused));
}

#[tokio::test]
async fn envelopes_over_their_limit_are_too_large() {
    let world = World::start().await;
    let (mailbox, _owner) = world.mailbox(1).await;
    let mut sender = world.anonymous().await;
    let one_kib = mailbox.given(Class::Ordinary, |permit| permit.max_kib = 1);
    assert_eq!(sender.try_send(&one_kib, &[0; 1025]).await, failed(Code::TooLarge));
    sender.send(&one_kib, &[0; 1024]).await;
    let generous = mailbox.given(Class::Ordinary, |permit| permit.max_kib = u16::MAX);
    assert_eq!(sender.try_send(&generous, &vec![0; MAX_ENVELOPE + 1]).await, failed(Code::TooLarge));
    sender.send(&generous, &vec![0; MAX_ENVELOPE]).await;
    assert_eq!(sender.try_send(&mailbox.contact(), &vec![0; MAX_CONTACT_ENVELOPE + 1]).await, failed(Code::TooLarge));
    sender.send(&mailbox.contact(), &vec![0; MAX_CONTACT_ENVELOPE]).await;
}

#[tokio::test]
async fn a_grant_that_is_used_too_often_is_told_when_to_come_again() {
    let world = World::start().await;
    let (mailbox, _owner) = world.mailbox(1).await;
    let given = mailbox.given(Class::Ordinary, |permit| permit.rate = 2);
    // Another permit of the same grant shares its rate.
    let same_grant = mailbox.given(Class::Ordinary, |permit| {
        permit.rate = 2;
        permit.tag = TagBlock::new([4; 16]);
    });
    let mut sender = world.anonymous().await;
    sender.send(&given, b"one").await;
    let id = send_id();
    let second = sender.send_frame(&same_grant, id, b"two");
    assert!(matches!(sender.ask(C::Send(second.clone())).await, S::Accepted(_)));
    match sender.try_send(&given, b"three").await {
        S::Failed(failed) => {
            assert_eq!(failed.code(), Code::Rate);
            assert!((25_000..=30_001).contains(&failed.retry_after_ms), "{}", failed.retry_after_ms);
        }
        other => panic!("{other:?}"),
    }
    // A retry of what was accepted costs nothing.
    assert!(matches!(sender.ask(C::Send(second)).await, S::Accepted(_)));
    let other_grant = mailbox.given(Class::Ordinary, |permit| permit.grant = GrantId::new([8; 16]));
    sender.send(&other_grant, b"not concerned").await;
}

#[tokio::test]
async fn a_first_contact_costs_work_on_this_connection() {
    let world = World::start_with(|config| config.work_bits = 12).await;
    let (mailbox, _owner) = world.mailbox(1).await;
    let mut sender = world.anonymous().await;
    let mut frame = sender.send_frame(&mailbox.contact(), send_id(), b"hello");
    let enough = frame.work_nonce;
    let task = Task::contact(&sender.challenge(), &mailbox.id, b"hello");
    frame.work_nonce = (0..).find(|nonce| !task.accepts(*nonce, 12)).unwrap();
    assert_eq!(sender.ask(C::Send(frame.clone())).await, failed(Code::Work));
    frame.work_nonce = enough;
    let mut elsewhere = world.anonymous().await;
    let there = Task::contact(&elsewhere.challenge(), &mailbox.id, b"hello");
    if !there.accepts(enough, 12) {
        assert_eq!(elsewhere.ask(C::Send(frame.clone())).await, failed(Code::Work));
    }
    assert!(matches!(sender.ask(C::Send(frame)).await, S::Accepted(_)));
}

#[tokio::test]
async fn strangers_fill_their_share_and_never_a_customers() {
    let world = World::start().await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    let mut sender = world.anonymous().await;
    // Of a live reader's window.
    let subscription = owner.live(&mailbox).await;
    let mut hellos = Vec::new();
    for _ in 0..CONTACT_WINDOW {
        hellos.push(sender.begin_send(&mailbox.contact(), b"hello").await);
    }
    assert_eq!(code(&sender.try_send(&mailbox.contact(), b"one too many").await), Code::Full);
    let customer = sender.begin_send(&mailbox.permit(), b"customer").await;
    owner.texts(CONTACT_WINDOW).await;
    assert_eq!(owner.texts(1).await, ["customer"]);
    owner.ack(subscription, CONTACT_WINDOW as u64 + 1).await;
    sender.accepted(customer).await;
    for hello in hellos {
        sender.accepted(hello).await;
    }
    assert_eq!(world.stored(&mailbox).await, 0, "and all of it stayed in memory");

    // Of a minute.
    owner.close().await;
    let mut refused = 0;
    for n in 0..600 {
        refused += usize::from(matches!(sender.try_send(&mailbox.contact(), b"knock").await, S::Failed(_)));
        assert!(refused == 0 || n > 500, "{n}");
    }
    assert!(refused > 0, "strangers have a rate of their own, whatever their permit says");
    sender.send(&mailbox.permit(), b"customer").await;
}

#[tokio::test]
async fn a_full_mailbox_refuses_the_sender_and_loses_nothing() {
    let world = World::start().await;
    let (mailbox, owner) = world.mailbox(1).await;
    // Whoever says nothing while so much is sent may be taken for gone.
    owner.close().await;
    let mut sender = world.anonymous().await;
    let envelope = vec![5; MAX_ENVELOPE];
    let fits = bulla_protocol::limits::MAILBOX_BYTES as usize / MAX_ENVELOPE;
    let mut requests = Vec::new();
    for _ in 0..fits {
        requests.push(sender.begin_send(&mailbox.permit(), &envelope).await);
    }
    for request in requests {
        sender.accepted(request).await;
    }
    match sender.try_send(&mailbox.permit(), &envelope).await {
        S::Failed(failed) => {
            assert_eq!(failed.code(), Code::Full);
            assert!(failed.retry_after_ms > 0);
        }
        other => panic!("{other:?}"),
    }
    // Room comes by reading.
    let mut owner = world.owner().await;
    owner.open(&mailbox).await;
    let subscription = owner.subscribe(&mailbox).await;
    owner.deliver().await;
    owner.ack(subscription, 1).await;
    owner.ping().await;
    sender.send(&mailbox.permit(), &envelope).await;
}

#[tokio::test]
async fn memory_for_envelopes_is_bounded_in_all() {
    let world = World::start_with(|config| config.memory = 10_000).await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    let subscription = owner.live(&mailbox).await;
    let mut sender = world.anonymous().await;
    let first = sender.begin_send(&mailbox.permit(), &[0; 6_000]).await;
    assert_eq!(code(&sender.try_send(&mailbox.permit(), &[0; 6_000]).await), Code::Unavailable);
    owner.deliver().await;
    owner.ack(subscription, 1).await;
    sender.accepted(first).await;
    let second = sender.begin_send(&mailbox.permit(), &[0; 6_000]).await;
    owner.deliver().await;
    owner.ack(subscription, 2).await;
    sender.accepted(second).await;
}
