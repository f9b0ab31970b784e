//! Attacks on what is signed and sealed before a conversation exists. Names carry the row of the attack catalogue.

use bulla_e2ee::bundle::{Bundle, BundleError, BusinessKeys, make_bundle};
use bulla_e2ee::certificate::{Certificate, CertificateError, Expect, Subject, issue_business, issue_customer};
use bulla_e2ee::content::{Body, Content};
use bulla_e2ee::conversation::{Conversation, OpenError};
use bulla_e2ee::envelope::{EnvelopeKey, Kind};
use bulla_e2ee::hello::{Hello, HelloAgain, HelloError, HelloParams, ReplyKey, hello_digest};
use bulla_e2ee::identity::{BusinessIdentity, IdentityHash, Pseudonym};
use bulla_e2ee::permits::GivenPermit;
use bulla_e2ee::suite::{Suite, Suites};
use bulla_e2ee::tag::Purpose;
use bulla_protocol::id::TagBlock;
use bulla_protocol::label;
use rand_core::OsRng;

use crate::craft::{
    array, bstr, content_of, items, mutations, open_hello, payload, seal_hello, seal_padded, sign, small_order_ed25519,
    small_order_x25519,
};
use crate::world::{
    BUSINESS_MAILBOX, Business, CUSTOMER_MAILBOX, conversation, customer_permits, now, params, permit, says_hello,
};

const SUBJECT: Subject<'_> =
    Subject { handle: "rosi", endpoint: "gateway", not_after: u64::MAX, suites: Suites::DEFAULT };

fn open(business: &Business, hello: &[u8]) -> Result<(), HelloError> {
    let tag = params().contact.permit.tag;
    Hello::open(&business.keys, &business.identity.hash(), &BUSINESS_MAILBOX, &tag, hello).map(drop)
}

#[test]
fn mls_01_mls_02_mutated_certificates_are_refused() {
    let identity = BusinessIdentity::generate(&mut OsRng);
    let leaf = Pseudonym::generate(&mut OsRng).public();
    let certificate = issue_business(&identity, &leaf, &SUBJECT);
    let expect = Expect::business(identity.hash());
    assert!(Certificate::verify(&certificate, 0, &expect).is_ok());
    for mutated in mutations(&certificate) {
        assert!(Certificate::verify(&mutated, 0, &expect).is_err());
    }
}

#[test]
fn mls_01_mls_02_mutated_bundles_are_refused() {
    let business = Business::new();
    for mutated in mutations(&business.bundle) {
        assert!(Bundle::verify(&mutated, &business.identity.hash(), now()).is_err());
    }
}

#[test]
fn mls_01_mls_02_key_07_mutated_hellos_are_refused_with_one_error() {
    let business = Business::new();
    let said = says_hello(&Pseudonym::generate(&mut OsRng), &business.verified(), b"first");
    assert_eq!(open(&business, &said.hello), Ok(()));
    for mutated in mutations(&said.hello) {
        assert_eq!(open(&business, &mutated), Err(HelloError::Refused));
    }
}

#[test]
fn mls_01_mls_02_key_07_mutated_answers_are_refused_with_one_error() {
    let key = ReplyKey::generate(&mut OsRng).unwrap();
    let answer = HelloAgain::seal(key.public(), &[1; 32], b"bundle").unwrap();
    assert_eq!(HelloAgain::open(&key, &[1; 32], &answer).as_deref(), Ok(&b"bundle"[..]));
    for mutated in mutations(&answer) {
        assert_eq!(HelloAgain::open(&key, &[1; 32], &mutated), Err(HelloError::Refused));
    }
}

