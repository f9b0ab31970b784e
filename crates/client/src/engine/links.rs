//! Connections to relays and the mailboxes behind them.
//!
//! Owner link: `Create` (once, with proof of work) → `Open` with this start's incarnation → `Subscribe`. From the moment of `Open` until the link
//! is lost or `Superseded` comes, this endpoint holds the lease on its mailbox and may seal.

use std::collections::HashMap;

use bulla_e2ee::continues::Reason;
use bulla_e2ee::sabotage::{Rule, broken};
use bulla_e2ee::tag::Purpose;
use bulla_protocol::frame::{
    Ack, ClaimSlot, ClientFrame, Code, Create, Deliver, Failed, Open, PermitClass, Ping, ReadSlot, Role, ServerHello,
    Subscribe, client_frame, server_frame,
};
use bulla_protocol::id::{Challenge, Incarnation, IncarnationNonce, MailboxId, SendId, TagBlock};
use bulla_protocol::permit::{MacRoot, RelayName};
use bulla_protocol::work::Task;
use bulla_protocol::{VERSION, limits, ownership};
use ed25519_dalek::SigningKey;

use sha2::{Digest as _, Sha256};

use super::lanes::LaneId;
use super::record::MailboxRecord;
use super::{Ctx, Effects, Engine, Timer, WorkFor, damaged};
use crate::event::{Connection, Event};
use crate::store::vault::Scope;
use crate::store::{StoreError, Table};

/// Tries after which an envelope is kept as it came and left alone.
const POISON_TRIES: u8 = 3;

/// Which connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LinkKey {
    /// The relay's URL.
    pub url: String,
    /// Owner or anonymous.
    pub owner: bool,
}

impl LinkKey {
    pub(super) fn owner(url: &str) -> Self {
        Self { url: url.to_owned(), owner: true }
    }
    pub(super) fn anonymous(url: &str) -> Self {
        Self { url: url.to_owned(), owner: false }
    }
}

/// A connection as the engine knows it.
#[derive(Debug, Default)]
pub struct Link {
    pub(super) up: Option<Up>,
    next_request: u64,
    pending: HashMap<u64, Pending>,
}

/// What a relay said at connection.
#[derive(Debug)]
pub(super) struct Up {
    pub(super) name: RelayName,
    pub(super) challenge: Challenge,
    pub(super) work_bits: u32,
}

#[derive(Debug)]
enum Pending {
    Create(MailboxId),
    Open(MailboxId),
    Subscribe(MailboxId),
    Bundle(u32),
    Send(LaneId, SendId),
    Revoke(MailboxId, u32),
    Claim(u64, [u8; 32]),
    Read(u64, [u8; 32]),
    /// Its answer changes nothing.
    Nothing,
}

/// A mailbox of ours, while running.
#[derive(Debug)]
pub(super) struct Mailbox {
    pub(super) record: MailboxRecord,
    /// The relay granted this incarnation the lease on this connection.
    pub(super) open: bool,
    subscription: Option<u64>,
    caught_up: bool,
    /// Highest delivery number that this batch makes durable.
    processed: u64,
    acknowledged: u64,
}

impl Mailbox {
    pub(super) fn new(record: MailboxRecord) -> Self {
        Self { record, open: false, subscription: None, caught_up: false, processed: 0, acknowledged: 0 }
    }
}

impl Engine {
    pub(super) fn load_mailboxes(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        for (key, record) in ctx.tx.scan_prefix::<MailboxRecord>(Table::Mailboxes, b"")? {
            let id = MailboxId::from_slice(&key).map_err(|_| damaged(Table::Mailboxes))?;
            self.want_link(ctx.out, LinkKey::owner(&record.relay));
            self.mailboxes.insert(id, Mailbox::new(record));
        }
        Ok(())
    }

