//! The business's own web server: keeps every byte of every request, answers `hub.challenge`, and misbehaves when told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::wait::{GUARD, Log};

/// How it answers deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    /// 200 at once.
    #[default]
    Well,
    /// 500.
    Failing,
    /// 200 after so long.
    Slow(Duration),
    /// Ends the connection without an answer.
    Closing,
}

/// One delivery, as it came.
#[derive(Clone)]
pub struct Delivery {
    /// The exact bytes of the body.
    pub body: Bytes,
    /// All headers.
    pub headers: HeaderMap,
    /// What was answered: only a delivery that was told `Well` counts as received.
    pub mood: Mood,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}", self.mood, String::from_utf8_lossy(&self.body))
    }
}

impl Delivery {
    /// As JSON; null if it is not.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Whether `X-Hub-Signature-256` is right for this app secret, over the exact bytes.
    #[must_use]
    pub fn signature_verifies(&self, app_secret: &str) -> bool {
        let given = self.headers.get("x-hub-signature-256").and_then(|value| value.to_str().ok());
        let Some(given) = given.and_then(|v| v.strip_prefix("sha256=")) else { return false };
        let Ok(given) = data_encoding::HEXLOWER.decode(given.as_bytes()) else { return false };
        let Ok(mut mac) = <Hmac<Sha256>>::new_from_slice(app_secret.as_bytes()) else { return false };
        mac.update(&self.body);
        mac.verify_slice(&given).is_ok()
    }

    /// Each `value` of each change.
    fn values(&self) -> Vec<Value> {
        let json = self.json();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let entries = list(&json["entry"]);
        entries.iter().flat_map(|entry| list(&entry["changes"])).map(|change| change["value"].clone()).collect()
    }

    /// Messages in it.
    #[must_use]
    pub fn messages(&self) -> Vec<Value> {
        self.values().iter().flat_map(|value| value["messages"].as_array().cloned().unwrap_or_default()).collect()
    }

    /// Statuses in it.
    #[must_use]
    pub fn statuses(&self) -> Vec<Value> {
        self.values().iter().flat_map(|value| value["statuses"].as_array().cloned().unwrap_or_default()).collect()
    }

    /// What customers have decided, in it.
    #[must_use]
    pub fn preferences(&self) -> Vec<Value> {
        self.values()
            .iter()
            .flat_map(|value| value["user_preferences"].as_array().cloned().unwrap_or_default())
            .collect()
    }

    /// Contacts in it.
    #[must_use]
    pub fn contacts(&self) -> Vec<Value> {
        self.values().iter().flat_map(|value| value["contacts"].as_array().cloned().unwrap_or_default()).collect()
    }
}

#[derive(Debug, Clone, Default)]
struct Shared {
    deliveries: Log<Delivery>,
    mood: Arc<Mutex<Mood>>,
    challenges: Log<Vec<(String, String)>>,
}

/// A running receiver; it stops when dropped.
#[derive(Debug)]
pub struct Receiver {
    addr: SocketAddr,
    shared: Shared,
    _stop: DropGuard,
}

