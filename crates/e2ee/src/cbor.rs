//! Deterministic CBOR (RFC 8949 §4.2.1), read strictly.
//!
//! [`check`] walks the bytes once before anything is decoded: definite lengths, shortest heads, UTF-8, map keys sorted and
//! unique, bounded depth, nothing left over. What comes after it can trust the shape and only has to look at types and
//! limits. It fails with [`Malformed`] and never tells where.

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

use crate::{VERSION, limits};

/// The bytes are not the CBOR that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed CBOR")]
pub(crate) struct Malformed;

impl From<minicbor::decode::Error> for Malformed {
    fn from(_: minicbor::decode::Error) -> Self {
        Self
    }
}

/// Checks that `bytes` are exactly one deterministically encoded item of at most `depth` levels.
pub(crate) fn check(bytes: &[u8], depth: usize) -> Result<(), Malformed> {
    match item(bytes, depth)? {
        [] => Ok(()),
        _ => Err(Malformed),
    }
}

/// Splits a head into its major type, its argument, and the rest; only the shortest form passes.
fn head(bytes: &[u8]) -> Result<(u8, u8, u64, &[u8]), Malformed> {
    let (&first, rest) = bytes.split_first().ok_or(Malformed)?;
    let (major, info) = (first >> 5, first & 0x1f);
    let (len, least) = match info {
        0..=23 => return Ok((major, info, u64::from(info), rest)),
        24 => (1, 24),
        25 => (2, 0x100),
        26 => (4, 0x1_0000),
        27 => (8, 0x1_0000_0000),
        _ => return Err(Malformed),
    };
    let (argument, rest) = rest.split_at_checked(len).ok_or(Malformed)?;
    let value = argument.iter().fold(0u64, |sum, b| sum << 8 | u64::from(*b));
    // Of major type 7, longer arguments are floats and simple values, whose bits are no numbers.
    let short_enough = if major == 7 { info != 24 || value >= 32 } else { value >= least };
    if short_enough { Ok((major, info, value, rest)) } else { Err(Malformed) }
}

/// Checks one item and returns what follows it.
fn item(bytes: &[u8], depth: usize) -> Result<&[u8], Malformed> {
    let (major, _, value, mut rest) = head(bytes)?;
    let inside = |depth: usize| depth.checked_sub(1).ok_or(Malformed);
    match major {
        0 | 1 | 7 => Ok(rest),
        2 | 3 => {
            let len = usize::try_from(value).map_err(|_| Malformed)?;
            let (content, rest) = rest.split_at_checked(len).ok_or(Malformed)?;
            if major == 3 {
                core::str::from_utf8(content).map_err(|_| Malformed)?;
            }
            Ok(rest)
        }
        4 => {
            let depth = inside(depth)?;
            for _ in 0..value {
                rest = item(rest, depth)?;
            }
            Ok(rest)
        }
        5 => {
            let depth = inside(depth)?;
            let mut last: Option<&[u8]> = None;
            for _ in 0..value {
                let after = item(rest, depth)?;
                let key = rest.get(..rest.len() - after.len()).ok_or(Malformed)?;
                if last.is_some_and(|last| last >= key) {
                    return Err(Malformed);
                }
                last = Some(key);
                rest = item(after, depth)?;
            }
            Ok(rest)
        }
        _ => item(rest, inside(depth)?),
    }
}

/// Reads fields of arrays with fixed positions.
pub(crate) struct Reader<'b>(Decoder<'b>);

impl<'b> Reader<'b> {
    /// Checks the whole and stands at its first item.
    pub(crate) fn new(bytes: &'b [u8]) -> Result<Self, Malformed> {
        check(bytes, limits::CBOR_DEPTH)?;
        Ok(Self(Decoder::new(bytes)))
    }

    /// An array of at least `known` elements; returns how many more it has, for [`Self::skip_rest`].
    pub(crate) fn array(&mut self, known: u64) -> Result<u64, Malformed> {
        self.list()?.checked_sub(known).ok_or(Malformed)
    }

    /// An array that begins with the version of its layout and has at least `known` elements; returns how many more it has. What a later
    /// version has made is `newer`, whatever its shape.
    pub(crate) fn versioned<E: From<Malformed>>(&mut self, known: u64, newer: E) -> Result<u64, E> {
        let len = self.list()?;
        match self.uint()? {
            version if version == u64::from(VERSION) => Ok(len.checked_sub(known).ok_or(Malformed)?),
            version if version > u64::from(VERSION) => Err(newer),
            _ => Err(Malformed.into()),
        }
    }

    /// An array of any length.
    pub(crate) fn list(&mut self) -> Result<u64, Malformed> {
        self.0.array()?.ok_or(Malformed)
    }

    /// An array of at most `max` elements.
    pub(crate) fn list_max(&mut self, max: usize) -> Result<u64, Malformed> {
        let len = self.list()?;
        if usize::try_from(len).is_ok_and(|len| len <= max) { Ok(len) } else { Err(Malformed) }
    }

