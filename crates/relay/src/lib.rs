//! The relay: a store-and-forward server for sealed envelopes that it cannot read.
//!
//! It knows mailboxes by random ids, their owners by a key each, and nothing of who writes: a sender shows a permit, whose proof the relay
//! recomputes from the mailbox's root. It answers `Accepted` when the recipient has confirmed an envelope or stable
//! storage has it, never before, and keeps no record of what passed. It depends on no code that could decrypt.
//! The contract with clients is `proto/relay.proto`; `docs/metadata.md` lists every field that is stored, held in memory or logged.
//!
//! ```text
//!  sender ── anonymous connection ──┐                                  ┌── owner connection ── recipient
//!   Send(permit, proof, envelope)   ▼                                  ▼   Deliver … Ack
//!                         connection::anonymous              connection::owner
//!                                   │      ┌───────────┐        ▲      │
//!                                   └────▶ │  Mailbox  │ ───────┘ ◀────┘
//!                                 submit   │ one mutex │  live: handed over in memory
//!                                          └─────┬─────┘
//!                       away, catching up, slow: │ store / spill            ▲ pages, by the pump
//!                                                ▼                          │
//!                                 Writer (own thread, one sync per group) ─▶ Store (fjall)
//! ```
//!
//! - [`server`]: starting, stopping, routes
//! - [`connection`]: one WebSocket, greeting, the two roles
//! - [`mailbox`]: the state of one mailbox; order, hand-over, spilling, acks; `sends` (retries), `rate`
//! - [`registry`]: which mailboxes are in memory
//! - [`slots`]: write-once cells, in which a group's members find the one commit that ends an epoch
//! - [`pump`]: one reader's task; [`sweep`]: what expires
//! - [`writer`]: the thread that writes in groups; [`store`]: what is written, and its bytes
//! - [`outbox`], [`memory`], [`limits`]: what bounds a client, envelopes, this process
//! - [`disclose`]: everything that is held, printed
//! - [`backup`]: mailboxes in a file, and back; [`socket`]: where `disclose` and `backup` ask
//! - [`metrics`]: numbers for the operator; [`ops`]: where they are asked for
//! - [`clock`]: time, injected
//! - [`sabotage`]: rules that tests break on purpose
//!
//! The public interface is [`serve`], [`Config`], [`Running`], the traits [`Clock`] and [`Store`](store::Store), and [`disclose`].

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod backup;
mod blobs;
pub mod clock;
mod connection;
pub mod disclose;
mod limits;
mod mailbox;
mod memory;
pub mod metrics;
mod ops;
mod outbox;
mod pump;
mod random;
mod registry;
pub mod sabotage;
pub mod server;
mod slots;
pub mod socket;
pub mod store;
mod sweep;
mod writer;

pub use clock::{Clock, GuardedClock, Machine, ManualClock};
pub use server::{Config, RelayError, Running, make_folder, serve, serve_on};
