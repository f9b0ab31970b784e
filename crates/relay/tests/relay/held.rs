//! What a relay holds, for how long, and what it shows of that: expiry, bundles, `disclose`, routes (P2, P4).

use bulla_protocol::frame::{Code, Gap, PublishBundle, client_frame::Body as C, server_frame::Body as S};
use bulla_protocol::limits::{MAX_BUNDLE, RETENTION_DAYS};
use bulla_relay::disclose;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::*;

const DAY: u64 = 86_400;

#[tokio::test]
async fn what_nobody_read_for_thirty_days_goes_and_leaves_a_gap() {
    let mut world = World::start().await;
    let (mailbox, owner) = world.mailbox(1).await;
    owner.close().await;
    let mut sender = world.anonymous().await;
    for text in ["one", "two", "three"] {
        sender.send(&mailbox.permit(), text.as_bytes()).await;
    }
    // The last moment of the thirtieth day: everything is there.
    world.clock.advance(u64::from(RETENTION_DAYS) * DAY + DAY / 2 - 1);
    world.relay.as_ref().unwrap().sweep().await.unwrap();
    assert_eq!(world.stored(&mailbox).await, 3);
    let fresh = mailbox.given(bulla_protocol::permit::Class::Ordinary, |permit| permit.expires = u32::MAX);
    sender.send(&fresh, b"four").await;
    world.clock.advance(1);
    world.relay.as_ref().unwrap().sweep().await.unwrap();
    assert_eq!(world.stored(&mailbox).await, 1);

    // The gap outlives a restart, comes before what follows, and is acknowledged like an envelope.
    world.restart().await;
    let mut owner = world.owner().await;
    owner.open(&mailbox).await;
    let subscription = owner.subscribe(&mailbox).await;
    assert_eq!(owner.event().await, S::Gap(Gap { subscription, number: 1, envelopes: 3 }));
    let deliver = owner.deliver().await;
    assert_eq!((deliver.number, text(&deliver).as_str()), (2, "four"));
    assert!(matches!(owner.event().await, S::CaughtUp(_)));
    owner.ack(subscription, 1).await;
    owner.ping().await;
    let again = owner.subscribe(&mailbox).await;
    let deliver = owner.deliver().await;
    assert_eq!((deliver.subscription, deliver.number), (again, 1));
}

#[tokio::test]
async fn a_reader_that_comes_before_the_sweep_is_not_given_what_is_over() {
    let world = World::start().await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    let mut sender = world.anonymous().await;
    sender.send(&mailbox.permit(), b"one").await;
    sender.send(&mailbox.permit(), b"two").await;
    world.clock.advance(u64::from(RETENTION_DAYS + 1) * DAY);
    let subscription = owner.subscribe(&mailbox).await;
    assert_eq!(owner.event().await, S::Gap(Gap { subscription, number: 1, envelopes: 2 }));
    assert!(matches!(owner.event().await, S::CaughtUp(_)));
    // The sweep that comes after it does not count them again.
    world.relay.as_ref().unwrap().sweep().await.unwrap();
    world.stored_becomes(&mailbox, 0).await;
    assert_eq!(world.disclose().await.mailboxes[0].gap, 2);
    owner.ack(subscription, 1).await;
    owner.ping().await;
    world.stored_becomes(&mailbox, 0).await;
    owner.live(&mailbox).await;
}

#[tokio::test]
async fn what_expires_unconfirmed_is_a_gap_only_for_who_never_confirmed_it() {
    let world = World::start().await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    let mut sender = world.anonymous().await;
    for text in ["one", "two"] {
        sender.send(&mailbox.permit(), text.as_bytes()).await;
    }
    let subscription = owner.subscribe(&mailbox).await;
    assert_eq!(owner.texts(2).await, ["one", "two"]);
    world.clock.advance(u64::from(RETENTION_DAYS + 1) * DAY);
    world.relay.as_ref().unwrap().sweep().await.unwrap();
    world.stored_becomes(&mailbox, 0).await;
    owner.ack(subscription, 1).await;
    assert!(matches!(owner.event().await, S::CaughtUp(_)));
    let again = owner.subscribe(&mailbox).await;
    assert_eq!(owner.event().await, S::Gap(Gap { subscription: again, number: 1, envelopes: 1 }));
}

