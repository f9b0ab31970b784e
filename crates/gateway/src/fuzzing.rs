//! What the gateway decodes from its callers and tells its receivers, as functions of bytes for the fuzz targets of `fuzz/` and for the test
//! below, which replays their corpora (catalogue: MLS-02). Not in any program: only tests and fuzz builds (`cfg(fuzzing)`) have it.
//!
//! A function panics where a decoder does, and where what was accepted does not keep a promise.

#![expect(clippy::unwrap_used, clippy::panic, reason = "it tests: a failure is a panic")]

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::Request as HttpRequest;
use axum::http::header::CONTENT_TYPE;
use bulla_client::event::{ConversationId, Direction, Draft, Message, Shown, Status};
use bulla_client::media::{Attachment, BlobId};
use bulla_e2ee::attachment::AttachmentKey;
use bulla_e2ee::content::{Body as Said, Content, MessageId};
use serde_json::{Value, json};

use crate::account::Account;
use crate::cloud_api::message::{self, Request, Send, What};
use crate::cloud_api::params::Params;
use crate::cloud_api::{Path, fields};
use crate::egress;
use crate::entropy::Entropy;
use crate::store::contacts::Contact;
use crate::token;
use crate::webhooks::payload::{self, About, Place};

/// An HTTP request to the Cloud API, as three lines: path and query, content type, and the body. Whether it asks for something that a gateway
/// could do.
#[must_use]
pub fn cloud_api(bytes: &[u8]) -> bool {
    let mut lines = bytes.splitn(3, |b| *b == b'\n');
    let (Some(uri), Some(kind), body) = (lines.next(), lines.next(), lines.next().unwrap_or_default()) else {
        return false;
    };
    let request = HttpRequest::builder().uri(uri).header(CONTENT_TYPE, kind).body(Body::from(body.to_vec()));
    let Ok(request) = request else { return false };
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let Path { version, id, edge } = Path::parse(&path);
    assert!([version.unwrap_or_default(), id, edge].iter().all(|part| path.contains(part)));

    let mut params = Params::of_query(&parts);
    let read = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(params.read_body(parts, body));
    if read.is_err() {
        return false;
    }
    let root = params.root();
    if let Ok(Some(wanted)) = root.text("fields") {
        let node = json!({"id": "1", "name": "n", "hook": {"app": "a", "phone": null}});
        if let Ok(shown) = fields::project(&node, Some(&wanted), &["name"], "T") {
            assert_eq!(shown["id"], node["id"]);
        }
    }
    if let Ok(Some(url)) = root.text("callback_url")
        && let Ok(url) = egress::admit(&url)
    {
        assert!(matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty()));
    }
    if let Ok(Some(token)) = root.text("access_token") {
        let _ = token::is_well_formed(&token);
    }
    match message::parse(&params) {
        Ok(Request::Send(send)) => {
            can_be_said(&send);
            true
        }
        Ok(Request::Read { .. }) => true,
        Err(_) => false,
    }
}

/// What the API takes, an endpoint can say: it has no other way to refuse it than to fail.
fn can_be_said(send: &Send) {
    let draft = match &send.what {
        What::Draft(draft) => draft,
        What::File(file) => {
            let attachment = Attachment {
                blob: BlobId::new([1; 16]),
                key: AttachmentKey::from_bytes([2; 32]),
                size: 1,
                digest: [3; 32],
                media_type: "image/png".to_owned(),
                name: file.source.name.clone().unwrap_or_default(),
                expires: 0,
                caption: file.caption.clone(),
                preview: None,
            };
            assert!(Content::new([0; 16], Said::Attachment(Box::new(attachment))).encode().is_ok());
            return;
        }
        What::Interactive(asked, _) => {
            let content = Content::new([0; 16], Said::Interactive(Box::new(asked.interactive.clone())));
            assert!(content.encode().is_ok());
            return;
        }
        What::Template(..) => return,
    };
    let content = match draft {
        Draft::Text { body, .. } => Content::new([0; 16], Said::text(body)),
        Draft::Reaction { to, emoji: Some(emoji) } => {
            Content::new([0; 16], Said::Reaction { emoji: emoji.clone() }).in_reply_to(*to)
        }
        Draft::Reaction { emoji: None, .. } => return,
        Draft::Location { location, .. } => Content::new([0; 16], Said::Location(location.clone())),
        Draft::Contacts { persons, .. } => Content::new([0; 16], Said::Contacts(persons.clone())),
        _ => panic!("the API has no such draft"),
    };
    assert!(content.encode().is_ok());
}

