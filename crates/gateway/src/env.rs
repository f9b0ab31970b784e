//! What a running gateway tells its owner, for `bulla env` and `bulla console`: through sockets in the data folder, so that it lies readable
//! nowhere.
//!
//! The folder is its owner's (0700), so are the sockets (0600), and who connects has to be the same user or root. One connection is one
//! answer: at one socket the credentials of all businesses as JSON, at the other a new link to the console.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::account::Credentials;
use crate::console::Console;
use crate::gateway::Served;
use crate::secret::Secret;

const ENV: &str = "env.sock";
const CONSOLE: &str = "console.sock";

/// Longest answer that is read: thousands of businesses.
const MAX_ANSWER: u64 = 4 * 1024 * 1024;

/// How long both sides have.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why the credentials of a gateway could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvError {
    /// No gateway runs on the folder, or not as this user.
    #[error("no gateway answers in {folder} ({cause}); start one with `bulla up`, or name its folder with --data")]
    NotRunning {
        /// The data folder.
        folder: PathBuf,
        /// In the system's words.
        cause: std::io::Error,
    },
    /// A gateway runs on the folder, and serves no console.
    #[error("the gateway in {folder} serves no console; start it with --console DIR")]
    NoConsole {
        /// The data folder.
        folder: PathBuf,
    },
    /// It answered, but not what this version reads.
    #[error("the gateway in {folder} is of another version; stop it and start it again")]
    Answer {
        /// The data folder.
        folder: PathBuf,
    },
}

/// The credentials of all businesses of the gateway that runs on a data folder.
pub fn read_credentials(data: &Path) -> Result<Vec<Credentials>, EnvError> {
    serde_json::from_slice(&read(data, ENV)?).map_err(|_| EnvError::Answer { folder: data.to_owned() })
}

/// A new link to the console of the gateway that runs on a data folder: it opens it once, within an hour.
pub fn new_console_link(data: &Path) -> Result<Secret, EnvError> {
    let link = read(data, CONSOLE)?;
    match std::str::from_utf8(&link) {
        Ok("") => Err(EnvError::NoConsole { folder: data.to_owned() }),
        Ok(link) => Ok(Secret::new(link)),
        Err(_) => Err(EnvError::Answer { folder: data.to_owned() }),
    }
}

fn read(data: &Path, socket: &'static str) -> Result<zeroize::Zeroizing<Vec<u8>>, EnvError> {
    let read = || {
        let folder = Folder::open(data)?;
        let stream = std::os::unix::net::UnixStream::connect(folder.path(socket))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let mut text = zeroize::Zeroizing::new(Vec::new());
        stream.take(MAX_ANSWER).read_to_end(&mut text)?;
        Ok(text)
    };
    read().map_err(|cause| EnvError::NotRunning { folder: data.to_owned(), cause })
}

/// The sockets of a gateway.
pub(crate) struct Sockets {
    env: UnixListener,
    console: UnixListener,
}

/// Makes the sockets. The folder's stores are locked by now, so a socket that is there was left behind.
pub(crate) fn bind(data: &Path) -> std::io::Result<Sockets> {
    let folder = Folder::open(data)?;
    let bind = |socket| {
        match std::fs::remove_file(folder.path(socket)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(folder.path(socket))?;
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(folder.path(socket), std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    Ok(Sockets { env: bind(ENV)?, console: bind(CONSOLE)? })
}

/// Answers until `stop`.
pub(crate) async fn serve(
    sockets: Sockets,
    data: PathBuf,
    served: Arc<Vec<Served>>,
    console: Option<Console>,
    stop: CancellationToken,
) {
    loop {
        let (socket, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = sockets.env.accept() => (ENV, accepted),
            accepted = sockets.console.accept() => (CONSOLE, accepted),
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors: others have to close theirs first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (served, console) = (Arc::clone(&served), console.clone());
        tokio::spawn(tokio::time::timeout(TIMEOUT, async move {
            if !is_owner(&stream)? {
                return Ok(());
            }
            let text = match socket {
                ENV => credentials(&served).await,
                _ => Some(console.map(|console| console.link().expose().to_owned().into_bytes()).unwrap_or_default()),
            };
            answer(stream, text.unwrap_or_default().into()).await
        }));
    }
    for socket in [ENV, CONSOLE] {
        let _ = std::fs::remove_file(data.join(socket));
    }
}

fn is_owner(stream: &UnixStream) -> std::io::Result<bool> {
    let own = rustix::process::geteuid().as_raw();
    let peer = stream.peer_cred()?.uid();
    Ok(peer == own || peer == 0)
}

async fn credentials(served: &[Served]) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    for business in served {
        all.push(business.credentials().await.ok()?);
    }
    serde_json::to_vec(&all).ok()
}

async fn answer(mut stream: UnixStream, text: zeroize::Zeroizing<Vec<u8>>) -> std::io::Result<()> {
    stream.write_all(&text).await?;
    stream.shutdown().await
}

/// A folder by its descriptor: a socket's address may have some hundred bytes only, a folder's path may have more.
struct Folder {
    path: PathBuf,
    _open: Option<std::fs::File>,
}

impl Folder {
    /// Longest address that every system takes as it is.
    const MAX_ADDRESS: usize = 90;

    fn open(path: &Path) -> std::io::Result<Self> {
        if path.as_os_str().len() + 1 + CONSOLE.len() <= Self::MAX_ADDRESS {
            return Ok(Self { path: path.to_owned(), _open: None });
        }
        let open = std::fs::File::open(path)?;
        let number = std::os::fd::AsRawFd::as_raw_fd(&open);
        Ok(Self { path: PathBuf::from(format!("/proc/self/fd/{number}")), _open: Some(open) })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}
