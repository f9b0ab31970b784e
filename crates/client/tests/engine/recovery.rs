//! A customer who has lost every device comes back with the code, and finds what was said; and a business, or a customer, that makes ill use of
//! how that is done.

use std::time::Duration;

use bulla_client::clock::Clock;
use bulla_client::endpoint::{Begin, CommandError, RoleOptions};
use bulla_client::event::{
    Conversation, ConversationId, ConversationState, Direction, Draft, Event, Message, Past, Shown, Status,
};
use bulla_e2ee::bundle::Bundle;
use bulla_e2ee::certificate::Role;
use bulla_e2ee::content::{
    Body, Content, HistoryItem, HistoryPage, HistoryReaction, HistoryRequest, MessageId, PermitsExtension, Receipt,
};
use bulla_e2ee::conversation::Conversation as Mls;
use bulla_e2ee::envelope::{EnvelopeKey, Kind};
use bulla_e2ee::hello::{HelloParams, ReplyKey};
use bulla_e2ee::identity::{BusinessIdentity, Pseudonym};
use bulla_e2ee::link::Link;
use bulla_e2ee::permits::GivenPermit;
use bulla_e2ee::recovery::RecoveryCode;
use bulla_e2ee::suite::{Suite, Suites};
use bulla_e2ee::tag::Purpose;
use bulla_protocol::id::TagBlock;
use bulla_testkit::relay::{Mailbox, Owner, Sender};
use rand_core::OsRng;

use crate::beginnings::knock;
use crate::impostors::Business;
use crate::world::{Actor, World};

pub(crate) fn text(body: &str) -> Draft {
    Draft::Text { body: body.into(), reply_to: None }
}

impl Actor {
    /// Waits until a conversation's past is as it should be, or was.
    pub(crate) async fn past(&mut self, past: Past) {
        let is_it = |e: &Event| match e {
            Event::Conversation(c) if c.past == Some(past) => Some(()),
            _ => None,
        };
        self.wait(&format!("{past:?}"), is_it).await;
    }

    async fn all(&self, of: ConversationId) -> Vec<Message> {
        self.endpoint.messages(of, None, 10_000).await.unwrap()
    }
}

/// What a person sees of a message, on whichever side.
type Seen = (MessageId, bool, Shown, Option<MessageId>, bool, Vec<(bool, String)>);

/// The messages of their own, in order: not those about others.
fn seen(all: &[Message], is_customer: bool) -> Vec<Seen> {
    let stands = |m: &&Message| m.replaces.is_none() && !m.deleted && !matches!(m.shown, Shown::Reaction(_));
    let by_customer = |direction: Direction| (direction == Direction::Outgoing) == is_customer;
    let one = |m: &Message| {
        let reactions = m.reactions.iter().map(|(whose, emoji)| (by_customer(*whose), emoji.clone())).collect();
        (m.id, by_customer(m.direction), m.shown.clone(), m.reply_to, m.edited, reactions)
    };
    all.iter().filter(stands).map(one).collect()
}

/// Alice and a shop, who have said a few things.
pub(crate) struct Two {
    pub(crate) world: World,
    pub(crate) cortado: Actor,
    pub(crate) link: Link,
    pub(crate) alice: Actor,
    pub(crate) at_alice: Conversation,
    at_shop: ConversationId,
}

impl Two {
    pub(crate) async fn new() -> Self {
        let world = World::new().await;
        let mut cortado = world.business().await;
        let link = world.link(&cortado).await;
        let (mut alice, at_alice) = world.customer("Alice", &link).await;
        alice.endpoint.send(at_alice.id, text("hello")).await.unwrap();
        let at_shop = cortado.incoming().await.conversation;
        alice.state(ConversationState::Open).await;
        Self { world, cortado, link, alice, at_alice, at_shop }
    }

    pub(crate) async fn shop_says(&mut self, draft: Draft) -> MessageId {
        let id = self.cortado.endpoint.send(self.at_shop, draft).await.unwrap().id;
        assert_eq!(self.alice.incoming().await.id, id);
        self.world.clock.advance(1_000);
        self.cortado.status(id, Status::Delivered).await;
        id
    }

