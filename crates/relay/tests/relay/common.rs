//! A small client and a relay in this process, for tests: real sockets, real files.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bulla_protocol::frame::{
    Accepted, Ack, ClaimSlot, ClientFrame, ClientHello, Code, Create, Deliver, Failed, Open, ReadSlot, Revoke, Role,
    Send, ServerFrame, ServerHello, SlotClaimed, Subscribe, client_frame::Body as C, server_frame::Body as S,
};
use bulla_protocol::id::{Challenge, GrantId, Incarnation, IncarnationNonce, MailboxId, SendId, SlotId, TagBlock};
use bulla_protocol::ownership::{sign_create, sign_open};
use bulla_protocol::permit::{Class, MacRoot, Permit, PermitMac, RelayName};
use bulla_protocol::work::Task;
use bulla_relay::{Clock, Config, ManualClock, Running};
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};

/// Nothing in these tests takes this long unless it hangs.
pub(crate) const GUARD: Duration = Duration::from_secs(30);
pub(crate) const NAME: &str = "relay.test";
pub(crate) const WORK_BITS: u32 = 4;
/// 2026-01-01, noon.
pub(crate) const START: u64 = 1_767_268_800;

/// A relay with its data folder and its clock.
pub(crate) struct World {
    _dir: tempfile::TempDir,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) relay: Option<Running>,
    pub(crate) config: Config,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let mut config = Config::new(dir.path().join("relay"), listen, RelayName::new(NAME).unwrap());
        config.work_bits = WORK_BITS;
        // Long enough that a test which does not mean it never sees it.
        config.handover = GUARD * 2;
        change(&mut config);
        let mut world = Self { _dir: dir, clock: Arc::new(ManualClock::new(START)), relay: None, config };
        world.run().await;
        world
    }

    pub(crate) async fn run(&mut self) {
        let clock: Arc<dyn Clock> = self.clock.clone();
        let random = Box::new(rand_core::OsRng);
        self.relay = Some(bulla_relay::serve(self.config.clone(), clock, random).await.unwrap());
    }

    pub(crate) async fn stop(&mut self) {
        self.relay.take().unwrap().shutdown().await.unwrap();
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.run().await;
    }

    pub(crate) fn url(&self) -> String {
        self.relay.as_ref().unwrap().url()
    }

    pub(crate) async fn owner(&self) -> Client {
        Client::connect(&self.url(), Role::Owner).await
    }

    pub(crate) async fn anonymous(&self) -> Client {
        Client::connect(&self.url(), Role::Anonymous).await
    }

    /// A new mailbox, opened and not subscribed to, and the connection that holds it.
    pub(crate) async fn mailbox(&self, seed: u8) -> (Mailbox, Client) {
        let mailbox = Mailbox::new(seed);
        let mut owner = self.owner().await;
        owner.create(&mailbox).await;
        owner.open(&mailbox).await;
        (mailbox, owner)
    }

    /// Everything that the relay holds, as `disclose` tells it.
    pub(crate) async fn disclose(&self) -> bulla_relay::disclose::Disclosure {
        let data = self.config.data.clone();
        let found = tokio::task::spawn_blocking(move || bulla_relay::disclose::from_folder(&data, None));
        found.await.unwrap().unwrap()
    }

    /// How many envelopes are stored for the mailbox.
    pub(crate) async fn stored(&self, mailbox: &Mailbox) -> usize {
        let (data, id) = (self.config.data.clone(), mailbox.id);
        let found = tokio::task::spawn_blocking(move || bulla_relay::disclose::from_folder(&data, Some(id)));
        found.await.unwrap().unwrap().mailboxes[0].envelopes.len()
    }

    /// Waits until so many envelopes are stored.
    pub(crate) async fn stored_becomes(&self, mailbox: &Mailbox, count: usize) {
        let reached = async {
            // Each look is a round trip through the relay's socket and store, behind what was queued before.
            while self.stored(mailbox).await != count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(GUARD, reached).await.expect("the store did not get there");
    }

    /// Whether the bytes are anywhere in the data folder.
    pub(crate) fn on_disk(&self, needle: &[u8]) -> bool {
        fn search(folder: &std::path::Path, needle: &[u8]) -> bool {
            std::fs::read_dir(folder).unwrap().any(|entry| {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    return search(&path, needle);
                }
                std::fs::read(&path).is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
            })
        }
        search(&self.config.data, needle)
    }
}

