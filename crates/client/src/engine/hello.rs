//! How conversations begin: bundles and Hellos, on both sides.

use bulla_e2ee::bundle::{Bundle, BundleParams, BusinessKeys, make_bundle};
use bulla_e2ee::content::{Content, Reader};
use bulla_e2ee::conversation::{Conversation as Mls, JoinError, OpenError, SealError};
use bulla_e2ee::envelope::Kind;
use bulla_e2ee::hello::{Hello, HelloAgain, HelloParams, ReplyKey};
use bulla_e2ee::identity::{BusinessIdentity, IdentityHash, Pseudonym, UserId};
use bulla_e2ee::link::Link;
use bulla_e2ee::permits::GivenPermit;
use bulla_e2ee::state::State;
use bulla_e2ee::tag::{Purpose, Tag};
use bulla_protocol::id::{GrantId, MailboxId, TagBlock};
use bulla_protocol::limits;
use bulla_protocol::permit::{Class, MacRoot, Permit};
use minicbor::bytes::ByteVec;
use zeroize::Zeroizing;

use super::commands::{CommandError, clean_name};
use super::messages::{Wait, conversation_view};
use super::outbox::{Head, Lane, wrap};
use super::permits::Carrier;
use super::record::{
    BundleRecord, ConversationRecord, HelloRecord, MessageRecord, OutboxRecord, PeerRecord, Place, SealedRecord,
    Secret, SecretVec,
};
use super::{Ctx, Engine, LOADED_CONVERSATIONS, LinkKey, RoleOptions, Timer};
use crate::event::{Conversation, ConversationId, ConversationState, Direction, Event, Status};
use crate::store::vault::Scope;
use crate::store::{StoreError, Table};

const DAY_MS: u64 = 86_400_000;

/// A bundle is renewed when it is this old: its KeyPackage's and seal key's forward secrecy is as good as this.
const BUNDLE_RENEWED_MS: u64 = DAY_MS;

/// A replaced bundle's KeyPackage is kept for this long: customers who fetched it last week are answered with a fresh one.
const KEY_PACKAGE_KEPT_MS: u64 = 4 * DAY_MS;

/// A replaced bundle's seal key is kept as long as a Hello to it can arrive: its validity and the relay's 30 days.
const SEAL_KEY_KEPT_MS: u64 = 46 * DAY_MS;

/// Pause before an expired bundle is fetched again.
const FETCH_AGAIN_MS: u64 = 10_000;

/// Contact envelopes per minute that the contact permit allows; the relay's own limit for the class applies besides.
const CONTACT_RATE: u16 = 600;

fn damaged(table: Table) -> StoreError {
    StoreError::Format { table }
}

// ---------------------------------------------------------------- business

impl Engine {
    pub(super) fn start_business(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        let RoleOptions::Business(options) = self.role.clone() else { return Ok(()) };
        if self.endpoint.identity.is_none() {
            self.endpoint.identity = Some(Secret(*BusinessIdentity::generate(&mut ctx.tx.rng()).to_bytes()));
            self.endpoint.contact_grant = Some(ctx.tx.random::<16>().into());
            self.make_mailbox(ctx, &options.relay_url)?;
        }
        // The relay may have moved: same mailbox, new address.
        for (key, mut mailbox) in ctx.tx.scan_prefix::<super::record::MailboxRecord>(Table::Mailboxes, b"")? {
            if mailbox.relay != options.relay_url {
                mailbox.relay.clone_from(&options.relay_url);
                ctx.tx.put(Table::Mailboxes, &key, Scope::Endpoint, &mailbox)?;
            }
        }
        Ok(())
    }

    pub(super) fn identity(&self) -> Result<BusinessIdentity, StoreError> {
        let key = self.endpoint.identity.as_ref().ok_or(damaged(Table::Meta))?;
        Ok(BusinessIdentity::from_bytes(&key.0))
    }

    pub(super) fn own_readers(&self) -> Option<Vec<Reader>> {
        let RoleOptions::Business(options) = &self.role else { return None };
        let reader = |(name, role): &(String, String)| Reader { name: name.clone(), role: role.clone() };
        Some(options.readers.iter().map(reader).collect())
    }

    pub(super) fn current_bundle(&self, ctx: &Ctx<'_, '_>) -> Result<Option<BundleRecord>, StoreError> {
        ctx.tx.get(Table::BundleKeys, &self.endpoint.bundle.to_be_bytes())
    }

