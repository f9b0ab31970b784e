//! Consent: what a customer lets a business write to it for, besides answers.
//!
//! To agree is to give a permit for that purpose, and to say so, signed. To withdraw is to revoke the grants behind such permits at the relay — which
//! refuses from then on, whatever the business's program does — and to say so. Each device of a customer gives permits to its own mailbox, so that
//! each does what one of them was told.
//!
//! A revocation is durable before anything is said, and is told to the relay at every connection until it has confirmed it; to a relay that was
//! restored from a backup, again.

use bulla_e2ee::content::{Body, Consent, Content, PermitsExtension};
use bulla_e2ee::identity::{IdentityHash, UserId};
use bulla_e2ee::tag::Purpose;
use bulla_protocol::id::{MailboxId, TagBlock};

use super::commands::{CommandError, may_speak};
use super::members::Member;
use super::messages::{Wait, conversation_view};
use super::permits::{grant_key, permit_key};
use super::record::{ConversationRecord, DecisionRecord, GrantRecord, KnockRecord, OutboxRecord, RevokedRecord};
use super::{Ctx, Engine, LinkKey, damaged};
use crate::event::{ConversationId, ConversationState, Event};
use crate::store::vault::Scope;
use crate::store::{StoreError, Table};

/// What can be agreed to.
pub(super) const PURPOSES: [Purpose; 2] = [Purpose::Notifications, Purpose::Marketing];

/// In `Meta`, by serial: [`RevokedRecord`].
const REVOKED: &[u8] = b"revoked";

fn knock_key(number: u64) -> Vec<u8> {
    [b"knock".as_slice(), &number.to_be_bytes()].concat()
}

fn revoked_key(serial: u32) -> Vec<u8> {
    [REVOKED, &serial.to_be_bytes()].concat()
}

impl Engine {
    /// The customer decides whether the business may write for a purpose. `wording` are the words that the person saw. Once answered, the relay will
    /// hear of it whatever happens here, and the business with the next connection.
    pub fn decide(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        to: ConversationId,
        purpose: Purpose,
        given: bool,
        wording: &str,
    ) -> Result<(), CommandError> {
        if self.superseded {
            return Err(CommandError::Superseded);
        }
        let mut record = self.known(ctx, to)?;
        if !record.is_customer() || !PURPOSES.contains(&purpose) {
            return Err(CommandError::WrongRole);
        }
        may_speak(&record)?;
        if record.state != ConversationState::Open {
            return Err(CommandError::NotReady);
        }
        let before = record.decision(purpose).map_or(0, |decision| decision.at_ms);
        let at_ms = ctx.tx.now_ms().max(before + 1);
        let consent = Consent { purpose, given, wording: wording.to_owned(), at_ms };
        let business = IdentityHash::new(*record.business);
        let signed = self.with_issuer(ctx, &mut record, |_, speaker| consent.sign(speaker, &business))?;
        let statement = signed.map_err(|_| CommandError::TooLong { limit: bulla_e2ee::limits::CAPTION })?;
        note(&mut record, DecisionRecord { purpose: purpose.to_wire(), given, at_ms });
        let mut content = Content::new(ctx.tx.random(), Body::Consent(statement));
        if given {
            let permit = self.give_one(ctx, to.0, &record, purpose)?;
            let relay = self.mailboxes.get(&MailboxId::new(*record.mailbox)).map(|m| m.record.relay.clone());
            content.extensions.permits = relay.map(|relay| PermitsExtension { relay, permits: vec![permit] });
        } else {
            self.revoke(ctx, to.0, purpose)?;
        }
        let bytes = self.say(ctx, &mut record, &mut content)?;
        // Under `control`, which always stands.
        self.enqueue(ctx, to.0, &mut record, &OutboxRecord::notice(bytes, Purpose::Control.to_wire(), None))?;
        self.save_conversation(ctx, to.0, &record)?;
        ctx.emit(Event::Conversation(conversation_view(to.0, &record)?))?;
        Ok(self.pump(ctx, to.0)?)
    }

