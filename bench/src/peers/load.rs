//! The load, the same for every system. What is under way is counted here and not by the systems: a message is under way until its
//! sender has its answer and its reader has confirmed it, whatever comes first.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::server::{PAYLOAD, Reader, Server, Writer};

/// How many connections are made at once: logging in is work, too.
const AT_ONCE: usize = 32;

/// When nothing came for so long after a restart, nothing will: the systems deliver what they have in milliseconds.
const QUIET: Duration = Duration::from_secs(3);

/// A writer and the reader of its mailbox.
pub(super) type Pair<S> = (<S as Server>::Writer, <S as Server>::Reader);

/// Connects a reader and a writer for each of the mailboxes from 0.
pub(super) async fn pairs<S: Server>(server: &S, count: u64) -> Result<Vec<Pair<S>>> {
    let pairs = stream::iter(0..count).map(|mailbox| async move {
        let reader = server.reader(mailbox).await?;
        anyhow::Ok((server.writer(mailbox).await?, reader))
    });
    pairs.buffered(AT_ONCE).try_collect().await
}

/// Mailboxes, one after the other, so that the server is not left with the memory of many connections at once.
pub(super) async fn mailboxes<S: Server>(server: &S, numbers: Range<u64>) -> Result<()> {
    for mailbox in numbers {
        server.make(mailbox).await.with_context(|| format!("making mailbox {mailbox}"))?;
    }
    Ok(())
}

/// The writers of the mailboxes from 0.
pub(super) async fn writers<S: Server>(server: &S, count: u64) -> Result<Vec<S::Writer>> {
    stream::iter(0..count).map(|mailbox| server.writer(mailbox)).buffered(AT_ONCE).try_collect().await
}

/// The readers of the mailboxes from 0.
pub(super) async fn readers<S: Server>(server: &S, count: u64) -> Result<Vec<S::Reader>> {
    stream::iter(0..count).map(|mailbox| server.reader(mailbox)).buffered(AT_ONCE).try_collect().await
}

/// Two numbers in letters that no format needs to escape, and a filling.
fn payload(first: u64, second: u64) -> Bytes {
    format!("{first:016x}{second:016x}{:x<1$}", "", PAYLOAD - 32).into()
}

/// The numbers again.
fn numbers(payload: &Bytes) -> Result<(u64, u64)> {
    ensure!(payload.len() == PAYLOAD, "{} bytes came out", payload.len());
    let number = |from: usize| {
        let digits = payload.get(from..from + 16).and_then(|digits| std::str::from_utf8(digits).ok());
        u64::from_str_radix(digits.context("no number")?, 16).context("no number")
    };
    Ok((number(0)?, number(16)?))
}

/// How far a reader is, for its sender.
#[derive(Debug, Default)]
struct Progress {
    confirmed: AtomicU64,
    moved: Notify,
}

/// Every pair exchanges `share` messages, `window` under way each; all at once. Each reader confirms singly.
pub(super) async fn exchange<S: Server>(pairs: Vec<Pair<S>>, share: u64, window: u64) -> Result<Vec<Pair<S>>> {
    let tasks = pairs.into_iter().map(|(mut writer, mut reader)| {
        let progress = Arc::<Progress>::default();
        let seen = Arc::clone(&progress);
        let sending = spawned(async move {
            let mut answered = 0;
            for number in 0..share {
                writer.begin(payload(number, 0)).await?;
                // Of the last, all.
                let may_be_open = if number + 1 == share { 0 } else { window - 1 };
                while number + 1 - answered > may_be_open {
                    answered += writer.answered().await?;
                }
                while number + 1 - seen.confirmed.load(Ordering::Acquire) > may_be_open {
                    seen.moved.notified().await;
                }
            }
            Ok(writer)
        });
        let reading = spawned(async move {
            for number in 0..share {
                let (came, _) = numbers(&reader.next().await?)?;
                ensure!(came == number, "message {came} came when {number} was due");
                reader.confirm().await?;
                progress.confirmed.store(number + 1, Ordering::Release);
                progress.moved.notify_one();
            }
            reader.settle().await?;
            Ok(reader)
        });
        async move { futures_util::try_join!(sending, reading) }
    });
    try_join_all(tasks).await
}

/// How long the messages of a paced load took, ms.
#[derive(Debug, Default)]
pub(super) struct Took {
    /// From the sending to its reader.
    pub(super) delivered: Vec<f64>,
    /// From the sending to the sender's answer.
    pub(super) answered: Vec<f64>,
}

