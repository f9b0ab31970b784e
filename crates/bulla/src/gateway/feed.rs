//! What happens at a business, line by line, for the person who started it.
//!
//! ```text
//! 14:02:11 ← Guest KQZA "hello"     webhook: none set (--webhook URL)
//!          answer it:  curl …
//! 14:02:40 → "hi!"  sent ✓  delivered ✓✓  read ✓✓
//! ```
//!
//! A line that begins with a carriage return takes the place of the one before it; who prints it decides how ([`crate::up`]).

use std::collections::HashMap;

use bulla_client::event::{Connection, Failure, Status};
use bulla_gateway::Credentials;
use bulla_gateway::feed::{Happening, Said, WebhookState};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::text::one_line;

/// Characters of a text or name that are shown.
const SHOWN: usize = 60;

/// Messages of the business whose ticks are still followed.
const FOLLOWED: usize = 1_000;

/// Prints until the gateway stops.
pub(super) async fn print_all(
    mut happenings: Receiver<Happening>,
    businesses: &[Credentials],
    webhook: bool,
) -> anyhow::Result<()> {
    let mut feed = Feed::new(businesses, webhook);
    loop {
        let lines = match happenings.recv().await {
            Ok(happening) => feed.lines(&happening),
            Err(RecvError::Lagged(missed)) => vec![format!("{}   … {missed} lines left out, too fast to show", now())],
            Err(RecvError::Closed) => return std::future::pending().await,
        };
        for line in lines {
            super::print(&line)?;
        }
    }
}

struct Feed<'a> {
    businesses: &'a [Credentials],
    webhook: String,
    /// Customers who have been shown how to be answered.
    introduced: std::collections::HashSet<String>,
    sent: HashMap<String, Sent>,
    /// The message whose line is the last that was printed.
    last: Option<String>,
    /// The relay was lost since it was last told.
    offline: bool,
}

struct Sent {
    at: String,
    text: String,
    ticks: String,
}

impl<'a> Feed<'a> {
    fn new(businesses: &'a [Credentials], webhook: bool) -> Self {
        let webhook = if webhook { "webhook: not verified yet" } else { "webhook: none set (--webhook URL)" };
        Self {
            businesses,
            webhook: webhook.to_owned(),
            introduced: std::collections::HashSet::new(),
            sent: HashMap::new(),
            last: None,
            offline: false,
        }
    }

    fn lines(&mut self, happening: &Happening) -> Vec<String> {
        match happening {
            Happening::Inbound { business, name, user_id, said, .. } => {
                self.last = None;
                let head = format!("{} ← {} {}", now(), one_line(name, SHOWN), words(said));
                let mut lines = vec![format!("{head}     {}", self.webhook)];
                if self.introduced.insert(user_id.clone())
                    && let Some(credentials) = self.businesses.iter().find(|c| c.handle == *business)
                {
                    lines.extend(answer_it(credentials, user_id));
                }
                lines
            }
            Happening::Outbound { wamid, said, .. } => {
                if self.sent.len() >= FOLLOWED {
                    self.sent.clear();
                }
                let sent = Sent { at: now(), text: words(said), ticks: String::new() };
                let line = sent.line();
                self.sent.insert(wamid.clone(), sent);
                self.last = Some(wamid.clone());
                vec![line]
            }
            Happening::Progress { wamid, status, failure, .. } => self.progress(wamid, *status, *failure),
            Happening::Missing { count, .. } => {
                self.last = None;
                vec![format!("{}   {count} messages of customers expired on the way", now())]
            }
            Happening::Relay { connection, .. } => self.relay(*connection),
            Happening::Webhook { state, .. } => self.webhook(state),
            _ => Vec::new(),
        }
    }

    fn progress(&mut self, wamid: &str, status: Status, failure: Option<Failure>) -> Vec<String> {
        let Some(sent) = self.sent.get_mut(wamid) else { return Vec::new() };
        let tick = match status {
            Status::Sent => "  sent ✓",
            Status::Delivered => "  delivered ✓✓",
            Status::Read => "  read ✓✓",
            Status::Failed => "  failed ✗",
            _ => return Vec::new(),
        };
        sent.ticks.push_str(tick);
        if let Some(failure) = failure {
            sent.ticks.push_str(&format!(": {}", why(failure)));
        }
        let follows = self.last.as_deref() == Some(wamid);
        let line = if follows { format!("\r{}", sent.line()) } else { sent.line() };
        if matches!(status, Status::Read | Status::Failed) {
            self.sent.remove(wamid);
        }
        self.last = Some(wamid.to_owned());
        vec![line]
    }

    /// A loss is told once, however many tries follow, and so is its end.
    fn relay(&mut self, connection: Connection) -> Vec<String> {
        let words = match connection {
            Connection::Offline { .. } if !self.offline => "relay: not reachable, trying again; nothing is lost",
            Connection::Online if self.offline => "relay: connected again",
            Connection::NoCommonVersion { update_here: true } => {
                "relay: it speaks a newer version of the protocol only; update this program. Nothing is lost"
            }
            Connection::NoCommonVersion { .. } => {
                "relay: it speaks an older version of the protocol only and is to be updated. Nothing is lost"
            }
            Connection::Superseded => {
                "another copy of this business's data is in use: this one has stopped sending. Stop the other copy and start this one again"
            }
            _ => return Vec::new(),
        };
        self.offline = matches!(connection, Connection::Offline { .. } | Connection::NoCommonVersion { .. });
        self.last = None;
        vec![format!("{}   {words}", now())]
    }

