//! What a dishonest peer would make: signed by its own good keys, and wrong inside.

use bulla_e2ee::bundle::Bundle;
use bulla_e2ee::envelope::bucket;
use bulla_protocol::label::{self, Label};
use bulla_protocol::limits::MAX_CONTACT_ENVELOPE;
use ed25519_dalek::{Signer, SigningKey};
use minicbor::{Decoder, Encoder};
use openmls_rust_crypto::RustCrypto;
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::types::Ciphersuite;

pub(crate) const CIPHERSUITE: Ciphersuite = Ciphersuite::MLS_128_MLKEM768X25519_AES128GCM_SHA256_Ed25519;

/// The elements of an encoded array.
pub(crate) fn items(array: &[u8]) -> Vec<Vec<u8>> {
    let mut d = Decoder::new(array);
    let len = d.array().unwrap().unwrap();
    let mut one = |_| {
        let from = d.position();
        d.skip().unwrap();
        array[from..d.position()].to_vec()
    };
    (0..len).map(&mut one).collect()
}

pub(crate) fn array(items: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Encoder::new(&mut bytes).array(items.len() as u64).unwrap();
    bytes.extend(items.concat());
    bytes
}

pub(crate) fn bstr(content: &[u8]) -> Vec<u8> {
    minicbor::to_vec(<&minicbor::bytes::ByteSlice>::from(content)).unwrap()
}

pub(crate) fn content_of(bstr: &[u8]) -> Vec<u8> {
    Decoder::new(bstr).bytes().unwrap().to_vec()
}

/// The elements of a signed payload.
pub(crate) fn payload(signed: &[u8]) -> Vec<Vec<u8>> {
    items(&content_of(&items(signed)[0]))
}

pub(crate) fn sign(key: &[u8; 32], label: Label, payload: &[Vec<u8>]) -> Vec<u8> {
    let payload = array(payload);
    let signature = SigningKey::from_bytes(key).sign(&[label, &payload].concat());
    array(&[bstr(&payload), bstr(&signature.to_bytes())])
}

/// Seals a Hello's CBOR as an honest customer would.
pub(crate) fn seal_hello(bundle: &Bundle, cbor: &[u8]) -> Vec<u8> {
    const OVERHEAD: usize = 1 + 1120 + 16 + 4;
    let whole = bucket(OVERHEAD + cbor.len());
    assert!(whole <= MAX_CONTACT_ENVELOPE);
    let mut padded = [&(cbor.len() as u32).to_be_bytes()[..], cbor].concat();
    padded.resize(whole - OVERHEAD + 4, 0);
    seal_padded(bundle, &padded)
}

pub(crate) fn seal_padded(bundle: &Bundle, padded: &[u8]) -> Vec<u8> {
    let info = [label::HELLO, bundle.identity_hash().as_bytes(), bundle.mailbox().as_bytes()].concat();
    let sealed = RustCrypto::default()
        .hpke_seal(
            CIPHERSUITE.hpke_config(),
            bundle.seal_key().as_bytes(),
            &info,
            bundle.contact().permit.tag.as_bytes(),
            padded,
        )
        .unwrap();
    [&[1][..], sealed.kem_output.as_slice(), sealed.ciphertext.as_slice()].concat()
}

/// Opens a Hello to its CBOR, with the seal key from stored business keys.
pub(crate) fn open_hello(keys: &[u8], bundle: &Bundle, hello: &[u8]) -> Vec<u8> {
    let private = content_of(&items(keys)[2]);
    let info = [label::HELLO, bundle.identity_hash().as_bytes(), bundle.mailbox().as_bytes()].concat();
    let input =
        openmls_traits::types::HpkeCiphertext { kem_output: hello[1..1121].into(), ciphertext: hello[1121..].into() };
    let aad = bundle.contact().permit.tag;
    let padded =
        RustCrypto::default().hpke_open(CIPHERSUITE.hpke_config(), &input, &private, &info, aad.as_bytes()).unwrap();
    let length = u32::from_be_bytes(padded[..4].try_into().unwrap()) as usize;
    padded[4..4 + length].to_vec()
}

/// Every proper prefix, some extensions, and every byte with one bit flipped.
pub(crate) fn mutations(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let prefixes = (0..bytes.len()).map(move |len| bytes[..len].to_vec());
    let longer = [1, 2, 16, 1024].into_iter().map(move |n| [bytes, &vec![0; n]].concat());
    let flipped = (0..bytes.len()).map(move |i| {
        let mut flipped = bytes.to_vec();
        flipped[i] ^= 1 << (i % 8);
        flipped
    });
    prefixes.chain(longer).chain(flipped)
}

/// X25519 public keys of small order, in every encoding.
pub(crate) fn small_order_x25519() -> Vec<[u8; 32]> {
    let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap();
    let low: [[u8; 32]; 7] = [
        [0; 32],
        hex("0100000000000000000000000000000000000000000000000000000000000000"),
        hex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        hex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
        hex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        hex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        hex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    ];
    let high = low.map(|mut point| {
        point[31] |= 0x80;
        point
    });
    [low, high].concat()
}

/// Ed25519 public keys of small order, in every encoding.
pub(crate) fn small_order_ed25519() -> Vec<[u8; 32]> {
    let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap();
    let low: [[u8; 32]; 7] = [
        hex("0000000000000000000000000000000000000000000000000000000000000000"),
        hex("0100000000000000000000000000000000000000000000000000000000000000"),
        hex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
        hex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
        hex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        hex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        hex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    ];
    let high = low.map(|mut point| {
        point[31] |= 0x80;
        point
    });
    [low, high].concat()
}
