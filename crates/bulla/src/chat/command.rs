//! What a person types: text, or a command that begins with a slash.

use bulla_client::endpoint::CommandError;
use bulla_client::event::{Conversation, Direction, Draft, Message, OwnDevice, Purpose, Shown};
use bulla_e2ee::content::{Action, Interactive, Location};

use super::files::card;
use super::offer::{self, Filling};
use super::{Session, short};

/// For `--help` and `/help`.
pub(super) const HELP: &str = "While chatting:
  TEXT             says it
  /reply TEXT      answers the business's last message; /reply ID TEXT another one
  /react EMOJI     reacts to the business's last message, or /react ID EMOJI; without an emoji takes it back
  /edit TEXT       gives your last message a new text, or /edit ID TEXT
  /delete          takes your last message back, or /delete ID
  /choose N        chooses from the business's last message with something to choose; /choose ID N from another; of products /choose 1 3x2
  /form            fills in the business's last form, or /form ID; it is asked field by field, /cancel gives it up
  /location LAT LON NAME  sends a place, to whoever asked for one: 52.5200 13.4050, and if you like a name
  /consent         what the business may send unasked; /consent notifications on, /consent marketing off
  /attach FILE     sends a file, end to end encrypted; /cancel stops what is not sent yet
  /save            fetches the business's last file into this folder; /save ID, /save ID FOLDER
  /name NAME       changes what the business calls you
  /who             who you talk to, and who can read
  /devices         your devices in this conversation
  /recovery        shows the code with which you come back if you lose this folder: bulla chat --recover LINK
  /here            brings the conversation back from another device
  /invite FILE     writes an invitation for another device of yours: bulla chat --join FILE
  /remove DEVICE   removes one of your devices: it reads nothing more
  /help            this
  //TEXT           says a text that begins with a slash";

/// A line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Typed {
    /// Nothing.
    Empty,
    /// Say this.
    Say(String),
    /// Answer a message: an id as it is shown, or the last one.
    Reply(Option<String>, String),
    /// React, or take the reaction back.
    React(Option<String>, Option<String>),
    /// New text for an own message.
    Edit(Option<String>, String),
    /// Take an own message back.
    Delete(Option<String>),
    /// Choose, from a message or the last one that offers something.
    Choose(Option<String>, String),
    /// Fill in a form.
    Form(Option<String>),
    /// Send a place.
    Location(Location),
    /// Say what the business may send unasked, or decide about it.
    Consent(Option<(Purpose, bool)>),
    /// Send a file.
    Attach(String),
    /// Give up what is not sent yet.
    Cancel,
    /// Fetch a file: of a message or the last one, to here or there.
    Save(Option<String>, Option<String>),
    /// A new name.
    Name(String),
    /// Whom one talks to.
    Who,
    /// The customer's own devices.
    Devices,
    /// The recovery code.
    Recovery,
    /// Bring the conversation back here.
    Here,
    /// Invite another device, into this file.
    Invite(String),
    /// Remove a device.
    Remove(String),
    /// The commands.
    Help,
    /// Something that is not understood, as a sentence.
    Unknown(String),
}

