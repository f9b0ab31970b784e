//! Commit slots: one winner, the same for everybody, for 30 days.

use std::sync::Arc;
use std::time::Duration;

use bulla_protocol::frame::{Code, Role, client_frame::Body as C, server_frame::Body as S};
use bulla_protocol::limits::{MAX_SLOT_COMMIT, SLOT_CLAIM_BURST, SLOT_CLAIM_RATE, SLOT_DAYS, SLOT_OVERHEAD};
use bulla_protocol::work::Task;
use tokio::sync::Barrier;
use tokio::time::Instant;

use crate::common::*;

const DAY: u64 = 86_400;

#[tokio::test]
async fn a_slot_is_written_once_and_read_by_everybody() {
    let mut world = World::start().await;
    let (mut first, mut second) = (world.anonymous().await, world.anonymous().await);
    assert_eq!(first.read_slot(slot(1)).await, None);
    assert_eq!(first.claim(slot(1), b"first").await, won());
    assert_eq!(second.read_slot(slot(1)).await.unwrap(), b"first"[..]);
    assert_eq!(second.claim(slot(1), b"second").await, lost(b"first"));
    // The answer was lost: the same bytes win again, on whatever connection.
    assert_eq!(first.claim(slot(1), b"first").await, won());
    assert_eq!(second.claim(slot(1), b"first").await, won());
    assert_eq!(second.claim(slot(1), b"first and more").await, lost(b"first"));
    assert_eq!(second.claim(slot(1), b"firs").await, lost(b"first"));
    assert_eq!(second.claim(slot(2), b"second").await, won(), "another slot is another cell");

    world.restart().await;
    let mut after = world.anonymous().await;
    assert_eq!(after.read_slot(slot(1)).await.unwrap(), b"first"[..]);
    assert_eq!(after.claim(slot(1), b"third").await, lost(b"first"));
    assert_eq!(after.claim(slot(2), b"second").await, won());
}

