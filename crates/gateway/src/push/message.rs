//! One push message: encrypted to the device (RFC 8291), with who sends it (VAPID, RFC 8292), as a push service takes it (RFC 8030).

use data_encoding::BASE64URL_NOPAD;
use jwt_compact::alg::Es256;
use jwt_compact::{AlgorithmExt as _, Claims, Header};
use p256::ecdsa::SigningKey;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::entropy::Entropy;
use crate::secret::Secret;
use crate::store::pushes::{Device, WORTH_MS};

/// What every push says: that there is something. Who from and what, the device hears in the conversation.
const PAYLOAD: &[u8] = br#"{"bulla":1}"#;

/// How long a token counts. RFC 8292 allows 24 h.
const TOKEN_SECS: u64 = 12 * 3_600;

/// A push that was not taken to the device is replaced by the next one under the same topic (RFC 8030, §5.4): one is enough.
const TOPIC: &str = "bulla";

/// Why no push can be made for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    /// What the device gave is not a point of P-256.
    #[error("its key is not a point of P-256")]
    Key,
    /// What the device gave is not an address.
    #[error("its address is not a URL")]
    Address,
    /// Our own misuse.
    #[error("the message could not be made")]
    Crypto,
}

/// The key under which a business sends pushes: push services take them from nobody else for a device that subscribed with it.
#[derive(Clone)]
pub(crate) struct PushKey(SigningKey);

impl PushKey {
    pub(crate) fn generate(entropy: &Entropy) -> Self {
        Self(SigningKey::random(&mut entropy.clone()))
    }

    /// From the store; `None` if it is not a key.
    pub(crate) fn from_stored(stored: &Secret) -> Option<Self> {
        let bytes = zeroize::Zeroizing::new(BASE64URL_NOPAD.decode(stored.expose().as_bytes()).ok()?);
        SigningKey::from_slice(&bytes).ok().map(Self)
    }

    pub(crate) fn to_stored(&self) -> Secret {
        Secret::new(BASE64URL_NOPAD.encode(&zeroize::Zeroizing::new(self.0.to_bytes())))
    }

    /// The point, uncompressed: what devices subscribe with.
    pub(crate) fn public(&self) -> [u8; 65] {
        let mut point = [0; 65];
        point.copy_from_slice(self.0.verifying_key().to_encoded_point(false).as_bytes());
        point
    }

    /// The value of `Authorization`: a JWT (ES256) for the push service's origin alone.
    fn authorization(&self, endpoint: &Url, contact: &str, now_s: u64) -> Result<String, MessageError> {
        let claims = serde_json::json!({
            "aud": endpoint.origin().ascii_serialization(),
            "exp": now_s + TOKEN_SECS,
            "sub": contact,
        });
        let claims: Claims<serde_json::Value> = serde_json::from_value(claims).map_err(|_| MessageError::Crypto)?;
        let header = Header::empty().with_token_type("JWT");
        let token = Es256.token(&header, &claims, &self.0).map_err(|_| MessageError::Crypto)?;
        Ok(format!("vapid t={token}, k={}", BASE64URL_NOPAD.encode(&self.public())))
    }
}

impl std::fmt::Debug for PushKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PushKey(redacted)")
    }
}

