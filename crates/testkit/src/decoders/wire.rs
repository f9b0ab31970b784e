//! What crosses the relay's wire, and the names that people and programs write.

use bulla_e2ee::content::MessageId;
use bulla_e2ee::identity::{IdentityHash, UserId};
use bulla_e2ee::link::is_handle;
use bulla_e2ee::tag::TagKey;
use bulla_protocol::frame::{ClientFrame, FrameError, ServerFrame, client_frame, server_frame};
use bulla_protocol::id::{
    Challenge, GrantId, Incarnation, IncarnationNonce, InstanceId, MailboxId, SendId, TagBlock, exact,
};
use bulla_protocol::limits::MAX_FRAME;
use bulla_protocol::ownership::{verify_create, verify_open};
use bulla_protocol::permit::{Class, MacRoot, PERMIT_LEN, Permit, RelayName};
use bulla_protocol::work::Task;
use bytes::Bytes;

use super::Verdict;

const CHALLENGE: Challenge = Challenge::new([1; 32]);

fn relay_name() -> RelayName {
    RelayName::new("relay.test").unwrap()
}

/// A client's frame, and the fields that the relay reads before it knows whether it may believe them.
pub fn client_frame(bytes: &[u8]) -> Verdict {
    let decoded = ClientFrame::from_bytes(Bytes::copy_from_slice(bytes));
    assert!(bytes.len() <= MAX_FRAME || decoded == Err(FrameError::TooLarge));
    let Ok((request, body)) = decoded else { return Verdict::Refused };
    let again = ClientFrame::new(request, body.clone()).to_bytes();
    if again.len() <= MAX_FRAME {
        assert_eq!(ClientFrame::from_bytes(again), Ok((request, body.clone())), "what is accepted encodes to the same");
    }
    match body {
        client_frame::Body::Hello(hello) => drop(hello.role()),
        client_frame::Body::Create(create) => {
            let (mailbox, root) = (MailboxId::from_slice(&create.mailbox), MacRoot::from_slice(&create.mac_root));
            if let (Ok(mailbox), Ok(root), Ok(key)) = (mailbox, root, exact(&create.owner_key)) {
                let _ = Task::mailbox(&CHALLENGE, &mailbox).accepts(create.work_nonce, 16);
                let _ = verify_create(&key, &relay_name(), &CHALLENGE, &mailbox, &root, &create.signature);
            }
        }
        client_frame::Body::Open(open) => {
            let nonce = IncarnationNonce::from_slice(&open.incarnation_nonce);
            if let (Ok(mailbox), Ok(nonce)) = (MailboxId::from_slice(&open.mailbox), nonce) {
                let incarnation = Incarnation { number: open.incarnation, nonce };
                let _ = verify_open(&[2; 32], &relay_name(), &CHALLENGE, &mailbox, &incarnation, &open.signature);
            }
        }
        client_frame::Body::Revoke(revoke) => drop(GrantId::from_slice(&revoke.grant)),
        client_frame::Body::Send(send) => {
            let permit = send.permit.as_ref().and_then(|permit| {
                let read = Permit::from_frame(permit).ok()?;
                assert_eq!(read.to_frame(), *permit, "what is accepted encodes to the same");
                Some(read)
            });
            if let (Some(permit), Ok(id)) = (permit, SendId::from_slice(&send.send_id)) {
                let mac = MacRoot::new([3; 32]).grant_key(&permit.grant).mac(&permit);
                let _ = mac.verify(&relay_name(), &id, &send.envelope, &send.proof);
                let _ = permit.is_valid_at(u64::MAX);
                let _ = Task::contact(&CHALLENGE, &permit.mailbox, &send.envelope).accepts(send.work_nonce, 16);
            }
        }
        _ => {}
    }
    Verdict::Accepted
}

/// A relay's frame. What an endpoint makes of it is in [`super::endpoint`].
pub fn server_frame(bytes: &[u8]) -> Verdict {
    let decoded = ServerFrame::from_bytes(Bytes::copy_from_slice(bytes));
    assert!(bytes.len() <= MAX_FRAME || decoded == Err(FrameError::TooLarge));
    let Ok((request, body)) = decoded else { return Verdict::Refused };
    let again = ServerFrame::new(request, body.clone()).to_bytes();
    if again.len() <= MAX_FRAME {
        assert_eq!(ServerFrame::from_bytes(again), Ok((request, body.clone())), "what is accepted encodes to the same");
    }
    match body {
        server_frame::Body::Hello(hello) => {
            if let Some(name) = RelayName::new(&hello.name) {
                assert_eq!(usize::from(name.prefixed()[0]), name.as_str().len(), "its length fits into one byte");
            }
            let _ = (Challenge::from_slice(&hello.challenge), InstanceId::from_slice(&hello.instance));
        }
        server_frame::Body::Failed(failed) => drop(failed.code()),
        server_frame::Body::Deliver(deliver) => {
            let _ = (TagBlock::from_slice(&deliver.tag), Class::from_wire(deliver.class));
        }
        _ => {}
    }
    Verdict::Accepted
}

/// A permit's canonical bytes.
pub fn permit(bytes: &[u8]) -> Verdict {
    let Ok(permit) = Permit::from_bytes(bytes) else { return Verdict::Refused };
    assert_eq!(permit.to_bytes(), bytes, "a permit has one form");
    assert_eq!(Permit::from_frame(&permit.to_frame()), Ok(permit));
    assert_eq!(bytes.len(), PERMIT_LEN);
    assert!(!permit.is_valid_at(permit.expires_unix_secs()), "its expiry is exclusive");
    Verdict::Accepted
}

/// A key and a tag block under it.
pub fn tag(bytes: &[u8]) -> Verdict {
    let Some((key, block)) = bytes.split_first_chunk::<32>() else { return Verdict::Refused };
    let Ok(block) = TagBlock::from_slice(block) else { return Verdict::Refused };
    let key = TagKey::from_bytes(*key);
    let Some(tag) = key.open(&block) else { return Verdict::Refused };
    assert_eq!(key.seal(&tag), block, "a tag has one block");
    Verdict::Accepted
}

/// Everything that is read from a short text: ids in paths and parameters, hashes in links, handles, a relay's name.
pub fn names(bytes: &[u8]) -> Verdict {
    let Ok(text) = core::str::from_utf8(bytes) else { return Verdict::Refused };
    let same = |again: String| assert_eq!(again, text, "a name has one form");
    let mut accepted = is_handle(text);
    accepted |= MailboxId::from_hex(text).map(|id| same(id.to_hex())).is_some();
    accepted |= text.parse::<UserId>().map(|id| same(id.to_string())).is_ok();
    accepted |= text.parse::<IdentityHash>().map(|hash| same(hash.to_string())).is_ok();
    accepted |= MessageId::from_wamid(text).map(|id| same(id.to_wamid())).is_ok();
    if let Some(name) = RelayName::new(text) {
        same(name.as_str().to_owned());
    }
    Verdict::of(accepted)
}
