//! `/health` and `/metrics`, on a listener of their own: for the operator's monitoring, and not for whoever can reach
//! the relay.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::metrics::Now;
use crate::server::Relay;

/// How long the writing thread may take to say that it is there. It answers behind what waits for the disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// What OpenMetrics calls itself.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A listener that answers until it is dropped, so also while the relay stops.
#[derive(Debug)]
pub(crate) struct Ops {
    pub(crate) addr: SocketAddr,
    serving: JoinHandle<()>,
}

impl Drop for Ops {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Answers on an address that was bound. A connection that is kept open keeps nothing of the relay.
pub(crate) fn listen(listener: TcpListener, relay: &Arc<Relay>) -> std::io::Result<Ops> {
    let addr = listener.local_addr()?;
    if !addr.ip().is_loopback() {
        tracing::warn!("/metrics is reached from outside of this machine: see docs/metadata.md for who may read it");
    }
    let app =
        Router::new().route("/health", get(health)).route("/metrics", get(metrics)).with_state(Arc::downgrade(relay));
    let serving = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "/health and /metrics are not answered any more");
        }
    });
    Ok(Ops { addr, serving })
}

/// Why the relay cannot accept and store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unhealthy {
    /// It is told to stop.
    #[error("draining")]
    Draining,
    /// The store has failed.
    #[error("the store failed")]
    Failed,
    /// The disk takes its time.
    #[error("the disk does not answer")]
    Slow,
}

/// Whether it can accept and store: looked up where it is decided, by the thread that writes.
pub(crate) async fn look(relay: &Relay) -> Result<(), Unhealthy> {
    if relay.stopping().is_cancelled() {
        return Err(Unhealthy::Draining);
    }
    let writer = &relay.shared().writer;
    if writer.has_failed() {
        return Err(Unhealthy::Failed);
    }
    tokio::select! {
        () = relay.stopping().cancelled() => Err(Unhealthy::Draining),
        written = tokio::time::timeout(PATIENCE, writer.write(Vec::new())) => match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Unhealthy::Failed),
            Err(_) => Err(Unhealthy::Slow),
        },
    }
}

async fn health(State(relay): State<Weak<Relay>>) -> (StatusCode, String) {
    let looked = match relay.upgrade() {
        Some(relay) => look(&relay).await,
        None => Err(Unhealthy::Draining),
    };
    match looked {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn metrics(State(relay): State<Weak<Relay>>) -> Response {
    let Some(relay) = relay.upgrade() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let shared = relay.shared();
    let now = Now {
        memory: shared.budget.taken() as u64,
        memory_limit: shared.budget.limit() as u64,
        mailboxes: relay.registry().loaded() as u64,
        handshakes_refused: relay.handshakes_refused(),
    };
    match shared.metrics.text(&now) {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
