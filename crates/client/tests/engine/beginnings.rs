//! Bundles that are not what the link says, Hellos that come late or twice, pseudonyms that come back.

use bulla_client::clock::Clock;
use bulla_client::endpoint::{Begin, CommandError, RoleOptions};
use bulla_client::event::{ConversationState, Draft, Event, Shown, Status};
use bulla_e2ee::bundle::{Bundle, BundleParams, make_bundle};
use bulla_e2ee::content::{Body, Content};
use bulla_e2ee::conversation::Conversation as Mls;
use bulla_e2ee::envelope::EnvelopeKey;
use bulla_e2ee::hello::{Hello, HelloParams, ReplyKey};
use bulla_e2ee::identity::{BusinessIdentity, Pseudonym};
use bulla_e2ee::permits::GivenPermit;
use bulla_e2ee::suite::{Suite, Suites};
use bulla_e2ee::tag::Purpose;
use bulla_protocol::frame::{ClientFrame, ClientHello, Role, Send, ServerFrame, client_frame, server_frame};
use bulla_protocol::id::{Challenge, GrantId, MailboxId, SendId, TagBlock};
use bulla_protocol::permit::{Class, MacRoot, Permit, RelayName};
use bulla_protocol::work::Task;
use futures_util::{SinkExt, StreamExt};
use rand_core::OsRng;
use tokio_tungstenite::tungstenite::Message as Ws;

use crate::world::World;

fn text(body: &str) -> Draft {
    Draft::Text { body: body.into(), reply_to: None }
}

/// A bundle of another business, for the same relay, as a hostile web server or relay would serve it.
fn foreign_bundle(real: &Bundle, now: u64) -> Vec<u8> {
    let permit = GivenPermit { envelope_key: None, ..real.contact().clone() };
    let params = BundleParams {
        handle: real.handle().into(),
        name: real.name().into(),
        relay: real.relay().into(),
        mailbox: *real.mailbox(),
        contact: permit,
        readers: Vec::new(),
        endpoint: "gateway".into(),
        suites: Suites::DEFAULT,
        now,
    };
    make_bundle(&BusinessIdentity::generate(&mut OsRng), &params, &mut OsRng).unwrap().0
}

#[tokio::test]
async fn another_business_behind_the_link_is_refused_and_hears_nothing() {
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let real = cortado.endpoint.business_card().await.unwrap().bundle.unwrap();
    let verified = Bundle::verify(&real, link.key(), world.clock.now_ms() / 1000).unwrap();
    let alice = world.start("Alice", RoleOptions::Customer);

    let mut edited = real.clone();
    *edited.last_mut().unwrap() ^= 1;
    for bad in [foreign_bundle(&verified, world.clock.now_ms() / 1000), edited, Vec::new(), vec![0; 10_000]] {
        world.serve_bundle(bad);
        let refused = alice.endpoint.begin(&link, Begin::default()).await;
        assert!(matches!(refused, Err(CommandError::Bundle(_))), "{refused:?}");
        assert!(refused.unwrap_err().to_string().contains("Nothing was sent"));
    }
    assert!(alice.endpoint.conversations().await.unwrap().is_empty());

    // Only with the real one is anything said.
    world.serve_bundle(real);
    let conversation = alice.endpoint.begin(&link, Begin::default()).await.unwrap();
    alice.endpoint.send(conversation.id, text("really you?")).await.unwrap();
    assert_eq!(cortado.incoming().await.shown, Shown::Text("really you?".into()));
    assert_eq!(cortado.endpoint.conversations().await.unwrap().len(), 1);
}

