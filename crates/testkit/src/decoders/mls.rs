//! MLS, from strangers and from inside.
//!
//! A mutated MLS message fails at its AEAD. A malicious *member* is not stopped there: it seals whatever it likes, signs it, and everything
//! behind decryption reads it. [`group_info`] and [`content`] are such a member: they carry out RFC 9420's key schedule by hand for the
//! group of [`super::world`], so that the bytes under test are the ones behind encryption and signature. The malicious member is
//! the customer, because anybody can be one; the business is who must survive it.

use bulla_e2ee::conversation::{Conversation, JoinError};
use bulla_e2ee::hello::Hello;
use ed25519_dalek::{Signer as _, SigningKey};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use openmls_rust_crypto::RustCrypto;
use openmls_traits::crypto::OpenMlsCrypto as _;
use openmls_traits::types::{AeadType, HpkeCiphertext};
use sha2::{Digest as _, Sha256};

use super::Verdict;
use super::world::{self, NOW, SUITE, World, cbor, world};

const PRIVATE_MESSAGE: u16 = 2;
const WELCOME: u16 = 3;
/// Where the customer and the business stand in the group's tree.
const CUSTOMER_LEAF: u32 = 0;

/// An MLS message at both sides of a conversation, from whoever can seal an envelope.
pub fn message(bytes: &[u8]) -> Verdict {
    let mut verdict = Verdict::Refused;
    for mut conversation in [world().business(), world().customer()] {
        verdict = verdict.or(Verdict::of(conversation.open(bytes).is_ok()));
        world::reload(&conversation);
    }
    verdict
}

/// A Welcome in a Hello that is good otherwise.
pub fn welcome(bytes: &[u8]) -> Verdict {
    Verdict::of(join(bytes).is_ok())
}

/// The business joins the group of a Welcome.
fn join(welcome: &[u8]) -> Result<Conversation, JoinError> {
    let World { keys, first, .. } = world();
    let business = world::identity().hash();
    let envelope = world::seal_hello(&world::hello(welcome, first)).ok_or(JoinError::Refused)?;
    let tag = world::contact_tag();
    // Only a Welcome over its limit makes such a Hello a bad one.
    let hello =
        Hello::open(keys, &business, &world::BUSINESS_MAILBOX, &tag, &envelope).map_err(|_| JoinError::Refused)?;
    let conversation = Conversation::join(keys, &business, &hello, NOW).inspect_err(|e| {
        if std::env::var_os("DBG").is_some() {
            println!("{e:?}");
        }
    })?;
    world::reload(&conversation);
    Ok(conversation)
}

/// The inside of a Welcome, GroupInfo and ratchet tree, as a malicious customer makes it.
///
/// `u16 length ‖ GroupContext ‖ u32 signer ‖ extensions`: confirmation tag and signature are made here, so that they are right.
pub fn group_info(bytes: &[u8]) -> Verdict {
    let Some((context, rest)) = split_prefixed(bytes) else { return Verdict::Refused };
    let Some((signer, extensions)) = rest.split_first_chunk::<4>() else { return Verdict::Refused };
    let secrets = Secrets::of(&world().joiner, context);
    let transcript = confirmed_transcript_hash(context).unwrap_or_default();
    let tag = hmac(&secrets.confirmation_key, transcript);
    let info = [context, &vl(extensions), &vl(&tag), signer].concat();
    let signed = [&info[..], &vl(&sign_with_label(&world().leaf, "GroupInfoTBS", &info))].concat();
    let sealed = aead_seal(&secrets.welcome_key, &secrets.welcome_nonce, &[], &signed);
    let Some(welcome) = reseal_welcome(&world().welcome, &sealed, &world().joiner) else { return Verdict::Refused };
    Verdict::of(join(&welcome).is_ok())
}

