//! Lists in pieces: `limit`, `after`, `before`, and the whole address of the next piece.
//!
//! Some clients follow that address as it is, without their token. So it carries a pass: signed, good for an hour, for reading this one list and
//! nothing else. The token itself does not stand in it: addresses end up in logs.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::Uri;
use axum::http::header::HOST;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::error::ApiError;
use super::params::Params;
use crate::entropy::Entropy;

/// How long a pass is good.
const PASS_SECS: u64 = 3_600;

/// Entries of a piece unasked, as the Cloud API has it.
const USUAL: usize = 25;

/// Entries of a piece, at most. Who asks for more gets so many, and an address for the rest.
const MOST: usize = 500;

/// What signs passes: made when the gateway starts.
#[derive(Clone)]
pub(crate) struct PassKey(Arc<[u8]>);

impl std::fmt::Debug for PassKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PassKey(redacted)")
    }
}

impl PassKey {
    /// From randomness.
    pub(crate) fn new(entropy: &Entropy) -> Self {
        Self(entropy.hex(32).into_bytes().into())
    }

    fn mac(&self, waba: &str, until: u64) -> Option<Hmac<Sha256>> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        Some(mac.chain_update(format!("bulla/1/page\0{waba}\0{until}")))
    }

    /// A pass for the lists of an account.
    pub(crate) fn pass(&self, waba: &str, now_ms: u64) -> String {
        let until = now_ms / 1_000 + PASS_SECS;
        let mac = self.mac(waba, until).map(|mac| HEXLOWER.encode(&mac.finalize().into_bytes()));
        format!("page.{until}.{}", mac.unwrap_or_default())
    }

    /// Whether it is one.
    pub(crate) fn accepts(&self, waba: &str, now_ms: u64, pass: &str) -> bool {
        let Some((until, mac)) = pass.strip_prefix("page.").and_then(|rest| rest.split_once('.')) else { return false };
        let (Ok(until), Ok(mac)) = (until.parse::<u64>(), HEXLOWER.decode(mac.as_bytes())) else { return false };
        until > now_ms / 1_000 && self.mac(waba, until).is_some_and(|known| known.verify_slice(&mac).is_ok())
    }
}

/// Where a request came to, as its caller sees it.
pub(crate) fn origin(headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|v| v.to_str().ok()).unwrap_or("localhost");
    // A proxy that ends TLS says so.
    let https = headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    format!("{}://{host}", if https { "https" } else { "http" })
}

/// The address of a list, and what may be read with it.
pub(crate) struct Place<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) uri: &'a Uri,
    /// See [`PassKey::pass`].
    pub(crate) pass: String,
}

impl Place<'_> {
    /// The same list, at another place: what was asked for besides stays.
    fn at(&self, limit: usize, end: &str, cursor: &str) -> String {
        let asked = url::form_urlencoded::parse(self.uri.query().unwrap_or_default().as_bytes());
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in asked {
            if !matches!(&*name, "access_token" | "after" | "before" | "limit") {
                query.append_pair(&name, &value);
            }
        }
        query.append_pair("limit", &limit.to_string());
        query.append_pair(end, cursor);
        query.append_pair("access_token", &self.pass);
        format!("{}{}?{}", origin(self.headers), self.uri.path(), query.finish())
    }
}

