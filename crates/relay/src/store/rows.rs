//! The bytes of stored keys and values: version 1, and version 2 of rows, which every later version must load (`tests/fixtures/rows-v1.json`).
//!
//! All integers are big-endian; every value begins with its format's version.
//!
//! ```text
//! mailboxes  mailbox(16)               → u8 1 ‖ owner key(32) ‖ MAC root(32) ‖ u64 incarnation ‖ nonce(16) ‖ u32 month
//! rows       name(16) ‖ u64 order + offset → u8 2 ‖ u32 last day ‖ u8 class ‖ u32 key slot ‖ nonce(24) ‖ sealed(tag(16) ‖ envelope)
//!                                        before: u8 1 ‖ u32 last day ‖ u8 class ‖ tag(16) ‖ envelope
//! revoked    mailbox(16) ‖ grant(16)   → u8 1
//! bundles    mailbox(16)               → u8 1 ‖ bundle
//! gaps       mailbox(16)               → u8 1 ‖ u64 envelopes
//! days       u32 last day ‖ name(16)   → u8 1
//! slots      slot(32)                  → u8 1 ‖ u32 last day ‖ commit
//! slot-days  u32 last day ‖ slot(32)   → u8 1 ‖ u32 bytes of the commit
//! blobs      blob(16)                  → u8 1 ‖ u32 last day ‖ u32 furthest day ‖ u64 bytes ‖ read hash(32) ‖ write hash(32)
//! blob-days  u32 last day ‖ blob(16)   → u8 1 ‖ u64 bytes
//! meta       "instance"                → u8 1 ‖ instance(16)
//!            "named"                   → u8 1: rows and days have names
//! ```
//!
//! `name` is that of the mailbox's backlog ([`keys`](super::keys)); before, rows and days stood under the mailbox's id, and a keyspace `backlogs` had the
//! slot of its key ([`older`](super::older)). `sealed` is XChaCha20-Poly1305 under the row key of `keys`, AAD `ROW ‖ the row's key ‖ the value up
//! to the nonce`.

use bulla_protocol::id::{BlobId, GrantId, Incarnation, IncarnationNonce, InstanceId, MailboxId, SlotId, TagBlock};
use bulla_protocol::label;
use bulla_protocol::permit::{Class, MacRoot};
use bytes::Bytes;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use super::{BlobEntry, BlobRecord, MailboxRecord, Row, Slot, SlotEntry, StoreError};

/// The version that this code writes.
pub const FORMAT: u8 = 1;

/// The value of rows that only say "yes".
pub const PRESENT: &[u8] = &[FORMAT];

/// Takes fixed-size fields off the front of a value.
struct Fields<'a>(&'a [u8], &'static str);

impl<'a> Fields<'a> {
    fn versioned(bytes: &'a [u8], what: &'static str) -> Result<Self, StoreError> {
        match bytes.split_first() {
            Some((&FORMAT, rest)) => Ok(Self(rest, what)),
            _ => Err(StoreError::Format(what)),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(StoreError::Format(self.1))?;
        self.0 = rest;
        Ok(*head)
    }

    fn end(self) -> Result<(), StoreError> {
        if self.0.is_empty() { Ok(()) } else { Err(StoreError::Format(self.1)) }
    }
}

/// Value of `mailboxes`.
#[must_use]
pub fn encode_mailbox(record: &MailboxRecord) -> Vec<u8> {
    [
        &[FORMAT][..],
        &record.owner_key,
        record.root.expose(),
        &record.incarnation.number.to_be_bytes(),
        record.incarnation.nonce.as_bytes(),
        &record.month.to_be_bytes(),
    ]
    .concat()
}

/// Reads a value of `mailboxes`.
pub fn decode_mailbox(bytes: &[u8]) -> Result<MailboxRecord, StoreError> {
    let mut f = Fields::versioned(bytes, "mailbox")?;
    let record = MailboxRecord {
        owner_key: f.take()?,
        root: MacRoot::new(f.take()?),
        incarnation: Incarnation { number: u64::from_be_bytes(f.take()?), nonce: IncarnationNonce::new(f.take()?) },
        month: u32::from_be_bytes(f.take()?),
    };
    f.end()?;
    Ok(record)
}

/// The version of rows that this code writes.
const SEALED: u8 = 2;

/// Bytes of a sealed row before its nonce, of the nonce, and what sealing adds.
const ROW_HEAD: usize = 10;
const NONCE: usize = 24;
const TAG_AND_MAC: usize = 32;

/// What a row says without being opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowHead {
    /// Last day (since the epoch) on which it waits.
    pub day: u32,
    /// Which door it came through.
    pub class: Class,
    /// Bytes of its envelope.
    pub bytes: usize,
    /// The slot of its backlog's key; none if it was written before rows were sealed.
    pub slot: Option<u32>,
}

