//! What the worker calls.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use bulla_client::endpoint::{
    Begin, CommandError, Endpoint, NoProjector, Options, RoleOptions, TransferAsk, TransferError, TransferOffer,
};
use bulla_client::event::{Conversation as Found, ConversationId, ConversationState};
use bulla_e2ee::content::{MessageId, PushSubscription};
use bulla_e2ee::link::Link;
use bulla_e2ee::recovery::RecoveryCode;
use bulla_e2ee::suite::Suites;
use bulla_e2ee::transfer::Asked;
use futures_util::future::{AbortHandle, abortable};
use js_sys::Function;
use url::Url;
use wasm_bindgen::prelude::*;

use crate::clock::BrowserClock;
use crate::shapes::{self, Card, Conversation, Draft, Event, Message, PushTo, Refused, to_js};
use crate::store::IndexedDbStore;
use crate::transport::BrowserTransport;

/// The database of this origin. Several businesses in one origin share it, and could read each other's: an origin each is better.
const DATABASE: &str = "bulla";

/// Messages handed over at once, at most.
const PAGE: usize = 200;

/// The conversation that the page shows.
type Current = Rc<Cell<Option<ConversationId>>>;

/// A customer's device, at the business whose link was opened.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Device {
    endpoint: Endpoint,
    current: Current,
    on_event: Function,
    /// Files that are being opened, and whether somebody has stopped that.
    opening: RefCell<HashMap<MessageId, Rc<Cell<bool>>>>,
    /// A transfer of the recovery code, at either end; there is one at a time.
    transfer: RefCell<Transfer>,
}

/// How far a transfer is. Only in memory: a page that is closed has ended it.
#[derive(Debug, Default)]
struct Transfer {
    offers: Option<Rc<TransferOffer>>,
    asked: Option<Asked>,
    asks: Option<Rc<TransferAsk>>,
    waiting: Option<Waiting>,
}

/// What waits for the other device; dropped, it waits no more.
#[derive(Debug)]
struct Waiting(AbortHandle);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[wasm_bindgen]
impl Device {
    /// Opens what is stored in this origin, or begins a store, and runs. `on_event` is called with each event, after it is durable.
    pub async fn create(on_event: Function) -> Result<Device, JsValue> {
        console_error_panic_hook::set_once();
        let store = IndexedDbStore::open(DATABASE).await.map_err(Refused::from)?;
        let root = store.root_key().await.map_err(Refused::from)?;
        let cleared = on_event.clone();
        store.when_cleared(move || {
            if let Ok(event) = to_js(&Event::Cleared) {
                // What the page makes of it is the page's.
                let _ = cleared.call1(&JsValue::NULL, &event);
            }
        });
        let options = Options {
            role: RoleOptions::Customer,
            suites: Suites::DEFAULT,
            clock: Arc::new(BrowserClock),
            restored: false,
        };
        let started = Endpoint::start_here(store, root, options, Box::new(NoProjector), BrowserTransport).await;
        let (endpoint, mut events) = started.map_err(Refused::from)?;
        let current = Current::default();
        let shown = Rc::clone(&current);
        let tell = on_event.clone();
        wasm_bindgen_futures::spawn_local(async move {
            while let Some(event) = events.recv().await {
                // An origin may have several businesses; each page shows one.
                if event.conversation().is_some() && event.conversation() != shown.get() {
                    continue;
                }
                if let Some(Ok(event)) = Event::of(event).map(|event| to_js(&event)) {
                    // What the page makes of it is the page's.
                    let _ = tell.call1(&JsValue::NULL, &event);
                }
            }
        });
        Ok(Device { endpoint, current, on_event, opening: RefCell::default(), transfer: RefCell::default() })
    }

    /// The conversation that a link leads to, or null. A link without a key, as of an installed app, leads to the newest with its handle, if it
    /// has one.
    pub async fn open(&self, link: String) -> Result<JsValue, JsValue> {
        let found = match Link::parse(&link) {
            Ok(link) => self.endpoint.conversation_with(link.key()).await.map_err(Refused::from)?,
            Err(_) => {
                let handle = Url::parse(&link).ok().and_then(|url| url.path().strip_prefix("/@").map(str::to_owned));
                let all = self.endpoint.conversations().await.map_err(Refused::from)?;
                let fits = |c: &Found| {
                    c.state != ConversationState::NotKnown && handle.as_ref().is_none_or(|handle| *handle == c.handle)
                };
                all.into_iter().filter(fits).max_by_key(|c| c.id)
            }
        };
        self.current.set(found.as_ref().map(|c| c.id));
        to_js(&found.map(Conversation::from))
    }

