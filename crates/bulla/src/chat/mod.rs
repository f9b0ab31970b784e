//! `bulla chat`: a customer in a terminal.

mod command;
mod files;
mod offer;
mod plain;
mod recover;
mod screen;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use bulla_client::clock::SystemClock;
use bulla_client::endpoint::{Begin, Endpoint, NoProjector, Options, RoleOptions};
use bulla_client::event::{Conversation, Event, Shown};
use bulla_client::store::keyfile;
use bulla_client::store::sqlite::SqliteStore;
use bulla_client::transport::ws::WsTransport;
use bulla_e2ee::content::MessageId;
use bulla_e2ee::device::Invitation;
use bulla_e2ee::identity::{IdentityHash, UserId};
use bulla_e2ee::link::Link;
use bulla_e2ee::recovery::RecoveryCode;
use bulla_e2ee::suite::Suites;
use tokio::sync::mpsc::UnboundedReceiver;
use zeroize::Zeroizing;

use crate::{folders, log};

/// Talks to the business behind a link, end to end encrypted: no account, no phone number.
///
/// The part of the link behind # names the business's key: nothing is sent unless the business proves that it holds it. What you say is kept,
/// sealed, in a folder on this machine, and so is the key that makes you the same customer next time.
#[derive(Debug, clap::Args)]
#[command(after_help = command::HELP)]
pub(crate) struct Args {
    /// The business's link, `https://shop.example/@handle#k=…`; in quotes, for the # in it.
    #[arg(required_unless_present = "join")]
    link: Option<String>,

    /// Comes into a conversation of yours as another device: an invitation that `/invite FILE` has written there.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["link", "name"])]
    join: Option<PathBuf>,

    /// You were here before and have lost the folder that kept it: asks for the recovery code that `/recovery` has shown, and brings the conversation
    /// back from the business. What was said comes as the business has kept it.
    #[arg(long, conflicts_with_all = ["join", "name"])]
    recover: bool,

    /// The folder that keeps this conversation. Default: one per business below the user's data folder.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Whom to trust besides the public authorities: certificates in PEM, such as the one that `bulla up --lan` makes.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// What the business shall call you. Without it: Guest and four letters.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// No screen: read lines from standard input, write one line per event, for scripts.
    ///
    /// Lines out: `> ID TEXT` stored and on its way, `✓ ID` the relay has it, `✓✓ ID` delivered, `👁 ID` read, `! ID REASON` failed; `< TEXT` said by
    /// the business, `~ template ID CATEGORY NAME`, `~ header ID TEXT`, `~ footer ID TEXT` around such a text; what it offers below: `~ choice ID N TITLE`, `~ product ID N PRICE CURRENCY NAME`,
    /// `~ url ID URL TITLE`, `~ phone ID NUMBER TITLE`, `~ copy ID CODE`, `~ form ID TITLE`, `~ ask-location ID`; `~ location ID LAT LON WHAT`, `~ contact ID WHO`; `~ file ID BYTES NAME` a file that it sent and `~ caption ID TEXT` what it says under it, `~ 👍 ID` its reaction (`~ - ID` taken back), `~ edited ID TEXT`, `~ deleted ID`. An ID is the first 8 digits of a message's id. In
    /// texts, \\ \n \t \u{…} stand for a backslash and for characters that would steer a terminal. At the end of input it waits until everything
    /// is delivered and exits with 0, or with 1 if something failed.
    #[arg(long)]
    plain: bool,

    /// With --plain: first print everything that is stored, oldest first.
    #[arg(long, requires = "plain")]
    history: bool,
}

/// An open conversation with a business.
struct Session {
    endpoint: Endpoint,
    /// As it was when it was opened.
    conversation: Conversation,
}

/// `level` is what to log, if somebody said so.
pub(crate) fn run(args: Args, level: Option<&str>) -> anyhow::Result<ExitCode> {
    let to = To::of(&args)?;
    if !args.plain {
        screen::possible()?;
    }
    let code = if args.recover { Some(recover::ask(!args.plain)?) } else { None };
    let data = args.data.clone().map_or_else(|| folders::chat(to.business().as_bytes()), Ok)?;
    folders::make(&data)?;
    match level {
        level if args.plain => log::to_stderr(level.unwrap_or(log::DEFAULT))?,
        Some(level) => log::to_file(level, &data.join("chat.log"))?,
        None => {}
    }
    crate::runtime()?.block_on(async {
        let (session, events) = Session::open(&args, &to, code, &data).await?;
        let endpoint = session.endpoint.clone();
        let ended = match args.plain {
            true => plain::run(session, events, args.history).await,
            false => screen::run(session, events).await,
        };
        endpoint.shutdown().await;
        ended
    })
}

/// Where a conversation comes from.
enum To {
    Link(Link),
    Invitation(Zeroizing<Vec<u8>>, IdentityHash, UserId),
}