    /// Makes a mailbox here; the relay hears of it at once, or when it is reached.
    pub(super) fn make_mailbox(&mut self, ctx: &mut Ctx<'_, '_>, relay: &str) -> Result<MailboxId, StoreError> {
        let id = MailboxId::new(ctx.tx.random());
        let record = MailboxRecord {
            relay: relay.to_owned(),
            owner: super::record::Secret(ctx.tx.random()),
            root: super::record::Secret(ctx.tx.random()),
            created: false,
            offset: 0,
            instance: None,
        };
        ctx.tx.put(Table::Mailboxes, id.as_bytes(), Scope::Endpoint, &record)?;
        self.mailboxes.insert(id, Mailbox::new(record));
        let key = LinkKey::owner(relay);
        self.want_link(ctx.out, key.clone());
        self.present_mailbox(ctx, &key, id);
        Ok(id)
    }

    pub(super) fn want_link(&mut self, out: &mut Effects, key: LinkKey) {
        if !self.superseded && !self.links.contains_key(&key) {
            self.links.insert(key.clone(), Link::default());
            out.connect.push(key);
        }
    }

    /// The link, if it is connected; otherwise it is asked for.
    pub(super) fn link(&mut self, out: &mut Effects, key: &LinkKey) -> Option<&Up> {
        self.want_link(out, key.clone());
        self.links.get(key)?.up.as_ref()
    }

    fn request(&mut self, out: &mut Effects, key: &LinkKey, body: client_frame::Body, pending: Pending) {
        let Some(link) = self.links.get_mut(key).filter(|l| l.up.is_some()) else { return };
        link.next_request += 1;
        let request = link.next_request;
        link.pending.insert(request, pending);
        out.frames.push((key.clone(), ClientFrame::new(request, body).to_bytes()));
    }

    pub(super) fn request_send(
        &mut self,
        out: &mut Effects,
        key: &LinkKey,
        send: bulla_protocol::frame::Send,
        lane: LaneId,
    ) {
        let Ok(id) = SendId::from_slice(&send.send_id) else { return };
        self.request(out, key, client_frame::Body::Send(send), Pending::Send(lane, id));
    }

    pub(super) fn request_claim(&mut self, out: &mut Effects, key: &LinkKey, claim: ClaimSlot, number: u64) {
        let Ok(slot) = <[u8; 32]>::try_from(claim.slot.as_slice()) else { return };
        self.request(out, key, client_frame::Body::ClaimSlot(claim), Pending::Claim(number, slot));
    }

    pub(super) fn request_read(&mut self, out: &mut Effects, key: &LinkKey, read: ReadSlot, number: u64) {
        let Ok(slot) = <[u8; 32]>::try_from(read.slot.as_slice()) else { return };
        self.request(out, key, client_frame::Body::ReadSlot(read), Pending::Read(number, slot));
    }

    pub(super) fn request_bundle(&mut self, out: &mut Effects, mailbox: MailboxId, bundle: Vec<u8>, serial: u32) {
        let Some(held) = self.mailboxes.get(&mailbox).filter(|m| m.open) else { return };
        let key = LinkKey::owner(&held.record.relay);
        let frame = bulla_protocol::frame::PublishBundle { mailbox: mailbox.to_vec(), bundle };
        self.request(out, &key, client_frame::Body::PublishBundle(frame), Pending::Bundle(serial));
    }

    pub(super) fn request_revoke(
        &mut self,
        out: &mut Effects,
        key: &LinkKey,
        mailbox: MailboxId,
        grant: [u8; 16],
        serial: u32,
    ) {
        let frame = bulla_protocol::frame::Revoke { mailbox: mailbox.to_vec(), grant: grant.to_vec() };
        self.request(out, key, client_frame::Body::Revoke(frame), Pending::Revoke(mailbox, serial));
    }

