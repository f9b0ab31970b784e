//! The outbox's lanes as they lie in the store: one with what is to be said, and one per member with what is on its way to it.

use bulla_protocol::id::SendId;

use super::members::Number;
use super::record::{ConversationRecord, OutboxRecord};
use super::{Ctx, Engine};
use crate::store::vault::Scope;
use crate::store::{Order, StoreError, Table};

/// Sequences of what is to be said begin here; what goes before everything else takes those below.
pub(super) const FIRST: u64 = 1 << 32;

/// A lane of a conversation: 0 for what is to be said, then one per member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LaneId {
    pub(super) conversation: u64,
    pub(super) member: Number,
}

impl LaneId {
    pub(super) const fn intents(conversation: u64) -> Self {
        Self { conversation, member: 0 }
    }

    pub(super) fn prefix(self) -> Vec<u8> {
        [self.conversation.to_be_bytes().as_slice(), &[self.member]].concat()
    }

    pub(super) fn from_key(key: &[u8]) -> Option<Self> {
        Some(Self { conversation: u64::from_be_bytes(*key.first_chunk::<8>()?), member: *key.get(8)? })
    }
}

/// A lane, while running.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// An envelope is with the relay (or its proof of work is being searched).
    pub(super) in_flight: bool,
    /// The relay it goes to.
    pub(super) relay: Option<String>,
    /// Not before this time, Unix ms.
    pub(super) waits_until: Option<u64>,
    pub(super) tries: u32,
}

fn outbox_key(lane: LaneId, sequence: u64) -> Vec<u8> {
    [lane.prefix().as_slice(), &sequence.to_be_bytes()].concat()
}

fn sequence_of(key: &[u8]) -> u64 {
    key.get(9..17).and_then(|k| k.first_chunk::<8>()).map_or(0, |k| u64::from_be_bytes(*k))
}

impl Engine {
    pub(super) fn load_lanes(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        let mut from = Vec::new();
        // One seek per lane, however long it is.
        while let Some((key, _)) =
            ctx.tx.scan_bytes(Table::Outbox, &from, None, Order::Ascending, 1)?.into_iter().next()
        {
            let Some(lane) = LaneId::from_key(&key) else { break };
            self.lanes.entry(lane).or_default();
            let Some(next) = crate::store::tx::after_prefix(&lane.prefix()) else { break };
            from = next;
        }
        for (key, _) in ctx.tx.scan_bytes_prefix(Table::Receipts, &[])? {
            if let Some(number) = key.first_chunk::<8>() {
                self.lanes.entry(LaneId::intents(u64::from_be_bytes(*number))).or_default();
            }
        }
        // Links for what is sealed or can be: asked for as the lanes are pumped.
        self.pump_all(ctx)
    }

    /// Adds an intent to what is to be said.
    pub(super) fn enqueue(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        intent: &OutboxRecord,
    ) -> Result<(), StoreError> {
        let lane = LaneId::intents(number);
        let key = outbox_key(lane, FIRST.saturating_add(record.next_sequence));
        ctx.tx.put(Table::Outbox, &key, Scope::Peer(record.peer), intent)?;
        record.next_sequence += 1;
        self.lanes.entry(lane).or_default();
        Ok(())
    }

    /// Adds an intent before everything that has not been sealed.
    pub(super) fn enqueue_first(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
        intent: &OutboxRecord,
    ) -> Result<(), StoreError> {
        let lane = LaneId::intents(number);
        let prefix = lane.prefix();
        let until = crate::store::tx::after_prefix(&prefix);
        let rows = ctx.tx.scan::<OutboxRecord>(Table::Outbox, &prefix, until.as_deref(), Order::Ascending, 2)?;
        let key = match &rows[..] {
            [] => outbox_key(lane, FIRST),
            // A head that is on its way stays; a longer key stands between it and the next.
            [(head, entry), rest @ ..] if entry.sealed.is_some() => {
                let after = rest.first().and_then(|(key, _)| key.strip_prefix(&head[..])?.first_chunk::<4>());
                let before = after.map_or(u32::MAX / 2, |k| u32::from_be_bytes(*k)).saturating_sub(1);
                [head.as_slice(), &before.to_be_bytes()].concat()
            }
            [(head, _), ..] => outbox_key(lane, sequence_of(head).saturating_sub(1)),
        };
        ctx.tx.put(Table::Outbox, &key, Scope::Peer(peer), intent)?;
        self.lanes.entry(lane).or_default();
        Ok(())
    }

    /// A lane with one envelope that is sealed already.
    pub(super) fn enqueue_sealed(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        entry: &OutboxRecord,
    ) -> Result<(), StoreError> {
        let lane = LaneId::intents(number);
        ctx.tx.put(Table::Outbox, &outbox_key(lane, 0), Scope::Endpoint, entry)?;
        self.lanes.entry(lane).or_default();
        Ok(())
    }

    /// Adds to a member's lane.
    pub(super) fn enqueue_copy(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        lane: LaneId,
        peer: u64,
        copy: &OutboxRecord,
    ) -> Result<(), StoreError> {
        let prefix = lane.prefix();
        let until = crate::store::tx::after_prefix(&prefix);
        let last = ctx.tx.scan_bytes(Table::Outbox, &prefix, until.as_deref(), Order::Descending, 1)?;
        let sequence = last.first().map_or(0, |(key, _)| sequence_of(key)) + 1;
        ctx.tx.put(Table::Outbox, &outbox_key(lane, sequence), Scope::Peer(peer), copy)?;
        self.lanes.entry(lane).or_default();
        Ok(())
    }

    /// Whether nothing is to be said.
    pub(super) fn is_lane_empty(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<bool, StoreError> {
        Ok(self.head(ctx, LaneId::intents(number))?.is_none())
    }

    pub(super) fn head(&self, ctx: &Ctx<'_, '_>, lane: LaneId) -> Result<Option<(Vec<u8>, OutboxRecord)>, StoreError> {
        let prefix = lane.prefix();
        let until = crate::store::tx::after_prefix(&prefix);
        let rows = ctx.tx.scan(Table::Outbox, &prefix, until.as_deref(), Order::Ascending, 1)?;
        Ok(rows.into_iter().next())
    }

    /// The head of a lane, if it is what was sent under this id. It is not where a Hello was made again while the first one's answer was
    /// still on its way: that answer is nobody's.
    pub(super) fn head_of(
        &self,
        ctx: &Ctx<'_, '_>,
        lane: LaneId,
        id: SendId,
    ) -> Result<Option<(Vec<u8>, OutboxRecord)>, StoreError> {
        let head = self.head(ctx, lane)?;
        Ok(head.filter(|(_, entry)| entry.sealed.as_ref().is_some_and(|s| *s.send_id == *id.as_bytes())))
    }
}