/// One HTTP request on a connection of its own; the whole answer.
async fn http(world: &World, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(world.relay.as_ref().unwrap().addr()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_contact_bundle_is_published_fetched_replaced_and_removed() {
    let mut world = World::start().await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    let path = format!("/v1/bundles/{}", mailbox.id.to_hex());
    assert!(http(&world, &path).await.starts_with("HTTP/1.1 404"));
    let publish =
        |bundle: &[u8]| C::PublishBundle(PublishBundle { mailbox: mailbox.id.to_vec(), bundle: bundle.to_vec() });
    assert!(matches!(owner.ask(publish(b"the first bundle")).await, S::Done(_)));
    assert!(matches!(owner.ask(publish(b"the second bundle")).await, S::Done(_)));
    assert_eq!(owner.ask(publish(&[0; MAX_BUNDLE + 1])).await, failed(Code::TooLarge));
    world.restart().await;
    let answer = http(&world, &path).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("content-type: application/vnd.bulla.bundle\r\n"), "{answer}");
    assert!(answer.contains("cache-control: public, max-age=300\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nthe second bundle"), "{answer}");
    let mut owner = world.owner().await;
    owner.open(&mailbox).await;
    assert!(matches!(owner.ask(publish(b"")).await, S::Done(_)));
    assert!(http(&world, &path).await.starts_with("HTTP/1.1 404"));
}

/// MLS-09, KEY-01: a bundle has one KeyPackage, and whoever fetches it takes nothing away. Neither what the relay keeps nor its owner's
/// connection shows that anybody has.
#[tokio::test]
async fn mls_09_ten_thousand_fetches_of_a_bundle_change_nothing_and_are_told_to_nobody() {
    const CONNECTIONS: usize = 50;
    const EACH: usize = 200;
    let world = World::start().await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    owner.live(&mailbox).await;
    let bundle = PublishBundle { mailbox: mailbox.id.to_vec(), bundle: b"the one KeyPackage".to_vec() };
    owner.ask(C::PublishBundle(bundle)).await;
    let before = world.disclose().await;
    let path = format!("/v1/bundles/{}", mailbox.id.to_hex());
    let last = format!("GET {path} HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n");
    let request = format!("GET {path} HTTP/1.1\r\nhost: relay\r\n\r\n").repeat(EACH - 1) + &last;
    let mut fetched = 0;
    for _ in 0..CONNECTIONS {
        let mut stream = tokio::net::TcpStream::connect(world.relay.as_ref().unwrap().addr()).await.unwrap();
        let (mut read, mut write) = stream.split();
        let mut answers = Vec::new();
        let (_, asked) = tokio::join!(read.read_to_end(&mut answers), write.write_all(request.as_bytes()));
        asked.unwrap();
        fetched += String::from_utf8_lossy(&answers).matches("\r\n\r\nthe one KeyPackage").count();
    }
    assert_eq!(fetched, CONNECTIONS * EACH);
    assert_eq!(world.disclose().await, before);
    owner.ping().await;
    assert!(owner.has_no_event(), "nobody is told");
}

#[tokio::test]
async fn the_routes_are_few_and_none_serves_a_page() {
    let world = World::start().await;
    assert!(http(&world, "/health").await.ends_with("\r\n\r\nok\n"));
    for path in [
        "/",
        "/index.html",
        "/v1",
        "/v1/ws",
        "/v1/bundles",
        "/v1/bundles/x",
        "/v1/blobs",
        "/v1/blobs/x/0",
        "/v1/blobs/x",
        "/app.js",
        "/health/x",
    ] {
        let answer = http(&world, path).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
        let lower = answer.to_lowercase();
        assert!(!lower.contains("html") && !lower.contains("script"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn disclose_tells_the_same_of_a_running_and_a_stopped_relay() {
    let mut world = World::start().await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    world.mailbox(2).await.1.close().await;
    let mut sender = world.anonymous().await;
    sender.send(&mailbox.permit(), b"one").await;
    sender.send(&mailbox.contact(), b"two").await;
    owner.revoke(&mailbox, bulla_protocol::id::GrantId::new([66; 16])).await;
    let bundle = PublishBundle { mailbox: mailbox.id.to_vec(), bundle: vec![0xab] };
    owner.ask(C::PublishBundle(bundle)).await;

    assert_eq!(sender.claim(slot(1), b"commit").await, won());

    let running = world.disclose().await;
    world.stop().await;
    let stopped = world.disclose().await;
    assert_eq!(running, stopped);
    assert_eq!(running.mailboxes.len(), 2);
    let held = &running.mailboxes[0];
    assert_eq!(held.revoked_grants, ["42".repeat(16)]);
    assert_eq!(held.bundle.as_deref(), Some("ab"));
    let classes: Vec<_> = held.envelopes.iter().map(|envelope| (envelope.order, envelope.class.as_str())).collect();
    assert_eq!(classes, [(1, "ordinary"), (2, "contact")]);
    let claimed = &running.slots[..];
    let day = (START / DAY) as u32 + bulla_protocol::limits::SLOT_DAYS;
    assert_eq!(
        claimed.iter().map(|s| (&s.slot, s.last_day, s.bytes)).collect::<Vec<_>>(),
        [(&slot(1).to_hex(), day, 6)]
    );
    let only = disclose::from_folder(&world.config.data, Some(mailbox.id)).unwrap();
    assert_eq!(only.mailboxes, std::slice::from_ref(held));
    assert_eq!(only.slots, [], "nothing says whose a slot is");
}

/// P4: the fields that `disclose` prints are those of the published list, and the list names no other.
#[tokio::test]
async fn p4_disclose_prints_exactly_the_published_fields() {
    fn fields(value: &serde_json::Value, out: &mut std::collections::BTreeSet<String>) {
        match value {
            serde_json::Value::Object(object) => {
                for (name, value) in object {
                    out.insert(name.clone());
                    fields(value, out);
                }
            }
            serde_json::Value::Array(values) => values.iter().for_each(|value| fields(value, out)),
            _ => {}
        }
    }
    let world = World::start().await;
    let (mailbox, _owner) = world.mailbox(1).await;
    let mut sender = world.anonymous().await;
    sender.send(&mailbox.permit(), b"one").await;
    assert_eq!(sender.claim(slot(1), b"commit").await, won());
    crate::blobs::Blob::new(1, 5).create(&world, &mailbox.permit()).await;
    let mut printed = Default::default();
    fields(&serde_json::to_value(world.disclose().await).unwrap(), &mut printed);

    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metadata.md")).unwrap();
    let table = page.split("<!-- disclose -->").nth(1).expect("the list is between two marks");
    let published: std::collections::BTreeSet<String> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(printed, published);
}
