//! One WebSocket connection: greeting, roles, limits, and one task each for reading and writing.
//!
//! Requests are taken one after another, so that what one connection asks of one mailbox happens in its order. A `Send` is only queued by that; its answer
//! comes whenever the envelope is confirmed or stored, and likewise a `ClaimSlot`. Everything else is short and is answered before the next request is taken.
//!
//! A peer that breaks the protocol is told `Failed{MALFORMED}` once and the connection is closed; nothing it can send ends the process. What
//! it is told never says more than the code.

mod anonymous;
mod owner;

use std::pin::Pin;
use std::sync::Arc;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use bulla_protocol::VERSION;
use bulla_protocol::frame::{
    ClientFrame, Code, Done, Failed, FrameError, Role, ServerHello, client_frame, server_frame::Body,
};
use bulla_protocol::id::Challenge;
use bulla_protocol::limits::{HELLO_TIMEOUT, IDLE_TIMEOUT, IN_FLIGHT_PER_CONNECTION};
use bytes::Bytes;
use futures_util::SinkExt;
use futures_util::stream::{SplitSink, SplitStream, StreamExt};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::limits;
use crate::outbox::{ConnectionId, Outbox, Outgoing, Slot, Waiter};
use crate::server::Relay;

/// Why a connection is closed by this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
enum Closed {
    /// The client went, or the network did.
    #[error("the client went")]
    Gone,
    /// Nothing was heard for too long.
    #[error("nothing was heard for too long")]
    Idle,
    /// The client broke the protocol, with this request (0: no frame could be read).
    #[error("malformed: {1}")]
    Malformed(u64, &'static str),
    /// The client's hello, which is this request, names a version that this relay does not speak.
    #[error("no common version")]
    Version(u64),
    /// The relay stops.
    #[error("the relay stops")]
    Stopping,
}

/// What the handlers of both roles need to know of their connection.
struct Peer {
    relay: Arc<Relay>,
    outbox: Outbox,
    challenge: Challenge,
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// Serves one connection to its end.
pub(crate) async fn serve(relay: Arc<Relay>, socket: WebSocket, id: ConnectionId) {
    let (sink, stream) = socket.split();
    let metrics = &relay.shared().metrics;
    let mut counted = metrics.connected();
    let (outbox, frames) = Outbox::new(id, Arc::clone(metrics));
    let closing = CancellationToken::new();
    let stop = relay.stopping().clone();
    let mut writing = tokio::spawn(write(sink, frames, outbox.clone(), closing.clone(), stop));
    let challenge = relay.challenge();
    let peer = Peer {
        outbox: outbox.clone(),
        challenge,
        requests: Arc::new(Semaphore::new(IN_FLIGHT_PER_CONNECTION)),
        bytes: Arc::new(Semaphore::new(limits::IN_FLIGHT_BYTES)),
        relay,
    };
    let mut incoming = Incoming::new(stream, &peer.relay);
    let why = match peer.greet(&mut incoming).await {
        Ok(role) => {
            counted.is(role);
            match role {
                Role::Owner => owner::serve(&peer, &mut incoming).await,
                _ => anonymous::serve(&peer, &mut incoming).await,
            }
        }
        Err(why) => why,
    };
    if why == Closed::Stopping {
        peer.drain().await;
    }
    tracing::debug!(connection = id.0, %why, "closed");
    let told = match why {
        Closed::Malformed(request, _) => Some((request, Code::Malformed)),
        Closed::Version(request) => Some((request, Code::Version)),
        _ => None,
    };
    if let Some((request, code)) = told {
        outbox.push(request, Body::Failed(Failed { code: code.into(), ..Failed::default() }), None);
    }
    closing.cancel();
    let flushed = tokio::time::timeout(limits::CLOSE_TIMEOUT, async {
        let _ = (&mut writing).await;
        // Closing a socket with unread bytes in it would reset it, and the client might never see what it was told.
        if told.is_some() {
            while incoming.stream.next().await.is_some_and(|message| message.is_ok()) {}
        }
    });
    if flushed.await.is_err() {
        // A client that does not read would keep what waits for it in memory for as long as it likes.
        writing.abort();
    }
}

impl Peer {
    async fn greet(&self, incoming: &mut Incoming) -> Result<Role, Closed> {
        let hello = ServerHello {
            versions: vec![VERSION],
            name: self.relay.name().as_str().to_owned(),
            instance: self.relay.instance().to_vec(),
            now: self.relay.clock().unix_secs(),
            challenge: self.challenge.as_bytes().to_vec(),
            work_bits: self.relay.work_bits(),
        };
        self.outbox.push(0, Body::Hello(hello), None);
        let first = tokio::time::timeout(HELLO_TIMEOUT, incoming.next(&self.outbox)).await;
        let (request, body) = first.map_err(|_| Closed::Idle)??;
        let client_frame::Body::Hello(hello) = body else { return Err(Closed::Malformed(request, "no hello")) };
        if hello.version != VERSION {
            return Err(Closed::Version(request));
        }
        let role = match hello.role() {
            Role::Unspecified => return Err(Closed::Malformed(request, "no role")),
            role => role,
        };
        if request != 0 {
            self.outbox.push(request, Body::Done(Done {}), None);
        }
        tracing::debug!(connection = self.outbox.connection().0, ?role, "greeted");
        Ok(role)
    }

