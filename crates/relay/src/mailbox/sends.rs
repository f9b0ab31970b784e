//! Send ids: what makes a retry join its first try instead of becoming a second envelope.
//!
//! An id is in flight until its envelope is confirmed or stored, then remembered for minutes, in memory only; after that
//! the recipient's own duplicate record is what makes it once. Ids count per grant, so that nobody can occupy another's.

use std::collections::{HashMap, VecDeque};

use bulla_protocol::id::{GrantId, SendId};
use bulla_protocol::{frame::Code, limits::SEND_ID_MEMORY};
use tokio::time::Instant;

use crate::limits;
use crate::outbox::Waiter;
use crate::sabotage::{Rule, broken};

/// One envelope of one grant.
pub(crate) type SendKey = (GrantId, SendId);

#[derive(Debug)]
enum State {
    InFlight(Vec<Waiter>),
    Accepted,
}

/// What a send id turned out to be.
#[derive(Debug)]
pub(crate) enum Seen {
    /// Not known: here is the waiter back.
    New(Waiter),
    /// Known; the waiter has been answered or will be with the first.
    Before,
}

/// The send ids of one mailbox.
#[derive(Debug, Default)]
pub(crate) struct Sends {
    states: HashMap<SendKey, State>,
    accepted: VecDeque<(Instant, SendKey)>,
}

impl Sends {
    /// Joins or repeats what is known of the id.
    pub(crate) fn join(&mut self, key: &SendKey, waiter: Waiter) -> Seen {
        match self.states.get_mut(key).filter(|_| !broken(Rule::RetryJoins)) {
            Some(State::InFlight(waiters)) => waiters.push(waiter),
            Some(State::Accepted) => waiter.accept(),
            None => return Seen::New(waiter),
        }
        Seen::Before
    }

    /// Notes that the id is in flight.
    pub(crate) fn begin(&mut self, key: SendKey, waiter: Waiter) {
        self.states.insert(key, State::InFlight(vec![waiter]));
    }

    /// Answers all who wait for the id, and remembers it. Once more does nothing, and is said.
    pub(crate) fn accept(&mut self, key: SendKey, now: Instant) -> bool {
        let Some(state) = self.states.get_mut(&key) else { return false };
        let State::InFlight(waiters) = std::mem::replace(state, State::Accepted) else { return false };
        for waiter in waiters {
            waiter.accept();
        }
        self.accepted.push_back((now, key));
        self.tidy(now);
        true
    }

    /// Refuses everybody who still waits.
    pub(crate) fn refuse_all(&mut self, code: Code) {
        self.accepted.clear();
        for (_, state) in self.states.drain() {
            if let State::InFlight(waiters) = state {
                for waiter in waiters {
                    waiter.refuse(code);
                }
            }
        }
    }

    /// Forgets accepted ids that are too old or too many.
    pub(crate) fn tidy(&mut self, now: Instant) {
        while let Some((at, key)) = self.accepted.front() {
            if self.accepted.len() <= limits::SEND_IDS && now.duration_since(*at) < SEND_ID_MEMORY {
                break;
            }
            self.states.remove(key);
            self.accepted.pop_front();
        }
    }

    /// Whether nothing is in flight or remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.states.is_empty()
    }
}
