//! What a business has set about its number: profile, PIN, what a conversation begins with.

use bulla_client::store::StoreError;
use bulla_client::store::tx::Tx;
use bulla_client::store::vault::Scope;
use minicbor::bytes::ByteArray;
use subtle::ConstantTimeEq as _;

use super::FACTS;

const PROFILE: &[u8] = b"profile";
const NUMBER: &[u8] = b"number";
const AUTOMATION: &[u8] = b"automation";

/// Wrong PINs in a row before there is a pause: of a million PINs that leaves a guesser some 40,000 a year.
const GUESSES: u32 = 5;

/// How long the pause is.
const PAUSE_MS: u64 = 3_600_000;

/// Whom customers and other programs see.
#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(crate) struct Profile {
    #[n(0)]
    pub(crate) about: String,
    #[n(1)]
    pub(crate) address: String,
    #[n(2)]
    pub(crate) description: String,
    #[n(3)]
    pub(crate) email: String,
    #[n(4)]
    pub(crate) websites: Vec<String>,
    /// The Cloud API's word.
    #[n(5)]
    pub(crate) vertical: String,
    /// There is one, in [`super::uploads`].
    #[n(6)]
    pub(crate) has_picture: bool,
}

pub(crate) fn profile(tx: &Tx<'_>) -> Result<Profile, StoreError> {
    Ok(tx.get(FACTS, PROFILE)?.unwrap_or_default())
}

pub(crate) fn set_profile(tx: &mut Tx<'_>, profile: &Profile) -> Result<(), StoreError> {
    tx.put(FACTS, PROFILE, Scope::Endpoint, profile)
}

/// Whether the number may be used at the API, and what is asked before it may be again.
#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(crate) struct Number {
    /// A keyed hash: under the store's key, so that a million guesses need it.
    #[n(0)]
    pin: Option<ByteArray<16>>,
    #[n(1)]
    wrong: u32,
    /// No PIN counts before, Unix ms.
    #[n(2)]
    paused_until_ms: u64,
    /// A new business's number is registered, without asking anybody.
    #[n(3)]
    pub(crate) is_deregistered: bool,
}

/// What came of a PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pin {
    /// Right, or the first.
    Good,
    Wrong,
    /// Nobody looked at it.
    TooMany,
}

impl Number {
    pub(crate) fn has_pin(&self) -> bool {
        self.pin.is_some()
    }
}

pub(crate) fn number(tx: &Tx<'_>) -> Result<Number, StoreError> {
    Ok(tx.get(FACTS, NUMBER)?.unwrap_or_default())
}

/// Sets a new PIN, whatever the old one was: who has the business's token may.
pub(crate) fn set_pin(tx: &mut Tx<'_>, pin: &str) -> Result<(), StoreError> {
    let pin = Some(hash(tx, pin).into());
    let number = Number { pin, wrong: 0, paused_until_ms: 0, ..number(tx)? };
    tx.put(FACTS, NUMBER, Scope::Endpoint, &number)
}

/// Registers the number, if the PIN is the one that was set; the first one is.
pub(crate) fn register(tx: &mut Tx<'_>, pin: &str) -> Result<Pin, StoreError> {
    let mut number = number(tx)?;
    if number.paused_until_ms > tx.now_ms() {
        return Ok(Pin::TooMany);
    }
    let given = hash(tx, pin);
    let is_good = number.pin.as_ref().is_none_or(|known| known.ct_eq(&given).into());
    if is_good {
        number = Number { pin: Some(given.into()), ..Number::default() };
    } else {
        number.wrong = number.wrong.saturating_add(1);
        if number.wrong >= GUESSES {
            number.wrong = 0;
            number.paused_until_ms = tx.now_ms().saturating_add(PAUSE_MS);
        }
    }
    tx.put(FACTS, NUMBER, Scope::Endpoint, &number)?;
    Ok(if is_good { Pin::Good } else { Pin::Wrong })
}

/// Takes the number off the API. The PIN stays: registering again needs it.
pub(crate) fn deregister(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let number = Number { is_deregistered: true, ..number(tx)? };
    tx.put(FACTS, NUMBER, Scope::Endpoint, &number)
}

fn hash(tx: &Tx<'_>, pin: &str) -> [u8; 16] {
    tx.blind("gateway pin", pin.as_bytes())
}

/// What a conversation begins with.
#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(crate) struct Automation {
    #[n(0)]
    pub(crate) welcome: bool,
    #[n(1)]
    pub(crate) prompts: Vec<String>,
    #[n(2)]
    pub(crate) commands: Vec<Command>,
}

/// What a customer can call for with a slash.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(crate) struct Command {
    #[n(0)]
    pub(crate) name: String,
    #[n(1)]
    pub(crate) description: String,
}

pub(crate) fn automation(tx: &Tx<'_>) -> Result<Automation, StoreError> {
    Ok(tx.get(FACTS, AUTOMATION)?.unwrap_or_default())
}

pub(crate) fn set_automation(tx: &mut Tx<'_>, automation: &Automation) -> Result<(), StoreError> {
    tx.put(FACTS, AUTOMATION, Scope::Endpoint, automation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::TestStore;

    #[test]
    fn the_first_pin_counts_until_another_is_set() {
        let mut store = TestStore::new();
        assert_eq!(store.tx(|tx| register(tx, "123456")), Pin::Good);
        store.tx(deregister);
        assert!(store.tx(|tx| number(tx)).is_deregistered);
        assert_eq!(store.tx(|tx| register(tx, "654321")), Pin::Wrong);
        assert!(store.tx(|tx| number(tx)).is_deregistered);
        assert_eq!(store.tx(|tx| register(tx, "123456")), Pin::Good);
        assert!(!store.tx(|tx| number(tx)).is_deregistered);
        store.tx(|tx| set_pin(tx, "000000"));
        assert_eq!(store.tx(|tx| register(tx, "123456")), Pin::Wrong);
        assert_eq!(store.tx(|tx| register(tx, "000000")), Pin::Good);
    }

    #[test]
    fn five_wrong_pins_are_all_for_an_hour() {
        let mut store = TestStore::new();
        store.tx(|tx| set_pin(tx, "123456"));
        for _ in 0..GUESSES {
            assert_eq!(store.tx(|tx| register(tx, "000000")), Pin::Wrong);
        }
        assert_eq!(store.tx(|tx| register(tx, "123456")), Pin::TooMany, "not even the right one");
        store.now_ms += PAUSE_MS;
        assert_eq!(store.tx(|tx| register(tx, "123456")), Pin::Good);
    }
}