    async fn alice_says(&mut self, draft: Draft) -> MessageId {
        let id = self.alice.endpoint.send(self.at_alice.id, draft).await.unwrap().id;
        assert_eq!(self.cortado.incoming().await.id, id);
        self.world.clock.advance(1_000);
        self.alice.status(id, Status::Delivered).await;
        id
    }

    pub(crate) async fn code(&self) -> RecoveryCode {
        self.alice.endpoint.recovery_code(self.at_alice.id).await.unwrap()
    }

    /// Another device comes back with the code, and the business knows it.
    async fn recovered(&self, name: &str) -> (Actor, Conversation) {
        let mut device = self.world.start(name, RoleOptions::Customer);
        // By way of the text: that is all a person has.
        let code = RecoveryCode::parse(&self.code().await.to_text()).unwrap();
        let conversation = device.endpoint.recover(&self.link, code).await.unwrap();
        assert_eq!((conversation.past, &conversation.user_id), (Some(Past::Sought), &self.at_alice.user_id));
        device.state(ConversationState::Open).await;
        (device, conversation)
    }
}

#[tokio::test]
async fn who_lost_everything_comes_back_with_the_code_and_finds_what_was_said() {
    let mut two = Two::new().await;
    let question = two.shop_says(text("One sugar or two?")).await;
    let answer = two.alice_says(Draft::Text { body: "tow".into(), reply_to: Some(question) }).await;
    two.alice_says(Draft::Edit { of: answer, body: "two".into() }).await;
    let regretted = two.alice_says(text("and a whole cake")).await;
    two.alice_says(Draft::Delete { of: regretted }).await;
    let liked = two.shop_says(Draft::Reaction { to: answer, emoji: Some("👍".into()) }).await;
    let took_back = two.shop_says(text("It is ready")).await;
    two.alice_says(Draft::Reaction { to: took_back, emoji: Some("🎉".into()) }).await;
    two.alice_says(Draft::Reaction { to: took_back, emoji: None }).await;
    two.alice_says(Draft::Reaction { to: question, emoji: Some("☕".into()) }).await;
    two.cortado.endpoint.mark_read(answer).await.unwrap();
    let before = two.alice.all(two.at_alice.id).await;
    two.alice.endpoint.shutdown().await;
    let there = two.cortado.all(two.at_shop).await;

    let mut alice = two.world.start("Alice", RoleOptions::Customer);
    std::mem::swap(&mut alice, &mut two.alice);
    let (mut laptop, at_laptop) = two.recovered("laptop").await;
    laptop.past(Past::All).await;
    let after = laptop.all(at_laptop.id).await;
    assert_eq!(seen(&after, true), seen(&before, true));
    assert_eq!(seen(&after, true), seen(&there, false), "as the business has it");
    assert!(after.iter().all(|m| m.id != regretted), "what was deleted stays deleted");
    let own = after.iter().find(|m| m.id == answer).unwrap();
    let of_before = before.iter().find(|m| m.id == answer).unwrap();
    assert_eq!((own.status, own.sent_ms), (Status::Read, of_before.sent_ms));
    let now = laptop.endpoint.conversation(at_laptop.id).await.unwrap().unwrap();
    assert_eq!((now.unread, now.peer_name.as_str()), (0, "Cortado Coffee"));
    // Nobody is told of each: neither the person here nor anybody at the business.
    assert!(!laptop.seen.iter().any(|e| matches!(e, Event::Message(_))), "{:?}", laptop.seen);
    assert!(laptop.seen.iter().any(|e| matches!(e, Event::History { added, .. } if *added == 4)));

    // They go on, and what is of before can be answered, changed and taken back from here.
    let draft = Draft::Text { body: "three, in fact".into(), reply_to: Some(question) };
    laptop.endpoint.send(at_laptop.id, draft).await.unwrap();
    let heard = two.cortado.incoming().await;
    assert_eq!((heard.conversation, heard.reply_to), (two.at_shop, Some(question)));
    let mut told: Vec<_> = two
        .cortado
        .seen
        .iter()
        .filter_map(|e| match e {
            Event::Message(m) => Some(*m.id.as_bytes()),
            _ => None,
        })
        .collect();
    let count = told.len();
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), count, "the business is told of nothing twice");
    laptop.endpoint.send(at_laptop.id, Draft::Edit { of: answer, body: "three".into() }).await.unwrap();
    two.cortado.incoming().await;
    laptop.endpoint.send(at_laptop.id, Draft::Reaction { to: question, emoji: None }).await.unwrap();
    two.cortado.incoming().await;
    two.cortado.endpoint.send(two.at_shop, Draft::Reaction { to: answer, emoji: None }).await.unwrap();
    laptop.incoming().await;
    let (here, there) = (laptop.all(at_laptop.id).await, two.cortado.all(two.at_shop).await);
    assert_eq!(seen(&here, true), seen(&there, false));
    let edited = here.iter().find(|m| m.id == answer).unwrap();
    assert_eq!((&edited.shown, edited.reactions.len()), (&Shown::Text("three".into()), 0));
    assert!(here.iter().any(|m| m.id == liked && m.shown == Shown::Reaction(None)));

    // What came from before is read as all is; and the code is this device's now.
    laptop.endpoint.mark_read(took_back).await.unwrap();
    assert_eq!(two.code().await, laptop.endpoint.recovery_code(at_laptop.id).await.unwrap());
    laptop.endpoint.shutdown().await;
    let (mut again, at_again) = two.recovered("again").await;
    again.past(Past::All).await;
    assert_eq!(seen(&again.all(at_again.id).await, true), seen(&there, false));
}

