//! A thousand marked messages through the whole system, everything logging at TRACE, and a look at every place where they must not be.
//!
//! Recipients are connected for the first half. For the second they are away: the customers' terminals have ended, then the gateway is
//! halted; so their messages wait at the relay while it is searched. That nothing is found means something because the same search
//! finds the marks where they must be: in the gateway's memory and on the customers' screens.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bulla_testkit::canary::{Canary, Scan, Scanner};
use bulla_testkit::process::{go_on, halt, turn};
use bulla_testkit::terminal::Line;
use bulla_testkit::wait::GUARD;
use bulla_testkit::webhook::{Delivery, Mood};
use bulla_testkit::world::{Customer, Which, World};
use data_encoding::{Encoding, Specification};
use futures_util::future::try_join_all;
use rand_core::OsRng;

/// A business, and customers whose names are marks.
struct Town {
    world: World,
    people: Vec<Person>,
    /// What the texts are marked with.
    mark: Canary,
    /// Messages said so far, in both directions.
    said: usize,
    next: u64,
}

struct Person {
    customer: Customer,
    name: Canary,
    user_id: String,
    /// What a client that knows only numbers calls her.
    wa_id: String,
    /// The last message that the business sent her.
    last: Option<String>,
}

impl Town {
    async fn with(people: usize) -> Result<Self> {
        let world = World::start().await?;
        let mut town = Self { world, people: Vec::new(), mark: Canary::new(&mut OsRng), said: 0, next: 0 };
        for _ in 0..people {
            let name = Canary::new(&mut OsRng);
            let mut customer = town.world.customer(name.mark())?;
            let text = town.next_text();
            customer.says(&text).await?;
            let is_hers = |m: &serde_json::Value| m["text"]["body"] == text.as_str();
            let (_, message) = town.world.receiver.message("her first message", is_hers).await?;
            let field = |name: &str| Ok::<_, anyhow::Error>(message[name].as_str().context("no id")?.to_owned());
            let (user_id, wa_id) = (field("from_user_id")?, field("from")?);
            town.people.push(Person { customer, name, user_id, wa_id, last: None });
        }
        Ok(town)
    }

    fn next_text(&mut self) -> String {
        (self.said, self.next) = (self.said + 1, self.next + 1);
        self.mark.text(self.next)
    }

    /// Everybody says so many things; they are stored on their side.
    async fn people_say(&mut self, each: usize) -> Result<Vec<String>> {
        let lines: Vec<Vec<_>> =
            (0..self.people.len()).map(|_| (0..each).map(|_| self.next_text()).collect()).collect();
        for (person, lines) in self.people.iter_mut().zip(&lines) {
            for line in lines {
                person.customer.terminal.write(line)?;
            }
        }
        for (person, last) in self.people.iter().zip(lines.iter().filter_map(|lines| lines.last())) {
            person.customer.terminal.stored(last).await?;
        }
        Ok(lines.concat())
    }

    /// The business says so many things to everybody, and the relay has them.
    async fn business_says(&mut self, each: usize) -> Result<Vec<String>> {
        let lines: Vec<Vec<_>> =
            (0..self.people.len()).map(|_| (0..each).map(|_| self.next_text()).collect()).collect();
        let posts = self.people.iter().zip(&lines).map(|(person, lines)| {
            let api = &self.world.api;
            async move {
                let mut last = String::new();
                for line in lines {
                    last = api.text(&person.user_id, line).await?.wamid()?;
                }
                Ok::<_, anyhow::Error>(last)
            }
        });
        let last = try_join_all(posts).await?;
        for (person, wamid) in self.people.iter_mut().zip(last) {
            self.world.receiver.status(&wamid, "sent").await?;
            person.last = Some(wamid);
        }
        Ok(lines.concat())
    }

    /// Waits until the business has got all of these.
    async fn business_hears(&self, wanted: Vec<String>) -> Result<()> {
        self.world.receiver.all_texts(GUARD * 2, wanted).await
    }

