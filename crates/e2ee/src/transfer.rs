//! The recovery code on its way from one device to another of the same customer, once.
//!
//! The device that gives shows a *ticket* (a QR code): a secret of 16 bytes, and 16 bytes of the hash of a key that it has made for this alone. Of
//! the secret come two cells of the business's relay, [`Slot`]s with their sealing keys. The device that asks claims the first with a fresh X-Wing
//! key; the one that gives reads it, its person compares a number that both show and says yes, and it claims the second with the code, sealed to
//! that key and signed with its own.
//!
//! - The relay knows no secret: it neither reads a cell nor writes one ([`Slot::open`]). To it both look like commits.
//! - A cell is written once. Of two devices that have the ticket one gets the first cell, and the other learns that it was not the first.
//! - Whoever has the ticket (a picture of the screen) and comes first has another key, and so another number: the person who compares says no.
//! - Nobody but the device that gives can answer, since the ticket holds its key's hash: a picture of the screen does not lead anybody into
//!   somebody else's conversation.
//! - Afterwards the ticket is worth nothing: both keys are gone, and both cells are taken.
//!
//! How long a ticket is good is not in here: the device that gives reads no cell, and answers none, after its time.

use core::fmt;

use bulla_protocol::id::SlotId;
use bulla_protocol::label;
use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::SigningKey;
use hkdf::Hkdf;
use rand_core::CryptoRngCore;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::cbor::{Malformed, Reader, Writer};
use crate::hpke::{self, SealKey, SealPublicKey};
use crate::identity::IdentityHash;
use crate::recovery::RecoveryCode;
use crate::signed::{self, Unverified};
use crate::slot::Slot;
use crate::{VERSION, limits};

/// Bytes of each half of a ticket: nobody guesses the secret, and nobody finds another key with the same hash.
const HALF: usize = 16;

/// Digits of the number that both devices show.
const DIGITS: usize = 6;

/// Bytes of a code.
const CODE: usize = 16;

/// Why a transfer does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// Not a ticket: the link was cut, or is of a later version.
    #[error("this is not the ticket of a transfer: was the link cut?")]
    Ticket,
    /// What stands in a cell was not written by a device that has the ticket, or does not answer what was asked.
    #[error("what came back is not from the other device")]
    Refused,
    /// The cryptographic provider failed.
    #[error("the cryptographic provider failed")]
    Crypto,
}

impl From<Malformed> for TransferError {
    fn from(_: Malformed) -> Self {
        Self::Refused
    }
}

/// What one device shows and the other scans. Secret, and worth nothing once it was used or its sheet was closed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Ticket {
    secret: [u8; HALF],
    giver: [u8; HALF],
}

impl Ticket {
    /// As it stands in a link: 43 characters of base64url.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let both = Zeroizing::new([self.secret, self.giver].concat());
        Zeroizing::new(BASE64URL_NOPAD.encode(&both))
    }

    /// From a link.
    pub fn parse(text: &str) -> Result<Self, TransferError> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| TransferError::Ticket)?;
        let bytes = Zeroizing::new(<[u8; 2 * HALF]>::try_from(bytes).map_err(|_| TransferError::Ticket)?);
        let (secret, giver) = bytes.split_first_chunk::<HALF>().ok_or(TransferError::Ticket)?;
        Ok(Self { secret: *secret, giver: giver.try_into().map_err(|_| TransferError::Ticket)? })
    }

    /// The cell in which a device asks, and the one in which it is answered.
    fn cells(&self, business: &IdentityHash) -> [Slot; 2] {
        let mut out = Zeroizing::new([[0; 32]; 4]);
        // Four blocks of output: they always fit.
        let _ = Hkdf::<Sha256>::new(None, &self.secret)
            .expand_multi_info(&[label::TRANSFER, business.as_bytes()], out.as_flattened_mut());
        let [ask, ask_key, answer, answer_key] = *out;
        [Slot::new(ask, Zeroizing::new(ask_key)), Slot::new(answer, Zeroizing::new(answer_key))]
    }

    /// What both devices show of a request. Whoever had another key would show another.
    fn number(&self, request: &[u8]) -> String {
        let digest = Sha256::new()
            .chain_update(label::TRANSFER_NUMBER)
            .chain_update(self.secret)
            .chain_update(request)
            .finalize();
        let first = digest.first_chunk::<8>().map_or(0, |first| u64::from_be_bytes(*first));
        // Of 2^64 numbers, a million are as good as equally likely.
        format!("{:0DIGITS$}", first % 1_000_000)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(redacted)")
    }
}

