//! An endpoint at work: the handle that programs hold, and the driver that runs the engine on a thread of its own.
//!
//! The thread blocks for the fsync of each commit and for nothing else; while it does, inputs gather and become the next batch, so that
//! a busy endpoint commits many changes at once (group commit) and an idle one commits at once.

mod files;
mod link;
mod media;
mod transfer;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bulla_e2ee::content::{MessageId, PushSubscription};
use bulla_e2ee::identity::{IdentityHash, UserId};
use bulla_e2ee::link::Link;
use bulla_e2ee::recovery::RecoveryCode;
use bulla_e2ee::suite::{Suite, Suites};
use bulla_e2ee::tag::Purpose;
use bulla_protocol::id::BlobId;
use bulla_protocol::work::Task;
use bytes::Bytes;
use rand_core::OsRng;
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

use crate::clock::Clock;
pub use crate::engine::commands::CommandError;
use crate::engine::uploads::Forgotten;
pub use crate::engine::{Begin, BusinessOptions, NoProjector, Projector, RoleOptions};
use crate::engine::{Command, Ctx, Effects, Engine, Input, LinkKey, WorkFor};
use crate::event::{BusinessCard, Conversation, ConversationId, Draft, Event, LinkCard, Message, OwnDevice, Past};
use crate::rt;
use crate::store::parts::Parts;
use crate::store::tx::{Rng, Tx};
use crate::store::vault::{RootKey, Vault};
use crate::store::{Store, StoreError};
use crate::transport::{Transport, TransportError};
pub use files::{AttachmentWriter, FileReader, FileWriter};
use link::FromLink;
use media::{Media, MediaRequest};
use transfer::CellRequest;
pub use transfer::{TransferAsk, TransferError, TransferOffer};

/// Inputs that share one commit, at most.
const BATCH: usize = 256;

/// Frames of all links that wait for the engine; a full queue stops reading from the sockets.
const QUEUE: usize = 1_024;

/// Pause after a failed commit.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// How long links may take to send what is left when the endpoint stops.
const GOODBYE: Duration = Duration::from_secs(1);

/// How to run.
#[derive(Clone)]
pub struct Options {
    /// Customer or business.
    pub role: RoleOptions,
    /// The cipher suites that it speaks.
    pub suites: Suites,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The folder was restored from a backup: no key of its state is used any more, every conversation begins again.
    pub restored: bool,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("role", &self.role).finish_non_exhaustive()
    }
}

/// Why an endpoint did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// No thread, no runtime: the system is out of something.
    #[error("the endpoint's thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

enum ToDriver {
    Command(Command),
    Fetch(String, oneshot::Sender<Result<Vec<u8>, TransportError>>),
    Media(MediaRequest),
    Cell(CellRequest),
    Shutdown(oneshot::Sender<()>),
}

/// A handle to a running endpoint. Clones are the same endpoint; it runs until [`Endpoint::shutdown`] or until all are dropped.
#[derive(Clone)]
pub struct Endpoint {
    inputs: mpsc::UnboundedSender<ToDriver>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Endpoint")
    }
}

