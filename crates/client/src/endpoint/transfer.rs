//! A recovery code goes to another device of the same customer, once: `bulla_e2ee::transfer` over two cells of the business's relay.
//!
//! Beside the engine and outside its store: a transfer that is interrupted never was, and its ticket is worth nothing. Its connections are its own, so
//! that no relay can tie a cell to a mailbox by the connection. The relay does not call: a cell that is waited for is read again and again.

use std::time::Duration;

use bulla_e2ee::identity::IdentityHash;
use bulla_e2ee::link::Link;
use bulla_e2ee::recovery::RecoveryCode;
use bulla_e2ee::transfer::{Asked, Asker, Giver, Ticket, TransferError as Refusal};
use bulla_protocol::frame::{
    ClaimSlot, ClientFrame, ClientHello, Code, ReadSlot, Role, ServerFrame, ServerHello, client_frame, server_frame,
};
use bulla_protocol::id::{Challenge, SlotId};
use bulla_protocol::work::Task;
use bulla_protocol::{VERSION, limits};
use rand_core::OsRng;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{CommandError, Endpoint, ToDriver};
use crate::clock::Clock;
use crate::event::ConversationId;
use crate::rt;
use crate::transport::{Connection, Transport, TransportError};

/// How long a ticket is good: long enough to find the other device and to unlock it, short for a picture of the screen that somebody looks at later.
const TICKET_MS: u64 = 10 * 60_000;

/// How long a device that has asked waits for its answer. The other one's time began before.
const ANSWER_MS: u64 = TICKET_MS;

/// How long a cell may take to be claimed: a relay that is not there for so long is said to be out of reach.
const CLAIM_MS: u64 = 30_000;

/// Pause between two looks into a cell: a person waits for it.
const LOOK: Duration = Duration::from_secs(1);

/// Why a transfer did not happen. Whatever it is, the ticket is worth nothing any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// As any other command.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The ticket's time has passed, or nobody answered in it.
    #[error("the time for it has passed")]
    Expired,
    /// Another device was faster: the cell is taken.
    #[error("another device has used this ticket already")]
    Used,
    /// Not a ticket, or what came back is not from the other device.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The relay is not reached, or takes no claim.
    #[error("the relay does not take it: {0}")]
    Relay(String),
}

/// What is asked of a relay's cells.
pub(super) struct CellRequest {
    relay: String,
    slot: SlotId,
    /// What is claimed; without it the cell is read until something stands in it.
    claim: Option<Vec<u8>>,
    /// By the endpoint's clock.
    until_ms: u64,
    answer: oneshot::Sender<Result<Vec<u8>, TransferError>>,
}

/// A ticket that is being shown. Dropped, it ends: nothing answers any more.
pub struct TransferOffer {
    endpoint: Endpoint,
    relay: String,
    giver: Giver,
    code: RecoveryCode,
    until_ms: u64,
}

impl std::fmt::Debug for TransferOffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TransferOffer(redacted)")
    }
}

impl TransferOffer {
    /// What is shown to the other device.
    #[must_use]
    pub fn ticket(&self) -> Zeroizing<String> {
        self.giver.ticket().to_text()
    }

    /// Waits until a device asks. Nothing is given by that.
    pub async fn asked(&self) -> Result<Asked, TransferError> {
        let cell = self.endpoint.cell(&self.relay, self.giver.asking(), None, self.until_ms).await?;
        Ok(self.giver.asked(&cell)?)
    }

    /// Gives the code to the device that asked, after its number was compared. Once: the cell that it goes into is then taken.
    pub async fn give(&self, asked: &Asked) -> Result<(), TransferError> {
        let answer = self.giver.give(asked, &self.code, &mut OsRng)?;
        self.endpoint.cell(&self.relay, self.giver.answering(), Some(answer), self.until_ms).await.map(drop)
    }
}

/// A device that has asked, and waits.
pub struct TransferAsk {
    endpoint: Endpoint,
    relay: String,
    asker: Asker,
    until_ms: u64,
}

impl std::fmt::Debug for TransferAsk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TransferAsk(redacted)")
    }
}

impl TransferAsk {
    /// Six digits, for the person to compare.
    #[must_use]
    pub fn number(&self) -> String {
        self.asker.number()
    }

    /// Waits for the code.
    pub async fn answered(&self) -> Result<RecoveryCode, TransferError> {
        let cell = self.endpoint.cell(&self.relay, self.asker.answering(), None, self.until_ms).await?;
        Ok(self.asker.answered(&cell)?)
    }
}

