//! What an operator decides, and where it is said: defaults, a file, environment variables, flags, each over those
//! before it.
//!
//! [`Settings`] is the only place that knows them. Of its fields, clap makes the flags; from the same arguments come
//! the environment's names (`--work-bits`: `BULLA_RELAY_WORK_BITS`), the keys of the file (`work_bits`, and those of
//! TLS in a table `[tls]`), its checks, and the file that `bulla-relay config` prints. What the file says becomes
//! clap's default: so flags and environment win by clap's own rules.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulla_protocol::limits::{BLOB_BYTES, MAX_WORK_BITS, MEMORY_TOTAL, SLOT_BYTES, WORK_BITS};
use bulla_protocol::permit::RelayName;
use bulla_relay::Config;
use bulla_tls::{TlsArgs, TlsError};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args as _, Command};
use toml::de::{DeTable, DeValue};

/// Bytes of a file: a hundred times what all settings take.
const LONGEST: u64 = 1 << 20;

/// The table of what [`TlsArgs`] has.
const TLS: &str = "tls";

/// More MiB than any disk has, and few enough to be counted in bytes.
const MOST_MIB: u64 = 1 << 34;

/// What an operator decides.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// The data folder; made if it is not there, readable by its owner only.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,

    /// Address and port to listen on; port 0 takes any free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8470")]
    pub(crate) listen: SocketAddr,

    /// The relay's name, which its clients bind into every proof: its domain. It must not change while mailboxes exist.
    #[arg(long, value_name = "NAME", default_value = "relay.local", value_parser = relay_name)]
    pub(crate) name: RelayName,

    /// Proof of work for a new mailbox, a first contact and a commit slot, in leading zero bits. Clients refuse more
    /// than 28.
    #[arg(long, value_name = "N", default_value_t = WORK_BITS,
        value_parser = clap::value_parser!(u32).range(0..=i64::from(MAX_WORK_BITS)))]
    work_bits: u32,

    /// Room for sealed attachments, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = BLOB_BYTES >> 20,
        value_parser = clap::value_parser!(u64).range(..=MOST_MIB))]
    pub(crate) blob_mib: u64,

    /// Room for commit slots, in MiB. A group whose commit finds none waits, and tries again.
    #[arg(long, value_name = "MIB", default_value_t = SLOT_BYTES >> 20,
        value_parser = clap::value_parser!(u64).range(1..=MOST_MIB))]
    pub(crate) slots_mib: u64,

    /// Memory for envelopes that are handed over or on their way to the disk, in MiB. Without room for one its sender
    /// is told to try again.
    #[arg(long, value_name = "MIB", default_value_t = MEMORY_TOTAL as u64 >> 20,
        value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    memory_mib: u64,

    /// How long a stop waits for what is on its way: answers to senders, uploads.
    #[arg(long, value_name = "SECONDS", default_value_t = bulla_relay::server::DRAIN.as_secs(),
        value_parser = clap::value_parser!(u64).range(..=3_600))]
    drain_secs: u64,

    /// Where to answer /health and /metrics, in plain HTTP; without it nowhere. Best on loopback, such as
    /// 127.0.0.1:8471: whoever reads the numbers of a quiet relay can tell from them whether somebody is connected.
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<SocketAddr>,

    #[command(flatten)]
    tls: TlsArgs,
}

pub(crate) fn relay_name(text: &str) -> Result<RelayName, String> {
    RelayName::new(text).ok_or_else(|| "a name has 1 to 255 bytes and no control characters".to_owned())
}

impl Settings {
    /// Where the certificate comes from, if it speaks TLS.
    pub(crate) fn tls(&self) -> Result<Option<bulla_tls::Source>, TlsError> {
        self.tls.source(&self.data)
    }

    /// What the server is started with.
    pub(crate) fn config(self) -> Result<Config, TlsError> {
        let tls = self.tls()?;
        let mut config = Config::new(self.data, self.listen, self.name);
        config.tls = tls;
        config.work_bits = self.work_bits;
        config.blob_bytes = self.blob_mib << 20;
        config.slot_bytes = self.slots_mib << 20;
        config.memory = usize::try_from(self.memory_mib << 20).unwrap_or(usize::MAX);
        config.drain = Duration::from_secs(self.drain_secs);
        config.metrics = self.metrics;
        Ok(config)
    }
}