impl Endpoint {
    /// Opens the store in `folder`, raises the incarnation, and starts on a thread of its own.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn start(
        folder: &Path,
        root: RootKey,
        options: Options,
        projector: Box<dyn Projector>,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Event>), StartError> {
        let store = crate::store::sqlite::SqliteStore::open(folder)?;
        Self::start_over(store, root, options, projector)
    }

    /// Starts over a store that is already open, on a thread of its own.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn start_over<S: Store + Send>(
        store: S,
        root: RootKey,
        options: Options,
        projector: Box<dyn Projector>,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Event>), StartError> {
        Self::start_with(store, root, options, projector, crate::transport::ws::WsTransport::new()?)
    }

    /// As [`Self::start_over`], with a transport of the caller's.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn start_with<S: Store + Send, T: Transport + Send>(
        store: S,
        root: RootKey,
        options: Options,
        projector: Box<dyn Projector>,
        transport: T,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Event>), StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (started, starting) = std::sync::mpsc::sync_channel(1);
        let (endpoint, events, ends) = Self::channels();
        #[cfg(feature = "under-test")]
        let (watches, broken) = (bulla_e2ee::seals::watches(), bulla_e2ee::sabotage::broken_rule());
        std::thread::Builder::new().name("bulla-endpoint".into()).spawn(move || {
            #[cfg(feature = "under-test")]
            {
                bulla_e2ee::seals::watch(watches);
                bulla_e2ee::sabotage::break_rule(broken);
            }
            let world = World::new(store, root, options, projector, transport, (ends.inputs, ends.events));
            let running = world.run(ends.commands, move |begun| drop(started.send(begun)));
            tokio::task::LocalSet::new().block_on(&runtime, running);
        })?;
        match starting.recv() {
            Ok(Ok(())) => Ok((endpoint, events)),
            Ok(Err(e)) => Err(e.into()),
            Err(_) => Err(std::io::Error::other("it ended at once").into()),
        }
    }

    /// Starts over an open store beside whatever else this thread does: in a browser's worker.
    pub async fn start_here<S: Store, T: Transport>(
        store: S,
        root: RootKey,
        options: Options,
        projector: Box<dyn Projector>,
        transport: T,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Event>), StartError> {
        let (endpoint, events, ends) = Self::channels();
        let (started, starting) = oneshot::channel();
        let world = World::new(store, root, options, projector, transport, (ends.inputs, ends.events));
        rt::spawn_local(world.run(ends.commands, move |begun| drop(started.send(begun))));
        match starting.await {
            Ok(Ok(())) => Ok((endpoint, events)),
            Ok(Err(e)) => Err(e.into()),
            Err(_) => Err(std::io::Error::other("it ended at once").into()),
        }
    }

    fn channels() -> (Self, mpsc::UnboundedReceiver<Event>, Ends) {
        let (inputs, commands) = mpsc::unbounded_channel();
        let (events, receiver) = mpsc::unbounded_channel();
        let weak = inputs.downgrade();
        (Self { inputs }, receiver, Ends { commands, inputs: weak, events })
    }

    async fn fetch(&self, link: &Link) -> Result<Vec<u8>, CommandError> {
        let (answer, answered) = oneshot::channel();
        let ask = ToDriver::Fetch(link.bundle_url().to_owned(), answer);
        self.inputs.send(ask).map_err(|_| CommandError::Stopped)?;
        let fetched = answered.await.map_err(|_| CommandError::Stopped)?;
        fetched.map_err(|e| CommandError::Fetch(e.to_string()))
    }

    /// Who a link leads to, once what is fetched has verified to it. Nothing is stored, and nothing but the fetch leaves.
    pub async fn look(&self, link: &Link) -> Result<LinkCard, CommandError> {
        let bundle = self.fetch(link).await?;
        let link = link.clone();
        self.run(move |_, ctx| crate::engine::look(ctx, &link, &bundle)).await
    }

    async fn run<R, F>(&self, f: F) -> Result<R, CommandError>
    where
        R: Send + 'static,
        F: FnOnce(&mut Engine, &mut Ctx<'_, '_>) -> Result<R, CommandError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let command: Command = Box::new(move |engine, ctx| match f(engine, ctx) {
            Err(CommandError::Store(e)) => Err(e),
            result => Ok(Box::new(move || drop(answer.send(result)))),
        });
        self.inputs.send(ToDriver::Command(command)).map_err(|_| CommandError::Stopped)?;
        // An answer that was thrown away belonged to a batch that did not become durable.
        answered
            .await
            .map_err(|_| if self.inputs.is_closed() { CommandError::Stopped } else { CommandError::NotKept })?
    }

    /// A customer begins to talk to the business that a link names: fetches its bundle and checks it to the link's hash. A
    /// conversation that exists already is returned again.
    pub async fn begin(&self, link: &Link, begin: Begin) -> Result<Conversation, CommandError> {
        if let Some(conversation) = self.conversation_with(link.key()).await? {
            if let Some(name) = begin.name {
                self.set_name(conversation.id, name).await?;
            }
            return Ok(conversation);
        }
        let bundle = self.fetch(link).await?;
        let link = link.clone();
        self.run(move |engine, ctx| engine.begin(ctx, &link, &bundle, &begin)).await
    }

    /// A customer's conversation with a business.
    pub async fn conversation_with(&self, business: &IdentityHash) -> Result<Option<Conversation>, CommandError> {
        let business = *business;
        self.run(move |engine, ctx| match engine.conversation_with(ctx, &business)? {
            Some(id) => engine.conversation(ctx, id),
            None => Ok(None),
        })
        .await
    }

    /// The pseudonym's key of a conversation, to resume it on another device. Secret.
    pub async fn pseudonym(&self, of: ConversationId) -> Result<Zeroizing<[u8; 32]>, CommandError> {
        self.run(move |engine, ctx| engine.pseudonym(ctx, of)).await
    }

    /// The recovery code of a conversation: whoever has it is this customer, at every business of this store. Secret.
    pub async fn recovery_code(&self, of: ConversationId) -> Result<RecoveryCode, CommandError> {
        self.run(move |engine, ctx| engine.recovery_code(ctx, of)).await
    }

    /// A customer who was here before comes back with the code. It says Hello at once; whether the business knows the customer comes as an event:
    /// the conversation is open, or [`crate::event::ConversationState::NotKnown`].
    pub async fn recover(&self, link: &Link, code: RecoveryCode) -> Result<Conversation, CommandError> {
        let bundle = self.fetch(link).await?;
        let link = link.clone();
        let begin = Begin { code: Some(code), ..Begin::default() };
        self.run(move |engine, ctx| engine.begin(ctx, &link, &bundle, &begin)).await
    }

    /// Brings a conversation back that goes on on another device ([`crate::event::ConversationState::Moved`]).
    pub async fn take_back(&self, of: ConversationId) -> Result<(), CommandError> {
        self.run(move |engine, ctx| engine.take_back(ctx, of)).await
    }

    /// Asks the business for older messages than are here, if it may have some and has not been asked just now. They come with
    /// [`Event::History`].
    pub async fn older(&self, of: ConversationId) -> Result<Option<Past>, CommandError> {
        self.run(move |engine, ctx| engine.older(ctx, of)).await
    }

    /// Invites another device of this customer; the bytes are for it alone, and good for a day.
    pub async fn invite(&self, to: ConversationId) -> Result<Zeroizing<Vec<u8>>, CommandError> {
        self.run(move |engine, ctx| engine.invite(ctx, to)).await
    }

    /// Comes into a conversation as another device of its customer.
    pub async fn accept_invitation(&self, invitation: Zeroizing<Vec<u8>>) -> Result<Conversation, CommandError> {
        self.run(move |engine, ctx| engine.accept_invitation(ctx, &invitation)).await
    }

    /// This customer's devices in a conversation, this one first.
    pub async fn devices(&self, of: ConversationId) -> Result<Vec<OwnDevice>, CommandError> {
        self.run(move |engine, ctx| engine.devices(ctx, of)).await
    }

    /// Removes one of this customer's devices: from the next epoch on it reads nothing.
    pub async fn remove_device(&self, of: ConversationId, name: String) -> Result<(), CommandError> {
        self.run(move |engine, ctx| engine.remove_device(ctx, of, &name)).await
    }

    /// Says something. `Ok` means that it is durable in the outbox.
    pub async fn send(&self, to: ConversationId, draft: Draft) -> Result<Message, CommandError> {
        self.run(move |engine, ctx| engine.send(ctx, to, &draft)).await
    }

    /// Marks an incoming message and every earlier one as read.
    pub async fn mark_read(&self, message: MessageId) -> Result<(), CommandError> {
        self.run(move |engine, ctx| engine.mark_read(ctx, &message)).await
    }

    /// Gives the business's own word for who this customer is there; it goes with the next message.
    pub async fn identify(&self, of: ConversationId, token: String) -> Result<(), CommandError> {
        self.run(move |engine, ctx| engine.identify(ctx, of, &token)).await
    }

    /// Tells the business where this device can be woken when nothing of it runs (Web Push), or with `None` that it cannot any more.
    pub async fn push(&self, to: ConversationId, subscription: Option<PushSubscription>) -> Result<(), CommandError> {
        self.run(move |engine, ctx| engine.push(ctx, to, subscription)).await
    }

    /// The customer decides whether the business may write for a purpose (notifications, marketing), under the words that the person saw.
    pub async fn decide(
        &self,
        to: ConversationId,
        purpose: Purpose,
        given: bool,
        wording: String,
    ) -> Result<(), CommandError> {
        self.run(move |engine, ctx| engine.decide(ctx, to, purpose, given, &wording)).await
    }

    /// A business lets a customer write to it no more, or again.
    pub async fn block(&self, who: ConversationId, blocked: bool) -> Result<(), CommandError> {
        self.run(move |engine, ctx| engine.block(ctx, who, blocked)).await
    }

    /// Says that we are typing, if the other side can be told at once.
    pub async fn typing(&self, to: ConversationId, on: bool) -> Result<(), CommandError> {
        self.run(move |engine, ctx| engine.typing(ctx, to, on)).await
    }

    /// Sets a customer's display name; told with the next message.
    pub async fn set_name(&self, to: ConversationId, name: String) -> Result<(), CommandError> {
        self.run(move |engine, ctx| engine.set_name(ctx, to, &name)).await
    }

    /// All conversations, oldest first.
    pub async fn conversations(&self) -> Result<Vec<Conversation>, CommandError> {
        self.run(|engine, ctx| engine.conversations(ctx)).await
    }

    /// One conversation.
    pub async fn conversation(&self, id: ConversationId) -> Result<Option<Conversation>, CommandError> {
        self.run(move |engine, ctx| engine.conversation(ctx, id)).await
    }

    /// The newest conversation with a customer.
    pub async fn conversation_of(&self, user: &UserId) -> Result<Option<Conversation>, CommandError> {
        let user = user.clone();
        self.run(move |engine, ctx| engine.conversation_of(ctx, &user)).await
    }

    /// Up to `limit` messages before an order (or the newest), oldest first.
    pub async fn messages(
        &self,
        of: ConversationId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Message>, CommandError> {
        self.run(move |engine, ctx| engine.messages(ctx, of, before, limit)).await
    }

    /// One message.
    pub async fn message(&self, id: MessageId) -> Result<Option<Message>, CommandError> {
        self.run(move |engine, ctx| engine.message(ctx, &id)).await
    }

    /// The MLS epoch of a conversation and the beginning of its authenticator: the same at everybody who is in step.
    pub async fn epoch(&self, of: ConversationId) -> Result<(u64, [u8; 8]), CommandError> {
        self.run(move |engine, ctx| Ok(engine.epoch(ctx, of.0)?)).await
    }

    /// The cipher suite that a conversation is in.
    pub async fn suite(&self, of: ConversationId) -> Result<Suite, CommandError> {
        self.run(move |engine, ctx| Ok(engine.suite(ctx, of.0)?)).await
    }

    /// Who this business is, and its current bundle.
    pub async fn business_card(&self) -> Result<BusinessCard, CommandError> {
        self.run(|engine, ctx| engine.business_card(ctx)).await
    }

    /// Runs a closure over the store in one transaction, between two steps of the engine; durable when it returns. If the closure
    /// fails, nothing changes.
    pub async fn with_store<R, F>(&self, f: F) -> Result<R, CommandError>
    where
        R: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<R, StoreError> + Send + 'static,
    {
        self.run(move |_, ctx| Ok(f(ctx.tx)?)).await
    }

    /// Stops the endpoint and closes its store. Nothing is lost: what was answered is durable.
    pub async fn shutdown(&self) {
        let (done, stopped) = oneshot::channel();
        if self.inputs.send(ToDriver::Shutdown(done)).is_ok() {
            let _ = stopped.await;
        }
    }
}

