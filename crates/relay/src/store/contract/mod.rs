//! The suite that every [`Store`] passes, and what random histories of one are compared with. Panics where a store does not keep the contract: for
//! tests, with the feature `under-test`.
//!
//! [`run`] is the suite: another engine passes it with a function that makes an empty store and one that closes and opens it. [`Model`] is a store
//! of plain maps, and [`Story`] what a relay writes, in any order: whoever applies a story to both compares everything that is visible.

#![expect(clippy::unwrap_used, reason = "a test suite: a failure is a panic")]

mod model;
mod story;

use std::sync::atomic::{AtomicBool, Ordering};

use bulla_protocol::id::{BlobId, GrantId, MailboxId, SlotId, TagBlock};
use bulla_protocol::limits::{SLOT_DAYS, SLOT_OVERHEAD};
use bulla_protocol::permit::Class;
use bytes::Bytes;

pub use model::{Model, Named};
pub use story::{Step, Story};

use super::{BlobEntry, BlobRecord, Page, Row, Slot, SlotEntry, Store, Usage, Write};
use crate::slots::{Claim, Outcome, Slots};
use story::record;

const A: MailboxId = MailboxId::new([1; 16]);
const B: MailboxId = MailboxId::new([2; 16]);
const ALL: Page = Page { rows: usize::MAX, bytes: usize::MAX };

/// Runs the suite on stores from `fresh`, which are empty; `reopen` closes one and opens it again.
pub fn run<S: Store>(mut fresh: impl FnMut() -> S, mut reopen: impl FnMut(S) -> S) {
    nothing_is_there(&fresh());
    rows_come_in_their_order_and_in_pages(&fresh());
    batches_are_seen_whole(&fresh());
    the_last_word_of_a_batch_counts(&fresh());
    what_was_committed_is_there_after_opening(fresh(), &mut reopen);
    an_acknowledgement_takes_its_rows_and_no_others(fresh(), &mut reopen);
    a_revocation_stands(fresh(), &mut reopen);
    a_mailbox_goes_with_all_that_is_its(fresh(), &mut reopen);
    what_waits_is_counted(fresh(), &mut reopen);
    expiry_finds_days_slots_and_blobs(&fresh());
    slots_are_written_once(fresh(), &mut reopen);
    destroying_keys_takes_nothing_that_waits(fresh(), &mut reopen);
}

fn row(day: u32, class: Class, envelope: &[u8]) -> Row {
    Row { day, class, tag: TagBlock::new([9; 16]), envelope: Bytes::copy_from_slice(envelope) }
}

fn put(id: MailboxId, order: u64, text: &str) -> Write {
    Write::PutRow(id, order, row(130, Class::Ordinary, text.as_bytes()))
}

fn put_of(id: MailboxId, order: u64, day: u32) -> Write {
    Write::PutRow(id, order, row(day, Class::Ordinary, b"waits"))
}

fn texts(store: &dyn Store, id: &MailboxId, page: Page) -> Vec<String> {
    let rows = store.rows(id, 0..=u64::MAX, page).unwrap();
    rows.into_iter().map(|(_, row)| String::from_utf8(row.envelope.to_vec()).unwrap()).collect()
}

fn nothing_is_there(store: &dyn Store) {
    let named = Story::default().named;
    Model::default().compare(store, &named).unwrap();
    store.commit(Vec::new()).unwrap();
    assert_eq!(store.destroy_keys(u32::MAX).unwrap(), 0, "nothing waits under a key");
    // What removes nothing is no failure.
    store
        .commit(vec![
            Write::DropRows(A, vec![1, 2]),
            Write::DropMailbox(A),
            Write::DropDay(1, A),
            Write::PutBundle(A, None),
            Write::DropSlot(1, SlotId::new([1; 32])),
            Write::DropBlob(1, BlobId::new([1; 16])),
        ])
        .unwrap();
    Model::default().compare(store, &named).unwrap();
}

