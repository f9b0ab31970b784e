//! Webhooks that wait, as exact bytes, in order per conversation.
//!
//! A row is written in the transaction that makes its event durable, and deleted once a receiver answered 2xx: between the two a crash
//! loses nothing, and a retry sends the same bytes with the same signature. Without a receiver only the newest rows are kept.
//!
//! What nobody took in 7 days makes way for what follows and is a *dead letter*: kept for 30 days more, and put at the end of its conversation's
//! rows again when a person says so.

use bulla_client::event::ConversationId;
use bulla_client::store::tx::Tx;
use bulla_client::store::vault::Scope;
use bulla_client::store::{Order, StoreError};
use minicbor::bytes::ByteVec;
use zeroize::Zeroizing;

use super::{AGE, BUSINESS, DEAD, FACTS, QUEUE, WAITING, facts, scope};

const COUNTERS: &[u8] = b"queue";

/// How long a webhook waits, as the Cloud API keeps its own.
pub(crate) const KEPT_MS: u64 = 7 * 24 * 3_600_000;

/// Rows kept while nobody receives them: enough for a first look at what happened, not a second archive.
pub(crate) const KEPT_WITHOUT_RECEIVER: u64 = 1_000;

/// How long a dead letter is kept.
const DEAD_KEPT_MS: u64 = 30 * 24 * 3_600_000;

/// Dead letters, at most: the oldest go first.
pub(crate) const MOST_DEAD: usize = 10_000;

/// Rows expired in one transaction: bounds how long the engine is held up.
const SWEEP: usize = 500;

/// How many rows may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// A receiver is set: all, for 7 days.
    All,
    /// No receiver is set: the newest ones.
    Newest(u64),
}

#[derive(Debug, Default, Clone, minicbor::Encode, minicbor::Decode)]
struct Counters {
    #[n(0)]
    next: u64,
    #[n(1)]
    count: u64,
    /// Dead letters.
    #[n(2)]
    dead: Option<u64>,
}

/// A dead letter.
#[derive(Clone, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
struct Dead {
    #[n(0)]
    conversation: ConversationId,
    /// When it died, Unix ms.
    #[n(1)]
    at_ms: u64,
    #[n(2)]
    body: ByteVec,
}

#[derive(Debug, Clone, minicbor::Encode, minicbor::Decode)]
struct Age {
    #[n(0)]
    conversation: ConversationId,
    #[n(1)]
    queued_ms: u64,
}

/// Tries of a conversation's oldest row.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(crate) struct Tries {
    #[n(0)]
    pub(crate) failed: u32,
    /// Not before this time, Unix ms.
    #[n(1)]
    pub(crate) next_ms: u64,
}

/// The oldest row of a conversation.
pub(crate) struct Head {
    pub(crate) sequence: u64,
    pub(crate) body: Zeroizing<Vec<u8>>,
    pub(crate) tries: Tries,
}

/// Adds a row at the end of its conversation's.
pub(crate) fn push(tx: &mut Tx<'_>, id: ConversationId, body: &[u8], keep: Keep) -> Result<(), StoreError> {
    let mut counters: Counters = tx.get(FACTS, COUNTERS)?.unwrap_or_default();
    let sequence = counters.next;
    counters.next = counters.next.saturating_add(1);
    counters.count = counters.count.saturating_add(1);
    tx.put(FACTS, COUNTERS, Scope::Endpoint, &counters)?;
    let scope = scope(tx, id)?;
    tx.put_bytes(QUEUE, &key(id, sequence), scope, body.to_vec().into());
    let age = Age { conversation: id, queued_ms: tx.now_ms() };
    tx.put(AGE, &sequence.to_be_bytes(), Scope::Endpoint, &age)?;
    if tx.get_bytes(WAITING, &id.0.to_be_bytes())?.is_none() {
        tx.put(WAITING, &id.0.to_be_bytes(), Scope::Endpoint, &Tries::default())?;
    }
    if let Keep::Newest(most) = keep {
        let excess = usize::try_from(counters.count.saturating_sub(most)).unwrap_or(usize::MAX);
        for (sequence, age) in oldest(tx, excess.min(SWEEP))? {
            remove(tx, age.conversation, sequence)?;
        }
    }
    Ok(())
}

