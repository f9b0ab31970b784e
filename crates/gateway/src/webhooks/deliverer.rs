//! Takes waiting webhooks to their receiver: one task per business.

use std::sync::Arc;
use std::time::Duration;

use bulla_client::clock::Clock;
use bulla_client::endpoint::{CommandError, Endpoint};
use bulla_client::event::ConversationId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::challenge;
use super::schedule::{Landed, Schedule, backoff};
use super::sign;
use crate::console::log::{Attempt, Fate, Log, Receiver as ReceiverShown, Row};
use crate::egress::{self, Egress};
use crate::entropy::Entropy;
use crate::feed::{Feed, Happening, WebhookState};
use crate::secret::Secret;
use crate::store::facts::{self, Target};
use crate::store::queue::{self, Tries};

/// Rows of one conversation before another conversation gets the place.
const ROWS_PER_TURN: usize = 16;

/// How often rows that are too old are looked for.
const SWEEP_MS: u64 = 600_000;

/// A receiver that does not answer its challenge is asked again at least this often: somebody is probably just starting it.
const CHALLENGE_LONGEST_MS: u64 = 60_000;

/// The longest sleep at once; the clock is asked again after it, for clocks that jump.
const LONGEST_SLEEP_MS: u64 = 30_000;

/// What the deliverer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// A conversation has a new row.
    Row(ConversationId),
    /// The receiver was changed.
    Target,
    /// Somebody wants a webhook of the log posted once more.
    Replay(u64),
}

/// Everything that delivery needs.
#[derive(Clone)]
pub(crate) struct Deliverer {
    pub(crate) handle: String,
    pub(crate) secret: Secret,
    pub(crate) endpoint: Endpoint,
    pub(crate) egress: Egress,
    pub(crate) entropy: Entropy,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) feed: Feed,
    pub(crate) log: Log,
}

/// The receiver, as the deliverer sees it.
enum Receiver {
    None,
    Asked { target: Target, failed: u32, again_ms: u64 },
    Ready(Target),
}

enum Done {
    Turn(ConversationId, Landed),
    Challenge(Target, Result<(), challenge::ChallengeError>),
    Replayed,
    Swept,
}

impl Deliverer {
    /// Runs until `stop`, or until the endpoint has stopped. What is in flight then is given up and sent again at the next start.
    pub(crate) async fn run(self, mut wakes: mpsc::UnboundedReceiver<Wake>, stop: CancellationToken) {
        if self.work(&mut wakes, &stop).await.is_err() {
            tracing::warn!("webhooks of one business stop: its endpoint has stopped");
        }
    }