fn rows_come_in_their_order_and_in_pages(store: &dyn Store) {
    // Orders whose bytes, read the wrong way round, would come in another order.
    let orders = [1, 2, 255, 256, 257, 65_536, 1 << 40];
    store.commit(vec![Write::PutMailbox(A, record(1, 0)), Write::PutMailbox(B, record(2, 0))]).unwrap();
    for order in orders.iter().rev() {
        store.commit(vec![put(A, *order, &order.to_string()), put(B, *order, "of another")]).unwrap();
    }
    let of = |page| store.rows(&A, 0..=u64::MAX, page).unwrap().into_iter().map(|(order, _)| order).collect::<Vec<_>>();
    assert_eq!(of(ALL), orders);
    assert_eq!(of(Page { rows: 3, bytes: usize::MAX }), [1, 2, 255]);
    assert_eq!(of(Page { rows: 3, bytes: 1 }), [1], "one row at least, or nobody would ever read on");
    let some = store.rows(&A, 2..=256, ALL).unwrap();
    assert_eq!(some.iter().map(|(order, _)| *order).collect::<Vec<_>>(), [2, 255, 256], "both ends are in it");
    assert!(store.rows(&A, 3..=254, ALL).unwrap().is_empty());
    let loaded = store.load(&A).unwrap().unwrap();
    assert_eq!((loaded.first, loaded.next), (1, (1 << 40) + 1));
}

/// A batch is applied whole or not at all, also for who reads while it is.
fn batches_are_seen_whole(store: &dyn Store) {
    store.commit(vec![Write::PutMailbox(A, record(1, 0))]).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut reads = 0_u32;
            while !over.load(Ordering::Relaxed) || reads == 0 {
                let rows = store.rows(&A, 0..=u64::MAX, ALL).unwrap();
                assert!(rows.len().is_multiple_of(8), "{} rows are seen of batches of eight", rows.len());
                reads += 1;
            }
        });
        for batch in 0..40_u64 {
            let mut writes: Vec<_> = (1..=8).map(|n| put(A, batch * 8 + n, "of eight")).collect();
            if batch > 0 {
                writes.push(Write::DropRows(A, ((batch - 1) * 8 + 1..=batch * 8).collect()));
            }
            store.commit(writes).unwrap();
        }
        over.store(true, Ordering::Relaxed);
        reading.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause));
    });
}

/// A group of many requests is one batch: it may speak of the same thing more than once.
fn the_last_word_of_a_batch_counts(store: &dyn Store) {
    store
        .commit(vec![
            Write::PutMailbox(A, record(1, 1)),
            Write::PutMailbox(A, record(1, 2)),
            Write::PutGap(A, 3),
            Write::PutGap(A, 0),
            Write::PutBundle(A, Some(Bytes::from_static(b"first"))),
            Write::PutBundle(A, Some(Bytes::from_static(b"second"))),
            put(A, 1, "stored and read at once"),
            put(A, 2, "waits"),
            Write::DropRows(A, vec![1]),
        ])
        .unwrap();
    let loaded = store.load(&A).unwrap().unwrap();
    assert_eq!((loaded.record.incarnation.number, loaded.gap), (2, 0));
    assert_eq!(store.bundle(&A).unwrap().unwrap(), b"second"[..]);
    assert_eq!(texts(store, &A, ALL), ["waits"]);
    assert_eq!(store.days_before(u32::MAX, 9).unwrap(), [(130, A)]);
    // Removed, and made anew, before anybody has seen what was there.
    store
        .commit(vec![
            put(A, 3, "of before"),
            Write::Revoke(A, GrantId::new([1; 16])),
            Write::DropMailbox(A),
            Write::PutMailbox(A, record(1, 7)),
            put(A, 1, "of after"),
        ])
        .unwrap();
    assert_eq!(texts(store, &A, ALL), ["of after"]);
    let loaded = store.load(&A).unwrap().unwrap();
    assert!(loaded.revoked.is_empty() && loaded.record.incarnation.number == 7);
}

