//! Two generations of programs, by the suites that they speak: how they talk to each other, and how a conversation moves to the newer suite.

use std::time::Duration;

use bulla_client::endpoint::{Begin, CommandError, RoleOptions};
use bulla_client::event::{
    Conversation, ConversationId, ConversationState, Direction, Draft, Event, Reason, Shown, Status,
};
use bulla_client::store::Table;
use bulla_client::store::vault::Scope;
use bulla_e2ee::suite::{Suite, Suites};

use crate::world::{Actor, World};

/// What programs of before speak, and those of now.
const OLD: Suites = Suites::only(Suite::Classical);
const NEW: Suites = Suites::ALL;

fn text(body: &str) -> Draft {
    Draft::Text { body: body.into(), reply_to: None }
}

/// As long as a customer's first device waits before it begins again in a better suite, and longer than anybody does.
const FIRST_MS: u64 = 3_000;
const ANYBODY_MS: u64 = 25_000;

fn newer(event: &Event) -> Option<Direction> {
    match event {
        Event::Continued { by, reason: Reason::Newer, .. } => Some(*by),
        _ => None,
    }
}

fn begun_again(actor: &Actor) -> usize {
    let began = |e: &&Event| matches!(e, Event::Continued { reason, .. } if *reason != Reason::Joined);
    actor.seen.iter().filter(began).count()
}

impl Actor {
    /// Lets time pass until the conversation is in a suite.
    async fn in_suite(&self, world: &World, of: ConversationId, suite: Suite) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while self.endpoint.suite(of).await.ok() != Some(suite) {
            assert!(tokio::time::Instant::now() < deadline, "never in {suite:?}");
            world.clock.advance(5);
            tokio::task::yield_now().await;
        }
    }

    async fn wait_for_state(&mut self, state: ConversationState) {
        self.wait(&format!("{state:?}"), |e| match e {
            Event::Conversation(c) if c.state == state => Some(()),
            _ => None,
        })
        .await;
    }
}

/// A shop and Alice who talk, and what each speaks.
struct Two {
    world: World,
    cortado: Actor,
    alice: Actor,
    at_alice: Conversation,
    at_shop: ConversationId,
    said: usize,
}

impl Two {
    async fn talking(shop: Suites, alice: Suites) -> Self {
        let world = World::new().await;
        let mut cortado = world.business_speaking(shop).await;
        let link = world.link(&cortado).await;
        let (mut alice, at_alice) = world.customer_speaking("Alice", &link, alice).await;
        alice.endpoint.send(at_alice.id, text("hello")).await.unwrap();
        let heard = cortado.incoming().await;
        cortado.endpoint.send(heard.conversation, text("hello Alice")).await.unwrap();
        alice.incoming().await;
        let mut two = Self { world, cortado, alice, at_alice, at_shop: heard.conversation, said: 0 };
        two.talk().await;
        two
    }

    /// Both say something, each hears the next that the other says and nothing else, and all of it is confirmed; then time passes.
    async fn talk(&mut self) {
        for _ in 0..2 {
            self.said += 1;
            let m = self.alice.endpoint.send(self.at_alice.id, text(&format!("{} of Alice", self.said))).await.unwrap();
            assert_eq!(self.cortado.incoming().await.id, m.id);
            let answer = self.cortado.endpoint.send(self.at_shop, text(&format!("{} of the shop", self.said))).await;
            let answer = answer.unwrap();
            assert_eq!(self.alice.incoming().await.id, answer.id);
            self.world.clock.advance(1_000);
            self.alice.status(m.id, Status::Delivered).await;
            self.cortado.status(answer.id, Status::Delivered).await;
        }
        self.world.clock.advance(FIRST_MS);
    }

    /// Who has begun in the newer suite. Time passes meanwhile: what asks for it may be heard only after the talk's own time has passed.
    async fn newer_at_alice(&mut self) -> Direction {
        for _ in 0..40 {
            let next = self.alice.wait("a group in the newer suite", newer);
            if let Ok(by) = tokio::time::timeout(Duration::from_millis(500), next).await {
                return by;
            }
            self.world.clock.advance(FIRST_MS);
        }
        panic!("no group in the newer suite: {:#?}", self.alice.seen)
    }

    async fn both_in(&self, suite: Suite) {
        self.alice.in_suite(&self.world, self.at_alice.id, suite).await;
        self.cortado.in_suite(&self.world, self.at_shop, suite).await;
    }

    async fn update_alice(&mut self, suites: Suites) {
        self.alice.endpoint.shutdown().await;
        self.alice = self.world.start_speaking("Alice", RoleOptions::Customer, suites);
    }

