//! What a process still has of epochs that are over (KEY-11): its whole memory is searched from outside, and its files byte by byte.
//!
//! The conversation runs in a child. It never sees the secrets that are looked for but in its work: they are taken out of a copy of its store here.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use bulla_client::event::Draft;
use bulla_client::store::sqlite::SqliteStore;
use bulla_client::store::tx::{Rng, Tx};
use bulla_client::store::vault::Vault;
use bulla_client::store::{Order, Read as _, Table, keyfile};
use bulla_testkit::canary::{Canary, Scan, Scanner};
use bulla_testkit::process::Part;
use rand_core::OsRng;

use crate::secrets::{by_kind, secret_strings};
use crate::world::World;

const WEEK: u64 = 7 * 86_400_000;

/// Epochs that begin while it is watched.
const WEEKS: usize = 4;

/// Says which of the tests the child is to run.
const CHILD: &str = "BULLA_TEST_CHILD";

/// The child, which is nothing where nobody starts it as that: a shop and a customer talk for weeks, and after each it waits until somebody has looked at it.
#[tokio::test]
async fn a_shop_and_a_customer_talk_for_weeks() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let world = World::some_days_ago(30).await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut alice, conversation) = world.customer("Alice", &link).await;
    let say = |body: &str| Draft::Text { body: body.into(), reply_to: None };
    alice.endpoint.send(conversation.id, say("hello")).await.unwrap();
    let number = cortado.incoming().await.conversation;
    cortado.endpoint.send(number, say("yes?")).await.unwrap();
    alice.incoming().await;
    for week in 0..=WEEKS {
        for n in 0..4 {
            alice.endpoint.send(conversation.id, say(&format!("{week} {n}"))).await.unwrap();
            cortado.incoming().await;
            cortado.endpoint.send(number, say(&format!("yes {week} {n}"))).await.unwrap();
            alice.incoming().await;
        }
        let epoch = cortado.epoch(number.0).await.0;
        println!("\nepoch {epoch} {} {}", alice.folder.display(), cortado.folder.display());
        std::io::stdin().read_line(&mut String::new()).unwrap();
        world.clock.advance(WEEK);
    }
    alice.endpoint.shutdown().await;
    cortado.endpoint.shutdown().await;
    println!("\nended");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

type Strings = BTreeSet<Vec<u8>>;

/// A moment of the child's: its epoch, and its endpoints' folders as copies.
struct Moment {
    epoch: u64,
    copies: Vec<SqliteStore>,
    folders: Vec<PathBuf>,
}

impl Moment {
    /// The next time that it waits.
    async fn next(child: &Part, seen: usize, to: &Path) -> Self {
        let line = child
            .stdout
            .until("an epoch", |lines| lines.iter().filter(|line| line.starts_with("epoch ")).nth(seen).cloned());
        let line = line.await.unwrap();
        let mut words = line.split(' ').skip(1);
        let epoch = words.next().unwrap().parse().unwrap();
        let folders: Vec<PathBuf> = words.map(PathBuf::from).collect();
        let copies = folders.iter().enumerate().map(|(n, folder)| {
            let copy = to.join(format!("{seen}-{n}"));
            std::fs::create_dir(&copy).unwrap();
            SqliteStore::copy(folder, &copy.join("store.sqlite")).unwrap();
            SqliteStore::open(&copy).unwrap()
        });
        Self { epoch, copies: copies.collect(), folders }
    }

    /// The secrets of each endpoint's epoch.
    fn secrets(&self) -> Vec<Strings> {
        let rng: RefCell<Rng> = RefCell::new(Box::new(OsRng));
        let opened = self.copies.iter().zip(&self.folders).map(|(copy, folder)| {
            let root = keyfile::load_or_create(&folder.join("key"), None, &mut OsRng).unwrap();
            let vault = Vault::new(root);
            let rows = Tx::new(copy, &vault, &rng, 0).scan_bytes_prefix(Table::Mls, b"").unwrap();
            secret_strings(&by_kind(rows))
        });
        opened.collect()
    }

    /// The sealed rows that hold them.
    fn sealed(&self) -> Strings {
        let rows = self.copies.iter().flat_map(|copy| {
            let rows = copy.scan(Table::Mls, b"", None, Order::Ascending, 10_000).unwrap();
            rows.into_iter().filter(|(key, _)| crate::secrets::SECRETS.contains(&key[8]))
        });
        // Behind version and scope, which are the same in all.
        rows.map(|(_, value)| value[9..41].to_vec()).collect()
    }
}

