//! Webhooks: from an endpoint's events to a receiver that answered 2xx.
//!
//! ```text
//!   event ──▶ projector ──▶ row (exact bytes, sealed)     one transaction with the message
//!                             │
//!   deliverer ◀── wake ───────┘   one in flight per conversation, 32 in all, 1 s … 1 h between tries, 7 days
//!      │ POST, signed over the row's bytes
//!      └── 2xx ──▶ row deleted
//! ```
//!
//! At least once, in order per conversation: a crash after the receiver's 2xx and before the row is deleted sends it again, with the
//! same bytes and the same message id.

pub(crate) mod ascii;
pub(crate) mod challenge;
pub(crate) mod deliverer;
pub(crate) mod payload;
pub(crate) mod projector;
pub(crate) mod schedule;
pub(crate) mod sign;
pub(crate) mod template_status;
