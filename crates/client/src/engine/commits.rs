//! Commits: when one is made, how its slot is claimed, how another's is followed, and messages that come too early.
//!
//! Stage and store, together with the sealed claim; claim the slot; *won*: merge and send the commit to the members; *lost*: follow the
//! winner. The claim is repeated with the same bytes until it is answered, also after a restart. A message of an epoch that is not
//! reached is held; the commit that leads there is in the slot.

use bulla_e2ee::continues::Reason;
use bulla_e2ee::conversation::{CommitError, Conversation as Mls, OpenError, Sender};
use bulla_e2ee::envelope::Kind;
use bulla_e2ee::sabotage::{Rule, broken};
use bulla_e2ee::tag::Purpose;
use bulla_protocol::frame::{ClaimSlot, Code, ReadSlot, SlotClaimed, SlotRead};
use bulla_protocol::id::{MailboxId, SlotId};
use bulla_protocol::limits;
use bulla_protocol::work::Task;
use minicbor::bytes::ByteVec;

use super::record::{ClaimRecord, ConversationRecord, HeldRecord, MemberRecord, OutboxRecord};
use super::{Ctx, Engine, LinkKey, RoleOptions, Timer, WorkFor, damaged};
use crate::event::ConversationState;
use crate::store::tx::after_prefix;
use crate::store::vault::Scope;
use crate::store::{Order, StoreError, Table};

/// Keys are renewed when they are this old, in a conversation that is used: what was stolen heals within it.
const RENEWED_MS: u64 = 7 * 86_400_000;

/// Messages held per conversation; more than that many of an epoch nobody can explain are no messages.
const HELD: usize = 1_000;

/// Pauses before a slot that was found empty is read again, and before a claim that was refused is made again.
const AGAIN_MS: [u64; 3] = [1_000, 4_000, 15_000];

/// How long messages of an unknown group are held where a third may bring us into it.
const FOREIGN_MS: u64 = 20_000;

/// In place of a purpose: what is held is a commit that begins a later epoch than the next. Nothing else may come of that epoch, to one whom
/// it removes.
const HELD_COMMIT: u8 = 0;

/// Whether what is held is of this group.
fn is_of(held: &HeldRecord, group: &[u8]) -> bool {
    bulla_e2ee::conversation::group_of(&held.mls).is_some_and(|id| id == group)
}

/// Where a commit came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// Its author sent it, and has merged it.
    Author,
    /// It stands in its slot, and whether its author knows that is not known; or it came before what its author had sent before it.
    Slot,
}

/// What waits for a connection or for a time; in memory, found again from the store at a start.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Conversations whose keys are to be renewed.
    pub(super) commits: std::collections::BTreeSet<u64>,
    /// Conversations whose slot is to be read, and how often it was found empty.
    pub(super) reads: std::collections::BTreeMap<u64, usize>,
    /// Claims that are with the relay, or whose work is searched.
    pub(super) claiming: std::collections::BTreeSet<u64>,
    /// Conversations that hold messages of a group that is not known here.
    pub(super) foreign: std::collections::BTreeSet<u64>,
}

impl Engine {
    /// Finds the claims that were not answered when this endpoint stopped, the devices that were to come in or to go, and the conversations that
    /// hold messages.
    pub(super) fn load_commits(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        for (key, _) in ctx.tx.scan_prefix::<ClaimRecord>(Table::Claims, b"")? {
            if let Some(number) = key.first_chunk::<8>() {
                self.wanted.commits.insert(u64::from_be_bytes(*number));
            }
        }
        let mut changing: Vec<u64> = Vec::new();
        for (key, member) in ctx.tx.scan_prefix::<MemberRecord>(Table::Members, b"")? {
            let is_to_change = member.own_side && member.out != member.leaving;
            changing.extend(key.first_chunk::<8>().filter(|_| is_to_change).map(|number| u64::from_be_bytes(*number)));
        }
        for number in changing {
            self.want_changes(ctx, number)?;
        }
        let mut holding: Vec<u64> = Vec::new();
        for (key, _) in ctx.tx.scan_bytes(Table::Held, &[], None, Order::Ascending, usize::MAX / 2)? {
            holding.extend(key.first_chunk::<8>().map(|number| u64::from_be_bytes(*number)));
        }
        holding.dedup();
        for number in holding {
            if self.has_group(ctx, number)? {
                let current = self.group_id(ctx, number)?;
                let held = ctx.tx.scan_prefix::<HeldRecord>(Table::Held, &number.to_be_bytes())?;
                if held.iter().any(|(_, held)| is_of(held, &current)) {
                    self.wanted.reads.insert(number, 0);
                }
            }
            self.wait_for_foreign(ctx, number);
        }
        Ok(())
    }

