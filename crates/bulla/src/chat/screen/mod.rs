//! The chat on the whole screen.
//!
//! ```text
//!   keys, pastes, wheel ─▶ keys ─┐                 ┌─▶ draw ─▶ terminal
//!   events of the endpoint ──────┼─▶ Model ────────┤
//!   answers, the clock ──────────┘   (no I/O)      └─▶ Ask ─▶ worker ─▶ endpoint
//! ```
//!
//! - [`model`]: the state, and what it wants done; [`keys`]: what keys do to it
//! - [`history`]: what is loaded, as entries; [`view`]: which of their rows one looks at; [`bubble`]: an entry as rows
//! - [`editor`]: what is being written; [`wrap`]: text in columns; [`when`]: times
//! - [`draw`], [`help`], [`palette`]: the screen
//! - [`run`](mod@run), [`terminal`]: the loop and the terminal, the only two with I/O

mod bubble;
mod draw;
mod editor;
#[cfg(test)]
mod fixtures;
mod help;
mod history;
mod keys;
mod model;
mod palette;
mod run;
mod terminal;
#[cfg(test)]
mod tests;
mod view;
mod when;
mod wrap;

pub(in crate::chat) use run::run;
pub(in crate::chat) use terminal::possible;