/// Value of `rows`.
pub fn seal_row(
    key: &[u8; 24],
    row: &Row,
    slot: u32,
    row_key: &[u8; 32],
    nonce: [u8; NONCE],
) -> Result<Vec<u8>, StoreError> {
    let mut out = Vec::with_capacity(ROW_HEAD + NONCE + TAG_AND_MAC + row.envelope.len());
    out.push(SEALED);
    out.extend_from_slice(&row.day.to_be_bytes());
    out.push(row.class.to_wire() as u8);
    out.extend_from_slice(&slot.to_be_bytes());
    let aad = [label::ROW, key, &out].concat();
    let plain = [row.tag.as_bytes(), row.envelope.as_ref()].concat();
    let sealed = XChaCha20Poly1305::new(row_key.into())
        .encrypt(XNonce::from_slice(&nonce), Payload { msg: &plain, aad: &aad })
        .map_err(|_| StoreError::Format("row"))?;
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&sealed);
    Ok(out)
}

/// Reads what a value of `rows` says without being opened.
pub fn row_head(bytes: &[u8]) -> Result<RowHead, StoreError> {
    let class = |wire: [u8; 1]| Class::from_wire(i32::from(u8::from_be_bytes(wire))).ok_or(StoreError::Format("row"));
    if bytes.first() == Some(&FORMAT) {
        let mut f = Fields::versioned(bytes, "row")?;
        let (day, class) = (u32::from_be_bytes(f.take()?), class(f.take()?)?);
        let _tag: [u8; 16] = f.take()?;
        return Ok(RowHead { day, class, bytes: f.0.len(), slot: None });
    }
    let rest = bytes.strip_prefix(&[SEALED]).ok_or(StoreError::Format("row"))?;
    let mut f = Fields(rest, "row");
    let (day, class, slot) = (u32::from_be_bytes(f.take()?), class(f.take()?)?, u32::from_be_bytes(f.take()?));
    let bytes = f.0.len().checked_sub(NONCE + TAG_AND_MAC).ok_or(StoreError::Format("row"))?;
    Ok(RowHead { day, class, bytes, slot: Some(slot) })
}

/// Opens a value of `rows`. Without a key only one that was written before rows were sealed.
pub fn open_row(key: &[u8], bytes: &[u8], row_key: Option<&[u8; 32]>) -> Result<Row, StoreError> {
    let head = row_head(bytes)?;
    if head.slot.is_none() {
        let mut f = Fields(bytes.get(6..).unwrap_or_default(), "row");
        let tag = TagBlock::new(f.take()?);
        return Ok(Row { day: head.day, class: head.class, tag, envelope: Bytes::copy_from_slice(f.0) });
    }
    let row_key = row_key.ok_or(StoreError::Format("row"))?;
    let (start, rest) = bytes.split_at_checked(ROW_HEAD).ok_or(StoreError::Format("row"))?;
    let (nonce, sealed) = rest.split_at_checked(NONCE).ok_or(StoreError::Format("row"))?;
    let aad = [label::ROW, key, start].concat();
    let plain = XChaCha20Poly1305::new(row_key.into())
        .decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad: &aad })
        .map_err(|_| StoreError::Format("row (its key is gone, or the disk has changed it)"))?;
    let plain = Bytes::from(plain);
    let tag = plain.first_chunk::<16>().ok_or(StoreError::Format("row"))?;
    Ok(Row { day: head.day, class: head.class, tag: TagBlock::new(*tag), envelope: plain.slice(16..) })
}

/// Key of `rows`.
#[must_use]
pub fn row_key(name: &[u8; 16], order: u64) -> [u8; 24] {
    join(name, &order.to_be_bytes())
}

/// The order in a key of `rows`.
pub fn row_order(key: &[u8]) -> Result<u64, StoreError> {
    key.last_chunk::<8>().map(|order| u64::from_be_bytes(*order)).ok_or(StoreError::Format("row key"))
}

/// Key of `revoked`.
#[must_use]
pub fn revoked_key(mailbox: &MailboxId, grant: &GrantId) -> [u8; 32] {
    join(mailbox.as_bytes(), grant.as_bytes())
}

/// The grant in a key of `revoked`.
pub fn revoked_grant(key: &[u8]) -> Result<GrantId, StoreError> {
    key.last_chunk::<16>().map(|grant| GrantId::new(*grant)).ok_or(StoreError::Format("revocation"))
}

/// Value of `bundles`.
#[must_use]
pub fn encode_bundle(bundle: &[u8]) -> Vec<u8> {
    [&[FORMAT][..], bundle].concat()
}

/// Reads a value of `bundles`.
pub fn decode_bundle(bytes: &[u8]) -> Result<Bytes, StoreError> {
    Fields::versioned(bytes, "bundle").map(|f| Bytes::copy_from_slice(f.0))
}

/// Value of `gaps`.
#[must_use]
pub fn encode_gap(envelopes: u64) -> Vec<u8> {
    [&[FORMAT][..], &envelopes.to_be_bytes()].concat()
}

