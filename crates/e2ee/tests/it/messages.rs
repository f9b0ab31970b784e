//! Messages of a conversation: replayed, reordered, lost, changed, foreign; and members that are not who they must be.

use bulla_e2ee::certificate::{CertificateError, Subject, issue_customer};
use bulla_e2ee::conversation::{Conversation, JoinError, OpenError, SealError};
use bulla_e2ee::hello::{Hello, HelloParams, ReplyKey};
use bulla_e2ee::identity::{BusinessIdentity, Pseudonym};
use bulla_e2ee::limits;
use bulla_e2ee::suite::Suites;
use openmls::prelude::tls_codec::{DeserializeBytes as _, Serialize as _};
use openmls::prelude::*;
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::signatures::{Signer, SignerError};
use openmls_traits::types::SignatureScheme;
use rand_core::OsRng;

use crate::craft::{CIPHERSUITE, content_of, payload};
use crate::world::{Business, Store, conversation, customer_permits, now, says_hello};

#[test]
fn key_06_mls_04_a_replay_is_told_from_a_late_message_across_restarts() {
    let (mut customer, joined) = conversation();
    let mut store = Store::default();
    let mut joined = store.restart(joined);
    let messages: Vec<_> = (0..limits::OUT_OF_ORDER).map(|i| customer.seal(&i.to_be_bytes()).unwrap()).collect();
    // In reverse: each opens once, whatever was lost, late or restarted in between.
    for (i, message) in messages.iter().enumerate().rev() {
        assert_eq!(joined.open(message).unwrap().content.as_slice(), (i as u32).to_be_bytes());
        assert_eq!(joined.open(message), Err(OpenError::Replayed));
        if i % 16 == 0 {
            joined = store.restart(joined);
        }
    }
    joined = store.restart(joined);
    for message in &messages {
        assert_eq!(joined.open(message), Err(OpenError::Replayed));
    }
    // Beyond the window, late and replayed cannot be told apart, and neither opens.
    let late = customer.seal(b"late").unwrap();
    for _ in 0..=limits::OUT_OF_ORDER {
        let message = customer.seal(b"x").unwrap();
        joined.open(&message).unwrap();
    }
    assert_eq!(joined.open(&late), Err(OpenError::TooLate));
    assert_eq!(joined.open(&messages[0]), Err(OpenError::TooLate));
}

/// What the store has not got has not happened: a message that was opened and not stored opens again.
#[test]
fn an_opened_message_that_was_not_stored_opens_again() {
    let (mut customer, joined) = conversation();
    let mut store = Store::default();
    let joined = store.restart(joined);
    let message = customer.seal(b"once").unwrap();
    let mut lost = joined;
    lost.open(&message).unwrap();
    drop(lost);
    let mut joined = store.load();
    assert_eq!(joined.open(&message).unwrap().content.as_slice(), b"once");
    let mut joined = store.restart(joined);
    assert_eq!(joined.open(&message), Err(OpenError::Replayed));
}

#[test]
fn a_failed_message_changes_nothing() {
    let (mut customer, mut joined) = conversation();
    joined.state().take_changes();
    let message = customer.seal(b"whole").unwrap();
    for len in 0..message.len() {
        assert_eq!(joined.open(&message[..len]), Err(OpenError::Malformed));
    }
    assert_eq!(joined.open(&[&message[..], &[0]].concat()), Err(OpenError::Malformed));
    for i in 0..message.len() {
        let mut flipped = message.clone();
        flipped[i] ^= 1 << (i % 8);
        assert!(joined.open(&flipped).is_err(), "{i}");
    }
    assert!(!joined.state().has_changes());
    assert_eq!(joined.open(&message).unwrap().content.as_slice(), b"whole");
    assert!(joined.state().has_changes());
}

#[test]
fn foreign_and_own_messages_are_told_apart() {
    let (mut customer, mut joined) = conversation();
    let (mut other, _) = conversation();
    let own = joined.seal(b"x").unwrap();
    assert_eq!(joined.open(&own), Err(OpenError::OwnEcho));
    assert_eq!(joined.open(&other.seal(b"x").unwrap()), Err(OpenError::WrongGroup));
    assert_eq!(customer.open(&own).unwrap().content.as_slice(), b"x");
}

