//! Time, wires, endpoints and the relay of one run. Everything happens on one thread, in the order of a queue; all that is random comes from the
//! run's seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bulla_client::engine::{Begin, BusinessOptions, Effects, Engine, Input, LinkKey, RoleOptions, WorkFor};
use bulla_client::event::{Connection, ConversationId, Draft, Event, Failure, Status};
use bulla_e2ee::identity::{IdentityHash, UserId};
use bulla_e2ee::link::Link;
use bulla_protocol::frame::{ClientFrame, ServerHello, client_frame::Body as Ask, server_frame::Body as Answer};
use bytes::Bytes;

use super::hostile::Malice;
use super::node::{Fate, Folder, Load, Node, Passed, Waits, command, link_of};
use super::relay::{ConnId, DAY_MS, Durable, Relay, Said};
use super::{CANARY, Options, Sabotage};
use crate::chance::Chance;

/// The relay's address, which nobody connects to.
const RELAY: &str = "wss://relay.test/v1/ws";

/// How long a dead peer's connection looks alive.
const HALF_OPEN_MS: u64 = 45_000;

/// Steps of one stretch of time after which something is taken to go round in circles.
const STEPS: u64 = 4_000;

/// The window in which a business may answer.
pub(super) const WINDOW_MS: u64 = 24 * 3_600_000;

enum Happens {
    /// An endpoint tries to connect.
    Connect { node: usize, run: u64, key: LinkKey },
    /// A connection stands.
    Up { node: usize, run: u64, key: LinkKey, hello: ServerHello, conn: ConnId },
    /// An endpoint hears that a connection is lost.
    Lost { node: usize, run: u64, key: LinkKey },
    /// A frame arrives at the relay.
    ToRelay { conn: ConnId, frame: Bytes },
    /// A frame arrives at an endpoint.
    ToEndpoint { conn: ConnId, request: u64, answer: Answer },
    /// The hostile relay looks at what it holds back.
    Look { conn: ConnId },
    /// The relay finds out that the other end is gone.
    HangUp { conn: ConnId },
    /// The relay stores what waited too long.
    Spill,
    /// Something is there for the engine.
    Input { node: usize, run: u64, input: Input },
    /// Whoever looks after the program starts it again.
    Restart { node: usize, run: u64 },
}

struct Wire {
    node: usize,
    run: u64,
    key: LinkKey,
    to_relay_ms: u64,
    to_endpoint_ms: u64,
    looks: bool,
}

/// How an endpoint's machine treats it. One in so many commits; 0: never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// The store fails.
    pub fails: u64,
    /// The process dies, before or after the commit.
    pub dies: u64,
}

/// Somebody in a run: the business, or a customer.
#[derive(Debug, Clone)]
pub(super) struct Person {
    pub(super) name: String,
    /// The endpoint that was started last.
    pub(super) active: usize,
    /// At a customer: who it is, once it has begun.
    pub(super) user: Option<UserId>,
}

/// Something that was said.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) at_ms: u64,
    /// Its id, if its sender was told.
    pub(super) id: Option<[u8; 32]>,
}

/// What a run knows to be true, beside what endpoints believe.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    /// By speaker and listener, in the order of saying.
    pub(super) said: BTreeMap<(usize, usize), Vec<Line>>,
    /// What each envelope carries, by its send id.
    pub(super) loads: BTreeMap<Vec<u8>, Load>,
    /// The same, by the envelope's bytes.
    pub(super) envelopes: BTreeMap<Bytes, Load>,
    /// Send ids of what was thrown away after it was accepted.
    pub(super) thrown: BTreeSet<Vec<u8>>,
    /// Whose state went back: which messages that state had, and when.
    pub(super) went_back: Vec<(usize, BTreeSet<[u8; 32]>, u64)>,
    /// Good permits were refused, or the relay forgot mailboxes: messages may fail for it.
    pub(super) denied: bool,
    texts: u64,
}

/// A run's beginning that can be used again: everything is set up and at rest.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    now_ms: u64,
    relay: Durable,
    folders: Vec<Folder>,
    people: Vec<Person>,
    said: BTreeMap<(usize, usize), Vec<Line>>,
    texts: u64,
    bundles: Vec<Vec<u8>>,
    key: IdentityHash,
}

