//! The REST surface that WhatsApp SDKs take for the Cloud API.
//!
//! Every request goes the same way: version and trailing slash are taken off the path, the token names the business, the first
//! segment names one of its nodes, [`ROUTES`] names what happens. What is not in that table does not exist (GW-01), but for what is fetched by its
//! address alone: files, pictures, and the surface's own description ([`openapi`]). A node of another business is answered like one that does not exist.

pub(crate) mod at;
mod blocks;
mod consents;
mod contents;
mod error;
pub(crate) mod fields;
mod flows;
pub(crate) mod interactive;
mod links;
pub(crate) mod media;
pub(crate) mod message;
mod nodes;
mod number;
mod oauth;
mod openapi;
pub(crate) mod paging;
pub(crate) mod params;
mod profile;
mod qr;
mod send;
mod subscriptions;
pub(crate) mod template_lint;
pub(crate) mod template_params;
mod templates;
mod uploads;
mod values;

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

use crate::account::Account;
use crate::business::Business;
use crate::console::record;
use crate::entropy::Entropy;
use crate::flow::IDS;
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
    Flow,
    /// A file that comes in pieces.
    Upload,
    /// What hands out tokens, to who has no token yet.
    Oauth,
    DebugToken,
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
    TemplateOfAccount,
    EditTemplate,
    UnpauseTemplate,
    ListFlows,
    CreateFlow,
    Flow,
    RenameFlow,
    DeleteFlow,
    FlowAssets,
    UploadFlow,
    PublishFlow,
    DeprecateFlow,
    Profile,
    SetProfile,
    Settings,
    SetSettings,
    Register,
    Deregister,
    RequestCode,
    VerifyCode,
    AddPhoneNumber,
    AccessToken,
    DebugToken,
    ListLinks,
    SetLink,
    Link,
    DeleteLink,
    Automate,
    Call,
    BeginUpload,
    Upload,
    AppendUpload,
}

