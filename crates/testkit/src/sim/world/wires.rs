//! Connections between endpoints and the relay, and what passes through them, honest or not.

use bulla_client::engine::LinkKey;
use bulla_protocol::frame::{ClientFrame, client_frame::Body as Ask, server_frame::Body as Answer};
use bulla_protocol::permit::Permit;
use bytes::Bytes;

use crate::sim::Sabotage;
use crate::sim::node::{Fate, Load, Waits, link_of};
use crate::sim::relay::{ConnId, Said};

use super::{BUSINESS, Faults, HALF_OPEN_MS, Happens, Wire, World};

impl World {
    /// Its connections end; the relay may not notice for a while.
    pub(super) fn hang_up(&mut self, node: usize) {
        let open: Vec<ConnId> = self.wires.iter().filter(|(_, w)| w.node == node).map(|(conn, _)| *conn).collect();
        for conn in open {
            let at = if self.chance.once_in(2) { self.now_ms } else { self.now_ms + HALF_OPEN_MS };
            self.at(at, Happens::HangUp { conn });
        }
    }

    /// Cuts an endpoint's connections, so that both ends notice.
    pub(in crate::sim) fn cut(&mut self, node: usize) {
        let open: Vec<ConnId> = self.wires.iter().filter(|(_, w)| w.node == node).map(|(conn, _)| *conn).collect();
        open.into_iter().for_each(|conn| self.cut_wire(conn));
    }

    fn cut_wire(&mut self, conn: ConnId) {
        let Some(wire) = self.wires.remove(&conn) else { return };
        let said = self.relay.close(conn, self.now_ms);
        self.say_all(said);
        let at = self.now_ms + 1;
        self.at(at, Happens::Lost { node: wire.node, run: wire.run, key: wire.key });
    }

    /// Cuts everything.
    pub(in crate::sim) fn cut_all(&mut self) {
        let open: Vec<ConnId> = self.wires.keys().copied().collect();
        open.into_iter().for_each(|conn| self.cut_wire(conn));
    }

    // ------------------------------------------------------------ wires

    pub(super) fn say_all(&mut self, said: Vec<Said>) {
        for (conn, request, answer) in said {
            self.say(conn, request, answer);
        }
    }

    /// The relay says something; the hostile one may say something else.
    fn say(&mut self, conn: ConnId, request: u64, answer: Answer) {
        if !self.wires.contains_key(&conn) {
            return;
        }
        let answers = self.malice.answers(conn, request, answer);
        self.send_to_endpoint(conn, answers);
        self.after_meddling(conn);
    }

    pub(super) fn send_to_endpoint(&mut self, conn: ConnId, answers: Vec<(u64, Answer)>) {
        for (request, answer) in answers {
            let delay = self.delay();
            let Some(wire) = self.wires.get_mut(&conn) else { return };
            wire.to_endpoint_ms = wire.to_endpoint_ms.max(self.now_ms + delay);
            let at = wire.to_endpoint_ms;
            self.at(at, Happens::ToEndpoint { conn, request, answer });
        }
    }

    pub(super) fn after_meddling(&mut self, conn: ConnId) {
        if self.malice.cuts(conn) {
            self.cut_wire(conn);
        } else if self.malice.waits(conn) {
            let at = self.now_ms + 20;
            if let Some(wire) = self.wires.get_mut(&conn)
                && !std::mem::replace(&mut wire.looks, true)
            {
                self.at(at, Happens::Look { conn });
            }
        }
    }

