//! How frames and bundles get from here to a relay and back: a trait, because the browser has its own WebSocket.

#[cfg(not(target_arch = "wasm32"))]
pub mod ws;

use std::future::Future;

use bytes::Bytes;

/// What went wrong on the way. Never contains message content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TransportError(pub String);

/// One open connection: frames in both directions, in order.
pub trait Connection {
    /// Sends frames, in order, flushing once.
    fn send(&mut self, frames: Vec<Bytes>) -> impl Future<Output = Result<(), TransportError>>;
    /// The next frame; `None` at the end. Safe to cancel.
    fn receive(&mut self) -> impl Future<Output = Result<Option<Bytes>, TransportError>>;
}

/// Makes connections.
pub trait Transport: Clone + 'static {
    /// What it makes.
    type Connection: Connection;
    /// Opens a WebSocket to a relay's URL (`ws://…/v1/ws`).
    fn connect(&self, url: &str) -> impl Future<Output = Result<Self::Connection, TransportError>>;
    /// Fetches a contact bundle.
    fn fetch(&self, url: &str) -> impl Future<Output = Result<Vec<u8>, TransportError>>;
}