fn what_was_committed_is_there_after_opening<S: Store>(store: S, reopen: &mut impl FnMut(S) -> S) {
    let (instance, mut story) = (store.instance(), Story::default());
    for step in 0..120_u8 {
        let writes = story.tell(Step { kind: step, which: step / 3, detail: step.wrapping_mul(37) | 64 });
        store.commit(writes).unwrap();
    }
    let large = Write::PutRow(A, 1 << 50, row(200, Class::Contact, &vec![7; 96 * 1024]));
    store.commit(vec![large.clone()]).unwrap();
    story.model.apply(&[large]);
    story.model.compare(&store, &story.named).unwrap();
    let store = reopen(store);
    assert_eq!(store.instance(), instance, "an installation keeps its name");
    story.model.compare(&store, &story.named).unwrap();
}

fn an_acknowledgement_takes_its_rows_and_no_others<S: Store>(store: S, reopen: &mut impl FnMut(S) -> S) {
    store.commit(vec![Write::PutMailbox(A, record(1, 0)), Write::PutMailbox(B, record(2, 0))]).unwrap();
    let all = ["one", "two", "three", "four"];
    for id in [A, B] {
        store.commit((1..).zip(all).map(|(order, text)| put(id, order, text)).collect()).unwrap();
    }
    store.commit(vec![Write::DropRows(A, vec![1, 2])]).unwrap();
    assert_eq!((texts(&store, &A, ALL), texts(&store, &B, ALL).len()), (vec!["three".into(), "four".into()], 4));
    // The same again, as an acknowledgement that comes twice.
    store.commit(vec![Write::DropRows(A, vec![1, 2])]).unwrap();
    let store = reopen(store);
    assert_eq!((texts(&store, &A, ALL), texts(&store, &B, ALL).len()), (vec!["three".into(), "four".into()], 4));
    let loaded = store.load(&A).unwrap().unwrap();
    assert_eq!((loaded.first, loaded.next), (3, 5));
    store.commit(vec![Write::DropRows(A, vec![3, 4])]).unwrap();
    // In an empty mailbox orders may begin anew.
    let loaded = store.load(&A).unwrap().unwrap();
    assert_eq!((loaded.first, loaded.next), (1, 1));
    store.commit(vec![put(A, 1, "anew")]).unwrap();
    assert_eq!(texts(&reopen(store), &A, ALL), ["anew"]);
}

fn a_revocation_stands<S: Store>(store: S, reopen: &mut impl FnMut(S) -> S) {
    store.commit(vec![Write::PutMailbox(A, record(1, 0)), Write::PutMailbox(B, record(2, 0))]).unwrap();
    let (one, other) = (GrantId::new([1; 16]), GrantId::new([2; 16]));
    store.commit(vec![Write::Revoke(A, one), Write::Revoke(A, one), Write::Revoke(B, other)]).unwrap();
    // The record may be written again as often as one likes.
    store.commit(vec![Write::PutMailbox(A, record(1, 5))]).unwrap();
    let store = reopen(store);
    assert!(store.load(&A).unwrap().unwrap().revoked.iter().eq([&one]));
    assert!(store.load(&B).unwrap().unwrap().revoked.iter().eq([&other]));
}

fn a_mailbox_goes_with_all_that_is_its<S: Store>(store: S, reopen: &mut impl FnMut(S) -> S) {
    for (id, n) in [(A, 1), (B, 2)] {
        let bundle = Some(Bytes::from_static(b"bundle"));
        let grant = GrantId::new([n; 16]);
        store
            .commit(vec![
                Write::PutMailbox(id, record(n, 0)),
                Write::PutBundle(id, bundle),
                Write::PutGap(id, 4),
                Write::Revoke(id, grant),
                put(id, 1, "one"),
                put(id, 2, "two"),
            ])
            .unwrap();
    }
    store.commit(vec![Write::DropMailbox(A)]).unwrap();
    let store = reopen(store);
    assert!(store.load(&A).unwrap().is_none() && store.bundle(&A).unwrap().is_none());
    assert!(store.rows(&A, 0..=u64::MAX, ALL).unwrap().is_empty());
    assert_eq!((texts(&store, &B, ALL), store.load(&B).unwrap().unwrap().gap), (vec!["one".into(), "two".into()], 4));
    // Its name is free, and nothing of before comes back.
    store.commit(vec![Write::PutMailbox(A, record(1, 0))]).unwrap();
    let loaded = store.load(&A).unwrap().unwrap();
    assert!(loaded.revoked.is_empty());
    assert_eq!((loaded.gap, loaded.usage, loaded.next), (0, Usage::default(), 1));
}

