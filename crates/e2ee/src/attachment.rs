//! Sealed attachments: a file, padded and sealed in chunks under a key that travels in a message. The relay holds it as a blob.
//!
//! ```text
//! sealed = u8 1 ‖ commitment(32) ‖ chunk*          chunks of 64 KiB and a tag, the last one shorter
//! read key(32) ‖ AEAD key(32) ‖ nonce(19) ‖ commitment(32) = HKDF-SHA256(key, info = ATTACHMENT)
//! ```
//!
//! Chunks are those of the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: *Online Authenticated-Encryption and its Nonce-Reuse
//! Misuse-Resistance*, 2015) over XChaCha20-Poly1305: none can be moved, left out, or be the last one but the last. An AEAD of this kind does not
//! commit to its key, so that one could seal something that two keys open to two files; the commitment in front, another output of the
//! derivation, ties the whole to one key. A key is for one file: it is made when a file is sealed, and a file that may have changed is sealed anew.

use bulla_protocol::blob::ReadKey;
use bulla_protocol::label;
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::KeyInit;
use chacha20poly1305::aead::stream::{DecryptorBE32, EncryptorBE32};
use hkdf::Hkdf;
use rand_core::CryptoRngCore;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::envelope::bucket;
use crate::{VERSION, limits};

/// Bytes of a chunk before it is sealed.
const CHUNK: usize = 64 * 1024;
const TAG: usize = 16;
const HEADER: usize = 1 + 32;

/// Why a file is not sealed, or what was sealed not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachmentError {
    /// Larger than [`limits::ATTACHMENT`].
    #[error("the file has more than {} MiB", limits::ATTACHMENT >> 20)]
    TooLarge,
    /// The file is not of the length that was said before.
    #[error("the file changed while it was read")]
    Length,
    /// Not what was sealed under this key, or not all of it.
    #[error("the file does not open: it was changed on its way, or is not whole")]
    Refused,
}

/// The key of one sealed file. Whoever has it may fetch and read the file.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct AttachmentKey([u8; 32]);

impl core::fmt::Debug for AttachmentKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("AttachmentKey(redacted)")
    }
}

/// What is derived from a key.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Derived {
    read: [u8; 32],
    aead: [u8; 32],
    nonce: [u8; 19],
    commitment: [u8; 32],
}

impl AttachmentKey {
    /// A new key, for one file.
    pub fn generate(rng: &mut impl CryptoRngCore) -> Self {
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        Self(key)
    }

    /// From bytes stored, or received in a message.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes, to be stored or sent where they may be.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key that the relay asks for when the blob is read.
    #[must_use]
    pub fn read_key(&self) -> ReadKey {
        ReadKey::new(self.derive().read)
    }

    fn derive(&self) -> Derived {
        let mut out = Zeroizing::new([0; 32 + 32 + 19 + 32]);
        // Far below what HKDF can give: it cannot fail.
        let _ = Hkdf::<Sha256>::new(None, &self.0).expand(label::ATTACHMENT, &mut *out);
        let mut rest = &out[..];
        let mut derived = Derived { read: [0; 32], aead: [0; 32], nonce: [0; 19], commitment: [0; 32] };
        let Derived { read, aead, nonce, commitment } = &mut derived;
        for field in [&mut read[..], aead, nonce, commitment] {
            let (head, tail) = rest.split_at(field.len());
            field.copy_from_slice(head);
            rest = tail;
        }
        derived
    }
}

/// The length to which a file is padded.
fn padded(size: u64) -> u64 {
    bucket(usize::try_from(size).unwrap_or(usize::MAX)) as u64
}

/// How long a file of `size` bytes is, sealed.
#[must_use]
pub fn sealed_len(size: u64) -> u64 {
    let padded = padded(size);
    HEADER as u64 + padded + TAG as u64 * padded.div_ceil(CHUNK as u64)
}

/// Seals a file as it comes.
pub struct Sealer {
    stream: EncryptorBE32<XChaCha20Poly1305>,
    commitment: Option<[u8; 32]>,
    digest: Sha256,
    size: u64,
    chunk: Zeroizing<Vec<u8>>,
}

impl core::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Sealer({} bytes so far)", self.size)
    }
}

impl Sealer {
    /// For one file. The key must be new.
    #[must_use]
    pub fn new(key: &AttachmentKey) -> Self {
        let derived = key.derive();
        Self {
            stream: EncryptorBE32::from_aead(XChaCha20Poly1305::new(&derived.aead.into()), &derived.nonce.into()),
            commitment: Some(derived.commitment),
            digest: Sha256::new(),
            size: 0,
            chunk: Zeroizing::new(Vec::with_capacity(CHUNK)),
        }
    }

    /// Takes what comes next of the file, and adds what it makes to `out`.
    pub fn push(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), AttachmentError> {
        self.size += plain.len() as u64;
        if self.size > limits::ATTACHMENT {
            return Err(AttachmentError::TooLarge);
        }
        self.digest.update(plain);
        self.fill(plain, out)
    }

