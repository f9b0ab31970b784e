//! Commits, comings and goings, and groups that begin again: with honest members and with others.

use bulla_e2ee::certificate::{Expect, Role};
use bulla_e2ee::conversation::{Change, CommitError, Conversation, JoinError, OpenError};
use bulla_e2ee::identity::Pseudonym;
use bulla_e2ee::spare::{Issuer, Spare, SpareKeys, make_spare};
use bulla_e2ee::state::State;
use bulla_e2ee::suite::{Suite, Suites};
use rand_core::OsRng;

use crate::world::{Store, Two, now, says};

/// Commits fresh keys, and the others follow.
fn commits(author: &mut Conversation, others: &mut [&mut Conversation]) {
    let staged = author.stage(&Change::Keys, now()).unwrap();
    author.merge().unwrap();
    for other in others {
        other.follow(&staged.commit, now()).unwrap();
    }
}

#[test]
fn an_epoch_ends_with_a_commit_and_messages_cross_it_unharmed() {
    let Two { mut shop, mut phone, .. } = Two::talking();
    let crossing = phone.seal(b"sealed before").unwrap();
    let (before, slot) = (phone.epoch(), shop.slot().unwrap());
    assert_eq!(slot.id(), phone.slot().unwrap().id(), "members of an epoch find the same slot");
    let staged = shop.stage(&Change::Keys, now()).unwrap();
    assert_eq!(staged.slot.id(), slot.id());
    // Messages go on while the claim is under way.
    says(&mut shop, &mut [&mut phone]);
    shop.merge().unwrap();
    assert_eq!(shop.open(&crossing).unwrap().epoch, before);
    let early = shop.seal(b"sealed after").unwrap();
    assert_eq!(phone.open(&early), Err(OpenError::FutureEpoch));
    let sealed = slot.seal(&staged.commit, &mut OsRng).unwrap();
    let commit = phone.slot().unwrap().open(&sealed).unwrap();
    let followed = phone.follow(&commit, now()).unwrap();
    assert_eq!((followed.by.role, followed.out), (Role::Business, false));
    assert_eq!(phone.open(&early).unwrap().epoch, before + 1);
    assert_eq!(phone.epoch_authenticator(), shop.epoch_authenticator());
    assert_ne!(phone.slot().unwrap().id(), slot.id());
    assert_eq!(phone.authenticator(before), shop.authenticator(before), "the one before is still known to both");
    assert_eq!(phone.authenticator(before + 9), None);
    assert_eq!(phone.follow(&commit, now()), Err(OpenError::PastEpoch), "a repetition changes nothing");
}

/// Keys of an epoch live until everybody was heard in the next: no longer, and no less (KEY-11).
#[test]
fn key_11_an_epochs_keys_are_gone_once_all_were_heard_in_the_next() {
    let mut two = Two::talking();
    let mut tablet = two.tablet();
    let Two { mut shop, mut phone, .. } = two;
    let [first, second, third] = [b"1", b"2", b"3"].map(|text| phone.seal(text).unwrap());
    let settled = size(&shop);
    let staged = shop.stage(&Change::Keys, now()).unwrap();
    shop.merge().unwrap();
    assert!(shop.open(&first).is_ok(), "it crossed the commit");
    assert!(size(&shop) > settled + 1_000, "the keys of two epochs are kept");
    phone.follow(&staged.commit, now()).unwrap();
    says(&mut phone, &mut [&mut shop]);
    assert!(shop.open(&second).is_ok(), "the tablet was not heard yet");
    tablet.follow(&staged.commit, now()).unwrap();
    says(&mut tablet, &mut [&mut shop]);
    assert_eq!(shop.open(&third), Err(OpenError::PastEpoch));
    assert!(size(&shop) < settled + 200, "{} bytes, and {settled} before", size(&shop));
    let mut store = Store::default();
    assert!(size(&store.restart(shop)) < settled + 200, "nor in the store");
}