    pub(super) fn link_up(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        key: LinkKey,
        hello: ServerHello,
    ) -> Result<(), StoreError> {
        let (Some(name), Ok(challenge)) = (RelayName::new(&hello.name), Challenge::from_slice(&hello.challenge)) else {
            tracing::warn!("a relay introduced itself in a way that this version does not understand");
            return Ok(());
        };
        if self.superseded {
            return Ok(());
        }
        if !hello.versions.contains(&VERSION) {
            let update_here = hello.versions.iter().all(|version| *version > VERSION);
            return self.tell_connection(ctx, Connection::NoCommonVersion { update_here });
        }
        let up = Up { name, challenge, work_bits: hello.work_bits };
        let link = self.links.entry(key.clone()).or_default();
        *link = Link { up: Some(up), next_request: 0, pending: HashMap::new() };
        let role = if key.owner { Role::Owner } else { Role::Anonymous };
        let frame = bulla_protocol::frame::ClientHello { version: VERSION, role: role as i32 };
        self.request(ctx.out, &key, client_frame::Body::Hello(frame), Pending::Nothing);
        let now = ctx.tx.now_ms();
        self.timers.insert((now + u64::try_from(limits::IDLE_TIMEOUT.as_millis()).unwrap_or(45_000) / 3, Timer::Ping));
        if key.owner {
            let offset = i64::try_from(hello.now).unwrap_or(0) - i64::try_from(now / 1000).unwrap_or(0);
            let instance = <[u8; 16]>::try_from(hello.instance.as_slice()).ok().map(Into::into);
            let here: Vec<MailboxId> =
                self.mailboxes.iter().filter(|(_, m)| m.record.relay == key.url).map(|(id, _)| *id).collect();
            for id in here {
                if let Some(mailbox) = self.mailboxes.get_mut(&id) {
                    let restored = mailbox.record.instance.is_some() && mailbox.record.instance != instance;
                    if mailbox.record.offset.abs_diff(offset) > 1 || mailbox.record.instance != instance {
                        mailbox.record.offset = offset;
                        mailbox.record.instance = instance;
                        ctx.tx.put(Table::Mailboxes, id.as_bytes(), Scope::Endpoint, &mailbox.record)?;
                    }
                    if restored {
                        self.unpublish(ctx)?;
                    }
                    if let Some(mailbox) = self.mailboxes.get_mut(&id).filter(|_| restored) {
                        // A relay restored from a backup may have forgotten the mailbox too.
                        mailbox.record.created = false;
                    }
                }
                self.present_mailbox(ctx, &key, id);
            }
        } else {
            self.pump_all(ctx)?;
            self.pump_commits(ctx)?;
        }
        Ok(())
    }

    /// Creates or opens a mailbox on a connected owner link.
    fn present_mailbox(&mut self, ctx: &mut Ctx<'_, '_>, key: &LinkKey, id: MailboxId) {
        let Some(up) = self.links.get(key).and_then(|l| l.up.as_ref()) else { return };
        let Some(mailbox) = self.mailboxes.get(&id) else { return };
        if !mailbox.record.created {
            let bits = up.work_bits.min(limits::MAX_WORK_BITS);
            let task = Task::mailbox(&up.challenge, &id);
            ctx.out.work.push((WorkFor::Mailbox(id, *up.challenge.as_bytes()), task, bits));
            return;
        }
        let owner = SigningKey::from_bytes(&mailbox.record.owner.0);
        let signature = ownership::sign_open(&owner, &up.name, &up.challenge, &id, &self.incarnation);
        let open = Open {
            mailbox: id.to_vec(),
            incarnation: self.incarnation.number,
            incarnation_nonce: self.incarnation.nonce.to_vec(),
            signature,
        };
        self.request(ctx.out, key, client_frame::Body::Open(open), Pending::Open(id));
    }

