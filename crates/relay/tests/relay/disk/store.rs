//! A store on a disk that fails: after a power cut at any moment it shows what was committed, all of it and of no commit half, and it opens with
//! nothing lost after whatever call has failed.

use std::path::Path;

use bulla_relay::store::contract::{Model, Named, Step, Story};
use bulla_relay::store::fjall::FjallStore;
use bulla_relay::store::{Store, StoreError};
use rand_core::OsRng;

use super::fuse::{Disk, FAULTS, Fault};
use super::memory;
use super::model::{CUTS, Cut, Image, Tape};
use crate::common::{Random, Rounds};

/// Opens a store in the data folder of a relay; a small one writes tables all the time.
fn open(data: &Path, small: bool) -> Result<FjallStore, StoreError> {
    bulla_relay::make_folder(data).map_err(|error| StoreError::Engine(error.to_string()))?;
    let (store, keys, random) = (data.join("store"), data.join("keys"), Box::new(OsRng));
    if small { FjallStore::open_small(&store, &keys, random) } else { FjallStore::open(&store, &keys, random) }
}

/// The keys in a key file.
fn keys_in(file: &[u8]) -> Vec<Vec<u8>> {
    let keys = file.chunks_exact(64).map(|slot| slot[17..49].to_vec());
    keys.filter(|key| key.iter().any(|byte| *byte != 0)).collect()
}

/// What a history came to.
struct Told {
    /// After each commit: the moment, and what the store shows from then on.
    committed: Vec<(usize, Model)>,
    /// What the commit that was not answered would have come to.
    unanswered: Option<Model>,
    /// Keys that were destroyed, and the moment from which they must be gone.
    destroyed: Vec<(usize, Vec<u8>)>,
    named: Named,
}

impl Told {
    /// Whether a store shows what it must at this moment: all that was committed, and of what comes next all or nothing.
    fn check(&self, moment: usize, store: &dyn Store) -> Result<(), String> {
        let done = self.committed.iter().rposition(|(at, _)| *at <= moment);
        let empty = Model::default();
        let before = done.map_or(&empty, |at| &self.committed[at].1);
        let next = done.map_or(0, |at| at + 1);
        let after = self.committed.get(next).map(|(_, model)| model).or(self.unanswered.as_ref());
        let Err(why) = before.compare(store, &self.named) else { return Ok(()) };
        match after.map(|after| after.compare(store, &self.named)) {
            None => Err(why),
            Some(Ok(())) => Ok(()),
            Some(Err(other)) => {
                Err(format!("neither what was committed ({why}) nor with the commit after it ({other})"))
            }
        }
    }
}

/// Writes a random history until all of it is told or something fails.
fn tell(disk: &Disk, random: &mut Random, commits: usize, small: bool) -> (Told, Result<(), StoreError>) {
    let data = disk.path().join("relay");
    let mut story = Story::default();
    let mut told = Told { committed: Vec::new(), unanswered: None, destroyed: Vec::new(), named: story.named.clone() };
    let mut run = || -> Result<(), StoreError> {
        let mut store = open(&data, small)?;
        told.committed.push((disk.moment(), Model::default()));
        for _ in 0..commits {
            let mut group = Vec::new();
            for _ in 0..1 + random.below(4) {
                let [kind, which, detail] = [random.next(), random.next(), random.next()].map(|n| (n >> 24) as u8);
                group.extend(story.tell(Step { kind, which, detail }));
            }
            told.named = story.named.clone();
            told.unanswered = Some(story.model.clone());
            store.commit(group)?;
            told.unanswered = None;
            told.committed.push((disk.moment(), story.model.clone()));
            if story.destroys || random.below(4) == 0 {
                let file = |_| StoreError::Engine("the key file cannot be read".into());
                let before = keys_in(&std::fs::read(data.join("keys")).map_err(file)?);
                store.destroy_keys(if std::mem::take(&mut story.destroys) { story.named.today } else { 0 })?;
                let after = keys_in(&std::fs::read(data.join("keys")).map_err(file)?);
                let moment = disk.moment();
                told.destroyed.extend(before.into_iter().filter(|key| !after.contains(key)).map(|key| (moment, key)));
            }
            if random.below(16) == 0 {
                drop(store);
                store = open(&data, small)?;
                story.restarted();
            }
        }
        Ok(())
    };
    let ended = run();
    (told, ended)
}

