//! What happens in a run, drawn from its seed.

use bulla_client::event::ConversationState;
use bulla_e2ee::suite::{Suite, Suites};
use bulla_protocol::frame::{ClientFrame, PublishBundle, client_frame};

use super::hostile::{Malice, Powers};
use super::node::{Folder, Node};
use super::relay::{DAY_MS, Durable};
use super::world::{BUSINESS, Faults, Scene, Standing, World};
use super::{CANARY, Options, Sabotage};
use crate::chance::Chance;

/// Customers of the scene: the first has one device, the second two, the third three.
const CUSTOMERS: usize = 3;

/// Days that may pass in the faults of one run. With the quiet it ends before a KeyPackage of its first day is over.
const DAYS: u64 = 40;

/// Rounds of the quiet.
pub(super) const ROUNDS: usize = 5;

/// How long the listeners have in each round. What waits for a while on purpose (a group that is begun again, a slot that is read again)
/// waits longer each time, at most an hour.
const REST_MS: [u64; ROUNDS] = [20_000, 40_000, 120_000, 600_000, 3_700_000];

/// What programs of before speak, where there are two generations.
pub(super) const OLD: Suites = Suites::only(Suite::Classical);

/// A business and customers who have talked to it for a while, without faults.
pub(super) fn rehearse(chance: Chance, options: &Options) -> Scene {
    let malice = Malice::new(0, Powers::default());
    let mut world = World::new(super::begins_ms(), chance, malice, options);
    world.join("shop");
    world.open_shop();
    for n in 1..=CUSTOMERS {
        let customer = world.join(&format!("anna{n}"));
        world.start(world.devices[customer].active, false);
        world.begin(customer);
        world.talk(customer, customer);
        world.run_for(3_000);
        for _ in 1..n {
            world.invite(customer);
            world.run_for(3_000);
        }
        world.look_who_came_in();
        assert_eq!(world.devices_of(customer, Standing::In).len(), n, "without faults all devices come in");
        for _ in 0..2 {
            world.talk(BUSINESS, customer);
            world.run_for(3_000);
            for device in world.devices_of(customer, Standing::In) {
                world.talk(device, customer);
                world.run_for(3_000);
            }
        }
    }
    world.run_for(60_000);
    assert!(world.breaches.is_empty(), "without faults: {:?}", world.breaches);
    world.scene()
}

/// A copy of a folder.
#[derive(Clone)]
struct Backup {
    of: usize,
    folder: Folder,
    /// Whom it knows: of the business's, whose conversations are in it; of a customer's, the business and the other devices.
    knows: Vec<usize>,
}

/// What a run has to do with.
pub(super) struct Plan {
    options: Options,
    budget_ms: u64,
    backups: Vec<Backup>,
    relays: Vec<Durable>,
    /// The relay may be put back, which makes it no judge of who is the older copy: then endpoints are told when they were put back.
    relay_goes_back: bool,
    /// One copy of a folder may be used: in conversations that stand, and with a relay that tells the truth about who is older.
    one_copy: bool,
    /// Devices are invited and removed.
    devices_change: bool,
    /// Devices that were invited in the quiet.
    must_come: Vec<usize>,
}

