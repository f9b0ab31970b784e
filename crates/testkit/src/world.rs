//! A business and its customers on real programs: `bulla up`, a webhook receiver, terminals.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tempfile::TempDir;

use crate::cloud::CloudApi;
use crate::process::{Part, children, program};
use crate::terminal::{self, Terminal};
use crate::wait::{GUARD, look};
use crate::webhook::Receiver;

/// What `bulla up --json` prints.
#[derive(Debug, Clone, Deserialize)]
pub struct Ready {
    /// The business's link, with the hash of its key.
    pub link: String,
    /// Where the Cloud API is.
    pub api_base: String,
    /// The number's id.
    pub phone_number_id: String,
    /// The account's id.
    pub waba_id: String,
    /// The app's id.
    pub app_id: String,
    /// The bearer token.
    pub access_token: String,
    /// What webhooks are signed with.
    pub app_secret: String,
    /// What `hub.challenge` is asked with.
    pub verify_token: String,
    /// The relay's address.
    pub relay_url: String,
}

/// Which of the parts that `bulla up` started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// `bulla-relay`.
    Relay,
    /// `bulla gateway`.
    Gateway,
}

/// A running business.
#[derive(Debug)]
pub struct World {
    // Dropped in this order: programs first, then their folder.
    up: Part,
    /// What `bulla up --json` printed.
    pub ready: Ready,
    /// Where webhooks go.
    pub receiver: Receiver,
    /// The business's program.
    pub api: CloudApi,
    folder: TempDir,
}

impl World {
    /// Starts `bulla up` in a temporary folder, with everything logged at TRACE and webhooks to [`Self::receiver`].
    pub async fn start() -> Result<Self> {
        Self::start_with(&program("bulla")?).await
    }

    /// The same with another build of `bulla`.
    pub async fn start_with(bulla: &Path) -> Result<Self> {
        Self::start_as(bulla, "trace").await
    }

    /// The same with another level of logging: for measurements.
    pub async fn start_logging(level: &str) -> Result<Self> {
        Self::start_as(&program("bulla")?, level).await
    }

    async fn start_as(bulla: &Path, level: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("bulla-world-").tempdir().context("a temporary folder")?;
        let receiver = Receiver::start().await?;
        let mut command = Command::new(bulla);
        command
            .args(["up", "--json", "--listen", "127.0.0.1:0", "--webhook", &receiver.url(), "--data"])
            .arg(folder.path().join("data"))
            .env("BULLA_LOG", level)
            .env("RUST_LOG", level)
            .env("BULLA_RELAY_BIN", program("bulla-relay")?);
        let up = Part::start(&mut command)?;
        let line = up.stdout.until("`bulla up --json` to be ready", |lines| lines.first().cloned()).await;
        let line = line.with_context(|| format!("it said:\n{}", up.stderr.all().join("\n")))?;
        let ready: Ready = serde_json::from_str(&line).with_context(|| format!("its line {line:?}"))?;
        let api = CloudApi::new(&ready.api_base, &ready.phone_number_id, &ready.access_token)?;
        Ok(Self { up, ready, receiver, api, folder })
    }

    /// The folder of `bulla up`: `relay/`, `gateway/`, logs.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A folder for whatever a test keeps.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What `bulla up` said about its parts.
    #[must_use]
    pub fn said(&self) -> String {
        self.up.stderr.all().join("\n")
    }

    /// A customer with a terminal and a folder of its own, and a name that the business sees.
    pub fn customer(&self, name: &str) -> Result<Customer> {
        let folder = terminal::folder(self.folder.path(), name);
        let terminal = Terminal::start(&folder, &self.ready.link, Some(name))?;
        Ok(Customer { name: name.to_owned(), link: self.ready.link.clone(), folder, terminal })
    }

    /// The living process of a part.
    pub async fn pid(&self, which: Which) -> Result<u32> {
        look(GUARD, "the part to run", || self.living(which)).await
    }

    fn living(&self, which: Which) -> Option<u32> {
        let wanted = match which {
            Which::Relay => "bulla-relay",
            Which::Gateway => "bulla",
        };
        children(self.up.pid()).into_iter().find(|(_, name)| name == wanted).map(|(pid, _)| pid)
    }

    /// kill -9 of a part, whatever it is doing. `bulla up` starts it again.
    pub async fn kill_9(&self, which: Which) -> Result<()> {
        crate::process::kill_9(self.pid(which).await?);
        Ok(())
    }

    /// What `bulla-relay disclose --json` prints.
    pub fn disclose(&self) -> Result<serde_json::Value> {
        let mut command = Command::new(program("bulla-relay")?);
        command.args(["disclose", "--json", "--data"]).arg(self.data().join("relay"));
        let output = command.output().context("bulla-relay disclose")?;
        anyhow::ensure!(output.status.success(), "disclose: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).context("what disclose printed")
    }
}

/// A customer in a terminal.
#[derive(Debug)]
pub struct Customer {
    /// Its display name.
    pub name: String,
    link: String,
    folder: PathBuf,
    /// Its terminal.
    pub terminal: Terminal,
}

impl Customer {
    /// Says something, and waits until it is stored; the id that the terminal shows.
    pub async fn says(&mut self, text: &str) -> Result<String> {
        self.terminal.write(text)?;
        self.terminal.stored(text).await
    }

    /// Waits until the business's text is shown.
    pub async fn reads(&self, text: &str) -> Result<()> {
        self.terminal.shows(text).await
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// kill -9 of its terminal.
    pub fn kill_9(&mut self) {
        self.terminal.kill();
    }

    /// Starts the terminal again, on the same folder.
    pub fn comes_back(&mut self) -> Result<()> {
        self.terminal.kill();
        self.terminal = Terminal::start(&self.folder, &self.link, None)?;
        Ok(())
    }
}
