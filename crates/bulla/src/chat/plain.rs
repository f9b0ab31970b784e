//! `bulla chat --plain`: lines in, lines out.

use std::collections::HashSet;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use bulla_client::event::{Connection, ConversationState, Direction, Event, Message, Reason, Shown, Status};
use bulla_client::media::BlobId;
use bulla_e2ee::content::MessageId;
use bulla_e2ee::content::{Action, Button, Category, Header, Interactive};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::error::TryRecvError;

use super::command::Typed;
use super::files::{card, stopped};
use super::offer::{self, Choice, Filling};
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
                Some(line) => match plain.line(&session, &line).await {
                    Ok(None) => {}
                    Ok(Some(told)) => note(&told),
                    Err(sentence) => {
                        failed = true;
                        note(&sentence);
                    }
                },
                None => {
                    input.ended = true;
                    if plain.filling.take().is_some() {
                        failed = true;
                        note("the form was not filled in to its end, and not sent");
                    }
                }
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
    /// A form that is being filled in: lines are its answers.
    filling: Option<Filling>,
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

    /// Does what a line says.
    async fn line(&mut self, session: &Session, line: &str) -> Result<Option<String>, String> {
        let Some(filling) = &mut self.filling else {
            return match Typed::parse(line) {
                Typed::Form(id) => {
                    let filling = session.form(id).await?;
                    self.ask(session, filling).await
                }
                typed => session.carry_out(typed).await,
            };
        };
        if Typed::parse(line) == Typed::Cancel {
            self.filling = None;
            return Ok(Some("the form is given up; nothing was sent".to_owned()));
        }
        match filling.answer(line) {
            Ok(()) => {
                let filling = filling.clone();
                self.ask(session, filling).await
            }
            Err(why) => Err(format!("{why}. {}", filling.question())),
        }
    }

    /// Asks the next question of a form; sends it after the last.
    async fn ask(&mut self, session: &Session, filling: Filling) -> Result<Option<String>, String> {
        self.filling = None;
        if let Some(draft) = filling.done() {
            session.endpoint.send(session.conversation.id, draft).await.map_err(super::command::words)?;
            return Ok(None);
        }
        let question = filling.question();
        self.filling = Some(filling);
        Ok(Some(question))
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
            if matches!(message.shown, Shown::File(_)) {
                return self.read(session, message).await;
            }
        }
        if let Shown::Interactive(of, _) = &message.shown
            && !message.deleted
        {
            for line in offered(of, &id) {
                print(line.trim_end()).await?;
            }
            return self.ended(session, message).await;
        }
        if let Shown::Contacts(persons) = &message.shown
            && !message.deleted
        {
            let sign = if message.direction == Direction::Outgoing {
                format!("> {id} /contact")
            } else {
                format!("~ contact {id}")
            };
            for person in persons {
                print(&format!("{sign} {}", escape(&offer::person(person)))).await?;
            }
            return self.ended(session, message).await;
        }
        let line = match (message.direction, &message.shown) {
            (Direction::Outgoing, Shown::Answer(answer)) => {
                format!("> {id} /choose {under} {}", escape(&offer::answered(answer, None)))
            }
            (Direction::Outgoing, Shown::Location(place)) => format!("> {id} /location {}", located(place)),
            (Direction::Incoming, Shown::Location(place)) => format!("~ location {id} {}", located(place)),
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
        self.ended(session, message).await
    }

    /// After a message's lines.
    async fn ended(&self, session: &Session, message: &Message) -> anyhow::Result<()> {
        if message.breach {
            note(super::breach(message));
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

/// The lines of a message with something to choose.
fn offered(of: &Interactive, id: &str) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(template) = &of.template {
        let category = match template.category {
            Category::Authentication => "authentication",
            Category::Marketing => "marketing",
            Category::Utility => "utility",
        };
        lines.push(format!("~ template {id} {category} {}", escape(&template.name)));
    }
    lines.extend(of.header.as_ref().map(|header| match header {
        Header::Text(text) => format!("~ header {id} {}", escape(text)),
        Header::Location(place) => format!("~ location {id} {}", located(place)),
    }));
    if !of.body.is_empty() {
        lines.push(format!("< {}", escape(&of.body)));
    }
    lines.extend(of.footer.as_ref().map(|footer| format!("~ footer {id} {}", escape(footer))));
    lines.extend(offer::choices(&of.action).iter().zip(1..).map(|(choice, n)| match choice {
        Choice::Reply(_, title) => format!("~ choice {id} {n} {}", escape(title)),
        Choice::Row(row) => {
            let more = row.description.as_ref().map(|text| format!(" · {}", escape(text))).unwrap_or_default();
            format!("~ choice {id} {n} {}{more}", escape(&row.title))
        }
        Choice::Product(product) => {
            let price = escape(&offer::price(product.price, &product.currency));
            format!("~ product {id} {n} {price} {}", escape(&product.name))
        }
    }));
    match &of.action {
        Action::Buttons(buttons) => lines.extend(buttons.iter().filter_map(|button| match button {
            Button::Reply { .. } => None,
            Button::Url { title, url } => {
                Some(format!("~ url {id} {} {}", escape(&url.replace(' ', "%20")), escape(title)))
            }
            Button::Phone { title, number } => {
                Some(format!("~ phone {id} {} {}", escape(&number.replace(' ', "")), escape(title)))
            }
            Button::Copy { code, .. } => Some(format!("~ copy {id} {}", escape(code))),
        })),
        Action::Form(form) => lines.push(format!("~ form {id} {}", escape(&form.button))),
        Action::Location => lines.push(format!("~ ask-location {id}")),
        _ => {}
    }
    lines
}

/// `LAT LON WHAT`.
fn located(place: &bulla_e2ee::content::Location) -> String {
    let words: Vec<_> = [&place.name, &place.address].into_iter().flatten().map(|text| escape(text)).collect();
    format!("{} {}", offer::coordinates(place).replace(',', ""), words.join(" · "))
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