    /// A map of at most `max` entries.
    pub(crate) fn map_max(&mut self, max: usize) -> Result<u64, Malformed> {
        let len = self.0.map()?.ok_or(Malformed)?;
        if usize::try_from(len).is_ok_and(|len| len <= max) { Ok(len) } else { Err(Malformed) }
    }

    /// Ignores elements that a later version added.
    pub(crate) fn skip_rest(&mut self, more: u64) -> Result<(), Malformed> {
        for _ in 0..more {
            self.0.skip()?;
        }
        Ok(())
    }

    /// An unsigned number.
    pub(crate) fn uint(&mut self) -> Result<u64, Malformed> {
        Ok(self.0.u64()?)
    }

    /// A truth value.
    pub(crate) fn bool(&mut self) -> Result<bool, Malformed> {
        Ok(self.0.bool()?)
    }

    /// A byte string of exactly `N` bytes.
    pub(crate) fn exact<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.0.bytes()?.try_into().map_err(|_| Malformed)
    }

    /// A byte string of at most `max` bytes.
    pub(crate) fn bytes(&mut self, max: usize) -> Result<&'b [u8], Malformed> {
        let bytes = self.0.bytes()?;
        if bytes.len() <= max { Ok(bytes) } else { Err(Malformed) }
    }

    /// A text of at most `max` bytes.
    pub(crate) fn text(&mut self, max: usize) -> Result<&'b str, Malformed> {
        let text = self.0.str()?;
        if text.len() <= max { Ok(text) } else { Err(Malformed) }
    }

    /// `null` or whatever `read` reads.
    pub(crate) fn nullable<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.0.datatype()? == Type::Null {
            self.0.null()?;
            Ok(None)
        } else {
            read(self).map(Some)
        }
    }

    /// The exact bytes of the next item.
    pub(crate) fn raw(&mut self) -> Result<&'b [u8], Malformed> {
        let from = self.0.position();
        self.0.skip()?;
        self.0.input().get(from..self.0.position()).ok_or(Malformed)
    }
}

/// Writes deterministic CBOR.
#[derive(Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn write(
        mut self,
        f: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> Result<(), minicbor::encode::Error<core::convert::Infallible>>,
    ) -> Self {
        // Writing into memory has no way to fail.
        let _ = f(&mut Encoder::new(&mut self.0));
        self
    }

    pub(crate) fn array(self, len: usize) -> Self {
        self.write(|e| e.array(len as u64).map(drop))
    }

    pub(crate) fn map(self, len: usize) -> Self {
        self.write(|e| e.map(len as u64).map(drop))
    }

    pub(crate) fn uint(self, value: u64) -> Self {
        self.write(|e| e.u64(value).map(drop))
    }

    pub(crate) fn bool(self, value: bool) -> Self {
        self.write(|e| e.bool(value).map(drop))
    }

    pub(crate) fn null(self) -> Self {
        self.write(|e| e.null().map(drop))
    }

    pub(crate) fn bytes(self, value: &[u8]) -> Self {
        self.write(|e| e.bytes(value).map(drop))
    }

    pub(crate) fn text(self, value: &str) -> Self {
        self.write(|e| e.str(value).map(drop))
    }

    /// Appends what is CBOR already.
    pub(crate) fn raw(mut self, item: &[u8]) -> Self {
        self.0.extend_from_slice(item);
        self
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    #[test]
    fn only_the_shortest_definite_sorted_form_passes() {
        for good in
            ["00", "17", "1818", "190100", "1a00010000", "1b0000000100000000", "f6", "a2010002f4", "f97e00", "8101"]
        {
            assert_eq!(check(&hex(good), 4), Ok(()), "{good}");
        }
        for bad in [
            "",
            "1817",
            "1900ff",
            "1a0000ffff",
            "1b00000000ffffffff",
            "9f01ff",
            "5f4101ff",
            "bf0102ff",
            "1c",
            "a2020001f4",
            "a201000100",
            "0000",
            "61ff",
            "8201",
            "a101",
            "62c3",
            "f817",
            "ff",
        ] {
            assert_eq!(check(&hex(bad), 4), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn mls_12_depth_is_bounded_at_n_and_n_plus_1() {
        let nested = |n: usize| [vec![0x81; n], vec![0x00]].concat();
        assert_eq!(check(&nested(limits::CBOR_DEPTH), limits::CBOR_DEPTH), Ok(()));
        assert_eq!(check(&nested(limits::CBOR_DEPTH + 1), limits::CBOR_DEPTH), Err(Malformed));
        assert_eq!(check(&vec![0x81; 1_000_000], limits::CBOR_DEPTH), Err(Malformed));
        assert_eq!(check(&hex("9bffffffffffffffff"), 4), Err(Malformed));
    }

    proptest! {
        /// MLS-02: no bytes make the walk panic, and what it accepts the decoder can skip to the end.
        #[test]
        fn mls_02_any_bytes_are_an_item_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if check(&bytes, limits::CBOR_DEPTH).is_ok() {
                let mut d = Decoder::new(&bytes);
                prop_assert!(d.skip().is_ok());
                prop_assert_eq!(d.position(), bytes.len());
            }
        }
    }
}
