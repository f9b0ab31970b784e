//! What a business may write besides answers: what the customer agrees to, and what it withdraws. And the other way round: who may write to it.

use std::time::Duration;

use bulla_client::engine::record::PermitRecord;
use bulla_client::event::{
    Conversation, ConversationId, ConversationState, Draft, Event, Failure, Message, Purpose, Shown, Status,
};
use bulla_client::store::Table;
use bulla_client::store::vault::Scope;
use bulla_e2ee::content::{Action, Category, Consent, Interactive, TemplateName};
use bulla_e2ee::identity::IdentityHash;

use crate::devices::Three;
use crate::world::{Actor, World};

const HOUR_MS: u64 = 3_600_000;

fn template(category: Category, body: &str) -> Draft {
    let template = Some(TemplateName { name: "a_template".into(), language: "en".into(), category });
    let interactive = Box::new(Interactive { template, ..Interactive::new(body, Action::Nothing) });
    Draft::Interactive { interactive, reply_to: None }
}

fn text(body: &str) -> Draft {
    Draft::Text { body: body.into(), reply_to: None }
}

impl Actor {
    async fn consent(&mut self) -> (Consent, Vec<u8>) {
        self.wait("a consent", |e| match e {
            Event::Consent { consent, statement, .. } => Some((consent.clone(), statement.clone())),
            _ => None,
        })
        .await
    }

    /// Nothing has come that it was not asked for.
    fn quiet(&mut self) -> bool {
        let mut quiet = true;
        while let Some(event) = self.passed() {
            quiet &= !matches!(event, Event::Message(_));
        }
        quiet
    }

    async fn fails(&mut self, to: ConversationId, draft: Draft) -> Option<Failure> {
        let sent = self.endpoint.send(to, draft).await.unwrap();
        self.status(sent.id, Status::Failed).await.failure
    }

    async fn sends(&mut self, to: ConversationId, draft: Draft) -> Message {
        self.endpoint.send(to, draft).await.unwrap()
    }
}

struct Two {
    world: World,
    cortado: Actor,
    phone: Actor,
    at_phone: Conversation,
    at_shop: ConversationId,
}

impl Two {
    async fn new() -> Self {
        let world = World::some_days_ago(20).await;
        let mut cortado = world.business().await;
        let link = world.link(&cortado).await;
        let (mut phone, at_phone) = world.customer("Zoë", &link).await;
        phone.endpoint.send(at_phone.id, text("hello")).await.unwrap();
        let at_shop = cortado.incoming().await.conversation;
        phone.state(ConversationState::Open).await;
        Self { world, cortado, phone, at_phone, at_shop }
    }

    async fn decides(&self, purpose: Purpose, given: bool) {
        self.phone.endpoint.decide(self.at_phone.id, purpose, given, "in these words".into()).await.unwrap();
    }
}

#[tokio::test]
async fn nothing_but_answers_comes_that_was_not_agreed_to() {
    let mut two = Two::new().await;
    let offer = || template(Category::Marketing, "half price");
    let notice = || template(Category::Utility, "your parcel");
    assert_eq!(two.cortado.fails(two.at_shop, offer()).await, Some(Failure::NoConsent));
    // In the window a template that is no offer is an answer.
    two.cortado.sends(two.at_shop, notice()).await;
    assert!(!two.phone.incoming().await.breach);

    two.decides(Purpose::Marketing, true).await;
    let (consent, statement) = two.cortado.consent().await;
    assert!(consent.given && consent.purpose == Purpose::Marketing && consent.wording == "in these words");
    // Whoever has the customer's id and the business's can check it.
    let business = two.cortado.endpoint.business_card().await.unwrap().key;
    let verified = Consent::verify(&statement, &IdentityHash::new(*business.as_bytes()), &two.at_phone.user_id);
    assert_eq!(verified, Ok(consent));
    two.cortado.sends(two.at_shop, offer()).await;
    let shown = two.phone.incoming().await;
    assert!(matches!(shown.shown, Shown::Interactive(..)) && !shown.breach);

    two.world.clock.advance(25 * HOUR_MS);
    assert_eq!(two.cortado.fails(two.at_shop, text("are you there?")).await, Some(Failure::WindowClosed));
    assert_eq!(two.cortado.fails(two.at_shop, notice()).await, Some(Failure::NoConsent));
    two.cortado.sends(two.at_shop, offer()).await;
    assert!(!two.phone.incoming().await.breach, "what was agreed to is in order at any time");
    two.decides(Purpose::Notifications, true).await;
    two.cortado.consent().await;
    two.cortado.sends(two.at_shop, notice()).await;
    assert!(!two.phone.incoming().await.breach);

    two.decides(Purpose::Marketing, false).await;
    assert!(!two.cortado.consent().await.0.given);
    assert_eq!(two.cortado.fails(two.at_shop, offer()).await, Some(Failure::Withdrawn));
    two.cortado.sends(two.at_shop, notice()).await;
    two.phone.incoming().await;
    // And again.
    two.decides(Purpose::Marketing, true).await;
    two.cortado.consent().await;
    two.cortado.sends(two.at_shop, offer()).await;
    assert!(!two.phone.incoming().await.breach);
    let known = two.phone.endpoint.conversation(two.at_phone.id).await.unwrap().unwrap().consents;
    let mut known: Vec<_> = known.iter().map(|of| (of.purpose, of.given)).collect();
    known.sort_unstable();
    assert_eq!(known, [(Purpose::Notifications, true), (Purpose::Marketing, true)]);
}

