//! A child process that says one line of JSON when it is ready, then maybe more, and is started again when it ends.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout};

/// How long a child may take to end when its standard input has ended, before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// Pauses between starts that failed: first and longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Starts in a row that may fail before the whole gives up: about half a minute.
const STARTS: u32 = 10;

/// A child that ran so long has not failed to start.
const STEADY: Duration = Duration::from_secs(30);

/// What a running part says.
pub(super) enum Said {
    /// A line.
    Line(String),
    /// It has ended.
    Ended(String),
}

/// A running child, or one between two starts.
pub(super) struct Part {
    name: &'static str,
    child: Child,
    /// The child ends when this does: also if this process is killed.
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    ready: String,
    began: Instant,
    /// Starts in a row after which it ended soon.
    failed: u32,
}

impl Part {
    /// Starts it and waits until it is ready.
    pub(super) async fn start(name: &'static str, mut command: Command) -> anyhow::Result<Self> {
        // A process group of its own: Ctrl-C reaches this program alone, which then ends its parts in order.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let Some(ready) = lines.next_line().await.with_context(|| format!("cannot read what {name} says"))? else {
            let status = child.wait().await.with_context(|| format!("{name} cannot be waited for"))?;
            bail!("{name} did not start ({status}); what it said stands above");
        };
        Ok(Self { name, child, stdin, lines, ready, began: Instant::now(), failed: 0 })
    }

    /// What it said when it was ready.
    pub(super) fn ready<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_str(&self.ready)
            .with_context(|| format!("{} is of another version than this program; build both together", self.name))
    }

    /// The next line, or its end. Safe to cancel.
    pub(super) async fn said(&mut self) -> Said {
        match self.lines.next_line().await {
            Ok(Some(line)) => Said::Line(line),
            _ => match self.child.wait().await {
                Ok(status) => Said::Ended(status.to_string()),
                Err(error) => Said::Ended(error.to_string()),
            },
        }
    }

    /// Starts it again, as often as it takes; gives up when it ends soon again and again.
    pub(super) async fn start_again(&mut self, command: impl Fn() -> Command) -> anyhow::Result<()> {
        let mut failed = if self.began.elapsed() >= STEADY { 0 } else { self.failed };
        loop {
            // The first time at once: most often somebody ended it.
            if failed > 0 {
                tokio::time::sleep(PAUSE.0.saturating_mul(1 << failed.min(8)).min(PAUSE.1)).await;
            }
            failed += 1;
            match Self::start(self.name, command()).await {
                Ok(part) => {
                    *self = Self { failed, ..part };
                    return Ok(());
                }
                Err(error) if failed >= STARTS => {
                    return Err(error).with_context(|| format!("{} ended {failed} times in a row", self.name));
                }
                Err(error) => tracing::warn!(part = self.name, error = format!("{error:#}"), "not started again yet"),
            }
        }
    }

    /// Asks it to end, waits, and kills it if it does not.
    pub(super) async fn stop(&mut self) {
        self.stdin = None;
        // It may still print, and must not find the pipe full.
        let drain = async { while let Ok(Some(_)) = self.lines.next_line().await {} };
        let ended = timeout(GRACE, async {
            drain.await;
            self.child.wait().await
        });
        if ended.await.is_err() {
            tracing::warn!(part = self.name, "does not end, killed");
            self.child.kill().await.ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(code: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", code]);
        command
    }

    #[tokio::test]
    async fn a_part_says_ready_ends_with_its_input_and_is_started_again() {
        let mut part = Part::start("sh", sh(r#"echo '{"x":1}'; echo more; read wait"#)).await.unwrap();
        assert_eq!(part.ready::<serde_json::Value>().unwrap()["x"], 1);
        assert!(matches!(part.said().await, Said::Line(line) if line == "more"));
        part.child.start_kill().unwrap();
        assert!(matches!(part.said().await, Said::Ended(how) if how.contains('9')));
        part.start_again(|| sh("echo 2; read wait")).await.unwrap();
        assert_eq!(part.ready::<u32>().unwrap(), 2);
        part.stop().await;
        assert!(part.child.try_wait().unwrap().is_some());
    }

    #[tokio::test]
    async fn what_does_not_start_is_said() {
        let error = Part::start("sh", sh("exit 3")).await.err().unwrap();
        assert!(error.to_string().contains("did not start"), "{error}");
        let error = Part::start("nothing", Command::new("/no/such/program")).await.err().unwrap();
        assert!(error.to_string().contains("cannot start nothing"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_never_stays_up_is_given_up() {
        let mut part = Part::start("sh", sh("echo 1")).await.unwrap();
        let error = part.start_again(|| sh("exit 1")).await.unwrap_err();
        assert!(error.to_string().contains("10 times in a row"), "{error}");
    }
}
