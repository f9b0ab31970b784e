//! Who a customer is at the business itself: a token (JWT, RFC 7519) that the business's own backend has signed and its web site has given to
//! the chat. It travels in the conversation, and only the gateway looks at it.
//!
//! A key says which algorithm it is for, never the token: a PEM public key of P-256 is `ES256`, one of Ed25519 is `EdDSA`, and anything else
//! in the file is the secret of `HS256`. RSA is not taken: the one crate that would verify it in Rust has an open advisory (RUSTSEC-2023-0071).

use std::fmt;
use std::path::{Path, PathBuf};

use bulla_e2ee::limits::DISPLAY_NAME;
use jwt_compact::alg::{Ed25519, Es256, Hs256, Hs256Key};
use jwt_compact::{Algorithm, AlgorithmExt as _, UntrustedToken};

/// A secret that can be guessed signs for everybody.
const SHORTEST_SECRET: usize = 32;

/// Largest key file.
const LARGEST_FILE: u64 = 16 * 1024;

/// How far ahead a token's end may lie: one that is stolen should not be somebody for long.
const LONGEST_SECS: i64 = 24 * 3_600;

/// Clocks of two machines differ.
const LEEWAY_SECS: i64 = 60;

/// Longest id, in characters.
const LONGEST_ID: usize = DISPLAY_NAME;

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityKeyError {
    /// Not readable.
    #[error("cannot read the identity key {path}: {cause}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// In the system's words.
        cause: std::io::Error,
    },
    /// No key of a known kind.
    #[error(
        "{0} is not an identity key: a PEM public key of P-256 (ES256) or Ed25519 (EdDSA), or a secret of at least {SHORTEST_SECRET} bytes (HS256)"
    )]
    Kind(PathBuf),
}

/// Why a token does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("it is not a token")]
    Form,
    #[error("it is signed with {algorithm}, which is not what the identity key is for", algorithm = .0)]
    Algorithm(&'static str),
    #[error("its signature does not verify")]
    Signature,
    #[error("it has no sub, aud or exp, or one of a wrong type")]
    Claims,
    #[error("it is for another business than this one")]
    Audience,
    #[error("its time is over, or has not come; or it lasts longer than a day")]
    Time,
    #[error("its sub is empty or longer than {LONGEST_ID} characters")]
    Subject,
}

/// What a business's backend signs with, or what verifies that.
#[derive(Clone)]
pub struct IdentityKey(Kind);

#[derive(Clone)]
enum Kind {
    Es256(Box<p256::ecdsa::VerifyingKey>),
    EdDsa(Box<ed25519_dalek::VerifyingKey>),
    Hs256(Hs256Key),
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityKey(redacted)")
    }
}

