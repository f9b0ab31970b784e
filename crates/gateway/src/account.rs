//! What a business is at the API: ids, keys, name. Made once, at its first start, and sealed in its store.

use serde::{Deserialize, Serialize};

use crate::entropy::Entropy;
use crate::numbers;
use crate::secret::Secret;
use crate::token::{self, TokenHash};

/// Digits of node ids: clients read them as numbers, so they stay below 2^53.
const ID_DIGITS: u32 = 15;

/// A business, as its store keeps it. The access token is not in it: see [`crate::store::facts`].
#[derive(Debug, Clone, minicbor::Encode, minicbor::Decode)]
pub(crate) struct Account {
    /// Its folder's name and its address: `/@handle`.
    #[n(0)]
    pub(crate) handle: String,
    /// The name that people read.
    #[n(1)]
    pub(crate) name: String,
    #[n(2)]
    pub(crate) phone_number_id: String,
    #[n(3)]
    pub(crate) waba_id: String,
    #[n(4)]
    pub(crate) app_id: String,
    /// 15 digits under country code 890, like customers' `wa_id`.
    #[n(5)]
    pub(crate) display_number: String,
    #[n(6)]
    pub(crate) token_hash: TokenHash,
    /// Signs webhooks; also the secret half of the app token.
    #[n(7)]
    pub(crate) app_secret: Secret,
    /// What a webhook's receiver expects in `hub.verify_token`.
    #[n(8)]
    pub(crate) verify_token: Secret,
}

impl Account {
    /// A new business whose ids are not among `taken`. Returns its access token beside it.
    pub(crate) fn generate(handle: String, name: String, taken: &[String], entropy: &Entropy) -> (Self, Secret) {
        let mut ids: Vec<String> = Vec::new();
        while ids.len() < 3 {
            let id = entropy.decimal(ID_DIGITS);
            if !ids.contains(&id) && !taken.contains(&id) {
                ids.push(id);
            }
        }
        let mut id = || ids.pop().unwrap_or_default();
        let token = token::generate(entropy);
        let account = Self {
            handle,
            name,
            phone_number_id: id(),
            waba_id: id(),
            app_id: id(),
            display_number: numbers::from_tail(entropy.below(numbers::TAILS)),
            token_hash: TokenHash::of(token.expose()),
            app_secret: Secret::new(entropy.hex(16)),
            verify_token: Secret::new(entropy.base62(24)),
        };
        (account, token)
    }

    /// What must not be seen. The token's copy is not here, and has a form of its own.
    pub(crate) fn secrets(&self) -> [&Secret; 2] {
        [&self.app_secret, &self.verify_token]
    }

    pub(crate) fn ids(&self) -> [&String; 3] {
        [&self.phone_number_id, &self.waba_id, &self.app_id]
    }
}

/// Everything that a developer needs to use a business's API, as `bulla env` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// The business's handle.
    pub handle: String,
    /// The business's name.
    pub name: String,
    /// What customers open: origin, handle and the hash of the identity key.
    pub link: String,
    /// Where the API listens: what replaces `https://graph.facebook.com`.
    pub api_base: String,
    /// The business's number at the API.
    pub phone_number_id: String,
    /// The business's account at the API.
    pub waba_id: String,
    /// The app at the API.
    pub app_id: String,
    /// The bearer token. Only its SHA-256 is needed for checking; a sealed copy is kept so that its owner can see it again.
    pub access_token: Secret,
    /// The key of webhook signatures.
    pub app_secret: Secret,
    /// What `hub.verify_token` will be.
    pub verify_token: Secret,
    /// The relay that carries the business's envelopes.
    pub relay_url: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entropy() -> Entropy {
        Entropy::new(Box::new(rand_core::OsRng))
    }

    #[test]
    fn ids_are_apart_and_fit_a_double() {
        let (account, token) = Account::generate("shop".into(), "Shop".into(), &[], &entropy());
        let [a, b, c] = account.ids();
        assert!(a != b && b != c && a != c);
        for id in [a, b, c] {
            assert!(id.parse::<u64>().unwrap() < 1 << 53, "{id}");
        }
        assert_eq!(account.app_secret.expose().len(), 32);
        assert!(account.token_hash.matches(token.expose()));
        assert!(account.display_number.starts_with("890") && account.display_number.len() == 15);
    }

    #[test]
    fn gw_16_debug_shows_no_secret() {
        let (account, token) = Account::generate("shop".into(), "Shop".into(), &[], &entropy());
        let text = format!("{account:?} {token:?}");
        for secret in [token.expose(), account.app_secret.expose(), account.verify_token.expose()] {
            assert!(!text.contains(secret));
        }
        assert!(text.contains("TokenHash(redacted)") && text.contains("app_secret: Secret(redacted)"), "{text}");
    }

    #[test]
    fn is_stored_and_loaded() {
        let (account, _) = Account::generate("shop".into(), "Shop".into(), &[], &entropy());
        let bytes = minicbor::to_vec(&account).unwrap();
        let again: Account = minicbor::decode(&bytes).unwrap();
        assert_eq!(again.ids(), account.ids());
        assert_eq!(again.app_secret, account.app_secret);
    }
}
