//! `bulla up`: a relay and a gateway on this machine, each a process of its own, started again when it ends.

mod lan;
mod part;

use std::ffi::OsString;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use bulla_client::clock::{Clock as _, SystemClock};
use bulla_tls::local::{self, Local};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

use crate::folders;
use crate::gateway::Ready;
use part::{Part, Said};

/// The demo business: handle and name.
const BUSINESS: (&str, &str) = ("cortado", "Cortado Coffee (demo)");

/// The folder of the certificate for the local network.
const TLS: &str = "tls";

/// Starts a relay and a business's gateway on this machine, and prints what to do next.
///
/// Keys and tokens are made at the first start; data stays until --fresh. Ctrl-C stops everything.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder for everything: relay/ and gateway/ below it, and with --lan tls/.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Where the relay listens; the public port and the API take the two ports after it. Port 0 takes any free ones.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7410")]
    listen: SocketAddr,

    /// Let phones in the same network be customers: relay and public port listen there, under TLS with a certificate made for it. Without ADDR
    /// this machine's address in the local network is found.
    #[arg(long, value_name = "ADDR", num_args = 0..=1)]
    lan: Option<Option<IpAddr>>,

    /// Where webhooks go: `http://127.0.0.1:9000/hook`.
    #[arg(long, value_name = "URL")]
    webhook: Option<Url>,

    /// Delete what earlier runs left in the folder, keys included, and begin anew.
    #[arg(long)]
    fresh: bool,

    /// Print one line of JSON when customers can write, for programs: link, api_base, phone_number_id, waba_id, app_id, access_token,
    /// app_secret, verify_token, relay_url, if a console is served, console: a link
    /// that opens it once, and with --lan ca: the certificate's file.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let lan = args.lan.map(lan::address).transpose()?;
    let ports = Ports::from(args.listen, lan)?;
    let data = args.data.clone().map_or_else(folders::demo, Ok)?;
    folders::make(&data)?;
    let _alone = lock(&data)?;
    if args.fresh {
        begin_anew(&data)?;
    }
    crate::runtime()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
        let (mut relay, mut gateway) = (None, None);
        let ended = tokio::select! {
            ended = up(&args, &data, ports, &mut relay, &mut gateway) => ended,
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        };
        // The gateway first: it says goodbye through the relay.
        for mut part in [gateway, relay].into_iter().flatten() {
            part.stop().await;
        }
        ended.map(|()| ExitCode::SUCCESS)
    })
}

/// Runs until something cannot be mended. What was started is in `relay` and `gateway`, for the caller to stop.
async fn up(
    args: &Args,
    data: &Path,
    ports: Ports,
    relay_part: &mut Option<Part>,
    gateway_part: &mut Option<Part>,
) -> anyhow::Result<()> {
    let lan = match ports.lan {
        Some(address) => Some(local::certificate(&data.join(TLS), address, SystemClock.now_ms() / 1_000).await?),
        None => None,
    };
    let tls: Vec<OsString> = lan.iter().flat_map(tls_flags).collect();
    let relay_data = data.join("relay");
    let (program, relay_tls) = (relay_program()?, tls.clone());
    let relay_command = move |listen: SocketAddr| {
        let mut command = Command::new(&program);
        command.args(["serve", "--json", "--exit-with-stdin", "--listen", &listen.to_string()]).args(&relay_tls);
        // Its log, at the level that was asked for here; a demo's `info` would stand between what a person reads.
        let level = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned());
        command.arg("--data").arg(&relay_data).env("RUST_LOG", level);
        command
    };
    let relay = relay_part.insert(Part::start("bulla-relay", relay_command(ports.relay)).await?);
    let relay_ready: RelayReady = relay.ready()?;
    let say = Terminal { json: args.json, redraws: std::io::IsTerminal::is_terminal(&std::io::stdout()) };
    say.line(&format!("relay     pid {}  {}   bulla-relay: no keys, no names", relay_ready.pid, relay_ready.listen))
        .await?;

    let gateway_data = data.join("gateway");
    let (webhook, feed, relay_url) = (args.webhook.clone(), !args.json, relay_ready.url.clone());
    let this = std::env::current_exe().context("cannot find this program")?;
    let ca = lan.as_ref().map(|lan| lan.certificate.clone());
    let gateway_command = move |public: SocketAddr, api: SocketAddr| {
        let mut command = Command::new(&this);
        command.args(["gateway", "serve", "--json", "--exit-with-stdin", "--relay", &relay_url]);
        command.args(["--public-listen", &public.to_string(), "--api-listen", &api.to_string()]);
        command.args(["--business", &format!("{}={}", BUSINESS.0, BUSINESS.1)]);
        command.args(&tls);
        if let Some(ca) = &ca {
            command.arg("--ca").arg(ca);
        }
        if let Some(webhook) = &webhook {
            command.args(["--webhook", webhook.as_str()]);
        }
        if feed {
            command.arg("--feed");
        }
        command.arg("--data").arg(&gateway_data);
        command
    };
    let gateway = gateway_part.insert(Part::start("bulla gateway", gateway_command(ports.public, ports.api)).await?);
    let ready: Ready = gateway.ready()?;
    let business =
        ready.businesses.iter().find(|b| b.handle == BUSINESS.0).context("the demo business is not served")?;
    if args.json {
        let ca = lan.as_ref().map(|lan| lan.certificate.as_path());
        println!("{}", serde_json::to_string(&ForPrograms { business, console: ready.console.as_ref(), ca })?);
    } else {
        say.next_steps(args, &ready, business, data, lan.as_ref()).await?;
    }

    // From now on each is started again, where it was; apart, because a gateway may wait for a relay that is being started too.
    let (public, api, listen) = (ready.public, ready.api, relay_ready.listen);
    let relay_stays = async {
        loop {
            if let Said::Ended(how) = relay.said().await {
                say.line(&format!("relay     ended ({how}), starting again")).await?;
                relay.start_again(|| relay_command(listen)).await?;
            }
        }
    };
    let gateway_stays = async {
        loop {
            match gateway.said().await {
                Said::Line(line) => say.line(&line).await?,
                Said::Ended(how) => {
                    say.line(&format!("gateway   ended ({how}), starting again")).await?;
                    gateway.start_again(|| gateway_command(public, api)).await?;
                }
            }
        }
    };
    tokio::select! {
        ended = relay_stays => ended,
        ended = gateway_stays => ended,
    }
}