    fn webhook(&mut self, state: &WebhookState) -> Vec<String> {
        let now_is = match state {
            WebhookState::NoneSet => "webhook: none set (--webhook URL)".to_owned(),
            WebhookState::Verified | WebhookState::Delivered => "webhook ✓".to_owned(),
            WebhookState::Unverified { reason, .. } => format!("webhook: not verified ({})", one_line(reason, SHOWN)),
            WebhookState::Failing { reason, .. } => format!("webhook waits ({})", one_line(reason, SHOWN)),
            WebhookState::GivenUp { count } => format!("webhook: {count} given up after 7 days"),
            _ => return Vec::new(),
        };
        if now_is == self.webhook {
            return Vec::new();
        }
        self.webhook = now_is;
        self.last = None;
        vec![format!("{}   {}", now(), self.webhook)]
    }
}

impl Sent {
    fn line(&self) -> String {
        format!("{} → {}{}", self.at, self.text, self.ticks)
    }
}

fn words(said: &Said) -> String {
    match said {
        Said::Text(text) => format!("\"{}\"", one_line(text, SHOWN)),
        Said::Reaction(Some(emoji)) => format!("reacts {}", one_line(emoji, SHOWN)),
        Said::Reaction(None) => "takes a reaction back".to_owned(),
        Said::Edit(text) => format!("edits: \"{}\"", one_line(text, SHOWN)),
        Said::Deleted => "takes a message back".to_owned(),
        _ => "something that this version cannot show".to_owned(),
    }
}

fn why(failure: Failure) -> &'static str {
    match failure {
        Failure::WindowClosed => "131047, the customer last wrote more than 24 hours ago",
        Failure::Refused => "131026, the customer's relay refuses it: withdrawn, expired or blocked",
        Failure::NoReceipt => "131026, no receipt within 31 days",
        Failure::TooLarge => "131026, larger than the customer allows",
        _ => "131026",
    }
}

/// The command that answers a customer, to be pasted.
fn answer_it(c: &Credentials, user_id: &str) -> [String; 2] {
    let base = c.api_base.strip_prefix("http://").unwrap_or(&c.api_base);
    // A user id is letters, digits and a dot: nothing to escape. In the order in which people read it.
    let body =
        format!(r#"{{"messaging_product":"whatsapp","recipient":"{user_id}","type":"text","text":{{"body":"hi!"}}}}"#);
    [
        format!(
            "         answer it:  curl {base}/v23.0/{}/messages -H 'Authorization: Bearer {}' \\",
            c.phone_number_id,
            c.access_token.expose()
        ),
        format!("                       --json '{body}'"),
    ]
}

fn now() -> String {
    jiff::ZonedDateTime::now().strftime("%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulla_gateway::Secret;

    fn credentials() -> Credentials {
        Credentials {
            handle: "cortado".into(),
            name: "Cortado".into(),
            link: "http://127.0.0.1:1/@cortado#k=x".into(),
            api_base: "http://127.0.0.1:7412".into(),
            phone_number_id: "100000000000001".into(),
            waba_id: "2".into(),
            app_id: "3".into(),
            access_token: Secret::new("EAAB"),
            app_secret: Secret::new("s"),
            verify_token: Secret::new("v"),
            relay_url: "ws://127.0.0.1:2/v1/ws".into(),
        }
    }

    fn inbound(text: &str) -> Happening {
        Happening::Inbound {
            business: "cortado".into(),
            name: "Guest KQZA".into(),
            user_id: "ZZ.abc".into(),
            wamid: "wamid.1".into(),
            said: Said::Text(text.into()),
        }
    }

    fn without_time(lines: &[String]) -> Vec<String> {
        lines
            .iter()
            .map(|line| line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':' || c == '\r').to_owned())
            .collect()
    }

    #[test]
    fn a_first_message_comes_with_the_command_that_answers_it() {
        let all = [credentials()];
        let mut feed = Feed::new(&all, false);
        let first = feed.lines(&inbound("hello\u{1b}[2J"));
        assert_eq!(without_time(&first)[0], " ← Guest KQZA \"hello [2J\"     webhook: none set (--webhook URL)");
        assert!(
            first[1].contains("curl 127.0.0.1:7412/v23.0/100000000000001/messages -H 'Authorization: Bearer EAAB'")
        );
        let body = first[2].split('\'').nth(1).unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&body["recipient"], &body["text"]["body"]), (&"ZZ.abc".into(), &"hi!".into()));
        assert_eq!(feed.lines(&inbound("again")).len(), 1);
    }

    #[test]
    fn ticks_gather_on_the_line_of_their_message() {
        let all = [credentials()];
        let mut feed = Feed::new(&all, true);
        let (business, wamid) = ("cortado".to_owned(), "wamid.2".to_owned());
        let out = Happening::Outbound {
            business: business.clone(),
            user_id: "ZZ.abc".into(),
            wamid: wamid.clone(),
            said: Said::Text("hi!".into()),
        };
        assert_eq!(without_time(&feed.lines(&out)), [" → \"hi!\""]);
        let mut progress = |status| {
            feed.lines(&Happening::Progress { business: business.clone(), wamid: wamid.clone(), status, failure: None })
        };
        let sent = progress(Status::Sent);
        assert!(sent[0].starts_with('\r'), "it takes the place of the line before");
        progress(Status::Delivered);
        assert_eq!(without_time(&progress(Status::Read)), [" → \"hi!\"  sent ✓  delivered ✓✓  read ✓✓"]);
        assert!(progress(Status::Read).is_empty(), "a message that was read is not followed any more");
    }
}
