//! Each rule that keeps a conversation in its place is broken on purpose ([`bulla_e2ee::sabotage`]), and somebody sees it: a random history of
//! [`bulla_testkit::sim`], or a story that is about that rule and ends well where nothing is broken.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bulla_e2ee::continues::Reason;
use bulla_e2ee::sabotage::{RULES, Rule};
use bulla_e2ee::suite::Suite;
use bulla_testkit::decoders::endpoint::impostor;
use bulla_testkit::sim::{self, Options, Story};

/// Histories in which a broken rule is looked for.
const HISTORIES: u64 = 400;

/// Runs of a story in which a broken rule is looked for: what it takes hangs on how long frames travel.
const RUNS: u64 = 20;

/// Who sees a rule broken.
enum Seen {
    /// A random history, by an invariant whose name begins so.
    History(&'static str),
    /// A story, in the same way.
    Story(Story, &'static str),
    /// A peer that says what no honest one would.
    Impostor,
}

fn who_sees(rule: Rule) -> Seen {
    match rule {
        Rule::OneWinner => Seen::Story(Story::BothCommit, "I10 fork"),
        Rule::CommitSent => Seen::Story(Story::SlotsHidden, "a conversation began again"),
        Rule::SupersededStops => Seen::Story(Story::RunsTwice, "I9 sealed twice"),
        Rule::IncarnationRaised => Seen::Story(Story::OldCopy, "I9 sealed twice"),
        Rule::PoisonSetAside => Seen::Story(Story::Damaged, "shop: a step failed"),
        Rule::PackagesForgotten => Seen::Story(Story::JoinedBefore, "I9 sealed twice"),
        Rule::LeaseHeld => Seen::Story(Story::OldCopy, "I9 sealed twice"),
        Rule::HelloOnce => Seen::History("I9 sealed twice"),
        Rule::AllHeard => Seen::History("I"),
        Rule::FutureHeld => Seen::History("I1 lost"),
        Rule::DuplicateKnown => Seen::History("I2 twice"),
        Rule::CustomerStands => Seen::Story(Story::BothBegin, "I7 fork"),
        Rule::SaidAgain => Seen::History("I"),
        Rule::SameIds => Seen::History("I4 ghost"),
        Rule::SpareOnce => Seen::History("I11 kept"),
        Rule::MovesUp => Seen::History("I12 suite"),
        Rule::LeftOutIntroduced => Seen::Story(Story::Strangers, "I7 fork"),
        Rule::ForkNoticed | Rule::SameIdentity | Rule::NoDowngrade => Seen::Impostor,
    }
}

/// The breach of this name among those of a run; a panic is one too.
fn breach(name: &str, run: impl FnOnce() -> Result<(), Vec<String>>) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => None,
        Ok(Err(breaches)) => breaches.into_iter().find(|breach| breach.starts_with(name)),
        Err(_) => Some("it panicked".to_owned()),
    }
}