#[test]
fn nobody_seals_more_than_can_be_recovered_without_hearing() {
    let (mut customer, mut joined) = conversation();
    let mut store = Store::default();
    let heard = joined.seal(b"I hear you").unwrap();
    // One was sealed for the Hello.
    assert_eq!(customer.unheard(), 1);
    for _ in 1..limits::UNHEARD {
        customer.seal(b"lost").unwrap();
    }
    let mut customer = store.restart(customer);
    assert_eq!(customer.seal(b"one too many"), Err(SealError::Unheard));
    customer.open(&heard).unwrap();
    assert_eq!(customer.unheard(), 0);
    // All lost so far, and yet the next one opens, until too many are missing.
    for _ in 0..80 {
        customer.seal(b"lost").unwrap();
    }
    let message = customer.seal(b"found").unwrap();
    assert_eq!(joined.open(&message).unwrap().content.as_slice(), b"found");
    let again = joined.seal(b"I hear you").unwrap();
    for _ in 0..limits::UNHEARD - 100 {
        customer.seal(b"lost").unwrap();
    }
    customer.open(&again).unwrap();
    for _ in 0..300 {
        customer.seal(b"lost").unwrap();
    }
    assert_eq!(joined.open(&customer.seal(b"too far").unwrap()), Err(OpenError::TooEarly));
}

#[test]
fn mls_12_a_content_is_bounded_at_n_and_n_plus_1() {
    let (mut customer, mut joined) = conversation();
    let largest = customer.seal(&vec![1; limits::CONTENT]).unwrap();
    assert!(largest.len() <= limits::MLS_MESSAGE && largest.len() <= bulla_e2ee::envelope::MAX_BODY);
    assert_eq!(joined.open(&largest).unwrap().content.len(), limits::CONTENT);
    assert_eq!(customer.seal(&vec![1; limits::CONTENT + 1]), Err(SealError::TooLarge));
}

/// A message rewrites one epoch's message secrets and a counter, and nothing else.
#[test]
fn a_message_rewrites_little() {
    let (mut customer, mut joined) = conversation();
    let written = |c: &Conversation| {
        c.state().take_changes().iter().map(|(k, v)| k.len() + v.as_ref().map_or(0, |v| v.len())).sum::<usize>()
    };
    written(&customer);
    written(&joined);
    let message = customer.seal(b"x").unwrap();
    joined.open(&message).unwrap();
    let (sealed, opened) = (written(&customer), written(&joined));
    assert!(sealed < 4_096 && opened < 4_096, "sealing wrote {sealed} bytes, opening {opened}");
}

struct Leaf(ed25519_dalek::SigningKey);

impl Signer for Leaf {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(ed25519_dalek::Signer::sign(&self.0, payload).to_bytes().to_vec())
    }
    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// A customer that speaks MLS by itself and does what it likes.
struct Raw {
    provider: OpenMlsRustCrypto,
    leaf: Leaf,
    group: MlsGroup,
}

#[derive(Default)]
struct Tricks {
    extra_member: bool,
    no_tree: bool,
    external_sender: bool,
    expired: bool,
    other_business: bool,
    other_leaf: bool,
}

impl Raw {
    fn new(business: &Business, pseudonym: &Pseudonym, tricks: &Tricks) -> Self {
        let provider = OpenMlsRustCrypto::default();
        let leaf = Leaf(ed25519_dalek::SigningKey::generate(&mut OsRng));
        let public = leaf.0.verifying_key().to_bytes();
        let certified = if tricks.other_leaf { business.identity.public() } else { public };
        let of = if tricks.other_business { BusinessIdentity::generate(&mut OsRng) } else { business.identity.clone() };
        let not_after = if tricks.expired { now() - 1 } else { now() + 1_000 };
        let subject = Subject { handle: "", endpoint: "raw", not_after, suites: Suites::DEFAULT };
        let certificate = issue_customer(pseudonym, &certified, &of.hash(), &subject);
        let capabilities = Capabilities::new(
            Some(&[ProtocolVersion::Mls10]),
            Some(&[CIPHERSUITE]),
            Some(&[ExtensionType::LastResort, ExtensionType::ExternalSenders]),
            None,
            Some(&[CredentialType::Basic]),
        );
        let mut config = MlsGroupCreateConfig::builder()
            .ciphersuite(CIPHERSUITE)
            .wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(!tricks.no_tree)
            .capabilities(capabilities);
        if tricks.external_sender {
            let credential = BasicCredential::new(b"mallory".to_vec()).into();
            let sender = ExternalSender::new(public.to_vec().into(), credential);
            let extensions = Extensions::single(Extension::ExternalSenders(vec![sender])).unwrap();
            config = config.with_group_context_extensions(extensions);
        }
        let credential = BasicCredential::new(certificate).into();
        let credential = CredentialWithKey { credential, signature_key: public.to_vec().into() };
        let group = MlsGroup::new(&provider, &leaf, &config.build(), credential).unwrap();
        Self { provider, leaf, group }
    }

    fn seal(&mut self, content: &[u8]) -> Vec<u8> {
        self.group.create_message(&self.provider, &self.leaf, content).unwrap().tls_serialize_detached().unwrap()
    }

