//! A business and a customer, for the stories that the tests tell.

use bulla_e2ee::bundle::{Bundle, BundleParams, BusinessKeys, make_bundle};
use bulla_e2ee::certificate::{Expect, Role};
use bulla_e2ee::content::Reader;
use bulla_e2ee::conversation::Change;
use bulla_e2ee::conversation::Conversation;
use bulla_e2ee::envelope::EnvelopeKey;
use bulla_e2ee::hello::{Hello, HelloParams, ReplyKey};
use bulla_e2ee::identity::{BusinessIdentity, Pseudonym};
use bulla_e2ee::permits::GivenPermit;
use bulla_e2ee::spare::{Issuer, Spare, SpareKeys, make_spare};
use bulla_e2ee::state::State;
use bulla_e2ee::suite::{Suite, Suites};
use bulla_e2ee::tag::{Purpose, Tag, TagKey};
use bulla_protocol::id::{GrantId, MailboxId};
use bulla_protocol::permit::{Class, MacRoot, Permit};
use rand_core::OsRng;
use std::collections::BTreeMap;

pub(crate) const CUSTOMER_MAILBOX: MailboxId = MailboxId::new([0xcc; 16]);
pub(crate) const BUSINESS_MAILBOX: MailboxId = MailboxId::new([0xbb; 16]);