    /// Makes a new bundle if the current one is a day old, publishes it, and erases old keys.
    pub(super) fn renew_bundle(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        let RoleOptions::Business(options) = self.role.clone() else { return Ok(()) };
        let Some(mailbox) = self.mailboxes.keys().next().copied() else { return Ok(()) };
        if !self.holds(mailbox) {
            // Not before the relay has told its time, in which permits are minted.
            return Ok(());
        }
        let now = ctx.tx.now_ms();
        let current = self.current_bundle(ctx)?;
        let fresh = current.as_ref().is_some_and(|b| now < b.made_ms.saturating_add(BUNDLE_RENEWED_MS));
        if !fresh {
            self.endpoint.bundle += 1;
            self.save_endpoint(ctx)?;
            let serial = self.endpoint.bundle;
            let contact = self.contact_permit(ctx, mailbox, serial)?;
            let params = BundleParams {
                handle: options.handle,
                name: options.name,
                relay: options.relay_url,
                mailbox,
                contact,
                readers: self.own_readers().unwrap_or_default(),
                endpoint: "gateway".into(),
                now: now / 1000,
            };
            let identity = self.identity()?;
            let (bundle, keys) = make_bundle(&identity, &params, &mut ctx.tx.rng()).map_err(|e| {
                tracing::error!(error = %e, "no contact bundle can be made: check handle, name and relay URL");
                damaged(Table::BundleKeys)
            })?;
            let record = BundleRecord {
                bundle: ByteVec::from(bundle),
                keys: SecretVec(keys.to_bytes().to_vec()),
                made_ms: now,
                published: false,
            };
            ctx.tx.put(Table::BundleKeys, &serial.to_be_bytes(), Scope::Endpoint, &record)?;
            self.erase_old_keys(ctx)?;
        }
        let Some(current) = self.current_bundle(ctx)? else { return Ok(()) };
        if !current.published {
            self.request_bundle(ctx.out, mailbox, current.bundle.to_vec(), self.endpoint.bundle);
        }
        Ok(())
    }

    fn contact_permit(&self, ctx: &Ctx<'_, '_>, mailbox: MailboxId, serial: u32) -> Result<GivenPermit, StoreError> {
        let grant = self.endpoint.contact_grant.ok_or(damaged(Table::Meta))?;
        let root = self.mailboxes.get(&mailbox).ok_or(damaged(Table::Mailboxes))?;
        let permit = Permit {
            mailbox,
            grant: GrantId::new(*grant),
            class: Class::Contact,
            expires: Permit::expiry_at(self.relay_now(ctx, mailbox) + bulla_e2ee::limits::BUNDLE_SECS),
            rate: CONTACT_RATE,
            max_kib: u16::try_from(limits::MAX_CONTACT_ENVELOPE / 1024).unwrap_or(u16::MAX),
            tag: self.tag_key.seal(&Tag { conversation: 0, purpose: Purpose::Contact, serial }),
        };
        let mac = MacRoot::new(root.record.root.0).grant_key(&permit.grant).mac(&permit);
        Ok(GivenPermit { purpose: Purpose::Contact, permit, mac, envelope_key: None })
    }

