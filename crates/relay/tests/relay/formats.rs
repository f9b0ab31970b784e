//! Stored formats: what version 1 wrote, every later version must load.

use bulla_protocol::id::{BlobId, GrantId, Incarnation, IncarnationNonce, InstanceId, MailboxId, SlotId, TagBlock};
use bulla_protocol::permit::{Class, MacRoot};
use bulla_relay::store::{BlobEntry, BlobRecord, MailboxRecord, Row, Slot, SlotEntry, rows, rows::RowHead};
use data_encoding::HEXLOWER;

fn fixture(name: &str) -> Vec<u8> {
    let text = include_str!("../fixtures/rows-v1.json");
    let all: serde_json::Value = serde_json::from_str(text).unwrap();
    HEXLOWER.decode(all[name].as_str().unwrap().as_bytes()).unwrap()
}

#[test]
fn rows_of_version_1_are_read_and_written_as_they_were() {
    let mailbox = MailboxId::new([0x11; 16]);
    let record = MailboxRecord {
        owner_key: [0x22; 32],
        root: MacRoot::new([0x33; 32]),
        incarnation: Incarnation { number: 0x0102_0304_0506_0708, nonce: IncarnationNonce::new([0x44; 16]) },
        month: 681,
    };
    let bytes = fixture("mailbox");
    assert_eq!(rows::encode_mailbox(&record), bytes);
    let read = rows::decode_mailbox(&bytes).unwrap();
    assert_eq!(read.owner_key, record.owner_key);
    assert_eq!(read.root.expose(), record.root.expose());
    assert_eq!((read.incarnation, read.month), (record.incarnation, record.month));

    for (name, class) in [("row-ordinary", Class::Ordinary), ("row-contact", Class::Contact)] {
        let row = Row { day: 20_484, class, tag: TagBlock::new([0x55; 16]), envelope: b"envelope".as_slice().into() };
        assert_eq!(rows::open_row(&[], &fixture(name), None).unwrap(), row);
        let head = RowHead { day: row.day, class, bytes: row.envelope.len(), slot: None };
        assert_eq!(rows::row_head(&fixture(name)).unwrap(), head);
    }
    let key = fixture("row-key");
    assert_eq!(rows::row_key(mailbox.as_bytes(), 258)[..], key);
    assert_eq!(rows::row_order(&key).unwrap(), 258);
    let key = fixture("revoked-key");
    let grant = GrantId::new([0x66; 16]);
    assert_eq!(rows::revoked_key(&mailbox, &grant)[..], key);
    assert_eq!(rows::revoked_grant(&key).unwrap(), grant);
    let key = fixture("day-key");
    assert_eq!(rows::day_key(20_484, mailbox.as_bytes())[..], key);
    assert_eq!(rows::decode_day(&key).unwrap(), (20_484, *mailbox.as_bytes()));
    assert_eq!(rows::encode_bundle(b"bundle"), fixture("bundle"));
    assert_eq!(rows::decode_bundle(&fixture("bundle")).unwrap(), b"bundle"[..]);
    assert_eq!(rows::encode_gap(3), fixture("gap"));
    assert_eq!(rows::decode_gap(&fixture("gap")).unwrap(), 3);
    let slot = Slot { day: 20_484, commit: b"commit".as_slice().into() };
    assert_eq!(rows::encode_slot(&slot), fixture("slot"));
    assert_eq!(rows::decode_slot(&fixture("slot")).unwrap(), slot);
    let entry = SlotEntry { day: 20_484, slot: SlotId::new([0x88; 32]), bytes: 258 };
    let (key, value) = (fixture("slot-day-key"), fixture("slot-day"));
    assert_eq!(
        (&rows::slot_day_key(entry.day, &entry.slot)[..], rows::encode_slot_bytes(258)),
        (&key[..], value.clone())
    );
    assert_eq!(rows::decode_slot_entry(&key, &value).unwrap(), entry);
    assert!(rows::decode_slot_entry(&key[1..], &value).is_err());
    let record =
        BlobRecord { day: 20_484, furthest: 20_544, bytes: 258, read_hash: [0xaa; 32], write_hash: [0xbb; 32] };
    assert_eq!(rows::encode_blob(&record), fixture("blob"));
    assert_eq!(rows::decode_blob(&fixture("blob")).unwrap(), record);
    let entry = BlobEntry { day: 20_484, blob: BlobId::new([0x99; 16]), bytes: 258 };
    assert_eq!(rows::blob_day_key(entry.day, &entry.blob)[..], fixture("blob-day-key"));
    assert_eq!(rows::encode_blob_bytes(258), fixture("blob-day"));
    assert_eq!(rows::decode_blob_entry(&fixture("blob-day-key"), &fixture("blob-day")).unwrap(), entry);
    let instance = InstanceId::new([0x77; 16]);
    assert_eq!(rows::encode_instance(&instance), fixture("instance"));
    assert_eq!(rows::decode_instance(&fixture("instance")).unwrap(), instance);
    assert_eq!(rows::PRESENT, fixture("present"));
}

