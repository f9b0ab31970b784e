//! malformed and mutated frames against the program that runs, while honest clients write and read.

use std::time::{Duration, Instant};

use bulla_protocol::frame::{
    Ack, ClientFrame, ClientHello, DeleteMailbox, PublishBundle, ReadSlot, Revoke, Role, Subscribe,
    client_frame::Body as C,
};
use bulla_protocol::id::GrantId;
use bulla_protocol::permit::Class;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;

use crate::common::*;
use crate::disk::memory;
use crate::program::Process;

/// Frames of one round.
const FRAMES: usize = 1_000;

/// Memory that it takes of the system, in KiB.
fn resident(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Some frame, right in form and of a peer that has nothing to lose.
fn frame(client: &Client, mailbox: &Mailbox, random: &mut Random) -> C {
    let id = mailbox.id.to_vec();
    match random.below(12) {
        0 => C::Create(client.create_frame(&Mailbox::new(100 + random.below(8) as u8))),
        1 => C::Open(client.open_frame(&mailbox.raised(random.next() % 5, 7))),
        2 => C::Subscribe(Subscribe { mailboxes: vec![id; random.below(4)] }),
        3 => C::Ack(Ack { subscription: random.next() % 4, through: random.next() }),
        4 => C::Revoke(Revoke { mailbox: id, grant: vec![1 + random.below(200) as u8; 16] }),
        5 => C::ClaimSlot(client.claim_frame(slot(random.next() % 16), b"commit")),
        6 => C::ReadSlot(ReadSlot { slot: slot(random.next() % 32).to_vec() }),
        7 => C::PublishBundle(PublishBundle { mailbox: id, bundle: vec![1; random.below(20_000)] }),
        8 => C::DeleteMailbox(DeleteMailbox { mailbox: vec![9; 16] }),
        9 => C::Hello(ClientHello { version: 1, role: random.below(4) as i32 }),
        10 => C::Send(client.send_frame(&mailbox.contact(), send_id(), b"hello")),
        _ => C::Send(client.send_frame(&mailbox.permit(), send_id(), &vec![5; random.below(2_000)])),
    }
}

/// Bytes changed, cut off, doubled, put in, or made up altogether.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len().max(1)).min(bytes.len());
        match random.below(6) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            1 => bytes.truncate(at),
            2 => bytes.insert(at, random.next() as u8),
            3 => {
                let again = bytes[at..].to_vec();
                bytes.extend(again);
            }
            4 => bytes.splice(at..at, [0xff; 9].into_iter().take(1 + random.below(9))).for_each(drop),
            _ if random.below(20) == 0 => *bytes = (0..random.below(300)).map(|_| random.next() as u8).collect(),
            _ => {}
        }
    }
}

/// One peer: frames without waiting for answers, then the end.
async fn attack(url: &str, mailbox: &Mailbox, frames: usize, random: &mut Random) {
    let role = if random.below(2) == 0 { Role::Owner } else { Role::Anonymous };
    let Some(mut client) = Client::connect_if_up(url, role).await else { panic!("the relay is gone") };
    for _ in 0..frames {
        let body = frame(&client, mailbox, random);
        let mut bytes = ClientFrame::new(random.next() % 6, body).to_bytes().to_vec();
        mutate(&mut bytes, random);
        client.raw(Message::Binary(bytes.into())).await;
    }
    // So that the relay is who closes.
    client.raw(Message::text("end")).await;
    while client.frame().await.is_some() {}
}

/// Writes to a mailbox and reads it, until told to stop: how long each took.
async fn honest(url: String, stop: watch::Receiver<bool>) -> Vec<Duration> {
    let mailbox = Mailbox::new(200);
    // As many grants as it takes, so that no rate is met.
    let given = |n: u64| {
        mailbox.given(Class::Ordinary, |permit| {
            permit.expires = u32::MAX;
            permit.grant = GrantId::new([(n / 10_000 % 200) as u8; 16]);
        })
    };
    let (mut owner, mut sender) =
        (Client::connect(&url, Role::Owner).await, Client::connect(&url, Role::Anonymous).await);
    owner.create(&mailbox).await;
    owner.open(&mailbox).await;
    let subscription = owner.live(&mailbox).await;
    let mut took = Vec::new();
    for n in 1_u64.. {
        let began = Instant::now();
        let words = n.to_string();
        let request = sender.begin_send(&given(n), words.as_bytes()).await;
        let deliver = owner.deliver().await;
        assert_eq!((text(&deliver), deliver.number), (words, n), "an honest reader gets what an honest sender sent");
        owner.ack(subscription, n).await;
        sender.accepted(request).await;
        took.push(began.elapsed());
        if *stop.borrow() {
            break;
        }
        tokio::task::yield_now().await;
    }
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_10_whatever_peers_send_the_relay_goes_on_and_nobody_else_notices() {
    const GROWS_KIB: u64 = 64 * 1024;
    let rounds = Rounds::of(20);
    let folder = memory();
    let process = Process::start(&folder.path().join("relay"), "error", NAME);
    let mailbox = Mailbox::new(1);
    Client::connect(&process.url, Role::Owner).await.create(&mailbox).await;
    let (stop, stopped) = watch::channel(false);
    let honest = tokio::spawn(honest(process.url.clone(), stopped));
    // The first of them make room for everything that is kept for all.
    let mut warm = rounds.random(u64::MAX - 1);
    for _ in 0..50 {
        attack(&process.url, &mailbox, 5, &mut warm).await;
    }
    let before = resident(&process);
    let mut most = before;
    for round in rounds.all() {
        let mut random = rounds.random(round);
        let mut left = FRAMES;
        while left > 0 {
            let frames = (1 + random.below(12)).min(left);
            attack(&process.url, &mailbox, frames, &mut random).await;
            left -= frames;
        }
        most = most.max(resident(&process));
        assert!(most < before + GROWS_KIB, "{rounds}, round {round}: {before} KiB were {most} KiB");
        assert!(!honest.is_finished(), "{rounds}, round {round}: an honest client was disturbed");
        rounds.held(round);
    }
    stop.send(true).unwrap();
    let mut took = tokio::time::timeout(GUARD, honest).await.unwrap().unwrap();
    took.sort();
    let log = process.terminate();
    assert!(!log.contains("panicked"), "{log}");
    println!(
        "figure: {} frames; {before} KiB before, {most} at most; {} honest messages, median {:.1} ms, 99 of 100 within {:.1} ms, longest {:.0} ms",
        rounds.count() as usize * FRAMES,
        took.len(),
        took[took.len() / 2].as_secs_f64() * 1e3,
        took[took.len() * 99 / 100].as_secs_f64() * 1e3,
        took[took.len() - 1].as_secs_f64() * 1e3,
    );
}
