//! End-to-end encryption alone: no store, no network, one thread.

use anyhow::{Context as _, Result, ensure};
use bulla_client::clock::{Clock as _, SystemClock};
use bulla_e2ee::bundle::{Bundle, BundleParams, BusinessKeys, make_bundle};
use bulla_e2ee::content::{Body, Content, Reader};
use bulla_e2ee::conversation::Conversation;
use bulla_e2ee::envelope::{EnvelopeKey, Kind};
use bulla_e2ee::hello::{Hello, HelloParams, ReplyKey};
use bulla_e2ee::identity::{BusinessIdentity, Pseudonym};
use bulla_e2ee::permits::GivenPermit;
use bulla_e2ee::state::State;
use bulla_e2ee::suite::{Suite, Suites};
use bulla_e2ee::tag::{Purpose, Tag, TagKey};
use bulla_protocol::id::{GrantId, MailboxId, TagBlock};
use bulla_protocol::permit::{Class, MacRoot, Permit};
use rand_core::{OsRng, RngCore as _};
use std::time::Duration;

use crate::bench::{Bench, Group};
use crate::meter::{Meter, micros_each, thread_time};

/// A text of 1 KiB.
pub(crate) const TEXT: usize = 1_024;

const RELAY: &str = "wss://relay.example/v1/ws";

/// Messages in one direction before the other side answers: below the limit of messages without hearing from it.
const BLOCK: u64 = 200;

/// Conversations begun, and loaded, per run.
const BEGINNINGS: u64 = 50;

/// Seals and opens.
pub(crate) fn measure(bench: &Bench) -> Result<Group> {
    let mut group = Group::new(
        "seal",
        "End-to-end encryption: seal and open",
        "Texts of 1,024 bytes: content, MLS message (hybrid post-quantum suite) and padded outer envelope of 2,048 bytes, by turns in \
         both directions of one conversation, on one thread, without store or network; processor time. `MLS` includes taking out \
         what changed of the state, which a store would write.",
    );
    for run in 0..bench.runs {
        let meter = Meter::begin(None)?;
        beginnings(bench, run, &mut group)?;
        messages(bench, run, &mut group)?;
        bench.note(&meter.end()?);
    }
    Ok(group)
}

fn messages(bench: &Bench, run: usize, group: &mut Group) -> Result<()> {
    let business = Business::new()?;
    let (mut one, mut other) = business.conversation()?;
    let (key, tag) = (EnvelopeKey::generate(&mut OsRng), TagBlock::new([9; 16]));
    let text = "x".repeat(TEXT);
    let blocks = (bench.messages / BLOCK).max(2);
    let bar = bench.bar("seal and open", run, blocks);
    let mut took = [Duration::ZERO; 6];
    let (mut sealed_bytes, mut opened_bytes) = (0, 0);
    for _ in 0..blocks {
        let mut part = took.iter_mut();
        let mut clock = thread_time();
        let mut lap = || {
            let now = thread_time();
            let passed = now - std::mem::replace(&mut clock, now);
            part.next().map(|sum| *sum += passed)
        };
        let contents = (0..BLOCK).map(|_| content(&text).encode()).collect::<Result<Vec<_>, _>>()?;
        lap();
        let mut sealed = Vec::new();
        for content in &contents {
            sealed.push(one.seal(content)?);
            sealed_bytes += changed(one.state());
        }
        lap();
        let seal = |message: &Vec<u8>| key.seal(&tag, Kind::Mls, message, &mut OsRng);
        let envelopes = sealed.iter().map(seal).collect::<Result<Vec<_>, _>>()?;
        lap();
        let open = |envelope: &Vec<u8>| key.open(&tag, envelope).map(|(_, message)| message);
        let arrived = envelopes.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        lap();
        let mut opened = Vec::new();
        for message in &arrived {
            opened.push(other.open(message)?);
            opened_bytes += changed(other.state());
        }
        lap();
        for (opened, content) in opened.iter().zip(&contents) {
            Content::decode(&opened.content)?;
            ensure!(*opened.content == *content, "another content came out than went in");
        }
        lap();
        ensure!(envelopes.iter().all(|envelope| envelope.len() == 2_048), "the envelope's size has changed");
        std::mem::swap(&mut one, &mut other);
        bar.inc(1);
    }
    let all = blocks * BLOCK;
    let [encode, seal, wrap, unwrap, open, decode] = took;
    for (what, time) in [
        ("seal: everything", encode + seal + wrap),
        ("  content", encode),
        ("  MLS", seal),
        ("  envelope", wrap),
        ("open: everything", unwrap + open + decode),
        ("  envelope opened", unwrap),
        ("  MLS opened", open),
        ("  content decoded", decode),
    ] {
        group.add(what, "a text of 1,024 bytes", "µs", micros_each(time, all));
    }
    group.add("state written per message sealed", "state", "bytes", sealed_bytes as f64 / all as f64);
    group.add("state written per message opened", "state", "bytes", opened_bytes as f64 / all as f64);
    let entries = one.state().entries();
    let size: usize = entries.iter().map(|(key, value)| key.len() + value.len()).sum();
    group.add("state of one conversation", "state", "bytes", size as f64);

    let began = thread_time();
    for _ in 0..BEGINNINGS {
        let entries = entries.iter().map(|(key, value)| (key.clone(), value.to_vec()));
        Conversation::load(State::load(entries)?)?;
    }
    group.add("conversation loaded", "state", "µs", micros_each(thread_time() - began, BEGINNINGS));
    Ok(())
}

