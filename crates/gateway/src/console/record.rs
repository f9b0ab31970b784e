//! Writes an API call into the log while it is answered: the call itself goes the way that it goes without a console.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::Response;
use bulla_client::clock::Clock;
use futures_util::StreamExt as _;
use zeroize::Zeroizing;

use super::limits::{BODY, PATH};
use super::log::{self, Call, Log};
use super::redact;
use crate::business::Business;
use crate::secret::Secret;

/// Whose call it was, as the Cloud API tells in its answer's extensions.
#[derive(Clone)]
pub(crate) struct Caller(pub(crate) Arc<Business>);

/// What recording needs.
#[derive(Clone)]
pub(crate) struct Recorder {
    pub(crate) log: Log,
    pub(crate) clock: Arc<dyn Clock>,
    /// Secrets of all businesses, to be taken out wherever they stand.
    pub(crate) secrets: Arc<Vec<Secret>>,
}

/// Who makes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// A program.
    Program,
    /// The console's composer.
    Console,
}

impl Recorder {
    /// Has a call answered, and writes down both.
    pub(crate) async fn record<F>(&self, by: By, request: Request, answer: impl FnOnce(Request) -> F) -> Response
    where
        F: Future<Output = Response>,
    {
        let at_ms = self.clock.now_ms();
        let method = request.method().to_string();
        let (path, query) = (request.uri().path().to_owned(), request.uri().query().map(str::to_owned));
        let (request, seen) = watched(request);
        let response = answer(request).await;
        let caller = response.extensions().get::<Caller>().map(|caller| caller.0.account.handle.clone());
        let (response, answered) = looked_at(response).await;
        let ms = self.clock.now_ms().saturating_sub(at_ms);
        // Of a call of nobody only its address is kept: whoever it was, he has no business's word in the log.
        let known = caller.is_some();
        let mut path = redact::path(&path, query.as_deref().filter(|_| known), &self.secrets);
        cut(&mut path, PATH);
        let call = Call {
            method,
            path,
            status: response.status().as_u16(),
            ms,
            composed: by == By::Console,
            request: self.body(seen, known),
            response: self.body(answered, true),
        };
        self.log.call(at_ms, caller, call);
        response
    }

    fn body(&self, seen: Arc<Mutex<Seen>>, keep: bool) -> log::Body {
        let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
        let whole = usize::try_from(seen.size).is_ok_and(|size| size == seen.bytes.len());
        let text = (keep && whole && seen.size > 0).then(|| Zeroizing::new(redact::body(&seen.bytes, &self.secrets)));
        log::Body { kind: seen.kind, size: seen.size, text }
    }
}

/// What passed of a body: all of it, if it is text and not larger than what is kept, or else its size.
#[derive(Default)]
struct Seen {
    kind: String,
    size: u64,
    bytes: Zeroizing<Vec<u8>>,
}

impl Seen {
    fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        Self { kind: essence.chars().take(100).collect(), ..Self::default() }
    }

    fn is_text(&self) -> bool {
        // What says nothing of itself is read as JSON or a form.
        matches!(self.kind.as_str(), "" | "application/json" | "application/x-www-form-urlencoded" | "text/plain")
    }

    fn take(&mut self, chunk: &[u8]) {
        self.size = self.size.saturating_add(chunk.len() as u64);
        if self.is_text() && self.bytes.len().saturating_add(chunk.len()) <= BODY {
            self.bytes.extend_from_slice(chunk);
        } else {
            self.bytes = Zeroizing::default();
        }
    }
}

/// The request, whose body is looked at as it is read: nothing is read that would not have been.
fn watched(request: Request) -> (Request, Arc<Mutex<Seen>>) {
    let seen = Arc::new(Mutex::new(Seen::of(request.headers())));
    let (parts, body) = request.into_parts();
    let sees = Arc::clone(&seen);
    let body = body.into_data_stream().inspect(move |chunk| {
        if let Ok(chunk) = chunk {
            sees.lock().unwrap_or_else(PoisonError::into_inner).take(chunk);
        }
    });
    (Request::from_parts(parts, Body::from_stream(body)), seen)
}