    /// The end of the file. Adds the rest to `out`, and tells the file's length and SHA-256.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(u64, [u8; 32]), AttachmentError> {
        let mut padding = padded(self.size) - self.size;
        let zeros = [0; 4 * 1024];
        while padding > 0 {
            let some = usize::try_from(padding).map_or(zeros.len(), |padding| padding.min(zeros.len()));
            padding -= some as u64;
            self.fill(zeros.get(..some).unwrap_or_default(), out)?;
        }
        self.header(out);
        let last = self.stream.encrypt_last(&self.chunk[..]).map_err(|_| AttachmentError::TooLarge)?;
        out.extend_from_slice(&last);
        Ok((self.size, self.digest.finalize().into()))
    }

    fn fill(&mut self, mut plain: &[u8], out: &mut Vec<u8>) -> Result<(), AttachmentError> {
        while !plain.is_empty() {
            // A full chunk waits for the next byte: only then it is known not to be the last.
            if self.chunk.len() == CHUNK {
                self.header(out);
                let sealed = self.stream.encrypt_next(&self.chunk[..]).map_err(|_| AttachmentError::TooLarge)?;
                out.extend_from_slice(&sealed);
                self.chunk.clear();
            }
            let (now, later) = plain.split_at(plain.len().min(CHUNK - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            plain = later;
        }
        Ok(())
    }

    fn header(&mut self, out: &mut Vec<u8>) {
        if let Some(commitment) = self.commitment.take() {
            out.push(VERSION);
            out.extend_from_slice(&commitment);
        }
    }
}

/// Opens what was sealed as it comes. What it has given out is authentic, and is the file's beginning; that it is the whole file,
/// [`Opener::finish`] says.
pub struct Opener {
    stream: DecryptorBE32<XChaCha20Poly1305>,
    commitment: [u8; 32],
    opened: bool,
    digest: Sha256,
    expected: [u8; 32],
    sealed_left: u64,
    left: u64,
    chunk: Vec<u8>,
}

impl core::fmt::Debug for Opener {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Opener({} bytes to come)", self.left)
    }
}

impl Opener {
    /// For a file of so many bytes with this SHA-256.
    pub fn new(key: &AttachmentKey, size: u64, digest: [u8; 32]) -> Result<Self, AttachmentError> {
        if size > limits::ATTACHMENT {
            return Err(AttachmentError::TooLarge);
        }
        let derived = key.derive();
        Ok(Self {
            stream: DecryptorBE32::from_aead(XChaCha20Poly1305::new(&derived.aead.into()), &derived.nonce.into()),
            commitment: derived.commitment,
            opened: false,
            digest: Sha256::new(),
            expected: digest,
            sealed_left: sealed_len(size),
            left: size,
            chunk: Vec::with_capacity(CHUNK + TAG),
        })
    }

