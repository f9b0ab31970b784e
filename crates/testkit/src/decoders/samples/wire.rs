//! Frames, permits, tags, names.

use bulla_e2ee::content::MessageId;
use bulla_e2ee::link::Link;
use bulla_e2ee::tag::{Purpose, Tag, TagKey};
use bulla_protocol::frame::{
    Accepted, Ack, CaughtUp, ClaimSlot, ClientFrame, ClientHello, Code, Create, DeleteMailbox, Deliver, Done, Failed,
    Gap, Open, Ping, PublishBundle, ReadSlot, Revoke, Role, Send, ServerFrame, ServerHello, SlotClaimed, SlotRead,
    Subscribe, Subscribed, Superseded, client_frame, server_frame,
};
use bulla_protocol::id::{Challenge, GrantId, Incarnation, IncarnationNonce, SendId};
use bulla_protocol::ownership::{sign_create, sign_open};
use bulla_protocol::permit::{MacRoot, RelayName};
use ed25519_dalek::SigningKey;

use super::Samples;
use crate::decoders::world::{self, BUSINESS_MAILBOX, CUSTOMER_MAILBOX, NOW, cbor};

impl Samples {
    pub(super) fn wire(&mut self) {
        let (name, challenge) = (RelayName::new("relay.test").unwrap(), Challenge::new([1; 32]));
        let (owner, root) = (SigningKey::from_bytes(&[4; 32]), MacRoot::new([3; 32]));
        let incarnation = Incarnation { number: 7, nonce: IncarnationNonce::new([5; 16]) };
        let permit = world::permit(BUSINESS_MAILBOX, Purpose::Service, 3);
        let (id, envelope) = (SendId::new([6; 16]), vec![1; 64]);
        let mac = root.grant_key(&permit.permit.grant).mac(&permit.permit);
        use client_frame::Body as Ask;
        for (which, body) in [
            ("hello", Ask::Hello(ClientHello { version: 1, role: Role::Owner.into() })),
            (
                "create",
                Ask::Create(Create {
                    mailbox: BUSINESS_MAILBOX.to_vec(),
                    owner_key: owner.verifying_key().to_bytes().to_vec(),
                    mac_root: root.expose().to_vec(),
                    work_nonce: 9,
                    signature: sign_create(&owner, &name, &challenge, &BUSINESS_MAILBOX, &root),
                }),
            ),
            (
                "open",
                Ask::Open(Open {
                    mailbox: BUSINESS_MAILBOX.to_vec(),
                    incarnation: incarnation.number,
                    incarnation_nonce: incarnation.nonce.to_vec(),
                    signature: sign_open(&owner, &name, &challenge, &BUSINESS_MAILBOX, &incarnation),
                }),
            ),
            ("subscribe", Ask::Subscribe(Subscribe { mailboxes: vec![BUSINESS_MAILBOX.to_vec(); 3] })),
            ("ack", Ask::Ack(Ack { subscription: 1, through: u64::MAX })),
            (
                "revoke",
                Ask::Revoke(Revoke { mailbox: BUSINESS_MAILBOX.to_vec(), grant: GrantId::new([2; 16]).to_vec() }),
            ),
            ("publish", Ask::PublishBundle(PublishBundle { mailbox: BUSINESS_MAILBOX.to_vec(), bundle: vec![9; 40] })),
            ("delete", Ask::DeleteMailbox(DeleteMailbox { mailbox: BUSINESS_MAILBOX.to_vec() })),
            (
                "send",
                Ask::Send(Send {
                    permit: Some(permit.permit.to_frame()),
                    proof: mac.prove(&name, &id, &envelope).to_vec(),
                    send_id: id.to_vec(),
                    envelope: envelope.clone().into(),
                    work_nonce: 1,
                }),
            ),
            ("claim-slot", Ask::ClaimSlot(ClaimSlot { slot: vec![1; 32], commit: vec![2; 8].into(), work_nonce: 7 })),
            ("read-slot", Ask::ReadSlot(ReadSlot { slot: vec![1; 32] })),
            ("ping", Ask::Ping(Ping {})),
        ] {
            self.put("client_frame", &format!("ok-{which}"), ClientFrame::new(3, body).to_bytes());
        }
        use server_frame::Body as Say;
        for (which, body) in server_frames() {
            self.put("server_frame", &format!("ok-{which}"), ServerFrame::new(3, body).to_bytes());
        }
        let ping = ClientFrame::new(1, Ask::Ping(Ping {})).to_bytes();
        let ack = ClientFrame::new(1, Ask::Ack(Ack { subscription: 1, through: 2 })).to_bytes();
        self.put("client_frame", "ok-two-bodies-of-which-the-last-counts", [&ping[..], &ack].concat());
        let done = ServerFrame::new(1, Say::Done(Done {})).to_bytes();
        self.put("server_frame", "ok-two-bodies-of-which-the-last-counts", [&done[..], &done].concat());
        for decoder in ["client_frame", "server_frame"] {
            self.put(decoder, "no-empty", b"");
            self.put(decoder, "no-body", [0x08, 0x01]);
            self.put(decoder, "no-field-of-a-later-version-alone", [0xa2, 0x06, 0x01, 0x00]);
            self.put(decoder, "no-length-beyond-the-end", [0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]);
            self.put(decoder, "no-number-of-eleven-bytes", [0x08; 1].into_iter().chain([0xff; 11]).collect::<Vec<_>>());
            // Groups were nested by protobuf's first version.
            self.put(decoder, "no-groups-in-groups", [0xa3, 0x06].repeat(5_000));
            self.put(decoder, "no-field-zero", [0x02, 0x00]);
        }
    }

