//! What customers see of the gateway: the signed bundle behind a link, and a page for who opens the link without an app.
//!
//! Nothing here is secret and nothing here is trusted: the app checks the bundle to the hash in the link's fragment, which is never sent to
//! any server. For the same reason the page does not print the whole link: a page that could be forged must not be where the hash comes from.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use crate::business::Business;

/// The bundle's media type.
pub(crate) const BUNDLE: &str = "application/vnd.bulla.bundle";

/// Bundles are renewed daily and valid for two weeks; caches may keep one for a while.
const CACHED: &str = "public, max-age=300";

const TEXT: &str = "text/plain; charset=utf-8";

type Businesses = Arc<Vec<Arc<Business>>>;

/// The listener's service.
pub(crate) fn router(businesses: Businesses) -> Router {
    Router::new().route("/{handle}", get(link)).fallback(nothing).with_state(businesses)
}

async fn link(State(businesses): State<Businesses>, Path(segment): Path<String>, headers: HeaderMap) -> Response {
    let handle = segment.strip_prefix('@');
    let business = businesses.iter().find(|b| Some(b.account.handle.as_str()) == handle);
    let Some(business) = business else { return nothing().await };
    if wants_bundle(&headers) { bundle(business).await } else { page(business) }
}

async fn bundle(business: &Business) -> Response {
    match business.endpoint.business_card().await.ok().and_then(|card| card.bundle) {
        Some(bundle) => answer(StatusCode::OK, BUNDLE, CACHED, bundle),
        None => {
            let words = "The business is just starting; try again in a moment.\n".to_owned();
            let mut response = answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "no-store", words.into_bytes());
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
    }
}

fn page(business: &Business) -> Response {
    let words = format!(
        "{name}\n\nWrite to {name}, end to end encrypted, from a terminal:\n\n    bulla chat 'LINK'\n\n\
         where LINK is this page's whole address, with everything behind the #: that part names the business's key, \
         and your browser has not sent it here.\n",
        name = business.account.name
    );
    answer(StatusCode::OK, TEXT, "no-store", words.into_bytes())
}

async fn nothing() -> Response {
    answer(StatusCode::NOT_FOUND, TEXT, "no-store", b"There is nothing here.\n".to_vec())
}

fn answer(status: StatusCode, kind: &'static str, cache: &'static str, body: Vec<u8>) -> Response {
    let headers: [(HeaderName, &'static str); 6] = [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, cache),
        (VARY, "accept"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("content-security-policy"), "default-src 'none'"),
        (HeaderName::from_static("referrer-policy"), "no-referrer"),
    ];
    (status, headers, body).into_response()
}

fn wants_bundle(headers: &HeaderMap) -> bool {
    let kinds = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    kinds.into_iter().any(|kind| kind.split(';').next().is_some_and(|k| k.trim().eq_ignore_ascii_case(BUNDLE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_are_for_who_asks_for_them() {
        for (accept, expected) in [
            ("application/vnd.bulla.bundle", true),
            ("text/html, Application/Vnd.Bulla.Bundle;q=0.9", true),
            ("text/html,*/*", false),
            ("application/vnd.bulla.bundle2", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(wants_bundle(&headers), expected, "{accept}");
        }
        assert!(!wants_bundle(&HeaderMap::new()));
    }
}