    /// Everybody says one thing more, and while the business's web server takes its time to answer, the gateway's memory is searched.
    async fn positive_control(&mut self, scanner: &Scanner) -> Result<Scan> {
        // Nothing else is on the way: each conversation's webhooks wait for one another.
        for wamid in self.people.iter().filter_map(|person| person.last.as_ref()) {
            self.world.receiver.status(wamid, "read").await?;
        }
        self.world.receiver.be(Mood::Slow(Duration::from_secs(5)));
        let mut on_the_way: BTreeSet<_> = self.people_say(1).await?.into_iter().collect();
        let all = |delivery: &Delivery| {
            let came: Vec<_> = delivery.messages().iter().map(|m| m["text"]["body"].clone()).collect();
            on_the_way.retain(|text| !came.iter().any(|c| c == text));
            on_the_way.is_empty().then_some(())
        };
        self.world.receiver.each(GUARD, "everybody's message", all).await?;
        let scan = scanner.memory(self.world.pid(Which::Gateway).await?);
        self.world.receiver.be(Mood::Well);
        scan
    }

    /// Waits until everybody has been shown so many texts of the business.
    async fn people_read(&self, each: usize) -> Result<()> {
        for person in &self.people {
            let enough = |lines: &[String]| {
                (lines.iter().filter(|line| matches!(Line::parse(line), Line::Text(_))).count() >= each).then_some(())
            };
            person.customer.terminal.stdout().until("all texts", enough).await?;
        }
        Ok(())
    }

    async fn relay_memory(&self, scanner: &Scanner) -> Result<Scan> {
        scanner.memory(self.world.pid(Which::Relay).await?)
    }

    fn relay_files(&self, scanner: &Scanner) -> Result<Scan> {
        scanner.files(&self.world.data().join("relay"))
    }
}

fn found_each(scan: &Scan, marks: &[&Canary], where_: &str) -> Result<()> {
    for mark in marks {
        let shown = format!("{:?}", mark.mark());
        let found = scan.findings.iter().any(|finding| finding.form.starts_with(&shown));
        ensure!(found, "the positive control: {shown} is not {where_}, where it must be; the search shows nothing");
    }
    Ok(())
}

/// P1, GW-01, GW-16: no text and no name in the relay's files, log and memory, in the gateway's files, or in any log.
#[tokio::test(flavor = "multi_thread")]
async fn p1_no_canary_at_the_relay_nor_in_the_gateways_files() -> Result<()> {
    const PEOPLE: usize = 4;
    const EACH: usize = 63;
    const EACH_AWAY: usize = 62;
    let _turn = turn()?;
    let mut town = Town::with(PEOPLE).await?;
    let names: Vec<_> = town.people.iter().map(|person| person.name.clone()).collect();
    let mark = town.mark.clone();
    let marks: Vec<&Canary> = names.iter().chain([&mark]).collect();
    let scanner = Scanner::new(marks.iter().copied());
    let (mut at_relay, mut in_files) = (Scan::default(), Scan::default());

    // Both sides are connected: envelopes pass through the relay's memory.
    let said = town.people_say(EACH - 2).await?;
    at_relay.add(town.relay_memory(&scanner).await?);
    town.business_says(EACH).await?;
    town.business_hears(said).await?;
    town.people_read(EACH).await?;
    at_relay.add(town.relay_memory(&scanner).await?);

    // The customers are away: what the business says waits at the relay.
    let (mut screens, mut logs) = (String::new(), String::new());
    for person in &mut town.people {
        screens.extend(person.customer.terminal.stdout().all());
        logs.push_str(&person.customer.terminal.stderr());
        person.customer.kill_9();
    }
    town.business_says(EACH_AWAY).await?;
    at_relay.add(town.relay_memory(&scanner).await?);
    at_relay.add(town.relay_files(&scanner)?);
    in_files.add(scanner.files(&town.world.data().join("gateway"))?);

    // The gateway is away.
    let gateway = town.world.pid(Which::Gateway).await?;
    halt(gateway);
    for person in &mut town.people {
        person.customer.comes_back()?;
    }
    town.people_read(EACH_AWAY).await?;
    let said = town.people_say(EACH_AWAY).await?;
    for person in &town.people {
        let sent =
            |lines: &[String]| (lines.iter().filter(|line| line.starts_with("✓ ")).count() >= EACH_AWAY).then_some(());
        person.customer.terminal.stdout().until("everything to be sent", sent).await?;
    }
    at_relay.add(town.relay_memory(&scanner).await?);
    at_relay.add(town.relay_files(&scanner)?);
    go_on(gateway);
    town.business_hears(said).await?;

    // The controls, and the last look.
    let control = town.positive_control(&scanner).await?;
    ensure!(town.said == 1_000, "{} messages", town.said);
    found_each(&control, &marks, "in the gateway's memory")?;
    found_each(&Scanner::new([&mark]).bytes("screens", screens.as_bytes()), &[&mark], "on the customers' screens")?;
    in_files.add(scanner.files(&town.world.data())?);
    at_relay.add(town.relay_memory(&scanner).await?);
    for person in &town.people {
        logs.push_str(&person.customer.terminal.stderr());
    }
    let of_parts = town.world.said();
    for (whose, log) in [("bulla up and its parts", &of_parts), ("the terminals", &logs)] {
        ensure!(log.contains("TRACE") || log.contains("DEBUG"), "{whose} logged nothing at TRACE:\n{log}");
    }
    logs.push_str(&of_parts);
    let in_logs = scanner.bytes("the logs of bulla up, its parts and the terminals", logs.as_bytes());
    at_relay.must_be_clean("the relay's memory and files")?;
    in_files.must_be_clean("the files of gateway and relay")?;
    in_logs.must_be_clean("the logs")?;
    let mib = |scan: &Scan| scan.bytes >> 20;
    println!(
        "figure: {} messages and {PEOPLE} names, marked, in both directions, half of them to who was away",
        town.said
    );
    println!(
        "figure: 0 found in {} MiB of the relay's memory and files, {} regions and files",
        mib(&at_relay),
        at_relay.places
    );
    println!(
        "figure: 0 found in {} MiB of the gateway's and the relay's files, {} files",
        mib(&in_files),
        in_files.places
    );
    println!("figure: 0 found in {} lines of log at TRACE", logs.lines().count());
    let times: usize = control.findings.iter().map(|finding| finding.times).sum();
    println!("figure: {times} found in {} MiB of the gateway's memory (positive control)", mib(&control));
    Ok(())
}

