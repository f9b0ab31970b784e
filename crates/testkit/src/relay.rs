//! A relay's client without any end-to-end part: an owner that reads one mailbox, a sender that writes to it, somebody who claims
//! commit slots. For tests and measurements of the relay alone, where the envelopes are whatever the test wants them to be.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use bulla_protocol::frame::{
    Ack, ClaimSlot, ClientFrame, ClientHello, Code, Create, Deliver, Open, ReadSlot, Role, Send, ServerFrame,
    ServerHello, Subscribe, client_frame::Body as Ask, server_frame::Body as Answer,
};
use bulla_protocol::id::{Challenge, GrantId, Incarnation, IncarnationNonce, MailboxId, SendId, SlotId, TagBlock};
use bulla_protocol::ownership::{sign_create, sign_open};
use bulla_protocol::permit::{Class, MacRoot, Permit, PermitMac, RelayName};
use bulla_protocol::work::Task;
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use futures_util::{SinkExt as _, StreamExt as _};
use rand_core::RngCore;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::process::{Part, program};
use crate::wait::GUARD;

/// A relay of its own: the real program, in a temporary folder.
#[derive(Debug)]
pub struct RelayProgram {
    part: Part,
    url: String,
    folder: tempfile::TempDir,
}

impl RelayProgram {
    /// Starts it on a free port, logging at TRACE.
    pub async fn start() -> Result<Self> {
        Self::start_logging("trace").await
    }

    /// The same with another level.
    pub async fn start_logging(level: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("bulla-relay-").tempdir().context("a temporary folder")?;
        let mut command = Command::new(program("bulla-relay")?);
        command.args(["serve", "--json", "--listen", "127.0.0.1:0", "--work-bits", "4", "--log", level, "--data"]);
        let part = Part::start(command.arg(folder.path().join("relay")))?;
        let line = part.stdout.until("bulla-relay to be ready", |lines| lines.first().cloned()).await;
        let line = line.with_context(|| part.stderr.all().join("\n"))?;
        let ready: serde_json::Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        let url = ready["url"].as_str().context("no url in its line")?.to_owned();
        Ok(Self { part, url, folder })
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.part.pid()
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("relay")
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.part.stderr.all().join("\n")
    }
}

/// A mailbox's secrets.
#[derive(Debug, Clone)]
pub struct Mailbox {
    id: MailboxId,
    key: SigningKey,
    root: MacRoot,
    incarnation: Incarnation,
}

