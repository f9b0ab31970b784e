//! One row per fact about the business: its account, its token's sealed copy, where webhooks go.

use bulla_client::store::StoreError;
use bulla_client::store::tx::Tx;
use bulla_client::store::vault::Scope;

use super::FACTS;
use crate::account::Account;
use crate::secret::Secret;

const ACCOUNT: &[u8] = b"account";
const TOKEN: &[u8] = b"token";
const TARGETS: &[u8] = b"targets";
const PUSH_KEY: &[u8] = b"push key";

pub(crate) fn account(tx: &Tx<'_>) -> Result<Option<Account>, StoreError> {
    tx.get(FACTS, ACCOUNT)
}

pub(crate) fn set_account(tx: &mut Tx<'_>, account: &Account) -> Result<(), StoreError> {
    tx.put(FACTS, ACCOUNT, Scope::Endpoint, account)
}

/// The access token's copy for its owner's eyes. Checking needs only the hash in the account.
pub(crate) fn token(tx: &Tx<'_>) -> Result<Option<Secret>, StoreError> {
    tx.get(FACTS, TOKEN)
}

pub(crate) fn set_token(tx: &mut Tx<'_>, token: &Secret) -> Result<(), StoreError> {
    tx.put(FACTS, TOKEN, Scope::Endpoint, token)
}

/// The private key under which pushes are sent, as `push::message::PushKey` writes it.
pub(crate) fn push_key(tx: &Tx<'_>) -> Result<Option<Secret>, StoreError> {
    tx.get(FACTS, PUSH_KEY)
}

pub(crate) fn set_push_key(tx: &mut Tx<'_>, key: &Secret) -> Result<(), StoreError> {
    tx.put(FACTS, PUSH_KEY, Scope::Endpoint, key)
}

pub(crate) fn targets(tx: &Tx<'_>) -> Result<Targets, StoreError> {
    Ok(tx.get(FACTS, TARGETS)?.unwrap_or_default())
}

pub(crate) fn set_targets(tx: &mut Tx<'_>, targets: &Targets) -> Result<(), StoreError> {
    tx.put(FACTS, TARGETS, Scope::Endpoint, targets)
}

/// Who set a webhook's URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub(crate) enum SetBy {
    /// Whoever started the gateway: forgotten when it is started without.
    #[n(0)]
    Operator,
    /// A call of the API.
    #[n(1)]
    Api,
}

/// A webhook's receiver.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(crate) struct Target {
    /// May carry secrets in its query.
    #[n(0)]
    pub(crate) url: Secret,
    /// What its owner expects in the challenge.
    #[n(1)]
    pub(crate) verify_token: Secret,
    /// It answered the challenge. Nothing is delivered before.
    #[n(2)]
    pub(crate) verified: bool,
    #[n(3)]
    pub(crate) set_by: SetBy,
}

/// The receivers of a business: the number's own before the account's before the app's.
#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(crate) struct Targets {
    #[n(0)]
    pub(crate) app: Option<Target>,
    #[n(1)]
    pub(crate) waba: Option<Target>,
    #[n(2)]
    pub(crate) phone: Option<Target>,
    /// The app was taken off the account: nothing is delivered until it is subscribed again.
    #[n(3)]
    pub(crate) unsubscribed: bool,
}

impl Targets {
    /// Where webhooks go now, verified or not.
    pub(crate) fn effective(&self) -> Option<&Target> {
        if self.unsubscribed {
            return None;
        }
        self.phone.as_ref().or(self.waba.as_ref()).or(self.app.as_ref())
    }

    /// Notes that a receiver answered its challenge, if it is still the one that was asked.
    pub(crate) fn set_verified(&mut self, asked: &Target) {
        for target in [&mut self.phone, &mut self.waba, &mut self.app].into_iter().flatten() {
            if target.url == asked.url && target.verify_token == asked.verify_token {
                target.verified = true;
            }
        }
    }

    /// Takes over what the operator said at this start.
    pub(crate) fn configure(&mut self, url: Option<&str>, verify_token: &Secret) {
        match url {
            Some(url) if self.app.as_ref().is_some_and(|t| t.url.matches(url) && t.verify_token == *verify_token) => {}
            Some(url) => {
                self.app = Some(Target {
                    url: Secret::new(url),
                    verify_token: verify_token.clone(),
                    verified: false,
                    set_by: SetBy::Operator,
                });
            }
            None if self.app.as_ref().is_some_and(|t| t.set_by == SetBy::Operator) => self.app = None,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target { url: Secret::new(url), verify_token: Secret::new("v"), verified: false, set_by: SetBy::Api }
    }

    #[test]
    fn the_number_goes_before_the_account_before_the_app() {
        let mut targets = Targets { app: Some(target("app")), ..Targets::default() };
        assert!(targets.effective().unwrap().url.matches("app"));
        targets.waba = Some(target("waba"));
        assert!(targets.effective().unwrap().url.matches("waba"));
        targets.phone = Some(target("phone"));
        assert!(targets.effective().unwrap().url.matches("phone"));
        targets.unsubscribed = true;
        assert_eq!(targets.effective(), None);
    }

    #[test]
    fn only_what_was_asked_becomes_verified() {
        let asked = target("old");
        let mut targets = Targets { app: Some(target("new")), ..Targets::default() };
        targets.set_verified(&asked);
        assert!(!targets.effective().unwrap().verified);
        targets.set_verified(&target("new"));
        assert!(targets.effective().unwrap().verified);
    }

    #[test]
    fn the_operators_url_comes_and_goes_with_his_option() {
        let token = Secret::new("v");
        let mut targets = Targets::default();
        targets.configure(Some("http://a/"), &token);
        targets.app.as_mut().unwrap().verified = true;
        targets.configure(Some("http://a/"), &token);
        assert!(targets.effective().unwrap().verified, "the same URL stays verified");
        targets.configure(Some("http://b/"), &token);
        assert!(!targets.effective().unwrap().verified);
        targets.configure(None, &token);
        assert_eq!(targets.effective(), None);
        targets.app = Some(target("http://api/"));
        targets.configure(None, &token);
        assert!(targets.effective().is_some(), "what the API set stays");
    }
}