    async fn update_shop(&mut self, suites: Suites) {
        self.cortado.endpoint.shutdown().await;
        self.cortado = self.world.business_speaking(suites).await;
    }
}

/// Whoever speaks less is spoken to in that, and nothing is tried.
#[tokio::test]
async fn two_generations_talk_in_the_best_suite_that_both_speak() {
    for (shop, alice, suite) in [
        (OLD, OLD, Suite::Classical),
        (NEW, OLD, Suite::Classical),
        (OLD, NEW, Suite::Classical),
        (NEW, NEW, Suite::Hybrid),
        (NEW, Suites::DEFAULT, Suite::Hybrid),
    ] {
        let mut two = Two::talking(shop, alice).await;
        two.talk().await;
        two.talk().await;
        assert_eq!(two.alice.endpoint.suite(two.at_alice.id).await.unwrap(), suite, "{shop:?}, {alice:?}");
        assert_eq!(two.cortado.endpoint.suite(two.at_shop).await.unwrap(), suite);
        assert_eq!((begun_again(&two.alice), begun_again(&two.cortado)), (0, 0), "{shop:?}, {alice:?}");
    }
}

/// One program is updated, and nothing happens; then the other, with messages on their way: the conversation begins again once, and nothing is lost
/// or shown twice.
#[tokio::test]
async fn when_both_are_updated_the_conversation_begins_again_in_the_newer_suite_once() {
    for shop_first in [true, false] {
        let mut two = Two::talking(OLD, OLD).await;
        if shop_first {
            two.update_shop(NEW).await
        } else {
            two.update_alice(NEW).await
        }
        two.talk().await;
        two.talk().await;
        two.both_in(Suite::Classical).await;
        assert_eq!((begun_again(&two.alice), begun_again(&two.cortado)), (0, 0));

        // What was said to a program of before arrives at the one of now.
        let (on_its_way, here, there) = if shop_first {
            two.alice.endpoint.shutdown().await;
            let m = two.cortado.endpoint.send(two.at_shop, text("on its way")).await.unwrap();
            two.cortado.status(m.id, Status::Sent).await;
            two.update_alice(NEW).await;
            (m.id, two.alice.incoming().await.id, &mut two.alice)
        } else {
            two.cortado.endpoint.shutdown().await;
            let m = two.alice.endpoint.send(two.at_alice.id, text("on its way")).await.unwrap();
            two.alice.status(m.id, Status::Sent).await;
            two.update_shop(NEW).await;
            (m.id, two.cortado.incoming().await.id, &mut two.cortado)
        };
        assert_eq!(here, on_its_way);
        assert_eq!(begun_again(there), 0, "not before it was heard what all speak");
        two.talk().await;
        let by = two.newer_at_alice().await;
        assert_eq!(by, Direction::Outgoing, "the customer has the first turn");
        two.both_in(Suite::Hybrid).await;
        two.talk().await;
        two.talk().await;
        two.both_in(Suite::Hybrid).await;
        assert_eq!((begun_again(&two.alice), begun_again(&two.cortado)), (1, 1), "once");
    }
}

/// Both find at the same moment that they could, and both begin: the customer's stands, as ever.
#[tokio::test]
async fn where_both_begin_in_the_newer_suite_the_customers_stands() {
    let mut two = Two::talking(OLD, OLD).await;
    two.update_shop(NEW).await;
    two.update_alice(NEW).await;
    for _ in 0..3 {
        two.talk().await;
        // Whatever waits at one of them waits at both: their turns are over at the same time.
        two.world.clock.advance(ANYBODY_MS);
        two.alice.endpoint.send(two.at_alice.id, text("crossing")).await.unwrap();
        let crossing = two.cortado.endpoint.send(two.at_shop, text("crossing")).await.unwrap();
        two.cortado.incoming().await;
        assert_eq!(two.alice.incoming().await.id, crossing.id);
    }
    two.both_in(Suite::Hybrid).await;
    assert!(begun_again(&two.alice) <= 2 && begun_again(&two.cortado) <= 2, "no loop");
    let epochs = (two.alice.epoch(two.at_alice.id.0).await, two.cortado.epoch(two.at_shop.0).await);
    assert_eq!(epochs.0, epochs.1);
}

