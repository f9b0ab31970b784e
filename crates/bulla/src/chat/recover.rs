//! `bulla chat --recover`: the code is asked for, never given as an argument, where other programs would read it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bulla_client::endpoint::Endpoint;
use bulla_client::event::{Connection, Conversation, ConversationState, Event, Past};
use bulla_e2ee::link::Link;
use bulla_e2ee::recovery::RecoveryCode;
use tokio::sync::mpsc::UnboundedReceiver;
use zeroize::Zeroizing;

/// Pages of what was said before that are fetched at a start; a business gives thirty in a minute. Of a longer conversation the next start fetches more.
const PAGES: usize = 25;

/// How long the next page may take before the chat opens without it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks for the code: a person until it is one, a script once.
pub(super) fn ask(person: bool) -> anyhow::Result<RecoveryCode> {
    loop {
        eprint!("Your recovery code (28 letters and digits): ");
        let mut typed = Zeroizing::new(String::new());
        if std::io::stdin().read_line(&mut typed).context("cannot read the code")? == 0 {
            bail!("no code was given");
        }
        match RecoveryCode::parse(&typed) {
            Ok(code) => return Ok(code),
            Err(why) if person => eprintln!("bulla: {why}. Nothing was sent"),
            Err(why) => bail!("{why}. Nothing was sent"),
        }
    }
}

/// Events that are looked through before the chat opens; it gets all of them but those of the conversation, which it then reads.
pub(super) struct Events {
    events: UnboundedReceiver<Event>,
    passed: Vec<Event>,
}

impl Events {
    pub(super) fn new(events: UnboundedReceiver<Event>) -> Self {
        Self { events, passed: Vec::new() }
    }

    async fn next(&mut self) -> anyhow::Result<Event> {
        let event = self.events.recv().await.context("the endpoint has stopped")?;
        if matches!(event, Event::Connection(_)) {
            self.passed.push(event.clone());
        }
        Ok(event)
    }

    /// For the chat.
    pub(super) fn into_inner(mut self) -> UnboundedReceiver<Event> {
        if self.passed.is_empty() {
            return self.events;
        }
        let (again, events) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            for event in self.passed {
                let _ = again.send(event);
            }
            while let Some(event) = self.events.recv().await {
                if again.send(event).is_err() {
                    return;
                }
            }
        });
        events
    }
}

/// Comes back, and waits until the business has said whether it knows who comes.
pub(super) async fn recover(
    endpoint: &Endpoint,
    events: &mut Events,
    link: &Link,
    code: RecoveryCode,
) -> anyhow::Result<Conversation> {
    let begun = endpoint.recover(link, code).await?;
    eprintln!("bulla: asking {} for your conversation …", crate::text::one_line(&begun.peer_name, 60));
    loop {
        match events.next().await? {
            Event::Conversation(c) if c.id == begun.id && c.state == ConversationState::Open => return Ok(c),
            Event::Conversation(c) if c.id == begun.id && c.state == ConversationState::NotKnown => {
                bail!(
                    "the business knows nobody with this code. Look whether it is the code for this business; nothing has begun"
                )
            }
            Event::Connection(Connection::Offline { .. }) => {
                eprintln!("bulla: no connection to the relay, trying again")
            }
            _ => {}
        }
    }
}

/// Fetches what was said before, if it is not all here, as long as it comes.
pub(super) async fn fetch(
    endpoint: &Endpoint,
    events: &mut Events,
    conversation: Conversation,
) -> anyhow::Result<Conversation> {
    let id = conversation.id;
    let is_open = conversation.state == ConversationState::Open;
    if !is_open || !matches!(conversation.past, Some(Past::More | Past::Asked)) {
        return Ok(conversation);
    }
    for _ in 0..PAGES {
        if endpoint.older(id).await? != Some(Past::Asked) {
            break;
        }
        let came = async {
            loop {
                match events.next().await? {
                    Event::Conversation(c) if c.id == id && c.past != Some(Past::Asked) => return anyhow::Ok(()),
                    _ => {}
                }
            }
        };
        match tokio::time::timeout(PATIENCE, came).await {
            Ok(came) => came?,
            Err(_) => {
                eprintln!("bulla: the business has not sent what was said before; it is asked again at the next start");
                break;
            }
        }
    }
    Ok(endpoint.conversation(id).await?.unwrap_or(conversation))
}
