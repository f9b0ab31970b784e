//! Rights to write: giving our own, keeping the other side's, choosing one to send under.

use bulla_e2ee::content::PermitsExtension;
use bulla_e2ee::envelope::EnvelopeKey;
use bulla_e2ee::permits::GivenPermit;
use bulla_e2ee::tag::{Purpose, Tag};
use bulla_protocol::id::{GrantId, MailboxId};
use bulla_protocol::permit::{Class, MacRoot, Permit};
use subtle::ConstantTimeEq as _;

use super::members::Number;
use super::record::{ConversationRecord, GrantRecord, PermitRecord, Secret, SecretVec};
use super::{Ctx, Engine, damaged};
use crate::store::vault::Scope;
use crate::store::{StoreError, Table};

/// How long a customer's `service` permit lasts: a gateway that was down for a weekend can still answer.
const SERVICE_CUSTOMER_SECS: u64 = 72 * 3600;

/// How long all other permits last. They are renewed when half of it is over.
const STANDING_SECS: u64 = 180 * 86_400;

/// What permits travel with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    /// Something that its sender said: a customer's carries a fresh `service` permit.
    Message,
    /// A receipt: it extends nobody's right to write, except that standing permits are renewed.
    Receipt,
}

/// Envelopes per minute and grant: far above what a person or a bot writes to one person, far below what hurts.
const RATE: u16 = 600;

/// Largest envelope under a `control` permit, in KiB: the Welcome of the largest group.
const CONTROL_KIB: u16 = 64;

/// Largest envelope under any other permit, in KiB.
const CONTENT_KIB: u16 = 96;

pub(super) fn grant_key(conversation: u64, purpose: Purpose) -> Vec<u8> {
    [b"grant".as_slice(), &conversation.to_be_bytes(), &[purpose.to_wire()]].concat()
}

pub(super) fn permit_key(conversation: u64, member: Number, purpose: Purpose) -> Vec<u8> {
    [conversation.to_be_bytes().as_slice(), &[member, purpose.to_wire()]].concat()
}

impl Engine {
    /// The grant of a conversation and purpose, made when first needed.
    fn grant(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
        mailbox: MailboxId,
        purpose: Purpose,
    ) -> Result<(u32, GrantRecord), StoreError> {
        let index = grant_key(number, purpose);
        if let Some(serial) = ctx.tx.get::<u32>(Table::Meta, &index)?
            && let Some(record) = ctx.tx.get::<GrantRecord>(Table::Grants, &serial.to_be_bytes())?
        {
            return Ok((serial, record));
        }
        let serial = self.endpoint.next_grant;
        self.endpoint.next_grant += 1;
        self.save_endpoint(ctx)?;
        let record = GrantRecord {
            conversation: number,
            purpose: purpose.to_wire(),
            grant: ctx.tx.random::<16>().into(),
            mailbox: (*mailbox.as_bytes()).into(),
            envelope_key: Secret(ctx.tx.random()),
            revoked: false,
        };
        ctx.tx.put(Table::Grants, &serial.to_be_bytes(), Scope::Peer(peer), &record)?;
        ctx.tx.put(Table::Meta, &index, Scope::Peer(peer), &serial)?;
        Ok((serial, record))
    }

    /// A permit for a purpose.
    pub(super) fn give_one(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &ConversationRecord,
        purpose: Purpose,
    ) -> Result<GivenPermit, StoreError> {
        let mailbox = MailboxId::new(*record.mailbox);
        let (serial, grant) = self.grant(ctx, number, record.peer, mailbox, purpose)?;
        let customer = record.is_customer();
        let lasts = if customer && purpose == Purpose::Service { SERVICE_CUSTOMER_SECS } else { STANDING_SECS };
        let permit = Permit {
            mailbox,
            grant: GrantId::new(*grant.grant),
            class: Class::Ordinary,
            expires: Permit::expiry_at(self.relay_now(ctx, mailbox) + lasts),
            rate: RATE,
            max_kib: if purpose == Purpose::Control { CONTROL_KIB } else { CONTENT_KIB },
            tag: self.tag_key.seal(&Tag { conversation: number, purpose, serial }),
        };
        let root = self.mailboxes.get(&mailbox).map(|m| MacRoot::new(m.record.root.0));
        let root = root.ok_or(damaged(Table::Mailboxes))?;
        let mac = root.grant_key(&permit.grant).mac(&permit);
        Ok(GivenPermit { purpose, permit, mac, envelope_key: Some(EnvelopeKey::from_bytes(grant.envelope_key.0)) })
    }

