//! Situations that random histories hardly meet, each about one rule: with the rule they end well, without it somebody sees.

use bulla_client::store::Table;
use bulla_client::store::vault::Scope;
use bulla_e2ee::sabotage::{self, Rule};
use bulla_e2ee::seals;

use super::hostile::{Malice, Powers};
use super::node::Folder;
use super::plan::Plan;
use super::relay::DAY_MS;
use super::world::{BUSINESS, Standing, World};
use super::{Figures, Options, verdict};
use crate::chance::Chance;

/// Which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Story {
    /// Business and customer renew their keys at the same time.
    BothCommit,
    /// A new customer says Hello, and the relay shows nobody the commits that it keeps.
    SlotsHidden,
    /// A gateway's folder is copied while it runs, and the copy is started beside it.
    RunsTwice,
    /// A gateway's folder is copied while it runs; hours later the copy is started in its place, and has something to say.
    OldCopy,
    /// A customer begins again, and the gateway follows; then a copy of the gateway from before that is put back, and the relay tells it the same.
    JoinedBefore,
    /// What a gateway stored of one conversation does not decode any more.
    Damaged,
    /// Business and customer begin again at the same time.
    BothBegin,
    /// A device is invited, and the relay throws away what it asks with.
    JoinLost,
    /// A device is invited and let in, and the relay throws away what is to bring it in.
    WelcomeLost,
    /// Two devices of a customer lost each other's permits and spares, and each begins again with the business.
    Strangers,
}

/// The first customer.
const ANNA: usize = 1;

/// The second customer.
const BERTA: usize = 2;

/// Tells a story, with a rule broken or none.
///
/// # Errors
///
/// How it ended badly.
pub fn tell(story: Story, seed: u64, breaks: Option<Rule>) -> Result<Figures, Vec<String>> {
    let options = Options { breaks, ..Options::default() };
    let (mut chance, scene) = (Chance::of_round(0x7a1e, seed), super::scene(None));
    let malice = Malice::new(chance.below(u64::MAX), Powers::default());
    let mut world = World::from(scene, 3, chance, malice, &options);
    seals::watch(true);
    sabotage::break_rule(breaks);
    for person in 0..world.devices.len() {
        world.start(world.devices[person].active, false);
    }
    world.run_for(5_000);
    match story {
        Story::BothCommit => both_commit(&mut world),
        Story::SlotsHidden => slots_hidden(&mut world),
        Story::RunsTwice => runs_twice(&mut world),
        Story::OldCopy => old_copy(&mut world),
        Story::JoinedBefore => joined_before(&mut world),
        Story::Damaged => damaged(&mut world),
        Story::BothBegin => both_begin(&mut world),
        Story::JoinLost => join_lost(&mut world),
        Story::WelcomeLost => welcome_lost(&mut world),
        Story::Strangers => strangers(&mut world),
    }
    Plan::rest_at_last(&mut world, options);
    sabotage::break_rule(None);
    verdict::check(&mut world);
    if matches!(story, Story::BothCommit | Story::SlotsHidden) && world.figures.continued > 0 {
        world.breaches.push(format!("a conversation began again: {:?}", world.ledger.began));
    }
    if world.breaches.is_empty() { Ok(world.figures) } else { Err(world.breaches) }
}

/// After a week keys are old: whoever speaks renews them.
fn both_commit(world: &mut World) {
    world.cut_all();
    world.jump(7 * DAY_MS);
    world.run_for(5_000);
    for _ in 0..3 {
        world.talk(ANNA, ANNA);
        world.talk(BUSINESS, ANNA);
        world.run_for(10_000);
    }
}

/// Both are told at once that they went back.
fn both_begin(world: &mut World) {
    let nodes = [BUSINESS, ANNA].map(|device| world.devices[device].active);
    nodes.iter().for_each(|node| world.kill(*node));
    nodes.iter().for_each(|node| world.start(*node, true));
    world.run_for(150_000);
    let split = verdict::agreement(world, ANNA);
    world.breaches.extend(split);
}

/// What a relay throws away for a while after it said `Accepted`: all.
fn all_is_thrown_away(world: &mut World) {
    world.malice = Malice::new(0, Powers { throws: 1, ..Powers::default() });
    world.run_for(10_000);
    world.malice.calms_down();
}

fn join_lost(world: &mut World) {
    let device = world.invite(ANNA).expect("she has one device");
    all_is_thrown_away(world);
    must_be_in(world, device);
}

fn welcome_lost(world: &mut World) {
    let device = world.invite(ANNA).expect("she has one device");
    for _ in 0..10_000 {
        // From here on it is in the group, and does not know yet.
        if world.knows_device(ANNA, device) {
            break;
        }
        world.run_for(1);
    }
    all_is_thrown_away(world);
    must_be_in(world, device);
}