/// KEY-07: a customer who knows the seal key learns nothing by what he puts wrong inside a well-sealed Hello.
#[test]
fn key_07_whatever_is_wrong_inside_a_hello_the_answer_is_the_same() {
    let business = Business::new();
    let bundle = business.verified();
    let pseudonym = Pseudonym::generate(&mut OsRng);
    let said = says_hello(&pseudonym, &bundle, b"first");
    let cbor = open_hello(&business.keys.to_bytes(), &bundle, &said.hello);
    assert_eq!(open(&business, &seal_hello(&bundle, &cbor)), Ok(()));
    let good = items(&cbor);
    let wrong = |index: usize, item: Vec<u8>| {
        let mut items = good.clone();
        items[index] = item;
        array(&items)
    };
    let other = Pseudonym::generate(&mut OsRng);
    let mut cases = vec![
        wrong(0, vec![2]),
        wrong(1, bstr(&other.public())),
        wrong(1, bstr(&[0; 31])),
        wrong(2, minicbor::to_vec("wss://mallory.example/").unwrap()),
        wrong(3, array(&[customer_permits()[0].encode()])),
        wrong(3, array(&[])),
        wrong(3, array(&vec![customer_permits()[0].encode(); 9])),
        wrong(5, bstr(&[1, 2, 3])),
        wrong(7, bstr(&[0; 64])),
        array(&good[..7]),
        vec![],
    ];
    cases.push([&cbor[..], &[0]].concat());
    for point in small_order_x25519() {
        let mut reply_key = content_of(&good[4]);
        reply_key[1184..].copy_from_slice(&point);
        cases.push(wrong(4, bstr(&reply_key)));
    }
    for case in cases {
        assert_eq!(open(&business, &seal_hello(&bundle, &case)), Err(HelloError::Refused));
    }
    // Padding that is not zeros, a length beyond the end, and a whole that has no bucket's size.
    let mut padded = [&(cbor.len() as u32).to_be_bytes()[..], &cbor].concat();
    let len = cbor.len();
    padded.resize(said.hello.len() - 1 - 1120 - 16, 0);
    assert_eq!(open(&business, &seal_padded(&bundle, &padded)), Ok(()));
    padded[4 + len] = 1;
    assert_eq!(open(&business, &seal_padded(&bundle, &padded)), Err(HelloError::Refused));
    padded[4 + len] = 0;
    padded[0] = 0xff;
    assert_eq!(open(&business, &seal_padded(&bundle, &padded)), Err(HelloError::Refused));
    padded[0] = 0;
    padded.pop();
    assert_eq!(open(&business, &seal_padded(&bundle, &padded)), Err(HelloError::Refused));
}

#[test]
fn a_hello_is_bound_to_business_mailbox_and_tag() {
    let business = Business::new();
    let said = says_hello(&Pseudonym::generate(&mut OsRng), &business.verified(), b"first");
    let (hash, tag) = (business.identity.hash(), params().contact.permit.tag);
    let open = |hash: &_, mailbox: &_, tag: &_| Hello::open(&business.keys, hash, mailbox, tag, &said.hello).map(drop);
    assert_eq!(open(&hash, &BUSINESS_MAILBOX, &tag), Ok(()));
    assert_eq!(open(&IdentityHash::new([1; 32]), &BUSINESS_MAILBOX, &tag), Err(HelloError::Refused));
    assert_eq!(open(&hash, &CUSTOMER_MAILBOX, &tag), Err(HelloError::Refused));
    assert_eq!(open(&hash, &BUSINESS_MAILBOX, &TagBlock::new([1; 16])), Err(HelloError::Refused));
}

