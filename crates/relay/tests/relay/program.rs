//! The program as an operator runs it: `kill -9`, log lines, refusals to start.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use bulla_protocol::frame::{Role, client_frame::Body as C, server_frame::Body as S};
use bulla_protocol::id::SlotId;
use tokio_tungstenite::Connector;

use crate::common::*;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_bulla-relay");

pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) url: String,
    pub(crate) listen: String,
    /// Where /health and /metrics are, if they were asked for.
    pub(crate) metrics: String,
}

impl Process {
    pub(crate) fn start(data: &Path, log: &str, name: &str) -> Self {
        Self::start_with(data, log, name, &[])
    }

    pub(crate) fn start_with(data: &Path, log: &str, name: &str, more: &[&Path]) -> Self {
        let mut command = Command::new(PROGRAM);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--work-bits", "4", "--json", "--name", name, "--log", log])
            .args(more)
            .arg("--data")
            .arg(data)
            .env_remove("RUST_LOG");
        Self::spawn(&mut command)
    }

    /// Waits until it is ready.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).expect("one line of JSON when it is ready");
        assert_eq!(ready["pid"], child.id());
        let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
        Self { child, url: text("url"), listen: text("listen"), metrics: text("metrics") }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    pub(crate) fn signal(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// SIGTERM; what it wrote to standard error.
    pub(crate) fn terminate(self) -> String {
        self.signal();
        self.ended()
    }

    /// It was told to end, and does so well; what it wrote to standard error.
    pub(crate) fn ended(mut self) -> String {
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert!(self.child.wait().unwrap().success());
        log
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything that was answered `Accepted` is there after `kill -9`, once per accepted envelope and in its sender's order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_nothing_that_was_accepted() {
    const ROUNDS: usize = 5;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("relay");
    let mailbox = Mailbox::new(1);
    let mut given = mailbox.permit();
    given.permit.expires = u32::MAX;
    given.mac = mailbox.root.grant_key(&given.permit.grant).mac(&given.permit);
    let mut accepted: Vec<Vec<u64>> = vec![Vec::new(); 3];
    let mut next = [0u64; 3];
    for round in 0..ROUNDS {
        let mut process = Process::start(&data, "warn", NAME);
        if round == 0 {
            Client::connect(&process.url, Role::Owner).await.create(&mailbox).await;
        }
        let (reached, mut count) = tokio::sync::mpsc::unbounded_channel();
        let mut writers = Vec::new();
        for (lane, from) in next.iter().copied().enumerate() {
            let (url, given, reached) = (process.url.clone(), given.clone(), reached.clone());
            writers.push(tokio::spawn(async move {
                let mut sender = Client::connect(&url, Role::Anonymous).await;
                let (mut waiting, mut done, mut serial) = (std::collections::BTreeMap::new(), Vec::new(), from);
                loop {
                    while waiting.len() < 8 {
                        let frame = sender.send_frame(&given, send_id(), format!("{lane} {serial}").as_bytes());
                        waiting.insert(sender.begin(C::Send(frame)).await, serial);
                        serial += 1;
                    }
                    match sender.frame().await {
                        Some((request, S::Accepted(_))) => {
                            done.push(waiting.remove(&request).unwrap());
                            let _ = reached.send(());
                        }
                        Some(other) => panic!("{other:?}"),
                        None => return (done, serial),
                    }
                }
            }));
        }
        // Killed in the middle, at another point in each round.
        for _ in 0..40 + 37 * round {
            tokio::time::timeout(GUARD, count.recv()).await.expect("nothing was accepted").unwrap();
        }
        process.kill();
        for (lane, writer) in writers.into_iter().enumerate() {
            let (done, serial) = writer.await.unwrap();
            accepted[lane].extend(done);
            next[lane] = serial;
        }
    }

    let process = Process::start(&data, "warn", NAME);
    let mut owner = Client::connect(&process.url, Role::Owner).await;
    owner.open(&mailbox).await;
    let subscription = owner.subscribe(&mailbox).await;
    let mut got: Vec<Vec<u64>> = vec![Vec::new(); 3];
    loop {
        match owner.event().await {
            S::Deliver(deliver) => {
                let text = text(&deliver);
                let (lane, serial) = text.split_once(' ').unwrap();
                got[lane.parse::<usize>().unwrap()].push(serial.parse().unwrap());
                owner.ack(subscription, deliver.number).await;
            }
            S::CaughtUp(_) => break,
            other => panic!("{other:?}"),
        }
    }
    for (lane, (accepted, got)) in accepted.iter().zip(&got).enumerate() {
        assert!(accepted.len() > 5);
        assert!(got.is_sorted_by(|a, b| a < b), "lane {lane}: in order and once");
        for serial in accepted {
            assert!(got.binary_search(serial).is_ok(), "lane {lane}: {serial} was accepted and is gone");
        }
    }
}

/// Claims of one slot from several connections, ended by `kill -9` between claim and answer: what anybody was told stands afterwards, and
/// a claim that was not answered can be made again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_lets_every_answer_about_a_slot_stand() {
    const ROUNDS: usize = 5;
    const CLAIMANTS: usize = 4;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("relay");
    let mut told: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let (mut from, mut wins, mut losses, mut retries, mut kept) = (0, 0, 0, 0, 0);
    for round in 0..ROUNDS {
        let mut process = Process::start(&data, "warn", NAME);
        let (reached, mut count) = tokio::sync::mpsc::unbounded_channel();
        let mut claimants = Vec::new();
        for who in 0..CLAIMANTS {
            let (url, reached) = (process.url.clone(), reached.clone());
            claimants.push(tokio::spawn(async move {
                let mut client = Client::connect(&url, Role::Anonymous).await;
                let (mut waiting, mut answers, mut number) = (BTreeMap::new(), Vec::new(), from);
                loop {
                    while waiting.len() < 8 {
                        let commit = format!("{round} {who} {number}").into_bytes();
                        waiting.insert(client.begin_claim(slot(number), &commit).await, (number, commit));
                        number += 1;
                    }
                    let Some((request, answer)) = client.frame().await else { return (answers, waiting) };
                    let S::SlotClaimed(claimed) = answer else { panic!("{answer:?}") };
                    let (number, commit) = waiting.remove(&request).unwrap();
                    answers.push((number, claimed.won, if claimed.won { commit } else { claimed.winner.to_vec() }));
                    let _ = reached.send(());
                }
            }));
        }
        for _ in 0..40 + 37 * round {
            tokio::time::timeout(GUARD, count.recv()).await.expect("nothing was answered").unwrap();
        }
        process.kill();
        let mut unanswered = Vec::new();
        for claimant in claimants {
            let (answers, waiting) = claimant.await.unwrap();
            for (number, has_won, winner) in answers {
                wins += usize::from(has_won);
                losses += usize::from(!has_won);
                from = from.max(number + 1);
                let stands = told.entry(number).or_insert_with(|| winner.clone());
                assert_eq!(*stands, winner, "slot {number}: two winners were told");
            }
            unanswered.extend(waiting.into_values());
        }

        let process = Process::start(&data, "warn", NAME);
        let mut client = Client::connect(&process.url, Role::Anonymous).await;
        for (number, winner) in &told {
            let stands = client.read_slot(slot(*number)).await;
            assert_eq!(stands.as_deref(), Some(&winner[..]), "slot {number}: another answer than was given");
        }
        for (number, commit) in unanswered {
            retries += 1;
            from = from.max(number + 1);
            let stands = client.read_slot(slot(number)).await;
            kept += usize::from(stands.as_deref() == Some(&commit[..]));
            let expected = match &stands {
                Some(other) if *other != commit => lost(other),
                _ => won(),
            };
            assert_eq!(client.claim(slot(number), &commit).await, expected, "slot {number}");
            let stands = stands.map_or(commit, |bytes| bytes.to_vec());
            assert_eq!(*told.entry(number).or_insert_with(|| stands.clone()), stands);
        }
        drop(process);
    }
    println!("figure: {wins} claims won, {losses} lost, {retries} unanswered, of which {kept} stood");
    assert!(wins > 0 && losses > 0 && retries > 0);
}

/// P4: at `trace`, with libraries asked to speak too, no log line holds an address, an envelope, a key, a tag or a whole id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_no_log_line_tells_what_passes() {
    let dir = tempfile::tempdir().unwrap();
    no_line_tells(Process::start(&dir.path().join("relay"), "trace", NAME), None).await;
}