/// Opens what is left, and compares. Says what is wrong.
fn after_cut(
    told: &Told,
    tape: &Tape,
    moment: usize,
    cut: Cut,
    small: bool,
    random: &mut Random,
) -> Result<(), String> {
    let image = tape.cut(moment, cut, random);
    let key_file = image.file("relay/keys").map(|node| node.bytes.read(0, usize::MAX)).unwrap_or_default();
    let keys = keys_in(&key_file);
    if told.destroyed.iter().any(|(gone, key)| *gone <= moment && keys.contains(key)) {
        return Err("a key that was destroyed is there again".to_owned());
    }
    let folder = memory();
    image.write_to(folder.path()).map_err(|error| error.to_string())?;
    let store = open(&folder.path().join("relay"), small).map_err(|error| format!("it does not open: {error}"))?;
    told.check(moment, &store)
}

/// the power is cut at random moments of random histories, and what was not synced is dropped, torn or reordered.
#[test]
fn after_a_power_cut_a_store_shows_what_was_committed() {
    const POINTS: usize = 50;
    if super::skips() {
        return;
    }
    let rounds = Rounds::of(4);
    let (mut points, mut operations, mut destroyed) = (0, 0, 0);
    for round in rounds.all() {
        let mut random = rounds.random(round);
        let disk = Disk::mount(Image::default()).unwrap();
        let small = round % 2 == 1;
        let (told, ended) = tell(&disk, &mut random, 40, small);
        ended.unwrap();
        let (tape, end) = (disk.tape(), disk.moment());
        drop(disk);
        operations += end;
        destroyed += told.destroyed.len();
        for point in 0..POINTS {
            // The moments of the first start are many; half of the cuts come after it.
            let begin = if point % 2 == 0 { 0 } else { told.committed[0].0 };
            let moment = begin + random.below(end - begin + 1);
            let cut = CUTS[random.below(CUTS.len())];
            if let Err(why) = after_cut(&told, &tape, moment, cut, small, &mut random) {
                panic!("{rounds}, round {round}, cut {point} ({cut:?} after {moment} of {end} operations): {why}");
            }
            points += 1;
        }
        rounds.held(round);
    }
    assert!(destroyed > 0, "no key was destroyed");
    println!(
        "figure: {points} power cuts in {} histories of {operations} operations in all: nothing lost",
        rounds.count()
    );
}

/// whichever call fails and however, a commit that was answered is there afterwards, also without what was not synced.
#[test]
fn whichever_call_fails_what_was_committed_is_there() {
    if super::skips() {
        return;
    }
    // In a long run all calls of a workload of two thousand.
    let rounds = Rounds::of(200);
    let commits = if rounds.are_many() { 600 } else { 60 };
    let (mut failed, mut ran) = (0, 0);
    for round in rounds.all() {
        let fault = FAULTS[round as usize % FAULTS.len()];
        // The calls of a first start, now and then; else those of the work.
        for from_new in [true, false].into_iter().skip(usize::from(round % 5 != 0)) {
            let (seed, small) = (rounds.seed(), !from_new);
            let mut random = Random(seed);
            let disk = Disk::mount(Image::default()).unwrap();
            if !from_new {
                // The first start is over, so that the call that fails is one of the work.
                drop(open(&disk.path().join("relay"), small).unwrap());
            }
            disk.fail(round + 1, fault);
            let (mut told, ended) = tell(&disk, &mut random, commits, small);
            ran += 1;
            failed += u64::from(disk.has_failed());
            if told.committed.is_empty() && ended.is_ok() {
                told.committed.push((0, Model::default()));
            }
            let (tape, end) = (disk.tape(), disk.moment());
            drop(disk);
            for cut in [Cut::Drops, Cut::Keeps, Cut::Reorders] {
                if let Err(why) = after_cut(&told, &tape, end, cut, small, &mut random) {
                    panic!(
                        "{rounds}, round {round}: call {} fails ({fault:?}), from new: {from_new}, then {cut:?}: {why}",
                        round + 1
                    );
                }
            }
            if matches!(fault, Fault::Io) && ended.is_err() {
                // The same disk, mended, and nobody has cut the power.
                let again = Disk::mount(tape.cut(end, Cut::Keeps, &mut random)).unwrap();
                let store = open(&again.path().join("relay"), small);
                let store = store.unwrap_or_else(|error| panic!("{rounds}, round {round}: it does not open: {error}"));
                told.check(end, &store).unwrap_or_else(|why| panic!("{rounds}, round {round}: {why}"));
            }
        }
        rounds.held(round);
    }
    println!("figure: in {ran} histories {failed} calls failed: nothing lost");
    assert!(failed > ran / 2);
}
