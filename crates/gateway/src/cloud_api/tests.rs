//! The Cloud API over real HTTP, at a gateway whose relay is not there: what is managed needs none.

use super::*;

/// A new route changes this list, on purpose.
#[test]
fn gw_01_these_are_all_routes() {
    let list: Vec<String> = ROUTES.iter().map(|(method, node, edge, _)| format!("{method} {node:?}/{edge}")).collect();
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
            "GET Waba/message_templates/{template_id}",
            "GET Template/",
            "POST Template/",
            "POST Template/unpause",
            "GET Waba/flows",
            "POST Waba/flows",
            "GET Flow/",
            "POST Flow/",
            "DELETE Flow/",
            "GET Flow/assets",
            "POST Flow/assets",
            "POST Flow/publish",
            "POST Flow/deprecate",
            "GET Phone/whatsapp_business_profile",
            "POST Phone/whatsapp_business_profile",
            "GET Phone/settings",
            "POST Phone/settings",
            "POST Phone/register",
            "POST Phone/deregister",
            "POST Phone/request_code",
            "POST Phone/verify_code",
            "POST Waba/phone_numbers",
            "GET Oauth/access_token",
            "POST Oauth/access_token",
            "GET DebugToken/",
            "GET Phone/message_qrdls",
            "POST Phone/message_qrdls",
            "GET Phone/message_qrdls/{code}",
            "DELETE Phone/message_qrdls/{code}",
            "POST Phone/conversational_automation",
            "POST Phone/calls",
            "POST App/uploads",
            "GET Upload/",
            "POST Upload/",
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

use bulla_testkit::wait::GUARD;
use bulla_testkit::webhook::Receiver;
use reqwest::RequestBuilder;
use serde_json::json;

use crate::config::NewBusiness;
use crate::{Config, Credentials, Gateway, Running};

/// Two businesses of one gateway.
struct World {
    running: Running,
    shop: Credentials,
    cafe: Credentials,
    receiver: Receiver,
    http: reqwest::Client,
    folder: tempfile::TempDir,
}

/// What the API answered.
#[derive(Debug)]
struct Said {
    status: u16,
    body: Value,
}

impl Said {
    fn error(&self) -> (u16, i64, i64) {
        let error = &self.body["error"];
        assert!(error["fbtrace_id"].is_string() && error["message"].is_string(), "{self:?}");
        (self.status, error["code"].as_i64().unwrap(), error["error_subcode"].as_i64().unwrap_or_default())
    }

    fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }
}

impl World {
    async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    async fn start_in(folder: tempfile::TempDir) -> Self {
        let receiver = Receiver::start().await.unwrap();
        let mut config = Config::new(folder.path().join("data"), "ws://127.0.0.1:9/v1/ws");
        let business = |handle: &str, name: &str| NewBusiness { handle: handle.into(), name: name.into() };
        config.businesses = vec![business("cafe", "Café"), business("shop", "Shop")];
        config.webhook = Some(receiver.url().parse().unwrap());
        let running = Gateway::serve(config).await.unwrap();
        let mut all = running.credentials().await.unwrap();
        let (shop, cafe) = (all.remove(1), all.remove(0));
        let http = bulla_testkit::cloud::http().unwrap();
        Self { running, shop, cafe, receiver, http, folder }
    }

    async fn again(self) -> Self {
        self.running.shutdown().await;
        Self::start_in(self.folder).await
    }

    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        self.http.request(method, format!("http://{}/v23.0/{path}", self.running.api_addr))
    }

    /// As the shop's program.
    async fn says(&self, method: &str, path: &str, body: Value) -> Said {
        self.says_as(self.shop.access_token.expose(), method, path, body).await
    }

    async fn says_as(&self, token: &str, method: &str, path: &str, body: Value) -> Said {
        let request = self.request(method, path).bearer_auth(token);
        let request = if body.is_null() {
            request
        } else {
            request.header("content-type", "application/json").body(body.to_string())
        };
        said(request).await
    }

    async fn get(&self, path: &str) -> Said {
        self.says("GET", path, Value::Null).await
    }

    fn templates(&self) -> String {
        format!("{}/message_templates", self.shop.waba_id)
    }

    fn phone(&self, edge: &str) -> String {
        format!("{}/{edge}", self.shop.phone_number_id)
    }

    /// Waits for a webhook about a template.
    async fn told(&self, event: &str, name: &str) -> Value {
        let of = |delivery: &bulla_testkit::webhook::Delivery| {
            assert!(delivery.body.is_ascii());
            assert!(delivery.signature_verifies(self.shop.app_secret.expose()));
            let json = delivery.json();
            let change = &json["entry"][0]["changes"][0];
            let fits = change["field"] == "message_template_status_update"
                && change["value"]["event"] == event
                && change["value"]["message_template_name"] == name;
            fits.then(|| json.clone())
        };
        self.receiver.each(GUARD, event, of).await.unwrap()
    }
}

async fn said(request: RequestBuilder) -> Said {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    Said { status, body: serde_json::from_slice(&response.bytes().await.unwrap()).unwrap() }
}

