//! Relay and gateway as the test's own children, without `bulla up`: each is killed and started again when the test wants it, at the same
//! place, and a proxy can stand before the relay.
//!
//! ```text
//!   Apart ── starts ──▶ bulla-relay ◀── [Proxy] ◀── bulla gateway, and customers: the bundle names the proxy
//! ```

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::cloud::CloudApi;
use crate::process::{Part, program};
use crate::proxy::{Meddler, Proxy};
use crate::terminal;
use crate::wait::{GUARD, look};
use crate::webhook::Receiver;
use crate::world::{Customer, Ready};

/// A server that says one line of JSON when it is ready. Killed and started again through a shared reference, so that one task can do
/// that while others talk.
#[derive(Debug)]
pub struct Server {
    command: Mutex<Command>,
    part: Mutex<Part>,
}

impl Server {
    /// Starts it and waits for its line.
    pub async fn start(mut command: Command) -> Result<(Self, Value)> {
        let part = Mutex::new(Part::start(&mut command)?);
        let server = Self { command: Mutex::new(command), part };
        let ready = server.ready().await?;
        Ok((server, ready))
    }

    fn part(&self) -> MutexGuard<'_, Part> {
        self.part.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it says when it is ready.
    pub async fn ready(&self) -> Result<Value> {
        let stdout = self.part().stdout.clone();
        let line = stdout.until("its line of readiness", |lines| lines.first().cloned()).await;
        let line = line.with_context(|| self.log())?;
        serde_json::from_str(&line).with_context(|| line.clone())
    }

    /// How it is started from now on.
    fn started_by(self, command: Command) -> Self {
        Self { command: Mutex::new(command), ..self }
    }

    /// kill -9.
    pub fn kill(&self) {
        self.part().kill();
    }

    /// kill -9, if it still lives, and another start at the same place. Does not wait until it is ready.
    pub fn start_again(&self) -> Result<()> {
        let mut part = self.part();
        part.kill();
        *part = Part::start(&mut self.command.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(())
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.part().pid()
    }

    /// What it said on standard error since it was last started.
    #[must_use]
    pub fn log(&self) -> String {
        self.part().stderr.all().join("\n")
    }
}

/// How the parts are started.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The program `bulla`, maybe another build of it.
    pub bulla: PathBuf,
    /// The log level of everything.
    pub log: &'static str,
    /// The first line of the gateway's passphrase file.
    pub passphrase: Option<&'static str>,
    /// Handle and name of each business.
    pub businesses: &'static [(&'static str, &'static str)],
    /// A build of the app that the gateway serves.
    pub app: Option<PathBuf>,
}

impl Plan {
    /// One business, everything logged at TRACE.
    pub fn new() -> Result<Self> {
        Ok(Self {
            bulla: program("bulla")?,
            log: "trace",
            passphrase: None,
            businesses: &[("cortado", "Cortado Coffee")],
            app: None,
        })
    }
}

/// What `bulla gateway serve --json` prints.
#[derive(Debug, Deserialize)]
struct GatewayReady {
    public: SocketAddr,
    api: SocketAddr,
    businesses: Vec<Ready>,
}

/// A relay, a gateway, a webhook receiver, and maybe a proxy.
#[derive(Debug)]
pub struct Apart {
    // Dropped in this order: programs first, then their folder.
    /// `bulla gateway serve`.
    pub gateway: Server,
    /// `bulla-relay serve`.
    pub relay: Server,
    /// The first business.
    pub ready: Ready,
    /// Every business.
    pub businesses: Vec<Ready>,
    /// The relay as the gateway reaches it.
    pub relay_url: String,
    /// Where webhooks of all businesses go.
    pub receiver: Receiver,
    /// The first business's program.
    pub api: CloudApi,
    _proxy: Option<Proxy>,
    public: SocketAddr,
    api_address: SocketAddr,
    plan: Plan,
    folder: TempDir,
}

