//! Real programs as children: found beside the tests, gone when their owner is dropped, killed by number.

use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal};

use crate::wait::{Log, look};

/// A program that was built with the tests: `cargo xtask test` builds all of them first.
pub fn program(name: &str) -> Result<PathBuf> {
    // target/debug/deps/<test> → target/debug/<name>
    let exe = std::env::current_exe().context("where is this test?")?;
    let folder = exe.ancestors().find(|dir| dir.join(name).is_file());
    match folder {
        Some(folder) => Ok(folder.join(name)),
        None => bail!("{name} is not built: cargo build --workspace --bins (or run cargo xtask test)"),
    }
}

/// A running child. Dropping it kills it and waits until it is gone.
#[derive(Debug)]
pub struct Part {
    child: Child,
    stdin: Option<ChildStdin>,
    /// What it printed on standard output, line by line.
    pub stdout: Log<String>,
    /// What it printed on standard error, line by line.
    pub stderr: Log<String>,
}

impl Part {
    /// Starts it with pipes on all three.
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let (stdout, stderr) = (Log::default(), Log::default());
        pump(child.stdout.take().context("no standard output")?, stdout.clone());
        pump(child.stderr.take().context("no standard error")?, stderr.clone());
        let stdin = child.stdin.take();
        Ok(Self { child, stdin, stdout, stderr })
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes one line to its standard input.
    pub fn write_line(&mut self, line: &str) -> Result<()> {
        use std::io::Write as _;
        let stdin = self.stdin.as_mut().context("its standard input is closed")?;
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).context("it does not read any more")
    }

    /// Ends its standard input.
    pub fn end_input(&mut self) {
        self.stdin = None;
    }

    /// kill -9, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&self) {
        signal(self.pid(), Signal::TERM);
    }

    /// Waits for its end; its exit code, or none if a signal ended it.
    pub async fn ended(&mut self, guard: Duration) -> Result<Option<i32>> {
        let child = &mut self.child;
        let status = look(guard, "a program to end", || child.try_wait().ok().flatten()).await?;
        Ok(status.code())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.kill();
    }
}

fn pump(from: impl std::io::Read + Send + 'static, to: Log<String>) {
    use std::io::BufRead as _;
    std::thread::spawn(move || {
        let mut lines = std::io::BufReader::new(from);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            to.push(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned());
            line.clear();
        }
        to.close();
    });
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        rustix::process::kill_process(pid, signal).ok();
    }
}

/// kill -9 of a process that somebody else started: the children of `bulla up`.
pub fn kill_9(pid: u32) {
    signal(pid, Signal::KILL);
}

/// Halts a process where it stands (SIGSTOP): its connections stay, and it answers nothing.
pub fn halt(pid: u32) {
    signal(pid, Signal::STOP);
}

/// Lets a halted process go on (SIGCONT).
pub fn go_on(pid: u32) {
    signal(pid, Signal::CONT);
}

/// The living children of a process, with the name of their program.
#[must_use]
pub fn children(of: u32) -> Vec<(u32, String)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = Stat::read(pid)?;
        (stat.parent == of && !stat.is_zombie).then_some((pid, stat.name))
    })
    .collect()
}

/// What `/proc/PID/stat` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// The program's name, at most 15 characters.
    pub name: String,
    /// Who started it.
    pub parent: u32,
    /// It has ended, and its parent has not looked yet.
    pub is_zombie: bool,
    /// Processor time used, user and system, in ticks (a hundredth of a second on Linux).
    pub ticks: u64,
    /// That of its children that have ended and that it has looked at.
    pub waited: u64,
}

impl Stat {
    /// Of a living process.
    #[must_use]
    pub fn read(pid: u32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name stands in parentheses and may contain anything, also parentheses.
    fn parse(text: &str) -> Option<Self> {
        let (before, after) = text.rsplit_once(')')?;
        let name = before.split_once('(')?.1.to_owned();
        let fields: Vec<_> = after.split_whitespace().collect();
        let number = |index: usize| fields.get(index).and_then(|f| f.parse::<u64>().ok());
        Some(Self {
            name,
            parent: u32::try_from(number(1)?).ok()?,
            is_zombie: fields.first().is_some_and(|state| *state == "Z"),
            ticks: number(11)? + number(12)?,
            waited: number(13)? + number(14)?,
        })
    }
}

/// Waits until a process that somebody else started is gone, or is nothing but an exit code that nobody has asked for yet.
pub async fn gone(pid: u32) -> Result<()> {
    let ended = || Stat::read(pid).is_none_or(|stat| stat.is_zombie).then_some(());
    look(crate::wait::GUARD, "a process to be gone", ended).await
}

/// How a short-lived command ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs a command without input to its end.
pub async fn run(command: &mut Command) -> Result<Ended> {
    let mut part = Part::start(command)?;
    part.end_input();
    let code = part.ended(crate::wait::GUARD).await.with_context(|| part.stderr.all().join("\n"))?;
    part.stdout.complete().await?;
    part.stderr.complete().await?;
    Ok(Ended { code, out: part.stdout.all().join("\n"), err: part.stderr.all().join("\n") })
}

/// Held by a test that puts real programs under load: such tests take turns, in whatever runner and process they are.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "held for its lock")] std::fs::File);

/// Waits for this test's turn. Nextest's test group does the same and keeps the waiting out of the time limit.
pub fn turn() -> Result<Turn> {
    let file = std::fs::File::create(std::env::temp_dir().join("bulla-tests.lock")).context("the lock file")?;
    file.lock().context("waiting for the other tests")?;
    Ok(Turn(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_speaks_ends_and_does_not_outlive_its_owner() {
        let mut part = Part::start(Command::new("sh").args(["-c", "read x; echo got $x; exit 3"])).unwrap();
        part.write_line("word").unwrap();
        part.stdout.until("its answer", |all| all.iter().any(|l| l == "got word").then_some(())).await.unwrap();
        assert_eq!(part.ended(Duration::from_secs(10)).await.unwrap(), Some(3));
        let sleeper = Part::start(Command::new("sleep").arg("1000")).unwrap();
        let pid = sleeper.pid();
        assert!(children(std::process::id()).contains(&(pid, "sleep".to_owned())));
        drop(sleeper);
        assert_eq!(Stat::read(pid), None);
    }

    #[test]
    fn a_name_with_parentheses_is_read() {
        let line = "7 (a) b) S 4 7 7 0 -1 4194560 1 0 0 0 15 6 3 4 20 0 1 0 22 1 1";
        let stat = Stat { name: "a) b".to_owned(), parent: 4, is_zombie: false, ticks: 21, waited: 7 };
        assert_eq!(Stat::parse(line), Some(stat));
    }
}
