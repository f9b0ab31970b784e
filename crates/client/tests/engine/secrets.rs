//! Nothing readable rests in an endpoint's folder.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bulla_client::event::{Draft, Status};
use bulla_client::store::Table;
use bulla_client::store::tx::OpenedRow;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::world::{Actor, World};

fn find(folder: &std::path::Path, needle: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if bytes.windows(needle.len()).any(|w| w == needle) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test]
async fn gw_01_no_words_names_or_ids_lie_readable_in_a_folder() {
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut alice, conversation) = world.customer("Wilhelmine", &link).await;
    let said = Draft::Text { body: "the canary sings".into(), reply_to: None };
    let hello = alice.endpoint.send(conversation.id, said).await.unwrap();
    let heard = cortado.incoming().await;
    cortado.endpoint.send(heard.conversation, Draft::Text { body: "so it does".into(), reply_to: None }).await.unwrap();
    alice.incoming().await;
    world.clock.advance(1_000);
    alice.status(hello.id, Status::Delivered).await;
    // With the WAL still there, and once more after it went into the file.
    for _ in 0..2 {
        for folder in [&alice.folder, &cortado.folder] {
            for needle in ["canary", "so it does", "Wilhelmine", conversation.user_id.as_str()] {
                assert_eq!(find(folder, needle.as_bytes()), Vec::<String>::new(), "{needle} lies readable");
            }
            // The scan itself works: it finds what is there to be found.
            assert!(!find(folder, b"SQLite format 3").is_empty());
        }
        alice.endpoint.shutdown().await;
        cortado.endpoint.shutdown().await;
    }
}

const WEEK: u64 = 7 * 86_400_000;

/// Every byte string in a value of which nothing is known, arrays of numbers among them.
#[derive(Default)]
struct Found {
    strings: Vec<Vec<u8>>,
    number: Option<u8>,
}

impl<'de> Deserialize<'de> for Found {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Anything;

        impl<'de> Visitor<'de> for Anything {
            type Value = Found;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("anything")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Found, E> {
                Ok(Found { strings: vec![bytes.to_vec()], number: None })
            }
            fn visit_u64<E>(self, number: u64) -> Result<Found, E> {
                Ok(Found { number: u8::try_from(number).ok(), ..Found::default() })
            }
            fn visit_bool<E>(self, _: bool) -> Result<Found, E> {
                Ok(Found::default())
            }
            fn visit_str<E>(self, _: &str) -> Result<Found, E> {
                Ok(Found::default())
            }
            fn visit_unit<E>(self) -> Result<Found, E> {
                Ok(Found::default())
            }
            fn visit_none<E>(self) -> Result<Found, E> {
                Ok(Found::default())
            }
            fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Found, D::Error> {
                Found::deserialize(inner)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Found, A::Error> {
                let (mut strings, mut numbers) = (Vec::new(), Vec::new());
                while let Some(item) = items.next_element::<Found>()? {
                    strings.extend(item.strings);
                    numbers.extend(item.number);
                }
                strings.push(numbers);
                Ok(Found { strings, number: None })
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Found, A::Error> {
                let mut strings = Vec::new();
                while let Some((key, value)) = entries.next_entry::<Found, Found>()? {
                    strings.extend(key.strings.into_iter().chain(value.strings));
                }
                Ok(Found { strings, number: None })
            }
        }
        from.deserialize_any(Anything)
    }
}

/// Byte strings of 16 bytes and more in what OpenMLS has stored; behind one byte of format it is MessagePack.
pub(crate) fn strings(value: &[u8]) -> BTreeSet<Vec<u8>> {
    let found: Found = rmp_serde::from_slice(&value[1..]).unwrap();
    found.strings.into_iter().filter(|string| string.len() >= 16).collect()
}

/// The strings of an endpoint's rows of OpenMLS's state, by the first byte of their key behind the conversation's number: what they are.
async fn mls_strings(of: &Actor) -> BTreeMap<u8, BTreeSet<Vec<u8>>> {
    by_kind(of.endpoint.with_store(|tx| tx.scan_bytes_prefix(Table::Mls, b"")).await.unwrap())
}

pub(crate) fn by_kind(rows: Vec<OpenedRow>) -> BTreeMap<u8, BTreeSet<Vec<u8>>> {
    let mut found: BTreeMap<u8, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for (key, value) in rows.into_iter().filter(|(key, _)| key[8] >= 10) {
        found.entry(key[8]).or_default().extend(strings(&value));
    }
    found
}

/// The strings of an epoch's secrets, and no others of the same rows: what is public or was there before.
pub(crate) fn secret_strings(rows: &BTreeMap<u8, BTreeSet<Vec<u8>>>) -> BTreeSet<Vec<u8>> {
    let public: BTreeSet<_> = rows.iter().filter(|(kind, _)| !SECRETS.contains(kind)).flat_map(|(_, s)| s).collect();
    let all = SECRETS.iter().filter_map(|kind| rows.get(kind)).flatten();
    // A GroupContext, which begins with version and suite, hides nothing.
    all.filter(|s| !public.contains(s) && !s.starts_with(&[0, 1, 0, 0x4f])).cloned().collect()
}

/// What holds an epoch's secrets: message secrets, epoch secrets, the keys of its path (`bulla_e2ee::storage`).
pub(crate) const SECRETS: [u8; 3] = [19, 22, 25];

/// KEY-11: of an epoch that is two behind, nothing is left: neither in what an endpoint has stored, opened with its own keys, nor in its files.
#[tokio::test]
async fn key_11_no_secret_of_an_epoch_outlives_the_next_one() {
    let world = World::some_days_ago(30).await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut alice, conversation) = world.customer("Alice", &link).await;
    alice.endpoint.send(conversation.id, Draft::Text { body: "hello".into(), reply_to: None }).await.unwrap();
    let number = cortado.incoming().await.conversation;
    let say = |body: &str| Draft::Text { body: body.into(), reply_to: None };
    cortado.endpoint.send(number, say("yes?")).await.unwrap();
    alice.incoming().await;