impl Mailbox {
    /// A new one.
    pub fn new(rng: &mut impl RngCore) -> Self {
        let (mut id, mut key, mut root, mut nonce) = ([0; 16], [0; 32], [0; 32], [0; 16]);
        rng.fill_bytes(&mut id);
        rng.fill_bytes(&mut key);
        rng.fill_bytes(&mut root);
        rng.fill_bytes(&mut nonce);
        Self {
            id: MailboxId::new(id),
            key: SigningKey::from_bytes(&key),
            root: MacRoot::new(root),
            incarnation: Incarnation { number: 1, nonce: IncarnationNonce::new(nonce) },
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> MailboxId {
        self.id
    }

    /// A right to write to it, for a day, as often as can be said.
    #[must_use]
    pub fn permit(&self, now: u64) -> (Permit, PermitMac) {
        self.permit_of(Class::Ordinary, 96, now)
    }

    /// A right to write to it, for a day, so often a minute.
    #[must_use]
    pub fn permit_at_rate(&self, now: u64, rate: u16) -> (Permit, PermitMac) {
        let (mut permit, _) = self.permit(now);
        permit.rate = rate;
        let mac = self.root.grant_key(&permit.grant).mac(&permit);
        (permit, mac)
    }

    /// A right to say Hello to it, for a day.
    #[must_use]
    pub fn contact_permit(&self, now: u64) -> (Permit, PermitMac) {
        self.permit_of(Class::Contact, 32, now)
    }

    fn permit_of(&self, class: Class, max_kib: u16, now: u64) -> (Permit, PermitMac) {
        let permit = Permit {
            mailbox: self.id,
            grant: GrantId::new([7; 16]),
            class,
            expires: Permit::expiry_at(now) + 4,
            rate: u16::MAX,
            max_kib,
            tag: TagBlock::new([9; 16]),
        };
        let mac = self.root.grant_key(&permit.grant).mac(&permit);
        (permit, mac)
    }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn next_frame(socket: &mut Socket) -> Result<(u64, Answer)> {
    loop {
        match timeout(GUARD, socket.next()).await.context("the relay says nothing")? {
            Some(Ok(Message::Binary(bytes))) => return Ok(ServerFrame::from_bytes(bytes)?),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(other)) => bail!("the relay said {other:?}"),
            Some(Err(error)) => bail!("the connection broke: {error}"),
            None => bail!("the relay closed the connection"),
        }
    }
}

async fn connect(url: &str, role: Role) -> Result<(Socket, ServerHello)> {
    // Each frame leaves at once: many small ones put together by Nagle's algorithm would spare the relay work that it has.
    let connecting = tokio_tungstenite::connect_async_with_config(url, None, true);
    let (mut socket, _) = connecting.await.context("connecting to the relay")?;
    let (_, Answer::Hello(hello)) = next_frame(&mut socket).await? else { bail!("the relay speaks first") };
    let mine = Ask::Hello(ClientHello { version: 1, role: role.into() });
    socket.send(Message::Binary(ClientFrame::new(1, mine).to_bytes())).await?;
    match next_frame(&mut socket).await? {
        (1, Answer::Done(_)) => Ok((socket, hello)),
        other => bail!("{other:?}"),
    }
}

fn name_of(hello: &ServerHello) -> Result<RelayName> {
    RelayName::new(&hello.name).context("the relay's name")
}

/// A reader of one mailbox.
#[derive(Debug)]
pub struct Owner {
    socket: Socket,
    subscription: u64,
}

impl Owner {
    /// Makes the mailbox and opens it; nothing is delivered before [`Self::subscribe`].
    pub async fn create(url: &str, mailbox: &Mailbox) -> Result<Self> {
        let (socket, hello) = connect(url, Role::Owner).await?;
        let (name, challenge) = (name_of(&hello)?, Challenge::from_slice(&hello.challenge)?);
        let work = Task::mailbox(&challenge, &mailbox.id).search(hello.work_bits, 0, u64::MAX);
        let create = Ask::Create(Create {
            mailbox: mailbox.id.to_vec(),
            owner_key: mailbox.key.verifying_key().to_bytes().to_vec(),
            mac_root: mailbox.root.expose().to_vec(),
            work_nonce: work.context("no proof of work")?,
            signature: sign_create(&mailbox.key, &name, &challenge, &mailbox.id, &mailbox.root),
        });
        let mut owner = Self { socket, subscription: 0 };
        owner.ask(2, create).await?;
        owner.prove(&name, &challenge, mailbox).await?;
        Ok(owner)
    }

    /// Comes back to a mailbox that exists, with the incarnation that it had.
    pub async fn open(url: &str, mailbox: &Mailbox) -> Result<Self> {
        let (socket, hello) = connect(url, Role::Owner).await?;
        let mut owner = Self { socket, subscription: 0 };
        owner.prove(&name_of(&hello)?, &Challenge::from_slice(&hello.challenge)?, mailbox).await?;
        Ok(owner)
    }

    /// Opens the mailbox on this connection.
    async fn prove(&mut self, name: &RelayName, challenge: &Challenge, mailbox: &Mailbox) -> Result<()> {
        let open = Ask::Open(Open {
            mailbox: mailbox.id.to_vec(),
            incarnation: mailbox.incarnation.number,
            incarnation_nonce: mailbox.incarnation.nonce.to_vec(),
            signature: sign_open(&mailbox.key, name, challenge, &mailbox.id, &mailbox.incarnation),
        });
        self.ask(3, open).await
    }

    /// Asks for something that is answered with `Done`.
    async fn ask(&mut self, request: u64, ask: Ask) -> Result<()> {
        self.socket.send(Message::Binary(ClientFrame::new(request, ask).to_bytes())).await?;
        match next_frame(&mut self.socket).await? {
            (answered, Answer::Done(_)) if answered == request => Ok(()),
            other => bail!("{other:?}"),
        }
    }

    /// Starts the delivery; returns at once, what waits comes through [`Self::deliver`].
    pub async fn subscribe(&mut self, mailbox: &Mailbox) -> Result<()> {
        let ask = Ask::Subscribe(Subscribe { mailboxes: vec![mailbox.id.to_vec()] });
        self.socket.send(Message::Binary(ClientFrame::new(4, ask).to_bytes())).await?;
        loop {
            match next_frame(&mut self.socket).await? {
                (4, Answer::Subscribed(subscribed)) => {
                    self.subscription = *subscribed.subscriptions.first().context("no subscription")?;
                    return Ok(());
                }
                (0, _) => {}
                other => bail!("{other:?}"),
            }
        }
    }

    /// Waits until everything that waited was delivered; only for an empty mailbox.
    pub async fn live(&mut self) -> Result<()> {
        match next_frame(&mut self.socket).await? {
            (0, Answer::CaughtUp(_)) => Ok(()),
            other => bail!("{other:?}"),
        }
    }

    /// Reads and confirms all that waits; how much that was.
    pub async fn waiting(&mut self) -> Result<u64> {
        let mut count = 0;
        loop {
            match next_frame(&mut self.socket).await? {
                (0, Answer::Deliver(deliver)) => {
                    count += 1;
                    self.ack(deliver.number).await?;
                }
                (0, Answer::CaughtUp(_)) => return Ok(count),
                other => bail!("{other:?}"),
            }
        }
    }

    /// Answers the relay's pings until the connection ends.
    pub async fn waits(&mut self) -> Result<()> {
        while let Some(message) = self.socket.next().await {
            message?;
        }
        Ok(())
    }

    /// The next envelope.
    pub async fn deliver(&mut self) -> Result<Deliver> {
        loop {
            match next_frame(&mut self.socket).await? {
                (0, Answer::Deliver(deliver)) => return Ok(deliver),
                (0, Answer::CaughtUp(_)) => {}
                other => bail!("{other:?}"),
            }
        }
    }

    /// Confirms everything up to a number.
    pub async fn ack(&mut self, through: u64) -> Result<()> {
        let ack = Ask::Ack(Ack { subscription: self.subscription, through });
        Ok(self.socket.send(Message::Binary(ClientFrame::new(0, ack).to_bytes())).await?)
    }

    /// Waits until the relay has taken everything that was said before.
    pub async fn settle(&mut self) -> Result<()> {
        let ping = ClientFrame::new(9, Ask::Ping(bulla_protocol::frame::Ping {}));
        self.socket.send(Message::Binary(ping.to_bytes())).await?;
        while next_frame(&mut self.socket).await?.0 != 9 {}
        Ok(())
    }
}

/// A sender with one permit.
#[derive(Debug)]
pub struct Sender {
    socket: Socket,
    name: RelayName,
    permit: Permit,
    mac: PermitMac,
    next: u64,
    /// Sent and not answered: request to its number.
    waiting: BTreeMap<u64, ()>,
}

impl Sender {
    /// Connects, with a permit for the mailbox.
    pub async fn connect(url: &str, mailbox: &Mailbox) -> Result<Self> {
        let (socket, hello) = connect(url, Role::Anonymous).await?;
        let (permit, mac) = mailbox.permit(hello.now);
        Ok(Self { socket, name: name_of(&hello)?, permit, mac, next: 2, waiting: BTreeMap::new() })
    }

    /// Connects, with a permit for so many envelopes a minute.
    pub async fn at_rate(url: &str, mailbox: &Mailbox, rate: u16) -> Result<Self> {
        let (socket, hello) = connect(url, Role::Anonymous).await?;
        let (permit, mac) = mailbox.permit_at_rate(hello.now, rate);
        Ok(Self { socket, name: name_of(&hello)?, permit, mac, next: 2, waiting: BTreeMap::new() })
    }

    /// Connects, with a permit that somebody gave.
    pub async fn with_permit(url: &str, permit: Permit, mac: PermitMac) -> Result<Self> {
        let (socket, hello) = connect(url, Role::Anonymous).await?;
        Ok(Self { socket, name: name_of(&hello)?, permit, mac, next: 2, waiting: BTreeMap::new() })
    }

    /// Sends one, without waiting for its answer.
    pub async fn begin(&mut self, rng: &mut impl RngCore, envelope: Bytes) -> Result<()> {
        let mut id = [0; 16];
        rng.fill_bytes(&mut id);
        let id = SendId::new(id);
        let send = Send {
            permit: Some(self.permit.to_frame()),
            proof: self.mac.prove(&self.name, &id, &envelope).to_vec(),
            send_id: id.to_vec(),
            envelope,
            work_nonce: 0,
        };
        let request = self.next;
        self.next += 1;
        self.waiting.insert(request, ());
        Ok(self.socket.send(Message::Binary(ClientFrame::new(request, Ask::Send(send)).to_bytes())).await?)
    }

    /// Sent and not answered yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.waiting.len()
    }

    /// Waits for one answer; anything but `Accepted` is an error.
    pub async fn accepted(&mut self) -> Result<()> {
        match self.answered().await? {
            None => Ok(()),
            Some(code) => bail!("not accepted: {code:?}"),
        }
    }

    /// Waits for one answer: nothing where it is `Accepted`, or why it is not.
    pub async fn answered(&mut self) -> Result<Option<Code>> {
        match next_frame(&mut self.socket).await? {
            (request, Answer::Accepted(_)) if self.waiting.remove(&request).is_some() => Ok(None),
            (request, Answer::Failed(failed)) if self.waiting.remove(&request).is_some() => Ok(Some(failed.code())),
            other => bail!("no answer: {other:?}"),
        }
    }
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// These bytes stand.
    Won,
    /// Those of somebody else stand.
    Lost(Bytes),
}

/// Somebody who claims and reads commit slots.
#[derive(Debug)]
pub struct Claimant {
    socket: Socket,
    challenge: Challenge,
    work_bits: u32,
    next: u64,
}

impl Claimant {
    /// Connects, anonymously.
    pub async fn connect(url: &str) -> Result<Self> {
        let (socket, hello) = connect(url, Role::Anonymous).await?;
        let challenge = Challenge::from_slice(&hello.challenge)?;
        Ok(Self { socket, challenge, work_bits: hello.work_bits, next: 2 })
    }

