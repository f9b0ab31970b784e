//! A model of the relay over the protocol's frames: what `proto/relay.proto` promises, without sockets, threads and disk.
//!
//! What is on stable storage is one value ([`Durable`]) that can be copied and put back. Everything else is gone when it crashes: connections,
//! readers, envelopes that were handed over in memory and not confirmed (their senders were told nothing), the memory of send ids.

use std::collections::{BTreeMap, VecDeque};

use bulla_protocol::VERSION;
use bulla_protocol::frame::{
    Accepted, CaughtUp, ClaimSlot, Code, Create, Deliver, Done, Failed, Gap, Open, Send, ServerHello, SlotClaimed,
    SlotRead, Subscribe, Subscribed, Superseded, client_frame::Body as Ask, server_frame::Body as Answer,
};
use bulla_protocol::id::{Challenge, GrantId, Incarnation, IncarnationNonce, MailboxId, SendId, SlotId, exact};
use bulla_protocol::limits::{RETENTION_DAYS, SEND_ID_MEMORY, SLOT_DAYS};
use bulla_protocol::ownership::{verify_create, verify_open};
use bulla_protocol::permit::{Class, MacRoot, Permit, RelayName};
use bulla_protocol::work::Task;
use bytes::Bytes;
use rand_core::RngCore as _;

use crate::chance::Chance;

/// Milliseconds of a day.
pub(super) const DAY_MS: u64 = 86_400_000;

/// How long a live reader may take to confirm before an envelope is stored.
const HANDOVER_MS: u64 = 5_000;

/// Enough that work for another task or connection is refused half of the time, and quickly found.
const WORK_BITS: u32 = 1;

/// The name that is bound into every proof.
const NAME: &str = "relay.test";

/// A connection, numbered through all of a run.
pub(super) type ConnId = u64;

/// An envelope, as its sender names it.
pub(super) type SendKey = (GrantId, SendId);

/// What the relay says: to whom, as the answer to which request.
pub(super) type Said = (ConnId, u64, Answer);

/// What survives a crash.
#[derive(Debug, Clone)]
pub(super) struct Durable {
    instance: [u8; 16],
    mailboxes: BTreeMap<MailboxId, Mailbox>,
    bundles: BTreeMap<MailboxId, Vec<u8>>,
    slots: BTreeMap<SlotId, (Bytes, u64)>,
}

#[derive(Debug, Clone)]
struct Mailbox {
    owner: [u8; 32],
    root: MacRoot,
    incarnation: Incarnation,
    rows: BTreeMap<u64, Row>,
    next: u64,
    /// Expired, and the gap not confirmed.
    gap: u64,
}

#[derive(Debug, Clone)]
struct Row {
    key: SendKey,
    tag: [u8; 16],
    class: Class,
    envelope: Bytes,
    came_ms: u64,
    /// On stable storage. A row that is not waits in memory for its reader's confirmation.
    stored: bool,
}

#[derive(Debug, Default)]
struct Conn {
    challenge: [u8; 32],
    subscriptions: u64,
}

/// A mailbox's reader.
#[derive(Debug)]
struct Reader {
    conn: ConnId,
    subscription: u64,
    number: u64,
    cursor: u64,
    unconfirmed: VecDeque<(u64, What)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Row(u64),
    Gap(u64),
}

/// What a crash forgets of a mailbox.
#[derive(Debug, Default)]
struct Volatile {
    holders: BTreeMap<ConnId, Incarnation>,
    reader: Option<Reader>,
    waiting: BTreeMap<SendKey, Vec<(ConnId, u64)>>,
    accepted: BTreeMap<SendKey, u64>,
}

/// Ways to break the model on purpose, so that the verdict can be seen to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelaySabotage {
    /// Every so many accepted envelopes one is lost, and the ledger does not say so.
    LosesAccepted,
    /// The highest incarnation is not kept: an older copy is never told.
    ForgetsIncarnations,
    /// Envelopes are kept for ten days only.
    ExpiresEarly,
    /// Envelopes are kept for forty days.
    ExpiresLate,
}

