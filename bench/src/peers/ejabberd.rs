//! ejabberd: XMPP, one-to-one messages, stream management on both sides, messages for who is away in Mnesia.
//!
//! The stanzas are written by hand: what is sent are six of them, always the same, and a library's XML, its own tasks and its own
//! bookkeeping of acks would make the driver dearer than the server. For the same reason what arrives is cut into elements and searched
//! for what is needed, not parsed: this trusts the server that it has started.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use bulla_testkit::process::Part;
use bytes::{Bytes, BytesMut};
use data_encoding::BASE64;
use memchr::{memchr, memmem};
use tokio_util::codec::Decoder;

use super::server::{Line, PASSWORD, Place, Reader, Server, Writer, start};
use super::which;

/// Where Debian has ejabberd, among its Erlang libraries.
const LIBRARIES: [&str; 2] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];

/// The version that is there: its folder is called after it.
pub(super) fn version() -> Option<String> {
    which("erl")?;
    let entries = LIBRARIES.into_iter().filter_map(|folder| std::fs::read_dir(folder).ok());
    let mut names = entries.flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.find_map(|name| Some(name.strip_prefix("ejabberd-")?.to_owned()))
}

#[derive(Debug)]
pub(super) struct Ejabberd {
    part: Part,
    address: SocketAddr,
}

/// Only what messages need, and no limit of any kind. Accounts make themselves, with plain passwords: logging in is not measured.
fn configuration(port: u16) -> String {
    format!(
        "hosts: [localhost]
loglevel: error
listen:
  - port: {port}
    ip: 127.0.0.1
    module: ejabberd_c2s
    max_stanza_size: 262144
    starttls: false
    backlog: 1024
auth_method: [internal]
auth_password_format: plain
registration_timeout: infinity
shaper_rules:
  max_user_offline_messages: infinity
modules:
  mod_register:
    ip_access: all
    access: all
  mod_offline:
    access_max_user_messages: max_user_offline_messages
  mod_stream_mgmt:
    max_ack_queue: infinity
"
    )
}

impl Server for Ejabberd {
    type Writer = Speaker;
    type Reader = Listener;

    async fn start(place: &Place) -> Result<Self> {
        let file = place.write("ejabberd.yml", &configuration(place.port()))?;
        let address = place.address();
        let mut command = Command::new(which("erl").context("no erl")?);
        // Without a name the node speaks to no other, and needs no port mapper.
        command.args(["+K", "true", "+P", "250000", "-noinput", "-mnesia", "dir"]);
        command.arg(format!("{:?}", place.folder().join("mnesia"))).args(["-s", "ejabberd"]);
        command.env("ERL_LIBS", LIBRARIES.join(":")).env("EJABBERD_CONFIG_PATH", file).env("HOME", place.folder());
        command.env("EJABBERD_LOG_PATH", place.folder().join("ejabberd.log"));
        command.env("ERL_CRASH_DUMP", place.folder().join("crash.dump"));
        let part = start(&mut command, || open(address)).await?;
        Ok(Self { part, address })
    }

    fn part(&self) -> &Part {
        &self.part
    }

    async fn make(&self, mailbox: u64) -> Result<()> {
        let mut line = open(self.address).await?;
        for user in [reader(mailbox), writer(mailbox)] {
            let register = format!(
                "<iq type='set' id='r'><query xmlns='jabber:iq:register'><username>{user}</username>\
                 <password>{PASSWORD}</password></query></iq>"
            );
            let answer = ask(&mut line, &register).await?;
            ensure!(answer.has("type='result'"), "{answer:?}");
        }
        Ok(())
    }

    async fn writer(&self, mailbox: u64) -> Result<Speaker> {
        let line = session(self.address, &writer(mailbox)).await?;
        Ok(Speaker { line, to: reader(mailbox), answered: 0 })
    }

    async fn reader(&self, mailbox: u64) -> Result<Listener> {
        let mut line = session(self.address, &reader(mailbox)).await?;
        line.out.extend_from_slice(b"<presence/>");
        line.flush().await?;
        Ok(Listener { line, handled: 0, is_owed: false, is_asked: false })
    }
}

fn reader(mailbox: u64) -> String {
    format!("reader-{mailbox}")
}

fn writer(mailbox: u64) -> String {
    format!("writer-{mailbox}")
}

const STREAM: &str = "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
                      xmlns:stream='http://etherx.jabber.org/streams'>";

async fn ask(line: &mut Line<Elements>, what: &str) -> Result<Element> {
    line.out.extend_from_slice(what.as_bytes());
    line.flush().await?;
    line.next().await
}

/// A stream before the login.
async fn open(to: SocketAddr) -> Result<Line<Elements>> {
    let mut line = Line::connect(to, Elements).await?;
    let features = ask(&mut line, STREAM).await?;
    ensure!(features.is("stream:features"), "{features:?}");
    Ok(line)
}

/// A session with stream management.
async fn session(to: SocketAddr, user: &str) -> Result<Line<Elements>> {
    let mut line = open(to).await?;
    let secret = BASE64.encode(format!("\0{user}\0{PASSWORD}").as_bytes());
    let auth = format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>");
    let bind = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
    for (what, expected) in [
        (auth.as_str(), "success"),
        (STREAM, "stream:features"),
        (bind, "iq"),
        ("<enable xmlns='urn:xmpp:sm:3'/>", "enabled"),
    ] {
        let answer = ask(&mut line, what).await?;
        ensure!(answer.is(expected), "{answer:?} and not {expected}");
    }
    Ok(line)
}

