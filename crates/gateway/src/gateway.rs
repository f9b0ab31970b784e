//! Starting and stopping a gateway, in a process of its own or inside a test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bulla_client::endpoint::{BusinessOptions, CommandError, Endpoint, Options, RoleOptions, StartError};
use bulla_client::store::StoreError;
use bulla_client::transport::ws::WsTransport;
use bulla_e2ee::link::{Link, LinkError};
use bulla_e2ee::suite::Suites;
use bulla_tls::{Tls, TlsError};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::account::Credentials;
use crate::backup;
use crate::business::Business;
use crate::config::{ApiReach, Config};
use crate::console::guard::{Guard, OriginError};
use crate::console::log::Log;
use crate::console::record::Recorder;
use crate::console::sessions::Sessions;
use crate::console::{self, Console};
use crate::egress::outside::Outside;
use crate::egress::{Egress, EgressError};
use crate::entropy::Entropy;
use crate::feed::{Feed, Happening};
use crate::open::{self, Opened, Start};
use crate::push::Pusher;
use crate::secret::Secret;
use crate::store::facts;
use crate::webhooks::deliverer::Deliverer;
use crate::webhooks::payload::Place;
use crate::webhooks::projector::{Opaque, WebhookProjector};
use crate::{app, cloud_api, env, public, watch as watching};

/// The service window: how long after a customer's message free text may be sent.
const WINDOW_MS: u64 = 24 * 3_600_000;

/// How long requests that are being answered may hold up a shutdown.
const GRACE: Duration = Duration::from_secs(5);