impl Endpoint {
    /// Offers a conversation's recovery code to another device of its customer, for ten minutes and as long as what is returned is held. The link is
    /// the conversation's: it says which relay both devices find.
    pub async fn offer_transfer(&self, of: ConversationId, link: &Link) -> Result<TransferOffer, TransferError> {
        let card = self.look(link).await?;
        let (code, business, now) = self
            .run(move |engine, ctx| {
                let code = engine.recovery_code(ctx, of)?;
                Ok((code, engine.business_of(ctx, of)?, ctx.tx.now_ms()))
            })
            .await?;
        if business != card.key {
            return Err(CommandError::UnknownConversation.into());
        }
        let giver = Giver::new(card.key, &mut OsRng);
        Ok(TransferOffer {
            endpoint: self.clone(),
            relay: card.relay_url,
            giver,
            code,
            until_ms: now.saturating_add(TICKET_MS),
        })
    }

    /// Asks the device that shows a ticket for the code. `Ok` means that this was the first to ask; what its person sees is its number.
    pub async fn ask_transfer(&self, link: &Link, ticket: &str) -> Result<TransferAsk, TransferError> {
        let ticket = Ticket::parse(ticket)?;
        let business: IdentityHash = *link.key();
        if self.conversation_with(&business).await?.is_some() {
            return Err(CommandError::AlreadyHere.into());
        }
        let relay = self.look(link).await?.relay_url;
        let now = self.run(|_, ctx| Ok(ctx.tx.now_ms())).await?;
        let asker = Asker::new(ticket, business, &mut OsRng)?;
        let request = asker.ask(&mut OsRng)?;
        self.cell(&relay, asker.asking(), Some(request), now.saturating_add(CLAIM_MS)).await?;
        Ok(TransferAsk { endpoint: self.clone(), relay, asker, until_ms: now.saturating_add(ANSWER_MS) })
    }

    async fn cell(
        &self,
        relay: &str,
        slot: SlotId,
        claim: Option<Vec<u8>>,
        until_ms: u64,
    ) -> Result<Vec<u8>, TransferError> {
        let (answer, answered) = oneshot::channel();
        let request = CellRequest { relay: relay.to_owned(), slot, claim, until_ms, answer };
        self.inputs.send(ToDriver::Cell(request)).map_err(|_| CommandError::Stopped)?;
        answered.await.map_err(|_| CommandError::Stopped)?
    }
}

/// Does what is asked until it is done, its time has passed, or whoever asked has gone.
pub(super) async fn handle<T: Transport>(transport: T, clock: std::sync::Arc<dyn Clock>, request: CellRequest) {
    let CellRequest { relay, slot, claim, until_ms, mut answer } = request;
    let mut why = None;
    let result = loop {
        if clock.now_ms() >= until_ms {
            break Err(match (&claim, why) {
                (Some(_), Some(TransportError(why))) => TransferError::Relay(why),
                _ => TransferError::Expired,
            });
        }
        let tried = async {
            let mut cells = Cells::open(&transport, &relay).await?;
            match &claim {
                Some(content) => cells.claim(slot, content).await,
                None => cells.wait(slot, &*clock, until_ms).await,
            }
        };
        let gone = std::pin::pin!(answer.closed());
        let tried = std::pin::pin!(tried);
        match futures_util::future::select(gone, tried).await {
            futures_util::future::Either::Left(_) => return,
            futures_util::future::Either::Right((Ok(done), _)) => break done,
            futures_util::future::Either::Right((Err(error), _)) => {
                tracing::debug!(%error, "a cell was not reached");
                why = Some(error);
            }
        }
        rt::sleep(LOOK).await;
    };
    // Whoever asked may have gone in this moment.
    let _ = answer.send(result);
}

/// A connection that reads and claims cells, and nothing else.
struct Cells<C> {
    connection: C,
    hello: ServerHello,
    challenge: Challenge,
    request: u64,
}

