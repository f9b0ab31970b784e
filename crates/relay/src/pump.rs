//! A reader's task: reads pages of its backlog from the store and watches the clock of what it was handed in memory.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::mailbox::{Mailbox, Step, SubscriptionId};
use crate::server::Relay;

/// Runs until the subscription is over.
pub(crate) async fn run(relay: Arc<Relay>, mailbox: Arc<Mailbox>, id: SubscriptionId) {
    loop {
        match mailbox.step(id) {
            Step::Over => return,
            Step::Congested(outbox, wake, until) => {
                tokio::select! {
                    () = outbox.ready() => {}
                    () = woken(&wake, until) => {}
                }
            }
            Step::Wait(wake, until) => woken(&wake, until).await,
            Step::Read { from, through, page, removals } => {
                let wanted = *mailbox.id();
                let rows = relay.registry().read(move |store| store.rows(&wanted, from..=through, page)).await;
                // A store that cannot be read takes the relay down; the reader's connection ends with it.
                let Ok(rows) = rows else { return };
                mailbox.deliver(id, (from, through, removals), &rows, relay.clock().day());
            }
        }
    }
}

async fn woken(wake: &Notify, until: Option<Instant>) {
    match until {
        Some(until) => tokio::select! {
            () = wake.notified() => {}
            () = sleep_until(until) => {}
        },
        None => wake.notified().await,
    }
}