/// What `bulla-relay serve --json` prints.
#[derive(Debug, serde::Deserialize)]
struct RelayReady {
    listen: SocketAddr,
    url: String,
    pid: u32,
}

/// What `bulla up --json` prints.
#[derive(serde::Serialize)]
struct ForPrograms<'a> {
    #[serde(flatten)]
    business: &'a bulla_gateway::Credentials,
    #[serde(skip_serializing_if = "Option::is_none")]
    console: Option<&'a bulla_gateway::Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<&'a Path>,
}

/// What relay and gateway are told of a certificate.
fn tls_flags(local: &Local) -> [OsString; 4] {
    ["--tls-cert".into(), (&local.certificate).into(), "--tls-key".into(), (&local.key).into()]
}

/// Three ports in a row, or any free ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports {
    relay: SocketAddr,
    public: SocketAddr,
    api: SocketAddr,
    /// Where relay and public port are reached, if not on loopback.
    lan: Option<IpAddr>,
}

impl Ports {
    fn from(listen: SocketAddr, lan: Option<IpAddr>) -> anyhow::Result<Self> {
        if !listen.ip().is_loopback() {
            bail!(
                "bulla up is for trying Bulla on one machine and listens on loopback only, not on {}; for phones in the same network there is \
                 --lan, and to be reached by others, run bulla-relay serve and bulla gateway serve with TLS",
                listen.ip()
            );
        }
        let after = |steps: u16| match listen.port() {
            0 => Some(listen),
            port => port.checked_add(steps).map(|port| SocketAddr::new(listen.ip(), port)),
        };
        match (after(1), after(2)) {
            (Some(mut public), Some(api)) => {
                let mut relay = listen;
                if let Some(address) = lan {
                    relay.set_ip(address);
                    public.set_ip(address);
                }
                Ok(Self { relay, public, api, lan })
            }
            _ => bail!("port {} leaves no room for two more; choose one up to 65533", listen.port()),
        }
    }
}

/// What a person reads. With `--json`, standard output belongs to the one line for programs.
struct Terminal {
    json: bool,
    redraws: bool,
}

impl Terminal {
    async fn line(&self, line: &str) -> anyhow::Result<()> {
        if self.json {
            return Ok(());
        }
        // A line that takes the place of the one before it: on a terminal it does; elsewhere it is one more line.
        let text = match line.strip_prefix('\r') {
            Some(rest) if self.redraws => format!("\x1b[1A\x1b[2K{rest}\n"),
            Some(rest) => format!("{rest}\n"),
            None => format!("{line}\n"),
        };
        let mut out = tokio::io::stdout();
        out.write_all(text.as_bytes()).await.context("cannot print to standard output")?;
        out.flush().await.context("cannot print to standard output")
    }

