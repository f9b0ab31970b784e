//! The endpoint engine that a customer's device and a business's gateway share.
//!
//! ```text
//!   Endpoint (handle, any thread)            one thread per endpoint
//!   send / mark_read / typing / …  ────────▶ driver ── inputs ──▶ Engine (no I/O) ── one Batch ──▶ Store
//!   Event ◀────────────────────────────────────────── effects ◀── after the commit
//!                                               │
//!                                               └── owner link, anonymous link ── relay
//! ```
//!
//! The [`engine`] is synchronous and does no I/O: it turns inputs (frames, commands, time) into one [`store::Batch`] and a list of
//! effects, and no effect leaves before the batch is durable. What that guarantees is in `docs/protocol.md` §8.
//!
//! - [`endpoint`]: the handle that programs use, and the driver behind it
//! - [`event`]: drafts, messages, states and events, as programs see them
//! - [`engine`]: the state machine
//! - [`store`]: the store trait, its SQLite implementation, the sealing of values, the key file
//! - [`transport`]: the trait over WebSocket and bundle fetches, and its native implementation; `rt`: timers and tasks, native or the browser's
//! - [`clock`]: time as a parameter

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod clock;
pub mod endpoint;
pub mod engine;
pub mod event;
pub mod media;
mod rt;
pub mod store;
pub mod transport;
