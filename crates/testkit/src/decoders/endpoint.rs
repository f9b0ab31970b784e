//! A whole endpoint that hears a malicious relay and a malicious other side.
//!
//! The engine does no I/O, so that a script of what it hears can be played to it in memory. The other side is played with the primitives of
//! `bulla-e2ee` alone: what it says is the input's, sealed as only it could have. What must hold, whatever it is told:
//!
//! - no step fails: a failed step is taken back, the relay delivers again, and the endpoint would never get past it;
//! - every frame that it sends is one;
//! - it comes to rest;
//! - after a restart it loads what it stored, and can show it.
//!
//! A script is `u8 where it begins ‖ (u8 act ‖ u16 length ‖ bytes)*`, see [`Act`]. In a content, 32 equal bytes `0xa0 + n` stand for the id of
//! the `n`th message of the conversation.

#[cfg(feature = "under-test")]
pub mod impostor;

use std::cell::RefCell;
use std::sync::LazyLock;

use bulla_client::engine::{
    Begin, BusinessOptions, Command, Ctx, Effects, Engine, Input, LinkKey, NoProjector, RoleOptions,
};
use bulla_client::event::{ConversationId, Direction, Draft, Event};
use bulla_client::store::StoreError;
use bulla_client::store::tx::{Rng, Tx};
use bulla_client::store::vault::{RootKey, Vault};
use bulla_e2ee::bundle::{Bundle, make_bundle};
use bulla_e2ee::content::{Body, Content, MessageId, PermitsExtension, Receipt};
use bulla_e2ee::conversation::Conversation;
use bulla_e2ee::envelope::{EnvelopeKey, Kind};
use bulla_e2ee::hello::{Hello, HelloParams};
use bulla_e2ee::identity::Pseudonym;
use bulla_e2ee::link::Link;
use bulla_e2ee::permits::GivenPermit;
use bulla_e2ee::state::State;
use bulla_e2ee::suite::{Suite, Suites};
use bulla_e2ee::tag::Purpose;
use bulla_protocol::VERSION;
use bulla_protocol::frame::{
    Accepted, CaughtUp, ClientFrame, Deliver, Done, Failed, ServerFrame, ServerHello, Subscribed, client_frame,
    server_frame,
};
use bulla_protocol::permit::Permit;
use bytes::Bytes;

use super::Verdict;
use super::world::{self, BUSINESS_MAILBOX, NOW, RELAY};
use crate::chance::Chance;
use crate::memory_store::Disk;

/// What happens to the endpoint next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Act {
    /// The relay says these bytes on the owner's connection.
    OwnerFrame = 0,
    /// The relay says these bytes on the anonymous connection.
    AnonymousFrame = 1,
    /// The other side says this content under its `service` permit.
    Content = 2,
    /// The other side says this content under its `control` permit.
    ControlContent = 3,
    /// The other side seals these bytes as an MLS message.
    Mls = 4,
    /// These bytes arrive as an envelope under a good tag.
    Envelope = 5,
    /// The business answers the Hello with this bundle (if empty, with a good one); a business hears this envelope as a Hello.
    Hello = 6,
    /// So many seconds pass (`u32`).
    Time = 7,
    /// The relay answers the oldest send: `u8 code`, 0 for accepted, `u32 retry after`.
    Answer = 8,
    /// The program says this text.
    Say = 9,
    /// The relay is lost, and is back with this hello.
    RelayHello = 10,
    /// A new customer's pseudonym (one byte) says Hello, with this content as its first message.
    NewCustomer = 11,
    /// The program marks the `n`th message as read.
    Read = 12,
}

impl Act {
    const ALL: [Self; 13] = [
        Self::OwnerFrame,
        Self::AnonymousFrame,
        Self::Content,
        Self::ControlContent,
        Self::Mls,
        Self::Envelope,
        Self::Hello,
        Self::Time,
        Self::Answer,
        Self::Say,
        Self::RelayHello,
        Self::NewCustomer,
        Self::Read,
    ];
}

