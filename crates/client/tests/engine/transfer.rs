//! The code goes to another device, once; and somebody who has a picture of the screen, or the relay.

use bulla_client::endpoint::{RoleOptions, TransferAsk, TransferError, TransferOffer};
use bulla_client::event::{ConversationState, Past};
use bulla_e2ee::transfer::{Asker, Giver, Ticket, TransferError as Refusal};
use bulla_protocol::id::SlotId;
use bulla_testkit::relay::{Claimant, Claimed};
use bytes::Bytes;
use rand_core::OsRng;

use crate::recovery::{Two, text};
use crate::world::Actor;

/// As the ticket is good for.
const TEN_MINUTES_MS: u64 = 600_000;

impl Two {
    async fn offer(&self) -> TransferOffer {
        self.alice.endpoint.offer_transfer(self.at_alice.id, &self.link).await.unwrap()
    }

    /// A device that has nothing, and a ticket that it has scanned.
    async fn scans(&self, name: &str, offer: &TransferOffer) -> (Actor, Result<TransferAsk, TransferError>) {
        let device = self.world.start(name, RoleOptions::Customer);
        let asked = device.endpoint.ask_transfer(&self.link, &offer.ticket()).await;
        (device, asked)
    }

    /// Whoever knows a cell's id reads and writes it: the relay, above all.
    async fn at_the_cells(&self) -> Claimant {
        Claimant::connect(&self.world.relay_url()).await.unwrap()
    }

    /// What is known to whoever has the ticket.
    fn with_ticket(&self, offer: &TransferOffer) -> Asker {
        Asker::new(Ticket::parse(&offer.ticket()).unwrap(), *self.link.key(), &mut OsRng).unwrap()
    }
}

fn is_refused<T: std::fmt::Debug>(result: &Result<T, TransferError>) -> bool {
    matches!(result, Err(TransferError::Refused(Refusal::Refused)))
}

#[tokio::test]
async fn the_code_goes_to_another_device_once_and_the_conversation_goes_on_there() {
    let mut two = Two::new().await;
    two.shop_says(text("One sugar or two?")).await;
    let offer = two.offer().await;
    let ticket = offer.ticket();
    let (mut laptop, asks) = two.scans("laptop", &offer).await;
    let asks = asks.unwrap();
    let asked = offer.asked().await.unwrap();
    assert_eq!(asked.number(), asks.number(), "what both people see");
    // Asking alone gives nothing.
    let cells = two.with_ticket(&offer);
    let mut relay = two.at_the_cells().await;
    assert_eq!(relay.read(&cells.answering()).await.unwrap(), None);
    offer.give(&asked).await.unwrap();
    let code = asks.answered().await.unwrap();
    assert!(code == two.code().await);
    let at_laptop = laptop.endpoint.recover(&two.link, code).await.unwrap();
    laptop.state(ConversationState::Open).await;
    laptop.past(Past::All).await;
    assert_eq!(at_laptop.user_id, two.at_alice.user_id);
    two.alice.state(ConversationState::Moved).await;

    // The ticket is worth nothing any more, and what stands in the cells tells nobody anything who has it.
    let late = two.world.start("late", RoleOptions::Customer);
    let refused = late.endpoint.ask_transfer(&two.link, &ticket).await;
    assert!(matches!(refused, Err(TransferError::Used)), "{refused:?}");
    let answer = relay.read(&cells.answering()).await.unwrap().unwrap();
    assert!(cells.answered(&answer).is_err(), "sealed to another key");
    let here = laptop.endpoint.ask_transfer(&two.link, &ticket).await;
    assert!(matches!(here, Err(TransferError::Command(_))), "a device that has a conversation asks for none: {here:?}");
}

