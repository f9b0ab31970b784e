//! Starting and stopping a relay, in a process of its own or inside a test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State, WebSocketUpgrade};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use bulla_protocol::id::{Challenge, InstanceId, MailboxId};
use bulla_protocol::limits::{BLOB_BYTES, CONNECTIONS, HANDOVER, MAX_FRAME, MEMORY_TOTAL, SLOT_BYTES, WORK_BITS};
use bulla_protocol::permit::{MacRoot, RelayName};
use bulla_tls::{Source, Tls, TlsError};
use rand_core::CryptoRngCore;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::blobs::files::Files;
use crate::blobs::http::Handling;
use crate::blobs::{self, Blobs};
use crate::clock::Clock;
use crate::mailbox::Shared;
use crate::memory::Budget;
use crate::metrics::Metrics;
use crate::ops::{self, Ops};
use crate::outbox::ConnectionId;
use crate::random::Random;
use crate::registry::Registry;
use crate::sabotage::{Rule, broken};
use crate::slots::Slots;
use crate::store::fjall::FjallStore;
use crate::store::{Store, StoreError};
use crate::writer::{Unavailable, Writer};
use crate::{connection, limits, socket, sweep};

/// The folder of blobs, in the data folder.
const BLOBS: &str = "blobs";

/// How long a stop waits for what is on its way, if nobody says otherwise: a sender's answer takes a round trip, a
/// part of a picture seconds.
pub const DRAIN: Duration = Duration::from_secs(5);

/// What an operator decides.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data folder; made if it is not there.
    pub data: PathBuf,
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// The relay's name, which every proof and signature of its clients binds.
    pub name: RelayName,
    /// Leading zero bits of proof of work for a new mailbox, for a first contact and for a slot's claim.
    pub work_bits: u32,
    /// How long a live reader may take to confirm before its envelopes are stored.
    pub handover: Duration,
    /// Bytes of envelopes and commits in memory, in all.
    pub memory: usize,
    /// Bytes of all commit slots.
    pub slot_bytes: u64,
    /// Bytes of all blobs.
    pub blob_bytes: u64,
    /// Where its certificate comes from; without one it speaks no TLS itself.
    pub tls: Option<Source>,
    /// How long a stop waits for answers and requests that are on their way.
    pub drain: Duration,
    /// Where `/health` and `/metrics` are answered, if anywhere.
    pub metrics: Option<SocketAddr>,
}

impl Config {
    /// The defaults of [`bulla_protocol::limits`], for a data folder, an address and a name.
    #[must_use]
    pub fn new(data: PathBuf, listen: SocketAddr, name: RelayName) -> Self {
        let (work_bits, handover) = (WORK_BITS, HANDOVER);
        Self {
            data,
            listen,
            name,
            work_bits,
            handover,
            memory: MEMORY_TOTAL,
            slot_bytes: SLOT_BYTES,
            blob_bytes: BLOB_BYTES,
            tls: None,
            drain: DRAIN,
            metrics: None,
        }
    }
}

/// Why a relay did not start, or had to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The data folder cannot be made or is not accessible.
    #[error("cannot use the data folder {0}: {1}. Choose another with --data, or mend its permissions")]
    Folder(PathBuf, std::io::Error),
    /// Another relay runs on the data folder.
    #[error("the data folder {0} is in use by a running relay. Stop that one, or choose another folder with --data")]
    Locked(PathBuf),
    /// The store could not be opened.
    #[error("cannot open the store in {0}: {1}")]
    Store(PathBuf, StoreError),
    /// There is no certificate to show.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address cannot be listened on.
    #[error("cannot listen on {0}: {1}. Choose another address with --listen; port 0 takes any free one")]
    Listen(SocketAddr, std::io::Error),
    /// The address of `/metrics` cannot be listened on.
    #[error("cannot listen on {0}: {1}. Choose another address with --metrics; port 0 takes any free one")]
    Metrics(SocketAddr, std::io::Error),
    /// The writer's thread could not be started.
    #[error("cannot start the writing thread: {0}")]
    Thread(std::io::Error),
    /// The store failed while the relay ran. What was accepted is safe; what was not was never said to be.
    #[error("the relay stopped because {0}. Check the disk, then start it again: nothing accepted is lost")]
    Failed(String),
}

