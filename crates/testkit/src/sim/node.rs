//! An endpoint in a run: a folder, and maybe the engine that works on it. It does what `bulla_client::endpoint` does, without threads, and it
//! can be killed, have its store fail, and be copied at any commit.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use bulla_client::engine::record::{ConversationRecord, EndpointRecord, MemberRecord, MessageRecord, OutboxRecord};
use bulla_client::engine::{Command, Ctx, Effects, Engine, Input, LinkKey, NoProjector, RoleOptions};
use bulla_client::event::{ConversationId, ConversationState, Direction, Event, Status};
use bulla_client::store::tx::{Rng, Tx};
use bulla_client::store::vault::{RootKey, Vault};
use bulla_client::store::{StoreError, Table};
use bulla_e2ee::content::{Body, Content};
use bulla_e2ee::seals::{self, Seal};
use bulla_e2ee::suite::Suites;
use bulla_protocol::frame::ServerHello;
use bulla_protocol::id::MailboxId;

use super::relay::ConnId;
use crate::chance::Chance;
use crate::memory_store::Disk;

/// A folder: what a backup holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Folder {
    pub(super) disk: Disk,
    /// What a person was shown out of it: ids of others' messages.
    pub(super) shown: BTreeSet<[u8; 32]>,
    /// When the other side of each conversation was last shown here, and when it had said that, Unix ms.
    pub(super) heard_ms: BTreeMap<u64, (u64, u64)>,
}

/// Something that waits for the engine.
pub(super) enum Waits {
    /// A connection that said hello.
    Up(LinkKey, ServerHello, ConnId),
    /// A connection that is lost, or was not to be had.
    Down(LinkKey, u64),
    /// Anything else.
    Input(Input),
}

/// A connection as the driver sees it.
#[derive(Debug, Default, Clone)]
pub(super) struct Link {
    /// The connection that takes frames now.
    pub(super) conn: Option<ConnId>,
    /// The next pause between tries.
    pub(super) pause_ms: u64,
}

/// What becomes of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is durable.
    Done,
    /// The store fails; nothing of it happened.
    Fails,
    /// The process dies before it.
    DiesBefore,
    /// The process dies right after it: what should have followed does not.
    DiesAfter,
    /// Sabotage: the store fails, and what should have followed a success is done all the same.
    FailsUnnoticed,
}

/// How a pass over the inbox ended.
pub(super) enum Passed {
    /// What may leave now.
    Released(Effects),
    /// The store failed and the engine was loaded again: all connections are closed, then this may leave.
    Reloaded(Effects),
    /// As [`Passed::Reloaded`], after effects of what did not become durable: sabotage.
    ReloadedTooLate(Box<(Effects, Effects)>),
    /// The process is gone.
    Died,
}

/// What an envelope on its way carries, by what its sender stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// The message in it, if it is one.
    pub(super) message: Option<[u8; 32]>,
    /// Envelope kind; none for a Hello.
    pub(super) kind: Option<u8>,
    /// The mailbox it goes to.
    pub(super) to: Option<MailboxId>,
}

/// A message in a folder.
pub(super) struct Kept {
    pub(super) text: String,
    pub(super) id: [u8; 32],
    /// It was said out of this folder, or one that this is a copy of.
    pub(super) is_own: bool,
    pub(super) status: Status,
}

/// An endpoint.
pub(super) struct Node {
    pub(super) name: String,
    /// Which device it is.
    pub(super) device: usize,
    role: RoleOptions,
    /// What the program speaks that is started next.
    pub(super) suites: Suites,
    pub(super) folder: Folder,
    vault: Vault,
    rng: RefCell<Rng>,
    pub(super) engine: Option<Engine>,
    /// Counts starts: what belongs to an earlier one is nobody's.
    pub(super) run: u64,
    pub(super) links: BTreeMap<(String, bool), Link>,
    pub(super) inbox: VecDeque<Waits>,
    /// Whether it has a network.
    pub(super) reachable: bool,
    /// What it has sealed, as far as that is durable: what may have left.
    pub(super) seals: Vec<Seal>,
    /// A step failed on a store that did not: never right.
    pub(super) failed: Option<String>,
}