/// A customer's devices: the conversation waits for the last of them.
#[tokio::test]
async fn a_conversation_of_several_devices_waits_for_the_last() {
    let mut two = Two::talking(OLD, OLD).await;
    let invitation = two.alice.endpoint.invite(two.at_alice.id).await.unwrap();
    let mut tablet = two.world.start_speaking("tablet", RoleOptions::Customer, OLD);
    let at_tablet = tablet.endpoint.accept_invitation(invitation).await.unwrap();
    tablet.wait_for_state(ConversationState::Open).await;
    two.talk().await;
    two.update_shop(NEW).await;
    two.update_alice(NEW).await;
    two.talk().await;
    two.talk().await;
    two.both_in(Suite::Classical).await;
    assert_eq!(begun_again(&two.alice), 0);

    tablet.endpoint.shutdown().await;
    let tablet = two.world.start_speaking("tablet", RoleOptions::Customer, NEW);
    for _ in 0..3 {
        two.talk().await;
    }
    two.both_in(Suite::Hybrid).await;
    tablet.in_suite(&two.world, at_tablet.id, Suite::Hybrid).await;
    let m = tablet.endpoint.send(at_tablet.id, text("from the tablet")).await.unwrap();
    assert_eq!(two.cortado.incoming().await.id, m.id);

    // A device whose program does not speak what the conversation is in is told so; one that does comes in.
    let invitation = two.alice.endpoint.invite(two.at_alice.id).await.unwrap();
    let laptop = two.world.start_speaking("laptop", RoleOptions::Customer, OLD);
    let refused = laptop.endpoint.accept_invitation(invitation.clone()).await;
    assert!(matches!(refused, Err(CommandError::OutOfDate)), "{refused:?}");
    laptop.endpoint.shutdown().await;
    let mut laptop = two.world.start_speaking("laptop", RoleOptions::Customer, NEW);
    laptop.endpoint.accept_invitation(invitation).await.unwrap();
    laptop.wait_for_state(ConversationState::Open).await;
}

/// An invitation that is older than the move to the newer suite is still good: the device leaves KeyPackages of all suites that it speaks.
#[tokio::test]
async fn a_device_comes_in_though_the_conversation_has_moved_since_it_was_invited() {
    let mut two = Two::talking(OLD, OLD).await;
    let invitation = two.alice.endpoint.invite(two.at_alice.id).await.unwrap();
    two.update_shop(NEW).await;
    two.update_alice(NEW).await;
    for _ in 0..3 {
        two.talk().await;
    }
    two.both_in(Suite::Hybrid).await;
    let mut tablet = two.world.start_speaking("tablet", RoleOptions::Customer, NEW);
    let at_tablet = tablet.endpoint.accept_invitation(invitation).await.unwrap();
    tablet.wait_for_state(ConversationState::Open).await;
    tablet.in_suite(&two.world, at_tablet.id, Suite::Hybrid).await;
}

/// A business that has stopped speaking the old suite: who has an old program is told so, before the first word and in the middle of a
/// conversation; what was written waits, and goes when the program is updated.
#[tokio::test]
async fn who_has_an_old_program_is_told_when_the_business_speaks_the_old_suite_no_more() {
    for old_is_served in [false, true] {
        no_more_old_suite(old_is_served).await;
    }
}

/// The web server may serve the bundle of before the update for a while.
async fn no_more_old_suite(old_is_served: bool) {
    let mut two = Two::talking(OLD, OLD).await;
    let old = two.cortado.endpoint.business_card().await.unwrap().bundle.unwrap();
    two.alice.endpoint.shutdown().await;
    two.update_shop(Suites::only(Suite::Hybrid)).await;
    let link = two.world.link(&two.cortado).await;
    let bob = two.world.start_speaking("Bob", RoleOptions::Customer, OLD);
    let refused = bob.endpoint.begin(&link, Begin::default()).await;
    assert!(matches!(refused, Err(CommandError::OutOfDate)), "{refused:?}");
    assert!(bob.endpoint.conversations().await.unwrap().is_empty());

    let current = two.cortado.endpoint.business_card().await.unwrap().bundle.unwrap();
    if old_is_served {
        two.world.serve_bundle(old);
    }
    two.update_alice(OLD).await;
    two.alice.wait_for_state(ConversationState::Outdated).await;
    two.world.serve_bundle(current);
    let waits = two.alice.endpoint.send(two.at_alice.id, text("does anybody hear me?")).await.unwrap();
    assert_eq!(waits.status, Status::Queued);
    let lost = two.cortado.endpoint.send(two.at_shop, text("update your program")).await.unwrap();
    two.world.clock.advance(3_600_000);
    assert_eq!(two.alice.endpoint.message(waits.id).await.unwrap().unwrap().status, Status::Queued, "nothing is lost");
    two.update_alice(NEW).await;
    assert_eq!(two.cortado.incoming().await.id, waits.id);
    assert_eq!(two.alice.incoming().await.id, lost.id);
    two.both_in(Suite::Hybrid).await;
    two.talk().await;
}