/// Makes the data folder, for its owner's eyes only. Returns once its name is on stable storage: what is synced in a folder whose name is lost in a
/// power cut is lost with it.
pub fn make_folder(data: &std::path::Path) -> Result<(), RelayError> {
    make_synced(data).map_err(|error| RelayError::Folder(data.to_owned(), error))
}

fn make_synced(folder: &std::path::Path) -> std::io::Result<()> {
    use std::io::ErrorKind;
    use std::os::unix::fs::DirBuilderExt;
    let parent = match folder.parent() {
        Some(parent) if parent.as_os_str().is_empty() => std::path::Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    let make = || std::fs::DirBuilder::new().mode(0o700).create(folder);
    let made = match make() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_synced(parent)?;
            make()
        }
        tried => tried,
    };
    let is_new = match made {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => false,
        made => made.map(|()| true)?,
    };
    if broken(Rule::DataFolderSynced) {
        return Ok(());
    }
    // One that was there may have been made by a relay that was killed before this.
    match std::fs::File::open(parent).and_then(|parent| parent.sync_all()) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied && !is_new => Ok(()),
        synced => synced,
    }
}

/// Makes the data folder and opens the store in it.
///
/// The keys of what waits are beside it, in `keys`: the one file that a backup must not have.
pub fn open_store(data: &std::path::Path, random: Box<dyn CryptoRngCore + Send>) -> Result<FjallStore, RelayError> {
    make_folder(data)?;
    FjallStore::open(&data.join("store"), &data.join("keys"), random).map_err(|error| match error {
        StoreError::Locked => RelayError::Locked(data.to_owned()),
        other => RelayError::Store(data.to_owned(), other),
    })
}

/// Everything that connections and tasks of one relay share.
pub(crate) struct Relay {
    name: RelayName,
    work_bits: u32,
    instance: InstanceId,
    clock: Arc<dyn Clock>,
    random: Random,
    registry: Arc<Registry>,
    shared: Arc<Shared>,
    blobs: Handling,
    nobodys_root: MacRoot,
    nobodys_key: [u8; 32],
    connections: Arc<Semaphore>,
    tls: Option<Tls>,
    drain: Duration,
    next_connection: AtomicU64,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Relay {
    pub(crate) fn name(&self) -> &RelayName {
        &self.name
    }
    pub(crate) fn work_bits(&self) -> u32 {
        self.work_bits
    }
    pub(crate) fn instance(&self) -> InstanceId {
        self.instance
    }
    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }
    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }
    /// The writer, and memory's budget.
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }
    /// What requests for blobs share.
    pub(crate) fn blobs(&self) -> &Handling {
        &self.blobs
    }
    /// Against which the permits of mailboxes that do not exist are checked.
    pub(crate) fn nobodys_root(&self) -> &MacRoot {
        &self.nobodys_root
    }
    /// Against which the signatures for mailboxes that do not exist are checked.
    pub(crate) fn nobodys_key(&self) -> &[u8; 32] {
        &self.nobodys_key
    }
    /// How long a stop waits for what is on its way.
    pub(crate) fn drain(&self) -> Duration {
        self.drain
    }
    pub(crate) fn handshakes_refused(&self) -> u64 {
        self.tls.as_ref().map_or(0, Tls::refused)
    }
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }
    pub(crate) fn challenge(&self) -> Challenge {
        Challenge::new(self.random.bytes())
    }
}

/// A relay that runs. Dropping it stops it without waiting; [`Running::shutdown`] waits.
pub struct Running {
    addr: SocketAddr,
    relay: Arc<Relay>,
    shared: Arc<Shared>,
    failure: watch::Receiver<Option<String>>,
    http: JoinHandle<std::io::Result<()>>,
    writer: Option<std::thread::JoinHandle<()>>,
    socket: Option<PathBuf>,
    ops: Option<Ops>,
}

/// Starts a relay on its data folder.
pub async fn serve(
    config: Config,
    clock: Arc<dyn Clock>,
    random: Box<dyn CryptoRngCore + Send>,
) -> Result<Running, RelayError> {
    let random = Random::new(random);
    let store = Arc::new(open_store(&config.data, Box::new(random.clone()))?);
    serve_on(config, store, clock, Box::new(random)).await
}

