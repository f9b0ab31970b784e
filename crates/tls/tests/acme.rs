//! Certificates ordered from a real ACME server: Pebble, which Let's Encrypt makes for such tests.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bulla_tls::{Now, Source, Tls, TlsArgs, TlsError};
use clap::{Args as _, FromArgMatches as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

/// Nothing in these tests takes this long unless it hangs.
const GUARD: Duration = Duration::from_secs(60);
const NAME: &str = "relay.example";

/// A clock that a test moves: seconds besides the machine's.
fn clock() -> (Now, Arc<AtomicU64>) {
    let ahead = Arc::new(AtomicU64::new(0));
    let read = Arc::clone(&ahead);
    let machine = || u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap();
    (Arc::new(move || machine() + read.load(Ordering::SeqCst)), ahead)
}

/// Flags as they are typed.
fn source(args: &[&str], data: &Path) -> Result<Option<Source>, TlsError> {
    let command = TlsArgs::augment_args(clap::Command::new("program").no_binary_name(true));
    TlsArgs::from_arg_matches(&command.get_matches_from(args)).unwrap().source(data)
}

fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A child that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Starts it, and waits until it says a word.
    fn start(command: &mut Command, word: &str) -> std::io::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let running = Self(child);
        assert!(lines.by_ref().any(|line| line.unwrap().contains(word)), "it ended without saying {word}");
        // Whatever else it says is read, so that it never waits for us.
        std::thread::spawn(move || lines.count());
        Ok(running)
    }
}

/// There is one at a time: each looks for free ports, and would find those that another is about to take.
static TURN: Mutex<()> = Mutex::new(());

/// An ACME server whose proofs are asked for at one port of this machine, whatever the name.
struct Pebble {
    directory: String,
    roots: String,
    ca: PathBuf,
    processes: [Running; 2],
    _turn: MutexGuard<'static, ()>,
}

impl Pebble {
    fn start(folder: &Path, proofs: SocketAddr) -> Option<Self> {
        // A test that failed has put nothing into disorder that another needs.
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let (acme, management, names, names_management) = (free(), free(), free(), free());
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let (ca, key, config) = (folder.join("pebble.crt"), folder.join("pebble.key"), folder.join("pebble.json"));
        std::fs::write(&ca, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let settings = serde_json::json!({"pebble": {
            "listenAddress": acme.to_string(), "managementListenAddress": management.to_string(),
            "certificate": ca, "privateKey": key, "httpPort": 1, "tlsPort": proofs.port(),
            "ocspResponderURL": "", "externalAccountBindingRequired": false,
        }});
        std::fs::write(&config, settings.to_string()).unwrap();
        let mut dns = Command::new("pebble-challtestsrv");
        dns.args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", ""]);
        dns.args(["-dns01", &names.to_string(), "-management", &names_management.to_string()]);
        let dns = match Running::start(&mut dns, "Starting management server") {
            Ok(running) => running,
            Err(error) => {
                eprintln!(
                    "not tested: pebble-challtestsrv cannot be started ({error}); Debian has it in the package pebble"
                );
                return None;
            }
        };
        let mut pebble = Command::new("pebble");
        pebble.arg("-config").arg(&config).args(["-dnsserver", &names.to_string()]).env("PEBBLE_VA_NOSLEEP", "1");
        let pebble = Running::start(&mut pebble, "ACME directory available").unwrap();
        Some(Self {
            directory: format!("https://{acme}/dir"),
            roots: format!("https://{management}/roots/0"),
            ca,
            processes: [dns, pebble],
            _turn,
        })
    }

    /// A client that trusts this server's authority and nobody else.
    async fn client(&self) -> Arc<rustls::ClientConfig> {
        let asking = reqwest_of(&self.ca);
        // It says where its root is before it serves it.
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        let served = async {
            loop {
                looks.tick().await;
                if let Ok(answer) = asking.get(&self.roots).send().await {
                    return answer.bytes().await.unwrap();
                }
            }
        };
        client(&tokio::time::timeout(GUARD, served).await.expect("its root is not served"))
    }
}

fn client(pem: &[u8]) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Arc::new(builder.unwrap().with_root_certificates(roots).with_no_client_auth())
}

fn reqwest_of(ca: &Path) -> reqwest::Client {
    let tls = client(&std::fs::read(ca).unwrap());
    reqwest::Client::builder().tls_backend_preconfigured(Arc::unwrap_or_clone(tls)).build().unwrap()
}

