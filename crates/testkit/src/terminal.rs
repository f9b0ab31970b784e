//! A customer in a terminal: `bulla chat --plain`, its lines as events.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::process::Part;
use crate::wait::{GUARD, Log};

/// A line of `bulla chat --plain`; texts are unescaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// `> ID TEXT`: stored and on its way.
    Stored {
        /// First digits of the message's id.
        id: String,
        /// What was said.
        text: String,
    },
    /// `✓ ID`: the relay has it.
    Sent(String),
    /// `✓✓ ID`: on the business's side.
    Delivered(String),
    /// `👁 ID`: read.
    Read(String),
    /// `! ID REASON`.
    Failed {
        /// First digits of the message's id.
        id: String,
        /// Why.
        reason: String,
    },
    /// `< TEXT`: a message of the business.
    Text(String),
    /// `~ 👍 ID`: a reaction of the business.
    Reaction {
        /// The emoji, or `-`.
        emoji: String,
        /// First digits of the id of what it stands on.
        id: String,
    },
    /// Anything else.
    Other(String),
}

impl Line {
    /// From a line of standard output.
    #[must_use]
    pub fn parse(line: &str) -> Self {
        let other = || Self::Other(line.to_owned());
        let Some((mark, rest)) = line.split_once(' ') else { return other() };
        let two = || rest.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()));
        match mark {
            "<" => Self::Text(unescape(rest)),
            "✓" => Self::Sent(rest.to_owned()),
            "✓✓" => Self::Delivered(rest.to_owned()),
            "👁" => Self::Read(rest.to_owned()),
            ">" => two().map_or_else(other, |(id, text)| Self::Stored { id, text: unescape(&text) }),
            "!" => two().map_or_else(other, |(id, reason)| Self::Failed { id, reason }),
            "~" => match two() {
                Some((emoji, id)) if !id.contains(' ') => Self::Reaction { emoji, id },
                _ => other(),
            },
            _ => other(),
        }
    }
}

/// Takes back what `bulla chat --plain` escapes: `\\`, `\n`, `\t`, `\u{…}`.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match rest.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('u') => {
                let hex: String = rest.by_ref().skip_while(|c| *c == '{').take_while(|c| *c != '}').collect();
                out.extend(u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

/// A running terminal.
#[derive(Debug)]
pub struct Terminal {
    part: Part,
}

impl Terminal {
    /// Starts a command of [`chat`], with whatever was added to it.
    pub fn run(command: &mut Command) -> Result<Self> {
        Ok(Self { part: Part::start(command)? })
    }

    /// The program's own lines on standard error.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.part.stderr.all().join("\n")
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.part.pid()
    }

    /// Writes a line: a message, or a command.
    pub fn write(&mut self, line: &str) -> Result<()> {
        self.part.write_line(line)
    }

    /// Its lines on standard output, to be waited on.
    #[must_use]
    pub fn stdout(&self) -> &Log<String> {
        &self.part.stdout
    }

    /// Everything that it printed so far.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.part.stdout.all().iter().map(|line| Line::parse(line)).collect()
    }

    /// Waits for a line.
    pub async fn until<R>(&self, what: &str, seen: impl Fn(&Line) -> Option<R>) -> Result<R> {
        let found = self.part.stdout.until(what, |all| all.iter().find_map(|line| seen(&Line::parse(line)))).await;
        found.with_context(|| format!("the terminal said:\n{}", tail(&self.stderr())))
    }

    /// Waits until a text of one's own is stored; its id.
    pub async fn stored(&self, text: &str) -> Result<String> {
        let is = |line: &Line| matches!(line, Line::Stored { text: t, .. } if t == text).then(|| line.clone());
        match self.until(&format!("{text:?} to be stored"), is).await? {
            Line::Stored { id, .. } => Ok(id),
            _ => unreachable!("only this kind fits"),
        }
    }

    /// Waits until the business's text is shown.
    pub async fn shows(&self, text: &str) -> Result<()> {
        let is = |line: &Line| matches!(line, Line::Text(t) if t == text).then_some(());
        self.until(&format!("{text:?} to be shown"), is).await
    }

    /// Waits until a message of one's own was delivered.
    pub async fn delivered(&self, id: &str) -> Result<()> {
        let is = |line: &Line| matches!(line, Line::Delivered(i) if i == id).then_some(());
        self.until("✓✓", is).await
    }

    /// Ends its input and waits for its end: it delivers everything first.
    pub async fn finish(mut self) -> Result<(Option<i32>, Vec<Line>)> {
        self.part.end_input();
        let code = self.part.ended(GUARD).await.with_context(|| tail(&self.stderr()))?;
        self.part.stdout.complete().await?;
        Ok((code, self.lines()))
    }

    /// Waits for its end, and for all that it printed, without ending its input.
    pub async fn ended(&mut self, guard: Duration) -> Result<Option<i32>> {
        let code = self.part.ended(guard).await?;
        self.part.stdout.complete().await?;
        self.part.stderr.complete().await?;
        Ok(code)
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.part.kill();
    }
}

/// `bulla chat --plain` with the folder `data`, on `link`.
#[must_use]
pub fn chat(program: &Path, data: &Path, link: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["chat", "--plain", "--data"]).arg(data).arg(link).env("BULLA_LOG", "trace");
    command
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// The folder of a customer's terminal in a test's folder.
#[must_use]
pub fn folder(of: &Path, name: &str) -> PathBuf {
    of.join(format!("customer-{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_help_describes_them() {
        assert_eq!(Line::parse("> 0a1b2c3d hello"), Line::Stored { id: "0a1b2c3d".into(), text: "hello".into() });
        assert_eq!(Line::parse("✓ 0a1b2c3d"), Line::Sent("0a1b2c3d".into()));
        assert_eq!(Line::parse("✓✓ 0a1b2c3d"), Line::Delivered("0a1b2c3d".into()));
        assert_eq!(Line::parse("👁 0a1b2c3d"), Line::Read("0a1b2c3d".into()));
        assert_eq!(Line::parse("! 0a1b2c3d no way"), Line::Failed { id: "0a1b2c3d".into(), reason: "no way".into() });
        assert_eq!(Line::parse(r"< a\nb\\c\u{7}"), Line::Text("a\nb\\c\u{7}".into()));
        assert_eq!(Line::parse("~ 👍 0a1b2c3d"), Line::Reaction { emoji: "👍".into(), id: "0a1b2c3d".into() });
        assert_eq!(Line::parse("~ edited 0a1b2c3d x"), Line::Other("~ edited 0a1b2c3d x".into()));
        assert_eq!(Line::parse("?"), Line::Other("?".into()));
    }
}