fn strangers(world: &mut World) {
    let device = world.invite(ANNA).expect("she has one device");
    world.run_for(10_000);
    world.look_who_came_in();
    assert_eq!(world.devices[device].standing, Standing::In, "nothing keeps it out");
    // The devices of each other (an invited one knew its inviter first, who knew the business first), and the business of spares.
    for (person, of, tables) in [
        (ANNA, Some(2), &[Table::Permits, Table::PeerSpares][..]),
        (device, Some(1), &[Table::Permits, Table::PeerSpares]),
        (BUSINESS, None, &[Table::PeerSpares]),
    ] {
        let node = world.devices[person].active;
        let number = world.conversation(person, ANNA).expect("it is in").0;
        let mut prefix = number.to_be_bytes().to_vec();
        prefix.extend(of);
        world.kill(node);
        world.nodes[node].rewrite(world.now_ms, |tx| {
            for table in tables {
                for (key, _) in tx.scan_bytes_prefix(*table, &prefix)? {
                    tx.delete(*table, &key);
                }
            }
            Ok(())
        });
    }
    world.start(world.devices[BUSINESS].active, false);
    world.start(world.devices[device].active, false);
    world.start(world.devices[ANNA].active, true);
    for person in [ANNA, device] {
        world.run_for(3_000);
        world.talk(person, ANNA);
    }
    world.run_for(60_000);
    let split = verdict::agreement(world, ANNA);
    world.breaches.extend(split);
}

/// An invited device comes in within two minutes, and everybody hears it.
fn must_be_in(world: &mut World, device: usize) {
    world.look_who_came_in();
    if world.devices[device].standing == Standing::In {
        return world.breaches.push("nothing of importance was thrown away".to_owned());
    }
    world.run_for(120_000);
    world.look_who_came_in();
    if world.devices[device].standing != Standing::In {
        world.breaches.push(format!("I8 {} is never let in", world.devices[device].name));
    }
    world.talk(device, ANNA);
    world.run_for(10_000);
}

fn slots_hidden(world: &mut World) {
    world.relay.hides_slots = true;
    let cora = world.join("cora");
    world.start(world.devices[cora].active, false);
    world.begin(cora);
    for _ in 0..3 {
        world.talk(cora, cora);
        world.run_for(10_000);
        world.talk(BUSINESS, cora);
        world.run_for(30_000);
    }
    world.relay.hides_slots = false;
}

fn runs_twice(world: &mut World) {
    let first = world.devices[BUSINESS].active;
    let folder = world.nodes[first].folder.clone();
    let second = world.add_node("shop/twice".to_owned(), BUSINESS, folder);
    world.start(second, false);
    world.run_for(3_000);
    for node in [first, second] {
        world.devices[BUSINESS].active = node;
        world.talk(BUSINESS, ANNA);
        world.run_for(3_000);
    }
}

fn old_copy(world: &mut World) {
    let node = world.devices[BUSINESS].active;
    let folder = world.nodes[node].folder.clone();
    for _ in 0..8 {
        world.talk(BUSINESS, ANNA);
        world.run_for(300_000);
    }
    world.kill(node);
    // It has something to say at once: it has not been told yet.
    shop_goes_back(world, folder, false);
}

fn joined_before(world: &mut World) {
    let (shop, anna) = (world.devices[BUSINESS].active, world.devices[ANNA].active);
    let folder = world.nodes[shop].folder.clone();
    world.kill(shop);
    world.kill(anna);
    world.ledger.went_back.push((ANNA, world.nodes[anna].folder.shown.clone(), world.now_ms));
    world.start(anna, true);
    world.run_for(3_000);
    let told = world.relay.snapshot();
    world.start(shop, false);
    world.run_for(3_000);
    world.kill(shop);
    world.ledger.denied = true;
    world.relay.go_back(told, &mut world.chance, false);
    world.cut_all();
    shop_goes_back(world, folder, true);
}

/// A copy of the business's folder is started in the place of it, and speaks.
fn shop_goes_back(world: &mut World, folder: Folder, knows: bool) {
    world.figures.copies += 1;
    world.ledger.went_back.push((BUSINESS, folder.shown.clone(), world.now_ms));
    let copy = world.add_node("shop/copy".to_owned(), BUSINESS, folder);
    world.start(copy, knows);
    world.talk(BUSINESS, ANNA);
    world.run_for(3_000);
}

fn damaged(world: &mut World) {
    let node = world.devices[BUSINESS].active;
    let number = world.conversation(BUSINESS, ANNA).expect("they have talked").0;
    world.kill(node);
    world.nodes[node].rewrite(world.now_ms, |tx| {
        for (key, _) in tx.scan_bytes_prefix(Table::Mls, &number.to_be_bytes())? {
            tx.put_bytes(Table::Mls, &key, Scope::Peer(number), b"\x01garbage".to_vec().into());
        }
        Ok(())
    });
    world.talk(ANNA, ANNA);
    world.talk(BERTA, BERTA);
    world.run_for(2_000);
    world.start(node, false);
    // Its steps fail at first, which is never right elsewhere.
    for _ in 0..600 {
        world.run_for(100);
        world.breaches.retain(|breach| !breach.contains("a step failed"));
    }
}
