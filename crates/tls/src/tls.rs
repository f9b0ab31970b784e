//! A certificate that is kept up to date, and what rustls is told.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::acme::{self, Acme};
use crate::certificate::{self, provider};
use crate::error::TlsError;
use crate::files::Files;
use crate::listener::TlsListener;

/// The time, in seconds since 1970.
pub type Now = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The certificate in use; none until the first has been ordered.
pub(crate) type Current = watch::Sender<Option<Arc<CertifiedKey>>>;

/// How often the files are looked at, or how much time a certificate has left. Whoever renews one does so weeks before it ends.
const EVERY: Duration = Duration::from_secs(60);

/// The protocol in which an ACME server asks whether a name is ours (RFC 8737).
pub(crate) const CHALLENGE: &[u8] = b"acme-tls/1";

/// Where a certificate comes from.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Source {
    /// Two files, which somebody else renews.
    Files {
        /// The chain in PEM, the server's own certificate first.
        certificate: PathBuf,
        /// Its key in PEM.
        key: PathBuf,
    },
    /// An ACME server, such as Let's Encrypt.
    Acme(Acme),
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// For whom it is: names and addresses as text, in order.
    pub names: Vec<String>,
    /// When it begins and ends, in seconds since 1970.
    pub begins: u64,
    /// See `begins`.
    pub ends: u64,
}

impl Source {
    /// Looks at the certificate that is there, without ordering or keeping anything. One that is ordered may not be
    /// there yet.
    pub async fn look(&self, now: u64) -> Result<Option<Seen>, TlsError> {
        let (chain, key) = match self {
            Self::Files { certificate, key } => (certificate.clone(), key.clone()),
            Self::Acme(acme) => (acme.certificate(), acme.certificate()),
        };
        let pem = match (certificate::read(&chain).await, self) {
            (Err(TlsError::Missing(_)), Self::Acme(_)) => return Ok(None),
            (read, _) => read?,
        };
        let loaded = certificate::load((&chain, &pem), (&key, &certificate::read(&key).await?), now)?;
        Ok(Some(Seen { names: loaded.names, begins: loaded.begins, ends: loaded.ends }))
    }
}

/// A certificate that is kept up to date, as long as this or a listener of it lives.
#[derive(Clone)]
pub struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    current: watch::Receiver<Option<Arc<CertifiedKey>>>,
    name: Option<String>,
    pub(crate) refused: Arc<AtomicU64>,
    _keeper: Arc<Keeper>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The task that keeps the certificate up to date.
struct Keeper(JoinHandle<()>);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Tls {
    /// Reads the files, which must be good; or takes the certificate that was ordered before, and orders one where there is none. That takes
    /// seconds, and goes on meanwhile: until then handshakes fail.
    pub async fn start(source: Source, now: Now) -> Result<Self, TlsError> {
        Self::start_looking(source, now, EVERY).await
    }

    /// As [`Tls::start`], looking so often whether there is something new or it is time: for tests.
    pub async fn start_looking(source: Source, now: Now, every: Duration) -> Result<Self, TlsError> {
        let (current, receiver) = watch::channel(None);
        let resolver = Arc::new(Resolver { current: receiver.clone(), challenges: Mutex::default() });
        let (keeper, name) = match source {
            Source::Files { certificate, key } => {
                let mut files = Files::new(&certificate, &key);
                if let Some(loaded) = files.look(now()).await? {
                    current.send_replace(Some(loaded.key));
                }
                (tokio::spawn(files.follow(every, now, current)), None)
            }
            Source::Acme(acme) => {
                let name = acme.domains.first().cloned();
                let kept = acme::open(&acme, now()).await?;
                current.send_replace(kept.as_ref().map(|kept| Arc::clone(&kept.key)));
                (tokio::spawn(acme::keep(acme, kept, every, now, current, Arc::clone(&resolver))), name)
            }
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Setup(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec(), CHALLENGE.to_vec()];
        // No session is resumed: see the crate's documentation.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self {
            config: Arc::new(config),
            current: receiver,
            name,
            refused: Arc::default(),
            _keeper: Arc::new(Keeper(keeper)),
        })
    }

    /// Under which name it is reached, if that is known here: the first of those for which a certificate is ordered.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// An origin or a relay's address on this port: `wss` and `https` do not say 443.
    #[must_use]
    pub fn url(&self, scheme: &str, address: std::net::SocketAddr) -> String {
        match (&self.name, address.port()) {
            (None, _) => format!("{scheme}://{address}"),
            (Some(name), 443) => format!("{scheme}://{name}"),
            (Some(name), port) => format!("{scheme}://{name}:{port}"),
        }
    }

    /// The certificate in use, and every one that takes its place.
    #[must_use]
    pub fn certificates(&self) -> watch::Receiver<Option<Arc<CertifiedKey>>> {
        self.current.clone()
    }

    /// How many handshakes have failed.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Speaks TLS on a listener, for [`axum::serve()`].
    #[must_use]
    pub fn listen(&self, listener: TcpListener) -> TlsListener {
        TlsListener::new(listener, self.clone())
    }
}

/// Chooses the certificate for each handshake.
pub(crate) struct Resolver {
    current: watch::Receiver<Option<Arc<CertifiedKey>>>,
    /// What an ACME server wants to see, by the name that it asks for.
    challenges: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl Resolver {
    /// From now on whoever asks for this name in the challenge's protocol is shown this.
    pub(crate) fn challenge(&self, name: String, shown: Arc<CertifiedKey>) {
        self.challenges.lock().unwrap_or_else(PoisonError::into_inner).insert(name, shown);
    }

    /// The server has asked.
    pub(crate) fn no_challenges(&self) {
        self.challenges.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == CHALLENGE)) {
            let challenges = self.challenges.lock().unwrap_or_else(PoisonError::into_inner);
            return challenges.get(hello.server_name()?).cloned();
        }
        self.current.borrow().clone()
    }
}