/// Quotas are of what is stored, also after a restart.
fn what_waits_is_counted<S: Store>(store: S, reopen: &mut impl FnMut(S) -> S) {
    store.commit(vec![Write::PutMailbox(A, record(1, 0))]).unwrap();
    let rows =
        [(1, Class::Ordinary, 10), (2, Class::Contact, 200), (3, Class::Contact, 3_000), (4, Class::Ordinary, 0)];
    for (order, class, length) in rows {
        store.commit(vec![Write::PutRow(A, order, row(130, class, &vec![5; length]))]).unwrap();
    }
    let expected = Usage { envelopes: 4, bytes: 3_210, contact_envelopes: 2, contact_bytes: 3_200 };
    assert_eq!(store.load(&A).unwrap().unwrap().usage, expected);
    store.commit(vec![Write::DropRows(A, vec![1, 3])]).unwrap();
    let store = reopen(store);
    let expected = Usage { envelopes: 2, bytes: 200, contact_envelopes: 1, contact_bytes: 200 };
    assert_eq!(store.load(&A).unwrap().unwrap().usage, expected);

    // All slots together: counted alike by who has been there and by who comes.
    let limit = 2 * (SLOT_OVERHEAD + 5);
    let mut slots = Slots::load(&store, limit).unwrap();
    for (n, expected) in [(1, Outcome::Won), (2, Outcome::Won), (3, Outcome::Full)] {
        assert_eq!(claim(&mut slots, &store, n, n, 100), expected);
    }
    let store = reopen(store);
    let mut slots = Slots::load(&store, limit).unwrap();
    assert_eq!(claim(&mut slots, &store, 3, 3, 100), Outcome::Full);
}

fn expiry_finds_days_slots_and_blobs(store: &dyn Store) {
    let (one, two, three) = (SlotId::new([1; 32]), SlotId::new([2; 32]), SlotId::new([3; 32]));
    let slot = |day, length| Slot { day, commit: Bytes::from(vec![1; length]) };
    let blob = |day| BlobRecord { day, furthest: 900, bytes: 77, read_hash: [1; 32], write_hash: [2; 32] };
    let id = BlobId::new([4; 16]);
    store
        .commit(vec![
            // Days whose bytes, read the wrong way round, would come in another order.
            Write::PutMailbox(A, record(1, 1)),
            Write::PutMailbox(B, record(2, 1)),
            put_of(A, 1, 256),
            put_of(B, 1, 3),
            put_of(A, 2, 3),
            Write::PutSlot(one, slot(256, 3)),
            Write::PutSlot(two, slot(3, 4)),
            Write::PutSlot(three, slot(3, 5)),
            Write::PutBlob(id, blob(3), None),
        ])
        .unwrap();
    let days = |before, limit| {
        let mut days = store.days_before(before, limit).unwrap();
        assert!(days.is_sorted_by_key(|(day, _)| *day), "{days:?}");
        days.sort_unstable();
        days
    };
    assert_eq!(days(256, 9), [(3, A), (3, B)]);
    assert_eq!(days(257, 9), [(3, A), (3, B), (256, A)]);
    assert_eq!(days(257, 1).len(), 1);
    let entry = |day, slot, bytes| SlotEntry { day, slot, bytes };
    let all = [entry(3, two, 4), entry(3, three, 5), entry(256, one, 3)];
    assert_eq!(store.slots(None, 9).unwrap(), all);
    assert_eq!(store.slots(Some(&entry(3, two, 4)), 1).unwrap(), [entry(3, three, 5)]);
    // Extended: it is found at its new day and at no other.
    store.commit(vec![Write::PutBlob(id, blob(40), Some(3))]).unwrap();
    assert_eq!(store.blobs(None, 9).unwrap(), [BlobEntry { day: 40, blob: id, bytes: 77 }]);
    assert_eq!(store.blob(&id).unwrap(), Some(blob(40)));
    let gone = vec![Write::DropRows(A, vec![2]), Write::DropDay(3, A)];
    store.commit([gone, vec![Write::DropBlob(40, id), Write::DropSlot(3, two)]].concat()).unwrap();
    assert!(store.blob(&id).unwrap().is_none() && store.blobs(None, 9).unwrap().is_empty());
    assert!(store.slot(&two).unwrap().is_none());
    assert_eq!(days(257, 9), [(3, B), (256, A)]);
    // Of what nobody waits for any more there is nothing to find, though nobody said so.
    store.commit(vec![Write::DropRows(B, vec![1]), Write::DropMailbox(A)]).unwrap();
    assert_eq!(days(257, 9), []);
}