    /// A device that is to come in or to go is not forgotten before that.
    fn want_changes(&mut self, ctx: &Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        if !self.changes(ctx, number)?.is_nothing() {
            self.wanted.commits.insert(number);
        }
        Ok(())
    }

    /// Goes on with everything that waits: a connection came up, or time has passed.
    pub(super) fn pump_commits(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        for number in self.wanted.commits.clone() {
            self.commit(ctx, number)?;
        }
        for number in self.wanted.reads.keys().copied().collect::<Vec<_>>() {
            self.read_slot(ctx, number)?;
        }
        Ok(())
    }

    /// The relay whose slots a conversation uses: that of the business's mailbox.
    fn slot_relay(
        &self,
        ctx: &Ctx<'_, '_>,
        number: u64,
        record: &ConversationRecord,
    ) -> Result<Option<String>, StoreError> {
        match self.role {
            RoleOptions::Business(_) => {
                Ok(self.mailboxes.get(&MailboxId::new(*record.mailbox)).map(|m| m.record.relay.clone()))
            }
            RoleOptions::Customer => match self.choose_other_side(ctx, number, Purpose::Control)? {
                Some(relay) => Ok(Some(relay)),
                None => self.choose_other_side(ctx, number, Purpose::Service),
            },
        }
    }

    /// Notes that a conversation's keys are old, if they are.
    pub(super) fn renew_if_old(&mut self, ctx: &Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        let renewed = self.group(ctx, number)?.renewed_ms;
        if ctx.tx.now_ms() >= renewed.saturating_add(RENEWED_MS) {
            self.wanted.commits.insert(number);
        }
        Ok(())
    }

    /// Makes the commit that a conversation waits for, or repeats its claim, if that can be now.
    pub(super) fn commit(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        if !self.wanted.commits.contains(&number) || self.wanted.claiming.contains(&number) {
            return Ok(());
        }
        let record = self.conversation_record(ctx, number)?;
        if record.state != ConversationState::Open || !self.holds(MailboxId::new(*record.mailbox)) {
            return Ok(());
        }
        if self.is_broken(ctx, number)? {
            self.wanted.commits.remove(&number);
            return Ok(());
        }
        let Some(relay) = self.slot_relay(ctx, number, &record)? else { return Ok(()) };
        let link = LinkKey::anonymous(&relay);
        if self.link(ctx.out, &link).is_none() {
            return Ok(());
        }
        let claim = match ctx.tx.get::<ClaimRecord>(Table::Claims, &number.to_be_bytes())? {
            Some(claim) => claim,
            None => {
                let epoch = self.mls(ctx, number)?.epoch();
                let changes = self.changes(ctx, number)?;
                let staged = match self.stage_changes(ctx, number, &changes)? {
                    Ok(staged) => staged,
                    // Somebody has not been heard in this epoch: when he is, it is looked at again.
                    Err(CommitError::NotHeard) => return Ok(()),
                    Err(why @ (CommitError::NotOurs | CommitError::TooLarge)) => {
                        tracing::warn!(error = %why, "a device cannot be let in");
                        self.wanted.commits.remove(&number);
                        return Ok(());
                    }
                    Err(_) => return Err(damaged(Table::Mls)),
                };
                let sealed = staged.slot.seal(&staged.commit, &mut ctx.tx.rng()).map_err(|_| damaged(Table::Mls))?;
                let claim = ClaimRecord {
                    slot: (*staged.slot.id()).into(),
                    sealed: ByteVec::from(sealed),
                    commit: ByteVec::from(staged.commit),
                    epoch,
                    welcome: staged.welcome.map(ByteVec::from),
                };
                self.save_changes_of(ctx, number, record.peer)?;
                ctx.tx.put(Table::Claims, &number.to_be_bytes(), Scope::Peer(record.peer), &claim)?;
                claim
            }
        };
        let Some(up) = self.link(ctx.out, &link) else { return Ok(()) };
        let (challenge, bits) = (*up.challenge.as_bytes(), up.work_bits.min(limits::MAX_WORK_BITS));
        let task = Task::slot(&up.challenge, &SlotId::new(*claim.slot), &claim.sealed);
        ctx.out.work.push((WorkFor::Slot(number, challenge), task, bits));
        self.wanted.claiming.insert(number);
        Ok(())
    }

