//! Waiting for what must happen. A deadline is only a guard: it ends a test that would hang, and says what did not come.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// How long anything may take on a busy machine before a test gives up on it.
pub const GUARD: Duration = Duration::from_secs(60);

/// A list that grows and that one can wait on: what was printed, received, seen.
#[derive(Debug)]
pub struct Log<T> {
    entries: Arc<Mutex<Vec<T>>>,
    closed: Arc<AtomicBool>,
    grown: Arc<Notify>,
}

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self { entries: Arc::clone(&self.entries), closed: Arc::clone(&self.closed), grown: Arc::clone(&self.grown) }
    }
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self { entries: Arc::default(), closed: Arc::default(), grown: Arc::default() }
    }
}

impl<T: Clone> Log<T> {
    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one.
    pub fn push(&self, entry: T) {
        self.lock().push(entry);
        self.grown.notify_waiters();
    }

    /// Nothing is added any more: who still waits need not wait for the guard.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.grown.notify_waiters();
    }

    /// Whether it is complete.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Waits until it is complete.
    pub async fn complete(&self) -> Result<()>
    where
        T: std::fmt::Debug,
    {
        self.until("the end", |_| self.is_closed().then_some(())).await
    }

    /// Everything so far.
    #[must_use]
    pub fn all(&self) -> Vec<T> {
        self.lock().clone()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until `seen` finds something in everything so far; `what` says what was waited for if it does not come.
    pub async fn until<R>(&self, what: &str, seen: impl FnMut(&[T]) -> Option<R>) -> Result<R>
    where
        T: std::fmt::Debug,
    {
        self.until_within(GUARD, what, seen).await
    }

    /// As [`Self::until`], with its own guard.
    pub async fn until_within<R>(
        &self,
        guard: Duration,
        what: &str,
        mut seen: impl FnMut(&[T]) -> Option<R>,
    ) -> Result<R>
    where
        T: std::fmt::Debug,
    {
        let deadline = Instant::now() + guard;
        loop {
            let grown = self.grown.notified();
            tokio::pin!(grown);
            grown.as_mut().enable();
            // Asked before looking: what was added before the end is seen.
            let ended = self.is_closed();
            if let Some(found) = seen(&self.lock()) {
                return Ok(found);
            }
            if ended || timeout_at(deadline, grown).await.is_err() {
                let all = self.all();
                let tail = &all[all.len().saturating_sub(20)..];
                let why = if ended { "it ended".to_owned() } else { format!("waited {} s", guard.as_secs()) };
                bail!("{why}, and there was no sign of {what}; the last of {} were {tail:#?}", all.len());
            }
        }
    }
}

/// Waits for something of the system that tells nobody when it changes (a process, a file): looks every 10 ms.
pub async fn look<R>(guard: Duration, what: &str, mut seen: impl FnMut() -> Option<R>) -> Result<R> {
    let deadline = Instant::now() + guard;
    let mut every = tokio::time::interval(Duration::from_millis(10));
    loop {
        if let Some(found) = seen() {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("waited {} s for {what}", guard.as_secs());
        }
        every.tick().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_later_wakes_the_waiting_and_what_never_comes_is_named() {
        let log = Log::default();
        let other = log.clone();
        let waiting =
            tokio::spawn(async move { other.until("a two", |all| all.iter().find(|n| **n == 2).copied()).await });
        log.push(1);
        log.push(2);
        assert_eq!(waiting.await.unwrap().unwrap(), 2);
        let error = log.until_within(Duration::from_millis(5), "a three", |_| None::<()>).await.unwrap_err();
        assert!(error.to_string().contains("a three"), "{error}");
    }

    #[tokio::test]
    async fn nobody_waits_for_what_has_ended() {
        let log = Log::default();
        let other = log.clone();
        let waiting = tokio::spawn(async move { other.until("a two", |all| all.contains(&2).then_some(())).await });
        log.push(1);
        tokio::task::yield_now().await;
        log.close();
        assert!(waiting.await.unwrap().unwrap_err().to_string().starts_with("it ended"));
        log.until("a one", |all| all.contains(&1).then_some(())).await.unwrap();
        log.complete().await.unwrap();
    }
}