/// Cuts a piece out of a list whose entries' ids fall: the piece, and `paging` for the answer.
pub(crate) fn cut<T>(
    mut all: Vec<T>,
    id: impl Fn(&T) -> u64,
    params: &Params,
    place: &Place<'_>,
) -> Result<(Vec<T>, Option<Value>), ApiError> {
    let root = params.root();
    let text =
        |name: &str| root.text(name).map_err(|_| ApiError::parameter(&format!("Param {name} must be a string.")));
    let limit = match text("limit")? {
        None => USUAL,
        Some(limit) => match limit.parse::<usize>() {
            Ok(limit) if limit > 0 => limit.min(MOST),
            _ => return Err(ApiError::parameter("Param limit must be a number greater than 0.")),
        },
    };
    let cursor = |name: &str| -> Result<Option<u64>, ApiError> {
        let wrong = || ApiError::parameter(&format!("Param {name} is not a cursor of this list."));
        let Some(cursor) = text(name)?.filter(|cursor| !cursor.is_empty()) else { return Ok(None) };
        let digits = BASE64URL_NOPAD.decode(cursor.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        digits.and_then(|digits| digits.parse().ok()).map(Some).ok_or_else(wrong)
    };
    let (after, before) = (cursor("after")?, cursor("before")?);
    let from = match (after, before) {
        (Some(after), _) => all.iter().take_while(|entry| id(entry) >= after).count(),
        (None, Some(before)) => all.iter().take_while(|entry| id(entry) > before).count().saturating_sub(limit),
        (None, None) => 0,
    };
    let mut piece = all.split_off(from.min(all.len()));
    let rest = piece.split_off(limit.min(piece.len()));
    let Some((first, last)) = piece.first().zip(piece.last()) else { return Ok((piece, None)) };
    let [first, last] = [first, last].map(|entry| BASE64URL_NOPAD.encode(id(entry).to_string().as_bytes()));
    let mut paging = json!({"cursors": {"before": first, "after": last}});
    if let Value::Object(paging) = &mut paging {
        if !rest.is_empty() {
            paging.insert("next".into(), place.at(limit, "after", &last).into());
        }
        if !all.is_empty() {
            paging.insert("previous".into(), place.at(limit, "before", &first).into());
        }
    }
    Ok((piece, Some(paging)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn cut_at(query: &str, count: u64) -> Result<(Vec<u64>, Option<Value>), ApiError> {
        let (parts, ()) = Request::get(format!("/v23.0/1/list?{query}")).body(()).unwrap().into_parts();
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "api.example".parse().unwrap());
        headers.insert("x-forwarded-proto", "https".parse().unwrap());
        let place = Place { headers: &headers, uri: &parts.uri, pass: "pass".into() };
        cut((1..=count).rev().collect(), |n| *n, &Params::of_query(&parts), &place)
    }

    /// Every entry once, in order, whichever way the list is walked.
    #[test]
    fn a_list_is_walked_by_its_own_addresses() {
        let (mut seen, mut query) = (Vec::new(), "limit=3&name=a%26b&access_token=secret".to_owned());
        let last = loop {
            let (piece, paging) = cut_at(&query, 10).unwrap();
            seen.extend(piece);
            let paging = paging.unwrap();
            let Some(next) = paging["next"].as_str() else { break paging };
            assert!(next.starts_with("https://api.example/v23.0/1/list?name=a%26b&limit=3&after="), "{next}");
            assert!(next.ends_with("&access_token=pass") && !next.contains("secret"), "{next}");
            query = next.split_once('?').unwrap().1.to_owned();
        };
        assert_eq!(seen, (1..=10).rev().collect::<Vec<u64>>());
        let previous = last["previous"].as_str().unwrap().split_once('?').unwrap().1;
        assert_eq!(cut_at(previous, 10).unwrap().0, [4, 3, 2]);
        assert_eq!(cut_at("", 0).unwrap(), (Vec::new(), None));
    }

    #[test]
    fn wrong_places_are_refused_and_large_ones_are_cut() {
        for query in ["limit=0", "limit=-1", "limit=x", "after=!", "before=MQ%3D%3D", "after=eA"] {
            assert!(cut_at(query, 3).is_err(), "{query}");
        }
        assert_eq!(cut_at("limit=99999999", 1_000).unwrap().0.len(), MOST);
        assert_eq!(cut_at("", 100).unwrap().0.len(), USUAL);
    }

    #[test]
    fn a_pass_is_for_one_account_for_an_hour() {
        let entropy = Entropy::new(Box::new(rand_core::OsRng));
        let key = PassKey::new(&entropy);
        let pass = key.pass("1", 5_000);
        assert!(key.accepts("1", 5_000, &pass) && key.accepts("1", 3_604_000, &pass));
        assert!(!key.accepts("2", 5_000, &pass) && !key.accepts("1", 3_605_000, &pass));
        assert!(!PassKey::new(&entropy).accepts("1", 5_000, &pass));
        for wrong in ["", "page.", "page.9999999999.", "page.x.00"] {
            assert!(!key.accepts("1", 5_000, wrong), "{wrong}");
        }
    }
}