#[derive(Debug)]
pub(super) struct Speaker {
    line: Line<Elements>,
    to: String,
    answered: u64,
}

impl Writer for Speaker {
    async fn begin(&mut self, payload: Bytes) -> Result<()> {
        let out = &mut self.line.out;
        out.extend_from_slice(b"<message type='chat' to='");
        out.extend_from_slice(self.to.as_bytes());
        out.extend_from_slice(b"@localhost'><body>");
        out.extend_from_slice(&payload);
        out.extend_from_slice(b"</body></message><r xmlns='urn:xmpp:sm:3'/>");
        self.line.flush().await
    }

    async fn answered(&mut self) -> Result<u64> {
        loop {
            let element = self.line.next().await?;
            if element.is("a") {
                let all = element.attribute("h").context("an answer without its number")?;
                return Ok(all - std::mem::replace(&mut self.answered, all));
            }
            // It may ask what this side has heard, which is nothing.
            if !element.is("r") {
                bail!("{element:?}");
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Listener {
    line: Line<Elements>,
    /// Stanzas that were received since stream management began: all count, also presence.
    handled: u64,
    /// Whether some of them are not confirmed.
    is_owed: bool,
    /// Whether the server has asked since.
    is_asked: bool,
}

impl Listener {
    async fn tell(&mut self) -> Result<()> {
        self.line.out.extend_from_slice(format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", self.handled).as_bytes());
        (self.is_owed, self.is_asked) = (false, false);
        self.line.flush().await
    }

    /// Takes an element that is no message; an unasked question is answered at the next confirmation, or now if there is none to come.
    async fn other(&mut self, element: &Element) -> Result<()> {
        if element.is("presence") || element.is("iq") {
            self.handled += 1;
        } else if element.is("r") {
            self.is_asked = true;
            if !self.is_owed {
                self.tell().await?;
            }
        } else {
            bail!("{element:?}");
        }
        Ok(())
    }
}

impl Reader for Listener {
    async fn next(&mut self) -> Result<Bytes> {
        loop {
            let element = self.line.next().await?;
            if element.is("message") {
                self.handled += 1;
                self.is_owed = true;
                return element.body();
            }
            self.other(&element).await?;
        }
    }

    async fn confirm(&mut self) -> Result<()> {
        if self.is_owed || self.is_asked { self.tell().await } else { Ok(()) }
    }

    async fn settle(&mut self) -> Result<()> {
        self.line.out.extend_from_slice(b"<r xmlns='urn:xmpp:sm:3'/>");
        self.line.flush().await?;
        loop {
            let element = self.line.next().await?;
            if element.is("a") {
                return Ok(());
            }
            self.other(&element).await?;
        }
    }
}

/// One whole element of the stream, with everything in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Element(Bytes);

impl Element {
    fn is(&self, name: &str) -> bool {
        name_of(&self.0) == name.as_bytes()
    }

    fn has(&self, text: &str) -> bool {
        memmem::find(&self.0, text.as_bytes()).is_some()
    }

    fn attribute(&self, name: &str) -> Option<u64> {
        let from = memmem::find(&self.0, format!(" {name}='").as_bytes())? + name.len() + 3;
        let value = self.0.get(from..)?;
        std::str::from_utf8(value.get(..memchr(b'\'', value)?)?).ok()?.parse().ok()
    }

    fn body(&self) -> Result<Bytes> {
        const OPEN: &[u8] = b"<body>";
        let from = memmem::find(&self.0, OPEN).context("a message without a body")? + OPEN.len();
        let to = memmem::find(&self.0, b"</body>").context("a body without an end")?;
        Ok(self.0.slice(from..to))
    }
}

/// What stands behind the first `<`.
fn name_of(element: &[u8]) -> &[u8] {
    let name = element.get(1..).unwrap_or_default();
    let end = name.iter().position(|byte| matches!(byte, b' ' | b'>' | b'/')).unwrap_or(name.len());
    name.get(..end).unwrap_or_default()
}

/// Cuts the stream into elements. None of those that come here contains another of its own name.
#[derive(Debug, Clone, Copy)]
struct Elements;

impl Decoder for Elements {
    type Item = Element;
    type Error = std::io::Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> std::io::Result<Option<Element>> {
        loop {
            let Some(first) = memchr(b'>', bytes) else { return Ok(None) };
            let tag = bytes.get(..=first).unwrap_or_default();
            let name = name_of(tag);
            // The header has no end as long as the stream lives.
            if name == b"?xml" || name == b"stream:stream" {
                let _ = bytes.split_to(first + 1);
                continue;
            }
            let end = if tag.ends_with(b"/>") {
                first + 1
            } else {
                let close = [b"</", name, b">"].concat();
                let rest = bytes.get(first..).unwrap_or_default();
                match memmem::find(rest, &close) {
                    Some(at) => first + at + close.len(),
                    None => return Ok(None),
                }
            };
            return Ok(Some(Element(bytes.split_to(end).freeze())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_cut_into_whole_elements() {
        let text = "<?xml version='1.0'?><stream:stream id='1'><a h='12' xmlns='x'/><message to='a'><body>hey</body>\
                    </message><r xmlns='y'/><mess";
        let mut bytes = BytesMut::from(text);
        let mut next = || Elements.decode(&mut bytes).unwrap();
        assert_eq!(next().unwrap().attribute("h"), Some(12));
        let message = next().unwrap();
        assert!(message.is("message") && !message.is("mess"));
        assert_eq!(message.body().unwrap(), "hey");
        assert!(next().unwrap().is("r"));
        assert_eq!(next(), None);
        assert_eq!(bytes, "<mess");
    }
}