/// Runs the history of a seed up to its verdict.
pub(super) fn history(seed: u64, mut options: Options) -> World {
    // Drawn beside all other: what happens in a history is the same with and without.
    let mut generations = Chance::of_round(0x501e, seed);
    let updates = (options.suites.is_none() && generations.once_in(4)).then_some(generations);
    if updates.is_some() {
        options.suites = Some(OLD);
    }
    let mut chance = Chance::of_round(0x5117, seed);
    let mut powers = powers(&mut chance);
    if !options.everything {
        powers.denies = 0;
    }
    let malice = Malice::new(seed, powers);
    let people = 2 + chance.below(3) as usize;
    let fresh = chance.once_in(4);
    let (faults, slowest_ms) = (faults(&mut chance), *chance.choose(&[20, 20, 1_000, 8_000]));
    let acts = 20 + chance.below(41);
    let devices_change = chance.once_in(2);
    let relay_goes_back = chance.once_in(6);
    let mut world = if fresh {
        let mut world = World::new(super::begins_ms(), chance, malice, &options);
        world.join("shop");
        world.open_shop();
        for n in 1..people {
            world.join(&format!("anna{n}"));
        }
        world
    } else {
        World::from(super::scene(options.suites), people, chance, malice, &options)
    };
    world.updates = updates;
    let begun_ms = world.now_ms;
    world.act(|| format!("seed {seed}: {people} people, {powers:?}, {faults:?}, slowest {slowest_ms} ms, relay goes back: {relay_goes_back}"));
    (world.faults, world.slowest_ms) = (faults, slowest_ms);
    world.ledger.denied = powers.denies > 0;
    for device in 0..world.devices.len() {
        world.start(world.devices[device].active, false);
    }
    let one_copy = !fresh && !relay_goes_back && !powers.lies && powers.supersedes == 0 && powers.throws == 0;
    let mut plan = Plan {
        options,
        budget_ms: DAYS * DAY_MS,
        backups: Vec::new(),
        relays: Vec::new(),
        relay_goes_back,
        one_copy,
        devices_change,
        must_come: Vec::new(),
    };
    for _ in 0..acts {
        if !world.breaches.is_empty() {
            return world;
        }
        plan.act(&mut world);
    }
    plan.quiet(&mut world);
    world.figures.runs = 1;
    world.figures.days = (world.now_ms - begun_ms) / DAY_MS;
    world
}

fn powers(chance: &mut Chance) -> Powers {
    if chance.once_in(5) {
        // Honest: what happens is the endpoints' own.
        return Powers::default();
    }
    let mut maybe = |one_in: &[u64]| if chance.once_in(2) { *chance.choose(one_in) } else { 0 };
    let meddles = maybe(&[3, 8, 20]);
    let slots = maybe(&[1, 2, 4]);
    let refuses = maybe(&[5, 15]);
    let bundles = maybe(&[2]);
    let mut rarely = |of: u64, one_in: &[u64]| if chance.once_in(of) { *chance.choose(one_in) } else { 0 };
    let throws = rarely(4, &[6, 20]);
    let denies = rarely(8, &[10, 30]);
    let supersedes = rarely(6, &[3, 10]);
    let lies = chance.once_in(8);
    Powers { meddles, lies, slots, throws, refuses, denies, supersedes, bundles }
}

fn faults(chance: &mut Chance) -> Faults {
    if chance.once_in(3) {
        return Faults::default();
    }
    Faults { fails: *chance.choose(&[0, 15, 60]), dies: *chance.choose(&[0, 15, 60]) }
}

impl Plan {
    fn act(&mut self, world: &mut World) {
        world.look_who_came_in();
        let who = world.chance.below(world.devices.len() as u64) as usize;
        if self.devices_change && world.chance.once_in(12) {
            return self.devices(world, who);
        }
        match world.chance.below(100) {
            0..30 => self.talk(world, who),
            30..36 => self.all_at_once(world),
            36..40 => {
                let customer = self.customer(world, who);
                world.read(who, customer);
            }
            40..62 => self.time(world),
            62..68 => self.stop_or_start(world, who),
            68..74 => self.leave_or_return(world, who),
            74..78 => world.cut_all(),
            78..82 => {
                let down = world.chance.below(10_000);
                world.relay_dies(down);
            }
            82..88 => self.back_up(world, who),
            88..94 => self.put_back(world, who),
            94..97 => self.move_folder(world, who),
            _ => self.relay(world),
        }
    }

    /// In whose conversation somebody talks.
    fn customer(&self, world: &mut World, who: usize) -> usize {
        if who != BUSINESS {
            return world.devices[who].of;
        }
        let customers = world.customers();
        *world.chance.choose(&customers)
    }

    fn talk(&mut self, world: &mut World, who: usize) {
        let customer = self.customer(world, who);
        Self::is_ready(world, who);
        for _ in 0..=world.chance.below(3) {
            world.talk(who, customer);
        }
        let ms = *world.chance.choose(&[0, 10, 100, 2_000]);
        world.run_for(ms);
    }

    /// Whoever wants to talk has begun, or has asked to be let in.
    fn is_ready(world: &mut World, who: usize) {
        if who != BUSINESS && world.devices[who].of == who && world.devices[who].user.is_none() {
            world.begin(who);
        } else if world.devices[who].standing == Standing::Invited {
            world.come_in(who);
        }
    }