/// Starts a relay on a store that the caller opened; the data folder then only holds the socket of `disclose`.
pub async fn serve_on(
    config: Config,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    random: Box<dyn CryptoRngCore + Send>,
) -> Result<Running, RelayError> {
    let random = Random::new(random);
    let listening = |error| RelayError::Listen(config.listen, error);
    let listener = TcpListener::bind(config.listen).await.map_err(listening)?;
    let addr = listener.local_addr().map_err(listening)?;
    let ops = match config.metrics {
        Some(at) => Some(TcpListener::bind(at).await.map_err(|error| RelayError::Metrics(at, error))?),
        None => None,
    };
    let tls = match config.tls {
        Some(source) => Some(tls(source, &clock).await?),
        None => None,
    };
    let unreadable = |error| RelayError::Store(config.data.clone(), error);
    let slots = Slots::load(&*store, config.slot_bytes).map_err(unreadable)?;
    let blobs = Blobs::load(&*store, config.blob_bytes).map_err(unreadable)?;
    let files = Files::open(&config.data.join(BLOBS)).map_err(|e| RelayError::Folder(config.data.clone(), e))?;
    files.remove_strays(&*store).await.map_err(unreadable)?;
    let metrics = Arc::new(Metrics::new());
    let started = Writer::start(Arc::clone(&store), slots, blobs, Arc::clone(&metrics));
    let (writer, thread) = started.map_err(RelayError::Thread)?;
    let failure = writer.failure();
    let shared = Arc::new(Shared { writer, budget: Budget::new(config.memory), handover: config.handover, metrics });
    let (root, key) = (random.bytes(), random.bytes());
    let relay = Arc::new(Relay {
        name: config.name,
        work_bits: config.work_bits,
        instance: store.instance(),
        clock,
        random,
        registry: Arc::new(Registry::new(Arc::clone(&store), Arc::clone(&shared))),
        shared: Arc::clone(&shared),
        blobs: Handling::new(files),
        nobodys_root: MacRoot::new(root),
        nobodys_key: ed25519_dalek::SigningKey::from_bytes(&key).verifying_key().to_bytes(),
        connections: Arc::new(Semaphore::new(CONNECTIONS)),
        tls: tls.clone(),
        drain: config.drain,
        next_connection: AtomicU64::new(1),
        stopping: CancellationToken::new(),
        tasks: TaskTracker::new(),
    });
    let socket = socket::listen(&relay, &config.data).map_err(|error| RelayError::Folder(config.data, error))?;
    // What went over its time while this was down is gone before anybody asks. A store that fails says so where it does.
    let _ = sweep::sweep(&relay).await;
    relay.tasks.spawn(house_keeping(Arc::clone(&relay)));
    let stop = relay.stopping.clone();
    let app = routes(Arc::clone(&relay));
    let http = match &tls {
        Some(tls) => {
            let serve = axum::serve(tls.listen(listener), app);
            tokio::spawn(async move { serve.with_graceful_shutdown(stop.cancelled_owned()).await })
        }
        None => {
            let listener = listener.tap_io(|stream| {
                // Frames are small and answers are waited for. If it cannot be set, they are only slower.
                let _ = stream.set_nodelay(true);
            });
            let serve = axum::serve(listener, app);
            tokio::spawn(async move { serve.with_graceful_shutdown(stop.cancelled_owned()).await })
        }
    };
    let ops = ops.map(|listener| ops::listen(listener, &relay)).transpose().map_err(listening)?;
    tracing::info!(instance = ?relay.instance, "ready");
    Ok(Running { addr, relay, shared, failure, http, writer: Some(thread), socket, ops })
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.relay.tls {
            Some(tls) => format!("{}/v1/ws", tls.url("wss", self.addr)),
            None => format!("ws://{}/v1/ws", self.addr),
        }
    }

    /// Where `/health` and `/metrics` are answered, if anywhere.
    #[must_use]
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.ops.as_ref().map(|ops| ops.addr)
    }

    /// Returns when the relay cannot go on, with the reason.
    pub async fn failed(&mut self) -> RelayError {
        let sentence = match self.failure.wait_for(Option::is_some).await {
            Ok(sentence) => sentence.clone().unwrap_or_default(),
            Err(_) => "its writing thread ended".to_owned(),
        };
        RelayError::Failed(sentence)
    }

    /// Removes at once what is past its time; the relay itself does so every hour.
    pub async fn sweep(&self) -> Result<(), RelayError> {
        sweep::sweep(&self.relay).await.map_err(|unavailable| RelayError::Failed(unavailable.to_string()))
    }

    /// Destroys at once the keys of what was acknowledged; the relay itself does so every [`limits::TIDY_EVERY`].
    pub async fn destroy_keys(&self) -> Result<(), RelayError> {
        let failed = |unavailable: Unavailable| RelayError::Failed(unavailable.to_string());
        sweep::destroy_backlog_keys(&self.relay).await.map_err(failed)
    }

    /// Takes nothing new, stores what readers had not confirmed, answers senders whose envelopes are stored by that,
    /// closes all connections, and returns when the data folder is free again. `/health` says meanwhile that it drains.
    pub async fn shutdown(mut self) -> Result<(), RelayError> {
        let begun = Instant::now();
        self.relay.stopping.cancel();
        self.relay.tasks.close();
        self.relay.tasks.wait().await;
        // A request that a client never finishes must not hold the relay.
        let left = self.relay.drain.saturating_sub(begun.elapsed()).max(limits::CLOSE_TIMEOUT);
        if tokio::time::timeout(left, &mut self.http).await.is_err() {
            self.http.abort();
        }
        self.shared.writer.stop();
        if let Some(thread) = self.writer.take() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        if let Some(socket) = self.socket.take() {
            let _ = std::fs::remove_file(socket);
        }
        match self.failure.borrow().clone() {
            Some(sentence) => Err(RelayError::Failed(sentence)),
            None => Ok(()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.relay.stopping.cancel();
        self.relay.tasks.close();
        self.http.abort();
        self.shared.writer.stop();
    }
}

async fn tls(source: Source, clock: &Arc<dyn Clock>) -> Result<Tls, TlsError> {
    let clock = Arc::clone(clock);
    Tls::start(source, Arc::new(move || clock.wall_secs())).await
}

async fn house_keeping(relay: Arc<Relay>) {
    let mut rounds = tokio::time::interval(limits::TIDY_EVERY);
    let mut round = 1u32;
    loop {
        tokio::select! {
            () = relay.stopping.cancelled() => return,
            _ = rounds.tick() => {}
        }
        relay.registry.tidy();
        let _ = sweep::destroy_backlog_keys(&relay).await;
        if let Err(error) = relay.clock.keep() {
            tracing::error!(%error, "how late it is cannot be written down");
        }
        if round.is_multiple_of(limits::SWEEP_EVERY) {
            // Failing means that the store failed, which is reported where it happened.
            let _ = sweep::sweep(&relay).await;
        }
        round = round.wrapping_add(1);
    }
}

fn routes(relay: Arc<Relay>) -> Router {
    Router::new()
        .route("/v1/ws", get(websocket))
        .route("/v1/bundles/{mailbox}", get(bundle))
        .merge(blobs::http::routes())
        .route("/health", get(|| async { "ok\n" }))
        .with_state(relay)
}

async fn websocket(State(relay): State<Arc<Relay>>, upgrade: WebSocketUpgrade) -> Response {
    let Ok(place) = Arc::clone(&relay.connections).try_acquire_owned() else {
        relay.shared.metrics.turned_away.inc();
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let id = ConnectionId(relay.next_connection.fetch_add(1, Ordering::Relaxed));
    // Counted from here on, so that a stop in the middle of an upgrade waits for it.
    let token = relay.tasks.token();
    let upgrade = upgrade.read_buffer_size(limits::READ_BUFFER).write_buffer_size(limits::WRITE_BUFFER);
    upgrade.max_message_size(MAX_FRAME).max_frame_size(MAX_FRAME).on_upgrade(move |socket| async move {
        connection::serve(relay, socket, id).await;
        drop((place, token));
    })
}

async fn bundle(State(relay): State<Arc<Relay>>, Path(mailbox): Path<String>) -> Response {
    let Some(id) = MailboxId::from_hex(&mailbox) else { return StatusCode::NOT_FOUND.into_response() };
    match relay.registry.read(move |store| store.bundle(&id)).await {
        Ok(Some(bundle)) => {
            let headers = [
                (header::CONTENT_TYPE, "application/vnd.bulla.bundle"),
                (header::CACHE_CONTROL, "public, max-age=300"),
            ];
            (headers, bundle).into_response()
        }
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
