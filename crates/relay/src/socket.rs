//! The Unix socket in the data folder, which only the folder's owner can open: one question on one line, one answer,
//! and the end.
//!
//! ```text
//! ""  or a mailbox's id   everything, or all of that mailbox, as JSON (`disclose`)
//! "backup"                a backup's bytes
//! "health"                "ok", or why the relay cannot accept and store
//! ```

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bulla_protocol::id::MailboxId;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

use crate::server::Relay;
use crate::{backup, disclose, ops};

const SOCKET: &str = "disclose.sock";

/// How long one answer may take, its reader included.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of a question.
const LONGEST_QUESTION: u64 = 64;

/// For a backup.
pub(crate) const BACKUP: &str = "backup";

/// Whether it is well.
pub(crate) const HEALTH: &str = "health";

/// What a relay that is well says.
pub(crate) const OK: &str = "ok";

/// Asks the relay that runs on a data folder; `None` if none does.
pub(crate) fn ask(data: &Path, question: &str) -> Option<std::io::Result<Vec<u8>>> {
    let mut stream = UnixStream::connect(data.join(SOCKET)).ok()?;
    let mut answer = Vec::new();
    let answered = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| writeln!(stream, "{question}"))
        .and_then(|()| stream.read_to_end(&mut answer));
    Some(answered.map(|_| answer))
}

/// Answers on a socket in the data folder as long as the relay runs.
pub(crate) fn listen(relay: &Arc<Relay>, data: &Path) -> std::io::Result<Option<PathBuf>> {
    /// What fits into a socket's address, with its final zero.
    const LONGEST: usize = 107;
    let path = data.join(SOCKET);
    if path.as_os_str().len() > LONGEST {
        tracing::warn!(
            "the path of the data folder is too long for a socket: `disclose` and `backup` need the relay stopped"
        );
        return Ok(None);
    }
    // Left behind by a relay that was killed; the store's lock says that none runs now.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    relay.tasks().spawn(answer_all(Arc::clone(relay), listener));
    Ok(Some(path))
}

async fn answer_all(relay: Arc<Relay>, listener: UnixListener) {
    loop {
        let stream = tokio::select! {
            () = relay.stopping().cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
        };
        // Each by itself: whether the relay is well must not wait for a long disclosure.
        let asked = Arc::clone(&relay);
        relay.tasks().spawn(async move {
            tokio::select! {
                () = asked.stopping().cancelled() => {}
                _ = tokio::time::timeout(PATIENCE, answer(&asked, stream)) => {}
            }
        });
    }
}

async fn answer(relay: &Relay, stream: tokio::net::UnixStream) -> std::io::Result<()> {
    let (asking, mut answering) = stream.into_split();
    let mut question = String::new();
    tokio::io::BufReader::new(asking.take(LONGEST_QUESTION)).read_line(&mut question).await?;
    let answer = match question.trim() {
        HEALTH => match ops::look(relay).await {
            Ok(()) => OK.into(),
            Err(why) => why.to_string().into_bytes(),
        },
        BACKUP => {
            let (name, day) = (relay.name().as_str().to_owned(), relay.clock().day());
            let Ok(bytes) = relay.registry().read(move |store| backup::write(store, &name, day)).await else {
                return Ok(());
            };
            bytes
        }
        other => {
            let only = MailboxId::from_hex(other);
            let Ok(found) = relay.registry().read(move |store| disclose::read(store, only)).await else {
                return Ok(());
            };
            serde_json::to_vec(&found)?
        }
    };
    answering.write_all(&answer).await?;
    answering.shutdown().await
}

/// Whether the relay that runs on a data folder can accept and store: `None` if none runs, else what it says.
#[must_use]
pub fn health(data: &Path) -> Option<Result<(), String>> {
    let said = ask(data, HEALTH)?.map(|answer| String::from_utf8_lossy(&answer).into_owned());
    Some(match said {
        Ok(said) if said == OK => Ok(()),
        Ok(said) if said.is_empty() => Err("it gave no answer".to_owned()),
        Ok(said) => Err(said),
        Err(error) => Err(error.to_string()),
    })
}