/// What is inside an MLS message, as a malicious customer makes it.
///
/// `u8 content type ‖ u8 generation ‖ u8 flags ‖ content`. A good signature follows the content, in a commit a confirmation tag as well; flag 1
/// leaves both out, so that the rest of the bytes may be them. With flag 2 the content is a commit with a path, whose leaf is signed here:
/// `u16 length ‖ proposals ‖ u16 length ‖ leaf without signature ‖ nodes`.
pub fn content(bytes: &[u8]) -> Verdict {
    let Some((&[kind, generation, flags], content)) = bytes.split_first_chunk::<3>() else { return Verdict::Refused };
    let mut conversation = world().business();
    let member = Member::of_world();
    let with_path = if flags & 2 == 0 { Some(content.to_vec()) } else { member.sign_path(content) };
    let Some(content) = with_path else { return Verdict::Refused };
    let message = member.seal(kind, u32::from(generation), &content, flags & 1 == 0);
    let opened = conversation.open(&message);
    if std::env::var_os("DBG").is_some() {
        println!("{opened:?}");
    }
    world::reload(&conversation);
    Verdict::of(opened.is_ok())
}

/// The inputs of [`group_info`] that make the world's own group.
pub(super) fn group_info_sample() -> Vec<u8> {
    let info = &world().group_info;
    let context = context_of(info).unwrap();
    let (extensions, rest) = split_vl(&info[context.len()..]).unwrap();
    let (_tag, rest) = split_vl(rest).unwrap();
    [&(context.len() as u16).to_be_bytes()[..], context, &rest[..4], extensions].concat()
}

/// What a member of the world's group needs to seal.
struct Member {
    group: Vec<u8>,
    epoch: [u8; 8],
    context: Vec<u8>,
    sender_data_secret: [u8; 32],
    encryption_secret: [u8; 32],
    leaf: [u8; 32],
}

impl Member {
    /// The customer.
    fn of_world() -> Self {
        let context = context_of(&world().group_info).unwrap();
        let (group, rest) = split_vl(&context[4..]).unwrap();
        let Secrets { sender_data_secret, encryption_secret, .. } = Secrets::of(&world().joiner, context);
        Self {
            group: group.to_vec(),
            epoch: *rest.first_chunk().unwrap(),
            context: context.to_vec(),
            sender_data_secret,
            encryption_secret,
            leaf: world().leaf,
        }
    }

    /// A commit with a path: its leaf is signed for this group and this place in its tree (RFC 9420 §7.2).
    fn sign_path(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (proposals, rest) = split_prefixed(bytes)?;
        let (leaf, nodes) = split_prefixed(rest)?;
        let signed = [leaf, &vl(&self.group), &CUSTOMER_LEAF.to_be_bytes()].concat();
        let signature = vl(&sign_with_label(&self.leaf, "LeafNodeTBS", &signed));
        Some([proposals, &[1], leaf, &signature, nodes].concat())
    }

    /// An MLS message with any bytes as its content (RFC 9420 §6.3).
    fn seal(&self, kind: u8, generation: u32, content: &[u8], signed: bool) -> Vec<u8> {
        const APPLICATION: u8 = 1;
        const COMMIT: u8 = 3;
        let head = [&vl(&self.group)[..], &self.epoch].concat();
        let mut plain = content.to_vec();
        if signed {
            let sender = [&[1][..], &CUSTOMER_LEAF.to_be_bytes()].concat();
            let framed = [&head[..], &sender, &vl(&[]), &[kind], content].concat();
            let tbs = [&1_u16.to_be_bytes()[..], &PRIVATE_MESSAGE.to_be_bytes(), &framed, &self.context].concat();
            plain.extend(vl(&sign_with_label(&self.leaf, "FramedContentTBS", &tbs)));
            if kind == COMMIT {
                plain.extend(vl(&[0; 32]));
            }
        }
        // The customer's leaf is the left one of two.
        let tree = expand::<32>(&self.encryption_secret, "tree", b"left");
        let ratchet = if kind == APPLICATION { "application" } else { "handshake" };
        let mut secret = expand::<32>(&tree, ratchet, &[]);
        for at in 0..generation {
            secret = expand(&secret, "secret", &at.to_be_bytes());
        }
        let key = expand::<16>(&secret, "key", &generation.to_be_bytes());
        let nonce = expand::<12>(&secret, "nonce", &generation.to_be_bytes());
        // A reuse guard of zeros changes no nonce.
        let guard = [0; 4];
        let aad = [&head[..], &[kind], &vl(&[])].concat();
        let ciphertext = aead_seal(&key, &nonce, &aad, &plain);

        let sample = &ciphertext[..ciphertext.len().min(32)];
        let key = expand::<16>(&self.sender_data_secret, "key", sample);
        let nonce = expand::<12>(&self.sender_data_secret, "nonce", sample);
        let sender_data = [&CUSTOMER_LEAF.to_be_bytes()[..], &generation.to_be_bytes(), &guard].concat();
        let sender_data = aead_seal(&key, &nonce, &[&head[..], &[kind]].concat(), &sender_data);
        let wire = [1_u16.to_be_bytes(), PRIVATE_MESSAGE.to_be_bytes()].concat();
        [&wire[..], &head, &[kind], &vl(&[]), &vl(&sender_data), &vl(&ciphertext)].concat()
    }
}

