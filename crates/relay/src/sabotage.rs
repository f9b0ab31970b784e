//! For tests: the rules of which durability is made, each of which can be broken on purpose, so that it is seen that somebody would see.
//!
//! Without the feature `under-test`, which no shipped program has (`cargo xtask check`), [`broken`] is never true and nothing of it is compiled. With
//! it, a process breaks the rule that [`VARIABLE`] names: a test that sees it broken is run in a process of its own.

/// A rule of docs/durability.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// What was promised for a group happens after its commit. *Broken*: before.
    AnswerAfterCommit,
    /// A commit is synced. *Broken*: it is only written.
    CommitSynced,
    /// After a commit that failed nothing is written and nobody answered. *Broken*: the writer goes on with the next group.
    FailureIsFatal,
    /// A group is one batch. *Broken*: one batch for each of its changes.
    BatchIsWhole,
    /// A batch is seen whole.
    SeenWhole,
    /// Keys are synced before the rows that need them.
    KeysFirst,
    /// The name of the key file is durable before it is relied on.
    FolderSynced,
    /// And those of the folders in which the store has its tables.
    KeyspacesSynced,
    /// And that of the data folder.
    DataFolderSynced,
    /// A batch that a power cut tore is discarded. *Broken*: the relay does not start.
    TailMended,
    /// A first start that broke off is begun again.
    BegunAgain,
    /// A backlog's key goes after its last row. *Broken*: after any.
    KeyAfterRows,
    /// Keys of what is gone are destroyed.
    KeysDestroyed,
    /// And overwritten at the start after a crash that came between.
    KeysDestroyedAtStart,
    /// Rows have a name that dies with their key. *Broken*: their mailbox's id.
    RowsNamed,
    /// Time is what has passed. *Broken*: what the machine's clock says.
    TimeHasPassed,
    /// An envelope waits for all of its last day. *Broken*: until it begins.
    LastDayCounts,
    /// Of a slot's claims, each sees those before it. *Broken*: what is durable decides.
    ClaimsInOrder,
    /// What a group takes of a limit counts at once. *Broken*: once it is durable.
    LimitAtOnce,
    /// No more than a window is on its way.
    WindowKept,
    /// What is stored stays until it is acknowledged. *Broken*: until it is delivered.
    KeptUntilAcked,
    /// What was not confirmed is stored in its order. *Broken*: backwards.
    SpillInOrder,
    /// Nothing overtakes what waits.
    BacklogFirst,
    /// Only the newest subscription's acknowledgements count.
    OldAcksIgnored,
    /// A revocation is stored. *Broken*: it is in memory only.
    RevocationStored,
    /// A lower incarnation is turned away.
    IncarnationCompared,
    /// An expired permit is refused.
    PermitExpires,
    /// A retry joins its first try.
    RetryJoins,
}

/// Every rule.
pub const RULES: [Rule; 28] = [
    Rule::AnswerAfterCommit,
    Rule::CommitSynced,
    Rule::FailureIsFatal,
    Rule::BatchIsWhole,
    Rule::SeenWhole,
    Rule::KeysFirst,
    Rule::FolderSynced,
    Rule::KeyspacesSynced,
    Rule::DataFolderSynced,
    Rule::TailMended,
    Rule::BegunAgain,
    Rule::KeyAfterRows,
    Rule::KeysDestroyed,
    Rule::KeysDestroyedAtStart,
    Rule::RowsNamed,
    Rule::TimeHasPassed,
    Rule::LastDayCounts,
    Rule::ClaimsInOrder,
    Rule::LimitAtOnce,
    Rule::WindowKept,
    Rule::KeptUntilAcked,
    Rule::SpillInOrder,
    Rule::BacklogFirst,
    Rule::OldAcksIgnored,
    Rule::RevocationStored,
    Rule::IncarnationCompared,
    Rule::PermitExpires,
    Rule::RetryJoins,
];

/// The environment's variable that names the rule which this process breaks.
pub const VARIABLE: &str = "BULLA_RELAY_BREAKS";

/// Whether this process breaks a rule.
#[cfg(any(test, feature = "under-test"))]
#[must_use]
pub fn broken(rule: Rule) -> bool {
    static BROKEN: std::sync::OnceLock<Option<Rule>> = std::sync::OnceLock::new();
    let named = || {
        let name = std::env::var(VARIABLE).ok()?;
        RULES.into_iter().find(|rule| format!("{rule:?}") == name)
    };
    *BROKEN.get_or_init(named) == Some(rule)
}

/// No rule is broken.
#[cfg(not(any(test, feature = "under-test")))]
#[must_use]
pub const fn broken(_: Rule) -> bool {
    false
}

