//! What people do and hear: the ledger that the verdict is passed on.

use std::sync::{Arc, Mutex};

use bulla_client::engine::{Begin, Engine, Input};
use bulla_client::event::{Connection, ConversationId, Draft, Event, Failure, Status};
use bulla_e2ee::link::Link;
use bulla_protocol::frame::ClientFrame;
use bytes::Bytes;

use crate::sim::CANARY;
use crate::sim::node::{Waits, command};
use crate::sim::relay::DAY_MS;

use super::{BUSINESS, Line, WINDOW_MS, World, take};

impl World {
    /// What a person would see.
    pub(super) fn hears(&mut self, node: usize, event: &Event) {
        self.breaches.extend(self.nodes[node].notes(event));
        match event {
            Event::Message(m) if self.trace.is_some() => {
                let shown = format!("{:?}", m.direction);
                let text = match &m.shown {
                    bulla_client::event::Shown::Text(text) => text.replace(CANARY, ""),
                    other => format!("{other:?}"),
                };
                self.tell_of(node, || format!("  {shown}: {text}"));
            }
            Event::Status { message, .. } => {
                let (status, failure) = (message.status, message.failure);
                let text = match &message.shown {
                    bulla_client::event::Shown::Text(text) => text.replace(CANARY, ""),
                    other => format!("{other:?}"),
                };
                self.tell_of(node, || {
                    format!("  {status:?} {}: {text}", failure.map_or(String::new(), |f| format!("{f:?}")))
                });
                if status == Status::Failed {
                    self.check_failure(node, message);
                }
            }
            Event::Continued { by, reason, .. } => {
                self.figures.continued += 1;
                let device = self.nodes[node].device;
                if device != BUSINESS {
                    self.ledger.began.push((self.devices[device].of, *reason));
                }
                self.tell_of(node, || format!("  a new group, by {by:?}: {reason:?}"));
            }
            Event::KeyChange { .. } => {
                let name = &self.nodes[node].name;
                self.breaches.push(format!("I4 ghost: {name} was told of a key change that nobody made"));
            }
            Event::Connection(Connection::Superseded) => self.tell_of(node, || "  is superseded".into()),
            Event::Gap { missing, .. } => self.tell_of(node, || format!("  a gap of {missing}")),
            Event::Unreadable { .. } => self.tell_of(node, || "  keeps something unreadable".into()),
            _ => {}
        }
    }

    /// A message may fail, and its sender is told; but not without a reason.
    fn check_failure(&mut self, node: usize, message: &bulla_client::event::Message) {
        let (heard, said) = self.nodes[node].folder.heard_ms.get(&message.conversation.0).copied().unwrap_or((0, 0));
        let business = self.nodes[node].device == BUSINESS;
        let right = match message.failure {
            Some(Failure::NoReceipt) => self.now_ms >= message.stored_ms + 31 * DAY_MS,
            Some(Failure::WindowClosed) => business && self.now_ms >= heard + WINDOW_MS,
            // A business's right to answer ends 72 hours after what it heard was said; its own may have been said 24 hours after that.
            Some(Failure::Refused) => {
                let over = self.now_ms >= said + 3 * DAY_MS || self.now_ms >= message.stored_ms + 2 * DAY_MS;
                self.ledger.denied || (business && over)
            }
            _ => false,
        };
        self.ledger.failed.insert(*message.id.as_bytes());
        if !right {
            let name = &self.nodes[node].name;
            self.breaches
                .push(format!("I1 lost: {name}'s {:?} failed without a reason: {:?}", message.shown, message.failure));
        }
    }

    /// What failed in a commit after which the process died at once was told to nobody; whoever opens the conversation sees it.
    pub(super) fn finds_failed(&mut self, node: usize) {
        self.ledger.failed.extend(self.nodes[node].failed_messages());
    }

    // ------------------------------------------------------------ what programs do