/// The secrets of an epoch that begins with a joiner secret and without pre-shared keys (RFC 9420 §8).
struct Secrets {
    welcome_key: [u8; 16],
    welcome_nonce: [u8; 12],
    sender_data_secret: [u8; 32],
    encryption_secret: [u8; 32],
    confirmation_key: [u8; 32],
}

impl Secrets {
    fn of(joiner: &[u8; 32], context: &[u8]) -> Self {
        let member: [u8; 32] = Hkdf::<Sha256>::extract(Some(joiner), &[0; 32]).0.into();
        let welcome = expand::<32>(&member, "welcome", &[]);
        let epoch = expand::<32>(&member, "epoch", context);
        Self {
            welcome_key: expand(&welcome, "key", &[]),
            welcome_nonce: expand(&welcome, "nonce", &[]),
            sender_data_secret: expand(&epoch, "sender data", &[]),
            encryption_secret: expand(&epoch, "encryption", &[]),
            confirmation_key: expand(&epoch, "confirm", &[]),
        }
    }
}

/// Opens a Welcome with the bundle's keys, which only the business has: joiner secret and GroupInfo.
pub(super) fn open_welcome(keys: &[u8], welcome: &[u8]) -> Option<([u8; 32], Vec<u8>)> {
    let (_, _, kem, ciphertext, sealed) = welcome_parts(welcome)?;
    let private = init_key(keys)?;
    let info = [&vl(b"MLS 1.0 Welcome")[..], &vl(sealed)].concat();
    let input = HpkeCiphertext { kem_output: kem.into(), ciphertext: ciphertext.into() };
    let secrets = RustCrypto::default().hpke_open(SUITE.hpke_config(), &input, &private, &info, &[]).ok()?;
    let joiner: [u8; 32] = split_vl(&secrets)?.0.try_into().ok()?;
    let Secrets { welcome_key, welcome_nonce, .. } = Secrets::of(&joiner, &[]);
    let info =
        RustCrypto::default().aead_decrypt(AeadType::Aes128Gcm, &welcome_key, sealed, &welcome_nonce, &[]).ok()?;
    Some((joiner, info))
}

/// A Welcome for the same KeyPackage with another sealed GroupInfo.
fn reseal_welcome(welcome: &[u8], sealed: &[u8], joiner: &[u8; 32]) -> Option<Vec<u8>> {
    let (suite, package_ref, ..) = welcome_parts(welcome)?;
    let info = [&vl(b"MLS 1.0 Welcome")[..], &vl(sealed)].concat();
    // No path secret, no pre-shared keys.
    let secrets = [&vl(joiner)[..], &[0], &vl(&[])].concat();
    let to = init_public_key()?;
    let hpke = RustCrypto::default().hpke_seal(SUITE.hpke_config(), &to, &info, &[], &secrets).ok()?;
    let member = [vl(package_ref), vl(hpke.kem_output.as_slice()), vl(hpke.ciphertext.as_slice())].concat();
    let wire = [1_u16.to_be_bytes(), WELCOME.to_be_bytes()].concat();
    Some([&wire[..], suite, &vl(&member), &vl(sealed)].concat())
}

type WelcomeParts<'a> = (&'a [u8], &'a [u8], &'a [u8], &'a [u8], &'a [u8]);