/// What a customer calls itself and says, as the business's receiver hears it. Four lines: kind, name, the link's `ref`, text.
#[must_use]
pub fn webhook(bytes: &[u8]) -> bool {
    static PLACE: LazyLock<Place> = LazyLock::new(|| {
        let entropy = Entropy::new(Box::new(rand_core::OsRng));
        let (account, _) = Account::generate("shop".into(), "Shöp".into(), &[], &entropy);
        Place { account, public_link: "https://shop.example/@shop".into() }
    });
    let Ok(text) = core::str::from_utf8(bytes) else { return false };
    let lines: Vec<&str> = text.splitn(4, '\n').collect();
    let [kind, name, reference, said] = lines.as_slice() else { return false };
    let said = (*said).to_owned();
    let about = Some(MessageId::new([2; 32]));
    let (shown, at) = match *kind {
        "text" => (Shown::Text(said.clone()), "/text/body"),
        "reaction" => (Shown::Reaction(Some(said.clone())), "/reaction/emoji"),
        "edit" => (Shown::Edit(said.clone()), "/edit/message/text/body"),
        _ => (Shown::Unsupported(said.clone()), ""),
    };
    let message = Message {
        conversation: ConversationId(1),
        order: 1,
        id: MessageId::new([1; 32]),
        direction: Direction::Incoming,
        shown,
        reply_to: about,
        replaces: about.filter(|_| *kind == "edit"),
        sent_ms: u64::from(bytes.len() as u32) << 24,
        stored_ms: u64::MAX,
        status: Status::Received,
        failure: None,
        edited: false,
        deleted: false,
        reactions: Vec::new(),
        reference: Some((*reference).to_owned()),
        identity: None,
        breach: false,
        by: None,
    };
    let contact = Contact {
        user_id: "ZZ.abc".into(),
        wa_id: "890000000000001".into(),
        name: (*name).to_owned(),
        heard_ms: 0,
        customer_id: None,
    };
    let payload = payload::message(&PLACE, &contact, &message, &About::CUSTOMERS, None);
    assert!(payload.is_ascii(), "some receivers sign what they have escaped once more");
    let json: Value = serde_json::from_slice(&payload).unwrap();
    let value = json.pointer("/entry/0/changes/0/value").unwrap();
    assert_eq!(value.pointer("/contacts/0/profile/name"), Some(&json!(name)));
    assert_eq!(value.pointer("/messages/0/referral/source_id"), Some(&json!(reference)));
    let source = value.pointer("/messages/0/referral/source_url").and_then(Value::as_str).unwrap();
    let pairs = url::Url::parse(source).unwrap();
    assert_eq!(pairs.query_pairs().collect::<Vec<_>>(), [("ref".into(), (*reference).into())]);
    if at.is_empty() {
        return false;
    }
    assert_eq!(value.pointer(&format!("/messages/0{at}")), Some(&json!(said)));
    true
}

#[cfg(test)]
mod tests {
    use bulla_testkit::decoders::{Decoder, Verdict, corpus};

    const CLOUD_API: Decoder =
        Decoder { name: "cloud_api", run: |bytes| Verdict::of(super::cloud_api(bytes)), mutations: 5_000 };
    const WEBHOOK: Decoder =
        Decoder { name: "webhook", run: |bytes| Verdict::of(super::webhook(bytes)), mutations: 5_000 };

    #[test]
    fn mls_02_requests_to_the_cloud_api_and_their_mutations() {
        println!("{} inputs", corpus::replay(&CLOUD_API));
    }

    #[test]
    fn mls_02_what_customers_say_and_its_mutations_are_told_as_ascii_json() {
        println!("{} inputs", corpus::replay(&WEBHOOK));
    }
}
