//! Suites in what is signed: which one is chosen, what of a later version is passed over, and what nobody accepts.

use bulla_e2ee::bundle::{Bundle, BundleError, BundleParams, BusinessKeys, make_bundle};
use bulla_e2ee::certificate::Expect;
use bulla_e2ee::continues::{Continues, ContinuesError, Reason, Speaker, Turn};
use bulla_e2ee::conversation::{BeginError, Change, CommitError, Conversation};
use bulla_e2ee::hello::{Hello, HelloParams, ReplyKey};
use bulla_e2ee::identity::Pseudonym;
use bulla_e2ee::spare::{Issuer, PackageError, Spare, make_spare};
use bulla_e2ee::suite::{Suite, Suites};
use bulla_protocol::label;
use rand_core::OsRng;

use crate::craft::{array, bstr, content_of, items, payload, sign};
use crate::world::{Business, Two, customer_permits, now, params};

const OLD: Suites = Suites::only(Suite::Classical);

fn speaking(suites: Suites) -> Business {
    let mut business = Business::new();
    let says = BundleParams { suites, ..params() };
    (business.bundle, business.keys) = make_bundle(&business.identity, &says, &mut OsRng).unwrap();
    business
}

/// One bundle and its keys serve customers of both generations, also after they were stored.
#[test]
fn a_bundle_has_a_key_package_for_each_suite_and_each_can_be_joined() {
    let mut rosi = speaking(Suites::ALL);
    rosi.keys = BusinessKeys::from_bytes(&rosi.keys.to_bytes()).unwrap();
    let bundle = rosi.verified();
    assert_eq!(bundle.suites_with(Suites::ALL), Some(Suites::ALL));
    assert_eq!(bundle.suites_with(OLD), Some(OLD));
    assert!(bundle.lists_more(OLD) && !bundle.lists_more(Suites::ALL));
    for suite in Suites::ALL.iter() {
        let anna = Pseudonym::generate(&mut OsRng);
        let (mut phone, welcome) =
            Conversation::begin(&anna, "phone", Suites::only(suite), &bundle, suite, now(), &mut OsRng).unwrap();
        let (message, reply_key) = (phone.seal(b"first").unwrap(), ReplyKey::generate(&mut OsRng).unwrap());
        let says = HelloParams {
            relay: "wss://relay.example/v1/ws",
            permits: &customer_permits(),
            reply_key: reply_key.public(),
            welcome: &welcome,
            message: &message,
        };
        let hello = rosi.opens(&Hello::seal(&anna, &bundle, &says).unwrap());
        let mut shop = rosi.joins(&hello);
        assert_eq!((phone.suite(), shop.suite()), (suite, suite));
        assert_eq!(shop.open(hello.message()).unwrap().content.as_slice(), b"first");
        let answer = shop.seal(b"answer").unwrap();
        assert_eq!(phone.open(&answer).unwrap().content.as_slice(), b"answer");
        let staged = phone.stage(&Change::Keys, now()).unwrap();
        phone.merge().unwrap();
        shop.follow(&staged.commit, now()).unwrap();
    }
    rosi.keys.erase_key_package();
    assert!(!rosi.keys.has_key_package(), "all of them");
}

/// What an identity signs for programs of later versions and for those of now.
#[test]
fn a_suite_of_a_later_version_is_passed_over_and_nothing_in_common_is_an_error_of_its_own() {
    let rosi = speaking(Suites::DEFAULT);
    let mut later = payload(&rosi.bundle);
    let hybrid = later[8].clone();
    // A KeyPackage of suite 0x7777, as far as a reader that does not know it looks.
    later[8] = bstr(&[0, 1, 0x77, 0x77, 1, 2, 3]);
    let verify = |items: &[Vec<u8>]| {
        Bundle::verify(&sign(&rosi.identity.to_bytes(), label::BUNDLE, items), &rosi.identity.hash(), now())
    };
    later[9] = array(&[minicbor::to_vec(0x7777_u16).unwrap(), minicbor::to_vec(0x004f_u16).unwrap()]);
    let both = [&later[..], &[array(std::slice::from_ref(&hybrid))]].concat();
    let bundle = verify(&both).unwrap();
    assert_eq!(bundle.suites_with(Suites::ALL), Some(Suites::DEFAULT));
    assert!(bundle.lists_more(Suites::ALL));
    // It lists ours, and has no KeyPackage for it.
    assert_eq!(verify(&later).map(drop), Err(BundleError::KeyPackage));
    // It does not list ours.
    let mut only = both;
    only[9] = array(&[minicbor::to_vec(0x7777_u16).unwrap()]);
    assert_eq!(verify(&only).map(drop), Err(BundleError::Suite));
}