/// Method, node, edge, action: all there is. What stands in braces at the end of an edge is a name of the caller's.
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
    // `@kapso/whatsapp-cloud-api` asks the account for it.
    ("GET", Node::Waba, "message_templates/{template_id}", Action::TemplateOfAccount),
    ("GET", Node::Template, "", Action::Template),
    ("POST", Node::Template, "", Action::EditTemplate),
    ("POST", Node::Template, "unpause", Action::UnpauseTemplate),
    ("GET", Node::Waba, "flows", Action::ListFlows),
    ("POST", Node::Waba, "flows", Action::CreateFlow),
    ("GET", Node::Flow, "", Action::Flow),
    ("POST", Node::Flow, "", Action::RenameFlow),
    ("DELETE", Node::Flow, "", Action::DeleteFlow),
    ("GET", Node::Flow, "assets", Action::FlowAssets),
    ("POST", Node::Flow, "assets", Action::UploadFlow),
    ("POST", Node::Flow, "publish", Action::PublishFlow),
    ("POST", Node::Flow, "deprecate", Action::DeprecateFlow),
    ("GET", Node::Phone, "whatsapp_business_profile", Action::Profile),
    ("POST", Node::Phone, "whatsapp_business_profile", Action::SetProfile),
    ("GET", Node::Phone, "settings", Action::Settings),
    ("POST", Node::Phone, "settings", Action::SetSettings),
    ("POST", Node::Phone, "register", Action::Register),
    ("POST", Node::Phone, "deregister", Action::Deregister),
    ("POST", Node::Phone, "request_code", Action::RequestCode),
    ("POST", Node::Phone, "verify_code", Action::VerifyCode),
    ("POST", Node::Waba, "phone_numbers", Action::AddPhoneNumber),
    ("GET", Node::Oauth, "access_token", Action::AccessToken),
    ("POST", Node::Oauth, "access_token", Action::AccessToken),
    ("GET", Node::DebugToken, "", Action::DebugToken),
    ("GET", Node::Phone, "message_qrdls", Action::ListLinks),
    ("POST", Node::Phone, "message_qrdls", Action::SetLink),
    ("GET", Node::Phone, "message_qrdls/{code}", Action::Link),
    ("DELETE", Node::Phone, "message_qrdls/{code}", Action::DeleteLink),
    ("POST", Node::Phone, "conversational_automation", Action::Automate),
    ("POST", Node::Phone, "calls", Action::Call),
    ("POST", Node::App, "uploads", Action::BeginUpload),
    ("GET", Node::Upload, "", Action::Upload),
    ("POST", Node::Upload, "", Action::AppendUpload),
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
    let answer = match path.id {
        "media" => download(&api, &parts, &mut caller).await,
        "qr" | "picture" => picture(&api, &parts).await,
        "openapi.json" if matches!(parts.method, Method::GET | Method::HEAD) && path.edge.is_empty() => {
            Ok(openapi::answer(parts.method == Method::HEAD))
        }
        _ => dispatch(&api, parts, body, &mut caller).await.map(|value| Json(value).into_response()),
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

/// What anybody may look at who has its address.
async fn picture(api: &Api, parts: &Parts) -> Result<Response, ApiError> {
    let path = Path::parse(parts.uri.path());
    let unknown = || ApiError::unknown_node(parts.method.as_str(), path.id);
    if parts.method != Method::GET {
        return Err(unknown());
    }
    let (phone, name) = path.edge.split_once('/').unwrap_or((path.edge, ""));
    let business = api.businesses.iter().find(|business| business.account.phone_number_id == phone);
    match (path.id, business) {
        ("qr", Some(business)) => links::image(business, name).await,
        ("picture", Some(business)) if name.is_empty() => profile::picture(business).await,
        _ => Err(unknown()),
    }
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
            if route(&found.0, &method, &path) == Ok(Action::AppendUpload) {
                permit(&found, Action::AppendUpload)?;
                return uploads::append(&found.0, path.id, &parts.headers, body).await;
            }
            headers = parts.headers.clone();
            params.read_body(parts, body).await?;
            found
        }
        None => {
            headers = parts.headers.clone();
            params.read_body(parts, body).await?;
            if node_of(None, path.id) == Some(Node::Oauth) {
                return access_token(api, &method, &path, &params, caller_is);
            }
            authenticate(api, &query_token(&params).ok_or_else(ApiError::invalid_token)?)?
        }
    };
    *caller_is = Some(Arc::clone(&found.0));
    let origin = paging::origin(&headers);
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
        Action::Messages => {
            number::must_be_registered(&business).await?;
            send::run(&business, message::parse(&params)?).await
        }
        Action::ListBlocked => blocks::list(&business).await,
        Action::Block => blocks::change(&business, &params, true).await,
        Action::Unblock => blocks::change(&business, &params, false).await,
        Action::Consents => consents::list(&business, &params).await,
        Action::Phone => nodes::phone(&business, &params).await,
        Action::ConfigurePhone => number::configure(&business, &params).await,
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
        Action::TemplateOfAccount => templates::show(&business, last(path.edge), &params).await,
        Action::EditTemplate => templates::edit(&business, path.id, &params).await,
        Action::UnpauseTemplate => templates::unpause(&business, path.id).await,
        Action::ListFlows => flows::list(&business, &params, &place()).await,
        Action::CreateFlow => flows::create(&business, &params).await,
        Action::Flow => flows::show(&business, path.id, &params).await,
        Action::RenameFlow => flows::rename(&business, path.id, &params).await,
        Action::DeleteFlow => flows::remove(&business, path.id).await,
        Action::FlowAssets => flows::assets(&business, path.id).await,
        Action::UploadFlow => flows::upload(&business, path.id, &params).await,
        Action::PublishFlow => flows::publish(&business, path.id).await,
        Action::DeprecateFlow => flows::deprecate(&business, path.id).await,
        Action::Profile => profile::show(&business, &params, &origin).await,
        Action::SetProfile => profile::set(&business, &params).await,
        Action::Settings => Ok(number::settings()),
        Action::SetSettings => number::set_settings(&params),
        Action::Register => number::register(&business, &params).await,
        Action::Deregister => number::deregister(&business).await,
        Action::RequestCode => number::request_code(),
        Action::VerifyCode => number::verify_code(),
        Action::AddPhoneNumber => number::add(),
        Action::AccessToken => oauth::access_token(&api.businesses, &params).map(|(_, token)| token),
        Action::DebugToken => oauth::debug_token(&business, &params),
        Action::ListLinks => links::list(&business, &params, &origin).await,
        Action::SetLink => links::set(&business, &params, &origin).await,
        Action::Link => links::show(&business, last(path.edge), &params, &origin).await,
        Action::DeleteLink => links::remove(&business, last(path.edge)).await,
        Action::Automate => number::automate(&business, &params).await,
        Action::Call => Err(ApiError::calling()),
        Action::BeginUpload => uploads::begin(&business, &params).await,
        Action::Upload => uploads::show(&business, path.id).await,
        Action::AppendUpload => Err(ApiError::parameter("A piece of a file comes with a token in a header.")),
    }
}