/// Whoever removes waits for nobody: what is on its way meanwhile still opens after three removals in a row, and no longer after a fourth.
#[test]
fn what_is_on_its_way_opens_after_three_devices_were_removed() {
    let mut two = Two::talking();
    let spare = |endpoint| {
        let issuer =
            Issuer::Customer { pseudonym: &two.anna, business: two.shop.business(), endpoint, suites: Suites::DEFAULT };
        let (bytes, _) = make_spare(&issuer, Suite::Hybrid, now(), &mut OsRng).unwrap();
        Spare::verify(&bytes, &Expect::customer(*two.shop.business(), two.anna.public()), now()).unwrap()
    };
    let spares = ["a", "b", "c", "d"].map(spare);
    let staged = two.phone.stage(&Change::Add(&spares), now()).unwrap();
    two.phone.merge().unwrap();
    two.shop.follow(&staged.commit, now()).unwrap();
    let all = two.phone.members();
    let others: Vec<u32> = all.iter().filter(|m| !m.own && m.who.role == Role::Customer).map(|m| m.leaf).collect();
    assert_eq!(others.len(), 4);
    let [crossing, late] = [b"crossing", b"too late"].map(|text| two.shop.seal(text).unwrap());
    let mut commits = Vec::new();
    for leaf in others {
        if commits.len() == 3 {
            assert_eq!(two.phone.open(&crossing).unwrap().epoch, two.shop.epoch());
        }
        commits.push(two.phone.stage(&Change::Remove(&[leaf]), now()).unwrap().commit);
        two.phone.merge().unwrap();
    }
    assert_eq!(two.phone.open(&late), Err(OpenError::PastEpoch));
    for commit in &commits {
        two.shop.follow(commit, now()).unwrap();
    }
    says(&mut two.shop, &mut [&mut two.phone]);
    says(&mut two.phone, &mut [&mut two.shop]);
}

/// Bytes of a conversation's state.
fn size(conversation: &Conversation) -> usize {
    conversation.state().entries().iter().map(|(_, value)| value.len()).sum()
}

#[test]
fn nobody_is_ever_more_than_one_epoch_behind() {
    let Two { mut shop, mut phone, .. } = Two::talking();
    let staged = shop.stage(&Change::Keys, now()).unwrap();
    assert_eq!(shop.stage(&Change::Keys, now()).unwrap_err(), CommitError::Pending);
    shop.merge().unwrap();
    // The phone has not been heard in the new epoch.
    assert!(!shop.may_commit());
    assert_eq!(shop.stage(&Change::Keys, now()).unwrap_err(), CommitError::NotHeard);
    phone.follow(&staged.commit, now()).unwrap();
    // The phone has heard the shop: by its commit.
    assert!(phone.may_commit());
    says(&mut phone, &mut [&mut shop]);
    commits(&mut shop, &mut [&mut phone]);
    commits(&mut phone, &mut [&mut shop]);
    says(&mut shop, &mut [&mut phone]);
}

/// Who was away finds two commits: the second is held until the first has been followed, as nothing else may come of its epoch.
#[test]
fn a_commit_of_an_epoch_that_is_not_reached_is_told_from_others() {
    let Two { mut shop, mut phone, .. } = Two::talking();
    let mut store = Store::default();
    let mut away = store.restart(phone);
    phone = store.load();
    let first = shop.stage(&Change::Keys, now()).unwrap();
    shop.merge().unwrap();
    phone.follow(&first.commit, now()).unwrap();
    says(&mut phone, &mut [&mut shop]);
    let second = shop.stage(&Change::Keys, now()).unwrap();
    assert!(away.is_ahead(&second.commit) && !away.is_ahead(&first.commit));
    assert_eq!(away.follow(&second.commit, now()), Err(OpenError::FutureEpoch));
    away.follow(&first.commit, now()).unwrap();
    assert!(!away.is_ahead(&second.commit) && !away.is_ahead(b"no commit"));
    assert!(!Two::talking().phone.is_ahead(&second.commit), "of another group");
}

