//! Links: what a customer opens or scans.
//!
//! `https://shop.example/@handle?ref=flyer#k=<identity hash>`. The hash pins the business; it stands in the fragment, which is never
//! sent. The bundle is fetched from the link without query and fragment, so a server learns neither.

use core::fmt;

use url::{Host, Url};

use crate::identity::IdentityHash;
use crate::limits;

/// Why a text is not a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// Not a URL, or one with a user name, a password or a broken `ref`.
    #[error("not a link: expected https://shop.example/@handle#k=…")]
    Malformed,
    /// Neither `https` nor `http` to this very machine.
    #[error("a link must begin with https:// (http:// only for this machine)")]
    Scheme,
    /// The path does not end in `/@handle`.
    #[error("the link names no @handle")]
    Handle,
    /// The fragment does not carry exactly one key hash: the link was cut, or is not ours.
    #[error("the link carries no key (#k=…): was it cut?")]
    Key,
    /// `ref` is too long or contains control characters.
    #[error("the link's ref is longer than {} characters", limits::REFERENCE)]
    Reference,
}

/// A parsed link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Without query and fragment.
    base: Url,
    handle: String,
    key: IdentityHash,
    reference: Option<String>,
}

/// Whether a text can be a handle: 1 to 64 of `a-z 0-9 . _ -`.
#[must_use]
pub fn is_handle(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    (1..=limits::HANDLE).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_reference(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= limits::REFERENCE && !text.chars().any(char::is_control)
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

impl Link {
    /// From `origin` (scheme, host, port and perhaps a path), a handle and the business's hash.
    pub fn new(origin: &str, handle: &str, key: IdentityHash, reference: Option<&str>) -> Result<Self, LinkError> {
        let text = format!("{}/@{handle}#k={key}", origin.trim_end_matches('/'));
        let link = Self::parse(&text)?;
        if link.handle != handle || reference.is_some_and(|r| !is_reference(r)) {
            return Err(if link.handle == handle { LinkError::Reference } else { LinkError::Handle });
        }
        Ok(Self { reference: reference.map(str::to_owned), ..link })
    }

    /// Parses what a person typed, clicked or scanned.
    pub fn parse(text: &str) -> Result<Self, LinkError> {
        let mut base = Url::parse(text.trim()).map_err(|_| LinkError::Malformed)?;
        match base.scheme() {
            "https" => {}
            "http" if is_this_machine(&base) => {}
            _ => return Err(LinkError::Scheme),
        }
        if !base.username().is_empty() || base.password().is_some() || base.as_str().len() > limits::URL {
            return Err(LinkError::Malformed);
        }
        let last = base.path_segments().and_then(|mut s| s.next_back()).unwrap_or_default();
        let handle = last.strip_prefix('@').filter(|h| is_handle(h)).ok_or(LinkError::Handle)?.to_owned();
        let key = key_of(base.fragment().unwrap_or_default())?;
        let mut references = base.query_pairs().filter(|(name, _)| name == "ref").map(|(_, value)| value.into_owned());
        let reference = match (references.next(), references.next()) {
            (None, _) => None,
            (Some(one), None) if is_reference(&one) => Some(one),
            _ => return Err(LinkError::Reference),
        };
        base.set_query(None);
        base.set_fragment(None);
        Ok(Self { base, handle, key, reference })
    }

    /// Where the bundle is: the link without query and fragment.
    #[must_use]
    pub fn bundle_url(&self) -> &str {
        self.base.as_str()
    }

    /// The business's handle, without the `@`.
    #[must_use]
    pub fn handle(&self) -> &str {
        &self.handle
    }

    /// The hash that the business's bundle must verify to.
    #[must_use]
    pub fn key(&self) -> &IdentityHash {
        &self.key
    }

    /// What the link says about where it was found; told to the business inside the first message only.
    #[must_use]
    pub fn reference(&self) -> Option<&str> {
        self.reference.as_deref()
    }
}

fn key_of(fragment: &str) -> Result<IdentityHash, LinkError> {
    let mut keys = fragment.split('&').filter_map(|part| part.strip_prefix("k="));
    match (keys.next(), keys.next()) {
        (Some(key), None) => key.parse().map_err(|_| LinkError::Key),
        _ => Err(LinkError::Key),
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.base.clone();
        if let Some(reference) = &self.reference {
            url.query_pairs_mut().append_pair("ref", reference);
        }
        url.set_fragment(Some(&format!("k={}", self.key)));
        f.write_str(url.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";

    #[test]
    fn a_link_survives_text_and_tells_a_server_neither_key_nor_ref() {
        let text = format!("https://shop.example/@rosi?ref=flyer#k={KEY}");
        let link = Link::parse(&text).unwrap();
        assert_eq!(link.to_string(), text);
        assert_eq!(link.bundle_url(), "https://shop.example/@rosi");
        assert_eq!((link.handle(), link.reference()), ("rosi", Some("flyer")));
        assert_eq!(link.key(), &IdentityHash::new([1; 32]));
        let local = Link::new("http://127.0.0.1:4080", "rosi", IdentityHash::new([1; 32]), Some("a b&c=d#e")).unwrap();
        assert_eq!(Link::parse(&local.to_string()), Ok(local));
    }

    #[test]
    fn what_is_not_a_link_is_refused_with_its_reason() {
        for (text, error) in [
            ("shop.example/@rosi".to_owned(), LinkError::Malformed),
            (format!("https://u:p@shop.example/@rosi#k={KEY}"), LinkError::Malformed),
            (format!("http://shop.example/@rosi#k={KEY}"), LinkError::Scheme),
            (format!("javascript:alert(1)/@rosi#k={KEY}"), LinkError::Scheme),
            (format!("https://shop.example/rosi#k={KEY}"), LinkError::Handle),
            (format!("https://shop.example/@#k={KEY}"), LinkError::Handle),
            (format!("https://shop.example/@Rosi#k={KEY}"), LinkError::Handle),
            ("https://shop.example/@rosi".to_owned(), LinkError::Key),
            (format!("https://shop.example/@rosi#k={}", &KEY[..42]), LinkError::Key),
            (format!("https://shop.example/@rosi#k={KEY}&k={KEY}"), LinkError::Key),
            (format!("https://shop.example/@rosi?k={KEY}"), LinkError::Key),
            (format!("https://shop.example/@rosi?ref=a&ref=b#k={KEY}"), LinkError::Reference),
            (format!("https://shop.example/@rosi?ref=%0a#k={KEY}"), LinkError::Reference),
        ] {
            assert_eq!(Link::parse(&text), Err(error), "{text}");
        }
    }

    #[test]
    fn mls_12_handle_and_ref_are_bounded_at_n_and_n_plus_1() {
        let link = |handle: usize, reference: usize| {
            Link::parse(&format!("https://s.example/@{}?ref={}#k={KEY}", "a".repeat(handle), "é".repeat(reference)))
        };
        assert!(link(limits::HANDLE, limits::REFERENCE).is_ok());
        assert_eq!(link(limits::HANDLE + 1, 1), Err(LinkError::Handle));
        assert_eq!(link(1, limits::REFERENCE + 1), Err(LinkError::Reference));
    }

    proptest! {
        #[test]
        fn mls_02_any_text_is_a_link_or_an_error(text in ".{0,200}") {
            if let Ok(link) = Link::parse(&text) {
                prop_assert_eq!(Link::parse(&link.to_string()), Ok(link));
            }
        }
    }
}
