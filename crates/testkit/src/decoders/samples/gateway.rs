//! Requests to the Cloud API, and what customers say to its receivers.

use bulla_e2ee::content::MessageId;

use super::Samples;
use crate::decoders::world;

impl Samples {
    pub(super) fn gateway(&mut self) {
        let user = world::pseudonym().user_id(&world::identity().hash());
        let id = MessageId::new([0xa5; 32]).to_wamid();
        let request = |query: &str, kind: &str, body: &str| format!("/v23.0/1/messages{query}\n{kind}\n{body}");
        let json =
            |body: &str| request("", "application/json", &format!(r#"{{"messaging_product":"whatsapp",{body}}}"#));
        let form = "application/x-www-form-urlencoded";
        let part = |name: &str, value: &str| {
            format!("--X\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let multipart = [
            part("messaging_product", "whatsapp"),
            part("to", "890123456789012"),
            part("text[body]", "hä"),
            "--X--\r\n".to_owned(),
        ];
        for (which, input) in [
            (
                "text",
                json(
                    r#""to":"+890 123-456-789-012","type":"text","text":{"body":"Grüße \ud83c\udf37","preview_url":true}"#,
                ),
            ),
            ("text-to-a-user-id", json(&format!(r#""recipient":"{user}","text":{{"body":"x"}}"#))),
            ("longest-text", json(&format!(r#""to":"890123456789012","text":{{"body":"{}"}}"#, "x".repeat(4_096)))),
            (
                "reply",
                json(&format!(
                    r#""to":890123456789012,"context":{{"message_id":"{id}"}},"text":{{"body":"x"}},"biz_opaque_callback_data":"y""#
                )),
            ),
            (
                "reaction",
                json(&format!(r#""to":"{user}","type":"reaction","reaction":{{"message_id":"{id}","emoji":"👍🏽"}}"#)),
            ),
            (
                "no-more-reaction",
                json(&format!(r#""to":"{user}","type":"reaction","reaction":{{"message_id":"{id}","emoji":""}}"#)),
            ),
            (
                "read-and-typing",
                json(&format!(r#""status":"read","message_id":"{id}","typing_indicator":{{"type":"text"}}"#)),
            ),
            ("a-member-twice", json(r#""to":"1","to":"890123456789012","text":{"body":"x"}"#)),
            (
                "form",
                request("", form, "messaging_product=whatsapp&to=890123456789012&text%5Bbody%5D=h%C3%A4&type=text"),
            ),
            ("json-in-a-form", request("", form, r#"messaging_product=whatsapp&to=890123456789012&text={"body":"x"}"#)),
            ("query", request("?messaging_product=whatsapp&to=890123456789012&text[body]=hi&access_token=x", "", "")),
            ("multipart", request("", "multipart/form-data; boundary=X", &multipart.concat())),
        ] {
            self.put("cloud_api", &format!("ok-{which}"), input);
        }
        for (which, input) in [
            ("empty", String::new()),
            ("body", request("", "application/json", "")),
            ("json", request("", "application/json", "{")),
            ("array", request("", "application/json", "[]")),
            ("arrays-in-arrays", request("", "application/json", &"[".repeat(5_000))),
            ("objects-in-objects", json(&format!(r#""to":"890123456789012","text":{}"#, r#"{"body":"#.repeat(500)))),
            ("half-a-surrogate", json(r#""to":"890123456789012","text":{"body":"\ud83c"}"#)),
            ("number-out-of-range", json(r#""to":1e999,"text":{"body":"x"}"#)),
            (
                "one-character-too-many",
                json(&format!(r#""to":"890123456789012","text":{{"body":"{}"}}"#, "x".repeat(4_097))),
            ),
            ("text-that-is-a-list", json(r#""to":"890123456789012","text":["body"]"#)),
            (
                "brackets-in-brackets",
                request("", form, &format!("messaging_product=whatsapp&text{}=x", "[a]".repeat(500))),
            ),
            (
                "parameter-inside-another",
                request("?text=x&text[body]=y&text[body][c]=z", form, "messaging_product=whatsapp&to=1"),
            ),
            ("percent-alone", request("?to=%", form, "%=%&messaging_product=%ff%fe")),
            ("multipart-without-boundary", request("", "multipart/form-data", "x")),
            ("multipart-without-end", request("", "multipart/form-data; boundary=X", &part("to", "1"))),
            ("settings", request("?fields=name,hook{app,phone}&callback_url=https://shop.example/hook", "", "")),
            ("fields-in-fields", request(&format!("?fields={}", "hook%7B".repeat(500)), "", "")),
            ("callback-with-password", request("?callback_url=http://a:b@c/&fields=}", "", "")),
        ] {
            self.put("cloud_api", &format!("no-{which}"), input);
        }
        let said = |kind: &str, name: &str, reference: &str, text: &str| format!("{kind}\n{name}\n{reference}\n{text}");
        self.put("webhook", "ok-text", said("text", "Zoë 👋", "flyer", "Grüße\nund mehr"));
        self.put("webhook", "ok-reaction", said("reaction", "Zoë", "a&b=c#d?e /%", "👍🏽"));
        self.put("webhook", "ok-edit", said("edit", "\u{202e}eman", "\u{2028}", "\u{0}\u{1f}\"\\\u{7f}\u{10ffff}"));
        self.put("webhook", "ok-nothing", said("text", "", "", ""));
        self.put("webhook", "no-kind", said("x", "a", "b", "c"));
        self.put("webhook", "no-lines", "text");
        self.put("webhook", "no-utf8", [0xff]);
    }
}
