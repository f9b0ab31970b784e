//! A Web Push subscription (RFC 8030), which a customer's device gives to the business: inside the conversation, so that the relay never
//! learns that somebody is reached there.
//!
//! ```text
//! [version, null]                         not any more
//! [version, [endpoint, p256dh, auth]]     from now on there
//! ```

use crate::cbor::{self, Malformed, Writer};
use crate::content::ContentError;
use crate::limits;

const VERSION: u64 = 1;

/// Length of a P-256 point as RFC 8291 and RFC 8292 write it: uncompressed.
pub const PUSH_KEY: usize = 65;

/// Where and how a device is woken (the Push API's `PushSubscription`).
#[derive(Clone, PartialEq, Eq)]
pub struct PushSubscription {
    /// The push service's `https` URL for this device. A secret: whoever has it can send there. Nobody has looked at it yet.
    pub endpoint: String,
    /// The device's P-256 key, uncompressed. Not yet known to be a point.
    pub p256dh: [u8; PUSH_KEY],
    /// What authenticates pushes to the device.
    pub auth: [u8; 16],
}

impl core::fmt::Debug for PushSubscription {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("PushSubscription(redacted)")
    }
}

impl PushSubscription {
    pub(crate) fn fits(&self) -> bool {
        self.endpoint.len() <= limits::PUSH_ENDPOINT
    }
}

pub(crate) fn encode(subscription: Option<&PushSubscription>) -> Vec<u8> {
    let w = Writer::new().array(2).uint(VERSION);
    match subscription {
        None => w.null(),
        Some(PushSubscription { endpoint, p256dh, auth }) => w.array(3).text(endpoint).bytes(p256dh).bytes(auth),
    }
    .finish()
}

/// `None`: of a later version.
pub(crate) fn read(content: &[u8]) -> Result<Option<Option<PushSubscription>>, ContentError> {
    let mut r = cbor::Reader::new(content)?;
    let len = r.list()?;
    if len == 0 || r.uint()? != VERSION {
        return Ok(None);
    }
    let more = len.checked_sub(2).ok_or(ContentError::Malformed)?;
    let subscription = r.nullable(|r| {
        let more = r.array(3)?;
        let endpoint = r.text(limits::PUSH_ENDPOINT)?.to_owned();
        let subscription = PushSubscription { endpoint, p256dh: r.exact()?, auth: r.exact()? };
        r.skip_rest(more)?;
        Ok::<_, Malformed>(subscription)
    })?;
    r.skip_rest(more)?;
    Ok(Some(subscription))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{Body, Content};

    fn subscription(len: usize) -> PushSubscription {
        PushSubscription { endpoint: "x".repeat(len), p256dh: [4; PUSH_KEY], auth: [9; 16] }
    }

    fn content(subscription: Option<PushSubscription>) -> Content {
        Content::new([7; 16], Body::Push(subscription.map(Box::new)))
    }

    #[test]
    fn what_is_given_and_taken_back_decodes_to_the_same() {
        for content in [content(None), content(Some(subscription(0))), content(Some(subscription(200)))] {
            let bytes = content.encode().unwrap();
            assert!(content.body.is_for_programs() && !content.stands_alone());
            assert_eq!(Content::decode(&bytes), Ok(content));
            for len in 0..bytes.len() {
                assert!(Content::decode(&bytes[..len]).is_err());
            }
        }
    }

    #[test]
    fn mls_12_an_endpoint_is_bounded_at_n_and_n_plus_1() {
        let largest = content(Some(subscription(limits::PUSH_ENDPOINT)));
        assert_eq!(Content::decode(&largest.encode().unwrap()), Ok(largest));
        let over = subscription(limits::PUSH_ENDPOINT + 1);
        assert_eq!(content(Some(over.clone())).encode(), Err(ContentError::Limit));
        assert!(read(&encode(Some(&over))).is_err());
    }

    #[test]
    fn keys_of_another_length_are_malformed_and_a_later_version_is_kept() {
        let with = |key: &[u8], auth: &[u8]| {
            read(&Writer::new().array(2).uint(VERSION).array(3).text("https://a").bytes(key).bytes(auth).finish())
        };
        assert!(with(&[4; PUSH_KEY], &[1; 16]).is_ok());
        assert!(with(&[4; PUSH_KEY - 1], &[1; 16]).is_err());
        assert!(with(&[4; PUSH_KEY], &[1; 17]).is_err());
        assert_eq!(read(&Writer::new().array(2).uint(2).uint(0).finish()), Ok(None));
        assert_eq!(read(&Writer::new().array(0).finish()), Ok(None));
    }

    #[test]
    fn gw_16_debug_shows_no_endpoint() {
        let text = format!("{:?}", content(Some(subscription(9))));
        assert!(!text.contains("xxx"), "{text}");
    }
}