    /// A customer gets another device, or one of its devices removes another; the first, which alone has the pseudonym's key, stays.
    fn devices(&mut self, world: &mut World, who: usize) {
        let customer = self.customer(world, who);
        let devices = world.devices_of(customer, Standing::In);
        let others: Vec<usize> = devices.iter().copied().filter(|d| *d != customer).collect();
        if others.is_empty() || world.chance.once_in(2) {
            world.invite(customer);
        } else {
            let gone = *world.chance.choose(&others);
            let by: Vec<usize> = devices.into_iter().filter(|d| *d != gone).collect();
            let by = *world.chance.choose(&by);
            world.remove(by, gone);
        }
        let ms = *world.chance.choose(&[0, 100, 5_000]);
        world.run_for(ms);
    }

    /// Everybody speaks before anybody hears: where keys are old, everybody commits.
    fn all_at_once(&mut self, world: &mut World) {
        if world.chance.once_in(2) {
            self.pass(world, 7 * DAY_MS);
            world.run_for(1_000);
        }
        for device in 1..world.devices.len() {
            let customer = world.devices[device].of;
            world.talk(device, customer);
            if customer == device {
                world.talk(BUSINESS, customer);
            }
        }
        let ms = *world.chance.choose(&[10, 2_000, 10_000]);
        world.run_for(ms);
    }

    fn time(&mut self, world: &mut World) {
        match world.chance.below(10) {
            0..4 => {
                let ms = world.chance.below(5_000);
                world.run_for(ms);
            }
            4..6 => world.run_for(30_000),
            6..8 => {
                // The time after which a lease is raised.
                self.pass(world, 605_000);
                world.run_for(5_000);
            }
            8 => {
                let hours = 1 + world.chance.below(30);
                self.pass(world, hours * 3_600_000);
            }
            _ => {
                let days = 1 + world.chance.below(12);
                self.pass(world, days * DAY_MS);
            }
        }
    }

    /// Time in which nothing moves, as far as there is some left.
    fn pass(&mut self, world: &mut World, ms: u64) {
        let ms = ms.min(self.budget_ms);
        self.budget_ms -= ms;
        world.act(|| format!("{} h pass", ms / 3_600_000));
        // No connection outlives that; the relay's idea of the time, said at its beginning, would be of another day.
        world.cut_all();
        world.jump(ms);
        world.run_for(1_000);
    }

    fn stop_or_start(&mut self, world: &mut World, who: usize) {
        let node = world.devices[who].active;
        if world.is_running(node) {
            world.kill(node);
        } else {
            world.start(node, false);
        }
        world.run_for(500);
    }

    fn leave_or_return(&mut self, world: &mut World, who: usize) {
        let node = world.devices[who].active;
        let reachable = !world.nodes[node].reachable;
        world.nodes[node].reachable = reachable;
        let name = world.devices[who].name.clone();
        world.act(|| format!("{name} {}", if reachable { "has a network again" } else { "loses the network" }));
        if !reachable {
            world.cut(node);
        }
    }

    fn back_up(&mut self, world: &mut World, who: usize) {
        let folder = world.nodes[world.devices[who].active].folder.clone();
        let knows = Self::known_to(world, who);
        let name = world.devices[who].name.clone();
        world.act(|| format!("a copy of {name}'s folder is made"));
        self.backups.push(Backup { of: who, folder, knows });
    }

    /// Whom somebody's copy has to know: one from before a conversation began has nothing of it, not even whom to ask, and one from before a
    /// device was let in cannot let it in again.
    fn begun(world: &World, who: usize) -> Vec<usize> {
        match who {
            BUSINESS => world.customers().into_iter().filter(|c| world.devices[*c].user.is_some()).collect(),
            _ if world.devices[who].of == who => [vec![BUSINESS], Self::let_in_by(world, who)].concat(),
            _ => vec![BUSINESS],
        }
    }

    fn let_in_by(world: &World, customer: usize) -> Vec<usize> {
        world.devices_of(customer, Standing::In).into_iter().filter(|d| *d != customer).collect()
    }

    /// Whom somebody knows.
    fn known_to(world: &mut World, who: usize) -> Vec<usize> {
        if who == BUSINESS {
            return world.customers().into_iter().filter(|c| world.conversation(BUSINESS, *c).is_some()).collect();
        }
        let is_in = world.devices[who].of == who || world.state(who) == Some(ConversationState::Open);
        let business = (is_in && world.state(who).is_some()).then_some(BUSINESS);
        let devices = Self::let_in_by(world, who).into_iter().filter(|d| world.knows_device(who, *d));
        business.into_iter().chain(devices).collect()
    }

