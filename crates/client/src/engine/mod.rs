//! The state machine of an endpoint: inputs in, one transaction and a list of effects out. No I/O, no clock, no await.
//!
//! The driver ([`crate::endpoint`]) gathers inputs, runs [`Engine::step`] for each over one [`Tx`], commits, and only then lets the
//! effects go: frames (acknowledgements among them), answers to commands, events. If the commit fails, effects and engine are thrown away and the
//! engine is loaded again from what is durable; the relay delivers again what was not acknowledged.
//!
//! - [`links`]: connections, mailboxes, subscriptions
//! - [`business`]: identity, bundles, Hellos that come in; [`customer`]: Hellos that go out
//! - [`mls`]: the groups' state; [`commits`]: how it moves on; [`group`]: how it begins again when it cannot; [`continues`]: what is said of
//!   that, and whose word stands; [`spares`]: the KeyPackages for it; [`suites`]: in which suite
//! - [`inbox`]: what a delivered envelope changes
//! - [`outbox`]: intents, sealing, handing to the members; [`lanes`]: where all that lies; [`sending`]: one envelope and its answer
//! - [`members`]: the other endpoints of a conversation; [`devices`]: a customer's own further ones
//! - [`recovery`]: a customer who comes back on another device; [`history`]: what was said before that
//! - [`permits`]: giving and taking rights to write
//! - [`uploads`]: files that wait to be uploaded
//! - [`messages`]: storing and showing messages, statuses, receipts
//! - [`commands`]: what programs ask for
//! - [`record`]: what is stored

mod business;
pub mod commands;
mod commits;
mod consent;
mod continues;
mod customer;
mod devices;
mod group;
mod history;
mod inbox;
mod lanes;
mod links;
mod members;
mod messages;
mod mls;
mod outbox;
mod permits;
pub mod record;
mod recovery;
mod sending;
mod spares;
mod suites;
pub(crate) mod uploads;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bulla_e2ee::content::PUSH_KEY;
use bulla_e2ee::conversation::Conversation as Mls;
use bulla_e2ee::suite::Suites;
use bulla_e2ee::tag::TagKey;
use bulla_protocol::frame::server_frame;
use bulla_protocol::id::{BlobId, Incarnation, IncarnationNonce, MailboxId};
use bulla_protocol::work::Task;
use bytes::Bytes;

use crate::event::{Connection, Event};
use crate::store::tx::Tx;
use crate::store::vault::Scope;
use crate::store::{StoreError, Table};
use record::{ConversationRecord, EndpointRecord};

pub use customer::Begin;
pub(crate) use customer::look;
pub use links::{Link, LinkKey};

/// Conversations kept loaded; with more, all are dropped and loaded again when needed.
const LOADED_CONVERSATIONS: usize = 1_000;

/// How often old keys and late messages are looked for.
const SWEEP_MS: u64 = 600_000;

/// What kind of endpoint it is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum RoleOptions {
    /// A customer's device.
    Customer,
    /// A business's gateway.
    Business(BusinessOptions),
}

/// Who the business is, for its bundle.
#[derive(Debug, Clone)]
pub struct BusinessOptions {
    /// Handle, as in `https://shop.example/@handle`.
    pub handle: String,
    /// Name that people read.
    pub name: String,
    /// URL of the relay that holds its mailbox.
    pub relay_url: String,
    /// Everyone who can read: name, role.
    pub readers: Vec<(String, String)>,
    /// How long after a customer's message free text may be sent (24 h).
    pub window_ms: u64,
    /// The key under which its program sends pushes (RFC 8292), as customers are told it. Without one it is given no subscriptions.
    pub push_key: Option<[u8; PUSH_KEY]>,
}

