//! A transaction's reads, whatever of the store is kept at hand.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use bulla_client::store::tx::{Rng, Tx};
use bulla_client::store::vault::{RootKey, Scope, Vault};
use bulla_client::store::{Batch, Order, Read, Row, Store as _, StoreError, Table};
use bulla_testkit::memory_store::Disk;
use futures_util::FutureExt as _;
use proptest::collection::vec;
use proptest::prelude::*;
use rand_core::OsRng;

/// A store in memory that counts how often it is read.
#[derive(Default)]
struct Counted(Disk, Cell<u32>);

impl Counted {
    fn apply(&mut self, batch: Batch) {
        self.0.commit(batch).now_or_never().expect("memory does not wait").unwrap();
    }
}

impl Read for Counted {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.1.set(self.1.get() + 1);
        self.0.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        until: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.1.set(self.1.get() + 1);
        self.0.scan(table, from, until, order, limit)
    }
}

fn rng() -> RefCell<Rng> {
    RefCell::new(Box::new(OsRng))
}

#[derive(Debug, Clone)]
enum Step {
    Put(Table, Vec<u8>, u8),
    Delete(Table, Vec<u8>),
    Get(Table, Vec<u8>),
    Scan(Table, Vec<u8>, Option<Vec<u8>>, bool, usize),
    /// The transaction ends: committed, refused by the store, or given up.
    Commit,
    Fail,
    GiveUp,
}

/// Kept in groups and not, with shared beginnings, whole and shorter keys.
fn keys() -> impl Strategy<Value = (Table, Vec<u8>)> {
    let table = prop_oneof![Just(Table::Outbox), Just(Table::Grants), Just(Table::Messages)];
    let tail = vec(0..4u8, 0..2);
    let key = prop_oneof![
        9 => (254..=255u8, tail.clone()).prop_map(|(end, tail)| [&[255, 255, 255, end, 255, 255, 255, end], &tail[..]].concat()),
        1 => tail,
    ];
    (table, key).prop_map(|(table, mut key)| {
        if table == Table::Messages {
            // Keys of this table have one length.
            key.resize(16, 0);
        }
        (table, key)
    })
}

fn steps() -> impl Strategy<Value = Step> {
    let until = proptest::option::of(keys().prop_map(|(_, key)| key));
    prop_oneof![
        6 => (keys(), any::<u8>()).prop_map(|((table, key), value)| Step::Put(table, key, value)),
        3 => keys().prop_map(|(table, key)| Step::Delete(table, key)),
        4 => keys().prop_map(|(table, key)| Step::Get(table, key)),
        6 => (keys(), until, any::<bool>(), 0..5usize)
            .prop_map(|((table, from), until, up, limit)| Step::Scan(table, from, until, up, limit)),
        3 => Just(Step::Commit),
        1 => Just(Step::Fail),
        1 => Just(Step::GiveUp),
    ]
}

type Model = BTreeMap<(Table, Vec<u8>), u8>;

