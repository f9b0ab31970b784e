//! `bulla chat --plain`: lines in, lines out.

use std::collections::HashSet;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use bulla_client::event::{Connection, ConversationState, Direction, Event, Message, Reason, Shown, Status};
use bulla_client::media::BlobId;
use bulla_e2ee::content::MessageId;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::error::TryRecvError;

use super::command::Typed;
use super::files::{card, stopped};
use super::{CONTINUED, KEY_CHANGE, MOVED, NEWER, OUTDATED, REMOVED, Session, devices_changed, short, why};
use crate::text::{escape, sentence};

/// Messages read from the store at once.
const PAGE: usize = 500;

pub(super) async fn run(
    session: Session,
    mut events: UnboundedReceiver<Event>,
    history: bool,
) -> anyhow::Result<ExitCode> {
    let mut plain = Plain::default();
    plain.before(&session, history).await?;
    let mut input = Input::start();
    let mut failed = false;
    loop {
        if input.ended && plain.pending.is_empty() && plain.uploads.is_empty() {
            // What was said a moment ago is told by an event that waits here: without it, it would not be known to be pending.
            match events.try_recv() {
                Ok(event) => plain.event(&session, event).await?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => bail!("the endpoint has stopped"),
            }
            continue;
        }
        tokio::select! {
            line = input.next(), if !input.ended => match line {
                Some(line) => match session.carry_out(Typed::parse(&line)).await {
                    Ok(None) => {}
                    Ok(Some(told)) => note(&told),
                    Err(sentence) => {
                        failed = true;
                        note(&sentence);
                    }
                },
                None => input.ended = true,
            },
            event = events.recv() => match event {
                Some(event) => plain.event(&session, event).await?,
                None => bail!("the endpoint has stopped"),
            },
        }
    }
    Ok(if failed || plain.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What was printed and what is still to come.
#[derive(Default)]
struct Plain {
    /// Own messages that are neither delivered nor failed.
    pending: HashSet<MessageId>,
    /// Files on their way.
    uploads: HashSet<BlobId>,
    failed: bool,
    /// The newest place in the conversation whose message has been printed: an event may tell again what the store has told.
    printed: u64,
}

impl Plain {
    /// Prints what an earlier run stored and did not print: everything, if that was asked for.
    async fn before(&mut self, session: &Session, history: bool) -> anyhow::Result<()> {
        for upload in session.endpoint.uploads(session.conversation.id).await? {
            if upload.failed.is_none() {
                self.uploads.insert(upload.id);
            }
        }
        let mut all: Vec<Message> = Vec::new();
        loop {
            let before = all.first().map(|m| m.order);
            let mut page = session.endpoint.messages(session.conversation.id, before, PAGE).await?;
            let last_page = page.len() < PAGE;
            page.append(&mut all);
            all = page;
            if last_page {
                break;
            }
        }
        for message in all {
            self.printed = self.printed.max(message.order);
            let unsettled = message.direction == Direction::Outgoing && message.status < Status::Delivered;
            if unsettled {
                self.pending.insert(message.id);
            }
            if history || (message.direction == Direction::Incoming && message.status == Status::Received) {
                self.message(session, &message).await?;
                if message.direction == Direction::Outgoing {
                    self.tick(&message).await?;
                }
            }
        }
        Ok(())
    }

    async fn event(&mut self, session: &Session, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Message(message) if message.order > self.printed => {
                self.printed = message.order;
                if message.direction == Direction::Outgoing && message.status < Status::Delivered {
                    self.pending.insert(message.id);
                }
                self.message(session, &message).await?;
            }
            Event::Status { message, .. } if message.direction == Direction::Outgoing => {
                if message.status >= Status::Delivered {
                    self.pending.remove(&message.id);
                }
                self.failed |= message.status == Status::Failed;
                self.tick(&message).await?;
            }
            Event::Upload(upload) => match stopped(&upload) {
                None => drop(self.uploads.insert(upload.id)),
                Some(sentence) => {
                    self.uploads.remove(&upload.id);
                    self.failed = true;
                    note(&sentence);
                }
            },
            Event::UploadEnded { upload, .. } => drop(self.uploads.remove(&upload)),
            Event::Connection(Connection::Superseded) => {
                bail!(
                    "another copy of this data folder is in use, and it holds the mailbox: this one has stopped sending. Stop the other copy and start this one again"
                )
            }
            Event::Connection(Connection::NoCommonVersion { update_here }) => note(if update_here {
                "the relay speaks a newer version of the protocol only: update this program. What you write is kept"
            } else {
                "the relay speaks an older version of the protocol only, and is to be updated. What you write is kept"
            }),
            Event::Connection(Connection::Offline { retry_in_ms }) => {
                note(&format!(
                    "no connection to the relay, trying again in {:.1} s; what you write is kept",
                    retry_in_ms as f32 / 1000.0
                ));
            }
            Event::Continued { reason: Reason::Joined, .. } => {}
            Event::Continued { .. } => note(CONTINUED),
            Event::KeyChange { .. } => note(KEY_CHANGE),
            Event::Devices { added, removed, .. } => note(&devices_changed(&added, &removed)),
            Event::Conversation(conversation) if conversation.state == ConversationState::Removed => note(REMOVED),
            Event::Conversation(conversation) if conversation.state == ConversationState::Moved => note(MOVED),
            Event::Conversation(conversation) if conversation.state == ConversationState::Outdated => note(OUTDATED),
            Event::Newer { .. } => note(NEWER),
            Event::Unreadable { .. } => note("a message came that could not be read; it is kept"),
            Event::Gap { missing, .. } => note(&format!("{missing} messages expired on the way and are lost")),
            _ => {}
        }
        Ok(())
    }

    /// One message's line. The business hears that its message was read once the line is out.
    async fn message(&mut self, session: &Session, message: &Message) -> anyhow::Result<()> {
        let id = short(&message.id);
        let under = message.reply_to.as_ref().or(message.replaces.as_ref()).map(short).unwrap_or_default();
        if let Some(card) = card(message) {
            let (name, caption) = (escape(&card.name), escape(&card.caption));
            match message.direction {
                Direction::Outgoing => print(&format!("> {id} /attach {name}")).await?,
                Direction::Incoming => print(&format!("~ file {id} {} {name}", card.size)).await?,
            }
            if !card.caption.is_empty() {
                print(&format!("~ caption {id} {caption}")).await?;
            }
            return self.read(session, message).await;
        }
        let line = match (message.direction, &message.shown) {
            (Direction::Outgoing, Shown::Text(text)) => format!("> {id} {}", escape(text)),
            (Direction::Outgoing, Shown::Reaction(emoji)) => {
                format!("> {id} /react {under} {}", emoji.as_deref().unwrap_or(""))
            }
            (Direction::Outgoing, Shown::Edit(text)) => format!("> {id} /edit {under} {}", escape(text)),
            (Direction::Outgoing, Shown::Deleted) => format!("> {id} /delete {under}"),
            (Direction::Incoming, Shown::Text(text)) => format!("< {}", escape(text)),
            (Direction::Incoming, Shown::Reaction(emoji)) => {
                format!("~ {} {under}", escape(emoji.as_deref().unwrap_or("-")))
            }
            (Direction::Incoming, Shown::Edit(text)) => format!("~ edited {under} {}", escape(text)),
            (Direction::Incoming, Shown::Deleted) => format!("~ deleted {under}"),
            (_, Shown::Unsupported(_)) => format!("~ unsupported {id}"),
            _ => format!("~ unreadable {id}"),
        };
        print(line.trim_end()).await?;
        if message.breach {
            note("the business wrote outside the time in which it may answer");
        }
        self.read(session, message).await
    }

    async fn read(&self, session: &Session, message: &Message) -> anyhow::Result<()> {
        if message.direction == Direction::Incoming && message.status == Status::Received {
            session.endpoint.mark_read(message.id).await?;
        }
        Ok(())
    }

    async fn tick(&self, message: &Message) -> anyhow::Result<()> {
        let id = short(&message.id);
        match message.status {
            Status::Sent => print(&format!("✓ {id}")).await,
            Status::Delivered => print(&format!("✓✓ {id}")).await,
            Status::Read => print(&format!("👁 {id}")).await,
            Status::Failed => print(&format!("! {id} {}", why(message.failure))).await,
            _ => Ok(()),
        }
    }
}

/// Standard input, line by line, on a thread of its own: a read cannot be taken back, and the program must be able to end.
struct Input {
    lines: tokio::sync::mpsc::Receiver<String>,
    ended: bool,
}

impl Input {
    fn start() -> Self {
        let (tell, lines) = tokio::sync::mpsc::channel(64);
        std::thread::spawn(move || {
            for line in std::io::stdin().lines() {
                match line {
                    Ok(line) => {
                        if tell.blocking_send(line).is_err() {
                            return;
                        }
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                        note("a line is not UTF-8 and was left out");
                    }
                    Err(_) => return,
                }
            }
        });
        Self { lines, ended: false }
    }

    async fn next(&mut self) -> Option<String> {
        self.lines.recv().await
    }
}

async fn print(line: &str) -> anyhow::Result<()> {
    let mut out = tokio::io::stdout();
    let whole = format!("{line}\n");
    out.write_all(whole.as_bytes()).await.context("nobody reads standard output")?;
    out.flush().await.context("nobody reads standard output")
}

/// For people, beside the lines for programs.
fn note(text: &str) {
    eprintln!("bulla: {}", sentence(text));
}
