//! What customers see of the gateway: the signed bundle behind a link, and for who opens the link in a browser the app, or where this gateway
//! serves none, a page of text.
//!
//! Nothing here is secret and nothing here is trusted: the app checks the bundle to the hash in the link's fragment, which is never sent to
//! any server. For the same reason the page does not print the whole link: a page that could be forged must not be where the hash comes from.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use crate::app::App;
use crate::business::Business;

/// The bundle's media type.
pub(crate) const BUNDLE: &str = "application/vnd.bulla.bundle";

/// Bundles are renewed daily and valid for two weeks; caches may keep one for a while.
const CACHED: &str = "public, max-age=300";

const TEXT: &str = "text/plain; charset=utf-8";

/// What the listener serves.
#[derive(Clone)]
pub(crate) struct Public {
    /// Whose links lead here.
    pub(crate) businesses: Arc<Vec<Arc<Business>>>,
    /// The app for browsers, if this gateway serves it.
    pub(crate) app: Option<Arc<App>>,
    /// What the app may do.
    pub(crate) policy: Arc<str>,
}

/// The listener's service.
pub(crate) fn router(public: Public) -> Router {
    Router::new().route("/{handle}", get(link)).fallback(file).with_state(public)
}

async fn link(State(public): State<Public>, Path(segment): Path<String>, headers: HeaderMap) -> Response {
    let handle = segment.strip_prefix('@');
    let business = public.businesses.iter().find(|b| Some(b.account.handle.as_str()) == handle);
    let Some(business) = business else { return named(&public, &segment, &headers) };
    match &public.app {
        _ if wants_bundle(&headers) => bundle(business).await,
        Some(app) => app.page(&public.policy, &headers),
        None => page(business),
    }
}

/// A file of the app's.
async fn file(State(public): State<Public>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return nothing();
    }
    named(&public, uri.path().trim_start_matches('/'), &headers)
}

fn named(public: &Public, path: &str, headers: &HeaderMap) -> Response {
    match &public.app {
        // The app's worker keeps the page under this name, for every link.
        Some(app) if path.is_empty() => app.page(&public.policy, headers),
        Some(app) => app.file(path, &public.policy, headers).unwrap_or_else(nothing),
        None => nothing(),
    }
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

fn nothing() -> Response {
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