/// Hears of every event inside the transaction that makes it durable. What it writes commits with the event, or not at all.
pub trait Projector: Send {
    /// Adds the program's own changes to the event's transaction.
    fn project(&mut self, event: &Event, tx: &mut Tx<'_>) -> Result<(), StoreError>;
}

/// Adds nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProjector;

impl Projector for NoProjector {
    fn project(&mut self, _: &Event, _: &mut Tx<'_>) -> Result<(), StoreError> {
        Ok(())
    }
}

/// What happens to an engine.
pub enum Input {
    /// A link is connected and said hello.
    Up(LinkKey, bulla_protocol::frame::ServerHello),
    /// A link is lost; the driver tries again after so many milliseconds.
    Down(LinkKey, u64),
    /// A frame came.
    Frame(LinkKey, u64, server_frame::Body),
    /// A proof of work was found.
    Work(WorkFor, u64),
    /// A bundle was fetched for a conversation.
    Fetched(u64, Vec<u8>),
    /// A program asks.
    Command(Command),
    /// Time has passed.
    Tick,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Up(key, _) => write!(f, "Up({key:?})"),
            Self::Down(key, _) => write!(f, "Down({key:?})"),
            Self::Frame(key, request, _) => write!(f, "Frame({key:?}, {request})"),
            Self::Work(what, _) => write!(f, "Work({what:?})"),
            Self::Fetched(number, _) => write!(f, "Fetched({number})"),
            Self::Command(_) => f.write_str("Command"),
            Self::Tick => f.write_str("Tick"),
        }
    }
}

/// A program's request, run inside the step; its answer is given after the commit.
pub type Command = Box<dyn FnOnce(&mut Engine, &mut Ctx<'_, '_>) -> Result<Reply, StoreError> + Send>;

/// Hands a command's answer over, once durable. Dropped if the commit failed.
pub type Reply = Box<dyn FnOnce() + Send>;

/// What a proof of work is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WorkFor {
    /// Making this mailbox, on this connection's challenge.
    Mailbox(MailboxId, [u8; 32]),
    /// The head of this conversation's lane, on this connection's challenge.
    Contact(u64, [u8; 32]),
    /// Claiming a slot for this conversation's commit, on this connection's challenge.
    Slot(u64, [u8; 32]),
}

/// What has to be done once the batch is durable.
#[derive(Default)]
pub struct Effects {
    /// Keep these links connected.
    pub connect: Vec<LinkKey>,
    /// Give these up for good.
    pub disconnect: Vec<LinkKey>,
    /// Frames to send, per link in order.
    pub frames: Vec<(LinkKey, Bytes)>,
    /// Proofs of work to search.
    pub work: Vec<(WorkFor, Task, u32)>,
    /// Bundles to fetch: for which conversation, from where.
    pub fetch: Vec<(u64, String)>,
    /// Files to upload, if they are not on their way.
    pub uploads: Vec<BlobId>,
    /// Files that are not wanted any more.
    pub forgotten: Vec<uploads::Forgotten>,
    /// Events to tell.
    pub events: Vec<Event>,
    /// Answers to give.
    pub replies: Vec<Reply>,
}

impl std::fmt::Debug for Effects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Effects({} frames, {} events, {} replies)", self.frames.len(), self.events.len(), self.replies.len())
    }
}

/// What a step works with.
pub struct Ctx<'a, 't> {
    /// The transaction.
    pub tx: &'a mut Tx<'t>,
    /// The effects.
    pub out: &'a mut Effects,
    /// The program above.
    pub projector: &'a mut dyn Projector,
}

impl std::fmt::Debug for Ctx<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ctx")
    }
}

impl Ctx<'_, '_> {
    fn emit(&mut self, event: Event) -> Result<(), StoreError> {
        self.projector.project(&event, self.tx)?;
        self.out.events.push(event);
        Ok(())
    }
}

/// Something that is due at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Receipts of a conversation.
    Receipts(u64),
    /// A lane's next try.
    Lane(lanes::LaneId),
    /// Renew the bundle, drop old keys, fail what got no receipt.
    Sweep,
    /// Ping the links.
    Ping,
    /// Claims and reads of slots that wait.
    Commits,
    /// Conversations that begin again.
    Reform,
    /// Held messages of an unknown group.
    Foreign(u64),
    /// A conversation begins again in a better suite.
    Newer(u64),
}

