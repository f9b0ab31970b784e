//! Valid inputs, made by the real encoders, and wrong ones made of them by hand. `cargo run -p bulla-testkit --example corpus` writes them.
//!
//! They follow from `fuzz/world/`: made twice, they are the same, and a test says when an encoder no longer makes what is committed. What
//! a fuzzer finds is added to the corpus as a file of its own and is not made here.

mod gateway;
mod mls;
mod scripts;
mod sealed;
mod wire;

use std::path::Path;

use bulla_e2ee::bundle::{Bundle, make_bundle};
use bulla_e2ee::content::{Body, Content};
use bulla_e2ee::conversation::Conversation;
use bulla_e2ee::hello::{Hello, HelloParams, ReplyKey};
use bulla_e2ee::suite::{Suite, Suites};

use super::world::{self, BUSINESS_MAILBOX, NOW, RELAY, cbor};
use crate::chance::Chance;

/// One input: decoder, name, bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Whose it is.
    pub decoder: &'static str,
    /// The file's name: `ok-…` or `no-…`.
    pub name: String,
    /// The input.
    pub bytes: Vec<u8>,
}

/// Makes a new `fuzz/world/`, with randomness of the system's. Every sample changes with it.
///
/// # Panics
///
/// If the machine's clock is far from [`NOW`]: OpenMLS would not take the KeyPackage.
pub fn make_world(folder: &Path) -> std::io::Result<()> {
    let (identity, pseudonym, mut rng) = (world::identity(), world::pseudonym(), Chance::new(1));
    let (bundle, keys) = make_bundle(&identity, &world::params(NOW), &mut rng).unwrap();
    let verified = Bundle::verify(&bundle, &identity.hash(), NOW).expect("the machine's clock is near to NOW");
    let (mut customer, welcome) =
        Conversation::begin(&pseudonym, "phone", Suites::DEFAULT, &verified, Suite::Hybrid, NOW, &mut rng).unwrap();
    let first = customer.seal(&text("Have you got tulips?")).unwrap();
    let reply = ReplyKey::generate(&mut Chance::new(3)).unwrap();
    let says = HelloParams {
        relay: RELAY,
        permits: &world::customer_permits(),
        reply_key: reply.public(),
        welcome: &welcome,
        message: &first,
    };
    let hello = Hello::seal(&pseudonym, &verified, &says).unwrap();
    let hello = Hello::open(&keys, &identity.hash(), &BUSINESS_MAILBOX, &world::contact_tag(), &hello).unwrap();
    let mut business = Conversation::join(&keys, &identity.hash(), &hello, NOW).unwrap();
    business.open(&first).unwrap();
    let question = customer.seal(&text("Three, please.")).unwrap();
    let answer = business.seal(&text("Yes, red ones.")).unwrap();
    let (joiner, group_info) = super::mls::open_welcome(&keys.to_bytes(), &welcome).expect("the Welcome opens by hand");
    let entries = |conversation: &Conversation| {
        let entries = conversation.state().entries();
        let entry = entries.iter().map(|(key, value)| cbor::array(&[cbor::bytes(key), cbor::bytes(value)]));
        cbor::array(&entry.collect::<Vec<_>>())
    };
    // Our own record of a conversation has the key 0; its last item is the leaf's secret key.
    let own = customer.state().entries().into_iter().find(|(key, _)| key.as_slice() == [0]).expect("our own record");
    let leaf = cbor::content(&cbor::items(&own.1[1..]).unwrap()[5]).unwrap();
    std::fs::create_dir_all(folder)?;
    for (name, bytes) in [
        ("keys", keys.to_bytes().to_vec()),
        ("bundle", bundle),
        ("welcome", welcome),
        ("first", first),
        ("question", question),
        ("answer", answer),
        ("joiner", joiner.to_vec()),
        ("group-info", group_info),
        ("leaf", leaf),
        ("customer", entries(&customer)),
        ("business", entries(&business)),
    ] {
        std::fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}

/// All of them.
#[must_use]
pub fn all() -> Vec<Sample> {
    let mut samples = Samples(Vec::new());
    samples.wire();
    samples.names();
    samples.permits();
    samples.contents();
    samples.envelopes();
    samples.signed();
    samples.hellos();
    samples.devices();
    samples.continues();
    samples.turned_away();
    samples.mls();
    samples.scripts();
    samples.gateway();
    samples.0
}

fn text(body: &str) -> Vec<u8> {
    Content::new([0x51; 16], Body::text(body)).encode().unwrap()
}

struct Samples(Vec<Sample>);

impl Samples {
    fn put(&mut self, decoder: &'static str, name: &str, bytes: impl AsRef<[u8]>) {
        self.0.push(Sample { decoder, name: name.to_owned(), bytes: bytes.as_ref().to_vec() });
    }
}
