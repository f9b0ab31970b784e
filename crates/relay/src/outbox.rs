//! Frames on their way to one client.
//!
//! Any part of the relay may push a frame without waiting; the connection's own writing task sends them in that order. What waits is bounded by those
//! who push: answers hold a slot of the connection's in-flight limit until they are written, and who delivers or reads
//! further requests first looks whether the client keeps up ([`Outbox::is_congested`], [`Outbox::ready`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bulla_protocol::frame::{Accepted, Code, Done, Failed, ServerFrame, server_frame::Body};
use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};

use crate::limits;
use crate::metrics::Metrics;

/// A connection, as long as the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// One of the requests that a connection may have in flight, with the bytes that it takes; free again when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    _request: OwnedSemaphorePermit,
    bytes: Option<OwnedSemaphorePermit>,
}

impl Slot {
    /// A request that takes no bytes worth counting.
    pub(crate) fn new(request: OwnedSemaphorePermit) -> Self {
        Self { _request: request, bytes: None }
    }
}

/// A frame that waits to be written, with the slot of the request it answers.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// The encoded frame.
    pub(crate) bytes: Bytes,
    /// Given back once it is written.
    pub(crate) slot: Option<Slot>,
}

/// The pushing end.
#[derive(Debug, Clone)]
pub(crate) struct Outbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    id: ConnectionId,
    frames: mpsc::UnboundedSender<Outgoing>,
    queued: AtomicUsize,
    drained: Notify,
    metrics: Arc<Metrics>,
}

impl Outbox {
    /// Both ends.
    #[must_use]
    pub(crate) fn new(id: ConnectionId, metrics: Arc<Metrics>) -> (Self, mpsc::UnboundedReceiver<Outgoing>) {
        let (frames, waiting) = mpsc::unbounded_channel();
        (Self(Arc::new(Shared { id, frames, queued: AtomicUsize::new(0), drained: Notify::new(), metrics })), waiting)
    }

    /// Whose it is.
    #[must_use]
    pub(crate) fn connection(&self) -> ConnectionId {
        self.0.id
    }

    /// Queues a frame. A connection that has ended drops it.
    pub(crate) fn push(&self, request: u64, body: Body, slot: Option<Slot>) {
        if let Body::Failed(failed) = &body {
            self.0.metrics.refused(failed.code);
        }
        let bytes = ServerFrame::new(request, body).to_bytes();
        self.0.queued.fetch_add(bytes.len(), Ordering::AcqRel);
        let _ = self.0.frames.send(Outgoing { bytes, slot });
    }

    /// Whether more waits than a client that keeps up would leave.
    #[must_use]
    pub(crate) fn is_congested(&self) -> bool {
        self.0.queued.load(Ordering::Acquire) > limits::OUTBOX_BYTES
    }

    /// Waits until the client has caught up.
    pub(crate) async fn ready(&self) {
        // What almost always is so, without a place among those who wait.
        if !self.is_congested() {
            return;
        }
        loop {
            let drained = self.0.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            if !self.is_congested() {
                return;
            }
            drained.await;
        }
    }

    /// The writing task's word that so many bytes have left.
    pub(crate) fn written(&self, bytes: usize) {
        let before = self.0.queued.fetch_sub(bytes, Ordering::AcqRel);
        if before > limits::OUTBOX_BYTES && before.saturating_sub(bytes) <= limits::OUTBOX_BYTES {
            self.0.drained.notify_waiters();
        }
    }
}

/// A typed refusal, with the time after which to try again (0: trying again will not help).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Why.
    pub(crate) code: Code,
    /// Milliseconds.
    pub(crate) retry_after_ms: u32,
    /// With `Superseded`: the mailbox's highest incarnation. Told to its owner alone.
    pub(crate) incarnation: u64,
}

impl Refusal {
    /// A rate is used up for so long.
    #[must_use]
    pub(crate) fn rate(wait: Duration) -> Self {
        Self::after(Code::Rate, u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).saturating_add(1))
    }

    /// Trying again after a while may help.
    #[must_use]
    pub(crate) const fn after(code: Code, retry_after_ms: u32) -> Self {
        Self { code, retry_after_ms, incarnation: 0 }
    }

    /// A later incarnation holds the mailbox.
    #[must_use]
    pub(crate) const fn superseded(highest: u64) -> Self {
        Self { code: Code::Superseded, retry_after_ms: 0, incarnation: highest }
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self::after(code, 0)
    }
}

impl From<crate::writer::Unavailable> for Refusal {
    fn from(_: crate::writer::Unavailable) -> Self {
        Self::after(Code::Unavailable, limits::RETRY_UNAVAILABLE_MS)
    }
}

/// Somebody who waits for the answer to one request. Dropped without an answer if the relay goes down.
#[derive(Debug)]
pub(crate) struct Waiter {
    outbox: Outbox,
    request: u64,
    slot: Slot,
}

impl Waiter {
    /// For a request of this connection.
    #[must_use]
    pub(crate) fn new(outbox: Outbox, request: u64, slot: Slot) -> Self {
        Self { outbox, request, slot }
    }

    /// Counts an envelope's or a commit's bytes to the connection until it is answered.
    pub(crate) fn hold(&mut self, bytes: OwnedSemaphorePermit) {
        self.slot.bytes = Some(bytes);
    }

    /// The recipient has it, or stable storage does.
    pub(crate) fn accept(self) {
        self.answer(Body::Accepted(Accepted {}));
    }

    /// It is done.
    pub(crate) fn done(self) {
        self.answer(Body::Done(Done {}));
    }

    /// It is refused.
    pub(crate) fn refuse(self, refusal: impl Into<Refusal>) {
        let Refusal { code, retry_after_ms, incarnation } = refusal.into();
        self.answer(Body::Failed(Failed { code: code.into(), retry_after_ms, incarnation }));
    }

    /// Any other answer.
    pub(crate) fn answer(self, body: Body) {
        self.outbox.push(self.request, body, Some(self.slot));
    }
}