    pub(super) fn mailbox_work_done(&mut self, ctx: &mut Ctx<'_, '_>, id: MailboxId, challenge: [u8; 32], nonce: u64) {
        let Some(mailbox) = self.mailboxes.get(&id) else { return };
        let key = LinkKey::owner(&mailbox.record.relay);
        // Work for an earlier connection's challenge is worth nothing; the reconnect asked for its own.
        let Some(up) =
            self.links.get(&key).and_then(|l| l.up.as_ref()).filter(|up| *up.challenge.as_bytes() == challenge)
        else {
            return;
        };
        let owner = SigningKey::from_bytes(&mailbox.record.owner.0);
        let root = MacRoot::new(mailbox.record.root.0);
        let create = Create {
            mailbox: id.to_vec(),
            owner_key: owner.verifying_key().to_bytes().to_vec(),
            mac_root: root.expose().to_vec(),
            work_nonce: nonce,
            signature: ownership::sign_create(&owner, &up.name, &up.challenge, &id, &root),
        };
        self.request(ctx.out, &key, client_frame::Body::Create(create), Pending::Create(id));
    }

    /// A mailbox that its relay had lost is there again. Whoever wrote to it meanwhile was refused, and takes his permits for void: he gets fresh
    /// ones. (To a business its customers say Hello again by themselves.)
    fn mailbox_is_back(&mut self, ctx: &mut Ctx<'_, '_>, id: MailboxId) -> Result<(), StoreError> {
        let Some(crate::event::ConversationId(number)) = self.only_conversation(ctx, id)? else { return Ok(()) };
        let mut record = self.conversation_record(ctx, number)?;
        if record.state != crate::event::ConversationState::Open {
            return Ok(());
        }
        record.control_given = 0;
        self.save_conversation(ctx, number, &record)?;
        self.owe_receipts(ctx, number, record.peer, &[], &[], super::messages::Wait::AtOnce)
    }

    pub(super) fn link_down(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        key: &LinkKey,
        retry_in_ms: u64,
    ) -> Result<(), StoreError> {
        if let Some(link) = self.links.get_mut(key) {
            link.up = None;
            link.pending.clear();
        }
        if key.owner {
            for mailbox in self.mailboxes.values_mut().filter(|m| m.record.relay == key.url) {
                *mailbox = Mailbox::new(mailbox.record.clone());
            }
            self.subscriptions.retain(|(k, _), _| k != key);
            // A relay that speaks another version ends every connection: which it is stays said, until one holds.
            if !self.superseded && !matches!(self.told, Some(Connection::NoCommonVersion { .. })) {
                self.tell_connection(ctx, Connection::Offline { retry_in_ms })?;
            }
        } else {
            for lane in self.lanes.values_mut().filter(|lane| lane.relay.as_deref() == Some(&key.url)) {
                lane.in_flight = false;
            }
            self.forget_requests();
        }
        Ok(())
    }