fn order(name: &str, language: &str) -> Value {
    json!({"name": name, "language": language, "category": "utility", "components": [
        {"type": "BODY", "text": "Hello {{1}}, your order is here.", "example": {"body_text": [["Ada"]]}},
    ]})
}

#[tokio::test]
async fn a_template_is_made_shown_edited_and_removed_and_the_webhook_tells() {
    let world = World::start().await;
    let made = world.says("POST", &world.templates(), order("order", "en_US")).await.ok();
    assert_eq!((&made["status"], &made["category"]), (&"APPROVED".into(), &"UTILITY".into()));
    let id = made["id"].as_str().unwrap().to_owned();
    let told = world.told("APPROVED", "order").await;
    assert_eq!(told["entry"][0]["id"], world.shop.waba_id);
    assert_eq!(told["entry"][0]["changes"][0]["value"]["message_template_id"], id.parse::<u64>().unwrap());

    let taken = world.says("POST", &world.templates(), order("order", "en_US")).await;
    assert_eq!(taken.error(), (400, 100, 2_388_024));
    assert!(taken.body["error"]["error_user_title"].is_string());
    let shown = world.get(&id).await.ok();
    assert_eq!(shown["components"][0]["text"], "Hello {{1}}, your order is here.");
    assert_eq!((&shown["name"], &shown["parameter_format"]), (&"order".into(), &"POSITIONAL".into()));
    assert_eq!(world.get(&format!("{}/{id}", world.templates())).await.ok(), shown);
    assert_eq!(world.get(&format!("{id}?fields=version,status")).await.ok()["version"], 1);

    let edit = json!({"components": [{"type": "BODY", "text": "Your order is here."}], "category": "MARKETING"});
    assert_eq!(world.says("POST", &id, edit).await.ok(), json!({"success": true}));
    let edited = world.get(&format!("{id}?fields=version,category,components")).await.ok();
    assert_eq!((&edited["version"], &edited["category"]), (&2.into(), &"MARKETING".into()));
    for (body, expected) in [
        (json!({}), (400, 100, 0)),
        (json!({"name": "other", "category": "UTILITY"}), (400, 100, 0)),
        (json!({"category": "NEWS"}), (400, 100, 0)),
        (json!({"components": [{"type": "BODY", "text": "{{1}}"}]}), (400, 100, 2_388_299)),
    ] {
        assert_eq!(world.says("POST", &id, body.clone()).await.error(), expected, "{body}");
    }
    let paused = world.says("POST", &format!("{id}/unpause"), Value::Null).await.ok();
    assert_eq!(paused["success"], false);

    assert_eq!(world.says("DELETE", &world.templates(), Value::Null).await.error(), (400, 100, 0));
    let nothing = world.says("DELETE", &format!("{}?name=none", world.templates()), Value::Null).await;
    assert_eq!(nothing.error(), (400, 100, 2_593_002));
    let other = world.says("DELETE", &format!("{}?name=other&hsm_id={id}", world.templates()), Value::Null).await;
    assert_eq!(other.error(), (400, 100, 2_593_002), "the name and the id have to be of one template");
    world.says("DELETE", &format!("{}?name=order", world.templates()), Value::Null).await.ok();
    world.told("DELETED", "order").await;
    assert_eq!(world.get(&id).await.error(), (400, 100, 33));
}

