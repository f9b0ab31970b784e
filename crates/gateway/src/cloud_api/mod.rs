//! The REST surface that WhatsApp SDKs take for the Cloud API.
//!
//! Every request goes the same way: version and trailing slash are taken off the path, the token names the business, the first
//! segment names one of its nodes, [`ROUTES`] names what happens. What is not in that table does not exist; there are no other
//! routes on this listener (GW-01). A node of another business is answered like one that does not exist.

pub(crate) mod at;
mod blocks;
mod consents;
mod contents;
mod error;
pub(crate) mod fields;
pub(crate) mod interactive;
pub(crate) mod media;
pub(crate) mod message;
mod nodes;
pub(crate) mod paging;
pub(crate) mod params;
mod send;
mod subscriptions;
mod template_lint;
pub(crate) mod template_params;
mod templates;

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;

use crate::business::Business;
use crate::console::record;
use crate::entropy::Entropy;
use crate::template::FIRST_ID;
use error::ApiError;
use params::Params;

/// What is said of the API's version to clients that do not name one.
pub(crate) const VERSION: &str = "v23.0";

/// The nodes of a business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Phone,
    Waba,
    App,
    /// A file.
    Media,
    Template,
}

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Messages,
    UploadMedia,
    Media,
    DeleteMedia,
    ListBlocked,
    Block,
    Unblock,
    Consents,
    Phone,
    ConfigurePhone,
    Waba,
    PhoneNumbers,
    ListSubscribedApps,
    SubscribeApp,
    UnsubscribeApp,
    ListSubscriptions,
    SetSubscription,
    DeleteSubscription,
    ListTemplates,
    CreateTemplate,
    UpsertTemplates,
    DeleteTemplates,
    Template,
    EditTemplate,
    UnpauseTemplate,
}

/// Method, node, edge, action: all there is.
const ROUTES: &[(&str, Node, &str, Action)] = &[
    ("POST", Node::Phone, "messages", Action::Messages),
    ("POST", Node::Phone, "media", Action::UploadMedia),
    ("GET", Node::Media, "", Action::Media),
    ("DELETE", Node::Media, "", Action::DeleteMedia),
    ("GET", Node::Phone, "block_users", Action::ListBlocked),
    ("POST", Node::Phone, "block_users", Action::Block),
    ("DELETE", Node::Phone, "block_users", Action::Unblock),
    ("GET", Node::Phone, "consents", Action::Consents),
    ("GET", Node::Phone, "", Action::Phone),
    ("POST", Node::Phone, "", Action::ConfigurePhone),
    ("GET", Node::Waba, "", Action::Waba),
    ("GET", Node::Waba, "phone_numbers", Action::PhoneNumbers),
    ("GET", Node::Waba, "subscribed_apps", Action::ListSubscribedApps),
    ("POST", Node::Waba, "subscribed_apps", Action::SubscribeApp),
    ("DELETE", Node::Waba, "subscribed_apps", Action::UnsubscribeApp),
    ("GET", Node::App, "subscriptions", Action::ListSubscriptions),
    ("POST", Node::App, "subscriptions", Action::SetSubscription),
    ("DELETE", Node::App, "subscriptions", Action::DeleteSubscription),
    ("GET", Node::Waba, "message_templates", Action::ListTemplates),
    ("POST", Node::Waba, "message_templates", Action::CreateTemplate),
    ("DELETE", Node::Waba, "message_templates", Action::DeleteTemplates),
    ("POST", Node::Waba, "upsert_message_templates", Action::UpsertTemplates),
    ("GET", Node::Template, "", Action::Template),
    ("POST", Node::Template, "", Action::EditTemplate),
    ("POST", Node::Template, "unpause", Action::UnpauseTemplate),
];

/// Whose token it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// The access token.
    User,
    /// `APP_ID|APP_SECRET`: for the app's own settings.
    App,
    /// What stands in the address of a list's next piece: for reading that list.
    Pass,
}

/// What all requests share.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) businesses: Arc<Vec<Arc<Business>>>,
    pub(crate) entropy: Entropy,
    pub(crate) urls: media::UrlKey,
    pub(crate) passes: paging::PassKey,
}

/// The listener's service.
pub(crate) fn router(api: Api) -> Router {
    Router::new().fallback(handle).with_state(api)
}

async fn handle(State(api): State<Api>, request: Request) -> Response {
    answer(api, request).await
}