    pub(super) fn frame(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        key: &LinkKey,
        request: u64,
        body: server_frame::Body,
    ) -> Result<(), StoreError> {
        let pending = self.links.get_mut(key).and_then(|link| link.pending.remove(&request));
        match (body, pending) {
            (server_frame::Body::Done(_), Some(Pending::Create(id))) => {
                let before = ctx.tx.get::<MailboxRecord>(Table::Mailboxes, id.as_bytes())?;
                if let Some(mailbox) = self.mailboxes.get_mut(&id) {
                    mailbox.record.created = true;
                    ctx.tx.put(Table::Mailboxes, id.as_bytes(), Scope::Endpoint, &mailbox.record)?;
                }
                if before.is_some_and(|record| record.created) {
                    self.mailbox_is_back(ctx, id)?;
                }
                self.present_mailbox(ctx, key, id);
            }
            (server_frame::Body::Done(_), Some(Pending::Open(id))) => {
                self.held = true;
                if self.endpoint.granted != Some(true) {
                    self.endpoint.granted = Some(true);
                    self.save_endpoint(ctx)?;
                }
                let Some(mailbox) = self.mailboxes.get_mut(&id) else { return Ok(()) };
                if std::mem::replace(&mut mailbox.open, true) {
                    // Only the incarnation was raised.
                    return Ok(());
                }
                let subscribe = Subscribe { mailboxes: vec![id.to_vec()] };
                self.request(ctx.out, key, client_frame::Body::Subscribe(subscribe), Pending::Subscribe(id));
                // Before anything else: until then the relay lets pass what is not wanted any more.
                self.tell_revoked(ctx)?;
                self.renew_bundle(ctx)?;
                self.reform_some(ctx)?;
                self.pump_all(ctx)?;
                self.pump_commits(ctx)?;
            }
            (server_frame::Body::Done(_), Some(Pending::Bundle(serial))) => self.bundle_published(ctx, serial)?,
            (server_frame::Body::Done(_), Some(Pending::Revoke(mailbox, serial))) => {
                self.revocation_confirmed(ctx, mailbox, serial)?;
            }
            (server_frame::Body::Subscribed(answer), Some(Pending::Subscribe(id))) => {
                if let (Some(number), Some(mailbox)) = (answer.subscriptions.first(), self.mailboxes.get_mut(&id)) {
                    mailbox.subscription = Some(*number);
                    (mailbox.processed, mailbox.acknowledged, mailbox.caught_up) = (0, 0, false);
                    self.subscriptions.insert((key.clone(), *number), id);
                }
            }
            (server_frame::Body::Accepted(_), Some(Pending::Send(lane, id))) => self.accepted(ctx, lane, id)?,
            (server_frame::Body::SlotClaimed(answer), Some(Pending::Claim(number, slot))) => {
                self.claimed(ctx, number, slot, &answer)?;
            }
            (server_frame::Body::SlotRead(answer), Some(Pending::Read(number, slot))) => {
                self.slot_read(ctx, number, slot, &answer)?;
            }
            (server_frame::Body::Failed(failed), Some(pending)) => self.request_failed(ctx, key, pending, &failed)?,
            (server_frame::Body::Deliver(deliver), _) => self.delivered(ctx, key, deliver)?,
            (server_frame::Body::Gap(gap), _) => {
                if let Some(mailbox) = self.of_subscription(key, gap.subscription, gap.number) {
                    let only = self.only_conversation(ctx, mailbox)?;
                    ctx.emit(Event::Gap { conversation: only, missing: gap.envelopes })?;
                }
            }
            (server_frame::Body::CaughtUp(caught), _) => {
                if let Some(id) = self.subscriptions.get(&(key.clone(), caught.subscription)).copied()
                    && let Some(mailbox) = self.mailboxes.get_mut(&id)
                {
                    mailbox.caught_up = true;
                    if self.mailboxes.values().all(|m| m.caught_up) {
                        self.tell_connection(ctx, Connection::Online)?;
                    }
                }
            }
            (server_frame::Body::Superseded(which), _) => {
                if MailboxId::from_slice(&which.mailbox).is_ok_and(|id| self.mailboxes.contains_key(&id)) {
                    self.supersede(ctx)?;
                }
            }
            // An answer to nothing asked, or a frame of a later version: nothing changes.
            _ => tracing::debug!("a relay sent an answer that nothing asked for"),
        }
        Ok(())
    }

    fn request_failed(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        key: &LinkKey,
        pending: Pending,
        failed: &Failed,
    ) -> Result<(), StoreError> {
        let code = failed.code();
        match pending {
            Pending::Send(lane, id) => return self.refused(ctx, lane, id, code, failed.retry_after_ms),
            Pending::Claim(number, _) => return self.claim_refused(ctx, number, code, failed.retry_after_ms),
            Pending::Open(_) if code == Code::Superseded && self.held => return self.supersede(ctx),
            Pending::Open(id) if code == Code::Superseded => return self.take_over(ctx, key, id, failed.incarnation),
            Pending::Open(id) if code == Code::Denied => {
                // The relay lost the mailbox (a restored backup, or half a year of silence): make it again.
                if let Some(mailbox) = self.mailboxes.get_mut(&id).filter(|m| m.record.created) {
                    mailbox.record.created = false;
                    self.present_mailbox(ctx, key, id);
                    return Ok(());
                }
            }
            _ => {}
        }
        tracing::warn!(?code, "the relay refused a request");
        Ok(())
    }

