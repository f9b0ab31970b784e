//! The gateway: a business's endpoint, with the REST surface and the webhooks of the WhatsApp Cloud API.
//!
//! It runs where the business decides, holds the business's keys, and is end to end: what it says over HTTP to the business's own
//! programs it says inside the business's trust boundary. Towards customers it is an endpoint like any other ([`bulla_client`]).
//!
//! ```text
//!                    ┌───────────────────────────── gateway ─────────────────────────────┐
//!  any SDK ─ REST ──▶│ cloud_api ──▶ Business ──▶ bulla_client::Endpoint ◀─ envelopes ─▶ │ relay
//!                    │                   │              │ events, in their transaction    │
//!  receiver ◀─ POST ─│ egress ◀─ webhooks::deliverer ◀─ webhooks::projector ─▶ store      │
//!  customer ── GET ─▶│ public (signed bundle)           env (credentials, unix socket)    │
//!                    └────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! - `cloud_api`: routes, tokens, parameters, errors
//! - `webhooks`: payloads, signatures, the queue's order and delivery
//! - `store`: the gateway's rows beside the engine's, in the same transactions
//! - `identity`: who a customer is at the business itself, by the word of its backend
//! - `push`: wakes customers' devices of which nothing runs
//! - `egress`: the only outgoing HTTP to addresses that others chose
//! - [`backup`]: a copy of a business, and back
//! - `console`: the developer's page and its API, behind the same listener as the Cloud API
//! - `public`: what customers fetch; `env`: what `bulla env` reads; [`feed`]: what `bulla up` prints
//!
//! HTTP 200 of a message means durable in the outbox. The 24 h window is kept by the engine, which tells a message that came too late as
//! failed; it reaches the caller as a `failed` status with 131047.
//!
//! The public interface is: [`Gateway`], [`Config`], [`Running`], [`Credentials`], [`read_credentials`], and the [`feed`].

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod account;
mod app;
pub mod backup;
mod business;
mod cloud_api;
mod config;
mod console;
mod egress;
mod entropy;
mod env;
mod export;
pub mod feed;
mod flow;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod gateway;
mod identity;
mod numbers;
mod open;
mod public;
mod push;
mod secret;
mod store;
mod template;
pub mod token;
mod watch;
mod webhooks;

pub use account::Credentials;
pub use app::{App, AppError};
pub use config::{ApiReach, Config, NewBusiness};
pub use console::guard::OriginError;
pub use egress::{AddressError, EgressError};
pub use env::{EnvError, new_console_link, read_credentials};
pub use export::Exported;
pub use gateway::{Gateway, Running, ServeError};
pub use identity::{IdentityKey, IdentityKeyError};
pub use secret::Secret;