    /// A copy of a folder is used again. Whoever does that by hand does not tell the endpoint; then the relay must, which it can only if the
    /// incarnation was raised since (threat model, limit 6).
    fn put_back(&mut self, world: &mut World, who: usize) {
        let begun = Self::begun(world, who);
        let of_use = |b: &&Backup| b.of == who && begun.iter().all(|other| b.knows.contains(other));
        let mine: Vec<Backup> = self.backups.iter().filter(of_use).cloned().collect();
        if mine.is_empty() || !self.may_copy(world) {
            return self.back_up(world, who);
        }
        let Backup { folder, .. } = world.chance.choose(&mine).clone();
        let old = world.devices[who].active;
        let is_told = !self.relay_goes_back && self.is_seen_to_be_old(world, old, &folder);
        let restored = !is_told || world.chance.once_in(2);
        // The one that is replaced may still run: then it is told that it is superseded, and stops.
        if world.chance.once_in(2) || world.is_superseded(old) {
            world.kill(old);
        }
        Self::use_folder(world, who, folder, restored);
    }

    /// Whether one more copy may be used in this run.
    fn may_copy(&self, world: &World) -> bool {
        self.options.everything || (self.one_copy && world.figures.copies == 0)
    }

    fn use_folder(world: &mut World, who: usize, folder: Folder, restored: bool) {
        let name = format!("{}/{}", world.devices[who].name, world.nodes.len());
        world.act(|| format!("{name} is a copy that is put back"));
        world.figures.copies += 1;
        world.ledger.went_back.push((who, folder.shown.clone(), world.now_ms));
        Self::forgets_the_invited(world, who);
        let node = world.add_node(name, who, folder);
        world.start(node, restored);
        world.run_for(500);
    }

    /// A first device that goes back may have let somebody in since who is not there yet: it does not know him.
    fn forgets_the_invited(world: &mut World, who: usize) {
        if world.devices[who].of == who {
            world.devices_of(who, Standing::Invited).into_iter().for_each(|device| world.is_gone(device));
        }
    }

    fn is_seen_to_be_old(&self, world: &World, node: usize, folder: &Folder) -> bool {
        let has = Node::incarnation(folder, world.nodes[node].device);
        let mailboxes = world.nodes[node].mailboxes();
        !mailboxes.is_empty() && mailboxes.iter().all(|id| world.relay.durable.incarnation(id) > has)
    }

    /// A stopped endpoint's folder is moved to another machine and started there; later somebody starts the old one.
    fn move_folder(&mut self, world: &mut World, who: usize) {
        let old = world.devices[who].active;
        if self.relay_goes_back || !self.may_copy(world) || world.conversation(who, 1).is_none() {
            return;
        }
        let knows = Self::known_to(world, who);
        world.kill(old);
        let folder = world.nodes[old].folder.clone();
        let name = format!("{}/{}", world.devices[who].name, world.nodes.len());
        world.act(|| format!("{name} goes on with a folder that was moved"));
        world.figures.copies += 1;
        let node = world.add_node(name, who, folder);
        world.start(node, false);
        world.run_for(3_000);
        if world.chance.once_in(3) {
            return;
        }
        self.talk(world, who);
        let old_folder = world.nodes[old].folder.clone();
        if Self::begun(world, who).iter().all(|other| knows.contains(other))
            && self.is_seen_to_be_old(world, node, &old_folder)
        {
            world.act(|| "the folder it was moved from is started".into());
            world.ledger.went_back.push((who, old_folder.shown, world.now_ms));
            Self::forgets_the_invited(world, who);
            world.start(old, false);
        }
    }

    fn relay(&mut self, world: &mut World) {
        if !self.relay_goes_back {
            return world.relay_dies(100);
        }
        if self.relays.is_empty() || world.chance.once_in(2) {
            world.act(|| "a copy of the relay is made".into());
            return self.relays.push(world.relay.snapshot());
        }
        let to = world.chance.choose(&self.relays).clone();
        let says_so = world.chance.once_in(2);
        world.act(|| format!("the relay goes back to an older copy{}", if says_so { " and says so" } else { "" }));
        world.ledger.denied = true;
        world.relay.go_back(to, &mut world.chance, says_so);
        world.cut_all();
    }