/// Serves, and returns the certificate once there is one.
async fn serve(source: Source, now: Now, listener: TcpListener) -> (Tls, tokio::task::JoinHandle<()>) {
    let tls = Tls::start_looking(source, now, Duration::from_millis(5)).await.unwrap();
    let listener = tls.listen(listener);
    let app = Router::new().route("/", get(async || "hello"));
    let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let mut certificates = tls.certificates();
    let waited = tokio::time::timeout(GUARD, certificates.wait_for(Option::is_some)).await;
    waited.expect("no certificate came").unwrap();
    (tls, task)
}

/// The certificate that a client is shown, and found to be good for a name.
async fn shown(at: SocketAddr, name: &'static str, client: &Arc<rustls::ClientConfig>) -> CertificateDer<'static> {
    let stream = TcpStream::connect(at).await.unwrap();
    let connecting = TlsConnector::from(Arc::clone(client)).connect(ServerName::try_from(name).unwrap(), stream);
    let stream = tokio::time::timeout(GUARD, connecting).await.expect("no handshake").unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_ordered_kept_and_renewed() {
    // Why an order failed, if it does.
    tracing_subscriber::fmt().with_test_writer().init();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let Some(pebble) = Pebble::start(folder.path(), at) else { return };
    let client = pebble.client().await;
    let flags = |names: &[&'static str]| {
        let names = names.iter().flat_map(|name| ["--domain", name]);
        let ca = pebble.ca.to_str().unwrap();
        let rest = ["--acme-directory", &pebble.directory, "--acme-ca", ca, "--acme-contact", "mailto:a@relay.example"];
        source(&names.chain(rest).collect::<Vec<_>>(), &data).unwrap().unwrap()
    };

    let (now, ahead) = clock();
    let (tls, task) = serve(flags(&[NAME]), Arc::clone(&now), listener).await;
    assert_eq!((tls.name(), tls.url("wss", at)), (Some(NAME), format!("wss://{NAME}:{}", at.port())));
    let first = shown(at, NAME, &client).await;
    let kept: Vec<_> = std::fs::read_dir(data.join("acme")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [host] = kept.as_slice() else { panic!("{kept:?}") };
    let mut files: Vec<_> = std::fs::read_dir(host).unwrap().map(|entry| entry.unwrap()).collect();
    files.sort_by_key(std::fs::DirEntry::file_name);
    assert_eq!(
        files.iter().map(std::fs::DirEntry::file_name).collect::<Vec<_>>(),
        ["account.json", "relay.example.pem"]
    );
    for file in &files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }

    // Two thirds of its five years later another takes its place.
    let mut certificates = tls.certificates();
    certificates.mark_unchanged();
    ahead.store(4 * 365 * 86_400, Ordering::SeqCst);
    tokio::time::timeout(GUARD, certificates.changed()).await.expect("it was not renewed").unwrap();
    let second = shown(at, NAME, &client).await;
    assert_ne!(first, second);

    // What was ordered is used again by the next start, for these names.
    task.abort();
    let _ = task.await;
    drop(tls);
    let listener = TcpListener::bind(at).await.unwrap();
    ahead.store(0, Ordering::SeqCst);
    let (tls, task) = serve(flags(&[NAME]), Arc::clone(&now), listener).await;
    assert_eq!(shown(at, NAME, &client).await, second);
    task.abort();
    let _ = task.await;
    drop(tls);
    let listener = TcpListener::bind(at).await.unwrap();
    let (_tls, _task) = serve(flags(&[NAME, "shop.example"]), now, listener).await;
    let third = shown(at, "shop.example", &client).await;
    assert_ne!(third, second);
    assert_eq!(shown(at, NAME, &client).await, third);
}

/// A program that was built with the tests.
fn program(name: &str) -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let found = exe.ancestors().map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not built: cargo build --workspace --bins"))
}

/// Starts it, and returns what it says first.
fn started(command: &mut Command) -> (Running, serde_json::Value) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let running = Running(child);
    let ready = lines.next().expect("it ended without a word").unwrap();
    std::thread::spawn(move || lines.count());
    (running, serde_json::from_str(&ready).unwrap())
}

/// As [`shown`], as soon as there is a certificate.
async fn shown_at_last(at: SocketAddr, client: &Arc<rustls::ClientConfig>) -> CertificateDer<'static> {
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    let look = async {
        loop {
            looks.tick().await;
            let Ok(stream) = TcpStream::connect(at).await else { continue };
            let name = ServerName::try_from(NAME).unwrap();
            if let Ok(stream) = TlsConnector::from(Arc::clone(client)).connect(name, stream).await {
                return stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
            }
        }
    };
    tokio::time::timeout(GUARD, look).await.expect("no certificate that this client trusts came")
}

