//! From the API to the terminal and back, as a business and its customer feel it: `bulla up`, `bulla chat --plain`, a webhook receiver,
//! all as real programs.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bulla_testkit::process::{Part, program};
use bulla_testkit::world::World;
use serde_json::Value;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::bench::{Bar, Bench, Group};
use crate::meter::Meter;
use crate::sealing::TEXT;
use crate::stats::percentile;

/// One message every so often: what is measured is the way, not a queue.
const EVERY: Duration = Duration::from_millis(50);

/// Of so many messages of `--messages`, one is sent here: it takes milliseconds, not microseconds.
const ONE_IN: u64 = 100;

/// Fewer say nothing about the slowest.
const AT_LEAST: u64 = 50;

/// What is sent before the clock runs: connections are made, caches filled.
const WARM_UP: u64 = 10;

/// Both directions.
pub(crate) async fn measure(bench: &Bench) -> Result<Group> {
    let mut group = Group::new(
        "latency",
        "From the API to the terminal, and back",
        "`bulla up` (relay and gateway) and `bulla chat --plain` on this machine; texts of 1,024 bytes, one at a time, at most 20 a \
         second. To the terminal: from the beginning of `POST …/messages` until the terminal has printed the text; on the way the \
         gateway and the terminal make it durable. To the webhook: from the line typed until the business's server has the webhook.",
    );
    let messages = (bench.messages / ONE_IN).max(AT_LEAST);
    for run in 0..bench.runs {
        let world = World::start_logging("warn").await?;
        let mut chat = chat(&world)?;
        chat.write_line("hello")?;
        let (_, hello) = world.receiver.message("the customer's hello", |m| m["text"]["body"] == "hello").await?;
        let user = hello["from_user_id"].as_str().or(hello["from"].as_str()).context("the webhook names nobody")?;

        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for (case, direction) in [
            ("POST until the terminal shows it", Direction::ToTerminal { user: user.to_owned() }),
            ("line typed until the webhook", Direction::ToWebhook),
        ] {
            let mut way = Way { world: &world, chat: &mut chat, every: &mut every, direction };
            way.go("warm", WARM_UP, None).await?;
            let bar = bench.bar(case, run, messages);
            let meter = Meter::begin(None)?;
            let took = way.go("measured", messages, Some(&bar)).await?;
            bench.note(&meter.end()?);
            for (what, percent) in [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("slowest", 100.0)] {
                group.add(what, case, "ms", percentile(&took, percent));
            }
            group.add_samples(case, took);
        }
    }
    Ok(group)
}

/// A customer's terminal, quiet, so that its log costs nothing.
fn chat(world: &World) -> Result<Part> {
    let mut command = Command::new(program("bulla")?);
    command.args(["chat", "--plain", "--name", "Bench", "--data"]).arg(world.folder().join("customer"));
    Part::start(command.arg(&world.ready.link).env("BULLA_LOG", "warn"))
}

enum Direction {
    ToTerminal { user: String },
    ToWebhook,
}

struct Way<'a> {
    world: &'a World,
    chat: &'a mut Part,
    every: &'a mut Interval,
    direction: Direction,
}

impl Way<'_> {
    /// Sends texts one after the other; how long each took to come out at the other end, ms.
    async fn go(&mut self, prefix: &str, messages: u64, bar: Option<&Bar>) -> Result<Vec<f64>> {
        let mut took = Vec::new();
        for number in 0..messages {
            let text = format!("{:x<TEXT$}", format!("{prefix} {number} "));
            self.every.tick().await;
            let began = Instant::now();
            match &self.direction {
                Direction::ToTerminal { user } => self.reach_terminal(user, &text).await?,
                Direction::ToWebhook => self.reach_webhook(&text).await?,
            }
            took.push(began.elapsed().as_secs_f64() * 1e3);
            if let Some(bar) = bar {
                bar.inc(1);
            }
        }
        Ok(took)
    }

    async fn reach_terminal(&self, user: &str, text: &str) -> Result<()> {
        // Only what is printed from here on is looked at: the line before may be anything.
        let printed = self.chat.stdout.len();
        let line = format!("< {text}");
        let shown = self.chat.stdout.until("the terminal to show it", move |all| {
            all.iter().skip(printed).any(|printed| *printed == line).then_some(())
        });
        let (answer, shown) = tokio::join!(self.world.api.text(user, text), shown);
        let answer = answer?;
        ensure!(answer.status == 200, "the API answered {} {}", answer.status, answer.body);
        shown
    }

    async fn reach_webhook(&mut self, text: &str) -> Result<()> {
        let deliveries = self.world.receiver.deliveries();
        let before = deliveries.len();
        self.chat.write_line(text)?;
        deliveries
            .until("the webhook", |all| {
                let mut messages = all.iter().skip(before).flat_map(bulla_testkit::webhook::Delivery::messages);
                messages.find(|message: &Value| message["text"]["body"] == text).map(|_| ())
            })
            .await
    }
}
