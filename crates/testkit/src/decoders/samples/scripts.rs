//! Scripts for whole endpoints.

use bulla_e2ee::content::{Body, Content, MessageId, PermitsExtension, Reader, Receipt};
use bulla_e2ee::tag::Purpose;
use bulla_protocol::frame::{Accepted, Code, Deliver, Done, Gap, ServerFrame, ServerHello, Superseded, server_frame};

use super::Samples;
use crate::decoders::endpoint::{Act, act};
use crate::decoders::world::{self, BUSINESS_MAILBOX, CUSTOMER_MAILBOX, NOW, RELAY, world};

impl Samples {
    pub(super) fn scripts(&mut self) {
        let script = |begins: u8, acts: &[(Act, &[u8])]| {
            let acts: Vec<u8> = acts.iter().flat_map(|(which, bytes)| act(*which, bytes)).collect();
            [&[begins][..], &acts].concat()
        };
        // The ids of the first and second message.
        let (first, second) = (MessageId::new([0xa0; 32]), MessageId::new([0xa1; 32]));
        let say = |content: Content| content.encode().unwrap();
        let hello = say(Content::new([1; 16], Body::text("Hello")));
        let mut permits = Content::new([2; 16], Body::text("Take these"));
        permits.extensions.permits = Some(PermitsExtension {
            relay: RELAY.to_owned(),
            permits: vec![
                world::permit(BUSINESS_MAILBOX, Purpose::Service, 30),
                world::permit(BUSINESS_MAILBOX, Purpose::Control, 31),
                world::permit(BUSINESS_MAILBOX, Purpose::Marketing, 32),
            ],
        });
        permits.extensions.name = Some("Bella".to_owned());
        permits.extensions.readers = Some(vec![Reader { name: "Bot".to_owned(), role: "bot".to_owned() }]);
        permits.extensions.counter = Some(u64::MAX);
        let mut elsewhere = Content::new([2; 16], Body::text("Over there"));
        let strange = vec![world::permit(CUSTOMER_MAILBOX, Purpose::Control, 33)];
        elsewhere.extensions.permits = Some(PermitsExtension { relay: "not a URL".to_owned(), permits: strange });
        let receipt = |delivered: &[MessageId], read: &[MessageId]| {
            say(Content::new(
                [3; 16],
                Body::Receipt(Receipt { delivered: delivered.to_vec(), read: read.to_vec(), ..Receipt::default() }),
            ))
        };
        let react = say(Content::new([4; 16], Body::Reaction { emoji: "👍".to_owned() }).in_reply_to(first));
        let edit = say(Content::new([5; 16], Body::text("No")).replacing(second));
        let delete = say(Content::new([6; 16], Body::Deleted).replacing(second));
        let foreign = say(Content::new([6; 16], Body::Deleted).replacing(first));
        let typing = say(Content::new([7; 16], Body::Typing { on: true }));
        let frame = |request, body| ServerFrame::new(request, body).to_bytes();
        let relay = |now: u64, instance: u8, work_bits: u32| {
            let hello = ServerHello {
                versions: vec![1],
                name: "relay.test".to_owned(),
                instance: vec![instance; 16],
                now,
                challenge: vec![9; 32],
                work_bits,
            };
            frame(0, server_frame::Body::Hello(hello))
        };
        let day = 86_400_u32.to_be_bytes();
        let refused = [&[Code::Refused as u8][..], &[0; 4]].concat();
        let slow = [&[Code::Rate as u8][..], &[0xff; 4]].concat();
        let superseded = frame(0, server_frame::Body::Superseded(Superseded { mailbox: BUSINESS_MAILBOX.to_vec() }));
        let (gap, wrong_number) = (
            frame(0, server_frame::Body::Gap(Gap { subscription: 1, number: 1, envelopes: u64::MAX })),
            frame(
                0,
                server_frame::Body::Deliver(Deliver {
                    subscription: 1,
                    number: u64::MAX,
                    tag: vec![1; 16],
                    class: 1,
                    envelope: vec![1; 1024].into(),
                }),
            ),
        );
        let both = [
            ("ok-text", script(0, &[(Act::Content, &hello)])),
            ("ok-same-text-twice", script(0, &[(Act::Content, &hello), (Act::Content, &hello)])),
            (
                "ok-permits-and-answers",
                script(
                    0,
                    &[
                        (Act::Content, &say(permits)),
                        (Act::Say, b"Thanks"),
                        (Act::Answer, &[0]),
                        (Act::Time, &day),
                        (Act::Answer, &[0]),
                    ],
                ),
            ),
            (
                "ok-permits-elsewhere",
                script(0, &[(Act::Content, &say(elsewhere)), (Act::Time, &day), (Act::Answer, &[0])]),
            ),
            (
                "ok-receipts",
                script(
                    0,
                    &[
                        (Act::ControlContent, &receipt(&[first], &[])),
                        (Act::ControlContent, &receipt(&[first, second], &[first])),
                    ],
                ),
            ),
            (
                "ok-reaction-edit-deletion",
                script(
                    0,
                    &[
                        (Act::Content, &react),
                        (Act::Content, &edit),
                        (Act::Content, &delete),
                        (Act::Content, &edit),
                        (Act::Content, &foreign),
                    ],
                ),
            ),
            ("ok-typing", script(0, &[(Act::ControlContent, &typing)])),
            (
                "ok-refused-and-slow",
                script(
                    0,
                    &[
                        (Act::Say, b"one"),
                        (Act::Answer, &slow),
                        (Act::Time, &day),
                        (Act::Answer, &refused),
                        (Act::Say, b"two"),
                        (Act::Answer, &refused),
                        (Act::Time, &day),
                    ],
                ),
            ),
            ("ok-relay-restored", script(0, &[(Act::RelayHello, &relay(NOW, 2, 0)), (Act::Content, &hello)])),
            (
                "ok-relay-of-another-time",
                script(
                    0,
                    &[
                        (Act::RelayHello, &relay(u64::MAX, 1, 99)),
                        (Act::Content, &hello),
                        (Act::Say, b"x"),
                        (Act::RelayHello, &relay(0, 1, 0)),
                        (Act::Say, b"y"),
                        (Act::Time, &day),
                    ],
                ),
            ),
            (
                "ok-read",
                script(
                    0,
                    &[
                        (Act::Content, &hello),
                        (Act::Read, &[1]),
                        (Act::Time, &day),
                        (Act::Answer, &[0]),
                        (Act::Read, &[0]),
                    ],
                ),
            ),
            ("ok-gap", script(0, &[(Act::OwnerFrame, &gap), (Act::Content, &hello)])),
            ("no-empty", vec![]),
            ("no-envelope", script(0, &[(Act::Envelope, &[1; 1024])])),
            ("no-delivery-out-of-order", script(0, &[(Act::OwnerFrame, &wrong_number)])),
            (
                "no-answer-to-nothing",
                script(
                    0,
                    &[
                        (Act::AnonymousFrame, &frame(1, server_frame::Body::Accepted(Accepted {}))),
                        (Act::OwnerFrame, &frame(99, server_frame::Body::Done(Done {}))),
                    ],
                ),
            ),
            ("no-text-under-a-control-permit", script(0, &[(Act::ControlContent, &hello)])),
            ("no-content", script(0, &[(Act::Content, b"\x87")])),
            ("no-superseded-of-another", script(0, &[(Act::OwnerFrame, &superseded)])),
            ("ok-years-without-receipts", script(0, &[(Act::Time, &[0xff; 4])])),
        ];
        for decoder in ["customer_endpoint", "business_endpoint"] {
            for (name, script) in &both {
                self.put(decoder, name, script);
            }
        }
        self.put(
            "customer_endpoint",
            "ok-answer-before-anything",
            script(1, &[(Act::Answer, &[0]), (Act::Content, &hello)]),
        );
        self.put(
            "customer_endpoint",
            "ok-hello-again",
            script(1, &[(Act::Answer, &[0]), (Act::Hello, b""), (Act::Answer, &[0])]),
        );
        // A group that a business does not know: it begins the conversation again. A customer without a spare has nothing to begin with.
        let foreign_group = script(0, &[(Act::Mls, &world().question), (Act::Mls, &world().welcome)]);
        self.put("customer_endpoint", "no-mls", foreign_group.clone());
        self.put("business_endpoint", "ok-mls-of-another-group", foreign_group);
        self.put("customer_endpoint", "ok-hello-refused", script(1, &[(Act::Answer, &refused), (Act::Say, b"again")]));
        // Found by the fuzzer: the refusal forgets the group, and what the business says in it could not be taken.
        let delivered = receipt(&[first], &[]);
        let answered = [(Act::Answer, &refused[..]), (Act::ControlContent, &delivered), (Act::Content, &hello)];
        self.put("customer_endpoint", "ok-business-answers-a-refused-hello", script(1, &answered));
        self.put("customer_endpoint", "no-hello-again-of-another", script(1, &[(Act::Hello, &world().bundle[..500])]));
        self.put(
            "business_endpoint",
            "ok-new-customer",
            script(0, &[(Act::NewCustomer, &[&[5][..], &hello].concat()), (Act::Answer, &[0])]),
        );
        self.put("business_endpoint", "ok-new-customer-without-content", script(0, &[(Act::NewCustomer, &[5])]));
        self.put(
            "business_endpoint",
            "ok-same-customer-again",
            script(0, &[(Act::NewCustomer, &[&[2][..], &hello].concat())]),
        );
        self.put("business_endpoint", "no-hello", script(0, &[(Act::Hello, &[1; 2048])]));
    }
}
