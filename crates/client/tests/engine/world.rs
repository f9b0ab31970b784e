//! A relay, a business and customers in one process, each with its own folder, so that a test reads as a story.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use bulla_client::clock::{Clock, ManualClock};
use bulla_client::endpoint::{Begin, BusinessOptions, Endpoint, NoProjector, Options, RoleOptions};
use bulla_client::event::{Connection, Conversation, Event, Message, Status};
use bulla_client::store::keyfile;
use bulla_e2ee::bundle::Bundle;
use bulla_e2ee::identity::IdentityHash;
use bulla_e2ee::link::Link;
use bulla_e2ee::seals;
use bulla_e2ee::suite::Suites;
use bulla_protocol::permit::RelayName;
use rand_core::OsRng;
use tokio::sync::mpsc::UnboundedReceiver;

/// How long a test waits for what must come before it fails.
const DEADLINE: Duration = Duration::from_secs(20);

/// The key under which this world's business says that it sends pushes.
pub(crate) const PUSH_KEY: [u8; 65] = [4; 65];

/// The relay's clock over the same time. It begins near the machine's, because OpenMLS looks at that when it checks a KeyPackage's
/// lifetime.
struct RelayTime(ManualClock);

impl bulla_relay::Clock for RelayTime {
    fn unix_secs(&self) -> u64 {
        self.0.now_ms() / 1000
    }
}

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) clock: ManualClock,
    pub(crate) relay: Option<bulla_relay::Running>,
    pub(crate) relay_addr: SocketAddr,
    bundle: Arc<Mutex<Option<Vec<u8>>>>,
    origin: SocketAddr,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::some_days_ago(0).await
    }

    /// A world that can be moved on by so many days without leaving the machine's time behind.
    pub(crate) async fn some_days_ago(days: u64) -> Self {
        // Endpoints that this thread starts note what they seal.
        seals::watch(true);
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(bulla_client::clock::SystemClock.now_ms() - days * 86_400_000);
        let bundle: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
        let served = bundle.clone();
        let answer = move || async move {
            let bundle = served.lock().unwrap().clone();
            bundle.ok_or(StatusCode::NOT_FOUND)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/@cortado", get(answer))).await });
        let mut world = Self { folder, clock, relay: None, relay_addr: "127.0.0.1:0".parse().unwrap(), bundle, origin };
        world.start_relay().await;
        world
    }

    pub(crate) async fn start_relay(&mut self) {
        let name = RelayName::new("relay.test").unwrap();
        let mut config = bulla_relay::Config::new(self.folder.path().join("relay"), self.relay_addr, name);
        config.work_bits = 4;
        let clock = Arc::new(RelayTime(self.clock.clone()));
        let running = bulla_relay::serve(config, clock, Box::new(OsRng)).await.unwrap();
        self.relay_addr = running.addr();
        self.relay = Some(running);
    }

    pub(crate) async fn stop_relay(&mut self) {
        self.relay.take().unwrap().shutdown().await.unwrap();
    }

    pub(crate) fn relay_url(&self) -> String {
        format!("ws://{}/v1/ws", self.relay_addr)
    }

    pub(crate) fn start(&self, name: &str, role: RoleOptions) -> Actor {
        self.start_as(name, role, Suites::DEFAULT, false)
    }

    /// Starts a program that speaks these suites.
    pub(crate) fn start_speaking(&self, name: &str, role: RoleOptions, suites: Suites) -> Actor {
        self.start_as(name, role, suites, false)
    }

    /// Starts a folder that its owner says is a copy.
    pub(crate) fn start_restored(&self, name: &str, role: RoleOptions) -> Actor {
        self.start_as(name, role, Suites::DEFAULT, true)
    }

    fn start_as(&self, name: &str, role: RoleOptions, suites: Suites, restored: bool) -> Actor {
        let folder = self.folder.path().join(name);
        let root = keyfile::load_or_create(&folder.join("key"), None, &mut OsRng).unwrap();
        let options = Options { role, suites, clock: Arc::new(self.clock.clone()), restored };
        let (endpoint, events) = Endpoint::start(&folder, root, options, Box::new(NoProjector)).unwrap();
        Actor { endpoint, events, folder, seen: Vec::new() }
    }

    /// Starts the business and waits until customers can write to it.
    pub(crate) async fn business(&self) -> Actor {
        self.business_speaking(Suites::DEFAULT).await
    }

    pub(crate) async fn business_speaking(&self, suites: Suites) -> Actor {
        let actor = self.start_speaking("cortado", self.business_role(), suites);
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let card = actor.endpoint.business_card().await.unwrap();
            // At its start it still has the bundle of before.
            let of_now = |bundle: &Vec<u8>| {
                let bundle = Bundle::verify(bundle, &card.key, self.clock.now_ms() / 1000);
                bundle.is_ok_and(|bundle| bundle.suites_with(Suites::ALL) == Some(suites))
            };
            if card.ready && card.bundle.as_ref().is_some_and(of_now) {
                *self.bundle.lock().unwrap() = card.bundle;
                return actor;
            }
            assert!(tokio::time::Instant::now() < deadline, "the business never became ready");
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn business_role(&self) -> RoleOptions {
        RoleOptions::Business(BusinessOptions {
            handle: "cortado".into(),
            name: "Cortado Coffee".into(),
            relay_url: self.relay_url(),
            readers: vec![("Team".into(), "agents".into())],
            window_ms: 24 * 3_600_000,
            push_key: Some(PUSH_KEY),
        })
    }

    pub(crate) fn serve_bundle(&self, bundle: Vec<u8>) {
        *self.bundle.lock().unwrap() = Some(bundle);
    }

    /// Stops an endpoint and copies its folder, as a backup would; the name to start the copy under.
    pub(crate) async fn copy_of(&self, actor: &mut Actor, name: &str) -> String {
        actor.endpoint.shutdown().await;
        let copy = self.folder.path().join(name);
        std::fs::create_dir(&copy).unwrap();
        for entry in std::fs::read_dir(&actor.folder).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
        }
        name.to_owned()
    }

    pub(crate) async fn link(&self, business: &Actor) -> Link {
        self.link_to(business.endpoint.business_card().await.unwrap().key)
    }

    /// A link to whoever has this key, at this world's web server.
    pub(crate) fn link_to(&self, key: IdentityHash) -> Link {
        Link::new(&format!("http://{}", self.origin), "cortado", key, Some("flyer")).unwrap()
    }

    /// A customer who has opened the link and written nothing yet.
    pub(crate) async fn customer(&self, name: &str, link: &Link) -> (Actor, Conversation) {
        self.customer_speaking(name, link, Suites::DEFAULT).await
    }

    pub(crate) async fn customer_speaking(&self, name: &str, link: &Link, suites: Suites) -> (Actor, Conversation) {
        let actor = self.start_speaking(name, RoleOptions::Customer, suites);
        let begin = Begin { name: Some(name.into()), ..Begin::default() };
        let conversation = actor.endpoint.begin(link, begin).await.unwrap();
        (actor, conversation)
    }
}