impl Receiver {
    /// Listens on a free port.
    pub async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("a port for the webhook receiver")?;
        let addr = listener.local_addr()?;
        let shared = Shared::default();
        let routes = axum::Router::new().route("/webhook", get(challenge).post(deliver)).with_state(shared.clone());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            let serve = axum::serve(listener, routes);
            tokio::select! {
                _ = serve.into_future() => {}
                () = stopped.cancelled() => {}
            }
        });
        Ok(Self { addr, shared, _stop: stop.drop_guard() })
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/webhook", self.addr)
    }

    /// From now on it answers so.
    pub fn be(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    /// Everything that was delivered, also what was refused.
    #[must_use]
    pub fn deliveries(&self) -> &Log<Delivery> {
        &self.shared.deliveries
    }

    /// The queries of each `hub.challenge`.
    #[must_use]
    pub fn challenges(&self) -> &Log<Vec<(String, String)>> {
        &self.shared.challenges
    }

    /// Looks at each delivery once, in order, those that came before included, until something is found.
    pub async fn each<R>(
        &self,
        guard: Duration,
        what: &str,
        mut seen: impl FnMut(&Delivery) -> Option<R>,
    ) -> Result<R> {
        let mut looked_at = 0;
        let new = |all: &[Delivery]| {
            let found = all.get(looked_at..)?.iter().find_map(&mut seen);
            looked_at = all.len();
            found
        };
        self.shared.deliveries.until_within(guard, what, new).await
    }

    /// Waits for the first message that fits.
    pub async fn message(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<(Delivery, Value)> {
        let of = |delivery: &Delivery| {
            let message = delivery.messages().into_iter().find(|message| fits(message))?;
            Some((delivery.clone(), message))
        };
        self.each(GUARD, what, of).await
    }

    /// Waits for a status of a message.
    pub async fn status(&self, wamid: &str, status: &str) -> Result<Value> {
        let of =
            |delivery: &Delivery| delivery.statuses().into_iter().find(|s| s["id"] == wamid && s["status"] == status);
        self.each(GUARD, &format!("the webhook `{status}`"), of).await
    }

    /// Waits until texts have come and were taken, all of these.
    pub async fn all_texts(&self, guard: Duration, wanted: impl IntoIterator<Item = String>) -> Result<()> {
        let mut missing: std::collections::BTreeSet<String> = wanted.into_iter().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let of = |delivery: &Delivery| {
            for (_, text) in texts(std::slice::from_ref(delivery)) {
                missing.remove(&text);
            }
            missing.is_empty().then_some(())
        };
        self.each(guard, "all texts", of).await
    }

    /// [`texts`] of everything so far.
    #[must_use]
    pub fn texts(&self) -> Vec<(String, String)> {
        texts(&self.shared.deliveries.all())
    }
}

/// Sender and text of messages that were delivered and taken, each message id once, in the order of their first coming.
#[must_use]
pub fn texts(deliveries: &[Delivery]) -> Vec<(String, String)> {
    let mut seen = std::collections::BTreeSet::new();
    let taken = deliveries.iter().filter(|d| matches!(d.mood, Mood::Well | Mood::Slow(_)));
    taken
        .flat_map(Delivery::messages)
        .filter(|m| seen.insert(m["id"].as_str().unwrap_or_default().to_owned()))
        .filter_map(|m| {
            Some((
                m["from_user_id"].as_str().or(m["from"].as_str())?.to_owned(),
                m["text"]["body"].as_str()?.to_owned(),
            ))
        })
        .collect()
}

async fn challenge(State(shared): State<Shared>, Query(query): Query<Vec<(String, String)>>) -> Response {
    shared.challenges.push(query.clone());
    let value = query.into_iter().find(|(name, _)| name == "hub.challenge").map(|(_, value)| value);
    value.map_or_else(|| StatusCode::BAD_REQUEST.into_response(), axum::response::IntoResponse::into_response)
}

async fn deliver(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let mood = *shared.mood.lock().unwrap_or_else(PoisonError::into_inner);
    shared.deliveries.push(Delivery { body, headers, mood });
    match mood {
        Mood::Well => StatusCode::OK.into_response(),
        Mood::Failing => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Mood::Slow(after) => {
            // Not a wait for anything: being slow is what is asked of it.
            tokio::time::sleep(after).await;
            StatusCode::OK.into_response()
        }
        Mood::Closing => {
            // A body that fails at its first byte makes the server drop the connection.
            let broken = futures_util::stream::once(async { Err::<Bytes, _>(std::io::Error::other("closing")) });
            axum::body::Body::from_stream(broken).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::http;

    #[tokio::test]
    async fn it_keeps_bytes_and_checks_signatures() {
        let receiver = Receiver::start().await.unwrap();
        let body =
            r#"{"entry":[{"changes":[{"value":{"messages":[{"id":"wamid.1","from":"49","text":{"body":"hi"}}]}}]}]}"#;
        let mut mac = <Hmac<Sha256>>::new_from_slice(b"secret").unwrap();
        mac.update(body.as_bytes());
        let signature = format!("sha256={}", data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes()));
        let post = || http().unwrap().post(receiver.url()).body(body).header("x-hub-signature-256", &signature);
        receiver.be(Mood::Failing);
        assert_eq!(post().send().await.unwrap().status(), 500);
        receiver.be(Mood::Closing);
        let cut = post().send().await;
        assert!(cut.is_err() || cut.unwrap().bytes().await.is_err());
        assert!(receiver.texts().is_empty(), "what was not taken does not count");
        receiver.be(Mood::Well);
        for _ in 0..2 {
            assert_eq!(post().send().await.unwrap().status(), 200);
        }
        let (delivery, message) = receiver.message("hi", |m| m["text"]["body"] == "hi").await.unwrap();
        assert_eq!((&delivery.body[..], message["id"].as_str()), (body.as_bytes(), Some("wamid.1")));
        assert!(delivery.signature_verifies("secret"));
        assert!(!delivery.signature_verifies("other"));
        assert_eq!(receiver.texts(), [("49".to_owned(), "hi".to_owned())], "a repeated id counts once");
    }

    #[tokio::test]
    async fn it_answers_the_challenge_with_its_value() {
        let receiver = Receiver::start().await.unwrap();
        let url = format!("{}?hub.mode=subscribe&hub.challenge=4711&hub.verify_token=t", receiver.url());
        let answer = http().unwrap().get(url).send().await.unwrap().text().await.unwrap();
        assert_eq!(answer, "4711");
        assert_eq!(receiver.challenges().len(), 1);
    }
}
