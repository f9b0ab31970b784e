//! What is signed or sealed end to end, before and around MLS.

use bulla_e2ee::bundle::{Bundle, BundleError};
use bulla_e2ee::certificate::{Certificate, CertificateError, Expect, Role};
use bulla_e2ee::content::{Content, ContentError, MessageId, RoomUri, SenderUri};
use bulla_e2ee::continues::{Continues, HEARD};
use bulla_e2ee::conversation::Conversation;
use bulla_e2ee::device::{Invitation, Join};
use bulla_e2ee::envelope::{EnvelopeError, EnvelopeKey, bucket};
use bulla_e2ee::hello::{Hello, HelloAgain, HelloError};
use bulla_e2ee::link::Link;
use bulla_e2ee::permits::GivenPermit;
use bulla_e2ee::turned_away;
use bulla_protocol::id::TagBlock;
use bulla_protocol::label;
use bulla_protocol::limits::{MAX_BUNDLE, MAX_CONTACT_ENVELOPE, MAX_ENVELOPE};
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use super::Verdict;
use super::world::{self, NOW, World, cbor, world};

/// A link's text.
pub fn link(bytes: &[u8]) -> Verdict {
    let Ok(text) = core::str::from_utf8(bytes) else { return Verdict::Refused };
    let Ok(link) = Link::parse(text) else { return Verdict::Refused };
    let again = link.to_string();
    assert_eq!(Link::parse(&again).as_ref(), Ok(&link), "what is accepted prints as the same link: {again}");
    assert!(!link.bundle_url().contains(['#', '?']), "nothing of query or fragment is sent");
    Verdict::Accepted
}

/// A permit as it travels inside messages, by itself and in a content's list of one.
pub fn given_permit(bytes: &[u8]) -> Verdict {
    let decoded = GivenPermit::decode(bytes);
    let list = cbor::array(&[cbor::text("wss://relay.test/v1/ws"), cbor::array(&[bytes.to_vec()])]);
    let content = cbor::array(&[
        cbor::bytes(&[7; 16]),
        cbor::NULL.to_vec(),
        cbor::bytes(&[]),
        cbor::NULL.to_vec(),
        cbor::NULL.to_vec(),
        [&[0xa1][..], &cbor::text("bulla/permits"), &cbor::bytes(&list)].concat(),
        cbor::array(&[vec![1], cbor::text(""), vec![0]]),
    ]);
    let in_content = Content::decode(&content);
    let Ok(permit) = decoded else {
        return Verdict::of(in_content.is_ok_and(|content| content.extensions.permits.is_some()));
    };
    assert_eq!(GivenPermit::decode(&permit.encode()).as_ref(), Ok(&permit), "what is accepted encodes to the same");
    let permits = in_content.unwrap().extensions.permits.unwrap().permits;
    assert_eq!(permits, [permit], "it is the same permit inside a list");
    Verdict::Accepted
}

/// A content's CBOR.
pub fn content(bytes: &[u8]) -> Verdict {
    let Ok(content) = Content::decode(bytes) else { return Verdict::Refused };
    // A shorter form of a media type may have been accepted than the one that is written.
    match content.encode() {
        Ok(again) => assert_eq!(Content::decode(&again).as_ref(), Ok(&content), "what is accepted encodes to the same"),
        Err(error) => assert_eq!(error, ContentError::TooLarge),
    }
    let (business, user) = (world::identity().hash(), world::pseudonym().user_id(&world::identity().hash()));
    let id = MessageId::of(&SenderUri::customer(&user), &RoomUri::new(&business, &user), bytes, &content.salt);
    assert_eq!(MessageId::from_wamid(&id.to_wamid()), Ok(id));
    Verdict::Accepted
}

/// An envelope as it comes from the relay; and what is inside one from whoever holds the grant's key.
pub fn envelope(bytes: &[u8]) -> Verdict {
    const TAG: TagBlock = TagBlock::new([7; 16]);
    let key = EnvelopeKey::from_bytes([3; 32]);
    assert_eq!(key.open(&TAG, bytes), Err(EnvelopeError::Refused), "nobody can guess what the key seals");

    let nonce = [5; 24];
    let whole = bucket(1 + nonce.len() + bytes.len() + 16);
    let mut padded = bytes.to_vec();
    padded.resize(whole - 1 - nonce.len() - 16, 0);
    let aad = [label::ENVELOPE, TAG.as_bytes()].concat();
    let payload = Payload { msg: &padded, aad: &aad };
    let sealed = XChaCha20Poly1305::new(key.expose().into()).encrypt(XNonce::from_slice(&nonce), payload).unwrap();
    let envelope = [&[1][..], &nonce, &sealed].concat();
    let opened = key.open(&TAG, &envelope);
    match opened {
        Ok((_, body)) => {
            assert!(envelope.len() <= MAX_ENVELOPE);
            assert_eq!(Some(body.as_slice()), padded.get(5..5 + body.len()));
            Verdict::Accepted
        }
        Err(_) => Verdict::Refused,
    }
}