/// The world of one run.
pub(super) struct World {
    pub(super) now_ms: u64,
    pub(super) chance: Chance,
    pub(super) malice: Malice,
    pub(super) relay: Relay,
    pub(super) nodes: Vec<Node>,
    pub(super) people: Vec<Person>,
    pub(super) ledger: Ledger,
    pub(super) faults: Faults,
    pub(super) breaches: Vec<String>,
    pub(super) trace: Option<Vec<String>>,
    pub(super) key: Option<IdentityHash>,
    /// The relay cannot be reached before this time.
    pub(super) relay_down_until: u64,
    /// Longest delay of a frame.
    pub(super) slowest_ms: u64,
    sabotage: Option<Sabotage>,
    wires: BTreeMap<ConnId, Wire>,
    queue: BTreeMap<(u64, u64), Happens>,
    sequence: u64,
    bundles: Vec<Vec<u8>>,
    begun_ms: u64,
    commits: u64,
    pub(super) figures: super::Figures,
}

/// The business is the first person.
pub(super) const BUSINESS: usize = 0;

fn role(person: usize) -> RoleOptions {
    if person != BUSINESS {
        return RoleOptions::Customer;
    }
    RoleOptions::Business(BusinessOptions {
        handle: "cortado".into(),
        name: "Cortado Coffee".into(),
        relay_url: RELAY.into(),
        readers: vec![("Team".into(), "agents".into())],
        window_ms: WINDOW_MS,
    })
}

impl World {
    /// A relay, and nobody.
    pub(super) fn new(begun_ms: u64, mut chance: Chance, malice: Malice, options: &Options) -> Self {
        let mut relay = Relay::new(Durable::new(&mut chance));
        relay.sabotage = options.sabotage.and_then(Sabotage::of_relay);
        Self {
            now_ms: begun_ms,
            chance,
            malice,
            relay,
            nodes: Vec::new(),
            people: Vec::new(),
            ledger: Ledger::default(),
            faults: Faults::default(),
            breaches: Vec::new(),
            trace: options.trace.then(Vec::new),
            key: None,
            relay_down_until: 0,
            slowest_ms: 20,
            sabotage: options.sabotage,
            wires: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            bundles: Vec::new(),
            begun_ms,
            commits: 0,
            figures: super::Figures::default(),
        }
    }

    /// Goes on from a scene with its first `people`.
    pub(super) fn from(scene: &Scene, people: usize, chance: Chance, malice: Malice, options: &Options) -> Self {
        let mut world = Self::new(scene.now_ms, chance, malice, options);
        let sabotage = world.relay.sabotage;
        world.relay = Relay::new(scene.relay.clone());
        world.relay.sabotage = sabotage;
        for (person, folder) in scene.people.iter().zip(&scene.folders).take(people) {
            let index = world.join(&person.name, folder.clone());
            world.people[index].user.clone_from(&person.user);
        }
        let among = |(a, b): &(usize, usize)| *a < people && *b < people;
        world.ledger.said = scene.said.iter().filter(|(lane, _)| among(lane)).map(|(l, s)| (*l, s.clone())).collect();
        world.ledger.texts = scene.texts;
        world.bundles.clone_from(&scene.bundles);
        world.key = Some(scene.key);
        world
    }

    /// What another run can begin with.
    pub(super) fn scene(&mut self) -> Scene {
        Scene {
            now_ms: self.now_ms,
            relay: self.relay.snapshot(),
            folders: self.people.iter().map(|p| self.nodes[p.active].folder.clone()).collect(),
            people: self.people.clone(),
            said: self.ledger.said.clone(),
            texts: self.ledger.texts,
            bundles: self.bundles.clone(),
            key: self.key.expect("a scene has a business"),
        }
    }

    /// Somebody with a folder; its endpoint is not started.
    pub(super) fn join(&mut self, name: &str, folder: Folder) -> usize {
        let person = self.people.len();
        let active = self.add_node(name.to_owned(), person, folder);
        self.people.push(Person { name: name.to_owned(), active, user: None });
        person
    }