/// The response, with what it says if that is at hand: an answer of the API is, a file that is streamed is not.
async fn looked_at(response: Response) -> (Response, Arc<Mutex<Seen>>) {
    let (parts, body) = response.into_parts();
    let mut seen = Seen::of(&parts.headers);
    let size = body.size_hint().exact();
    let at_hand = size.and_then(|size| usize::try_from(size).ok()).filter(|size| *size <= BODY && seen.is_text());
    let body = match at_hand {
        Some(size) => {
            let bytes = axum::body::to_bytes(body, size).await.unwrap_or_default();
            seen.take(&bytes);
            Body::from(bytes)
        }
        None => {
            let told = parts.headers.get(CONTENT_LENGTH).and_then(|size| size.to_str().ok()?.parse().ok());
            seen.size = size.or(told).unwrap_or(0);
            body
        }
    };
    (Response::from_parts(parts, body), Arc::new(Mutex::new(seen)))
}

fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let end = text.floor_char_boundary(most);
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;
    use axum::response::IntoResponse as _;
    use bulla_client::clock::ManualClock;
    use serde_json::Value;

    fn recorder(clock: &ManualClock) -> Recorder {
        Recorder { log: Log::new(), clock: Arc::new(clock.clone()), secrets: Arc::new(Vec::new()) }
    }

    async fn recorded(kind: &str, given: Vec<u8>, answer: Response) -> (Value, Vec<u8>, Vec<u8>) {
        let clock = ManualClock::at(1_000);
        let recorder = recorder(&clock);
        let request = Request::post("/v23.0/1/media?a=b").header(CONTENT_TYPE, kind).body(Body::from(given)).unwrap();
        let read = Arc::new(Mutex::new(Vec::new()));
        let response = recorder
            .record(By::Program, request, async |request: Request| {
                let bytes = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
                *read.lock().unwrap() = bytes.to_vec();
                clock.advance(12);
                answer
            })
            .await;
        let sent = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec();
        let entry = serde_json::to_value(recorder.log.since(0)).unwrap()["entries"][0].clone();
        (entry, std::mem::take(&mut *read.lock().unwrap()), sent)
    }

    #[tokio::test]
    async fn a_call_passes_unchanged_and_is_written_down() {
        let answer = (StatusCode::CREATED, axum::Json(serde_json::json!({"ok": true}))).into_response();
        let (entry, read, sent) = recorded("application/json; charset=utf-8", b"{\"a\":1}".to_vec(), answer).await;
        assert_eq!((read.as_slice(), sent.as_slice()), (&b"{\"a\":1}"[..], &b"{\"ok\":true}"[..]));
        assert_eq!((&entry["status"], &entry["ms"], &entry["method"]), (&201.into(), &12.into(), &"POST".into()));
        assert_eq!(entry["path"], "/v23.0/1/media", "without a known caller there is no query");
        assert_eq!(entry["response"]["text"], "{\"ok\":true}");
        assert_eq!((&entry["request"]["text"], &entry["request"]["size"]), (&Value::Null, &7.into()));
    }

    #[tokio::test]
    async fn files_pass_and_are_known_by_their_size() {
        let photo = vec![0xff; 1_000];
        let stream = futures_util::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from(vec![1; 3 * BODY]))]);
        let headers = [(CONTENT_TYPE, "image/png"), (CONTENT_LENGTH, "196608")];
        let answer = (headers, Body::from_stream(stream)).into_response();
        let (entry, read, sent) = recorded("multipart/form-data; boundary=x", photo.clone(), answer).await;
        assert!(read == photo && sent == vec![1; 3 * BODY]);
        assert_eq!((&entry["request"]["size"], &entry["request"]["text"]), (&1_000.into(), &Value::Null));
        assert_eq!((&entry["response"]["kind"], &entry["response"]["text"]), (&"image/png".into(), &Value::Null));
        assert_eq!(entry["response"]["size"], 3 * BODY);
        let answer = ([(CONTENT_TYPE, "image/png")], photo.clone()).into_response();
        let (entry, _, sent) = recorded("image/jpeg", photo.clone(), answer).await;
        assert!(sent == photo);
        assert_eq!((&entry["response"]["size"], &entry["response"]["text"]), (&1_000.into(), &Value::Null));
    }

    #[test]
    fn a_body_that_outgrows_what_is_kept_is_not_kept_in_part() {
        let mut seen = Seen::default();
        seen.take(&vec![b'a'; BODY]);
        assert_eq!(seen.bytes.len(), BODY);
        seen.take(b"b");
        assert_eq!((seen.size, seen.bytes.len()), (BODY as u64 + 1, 0));
        let mut text = "ä".repeat(PATH);
        cut(&mut text, PATH);
        assert_eq!(text.chars().count(), PATH / 2 + 1);
    }
}
