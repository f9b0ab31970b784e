//! What a broken or hostile client sends: a typed answer, and the relay goes on.

use bulla_protocol::frame::{
    ClientFrame, ClientHello, Code, DeleteMailbox, ReadSlot, Role, client_frame::Body as C, server_frame::Body as S,
};
use bulla_protocol::limits::{IN_FLIGHT_PER_CONNECTION, MAX_FRAME};
use bytes::Bytes;
use tokio_tungstenite::tungstenite::Message;

use crate::common::*;

fn binary(bytes: impl Into<Bytes>) -> Message {
    Message::Binary(bytes.into())
}

async fn is_told_malformed(mut client: Client, message: Message) {
    client.raw(message).await;
    match client.until_closed().await {
        Some((_, answer)) => assert_eq!(answer, failed(Code::Malformed)),
        None => panic!("closed without a word"),
    }
}

/// As long as [`bulla_protocol::limits::IDLE_TIMEOUT`] says, in real time.
#[tokio::test]
async fn who_is_silent_is_closed_and_who_answers_pings_is_not() {
    let world = World::start().await;
    let (mut silent, mut there) = (world.anonymous().await, world.anonymous().await);
    let mut sink = tokio::io::sink();
    tokio::select! {
        ended = tokio::io::copy(silent.tcp(), &mut sink) => drop(ended),
        () = there.only_pongs() => panic!("closed, though it answered"),
    }
    there.ping().await;
}

#[tokio::test]
async fn what_is_not_a_frame_closes_the_connection_with_a_typed_error() {
    let world = World::start().await;
    let (mailbox, owner) = world.mailbox(1).await;
    let good = {
        let frame = owner.send_frame(&mailbox.permit(), send_id(), b"envelope");
        ClientFrame::new(2, C::Send(frame)).to_bytes()
    };
    is_told_malformed(world.owner().await, binary(vec![0xff; 40])).await;
    is_told_malformed(world.owner().await, binary(vec![])).await;
    is_told_malformed(world.owner().await, Message::text("hello")).await;
    is_told_malformed(world.anonymous().await, binary(good.slice(..good.len() - 1))).await;
    is_told_malformed(world.anonymous().await, binary(vec![0; MAX_FRAME + 1])).await;
    is_told_malformed(world.anonymous().await, binary(vec![0; 4 * MAX_FRAME])).await;
    // Fields of wrong length, whatever the frame.
    let delete = C::DeleteMailbox(DeleteMailbox { mailbox: vec![1; 15] });
    is_told_malformed(world.owner().await, binary(ClientFrame::new(2, delete).to_bytes())).await;
    for change in 0..4 {
        let sender = world.anonymous().await;
        let mut frame = sender.send_frame(&mailbox.permit(), send_id(), b"envelope");
        match change {
            0 => frame.proof.push(0),
            1 => frame.send_id.truncate(15),
            2 => frame.permit = None,
            _ => frame.permit.as_mut().unwrap().tag.clear(),
        }
        is_told_malformed(sender, binary(ClientFrame::new(2, C::Send(frame)).to_bytes())).await;
    }
    for change in 0..4 {
        let client = world.anonymous().await;
        let mut frame = client.claim_frame(slot(1), b"commit");
        match change {
            0 => frame.slot.push(0),
            1 => frame.slot.truncate(31),
            2 => frame.slot.clear(),
            _ => frame.commit = Bytes::new(),
        }
        is_told_malformed(client, binary(ClientFrame::new(2, C::ClaimSlot(frame)).to_bytes())).await;
    }
    for length in [0, 31, 33] {
        let read = C::ReadSlot(ReadSlot { slot: vec![1; length] });
        is_told_malformed(world.anonymous().await, binary(ClientFrame::new(2, read).to_bytes())).await;
    }
    let unnumbered = C::ClaimSlot(world.anonymous().await.claim_frame(slot(1), b"commit"));
    is_told_malformed(world.anonymous().await, binary(ClientFrame::new(0, unnumbered).to_bytes())).await;
    let zero = ClientFrame::new(0, C::Ping(Default::default()));
    is_told_malformed(world.owner().await, binary(zero.to_bytes())).await;
    world.anonymous().await.send(&mailbox.permit(), b"the relay lives").await;
}

#[tokio::test]
async fn a_connection_begins_with_one_hello_of_a_known_version_and_role() {
    let world = World::start().await;
    let hello = |version, role: Role| C::Hello(ClientHello { version, role: role.into() });
    let mut client = Client::silent(&world.url()).await;
    client.begin(hello(2, Role::Owner)).await;
    assert_eq!(client.until_closed().await, Some((1, failed(Code::Version))));
    let mut client = Client::silent(&world.url()).await;
    client.begin(hello(1, Role::Unspecified)).await;
    assert_eq!(client.until_closed().await, Some((1, failed(Code::Malformed))));
    let mut client = Client::silent(&world.url()).await;
    client.begin(C::Ping(Default::default())).await;
    assert_eq!(client.until_closed().await, Some((1, failed(Code::Malformed))));
    let mut client = world.owner().await;
    client.begin(hello(1, Role::Owner)).await;
    assert_eq!(client.until_closed().await, Some((2, failed(Code::Malformed))));
    // Every connection is asked something else, and the relay states its time.
    let (a, b) = (Client::silent(&world.url()).await, Client::silent(&world.url()).await);
    assert_ne!(a.hello.challenge, b.hello.challenge);
    assert_eq!((a.hello.now, a.hello.work_bits, &a.hello.versions[..]), (START, WORK_BITS, &[1][..]));
}