fn scanner(of: &Strings, called: &str) -> Scanner {
    let canaries: Vec<Canary> = of
        .iter()
        .enumerate()
        .map(|(n, secret)| Canary::of_bytes(&format!("{called} {n}"), &secret[..secret.len().min(32)]))
        .collect();
    Scanner::as_they_are(&canaries)
}

/// How many different ones were found, and how many copies in all.
fn count(scan: &Scan) -> (usize, usize) {
    let different: BTreeSet<&str> = scan.findings.iter().map(|found| found.form.as_str()).collect();
    (different.len(), scan.findings.iter().map(|found| found.times).sum())
}

/// KEY-11.
#[tokio::test]
async fn key_11_what_is_left_of_past_epochs_in_memory_and_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "memory::a_shop_and_a_customer_talk_for_weeks", "--nocapture"]);
    let mut child = Part::start(command.env(CHILD, "1")).unwrap();
    let mut epochs: BTreeMap<u64, (Strings, Strings)> = BTreeMap::new();
    let (mut figures, mut folders) = (Vec::new(), Vec::new());
    for seen in 0..=WEEKS {
        let now = Moment::next(&child, seen, folder.path()).await;
        let of_now: Strings = now.secrets().into_iter().flatten().collect();
        let sealed = now.sealed();
        let live = child_memory(&child, &of_now, "secret");
        assert!(count(&live).0 > 10, "the search finds what is there: {:?}", count(&live));
        for (epoch, (secrets, rows)) in &epochs {
            let gone: Strings = secrets.difference(&of_now).cloned().collect();
            let found = child_memory(&child, &gone, "secret");
            if std::env::var_os("BULLA_TEST_SHOW").is_some() {
                for finding in &found.findings {
                    println!("in epoch {} of {epoch}: {finding}", now.epoch);
                }
            }
            let rows: Strings = rows.difference(&sealed).cloned().collect();
            let (mut open, mut closed) = (Scan::default(), Scan::default());
            for folder in &now.folders {
                open.add(scanner(&gone, "secret").files(folder).unwrap());
                closed.add(scanner(&rows, "row").files(folder).unwrap());
            }
            assert_eq!(count(&open).0, 0, "a secret lies open in a file");
            figures.push((now.epoch, *epoch, gone.len(), count(&found), rows.len(), count(&closed)));
        }
        folders.clone_from(&now.folders);
        epochs.entry(now.epoch).or_insert((of_now, sealed));
        child.write_line("").unwrap();
    }
    for (now, epoch, secrets, (different, copies), rows, (in_files, _)) in &figures {
        println!(
            "figure: in epoch {now}, of {secrets} secrets of epoch {epoch}: {different} in memory ({copies} copies); of {rows} sealed rows {in_files} in files"
        );
    }
    assert!(epochs.len() > WEEKS / 2, "epochs went by: {:?}", epochs.keys());
    let found: usize = figures.iter().map(|(_, _, _, (_, copies), _, _)| copies).sum();
    assert_eq!(found, 0, "nothing of an epoch that is over is in memory");
    let ended = child.stdout.until("its end", |lines| lines.iter().any(|line| line == "ended").then_some(()));
    ended.await.unwrap();
    let stand = epochs.values().next_back().map(|(_, rows)| rows.clone()).unwrap_or_default();
    let mut left = 0;
    for (secrets, rows) in epochs.values() {
        let gone: Strings = rows.difference(&stand).cloned().collect();
        for folder in &folders {
            assert_eq!(count(&scanner(secrets, "secret").files(folder).unwrap()).0, 0, "a secret lies open in a file");
            left += count(&scanner(&gone, "row").files(folder).unwrap()).0;
        }
    }
    let standing: usize = folders.iter().map(|f| count(&scanner(&stand, "row").files(f).unwrap()).0).sum();
    println!("figure: once the endpoints have stopped, {left} sealed rows of epochs that are over are in their files");
    assert!(standing > 0, "the search finds what is there");
    assert_eq!(left, 0, "what was overwritten is gone from the files of an endpoint that has stopped");
}

fn child_memory(child: &Part, secrets: &Strings, called: &str) -> Scan {
    scanner(secrets, called).memory(child.pid()).unwrap()
}