    pub(super) fn slot_work_done(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        challenge: [u8; 32],
        nonce: u64,
    ) -> Result<(), StoreError> {
        let claim = ctx.tx.get::<ClaimRecord>(Table::Claims, &number.to_be_bytes())?;
        let relay = match self.conversation_record(ctx, number) {
            Ok(record) => self.slot_relay(ctx, number, &record)?,
            Err(_) => None,
        };
        let (Some(claim), Some(relay)) = (claim, relay) else {
            self.wanted.claiming.remove(&number);
            return Ok(());
        };
        let link = LinkKey::anonymous(&relay);
        if self.link(ctx.out, &link).is_none_or(|up| *up.challenge.as_bytes() != challenge) {
            // Work for an earlier connection is worth nothing: the claim begins again with the next.
            self.wanted.claiming.remove(&number);
            return self.commit(ctx, number);
        }
        let frame = ClaimSlot { slot: claim.slot.to_vec(), commit: claim.sealed.to_vec().into(), work_nonce: nonce };
        self.request_claim(ctx.out, &link, frame, number);
        Ok(())
    }

    /// A claim was answered.
    pub(super) fn claimed(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        slot: [u8; 32],
        answer: &SlotClaimed,
    ) -> Result<(), StoreError> {
        self.wanted.claiming.remove(&number);
        let Some(claim) = ctx.tx.get::<ClaimRecord>(Table::Claims, &number.to_be_bytes())? else { return Ok(()) };
        let record = self.conversation_record(ctx, number)?;
        if *claim.slot != slot || self.mls(ctx, number)?.epoch() != claim.epoch || self.is_broken(ctx, number)? {
            return Ok(());
        }
        ctx.tx.delete(Table::Claims, &number.to_be_bytes());
        self.wanted.commits.remove(&number);
        if answer.won || broken(Rule::OneWinner) {
            return self.won(ctx, number, &record, &claim);
        }
        let mls = self.mls(ctx, number)?;
        let found = mls.slot().ok().and_then(|slot| slot.open(&answer.winner).ok());
        mls.discard().map_err(|_| damaged(Table::Mls))?;
        self.save_changes_of(ctx, number, record.peer)?;
        match found {
            Some(commit) => self.follow(ctx, number, &commit, From::Slot),
            // What stands there was written by nobody in the group: the relay lies, or lost what it had. If others have left this epoch, as
            // messages that are held here tell, there is no way after them; otherwise it goes on as it is.
            None if self.wanted.reads.remove(&number).is_some() => self.break_group(ctx, number, Reason::Fork),
            // Whoever was to come in or to go still is: once more with the next that is heard.
            None => self.want_changes(ctx, number),
        }
    }