    fn erase_old_keys(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        let now = ctx.tx.now_ms();
        for (key, mut old) in ctx.tx.scan_prefix::<BundleRecord>(Table::BundleKeys, b"")? {
            if now >= old.made_ms.saturating_add(SEAL_KEY_KEPT_MS) {
                ctx.tx.delete(Table::BundleKeys, &key);
            } else if now >= old.made_ms.saturating_add(KEY_PACKAGE_KEPT_MS) {
                let mut keys = BusinessKeys::from_bytes(&old.keys.0).map_err(|_| damaged(Table::BundleKeys))?;
                if keys.has_key_package() {
                    keys.erase_key_package();
                    old.keys = SecretVec(keys.to_bytes().to_vec());
                    ctx.tx.put(Table::BundleKeys, &key, Scope::Endpoint, &old)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn bundle_published(&mut self, ctx: &mut Ctx<'_, '_>, serial: u32) -> Result<(), StoreError> {
        let key = serial.to_be_bytes();
        let Some(mut record) = ctx.tx.get::<BundleRecord>(Table::BundleKeys, &key)? else { return Ok(()) };
        record.published = true;
        ctx.tx.put(Table::BundleKeys, &key, Scope::Endpoint, &record)
    }

    /// Publishes again at the next opportunity: a relay restored from a backup has an old one.
    pub(super) fn unpublish(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        let Some(mut record) = self.current_bundle(ctx)? else { return Ok(()) };
        record.published = false;
        ctx.tx.put(Table::BundleKeys, &self.endpoint.bundle.to_be_bytes(), Scope::Endpoint, &record)
    }

    /// Somebody says Hello. What cannot be opened is dropped, not kept: anybody may write here.
    pub(super) fn hello_received(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        mailbox: MailboxId,
        tag: TagBlock,
        serial: u32,
        envelope: &[u8],
    ) -> Result<(), StoreError> {
        if !matches!(self.role, RoleOptions::Business(_)) {
            return Ok(());
        }
        let Some(held) = ctx.tx.get::<BundleRecord>(Table::BundleKeys, &serial.to_be_bytes())? else {
            tracing::warn!("a Hello to a bundle whose keys are gone: dropped");
            return Ok(());
        };
        let keys = BusinessKeys::from_bytes(&held.keys.0).map_err(|_| damaged(Table::BundleKeys))?;
        let business = self.identity()?.hash();
        let Ok(hello) = Hello::open(&keys, &business, &mailbox, &tag, envelope) else {
            tracing::warn!("a Hello that is none: dropped");
            return Ok(());
        };
        let now = ctx.tx.now_ms();
        if ctx.tx.get::<u64>(Table::Hellos, &hello.digest())?.is_some() {
            return Ok(());
        }
        let joined = Mls::join(&keys, &business, &hello, now / 1000);
        ctx.tx.put(Table::Hellos, &hello.digest(), Scope::Endpoint, &now)?;
        match joined {
            Ok(mls) => self.joined(ctx, mailbox, &business, &hello, mls),
            Err(JoinError::NoKeyPackage) => self.say_again(ctx, &hello),
            Err(e) => {
                tracing::warn!(error = %e, "a Hello whose group is not in order: dropped");
                Ok(())
            }
        }
    }

    fn joined(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        mailbox: MailboxId,
        business: &IdentityHash,
        hello: &Hello,
        mut mls: Mls,
    ) -> Result<(), StoreError> {
        let user = hello.user_id(business);
        let number = self.next_conversation(ctx)?;
        // A known pseudonym is the same customer on a new device.
        let peer = match self.peer(ctx, &user)? {
            Some(known) => PeerRecord { conversation: number, ..known },
            None => {
                let scope = self.endpoint.next_peer;
                self.endpoint.next_peer += 1;
                self.save_endpoint(ctx)?;
                PeerRecord { scope, conversation: number, name: guest(&user) }
            }
        };
        let opened = mls.open(hello.message());
        let mut record = ConversationRecord {
            peer: peer.scope,
            state: ConversationState::Open,
            business: (*business.as_bytes()).into(),
            peer_key: (*hello.pseudonym()).into(),
            user_id: user.as_str().to_owned(),
            mailbox: (*mailbox.as_bytes()).into(),
            peer_name: peer.name.clone(),
            ..ConversationRecord::new()
        };
        self.save_peer(ctx, &user, &peer)?;
        Self::take(ctx, number, peer.scope, hello.relay(), hello.permits())?;
        self.save_mls(ctx, number, peer.scope, &mls)?;
        self.keep_loaded(number, mls);
        self.save_conversation(ctx, number, &record)?;
        // Said at once, so that the customer can go on: it carries the permits.
        self.owe_receipts(ctx, number, peer.scope, &[], &[], Wait::AtOnce)?;
        match opened.map(|o| Content::decode(&o.content).map(|content| (content, o.content))) {
            Ok(Ok((content, bytes))) => {
                if let Some(name) = &content.extensions.name {
                    self.rename(ctx, &mut record, name)?;
                }
                ctx.emit(Event::Conversation(conversation_view(number, &record)?))?;
                self.heard(ctx, number, &mut record, Purpose::Service, &bytes, &content)
            }
            _ => {
                ctx.emit(Event::Conversation(conversation_view(number, &record)?))?;
                Self::keep_unreadable(ctx, Some(number), "the first message does not open", hello.message())?;
                self.pump(ctx, number)
            }
        }
    }

    /// Answers a Hello whose KeyPackage is gone with the current bundle, under the permit that it brought.
    fn say_again(&mut self, ctx: &mut Ctx<'_, '_>, hello: &Hello) -> Result<(), StoreError> {
        let Some(current) = self.current_bundle(ctx)? else { return Ok(()) };
        let control = hello.permits().iter().find(|p| p.purpose == Purpose::Control);
        let (Some(control), Ok(body)) = (control, hello.say_again(&current.bundle)) else { return Ok(()) };
        let Some(sealed) = wrap(ctx, hello.relay(), control, Kind::HelloAgain, &body) else { return Ok(()) };
        // A lane of its own, under a number that no conversation has.
        let lane = self.next_conversation(ctx)?;
        let entry = OutboxRecord {
            message: None,
            content: SecretVec(Vec::new()),
            purpose: Purpose::Control.to_wire(),
            until_ms: None,
            sealed: Some(sealed),
        };
        let key = [lane.to_be_bytes(), 0_u64.to_be_bytes()].concat();
        ctx.tx.put(Table::Outbox, &key, Scope::Endpoint, &entry)?;
        self.lanes.entry(lane).or_default();
        self.pump(ctx, lane)
    }

    pub(super) fn peer(&self, ctx: &Ctx<'_, '_>, user: &UserId) -> Result<Option<PeerRecord>, StoreError> {
        ctx.tx.get(Table::Peers, &ctx.tx.blind("user", user.as_str().as_bytes()))
    }

    fn save_peer(&self, ctx: &mut Ctx<'_, '_>, user: &UserId, peer: &PeerRecord) -> Result<(), StoreError> {
        let key = ctx.tx.blind("user", user.as_str().as_bytes());
        ctx.tx.put(Table::Peers, &key, Scope::Peer(peer.scope), peer)
    }

    /// A customer calls itself something else, in this conversation and the next.
    pub(super) fn rename(
        &self,
        ctx: &mut Ctx<'_, '_>,
        record: &mut ConversationRecord,
        name: &str,
    ) -> Result<(), StoreError> {
        name.clone_into(&mut record.peer_name);
        let user = record.user_id.parse().map_err(|_| damaged(Table::Conversations))?;
        match self.peer(ctx, &user)? {
            Some(peer) => self.save_peer(ctx, &user, &PeerRecord { name: name.to_owned(), ..peer }),
            None => Ok(()),
        }
    }

    fn next_conversation(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<u64, StoreError> {
        let number = self.endpoint.next_conversation;
        self.endpoint.next_conversation += 1;
        self.save_endpoint(ctx)?;
        Ok(number)
    }
}

/// What a customer without a name is called: *Guest* and four letters of its id.
fn guest(user: &UserId) -> String {
    const LETTERS: &[u8; 24] = b"ABCDEFGHJKLMNPQRSTUVWXYZ";
    let letter = |b: u8| LETTERS.get(usize::from(b) % LETTERS.len()).copied().map_or('X', char::from);
    let letters: String = user.as_str().bytes().skip(3).take(4).map(letter).collect();
    format!("Guest {letters}")
}

// ---------------------------------------------------------------- customer

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
        let verified = Bundle::verify(bundle, link.key(), ctx.tx.now_ms() / 1000)
            .map_err(|e| CommandError::Bundle(e.to_string()))?;
        if verified.handle() != link.handle() {
            return Err(CommandError::Bundle("its handle is another".into()));
        }
        let pseudonym = match &begin.pseudonym {
            Some(key) => Pseudonym::from_bytes(key),
            None => Pseudonym::generate(&mut ctx.tx.rng()),
        };
        let number = self.next_conversation(ctx)?;
        let peer = self.endpoint.next_peer;
        self.endpoint.next_peer += 1;
        self.save_endpoint(ctx)?;
        let mailbox = self.make_mailbox(ctx, verified.relay())?;
        let record = ConversationRecord {
            peer,
            business: (*link.key().as_bytes()).into(),
            peer_key: (*verified.identity()).into(),
            user_id: pseudonym.user_id(link.key()).as_str().to_owned(),
            mailbox: (*mailbox.as_bytes()).into(),
            peer_name: verified.name().to_owned(),
            handle: verified.handle().to_owned(),
            readers: verified.readers().iter().map(|r| (r.name.clone(), r.role.clone())).collect(),
            pseudonym: Some(Secret(*pseudonym.to_bytes())),
            own_name: name,
            reference: link.reference().map(str::to_owned),
            bundle: Some(ByteVec::from(bundle.to_vec())),
            link: Some(link.bundle_url().to_owned()),
            ..ConversationRecord::new()
        };
        self.save_conversation(ctx, number, &record)?;
        // The first message will want it; connected by then.
        self.want_link(ctx.out, LinkKey::anonymous(verified.relay()));
        let view = conversation_view(number, &record)?;
        ctx.emit(Event::Conversation(view.clone()))?;
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
                self.lanes.entry(number).or_default().waits_until = Some(now + FETCH_AGAIN_MS);
                self.timers.insert((now + FETCH_AGAIN_MS, Timer::Lane(number)));
            }
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
        let (mut mls, welcome) =
            Mls::begin(&pseudonym, &bundle, now / 1000, &mut ctx.tx.rng()).map_err(|_| damaged(Table::Mls))?;
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
        self.save_mls(ctx, number, record.peer, &mls)?;
        self.keep_loaded(number, mls);
        self.save_conversation(ctx, number, record)?;
        let contact = bundle.contact();
        let sealed = SealedRecord {
            send_id: ctx.tx.random::<16>().into(),
            relay: bundle.relay().to_owned(),
            permit: ByteVec::from(contact.permit.to_bytes().to_vec()),
            mac: Secret(*contact.mac.expose()),
            envelope: ByteVec::from(envelope),
            inner: None,
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
        if record.state != ConversationState::New || Bundle::verify(bundle, &business, ctx.tx.now_ms() / 1000).is_err()
        {
            return Ok(());
        }
        record.bundle = Some(ByteVec::from(bundle.to_vec()));
        self.save_conversation(ctx, number, &record)?;
        if let Some(lane) = self.lanes.get_mut(&number) {
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
        if let Err(e) = Bundle::verify(&bundle, &business, ctx.tx.now_ms() / 1000) {
            tracing::warn!(error = %e, "an answer to our Hello brought a bundle of someone else: refused");
            return Ok(());
        }
        record.state = ConversationState::New;
        record.hello = None;
        record.bundle = Some(ByteVec::from(bundle));
        self.forget_mls(ctx, number)?;
        self.requeue(ctx, number, &mut record)?;
        self.save_conversation(ctx, number, &record)?;
        self.pump(ctx, number)
    }

    /// Everything of ours without a receipt goes into the outbox again, in order.
    fn requeue(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
    ) -> Result<(), StoreError> {
        let prefix = number.to_be_bytes();
        for (key, _) in ctx.tx.scan_prefix::<OutboxRecord>(Table::Outbox, &prefix)? {
            ctx.tx.delete(Table::Outbox, &key);
        }
        self.lanes.insert(number, Lane::default());
        for (key, stored) in ctx.tx.scan_prefix::<MessageRecord>(Table::Messages, &prefix)? {
            let waits = stored.direction == Direction::Outgoing && stored.status < Status::Delivered;
            let Some(order) = key.last_chunk::<8>().map(|k| u64::from_be_bytes(*k)).filter(|_| waits) else { continue };
            let intent = OutboxRecord {
                message: Some(Place { conversation: number, order }),
                content: stored.content.clone(),
                purpose: Purpose::Service.to_wire(),
                until_ms: None,
                sealed: None,
            };
            self.enqueue(ctx, number, record, &intent)?;
        }
        Ok(())
    }
}

/// How a customer begins.
#[derive(Debug, Clone, Default)]
pub struct Begin {
    /// What it calls itself.
    pub name: Option<String>,
    /// A pseudonym's key from another device: the same customer.
    pub pseudonym: Option<Zeroizing<[u8; 32]>>,
}

// ---------------------------------------------------------------- MLS state

impl Engine {
    fn mls(&mut self, ctx: &Ctx<'_, '_>, number: u64) -> Result<&mut Mls, StoreError> {
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

    fn keep_loaded(&mut self, number: u64, mls: Mls) {
        if self.loaded.len() >= LOADED_CONVERSATIONS {
            self.loaded.clear();
        }
        self.loaded.insert(number, mls);
    }

    fn save_mls(&self, ctx: &mut Ctx<'_, '_>, number: u64, peer: u64, mls: &Mls) -> Result<(), StoreError> {
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
    ) -> Result<Result<Zeroizing<Vec<u8>>, OpenError>, StoreError> {
        let peer = self.conversation_record(ctx, number)?.peer;
        let mls = self.mls(ctx, number)?;
        let opened = mls.open(message);
        save_changes(ctx, number, peer, mls.state())?;
        Ok(opened.map(|o| o.content))
    }
}

fn save_changes(ctx: &mut Ctx<'_, '_>, number: u64, peer: u64, state: &State) -> Result<(), StoreError> {
    for (key, value) in state.take_changes() {
        let key = [number.to_be_bytes().as_slice(), &key].concat();
        match value {
            Some(value) => ctx.tx.put_bytes(Table::Mls, &key, Scope::Peer(peer), &value)?,
            None => ctx.tx.delete(Table::Mls, &key),
        }
    }
    Ok(())
}
