//! The endpoints of a run: the business's, and one to three devices of each customer.

use std::collections::BTreeSet;

use bulla_client::event::{ConversationId, ConversationState};
use bulla_e2ee::identity::UserId;

use crate::sim::node::Folder;

use super::World;

/// The business's endpoint is the first device.
pub(in crate::sim) const BUSINESS: usize = 0;

/// Devices of one customer, at most.
const DEVICES: usize = 3;

/// How a customer's further device stands in the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) enum Standing {
    /// It has an invitation, and has not come in yet.
    Invited,
    /// It is in. The business's endpoint and first devices always are.
    In,
    /// It was removed, or its inviter went back to before it came in and knows nothing of it: it may be there or not.
    Gone,
}

/// The business's endpoint, or a device of a customer's.
#[derive(Debug, Clone)]
pub(in crate::sim) struct Device {
    pub(in crate::sim) name: String,
    /// Whose it is: the customer's first device. That one is itself.
    pub(in crate::sim) of: usize,
    /// The endpoint over its folder that was started last.
    pub(in crate::sim) active: usize,
    /// At a customer's first device: who it is, once it has begun.
    pub(in crate::sim) user: Option<UserId>,
    pub(in crate::sim) standing: Standing,
    /// When it ceased to be one of the customer's, Unix ms.
    pub(in crate::sim) gone_ms: u64,
    /// With what a further device comes in.
    pub(super) invitation: Vec<u8>,
}

impl World {
    /// Somebody with a folder; its endpoint is not started.
    pub(in crate::sim) fn join(&mut self, name: &str) -> usize {
        let index = self.devices.len();
        self.new_device(name.to_owned(), index, Standing::In, Vec::new())
    }

    fn new_device(&mut self, name: String, of: usize, standing: Standing, invitation: Vec<u8>) -> usize {
        let index = self.devices.len();
        let active = self.add_node(name.clone(), index, Folder::default());
        self.devices.push(Device { name, of, active, user: None, standing, gone_ms: 0, invitation });
        index
    }

    /// The customers, by their first devices.
    pub(in crate::sim) fn customers(&self) -> Vec<usize> {
        (BUSINESS + 1..self.devices.len()).filter(|d| self.devices[*d].of == *d).collect()
    }

    /// A customer's devices that stand so.
    pub(in crate::sim) fn devices_of(&self, customer: usize, standing: Standing) -> Vec<usize> {
        let fits = |d: &usize| self.devices[*d].of == customer && self.devices[*d].standing == standing;
        (BUSINESS + 1..self.devices.len()).filter(fits).collect()
    }

    /// How far a device's conversation is.
    pub(in crate::sim) fn state(&self, device: usize) -> Option<ConversationState> {
        self.nodes[self.devices[device].active].only_conversation().map(|(_, state)| state)
    }

    pub(in crate::sim) fn is_removed(&self, device: usize) -> bool {
        self.devices[device].of != device && self.state(device) == Some(ConversationState::Removed)
    }

    /// The devices that have to hear what somebody says in a conversation now, those that he has in its group; and those that must not, of
    /// which he knows that they were removed.
    pub(super) fn listeners(
        &self,
        from: usize,
        customer: usize,
        conversation: ConversationId,
    ) -> (BTreeSet<usize>, BTreeSet<usize>) {
        let (mut to, mut not_to) = (BTreeSet::new(), BTreeSet::new());
        for (name, is_in) in self.nodes[self.devices[from].active].knows(conversation) {
            let named = |d: &usize| self.devices[*d].of == customer && self.name_in_group(*d).as_ref() == Some(&name);
            let device = (BUSINESS + 1..self.devices.len()).find(named);
            if is_in { to.extend(device) } else { not_to.extend(device) }
        }
        to.extend((from != BUSINESS).then_some(BUSINESS));
        (to, not_to)
    }

    /// A device's name among its customer's.
    fn name_in_group(&self, device: usize) -> Option<String> {
        let node = &self.nodes[self.devices[device].active];
        node.record(node.only_conversation()?.0)?.endpoint
    }

    /// Whether a folder of somebody's knows a device of the same customer.
    pub(in crate::sim) fn knows_device(&self, who: usize, device: usize) -> bool {
        let node = &self.nodes[self.devices[who].active];
        let Some((conversation, _)) = node.only_conversation() else { return false };
        self.name_in_group(device).is_some_and(|name| node.knows(conversation).contains(&(name, true)))
    }

    /// A customer gets one more device, if that may be; it has not come in yet.
    pub(in crate::sim) fn invite(&mut self, customer: usize) -> Option<usize> {
        let count = [Standing::Invited, Standing::In].map(|s| self.devices_of(customer, s).len()).iter().sum::<usize>();
        let (node, conversation) = (self.devices[customer].active, self.conversation(customer, customer)?);
        if count >= DEVICES || self.is_superseded(node) {
            return None;
        }
        let invitation = self.ask(node, move |engine, ctx| engine.invite(ctx, conversation))?.ok()?.to_vec();
        let name = format!("{}+{}", self.devices[customer].name, self.devices.len());
        let device = self.new_device(name, customer, Standing::Invited, invitation);
        self.act(|| "a device is invited".into());
        // Who gets a new device gets the program that he has.
        self.installs(device, self.speaks(customer));
        self.start(self.devices[device].active, false);
        self.come_in(device);
        Some(device)
    }

    /// An invited device says that it is there, if it has not yet.
    pub(in crate::sim) fn come_in(&mut self, device: usize) {
        let node = self.devices[device].active;
        if self.nodes[node].only_conversation().is_none() {
            let invitation = self.devices[device].invitation.clone();
            self.ask(node, move |engine, ctx| engine.accept_invitation(ctx, &invitation).map_err(|e| e.to_string()));
        }
    }

    /// Looks which of the invited devices have come in.
    pub(in crate::sim) fn look_who_came_in(&mut self) {
        for device in BUSINESS + 1..self.devices.len() {
            if self.devices[device].standing == Standing::Invited && self.state(device) == Some(ConversationState::Open)
            {
                self.devices[device].standing = Standing::In;
            }
        }
    }

    /// A device of a customer's removes another.
    pub(in crate::sim) fn remove(&mut self, by: usize, device: usize) {
        let (node, name) = (self.devices[by].active, self.name_in_group(device));
        let (Some((conversation, _)), Some(name)) = (self.nodes[node].only_conversation(), name) else { return };
        if !self.knows_device(by, device) || self.is_superseded(node) || !self.is_running(node) {
            return;
        }
        let gone = self.devices[device].name.clone();
        self.tell_of(node, || format!("removes {gone}"));
        self.is_gone(device);
        self.ask(node, move |engine, ctx| engine.remove_device(ctx, conversation, &name).map_err(|e| e.to_string()));
    }

    /// From now on a device need not be there.
    pub(in crate::sim) fn is_gone(&mut self, device: usize) {
        self.devices[device].standing = Standing::Gone;
        self.devices[device].gone_ms = self.now_ms;
    }
}
