//! The developer's console: what goes in and out of a business's API, seen live, and a composer to try things with.
//!
//! It is for who runs the gateway, on the machine that it runs on: it shows what customers write and can write in the business's name, so
//! it asks for more than the API's token would. The page comes from the API's own listener, which is on loopback; anywhere else only if
//! its address was said ([`crate::Config::console_origin`]). Three things stand between it and others: [`guard`] refuses what another
//! origin sends, [`sessions`] knows who had a one-time code from the owner of the gateway's folder ([`crate::env`]), and the page itself
//! runs under a policy that lets it load its own files and ask its own origin.
//!
//! ```text
//!  call ──▶ record ──▶ cloud_api        deliverer ──▶ attempts ─┐
//!              └──────────▶ log ◀── follow ◀── queue             │
//!                            │ ◀──────────────────────────────────┘
//!                  api: long poll, replay, send ──▶ record ──▶ cloud_api
//! ```

pub(crate) mod api;
mod follow;
pub(crate) mod guard;
pub(crate) mod limits;
pub(crate) mod log;
pub(crate) mod record;
mod redact;
pub(crate) mod sessions;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::business::Business;
use crate::cloud_api;
use crate::secret::Secret;
use api::Refused;
use guard::{Asked, Guard};
use record::{By, Recorder};
use sessions::Sessions;

pub(crate) use follow::run as follow;

/// Where it is.
pub(crate) const PREFIX: &str = "/console";

/// What the page may do: run its own files and ask its own origin, nothing else. Nothing is made of strings: no Trusted Types policy exists.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// A console that is served.
#[derive(Clone)]
pub(crate) struct Console(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) app: App,
    pub(crate) guard: Guard,
    pub(crate) sessions: Sessions,
    pub(crate) recorder: Recorder,
    pub(crate) api: cloud_api::Api,
    /// Each with its link for customers.
    pub(crate) businesses: Vec<(Arc<Business>, String)>,
    pub(crate) api_base: String,
    /// The cookie's name: the port is in it, because cookies are a host's, and two gateways may run on one.
    pub(crate) cookie: String,
    pub(crate) stop: CancellationToken,
}

impl Inner {
    fn business(&self, handle: &str) -> Result<&Arc<Business>, Refused> {
        let found = self.businesses.iter().find(|(business, _)| business.account.handle == handle);
        found.map(|(business, _)| business).ok_or(Refused::Unknown)
    }

    /// For this path and this site alone, and no script.
    fn set_cookie(&self, value: &str, more: &str) -> String {
        let secure = if self.guard.is_secure() { "; Secure" } else { "" };
        format!("{}={value}; Path={PREFIX}; HttpOnly; SameSite=Strict{secure}{more}", self.cookie)
    }
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").field("guard", &self.0.guard).finish_non_exhaustive()
    }
}

/// The cookie's name at an address.
pub(crate) fn cookie_name(bound: SocketAddr) -> String {
    format!("bulla-console-{}", bound.port())
}

impl Console {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// A link that opens the console once.
    pub(crate) fn link(&self) -> Secret {
        Secret::new(format!("{}{PREFIX}#code={}", self.0.guard.origin(), self.0.sessions.code().expose()))
    }
}

/// The listener's service: the console, and the Cloud API, whose calls are written down.
pub(crate) fn router(console: Console) -> Router {
    Router::new()
        .route(PREFIX, axum::routing::any(serve))
        .route("/console/", axum::routing::any(serve))
        .route("/console/{*rest}", axum::routing::any(serve))
        .fallback(call)
        .with_state(console)
}

async fn call(State(console): State<Console>, request: Request) -> Response {
    let api = console.0.api.clone();
    console.0.recorder.record(By::Program, request, |request| cloud_api::answer(api, request)).await
}

async fn serve(State(console): State<Console>, request: Request) -> Response {
    let inner = &console.0;
    let path = request.uri().path().strip_prefix(PREFIX).unwrap_or_default().trim_start_matches('/').to_owned();
    let asked = if path == "api" || path.starts_with("api/") { Asked::Api } else { Asked::File };
    let (parts, body) = request.into_parts();
    if let Err(foreign) = inner.guard.admit(asked, &parts.method, &parts.uri, &parts.headers) {
        return closed((foreign.status(), format!("{foreign}\n")).into_response());
    }
    let is_read = matches!(parts.method, Method::GET | Method::HEAD);
    match asked {
        Asked::Api => closed(api::answer(inner, Request::from_parts(parts, body)).await),
        Asked::File if !is_read => closed(StatusCode::METHOD_NOT_ALLOWED.into_response()),
        Asked::File if path.is_empty() => own(inner.app.page(POLICY, &parts.headers)),
        Asked::File => match inner.app.file(&path, POLICY, &parts.headers) {
            Some(file) => own(file),
            None => closed((StatusCode::NOT_FOUND, "There is nothing here.\n").into_response()),
        },
    }
}

/// A file of the page's: nobody else's page may load it.
fn own(mut response: Response) -> Response {
    let name = HeaderName::from_static("cross-origin-resource-policy");
    response.headers_mut().insert(name, HeaderValue::from_static("same-origin"));
    response
}

/// An answer that is nobody's to keep, to show as a page, or to load.
fn closed(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("content-security-policy"), "default-src 'none'; frame-ancestors 'none'"),
        (HeaderName::from_static("referrer-policy"), "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("text/plain; charset=utf-8"));
    own(response)
}