/// A hostile relay or web server serves another's bundle, seal key or KeyPackage: refused, and nothing is sent.
#[test]
fn a_bundle_that_is_not_the_links_is_refused() {
    let (rosi, mallory) = (Business::new(), Business::new());
    let hash = rosi.identity.hash();
    let verify = |bytes: &[u8]| Bundle::verify(bytes, &hash, now()).map(drop);
    assert_eq!(verify(&rosi.bundle), Ok(()));
    assert_eq!(verify(&mallory.bundle), Err(BundleError::WrongIdentity));

    // Mallory signs Rosi's bundle, or puts his own things into it.
    let (good, his) = (payload(&rosi.bundle), payload(&mallory.bundle));
    assert_eq!(verify(&sign(&mallory.identity.to_bytes(), label::BUNDLE, &good)), Err(BundleError::Signature));
    for index in [1, 5, 6, 7, 8] {
        let mut mixed = good.clone();
        mixed[index] = his[index].clone();
        if mixed == good {
            continue;
        }
        let signed_by_him = sign(&mallory.identity.to_bytes(), label::BUNDLE, &mixed);
        assert!(verify(&signed_by_him).is_err(), "{index}");
        let outer = items(&rosi.bundle);
        assert!(verify(&array(&[bstr(&array(&mixed)), outer[1].clone()])).is_err(), "{index}");
    }
    // Even signed by Rosi: another's KeyPackage is never accepted.
    let mut mixed = good.clone();
    mixed[8] = his[8].clone();
    let signed = sign(&rosi.identity.to_bytes(), label::BUNDLE, &mixed);
    assert_eq!(verify(&signed), Err(BundleError::Certificate(CertificateError::WrongIdentity)));
}

#[test]
fn a_bundle_is_refused_for_each_thing_that_is_wrong_in_it() {
    let rosi = Business::new();
    let good = payload(&rosi.bundle);
    let verify = |index: usize, item: Vec<u8>| {
        let mut items = good.clone();
        items[index] = item;
        Bundle::verify(&sign(&rosi.identity.to_bytes(), label::BUNDLE, &items), &rosi.identity.hash(), now()).map(drop)
    };
    let text = |t: &str| minicbor::to_vec(t).unwrap();
    assert_eq!(verify(0, vec![1]), Ok(()));
    assert_eq!(verify(0, vec![2]), Err(BundleError::Newer));
    assert_eq!(verify(0, vec![0]), Err(BundleError::Malformed));
    assert_eq!(verify(2, text("Rosi")), Err(BundleError::Malformed));
    assert_eq!(verify(2, text("mallory")), Err(BundleError::Certificate(CertificateError::WrongIdentity)));
    assert_eq!(verify(4, text("https://relay.example/")), Err(BundleError::Malformed));
    assert_eq!(verify(5, bstr(&[1; 16])), Err(BundleError::Malformed));
    assert_eq!(verify(6, permit(BUSINESS_MAILBOX, Purpose::Service, 1).encode()), Err(BundleError::Malformed));
    assert_eq!(verify(7, bstr(&[1; 1215])), Err(BundleError::UnsoundKey));
    assert_eq!(verify(8, bstr(&[1; 100])), Err(BundleError::KeyPackage));
    // One that it has no KeyPackage for, one with ECDSA (MLS-05), and none that anybody knows.
    for code in [0x01, 0x02, 0x17] {
        assert_eq!(verify(9, vec![0x81, code]), Err(BundleError::Suite));
    }
    assert_eq!(verify(9, vec![0x80]), Err(BundleError::Malformed));
    assert_eq!(verify(10, minicbor::to_vec(now() - 1).unwrap()), Err(BundleError::Expired));
    assert_eq!(verify(11, array(&vec![array(&[text("a"), text("b")]); 65])), Err(BundleError::Malformed));
    let mut longer = good.clone();
    // After the KeyPackages of other suites.
    longer.extend([vec![0x80], vec![0xf6]]);
    let signed = sign(&rosi.identity.to_bytes(), label::BUNDLE, &longer);
    assert!(Bundle::verify(&signed, &rosi.identity.hash(), now()).is_ok(), "a later version adds at the end");
    let late = Bundle::verify(&rosi.bundle, &rosi.identity.hash(), now() + 15 * 24 * 3600).map(drop);
    assert_eq!(late, Err(BundleError::Expired));
}

