//! A customer's device in an open conversation whose other side says what no honest one of this version would: a receipt of another branch, that
//! the conversation goes on under another identity (KEY-02), or in a newer suite, and a spare that is used again (MLS-09); or whose words are those
//! of an older or a newer program. Each is told what follows, for a test to judge.

use bulla_client::engine::record::SpareRecord;
use bulla_client::event::{ConversationState, Direction, Shown};
use bulla_client::store::Table;
use bulla_e2ee::certificate::Expect;
use bulla_e2ee::content::{Body, Content, Receipt};
use bulla_e2ee::continues::{Continues, Reason, Speaker, Turn};
use bulla_e2ee::conversation::Conversation;
use bulla_e2ee::envelope::Kind;
use bulla_e2ee::identity::BusinessIdentity;
use bulla_e2ee::sabotage::{self, Rule};
use bulla_e2ee::spare::{Issuer, Spare, make_spare};
use bulla_e2ee::state::State;
use bulla_e2ee::suite::{Suite, Suites};
use bulla_e2ee::tag::Purpose;
use bulla_protocol::frame::{Accepted, server_frame};
use bulla_protocol::label;
use bulla_protocol::permit::Permit;

use bulla_client::engine::Input;
use bulla_client::event::Event;

use super::super::world::{self, cbor};
use super::{CONVERSATION, Scene, Stage};
use crate::chance::Chance;

/// The customer's device, and the business that talks to it.
fn customer() -> (Stage, Conversation, &'static Scene) {
    speaking(Suites::DEFAULT)
}

/// The same, of a program that speaks these suites.
fn speaking(suites: Suites) -> (Stage, Conversation, &'static Scene) {
    let [scene, _] = Scene::of_customers();
    let mut stage = Stage::start_speaking(scene.role.clone(), suites, scene.rows.clone(), scene.now_ms, 12);
    stage.now_ms = stage.now_ms.max(world::system_now() * 1_000);
    (stage, Conversation::load(State::load(scene.peer.clone()).unwrap()).unwrap(), scene)
}

/// Whether the customer gives the group up after a receipt of the current epoch that shows another authenticator than its own.
///
/// # Panics
///
/// If the conversation is not as [`Scene`] made it.
#[must_use]
pub fn notices_a_fork(breaks: Option<Rule>) -> bool {
    let (mut stage, mut peer, scene) = customer();
    sabotage::break_rule(breaks);
    let receipt = Receipt { epoch: peer.epoch(), authenticator: [0xee; 8], ..Receipt::default() };
    let content = Content::new([6; 16], Body::Receipt(receipt)).encode().unwrap();
    stage.hear(&scene.given, Purpose::Control, Kind::Mls, &peer.seal(&content).unwrap());
    sabotage::break_rule(None);
    let state = stage.ask(|engine, ctx| engine.conversation(ctx, CONVERSATION).unwrap().unwrap().state);
    // Without a spare of the other side it says Hello anew.
    state == ConversationState::New
}

/// In which suite the customer begins again after a fork, if it can without a Hello, when both speak more than one and the business has left a
/// spare of the worse alone: one of before that comes `late`, after one of now, or one of now, as a program of before would.
///
/// # Panics
///
/// If the conversation is not as [`Scene`] made it.
#[must_use]
pub fn talked_down(late: bool, breaks: Option<Rule>) -> Option<Suite> {
    let (mut stage, mut peer, scene) = speaking(Suites::ALL);
    sabotage::break_rule(breaks);
    let identity = world::identity();
    let mut says = |stage: &mut Stage, receipt: Receipt, spare: Option<(Suites, u64)>| {
        let mut content = Content::new([stage.events.len() as u8; 16], Body::Receipt(receipt));
        content.extensions.spare = spare.map(|(suites, now)| {
            let issuer = Issuer::Business { identity: &identity, handle: "rosi", endpoint: "gateway", suites };
            make_spare(&issuer, suites.best(), now, &mut Chance::new(23)).unwrap().0
        });
        stage.hear(&scene.given, Purpose::Control, Kind::Mls, &peer.seal(&content.encode().unwrap()).unwrap());
    };
    let (now, old) = (stage.now_ms / 1_000, Suites::only(Suite::Classical));
    says(&mut stage, Receipt::default(), Some((Suites::ALL, now)));
    says(&mut stage, Receipt::default(), Some((old, if late { now - 3_600 } else { now + 3_600 })));
    let fork = Receipt { epoch: 2, authenticator: [0xee; 8], ..Receipt::default() };
    let epoch = stage.ask(|engine, ctx| engine.epoch(ctx, CONVERSATION.0).unwrap().0);
    says(&mut stage, Receipt { epoch, ..fork }, None);
    sabotage::break_rule(None);
    let state = stage.ask(|engine, ctx| engine.conversation(ctx, CONVERSATION).unwrap().unwrap().state);
    (state == ConversationState::Open).then(|| stage.ask(|engine, ctx| engine.suite(ctx, CONVERSATION.0).unwrap()))
}