/// Every story ends so: whatever was copied, killed or begun again in it, nothing was sealed twice under one key.
impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let left = seals::left();
            assert!(left.places() > 0, "nobody has watched");
            assert_eq!(left.twice(), [], "sealed twice under one key");
        }
    }
}

pub(crate) struct Actor {
    pub(crate) endpoint: Endpoint,
    events: UnboundedReceiver<Event>,
    pub(crate) folder: PathBuf,
    /// Every event so far.
    pub(crate) seen: Vec<Event>,
}

impl Actor {
    pub(crate) fn into_parts(self) -> (Endpoint, UnboundedReceiver<Event>) {
        (self.endpoint, self.events)
    }

    /// The next event that fits; those before it are kept in `seen`.
    pub(crate) async fn wait<T>(&mut self, what: &str, mut fits: impl FnMut(&Event) -> Option<T>) -> T {
        let waiting = async {
            while let Some(event) = self.events.recv().await {
                let found = fits(&event);
                self.seen.push(event);
                if let Some(found) = found {
                    return found;
                }
            }
            panic!("the endpoint stopped while waiting for {what}");
        };
        match tokio::time::timeout(DEADLINE, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("no {what}; seen: {:#?}", self.seen),
        }
    }

    /// An event that has come already.
    pub(crate) fn passed(&mut self) -> Option<Event> {
        let event = self.events.try_recv().ok()?;
        self.seen.push(event.clone());
        Some(event)
    }

    /// Epoch and authenticator of a conversation.
    pub(crate) async fn epoch(&self, number: u64) -> (u64, [u8; 8]) {
        self.endpoint.epoch(bulla_client::event::ConversationId(number)).await.unwrap()
    }

    pub(crate) async fn incoming(&mut self) -> Message {
        use bulla_client::event::Direction::Incoming;
        self.wait("incoming message", |e| match e {
            Event::Message(m) if m.direction == Incoming => Some(m.clone()),
            _ => None,
        })
        .await
    }

    /// Waits until a message has, or had, a status.
    pub(crate) async fn status(&mut self, id: bulla_e2ee::content::MessageId, status: Status) -> Message {
        let fits = |e: &Event| match e {
            Event::Status { message, .. } if message.id == id && message.status == status => Some(message.clone()),
            _ => None,
        };
        if let Some(earlier) = self.seen.iter().find_map(fits) {
            return earlier;
        }
        self.wait(&format!("status {status:?}"), fits).await
    }

    pub(crate) async fn connection(&mut self, state: Connection) {
        self.wait(&format!("{state:?}"), |e| (*e == Event::Connection(state)).then_some(())).await;
    }
}