#[expect(
    clippy::disallowed_methods,
    reason = "OpenMLS checks received KeyPackages against it: tests live in the present"
)]
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn permit(mailbox: MailboxId, purpose: Purpose, serial: u32) -> GivenPermit {
    let contact = purpose == Purpose::Contact;
    let permit = Permit {
        mailbox,
        grant: GrantId::new([serial as u8; 16]),
        class: if contact { Class::Contact } else { Class::Ordinary },
        expires: Permit::expiry_at(now() + 72 * 3600),
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

pub(crate) fn params() -> BundleParams {
    BundleParams {
        handle: "rosi".to_owned(),
        name: "Rosi's Flowers".to_owned(),
        relay: "wss://relay.example/v1/ws".to_owned(),
        mailbox: BUSINESS_MAILBOX,
        contact: permit(BUSINESS_MAILBOX, Purpose::Contact, 1),
        readers: vec![Reader { name: "Team".to_owned(), role: "agents".to_owned() }],
        endpoint: "gateway".to_owned(),
        suites: Suites::DEFAULT,
        now: now(),
    }
}

pub(crate) fn customer_permits() -> Vec<GivenPermit> {
    vec![permit(CUSTOMER_MAILBOX, Purpose::Control, 2), permit(CUSTOMER_MAILBOX, Purpose::Service, 3)]
}

pub(crate) struct Business {
    pub(crate) identity: BusinessIdentity,
    pub(crate) bundle: Vec<u8>,
    pub(crate) keys: BusinessKeys,
}

impl Business {
    pub(crate) fn new() -> Self {
        let identity = BusinessIdentity::generate(&mut OsRng);
        let (bundle, keys) = make_bundle(&identity, &params(), &mut OsRng).unwrap();
        Self { identity, bundle, keys }
    }

    pub(crate) fn verified(&self) -> Bundle {
        Bundle::verify(&self.bundle, &self.identity.hash(), now()).unwrap()
    }

    pub(crate) fn opens(&self, hello: &[u8]) -> Hello {
        let tag = params().contact.permit.tag;
        Hello::open(&self.keys, &self.identity.hash(), &BUSINESS_MAILBOX, &tag, hello).unwrap()
    }

    pub(crate) fn joins(&self, hello: &Hello) -> Conversation {
        Conversation::join(&self.keys, &self.identity.hash(), hello, now()).unwrap()
    }
}

pub(crate) struct Said {
    pub(crate) conversation: Conversation,
    pub(crate) hello: Vec<u8>,
    pub(crate) welcome: Vec<u8>,
    pub(crate) reply_key: ReplyKey,
}

/// The customer says Hello, with `first` as the first message's content.
pub(crate) fn says_hello(pseudonym: &Pseudonym, bundle: &Bundle, first: &[u8]) -> Said {
    let (mut conversation, welcome) =
        Conversation::begin(pseudonym, "phone", Suites::DEFAULT, bundle, Suite::Hybrid, now(), &mut OsRng).unwrap();
    let message = conversation.seal(first).unwrap();
    let reply_key = ReplyKey::generate(&mut OsRng).unwrap();
    let hello = Hello::seal(
        pseudonym,
        bundle,
        &HelloParams {
            relay: "wss://relay.example/v1/ws",
            permits: &customer_permits(),
            reply_key: reply_key.public(),
            welcome: &welcome,
            message: &message,
        },
    )
    .unwrap();
    Said { conversation, hello, welcome, reply_key }
}

/// A conversation with its first message opened on the business's side.
pub(crate) fn conversation() -> (Conversation, Conversation) {
    let business = Business::new();
    let said = says_hello(&Pseudonym::generate(&mut OsRng), &business.verified(), b"first");
    let hello = business.opens(&said.hello);
    let mut joined = business.joins(&hello);
    joined.open(hello.message()).unwrap();
    (said.conversation, joined)
}

/// A conversation whose two members have heard each other in its first epoch.
pub(crate) struct Two {
    pub(crate) business: Business,
    pub(crate) anna: Pseudonym,
    pub(crate) shop: Conversation,
    pub(crate) phone: Conversation,
}

impl Two {
    pub(crate) fn talking() -> Self {
        let business = Business::new();
        let anna = Pseudonym::generate(&mut OsRng);
        let said = says_hello(&anna, &business.verified(), b"first");
        let hello = business.opens(&said.hello);
        let (mut shop, mut phone) = (business.joins(&hello), said.conversation);
        shop.open(hello.message()).unwrap();
        says(&mut shop, &mut [&mut phone]);
        Self { business, anna, shop, phone }
    }

    pub(crate) fn anna(&self) -> Issuer<'_> {
        Issuer::Customer {
            pseudonym: &self.anna,
            business: self.shop.business(),
            endpoint: "tablet",
            suites: Suites::DEFAULT,
        }
    }

    pub(crate) fn spare_of_anna(&self) -> (Spare, SpareKeys) {
        let (bytes, keys) = make_spare(&self.anna(), Suite::Hybrid, now(), &mut OsRng).unwrap();
        let expect = Expect::customer(*self.shop.business(), self.anna.public());
        (Spare::verify(&bytes, &expect, now()).unwrap(), keys)
    }

    /// Anna's tablet comes in, and all have heard each other.
    pub(crate) fn tablet(&mut self) -> Conversation {
        let (spare, keys) = self.spare_of_anna();
        let staged = self.phone.stage(&Change::Add(std::slice::from_ref(&spare)), now()).unwrap();
        self.phone.merge().unwrap();
        let followed = self.shop.follow(&staged.commit, now()).unwrap();
        assert_eq!(followed.added.len(), 1);
        assert_eq!(followed.added[0].identity, self.anna.public());
        let welcome = staged.welcome.unwrap();
        let (business, customer) = (*self.shop.business(), self.anna.public());
        let mut tablet = Conversation::rejoin(&keys, Role::Customer, &business, &customer, &welcome, now()).unwrap();
        says(&mut tablet, &mut [&mut self.shop, &mut self.phone]);
        says(&mut self.shop, &mut [&mut tablet, &mut self.phone]);
        says(&mut self.phone, &mut [&mut self.shop, &mut tablet]);
        tablet
    }

    pub(crate) fn spare_of_the_shop(&self) -> (Spare, SpareKeys) {
        let issuer = Issuer::Business {
            identity: &self.business.identity,
            handle: "rosi",
            endpoint: "gateway",
            suites: Suites::DEFAULT,
        };
        let (bytes, keys) = make_spare(&issuer, Suite::Hybrid, now(), &mut OsRng).unwrap();
        (Spare::verify(&bytes, &Expect::business(*self.shop.business()), now()).unwrap(), keys)
    }
}

/// One says something, all others open it.
pub(crate) fn says(from: &mut Conversation, to: &mut [&mut Conversation]) {
    let message = from.seal(b"words").unwrap();
    for other in to {
        assert_eq!(other.open(&message).unwrap().content.as_slice(), b"words");
    }
}

/// A store that survives its process: what was taken from a state, and nothing else.
#[derive(Default, Clone)]
pub(crate) struct Store(BTreeMap<Vec<u8>, Vec<u8>>);

impl Store {
    /// Writes the changes and loads the conversation anew from what is stored alone.
    pub(crate) fn restart(&mut self, conversation: Conversation) -> Conversation {
        self.save(&conversation);
        self.load()
    }

    pub(crate) fn save(&mut self, conversation: &Conversation) {
        for (key, value) in conversation.state().take_changes() {
            match value {
                Some(value) => self.0.insert(key, value.to_vec()),
                None => self.0.remove(&key),
            };
        }
    }

    pub(crate) fn load(&self) -> Conversation {
        Conversation::load(State::load(self.0.clone()).unwrap()).unwrap()
    }
}

/// A file of `tests/fixtures`.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}
