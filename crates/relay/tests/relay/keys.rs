//! *Gone means the key is gone*: what whoever takes every file of a relay can still open, before and after (P2).

use std::path::{Path, PathBuf};

use bulla_protocol::limits::RETENTION_DAYS;
use bulla_protocol::permit::Class;
use bulla_relay::disclose;

use crate::common::*;

const DAY: u64 = 86_400;

/// A copy of everything in the data folder, as of a disk that was taken away.
fn image(of: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let (kind, to) = (entry.file_type().unwrap(), to.join(entry.file_name()));
            if kind.is_dir() {
                copy(&entry.path(), &to);
            } else if kind.is_file() {
                std::fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    let image = tempfile::tempdir().unwrap();
    copy(of, image.path());
    image
}

/// The texts of all envelopes that can be opened, with a store of one image and the keys of another: a store keeps what was deleted for long, and
/// here it keeps all of it.
async fn opens(store: &tempfile::TempDir, keys: &tempfile::TempDir) -> Vec<String> {
    let both = image(store.path());
    std::fs::copy(keys.path().join("keys"), both.path().join("keys")).unwrap();
    let folder: PathBuf = both.path().to_owned();
    let found = tokio::task::spawn_blocking(move || disclose::from_folder(&folder, None)).await.unwrap().unwrap();
    let envelopes = found.mailboxes.iter().flat_map(|mailbox| &mailbox.envelopes);
    let text = |hex: &str| String::from_utf8(data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()).unwrap();
    let mut texts: Vec<_> = envelopes.map(|envelope| text(&envelope.envelope)).collect();
    texts.sort();
    texts
}

/// The keys in a key file.
fn keys_in(image: &tempfile::TempDir) -> Vec<Vec<u8>> {
    let file = std::fs::read(image.path().join("keys")).unwrap();
    file.chunks(64).map(|slot| slot[17..49].to_vec()).filter(|key| key.iter().any(|byte| *byte != 0)).collect()
}

/// Waits until so many envelopes are left, and has the relay destroy what is to go.
async fn destroys_what_is_over(world: &World, mailbox: &Mailbox, left: usize) {
    world.stored_becomes(mailbox, left).await;
    // A row is gone a moment before its key is known to be over. To open a mailbox waits behind that.
    let mut owner = world.owner().await;
    owner.open(mailbox).await;
    owner.close().await;
    world.relay.as_ref().unwrap().destroy_keys().await.unwrap();
}

fn lies_in(folder: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return lies_in(&path, needle);
        }
        std::fs::read(&path).is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
    })
}

#[tokio::test]
async fn p2_what_was_acknowledged_or_is_over_opens_for_nobody_who_takes_every_file() {
    let world = World::start().await;
    let (read, mut owner) = world.mailbox(1).await;
    let (unread, _away) = world.mailbox(2).await;
    let mut sender = world.anonymous().await;
    for text in ["one", "two"] {
        sender.send(&read.permit(), text.as_bytes()).await;
    }
    sender.send(&unread.permit(), b"three").await;
    let before = image(&world.config.data);
    assert_eq!(opens(&before, &before).await, ["one", "three", "two"], "the control: what waits can be opened");
    assert!(!world.on_disk(b"three"), "but not without the keys");

    // Read and acknowledged.
    let subscription = owner.subscribe(&read).await;
    assert_eq!(owner.texts(2).await, ["one", "two"]);
    owner.ack(subscription, 2).await;
    destroys_what_is_over(&world, &read, 0).await;
    let drained = image(&world.config.data);
    assert_eq!(opens(&before, &drained).await, ["three"], "what was not acknowledged still opens");
    let (had, has) = (keys_in(&before), keys_in(&drained));
    assert_eq!((had.len(), has.len()), (3, 2), "a day, and two backlogs of which one is left");
    for gone in had.iter().filter(|key| !has.contains(key)) {
        assert!(!lies_in(drained.path(), gone), "the key is in some other file");
        assert!(lies_in(before.path(), gone), "the control: the search finds it where it was");
    }

    // What comes next has a key of its own.
    let fresh = read.given(Class::Ordinary, |permit| permit.expires = u32::MAX);
    owner.close().await;
    sender.send(&fresh, b"four").await;
    let refilled = image(&world.config.data);
    assert_eq!(opens(&refilled, &refilled).await, ["four", "three"]);
    assert_eq!(opens(&before, &refilled).await, ["three"]);

    // Thirty days later.
    world.clock.advance(u64::from(RETENTION_DAYS + 1) * DAY);
    world.relay.as_ref().unwrap().sweep().await.unwrap();
    let over = image(&world.config.data);
    assert!(opens(&before, &over).await.is_empty() && opens(&refilled, &over).await.is_empty());
    world.relay.as_ref().unwrap().destroy_keys().await.unwrap();
    assert!(keys_in(&image(&world.config.data)).is_empty(), "nothing waits, and there is no key");
}

#[tokio::test]
async fn p2_a_relay_that_was_killed_destroys_at_its_start_what_it_had_no_time_for() {
    let mut world = World::start().await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    let mut sender = world.anonymous().await;
    sender.send(&mailbox.permit(), b"one").await;
    let before = image(&world.config.data);
    let subscription = owner.subscribe(&mailbox).await;
    owner.texts(1).await;
    owner.ack(subscription, 1).await;
    world.stored_becomes(&mailbox, 0).await;
    assert_eq!(keys_in(&image(&world.config.data)).len(), 2, "there was no time yet");
    world.restart().await;
    let after = image(&world.config.data);
    assert!(opens(&before, &after).await.is_empty());
    assert_eq!(keys_in(&after).len(), 1, "the day's");
}

/// Readers that come, confirm and go at random, and restarts: a key never goes before its rows.
#[tokio::test]
async fn no_key_goes_before_its_rows() {
    let mut world = World::start().await;
    let (mailbox, owner) = world.mailbox(1).await;
    owner.close().await;
    let mut next = 0_u32;
    let mut unread: Vec<String> = Vec::new();
    for round in 0..40_u32 {
        let mut sender = world.anonymous().await;
        for _ in 0..round % 4 {
            sender.send(&mailbox.permit(), next.to_string().as_bytes()).await;
            unread.push(next.to_string());
            next += 1;
        }
        sender.close().await;
        let mut owner = world.owner().await;
        owner.open(&mailbox).await;
        let subscription = owner.subscribe(&mailbox).await;
        assert_eq!(owner.texts(unread.len()).await, unread, "round {round}");
        // Some of it, or all.
        let taken = unread.len() - (round as usize * 7 % 3).min(unread.len());
        if taken > 0 {
            owner.ack(subscription, taken as u64).await;
            unread.drain(..taken);
        }
        owner.close().await;
        destroys_what_is_over(&world, &mailbox, unread.len()).await;
        if round % 5 == 0 {
            world.restart().await;
        }
        let keys = keys_in(&image(&world.config.data)).len();
        let (day, waits) = (usize::from(next > 0), usize::from(!unread.is_empty()));
        assert_eq!(keys, day + waits, "round {round}: the day's, and one of what waits");
    }
    assert!(next > 50);
}