/// A mailbox's owner's secrets.
#[derive(Clone)]
pub(crate) struct Mailbox {
    pub(crate) id: MailboxId,
    pub(crate) key: SigningKey,
    pub(crate) root: MacRoot,
    pub(crate) incarnation: Incarnation,
}

impl Mailbox {
    pub(crate) fn new(seed: u8) -> Self {
        Self {
            id: MailboxId::new([seed; 16]),
            key: SigningKey::from_bytes(&[seed; 32]),
            root: MacRoot::new([seed ^ 0xff; 32]),
            incarnation: Incarnation { number: 1, nonce: IncarnationNonce::new([seed; 16]) },
        }
    }

    pub(crate) fn raised(&self, number: u64, nonce: u8) -> Self {
        let incarnation = Incarnation { number, nonce: IncarnationNonce::new([nonce; 16]) };
        Self { incarnation, ..self.clone() }
    }

    pub(crate) fn permit(&self) -> Given {
        self.given(Class::Ordinary, |_| ())
    }

    pub(crate) fn contact(&self) -> Given {
        self.given(Class::Contact, |_| ())
    }

    pub(crate) fn given(&self, class: Class, change: impl FnOnce(&mut Permit)) -> Given {
        let mut permit = Permit {
            mailbox: self.id,
            grant: GrantId::new([7; 16]),
            class,
            expires: Permit::expiry_at(START) + 4,
            rate: 60_000,
            max_kib: 96,
            tag: TagBlock::new([9; 16]),
        };
        change(&mut permit);
        Given { mac: self.root.grant_key(&permit.grant).mac(&permit), permit }
    }
}

/// A permit with its MAC.
#[derive(Clone)]
pub(crate) struct Given {
    pub(crate) permit: Permit,
    pub(crate) mac: PermitMac,
}

/// One connection.
pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub(crate) hello: ServerHello,
    next: u64,
    /// The code with which the relay closed the connection.
    pub(crate) closed: Option<u16>,
    /// Frames that came while another was waited for.
    early: VecDeque<(u64, S)>,
}

static SENDS: AtomicU64 = AtomicU64::new(1);

/// A fresh send id.
pub(crate) fn send_id() -> SendId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&SENDS.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    SendId::new(bytes)
}

impl Client {
    /// A connection that has heard the relay's hello and said nothing.
    pub(crate) async fn silent(url: &str) -> Self {
        Self::silent_trusting(url, None).await
    }

    /// The same, under TLS if the connector says whom to trust.
    async fn silent_trusting(url: &str, tls: Option<Connector>) -> Self {
        let connected = Self::silent_if_up(url, tls).await.unwrap();
        connected.expect("the relay speaks first")
    }

    async fn silent_if_up(url: &str, tls: Option<Connector>) -> tokio_tungstenite::tungstenite::Result<Option<Self>> {
        // Without Nagle's algorithm: what is sent is on its way.
        let connecting = tokio_tungstenite::connect_async_tls_with_config(url, None, true, tls);
        let (socket, _) = connecting.await?;
        let mut client = Self { socket, hello: ServerHello::default(), next: 1, closed: None, early: VecDeque::new() };
        let Some((0, S::Hello(hello))) = client.frame().await else { return Ok(None) };
        client.hello = hello;
        Ok(Some(client))
    }

    /// A connection to a relay that may go at any moment.
    pub(crate) async fn connect_if_up(url: &str, role: Role) -> Option<Self> {
        let mut client = Self::silent_if_up(url, None).await.ok()??;
        let request = client.begin(C::Hello(ClientHello { version: 1, role: role.into() })).await;
        matches!(client.frame().await, Some((answered, S::Done(_))) if answered == request).then_some(client)
    }

    pub(crate) async fn connect(url: &str, role: Role) -> Self {
        Self::connect_trusting(url, role, None).await
    }

    pub(crate) async fn connect_trusting(url: &str, role: Role, tls: Option<Connector>) -> Self {
        let mut client = Self::silent_trusting(url, tls).await;
        assert_eq!(client.hello.name, NAME);
        let hello = C::Hello(ClientHello { version: 1, role: role.into() });
        assert!(matches!(client.ask(hello).await, S::Done(_)));
        client
    }