/// Adds a row that is about the business itself.
pub(crate) fn push_own(tx: &mut Tx<'_>, body: &[u8]) -> Result<(), StoreError> {
    let keep = match facts::targets(tx)?.effective() {
        Some(_) => Keep::All,
        None => Keep::Newest(KEPT_WITHOUT_RECEIVER),
    };
    push(tx, BUSINESS, body, keep)
}

/// A row, whoever's turn it is.
pub(crate) struct Waiting {
    pub(crate) sequence: u64,
    pub(crate) conversation: ConversationId,
    pub(crate) queued_ms: u64,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

/// The sequence with which the newest so many rows begin.
pub(crate) fn newest(tx: &Tx<'_>, count: usize) -> Result<u64, StoreError> {
    let rows = tx.scan_bytes(AGE, &[], None, Order::Descending, count)?;
    rows.last().map_or(Ok(0), |(row, _)| sequence_of(row))
}

/// Rows of all conversations from a sequence on, in the order in which they came.
pub(crate) fn from(tx: &Tx<'_>, sequence: u64, limit: usize) -> Result<Vec<Waiting>, StoreError> {
    let mut rows = Vec::new();
    for (row, age) in tx.scan::<Age>(AGE, &sequence.to_be_bytes(), None, Order::Ascending, limit)? {
        let (sequence, conversation) = (sequence_of(&row)?, age.conversation);
        if let Some(body) = tx.get_bytes(QUEUE, &key(conversation, sequence))? {
            rows.push(Waiting { sequence, conversation, queued_ms: age.queued_ms, body });
        }
    }
    Ok(rows)
}

/// The row that is next in a conversation.
pub(crate) fn head(tx: &Tx<'_>, id: ConversationId) -> Result<Option<Head>, StoreError> {
    let until = id.0.checked_add(1).map(|next| next.to_be_bytes());
    let until = until.as_ref().map(<[u8; 8]>::as_slice);
    let rows = tx.scan_bytes(QUEUE, &id.0.to_be_bytes(), until, Order::Ascending, 1)?;
    let Some((row, body)) = rows.into_iter().next() else { return Ok(None) };
    let sequence = sequence_of(row.get(8..).unwrap_or_default())?;
    let tries = tx.get(WAITING, &id.0.to_be_bytes())?.unwrap_or_default();
    Ok(Some(Head { sequence, body, tries }))
}

/// Forgets a row: delivered, or too old. The conversation's next row starts with no tries.
pub(crate) fn remove(tx: &mut Tx<'_>, id: ConversationId, sequence: u64) -> Result<(), StoreError> {
    if tx.get_bytes(QUEUE, &key(id, sequence))?.is_none() {
        return Ok(());
    }
    tx.delete(QUEUE, &key(id, sequence));
    tx.delete(AGE, &sequence.to_be_bytes());
    let mut counters: Counters = tx.get(FACTS, COUNTERS)?.unwrap_or_default();
    counters.count = counters.count.saturating_sub(1);
    tx.put(FACTS, COUNTERS, Scope::Endpoint, &counters)?;
    if head(tx, id)?.is_some() {
        tx.put(WAITING, &id.0.to_be_bytes(), Scope::Endpoint, &Tries::default())
    } else {
        tx.delete(WAITING, &id.0.to_be_bytes());
        Ok(())
    }
}

/// Notes a failed try of a conversation's oldest row, unless it is gone meanwhile.
pub(crate) fn failed(tx: &mut Tx<'_>, id: ConversationId, sequence: u64, tries: Tries) -> Result<(), StoreError> {
    match head(tx, id)? {
        Some(head) if head.sequence == sequence => tx.put(WAITING, &id.0.to_be_bytes(), Scope::Endpoint, &tries),
        _ => Ok(()),
    }
}

/// Conversations with rows, and when each is to be tried.
pub(crate) fn waiting(tx: &Tx<'_>) -> Result<Vec<(ConversationId, Tries)>, StoreError> {
    let rows = tx.scan_prefix::<Tries>(WAITING, &[])?;
    rows.into_iter().map(|(row, tries)| Ok((ConversationId(sequence_of(&row)?), tries))).collect()
}

/// Takes rows that have waited for 7 days out of the queue and lays them aside, at most 500 of them. Returns which.
pub(crate) fn expire(tx: &mut Tx<'_>) -> Result<Vec<u64>, StoreError> {
    let now = tx.now_ms();
    let mut gone = Vec::new();
    for (sequence, age) in oldest(tx, SWEEP)? {
        if age.queued_ms.saturating_add(KEPT_MS) > now {
            break;
        }
        lay_aside(tx, age.conversation, sequence)?;
        remove(tx, age.conversation, sequence)?;
        gone.push(sequence);
    }
    forget_dead(tx)?;
    Ok(gone)
}

fn lay_aside(tx: &mut Tx<'_>, conversation: ConversationId, sequence: u64) -> Result<(), StoreError> {
    let Some(body) = tx.get_bytes(QUEUE, &key(conversation, sequence))? else { return Ok(()) };
    let dead = Dead { conversation, at_ms: tx.now_ms(), body: body.to_vec().into() };
    let scope = scope(tx, conversation)?;
    tx.put(DEAD, &sequence.to_be_bytes(), scope, &dead)?;
    count_dead(tx, |count| count.saturating_add(1))
}

/// Forgets dead letters that are over, and the oldest of too many.
fn forget_dead(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let now = tx.now_ms();
    let mut excess = dead_letters(tx)?.saturating_sub(MOST_DEAD);
    for (row, dead) in tx.scan::<Dead>(DEAD, &[], None, Order::Ascending, SWEEP)? {
        if excess == 0 && dead.at_ms.saturating_add(DEAD_KEPT_MS) > now {
            break;
        }
        excess = excess.saturating_sub(1);
        tx.delete(DEAD, &row);
        count_dead(tx, |count| count.saturating_sub(1))?;
    }
    Ok(())
}

fn count_dead(tx: &mut Tx<'_>, change: impl FnOnce(u64) -> u64) -> Result<(), StoreError> {
    let mut counters: Counters = tx.get(FACTS, COUNTERS)?.unwrap_or_default();
    counters.dead = Some(change(counters.dead.unwrap_or(0)));
    tx.put(FACTS, COUNTERS, Scope::Endpoint, &counters)
}

/// How many dead letters there are.
pub(crate) fn dead_letters(tx: &Tx<'_>) -> Result<usize, StoreError> {
    let counters: Counters = tx.get(FACTS, COUNTERS)?.unwrap_or_default();
    Ok(usize::try_from(counters.dead.unwrap_or(0)).unwrap_or(usize::MAX))
}

/// Queues the oldest dead letters again, the same bytes in the order in which they came, at most 500. Returns whose they are; nobody's if there were none.
pub(crate) fn revive(tx: &mut Tx<'_>) -> Result<Vec<ConversationId>, StoreError> {
    let mut whose = Vec::new();
    for (row, dead) in tx.scan::<Dead>(DEAD, &[], None, Order::Ascending, SWEEP)? {
        tx.delete(DEAD, &row);
        count_dead(tx, |count| count.saturating_sub(1))?;
        push(tx, dead.conversation, &dead.body, Keep::All)?;
        whose.push(dead.conversation);
    }
    Ok(whose)
}

fn oldest(tx: &Tx<'_>, limit: usize) -> Result<Vec<(u64, Age)>, StoreError> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let rows = tx.scan::<Age>(AGE, &[], None, Order::Ascending, limit)?;
    rows.into_iter().map(|(row, age)| Ok((sequence_of(&row)?, age))).collect()
}

fn key(id: ConversationId, sequence: u64) -> [u8; 16] {
    ((u128::from(id.0) << 64) | u128::from(sequence)).to_be_bytes()
}

fn sequence_of(bytes: &[u8]) -> Result<u64, StoreError> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| StoreError::Format { table: QUEUE })
}