    pub(super) fn arrives(&mut self, conn: ConnId, frame: Bytes) {
        let Some(node) = self.wires.get(&conn).map(|w| w.node) else { return };
        let Ok((request, ask)) = ClientFrame::from_bytes(frame) else {
            let name = &self.nodes[node].name;
            return self.breaches.push(format!("{name} sends what is not a frame"));
        };
        match &ask {
            // Nothing here ends for being silent.
            Ask::Ping(_) => return,
            Ask::PublishBundle(publish) if self.nodes[node].device == BUSINESS => {
                self.bundles.push(publish.bundle.clone());
            }
            Ask::Send(send) if !self.ledger.loads.contains_key(&send.send_id) => {
                let to = send.permit.as_ref().and_then(|p| Permit::from_frame(p).ok()).map(|p| p.mailbox);
                let load = self.nodes[node].load(&send.send_id);
                let load = Load { to, ..load.unwrap_or_default() };
                self.ledger.loads.insert(send.send_id.clone(), load);
                self.ledger.envelopes.insert(send.envelope.clone(), load);
                self.figures.envelopes += 1;
            }
            Ask::Send(send) if !self.ledger.envelopes.contains_key(&send.envelope) => {
                let name = &self.nodes[node].name;
                self.breaches.push(format!("{name} sends other bytes than before under one send id"));
            }
            _ => {}
        }
        if self.trace.is_some() {
            let name = self.name_of(&ask);
            self.tell_of(node, || format!("→ {name}"));
        }
        let asked = self.malice.asks(conn, request, ask);
        if let Some(thrown) = asked.thrown {
            self.act(|| "the relay says Accepted to that and throws it away".into());
            self.ledger.thrown.insert(thrown);
        }
        self.send_to_endpoint(conn, asked.say);
        for (request, ask) in asked.pass {
            let hands_over = self.chance.once_in(2);
            let said = self.relay.ask(conn, request, ask, self.now_ms, hands_over);
            self.say_all(said);
            if hands_over {
                let at = self.now_ms + 5_001;
                self.at(at, Happens::Spill);
            }
        }
        self.after_meddling(conn);
    }

    pub(super) fn connect(&mut self, node: usize, run: u64, key: LinkKey) {
        if !self.nodes[node].links.contains_key(&link_of(&key)) {
            return;
        }
        if !self.nodes[node].reachable || self.now_ms < self.relay_down_until {
            return self.is_lost(node, run, key);
        }
        let (conn, hello) = self.relay.connect(&mut self.chance, self.now_ms);
        let wire =
            Wire { node, run, key: key.clone(), to_relay_ms: self.now_ms, to_endpoint_ms: self.now_ms, looks: false };
        self.wires.insert(conn, wire);
        if let Some(link) = self.nodes[node].links.get_mut(&link_of(&key)) {
            link.pause_ms = 0;
        }
        let at = self.now_ms + self.delay();
        if let Some(wire) = self.wires.get_mut(&conn) {
            wire.to_endpoint_ms = at;
        }
        self.at(at, Happens::Up { node, run, key, hello, conn });
    }

    /// Tells an endpoint that it has no connection, and tries again later.
    pub(super) fn is_lost(&mut self, node: usize, run: u64, key: LinkKey) {
        let Some(link) = self.nodes[node].links.get_mut(&link_of(&key)) else { return };
        let pause = if link.pause_ms == 0 { 250 } else { (link.pause_ms * 2).min(30_000) };
        link.pause_ms = pause;
        let wait = pause / 2 + self.chance.below(pause / 2 + 1);
        self.nodes[node].inbox.push_back(Waits::Down(key.clone(), wait));
        self.pass(node);
        if self.is_run(node, run) {
            let at = self.now_ms + wait;
            self.at(at, Happens::Connect { node, run, key });
        }
    }

    pub(super) fn fate(&mut self) -> Fate {
        let Faults { fails, dies } = self.faults;
        if fails > 0 && self.chance.once_in(fails) {
            if self.sabotage == Some(Sabotage::KeepsEffects) { Fate::FailsUnnoticed } else { Fate::Fails }
        } else if dies > 0 && self.chance.once_in(dies) {
            *self.chance.choose(&[Fate::DiesBefore, Fate::DiesAfter])
        } else {
            Fate::Done
        }
    }

    pub(super) fn delay(&mut self) -> u64 {
        let slow = self.slowest_ms > 20 && self.chance.once_in(8);
        1 + self.chance.below(if slow { self.slowest_ms } else { 20 })
    }
}