/// A relay, or a web server, that serves the bundle of before the update: a conversation that begins with it is in the newer suite as soon as both
/// have heard each other.
#[tokio::test]
async fn an_older_bundle_that_is_replayed_costs_the_first_words_at_most() {
    let world = World::new().await;
    let cortado = world.business_speaking(OLD).await;
    let (link, old) = (world.link(&cortado).await, cortado.endpoint.business_card().await.unwrap().bundle.unwrap());
    cortado.endpoint.shutdown().await;
    let mut cortado = world.business_speaking(NEW).await;
    world.serve_bundle(old);
    let (alice, at_alice) = world.customer_speaking("Alice", &link, NEW).await;
    alice.endpoint.send(at_alice.id, text("hello")).await.unwrap();
    let at_shop = cortado.incoming().await.conversation;
    let mut two = Two { world, cortado, alice, at_alice, at_shop, said: 0 };
    two.talk().await;
    two.talk().await;
    two.both_in(Suite::Hybrid).await;
}

/// The same in a conversation that has been in the newer suite: nothing brings it back into the older one. The customer who has to say Hello again
/// waits for a bundle that is not older; the business does not join a Hello in the older suite.
#[tokio::test]
async fn a_conversation_never_goes_back_to_a_worse_suite() {
    let world = World::new().await;
    let cortado = world.business_speaking(OLD).await;
    let (link, old) = (world.link(&cortado).await, cortado.endpoint.business_card().await.unwrap().bundle.unwrap());
    cortado.endpoint.shutdown().await;
    let mut cortado = world.business_speaking(NEW).await;
    let current = cortado.endpoint.business_card().await.unwrap().bundle.unwrap();
    let (alice, at_alice) = world.customer_speaking("Alice", &link, NEW).await;
    alice.endpoint.send(at_alice.id, text("hello")).await.unwrap();
    let at_shop = cortado.incoming().await.conversation;
    let mut two = Two { world, cortado, alice, at_alice, at_shop, said: 0 };
    two.talk().await;
    two.both_in(Suite::Hybrid).await;

    // Alice cannot go on and has tried to begin again once: she says Hello. The bundle is the old one.
    two.world.serve_bundle(old.clone());
    let key = two.at_alice.id.0.to_be_bytes();
    let broken = |tx: &mut bulla_client::store::tx::Tx<'_>, key: [u8; 8]| {
        let mut group = tx.get::<bulla_client::engine::record::GroupRecord>(Table::Groups, &key)?.unwrap();
        (group.broken, group.tries) = (Some(2), 1);
        let peer =
            tx.get::<bulla_client::engine::record::ConversationRecord>(Table::Conversations, &key)?.unwrap().peer;
        tx.put(Table::Groups, &key, Scope::Peer(peer), &group)
    };
    two.alice.endpoint.with_store(move |tx| broken(tx, key)).await.unwrap();
    two.update_alice(NEW).await;
    two.alice.wait_for_state(ConversationState::Outdated).await;
    let waits = two.alice.endpoint.send(two.at_alice.id, text("only in the newer suite")).await.unwrap();
    two.world.serve_bundle(current);
    two.world.clock.advance(601_000);
    assert_eq!(two.cortado.incoming().await.id, waits.id);
    two.both_in(Suite::Hybrid).await;
    two.talk().await;

    // Somebody who resumes the pseudonym knows nothing of what it was in, and is served the old bundle.
    two.world.serve_bundle(old);
    let pseudonym = two.alice.endpoint.pseudonym(two.at_alice.id).await.unwrap();
    two.alice.endpoint.shutdown().await;
    let phone = two.world.start_speaking("new-phone", RoleOptions::Customer, NEW);
    let resumed =
        phone.endpoint.begin(&link, Begin { pseudonym: Some(pseudonym.clone()), ..Begin::default() }).await.unwrap();
    let m = phone.endpoint.send(resumed.id, text("from a new phone")).await.unwrap();
    let heard = two.cortado.incoming().await;
    assert_eq!((heard.id, heard.shown), (m.id, Shown::Text("from a new phone".into())));
    two.cortado.in_suite(&two.world, two.at_shop, Suite::Hybrid).await;
    phone.in_suite(&two.world, resumed.id, Suite::Hybrid).await;
    phone.endpoint.shutdown().await;

    // And one whose program speaks the old suite alone is told so, instead of asking for ever.
    let mut drawer = two.world.start_speaking("old-phone", RoleOptions::Customer, OLD);
    let resumed = drawer.endpoint.begin(&link, Begin { pseudonym: Some(pseudonym), ..Begin::default() }).await.unwrap();
    drawer.endpoint.send(resumed.id, text("from a drawer")).await.unwrap();
    drawer.wait_for_state(ConversationState::Outdated).await;
    two.cortado.in_suite(&two.world, two.at_shop, Suite::Hybrid).await;
}
