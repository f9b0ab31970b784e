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

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Asks whether it is there.
    Head,
    /// Makes something.
    Post,
    /// Writes.
    Put,
    /// Removes.
    Delete,
}

impl Method {
    /// As it stands in a request.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// A request for a blob. It follows no redirection and shows nothing of who asks.
#[derive(Clone)]
pub struct HttpRequest {
    /// What it does.
    pub method: Method,
    /// With what.
    pub url: String,
    /// The blob's key, as it follows `Bearer`.
    pub key: Option<String>,
    /// What is sent.
    pub body: Option<Vec<u8>>,
    /// Bytes that an answer may have.
    pub longest: u64,
}

impl std::fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HttpRequest({})", self.method.as_str())
    }
}

impl HttpRequest {
    /// Without a key and a body.
    #[must_use]
    pub fn new(method: Method, url: String) -> Self {
        Self { method, url, key: None, body: None, longest: 0 }
    }

    /// Shows a key.
    #[must_use]
    pub fn with_key(self, key: String) -> Self {
        Self { key: Some(key), ..self }
    }

    /// Sends this.
    #[must_use]
    pub fn with_body(self, body: Vec<u8>) -> Self {
        Self { body: Some(body), ..self }
    }

    /// An answer may have so many bytes.
    #[must_use]
    pub fn answered_with(self, longest: u64) -> Self {
        Self { longest, ..self }
    }
}

/// What a request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// Its status.
    pub status: u16,
    /// When to try again, if it says so in seconds.
    pub retry_after_secs: Option<u32>,
    /// What came with status 200.
    pub body: Vec<u8>,
}

/// How long a request for a blob may take: a part of 1 MiB on a slow line.
pub const REQUEST_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(90);

/// Makes connections.
pub trait Transport: Clone + 'static {
    /// What it makes.
    type Connection: Connection;
    /// Opens a WebSocket to a relay's URL (`ws://…/v1/ws`).
    fn connect(&self, url: &str) -> impl Future<Output = Result<Self::Connection, TransportError>>;
    /// Makes a request for a blob.
    fn request(&self, request: HttpRequest) -> impl Future<Output = Result<HttpAnswer, TransportError>>;
    /// Fetches a contact bundle.
    fn fetch(&self, url: &str) -> impl Future<Output = Result<Vec<u8>, TransportError>>;
}