/// `/oauth/access_token`: who asks has no token yet.
fn access_token(
    api: &Api,
    method: &Method,
    path: &Path<'_>,
    params: &Params,
    caller_is: &mut Option<Arc<Business>>,
) -> Result<Value, ApiError> {
    find(method, Node::Oauth, path).ok_or_else(|| ApiError::unknown_node(method.as_str(), path.id))?;
    let (business, token) = oauth::access_token(&api.businesses, params)?;
    *caller_is = Some(business);
    Ok(token)
}

/// What an edge ends with.
fn last(edge: &str) -> &str {
    edge.rsplit_once('/').map_or("", |(_, last)| last)
}

fn permit((_, caller): &(Arc<Business>, Caller), action: Action) -> Result<(), ApiError> {
    let permitted = match action {
        Action::ListSubscriptions
        | Action::SetSubscription
        | Action::DeleteSubscription
        | Action::AccessToken
        | Action::DebugToken => *caller != Caller::Pass,
        Action::ListTemplates | Action::ListFlows => *caller != Caller::App,
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
        if let Some(caller) = caller_of(&business.account, token) {
            found = Some((Arc::clone(business), caller));
        } else if api.passes.accepts(&business.account.waba_id, business.now_ms(), token) {
            found = Some((Arc::clone(business), Caller::Pass));
        }
    }
    found.ok_or_else(ApiError::invalid_token)
}

/// Whose token it is, if it is one of this account's.
fn caller_of(account: &Account, token: &str) -> Option<Caller> {
    if account.token_hash.matches(token) {
        return Some(Caller::User);
    }
    let (id, secret) = token.split_once('|')?;
    (id == account.app_id && account.app_secret.matches(secret)).then_some(Caller::App)
}

fn route(business: &Business, method: &Method, path: &Path<'_>) -> Result<Action, ApiError> {
    let node = node_of(Some(&business.account), path.id);
    let action = node.and_then(|node| find(method, node, path));
    action.ok_or_else(|| ApiError::unknown_node(method.as_str(), path.id))
}

/// What an id names. A file, a template or an upload may still turn out not to be there.
fn node_of(account: Option<&Account>, id: &str) -> Option<Node> {
    match (account, id) {
        (_, "oauth") => Some(Node::Oauth),
        (_, "debug_token") => Some(Node::DebugToken),
        (Some(account), id) if id == account.phone_number_id => Some(Node::Phone),
        (Some(account), id) if id == account.waba_id => Some(Node::Waba),
        (Some(account), id) if id == account.app_id => Some(Node::App),
        (Some(_), id) if id.starts_with(uploads::PREFIX) => Some(Node::Upload),
        (Some(_), id) if !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) => match id.parse::<u64>() {
            Ok(FIRST_ID..) => Some(Node::Template),
            Ok(id) if IDS.contains(&id) => Some(Node::Flow),
            _ => Some(Node::Media),
        },
        _ => None,
    }
}

fn find(method: &Method, node: Node, path: &Path<'_>) -> Option<Action> {
    // What may be read may be asked for without a body.
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let route = ROUTES.iter().find(|(m, n, edge, _)| *m == method && *n == node && is_edge(edge, path.edge));
    route.map(|(.., action)| *action)
}

fn is_edge(known: &str, edge: &str) -> bool {
    match known.split_once('{') {
        None => known == edge,
        Some((begin, _)) => edge.strip_prefix(begin).is_some_and(|name| !name.is_empty() && !name.contains('/')),
    }
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
mod tests;
