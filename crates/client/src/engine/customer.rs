//! A customer's beginnings: from a verified bundle to a Hello, and to the Hello that has to be said again.

use bulla_e2ee::bundle::{Bundle, BundleError};
use bulla_e2ee::conversation::Conversation as Mls;
use bulla_e2ee::hello::{Hello, HelloAgain, HelloParams, ReplyKey};
use bulla_e2ee::identity::{IdentityHash, Pseudonym};
use bulla_e2ee::link::Link;
use bulla_e2ee::recovery::RecoveryCode;
use minicbor::bytes::ByteVec;
use zeroize::Zeroizing;

use super::commands::{CommandError, clean_name};
use super::lanes::LaneId;
use super::members::Member;
use super::messages::conversation_view;
use super::outbox::Head;
use super::permits::Carrier;
use super::record::{ConversationRecord, HelloRecord, OutboxRecord, SealedRecord, Secret, SecretVec};
use super::{Ctx, Engine, LinkKey, RoleOptions, Timer, damaged};
use crate::event::{Conversation, ConversationId, ConversationState, Event, LinkCard};
use crate::store::vault::Scope;
use crate::store::{StoreError, Table};

/// Pause before an expired bundle is fetched again.
const FETCH_AGAIN_MS: u64 = 10_000;

/// Pause before a bundle that this program can do nothing with is fetched again.
const OUTDATED_AGAIN_MS: u64 = 600_000;

/// A Hello that is not answered for this long may be lost: with the customer's next message it is said anew.
const HELLO_AGAIN_MS: u64 = 600_000;

impl Engine {
    /// Begins a conversation with the business of a link whose bundle was fetched. Nothing leaves before the first message.
    pub fn begin(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        link: &Link,
        bundle: &[u8],
        begin: &Begin,
    ) -> Result<Conversation, CommandError> {
        if !matches!(self.role, RoleOptions::Customer) {
            return Err(CommandError::WrongRole);
        }
        let name = begin.name.as_deref().map(clean_name).transpose()?;
        let verified = verified(ctx, link, bundle)?;
        if verified.suites_with(self.suites).is_none() {
            return Err(CommandError::OutOfDate);
        }
        if let Some(there) = self.conversation_with(ctx, link.key())? {
            if begin.code.is_some() {
                return Err(CommandError::AlreadyHere);
            }
            let record = self.known(ctx, there)?;
            // Whose answer to this was lost asks again. A second one would be the same customer's, and the business would take it for the first one's
            // other device.
            if begin.pseudonym.is_none() && record.code.is_some() && !record.state.is_over() {
                return Ok(conversation_view(there.0, &record)?);
            }
        }
        let (pseudonym, code) = match (&begin.pseudonym, &begin.code) {
            (Some(key), _) => (Pseudonym::from_bytes(key), None),
            (None, Some(code)) => (code.pseudonym(link.key()), Some(code.clone())),
            (None, None) => {
                let code = self.own_code(ctx)?;
                (code.pseudonym(link.key()), Some(code))
            }
        };
        let number = self.next_conversation(ctx)?;
        let peer = self.endpoint.next_peer;
        self.endpoint.next_peer += 1;
        self.save_endpoint(ctx)?;
        let mailbox = self.make_mailbox(ctx, verified.relay())?;
        let mut record = ConversationRecord {
            peer,
            business: (*link.key().as_bytes()).into(),
            peer_key: (*verified.identity()).into(),
            user_id: pseudonym.user_id(link.key()).as_str().to_owned(),
            mailbox: (*mailbox.as_bytes()).into(),
            peer_name: verified.name().to_owned(),
            handle: verified.handle().to_owned(),
            readers: readers_of(&verified),
            pseudonym: Some(Secret(*pseudonym.to_bytes())),
            own_name: name,
            reference: link.reference().map(str::to_owned),
            bundle: Some(ByteVec::from(bundle.to_vec())),
            link: Some(link.bundle_url().to_owned()),
            code: code.map(|code| SecretVec(code.to_bytes().to_vec())),
            ..ConversationRecord::new()
        };
        self.own_endpoint(ctx, &mut record);
        if begin.code.is_some() {
            self.comes_back(ctx, number, &mut record)?;
        }
        self.save_conversation(ctx, number, &record)?;
        // The first message will want it; connected by then.
        self.want_link(ctx.out, LinkKey::anonymous(verified.relay()));
        let view = conversation_view(number, &record)?;
        ctx.emit(Event::Conversation(view.clone()))?;
        self.pump(ctx, number)?;
        Ok(view)
    }

