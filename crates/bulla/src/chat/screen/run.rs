//! The loop: draws, then waits for a key, an event, an answer or the clock. The endpoint works beside it, one thing after the other, so that a
//! slow disk does not stop the keys.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bulla_client::clock::{Clock as _, SystemClock};
use bulla_client::endpoint::CommandError;
use bulla_client::event::{Connection, Event};
use crossterm::event::{Event as Input, EventStream};
use futures_util::StreamExt as _;
use jiff::tz::TimeZone;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::draw;
use super::model::{Answer, Ask, Model, PAGE};
use super::palette::Palette;
use super::terminal::Screen;
use crate::chat::Session;
use crate::chat::command::Typed;

/// Pages of unread messages that are loaded before the screen opens.
const UNREAD_PAGES: usize = 10;

/// Events that are taken in before the screen is drawn again.
const AT_ONCE: usize = 256;

/// How long leaving waits for what was just written to leave this machine.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Runs until the person leaves.
pub(in crate::chat) async fn run(session: Session, mut events: UnboundedReceiver<Event>) -> anyhow::Result<ExitCode> {
    let now = SystemClock.now_ms();
    let mut model = Model::new(session.conversation.clone(), Palette::from_env(), TimeZone::system(), now);
    load(&session, &mut model).await?;
    let (asks, to_do) = unbounded_channel();
    let (answers, done) = unbounded_channel();
    let working = tokio::spawn(work(session, to_do, answers));
    let left = talk(&mut model, &mut events, &asks, done).await;
    // Everything that was asked for is carried out, then the worker ends.
    drop(asks);
    working.await.context("the chat's worker")?;
    left?;
    last_words(&mut model, &mut events).await;
    if let Some(farewell) = model.farewell() {
        println!("{farewell}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The newest page, and more if all of it is unread.
async fn load(session: &Session, model: &mut Model) -> anyhow::Result<()> {
    let waiting = session.endpoint.uploads(session.conversation.id).await?;
    model.uploads = waiting.into_iter().map(|upload| (upload.id, upload)).collect();
    let mut before = None;
    for _ in 0..UNREAD_PAGES {
        let page = session.endpoint.messages(session.conversation.id, before, PAGE).await?;
        model.history.page(page, PAGE);
        before = model.history.older();
        if before.is_none() || !model.history.begins_unread() {
            break;
        }
    }
    model.opened();
    Ok(())
}

/// The screen, from its opening to its end.
async fn talk(
    model: &mut Model,
    events: &mut UnboundedReceiver<Event>,
    asks: &UnboundedSender<Ask>,
    mut answers: UnboundedReceiver<Answer>,
) -> anyhow::Result<()> {
    let mut ends = Ends::new()?;
    let mut screen = Screen::enter()?;
    let mut inputs = EventStream::new();
    while !model.leaves {
        if std::mem::take(&mut model.repaint) {
            screen.terminal.clear().context("cannot draw")?;
        }
        let mut seen = model.seen;
        screen.terminal.draw(|frame| seen = draw::draw(model, frame)).context("cannot draw")?;
        model.seen(seen);
        for ask in model.asks.drain(..) {
            // The worker is gone only when the endpoint is, and that ends the loop below.
            let _ = asks.send(ask);
        }
        let sleep = Duration::from_millis(model.wake_at().saturating_sub(SystemClock.now_ms()));
        tokio::select! {
            input = inputs.next() => match input {
                Some(Ok(input)) => {
                    model.tick(SystemClock.now_ms());
                    take(model, input);
                }
                // The terminal is gone.
                Some(Err(_)) | None => model.leaves = true,
            },
            event = events.recv() => {
                model.tick(SystemClock.now_ms());
                model.event(event.context("the endpoint has stopped")?);
                for _ in 1..AT_ONCE {
                    let Ok(event) = events.try_recv() else { break };
                    model.event(event);
                }
            }
            Some(answer) = answers.recv() => {
                model.tick(SystemClock.now_ms());
                model.answer(answer);
            }
            () = tokio::time::sleep(sleep) => model.tick(SystemClock.now_ms()),
            () = ends.wait() => model.leaves = true,
        }
    }
    Ok(())
}

fn take(model: &mut Model, input: Input) {
    match input {
        Input::Key(key) => model.key(key),
        Input::Paste(text) => model.paste(&text),
        Input::Mouse(mouse) => model.mouse(mouse),
        Input::FocusGained => model.focus(true),
        Input::FocusLost => model.focus(false),
        // The next drawing measures anew.
        Input::Resize(..) => {}
    }
}

/// Does what is asked, in order.
async fn work(session: Session, mut asks: UnboundedReceiver<Ask>, answers: UnboundedSender<Answer>) {
    let (endpoint, to) = (session.endpoint.clone(), session.conversation.id);
    let session = Arc::new(session);
    // Files take their time, and nothing waits for them.
    let mut files = JoinSet::new();
    while let Some(ask) = asks.recv().await {
        let refused = |error: CommandError, text| Some(Answer::Refused(error.to_string(), text));
        let answer = match ask {
            Ask::Send(draft, text) => match endpoint.send(to, draft).await {
                Ok(_) => None,
                Err(error) => refused(error, text),
            },
            Ask::Command(typed @ (Typed::Attach(_) | Typed::Save(..)), line) => {
                let (session, answers) = (Arc::clone(&session), answers.clone());
                files.spawn(async move {
                    let answer = match session.carry_out(typed).await {
                        Ok(told) => told.map(Answer::Told),
                        Err(why) => Some(Answer::Refused(why, Some(line))),
                    };
                    let _ = answer.map(|answer| answers.send(answer));
                });
                None
            }
            Ask::Command(typed, line) => match session.carry_out(typed).await {
                Ok(told) => told.map(Answer::Told),
                Err(why) => Some(Answer::Refused(why, Some(line))),
            },
            Ask::Read(id) => endpoint.mark_read(id).await.err().and_then(|error| refused(error, None)),
            // Worth nothing later.
            Ask::Typing(on) => endpoint.typing(to, on).await.err().and(None),
            Ask::Older(before) => match endpoint.messages(to, Some(before), PAGE).await {
                Ok(page) => Some(Answer::Page(page)),
                Err(error) => refused(error, None),
            },
            Ask::Quoted(id) => match endpoint.message(id).await {
                Ok(message) => Some(Answer::Quoted(id, message.map(Box::new))),
                Err(error) => refused(error, None),
            },
        };
        if let Some(answer) = answer {
            // Nobody waits for it any more at the end; the rest is carried out all the same.
            let _ = answers.send(answer);
        }
    }
    while files.join_next().await.is_some() {}
}

/// What was written in the last moment leaves before the program does, if it can.
async fn last_words(model: &mut Model, events: &mut UnboundedReceiver<Event>) {
    let leave = async {
        while let Ok(event) = events.try_recv() {
            model.event(event);
        }
        while model.connection == Connection::Online
            && (model.history.on_their_way().here > 0 || model.uploads.values().any(|upload| upload.failed.is_none()))
        {
            let Some(event) = events.recv().await else { break };
            model.event(event);
        }
    };
    let _ = tokio::time::timeout(LAST_WORDS, leave).await;
}

/// Signals that end a program.
struct Ends {
    term: Signal,
    hup: Signal,
    int: Signal,
}

impl Ends {
    fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("cannot wait for signals");
        Ok(Self {
            term: on(SignalKind::terminate())?,
            hup: on(SignalKind::hangup())?,
            int: on(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.hup.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