/// A long conversation comes page by page, as it is asked for; what is said meanwhile stands above it.
#[tokio::test]
async fn a_long_history_comes_page_by_page() {
    const SAID: usize = 150;
    let mut two = Two::new().await;
    for n in 0..SAID {
        let body = format!("{n}{}", "x".repeat(if n == 70 { 4_000 } else { 0 }));
        let id = two.alice.endpoint.send(two.at_alice.id, text(&body)).await.unwrap().id;
        assert_eq!(two.cortado.incoming().await.id, id);
    }
    let before = two.cortado.all(two.at_shop).await;
    let (mut laptop, at_laptop) = two.recovered("laptop").await;
    laptop.past(Past::More).await;
    let first = laptop.all(at_laptop.id).await;
    assert_eq!(seen(&first, true), seen(&before, false)[before.len() - 60..], "the newest, at once");

    laptop.endpoint.send(at_laptop.id, text("meanwhile")).await.unwrap();
    let meanwhile = two.cortado.incoming().await;
    assert_eq!(laptop.endpoint.older(at_laptop.id).await.unwrap(), Some(Past::Asked));
    // Asked twice, it is asked once.
    assert_eq!(laptop.endpoint.older(at_laptop.id).await.unwrap(), Some(Past::Asked));
    laptop.past(Past::More).await;
    assert_eq!(laptop.all(at_laptop.id).await.len(), 121);
    laptop.endpoint.older(at_laptop.id).await.unwrap();
    laptop.past(Past::All).await;
    assert_eq!(laptop.endpoint.older(at_laptop.id).await.unwrap(), Some(Past::All), "there is no more");
    let all = laptop.all(at_laptop.id).await;
    assert_eq!(all.last().unwrap().id, meanwhile.id);
    assert_eq!(seen(&all, true), seen(&two.cortado.all(two.at_shop).await, false));
    assert!(all.windows(2).all(|w| w[0].order < w[1].order));

    // It is durable, and paged like any other.
    laptop.endpoint.shutdown().await;
    let laptop = two.world.start("laptop", RoleOptions::Customer);
    assert_eq!(seen(&laptop.all(at_laptop.id).await, true), seen(&all, true));
    let page = laptop.endpoint.messages(at_laptop.id, Some(all[100].order), 50).await.unwrap();
    assert_eq!(page, all[50..100]);
}