    /// A business lets a customer write to it no more, or again. To block is to revoke: the relay refuses, and a new Hello of the same customer is not
    /// answered. The newest one is kept until the customer may write again, since its program believes that it has arrived.
    pub fn block(&mut self, ctx: &mut Ctx<'_, '_>, who: ConversationId, blocked: bool) -> Result<(), CommandError> {
        let mut record = self.known(ctx, who)?;
        if record.is_customer() {
            return Err(CommandError::WrongRole);
        }
        if (record.blocked == Some(true)) == blocked {
            return Ok(());
        }
        record.blocked = Some(blocked);
        record.control_given = 0;
        self.save_conversation(ctx, who.0, &record)?;
        if blocked {
            self.revoke(ctx, who.0, Purpose::Service)?;
            return Ok(self.revoke(ctx, who.0, Purpose::Control)?);
        }
        let knock = knock_key(who.0);
        if let Some(knocked) = ctx.tx.get::<KnockRecord>(Table::Meta, &knock)? {
            ctx.tx.delete(Table::Meta, &knock);
            let (mailbox, tag) = (MailboxId::new(*knocked.mailbox), TagBlock::new(*knocked.tag));
            return Ok(self.hello_received(ctx, mailbox, tag, knocked.serial, &knocked.envelope)?);
        }
        // Fresh permits go with the next receipt: at once.
        self.owe_receipts(ctx, who.0, record.peer, &[], &[], Wait::AtOnce)?;
        Ok(self.pump(ctx, who.0)?)
    }

    /// The conversation of a customer who is blocked.
    pub(super) fn blocked(&self, ctx: &Ctx<'_, '_>, user: &UserId) -> Result<Option<u64>, StoreError> {
        let Some(peer) = self.peer(ctx, user)? else { return Ok(None) };
        let record = ctx.tx.get::<ConversationRecord>(Table::Conversations, &peer.conversation.to_be_bytes())?;
        Ok(record.filter(|record| record.blocked == Some(true)).map(|_| peer.conversation))
    }

    /// Keeps the newest Hello of somebody who is blocked.
    pub(super) fn keep_knock(
        &self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        mailbox: MailboxId,
        tag: &TagBlock,
        serial: u32,
        envelope: &[u8],
    ) -> Result<(), StoreError> {
        let peer = self.conversation_record(ctx, number)?.peer;
        let knock = KnockRecord {
            mailbox: (*mailbox.as_bytes()).into(),
            tag: (*tag.as_bytes()).into(),
            serial,
            envelope: envelope.to_vec().into(),
        };
        ctx.tx.put(Table::Meta, &knock_key(number), Scope::Peer(peer), &knock)
    }

    /// A member has said that the customer decided. What does not verify changes nothing.
    pub(super) fn decided(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        member: &Member,
        statement: &[u8],
    ) -> Result<(), StoreError> {
        let business = IdentityHash::new(*record.business);
        let user: UserId = record.user_id.parse().map_err(|_| damaged(Table::Conversations))?;
        let Ok(consent) = Consent::verify(statement, &business, &user) else {
            tracing::warn!("a consent that nobody has signed who can");
            return Ok(());
        };
        let Consent { purpose, given, at_ms, .. } = consent;
        if !note(record, DecisionRecord { purpose: purpose.to_wire(), given, at_ms }) {
            // Said again, or overtaken by a newer one.
            return Ok(());
        }
        self.save_conversation(ctx, number, record)?;
        ctx.emit(Event::Conversation(conversation_view(number, record)?))?;
        if member.record.own_side {
            return self.do_likewise(ctx, number, record, purpose, given);
        }
        if !given {
            for member in self.members(ctx, number)?.iter().filter(|m| m.is_other_side()) {
                ctx.tx.delete(Table::Permits, &permit_key(number, member.number, purpose));
            }
        }
        let conversation = ConversationId(number);
        ctx.emit(Event::Consent { conversation, consent, statement: statement.to_vec() })
    }

