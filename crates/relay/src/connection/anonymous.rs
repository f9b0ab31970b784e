//! The anonymous role: sending with permits, and nothing else.
//!
//! A permit that is unknown, expired, forged, revoked, of a wrong kind or of no mailbox gets one and the same answer, after the
//! same work: for a mailbox that does not exist the proof is checked against a root that nobody knows.

use std::sync::Arc;

use bulla_protocol::frame::{Code, Send, client_frame};
use bulla_protocol::id::SendId;
use bulla_protocol::limits::{MAX_CONTACT_ENVELOPE, MAX_ENVELOPE};
use bulla_protocol::permit::{Class, Permit, PermitError};
use bulla_protocol::work::Task;

use super::{Closed, Incoming, Peer};
use crate::mailbox::{Admitted, Mailbox};
use crate::outbox::Refusal;

/// Takes sends until the connection ends.
pub(super) async fn serve(peer: &Peer, incoming: &mut Incoming) -> Closed {
    loop {
        let result = match incoming.next(&peer.outbox).await {
            Ok((request, client_frame::Body::Send(send))) => peer.send(request, send).await,
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
        // Waits, and with it the client, until enough of its earlier sends are answered.
        let bytes = u32::try_from(send.envelope.len()).unwrap_or(u32::MAX);
        if bytes > 0
            && let Ok(share) = Arc::clone(&self.bytes).acquire_many_owned(bytes).await
        {
            waiter.hold(share);
        }
        match self.admit(&permit, id, send).await {
            Ok((mailbox, admitted)) => mailbox.submit(admitted, self.relay.clock().day(), waiter),
            Err(refusal) => waiter.refuse(refusal),
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
        let valid = permit.is_valid_at(relay.clock().unix_secs());
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