/// The old device lives: it is told where the conversation is, and takes it back only when its person says so.
#[tokio::test]
async fn a_conversation_is_on_one_device_and_goes_where_a_person_brings_it() {
    let mut two = Two::new().await;
    two.shop_says(text("before")).await;
    let (mut laptop, at_laptop) = two.recovered("laptop").await;
    two.alice.state(ConversationState::Moved).await;
    let refused = two.alice.endpoint.send(two.at_alice.id, text("here too")).await;
    assert!(matches!(refused, Err(CommandError::Moved)), "{refused:?}");
    assert_eq!(two.alice.all(two.at_alice.id).await.len(), 2, "what it has it can read");
    laptop.past(Past::All).await;
    laptop.endpoint.send(at_laptop.id, text("from the laptop")).await.unwrap();
    let heard = two.cortado.incoming().await;
    two.cortado.endpoint.send(heard.conversation, text("to the laptop")).await.unwrap();
    laptop.incoming().await;
    two.world.clock.advance(1_000);
    two.cortado
        .wait("a receipt", |e| {
            matches!(e, Event::Status { message, .. } if message.status == Status::Delivered).then_some(())
        })
        .await;

    // A restart changes nothing of that.
    two.alice.endpoint.shutdown().await;
    two.alice = two.world.start("Alice", RoleOptions::Customer);
    let state = two.alice.endpoint.conversation(two.at_alice.id).await.unwrap().unwrap().state;
    assert_eq!(state, ConversationState::Moved);

    two.alice.endpoint.take_back(two.at_alice.id).await.unwrap();
    laptop.state(ConversationState::Moved).await;
    two.alice.past(Past::All).await;
    // What was said elsewhere is here too, where it belongs.
    let there = seen(&two.cortado.all(two.at_shop).await, false);
    assert_eq!(seen(&two.alice.all(two.at_alice.id).await, true), there);
    assert_eq!(there.len(), 4);
    two.alice_says(text("back")).await;
    two.shop_says(text("welcome back")).await;
    let here = seen(&two.alice.all(two.at_alice.id).await, true);
    assert_eq!(here, seen(&two.cortado.all(two.at_shop).await, false));
    for at in [&two.alice, &laptop, &two.cortado] {
        assert!(!at.seen.iter().any(|e| matches!(e, Event::Continued { .. })), "nobody began a group again");
    }
    assert_eq!(two.cortado.endpoint.conversations().await.unwrap().len(), 1);
}

/// Devices that were turned away and have not heard of it, because they are older copies, begin again in each way that there is. None takes
/// the conversation.
#[tokio::test]
async fn a_device_that_has_not_heard_of_it_takes_nothing_back_by_itself() {
    let world = World::new().await;
    let cortado = world.business().await;
    let link = world.link(&cortado).await;
    cortado.endpoint.shutdown().await;
    let (mut alice, at_alice) = world.customer("Alice", &link).await;
    let hello = alice.endpoint.send(at_alice.id, text("hello")).await.unwrap();
    alice.status(hello.id, Status::Sent).await;
    // It has no spare of the business, and says Hello.
    let unanswered = world.copy_of(&mut alice, "unanswered").await;
    let mut alice = world.start("Alice", RoleOptions::Customer);
    let mut cortado = world.start("cortado", world.business_role());
    let at_shop = cortado.incoming().await.conversation;
    alice.state(ConversationState::Open).await;
    cortado.endpoint.send(at_shop, text("hello yourself")).await.unwrap();
    alice.incoming().await;
    world.clock.advance(1_000);
    alice.status(hello.id, Status::Delivered).await;
    // It has one, and says that the conversation continues.
    let answered = world.copy_of(&mut alice, "answered").await;
    let mut two = Two { alice: world.start("Alice", RoleOptions::Customer), world, cortado, link, at_alice, at_shop };
    let (mut laptop, at_laptop) = two.recovered("laptop").await;
    two.alice.state(ConversationState::Moved).await;
    two.alice.endpoint.shutdown().await;
    for old in [unanswered, answered] {
        let mut copy = two.world.start(&old, RoleOptions::Customer);
        copy.state(ConversationState::Moved).await;
        copy.endpoint.shutdown().await;
        // One is told again only after a while.
        two.world.clock.advance(61_000);
    }
    laptop.endpoint.send(at_laptop.id, text("still here")).await.unwrap();
    assert_eq!(two.cortado.incoming().await.shown, Shown::Text("still here".into()));
    two.cortado.endpoint.send(two.at_shop, text("and so are we")).await.unwrap();
    assert_eq!(laptop.incoming().await.shown, Shown::Text("and so are we".into()));
    let state = laptop.endpoint.conversation(at_laptop.id).await.unwrap().unwrap().state;
    assert_eq!(state, ConversationState::Open);
}