#[test]
fn rows_of_version_2_are_sealed_and_open_where_they_belong() {
    let at = rows::row_key(&[0x11; 16], 258);
    let row = Row {
        day: 20_484,
        class: Class::Contact,
        tag: TagBlock::new([0x55; 16]),
        envelope: b"envelope".as_slice().into(),
    };
    let key = [0x66; 32];
    let sealed = rows::seal_row(&at, &row, 7, &key, [0x77; 24]).unwrap();
    assert_eq!(
        HEXLOWER.encode(&sealed),
        HEXLOWER.encode(&fixture("row-sealed")),
        "as it was when this version was made"
    );
    let head = RowHead { day: row.day, class: row.class, bytes: 8, slot: Some(7) };
    assert_eq!(rows::row_head(&sealed).unwrap(), head);
    assert_eq!(rows::open_row(&at, &sealed, Some(&key)).unwrap(), row);
    // Not in another place, not under another key, not without one, and not with a bit turned anywhere.
    let elsewhere = rows::row_key(&[0x11; 16], 259);
    assert!(rows::open_row(&elsewhere, &sealed, Some(&key)).is_err());
    assert!(rows::open_row(&at, &sealed, Some(&[0x67; 32])).is_err() && rows::open_row(&at, &sealed, None).is_err());
    for byte in 0..sealed.len() {
        let mut bad = sealed.clone();
        bad[byte] ^= 4;
        assert!(rows::open_row(&at, &bad, Some(&key)).is_err(), "byte {byte}");
        assert!(rows::open_row(&at, &sealed[..byte], Some(&key)).is_err(), "the first {byte} bytes");
    }
}

#[test]
fn rows_of_another_version_or_length_are_refused() {
    for name in ["mailbox", "row-ordinary", "gap", "instance", "bundle", "slot", "slot-day"] {
        let good = fixture(name);
        let mut other = good.clone();
        other[0] = 2;
        for bytes in [&other[..], &[], &good[..good.len().min(if name == "slot" { 5 } else { 9 }) - 1]] {
            let read = match name {
                "mailbox" => rows::decode_mailbox(bytes).map(drop),
                "row-ordinary" => rows::row_head(bytes).map(drop),
                "gap" => rows::decode_gap(bytes).map(drop),
                "instance" => rows::decode_instance(bytes).map(drop),
                "slot" => rows::decode_slot(bytes).map(drop),
                "slot-day" => rows::decode_slot_entry(&fixture("slot-day-key"), bytes).map(drop),
                _ if !bytes.is_empty() && bytes[0] == 1 => continue, // any length is a bundle
                _ => rows::decode_bundle(bytes).map(drop),
            };
            assert!(read.is_err(), "{name} {bytes:?}");
        }
    }
}