fn hash_of(giver: &[u8; 32]) -> [u8; HALF] {
    let digest: [u8; 32] = Sha256::new().chain_update(label::TRANSFER_GIVER).chain_update(giver).finalize().into();
    digest.first_chunk().copied().unwrap_or_default()
}

fn info(business: &IdentityHash) -> Vec<u8> {
    [label::TRANSFER_CODE, business.as_bytes()].concat()
}

/// The device that has the code, while its ticket is shown.
pub struct Giver {
    business: IdentityHash,
    key: SigningKey,
    ticket: Ticket,
    cells: [Slot; 2],
}

/// A device that asked: who it is to be sealed to, and the number that its person compares.
#[derive(Clone)]
pub struct Asked {
    request: Vec<u8>,
    key: SealPublicKey,
    number: String,
}

impl Asked {
    /// Six digits. The device that asked shows the same, if it is the one in the person's hand.
    #[must_use]
    pub fn number(&self) -> &str {
        &self.number
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asked")
    }
}

impl Giver {
    /// A new ticket, for a conversation with this business.
    pub fn new(business: IdentityHash, rng: &mut impl CryptoRngCore) -> Self {
        let key = SigningKey::generate(rng);
        let mut secret = [0; HALF];
        rng.fill_bytes(&mut secret);
        let ticket = Ticket { secret, giver: hash_of(&key.verifying_key().to_bytes()) };
        let cells = ticket.cells(&business);
        Self { business, key, ticket, cells }
    }

    /// What is shown.
    #[must_use]
    pub fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// Where a device asks.
    #[must_use]
    pub fn asking(&self) -> SlotId {
        SlotId::new(*self.cells[0].id())
    }

    /// Where it is answered.
    #[must_use]
    pub fn answering(&self) -> SlotId {
        SlotId::new(*self.cells[1].id())
    }

    /// Reads what stands in the first cell.
    pub fn asked(&self, cell: &[u8]) -> Result<Asked, TransferError> {
        let request = self.cells[0].open(cell).map_err(|_| TransferError::Refused)?;
        let mut r = Reader::new(&request)?;
        let more = r.versioned(2, TransferError::Refused)?;
        let key = SealPublicKey::from_slice(r.bytes(hpke::PUBLIC)?).ok_or(TransferError::Refused)?;
        r.skip_rest(more)?;
        Ok(Asked { number: self.ticket.number(&request), key, request })
    }

    /// The second cell's content: the code, for the device that asked.
    pub fn give(
        &self,
        asked: &Asked,
        code: &RecoveryCode,
        rng: &mut impl CryptoRngCore,
    ) -> Result<Vec<u8>, TransferError> {
        let sealed = asked
            .key
            .seal(&info(&self.business), &asked.request, &*code.to_bytes())
            .map_err(|_| TransferError::Crypto)?;
        let answer = Writer::new()
            .array(5)
            .uint(u64::from(VERSION))
            .bytes(self.business.as_bytes())
            .bytes(&Sha256::digest(&asked.request))
            .bytes(&self.key.verifying_key().to_bytes())
            .bytes(&sealed)
            .finish();
        let signed = signed::sign(&self.key, label::TRANSFER_ANSWER, &answer);
        self.cells[1].seal(&signed, rng).map_err(|_| TransferError::Crypto)
    }
}

impl fmt::Debug for Giver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Giver(redacted)")
    }
}

/// The device that has scanned a ticket.
pub struct Asker {
    business: IdentityHash,
    ticket: Ticket,
    key: SealKey,
    request: Vec<u8>,
    cells: [Slot; 2],
}