    // Of both sides: the secrets of the epoch in which they are, and what of that is public or was there before.
    let (mut secrets, mut epochs) = (Vec::new(), Vec::new());
    for actor in [&cortado, &alice] {
        secrets.push(secret_strings(&mls_strings(actor).await));
    }
    epochs.push(cortado.epoch(number.0).await.0);
    assert!(secrets.iter().all(|s| s.len() > 10), "there are secrets to look for");

    let mut left = Vec::new();
    for week in 0..4 {
        world.clock.advance(WEEK);
        for n in 0..4 {
            alice.endpoint.send(conversation.id, say(&format!("{week} {n}"))).await.unwrap();
            cortado.incoming().await;
            cortado.endpoint.send(number, say(&format!("yes {week} {n}"))).await.unwrap();
            alice.incoming().await;
        }
        let mut found = 0;
        for (actor, secrets) in [&cortado, &alice].into_iter().zip(&secrets) {
            let now: BTreeSet<_> = mls_strings(actor).await.into_values().flatten().collect();
            found += secrets.intersection(&now).count();
        }
        left.push(found);
        epochs.push(cortado.epoch(number.0).await.0);
    }
    println!(
        "figure: {} secrets of epoch {}; of these left in epochs {:?}: {left:?}",
        secrets.iter().map(BTreeSet::len).sum::<usize>(),
        epochs[0],
        &epochs[1..]
    );
    assert!(epochs.last().unwrap() >= &(epochs[0] + 3), "{epochs:?}");
    assert_eq!(left.last(), Some(&0), "epochs {epochs:?}: {left:?}");
    for (actor, secrets) in [&mut cortado, &mut alice].into_iter().zip(&secrets) {
        actor.endpoint.shutdown().await;
        let begins: HashSet<&[u8]> = secrets.iter().map(|secret| &secret[..16]).collect();
        for entry in std::fs::read_dir(&actor.folder).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(16).any(|window| begins.contains(window)), "a secret lies open in a file");
        }
    }
}