#[cfg(test)]
mod tests {
    use super::super::testing::TestStore;
    use super::*;

    const A: ConversationId = ConversationId(1);
    const B: ConversationId = ConversationId(2);

    fn store() -> TestStore {
        let mut store = TestStore::new();
        for n in [1, 2, 3, u64::MAX] {
            store.has(ConversationId(n), n);
        }
        store
    }

    fn drain(store: &mut TestStore, id: ConversationId) -> Vec<Vec<u8>> {
        let mut bodies = Vec::new();
        while let Some(head) = store.tx(|tx| head(tx, id)) {
            bodies.push(head.body.to_vec());
            store.tx(|tx| remove(tx, id, head.sequence));
        }
        bodies
    }

    #[test]
    fn rows_leave_in_order_and_conversations_are_apart() {
        let mut store = store();
        for (id, body) in [(A, "a1"), (B, "b1"), (A, "a2"), (B, "b2"), (A, "a3")] {
            store.tx(|tx| push(tx, id, body.as_bytes(), Keep::All));
        }
        assert_eq!(store.tx(|tx| waiting(tx)).len(), 2);
        assert_eq!(drain(&mut store, A), [b"a1", b"a2", b"a3"]);
        assert_eq!(store.tx(|tx| waiting(tx)).len(), 1);
        assert_eq!(drain(&mut store, B), [b"b1", b"b2"]);
        assert!(store.tx(|tx| waiting(tx)).is_empty());
        assert_eq!(store.tx(|tx| tx.get::<Counters>(FACTS, COUNTERS)).unwrap().count, 0);
        assert!(store.tx(|tx| oldest(tx, 10)).is_empty());
    }

