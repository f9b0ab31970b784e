//! Keeps one connection to one relay: connects, passes frames both ways, and connects again after a pause that grows.

use std::time::Duration;

use bulla_protocol::frame::{ServerFrame, ServerHello, server_frame};
use bulla_protocol::limits;
use bytes::Bytes;
use rand_core::{OsRng, RngCore};
use tokio::sync::mpsc;

use crate::engine::LinkKey;
use crate::rt;
use crate::transport::{Connection, Transport, TransportError};

/// First pause after a lost connection.
const FIRST_PAUSE_MS: u64 = 250;

/// Longest pause.
const LONGEST_PAUSE_MS: u64 = 30_000;

/// What a link tells the driver. A sender belongs to one connection: frames decided for an old one never enter a new one.
pub(super) enum FromLink {
    Up(LinkKey, ServerHello, mpsc::UnboundedSender<Vec<Bytes>>),
    Down(LinkKey, u64),
    Frame(LinkKey, u64, server_frame::Body),
}

/// Runs until aborted.
pub(super) async fn keep<T: Transport>(transport: T, key: LinkKey, engine: mpsc::Sender<FromLink>) {
    let mut pause = FIRST_PAUSE_MS;
    loop {
        match transport.connect(&key.url).await {
            Ok(connection) => {
                let (was_up, why) = session(connection, &key, &engine).await;
                if was_up {
                    pause = FIRST_PAUSE_MS;
                }
                tracing::debug!(%why, "connection ended");
            }
            Err(why) => tracing::debug!(%why, "no connection"),
        }
        // Between half and all of the pause, so that a relay that restarts is not met by everybody at once.
        let wait = pause / 2 + u64::from(OsRng.next_u32()) % (pause / 2 + 1);
        if engine.send(FromLink::Down(key.clone(), wait)).await.is_err() {
            return;
        }
        rt::sleep(Duration::from_millis(wait)).await;
        pause = (pause * 2).min(LONGEST_PAUSE_MS);
    }
}

async fn session<C: Connection>(
    mut connection: C,
    key: &LinkKey,
    engine: &mpsc::Sender<FromLink>,
) -> (bool, TransportError) {
    let ended = || TransportError("the relay closed the connection".into());
    let first = rt::timeout(limits::HELLO_TIMEOUT, connection.receive()).await;
    let hello = match first {
        Some(Ok(Some(frame))) => match ServerFrame::from_bytes(frame) {
            Ok((_, server_frame::Body::Hello(hello))) => hello,
            _ => return (false, TransportError("it is not a relay, or of a version that is not understood".into())),
        },
        Some(Ok(None)) => return (false, ended()),
        Some(Err(e)) => return (false, e),
        None => return (false, TransportError("the relay says nothing".into())),
    };
    let (sender, mut frames) = mpsc::unbounded_channel();
    if engine.send(FromLink::Up(key.clone(), hello, sender)).await.is_err() {
        return (true, ended());
    }
    loop {
        tokio::select! {
            out = frames.recv() => {
                // The driver has dropped the sender: this connection is not wanted any more.
                let Some(mut group) = out else { return (true, ended()) };
                while let Ok(more) = frames.try_recv() {
                    group.extend(more);
                }
                if let Err(e) = connection.send(group).await {
                    return (true, e);
                }
            }
            received = rt::timeout(limits::IDLE_TIMEOUT, connection.receive()) => match received {
                Some(Ok(Some(frame))) => match ServerFrame::from_bytes(frame) {
                    Ok((request, body)) => {
                        if engine.send(FromLink::Frame(key.clone(), request, body)).await.is_err() {
                            return (true, ended());
                        }
                    }
                    Err(e) => return (true, TransportError(format!("the relay sent something that is not a frame: {e}"))),
                },
                Some(Ok(None)) => return (true, ended()),
                Some(Err(e)) => return (true, e),
                None => return (true, TransportError("the relay is silent".into())),
            },
        }
    }
}
