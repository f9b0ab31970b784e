//! Wakes customers' devices of which nothing runs (Web Push).
//!
//! The device gives its push service's address to the business inside the conversation, so that the relay never learns it. A push says
//! nothing but that there is something; it is owed from when a message lies at the relay until a receipt comes ([`crate::store::pushes`]),
//! and survives a restart. What the push service learns: that this business's gateway woke this device, and when.

pub(crate) mod message;

use std::sync::Arc;
use std::time::Duration;

use bulla_client::clock::Clock;
use bulla_client::endpoint::{CommandError, Endpoint};
use bulla_client::event::ConversationId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::egress::outside::Outside;
use crate::egress::{Answered, Egress, OutsideError};
use crate::entropy::Entropy;
use crate::store::pushes::{self, Device, Tried};
use crate::webhooks::schedule::{Landed, Schedule, backoff};
use message::{PushKey, message};

/// The longest sleep at once; the clock is asked again after it, for clocks that jump.
const LONGEST_SLEEP_MS: u64 = 30_000;

/// The longest that a push service can put us off: a day, of the seven that a push is worth trying.
const LONGEST_WAIT_MS: u64 = 24 * 3_600_000;

/// Everything that pushing needs: one task per business.
#[derive(Clone)]
pub(crate) struct Pusher {
    pub(crate) endpoint: Endpoint,
    pub(crate) egress: Egress,
    pub(crate) entropy: Entropy,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) key: PushKey,
    /// How a push service reaches whoever sends: the business's public address.
    pub(crate) contact: String,
}

/// What became of a push to one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Woken,
    Gone,
    Again { after_ms: u64 },
}

impl Pusher {
    /// Runs until `stop`, or until the endpoint has stopped. `owed` names conversations to which a push has become owed.
    pub(crate) async fn run(self, mut owed: mpsc::UnboundedReceiver<ConversationId>, stop: CancellationToken) {
        if self.work(&mut owed, &stop).await.is_err() {
            tracing::warn!("pushes of one business stop: its endpoint has stopped");
        }
    }

    async fn work(
        &self,
        owed: &mut mpsc::UnboundedReceiver<ConversationId>,
        stop: &CancellationToken,
    ) -> Result<(), CommandError> {
        let mut schedule = Schedule::default();
        let mut tasks: JoinSet<Result<(ConversationId, Landed), CommandError>> = JoinSet::new();
        for (id, due_ms) in self.endpoint.with_store(|tx| pushes::all_owed(tx)).await? {
            schedule.delay(id, due_ms);
        }
        loop {
            let now = self.clock.now_ms();
            while let Some(id) = schedule.start(now) {
                let this = self.clone();
                tasks.spawn(async move { Ok((id, this.turn(id).await?)) });
            }
            let wait = schedule.next_ms().map_or(LONGEST_SLEEP_MS, |next| next.saturating_sub(now));
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                id = owed.recv() => match id {
                    None => return Ok(()),
                    Some(id) => schedule.wake(id),
                },
                Some(done) = tasks.join_next(), if !tasks.is_empty() => match done {
                    Ok(Ok((id, landed))) => schedule.land(id, landed),
                    Ok(Err(e)) => return Err(e),
                    Err(_) => tracing::error!("a push ended without a result"),
                },
                () = tokio::time::sleep(Duration::from_millis(wait.clamp(1, LONGEST_SLEEP_MS))) => {}
            }
        }
    }

    /// Wakes the devices of a conversation, if that is due.
    async fn turn(&self, id: ConversationId) -> Result<Landed, CommandError> {
        let look = move |tx: &mut bulla_client::store::tx::Tx<'_>| {
            Ok((pushes::owed(tx, id)?, pushes::devices(tx, id)?.devices))
        };
        let (Some(owed), devices) = self.endpoint.with_store(look).await? else { return Ok(Landed::Empty) };
        if owed.due_ms > self.clock.now_ms() {
            return Ok(Landed::Later(owed.due_ms));
        }
        let mut tried = Tried::default();
        for device in devices.iter().filter(|device| owed.left.is_empty() || owed.left.contains(&device.name)) {
            match self.push(device, owed.failed).await {
                Outcome::Woken => tried.woken += 1,
                Outcome::Gone => tried.gone.push(device.name.clone()),
                Outcome::Again { after_ms } => {
                    tried.again.push(device.name.clone());
                    tried.wait_ms = tried.wait_ms.max(after_ms);
                }
            }
        }
        let next = self.endpoint.with_store(move |tx| pushes::tried(tx, id, &owed, &tried)).await?;
        Ok(next.map_or(Landed::Empty, Landed::Later))
    }

    async fn push(&self, device: &Device, failed: u32) -> Outcome {
        let (body, headers) = match message(device, &self.key, &self.contact, self.clock.now_ms() / 1_000) {
            Ok(made) => made,
            Err(reason) => {
                tracing::warn!(%reason, "a customer's device cannot be woken: what it gave is forgotten");
                return Outcome::Gone;
            }
        };
        let answered = self.egress.post_outside(device.endpoint.expose(), body, headers).await;
        let outcome = judge(answered, || backoff(failed.saturating_add(1), &self.entropy));
        match (&answered, outcome) {
            (Ok(_), Outcome::Woken) => tracing::debug!("a customer's device was woken"),
            (Ok(Answered { status, .. }), Outcome::Gone) => {
                tracing::info!(
                    status,
                    "a customer's device is not to be woken any more: its subscription is forgotten"
                );
            }
            (Ok(Answered { status, .. }), _) => tracing::warn!(status, failed, "a push was not taken; it waits"),
            (Err(reason), Outcome::Gone) => {
                tracing::warn!(%reason, "a customer's device gave an address that is not asked: it is forgotten");
            }
            (Err(reason), _) => tracing::warn!(%reason, failed, "a push service was not reached; the push waits"),
        }
        outcome
    }
}

