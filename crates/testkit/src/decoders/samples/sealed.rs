//! Content, envelopes, certificates, bundles, Hellos.

use bulla_e2ee::certificate::{Role, Subject, issue_business, issue_customer};
use bulla_e2ee::content::{
    Body, Content, Expires, HistoryItem, HistoryPage, HistoryReaction, HistoryRequest, MessageId, PermitsExtension,
    Reader, Receipt,
};
use bulla_e2ee::continues::{Continues, Reason, Speaker, Turn};
use bulla_e2ee::device::Invitation;
use bulla_e2ee::envelope::Kind;
use bulla_e2ee::suite::Suites;
use bulla_e2ee::tag::Purpose;
use bulla_e2ee::turned_away;
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
        let said = new(Body::text("said before")).encode().unwrap();
        let liked = new(Body::Reaction { emoji: "👍".to_owned() }).in_reply_to(id).encode().unwrap();
        let item = HistoryItem {
            by: Role::Customer,
            content: said,
            at_ms: NOW * 1000,
            read: true,
            edited: Some("said better".to_owned()),
            reactions: vec![HistoryReaction { by: Role::Business, content: liked }],
        };
        let plain = HistoryItem { by: Role::Business, edited: None, reactions: Vec::new(), ..item.clone() };
        let page = HistoryPage { id: 7, next: vec![8; 8], items: vec![item, plain] };
        let asks = HistoryRequest { id: u64::MAX, from: vec![8; 32], most: 60 };
        let mut resumes = new(Body::Receipt(Receipt::default()));
        resumes.extensions.resumes = true;
        let unknown = |raw: &[u8]| new(Body::Unsupported { content_type: String::new(), raw: raw.to_vec() });
        for (which, content) in [
            ("text", new(Body::text("hi"))),
            ("everything", all),
            ("resumes", resumes),
            ("history-asks", new(Body::HistoryRequest(asks))),
            ("history-page", new(Body::HistoryPage(page))),
            ("history-page-of-nothing", new(Body::HistoryPage(HistoryPage::default()))),
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
            ("history-that-is-none", with(6, &single("application/vnd.bulla.history+cbor", b"\x85\x01\x01"))),
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
        let subject = Subject { handle: "rosi", endpoint: "gateway", not_after: NOW + 1, suites: Suites::DEFAULT };
        let business = issue_business(&identity, &leaf, &subject);
        let nobody = Subject { handle: "", endpoint: "", not_after: u64::MAX, suites: Suites::DEFAULT };
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
        self.put("certificate", "no-suite-that-is-known", wrong(&inside, 8, &[0x81, 0x02]));
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
            items.extend([vec![0x80], cbor::text("of a later version")]);
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

    pub(super) fn devices(&mut self) {
        let invitation = Invitation {
            device: world::device().clone(),
            business_key: world::identity().public(),
            handle: "rosi".to_owned(),
            name: "Rosi's Flowers".to_owned(),
            inviter: "phone".to_owned(),
            relay: RELAY.to_owned(),
            permits: vec![world::customer_permits().remove(0)],
            suite: None,
        };
        let good = invitation.encode().to_vec();
        let wrong = |at: usize, item: &[u8]| {
            let mut items = cbor::items(&good).unwrap();
            items[at] = item.to_vec();
            cbor::array(&items)
        };
        let device = cbor::items(&world::device().to_bytes()).unwrap();
        let other_leaf = cbor::array(&[device[0].clone(), cbor::bytes(&[3; 32]), device[2].clone()]);
        let identity = world::identity();
        let subject = Subject { handle: "rosi", endpoint: "gateway", not_after: NOW + 1, suites: Suites::DEFAULT };
        let leaf = SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes();
        let business = issue_business(&identity, &leaf, &subject);
        let business = cbor::array(&[device[0].clone(), cbor::bytes(&[8; 32]), cbor::bytes(&business)]);
        self.put("invitation", "ok-whole", &good);
        self.put("invitation", "ok-with-a-later-field", {
            let mut items = cbor::items(&good).unwrap();
            items.extend([vec![0x18, 0x4f], cbor::text("of a later version")]);
            cbor::array(&items)
        });
        self.put("invitation", "no-empty", b"");
        self.put("invitation", "no-version-2", wrong(0, &[2]));
        self.put("invitation", "no-other-business", wrong(2, &cbor::bytes(&world::pseudonym().public())));
        self.put("invitation", "no-other-leaf", wrong(1, &cbor::bytes(&other_leaf)));
        self.put("invitation", "no-device-of-a-business", wrong(1, &cbor::bytes(&business)));
        self.put("invitation", "ok-without-permits", wrong(7, &[0x80]));

        let permits = cbor::array(&[world::customer_permits()[0].encode()]);
        let request = [vec![1], cbor::text(RELAY), permits, vec![0x40]];
        let wrong = |at: usize, item: &[u8]| {
            let mut items = request.clone();
            items[at] = item.to_vec();
            cbor::array(&items)
        };
        self.put("join", "ok-payload-of-the-day", cbor::array(&request));
        self.put("join", "no-empty", b"");
        self.put("join", "no-version-2", wrong(0, &[2]));
        self.put("join", "no-permits", wrong(2, &[0x80]));
        self.put("join", "no-nine-permits", wrong(2, &cbor::array(&vec![world::customer_permits()[0].encode(); 9])));
        self.put("join", "no-key-package-cut", wrong(3, &cbor::bytes(&[0, 1, 0, 0x4f, 0x44])));
        self.put("join", "no-three-items", cbor::array(&request[..3]));
    }

    pub(super) fn continues(&mut self) {
        let (identity, pseudonym) = (world::identity(), world::pseudonym());
        let business = identity.hash();
        let user = pseudonym.user_id(&business);
        let turn = Turn { at: NOW << 20, before: 3, seen: 5 };
        let heard = [MessageId::new([1; 32]), MessageId::new([2; 32])];
        let says = |speaker: &Speaker<'_>| {
            Continues::seal(speaker, &business, &user, &turn, Reason::Restored, &heard, b"a Welcome").unwrap()
        };
        let whole = says(&Speaker::Business(&identity));
        self.put("continues", "ok-business", &whole);
        self.put("continues", "ok-customer", says(&Speaker::Customer(&pseudonym)));
        let linked = says(&Speaker::Linked(world::device()));
        self.put("continues", "ok-linked-device", &linked);
        let payload = |body: &[u8]| {
            cbor::content(&cbor::items(&cbor::content(&cbor::items(body).unwrap()[0]).unwrap()).unwrap()[0]).unwrap()
        };
        let inside = |body: &[u8], at: usize, item: &[u8], welcome: &[u8]| {
            let mut items = cbor::items(&payload(body)).unwrap();
            items[at] = item.to_vec();
            cbor::array(&[cbor::bytes(&cbor::array(&items)), cbor::bytes(welcome)])
        };
        self.put("continues", "ok-payload-without-welcome", inside(&whole, 7, &[0x40], b""));
        self.put("continues", "ok-payload-of-a-linked-device", inside(&linked, 7, &[0x40], b"a Welcome"));
        self.put("continues", "ok-reason-of-a-later-version", inside(&whole, 6, &[0x18, 0x63], b"a Welcome"));
        self.put("continues", "no-empty", b"");
        self.put("continues", "no-other-welcome", inside(&whole, 6, &[3], b"another Welcome"));
        self.put("continues", "no-other-business", inside(&whole, 3, &cbor::bytes(&[7; 32]), b"a Welcome"));
        self.put("continues", "no-other-user", inside(&whole, 4, &cbor::text("ZZ.nobody"), b"a Welcome"));
        self.put("continues", "no-role-3", inside(&whole, 1, &[3], b"a Welcome"));
        self.put("continues", "no-version-2", inside(&whole, 0, &[2], b"a Welcome"));
        self.put("continues", "no-identity-that-did-not-sign", inside(&whole, 2, &cbor::bytes(&[7; 32]), b"a Welcome"));
        let many = cbor::array(&vec![cbor::bytes(&[1; 32]); 17]);
        self.put("continues", "no-17-heard", inside(&whole, 8, &many, b"a Welcome"));
        self.put("continues", "no-certificate-that-is-none", inside(&linked, 11, &cbor::bytes(b"none"), b"a Welcome"));
    }

    pub(super) fn turned_away(&mut self) {
        let identity = world::identity();
        let user = world::pseudonym().user_id(&identity.hash());
        let whole = turned_away::seal(&identity, &user, "phone", turned_away::Reason::Elsewhere);
        let payload = cbor::content(&cbor::items(&whole).unwrap()[0]).unwrap();
        let with = |at: usize, item: &[u8]| {
            let mut items = cbor::items(&payload).unwrap();
            items[at] = item.to_vec();
            cbor::array(&items)
        };
        self.put("turned_away", "ok-elsewhere", &whole);
        self.put("turned_away", "ok-payload-unknown", with(1, &[2]));
        self.put("turned_away", "ok-payload-reason-of-a-later-version", with(1, &[0x18, 0x63]));
        self.put("turned_away", "no-empty", b"");
        self.put("turned_away", "no-version-2", with(0, &[2]));
        self.put("turned_away", "no-other-business", with(2, &cbor::bytes(&[7; 32])));
        self.put("turned_away", "no-other-user", with(3, &cbor::text("ZZ.nobody")));
        self.put("turned_away", "no-other-device", with(4, &cbor::text("tablet")));
        self.put("turned_away", "no-four-items", cbor::array(&cbor::items(&payload).unwrap()[..4]));
    }
}
