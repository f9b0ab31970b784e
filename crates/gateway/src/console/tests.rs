//! The console over real HTTP, at a gateway whose relay is not there: what it does needs none.

use std::path::Path;

use bulla_client::clock::{Clock, ManualClock, SystemClock};
use bulla_client::event::ConversationId;
use bulla_testkit::webhook::Receiver;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::api::ROUTES;
use super::log::{Fate, Row};
use super::*;
use crate::config::NewBusiness;
use crate::gateway::ServeError;
use crate::store::queue;
use crate::{ApiReach, Config, Credentials, Gateway, Running};

struct World {
    running: Running,
    credentials: Credentials,
    http: Client,
    receiver: Receiver,
    _folder: tempfile::TempDir,
}

/// JSON, said and read.
trait Says {
    fn says(self, value: &Value) -> Self;
}

impl Says for RequestBuilder {
    fn says(self, value: &Value) -> Self {
        self.header("content-type", "application/json").body(value.to_string())
    }
}

async fn read(answer: reqwest::Response) -> Value {
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

/// A browser that was let in: what it sends.
#[derive(Clone)]
struct Page {
    cookie: String,
    key: String,
}

fn app(folder: &Path) -> App {
    let folder = folder.join("console");
    std::fs::create_dir_all(folder.join("assets")).unwrap();
    for (name, text) in [("index.html", "<!doctype html>"), ("assets/a-1.js", "1")] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    App::from_folder(&folder).unwrap()
}

fn config(folder: &Path) -> Config {
    let mut config = Config::new(folder.join("data"), "ws://127.0.0.1:9/v1/ws");
    config.console = Some(app(folder));
    config.businesses = vec![NewBusiness { handle: "shop".into(), name: "Shop".into() }];
    config
}

impl World {
    async fn start() -> Self {
        Self::start_at(Arc::new(SystemClock)).await
    }

    async fn start_at(clock: Arc<dyn Clock>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let receiver = Receiver::start().await.unwrap();
        let mut config = config(folder.path());
        config.clock = clock;
        config.webhook = Some(receiver.url().parse().unwrap());
        let running = Gateway::serve(config).await.unwrap();
        let credentials = running.credentials().await.unwrap().remove(0);
        let http = bulla_testkit::cloud::http().unwrap();
        Self { running, credentials, http, receiver, _folder: folder }
    }

    fn log(&self) -> &log::Log {
        &self.running.console.as_ref().unwrap().0.recorder.log
    }

    fn origin(&self) -> String {
        format!("http://{}", self.running.api_addr)
    }

    fn code(&self) -> String {
        let link = self.running.console_link().unwrap();
        let (address, code) = link.expose().split_once("#code=").unwrap();
        assert_eq!(address, format!("{}/console", self.origin()));
        code.to_owned()
    }

    fn ask(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.http.request(method, format!("{}/console/api/{path}", self.origin()))
    }

    /// As the page's own script asks.
    fn own(&self, page: &Page, method: &str, path: &str) -> RequestBuilder {
        let ask = self.ask(method, path).header("origin", self.origin()).header("sec-fetch-site", "same-origin");
        ask.header("cookie", &page.cookie).header("x-bulla-console", &page.key)
    }

    async fn enter(&self) -> Page {
        let asked = self.ask("POST", "session").header("origin", self.origin()).says(&json!({"code": self.code()}));
        let answer = asked.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let set = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
        let port = self.running.api_addr.port();
        let (cookie, attributes) = set.split_once(';').unwrap();
        assert_eq!(attributes, " Path=/console; HttpOnly; SameSite=Strict");
        assert!(cookie.starts_with(&format!("bulla-console-{port}=")), "{cookie}");
        let key = read(answer).await["key"].as_str().unwrap().to_owned();
        Page { cookie: cookie.to_owned(), key }
    }

    async fn news(&self, page: &Page, after: u64) -> Value {
        let answer = self.own(page, "GET", &format!("log?after={after}")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        read(answer).await
    }

    /// Waits until an entry fits.
    async fn entry(&self, page: &Page, fits: impl Fn(&Value) -> bool) -> Value {
        let mut after = 0;
        loop {
            let news = self.news(page, after).await;
            after = news["revision"].as_u64().unwrap();
            if let Some(entry) = news["entries"].as_array().unwrap().iter().find(|entry| fits(entry)) {
                return entry.clone();
            }
        }
    }

    /// Waits until the receiver answered its challenge.
    async fn is_verified(&self, page: &Page) {
        let mut after = 0;
        loop {
            let news = self.news(page, after).await;
            if news["receivers"]["shop"]["state"] == "ready" {
                return;
            }
            after = news["revision"].as_u64().unwrap();
        }
    }

    /// A webhook that was delivered; its number in the log.
    fn delivered(&self, body: &str) -> u64 {
        let row = Row { business: "shop".into(), sequence: 77 };
        self.log().webhook(&row, ConversationId(1), 5, body.as_bytes(), || "sha256=…".into());
        self.log().tried(&row, None, Fate::Delivered);
        let news = serde_json::to_value(self.log().since(0)).unwrap();
        news["entries"].as_array().unwrap().last().unwrap()["id"].as_u64().unwrap()
    }
}

fn path(pattern: &str, id: u64) -> String {
    let star = if pattern.starts_with("webhooks") { id.to_string() } else { "shop".to_owned() };
    pattern.replace('*', &star)
}

/// GW-08: whatever a page of another origin makes a browser send, to whichever route, with the cookie and even with the key.
#[tokio::test]
async fn gw_08_a_foreign_page_changes_nothing_at_any_route() {
    let world = World::start().await;
    let page = world.enter().await;
    world.is_verified(&page).await;
    let id = world.delivered("{}");
    let code = world.code();
    let before = serde_json::to_value(world.log().since(0)).unwrap();
    let other_port = "http://127.0.0.1:9000";
    let foreign: &[&[(&str, &str)]] = &[
        &[("origin", "http://evil.example")],
        &[("origin", "null")],
        &[("origin", other_port), ("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
        &[("host", "evil.example"), ("origin", "http://evil.example"), ("sec-fetch-site", "same-origin")],
        &[("host", "localhost:1"), ("origin", "http://localhost:1")],
    ];
    let mut refused = 0;
    for (method, pattern, _) in ROUTES {
        for headers in foreign {
            let mut asked = world.ask(method, &path(pattern, id)).says(&json!({
                "code": code, "messaging_product": "whatsapp", "recipient": "ZZ.x", "type": "text", "text": {"body": "x"},
            }));
            asked = asked.header("cookie", &page.cookie).header("x-bulla-console", &page.key);
            for (name, value) in *headers {
                asked = asked.header(*name, *value);
            }
            let answer = asked.send().await.unwrap();
            let status = answer.status();
            assert!(matches!(status.as_u16(), 403 | 421), "{method} {pattern} {headers:?}: {status}");
            assert!(!answer.headers().contains_key("access-control-allow-origin"));
            refused += 1;
        }
    }
    assert_eq!(refused, ROUTES.len() * foreign.len());
    assert_eq!(serde_json::to_value(world.log().since(0)).unwrap(), before, "nothing was sent, posted or written down");
    assert!(world.receiver.deliveries().all().is_empty());
    assert_eq!(world.own(&page, "GET", "state").send().await.unwrap().status(), 200, "the session is as it was");
    let enter = world.ask("POST", "session").header("origin", world.origin()).says(&json!({ "code": code }));
    assert_eq!(enter.send().await.unwrap().status(), 200, "and the code unused");
    // The control: from the page itself each of them is answered otherwise.
    for (method, pattern, _) in ROUTES.iter().rev() {
        let path = if *pattern == "log" { "log?after=0".to_owned() } else { path(pattern, id) };
        let status = world.own(&page, method, &path).says(&json!({"code": "x"})).send().await.unwrap().status();
        assert!(!matches!(status.as_u16(), 403 | 421), "{method} {pattern}: {status}");
    }
}

#[tokio::test]
async fn gw_08_every_route_but_the_first_needs_cookie_and_key() {
    let world = World::start().await;
    let (page, other) = (world.enter().await, world.enter().await);
    let strangers = [
        Page { cookie: String::new(), ..page.clone() },
        Page { key: String::new(), ..page.clone() },
        Page { key: other.key, ..page.clone() },
        Page { cookie: page.cookie.to_uppercase(), ..page.clone() },
    ];
    for (method, pattern, _) in ROUTES.iter().filter(|(_, pattern, _)| *pattern != "session") {
        for stranger in &strangers {
            let asked = world.own(stranger, method, &path(pattern, 1)).says(&json!({}));
            assert_eq!(asked.send().await.unwrap().status(), 401, "{method} {pattern}");
        }
    }
    assert_eq!(world.own(&page, "DELETE", "session").send().await.unwrap().status(), 204);
    assert_eq!(world.own(&page, "GET", "state").send().await.unwrap().status(), 401, "who left is out");
}

#[tokio::test]
async fn the_page_is_served_under_its_policy_and_what_is_no_console_stays_the_apis() {
    let world = World::start().await;
    let get = |path: &str| world.http.get(format!("{}{path}", world.origin()));
    for path in ["/console", "/console/", "/console/assets/a-1.js"] {
        let answer = get(path).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let policy = answer.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("require-trusted-types-for 'script'; trusted-types 'none'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers()["cross-origin-resource-policy"], "same-origin");
    }
    for path in
        ["/console/index.html", "/console/../data", "/console/assets/none.js", "/console/api/none", "/console/api"]
    {
        let answer = get(path).send().await.unwrap();
        assert_eq!(answer.status(), if path == "/console/../data" { 401 } else { 404 }, "{path}");
    }
    let post = world.http.post(format!("{}/console", world.origin())).header("origin", world.origin());
    assert_eq!(post.send().await.unwrap().status(), 405);
    let api = get("/v23.0/1").send().await.unwrap();
    assert_eq!((api.status(), read(api).await["error"]["code"].clone()), (StatusCode::UNAUTHORIZED, json!(190)));
}

#[tokio::test]
async fn gw_16_calls_are_shown_and_no_token_is_in_what_is_shown() {
    let world = World::start().await;
    let page = world.enter().await;
    let (token, secret) = (world.credentials.access_token.expose(), world.credentials.app_secret.expose());
    let (phone, app) = (&world.credentials.phone_number_id, &world.credentials.app_id);
    let url = |id: &str, rest: &str| format!("{}/v23.0/{id}{rest}", world.origin());
    let calls = [
        world.http.get(url(phone, "")).bearer_auth(token),
        world.http.get(url(phone, &format!("?fields=id&access_token={token}"))),
        world.http.post(url(phone, "/messages")).says(&json!({"access_token": token, "to": "1", "type": "text"})),
        world.http.get(url(app, "/subscriptions")).bearer_auth(format!("{app}|{secret}")),
        world.http.delete(url(app, &format!("/subscriptions?access_token={app}|{secret}"))),
        world.http.get(url(&format!("x{token}"), "")).bearer_auth(token),
        world.http.post(url(phone, "/messages?access_token=EAAwrong")).body("canary-of-a-stranger"),
    ];
    let count = calls.len();
    for call in calls {
        call.send().await.unwrap();
    }
    let news = world.news(&page, 0).await;
    let shown: Vec<&Value> = news["entries"].as_array().unwrap().iter().collect();
    assert_eq!(shown.len(), count);
    let text = news.to_string();
    for hidden in [token, secret, world.credentials.verify_token.expose(), "EAAwrong", "canary-of-a-stranger"] {
        assert!(!text.contains(hidden), "{text}");
    }
    assert_eq!(
        (&shown[0]["status"], &shown[0]["business"], &shown[0]["method"]),
        (&json!(200), &json!("shop"), &json!("GET"))
    );
    assert_eq!(shown[1]["path"], format!("/v23.0/{phone}?fields=id&access_token=%E2%80%A6"));
    assert!(shown[2]["request"]["text"].as_str().unwrap().contains(r#""access_token":"…""#), "{}", shown[2]);
    assert!(shown[3]["response"]["text"].as_str().unwrap().contains("callback_url"), "{}", shown[3]);
    assert_eq!((&shown[6]["business"], &shown[6]["status"]), (&Value::Null, &json!(401)));
}

#[tokio::test]
async fn the_composer_calls_the_api_as_a_program_does() {
    let world = World::start().await;
    let page = world.enter().await;
    let message = json!({
        "messaging_product": "whatsapp", "recipient": "ZZ.nobody", "type": "text", "text": {"body": "hi"},
    });
    let answer = world.own(&page, "POST", "businesses/shop/messages").says(&message).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let answer = read(answer).await;
    let entry = world.entry(&page, |entry| entry["kind"] == "call").await;
    assert_eq!(entry["composed"], true);
    assert_eq!(entry["path"], format!("/v23.0/{}/messages", world.credentials.phone_number_id));
    let kept = |part: &str| serde_json::from_str::<Value>(entry[part]["text"].as_str().unwrap()).unwrap();
    assert_eq!((kept("request"), kept("response")), (message, answer));
    let nobody = world.own(&page, "POST", "businesses/other/messages").says(&json!({})).send().await.unwrap();
    assert_eq!(nobody.status(), 404);
}

#[tokio::test]
async fn a_replay_posts_the_same_bytes_with_the_same_signature() {
    let world = World::start().await;
    let page = world.enter().await;
    world.is_verified(&page).await;
    let id = world.delivered(r#"{"object":"x", "odd" : 1}"#);
    let again = world.own(&page, "POST", &format!("webhooks/{id}/replay")).send().await.unwrap();
    assert_eq!((again.status(), read(again).await), (StatusCode::ACCEPTED, json!({"replay": "posted"})));
    let delivery = world.receiver.each(bulla_testkit::wait::GUARD, "the replay", |d| Some(d.clone())).await.unwrap();
    assert_eq!(&delivery.body[..], br#"{"object":"x", "odd" : 1}"#);
    assert!(delivery.signature_verifies(world.credentials.app_secret.expose()));
    let entry = world.entry(&page, |entry| entry["attempts"][0]["replay"] == true).await;
    assert_eq!((&entry["attempts"][0]["status"], &entry["state"]), (&json!(200), &json!("delivered")));
    for (none, status) in [("webhooks/9999/replay", 404), ("webhooks/x/replay", 404)] {
        assert_eq!(world.own(&page, "POST", none).send().await.unwrap().status().as_u16(), status, "{none}");
    }
}

#[tokio::test]
async fn what_the_owner_asks_for_is_shown_and_nothing_else_has_it() {
    let world = World::start().await;
    let page = world.enter().await;
    for (what, secret) in [("token", &world.credentials.access_token), ("app-secret", &world.credentials.app_secret)] {
        let answer = world.own(&page, "POST", &format!("businesses/shop/{what}")).send().await.unwrap();
        assert_eq!(read(answer).await, json!({ "secret": secret }));
    }
    let state = read(world.own(&page, "GET", "state").send().await.unwrap()).await;
    assert_eq!(state["businesses"][0]["link"], world.credentials.link);
    assert_eq!(state["api_base"], world.origin());
    let news = world.news(&page, 0).await;
    for text in [state.to_string(), news.to_string()] {
        assert!(
            !text.contains(world.credentials.access_token.expose())
                && !text.contains(world.credentials.app_secret.expose())
        );
    }
}

#[tokio::test]
async fn what_is_no_request_is_refused_in_words() {
    let world = World::start().await;
    let page = world.enter().await;
    let large = "x".repeat(limits::REQUEST + 1);
    let enter = |kind: &str, body: &str| {
        let asked = world.ask("POST", "session").header("origin", world.origin());
        asked.header("content-type", kind).body(body.to_owned()).send()
    };
    let good = format!(r#"{{"code":"{}"}}"#, world.code());
    for (kind, body, status) in [
        ("text/plain", good.as_str(), 400),
        ("application/x-www-form-urlencoded", good.as_str(), 400),
        ("application/json", "", 400),
        ("application/json", "{", 400),
        ("application/json", r#"{"code":7}"#, 400),
        ("application/json", large.as_str(), 400),
        ("application/json", r#"{"code":""}"#, 401),
        ("application/json", r#"{"code":"481220"}"#, 401),
    ] {
        let answer = enter(kind, body).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{kind} {}", &body[..body.len().min(40)]);
        assert!(read(answer).await["error"]["message"].as_str().is_some_and(|words| words.len() > 10));
    }
    for query in ["log", "log?after=", "log?after=x", "log?after=-1"] {
        assert_eq!(world.own(&page, "GET", query).send().await.unwrap().status(), 400, "{query}");
    }
    assert_eq!(enter("application/json; charset=utf-8", &good).await.unwrap().status(), 200);
}

#[tokio::test]
async fn gw_17_the_console_is_on_loopback_or_where_somebody_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut exposed = config(folder.path());
    exposed.api_listen = "0.0.0.0:0".parse().unwrap();
    exposed.api_reach = ApiReach::Network;
    assert!(matches!(Gateway::serve(exposed.clone()).await, Err(ServeError::ConsoleExposed(_))));
    exposed.console_origin = Some("http://console.shop.example".parse().unwrap());
    assert!(matches!(Gateway::serve(exposed.clone()).await, Err(ServeError::ConsoleOrigin { .. })));
    exposed.console_origin = Some("https://console.shop.example".parse().unwrap());
    let running = Gateway::serve(exposed.clone()).await.unwrap();
    let link = running.console_link().unwrap();
    let (origin, code) = link.expose().split_once("/console#code=").unwrap();
    assert_eq!(origin, "https://console.shop.example");
    let ask = |host: &str| {
        let url = format!("http://127.0.0.1:{}/console/api/session", running.api_addr.port());
        let asked = bulla_testkit::cloud::http().unwrap().post(url).header("host", host);
        asked.header("origin", "https://console.shop.example").says(&json!({ "code": code })).send()
    };
    assert_eq!(ask("127.0.0.1").await.unwrap().status(), 421);
    let entered = ask("console.shop.example").await.unwrap();
    assert!(entered.headers()["set-cookie"].to_str().unwrap().ends_with("SameSite=Strict; Secure"));
    running.shutdown().await;
    exposed.console = None;
    exposed.console_origin = None;
    let without = Gateway::serve(exposed).await.unwrap();
    assert!(without.console_link().is_none());
}

/// The owner of the folder, and nobody else, has links made while the gateway runs.
#[tokio::test]
async fn links_are_made_through_the_folders_socket() {
    let world = World::start().await;
    let data = world._folder.path().join("data");
    let link = tokio::task::spawn_blocking(move || crate::new_console_link(&data)).await.unwrap().unwrap();
    let code = link.expose().split_once("#code=").unwrap().1.to_owned();
    let enter = || world.ask("POST", "session").header("origin", world.origin()).says(&json!({ "code": code })).send();
    assert_eq!(enter().await.unwrap().status(), 200);
    assert_eq!(enter().await.unwrap().status(), 401, "once");
}
/// What nobody took in seven days is laid aside, said to be there, and posted again when a person says so: the same bytes, whose signature still verifies.
#[tokio::test]
async fn gw_19_dead_letters_are_shown_and_posted_again() {
    let clock = ManualClock::at(SystemClock.now_ms());
    let world = World::start_at(Arc::new(clock.clone())).await;
    let page = world.enter().await;
    world.is_verified(&page).await;
    let console = &world.running.console.as_ref().unwrap().0;
    let endpoint = console.business("shop").unwrap().endpoint.clone();
    endpoint.with_store(|tx| queue::push_own(tx, b"{\"canary\":1}")).await.unwrap();
    clock.advance(queue::KEPT_MS);
    assert_eq!(endpoint.with_store(queue::expire).await.unwrap().len(), 1);
    // No session lives for a week.
    let page = world.enter().await;
    let dead = async || {
        let state = world.own(&page, "GET", "state").send().await.unwrap();
        read(state).await["businesses"][0]["dead_letters"].clone()
    };
    assert_eq!(dead().await, 1);
    let revived = world.own(&page, "POST", "businesses/shop/dead-letters").send().await.unwrap();
    assert_eq!((revived.status(), read(revived).await), (StatusCode::ACCEPTED, json!({"queued": 1})));
    let delivery =
        world.receiver.each(bulla_testkit::wait::GUARD, "the dead letter", |d| Some(d.clone())).await.unwrap();
    assert_eq!(delivery.body.as_ref(), b"{\"canary\":1}");
    assert!(delivery.signature_verifies(world.credentials.app_secret.expose()));
    assert_eq!(dead().await, 0);
}