    /// Our commit stands: the next epoch begins, and the members hear of it.
    fn won(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &ConversationRecord,
        claim: &ClaimRecord,
    ) -> Result<(), StoreError> {
        let senders = |mls: &Mls| -> Vec<Sender> { mls.members().into_iter().map(|m| m.who).collect() };
        let mls = self.mls(ctx, number)?;
        let before = senders(mls);
        mls.merge().map_err(|_| damaged(Table::Mls))?;
        let after = senders(mls);
        self.save_changes_of(ctx, number, record.peer)?;
        let mut group = self.group(ctx, number)?;
        group.renewed_ms = ctx.tx.now_ms();
        self.save_group(ctx, number, record.peer, &group)?;
        self.reseal_unsent(ctx, number, record.peer)?;
        let commit = OutboxRecord::body(Kind::Commit as u8, claim.commit.to_vec(), Purpose::Control.to_wire());
        if !broken(Rule::CommitSent) {
            self.enqueue_first(ctx, number, record.peer, &commit)?;
        }
        let added: Vec<Sender> = after.iter().filter(|s| !before.contains(s)).cloned().collect();
        let removed: Vec<Sender> = before.into_iter().filter(|s| !after.contains(s)).collect();
        self.membership_changed(ctx, number, &added, &removed)?;
        if let Some(welcome) = &claim.welcome {
            self.bring_in(ctx, number, &added, welcome)?;
            self.introduce(ctx, number)?;
        }
        self.advanced(ctx, number)
    }

    /// A claim was refused.
    pub(super) fn claim_refused(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        code: Code,
        retry_after_ms: u32,
    ) -> Result<(), StoreError> {
        self.wanted.claiming.remove(&number);
        match code {
            // A relay that knows no slots, or a commit that no relay takes: messages go on in the epoch as it is.
            Code::Unsupported | Code::TooLarge => {
                let record = self.conversation_record(ctx, number)?;
                ctx.tx.delete(Table::Claims, &number.to_be_bytes());
                self.wanted.commits.remove(&number);
                let mls = self.mls(ctx, number)?;
                if mls.is_pending() {
                    mls.discard().map_err(|_| damaged(Table::Mls))?;
                    self.save_changes_of(ctx, number, record.peer)?;
                }
                Ok(())
            }
            _ => {
                let longest = AGAIN_MS.last().copied().unwrap_or_default();
                self.timers.insert((ctx.tx.now_ms() + longest.max(u64::from(retry_after_ms)), Timer::Commits));
                Ok(())
            }
        }
    }

    /// A commit that its author sent to us.
    pub(super) fn commit_received(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        commit: &[u8],
    ) -> Result<(), StoreError> {
        self.commit_came(ctx, number, commit, From::Author)
    }

    fn commit_came(&mut self, ctx: &mut Ctx<'_, '_>, number: u64, commit: &[u8], from: From) -> Result<(), StoreError> {
        if !self.has_group(ctx, number)? || self.is_broken(ctx, number)? {
            return Ok(());
        }
        if self.mls(ctx, number)?.is_ahead(commit) && !self.put_held(ctx, number, HELD_COMMIT, commit)? {
            return Ok(());
        }
        // Whose commit stands is for the slot to say: with a claim of ours under way its answer brings the winner.
        if ctx.tx.get::<ClaimRecord>(Table::Claims, &number.to_be_bytes())?.is_some() {
            return Ok(());
        }
        self.follow(ctx, number, commit, from)
    }

    fn follow(&mut self, ctx: &mut Ctx<'_, '_>, number: u64, commit: &[u8], from: From) -> Result<(), StoreError> {
        let now = ctx.tx.now_ms();
        let peer = self.conversation_record(ctx, number)?.peer;
        let mls = self.mls(ctx, number)?;
        let followed = match from {
            From::Author => mls.follow(commit, now / 1000),
            From::Slot => mls.follow_found(commit, now / 1000),
        };
        self.save_changes_of(ctx, number, peer)?;
        match followed {
            Ok(followed) if followed.out => self.removed_ourselves(ctx, number),
            Ok(followed) => {
                // A claim of ours for the epoch that has ended is worth nothing.
                ctx.tx.delete(Table::Claims, &number.to_be_bytes());
                // A commit brings no permits: a Hello is answered by what does.
                if self.conversation_record(ctx, number)?.state != ConversationState::Greeting {
                    self.group_answers(ctx, number, peer, followed.by.role)?;
                }
                for gone in &followed.removed {
                    self.forget_removed(ctx, number, gone)?;
                }
                self.membership_changed(ctx, number, &followed.added, &followed.removed)?;
                self.reseal_unsent(ctx, number, peer)?;
                self.advanced(ctx, number)
            }
            // Delivered again, or of a group that was left behind.
            Err(OpenError::PastEpoch | OpenError::Replayed | OpenError::TooLate | OpenError::WrongGroup) => Ok(()),
            Err(OpenError::FutureEpoch) => self.want_read(ctx, number),
            Err(why) => {
                tracing::warn!(error = %why, "a commit cannot be followed");
                self.break_group(ctx, number, Reason::Fork)
            }
        }
    }