/// The relay.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) durable: Durable,
    /// How old an envelope was, at most, when its reader confirmed it.
    pub(super) oldest_read_ms: u64,
    /// The day on which was last looked for what is too old.
    expired_day: u64,
    conns: BTreeMap<ConnId, Conn>,
    volatile: BTreeMap<MailboxId, Volatile>,
    next_conn: ConnId,
    name: RelayName,
    /// Rows whose time was over, and how old they were.
    pub(super) expired: Vec<(SendKey, u64)>,
    /// Envelopes that were accepted and lost where the contract allows it: the disk was lost.
    pub(super) lost: Vec<SendKey>,
    /// Everything that was ever said to it: what a search for plaintext looks through.
    pub(super) seen: Vec<u8>,
    pub(super) sabotage: Option<RelaySabotage>,
    /// Says of every slot that is read that it is empty.
    pub(super) hides_slots: bool,
    stored: u64,
}

impl Durable {
    /// Empty.
    pub(super) fn new(chance: &mut Chance) -> Self {
        let mut instance = [0; 16];
        chance.fill_bytes(&mut instance);
        Self { instance, mailboxes: BTreeMap::new(), bundles: BTreeMap::new(), slots: BTreeMap::new() }
    }

    /// The highest incarnation of a mailbox.
    pub(super) fn incarnation(&self, mailbox: &MailboxId) -> u64 {
        self.mailboxes.get(mailbox).map_or(0, |m| m.incarnation.number)
    }
}

fn refused(code: Code) -> Answer {
    let retry_after_ms = if code == Code::Unavailable { 500 } else { 0 };
    Answer::Failed(Failed { code: code as i32, retry_after_ms, incarnation: 0 })
}

impl Relay {
    /// Starts over what is stored.
    pub(super) fn new(durable: Durable) -> Self {
        Self {
            durable,
            oldest_read_ms: 0,
            expired_day: 0,
            conns: BTreeMap::new(),
            volatile: BTreeMap::new(),
            next_conn: 0,
            name: RelayName::new(NAME).expect("a short name is one"),
            expired: Vec::new(),
            lost: Vec::new(),
            seen: Vec::new(),
            sabotage: None,
            hides_slots: false,
            stored: 0,
        }
    }

    /// What a snapshot of its disk would hold.
    pub(super) fn snapshot(&self) -> Durable {
        let mut copy = self.durable.clone();
        for mailbox in copy.mailboxes.values_mut() {
            mailbox.rows.retain(|_, row| row.stored);
        }
        copy
    }

    /// Loses everything that is not stored. The caller cuts all connections.
    pub(super) fn crash(&mut self) {
        self.durable = self.snapshot();
        self.conns.clear();
        self.volatile.clear();
    }

    /// Starts again from an older copy of its disk; whether it says so by a new instance id is the operator's.
    pub(super) fn go_back(&mut self, to: Durable, chance: &mut Chance, says_so: bool) {
        self.crash();
        for (id, mailbox) in &self.durable.mailboxes {
            let older = to.mailboxes.get(id);
            for (order, row) in &mailbox.rows {
                if older.is_none_or(|m| m.rows.get(order).is_none_or(|r| r.key != row.key)) {
                    self.lost.push(row.key);
                }
            }
        }
        self.durable = to;
        self.expired_day = 0;
        if says_so {
            chance.fill_bytes(&mut self.durable.instance);
        }
    }

    /// A new connection, and what the relay says first on it.
    pub(super) fn connect(&mut self, chance: &mut Chance, now_ms: u64) -> (ConnId, ServerHello) {
        let id = self.next_conn;
        self.next_conn += 1;
        let mut challenge = [0; 32];
        chance.fill_bytes(&mut challenge);
        self.conns.insert(id, Conn { challenge, subscriptions: 0 });
        let hello = ServerHello {
            versions: vec![VERSION],
            name: NAME.to_owned(),
            instance: self.durable.instance.to_vec(),
            now: now_ms / 1000,
            challenge: challenge.to_vec(),
            work_bits: WORK_BITS,
        };
        (id, hello)
    }

