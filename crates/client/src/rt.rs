//! What the driver needs of the world it runs in: timers and tasks of its own thread. On a machine that is tokio; in a browser, the browser.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{AbortHandle, Either, abortable, select};

/// A task of this thread, which ends when it is told to.
#[derive(Debug)]
pub(crate) struct Task(AbortHandle, Rc<Cell<bool>>);

impl Task {
    /// Ends it where it waits.
    pub(crate) fn abort(&self) {
        self.0.abort();
    }

    /// Whether it has come to its end, or was ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.is_aborted() || self.1.get()
    }
}

/// Runs a future on this thread, beside the others.
pub(crate) fn spawn(future: impl Future<Output = ()> + 'static) -> Task {
    let (future, handle) = abortable(future);
    let ended = Rc::new(Cell::new(false));
    let end = Rc::clone(&ended);
    spawn_local(async move {
        // An end before its end is what was asked for.
        let _ = future.await;
        end.set(true);
    });
    Task(handle, ended)
}

/// What a future comes to, unless it takes longer than this.
pub(crate) async fn timeout<F: Future>(longest: Duration, future: F) -> Option<F::Output> {
    let (future, pause) = (std::pin::pin!(future), std::pin::pin!(sleep(longest)));
    match select(future, pause).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::{LOOK, SEARCHED_AT_ONCE, aside, sleep, spawn_local};

#[cfg(target_arch = "wasm32")]
pub(crate) use web::{LOOK, SEARCHED_AT_ONCE, aside, sleep, spawn_local};

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use super::{Duration, Future};

    /// The longest sleep: a clock that tests turn is looked at this often.
    pub(crate) const LOOK: Duration = Duration::from_millis(200);

    /// Nonces of a proof of work searched before the search looks whether it is still wanted.
    pub(crate) const SEARCHED_AT_ONCE: u64 = 1 << 16;

    pub(crate) async fn sleep(pause: Duration) {
        tokio::time::sleep(pause).await;
    }

    pub(crate) fn spawn_local(future: impl Future<Output = ()> + 'static) {
        drop(tokio::task::spawn_local(future));
    }

    /// Calls `chunk` on a thread where it delays nobody, until it says that it is done.
    pub(crate) fn aside(mut chunk: impl FnMut() -> bool + Send + 'static) {
        drop(tokio::task::spawn_blocking(move || while !chunk() {}));
    }
}

#[cfg(target_arch = "wasm32")]
mod web {
    use super::{Duration, Future};

    /// The longest sleep: a device that slept looks at the clock this often.
    pub(crate) const LOOK: Duration = Duration::from_secs(20);

    /// There is one thread: what else waits gets its turn every few milliseconds.
    pub(crate) const SEARCHED_AT_ONCE: u64 = 1 << 12;

    pub(crate) async fn sleep(pause: Duration) {
        // The browser's timers count to 24 days.
        let ms = pause.as_millis().min(i32::MAX as u128);
        gloo_timers::future::TimeoutFuture::new(u32::try_from(ms).unwrap_or(u32::MAX)).await;
    }

    pub(crate) fn spawn_local(future: impl Future<Output = ()> + 'static) {
        wasm_bindgen_futures::spawn_local(future);
    }

    /// Calls `chunk` until it says that it is done; between two calls others have their turn.
    pub(crate) fn aside(mut chunk: impl FnMut() -> bool + Send + 'static) {
        spawn_local(async move {
            while !chunk() {
                sleep(Duration::ZERO).await;
            }
        });
    }
}