/// The business's newer program says in its own way that the conversation goes on elsewhere, and then something in the old one. How often the person
/// was told of a newer program, and whether what was said was shown.
///
/// # Panics
///
/// If the conversation is not as [`Scene`] made it.
#[must_use]
pub fn later_version() -> (usize, bool) {
    let (mut stage, mut peer, scene) = customer();
    let identity = world::identity();
    let (business, user) = (identity.hash(), world::pseudonym().user_id(&identity.hash()));
    let turn = Turn { at: stage.now_ms << 10, before: 0, seen: 0 };
    let speaker = Speaker::Business(&identity);
    let says = Continues::seal(&speaker, &business, &user, &turn, Reason::Newer, &[], b"").unwrap();
    let outer = cbor::items(&says).unwrap();
    let signed = cbor::items(&cbor::content(&outer[0]).unwrap()).unwrap();
    let mut inner = cbor::items(&cbor::content(&signed[0]).unwrap()).unwrap();
    inner[0] = vec![2];
    let signed = world::sign(&identity.to_bytes(), label::CONTINUES, &cbor::array(&inner));
    let later = cbor::array(&[cbor::bytes(&signed), outer[1].clone()]);
    stage.hear(&scene.given, Purpose::Control, Kind::Continues, &later);
    let body = Body::Text { body: "still here".to_owned(), language: String::new() };
    let content = Content::new([7; 16], body).encode().unwrap();
    stage.hear(&scene.given, Purpose::Service, Kind::Mls, &peer.seal(&content).unwrap());
    let told = stage.events.iter().filter(|e| matches!(e, Event::Newer { .. })).count();
    let shown = |e: &Event| matches!(e, Event::Message(m) if m.shown == Shown::Text("still here".to_owned()));
    (told, stage.events.iter().any(shown))
}

/// What came of it when another identity said that it goes on with the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// The keys that the person was told of.
    pub told: Vec<[u8; 32]>,
    /// The key of the other identity.
    pub key: [u8; 32],
    /// Messages that only the other identity could open, of all that the customer sealed afterwards.
    pub opened_by_it: usize,
    /// Messages that the business could open.
    pub opened_by_business: usize,
}

/// Another business's identity says, for each reason, that it continues the conversation, with a Welcome that could be joined and under the
/// business's permits; the customer has messages under way, and says more.
///
/// # Panics
///
/// If the conversation is not as [`Scene`] made it.
#[must_use]
pub fn another_identity(breaks: Option<Rule>) -> KeyChange {
    let (mut stage, mut peer, scene) = customer();
    let (business, pseudonym) = (world::identity().hash(), world::pseudonym());
    let (user, customer) = (pseudonym.user_id(&business), pseudonym.public());
    let spare = stage.spare(&mut peer);
    stage.say("undelivered");
    stage.events.clear();

    sabotage::break_rule(breaks);
    let other = BusinessIdentity::generate(&mut Chance::new(21));
    // Who could make a group that is good in itself: what is wrong is whose word it is.
    let identity = world::identity();
    let issuer = Issuer::Business { identity: &identity, handle: "rosi", endpoint: "gateway", suites: Suites::DEFAULT };
    let mut theirs = Vec::new();
    for (n, reason) in [Reason::Restored, Reason::Fork, Reason::Gap, Reason::Newer].into_iter().enumerate() {
        let now = stage.now_ms / 1_000;
        let spares = std::slice::from_ref(&spare);
        let (group, welcome) =
            Conversation::reform(&issuer, customer, spares, now, &mut Chance::new(22 + n as u64)).unwrap();
        let turn = Turn { at: (stage.now_ms + n as u64) << 10, before: 0, seen: 0 };
        let speaker = Speaker::Business(&other);
        let says = Continues::seal(&speaker, &business, &user, &turn, reason, &[], &welcome).unwrap();
        stage.hear(&scene.given, Purpose::Control, Kind::Continues, &says);
        theirs.push(group);
    }
    // With and without being asked again, whatever is sealed from now on is sealed to whom it was before.
    let mut bodies = stage.bodies();
    for text in ["to whom does this go?", "and this?"] {
        stage.accept();
        stage.say(text);
        stage.now_ms += 2_000;
        stage.step(Input::Tick);
        bodies.extend(stage.bodies());
    }
    sabotage::break_rule(None);
    let opens = |group: &mut Conversation| bodies.iter().filter(|body| group.open(body).is_ok()).count();
    KeyChange {
        told: stage.events.iter().filter_map(key_change).collect(),
        key: other.public(),
        opened_by_it: theirs.iter_mut().map(opens).sum(),
        opened_by_business: opens(&mut peer),
    }
}

