//! A relay, or a web server, that lies: everything between endpoints and the real relay passes through a meddler, and links lead to a web
//! server of the test's.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use bulla_testkit::apart::{Apart, Plan};
use bulla_testkit::chance::Chance;
use bulla_testkit::cloud::http;
use bulla_testkit::history::{Breach, Broken, Figures};
use bulla_testkit::hostile::{Deeds, Hostile, Order};
use bulla_testkit::process::{program, run, turn};
use bulla_testkit::proxy::Wire;
use bulla_testkit::terminal;
use bulla_testkit::town::Town;
use bulla_testkit::town::plan::{Menu, Round};
use bulla_testkit::wait::GUARD;

/// One frame in so many is meddled with.
const ONE_IN: u64 = 3;

fn lock<M>(meddler: &Mutex<M>) -> MutexGuard<'_, M> {
    meddler.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rounds behind a relay that misbehaves by this seed. After each it calms down, so that what was accepted can come.
async fn behind_a_hostile_relay(
    seed: u64,
    rounds: u64,
    order: Order,
    menu: Menu,
) -> Result<(Vec<Result<Figures, Broken>>, Deeds)> {
    let hostile = Arc::new(Mutex::new(Hostile::new(seed, ONE_IN, order)));
    let plan = Plan { log: "debug", ..Plan::new()? };
    lock(&hostile).calms_down();
    let mut town = Town::around(Apart::start_behind(plan, Some(Arc::clone(&hostile))).await?);
    let mut verdicts = Vec::new();
    for round in 0..rounds {
        let mut plan = Round::of(&mut Chance::of_round(seed, round), town.people(), menu);
        for talk in &mut plan.talks {
            (talk.bursts, talk.answers) = (talk.bursts.repeat(3), talk.answers * 3);
        }
        lock(&hostile).rages(ONE_IN);
        let talked = town.talks(round, &plan, GUARD).await;
        let where_ = || format!("round {round} of seed {seed}, {}\n{}", lock(&hostile).deeds, town.logs());
        talked.with_context(where_)?;
        lock(&hostile).calms_down();
        let verdict = town.verdict(round, &plan, GUARD).await;
        let where_ = || format!("round {round} of seed {seed}, {}\n{}", lock(&hostile).deeds, town.logs());
        verdicts.push(verdict.with_context(where_)?);
    }
    let deeds = lock(&hostile).deeds;
    Ok((verdicts, deeds))
}

/// Also while everything is killed now and then.
#[tokio::test(flavor = "multi_thread")]
async fn accepted_messages_arrive_once_and_in_order_through_a_hostile_relay() -> Result<()> {
    const SEEDS: u64 = 4;
    const AT_MOST: u64 = 20;
    let _turn = turn()?;
    let (mut total, mut deeds) = (Figures::default(), Deeds::default());
    let undone = |deeds: &Deeds| deeds.each().into_iter().find(|(what, times)| *times == 0 && *what != "lies");
    for seed in 1..=AT_MOST {
        // What was never done shows nothing.
        if seed > SEEDS && undone(&deeds).is_none() {
            break;
        }
        let menu = if seed % 2 == 0 { Menu::Everything } else { Menu::Nothing };
        let (verdicts, done) = behind_a_hostile_relay(seed, 2, Order::Kept, menu).await?;
        deeds.add(&done);
        for verdict in verdicts {
            let new = verdict.map_err(|broken| anyhow::anyhow!("seed {seed}, after {done}:\n{broken}"))?;
            total.sent += new.sent;
            total.accepted += new.accepted;
            total.shown += new.shown;
        }
    }
    ensure!(undone(&deeds).is_none(), "{AT_MOST} seeds, and this was never done: {:?}", undone(&deeds));
    println!("figure: {} deeds of a hostile relay: {deeds}", deeds.in_all());
    println!("figure: {total}");
    Ok(())
}

