//! Domain-separation labels: one registry, so that no two uses of a hash, MAC, signature or AEAD can be confused.
//!
//! A label is ASCII and ends with one zero byte, so that no label is a prefix of another's input.

/// A domain-separation label.
pub type Label = &'static [u8];

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: Label = concat!($text, "\0").as_bytes();)*
        /// Every label, for the test that they differ.
        pub const ALL: &[Label] = &[$($name),*];
    };
}

labels! {
    /// HMAC: a grant's key from a mailbox's MAC root.
    GRANT = "bulla/1/grant";
    /// HMAC: a permit's MAC under its grant's key.
    PERMIT = "bulla/1/permit";
    /// HMAC: the proof of one send under its permit's MAC.
    SEND = "bulla/1/send";
    /// Ed25519, owner key: opening a mailbox.
    OPEN = "bulla/1/open";
    /// Ed25519, owner key: making a mailbox.
    CREATE = "bulla/1/create";
    /// HMAC: the proof of a new blob under a permit's MAC.
    BLOB = "bulla/1/blob";
    /// SHA-256: what a relay keeps of a blob's read key.
    BLOB_READ = "bulla/1/blob-read";
    /// SHA-256: what a relay keeps of a blob's write key.
    BLOB_WRITE = "bulla/1/blob-write";
    /// HKDF info: the keys of an attachment, from the one that travels in a message.
    ATTACHMENT = "bulla/1/attachment";
    /// SHA-256: proof of work for a mailbox.
    WORK_MAILBOX = "bulla/1/work/mailbox";
    /// SHA-256: proof of work for a first contact.
    WORK_CONTACT = "bulla/1/work/contact";
    /// SHA-256: proof of work for claiming a commit slot.
    WORK_SLOT = "bulla/1/work/slot";
    /// SHA-256: a business's identity hash, as links carry it.
    IDENTITY = "bulla/1/identity";
    /// SHA-256: a customer's pseudonym towards one business, as `user_id` carries it.
    USER_ID = "bulla/1/user-id";
    /// Ed25519, identity key: an endpoint certificate.
    CERTIFICATE = "bulla/1/certificate";
    /// Ed25519, business identity key: a contact bundle.
    BUNDLE = "bulla/1/bundle";
    /// Ed25519, pseudonym key: the proof inside a Hello.
    HELLO_PROOF = "bulla/1/hello-proof";
    /// HPKE info: a Hello to a bundle's seal key.
    HELLO = "bulla/1/hello";
    /// SHA-256: the digest that tells a replayed Hello.
    HELLO_DIGEST = "bulla/1/hello-digest";
    /// HPKE info: the answer to a Hello whose KeyPackage is gone.
    HELLO_AGAIN = "bulla/1/hello-again";
    /// AEAD associated data: the outer envelope.
    ENVELOPE = "bulla/1/envelope";
    /// Ed25519, identity key: continuing a conversation in a new group .
    CONTINUES = "bulla/1/continues";
    /// Ed25519, leaf key of a linked device: its request to be let into the group.
    DEVICE_JOIN = "bulla/1/device-join";
    /// Ed25519, business identity key: a device is told that the conversation goes on without it.
    TURNED_AWAY = "bulla/1/turned-away";
    /// Ed25519, pseudonym key or leaf key of a linked device: a customer agrees to be written to, or does no more.
    CONSENT = "bulla/1/consent";
    /// HKDF info: a pseudonym's key from a recovery code.
    RECOVERY = "bulla/1/recovery";
    /// SHA-256: the checksum of a recovery code that is written down.
    RECOVERY_CHECK = "bulla/1/recovery-check";
    /// HKDF info: the two cells of a transfer and their sealing keys, from its ticket.
    TRANSFER = "bulla/1/transfer";
    /// SHA-256: the key of the device that gives, as a ticket carries it.
    TRANSFER_GIVER = "bulla/1/transfer-giver";
    /// SHA-256: the number that both devices of a transfer show.
    TRANSFER_NUMBER = "bulla/1/transfer-number";
    /// HPKE info: a recovery code to the device that asked for it.
    TRANSFER_CODE = "bulla/1/transfer-code";
    /// Ed25519, key of the device that gives: its answer to the device that asked.
    TRANSFER_ANSWER = "bulla/1/transfer-answer";
    /// MLS exporter: a commit slot's id.
    SLOT_ID = "bulla/1/slot-id";
    /// MLS exporter: a commit slot's sealing key.
    SLOT_KEY = "bulla/1/slot-key";
    /// AEAD associated data: a sealed value of an endpoint's store.
    STORE_VALUE = "bulla/1/store-value";
    /// AEAD associated data: a scope's key, wrapped by the store's key.
    STORE_SCOPE = "bulla/1/store-scope";
    /// AEAD associated data: the store's key, wrapped by a passphrase.
    STORE_KEY = "bulla/1/store-key";
    /// HMAC: blinded index keys of an endpoint's store.
    STORE_INDEX = "bulla/1/store-index";
    /// HMAC: the key of a relay's rows of one backlog and one day.
    ROW_KEY = "bulla/1/row-key";
    /// HMAC: the name of a backlog in a relay's store.
    ROW_NAME = "bulla/1/row-name";
    /// AEAD associated data: a row of a relay's store.
    ROW = "bulla/1/row";
}

#[cfg(test)]
mod tests {
    use super::ALL;

    /// KEY-04 (c), first half: labels come from one registry and differ.
    #[test]
    fn key_04_labels_differ_and_end_with_zero() {
        for (i, a) in ALL.iter().enumerate() {
            assert_eq!(a.iter().filter(|b| **b == 0).count(), 1);
            assert_eq!(a.last(), Some(&0));
            for b in &ALL[i + 1..] {
                assert_ne!(a, b);
            }
        }
    }
}
