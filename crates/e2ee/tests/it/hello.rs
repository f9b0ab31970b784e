//! Hellos: replayed, resumed, too late, of somebody else.

use bulla_e2ee::bundle::{Bundle, make_bundle};
use bulla_e2ee::conversation::{Conversation, JoinError};
use bulla_e2ee::hello::{Hello, HelloAgain, HelloError, HelloParams, hello_digest};
use bulla_e2ee::identity::Pseudonym;
use rand_core::OsRng;

use crate::world::{BUSINESS_MAILBOX, Business, customer_permits, now, params, says_hello};

#[test]
fn a_replayed_hello_opens_again_and_has_the_same_digest() {
    let business = Business::new();
    let said = says_hello(&Pseudonym::generate(&mut OsRng), &business.verified(), b"first");
    let (once, again) = (business.opens(&said.hello), business.opens(&said.hello));
    assert_eq!(once.digest(), again.digest());
    assert_eq!(once.digest(), hello_digest(&said.welcome));
    let other = says_hello(&Pseudonym::generate(&mut OsRng), &business.verified(), b"first");
    assert_ne!(business.opens(&other.hello).digest(), once.digest());
}

#[test]
fn a_hello_for_a_dead_key_package_is_answered_with_a_fresh_bundle_under_its_own_digest() {
    let mut business = Business::new();
    let pseudonym = Pseudonym::generate(&mut OsRng);
    let said = says_hello(&pseudonym, &business.verified(), b"first");
    business.keys.erase_key_package();
    let hello = business.opens(&said.hello);
    let hash = business.identity.hash();
    assert_eq!(Conversation::join(&business.keys, &hash, &hello, now()).unwrap_err(), JoinError::NoKeyPackage);

    // Keys of another bundle of the same business do not have it either.
    let (fresh, fresh_keys) = make_bundle(&business.identity, &params(), &mut OsRng).unwrap();
    assert_eq!(Conversation::join(&fresh_keys, &hash, &hello, now()).unwrap_err(), JoinError::NoKeyPackage);

    let answer = hello.say_again(&fresh).unwrap();
    let digest = hello_digest(&said.welcome);
    assert_eq!(HelloAgain::open(&said.reply_key, &[0; 32], &answer), Err(HelloError::Refused));
    let bundle = HelloAgain::open(&said.reply_key, &digest, &answer).unwrap();
    let bundle = Bundle::verify(&bundle, &hash, now()).unwrap();
    let said = says_hello(&pseudonym, &bundle, b"first");
    let tag = params().contact.permit.tag;
    let hello = Hello::open(&fresh_keys, &hash, &BUSINESS_MAILBOX, &tag, &said.hello).unwrap();
    let mut joined = Conversation::join(&fresh_keys, &hash, &hello, now()).unwrap();
    assert_eq!(joined.open(hello.message()).unwrap().content.as_slice(), b"first");
}

#[test]
fn a_key_package_whose_lifetime_is_over_is_dead() {
    let business = Business::new();
    let said = says_hello(&Pseudonym::generate(&mut OsRng), &business.verified(), b"first");
    let hello = business.opens(&said.hello);
    let join = |days: u64| {
        Conversation::join(&business.keys, &business.identity.hash(), &hello, now() + days * 24 * 3600).map(drop)
    };
    assert_eq!(join(41), Ok(()));
    assert_eq!(join(43), Err(JoinError::NoKeyPackage));
}

#[test]
fn a_resumed_pseudonym_is_the_same_customer_in_a_new_conversation() {
    let business = Business::new();
    let pseudonym = Pseudonym::generate(&mut OsRng);
    let resumed = Pseudonym::from_bytes(&pseudonym.to_bytes());
    let ids = [pseudonym, resumed].map(|p| {
        let said = says_hello(&p, &business.verified(), b"first");
        let joined = business.joins(&business.opens(&said.hello));
        (
            joined.user_id(),
            joined.room_uri(),
            joined.peer().unwrap().leaf().to_vec(),
            joined.peer().unwrap().endpoint().to_owned(),
        )
    });
    let [(user, room, leaf, device), (user2, room2, leaf2, device2)] = ids;
    assert_eq!((user, room), (user2, room2));
    assert_ne!((leaf, device), (leaf2, device2));
}

/// The proof and the certificate in the tree must be of one pseudonym: nobody can put his permits before another's Welcome.
#[test]
fn a_hello_with_anothers_welcome_is_not_joined() {
    let business = Business::new();
    let bundle = business.verified();
    let (mallory, anna) = (Pseudonym::generate(&mut OsRng), Pseudonym::generate(&mut OsRng));
    let said = says_hello(&anna, &bundle, b"first");
    let hello = Hello::seal(
        &mallory,
        &bundle,
        &HelloParams {
            relay: "wss://relay.example/v1/ws",
            permits: &customer_permits(),
            reply_key: said.reply_key.public(),
            welcome: &said.welcome,
            message: b"",
        },
    )
    .unwrap();
    let hello = business.opens(&hello);
    let joined = Conversation::join(&business.keys, &business.identity.hash(), &hello, now());
    assert!(matches!(joined, Err(JoinError::Certificate(_))), "{joined:?}");
}
