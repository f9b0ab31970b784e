//! A customer's further devices: inviting one, coming in on an invitation, removing one.

use bulla_e2ee::certificate::{Expect, Role, endpoint_name};
use bulla_e2ee::conversation::{Change, Sender};
use bulla_e2ee::device::{Device, DeviceError, Invitation, Join};
use bulla_e2ee::envelope::Kind;
use bulla_e2ee::identity::{IdentityHash, Pseudonym};
use bulla_e2ee::spare::Spare;
use bulla_e2ee::suite::Suite;
use bulla_e2ee::tag::Purpose;
use zeroize::Zeroizing;

use super::commands::CommandError;
use super::group::continues_intent;
use super::lanes::LaneId;
use super::members::Member;
use super::messages::conversation_view;
use super::permits::Carrier;
use super::record::{ConversationRecord, GroupRecord, InvitationRecord, MemberRecord, OutboxRecord, SecretVec};
use super::suites::suite_of;
use super::{Ctx, Engine, RoleOptions, damaged};
use crate::event::{Conversation, ConversationId, ConversationState, Event, OwnDevice};
use crate::store::vault::Scope;
use crate::store::{StoreError, Table};

/// How long an invitation is good for.
const INVITED_MS: u64 = 24 * 3_600_000;

/// Invitations that can be open at once in a conversation.
const INVITATIONS: usize = 8;

/// What the next commit of a conversation is to change.
#[derive(Debug, Default)]
pub(super) struct Changes {
    add: Vec<Spare>,
    remove: Vec<String>,
}

impl Changes {
    pub(super) fn is_nothing(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }
}

fn invitation_key(conversation: u64, endpoint: &str) -> Vec<u8> {
    [conversation.to_be_bytes().as_slice(), endpoint.as_bytes()].concat()
}

impl Engine {
    /// This device's name in a conversation; made when first needed.
    pub(super) fn own_endpoint(&self, ctx: &Ctx<'_, '_>, record: &mut ConversationRecord) -> String {
        record.endpoint.get_or_insert_with(|| endpoint_name(&mut ctx.tx.rng())).clone()
    }

    /// What a linked device is.
    pub(super) fn device(record: &ConversationRecord) -> Result<Option<Device>, StoreError> {
        let stored = record.device.as_ref().map(|bytes| Device::from_bytes(&bytes.0));
        stored.transpose().map_err(|_| damaged(Table::Conversations))
    }

    /// Invites another device of this customer into a conversation. What comes back is secret: whoever has it within a day is that
    /// device, and is seen by all others.
    pub fn invite(&mut self, ctx: &mut Ctx<'_, '_>, to: ConversationId) -> Result<Zeroizing<Vec<u8>>, CommandError> {
        let mut record = self.known(ctx, to)?;
        let Some(pseudonym) = record.pseudonym.as_ref().map(|key| Pseudonym::from_bytes(&key.0)) else {
            return Err(CommandError::WrongRole);
        };
        if record.state != ConversationState::Open {
            return Err(CommandError::NotReady);
        }
        let now = ctx.tx.now_ms();
        let open = ctx.tx.scan_prefix::<InvitationRecord>(Table::Invitations, &to.0.to_be_bytes())?;
        let mut standing = open.len();
        for (key, _) in open.iter().filter(|(_, invited)| invited.until_ms <= now) {
            ctx.tx.delete(Table::Invitations, key);
            standing -= 1;
        }
        let members = self.members(ctx, to.0)?.into_iter().filter(|m| !m.is_gone()).count();
        if standing >= INVITATIONS || members + standing + 1 >= bulla_e2ee::limits::MEMBERS {
            return Err(CommandError::TooManyDevices);
        }
        let business = IdentityHash::new(*record.business);
        let device = Device::issue(&pseudonym, &business, self.suites, now / 1000, &mut ctx.tx.rng())
            .map_err(|_| damaged(Table::Conversations))?;
        let permits = self.permits_for_invited(ctx, to.0, &record)?;
        let invitation = Invitation {
            device,
            business_key: *record.peer_key,
            handle: record.handle.clone(),
            name: record.peer_name.clone(),
            inviter: self.own_endpoint(ctx, &mut record),
            relay: permits.relay,
            permits: permits.permits,
            suite: Some(suite_of(&self.group(ctx, to.0)?).code()),
        };
        let key = invitation_key(to.0, invitation.device.certificate().endpoint());
        let invited = InvitationRecord { until_ms: now + INVITED_MS };
        ctx.tx.put(Table::Invitations, &key, Scope::Peer(record.peer), &invited)?;
        self.save_conversation(ctx, to.0, &record)?;
        Ok(invitation.encode())
    }

