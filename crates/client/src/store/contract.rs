//! The suite that every [`Store`] passes. Panics where one does not keep the contract: for tests.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test suite: a failure is a panic")]

use bulla_protocol::id::BlobId;
use bulla_protocol::limits::BLOB_PART;

use super::parts::Parts;
use super::{Batch, Order, Store, Table};

/// Table, key, new value or removal.
type Change<'a> = (Table, &'a [u8], Option<&'a [u8]>);

fn batch(changes: &[Change<'_>]) -> Batch {
    let mut batch = Batch::default();
    for (table, key, value) in changes {
        match value {
            Some(value) => batch.put(*table, key, value.to_vec()),
            None => batch.delete(*table, key),
        }
    }
    batch
}

/// Runs the suite on stores from `fresh`; `reopen` closes one and opens it again.
pub async fn run<S: Store>(mut fresh: impl AsyncFnMut() -> S, mut reopen: impl AsyncFnMut(S) -> S) {
    let (a, b) = (Table::Messages, Table::Outbox);

    // Values are set, replaced and removed; tables are apart.
    let mut store = fresh().await;
    store.commit(batch(&[(a, b"k", Some(b"1")), (b, b"k", Some(b"2"))])).await.unwrap();
    assert_eq!(store.get(a, b"k").unwrap().unwrap(), b"1");
    assert_eq!(store.get(b, b"k").unwrap().unwrap(), b"2");
    store.commit(batch(&[(a, b"k", Some(b"3")), (b, b"k", None), (b, b"missing", None)])).await.unwrap();
    assert_eq!(store.get(a, b"k").unwrap().unwrap(), b"3");
    assert_eq!(store.get(b, b"k").unwrap(), None);

    // A batch's last word about a key counts.
    let mut twice = Batch::default();
    twice.put(a, b"k", vec![1]);
    twice.delete(a, b"k");
    store.commit(twice).await.unwrap();
    assert_eq!(store.get(a, b"k").unwrap(), None);

    // An empty batch and empty values and keys are fine.
    store.commit(Batch::default()).await.unwrap();
    store.commit(batch(&[(a, b"", Some(b""))])).await.unwrap();
    assert_eq!(store.get(a, b"").unwrap().unwrap(), b"");

    // Scans are ordered bytewise, bounded on both sides and by number, in both directions.
    let mut store = fresh().await;
    let keys: &[&[u8]] = &[b"a", b"a\0", b"a\xff", b"b", b"\xff", b"\xff\xff"];
    for key in keys {
        store.commit(batch(&[(a, key, Some(key))])).await.unwrap();
    }
    store.commit(batch(&[(b, b"a", Some(b"other table"))])).await.unwrap();
    let scan = |store: &S, from: &[u8], until: Option<&[u8]>, order, limit| -> Vec<Vec<u8>> {
        store.scan(a, from, until, order, limit).unwrap().into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(scan(&store, b"", None, Order::Ascending, 100), keys);
    assert_eq!(scan(&store, b"a", Some(b"b"), Order::Ascending, 100), &keys[..3]);
    assert_eq!(scan(&store, b"", None, Order::Descending, 2), [keys[5], keys[4]]);
    assert_eq!(scan(&store, b"b", Some(b"b"), Order::Ascending, 100), Vec::<Vec<u8>>::new());
    assert_eq!(scan(&store, b"", None, Order::Ascending, 0), Vec::<Vec<u8>>::new());

    // What was committed is there after closing, large values included.
    let large = vec![7; 300_000];
    store.commit(batch(&[(b, b"large", Some(&large))])).await.unwrap();
    let store = reopen(store).await;
    assert_eq!(store.get(b, b"large").unwrap().unwrap(), large);
    assert_eq!(scan(&store, b"", None, Order::Ascending, 100), keys);
}

/// Runs the suite of [`Parts`] on one that is empty. Something is left, for [`parts_kept`].
pub async fn parts<P: Parts>(parts: &P) {
    let (one, other) = (BlobId::new([1; 16]), BlobId::new([2; 16]));
    assert_eq!(parts.get(one, 0).await.unwrap(), None);
    assert_eq!(parts.count(one).await.unwrap(), 0);
    parts.remove(one).await.unwrap();

    let large = vec![7; usize::try_from(BLOB_PART).unwrap()];
    parts.put(one, 0, large.clone()).await.unwrap();
    parts.put(one, 11, b"end".to_vec()).await.unwrap();
    parts.put(other, 0, Vec::new()).await.unwrap();
    assert_eq!(parts.get(one, 0).await.unwrap(), Some(large));
    assert_eq!(parts.get(one, 1).await.unwrap(), None);
    assert_eq!(parts.get(one, 11).await.unwrap().unwrap(), b"end");
    assert_eq!(parts.get(other, 0).await.unwrap().unwrap(), b"");
    assert_eq!(parts.count(one).await.unwrap(), 2);

    parts.put(one, 11, b"again".to_vec()).await.unwrap();
    assert_eq!(parts.get(one, 11).await.unwrap().unwrap(), b"again");
    assert_eq!(parts.count(one).await.unwrap(), 2);

    parts.remove(other).await.unwrap();
    assert_eq!(parts.count(other).await.unwrap(), 0);
    parts_kept(parts).await;
}

/// What [`parts`] has left is there, also for who opens it anew.
pub async fn parts_kept<P: Parts>(parts: &P) {
    let one = BlobId::new([1; 16]);
    assert_eq!(parts.count(one).await.unwrap(), 2);
    assert_eq!(parts.get(one, 11).await.unwrap().unwrap(), b"again");
}