/// Suite, KeyPackage reference, encapsulation, sealed secrets, sealed GroupInfo: of a Welcome for one.
fn welcome_parts(welcome: &[u8]) -> Option<WelcomeParts<'_>> {
    let (suite, rest) = welcome.get(4..)?.split_at_checked(2)?;
    let (secrets, rest) = split_vl(rest)?;
    let (package_ref, secrets) = split_vl(secrets)?;
    let (kem, secrets) = split_vl(secrets)?;
    let (ciphertext, _) = split_vl(secrets)?;
    Some((suite, package_ref, kem, ciphertext, split_vl(rest)?.0))
}

/// The KeyPackage's private init key, out of stored business keys: CBOR of OpenMLS's, with field names.
fn init_key(keys: &[u8]) -> Option<Vec<u8>> {
    let package = cbor::content(cbor::items(cbor::items(keys)?.get(6)?)?.get(1)?)?;
    let name = cbor::text("private_init_key");
    let at = package.windows(name.len()).position(|w| w == name)? + name.len();
    let mut d = minicbor::Decoder::new(package.get(at..)?);
    // `{"vec": [numbers]}` or bytes.
    while d.datatype().ok()? == minicbor::data::Type::Map {
        d.map().ok()?;
        d.str().ok()?;
    }
    match d.datatype().ok()? {
        minicbor::data::Type::Bytes => d.bytes().ok().map(<[u8]>::to_vec),
        _ => d.array_iter::<u8>().ok()?.collect::<Result<_, _>>().ok(),
    }
}

/// The KeyPackage's init key, out of the bundle: version and suite stand before it.
fn init_public_key() -> Option<Vec<u8>> {
    let payload = cbor::items(&cbor::content(cbor::items(&world().bundle)?.first()?)?)?;
    Some(split_vl(cbor::content(payload.get(8)?)?.get(4..)?)?.0.to_vec())
}

/// The GroupContext at the beginning of a GroupInfo.
fn context_of(info: &[u8]) -> Option<&[u8]> {
    let (_group, rest) = split_vl(info.get(4..)?)?;
    let (_tree_hash, rest) = split_vl(rest.get(8..)?)?;
    let (_transcript, rest) = split_vl(rest)?;
    let (_extensions, rest) = split_vl(rest)?;
    info.get(..info.len() - rest.len())
}

fn confirmed_transcript_hash(context: &[u8]) -> Option<&[u8]> {
    let (_group, rest) = split_vl(context.get(4..)?)?;
    let (_tree_hash, rest) = split_vl(rest.get(8..)?)?;
    Some(split_vl(rest)?.0)
}

/// The LeafNode of a KeyPackage, which stands between its init key and its extensions.
fn leaf_of_key_package(package: &[u8]) -> Option<&[u8]> {
    let (_init_key, rest) = split_vl(package.get(4..)?)?;
    let (unsigned, signature) = split_leaf(rest)?;
    rest.get(..unsigned.len() + signature)
}

/// A LeafNode without its signature, and the length of that (RFC 9420 §7.2).
fn split_leaf(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let mut at = bytes;
    for _encryption_and_signature_key in 0..2 {
        at = split_vl(at)?.1;
    }
    // A basic credential.
    at = split_vl(at.get(2..)?)?.1;
    for _capability in 0..5 {
        at = split_vl(at)?.1;
    }
    let (source, rest) = at.split_first()?;
    at = match source {
        // In a KeyPackage it has a lifetime, in a commit a parent hash.
        1 => rest.get(16..)?,
        3 => split_vl(rest)?.1,
        _ => rest,
    };
    at = split_vl(at)?.1;
    let unsigned = bytes.get(..bytes.len() - at.len())?;
    Some((unsigned, at.len() - split_vl(at)?.1.len()))
}

