//! TLS for the relay and the gateway: where a certificate comes from, and connections that are encrypted with it.
//!
//! It protects who talks to whom and when from those on the path; messages are sealed end to end before they get here, with or without it.
//! The protocol is rustls's, with ring. This crate knows nothing of messages, and keeps no network address.
//!
//! ```text
//!  --tls-cert FILE --tls-key FILE ──▶ files ──┐ looked at every minute            ┌── client
//!  --domain NAME ────────────────────▶ acme ──┤ ordered, renewed                  │  handshakes apart from each other,
//!                                              ▼                                  ▼  bounded in time and number
//!                                   resolver: the certificate in use ──▶ TlsListener ──▶ axum::serve
//! ```
//!
//! - [`TlsArgs`]: the flags, the same in both programs; [`Source`] is what they come to
//! - [`Tls`]: a certificate that is kept up to date; [`Tls::listen`] makes a [`TlsListener`]
//! - `certificate`: PEM files, and what may be wrong with them; `files` and `acme` keep it up to date
//! - [`local`]: a certificate for an address of the local network
//! - [`roots`]: whom a client trusts
//! - [`TlsError`]: why it cannot be done, and what to do
//!
//! No session is resumed: a ticket would tell the server which connections come from one client, and a relay's client keeps two apart.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod acme;
mod args;
mod certificate;
mod error;
mod files;
mod listener;
pub mod local;
pub mod roots;
mod tls;

pub use acme::Acme;
pub use args::TlsArgs;
pub use error::TlsError;
pub use listener::{HANDSHAKES, TlsListener};
pub use tls::{Now, Seen, Source, Tls};