/// MLS-05, and suites that nobody knows.
#[test]
fn mls_05_a_key_package_of_another_suite_is_refused_and_one_list_takes_nothing_from_another() {
    let two = Two::talking();
    let expect = Expect::customer(*two.shop.business(), two.anna.public());
    let issuer = Issuer::Customer {
        pseudonym: &two.anna,
        business: two.shop.business(),
        endpoint: "tablet",
        suites: Suites::ALL,
    };
    for suite in Suites::ALL.iter() {
        let (bytes, _) = make_spare(&issuer, suite, now(), &mut OsRng).unwrap();
        let spare = Spare::verify(&bytes, &expect, now()).unwrap();
        assert_eq!((spare.suite(), spare.suites()), (suite, Suites::ALL));
        for code in [0x0002_u16, 0x0005, 0x0007, 0x7777, if suite == Suite::Hybrid { 1 } else { 0x4f }] {
            let mut turned = bytes.clone();
            turned[2..4].copy_from_slice(&code.to_be_bytes());
            assert!(matches!(Spare::verify(&turned, &expect, now()), Err(PackageError::Invalid)), "{code:#x}");
        }
    }
}

/// A group is of one suite: nobody is let into it with a KeyPackage of another.
#[test]
fn spares_of_two_suites_make_no_group() {
    let mut two = Two::talking();
    let business = *two.shop.business();
    let expect = Expect::customer(business, two.anna.public());
    let (pseudonym, suites) = (&two.anna, Suites::ALL);
    let ours = Issuer::Customer { pseudonym, business: &business, endpoint: "tablet", suites };
    let spare = |suite: Suite| {
        let (bytes, _) = make_spare(&ours, suite, now(), &mut OsRng).unwrap();
        Spare::verify(&bytes, &expect, now()).unwrap()
    };
    let (old, new) = (spare(Suite::Classical), spare(Suite::Hybrid));
    let identity = &two.business.identity;
    let issuer = Issuer::Business { identity, handle: "rosi", endpoint: "gateway", suites: Suites::ALL };
    let make = |spares: &[Spare]| Conversation::reform(&issuer, two.anna.public(), spares, now(), &mut OsRng);
    assert_eq!(make(&[old.clone(), new.clone()]).map(drop).unwrap_err(), BeginError::Members);
    assert_eq!(make(std::slice::from_ref(&old)).unwrap().0.suite(), Suite::Classical);
    assert_eq!(make(std::slice::from_ref(&new)).unwrap().0.suite(), Suite::Hybrid);
    let staged = two.phone.stage(&Change::Add(std::slice::from_ref(&old)), now());
    assert!(matches!(staged, Err(CommitError::NotOurs)));
    assert!(two.phone.stage(&Change::Add(std::slice::from_ref(&new)), now()).is_ok());
}

/// What is not under the signature must not exist; what a later version adds to what is signed is ignored; a later version is told from garbage.
#[test]
fn a_statement_grows_inside_its_signature_alone() {
    let two = Two::talking();
    let (identity, business, user) = (&two.business.identity, *two.shop.business(), two.shop.user_id());
    let turn = Turn { at: 3, before: 2, seen: 1 };
    let speaker = Speaker::Business(identity);
    let body = Continues::seal(&speaker, &business, &user, &turn, Reason::Newer, &[], b"welcome").unwrap();
    let outer = items(&body);
    let inner = payload(&content_of(&outer[0]));
    let open = |inner: &[Vec<u8>], more: &[Vec<u8>]| {
        let signed = sign(&identity.to_bytes(), label::CONTINUES, inner);
        Continues::open(&array(&[&[bstr(&signed), outer[1].clone()], more].concat()), &business, &user)
    };
    assert_eq!(open(&inner, &[]).unwrap().reason, Reason::Newer);
    assert_eq!(open(&inner, &[vec![0xf6]]), Err(ContinuesError::Refused));
    let mut later = inner.clone();
    later[0] = vec![2];
    assert_eq!(open(&later, &[]), Err(ContinuesError::Newer));
    assert_eq!(open(&later[..3], &[]), Err(ContinuesError::Newer), "whatever its shape");
}