    /// The relay stops: waits, not for ever, until all that was asked is answered. What readers had not confirmed is being stored meanwhile.
    async fn drain(&self) {
        let writer = &self.relay.shared().writer;
        let all = u32::try_from(IN_FLIGHT_PER_CONNECTION).unwrap_or(u32::MAX);
        // After a failure of the store nobody is answered any more.
        if !writer.has_failed() {
            let mut failure = writer.failure();
            tokio::select! {
                _ = tokio::time::timeout(self.relay.drain(), self.requests.acquire_many(all)) => {}
                _ = failure.wait_for(Option::is_some) => {}
            }
        }
    }

    /// A place among the requests in flight, or the answer that there is none.
    fn waiter(&self, request: u64) -> Result<Option<Waiter>, Closed> {
        if request == 0 {
            return Err(Closed::Malformed(0, "request 0"));
        }
        let Ok(slot) = Arc::clone(&self.requests).try_acquire_owned() else {
            let busy = Failed { code: Code::Busy.into(), retry_after_ms: limits::RETRY_BUSY_MS, incarnation: 0 };
            self.outbox.push(request, Body::Failed(busy), None);
            return Ok(None);
        };
        Ok(Some(Waiter::new(self.outbox.clone(), request, Slot::new(slot))))
    }

    /// Answers what both roles answer alike: greetings out of order, pings and the other role's requests.
    fn common(&self, request: u64, body: &client_frame::Body) -> Result<(), Closed> {
        if matches!(body, client_frame::Body::Hello(_)) {
            return Err(Closed::Malformed(request, "second hello"));
        }
        let Some(waiter) = self.waiter(request)? else { return Ok(()) };
        match body {
            client_frame::Body::Ping(_) => waiter.done(),
            _ => waiter.refuse(Code::Denied),
        }
        Ok(())
    }
}

/// The reading half: one frame after the other. What ends it is waited for once and not with each frame, which would cost more than the frame.
struct Incoming {
    stream: SplitStream<WebSocket>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    idle: Pin<Box<Sleep>>,
}

impl Incoming {
    fn new(stream: SplitStream<WebSocket>, relay: &Relay) -> Self {
        // Of its own, so that connections do not wait for each other where they ask whether the relay stops.
        let stop = Box::pin(relay.stopping().child_token().cancelled_owned());
        Self { stream, stop, idle: Box::pin(tokio::time::sleep(IDLE_TIMEOUT)) }
    }

    /// The next frame. Takes none while the client does not read what it was sent.
    async fn next(&mut self, outbox: &Outbox) -> Result<(u64, client_frame::Body), Closed> {
        let mut since = Instant::now();
        loop {
            let heard = async {
                outbox.ready().await;
                self.stream.next().await
            };
            let message = tokio::select! {
                // Frames first: where one is there, the rest need not be asked. A client that never pauses is made to by tokio's budget.
                biased;
                heard = heard => heard,
                () = &mut self.stop => return Err(Closed::Stopping),
                () = &mut self.idle => {
                    let until = since + IDLE_TIMEOUT;
                    if until <= Instant::now() {
                        return Err(Closed::Idle);
                    }
                    self.idle.as_mut().reset(until);
                    continue;
                }
            };
            match message {
                Some(Ok(Message::Binary(bytes))) => return decode(bytes),
                Some(Ok(Message::Text(_))) => return Err(Closed::Malformed(0, "text")),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => since = Instant::now(),
                Some(Ok(Message::Close(_))) | None => return Err(Closed::Gone),
                // Over the size limit, not WebSocket, or cut off: the answer reaches whoever is still there.
                Some(Err(_)) => return Err(Closed::Malformed(0, "not a WebSocket message within the limit")),
            }
        }
    }
}

fn decode(bytes: Bytes) -> Result<(u64, client_frame::Body), Closed> {
    ClientFrame::from_bytes(bytes).map_err(|error| {
        let what = match error {
            FrameError::TooLarge => "too large",
            FrameError::Empty => "empty",
            _ => "not a frame",
        };
        Closed::Malformed(0, what)
    })
}

/// The writing half: frames in the order in which they were pushed, and pings, so that a client that is gone is noticed.
async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut frames: UnboundedReceiver<Outgoing>,
    outbox: Outbox,
    closing: CancellationToken,
    stop: CancellationToken,
) {
    const BATCH: usize = 64;
    // Made when it is needed: most connections are idle.
    let mut batch = Vec::new();
    let mut pings = tokio::time::interval(IDLE_TIMEOUT / 3);
    pings.reset();
    let closed = closing.cancelled();
    tokio::pin!(closed);
    let sent = async {
        loop {
            tokio::select! {
                biased;
                count = frames.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return Ok(());
                    }
                    for Outgoing { bytes, slot } in batch.drain(..) {
                        let length = bytes.len();
                        sink.feed(Message::Binary(bytes)).await?;
                        outbox.written(length);
                        drop(slot);
                    }
                    sink.flush().await?;
                }
                // Only when all that was pushed before is written.
                () = &mut closed => {
                    // A client that reads "restart" comes again, and not at once.
                    let code = if stop.is_cancelled() { close_code::RESTART } else { close_code::NORMAL };
                    let close = CloseFrame { code, reason: "".into() };
                    return sink.send(Message::Close(Some(close))).await;
                }
                _ = pings.tick() => sink.send(Message::Ping(Bytes::new())).await?,
            }
        }
    };
    let failed: Result<(), axum::Error> = sent.await;
    if failed.is_err() {
        // The reading half notices by itself, or when it is idle for too long; nothing more is written.
        closing.cancel();
    }
}