fn claim(slots: &mut Slots, store: &dyn Store, n: u8, commit: u8, today: u32) -> Outcome {
    let claim = Claim { slot: SlotId::new([n; 32]), commit: Bytes::from(vec![commit; 5]), today };
    let mut writes = Vec::new();
    let outcome = slots.claim(store, claim, &mut writes).unwrap();
    store.commit(writes).unwrap();
    slots.end_group();
    outcome
}

fn slots_are_written_once<S: Store>(store: S, reopen: &mut impl FnMut(S) -> S) {
    let mut slots = Slots::load(&store, u64::MAX).unwrap();
    let lost = || Outcome::Lost(Bytes::from(vec![1; 5]));
    assert_eq!(claim(&mut slots, &store, 9, 1, 100), Outcome::Won);
    assert_eq!(claim(&mut slots, &store, 9, 2, 100), lost());
    assert_eq!(claim(&mut slots, &store, 9, 1, 100), Outcome::Won, "the same bytes again");
    let store = reopen(store);
    let mut slots = Slots::load(&store, u64::MAX).unwrap();
    assert_eq!(claim(&mut slots, &store, 9, 3, 100 + SLOT_DAYS), lost(), "on its last day");
    assert_eq!(claim(&mut slots, &store, 9, 3, 101 + SLOT_DAYS), Outcome::Won, "over, and not swept");
    assert_eq!(store.slots(None, 9).unwrap().len(), 1, "nor does it lie in the index twice");
}

fn destroying_keys_takes_nothing_that_waits<S: Store>(store: S, reopen: &mut impl FnMut(S) -> S) {
    store.commit(vec![Write::PutMailbox(A, record(1, 0)), Write::PutMailbox(B, record(2, 0))]).unwrap();
    let at = |order, day, text: &str| Write::PutRow(A, order, row(day, Class::Ordinary, text.as_bytes()));
    store.commit(vec![at(1, 130, "over"), at(2, 131, "waits"), put(B, 1, "read")]).unwrap();
    store.commit(vec![Write::DropRows(A, vec![1]), Write::DropRows(B, vec![1])]).unwrap();
    store.destroy_keys(131).unwrap();
    assert_eq!((texts(&store, &A, ALL), texts(&store, &B, ALL).len()), (vec!["waits".into()], 0));
    store.commit(vec![Write::PutRow(B, 2, row(131, Class::Ordinary, b"fresh"))]).unwrap();
    store.destroy_keys(0).unwrap();
    let store = reopen(store);
    store.destroy_keys(131).unwrap();
    assert_eq!((texts(&store, &A, ALL), texts(&store, &B, ALL)), (vec!["waits".into()], vec!["fresh".into()]));
}
