//! A business and a customer whose keys are known: an attacker who is one of them, or who has stolen from them.
//!
//! What OpenMLS makes with the system's randomness (KeyPackage, group, messages) is committed in `fuzz/world/`, so that committed inputs
//! mean the same on every machine; [`super::samples`] made it. All else follows from the constants here.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use bulla_e2ee::bundle::{Bundle, BundleParams, BusinessKeys, make_bundle};
use bulla_e2ee::content::Reader;
use bulla_e2ee::conversation::Conversation;
use bulla_e2ee::device::Device;
use bulla_e2ee::envelope::{EnvelopeKey, bucket};
use bulla_e2ee::hello::ReplyKey;
use bulla_e2ee::identity::{BusinessIdentity, Pseudonym};
use bulla_e2ee::permits::GivenPermit;
use bulla_e2ee::spare::{Issuer, make_spare};
use bulla_e2ee::state::State;
use bulla_e2ee::suite::{Suite, Suites};
use bulla_e2ee::tag::{Purpose, Tag, TagKey};
use bulla_protocol::id::{GrantId, MailboxId, TagBlock};
use bulla_protocol::label::{self, Label};
use bulla_protocol::limits::MAX_CONTACT_ENVELOPE;
use bulla_protocol::permit::{Class, MacRoot, Permit};
use ed25519_dalek::{Signer as _, SigningKey};
use openmls_rust_crypto::RustCrypto;
use openmls_traits::crypto::OpenMlsCrypto as _;
use openmls_traits::types::Ciphersuite;

use crate::chance::Chance;

/// When the world was made, Unix seconds: 24 November 2026.
pub const NOW: u64 = 1_795_478_400;

/// The one suite.
pub const SUITE: Ciphersuite = Ciphersuite::MLS_128_MLKEM768X25519_AES128GCM_SHA256_Ed25519;

/// Where the customer is written to.
pub const CUSTOMER_MAILBOX: MailboxId = MailboxId::new([0xcc; 16]);

/// Where the business is written to.
pub const BUSINESS_MAILBOX: MailboxId = MailboxId::new([0xbb; 16]);

/// The relay of both mailboxes.
pub const RELAY: &str = "wss://relay.test/v1/ws";

/// What `fuzz/world/` holds.
#[derive(Debug)]
pub struct World {
    /// The keys of the business's bundle.
    pub keys: BusinessKeys,
    /// That bundle. Its KeyPackage expires weeks after [`NOW`].
    pub bundle: Vec<u8>,
    /// The customer's Welcome to it.
    pub welcome: Vec<u8>,
    /// The first message of the customer, which the Hello carries.
    pub first: Vec<u8>,
    /// The customer's second message, not yet opened in [`World::business`].
    pub question: Vec<u8>,
    /// The business's first message, not yet opened in [`World::customer`].
    pub answer: Vec<u8>,
    /// The group's joiner secret, out of the Welcome.
    pub joiner: [u8; 32],
    /// The GroupInfo, out of the Welcome.
    pub group_info: Vec<u8>,
    /// The customer's MLS signature key.
    pub leaf: [u8; 32],
    /// The customer's reply key.
    pub reply: ReplyKey,
    customer: Entries,
    business: Entries,
}

/// A conversation's stored state.
type Entries = Vec<(Vec<u8>, Vec<u8>)>;

impl World {
    /// The customer's side, as it was stored.
    #[must_use]
    pub fn customer(&self) -> Conversation {
        load(&self.customer)
    }

    /// The business's side, as it was stored.
    #[must_use]
    pub fn business(&self) -> Conversation {
        load(&self.business)
    }
}

/// `fuzz/world`.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/world")
}

/// The committed world.
///
/// # Panics
///
/// If a file of it is missing or does not load: they are fixtures that every later version has to load.
pub fn world() -> &'static World {
    static WORLD: LazyLock<World> = LazyLock::new(|| {
        let file = |name: &str| {
            let path = folder().join(name);
            std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        };
        let entries = |name: &str| {
            let pairs = cbor::items(&file(name)).unwrap();
            let pair = |pair: Vec<u8>| {
                let pair = cbor::items(&pair).unwrap();
                (cbor::content(&pair[0]).unwrap(), cbor::content(&pair[1]).unwrap())
            };
            pairs.into_iter().map(pair).collect::<Entries>()
        };
        World {
            keys: BusinessKeys::from_bytes(&file("keys")).unwrap(),
            bundle: file("bundle"),
            welcome: file("welcome"),
            first: file("first"),
            question: file("question"),
            answer: file("answer"),
            joiner: file("joiner").try_into().unwrap(),
            group_info: file("group-info"),
            leaf: file("leaf").try_into().unwrap(),
            reply: ReplyKey::generate(&mut Chance::new(3)).unwrap(),
            customer: entries("customer"),
            business: entries("business"),
        }
    });
    &WORLD
}

