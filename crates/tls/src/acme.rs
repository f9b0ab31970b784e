//! Certificates from an ACME server (RFC 8555), such as Let's Encrypt, proved in a handshake on the port that is served anyway (TLS-ALPN-01,
//! RFC 8737). The protocol is instant-acme's; this decides when to order, shows the proof, and keeps what came.

use std::error::Error as _;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType, HttpClient,
    Identifier, NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use url::Url;

use crate::certificate::{self, Loaded, day, provider};
use crate::error::TlsError;
use crate::tls::{Current, Now, Resolver};
use crate::{local, roots};

/// Pauses after orders that failed, first and longest: Let's Encrypt allows five failures an hour.
const PAUSE: (Duration, Duration) = (Duration::from_secs(5 * 60), Duration::from_secs(6 * 3_600));

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long a server may take to look at the proof, and to issue.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes of an answer.
const LONGEST: usize = 1 << 20;

/// Names in one certificate.
const NAMES: usize = 20;

/// What is ordered, and where.
#[derive(Debug, Clone)]
pub struct Acme {
    /// For which names.
    pub domains: Vec<String>,
    /// `mailto:…`, where the server may write to.
    pub contact: Option<String>,
    /// The server's directory.
    pub directory: Url,
    /// Whom to trust when talking to the server, besides the public authorities; in PEM.
    pub authority: Option<PathBuf>,
    /// Where the account and the certificate are kept.
    pub folder: PathBuf,
}

impl Acme {
    /// The same, if it can be ordered.
    pub(crate) fn checked(self) -> Result<Self, TlsError> {
        if self.domains.len() > NAMES {
            return Err(TlsError::TooManyDomains(NAMES));
        }
        for name in &self.domains {
            let labels = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
            let is_address = name.parse::<std::net::IpAddr>().is_ok();
            if !name.contains('.') || !name.chars().all(labels) || name.len() > 253 || is_address {
                return Err(TlsError::Domain(name.clone()));
            }
        }
        if self.directory.scheme() != "https" {
            return Err(TlsError::Directory(Box::new(self.directory)));
        }
        Ok(self)
    }

    /// Where what this server knows and gave is kept: `acme/acme-v02.api.letsencrypt.org`.
    fn folder(&self) -> PathBuf {
        let host = self.directory.host_str().unwrap_or_default();
        self.folder.join(match self.directory.port() {
            Some(port) => format!("{host}_{port}"),
            None => host.to_owned(),
        })
    }

    /// The chain and its key: `shop.example.pem`, after the first name.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder().join(format!("{}.pem", self.domains.first().map(String::as_str).unwrap_or_default()))
    }

    /// The key by which the server knows us.
    fn account(&self) -> PathBuf {
        self.folder().join("account.json")
    }

    /// Whether a certificate is for these names.
    fn is_for(&self, loaded: &Loaded) -> bool {
        let mut wanted = self.domains.clone();
        wanted.sort_unstable();
        wanted.dedup();
        loaded.names == wanted
    }
}

