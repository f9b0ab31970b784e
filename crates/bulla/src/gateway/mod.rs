//! `bulla gateway`: a business's endpoint, served.

mod feed;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use bulla_gateway::{ApiReach, App, Config, Gateway, IdentityKey, NewBusiness, Running, Secret};
use bulla_tls::TlsArgs;
use clap::Subcommand;
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

/// A business's endpoint: holds its keys, speaks the Cloud API.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(Box<Serve>),
    Backup(Backup),
    Restore(Restore),
}

/// Copies a business to a new folder, also while its gateway runs.
///
/// The copy's values stay sealed and its key file has a passphrase. It holds what the gateway had at that moment; what customers say later,
/// they say again after a restore.
#[derive(Debug, clap::Args)]
pub(crate) struct Backup {
    /// The gateway's data folder.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// Which business.
    #[arg(long, value_name = "HANDLE")]
    business: String,

    /// The folder to make.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,

    /// A file whose first line is the passphrase of the backup's key file. Not needed if the business's key file has one: it stays.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// Puts a backup back, in place of a business that was lost.
///
/// Never beside one that still runs: whoever starts last has the mailbox, and the other stops. At its first start every conversation begins
/// again under fresh keys, and customers say again what the backup has not heard. Start it with the passphrase of the backup.
#[derive(Debug, clap::Args)]
pub(crate) struct Restore {
    /// The gateway's data folder; made if it is not there.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// Which business; it must not be in the data folder.
    #[arg(long, value_name = "HANDLE")]
    business: String,

    /// The backup.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
}

/// Serves the businesses of a folder until SIGTERM or Ctrl-C.
///
/// One business is one folder below --data: an SQLite file and a key file. Never run two copies of it, and do not go back to an older copy.
/// The public port is for customers: give it TLS with --domain or --tls-cert, or put a reverse proxy with TLS before it and say its address with
/// --public-url. The API port is for the business's own programs: leave it on loopback or inside your own network.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// The folder with one folder per business; made if it is not there, readable by its owner only.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// The relay that carries the envelopes: wss://relay.example/v1/ws (ws:// on this machine only). Not needed to start.
    #[arg(long, value_name = "URL", value_parser = relay_url)]
    relay: String,

    /// Whom to trust at the relay, besides the public authorities: certificates in PEM, for a relay whose certificate is your own.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// A business to be made at the first start, as HANDLE=NAME: links are …/@HANDLE, people read NAME. Can be given several times; a
    /// business that exists is served without it, and renamed with it.
    #[arg(long = "business", value_name = "HANDLE=NAME", value_parser = business)]
    businesses: Vec<NewBusiness>,

    /// Where customers fetch the signed bundle behind a link; port 0 takes any free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8471")]
    public_listen: SocketAddr,

    /// The origin that links begin with, as customers reach the public port: `https://shop.example`. Default: the public
    /// address, or with --domain that name.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,

    /// A build of the app for browsers (`cargo xtask app`), served to whoever opens a link in one. Without it a page of text is.
    #[arg(long, value_name = "DIR", env = "BULLA_APP")]
    app: Option<PathBuf>,

    /// A build of the developer's console (`cargo xtask app`), served on the API's port to this machine. `bulla console` prints links to it.
    #[arg(long, value_name = "DIR", env = "BULLA_CONSOLE")]
    console: Option<PathBuf>,

    /// Where a reverse proxy makes the console reachable from elsewhere: `https://console.shop.example`. Whoever has a link to it reads and
    /// writes in the business's name. Needed with --console and --api-on-network.
    #[arg(long, value_name = "URL")]
    console_origin: Option<Url>,

    /// Where the Cloud API listens; port 0 takes any free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8472")]
    api_listen: SocketAddr,

    /// Let the API listen on an address that other machines can reach. Tokens cross that network: with --domain or --tls-cert it speaks TLS
    /// there, else put TLS before it.
    #[arg(long)]
    api_on_network: bool,

    /// Where webhooks of all businesses go, until the API says otherwise.
    #[arg(long, value_name = "URL")]
    webhook: Option<Url>,