/// What this version does not notice (docs/security/catalogue.md, KEY-06): two envelopes of one sender, each under the other's number.
/// Nothing is lost by it, nothing shown twice and nothing made up.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_lies_about_the_order_changes_that_and_nothing_else() -> Result<()> {
    const AT_MOST: u64 = 20;
    let _turn = turn()?;
    let mut lies = 0;
    for seed in 101..=100 + AT_MOST {
        let (verdicts, done) = behind_a_hostile_relay(seed, 2, Order::LiedAbout, Menu::Nothing).await?;
        lies += done.lies;
        for broken in verdicts.into_iter().filter_map(Result::err) {
            let other = broken.breaches.iter().find(|breach| !matches!(breach, Breach::Order { .. }));
            ensure!(other.is_none(), "seed {seed}, after {done}:\n{broken}");
        }
        if lies >= 3 {
            println!("figure: {lies} envelopes under the number of another: every message once, the order the relay's");
            return Ok(());
        }
    }
    bail!("{AT_MOST} seeds, and only {lies} lies")
}

/// Where a bundle's fields are: `[payload, signature]`, the payload an array (docs/protocol.md, §3).
struct Fields {
    payload: Vec<u8>,
    signature: Vec<u8>,
    each: Vec<Range<usize>>,
}

const RELAY: usize = 4;
const PERMIT: usize = 6;
const SEAL_KEY: usize = 7;
const KEY_PACKAGE: usize = 8;

impl Fields {
    fn of(bundle: &[u8]) -> Result<Self> {
        let mut outer = minicbor::Decoder::new(bundle);
        ensure!(outer.array()? == Some(2), "a bundle is a payload and its signature");
        let (payload, signature) = (outer.bytes()?.to_vec(), outer.bytes()?.to_vec());
        let mut inner = minicbor::Decoder::new(&payload);
        let count = inner.array()?.context("a payload is an array")?;
        let mut each = Vec::new();
        for _ in 0..count {
            let from = inner.position();
            inner.skip()?;
            each.push(from..inner.position());
        }
        Ok(Self { payload, signature, each })
    }

    /// The same bundle with a field of another, still under its old signature.
    fn with(&self, field: usize, other: &Self) -> Result<Vec<u8>> {
        let (before, after) = (&self.payload[..self.each[field].start], &self.payload[self.each[field].end..]);
        Self::sealed(&[before, &other.payload[other.each[field].clone()], after].concat(), &self.signature)
    }

    fn sealed(payload: &[u8], signature: &[u8]) -> Result<Vec<u8>> {
        let mut out = minicbor::Encoder::new(Vec::new());
        out.array(2)?.bytes(payload)?.bytes(signature)?;
        Ok(out.into_writer())
    }
}

/// A web server of somebody else's, that answers every request with the same bytes.
struct WebServer {
    origin: String,
    answer: Arc<Mutex<Vec<u8>>>,
    asked: bulla_testkit::wait::Log<()>,
}

impl WebServer {
    async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let origin = format!("http://{}", listener.local_addr()?);
        let (answer, asked) = (Arc::<Mutex<Vec<u8>>>::default(), bulla_testkit::wait::Log::default());
        let (served, log) = (Arc::clone(&answer), asked.clone());
        let respond = move || {
            log.push(());
            std::future::ready(lock(&served).clone())
        };
        tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(respond)).await });
        Ok(Self { origin, answer, asked })
    }
}

async fn bundle_of(link: &str) -> Result<Vec<u8>> {
    let (place, _) = link.split_once('#').context("a link")?;
    let response = http()?.get(place).header("accept", "application/vnd.bulla.bundle").send().await?;
    Ok(response.error_for_status()?.bytes().await?.to_vec())
}

