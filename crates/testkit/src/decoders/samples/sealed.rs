//! Content, envelopes, certificates, bundles, Hellos.

use bulla_e2ee::certificate::{Subject, issue_business, issue_customer};
use bulla_e2ee::content::{Body, Content, Expires, MessageId, PermitsExtension, Reader, Receipt};
use bulla_e2ee::envelope::Kind;
use bulla_e2ee::tag::Purpose;
use bulla_protocol::label;
use ed25519_dalek::SigningKey;

use super::Samples;
use crate::chance::Chance;
use crate::decoders::world::{self, BUSINESS_MAILBOX, NOW, RELAY, cbor, world};

impl Samples {
    pub(super) fn contents(&mut self) {
        let id = MessageId::new([1; 32]);
        let new = |body| Content::new([7; 16], body);
        let mut all = new(Body::Text { body: "Grüße 🌷".to_owned(), language: "de".to_owned() }).in_reply_to(id);
        all.topic = b"topic".to_vec();
        all.expires = Some(Expires::AfterReading(60));
        all.extensions.sent_ms = Some(NOW * 1000);
        all.extensions.counter = Some(300);
        all.extensions.name = Some("Anna".to_owned());
        all.extensions.reference = Some("flyer".to_owned());
        all.extensions.readers = Some(vec![Reader { name: "Team".to_owned(), role: "agents".to_owned() }]);
        all.extensions.permits = Some(PermitsExtension { relay: RELAY.to_owned(), permits: world::customer_permits() });
        all.extensions.unknown = vec![(vec![0x01], vec![0x82, 0x01, 0xf9, 0x7e, 0x00])];
        let receipt = Receipt { delivered: vec![id; 3], read: vec![id], epoch: 1, authenticator: [1; 8] };
        let at = Content { expires: Some(Expires::At(u32::MAX)), ..new(Body::text("")) };
        let single = |content_type: &str, content: &[u8]| {
            cbor::array(&[vec![1], cbor::text(""), vec![1], cbor::text(content_type), cbor::bytes(content)])
        };
        let alternatives = cbor::array(&[single("text/markdown", b"*hi*"), single("text/html", b"<b>hi</b>")]);
        let nested = |parts: &[Vec<u8>]| cbor::array(&[vec![1], cbor::text(""), vec![3], vec![0], cbor::array(parts)]);
        let many = cbor::array(&[vec![1], cbor::text(""), vec![3], vec![0], alternatives]);
        let external = cbor::array(&[
            vec![6],
            cbor::text(""),
            vec![2],
            cbor::text("image/png"),
            cbor::text("https://blob.example/1"),
            vec![0],
            vec![0x19, 0x10, 0x00],
            vec![1],
            cbor::bytes(&[1; 16]),
            cbor::bytes(&[2; 12]),
            cbor::bytes(&[]),
            vec![1],
            cbor::bytes(&[3; 32]),
            cbor::text(""),
            cbor::text("a.png"),
        ]);
        let unknown = |raw: &[u8]| new(Body::Unsupported { content_type: String::new(), raw: raw.to_vec() });
        for (which, content) in [
            ("text", new(Body::text("hi"))),
            ("everything", all),
            ("reaction", new(Body::Reaction { emoji: "👍🏽".to_owned() }).in_reply_to(id)),
            ("edit", new(Body::text("ho")).replacing(id)),
            ("deletion", new(Body::Deleted).replacing(id)),
            ("receipt", new(Body::Receipt(receipt))),
            ("typing", new(Body::Typing { on: true })),
            ("expires-at", at),
            ("alternatives", unknown(&many)),
            ("parts-in-parts", unknown(&nested(&[many.clone(), single("text/plain", b"")]))),
            ("external", unknown(&external)),
        ] {
            self.put("content", &format!("ok-{which}"), content.encode().unwrap());
        }
        let good = new(Body::text("hi")).encode().unwrap();
        let items = cbor::items(&good).unwrap();
        let with = |at: usize, item: &[u8]| {
            let mut items = items.clone();
            items[at] = item.to_vec();
            cbor::array(&items)
        };
        let entry = |key: &[u8], value: &[u8]| [key, value].concat();
        let two = |a: Vec<u8>, b: Vec<u8>| [&[0xa2][..], &a, &b].concat();
        let sent = cbor::text("bulla/sent");
        for (which, bytes) in [
            ("empty", vec![]),
            ("one-byte-more", [&good[..], &[0]].concat()),
            ("a-key-twice", with(5, &two(entry(&sent, &[1]), entry(&sent, &[1])))),
            ("keys-not-sorted", with(5, &two(entry(&sent, &[1]), entry(&[1], &[1])))),
            ("endless-map", with(5, &[0xbf, 0xff])),
            ("endless-text", with(6, &[0x85, 0x01, 0x7f, 0x60, 0xff, 0x01, 0x60, 0x40])),
            ("longer-number", with(3, &[0x82, 0xf5, 0x18, 0x01])),
            ("map-of-2-to-the-64", with(5, &[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])),
            ("array-of-2-to-the-64", vec![0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            ("bytes-of-2-to-the-63", with(2, &[0x5b, 0x80, 0, 0, 0, 0, 0, 0, 0])),
            ("arrays-in-arrays", vec![0x81; 5_000]),
            ("tags-in-tags", vec![0xc1; 5_000]),
            ("maps-in-maps", [0xa1, 0x00].repeat(2_500)),
            ("deep-extension", with(5, &[&[0xa1, 0x01][..], &[0x81; 9], &[0]].concat())),
            (
                "parts-too-deep",
                with(
                    6,
                    &nested(&[
                        nested(&[nested(&[nested(&[many.clone(), many.clone()]), many.clone()]), many.clone()]),
                        many.clone(),
                    ]),
                ),
            ),
            ("one-alternative", with(6, &nested(&[single("text/plain", b"")]))),
            ("text-of-another-type", with(2, &cbor::text("topic"))),
            ("salt-of-15-bytes", with(0, &cbor::bytes(&[7; 15]))),
            (
                "counter-that-is-a-text",
                with(5, &entry(&[&[0xa1][..], &cbor::text("bulla/counter")].concat(), &cbor::text("1"))),
            ),
            (
                "name-with-a-line-break",
                with(5, &entry(&[&[0xa1][..], &cbor::text("bulla/name")].concat(), &cbor::text("a\nb"))),
            ),
            (
                "no-permits",
                with(
                    5,
                    &entry(&[&[0xa1][..], &cbor::text("bulla/permits")].concat(), &cbor::bytes(&[0x82, 0x60, 0x80])),
                ),
            ),
            ("receipt-that-is-none", with(6, &single("application/vnd.bulla.receipt+cbor", b"\x85\x01"))),
            ("utf8-that-is-none", with(6, &[0x85, 0x01, 0x60, 0x01, 0x61, 0xff, 0x40])),
        ] {
            self.put("content", &format!("no-{which}"), bytes);
        }
    }

    pub(super) fn envelopes(&mut self) {
        let inside = |kind: u8, length: u32, body: &[u8]| [&[kind][..], &length.to_be_bytes(), body].concat();
        self.put("envelope", "ok-mls", inside(1, 5, b"hello"));
        self.put("envelope", "ok-empty-body", inside(2, 0, b""));
        self.put("envelope", "ok-length-up-to-the-padding", inside(3, 1024 - 1 - 24 - 16 - 5, b""));
        self.put("envelope", "no-kind-0", inside(0, 0, b""));
        self.put("envelope", "no-kind-of-a-later-version", inside(77, 1, b"x"));
        self.put("envelope", "no-length-beyond-the-end", inside(1, 1024, b""));
        self.put("envelope", "no-largest-length", inside(1, u32::MAX, b""));
        self.put("envelope", "no-padding-that-is-not-zero", inside(1, 1, b"ab"));
        self.put("envelope", "no-real-one-of-another-key", {
            let key = world::customer_permits().remove(0).envelope_key.unwrap();
            let tag = world::contact_tag();
            key.seal(&tag, Kind::Mls, b"hello", &mut Chance::new(2)).unwrap()
        });
    }

    pub(super) fn signed(&mut self) {
        let identity = world::identity();
        let leaf = SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes();
        let subject = Subject { handle: "rosi", endpoint: "gateway", not_after: NOW + 1 };
        let business = issue_business(&identity, &leaf, &subject);
        let nobody = Subject { handle: "", endpoint: "", not_after: u64::MAX };
        let customer = issue_customer(&world::pseudonym(), &leaf, &identity.hash(), &nobody);
        let payload = |signed: &[u8]| cbor::content(&cbor::items(signed).unwrap()[0]).unwrap();
        let wrong = |payload: &[u8], at: usize, item: &[u8]| {
            let mut items = cbor::items(payload).unwrap();
            items[at] = item.to_vec();
            cbor::array(&items)
        };
        let inside = payload(&business);
        self.put("certificate", "ok-business", &business);
        self.put("certificate", "ok-customer", &customer);
        self.put("certificate", "ok-business-payload", &inside);
        self.put("certificate", "ok-customer-payload", payload(&customer));
        self.put("certificate", "no-empty", b"");
        self.put(
            "certificate",
            "no-signature-of-another-label",
            world::sign(&identity.to_bytes(), label::BUNDLE, &inside),
        );
        self.put("certificate", "no-expired", wrong(&inside, 7, &[0]));
        self.put("certificate", "no-role-3", wrong(&inside, 1, &[3]));
        self.put("certificate", "no-leaf-of-small-order", wrong(&inside, 3, &cbor::bytes(&[0; 32])));
        self.put("certificate", "no-suite-that-is-known", wrong(&inside, 8, &[0x81, 0x01]));
        self.put("certificate", "no-suites", wrong(&inside, 8, &[0x80]));
        self.put(
            "certificate",
            "no-payload-in-a-payload",
            cbor::array(&[cbor::bytes(&business), cbor::bytes(&[0; 64])]),
        );

        let whole = &world().bundle;
        let inside = payload(whole);
        // A seal key and a KeyPackage of the day take the places of empty ones.
        let live = wrong(&wrong(&inside, 7, &[0x40]), 8, &[0x40]);
        self.put("bundle", "ok-whole", whole);
        self.put("bundle", "ok-payload-of-the-day", &live);
        self.put("bundle", "ok-payload-with-a-later-field", {
            let mut items = cbor::items(&live).unwrap();
            items.push(cbor::text("of a later version"));
            cbor::array(&items)
        });
        self.put("hello_again", "ok-payload-of-the-day", &live);
        for decoder in ["bundle", "hello_again"] {
            self.put(decoder, "no-empty", b"");
            self.put(decoder, "no-relay-of-another-scheme", wrong(&live, 4, &cbor::text("https://relay.test/")));
            self.put(decoder, "no-other-mailbox", wrong(&live, 5, &cbor::bytes(&[1; 16])));
            self.put(
                decoder,
                "no-ordinary-permit",
                wrong(&live, 6, &world::permit(BUSINESS_MAILBOX, Purpose::Service, 2).encode()),
            );
        }
        self.put("bundle", "no-handle-of-another", wrong(&live, 2, &cbor::text("mallory")));
        self.put("bundle", "no-expired", wrong(&live, 10, &[0]));
        self.put("bundle", "no-key-package-cut", wrong(&inside, 8, &cbor::bytes(&[0, 1, 0, 0x4f, 0x44])));
        self.put("bundle", "no-seal-key-of-small-order", wrong(&live, 7, &cbor::bytes(&[0; 1216])));
        let reader = cbor::array(&[cbor::text("a"), cbor::text("b")]);
        self.put("bundle", "no-65-readers", wrong(&live, 11, &cbor::array(&vec![reader; 65])));
        self.put("bundle", "no-other-identity", wrong(&live, 1, &cbor::bytes(&world::pseudonym().public())));
    }

    pub(super) fn hellos(&mut self) {
        let good = world::hello(&world().welcome, &world().first);
        let items = cbor::items(&good).unwrap();
        let wrong = |at: usize, item: &[u8]| {
            let mut items = items.clone();
            items[at] = item.to_vec();
            cbor::array(&items)
        };
        self.put("hello", "ok-whole", &good);
        self.put("hello", "ok-without-welcome-and-message", world::hello(b"", b""));
        self.put("hello", "no-empty", b"");
        self.put("hello", "no-version-2", wrong(0, &[2]));
        self.put("hello", "no-proof", wrong(7, &cbor::bytes(&[0; 64])));
        self.put("hello", "no-other-pseudonym", wrong(1, &cbor::bytes(&world::identity().public())));
        self.put("hello", "no-permits", wrong(3, &[0x80]));
        self.put("hello", "no-nine-permits", wrong(3, &cbor::array(&vec![world::customer_permits()[0].encode(); 9])));
        self.put("hello", "no-reply-key-of-small-order", wrong(4, &cbor::bytes(&[0; 1216])));
        self.put("hello", "no-seven-items", cbor::array(&items[..7]));
    }
}