/// The driver's ends of a handle's channels.
struct Ends {
    commands: mpsc::UnboundedReceiver<ToDriver>,
    inputs: mpsc::WeakUnboundedSender<ToDriver>,
    events: mpsc::UnboundedSender<Event>,
}

/// What the driver owns.
struct World<S, T> {
    store: S,
    vault: Vault,
    rng: RefCell<Rng>,
    options: Options,
    projector: Box<dyn Projector>,
    transport: T,
    inputs: mpsc::WeakUnboundedSender<ToDriver>,
    events: mpsc::UnboundedSender<Event>,
}

/// The connections as the driver sees them.
#[derive(Default)]
struct Links {
    tasks: HashMap<LinkKey, rt::Task>,
    uploads: HashMap<BlobId, rt::Task>,
    senders: HashMap<LinkKey, mpsc::UnboundedSender<Vec<Bytes>>>,
}

impl<S: Store, T: Transport> World<S, T> {
    fn new(
        store: S,
        root: RootKey,
        options: Options,
        projector: Box<dyn Projector>,
        transport: T,
        (inputs, events): (mpsc::WeakUnboundedSender<ToDriver>, mpsc::UnboundedSender<Event>),
    ) -> Self {
        let rng = RefCell::new(Box::new(OsRng) as Rng);
        Self { store, vault: Vault::new(root), rng, options, projector, transport, inputs, events }
    }

    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<ToDriver>,
        started: impl FnOnce(Result<(), StoreError>),
    ) {
        let (to_engine, mut from_links) = mpsc::channel(QUEUE);
        let (found, mut results) = mpsc::unbounded_channel();
        let mut links = Links::default();
        let (role, suites, restored) = (self.options.role.clone(), self.options.suites, self.options.restored);
        let (mut engine, effects) = match self.transact(|ctx| Engine::start(role, suites, restored, ctx)).await {
            Ok(begun) => begun,
            Err(e) => return started(Err(e)),
        };
        started(Ok(()));
        self.release(effects, &mut links, &to_engine, &found);

        loop {
            let sleep = engine.wake_at().map_or(rt::LOOK, |at| {
                Duration::from_millis(at.saturating_sub(self.options.clock.now_ms())).min(rt::LOOK)
            });
            let mut inputs = Vec::new();
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(ToDriver::Command(command)) => inputs.push(Input::Command(command)),
                    Some(ToDriver::Fetch(url, answer)) => {
                        self.fetch(url, answer);
                        continue;
                    }
                    Some(ToDriver::Media(request)) => {
                        rt::spawn_local(self.media().handle(request));
                        continue;
                    }
                    Some(ToDriver::Cell(request)) => {
                        self.cell(request);
                        continue;
                    }
                    Some(ToDriver::Shutdown(done)) => {
                        links.flush(&mut from_links).await;
                        drop(self);
                        let _ = done.send(());
                        return;
                    }
                    None => return links.close(),
                },
                Some(from) = from_links.recv() => inputs.push(links.input(from)),
                Some(result) = results.recv() => inputs.push(result),
                () = rt::sleep(sleep) => {
                    if engine.wake_at().is_none_or(|at| at > self.options.clock.now_ms()) {
                        continue;
                    }
                    inputs.push(Input::Tick);
                }
            }
            // What else waits shares this commit. A connection that comes or goes ends the batch: frames decided before belong
            // to the old connection.
            let mut shutdown = None;
            while inputs.len() < BATCH && !ends_batch(inputs.last()) {
                if let Ok(from) = from_links.try_recv() {
                    if matches!(from, FromLink::Frame(..)) {
                        inputs.push(links.input(from));
                    } else {
                        self.pass(&mut engine, std::mem::take(&mut inputs), &mut links, &to_engine, &found).await;
                        inputs.push(links.input(from));
                    }
                } else {
                    match commands.try_recv() {
                        Ok(ToDriver::Command(command)) => inputs.push(Input::Command(command)),
                        Ok(ToDriver::Fetch(url, answer)) => self.fetch(url, answer),
                        Ok(ToDriver::Media(request)) => rt::spawn_local(self.media().handle(request)),
                        Ok(ToDriver::Cell(request)) => self.cell(request),
                        Ok(ToDriver::Shutdown(done)) => {
                            shutdown = Some(done);
                            break;
                        }
                        Err(_) => break,
                    }
                }
            }
            if engine.wake_at().is_some_and(|at| at <= self.options.clock.now_ms()) {
                inputs.push(Input::Tick);
            }
            self.pass(&mut engine, inputs, &mut links, &to_engine, &found).await;
            if let Some(done) = shutdown {
                links.flush(&mut from_links).await;
                drop(self);
                let _ = done.send(());
                return;
            }
        }
    }

    /// One batch: steps, commit, effects. A failed one is as if it had not been.
    async fn pass(
        &mut self,
        engine: &mut Engine,
        inputs: Vec<Input>,
        links: &mut Links,
        to_engine: &mpsc::Sender<FromLink>,
        found: &mpsc::UnboundedSender<Input>,
    ) {
        if inputs.is_empty() {
            return;
        }
        #[cfg(feature = "sabotage-ack-before-commit")]
        let early = links.senders.clone();
        let stepped = self
            .transact(|ctx| {
                inputs.into_iter().try_for_each(|input| engine.step(ctx, input))?;
                // Exists to see the history checker fail: acknowledgements leave before anything is durable.
                #[cfg(feature = "sabotage-ack-before-commit")]
                let others = std::mem::take(&mut ctx.out.frames);
                engine.finish(ctx);
                #[cfg(feature = "sabotage-ack-before-commit")]
                for (key, ack) in std::mem::replace(&mut ctx.out.frames, others) {
                    early.get(&key).map(|link| link.send(vec![ack]));
                }
                Ok(())
            })
            .await;
        match stepped {
            Ok(((), effects)) => self.release(effects, links, to_engine, found),
            Err(e) => {
                tracing::error!(error = %e, "the store failed; nothing of this step happened, trying again");
                self.vault.forget();
                links.close();
                rt::sleep(STORE_RETRY).await;
                self.reload(engine, links, to_engine, found).await;
            }
        }
    }

    /// Loads the engine again from what is durable, as often as it takes.
    async fn reload(
        &mut self,
        engine: &mut Engine,
        links: &mut Links,
        to_engine: &mpsc::Sender<FromLink>,
        found: &mpsc::UnboundedSender<Input>,
    ) {
        loop {
            match self.transact(|ctx| engine.reload(ctx)).await {
                Ok(((), effects)) => return self.release(effects, links, to_engine, found),
                Err(e) => {
                    tracing::error!(error = %e, "the store still fails");
                    self.vault.forget();
                    rt::sleep(STORE_RETRY).await;
                }
            }
        }
    }

    async fn transact<R>(
        &mut self,
        f: impl FnOnce(&mut Ctx<'_, '_>) -> Result<R, StoreError>,
    ) -> Result<(R, Effects), StoreError> {
        // What a step sealed that failed has gone nowhere.
        #[cfg(feature = "under-test")]
        drop(bulla_e2ee::seals::take());
        let mut out = Effects::default();
        let (result, batch) = {
            let mut tx = Tx::new(&self.store, &self.vault, &self.rng, self.options.clock.now_ms());
            let mut ctx = Ctx { tx: &mut tx, out: &mut out, projector: self.projector.as_mut() };
            let result = f(&mut ctx)?;
            (result, tx.into_batch()?)
        };
        // The links have this thread only when it waits: here they send what must not leave yet, and a crash finds it sent.
        #[cfg(feature = "sabotage-ack-before-commit")]
        rt::sleep(Duration::from_millis(20)).await;
        self.store.commit(batch).await?;
        #[cfg(feature = "under-test")]
        bulla_e2ee::seals::left().add(bulla_e2ee::seals::take());
        Ok((result, out))
    }

    /// What moves files, beside everything else.
    fn media(&self) -> Media<T, S::Parts> {
        Media {
            transport: self.transport.clone(),
            parts: self.store.parts(),
            inputs: self.inputs.clone(),
            events: self.events.clone(),
        }
    }

    /// Reads or claims a cell beside everything else.
    fn cell(&self, request: CellRequest) {
        rt::spawn_local(transfer::handle(self.transport.clone(), Arc::clone(&self.options.clock), request));
    }

    /// Fetches a bundle beside everything else.
    fn fetch(&self, url: String, answer: oneshot::Sender<Result<Vec<u8>, TransportError>>) {
        let transport = self.transport.clone();
        rt::spawn_local(async move { drop(answer.send(transport.fetch(&url).await)) });
    }

    /// Lets go what may leave now that the batch is durable.
    fn release(
        &self,
        effects: Effects,
        links: &mut Links,
        to_engine: &mpsc::Sender<FromLink>,
        found: &mpsc::UnboundedSender<Input>,
    ) {
        for key in effects.disconnect {
            links.drop_link(&key);
        }
        for key in effects.connect {
            let task = link::keep(self.transport.clone(), key.clone(), to_engine.clone());
            if let Some(old) = links.tasks.insert(key, rt::spawn(task)) {
                old.abort();
            }
        }
        let mut frames: Vec<(LinkKey, Vec<Bytes>)> = Vec::new();
        for (key, frame) in effects.frames {
            match frames.last_mut() {
                Some((last, group)) if *last == key => group.push(frame),
                _ => frames.push((key, vec![frame])),
            }
        }
        for (key, group) in frames {
            // A link that is gone has told the engine, or will.
            let _ = links.senders.get(&key).map(|sender| sender.send(group));
        }
        for (what, task, bits) in effects.work {
            search(found.clone(), what, task, bits);
        }
        for (number, url) in effects.fetch {
            let (transport, found) = (self.transport.clone(), found.clone());
            rt::spawn_local(async move {
                match transport.fetch(&url).await {
                    Ok(bundle) => drop(found.send(Input::Fetched(number, bundle))),
                    Err(why) => tracing::debug!(%why, "no bundle"),
                }
            });
        }
        for blob in effects.uploads {
            // One that is on its way goes on; one that has ended is begun again.
            if links.uploads.get(&blob).is_none_or(rt::Task::has_ended) {
                links.uploads.insert(blob, rt::spawn(self.media().upload(blob)));
            }
        }
        for forgotten in effects.forgotten {
            links.forget(self.media(), forgotten);
        }
        for event in effects.events {
            let _ = self.events.send(event);
        }
        for reply in effects.replies {
            reply();
        }
    }
}

