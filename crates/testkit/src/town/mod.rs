//! People, a business and a relay through some rounds of traffic and trouble: one history that every round adds to and is judged over.
//!
//! *Accepted* is, on the business's side, the API's answer 200; on the customer's, the line `> ID TEXT`. *Shown* is, at the business, a text
//! in a webhook, each message id once; at the customer, what its store holds (`bulla chat --plain --history`): printing is at least once
//! over a crash, the store exactly once.
//!
//! - [`plan`]: what happens in a round, drawn from a seed before it begins
//! - [`person`]: a customer, and the terminals that he has had

pub mod person;
pub mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::apart::Apart;
use crate::history::{Broken, Figures, History, Lane};
use crate::terminal::Line;
use crate::wait::Log;
use crate::webhook::{self, Delivery};
use anyhow::{Context as _, Result, ensure};
use futures_util::future::{try_join, try_join_all};
use tokio_util::sync::CancellationToken;

use person::{Life, Person, shown};
use plan::{Kill, Round, Talk, Target};

/// The business's name on lanes, and the beginning of what it says.
const BUSINESS: &str = "business";

/// How a round ended.
#[derive(Debug)]
pub struct Outcome {
    /// What the checker says over everything since the town was started; the figures are this round's.
    pub verdict: Result<Figures, Broken>,
    /// From its beginning to the verdict.
    pub took: Duration,
}

/// A business, a relay, and the customers of the moment.
#[derive(Debug)]
pub struct Town {
    parts: Apart,
    people: Vec<Person>,
    /// How many have ever come.
    known: usize,
    told: Told,
    before: Figures,
    /// What those who left had in their stores.
    kept: Vec<(Lane, Vec<String>)>,
}

/// What was sent and accepted so far, shared by all who speak in a round.
#[derive(Debug, Default)]
struct Told(Mutex<History>);

impl Told {
    fn lock(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Town {
    /// Around parts that run.
    #[must_use]
    pub fn around(parts: Apart) -> Self {
        let (told, before) = (Told::default(), Figures::default());
        Self { parts, people: Vec::new(), known: 0, told, before, kept: Vec::new() }
    }

    /// How many people are here.
    #[must_use]
    pub fn people(&self) -> usize {
        self.people.len()
    }

    /// The last lines of everybody, for a failure.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut all = vec![("relay", self.parts.relay.log()), ("gateway", self.parts.gateway.log())];
        all.extend(self.people.iter().map(|person| (person.name.as_str(), person.terminal.stderr())));
        let tail = |text: &str| {
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(25)..].join("\n")
        };
        all.iter().map(|(who, log)| format!("--- {who}\n{}\n", tail(log))).collect()
    }

    /// A round and its verdict. `patience`: how long what was accepted may take to be shown.
    pub async fn round(&mut self, number: u64, plan: &Round, patience: Duration) -> Result<Outcome> {
        let began = Instant::now();
        self.talks(number, plan, patience).await?;
        let verdict = self.verdict(number, plan, patience).await?;
        Ok(Outcome { verdict, took: began.elapsed() })
    }

    /// People come, go and talk, parts are killed, everything is started again.
    pub async fn talks(&mut self, number: u64, plan: &Round, patience: Duration) -> Result<()> {
        self.people_come_and_go(plan).await?;
        self.traffic(number, plan, patience).await
    }

    /// Waits until what was accepted is shown, and judges: everything since the town began; the figures are of what is new.
    pub async fn verdict(&mut self, number: u64, plan: &Round, patience: Duration) -> Result<Result<Figures, Broken>> {
        self.what_was_accepted_is_shown(patience).await?;

        // Taken before the people speak again: their next words are of the next round.
        let at_business = self.parts.receiver.texts();
        let mut judged = self.told.lock().clone();
        let (parts, told) = (&self.parts, &self.told);
        let stores = self.people.iter_mut().zip(&plan.talks).map(|(person, talk)| async move {
            let texts = person.store(parts, told, number, talk).await;
            texts.with_context(|| person.name.clone()).map(|texts| (person.hears(), texts))
        });
        for (lane, texts) in try_join_all(stores).await?.iter().chain(&self.kept) {
            texts.iter().for_each(|text| judged.shown(lane, text));
        }
        let mut names: BTreeMap<&str, &str> = BTreeMap::new();
        for (user, text) in &at_business {
            let name = names.entry(user).or_insert_with(|| text.split(' ').next().unwrap_or_default());
            judged.shown(&Lane::new(name, BUSINESS), text);
        }
        Ok(judged.verdict().map(|all| {
            let before = std::mem::replace(&mut self.before, all);
            Figures {
                sent: all.sent - before.sent,
                accepted: all.accepted - before.accepted,
                shown: all.shown - before.shown,
            }
        }))
    }

