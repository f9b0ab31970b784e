//! `bulla-relay disclose`: everything that the relay holds, for whoever is entitled to ask.
//!
//! What is printed is what is stored, field by field; `docs/metadata.md` lists the same fields. A running relay answers through a Unix socket in its data
//! folder, which only the folder's owner can open; on a stopped one the store itself is read.

mod page;

use std::path::{Path, PathBuf};

use bulla_protocol::id::MailboxId;
use bulla_protocol::permit::Class;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::server::{RelayError, open_store};
use crate::socket;
use crate::store::{Page, Store, StoreError};

pub use page::page;

const PAGE: Page = Page { rows: 256, bytes: 4 * 1024 * 1024 };

/// All that a relay holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disclosure {
    /// The installation's id.
    pub instance: String,
    /// Its mailboxes.
    pub mailboxes: Vec<MailboxDisclosure>,
    /// Its blobs, by last day; none if only one mailbox was asked for, since nothing says whose they are.
    pub blobs: Vec<BlobDisclosure>,
    /// Its commit slots, by last day; none if only one mailbox was asked for, since nothing says whose they are.
    pub slots: Vec<SlotDisclosure>,
}

/// All that a relay holds of one mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailboxDisclosure {
    /// Its random id.
    pub mailbox: String,
    /// The key that opens it.
    pub owner_key: String,
    /// The secret from which its grants are derived: whoever has it can write to the mailbox, but read nothing.
    pub mac_root: String,
    /// How often its endpoint has started.
    pub incarnation: u64,
    /// Made at random with that number.
    pub incarnation_nonce: String,
    /// Month (of 30 days since 1970) in which its owner was last seen.
    pub renewed_month: u32,
    /// Grants that are refused.
    pub revoked_grants: Vec<String>,
    /// The public contact bundle.
    pub bundle: Option<String>,
    /// Envelopes that expired before they were read.
    pub gap: u64,
    /// Envelopes that wait.
    pub envelopes: Vec<EnvelopeDisclosure>,
}

/// All that a relay holds of one envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvelopeDisclosure {
    /// Its place in the queue.
    pub order: u64,
    /// Last day (since 1970) on which it waits.
    pub last_day: u32,
    /// `ordinary` or `contact`.
    pub class: String,
    /// The owner's opaque block.
    pub tag: String,
    /// Ciphertext.
    pub envelope: String,
}

/// What a relay holds of one commit slot, the sealed commit itself left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotDisclosure {
    /// Its id.
    pub slot: String,
    /// Last day (since 1970) on which it stands.
    pub last_day: u32,
    /// Length of the sealed commit in it.
    pub bytes: u32,
}

/// What a relay holds of one blob, the ciphertext itself left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobDisclosure {
    /// Its id.
    pub blob: String,
    /// Last day (since 1970) on which it is kept.
    pub last_day: u32,
    /// The last day to which it can be extended.
    pub furthest_day: u32,
    /// Length of the padded ciphertext.
    pub bytes: u64,
    /// Hash of the key that reads it.
    pub read_hash: String,
    /// Hash of the key that writes it.
    pub write_hash: String,
}

/// Reads everything, or all of one mailbox, from a store.
pub fn read(store: &dyn Store, only: Option<MailboxId>) -> Result<Disclosure, StoreError> {
    let mut mailboxes = Vec::new();
    let mut after = None;
    loop {
        let ids = match only {
            Some(id) if after.is_none() => vec![id],
            Some(_) => Vec::new(),
            None => store.mailboxes(after.as_ref(), 256)?.into_iter().map(|(id, _)| id).collect(),
        };
        let Some(last) = ids.last() else { break };
        after = Some(*last);
        for id in ids {
            mailboxes.extend(read_mailbox(store, id)?);
        }
    }
    let slots = if only.is_none() { read_slots(store)? } else { Vec::new() };
    let blobs = if only.is_none() { read_blobs(store)? } else { Vec::new() };
    Ok(Disclosure { instance: store.instance().to_hex(), mailboxes, blobs, slots })
}