fn load(entries: &Entries) -> Conversation {
    Conversation::load(State::load(entries.clone()).unwrap()).unwrap()
}

/// Loads a conversation from what it would have stored: whatever a peer sent, an endpoint must be able to go on.
///
/// # Panics
///
/// If it does not load.
pub fn reload(conversation: &Conversation) {
    let entries = conversation.state().entries().into_iter().map(|(key, value)| (key, value.to_vec())).collect();
    let again = load(&entries);
    assert_eq!((again.epoch(), again.user_id()), (conversation.epoch(), conversation.user_id()));
}

/// The business's identity.
#[must_use]
pub fn identity() -> BusinessIdentity {
    BusinessIdentity::from_bytes(&[1; 32])
}

/// The customer's pseudonym.
#[must_use]
pub fn pseudonym() -> Pseudonym {
    Pseudonym::from_bytes(&[2; 32])
}

/// A permit for one of the mailboxes.
#[must_use]
pub fn permit(mailbox: MailboxId, purpose: Purpose, serial: u32) -> GivenPermit {
    permit_at(mailbox, purpose, serial, NOW)
}

/// The same permit, for an endpoint that lives at the system's time.
pub(super) fn permit_now(mailbox: MailboxId, purpose: Purpose, serial: u32) -> GivenPermit {
    permit_at(mailbox, purpose, serial, system_now())
}

fn permit_at(mailbox: MailboxId, purpose: Purpose, serial: u32, now: u64) -> GivenPermit {
    let contact = purpose == Purpose::Contact;
    let permit = Permit {
        mailbox,
        grant: GrantId::new([serial as u8; 16]),
        class: if contact { Class::Contact } else { Class::Ordinary },
        expires: Permit::expiry_at(now + 72 * 3600),
        rate: 600,
        max_kib: 96,
        tag: TagKey::from_bytes([9; 32]).seal(&Tag { conversation: 1, purpose, serial }),
    };
    GivenPermit {
        purpose,
        permit,
        mac: MacRoot::new([7; 32]).grant_key(&permit.grant).mac(&permit),
        envelope_key: (!contact).then(|| EnvelopeKey::from_bytes([serial as u8; 32])),
    }
}

/// What a customer gives in a Hello to an endpoint that lives at the system's time.
pub(super) fn customer_permits_now() -> Vec<GivenPermit> {
    [(Purpose::Control, 2), (Purpose::Service, 3)]
        .map(|(purpose, serial)| permit_now(CUSTOMER_MAILBOX, purpose, serial))
        .into()
}

/// What the customer gives in its Hello.
#[must_use]
pub fn customer_permits() -> Vec<GivenPermit> {
    vec![permit(CUSTOMER_MAILBOX, Purpose::Control, 2), permit(CUSTOMER_MAILBOX, Purpose::Service, 3)]
}

/// The tag of the bundle's contact permit.
#[must_use]
pub fn contact_tag() -> TagBlock {
    params(NOW).contact.permit.tag
}

/// What the business's bundle says.
#[must_use]
pub fn params(now: u64) -> BundleParams {
    BundleParams {
        handle: "rosi".to_owned(),
        name: "Rosi's Flowers".to_owned(),
        relay: RELAY.to_owned(),
        mailbox: BUSINESS_MAILBOX,
        contact: permit(BUSINESS_MAILBOX, Purpose::Contact, 1),
        readers: vec![Reader { name: "Team".to_owned(), role: "agents".to_owned() }],
        endpoint: "gateway".to_owned(),
        suites: Suites::DEFAULT,
        now,
    }
}

/// The items of a bundle's payload that was made today: OpenMLS looks at the system's clock when it checks a KeyPackage.
pub fn live_bundle() -> &'static [Vec<u8>] {
    static LIVE: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let (bundle, _) = make_bundle(&identity(), &params(system_now()), &mut Chance::new(5)).unwrap();
        assert!(Bundle::verify(&bundle, &identity().hash(), NOW).is_ok());
        cbor::items(&cbor::content(&cbor::items(&bundle).unwrap()[0]).unwrap()).unwrap()
    });
    &LIVE
}

/// A linked device of the customer's.
pub fn device() -> &'static Device {
    static DEVICE: LazyLock<Device> = LazyLock::new(|| {
        Device::issue(&pseudonym(), &identity().hash(), Suites::DEFAULT, NOW, &mut Chance::new(30)).unwrap()
    });
    &DEVICE
}

