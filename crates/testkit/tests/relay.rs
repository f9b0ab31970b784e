//! The relay alone, as a real program: what of the promises can be seen from outside of it, without any end-to-end part.

use anyhow::Result;
use bulla_protocol::id::SlotId;
use bulla_testkit::canary::{Canary, Scanner};
use bulla_testkit::chance::Chance;
use bulla_testkit::process::turn;
use bulla_testkit::relay::{Claimant, Claimed, Mailbox, Owner, RelayProgram, Sender};
use bytes::Bytes;
use rand_core::OsRng;

const MESSAGES: u64 = 1_000;

/// An envelope of 1 KiB with a canary in it: to the relay it is opaque anyhow.
fn envelope(canary: &Canary, number: u64) -> Bytes {
    let mut bytes = canary.text(number).into_bytes();
    bytes.resize(1_024, b' ');
    bytes.into()
}

/// P2: what a connected reader confirms in time is never written to the relay's disk, while the relay runs or after; what waits for a
/// reader who is away is, sealed (the positive control: the same scan finds what is not sealed).
#[tokio::test(flavor = "multi_thread")]
async fn p2_what_a_connected_reader_confirms_never_touches_the_disk() -> Result<()> {
    let _turn = turn()?;
    let relay = RelayProgram::start().await?;
    let mut rng = Chance::new(2);
    let (live, away) = (Canary::new(&mut OsRng), Canary::new(&mut OsRng));
    let scanner = Scanner::new([&live]);

    let mailbox = Mailbox::new(&mut OsRng);
    let mut owner = Owner::create(relay.url(), &mailbox).await?;
    owner.subscribe(&mailbox).await?;
    owner.live().await?;
    let mut sender = Sender::connect(relay.url(), &mailbox).await?;
    let before = scanner.files(&relay.data())?.bytes;
    for number in 0..MESSAGES {
        sender.begin(&mut rng, envelope(&live, number)).await?;
        let deliver = owner.deliver().await?;
        owner.ack(deliver.number).await?;
        sender.accepted().await?;
    }
    let scan = scanner.files(&relay.data())?;
    scan.must_be_clean("the relay's files after hand-over")?;
    let grown = scan.bytes.saturating_sub(before);
    assert!(grown < MESSAGES * 100, "handed over in memory, and yet the store grew by {grown} bytes");

    let other = Mailbox::new(&mut OsRng);
    let _reader_is_away = Owner::create(relay.url(), &other).await?;
    let mut sender = Sender::connect(relay.url(), &other).await?;
    for number in 0..MESSAGES {
        sender.begin(&mut rng, envelope(&away, number)).await?;
        while sender.in_flight() >= 128 {
            sender.accepted().await?;
        }
    }
    while sender.in_flight() > 0 {
        sender.accepted().await?;
    }
    let stored = Scanner::new([&away]).files(&relay.data())?;
    stored.must_be_clean("the relay's files, in which it waits sealed")?;
    std::fs::write(relay.data().join("control"), envelope(&away, 0))?;
    let found = Scanner::new([&away]).files(&relay.data())?.findings.len();
    assert_eq!(found, 1, "the positive control: what is not sealed is found");
    let mut reader = Owner::open(relay.url(), &other).await?;
    reader.subscribe(&other).await?;
    for number in 0..MESSAGES {
        let deliver = reader.deliver().await?;
        assert_eq!(deliver.envelope, envelope(&away, number), "what waited comes out whole");
        reader.ack(deliver.number).await?;
    }
    println!(
        "figure: {MESSAGES} envelopes confirmed by a connected reader: 0 found in {} bytes of the relay's files",
        scan.bytes
    );
    println!("figure: {MESSAGES} envelopes for an absent reader: 0 found in the same files, and all came out whole");
    Ok(())
}

/// P4: what the relay logs at TRACE and what it holds name nobody: the envelope's bytes, the permit's MAC and the addresses are not in
/// its log, nor are a commit slot's id and bytes.
#[tokio::test(flavor = "multi_thread")]
async fn p4_the_relays_log_has_no_envelope_and_no_address() -> Result<()> {
    let _turn = turn()?;
    let relay = RelayProgram::start().await?;
    let mut rng = Chance::new(4);
    let canary = Canary::new(&mut OsRng);
    let mailbox = Mailbox::new(&mut OsRng);
    let mut owner = Owner::create(relay.url(), &mailbox).await?;
    owner.subscribe(&mailbox).await?;
    owner.live().await?;
    let mut sender = Sender::connect(relay.url(), &mailbox).await?;
    for number in 0..100 {
        sender.begin(&mut rng, envelope(&canary, number)).await?;
        let deliver = owner.deliver().await?;
        owner.ack(deliver.number).await?;
        sender.accepted().await?;
    }
    // A slot is claimed, lost and read by two who share its id and nothing else.
    let slot = SlotId::new([0xc5; 32]);
    let (mut first, mut second) = (Claimant::connect(relay.url()).await?, Claimant::connect(relay.url()).await?);
    let commit = envelope(&canary, 100);
    assert_eq!(second.read(&slot).await?, None);
    assert_eq!(first.claim(&slot, commit.clone()).await?, Claimed::Won);
    assert_eq!(second.claim(&slot, envelope(&canary, 101)).await?, Claimed::Lost(commit.clone()));
    assert_eq!(second.read(&slot).await?, Some(commit));
    let log = relay.log();
    assert!(!log.contains(&slot.to_hex()[..8]), "a slot stands in the log:\n{log}");
    Scanner::new([&canary]).bytes("log", format!("{log} ").as_bytes()).must_be_clean("the relay's log")?;
    let own = relay.url().trim_start_matches("ws://").split('/').next().unwrap_or_default().to_owned();
    let others: Vec<_> = log.match_indices("127.0.0.1:").filter(|(at, _)| !log[*at..].starts_with(&own)).collect();
    assert!(others.is_empty(), "a peer's address stands in the log:\n{log}");
    println!("figure: 100 envelopes, {} lines of log at TRACE: no envelope, no peer's address", log.lines().count());
    Ok(())
}