    /// Asks an endpoint's engine for something. `None`: it does not run, or it died over it, and nobody knows.
    pub(in crate::sim) fn ask<R: Send + 'static>(
        &mut self,
        node: usize,
        f: impl FnOnce(&mut Engine, &mut bulla_client::engine::Ctx<'_, '_>) -> R + Send + 'static,
    ) -> Option<R> {
        if !self.is_running(node) {
            return None;
        }
        let (command, cell) = command(f);
        self.nodes[node].inbox.push_back(Waits::Input(Input::Command(command)));
        self.pass(node);
        take(&cell)
    }

    /// The business: starts and waits until its bundle is there.
    pub(in crate::sim) fn open_shop(&mut self) {
        let node = self.devices[BUSINESS].active;
        self.start(node, false);
        let now = self.now_ms;
        self.key = self.nodes[node]
            .look(now, |engine, ctx| engine.business_card(ctx).map(|card| card.key))
            .and_then(Result::ok);
        for _ in 0..100 {
            if !self.bundles.is_empty() {
                return;
            }
            self.run_for(1_000);
        }
        self.breaches.push("the business's bundle is never published".into());
    }

    /// A customer begins to talk to the business: nothing leaves yet.
    pub(in crate::sim) fn begin(&mut self, customer: usize) {
        let node = self.devices[customer].active;
        let (Some(key), Some(bundle)) = (self.key, self.bundles.last().cloned()) else { return };
        let Ok(link) = Link::new("https://shop.example", "cortado", key, Some("flyer")) else { return };
        let begin = Begin { name: Some(self.devices[customer].name.clone()), ..Begin::default() };
        let begun = self.ask(node, move |engine, ctx| engine.begin(ctx, &link, &bundle, &begin));
        if let Some(Ok(conversation)) = begun {
            self.devices[customer].user = Some(conversation.user_id);
        }
    }

    /// Where a device, or the business, talks to a customer.
    pub(in crate::sim) fn conversation(&mut self, from: usize, customer: usize) -> Option<ConversationId> {
        let (node, now) = (self.devices[from].active, self.now_ms);
        if from != BUSINESS {
            return self.nodes[node].only_conversation().map(|(id, _)| id);
        }
        let user = self.devices[customer].user.clone()?;
        self.nodes[node].look(now, |engine, ctx| engine.conversation_of(ctx, &user).ok()?.map(|c| c.id))?
    }

    /// Somebody says something in a customer's conversation.
    pub(in crate::sim) fn talk(&mut self, from: usize, customer: usize) -> Option<[u8; 32]> {
        let node = self.devices[from].active;
        if self.is_superseded(node) || self.is_removed(from) {
            return None;
        }
        let conversation = self.conversation(from, customer)?;
        self.ledger.texts += 1;
        let text = format!("{CANARY} {}{}", if from == BUSINESS { "b" } else { "c" }, self.ledger.texts);
        let name = self.devices[if from == BUSINESS { customer } else { BUSINESS }].name.clone();
        self.tell_of(node, || format!("says to {name}: {}", text.replace(CANARY, "")));
        let (to, not_to) = self.listeners(from, customer, conversation);
        let line = Line { by: from, text: text.clone(), at_ms: self.now_ms, id: None, to, not_to };
        self.ledger.said.entry(customer).or_default().push(line);
        self.figures.said += 1;
        let draft = Draft::Text { body: text, reply_to: None };
        let cell: Arc<Mutex<Option<[u8; 32]>>> = Arc::default();
        let tell = Arc::clone(&cell);
        let answer = self.ask(node, move |engine, ctx| {
            let sent = engine.send(ctx, conversation, &draft).map(|m| *m.id.as_bytes());
            // Known to the test even if its sender is never told.
            if let (Ok(id), Ok(mut cell)) = (&sent, tell.lock()) {
                *cell = Some(*id);
            }
            sent.map_err(|e| e.to_string())
        });
        let id = take(&cell);
        if let Some(line) = self.ledger.said.get_mut(&customer).and_then(|lines| lines.last_mut()) {
            line.id = id;
        }
        match answer {
            Some(Err(why)) => {
                self.breaches.push(format!("{} cannot speak: {why}", self.devices[from].name));
                None
            }
            Some(Ok(id)) => Some(id),
            None => None,
        }
    }

    /// A frame that no endpoint sends: sabotage.
    pub(in crate::sim) fn smuggle(&mut self, frame: Bytes) {
        let Ok((request, ask)) = ClientFrame::from_bytes(frame) else { return };
        let (conn, _) = self.relay.connect(&mut self.chance, self.now_ms);
        self.relay.ask(conn, request, ask, self.now_ms, false);
    }

    /// Somebody reads what is there.
    pub(in crate::sim) fn read(&mut self, from: usize, customer: usize) {
        let node = self.devices[from].active;
        let Some(conversation) = self.conversation(from, customer) else { return };
        self.ask(node, move |engine, ctx| {
            let messages = engine.messages(ctx, conversation, None, 20).ok()?;
            let newest = messages.iter().rev().find(|m| m.direction == bulla_client::event::Direction::Incoming)?;
            engine.mark_read(ctx, &newest.id).ok()
        });
    }
}