    /// The connection is gone: what it has not confirmed is stored.
    pub(super) fn close(&mut self, conn: ConnId, now_ms: u64) -> Vec<Said> {
        self.conns.remove(&conn);
        let mut said = Vec::new();
        for id in self.durable.mailboxes.keys().copied().collect::<Vec<_>>() {
            let Some(volatile) = self.volatile.get_mut(&id) else { continue };
            volatile.holders.remove(&conn);
            if volatile.reader.as_ref().is_some_and(|r| r.conn == conn) {
                volatile.reader = None;
                said.extend(self.store(&id, now_ms, 0));
            }
        }
        said
    }

    /// Time has passed: what waited too long for a confirmation is stored, what is too old goes.
    pub(super) fn later(&mut self, now_ms: u64) -> Vec<Said> {
        let mut said = Vec::new();
        for id in self.durable.mailboxes.keys().copied().collect::<Vec<_>>() {
            said.extend(self.store(&id, now_ms, HANDOVER_MS));
        }
        self.expire(now_ms);
        said
    }

    /// What is too old goes, once a day.
    pub(super) fn expire(&mut self, now_ms: u64) {
        if now_ms / DAY_MS == self.expired_day {
            return;
        }
        self.expired_day = now_ms / DAY_MS;
        let kept = match self.sabotage {
            Some(RelaySabotage::ExpiresEarly) => 10,
            Some(RelaySabotage::ExpiresLate) => 40,
            _ => u64::from(RETENTION_DAYS),
        };
        for id in self.durable.mailboxes.keys().copied().collect::<Vec<_>>() {
            let Some(mailbox) = self.durable.mailboxes.get_mut(&id) else { continue };
            let over: Vec<u64> = mailbox
                .rows
                .iter()
                .filter(|(_, row)| row.came_ms / DAY_MS + kept < now_ms / DAY_MS)
                .map(|(order, _)| *order)
                .collect();
            for order in over {
                let Some(row) = mailbox.rows.remove(&order) else { continue };
                self.expired.push((row.key, now_ms - row.came_ms));
                mailbox.gap += 1;
                let reader = self.volatile.get_mut(&id).and_then(|v| v.reader.as_mut());
                if let Some(given) = reader.and_then(|r| r.unconfirmed.iter_mut().find(|(_, w)| *w == What::Row(order)))
                {
                    given.1 = What::Gap(1);
                }
            }
        }
        self.durable.slots.retain(|_, (_, came)| *came / DAY_MS + u64::from(SLOT_DAYS) >= now_ms / DAY_MS);
    }

    /// The age of the oldest envelope that is still there.
    pub(super) fn oldest(&self, now_ms: u64) -> u64 {
        let rows = self.durable.mailboxes.values().flat_map(|m| m.rows.values());
        rows.map(|row| now_ms.saturating_sub(row.came_ms)).max().unwrap_or(0)
    }

    /// Puts on stable storage what has waited in memory for so long, and answers its senders.
    fn store(&mut self, id: &MailboxId, now_ms: u64, waited_ms: u64) -> Vec<Said> {
        let Some(mailbox) = self.durable.mailboxes.get_mut(id) else { return Vec::new() };
        let mut keys = Vec::new();
        for row in mailbox.rows.values_mut().filter(|r| !r.stored && now_ms >= r.came_ms + waited_ms) {
            row.stored = true;
            keys.push(row.key);
        }
        keys.into_iter().flat_map(|key| self.accept(id, key, now_ms)).collect()
    }

    fn accept(&mut self, id: &MailboxId, key: SendKey, now_ms: u64) -> Vec<Said> {
        let volatile = self.volatile.entry(*id).or_default();
        let waiting = volatile.waiting.remove(&key).unwrap_or_default();
        volatile.accepted.insert(key, now_ms);
        waiting.into_iter().map(|(conn, request)| (conn, request, Answer::Accepted(Accepted {}))).collect()
    }