/// A commit of nothing but a path with one node, for flag 2 of [`content`]: right up to the node's secret, which nobody can open.
pub(super) fn path_sample() -> Option<Vec<u8>> {
    // The only extension of the GroupInfo is the tree: customer's leaf, root, business's leaf, each optional and with its type.
    let info = &world().group_info;
    let extensions = split_vl(info.get(context_of(info)?.len()..)?)?.0;
    let nodes = split_vl(split_vl(extensions.get(2..)?)?.0)?.0;
    let (mine, signature) = split_leaf(nodes.get(2..)?)?;
    let mut rest = nodes.get(2 + mine.len() + signature..)?;
    // Present, a parent: key, parent hash, unmerged leaves.
    rest = rest.get(2..)?;
    for _ in 0..3 {
        rest = split_vl(rest)?.1;
    }
    let theirs = rest.get(2..)?;
    let sibling = Sha256::digest([&[1][..], &1_u32.to_be_bytes(), &[1], theirs].concat());
    let node = [0x5a; 1216];
    let parent_hash = Sha256::digest([vl(&node), vl(&[]), vl(&sibling)].concat());
    // Its key, which must be a new one, stands at the beginning; its old parent hash and its empty extensions at the end.
    let leaf = [&vl(&[0x5b; 1216])[..], mine.get(2 + 1216..mine.len() - 1 - 33)?, &vl(&parent_hash), &[0]].concat();
    let secret = [vl(&[6; 1120]), vl(&[7; 48])].concat();
    let nodes = vl(&[vl(&node), vl(&secret)].concat());
    let length = (leaf.len() as u16).to_be_bytes();
    Some([&[0, 1, 0][..], &length, &leaf, &nodes].concat())
}

/// A proposal of each kind (RFC 9420 §12.1).
pub(super) fn proposals(package: &[u8], context: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let proposal = |kind: u16, body: &[u8]| [&kind.to_be_bytes()[..], body].concat();
    let leaf = leaf_of_key_package(package).unwrap_or_default();
    let (group, _) = split_vl(context.get(4..).unwrap_or_default()).unwrap_or_default();
    vec![
        ("add", proposal(1, package)),
        ("update", proposal(2, leaf)),
        ("remove", proposal(3, &1_u32.to_be_bytes())),
        ("remove-nobody", proposal(3, &u32::MAX.to_be_bytes())),
        // An external key of no bytes, with its nonce.
        ("psk", proposal(4, &[&[1][..], &vl(&[]), &vl(&[1; 32])].concat())),
        ("reinit", proposal(5, &[&vl(group)[..], &[0, 1, 0, 0x4f], &vl(&[])].concat())),
        ("external-init", proposal(6, &vl(&[1; 1120]))),
        ("group-context-extensions", proposal(7, &vl(&[0, 3, 3, 0, 0, 0]))),
        ("self-remove", proposal(10, &[])),
        ("of-a-later-version", proposal(0x0a0a, &vl(&[1]))),
    ]
}

/// `u16 length ‖ bytes`, and the rest.
fn split_prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// A vector of TLS's presentation language, as MLS writes it: one, two or four bytes of length.
pub(super) fn vl(bytes: &[u8]) -> Vec<u8> {
    let len = bytes.len() as u32;
    let head = match len {
        0..64 => vec![len as u8],
        64..16_384 => (0x4000 | len as u16).to_be_bytes().to_vec(),
        _ => (0x8000_0000 | len).to_be_bytes().to_vec(),
    };
    [&head[..], bytes].concat()
}

/// The vector at the beginning, and the rest.
fn split_vl(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let head = 1 << (bytes.first()? >> 6);
    let (length, rest) = bytes.split_at_checked(head)?;
    let length = length.iter().fold(0, |sum, b| sum << 8 | usize::from(*b)) & !(0b11 << (head * 8 - 2));
    rest.split_at_checked(length)
}

/// `ExpandWithLabel` of RFC 9420 §8.
fn expand<const N: usize>(secret: &[u8; 32], label: &str, context: &[u8]) -> [u8; N] {
    let label = [&(N as u16).to_be_bytes()[..], &vl(format!("MLS 1.0 {label}").as_bytes()), &vl(context)].concat();
    let mut out = [0; N];
    Hkdf::<Sha256>::from_prk(secret).unwrap().expand(&label, &mut out).unwrap();
    out
}

/// `SignWithLabel` of RFC 9420 §5.1.2.
fn sign_with_label(key: &[u8; 32], label: &str, content: &[u8]) -> [u8; 64] {
    let signed = [vl(format!("MLS 1.0 {label}").as_bytes()), vl(content)].concat();
    SigningKey::from_bytes(key).sign(&signed).to_bytes()
}

fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn aead_seal(key: &[u8; 16], nonce: &[u8; 12], aad: &[u8], plain: &[u8]) -> Vec<u8> {
    RustCrypto::default().aead_encrypt(AeadType::Aes128Gcm, key, plain, nonce, aad).unwrap()
}
