//! Real sockets and real files.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bulla_tls::{HANDSHAKES, Now, Source, Tls, TlsError, local, roots};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Nothing in these tests takes this long unless it hangs.
const GUARD: Duration = Duration::from_secs(30);
const NAME: &str = "relay.test";
/// The machine's clock, because the client's library asks no other.
fn now() -> Now {
    Arc::new(|| u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap())
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(GUARD, future).await.unwrap_or_else(|_| panic!("no sign of {what}"))
}

/// A folder with a certificate's files.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn certificate(&self) -> PathBuf {
        self.0.path().join("cert.pem")
    }
    fn key(&self) -> PathBuf {
        self.0.path().join("key.pem")
    }
    fn source(&self) -> Source {
        Source::Files { certificate: self.certificate(), key: self.key() }
    }

    /// Writes both files anew, good until a time.
    fn write(&self, until: i64) {
        let pair = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
        params.not_after = OffsetDateTime::from_unix_timestamp(until).unwrap();
        std::fs::write(self.key(), pair.serialize_pem()).unwrap();
        std::fs::write(self.certificate(), params.self_signed(&pair).unwrap().pem()).unwrap();
    }

    fn good() -> Self {
        let folder = Self::new();
        folder.write(i64::from(u32::MAX));
        folder
    }
}

/// A server that says hello.
struct Server {
    address: SocketAddr,
    tls: Tls,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(source: Source, now: Now) -> Self {
        let tls = Tls::start_looking(source, now, Duration::from_millis(5)).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = tls.listen(listener);
        let app = Router::new().route("/", get(async || "hello"));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, tls, task }
    }

    /// A connection, and whether its session was resumed.
    async fn connect(&self, config: &Arc<rustls::ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(NAME).unwrap();
        soon("a handshake", TlsConnector::from(Arc::clone(config)).connect(name, stream)).await
    }
}

