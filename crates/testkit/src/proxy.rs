//! A relay in the middle: every frame between endpoints and the real relay passes through a [`Meddler`], which may pass it on, drop it,
//! repeat it, hold it back, edit it or say something else. What a hostile relay can do, this can do.
//!
//! Point a gateway at [`Proxy::url`]: the bundle then names the proxy, and customers come through it too. [`crate::hostile`] is a meddler
//! that does what it can; [`Wire`] keeps what passes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bulla_protocol::frame::{ClientFrame, ServerFrame, client_frame::Body as Ask, server_frame::Body as Answer};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Decides what becomes of each frame. One for all connections, so that it can carry something from one to another.
pub trait Meddler: Send + 'static {
    /// A frame on its way to the relay; what is passed on instead. `connection` counts from 0.
    fn to_relay(&mut self, _connection: u64, request: u64, ask: Ask) -> Vec<(u64, Ask)> {
        vec![(request, ask)]
    }

    /// A frame on its way to an endpoint; what is passed on instead.
    fn to_endpoint(&mut self, _connection: u64, request: u64, answer: Answer) -> Vec<(u64, Answer)> {
        vec![(request, answer)]
    }

    /// Some time has passed: what is passed on to the endpoint now.
    fn later(&mut self, _connection: u64) -> Vec<(u64, Answer)> {
        Vec::new()
    }

    /// Whether the connection is to be cut now, after what was passed on.
    fn cuts(&mut self, _connection: u64) -> bool {
        false
    }
}

/// How often a meddler is asked what it does [`Meddler::later`].
const LATER: Duration = Duration::from_millis(20);

/// Passes everything on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Honest;

impl Meddler for Honest {}

/// Passes everything on, and keeps it.
#[derive(Debug, Default)]
pub struct Wire {
    connections: BTreeSet<u64>,
    /// Every frame, in both directions, as it was encoded.
    bytes: Vec<u8>,
    frames: usize,
}

impl Wire {
    /// Connections on which a client has said anything.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Frames that passed.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// The bytes of all of them.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn keep(&mut self, frame: &Bytes) {
        self.frames += 1;
        self.bytes.extend_from_slice(frame);
    }
}

impl Meddler for Wire {
    fn to_relay(&mut self, connection: u64, request: u64, ask: Ask) -> Vec<(u64, Ask)> {
        self.connections.insert(connection);
        self.keep(&ClientFrame::new(request, ask.clone()).to_bytes());
        vec![(request, ask)]
    }

    fn to_endpoint(&mut self, _connection: u64, request: u64, answer: Answer) -> Vec<(u64, Answer)> {
        self.keep(&ServerFrame::new(request, answer.clone()).to_bytes());
        vec![(request, answer)]
    }
}

/// A running proxy; it stops, and cuts all connections, when dropped.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    _stop: DropGuard,
}

impl Proxy {
    /// Stands before the relay at `relay` (a `ws://` URL).
    pub async fn start(relay: &str, meddler: impl Meddler) -> Result<Self> {
        Self::start_shared(relay, Arc::new(Mutex::new(meddler))).await
    }

    /// The same, with a meddler that the test keeps a hold of.
    pub async fn start_shared<M: Meddler>(relay: &str, meddler: Arc<Mutex<M>>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a port for the proxy")?;
        let target = url::Url::parse(relay).context("the relay's address")?;
        let url = format!("ws://{}{}", listener.local_addr()?, target.path());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let incoming = tokio::select! {
                    incoming = listener.accept() => incoming,
                    () = stopped.cancelled() => return,
                };
                let Ok((stream, _)) = incoming else { continue };
                let (target, meddler, stopped) = (target.clone(), Arc::clone(&meddler), stopped.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        // However it ends, both sides see a connection that is gone: that is what a hostile relay can always do.
                        _ = between(connection, stream, &target, &meddler) => {}
                        () = stopped.cancelled() => {}
                    }
                });
            }
        });
        Ok(Self { url, _stop: stop.drop_guard() })
    }

    /// Where endpoints connect to.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

async fn between<M: Meddler>(connection: u64, stream: TcpStream, target: &url::Url, meddler: &Mutex<M>) -> Result<()> {
    // WebSockets only: bundles over HTTP are served by the gateway too, and their substitution has its own test.
    let mut endpoint = tokio_tungstenite::accept_async(stream).await?;
    let (mut relay, _) = tokio_tungstenite::connect_async(target.as_str()).await?;
    let mut later = tokio::time::interval(LATER);
    loop {
        tokio::select! {
            _ = later.tick() => {
                let out = lock(meddler).later(connection);
                for (request, answer) in out {
                    endpoint.send(Message::Binary(ServerFrame::new(request, answer).to_bytes())).await?;
                }
            }
            message = endpoint.next() => {
                let Some(Ok(message)) = message else { return Ok(()) };
                let Message::Binary(bytes) = message else { continue };
                for bytes in asked(connection, bytes, meddler) {
                    relay.send(Message::Binary(bytes)).await?;
                }
            }
            message = relay.next() => {
                let Some(Ok(message)) = message else { return Ok(()) };
                let Message::Binary(bytes) = message else { continue };
                for bytes in answered(connection, bytes, meddler) {
                    endpoint.send(Message::Binary(bytes)).await?;
                }
            }
        }
        if lock(meddler).cuts(connection) {
            return Ok(());
        }
    }
}

fn lock<M>(meddler: &Mutex<M>) -> MutexGuard<'_, M> {
    meddler.lock().unwrap_or_else(PoisonError::into_inner)
}

fn asked<M: Meddler>(connection: u64, bytes: Bytes, meddler: &Mutex<M>) -> Vec<Bytes> {
    let Ok((request, ask)) = ClientFrame::from_bytes(bytes.clone()) else { return vec![bytes] };
    let out = lock(meddler).to_relay(connection, request, ask);
    out.into_iter().map(|(request, ask)| ClientFrame::new(request, ask).to_bytes()).collect()
}

fn answered<M: Meddler>(connection: u64, bytes: Bytes, meddler: &Mutex<M>) -> Vec<Bytes> {
    let Ok((request, answer)) = ServerFrame::from_bytes(bytes.clone()) else { return vec![bytes] };
    let out = lock(meddler).to_endpoint(connection, request, answer);
    out.into_iter().map(|(request, answer)| ServerFrame::new(request, answer).to_bytes()).collect()
}