impl To {
    fn of(args: &Args) -> anyhow::Result<Self> {
        if let Some(file) = &args.join {
            let bytes = std::fs::read(file).map(Zeroizing::new).with_context(|| file.display().to_string())?;
            let invitation = Invitation::decode(&bytes).with_context(|| file.display().to_string())?;
            let certificate = invitation.device.certificate();
            let user = certificate.user_id().context("it is not of a customer's device")?;
            return Ok(Self::Invitation(bytes, *certificate.business(), user));
        }
        Ok(Self::Link(Link::parse(args.link.as_deref().unwrap_or_default())?))
    }

    fn business(&self) -> &IdentityHash {
        match self {
            Self::Link(link) => link.key(),
            Self::Invitation(_, business, _) => business,
        }
    }
}

impl Session {
    async fn open(
        args: &Args,
        to: &To,
        code: Option<RecoveryCode>,
        data: &std::path::Path,
    ) -> anyhow::Result<(Self, UnboundedReceiver<Event>)> {
        let root = keyfile::load_or_create(&data.join("key"), None, &mut rand_core::OsRng)?;
        let options = Options {
            role: RoleOptions::Customer,
            suites: Suites::DEFAULT,
            clock: Arc::new(SystemClock),
            restored: false,
        };
        let transport = WsTransport::with_roots(bulla_tls::roots::with(args.ca.as_deref()).await?)?;
        let folder = data.to_owned();
        let started = tokio::task::spawn_blocking(move || {
            Endpoint::start_with(SqliteStore::open(&folder)?, root, options, Box::new(NoProjector), transport)
        });
        let (endpoint, events) = started.await.context("the endpoint's thread")??;
        let mut events = recover::Events::new(events);
        let conversation = match to {
            To::Link(link) => match code {
                Some(code) => recover::recover(&endpoint, &mut events, link, code).await?,
                None => endpoint.begin(link, Begin { name: args.name.clone(), ..Begin::default() }).await?,
            },
            To::Invitation(invitation, _, user) => {
                // It came in before: the file is worth nothing more, and not needed.
                let here = endpoint.conversations().await?.into_iter().find(|c| c.user_id == *user);
                match here {
                    Some(here) => here,
                    None => endpoint.accept_invitation(invitation.clone()).await?,
                }
            }
        };
        let conversation = recover::fetch(&endpoint, &mut events, conversation).await?;
        Ok((Self { endpoint, conversation }, events.into_inner()))
    }
}

/// A message's id as people read and type it: 8 digits.
fn short(id: &MessageId) -> String {
    let [_, a, b, c, d, ..] = id.as_bytes();
    format!("{a:02x}{b:02x}{c:02x}{d:02x}")
}

/// What cannot be missed.
const KEY_CHANGE: &str = "SOMEBODY ELSE claims to be this business, under another key. Nothing was sent there. If the business has given you a new link, open that";

/// What need not be looked at twice.
const CONTINUED: &str = "the conversation goes on in a new group, with the same keys of who you are";

/// What cannot be missed either.
fn devices_changed(added: &[String], removed: &[String]) -> String {
    let list = |names: &[String]| names.join(", ");
    match (added, removed) {
        (added, []) => format!(
            "another device of yours reads and writes here now: {}. If you do not know it: /remove {}",
            list(added),
            list(added)
        ),
        ([], removed) => format!("a device of yours was removed: {}", list(removed)),
        (added, removed) => format!("devices of yours have changed: {} came in, {} went", list(added), list(removed)),
    }
}

/// Said where a program is out of date.
const OUTDATED: &str = "this program and the business's have no cipher suite in common: one of them is out of date. What you write is kept until it is updated";

/// Said where another's is newer.
const NEWER: &str = "something came from a newer program than this one; it is kept. Update this program";

/// Said on a device that was removed.
const REMOVED: &str =
    "this device was removed by another of your devices: you can read what is here, and write nothing";

/// Said on a device whose conversation goes on elsewhere.
const MOVED: &str = "this conversation goes on on another device, where your recovery code was entered: you can read what is here. /here brings it back. If that was not you, somebody has your code: tell the business by another way";

/// Something that somebody said, and not what changes it or cannot be shown.
fn is_said(shown: &Shown) -> bool {
    matches!(
        shown,
        Shown::Text(_)
            | Shown::File(_)
            | Shown::Interactive(..)
            | Shown::Answer(_)
            | Shown::Location(_)
            | Shown::Contacts(_)
    )
}

/// What a business did that it may not, in words.
fn breach(message: &bulla_client::event::Message) -> &'static str {
    use bulla_e2ee::content::Category;
    let category = offer::interactive(message).and_then(|of| of.template.as_ref()).map(|template| template.category);
    match category {
        Some(Category::Marketing) => "the business sent this offer as if it were an answer to you, which it may not",
        _ => "the business wrote outside the time in which it may answer",
    }
}

/// Why a message failed, in words.
fn why(failure: Option<bulla_client::event::Failure>) -> &'static str {
    use bulla_client::event::Failure;
    match failure {
        Some(Failure::WindowClosed) => "the time to answer is over",
        Some(Failure::Refused) => "the business does not take messages from here any more",
        Some(Failure::NoReceipt) => "nobody confirmed it within 31 days",
        Some(Failure::TooLarge) => "it is larger than the business allows",
        _ => "it cannot be delivered",
    }
}