async fn client(root: &Path, versions: &[&'static rustls::SupportedProtocolVersion]) -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let roots = roots::with(Some(root)).await.unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

async fn hello(stream: &mut TlsStream<TcpStream>) -> std::io::Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: relay.test\r\n\r\n").await?;
    let mut said = Vec::new();
    while !said.ends_with(b"hello") {
        if soon("an answer", stream.read_buf(&mut said)).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[tokio::test]
async fn files_are_served_in_both_versions_and_nothing_ties_two_connections_of_a_client() {
    let folder = Folder::good();
    let server = Server::start(folder.source(), now()).await;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let client = client(&folder.certificate(), &[version]).await;
        for _ in 0..2 {
            let mut stream = server.connect(&client).await.unwrap();
            hello(&mut stream).await.unwrap();
            let session = stream.get_ref().1;
            assert_eq!(session.protocol_version(), Some(version.version));
            assert_eq!(session.handshake_kind(), Some(rustls::HandshakeKind::Full), "a session was resumed");
        }
    }
    let stranger = client(&Folder::good().certificate(), rustls::ALL_VERSIONS).await;
    assert_eq!(server.connect(&stranger).await.unwrap_err().kind(), ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_and_open_connections_stay() {
    let folder = Folder::good();
    let server = Server::start(folder.source(), now()).await;
    let mut certificates = server.tls.certificates();
    let before = certificates.borrow_and_update().clone().unwrap();
    let first = client(&folder.certificate(), rustls::ALL_VERSIONS).await;
    let mut open = server.connect(&first).await.unwrap();
    hello(&mut open).await.unwrap();

    folder.write(i64::from(u32::MAX) - 86_400);
    soon("the new certificate", certificates.changed()).await.unwrap();
    assert_ne!(before.cert, certificates.borrow().as_ref().unwrap().cert);
    let second = client(&folder.certificate(), rustls::ALL_VERSIONS).await;
    hello(&mut server.connect(&second).await.unwrap()).await.unwrap();
    assert!(server.connect(&first).await.is_err(), "the old certificate is still shown");
    hello(&mut open).await.unwrap();
}

#[tokio::test]
async fn a_bad_new_file_keeps_the_old_certificate_until_a_good_one_comes() {
    let folder = Folder::good();
    let root = folder.0.path().join("root.pem");
    std::fs::copy(folder.certificate(), &root).unwrap();
    // The clock is read once for each look at the files.
    let (looks, mut looked) = tokio::sync::watch::channel(0u64);
    let clock = now();
    let counted: Now = Arc::new(move || {
        looks.send_modify(|looks| *looks += 1);
        clock()
    });
    let server = Server::start(folder.source(), counted).await;
    let mut certificates = server.tls.certificates();
    certificates.mark_unchanged();
    let client = client(&root, rustls::ALL_VERSIONS).await;
    let good = std::fs::read(folder.certificate()).unwrap();
    let other = std::fs::read(Folder::good().certificate()).unwrap();
    for bad in [&b"half a fi"[..], &other, b""] {
        std::fs::write(folder.certificate(), bad).unwrap();
        // The second that begins from now on comes after one that has ended, and that saw it.
        let seen = *looked.borrow_and_update() + 2;
        soon("a look at the files", looked.wait_for(|looks| *looks >= seen)).await.unwrap();
        hello(&mut server.connect(&client).await.unwrap()).await.unwrap();
        assert!(!certificates.has_changed().unwrap());
    }
    std::fs::write(folder.certificate(), good).unwrap();
    soon("the good one", certificates.changed()).await.unwrap();
    hello(&mut server.connect(&client).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_files_is_said_with_what_to_do() {
    let start = async |folder: &Folder| Tls::start(folder.source(), now()).await.unwrap_err();
    let folder = Folder::good();
    let (certificate, key) = (folder.certificate(), folder.key());

    std::fs::copy(Folder::good().key(), &key).unwrap();
    let error = start(&folder).await;
    assert!(matches!(error, TlsError::Mismatch { .. }), "{error:?}");
    let (c, k) = (certificate.display(), key.display());
    assert_eq!(
        error.to_string(),
        format!(
            "the key in {k} does not belong to the certificate in {c}: give both files of one certificate, the chain with the server's own first"
        )
    );

    folder.write(1_767_268_800);
    assert_eq!(start(&folder).await.to_string(), format!("the certificate in {c} expired on 2026-01-01: renew it"));

    folder.write(i64::from(u32::MAX));
    std::fs::write(&key, "-----BEGIN CERTIFICATE-----").unwrap();
    assert!(matches!(start(&folder).await, TlsError::NoKey(file) if file == key));
    std::fs::remove_file(&key).unwrap();
    assert!(matches!(start(&folder).await, TlsError::Missing(file) if file == key));
    std::fs::create_dir(&key).unwrap();
    assert!(matches!(start(&folder).await, TlsError::Unreadable(file, _) if file == key));

    std::fs::write(&certificate, "nothing").unwrap();
    std::fs::remove_dir(&key).unwrap();
    std::fs::write(&key, "").unwrap();
    assert!(matches!(start(&folder).await, TlsError::NoCertificate(file) if file == certificate));
    std::fs::write(&certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    assert!(matches!(start(&folder).await, TlsError::Unusable(file, _) if file == certificate));
    std::fs::write(&certificate, vec![b'-'; (1 << 20) + 1]).unwrap();
    assert!(matches!(start(&folder).await, TlsError::TooLarge(file, _) if file == certificate));
}

/// Whether the server has closed the connection, once it has.
async fn closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    matches!(soon("the end", stream.read(&mut byte)).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn connections_that_say_nothing_stall_nobody() {
    let folder = Folder::good();
    let server = Server::start(folder.source(), now()).await;
    let client = client(&folder.certificate(), rustls::ALL_VERSIONS).await;
    let connecting = async {
        let mut silent = Vec::new();
        for _ in 0..HANDSHAKES + 20 {
            silent.push(TcpStream::connect(server.address).await.unwrap());
        }
        silent
    };
    let _silent = soon("a place in the queue", connecting).await;
    hello(&mut server.connect(&client).await.unwrap()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_handshake_has_a_time() {
    let folder = Folder::good();
    let server = Server::start(folder.source(), now()).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(&[22, 3, 1]).await.unwrap();
    assert!(closed(&mut silent).await);
    assert!(closed(&mut slow).await);
}

#[tokio::test]
async fn who_speaks_http_without_tls_is_told_and_who_speaks_something_else_is_not() {
    let folder = Folder::good();
    let server = Server::start(folder.source(), now()).await;
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: relay.test\r\n\r\n").await.unwrap();
    let mut said = String::new();
    soon("an answer", plain.read_to_string(&mut said)).await.unwrap();
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{said}");
    assert!(body.contains("https://"), "{body}");

    let mut other = TcpStream::connect(server.address).await.unwrap();
    other.write_all(b"\x00\x01what is this").await.unwrap();
    assert!(closed(&mut other).await);
}

#[tokio::test]
async fn a_local_certificate_is_kept_as_long_as_it_is_good_for_its_address() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (here, there) = (IpAddr::from([127, 0, 0, 1]), "fe80::1".parse().unwrap());
    let now = now()();
    let first = local::certificate(&data, here, now).await.unwrap();
    assert_eq!(first.fingerprint.len(), 95);
    let mode = |file: &Path| std::fs::metadata(file).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&data), mode(&first.key), mode(&first.certificate)), (0o700, 0o600, 0o600));
    let later = now + 86_400 * (396 - 31);
    assert_eq!(local::certificate(&data, here, later).await.unwrap(), first);

    // A browser that was shown its fingerprint, or a terminal that was given its file, gets what it was promised.
    let source = Source::Files { certificate: first.certificate.clone(), key: first.key.clone() };
    let server = Server::start(source, Arc::new(move || now)).await;
    let client = client(&first.certificate, rustls::ALL_VERSIONS).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let mut stream = TlsConnector::from(client).connect(ServerName::from(here), stream).await.unwrap();
    hello(&mut stream).await.unwrap();

    let renewed = local::certificate(&data, here, later + 86_400).await.unwrap();
    assert_ne!(renewed.fingerprint, first.fingerprint);
    let moved = local::certificate(&data, there, later + 86_400).await.unwrap();
    assert_ne!(moved.fingerprint, renewed.fingerprint);
    assert_eq!(local::certificate(&data, there, later + 86_400).await.unwrap(), moved);
    std::fs::write(&moved.key, "").unwrap();
    assert_ne!(local::certificate(&data, there, later).await.unwrap().fingerprint, moved.fingerprint);
}