/// The relay as its operator starts it: told its name and an ACME server, and nothing else of TLS.
#[tokio::test]
async fn a_relay_that_was_told_its_domain_serves_under_a_certificate_that_it_ordered_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (data, at) = (folder.path().join("relay"), free());
    let Some(pebble) = Pebble::start(folder.path(), at) else { return };
    let client = pebble.client().await;
    let start = || {
        let mut serve = Command::new(program("bulla-relay"));
        serve.args(["serve", "--json", "--listen", &at.to_string(), "--domain", NAME]).arg("--data").arg(&data);
        started(serve.args(["--acme-directory", &pebble.directory, "--acme-ca"]).arg(&pebble.ca))
    };
    let (relay, ready) = start();
    assert_eq!(ready["url"], format!("wss://{NAME}:{}/v1/ws", at.port()), "{ready}");
    let first = shown_at_last(at, &client).await;

    // What it serves, it serves under that: the relay's WebSocket.
    let https =
        reqwest::Client::builder().tls_backend_preconfigured((*client).clone()).resolve(NAME, at).build().unwrap();
    let knock = || {
        let url = format!("https://{NAME}:{}/v1/ws", at.port());
        let headers = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
        let request = headers.into_iter().fold(https.get(url), |request, (name, value)| request.header(name, value));
        request.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==").send()
    };
    assert_eq!(knock().await.unwrap().status(), 101);
    // Without TLS there is one sentence for everybody, whatever is asked.
    let plain = https.get(format!("http://{at}/v1/ws")).send().await.unwrap();
    assert_eq!(plain.status(), 400);
    assert!(plain.text().await.unwrap().contains("https"), "what to do instead");

    // The next start has it already, also while the ACME server is away.
    drop(relay);
    for process in &pebble.processes {
        let pid = process.0.id().to_string();
        assert!(Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());
    }
    let (_relay, _) = start();
    assert_eq!(shown_at_last(at, &client).await, first);
    assert_eq!(knock().await.unwrap().status(), 101);
}

#[tokio::test]
async fn without_a_certificate_handshakes_fail_and_the_server_stays() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = format!("https://{}/dir", free());
    let source = source(&["--domain", NAME, "--acme-directory", &nobody], folder.path()).unwrap().unwrap();
    let tls = Tls::start(source, clock().0).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let listener = tls.listen(listener);
    let server = tokio::spawn(async move { axum::serve(listener, Router::new()).await });
    let client = client(rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap().cert.pem().as_bytes());
    for _ in 0..2 {
        let stream = TcpStream::connect(at).await.unwrap();
        let connecting = TlsConnector::from(Arc::clone(&client)).connect(ServerName::try_from(NAME).unwrap(), stream);
        assert!(tokio::time::timeout(GUARD, connecting).await.expect("no answer").is_err());
    }
    assert!(!server.is_finished() && tls.certificates().borrow().is_none());
}

#[test]
fn flags_that_cannot_be_met_are_refused_with_what_to_do() {
    let data = Path::new("data");
    assert!(source(&[], data).unwrap().is_none());
    for name in
        ["*.example", "shop.example:443", "https://shop.example", "SHOP.example", "localhost", "192.168.1.5", ""]
    {
        let error = source(&["--domain", name], data).unwrap_err();
        assert!(matches!(error, TlsError::Domain(_)) && error.to_string().contains("relay.example"), "{error}");
    }
    let many = ["--domain", NAME].repeat(21);
    assert!(matches!(source(&many, data), Err(TlsError::TooManyDomains(20))));
    let plain = ["--domain", NAME, "--acme-directory", "http://acme.example/"];
    assert!(matches!(source(&plain, data), Err(TlsError::Directory(_))));
    let command = TlsArgs::augment_args(clap::Command::new("program").no_binary_name(true));
    for alone in [
        &["--tls-cert", "a"][..],
        &["--tls-key", "a"],
        &["--acme-contact", "mailto:a@b"],
        &["--tls-cert", "a", "--tls-key", "b", "--domain", NAME],
        &["--domain", NAME, "--acme-contact", "a@b"],
    ] {
        assert!(command.clone().try_get_matches_from(alone).is_err(), "{alone:?}");
    }
}