impl Typed {
    /// From a line.
    pub(super) fn parse(line: &str) -> Self {
        let Some(rest) = line.strip_prefix('/') else {
            return if line.trim().is_empty() { Self::Empty } else { Self::Say(line.to_owned()) };
        };
        if rest.starts_with('/') {
            return Self::Say(rest.to_owned());
        }
        let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let rest = rest.trim();
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (id, after) = with_id(rest);
        match (word, after) {
            ("reply", "") => Self::Unknown("say what to answer: /reply TEXT".to_owned()),
            ("reply", text) => Self::Reply(id, text.to_owned()),
            ("react", emoji) => Self::React(id, some(emoji)),
            ("edit", "") => Self::Unknown("say the new text: /edit TEXT".to_owned()),
            ("edit", text) => Self::Edit(id, text.to_owned()),
            ("delete", "") => Self::Delete(id),
            ("delete", _) => Self::Unknown("/delete takes nothing or an ID".to_owned()),
            ("choose", "") => Self::Unknown("say the number: /choose N".to_owned()),
            ("choose", numbers) => Self::Choose(id, numbers.to_owned()),
            ("form", "") => Self::Form(id),
            ("form", _) => Self::Unknown("/form takes nothing or an ID".to_owned()),
            ("location", _) => match location(rest) {
                Some(location) => Self::Location(location),
                None => Self::Unknown("say where: /location 52.5200 13.4050, and if you like a name".to_owned()),
            },
            ("consent", _) => consent(rest),
            ("attach", _) if rest.is_empty() => Self::Unknown("say which file: /attach FILE".to_owned()),
            ("attach", _) => Self::Attach(rest.to_owned()),
            ("cancel", _) => Self::Cancel,
            ("save", to) => Self::Save(id, some(to)),
            ("name", _) if rest.is_empty() => Self::Unknown("say the name: /name NAME".to_owned()),
            ("name", _) => Self::Name(rest.to_owned()),
            ("who", _) => Self::Who,
            ("devices", _) => Self::Devices,
            ("recovery", _) => Self::Recovery,
            ("here", _) => Self::Here,
            ("invite", _) if rest.is_empty() => {
                Self::Unknown("say where to write the invitation: /invite FILE".to_owned())
            }
            ("invite", _) => Self::Invite(rest.to_owned()),
            ("remove", _) if rest.is_empty() => {
                Self::Unknown("say which device: /remove DEVICE; /devices lists them".to_owned())
            }
            ("remove", _) => Self::Remove(rest.to_owned()),
            ("help", _) => Self::Help,
            _ => Self::Unknown(format!("there is no command /{word}; /help lists them, //{word} says it as a text")),
        }
    }
}

/// Takes a leading ID off.
fn with_id(text: &str) -> (Option<String>, &str) {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    let is_id = first.len() == 8 && first.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if is_id { (Some(first.to_owned()), rest.trim()) } else { (None, text) }
}

/// `LAT LON NAME`, with a comma between the two or not.
fn location(text: &str) -> Option<Location> {
    let (latitude, rest) = text.split_once([' ', ','])?;
    let rest = rest.trim_start();
    let (longitude, name) = rest.split_once(' ').unwrap_or((rest, ""));
    let name = Some(name.trim().to_owned()).filter(|name| !name.is_empty());
    Some(Location { name, ..Location::at(latitude.parse().ok()?, longitude.parse().ok()?)? })
}

fn consent(text: &str) -> Typed {
    let mut words = text.split_whitespace();
    let purpose = match words.next() {
        None => return Typed::Consent(None),
        Some("notifications") => Some(Purpose::Notifications),
        Some("marketing") => Some(Purpose::Marketing),
        Some(_) => None,
    };
    let given = match words.next() {
        Some("on") => Some(true),
        Some("off") => Some(false),
        _ => None,
    };
    match (purpose, given, words.next()) {
        (Some(purpose), Some(given), None) => Typed::Consent(Some((purpose, given))),
        _ => Typed::Unknown("say for what, and whether: /consent notifications on, /consent marketing off".to_owned()),
    }
}

/// The sentence that is signed when somebody decides about a purpose. `/consent` shows it before.
fn wording(purpose: Purpose, name: &str) -> String {
    match purpose {
        Purpose::Marketing => format!("{name} may send me offers."),
        _ => format!(
            "{name} may write to me about what concerns me, such as an order or an appointment, also when I have not written just before."
        ),
    }
}

/// What can be decided, with the words that are typed for it.
const PURPOSES: [(Purpose, &str); 2] = [(Purpose::Notifications, "notifications"), (Purpose::Marketing, "marketing")];

/// Messages looked through for an ID or for the last one.
const LOOKED_THROUGH: usize = 1_000;