/// Reads a value of `gaps`.
pub fn decode_gap(bytes: &[u8]) -> Result<u64, StoreError> {
    let mut f = Fields::versioned(bytes, "gap")?;
    let envelopes = u64::from_be_bytes(f.take()?);
    f.end()?;
    Ok(envelopes)
}

/// Key of `days`.
#[must_use]
pub fn day_key(day: u32, name: &[u8; 16]) -> [u8; 20] {
    join(&day.to_be_bytes(), name)
}

/// Reads a key of `days`.
pub fn decode_day(key: &[u8]) -> Result<(u32, [u8; 16]), StoreError> {
    let mut f = Fields(key, "day");
    let parts = (u32::from_be_bytes(f.take()?), f.take()?);
    f.end()?;
    Ok(parts)
}

/// Value of `slots`.
#[must_use]
pub fn encode_slot(slot: &Slot) -> Vec<u8> {
    [&[FORMAT][..], &slot.day.to_be_bytes(), &slot.commit].concat()
}

/// Reads a value of `slots`.
pub fn decode_slot(bytes: &[u8]) -> Result<Slot, StoreError> {
    let mut f = Fields::versioned(bytes, "slot")?;
    Ok(Slot { day: u32::from_be_bytes(f.take()?), commit: Bytes::copy_from_slice(f.0) })
}

/// Key of `slot-days`.
#[must_use]
pub fn slot_day_key(day: u32, slot: &SlotId) -> [u8; 36] {
    join(&day.to_be_bytes(), slot.as_bytes())
}

/// Value of `slot-days`.
#[must_use]
pub fn encode_slot_bytes(bytes: u32) -> Vec<u8> {
    [&[FORMAT][..], &bytes.to_be_bytes()].concat()
}

/// Reads key and value of `slot-days`.
pub fn decode_slot_entry(key: &[u8], value: &[u8]) -> Result<SlotEntry, StoreError> {
    let (mut k, mut v) = (Fields(key, "slot's day"), Fields::versioned(value, "slot's size")?);
    let entry = SlotEntry {
        day: u32::from_be_bytes(k.take()?),
        slot: SlotId::new(k.take()?),
        bytes: u32::from_be_bytes(v.take()?),
    };
    k.end()?;
    v.end()?;
    Ok(entry)
}

/// Value of `blobs`.
#[must_use]
pub fn encode_blob(record: &BlobRecord) -> Vec<u8> {
    [
        &[FORMAT][..],
        &record.day.to_be_bytes(),
        &record.furthest.to_be_bytes(),
        &record.bytes.to_be_bytes(),
        &record.read_hash,
        &record.write_hash,
    ]
    .concat()
}

/// Reads a value of `blobs`.
pub fn decode_blob(bytes: &[u8]) -> Result<BlobRecord, StoreError> {
    let mut f = Fields::versioned(bytes, "blob")?;
    let record = BlobRecord {
        day: u32::from_be_bytes(f.take()?),
        furthest: u32::from_be_bytes(f.take()?),
        bytes: u64::from_be_bytes(f.take()?),
        read_hash: f.take()?,
        write_hash: f.take()?,
    };
    f.end()?;
    Ok(record)
}

/// Key of `blob-days`.
#[must_use]
pub fn blob_day_key(day: u32, blob: &BlobId) -> [u8; 20] {
    join(&day.to_be_bytes(), blob.as_bytes())
}

/// Value of `blob-days`.
#[must_use]
pub fn encode_blob_bytes(bytes: u64) -> Vec<u8> {
    [&[FORMAT][..], &bytes.to_be_bytes()].concat()
}

/// Reads key and value of `blob-days`.
pub fn decode_blob_entry(key: &[u8], value: &[u8]) -> Result<BlobEntry, StoreError> {
    let (mut k, mut v) = (Fields(key, "blob's day"), Fields::versioned(value, "blob's size")?);
    let entry = BlobEntry {
        day: u32::from_be_bytes(k.take()?),
        blob: BlobId::new(k.take()?),
        bytes: u64::from_be_bytes(v.take()?),
    };
    k.end()?;
    v.end()?;
    Ok(entry)
}

/// Value of `meta`'s `instance`.
#[must_use]
pub fn encode_instance(instance: &InstanceId) -> Vec<u8> {
    [&[FORMAT][..], instance.as_bytes()].concat()
}

/// Reads the value of `meta`'s `instance`.
pub fn decode_instance(bytes: &[u8]) -> Result<InstanceId, StoreError> {
    let mut f = Fields::versioned(bytes, "instance id")?;
    let instance = InstanceId::new(f.take()?);
    f.end()?;
    Ok(instance)
}

/// The id in a key of `mailboxes`.
pub fn mailbox_id(key: &[u8]) -> Result<MailboxId, StoreError> {
    MailboxId::from_slice(key).map_err(|_| StoreError::Format("mailbox key"))
}

fn join<const A: usize, const B: usize, const N: usize>(a: &[u8; A], b: &[u8; B]) -> [u8; N] {
    const { assert!(A + B == N) };
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(a.iter().chain(b)) {
        *to = *from;
    }
    out
}
