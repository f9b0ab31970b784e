//! Who may look: one-time codes, and the sessions that they are exchanged for. In memory: a gateway that starts again knows nobody.
//!
//! A session is two secrets, and a request needs both. The *cookie* is out of the reach of scripts, but browsers send it to every port of
//! its host: another user of the machine who gets a developer to open `http://127.0.0.1:9000/console` has it. The *key* is what the page
//! keeps and puts into a header: storage belongs to one origin, port included, and no form and no foreign script can add that header; but
//! a script in the page could read it. Each is worthless without the other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulla_client::clock::Clock;

use super::limits::{CODE, CODE_MS, CODES, IDLE_MS, SECRET, SESSIONS};
use crate::entropy::Entropy;
use crate::secret::Secret;
use crate::token::TokenHash;

/// Codes and sessions of a gateway.
pub(crate) struct Sessions {
    entropy: Entropy,
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    codes: VecDeque<Code>,
    /// The one that was used last is at the end.
    sessions: VecDeque<Session>,
}

/// Kept as hashes: what a code is compared with tells nothing about it.
struct Code {
    hash: TokenHash,
    until_ms: u64,
}

struct Session {
    cookie: TokenHash,
    key: TokenHash,
    used_ms: u64,
}

/// What a code is exchanged for.
pub(crate) struct Entered {
    pub(crate) cookie: Secret,
    pub(crate) key: Secret,
}

impl Sessions {
    pub(crate) fn new(entropy: Entropy, clock: Arc<dyn Clock>) -> Self {
        Self { entropy, clock, inner: Mutex::default() }
    }

    /// A new code, for the owner's eyes.
    pub(crate) fn code(&self) -> Secret {
        let code = Secret::new(self.entropy.base62(CODE));
        let until_ms = self.clock.now_ms().saturating_add(CODE_MS);
        let mut inner = self.inner();
        inner.codes.push_back(Code { hash: TokenHash::of(code.expose()), until_ms });
        if inner.codes.len() > CODES {
            inner.codes.pop_front();
        }
        code
    }

    /// Exchanges a code, which is gone by that.
    pub(crate) fn enter(&self, code: &str) -> Option<Entered> {
        let now_ms = self.clock.now_ms();
        let mut inner = self.inner();
        inner.codes.retain(|known| known.until_ms > now_ms);
        let found = inner.codes.iter().position(|known| known.hash.matches(code))?;
        inner.codes.remove(found);
        let (cookie, key) = (self.entropy.base62(SECRET), self.entropy.base62(SECRET));
        let session = Session { cookie: TokenHash::of(&cookie), key: TokenHash::of(&key), used_ms: now_ms };
        inner.sessions.push_back(session);
        if inner.sessions.len() > SESSIONS {
            inner.sessions.pop_front();
        }
        Some(Entered { cookie: Secret::new(cookie), key: Secret::new(key) })
    }

    /// Whether both are one session's, which is used by that.
    pub(crate) fn knows(&self, cookie: &str, key: &str) -> bool {
        let now_ms = self.clock.now_ms();
        let mut inner = self.inner();
        inner.sessions.retain(|session| session.used_ms.saturating_add(IDLE_MS) > now_ms);
        let found = inner.sessions.iter().position(|s| s.cookie.matches(cookie) && s.key.matches(key));
        let Some(mut session) = found.and_then(|found| inner.sessions.remove(found)) else { return false };
        session.used_ms = now_ms;
        inner.sessions.push_back(session);
        true
    }

    /// Ends a session.
    pub(crate) fn leave(&self, cookie: &str, key: &str) {
        self.inner().sessions.retain(|s| !(s.cookie.matches(cookie) && s.key.matches(key)));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulla_client::clock::ManualClock;

    fn sessions() -> (Sessions, ManualClock) {
        let clock = ManualClock::at(1_800_000_000_000);
        (Sessions::new(Entropy::new(Box::new(rand_core::OsRng)), Arc::new(clock.clone())), clock)
    }

    #[test]
    fn gw_09_a_code_opens_one_session_and_only_in_its_hour() {
        let (sessions, clock) = sessions();
        let (first, second) = (sessions.code(), sessions.code());
        assert_eq!(first.expose().len(), CODE);
        assert!(sessions.enter("").is_none() && sessions.enter("481220").is_none());
        assert!(sessions.enter(first.expose()).is_some());
        assert!(sessions.enter(first.expose()).is_none(), "a code is used once");
        clock.advance(CODE_MS);
        assert!(sessions.enter(second.expose()).is_none(), "a code is for an hour");
    }

    #[test]
    fn gw_09_a_session_needs_its_cookie_and_its_key() {
        let (sessions, clock) = sessions();
        let enter = || sessions.enter(sessions.code().expose()).unwrap();
        let (one, other) = (enter(), enter());
        assert!(sessions.knows(one.cookie.expose(), one.key.expose()));
        for (cookie, key) in [
            (one.cookie.expose(), other.key.expose()),
            (other.cookie.expose(), one.key.expose()),
            (one.cookie.expose(), ""),
            ("", one.key.expose()),
            ("", ""),
        ] {
            assert!(!sessions.knows(cookie, key));
        }
        clock.advance(IDLE_MS - 1);
        assert!(sessions.knows(one.cookie.expose(), one.key.expose()), "who looks stays");
        clock.advance(IDLE_MS - 1);
        assert!(sessions.knows(one.cookie.expose(), one.key.expose()));
        assert!(!sessions.knows(other.cookie.expose(), other.key.expose()), "who did not is out");
        sessions.leave(one.cookie.expose(), one.key.expose());
        assert!(!sessions.knows(one.cookie.expose(), one.key.expose()));
    }

    #[test]
    fn codes_and_sessions_are_bounded_and_the_oldest_go() {
        let (sessions, _) = sessions();
        let codes: Vec<_> = (0..=CODES).map(|_| sessions.code()).collect();
        assert!(sessions.enter(codes[0].expose()).is_none());
        let mut entered: Vec<_> = codes[1..].iter().map(|code| sessions.enter(code.expose()).unwrap()).collect();
        assert_eq!(entered.len(), SESSIONS);
        assert!(sessions.knows(entered[0].cookie.expose(), entered[0].key.expose()), "the first is used again");
        entered.push(sessions.enter(sessions.code().expose()).unwrap());
        let known = entered.iter().map(|s| sessions.knows(s.cookie.expose(), s.key.expose()));
        assert_eq!(known.filter(|known| !known).count(), 1);
        assert!(!sessions.knows(entered[1].cookie.expose(), entered[1].key.expose()));
    }
}