    /// Handles one frame.
    pub(super) fn ask(&mut self, conn: ConnId, request: u64, body: Ask, now_ms: u64, hands_over: bool) -> Vec<Said> {
        let Some(challenge) = self.conns.get(&conn).map(|c| Challenge::new(c.challenge)) else { return Vec::new() };
        self.expire(now_ms);
        let one = |answer| vec![(conn, request, answer)];
        match body {
            Ask::Hello(_) | Ask::Ping(_) => one(Answer::Done(Done {})),
            Ask::Create(create) => one(self.create(&challenge, &create)),
            Ask::Open(open) => self.open(conn, request, &challenge, &open, now_ms),
            Ask::Subscribe(subscribe) => self.subscribe(conn, request, &subscribe, now_ms),
            Ask::Ack(ack) => self.ack(conn, ack.subscription, ack.through, now_ms),
            Ask::PublishBundle(publish) => {
                self.seen.extend(&publish.bundle);
                let held = MailboxId::from_slice(&publish.mailbox).ok().filter(|id| self.holds(conn, id));
                let Some(id) = held else { return one(refused(Code::Denied)) };
                self.durable.bundles.insert(id, publish.bundle);
                one(Answer::Done(Done {}))
            }
            Ask::Send(send) => self.send(conn, request, &challenge, &send, now_ms, hands_over),
            Ask::ClaimSlot(claim) => one(self.claim(&challenge, claim, now_ms)),
            Ask::ReadSlot(read) => {
                let slot = SlotId::from_slice(&read.slot).ok().filter(|_| !self.hides_slots);
                let commit = slot.and_then(|slot| self.durable.slots.get(&slot)).map(|(commit, _)| commit.clone());
                one(Answer::SlotRead(SlotRead { commit: commit.unwrap_or_default() }))
            }
            _ => one(refused(Code::Unsupported)),
        }
    }

    fn holds(&self, conn: ConnId, id: &MailboxId) -> bool {
        self.volatile.get(id).is_some_and(|v| v.holders.contains_key(&conn))
    }

    fn create(&mut self, challenge: &Challenge, create: &Create) -> Answer {
        let (Ok(id), Ok(owner), Ok(root)) = (
            MailboxId::from_slice(&create.mailbox),
            exact::<32>(&create.owner_key),
            MacRoot::from_slice(&create.mac_root),
        ) else {
            return refused(Code::Malformed);
        };
        if !Task::mailbox(challenge, &id).accepts(create.work_nonce, WORK_BITS) {
            return refused(Code::Work);
        }
        if !verify_create(&owner, &self.name, challenge, &id, &root, &create.signature) {
            return refused(Code::Denied);
        }
        let none = Incarnation { number: 0, nonce: IncarnationNonce::new([0; 16]) };
        let made = self.durable.mailboxes.entry(id).or_insert(Mailbox {
            owner,
            root,
            incarnation: none,
            rows: BTreeMap::new(),
            next: 1,
            gap: 0,
        });
        if made.owner == owner { Answer::Done(Done {}) } else { refused(Code::Taken) }
    }

    fn open(&mut self, conn: ConnId, request: u64, challenge: &Challenge, open: &Open, now_ms: u64) -> Vec<Said> {
        let one = |answer| vec![(conn, request, answer)];
        let (Ok(id), Ok(nonce)) =
            (MailboxId::from_slice(&open.mailbox), IncarnationNonce::from_slice(&open.incarnation_nonce))
        else {
            return one(refused(Code::Malformed));
        };
        let incarnation = Incarnation { number: open.incarnation, nonce };
        let Some(mailbox) = self.durable.mailboxes.get_mut(&id) else { return one(refused(Code::Denied)) };
        if !verify_open(&mailbox.owner, &self.name, challenge, &id, &incarnation, &open.signature) {
            return one(refused(Code::Denied));
        }
        let forgets = self.sabotage == Some(RelaySabotage::ForgetsIncarnations);
        if !forgets && !incarnation.holds_against(&mailbox.incarnation) {
            let highest = mailbox.incarnation.number;
            let code = Code::Superseded as i32;
            return one(Answer::Failed(Failed { code, retry_after_ms: 0, incarnation: highest }));
        }
        mailbox.incarnation = incarnation;
        let volatile = self.volatile.entry(id).or_default();
        let mut said = Vec::new();
        let lower: Vec<ConnId> = volatile
            .holders
            .iter()
            .filter(|(other, held)| **other != conn && **held != incarnation)
            .map(|(other, _)| *other)
            .collect();
        let mut reads = false;
        for other in lower {
            volatile.holders.remove(&other);
            said.push((other, 0, Answer::Superseded(Superseded { mailbox: id.to_vec() })));
            reads |= volatile.reader.take_if(|r| r.conn == other).is_some();
        }
        volatile.holders.insert(conn, incarnation);
        if reads {
            said.extend(self.store(&id, now_ms, 0));
        }
        said.push((conn, request, Answer::Done(Done {})));
        said
    }