/// Devices that were linked are out with the first one: whoever has lost a phone wants nobody to read on with it.
#[tokio::test]
async fn linked_devices_are_turned_away_too() {
    let mut three = crate::devices::Three::new().await;
    three.speaks("before").await;
    let code = three.phone.endpoint.recovery_code(three.at[0].id).await.unwrap();
    let refused = three.tablet.endpoint.recovery_code(three.at[1].id).await;
    assert!(matches!(refused, Err(CommandError::NoCode)), "{refused:?}");
    let mut laptop = three.world.start("laptop", RoleOptions::Customer);
    let link = three.world.link(&three.cortado).await;
    let at_laptop = laptop.endpoint.recover(&link, code).await.unwrap();
    laptop.state(ConversationState::Open).await;
    three.phone.state(ConversationState::Moved).await;
    three.tablet.state(ConversationState::Removed).await;
    laptop.past(Past::All).await;
    let there = three.cortado.all(three.at[2].id).await;
    assert_eq!(seen(&laptop.all(at_laptop.id).await, true), seen(&there, false));
    let m = laptop.endpoint.send(at_laptop.id, text("alone")).await.unwrap();
    assert_eq!(three.cortado.incoming().await.id, m.id);
}

#[tokio::test]
async fn a_code_of_nobody_makes_nobody_new() {
    let two = Two::new().await;
    let mut laptop = two.world.start("laptop", RoleOptions::Customer);
    let wrong = RecoveryCode::generate(&mut OsRng);
    let tried = laptop.endpoint.recover(&two.link, wrong.clone()).await.unwrap();
    let early = laptop.endpoint.send(tried.id, text("is it me?")).await;
    assert!(matches!(early, Err(CommandError::NotReady)), "{early:?}");
    laptop.state(ConversationState::NotKnown).await;
    assert_eq!(two.cortado.endpoint.conversations().await.unwrap().len(), 1);
    assert!(laptop.endpoint.conversation_with(two.link.key()).await.unwrap().is_none());

    // The right one after that, on the same device.
    let code = two.code().await;
    let at_laptop = laptop.endpoint.recover(&two.link, code.clone()).await.unwrap();
    laptop.state(ConversationState::Open).await;
    assert_eq!(at_laptop.user_id, two.at_alice.user_id);
    let twice = laptop.endpoint.recover(&two.link, code.clone()).await;
    assert!(matches!(twice, Err(CommandError::AlreadyHere)), "{twice:?}");
    assert_eq!(laptop.endpoint.recovery_code(at_laptop.id).await.unwrap(), code, "it is not the one that was wrong");

    // Whoever gives up begins as somebody new, with a code of its own.
    let mut tablet = two.world.start("tablet", RoleOptions::Customer);
    tablet.endpoint.recover(&two.link, wrong.clone()).await.unwrap();
    tablet.state(ConversationState::NotKnown).await;
    let new = tablet.endpoint.begin(&two.link, Begin::default()).await.unwrap();
    assert_ne!(new.user_id, two.at_alice.user_id);
    assert_ne!(tablet.endpoint.recovery_code(new.id).await.unwrap(), wrong);
}

/// A business that is no program of ours, and one customer's device that has come back to it.
struct Hostile {
    world: World,
    business: Business,
    mls: Mls,
    laptop: Actor,
    at_laptop: ConversationId,
    control: GivenPermit,
    envelope_key: EnvelopeKey,
}