    pub(crate) fn challenge(&self) -> Challenge {
        Challenge::from_slice(&self.hello.challenge).unwrap()
    }

    /// This end's port, as the relay's machine sees it.
    pub(crate) fn port(&self) -> u16 {
        match self.socket.get_ref() {
            MaybeTlsStream::Plain(stream) => stream.local_addr().unwrap().port(),
            _ => panic!("under TLS"),
        }
    }

    /// The socket below WebSocket: whoever reads there answers no pings.
    pub(crate) fn tcp(&mut self) -> &mut tokio::net::TcpStream {
        match self.socket.get_mut() {
            MaybeTlsStream::Plain(stream) => stream,
            _ => panic!("under TLS"),
        }
    }

    /// Answers pings, and says nothing else, until the connection ends.
    pub(crate) async fn only_pongs(&mut self) {
        while let Some(Ok(Message::Ping(_))) = self.socket.next().await {}
    }

    pub(crate) async fn raw(&mut self, message: Message) {
        // A relay that closes meanwhile is seen by who reads.
        let _ = self.socket.send(message).await;
    }

    /// Sends a request and returns its number.
    pub(crate) async fn begin(&mut self, body: C) -> u64 {
        let request = self.next;
        self.next += 1;
        self.raw(Message::Binary(ClientFrame::new(request, body).to_bytes())).await;
        request
    }