    /// The relay knows a later incarnation than this start's first: this folder is an older copy. The last to start takes over, under an
    /// incarnation above all others, and begins every conversation again: no key of the older state is used any more.
    fn take_over(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        key: &LinkKey,
        id: MailboxId,
        highest: u64,
    ) -> Result<(), StoreError> {
        tracing::warn!("this data folder is an older copy: every conversation begins again");
        self.set_incarnation(ctx, highest.max(self.incarnation.number) + 1)?;
        self.break_all(ctx)?;
        self.present_mailbox(ctx, key, id);
        Ok(())
    }

    fn set_incarnation(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        self.endpoint.incarnation = number;
        self.endpoint.granted = Some(false);
        self.endpoint.nonce = ctx.tx.random::<16>().into();
        self.incarnation = Incarnation { number, nonce: IncarnationNonce::new(*self.endpoint.nonce) };
        self.save_endpoint(ctx)
    }

    /// Raises the incarnation of a run in which something was sealed: a copy of the folder that is older than this finds out at its start
    /// that it is one.
    pub(super) fn raise_lease(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        let sealed = std::mem::take(&mut self.sealed) && !broken(Rule::IncarnationRaised);
        if !sealed || self.superseded || self.mailboxes.values().any(|m| !m.open) {
            return Ok(());
        }
        self.set_incarnation(ctx, self.incarnation.number + 1)?;
        let open: Vec<_> = self.mailboxes.iter().map(|(id, m)| (LinkKey::owner(&m.record.relay), *id)).collect();
        for (key, id) in open {
            self.present_mailbox(ctx, &key, id);
        }
        Ok(())
    }

    /// Stops sealing for good: another copy of this endpoint's data is in use.
    fn supersede(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        if broken(Rule::SupersededStops) {
            return Ok(());
        }
        self.superseded = true;
        for mailbox in self.mailboxes.values_mut() {
            mailbox.open = false;
        }
        for (key, link) in &mut self.links {
            link.up = None;
            ctx.out.disconnect.push(key.clone());
        }
        tracing::warn!("superseded: another copy of this data folder is in use; this one has stopped sending");
        self.tell_connection(ctx, Connection::Superseded)
    }

    /// The mailbox of a delivery that continues its subscription; notes its number as processed. A number that skips or repeats is a
    /// relay that plays tricks: it is not acknowledged and not looked at.
    fn of_subscription(&mut self, key: &LinkKey, subscription: u64, number: u64) -> Option<MailboxId> {
        let id = *self.subscriptions.get(&(key.clone(), subscription))?;
        let mailbox = self.mailboxes.get_mut(&id)?;
        if mailbox.subscription != Some(subscription) || number != mailbox.processed + 1 {
            return None;
        }
        mailbox.processed = number;
        Some(id)
    }

    fn delivered(&mut self, ctx: &mut Ctx<'_, '_>, key: &LinkKey, deliver: Deliver) -> Result<(), StoreError> {
        let contact = deliver.class == PermitClass::Contact as i32;
        let Some(mailbox) = self.of_subscription(key, deliver.subscription, deliver.number) else { return Ok(()) };
        let digest: [u8; 32] = Sha256::digest(&deliver.envelope).into();
        let tries = self.poison.get(&digest).copied().unwrap_or_default();
        if tries >= POISON_TRIES && !broken(Rule::PoisonSetAside) {
            return self.quarantine(ctx, &deliver.tag, &deliver.envelope);
        }
        let handled = self.envelope(ctx, mailbox, &deliver.tag, contact, &deliver.envelope);
        if matches!(handled, Err(StoreError::Format { .. })) {
            // Something that is stored for it does not decode. The step fails and the relay delivers again; but not for ever.
            self.poison.insert(digest, tries.saturating_add(1));
        }
        handled
    }

