//! The relay's randomness: given by whoever starts it, and shared by its parts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand_core::{CryptoRng, CryptoRngCore, Error, RngCore};

/// A source that several parts draw from.
#[derive(Clone)]
pub(crate) struct Random(Arc<Mutex<Box<dyn CryptoRngCore + Send>>>);

impl Random {
    /// Draws from this.
    pub(crate) fn new(source: Box<dyn CryptoRngCore + Send>) -> Self {
        Self(Arc::new(Mutex::new(source)))
    }

    /// So many bytes.
    pub(crate) fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.source().fill_bytes(&mut bytes);
        bytes
    }

    fn source(&self) -> MutexGuard<'_, Box<dyn CryptoRngCore + Send>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RngCore for Random {
    fn next_u32(&mut self) -> u32 {
        self.source().next_u32()
    }
    fn next_u64(&mut self) -> u64 {
        self.source().next_u64()
    }
    fn fill_bytes(&mut self, to: &mut [u8]) {
        self.source().fill_bytes(to);
    }
    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Error> {
        self.source().try_fill_bytes(to)
    }
}

impl CryptoRng for Random {}
