//! What the page asks for: a table of routes, like the Cloud API's, and the answers.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bulla_client::endpoint::CommandError;
use serde_json::{Value, json};

use super::limits::{CALLS, CUSTOMERS, POLL, REQUEST, WEBHOOKS};
use super::log::{Replay, ReplayError};
use super::record::By;
use super::{Inner, PREFIX};
use crate::business::Business;
use crate::cloud_api;
use crate::secret::Secret;
use crate::store::{facts, queue};
use crate::webhooks::deliverer::Wake;

/// The header with a session's key.
pub(crate) const KEY: HeaderName = HeaderName::from_static("x-bulla-console");

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Enter,
    Leave,
    State,
    Log,
    Replay,
    Revive,
    Customers,
    Send,
    Token,
    AppSecret,
}

/// Method, path below `/console/api/` (a star is any one segment), action: all there is.
pub(crate) const ROUTES: &[(&str, &str, Action)] = &[
    ("POST", "session", Action::Enter),
    ("DELETE", "session", Action::Leave),
    ("GET", "state", Action::State),
    ("GET", "log", Action::Log),
    ("POST", "webhooks/*/replay", Action::Replay),
    ("POST", "businesses/*/dead-letters", Action::Revive),
    ("GET", "businesses/*/customers", Action::Customers),
    ("POST", "businesses/*/messages", Action::Send),
    // They change nothing. What may be read only by who asks for it is not a GET.
    ("POST", "businesses/*/token", Action::Token),
    ("POST", "businesses/*/app-secret", Action::AppSecret),
];

/// Why the page does not get what it asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("there is nothing here")]
    Unknown,
    #[error("this browser has no session, or it is over: open the link that `bulla console` prints")]
    NoSession,
    #[error("the link was used before, or is older than an hour: `bulla console` prints another")]
    Code,
    #[error("a request has to be JSON of at most {REQUEST} bytes")]
    Form,
    #[error("{0}")]
    Replay(#[from] ReplayError),
    #[error("the business's endpoint does not answer: the gateway is stopping")]
    Stopped(#[from] CommandError),
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::Unknown | Self::Replay(ReplayError::Unknown) => StatusCode::NOT_FOUND,
            Self::NoSession | Self::Code => StatusCode::UNAUTHORIZED,
            Self::Form => StatusCode::BAD_REQUEST,
            Self::Replay(ReplayError::NoReceiver) => StatusCode::CONFLICT,
            Self::Replay(ReplayError::Busy) => StatusCode::TOO_MANY_REQUESTS,
            Self::Stopped(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// For the page, which has words of its own.
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::NoSession => "no-session",
            Self::Code => "code",
            Self::Form => "form",
            Self::Replay(ReplayError::Unknown) => "forgotten",
            Self::Replay(ReplayError::NoReceiver) => "no-receiver",
            Self::Replay(ReplayError::Busy) => "busy",
            Self::Stopped(_) => "stopped",
        }
    }
}

/// Answers a request that the guard has admitted.
pub(crate) async fn answer(inner: &Inner, request: Request) -> Response {
    match dispatch(inner, request).await {
        Ok(response) => response,
        Err(refused) => {
            let error = json!({"error": {"code": refused.code(), "message": refused.to_string()}});
            (refused.status(), Json(error)).into_response()
        }
    }
}