    /// A message of a group that is not known here: held until a statement brings us into it, but not for long.
    pub(super) fn hold_foreign(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        purpose: Purpose,
        mls: &[u8],
    ) -> Result<(), StoreError> {
        if self.put_held(ctx, number, purpose.to_wire(), mls)? {
            self.wait_for_foreign(ctx, number);
        }
        Ok(())
    }

    fn wait_for_foreign(&mut self, ctx: &Ctx<'_, '_>, number: u64) {
        if self.wanted.foreign.insert(number) {
            self.timers.insert((ctx.tx.now_ms() + FOREIGN_MS, Timer::Foreign(number)));
        }
    }

    /// Time has passed. If nobody has brought us into a group that others speak in, we are in another one than they.
    pub(super) fn foreign_stayed(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        // A customer who says Hello again has none meanwhile.
        if !self.has_group(ctx, number)? {
            return Ok(());
        }
        for (_, held) in ctx.tx.scan_prefix::<HeldRecord>(Table::Held, &number.to_be_bytes())? {
            if self.is_of_unknown_group(ctx, number, &held.mls)? {
                return self.foreign_stays(ctx, number);
            }
        }
        Ok(())
    }

    /// Nobody will bring us into a group that others speak in.
    pub(super) fn foreign_stays(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        if self.group(ctx, number)?.unanswered {
            // They may not have heard yet of the one that we began.
            return self.not_followed(ctx, number);
        }
        self.break_group(ctx, number, Reason::Fork)
    }

    /// Our group stands: nobody is waited for to bring us into another. What is held of others stays for as long as it would have, because
    /// another may have begun at once with ours, and take its place in turn.
    pub(super) fn wait_for_nobody(&mut self, number: u64) {
        self.wanted.foreign.remove(&number);
    }

    /// A new group has begun, and what is held is of another still: its maker may bring us there.
    pub(super) fn wait_for_held(&mut self, ctx: &Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        if !ctx.tx.scan_bytes_prefix(Table::Held, &number.to_be_bytes())?.is_empty() {
            self.wait_for_foreign(ctx, number);
        }
        Ok(())
    }

    /// What is held is looked at again: a new epoch or group has begun. What is of a group that is not known here waits on, but not for long and
    /// not for a second group: whoever said it says it again where the conversation goes on. So it does what it said in one that was left.
    pub(super) fn open_held(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        let now = ctx.tx.now_ms();
        for (key, held) in ctx.tx.scan_prefix::<HeldRecord>(Table::Held, &number.to_be_bytes())? {
            let current = if self.has_group(ctx, number)? { self.group_id(ctx, number)? } else { Vec::new() };
            let foreign = !is_of(&held, &current);
            let is_unknown = foreign && (current.is_empty() || self.is_of_unknown_group(ctx, number, &held.mls)?);
            if is_unknown && now < held.stored_ms.saturating_add(FOREIGN_MS) {
                continue;
            }
            ctx.tx.delete(Table::Held, &key);
            match Purpose::from_wire(u64::from(held.purpose)) {
                _ if foreign => {}
                None if held.purpose == HELD_COMMIT => self.commit_came(ctx, number, &held.mls, From::Slot)?,
                None => {}
                Some(purpose) => self.mls_message(ctx, number, purpose, &held.mls, &held.mls)?,
            }
        }
        Ok(())
    }

    /// A new epoch has begun: what came too early may open now, and what waited for it may go on.
    fn advanced(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        self.wanted.reads.remove(&number);
        self.want_changes(ctx, number)?;
        self.open_held(ctx, number)?;
        self.commit(ctx, number)?;
        self.pump(ctx, number)
    }

