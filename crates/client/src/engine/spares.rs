//! Spare KeyPackages: ours that others have, others' that we have, and with whose certificate each stands.

use bulla_e2ee::certificate::{Expect, Role};
use bulla_e2ee::continues::Speaker;
use bulla_e2ee::continues::Turn;
use bulla_e2ee::identity::{IdentityHash, Pseudonym};
use bulla_e2ee::sabotage::{Rule, broken};
use bulla_e2ee::spare::{Issuer, Spare, make_spare};
use bulla_e2ee::suite::Suite;
use minicbor::bytes::ByteVec;

use super::members::{Member, Number, member_key};
use super::messages::Wait;
use super::record::{ConversationRecord, SecretVec, SpareRecord};
use super::suites::Waits;
use super::{Ctx, Engine, RoleOptions, damaged};
use crate::store::tx::after_prefix;
use crate::store::vault::Scope;
use crate::store::{Order, StoreError, Table};

/// A spare is renewed when it is this old; its lifetime is four times as long.
const SPARE_RENEWED_MS: u64 = 90 * 86_400_000;

/// While a better suite waits for everybody's spares: one of them may have been lost. It is left again sooner where everybody is known to speak
/// a better one than where somebody is not: there it may be all that is missing, or of no use for years.
const OFFERED_AGAIN_MS: u64 = 600_000;
const SAID_AGAIN_MS: u64 = 3_600_000;

/// A spare is erased this long after it was used: until then another member may begin again with it, who has not heard of its successor.
const SPENT_KEPT_MS: u64 = 3_600_000;

/// Own spares kept per conversation: the newest, and those that an answer under way may still use.
const SPARES_KEPT: usize = 4;

impl Engine {
    pub(super) fn load_spent(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        for (key, spare) in ctx.tx.scan_prefix::<SpareRecord>(Table::Spares, b"")? {
            self.spent.extend(spare.used_ms.map(|used| (used, key)));
        }
        Ok(())
    }

    /// Erases the secrets of spares that were used.
    pub(super) fn erase_spent(&mut self, ctx: &mut Ctx<'_, '_>) {
        while !broken(Rule::SpareOnce)
            && let Some((used, _)) = self.spent.first()
            && used.saturating_add(SPENT_KEPT_MS) <= ctx.tx.now_ms()
            && let Some((_, key)) = self.spent.pop_first()
        {
            ctx.tx.delete(Table::Spares, &key);
        }
    }

    /// We went back to an older state: the groups into which we were brought since are not joined once more, since we may have sealed in them. Who
    /// makes one knowing that we went back makes a new one.
    pub(super) fn bound_spares(ctx: &mut Ctx<'_, '_>, number: u64, peer: u64) -> Result<(), StoreError> {
        let after = Some(Turn::since(ctx.tx.now_ms())).filter(|_| !broken(Rule::PackagesForgotten));
        for (key, spare) in ctx.tx.scan_prefix::<SpareRecord>(Table::Spares, &number.to_be_bytes())? {
            ctx.tx.put(Table::Spares, &key, Scope::Peer(peer), &SpareRecord { after, ..spare })?;
        }
        Ok(())
    }

    /// The newest spares, as far as they still verify, of all who belong into a new group: all of the suite that it will be of. Also of those who
    /// are out of this group: the first device may be, where one that it has removed was faster to tell.
    pub(super) fn spares(
        &self,
        ctx: &Ctx<'_, '_>,
        number: u64,
        record: &ConversationRecord,
    ) -> Result<Vec<Spare>, StoreError> {
        let mut spares = Vec::new();
        let (mut members, out): (Vec<Member>, Vec<Member>) =
            self.members(ctx, number)?.into_iter().filter(|m| !m.record.leaving).partition(Member::is_in);
        members.extend(out);
        for member in members.into_iter().take(bulla_e2ee::limits::MEMBERS - 1) {
            spares.extend(self.verified_spare(ctx, number, record, &member)?);
        }
        self.of_best_suite(ctx, number, spares)
    }

    /// The newest spare of a member, as far as it still verifies.
    pub(super) fn verified_spare(
        &self,
        ctx: &Ctx<'_, '_>,
        number: u64,
        record: &ConversationRecord,
        member: &Member,
    ) -> Result<Option<Spare>, StoreError> {
        let Some(bytes) = self.spare_of(ctx, number, member.number)? else { return Ok(None) };
        Ok(Spare::verify(&bytes, &self.expect_member(record, member)?, ctx.tx.now_ms() / 1000).ok())
    }

    /// Whose certificate a member must have.
    pub(super) fn expect_member(&self, record: &ConversationRecord, member: &Member) -> Result<Expect, StoreError> {
        let business = IdentityHash::new(*record.business);
        let of_business = (self.own_role() == Role::Business) == member.record.own_side;
        Ok(if of_business {
            Expect::business(business)
        } else {
            Expect::customer(business, Self::customer_key(record)?)
        })
    }

    pub(super) fn customer_key(record: &ConversationRecord) -> Result<[u8; 32], StoreError> {
        Ok(match (&record.pseudonym, Self::device(record)?) {
            (Some(key), _) => Pseudonym::from_bytes(&key.0).public(),
            (None, Some(device)) => *device.certificate().identity(),
            (None, None) => *record.peer_key,
        })
    }

