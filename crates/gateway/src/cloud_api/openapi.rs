//! The surface as an OpenAPI 3.1 document, made from [`ROUTES`]: `GET /openapi.json`, without a token.
//!
//! What a route is for is said in [`about`], which knows every [`Action`]: a route without words does not compile. Bodies are named and not
//! spelled out; their fields are Meta's own, and what each may be is said by the error that refuses it.

use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};

use super::{Action, Node, ROUTES};

/// What is fetched by its address alone, beside [`ROUTES`]: path and what it is.
const FILES: &[(&str, &str)] = &[
    ("/media/{phone_number_id}/{media_id}", "A file, by the address that its node gave"),
    ("/qr/{phone_number_id}/{code}", "The QR code of a short link: the code, and .svg or .png"),
    ("/picture/{phone_number_id}", "The picture of the business profile"),
    ("/openapi.json", "This document"),
];

/// What a route is for, and the parameters that it knows: in the query, or in a body of any of the usual kinds.
fn about(action: Action) -> (&'static str, &'static [&'static str]) {
    match action {
        Action::Messages => (
            "Send a message, mark one as read",
            &["messaging_product", "to", "recipient", "type", "context", "status", "message_id"],
        ),
        Action::UploadMedia => ("Upload a file", &["messaging_product", "type", "file"]),
        Action::Media => ("What is known of a file, and its address for five minutes", &["phone_number_id"]),
        Action::DeleteMedia => ("Forget a file", &[]),
        Action::ListBlocked => ("Who may write no more", &[]),
        Action::Block => {
            ("Block customers: their permits are revoked at the relay", &["messaging_product", "block_users"])
        }
        Action::Unblock => ("Let customers write again", &["messaging_product", "block_users"]),
        Action::Consents => {
            ("The ledger of consents, each with the statement that the customer signed", &["limit", "after"])
        }
        Action::Phone => ("The number", &["fields"]),
        Action::ConfigurePhone => ("Set the number's PIN, or where its webhooks go", &["pin", "webhook_configuration"]),
        Action::Waba => ("The account", &["fields"]),
        Action::PhoneNumbers => ("The account's numbers", &["fields", "summary"]),
        Action::AddPhoneNumber => ("Refused with code 3: `bulla gateway` makes numbers", &[]),
        Action::ListSubscribedApps => ("Whether the app gets the account's webhooks", &[]),
        Action::SubscribeApp => ("Have webhooks delivered, here or there", &["override_callback_uri", "verify_token"]),
        Action::UnsubscribeApp => ("Have no webhooks delivered", &[]),
        Action::ListSubscriptions => ("Where the app's webhooks go", &[]),
        Action::SetSubscription => (
            "Set where the app's webhooks go; the address has to answer its challenge",
            &["object", "callback_url", "verify_token"],
        ),
        Action::DeleteSubscription => ("Take that address off", &[]),
        Action::ListTemplates => (
            "Message templates",
            &[
                "name",
                "status",
                "category",
                "language",
                "content",
                "name_or_content",
                "fields",
                "limit",
                "after",
                "before",
            ],
        ),
        Action::CreateTemplate => {
            ("Make a template", &["name", "language", "category", "components", "parameter_format"])
        }
        Action::UpsertTemplates => {
            ("Make or change one-time passwords in several languages", &["name", "languages", "category", "components"])
        }
        Action::DeleteTemplates => ("Remove templates by name or id", &["name", "hsm_id", "hsm_ids"]),
        Action::Template => ("A template", &["fields"]),
        Action::TemplateOfAccount => ("A template, by way of the account", &["fields"]),
        Action::EditTemplate => {
            ("Change a template: its next version", &["category", "components", "parameter_format"])
        }
        Action::UnpauseTemplate => ("Send a paused template again", &[]),
        Action::ListFlows => ("Flows", &["fields", "limit", "after", "before"]),
        Action::CreateFlow => ("Make a flow", &["name", "categories", "flow_json", "publish"]),
        Action::Flow => ("A flow", &["fields"]),
        Action::RenameFlow => ("Change a flow's name or categories", &["name", "categories"]),
        Action::DeleteFlow => ("Remove a flow that was never published", &[]),
        Action::FlowAssets => ("A flow's JSON", &[]),
        Action::UploadFlow => ("Set a draft's JSON; what is wrong with it", &["file", "name", "asset_type"]),
        Action::PublishFlow => ("Publish a flow: it does not change any more", &[]),
        Action::DeprecateFlow => ("Take a published flow out of use", &[]),
        Action::Profile => ("The business profile", &["fields"]),
        Action::SetProfile => (
            "Set the business profile",
            &[
                "messaging_product",
                "about",
                "address",
                "description",
                "email",
                "websites",
                "vertical",
                "profile_picture_handle",
            ],
        ),
        Action::Settings => ("What the number can and cannot", &[]),
        Action::SetSettings => (
            "Takes what is off and stays off; calls are refused with 138000, the rest with 3",
            &["calling", "payload_encryption", "storage_configuration", "user_identity_change"],
        ),
        Action::Register => ("Register the number, with its PIN", &["messaging_product", "pin"]),
        Action::Deregister => ("Take the number off the API: it sends nothing until it is registered again", &[]),
        Action::RequestCode => ("Refused with 136024: the number is verified", &[]),
        Action::VerifyCode => ("Refused with 136025: the number is verified", &[]),
        Action::AccessToken => (
            "The app's token for the app's secret; an access token for itself",
            &["client_id", "client_secret", "grant_type", "fb_exchange_token"],
        ),
        Action::DebugToken => ("What a token is for", &["input_token"]),
        Action::ListLinks => ("Short links", &["code", "fields"]),
        Action::SetLink => ("Make or change a short link", &["prefilled_message", "code", "generate_qr_image"]),
        Action::Link => ("A short link", &["fields"]),
        Action::DeleteLink => ("Remove a short link", &[]),
        Action::Automate => (
            "Set what a conversation begins with: kept and shown, not yet in the customer's app",
            &["enable_welcome_message", "prompts", "commands"],
        ),
        Action::Call => ("Refused with 138000: calls are not carried", &[]),
        Action::BeginUpload => ("Begin an upload in pieces", &["file_name", "file_length", "file_type"]),
        Action::Upload => ("How far an upload has come", &[]),
        Action::AppendUpload => ("The next piece, from the header file_offset on", &[]),
    }
}

fn begin(node: Node) -> &'static str {
    match node {
        Node::Phone => "/{phone_number_id}",
        Node::Waba => "/{waba_id}",
        Node::App => "/{app_id}",
        Node::Media => "/{media_id}",
        Node::Template => "/{template_id}",
        Node::Flow => "/{flow_id}",
        Node::Upload => "/{upload_id}",
        Node::Oauth => "/oauth",
        Node::DebugToken => "/debug_token",
    }
}