    /// An envelope that cannot be processed whatever one does: kept as it came, and the queue goes on. Its conversation begins again.
    fn quarantine(&mut self, ctx: &mut Ctx<'_, '_>, tag: &[u8], envelope: &[u8]) -> Result<(), StoreError> {
        let number = TagBlock::from_slice(tag).ok().and_then(|block| self.tag_key.open(&block)).map(|t| t.conversation);
        Self::keep_unreadable(ctx, number, "it could not be processed in three tries", envelope)?;
        match number {
            Some(number) if ctx.tx.get_bytes(Table::Conversations, &number.to_be_bytes())?.is_some() => {
                self.break_group(ctx, number, Reason::Gap)
            }
            _ => Ok(()),
        }
    }

    fn acks(&mut self) -> Vec<(LinkKey, u64, u64)> {
        let due = self.mailboxes.values_mut().filter(|m| m.processed > m.acknowledged);
        due.filter_map(|m| {
            m.acknowledged = m.processed;
            Some((LinkKey::owner(&m.record.relay), m.subscription?, m.processed))
        })
        .collect()
    }

    pub(super) fn acknowledge(&mut self, out: &mut Effects) {
        for (key, subscription, through) in self.acks() {
            let ack = ClientFrame::new(0, client_frame::Body::Ack(Ack { subscription, through }));
            out.frames.push((key, ack.to_bytes()));
        }
    }

    pub(super) fn ping(&mut self, ctx: &mut Ctx<'_, '_>) {
        let up: Vec<LinkKey> = self.links.iter().filter(|(_, l)| l.up.is_some()).map(|(k, _)| k.clone()).collect();
        for key in &up {
            self.request(ctx.out, key, client_frame::Body::Ping(Ping {}), Pending::Nothing);
        }
        if !up.is_empty() {
            let third = u64::try_from(limits::IDLE_TIMEOUT.as_millis()).unwrap_or(45_000) / 3;
            self.timers.retain(|(_, timer)| *timer != Timer::Ping);
            self.timers.insert((ctx.tx.now_ms() + third, Timer::Ping));
        }
    }

    /// At a customer each mailbox belongs to one conversation; at a business to all.
    fn only_conversation(
        &self,
        ctx: &Ctx<'_, '_>,
        mailbox: MailboxId,
    ) -> Result<Option<crate::event::ConversationId>, StoreError> {
        let mut found = None;
        if matches!(self.role, super::RoleOptions::Customer) {
            for (key, record) in ctx.tx.scan_prefix::<super::record::ConversationRecord>(Table::Conversations, b"")? {
                if *record.mailbox == *mailbox.as_bytes()
                    && let Ok(number) = key.as_slice().try_into().map(u64::from_be_bytes)
                {
                    found = Some(crate::event::ConversationId(number));
                }
            }
        }
        Ok(found)
    }

    /// Relay's time in Unix seconds, by what the relay of this mailbox last said.
    pub(super) fn relay_now(&self, ctx: &Ctx<'_, '_>, mailbox: MailboxId) -> u64 {
        let offset = self.mailboxes.get(&mailbox).map_or(0, |m| m.record.offset);
        (ctx.tx.now_ms() / 1000).saturating_add_signed(offset)
    }

    /// Whether this endpoint holds the lease on the mailbox, and may seal in its conversations.
    pub(super) fn holds(&self, mailbox: MailboxId) -> bool {
        !self.superseded && (broken(Rule::LeaseHeld) || self.mailboxes.get(&mailbox).is_some_and(|m| m.open))
    }

    pub(super) fn work_done(&mut self, ctx: &mut Ctx<'_, '_>, what: WorkFor, nonce: u64) -> Result<(), StoreError> {
        match what {
            WorkFor::Mailbox(id, challenge) => {
                self.mailbox_work_done(ctx, id, challenge, nonce);
                Ok(())
            }
            WorkFor::Contact(lane, challenge) => self.contact_work_done(ctx, lane, challenge, nonce),
            WorkFor::Slot(number, challenge) => self.slot_work_done(ctx, number, challenge, nonce),
        }
    }

    /// What kind of grant a tag of this purpose may carry.
    pub(super) fn may_carry_content(purpose: Purpose) -> bool {
        !matches!(purpose, Purpose::Control | Purpose::Contact)
    }
}
