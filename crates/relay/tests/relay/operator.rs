//! What an operator sees of a relay that runs: how it stops, whether it is well, its numbers.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use bulla_protocol::frame::{Role, server_frame::Body as S};
use bulla_protocol::id::SlotId;
use bulla_relay::metrics::LABELS;

use crate::common::*;
use crate::program::{Certificate, Process};

/// "Service Restart".
const RESTART: u16 = 1012;

/// A request as anybody makes it; status and body.
pub(crate) fn http(addr: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let (status, _) = head.strip_prefix("HTTP/1.1 ").unwrap().split_once(' ').unwrap();
    // Whatever its length, it is one piece.
    let body = if head.to_lowercase().contains("transfer-encoding") { panic!("{head}") } else { body };
    (status.parse().unwrap(), body.to_owned())
}

/// A permit that is good for a real clock, too.
pub(crate) fn lasting(mailbox: &Mailbox) -> Given {
    mailbox.given(bulla_protocol::permit::Class::Ordinary, |permit| permit.expires = u32::MAX)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_stores_what_was_not_confirmed_and_answers_who_sent_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("relay");
    let process = Process::start(&data, "warn", NAME);
    let mailbox = Mailbox::new(1);
    let mut owner = Client::connect(&process.url, Role::Owner).await;
    owner.create(&mailbox).await;
    owner.open(&mailbox).await;
    owner.subscribe(&mailbox).await;
    assert!(matches!(owner.event().await, S::CaughtUp(_)));
    let mut sender = Client::connect(&process.url, Role::Anonymous).await;
    // Handed over in memory, and confirmed by nobody.
    let mut on_their_way = Vec::new();
    for text in ["one", "two", "three"] {
        on_their_way.push(sender.begin_send(&lasting(&mailbox), text.as_bytes()).await);
    }
    assert_eq!(owner.texts(3).await, ["one", "two", "three"]);
    process.signal();
    for request in on_their_way {
        sender.accepted(request).await;
    }
    for client in [&mut sender, &mut owner] {
        client.until_closed().await;
        assert_eq!(client.closed, Some(RESTART));
    }
    process.ended();

    let process = Process::start(&data, "warn", NAME);
    let mut owner = Client::connect(&process.url, Role::Owner).await;
    owner.open(&mailbox).await;
    owner.subscribe(&mailbox).await;
    assert_eq!(owner.texts(3).await, ["one", "two", "three"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_it_drains_it_says_so_and_a_second_signal_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let more = ["--metrics", "127.0.0.1:0", "--drain-secs", "60"].map(Path::new);
    let mut process = Process::start_with(&dir.path().join("relay"), "warn", NAME, &more);
    assert_eq!(http(&process.metrics, "/health"), (200, "ok\n".to_owned()));
    assert_eq!(http(&process.listen, "/health"), (200, "ok\n".to_owned()), "as before");
    assert_eq!(http(&process.listen, "/metrics").0, 404, "not for who reaches the relay");
    // A request that does not end: its head was understood, since its body is asked for.
    let mut slow = TcpStream::connect(&process.listen).unwrap();
    let head = "POST /v1/blobs HTTP/1.1\r\nHost: relay\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n";
    slow.write_all(head.as_bytes()).unwrap();
    let mut go_on = [0; 12];
    slow.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100");
    process.signal();
    let draining = async {
        while http(&process.metrics, "/health") != (503, "draining\n".to_owned()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(GUARD, draining).await.expect("it never said that it drains");
    assert!(process.child.try_wait().unwrap().is_none(), "it waits for the request");
    let closed = async {
        while TcpStream::connect(&process.listen).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(GUARD, closed).await.expect("nobody new comes in");
    process.signal();
    let status = process.child.wait().unwrap();
    assert_eq!(status.code(), Some(1));
    let mut log = String::new();
    process.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("ended at once"), "{log}");
}

/// Names with labels, as they stand, and their values.
fn numbers(addr: &str) -> (String, BTreeMap<String, f64>) {
    let (status, text) = http(addr, "/metrics");
    assert_eq!(status, 200);
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut all = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(all.insert(name.to_owned(), value.parse().unwrap()).is_none(), "{name} twice");
    }
    (text, all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_numbers_follow_the_traffic_and_name_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let more = ["--metrics", "127.0.0.1:0"].map(Path::new);
    let process = Process::start_with(&dir.path().join("relay"), "warn", NAME, &more);
    let (_, before) = numbers(&process.metrics);
    for name in ["accepted_total{way=\"stored\"}", "rows_spilled_total", "refusals_total{code=\"refused\"}"] {
        assert_eq!(before[&format!("bulla_relay_{name}")], 0.0, "{name}");
    }
    let mailbox = Mailbox::new(0xc7);
    let mut owner = Client::connect(&process.url, Role::Owner).await;
    owner.create(&mailbox).await;
    owner.open(&mailbox).await;
    let mut sender = Client::connect(&process.url, Role::Anonymous).await;
    sender.send(&lasting(&mailbox), b"stored").await;
    let subscription = owner.subscribe(&mailbox).await;
    assert_eq!(owner.texts(1).await, ["stored"]);
    assert!(matches!(owner.event().await, S::CaughtUp(_)));
    owner.ack(subscription, 1).await;
    let live = sender.begin_send(&lasting(&mailbox), b"handed over").await;
    assert_eq!(owner.texts(1).await, ["handed over"]);
    owner.ack(subscription, 2).await;
    sender.accepted(live).await;
    let spilled = sender.begin_send(&lasting(&mailbox), b"spilled").await;
    assert_eq!(owner.texts(1).await, ["spilled"]);
    let owner_port = owner.port();
    owner.close().await;
    sender.accepted(spilled).await;
    assert_eq!(code(&sender.try_send(&Mailbox::new(0xc8).permit(), b"x").await), bulla_protocol::frame::Code::Refused);
    let claimed = SlotId::new([0xd3; 32]);
    assert_eq!(sender.claim(claimed, b"commit").await, won());
    let silent = Client::silent(&process.url).await;

    let all_expected = [
        ("connections{role=\"anonymous\"}", 1.0),
        ("connections{role=\"owner\"}", 0.0),
        ("connections{role=\"greeting\"}", 1.0),
        ("connections_turned_away_total", 0.0),
        ("accepted_total{way=\"handed_over\"}", 1.0),
        ("accepted_total{way=\"stored\"}", 2.0),
        ("rows_stored_total", 2.0),
        ("rows_spilled_total", 1.0),
        ("refusals_total{code=\"refused\"}", 1.0),
        ("refusals_total{code=\"denied\"}", 0.0),
        ("slot_bytes", 134.0),
        ("blob_bytes", 0.0),
        ("memory_bytes", 0.0),
        ("memory_limit_bytes", 512.0 * 1024.0 * 1024.0),
        ("mailboxes_loaded", 1.0),
        ("handshakes_refused_total", 0.0),
    ];
    // What an answer or a closed connection leaves is counted a moment after its client has seen it.
    let begun = std::time::Instant::now();
    let (text, after) = loop {
        let (text, after) = numbers(&process.metrics);
        let missing = all_expected.iter().find(|(name, value)| after[&format!("bulla_relay_{name}")] != *value);
        match missing {
            None => break (text, after),
            Some(missing) => assert!(begun.elapsed() < GUARD, "{missing:?} is not in {text}"),
        }
        tokio::task::yield_now().await;
    };
    let count = |all: &BTreeMap<String, f64>, name: &str| all[&format!("bulla_relay_{name}_count")];
    assert!(count(&after, "sync_seconds") > count(&before, "sync_seconds"));
    assert_eq!(count(&after, "sync_seconds"), count(&after, "group_changes"));

    // Nothing in it is anybody's.
    let metadata = include_str!("../../../../docs/metadata.md");
    let documented = metadata.split("<!-- metrics -->").nth(1).expect("a table of metrics");
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE bulla_relay_")) {
        let name = line.split(' ').next().unwrap();
        assert!(documented.contains(&format!("| `{name}`")), "{name} is not in docs/metadata.md");
    }
    let mut labels = 0;
    for name in after.keys() {
        let Some((_, inside)) = name.trim_end_matches('}').split_once('{') else { continue };
        for label in inside.split(',') {
            let (label, value) = label.split_once('=').unwrap();
            assert!(LABELS.contains(&label), "a label {label}");
            let value = value.trim_matches('"');
            let harmless =
                value.chars().all(|c| c.is_ascii_lowercase() || c == '_') || label == "version" || label == "le";
            assert!(harmless, "{label} is {value}");
            labels += 1;
        }
    }
    assert!(labels > 20);
    let ports = [owner_port, sender.port(), silent.port()].map(|port| port.to_string());
    for token in text.split(|c: char| !c.is_ascii_alphanumeric()) {
        assert!(!ports.iter().any(|port| port == token), "a client's port {token} in {text}");
    }
    for secret in [
        "127.0.0.1",
        NAME,
        &mailbox.id.to_hex()[..8],
        &lasting(&mailbox).permit.grant.to_hex()[..16],
        &claimed.to_hex()[..8],
        &process.listen,
    ] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_fail_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let tls = Certificate::new(dir.path());
    let more = [&tls.flags()[..], &["--metrics", "127.0.0.1:0"].map(Path::new)].concat();
    let process = Process::start_with(&dir.path().join("relay"), "warn", NAME, &more);
    let mut stranger = TcpStream::connect(&process.listen).unwrap();
    stranger.write_all(b"\x16\x03\x01\x00\x05hello").unwrap();
    stranger.set_read_timeout(Some(GUARD)).unwrap();
    let _ = stranger.read_to_end(&mut Vec::new());
    let counted = async {
        while numbers(&process.metrics).1["bulla_relay_handshakes_refused_total"] != 1.0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(GUARD, counted).await.expect("it is not counted");
}