/// A route's path, as documents write it.
fn path(node: Node, edge: &str) -> String {
    let slash = if edge.is_empty() { "" } else { "/" };
    format!("{}{slash}{edge}", begin(node))
}

/// `GET /openapi.json`.
pub(crate) fn answer(is_head: bool) -> Response {
    let text = format!("{:#}", document());
    let (kind, length) = ((CONTENT_TYPE, "application/json"), (CONTENT_LENGTH, text.len().to_string()));
    ([kind], [length], if is_head { String::new() } else { text }).into_response()
}

fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    let mut add = |path: &str, method: &str, operation: Value| {
        let methods = paths.entry(path.to_owned()).or_insert_with(|| json!({ "parameters": in_path(path) }));
        if let Value::Object(methods) = methods {
            methods.insert(method.to_ascii_lowercase(), operation);
        }
    };
    for (method, node, edge, action) in ROUTES {
        add(&path(*node, edge), method, operation(method, *node, *action));
    }
    for (path, what) in FILES {
        let responses = json!({"200": {"description": "It"}, "default": {"$ref": "#/components/responses/Error"}});
        add(path, "GET", json!({"summary": what, "security": [], "responses": responses}));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Bulla: the Cloud API of a business's own gateway",
            "version": super::VERSION,
            "description": "A version (/v23.0) may stand before every path. Parameters are read from the query and from bodies in JSON, as \
                            a form or as multipart, whichever the client prefers.",
        },
        "paths": paths,
        "security": [{"bearer": []}],
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "responses": {"Error": {
                "description": "A refusal",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            }},
            "schemas": {"Error": {
                "type": "object",
                "required": ["error"],
                "properties": {"error": {
                    "type": "object",
                    "required": ["message", "type", "code", "fbtrace_id"],
                    "properties": {
                        "message": {"type": "string"},
                        "type": {"type": "string"},
                        "code": {"type": "integer"},
                        "error_subcode": {"type": "integer"},
                        "error_user_title": {"type": "string"},
                        "error_user_msg": {"type": "string"},
                        "error_data": {"type": "object"},
                        "is_transient": {"type": "boolean"},
                        "fbtrace_id": {"type": "string"},
                    },
                }},
            }},
        },
    })
}