#[test]
fn of_two_commits_at_once_the_loser_follows_the_winner() {
    let Two { mut shop, mut phone, .. } = Two::talking();
    let ours = phone.stage(&Change::Keys, now()).unwrap();
    let theirs = shop.stage(&Change::Keys, now()).unwrap();
    assert_eq!(ours.slot.id(), theirs.slot.id(), "both claim the same cell");
    shop.merge().unwrap();
    phone.follow(&theirs.commit, now()).unwrap();
    assert!(!phone.is_pending());
    assert_eq!(phone.epoch_authenticator(), shop.epoch_authenticator());
    says(&mut phone, &mut [&mut shop]);
    commits(&mut phone, &mut [&mut shop]);
}

/// The author's answer was lost: the other side finds the commit in the slot, and must not end the next epoch as well while the author still
/// seals in the first, or that message would be too old to be opened.
#[test]
fn an_author_whose_commit_was_found_is_not_heard_before_it_speaks() {
    let Two { mut shop, mut phone, .. } = Two::talking();
    let staged = phone.stage(&Change::Keys, now()).unwrap();
    shop.follow_found(&staged.commit, now()).unwrap();
    assert_eq!(shop.stage(&Change::Keys, now()).unwrap_err(), CommitError::NotHeard);
    let before = phone.seal(b"sealed before the author knew that it had won").unwrap();
    assert!(shop.open(&before).is_ok());
    assert!(!shop.may_commit(), "it was heard in the epoch before");
    phone.merge().unwrap();
    says(&mut phone, &mut [&mut shop]);
    commits(&mut shop, &mut [&mut phone]);
}

#[test]
fn a_staged_commit_survives_a_restart_and_can_be_merged_or_given_up() {
    for merge in [true, false] {
        let Two { mut shop, mut phone, .. } = Two::talking();
        let mut store = Store::default();
        store.save(&shop);
        let staged = shop.stage(&Change::Keys, now()).unwrap();
        let mut shop = store.restart(shop);
        assert!(shop.is_pending());
        if merge {
            shop.merge().unwrap();
            let mut shop = store.restart(shop);
            phone.follow(&staged.commit, now()).unwrap();
            says(&mut shop, &mut [&mut phone]);
        } else {
            shop.discard().unwrap();
            let mut shop = store.restart(shop);
            assert!(!shop.is_pending());
            commits(&mut phone, &mut [&mut shop]);
            says(&mut shop, &mut [&mut phone]);
        }
    }
}

/// Post-compromise security: whoever copied a member's whole state reads on until that member's next own commit, and nothing after it.
#[test]
fn a_stolen_state_opens_nothing_after_its_owner_has_committed() {
    let Two { mut shop, mut phone, .. } = Two::talking();
    let stolen: Vec<_> = phone.state().entries().iter().map(|(k, v)| (k.clone(), v.to_vec())).collect();
    let thief = || Conversation::load(State::load(stolen.clone()).unwrap()).unwrap();
    let (mut reads_on, mut follows) = (thief(), thief());
    let before = shop.seal(b"still readable").unwrap();
    assert!(phone.open(&before).is_ok() && reads_on.open(&before).is_ok());
    // The shop's commit does not heal what was stolen from the phone: its path secret is sealed to a key that the thief has.
    let by_shop = shop.stage(&Change::Keys, now()).unwrap();
    shop.merge().unwrap();
    phone.follow(&by_shop.commit, now()).unwrap();
    follows.follow(&by_shop.commit, now()).unwrap();
    let still = shop.seal(b"still readable").unwrap();
    assert!(phone.open(&still).is_ok() && follows.open(&still).is_ok());
    says(&mut phone, &mut [&mut shop]);
    // The phone's own does.
    let by_phone = phone.stage(&Change::Keys, now()).unwrap();
    phone.merge().unwrap();
    shop.follow(&by_phone.commit, now()).unwrap();
    assert!(follows.follow(&by_phone.commit, now()).is_err(), "the thief is the phone to MLS: it cannot follow itself");
    let healed = shop.seal(b"healed").unwrap();
    assert!(phone.open(&healed).is_ok());
    assert!(follows.open(&healed).is_err() && reads_on.open(&healed).is_err());
}

