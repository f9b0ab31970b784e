//! Access tokens: `EAABulla`, 40 random letters and digits, 6 of checksum.
//!
//! The prefix lets secret scanners find a leaked token (GW-05) and keeps the four letters that tools expect of the Cloud API; the
//! checksum lets them tell a token from a likeness without asking anybody. 40 characters of 62 are 238 bits.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::entropy::{Entropy, base62_digit};
use crate::secret::Secret;

const PREFIX: &str = "EAABulla";
const RANDOM: usize = 40;
const CHECKSUM: usize = 6;

/// What is kept for checking.
#[derive(Clone, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub(crate) struct TokenHash(#[cbor(n(0), with = "minicbor::bytes")] [u8; 32]);

impl TokenHash {
    pub(crate) fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    pub(crate) fn matches(&self, token: &str) -> bool {
        self.0.ct_eq(&Self::of(token).0).into()
    }
}

impl std::fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenHash(redacted)")
    }
}

/// A new token.
pub(crate) fn generate(entropy: &Entropy) -> Secret {
    let body = format!("{PREFIX}{}", entropy.base62(RANDOM));
    let sum = checksum(&body);
    Secret::new(body + &sum)
}

/// Whether a text has a token's form: says nothing about whether it is one. Used by scanners.
#[must_use]
pub fn is_well_formed(text: &str) -> bool {
    let Some(body) = text.len().checked_sub(CHECKSUM).and_then(|at| text.get(..at)) else { return false };
    body.len() == PREFIX.len() + RANDOM
        && body.starts_with(PREFIX)
        && body.bytes().all(|b| b.is_ascii_alphanumeric())
        && text.get(body.len()..).is_some_and(|sum| sum == checksum(body))
}

fn checksum(body: &str) -> String {
    let digest = Sha256::new().chain_update(b"bulla/1/token-checksum\0").chain_update(body.as_bytes()).finalize();
    digest.iter().take(CHECKSUM).map(|b| base62_digit(u64::from(*b) % 62)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gw_05_tokens_can_be_scanned_for() {
        let token = generate(&Entropy::new(Box::new(rand_core::OsRng)));
        let text = token.expose();
        assert!(text.starts_with("EAAB") && text.len() == 54, "the form of a token");
        assert!(is_well_formed(text));
        let mut other = text.to_owned();
        let last = if other.pop() == Some('A') { 'B' } else { 'A' };
        other.push(last);
        assert!(!is_well_formed(&other));
        for wrong in ["", "EAAB", "é", &text[1..], "EAABullaéééééééééééééééééééééééé"] {
            assert!(!is_well_formed(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_hash_matches_its_token_only() {
        let entropy = Entropy::new(Box::new(rand_core::OsRng));
        let (a, b) = (generate(&entropy), generate(&entropy));
        assert!(TokenHash::of(a.expose()).matches(a.expose()));
        assert!(!TokenHash::of(a.expose()).matches(b.expose()));
    }
}
