//! The credentials of a running gateway, for `bulla env`: through a socket in the data folder, so that they lie readable nowhere.
//!
//! The folder is its owner's (0700), so is the socket (0600), and who connects has to be the same user or root. One connection is one
//! answer: the credentials of all businesses as JSON.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::account::Credentials;
use crate::gateway::Served;

const SOCKET: &str = "env.sock";

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
    /// It answered, but not what this version reads.
    #[error("the gateway in {folder} is of another version; stop it and start it again")]
    Answer {
        /// The data folder.
        folder: PathBuf,
    },
}

/// The credentials of all businesses of the gateway that runs on a data folder.
pub fn read_credentials(data: &Path) -> Result<Vec<Credentials>, EnvError> {
    let not_running = |cause| EnvError::NotRunning { folder: data.to_owned(), cause };
    let read = || {
        let folder = Folder::open(data)?;
        let stream = std::os::unix::net::UnixStream::connect(folder.path(SOCKET))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let mut text = zeroize::Zeroizing::new(Vec::new());
        stream.take(MAX_ANSWER).read_to_end(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(not_running)?;
    serde_json::from_slice(&text).map_err(|_| EnvError::Answer { folder: data.to_owned() })
}

/// Makes the socket. The folder's stores are locked by now, so a socket that is there was left behind.
pub(crate) fn bind(data: &Path) -> std::io::Result<UnixListener> {
    let folder = Folder::open(data)?;
    match std::fs::remove_file(folder.path(SOCKET)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(folder.path(SOCKET))?;
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder.path(SOCKET), std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until `stop`.
pub(crate) async fn serve(listener: UnixListener, data: PathBuf, served: Arc<Vec<Served>>, stop: CancellationToken) {
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Out of file descriptors: others have to close theirs first.
                Err(_) => { tokio::time::sleep(Duration::from_millis(100)).await; continue; }
            },
        };
        let served = Arc::clone(&served);
        tokio::spawn(async move { tokio::time::timeout(TIMEOUT, answer(stream, &served)).await });
    }
    let _ = std::fs::remove_file(data.join(SOCKET));
}

async fn answer(mut stream: UnixStream, served: &[Served]) -> std::io::Result<()> {
    let own = rustix::process::geteuid().as_raw();
    let peer = stream.peer_cred()?.uid();
    if peer != own && peer != 0 {
        return Ok(());
    }
    let mut all = Vec::new();
    for business in served {
        match business.credentials().await {
            Ok(credentials) => all.push(credentials),
            Err(_) => return Ok(()),
        }
    }
    let text = zeroize::Zeroizing::new(serde_json::to_vec(&all)?);
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
        if path.as_os_str().len() + 1 + SOCKET.len() <= Self::MAX_ADDRESS {
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
