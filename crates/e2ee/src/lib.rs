//! End-to-end encryption of Bulla: identities, conversations, sealed envelopes, content. No I/O, no async, no clock.
//!
//! `docs/protocol.md` is the specification; each module implements one part of it and nothing else does.
//!
//! - [`identity`]: the keys of a business and of a customer towards one business, and their names
//! - [`certificate`]: what ties an endpoint's leaf key to an identity; the MLS credential's content
//! - [`link`]: what a customer opens, with the hash that pins the business
//! - [`tag`], [`permits`]: what a mailbox's owner hands out and gets back
//! - [`envelope`]: the outer envelope, which hides group, epoch and length
//! - [`bundle`], [`hello`]: how a conversation begins
//! - [`conversation`], [`state`]: an MLS group and what must be stored of it; [`slot`]: where its commits meet
//! - [`spare`], [`continues`]: how a conversation goes on in a new group; [`device`]: how a customer's further devices come in
//! - [`recovery`]: the code from which a customer who has lost everything comes back; [`turned_away`]: what his other devices are told;
//!   [`transfer`]: the code on its way to another device, once
//! - [`suite`]: the cipher suites that an endpoint speaks
//! - [`content`]: what is said, after MIMI content draft-08
//! - [`sabotage`]: rules that tests break on purpose
//! - [`limits`]: every limit of this crate, each with its reason
//!
//! Time and randomness are parameters, with two exceptions inside OpenMLS: it takes randomness for its own keys from the
//! operating system, and it checks the lifetime of a *received* KeyPackage (when a bundle is verified) against the
//! system's clock.
//!
//! A value that was checked is a type of its own: [`certificate::Certificate`], [`bundle::Bundle`] and [`hello::Hello`]
//! come out of their checks and from nowhere else.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod attachment;
pub mod bundle;
mod cbor;
pub mod certificate;
pub mod content;
pub mod continues;
pub mod conversation;
pub mod device;
pub mod envelope;
pub mod hello;
mod hpke;
pub mod identity;
pub mod limits;
pub mod link;
mod mls;
pub mod permits;
pub mod recovery;
pub mod sabotage;
#[cfg(feature = "under-test")]
pub mod seals;
mod signed;
pub mod slot;
pub mod spare;
pub mod state;
mod storage;
pub mod suite;
pub mod tag;
pub mod transfer;
pub mod turned_away;

pub use hpke::{SealKey, SealPublicKey};

/// The version with which every layout of this crate begins.
pub const VERSION: u8 = 1;
