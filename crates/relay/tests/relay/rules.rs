//! Each rule of which durability is made is broken on purpose ([`bulla_relay::sabotage`]), in a process of its own, and a test sees it that passes
//! where nothing is broken.

use std::sync::Mutex;

use bulla_relay::sabotage::{RULES, Seen, VARIABLE, seen_by, who_sees};

#[test]
fn every_broken_rule_is_seen() {
    assert!(std::env::var_os(VARIABLE).is_none(), "a rule is broken already");
    let (waiting, unseen) = (Mutex::new(RULES.to_vec()), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let Some(rule) = waiting.lock().unwrap().pop() else { return };
            let Seen::Outside(test) = who_sees(rule) else { continue };
            if test.starts_with("disk::") && crate::disk::skips() {
                println!("skipped: {rule:?}, which only a disk without power shows");
                continue;
            }
            match seen_by(rule, test).unwrap() {
                Some(_) => println!("figure: {rule:?} broken is seen by {test}"),
                None => unseen.lock().unwrap().push(rule),
            }
        }
    };
    std::thread::scope(|scope| {
        // They wait more than they work: for what a broken relay never says.
        for _ in 0..6 {
            scope.spawn(work);
        }
    });
    let unseen = unseen.into_inner().unwrap();
    assert!(unseen.is_empty(), "nobody sees that these are broken: {unseen:?}");
}