/// The 20 bytes of a `user_id`.
fn bytes_of(user_id: &str) -> Result<Vec<u8>> {
    let mut base32 = Specification::new();
    base32.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    let base32: Encoding = base32.encoding()?;
    Ok(base32.decode(user_id.trim_start_matches("ZZ.").as_bytes())?)
}

/// P4: who a customer is, by whatever name the business knows her, is nowhere at the relay: not in its files, its log, its memory, nor in
/// what it discloses. And where the business itself logs, it names nobody.
#[tokio::test(flavor = "multi_thread")]
async fn p4_no_name_or_pseudonym_at_the_relay() -> Result<()> {
    const EACH: usize = 10;
    let _turn = turn()?;
    let mut town = Town::with(3).await?;
    let mut marks = Vec::new();
    for person in &town.people {
        marks.push(person.name.clone());
        marks.push(Canary::of(&person.user_id));
        marks.push(Canary::of(&person.wa_id));
        let bytes = bytes_of(&person.user_id)?;
        ensure!(bytes.len() == 20, "{}", person.user_id);
        marks.push(Canary::of_bytes(&format!("bytes of {}", person.user_id), &bytes));
    }
    let scanner = Scanner::new(&marks);
    let mut at_relay = Scan::default();
    let said = town.people_say(EACH).await?;
    town.business_hears(said).await?;
    town.business_says(EACH).await?;
    at_relay.add(town.relay_memory(&scanner).await?);
    for person in &mut town.people {
        person.customer.kill_9();
    }
    town.business_says(EACH).await?;
    at_relay.add(town.relay_memory(&scanner).await?);
    at_relay.add(town.relay_files(&scanner)?);
    let disclosed = town.world.disclose()?;
    let waiting = disclosed["mailboxes"].as_array().context("no mailboxes")?;
    let waiting: usize = waiting.iter().map(|m| m["envelopes"].as_array().map_or(0, Vec::len)).sum();
    ensure!(waiting >= 3 * EACH, "only {waiting} envelopes wait: what was disclosed shows little");
    at_relay.add(scanner.bytes("what the relay discloses", disclosed.to_string().as_bytes()));
    let logs = town.world.said();
    at_relay.add(scanner.bytes("the logs of relay and gateway", logs.as_bytes()));

    for person in &mut town.people {
        person.customer.comes_back()?;
    }
    let control = town.positive_control(&scanner).await?;
    let texts: Vec<_> = marks.iter().filter(|mark| !mark.mark().starts_with("bytes of")).collect();
    found_each(&control, &texts, "in the gateway's memory")?;
    at_relay.must_be_clean("the relay's memory, files, disclosure and log")?;
    println!(
        "figure: {} names, user ids and numbers of 3 customers: 0 found in {} MiB of the relay's memory, files, disclosure ({waiting} \
         envelopes waiting) and log; all found in the gateway's memory",
        texts.len(),
        at_relay.bytes >> 20
    );
    Ok(())
}