/// Runs a test of this test program in a process that breaks a rule, and says what it printed if it failed: if somebody saw it.
#[cfg(any(test, feature = "under-test"))]
pub fn seen_by(rule: Rule, test: &str) -> std::io::Result<Option<String>> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    let ran = command
        .args(["--exact", test, "--nocapture"])
        .env(VARIABLE, format!("{rule:?}"))
        // The first history in which it shows is enough, and nobody is to look for it again.
        .envs([("PROPTEST_MAX_SHRINK_ITERS", "0"), ("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")])
        .output()?;
    let text = [ran.stdout, ran.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    if !text.contains("running 1 test") {
        return Err(std::io::Error::other(format!("there is no test {test}")));
    }
    // A panic in a task of the relay that nobody hears of is none of the test's.
    let failed = !ran.status.success() && text.contains("1 failed");
    Ok(failed.then(|| text.into_owned()))
}

/// Who sees a rule broken.
#[cfg(any(test, feature = "under-test"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// A test beside the code.
    Inside(&'static str),
    /// One of `tests/relay`.
    Outside(&'static str),
}

/// The test that sees a rule broken.
#[cfg(any(test, feature = "under-test"))]
#[must_use]
pub fn who_sees(rule: Rule) -> Seen {
    use Seen::{Inside, Outside};
    match rule {
        Rule::AnswerAfterCommit => Outside("faults::a_claim_is_answered_and_shown_only_once_it_is_durable"),
        Rule::CommitSynced => Outside("disk::store::after_a_power_cut_a_store_shows_what_was_committed"),
        Rule::FailureIsFatal => Outside("faults::a_failed_sync_ends_the_relay_and_nothing_pending_is_accepted"),
        Rule::BatchIsWhole => Outside("disk::store::after_a_power_cut_a_store_shows_what_was_committed"),
        Rule::SeenWhole => Inside("store::fjall::tests::it_keeps_the_contract"),
        Rule::KeysFirst => Outside("disk::store::after_a_power_cut_a_store_shows_what_was_committed"),
        Rule::FolderSynced | Rule::KeyspacesSynced | Rule::DataFolderSynced => {
            Outside("disk::store::after_a_power_cut_a_store_shows_what_was_committed")
        }
        Rule::TailMended => {
            Inside("store::tail::tests::a_batch_that_a_power_cut_tore_is_discarded_and_those_before_it_are_there")
        }
        Rule::BegunAgain => Outside("disk::store::whichever_call_fails_what_was_committed_is_there"),
        Rule::KeyAfterRows => Outside("keys::no_key_goes_before_its_rows"),
        Rule::KeysDestroyed => {
            Outside("keys::p2_what_was_acknowledged_or_is_over_opens_for_nobody_who_takes_every_file")
        }
        Rule::KeysDestroyedAtStart => {
            Outside("keys::p2_a_relay_that_was_killed_destroys_at_its_start_what_it_had_no_time_for")
        }
        Rule::RowsNamed => Outside("linker::p4_what_a_relay_keeps_does_not_tell_who_wrote_to_whom"),
        Rule::TimeHasPassed => Inside("clock::tests::srv_09_no_clock_makes_an_envelope_go_early_or_stay_for_ever"),
        Rule::LastDayCounts => Outside("held::what_nobody_read_for_thirty_days_goes_and_leaves_a_gap"),
        Rule::ClaimsInOrder => Inside("slots::tests::claims_are_decided_as_by_one_map"),
        Rule::LimitAtOnce => Inside("slots::tests::claims_are_decided_as_by_one_map"),
        Rule::WindowKept => {
            Outside("delivery::a_full_window_spills_everything_in_order_and_the_reader_gets_the_rest_later")
        }
        Rule::KeptUntilAcked => {
            Outside("delivery::what_is_sent_to_an_absent_reader_waits_in_order_and_is_deleted_by_its_ack")
        }
        Rule::SpillInOrder => {
            Outside("delivery::a_lost_connection_stores_what_it_did_not_confirm_and_the_next_gets_it_in_order")
        }
        Rule::BacklogFirst => Outside("delivery::sends_while_catching_up_queue_behind_the_backlog"),
        Rule::OldAcksIgnored => Outside("delivery::a_newer_subscription_replaces_the_older_whose_acks_are_ignored"),
        Rule::RevocationStored => Outside("delivery::a_restart_keeps_everything"),
        Rule::IncarnationCompared => Outside("ownership::a_higher_incarnation_takes_the_mailbox_from_the_lower_one"),
        Rule::PermitExpires => Outside("permits::a_permit_ends_at_its_hour"),
        Rule::RetryJoins => Outside("delivery::a_send_id_is_one_envelope_however_often_it_is_sent"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of these rules the others are broken in `tests/relay/rules.rs`.
    #[test]
    fn every_broken_rule_is_seen_beside_the_code() {
        for rule in RULES {
            if let Seen::Inside(test) = who_sees(rule) {
                assert!(seen_by(rule, test).unwrap().is_some(), "nobody sees that {rule:?} is broken");
                println!("figure: {rule:?} broken is seen by {test}");
            }
        }
    }
}