    async fn next_steps(
        &self,
        args: &Args,
        ready: &Ready,
        business: &bulla_gateway::Credentials,
        data: &Path,
        lan: Option<&Local>,
    ) -> anyhow::Result<()> {
        let program = this_program();
        let ca = lan.map(|lan| format!("--ca {} ", lan.certificate.display())).unwrap_or_default();
        let env = match &args.data {
            Some(data) => format!("{program} env --data {}", data.display()),
            None => format!("{program} env"),
        };
        let has_app = std::env::var_os("BULLA_APP").is_some();
        let phone = (has_app && lan.is_none())
            .then(|| "On your phone     the same with --lan     (QR code; accept the certificate once)".to_owned());
        let in_browser = has_app.then(|| format!("Be the customer   {}", business.link));
        let console = ready.console.as_ref().map(|link| format!("Be the business   {}", link.expose()));
        let ways: Vec<String> = in_browser
            .into_iter()
            .chain(console)
            .chain([format!("In a terminal     {program} chat {ca}'{}'", business.link)])
            .chain(phone)
            .chain([format!("Any WhatsApp SDK  eval \"$({env})\"   → base URL, number id, token, secret")])
            .collect();
        let ways = ways.iter().zip(1..).map(|(way, number)| format!(" {number} {way}"));
        for line in [
            format!(
                "gateway   pid {}  {}   {} · keys and data in {}",
                ready.pid,
                ready.public,
                business.name,
                folders::shown(data)
            ),
            String::new(),
        ]
        .into_iter()
        .chain(ways)
        .chain(match lan {
            Some(lan) => lan::lines(&business.link, lan, self.redraws)?,
            None => Vec::new(),
        })
        .chain([
            String::new(),
            "Write \"hello\" as the customer.                     Ctrl-C stops · data stays · --fresh starts over"
                .to_owned(),
        ]) {
            self.line(&line).await?;
        }
        Ok(())
    }
}

/// How the person at this terminal would call this program: relative, if it is below the current folder.
fn this_program() -> String {
    let Ok(path) = std::env::current_exe() else { return "bulla".to_owned() };
    let here = std::env::current_dir().ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    here.unwrap_or(path).display().to_string()
}

/// Where `bulla-relay` is: where `BULLA_RELAY_BIN` says, beside this program, or in the PATH.
fn relay_program() -> anyhow::Result<PathBuf> {
    const NAME: &str = "bulla-relay";
    if let Some(path) = std::env::var_os("BULLA_RELAY_BIN").map(PathBuf::from) {
        if !path.is_file() {
            bail!("BULLA_RELAY_BIN names {}, and there is no such program", path.display());
        }
        return Ok(path);
    }
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(NAME)));
    let in_path = std::env::var_os("PATH");
    let in_path = in_path.iter().flat_map(std::env::split_paths).map(|folder| folder.join(NAME));
    beside.into_iter().chain(in_path).find(|path| path.is_file()).with_context(|| {
        format!("{NAME} is neither beside this program nor in the PATH; build it (cargo build --release -p bulla-relay) or name it with BULLA_RELAY_BIN")
    })
}

/// Nobody else runs on this folder, as long as the file is open.
fn lock(data: &Path) -> anyhow::Result<File> {
    let path = data.join("up.lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => {
            bail!("bulla up is running on {} already; stop it, or choose another folder with --data", data.display())
        }
    }
}

/// Deletes what this program made, and nothing else that may lie in the folder.
fn begin_anew(data: &Path) -> anyhow::Result<()> {
    for part in ["relay", "gateway", TLS] {
        let folder = data.join(part);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot delete {}", folder.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_follow_each_other_and_zero_stays_zero() {
        let ports = Ports::from("127.0.0.1:7410".parse().unwrap(), None).unwrap();
        assert_eq!((ports.public.port(), ports.api.port()), (7411, 7412));
        let free = Ports::from("127.0.0.1:0".parse().unwrap(), None).unwrap();
        assert_eq!((free.relay.port(), free.public.port(), free.api.port()), (0, 0, 0));
        assert!(Ports::from("127.0.0.1:65534".parse().unwrap(), None).is_err());
        assert!(Ports::from("0.0.0.0:7410".parse().unwrap(), None).unwrap_err().to_string().contains("loopback"));
    }

    #[test]
    fn in_a_local_network_the_api_stays_on_loopback() {
        let address = "192.168.1.5".parse().unwrap();
        let ports = Ports::from("127.0.0.1:7410".parse().unwrap(), Some(address)).unwrap();
        assert_eq!(ports.relay, "192.168.1.5:7410".parse().unwrap());
        assert_eq!(ports.public, "192.168.1.5:7411".parse().unwrap());
        assert_eq!(ports.api, "127.0.0.1:7412".parse().unwrap());
    }

    #[test]
    fn fresh_deletes_only_what_is_ours_and_a_folder_is_used_once() {
        let data = tempfile::tempdir().unwrap();
        for folder in ["relay", "gateway", "tls", "photos"] {
            std::fs::create_dir(data.path().join(folder)).unwrap();
            std::fs::write(data.path().join(folder).join("file"), "x").unwrap();
        }
        begin_anew(data.path()).unwrap();
        begin_anew(data.path()).unwrap();
        assert!(["relay", "gateway", "tls"].iter().all(|part| !data.path().join(part).exists()));
        assert!(data.path().join("photos/file").exists());
        let held = lock(data.path()).unwrap();
        assert!(lock(data.path()).unwrap_err().to_string().contains("running"));
        drop(held);
        lock(data.path()).unwrap();
    }
}