/// `connections` claim the same slot at the same moment, or nearly, with bytes of their own, `rounds` times: each round has exactly one
/// winner, and everybody is told the same.
async fn race(connections: usize, rounds: u64) {
    let world = World::start().await;
    let seed = seed();
    let begin = Arc::new(Barrier::new(connections));
    let mut claimants = Vec::new();
    for who in 0..connections {
        let (url, begin) = (world.url(), Arc::clone(&begin));
        claimants.push(tokio::spawn(async move {
            let mut client = Client::connect(&url, Role::Anonymous).await;
            let mut random = Random(seed ^ (who as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            let mut told = Vec::new();
            for round in 0..rounds {
                let own = format!("{who} in {round}").into_bytes();
                begin.wait().await;
                for _ in 0..random.below(4) * random.below(2) {
                    client.ping().await;
                }
                let request = client.begin_claim(slot(round), &own).await;
                // Now and then the same again, without waiting for the answer.
                let again = if random.below(4) == 0 { Some(client.begin_claim(slot(round), &own).await) } else { None };
                let answer = client.answer(request).await;
                if let Some(again) = again {
                    assert_eq!(client.answer(again).await, answer);
                }
                let S::SlotClaimed(claimed) = answer else { panic!("{answer:?}") };
                let winner = if claimed.won { own.into() } else { claimed.winner };
                // Whoever was answered reads what it was told.
                assert_eq!(client.read_slot(slot(round)).await.unwrap(), winner);
                told.push((claimed.won, winner));
            }
            told
        }));
    }
    let mut told = Vec::new();
    for claimant in claimants {
        told.push(tokio::time::timeout(GUARD * 4, claimant).await.unwrap().unwrap());
    }
    let mut winners = std::collections::BTreeSet::new();
    for round in 0..rounds as usize {
        let won = told.iter().filter(|answers| answers[round].0).count();
        assert_eq!(won, 1, "round {round} has one winner");
        assert!(
            told.iter().all(|answers| answers[round].1 == told[0][round].1),
            "round {round}: all are told the same"
        );
        winners.extend(told.iter().position(|answers| answers[round].0));
    }
    assert!(winners.len() > 1, "it was no race: the same one won every round");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_claims_at_once_one_wins() {
    race(2, 800).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_sixty_four_claims_at_once_one_wins() {
    race(64, 200).await;
}

#[tokio::test]
async fn a_slot_stands_for_thirty_days_and_the_rest_of_that_day() {
    let mut world = World::start().await;
    let mut client = world.anonymous().await;
    for n in 1..=3 {
        assert_eq!(client.claim(slot(n), b"first").await, won());
    }
    // The last moment of the thirtieth day: all of it stands, whatever is swept.
    world.clock.advance(u64::from(SLOT_DAYS) * DAY + DAY / 2 - 1);
    world.relay.as_ref().unwrap().sweep().await.unwrap();
    assert_eq!(client.claim(slot(1), b"second").await, lost(b"first"));
    assert_eq!(client.read_slot(slot(2)).await.unwrap(), b"first"[..]);
    assert_eq!(world.disclose().await.slots.len(), 3);

    // One second later it is over, although nothing has swept it yet.
    world.clock.advance(1);
    assert_eq!(client.read_slot(slot(1)).await, None);
    assert_eq!(client.claim(slot(1), b"third").await, won());
    assert_eq!(client.claim(slot(1), b"first").await, lost(b"third"));
    assert_eq!(client.read_slot(slot(2)).await, None);
    // Of one that was claimed anew, the sweep takes nothing.
    world.relay.as_ref().unwrap().sweep().await.unwrap();
    let held = world.disclose().await.slots;
    let day = ((START / DAY) as u32) + 2 * SLOT_DAYS + 1;
    assert_eq!(held.iter().map(|held| (&held.slot, held.last_day)).collect::<Vec<_>>(), [(&slot(1).to_hex(), day)]);
    assert_eq!(client.claim(slot(2), b"fourth").await, won());

    world.restart().await;
    let mut client = world.anonymous().await;
    assert_eq!(client.read_slot(slot(1)).await.unwrap(), b"third"[..]);
    assert_eq!(client.read_slot(slot(2)).await.unwrap(), b"fourth"[..]);
    assert_eq!(client.read_slot(slot(3)).await, None);
}

/// More than one step of a sweep.
#[tokio::test]
async fn a_sweep_takes_all_that_is_over() {
    let world = World::start().await;
    let mut client = world.anonymous().await;
    let mut requests = Vec::new();
    for n in 0..600 {
        requests.push(client.begin_claim(slot(n), b"commit").await);
    }
    for request in requests {
        assert_eq!(client.answer(request).await, won());
    }
    world.clock.advance(u64::from(SLOT_DAYS) * DAY);
    assert_eq!(client.claim(slot(1_000), b"younger").await, won());
    world.clock.advance(DAY);
    world.relay.as_ref().unwrap().sweep().await.unwrap();
    let held = world.disclose().await.slots;
    assert_eq!(held.iter().map(|held| &held.slot).collect::<Vec<_>>(), [&slot(1_000).to_hex()]);
}

#[tokio::test]
async fn a_commit_has_a_largest_size() {
    let world = World::start().await;
    let mut client = world.anonymous().await;
    assert_eq!(client.claim(slot(1), &vec![1; MAX_SLOT_COMMIT + 1]).await, failed(Code::TooLarge));
    assert_eq!(client.read_slot(slot(1)).await, None);
    assert_eq!(client.claim(slot(1), &vec![2; MAX_SLOT_COMMIT]).await, won());
    assert_eq!(client.claim(slot(1), b"small").await, lost(&vec![2; MAX_SLOT_COMMIT]));
    assert_eq!(client.read_slot(slot(1)).await.unwrap(), vec![2; MAX_SLOT_COMMIT]);
    assert_eq!(client.claim(slot(2), &[3]).await, won(), "one byte is enough");
}

#[tokio::test]
async fn a_claim_costs_work_for_this_slot_and_commit_on_this_connection() {
    let world = World::start_with(|config| config.work_bits = 12).await;
    let mut client = world.anonymous().await;
    let task = Task::slot(&client.challenge(), &slot(1), b"commit");
    let mut frame = client.claim_frame(slot(1), b"commit");
    let enough = frame.work_nonce;
    frame.work_nonce = (0..).find(|nonce| !task.accepts(*nonce, 12)).unwrap();
    assert_eq!(client.ask(C::ClaimSlot(frame.clone())).await, failed(Code::Work));
    // A nonce that is enough here is enough elsewhere once in 4,096 times: another is taken then.
    let fits_only_here = |nonce: &u64, other: &Task| task.accepts(*nonce, 12) && !other.accepts(*nonce, 12);
    let other_slot = Task::slot(&client.challenge(), &slot(2), b"commit");
    let nonce = (0..).find(|nonce| fits_only_here(nonce, &other_slot)).unwrap();
    let moved = bulla_protocol::frame::ClaimSlot { slot: slot(2).to_vec(), work_nonce: nonce, ..frame.clone() };
    assert_eq!(client.ask(C::ClaimSlot(moved)).await, failed(Code::Work));
    let other_commit = Task::slot(&client.challenge(), &slot(1), b"tommic");
    let nonce = (0..).find(|nonce| fits_only_here(nonce, &other_commit)).unwrap();
    let changed = bulla_protocol::frame::ClaimSlot { commit: b"tommic"[..].into(), work_nonce: nonce, ..frame.clone() };
    assert_eq!(client.ask(C::ClaimSlot(changed)).await, failed(Code::Work));
    let mut elsewhere = world.anonymous().await;
    let there = Task::slot(&elsewhere.challenge(), &slot(1), b"commit");
    frame.work_nonce = (0..).find(|nonce| fits_only_here(nonce, &there)).unwrap();
    assert_eq!(elsewhere.ask(C::ClaimSlot(frame.clone())).await, failed(Code::Work));
    assert_eq!(client.read_slot(slot(1)).await, None, "none of that has done anything");
    frame.work_nonce = enough;
    assert_eq!(client.ask(C::ClaimSlot(frame)).await, won());
}

#[tokio::test]
async fn a_connection_that_claims_too_often_is_told_when_to_come_again() {
    let world = World::start().await;
    let mut client = world.anonymous().await;
    let frame = client.claim_frame(slot(1), b"commit");
    // Claims without work do not count.
    let worthless = {
        let task = Task::slot(&client.challenge(), &slot(1), b"commit");
        let work_nonce = (0..).find(|nonce| !task.accepts(*nonce, WORK_BITS)).unwrap();
        bulla_protocol::frame::ClaimSlot { work_nonce, ..frame.clone() }
    };
    for _ in 0..100 {
        assert_eq!(client.ask(C::ClaimSlot(worthless.clone())).await, failed(Code::Work));
    }
    let began = Instant::now();
    let (mut allowed, mut requests) = (0, Vec::new());
    let refused = 'refused: loop {
        while requests.len() < 50 {
            requests.push(client.begin(C::ClaimSlot(frame.clone())).await);
        }
        for request in requests.drain(..) {
            match client.answer(request).await {
                S::Failed(failed) => break 'refused failed,
                answer => assert_eq!(answer, won()),
            }
            allowed += 1;
        }
    };
    // What came back meanwhile, by the clock.
    let back = began.elapsed().as_secs() as u32 * SLOT_CLAIM_RATE / 60 + 1;
    assert!((SLOT_CLAIM_BURST..=SLOT_CLAIM_BURST + back).contains(&allowed), "{allowed}");
    assert_eq!(refused.code(), Code::Rate);
    let interval = Duration::from_secs(60).as_millis() as u32 / SLOT_CLAIM_RATE;
    assert!((1..=interval + 1).contains(&refused.retry_after_ms), "{}", refused.retry_after_ms);
    assert_eq!(client.read_slot(slot(1)).await.unwrap(), b"commit"[..], "reading goes on");
    assert_eq!(world.anonymous().await.claim(slot(1), b"commit").await, won(), "another connection has its own");
}

#[tokio::test]
async fn all_slots_together_have_a_limit_that_expiry_gives_back() {
    let mut world = World::start_with(|config| config.slot_bytes = 150 + 2 * SLOT_OVERHEAD).await;
    let full = |answer: S| match answer {
        S::Failed(failed) => failed.code() == Code::Full && failed.retry_after_ms > 0,
        other => panic!("{other:?}"),
    };
    let mut client = world.anonymous().await;
    assert_eq!(client.claim(slot(1), &[1; 100]).await, won());
    assert!(full(client.claim(slot(2), &[2; 51]).await));
    assert_eq!(client.read_slot(slot(2)).await, None);
    assert_eq!(client.claim(slot(2), &[2; 50]).await, won());
    assert!(full(client.claim(slot(3), &[3]).await));
    // Who asks after what stands is answered all the same.
    assert_eq!(client.claim(slot(1), &[1; 100]).await, won());
    assert_eq!(client.claim(slot(2), &[9]).await, lost(&[2; 50]));
    // The count is that of what is stored, also after a restart.
    world.restart().await;
    let mut client = world.anonymous().await;
    assert!(full(client.claim(slot(3), &[3]).await));

    // Over, but not swept: a slot that is claimed anew takes its own room and no more.
    world.clock.advance(u64::from(SLOT_DAYS + 1) * DAY);
    assert!(full(client.claim(slot(3), &[3]).await));
    assert!(full(client.claim(slot(2), &[2; 51]).await));
    assert_eq!(client.claim(slot(2), &[4; 50]).await, won());
    world.relay.as_ref().unwrap().sweep().await.unwrap();
    assert!(full(client.claim(slot(3), &[3; 101]).await));
    assert_eq!(client.claim(slot(3), &[3; 100]).await, won());
    world.restart().await;
    assert!(full(world.anonymous().await.claim(slot(4), &[4]).await));
}

#[tokio::test]
async fn memory_for_claims_is_bounded_in_all() {
    let enough = 2 * MAX_SLOT_COMMIT;
    let mut world = World::start_with(|config| config.memory = enough - 1).await;
    match world.anonymous().await.claim(slot(1), b"commit").await {
        S::Failed(failed) => {
            assert_eq!(failed.code(), Code::Unavailable);
            assert!(failed.retry_after_ms > 0);
        }
        other => panic!("{other:?}"),
    }
    world.stop().await;
    world.config.memory = enough;
    world.run().await;
    let mut client = world.anonymous().await;
    for n in 1..=3 {
        assert_eq!(client.claim(slot(n), b"commit").await, won(), "and it is given back");
    }
}