    #[test]
    fn tries_belong_to_the_oldest_row() {
        let mut store = store();
        store.tx(|tx| push(tx, A, b"1", Keep::All));
        store.tx(|tx| push(tx, A, b"2", Keep::All));
        let first = store.tx(|tx| head(tx, A)).unwrap();
        let tries = Tries { failed: 3, next_ms: 99 };
        store.tx(|tx| failed(tx, A, first.sequence, tries));
        assert_eq!(store.tx(|tx| head(tx, A)).unwrap().tries, tries);
        store.tx(|tx| push(tx, A, b"3", Keep::All));
        assert_eq!(store.tx(|tx| head(tx, A)).unwrap().tries, tries, "a new row changes nothing");
        store.tx(|tx| remove(tx, A, first.sequence));
        let second = store.tx(|tx| head(tx, A)).unwrap();
        assert_eq!((second.body.as_slice(), second.tries), (b"2".as_slice(), Tries::default()));
        store.tx(|tx| failed(tx, A, first.sequence, tries));
        assert_eq!(store.tx(|tx| head(tx, A)).unwrap().tries, Tries::default(), "a late word about a row that is gone");
    }

    #[test]
    fn without_a_receiver_the_newest_are_kept() {
        let mut store = store();
        for n in 0..25_u8 {
            let id = ConversationId(u64::from(n % 3) + 1);
            store.tx(|tx| push(tx, id, &[n], Keep::Newest(10)));
        }
        let mut left: Vec<u8> = Vec::new();
        for id in 1..=3 {
            left.extend(drain(&mut store, ConversationId(id)).concat());
        }
        left.sort_unstable();
        assert_eq!(left, (15..25).collect::<Vec<u8>>());
    }

