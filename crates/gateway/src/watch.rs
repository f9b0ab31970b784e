//! What follows an event once it is durable: the deliverer is woken, the feed is told, readiness is noted.

use std::sync::Arc;
use std::time::Duration;

use bulla_client::event::{Connection, ConversationId, Direction, Event, Message, Shown, Status};
use bulla_e2ee::content::Answer;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::business::Business;
use crate::feed::{Feed, Happening, Said};
use crate::store::contacts;
use crate::webhooks::deliverer::Wake;

/// How often a business that is starting is asked whether its bundle is published.
const LOOK: Duration = Duration::from_millis(50);

/// Runs until the endpoint stops or `stop`.
pub(crate) async fn run(
    business: Arc<Business>,
    mut events: mpsc::UnboundedReceiver<Event>,
    owe: mpsc::UnboundedSender<ConversationId>,
    feed: Feed,
    ready: watch::Sender<bool>,
    stop: CancellationToken,
) {
    loop {
        let starting = !*ready.borrow();
        tokio::select! {
            () = stop.cancelled() => return,
            event = events.recv() => match event {
                Some(event) => happened(&business, event, &owe, &feed).await,
                None => return,
            },
            () = tokio::time::sleep(LOOK), if starting => {
                if business.endpoint.business_card().await.is_ok_and(|card| card.ready) {
                    ready.send_replace(true);
                }
            }
        }
    }
}

async fn happened(business: &Business, event: Event, owe: &mpsc::UnboundedSender<ConversationId>, feed: &Feed) {
    let handle = || business.account.handle.clone();
    match event {
        Event::Message(message) => {
            if message.direction == Direction::Incoming {
                // Without a deliverer the gateway is stopping; the row waits for the next start.
                let _ = business.wakes.send(Wake::Row(message.conversation));
                business.came.notify_one();
            }
            if feed.is_read() {
                tell_message(business, message, feed).await;
            }
        }
        Event::Status { message, .. } if message.direction == Direction::Outgoing => {
            if message.status == Status::Sent {
                // Whether one is owed is in the store. Without a pusher the gateway is stopping, and the row waits.
                let _ = owe.send(message.conversation);
            }
            let _ = business.wakes.send(Wake::Row(message.conversation));
            business.came.notify_one();
            feed.tell(Happening::Progress {
                business: handle(),
                wamid: message.id.to_wamid(),
                status: message.status,
                failure: message.failure,
            });
        }
        Event::Consent { conversation, .. } => {
            let _ = business.wakes.send(Wake::Row(conversation));
            business.came.notify_one();
        }
        Event::Gap { missing, .. } => {
            tracing::warn!(missing, "messages of customers expired on the way");
            feed.tell(Happening::Missing { business: handle(), count: missing });
        }
        Event::Connection(connection) => {
            if connection == Connection::Superseded {
                tracing::error!(
                    business = %business.account.handle,
                    "another copy of this business's data is in use: this one has stopped sending"
                );
            }
            feed.tell(Happening::Relay { business: handle(), connection });
        }
        _ => {}
    }
}

async fn tell_message(business: &Business, message: Message, feed: &Feed) {
    let id = message.conversation;
    let contact = business.endpoint.with_store(move |tx| contacts::get(tx, id)).await.ok().flatten();
    let (name, user_id) = contact.map(|c| (c.name, c.user_id)).unwrap_or_default();
    let said = match message.shown {
        Shown::Text(text) => Said::Text(text),
        Shown::Interactive(interactive, _) => Said::Text(interactive.body),
        Shown::Answer(Answer::Button { title, .. } | Answer::Row { title, .. }) => Said::Text(title),
        Shown::Reaction(emoji) => Said::Reaction(emoji),
        Shown::Edit(text) => Said::Edit(text),
        Shown::Deleted => Said::Deleted,
        _ => Said::Other,
    };
    let (handle, wamid) = (business.account.handle.clone(), message.id.to_wamid());
    feed.tell(match message.direction {
        Direction::Incoming => Happening::Inbound { business: handle, name, user_id, wamid, said },
        Direction::Outgoing => Happening::Outbound { business: handle, user_id, wamid, said },
    });
}