impl Session {
    /// Does what was typed. What is to be told at once comes back; what happens to a message comes as events.
    pub(super) async fn carry_out(&self, typed: Typed) -> Result<Option<String>, String> {
        let to = self.conversation.id;
        let draft = match typed {
            Typed::Empty => return Ok(None),
            Typed::Unknown(sentence) => return Err(sentence),
            Typed::Help => return Ok(Some(HELP.to_owned())),
            Typed::Who => return self.who().await.map(Some),
            Typed::Devices => return self.devices().await.map(Some),
            Typed::Recovery => return self.recovery().await.map(Some),
            Typed::Here => {
                self.endpoint.take_back(to).await.map_err(|error| match error {
                    CommandError::NotReady => "the conversation is here".to_owned(),
                    error => words(error),
                })?;
                return Ok(Some("it is brought back as soon as the business answers".to_owned()));
            }
            Typed::Attach(path) => return self.attach(&path).await,
            Typed::Cancel => return self.cancel().await.map(Some),
            Typed::Save(id, to) => {
                let theirs = |m: &Message| m.direction == Direction::Incoming && card(m).is_some();
                let of = self.find(id, "file of the business", theirs).await?;
                return self.save(&of, to.as_deref()).await.map(Some);
            }
            Typed::Invite(file) => return self.invite(&file).await.map(Some),
            Typed::Remove(name) => {
                self.endpoint.remove_device(to, name).await.map_err(words)?;
                return Ok(Some("it is removed as soon as the relay has taken the change".to_owned()));
            }
            Typed::Name(name) => {
                self.endpoint.set_name(to, name).await.map_err(words)?;
                return Ok(Some("the business will see the new name with your next message".to_owned()));
            }
            Typed::Consent(None) => return self.consents().await.map(Some),
            Typed::Consent(Some((purpose, given))) => return self.decide(purpose, given).await.map(Some),
            Typed::Form(_) => return Err("there is no form here".to_owned()),
            Typed::Choose(id, numbers) => {
                let is_choice = |of: &Interactive| !offer::choices(&of.action).is_empty();
                let (message, action) = self.offer(id, "choice", is_choice).await?;
                Draft::Answer { to: message.id, answer: offer::chosen(&action, &numbers)? }
            }
            Typed::Location(location) => {
                // To the newest message that asks for one, as long as nothing was sent to it.
                let asks = |of: &Interactive| matches!(of.action, Action::Location);
                let reply_to = self.offer(None, "place", asks).await.ok().map(|(message, _)| message.id);
                Draft::Location { location, reply_to }
            }
            Typed::Say(body) => Draft::Text { body, reply_to: None },
            Typed::Reply(id, body) => {
                let under = self
                    .find(id, "message of the business", |m| m.direction == Direction::Incoming && is_said(m))
                    .await?;
                Draft::Text { body, reply_to: Some(under.id) }
            }
            Typed::React(id, emoji) => {
                let under = self
                    .find(id, "message of the business", |m| m.direction == Direction::Incoming && is_said(m))
                    .await?;
                Draft::Reaction { to: under.id, emoji }
            }
            Typed::Edit(id, body) => {
                let is_text = |m: &Message| matches!(m.shown, Shown::Text(_)) && !m.deleted;
                let of = self.find(id, "text of yours", |m| m.direction == Direction::Outgoing && is_text(m)).await?;
                Draft::Edit { of: of.id, body }
            }
            Typed::Delete(id) => {
                let of =
                    self.find(id, "message of yours", |m| m.direction == Direction::Outgoing && is_said(m)).await?;
                Draft::Delete { of: of.id }
            }
        };
        self.endpoint.send(to, draft).await.map_err(words)?;
        Ok(None)
    }

    /// A message by its ID, or the newest that fits.
    async fn find(&self, id: Option<String>, whose: &str, fits: impl Fn(&Message) -> bool) -> Result<Message, String> {
        let messages = self.endpoint.messages(self.conversation.id, None, LOOKED_THROUGH).await.map_err(words)?;
        let mut newest_first = messages.into_iter().rev();
        match id {
            Some(id) => newest_first.find(|m| short(&m.id) == id).ok_or_else(|| format!("there is no message {id}")),
            None => newest_first.find(fits).ok_or_else(|| format!("there is no {whose} yet")),
        }
    }

    /// A message that offers something, by its ID or the newest that does and fits; refused if it was answered.
    async fn offer(
        &self,
        id: Option<String>,
        what: &str,
        fits: impl Fn(&Interactive) -> bool,
    ) -> Result<(Message, Action), String> {
        let messages = self.endpoint.messages(self.conversation.id, None, LOOKED_THROUGH).await.map_err(words)?;
        find_offer(messages.iter(), id.as_deref(), what, fits).map(|(m, of)| (m.clone(), of.action.clone()))
    }

    /// A form of the business, to be filled in.
    pub(super) async fn form(&self, id: Option<String>) -> Result<Filling, String> {
        let is_form = |of: &Interactive| matches!(of.action, Action::Form(_));
        match self.offer(id, "form", is_form).await? {
            (message, Action::Form(form)) => Ok(Filling::begin(message.id, &form)),
            _ => Err("that message has no form".to_owned()),
        }
    }