/// What was ordered before, if it is still good.
pub(crate) async fn open(acme: &Acme, now: u64) -> Result<Option<Loaded>, TlsError> {
    // Now rather than when the certificate comes: whoever starts this is here to mend it.
    local::make_folder(&acme.folder()).await?;
    let file = acme.certificate();
    let pem = match certificate::read(&file).await {
        Ok(pem) => pem,
        Err(TlsError::Missing(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    // Whatever is wrong with it, another is ordered.
    Ok(certificate::load((&file, &pem), (&file, &pem), now).ok().filter(|loaded| acme.is_for(loaded)))
}

/// Orders a certificate when there is none, renews it when a third of its time is left, and tries again when that fails.
pub(crate) async fn keep(
    acme: Acme,
    mut kept: Option<Loaded>,
    every: Duration,
    now: Now,
    current: Current,
    resolver: Arc<Resolver>,
) {
    let mut pause = PAUSE.0;
    loop {
        if kept.as_ref().is_some_and(|kept| !is_due(kept, now())) {
            tokio::time::sleep(every).await;
            continue;
        }
        let ordered = order(&acme, &resolver, now()).await;
        resolver.no_challenges();
        match ordered {
            Ok(loaded) => {
                tracing::info!(domains = acme.domains.join(", "), until = day(loaded.ends), "a certificate was issued");
                current.send_replace(Some(Arc::clone(&loaded.key)));
                pause = PAUSE.0;
                if is_due(&loaded, now()) {
                    tracing::warn!("the new certificate is to be renewed already: is this machine's clock right?");
                    tokio::time::sleep(PAUSE.1).await;
                }
                kept = Some(loaded);
            }
            Err(error) => {
                tracing::warn!(
                    domains = acme.domains.join(", "),
                    error = error.to_string(),
                    again_in_minutes = pause.as_secs() / 60,
                    "no certificate was issued: port 443 of each name must lead here, and its CAA records must allow it"
                );
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

/// Whether a third of its time or less is left.
fn is_due(loaded: &Loaded, now: u64) -> bool {
    now + loaded.ends.saturating_sub(loaded.begins) / 3 >= loaded.ends
}

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
enum OrderError {
    #[error("{}", with_causes(.0))]
    Acme(#[from] instant_acme::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the server does not ask for a proof by TLS-ALPN-01")]
    NoChallenge,
    #[error("the server did not accept the proof: the order is {0:?}")]
    Refused(OrderStatus),
    #[error("the proof cannot be made: {0}")]
    Proof(String),
    #[error("the account's file is damaged: {0}")]
    Account(#[from] serde_json::Error),
}

/// An error and what caused it, which says more.
fn with_causes(error: &instant_acme::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

async fn order(acme: &Acme, resolver: &Resolver, now: u64) -> Result<Loaded, OrderError> {
    let account = account(acme).await?;
    let names: Vec<_> = acme.domains.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let mut challenge = authorization.challenge(ChallengeType::TlsAlpn01).ok_or(OrderError::NoChallenge)?;
        let name = challenge.identifier().to_string();
        let shown = proof(&name, challenge.key_authorization().digest().as_ref())?;
        resolver.challenge(name, Arc::new(shown));
        challenge.set_ready().await?;
    }
    let patience = RetryPolicy::new().timeout(PATIENCE);
    match order.poll_ready(&patience).await? {
        OrderStatus::Ready => {}
        status => return Err(OrderError::Refused(status)),
    }
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&patience).await?;
    let (file, pem) = (acme.certificate(), format!("{key}{chain}"));
    let loaded = certificate::load((&file, pem.as_bytes()), (&file, pem.as_bytes()), now)?;
    local::write(&file, pem.as_bytes()).await?;
    Ok(loaded)
}

async fn account(acme: &Acme) -> Result<Account, OrderError> {
    let builder = || async {
        Ok::<_, OrderError>(Account::builder_with_http(Box::new(Http::new(acme.authority.as_deref()).await?)))
    };
    let file = acme.account();
    match certificate::read(&file).await {
        Ok(bytes) => {
            let credentials: AccountCredentials = serde_json::from_slice(&bytes)?;
            return Ok(builder().await?.from_credentials(credentials).await?);
        }
        Err(TlsError::Missing(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let contact: Vec<_> = acme.contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let (account, credentials) = builder().await?.create(&new, acme.directory.to_string(), None).await?;
    local::write(&file, &serde_json::to_vec(&credentials)?).await?;
    Ok(account)
}

/// A certificate that shows the server that whoever has the account's key answers under this name (RFC 8737, section 3).
fn proof(name: &str, digest: &[u8]) -> Result<CertifiedKey, OrderError> {
    let fail = |error: &dyn std::fmt::Display| OrderError::Proof(error.to_string());
    let mut params = CertificateParams::new([name.to_owned()]).map_err(|e| fail(&e))?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let pair = KeyPair::generate().map_err(|e| fail(&e))?;
    let made = params.self_signed(&pair).map_err(|e| fail(&e))?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der()));
    let key = provider().key_provider.load_private_key(key).map_err(|e| fail(&e))?;
    // Not `from_der`, which refuses the critical extension that makes it a proof.
    Ok(CertifiedKey::new(vec![made.der().clone()], key))
}

/// Talks to the ACME server: only under TLS, only where it was sent.
struct Http(reqwest::Client);

impl Http {
    async fn new(authority: Option<&Path>) -> Result<Self, TlsError> {
        let setup = |error: &dyn std::fmt::Display| TlsError::Setup(error.to_string());
        let tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| setup(&e))?
            .with_root_certificates(roots::with(authority).await?)
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| setup(&e))?;
        Ok(Self(client))
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>>;

impl HttpClient for Http {
    fn request(&self, request: http::Request<BodyWrapper<Bytes>>) -> Answer {
        let client = self.0.clone();
        Box::pin(async move {
            let fail = |error: reqwest::Error| instant_acme::Error::Other(Box::new(error));
            // Whole, so that its length is said: servers insist on it.
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(|error| instant_acme::Error::Other(error.into()))?.to_bytes();
            let request = reqwest::Request::try_from(http::Request::from_parts(head, body)).map_err(fail)?;
            let answer: http::Response<reqwest::Body> = client.execute(request).await.map_err(fail)?.into();
            Ok(BytesResponse::from(answer.map(|body| http_body_util::Limited::new(body, LONGEST))))
        })
    }
}
