//! For tests: the rules that keep a conversation in its place, each of which can be broken on purpose, so that it is seen that somebody would see.
//! Without the feature `under-test`, which no shipped program has (`cargo xtask check`), [`broken`] is never true and nothing of it is compiled.

/// A rule of docs/protocol.md §8 and §9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A commit is merged by whoever won its slot. *Broken*: by whoever lost it as well.
    OneWinner,
    /// Nobody commits while a member has not been heard.
    AllHeard,
    /// The author of a commit sends it to the members.
    CommitSent,
    /// A message of a future epoch is held. *Broken*: it is dropped.
    FutureHeld,
    /// A receipt of another epoch than ours of that number is a fork.
    ForkNoticed,
    /// A Hello is joined once.
    HelloOnce,
    /// What arrived is known by its id when it arrives again.
    DuplicateKnown,
    /// Nothing is sealed without the relay's lease.
    LeaseHeld,
    /// Nothing is sealed after `Superseded`.
    SupersededStops,
    /// The incarnation is raised at each start and while it seals.
    IncarnationRaised,
    /// A copy that is put back does not join once more what it may have joined since.
    PackagesForgotten,
    /// Where both begin again, the customer's group stands.
    CustomerStands,
    /// What is not delivered is said again in a new group.
    SaidAgain,
    /// Under the ids that it had.
    SameIds,
    /// Another identity is never followed into a new group, and is told.
    SameIdentity,
    /// A spare is good once, and its secrets are erased.
    SpareOnce,
    /// What cannot be processed in three tries is set aside.
    PoisonSetAside,
    /// A conversation does not go below a suite in which its two sides have heard each other.
    NoDowngrade,
    /// It begins again in a better suite that everybody speaks.
    MovesUp,
    /// A business tells a customer's devices of the one that their group lacks.
    LeftOutIntroduced,
}

/// Every rule.
pub const RULES: [Rule; 20] = [
    Rule::OneWinner,
    Rule::AllHeard,
    Rule::CommitSent,
    Rule::FutureHeld,
    Rule::ForkNoticed,
    Rule::HelloOnce,
    Rule::DuplicateKnown,
    Rule::LeaseHeld,
    Rule::SupersededStops,
    Rule::IncarnationRaised,
    Rule::PackagesForgotten,
    Rule::CustomerStands,
    Rule::SaidAgain,
    Rule::SameIds,
    Rule::SameIdentity,
    Rule::SpareOnce,
    Rule::PoisonSetAside,
    Rule::NoDowngrade,
    Rule::MovesUp,
    Rule::LeftOutIntroduced,
];

#[cfg(feature = "under-test")]
thread_local! {
    static BROKEN: std::cell::Cell<Option<Rule>> = const { std::cell::Cell::new(None) };
}

/// Breaks a rule in this thread, or none.
#[cfg(feature = "under-test")]
pub fn break_rule(rule: Option<Rule>) {
    BROKEN.set(rule);
}

/// Which rule is broken in this thread.
#[cfg(feature = "under-test")]
#[must_use]
pub fn broken_rule() -> Option<Rule> {
    BROKEN.get()
}

/// Whether a rule is broken here.
#[cfg(feature = "under-test")]
#[must_use]
pub fn broken(rule: Rule) -> bool {
    BROKEN.get() == Some(rule)
}

/// No rule is broken.
#[cfg(not(feature = "under-test"))]
#[must_use]
pub const fn broken(_: Rule) -> bool {
    false
}

/// A content as it is; another one in its place where [`Rule::SameIds`] is broken.
#[cfg(feature = "under-test")]
#[must_use]
pub fn other_id(content: Vec<u8>) -> Vec<u8> {
    if !broken(Rule::SameIds) {
        return content;
    }
    let again = crate::content::Content::decode(&content).ok().and_then(|mut other| {
        other.salt[0] ^= 1;
        other.encode().ok()
    });
    again.unwrap_or(content)
}

/// A content as it is.
#[cfg(not(feature = "under-test"))]
#[must_use]
pub const fn other_id(content: Vec<u8>) -> Vec<u8> {
    content
}