/// The business says that it continues the conversation because a newer suite, or version, is there, and everybody is in it already; the customer
/// has a message under way. The reasons that the person was told, and how many of the customer's messages open in the new group.
///
/// # Panics
///
/// If the conversation is not as [`Scene`] made it.
#[must_use]
pub fn newer() -> (Vec<Reason>, usize) {
    let (mut stage, mut peer, scene) = customer();
    let (identity, pseudonym) = (world::identity(), world::pseudonym());
    let (business, customer) = (identity.hash(), pseudonym.public());
    let spare = stage.spare(&mut peer);
    stage.say("undelivered");
    stage.relay.sent.clear();
    stage.events.clear();
    let issuer = Issuer::Business { identity: &identity, handle: "rosi", endpoint: "gateway", suites: Suites::DEFAULT };
    let (now, spares) = (stage.now_ms / 1_000, std::slice::from_ref(&spare));
    let (mut group, welcome) = Conversation::reform(&issuer, customer, spares, now, &mut Chance::new(22)).unwrap();
    let turn = Turn { at: stage.now_ms << 10, before: 0, seen: 0 };
    let (speaker, user) = (Speaker::Business(&identity), pseudonym.user_id(&business));
    let says = Continues::seal(&speaker, &business, &user, &turn, Reason::Newer, &[], &welcome).unwrap();
    stage.hear(&scene.given, Purpose::Control, Kind::Continues, &says);
    let mut bodies = stage.bodies();
    for _ in 0..3 {
        stage.accept();
        stage.now_ms += 2_000;
        stage.step(Input::Tick);
        bodies.extend(stage.bodies());
    }
    let told = stage.events.iter().filter_map(|event| match event {
        Event::Continued { reason, .. } => Some(*reason),
        _ => None,
    });
    let opened = bodies.iter().filter_map(|body| Content::decode(&group.open(body).ok()?.content).ok());
    (told.collect(), opened.filter(|content| matches!(content.body, Body::Text { .. })).count())
}

/// What came of it when the business used one spare of the customer's again and again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spent {
    /// Groups that the customer followed into: at first; when told the same again; when told anew an hour later with a spare that was used.
    pub followed: [usize; 3],
    /// Whether the receipt in the first of them brought a spare, and another one.
    pub replaced: bool,
    /// Spares whose secrets are kept an hour after their use.
    pub kept: usize,
    /// What the customer said after all this that opens in the group that was made last.
    pub opened: usize,
}

