//! The owner role: making, opening, reading and deleting mailboxes, revoking grants, publishing a contact bundle.
//!
//! Whoever cannot prove a mailbox's key learns nothing of it: a wrong key and a mailbox that does not exist get one answer.

use std::collections::HashMap;
use std::sync::Arc;

use bulla_protocol::frame::{
    Ack, Code, Create, DeleteMailbox, Open, PublishBundle, Revoke, Subscribe, Subscribed, client_frame,
    server_frame::Body,
};
use bulla_protocol::id::{GrantId, Incarnation, IncarnationNonce, MailboxId, exact};
use bulla_protocol::limits::{MAILBOXES_PER_CONNECTION, MAX_BUNDLE};
use bulla_protocol::ownership::{verify_create, verify_open};
use bulla_protocol::permit::MacRoot;
use bulla_protocol::work::Task;
use tokio::sync::oneshot;

use super::{Closed, Incoming, Peer};
use crate::mailbox::{Mailbox, SubscriptionId};
use crate::outbox::Refusal;
use crate::writer::Unavailable;

/// What this connection made, opened and subscribed to.
#[derive(Default)]
struct Holding {
    created: usize,
    opened: HashMap<MailboxId, Arc<Mailbox>>,
    subscriptions: HashMap<u64, Arc<Mailbox>>,
    next_subscription: u64,
}

/// Takes an owner's requests until the connection ends, then stores what it has not confirmed.
pub(super) async fn serve(peer: &Peer, incoming: &mut Incoming) -> Closed {
    let mut holding = Holding::default();
    let why = loop {
        let result = match incoming.next(&peer.outbox).await {
            Ok((_, client_frame::Body::Ack(ack))) => {
                peer.ack(&holding, &ack);
                Ok(())
            }
            Ok((request, body)) => peer.request(&mut holding, request, body).await,
            Err(why) => Err(why),
        };
        if let Err(why) = result {
            break why;
        }
    };
    for mailbox in holding.opened.values() {
        mailbox.release(peer.outbox.connection());
    }
    why
}

/// How one request failed: with a typed answer, or with the end of the connection.
enum Failure {
    Refused(Refusal),
    Malformed(&'static str),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        Self::Refused(code.into())
    }
}
impl From<Unavailable> for Failure {
    fn from(unavailable: Unavailable) -> Self {
        Self::Refused(unavailable.into())
    }
}

fn mailbox_id(bytes: &[u8]) -> Result<MailboxId, Failure> {
    MailboxId::from_slice(bytes).map_err(|_| Failure::Malformed("mailbox id"))
}

async fn durable(told: oneshot::Receiver<()>) -> Result<(), Failure> {
    told.await.map_err(|_| Unavailable.into())
}

impl Peer {
    async fn request(&self, holding: &mut Holding, request: u64, body: client_frame::Body) -> Result<(), Closed> {
        use client_frame::Body as B;
        if !matches!(
            body,
            B::Create(_) | B::Open(_) | B::Subscribe(_) | B::Revoke(_) | B::PublishBundle(_) | B::DeleteMailbox(_)
        ) {
            return self.common(request, &body);
        }
        let Some(waiter) = self.waiter(request)? else { return Ok(()) };
        let result = match body {
            B::Create(create) => self.create(holding, create).await,
            B::Open(open) => self.open(holding, open).await,
            B::Revoke(revoke) => self.revoke(holding, revoke).await,
            B::PublishBundle(publish) => self.publish(holding, publish).await,
            B::DeleteMailbox(delete) => self.delete(holding, delete).await,
            B::Subscribe(subscribe) => {
                match self.check_subscribe(holding, &subscribe) {
                    Ok(mailboxes) => {
                        // The answer is queued before the first delivery can be.
                        let started = holding.start(mailboxes);
                        let subscriptions = started.iter().map(|(number, _)| *number).collect();
                        waiter.answer(Body::Subscribed(Subscribed { subscriptions }));
                        self.deliver_to(started);
                        return Ok(());
                    }
                    Err(failure) => Err(failure),
                }
            }
            _ => Err(Code::Denied.into()),
        };
        match result {
            Ok(()) => waiter.done(),
            Err(Failure::Refused(refusal)) => waiter.refuse(refusal),
            Err(Failure::Malformed(what)) => return Err(Closed::Malformed(request, what)),
        }
        Ok(())
    }