    pub(super) fn names(&mut self) {
        let hash = world::identity().hash();
        let (user, id) = (world::pseudonym().user_id(&hash), MessageId::new([0xa5; 32]));
        let (hash, user, wamid) = (hash.to_string(), user.to_string(), id.to_wamid());
        self.put("names", "ok-mailbox", BUSINESS_MAILBOX.to_hex());
        self.put("names", "ok-identity-hash", &hash);
        self.put("names", "ok-user-id", &user);
        self.put("names", "ok-message-id", &wamid);
        self.put("names", "ok-handle", "rosi.flowers-2_b");
        self.put("names", "no-empty", "");
        self.put("names", "no-uppercase-hex", BUSINESS_MAILBOX.to_hex().to_uppercase());
        self.put("names", "no-padded-hash", format!("{hash}="));
        // The last character has bits that no byte has.
        self.put("names", "no-second-form-of-a-hash", format!("{}_", &hash[..42]));
        self.put("names", "no-uppercase-user-id", user.to_uppercase());
        self.put("names", "no-message-id-cut", &wamid[..wamid.len() - 1]);
        self.put("names", "no-utf8", [0xff, 0xfe]);

        let link =
            |origin, reference| Link::new(origin, "rosi", world::identity().hash(), reference).unwrap().to_string();
        self.put("link", "ok-plain", link("https://shop.example", None));
        self.put("link", "ok-ref", link("https://shop.example", Some("flyer & more?=#ü")));
        self.put("link", "ok-this-machine", link("http://127.0.0.1:7411", None));
        self.put("link", "ok-v6-path", link("http://[::1]:7411/a/b/", Some("x")));
        self.put(
            "link",
            "ok-international-host",
            format!(" https://blümen.example/@rosi?x=1&ref=%F0%9F%8C%B7#a&k={hash} "),
        );
        for (which, text) in [
            ("empty", String::new()),
            ("no-fragment", "https://shop.example/@rosi".to_owned()),
            ("plain-http", format!("http://shop.example/@rosi#k={hash}")),
            ("two-keys", format!("https://shop.example/@rosi#k={hash}&k={hash}")),
            ("two-refs", format!("https://shop.example/@rosi?ref=a&ref=b#k={hash}")),
            ("password", format!("https://a:b@shop.example/@rosi#k={hash}")),
            ("data", format!("data:text/html,/@rosi#k={hash}")),
            ("script", format!("javascript:/@rosi#k={hash}")),
            ("control-in-ref", format!("https://shop.example/@rosi?ref=%00#k={hash}")),
            ("handle-encoded", format!("https://shop.example/@%72osi#k={hash}")),
            ("long-host", format!("https://{}/@rosi#k={hash}", "a".repeat(3_000))),
        ] {
            self.put("link", &format!("no-{which}"), text);
        }
    }