impl Hostile {
    async fn new() -> Self {
        let world = World::new().await;
        let mut business = Business::new(&world).await;
        let identity = BusinessIdentity::generate(&mut OsRng);
        let (bundle, keys) = business.bundle(&identity);
        world.serve_bundle(bundle);
        let laptop = world.start("laptop", RoleOptions::Customer);
        let link = world.link_to(identity.hash());
        let at_laptop = laptop.endpoint.recover(&link, RecoveryCode::generate(&mut OsRng)).await.unwrap().id;
        let hello = business.hello(&identity, &keys).await.expect("its Hello");
        let now = world.clock.now_ms() / 1000;
        let mut mls = Mls::join(&keys, &identity.hash(), &hello, now).unwrap();
        let first = Content::decode(&mls.open(hello.message()).unwrap().content).unwrap();
        assert!(first.extensions.resumes, "it says that it was here before");
        let control = hello.permits().iter().find(|p| p.purpose == Purpose::Control).unwrap().clone();
        let envelope_key = EnvelopeKey::from_bytes([5; 32]);
        let mut hostile = Self { world, business, mls, laptop, at_laptop, control, envelope_key };
        let (permit, mac) = hostile.business.mailbox.permit(now);
        let envelope_key = Some(hostile.envelope_key.clone());
        let given = GivenPermit { purpose: Purpose::Control, permit, mac, envelope_key };
        let mut answer = Content::new([1; 16], Body::Receipt(Receipt::default()));
        answer.extensions.permits = Some(PermitsExtension { relay: hostile.world.relay_url(), permits: vec![given] });
        hostile.says(&answer).await;
        hostile.laptop.state(ConversationState::Open).await;
        hostile
    }

    async fn says(&mut self, content: &Content) {
        let sealed = self.mls.seal(&content.encode().unwrap()).unwrap();
        let key = self.control.envelope_key.as_ref().unwrap();
        let envelope = key.seal(&self.control.permit.tag, Kind::Mls, &sealed, &mut OsRng).unwrap();
        let url = self.world.relay_url();
        let mut sender = Sender::with_permit(&url, self.control.permit, self.control.mac.clone()).await.unwrap();
        sender.begin(&mut OsRng, envelope.into()).await.unwrap();
        sender.accepted().await.unwrap();
    }

    async fn page(&mut self, id: u64, next: &[u8], items: Vec<HistoryItem>) {
        let page = HistoryPage { id, next: next.to_vec(), items };
        self.says(&Content::new(rand_salt(), Body::HistoryPage(page))).await;
    }

    /// The next request for history; nothing if none comes.
    async fn asked(&mut self) -> Option<HistoryRequest> {
        loop {
            let deliver = tokio::time::timeout(Duration::from_millis(1_000), self.business.owner.deliver()).await;
            let deliver = deliver.ok()?.unwrap();
            self.business.owner.ack(deliver.number).await.unwrap();
            let tag = TagBlock::from_slice(&deliver.tag).unwrap();
            let (kind, body) = self.envelope_key.open(&tag, &deliver.envelope).unwrap();
            assert_eq!(kind, Kind::Mls);
            let content = Content::decode(&self.mls.open(&body).unwrap().content).unwrap();
            if let Body::HistoryRequest(request) = content.body {
                return Some(request);
            }
        }
    }
}

fn rand_salt() -> [u8; 16] {
    use rand_core::RngCore as _;
    let mut salt = [0; 16];
    OsRng.fill_bytes(&mut salt);
    salt
}

fn said(by: Role, content: &Content) -> HistoryItem {
    let content = content.encode().unwrap();
    HistoryItem { by, content, at_ms: u64::MAX, read: false, edited: None, reactions: Vec::new() }
}