    /// Who a link leads to.
    pub async fn card(&self, link: String) -> Result<JsValue, JsValue> {
        let card = self.endpoint.look(&parse(&link)?).await.map_err(Refused::from)?;
        to_js(&Card::from(card))
    }

    /// Begins the conversation that a link leads to, or finds it.
    pub async fn begin(&self, link: String, name: Option<String>) -> Result<JsValue, JsValue> {
        let begin = Begin { name, ..Begin::default() };
        let begun = self.endpoint.begin(&parse(&link)?, begin).await.map_err(Refused::from)?;
        self.current.set(Some(begun.id));
        to_js(&Conversation::from(begun))
    }

    /// A customer who was here before comes back, with what was written down. A code that is none is refused before anything leaves.
    pub async fn recover(&self, link: String, code: String) -> Result<JsValue, JsValue> {
        let code = RecoveryCode::parse(&code).map_err(Refused::from)?;
        let begun = self.endpoint.recover(&parse(&link)?, code).await.map_err(Refused::from)?;
        self.current.set(Some(begun.id));
        to_js(&Conversation::from(begun))
    }

    /// The recovery code to write down, or null if this conversation has none.
    #[wasm_bindgen(js_name = recoveryCode)]
    pub async fn recovery_code(&self) -> Result<Option<String>, JsValue> {
        match self.endpoint.recovery_code(self.current()?).await {
            Ok(code) => Ok(Some(code.to_text().as_str().to_owned())),
            Err(CommandError::NoCode) => Ok(None),
            Err(e) => Err(Refused::from(e).into()),
        }
    }

    /// A ticket for another device, to be shown: with it, and with a yes to its number, it gets the recovery code. Ends the transfer that was before.
    #[wasm_bindgen(js_name = offerTransfer)]
    pub async fn offer_transfer(&self, link: String) -> Result<String, JsValue> {
        self.transfer.take();
        let offered = self.endpoint.offer_transfer(self.current()?, &parse(&link)?).await.map_err(Refused::from)?;
        let ticket = offered.ticket().as_str().to_owned();
        self.transfer.replace(Transfer { offers: Some(Rc::new(offered)), ..Transfer::default() });
        Ok(ticket)
    }

    /// Waits until a device asks with the ticket that is shown; its number.
    #[wasm_bindgen(js_name = transferAsked)]
    pub async fn transfer_asked(&self) -> Result<String, JsValue> {
        let offers = self.transfer.borrow().offers.clone().ok_or_else(stopped)?;
        let asked = self.until_stopped(async move { offers.asked().await }).await?;
        let number = asked.number().to_owned();
        self.transfer.borrow_mut().asked = Some(asked);
        Ok(number)
    }

    /// The person has said yes to the number.
    #[wasm_bindgen(js_name = giveTransfer)]
    pub async fn give_transfer(&self) -> Result<(), JsValue> {
        let Transfer { offers, asked, .. } = self.transfer.take();
        let (Some(offers), Some(asked)) = (offers, asked) else { return Err(stopped().into()) };
        Ok(self.until_stopped(async move { offers.give(&asked).await }).await?)
    }

    /// Asks, with a ticket that was scanned, for the recovery code of its customer; the number to compare.
    #[wasm_bindgen(js_name = askTransfer)]
    pub async fn ask_transfer(&self, link: String, ticket: String) -> Result<String, JsValue> {
        self.transfer.take();
        let asks = self.endpoint.ask_transfer(&parse(&link)?, &ticket).await.map_err(Refused::from)?;
        let number = asks.number();
        self.transfer.replace(Transfer { asks: Some(Rc::new(asks)), ..Transfer::default() });
        Ok(number)
    }

    /// Waits for the yes on the other device, and comes back as its customer.
    #[wasm_bindgen(js_name = takeTransfer)]
    pub async fn take_transfer(&self, link: String) -> Result<JsValue, JsValue> {
        let asks = self.transfer.borrow_mut().asks.take().ok_or_else(stopped)?;
        let code = self.until_stopped(async move { asks.answered().await }).await?;
        let begun = self.endpoint.recover(&parse(&link)?, code).await.map_err(Refused::from)?;
        self.current.set(Some(begun.id));
        to_js(&Conversation::from(begun))
    }

    /// Ends a transfer: its ticket is worth nothing any more.
    #[wasm_bindgen(js_name = stopTransfer)]
    pub async fn stop_transfer(&self) {
        self.transfer.take();
    }

    /// Brings the conversation back from the device on which it goes on.
    #[wasm_bindgen(js_name = takeBack)]
    pub async fn take_back(&self) -> Result<(), JsValue> {
        Ok(self.endpoint.take_back(self.current()?).await.map_err(Refused::from)?)
    }

