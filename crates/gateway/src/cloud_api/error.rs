//! The error object of the Cloud API, and the one place where causes become codes.
//!
//! | code | HTTP | cause |
//! |---|---|---|
//! | 190 | 401 | no token, an unknown token |
//! | 10 | 403 | an app token where a user's is needed |
//! | 100 subcode 33 | 400 | no such node, or not one of this token's business: the same answer for both |
//! | 100 | 400, 413 | the request's form: no JSON, too large, a general parameter missing or wrong |
//! | 131008 | 400 | a parameter of the message is missing |
//! | 131009 | 400 | a parameter of the message has a wrong value |
//! | 131030 | 400 | the recipient never wrote to this business |
//! | 131051 | 400 | a message type that does not exist or is not supported yet |
//! | 131052 | 400, 404 | a file cannot be fetched from its link; it is gone from the relay |
//! | 131053 | 400 | a file that cannot be taken |
//! | 2200 | 400 | a webhook did not answer its challenge |
//! | 131016 | 503 | the gateway cannot store or has stopped: try again |
//!
//! Those of templates, numbers and other things that are managed are in [`management`].

mod management;

pub(crate) use management::{FlowError, Lint};

use axum::Json;
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};

/// Longest echo of what the caller wrote.
const MAX_ECHO: usize = 64;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: u32,
    subcode: Option<u32>,
    kind: &'static str,
    message: String,
    details: Option<String>,
    /// For people: a title and a sentence.
    user: Option<(&'static str, String)>,
    transient: bool,
}

