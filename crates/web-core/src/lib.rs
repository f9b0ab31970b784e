//! `bulla-client` in a browser's worker: the same engine, with IndexedDB for its store and the browser's own WebSocket.
//!
//! ```text
//!   page ── postMessage ──▶ worker ── Device ──▶ Endpoint (one thread, beside the rest)
//!                                                  │ one strict transaction per state change ──▶ IndexedDB
//!                                                  └ WebSocket, fetch ──▶ relay, the business's own origin
//! ```
//!
//! - [`device`]: what the worker calls; the shapes are those of `apps/chat/src/lib/engine/types.ts`
//! - [`store`]: rows in IndexedDB, and in memory beside it, since reads are synchronous; the root key rests wrapped by a key that no script can read
//! - [`files`], [`parts`]: attached files, between the page and IndexedDB
//! - [`transport`]: sockets and bundles
//! - [`shapes`]: what passes between Rust and JavaScript
//!
//! That one engine runs at a time in an origin is for the worker to see to (Web Locks).

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod clock;
#[cfg(feature = "contract")]
pub mod contract;
pub mod device;
pub mod files;
mod idb;
pub mod parts;
pub mod shapes;
pub mod store;
pub mod transport;
