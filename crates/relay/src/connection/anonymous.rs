//! The anonymous role: sending with permits, claiming and reading commit slots, and nothing else.
//!
//! A permit that is unknown, expired, forged, revoked, of a wrong kind or of no mailbox gets one and the same answer, after the
//! same work: for a mailbox that does not exist the proof is checked against a root that nobody knows.

use std::sync::Arc;

use bulla_protocol::frame::{ClaimSlot, Code, ReadSlot, Send, SlotRead, client_frame, server_frame::Body};
use bulla_protocol::id::{SendId, SlotId};
use bulla_protocol::limits::{IDLE_TIMEOUT, MAX_CONTACT_ENVELOPE, MAX_ENVELOPE, MAX_SLOT_COMMIT};
use bulla_protocol::permit::{Class, Permit, PermitError};
use bulla_protocol::work::Task;
use tokio::time::Instant;

use super::{Closed, Incoming, Peer};
use crate::limits;
use crate::mailbox::rate::Claims;
use crate::mailbox::{Admitted, Mailbox};
use crate::outbox::{Refusal, Waiter};
use crate::sabotage::{Rule, broken};
use crate::slots::{self, Claim};

/// Takes sends, claims and reads until the connection ends.
pub(super) async fn serve(peer: &Peer, incoming: &mut Incoming) -> Closed {
    let mut claims = Claims::default();
    loop {
        let result = match incoming.next(&peer.outbox).await {
            Ok((request, client_frame::Body::Send(send))) => peer.send(request, send).await,
            Ok((request, client_frame::Body::ClaimSlot(claim))) => peer.claim(&mut claims, request, claim).await,
            Ok((request, client_frame::Body::ReadSlot(read))) => peer.read_slot(request, &read).await,
            Ok((request, other)) => peer.common(request, &other),
            Err(why) => Err(why),
        };
        if let Err(why) = result {
            return why;
        }
    }
}

impl Peer {
    async fn send(&self, request: u64, send: Send) -> Result<(), Closed> {
        let malformed = |what| Closed::Malformed(request, what);
        let Some(mut waiter) = self.waiter(request)? else { return Ok(()) };
        let id = SendId::from_slice(&send.send_id).map_err(|_| malformed("send id"))?;
        if send.proof.len() != 32 {
            return Err(malformed("proof"));
        }
        let permit = match Permit::from_frame(send.permit.as_ref().ok_or(malformed("no permit"))?) {
            Ok(permit) => permit,
            Err(PermitError::Length(_)) => return Err(malformed("permit")),
            Err(_) => {
                waiter.refuse(Code::Refused);
                return Ok(());
            }
        };
        self.make_room(&mut waiter, send.envelope.len()).await?;
        match self.admit(&permit, id, send).await {
            Ok((mailbox, admitted)) => mailbox.submit(admitted, self.relay.clock().day(), waiter),
            Err(refusal) => waiter.refuse(refusal),
        }
        Ok(())
    }

    /// Waits, and with it the client, until enough of its earlier sends and claims are answered and the answers written. A client that
    /// does not read them is as good as silent.
    async fn make_room(&self, waiter: &mut Waiter, bytes: usize) -> Result<(), Closed> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if bytes == 0 {
            return Ok(());
        }
        let share = Arc::clone(&self.bytes).acquire_many_owned(bytes);
        let share = tokio::select! {
            () = self.relay.stopping().cancelled() => return Err(Closed::Stopping),
            share = tokio::time::timeout(IDLE_TIMEOUT, share) => share.map_err(|_| Closed::Idle)?,
        };
        if let Ok(share) = share {
            waiter.hold(share);
        }
        Ok(())
    }

    async fn claim(&self, claims: &mut Claims, request: u64, claim: ClaimSlot) -> Result<(), Closed> {
        let malformed = |what| Closed::Malformed(request, what);
        let Some(mut waiter) = self.waiter(request)? else { return Ok(()) };
        let slot = SlotId::from_slice(&claim.slot).map_err(|_| malformed("slot id"))?;
        if claim.commit.is_empty() {
            return Err(malformed("empty commit"));
        }
        if claim.commit.len() > MAX_SLOT_COMMIT {
            waiter.refuse(Code::TooLarge);
        } else if !Task::slot(&self.challenge, &slot, &claim.commit).accepts(claim.work_nonce, self.relay.work_bits()) {
            waiter.refuse(Code::Work);
        } else if let Err(wait) = claims.take(Instant::now()) {
            waiter.refuse(Refusal::rate(wait));
        } else {
            self.make_room(&mut waiter, limits::CLAIM_BYTES).await?;
            let today = self.relay.clock().day();
            slots::claim(self.relay.shared(), Claim { slot, commit: claim.commit, today }, waiter);
        }
        Ok(())
    }

    /// Answered before the next request is taken: an answer is a thousand times larger than its request.
    async fn read_slot(&self, request: u64, read: &ReadSlot) -> Result<(), Closed> {
        let Some(waiter) = self.waiter(request)? else { return Ok(()) };
        let slot = SlotId::from_slice(&read.slot).map_err(|_| Closed::Malformed(request, "slot id"))?;
        let today = self.relay.clock().day();
        match self.relay.registry().read(move |store| store.slot(&slot)).await {
            Ok(found) => {
                let standing = found.filter(|slot| !slot.is_over(today));
                let commit = standing.map(|slot| slot.commit).unwrap_or_default();
                waiter.answer(Body::SlotRead(SlotRead { commit }));
            }
            Err(unavailable) => waiter.refuse(unavailable),
        }
        Ok(())
    }

    /// Checks the permit, then what it allows.
    async fn admit(&self, permit: &Permit, id: SendId, send: Send) -> Result<(Arc<Mailbox>, Admitted), Refusal> {
        let relay = &self.relay;
        let mailbox = relay.registry().get(&permit.mailbox).await?;
        let root = mailbox.as_ref().map_or(relay.nobodys_root(), |mailbox| mailbox.root());
        let mac = root.grant_key(&permit.grant).mac(permit);
        let proven = mac.verify(relay.name(), &id, &send.envelope, &send.proof);
        let valid = permit.is_valid_at(relay.clock().unix_secs()) || broken(Rule::PermitExpires);
        let mailbox = mailbox.filter(|mailbox| mailbox.allows(&permit.grant));
        let Some(mailbox) = mailbox.filter(|_| proven && valid) else { return Err(Code::Refused.into()) };

        let of_class = match permit.class {
            Class::Ordinary => MAX_ENVELOPE,
            Class::Contact => MAX_CONTACT_ENVELOPE,
        };
        if send.envelope.len() > of_class.min(usize::from(permit.max_kib) * 1024) {
            return Err(Code::TooLarge.into());
        }
        if permit.class == Class::Contact {
            let task = Task::contact(&self.challenge, &permit.mailbox, &send.envelope);
            if !task.accepts(send.work_nonce, relay.work_bits()) {
                return Err(Code::Work.into());
            }
        }
        Ok((mailbox, Admitted { permit: *permit, send: id, envelope: send.envelope }))
    }
}