/// The body and headers of one push. Every one looks like any other.
pub(crate) fn message(
    device: &Device,
    key: &PushKey,
    contact: &str,
    now_s: u64,
) -> Result<(Vec<u8>, HeaderMap), MessageError> {
    let endpoint = Url::parse(device.endpoint.expose()).map_err(|_| MessageError::Address)?;
    let point = p256::PublicKey::from_sec1_bytes(&*device.p256dh).map_err(|_| MessageError::Key)?;
    let body =
        web_push_native::encrypt(PAYLOAD.to_vec(), &point, &(*device.auth).into()).map_err(|_| MessageError::Crypto)?;
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| MessageError::Address);
    let headers = [
        (AUTHORIZATION, value(&key.authorization(&endpoint, contact, now_s)?)?),
        (CONTENT_ENCODING, HeaderValue::from_static("aes128gcm")),
        (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (HeaderName::from_static("ttl"), HeaderValue::from(WORTH_MS / 1_000)),
        // Somebody has written to a person: it should not wait for the next time the phone is charged.
        (HeaderName::from_static("urgency"), HeaderValue::from_static("high")),
        (HeaderName::from_static("topic"), HeaderValue::from_static(TOPIC)),
    ];
    Ok((body, headers.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use p256::ecdsa::signature::Verifier as _;
    use p256::ecdsa::{Signature, VerifyingKey};
    use p256::elliptic_curve::sec1::ToEncodedPoint as _;

    fn decode(text: &str) -> Vec<u8> {
        BASE64URL_NOPAD.decode(text.as_bytes()).unwrap()
    }

    fn device(secret: &p256::SecretKey, endpoint: &str) -> Device {
        let point = secret.public_key().to_encoded_point(false);
        let p256dh: [u8; 65] = point.as_bytes().try_into().unwrap();
        Device { name: "phone".into(), endpoint: Secret::new(endpoint), p256dh: p256dh.into(), auth: [7; 16].into() }
    }

    /// RFC 8291, appendix A: the library opens what the RFC has sealed.
    #[test]
    fn the_rfcs_example_opens() {
        let secret = p256::SecretKey::from_slice(&decode("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94")).unwrap();
        let auth: [u8; 16] = decode("BTBZMqHH6r4Tts7J_aSIgg").try_into().unwrap();
        let sealed = decode(
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN",
        );
        let opened = web_push_native::decrypt(sealed, &secret, &auth.into()).unwrap();
        assert_eq!(opened, b"When I grow up, I want to be a watermelon");
    }

    #[test]
    fn a_push_opens_at_the_device_and_is_signed_for_its_push_service() {
        let entropy = Entropy::new(Box::new(rand_core::OsRng));
        let key = PushKey::generate(&entropy);
        let secret = p256::SecretKey::random(&mut rand_core::OsRng);
        let device = device(&secret, "https://push.example:8443/wake/canary?x=y");
        let (body, headers) = message(&device, &key, "https://shop.example", 1_000).unwrap();
        let opened = web_push_native::decrypt(body.clone(), &secret, &[7; 16].into()).unwrap();
        assert_eq!(opened, PAYLOAD);

        let authorization = headers[AUTHORIZATION].to_str().unwrap();
        let (token, k) = authorization.strip_prefix("vapid t=").unwrap().split_once(", k=").unwrap();
        assert_eq!(decode(k), key.public());
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let verifying = VerifyingKey::from_sec1_bytes(&key.public()).unwrap();
        verifying.verify(signed.as_bytes(), &Signature::from_slice(&decode(signature)).unwrap()).unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let json = |part: &str| serde_json::from_slice::<serde_json::Value>(&decode(part)).unwrap();
        assert_eq!(json(header), serde_json::json!({ "typ": "JWT", "alg": "ES256" }));
        let expected =
            serde_json::json!({ "aud": "https://push.example:8443", "exp": 44_200, "sub": "https://shop.example" });
        assert_eq!(json(claims), expected);
        // Not the address of the one device, to whom the token is shown.
        assert!(!format!("{}", json(claims)).contains("canary"));

        let again = message(&device, &key, "https://shop.example", 1_000).unwrap().0;
        assert_eq!(again.len(), body.len(), "every push is as long as any other");
        assert_ne!(again, body, "under a key of its own");
    }

    #[test]
    fn a_key_survives_the_store() {
        let key = PushKey::generate(&Entropy::new(Box::new(rand_core::OsRng)));
        assert_eq!(PushKey::from_stored(&key.to_stored()).unwrap().public(), key.public());
        for bad in ["", "x", "AAAA", &BASE64URL_NOPAD.encode(&[0; 32]), &BASE64URL_NOPAD.encode(&[255; 32])] {
            assert!(PushKey::from_stored(&Secret::new(bad)).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_no_device_can_have_given_is_refused() {
        let key = PushKey::generate(&Entropy::new(Box::new(rand_core::OsRng)));
        let good = device(&p256::SecretKey::random(&mut rand_core::OsRng), "https://push.example/");
        let no_point = Device { p256dh: [4; 65].into(), ..good.clone() };
        assert_eq!(message(&no_point, &key, "https://a", 0).map(drop), Err(MessageError::Key));
        let no_url = Device { endpoint: Secret::new("push"), ..good };
        assert_eq!(message(&no_url, &key, "https://a", 0).map(drop), Err(MessageError::Address));
    }
}
