//! What every system is asked to do, in the words that they have in common: mailboxes, one connection that writes to one of them, one
//! connection that reads it.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bulla_testkit::process::Part;
use bulla_testkit::wait::GUARD;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::codec::{Decoder, Framed};

/// Bytes of a message.
pub(super) const PAYLOAD: usize = 1_024;

/// For the systems that ask for a name and a password at the door.
pub(super) const USER: &str = "bench";
/// See [`USER`].
pub(super) const PASSWORD: &str = "bench";

/// A system that is measured: a server as a child of this process, and how one speaks to it.
pub(super) trait Server: Sized + Send + Sync + 'static {
    /// See [`Writer`].
    type Writer: Writer;
    /// See [`Reader`].
    type Reader: Reader;

    /// Starts it in its folder, with whatever it finds there, and returns when it answers.
    fn start(place: &Place) -> impl Future<Output = Result<Self>> + Send;

    /// The child. It is killed (SIGKILL) when this is dropped.
    fn part(&self) -> &Part;

    /// Makes a mailbox that keeps what is written to it while nobody reads, and leaves no connection behind.
    fn make(&self, mailbox: u64) -> impl Future<Output = Result<()>> + Send;

    /// Connects and logs in, to write.
    fn writer(&self, mailbox: u64) -> impl Future<Output = Result<Self::Writer>> + Send;

    /// Connects, logs in and subscribes.
    fn reader(&self, mailbox: u64) -> impl Future<Output = Result<Self::Reader>> + Send;
}

/// A connection that writes to one mailbox.
pub(super) trait Writer: Send + 'static {
    /// Sends one message without waiting for its answer.
    fn begin(&mut self, payload: Bytes) -> impl Future<Output = Result<()>> + Send;

    /// Waits until the server has answered at least one more, with yes; how many. Nothing is lost if this is given up half-way.
    fn answered(&mut self) -> impl Future<Output = Result<u64>> + Send;
}

/// A connection that reads one mailbox.
pub(super) trait Reader: Send + 'static {
    /// The next message.
    fn next(&mut self) -> impl Future<Output = Result<Bytes>> + Send;

    /// Confirms all that was received, so that the server can forget it.
    fn confirm(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Waits until the server has taken what was confirmed.
    fn settle(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// Where a server lives: a folder that outlives it, and its port.
#[derive(Debug)]
pub(super) struct Place {
    folder: tempfile::TempDir,
    port: u16,
}

impl Place {
    /// A new folder in the temporary folder, and a port of 127.0.0.1 that nobody uses now.
    pub(super) fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("bulla-bench-").tempdir().context("a temporary folder")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a free port")?;
        Ok(Self { folder, port: listener.local_addr()?.port() })
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// A folder in it that exists.
    pub(super) fn data(&self) -> Result<PathBuf> {
        let data = self.folder().join("data");
        std::fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
        Ok(data)
    }

    /// Writes a file of the server's configuration.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder().join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// Starts a program and asks it until it answers; if it ends instead, what it said.
pub(super) async fn start<R, A>(command: &mut Command, ask: impl Fn() -> A) -> Result<Part>
where
    A: Future<Output = Result<R>>,
{
    const PATIENCE: Duration = Duration::from_secs(120); // ejabberd on a busy machine
    let part = Part::start(command)?;
    let words = || format!("{}\n{}", part.stdout.all().join("\n"), part.stderr.all().join("\n"));
    let asking = async {
        loop {
            if ask().await.is_ok() {
                return true;
            }
            if part.stdout.is_closed() && part.stderr.is_closed() {
                return false;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    match timeout(PATIENCE, asking).await {
        Ok(true) => Ok(part),
        Ok(false) => bail!("it ended: {}", words()),
        Err(_) => bail!("it does not answer: {}", words()),
    }
}

/// A connection whose bytes a codec takes apart. What is written waits in `out`, and leaves with [`Self::flush`] in one piece.
#[derive(Debug)]
pub(super) struct Line<C> {
    framed: Framed<TcpStream, C>,
    /// What leaves with the next flush.
    pub(super) out: BytesMut,
}

impl<C: Decoder + Send> Line<C>
where
    C::Item: Send,
    C::Error: std::error::Error + Send + Sync + 'static,
{
    pub(super) async fn connect(to: SocketAddr, codec: C) -> Result<Self> {
        let socket = TcpStream::connect(to).await.context("connecting")?;
        // Whoever wants fewer and larger packets makes them.
        socket.set_nodelay(true)?;
        Ok(Self { framed: Framed::new(socket, codec), out: BytesMut::new() })
    }

    pub(super) async fn flush(&mut self) -> Result<()> {
        use tokio::io::AsyncWriteExt as _;
        if !self.out.is_empty() {
            self.framed.get_mut().write_all(&self.out).await.context("writing")?;
            self.out.clear();
        }
        Ok(())
    }

    /// The next whole item; nothing is lost if this is given up half-way.
    pub(super) async fn next(&mut self) -> Result<C::Item> {
        match timeout(GUARD, self.framed.next()).await.context("the server says nothing")? {
            Some(item) => Ok(item?),
            None => bail!("the server closed the connection"),
        }
    }
}