/// Somebody has photographed the screen and is faster. What the two devices of the customer show tells it, and nothing was given.
#[tokio::test]
async fn a_second_scanner_is_refused_and_a_stranger_who_was_first_shows_another_number() {
    let two = Two::new().await;
    let offer = two.offer().await;
    let (_thief, asks) = two.scans("thief", &offer).await;
    let asks = asks.unwrap();
    let (_phone, refused) = two.scans("phone", &offer).await;
    assert!(matches!(refused, Err(TransferError::Used)), "{refused:?}");
    let asked = offer.asked().await.unwrap();
    assert_eq!(asked.number(), asks.number());
    // The person has no device that shows this number, and closes the sheet.
    let cells = two.with_ticket(&offer);
    drop(offer);
    let waiting = tokio::spawn(async move { asks.answered().await.map(drop) });
    two.world.clock.advance(TEN_MINUTES_MS);
    let nothing = waiting.await.unwrap();
    assert!(matches!(nothing, Err(TransferError::Expired)), "{nothing:?}");
    assert_eq!(two.at_the_cells().await.read(&cells.answering()).await.unwrap(), None);
}

#[tokio::test]
async fn after_ten_minutes_nobody_is_answered() {
    let two = Two::new().await;
    let (early, late) = (two.offer().await, two.offer().await);
    let (_device, asks) = two.scans("laptop", &early).await;
    let asks = asks.unwrap();
    let asked = early.asked().await.unwrap();
    let cells = two.with_ticket(&early);
    two.world.clock.advance(TEN_MINUTES_MS);
    // Asked in time, and said yes too late.
    let given = early.give(&asked).await;
    assert!(matches!(given, Err(TransferError::Expired)), "{given:?}");
    assert_eq!(two.at_the_cells().await.read(&cells.answering()).await.unwrap(), None);
    let answered = asks.answered().await.map(drop);
    assert!(matches!(answered, Err(TransferError::Expired)), "{answered:?}");
    // Scanned too late.
    let (_other, asks) = two.scans("tablet", &late).await;
    assert!(asks.is_ok(), "it cannot know how old the picture is");
    let asked = late.asked().await;
    assert!(matches!(asked, Err(TransferError::Expired)), "{asked:?}");
}

/// The relay writes into the cells what it likes: bytes of its own, what another device has asked with another ticket, one cell's content into the
/// other.
#[tokio::test]
async fn what_the_relay_puts_into_a_cell_is_refused_by_both() {
    let two = Two::new().await;
    let mut relay = two.at_the_cells().await;
    let elsewhere = Giver::new(*two.link.key(), &mut OsRng);
    let foreign = Asker::new(elsewhere.ticket().clone(), *two.link.key(), &mut OsRng).unwrap();
    let key_of_its_own = foreign.ask(&mut OsRng).unwrap();
    for (name, content) in [("one", vec![1; 2048]), ("other", key_of_its_own)] {
        let offer = two.offer().await;
        let cells = two.with_ticket(&offer);
        assert_eq!(relay.claim(&cells.asking(), Bytes::from(content)).await.unwrap(), Claimed::Won);
        let asked = offer.asked().await;
        assert!(is_refused(&asked), "{asked:?}");
        let (_device, asks) = two.scans(name, &offer).await;
        assert!(matches!(asks, Err(TransferError::Used)), "{asks:?}");
    }

    let offer = two.offer().await;
    let (_laptop, asks) = two.scans("laptop", &offer).await;
    let (asks, cells) = (asks.unwrap(), two.with_ticket(&offer));
    let asked = offer.asked().await.unwrap();
    let request = relay.read(&cells.asking()).await.unwrap().unwrap();
    assert_eq!(relay.claim(&cells.answering(), request).await.unwrap(), Claimed::Won);
    let answered = asks.answered().await.map(drop);
    assert!(is_refused(&answered), "{answered:?}");
    // And the person of the first device learns that what was said yes to did not happen.
    let given = offer.give(&asked).await;
    assert!(matches!(given, Err(TransferError::Used)), "{given:?}");
}

#[tokio::test]
async fn what_is_no_ticket_asks_nobody() {
    let two = Two::new().await;
    let offer = two.offer().await;
    let laptop = two.world.start("laptop", RoleOptions::Customer);
    for wrong in ["", "0W3GE1R70W3GE1R70W3GE1R70YJ5", &offer.ticket()[1..]] {
        let asked = laptop.endpoint.ask_transfer(&two.link, wrong).await;
        assert!(matches!(asked, Err(TransferError::Refused(Refusal::Ticket))), "{asked:?}");
    }
    let nothing: SlotId = two.with_ticket(&offer).asking();
    assert_eq!(two.at_the_cells().await.read(&nothing).await.unwrap(), None);
}