#[tokio::test]
async fn who_begins_twice_has_begun_once() {
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let mut alice = world.start("Alice", RoleOptions::Customer);
    // Two pages of one browser, both at once: neither sees the other's conversation when it asks.
    let (conversation, at_once) =
        tokio::join!(alice.endpoint.begin(&link, Begin::default()), alice.endpoint.begin(&link, Begin::default()));
    let (conversation, at_once) = (conversation.unwrap(), at_once.unwrap());
    assert_eq!((at_once.id, &at_once.user_id), (conversation.id, &conversation.user_id));
    // Whose answer was lost asks again, before the first word and after it.
    let again = alice.endpoint.begin(&link, Begin::default()).await.unwrap();
    assert_eq!((again.id, &again.user_id), (conversation.id, &conversation.user_id));
    let first = alice.endpoint.send(again.id, text("first")).await.unwrap();
    assert_eq!(cortado.incoming().await.shown, Shown::Text("first".into()));
    alice.status(first.id, Status::Delivered).await;
    let again = alice.endpoint.begin(&link, Begin::default()).await.unwrap();
    assert_eq!((again.id, again.state), (conversation.id, ConversationState::Open));
    alice.endpoint.send(again.id, text("second")).await.unwrap();
    assert_eq!(cortado.incoming().await.shown, Shown::Text("second".into()));
    assert_eq!(alice.endpoint.conversations().await.unwrap().len(), 1);
    assert_eq!(cortado.endpoint.conversations().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_hello_to_a_key_package_that_is_gone_is_said_again() {
    let world = World::new().await;
    let cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut alice, conversation) = world.customer("Alice", &link).await;
    cortado.endpoint.shutdown().await;
    let first = alice.endpoint.send(conversation.id, text("first")).await.unwrap();
    let second = alice.endpoint.send(conversation.id, text("second")).await.unwrap();
    alice.status(first.id, Status::Sent).await;

    // A business that comes back a week later renews its bundle; the day after, the old KeyPackage goes.
    world.clock.advance(5 * 86_400_000);
    let cortado = world.start("cortado", world.business_role());
    let ready = || async { cortado.endpoint.business_card().await.unwrap().ready };
    while !ready().await {
        tokio::task::yield_now().await;
    }
    let mut cortado = cortado;
    let heard = cortado.incoming().await;
    assert_eq!((heard.id, heard.shown), (first.id, Shown::Text("first".into())));
    assert_eq!(cortado.incoming().await.id, second.id, "ids stay");
    world.clock.advance(1_000);
    alice.status(second.id, Status::Delivered).await;
    let stored = alice.endpoint.messages(conversation.id, None, 10).await.unwrap();
    assert_eq!(stored.len(), 2);
}

#[tokio::test]
async fn a_pseudonym_resumed_on_a_new_device_is_the_same_customer() {
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (alice, conversation) = world.customer("Alice", &link).await;
    alice.endpoint.send(conversation.id, text("from the phone")).await.unwrap();
    let before = cortado.incoming().await;
    let before = cortado.endpoint.conversation(before.conversation).await.unwrap().unwrap();
    let key = alice.endpoint.pseudonym(conversation.id).await.unwrap();
    alice.endpoint.shutdown().await;

    let mut laptop = world.start("laptop", RoleOptions::Customer);
    let begin = Begin { pseudonym: Some(key), ..Begin::default() };
    let resumed = laptop.endpoint.begin(&link, begin).await.unwrap();
    assert_eq!(resumed.user_id, conversation.user_id);
    laptop.endpoint.send(resumed.id, text("from the laptop")).await.unwrap();
    let heard = cortado.incoming().await;
    let now = cortado.endpoint.conversation(heard.conversation).await.unwrap().unwrap();
    assert_eq!((&now.user_id, now.peer_name.as_str()), (&before.user_id, "Alice"));
    assert_eq!(now.id, before.id, "the conversation goes on");
    let newest = cortado.endpoint.conversation_of(&now.user_id).await.unwrap().unwrap();
    assert_eq!(newest.id, now.id);
    cortado.endpoint.send(newest.id, text("welcome back")).await.unwrap();
    assert_eq!(laptop.incoming().await.shown, Shown::Text("welcome back".into()));
}

/// Writes envelopes to a bundle's mailbox without an endpoint, as a stranger or a relay that replays can.
pub(crate) async fn knock(bundle: &Bundle, envelope: &[u8], times: usize) -> Vec<server_frame::Body> {
    let (mut socket, _) = tokio_tungstenite::connect_async(bundle.relay()).await.unwrap();
    let next = |m: Option<Result<Ws, _>>| ServerFrame::from_bytes(m.unwrap().unwrap().into_data()).unwrap();
    let (_, server_frame::Body::Hello(hello)) = next(socket.next().await) else { panic!("no hello") };
    let greeting = ClientHello { version: 1, role: Role::Anonymous as i32 };
    let frame = ClientFrame::new(1, client_frame::Body::Hello(greeting)).to_bytes();
    socket.send(Ws::Binary(frame)).await.unwrap();
    next(socket.next().await);
    let name = RelayName::new(&hello.name).unwrap();
    let challenge = Challenge::from_slice(&hello.challenge).unwrap();
    let mut answers = Vec::new();
    for n in 0..times {
        let contact = bundle.contact();
        let send_id = SendId::new([n as u8; 16]);
        let work = Task::contact(&challenge, bundle.mailbox(), envelope);
        let send = Send {
            permit: Some(contact.permit.to_frame()),
            proof: contact.mac.prove(&name, &send_id, envelope).to_vec(),
            send_id: send_id.to_vec(),
            envelope: envelope.to_vec().into(),
            work_nonce: work.search(hello.work_bits, 0, u64::MAX).unwrap(),
        };
        let frame = ClientFrame::new(2 + n as u64, client_frame::Body::Send(send)).to_bytes();
        socket.send(Ws::Binary(frame)).await.unwrap();
        answers.push(next(socket.next().await).1);
    }
    answers
}

fn permit(purpose: Purpose) -> GivenPermit {
    let permit = Permit {
        mailbox: MailboxId::new([1; 16]),
        grant: GrantId::new([2; 16]),
        class: Class::Ordinary,
        expires: u32::MAX,
        rate: 1,
        max_kib: 96,
        tag: TagBlock::new([3; 16]),
    };
    let mac = MacRoot::new([4; 32]).grant_key(&permit.grant).mac(&permit);
    GivenPermit { purpose, permit, mac, envelope_key: Some(EnvelopeKey::from_bytes([5; 32])) }
}

#[tokio::test]
async fn a_replayed_hello_is_acknowledged_and_forgotten() {
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let bytes = cortado.endpoint.business_card().await.unwrap().bundle.unwrap();
    let now = world.clock.now_ms() / 1000;
    let bundle = Bundle::verify(&bytes, link.key(), now).unwrap();
    let pseudonym = Pseudonym::generate(&mut OsRng);
    let (mut mls, welcome) =
        Mls::begin(&pseudonym, "phone", Suites::DEFAULT, &bundle, Suite::Hybrid, now, &mut OsRng).unwrap();
    let content = Content::new([1; 16], Body::text("once")).encode().unwrap();
    let message = mls.seal(&content).unwrap();
    let reply_key = ReplyKey::generate(&mut OsRng).unwrap();
    let says = HelloParams {
        relay: bundle.relay(),
        permits: &[permit(Purpose::Service), permit(Purpose::Control)],
        reply_key: reply_key.public(),
        welcome: &welcome,
        message: &message,
    };
    let hello = Hello::seal(&pseudonym, &bundle, &says).unwrap();
    let answers = knock(&bundle, &hello, 3).await;
    assert!(answers.iter().all(|a| matches!(a, server_frame::Body::Accepted(_))), "{answers:?}");
    assert_eq!(cortado.incoming().await.shown, Shown::Text("once".into()));

    // Something after the replays: by then they were looked at.
    let (alice, conversation) = world.customer("Alice", &link).await;
    alice.endpoint.send(conversation.id, text("next")).await.unwrap();
    assert_eq!(cortado.incoming().await.shown, Shown::Text("next".into()));
    assert_eq!(cortado.endpoint.conversations().await.unwrap().len(), 2);

    // Even after a restart.
    cortado.endpoint.shutdown().await;
    let mut cortado = world.start("cortado", world.business_role());
    knock(&bundle, &hello, 1).await;
    alice.endpoint.send(conversation.id, text("last")).await.unwrap();
    assert_eq!(cortado.incoming().await.shown, Shown::Text("last".into()));
    assert_eq!(cortado.endpoint.conversations().await.unwrap().len(), 2);
}

#[tokio::test]
async fn strangers_who_write_rubbish_leave_nothing_behind() {
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let bytes = cortado.endpoint.business_card().await.unwrap().bundle.unwrap();
    let bundle = Bundle::verify(&bytes, link.key(), world.clock.now_ms() / 1000).unwrap();
    for rubbish in [vec![], vec![1], vec![1; 1024], vec![0; 2048], vec![0xff; 32 * 1024]] {
        knock(&bundle, &rubbish, 1).await;
    }
    let (alice, conversation) = world.customer("Alice", &link).await;
    alice.endpoint.send(conversation.id, text("still there?")).await.unwrap();
    assert_eq!(cortado.incoming().await.shown, Shown::Text("still there?".into()));
    assert_eq!(cortado.endpoint.conversations().await.unwrap().len(), 1);
    assert!(!cortado.seen.iter().any(|e| matches!(e, Event::Unreadable { .. })));
}

#[tokio::test]
async fn a_bundle_that_expired_before_the_first_word_is_fetched_again() {
    let world = World::some_days_ago(20).await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (alice, conversation) = world.customer("Alice", &link).await;
    world.clock.advance(20 * 86_400_000);
    // The business has renewed its bundle since.
    cortado.endpoint.shutdown().await;
    cortado = world.business().await;
    alice.endpoint.send(conversation.id, text("after the holidays")).await.unwrap();
    assert_eq!(cortado.incoming().await.shown, Shown::Text("after the holidays".into()));
    let state = alice.endpoint.conversation(conversation.id).await.unwrap().unwrap().state;
    assert_ne!(state, ConversationState::New);
}