#[test]
fn a_certificate_is_good_for_one_business_role_identity_and_time() {
    let (rosi, other) = (BusinessIdentity::generate(&mut OsRng), BusinessIdentity::generate(&mut OsRng));
    let anna = Pseudonym::generate(&mut OsRng);
    let leaf = Pseudonym::generate(&mut OsRng).public();
    let subject = Subject { not_after: 1_000, ..SUBJECT };
    let hers = issue_customer(&anna, &leaf, &rosi.hash(), &subject);
    let expect = Expect::customer(rosi.hash(), anna.public());
    let verify = |expect: &Expect, now| Certificate::verify(&hers, now, expect).map(drop);
    assert_eq!(verify(&expect, 999), Ok(()));
    assert_eq!(verify(&expect, 1_000), Err(CertificateError::Expired));
    for wrong in [
        Expect::customer(other.hash(), anna.public()),
        Expect::customer(rosi.hash(), other.public()),
        Expect::business(rosi.hash()),
        Expect::business(IdentityHash::of(&anna.public())),
    ] {
        assert_eq!(verify(&wrong, 0), Err(CertificateError::WrongIdentity));
    }
    // A customer's key that certifies itself as the business.
    let mut forged = payload(&hers);
    forged[1] = vec![1];
    let forged = sign(&anna.to_bytes(), label::CERTIFICATE, &forged);
    let result = Certificate::verify(&forged, 0, &Expect::business(rosi.hash())).map(drop);
    assert_eq!(result, Err(CertificateError::WrongIdentity));
    let mut old = payload(&hers);
    old[8] = vec![0x81, 0x02];
    let old = sign(&anna.to_bytes(), label::CERTIFICATE, &old);
    assert_eq!(Certificate::verify(&old, 0, &expect).map(drop), Err(CertificateError::Suite));
}

#[test]
fn key_09_points_of_small_order_are_refused_as_identity_leaf_and_pseudonym() {
    let rosi = Business::new();
    for point in small_order_ed25519() {
        // A signature that verifies for such a key in a lenient verifier: R = the identity, S = 0.
        let mut forged = [0; 64];
        forged[0] = 1;
        let mut bundle = payload(&rosi.bundle);
        bundle[1] = bstr(&point);
        let bundle = array(&[bstr(&array(&bundle)), bstr(&forged)]);
        assert_eq!(Bundle::verify(&bundle, &IdentityHash::of(&point), now()).map(drop), Err(BundleError::Signature));

        let leaf = issue_business(&rosi.identity, &point, &SUBJECT);
        let verified = Certificate::verify(&leaf, 0, &Expect::business(rosi.identity.hash())).map(drop);
        assert_eq!(verified, Err(CertificateError::Signature));

        let mut certificate = payload(&leaf);
        certificate[2] = bstr(&point);
        certificate[4] = bstr(IdentityHash::of(&point).as_bytes());
        let certificate = array(&[bstr(&array(&certificate)), bstr(&forged)]);
        let verified = Certificate::verify(&certificate, 0, &Expect::business(IdentityHash::of(&point))).map(drop);
        assert_eq!(verified, Err(CertificateError::Signature));
    }
    let bundle = rosi.verified();
    let said = says_hello(&Pseudonym::generate(&mut OsRng), &bundle, b"first");
    let good = items(&open_hello(&rosi.keys.to_bytes(), &bundle, &said.hello));
    for point in small_order_ed25519() {
        let mut hello = good.clone();
        let mut forged = [0; 64];
        forged[0] = 1;
        hello[1] = bstr(&point);
        hello[7] = bstr(&forged);
        assert_eq!(open(&rosi, &seal_hello(&bundle, &array(&hello))), Err(HelloError::Refused));
    }
}

#[test]
fn key_09_points_of_small_order_are_refused_as_seal_key() {
    let rosi = Business::new();
    let good = payload(&rosi.bundle);
    for point in small_order_x25519() {
        let mut items = good.clone();
        let mut key = content_of(&items[7]);
        key[1184..].copy_from_slice(&point);
        items[7] = bstr(&key);
        let bundle = sign(&rosi.identity.to_bytes(), label::BUNDLE, &items);
        let verified = Bundle::verify(&bundle, &rosi.identity.hash(), now()).map(drop);
        assert_eq!(verified, Err(BundleError::UnsoundKey));
    }
}

