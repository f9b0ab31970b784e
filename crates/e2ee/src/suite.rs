//! Cipher suites: which ones there are, which of two is better, and the list of those that an endpoint speaks.
//!
//! A suite's place among the others is part of the protocol, so that two endpoints never disagree on which is better: one that comes later
//! stands above all before it. A program that no longer wants a suite leaves it out of its list. All sign with Ed25519; none with ECDSA is here,
//! and none that is not here is ever spoken (MLS-05).

use openmls::prelude::Ciphersuite;

/// A cipher suite, in the order of the protocol: the last is the best. Each has a bit in [`Suites`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Suite {
    /// `MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519`: classical. Not among those that are spoken unless somebody asks for it.
    Classical,
    /// `MLS_128_MLKEM768X25519_AES128GCM_SHA256_Ed25519` of draft-ietf-mls-pq-ciphersuites: hybrid confidentiality, classical signatures.
    Hybrid,
}

impl Suite {
    /// Best first.
    const ALL: [Self; 2] = [Self::Hybrid, Self::Classical];

    /// Its number in MLS.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Classical => 0x0001,
            Self::Hybrid => 0x004f,
        }
    }

    /// The suite of this number, if this build knows it.
    #[must_use]
    pub fn of_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.code() == code)
    }

    pub(crate) const fn mls(self) -> Ciphersuite {
        match self {
            Self::Classical => Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519,
            Self::Hybrid => Ciphersuite::MLS_128_MLKEM768X25519_AES128GCM_SHA256_Ed25519,
        }
    }

    pub(crate) fn of_mls(mls: Ciphersuite) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.mls() == mls)
    }
}

/// The suites that an endpoint speaks, best first, at least one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Suites(u8);

impl Default for Suites {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Suites {
    /// What programs speak unless they are told otherwise. Without the classical one: whoever offers it can be talked down to it.
    pub const DEFAULT: Self = Self::only(Suite::Hybrid);

    /// All that this build knows.
    pub const ALL: Self = Self(Self::only(Suite::Hybrid).0 | Self::only(Suite::Classical).0);

    /// This one alone.
    #[must_use]
    pub const fn only(suite: Suite) -> Self {
        Self(1 << suite as u8)
    }

    fn of_bits(bits: u8) -> Option<Self> {
        (bits != 0).then_some(Self(bits))
    }

    /// These; `None` if there are none.
    #[must_use]
    pub fn of(suites: impl IntoIterator<Item = Suite>) -> Option<Self> {
        Self::of_bits(suites.into_iter().fold(0, |bits, suite| bits | Self::only(suite).0))
    }

    /// Those of the numbers that this build knows.
    #[must_use]
    pub fn of_codes(codes: impl IntoIterator<Item = u16>) -> Option<Self> {
        Self::of(codes.into_iter().filter_map(Suite::of_code))
    }

    /// Their numbers, best first.
    #[must_use]
    pub fn codes(self) -> Vec<u16> {
        self.iter().map(Suite::code).collect()
    }

    /// Best first.
    pub fn iter(self) -> impl Iterator<Item = Suite> {
        Suite::ALL.into_iter().filter(move |suite| self.has(*suite))
    }

    /// Whether it is among them.
    #[must_use]
    pub fn has(self, suite: Suite) -> bool {
        self.0 & Self::only(suite).0 != 0
    }

    /// Those that the others speak as well; `None` if there are none.
    #[must_use]
    pub fn common(self, others: Self) -> Option<Self> {
        Self::of_bits(self.0 & others.0)
    }

    /// The best.
    #[must_use]
    pub fn best(self) -> Suite {
        // There is at least one.
        self.iter().next().unwrap_or(Suite::Hybrid)
    }
}

impl core::fmt::Debug for Suites {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_best_first_has_each_once_and_is_never_empty() {
        let (old, new) = (Suite::Classical, Suite::Hybrid);
        assert_eq!(Suites::of([old, new, old]), Some(Suites::ALL));
        assert_eq!(Suites::ALL.iter().collect::<Vec<_>>(), [new, old]);
        assert!(Suites::ALL.iter().is_sorted_by(|a, b| a > b), "in the order of the protocol");
        assert_eq!(Suites::of([]), None);
        assert_eq!(Suites::ALL.best(), new);
        assert_eq!(Suites::only(new).common(Suites::only(old)), None);
        assert_eq!(Suites::ALL.common(Suites::only(old)).unwrap().best(), old);
        assert_eq!(Suites::of_codes(Suites::ALL.codes()), Some(Suites::ALL));
        assert_eq!(Suites::of_codes([0x7a7a]), None);
    }

    /// MLS-05: whatever number stands in a list, no suite that signs with ECDSA, or with anything but Ed25519, comes out of it.
    #[test]
    fn mls_05_no_suite_with_ecdsa_is_known() {
        for code in 0..=u16::MAX {
            let Some(suite) = Suite::of_code(code) else { continue };
            assert_eq!(suite.mls() as u16, code);
            assert_eq!(Suite::of_mls(suite.mls()), Some(suite));
            assert_eq!(suite.mls().signature_algorithm(), openmls::prelude::SignatureScheme::ED25519);
        }
        for ecdsa in [0x0002, 0x0005, 0x0007] {
            assert_eq!(Suite::of_code(ecdsa), None);
        }
    }
}