    /// A site whose pages may have the app in a frame, for the widget: `https://www.shop.example`. Can be given several times. Name none but the
    /// business's own: such a page can lie over the chat what it wants.
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    embed: Vec<url::Origin>,

    /// The key that verifies who customers are at a business itself, as HANDLE=FILE: a PEM public key (P-256 or Ed25519), or a secret of at
    /// least 32 bytes, with which the business's backend signs tokens for the widget (data-identity). Can be given several times.
    #[arg(long = "identity-key", value_name = "HANDLE=FILE", value_parser = identity_key)]
    identity_keys: Vec<(String, PathBuf)>,

    /// A network besides the public internet in which push services that customers name are reached, over http too and on any port, as
    /// 10.1.0.0/16: one of your own. Can be given several times, or with commas.
    #[arg(long = "push-network", value_name = "CIDR", env = "BULLA_PUSH_NETWORK", value_delimiter = ',')]
    push_networks: Vec<ipnet::IpNet>,

    /// A file whose first line is the passphrase of the businesses' key files. Given at the first start, it is needed ever after.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,

    /// Print each message and what became of it. This is the business's own side: the text is shown.
    #[arg(long)]
    feed: bool,

    /// Print the line of readiness as JSON, credentials included, and wait with it until customers can write.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    tls: TlsArgs,

    /// Stop when standard input ends: whoever started the gateway holds the other end of that pipe, and it cannot outlive him.
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

/// What `--json` prints.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Ready {
    /// This process.
    pub(crate) pid: u32,
    /// Where customers fetch bundles.
    pub(crate) public: SocketAddr,
    /// Where the API listens.
    pub(crate) api: SocketAddr,
    /// A link that opens the console once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) console: Option<Secret>,
    /// The businesses.
    pub(crate) businesses: Vec<bulla_gateway::Credentials>,
}

pub(crate) fn relay_url(text: &str) -> Result<String, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "ws" | "wss") && url.has_host() => Ok(text.to_owned()),
        _ => {
            Err("a relay's address is like wss://relay.example/v1/ws; bulla-relay prints its own when it starts"
                .to_owned())
        }
    }
}

fn business(text: &str) -> Result<NewBusiness, String> {
    match text.split_once('=') {
        Some((handle, name)) if !handle.is_empty() && !name.trim().is_empty() => {
            Ok(NewBusiness { handle: handle.to_owned(), name: name.trim().to_owned() })
        }
        _ => Err("say it as HANDLE=NAME, for example cortado='Cortado Coffee'".to_owned()),
    }
}

pub(crate) fn origin(text: &str) -> Result<url::Origin, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let plain = url.filter(|url| url.path() == "/" && url.query().is_none() && url.fragment().is_none());
    plain.map(|url| url.origin()).ok_or_else(|| "an origin is like https://www.shop.example, without a path".to_owned())
}

fn identity_key(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((handle, file)) if !handle.is_empty() && !file.is_empty() => Ok((handle.to_owned(), file.into())),
        _ => Err("say it as HANDLE=FILE, for example cortado=identity.pem".to_owned()),
    }
}

pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    let args = match command {
        Command::Serve(args) => args,
        Command::Backup(args) => {
            let passphrase = args.passphrase_file.as_deref().map(passphrase).transpose()?;
            bulla_gateway::backup::make(&args.data, &args.business, &args.to, passphrase.as_ref())?;
            print(&format!("{} is in {}", args.business, args.to.display()))?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Restore(args) => {
            bulla_gateway::backup::restore(&args.data, &args.business, &args.from)?;
            print(&format!("{} is in {}; start it with bulla gateway serve", args.business, args.data.display()))?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let config = args.config()?;
    crate::runtime()?.block_on(async {
        // Before anything is started, so that no signal finds nobody.
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
        let stdin_ends = stdin_ends(args.exit_with_stdin);
        let running = Gateway::serve(config).await?;
        let happenings = args.feed.then(|| running.feed());
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = stdin_ends, if args.exit_with_stdin => {}
            }
        };
        tokio::select! {
            () = stop => {}
            ended = serve(&running, &args, happenings) => ended?,
        }
        running.shutdown().await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Says that it is ready, then tells what happens.
async fn serve(
    running: &Running,
    args: &Serve,
    happenings: Option<tokio::sync::broadcast::Receiver<bulla_gateway::feed::Happening>>,
) -> anyhow::Result<()> {
    let businesses = if args.json {
        running.ready().await;
        let ready = Ready {
            pid: std::process::id(),
            public: running.public_addr,
            api: running.api_addr,
            console: running.console_link(),
            businesses: running.credentials().await?,
        };
        print(&serde_json::to_string(&ready)?)?;
        ready.businesses
    } else {
        let businesses = running.credentials().await?;
        let by_whom = if running.public_at.starts_with("https:") { "" } else { ": TLS by your reverse proxy" };
        print(&format!("public    {}   for customers{by_whom}", running.public_at))?;
        print(&format!(
            "API       {}   for your programs: bulla env --data {}",
            running.api_base,
            args.data.display()
        ))?;
        if args.console.is_some() {
            // No link here: what a service prints is kept where others read it.
            print(&format!("console   bulla console --data {}   prints a link that opens it", args.data.display()))?;
        }
        for business in &businesses {
            print(&format!("business  {}   {}", business.name, business.link))?;
        }
        businesses
    };
    match happenings {
        Some(happenings) => feed::print_all(happenings, &businesses, args.webhook.is_some()).await,
        None => std::future::pending().await,
    }
}

impl Serve {
    fn config(&self) -> anyhow::Result<Config> {
        let mut config = Config::new(self.data.clone(), self.relay.clone());
        config.tls = self.tls.source(&self.data)?;
        config.relay_ca = self.ca.clone();
        config.public_listen = self.public_listen;
        config.public_url = self.public_url.clone();
        config.app = self.app.as_deref().map(App::from_folder).transpose()?;
        config.console = self.console.as_deref().map(App::from_folder).transpose()?;
        config.console_origin = self.console_origin.clone();
        config.api_listen = self.api_listen;
        config.api_reach = if self.api_on_network { ApiReach::Network } else { ApiReach::Loopback };
        config.businesses = self.businesses.clone();
        config.webhook = self.webhook.clone();
        config.push_networks.clone_from(&self.push_networks);
        config.embed.clone_from(&self.embed);
        for (handle, file) in &self.identity_keys {
            config.identity_keys.insert(handle.clone(), IdentityKey::from_file(file)?);
        }
        config.passphrase = self.passphrase_file.as_deref().map(passphrase).transpose()?;
        Ok(config)
    }
}

fn passphrase(file: &std::path::Path) -> anyhow::Result<Secret> {
    let text = std::fs::read_to_string(file).map(zeroize::Zeroizing::new);
    let text = text.with_context(|| format!("the passphrase file {} cannot be read", file.display()))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Secret::new(line)),
        _ => bail!("the passphrase file {} is empty: its first line is the passphrase", file.display()),
    }
}

/// Resolves when standard input ends, if it is read at all. A thread of its own: the runtime would wait for the read when it stops.
fn stdin_ends(read: bool) -> tokio::sync::oneshot::Receiver<()> {
    let (ended, ends) = tokio::sync::oneshot::channel();
    if read {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            let _ = ended.send(());
        });
    }
    ends
}

fn print(line: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot print to standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn businesses_and_relays_are_said_so() {
        let made = business("cortado=Cortado Coffee = best").unwrap();
        assert_eq!((made.handle.as_str(), made.name.as_str()), ("cortado", "Cortado Coffee = best"));
        for wrong in ["cortado", "=x", "a=", "a=  "] {
            assert!(business(wrong).unwrap_err().contains("HANDLE=NAME"), "{wrong}");
        }
        assert!(relay_url("wss://relay.example/v1/ws").is_ok());
        assert!(relay_url("https://relay.example").is_err());
    }

    #[test]
    fn a_passphrase_is_the_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("passphrase");
        assert!(passphrase(&file).unwrap_err().to_string().contains("cannot be read"));
        std::fs::write(&file, "\nx").unwrap();
        assert!(passphrase(&file).unwrap_err().to_string().contains("is empty"));
        std::fs::write(&file, "correct horse\nbattery\n").unwrap();
        assert_eq!(passphrase(&file).unwrap().expose(), "correct horse");
    }
}
