//! A request's parameters, wherever they stand: JSON, form, multipart or query, on any verb.
//!
//! Clients of the Cloud API use all four. What stands in the body goes before what stands in the query. In forms, a nested
//! value is JSON text (`text={"body":"hi"}`) or has brackets in its name (`text[body]=hi`).

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest as _, Multipart, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use serde_json::{Map, Value};

use super::error::ApiError;

/// Largest body. The largest message that is supported takes a fiftieth of it.
pub(crate) const MAX_BODY: usize = 1024 * 1024;

/// Brackets in a form's name; deeper ones are a name like any other.
const MAX_NESTING: usize = 8;

/// The parameters of a request.
#[derive(Clone, Default)]
pub(crate) struct Params(Map<String, Value>);

impl Params {
    /// Those in the query.
    pub(crate) fn of_query(parts: &Parts) -> Self {
        let mut params = Self::default();
        params.take_form(parts.uri.query().unwrap_or_default().as_bytes());
        params
    }

    /// Adds those in the body.
    pub(crate) async fn read_body(&mut self, parts: Parts, body: Body) -> Result<(), ApiError> {
        // An error is a body over the limit, or a connection that broke, where nobody hears the answer.
        let bytes = axum::body::to_bytes(body, MAX_BODY).await.map_err(|_| ApiError::too_large())?;
        if bytes.is_empty() {
            return Ok(());
        }
        let kind = parts.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let kind = kind.to_ascii_lowercase();
        if kind.starts_with("multipart/form-data") {
            self.take_multipart(parts, bytes).await
        } else if kind.starts_with("application/x-www-form-urlencoded") && bytes.first() != Some(&b'{') {
            self.take_form(&bytes);
            Ok(())
        } else {
            self.take_json(&bytes)
        }
    }

    fn take_json(&mut self, bytes: &[u8]) -> Result<(), ApiError> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(members)) => {
                self.0.extend(members);
                Ok(())
            }
            Ok(_) => Err(ApiError::parameter("The request body has to be a JSON object.")),
            Err(_) => Err(ApiError::parameter("The request body is not valid JSON.")),
        }
    }

    fn take_form(&mut self, bytes: &[u8]) {
        // Percent-decoding as forms do it: what is not UTF-8 becomes U+FFFD, nothing is refused.
        let pairs: Vec<(String, String)> = serde_urlencoded::from_bytes(bytes).unwrap_or_default();
        for (name, value) in pairs {
            insert(&mut self.0, &name, value);
        }
    }

    async fn take_multipart(&mut self, parts: Parts, bytes: Bytes) -> Result<(), ApiError> {
        let malformed = || ApiError::parameter("The request body is not valid multipart/form-data.");
        let request = Request::from_parts(parts, Body::from(bytes));
        let mut form = Multipart::from_request(request, &()).await.map_err(|_| malformed())?;
        while let Some(field) = form.next_field().await.map_err(|_| malformed())? {
            let Some(name) = field.name().map(str::to_owned) else { continue };
            let value = field.bytes().await.map_err(|_| malformed())?;
            insert(&mut self.0, &name, String::from_utf8_lossy(&value).into_owned());
        }
        Ok(())
    }

    /// As a value, to be looked into.
    pub(crate) fn root(&self) -> Node<'_> {
        Node(Object::Of(&self.0))
    }
}

impl std::fmt::Debug for Params {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Params(redacted)")
    }
}

enum Object<'a> {
    Of(&'a Map<String, Value>),
    Parsed(Map<String, Value>),
}

/// An object among the parameters.
pub(crate) struct Node<'a>(Object<'a>);

impl Node<'_> {
    fn map(&self) -> &Map<String, Value> {
        match &self.0 {
            Object::Of(map) => map,
            Object::Parsed(map) => map,
        }
    }

    /// Whether there is a value that is not `null`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.map().get(name).is_some_and(|v| !v.is_null())
    }

    /// A text. Numbers and booleans count as their text, as the Graph API has it. `Ok(None)` if absent, `Err` if it is something else.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, NotThat> {
        match self.map().get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(n)) => Ok(Some(n.to_string())),
            Some(Value::Bool(b)) => Ok(Some(b.to_string())),
            Some(_) => Err(NotThat),
        }
    }

    /// A list or an object, or text that is one in JSON: what is read further as a whole. A text that is none of them stands for itself.
    pub(crate) fn json(&self, name: &str) -> Option<Value> {
        match self.map().get(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(
                serde_json::from_str(text)
                    .ok()
                    .filter(|value: &Value| value.is_array() || value.is_object())
                    .unwrap_or_else(|| Value::String(text.clone())),
            ),
            Some(value) => Some(value.clone()),
        }
    }

    /// An object, or text that is a JSON object.
    pub(crate) fn object(&self, name: &str) -> Result<Option<Node<'_>>, NotThat> {
        match self.map().get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Node(Object::Of(map)))),
            Some(Value::String(text)) => match serde_json::from_str(text) {
                Ok(Value::Object(map)) => Ok(Some(Node(Object::Parsed(map)))),
                _ => Err(NotThat),
            },
            Some(_) => Err(NotThat),
        }
    }
}