/// The same under TLS, where also those leave no trace who do not get through its door.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_under_tls_no_log_line_tells_what_passes_either() {
    let dir = tempfile::tempdir().unwrap();
    let tls = Certificate::new(dir.path());
    let process = Process::start_with(&dir.path().join("relay"), "trace", NAME, &tls.flags());
    assert!(process.url.starts_with("wss://127.0.0.1:"), "{}", process.url);
    let plain = format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", process.listen);
    for (said, heard) in [(plain.as_bytes(), "HTTP/1.1 400 Bad Request"), (b"\x16\x03\x01\x00\x02no", "")] {
        let mut stranger = std::net::TcpStream::connect(&process.listen).unwrap();
        stranger.set_read_timeout(Some(GUARD)).unwrap();
        stranger.write_all(said).unwrap();
        let mut answer = Vec::new();
        stranger.read_to_end(&mut answer).unwrap();
        assert!(String::from_utf8_lossy(&answer).starts_with(heard), "{answer:?}");
    }
    no_line_tells(process, Some(tls.connector())).await;
}

/// A certificate for 127.0.0.1 in files.
pub(crate) struct Certificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    der: rustls::pki_types::CertificateDer<'static>,
}

impl Certificate {
    pub(crate) fn new(folder: &Path) -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Self { certificate, key, der: made.cert.der().clone() }
    }

    pub(crate) fn flags(&self) -> [&Path; 4] {
        [Path::new("--tls-cert"), &self.certificate, Path::new("--tls-key"), &self.key]
    }

    fn connector(&self) -> Connector {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        Connector::Rustls(Arc::new(builder.unwrap().with_root_certificates(roots).with_no_client_auth()))
    }
}