    #[test]
    fn gw_19_rows_expire_after_seven_days() {
        let mut store = store();
        store.tx(|tx| push(tx, A, b"old", Keep::All));
        store.now_ms += KEPT_MS - 1;
        store.tx(|tx| push(tx, A, b"new", Keep::All));
        assert!(store.tx(expire).is_empty());
        store.now_ms += 1;
        assert_eq!(store.tx(expire), [0]);
        assert_eq!(drain(&mut store, A), [b"new"]);
    }

    #[test]
    fn gw_19_what_nobody_took_makes_way_and_comes_again_when_somebody_says_so() {
        let mut store = store();
        for body in ["a1", "b1", "a2"] {
            let id = if body.starts_with('a') { A } else { B };
            store.tx(|tx| push(tx, id, body.as_bytes(), Keep::All));
        }
        store.now_ms += KEPT_MS;
        store.tx(|tx| push(tx, A, b"a3", Keep::All));
        assert_eq!(store.tx(expire), [0, 1, 2]);
        assert_eq!(store.tx(|tx| dead_letters(tx)), 3);
        assert_eq!(store.tx(|tx| head(tx, A)).unwrap().body.as_slice(), b"a3", "what follows is not held up");
        assert_eq!(store.tx(revive), [A, B, A]);
        assert_eq!((store.tx(|tx| dead_letters(tx)), store.tx(revive)), (0, vec![]));
        assert_eq!(drain(&mut store, A), [b"a3", b"a1", b"a2"]);
        assert_eq!(drain(&mut store, B), [b"b1"]);
    }

    #[test]
    fn dead_letters_are_kept_for_thirty_days_and_not_without_number() {
        let mut store = store();
        store.tx(|tx| push(tx, A, b"1", Keep::All));
        store.now_ms += KEPT_MS;
        store.tx(expire);
        store.now_ms += DEAD_KEPT_MS - 1;
        store.tx(expire);
        assert_eq!(store.tx(|tx| dead_letters(tx)), 1);
        store.now_ms += 1;
        store.tx(expire);
        assert_eq!(store.tx(|tx| dead_letters(tx)), 0);
        for n in 0..MOST_DEAD as u64 + 700 {
            store.tx(|tx| push(tx, A, &n.to_be_bytes(), Keep::All));
        }
        store.now_ms += KEPT_MS;
        while !store.tx(expire).is_empty() {}
        store.tx(expire);
        assert_eq!(store.tx(|tx| dead_letters(tx)), MOST_DEAD);
        store.tx(revive);
        assert_eq!(store.tx(|tx| head(tx, A)).unwrap().body.as_slice(), 700_u64.to_be_bytes(), "the oldest went");
    }

    #[test]
    fn rows_are_read_as_they_came_whoever_they_are_for() {
        let mut store = store();
        assert_eq!(store.tx(|tx| newest(tx, 3)), 0);
        for (id, body) in [(A, "a1"), (B, "b1"), (A, "a2"), (B, "b2")] {
            store.tx(|tx| push(tx, id, body.as_bytes(), Keep::All));
        }
        let read = |store: &mut TestStore, first: u64, limit: usize| -> Vec<(u64, String)> {
            let rows = store.tx(|tx| from(tx, first, limit));
            rows.iter().map(|row| (row.sequence, String::from_utf8(row.body.to_vec()).unwrap())).collect()
        };
        assert_eq!(read(&mut store, 0, 3), [(0, "a1".into()), (1, "b1".into()), (2, "a2".into())]);
        assert_eq!(store.tx(|tx| newest(tx, 3)), 1);
        store.tx(|tx| remove(tx, B, 1));
        assert_eq!(read(&mut store, 1, 9), [(2, "a2".into()), (3, "b2".into())]);
        assert!(read(&mut store, 4, 9).is_empty());
    }

    #[test]
    fn the_largest_conversation_number_has_a_queue_too() {
        let mut store = store();
        let last = ConversationId(u64::MAX);
        store.tx(|tx| push(tx, last, b"x", Keep::All));
        assert_eq!(drain(&mut store, last), [b"x"]);
    }
}
