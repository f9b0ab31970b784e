//! Blobs: sealed attachments at a relay. Reading and writing are separate rights, each a key of which the relay keeps a hash.

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::frame;
use crate::id::{BlobId, WrongLength, exact};
use crate::label;
use crate::limits::{BLOB_PART, MAX_BLOB};
use crate::permit::{Permit, PermitError};

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident: $label:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// From bytes that were made at random or derived, or read where such were written.
            #[must_use]
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// From what follows `Bearer` in a request.
            #[must_use]
            pub fn from_hex(text: &str) -> Option<Self> {
                let bytes = zeroize::Zeroizing::new(data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?);
                exact(&bytes).ok().map(Self)
            }

            /// As it follows `Bearer` in a request.
            #[must_use]
            pub fn to_hex(&self) -> String {
                data_encoding::HEXLOWER.encode(&self.0)
            }

            /// The secret bytes, to be stored where it may be.
            #[must_use]
            pub const fn expose(&self) -> &[u8; 32] {
                &self.0
            }

            /// What a relay keeps of it.
            #[must_use]
            pub fn hash(&self) -> [u8; 32] {
                Sha256::new().chain_update(label::$label).chain_update(self.0).finalize().into()
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }
    )*};
}

keys! {
    /// Whoever has it may read a blob.
    ReadKey: BLOB_READ;
    /// Whoever has it may write a blob's parts, extend its time and delete it.
    WriteKey: BLOB_WRITE;
}

/// What a blob is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewBlob {
    /// Its random name.
    pub blob: BlobId,
    /// Its whole length, from 1 to [`MAX_BLOB`].
    pub bytes: u64,
    /// [`ReadKey::hash`].
    pub read_hash: [u8; 32],
    /// [`WriteKey::hash`].
    pub write_hash: [u8; 32],
}

/// Why a request for a new blob is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NewBlobError {
    /// A field of wrong length.
    #[error(transparent)]
    Length(#[from] WrongLength),
    /// No permit, or none that this version knows.
    #[error(transparent)]
    Permit(#[from] PermitError),
    /// A field that must be there is not.
    #[error("a field is missing")]
    Missing,
    /// Empty or over [`MAX_BLOB`].
    #[error("a blob has 1 to {MAX_BLOB} bytes")]
    Size,
}

impl NewBlob {
    /// What the permit's MAC proves, after its label and the relay's name.
    #[must_use]
    pub fn proven(&self) -> [u8; 88] {
        let mut out = [0; 88];
        let parts = [&self.blob.as_bytes()[..], &self.bytes.to_be_bytes(), &self.read_hash, &self.write_hash];
        for (to, from) in out.iter_mut().zip(parts.concat()) {
            *to = from;
        }
        out
    }

    /// How many parts it lies in.
    #[must_use]
    pub const fn parts(&self) -> u32 {
        parts(self.bytes)
    }

    /// From a request, with the permit and the proof.
    pub fn from_frame(f: &frame::CreateBlob) -> Result<(Self, Permit, [u8; 32]), NewBlobError> {
        let permit = Permit::from_frame(f.permit.as_ref().ok_or(NewBlobError::Missing)?)?;
        let new = Self {
            blob: BlobId::from_slice(&f.blob)?,
            bytes: f.bytes,
            read_hash: exact(&f.read_hash)?,
            write_hash: exact(&f.write_hash)?,
        };
        if new.bytes == 0 || new.bytes > MAX_BLOB {
            return Err(NewBlobError::Size);
        }
        Ok((new, permit, exact(&f.proof)?))
    }

    /// As a request.
    #[must_use]
    pub fn to_frame(&self, permit: &Permit, proof: &[u8; 32]) -> frame::CreateBlob {
        frame::CreateBlob {
            permit: Some(permit.to_frame()),
            proof: proof.to_vec(),
            blob: self.blob.to_vec(),
            bytes: self.bytes,
            read_hash: self.read_hash.to_vec(),
            write_hash: self.write_hash.to_vec(),
        }
    }
}

/// How many parts a blob of so many bytes lies in.
#[must_use]
pub const fn parts(bytes: u64) -> u32 {
    // At most 104 for the largest.
    bytes.div_ceil(BLOB_PART) as u32
}

/// How many bytes a part has, if there is such a part.
#[must_use]
pub const fn part_len(bytes: u64, part: u32) -> Option<u64> {
    let from = part as u64 * BLOB_PART;
    if from >= bytes {
        None
    } else if bytes - from < BLOB_PART {
        Some(bytes - from)
    } else {
        Some(BLOB_PART)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_a_blob_and_no_more() {
        for bytes in [1, BLOB_PART - 1, BLOB_PART, BLOB_PART + 1, 3 * BLOB_PART, MAX_BLOB] {
            let all = parts(bytes);
            let sum: u64 = (0..all).filter_map(|part| part_len(bytes, part)).sum();
            assert_eq!(sum, bytes);
            assert_eq!(part_len(bytes, all), None);
            assert_eq!(part_len(bytes, u32::MAX), None);
        }
    }

    #[test]
    fn the_two_keys_of_the_same_bytes_have_different_hashes() {
        assert_ne!(ReadKey::new([1; 32]).hash(), WriteKey::new([1; 32]).hash());
        let key = ReadKey::new([7; 32]);
        assert_eq!(ReadKey::from_hex(&key.to_hex()), Some(key.clone()));
        assert_eq!(ReadKey::from_hex(&key.to_hex()[2..]), None);
        assert_eq!(format!("{key:?}"), "ReadKey(redacted)");
    }
}