/// As the token has them. `aud` may be one or several (RFC 7519, §4.1.3).
#[derive(serde::Deserialize)]
struct Claims {
    sub: String,
    aud: Audience,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl IdentityKey {
    /// Reads a key file.
    pub fn from_file(path: &Path) -> Result<Self, IdentityKeyError> {
        let unreadable = |cause| IdentityKeyError::Unreadable { path: path.to_owned(), cause };
        let large = std::fs::metadata(path).map_err(unreadable)?.len() > LARGEST_FILE;
        let bytes =
            zeroize::Zeroizing::new(if large { Vec::new() } else { std::fs::read(path).map_err(unreadable)? });
        Self::from_bytes(&bytes).ok_or_else(|| IdentityKeyError::Kind(path.to_owned()))
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        use ed25519_dalek::pkcs8::DecodePublicKey as _;
        if bytes.windows(5).any(|five| five == b"-----") {
            let pem = std::str::from_utf8(bytes).ok()?.trim();
            let p256 = p256::PublicKey::from_public_key_pem(pem).map(|key| Kind::Es256(Box::new(key.into())));
            let ed25519 =
                || ed25519_dalek::VerifyingKey::from_public_key_pem(pem).map(|key| Kind::EdDsa(Box::new(key)));
            return p256.ok().or_else(|| ed25519().ok()).map(Self);
        }
        let secret = bytes.trim_ascii();
        (secret.len() >= SHORTEST_SECRET).then(|| Self(Kind::Hs256(Hs256Key::new(secret))))
    }

    /// The customer's id at the business, if the token is the business's word for this handle, now.
    pub(crate) fn check(&self, token: &str, handle: &str, now_s: u64) -> Result<String, IdentityError> {
        let token = UntrustedToken::new(token).map_err(|_| IdentityError::Form)?;
        let claims = match &self.0 {
            Kind::Es256(key) => verified(&Es256, key.as_ref(), &token, "ES256"),
            Kind::EdDsa(key) => verified(&Ed25519, key.as_ref(), &token, "EdDSA"),
            Kind::Hs256(key) => verified(&Hs256, key, &token, "HS256"),
        }?;
        let now = i64::try_from(now_s).map_err(|_| IdentityError::Time)?;
        let ends = claims.expiration.ok_or(IdentityError::Claims)?.timestamp();
        let begins = claims.not_before.map_or(i64::MIN, |at| at.timestamp());
        if now > ends.saturating_add(LEEWAY_SECS)
            || ends > now.saturating_add(LONGEST_SECS)
            || begins > now.saturating_add(LEEWAY_SECS)
        {
            return Err(IdentityError::Time);
        }
        let Claims { sub, aud } = claims.custom;
        let is_for_us = match &aud {
            Audience::One(one) => one == handle,
            Audience::Several(all) => all.iter().any(|one| one == handle),
        };
        if !is_for_us {
            return Err(IdentityError::Audience);
        }
        if sub.is_empty() || sub.chars().count() > LONGEST_ID || sub.chars().any(char::is_control) {
            return Err(IdentityError::Subject);
        }
        Ok(sub)
    }
}

/// The claims of a token under this one algorithm, whatever the token would like.
fn verified<A: Algorithm>(
    algorithm: &A,
    key: &A::VerifyingKey,
    token: &UntrustedToken<'_>,
    name: &'static str,
) -> Result<jwt_compact::Claims<Claims>, IdentityError> {
    use jwt_compact::ValidationError;
    match algorithm.validator::<Claims>(key).validate(token) {
        Ok(token) => Ok(token.into_parts().1),
        Err(ValidationError::AlgorithmMismatch { .. }) => Err(IdentityError::Algorithm(name)),
        Err(ValidationError::MalformedClaims(_)) => Err(IdentityError::Claims),
        Err(_) => Err(IdentityError::Signature),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::BASE64URL_NOPAD;
    use jwt_compact::Header;
    use p256::pkcs8::EncodePublicKey as _;
    use serde_json::{Value, json};

    const NOW: u64 = 1_800_000_000;
    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn signed<A: Algorithm>(algorithm: &A, key: &A::SigningKey, claims: &Value) -> String {
        let claims: jwt_compact::Claims<Value> = serde_json::from_value(claims.clone()).unwrap();
        algorithm.token(&Header::empty(), &claims, key).unwrap()
    }

    fn good() -> Value {
        json!({ "sub": "customer-7", "aud": "shop", "exp": NOW + 600 })
    }

    fn hs256(claims: &Value) -> String {
        signed(&Hs256, &Hs256Key::new(SECRET), claims)
    }

    #[test]
    fn every_kind_of_key_takes_its_own_tokens_and_no_others() {
        let p256 = p256::ecdsa::SigningKey::random(&mut rand_core::OsRng);
        let ed25519 = ed25519_dalek::SigningKey::generate(&mut rand_core::OsRng);
        let p256_pem = p256.verifying_key().to_public_key_pem(Default::default()).unwrap();
        let ed25519_pem = ed25519.verifying_key().to_public_key_pem(Default::default()).unwrap();
        let files = [p256_pem.as_bytes(), ed25519_pem.as_bytes(), SECRET];
        let tokens = [signed(&Es256, &p256, &good()), signed(&Ed25519, &ed25519, &good()), hs256(&good())];
        for (k, file) in files.iter().enumerate() {
            let key = IdentityKey::from_bytes(file).unwrap();
            for (t, token) in tokens.iter().enumerate() {
                let result = key.check(token, "shop", NOW);
                assert_eq!(result.is_ok(), k == t, "key {k}, token {t}: {result:?}");
            }
        }
        // The classic: the public key as the secret of an HMAC.
        let confused = signed(&Hs256, &Hs256Key::new(p256_pem.as_bytes()), &good());
        let key = IdentityKey::from_bytes(p256_pem.as_bytes()).unwrap();
        assert_eq!(key.check(&confused, "shop", NOW), Err(IdentityError::Algorithm("ES256")));
    }

    #[test]
    fn a_token_without_a_signature_is_nobodys() {
        let part = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let key = IdentityKey::from_bytes(SECRET).unwrap();
        for alg in ["none", "None", "HS256", "HS512"] {
            for signature in ["", "AA"] {
                let token = format!("{}.{}.{signature}", part(json!({ "alg": alg })), part(good()));
                assert!(key.check(&token, "shop", NOW).is_err(), "{alg} {signature}");
            }
        }
        let other = signed(&Hs256, &Hs256Key::new(b"another secret of thirty-two byte"), &good());
        assert_eq!(key.check(&other, "shop", NOW), Err(IdentityError::Signature));
        for junk in ["", ".", "..", "a.b.c", &"x".repeat(5_000)] {
            assert_eq!(key.check(junk, "shop", NOW), Err(IdentityError::Form), "{junk}");
        }
    }

    #[test]
    fn claims_are_held_to_business_and_time() {
        let key = IdentityKey::from_bytes(SECRET).unwrap();
        let with = |name: &str, value: Value| {
            let mut claims = good();
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value,
            }
            key.check(&hs256(&claims), "shop", NOW)
        };
        assert_eq!(key.check(&hs256(&good()), "shop", NOW).as_deref(), Ok("customer-7"));
        assert_eq!(with("aud", json!(["other", "shop"])).as_deref(), Ok("customer-7"));
        assert_eq!(with("nbf", json!(NOW - 1)).as_deref(), Ok("customer-7"));
        for (name, value, why) in [
            ("aud", json!("other"), IdentityError::Audience),
            ("aud", json!([]), IdentityError::Audience),
            ("aud", json!(7), IdentityError::Claims),
            ("aud", Value::Null, IdentityError::Claims),
            ("exp", json!(NOW - 61), IdentityError::Time),
            ("exp", json!(NOW + 24 * 3_600 + 1), IdentityError::Time),
            ("exp", Value::Null, IdentityError::Claims),
            ("nbf", json!(NOW + 61), IdentityError::Time),
            ("sub", json!(""), IdentityError::Subject),
            ("sub", json!("x".repeat(LONGEST_ID + 1)), IdentityError::Subject),
            ("sub", json!("a\nb"), IdentityError::Subject),
            ("sub", json!(7), IdentityError::Claims),
        ] {
            assert_eq!(with(name, value.clone()), Err(why), "{name} {value}");
        }
        let text_for_time = {
            let claims =
                BASE64URL_NOPAD.encode(json!({ "sub": "a", "aud": "shop", "exp": "later" }).to_string().as_bytes());
            let token = hs256(&good());
            let mut parts: Vec<_> = token.split('.').collect();
            parts[1] = &claims;
            parts.join(".")
        };
        assert!(key.check(&text_for_time, "shop", NOW).is_err());
    }

    #[test]
    fn a_key_file_is_a_key_or_a_long_secret() {
        let folder = tempfile::tempdir().unwrap();
        let file = |text: &str| {
            let path = folder.path().join("key");
            std::fs::write(&path, text).unwrap();
            IdentityKey::from_file(&path)
        };
        assert!(file("0123456789abcdef0123456789abcdef\n").is_ok());
        for bad in ["", "short", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", &"x".repeat(17_000)] {
            assert!(matches!(file(bad), Err(IdentityKeyError::Kind(_))), "{}", bad.len());
        }
        let none = IdentityKey::from_file(&folder.path().join("none"));
        assert!(matches!(none, Err(IdentityKeyError::Unreadable { .. })));
        assert!(!format!("{:?}", file("0123456789abcdef0123456789abcdef").unwrap()).contains("abcdef"));
    }
}