/// Why a gateway did not start, or cannot answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The API would be reachable from elsewhere, and nobody said that it should.
    #[error(
        "the API would listen on {0}, which others can reach; listen on 127.0.0.1, or say explicitly that the network may reach it, under TLS"
    )]
    Exposed(SocketAddr),
    /// The console would be reachable from elsewhere, and nobody said where.
    #[error(
        "the console would be reached on {0}, from other machines; leave it out, or say its address behind a proxy with TLS (--console-origin)"
    )]
    ConsoleExposed(SocketAddr),
    /// The console's address cannot be one.
    #[error("the console cannot be reached at {origin}: {cause}")]
    ConsoleOrigin {
        /// The address.
        origin: Box<url::Url>,
        /// Why.
        cause: OriginError,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {cause}; choose another address, port 0 takes any free one")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// In the system's words.
        cause: std::io::Error,
    },
    /// There is no certificate to show, or none to trust.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The data folder cannot be made or read.
    #[error("cannot use the data folder {folder}: {cause}; choose another with --data, or mend its permissions")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// In the system's words.
        cause: std::io::Error,
    },
    /// Nothing to serve.
    #[error("there is no business in {0}; name one to be made")]
    NoBusiness(PathBuf),
    /// Not a handle.
    #[error("'{0}' cannot be a handle: use 1 to 64 of a-z 0-9 . _ -, not beginning with a dot")]
    Handle(String),
    /// A business's store or key does not open.
    #[error("the business '{handle}' cannot be opened: {cause}")]
    Open {
        /// The business.
        handle: String,
        /// Why.
        cause: StoreError,
    },
    /// A business's endpoint does not start.
    #[error("the business '{handle}' cannot be started: {cause}")]
    Start {
        /// The business.
        handle: String,
        /// Why.
        cause: StartError,
    },
    /// Links cannot be made of the public address.
    #[error(
        "links cannot begin with {origin}: {cause}; give the https:// address under which customers reach this gateway with --public-url"
    )]
    Origin {
        /// What links would begin with.
        origin: String,
        /// Why.
        cause: LinkError,
    },
    /// An endpoint does not answer.
    #[error("the business '{handle}' does not answer: {cause}")]
    Endpoint {
        /// The business.
        handle: String,
        /// Why.
        cause: CommandError,
    },
    /// The webhook's URL cannot be one.
    #[error("the webhook's URL cannot be used: {0}")]
    Webhook(#[from] crate::egress::AddressError),
    /// No HTTP client.
    #[error("webhooks cannot be sent: {0}")]
    Egress(#[from] EgressError),
    /// No thread for the opening of stores.
    #[error("the system has no thread left to open the stores with")]
    Thread,
}

/// The gateway. See [`Gateway::serve`].
#[derive(Debug, Clone, Copy)]
pub struct Gateway;

/// A gateway at work. It stops when [`Running::shutdown`] is called, or without grace when this is dropped.
#[derive(Debug)]
pub struct Running {
    /// Where SDKs call.
    pub api_addr: SocketAddr,
    /// Where customers fetch bundles.
    pub public_addr: SocketAddr,
    /// The same, as a browser is told it.
    pub public_at: String,
    /// Where SDKs call, as they are told it.
    pub api_base: String,
    served: Arc<Vec<Served>>,
    feed: Feed,
    pub(crate) console: Option<Console>,
    ready: Vec<watch::Receiver<bool>>,
    tasks: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

/// A business and where it is reached.
#[derive(Debug)]
pub(crate) struct Served {
    business: Arc<Business>,
    link: String,
    api_base: String,
    relay_url: String,
}

impl Served {
    pub(crate) async fn credentials(&self) -> Result<Credentials, ServeError> {
        let account = &self.business.account;
        let fail = |cause| ServeError::Endpoint { handle: account.handle.clone(), cause };
        let token = self.business.endpoint.with_store(|tx| facts::token(tx)).await.map_err(fail)?;
        Ok(Credentials {
            handle: account.handle.clone(),
            name: account.name.clone(),
            link: self.link.clone(),
            api_base: self.api_base.clone(),
            phone_number_id: account.phone_number_id.clone(),
            waba_id: account.waba_id.clone(),
            app_id: account.app_id.clone(),
            access_token: token.ok_or(fail(CommandError::Stopped))?,
            app_secret: account.app_secret.clone(),
            verify_token: account.verify_token.clone(),
            relay_url: self.relay_url.clone(),
        })
    }
}

impl Gateway {
    /// Opens or makes the businesses, starts their endpoints and listens. Needs no relay to start: what waits for one waits.
    pub async fn serve(config: Config) -> Result<Running, ServeError> {
        if config.api_reach == ApiReach::Loopback && !config.api_listen.ip().is_loopback() {
            return Err(ServeError::Exposed(config.api_listen));
        }
        if let Some(url) = &config.webhook {
            crate::egress::admit(url.as_str())?;
        }
        let outside = Outside::with(config.push_networks.clone());
        let egress = Egress::new(outside.clone())?;
        let log = if config.console.is_some() { Log::new() } else { Log::default() };
        let (public_listener, public_addr) = listen(config.public_listen).await?;
        let (api_listener, api_addr) = listen(config.api_listen).await?;
        let console_at = console_at(&config, api_addr)?;
        let tls = match config.tls.clone() {
            Some(source) => Some(tls(source, &config).await?),
            None => None,
        };
        let at = |tls: Option<&Tls>, address| {
            tls.map_or_else(|| format!("http://{address}"), |tls| tls.url("https", address))
        };
        let api_tls = tls.as_ref().filter(|_| config.api_reach == ApiReach::Network);
        let (public_at, api_base) = (at(tls.as_ref(), public_addr), at(api_tls, api_addr));
        let origin = config.public_url.clone().unwrap_or_else(|| public_at.clone());
        let origin = origin.trim_end_matches('/').to_owned();
        let roots = bulla_tls::roots::with(config.relay_ca.as_deref()).await?;
        let folder = |cause| ServeError::Folder { folder: config.data.clone(), cause };
        open::make_folder(&config.data).map_err(folder)?;

        let entropy = Entropy::new(Box::new(rand_core::OsRng));
        let (feed, stop) = (Feed::new(), CancellationToken::new());
        // Whatever fails from here on, tasks that have been started end.
        let guard = stop.clone().drop_guard();
        let mut taken = Vec::new();
        let mut parts = Vec::new();
        for (handle, name) in open::handles(&config.data, &config.businesses)? {
            let opened = open_apart(&config, handle.clone(), name, taken.clone(), entropy.clone()).await?;
            taken.extend(opened.account.ids().into_iter().cloned());
            let shared = Shared {
                config: &config,
                origin: &origin,
                api_base: &api_base,
                roots: &roots,
                egress: &egress,
                outside: &outside,
                entropy: &entropy,
                feed: &feed,
                log: &log,
            };
            parts.push(shared.start(opened, &stop).await?);
        }
        let socket = env::bind(&config.data).map_err(folder)?;

        let (mut served, mut ready, mut tasks) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts {
            served.push(part.served);
            ready.push(part.ready);
            tasks.extend(part.tasks);
        }
        let served = Arc::new(served);
        let businesses: Arc<Vec<_>> = Arc::new(served.iter().map(|s: &Served| Arc::clone(&s.business)).collect());
        let api = cloud_api::Api {
            businesses: Arc::clone(&businesses),
            urls: cloud_api::media::UrlKey::new(&entropy),
            passes: cloud_api::paging::PassKey::new(&entropy),
            entropy: entropy.clone(),
        };
        let console = config.console.clone().map(|app| {
            let secrets = served.iter().flat_map(|s| s.business.account.secrets().map(Clone::clone)).collect();
            Console::new(console::Inner {
                app,
                guard: console_at,
                sessions: Sessions::new(entropy, Arc::clone(&config.clock)),
                recorder: Recorder { log, clock: Arc::clone(&config.clock), secrets: Arc::new(secrets) },
                api: api.clone(),
                businesses: served.iter().map(|s| (Arc::clone(&s.business), s.link.clone())).collect(),
                api_base: api_base.clone(),
                cookie: console::cookie_name(api_addr),
                stop: stop.clone(),
            })
        });
        let routes = console.clone().map_or_else(|| cloud_api::router(api), console::router);
        tasks.push(serve_http(api_listener, api_tls, routes, stop.clone()));
        let (app, policy) = (config.app.clone().map(Arc::new), app::policy(&config.relay_url, &config.embed).into());
        let for_customers = public::Public { businesses, app, policy };
        tasks.push(serve_http(public_listener, tls.as_ref(), public::router(for_customers), stop.clone()));
        tasks.push(tokio::spawn(env::serve(
            socket,
            config.data.clone(),
            Arc::clone(&served),
            console.clone(),
            stop.clone(),
        )));
        guard.disarm();
        Ok(Running { api_addr, public_addr, public_at, api_base, served, feed, console, ready, tasks, stop })
    }
}

impl Running {
    /// What happens from now on, for a terminal.
    #[must_use]
    pub fn feed(&self) -> broadcast::Receiver<Happening> {
        self.feed.subscribe()
    }

    /// Waits until every business can be written to: its mailbox is open and its bundle published.
    pub async fn ready(&self) {
        for business in &self.ready {
            // An endpoint that ended will never be ready: whoever waits has a deadline, and the log has the reason.
            if business.clone().wait_for(|ready| *ready).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// What developers need, per business in order of handles.
    pub async fn credentials(&self) -> Result<Vec<Credentials>, ServeError> {
        let mut all = Vec::new();
        for business in self.served.iter() {
            all.push(business.credentials().await?);
        }
        Ok(all)
    }

    /// A link that opens the console in a browser, once, within an hour; none without a console.
    #[must_use]
    pub fn console_link(&self) -> Option<Secret> {
        self.console.as_ref().map(Console::link)
    }

    /// Stops: answers what is being asked, closes the stores. Webhooks on their way are sent again at the next start.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        for task in std::mem::take(&mut self.tasks) {
            let abort = task.abort_handle();
            if tokio::time::timeout(GRACE, task).await.is_err() {
                abort.abort();
            }
        }
        for served in self.served.iter() {
            served.business.endpoint.shutdown().await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Part {
    served: Served,
    ready: watch::Receiver<bool>,
    tasks: [JoinHandle<()>; 4],
}

/// What the businesses of one gateway share while they start.
struct Shared<'a> {
    config: &'a Config,
    origin: &'a str,
    api_base: &'a str,
    roots: &'a rustls::RootCertStore,
    egress: &'a Egress,
    outside: &'a Outside,
    entropy: &'a Entropy,
    feed: &'a Feed,
    log: &'a Log,
}

impl Shared<'_> {
    async fn start(&self, opened: Opened, stop: &CancellationToken) -> Result<Part, ServeError> {
        let Opened { store, root, account, push_key, restored } = opened;
        let handle = account.handle.clone();
        let options = Options {
            suites: Suites::DEFAULT,
            role: RoleOptions::Business(BusinessOptions {
                handle: handle.clone(),
                name: account.name.clone(),
                relay_url: self.config.relay_url.clone(),
                readers: vec![(account.name.clone(), "business".to_owned())],
                window_ms: WINDOW_MS,
                push_key: Some(push_key.public()),
            }),
            clock: Arc::clone(&self.config.clock),
            restored,
        };
        let opaque = Opaque::default();
        let place = Place { account: account.clone(), public_link: format!("{}/@{handle}", self.origin) };
        let projector = Box::new(WebhookProjector {
            place,
            opaque: opaque.clone(),
            outside: self.outside.clone(),
            identity: self.config.identity_keys.get(&handle).cloned(),
        });
        let start = |cause| ServeError::Start { handle: handle.clone(), cause };
        let transport = WsTransport::with_roots(self.roots.clone()).map_err(|e| start(e.into()))?;
        let starting = move || Endpoint::start_with(store, root, options, projector, transport);
        let started = tokio::task::spawn_blocking(starting).await;
        let (endpoint, events) = started.map_err(|_| ServeError::Thread)?.map_err(start)?;
        if restored {
            backup::begun(&self.config.data.join(&handle))
                .map_err(|cause| ServeError::Folder { folder: self.config.data.clone(), cause })?;
        }
        let card = endpoint.business_card().await;
        let card = card.map_err(|cause| ServeError::Endpoint { handle: handle.clone(), cause })?;
        let link = Link::new(self.origin, &handle, card.key, None)
            .map_err(|cause| ServeError::Origin { origin: self.origin.to_owned(), cause })?;

        let (wakes, woken) = mpsc::unbounded_channel();
        let deliverer = Deliverer {
            handle,
            secret: account.app_secret.clone(),
            endpoint: endpoint.clone(),
            egress: self.egress.clone(),
            entropy: self.entropy.clone(),
            clock: Arc::clone(&self.config.clock),
            feed: self.feed.clone(),
            log: self.log.clone(),
        };
        let (owe, owed) = mpsc::unbounded_channel();
        let pusher = Pusher {
            endpoint: endpoint.clone(),
            egress: self.egress.clone(),
            entropy: self.entropy.clone(),
            clock: Arc::clone(&self.config.clock),
            key: push_key,
            contact: self.origin.to_owned(),
        };
        let inputs = (self.entropy.clone(), Arc::clone(&self.config.clock));
        let business = Business::new(account, endpoint, self.egress.clone(), inputs, opaque, wakes, stop.clone());
        let (is_ready, ready) = watch::channel(false);
        let watched = watching::run(Arc::clone(&business), events, owe, self.feed.clone(), is_ready, stop.clone());
        let followed = console::follow(Arc::clone(&business), self.log.clone(), stop.clone());
        let tasks = [
            tokio::spawn(watched),
            tokio::spawn(deliverer.run(woken, stop.clone())),
            tokio::spawn(pusher.run(owed, stop.clone())),
            tokio::spawn(followed),
        ];
        let served = Served {
            business,
            link: link.to_string(),
            api_base: self.api_base.to_owned(),
            relay_url: self.config.relay_url.clone(),
        };
        Ok(Part { served, ready, tasks })
    }
}

/// Opens a business on a thread for blocking work.
async fn open_apart(
    config: &Config,
    handle: String,
    name: Option<String>,
    taken: Vec<String>,
    entropy: Entropy,
) -> Result<Opened, ServeError> {
    let folder = Path::new(&config.data).join(&handle);
    let (passphrase, webhook) = (config.passphrase.clone(), config.webhook.clone());
    let (now_ms, runtime) = (config.clock.now_ms(), tokio::runtime::Handle::current());
    let at = handle.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let start = Start {
            name: name.as_deref(),
            passphrase: passphrase.as_ref(),
            webhook: webhook.as_ref().map(url::Url::as_str),
            now_ms,
        };
        runtime.block_on(open::open(&folder, &at, &start, &taken, &entropy))
    });
    opened.await.map_err(|_| ServeError::Thread)?.map_err(|cause| ServeError::Open { handle, cause })
}

/// Which origins the console has. Without a console it does not matter.
fn console_at(config: &Config, api: SocketAddr) -> Result<Guard, ServeError> {
    match &config.console_origin {
        Some(origin) => {
            Guard::behind(origin).map_err(|cause| ServeError::ConsoleOrigin { origin: Box::new(origin.clone()), cause })
        }
        None if config.console.is_some() && !api.ip().is_loopback() => Err(ServeError::ConsoleExposed(api)),
        None => Ok(Guard::at(api)),
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let fail = |cause| ServeError::Listen { address, cause };
    let listener = TcpListener::bind(address).await.map_err(fail)?;
    let bound = listener.local_addr().map_err(fail)?;
    Ok((listener, bound))
}

async fn tls(source: bulla_tls::Source, config: &Config) -> Result<Tls, TlsError> {
    let clock = Arc::clone(&config.clock);
    Tls::start(source, Arc::new(move || clock.now_ms() / 1_000)).await
}

fn serve_http(
    listener: TcpListener,
    tls: Option<&Tls>,
    router: axum::Router,
    stop: CancellationToken,
) -> JoinHandle<()> {
    let tls = tls.cloned();
    tokio::spawn(async move {
        let stopped = stop.cancelled_owned();
        let served = match tls {
            Some(tls) => axum::serve(tls.listen(listener), router).with_graceful_shutdown(stopped).await,
            None => axum::serve(listener, router).with_graceful_shutdown(stopped).await,
        };
        if let Err(e) = served {
            tracing::error!(error = %e, "a listener ended");
        }
    })
}