/// Every pair exchanges `share` messages, one in each `every`, whatever is still under way. A message's time begins when it is sent, but
/// if its sender was held up, when it should have been: a server that stops for a while does not get away with one slow message.
pub(super) async fn paced<S: Server>(pairs: Vec<Pair<S>>, share: u64, every: Duration) -> Result<(Vec<Pair<S>>, Took)> {
    let zero = Instant::now();
    let count = u32::try_from(pairs.len()).unwrap_or(u32::MAX);
    let tasks = (0_u32..).zip(pairs).map(|(index, (mut writer, mut reader))| {
        let first = zero + every * index / count;
        let sending = spawned(async move {
            let mut took = Vec::new();
            let mut open = VecDeque::new();
            let mut note = |open: &mut VecDeque<Instant>, count: u64| {
                let now = Instant::now();
                took.extend((0..count).filter_map(|_| open.pop_front()).map(|began| millis(now - began)));
            };
            for number in 0..share {
                let due = first + every * u32::try_from(number)?;
                let is_late = Instant::now() >= due;
                loop {
                    tokio::select! {
                        biased;
                        () = sleep_until(due) => break,
                        count = writer.answered(), if !open.is_empty() => note(&mut open, count?),
                    }
                }
                let began = if is_late { due } else { Instant::now() };
                open.push_back(began);
                writer.begin(payload(number, u64::try_from((began - zero).as_nanos())?)).await?;
            }
            while !open.is_empty() {
                let count = writer.answered().await?;
                note(&mut open, count);
            }
            Ok((writer, took))
        });
        let reading = spawned(async move {
            let mut took = Vec::new();
            for _ in 0..share {
                let (_, began) = numbers(&reader.next().await?)?;
                took.push(millis(zero.elapsed().saturating_sub(Duration::from_nanos(began))));
                reader.confirm().await?;
            }
            reader.settle().await?;
            Ok((reader, took))
        });
        async move { futures_util::try_join!(sending, reading) }
    });
    let all = try_join_all(tasks).await?;
    let mut took = Took::default();
    let mut pairs = Vec::new();
    for ((writer, answered), (reader, delivered)) in all {
        took.answered.extend(answered);
        took.delivered.extend(delivered);
        pairs.push((writer, reader));
    }
    Ok((pairs, took))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Every writer sends `share` messages, numbered from `first`, with `window` unanswered.
pub(super) async fn store<W: Writer>(writers: Vec<W>, first: u64, share: u64, window: u64) -> Result<Vec<W>> {
    let tasks = writers.into_iter().map(|mut writer| {
        spawned(async move {
            let mut answered = 0;
            for number in 0..share {
                writer.begin(payload(first + number, 0)).await?;
                while number + 1 - answered >= window {
                    answered += writer.answered().await?;
                }
            }
            while answered < share {
                answered += writer.answered().await?;
            }
            Ok(writer)
        })
    });
    try_join_all(tasks).await
}

/// Readers connect, receive `share` messages each, confirm every so many and the last, and wait until that is taken.
pub(super) async fn drain<S: Server>(server: &Arc<S>, count: u64, share: u64, confirm_every: u64) -> Result<()> {
    let tasks = (0..count).map(|mailbox| {
        let server = Arc::clone(server);
        spawned(async move {
            let mut reader = server.reader(mailbox).await?;
            for number in 0..share {
                let (came, _) = numbers(&reader.next().await?)?;
                ensure!(came == number, "message {came} came when {number} was due");
                if (number + 1) % confirm_every == 0 || number + 1 == share {
                    reader.confirm().await?;
                }
            }
            reader.settle().await
        })
    });
    try_join_all(tasks).await?;
    Ok(())
}

/// What comes back of `share` messages per mailbox that were numbered from `first`: each is counted once, others are not.
pub(super) async fn recovered<S: Server>(server: &Arc<S>, count: u64, first: u64, share: u64) -> Result<u64> {
    let tasks = (0..count).map(|mailbox| {
        let server = Arc::clone(server);
        spawned(async move {
            let mut reader = server.reader(mailbox).await?;
            let mut seen = BTreeSet::new();
            while (seen.len() as u64) < share {
                let Ok(next) = timeout(QUIET, reader.next()).await else { break };
                let (number, _) = numbers(&next?)?;
                if (first..first + share).contains(&number) {
                    seen.insert(number);
                }
                reader.confirm().await?;
            }
            Ok(seen.len() as u64)
        })
    });
    Ok(try_join_all(tasks).await?.into_iter().sum())
}

/// On a task of its own, so that all processors share the driver's work.
async fn spawned<R: Send + 'static>(work: impl Future<Output = Result<R>> + Send + 'static) -> Result<R> {
    tokio::spawn(work).await.context("a task of the measurement ended early")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_keeps_its_numbers_and_its_size() {
        let bytes = payload(7, u64::MAX);
        assert_eq!(bytes.len(), PAYLOAD);
        assert_eq!(numbers(&bytes).unwrap(), (7, u64::MAX));
        assert!(numbers(&bytes.slice(1..)).is_err());
    }
}