/// The state machine.
pub struct Engine {
    role: RoleOptions,
    suites: Suites,
    endpoint: EndpointRecord,
    tag_key: TagKey,
    incarnation: Incarnation,
    links: HashMap<LinkKey, Link>,
    mailboxes: HashMap<MailboxId, links::Mailbox>,
    subscriptions: HashMap<(LinkKey, u64), MailboxId>,
    lanes: BTreeMap<lanes::LaneId, lanes::Lane>,
    loaded: HashMap<u64, Mls>,
    timers: BTreeSet<(u64, Timer)>,
    wanted: commits::Wanted,
    to_reform: BTreeSet<u64>,
    /// Spares that were used, by when and key: erased an hour later.
    spent: BTreeSet<(u64, Vec<u8>)>,
    /// Conversations that begin again, and when that is as if they never had, Unix ms.
    begun: HashMap<u64, u64>,
    /// Conversations that we began again and in which the other side was heard elsewhere, and since when, Unix ms.
    doubted: HashMap<u64, u64>,
    /// Conversations that could be in a better suite, and since when, Unix ms.
    newer: HashMap<u64, u64>,
    /// Conversations whose devices that it goes on without were told so, and when, Unix ms.
    told_away: HashMap<u64, u64>,
    /// Pages of history given in a conversation, and since when they are counted, Unix ms.
    paged: HashMap<u64, (u64, u32)>,
    superseded: bool,
    /// The lease was held in this run: whoever takes it now is another copy, and newer.
    held: bool,
    /// Something was sealed since the incarnation was last raised.
    sealed: bool,
    /// Envelopes that made a step fail, by digest, and how often.
    poison: HashMap<[u8; 32], u8>,
    told: Option<Connection>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({} links, {} lanes)", self.links.len(), self.lanes.len())
    }
}

impl Engine {
    /// Raises the incarnation (in `tx`: commit before any frame leaves) and loads what has to be at hand.
    /// It speaks `suites`. With `restored`, nothing of the groups in it is used any more.
    pub fn start(role: RoleOptions, suites: Suites, restored: bool, ctx: &mut Ctx<'_, '_>) -> Result<Self, StoreError> {
        let tx = &mut *ctx.tx;
        let mut endpoint = match tx.get::<EndpointRecord>(Table::Meta, b"endpoint")? {
            Some(record) => record,
            None => EndpointRecord {
                incarnation: 0,
                nonce: [0; 16].into(),
                tag_key: record::Secret(tx.random()),
                next_conversation: 1,
                next_peer: 1,
                next_grant: 1,
                identity: None,
                bundle: 0,
                contact_grant: None,
                granted: None,
                code: None,
            },
        };
        if endpoint.granted != Some(false) {
            endpoint.incarnation += 1;
        }
        endpoint.granted = Some(false);
        endpoint.nonce = tx.random::<16>().into();
        let mut engine = Self::over(role, suites, endpoint);
        if matches!(engine.role, RoleOptions::Business(_)) {
            engine.start_business(ctx)?;
        }
        engine.save_endpoint(ctx)?;
        if restored {
            engine.break_all(ctx)?;
        }
        engine.load(ctx)?;
        Ok(engine)
    }

    /// Loads again after a failed commit, with the same incarnation.
    pub fn reload(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        let missing = damaged(Table::Meta);
        let endpoint = ctx.tx.get::<EndpointRecord>(Table::Meta, b"endpoint")?.ok_or(missing)?;
        let (superseded, held, poison) = (self.superseded, self.held, std::mem::take(&mut self.poison));
        *self = Self::over(self.role.clone(), self.suites, endpoint);
        (self.superseded, self.held, self.poison) = (superseded, held, poison);
        self.load(ctx)
    }

    fn over(role: RoleOptions, suites: Suites, endpoint: EndpointRecord) -> Self {
        Self {
            role,
            suites,
            tag_key: TagKey::from_bytes(endpoint.tag_key.0),
            incarnation: Incarnation { number: endpoint.incarnation, nonce: IncarnationNonce::new(*endpoint.nonce) },
            endpoint,
            links: HashMap::new(),
            mailboxes: HashMap::new(),
            subscriptions: HashMap::new(),
            lanes: BTreeMap::new(),
            loaded: HashMap::new(),
            timers: BTreeSet::new(),
            wanted: commits::Wanted::default(),
            to_reform: BTreeSet::new(),
            spent: BTreeSet::new(),
            begun: HashMap::new(),
            doubted: HashMap::new(),
            newer: HashMap::new(),
            told_away: HashMap::new(),
            paged: HashMap::new(),
            superseded: false,
            held: false,
            sealed: false,
            poison: HashMap::new(),
            told: None,
        }
    }

