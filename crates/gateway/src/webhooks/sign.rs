//! The signatures that receivers verify: HMAC over exactly the bytes of the body, keyed with the app secret.

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::Sha256;

use crate::secret::Secret;

/// Header with [`sha256()`].
pub(crate) const HEADER: &str = "x-hub-signature-256";
/// Header with [`sha1()`].
pub(crate) const LEGACY_HEADER: &str = "x-hub-signature";

/// `sha256=` and the MAC in lowercase hexadecimal.
pub(crate) fn sha256(secret: &Secret, body: &[u8]) -> String {
    // HMAC takes keys of any length; an error cannot happen, and an empty signature would verify nowhere.
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) else { return String::new() };
    format!("sha256={}", HEXLOWER.encode(&mac.chain_update(body).finalize().into_bytes()))
}

/// `sha1=` and the MAC in lowercase hexadecimal: for receivers that know only this one.
pub(crate) fn sha1(secret: &Secret, body: &[u8]) -> String {
    let Ok(mac) = Hmac::<Sha1>::new_from_slice(secret.expose().as_bytes()) else { return String::new() };
    format!("sha1={}", HEXLOWER.encode(&mac.chain_update(body).finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231 test case 2, RFC 2202 test case 2.
    #[test]
    fn vectors() {
        let (key, data) = (Secret::new("Jefe"), b"what do ya want for nothing?");
        assert_eq!(sha256(&key, data), "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        assert_eq!(sha1(&key, data), "sha1=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
    }
}
