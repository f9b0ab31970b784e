//! Each rule that keeps a conversation in its place is broken on purpose ([`bulla_e2ee::sabotage`]), and somebody sees it: a random history of
//! [`bulla_testkit::sim`], or a story that is about that rule.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;

use bulla_e2ee::sabotage::{RULES, Rule};
use bulla_testkit::sim::{Options, run};

/// Histories in which a broken rule is looked for.
const HISTORIES: u64 = 200;

/// The first history in which a broken rule is seen, and how.
fn first_seen(rule: Rule) -> Option<(u64, String)> {
    let (next, seen) = (AtomicU64::new(0), Mutex::new(None::<(u64, String)>));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= HISTORIES || seen.lock().expect("nobody panics with it").is_some() {
                return;
            }
            let options = Options { breaks: Some(rule), ..Options::default() };
            let why = match catch_unwind(AssertUnwindSafe(|| run(seed, options))) {
                Ok(Ok(_)) => continue,
                Ok(Err(broken)) => broken.breaches.first().cloned().unwrap_or_default(),
                Err(_) => "it panicked".to_owned(),
            };
            seen.lock().expect("nobody panics with it").get_or_insert((seed, why));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    seen.into_inner().expect("nobody panics with it")
}

#[test]
fn every_broken_rule_is_seen() {
    for rule in RULES {
        let begun = std::time::Instant::now();
        match first_seen(rule) {
            Some((seed, how)) => println!("figure: {rule:?} broken is seen in seed {seed}: {how} {:?}", begun.elapsed()),
            None => println!("figure: NOBODY sees {rule:?} {:?}", begun.elapsed()),
        }
    }
}