    async fn create(&self, holding: &mut Holding, create: Create) -> Result<(), Failure> {
        let id = mailbox_id(&create.mailbox)?;
        let owner_key = exact::<32>(&create.owner_key).map_err(|_| Failure::Malformed("owner key"))?;
        let root = MacRoot::from_slice(&create.mac_root).map_err(|_| Failure::Malformed("MAC root"))?;
        if create.signature.len() != 64 {
            return Err(Failure::Malformed("signature"));
        }
        if holding.created >= MAILBOXES_PER_CONNECTION {
            return Err(Code::Limit.into());
        }
        if !Task::mailbox(&self.challenge, &id).accepts(create.work_nonce, self.relay.work_bits()) {
            return Err(Code::Work.into());
        }
        let name = self.relay.name();
        if !verify_create(&owner_key, name, &self.challenge, &id, &root, &create.signature) {
            return Err(Code::Denied.into());
        }
        holding.created += 1;
        let told = self.relay.registry().create(id, owner_key, root, self.relay.clock().month()).await?;
        durable(told).await
    }

    async fn open(&self, holding: &mut Holding, open: Open) -> Result<(), Failure> {
        let id = mailbox_id(&open.mailbox)?;
        let nonce = IncarnationNonce::from_slice(&open.incarnation_nonce)
            .map_err(|_| Failure::Malformed("incarnation nonce"))?;
        if open.signature.len() != 64 {
            return Err(Failure::Malformed("signature"));
        }
        if holding.opened.len() >= MAILBOXES_PER_CONNECTION && !holding.opened.contains_key(&id) {
            return Err(Code::Limit.into());
        }
        let incarnation = Incarnation { number: open.incarnation, nonce };
        let mailbox = self.relay.registry().get(&id).await?;
        let owner_key = mailbox.as_ref().map_or(self.relay.nobodys_key(), |mailbox| mailbox.owner_key());
        let proven = verify_open(owner_key, self.relay.name(), &self.challenge, &id, &incarnation, &open.signature);
        let Some(mailbox) = mailbox.filter(|_| proven) else { return Err(Code::Denied.into()) };
        let told = mailbox.open(incarnation, self.relay.clock().month(), &self.outbox)?;
        holding.opened.insert(id, mailbox);
        durable(told).await
    }

    fn held(&self, holding: &Holding, id: &[u8]) -> Result<Arc<Mailbox>, Failure> {
        let mailbox = holding.opened.get(&mailbox_id(id)?);
        let held = mailbox.filter(|mailbox| mailbox.is_held_by(self.outbox.connection()));
        held.cloned().ok_or_else(|| Code::Denied.into())
    }

    async fn revoke(&self, holding: &Holding, revoke: Revoke) -> Result<(), Failure> {
        let grant = GrantId::from_slice(&revoke.grant).map_err(|_| Failure::Malformed("grant"))?;
        durable(self.held(holding, &revoke.mailbox)?.revoke(grant)?).await
    }

    async fn publish(&self, holding: &Holding, publish: PublishBundle) -> Result<(), Failure> {
        let mailbox = self.held(holding, &publish.mailbox)?;
        if publish.bundle.len() > MAX_BUNDLE {
            return Err(Code::TooLarge.into());
        }
        let bundle = (!publish.bundle.is_empty()).then(|| publish.bundle.into());
        durable(mailbox.publish(bundle)?).await
    }

    async fn delete(&self, holding: &mut Holding, delete: DeleteMailbox) -> Result<(), Failure> {
        let mailbox = self.held(holding, &delete.mailbox)?;
        holding.opened.remove(mailbox.id());
        durable(self.relay.registry().delete(&mailbox)).await
    }

    fn check_subscribe(&self, holding: &Holding, subscribe: &Subscribe) -> Result<Vec<Arc<Mailbox>>, Failure> {
        if subscribe.mailboxes.len() > MAILBOXES_PER_CONNECTION {
            return Err(Code::Limit.into());
        }
        subscribe.mailboxes.iter().map(|id| self.held(holding, id)).collect()
    }

    fn deliver_to(&self, started: Vec<(u64, Arc<Mailbox>)>) {
        for (number, mailbox) in started {
            let id = SubscriptionId { connection: self.outbox.connection(), number };
            if mailbox.subscribe(id, &self.outbox) {
                let relay = Arc::clone(&self.relay);
                self.relay.tasks().spawn(crate::pump::run(relay, mailbox, id));
            }
        }
    }

    fn ack(&self, holding: &Holding, ack: &Ack) {
        if let Some(mailbox) = holding.subscriptions.get(&ack.subscription) {
            let id = SubscriptionId { connection: self.outbox.connection(), number: ack.subscription };
            mailbox.ack(id, ack.through);
        }
    }
}

impl Holding {
    fn start(&mut self, mailboxes: Vec<Arc<Mailbox>>) -> Vec<(u64, Arc<Mailbox>)> {
        let mut started = Vec::with_capacity(mailboxes.len());
        for mailbox in mailboxes {
            // An older subscription of this connection to the same mailbox is replaced, and its acks are ignored.
            self.subscriptions.retain(|_, other| !Arc::ptr_eq(other, &mailbox));
            self.next_subscription += 1;
            self.subscriptions.insert(self.next_subscription, Arc::clone(&mailbox));
            started.push((self.next_subscription, mailbox));
        }
        started
    }
}