/// Its leaf key.
#[must_use]
pub fn device_leaf() -> [u8; 32] {
    let stored = device().to_bytes();
    cbor::content(&cbor::items(&stored).unwrap()[1]).unwrap().try_into().unwrap()
}

/// A KeyPackage that it made today.
pub fn live_spare() -> &'static [u8] {
    static LIVE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        make_spare(&Issuer::Linked(device(), Suites::DEFAULT), Suite::Hybrid, system_now(), &mut Chance::new(31))
            .unwrap()
            .0
    });
    &LIVE
}

/// The system's time, Unix seconds.
#[expect(clippy::disallowed_methods, reason = "OpenMLS checks received KeyPackages against it")]
pub(super) fn system_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// `Signed` over a payload.
#[must_use]
pub fn sign(key: &[u8; 32], label: Label, payload: &[u8]) -> Vec<u8> {
    let signature = SigningKey::from_bytes(key).sign(&[label, payload].concat());
    cbor::array(&[cbor::bytes(payload), cbor::bytes(&signature.to_bytes())])
}

/// Seals a Hello's CBOR to the world's bundle, as an honest customer would; `None` if it is too large for any.
#[must_use]
pub fn seal_hello(inside: &[u8]) -> Option<Vec<u8>> {
    const OVERHEAD: usize = 1 + 1120 + 16 + 4;
    let whole = bucket(OVERHEAD + inside.len());
    if whole > MAX_CONTACT_ENVELOPE {
        return None;
    }
    let mut padded = [&(inside.len() as u32).to_be_bytes()[..], inside].concat();
    padded.resize(whole - OVERHEAD + 4, 0);
    let info = [label::HELLO, identity().hash().as_bytes(), BUSINESS_MAILBOX.as_bytes()].concat();
    let to = world().keys.seal_key().public().as_bytes();
    let sealed =
        RustCrypto::default().hpke_seal(SUITE.hpke_config(), to, &info, contact_tag().as_bytes(), &padded).unwrap();
    Some([&[1][..], sealed.kem_output.as_slice(), sealed.ciphertext.as_slice()].concat())
}

/// A Hello's CBOR with a good proof.
#[must_use]
pub fn hello(welcome: &[u8], message: &[u8]) -> Vec<u8> {
    use sha2::{Digest as _, Sha256};
    let permits: Vec<_> = customer_permits().iter().map(GivenPermit::encode).collect();
    let reply_key = cbor::bytes(world().reply.public().as_bytes());
    let said = cbor::array(&[cbor::text(RELAY), cbor::array(&permits), reply_key.clone()]);
    let proven = [identity().hash().as_bytes(), &Sha256::digest(welcome)[..], &Sha256::digest(said)[..]].concat();
    let proof = SigningKey::from_bytes(&pseudonym().to_bytes()).sign(&[label::HELLO_PROOF, &proven].concat());
    cbor::array(&[
        vec![1],
        cbor::bytes(&pseudonym().public()),
        cbor::text(RELAY),
        cbor::array(&permits),
        reply_key,
        cbor::bytes(welcome),
        cbor::bytes(message),
        cbor::bytes(&proof.to_bytes()),
    ])
}

/// The little CBOR that is needed to put things together, also wrong ones.
pub mod cbor {
    use minicbor::{Decoder, Encoder};

    /// `null`.
    pub const NULL: &[u8] = &[0xf6];

    /// The encoded elements of an array and nothing behind it.
    #[must_use]
    pub fn items(array: &[u8]) -> Option<Vec<Vec<u8>>> {
        let mut d = Decoder::new(array);
        let len = d.array().ok()??;
        let mut items = Vec::new();
        for _ in 0..len {
            let from = d.position();
            d.skip().ok()?;
            items.push(array.get(from..d.position())?.to_vec());
        }
        (d.position() == array.len()).then_some(items)
    }

    /// An array of encoded elements.
    #[must_use]
    pub fn array(items: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Encoder::new(&mut bytes).array(items.len() as u64).unwrap();
        bytes.extend(items.concat());
        bytes
    }

    /// A byte string.
    #[must_use]
    pub fn bytes(content: &[u8]) -> Vec<u8> {
        minicbor::to_vec(<&minicbor::bytes::ByteSlice>::from(content)).unwrap()
    }

    /// A text.
    #[must_use]
    pub fn text(content: &str) -> Vec<u8> {
        minicbor::to_vec(content).unwrap()
    }

    /// What is inside a byte string.
    #[must_use]
    pub fn content(bytes: &[u8]) -> Option<Vec<u8>> {
        Decoder::new(bytes).bytes().ok().map(<[u8]>::to_vec)
    }
}
