//! Somebody who can open Hellos, because a seal key was stolen, answers with keys of his own; a device whose owner's program is not ours.

use std::time::Duration;

use bulla_client::clock::Clock;
use bulla_client::endpoint::RoleOptions;
use bulla_client::engine::record::PermitRecord;
use bulla_client::event::{ConversationState, Direction, Draft, Event};
use bulla_client::store::Table;
use bulla_e2ee::bundle::{BundleParams, BusinessKeys, make_bundle};
use bulla_e2ee::content::PermitsExtension;
use bulla_e2ee::conversation::{Change, Conversation};
use bulla_e2ee::device::{Invitation, Join};
use bulla_e2ee::envelope::{EnvelopeKey, Kind};
use bulla_e2ee::hello::Hello;
use bulla_e2ee::identity::BusinessIdentity;
use bulla_e2ee::permits::GivenPermit;
use bulla_e2ee::sabotage::{self, Rule};
use bulla_e2ee::slot::Slot;
use bulla_e2ee::spare::{Issuer, make_spare};
use bulla_e2ee::state::State;
use bulla_e2ee::suite::{Suite, Suites};
use bulla_e2ee::tag::Purpose;
use bulla_protocol::id::{SlotId, TagBlock};
use bulla_testkit::relay::{Claimant, Claimed, Mailbox, Owner, Sender};
use rand_core::OsRng;

use crate::devices::Three;
use crate::world::{Actor, World};

/// A business that is no program: a mailbox at the relay, and bundles for it by whatever identity.
pub(crate) struct Business {
    pub(crate) mailbox: Mailbox,
    pub(crate) owner: Owner,
    params: BundleParams,
}