    async fn consents(&self) -> Result<String, String> {
        let now = self.endpoint.conversation(self.conversation.id).await.map_err(words)?;
        Ok(consents(now.as_ref().unwrap_or(&self.conversation)))
    }

    async fn decide(&self, purpose: Purpose, given: bool) -> Result<String, String> {
        let sentence = wording(purpose, &crate::text::one_line(&self.conversation.peer_name, 80));
        self.endpoint.decide(self.conversation.id, purpose, given, sentence.clone()).await.map_err(words)?;
        Ok(match given {
            true => format!("allowed, and signed as you: \u{201c}{sentence}\u{201d}"),
            false => format!(
                "withdrawn, and signed as you, for: \u{201c}{sentence}\u{201d} With the next connection the relay knows, and refuses it"
            ),
        })
    }

    async fn devices(&self) -> Result<String, String> {
        let devices = self.endpoint.devices(self.conversation.id).await.map_err(words)?;
        let one = |d: &OwnDevice| match (d.this, d.is_in) {
            (true, _) => format!("{} (this one)", d.name),
            (false, true) => d.name.clone(),
            (false, false) => format!("{} (about to come in)", d.name),
        };
        Ok(format!("your devices here: {}", devices.iter().map(one).collect::<Vec<_>>().join(", ")))
    }

    async fn recovery(&self) -> Result<String, String> {
        let code = self.endpoint.recovery_code(self.conversation.id).await.map_err(words)?;
        Ok(format!(
            "your recovery code: {}. Write it down: with it and the link, bulla chat --recover LINK brings this conversation back. Whoever has it can read it and write as you; without it and without this folder nobody can bring it back, the business neither",
            *code.to_text()
        ))
    }

    async fn invite(&self, file: &str) -> Result<String, String> {
        let invitation = self.endpoint.invite(self.conversation.id).await.map_err(words)?;
        let mut options = std::fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create_new(true), 0o600);
        let written = options.open(file).and_then(|mut f| std::io::Write::write_all(&mut f, &invitation));
        written.map_err(|e| format!("{file}: {e}"))?;
        Ok(format!(
            "on the other device, within a day: bulla chat --join {file}. Whoever has this file is you until you remove the device: delete it afterwards"
        ))
    }

    async fn who(&self) -> Result<String, String> {
        let now = self.endpoint.conversation(self.conversation.id).await.map_err(words)?;
        Ok(who(now.as_ref().unwrap_or(&self.conversation)))
    }
}

/// A message that offers something, by its ID or the newest that fits; refused if it was answered.
pub(super) fn find_offer<'m>(
    messages: impl DoubleEndedIterator<Item = &'m Message> + Clone,
    id: Option<&str>,
    what: &str,
    fits: impl Fn(&Interactive) -> bool,
) -> Result<(&'m Message, &'m Interactive), String> {
    let theirs = messages.clone().rev().filter(|m| m.direction == Direction::Incoming);
    let found = match id {
        Some(id) => {
            let message = theirs.into_iter().find(|m| short(&m.id) == id);
            let message = message.ok_or_else(|| format!("the business has sent no message {id}"))?;
            offer::interactive(message).filter(|of| fits(of)).map(|of| (message, of))
        }
        None => theirs.filter_map(|m| Some((m, offer::interactive(m)?))).find(|(_, of)| fits(of)),
    };
    let (message, of) = found.ok_or_else(|| match id {
        Some(id) => format!("message {id} has no {what}"),
        None => format!("the business has sent no {what} yet"),
    })?;
    match messages.rev().find(|m| offer::answers(m, &message.id, &of.action)) {
        Some(answer) => Err(format!("message {} was answered, with {}", short(&message.id), short(&answer.id))),
        None => Ok((message, of)),
    }
}

/// What the person has decided about, in the sentences that are signed.
fn consents(conversation: &Conversation) -> String {
    let name = crate::text::one_line(&conversation.peer_name, 80);
    let one = |(purpose, word): (Purpose, &str)| {
        let decided = conversation.consents.iter().find(|decision| decision.purpose == purpose);
        let (is, other) = match decided.map(|decision| decision.given) {
            Some(true) => ("on", "off"),
            Some(false) => ("off", "on"),
            None => ("off, never asked", "on"),
        };
        format!("{word}: {is}. \u{201c}{}\u{201d} /consent {word} {other}", wording(purpose, &name))
    };
    format!("{}. What is off the relay refuses, whatever the business does", PURPOSES.map(one).join("\n"))
}