    /// The end of a story.
    pub(super) fn rest_at_last(world: &mut World, options: Options) {
        let (backups, relays) = (Vec::new(), Vec::new());
        Self {
            options,
            budget_ms: 0,
            backups,
            relays,
            relay_goes_back: false,
            one_copy: false,
            devices_change: false,
            must_come: Vec::new(),
        }
        .quiet(world);
    }

    /// The faults are over: the relay is honest, everybody's endpoint runs and has a network.
    fn quiet(mut self, world: &mut World) {
        world.act(|| "the faults are over".into());
        world.malice.calms_down();
        world.faults = Faults::default();
        world.slowest_ms = 20;
        world.relay_down_until = 0;
        world.cut_all();
        let sabotage = self.options.sabotage;
        // Of somebody's copies one goes on: the one to which the relay gave the mailbox last, which need not be the one that was started last.
        for node in 0..world.nodes.len() {
            let device = world.nodes[node].device;
            let has = Node::incarnation(&world.nodes[node].folder, device);
            let mailboxes = world.nodes[node].mailboxes();
            let holds = !mailboxes.is_empty() && mailboxes.iter().all(|id| world.relay.durable.incarnation(id) == has);
            if holds && world.is_running(node) && !world.is_superseded(node) {
                world.devices[device].active = node;
            }
        }
        for node in 0..world.nodes.len() {
            if world.devices[world.nodes[node].device].active != node {
                world.kill(node);
            }
        }
        for device in 0..world.devices.len() {
            let node = world.devices[device].active;
            if world.is_superseded(node) {
                world.kill(node);
            }
            world.nodes[node].reachable = sabotage != Some(Sabotage::StaysAway) || device == BUSINESS;
            world.start(node, false);
        }
        // Everybody has the newest program in the end, or some have not.
        if let Some(mut updates) = world.updates.take()
            && updates.once_in(2)
        {
            (0..world.devices.len()).for_each(|device| world.update(device));
        }
        // The business may have been away for longer than its bundle lives.
        world.run_for(5_000);
        if sabotage == Some(Sabotage::LeaksText) {
            let bundle = CANARY.as_bytes().to_vec();
            let body = client_frame::Body::PublishBundle(PublishBundle { mailbox: vec![0; 16], bundle });
            world.smuggle(ClientFrame::new(1, body).to_bytes());
        }
        for (round, rest) in REST_MS.into_iter().enumerate() {
            if !world.breaches.is_empty() {
                return;
            }
            if round == 1 && self.devices_change {
                self.one_more(world);
            }
            self.round(world, rest);
        }
        for device in self.must_come {
            if world.devices[device].standing != Standing::In {
                world.breaches.push(format!("I8 {} is never let in", world.devices[device].name));
            }
        }
    }

    /// Somebody gets one more device in the quiet: nothing may keep it from coming in. A device that was removed, and is in the group of one who
    /// went back to before that, may: it says nothing there, and until it is removed again nobody is let in.
    fn one_more(&mut self, world: &mut World) {
        let customers = world.customers();
        let customer = *world.chance.choose(&customers);
        let some_gone = !world.devices_of(customer, Standing::Gone).is_empty();
        if world.state(customer) == Some(ConversationState::Open) && !some_gone {
            self.must_come.extend(world.invite(customer));
        }
    }

    /// Everybody speaks and is answered.
    fn round(&mut self, world: &mut World, rest_ms: u64) {
        for device in 1..world.devices.len() {
            Self::is_ready(world, device);
            let customer = world.devices[device].of;
            world.talk(device, customer);
        }
        Self::rest(world, rest_ms);
        for customer in world.customers() {
            world.talk(BUSINESS, customer);
        }
        Self::rest(world, rest_ms);
        world.look_who_came_in();
    }

    fn rest(world: &mut World, ms: u64) {
        // In long rests nothing but what waits for its time happens.
        let mut left = ms;
        while left > 0 {
            let now = left.min(40_000);
            if ms > 120_000 && left < ms {
                world.jump(now);
            } else {
                world.run_for(now);
            }
            world.run_for(500);
            left -= now;
        }
    }
}