    /// The permits that go with the next content: a customer's `service` permit with each message, everything when half of what stands
    /// is over.
    pub(super) fn give(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        carrier: Carrier,
    ) -> Result<Option<PermitsExtension>, StoreError> {
        if record.blocked == Some(true) {
            return Ok(None);
        }
        let mailbox = MailboxId::new(*record.mailbox);
        let half = Permit::expiry_at(self.relay_now(ctx, mailbox) + STANDING_SECS / 2);
        let renew = record.control_given < half;
        let mut given = Vec::new();
        if renew || (record.is_customer() && carrier == Carrier::Message) {
            given.push(self.give_one(ctx, number, record, Purpose::Service)?);
        }
        if renew {
            for purpose in record.agreed().filter(|_| record.is_customer()).collect::<Vec<_>>() {
                given.push(self.give_one(ctx, number, record, purpose)?);
            }
            let control = self.give_one(ctx, number, record, Purpose::Control)?;
            record.control_given = control.permit.expires;
            given.push(control);
        }
        let relay = self.mailboxes.get(&mailbox).map(|m| m.record.relay.clone()).unwrap_or_default();
        Ok((!given.is_empty()).then_some(PermitsExtension { relay, permits: given }))
    }

    /// What a device that is invited needs to answer: it may write to this one, under `control`.
    pub(super) fn permits_for_invited(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &ConversationRecord,
    ) -> Result<PermitsExtension, StoreError> {
        let relay = self.mailboxes.get(&MailboxId::new(*record.mailbox)).map(|m| m.record.relay.clone());
        let permits = vec![self.give_one(ctx, number, record, Purpose::Control)?];
        Ok(PermitsExtension { relay: relay.unwrap_or_default(), permits })
    }

    /// Keeps what a member gave. Only the purposes that count in a conversation, only ordinary ones with an envelope key.
    pub(super) fn take(
        &self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
        member: Number,
        relay: &str,
        given: &[GivenPermit],
    ) -> Result<(), StoreError> {
        for one in given {
            let usable =
                one.purpose != Purpose::Contact && one.permit.class == Class::Ordinary && one.envelope_key.is_some();
            if !usable {
                continue;
            }
            let key = permit_key(number, member, one.purpose);
            if let Some(held) = ctx.tx.get::<PermitRecord>(Table::Permits, &key)?
                && held.void != Some(true)
            {
                let held = GivenPermit::decode(&held.given.0).map_err(|_| damaged(Table::Permits))?;
                if held.permit.grant == one.permit.grant && held.permit.expires >= one.permit.expires {
                    // A message that comes late brings what it was given when it was written.
                    continue;
                }
            }
            let record = PermitRecord { relay: relay.to_owned(), given: SecretVec(one.encode()), void: None };
            ctx.tx.put(Table::Permits, &key, Scope::Peer(peer), &record)?;
        }
        let all = self.members(ctx, number)?;
        if let Some(mut giver) = all.into_iter().find(|m| m.number == member && !m.record.gave) {
            giver.record.gave = true;
            Self::save_member(ctx, number, peer, &giver)?;
        }
        Ok(())
    }

    /// A member's newest permit for a purpose, if it is still valid by our clock.
    pub(super) fn choose(
        &self,
        ctx: &Ctx<'_, '_>,
        number: u64,
        member: Number,
        purpose: Purpose,
    ) -> Result<Option<(String, GivenPermit)>, StoreError> {
        let record = ctx.tx.get::<PermitRecord>(Table::Permits, &permit_key(number, member, purpose))?;
        let Some(record) = record.filter(|record| record.void != Some(true)) else { return Ok(None) };
        let given = GivenPermit::decode(&record.given.0).map_err(|_| damaged(Table::Permits))?;
        let valid = given.permit.is_valid_at(ctx.tx.now_ms() / 1000);
        Ok(valid.then_some((record.relay, given)))
    }