/// The value has another JSON type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotThat;

/// Sets a form's field; `a[b][c]` is `{"a":{"b":{"c":…}}}`.
fn insert(map: &mut Map<String, Value>, name: &str, value: String) {
    let path = path(name);
    let Some((last, parents)) = path.split_last() else { return };
    let mut at = map;
    for parent in parents {
        let next = at.entry((*parent).to_owned()).or_insert_with(|| Value::Object(Map::new()));
        if !next.is_object() {
            *next = Value::Object(Map::new());
        }
        match next {
            Value::Object(inner) => at = inner,
            _ => return,
        }
    }
    at.insert((*last).to_owned(), Value::String(value));
}

fn path(name: &str) -> Vec<&str> {
    let whole = vec![name];
    let Some((first, rest)) = name.split_once('[') else { return whole };
    let Some(inner) = rest.strip_suffix(']') else { return whole };
    let mut parts = vec![first];
    parts.extend(inner.split("]["));
    if first.is_empty() || parts.len() > MAX_NESTING || parts.iter().any(|p| p.is_empty() || p.contains(['[', ']'])) {
        return whole;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    async fn read(uri: &str, kind: &str, body: &str) -> Result<Value, ApiError> {
        let request = Request::builder().uri(uri).header(CONTENT_TYPE, kind).body(Body::from(body.to_owned())).unwrap();
        let (parts, body) = request.into_parts();
        let mut params = Params::of_query(&parts);
        params.read_body(parts, body).await?;
        Ok(Value::Object(params.0))
    }

    #[tokio::test]
    async fn every_encoding_gives_the_same() {
        let expected = json!({"to": "890", "text": {"body": "hä"}});
        let json_body = expected.to_string();
        assert_eq!(read("/", "application/json", &json_body).await.unwrap(), expected);
        assert_eq!(read("/", "text/plain", &json_body).await.unwrap(), expected, "JSON under a wrong name");
        assert_eq!(read("/?to=1", "application/json", &json_body).await.unwrap(), expected, "the body goes first");
        let form = "to=890&text[body]=h%C3%A4";
        assert_eq!(read("/", "application/x-www-form-urlencoded; charset=utf-8", form).await.unwrap(), expected);
        assert_eq!(read("/?to=890&text%5Bbody%5D=h%C3%A4", "", "").await.unwrap(), expected);
        let multipart = "--X\r\nContent-Disposition: form-data; name=\"to\"\r\n\r\n890\r\n\
                         --X\r\nContent-Disposition: form-data; name=\"text[body]\"\r\n\r\nhä\r\n--X--\r\n";
        assert_eq!(read("/", "multipart/form-data; boundary=X", multipart).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn nested_json_inside_a_form_is_read() {
        let mut params = Params::default();
        params.take_form(b"text=%7B%22body%22%3A%22hi%22%7D&type=text&n=5");
        let root = params.root();
        assert_eq!(root.object("text").unwrap().unwrap().text("body"), Ok(Some("hi".into())));
        assert!(root.object("type").is_err() && root.object("none").unwrap().is_none());
    }

    #[tokio::test]
    async fn wrong_bodies_are_refused() {
        for (kind, body) in [
            ("application/json", "{"),
            ("application/json", "[]"),
            ("application/json", "\"text\""),
            ("application/json", "\u{feff}{}"),
            ("application/json", &"[".repeat(100_000)),
            ("application/json", &format!("{{\"a\":{}}}", "[".repeat(5_000))),
            ("multipart/form-data; boundary=X", "--Y"),
            ("multipart/form-data", "x"),
        ] {
            assert!(read("/", kind, body).await.is_err(), "{kind}");
        }
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_BODY));
        assert_eq!(read("/", "application/json", &large).await.unwrap_err(), ApiError::too_large());
    }

    #[test]
    fn brackets_that_are_none_stay_in_the_name() {
        for name in ["a[", "a]", "[a]", "a[]", "a[b]c", "a[b][", "a[[b]]"] {
            assert_eq!(path(name), [name]);
        }
        assert_eq!(path("a[b][c]"), ["a", "b", "c"]);
        assert_eq!(path(&format!("a{}", "[b]".repeat(50))).len(), 1);
    }
}
