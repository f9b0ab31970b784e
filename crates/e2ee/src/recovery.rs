//! The code with which a customer who has lost every device comes back: 16 random bytes, written down by a person.
//!
//! A store makes one. The pseudonym's key towards each business is `HKDF-SHA256(code, info = RECOVERY ‖ identity hash)`, so that nothing else has
//! to be written down, and two businesses cannot compare what they get.
//!
//! As text it is 28 symbols of Crockford's base32 in seven groups of four: the code, then the first 12 bits of `SHA-256(RECOVERY_CHECK ‖ code)`.
//! There are no words in it, since those are in one language; and no symbols that look alike.

use core::fmt;

use bulla_protocol::label;
use data_encoding::{Encoding, Specification};
use hkdf::Hkdf;
use rand_core::CryptoRngCore;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::identity::{IdentityHash, Pseudonym};
use crate::limits;

/// Bytes of a code: nobody guesses 128 bits.
const BYTES: usize = 16;
/// Symbols of its text.
const SYMBOLS: usize = 28;
/// Symbols of a group.
const GROUP: usize = 4;

/// What was typed is not a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// Too few symbols, or too many.
    #[error("a code has {SYMBOLS} letters and digits, and this has {0}")]
    Length(usize),
    /// A letter that no code has: U, or one with an accent.
    #[error("there is no {0:?} in a code")]
    Symbol(char),
    /// A symbol is another than the one that was written down, or two have changed places.
    #[error("something in this code is mistyped: compare it with what you wrote down")]
    Checksum,
}

/// A recovery code. Secret: whoever has it is this customer.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct RecoveryCode([u8; BYTES]);

impl RecoveryCode {
    /// A new one.
    pub fn generate(rng: &mut impl CryptoRngCore) -> Self {
        let mut code = [0; BYTES];
        rng.fill_bytes(&mut code);
        Self(code)
    }

    /// From the store.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; BYTES]) -> Self {
        Self(bytes)
    }

    /// For the store.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; BYTES]> {
        Zeroizing::new(self.0)
    }

    /// The pseudonym towards a business.
    #[must_use]
    pub fn pseudonym(&self, business: &IdentityHash) -> Pseudonym {
        let mut key = Zeroizing::new([0; 32]);
        let info = [label::RECOVERY, business.as_bytes()];
        // One block of output: it always fits.
        let _ = Hkdf::<Sha256>::new(None, &self.0).expand_multi_info(&info, &mut *key);
        Pseudonym::from_bytes(&key)
    }

    /// As people write it down.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let whole = Zeroizing::new([self.0.as_slice(), &self.check()].concat());
        // 144 bits take 29 symbols; the last stands for nothing but zeros.
        let symbols = Zeroizing::new(encoding().map(|e| e.encode(&whole)).unwrap_or_default());
        let mut text = Zeroizing::new(String::with_capacity(SYMBOLS + SYMBOLS / GROUP));
        for (i, symbol) in symbols.chars().take(SYMBOLS).enumerate() {
            if i > 0 && i % GROUP == 0 {
                text.push('-');
            }
            text.push(symbol);
        }
        text
    }

    /// From what somebody typed: in either case, with whatever between the symbols, with O for 0 and I or L for 1.
    pub fn parse(typed: &str) -> Result<Self, RecoveryError> {
        let mut symbols = Zeroizing::new(String::with_capacity(SYMBOLS + 1));
        for c in typed.chars().take(limits::RECOVERY_TYPED).filter(|c| c.is_alphanumeric()) {
            let symbol = match c.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                'U' => return Err(RecoveryError::Symbol(c)),
                symbol if symbol.is_ascii() => symbol,
                _ => return Err(RecoveryError::Symbol(c)),
            };
            symbols.push(symbol);
        }
        if symbols.len() != SYMBOLS {
            return Err(RecoveryError::Length(symbols.len()));
        }
        symbols.push('0');
        let decoded = encoding().and_then(|e| e.decode(symbols.as_bytes()).ok());
        let whole = Zeroizing::new(decoded.ok_or(RecoveryError::Checksum)?);
        let (Some(code), Some(check)) = (whole.first_chunk::<BYTES>(), whole.get(BYTES..)) else {
            return Err(RecoveryError::Checksum);
        };
        let code = Self(*code);
        if code.check() == *check { Ok(code) } else { Err(RecoveryError::Checksum) }
    }

    /// 12 bits that tell a code from one that was mistyped, and four zeros.
    fn check(&self) -> [u8; 2] {
        let [a, b, ..] =
            <[u8; 32]>::from(Sha256::new().chain_update(label::RECOVERY_CHECK).chain_update(self.0).finalize());
        [a, b & 0xf0]
    }
}