#[test]
fn a_second_device_comes_in_and_goes_and_the_others_see_who_did_it() {
    let mut two = Two::talking();
    let mut tablet = two.tablet();
    assert_eq!((two.shop.members().len(), two.shop.members_of(Role::Customer)), (3, 2));
    commits(&mut tablet, &mut [&mut two.shop, &mut two.phone]);
    says(&mut two.shop, &mut [&mut tablet, &mut two.phone]);
    // Not heard in this epoch, and removed all the same.
    let of = |c: &Conversation| c.members().into_iter().find(|m| m.own).unwrap().leaf;
    let (leaf, shop_leaf) = (of(&tablet), of(&two.shop));
    assert_eq!(two.phone.stage(&Change::Remove(&[shop_leaf]), now()).unwrap_err(), CommitError::NotOurs);
    let staged = two.phone.stage(&Change::Remove(&[leaf]), now()).unwrap();
    let slot = tablet.slot().unwrap();
    two.phone.merge().unwrap();
    assert_eq!(two.shop.follow(&staged.commit, now()).unwrap().removed.len(), 1);
    assert!(tablet.follow(&staged.commit, now()).unwrap().out);
    assert!(!tablet.is_active() && tablet.slot().is_err());
    let after = two.shop.seal(b"without the tablet").unwrap();
    assert!(two.phone.open(&after).is_ok() && tablet.open(&after).is_err());
    assert_ne!(two.shop.slot().unwrap().id(), slot.id(), "who was removed cannot reach the next slot");
}

/// KEY-03: nobody's membership changes but by an endpoint of its own side.
#[test]
fn key_03_a_side_brings_in_and_removes_its_own_endpoints_alone() {
    let mut two = Two::talking();
    let (of_shop, _) = two.spare_of_the_shop();
    let of_shop = std::slice::from_ref(&of_shop);
    assert_eq!(two.phone.stage(&Change::Add(of_shop), now()).unwrap_err(), CommitError::NotOurs);
    let stranger = Pseudonym::generate(&mut OsRng);
    let issuer = Issuer::Customer {
        pseudonym: &stranger,
        business: two.shop.business(),
        endpoint: "tablet",
        suites: Suites::DEFAULT,
    };
    let (bytes, _) = make_spare(&issuer, Suite::Hybrid, now(), &mut OsRng).unwrap();
    let expect = Expect::customer(*two.shop.business(), two.anna.public());
    assert!(Spare::verify(&bytes, &expect, now()).is_err(), "another pseudonym's is not ours");
    let (bytes, _) = make_spare(&two.anna(), Suite::Hybrid, now(), &mut OsRng).unwrap();
    for at in (0..bytes.len()).step_by(37) {
        let mut turned = bytes.clone();
        turned[at] ^= 1;
        assert!(Spare::verify(&turned, &expect, now()).is_err(), "byte {at}");
    }
}

#[test]
fn commits_that_are_none_are_refused_and_change_nothing() {
    let Two { mut shop, mut phone, .. } = Two::talking();
    let staged = shop.stage(&Change::Keys, now()).unwrap();
    for at in (0..staged.commit.len()).step_by(53) {
        let mut turned = staged.commit.clone();
        turned[at] ^= 0x10;
        assert!(phone.follow(&turned, now()).is_err(), "byte {at}");
    }
    let message = shop.seal(b"no commit").unwrap();
    assert_eq!(phone.follow(&message, now()), Err(OpenError::NotAllowed));
    assert_eq!(phone.follow(&[0; 48 * 1024 + 1], now()), Err(OpenError::Malformed));
    let other = Two::talking();
    let mut theirs = other.shop;
    let foreign = theirs.stage(&Change::Keys, now()).unwrap();
    assert_eq!(phone.follow(&foreign.commit, now()), Err(OpenError::WrongGroup));
    // Whatever was tried before, the right one is followed.
    shop.merge().unwrap();
    phone.follow(&staged.commit, now()).unwrap();
    says(&mut shop, &mut [&mut phone]);
}

