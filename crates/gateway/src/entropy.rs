//! Randomness as a parameter: one source, handed to [`crate::Gateway::serve`], shared by all parts.

use std::sync::{Arc, Mutex, PoisonError};

use bulla_client::store::tx::Rng;
use rand_core::{CryptoRng, RngCore};

/// The characters of identifiers that people copy: no signs, so that a double click selects all.
const BASE62: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A shared source of randomness.
#[derive(Clone)]
pub(crate) struct Entropy(Arc<Mutex<Rng>>);

impl Entropy {
    pub(crate) fn new(rng: Rng) -> Self {
        Self(Arc::new(Mutex::new(rng)))
    }

    fn with<R>(&self, f: impl FnOnce(&mut Rng) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A number below `bound`, without bias that matters: 64 bits against bounds below 2^50.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.with(|rng| rng.next_u64()).checked_rem(bound).unwrap_or(0)
    }

    /// Letters and digits.
    pub(crate) fn base62(&self, length: usize) -> String {
        (0..length).map(|_| base62_digit(self.below(62))).collect()
    }

    /// Capitals and the digits 2 to 7: what nobody misreads on paper.
    pub(crate) fn base32(&self, length: usize) -> String {
        let mut raw = vec![0; length];
        self.with(|rng| rng.fill_bytes(&mut raw));
        // Eight characters for each five bytes: more than are wanted.
        let mut text = data_encoding::BASE32_NOPAD.encode(&raw);
        text.truncate(length);
        text
    }

    /// Lowercase hexadecimal of so many bytes.
    pub(crate) fn hex(&self, bytes: usize) -> String {
        let mut raw = vec![0; bytes];
        self.with(|rng| rng.fill_bytes(&mut raw));
        data_encoding::HEXLOWER.encode(&raw)
    }

    /// A decimal number of exactly `digits` digits (at most 15, so below 2^53), as text.
    pub(crate) fn decimal(&self, digits: u32) -> String {
        let low = 10_u64.pow(digits.min(15).saturating_sub(1));
        (low + self.below(low * 9)).to_string()
    }
}

/// The character of a number below 62.
pub(crate) fn base62_digit(n: u64) -> char {
    usize::try_from(n).ok().and_then(|n| BASE62.get(n)).map_or('A', |b| char::from(*b))
}

impl RngCore for Entropy {
    fn next_u32(&mut self) -> u32 {
        self.with(|rng| rng.next_u32())
    }
    fn next_u64(&mut self) -> u64 {
        self.with(|rng| rng.next_u64())
    }
    fn fill_bytes(&mut self, dest: &mut [u8]) {
        self.with(|rng| rng.fill_bytes(dest));
    }
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rand_core::Error> {
        self.with(|rng| rng.try_fill_bytes(dest))
    }
}

impl CryptoRng for Entropy {}

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_have_their_length_and_fit_a_double() {
        let entropy = Entropy::new(Box::new(rand_core::OsRng));
        for _ in 0..1_000 {
            let id = entropy.decimal(15);
            assert_eq!(id.len(), 15, "{id}");
            assert!(id.parse::<u64>().unwrap() < 1 << 53);
        }
    }
}