/// A business can say of the past what it wants, in its customer's words too. It cannot put anything in the place of what is here, nor make the
/// device grow or ask without end, nor show as a message what is none.
#[tokio::test]
async fn a_business_that_lies_about_the_past_is_held_to_its_form() {
    let mut hostile = Hostile::new().await;
    let ask = hostile.asked().await.expect("it asks at once");
    assert_eq!((ask.from.as_slice(), ask.most), (&[][..], 60));
    let words = |salt: u8, words: &str| Content::new([salt; 16], Body::text(words));
    let (kept, other) = (words(1, "kept"), words(2, "kept too"));
    hostile.page(ask.id.wrapping_add(1), b"", vec![said(Role::Customer, &words(9, "nobody asked for this"))]).await;
    let kept_id = {
        let conversation = hostile.laptop.endpoint.conversation(hostile.at_laptop).await.unwrap().unwrap();
        let link = hostile.laptop.endpoint.conversations().await.unwrap();
        assert_eq!(link.len(), 1);
        let business = *hostile.mls.business();
        let (sender, room) = (
            bulla_e2ee::content::SenderUri::business(&business),
            bulla_e2ee::content::RoomUri::new(&business, &conversation.user_id),
        );
        MessageId::of(&sender, &room, &kept.encode().unwrap(), &kept.salt)
    };
    let emoji = |salt: u8, on| Content::new([salt; 16], Body::Reaction { emoji: "👍".into() }).in_reply_to(on);
    let elsewhere = MessageId::new([7; 32]);
    let reaction = |by, content: &Content| HistoryReaction { by, content: content.encode().unwrap() };
    let first = HistoryItem {
        reactions: vec![
            reaction(Role::Customer, &emoji(3, elsewhere)),
            reaction(Role::Customer, &emoji(4, kept_id)),
            reaction(Role::Customer, &emoji(5, kept_id)),
            HistoryReaction { by: Role::Business, content: vec![0xff; 20] },
        ],
        ..said(Role::Business, &kept)
    };
    let inside =
        Body::HistoryPage(HistoryPage { id: ask.id, next: Vec::new(), items: vec![said(Role::Business, &other)] });
    let no_messages = [
        Content::new([10; 16], Body::Receipt(Receipt { delivered: vec![kept_id], ..Receipt::default() })),
        Content::new([11; 16], Body::Typing { on: true }),
        Content::new([12; 16], inside),
        Content::new([13; 16], Body::Deleted).replacing(kept_id),
        words(14, "an edit").replacing(kept_id),
        emoji(15, kept_id),
    ];
    let mut items = vec![first.clone(), HistoryItem { content: vec![0xff; 10], ..first.clone() }];
    items.extend(no_messages.iter().map(|content| said(Role::Business, content)));
    // Once more, changed; and the same words in the customer's mouth, which is another message.
    items.push(HistoryItem { edited: Some("changed".into()), reactions: Vec::new(), ..first });
    items.push(said(Role::Customer, &other));
    hostile.page(ask.id, b"next", items).await;
    hostile.laptop.past(Past::More).await;
    let all = hostile.laptop.all(hostile.at_laptop).await;
    let shown: Vec<_> = all.iter().map(|m| (m.direction, m.shown.clone(), m.reactions.len())).collect();
    let text = |words: &str| Shown::Text(words.to_owned());
    assert_eq!(
        shown,
        [
            (Direction::Outgoing, text("kept too"), 0),
            (Direction::Incoming, text("kept"), 1),
            (Direction::Outgoing, Shown::Reaction(Some("👍".into())), 0),
        ]
    );
    let now = hostile.world.clock.now_ms();
    assert!(all.iter().all(|m| m.sent_ms <= now && m.stored_ms <= now), "nothing is of tomorrow");
    // The same page once more is of no request.
    hostile.page(ask.id, b"", vec![said(Role::Business, &words(20, "too late"))]).await;

    // Pages without anything, for ever: it asks no more after a few.
    hostile.laptop.endpoint.older(hostile.at_laptop).await.unwrap();
    let mut asked = 0;
    while let Some(ask) = hostile.asked().await {
        assert_eq!(ask.from, b"next");
        asked += 1;
        hostile.page(ask.id, b"next", vec![said(Role::Business, &kept)]).await;
    }
    assert_eq!(asked, 8);
    assert_eq!(hostile.laptop.all(hostile.at_laptop).await.len(), 3);
    let past = hostile.laptop.endpoint.conversation(hostile.at_laptop).await.unwrap().unwrap().past;
    assert_eq!(past, Some(Past::All));
}