    /// Takes what comes next, and adds what it opens to `out`.
    pub fn push(&mut self, mut sealed: &[u8], out: &mut Vec<u8>) -> Result<(), AttachmentError> {
        self.sealed_left = self.sealed_left.checked_sub(sealed.len() as u64).ok_or(AttachmentError::Refused)?;
        while !sealed.is_empty() {
            let full = if self.opened { CHUNK + TAG } else { HEADER };
            if self.chunk.len() == full {
                self.next(out)?;
                continue;
            }
            let (now, later) = sealed.split_at(sealed.len().min(full - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            sealed = later;
        }
        Ok(())
    }

    /// The end: whether that was all, and the file that was meant. Adds the rest to `out`.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), AttachmentError> {
        if self.sealed_left > 0 || !self.opened {
            return Err(AttachmentError::Refused);
        }
        let plain = Zeroizing::new(self.stream.decrypt_last(&self.chunk[..]).map_err(|_| AttachmentError::Refused)?);
        let plain = plain.get(..plain.len().min(usize::try_from(self.left).unwrap_or(usize::MAX))).unwrap_or_default();
        self.digest.update(plain);
        let digest: [u8; 32] = self.digest.finalize().into();
        if self.left != plain.len() as u64 || digest != self.expected {
            return Err(AttachmentError::Refused);
        }
        out.extend_from_slice(plain);
        Ok(())
    }

    /// A full header or chunk, after which more comes.
    fn next(&mut self, out: &mut Vec<u8>) -> Result<(), AttachmentError> {
        if self.opened {
            let plain = self.stream.decrypt_next(&self.chunk[..]).map_err(|_| AttachmentError::Refused)?;
            let plain = Zeroizing::new(plain);
            let some = plain.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let plain = plain.get(..some).unwrap_or_default();
            self.left -= some as u64;
            self.digest.update(plain);
            out.extend_from_slice(plain);
        } else if self.chunk.first() != Some(&VERSION) || self.chunk.get(1..) != Some(&self.commitment[..]) {
            return Err(AttachmentError::Refused);
        }
        self.opened = true;
        self.chunk.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bulla_protocol::limits::MAX_BLOB;
    use proptest::prelude::*;

    use super::*;

    fn seal(key: &AttachmentKey, file: &[u8], step: usize) -> (Vec<u8>, [u8; 32]) {
        let mut sealer = Sealer::new(key);
        let mut out = Vec::new();
        for piece in file.chunks(step) {
            sealer.push(piece, &mut out).unwrap();
        }
        let (size, digest) = sealer.finish(&mut out).unwrap();
        assert_eq!(size, file.len() as u64);
        (out, digest)
    }

    fn open(key: &AttachmentKey, size: u64, digest: [u8; 32], sealed: &[u8], step: usize) -> Option<Vec<u8>> {
        let mut opener = Opener::new(key, size, digest).unwrap();
        let mut out = Vec::new();
        for piece in sealed.chunks(step) {
            opener.push(piece, &mut out).ok()?;
        }
        opener.finish(&mut out).ok()?;
        Some(out)
    }

    fn file(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
    }

    #[test]
    fn files_of_all_kinds_of_lengths_open_to_themselves() {
        let key = AttachmentKey::from_bytes([7; 32]);
        for len in [0, 1, 1_023, 1_024, 1_025, 65_535, 65_536, 65_537, 131_072, 131_073, 200_000, 1_048_576] {
            let file = file(len);
            let (sealed, digest) = seal(&key, &file, 10_007);
            assert_eq!(sealed.len() as u64, sealed_len(len as u64), "{len}");
            assert_eq!(digest, <[u8; 32]>::from(Sha256::digest(&file)));
            assert_eq!(seal(&key, &file, 64).0, sealed, "however it comes");
            for step in [1_000, 65_552, 1 << 20] {
                assert_eq!(open(&key, len as u64, digest, &sealed, step).as_ref(), Some(&file), "{len} in {step}");
            }
        }
    }

    #[test]
    fn what_was_changed_shortened_or_moved_does_not_open() {
        let key = AttachmentKey::from_bytes([7; 32]);
        let file = file(200_000);
        let (sealed, digest) = seal(&key, &file, 65_536);
        let size = file.len() as u64;
        let opens = |sealed: &[u8]| open(&key, size, digest, sealed, 30_000).is_some();
        assert!(opens(&sealed));
        for at in [0, 1, 32, 33, 40_000, 65_585, 100_000, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(!opens(&changed), "byte {at}");
        }
        for len in [0, 1, 33, 34, 65_585, 65_586, sealed.len() - 16, sealed.len() - 1] {
            assert!(!opens(&sealed[..len]), "{len} bytes of it");
        }
        assert!(!opens(&[&sealed[..], &[0]].concat()));
        let mut swapped = sealed.clone();
        swapped[33..33 + 65_552].copy_from_slice(&sealed[33 + 65_552..33 + 2 * 65_552]);
        swapped[33 + 65_552..33 + 2 * 65_552].copy_from_slice(&sealed[33..33 + 65_552]);
        assert!(!opens(&swapped));
        assert!(open(&AttachmentKey::from_bytes([8; 32]), size, digest, &sealed, 30_000).is_none());
        assert!(open(&key, size, [0; 32], &sealed, 30_000).is_none(), "another file was meant");
        assert!(open(&key, size - 1, digest, &sealed, 30_000).is_none(), "of another length");
    }

    /// What two keys could open to two files would begin with the commitments of both.
    #[test]
    fn a_sealed_file_is_tied_to_its_key() {
        let (one, other) = (AttachmentKey::from_bytes([1; 32]), AttachmentKey::from_bytes([2; 32]));
        let (mut sealed, digest) = seal(&one, &file(10), 64);
        sealed[1..33].copy_from_slice(&other.derive().commitment);
        assert_eq!(open(&one, 10, digest, &sealed, 64), None);
        assert_eq!(open(&other, 10, digest, &sealed, 64), None);
    }

    #[test]
    fn a_file_has_a_largest_length() {
        let key = AttachmentKey::from_bytes([7; 32]);
        let (mut sealer, mut out) = (Sealer::new(&key), Vec::new());
        sealer.size = limits::ATTACHMENT - 1;
        assert_eq!(sealer.push(b"x", &mut out), Ok(()));
        assert_eq!(sealer.push(b"x", &mut out), Err(AttachmentError::TooLarge));
        assert!(Opener::new(&key, limits::ATTACHMENT, [0; 32]).is_ok());
        assert_eq!(Opener::new(&key, limits::ATTACHMENT + 1, [0; 32]).err(), Some(AttachmentError::TooLarge));
    }

    #[test]
    fn the_largest_file_fits_into_a_blob_and_lengths_tell_little() {
        assert!(sealed_len(limits::ATTACHMENT) <= MAX_BLOB);
        let lengths: std::collections::BTreeSet<u64> = (0..1_000_000).step_by(97).map(sealed_len).collect();
        assert!(lengths.len() < 200, "{} lengths", lengths.len());
        for size in (0..limits::ATTACHMENT).step_by(1_000_003).skip(1) {
            assert!(sealed_len(size) as f64 <= size as f64 * 1.13);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn any_file_in_any_pieces(len in 0usize..150_000, step in 1usize..90_000, other in 1usize..90_000) {
            let key = AttachmentKey::from_bytes([9; 32]);
            let file = file(len);
            let (sealed, digest) = seal(&key, &file, step);
            prop_assert_eq!(open(&key, len as u64, digest, &sealed, other), Some(file));
        }
    }
}
