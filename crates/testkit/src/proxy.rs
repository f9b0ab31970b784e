//! A relay in the middle: every frame between endpoints and the real relay passes through a [`Meddler`], which may pass it on, drop it,
//! repeat it, hold it back, edit it or say something else. What a hostile relay can do, this can do.
//!
//! Point a gateway at [`Proxy::url`]: the bundle then names the proxy, and customers come through it too.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use bulla_protocol::frame::{ClientFrame, ServerFrame, client_frame::Body as Ask, server_frame::Body as Answer};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use rand_core::RngCore as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::chance::Chance;

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

    /// Whether the connection is to be cut now, after what was passed on.
    fn cuts(&mut self, _connection: u64) -> bool {
        false
    }
}

/// Passes everything on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Honest;

impl Meddler for Honest {}

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
    loop {
        tokio::select! {
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
        if meddler.lock().unwrap_or_else(PoisonError::into_inner).cuts(connection) {
            return Ok(());
        }
    }
}

fn asked<M: Meddler>(connection: u64, bytes: Bytes, meddler: &Mutex<M>) -> Vec<Bytes> {
    let Ok((request, ask)) = ClientFrame::from_bytes(bytes.clone()) else { return vec![bytes] };
    let mut meddler = meddler.lock().unwrap_or_else(PoisonError::into_inner);
    let out = meddler.to_relay(connection, request, ask);
    out.into_iter().map(|(request, ask)| ClientFrame::new(request, ask).to_bytes()).collect()
}

fn answered<M: Meddler>(connection: u64, bytes: Bytes, meddler: &Mutex<M>) -> Vec<Bytes> {
    let Ok((request, answer)) = ServerFrame::from_bytes(bytes.clone()) else { return vec![bytes] };
    let mut meddler = meddler.lock().unwrap_or_else(PoisonError::into_inner);
    let out = meddler.to_endpoint(connection, request, answer);
    out.into_iter().map(|(request, answer)| ServerFrame::new(request, answer).to_bytes()).collect()
}

/// What a [`Hostile`] relay has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deeds {
    /// Connections cut at a random frame.
    pub cuts: u64,
    /// Envelopes delivered twice.
    pub repeats: u64,
    /// Envelopes of long ago delivered again, under a new number.
    pub replays: u64,
    /// Envelopes with a bit turned, before the right one.
    pub edits: u64,
    /// Answers `Accepted` that were held back, so that the sender must ask again.
    pub withheld: u64,
}

/// A relay that misbehaves at random, by a seed: it cuts connections, delivers envelopes twice, replays old ones, delivers edited copies
/// beside the right ones, and withholds answers. It delivers the right envelope too, so that a correct endpoint shows everything once.
#[derive(Debug)]
pub struct Hostile {
    chance: Chance,
    /// One frame in so many is meddled with.
    one_in: u64,
    seen: Vec<Answer>,
    cut: bool,
    /// What it has done.
    pub deeds: Deeds,
}

impl Hostile {
    /// By a seed; one frame in `one_in` is meddled with.
    #[must_use]
    pub fn new(seed: u64, one_in: u64) -> Self {
        Self { chance: Chance::new(seed), one_in, seen: Vec::new(), cut: false, deeds: Deeds::default() }
    }
}

impl Meddler for Hostile {
    fn to_endpoint(&mut self, _connection: u64, request: u64, answer: Answer) -> Vec<(u64, Answer)> {
        if !self.chance.once_in(self.one_in) {
            if matches!(answer, Answer::Deliver(_)) {
                self.seen.push(answer.clone());
            }
            return vec![(request, answer)];
        }
        match &answer {
            Answer::Accepted(_) => {
                self.deeds.withheld += 1;
                self.cut = true;
                Vec::new()
            }
            Answer::Deliver(deliver) => match self.chance.below(4) {
                0 => {
                    self.deeds.repeats += 1;
                    vec![(request, answer.clone()), (request, answer)]
                }
                1 if !self.seen.is_empty() => {
                    self.deeds.replays += 1;
                    let mut old = self.chance.choose(&self.seen).clone();
                    if let Answer::Deliver(old) = &mut old {
                        old.subscription = deliver.subscription;
                        old.number = deliver.number;
                    }
                    vec![(request, old), (request, answer)]
                }
                2 => {
                    self.deeds.edits += 1;
                    let mut edited = deliver.clone();
                    let mut bytes = edited.envelope.to_vec();
                    let at = self.chance.next_u64() as usize % bytes.len().max(1);
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << self.chance.below(8);
                    }
                    edited.envelope = bytes.into();
                    vec![(request, Answer::Deliver(edited)), (request, answer)]
                }
                _ => {
                    self.deeds.cuts += 1;
                    self.cut = true;
                    vec![(request, answer)]
                }
            },
            _ => vec![(request, answer)],
        }
    }

    fn cuts(&mut self, _connection: u64) -> bool {
        std::mem::take(&mut self.cut)
    }
}