/// A certificate from a stranger; and a payload that the identity itself signs.
pub fn certificate(bytes: &[u8]) -> Verdict {
    let hash = world::identity().hash();
    let pseudonym = world::pseudonym().public();
    let signed_by = |key: &[u8; 32]| world::sign(key, label::CERTIFICATE, bytes);
    let mut verdict = Verdict::Refused;
    for (certificate, expect) in [
        (bytes.to_vec(), Expect::business(hash)),
        (bytes.to_vec(), Expect::customer(hash, pseudonym)),
        (signed_by(&world::identity().to_bytes()), Expect::business(hash)),
        (signed_by(&world::pseudonym().to_bytes()), Expect::customer(hash, pseudonym)),
    ] {
        if let Ok(good) = Certificate::verify(&certificate, NOW, &expect) {
            assert_eq!((good.as_bytes(), good.role()), (certificate.as_slice(), expect.role));
            let late = Certificate::verify(&certificate, u64::MAX, &expect);
            assert_eq!(late, Err(CertificateError::Expired), "its time is over one day");
            verdict = Verdict::Accepted;
        }
    }
    verdict
}

/// A bundle from a stranger; and a payload that the business itself signs. In such a payload, an empty KeyPackage and an empty seal key
/// stand for good ones of this day, because a committed one expires.
pub fn bundle(bytes: &[u8]) -> Verdict {
    let identity = world::identity();
    let payload = cbor::items(bytes).map(|mut items| {
        for (at, live) in world::live_bundle().iter().enumerate() {
            if let Some(item) = items.get_mut(at).filter(|item| item.as_slice() == [0x40]) {
                item.clone_from(live);
            }
        }
        cbor::array(&items)
    });
    let signed = world::sign(&identity.to_bytes(), label::BUNDLE, payload.as_deref().unwrap_or(bytes));
    let mut verdict = Verdict::Refused;
    for bundle in [bytes, &signed] {
        match Bundle::verify(bundle, &identity.hash(), NOW) {
            Ok(good) => {
                assert!(bundle.len() <= MAX_BUNDLE);
                assert_eq!((good.identity(), good.contact().permit.mailbox), (&identity.public(), *good.mailbox()));
                verdict = Verdict::Accepted;
            }
            // A whole committed bundle is as good as it can be once it is weeks old.
            Err(BundleError::KeyPackageLifetime) => verdict = Verdict::Accepted,
            Err(_) => {}
        }
    }
    verdict
}

/// A Hello from a stranger; and what is inside one from a customer who knows the seal key, with the Welcome in it.
pub fn hello(bytes: &[u8]) -> Verdict {
    let World { keys, .. } = world();
    let (business, mailbox, tag) = (world::identity().hash(), world::BUSINESS_MAILBOX, world::contact_tag());
    let open = |envelope: &[u8]| Hello::open(keys, &business, &mailbox, &tag, envelope);
    assert_eq!(open(bytes).map(drop), Err(HelloError::Refused), "nobody can guess what was sealed");
    let Some(envelope) = world::seal_hello(bytes) else { return Verdict::Refused };
    assert!(envelope.len() <= MAX_CONTACT_ENVELOPE);
    let Ok(hello) = open(&envelope) else { return Verdict::Refused };
    assert_eq!(open(&envelope).unwrap().digest(), hello.digest(), "a replay has the same digest");
    // Whether its group can be joined is another question; what can, can be loaded again.
    if let Ok(conversation) = Conversation::join(keys, &business, &hello, NOW) {
        world::reload(&conversation);
    }
    Verdict::Accepted
}