    /// The next frame, or none if the connection was closed.
    pub(crate) async fn frame(&mut self) -> Option<(u64, S)> {
        let frame = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Binary(bytes))) => return Some(ServerFrame::from_bytes(bytes).unwrap()),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Close(frame))) => {
                        self.closed = frame.map(|frame| frame.code.into());
                        return None;
                    }
                    Some(Err(_)) | None => return None,
                    Some(Ok(other)) => panic!("{other:?}"),
                }
            }
        };
        tokio::time::timeout(GUARD, frame).await.expect("nothing came")
    }

    /// The next frame that was not asked for.
    pub(crate) async fn event(&mut self) -> S {
        if let Some(index) = self.early.iter().position(|(request, _)| *request == 0) {
            return self.early.remove(index).unwrap().1;
        }
        loop {
            match self.frame().await.expect("closed") {
                (0, body) => return body,
                other => self.early.push_back(other),
            }
        }
    }

    pub(crate) async fn answer(&mut self, request: u64) -> S {
        if let Some(index) = self.early.iter().position(|(early, _)| *early == request) {
            return self.early.remove(index).unwrap().1;
        }
        loop {
            match self.frame().await.expect("closed") {
                (answered, body) if answered == request => return body,
                other => self.early.push_back(other),
            }
        }
    }

    /// Whether no answer to the request has been read yet: to be asked after a round trip.
    pub(crate) fn is_unanswered(&self, request: u64) -> bool {
        self.early.iter().all(|(early, _)| *early != request)
    }

    /// Whether no unasked frame has been read and left: to be asked after a round trip.
    pub(crate) fn has_no_event(&self) -> bool {
        self.is_unanswered(0)
    }

    pub(crate) async fn ask(&mut self, body: C) -> S {
        let request = self.begin(body).await;
        self.answer(request).await
    }

    /// Ends the connection and waits until the relay has seen it.
    pub(crate) async fn close(mut self) {
        self.raw(Message::Close(None)).await;
        while self.frame().await.is_some() {}
    }

    /// A round trip: everything sent before has been taken by the relay.
    pub(crate) async fn ping(&mut self) {
        assert!(matches!(self.ask(C::Ping(Default::default())).await, S::Done(_)));
    }

    /// Reads to the end of the connection and returns the last frame.
    pub(crate) async fn until_closed(&mut self) -> Option<(u64, S)> {
        let mut last = None;
        while let Some(frame) = self.frame().await {
            last = Some(frame);
        }
        last
    }

    // ------------------------------------------------------------ owner

    pub(crate) fn create_frame(&self, mailbox: &Mailbox) -> Create {
        let challenge = self.challenge();
        let nonce = Task::mailbox(&challenge, &mailbox.id).search(self.hello.work_bits, 0, u64::MAX).unwrap();
        let name = RelayName::new(&self.hello.name).unwrap();
        Create {
            mailbox: mailbox.id.to_vec(),
            owner_key: mailbox.key.verifying_key().to_bytes().to_vec(),
            mac_root: mailbox.root.expose().to_vec(),
            work_nonce: nonce,
            signature: sign_create(&mailbox.key, &name, &challenge, &mailbox.id, &mailbox.root),
        }
    }

    pub(crate) async fn create(&mut self, mailbox: &Mailbox) {
        let create = self.create_frame(mailbox);
        assert!(matches!(self.ask(C::Create(create)).await, S::Done(_)));
    }

    pub(crate) fn open_frame(&self, mailbox: &Mailbox) -> Open {
        let name = RelayName::new(&self.hello.name).unwrap();
        Open {
            mailbox: mailbox.id.to_vec(),
            incarnation: mailbox.incarnation.number,
            incarnation_nonce: mailbox.incarnation.nonce.to_vec(),
            signature: sign_open(&mailbox.key, &name, &self.challenge(), &mailbox.id, &mailbox.incarnation),
        }
    }

    pub(crate) async fn try_open(&mut self, mailbox: &Mailbox) -> S {
        let open = self.open_frame(mailbox);
        self.ask(C::Open(open)).await
    }

    pub(crate) async fn open(&mut self, mailbox: &Mailbox) {
        assert!(matches!(self.try_open(mailbox).await, S::Done(_)));
    }

    pub(crate) async fn subscribe(&mut self, mailbox: &Mailbox) -> u64 {
        match self.ask(C::Subscribe(Subscribe { mailboxes: vec![mailbox.id.to_vec()] })).await {
            S::Subscribed(subscribed) => subscribed.subscriptions[0],
            other => panic!("{other:?}"),
        }
    }

    /// Subscribes to an empty mailbox and waits until it is live.
    pub(crate) async fn live(&mut self, mailbox: &Mailbox) -> u64 {
        let subscription = self.subscribe(mailbox).await;
        assert!(matches!(self.event().await, S::CaughtUp(_)));
        subscription
    }

    pub(crate) async fn deliver(&mut self) -> Deliver {
        match self.event().await {
            S::Deliver(deliver) => deliver,
            other => panic!("{other:?}"),
        }
    }

    /// So many deliveries, their envelopes as text.
    pub(crate) async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut out = Vec::new();
        for _ in 0..count {
            out.push(text(&self.deliver().await));
        }
        out
    }

    pub(crate) async fn ack(&mut self, subscription: u64, through: u64) {
        let frame = ClientFrame::new(0, C::Ack(Ack { subscription, through }));
        self.raw(Message::Binary(frame.to_bytes())).await;
    }

    pub(crate) async fn revoke(&mut self, mailbox: &Mailbox, grant: GrantId) {
        let revoke = Revoke { mailbox: mailbox.id.to_vec(), grant: grant.to_vec() };
        assert!(matches!(self.ask(C::Revoke(revoke)).await, S::Done(_)));
    }

    // ------------------------------------------------------------ sender

    pub(crate) fn send_frame(&self, given: &Given, id: SendId, envelope: &[u8]) -> Send {
        let name = RelayName::new(&self.hello.name).unwrap();
        let work_nonce = match given.permit.class {
            Class::Ordinary => 0,
            Class::Contact => Task::contact(&self.challenge(), &given.permit.mailbox, envelope)
                .search(self.hello.work_bits, 0, u64::MAX)
                .unwrap(),
        };
        Send {
            permit: Some(given.permit.to_frame()),
            proof: given.mac.prove(&name, &id, envelope).to_vec(),
            send_id: id.to_vec(),
            envelope: Bytes::copy_from_slice(envelope),
            work_nonce,
        }
    }

    pub(crate) async fn begin_send(&mut self, given: &Given, envelope: &[u8]) -> u64 {
        let frame = self.send_frame(given, send_id(), envelope);
        self.begin(C::Send(frame)).await
    }

    pub(crate) async fn try_send(&mut self, given: &Given, envelope: &[u8]) -> S {
        let request = self.begin_send(given, envelope).await;
        self.answer(request).await
    }

    pub(crate) async fn send(&mut self, given: &Given, envelope: &[u8]) {
        assert_eq!(self.try_send(given, envelope).await, S::Accepted(Accepted {}));
    }

    pub(crate) async fn accepted(&mut self, request: u64) {
        assert_eq!(self.answer(request).await, S::Accepted(Accepted {}));
    }

    // ------------------------------------------------------------ slots

    pub(crate) fn claim_frame(&self, slot: SlotId, commit: &[u8]) -> ClaimSlot {
        let task = Task::slot(&self.challenge(), &slot, commit);
        let work_nonce = task.search(self.hello.work_bits, 0, u64::MAX).unwrap();
        ClaimSlot { slot: slot.to_vec(), commit: Bytes::copy_from_slice(commit), work_nonce }
    }

    pub(crate) async fn begin_claim(&mut self, slot: SlotId, commit: &[u8]) -> u64 {
        let frame = self.claim_frame(slot, commit);
        self.begin(C::ClaimSlot(frame)).await
    }

    pub(crate) async fn claim(&mut self, slot: SlotId, commit: &[u8]) -> S {
        let request = self.begin_claim(slot, commit).await;
        self.answer(request).await
    }

    /// What stands in the slot; nothing if it is free.
    pub(crate) async fn read_slot(&mut self, slot: SlotId) -> Option<Bytes> {
        match self.ask(C::ReadSlot(ReadSlot { slot: slot.to_vec() })).await {
            S::SlotRead(read) => (!read.commit.is_empty()).then_some(read.commit),
            other => panic!("{other:?}"),
        }
    }
}

