//! The line from the customer's keyboard to the business and back.

use bulla_client::endpoint::CommandError;
use bulla_client::event::{ConversationState, Draft, Event, Shown, Status};

use crate::world::World;

fn text(body: &str) -> Draft {
    Draft::Text { body: body.into(), reply_to: None }
}

#[tokio::test]
async fn a_customer_and_a_business_talk() {
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut alice, conversation) = world.customer("Alice", &link).await;
    assert_eq!(conversation.peer_name, "Cortado Coffee");
    assert_eq!(conversation.state, ConversationState::New);

    let hello = alice.endpoint.send(conversation.id, text("hello")).await.unwrap();
    let heard = cortado.incoming().await;
    assert_eq!(heard.id, hello.id);
    assert_eq!(heard.shown, Shown::Text("hello".into()));
    assert_eq!(heard.reference.as_deref(), Some("flyer"));
    let customer = cortado.endpoint.conversation(heard.conversation).await.unwrap().unwrap();
    assert_eq!(customer.peer_name, "Alice");
    assert_eq!(customer.user_id, conversation.user_id);

    alice.status(hello.id, Status::Sent).await;
    world.clock.advance(1_000);
    alice.status(hello.id, Status::Delivered).await;
    cortado.endpoint.mark_read(heard.id).await.unwrap();
    world.clock.advance(1_000);
    alice.status(hello.id, Status::Read).await;

    let answer = Draft::Text { body: "hi!".into(), reply_to: Some(heard.id) };
    let answer = cortado.endpoint.send(heard.conversation, answer).await.unwrap();
    let shown = alice.incoming().await;
    assert_eq!((shown.id, shown.reply_to), (answer.id, Some(hello.id)));
    cortado.status(answer.id, Status::Sent).await;
    world.clock.advance(1_000);
    cortado.status(answer.id, Status::Delivered).await;
    alice.endpoint.mark_read(shown.id).await.unwrap();
    world.clock.advance(1_000);
    cortado.status(answer.id, Status::Read).await;

    let typing = alice.endpoint.typing(conversation.id, true);
    typing.await.unwrap();
    cortado.wait("typing", |e| matches!(e, Event::Typing { on: true, .. }).then_some(())).await;
}

#[tokio::test]
async fn who_a_customer_is_at_the_business_is_told_with_the_next_message_and_once() {
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (alice, conversation) = world.customer("Alice", &link).await;
    for (bad, why) in
        [("", "not a token"), ("a b", "not a token"), ("é", "not a token"), (&*"x".repeat(2_049), "longer")]
    {
        let refused = alice.endpoint.identify(conversation.id, bad.to_owned()).await.unwrap_err();
        assert!(refused.to_string().contains(why), "{bad}: {refused}");
    }
    alice.endpoint.identify(conversation.id, "ey.first.one".into()).await.unwrap();
    alice.endpoint.send(conversation.id, text("hello")).await.unwrap();
    let hello = cortado.incoming().await;
    assert_eq!(hello.identity.as_deref(), Some("ey.first.one"), "in the Hello");
    alice.endpoint.send(conversation.id, text("again")).await.unwrap();
    assert_eq!(cortado.incoming().await.identity, None);
    alice.endpoint.identify(conversation.id, "x".repeat(2_048)).await.unwrap();
    alice.endpoint.send(conversation.id, text("somebody else")).await.unwrap();
    assert_eq!(cortado.incoming().await.identity.map(|token| token.len()), Some(2_048));
    let refused = cortado.endpoint.identify(hello.conversation, "a".into()).await.unwrap_err();
    assert!(matches!(refused, CommandError::WrongRole), "{refused}");
}

#[tokio::test]
async fn reactions_edits_and_deletions_change_what_is_shown() {
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut alice, conversation) = world.customer("Alice", &link).await;
    let order = alice.endpoint.send(conversation.id, text("one flat whte")).await.unwrap();
    let heard = cortado.incoming().await;
    let changed = |e: &Event| match e {
        Event::Changed(m) => Some(m.clone()),
        _ => None,
    };

    alice.endpoint.send(conversation.id, Draft::Edit { of: order.id, body: "one flat white".into() }).await.unwrap();
    let now = cortado.wait("edit", changed).await;
    assert_eq!((now.id, now.edited), (order.id, true));
    assert_eq!(now.shown, Shown::Text("one flat white".into()));

    let like = Draft::Reaction { to: heard.id, emoji: Some("👍".into()) };
    cortado.endpoint.send(heard.conversation, like).await.unwrap();
    alice.wait("own edit", changed).await;
    let now = alice.wait("reaction", changed).await;
    assert_eq!(now.reactions.len(), 1);
    let unlike = Draft::Reaction { to: heard.id, emoji: None };
    cortado.endpoint.send(heard.conversation, unlike).await.unwrap();
    let now = alice.wait("reaction taken back", changed).await;
    assert!(now.reactions.is_empty());
    let stored = alice.endpoint.messages(conversation.id, None, 100).await.unwrap();
    let reactions: Vec<_> = stored.iter().filter(|m| matches!(m.shown, Shown::Reaction(_))).collect();
    assert!(stored.iter().all(|m| m.shown != Shown::Deleted), "a reaction that is taken back is no deleted message");
    assert!(
        reactions.iter().all(|m| m.shown == Shown::Reaction(None) && m.reply_to == Some(heard.id)),
        "{reactions:?}"
    );

    let not_ours = cortado.endpoint.send(heard.conversation, Draft::Delete { of: heard.id }).await;
    assert!(matches!(not_ours, Err(bulla_client::endpoint::CommandError::NotYours)));
    alice.endpoint.send(conversation.id, Draft::Delete { of: order.id }).await.unwrap();
    let now = cortado
        .wait("deletion", |e| match e {
            Event::Changed(m) if m.deleted => Some(m.clone()),
            _ => None,
        })
        .await;
    assert_eq!((now.id, now.shown), (order.id, Shown::Deleted));
}
