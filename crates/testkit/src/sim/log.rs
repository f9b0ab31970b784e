//! What the engine logs, for a history's trace.

use std::cell::RefCell;
use std::io;

use tracing::subscriber::DefaultGuard;

thread_local! {
    static LOGGED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct Here;

impl io::Write for Here {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| logged.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps what this thread logs, until the guard is dropped.
pub(super) fn here() -> DefaultGuard {
    drop(take());
    let kept = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_target(false)
        .with_level(false)
        .without_time()
        .with_writer(|| Here)
        .finish();
    tracing::subscriber::set_default(kept)
}

/// The lines logged since.
pub(super) fn take() -> Vec<String> {
    let logged = LOGGED.with_borrow_mut(std::mem::take);
    String::from_utf8_lossy(&logged).lines().map(str::to_owned).collect()
}