/// Answers one request. Whose it was is in the answer's extensions, for [`crate::console`].
pub(crate) async fn answer(api: Api, request: Request) -> Response {
    let trace = api.entropy.base62(22);
    let (parts, body) = request.into_parts();
    let path = Path::parse(parts.uri.path());
    let version = path.version.unwrap_or(VERSION).to_owned();
    let mut caller = None;
    let answer = if path.id == "media" {
        download(&api, &parts, &mut caller).await
    } else {
        dispatch(&api, parts, body, &mut caller).await.map(|value| Json(value).into_response())
    };
    let mut response = match answer {
        Ok(response) => response,
        Err(error) => error.into_response(&trace),
    };
    let headers = response.headers_mut();
    for (name, value) in [("facebook-api-version", &version), ("x-fb-trace-id", &trace), ("x-fb-request-id", &trace)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers.insert("cache-control", HeaderValue::from_static("private, no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    if let Some(business) = caller {
        response.extensions_mut().insert(record::Caller(business));
    }
    response
}

/// A file by the address that was given for it.
async fn download(api: &Api, parts: &Parts, caller_is: &mut Option<Arc<Business>>) -> Result<Response, ApiError> {
    let path = Path::parse(parts.uri.path());
    if parts.method != Method::GET {
        return Err(ApiError::unknown_node(parts.method.as_str(), path.id));
    }
    let params = Params::of_query(parts);
    let token_of = bearer(parts).and_then(|token| authenticate(api, &token).ok()).map(|(business, _)| business);
    caller_is.clone_from(&token_of);
    media::download(&api.businesses, &api.urls, path.edge, &params, token_of.as_deref()).await
}

async fn dispatch(
    api: &Api,
    parts: Parts,
    body: Body,
    caller_is: &mut Option<Arc<Business>>,
) -> Result<Value, ApiError> {
    let mut params = Params::of_query(&parts);
    let (method, uri) = (parts.method.clone(), parts.uri.clone());
    let path = Path::parse(uri.path());
    let headers;
    let early = bearer(&parts).or_else(|| query_token(&params));
    // A token in the body is known only after the body is read; a wrong one elsewhere is refused before.
    let found = match early {
        Some(token) => {
            let found = authenticate(api, &token)?;
            *caller_is = Some(Arc::clone(&found.0));
            if media::is_upload(&method, &path, &parts.headers) {
                permit(&found, route(&found.0, &method, &path)?)?;
                return media::upload(&found.0, parts, body).await;
            }
            headers = parts.headers.clone();
            params.read_body(parts, body).await?;
            found
        }
        None => {
            headers = parts.headers.clone();
            params.read_body(parts, body).await?;
            authenticate(api, &query_token(&params).ok_or_else(ApiError::invalid_token)?)?
        }
    };
    *caller_is = Some(Arc::clone(&found.0));
    let action = route(&found.0, &method, &path)?;
    permit(&found, action)?;
    let (business, _) = found;
    let place = || {
        let pass = api.passes.pass(&business.account.waba_id, business.now_ms());
        paging::Place { headers: &headers, uri: &uri, pass }
    };
    match action {
        Action::UploadMedia => {
            Err(ApiError::parameter("A file comes as multipart/form-data, with a token in a header."))
        }
        Action::Media => media::node(&business, &api.urls, path.id, &headers, &params).await,
        Action::DeleteMedia => media::remove(&business, path.id).await,
        Action::Messages => send::run(&business, message::parse(&params)?).await,
        Action::ListBlocked => blocks::list(&business).await,
        Action::Block => blocks::change(&business, &params, true).await,
        Action::Unblock => blocks::change(&business, &params, false).await,
        Action::Consents => consents::list(&business, &params).await,
        Action::Phone => nodes::phone(&business, &params).await,
        Action::ConfigurePhone => subscriptions::phone_configure(&business, &params).await,
        Action::Waba => nodes::waba(&business, &params),
        Action::PhoneNumbers => nodes::phone_numbers(&business, &params).await,
        Action::ListSubscribedApps => subscriptions::waba_list(&business).await,
        Action::SubscribeApp => subscriptions::waba_subscribe(&business, &params).await,
        Action::UnsubscribeApp => subscriptions::waba_unsubscribe(&business).await,
        Action::ListSubscriptions => subscriptions::app_list(&business).await,
        Action::SetSubscription => subscriptions::app_set(&business, &params).await,
        Action::DeleteSubscription => subscriptions::app_delete(&business).await,
        Action::ListTemplates => templates::list(&business, &params, &place()).await,
        Action::CreateTemplate => templates::create(&business, &params).await,
        Action::UpsertTemplates => templates::upsert(&business, &params).await,
        Action::DeleteTemplates => templates::delete(&business, &params).await,
        Action::Template => templates::show(&business, path.id, &params).await,
        Action::EditTemplate => templates::edit(&business, path.id, &params).await,
        Action::UnpauseTemplate => templates::unpause(&business, path.id).await,
    }
}

fn permit((_, caller): &(Arc<Business>, Caller), action: Action) -> Result<(), ApiError> {
    let permitted = match action {
        Action::ListSubscriptions | Action::SetSubscription | Action::DeleteSubscription => *caller != Caller::Pass,
        Action::ListTemplates => *caller != Caller::App,
        _ => *caller == Caller::User,
    };
    if permitted { Ok(()) } else { Err(ApiError::no_permission()) }
}

fn bearer(parts: &Parts) -> Option<String> {
    let value = parts.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("oauth")).then(|| token.trim().to_owned())
}

fn query_token(params: &Params) -> Option<String> {
    params.root().text("access_token").ok().flatten()
}

/// The business of a token. Every business is compared, each in constant time.
fn authenticate(api: &Api, token: &str) -> Result<(Arc<Business>, Caller), ApiError> {
    let mut found = None;
    for business in api.businesses.iter() {
        let account = &business.account;
        if account.token_hash.matches(token) {
            found = Some((Arc::clone(business), Caller::User));
        } else if api.passes.accepts(&account.waba_id, business.now_ms(), token) {
            found = Some((Arc::clone(business), Caller::Pass));
        } else if let Some((id, secret)) = token.split_once('|')
            && id == account.app_id
            && account.app_secret.matches(secret)
        {
            found = Some((Arc::clone(business), Caller::App));
        }
    }
    found.ok_or_else(ApiError::invalid_token)
}

fn route(business: &Business, method: &Method, path: &Path<'_>) -> Result<Action, ApiError> {
    let account = &business.account;
    let unknown = || ApiError::unknown_node(method.as_str(), path.id);
    let node = match path.id {
        id if id == account.phone_number_id => Node::Phone,
        id if id == account.waba_id => Node::Waba,
        id if id == account.app_id => Node::App,
        id if !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) => match id.parse::<u64>() {
            Ok(FIRST_ID..) => Node::Template,
            _ => Node::Media,
        },
        _ => return Err(unknown()),
    };
    // What may be read may be asked for without a body.
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let route = ROUTES.iter().find(|(m, n, e, _)| *m == method && *n == node && *e == path.edge);
    route.map(|(.., action)| *action).ok_or_else(unknown)
}