    /// The relay of the first endpoint of the other side that can be written to for a purpose now.
    pub(super) fn choose_other_side(
        &self,
        ctx: &Ctx<'_, '_>,
        number: u64,
        purpose: Purpose,
    ) -> Result<Option<String>, StoreError> {
        for member in self.members(ctx, number)?.iter().filter(|m| m.is_in() && m.is_other_side()) {
            if let Some((relay, _)) = self.choose(ctx, number, member.number, purpose)? {
                return Ok(Some(relay));
            }
        }
        Ok(None)
    }

    /// Whether there is a permit for a purpose at all, valid or over.
    pub(super) fn has_permit(
        &self,
        ctx: &Ctx<'_, '_>,
        number: u64,
        member: Number,
        purpose: Purpose,
    ) -> Result<bool, StoreError> {
        let record = ctx.tx.get::<PermitRecord>(Table::Permits, &permit_key(number, member, purpose))?;
        Ok(record.is_some_and(|record| record.void != Some(true)))
    }

    /// Whether somebody gives a permit of the same grant as a member's that is held. Whoever else has its invitation has its key too, and the
    /// relay knows its grant; but the grant's envelope key only the endpoint that came in, and those to whom it gave permits.
    pub(super) fn is_its_grant(
        ctx: &Ctx<'_, '_>,
        number: u64,
        member: Number,
        given: &[GivenPermit],
    ) -> Result<bool, StoreError> {
        let key = permit_key(number, member, Purpose::Control);
        let Some(record) = ctx.tx.get::<PermitRecord>(Table::Permits, &key)? else { return Ok(false) };
        let held = GivenPermit::decode(&record.given.0).map_err(|_| damaged(Table::Permits))?;
        let same_key = |one: &GivenPermit| match (&one.envelope_key, &held.envelope_key) {
            (Some(one), Some(held)) => bool::from(one.expose().ct_eq(held.expose())),
            _ => false,
        };
        let same = |one: &GivenPermit| {
            one.permit.grant == held.permit.grant && one.permit.mailbox == held.permit.mailbox && same_key(one)
        };
        Ok(given.iter().any(|one| one.purpose == Purpose::Control && same(one)))
    }

    /// Notes that the relay refused a permit, unless a newer one has taken its place.
    pub(super) fn drop_permit(
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
        member: Number,
        purpose: Purpose,
        refused: &[u8],
    ) -> Result<(), StoreError> {
        let key = permit_key(number, member, purpose);
        if let Some(record) = ctx.tx.get::<PermitRecord>(Table::Permits, &key)?
            && GivenPermit::decode(&record.given.0).is_ok_and(|g| g.permit.to_bytes() == refused)
        {
            let void = PermitRecord { void: Some(true), ..record };
            ctx.tx.put(Table::Permits, &key, Scope::Peer(peer), &void)?;
        }
        Ok(())
    }

    /// A permit that was refused may count again.
    pub(super) fn try_permit_again(
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
        member: Number,
        purpose: Purpose,
    ) -> Result<(), StoreError> {
        let key = permit_key(number, member, purpose);
        if let Some(record) = ctx.tx.get::<PermitRecord>(Table::Permits, &key)?.filter(|r| r.void == Some(true)) {
            ctx.tx.put(Table::Permits, &key, Scope::Peer(peer), &PermitRecord { void: None, ..record })?;
        }
        Ok(())
    }

    /// The grant that a tag names, if it is one of ours for this mailbox and stands.
    pub(super) fn grant_of_tag(
        &self,
        ctx: &Ctx<'_, '_>,
        mailbox: MailboxId,
        tag: &Tag,
    ) -> Result<Option<GrantRecord>, StoreError> {
        let record = ctx.tx.get::<GrantRecord>(Table::Grants, &tag.serial.to_be_bytes())?;
        Ok(record.filter(|grant| {
            grant.conversation == tag.conversation
                && grant.purpose == tag.purpose.to_wire()
                && *grant.mailbox == *mailbox.as_bytes()
                && !grant.revoked
        }))
    }
}
