//! Where customers' devices are woken, and who is owed it: a push is owed from when a message lies at the relay until something of the
//! customer has it, and the row that says so comes and goes in the transactions of these statuses.

use bulla_client::event::ConversationId;
use bulla_client::store::tx::Tx;
use bulla_client::store::vault::Scope;
use bulla_client::store::{Order, StoreError};
use bulla_e2ee::content::PushSubscription;
use minicbor::bytes::ByteArray;

use super::{PUSHES, scope};
use crate::secret::Secret;

/// A message that a device takes at once is receipted within a second of that; after so long it is likely that nothing runs there.
pub(crate) const PATIENCE_MS: u64 = 4_000;

/// Pushes of one conversation are at least so far apart.
pub(crate) const GAP_MS: u64 = 30_000;

/// How long a push is tried, and how long a push service may keep it.
pub(crate) const WORTH_MS: u64 = 7 * 24 * 3_600_000;

/// Devices of one conversation that can be woken: more than it can have.
const DEVICES: usize = 16;

/// One device of a customer.
#[derive(Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub(crate) struct Device {
    /// Its name among the customer's.
    #[n(0)]
    pub(crate) name: String,
    /// Of the push service: whoever has it can send there.
    #[n(1)]
    pub(crate) endpoint: Secret,
    #[n(2)]
    pub(crate) p256dh: ByteArray<65>,
    #[n(3)]
    pub(crate) auth: ByteArray<16>,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Device(redacted)")
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub(crate) struct Devices {
    #[n(0)]
    pub(crate) devices: Vec<Device>,
    /// When the last push was taken for them, Unix ms.
    #[n(1)]
    pub(crate) pushed_ms: u64,
}

/// A push that is owed to a conversation.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub(crate) struct Owed {
    /// Not before, Unix ms.
    #[n(0)]
    pub(crate) due_ms: u64,
    /// Since when, Unix ms.
    #[n(1)]
    pub(crate) since_ms: u64,
    /// Tries that failed.
    #[n(2)]
    pub(crate) failed: u32,
    /// Messages so far: a push that was begun before the last of them does not stand for it.
    #[n(3)]
    pub(crate) messages: u64,
    /// After a failure: the devices that have not been woken yet. Empty: all.
    #[n(4)]
    pub(crate) left: Vec<String>,
}

fn devices_key(of: ConversationId) -> Vec<u8> {
    [b"d".as_slice(), &of.0.to_be_bytes()].concat()
}

fn owed_key(of: ConversationId) -> Vec<u8> {
    [b"o".as_slice(), &of.0.to_be_bytes()].concat()
}

pub(crate) fn devices(tx: &Tx<'_>, of: ConversationId) -> Result<Devices, StoreError> {
    Ok(tx.get(PUSHES, &devices_key(of))?.unwrap_or_default())
}

fn put_devices(tx: &mut Tx<'_>, of: ConversationId, all: &Devices) -> Result<(), StoreError> {
    let scope = scope(tx, of)?;
    tx.put(PUSHES, &devices_key(of), scope, all)
}

/// A device has said where it is woken, or that it is not any more.
pub(crate) fn subscribe(
    tx: &mut Tx<'_>,
    of: ConversationId,
    name: &str,
    subscription: Option<&PushSubscription>,
) -> Result<(), StoreError> {
    let mut all = devices(tx, of)?;
    all.devices.retain(|device| device.name != name);
    if let Some(subscription) = subscription {
        if all.devices.len() >= DEVICES {
            all.devices.remove(0);
        }
        all.devices.push(Device {
            name: name.to_owned(),
            endpoint: Secret::new(subscription.endpoint.as_str()),
            p256dh: subscription.p256dh.into(),
            auth: subscription.auth.into(),
        });
    }
    put_devices(tx, of, &all)
}

/// A message lies at the relay: unless something of the customer takes it soon, a push is owed. Says whether one is.
pub(crate) fn owe(tx: &mut Tx<'_>, of: ConversationId) -> Result<bool, StoreError> {
    let all = devices(tx, of)?;
    if all.devices.is_empty() {
        return Ok(false);
    }
    let now = tx.now_ms();
    let soon = now.saturating_add(PATIENCE_MS).max(all.pushed_ms.saturating_add(GAP_MS));
    let owed = match owed(tx, of)? {
        Some(owed) => Owed { messages: owed.messages + 1, ..owed },
        None => Owed { due_ms: soon, since_ms: now, failed: 0, messages: 1, left: Vec::new() },
    };
    put_owed(tx, of, &owed)?;
    Ok(true)
}