    /// Another device of ours was told what the customer decided: this one's mailbox opens or closes too.
    fn do_likewise(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        purpose: Purpose,
        given: bool,
    ) -> Result<(), StoreError> {
        if !given {
            return self.revoke(ctx, number, purpose);
        }
        // A fresh set of permits goes with the receipt.
        record.control_given = 0;
        self.save_conversation(ctx, number, record)?;
        self.owe_receipts(ctx, number, record.peer, &[], &[], Wait::AtOnce)
    }

    /// Learns from another device of ours what was decided before this one came.
    pub(super) fn learn_decisions(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        all: &[(Purpose, bool, u64)],
    ) -> Result<bool, StoreError> {
        let mut changed = false;
        for (purpose, given, at_ms) in all.iter().filter(|(purpose, ..)| PURPOSES.contains(purpose)) {
            let decision = DecisionRecord { purpose: purpose.to_wire(), given: *given, at_ms: *at_ms };
            if note(record, decision) {
                changed = true;
                self.do_likewise(ctx, number, record, *purpose, *given)?;
            }
        }
        Ok(changed)
    }

    /// Takes back what was granted in a conversation for a purpose. The next permit for it is of another grant.
    pub(super) fn revoke(&mut self, ctx: &mut Ctx<'_, '_>, number: u64, purpose: Purpose) -> Result<(), StoreError> {
        let index = grant_key(number, purpose);
        let Some(serial) = ctx.tx.get::<u32>(Table::Meta, &index)? else { return Ok(()) };
        let Some(grant) = ctx.tx.get::<GrantRecord>(Table::Grants, &serial.to_be_bytes())? else { return Ok(()) };
        let peer = self.conversation_record(ctx, number)?.peer;
        ctx.tx.delete(Table::Meta, &index);
        ctx.tx.put(Table::Grants, &serial.to_be_bytes(), Scope::Peer(peer), &GrantRecord { revoked: true, ..grant })?;
        ctx.tx.put(Table::Meta, &revoked_key(serial), Scope::Peer(peer), &RevokedRecord { told: None })?;
        self.tell_revoked(ctx)
    }

    /// Tells relays of what was revoked and they have not confirmed.
    pub(super) fn tell_revoked(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        for (key, revoked) in ctx.tx.scan_prefix::<RevokedRecord>(Table::Meta, REVOKED)? {
            let Some(serial) = key.last_chunk::<4>().map(|serial| u32::from_be_bytes(*serial)) else { continue };
            let Some(grant) = ctx.tx.get::<GrantRecord>(Table::Grants, &serial.to_be_bytes())? else { continue };
            let mailbox = MailboxId::new(*grant.mailbox);
            let Some(held) = self.mailboxes.get(&mailbox).filter(|m| m.open && m.record.instance.is_some()) else {
                continue;
            };
            if revoked.told != held.record.instance {
                let relay = LinkKey::owner(&held.record.relay);
                self.request_revoke(ctx.out, &relay, mailbox, *grant.grant, serial);
            }
        }
        Ok(())
    }

    /// The relay has it.
    pub(super) fn revocation_confirmed(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        mailbox: MailboxId,
        serial: u32,
    ) -> Result<(), StoreError> {
        let Some(grant) = ctx.tx.get::<GrantRecord>(Table::Grants, &serial.to_be_bytes())? else { return Ok(()) };
        let told = self.mailboxes.get(&mailbox).and_then(|held| held.record.instance);
        let peer = self.conversation_record(ctx, grant.conversation)?.peer;
        ctx.tx.put(Table::Meta, &revoked_key(serial), Scope::Peer(peer), &RevokedRecord { told })
    }
}

/// Keeps a decision, if it is newer than what is known of its purpose.
fn note(record: &mut ConversationRecord, decision: DecisionRecord) -> bool {
    let all = record.consents.get_or_insert_default();
    match all.iter_mut().find(|known| known.purpose == decision.purpose) {
        Some(known) if known.at_ms >= decision.at_ms => return false,
        Some(known) => *known = decision,
        None => all.push(decision),
    }
    true
}