#[tokio::test]
async fn what_cannot_be_a_template_is_refused_by_name() {
    let world = World::start().await;
    let with = |name: &str, value: Value| {
        let mut body = order("order", "en");
        body[name] = value;
        body
    };
    for body in [
        with("name", Value::Null),
        with("name", json!("Order 1")),
        with("name", json!(["order"])),
        with("language", json!("english")),
        with("category", json!("NEWS")),
        with("category", Value::Null),
        with("components", Value::Null),
        with("components", json!("[")),
        with("parameter_format", json!("ORDINAL")),
        with("message_send_ttl_seconds", json!(60)),
    ] {
        assert_eq!(world.says("POST", &world.templates(), body.clone()).await.error(), (400, 100, 0), "{body}");
    }
    // As a form, with the components as JSON: some clients write it so.
    let form = [
        ("name", "form"),
        ("language", "en"),
        ("category", "UTILITY"),
        ("components", r#"[{"type":"BODY","text":"x"}]"#),
    ];
    let form: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = world.request("POST", &world.templates()).bearer_auth(world.shop.access_token.expose());
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
    assert_eq!(said(request).await.ok()["status"], "APPROVED");
}

#[tokio::test]
async fn a_list_is_filtered_and_its_pages_need_no_token() {
    let world = World::start().await;
    for (name, language) in [("a", "en"), ("a", "de"), ("b", "en"), ("c", "en"), ("d", "en")] {
        world.says("POST", &world.templates(), order(name, language)).await.ok();
    }
    let whole = world.get(&world.templates()).await.ok();
    let summary = json!({"total_count": 5, "message_template_count": 5, "message_template_limit": 1_000, "are_translations_complete": true});
    assert_eq!((&whole["summary"], whole["data"].as_array().unwrap().len()), (&summary, 5));
    for (query, count) in [
        ("name=a", 2),
        ("name=a&language=de", 1),
        ("status=APPROVED", 5),
        ("status=%5B%22REJECTED%22%2C%22APPROVED%22%5D", 5),
        ("status=REJECTED", 0),
        ("category=utility", 5),
        ("category=MARKETING", 0),
        ("name_or_content=ORDER", 5),
        ("content=nothing", 0),
    ] {
        let found = world.get(&format!("{}?{query}", world.templates())).await.ok();
        assert_eq!(found["summary"]["total_count"], count, "{query}");
    }
    assert_eq!(world.get(&format!("{}?limit=none", world.templates())).await.error(), (400, 100, 0));
    assert_eq!(world.get(&format!("{}?fields=nope", world.templates())).await.error(), (400, 100, 0));

    let mut names = Vec::new();
    let mut page = world.get(&format!("{}?limit=2&fields=name&language=en", world.templates())).await.ok();
    loop {
        names.extend(page["data"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["paging"]["next"].as_str().map(str::to_owned) else { break };
        assert!(!next.contains(world.shop.access_token.expose()));
        page = said(world.http.get(&next)).await.ok();
        // What is in the address opens this list and nothing else.
        let pass = next.rsplit_once("access_token=").unwrap().1;
        for (method, path) in [("POST", world.templates()), ("GET", world.shop.phone_number_id.clone())] {
            assert_eq!(world.says_as(pass, method, &path, Value::Null).await.error(), (403, 10, 0));
        }
        let cafe = format!("{}/message_templates", world.cafe.waba_id);
        assert_eq!(world.says_as(pass, "GET", &cafe, Value::Null).await.error(), (400, 100, 33));
    }
    assert_eq!(names, ["d", "c", "b", "a"]);
}

#[tokio::test]
async fn one_time_passwords_come_in_several_languages_at_once() {
    let world = World::start().await;
    let path = format!("{}/upsert_message_templates", world.shop.waba_id);
    let body = |languages: Value| {
        json!({"name": "otp", "languages": languages, "category": "AUTHENTICATION", "components": [
            {"type": "BODY", "add_security_recommendation": true},
            {"type": "BUTTONS", "buttons": [{"type": "OTP", "otp_type": "COPY_CODE"}]},
        ]})
    };
    let first = world.says("POST", &path, body(json!(["en", "de"]))).await.ok();
    let second = world.says("POST", &path, body(json!(["de", "fr"]))).await.ok();
    assert_eq!(first["data"][1]["id"], second["data"][0]["id"], "the same template, edited");
    assert_eq!(world.get(&world.templates()).await.ok()["summary"]["total_count"], 3);
    let mut marketing = order("otp2", "en");
    marketing["languages"] = json!(["en"]);
    for body in [body(json!([])), body(json!("en")), body(json!(["english"])), marketing] {
        assert_eq!(world.says("POST", &path, body.clone()).await.error(), (400, 100, 0), "{body}");
    }
    let ids: Vec<Value> = second["data"].as_array().unwrap().iter().map(|t| t["id"].clone()).collect();
    let path = format!("{}?hsm_ids={}", world.templates(), json!(ids).to_string().replace('"', "%22"));
    world.says("DELETE", &path, Value::Null).await.ok();
    assert_eq!(world.get(&world.templates()).await.ok()["summary"]["total_count"], 1);
}

#[tokio::test]
async fn the_profile_keeps_what_is_set_and_refuses_the_rest() {
    let world = World::start().await;
    let path = world.phone("whatsapp_business_profile");
    let empty = world.get(&path).await.ok();
    assert_eq!(empty, json!({"data": [{"messaging_product": "whatsapp", "vertical": "UNDEFINED"}]}));
    let profile = json!({
        "messaging_product": "whatsapp", "about": "Fresh bread", "address": "1 Mill Lane", "description": "A bakery",
        "email": "hello@bakery.example", "websites": ["https://bakery.example/"], "vertical": "RESTAURANT",
    });
    world.says("POST", &path, profile.clone()).await.ok();
    world.says("POST", &path, json!({"messaging_product": "whatsapp", "about": "Still fresh"})).await.ok();
    let world = world.again().await;
    let mut expected = profile;
    expected["about"] = "Still fresh".into();
    assert_eq!(world.get(&path).await.ok(), json!({"data": [expected]}));
    let some = world.get(&format!("{path}?fields=about,email")).await.ok();
    let expected = json!({"messaging_product": "whatsapp", "about": "Still fresh", "email": "hello@bakery.example"});
    assert_eq!(some, json!({"data": [expected]}));
    for (name, value) in [
        ("about", json!("x".repeat(140))),
        ("about", json!(" ")),
        ("address", json!("x".repeat(257))),
        ("description", json!("x".repeat(513))),
        ("email", json!("nobody")),
        ("email", json!(format!("{}@b.example", "x".repeat(128)))),
        ("websites", json!(["https://a.example", "https://b.example", "https://c.example"])),
        ("websites", json!(["ftp://a.example"])),
        ("websites", json!([format!("https://a.example/{}", "x".repeat(256))])),
        ("websites", json!("https://a.example")),
        ("vertical", json!("BAKERY")),
        ("profile_picture_handle", json!("4::aW1hZ2UvcG5n:1")),
        ("profile_picture_handle", json!("http://a.example/picture.png")),
        ("opening_hours", json!("all day")),
        ("messaging_product", json!("telegram")),
    ] {
        let mut body = json!({"messaging_product": "whatsapp"});
        body[name] = value;
        assert_eq!(world.says("POST", &path, body.clone()).await.error(), (400, 100, 0), "{body}");
    }
    assert_eq!(world.says("POST", &path, json!({"about": "x"})).await.error(), (400, 100, 0));
}

#[tokio::test]
async fn a_file_that_comes_in_pieces_becomes_the_picture() {
    let world = World::start().await;
    let begin = format!("{}/uploads?file_name=a.png&file_length=10&file_type=image/png", world.shop.app_id);
    let id = world.says("POST", &begin, Value::Null).await.ok()["id"].as_str().unwrap().to_owned();
    let piece = |offset: Option<&str>, bytes: &'static [u8]| {
        let request =
            world.request("POST", &id).header("authorization", format!("OAuth {}", world.shop.access_token.expose()));
        let request = match offset {
            Some(offset) => request.header("file_offset", offset),
            None => request,
        };
        said(request.body(bytes))
    };
    assert_eq!(piece(None, b"01234").await.ok()["file_offset"], 5);
    assert_eq!(world.get(&id).await.ok(), json!({"id": id, "file_offset": 5}));
    assert_eq!(piece(Some("0"), b"01234").await.error(), (400, 100, 0), "it is there already");
    assert_eq!(piece(Some("x"), b"01234").await.error(), (400, 100, 0));
    assert_eq!(piece(Some("5"), b"567890").await.error(), (400, 100, 0), "longer than announced");
    let handle = piece(Some("5"), b"56789").await.ok()["h"].as_str().unwrap().to_owned();
    assert!(handle.starts_with("4::"), "{handle}");

    let path = world.phone("whatsapp_business_profile");
    world.says("POST", &path, json!({"messaging_product": "whatsapp", "profile_picture_handle": handle})).await.ok();
    let shown = world.get(&format!("{path}?fields=profile_picture_url")).await.ok();
    let picture = world.http.get(shown["data"][0]["profile_picture_url"].as_str().unwrap()).send().await.unwrap();
    assert_eq!((picture.status().as_u16(), &picture.headers()["content-type"]), (200, &"image/png".parse().unwrap()));
    assert_eq!(&picture.bytes().await.unwrap()[..], b"0123456789");

    for query in [
        "file_length=0&file_type=image/png",
        "file_length=5242881&file_type=image/png",
        "file_length=x&file_type=image/png",
        "file_length=1&file_type=text/html",
        "file_length=1",
        "file_type=image/png",
    ] {
        let path = format!("{}/uploads?{query}", world.shop.app_id);
        assert_eq!(world.says("POST", &path, Value::Null).await.error(), (400, 100, 0), "{query}");
    }
    assert_eq!(world.get("upload:1").await.error(), (400, 100, 33));
    assert_eq!(world.says("POST", "upload:x", Value::Null).await.error(), (400, 100, 33));
}

#[tokio::test]
async fn a_number_that_was_deregistered_sends_nothing_until_its_pin_is_given() {
    let world = World::start().await;
    let (register, deregister) = (world.phone("register"), world.phone("deregister"));
    let pin = |pin: &str| json!({"messaging_product": "whatsapp", "pin": pin});
    let message = json!({"messaging_product": "whatsapp", "to": "890123456789012", "text": {"body": "hi"}});
    for wrong in ["12345", "1234567", "12345x", ""] {
        assert_eq!(world.says("POST", &register, pin(wrong)).await.error(), (400, 100, 0), "{wrong}");
    }
    assert_eq!(world.says("POST", &register, json!({"messaging_product": "whatsapp"})).await.error(), (400, 100, 0));
    let region = json!({"messaging_product": "whatsapp", "pin": "123456", "data_localization_region": "DE"});
    assert_eq!(world.says("POST", &register, region).await.error(), (400, 100, 0));
    world.says("POST", &register, pin("123456")).await.ok();
    world.says("POST", &deregister, Value::Null).await.ok();
    let world = world.again().await;
    let fields = format!("{}?fields=status,is_pin_enabled", world.shop.phone_number_id);
    let unasked = world.get(&world.shop.phone_number_id).await.ok();
    assert_eq!(unasked["status"], "DISCONNECTED");
    let all = world.get(&format!("{}/phone_numbers", world.shop.waba_id)).await.ok();
    assert_eq!(all["data"][0], unasked);
    let shown = world.get(&fields).await.ok();
    assert_eq!((&shown["status"], &shown["is_pin_enabled"]), (&"DISCONNECTED".into(), &true.into()));
    let messages = world.phone("messages");
    assert_eq!(world.says("POST", &messages, message.clone()).await.error(), (400, 133_010, 0));
    assert_eq!(world.says("POST", &register, pin("654321")).await.error(), (400, 133_005, 0));
    world.says("POST", &register, pin("123456")).await.ok();
    assert_eq!(world.says("POST", &messages, message).await.error(), (400, 131_030, 0), "it is looked at again");
    world.says("POST", &world.shop.phone_number_id, json!({"pin": "000000"})).await.ok();
    for _ in 0..5 {
        assert_eq!(world.says("POST", &register, pin("123456")).await.error(), (400, 133_005, 0));
    }
    assert_eq!(world.says("POST", &register, pin("000000")).await.error(), (400, 133_008, 0));
}

#[tokio::test]
async fn what_has_no_sense_here_says_so() {
    let world = World::start().await;
    let number = world.shop.phone_number_id.clone();
    for (path, body, expected) in [
        (world.phone("request_code"), json!({"code_method": "SMS", "language": "en_US"}), (400, 136_024, 0)),
        (world.phone("verify_code"), json!({"code": "123456"}), (400, 136_025, 0)),
        (world.phone("calls"), json!({"action": "connect"}), (400, 138_000, 0)),
        (format!("{}/phone_numbers", world.shop.waba_id), json!({"cc": "1", "phone_number": "5551234"}), (403, 3, 0)),
        (number.clone(), json!({"new_display_name": "Other"}), (403, 3, 0)),
        (number.clone(), json!({"pin": "12"}), (400, 100, 0)),
        (number.clone(), json!({"opening_hours": "12"}), (400, 100, 0)),
        (number, json!({}), (400, 100, 0)),
    ] {
        assert_eq!(world.says("POST", &path, body.clone()).await.error(), expected, "{path} {body}");
    }
    let settings = world.phone("settings");
    let shown = world.get(&settings).await.ok();
    // Meta's description of the API demands it, and who is generated from it breaks without.
    assert_eq!(shown["calling"]["ip_addresses"], json!({"default": []}));
    assert_eq!(
        (&shown["calling"]["status"], &shown["storage_configuration"]["status"]),
        (&"disabled".into(), &"default".into())
    );
    for (body, expected) in [
        (json!({"calling": {"status": "enabled"}}), (400, 138_000, 0)),
        (json!({"payload_encryption": {"status": "enabled"}}), (403, 3, 0)),
        (json!({"storage_configuration": {"enabled": true, "region": "us"}}), (403, 3, 0)),
        (json!({"user_identity_change": {"enable_identity_key_check": true}}), (403, 3, 0)),
        (json!({"calling": {}}), (400, 100, 0)),
        (json!({"calling": true}), (400, 100, 0)),
        (json!({}), (400, 100, 0)),
        (json!({"calling": {"status": "disabled"}, "payload_encryption": {"status": "disabled"}}), (400, 100, 0)),
        (json!({"colour": {"status": "disabled"}}), (400, 100, 0)),
    ] {
        assert_eq!(world.says("POST", &settings, body.clone()).await.error(), expected, "{body}");
    }
    for body in [json!({"calling": {"status": "DISABLED"}}), json!({"user_identity_change": {"enabled": false}})] {
        world.says("POST", &settings, body).await.ok();
    }
}

#[tokio::test]
async fn conversational_components_are_kept() {
    let world = World::start().await;
    let path = world.phone("conversational_automation");
    let given = json!({
        "enable_welcome_message": true,
        "prompts": ["What is fresh?", "When are you open?"],
        "commands": [{"command_name": "menu", "command_description": "What there is"}],
    });
    world.says("POST", &path, given.clone()).await.ok();
    world.says("POST", &path, json!({"enable_welcome_message": false})).await.ok();
    let shown = world.get(&format!("{}?fields=conversational_automation", world.shop.phone_number_id)).await.ok();
    let shown = &shown["conversational_automation"];
    assert_eq!((&shown["prompts"], &shown["commands"]), (&given["prompts"], &given["commands"]));
    assert_eq!(shown["enable_welcome_message"], false);
    let command = |name: &str, description: &str| json!({"command_name": name, "command_description": description});
    for body in [
        json!({"enable_welcome_message": "maybe"}),
        json!({"prompts": vec!["x"; 5]}),
        json!({"prompts": ["x".repeat(81)]}),
        json!({"prompts": [""]}),
        json!({"prompts": [1]}),
        json!({"commands": vec![command("a", "b"); 31]}),
        json!({"commands": [command("a", "b"), command("a", "c")]}),
        json!({"commands": [command("a b", "c")]}),
        json!({"commands": [command(&"a".repeat(33), "c")]}),
        json!({"commands": [command("a", &"c".repeat(257))]}),
        json!({"commands": [{"command_name": "a"}]}),
        json!({"greeting": "hi"}),
    ] {
        assert_eq!(world.says("POST", &path, body.clone()).await.error(), (400, 100, 0), "{body}");
    }
}

#[tokio::test]
async fn a_short_link_is_the_businesss_own_with_a_ref() {
    let world = World::start().await;
    let path = world.phone("message_qrdls");
    // As some clients do it: all of it in the query.
    let query = format!("{path}?prefilled_message=Show%20me%20bread&generate_qr_image=SVG");
    let made = world.says("POST", &query, Value::Null).await.ok();
    let code = made["code"].as_str().unwrap().to_owned();
    assert_eq!((code.len(), &made["prefilled_message"]), (14, &"Show me bread".into()));
    // As the Cloud API describes a code, and as some clients check it: ^[A-Z2-7]{14}$.
    assert!(code.bytes().all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b)), "{code}");
    let link: bulla_e2ee::link::Link = bulla_e2ee::link::Link::parse(made["deep_link_url"].as_str().unwrap()).unwrap();
    let own = bulla_e2ee::link::Link::parse(&world.shop.link).unwrap();
    assert_eq!((link.key(), link.handle(), link.reference()), (own.key(), "shop", Some(code.as_str())));
    assert_eq!(link.bundle_url(), own.bundle_url());

    let picture = world.http.get(made["qr_image_url"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(picture.headers()["content-type"], "image/svg+xml");
    assert!(picture.bytes().await.unwrap().starts_with(b"<svg "));
    let one = world.get(&format!("{path}/{code}?fields=code,qr_image_url.format(PNG)")).await.ok();
    assert_eq!((&one["code"], &one["qr_image_url"]), (&one["data"][0]["code"], &one["data"][0]["qr_image_url"]));
    let picture = world.http.get(one["data"][0]["qr_image_url"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(picture.headers()["content-type"], "image/png");

    let edited = world.says("POST", &path, json!({"code": code, "prefilled_message": "Buns"})).await.ok();
    assert_eq!(
        (&edited["code"], &edited["prefilled_message"], edited.get("qr_image_url")),
        (&code.as_str().into(), &"Buns".into(), None)
    );
    world.says("POST", &path, json!({"prefilled_message": "Cake"})).await.ok();
    let all = world.get(&path).await.ok();
    assert_eq!(all["data"].as_array().unwrap().len(), 2);
    for (body, expected) in [
        (json!({}), (400, 100, 0)),
        (json!({"prefilled_message": "x".repeat(141)}), (400, 100, 0)),
        (json!({"prefilled_message": " "}), (400, 100, 0)),
        (json!({"prefilled_message": "x", "generate_qr_image": "GIF"}), (400, 100, 0)),
        (json!({"prefilled_message": "x", "colour": "red"}), (400, 100, 0)),
        (json!({"prefilled_message": "x", "code": "none"}), (400, 100, 33)),
    ] {
        assert_eq!(world.says("POST", &path, body.clone()).await.error(), expected, "{body}");
    }
    world.says("DELETE", &format!("{path}/{code}"), Value::Null).await.ok();
    for method in ["GET", "DELETE"] {
        assert_eq!(world.says(method, &format!("{path}/{code}"), Value::Null).await.error(), (400, 100, 33));
    }
    for wrong in ["x/y.svg", &format!("{}/{code}.svg", world.shop.phone_number_id), &world.shop.phone_number_id] {
        assert_eq!(said(world.request("GET", &format!("qr/{wrong}"))).await.error(), (400, 100, 33));
    }
}

#[tokio::test]
async fn an_apps_secret_gives_its_token_and_nothing_else_does() {
    let world = World::start().await;
    let (id, secret) = (&world.shop.app_id, world.shop.app_secret.expose());
    let ask = |query: String| said(world.request("GET", &format!("oauth/access_token?{query}")));
    let whose = format!("client_id={id}&client_secret={secret}");
    let given = ask(format!("{whose}&grant_type=client_credentials")).await.ok();
    assert_eq!(given, json!({"access_token": format!("{id}|{secret}"), "token_type": "bearer"}));
    let token = world.shop.access_token.expose();
    let exchanged = ask(format!("{whose}&grant_type=fb_exchange_token&fb_exchange_token={token}")).await.ok();
    assert_eq!(exchanged["access_token"], token);
    let cafes = world.cafe.access_token.expose();
    for (query, expected) in [
        (format!("{whose}&code=AQB"), (400, 100, 0)),
        (whose.clone(), (400, 100, 0)),
        (format!("{whose}&grant_type=password"), (400, 100, 0)),
        (format!("{whose}&grant_type=fb_exchange_token&fb_exchange_token={cafes}"), (401, 190, 0)),
        (format!("client_id={id}&client_secret=wrong&grant_type=client_credentials"), (400, 1, 0)),
        (format!("client_id={}&client_secret={secret}&grant_type=client_credentials", world.cafe.app_id), (400, 1, 0)),
        (format!("client_id={id}"), (400, 100, 0)),
    ] {
        assert_eq!(ask(query.clone()).await.error(), expected, "{query}");
    }
    assert_eq!(said(world.request("GET", "oauth")).await.error(), (400, 100, 33));

    let app = format!("{id}|{secret}");
    for caller in [token, &app] {
        let debug = |input: &str| format!("debug_token?input_token={}", input.replace('|', "%7C"));
        let mine = world.says_as(caller, "GET", &debug(token), Value::Null).await.ok();
        assert_eq!((&mine["data"]["is_valid"], &mine["data"]["app_id"]), (&true.into(), &id.as_str().into()));
        let apps = world.says_as(caller, "GET", &debug(&app), Value::Null).await.ok();
        assert_eq!(apps["data"]["type"], "APP");
        let theirs = world.says_as(caller, "GET", &debug(cafes), Value::Null).await.ok();
        assert_eq!(theirs, world.says_as(caller, "GET", &debug("nobody's"), Value::Null).await.ok());
        assert_eq!(theirs["data"]["is_valid"], false);
    }
    assert_eq!(world.get("debug_token").await.error(), (400, 100, 0));
}

/// Every route, with every kind of id: what is another business's is answered like what does not exist, and nothing of it changes.
#[tokio::test]
async fn gw_10_a_token_sees_nothing_of_another_business_on_any_route() {
    let world = World::start().await;
    let (cafe, token) = (&world.cafe, world.cafe.access_token.expose());
    let template =
        world.says_as(token, "POST", &format!("{}/message_templates", cafe.waba_id), order("order", "en")).await.ok();
    let flow = json!({"name": "visit", "categories": ["OTHER"]});
    let flow = world.says_as(token, "POST", &format!("{}/flows", cafe.waba_id), flow).await.ok();
    let upload = format!("{}/uploads?file_length=5&file_type=image/png", cafe.app_id);
    let upload = world.says_as(token, "POST", &upload, Value::Null).await.ok();
    let link = format!("{}/message_qrdls?prefilled_message=x", cafe.phone_number_id);
    let link = world.says_as(token, "POST", &link, Value::Null).await.ok();
    let code = link["code"].as_str().unwrap();
    let ids = |node: Node| match node {
        Node::Phone => (cafe.phone_number_id.clone(), "999999999999999".to_owned()),
        Node::Waba => (cafe.waba_id.clone(), "999999999999999".to_owned()),
        Node::App => (cafe.app_id.clone(), "999999999999999".to_owned()),
        Node::Media => ("1800000000000000".to_owned(), "1800000000000001".to_owned()),
        Node::Template => (template["id"].as_str().unwrap().to_owned(), "5000000000000001".to_owned()),
        Node::Flow => (flow["id"].as_str().unwrap().to_owned(), "1100000000000001".to_owned()),
        Node::Upload => (upload["id"].as_str().unwrap().to_owned(), "upload:1".to_owned()),
        Node::Oauth => ("oauth".to_owned(), "oauth".to_owned()),
        Node::DebugToken => ("debug_token".to_owned(), "debug_token".to_owned()),
    };
    let everything = async || {
        let mut all = Vec::new();
        for path in [
            cafe.phone_number_id.clone()
                + "?fields=status,is_pin_enabled,webhook_configuration,conversational_automation",
            format!("{}/message_templates", cafe.waba_id),
            format!("{}/subscribed_apps", cafe.waba_id),
            format!("{}/flows?fields=name,status,categories,updated_at", cafe.waba_id),
            format!("{}/whatsapp_business_profile", cafe.phone_number_id),
            format!("{}/message_qrdls", cafe.phone_number_id),
            upload["id"].as_str().unwrap().to_owned(),
        ] {
            all.push(world.says_as(token, "GET", &path, Value::Null).await.ok());
        }
        all
    };
    let before = everything().await;
    // Good for any of the routes: what is refused is refused because of whose it is.
    let body = json!({
        "messaging_product": "whatsapp", "pin": "123456", "name": "order", "prefilled_message": "x", "about": "mine",
        "enable_welcome_message": true, "object": "whatsapp_business_account", "callback_url": "http://127.0.0.1:9/",
        "verify_token": "x", "category": "MARKETING", "language": "en",
        "client_id": cafe.app_id, "client_secret": world.shop.app_secret.expose(), "grant_type": "client_credentials",
        "input_token": token,
    });
    for (method, node, edge, _) in ROUTES {
        let (theirs, nobodys) = ids(*node);
        let name = if edge.ends_with("{template_id}") { template["id"].as_str().unwrap() } else { code };
        let begin = edge.split('{').next().unwrap_or_default();
        let at = |id: &str, name: &str| format!("{id}/{begin}{}", if begin == *edge { "" } else { name });
        let answer = async |id: &str, name: &str| {
            let path = at(id, name);
            let query = if *method == "GET" {
                format!("{path}?input_token={token}&client_id={}&client_secret=x", cafe.app_id)
            } else {
                path
            };
            let body = if *method == "GET" { Value::Null } else { body.clone() };
            let mut said = world.says(method, &query, body).await;
            if let Some(error) = said.body["error"].as_object_mut() {
                error.remove("fbtrace_id");
            }
            (said.status, said.body.to_string().replace(id, "ID").replace(name, "NAME"))
        };
        let (of_theirs, of_nobodys) = (answer(&theirs, name).await, answer(&nobodys, "nothing").await);
        assert_eq!(of_theirs, of_nobodys, "{method} {node:?}/{edge}");
        assert!(*node == Node::DebugToken || of_theirs.0 == 400, "{method} {node:?}/{edge}: {of_theirs:?}");
        if edge.contains('{') {
            // The caller's own node, the other's name.
            let own = if *node == Node::Waba { &world.shop.waba_id } else { &world.shop.phone_number_id };
            assert_eq!(answer(own, name).await, answer(own, "nothing").await, "{method} {node:?}/{edge}");
        }
    }
    assert_eq!(everything().await, before);
}

#[tokio::test]
async fn the_surface_describes_itself_without_a_token() {
    let world = World::start().await;
    for path in ["openapi.json", "v23.0/openapi.json"] {
        let url = format!("http://{}/{path}", world.running.api_addr);
        let document = said(world.http.get(url)).await.ok();
        assert_eq!(document["openapi"], "3.1.0");
        assert!(document["paths"]["/{waba_id}/message_templates"]["post"].is_object());
    }
    let url = format!("http://{}/openapi.json/x", world.running.api_addr);
    assert_eq!(said(world.http.get(url)).await.error(), (401, 190, 0));
}

/// A flow's life: made, given its JSON, published, sent, taken out of use.
#[tokio::test]
async fn a_flow_is_drafted_mended_published_and_deprecated() {
    let world = World::start().await;
    let flows = format!("{}/flows", world.shop.waba_id);
    let json = |kind: &str| {
        let field = json!({"type": kind, "name": "day", "label": "Day"});
        let footer = json!({"type": "Footer", "label": "Book", "on-click-action": {"name": "complete"}});
        let layout = json!({"type": "SingleColumnLayout", "children": [field, footer]});
        json!({"version": "6.0", "screens": [{"id": "WHEN", "title": "When", "layout": layout}]}).to_string()
    };
    let made = world.says("POST", &flows, json!({"name": "visit", "categories": ["OTHER"]})).await.ok();
    let id = made["id"].as_str().unwrap().to_owned();
    let at = |edge: &str| format!("{id}/{edge}");
    assert_eq!(
        world.says("POST", &at("publish"), json!({})).await.error(),
        (400, 139_002, 0),
        "there is nothing in it"
    );
    let broken =
        world.says("POST", &at("assets"), json!({"file": json("Image"), "asset_type": "FLOW_JSON"})).await.ok();
    assert_eq!(broken["validation_errors"][0]["error"], "INVALID_COMPONENT");
    assert_eq!(broken["validation_errors"][0]["pointers"][0]["path"], "screens[0].layout.children[0]");
    assert_eq!(world.says("POST", &at("publish"), json!({})).await.error(), (400, 139_002, 0));
    let good = world.says("POST", &at("assets"), json!({"file": json("DatePicker")})).await.ok();
    assert_eq!(good["validation_errors"], json!([]));
    assert_eq!(world.says("POST", &id, json!({"name": "visits"})).await.ok()["success"], true);
    assert_eq!(world.says("POST", &at("deprecate"), json!({})).await.error(), (400, 139_003, 0), "it is a draft");
    assert_eq!(world.says("POST", &at("publish"), json!({})).await.ok()["success"], true);
    let shown = world.get(&format!("{id}?fields=name,status")).await.ok();
    assert_eq!(shown, json!({"id": id, "name": "visits", "status": "PUBLISHED"}));
    assert_eq!(world.get(&at("assets")).await.ok()["data"][0]["flow_json"], json("DatePicker"));
    assert_eq!(world.says("POST", &at("assets"), json!({"file": json("OptIn")})).await.error(), (400, 139_001, 0));
    assert_eq!(world.says("DELETE", &id, Value::Null).await.error(), (400, 139_004, 0));
    assert_eq!(world.says("POST", &at("deprecate"), json!({})).await.ok()["success"], true);
    let listed = world.get(&flows).await.ok();
    assert_eq!(listed["data"][0]["status"], "DEPRECATED");

    let second = world
        .says("POST", &flows, json!({"name": "draft", "categories": ["SURVEY"], "flow_json": json("OptIn")}))
        .await
        .ok();
    assert_eq!(world.says("DELETE", second["id"].as_str().unwrap(), Value::Null).await.ok()["success"], true);
    for wrong in [
        json!({"categories": ["OTHER"]}),
        json!({"name": "x", "categories": []}),
        json!({"name": "x", "categories": ["NONSENSE"]}),
        json!({"name": "x\ny", "categories": ["OTHER"]}),
        json!({"name": "visits", "categories": ["OTHER"]}),
        json!({"name": "x", "categories": ["OTHER"], "endpoint_uri": "https://a.example"}),
        json!({"name": "x", "categories": ["OTHER"], "flow_json": "x".repeat(crate::flow::MAX_JSON + 1)}),
    ] {
        assert_eq!(world.says("POST", &flows, wrong.clone()).await.error(), (400, 100, 0), "{wrong}");
    }
}