pub(crate) fn owed(tx: &Tx<'_>, of: ConversationId) -> Result<Option<Owed>, StoreError> {
    tx.get(PUSHES, &owed_key(of))
}

fn put_owed(tx: &mut Tx<'_>, of: ConversationId, owed: &Owed) -> Result<(), StoreError> {
    tx.put(PUSHES, &owed_key(of), Scope::Endpoint, owed)
}

/// Something of the customer has what was said: nobody is owed anything.
pub(crate) fn settle(tx: &mut Tx<'_>, of: ConversationId) -> Result<(), StoreError> {
    if owed(tx, of)?.is_some() {
        tx.delete(PUSHES, &owed_key(of));
    }
    Ok(())
}

/// How a try at the devices of a conversation went.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tried {
    /// Taken by their push services.
    pub(crate) woken: usize,
    /// Not there any more.
    pub(crate) gone: Vec<String>,
    /// To be tried again.
    pub(crate) again: Vec<String>,
    /// After so long, ms.
    pub(crate) wait_ms: u64,
}

/// Notes how a try went that was begun with `seen`; when the next is due, if there is one.
pub(crate) fn tried(
    tx: &mut Tx<'_>,
    of: ConversationId,
    seen: &Owed,
    tried: &Tried,
) -> Result<Option<u64>, StoreError> {
    let now = tx.now_ms();
    let mut all = devices(tx, of)?;
    let before = all.clone();
    all.devices.retain(|device| !tried.gone.contains(&device.name));
    if tried.woken > 0 {
        all.pushed_ms = now;
    }
    if all != before {
        put_devices(tx, of, &all)?;
    }
    // It may have been settled while the push was under way.
    let Some(owed) = owed(tx, of)? else { return Ok(None) };
    let next = if owed.messages != seen.messages {
        Some(Owed { due_ms: now.saturating_add(GAP_MS), since_ms: now, failed: 0, left: Vec::new(), ..owed })
    } else if tried.again.is_empty() || now.saturating_sub(owed.since_ms) > WORTH_MS {
        None
    } else {
        let due_ms = now.saturating_add(tried.wait_ms);
        Some(Owed { due_ms, failed: owed.failed.saturating_add(1), left: tried.again.clone(), ..owed })
    };
    match &next {
        Some(owed) => put_owed(tx, of, owed)?,
        None => tx.delete(PUSHES, &owed_key(of)),
    }
    Ok(next.map(|owed| owed.due_ms))
}