/// The business begins the conversation again with the customer's spare; then it says so once more; then, an hour later, it begins again with the
/// spare that was used.
///
/// # Panics
///
/// If the conversation is not as [`Scene`] made it.
#[must_use]
pub fn one_spare_twice(breaks: Option<Rule>) -> Spent {
    let (mut stage, mut peer, scene) = customer();
    let spare = stage.spare(&mut peer);
    stage.events.clear();
    sabotage::break_rule(breaks);
    let follows = |stage: &mut Stage, says: &[u8]| {
        stage.events.clear();
        stage.hear(&scene.given, Purpose::Control, Kind::Continues, says);
        stage.events.iter().filter(|e| matches!(e, Event::Continued { by: Direction::Incoming, .. })).count()
    };
    let mut spent = Spent::default();
    let (mut group, says) = begins_again(&stage, &spare, 22);
    spent.followed[0] = follows(&mut stage, &says);
    let mut bodies = Vec::new();
    for _ in 0..8 {
        bodies.extend(stage.bodies());
        stage.relay.sent.clear();
        stage.accept_one();
    }
    let next = bodies.iter().find_map(|body| {
        let opened = group.open(body).ok()?;
        Content::decode(&opened.content).ok()?.extensions.spare
    });
    spent.replaced =
        next.is_some_and(|bytes| verified(&bytes, &stage).certificate().leaf() != spare.certificate().leaf());
    stage.accept();
    spent.followed[1] = follows(&mut stage, &says);

    stage.now_ms += 3_600_000;
    stage.step(Input::Tick);
    spent.kept = stage.ask(|_, ctx| {
        let spares = ctx.tx.scan_prefix::<SpareRecord>(Table::Spares, b"").unwrap();
        spares.iter().filter(|(_, spare)| spare.used_ms.is_some()).count()
    });
    let (mut last, says) = begins_again(&stage, &spare, 23);
    spent.followed[2] = follows(&mut stage, &says);
    stage.relay.sent.clear();
    stage.say("to whom does this go?");
    spent.opened = stage.bodies().iter().filter(|body| last.open(body).is_ok()).count();
    sabotage::break_rule(None);
    spent
}

/// A new group with a spare of the customer's, and the statement that brings her into it.
fn begins_again(stage: &Stage, spare: &Spare, seed: u64) -> (Conversation, Vec<u8>) {
    let (identity, pseudonym) = (world::identity(), world::pseudonym());
    let business = identity.hash();
    let issuer = Issuer::Business { identity: &identity, handle: "rosi", endpoint: "gateway", suites: Suites::DEFAULT };
    let (now, spares) = (stage.now_ms / 1_000, std::slice::from_ref(spare));
    let made = Conversation::reform(&issuer, pseudonym.public(), spares, now, &mut Chance::new(seed));
    let (group, welcome) = made.unwrap();
    let turn = Turn { at: stage.now_ms << 10, before: 0, seen: 0 };
    let (speaker, user) = (Speaker::Business(&identity), pseudonym.user_id(&business));
    (group, Continues::seal(&speaker, &business, &user, &turn, Reason::Gap, &[], &welcome).unwrap())
}

/// A spare of the customer's.
fn verified(spare: &[u8], stage: &Stage) -> Spare {
    let expect = Expect::customer(world::identity().hash(), world::pseudonym().public());
    Spare::verify(spare, &expect, stage.now_ms / 1_000).unwrap()
}

fn key_change(event: &Event) -> Option<[u8; 32]> {
    match event {
        Event::KeyChange { identity, .. } => Some(*identity),
        _ => None,
    }
}

impl Stage {
    /// The customer's spare, which the receipt for what the business has said brings.
    fn spare(&mut self, peer: &mut Conversation) -> Spare {
        self.now_ms += 2_000;
        self.step(Input::Tick);
        let spare = self.sealed(peer).iter().find_map(|content| content.extensions.spare.clone());
        let spare = verified(&spare.expect("a receipt brings a spare"), self);
        self.accept();
        spare
    }

    /// The relay accepts the oldest of what it was sent; if there is nothing, two seconds pass.
    fn accept_one(&mut self) {
        if self.relay.pending.is_empty() {
            self.now_ms += 2_000;
            return self.step(Input::Tick);
        }
        let (key, request) = self.relay.pending.remove(0);
        self.step(Input::Frame(key, request, server_frame::Body::Accepted(Accepted {})));
    }

    /// What the endpoint has sent to the business, out of its envelopes.
    fn bodies(&self) -> Vec<Vec<u8>> {
        let open = |send: &bulla_protocol::frame::Send| {
            let tag = Permit::from_frame(send.permit.as_ref()?).ok()?.tag;
            let given =
                [Purpose::Control, Purpose::Service].map(|p| world::permit(world::BUSINESS_MAILBOX, p, 20 + p as u32));
            given.iter().find_map(|g| Some(g.envelope_key.as_ref()?.open(&tag, &send.envelope).ok()?.1.to_vec()))
        };
        self.relay.sent.iter().filter_map(open).collect()
    }

    /// The same, opened in the business's group.
    fn sealed(&self, peer: &mut Conversation) -> Vec<Content> {
        let opened = self.bodies().into_iter().filter_map(|body| peer.open(&body).ok());
        opened.filter_map(|opened| Content::decode(&opened.content).ok()).collect()
    }
}