    /// Comes into a conversation as another device of its customer. Everything said from then on is here too.
    pub fn accept_invitation(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        invitation: &[u8],
    ) -> Result<Conversation, CommandError> {
        if !matches!(self.role, RoleOptions::Customer) {
            return Err(CommandError::WrongRole);
        }
        let invited = Invitation::decode(invitation).map_err(|e| match e {
            DeviceError::Newer => CommandError::OutOfDate,
            e => CommandError::Invitation(e.to_string()),
        })?;
        // Without a suite in it, it was made when there was one.
        let suite = invited.suite.map_or(Some(Suite::Hybrid), Suite::of_code).filter(|suite| self.suites.has(*suite));
        let suite = suite.ok_or(CommandError::OutOfDate)?;
        let certificate = invited.device.certificate();
        if self.conversation_with(ctx, certificate.business())?.is_some() {
            return Err(CommandError::Invitation("this device has a conversation with that business already".into()));
        }
        let user = certificate.user_id().ok_or(CommandError::WrongRole)?;
        let number = self.next_conversation(ctx)?;
        let peer = self.endpoint.next_peer;
        self.endpoint.next_peer += 1;
        self.save_endpoint(ctx)?;
        let mailbox = self.make_mailbox(ctx, &invited.relay)?;
        let mut record = ConversationRecord {
            peer,
            state: ConversationState::Greeting,
            business: (*certificate.business().as_bytes()).into(),
            peer_key: invited.business_key.into(),
            user_id: user.as_str().to_owned(),
            mailbox: (*mailbox.as_bytes()).into(),
            peer_name: invited.name.clone(),
            handle: invited.handle.clone(),
            name_told: true,
            endpoint: Some(certificate.endpoint().to_owned()),
            device: Some(SecretVec(invited.device.to_bytes().to_vec())),
            ..ConversationRecord::new()
        };
        self.save_conversation(ctx, number, &record)?;
        let inviter = MemberRecord { out: true, ..MemberRecord::new(true, invited.inviter) };
        let inviter = self.new_member(ctx, number, peer, inviter)?;
        self.take(ctx, number, peer, inviter.number, &invited.relay, &invited.permits)?;
        let spares = self.spares_to_join(ctx, number, &mut record, Some(suite))?;
        let (spare, more) = spares.split_first().ok_or(damaged(Table::Spares))?;
        let permits = self.give(ctx, number, &mut record, Carrier::Receipt)?.ok_or(damaged(Table::Grants))?;
        let body = Join::seal(&invited.device, &permits, spare, more);
        let copy = OutboxRecord::body(Kind::Join as u8, body, Purpose::Control.to_wire());
        self.enqueue_copy(ctx, LaneId { conversation: number, member: inviter.number }, peer, &copy)?;
        self.save_conversation(ctx, number, &record)?;
        self.wait_to_come_in(ctx, number, peer)?;
        let view = conversation_view(number, &record)?;
        ctx.emit(Event::Conversation(view.clone()))?;
        self.pump(ctx, number)?;
        Ok(view)
    }