    async fn work(
        &self,
        wakes: &mut mpsc::UnboundedReceiver<Wake>,
        stop: &CancellationToken,
    ) -> Result<(), CommandError> {
        let mut schedule = Schedule::default();
        let mut tasks: JoinSet<Result<Done, CommandError>> = JoinSet::new();
        let mut receiver = self.receiver().await?;
        let mut challenging = false;
        let mut sweep_ms = 0;
        for (id, tries) in self.endpoint.with_store(|tx| queue::waiting(tx)).await? {
            schedule.delay(id, tries.next_ms);
        }
        loop {
            let now = self.clock.now_ms();
            if sweep_ms <= now {
                sweep_ms = now.saturating_add(SWEEP_MS);
                let this = self.clone();
                tasks.spawn(async move { this.sweep().await });
            }
            match &receiver {
                Receiver::Ready(target) => {
                    while let Some(id) = schedule.start(now) {
                        let (this, target) = (self.clone(), target.clone());
                        tasks.spawn(async move { Ok(Done::Turn(id, this.turn(id, &target).await?)) });
                    }
                }
                Receiver::Asked { target, again_ms, .. } if *again_ms <= now && !challenging => {
                    challenging = true;
                    let (this, target) = (self.clone(), target.clone());
                    tasks.spawn(async move {
                        let result = challenge::verify(&this.egress, &this.entropy, &target).await;
                        Ok(Done::Challenge(target, result))
                    });
                }
                Receiver::Asked { .. } | Receiver::None => {}
            }
            let next_ms = match &receiver {
                Receiver::Ready(_) => schedule.next_ms(),
                Receiver::Asked { again_ms, .. } if !challenging => Some(*again_ms),
                Receiver::Asked { .. } | Receiver::None => None,
            };
            let next_ms = next_ms.map_or(sweep_ms, |next| next.min(sweep_ms));
            let sleep = Duration::from_millis(next_ms.saturating_sub(now).clamp(1, LONGEST_SLEEP_MS));
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                wake = wakes.recv() => match wake {
                    None => return Ok(()),
                    Some(Wake::Row(id)) => {
                        if matches!(receiver, Receiver::None) {
                            self.tell(WebhookState::NoneSet);
                        }
                        schedule.wake(id);
                    }
                    Some(Wake::Target) => {
                        receiver = self.receiver().await?;
                        schedule.wake_all();
                    }
                    Some(Wake::Replay(id)) => {
                        let target = match &receiver {
                            Receiver::Ready(target) => Some(target.clone()),
                            Receiver::Asked { .. } | Receiver::None => None,
                        };
                        let this = self.clone();
                        tasks.spawn(async move { Ok(this.replay(id, target).await) });
                    }
                },
                Some(done) = tasks.join_next(), if !tasks.is_empty() => match done {
                    Ok(Ok(Done::Turn(id, landed))) => schedule.land(id, landed),
                    Ok(Ok(Done::Challenge(asked, result))) => {
                        challenging = false;
                        receiver = self.challenged(receiver, asked, result).await?;
                    }
                    Ok(Ok(Done::Replayed | Done::Swept)) => {}
                    Ok(Err(e)) => return Err(e),
                    // A task that panicked or was aborted: its conversation waits until the next start.
                    Err(_) => tracing::error!("a webhook task ended without a result"),
                },
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    async fn receiver(&self) -> Result<Receiver, CommandError> {
        let targets = self.endpoint.with_store(|tx| facts::targets(tx)).await?;
        self.show(targets.effective(), None);
        Ok(match targets.effective() {
            None => Receiver::None,
            Some(target) if target.verified => Receiver::Ready(target.clone()),
            Some(target) => Receiver::Asked { target: target.clone(), failed: 0, again_ms: 0 },
        })
    }

    async fn challenged(
        &self,
        receiver: Receiver,
        asked: Target,
        result: Result<(), challenge::ChallengeError>,
    ) -> Result<Receiver, CommandError> {
        let Receiver::Asked { target, failed, .. } = receiver else { return Ok(receiver) };
        if target != asked {
            return Ok(Receiver::Asked { target, failed: 0, again_ms: 0 });
        }
        match result {
            Ok(()) => {
                let verified = asked.clone();
                self.endpoint
                    .with_store(move |tx| {
                        let mut targets = facts::targets(tx)?;
                        targets.set_verified(&verified);
                        facts::set_targets(tx, &targets)
                    })
                    .await?;
                self.tell(WebhookState::Verified);
                let verified = Target { verified: true, ..asked };
                self.show(Some(&verified), None);
                Ok(Receiver::Ready(verified))
            }
            Err(e) => {
                let failed = failed.saturating_add(1);
                let wait = backoff(failed, &self.entropy).min(CHALLENGE_LONGEST_MS);
                tracing::warn!(reason = %e, "a webhook's URL is not verified yet");
                self.show(Some(&target), Some(e.to_string()));
                self.tell(WebhookState::Unverified { reason: e.to_string(), retry_in_ms: wait });
                Ok(Receiver::Asked { target, failed, again_ms: self.clock.now_ms().saturating_add(wait) })
            }
        }
    }

    /// Delivers a conversation's rows, oldest first, until one fails.
    async fn turn(&self, id: ConversationId, target: &Target) -> Result<Landed, CommandError> {
        let mut head = self.endpoint.with_store(move |tx| queue::head(tx, id)).await?;
        for _ in 0..ROWS_PER_TURN {
            let Some(row) = head else { return Ok(Landed::Empty) };
            let sequence = row.sequence;
            let name = Row { business: self.handle.clone(), sequence };
            let signature = || sign::sha256(&self.secret, &row.body);
            self.log.webhook(&name, id, self.clock.now_ms(), &row.body, signature);
            let (attempt, result) = self.attempt(target, &row.body).await;
            match result {
                Ok(()) => {
                    self.log.tried(&name, Some(attempt), Fate::Delivered);
                    head = self
                        .endpoint
                        .with_store(move |tx| {
                            queue::remove(tx, id, sequence)?;
                            queue::head(tx, id)
                        })
                        .await?;
                    self.tell(WebhookState::Delivered);
                }
                Err(reason) => {
                    let failed = row.tries.failed.saturating_add(1);
                    let wait = backoff(failed, &self.entropy);
                    let tries = Tries { failed, next_ms: self.clock.now_ms().saturating_add(wait) };
                    self.log.tried(&name, Some(attempt), Fate::Waiting { next_ms: Some(tries.next_ms) });
                    self.endpoint.with_store(move |tx| queue::failed(tx, id, sequence, tries)).await?;
                    tracing::warn!(%reason, failed, "a webhook was not taken; it waits");
                    self.tell(WebhookState::Failing { reason, retry_in_ms: wait });
                    return Ok(Landed::Later(tries.next_ms));
                }
            }
        }
        Ok(if head.is_some() { Landed::More } else { Landed::Empty })
    }

    /// Posts once, and says how it went.
    async fn attempt(&self, target: &Target, body: &[u8]) -> (Attempt, Result<(), String>) {
        let at_ms = self.clock.now_ms();
        let result = self.post(target, body).await;
        let ms = self.clock.now_ms().saturating_sub(at_ms);
        let (status, error) = (result.as_ref().ok().copied(), result.as_ref().err().cloned());
        (Attempt { at_ms, ms, status, error, replay: false }, result.map(drop))
    }

    /// Posts the bytes of a webhook that has left the queue once more. Nothing follows from how that goes.
    async fn replay(&self, id: u64, target: Option<Target>) -> Done {
        let attempt = match (target, self.log.body(id)) {
            (Some(target), Some(body)) => self.attempt(&target, &body).await.0,
            _ => {
                let error = Some("no webhook URL has answered its challenge".to_owned());
                Attempt { at_ms: self.clock.now_ms(), ms: 0, status: None, error, replay: true }
            }
        };
        self.log.replayed(id, Attempt { replay: true, ..attempt });
        Done::Replayed
    }

    async fn post(&self, target: &Target, body: &[u8]) -> Result<u16, String> {
        let url = egress::admit(target.url.expose()).map_err(|e| e.to_string())?;
        let headers =
            [(sign::HEADER, sign::sha256(&self.secret, body)), (sign::LEGACY_HEADER, sign::sha1(&self.secret, body))];
        self.egress.post_json(&url, body.to_vec(), headers).await.map_err(|e| e.to_string())
    }

    async fn sweep(&self) -> Result<Done, CommandError> {
        let mut all = 0;
        loop {
            let gone = self.endpoint.with_store(queue::expire).await?;
            if gone.is_empty() {
                break;
            }
            all += gone.len();
            for sequence in gone {
                self.log.tried(&Row { business: self.handle.clone(), sequence }, None, Fate::Expired);
            }
        }
        if all > 0 {
            tracing::warn!(count = all, "webhooks that nobody took for 7 days are gone");
            self.tell(WebhookState::GivenUp { count: all });
        }
        Ok(Done::Swept)
    }

    /// Shows in the console where webhooks go. Not with the URL's query, which may carry secrets.
    fn show(&self, target: Option<&Target>, reason: Option<String>) {
        let shown = target.map(|target| {
            let url = target.url.expose().split(['?', '#']).next().unwrap_or_default().to_owned();
            (url, target.verified)
        });
        let receiver = match shown {
            None => ReceiverShown::None,
            Some((url, true)) => ReceiverShown::Ready { url },
            Some((url, false)) => ReceiverShown::Unverified { url, reason },
        };
        self.log.receiver(&self.handle, receiver);
    }

    fn tell(&self, state: WebhookState) {
        self.feed.tell(Happening::Webhook { business: self.handle.clone(), state });
    }
}
