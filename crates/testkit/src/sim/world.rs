//! Time, wires, endpoints and the relay of one run. Everything happens on one thread, in the order of a queue; all that is random comes from the
//! run's seed.

mod devices;
mod people;
mod trace;
mod wires;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use bulla_client::engine::{BusinessOptions, Effects, Engine, Input, LinkKey, RoleOptions, WorkFor};
use bulla_e2ee::continues::Reason;
use bulla_e2ee::identity::IdentityHash;
use bulla_e2ee::seals::Seal;
use bulla_e2ee::suite::Suites;
use bulla_protocol::frame::{ServerHello, server_frame::Body as Answer};
use bytes::Bytes;

use super::hostile::Malice;
use super::node::{Fate, Folder, Load, Node, Passed, Waits, link_of};
use super::relay::{ConnId, Durable, Relay};
use super::{Options, Sabotage};
use crate::chance::Chance;

pub(super) use devices::{BUSINESS, Device, Standing};

/// The relay's address, which nobody connects to.
const RELAY: &str = "wss://relay.test/v1/ws";

/// How long a dead peer's connection looks alive.
const HALF_OPEN_MS: u64 = 45_000;

/// Steps of one stretch of time after which something is taken to go round in circles.
const STEPS: u64 = 20_000;

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

/// Something that was said.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// The device that said it.
    pub(super) by: usize,
    pub(super) text: String,
    pub(super) at_ms: u64,
    /// Its id, if its sender was told.
    pub(super) id: Option<[u8; 32]>,
    /// The devices that its speaker had in the group then: they have to have it.
    pub(super) to: BTreeSet<usize>,
    /// The devices of which its speaker knew that they were removed: they must not have it.
    pub(super) not_to: BTreeSet<usize>,
}

/// What a run knows to be true, beside what endpoints believe.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    /// By the customer in whose conversation it was said, in the order of saying.
    pub(super) said: BTreeMap<usize, Vec<Line>>,
    /// What each envelope carries, by its send id.
    pub(super) loads: BTreeMap<Vec<u8>, Load>,
    /// The same, by the envelope's bytes.
    pub(super) envelopes: BTreeMap<Bytes, Load>,
    /// Send ids of what was thrown away after it was accepted.
    pub(super) thrown: BTreeSet<Vec<u8>>,
    /// Messages whose senders were told that they failed. One that was on its way to several devices may have come to some.
    pub(super) failed: BTreeSet<[u8; 32]>,
    /// Which device's state went back: which messages that state had, and when.
    pub(super) went_back: Vec<(usize, BTreeSet<[u8; 32]>, u64)>,
    /// Whose conversations began again, as his devices were told, and why.
    pub(super) began: Vec<(usize, Reason)>,
    /// What had been sealed before the run began.
    pub(super) seals: Vec<Seal>,
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
    devices: Vec<Device>,
    said: BTreeMap<usize, Vec<Line>>,
    texts: u64,
    bundles: Vec<Vec<u8>>,
    key: IdentityHash,
    seals: Vec<Seal>,
}

/// The world of one run.
pub(super) struct World {
    pub(super) now_ms: u64,
    pub(super) chance: Chance,
    pub(super) malice: Malice,
    pub(super) relay: Relay,
    pub(super) nodes: Vec<Node>,
    pub(super) devices: Vec<Device>,
    pub(super) ledger: Ledger,
    pub(super) faults: Faults,
    pub(super) breaches: Vec<String>,
    pub(super) trace: Option<Vec<String>>,
    live: bool,
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
    /// What the programs of devices speak, of those that are not like the scene's.
    programs: BTreeMap<usize, Suites>,
    program: Suites,
    /// Draws whose program is updated when it starts; nobody's, if there is none.
    pub(super) updates: Option<Chance>,
}