/// The first history in which a broken rule is seen, and how.
fn in_a_history(rule: Rule, name: &str) -> Option<String> {
    let (next, seen) = (AtomicU64::new(0), Mutex::new(None::<(u64, String)>));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= HISTORIES || seen.lock().expect("nobody panics with it").is_some() {
                return;
            }
            let options = Options { breaks: Some(rule), ..Options::default() };
            let run = || sim::run(seed, options).map(drop).map_err(|broken| broken.breaches);
            if let Some(how) = breach(name, run) {
                seen.lock().expect("nobody panics with it").get_or_insert((seed, how));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    seen.into_inner().expect("nobody panics with it").map(|(seed, how)| format!("in seed {seed}: {how}"))
}

fn in_a_story(rule: Rule, story: Story, name: &str) -> Option<String> {
    (0..RUNS).find_map(|seed| {
        let how = breach(name, || sim::tell(story, seed, Some(rule)).map(drop))?;
        Some(format!("in {story:?}, run {seed}: {how}"))
    })
}

fn by_an_impostor(rule: Rule) -> Option<String> {
    let seen = match rule {
        Rule::ForkNoticed => !impostor::notices_a_fork(Some(rule)),
        Rule::NoDowngrade => {
            [true, false].iter().all(|late| impostor::talked_down(*late, Some(rule)) == Some(Suite::Classical))
        }
        _ => impostor::another_identity(Some(rule)).told.is_empty(),
    };
    seen.then(|| "by a device in front of an impostor".to_owned())
}

#[test]
fn every_broken_rule_is_seen() {
    let mut unseen = Vec::new();
    for rule in RULES {
        let seen = match who_sees(rule) {
            Seen::History(name) => in_a_history(rule, name),
            Seen::Story(story, name) => in_a_story(rule, story, name),
            Seen::Impostor => by_an_impostor(rule),
        };
        match seen {
            Some(how) => println!("figure: {rule:?} broken is seen {how}"),
            None => unseen.push(rule),
        }
    }
    assert!(unseen.is_empty(), "nobody sees that these are broken: {unseen:?}");
}

/// What the stories are compared with.
#[test]
fn every_story_ends_well_where_no_rule_is_broken() {
    for story in [
        Story::BothCommit,
        Story::SlotsHidden,
        Story::RunsTwice,
        Story::OldCopy,
        Story::JoinedBefore,
        Story::Damaged,
        Story::BothBegin,
        Story::JoinLost,
        Story::WelcomeLost,
        Story::Strangers,
    ] {
        for seed in 0..RUNS {
            if let Err(breaches) = sim::tell(story, seed, None) {
                panic!("{story:?}, run {seed}: {breaches:#?}");
            }
        }
    }
}

#[test]
fn mls_07_a_receipt_of_another_branch_ends_the_group() {
    assert!(impostor::notices_a_fork(None));
}

/// KEY-02, of an open conversation: it is told once, joined never, and nothing is sealed to it.
#[test]
fn key_02_another_identity_is_told_and_nothing_is_ever_sealed_to_it() {
    let change = impostor::another_identity(None);
    assert_eq!(change.told, [change.key], "told, and once however often it is said");
    assert_eq!(change.opened_by_it, 0);
    assert!(change.opened_by_business >= 2, "the conversation goes on with whom it was: {change:?}");
}

/// Who knows a newer suite or version begins again in it, and this version follows as after any other reason.
#[test]
fn a_statement_for_a_newer_suite_is_followed_and_nothing_is_lost() {
    let (told, opened) = impostor::newer();
    assert_eq!(told, [Reason::Newer]);
    assert_eq!(opened, 1, "what was under way is said again in the new group");
}

/// MLS-09: a spare is good for one group and is replaced with the first receipt in it; a statement that is heard again, and, once it is an hour
/// old, the spare itself bring nobody anywhere.
#[test]
fn mls_09_a_spare_is_good_once_and_is_replaced() {
    let spent = impostor::one_spare_twice(None);
    let expected = impostor::Spent { followed: [1, 0, 0], replaced: true, kept: 0, opened: 0 };
    assert_eq!(spent, expected);
    let broken = impostor::one_spare_twice(Some(Rule::SpareOnce));
    assert!(broken.kept > 0 && broken.followed[2] > 0, "what is kept could be used again: {broken:?}");
}

/// Where both speak a better suite, nothing that comes late takes it back; and who has been in it does not go on in a worse one, whoever asks.
#[test]
fn a_conversation_is_not_talked_down_to_a_worse_suite() {
    assert_eq!(impostor::talked_down(true, None), Some(Suite::Hybrid), "an older spare that comes late");
    assert_eq!(impostor::talked_down(false, None), None, "a newer spare of a program of before: rather a Hello");
}

/// What a later version made is kept and told, and the conversation goes on.
#[test]
fn a_statement_of_a_later_version_is_told_and_ends_nothing() {
    assert_eq!(impostor::later_version(), (1, true));
}
