//! The simulator: many endpoints and a relay in one process, with the clock, the network, the stores and the malice injected. A seed goes in, a
//! verdict comes out.
//!
//! ```text
//!   plan ── what happens ──▶ World ── inputs ──▶ Node: the real Engine over a Disk      (killed, copied, put back, its commits fail)
//!                              │ frames             │
//!                              ▼                    ▼
//!                            Relay (a model) ◀── Malice (drops, repeats, replays, lies about slots and leases, forgets)
//! ```
//!
//! Endpoints are `bulla-client`'s engine, driven as its own driver drives it: inputs, one batch, commit, effects: the business's, and one to
//! three devices of each of one to three customers, which are invited and removed while they talk. The relay is a model of
//! `proto/relay.proto` ([`relay`]), so that hours of it cost nothing and its disk can be put back. A run has two parts: faults, up to 40 days of
//! them, and then quiet, in which the relay is honest and everything runs. Then [`verdict`] looks at what endpoints have and show:
//!
//! - **I1** what was accepted is shown, **I2** once, **I3** in its sender's order, **I4** and nothing else is;
//! - **I5** the model relay keeps an envelope for 30 days and at most one more, **I6** and has seen no word of any message;
//! - **I7** all members of a conversation are in the same epoch of the same group;
//! - **I8** within five round trips of the quiet every device speaks again, and one that is invited then comes in;
//! - **I9** nothing was sealed twice under one key, over all endpoints and their copies ([`bulla_e2ee::seals`]);
//! - **I10** where nobody forked a group of two, it did not begin again for a fork;
//! - **I11** the secrets of a spare are gone an hour after its use;
//! - **I12** a conversation is in the best suite that all in it speak: in one history of four programs are updated when they start, or in the end.
//!
//! What may be lost, and which device has to have what, is said in one place, [`verdict`].
//!
//! Not in any run: a customer's first device is never removed, since it alone has the pseudonym's key and can begin anew when nobody else can;
//! and no folder of it is put back that is older than one of its devices: it would not know whom it let in, and they would have to be
//! invited again. Only with [`Options::everything`]: what is said there.
//!
//! Everything that is drawn at random comes from the seed, except the keys that OpenMLS makes for itself: a seed repeats what happens and
//! when, with other keys. OpenMLS compares a received KeyPackage with the machine's clock, so runs begin 40 days before this morning.
//!
//! With [`Options::sabotage`] a double is broken on purpose, with [`Options::breaks`] a rule of the engine, and the verdict must say so.

mod hostile;
mod log;
mod node;
mod plan;
mod relay;
mod stories;
mod verdict;
mod world;

use std::fmt;
use std::sync::LazyLock;

use bulla_e2ee::sabotage::{self, Rule};
use bulla_e2ee::seals;
use bulla_e2ee::suite::Suites;

use crate::chance::Chance;

pub use hostile::Powers;
pub use relay::RelaySabotage;
pub use stories::{Story, tell};
pub use world::Faults;

/// In every text: what the relay must never see.
const CANARY: &str = "kanari5d1ab0c3";

/// How to run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Keep a line for everything that happens, and show them if the history breaks.
    pub trace: bool,
    /// Show them as they happen.
    pub live: bool,
    /// Break a double.
    pub sabotage: Option<Sabotage>,
    /// Break a rule of the engine.
    pub breaks: Option<Rule>,
    /// Also what is known not to hold yet: several copies of folders in one run; a copy in a conversation that has just begun, or behind a relay
    /// that goes back itself, lies about the order or about who is the older one, or throws away what it accepted; and permits that are good
    /// and refused.
    pub everything: bool,
    /// What all programs speak; without it, one history in four is of two generations, and all others speak what programs speak.
    pub suites: Option<Suites>,
}

/// Ways to break a double on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// The relay.
    Relay(RelaySabotage),
    /// Endpoints' stores lose the table of message ids now and then.
    LosesMessageIds,
    /// What was decided in a commit that failed is done all the same.
    KeepsEffects,
    /// The business's endpoint tells the relay a text.
    LeaksText,
    /// In the quiet, one customer's connections stay cut.
    StaysAway,
}

impl Sabotage {
    fn of_relay(self) -> Option<RelaySabotage> {
        match self {
            Self::Relay(sabotage) => Some(sabotage),
            _ => None,
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Runs.
    pub runs: u64,
    /// Messages said.
    pub said: u64,
    /// Messages shown at the end.
    pub shown: u64,
    /// Messages that may be missing and are.
    pub missing: u64,
    /// Envelopes sent.
    pub envelopes: u64,
    /// Conversations that began again.
    pub continued: u64,
    /// Endpoints killed.
    pub kills: u64,
    /// Commits that failed.
    pub failed_commits: u64,
    /// Folders put back or run twice.
    pub copies: u64,
    /// Days of injected time.
    pub days: u64,
}

impl Figures {
    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.said += other.said;
        self.shown += other.shown;
        self.missing += other.missing;
        self.envelopes += other.envelopes;
        self.continued += other.continued;
        self.kills += other.kills;
        self.failed_commits += other.failed_commits;
        self.copies += other.copies;
        self.days += other.days;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, said, shown, missing, envelopes, continued, kills, failed_commits, copies, days } = self;
        write!(
            f,
            "{runs} histories, {days} days: {said} messages in {envelopes} envelopes, {shown} shown, {missing} lost where that is allowed; \
             {kills} kills, {failed_commits} failed commits, {copies} copies, {continued} new groups"
        )
    }
}

/// A run that broke the contract.
#[derive(Debug, Clone)]
pub struct Broken {
    /// How.
    pub breaches: Vec<String>,
    /// What happened, if it was asked for.
    pub trace: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.trace.iter().chain(&self.breaches) {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// One history.
///
/// # Errors
///
/// If it broke the contract.
pub fn run(seed: u64, options: Options) -> Result<Figures, Box<Broken>> {
    // Rehearsed while nothing is broken.
    for suites in [None, Some(plan::OLD)] {
        let _ = scene(suites);
    }
    seals::watch(true);
    sabotage::break_rule(options.breaks);
    let _logged = options.trace.then(log::here);
    let mut world = plan::history(seed, options);
    sabotage::break_rule(None);
    verdict::check(&mut world);
    if world.breaches.is_empty() {
        return Ok(world.figures);
    }
    Err(Box::new(Broken { breaches: world.breaches, trace: world.trace.unwrap_or_default() }))
}

/// When runs begin, Unix ms: 40 days before this morning.
fn begins_ms() -> u64 {
    static BEGINS: LazyLock<u64> = LazyLock::new(|| {
        use bulla_client::clock::Clock as _;
        (bulla_client::clock::SystemClock.now_ms() / relay::DAY_MS - 40) * relay::DAY_MS
    });
    *BEGINS
}

/// The scene with which most runs begin: a business, and customers who have talked to it, all with programs of now or of before.
fn scene(suites: Option<Suites>) -> &'static world::Scene {
    fn rehearse(suites: Option<Suites>) -> world::Scene {
        seals::watch(true);
        plan::rehearse(Chance::new(0), &Options { suites, ..Options::default() })
    }
    static NOW: LazyLock<world::Scene> = LazyLock::new(|| rehearse(None));
    static BEFORE: LazyLock<world::Scene> = LazyLock::new(|| rehearse(Some(plan::OLD)));
    if suites == Some(plan::OLD) { &BEFORE } else { &NOW }
}
