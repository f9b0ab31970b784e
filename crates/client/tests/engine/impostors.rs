//! Somebody who can open Hellos, because a seal key was stolen, answers with keys of his own.

use bulla_client::clock::Clock;
use bulla_client::event::Draft;
use bulla_e2ee::bundle::{BundleParams, BusinessKeys, make_bundle};
use bulla_e2ee::envelope::Kind;
use bulla_e2ee::hello::Hello;
use bulla_e2ee::identity::BusinessIdentity;
use bulla_e2ee::permits::GivenPermit;
use bulla_e2ee::suite::Suites;
use bulla_e2ee::tag::Purpose;
use bulla_protocol::id::TagBlock;
use bulla_testkit::relay::{Mailbox, Owner, Sender};
use rand_core::OsRng;

use crate::world::World;

/// A business that is no program: a mailbox at the relay, and bundles for it by whatever identity.
struct Business {
    mailbox: Mailbox,
    owner: Owner,
    params: BundleParams,
}

impl Business {
    async fn new(world: &World) -> Self {
        let mailbox = Mailbox::new(&mut OsRng);
        let mut owner = Owner::create(&world.relay_url(), &mailbox).await.unwrap();
        owner.subscribe(&mailbox).await.unwrap();
        let now = world.clock.now_ms() / 1000;
        let (permit, mac) = mailbox.contact_permit(now);
        let params = BundleParams {
            handle: "cortado".into(),
            name: "Cortado Coffee".into(),
            relay: world.relay_url(),
            mailbox: mailbox.id(),
            contact: GivenPermit { purpose: Purpose::Contact, permit, mac, envelope_key: None },
            readers: Vec::new(),
            endpoint: "gateway".into(),
            suites: Suites::DEFAULT,
            now,
        };
        Self { mailbox, owner, params }
    }

    fn bundle(&self, identity: &BusinessIdentity) -> (Vec<u8>, BusinessKeys) {
        make_bundle(identity, &self.params, &mut OsRng).unwrap()
    }

    /// The next Hello, if these keys open it.
    async fn hello(&mut self, identity: &BusinessIdentity, keys: &BusinessKeys) -> Option<Hello> {
        let deliver = self.owner.deliver().await.unwrap();
        self.owner.ack(deliver.number).await.unwrap();
        let tag = TagBlock::from_slice(&deliver.tag).unwrap();
        Hello::open(keys, &identity.hash(), &self.mailbox.id(), &tag, &deliver.envelope).ok()
    }
}

/// Answers a Hello: its KeyPackage is gone, here is another bundle.
async fn answer(world: &World, hello: &Hello, bundle: &[u8]) {
    let control = hello.permits().iter().find(|permit| permit.purpose == Purpose::Control).unwrap();
    let body = hello.say_again(bundle).unwrap();
    let key = control.envelope_key.as_ref().unwrap();
    let envelope = key.seal(&control.permit.tag, Kind::HelloAgain, &body, &mut OsRng).unwrap();
    let url = world.relay_url();
    let mut sender = Sender::with_permit(&url, control.permit, control.mac.clone()).await.unwrap();
    sender.begin(&mut OsRng, envelope.into()).await.unwrap();
    sender.accepted().await.unwrap();
}

/// Once the relay has confirmed that the first answer arrived, the customer has decided about it; so what she says next shows how.
#[tokio::test]
async fn key_02_nothing_is_sealed_again_to_a_key_that_is_not_the_links() {
    let world = World::new().await;
    let mut business = Business::new(&world).await;
    let (cortado, impostor) = (BusinessIdentity::generate(&mut OsRng), BusinessIdentity::generate(&mut OsRng));
    let (first, keys) = business.bundle(&cortado);
    world.serve_bundle(first);
    let (alice, conversation) = world.customer("Alice", &world.link_to(cortado.hash())).await;
    alice.endpoint.send(conversation.id, Draft::Text { body: "secret".into(), reply_to: None }).await.unwrap();
    let hello = business.hello(&cortado, &keys).await.expect("her Hello");

    // The same mailbox, so that a second Hello would come here whoever it is for.
    let (foreign, foreign_keys) = business.bundle(&impostor);
    let mut torn = business.bundle(&cortado).0;
    *torn.last_mut().unwrap() ^= 1;
    for bad in [foreign, torn, Vec::new()] {
        answer(&world, &hello, &bad).await;
    }
    let (fresh, fresh_keys) = business.bundle(&cortado);
    answer(&world, &hello, &fresh).await;
    let deliver = business.owner.deliver().await.unwrap();
    let tag = TagBlock::from_slice(&deliver.tag).unwrap();
    let open = |identity: &BusinessIdentity, keys| {
        Hello::open(keys, &identity.hash(), &business.mailbox.id(), &tag, &deliver.envelope)
    };
    assert!(open(&impostor, &foreign_keys).is_err(), "sealed again to the impostor");
    let again = open(&cortado, &fresh_keys).expect("said again to the link's key, and to no other before");
    assert_eq!(again.pseudonym(), hello.pseudonym());
}