    /// Adds the business (and perhaps somebody else) and returns the Welcome.
    fn adds(&mut self, business: &Business, extra: bool) -> Vec<u8> {
        let mut packages = vec![content_of(&payload(&business.bundle)[8])];
        if extra {
            packages.push(content_of(&payload(&Business::new().bundle)[8]));
        }
        let packages: Vec<_> = packages
            .iter()
            .map(|p| {
                let package = KeyPackageIn::tls_deserialize_exact_bytes(p).unwrap();
                package.validate(self.provider.crypto(), ProtocolVersion::Mls10).unwrap()
            })
            .collect();
        let (_, welcome, _) = self.group.add_members(&self.provider, &self.leaf, &packages).unwrap();
        self.group.merge_pending_commit(&self.provider).unwrap();
        welcome.tls_serialize_detached().unwrap()
    }
}

fn hello_with(business: &Business, pseudonym: &Pseudonym, welcome: &[u8]) -> Hello {
    let reply_key = ReplyKey::generate(&mut OsRng).unwrap();
    let says = HelloParams {
        relay: "wss://relay.example/v1/ws",
        permits: &customer_permits(),
        reply_key: reply_key.public(),
        welcome,
        message: b"",
    };
    business.opens(&Hello::seal(pseudonym, &business.verified(), &says).unwrap())
}

fn join(tricks: &Tricks) -> Result<(), JoinError> {
    let business = Business::new();
    let pseudonym = Pseudonym::generate(&mut OsRng);
    let mut raw = Raw::new(&business, &pseudonym, tricks);
    let welcome = raw.adds(&business, tricks.extra_member);
    let hello = hello_with(&business, &pseudonym, &welcome);
    Conversation::join(&business.keys, &business.identity.hash(), &hello, now()).map(drop)
}

#[test]
fn a_group_that_is_not_as_this_version_makes_them_is_not_joined() {
    assert_eq!(join(&Tricks::default()), Ok(()));
    assert_eq!(join(&Tricks { extra_member: true, ..Tricks::default() }), Err(JoinError::Refused));
    assert_eq!(join(&Tricks { no_tree: true, ..Tricks::default() }), Err(JoinError::Refused));
    // MLS-05: nobody outside of the group may propose anything to it.
    assert_eq!(join(&Tricks { external_sender: true, ..Tricks::default() }), Err(JoinError::Refused));
}

#[test]
fn a_member_that_is_not_who_it_must_be_is_not_joined() {
    let of = |e| Err(JoinError::Certificate(e));
    assert_eq!(join(&Tricks { expired: true, ..Tricks::default() }), of(CertificateError::Expired));
    assert_eq!(join(&Tricks { other_business: true, ..Tricks::default() }), of(CertificateError::WrongIdentity));
    assert_eq!(join(&Tricks { other_leaf: true, ..Tricks::default() }), of(CertificateError::WrongIdentity));
}

/// A commit is no message, and what comes under the epoch before it still opens.
#[test]
fn commits_and_other_epochs_are_told_from_the_rest() {
    let business = Business::new();
    let pseudonym = Pseudonym::generate(&mut OsRng);
    let mut raw = Raw::new(&business, &pseudonym, &Tricks::default());
    let before = raw.seal(b"epoch 0");
    let welcome = raw.adds(&business, false);
    let mut joined = business.joins(&hello_with(&business, &pseudonym, &welcome));
    assert_eq!(joined.open(&before), Err(OpenError::PastEpoch));
    let (first, second) = (raw.seal(b"first"), raw.seal(b"second"));
    assert_eq!(joined.open(&first).unwrap().content.as_slice(), b"first");
    let commit = raw
        .group
        .self_update(&raw.provider, &raw.leaf, LeafNodeParameters::default())
        .unwrap()
        .into_commit()
        .tls_serialize_detached()
        .unwrap();
    assert_eq!(joined.open(&commit), Err(OpenError::NotApplication));
    raw.group.merge_pending_commit(&raw.provider).unwrap();
    assert_eq!(joined.open(&raw.seal(b"epoch 2")), Err(OpenError::FutureEpoch));
    assert_eq!(joined.open(&second).unwrap().content.as_slice(), b"second");
    assert_eq!(joined.epoch(), 1);
}

#[test]
fn a_used_hello_joins_again_only_where_its_digest_was_not_kept() {
    let business = Business::new();
    let said = says_hello(&Pseudonym::generate(&mut OsRng), &business.verified(), b"first");
    let hello = business.opens(&said.hello);
    let (mut once, mut again) = (business.joins(&hello), business.joins(&hello));
    assert!(once.open(hello.message()).is_ok() && again.open(hello.message()).is_ok());
    // Neither holds the bundle's KeyPackage: erasing it there erases it everywhere.
    let package = bulla_e2ee::state::State::load(once.state().entries().iter().map(|(k, v)| (k.clone(), v.to_vec())));
    assert!(package.unwrap().entries().iter().all(|(key, _)| key[0] != 26));
}