    /// A message of an epoch that is not reached here: held, and the slot is read.
    pub(super) fn hold(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        purpose: Purpose,
        mls: &[u8],
    ) -> Result<(), StoreError> {
        if self.put_held(ctx, number, purpose.to_wire(), mls)? {
            return self.want_read(ctx, number);
        }
        Ok(())
    }

    fn put_held(&self, ctx: &mut Ctx<'_, '_>, number: u64, purpose: u8, mls: &[u8]) -> Result<bool, StoreError> {
        let prefix = number.to_be_bytes();
        let until = after_prefix(&prefix);
        let newest = ctx.tx.scan_bytes(Table::Held, &prefix, until.as_deref(), Order::Descending, 1)?;
        let serial = newest.first().and_then(|(k, _)| k.last_chunk::<8>()).map_or(0, |k| u64::from_be_bytes(*k)) + 1;
        let peer = self.conversation_record(ctx, number)?.peer;
        if ctx.tx.scan_bytes(Table::Held, &prefix, until.as_deref(), Order::Ascending, HELD)?.len() >= HELD {
            Self::keep_unreadable(ctx, Some(number), "of an epoch that is not reached, after many others", mls)?;
            return Ok(false);
        }
        let key = [prefix, serial.to_be_bytes()].concat();
        let held = HeldRecord { purpose, mls: ByteVec::from(mls.to_vec()), stored_ms: ctx.tx.now_ms() };
        ctx.tx.put(Table::Held, &key, Scope::Peer(peer), &held)?;
        Ok(true)
    }

    fn want_read(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        if self.wanted.reads.contains_key(&number) {
            return Ok(());
        }
        self.wanted.reads.insert(number, 0);
        self.read_slot(ctx, number)
    }

    fn read_slot(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        let record = self.conversation_record(ctx, number)?;
        // With a claim under way, its answer says the same.
        let claims = ctx.tx.get::<ClaimRecord>(Table::Claims, &number.to_be_bytes())?.is_some();
        if claims || !self.has_group(ctx, number)? {
            return Ok(());
        }
        let Some(relay) = self.slot_relay(ctx, number, &record)? else { return Ok(()) };
        let link = LinkKey::anonymous(&relay);
        if self.link(ctx.out, &link).is_none() {
            return Ok(());
        }
        let slot = *self.mls(ctx, number)?.slot().map_err(|_| damaged(Table::Mls))?.id();
        self.request_read(ctx.out, &link, ReadSlot { slot: slot.to_vec() }, number);
        Ok(())
    }

    /// A slot was read.
    pub(super) fn slot_read(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        slot: [u8; 32],
        answer: &SlotRead,
    ) -> Result<(), StoreError> {
        if !self.wanted.reads.contains_key(&number) || !self.has_group(ctx, number)? {
            return Ok(());
        }
        let current = self.mls(ctx, number)?.slot().map_err(|_| damaged(Table::Mls))?;
        if *current.id() != slot {
            // The epoch has moved while the answer was on its way; what is still held asks again.
            return self.read_slot(ctx, number);
        }
        if answer.commit.is_empty() {
            let tries = self.wanted.reads.entry(number).or_default();
            *tries += 1;
            return match AGAIN_MS.get(*tries - 1) {
                Some(pause) => {
                    self.timers.insert((ctx.tx.now_ms() + pause, Timer::Commits));
                    Ok(())
                }
                // The commit is nowhere: neither was it sent to us nor is it in its slot.
                None => {
                    self.wanted.reads.remove(&number);
                    self.break_group(ctx, number, Reason::Gap)
                }
            };
        }
        match current.open(&answer.commit) {
            Ok(commit) => {
                self.wanted.reads.remove(&number);
                self.follow(ctx, number, &commit, From::Slot)
            }
            Err(_) => {
                self.wanted.reads.remove(&number);
                self.break_group(ctx, number, Reason::Fork)
            }
        }
    }

    /// A claim or a read whose connection was lost is made again with the next.
    pub(super) fn forget_requests(&mut self) {
        self.wanted.claiming.clear();
    }
}