/// `/{version}/{id}/{edge}`; version and edge may be missing, and one slash may follow.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Path<'a> {
    pub(crate) version: Option<&'a str>,
    pub(crate) id: &'a str,
    pub(crate) edge: &'a str,
}

impl<'a> Path<'a> {
    pub(crate) fn parse(path: &'a str) -> Self {
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        let (version, path) = if is_version(first) { (Some(first), rest) } else { (None, path) };
        let (id, edge) = path.split_once('/').unwrap_or((path, ""));
        Self { version, id, edge }
    }
}

fn is_version(text: &str) -> bool {
    let number = |n: &str| (1..=4).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit());
    let Some(rest) = text.strip_prefix('v') else { return false };
    match rest.split_once('.') {
        Some((major, minor)) => number(major) && number(minor),
        None => number(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new route changes this list, on purpose.
    #[test]
    fn gw_01_these_are_all_routes() {
        let list: Vec<String> =
            ROUTES.iter().map(|(method, node, edge, _)| format!("{method} {node:?}/{edge}")).collect();
        assert_eq!(
            list,
            [
                "POST Phone/messages",
                "POST Phone/media",
                "GET Media/",
                "DELETE Media/",
                "GET Phone/block_users",
                "POST Phone/block_users",
                "DELETE Phone/block_users",
                "GET Phone/consents",
                "GET Phone/",
                "POST Phone/",
                "GET Waba/",
                "GET Waba/phone_numbers",
                "GET Waba/subscribed_apps",
                "POST Waba/subscribed_apps",
                "DELETE Waba/subscribed_apps",
                "GET App/subscriptions",
                "POST App/subscriptions",
                "DELETE App/subscriptions",
                "GET Waba/message_templates",
                "POST Waba/message_templates",
                "DELETE Waba/message_templates",
                "POST Waba/upsert_message_templates",
                "GET Template/",
                "POST Template/",
                "POST Template/unpause",
            ]
        );
    }

    #[test]
    fn paths_with_and_without_version_and_slash_are_the_same() {
        let path = |version, id, edge| Path { version, id, edge };
        for (text, expected) in [
            ("/v23.0/1/messages", path(Some("v23.0"), "1", "messages")),
            ("/v13/1/messages/", path(Some("v13"), "1", "messages")),
            ("/1/messages", path(None, "1", "messages")),
            ("/1/", path(None, "1", "")),
            ("/v23.0/1", path(Some("v23.0"), "1", "")),
            ("/v23.0", path(Some("v23.0"), "", "")),
            ("/vx/1", path(None, "vx", "1")),
            ("/v1.2.3/1", path(None, "v1.2.3", "1")),
            ("/1/messages/x", path(None, "1", "messages/x")),
            ("/1/messages//", path(None, "1", "messages/")),
            ("/", path(None, "", "")),
            ("", path(None, "", "")),
        ] {
            assert_eq!(Path::parse(text), expected, "{text}");
        }
    }
}