    /// Asks the business for older messages than are here; they come with an event.
    pub async fn older(&self) -> Result<(), JsValue> {
        Ok(self.endpoint.older(self.current()?).await.map(drop).map_err(Refused::from)?)
    }

    /// Says something; it is durable once this returns.
    pub async fn send(&self, draft: JsValue) -> Result<JsValue, JsValue> {
        let draft: Draft = serde_wasm_bindgen::from_value(draft)?;
        let draft = bulla_client::event::Draft::try_from(draft)?;
        let said = self.endpoint.send(self.current()?, draft).await.map_err(Refused::from)?;
        to_js(&Message::from(said))
    }

    /// Everything up to this message was read.
    #[wasm_bindgen(js_name = markRead)]
    pub async fn mark_read(&self, id: String) -> Result<(), JsValue> {
        let id = shapes::id_from_text(&id)?;
        Ok(self.endpoint.mark_read(id).await.map_err(Refused::from)?)
    }

    /// The person types, or has stopped.
    pub async fn typing(&self, on: bool) -> Result<(), JsValue> {
        Ok(self.endpoint.typing(self.current()?, on).await.map_err(Refused::from)?)
    }

    /// Gives the business's own word for who this customer is there; it goes with the next message.
    pub async fn identify(&self, token: String) -> Result<(), JsValue> {
        Ok(self.endpoint.identify(self.current()?, token).await.map_err(Refused::from)?)
    }

    /// Where this browser is woken when the page is closed; null: nowhere any more.
    pub async fn push(&self, to: JsValue) -> Result<(), JsValue> {
        let to: Option<PushTo> = serde_wasm_bindgen::from_value(to)?;
        let to = to.map(PushSubscription::try_from).transpose()?;
        Ok(self.endpoint.push(self.current()?, to).await.map_err(Refused::from)?)
    }

    /// The person lets the business write for a purpose, `notifications` or `marketing`, or does no more, under the words that it saw.
    pub async fn decide(&self, purpose: &str, given: bool, wording: String) -> Result<(), JsValue> {
        let purpose = shapes::purpose_from_text(purpose)?;
        Ok(self.endpoint.decide(self.current()?, purpose, given, wording).await.map_err(Refused::from)?)
    }

    /// What the person calls herself.
    #[wasm_bindgen(js_name = setName)]
    pub async fn set_name(&self, name: String) -> Result<(), JsValue> {
        Ok(self.endpoint.set_name(self.current()?, name).await.map_err(Refused::from)?)
    }

    /// Up to `limit` messages before an order, or the newest; oldest first.
    pub async fn messages(&self, before: Option<f64>, limit: usize) -> Result<JsValue, JsValue> {
        let before = before.map(|order| order.max(0.0) as u64);
        let found = self.endpoint.messages(self.current()?, before, limit.min(PAGE)).await;
        let all: Vec<Message> = found.map_err(Refused::from)?.into_iter().map(Message::from).collect();
        to_js(&all)
    }
}

impl Device {
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// A file is being opened; what comes back tells whether that was stopped.
    pub(crate) fn begins(&self, message: MessageId) -> Rc<Cell<bool>> {
        let stopped = Rc::new(Cell::new(false));
        self.opening.borrow_mut().insert(message, Rc::clone(&stopped));
        stopped
    }

    pub(crate) fn stops(&self, message: &MessageId) {
        if let Some(stopped) = self.opening.borrow().get(message) {
            stopped.set(true);
        }
    }

    pub(crate) fn ended(&self, message: &MessageId) {
        self.opening.borrow_mut().remove(message);
    }

    /// Says something to the page that is no event of the engine's.
    pub(crate) fn tell(&self, event: &JsValue) {
        // What it makes of it is the page's.
        let _ = self.on_event.call1(&JsValue::NULL, event);
    }

    /// What a transfer waits for, unless it is ended meanwhile.
    async fn until_stopped<T>(&self, waits: impl Future<Output = Result<T, TransferError>>) -> Result<T, Refused> {
        let (waits, handle) = abortable(waits);
        self.transfer.borrow_mut().waiting = Some(Waiting(handle));
        waits.await.map_err(|_| stopped())?.map_err(Refused::from)
    }

    pub(crate) fn current(&self) -> Result<ConversationId, Refused> {
        let nothing = || Refused { code: "not-ready", message: "no conversation has begun here".into() };
        self.current.get().ok_or_else(nothing)
    }
}

fn stopped() -> Refused {
    Refused { code: "stopped", message: "the transfer was ended".into() }
}

fn parse(link: &str) -> Result<Link, Refused> {
    Link::parse(link).map_err(|e| Refused { code: "bad-link", message: e.to_string() })
}