/// Everybody who is owed a push, and when it is due.
pub(crate) fn all_owed(tx: &Tx<'_>) -> Result<Vec<(ConversationId, u64)>, StoreError> {
    const PAGE: usize = 1_000;
    let (mut all, mut from) = (Vec::new(), b"o".to_vec());
    loop {
        let rows = tx.scan::<Owed>(PUSHES, &from, Some(b"p"), Order::Ascending, PAGE)?;
        let number = |key: &[u8]| key.last_chunk::<8>().map(|k| ConversationId(u64::from_be_bytes(*k)));
        all.extend(rows.iter().filter_map(|(key, owed)| Some((number(key)?, owed.due_ms))));
        match rows.last() {
            Some((key, _)) if rows.len() == PAGE => from = [key.as_slice(), &[0]].concat(),
            _ => return Ok(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::TestStore;

    const ONE: ConversationId = ConversationId(1);

    fn subscription(endpoint: &str) -> PushSubscription {
        PushSubscription { endpoint: endpoint.into(), p256dh: [4; 65], auth: [1; 16] }
    }

    fn store() -> TestStore {
        let mut store = TestStore::new();
        store.has(ONE, 1);
        store
    }

    fn subscribed() -> TestStore {
        let mut store = store();
        for name in ["phone", "tablet"] {
            store.tx(|tx| subscribe(tx, ONE, name, Some(&subscription(name))));
        }
        store
    }

    fn names(store: &mut TestStore) -> Vec<String> {
        store.tx(|tx| devices(tx, ONE)).devices.into_iter().map(|device| device.name).collect()
    }

    #[test]
    fn a_device_has_one_place_at_which_it_is_woken() {
        let mut store = subscribed();
        store.tx(|tx| subscribe(tx, ONE, "phone", Some(&subscription("new"))));
        let all = store.tx(|tx| devices(tx, ONE)).devices;
        let at: Vec<_> = all.iter().map(|d| (d.name.as_str(), d.endpoint.expose())).collect();
        assert_eq!(at, [("tablet", "tablet"), ("phone", "new")]);
        store.tx(|tx| subscribe(tx, ONE, "tablet", None));
        assert_eq!(names(&mut store), ["phone"]);
        for n in 0..20 {
            store.tx(|tx| subscribe(tx, ONE, &n.to_string(), Some(&subscription("x"))));
        }
        assert_eq!(names(&mut store).len(), DEVICES);
    }

    #[test]
    fn nobody_is_owed_a_push_who_has_not_asked_for_it() {
        let mut store = store();
        assert!(!store.tx(|tx| owe(tx, ONE)));
        assert_eq!(store.tx(|tx| all_owed(tx)), []);
    }

    #[test]
    fn a_push_is_owed_until_something_has_the_message() {
        let mut store = subscribed();
        assert!(store.tx(|tx| owe(tx, ONE)));
        let due = store.now_ms + PATIENCE_MS;
        assert_eq!(store.tx(|tx| all_owed(tx)), [(ONE, due)]);
        store.now_ms += 1_000;
        store.tx(|tx| owe(tx, ONE));
        assert_eq!(store.tx(|tx| all_owed(tx)), [(ONE, due)], "another message does not put it off");
        store.tx(|tx| settle(tx, ONE));
        assert_eq!(store.tx(|tx| all_owed(tx)), []);
    }

    #[test]
    fn who_was_woken_is_left_alone_for_a_while() {
        let mut store = subscribed();
        store.tx(|tx| owe(tx, ONE));
        let seen = store.tx(|tx| owed(tx, ONE)).unwrap();
        let both = Tried { woken: 2, ..Tried::default() };
        assert_eq!(store.tx(|tx| tried(tx, ONE, &seen, &both)), None);
        assert_eq!(store.tx(|tx| all_owed(tx)), []);
        let woken_ms = store.now_ms;
        store.now_ms += 10_000;
        store.tx(|tx| owe(tx, ONE));
        assert_eq!(store.tx(|tx| all_owed(tx)), [(ONE, woken_ms + GAP_MS)]);
    }

    #[test]
    fn a_message_that_came_during_a_push_is_owed_one_of_its_own() {
        let mut store = subscribed();
        store.tx(|tx| owe(tx, ONE));
        let seen = store.tx(|tx| owed(tx, ONE)).unwrap();
        store.tx(|tx| owe(tx, ONE));
        let both = Tried { woken: 2, ..Tried::default() };
        let next = store.tx(|tx| tried(tx, ONE, &seen, &both));
        assert_eq!(next, Some(store.now_ms + GAP_MS));
        assert_eq!(store.tx(|tx| all_owed(tx)), [(ONE, next.unwrap())]);
    }

    #[test]
    fn only_what_failed_is_tried_again_and_not_for_ever() {
        let mut store = subscribed();
        store.tx(|tx| owe(tx, ONE));
        let seen = store.tx(|tx| owed(tx, ONE)).unwrap();
        let half = Tried { woken: 1, again: vec!["tablet".into()], wait_ms: 500, ..Tried::default() };
        assert_eq!(store.tx(|tx| tried(tx, ONE, &seen, &half)), Some(store.now_ms + 500));
        let left = store.tx(|tx| owed(tx, ONE)).unwrap();
        assert_eq!((left.failed, left.left.as_slice()), (1, ["tablet".to_owned()].as_slice()));
        store.now_ms += WORTH_MS + 1;
        assert_eq!(store.tx(|tx| tried(tx, ONE, &left, &half)), None);
        assert_eq!(store.tx(|tx| all_owed(tx)), []);
    }

    #[test]
    fn a_subscription_that_is_gone_is_forgotten() {
        let mut store = subscribed();
        store.tx(|tx| owe(tx, ONE));
        let seen = store.tx(|tx| owed(tx, ONE)).unwrap();
        let gone = Tried { woken: 1, gone: vec!["phone".into()], ..Tried::default() };
        assert_eq!(store.tx(|tx| tried(tx, ONE, &seen, &gone)), None);
        assert_eq!(names(&mut store), ["tablet"]);
    }

    #[test]
    fn gw_16_debug_shows_no_endpoint() {
        let mut store = subscribed();
        assert!(!format!("{:?}", store.tx(|tx| devices(tx, ONE))).contains("tablet"));
    }
}