/// Whom one talks to, and who says that he reads.
pub(super) fn who(conversation: &Conversation) -> String {
    let clean = |text: &str| crate::text::one_line(text, 80);
    let readers: Vec<_> =
        conversation.readers.iter().map(|(name, role)| format!("{} ({})", clean(name), clean(role))).collect();
    let readers = if readers.is_empty() { "nobody but the business itself".to_owned() } else { readers.join(", ") };
    format!(
        "{} (@{}), whose key is the one in your link. Who can read there, as the business says: {readers}. You are {} to it",
        clean(&conversation.peer_name),
        conversation.handle,
        conversation.user_id,
    )
}

/// A text that still stands: something to answer, react to, edit or delete.
fn is_said(message: &Message) -> bool {
    super::is_said(&message.shown) && !message.deleted
}

pub(super) fn words(error: CommandError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_texts_or_commands() {
        let text = |s: &str| Some(s.to_owned());
        for (line, typed) in [
            ("hello", Typed::Say("hello".into())),
            ("  indented", Typed::Say("  indented".into())),
            ("  ", Typed::Empty),
            ("//etc/passwd", Typed::Say("/etc/passwd".into())),
            ("/reply yes, please", Typed::Reply(None, "yes, please".into())),
            ("/reply 0a1b2c3d yes", Typed::Reply(text("0a1b2c3d"), "yes".into())),
            ("/react 👍", Typed::React(None, text("👍"))),
            ("/react", Typed::React(None, None)),
            ("/react 0a1b2c3d", Typed::React(text("0a1b2c3d"), None)),
            ("/edit a new text", Typed::Edit(None, "a new text".into())),
            ("/delete", Typed::Delete(None)),
            ("/name Ana María", Typed::Name("Ana María".into())),
            ("/who", Typed::Who),
            ("/devices", Typed::Devices),
            ("/recovery", Typed::Recovery),
            ("/here", Typed::Here),
            ("/invite /tmp/for my tablet", Typed::Invite("/tmp/for my tablet".into())),
            ("/remove abcdefgh", Typed::Remove("abcdefgh".into())),
            ("/attach /tmp/my cup.png", Typed::Attach("/tmp/my cup.png".into())),
            ("/cancel", Typed::Cancel),
            ("/save", Typed::Save(None, None)),
            ("/save 0a1b2c3d", Typed::Save(text("0a1b2c3d"), None)),
            ("/save 0a1b2c3d /tmp/here", Typed::Save(text("0a1b2c3d"), text("/tmp/here"))),
            ("/choose 2", Typed::Choose(None, "2".into())),
            ("/choose 0a1b2c3d 1 3x2", Typed::Choose(text("0a1b2c3d"), "1 3x2".into())),
            ("/form", Typed::Form(None)),
            ("/form 0a1b2c3d", Typed::Form(text("0a1b2c3d"))),
            ("/location 52.52 13.405", Typed::Location(Location::at(52.52, 13.405).unwrap())),
            (
                "/location -33.8,151 At the fountain",
                Typed::Location(Location { name: text("At the fountain"), ..Location::at(-33.8, 151.0).unwrap() }),
            ),
            ("/consent", Typed::Consent(None)),
            ("/consent notifications on", Typed::Consent(Some((Purpose::Notifications, true)))),
            ("/consent marketing off", Typed::Consent(Some((Purpose::Marketing, false)))),
            ("/help", Typed::Help),
        ] {
            assert_eq!(Typed::parse(line), typed, "{line}");
        }
        let choices = [
            "/choose",
            "/form now",
            "/location",
            "/location 91 0",
            "/location here",
            "/consent all on",
            "/consent marketing",
        ];
        let others = ["/", "/reply", "/edit", "/name", "/attach", "/delete now", "/invite", "/remove", "/frobnicate"];
        for line in choices.into_iter().chain(others) {
            assert!(matches!(Typed::parse(line), Typed::Unknown(_)), "{line}");
        }
    }
}