pub(super) fn link_of(key: &LinkKey) -> (String, bool) {
    (key.url.clone(), key.owner)
}

impl Node {
    pub(super) fn new(name: String, device: usize, role: RoleOptions, folder: Folder, seed: u64) -> Self {
        let root = RootKey::new([u8::try_from(device % 250).unwrap_or(0) + 1; 32]);
        Self {
            name,
            device,
            role,
            suites: Suites::DEFAULT,
            folder,
            vault: Vault::new(root),
            rng: RefCell::new(Box::new(Chance::new(seed))),
            engine: None,
            run: 0,
            links: BTreeMap::new(),
            inbox: VecDeque::new(),
            reachable: true,
            seals: Vec::new(),
            failed: None,
        }
    }

    /// Starts the engine; what may leave at once.
    pub(super) fn start(&mut self, restored: bool, now_ms: u64) -> Effects {
        self.run += 1;
        self.links.clear();
        self.inbox.clear();
        self.vault.forget();
        let (role, suites) = (self.role.clone(), self.suites);
        match self.transact(now_ms, |ctx| Engine::start(role, suites, restored, ctx)) {
            Ok((engine, effects, batch)) => {
                self.make_durable(batch);
                self.engine = Some(engine);
                effects
            }
            Err(e) => {
                self.failed = Some(format!("it does not start: {e}"));
                Effects::default()
            }
        }
    }

    /// Kills it.
    pub(super) fn kill(&mut self) {
        self.engine = None;
        self.links.clear();
        self.inbox.clear();
    }

    /// When it wants to be woken.
    pub(super) fn wake_at(&self) -> Option<u64> {
        self.engine.as_ref().and_then(Engine::wake_at)
    }

    /// The next batch of what waits. A connection that comes or goes is one of its own: frames decided before belong to the old one.
    pub(super) fn batch(&mut self, most: usize) -> Vec<Input> {
        let mut inputs = Vec::new();
        while inputs.len() < most {
            let changes = matches!(self.inbox.front(), Some(Waits::Up(..) | Waits::Down(..)));
            if changes && !inputs.is_empty() {
                break;
            }
            match self.inbox.pop_front() {
                Some(Waits::Up(key, hello, conn)) => {
                    self.links.entry(link_of(&key)).or_default().conn = Some(conn);
                    inputs.push(Input::Up(key, hello));
                }
                Some(Waits::Down(key, pause)) => {
                    self.links.entry(link_of(&key)).or_default().conn = None;
                    inputs.push(Input::Down(key, pause));
                }
                Some(Waits::Input(input)) => inputs.push(input),
                None => break,
            }
            if changes {
                break;
            }
        }
        inputs
    }

    /// Steps, commit, effects.
    pub(super) fn pass(&mut self, inputs: Vec<Input>, fate: Fate, now_ms: u64) -> Passed {
        let Some(mut engine) = self.engine.take() else { return Passed::Died };
        let stepped = self.transact(now_ms, |ctx| {
            inputs.into_iter().try_for_each(|input| engine.step(ctx, input))?;
            engine.finish(ctx);
            Ok(())
        });
        let (effects, batch) = match (stepped, fate) {
            (_, Fate::DiesBefore) => return Passed::Died,
            (Ok(((), effects, batch)), Fate::Done) => {
                self.make_durable(batch);
                self.engine = Some(engine);
                return Passed::Released(effects);
            }
            (Ok(((), _, batch)), Fate::DiesAfter) => {
                self.make_durable(batch);
                return Passed::Died;
            }
            (Ok(((), effects, _)), Fate::FailsUnnoticed) => {
                self.seals.extend(seals::take());
                (Some(effects), Ok(()))
            }
            (Ok(_), _) => (None, Ok(())),
            (Err(e), _) => (None, Err(e)),
        };
        if let Err(e) = batch {
            self.failed = Some(format!("a step failed: {e}"));
        }
        self.vault.forget();
        let reloaded = self.transact(now_ms, |ctx| engine.reload(ctx));
        match reloaded {
            Ok(((), again, batch)) => {
                self.make_durable(batch);
                self.engine = Some(engine);
                match effects {
                    Some(early) => Passed::ReloadedTooLate(Box::new((early, again))),
                    None => Passed::Reloaded(again),
                }
            }
            Err(e) => {
                self.failed = Some(format!("it cannot be loaded again: {e}"));
                Passed::Died
            }
        }
    }