impl Apart {
    /// Starts everything.
    pub async fn start(plan: Plan) -> Result<Self> {
        Self::start_behind::<crate::proxy::Honest>(plan, None).await
    }

    /// Starts everything, with a proxy between the relay and everybody.
    pub async fn start_behind<M: Meddler>(plan: Plan, meddler: Option<Arc<Mutex<M>>>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("bulla-apart-").tempdir().context("a temporary folder")?;
        let receiver = Receiver::start().await?;
        let serve_relay = |listen: &str| -> Result<Command> {
            let mut command = Command::new(program("bulla-relay")?);
            command.args(["serve", "--json", "--listen", listen, "--work-bits", "8", "--log", plan.log, "--data"]);
            command.arg(folder.path().join("relay"));
            Ok(command)
        };
        let (relay, line) = Server::start(serve_relay("127.0.0.1:0")?).await?;
        let relay = relay.started_by(serve_relay(line["listen"].as_str().context("where does the relay listen?")?)?);
        let relay_url = line["url"].as_str().context("no url in its line")?.to_owned();
        let proxy = match meddler {
            Some(meddler) => Some(Proxy::start_shared(&relay_url, meddler).await?),
            None => None,
        };
        let relay_url = proxy.as_ref().map_or(relay_url, |proxy| proxy.url().to_owned());
        let url = relay_url.as_str();

        let passphrase = folder.path().join("passphrase");
        if let Some(line) = plan.passphrase {
            std::fs::write(&passphrase, line).context("the passphrase file")?;
        }
        let serve_gateway = |public: &str, api: &str| {
            let mut command = Command::new(&plan.bulla);
            command.args(["gateway", "serve", "--json", "--relay", url, "--webhook", &receiver.url()]);
            command.args(["--public-listen", public, "--api-listen", api]);
            for (handle, name) in plan.businesses {
                command.args(["--business", &format!("{handle}={name}")]);
            }
            if plan.passphrase.is_some() {
                command.arg("--passphrase-file").arg(&passphrase);
            }
            if let Some(app) = &plan.app {
                command.arg("--app").arg(app);
            }
            command.arg("--data").arg(folder.path().join("gateway")).env("BULLA_LOG", plan.log);
            command
        };
        let (gateway, line) = Server::start(serve_gateway("127.0.0.1:0", "127.0.0.1:0")).await?;
        let line: GatewayReady = serde_json::from_value(line).context("what the gateway prints")?;
        let gateway = gateway.started_by(serve_gateway(&line.public.to_string(), &line.api.to_string()));
        let ready = line.businesses.first().context("no business")?.clone();
        let api = ready.api()?;
        Ok(Self {
            gateway,
            relay,
            ready,
            businesses: line.businesses,
            relay_url,
            receiver,
            api,
            _proxy: proxy,
            public: line.public,
            api_address: line.api,
            plan,
            folder,
        })
    }

    /// The folder with everything in it: `relay/`, `gateway/`, `customer-NAME/`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A customer of the first business, with a terminal and a folder of its own.
    pub fn customer(&self, name: &str) -> Result<Customer> {
        self.customer_of(&self.ready.link, name)
    }

    /// A customer with a link of the test's.
    pub fn customer_of(&self, link: &str, name: &str) -> Result<Customer> {
        Customer::start(&self.plan.bulla, self.folder.path(), link, name)
    }

    /// A customer's command, for what a test adds to it.
    #[must_use]
    pub fn chat(&self, name: &str) -> Command {
        let mut command =
            terminal::chat(&self.plan.bulla, &terminal::folder(self.folder.path(), name), &self.ready.link);
        command.env("BULLA_LOG", self.plan.log);
        command
    }

    /// Waits until the gateway can be connected to, by customers and by the business's programs.
    pub async fn gateway_listens(&self) -> Result<()> {
        for address in [self.public, self.api_address] {
            look(GUARD, "the gateway to listen", || TcpStream::connect(address).ok()).await?;
        }
        Ok(())
    }
}