/// KEY-02, P1: whatever a web server (or a relay that serves the bundle) puts in the place of a business's keys, the customer's program
/// refuses it and says nothing to anybody: no relay sees a connection, neither the business's nor the other's.
#[tokio::test(flavor = "multi_thread")]
async fn key_02_another_bundle_seal_key_or_key_package_is_refused_and_nothing_is_sent() -> Result<()> {
    let _turn = turn()?;
    let plan = Plan { log: "debug", ..Plan::new()? };
    let (wire, other_wire) = (Arc::new(Mutex::new(Wire::default())), Arc::new(Mutex::new(Wire::default())));
    let real = Apart::start_behind(plan.clone(), Some(Arc::clone(&wire))).await?;
    // Of the same handle and name: only the key is another.
    let other = Apart::start_behind(plan, Some(Arc::clone(&other_wire))).await?;
    let server = WebServer::start().await?;
    let (_, key) = real.ready.link.split_once("/@").context("a link")?;
    let link = format!("{}/@{key}", server.origin);

    let good = bundle_of(&real.ready.link).await?;
    let (mine, theirs) = (Fields::of(&good)?, Fields::of(&bundle_of(&other.ready.link).await?)?);
    let sealed = Fields::sealed;
    ensure!(sealed(&mine.payload, &mine.signature)? == good, "a bundle is put together as the gateway does it");
    let mut lies: Vec<(String, Vec<u8>)> = vec![
        ("another business's bundle".into(), sealed(&theirs.payload, &theirs.signature)?),
        ("another business's signature".into(), sealed(&mine.payload, &theirs.signature)?),
        ("another business's payload".into(), sealed(&theirs.payload, &mine.signature)?),
        ("another seal key".into(), mine.with(SEAL_KEY, &theirs)?),
        ("another KeyPackage".into(), mine.with(KEY_PACKAGE, &theirs)?),
        ("another permit".into(), mine.with(PERMIT, &theirs)?),
        ("another relay".into(), mine.with(RELAY, &theirs)?),
        ("nothing".into(), Vec::new()),
        ("the beginning".into(), good[..good.len() / 2].to_vec()),
        ("a web page".into(), b"<!doctype html><title>Cortado</title>".to_vec()),
    ];
    let mut chance = Chance::new(2);
    for _ in 0..10 {
        let mut bytes = good.clone();
        let at = usize::try_from(chance.below(bytes.len() as u64))?;
        bytes[at] ^= 1 << chance.below(8);
        lies.push((format!("a bit turned at {at}"), bytes));
    }
    let seen = || (lock(&wire).connections(), lock(&other_wire).connections());
    let before = seen();
    for (number, (what, bytes)) in lies.iter().enumerate() {
        lock(&server.answer).clone_from(bytes);
        let data = real.folder().join(format!("refused-{number}"));
        let line = r#"printf 'my secret\n' | exec "$0" chat --plain --data "$1" "$2""#;
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", line]).arg(program("bulla")?).arg(&data).arg(&link);
        let refused = run(&mut shell).await?;
        ensure!(refused.code == Some(1) && refused.out.is_empty(), "{what}: {refused:?}");
        ensure!(refused.err.contains("does not lead to the business that it names"), "{what}: {refused:?}");
        ensure!(refused.err.contains("Nothing was sent"), "{what}: {refused:?}");
        ensure!(server.asked.len() == number + 1, "{what}: it was asked for {} times", server.asked.len());
        ensure!(seen() == before, "{what}: a relay was spoken to: {:?}, before {before:?}", seen());
    }
    ensure!(
        real.receiver.deliveries().is_empty() && other.receiver.deliveries().is_empty(),
        "somebody heard something"
    );

    // The control: the same server with the right bytes.
    lock(&server.answer).clone_from(&good);
    let mut anna =
        terminal::Terminal::run(&mut terminal::chat(&program("bulla")?, &real.folder().join("anna"), &link))?;
    anna.write("my secret")?;
    real.receiver.message("the message", |m| m["text"]["body"] == "my secret").await?;
    ensure!(seen().0 > before.0 && seen().1 == before.1, "with the right bundle, the right relay: {:?}", seen());
    println!(
        "figure: {} bundles with something else in the place of a key, permit, relay or signature: each refused",
        lies.len()
    );
    println!("figure: 0 connections to any relay and 0 messages sent because of them; with the right one 1 message");
    Ok(())
}