#[tokio::test]
async fn the_two_roles_are_never_mixed() {
    let world = World::start().await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    let mut sender = world.anonymous().await;
    let send = C::Send(owner.send_frame(&mailbox.permit(), send_id(), b"no"));
    assert_eq!(owner.ask(send).await, failed(Code::Denied));
    let open = C::Open(sender.open_frame(&mailbox));
    assert_eq!(sender.ask(open).await, failed(Code::Denied));
    let create = C::Create(sender.create_frame(&Mailbox::new(2)));
    assert_eq!(sender.ask(create).await, failed(Code::Denied));
    // A slot must not be tied to the mailboxes that an owner's connection names, and is not claimed there.
    let claim = C::ClaimSlot(owner.claim_frame(slot(1), b"commit"));
    assert_eq!(owner.ask(claim).await, failed(Code::Denied));
    assert_eq!(owner.ask(C::ReadSlot(ReadSlot { slot: slot(1).to_vec() })).await, failed(Code::Denied));
    assert_eq!(sender.read_slot(slot(1)).await, None);
    owner.ping().await;
    sender.ping().await;
}

#[tokio::test]
async fn too_much_in_flight_is_busy_and_nothing_of_the_rest_is_lost() {
    let world = World::start().await;
    let mut sender = world.anonymous().await;
    // Four live mailboxes whose windows just hold what one connection may have in flight.
    let mut readers = Vec::new();
    let mut requests = Vec::new();
    for seed in 1..=4 {
        let (mailbox, mut owner) = world.mailbox(seed).await;
        let subscription = owner.live(&mailbox).await;
        for _ in 0..IN_FLIGHT_PER_CONNECTION / 4 {
            requests.push(sender.begin_send(&mailbox.permit(), b"x").await);
        }
        readers.push((mailbox, owner, subscription));
    }
    assert_eq!(code(&sender.try_send(&readers[0].0.permit(), b"one more").await), Code::Busy);
    assert_eq!(code(&sender.claim(slot(1), b"commit").await), Code::Busy);
    assert_eq!(code(&sender.ask(C::ReadSlot(ReadSlot { slot: slot(1).to_vec() })).await), Code::Busy);
    for (_, owner, subscription) in &mut readers {
        owner.texts(IN_FLIGHT_PER_CONNECTION / 4).await;
        owner.ack(*subscription, IN_FLIGHT_PER_CONNECTION as u64 / 4).await;
    }
    for request in requests {
        sender.accepted(request).await;
    }
    sender.ping().await;
    assert_eq!(sender.read_slot(slot(1)).await, None, "a claim that was refused has done nothing");
    assert_eq!(sender.claim(slot(1), b"commit").await, won());
}

/// MLS-02 for the whole way: mutated frames, in any order, on both roles; whatever happens, the relay answers the next client.
#[tokio::test]
async fn mls_02_mutated_frames_never_end_the_relay() {
    let world = World::start().await;
    let (mailbox, _owner) = world.mailbox(1).await;
    let mut random = Random(seed());
    for _ in 0..300 {
        let role = if random.below(2) == 0 { Role::Owner } else { Role::Anonymous };
        let mut client = Client::connect(&world.url(), role).await;
        for _ in 0..1 + random.below(4) {
            let body = match random.below(9) {
                0 => C::Create(client.create_frame(&mailbox)),
                1 => C::Open(client.open_frame(&mailbox)),
                2 => C::Subscribe(bulla_protocol::frame::Subscribe { mailboxes: vec![mailbox.id.to_vec()] }),
                3 => C::Ack(bulla_protocol::frame::Ack { subscription: 1, through: random.next() }),
                4 => C::Revoke(bulla_protocol::frame::Revoke { mailbox: mailbox.id.to_vec(), grant: vec![1; 16] }),
                5 => C::ClaimSlot(client.claim_frame(slot(1), b"commit")),
                6 => C::ReadSlot(ReadSlot { slot: slot(1).to_vec() }),
                _ => C::Send(client.send_frame(&mailbox.permit(), send_id(), b"envelope")),
            };
            let mut bytes = ClientFrame::new(2 + random.next() % 9, body).to_bytes().to_vec();
            for _ in 0..1 + random.below(3) {
                let at = random.below(bytes.len());
                match random.below(3) {
                    0 => bytes[at] ^= 1 << random.below(8),
                    1 => bytes.truncate(at + 1),
                    _ => bytes.insert(at, random.next() as u8),
                }
            }
            client.raw(binary(bytes)).await;
        }
    }
    world.anonymous().await.send(&mailbox.permit(), b"the relay lives").await;
}

#[tokio::test]
async fn a_client_that_says_nothing_loses_nobody_elses_time() {
    let world = World::start().await;
    let (mailbox, _owner) = world.mailbox(1).await;
    let _silent = Client::silent(&world.url()).await;
    world.anonymous().await.send(&mailbox.permit(), b"one").await;
    assert!(matches!(world.owner().await.try_open(&mailbox).await, S::Done(_)));
}