/// The names in braces.
fn in_path(path: &str) -> Vec<Value> {
    let names = path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    names.map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})).collect()
}

fn operation(method: &str, node: Node, action: Action) -> Value {
    let (summary, parameters) = about(action);
    let mut operation = json!({
        "operationId": format!("{}{action:?}", method.to_ascii_lowercase()),
        "summary": summary,
        "responses": {
            "200": {"description": "Done", "content": {"application/json": {"schema": {"type": "object"}}}},
            "default": {"$ref": "#/components/responses/Error"},
        },
    });
    let Value::Object(members) = &mut operation else { return operation };
    if node == Node::Oauth {
        members.insert("security".into(), json!([]));
    }
    if action == Action::AppendUpload {
        let any = json!({"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}});
        members.insert("requestBody".into(), json!({ "content": any }));
    } else if method == "POST" {
        let properties: Map<String, Value> = parameters.iter().map(|name| ((*name).to_owned(), json!({}))).collect();
        let schema = json!({"schema": {"type": "object", "properties": properties}});
        let kind = if action == Action::UploadMedia { "multipart/form-data" } else { "application/json" };
        members.insert("requestBody".into(), json!({"content": {kind: schema}}));
    } else {
        let query = parameters.iter().map(|name| json!({"name": name, "in": "query", "schema": {"type": "string"}}));
        members.insert("parameters".into(), query.collect());
    }
    operation
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of `docs/cloud-api.md`, as it has to be.
    fn table() -> Vec<String> {
        ROUTES
            .iter()
            .map(|(method, node, edge, action)| format!("| `{method} {}` | {} |", path(*node, edge), about(*action).0))
            .collect()
    }

    #[test]
    fn gw_01_the_document_has_all_routes_and_no_others() {
        let document = document();
        let mut documented: Vec<String> = Vec::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters") {
                assert!(!operation["summary"].as_str().unwrap().is_empty());
                documented.push(format!("{} {path}", method.to_uppercase()));
            }
        }
        let routes = ROUTES.iter().map(|(method, node, edge, _)| format!("{method} {}", path(*node, edge)));
        let mut routes: Vec<String> = routes.chain(FILES.iter().map(|(path, _)| format!("GET {path}"))).collect();
        documented.sort();
        routes.sort();
        assert_eq!(documented, routes);
        let mut ids: Vec<&str> = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|m| m.as_object().unwrap().values())
            .filter_map(|operation| operation["operationId"].as_str())
            .collect();
        ids.sort_unstable();
        let count = ids.len();
        ids.dedup();
        assert_eq!((ids.len(), count), (ROUTES.len(), ROUTES.len()));
    }

    #[test]
    fn docs_cloud_api_md_lists_the_routes_that_there_are() {
        let page = include_str!("../../../../docs/cloud-api.md");
        let (_, rest) = page.split_once("<!-- routes -->\n").expect("the table's beginning");
        let (listed, _) = rest.split_once("<!-- /routes -->").expect("the table's end");
        let listed: Vec<&str> = listed.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(listed, table(), "as it has to be:\n{}", table().join("\n"));
    }

    #[test]
    fn names_in_braces_are_parameters() {
        assert_eq!(in_path("/a/{b}/c/{d}").iter().map(|p| p["name"].clone()).collect::<Vec<_>>(), ["b", "d"]);
    }
}