/// The answer to a Hello, from a stranger; and what is inside one from a business.
pub fn hello_again(bytes: &[u8]) -> Verdict {
    const DIGEST: [u8; 32] = [4; 32];
    let key = &world().reply;
    assert_eq!(HelloAgain::open(key, &DIGEST, bytes), Err(HelloError::Refused), "nobody can guess what was sealed");
    let Ok(answer) = HelloAgain::seal(key.public(), &DIGEST, bytes) else { return Verdict::Refused };
    assert_eq!(HelloAgain::open(key, &DIGEST, &answer).as_deref(), Ok(bytes));
    bundle(bytes)
}

/// An invitation, from whoever shows the new device a picture.
pub fn invitation(bytes: &[u8]) -> Verdict {
    let Ok(invitation) = Invitation::decode(bytes) else { return Verdict::Refused };
    let again = Invitation::decode(&invitation.encode()).expect("what is accepted encodes to the same");
    assert_eq!(again.encode(), invitation.encode());
    assert!(format!("{invitation:?}").contains("redacted"));
    Verdict::Accepted
}

/// A device's request to be let in, from a stranger; and a payload that a device of the customer's signs. In such a payload an empty KeyPackage
/// stands for a good one of this day, because a committed one expires.
pub fn join(bytes: &[u8]) -> Verdict {
    let expect = Expect::customer(world::identity().hash(), world::pseudonym().public());
    let payload = cbor::items(bytes).map(|mut items| {
        if let Some(spare) = items.get_mut(3).filter(|item| item.as_slice() == [0x40]) {
            *spare = cbor::bytes(world::live_spare());
        }
        cbor::array(&items)
    });
    let signed = world::sign(&world::device_leaf(), label::DEVICE_JOIN, payload.as_deref().unwrap_or(bytes));
    let mut verdict = Verdict::Refused;
    for request in [bytes, &signed] {
        if let Ok(join) = Join::open(request, &expect, NOW) {
            assert_eq!(join.endpoint(), world::device().certificate().endpoint());
            assert!(!join.permits.permits.is_empty());
            verdict = Verdict::Accepted;
        }
    }
    verdict
}

/// A statement that continues a conversation, from a stranger; and `[payload, Welcome]` that business, customer and a device of the customer's
/// sign. In such a payload an empty digest stands for the Welcome's.
pub fn continues(bytes: &[u8]) -> Verdict {
    use sha2::{Digest as _, Sha256};
    let business = world::identity().hash();
    let user = world::pseudonym().user_id(&business);
    let open = |body: &[u8]| Continues::open(body, &business, &user);
    let mut bodies = vec![bytes.to_vec()];
    let parts = cbor::items(bytes).filter(|items| items.len() == 2);
    if let Some((payload, welcome)) = parts.and_then(|p| Some((cbor::content(&p[0])?, cbor::content(&p[1])?))) {
        let payload = cbor::items(&payload).map_or(payload, |mut items| {
            if let Some(digest) = items.get_mut(7).filter(|item| item.as_slice() == [0x40]) {
                *digest = cbor::bytes(&Sha256::digest(&welcome));
            }
            cbor::array(&items)
        });
        for key in [*world::identity().to_bytes(), *world::pseudonym().to_bytes(), world::device_leaf()] {
            let signed = world::sign(&key, label::CONTINUES, &payload);
            bodies.push(cbor::array(&[cbor::bytes(&signed), cbor::bytes(&welcome)]));
        }
    }
    let mut verdict = Verdict::Refused;
    for says in bodies.iter().filter_map(|body| open(body).ok()) {
        // Whoever says it, says it under a key that has signed it.
        let identity =
            if says.role == Role::Business { world::identity().public() } else { world::pseudonym().public() };
        assert_eq!(says.identity, identity, "nobody else has signed anything here");
        assert!(says.heard.len() <= HEARD);
        verdict = Verdict::Accepted;
    }
    verdict
}

/// What turns a device away, from a stranger; and a payload that the business signs.
pub fn turned_away(bytes: &[u8]) -> Verdict {
    let (identity, device) = (world::identity(), "phone");
    let user = world::pseudonym().user_id(&identity.hash());
    let open = |body: &[u8]| turned_away::open(body, &identity.public(), &user, device);
    let Ok(reason) = open(bytes).or_else(|_| open(&world::sign(&identity.to_bytes(), label::TURNED_AWAY, bytes)))
    else {
        return Verdict::Refused;
    };
    let again = turned_away::seal(&identity, &user, device, reason);
    assert_eq!(open(&again), Ok(reason), "what is accepted is said again the same");
    Verdict::Accepted
}
