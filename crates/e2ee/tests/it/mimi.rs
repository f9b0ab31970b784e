//! Content against the draft's own examples, and what this version does with what it does not know.

use bulla_e2ee::content::{Body, Content, ContentError, Expires, MessageId};
use bulla_e2ee::limits;
use data_encoding::HEXLOWER;
use minicbor::Encoder;

use crate::world::fixture;

fn example(name: &str) -> Vec<u8> {
    fixture(&format!("mimi-content-08/{name}.cbor"))
}

fn ids() -> Vec<(String, MessageId)> {
    let text = String::from_utf8(fixture("mimi-content-08/message-ids.txt")).unwrap();
    let parse = |line: &str| {
        let (name, id) = line.split_once(' ').unwrap();
        (name.to_owned(), MessageId::new(HEXLOWER.decode(id.as_bytes()).unwrap().try_into().unwrap()))
    };
    text.lines().map(parse).collect()
}

fn id_of(name: &str) -> MessageId {
    ids().into_iter().find(|(n, _)| n == name).unwrap().1
}

/// The examples carry both URIs as extensions 1 and 2, which this version keeps without knowing them.
fn uri(content: &Content, key: u8) -> String {
    let (_, value) = content.extensions.unknown.iter().find(|(k, _)| k == &[key]).unwrap();
    minicbor::decode(value).unwrap()
}

#[test]
fn every_example_has_the_message_id_that_the_draft_prints() {
    assert_eq!(ids().len(), 14);
    for (name, id) in ids() {
        let bytes = example(&name);
        let content = Content::decode(&bytes).unwrap();
        let (sender, room) = (uri(&content, 1), uri(&content, 2));
        assert_eq!(MessageId::of_uris(&sender, &room, &bytes, &content.salt), id, "{name}");
    }
}

#[test]
fn every_example_survives_with_what_this_version_does_not_know() {
    for (name, _) in ids() {
        let bytes = example(&name);
        let content = Content::decode(&bytes).unwrap();
        let again = content.encode().unwrap();
        // Only a withdrawn reaction is written with another disposition than it was read.
        if name == "unlike" {
            assert_eq!(Content::decode(&again).unwrap(), content);
        } else {
            assert_eq!(HEXLOWER.encode(&again), HEXLOWER.encode(&bytes), "{name}");
        }
    }
}

#[test]
fn examples_mean_what_the_draft_says() {
    let read = |name| Content::decode(&example(name)).unwrap();
    let heart = read("reaction");
    assert_eq!(heart.body, Body::Reaction { emoji: "❤".to_owned() });
    assert_eq!(heart.in_reply_to, Some(id_of("original")));
    assert_eq!(read("unlike").body, Body::Deleted);
    assert_eq!(read("unlike").replaces, Some(id_of("reaction")));
    assert_eq!((read("delete").body, read("delete").replaces), (Body::Deleted, Some(id_of("reply"))));
    assert_eq!((read("edit").replaces, read("edit").in_reply_to), (Some(id_of("reply")), Some(id_of("original"))));
    assert_eq!(read("expiring").expires, Some(Expires::At(1_644_390_004)));
    let unsupported = |name| match read(name).body {
        Body::Unsupported { content_type, .. } => content_type,
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(unsupported("original"), "text/markdown;variant=GFM-MIMI");
    assert_eq!(unsupported("attachment"), "video/mp4");
    assert_eq!(unsupported("multipart-3"), "multipart/alternative");
}

/// An encoded content with `extensions` (an encoded map) and `part` (an encoded part).
fn content(extensions: &[u8], part: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x87, 0x50];
    bytes.extend([7; 16]);
    bytes.extend([0xf6, 0x40, 0xf6, 0xf6]);
    bytes.extend(extensions);
    bytes.extend(part);
    bytes
}