/// An entry of a script.
#[must_use]
pub fn act(act: Act, bytes: &[u8]) -> Vec<u8> {
    [&[act as u8][..], &(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// A customer's device. The script's first byte: 1 before the business has answered, else after.
pub fn customer(bytes: &[u8]) -> Verdict {
    let Some((begins, script)) = bytes.split_first() else { return Verdict::Refused };
    Scene::of_customers()[usize::from(*begins == 1)].play(script)
}

/// A business's gateway. Script's first byte counts for nothing.
pub fn business(bytes: &[u8]) -> Verdict {
    static BEGINNING: LazyLock<Scene> = LazyLock::new(Scene::of_business);
    let Some((_, script)) = bytes.split_first() else { return Verdict::Refused };
    BEGINNING.play(script)
}

/// An endpoint under test with the relay that it believes to be connected to.
struct Stage {
    role: RoleOptions,
    suites: Suites,
    rows: Disk,
    vault: Vault,
    rng: RefCell<Rng>,
    now_ms: u64,
    engine: Engine,
    relay: Relay,
    events: Vec<Event>,
}

/// The honest part of a relay; what it says beyond that is the script's.
#[derive(Default)]
struct Relay {
    /// The subscription and the number of the last acknowledged delivery.
    subscription: u64,
    through: u64,
    /// Sends without an answer.
    pending: Vec<(LinkKey, u64)>,
    sent: Vec<bulla_protocol::frame::Send>,
    bundle: Option<Vec<u8>>,
}

impl Stage {
    /// Starts an endpoint on a store and connects it.
    fn start(role: RoleOptions, rows: Disk, now_ms: u64, seed: u64) -> Self {
        Self::start_speaking(role, Suites::DEFAULT, rows, now_ms, seed)
    }

    fn start_speaking(role: RoleOptions, suites: Suites, mut rows: Disk, now_ms: u64, seed: u64) -> Self {
        let vault = Vault::new(RootKey::new([6; 32]));
        let rng: RefCell<Rng> = RefCell::new(Box::new(Chance::new(seed)));
        let (engine, effects) =
            transact(&mut rows, &vault, &rng, now_ms, |ctx| Engine::start(role.clone(), suites, false, ctx));
        let mut stage =
            Self { role, suites, rows, vault, rng, now_ms, engine, relay: Relay::default(), events: Vec::new() };
        stage.release(effects);
        stage
    }

    fn step(&mut self, input: Input) {
        let effects = self.commit(|engine, ctx| engine.step(ctx, input));
        self.release(effects);
    }

    fn commit(&mut self, f: impl FnOnce(&mut Engine, &mut Ctx<'_, '_>) -> Result<(), StoreError>) -> Effects {
        let Self { rows, vault, rng, now_ms, engine, .. } = self;
        let ((), effects) = transact(rows, vault, rng, *now_ms, |ctx| {
            f(engine, ctx)?;
            engine.finish(ctx);
            Ok(())
        });
        effects
    }

    /// Does what the driver would do, with a relay that answers honestly, until nothing more follows.
    fn release(&mut self, effects: Effects) {
        let mut waiting = vec![effects];
        let mut rounds = 0;
        while let Some(effects) = waiting.pop() {
            rounds += 1;
            assert!(rounds < 10_000, "the endpoint never comes to rest");
            let mut next = Vec::new();
            for event in effects.events {
                assert!(!format!("{event:?}").is_empty());
                self.events.push(event);
            }
            for reply in effects.replies {
                reply();
            }
            next.extend(effects.connect.into_iter().map(|key| Input::Up(key, relay_hello())));
            next.extend(effects.work.into_iter().map(|(what, _, _)| Input::Work(what, 0)));
            for (key, frame) in effects.frames {
                let (request, body) = ClientFrame::from_bytes(frame).expect("an endpoint sends frames only");
                next.extend(self.relay.answers(&key, request, body));
            }
            for input in next {
                let effects = self.commit(|engine, ctx| engine.step(ctx, input));
                waiting.insert(0, effects);
            }
        }
    }

    /// A program's request.
    fn ask<R: Send + 'static>(&mut self, f: impl FnOnce(&mut Engine, &mut Ctx<'_, '_>) -> R + Send + 'static) -> R {
        let (tell, told) = std::sync::mpsc::channel();
        let command: Command = Box::new(move |engine, ctx| {
            let result = f(engine, ctx);
            Ok(Box::new(move || tell.send(result).expect("the stage waits")))
        });
        self.step(Input::Command(command));
        told.recv().expect("a committed command is answered")
    }

    fn owner(&self) -> LinkKey {
        LinkKey { url: RELAY.to_owned(), owner: true }
    }

    fn frame(&mut self, owner: bool, request: u64, body: server_frame::Body) {
        self.step(Input::Frame(LinkKey { owner, ..self.owner() }, request, body));
    }

    fn deliver(&mut self, permit: &Permit, envelope: Vec<u8>) {
        let deliver = Deliver {
            subscription: self.relay.subscription,
            number: self.relay.through + 1,
            tag: permit.tag.to_vec(),
            class: permit.class.to_wire() as i32,
            envelope: envelope.into(),
        };
        self.frame(true, 0, server_frame::Body::Deliver(deliver));
    }

    /// Loads everything again, as after a crash, and shows it.
    fn restart(self) {
        let mut again = Self::start_speaking(self.role, self.suites, self.rows, self.now_ms, 13);
        again.ask(|engine, ctx| {
            for conversation in engine.conversations(ctx).expect("conversations can be shown") {
                let messages = engine.messages(ctx, conversation.id, None, 1_000).expect("messages can be shown");
                assert!(!format!("{messages:?}").is_empty());
            }
        });
    }
}

fn transact<R>(
    rows: &mut Disk,
    vault: &Vault,
    rng: &RefCell<Rng>,
    now_ms: u64,
    f: impl FnOnce(&mut Ctx<'_, '_>) -> Result<R, StoreError>,
) -> (R, Effects) {
    let mut out = Effects::default();
    let (result, batch) = {
        let mut tx = Tx::new(rows, vault, rng, now_ms);
        let mut projector = NoProjector;
        let mut ctx = Ctx { tx: &mut tx, out: &mut out, projector: &mut projector };
        let result = f(&mut ctx).unwrap_or_else(|e| panic!("nothing that an endpoint hears may make a step fail: {e}"));
        (result, tx.into_batch().expect("values are sealed"))
    };
    rows.apply(batch);
    (result, out)
}

fn relay_hello() -> ServerHello {
    ServerHello {
        versions: vec![VERSION],
        name: "relay.test".to_owned(),
        instance: vec![1; 16],
        now: NOW,
        challenge: vec![2; 32],
        work_bits: 0,
    }
}

impl Relay {
    fn answers(&mut self, key: &LinkKey, request: u64, body: client_frame::Body) -> Vec<Input> {
        let answer = |body| Input::Frame(key.clone(), request, body);
        let done = || vec![answer(server_frame::Body::Done(Done {}))];
        match body {
            client_frame::Body::Subscribe(_) => {
                (self.subscription, self.through) = (self.subscription + 1, 0);
                let subscriptions = vec![self.subscription];
                let caught_up = server_frame::Body::CaughtUp(CaughtUp { subscription: self.subscription });
                let subscribed = answer(server_frame::Body::Subscribed(Subscribed { subscriptions }));
                vec![subscribed, Input::Frame(key.clone(), 0, caught_up)]
            }
            client_frame::Body::Ack(ack) => {
                if ack.subscription == self.subscription {
                    assert!(ack.through >= self.through, "acknowledgements are cumulative");
                    self.through = ack.through;
                }
                Vec::new()
            }
            client_frame::Body::Send(send) => {
                let permit = send.permit.as_ref().expect("a send shows its permit");
                Permit::from_frame(permit).expect("a permit in a send is one");
                self.pending.push((key.clone(), request));
                self.sent.push(send);
                Vec::new()
            }
            client_frame::Body::PublishBundle(publish) => {
                self.bundle = Some(publish.bundle);
                done()
            }
            _ => done(),
        }
    }
}

/// Where a script begins: an endpoint's store, and what the other side has.
struct Scene {
    role: RoleOptions,
    rows: Disk,
    /// The other side's conversation.
    peer: Vec<(Vec<u8>, Vec<u8>)>,
    /// What the endpoint has given to the other side.
    given: Vec<GivenPermit>,
    /// The customer's Hello, where the endpoint is the customer.
    hello: Option<Hello>,
    /// The business's bundle.
    bundle: Vec<u8>,
    /// The same, verified, where the endpoint is the business.
    verified: Option<Bundle>,
    now_ms: u64,
    /// Ids of the conversation's messages.
    ids: Vec<MessageId>,
}

/// The number of the conversation on stage.
const CONVERSATION: ConversationId = ConversationId(1);

impl Scene {
    /// After the business has answered, and before.
    fn of_customers() -> &'static [Self; 2] {
        static BEGINNINGS: LazyLock<[Scene; 2]> = LazyLock::new(Scene::of_customer);
        &BEGINNINGS
    }

    fn of_customer() -> [Self; 2] {
        let identity = world::identity();
        let (bundle, keys) = make_bundle(&identity, &world::params(world::system_now()), &mut Chance::new(5)).unwrap();
        let mut stage = Stage::start(RoleOptions::Customer, Disk::default(), NOW * 1000, 11);
        let link = Link::new("https://shop.example", "rosi", identity.hash(), Some("flyer")).unwrap();
        let pseudonym = Some(world::pseudonym().to_bytes());
        let begin = Begin { name: Some("Anna".to_owned()), pseudonym, ..Begin::default() };
        let made = bundle.clone();
        stage.ask(move |engine, ctx| engine.begin(ctx, &link, &made, &begin).unwrap());
        let first = stage.say("Have you got tulips?");
        let sent = stage.relay.sent.remove(0);
        let envelope = sent.envelope;
        let hello = Hello::open(&keys, &identity.hash(), &BUSINESS_MAILBOX, &world::contact_tag(), &envelope).unwrap();
        let mut peer = Conversation::join(&keys, &identity.hash(), &hello, NOW).unwrap();
        peer.open(hello.message()).unwrap();

        let scene = |stage: &Stage, peer: &Conversation, ids: &[MessageId]| Self {
            role: RoleOptions::Customer,
            rows: stage.rows.clone(),
            peer: entries(peer),
            given: hello.permits().to_vec(),
            hello: Some(hello.clone()),
            bundle: bundle.clone(),
            verified: None,
            now_ms: stage.now_ms,
            ids: ids.to_vec(),
        };
        let greeting = scene(&stage, &peer, &[first]);

        stage.accept();
        let permits =
            [Purpose::Control, Purpose::Service].map(|p| world::permit_now(BUSINESS_MAILBOX, p, 20 + p as u32));
        stage.hear_receipt(&mut peer, hello.permits(), &permits, first);
        let second = stage.hear_text(&mut peer, hello.permits(), "Yes, red ones.");
        let third = stage.say("Three, please.");
        stage.accept();
        [scene(&stage, &peer, &[first, second, third]), greeting]
    }

    fn of_business() -> Self {
        let role = RoleOptions::Business(BusinessOptions {
            handle: "rosi".to_owned(),
            name: "Rosi's Flowers".to_owned(),
            relay_url: RELAY.to_owned(),
            readers: vec![("Team".to_owned(), "agents".to_owned())],
            window_ms: 24 * 3_600_000,
            push_key: None,
        });
        // Its KeyPackage has to be valid at the system's time.
        let now = world::system_now();
        let mut stage = Stage::start(role.clone(), Disk::default(), now * 1000, 11);
        let bundle = stage.relay.bundle.clone().expect("a business publishes its bundle");
        let card = stage.ask(|engine, ctx| engine.business_card(ctx).unwrap());
        let verified = Bundle::verify(&bundle, &card.key, now).unwrap();
        let text = Content::new([1; 16], Body::text("Have you got tulips?")).encode().unwrap();
        let (mut peer, envelope) = greet(&world::pseudonym(), &verified, &text).unwrap();
        stage.deliver(&verified.contact().permit, envelope);
        let first = stage.heard_last();

        // The answer carries the permits for the customer.
        let sent = stage.relay.sent.remove(0);
        let tag = Permit::from_frame(sent.permit.as_ref().unwrap()).unwrap().tag;
        let key = world::customer_permits().remove(0).envelope_key.unwrap();
        let (_, body) = key.open(&tag, &sent.envelope).unwrap();
        let content = Content::decode(&peer.open(&body).unwrap().content).unwrap();
        let given = content.extensions.permits.unwrap().permits;
        stage.accept();

        let second = stage.say("Yes, red ones.");
        stage.accept();
        let third = stage.hear_text(&mut peer, &given, "Three, please.");
        Self {
            role,
            rows: stage.rows.clone(),
            peer: entries(&peer),
            given,
            hello: None,
            bundle,
            verified: Some(verified),
            now_ms: stage.now_ms,
            ids: vec![first, second, third],
        }
    }

    fn play(&self, mut script: &[u8]) -> Verdict {
        let mut stage = Stage::start(self.role.clone(), self.rows.clone(), self.now_ms, 12);
        stage.events.clear();
        let mut peer = Conversation::load(State::load(self.peer.clone()).unwrap()).unwrap();
        while let Some((&act, rest)) = script.split_first() {
            let Some((length, rest)) = rest.split_first_chunk::<2>() else { break };
            let (bytes, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
            self.act(&mut stage, &mut peer, act, bytes);
            script = rest;
        }
        let happened = stage.events.iter().any(|e| !matches!(e, Event::Connection(_) | Event::Unreadable { .. }));
        stage.restart();
        Verdict::of(happened)
    }

    fn act(&self, stage: &mut Stage, peer: &mut Conversation, act: u8, bytes: &[u8]) {
        let numbers = |at: usize| bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_be_bytes(*b));
        let first = bytes.first().copied().unwrap_or(0);
        match Act::ALL[usize::from(act) % Act::ALL.len()] {
            which @ (Act::OwnerFrame | Act::AnonymousFrame) => {
                if let Ok((request, body)) = ServerFrame::from_bytes(Bytes::copy_from_slice(bytes)) {
                    stage.frame(which == Act::OwnerFrame, request, body);
                }
            }
            which @ (Act::Content | Act::ControlContent) => {
                let purpose = if which == Act::Content { Purpose::Service } else { Purpose::Control };
                if let Ok(message) = peer.seal(&self.with_ids(bytes)) {
                    stage.hear(&self.given, purpose, Kind::Mls, &message);
                }
            }
            Act::Mls => stage.hear(&self.given, Purpose::Service, Kind::Mls, bytes),
            Act::Envelope => {
                let service = self.given.iter().find(|p| p.purpose == Purpose::Service).expect("a service permit");
                stage.deliver(&service.permit, bytes.to_vec());
            }
            Act::Hello => match (&self.hello, &self.verified) {
                (Some(hello), _) => {
                    let bundle = if bytes.is_empty() { &self.bundle } else { bytes };
                    if let Ok(again) = hello.say_again(bundle) {
                        stage.hear(&self.given, Purpose::Control, Kind::HelloAgain, &again);
                    }
                }
                (None, Some(bundle)) => stage.deliver(&bundle.contact().permit, bytes.to_vec()),
                (None, None) => {}
            },
            Act::Time => {
                stage.now_ms += u64::from(numbers(0)) * 1000;
                stage.step(Input::Tick);
            }
            Act::Answer => {
                if !stage.relay.pending.is_empty() {
                    let (key, request) = stage.relay.pending.remove(0);
                    let code = i32::from(first);
                    let body = match code {
                        0 => server_frame::Body::Accepted(Accepted {}),
                        _ => server_frame::Body::Failed(Failed { code, retry_after_ms: numbers(1), incarnation: 0 }),
                    };
                    stage.step(Input::Frame(key, request, body));
                }
            }
            Act::Say => {
                let body = String::from_utf8_lossy(bytes).into_owned();
                let draft = Draft::Text { body, reply_to: None };
                // Refused if it is empty or too long.
                let _ = stage.ask(move |engine, ctx| engine.send(ctx, CONVERSATION, &draft));
            }
            Act::RelayHello => {
                let frame = ServerFrame::from_bytes(Bytes::copy_from_slice(bytes));
                let Ok((_, server_frame::Body::Hello(hello))) = frame else { return };
                for owner in [true, false] {
                    let key = LinkKey { owner, ..stage.owner() };
                    stage.relay.pending.retain(|(of, _)| *of != key);
                    stage.step(Input::Down(key.clone(), 1));
                    stage.step(Input::Up(key, hello.clone()));
                }
            }
            Act::NewCustomer => {
                let Some(bundle) = &self.verified else { return };
                let content = self.with_ids(bytes.get(1..).unwrap_or_default());
                if let Some((_, envelope)) = greet(&Pseudonym::from_bytes(&[first; 32]), bundle, &content) {
                    stage.deliver(&bundle.contact().permit, envelope);
                }
            }
            Act::Read => {
                if let Some(id) = self.ids.get(usize::from(first)).copied() {
                    let _ = stage.ask(move |engine, ctx| engine.mark_read(ctx, &id));
                }
            }
        }
    }

    fn with_ids(&self, content: &[u8]) -> Vec<u8> {
        let mut content = content.to_vec();
        for (id, mark) in self.ids.iter().zip(0xa0_u8..) {
            while let Some(at) = content.windows(32).position(|w| w == [mark; 32]) {
                content[at..at + 32].copy_from_slice(id.as_bytes());
            }
        }
        content
    }
}

impl Stage {
    /// The other side's envelope, under what the endpoint has given to it.
    fn hear(&mut self, given: &[GivenPermit], purpose: Purpose, kind: Kind, body: &[u8]) {
        let permit = given.iter().find(|p| p.purpose == purpose).expect("a permit of this purpose was given");
        let key: &EnvelopeKey = permit.envelope_key.as_ref().expect("an ordinary permit has a key");
        if let Ok(envelope) = key.seal(&permit.permit.tag, kind, body, &mut Chance::new(8)) {
            self.deliver(&permit.permit, envelope);
        }
    }

    fn hear_text(&mut self, peer: &mut Conversation, given: &[GivenPermit], text: &str) -> MessageId {
        let content = Content::new([9; 16], Body::text(text)).encode().unwrap();
        let message = peer.seal(&content).unwrap();
        self.hear(given, Purpose::Service, Kind::Mls, &message);
        self.heard_last()
    }

    fn hear_receipt(
        &mut self,
        peer: &mut Conversation,
        given: &[GivenPermit],
        permits: &[GivenPermit],
        delivered: MessageId,
    ) {
        let receipt = Receipt { delivered: vec![delivered], ..Receipt::default() };
        let mut content = Content::new([8; 16], Body::Receipt(receipt));
        content.extensions.permits = Some(PermitsExtension { relay: RELAY.to_owned(), permits: permits.to_vec() });
        let message = peer.seal(&content.encode().unwrap()).unwrap();
        self.hear(given, Purpose::Control, Kind::Mls, &message);
    }

    fn heard_last(&self) -> MessageId {
        let incoming = self.events.iter().rev().find_map(|event| match event {
            Event::Message(message) if message.direction == Direction::Incoming => Some(message.id),
            _ => None,
        });
        incoming.expect("a message arrived")
    }

    fn say(&mut self, text: &str) -> MessageId {
        let draft = Draft::Text { body: text.to_owned(), reply_to: None };
        self.ask(move |engine, ctx| engine.send(ctx, CONVERSATION, &draft).unwrap().id)
    }

    /// The relay accepts everything that it was sent.
    fn accept(&mut self) {
        while !self.relay.pending.is_empty() {
            let (key, request) = self.relay.pending.remove(0);
            self.step(Input::Frame(key, request, server_frame::Body::Accepted(Accepted {})));
        }
        self.relay.sent.clear();
    }
}

/// A customer's Hello to a bundle; none with a first message that is too large for one.
fn greet(pseudonym: &Pseudonym, bundle: &Bundle, first: &[u8]) -> Option<(Conversation, Vec<u8>)> {
    let mut rng = Chance::new(10);
    let (mut conversation, welcome) =
        Conversation::begin(pseudonym, "phone", Suites::DEFAULT, bundle, Suite::Hybrid, NOW, &mut rng).unwrap();
    let message = conversation.seal(first).ok()?;
    let says = HelloParams {
        relay: RELAY,
        permits: &world::customer_permits_now(),
        reply_key: super::world::world().reply.public(),
        welcome: &welcome,
        message: &message,
    };
    Some((conversation, Hello::seal(pseudonym, bundle, &says).ok()?))
}

fn entries(conversation: &Conversation) -> Vec<(Vec<u8>, Vec<u8>)> {
    conversation.state().entries().into_iter().map(|(key, value)| (key, value.to_vec())).collect()
}