fn expected(model: &Model, step: &Step) -> Vec<(Vec<u8>, Vec<u8>)> {
    let Step::Scan(table, from, until, up, limit) = step else { return Vec::new() };
    let inside = |key: &Vec<u8>| key >= from && until.as_ref().is_none_or(|until| key < until);
    let rows = model.iter().filter(|((of, key), _)| of == table && inside(key));
    let mut rows: Vec<_> = rows.map(|((_, key), value)| (key.clone(), vec![*value])).collect();
    if !up {
        rows.reverse();
    }
    rows.truncate(*limit);
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    /// Whatever is kept at hand, reads see what was committed and what this transaction changes, and nothing else.
    #[test]
    fn reads_are_those_of_a_plain_map(steps in vec(steps(), 1..80)) {
        let (mut rows, vault, rng) = (Counted::default(), Vault::new(RootKey::new([1; 32])), rng());
        let mut durable = Model::new();
        let mut steps = steps.into_iter().chain([Step::Commit]).peekable();
        while steps.peek().is_some() {
            let mut now = durable.clone();
            let mut tx = Tx::new(&rows, &vault, &rng, 0);
            let end = loop {
                let step = steps.next().unwrap_or(Step::GiveUp);
                match &step {
                    Step::Put(table, key, value) => {
                        tx.put_bytes(*table, key, Scope::Peer(1), vec![*value].into());
                        now.insert((*table, key.clone()), *value);
                    }
                    Step::Delete(table, key) => {
                        tx.delete(*table, key);
                        now.remove(&(*table, key.clone()));
                    }
                    Step::Get(table, key) => {
                        let found = tx.get_bytes(*table, key).unwrap().map(|value| value[0]);
                        prop_assert_eq!(found, now.get(&(*table, key.clone())).copied());
                    }
                    Step::Scan(table, from, until, up, limit) => {
                        let order = if *up { Order::Ascending } else { Order::Descending };
                        let found = tx.scan_bytes(*table, from, until.as_deref(), order, *limit).unwrap();
                        let found: Vec<_> = found.into_iter().map(|(key, value)| (key, value.to_vec())).collect();
                        prop_assert_eq!(found, expected(&now, &step), "{:?}", step);
                    }
                    Step::Commit | Step::Fail | Step::GiveUp => break step,
                }
            };
            match end {
                Step::Commit => {
                    let batch = tx.into_batch().unwrap();
                    rows.apply(batch);
                    durable = now;
                }
                Step::Fail => {
                    drop(tx.into_batch().unwrap());
                    vault.forget();
                }
                _ => drop(tx),
            }
        }
    }
}

#[test]
fn a_conversations_rows_are_read_once_and_long_ones_every_time() {
    for (rows_stored, is_kept) in [(10, true), (1_000, false)] {
        let (mut rows, vault, rng) = (Counted::default(), Vault::new(RootKey::new([1; 32])), rng());
        let key = |order: u64| [7u64.to_be_bytes(), order.to_be_bytes()].concat();
        let mut tx = Tx::new(&rows, &vault, &rng, 0);
        (0..rows_stored).for_each(|n| tx.put_bytes(Table::Outbox, &key(n), Scope::Endpoint, vec![1].into()));
        let batch = tx.into_batch().unwrap();
        rows.apply(batch);
        let reads = || {
            let before = rows.1.get();
            let tx = Tx::new(&rows, &vault, &rng, 0);
            for order in 0..20 {
                let found = tx.get_bytes(Table::Outbox, &key(order)).unwrap().is_some();
                assert_eq!(found, order < rows_stored);
            }
            rows.1.get() - before
        };
        reads();
        assert_eq!(reads(), if is_kept { 0 } else { 20 });
    }
}

#[test]
fn erasing_a_scope_takes_what_this_transaction_wrote_with_it() {
    let (mut rows, vault, rng) = (Counted::default(), Vault::new(RootKey::new([1; 32])), rng());
    let key = 1u64.to_be_bytes();
    let mut tx = Tx::new(&rows, &vault, &rng, 0);
    tx.put_bytes(Table::Conversations, &key, Scope::Peer(1), vec![1].into());
    tx.put_bytes(Table::Groups, &key, Scope::Peer(2), vec![2].into());
    let batch = tx.into_batch().unwrap();
    rows.apply(batch);
    let mut tx = Tx::new(&rows, &vault, &rng, 0);
    assert!(tx.get_bytes(Table::Conversations, &key).unwrap().is_some(), "at hand from now on");
    tx.put_bytes(Table::Groups, &key, Scope::Peer(1), vec![3].into());
    tx.put_bytes(Table::Messages, &key, Scope::Peer(1), vec![4].into());
    tx.erase(Scope::Peer(1));
    assert!(!tx.is_empty());
    assert!(tx.get_bytes(Table::Messages, &key).unwrap().is_none());
    let batch = tx.into_batch().unwrap();
    rows.apply(batch);
    let tx = Tx::new(&rows, &vault, &rng, 0);
    let gone = tx.get_bytes(Table::Conversations, &key).unwrap_err();
    assert!(matches!(gone, StoreError::Sealed { table: Table::Conversations }), "{gone}");
    assert!(tx.get_bytes(Table::Groups, &key).unwrap().is_none(), "its last value was under the erased key");
}