fn encoded(f: impl FnOnce(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    f(&mut Encoder::new(&mut bytes));
    bytes
}

fn single(content_type: &str, content: &[u8]) -> Vec<u8> {
    encoded(|e| {
        e.array(5)
            .unwrap()
            .u8(1)
            .unwrap()
            .str("")
            .unwrap()
            .u8(1)
            .unwrap()
            .str(content_type)
            .unwrap()
            .bytes(content)
            .unwrap();
    })
}

fn multi(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = encoded(|e| {
        e.array(5)
            .unwrap()
            .u8(1)
            .unwrap()
            .str("")
            .unwrap()
            .u8(3)
            .unwrap()
            .u8(2)
            .unwrap()
            .array(parts.len() as u64)
            .unwrap();
    });
    bytes.extend(parts.concat());
    bytes
}

const NONE: &[u8] = &[0xa0];

#[test]
fn mls_12_parts_and_their_depth_are_bounded_at_n_and_n_plus_1() {
    let text = single("text/plain", b"x");
    let flat = |n: usize| Content::decode(&content(NONE, &multi(&vec![text.clone(); n - 1]))).map(drop);
    assert_eq!(flat(limits::PARTS), Ok(()));
    assert_eq!(flat(limits::PARTS + 1), Err(ContentError::Limit));
    let deep = |n: usize| {
        let part = (1..n).fold(text.clone(), |inner, _| multi(&[inner, text.clone()]));
        Content::decode(&content(NONE, &part)).map(drop)
    };
    assert_eq!(deep(limits::PART_DEPTH), Ok(()));
    assert_eq!(deep(limits::PART_DEPTH + 1), Err(ContentError::Limit));
    assert_eq!(Content::decode(&content(NONE, &multi(&[text]))), Err(ContentError::Malformed));
}

#[test]
fn mls_12_extensions_are_bounded_at_n_and_n_plus_1() {
    let with = |extensions: Vec<u8>| Content::decode(&content(&extensions, &single("text/plain", b"x"))).map(drop);
    let many = |n: u64| {
        with(encoded(|e| {
            e.map(n).unwrap();
            (0..n).for_each(|k| {
                e.u64(k + 1000).unwrap().null().unwrap();
            });
        }))
    };
    assert_eq!(many(limits::EXTENSIONS as u64), Ok(()));
    assert_eq!(many(limits::EXTENSIONS as u64 + 1), Err(ContentError::Limit));
    let long = |n: usize| {
        with(encoded(|e| {
            e.map(1).unwrap().u8(9).unwrap().bytes(&vec![0; n - 3]).unwrap();
        }))
    };
    assert_eq!(long(limits::EXTENSION_VALUE), Ok(()));
    assert_eq!(long(limits::EXTENSION_VALUE + 1), Err(ContentError::Limit));
    let deep = |n: usize| with([&[0xa1, 0x09][..], &vec![0x81; n - 1], &[0x00]].concat());
    assert_eq!(deep(limits::EXTENSION_DEPTH), Ok(()));
    assert_eq!(deep(limits::EXTENSION_DEPTH + 1), Err(ContentError::Limit));
    let named = |n: usize| {
        with(encoded(|e| {
            e.map(1).unwrap().str(&"k".repeat(n)).unwrap().u8(1).unwrap();
        }))
    };
    assert_eq!(
        (named(0), named(255), named(256)),
        (Err(ContentError::Malformed), Ok(()), Err(ContentError::Malformed))
    );
}

#[test]
fn mls_12_names_and_receipts_are_bounded_at_n_and_n_plus_1() {
    let named = |chars: usize| {
        let mut content = Content::new([7; 16], Body::text("x"));
        content.extensions.name = Some("é".repeat(chars));
        content.encode().map(|bytes| Content::decode(&bytes).unwrap()).map(drop)
    };
    assert_eq!(named(limits::DISPLAY_NAME), Ok(()));
    assert_eq!(named(limits::DISPLAY_NAME + 1), Err(ContentError::Limit));
    let receipt = |ids: u64| {
        let inner = encoded(|e| {
            e.array(5).unwrap().u8(1).unwrap().array(ids).unwrap();
            (0..ids).for_each(|_| {
                e.bytes(&[1; 32]).unwrap();
            });
            e.array(0).unwrap().u8(1).unwrap().bytes(&[0; 8]).unwrap();
        });
        Content::decode(&content(NONE, &single("application/vnd.bulla.receipt+cbor", &inner))).map(drop)
    };
    assert_eq!(receipt(limits::RECEIPT_IDS as u64), Ok(()));
    assert_eq!(receipt(limits::RECEIPT_IDS as u64 + 1), Err(ContentError::Limit));
}

#[test]
fn what_is_of_a_later_version_is_unsupported_and_kept_and_never_an_error() {
    let later = encoded(|e| {
        e.array(2).unwrap().u8(2).unwrap().str("?").unwrap();
    });
    for part in [
        single("application/vnd.bulla.receipt+cbor", &later),
        single("application/vnd.bulla.typing+cbor", &later),
        single("application/vnd.bulla.poll+cbor", b"\x00"),
        single("text/plain;charset=iso-8859-1", b"\xe9"),
        single("text/plain", b"\xff"),
        // A reaction to nothing, and a deletion of nothing.
        [
            &[0x85, 0x02, 0x60, 0x01][..],
            &encoded(|e| {
                e.str("text/plain").unwrap().bytes(b"+").unwrap();
            }),
        ]
        .concat(),
        vec![0x83, 0x01, 0x60, 0x00],
    ] {
        let bytes = content(NONE, &part);
        let read = Content::decode(&bytes).unwrap();
        assert!(matches!(&read.body, Body::Unsupported { raw, .. } if *raw == part), "{:?}", read.body);
        assert_eq!(read.encode().unwrap(), bytes);
    }
    // One more element at the end of an array is from later, too.
    let mut longer = content(NONE, &single("text/plain;charset=utf-8", b"x"));
    longer[0] = 0x88;
    longer.push(0xf6);
    assert_eq!(Content::decode(&longer).unwrap().body, Body::text("x"));
}

#[test]
fn what_was_said_is_not_in_debug_output() {
    let mut said = Content::new([7; 16], Body::text("canary-body"));
    said.extensions.name = Some("canary-name".to_owned());
    said.extensions.reference = Some("canary-ref".to_owned());
    let shown = format!("{said:?}");
    assert!(!shown.contains("canary"), "{shown}");
}