/// KEY-04 (a): things of one kind are never taken for another, whatever decoder they are fed to.
#[test]
fn key_04_no_kind_is_taken_for_another() {
    let business = Business::new();
    let hash = business.identity.hash();
    let anna = Pseudonym::generate(&mut OsRng);
    let said = says_hello(&anna, &business.verified(), b"first");
    let digest = hello_digest(&said.welcome);
    let (mut customer, mut joined) = conversation();
    let tag = TagBlock::new([7; 16]);
    let key = EnvelopeKey::from_bytes([7; 32]);
    let leaf = Pseudonym::generate(&mut OsRng).public();
    let sealed = customer.seal(b"content").unwrap();
    let kinds: Vec<(&str, Vec<u8>)> = vec![
        ("business certificate", issue_business(&business.identity, &leaf, &SUBJECT)),
        ("customer certificate", issue_customer(&anna, &leaf, &hash, &SUBJECT)),
        ("bundle", business.bundle.clone()),
        ("hello", said.hello.clone()),
        ("hello again", HelloAgain::seal(said.reply_key.public(), &digest, &business.bundle).unwrap()),
        ("envelope", key.seal(&tag, Kind::Mls, &sealed, &mut OsRng).unwrap()),
        ("content", Content::new([7; 16], Body::text("x")).encode().unwrap()),
        ("permit", permit(BUSINESS_MAILBOX, Purpose::Service, 4).encode()),
        ("business keys", business.keys.to_bytes().to_vec()),
        ("reply key", said.reply_key.to_bytes().to_vec()),
        ("mls message", sealed),
        ("welcome", said.welcome.clone()),
    ];
    type Decoder<'a> = (&'a str, Box<dyn FnMut(&[u8]) -> bool + 'a>);
    let decoders: Vec<Decoder<'_>> = vec![
        ("business certificate", Box::new(|b| Certificate::verify(b, 0, &Expect::business(hash)).is_ok())),
        (
            "customer certificate",
            Box::new(|b| Certificate::verify(b, 0, &Expect::customer(hash, anna.public())).is_ok()),
        ),
        ("bundle", Box::new(|b| Bundle::verify(b, &hash, now()).is_ok())),
        ("hello", Box::new(|b| open(&business, b).is_ok())),
        ("hello again", Box::new(|b| HelloAgain::open(&said.reply_key, &digest, b).is_ok())),
        ("envelope", Box::new(|b| key.open(&tag, b).is_ok())),
        ("content", Box::new(|b| Content::decode(b).is_ok())),
        ("permit", Box::new(|b| GivenPermit::decode(b).is_ok())),
        ("business keys", Box::new(|b| BusinessKeys::from_bytes(b).is_ok())),
        ("reply key", Box::new(|b| ReplyKey::from_bytes(b).is_ok())),
        ("mls message", Box::new(|b| joined.open(b).is_ok())),
        ("welcome", Box::new(|b| joins_with(&business, &anna, b))),
    ];
    for (decoder, mut accepts) in decoders {
        for (kind, bytes) in &kinds {
            assert_eq!(accepts(bytes), *kind == decoder, "{kind} as {decoder}");
        }
    }
}

fn joins_with(business: &Business, pseudonym: &Pseudonym, welcome: &[u8]) -> bool {
    let bundle = business.verified();
    let reply_key = ReplyKey::generate(&mut OsRng).unwrap();
    let says = HelloParams {
        relay: "wss://relay.example/v1/ws",
        permits: &customer_permits(),
        reply_key: reply_key.public(),
        welcome,
        message: b"",
    };
    let hello = Hello::seal(pseudonym, &bundle, &says).unwrap();
    let Ok(hello) =
        Hello::open(&business.keys, &business.identity.hash(), &BUSINESS_MAILBOX, &params().contact.permit.tag, &hello)
    else {
        return false;
    };
    Conversation::join(&business.keys, &business.identity.hash(), &hello, now()).is_ok()
}

