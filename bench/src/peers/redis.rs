//! Redis: a stream for each mailbox, a consumer group on it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use bulla_testkit::process::Part;
use bytes::Bytes;
use redis_protocol::codec::Resp2;
use redis_protocol::resp2::encode::extend_encode;
use redis_protocol::resp2::types::BytesFrame;

use super::server::{Line, PASSWORD, Place, Reader, Server, Writer, start};
use super::which;

/// Entries of one read.
const COUNT: &str = "64";

#[derive(Debug)]
pub(super) struct Redis {
    part: Part,
    address: SocketAddr,
}

/// Every command is in the file, and the file on the disk, before it is answered; those that arrive together share one `fsync`.
fn configuration(port: u16, data: &str) -> String {
    format!(
        "bind 127.0.0.1\n\
         port {port}\n\
         requirepass {PASSWORD}\n\
         dir {data}\n\
         appendonly yes\n\
         appendfsync always\n\
         save \"\"\n\
         loglevel warning\n"
    )
}

impl Server for Redis {
    type Writer = Adding;
    type Reader = Consuming;

    async fn start(place: &Place) -> Result<Self> {
        let file = place.write("redis.conf", &configuration(place.port(), &place.data()?.display().to_string()))?;
        let address = place.address();
        let mut command = Command::new(which("redis-server").context("no redis-server")?);
        let part = start(command.arg(file), || async {
            // An error as long as it reads its file.
            ask(&mut connect(address).await?, &[b"PING"]).await
        });
        Ok(Self { part: part.await?, address })
    }

    fn part(&self) -> &Part {
        &self.part
    }

    async fn make(&self, mailbox: u64) -> Result<()> {
        let mut line = connect(self.address).await?;
        ask(&mut line, &[b"XGROUP", b"CREATE", &key(mailbox), b"readers", b"0", b"MKSTREAM"]).await?;
        Ok(())
    }

    async fn writer(&self, mailbox: u64) -> Result<Adding> {
        Ok(Adding { line: connect(self.address).await?, key: key(mailbox) })
    }

    async fn reader(&self, mailbox: u64) -> Result<Consuming> {
        let mut consuming = Consuming {
            line: connect(self.address).await?,
            key: key(mailbox),
            waiting: VecDeque::new(),
            received: Vec::new(),
            confirms: 0,
            is_asked: false,
        };
        consuming.ask_for_more().await?;
        Ok(consuming)
    }
}

fn key(mailbox: u64) -> Vec<u8> {
    format!("box:{mailbox}").into_bytes()
}

async fn connect(to: SocketAddr) -> Result<Line<Resp2>> {
    let mut line = Line::connect(to, Resp2::default()).await?;
    ask(&mut line, &[b"AUTH", PASSWORD.as_bytes()]).await?;
    Ok(line)
}

fn write(line: &mut Line<Resp2>, words: &[&[u8]]) -> Result<()> {
    let words = words.iter().map(|word| BytesFrame::BulkString(Bytes::copy_from_slice(word))).collect();
    extend_encode(&mut line.out, &BytesFrame::Array(words), false)?;
    Ok(())
}

async fn answer(line: &mut Line<Resp2>) -> Result<BytesFrame> {
    match line.next().await? {
        BytesFrame::Error(error) => bail!("redis: {error}"),
        answer => Ok(answer),
    }
}

async fn ask(line: &mut Line<Resp2>, words: &[&[u8]]) -> Result<BytesFrame> {
    write(line, words)?;
    line.flush().await?;
    answer(line).await
}

#[derive(Debug)]
pub(super) struct Adding {
    line: Line<Resp2>,
    key: Vec<u8>,
}

impl Writer for Adding {
    async fn begin(&mut self, payload: Bytes) -> Result<()> {
        write(&mut self.line, &[b"XADD", &self.key, b"*", b"m", &payload])?;
        self.line.flush().await
    }

    async fn answered(&mut self) -> Result<u64> {
        match answer(&mut self.line).await? {
            BytesFrame::BulkString(_) => Ok(1),
            other => bail!("{other:?}"),
        }
    }
}

#[derive(Debug)]
pub(super) struct Consuming {
    line: Line<Resp2>,
    key: Vec<u8>,
    waiting: VecDeque<(Bytes, Bytes)>,
    received: Vec<Bytes>,
    /// Commands that confirm and are not answered.
    confirms: usize,
    /// Whether a read is under way.
    is_asked: bool,
}

impl Consuming {
    /// Sends the next read, which waits at the server until there is something, together with whatever was to be said before.
    async fn ask_for_more(&mut self) -> Result<()> {
        let Self { line, key, .. } = self;
        let group: [&[u8]; 4] = [b"XREADGROUP", b"GROUP", b"readers", b"one"];
        write(line, &[&group[..], &[b"COUNT", COUNT.as_bytes(), b"BLOCK", b"0", b"STREAMS", key, b">"]].concat())?;
        self.is_asked = true;
        self.line.flush().await
    }

    async fn confirms_answered(&mut self) -> Result<()> {
        while self.confirms > 0 {
            let answer = answer(&mut self.line).await?;
            ensure!(matches!(answer, BytesFrame::Integer(count) if count > 0), "not confirmed: {answer:?}");
            self.confirms -= 1;
        }
        Ok(())
    }
}

impl Reader for Consuming {
    async fn next(&mut self) -> Result<Bytes> {
        loop {
            if let Some((id, payload)) = self.waiting.pop_front() {
                self.received.push(id);
                return Ok(payload);
            }
            if !self.is_asked {
                self.ask_for_more().await?;
            }
            self.confirms_answered().await?;
            let entries = answer(&mut self.line).await?;
            self.is_asked = false;
            self.waiting = entries_of(entries).context("an answer of another shape")?;
        }
    }

    /// Two commands, since one only takes the entry off the reader's list; they leave with the next read.
    async fn confirm(&mut self) -> Result<()> {
        if self.received.is_empty() {
            return Ok(());
        }
        let ids: Vec<&[u8]> = self.received.iter().map(AsRef::as_ref).collect();
        write(&mut self.line, &[&[b"XACK", &self.key[..], b"readers"], &ids[..]].concat())?;
        write(&mut self.line, &[&[b"XDEL", &self.key[..]], &ids[..]].concat())?;
        self.confirms += 2;
        self.received.clear();
        if !self.waiting.is_empty() {
            self.line.flush().await?;
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<()> {
        self.line.flush().await?;
        self.confirms_answered().await
    }
}

/// `[[key, [[id, [field, payload]], …]]]`
fn entries_of(answer: BytesFrame) -> Option<VecDeque<(Bytes, Bytes)>> {
    let array = |frame: BytesFrame| if let BytesFrame::Array(frames) = frame { Some(frames) } else { None };
    let bytes = |frame: BytesFrame| if let BytesFrame::BulkString(bytes) = frame { Some(bytes) } else { None };
    let stream = array(array(answer)?.pop()?)?.pop()?;
    let entry = |frame| {
        let mut entry = array(frame)?;
        let (fields, id) = (entry.pop()?, entry.pop()?);
        Some((bytes(id)?, bytes(array(fields)?.pop()?)?))
    };
    array(stream)?.into_iter().map(entry).collect()
}