    async fn ask(&mut self, ask: Ask) -> Result<Answer> {
        let request = self.next;
        self.next += 1;
        self.socket.send(Message::Binary(ClientFrame::new(request, ask).to_bytes())).await?;
        match next_frame(&mut self.socket).await? {
            (answered, answer) if answered == request => Ok(answer),
            other => bail!("{other:?}"),
        }
    }

    /// Claims a slot; a refusal is an error.
    pub async fn claim(&mut self, slot: &SlotId, commit: Bytes) -> Result<Claimed> {
        let work = Task::slot(&self.challenge, slot, &commit).search(self.work_bits, 0, u64::MAX);
        let work_nonce = work.context("no proof of work")?;
        match self.ask(Ask::ClaimSlot(ClaimSlot { slot: slot.to_vec(), commit, work_nonce })).await? {
            Answer::SlotClaimed(claimed) if claimed.won => Ok(Claimed::Won),
            Answer::SlotClaimed(claimed) => Ok(Claimed::Lost(claimed.winner)),
            other => bail!("{other:?}"),
        }
    }

    /// What stands in a slot.
    pub async fn read(&mut self, slot: &SlotId) -> Result<Option<Bytes>> {
        match self.ask(Ask::ReadSlot(ReadSlot { slot: slot.to_vec() })).await? {
            Answer::SlotRead(read) => Ok((!read.commit.is_empty()).then_some(read.commit)),
            other => bail!("{other:?}"),
        }
    }
}