/// Searches a proof of work where it delays nobody; gives up when the endpoint is gone.
fn search(found: mpsc::UnboundedSender<Input>, what: WorkFor, task: Task, bits: u32) {
    let mut from = 0;
    rt::aside(move || {
        if found.is_closed() {
            return true;
        }
        let nonce = task.search(bits, from, rt::SEARCHED_AT_ONCE);
        from += rt::SEARCHED_AT_ONCE;
        if let Some(nonce) = nonce {
            let _ = found.send(Input::Work(what.clone(), nonce));
        }
        nonce.is_some()
    });
}

fn ends_batch(last: Option<&Input>) -> bool {
    matches!(last, Some(Input::Up(..) | Input::Down(..)))
}

impl Links {
    /// Notes what a link says of itself, and hands it on.
    fn input(&mut self, from: FromLink) -> Input {
        match from {
            FromLink::Up(key, hello, sender) => {
                self.senders.insert(key.clone(), sender);
                Input::Up(key, hello)
            }
            FromLink::Down(key, retry_in_ms) => {
                self.senders.remove(&key);
                Input::Down(key, retry_in_ms)
            }
            FromLink::Frame(key, request, body) => Input::Frame(key, request, body),
        }
    }

    /// Stops what still moves of a file, and removes it.
    fn forget<T: Transport, P: Parts>(&mut self, media: Media<T, P>, forgotten: Forgotten) {
        if let Some(task) = self.uploads.remove(&forgotten.blob) {
            task.abort();
        }
        rt::spawn_local(media.forget(forgotten));
    }

    fn drop_link(&mut self, key: &LinkKey) {
        self.senders.remove(key);
        if let Some(task) = self.tasks.remove(key) {
            task.abort();
        }
    }

    /// Closes, once what was given to the links has left: an acknowledgement that stays behind would make the relay store the envelope.
    async fn flush(&mut self, from_links: &mut mpsc::Receiver<FromLink>) {
        // A link whose sender is gone sends what it has, and says that it is down.
        let mut up: HashSet<LinkKey> = self.senders.drain().map(|(key, _)| key).collect();
        let all_down = async {
            while !up.is_empty() {
                match from_links.recv().await {
                    Some(FromLink::Down(key, _)) => up.remove(&key),
                    Some(_) => false,
                    None => break,
                };
            }
        };
        if rt::timeout(GOODBYE, all_down).await.is_none() {
            tracing::debug!("a relay does not take what is left for it; it will be sent again");
        }
        self.close();
    }

    fn close(&mut self) {
        let uploads = self.uploads.drain().map(|(_, task)| task);
        for task in self.tasks.drain().map(|(_, task)| task).chain(uploads) {
            task.abort();
        }
        self.senders.clear();
    }
}