    fn subscribe(&mut self, conn: ConnId, request: u64, subscribe: &Subscribe, now_ms: u64) -> Vec<Said> {
        let ids: Vec<_> = subscribe.mailboxes.iter().filter_map(|id| MailboxId::from_slice(id).ok()).collect();
        if !ids.iter().all(|id| self.holds(conn, id)) {
            return vec![(conn, request, refused(Code::Denied))];
        }
        let mut said = Vec::new();
        let mut numbers = Vec::new();
        for id in &ids {
            // Another reader's unconfirmed envelopes are stored, as if its connection were gone.
            said.extend(self.store(id, now_ms, 0));
            let Some(held) = self.conns.get_mut(&conn) else { continue };
            held.subscriptions += 1;
            numbers.push(held.subscriptions);
            let reader =
                Reader { conn, subscription: held.subscriptions, number: 0, cursor: 0, unconfirmed: VecDeque::new() };
            self.volatile.entry(*id).or_default().reader = Some(reader);
        }
        said.push((conn, request, Answer::Subscribed(Subscribed { subscriptions: numbers.clone() })));
        for (id, subscription) in ids.iter().zip(numbers) {
            said.extend(self.deliver(id));
            said.push((conn, 0, Answer::CaughtUp(CaughtUp { subscription })));
        }
        said
    }

    /// Delivers what its reader has not been given.
    fn deliver(&mut self, id: &MailboxId) -> Vec<Said> {
        let Some(mailbox) = self.durable.mailboxes.get(id) else { return Vec::new() };
        let Some(reader) = self.volatile.get_mut(id).and_then(|v| v.reader.as_mut()) else { return Vec::new() };
        let mut said = Vec::new();
        let announced: u64 =
            reader.unconfirmed.iter().map(|(_, what)| if let What::Gap(n) = what { *n } else { 0 }).sum();
        if mailbox.gap > announced {
            reader.number += 1;
            let (subscription, number, envelopes) = (reader.subscription, reader.number, mailbox.gap - announced);
            reader.unconfirmed.push_back((number, What::Gap(envelopes)));
            said.push((reader.conn, 0, Answer::Gap(Gap { subscription, number, envelopes })));
        }
        for (order, row) in mailbox.rows.range(reader.cursor..) {
            reader.number += 1;
            reader.cursor = order + 1;
            reader.unconfirmed.push_back((reader.number, What::Row(*order)));
            let deliver = Deliver {
                subscription: reader.subscription,
                number: reader.number,
                tag: row.tag.to_vec(),
                class: row.class.to_wire() as i32,
                envelope: row.envelope.clone(),
            };
            said.push((reader.conn, 0, Answer::Deliver(deliver)));
        }
        said
    }

