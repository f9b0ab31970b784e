//! A business's beginnings: its identity and mailbox, its contact bundles, and the Hellos that come to its door.

use bulla_e2ee::bundle::{BundleParams, BusinessKeys, make_bundle};
use bulla_e2ee::certificate::Role;
use bulla_e2ee::content::{Content, PUSH_KEY, Reader};
use bulla_e2ee::conversation::{Conversation as Mls, JoinError};
use bulla_e2ee::envelope::Kind;
use bulla_e2ee::hello::Hello;
use bulla_e2ee::identity::{BusinessIdentity, IdentityHash, UserId};
use bulla_e2ee::permits::GivenPermit;
use bulla_e2ee::sabotage::{Rule, broken};
use bulla_e2ee::suite::{Suite, Suites};
use bulla_e2ee::tag::{Purpose, Tag};
use bulla_protocol::id::{GrantId, MailboxId, TagBlock};
use bulla_protocol::limits;
use bulla_protocol::permit::{Class, MacRoot, Permit};
use minicbor::bytes::ByteVec;

use super::messages::{Wait, conversation_view};
use super::record::{BundleRecord, ConversationRecord, OutboxRecord, PeerRecord, Secret, SecretVec};
use super::sending::wrap;
use super::{Ctx, Engine, RoleOptions, damaged};
use crate::event::{ConversationState, Event};
use crate::store::vault::Scope;
use crate::store::{StoreError, Table};

const DAY_MS: u64 = 86_400_000;

/// A bundle is renewed when it is this old: its KeyPackage's and seal key's forward secrecy is as good as this.
const BUNDLE_RENEWED_MS: u64 = DAY_MS;

/// A replaced bundle's KeyPackage is kept for this long: customers who fetched it last week are answered with a fresh one.
const KEY_PACKAGE_KEPT_MS: u64 = 4 * DAY_MS;

/// A replaced bundle's seal key is kept as long as a Hello to it can arrive: its validity and the relay's 30 days.
const SEAL_KEY_KEPT_MS: u64 = 46 * DAY_MS;

