//! Waiting for what must happen. A deadline is only a guard: it ends a test that would hang, and says what did not come.

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
    grown: Arc<Notify>,
}

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self { entries: Arc::clone(&self.entries), grown: Arc::clone(&self.grown) }
    }
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self { entries: Arc::default(), grown: Arc::default() }
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
            if let Some(found) = seen(&self.lock()) {
                return Ok(found);
            }
            if timeout_at(deadline, grown).await.is_err() {
                let all = self.all();
                let tail = all.len().saturating_sub(20);
                bail!("waited {} s for {what}; the last of {} were {:#?}", guard.as_secs(), all.len(), &all[tail..]);
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
}