impl ApiError {
    fn new(status: StatusCode, code: u32, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            subcode: None,
            kind: "OAuthException",
            message: message.into(),
            details: None,
            user: None,
            transient: false,
        }
    }

    fn bad(code: u32, title: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, format!("(#{code}) {title}"))
    }

    fn details(mut self, details: impl Into<String>) -> Self {
        self.details = Some(details.into());
        self
    }

    /// No token, or not one of this gateway's.
    pub(crate) fn invalid_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, 190, "Invalid OAuth access token - Cannot parse access token")
    }

    /// A token of a kind that may not do this.
    pub(crate) fn no_permission() -> Self {
        Self::new(StatusCode::FORBIDDEN, 10, "(#10) Application does not have permission for this action")
    }

    /// Nothing there that this token may see.
    pub(crate) fn unknown_node(method: &str, id: &str) -> Self {
        let message = format!(
            "Unsupported {} request. Object with ID '{}' does not exist, cannot be loaded due to missing permissions, or does not \
             support this operation",
            method.to_ascii_lowercase(),
            echo(id)
        );
        Self { subcode: Some(33), kind: "GraphMethodException", ..Self::new(StatusCode::BAD_REQUEST, 100, message) }
    }

    /// A general parameter is missing.
    pub(crate) fn required(name: &str) -> Self {
        Self::bad(100, &format!("The parameter {name} is required."))
    }

    /// A general parameter or the request's form is wrong.
    pub(crate) fn parameter(problem: &str) -> Self {
        Self::bad(100, problem)
    }

    /// A field was asked for that the node does not have.
    pub(crate) fn unknown_field(field: &str, node: &str) -> Self {
        Self::bad(100, &format!("Tried accessing nonexisting field ({}) on node type ({node})", echo(field)))
    }

    /// The body is larger than is read.
    pub(crate) fn too_large() -> Self {
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, ..Self::bad(100, "Invalid parameter") }
            .details("The request body is larger than 1 MiB.")
    }

    /// A parameter of a message is missing.
    pub(crate) fn missing(path: &str) -> Self {
        Self::bad(131_008, "Required parameter is missing").details(format!("Parameter '{path}' is mandatory."))
    }

    /// A parameter of a message has a value that cannot be.
    pub(crate) fn invalid(path: &str, problem: &str) -> Self {
        Self::bad(131_009, "Parameter value is not valid").details(format!("Parameter '{path}' {problem}."))
    }

    /// The recipient is nobody who wrote to this business.
    pub(crate) fn unknown_recipient() -> Self {
        Self::bad(131_030, "Recipient phone number not in allowed list")
            .details("No customer with this id has written to this business; customers always write first.")
    }

    /// Not one of so many users could be blocked, or unblocked.
    pub(crate) fn block_failed(users: usize) -> Self {
        Self::bad(139_100, "Failed to block/unblock users")
            .details(format!("None of the {users} users has written to this business."))
    }

    /// A message type that does not exist, or not yet here.
    pub(crate) fn unsupported_type(details: impl Into<String>) -> Self {
        Self::bad(131_051, "Unsupported message type").details(details)
    }

    /// A file that cannot be taken.
    pub(crate) fn media_upload(details: &str) -> Self {
        Self::bad(131_053, "Media upload error").details(details)
    }

    /// A file that could not be fetched from where it was said to be.
    pub(crate) fn media_download(details: &str) -> Self {
        Self::bad(131_052, "Media download error").details(details)
    }

    /// A file that the relay has no more.
    pub(crate) fn media_gone() -> Self {
        Self { status: StatusCode::NOT_FOUND, ..Self::bad(131_052, "Media download error") }
            .details("The file is no longer there: files are kept for 30 days.")
    }

    /// A webhook's URL did not answer the challenge.
    pub(crate) fn callback(reason: &str) -> Self {
        Self::bad(2_200, "Callback verification failed").details(format!("The callback URL: {reason}."))
    }

    /// Not the caller's fault, and worth another try.
    pub(crate) fn unavailable(details: &str) -> Self {
        let message = "(#131016) Service unavailable";
        Self { transient: true, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, 131_016, message) }.details(details)
    }

    /// The answer, with the id under which the request can be talked about.
    pub(crate) fn into_response(self, trace: &str) -> Response {
        let mut error = Map::new();
        error.insert("message".into(), self.message.into());
        error.insert("type".into(), self.kind.into());
        error.insert("code".into(), self.code.into());
        if let Some(subcode) = self.subcode {
            error.insert("error_subcode".into(), subcode.into());
        }
        if let Some(details) = self.details {
            error.insert("error_data".into(), json!({"messaging_product": "whatsapp", "details": details}));
        }
        if let Some((title, words)) = self.user {
            error.insert("error_user_title".into(), title.into());
            error.insert("error_user_msg".into(), words.into());
        }
        if self.transient {
            error.insert("is_transient".into(), true.into());
        }
        error.insert("fbtrace_id".into(), trace.into());
        let mut response = (self.status, Json(json!({ "error": Value::Object(error) }))).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let value = HeaderValue::from_static("OAuth \"Bulla\" \"invalid_token\" \"Invalid OAuth access token\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, value);
        }
        response
    }
}

/// At most 64 characters of what the caller wrote, for the caller.
fn echo(text: &str) -> String {
    text.chars().take(MAX_ECHO).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(error: ApiError) -> (StatusCode, Value) {
        let response = error.into_response("trace");
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn the_object_has_the_form_that_sdks_read() {
        let (status, value) = body(ApiError::missing("text.body")).await;
        assert_eq!(status, 400);
        assert_eq!(
            value,
            json!({"error": {
                "message": "(#131008) Required parameter is missing", "type": "OAuthException", "code": 131_008,
                "error_data": {"messaging_product": "whatsapp", "details": "Parameter 'text.body' is mandatory."},
                "fbtrace_id": "trace",
            }})
        );
        let (_, value) = body(ApiError::unknown_node("GET", "12")).await;
        assert_eq!(value["error"]["error_subcode"], 33);
        assert_eq!(value["error"]["type"], "GraphMethodException");
        let (status, value) = body(ApiError::unavailable("x")).await;
        assert_eq!((status.as_u16(), &value["error"]["is_transient"]), (503, &json!(true)));
    }

    #[test]
    fn a_wrong_token_says_so_in_the_header() {
        let response = ApiError::invalid_token().into_response("t");
        assert_eq!(response.status(), 401);
        assert!(response.headers().contains_key(WWW_AUTHENTICATE));
    }
}