/// Contact envelopes per minute that the contact permit allows; the relay's own limit for the class applies besides.
const CONTACT_RATE: u16 = 600;

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

    /// A business's own; a customer has none.
    pub(super) fn own_push_key(&self) -> Option<[u8; PUSH_KEY]> {
        let RoleOptions::Business(options) = &self.role else { return None };
        options.push_key
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
        let fresh = current.as_ref().is_some_and(|b| {
            let joins = BusinessKeys::from_bytes(&b.keys.0).is_ok_and(|keys| keys.has_key_package());
            let lists = b.suites.clone().unwrap_or_else(|| Suites::DEFAULT.codes());
            joins && lists == self.suites.codes() && now < b.made_ms.saturating_add(BUNDLE_RENEWED_MS)
        });
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
                suites: self.suites,
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
                suites: Some(self.suites.codes()),
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

    /// Erases the KeyPackages of all bundles: Hellos to them are answered with the next bundle.
    pub(super) fn forget_packages(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        for (key, bundle) in ctx.tx.scan_prefix::<BundleRecord>(Table::BundleKeys, b"")? {
            if broken(Rule::PackagesForgotten) {
                break;
            }
            Self::forget_package(ctx, &key, bundle)?;
        }
        Ok(())
    }

    fn forget_package(ctx: &mut Ctx<'_, '_>, key: &[u8], mut bundle: BundleRecord) -> Result<(), StoreError> {
        let mut keys = BusinessKeys::from_bytes(&bundle.keys.0).map_err(|_| damaged(Table::BundleKeys))?;
        if keys.has_key_package() {
            keys.erase_key_package();
            bundle.keys = SecretVec(keys.to_bytes().to_vec());
            ctx.tx.put(Table::BundleKeys, key, Scope::Endpoint, &bundle)?;
        }
        Ok(())
    }

    fn erase_old_keys(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        let now = ctx.tx.now_ms();
        for (key, old) in ctx.tx.scan_prefix::<BundleRecord>(Table::BundleKeys, b"")? {
            if now >= old.made_ms.saturating_add(SEAL_KEY_KEPT_MS) {
                ctx.tx.delete(Table::BundleKeys, &key);
            } else if now >= old.made_ms.saturating_add(KEY_PACKAGE_KEPT_MS) {
                Self::forget_package(ctx, &key, old)?;
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
        if ctx.tx.get::<u64>(Table::Hellos, &hello.digest())?.is_some() && !broken(Rule::HelloOnce) {
            return Ok(());
        }
        if let Some(number) = self.blocked(ctx, &hello.user_id(&business))? {
            return self.keep_knock(ctx, number, mailbox, &tag, serial, envelope);
        }
        let joined = Mls::join(&keys, &business, &hello, now / 1000);
        ctx.tx.put(Table::Hellos, &hello.digest(), Scope::Endpoint, &now)?;
        match joined {
            // One that was held back on its way until both had moved on, or of a program that speaks less: it is not gone back to.
            Ok(mls) if !self.may_join_hello(ctx, &hello.user_id(&business), mls.suite())? => {
                tracing::warn!(suite = ?mls.suite(), "a Hello in a suite that is not spoken in its conversation: answered with the bundle");
                self.say_again(ctx, &hello)
            }
            Ok(mls) => self.joined(ctx, mailbox, &business, &hello, mls),
            Err(JoinError::NoKeyPackage) => self.say_again(ctx, &hello),
            Err(e) => {
                tracing::warn!(error = %e, "a Hello whose group is not in order: dropped");
                Ok(())
            }
        }
    }

    fn may_join_hello(&self, ctx: &Ctx<'_, '_>, user: &UserId, suite: Suite) -> Result<bool, StoreError> {
        match self.peer(ctx, user)? {
            Some(known) => self.may_be_in(ctx, known.conversation, suite),
            None => Ok(self.suites.has(suite)),
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
        let opened = mls.open(hello.message());
        let first = opened.map(|o| Content::decode(&o.content).map(|content| (content, o.content)));
        let known = self.peer(ctx, &user)?;
        let sender = mls.members().into_iter().find(|m| m.who.role == Role::Customer).map(|m| m.who);
        let sender = sender.ok_or(damaged(Table::Members))?;
        let resumes = matches!(&first, Ok(Ok((content, _))) if content.extensions.resumes);
        if let Some(reason) = self.why_not(ctx, known.as_ref(), &sender, resumes)? {
            return self.turn_away(ctx, hello, &user, &sender.endpoint, reason);
        }
        let earlier = match &known {
            Some(peer) => ctx.tx.get::<ConversationRecord>(Table::Conversations, &peer.conversation.to_be_bytes())?,
            None => None,
        };
        let (number, peer, mut record) = match (known, earlier) {
            // A known pseudonym is the same customer, who could not continue or has a new device: the conversation goes on in this group.
            (Some(peer), Some(earlier)) => {
                let record = ConversationRecord {
                    state: ConversationState::Open,
                    mailbox: (*mailbox.as_bytes()).into(),
                    control_given: 0,
                    ..earlier
                };
                (peer.conversation, peer, record)
            }
            (known, _) => {
                let number = self.next_conversation(ctx)?;
                let peer = match known {
                    Some(known) => PeerRecord { conversation: number, ..known },
                    None => {
                        let scope = self.endpoint.next_peer;
                        self.endpoint.next_peer += 1;
                        self.save_endpoint(ctx)?;
                        PeerRecord { scope, conversation: number, name: guest(&user) }
                    }
                };
                let record = ConversationRecord {
                    peer: peer.scope,
                    state: ConversationState::Open,
                    business: (*business.as_bytes()).into(),
                    peer_key: (*hello.pseudonym()).into(),
                    user_id: user.as_str().to_owned(),
                    mailbox: (*mailbox.as_bytes()).into(),
                    peer_name: peer.name.clone(),
                    ..ConversationRecord::new()
                };
                (number, peer, record)
            }
        };
        self.save_peer(ctx, &user, &peer)?;
        let is_another = self.member_of(ctx, number, &sender)?.is_none();
        let mut group = self.group(ctx, number)?;
        Self::is_followed_instead(&mut group);
        (group.tries, group.retry_ms) = (0, 0);
        group.suite = Some(mls.suite().code());
        group.stands();
        self.replace_group(ctx, number, &mut record, &mut group, mls)?;
        let member = self.member_of(ctx, number, &sender)?.ok_or(damaged(Table::Members))?;
        self.take(ctx, number, peer.scope, member.number, hello.relay(), hello.permits())?;
        self.say_undelivered_again(ctx, number, &mut record, &[])?;
        self.save_conversation(ctx, number, &record)?;
        if is_another {
            self.goes_on_with(ctx, number, peer.scope, &member)?;
        }
        // The bundle's KeyPackage was everybody's: with the first answer go fresh keys.
        self.wanted.commits.insert(number);
        // Said at once, so that the customer can go on: it carries the permits.
        self.owe_receipts(ctx, number, peer.scope, &[], &[], Wait::AtOnce)?;
        self.introduce_all(ctx, number, &record)?;
        record = self.conversation_record(ctx, number)?;
        match first {
            Ok(Ok((content, bytes))) => {
                if let Some(name) = &content.extensions.name {
                    self.rename(ctx, &mut record, name)?;
                }
                ctx.emit(Event::Conversation(conversation_view(number, &record)?))?;
                self.heard(ctx, number, &mut record, &member, Purpose::Service, &bytes, &content)
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
        match hello.say_again(&current.bundle) {
            Ok(body) => self.answer_hello(ctx, hello, Kind::HelloAgain, &body),
            Err(_) => Ok(()),
        }
    }

    /// Answers a Hello that is not joined, under the permit that it brought.
    pub(super) fn answer_hello(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        hello: &Hello,
        kind: Kind,
        body: &[u8],
    ) -> Result<(), StoreError> {
        let Some(control) = hello.permits().iter().find(|p| p.purpose == Purpose::Control) else { return Ok(()) };
        let Some(sealed) = wrap(ctx, hello.relay(), control, kind, body) else { return Ok(()) };
        // A lane of its own, under a number that no conversation has.
        let lane = self.next_conversation(ctx)?;
        let notice = OutboxRecord::notice(Vec::new(), Purpose::Control.to_wire(), None);
        self.enqueue_sealed(ctx, lane, &OutboxRecord { sealed: Some(sealed), ..notice })?;
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

    pub(super) fn next_conversation(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<u64, StoreError> {
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