async fn no_line_tells(process: Process, tls: Option<Connector>) {
    let mailbox = Mailbox::new(0xc7);
    let mut given = mailbox.permit();
    given.permit.expires = u32::MAX;
    given.mac = mailbox.root.grant_key(&given.permit.grant).mac(&given.permit);
    let mut owner = Client::connect_trusting(&process.url, Role::Owner, tls.clone()).await;
    owner.create(&mailbox).await;
    owner.open(&mailbox).await;
    let mut sender = Client::connect_trusting(&process.url, Role::Anonymous, tls).await;
    let canary = "log-canary-envelope-4711";
    let claimed = SlotId::new([0xd3; 32]);
    assert_eq!(sender.claim(claimed, canary.as_bytes()).await, won());
    assert_eq!(sender.claim(claimed, b"another").await, lost(canary.as_bytes()));
    sender.send(&given, canary.as_bytes()).await;
    let subscription = owner.subscribe(&mailbox).await;
    assert_eq!(owner.texts(1).await, [canary]);
    assert!(matches!(owner.event().await, S::CaughtUp(_)));
    owner.ack(subscription, 1).await;
    let live = sender.begin_send(&given, canary.as_bytes()).await;
    assert_eq!(owner.texts(1).await, [canary]);
    owner.close().await; // spilled
    sender.accepted(live).await;
    assert_eq!(code(&sender.try_send(&Mailbox::new(0xc8).permit(), b"x").await), bulla_protocol::frame::Code::Refused);

    let listen = process.listen.clone();
    let log = process.terminate();
    assert!(log.contains("greeted") && log.contains("closed"), "it does log: {log}");
    let hex = data_encoding::HEXLOWER.encode(canary.as_bytes());
    let bytes = format!("{:?}", canary.as_bytes());
    for secret in [
        "127.0.0.1",
        &listen,
        canary,
        &hex,
        &bytes[1..20],
        &mailbox.id.to_hex(),
        &mailbox.id.to_hex()[..12],
        &claimed.to_hex()[..8],
        &data_encoding::HEXLOWER.encode(mailbox.root.expose())[..12],
        &data_encoding::HEXLOWER.encode(mailbox.key.verifying_key().as_bytes())[..12],
        &given.permit.tag.to_hex()[..12],
        &given.permit.grant.to_hex()[..12],
    ] {
        assert!(!log.contains(secret), "{secret} is in: {log}");
    }
}

pub(crate) fn run(args: &[&str], data: &Path) -> Output {
    Command::new(PROGRAM).args(args).arg("--data").arg(data).env_remove("RUST_LOG").output().unwrap()
}

pub(crate) fn sentence(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn what_cannot_be_done_is_said_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let (data, other) = (dir.path().join("relay"), dir.path().join("other"));
    let process = Process::start(&data, "warn", NAME);
    let locked = sentence(&run(&["serve", "--listen", "127.0.0.1:0"], &data));
    assert!(locked.contains("in use by a running relay") && locked.contains("--data"), "{locked}");
    let taken = sentence(&run(&["serve", "--listen", &process.listen], &other));
    assert!(taken.contains("cannot listen on") && taken.contains("port 0"), "{taken}");
    let none = sentence(&run(&["disclose"], &dir.path().join("nothing")));
    assert!(none.contains("is not the data folder of a relay"), "{none}");
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ours, theirs) = (Certificate::new(one.path()), Certificate::new(two.path()));
    let [certificate, key] = [&ours.certificate, &theirs.key].map(|file| file.to_str().unwrap());
    let pair =
        sentence(&run(&["serve", "--listen", "127.0.0.1:0", "--tls-cert", certificate, "--tls-key", key], &other));
    assert!(pair.contains("does not belong to the certificate"), "{pair}");
    let hex = sentence(&run(&["disclose", "--mailbox", "xyz"], &data));
    assert!(hex.contains("32 lowercase hexadecimal digits"), "{hex}");

    let running = run(&["disclose", "--json"], &data);
    assert!(running.status.success());
    process.terminate();
    let stopped = run(&["disclose", "--json"], &data);
    assert!(stopped.status.success());
    assert_eq!(running.stdout, stopped.stdout);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
}