    /// The pseudonym's key of a conversation: whoever has it can resume the pseudonym on another device.
    pub fn pseudonym(&self, ctx: &Ctx<'_, '_>, of: ConversationId) -> Result<Zeroizing<[u8; 32]>, CommandError> {
        let record = ctx.tx.get::<ConversationRecord>(Table::Conversations, &of.0.to_be_bytes())?;
        let record = record.ok_or(CommandError::UnknownConversation)?;
        Ok(Zeroizing::new(record.pseudonym.as_ref().ok_or(CommandError::WrongRole)?.0))
    }

    /// Turns the first intent of a new conversation into a Hello.
    pub(super) fn seal_hello(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        key: &[u8],
        mut entry: OutboxRecord,
        record: &mut ConversationRecord,
    ) -> Result<Head, StoreError> {
        let business = IdentityHash::new(*record.business);
        let now = ctx.tx.now_ms();
        let bytes = record.bundle.clone().unwrap_or_else(|| ByteVec::from(Vec::new()));
        let Ok(bundle) = Bundle::verify(&bytes, &business, now / 1000) else {
            // It expired while we were away: fetch it again, check it to the same hash.
            if let Some(url) = &record.link {
                ctx.out.fetch.push((number, url.clone()));
                let lane = LaneId::intents(number);
                self.lanes.entry(lane).or_default().waits_until = Some(now + FETCH_AGAIN_MS);
                self.timers.insert((now + FETCH_AGAIN_MS, Timer::Lane(lane)));
            }
            return Ok(Head::Wait);
        };
        let Some(suite) = self.hello_suite(ctx, number, &bundle)? else {
            self.out_of_date(ctx, number, record)?;
            return Ok(Head::Wait);
        };
        if self.link(ctx.out, &LinkKey::anonymous(bundle.relay())).is_none() {
            return Ok(Head::Wait);
        }
        let pseudonym = record.pseudonym.as_ref().map(|key| Pseudonym::from_bytes(&key.0));
        let pseudonym = pseudonym.ok_or(damaged(Table::Conversations))?;
        record.control_given = 0;
        let permits = self.give(ctx, number, record, Carrier::Message)?.ok_or(damaged(Table::Grants))?;
        let cannot = |_| damaged(Table::Mls);
        let endpoint = self.own_endpoint(ctx, record);
        let rng = &mut ctx.tx.rng();
        let begun = Mls::begin(&pseudonym, &endpoint, self.suites, &bundle, suite, now / 1000, rng);
        let (mut mls, welcome) = begun.map_err(|_| damaged(Table::Mls))?;
        record.outdated = None;
        let message = mls.seal(&entry.content.0).map_err(|_| damaged(Table::Mls))?;
        let reply_key = ReplyKey::generate(&mut ctx.tx.rng()).map_err(cannot)?;
        let says = HelloParams {
            relay: &permits.relay,
            permits: &permits.permits,
            reply_key: reply_key.public(),
            welcome: &welcome,
            message: &message,
        };
        let envelope = Hello::seal(&pseudonym, &bundle, &says).map_err(cannot)?;
        record.state = ConversationState::Greeting;
        record.hello = Some(HelloRecord {
            digest: bulla_e2ee::hello::hello_digest(&welcome).into(),
            reply_key: SecretVec(reply_key.to_bytes().to_vec()),
        });
        let mut group = self.group(ctx, number)?;
        group.unanswered = true;
        group.tries = group.tries.max(1);
        group.retry_ms = group.retry_ms.max(now + HELLO_AGAIN_MS);
        self.replace_group(ctx, number, record, &mut group, mls)?;
        if let Some(place) = entry.message {
            let out: Vec<Member> = self.members(ctx, number)?.into_iter().filter(|m| !m.is_in()).collect();
            Self::await_out(ctx, place, record.peer, &out)?;
        }
        self.save_conversation(ctx, number, record)?;
        let contact = bundle.contact();
        let sealed = SealedRecord {
            send_id: ctx.tx.random::<16>().into(),
            relay: bundle.relay().to_owned(),
            permit: ByteVec::from(contact.permit.to_bytes().to_vec()),
            mac: Secret(*contact.mac.expose()),
            envelope: ByteVec::from(envelope),
            inner: None,
            kind: None,
            wrapped: None,
        };
        entry.content = SecretVec(Vec::new());
        entry.sealed = Some(sealed.clone());
        ctx.tx.put(Table::Outbox, key, Scope::Peer(record.peer), &entry)?;
        self.tell_conversation(ctx, number)?;
        Ok(Head::Send(Box::new(sealed)))
    }