/// KEY-04 (c): a signature made for one label does not verify under another.
#[test]
fn key_04_a_signature_is_good_under_its_own_label_only() {
    let business = Business::new();
    let good = payload(&business.bundle);
    for other in label::ALL {
        let signed = sign(&business.identity.to_bytes(), other, &good);
        let accepted = Bundle::verify(&signed, &business.identity.hash(), now()).is_ok();
        assert_eq!(accepted, *other == label::BUNDLE);
    }
}

#[test]
fn mls_12_a_hello_and_a_bundle_are_bounded() {
    let business = Business::new();
    let bundle = business.verified();
    let anna = Pseudonym::generate(&mut OsRng);
    let (_, welcome) =
        Conversation::begin(&anna, "phone", Suites::DEFAULT, &bundle, Suite::Hybrid, now(), &mut OsRng).unwrap();
    let reply_key = ReplyKey::generate(&mut OsRng).unwrap();
    let hello = |message: usize, permits: usize| {
        let mut list = vec![permit(CUSTOMER_MAILBOX, Purpose::Control, 2); permits - 1];
        list.push(permit(CUSTOMER_MAILBOX, Purpose::Service, 3));
        let says = HelloParams {
            relay: "wss://relay.example/v1/ws",
            permits: &list,
            reply_key: reply_key.public(),
            welcome: &welcome,
            message: &vec![0; message],
        };
        Hello::seal(&anna, &bundle, &says).and_then(|hello| open(&business, &hello))
    };
    // The largest message that fits, found from a Hello with none: a length of five bytes instead of one.
    let fixed = open_hello(&business.keys.to_bytes(), &bundle, &{
        let says = HelloParams {
            relay: "wss://relay.example/v1/ws",
            permits: &customer_permits(),
            reply_key: reply_key.public(),
            welcome: &welcome,
            message: b"",
        };
        Hello::seal(&anna, &bundle, &says).unwrap()
    })
    .len();
    let largest = 32 * 1024 - (1 + 1120 + 16 + 4) - fixed - 2;
    assert_eq!(hello(largest, 2), Ok(()));
    assert_eq!(hello(largest + 1, 2), Err(HelloError::Parameters));
    assert!(largest > 16 * 1024, "a first message of 4,096 characters fits: {largest}");
    assert_eq!(hello(100, 8), Ok(()));
    assert_eq!(hello(100, 9), Err(HelloError::Parameters));

    let named = |bytes: usize| {
        let mut params = params();
        params.name = "x".repeat(bytes);
        make_bundle(&business.identity, &params, &mut OsRng).is_ok()
    };
    assert!(named(256) && !named(257));
}

#[test]
fn mls_12_an_mls_message_over_its_limit_is_not_parsed() {
    let (_, mut joined) = conversation();
    let over = vec![0; bulla_e2ee::limits::MLS_MESSAGE + 1];
    assert_eq!(joined.open(&over), Err(OpenError::Malformed));
}

#[test]
fn debug_of_every_secret_is_redacted() {
    let business = Business::new();
    let said = says_hello(&Pseudonym::generate(&mut OsRng), &business.verified(), b"first");
    assert_eq!(format!("{:?}", business.keys), "BusinessKeys(redacted)");
    assert_eq!(format!("{:?}", said.reply_key), "ReplyKey(SealKey(redacted))");
    assert_eq!(format!("{:?}", business.opens(&said.hello)), "Hello(redacted)");
    assert_eq!(format!("{:?}", said.conversation), "Conversation(Customer, epoch 1, redacted)");
    let state = format!("{:?}", said.conversation.state());
    assert!(state.starts_with("State(") && state.ends_with(" entries, redacted)"), "{state}");
    let permit = format!("{:?}", permit(CUSTOMER_MAILBOX, Purpose::Service, 3));
    assert!(permit.contains("mac: PermitMac(redacted), envelope_key: Some(EnvelopeKey(redacted))"), "{permit}");
    let joined = business.joins(&business.opens(&said.hello)).open(business.opens(&said.hello).message()).unwrap();
    assert!(format!("{joined:?}").ends_with("5 bytes)"), "{joined:?}");
}