    /// An invited device asks to be let in, or one that is known here asks to be taken along again.
    pub(super) fn join_received(&mut self, ctx: &mut Ctx<'_, '_>, number: u64, body: &[u8]) -> Result<(), StoreError> {
        let record = self.conversation_record(ctx, number)?;
        let expect = Expect::customer(IdentityHash::new(*record.business), Self::customer_key(&record)?);
        let now = ctx.tx.now_ms();
        let join = match Join::open(body, &expect, now / 1000) {
            Ok(join) => join,
            Err(DeviceError::Newer) => return Self::keep_newer(ctx, number, body),
            Err(why) => {
                tracing::warn!(error = %why, "somebody who is no device of ours asks to be let in: refused");
                return Ok(());
            }
        };
        let endpoint = join.endpoint().to_owned();
        let who = Sender { role: Role::Customer, identity: Self::customer_key(&record)?, endpoint: endpoint.clone() };
        if let Some(known) = self.member_of(ctx, number, &who)? {
            let is_it = Self::is_its_grant(ctx, number, known.number, &join.permits.permits)?;
            if known.record.leaving || !is_it {
                tracing::warn!(
                    "somebody comes on an invitation that was used, or as a device that was removed: refused"
                );
                return Ok(());
            }
            return self.take_along(ctx, number, &record, &known, &join);
        }
        if record.pseudonym.is_none() {
            return Ok(());
        }
        let key = invitation_key(number, &endpoint);
        let Some(invited) = ctx.tx.get::<InvitationRecord>(Table::Invitations, &key)? else { return Ok(()) };
        ctx.tx.delete(Table::Invitations, &key);
        if invited.until_ms <= now {
            tracing::warn!("a device comes on an invitation that is over: refused");
            return Ok(());
        }
        let member = MemberRecord { out: true, ..MemberRecord::new(true, endpoint) };
        let member = self.new_member(ctx, number, record.peer, member)?;
        self.take_along(ctx, number, &record, &member, &join)
    }

    /// Keeps what a device gave to be let in: with the next commit it comes in, or with the next group.
    fn take_along(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &ConversationRecord,
        member: &Member,
        join: &Join,
    ) -> Result<(), StoreError> {
        self.take(ctx, number, record.peer, member.number, &join.permits.relay, &join.permits.permits)?;
        let suite = suite_of(&self.group(ctx, number)?);
        let fits = join.spares.iter().find(|(spare, _)| spare.suite() == suite).or(join.spares.first());
        let known = self.members(ctx, number)?.into_iter().find(|m| m.number == member.number);
        if let (Some((spare, bytes)), Some(known)) = (fits, known)
            && Self::note_spoken(ctx, number, record.peer, &known, spare)?
        {
            Self::put_spare(ctx, number, record.peer, member.number, bytes)?;
        }
        let suites: Vec<Suite> = join.spares.iter().map(|(spare, _)| spare.suite()).collect();
        tracing::debug!(
            conversation = number,
            endpoint = join.endpoint(),
            ?suites,
            is_in = member.is_in(),
            "a device asks to be taken along"
        );
        if member.is_in() {
            self.say_awaited_to(ctx, number, record.peer, member.number, false)?;
        } else if member.is_other_side() {
            self.introduce_left_out(ctx, number, true)?;
        }
        if !self.changes(ctx, number)?.is_nothing() {
            self.wanted.commits.insert(number);
        }
        self.commit(ctx, number)
    }

    /// Our devices that the group lacks, and that left no spare of its suite, are told so: each gives what it can be let in with. It may not have
    /// heard of the group that it is not in.
    pub(super) fn tell_left_out(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        let mut record = self.conversation_record(ctx, number)?;
        let group = self.group(ctx, number)?;
        for member in self.members(ctx, number)?.iter().filter(|m| m.record.own_side && !m.is_in()) {
            if member.record.leaving || self.fits(ctx, number, &record, member)?.is_some() {
                continue;
            }
            tracing::debug!(conversation = number, endpoint = member.record.endpoint, "a device of ours is left out");
            let body = self.says_joined(ctx, &mut record, &group, &[])?;
            let lane = LaneId { conversation: number, member: member.number };
            self.enqueue_copy(ctx, lane, record.peer, &continues_intent(body))?;
        }
        self.save_conversation(ctx, number, &record)
    }

