//! The console's limits, each with its reason.

use std::time::Duration;

/// API calls kept: an afternoon of trying things out. It is a log to look at while one builds, not an archive.
pub(crate) const CALLS: usize = 500;

/// Calls of nobody, kept apart: whoever can reach the listener can make them, and must not push out the others.
pub(crate) const STRANGERS: usize = 50;

/// Webhooks kept. Below [`crate::store::queue::KEPT_WITHOUT_RECEIVER`], so that the queue never forgets one that is still shown as waiting.
pub(crate) const WEBHOOKS: usize = 500;

/// Bytes of bodies kept of each of the three kinds.
pub(crate) const BYTES: usize = 8 << 20;

/// The largest body of a call that is kept and shown; of larger ones the size is. A message has at most 4,096 characters.
pub(crate) const BODY: usize = 64 << 10;

/// Bytes of a call's path and query that are kept.
pub(crate) const PATH: usize = 1 << 10;

/// Attempts shown of one webhook: the newest. There are some hundred in 7 days.
pub(crate) const ATTEMPTS: usize = 20;

/// Bytes of bodies in one answer, roughly; the page asks for the rest at once.
pub(crate) const ANSWER: usize = 1 << 20;

/// How long a question for news is held open: below what proxies and browsers bear.
pub(crate) const POLL: Duration = Duration::from_secs(25);

/// The largest request to the console: the longest message with every character escaped.
pub(crate) const REQUEST: usize = 64 << 10;

/// Replays on their way at once: a person clicks, and a receiver that hangs holds each for ten seconds.
pub(crate) const REPLAYS: usize = 8;

/// Customers offered to be written to: those who wrote last.
pub(crate) const CUSTOMERS: usize = 50;

/// Codes that are not used yet; the oldest goes. Only the owner of the gateway's folder has them made.
pub(crate) const CODES: usize = 16;

/// How long a code may wait to be used. It stays behind in a terminal and, where a program opens the link, in that program's arguments,
/// which others on the machine can read; `bulla console` makes another.
pub(crate) const CODE_MS: u64 = 3_600_000;

/// Letters and digits of a code: 131 bits. Nobody guesses it, so that no guesses have to be counted, and nobody can use up the tries of
/// its owner.
pub(crate) const CODE: usize = 22;

/// Letters and digits of a session's two secrets.
pub(crate) const SECRET: usize = 43;

/// Sessions at once: some browsers of one developer. The one that was not used for longest goes.
pub(crate) const SESSIONS: usize = 16;

/// A session that was not used for so long is over: a working day.
pub(crate) const IDLE_MS: u64 = 12 * 3_600_000;
