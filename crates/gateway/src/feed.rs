//! What happens, for the terminal of whoever started the gateway: in memory only, bounded, nothing of it is logged.
//!
//! A reader that is too slow misses the oldest happenings (`RecvError::Lagged`); the store has all of them.

use std::fmt;

use bulla_client::event::{Connection, Failure, Status};
use tokio::sync::broadcast;

/// Happenings kept for a slow reader.
const KEPT: usize = 1_024;

/// Something that a person at the business may want to see.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Happening {
    /// A customer's message is durable.
    Inbound {
        /// The business's handle.
        business: String,
        /// The customer's display name.
        name: String,
        /// The customer's `user_id`.
        user_id: String,
        /// The message's id at the API.
        wamid: String,
        /// What it says.
        said: Said,
    },
    /// A message of the business is durable in the outbox.
    Outbound {
        /// The business's handle.
        business: String,
        /// The recipient's `user_id`.
        user_id: String,
        /// The message's id at the API.
        wamid: String,
        /// What it says.
        said: Said,
    },
    /// A message of the business came further.
    Progress {
        /// The business's handle.
        business: String,
        /// The message's id at the API.
        wamid: String,
        /// How far.
        status: Status,
        /// Why it failed.
        failure: Option<Failure>,
    },
    /// Messages of a customer are missing: they expired on the way.
    Missing {
        /// The business's handle.
        business: String,
        /// How many.
        count: u64,
    },
    /// The connection to the relay changed.
    Relay {
        /// The business's handle.
        business: String,
        /// How it is now.
        connection: Connection,
    },
    /// A webhook's delivery.
    Webhook {
        /// The business's handle.
        business: String,
        /// How it went.
        state: WebhookState,
    },
}

/// What a message says, for a person.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Said {
    /// A text.
    Text(String),
    /// A reaction; `None` takes it back.
    Reaction(Option<String>),
    /// New text of an earlier message.
    Edit(String),
    /// An earlier message was taken back.
    Deleted,
    /// Something that this version cannot show.
    Other,
}

/// How webhooks are doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WebhookState {
    /// No URL is set: events wait (the newest 1,000, for 7 days) until one is.
    NoneSet,
    /// The URL answered the challenge; delivery begins.
    Verified,
    /// The URL does not answer the challenge (yet).
    Unverified {
        /// Why, in words.
        reason: String,
        /// Milliseconds until the next try.
        retry_in_ms: u64,
    },
    /// A payload was answered with 2xx.
    Delivered,
    /// A payload was not answered with 2xx; it waits.
    Failing {
        /// Why, in words.
        reason: String,
        /// Milliseconds until the next try.
        retry_in_ms: u64,
    },
    /// Payloads could not be delivered for 7 days and are gone.
    GivenUp {
        /// How many.
        count: usize,
    },
}

impl fmt::Debug for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inbound { .. } => f.write_str("Inbound(redacted)"),
            Self::Outbound { .. } => f.write_str("Outbound(redacted)"),
            Self::Progress { status, failure, .. } => write!(f, "Progress({status:?}, {failure:?})"),
            Self::Missing { count, .. } => write!(f, "Missing({count})"),
            Self::Relay { connection, .. } => write!(f, "Relay({connection:?})"),
            Self::Webhook { state, .. } => write!(f, "Webhook({state:?})"),
        }
    }
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Said(redacted)")
    }
}

/// The sending side.
#[derive(Clone, Debug)]
pub(crate) struct Feed(broadcast::Sender<Happening>);

impl Feed {
    pub(crate) fn new() -> Self {
        Self(broadcast::channel(KEPT).0)
    }

    /// Tells; without a reader nothing is kept.
    pub(crate) fn tell(&self, happening: Happening) {
        let _ = self.0.send(happening);
    }

    /// Whether anybody reads: what is costly to tell is told only then.
    pub(crate) fn is_read(&self) -> bool {
        self.0.receiver_count() > 0
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Happening> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gw_16_debug_of_happenings_shows_no_content() {
        let inbound = Happening::Inbound {
            business: "shop".into(),
            name: "canary-name".into(),
            user_id: "ZZ.canary".into(),
            wamid: "wamid.canary".into(),
            said: Said::Text("canary-text".into()),
        };
        assert_eq!(format!("{inbound:?}"), "Inbound(redacted)");
        assert_eq!(format!("{:?}", Said::Text("canary".into())), "Said(redacted)");
    }
}