/// What an answer means (RFC 8030 §5, RFC 8292 §4.2). `wait`: how long to wait where nobody says.
fn judge(answered: Result<Answered, OutsideError>, wait: impl FnOnce() -> u64) -> Outcome {
    match answered {
        Ok(Answered { status: 200..=299, .. }) => Outcome::Woken,
        // Too many, or they are in trouble.
        Ok(Answered { status: 408 | 429 | 500..=599, retry_after }) => {
            let after_ms = retry_after.map_or_else(wait, |seconds| seconds.saturating_mul(1_000));
            Outcome::Again { after_ms: after_ms.min(LONGEST_WAIT_MS) }
        }
        // Gone, or what we send there is refused and would be again.
        Ok(_) | Err(OutsideError::Address(_)) => Outcome::Gone,
        Err(OutsideError::Request(_)) => Outcome::Again { after_ms: wait() },
    }
}

/// Whether a customer's device may be woken there at all: what cannot be is not even kept.
pub(crate) fn may_wake(outside: &Outside, endpoint: &str) -> bool {
    outside.admit(endpoint).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::{AddressError, EgressError};

    #[test]
    fn an_answer_says_whether_to_come_again() {
        let judge = |status, retry_after| judge(Ok(Answered { status, retry_after }), || 7);
        for status in [200, 201, 202] {
            assert_eq!(judge(status, None), Outcome::Woken, "{status}");
        }
        for status in [301, 400, 401, 403, 404, 410, 413] {
            assert_eq!(judge(status, Some(1)), Outcome::Gone, "{status}");
        }
        for status in [408, 429, 500, 503] {
            assert_eq!(judge(status, None), Outcome::Again { after_ms: 7 }, "{status}");
            assert_eq!(judge(status, Some(120)), Outcome::Again { after_ms: 120_000 }, "{status}");
            assert_eq!(judge(status, Some(u64::MAX)), Outcome::Again { after_ms: LONGEST_WAIT_MS }, "{status}");
        }
    }

    #[test]
    fn an_address_that_is_not_asked_is_forgotten_and_one_that_was_not_reached_is_not() {
        let inside = super::judge(Err(AddressError::Inside.into()), || 7);
        assert_eq!(inside, Outcome::Gone);
        for reason in [EgressError::Connect, EgressError::Timeout, EgressError::Broken] {
            assert_eq!(super::judge(Err(reason.into()), || 7), Outcome::Again { after_ms: 7 });
        }
    }
}