    /// One more endpoint of somebody.
    pub(super) fn add_node(&mut self, name: String, person: usize, folder: Folder) -> usize {
        let seed = rand_core::RngCore::next_u64(&mut self.chance);
        self.nodes.push(Node::new(name, person, role(person), folder, seed));
        self.nodes.len() - 1
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let line = line();
            trace.push(line);
        }
    }

    /// A line of the trace, with the time since the run began.
    fn tell(&mut self, who: &str, what: impl FnOnce() -> String) {
        let since = self.now_ms - self.begun_ms;
        let (days, ms) = (since / DAY_MS, since % DAY_MS);
        self.note(|| format!("{days:>2}d {:>9.3}s {who:<10} {}", ms as f64 / 1000.0, what()));
    }

    /// A line of the trace about the whole world.
    pub(super) fn act(&mut self, what: impl FnOnce() -> String) {
        self.tell("──", what);
    }

    fn tell_of(&mut self, node: usize, what: impl FnOnce() -> String) {
        if self.trace.is_some() {
            let name = self.nodes[node].name.clone();
            self.tell(&name, what);
        }
    }

    fn at(&mut self, at_ms: u64, happens: Happens) {
        self.sequence += 1;
        self.queue.insert((at_ms, self.sequence), happens);
    }

    fn delay(&mut self) -> u64 {
        let slow = self.slowest_ms > 20 && self.chance.once_in(8);
        1 + self.chance.below(if slow { self.slowest_ms } else { 20 })
    }

    // ------------------------------------------------------------ endpoints

    pub(super) fn is_running(&self, node: usize) -> bool {
        self.nodes[node].engine.is_some()
    }

    pub(super) fn is_superseded(&self, node: usize) -> bool {
        self.nodes[node].engine.as_ref().is_some_and(Engine::is_superseded)
    }

    /// Starts an endpoint; it is its person's from now on.
    pub(super) fn start(&mut self, node: usize, restored: bool) {
        if self.is_running(node) {
            return;
        }
        self.tell_of(node, || if restored { "starts, restored".into() } else { "starts".into() });
        self.people[self.nodes[node].person].active = node;
        let effects = self.nodes[node].start(restored, self.now_ms);
        self.failed(node);
        self.release(node, effects);
    }

    /// kill -9.
    pub(super) fn kill(&mut self, node: usize) {
        if !self.is_running(node) {
            return;
        }
        self.tell_of(node, || "dies".into());
        self.nodes[node].kill();
        self.hang_up(node);
    }

    /// Its connections end; the relay may not notice for a while.
    fn hang_up(&mut self, node: usize) {
        let open: Vec<ConnId> = self.wires.iter().filter(|(_, w)| w.node == node).map(|(conn, _)| *conn).collect();
        for conn in open {
            let at = if self.chance.once_in(2) { self.now_ms } else { self.now_ms + HALF_OPEN_MS };
            self.at(at, Happens::HangUp { conn });
        }
    }

    /// Cuts an endpoint's connections, so that both ends notice.
    pub(super) fn cut(&mut self, node: usize) {
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

    /// The relay is killed, and cannot be reached for a while.
    pub(super) fn relay_dies(&mut self, for_ms: u64) {
        self.act(|| "the relay dies".into());
        self.relay.crash();
        self.cut_all();
        self.relay_down_until = self.now_ms + for_ms;
    }

    /// Cuts everything.
    pub(super) fn cut_all(&mut self) {
        let open: Vec<ConnId> = self.wires.keys().copied().collect();
        open.into_iter().for_each(|conn| self.cut_wire(conn));
    }

    /// Runs whatever waits at an endpoint.
    fn pass(&mut self, node: usize) {
        for _ in 0..10_000 {
            if !self.is_running(node) {
                return;
            }
            let most = 1 + self.chance.below(6) as usize;
            let mut inputs = self.nodes[node].batch(most);
            if self.nodes[node].wake_at().is_some_and(|at| at <= self.now_ms) {
                inputs.push(Input::Tick);
            }
            if inputs.is_empty() {
                return;
            }
            self.commits += 1;
            let fate = self.fate();
            let passed = self.nodes[node].pass(inputs, fate, self.now_ms);
            if self.sabotage == Some(Sabotage::LosesMessageIds) && self.commits.is_multiple_of(5) {
                self.nodes[node].folder.disk.lose(bulla_client::store::Table::MessageIds);
            }
            self.failed(node);
            match passed {
                Passed::Released(effects) => self.release(node, effects),
                Passed::Reloaded(effects) => {
                    self.tell_of(node, || "its store failed; it loads again".into());
                    self.figures.failed_commits += 1;
                    self.close_links(node);
                    self.release(node, effects);
                }
                Passed::ReloadedTooLate(early, effects) => {
                    self.release(node, early);
                    self.close_links(node);
                    self.release(node, effects);
                }
                Passed::Died => {
                    let when = if fate == Fate::DiesBefore { "before" } else { "after" };
                    self.tell_of(node, || format!("dies {when} a commit"));
                    self.figures.kills += 1;
                    self.nodes[node].kill();
                    self.hang_up(node);
                    let (at, run) = (self.now_ms + 1 + self.chance.below(4_000), self.nodes[node].run);
                    self.at(at, Happens::Restart { node, run });
                }
            }
        }
        self.breaches.push(format!("I8 {} never comes to rest", self.nodes[node].name));
    }

    fn fate(&mut self) -> Fate {
        let Faults { fails, dies } = self.faults;
        if fails > 0 && self.chance.once_in(fails) {
            if self.sabotage == Some(Sabotage::KeepsEffects) { Fate::FailsUnnoticed } else { Fate::Fails }
        } else if dies > 0 && self.chance.once_in(dies) {
            *self.chance.choose(&[Fate::DiesBefore, Fate::DiesAfter])
        } else {
            Fate::Done
        }
    }

    fn failed(&mut self, node: usize) {
        if let Some(why) = self.nodes[node].failed.take() {
            let name = &self.nodes[node].name;
            self.breaches.push(format!("{name}: {why}"));
        }
    }

    /// What connections had brought before is still there for the engine, as it is for the real one.
    fn close_links(&mut self, node: usize) {
        self.nodes[node].links.clear();
        let run = self.nodes[node].run + 1;
        self.nodes[node].run = run;
        let open: Vec<ConnId> = self.wires.iter().filter(|(_, w)| w.node == node).map(|(conn, _)| *conn).collect();
        for conn in open {
            self.wires.remove(&conn);
            let said = self.relay.close(conn, self.now_ms);
            self.say_all(said);
        }
    }

    fn release(&mut self, node: usize, effects: Effects) {
        let run = self.nodes[node].run;
        for key in &effects.disconnect {
            if let Some(conn) = self.nodes[node].links.remove(&link_of(key)).and_then(|l| l.conn) {
                self.wires.remove(&conn);
                let said = self.relay.close(conn, self.now_ms);
                self.say_all(said);
            }
        }
        for key in effects.connect {
            self.nodes[node].links.entry(link_of(&key)).or_default();
            let at = self.now_ms + self.delay();
            self.at(at, Happens::Connect { node, run, key });
        }
        let mut frames = effects.frames;
        // An engine's order between links is a hash map's.
        frames.sort_by_key(|(key, _)| link_of(key));
        for (key, frame) in frames {
            let Some(conn) = self.nodes[node].links.get(&link_of(&key)).and_then(|l| l.conn) else { continue };
            let delay = self.delay();
            let Some(wire) = self.wires.get_mut(&conn) else { continue };
            wire.to_relay_ms = wire.to_relay_ms.max(self.now_ms + delay);
            let at = wire.to_relay_ms;
            self.at(at, Happens::ToRelay { conn, frame });
        }
        for (what, task, bits) in effects.work {
            let nonce = (0..).find_map(|from| task.search(bits, from * 64, 64)).unwrap_or(0);
            let at = self.now_ms + self.delay();
            self.at(at, Happens::Input { node, run, input: Input::Work(what, nonce) });
        }
        for (number, _) in effects.fetch {
            let back = self.malice.old_bundle(self.bundles.len());
            let Some(bundle) = self.bundles.iter().rev().nth(back).cloned() else { continue };
            let at = self.now_ms + self.delay();
            self.at(at, Happens::Input { node, run, input: Input::Fetched(number, bundle) });
        }
        for event in effects.events {
            self.hears(node, &event);
        }
        effects.replies.into_iter().for_each(|reply| reply());
    }

    /// What a person would see.
    fn hears(&mut self, node: usize, event: &Event) {
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
        let business = self.nodes[node].person == BUSINESS;
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
        if !right {
            let name = &self.nodes[node].name;
            self.breaches
                .push(format!("I1 lost: {name}'s {:?} failed without a reason: {:?}", message.shown, message.failure));
        }
    }

    // ------------------------------------------------------------ wires

    fn say_all(&mut self, said: Vec<Said>) {
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

    fn send_to_endpoint(&mut self, conn: ConnId, answers: Vec<(u64, Answer)>) {
        for (request, answer) in answers {
            let delay = self.delay();
            let Some(wire) = self.wires.get_mut(&conn) else { return };
            wire.to_endpoint_ms = wire.to_endpoint_ms.max(self.now_ms + delay);
            let at = wire.to_endpoint_ms;
            self.at(at, Happens::ToEndpoint { conn, request, answer });
        }
    }

    fn after_meddling(&mut self, conn: ConnId) {
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

    fn arrives(&mut self, conn: ConnId, frame: Bytes) {
        let Some(node) = self.wires.get(&conn).map(|w| w.node) else { return };
        let Ok((request, ask)) = ClientFrame::from_bytes(frame) else {
            let name = &self.nodes[node].name;
            return self.breaches.push(format!("{name} sends what is not a frame"));
        };
        match &ask {
            // Nothing here ends for being silent.
            Ask::Ping(_) => return,
            Ask::PublishBundle(publish) if self.nodes[node].person == BUSINESS => {
                self.bundles.push(publish.bundle.clone());
            }
            Ask::Send(send) if !self.ledger.loads.contains_key(&send.send_id) => {
                let load = self.nodes[node].load(&send.send_id, self.now_ms);
                let load = load.unwrap_or(Load { message: None, kind: None });
                self.ledger.loads.insert(send.send_id.clone(), load);
                self.ledger.envelopes.insert(send.envelope.clone(), load);
                self.figures.envelopes += 1;
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

    fn text_of(&self, id: &[u8; 32]) -> String {
        let line = self.ledger.said.values().flatten().find(|line| line.id == Some(*id));
        line.map_or_else(|| "?".into(), |line| line.text.replace(CANARY, ""))
    }

    fn name_of(&self, ask: &Ask) -> String {
        match ask {
            Ask::Send(send) => {
                let load = self.ledger.loads.get(&send.send_id);
                let kind = match load.and_then(|l| l.kind) {
                    None => "Hello",
                    Some(1) => "message",
                    Some(2) => "Hello again",
                    Some(3) => "continues",
                    Some(4) => "commit",
                    Some(_) => "?",
                };
                let text = load.and_then(|l| l.message).map_or_else(String::new, |id| self.text_of(&id));
                format!("Send {kind} {text}")
            }
            Ask::Open(open) => format!("Open {}", open.incarnation),
            Ask::Ack(ack) => format!("Ack {}", ack.through),
            Ask::ClaimSlot(_) => "ClaimSlot".into(),
            Ask::ReadSlot(_) => "ReadSlot".into(),
            Ask::Hello(_) => "Hello".into(),
            Ask::Create(_) => "Create".into(),
            Ask::Subscribe(_) => "Subscribe".into(),
            Ask::PublishBundle(_) => "PublishBundle".into(),
            _ => "…".into(),
        }
    }

    fn name_of_answer(&self, answer: &Answer) -> String {
        match answer {
            Answer::Deliver(deliver) => {
                let load = self.ledger.envelopes.get(&deliver.envelope);
                let what = match load {
                    None => "unknown bytes".into(),
                    Some(Load { message: Some(id), .. }) => self.text_of(id),
                    Some(load) => format!("kind {:?}", load.kind),
                };
                format!("Deliver {}: {what}", deliver.number)
            }
            Answer::Failed(failed) => format!("Failed {:?}", failed.code()),
            Answer::SlotClaimed(claimed) => {
                if claimed.won {
                    "Won".into()
                } else {
                    format!("Lost, {} bytes", claimed.winner.len())
                }
            }
            Answer::SlotRead(read) => format!("SlotRead, {} bytes", read.commit.len()),
            Answer::Superseded(_) => "Superseded".into(),
            Answer::Accepted(_) => "Accepted".into(),
            Answer::Gap(gap) => format!("Gap of {}", gap.envelopes),
            Answer::Done(_) => "Done".into(),
            Answer::Subscribed(_) => "Subscribed".into(),
            Answer::CaughtUp(_) => "CaughtUp".into(),
            Answer::Hello(_) => "Hello".into(),
        }
    }

    // ------------------------------------------------------------ time

    /// Lets time pass, with everything that happens in it.
    pub(super) fn run_for(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        for _ in 0..STEPS {
            if !self.breaches.is_empty() || !self.step(until) {
                self.now_ms = self.now_ms.max(until);
                return;
            }
        }
        self.breaches.push(format!("I8 {STEPS} steps in {ms} ms: it goes round in circles"));
    }

    /// Lets time pass in which all sleep: afterwards everything is late.
    pub(super) fn jump(&mut self, ms: u64) {
        self.now_ms += ms;
        let said = self.relay.later(self.now_ms);
        self.say_all(said);
    }

    fn step(&mut self, until: u64) -> bool {
        let due = (0..self.nodes.len()).filter_map(|n| Some((self.nodes[n].wake_at()?, n))).min();
        let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
        match (due, queued) {
            (Some((at, node)), queued) if at <= until && queued.is_none_or(|q| at <= q) => {
                self.now_ms = self.now_ms.max(at);
                self.pass(node);
                true
            }
            (_, Some(at)) if at <= until => {
                self.now_ms = self.now_ms.max(at);
                if let Some((_, happens)) = self.queue.pop_first() {
                    self.handle(happens);
                }
                true
            }
            _ => false,
        }
    }

    fn is_run(&self, node: usize, run: u64) -> bool {
        self.nodes[node].run == run && self.is_running(node)
    }

    fn handle(&mut self, happens: Happens) {
        match happens {
            Happens::Connect { node, run, key } if self.is_run(node, run) => self.connect(node, run, key),
            Happens::Up { node, run, key, hello, conn } if self.is_run(node, run) => {
                if !self.wires.contains_key(&conn) || !self.nodes[node].links.contains_key(&link_of(&key)) {
                    return;
                }
                self.tell_of(node, || format!("is connected{}", if key.owner { "" } else { ", anonymously" }));
                self.nodes[node].inbox.push_back(Waits::Up(key, hello, conn));
                self.pass(node);
            }
            Happens::Lost { node, run, key } if self.is_run(node, run) => self.is_lost(node, run, key),
            Happens::ToRelay { conn, frame } => self.arrives(conn, frame),
            Happens::ToEndpoint { conn, request, answer } => {
                let Some((node, run, key)) = self.wires.get(&conn).map(|w| (w.node, w.run, w.key.clone())) else {
                    return;
                };
                if !self.is_run(node, run) {
                    return;
                }
                if self.trace.is_some() {
                    let name = self.name_of_answer(&answer);
                    self.tell_of(node, || format!("← {name}"));
                }
                self.nodes[node].inbox.push_back(Waits::Input(Input::Frame(key, request, answer)));
                self.pass(node);
            }
            Happens::Look { conn } => {
                if let Some(wire) = self.wires.get_mut(&conn) {
                    wire.looks = false;
                    let answers = self.malice.later(conn);
                    self.send_to_endpoint(conn, answers);
                    self.after_meddling(conn);
                }
            }
            Happens::HangUp { conn } => {
                self.wires.remove(&conn);
                let said = self.relay.close(conn, self.now_ms);
                self.say_all(said);
            }
            Happens::Spill => {
                let said = self.relay.later(self.now_ms);
                self.say_all(said);
            }
            Happens::Input { node, run, input } if self.is_run(node, run) => {
                // Work for a connection that is gone is an answer to nobody; the engine has to see that.
                let late = matches!(&input, Input::Work(WorkFor::Mailbox(..), _)) && self.chance.once_in(50);
                self.nodes[node].inbox.push_back(Waits::Input(input));
                if !late {
                    self.pass(node);
                }
            }
            Happens::Restart { node, run } => {
                let person = self.nodes[node].person;
                if self.nodes[node].run == run && self.people[person].active == node {
                    self.start(node, false);
                }
            }
            _ => {}
        }
    }

    fn connect(&mut self, node: usize, run: u64, key: LinkKey) {
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
    fn is_lost(&mut self, node: usize, run: u64, key: LinkKey) {
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

    // ------------------------------------------------------------ what programs do

    /// Asks an endpoint's engine for something. `None`: it does not run, or it died over it, and nobody knows.
    pub(super) fn ask<R: Send + 'static>(
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
    pub(super) fn open_shop(&mut self) {
        let node = self.people[BUSINESS].active;
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
    pub(super) fn begin(&mut self, person: usize) {
        let node = self.people[person].active;
        let (Some(key), Some(bundle)) = (self.key, self.bundles.last().cloned()) else { return };
        let Ok(link) = Link::new("https://shop.example", "cortado", key, Some("flyer")) else { return };
        let begin = Begin { name: Some(self.people[person].name.clone()), pseudonym: None };
        let begun = self.ask(node, move |engine, ctx| engine.begin(ctx, &link, &bundle, &begin));
        if let Some(Ok(conversation)) = begun {
            self.people[person].user = Some(conversation.user_id);
        }
    }

    /// Where somebody talks to somebody else.
    pub(super) fn conversation(&mut self, from: usize, to: usize) -> Option<ConversationId> {
        let (node, now) = (self.people[from].active, self.now_ms);
        if from != BUSINESS {
            return self.nodes[node].look(now, |engine, ctx| engine.conversations(ctx).ok()?.last().map(|c| c.id))?;
        }
        let user = self.people[to].user.clone()?;
        self.nodes[node].look(now, |engine, ctx| engine.conversation_of(ctx, &user).ok()?.map(|c| c.id))?
    }

    /// Somebody says something to somebody.
    pub(super) fn talk(&mut self, from: usize, to: usize) -> Option<[u8; 32]> {
        let node = self.people[from].active;
        if self.is_superseded(node) {
            return None;
        }
        let conversation = self.conversation(from, to)?;
        self.ledger.texts += 1;
        let text = format!("{CANARY} {}{}", if from == BUSINESS { "b" } else { "c" }, self.ledger.texts);
        let name = self.people[to].name.clone();
        self.tell_of(node, || format!("says to {name}: {}", text.replace(CANARY, "")));
        let line = Line { text: text.clone(), at_ms: self.now_ms, id: None };
        self.ledger.said.entry((from, to)).or_default().push(line);
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
        if let Some(line) = self.ledger.said.get_mut(&(from, to)).and_then(|lines| lines.last_mut()) {
            line.id = id;
        }
        match answer {
            Some(Err(why)) => {
                self.breaches.push(format!("{} cannot speak: {why}", self.people[from].name));
                None
            }
            Some(Ok(id)) => Some(id),
            None => None,
        }
    }

    /// A frame that no endpoint sends: sabotage.
    pub(super) fn smuggle(&mut self, frame: Bytes) {
        let Ok((request, ask)) = ClientFrame::from_bytes(frame) else { return };
        let (conn, _) = self.relay.connect(&mut self.chance, self.now_ms);
        self.relay.ask(conn, request, ask, self.now_ms, false);
    }

    /// Somebody reads what is there.
    pub(super) fn read(&mut self, from: usize, to: usize) {
        let node = self.people[from].active;
        let Some(conversation) = self.conversation(from, to) else { return };
        self.ask(node, move |engine, ctx| {
            let messages = engine.messages(ctx, conversation, None, 20).ok()?;
            let newest = messages.iter().rev().find(|m| m.direction == bulla_client::event::Direction::Incoming)?;
            engine.mark_read(ctx, &newest.id).ok()
        });
    }
}

fn take<R>(cell: &Mutex<Option<R>>) -> Option<R> {
    cell.lock().ok().and_then(|mut cell| cell.take())
}
