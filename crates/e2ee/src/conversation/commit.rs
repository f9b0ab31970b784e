//! Commits: how a group moves from one epoch to the next.
//!
//! The author stages ([`Conversation::stage`]), stores, claims the epoch's slot, and merges if it won, or discards and follows the winner
//! ([`Conversation::follow`]). All proposals are by value. Each side adds and removes its own endpoints alone; nobody changes anything else.

use openmls::group::{PastEpochDeletion, StagedCommit};
use openmls::prelude::{BasicCredential, LeafNodeIndex};
use openmls::prelude::{
    LeafNodeParameters, MlsMessageBodyIn, ProcessedMessageContent, Proposal, ProposalOrRefType, ProtocolMessage,
    Sender as MlsSender,
};
use openmls_traits::OpenMlsProvider as _;
use zeroize::Zeroizing;

use super::roster::{Heard, Member};
use super::{Conversation, OpenError, open_error, parse, to_bytes};
use crate::certificate::{Certificate, Role};
use crate::limits;
use crate::sabotage::{Rule, broken};
use crate::slot::Slot;
use crate::spare::{Spare, check_package};
use crate::state::{FORMAT, StateError};
use crate::storage::kind;
use bulla_protocol::label::{self, Label};

/// What a commit changes, besides fresh keys on its author's path.
#[derive(Debug)]
pub enum Change<'a> {
    /// Nothing.
    Keys,
    /// Endpoints of our own side come in.
    Add(&'a [Spare]),
    /// Endpoints of our own side, by leaf, go.
    Remove(&'a [u32]),
}

/// Why a commit was not staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// One is staged already.
    #[error("a commit is staged already")]
    Pending,
    /// A member has not been heard in the current epoch: another epoch would leave it two behind.
    #[error("a member has not been heard in this epoch")]
    NotHeard,
    /// A member of the other side, ourselves, or nobody.
    #[error("that is not ours to change")]
    NotOurs,
    /// More members than [`limits::MEMBERS`], or a commit over [`limits::COMMIT`].
    #[error("the group would be too large")]
    TooLarge,
    /// OpenMLS or the state failed: drop the conversation and load it again.
    #[error("the commit could not be made")]
    Crypto,
}

/// A staged commit.
#[derive(Debug)]
pub struct Staged {
    /// The commit, an MLS message.
    pub commit: Vec<u8>,
    /// For those who come in.
    pub welcome: Option<Vec<u8>>,
    /// The slot of the epoch that it ends.
    pub slot: Slot,
}

/// A commit of another member that was followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Who made it.
    pub by: super::Sender,
    /// Who came in.
    pub added: Vec<super::Sender>,
    /// Who went.
    pub removed: Vec<super::Sender>,
    /// We are among those who went: the group is over for us.
    pub out: bool,
}

const PREVIOUS: [u8; 1] = [kind::PREVIOUS];
const CROSSING: [u8; 1] = [kind::CROSSING];
const QUIET: [u8; 1] = [kind::QUIET];

/// Bytes of an epoch authenticator that receipts carry.
pub const AUTHENTICATOR: usize = 8;

impl Conversation {
    /// The slot of the current epoch.
    pub fn slot(&self) -> Result<Slot, StateError> {
        let export = |label: Label| -> Result<[u8; 32], StateError> {
            let name = label.split_last().and_then(|(_, name)| std::str::from_utf8(name).ok()).unwrap_or_default();
            let secret = self.group.export_secret(self.provider.crypto(), name, &[], 32);
            let secret = Zeroizing::new(secret.map_err(|_| StateError::Damaged)?);
            <[u8; 32]>::try_from(secret.as_slice()).map_err(|_| StateError::Damaged)
        };
        Ok(Slot::new(export(label::SLOT_ID)?, Zeroizing::new(export(label::SLOT_KEY)?)))
    }

    /// Everyone in the group, by leaf.
    pub fn members(&self) -> Vec<Member> {
        let own = self.group.own_leaf_index().u32();
        let member = |(leaf, certificate): (u32, &Certificate)| Member {
            leaf,
            who: certificate.into(),
            own: leaf == own,
            heard: self.heard.has(leaf),
        };
        self.roster.iter().map(member).collect()
    }