    /// Runs something with this endpoint's issuer of certificates in a conversation.
    pub(super) fn with_issuer<R>(
        &self,
        ctx: &Ctx<'_, '_>,
        record: &mut ConversationRecord,
        f: impl FnOnce(&Issuer<'_>, &Speaker<'_>) -> R,
    ) -> Result<R, StoreError> {
        if let RoleOptions::Business(options) = &self.role {
            let identity = self.identity()?;
            let (handle, suites) = (&options.handle, self.suites);
            let issuer = Issuer::Business { identity: &identity, handle, endpoint: "gateway", suites };
            return Ok(f(&issuer, &Speaker::Business(&identity)));
        }
        if let Some(device) = Self::device(record)? {
            return Ok(f(&Issuer::Linked(&device, self.suites), &Speaker::Linked(&device)));
        }
        let endpoint = self.own_endpoint(ctx, record);
        let key = record.pseudonym.as_ref().ok_or(damaged(Table::Conversations))?;
        let (pseudonym, business) = (Pseudonym::from_bytes(&key.0), IdentityHash::new(*record.business));
        let (endpoint, suites) = (&*endpoint, self.suites);
        let issuer = Issuer::Customer { pseudonym: &pseudonym, business: &business, endpoint, suites };
        Ok(f(&issuer, &Speaker::Customer(&pseudonym)))
    }

    /// A spare for the other side, if it is time for one.
    pub(super) fn spare_to_give(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let group = self.group(ctx, number)?;
        let renewed = match self.waits_for_better(ctx, number)? {
            Waits::ForSpares => OFFERED_AGAIN_MS,
            Waits::ForWord => SAID_AGAIN_MS,
            Waits::Not => SPARE_RENEWED_MS,
        };
        let is_fresh = ctx.tx.now_ms() < group.spare_ms.saturating_add(renewed) && group.spare_ms > 0;
        if is_fresh && self.offer(ctx, number)? == Self::offered(&group) {
            return Ok(None);
        }
        let suite = self.suite_to_offer(ctx, number)?;
        self.make_spare(ctx, number, record, suite).map(Some)
    }

    /// Spares for who does not know which suite the group will be of when it comes in: one of each that we speak, `first` of the one it is of.
    pub(super) fn spares_to_join(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        first: Option<Suite>,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let first = match first {
            Some(suite) => suite,
            None => self.suite_to_offer(ctx, number)?,
        };
        let all = [first].into_iter().chain(self.suites.iter().filter(|suite| *suite != first));
        all.map(|suite| self.make_spare(ctx, number, record, suite)).collect()
    }

    fn make_spare(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        suite: Suite,
    ) -> Result<Vec<u8>, StoreError> {
        let mut group = self.group(ctx, number)?;
        let now = ctx.tx.now_ms();
        let made =
            self.with_issuer(ctx, record, |issuer, _| make_spare(issuer, suite, now / 1000, &mut ctx.tx.rng()))?;
        let Ok((bytes, keys)) = made else { return Err(damaged(Table::Spares)) };
        let prefix = number.to_be_bytes();
        let kept = ctx.tx.scan_bytes(Table::Spares, &prefix, after_prefix(&prefix).as_deref(), Order::Ascending, 64)?;
        let serial = kept.last().and_then(|(k, _)| k.last_chunk::<8>()).map_or(0, |k| u64::from_be_bytes(*k)) + 1;
        for (key, _) in kept.iter().take((kept.len() + 1).saturating_sub(SPARES_KEPT)) {
            ctx.tx.delete(Table::Spares, key);
        }
        let key = [prefix, serial.to_be_bytes()].concat();
        let spare = SpareRecord { keys: SecretVec(keys.to_bytes().to_vec()), made_ms: now, used_ms: None, after: None };
        ctx.tx.put(Table::Spares, &key, Scope::Peer(record.peer), &spare)?;
        group.spare_ms = now;
        group.offered = Some(self.offer(ctx, number)?);
        self.save_group(ctx, number, record.peer, &group)?;
        Ok(bytes)
    }

    /// Keeps the spare that a member left, if it is one of its own.
    pub(super) fn take_spare(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &ConversationRecord,
        member: &Member,
        spare: &[u8],
    ) -> Result<(), StoreError> {
        let verified = Spare::verify(spare, &self.expect_member(record, member)?, ctx.tx.now_ms() / 1000);
        let Some(verified) = verified.ok().filter(|s| s.certificate().endpoint() == member.record.endpoint) else {
            tracing::warn!("a spare KeyPackage that does not verify: ignored");
            return Ok(());
        };
        if !Self::note_spoken(ctx, number, record.peer, member, &verified)? {
            tracing::warn!("an older spare KeyPackage that takes a suite back: ignored");
            return Ok(());
        }
        Self::put_spare(ctx, number, record.peer, member.number, spare)?;
        // What it speaks may be what we waited for to leave a spare of a better suite.
        if self.offer(ctx, number)? != Self::offered(&self.group(ctx, number)?) {
            self.owe_receipts(ctx, number, record.peer, &[], &[], Wait::AtOnce)?;
        }
        Ok(())
    }

    /// Keeps a member's spare KeyPackage.
    pub(super) fn put_spare(
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
        member: Number,
        spare: &[u8],
    ) -> Result<(), StoreError> {
        let bytes = ByteVec::from(spare.to_vec());
        ctx.tx.put(Table::PeerSpares, &member_key(number, member), Scope::Peer(peer), &bytes)
    }

    pub(super) fn drop_spare(ctx: &mut Ctx<'_, '_>, number: u64, member: Number) {
        if !broken(Rule::SpareOnce) {
            ctx.tx.delete(Table::PeerSpares, &member_key(number, member));
        }
    }

    pub(super) fn spare_of(
        &self,
        ctx: &Ctx<'_, '_>,
        number: u64,
        member: Number,
    ) -> Result<Option<ByteVec>, StoreError> {
        ctx.tx.get(Table::PeerSpares, &member_key(number, member))
    }
}