impl fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryCode(redacted)")
    }
}

/// Crockford's base32. `None` cannot happen: the specification is constant and valid.
fn encoding() -> Option<Encoding> {
    let mut spec = Specification::new();
    spec.symbols.push_str("0123456789ABCDEFGHJKMNPQRSTVWXYZ");
    spec.encoding().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(n: u8) -> IdentityHash {
        IdentityHash::new([n; 32])
    }

    /// Whatever is written down today opens the same conversation for ever.
    #[test]
    fn a_code_is_this_text_and_this_pseudonym() {
        let code = RecoveryCode::from_bytes([7; 16]);
        assert_eq!(&**code.to_text(), "0W3G-E1R7-0W3G-E1R7-0W3G-E1R7-0YJ5");
        let public = data_encoding::HEXLOWER.encode(&code.pseudonym(&hash(1)).public());
        assert_eq!(public, "1b2770f854acfed41367a3e019b46b5cb9c89c429e1e5b37d69dac1ea4ad610a");
    }

    #[test]
    fn one_code_is_another_pseudonym_towards_each_business() {
        let code = RecoveryCode::from_bytes([7; 16]);
        assert_eq!(code.pseudonym(&hash(1)).public(), code.clone().pseudonym(&hash(1)).public());
        assert_ne!(code.pseudonym(&hash(1)).public(), code.pseudonym(&hash(2)).public());
        assert_ne!(code.pseudonym(&hash(1)).public(), RecoveryCode::from_bytes([8; 16]).pseudonym(&hash(1)).public());
    }

    #[test]
    fn debug_is_redacted() {
        assert_eq!(format!("{:?}", RecoveryCode::from_bytes([1; 16])), "RecoveryCode(redacted)");
    }

    #[test]
    fn what_is_no_code_is_said_with_its_reason() {
        let text = RecoveryCode::from_bytes([7; 16]).to_text();
        assert_eq!(RecoveryCode::parse(""), Err(RecoveryError::Length(0)));
        assert_eq!(RecoveryCode::parse(&text[..text.len() - 1]), Err(RecoveryError::Length(27)));
        assert_eq!(RecoveryCode::parse(&format!("{}0", *text)), Err(RecoveryError::Length(29)));
        assert_eq!(RecoveryCode::parse(&text.replace('W', "U")), Err(RecoveryError::Symbol('U')));
        assert_eq!(RecoveryCode::parse(&text.replace('W', "ü")), Err(RecoveryError::Symbol('ü')));
        assert_eq!(RecoveryCode::parse(&"0".repeat(100_000)), Err(RecoveryError::Length(limits::RECOVERY_TYPED)));
    }

    /// Of all that one wrong symbol makes of a code, one in 4,096 would pass.
    #[test]
    fn a_mistyped_symbol_is_seen() {
        let right: Vec<char> = RecoveryCode::from_bytes([7; 16]).to_text().chars().filter(|c| *c != '-').collect();
        let mut passed = 0;
        for at in 0..SYMBOLS {
            for other in "0123456789ABCDEFGHJKMNPQRSTVWXYZ".chars().filter(|c| *c != right[at]) {
                let mut typed = right.clone();
                typed[at] = other;
                match RecoveryCode::parse(&typed.into_iter().collect::<String>()) {
                    Ok(_) => passed += 1,
                    Err(e) => assert_eq!(e, RecoveryError::Checksum),
                }
            }
        }
        assert!(passed <= 1, "{passed} of {}", SYMBOLS * 31);
    }

    proptest! {
        #[test]
        fn what_is_written_down_is_read_however_it_is_typed(bytes: [u8; 16], lower: bool, between in "[ .–\u{a0}-]{0,2}") {
            let code = RecoveryCode::from_bytes(bytes);
            let text = code.to_text().replace('-', &between).replace('0', "o").replace('1', "l");
            let text = if lower { text.to_lowercase() } else { text.to_uppercase() };
            prop_assert_eq!(RecoveryCode::parse(&text), Ok(code));
        }

        #[test]
        fn mls_02_any_text_is_a_code_or_an_error(text in "\\PC{0,40}") {
            if let Ok(code) = RecoveryCode::parse(&text) {
                prop_assert_eq!(RecoveryCode::parse(&code.to_text()), Ok(code));
            }
        }
    }
}
