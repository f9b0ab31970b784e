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
    /// The business's handle.
    pub handle: String,
    /// Its name.
    pub name: String,
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
    /// In a local network: the file of the certificate under which all of it is served.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

impl Ready {
    /// The API of this business's number.
    pub fn api(&self) -> Result<CloudApi> {
        CloudApi::new(&self.api_base, &self.phone_number_id, &self.access_token)
    }
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
        Self::start_logging("trace").await
    }

    /// The same with another level of logging: for measurements.
    pub async fn start_logging(level: &str) -> Result<Self> {
        Self::start_with(level, &[]).await
    }

    /// The same with more arguments.
    pub async fn start_with(level: &str, more: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("bulla-world-").tempdir().context("a temporary folder")?;
        let receiver = Receiver::start().await?;
        let mut command = Command::new(program("bulla")?);
        command
            .args(["up", "--json", "--listen", "127.0.0.1:0", "--webhook", &receiver.url(), "--data"])
            .arg(folder.path().join("data"))
            .args(more)
            .env("BULLA_LOG", level)
            .env("RUST_LOG", level)
            .env("BULLA_RELAY_BIN", program("bulla-relay")?);
        let up = Part::start(&mut command)?;
        let line = up.stdout.until("`bulla up --json` to be ready", |lines| lines.first().cloned()).await;
        let line = line.with_context(|| format!("it said:\n{}", up.stderr.all().join("\n")))?;
        let ready: Ready = serde_json::from_str(&line).with_context(|| format!("its line {line:?}"))?;
        let api = ready.api()?;
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

    /// Everything that `bulla up` and its parts have printed: the line for programs, and the log.
    #[must_use]
    pub fn said(&self) -> String {
        [self.up.stdout.all(), self.up.stderr.all()].concat().join("\n")
    }

    /// A customer with a terminal and a folder of its own, and a name that the business sees.
    pub fn customer(&self, name: &str) -> Result<Customer> {
        Customer::start(&program("bulla")?, self.folder.path(), &self.ready.link, name)
    }

    /// The process of `bulla up`.
    #[must_use]
    pub fn up(&self) -> u32 {
        self.up.pid()
    }

    /// The processes of its parts.
    #[must_use]
    pub fn parts(&self) -> Vec<u32> {
        children(self.up.pid()).into_iter().map(|(pid, _)| pid).collect()
    }

    /// Asks `bulla up` to end (SIGTERM) and waits; its exit code.
    pub async fn stops(&mut self) -> Result<Option<i32>> {
        self.up.terminate();
        self.up.ended(GUARD).await
    }

    /// kill -9 of `bulla up` itself.
    pub fn kill_9_up(&mut self) {
        self.up.kill();
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
    bulla: PathBuf,
    link: String,
    folder: PathBuf,
    /// Its terminal.
    pub terminal: Terminal,
}

impl Customer {
    /// Opens `link` in a terminal, with a folder inside of `within`.
    pub fn start(bulla: &Path, within: &Path, link: &str, name: &str) -> Result<Self> {
        let folder = terminal::folder(within, name);
        let terminal = Terminal::run(terminal::chat(bulla, &folder, link).args(["--name", name]))?;
        Ok(Self { name: name.to_owned(), bulla: bulla.to_owned(), link: link.to_owned(), folder, terminal })
    }

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
        self.terminal = Terminal::run(&mut terminal::chat(&self.bulla, &self.folder, &self.link))?;
        Ok(())
    }
}