    fn ack(&mut self, conn: ConnId, subscription: u64, through: u64, now_ms: u64) -> Vec<Said> {
        let mut said = Vec::new();
        for (id, mailbox) in &mut self.durable.mailboxes {
            let Some(volatile) = self.volatile.get_mut(id) else { continue };
            let Some(reader) = volatile.reader.as_mut() else { continue };
            if reader.conn != conn || reader.subscription != subscription {
                continue;
            }
            while reader.unconfirmed.front().is_some_and(|(number, _)| *number <= through) {
                match reader.unconfirmed.pop_front() {
                    Some((_, What::Gap(n))) => mailbox.gap = mailbox.gap.saturating_sub(n),
                    Some((_, What::Row(order))) => {
                        let Some(row) = mailbox.rows.remove(&order) else { continue };
                        self.oldest_read_ms = self.oldest_read_ms.max(now_ms.saturating_sub(row.came_ms));
                        volatile.accepted.insert(row.key, now_ms);
                        for (to, request) in volatile.waiting.remove(&row.key).unwrap_or_default() {
                            said.push((to, request, Answer::Accepted(Accepted {})));
                        }
                    }
                    None => break,
                }
            }
        }
        said
    }

    fn send(
        &mut self,
        conn: ConnId,
        request: u64,
        challenge: &Challenge,
        send: &Send,
        now_ms: u64,
        hands_over: bool,
    ) -> Vec<Said> {
        self.seen.extend(&send.envelope);
        let one = |answer| vec![(conn, request, answer)];
        let Some(permit) = send.permit.as_ref().and_then(|p| Permit::from_frame(p).ok()) else {
            return one(refused(Code::Malformed));
        };
        let Ok(id) = SendId::from_slice(&send.send_id) else { return one(refused(Code::Malformed)) };
        let Some(mailbox) = self.durable.mailboxes.get_mut(&permit.mailbox) else { return one(refused(Code::Refused)) };
        let mac = mailbox.root.grant_key(&permit.grant).mac(&permit);
        if !mac.verify(&self.name, &id, &send.envelope, &send.proof) || !permit.is_valid_at(now_ms / 1000) {
            return one(refused(Code::Refused));
        }
        if send.envelope.len() > usize::from(permit.max_kib) * 1024 {
            return one(refused(Code::TooLarge));
        }
        if permit.class == Class::Contact
            && !Task::contact(challenge, &permit.mailbox, &send.envelope).accepts(send.work_nonce, WORK_BITS)
        {
            return one(refused(Code::Work));
        }
        let key = (permit.grant, id);
        let volatile = self.volatile.entry(permit.mailbox).or_default();
        let memory = u64::try_from(SEND_ID_MEMORY.as_millis()).unwrap_or(u64::MAX);
        if volatile.accepted.get(&key).is_some_and(|at| now_ms < at + memory) {
            return one(Answer::Accepted(Accepted {}));
        }
        if let Some(waiting) = volatile.waiting.get_mut(&key) {
            waiting.push((conn, request));
            return Vec::new();
        }
        volatile.waiting.insert(key, vec![(conn, request)]);
        self.stored += 1;
        if self.sabotage == Some(RelaySabotage::LosesAccepted) && self.stored.is_multiple_of(13) {
            return self.accept(&permit.mailbox, key, now_ms);
        }
        let live = volatile.reader.is_some() && hands_over;
        let row = Row {
            key,
            tag: *permit.tag.as_bytes(),
            class: permit.class,
            envelope: send.envelope.clone(),
            came_ms: now_ms,
            stored: false,
        };
        mailbox.rows.insert(mailbox.next, row);
        mailbox.next += 1;
        let mut said = if live { Vec::new() } else { self.store(&permit.mailbox, now_ms, 0) };
        said.extend(self.deliver(&permit.mailbox));
        said
    }

    fn claim(&mut self, challenge: &Challenge, claim: ClaimSlot, now_ms: u64) -> Answer {
        self.seen.extend(&claim.commit);
        let Ok(slot) = SlotId::from_slice(&claim.slot) else { return refused(Code::Malformed) };
        if !Task::slot(challenge, &slot, &claim.commit).accepts(claim.work_nonce, WORK_BITS) {
            return refused(Code::Work);
        }
        let (stands, _) = self.durable.slots.entry(slot).or_insert((claim.commit.clone(), now_ms));
        let won = *stands == claim.commit;
        let winner = if won { Bytes::new() } else { stands.clone() };
        Answer::SlotClaimed(SlotClaimed { won, winner })
    }
}