fn role(device: usize) -> RoleOptions {
    if device != BUSINESS {
        return RoleOptions::Customer;
    }
    RoleOptions::Business(BusinessOptions {
        handle: "cortado".into(),
        name: "Cortado Coffee".into(),
        relay_url: RELAY.into(),
        readers: vec![("Team".into(), "agents".into())],
        window_ms: WINDOW_MS,
        push_key: None,
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
            devices: Vec::new(),
            ledger: Ledger::default(),
            faults: Faults::default(),
            breaches: Vec::new(),
            trace: options.trace.then(Vec::new),
            live: options.live,
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
            programs: BTreeMap::new(),
            program: options.suites.unwrap_or_default(),
            updates: None,
        }
    }

    /// Goes on from a scene with its first so many people.
    pub(super) fn from(scene: &Scene, people: usize, chance: Chance, malice: Malice, options: &Options) -> Self {
        let mut world = Self::new(scene.now_ms, chance, malice, options);
        let sabotage = world.relay.sabotage;
        world.relay = Relay::new(scene.relay.clone());
        world.relay.sabotage = sabotage;
        let customers: Vec<usize> = (1..scene.devices.len()).filter(|d| scene.devices[*d].of == *d).collect();
        let devices = customers.get(people - 1).copied().unwrap_or(scene.devices.len());
        for (device, folder) in scene.devices.iter().zip(&scene.folders).take(devices) {
            let index = world.devices.len();
            let active = world.add_node(device.name.clone(), index, folder.clone());
            world.devices.push(Device { active, ..device.clone() });
        }
        let among = scene.said.iter().filter(|(customer, _)| **customer < devices);
        world.ledger.said = among.map(|(customer, lines)| (*customer, lines.clone())).collect();
        world.ledger.texts = scene.texts;
        world.ledger.seals.clone_from(&scene.seals);
        world.bundles.clone_from(&scene.bundles);
        world.key = Some(scene.key);
        world
    }

    /// What another run can begin with.
    pub(super) fn scene(&mut self) -> Scene {
        Scene {
            now_ms: self.now_ms,
            relay: self.relay.snapshot(),
            folders: self.devices.iter().map(|d| self.nodes[d.active].folder.clone()).collect(),
            devices: self.devices.clone(),
            said: self.ledger.said.clone(),
            texts: self.ledger.texts,
            bundles: self.bundles.clone(),
            key: self.key.expect("a scene has a business"),
            seals: self.nodes.iter().flat_map(|node| node.seals.iter().copied()).collect(),
        }
    }

    /// One more endpoint over a device's folder.
    pub(super) fn add_node(&mut self, name: String, device: usize, folder: Folder) -> usize {
        let seed = rand_core::RngCore::next_u64(&mut self.chance);
        self.nodes.push(Node::new(name, device, role(device), folder, seed));
        self.nodes.len() - 1
    }

    fn at(&mut self, at_ms: u64, happens: Happens) {
        self.sequence += 1;
        self.queue.insert((at_ms, self.sequence), happens);
    }

    // ------------------------------------------------------------ endpoints

    pub(super) fn is_running(&self, node: usize) -> bool {
        self.nodes[node].engine.is_some()
    }

    pub(super) fn is_superseded(&self, node: usize) -> bool {
        self.nodes[node].engine.as_ref().is_some_and(Engine::is_superseded)
    }

    /// Starts an endpoint; it is its device's from now on.
    pub(super) fn start(&mut self, node: usize, restored: bool) {
        if self.is_running(node) {
            return;
        }
        self.tell_of(node, || if restored { "starts, restored".into() } else { "starts".into() });
        let device = self.nodes[node].device;
        self.devices[device].active = node;
        if self.updates.as_mut().is_some_and(|chance| chance.once_in(3)) {
            self.installs(device, Suites::ALL);
        }
        self.nodes[node].suites = self.speaks(device);
        self.finds_failed(node);
        let effects = self.nodes[node].start(restored, self.now_ms);
        self.tell_logged(node);
        self.failed(node);
        self.release(node, effects);
    }

    /// What a device's program speaks.
    pub(super) fn speaks(&self, device: usize) -> Suites {
        self.programs.get(&device).copied().unwrap_or(self.program)
    }

    pub(super) fn installs(&mut self, device: usize, program: Suites) {
        self.programs.insert(device, program);
    }

    /// A device gets the newest program, and is started with it.
    pub(super) fn update(&mut self, device: usize) {
        let node = self.devices[device].active;
        self.installs(device, Suites::ALL);
        self.kill(node);
        self.start(node, false);
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

    /// The relay is killed, and cannot be reached for a while.
    pub(super) fn relay_dies(&mut self, for_ms: u64) {
        self.act(|| "the relay dies".into());
        self.relay.crash();
        self.cut_all();
        self.relay_down_until = self.now_ms + for_ms;
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
            self.tell_logged(node);
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
                Passed::ReloadedTooLate(both) => {
                    let (early, effects) = *both;
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
                let device = self.nodes[node].device;
                if self.nodes[node].run == run && self.devices[device].active == node {
                    self.start(node, false);
                }
            }
            _ => {}
        }
    }
}

fn take<R>(cell: &Mutex<Option<R>>) -> Option<R> {
    cell.lock().ok().and_then(|mut cell| cell.take())
}