    pub(super) fn permits(&mut self) {
        let (service, contact) = (
            world::permit(CUSTOMER_MAILBOX, Purpose::Service, 3),
            world::permit(BUSINESS_MAILBOX, Purpose::Contact, 1),
        );
        let bytes = service.permit.to_bytes();
        let with = |at: usize, value: u8| {
            let mut bytes = bytes;
            bytes[at] = value;
            bytes
        };
        self.put("permit", "ok-service", bytes);
        self.put("permit", "ok-contact", contact.permit.to_bytes());
        self.put("permit", "ok-largest-numbers", [&bytes[..34], &[0xff; 24]].concat());
        self.put("permit", "no-empty", b"");
        self.put("permit", "no-version-2", with(0, 2));
        self.put("permit", "no-class-3", with(33, 3));
        self.put("permit", "no-short", &bytes[..57]);
        self.put("permit", "no-long", [&bytes[..], &[0]].concat());

        let key = TagKey::from_bytes([9; 32]);
        let tag = |purpose| key.seal(&Tag { conversation: u64::MAX, purpose, serial: 7 });
        let keyed = |block: &[u8]| [&[9; 32][..], block].concat();
        self.put("tag", "ok-service", keyed(tag(Purpose::Service).as_bytes()));
        self.put("tag", "ok-contact", keyed(tag(Purpose::Contact).as_bytes()));
        self.put("tag", "no-random", keyed(&[0; 16]));
        self.put("tag", "no-short", keyed(&tag(Purpose::Service).as_bytes()[..15]));
        self.put("tag", "no-empty", b"");

        let items = cbor::items(&service.encode()).unwrap();
        let wrong = |at: usize, item: Vec<u8>| {
            let mut items = items.clone();
            items[at] = item;
            cbor::array(&items)
        };
        let later = |mut items: Vec<Vec<u8>>| {
            items.push(cbor::text("of a later version"));
            cbor::array(&items)
        };
        self.put("given_permit", "ok-service", service.encode());
        self.put("given_permit", "ok-contact", contact.encode());
        self.put("given_permit", "ok-with-a-later-field", later(items.clone()));
        self.put("given_permit", "no-purpose-6", wrong(0, vec![6]));
        self.put("given_permit", "no-contact-with-a-key", wrong(0, vec![5]));
        self.put("given_permit", "no-key-of-31-bytes", wrong(3, cbor::bytes(&[1; 31])));
        self.put("given_permit", "no-three-items", cbor::array(&items[..3]));
        self.put("given_permit", "no-empty", b"");
        self.put("given_permit", "no-endless-array", [&[0x9f][..], &items.concat(), &[0xff]].concat());
        self.put("given_permit", "no-longer-head", [&[0x98, 0x04][..], &items.concat()].concat());
    }
}

fn server_frames() -> Vec<(&'static str, server_frame::Body)> {
    use server_frame::Body as Say;
    vec![
        (
            "hello",
            Say::Hello(ServerHello {
                versions: vec![1, 2],
                name: "relay.test".to_owned(),
                instance: vec![1; 16],
                now: NOW,
                challenge: vec![2; 32],
                work_bits: 16,
            }),
        ),
        ("done", Say::Done(Done {})),
        ("failed", Say::Failed(Failed { code: Code::Rate.into(), retry_after_ms: 1_000, incarnation: 0 })),
        ("accepted", Say::Accepted(Accepted {})),
        ("subscribed", Say::Subscribed(Subscribed { subscriptions: vec![1, 300, u64::MAX] })),
        (
            "deliver",
            Say::Deliver(Deliver {
                subscription: 1,
                number: 2,
                tag: vec![3; 16],
                class: 1,
                envelope: vec![4; 64].into(),
            }),
        ),
        ("gap", Say::Gap(Gap { subscription: 1, number: 2, envelopes: 3 })),
        ("caught-up", Say::CaughtUp(CaughtUp { subscription: 1 })),
        ("superseded", Say::Superseded(Superseded { mailbox: vec![1; 16] })),
        ("slot-claimed", Say::SlotClaimed(SlotClaimed { won: true, winner: vec![1].into() })),
        ("slot-read", Say::SlotRead(SlotRead { commit: vec![1].into() })),
    ]
}
