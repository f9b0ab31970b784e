//! Several devices of one customer in a conversation.

use bulla_client::endpoint::{CommandError, RoleOptions};
use bulla_client::event::{Connection, Conversation, ConversationState, Direction, Draft, Event, Shown, Status};
use zeroize::Zeroizing;

use crate::world::{Actor, World};

fn text(body: &str) -> Draft {
    Draft::Text { body: body.into(), reply_to: None }
}

impl Actor {
    /// The next message that another device of the same customer said.
    async fn said_elsewhere(&mut self) -> bulla_client::event::Message {
        self.wait("a message of another device", |e| match e {
            Event::Message(m) if m.direction == Direction::Outgoing && m.by.is_some() => Some(m.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn state(&mut self, state: ConversationState) {
        self.wait(&format!("{state:?}"), |e| match e {
            Event::Conversation(c) if c.state == state => Some(()),
            _ => None,
        })
        .await;
    }
}

/// A shop, Alice's phone, and her tablet, which the phone has let in.
pub(crate) struct Three {
    pub(crate) world: World,
    pub(crate) cortado: Actor,
    pub(crate) phone: Actor,
    pub(crate) tablet: Actor,
    /// At the phone, the tablet and the shop.
    pub(crate) at: [Conversation; 3],
}

async fn link_another(world: &World, phone: &Actor, at_phone: &Conversation, name: &str) -> (Actor, Conversation) {
    let invitation = phone.endpoint.invite(at_phone.id).await.unwrap();
    let mut other = world.start(name, RoleOptions::Customer);
    let conversation = other.endpoint.accept_invitation(invitation).await.unwrap();
    other.state(ConversationState::Open).await;
    (other, conversation)
}

impl Three {
    pub(crate) async fn new() -> Self {
        Self::some_days_ago(0).await
    }

    async fn some_days_ago(days: u64) -> Self {
        let world = World::some_days_ago(days).await;
        let mut cortado = world.business().await;
        let link = world.link(&cortado).await;
        let (mut phone, at_phone) = world.customer("Alice", &link).await;
        phone.endpoint.send(at_phone.id, text("hello")).await.unwrap();
        let first = cortado.incoming().await;
        cortado.endpoint.send(first.conversation, text("hello Alice")).await.unwrap();
        phone.incoming().await;
        let at_shop = cortado.endpoint.conversation(first.conversation).await.unwrap().unwrap();
        let (tablet, at_tablet) = link_another(&world, &phone, &at_phone, "tablet").await;
        Self { world, cortado, phone, tablet, at: [at_phone, at_tablet, at_shop] }
    }

    /// All three are in one group, and everybody hears everybody.
    pub(crate) async fn speaks(&mut self, word: &str) {
        let [at_phone, at_tablet, at_shop] = &self.at;
        let m = self.phone.endpoint.send(at_phone.id, text(&format!("{word} from the phone"))).await.unwrap();
        assert_eq!(self.cortado.incoming().await.id, m.id);
        let seen = self.tablet.said_elsewhere().await;
        assert_eq!((seen.id, seen.shown), (m.id, m.shown));
        let m = self.tablet.endpoint.send(at_tablet.id, text(&format!("{word} from the tablet"))).await.unwrap();
        assert_eq!(self.cortado.incoming().await.id, m.id);
        assert_eq!(self.phone.said_elsewhere().await.id, m.id);
        let m = self.cortado.endpoint.send(at_shop.id, text(&format!("{word} from the shop"))).await.unwrap();
        assert_eq!(self.phone.incoming().await.id, m.id);
        assert_eq!(self.tablet.incoming().await.id, m.id);
        self.world.clock.advance(1_000);
        self.cortado.status(m.id, Status::Delivered).await;
    }

    async fn epochs_of(&self, who: &[usize]) -> Vec<(u64, [u8; 8])> {
        let mut epochs = Vec::new();
        for index in who {
            let actor = [&self.phone, &self.tablet, &self.cortado][*index];
            epochs.push(actor.epoch(self.at[*index].id.0).await);
        }
        epochs
    }

    pub(crate) async fn agree(&self) {
        self.agree_of(&[0, 1, 2]).await;
    }

    pub(crate) async fn agree_of(&self, who: &[usize]) {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(120);
        loop {
            let all: Vec<_> = self.epochs_of(who).await;
            if all.iter().all(|e| *e == all[0]) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{all:?} never met");
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn everybody_hears_everybody_and_what_is_read_here_is_read_there() {
    let mut three = Three::new().await;
    three.phone.wait("the tablet", |e| matches!(e, Event::Devices { .. }).then_some(())).await;
    let devices = three.phone.endpoint.devices(three.at[0].id).await.unwrap();
    assert_eq!(devices.iter().map(|d| (d.this, d.is_in)).collect::<Vec<_>>(), [(true, true), (false, true)]);
    three.speaks("one").await;
    three.agree().await;
    let m = three.cortado.endpoint.send(three.at[2].id, text("read me")).await.unwrap();
    three.phone.incoming().await;
    three.tablet.incoming().await;
    three.phone.endpoint.mark_read(m.id).await.unwrap();
    three.world.clock.advance(1_000);
    three.cortado.status(m.id, Status::Read).await;
    let unread = |e: &Event| match e {
        Event::Conversation(c) if c.unread == 0 => Some(()),
        _ => None,
    };
    three.tablet.wait("nothing unread", unread).await;
    // Keys go on being renewed with three.
    three.world.clock.advance(7 * 86_400_000);
    for word in ["two", "three", "four"] {
        three.speaks(word).await;
    }
    three.agree().await;
}

/// The phone lies in a drawer; the tablet and the shop go on. When it comes back it gets everything, also what the shop could not send it under
/// a permit that was over.
#[tokio::test]
async fn a_device_that_was_away_for_weeks_gets_everything() {
    let mut three = Three::some_days_ago(30).await;
    three.speaks("before").await;
    three.phone.endpoint.shutdown().await;
    let (mut by_tablet, mut by_shop) = (Vec::new(), Vec::new());
    for day in 0..10 {
        let [_, at_tablet, at_shop] = &three.at;
        let m = three.tablet.endpoint.send(at_tablet.id, text(&format!("day {day}?"))).await.unwrap();
        assert_eq!(three.cortado.incoming().await.id, m.id);
        by_tablet.push(m.id);
        let m = three.cortado.endpoint.send(at_shop.id, text(&format!("day {day}!"))).await.unwrap();
        assert_eq!(three.tablet.incoming().await.id, m.id);
        by_shop.push(m.id);
        three.world.clock.advance(2 * 86_400_000);
    }
    three.phone = three.world.start("Alice", RoleOptions::Customer);
    let (mut from_tablet, mut from_shop, mut looks) = (Vec::new(), Vec::new(), 0);
    while from_tablet.len() + from_shop.len() < by_tablet.len() + by_shop.len() {
        let next = three.phone.wait("what it missed", |e| match e {
            Event::Message(m) => Some((m.direction, m.id)),
            _ => None,
        });
        match tokio::time::timeout(std::time::Duration::from_millis(200), next).await {
            Ok((Direction::Incoming, id)) => from_shop.push(id),
            Ok((Direction::Outgoing, id)) => from_tablet.push(id),
            // Its receipts, which bring the shop a fresh permit, are gathered for a second.
            Err(_) => three.world.clock.advance(1_000),
        }
        looks += 1;
        assert!(looks < 200, "{} of the tablet's and {} of the shop's came", from_tablet.len(), from_shop.len());
    }
    // Each sender's in its order; the two may cross.
    assert_eq!((from_tablet, from_shop), (by_tablet, by_shop));
    three.speaks("after").await;
    three.agree().await;
}

#[tokio::test]
async fn a_device_that_is_removed_hears_that_and_nothing_more() {
    let mut three = Three::new().await;
    three.speaks("one").await;
    let devices = three.phone.endpoint.devices(three.at[0].id).await.unwrap();
    let name = devices.iter().find(|d| !d.this).unwrap().name.clone();
    three.phone.endpoint.remove_device(three.at[0].id, name.clone()).await.unwrap();
    let gone = |e: &Event| match e {
        Event::Devices { removed, .. } if removed.len() == 1 => Some(removed[0].clone()),
        _ => None,
    };
    assert_eq!(three.phone.wait("the removal", gone).await, name);
    three.tablet.state(ConversationState::Removed).await;
    let more = three.tablet.endpoint.send(three.at[1].id, text("still here?")).await;
    assert!(matches!(more, Err(CommandError::Removed)));
    let m = three.phone.endpoint.send(three.at[0].id, text("among us")).await.unwrap();
    assert_eq!(three.cortado.incoming().await.id, m.id);
    let m = three.cortado.endpoint.send(three.at[2].id, text("indeed")).await.unwrap();
    assert_eq!(three.phone.incoming().await.id, m.id);
    assert_eq!(three.phone.endpoint.devices(three.at[0].id).await.unwrap().len(), 1);
    // Of the two that have spoken, the tablet has none: it was told of its removal before, in the order of its mailbox.
    let messages = three.tablet.endpoint.messages(three.at[1].id, None, 100).await.unwrap();
    assert!(messages.iter().all(|m| m.shown != Shown::Text("among us".into())));
}

/// Two commits wait for a device that was away, the second removes it, and it makes one of its own before it has read them: nothing else
/// comes of the epoch from which on it is nobody.
#[tokio::test]
async fn a_device_that_was_away_hears_that_it_was_removed() {
    let mut three = Three::some_days_ago(20).await;
    three.speaks("one").await;
    three.tablet.endpoint.shutdown().await;
    three.world.clock.advance(8 * 86_400_000);
    let before = three.phone.epoch(three.at[0].id.0).await.0;
    while three.phone.epoch(three.at[0].id.0).await.0 == before {
        let m = three.phone.endpoint.send(three.at[0].id, text("old keys")).await.unwrap();
        assert_eq!(three.cortado.incoming().await.id, m.id);
        three.world.clock.advance(1_000);
    }
    let devices = three.phone.endpoint.devices(three.at[0].id).await.unwrap();
    let name = devices.iter().find(|d| !d.this).unwrap().name.clone();
    three.phone.endpoint.remove_device(three.at[0].id, name).await.unwrap();
    let gone = |e: &Event| matches!(e, Event::Devices { removed, .. } if removed.len() == 1).then_some(());
    three.phone.wait("the removal", gone).await;
    three.tablet = three.world.start("tablet", RoleOptions::Customer);
    three.tablet.endpoint.send(three.at[1].id, text("am I still here?")).await.unwrap();
    three.tablet.state(ConversationState::Removed).await;
}

/// The phone goes back to a folder from before it removed the tablet, and takes it along. The shop, which knows better, tells it nothing.
#[tokio::test]
async fn a_device_that_was_removed_is_remembered_by_the_others() {
    let mut three = Three::new().await;
    three.speaks("one").await;
    let old = three.world.copy_of(&mut three.phone, "old").await;
    three.phone = three.world.start("Alice", RoleOptions::Customer);
    three.phone.connection(Connection::Online).await;
    let devices = three.phone.endpoint.devices(three.at[0].id).await.unwrap();
    let name = devices.iter().find(|d| !d.this).unwrap().name.clone();
    three.phone.endpoint.remove_device(three.at[0].id, name).await.unwrap();
    three.tablet.state(ConversationState::Removed).await;
    // The shop has followed: what it says now is of the epoch that the removal began.
    let m = three.cortado.endpoint.send(three.at[2].id, text("the two of us")).await.unwrap();
    assert_eq!(three.phone.incoming().await.id, m.id);
    three.agree_of(&[0, 2]).await;
    three.phone.endpoint.shutdown().await;

    three.phone = three.world.start(&old, RoleOptions::Customer);
    three.tablet.state(ConversationState::Open).await;
    let m = three.phone.endpoint.send(three.at[0].id, text("back again")).await.unwrap();
    assert_eq!(three.cortado.incoming().await.id, m.id);
    let m = three.cortado.endpoint.send(three.at[2].id, text("for the phone alone")).await.unwrap();
    // After what it has lost.
    while three.phone.incoming().await.id != m.id {}
    let m = three.phone.endpoint.send(three.at[0].id, text("later")).await.unwrap();
    while three.tablet.said_elsewhere().await.id != m.id {}
    let messages = three.tablet.endpoint.messages(three.at[1].id, None, 100).await.unwrap();
    assert!(messages.iter().all(|m| m.shown != Shown::Text("for the phone alone".into())));
}

/// Whoever begins again brings all devices along: the shop restored from a backup, the phone rolled back, the tablet rolled back.
#[tokio::test]
async fn a_conversation_with_three_begins_again_whoever_went_back() {
    for who in ["shop", "phone", "tablet"] {
        let mut three = Three::new().await;
        three.speaks("before").await;
        let role = if who == "shop" { three.world.business_role() } else { RoleOptions::Customer };
        let name = match who {
            "shop" => "cortado",
            "phone" => "Alice",
            _ => "tablet",
        };
        let old = {
            let actor = match who {
                "shop" => &mut three.cortado,
                "phone" => &mut three.phone,
                _ => &mut three.tablet,
            };
            three.world.copy_of(actor, "old").await
        };
        let mut running = three.world.start(name, role.clone());
        running.connection(Connection::Online).await;
        let old = match who {
            "shop" => std::mem::replace(&mut three.cortado, running),
            "phone" => std::mem::replace(&mut three.phone, running),
            _ => std::mem::replace(&mut three.tablet, running),
        }
        .folder
        .with_file_name(old);
        three.speaks("since").await;
        let actor = match who {
            "shop" => &mut three.cortado,
            "phone" => &mut three.phone,
            _ => &mut three.tablet,
        };
        actor.endpoint.shutdown().await;
        let restored = three.world.start(old.file_name().unwrap().to_str().unwrap(), role);
        match who {
            "shop" => three.cortado = restored,
            "phone" => three.phone = restored,
            _ => three.tablet = restored,
        }
        // What it said after the copy it has forgotten; what the others said, they say again.
        let expected = match who {
            "shop" => ["since from the phone", "since from the tablet"],
            "phone" => ["since from the tablet", "since from the shop"],
            _ => ["since from the phone", "since from the shop"],
        };
        let actor = match who {
            "shop" => &mut three.cortado,
            "phone" => &mut three.phone,
            _ => &mut three.tablet,
        };
        let mut missing: Vec<_> = expected.iter().map(|t| Shown::Text((*t).into())).collect();
        while !missing.is_empty() {
            let index: Vec<_> = expected.iter().filter(|t| missing.contains(&Shown::Text((**t).into()))).collect();
            let what = format!("{index:?} at the {who}");
            let shown = actor
                .wait(&what, |e| match e {
                    Event::Message(m) => Some(m.shown.clone()),
                    _ => None,
                })
                .await;
            missing.retain(|m| *m != shown);
        }
        three.speaks("after").await;
        three.agree().await;
    }
}

#[tokio::test]
async fn an_invitation_is_good_once_and_for_a_day() {
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut phone, at_phone) = world.customer("Alice", &link).await;
    assert!(matches!(phone.endpoint.invite(at_phone.id).await, Err(CommandError::NotReady)));
    phone.endpoint.send(at_phone.id, text("hello")).await.unwrap();
    let first = cortado.incoming().await;
    phone.state(ConversationState::Open).await;
    let invitation = phone.endpoint.invite(at_phone.id).await.unwrap();
    let mut tablet = world.start("tablet", RoleOptions::Customer);
    tablet.endpoint.accept_invitation(invitation.clone()).await.unwrap();
    tablet.state(ConversationState::Open).await;
    let again = tablet.endpoint.accept_invitation(invitation.clone()).await;
    assert!(matches!(again, Err(CommandError::Invitation(_))), "{again:?}");
    let garbage = tablet.endpoint.accept_invitation(Zeroizing::new(vec![0; 100])).await;
    assert!(matches!(garbage, Err(CommandError::Invitation(_))));
    let of_business = cortado.endpoint.accept_invitation(invitation.clone()).await;
    assert!(matches!(of_business, Err(CommandError::WrongRole)));
    assert!(matches!(cortado.endpoint.invite(first.conversation).await, Err(CommandError::WrongRole)));
    let by_linked = tablet.endpoint.conversations().await.unwrap()[0].id;
    assert!(matches!(tablet.endpoint.invite(by_linked).await, Err(CommandError::WrongRole)), "the phone invites");

    // A second one with the same invitation, and one who comes after a day: nobody lets them in.
    let late = phone.endpoint.invite(at_phone.id).await.unwrap();
    world.clock.advance(25 * 3_600_000);
    for (name, invitation) in [("thief", invitation), ("late", late)] {
        let thief = world.start(name, RoleOptions::Customer);
        thief.endpoint.accept_invitation(invitation).await.unwrap();
        let m = phone.endpoint.send(at_phone.id, text(&format!("is there a {name}?"))).await.unwrap();
        assert_eq!(cortado.incoming().await.id, m.id);
        assert_eq!(tablet.said_elsewhere().await.id, m.id);
        let theirs = &thief.endpoint.conversations().await.unwrap()[0];
        assert_eq!(theirs.state, ConversationState::Greeting);
        assert!(thief.endpoint.messages(theirs.id, None, 10).await.unwrap().is_empty());
    }
    assert_eq!(phone.endpoint.devices(at_phone.id).await.unwrap().len(), 2);
}