/// Why settings are none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// The file cannot be read.
    #[error(
        "cannot read the settings in {0}: {1}. Name another with --config or BULLA_RELAY_CONFIG, or let this user read it"
    )]
    Unreadable(PathBuf, std::io::Error),
    /// It is no file of settings.
    #[error("{0} is larger than {LONGEST} bytes: is it a file of settings?")]
    TooLarge(PathBuf),
    /// Not TOML.
    #[error("{file}, line {line}: {what}. The file is TOML, as `bulla-relay config` prints it")]
    Syntax { file: PathBuf, line: usize, what: String },
    /// A key that is none.
    #[error("{file}, line {line}: there is no setting '{key}'{}. `bulla-relay config` prints them all", meant(.near))]
    Unknown { file: PathBuf, line: usize, key: String, near: Option<String> },
    /// A value of another kind, such as a table for a number.
    #[error("{file}, line {line}: '{key}' cannot be a TOML {kind}: {wanted}")]
    Kind { file: PathBuf, line: usize, key: String, kind: &'static str, wanted: &'static str },
    /// A value that does not do.
    #[error("{file}, line {line}: '{key}' cannot be '{value}': {why}")]
    Value { file: PathBuf, line: usize, key: String, value: String, why: String },
    /// Two sources of a certificate.
    #[error(
        "the certificate is to come from a file (tls.cert, --tls-cert) and to be ordered (tls.domains, --domain): \
         choose one"
    )]
    TwoCertificates,
    /// Half a pair.
    #[error(
        "a certificate's file (tls.cert, --tls-cert) and its key's (tls.key, --tls-key) belong together: give both"
    )]
    HalfCertificate,
}

fn meant(key: &Option<String>) -> String {
    key.as_ref().map(|key| format!("; the nearest is '{key}'")).unwrap_or_default()
}

/// Says which arguments are settings, by their id.
fn ids() -> (BTreeSet<String>, BTreeSet<String>) {
    let of = |command: Command| command.get_arguments().map(|arg| arg.get_id().to_string()).collect();
    (of(Settings::augment_args(Command::new("settings"))), of(TlsArgs::augment_args(Command::new(TLS))))
}

/// Where a setting stands in the file: `work_bits`, `tls.cert`.
fn key_of(id: &str, tls: &BTreeSet<String>) -> String {
    if tls.contains(id) { format!("{TLS}.{}", id.strip_prefix("tls_").unwrap_or(id)) } else { id.to_owned() }
}

/// The environment's name of an argument.
fn env_of(arg: &Arg) -> Option<String> {
    arg.get_long().map(|long| format!("BULLA_RELAY_{}", long.replace('-', "_").to_uppercase()))
}

/// The settings of a program: the arguments of those of its commands that take them, and its own `--log`.
pub(crate) struct Program {
    command: Command,
    /// Commands that take settings.
    subcommands: &'static [&'static str],
}

