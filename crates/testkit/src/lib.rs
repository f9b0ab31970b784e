//! What the project's outer tests are made of. Used by tests and measurements only; nobody ships it.
//!
//! ```text
//!   World ── starts ──▶ bulla up ──▶ bulla-relay, bulla gateway        (real programs, a temporary folder, free ports)
//!     │                                   │ webhooks
//!     ├── Receiver ◀──────────────────────┘        the business's own web server: can be down, slow, wrong
//!     ├── CloudApi ──▶ the gateway                 the business's own program
//!     └── Customer ──▶ bulla chat --plain          a customer in a terminal
//! ```
//!
//! - [`world`]: the picture above, so that a test reads as a story
//! - [`alone`]: a test in a network of its own, where whatever leaves is counted
//! - [`apart`]: the same with relay and gateway as the test's own children, and maybe a proxy between
//! - [`town`]: people who talk while parts are killed, and the verdict over what they were told and shown
//! - [`process`]: children that are gone when their owner is, and kill -9
//! - [`webhook`]: a receiver of webhooks that keeps every byte and misbehaves when told
//! - [`cloud`]: the Cloud API as a program calls it
//! - [`terminal`]: `bulla chat --plain`, line by line
//! - [`history`]: who was told that what was accepted, who was shown what, and the verdict
//! - [`canary`]: strings that must not be found, and the scanner that looks for them in files and in memory
//! - [`proxy`]: a relay in the middle: everything between endpoints and the real relay passes through a meddler
//! - [`hostile`]: the meddler that drops, repeats, replays, edits, holds back and cuts
//! - [`relay`]: a relay's client without any end-to-end part, for tests and measurements of the relay alone
//! - [`sim`]: endpoints and a relay in one process, with clock, network, stores and malice injected: a seed in, a verdict out
//! - [`memory_store`]: an endpoint's store in memory
//! - [`decoders`]: every decoder of what a peer sends, as one function that the fuzzer and ordinary tests share
//! - [`chance`]: randomness that a printed seed repeats
//! - [`wait`]: waiting for what must happen, with a deadline that is only a guard

pub mod alone;
pub mod apart;
pub mod canary;
pub mod chance;
pub mod cloud;
pub mod decoders;
pub mod history;
pub mod hostile;
pub mod memory_store;
pub mod process;
pub mod proxy;
pub mod relay;
#[cfg(feature = "under-test")]
pub mod sim;
pub mod terminal;
pub mod town;
pub mod wait;
pub mod webhook;
pub mod world;
