//! One business: its endpoint, its account, and what API calls share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bulla_client::clock::Clock;
use bulla_client::endpoint::Endpoint;
use bulla_client::event::ConversationId;
use tokio::sync::{MutexGuard, mpsc};
use tokio_util::sync::CancellationToken;

use crate::account::Account;
use crate::console::log::Came;
use crate::egress::Egress;
use crate::entropy::Entropy;
use crate::webhooks::deliverer::Wake;
use crate::webhooks::projector::Opaque;

/// Conversations share so many locks: calls for different customers rarely wait for each other.
const LOCKS: usize = 64;

/// A business that is served.
pub(crate) struct Business {
    pub(crate) account: Account,
    /// The business's link, whole.
    pub(crate) link: String,
    pub(crate) endpoint: Endpoint,
    pub(crate) egress: Egress,
    pub(crate) entropy: Entropy,
    clock: Arc<dyn Clock>,
    /// Callback data of the call that holds its conversation's lock.
    pub(crate) opaque: Opaque,
    pub(crate) wakes: mpsc::UnboundedSender<Wake>,
    /// Told when rows came into the queue.
    pub(crate) came: Came,
    pub(crate) stop: CancellationToken,
    locks: Vec<tokio::sync::Mutex<()>>,
    typing: Mutex<TypingTurns>,
    /// Whether the number was taken off the API, once somebody has asked the store.
    deregistered: Mutex<Option<bool>>,
}

#[derive(Default)]
struct TypingTurns {
    last: u64,
    shown: HashMap<ConversationId, u64>,
}

impl Business {
    pub(crate) fn new(
        (account, link): (Account, String),
        endpoint: Endpoint,
        egress: Egress,
        (entropy, clock): (Entropy, Arc<dyn Clock>),
        opaque: Opaque,
        wakes: mpsc::UnboundedSender<Wake>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let locks = (0..LOCKS).map(|_| tokio::sync::Mutex::new(())).collect();
        Arc::new(Self {
            account,
            link,
            endpoint,
            egress,
            entropy,
            clock,
            opaque,
            wakes,
            came: Came::default(),
            stop,
            locks,
            typing: Mutex::default(),
            deregistered: Mutex::default(),
        })
    }

    /// Unix ms.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Held while a message is handed to the endpoint, so that callback data meets its own message.
    pub(crate) async fn lock(&self, id: ConversationId) -> Option<MutexGuard<'_, ()>> {
        let at = usize::try_from(id.0).ok().and_then(|n| n.checked_rem(self.locks.len()))?;
        Some(self.locks.get(at)?.lock().await)
    }

    /// Whether the number was taken off the API; `None` if the store was not asked yet.
    pub(crate) fn is_deregistered(&self) -> Option<bool> {
        *self.deregistered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the store has.
    pub(crate) fn set_deregistered(&self, is: bool) {
        *self.deregistered.lock().unwrap_or_else(PoisonError::into_inner) = Some(is);
    }

    /// The typing indicator shows in a conversation; the number tells this time from later ones.
    pub(crate) fn typing_began(&self, id: ConversationId) -> u64 {
        let mut typing = self.typing.lock().unwrap_or_else(PoisonError::into_inner);
        typing.last = typing.last.wrapping_add(1);
        let turn = typing.last;
        typing.shown.insert(id, turn);
        turn
    }

    /// A message was sent; whether the indicator showed.
    pub(crate) fn typing_ended(&self, id: ConversationId) -> bool {
        self.typing.lock().unwrap_or_else(PoisonError::into_inner).shown.remove(&id).is_some()
    }

    /// Time is over; whether the indicator shows still, and since the same turn.
    pub(crate) fn typing_expired(&self, id: ConversationId, turn: u64) -> bool {
        let mut typing = self.typing.lock().unwrap_or_else(PoisonError::into_inner);
        let same = typing.shown.get(&id) == Some(&turn);
        if same {
            typing.shown.remove(&id);
        }
        same
    }
}

impl std::fmt::Debug for Business {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Business").field("handle", &self.account.handle).finish_non_exhaustive()
    }
}