/// The slot of a number.
pub(crate) fn slot(n: u64) -> SlotId {
    let mut bytes = [0x51; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    SlotId::new(bytes)
}

pub(crate) fn won() -> S {
    S::SlotClaimed(SlotClaimed { won: true, winner: Bytes::new() })
}

pub(crate) fn lost(winner: &[u8]) -> S {
    S::SlotClaimed(SlotClaimed { won: false, winner: Bytes::copy_from_slice(winner) })
}

pub(crate) fn text(deliver: &Deliver) -> String {
    String::from_utf8(deliver.envelope.to_vec()).unwrap()
}

pub(crate) fn code(answer: &S) -> Code {
    match answer {
        S::Failed(failed) => failed.code(),
        other => panic!("{other:?}"),
    }
}

/// A later incarnation, of this number, holds the mailbox.
pub(crate) fn superseded_by(incarnation: u64) -> S {
    S::Failed(Failed { code: Code::Superseded.into(), incarnation, ..Failed::default() })
}

pub(crate) fn failed(code: Code) -> S {
    S::Failed(Failed { code: code.into(), ..Failed::default() })
}

/// A seed, printed; taken from `BULLA_SEED` if that is set.
pub(crate) fn seed() -> u64 {
    use rand_core::RngCore;
    let given = std::env::var("BULLA_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| rand_core::OsRng.next_u64());
    println!("BULLA_SEED={seed}");
    seed | 1
}

/// A small generator, so that one printed number repeats a run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// The rounds of a test of faults: a few where it is one of many tests; in a long run as many as `BULLA_RELAY_ROUNDS` says, from
/// `BULLA_RELAY_FIRST` on, each of which leaves a line in the file `BULLA_RELAY_RESULTS`. Round *n* of a seed is the same whether others ran or not.
pub(crate) struct Rounds {
    seed: u64,
    first: u64,
    count: u64,
    results: Option<std::path::PathBuf>,
    begun: std::time::Instant,
}

impl Rounds {
    pub(crate) fn of(few: u64) -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        Self {
            seed: seed(),
            first: number("BULLA_RELAY_FIRST").unwrap_or(0),
            count: number("BULLA_RELAY_ROUNDS").unwrap_or(few),
            results: std::env::var_os("BULLA_RELAY_RESULTS").map(Into::into),
            begun: std::time::Instant::now(),
        }
    }

    pub(crate) fn all(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.count
    }

    /// Whether this is a long run, with results in a file.
    pub(crate) fn are_many(&self) -> bool {
        self.results.is_some()
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn random(&self, round: u64) -> Random {
        let mut mixed = self.seed ^ (round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Random((mixed ^ (mixed >> 27)) | 1)
    }

    /// A round is over, and all held.
    pub(crate) fn held(&self, round: u64) {
        use std::io::Write as _;
        let Some(results) = &self.results else { return };
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(results).unwrap();
        let secs = self.begun.elapsed().as_secs_f64();
        writeln!(file, r#"{{"round":{round},"held":true,"after_secs":{secs:.1}}}"#).unwrap();
    }
}

impl std::fmt::Display for Rounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BULLA_SEED={}", self.seed)
    }
}