    /// The others are in a group without this device, and ask for what it can be let in with.
    pub(super) fn ask_to_come_in(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        group: &mut GroupRecord,
    ) -> Result<(), StoreError> {
        if let Some(join) = self.with_fresh_spare(ctx, number, record, group)? {
            self.enqueue_first(ctx, number, record.peer, &join)?;
        }
        self.save_group(ctx, number, record.peer, group)?;
        self.save_conversation(ctx, number, record)?;
        self.pump(ctx, number)
    }

    /// A member's spare with which it can be let into the group.
    fn fits(
        &self,
        ctx: &Ctx<'_, '_>,
        number: u64,
        record: &ConversationRecord,
        member: &Member,
    ) -> Result<Option<Spare>, StoreError> {
        let suite = suite_of(&self.group(ctx, number)?);
        Ok(self.verified_spare(ctx, number, record, member)?.filter(|spare| spare.suite() == suite))
    }

    /// What the next commit is to change: own devices that the group lacks come in, those that are to go are removed.
    pub(super) fn changes(&mut self, ctx: &Ctx<'_, '_>, number: u64) -> Result<Changes, StoreError> {
        let members: Vec<Member> = self
            .members(ctx, number)?
            .into_iter()
            .filter(|m| m.record.own_side && (m.record.out || m.record.leaving))
            .collect();
        let mut changes = Changes::default();
        if members.is_empty() {
            return Ok(changes);
        }
        let record = self.conversation_record(ctx, number)?;
        for member in members {
            if member.record.leaving {
                changes.remove.extend(member.is_in().then_some(member.record.endpoint));
            } else {
                changes.add.extend(self.fits(ctx, number, &record, &member)?);
            }
        }
        Ok(changes)
    }

    /// Stages the commit that makes the changes: removals first, alone.
    pub(super) fn stage_changes(
        &mut self,
        ctx: &Ctx<'_, '_>,
        number: u64,
        changes: &Changes,
    ) -> Result<Result<bulla_e2ee::conversation::Staged, bulla_e2ee::conversation::CommitError>, StoreError> {
        let (now, role) = (ctx.tx.now_ms() / 1000, self.own_role());
        let mls = self.mls(ctx, number)?;
        let is_leaving = |m: &bulla_e2ee::conversation::Member| {
            m.who.role == role && !m.own && changes.remove.contains(&m.who.endpoint)
        };
        let leaves: Vec<u32> = mls.members().into_iter().filter(is_leaving).map(|m| m.leaf).collect();
        let change = match (&leaves[..], &changes.add[..]) {
            ([], []) => Change::Keys,
            ([], add) => Change::Add(add),
            (leaves, _) => Change::Remove(leaves),
        };
        Ok(mls.stage(&change, now))
    }

    /// The devices of this customer in a conversation, this one first.
    pub fn devices(&mut self, ctx: &mut Ctx<'_, '_>, of: ConversationId) -> Result<Vec<OwnDevice>, CommandError> {
        let record = self.known(ctx, of)?;
        if !record.is_customer() {
            return Err(CommandError::WrongRole);
        }
        let this = OwnDevice { name: record.endpoint.unwrap_or_default(), this: true, is_in: true };
        let others = self.members(ctx, of.0)?.into_iter().filter(|m| m.record.own_side && !m.record.leaving);
        let others = others.map(|m| OwnDevice { is_in: m.is_in(), name: m.record.endpoint, this: false });
        Ok(std::iter::once(this).chain(others).collect())
    }

    /// Removes a device of this customer: from the next epoch on it reads nothing.
    pub fn remove_device(&mut self, ctx: &mut Ctx<'_, '_>, of: ConversationId, name: &str) -> Result<(), CommandError> {
        let record = self.known(ctx, of)?;
        let members = self.members(ctx, of.0)?;
        let mut member = members
            .into_iter()
            .find(|m| m.record.own_side && m.record.endpoint == name)
            .ok_or(CommandError::UnknownDevice)?;
        if member.record.out {
            return Ok(Self::bury_member(ctx, of.0, record.peer, &member)?);
        }
        member.record.leaving = true;
        Self::save_member(ctx, of.0, record.peer, &member)?;
        self.wanted.commits.insert(of.0);
        Ok(self.commit(ctx, of.0)?)
    }
}
