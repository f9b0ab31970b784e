//! Brings the queue's rows into the log: one task per business, in the order in which rows came.
//!
//! A row that the deliverer took out before it was read here is in the log through the deliverer. Both name it by its sequence.

use std::sync::Arc;

use bulla_client::endpoint::CommandError;
use tokio_util::sync::CancellationToken;

use super::limits::WEBHOOKS;
use super::log::{Log, Row};
use crate::business::Business;
use crate::store::queue;
use crate::webhooks::sign;

/// Rows read in one transaction: bounds how long the engine is held up.
const AT_ONCE: usize = 50;

/// Runs until `stop`, or until the endpoint has stopped.
pub(crate) async fn run(business: Arc<Business>, log: Log, stop: CancellationToken) {
    if log.keeps() && follow(&business, &log, &stop).await.is_err() {
        tracing::warn!("the console of one business stops: its endpoint has stopped");
    }
}

async fn follow(business: &Business, log: &Log, stop: &CancellationToken) -> Result<(), CommandError> {
    let mut next = business.endpoint.with_store(|tx| queue::newest(tx, WEBHOOKS)).await?;
    loop {
        let rows = business.endpoint.with_store(move |tx| queue::from(tx, next, AT_ONCE)).await?;
        for row in &rows {
            let name = Row { business: business.account.handle.clone(), sequence: row.sequence };
            let signature = || sign::sha256(&business.account.app_secret, &row.body);
            log.webhook(&name, row.conversation, row.queued_ms, &row.body, signature);
            next = row.sequence.saturating_add(1);
        }
        if rows.is_empty() {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = business.came.notified() => {}
            }
        }
    }
}
