//! A customer, and the terminals that he has had: each is killed at some moment, the folder stays.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::apart::Apart;
use crate::history::Lane;
use crate::process::kill_9;
use crate::terminal::{Line, Terminal};
use crate::wait::Log;
use anyhow::{Context as _, Result, bail, ensure};
use tokio_util::sync::CancellationToken;

use super::plan::Talk;
use super::{BUSINESS, Told};

/// A terminal that ends so often in one round does not end because it is killed.
const RETURNS: usize = 30;

/// A terminal's process, and its output, which ends with it.
#[derive(Debug, Clone)]
pub(super) struct Life(Arc<Mutex<(u32, Log<String>)>>);

impl Life {
    fn of(terminal: &Terminal) -> Self {
        Self(Arc::new(Mutex::new((terminal.pid(), terminal.stdout().clone()))))
    }

    fn lock(&self) -> MutexGuard<'_, (u32, Log<String>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn goes_on_as(&self, terminal: &Terminal) {
        *self.lock() = (terminal.pid(), terminal.stdout().clone());
    }

    /// kill -9, and waits until it is over. Does nothing to one that has ended already, whose number may be another's by now.
    pub(super) async fn ends(&self) -> Result<()> {
        let (pid, stdout) = self.lock().clone();
        if !stdout.is_closed() {
            kill_9(pid);
        }
        stdout.complete().await
    }
}

#[derive(Debug)]
pub(super) struct Person {
    pub(super) name: String,
    pub(super) terminal: Terminal,
    /// The terminal's process, for whoever wants to end it.
    pub(super) life: Life,
    /// What any of the terminals has shown so far.
    pub(super) read: BTreeSet<String>,
    said: u64,
    returns: usize,
}

impl Person {
    pub(super) fn comes(parts: &Apart, name: String) -> Result<Self> {
        let terminal = Terminal::run(parts.chat(&name).args(["--name", &name]))?;
        let life = Life::of(&terminal);
        Ok(Self { name, terminal, life, read: BTreeSet::new(), said: 0, returns: 0 })
    }

    /// What he says to the business.
    pub(super) fn says(&self) -> Lane {
        Lane::new(&self.name, BUSINESS)
    }

    /// What the business says to him.
    pub(super) fn hears(&self) -> Lane {
        Lane::new(BUSINESS, &self.name)
    }

    /// Writes his lines of a round, whatever happens to his terminal, and keeps one running until everybody else is done.
    pub(super) async fn talks(
        &mut self,
        parts: &Apart,
        told: &Told,
        begun: &Log<()>,
        over: &CancellationToken,
        round: u64,
        talk: &Talk,
    ) -> Result<()> {
        self.returns = 0;
        for burst in &talk.bursts {
            let mut last = None;
            for _ in 0..*burst {
                let text = self.next_words(round);
                told.lock().sends(&self.says(), &text);
                begun.push(());
                // Into a pipe that nobody reads any more: it will be seen below.
                last = self.terminal.write(&text).is_ok().then_some(text);
            }
            let stored = match &last {
                Some(text) => self.terminal.stored(text).await,
                None => Ok(String::new()),
            };
            if last.is_none() || self.has_ended() {
                tokio::time::sleep(talk.away).await;
                self.lives(parts, told).await?;
            } else {
                stored?;
            }
        }
        // A conversation begins with its customer: what was cut off before it was ever stored is said again, in other words.
        while !told.lock().any_accepted(&self.says()) {
            self.lives(parts, told).await?;
            let text = self.next_words(round);
            told.lock().sends(&self.says(), &text);
            let stored = match self.terminal.write(&text) {
                Ok(()) => self.terminal.stored(&text).await.map(drop),
                Err(_) => self.terminal.stdout().complete().await,
            };
            if !self.has_ended() {
                stored?;
            }
            self.harvest(told);
        }
        loop {
            tokio::select! {
                () = over.cancelled() => return Ok(()),
                _ = self.terminal.stdout().complete() => {
                    tokio::time::sleep(talk.away).await;
                    self.lives(parts, told).await?;
                }
            }
        }
    }

    fn next_words(&mut self, round: u64) -> String {
        self.said += 1;
        format!("{} {round}.{}", self.name, self.said)
    }

    fn has_ended(&self) -> bool {
        self.terminal.stdout().is_closed()
    }

    /// Writes down what the terminal has said so far.
    pub(super) fn harvest(&mut self, told: &Told) {
        for line in self.terminal.lines() {
            match line {
                Line::Stored { text, .. } => told.lock().accepted(&self.says(), &text),
                Line::Text(text) => drop(self.read.insert(text)),
                _ => {}
            }
        }
    }

    /// Makes sure that a terminal runs: if the last one has ended, another one goes on in its folder.
    pub(super) async fn lives(&mut self, parts: &Apart, told: &Told) -> Result<()> {
        if self.has_ended() {
            self.returns += 1;
            if self.returns > RETURNS {
                bail!("{}'s terminal ends again and again; it says:\n{}", self.name, self.terminal.stderr());
            }
            self.harvest(told);
            // Its first start may have found nobody to fetch the bundle from.
            parts.gateway_listens().await?;
            self.start(&mut parts.chat(&self.name))?;
        } else {
            self.harvest(told);
        }
        Ok(())
    }

    fn start(&mut self, command: &mut Command) -> Result<()> {
        self.terminal = Terminal::run(command.args(["--name", &self.name]))?;
        self.life.goes_on_as(&self.terminal);
        Ok(())
    }

    /// What his store holds of the business's words. The terminal ends for that, in order or by kill -9, and the one that follows prints
    /// everything stored before it takes the next line.
    pub(super) async fn store(&mut self, parts: &Apart, told: &Told, round: u64, talk: &Talk) -> Result<Vec<String>> {
        self.lives(parts, told).await?;
        if talk.ends_in_order {
            let next = Terminal::run(&mut Command::new("true"))?;
            let (code, lines) = std::mem::replace(&mut self.terminal, next).finish().await?;
            ensure!(code == Some(0), "everything was delivered, and the program ended with {code:?}: {lines:?}");
        } else {
            self.terminal.kill();
            self.terminal.stdout().complete().await?;
            self.harvest(told);
        }
        self.start(parts.chat(&self.name).arg("--history"))?;
        let text = self.next_words(round);
        told.lock().sends(&self.says(), &text);
        self.terminal.write(&text)?;
        self.terminal.stored(&text).await.context("the line after the history")?;
        let lines = self.terminal.lines().into_iter();
        Ok(shown(lines.take_while(|line| !matches!(line, Line::Stored { text: t, .. } if *t == text))))
    }
}

/// The business's texts among lines.
pub(super) fn shown(lines: impl Iterator<Item = Line>) -> Vec<String> {
    lines.filter_map(|line| if let Line::Text(text) = line { Some(text) } else { None }).collect()
}