impl Program {
    /// Gives every setting its environment variable.
    pub(crate) fn new(command: Command, subcommands: &'static [&'static str]) -> Self {
        let (ids, _) = ids();
        let with_env = |arg: Arg| match env_of(&arg) {
            // Several values of a variable are separated as in a URL's query, not by blanks: names and paths have
            // none of these.
            Some(env) if ids.contains(arg.get_id().as_str()) && matches!(arg.get_action(), ArgAction::Append) => {
                arg.env(env).value_delimiter(',')
            }
            Some(env) if ids.contains(arg.get_id().as_str()) => arg.env(env),
            _ => arg,
        };
        let command = command.mut_subcommands(|sub| match subcommands.contains(&sub.get_name()) {
            true => sub.mut_args(with_env),
            false => sub,
        });
        // The older name goes on counting where the other is not set.
        const LOG: &str = "BULLA_RELAY_LOG";
        let command = match std::env::var_os(LOG) {
            Some(_) => command.mut_arg("log", |arg| arg.env(LOG)),
            None => command,
        };
        // What is printed may lack what has no default.
        let command = command.mut_subcommand("config", |sub| sub.mut_args(|arg| arg.required(false)));
        Self { command, subcommands }
    }

    /// Reads the arguments, and the file that they or the environment name.
    pub(crate) fn matches(&self, arguments: Vec<OsString>) -> Result<Result<ArgMatches, clap::Error>, SettingsError> {
        // First only for the file's name: what the file may say is not missed yet.
        let found = match self.lax(&arguments) {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        let sub = found.subcommand().filter(|(name, _)| self.subcommands.contains(name)).map(|(_, sub)| sub);
        let file = sub.and_then(|sub| sub.get_one::<PathBuf>("config"));
        let said = file.map(|file| self.read(file)).transpose()?.unwrap_or_default();
        let defaults = |arg: Arg| match said.get(arg.get_id().as_str()) {
            Some(values) => arg.required(false).default_values(values.clone()),
            None => arg,
        };
        let command = self.each(|sub| sub.mut_args(defaults)).mut_arg("log", defaults);
        let found = match command.try_get_matches_from(arguments) {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        if let Some((_, sub)) = found.subcommand().filter(|(name, _)| self.subcommands.contains(name)) {
            let has = |id| sub.get_raw(id).is_some();
            if has("tls_cert") != has("tls_key") {
                return Err(SettingsError::HalfCertificate);
            }
            if has("tls_cert") && has("domains") {
                return Err(SettingsError::TwoCertificates);
            }
        }
        Ok(Ok(found))
    }

    /// What the arguments and the environment say, whatever is missing.
    pub(crate) fn lax(&self, arguments: &[OsString]) -> Result<ArgMatches, clap::Error> {
        self.each(|sub| sub.mut_args(|arg| arg.required(false))).try_get_matches_from(arguments)
    }

    fn each(&self, change: impl Fn(Command) -> Command) -> Command {
        self.command.clone().mut_subcommands(|sub| match self.subcommands.contains(&sub.get_name()) {
            true => change(sub),
            false => sub,
        })
    }

    /// The settings' arguments in their order, the log's last of those without a table.
    fn arguments(&self) -> Vec<(String, Arg)> {
        let (_, tls) = ids();
        let settings = Settings::augment_args(Command::new("settings"));
        let log = self.command.get_arguments().filter(|arg| arg.get_id() == "log");
        let mut all: Vec<_> = settings.get_arguments().chain(log).cloned().collect();
        all.sort_by_key(|arg| tls.contains(arg.get_id().as_str()));
        all.into_iter().map(|arg| (key_of(arg.get_id().as_str(), &tls), arg)).collect()
    }

    /// What a file says, by the arguments' ids; every key and every value checked.
    fn read(&self, file: &Path) -> Result<BTreeMap<String, Vec<String>>, SettingsError> {
        let unreadable = |error| SettingsError::Unreadable(file.to_owned(), error);
        if std::fs::metadata(file).map_err(unreadable)?.len() > LONGEST {
            return Err(SettingsError::TooLarge(file.to_owned()));
        }
        self.understand(file, &std::fs::read_to_string(file).map_err(unreadable)?)
    }

    fn understand(&self, file: &Path, text: &str) -> Result<BTreeMap<String, Vec<String>>, SettingsError> {
        let line = |at: usize| text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        let table = DeTable::parse(text).map_err(|error| SettingsError::Syntax {
            file: file.to_owned(),
            line: line(error.span().map_or(0, |span| span.start)),
            what: error.message().replace('\n', ", "),
        })?;
        let mut said = BTreeMap::new();
        let mut entries: Vec<(String, usize, &DeValue<'_>)> = Vec::new();
        for (key, value) in table.get_ref() {
            let (name, at) = (key.get_ref().to_string(), key.span().start);
            match value.get_ref() {
                DeValue::Table(inner) if name == TLS => entries.extend(
                    inner
                        .iter()
                        .map(|(key, value)| (format!("{TLS}.{}", key.get_ref()), key.span().start, value.get_ref())),
                ),
                other => entries.push((name, at, other)),
            }
        }
        entries.sort_by_key(|(_, at, _)| *at);
        let arguments = self.arguments();
        for (key, at, value) in entries {
            let (file, line) = (file.to_owned(), line(at));
            let Some((_, arg)) = arguments.iter().find(|(known, _)| *known == key) else {
                let known = arguments.iter().map(|(known, _)| known);
                let near = known.min_by_key(|known| strsim::damerau_levenshtein(known, &key));
                let near = near.filter(|near| strsim::damerau_levenshtein(near, &key) <= 1 + key.len() / 4).cloned();
                return Err(SettingsError::Unknown { file, line, key, near });
            };
            let many = matches!(arg.get_action(), ArgAction::Append);
            let wanted = if many { "a list of texts" } else { "a text or a whole number" };
            let kind = |value: &DeValue<'_>| {
                let (file, key) = (file.clone(), key.clone());
                SettingsError::Kind { file, line, key, kind: value.type_str(), wanted }
            };
            let values = match value {
                DeValue::Array(values) if many => {
                    values.iter().map(|value| scalar(value.get_ref()).ok_or_else(|| kind(value.get_ref()))).collect()
                }
                other if !many => scalar(other).map(|value| vec![value]).ok_or_else(|| kind(other)),
                other => Err(kind(other)),
            }?;
            for value in &values {
                if let Some(why) = refused(arg, value) {
                    return Err(SettingsError::Value { file, line, key, value: value.clone(), why });
                }
            }
            said.insert(arg.get_id().to_string(), values);
        }
        Ok(said)
    }

    /// A file that says what the arguments come to, with every setting explained.
    pub(crate) fn print(&self, found: &ArgMatches) -> String {
        let mut out = String::from(
            "# Settings of bulla-relay. Each can also be a variable of the environment or a flag: these count more.\n\
             # What is commented out is not set.\n",
        );
        let mut table = false;
        for (key, arg) in self.arguments() {
            let key = match key.strip_prefix("tls.") {
                Some(inner) => {
                    if !std::mem::replace(&mut table, true) {
                        let _ = write!(out, "\n[{TLS}]\n");
                    }
                    inner.to_owned()
                }
                None => key,
            };
            let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
            out.push('\n');
            for paragraph in help.lines() {
                for line in folded(paragraph) {
                    let _ = writeln!(out, "# {line}");
                }
            }
            let long = arg.get_long().unwrap_or_default();
            let env = env_of(&arg).unwrap_or_default();
            let _ = writeln!(out, "# ({env}, --{long})");
            let values: Vec<_> = found.get_raw(arg.get_id().as_str()).into_iter().flatten().collect();
            let values: Vec<_> = values.iter().map(|value| written(&value.to_string_lossy())).collect();
            let name = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
            let sample = written(&name.unwrap_or_default());
            let _ = match (values.as_slice(), matches!(arg.get_action(), ArgAction::Append)) {
                ([], true) => writeln!(out, "#{key} = [{sample}]"),
                ([], false) => writeln!(out, "#{key} = {sample}"),
                (values, true) => writeln!(out, "{key} = [{}]", values.join(", ")),
                ([value, ..], false) => writeln!(out, "{key} = {value}"),
            };
        }
        out
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Why clap would refuse a value of this argument, if it would.
fn refused(arg: &Arg, value: &str) -> Option<String> {
    // The program's log level is none of these, and is understood where logging begins.
    let settings = Settings::augment_args(Command::new("settings")).mut_args(|arg| arg.required(false));
    settings.get_arguments().find(|known| known.get_id() == arg.get_id())?;
    let error =
        settings.try_get_matches_from(["settings".to_owned(), format!("--{}={value}", arg.get_long()?)]).err()?;
    matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue | ErrorKind::InvalidUtf8)
        .then(|| error.source().map_or_else(|| "it is empty".to_owned(), ToString::to_string))
}

/// A value as TOML.
fn written(value: &str) -> String {
    match value.parse::<i64>() {
        Ok(number) if number.to_string() == value => value.to_owned(),
        _ => toml::Value::String(value.to_owned()).to_string(),
    }
}

/// A paragraph in lines.
fn folded(text: &str) -> Vec<String> {
    const WIDTH: usize = 110;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + word.len() < WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