    fn load(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        let now = ctx.tx.now_ms();
        self.load_mailboxes(ctx)?;
        self.load_commits(ctx)?;
        self.load_broken(ctx)?;
        self.load_spent(ctx)?;
        self.load_lanes(ctx)?;
        self.load_uploads(ctx)?;
        self.timers.insert((now, Timer::Sweep));
        Ok(())
    }

    fn save_endpoint(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        ctx.tx.put(Table::Meta, b"endpoint", Scope::Endpoint, &self.endpoint)
    }

    /// When [`Input::Tick`] is wanted next, Unix ms.
    #[must_use]
    pub fn wake_at(&self) -> Option<u64> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Whether another copy of this endpoint's data holds its mailbox.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        self.superseded
    }

    /// Handles one input.
    pub fn step(&mut self, ctx: &mut Ctx<'_, '_>, input: Input) -> Result<(), StoreError> {
        match input {
            Input::Up(key, hello) => self.link_up(ctx, key, hello)?,
            Input::Down(key, retry_in_ms) => self.link_down(ctx, &key, retry_in_ms)?,
            Input::Frame(key, request, body) => self.frame(ctx, &key, request, body)?,
            Input::Work(what, nonce) => self.work_done(ctx, what, nonce)?,
            Input::Fetched(number, bundle) => self.fetched(ctx, number, &bundle)?,
            Input::Command(command) => {
                let reply = command(self, ctx)?;
                ctx.out.replies.push(reply);
            }
            Input::Tick => self.tick(ctx)?,
        }
        Ok(())
    }

    /// Ends a batch of steps: acknowledges what it made durable.
    pub fn finish(&mut self, ctx: &mut Ctx<'_, '_>) {
        self.acknowledge(ctx.out);
    }

    fn tick(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        let now = ctx.tx.now_ms();
        while let Some(&(at, timer)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            match timer {
                Timer::Receipts(conversation) => self.pump(ctx, conversation)?,
                Timer::Lane(lane) => {
                    if let Some(state) = self.lanes.get_mut(&lane) {
                        state.waits_until = None;
                    }
                    self.pump(ctx, lane.conversation)?;
                }
                Timer::Sweep => {
                    self.sweep(ctx)?;
                    self.timers.insert((now + SWEEP_MS, Timer::Sweep));
                }
                Timer::Ping => self.ping(ctx),
                Timer::Commits => self.pump_commits(ctx)?,
                Timer::Reform => self.reform_some(ctx)?,
                Timer::Foreign(conversation) if self.wanted.foreign.remove(&conversation) => {
                    self.foreign_stayed(ctx, conversation)?;
                }
                Timer::Foreign(_) => {}
                Timer::Newer(conversation) => self.newer_due(ctx, conversation)?,
            }
        }
        Ok(())
    }

    fn sweep(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        self.fail_unreceipted(ctx)?;
        Self::bound_unreadable(ctx)?;
        self.raise_lease(ctx)?;
        self.erase_spent(ctx);
        self.renew_bundle(ctx)
    }

    fn conversation_record(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<ConversationRecord, StoreError> {
        ctx.tx.get(Table::Conversations, &number.to_be_bytes())?.ok_or(damaged(Table::Conversations))
    }

    fn save_conversation(
        &self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &ConversationRecord,
    ) -> Result<(), StoreError> {
        ctx.tx.put(Table::Conversations, &number.to_be_bytes(), Scope::Peer(record.peer), record)
    }

    /// Tells the connection's state if it changed.
    fn tell_connection(&mut self, ctx: &mut Ctx<'_, '_>, now: Connection) -> Result<(), StoreError> {
        if self.told == Some(now) {
            return Ok(());
        }
        self.told = Some(now);
        ctx.emit(Event::Connection(now))
    }
}

/// A stored value that this version did not write, or that is missing where it must be.
fn damaged(table: Table) -> StoreError {
    StoreError::Format { table }
}