    fn make_durable(&mut self, batch: bulla_client::store::Batch) {
        self.folder.disk.apply(batch);
        self.seals.extend(seals::take());
    }

    fn transact<R>(
        &self,
        now_ms: u64,
        f: impl FnOnce(&mut Ctx<'_, '_>) -> Result<R, StoreError>,
    ) -> Result<(R, Effects, bulla_client::store::Batch), StoreError> {
        drop(seals::take());
        let mut out = Effects::default();
        let mut tx = Tx::new(&self.folder.disk, &self.vault, &self.rng, now_ms);
        let mut projector = NoProjector;
        let mut ctx = Ctx { tx: &mut tx, out: &mut out, projector: &mut projector };
        let result = f(&mut ctx)?;
        let batch = tx.into_batch()?;
        Ok((result, out, batch))
    }

    /// Looks into the engine and its store; changes nothing.
    pub(super) fn look<R>(&mut self, now_ms: u64, f: impl FnOnce(&mut Engine, &mut Ctx<'_, '_>) -> R) -> Option<R> {
        let mut engine = self.engine.take()?;
        let result = self.transact(now_ms, |ctx| Ok(f(&mut engine, ctx)));
        self.engine = Some(engine);
        result.ok().map(|(result, ..)| result)
    }

    /// Changes its store beside the engine, as a program that went wrong might have: in a batch of its own.
    pub(super) fn rewrite(&mut self, now_ms: u64, f: impl FnOnce(&mut Tx<'_>) -> Result<(), StoreError>) {
        if let Ok(((), _, batch)) = self.transact(now_ms, |ctx| f(ctx.tx)) {
            self.make_durable(batch);
        }
    }

    fn tx(&self) -> Tx<'_> {
        Tx::new(&self.folder.disk, &self.vault, &self.rng, 0)
    }

    /// What the envelope under this send id carries.
    pub(super) fn load(&self, send_id: &[u8]) -> Option<Load> {
        let tx = self.tx();
        let rows = tx.scan_prefix::<OutboxRecord>(Table::Outbox, b"").ok()?;
        let found = rows.into_iter().find_map(|(_, entry)| {
            let sealed = entry.sealed.filter(|s| s.send_id.as_slice() == send_id)?;
            Some((entry.message, sealed.kind))
        });
        let (place, kind) = found?;
        let message = place.and_then(|place| {
            let key = [place.conversation.to_be_bytes(), place.order.to_be_bytes()].concat();
            Some(*tx.get::<MessageRecord>(Table::Messages, &key).ok()??.id)
        });
        Some(Load { message, kind, to: None })
    }

    /// The mailbox's incarnation as this folder has it.
    pub(super) fn incarnation(folder: &Folder, device: usize) -> u64 {
        let node = Self::new(String::new(), device, RoleOptions::Customer, folder.clone(), 0);
        node.tx().get::<EndpointRecord>(Table::Meta, b"endpoint").ok().flatten().map_or(0, |e| e.incarnation)
    }

    /// What a conversation is, as the folder has it.
    pub(super) fn record(&self, conversation: ConversationId) -> Option<ConversationRecord> {
        self.tx().get(Table::Conversations, &conversation.0.to_be_bytes()).ok()?
    }

