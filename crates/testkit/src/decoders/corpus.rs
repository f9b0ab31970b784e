//! Committed inputs: `fuzz/corpus/<decoder>/ok-…` must be accepted, `no-…` must be refused, and neither they nor their mutations may break
//! anything. An input that a fuzzer found goes here, under a name that says what it was.

use std::path::{Path, PathBuf};

use super::{Decoder, Verdict};

/// `fuzz/corpus`.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus")
}

/// The inputs of one decoder: name and bytes, in the order of names.
///
/// # Panics
///
/// If its folder is missing or cannot be read.
#[must_use]
pub fn inputs(decoder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = folder().join(decoder);
    let list = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut inputs: Vec<_> = list
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
        })
        .collect();
    inputs.sort();
    inputs
}

/// Says which input it was if the decoder panics.
struct Running<'a> {
    decoder: &'a Decoder,
    input: &'a str,
    bytes: &'a [u8],
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { decoder, input, bytes } = self;
            eprintln!("decoder {}, input {input}: {}", decoder.name, data_encoding::HEXLOWER.encode(bytes));
        }
    }
}

fn run(decoder: &Decoder, input: &str, bytes: &[u8]) -> Verdict {
    let _running = Running { decoder, input, bytes };
    (decoder.run)(bytes)
}

/// Runs every committed input and its mutations. Returns how many inputs ran.
///
/// # Panics
///
/// If there are no inputs that must be accepted or none that must be refused, if one leads to the other verdict, or if one breaks
/// something.
pub fn replay(decoder: &Decoder) -> usize {
    let inputs = inputs(decoder.name);
    let mut ran = 0;
    for prefix in ["ok-", "no-"] {
        assert!(inputs.iter().any(|(name, _)| name.starts_with(prefix)), "{}: no input {prefix}…", decoder.name);
    }
    for (name, bytes) in &inputs {
        let expected = match name.split_once('-') {
            Some(("ok", _)) => Verdict::Accepted,
            Some(("no", _)) => Verdict::Refused,
            _ => panic!("{}/{name}: a name begins with ok- or no-", decoder.name),
        };
        assert_eq!(run(decoder, name, bytes), expected, "{}/{name}", decoder.name);
        ran += 1;
        for mutated in mutations(bytes, decoder.mutations) {
            run(decoder, &format!("{name}, mutated"), &mutated);
            ran += 1;
        }
    }
    ran
}

/// Every proper prefix, every byte with a bit flipped, zero and 255, and some longer ones; where these are more than `most`, as many
/// of them, spread evenly.
pub fn mutations(bytes: &[u8], most: usize) -> impl Iterator<Item = Vec<u8>> + '_ {
    const LONGER: [usize; 4] = [1, 2, 16, 1024];
    let len = bytes.len();
    let all = len * 4 + LONGER.len() + 1;
    // An odd step, so that it is not always the same bit that is flipped.
    (0..all).step_by(all.div_ceil(most.max(1)) | 1).map(move |which| {
        let mut mutated = bytes.to_vec();
        match (which.checked_div(len), which.checked_rem(len)) {
            (Some(0), Some(at)) => mutated.truncate(at),
            (Some(1), Some(at)) => mutated[at] ^= 1 << (at % 8),
            (Some(2), Some(at)) => mutated[at] = 0,
            (Some(3), Some(at)) => mutated[at] = 0xff,
            _ => match LONGER.get(which - len * 4) {
                Some(more) => mutated.resize(len + more, 0),
                None => mutated.extend_from_slice(bytes),
            },
        }
        mutated
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn mutations_are_all_different_ones_or_as_many_as_wanted() {
        let all: BTreeSet<_> = mutations(b"abc", usize::MAX).collect();
        for expected in [&b""[..], b"ab", b"`bc", b"a\0c", b"ab\xff", b"abc\0", b"abcabc"] {
            assert!(all.contains(expected), "{expected:?}");
        }
        assert_eq!(all.len(), 3 * 4 + 5);
        assert!((90..=100).contains(&mutations(&[7; 1000], 100).count()));
        assert_eq!(mutations(b"", 100).count(), 5);
    }
}