async fn dispatch(inner: &Inner, request: Request) -> Result<Response, Refused> {
    let path = request.uri().path().strip_prefix(PREFIX).and_then(|path| path.strip_prefix("/api/"));
    let path = path.ok_or(Refused::Unknown)?.to_owned();
    let (action, named) = route(request.method(), &path).ok_or(Refused::Unknown)?;
    let cookie = cookie(request.headers(), &inner.cookie).unwrap_or_default();
    let key = request.headers().get(&KEY).and_then(|key| key.to_str().ok()).unwrap_or_default().to_owned();
    if action == Action::Enter {
        return enter(inner, request).await;
    }
    if !inner.sessions.knows(&cookie, &key) {
        return Err(Refused::NoSession);
    }
    match action {
        Action::Enter => Err(Refused::Unknown),
        Action::Leave => {
            inner.sessions.leave(&cookie, &key);
            Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, inner.set_cookie("", "; Max-Age=0"))]).into_response())
        }
        Action::State => state(inner).await,
        Action::Log => {
            let after = request.uri().query().and_then(|query| query.strip_prefix("after=")?.parse().ok());
            log(inner, after.ok_or(Refused::Form)?).await
        }
        Action::Replay => replay(inner, named.parse().map_err(|_| Refused::Unknown)?),
        Action::Revive => revive(inner.business(named)?).await,
        Action::Customers => customers(inner.business(named)?).await,
        Action::Send => send(inner, Arc::clone(inner.business(named)?), request).await,
        Action::Token => {
            let token = inner.business(named)?.endpoint.with_store(|tx| facts::token(tx)).await?;
            Ok(shown(&token.ok_or(Refused::Unknown)?))
        }
        Action::AppSecret => Ok(shown(&inner.business(named)?.account.app_secret)),
    }
}

/// The route of a path, and what stands in the star's place.
fn route<'p>(method: &Method, path: &'p str) -> Option<(Action, &'p str)> {
    ROUTES.iter().filter(|(known, ..)| *known == method.as_str()).find_map(|(_, pattern, action)| {
        let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
        let mut named = "";
        loop {
            match (pattern.next(), path.next()) {
                (None, None) => return Some((*action, named)),
                (Some("*"), Some(segment)) if !segment.is_empty() => named = segment,
                (Some(wanted), Some(segment)) if wanted == segment => {}
                _ => return None,
            }
        }
    })
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
}

/// The body of a request that says it is JSON: a form of a foreign page cannot say so.
async fn body(request: Request) -> Result<Vec<u8>, Refused> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().unwrap_or_default().trim() != "application/json" {
        return Err(Refused::Form);
    }
    let bytes = axum::body::to_bytes(request.into_body(), REQUEST).await.map_err(|_| Refused::Form)?;
    Ok(bytes.into())
}

async fn enter(inner: &Inner, request: Request) -> Result<Response, Refused> {
    let value: Value = serde_json::from_slice(&body(request).await?).map_err(|_| Refused::Form)?;
    let code = value.get("code").and_then(Value::as_str).ok_or(Refused::Form)?;
    let entered = inner.sessions.enter(code).ok_or(Refused::Code)?;
    let cookie = inner.set_cookie(entered.cookie.expose(), "");
    Ok(([(SET_COOKIE, cookie)], Json(json!({"key": entered.key}))).into_response())
}

async fn state(inner: &Inner) -> Result<Response, Refused> {
    let mut businesses = Vec::new();
    for (business, link) in &inner.businesses {
        let account = &business.account;
        businesses.push(json!({
            "handle": account.handle,
            "name": account.name,
            "link": link,
            "phone_number_id": account.phone_number_id,
            "waba_id": account.waba_id,
            "app_id": account.app_id,
            "dead_letters": business.endpoint.with_store(|tx| queue::dead_letters(tx)).await?,
        }));
    }
    let kept = json!({"webhooks": WEBHOOKS, "calls": CALLS});
    Ok(Json(json!({"api_base": inner.api_base, "kept": kept, "businesses": businesses})).into_response())
}

/// What is newer than a revision: at once if there is something, or as soon as there is.
async fn log(inner: &Inner, after: u64) -> Result<Response, Refused> {
    tokio::select! {
        () = inner.recorder.log.newer(after) => {}
        // Nothing for so long: an answer without entries, so that nobody in between thinks that the connection is dead.
        () = tokio::time::sleep(POLL) => {}
        () = inner.stop.cancelled() => {}
    }
    Ok(Json(inner.recorder.log.since(after)).into_response())
}