fn read_slots(store: &dyn Store) -> Result<Vec<SlotDisclosure>, StoreError> {
    let (mut out, mut after) = (Vec::new(), None);
    loop {
        let page = store.slots(after.as_ref(), 4_096)?;
        let Some(last) = page.last() else { return Ok(out) };
        after = Some(*last);
        out.extend(page.iter().map(|entry| SlotDisclosure {
            slot: entry.slot.to_hex(),
            last_day: entry.day,
            bytes: entry.bytes,
        }));
    }
}

fn read_blobs(store: &dyn Store) -> Result<Vec<BlobDisclosure>, StoreError> {
    let (mut out, mut after) = (Vec::new(), None);
    loop {
        let page = store.blobs(after.as_ref(), 4_096)?;
        let Some(last) = page.last() else { return Ok(out) };
        after = Some(*last);
        for entry in page {
            let Some(record) = store.blob(&entry.blob)? else { continue };
            out.push(BlobDisclosure {
                blob: entry.blob.to_hex(),
                last_day: record.day,
                furthest_day: record.furthest,
                bytes: record.bytes,
                read_hash: HEXLOWER.encode(&record.read_hash),
                write_hash: HEXLOWER.encode(&record.write_hash),
            });
        }
    }
}

fn read_mailbox(store: &dyn Store, id: MailboxId) -> Result<Option<MailboxDisclosure>, StoreError> {
    let Some(loaded) = store.load(&id)? else { return Ok(None) };
    let mut envelopes = Vec::new();
    let mut from = 0;
    loop {
        let rows = store.rows(&id, from..=u64::MAX, PAGE)?;
        let Some((last, _)) = rows.last() else { break };
        from = last + 1;
        envelopes.extend(rows.iter().map(|(order, row)| EnvelopeDisclosure {
            order: *order,
            last_day: row.day,
            class: match row.class {
                Class::Ordinary => "ordinary".to_owned(),
                Class::Contact => "contact".to_owned(),
            },
            tag: row.tag.to_hex(),
            envelope: HEXLOWER.encode(&row.envelope),
        }));
    }
    Ok(Some(MailboxDisclosure {
        mailbox: id.to_hex(),
        owner_key: HEXLOWER.encode(&loaded.record.owner_key),
        mac_root: HEXLOWER.encode(loaded.record.root.expose()),
        incarnation: loaded.record.incarnation.number,
        incarnation_nonce: loaded.record.incarnation.nonce.to_hex(),
        renewed_month: loaded.record.month,
        revoked_grants: loaded.revoked.iter().map(|grant| grant.to_hex()).collect(),
        bundle: store.bundle(&id)?.map(|bundle| HEXLOWER.encode(&bundle)),
        gap: loaded.gap,
        envelopes,
    }))
}

/// Asks the relay that runs on a data folder, or reads the folder of one that does not.
pub fn from_folder(data: &Path, only: Option<MailboxId>) -> Result<Disclosure, DiscloseError> {
    if !data.join("store").is_dir() {
        return Err(DiscloseError::NoData(data.to_owned()));
    }
    if let Some(answer) = socket::ask(data, &only.map(MailboxId::to_hex).unwrap_or_default()) {
        return serde_json::from_slice(&answer.map_err(DiscloseError::Socket)?).map_err(|_| DiscloseError::Answer);
    }
    // Nobody answers: either nothing runs, or the lock will say that something does.
    let store = open_store(data, Box::new(rand_core::OsRng))?;
    read(&store, only).map_err(DiscloseError::Store)
}

/// Why there is nothing to disclose.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscloseError {
    /// The folder is not a relay's.
    #[error("{0} is not the data folder of a relay. Give the one that `bulla-relay serve --data` was started with")]
    NoData(PathBuf),
    /// The folder cannot be read.
    #[error(transparent)]
    Open(#[from] RelayError),
    /// The store cannot be read.
    #[error("cannot read the store: {0}")]
    Store(StoreError),
    /// The running relay did not answer.
    #[error("the running relay does not answer: {0}. Try again, or stop it first")]
    Socket(std::io::Error),
    /// The running relay answered something else, such as half of it.
    #[error("the running relay gave no complete answer. Is it of the same version? Try again, or stop it first")]
    Answer,
}