#[test]
fn a_fork_shows_in_the_authenticator_and_in_nothing_that_opens() {
    let Two { mut shop, mut phone, .. } = Two::talking();
    // A relay that lets both win: each merges its own.
    shop.stage(&Change::Keys, now()).unwrap();
    phone.stage(&Change::Keys, now()).unwrap();
    shop.merge().unwrap();
    phone.merge().unwrap();
    assert_eq!(shop.epoch(), phone.epoch());
    assert_ne!(shop.authenticator(shop.epoch()), phone.authenticator(phone.epoch()));
    let message = shop.seal(b"into the void").unwrap();
    assert_eq!(phone.open(&message), Err(OpenError::Undecryptable));
}

#[test]
fn either_side_begins_a_new_group_between_the_same_identities() {
    for by_shop in [true, false] {
        let two = Two::talking();
        let (business, customer) = (*two.shop.business(), two.anna.public());
        let room = two.shop.room_uri().as_str().to_owned();
        let (mut made, mut joined) = if by_shop {
            let (spare, keys) = two.spare_of_anna();
            let issuer = Issuer::Business {
                identity: &two.business.identity,
                handle: "rosi",
                endpoint: "gateway",
                suites: Suites::DEFAULT,
            };
            let (made, welcome) = Conversation::reform(&issuer, customer, &[spare], now(), &mut OsRng).unwrap();
            let keys = SpareKeys::from_bytes(&keys.to_bytes()).unwrap();
            let joined = Conversation::rejoin(&keys, Role::Customer, &business, &customer, &welcome, now());
            (made, joined.unwrap())
        } else {
            let (spare, keys) = two.spare_of_the_shop();
            let (made, welcome) = Conversation::reform(&two.anna(), customer, &[spare], now(), &mut OsRng).unwrap();
            let joined = Conversation::rejoin(&keys, Role::Business, &business, &customer, &welcome, now());
            (made, joined.unwrap())
        };
        says(&mut made, &mut [&mut joined]);
        says(&mut joined, &mut [&mut made]);
        assert_eq!(made.room_uri().as_str(), room, "message ids outlive the group");
        commits(&mut joined, &mut [&mut made]);
        says(&mut made, &mut [&mut joined]);
    }
}

#[test]
fn a_welcome_joins_for_whom_it_was_made_and_for_the_conversation_it_continues() {
    let two = Two::talking();
    let (business, customer) = (*two.shop.business(), two.anna.public());
    let (spare, keys) = two.spare_of_anna();
    let issuer = Issuer::Business {
        identity: &two.business.identity,
        handle: "rosi",
        endpoint: "gateway",
        suites: Suites::DEFAULT,
    };
    let (_, welcome) = Conversation::reform(&issuer, customer, &[spare], now(), &mut OsRng).unwrap();
    let (_, other_keys) = two.spare_of_anna();
    let join = |keys: &SpareKeys, role, customer: &[u8; 32], welcome: &[u8], at| {
        Conversation::rejoin(keys, role, &business, customer, welcome, at).map(drop)
    };
    assert_eq!(join(&other_keys, Role::Customer, &customer, &welcome, now()), Err(JoinError::NoKeyPackage));
    assert!(matches!(join(&keys, Role::Customer, &[1; 32], &welcome, now()), Err(JoinError::Certificate(_))));
    assert_eq!(join(&keys, Role::Customer, &customer, &welcome, keys.not_after()), Err(JoinError::NoKeyPackage));
    assert!(join(&keys, Role::Customer, &customer, &welcome[..welcome.len() - 1], now()).is_err());
    assert!(join(&keys, Role::Customer, &customer, &welcome, now()).is_ok());
    // With a spare that was left for another business nothing is even begun.
    let other = Two::talking();
    let (spare, _) = two.spare_of_anna();
    let issuer = Issuer::Business {
        identity: &other.business.identity,
        handle: "rosi",
        endpoint: "gateway",
        suites: Suites::DEFAULT,
    };
    assert!(Conversation::reform(&issuer, customer, &[spare], now(), &mut OsRng).is_err());
}