impl<C: Connection> Cells<C> {
    async fn open<T: Transport<Connection = C>>(transport: &T, relay: &str) -> Result<Self, TransportError> {
        let not_a_relay = || TransportError("it is not a relay, or of a version that is not understood".into());
        let mut connection = transport.connect(relay).await?;
        let first = rt::timeout(limits::HELLO_TIMEOUT, connection.receive()).await;
        let frame = first.ok_or_else(|| TransportError("the relay says nothing".into()))??.ok_or_else(not_a_relay)?;
        let Ok((_, server_frame::Body::Hello(hello))) = ServerFrame::from_bytes(frame) else {
            return Err(not_a_relay());
        };
        let challenge = Challenge::from_slice(&hello.challenge).map_err(|_| not_a_relay())?;
        if !hello.versions.contains(&VERSION) {
            return Err(not_a_relay());
        }
        let mut cells = Self { connection, hello, challenge, request: 0 };
        let ours = ClientHello { version: VERSION, role: Role::Anonymous as i32 };
        match cells.ask(client_frame::Body::Hello(ours)).await? {
            server_frame::Body::Done(_) => Ok(cells),
            _ => Err(not_a_relay()),
        }
    }

    async fn ask(&mut self, body: client_frame::Body) -> Result<server_frame::Body, TransportError> {
        self.request += 1;
        self.connection.send(vec![ClientFrame::new(self.request, body).to_bytes()]).await?;
        loop {
            let received = rt::timeout(limits::IDLE_TIMEOUT, self.connection.receive()).await;
            let frame = received
                .ok_or_else(|| TransportError("the relay is silent".into()))??
                .ok_or_else(|| TransportError("the relay closed the connection".into()))?;
            match ServerFrame::from_bytes(frame) {
                Ok((request, body)) if request == self.request => return Ok(body),
                Ok(_) => {}
                Err(e) => return Err(TransportError(format!("the relay sent something that is not a frame: {e}"))),
            }
        }
    }

    /// Reads a cell until something stands in it.
    async fn wait(
        &mut self,
        slot: SlotId,
        clock: &dyn Clock,
        until_ms: u64,
    ) -> Result<Result<Vec<u8>, TransferError>, TransportError> {
        loop {
            match self.ask(client_frame::Body::ReadSlot(ReadSlot { slot: slot.to_vec() })).await? {
                // Too late is too late, also for what has come.
                _ if clock.now_ms() >= until_ms => return Ok(Err(TransferError::Expired)),
                server_frame::Body::SlotRead(read) if !read.commit.is_empty() => return Ok(Ok(read.commit.to_vec())),
                server_frame::Body::SlotRead(_) => rt::sleep(LOOK).await,
                other => return refused(&other),
            }
        }
    }

    /// Writes a cell. The same bytes once more, after an answer that was lost, win again.
    async fn claim(&mut self, slot: SlotId, content: &[u8]) -> Result<Result<Vec<u8>, TransferError>, TransportError> {
        let bits = self.hello.work_bits.min(limits::MAX_WORK_BITS);
        let work_nonce = search(Task::slot(&self.challenge, &slot, content), bits).await?;
        let claim = ClaimSlot { slot: slot.to_vec(), commit: content.to_vec().into(), work_nonce };
        match self.ask(client_frame::Body::ClaimSlot(claim)).await? {
            server_frame::Body::SlotClaimed(claimed) if claimed.won => Ok(Ok(Vec::new())),
            server_frame::Body::SlotClaimed(_) => Ok(Err(TransferError::Used)),
            other => refused(&other),
        }
    }
}

/// What a relay refuses for good is said; what it cannot take now is tried again, on another connection.
fn refused(body: &server_frame::Body) -> Result<Result<Vec<u8>, TransferError>, TransportError> {
    let server_frame::Body::Failed(failed) = body else {
        return Err(TransportError("the relay answers something else".into()));
    };
    match failed.code() {
        code @ (Code::Unsupported | Code::TooLarge) => Ok(Err(TransferError::Relay(format!("{code:?}")))),
        code => Err(TransportError(format!("the relay refuses it for now: {code:?}"))),
    }
}

async fn search(task: Task, bits: u32) -> Result<u64, TransportError> {
    let (found, searched) = oneshot::channel();
    let mut found = Some(found);
    let mut from = 0;
    rt::aside(move || {
        if found.as_ref().is_none_or(oneshot::Sender::is_closed) {
            return true;
        }
        let nonce = task.search(bits, from, rt::SEARCHED_AT_ONCE);
        from += rt::SEARCHED_AT_ONCE;
        if let (Some(nonce), Some(found)) = (nonce, nonce.and_then(|_| found.take())) {
            let _ = found.send(nonce);
            return true;
        }
        false
    });
    searched.await.map_err(|_| TransportError("stopped".into()))
}