async fn permits(of: &Actor) -> Vec<(Vec<u8>, PermitRecord)> {
    of.endpoint.with_store(|tx| tx.scan_prefix::<PermitRecord>(Table::Permits, b"")).await.unwrap()
}

/// A business whose program does as if it had not heard: it is the relay that refuses.
#[tokio::test]
async fn withdrawn_is_withdrawn_at_the_relay() {
    let mut two = Two::new().await;
    two.decides(Purpose::Marketing, true).await;
    two.cortado.consent().await;
    let before = permits(&two.cortado).await;
    two.decides(Purpose::Marketing, false).await;
    two.cortado.consent().await;
    let after = permits(&two.cortado).await;
    assert_eq!(after.len() + 1, before.len(), "it has thrown the permit away");
    two.cortado
        .endpoint
        .with_store(move |tx| {
            for (key, record) in before {
                if tx.get::<PermitRecord>(Table::Permits, &key)?.is_none() {
                    tx.put(Table::Permits, &key, Scope::Endpoint, &record)?;
                }
            }
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(
        two.cortado.fails(two.at_shop, template(Category::Marketing, "half price")).await,
        Some(Failure::Refused),
        "by the relay"
    );
}

/// It is durable before anything is said, and a relay that was away hears of it before anything passes.
#[tokio::test]
async fn a_withdrawal_without_a_connection_reaches_the_relay_before_the_next_offer() {
    let mut two = Two::new().await;
    two.decides(Purpose::Marketing, true).await;
    two.cortado.consent().await;
    two.world.stop_relay().await;
    two.decides(Purpose::Marketing, false).await;
    // The offer waits at the business, too.
    let offer = two.cortado.sends(two.at_shop, template(Category::Marketing, "half price")).await;
    two.world.start_relay().await;
    two.cortado.consent().await;
    // Whoever was first at the relay: the customer's word stands from then on.
    let later = two.cortado.fails(two.at_shop, template(Category::Marketing, "still half price")).await;
    assert_eq!(later, Some(Failure::Withdrawn));
    let first = two.cortado.endpoint.message(offer.id).await.unwrap().unwrap();
    println!("figure: the offer that had waited: {:?} {:?}", first.status, first.failure);
}

#[tokio::test]
async fn what_one_device_decides_holds_for_all() {
    let Three { world: _world, mut cortado, phone, mut tablet, at: [at_phone, at_tablet, at_shop] } =
        Three::new().await;
    tablet.endpoint.decide(at_tablet.id, Purpose::Marketing, true, "in these words".into()).await.unwrap();
    let (consent, statement) = cortado.consent().await;
    assert!(consent.given);
    let business = cortado.endpoint.business_card().await.unwrap().key;
    assert!(Consent::verify(&statement, &IdentityHash::new(*business.as_bytes()), &at_phone.user_id).is_ok());
    let agreed = |of: &Conversation| of.consents.iter().any(|d| d.purpose == Purpose::Marketing && d.given);
    let mut phone = phone;
    phone.wait("what the tablet decided", |e| matches!(e, Event::Conversation(c) if agreed(c)).then_some(())).await;
    let sent = cortado.sends(at_shop.id, template(Category::Marketing, "half price")).await;
    for device in [&mut phone, &mut tablet] {
        let heard = device.wait("the offer", |e| match e {
            Event::Message(m) if m.id == sent.id => Some(m.clone()),
            _ => None,
        });
        assert!(!heard.await.breach);
    }
    phone.endpoint.decide(at_phone.id, Purpose::Marketing, false, "in these words".into()).await.unwrap();
    assert!(!cortado.consent().await.0.given);
    tablet.wait("what the phone decided", |e| matches!(e, Event::Conversation(c) if !agreed(c)).then_some(())).await;
    assert_eq!(cortado.fails(at_shop.id, template(Category::Marketing, "again")).await, Some(Failure::Withdrawn));
}

#[tokio::test]
async fn who_is_blocked_writes_no_more_and_after_that_goes_on() {
    let mut two = Two::new().await;
    two.cortado.endpoint.block(two.at_shop, true).await.unwrap();
    assert_eq!(two.phone.fails(two.at_phone.id, text("let me in")).await, Some(Failure::Refused));
    // The next one asks for another permit, with a new Hello when none comes; nobody hears it.
    let knocks = two.phone.sends(two.at_phone.id, text("hello?")).await;
    // First in the group that stands, under the permit that may still be good; then anew.
    for _ in 0..50 {
        two.world.clock.advance(HOUR_MS / 6);
        let sent = tokio::time::timeout(Duration::from_millis(200), two.phone.status(knocks.id, Status::Sent));
        if sent.await.is_ok() {
            break;
        }
    }
    let knocked = two.phone.endpoint.message(knocks.id).await.unwrap().unwrap();
    assert_eq!(knocked.status, Status::Sent, "the relay has the Hello");
    two.cortado.endpoint.conversations().await.unwrap();
    assert!(two.cortado.quiet(), "{:#?}", two.cortado.seen);
    two.cortado.endpoint.block(two.at_shop, false).await.unwrap();
    let heard = two.cortado.incoming().await;
    assert_eq!((heard.id, heard.conversation), (knocks.id, two.at_shop));
    two.cortado.sends(two.at_shop, text("again")).await;
    two.phone.incoming().await;
    two.phone.sends(two.at_phone.id, text("there you are")).await;
    two.cortado.incoming().await;
}