impl Asker {
    /// With a key of its own.
    pub fn new(ticket: Ticket, business: IdentityHash, rng: &mut impl CryptoRngCore) -> Result<Self, TransferError> {
        let key = SealKey::generate(rng).map_err(|_| TransferError::Crypto)?;
        let request = Writer::new().array(2).uint(u64::from(VERSION)).bytes(key.public().as_bytes()).finish();
        let cells = ticket.cells(&business);
        Ok(Self { business, ticket, key, request, cells })
    }

    /// Where it asks.
    #[must_use]
    pub fn asking(&self) -> SlotId {
        SlotId::new(*self.cells[0].id())
    }

    /// Where it is answered.
    #[must_use]
    pub fn answering(&self) -> SlotId {
        SlotId::new(*self.cells[1].id())
    }

    /// The first cell's content.
    pub fn ask(&self, rng: &mut impl CryptoRngCore) -> Result<Vec<u8>, TransferError> {
        self.cells[0].seal(&self.request, rng).map_err(|_| TransferError::Crypto)
    }

    /// Six digits, for the person to compare.
    #[must_use]
    pub fn number(&self) -> String {
        self.ticket.number(&self.request)
    }

    /// Reads what stands in the second cell.
    pub fn answered(&self, cell: &[u8]) -> Result<RecoveryCode, TransferError> {
        let signed = self.cells[1].open(cell).map_err(|_| TransferError::Refused)?;
        let unverified = Unverified::parse(&signed, limits::COMMIT)?;
        let mut r = Reader::new(unverified.payload())?;
        let more = r.versioned(5, TransferError::Refused)?;
        let is_ours = r.exact::<32>()? == *self.business.as_bytes()
            && r.exact::<32>()? == <[u8; 32]>::from(Sha256::digest(&self.request));
        let giver = r.exact::<32>()?;
        let sealed = r.bytes(hpke::ENC + hpke::AEAD_TAG + CODE)?;
        r.skip_rest(more)?;
        let is_givers = hash_of(&giver) == self.ticket.giver && unverified.is_signed_by(&giver, label::TRANSFER_ANSWER);
        if !is_ours || !is_givers {
            return Err(TransferError::Refused);
        }
        let code = self.key.open(&info(&self.business), &self.request, sealed).map_err(|_| TransferError::Refused)?;
        let code = Zeroizing::new(<[u8; CODE]>::try_from(code.as_slice()).map_err(|_| TransferError::Refused)?);
        Ok(RecoveryCode::from_bytes(*code))
    }
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asker(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::OsRng;

    const SHOP: IdentityHash = IdentityHash::new([1; 32]);
    const OTHER: IdentityHash = IdentityHash::new([2; 32]);
    const REFUSED: TransferError = TransferError::Refused;

    fn code() -> RecoveryCode {
        RecoveryCode::from_bytes([7; 16])
    }

    fn scan(giver: &Giver) -> Asker {
        Asker::new(Ticket::parse(&giver.ticket().to_text()).unwrap(), SHOP, &mut OsRng).unwrap()
    }

    #[test]
    fn the_code_goes_to_the_device_that_asked_and_both_show_one_number() {
        let giver = Giver::new(SHOP, &mut OsRng);
        let asker = scan(&giver);
        assert_eq!((giver.asking(), giver.answering()), (asker.asking(), asker.answering()));
        assert_ne!(giver.asking(), giver.answering());
        let cell = asker.ask(&mut OsRng).unwrap();
        let asked = giver.asked(&cell).unwrap();
        assert_eq!(asked.number(), asker.number());
        assert!(asked.number().len() == DIGITS && asked.number().bytes().all(|b| b.is_ascii_digit()));
        let answer = giver.give(&asked, &code(), &mut OsRng).unwrap();
        assert!(asker.answered(&answer).unwrap() == code());
        // To a relay both are commits of the common size, and neither has what is in it.
        assert_eq!((cell.len(), answer.len()), (2048, 2048));
        assert!(!answer.windows(CODE).any(|window| window == [7; 16]));
    }

    /// Somebody who has the ticket too, and is not the device that was answered.
    #[test]
    fn a_second_device_with_the_ticket_shows_another_number_and_opens_nothing() {
        let giver = Giver::new(SHOP, &mut OsRng);
        let (first, second) = (scan(&giver), scan(&giver));
        assert_ne!(first.number(), second.number());
        let asked = giver.asked(&first.ask(&mut OsRng).unwrap()).unwrap();
        let answer = giver.give(&asked, &code(), &mut OsRng).unwrap();
        assert!(second.answered(&answer).err() == Some(REFUSED));
    }

    /// The relay has no ticket; nor has a device that scanned another one.
    #[test]
    fn a_cell_that_was_made_without_the_ticket_is_refused_and_every_byte_counts() {
        let giver = Giver::new(SHOP, &mut OsRng);
        let asker = scan(&giver);
        let cell = asker.ask(&mut OsRng).unwrap();
        let foreign = scan(&Giver::new(SHOP, &mut OsRng)).ask(&mut OsRng).unwrap();
        assert_eq!(giver.asked(&foreign).err(), Some(REFUSED));
        let answer = giver.give(&giver.asked(&cell).unwrap(), &code(), &mut OsRng).unwrap();
        for at in (0..cell.len()).step_by(61).chain([cell.len() - 1]) {
            let turn = |cell: &[u8]| {
                let mut turned = cell.to_vec();
                turned[at] ^= 1;
                turned
            };
            assert_eq!(giver.asked(&turn(&cell)).err(), Some(REFUSED), "byte {at}");
            assert!(asker.answered(&turn(&answer)).err() == Some(REFUSED), "byte {at}");
            assert_eq!(giver.asked(&cell[..at]).err(), Some(REFUSED));
            assert!(asker.answered(&answer[..at]).err() == Some(REFUSED));
        }
        // Each cell in the other's place.
        assert_eq!(giver.asked(&answer).err(), Some(REFUSED));
        assert!(asker.answered(&cell).err() == Some(REFUSED));
    }

    /// With a picture of the screen one has the cells' keys, but not the key of the device that gives.
    #[test]
    fn whoever_has_the_ticket_cannot_give_a_code_of_his_own() {
        let giver = Giver::new(SHOP, &mut OsRng);
        let asker = scan(&giver);
        let key = SigningKey::generate(&mut OsRng);
        let ticket = giver.ticket().clone();
        let impostor = Giver { business: SHOP, key, cells: ticket.cells(&SHOP), ticket };
        let asked = impostor.asked(&asker.ask(&mut OsRng).unwrap()).unwrap();
        let answer = impostor.give(&asked, &code(), &mut OsRng).unwrap();
        assert!(asker.answered(&answer).err() == Some(REFUSED));
    }

    #[test]
    fn a_ticket_is_for_one_business() {
        let giver = Giver::new(SHOP, &mut OsRng);
        let asker = Asker::new(giver.ticket().clone(), OTHER, &mut OsRng).unwrap();
        assert_ne!(giver.asking(), asker.asking());
        assert_eq!(giver.asked(&asker.ask(&mut OsRng).unwrap()).err(), Some(REFUSED));
    }

    #[test]
    fn what_is_no_ticket_is_said() {
        let text = Giver::new(SHOP, &mut OsRng).ticket().to_text();
        assert_eq!(text.len(), 43);
        for wrong in
            ["", "0W3GE1R70W3GE1R70W3GE1R70YJ5", &text[1..], &format!("{}A", *text), &text.replace(|_| true, "ü")]
        {
            assert_eq!(Ticket::parse(wrong).err(), Some(TransferError::Ticket), "{wrong}");
        }
    }

    #[test]
    fn debug_is_redacted() {
        let giver = Giver::new(SHOP, &mut OsRng);
        let shown = format!("{:?} {:?} {:?}", giver.ticket(), giver, scan(&giver));
        assert_eq!(shown, "Ticket(redacted) Giver(redacted) Asker(redacted)");
    }
}
