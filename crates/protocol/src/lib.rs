//! What an endpoint and a relay must agree on: ids, frames, permits, limits, labels.
//!
//! This crate has no I/O, no clock, no randomness and no async: every function is a pure function of its arguments, so that
//! the relay, the native client and the browser share the same bytes. `proto/relay.proto` is the contract for
//! other languages; the byte layouts at its head are implemented here and nowhere else.
//!
//! - [`id`]: the random names of mailboxes, grants, sends and slots
//! - [`frame`]: the protobuf frames and their decoding under a limit
//! - [`permit`]: grants, permits and the proof that a send carries
//! - [`blob`]: the keys of sealed attachments at a relay, and what their uploader proves
//! - [`ownership`]: what an owner signs to make and to open a mailbox
//! - [`work`]: the proof of work that a new mailbox, a first contact and a slot's claim cost
//! - [`limits`]: every limit of the relay, each with its reason
//! - [`label`]: every domain-separation label of the project, all different

pub mod blob;
pub mod frame;
pub mod id;
pub mod label;
pub mod limits;
pub mod ownership;
pub mod permit;
pub mod work;

/// The version of the wire protocol that this crate speaks.
pub const VERSION: u32 = 1;