impl Business {
    pub(crate) async fn new(world: &World) -> Self {
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

    pub(crate) fn bundle(&self, identity: &BusinessIdentity) -> (Vec<u8>, BusinessKeys) {
        make_bundle(identity, &self.params, &mut OsRng).unwrap()
    }

    /// The next Hello, if these keys open it.
    pub(crate) async fn hello(&mut self, identity: &BusinessIdentity, keys: &BusinessKeys) -> Option<Hello> {
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

/// Alice's tablet in the hands of somebody who keeps no rule: everything that was in its folder.
struct Insider {
    mls: Conversation,
    /// Its rights to write commits, to each of the others.
    control: Vec<GivenPermit>,
}

impl Insider {
    /// Takes the tablet, which stops.
    async fn of(three: &mut Three) -> Self {
        let number = three.at[1].id.0.to_be_bytes();
        let read = move |tx: &mut bulla_client::store::tx::Tx<'_>| {
            let permits = tx.scan_prefix::<PermitRecord>(Table::Permits, &number)?;
            Ok((tx.scan_bytes_prefix(Table::Mls, &number)?, permits))
        };
        let (rows, permits) = three.tablet.endpoint.with_store(read).await.unwrap();
        three.tablet.endpoint.shutdown().await;
        let entries = rows.into_iter().map(|(key, value)| (key[8..].to_vec(), value.to_vec()));
        let given = permits.iter().map(|(_, record)| GivenPermit::decode(&record.given.0).unwrap());
        Self {
            mls: Conversation::load(State::load(entries).unwrap()).unwrap(),
            control: given.filter(|permit| permit.purpose == Purpose::Control).collect(),
        }
    }

    /// Commits so often, one on the other, whoever was heard.
    fn commits(&mut self, count: usize, now: u64) -> Vec<(Slot, Vec<u8>)> {
        sabotage::break_rule(Some(Rule::AllHeard));
        let commits = (0..count).map(|_| {
            let staged = self.mls.stage(&Change::Keys, now).unwrap();
            self.mls.merge().unwrap();
            (staged.slot, staged.commit)
        });
        let commits = commits.collect();
        sabotage::break_rule(None);
        commits
    }

    /// Sends bodies to everybody, as fast as the relay takes them; how many it has taken.
    async fn sends(&self, url: &str, kind: Kind, bodies: &[Vec<u8>]) -> usize {
        let mut taken = 0;
        for permit in &self.control {
            let mut sender = Sender::with_permit(url, permit.permit, permit.mac.clone()).await.unwrap();
            let key = permit.envelope_key.as_ref().unwrap();
            for body in bodies {
                let envelope = key.seal(&permit.permit.tag, kind, body, &mut OsRng).unwrap();
                sender.begin(&mut OsRng, envelope.into()).await.unwrap();
            }
            for _ in bodies {
                taken += usize::from(sender.accepted().await.is_ok());
            }
        }
        taken
    }
}

/// Rows that an endpoint has in a table, and their bytes.
async fn rows(of: &Actor, table: Table) -> (usize, usize) {
    let rows = of.endpoint.with_store(move |tx| tx.scan_bytes_prefix(table, b"")).await.unwrap();
    (rows.len(), rows.iter().map(|(_, value)| value.len()).sum())
}

/// How often a conversation began again.
fn began(at: &Actor) -> usize {
    at.seen.iter().filter(|e| matches!(e, Event::Continued { .. })).count()
}

/// Shop and phone are heard by each other, and the phone is rid of the tablet. Time passes while they wait: what began again asks for it.
async fn goes_on_without_the_tablet(three: &mut Three) {
    hear_each_other(three).await;
    without_the_tablet(three).await;
    hear_each_other(three).await;
    agree_in_time(three).await;
    assert_eq!(three.phone.endpoint.devices(three.at[0].id).await.unwrap().len(), 1);
}

/// Phone and shop are in step, though one of them may have to wait before it begins again.
async fn agree_in_time(three: &mut Three) {
    for _ in 0..200 {
        if tokio::time::timeout(Duration::from_millis(200), three.agree_of(&[0, 2])).await.is_ok() {
            return;
        }
        three.world.clock.advance(10_000);
    }
    panic!("they never met");
}

async fn without_the_tablet(three: &mut Three) {
    let devices = three.phone.endpoint.devices(three.at[0].id).await.unwrap();
    let name = devices.iter().find(|d| !d.this).unwrap().name.clone();
    three.phone.endpoint.remove_device(three.at[0].id, name).await.unwrap();
}

async fn hear_each_other(three: &mut Three) {
    let draft = || Draft::Text { body: "are you there?".into(), reply_to: None };
    let said = three.cortado.endpoint.send(three.at[2].id, draft()).await;
    heard(&mut three.phone, &three.world, said.unwrap().id).await;
    let said = three.phone.endpoint.send(three.at[0].id, draft()).await;
    heard(&mut three.cortado, &three.world, said.unwrap().id).await;
}

async fn heard(at: &mut Actor, world: &World, id: bulla_e2ee::content::MessageId) {
    for _ in 0..200 {
        let next = at.wait("a message", |e| match e {
            Event::Message(m) if m.direction == Direction::Incoming => Some(m.id),
            _ => None,
        });
        match tokio::time::timeout(Duration::from_millis(200), next).await {
            Ok(came) if came == id => return,
            Ok(_) => {}
            Err(_) => world.clock.advance(10_000),
        }
    }
    panic!("it never came: {:#?}", at.seen);
}

/// MLS-06: a device of the customer's commits as fast as the relay takes it.
#[tokio::test]
async fn mls_06_a_device_that_commits_without_end_costs_the_others_two_commits_and_is_removed() {
    const COMMITS: usize = 1_000;
    let mut three = Three::new().await;
    three.speaks("before").await;
    three.agree().await;
    let before = three.cortado.epoch(three.at[2].id.0).await;
    let mut tablet = Insider::of(&mut three).await;
    let commits = tablet.commits(COMMITS, three.world.clock.now_ms() / 1_000);
    let commits: Vec<_> = commits.into_iter().map(|(_, commit)| commit).collect();
    let taken = tablet.sends(&three.world.relay_url(), Kind::Commit, &commits).await;
    // The relay has the answers of both: whatever it costs them, they have done.
    let mut stored = Vec::new();
    for (actor, at) in [(&three.phone, 0), (&three.cortado, 2)] {
        let epoch = actor.epoch(three.at[at].id.0).await.0;
        assert!(epoch <= before.0 + 1, "epoch {epoch} after {}: one was followed for what had been said", before.0);
        let (held, unreadable) = (rows(actor, Table::Held).await, rows(actor, Table::Unreadable).await);
        assert!(held.0 <= 1_000 && unreadable.0 <= 1_000, "{held:?} {unreadable:?}");
        stored.push((held, unreadable));
    }
    goes_on_without_the_tablet(&mut three).await;
    let again = [began(&three.phone), began(&three.cortado)];
    println!(
        "figure: of 2 x {COMMITS} commits the relay took {taken}; held and unreadable (rows, bytes) at phone and shop: {stored:?}; begun again: {again:?}"
    );
    assert!(again.iter().all(|n| *n <= 2), "{again:?}");
    assert_eq!((rows(&three.phone, Table::Held).await.0, rows(&three.cortado, Table::Held).await.0), (0, 0));
}

/// MLS-06: it has filled the slots of a hundred epochs in advance, so that its removal would lose each of them.
#[tokio::test]
async fn mls_06_slots_that_were_filled_in_advance_do_not_keep_a_device_in() {
    const SLOTS: usize = 100;
    let mut three = Three::new().await;
    three.speaks("before").await;
    three.agree().await;
    let before = three.cortado.epoch(three.at[2].id.0).await;
    let mut tablet = Insider::of(&mut three).await;
    let commits = tablet.commits(SLOTS, three.world.clock.now_ms() / 1_000);
    let mut claimant = Claimant::connect(&three.world.relay_url()).await.unwrap();
    for (slot, commit) in &commits {
        let sealed = slot.seal(commit, &mut OsRng).unwrap();
        assert_eq!(claimant.claim(&SlotId::new(*slot.id()), sealed.into()).await.unwrap(), Claimed::Won);
    }
    goes_on_without_the_tablet(&mut three).await;
    let after = three.cortado.epoch(three.at[2].id.0).await;
    println!("figure: {SLOTS} slots filled in advance; from epoch {} to {} of another group", before.0, after.0);
    assert!(after.0 < before.0 + 10, "nobody goes through all of them: {after:?}");
}

/// MLS-06: a device that was removed can still write, to nobody's use; what it sends makes a conversation begin again. That has its pace, also
/// for who waits each time until the others have found each other again.
#[tokio::test]
async fn mls_06_rubbish_of_a_device_that_was_removed_begins_a_conversation_again_at_a_pace() {
    const SENT: usize = 14;
    let mut three = Three::new().await;
    three.speaks("before").await;
    three.agree().await;
    let mut tablet = Insider::of(&mut three).await;
    without_the_tablet(&mut three).await;
    hear_each_other(&mut three).await;
    tablet.control.truncate(1);
    let message = tablet.mls.seal(b"rubbish").unwrap();
    let group = tablet.mls.group_id().to_vec();
    let at = message.windows(group.len()).position(|w| w == group).unwrap();
    let before = three.world.clock.now_ms();
    for n in 0..SENT {
        let mut of_no_group = message.clone();
        of_no_group[at..at + 8].copy_from_slice(&n.to_be_bytes());
        tablet.sends(&three.world.relay_url(), Kind::Mls, &[of_no_group]).await;
        hear_each_other(&mut three).await;
    }
    let minutes = (three.world.clock.now_ms() - before) / 60_000;
    let again = [began(&three.phone), began(&three.cortado)];
    println!("figure: {SENT} messages of no group; begun again at phone and shop in {minutes} minutes: {again:?}");
    // How many end a group depends on what is on its way: one that comes while a group begins ends nothing.
    assert!(again.iter().all(|n| *n >= 2), "they end groups: {again:?}");
    assert!(again.iter().all(|n| *n as u64 <= 9 + minutes), "{again:?} in {minutes} minutes");
}

/// Somebody has an invitation that was used, and the relay tells him the grant of the device that came in with it. What he lacks is that grant's
/// envelope key: nobody takes him for that device.
#[tokio::test]
async fn a_used_invitation_and_what_the_relay_knows_bring_nobody_in() {
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut phone, at_phone) = world.customer("Alice", &link).await;
    phone.endpoint.send(at_phone.id, Draft::Text { body: "hello".into(), reply_to: None }).await.unwrap();
    let at_cortado = cortado.incoming().await.conversation;
    phone.state(ConversationState::Open).await;
    let invitation = phone.endpoint.invite(at_phone.id).await.unwrap();
    let mut tablet = world.start("tablet", RoleOptions::Customer);
    tablet.endpoint.accept_invitation(invitation.clone()).await.unwrap();
    tablet.state(ConversationState::Open).await;
    // It says nothing more: what it would leave itself must not take the place of what the impostor leaves.
    tablet.endpoint.shutdown().await;

    let held = phone.endpoint.with_store(|tx| tx.scan_prefix::<PermitRecord>(Table::Permits, b"")).await.unwrap();
    let held = held.iter().map(|(_, record)| GivenPermit::decode(&record.given.0).unwrap());
    let held: Vec<_> = held.filter(|permit| permit.purpose == Purpose::Control).collect();
    let invited = Invitation::decode(&invitation).unwrap();
    let now = world.clock.now_ms() / 1_000;
    let (spare, _) =
        make_spare(&Issuer::Linked(&invited.device, Suites::DEFAULT), Suite::Hybrid, now, &mut OsRng).unwrap();
    // What comes into one mailbox is handled in its order: what was said before it was heard too.
    let hears_next = async |phone: &mut Actor, words: &str| {
        let said = Draft::Text { body: words.into(), reply_to: None };
        cortado.endpoint.send(at_cortado, said).await.unwrap();
        phone.incoming().await;
    };
    let has_his_spare = async |phone: &Actor| {
        let kept = phone.endpoint.with_store(|tx| tx.scan_bytes_prefix(Table::PeerSpares, b"")).await.unwrap();
        kept.iter().any(|(_, stored)| stored.windows(spare.len()).any(|part| part == spare))
    };
    let says_join = async |permits: Vec<GivenPermit>| {
        let permits = PermitsExtension { relay: world.relay_url(), permits };
        let body = Join::seal(&invited.device, &permits, &spare, &[]);
        let control = &invited.permits[0];
        let key = control.envelope_key.as_ref().unwrap();
        let envelope = key.seal(&control.permit.tag, Kind::Join, &body, &mut OsRng).unwrap();
        let url = world.relay_url();
        let mut sender = Sender::with_permit(&url, control.permit, control.mac.clone()).await.unwrap();
        sender.begin(&mut OsRng, envelope.into()).await.unwrap();
        sender.accepted().await.unwrap();
    };
    let other_key =
        |permit: &GivenPermit| GivenPermit { envelope_key: Some(EnvelopeKey::from_bytes([1; 32])), ..permit.clone() };
    says_join(held.iter().map(other_key).collect()).await;
    hears_next(&mut phone, "after the first").await;
    assert!(!has_his_spare(&phone).await, "nobody's spare is his");
    // What he lacks is that key and nothing else.
    says_join(held).await;
    hears_next(&mut phone, "after the second").await;
    assert!(has_his_spare(&phone).await);
}