    /// The folder's only conversation, and how far it is: a customer's.
    pub(super) fn only_conversation(&self) -> Option<(ConversationId, ConversationState)> {
        let rows = self.tx().scan_prefix::<ConversationRecord>(Table::Conversations, b"").ok()?;
        let (key, record) = rows.into_iter().last()?;
        Some((ConversationId(u64::from_be_bytes(*key.first_chunk()?)), record.state))
    }

    /// The customer's devices that this endpoint has in a conversation's group (`true`), and those of which it knows that they were removed.
    pub(super) fn knows(&self, conversation: ConversationId) -> Vec<(String, bool)> {
        let rows = self.tx().scan_prefix::<MemberRecord>(Table::Members, &conversation.0.to_be_bytes());
        let own_side = matches!(self.role, RoleOptions::Customer);
        let counts = |m: &MemberRecord| m.own_side == own_side && (!m.out || m.leaving);
        let all = rows.unwrap_or_default().into_iter().map(|(_, m)| m).filter(counts);
        all.map(|m| (m.endpoint, !m.leaving)).collect()
    }

    /// A conversation's messages as the folder has them, in its order.
    pub(super) fn messages(&self, conversation: ConversationId) -> Vec<Kept> {
        let tx = self.tx();
        let rows = tx.scan_prefix::<MessageRecord>(Table::Messages, &conversation.0.to_be_bytes());
        let content = |key: &[u8]| tx.get_bytes(Table::Contents, key).ok().flatten().unwrap_or_default();
        let kept = |(key, m): (Vec<u8>, MessageRecord)| Kept {
            text: match Content::decode(&content(&key)).map(|content| content.body) {
                Ok(Body::Text { body, .. }) => body,
                other => format!("{other:?}"),
            },
            id: *m.id,
            is_own: m.direction == Direction::Outgoing && m.by.is_none(),
            status: m.status,
        };
        rows.unwrap_or_default().into_iter().map(kept).collect()
    }

    /// Ids of the messages of all conversations that failed.
    pub(super) fn failed_messages(&self) -> Vec<[u8; 32]> {
        let rows = self.tx().scan_prefix::<MessageRecord>(Table::Messages, b"").unwrap_or_default();
        rows.into_iter().filter(|(_, m)| m.status == Status::Failed).map(|(_, m)| *m.id).collect()
    }

    /// The endpoint's mailboxes.
    pub(super) fn mailboxes(&self) -> Vec<MailboxId> {
        use bulla_client::store::{Order, Read as _};
        let rows = self.folder.disk.scan(Table::Mailboxes, &[], None, Order::Ascending, 64).unwrap_or_default();
        rows.iter().filter_map(|(key, _)| MailboxId::from_slice(key).ok()).collect()
    }

    /// Notes what a person sees of an event. Somebody else's message that was seen before is a breach.
    pub(super) fn notes(&mut self, event: &Event) -> Option<String> {
        let Event::Message(message) = event else { return None };
        if message.direction == Direction::Incoming {
            self.heard(message);
        } else if message.by.is_none() {
            return None;
        }
        let again = !self.folder.shown.insert(*message.id.as_bytes());
        again.then(|| format!("I2 twice: {} told of {:?} again", self.name, message.shown))
    }

    fn heard(&mut self, message: &bulla_client::event::Message) {
        self.folder.heard_ms.insert(message.conversation.0, (message.stored_ms, message.sent_ms));
    }
}

/// A command whose answer is put into a cell once it is durable.
pub(super) fn command<R: Send + 'static>(
    f: impl FnOnce(&mut Engine, &mut Ctx<'_, '_>) -> R + Send + 'static,
) -> (Command, Arc<Mutex<Option<R>>>) {
    let cell = Arc::new(Mutex::new(None));
    let tell = Arc::clone(&cell);
    let command: Command = Box::new(move |engine, ctx| {
        let result = f(engine, ctx);
        Ok(Box::new(move || drop(tell.lock().map(|mut cell| *cell = Some(result)))))
    });
    (command, cell)
}