    /// A bundle that was fetched again.
    pub(super) fn fetched(&mut self, ctx: &mut Ctx<'_, '_>, number: u64, bundle: &[u8]) -> Result<(), StoreError> {
        let mut record = self.conversation_record(ctx, number)?;
        let business = IdentityHash::new(*record.business);
        if record.state != ConversationState::New {
            return Ok(());
        }
        match Bundle::verify(bundle, &business, ctx.tx.now_ms() / 1000) {
            Ok(verified) if self.hello_suite(ctx, number, &verified)?.is_some() => {}
            Ok(_) | Err(BundleError::Suite | BundleError::Newer) => return self.out_of_date(ctx, number, &mut record),
            Err(_) => return Ok(()),
        }
        record.bundle = Some(ByteVec::from(bundle.to_vec()));
        self.save_conversation(ctx, number, &record)?;
        if let Some(lane) = self.lanes.get_mut(&LaneId::intents(number)) {
            lane.waits_until = None;
        }
        self.pump(ctx, number)
    }

    /// The business no longer has the KeyPackage of our Hello and sends a fresh bundle: the Hello is made again, with all
    /// that was not delivered, under the same message ids.
    pub(super) fn hello_again(&mut self, ctx: &mut Ctx<'_, '_>, number: u64, body: &[u8]) -> Result<(), StoreError> {
        let mut record = self.conversation_record(ctx, number)?;
        let Some(hello) = record.hello.as_ref().filter(|_| record.state == ConversationState::Greeting) else {
            return Ok(());
        };
        let reply_key = ReplyKey::from_bytes(&hello.reply_key.0).map_err(|_| damaged(Table::Conversations))?;
        let business = IdentityHash::new(*record.business);
        let Ok(bundle) = HelloAgain::open(&reply_key, &hello.digest, body) else { return Ok(()) };
        let is_enough = match Bundle::verify(&bundle, &business, ctx.tx.now_ms() / 1000) {
            // Our Hello to this same bundle was refused, and there are suites in it that we do not speak: it was for that.
            Ok(verified) => {
                !(record.bundle.as_ref().is_some_and(|b| ***b == *bundle) && verified.lists_more(self.suites))
            }
            Err(BundleError::Suite | BundleError::Newer) => false,
            Err(e) => {
                tracing::warn!(error = %e, "an answer to our Hello brought a bundle of someone else: refused");
                return Ok(());
            }
        };
        record.state = ConversationState::New;
        record.hello = None;
        record.bundle = Some(ByteVec::from(bundle));
        self.forget_mls(ctx, number)?;
        self.say_undelivered_again(ctx, number, &mut record, &[])?;
        self.something_to_say(ctx, number, &mut record)?;
        self.save_conversation(ctx, number, &record)?;
        if !is_enough {
            return self.out_of_date(ctx, number, &mut record);
        }
        self.pump(ctx, number)
    }

    /// The business's bundle is of no use to this program, or would take the conversation back to a worse suite. What is written waits, the person
    /// is told, and the bundle is looked at again from time to time.
    fn out_of_date(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
    ) -> Result<(), StoreError> {
        let was = record.outdated.replace(true);
        record.bundle = None;
        self.save_conversation(ctx, number, record)?;
        let (lane, again) = (LaneId::intents(number), ctx.tx.now_ms() + OUTDATED_AGAIN_MS);
        self.lanes.entry(lane).or_default().waits_until = Some(again);
        self.timers.insert((again, Timer::Lane(lane)));
        if was == Some(true) {
            return Ok(());
        }
        tracing::warn!("no suite in common with the business: one of the programs is out of date");
        self.tell_conversation(ctx, number)
    }
}

/// What was fetched for a link, if it is the business's of that link.
fn verified(ctx: &Ctx<'_, '_>, link: &Link, bundle: &[u8]) -> Result<Bundle, CommandError> {
    let verified = Bundle::verify(bundle, link.key(), ctx.tx.now_ms() / 1000).map_err(|e| match e {
        BundleError::Suite | BundleError::Newer => CommandError::OutOfDate,
        e => CommandError::Bundle(e.to_string()),
    })?;
    if verified.handle() != link.handle() {
        return Err(CommandError::Bundle("its handle is another".into()));
    }
    Ok(verified)
}

fn readers_of(bundle: &Bundle) -> Vec<(String, String)> {
    bundle.readers().iter().map(|r| (r.name.clone(), r.role.clone())).collect()
}

/// Who a link leads to.
pub(crate) fn look(ctx: &Ctx<'_, '_>, link: &Link, bundle: &[u8]) -> Result<LinkCard, CommandError> {
    let verified = verified(ctx, link, bundle)?;
    Ok(LinkCard {
        key: *link.key(),
        handle: verified.handle().to_owned(),
        name: verified.name().to_owned(),
        readers: readers_of(&verified),
        relay_url: verified.relay().to_owned(),
    })
}

/// How a customer begins.
#[derive(Debug, Clone, Default)]
pub struct Begin {
    /// What it calls itself.
    pub name: Option<String>,
    /// A pseudonym's key from another device: the same customer.
    pub pseudonym: Option<Zeroizing<[u8; 32]>>,
    /// A recovery code: the same customer, whose history the business has. Nobody new begins with it.
    pub code: Option<RecoveryCode>,
}