    /// Whether everybody else has been heard in this epoch, so that another one may begin.
    #[must_use]
    pub fn may_commit(&self) -> bool {
        let own = self.group.own_leaf_index().u32();
        self.is_active() && self.roster.iter().all(|(leaf, _)| leaf == own || self.heard.has(leaf))
    }

    /// Whether a commit of ours is staged.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.group.pending_commit().is_some()
    }

    /// Whether we are still a member.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.group.is_active()
    }

    /// Stages a commit. It is part of the state from now on; messages are sealed in the current epoch until it is merged.
    pub fn stage(&mut self, change: &Change<'_>, now: u64) -> Result<Staged, CommitError> {
        if self.is_pending() {
            return Err(CommitError::Pending);
        }
        // To remove somebody one need not have heard him: otherwise a lost device would hold the group for ever.
        if !matches!(change, Change::Remove(_)) && !self.may_commit() && !broken(Rule::AllHeard) {
            return Err(CommitError::NotHeard);
        }
        let own = self.group.own_leaf_index().u32();
        let ours = |leaf: u32| leaf != own && self.roster.at(leaf).is_some_and(|c| c.role() == self.meta.role);
        let (adds, removals) = match change {
            Change::Keys => (Vec::new(), Vec::new()),
            Change::Add(spares) => {
                let expect = self.meta.expect(self.meta.role);
                for spare in *spares {
                    let (suite, certificate) =
                        check_package(&spare.package, &expect, now).map_err(|_| CommitError::NotOurs)?;
                    if suite != self.suite() || self.roster.has(certificate.role(), certificate.endpoint()) {
                        return Err(CommitError::NotOurs);
                    }
                }
                (spares.iter().map(|s| s.package.clone()).collect(), Vec::new())
            }
            Change::Remove(leaves) if leaves.iter().all(|leaf| ours(*leaf)) && !leaves.is_empty() => {
                (Vec::new(), leaves.iter().map(|leaf| LeafNodeIndex::new(*leaf)).collect())
            }
            Change::Remove(_) => return Err(CommitError::NotOurs),
        };
        if self.roster.iter().count() + adds.len() > limits::MEMBERS {
            return Err(CommitError::TooLarge);
        }
        let slot = self.slot().map_err(|_| CommitError::Crypto)?;
        let bundle = self
            .group
            .commit_builder()
            .leaf_node_parameters(LeafNodeParameters::default())
            .force_self_update(true)
            .propose_adds(adds)
            .propose_removals(removals)
            .load_psks(&self.provider.state)
            .map_err(|_| CommitError::Crypto)?
            .build(self.provider.rand(), self.provider.crypto(), &self.meta.leaf, |_| true)
            .map_err(|_| CommitError::Crypto)?
            .stage_commit(&self.provider)
            .map_err(|_| CommitError::Crypto)?;
        let (commit, welcome, _) = bundle.into_messages();
        let commit = to_bytes(&commit).ok_or(CommitError::Crypto)?;
        let welcome = welcome.map(|w| to_bytes(&w).ok_or(CommitError::Crypto)).transpose()?;
        if commit.len() > limits::COMMIT || welcome.as_ref().is_some_and(|w| w.len() > limits::WELCOME) {
            self.discard().map_err(|_| CommitError::Crypto)?;
            return Err(CommitError::TooLarge);
        }
        Ok(Staged { commit, welcome, slot })
    }

    /// The staged commit won its slot: the next epoch begins.
    pub fn merge(&mut self) -> Result<(), StateError> {
        let authenticator = self.authenticator_now();
        self.group.merge_pending_commit(&self.provider).map_err(|_| StateError::Damaged)?;
        self.set_quiet(false);
        self.begin_epoch(authenticator, None)
    }

    /// The staged commit is given up.
    pub fn discard(&mut self) -> Result<(), StateError> {
        self.group.clear_pending_commit(&self.provider.state).map_err(|_| StateError::Damaged)
    }

    /// Whether a commit ends an epoch of this group that is not reached here.
    #[must_use]
    pub fn is_ahead(&self, commit: &[u8]) -> bool {
        let Some(MlsMessageBodyIn::PrivateMessage(message)) = parse(commit) else { return false };
        let message = ProtocolMessage::from(message);
        message.group_id() == self.group.group_id() && message.epoch() > self.group.epoch()
    }

    /// Follows a commit that its author sent, and so has merged, into the next epoch. A staged commit of ours is given up by that.
    pub fn follow(&mut self, commit: &[u8], now: u64) -> Result<Followed, OpenError> {
        self.follow_of(commit, now, true)
    }

    /// Follows a commit that was found in its slot. Its author may not know yet that it won, and still seals in the epoch that it ends: it
    /// is not heard in the next one before it speaks there, or that epoch would end as well and its messages be too old.
    pub fn follow_found(&mut self, commit: &[u8], now: u64) -> Result<Followed, OpenError> {
        self.follow_of(commit, now, false)
    }

    fn follow_of(&mut self, commit: &[u8], now: u64, is_sent: bool) -> Result<Followed, OpenError> {
        if commit.len() > limits::COMMIT {
            return Err(OpenError::Malformed);
        }
        let message = match parse(commit).ok_or(OpenError::Malformed)? {
            MlsMessageBodyIn::PrivateMessage(message) => ProtocolMessage::from(message),
            _ => return Err(OpenError::Malformed),
        };
        if message.group_id() != self.group.group_id() {
            return Err(OpenError::WrongGroup);
        }
        match message.epoch().cmp(&self.group.epoch()) {
            std::cmp::Ordering::Less => return Err(OpenError::PastEpoch),
            std::cmp::Ordering::Greater => return Err(OpenError::FutureEpoch),
            std::cmp::Ordering::Equal => {}
        }
        let processed = self.group.process_message(&self.provider, message).map_err(open_error)?;
        let MlsSender::Member(author) = *processed.sender() else { return Err(OpenError::NotAllowed) };
        let author = author.u32();
        let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
            return Err(OpenError::NotAllowed);
        };
        let by = self.roster.at(author).ok_or(OpenError::Sender)?.clone();
        let (added, removed) = self.check_commit(&staged, author, &by, now)?;
        // The rule that binds an author (`stage`), as far as it can be seen from here. It is what bounds a member who commits without end
        // (MLS-06): one epoch for each that we have spoken in.
        let only_removes = added.is_empty() && !removed.is_empty();
        if !only_removes && self.is_quiet() {
            return Err(OpenError::TooSoon);
        }
        let out = staged.self_removed();
        let authenticator = self.authenticator_now();
        self.group.merge_staged_commit(&self.provider, *staged).map_err(|_| OpenError::State(StateError::Damaged))?;
        if !out {
            self.set_quiet(true);
            self.begin_epoch(authenticator, is_sent.then_some(author))?;
        }
        Ok(Followed { by: (&by).into(), added, removed, out })
    }

    /// Nothing but fresh keys of the author, and comings and goings on the author's own side (KEY-03, MLS-05).
    fn check_commit(
        &self,
        staged: &StagedCommit,
        author: u32,
        by: &Certificate,
        now: u64,
    ) -> Result<(Vec<super::Sender>, Vec<super::Sender>), OpenError> {
        let own = self.group.own_leaf_index().u32();
        let path = staged.update_path_leaf_node().ok_or(OpenError::NotAllowed)?;
        let same = |credential: &openmls::prelude::Credential| credential.serialized_content() == by.as_bytes();
        let is_plain = staged.group_context().extensions().iter().next().is_none();
        if author == own || !same(path.credential()) || path.signature_key().as_slice() != by.leaf() || !is_plain {
            return Err(OpenError::NotAllowed);
        }
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for queued in staged.queued_proposals() {
            let by_author = matches!(queued.sender(), MlsSender::Member(index) if index.u32() == author);
            if queued.proposal_or_ref_type() != ProposalOrRefType::Proposal || !by_author {
                return Err(OpenError::NotAllowed);
            }
            match queued.proposal() {
                Proposal::Add(add) => {
                    let expect = self.meta.expect(by.role());
                    let certificate = check_package(add.key_package(), &expect, now);
                    let (_, certificate) = certificate.map_err(|_| OpenError::NotAllowed)?;
                    let who = super::Sender::from(&certificate);
                    // Names tell endpoints apart: no two of a side have the same.
                    if self.roster.has(who.role, &who.endpoint) || added.contains(&who) {
                        return Err(OpenError::NotAllowed);
                    }
                    added.push(who);
                }
                Proposal::Remove(remove) => match self.roster.at(remove.removed().u32()) {
                    Some(gone) if gone.role() == by.role() && remove.removed().u32() != author => {
                        removed.push(gone.into());
                    }
                    _ => return Err(OpenError::NotAllowed),
                },
                _ => return Err(OpenError::NotAllowed),
            }
        }
        if self.roster.iter().count() + added.len() > limits::MEMBERS {
            return Err(OpenError::NotAllowed);
        }
        Ok((added, removed))
    }

    /// After a merge: the roster is read anew, and nobody has been heard but an author who is known to be there.
    fn begin_epoch(&mut self, before: [u8; AUTHENTICATOR], author: Option<u32>) -> Result<(), StateError> {
        let epoch = self.epoch().saturating_sub(1);
        let value = [&[FORMAT][..], &epoch.to_be_bytes(), &before].concat();
        self.provider.state.put(PREVIOUS.to_vec(), Zeroizing::new(value));
        let roster = self.roster.after(&self.group, &self.meta)?;
        let stays = |(leaf, member): (u32, &Certificate)| {
            roster.at(leaf).is_some_and(|now| now.as_bytes() == member.as_bytes())
        };
        let all_stay = self.roster.iter().all(stays);
        self.roster = roster;
        self.heard = Heard::default();
        if let Some(author) = author {
            self.heard.note(author);
        }
        self.heard.store(&self.provider.state);
        if all_stay {
            self.provider.state.put(CROSSING.to_vec(), Zeroizing::new(vec![FORMAT]));
        } else {
            self.provider.state.delete(&CROSSING);
        }
        Ok(())
    }

    /// Erases the keys of the epochs before, once everybody was heard in this one and somebody has spoken in it: what a member sends arrives in
    /// its order, so that nothing of an epoch before is on its way any more. Not where somebody was removed, who is not heard in this one and
    /// may have said something before: then they go with a later one.
    pub(super) fn forget_epoch_before(&mut self) -> Result<(), StateError> {
        if !self.may_commit() || self.provider.state.get(&CROSSING).is_none() {
            return Ok(());
        }
        self.group
            .delete_past_epoch_secrets(&self.provider, PastEpochDeletion::delete_all())
            .map_err(|_| StateError::Damaged)?;
        self.provider.state.delete(&CROSSING);
        Ok(())
    }

    /// Whether nobody can have heard us in this epoch: another began it, and we have said nothing since.
    fn is_quiet(&self) -> bool {
        self.provider.state.get(&QUIET).is_some()
    }

    pub(super) fn set_quiet(&self, quiet: bool) {
        match (quiet, self.is_quiet()) {
            (true, false) => self.provider.state.put(QUIET.to_vec(), Zeroizing::new(vec![FORMAT])),
            (false, true) => self.provider.state.delete(&QUIET),
            _ => {}
        }
    }

    fn authenticator_now(&self) -> [u8; AUTHENTICATOR] {
        let mut short = [0; AUTHENTICATOR];
        for (to, from) in short.iter_mut().zip(self.epoch_authenticator()) {
            *to = *from;
        }
        short
    }

    /// The first bytes of an epoch's authenticator, for the current epoch and the one before: what receipts carry, so that a fork is
    /// found by whoever hears of it.
    #[must_use]
    pub fn authenticator(&self, epoch: u64) -> Option<[u8; AUTHENTICATOR]> {
        if epoch == self.epoch() {
            return Some(self.authenticator_now());
        }
        let value = self.provider.state.get(&PREVIOUS)?;
        let (stored, authenticator) = value.get(1..)?.split_first_chunk::<8>()?;
        (u64::from_be_bytes(*stored) == epoch).then(|| authenticator.try_into().ok()).flatten()
    }

    /// Members of one side.
    #[must_use]
    pub fn members_of(&self, role: Role) -> usize {
        self.roster.iter().filter(|(_, c)| c.role() == role).count()
    }
}

/// The identity in a credential, if it is a basic one.
pub(super) fn identity_of(credential: openmls::prelude::Credential) -> Option<Vec<u8>> {
    BasicCredential::try_from(credential).ok().map(|c| c.identity().to_vec())
}
