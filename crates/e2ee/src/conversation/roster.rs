//! Who is in a group, and who of them has been heard in its current epoch.

use std::collections::BTreeMap;

use openmls::group::MlsGroup;
use openmls::prelude::BasicCredential;
use zeroize::Zeroizing;

use super::{Meta, Sender};
use crate::certificate::{Certificate, CertificateError, Expect, Role};
use crate::state::{FORMAT, State, StateError};
use crate::storage::kind;

/// A member of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its leaf's number.
    pub leaf: u32,
    /// Who it is.
    pub who: Sender,
    /// It is this endpoint.
    pub own: bool,
    /// It was heard in the current epoch: it has followed the commit that began it.
    pub heard: bool,
}

impl From<&Certificate> for Sender {
    fn from(certificate: &Certificate) -> Self {
        Self {
            role: certificate.role(),
            identity: *certificate.identity(),
            endpoint: certificate.endpoint().to_owned(),
        }
    }
}

/// The verified certificates of all members, by leaf.
#[derive(Debug, Default)]
pub(super) struct Roster(BTreeMap<u32, Certificate>);

impl Roster {
    /// Of a group that was stored: its members were verified when they came in; here only that nothing else is in the state.
    pub(super) fn stored(group: &MlsGroup, meta: &Meta) -> Result<Self, StateError> {
        Self::read(group, |bytes| of_either(bytes, meta, Certificate::stored))
    }

    /// Of the group as it is now: who is new is verified.
    pub(super) fn after(&self, group: &MlsGroup, meta: &Meta) -> Result<Self, StateError> {
        Self::read(group, |bytes| match self.0.values().find(|known| known.as_bytes() == bytes) {
            Some(known) => Ok(known.clone()),
            None => verify_member(bytes, meta),
        })
    }

    fn read(
        group: &MlsGroup,
        certificate: impl Fn(&[u8]) -> Result<Certificate, CertificateError>,
    ) -> Result<Self, StateError> {
        let of = |member: openmls::prelude::Member| {
            let credential = BasicCredential::try_from(member.credential).map_err(|_| StateError::Damaged)?;
            Ok((member.index.u32(), certificate(credential.identity()).map_err(|_| StateError::Damaged)?))
        };
        group.members().map(of).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn at(&self, leaf: u32) -> Option<&Certificate> {
        self.0.get(&leaf)
    }

    /// Whether an endpoint of this name is there.
    pub(super) fn has(&self, role: Role, endpoint: &str) -> bool {
        self.0.values().any(|c| c.role() == role && c.endpoint() == endpoint)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Certificate)> {
        self.0.iter().map(|(leaf, certificate)| (*leaf, certificate))
    }
}

/// A certificate that says it is of one of the conversation's two sides, and is.
pub(super) fn verify_member(bytes: &[u8], meta: &Meta) -> Result<Certificate, CertificateError> {
    of_either(bytes, meta, Certificate::verify_ever)
}

fn of_either(
    bytes: &[u8],
    meta: &Meta,
    verify: impl Fn(&[u8], &Expect) -> Result<Certificate, CertificateError>,
) -> Result<Certificate, CertificateError> {
    match verify(bytes, &meta.expect(Role::Business)) {
        Err(CertificateError::WrongIdentity) => verify(bytes, &meta.expect(Role::Customer)),
        verified => verified,
    }
}

impl Meta {
    /// Who a member on a side must be.
    pub(super) fn expect(&self, role: Role) -> Expect {
        match role {
            Role::Business => Expect::business(self.business),
            Role::Customer => Expect::customer(self.business, self.customer),
        }
    }
}

/// What was sealed here in the current epoch, and how much of it had been when each other member was last heard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) sealed: u32,
    at: BTreeMap<u32, u32>,
}

impl Heard {
    const KEY: [u8; 1] = [kind::HEARD];

    pub(super) fn note(&mut self, leaf: u32) {
        self.at.insert(leaf, self.sealed);
    }

    pub(super) fn has(&self, leaf: u32) -> bool {
        self.at.contains_key(&leaf)
    }

    /// Messages sealed since anybody was heard.
    pub(super) fn unheard(&self) -> u32 {
        self.sealed - self.at.values().copied().max().unwrap_or(0).min(self.sealed)
    }

    pub(super) fn store(&self, state: &State) {
        let mut value = Zeroizing::new(vec![FORMAT]);
        value.extend_from_slice(&self.sealed.to_be_bytes());
        for (leaf, at) in &self.at {
            value.extend_from_slice(&leaf.to_be_bytes());
            value.extend_from_slice(&at.to_be_bytes());
        }
        state.put(Self::KEY.to_vec(), value);
    }

    pub(super) fn load(state: &State) -> Result<Self, StateError> {
        let Some(value) = state.get(&Self::KEY) else {
            // Before commits there was one number: messages sealed since the one other member was heard.
            return match state.get(&[kind::UNHEARD]).as_deref().map(Vec::as_slice) {
                None => Ok(Self::default()),
                Some([FORMAT, a, b, c, d]) => {
                    Ok(Self { sealed: u32::from_be_bytes([*a, *b, *c, *d]), at: BTreeMap::new() })
                }
                Some(_) => Err(StateError::Damaged),
            };
        };
        let rest = value.get(1..).ok_or(StateError::Damaged)?;
        let (sealed, rest) = rest.split_first_chunk::<4>().ok_or(StateError::Damaged)?;
        let mut heard = Self { sealed: u32::from_be_bytes(*sealed), at: BTreeMap::new() };
        let (pairs, odd) = rest.as_chunks::<8>();
        if !odd.is_empty() {
            return Err(StateError::Damaged);
        }
        for [a, b, c, d, e, f, g, h] in pairs {
            heard.at.insert(u32::from_be_bytes([*a, *b, *c, *d]), u32::from_be_bytes([*e, *f, *g, *h]));
        }
        Ok(heard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_is_stored_and_counts_from_whoever_spoke_last() {
        let mut heard = Heard { sealed: 5, ..Heard::default() };
        assert_eq!(heard.unheard(), 5);
        heard.note(1);
        heard.sealed += 3;
        heard.note(2);
        heard.sealed += 1;
        assert_eq!(heard.unheard(), 1);
        assert!(heard.has(1) && !heard.has(3));
        let state = State::default();
        heard.store(&state);
        assert_eq!(Heard::load(&state).unwrap(), heard);
    }

    #[test]
    fn a_count_of_the_first_version_is_read() {
        let state = State::default();
        state.put(vec![kind::UNHEARD], Zeroizing::new(vec![FORMAT, 0, 0, 1, 2]));
        assert_eq!(Heard::load(&state).unwrap().unheard(), 258);
        state.put(vec![kind::HEARD], Zeroizing::new(vec![FORMAT, 0, 0]));
        assert_eq!(Heard::load(&state), Err(StateError::Damaged));
    }
}