/// A customer's program that asks for pages as fast as the relay takes it.
#[tokio::test]
async fn who_asks_a_thousand_times_gets_what_a_person_could_read() {
    const ASKED: usize = 1_000;
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let bytes = cortado.endpoint.business_card().await.unwrap().bundle.unwrap();
    let now = world.clock.now_ms() / 1000;
    let bundle = Bundle::verify(&bytes, link.key(), now).unwrap();
    let mailbox = Mailbox::new(&mut OsRng);
    let mut owner = Owner::create(bundle.relay(), &mailbox).await.unwrap();
    owner.subscribe(&mailbox).await.unwrap();
    let (permit, mac) = mailbox.permit(now);
    let key = EnvelopeKey::from_bytes([6; 32]);
    let given = |purpose| GivenPermit { purpose, permit, mac: mac.clone(), envelope_key: Some(key.clone()) };
    let pseudonym = Pseudonym::generate(&mut OsRng);
    let (mut mls, welcome) =
        Mls::begin(&pseudonym, "phone", Suites::DEFAULT, &bundle, Suite::Hybrid, now, &mut OsRng).unwrap();
    let message = mls.seal(&Content::new([1; 16], Body::text("only word")).encode().unwrap()).unwrap();
    let reply_key = ReplyKey::generate(&mut OsRng).unwrap();
    let says = HelloParams {
        relay: bundle.relay(),
        permits: &[given(Purpose::Service), given(Purpose::Control)],
        reply_key: reply_key.public(),
        welcome: &welcome,
        message: &message,
    };
    knock(&bundle, &bulla_e2ee::hello::Hello::seal(&pseudonym, &bundle, &says).unwrap(), 1).await;
    cortado.incoming().await;
    let mut control = None;
    let open = |mls: &mut Mls, deliver: &bulla_protocol::frame::Deliver| {
        let tag = TagBlock::from_slice(&deliver.tag).unwrap();
        match key.open(&tag, &deliver.envelope).unwrap() {
            (Kind::Mls, body) => Some(Content::decode(&mls.open(&body).ok()?.content).unwrap()),
            (Kind::Commit, body) => mls.follow(&body, now).map(|_| None).ok()?,
            _ => None,
        }
    };
    while control.is_none() {
        let deliver = owner.deliver().await.unwrap();
        owner.ack(deliver.number).await.unwrap();
        let permits = open(&mut mls, &deliver).and_then(|content| content.extensions.permits);
        control = permits.and_then(|p| p.permits.into_iter().find(|p| p.purpose == Purpose::Control));
    }
    let control = control.unwrap();
    let mut sender = Sender::with_permit(bundle.relay(), control.permit, control.mac.clone()).await.unwrap();
    for n in 0..ASKED {
        // What it cannot seal without hearing, it hears first.
        let ask = HistoryRequest { id: n as u64, from: Vec::new(), most: u64::MAX };
        let Ok(sealed) = mls.seal(&Content::new(rand_salt(), Body::HistoryRequest(ask)).encode().unwrap()) else {
            break;
        };
        let envelope = control.envelope_key.as_ref().unwrap();
        let envelope = envelope.seal(&control.permit.tag, Kind::Mls, &sealed, &mut OsRng).unwrap();
        sender.begin(&mut OsRng, envelope.into()).await.unwrap();
    }
    let mut taken = 0;
    for _ in 0..sender.in_flight() {
        taken += usize::from(sender.accepted().await.is_ok());
    }
    let mut pages = 0;
    while let Ok(deliver) = tokio::time::timeout(Duration::from_millis(1_500), owner.deliver()).await {
        let deliver = deliver.unwrap();
        owner.ack(deliver.number).await.unwrap();
        pages += usize::from(matches!(open(&mut mls, &deliver).map(|c| c.body), Some(Body::HistoryPage(_))));
    }
    println!("figure: asked {ASKED} times, of which the relay took {taken}, in a minute: {pages} pages");
    assert!(taken > 100, "the relay alone does not hold it up: {taken}");
    assert_eq!(pages, 30);
    // The business goes on with others.
    let (alice, at_alice) = world.customer("Alice", &link).await;
    alice.endpoint.send(at_alice.id, text("hello")).await.unwrap();
    assert_eq!(cortado.incoming().await.shown, Shown::Text("hello".into()));
}