fn replay(inner: &Inner, id: u64) -> Result<Response, Refused> {
    let (handle, replay) = inner.recorder.log.replay(id)?;
    let (wake, how) = match replay {
        Replay::Waiting(conversation) => (Wake::Row(conversation), "tried"),
        Replay::Again => (Wake::Replay(id), "posted"),
    };
    // Without a deliverer the gateway is stopping.
    let _ = inner.business(&handle)?.wakes.send(wake);
    Ok((StatusCode::ACCEPTED, Json(json!({ "replay": how }))).into_response())
}

/// Queues everything again that nobody took in 7 days.
async fn revive(business: &Business) -> Result<Response, Refused> {
    let mut count = 0;
    loop {
        let whose = business.endpoint.with_store(queue::revive).await?;
        if whose.is_empty() {
            break;
        }
        count += whose.len();
        for id in whose {
            // Without a deliverer the gateway is stopping, and they wait for the next start.
            let _ = business.wakes.send(Wake::Row(id));
        }
        business.came.notify_one();
    }
    Ok((StatusCode::ACCEPTED, Json(json!({ "queued": count }))).into_response())
}

async fn customers(business: &Business) -> Result<Response, Refused> {
    let mut all = business.endpoint.conversations().await?;
    all.sort_by_key(|conversation| std::cmp::Reverse(conversation.last_heard_ms));
    let mut customers: Vec<Value> = Vec::new();
    for conversation in all {
        let user_id = conversation.user_id.as_str();
        // Who resumed on another device has a conversation more.
        if customers.iter().any(|known| known["user_id"] == user_id) {
            continue;
        }
        customers.push(json!({
            "user_id": user_id,
            "name": conversation.peer_name,
            "heard_ms": conversation.last_heard_ms,
        }));
        if customers.len() == CUSTOMERS {
            break;
        }
    }
    Ok(Json(json!({ "customers": customers })).into_response())
}

/// Calls the Cloud API as any program does: the same token, the same checks, the same entry in the log.
async fn send(inner: &Inner, business: Arc<Business>, request: Request) -> Result<Response, Refused> {
    let body = body(request).await?;
    let token = business.endpoint.with_store(|tx| facts::token(tx)).await?.ok_or(Refused::Unknown)?;
    let bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| Refused::Unknown)?;
    let path = format!("/{}/{}/messages", cloud_api::VERSION, business.account.phone_number_id);
    let call = Request::post(path)
        .header(AUTHORIZATION, bearer)
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(body))
        .map_err(|_| Refused::Form)?;
    let api = inner.api.clone();
    Ok(inner.recorder.record(By::Console, call, |call| cloud_api::answer(api, call)).await)
}

fn shown(secret: &Secret) -> Response {
    Json(json!({ "secret": secret })).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new route changes this list, on purpose.
    #[test]
    fn gw_01_these_are_all_routes() {
        let list: Vec<String> = ROUTES.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
        assert_eq!(
            list,
            [
                "POST session",
                "DELETE session",
                "GET state",
                "GET log",
                "POST webhooks/*/replay",
                "POST businesses/*/dead-letters",
                "GET businesses/*/customers",
                "POST businesses/*/messages",
                "POST businesses/*/token",
                "POST businesses/*/app-secret",
            ]
        );
    }

    #[test]
    fn paths_are_matched_whole() {
        assert_eq!(route(&Method::POST, "businesses/shop/token"), Some((Action::Token, "shop")));
        assert_eq!(route(&Method::GET, "log"), Some((Action::Log, "")));
        for path in
            ["", "log/", "businesses//token", "businesses/shop", "businesses/shop/token/x", "webhooks/1/2/replay"]
        {
            assert_eq!(route(&Method::POST, path), None, "{path}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; bulla-console-7412=x=y"));
        headers.append(COOKIE, HeaderValue::from_static("bulla-console-7413=z"));
        assert_eq!(cookie(&headers, "bulla-console-7412").as_deref(), Some("x=y"));
        assert_eq!(cookie(&headers, "bulla-console-7413").as_deref(), Some("z"));
        assert_eq!(cookie(&headers, "bulla-console"), None);
    }
}
