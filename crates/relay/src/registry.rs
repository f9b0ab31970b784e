//! The mailboxes that are in memory: loaded when first needed, dropped when nobody used them for minutes.

use std::collections::hash_map::{Entry, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulla_protocol::id::{Incarnation, IncarnationNonce, MailboxId};
use bulla_protocol::permit::MacRoot;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::mailbox::{Mailbox, Shared};
use crate::outbox::Refusal;
use crate::store::{Loaded, MailboxRecord, Store, StoreError, Usage, Write};
use crate::writer::Unavailable;

/// All mailboxes of a relay.
pub(crate) struct Registry {
    store: Arc<dyn Store>,
    shared: Arc<Shared>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    loaded: HashMap<MailboxId, Arc<Mailbox>>,
    /// Counts mailboxes that left the memory: what was read from the store before that may be stale.
    left: u64,
}

impl Registry {
    /// None loaded yet.
    #[must_use]
    pub(crate) fn new(store: Arc<dyn Store>, shared: Arc<Shared>) -> Self {
        Self { store, shared, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are in memory.
    pub(crate) fn loaded(&self) -> usize {
        self.state().loaded.len()
    }

    /// A mailbox, if there is one.
    pub(crate) async fn get(&self, id: &MailboxId) -> Result<Option<Arc<Mailbox>>, Unavailable> {
        loop {
            let left = {
                let state = self.state();
                if let Some(mailbox) = state.loaded.get(id) {
                    return Ok(Some(Arc::clone(mailbox)));
                }
                state.left
            };
            let wanted = *id;
            let Some(loaded) = self.read(move |store| store.load(&wanted)).await? else { return Ok(None) };
            let mut state = self.state();
            if state.left != left {
                continue;
            }
            let make = || Mailbox::new(*id, loaded, Arc::clone(&self.shared));
            return Ok(Some(Arc::clone(state.loaded.entry(*id).or_insert_with(make))));
        }
    }

    /// Makes a mailbox; the receiver is told once it is durable. The same again is told the same.
    pub(crate) async fn create(
        self: &Arc<Self>,
        id: MailboxId,
        owner_key: [u8; 32],
        root: MacRoot,
        month: u32,
    ) -> Result<oneshot::Receiver<()>, Refusal> {
        self.get(&id).await?;
        let mut state = self.state();
        match state.loaded.entry(id) {
            Entry::Occupied(there) => {
                there.get().made_by(&owner_key, &root)?;
                Ok(there.get().barrier())
            }
            Entry::Vacant(free) => {
                let incarnation = Incarnation { number: 0, nonce: IncarnationNonce::new([0; 16]) };
                let record = MailboxRecord { owner_key, root, incarnation, month };
                let new = Loaded {
                    record: record.clone(),
                    revoked: Default::default(),
                    usage: Usage::default(),
                    first: 1,
                    next: 1,
                    gap: 0,
                };
                free.insert(Mailbox::new(id, new, Arc::clone(&self.shared)));
                let (done, wait) = oneshot::channel();
                self.shared.writer.enqueue(
                    vec![Write::PutMailbox(id, record)],
                    Box::new(move || {
                        let _ = done.send(());
                    }),
                );
                Ok(wait)
            }
        }
    }

    /// Deletes a mailbox; the receiver is told once that is durable.
    pub(crate) fn delete(self: &Arc<Self>, mailbox: &Mailbox) -> oneshot::Receiver<()> {
        let (done, wait) = oneshot::channel();
        let (registry, id) = (Arc::clone(self), *mailbox.id());
        mailbox.delete(Box::new(move || {
            let mut state = registry.state();
            state.loaded.remove(&id);
            state.left += 1;
            drop(state);
            let _ = done.send(());
        }));
        wait
    }

    /// Drops mailboxes that nobody uses from memory.
    pub(crate) fn tidy(&self) {
        let now = Instant::now();
        let mut state = self.state();
        let before = state.loaded.len();
        // With the count at one nobody else has it, and nobody can get it while the state is locked.
        state.loaded.retain(|_, mailbox| Arc::strong_count(mailbox) > 1 || !mailbox.is_idle(now));
        let left = before - state.loaded.len();
        state.left += left as u64;
    }

    /// Runs a read of the store where it may block. A store that cannot be read takes the relay down.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let store = Arc::clone(&self.store);
        match tokio::task::spawn_blocking(move || read(&*store)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                tracing::error!(%error, "the store cannot be read; the relay stops");
                self.shared.writer.fail(&error);
                Err(Unavailable)
            }
            Err(_) => Err(Unavailable),
        }
    }
}