/// What it costs to begin: keys are made, and the Welcome is large.
fn beginnings(bench: &Bench, run: usize, group: &mut Group) -> Result<()> {
    let business = Business::new()?;
    let bar = bench.bar("beginnings", run, BEGINNINGS);
    let (mut said, mut joined, mut size) = (Duration::ZERO, Duration::ZERO, 0);
    for _ in 0..BEGINNINGS {
        let began = thread_time();
        let (_, hello) = business.hello()?;
        let sent = thread_time();
        business.joins(&hello)?;
        said += sent - began;
        joined += thread_time() - sent;
        size = hello.len();
        bar.inc(1);
    }
    let case = "beginning of a conversation";
    group.add("customer: bundle verified, Hello sealed", case, "µs", micros_each(said, BEGINNINGS));
    group.add("business: Hello opened and joined", case, "µs", micros_each(joined, BEGINNINGS));
    group.add("size of the Hello", case, "bytes", size as f64);
    Ok(())
}

fn content(text: &str) -> Content {
    let mut salt = [0; 16];
    OsRng.fill_bytes(&mut salt);
    Content::new(salt, Body::text(text))
}

/// Bytes of keys and values that a store would have to write now.
fn changed(state: &State) -> usize {
    state.take_changes().iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, |value| value.len())).sum()
}

fn now() -> u64 {
    SystemClock.now_ms() / 1_000
}

const MAILBOX: MailboxId = MailboxId::new([0xbb; 16]);

fn permit(mailbox: MailboxId, purpose: Purpose) -> GivenPermit {
    let contact = purpose == Purpose::Contact;
    let permit = Permit {
        mailbox,
        grant: GrantId::new([1; 16]),
        class: if contact { Class::Contact } else { Class::Ordinary },
        expires: Permit::expiry_at(now() + 72 * 3_600),
        rate: 600,
        max_kib: 96,
        tag: TagKey::from_bytes([9; 32]).seal(&Tag { conversation: 1, purpose, serial: 1 }),
    };
    GivenPermit {
        purpose,
        permit,
        mac: MacRoot::new([7; 32]).grant_key(&permit.grant).mac(&permit),
        envelope_key: (!contact).then(|| EnvelopeKey::generate(&mut OsRng)),
    }
}

struct Business {
    identity: BusinessIdentity,
    bundle: Vec<u8>,
    keys: BusinessKeys,
    contact: GivenPermit,
}

impl Business {
    fn new() -> Result<Self> {
        let identity = BusinessIdentity::generate(&mut OsRng);
        let params = BundleParams {
            handle: "bench".to_owned(),
            name: "Bench".to_owned(),
            relay: RELAY.to_owned(),
            mailbox: MAILBOX,
            contact: permit(MAILBOX, Purpose::Contact),
            readers: vec![Reader { name: "Team".to_owned(), role: "agents".to_owned() }],
            endpoint: "gateway".to_owned(),
            suites: Suites::DEFAULT,
            now: now(),
        };
        let (bundle, keys) = make_bundle(&identity, &params, &mut OsRng).context("a bundle")?;
        Ok(Self { identity, bundle, keys, contact: params.contact })
    }

    /// A new customer's conversation, and its Hello.
    fn hello(&self) -> Result<(Conversation, Vec<u8>)> {
        let bundle = Bundle::verify(&self.bundle, &self.identity.hash(), now())?;
        let pseudonym = Pseudonym::generate(&mut OsRng);
        let (mut conversation, welcome) =
            Conversation::begin(&pseudonym, "phone", Suites::DEFAULT, &bundle, Suite::Hybrid, now(), &mut OsRng)?;
        let message = conversation.seal(&content("hello").encode()?)?;
        let mailbox = MailboxId::new([0xcc; 16]);
        let reply_key = ReplyKey::generate(&mut OsRng)?;
        let hello = HelloParams {
            relay: RELAY,
            permits: &[permit(mailbox, Purpose::Control), permit(mailbox, Purpose::Service)],
            reply_key: reply_key.public(),
            welcome: &welcome,
            message: &message,
        };
        let hello = Hello::seal(&pseudonym, &bundle, &hello)?;
        Ok((conversation, hello))
    }

    fn joins(&self, hello: &[u8]) -> Result<Conversation> {
        let business = self.identity.hash();
        let hello = Hello::open(&self.keys, &business, &MAILBOX, &self.contact.permit.tag, hello)?;
        let mut conversation = Conversation::join(&self.keys, &business, &hello, now())?;
        conversation.open(hello.message())?;
        Ok(conversation)
    }

    /// Both sides of a conversation that has begun, with nothing left to be stored.
    fn conversation(&self) -> Result<(Conversation, Conversation)> {
        let (customer, hello) = self.hello()?;
        let business = self.joins(&hello)?;
        changed(customer.state());
        changed(business.state());
        Ok((customer, business))
    }
}