    async fn people_come_and_go(&mut self, plan: &Round) -> Result<()> {
        for mut person in self.people.drain(..plan.leave) {
            // Whoever leaves has been told what became of his words.
            person.lives(&self.parts, &self.told).await?;
            let (lane, name) = (person.hears(), person.name);
            let (code, lines) = person.terminal.finish().await?;
            ensure!(code == Some(0), "{name} left when everything was delivered, and the program ended with {code:?}");
            self.kept.push((lane, shown(lines.into_iter())));
        }
        for _ in 0..plan.come {
            let name = format!("person{}", self.known);
            self.known += 1;
            self.people.push(Person::comes(&self.parts, name)?);
        }
        Ok(())
    }

    async fn traffic(&mut self, number: u64, plan: &Round, patience: Duration) -> Result<()> {
        let (parts, told, begun) = (&self.parts, &self.told, &Log::default());
        let lives: Vec<_> = self.people.iter().map(|person| person.life.clone()).collect();
        let names: Vec<_> = self.people.iter().map(|person| person.name.clone()).collect();
        let over = &CancellationToken::new();
        let customers = self.people.iter_mut().zip(&plan.talks).map(|(person, talk)| async move {
            let talked = person.talks(parts, told, begun, over, number, talk).await;
            talked.with_context(|| person.name.clone())
        });
        let answers = names.iter().zip(&plan.talks).map(|(name, talk)| async move {
            // A customer whose first word does not come: the verdict says so, if it was accepted.
            match heard_of(parts, name, patience).await {
                Some(user) => answers(parts, told, begun, number, name, &user, talk).await,
                None => {
                    (0..talk.answers).for_each(|_| begun.push(()));
                    Ok(())
                }
            }
        });
        let faults = plan.kills.iter().map(|kill| strikes(parts, begun, &lives, kill));
        let others = async {
            try_join(try_join_all(answers), try_join_all(faults)).await?;
            over.cancel();
            Ok(())
        };
        try_join(try_join_all(customers), others).await.map(drop)
    }

    /// Waits for it; what does not come in time is the verdict's.
    async fn what_was_accepted_is_shown(&mut self, patience: Duration) -> Result<()> {
        for person in &mut self.people {
            person.lives(&self.parts, &self.told).await?;
        }
        let missing = self.told.lock().missing();
        let owed = |lane: &Lane| -> BTreeSet<String> {
            missing.iter().filter(|(on, _)| on == lane).map(|(_, text)| text.clone()).collect()
        };
        let deadline = tokio::time::Instant::now() + patience;
        let left = || deadline.saturating_duration_since(tokio::time::Instant::now());
        for person in &self.people {
            let mut owed = owed(&person.hears());
            owed.retain(|text| !person.read.contains(text));
            let all_read = |lines: &[String]| {
                let read = shown(lines.iter().map(|line| Line::parse(line)));
                owed.iter().all(|text| read.contains(text)).then_some(())
            };
            person.terminal.stdout().until_within(left(), "everything", all_read).await.ok();
        }
        let owed = self.people.iter().flat_map(|person| owed(&person.says()));
        self.parts.receiver.all_texts(left(), owed).await.ok();
        Ok(())
    }
}

/// A customer's `user_id`, once a first message has come.
async fn heard_of(parts: &Apart, name: &str, patience: Duration) -> Option<String> {
    let begins = format!("{name} ");
    let first = |delivery: &Delivery| {
        let texts = webhook::texts(std::slice::from_ref(delivery));
        texts.into_iter().find(|(_, text)| text.starts_with(&begins)).map(|(user, _)| user)
    };
    parts.receiver.each(patience, "a first message", first).await.ok()
}

/// The API's side of a conversation.
async fn answers(
    parts: &Apart,
    told: &Told,
    begun: &Log<()>,
    round: u64,
    name: &str,
    user: &str,
    talk: &Talk,
) -> Result<()> {
    let lane = Lane::new(BUSINESS, name);
    for number in 0..talk.answers {
        let text = format!("{BUSINESS} to {name} {round}.{number}");
        told.lock().sends(&lane, &text);
        begun.push(());
        match parts.api.text(user, &text).await {
            Ok(answer) => {
                answer.wamid()?;
                told.lock().accepted(&lane, &text);
            }
            // Nobody knows whether it left: the next one is another.
            Err(_) => parts.gateway_listens().await?,
        }
    }
    Ok(())
}

/// One kill -9, at its moment.
async fn strikes(parts: &Apart, begun: &Log<()>, lives: &[Life], kill: &Kill) -> Result<()> {
    begun.until("so many messages", |all| (all.len() >= kill.after).then_some(())).await?;
    // Not a wait for anything: the moment itself is random.
    tokio::time::sleep(kill.then).await;
    let server = match kill.target {
        Target::Terminal(person) => return lives[person].ends().await,
        Target::Relay => &parts.relay,
        Target::Gateway => &parts.gateway,
    };
    server.kill();
    tokio::time::sleep(kill.away).await;
    server.start_again()
}
