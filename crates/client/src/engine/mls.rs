//! MLS state: loaded once, kept at hand, written as a difference in the transaction of what changed it.

use bulla_e2ee::conversation::{Conversation as Mls, OpenError, Opened, SealError};
use bulla_e2ee::state::State;
use bulla_e2ee::suite::Suite;

use super::{Ctx, Engine, LOADED_CONVERSATIONS, damaged};
use crate::store::vault::Scope;
use crate::store::{StoreError, Table};

impl Engine {
    pub(super) fn mls(&mut self, ctx: &Ctx<'_, '_>, number: u64) -> Result<&mut Mls, StoreError> {
        if !self.loaded.contains_key(&number) {
            let prefix = number.to_be_bytes();
            let until = crate::store::tx::after_prefix(&prefix);
            let rows = ctx.tx.scan_bytes(
                Table::Mls,
                &prefix,
                until.as_deref(),
                crate::store::Order::Ascending,
                usize::MAX / 2,
            )?;
            let entries =
                rows.into_iter().map(|(key, value)| (key.get(8..).unwrap_or_default().to_vec(), value.to_vec()));
            let loaded = State::load(entries).and_then(Mls::load).map_err(|_| damaged(Table::Mls))?;
            self.keep_loaded(number, loaded);
        }
        self.loaded.get_mut(&number).ok_or(damaged(Table::Mls))
    }

    /// Whether the conversation has a group at all.
    pub(super) fn has_group(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<bool, StoreError> {
        let prefix = number.to_be_bytes();
        let until = crate::store::tx::after_prefix(&prefix);
        let first = crate::store::Order::Ascending;
        Ok(self.loaded.contains_key(&number)
            || !ctx.tx.scan_bytes(Table::Mls, &prefix, until.as_deref(), first, 1)?.is_empty())
    }

    /// The id of the conversation's group.
    pub(super) fn group_id(&mut self, ctx: &Ctx<'_, '_>, number: u64) -> Result<Vec<u8>, StoreError> {
        Ok(self.mls(ctx, number)?.group_id().to_vec())
    }

    /// Epoch, and the beginning of its authenticator: equal at all members of a conversation that is settled.
    pub fn epoch(&mut self, ctx: &Ctx<'_, '_>, number: u64) -> Result<(u64, [u8; 8]), StoreError> {
        let mls = self.mls(ctx, number)?;
        let epoch = mls.epoch();
        Ok((epoch, mls.authenticator(epoch).unwrap_or_default()))
    }

    /// The cipher suite that a conversation's group is in.
    pub fn suite(&mut self, ctx: &Ctx<'_, '_>, number: u64) -> Result<Suite, StoreError> {
        Ok(self.mls(ctx, number)?.suite())
    }

    /// Writes what a loaded conversation's state has changed.
    pub(super) fn save_changes_of(&mut self, ctx: &mut Ctx<'_, '_>, number: u64, peer: u64) -> Result<(), StoreError> {
        save_changes(ctx, number, peer, self.mls(ctx, number)?.state())
    }

    pub(super) fn keep_loaded(&mut self, number: u64, mls: Mls) {
        if self.loaded.len() >= LOADED_CONVERSATIONS {
            self.loaded.clear();
        }
        self.loaded.insert(number, mls);
    }

    pub(super) fn save_mls(&self, ctx: &mut Ctx<'_, '_>, number: u64, peer: u64, mls: &Mls) -> Result<(), StoreError> {
        save_changes(ctx, number, peer, mls.state())
    }

    pub(super) fn forget_mls(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        self.loaded.remove(&number);
        let prefix = number.to_be_bytes();
        let until = crate::store::tx::after_prefix(&prefix);
        let all = crate::store::Order::Ascending;
        for (key, _) in ctx.tx.scan_bytes(Table::Mls, &prefix, until.as_deref(), all, usize::MAX / 2)? {
            ctx.tx.delete(Table::Mls, &key);
        }
        Ok(())
    }

    /// Seals a content in a conversation; `None` if it is too large.
    pub(super) fn seal_mls(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
        content: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.sealed = true;
        let mls = self.mls(ctx, number)?;
        match mls.seal(content) {
            Ok(sealed) => {
                save_changes(ctx, number, peer, mls.state())?;
                Ok(Some(sealed))
            }
            Err(SealError::TooLarge) => Ok(None),
            Err(_) => Err(damaged(Table::Mls)),
        }
    }

    /// Whether more may be sealed before the other side is heard.
    pub(super) fn may_seal(&mut self, ctx: &Ctx<'_, '_>, number: u64) -> Result<bool, StoreError> {
        Ok(self.mls(ctx, number)?.unheard() < bulla_e2ee::limits::UNHEARD)
    }

    /// Opens an MLS message of a conversation; the outer error is the store's.
    pub(super) fn open_mls(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        message: &[u8],
    ) -> Result<Result<Opened, OpenError>, StoreError> {
        let peer = self.conversation_record(ctx, number)?.peer;
        let mls = self.mls(ctx, number)?;
        let opened = mls.open(message);
        save_changes(ctx, number, peer, mls.state())?;
        Ok(opened)
    }
}

fn save_changes(ctx: &mut Ctx<'_, '_>, number: u64, peer: u64, state: &State) -> Result<(), StoreError> {
    for (key, value) in state.take_changes() {
        let key = [number.to_be_bytes().as_slice(), &key].concat();
        match value {
            Some(value) => ctx.tx.put_bytes(Table::Mls, &key, Scope::Peer(peer), value),
            None => ctx.tx.delete(Table::Mls, &key),
        }
    }
    Ok(())
}
