//! Where a device can be woken is said to the business inside the conversation, device by device.

use bulla_client::endpoint::CommandError;
use bulla_client::event::{Conversation, Draft, Event};
use bulla_e2ee::content::PushSubscription;

use crate::devices::Three;
use crate::world::{Actor, PUSH_KEY, World};

fn subscription(device: &str) -> PushSubscription {
    PushSubscription { endpoint: format!("https://push.example/{device}"), p256dh: [4; 65], auth: [1; 16] }
}

impl Actor {
    /// What a device has said of itself.
    async fn told(&mut self) -> (String, Option<PushSubscription>) {
        self.wait("a subscription", |e| match e {
            Event::Push { device, subscription, .. } => Some((device.clone(), subscription.as_deref().cloned())),
            _ => None,
        })
        .await
    }

    async fn knows_the_key(&mut self) -> Conversation {
        self.wait("the business's push key", |e| match e {
            Event::Conversation(c) if c.push_key.is_some() => Some(c.clone()),
            _ => None,
        })
        .await
    }
}

#[tokio::test]
async fn each_device_says_where_it_is_woken() {
    let Three { world, mut cortado, phone, mut tablet, at: [at_phone, at_tablet, at_shop] } = Three::new().await;
    let known = phone.endpoint.conversation(at_phone.id).await.unwrap().unwrap();
    assert_eq!(known.push_key.as_deref(), Some(PUSH_KEY.as_slice()), "with the first answer");
    // The tablet came later: it hears of the key with the next receipt.
    phone.endpoint.send(at_phone.id, Draft::Text { body: "one more".into(), reply_to: None }).await.unwrap();
    cortado.incoming().await;
    world.clock.advance(1_000);
    assert_eq!(tablet.knows_the_key().await.push_key.as_deref(), Some(PUSH_KEY.as_slice()));

    phone.endpoint.push(at_phone.id, Some(subscription("phone"))).await.unwrap();
    let (phone_is, said) = cortado.told().await;
    assert_eq!(said, Some(subscription("phone")));
    tablet.endpoint.push(at_tablet.id, Some(subscription("tablet"))).await.unwrap();
    let (tablet_is, said) = cortado.told().await;
    assert_eq!(said, Some(subscription("tablet")));
    assert_ne!(phone_is, tablet_is);
    phone.endpoint.push(at_phone.id, None).await.unwrap();
    assert_eq!(cortado.told().await, (phone_is, None));

    // Programs say it: no person's message came of it, and the business has nowhere to be woken.
    let said = cortado.endpoint.messages(at_shop.id, None, 100).await.unwrap();
    assert_eq!(said.len(), 3, "{said:?}");
    let refused = cortado.endpoint.push(at_shop.id, None).await;
    assert!(matches!(refused, Err(CommandError::WrongRole)), "{refused:?}");
}

#[tokio::test]
async fn what_is_said_of_pushes_is_checked_and_waits_for_the_relay() {
    let mut world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut alice, conversation) = world.customer("Alice", &link).await;
    let early = alice.endpoint.push(conversation.id, Some(subscription("early"))).await;
    assert!(matches!(early, Err(CommandError::NotReady)), "{early:?}");
    alice.endpoint.send(conversation.id, Draft::Text { body: "hello".into(), reply_to: None }).await.unwrap();
    cortado.incoming().await;
    world.clock.advance(1_000);
    alice.knows_the_key().await;
    let long = PushSubscription { endpoint: "x".repeat(1_025), ..subscription("") };
    let refused = alice.endpoint.push(conversation.id, Some(long)).await;
    assert!(matches!(refused, Err(CommandError::TooLong { limit: 1_024 })), "{refused:?}");

    world.stop_relay().await;
    alice.endpoint.push(conversation.id, Some(subscription("later"))).await.unwrap();
    world.start_relay().await;
    assert_eq!(cortado.told().await.1, Some(subscription("later")));
}
