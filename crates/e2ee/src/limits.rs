//! Every limit of this crate in one place, each with its reason. The relay's are in [`bulla_protocol::limits`].

/// Nesting of any CBOR that is read. Content needs nine: the message, four nested parts with their lists.
pub const CBOR_DEPTH: usize = 12;

/// Bytes of a handle: it stands in a URL and on a screen's one line.
pub const HANDLE: usize = 64;

/// Bytes of a business's, reader's or role's name.
pub const NAME: usize = 256;

/// Characters of a customer's display name.
pub const DISPLAY_NAME: usize = 64;

/// Bytes of a relay's URL.
pub const URL: usize = 1_024;

/// Bytes of an endpoint's name inside its certificate.
pub const ENDPOINT: usize = 64;

/// Characters of a link's `ref`.
pub const REFERENCE: usize = 128;

/// Suites in one list.
pub const SUITES: usize = 32;

/// Readers in one list: roles, bots and vendors, not persons.
pub const READERS: usize = 64;

/// Permits in one list: one per purpose and some to spare.
pub const PERMITS: usize = 8;

/// Bytes of a KeyPackage; one with our suite and a certificate takes about 3 KiB.
pub const KEY_PACKAGE: usize = 8 * 1024;

/// Bytes of a certificate with its signature.
pub const CERTIFICATE: usize = 1_024;

/// Bytes of a Welcome; one for two members takes about 8 KiB, one for 16 about 40.
pub const WELCOME: usize = 64 * 1024;

/// Members of a group: a business's endpoints and a customer's devices, which people can count.
pub const MEMBERS: usize = 16;

/// Bytes of a commit; one of 16 members takes about 20 KiB, one of two about 4.
pub const COMMIT: usize = 48 * 1024;

/// Bytes of one MLS message: what fits into the largest envelope.
pub const MLS_MESSAGE: usize = bulla_protocol::limits::MAX_ENVELOPE - 1024;

/// Bytes of one content. Larger things are attachments.
pub const CONTENT: usize = 64 * 1024;

/// Bytes of a text: four times the 4,096 characters that the Cloud API allows.
pub const TEXT: usize = 16 * 1024;

/// Bytes of a reaction: the longest emoji sequences take some 40.
pub const EMOJI: usize = 64;

/// Bytes of an attached file: what a document may have in the Cloud API.
pub const ATTACHMENT: u64 = 100 * 1024 * 1024;

/// Bytes of an attachment's preview: a picture of some 320 points, and room for it in an envelope beside everything else.
pub const PREVIEW: usize = 24 * 1024;

/// Bytes of an attachment's caption: four times the 1,024 characters that the Cloud API allows.
pub const CAPTION: usize = 4 * 1024;

/// Levels of nested parts, as the draft has it.
pub const PART_DEPTH: usize = 4;

/// Parts in all of one content.
pub const PARTS: usize = 16;

/// Extensions of one content.
pub const EXTENSIONS: usize = 32;

/// Bytes of one extension's encoded value.
pub const EXTENSION_VALUE: usize = 4_095;

/// Levels of tags, maps and arrays in the extensions, their map included, as the draft has it.
pub const EXTENSION_DEPTH: usize = 4;

/// Message ids in each list of one receipt: what fits into an envelope with room to spare.
pub const RECEIPT_IDS: usize = 1_024;

/// Messages in one page of history: a screen and some more, so that a person sees something at once.
pub const HISTORY_ITEMS: usize = 60;

/// Bytes of the messages in one page of history: with its padding it fits into the 64 KiB of a `control` permit.
pub const HISTORY_BYTES: usize = 40 * 1024;

/// Bytes of the place at which a history goes on, in the words of whoever keeps it.
pub const HISTORY_PLACE: usize = 32;

/// Reactions on one message of a history: one of each side, and some to spare.
pub const HISTORY_REACTIONS: usize = 4;

/// Characters of a token that says who a customer is at the business. Those with a few claims have 150 to 600; it goes into the Hello.
pub const IDENTITY: usize = 2_048;

/// Bytes of a push service's URL for one device. Those of today have 150 to 600.
pub const PUSH_ENDPOINT: usize = 1_024;

/// Characters that somebody may have typed for a recovery code, with whatever is between them.
pub const RECOVERY_TYPED: usize = 256;

/// Messages sealed without having heard from the other side. MLS skips at most 1,000 lost messages of one epoch.
pub const UNHEARD: u32 = 900;

/// Messages that may arrive late after a newer one of the same sender, and how far back a replay is told from a late one.
pub const OUT_OF_ORDER: u32 = 64;

/// Messages of one sender and epoch that may be missing before a newer one.
pub const FORWARD: u32 = 1_000;

/// Epochs before the current one whose messages still open, until everybody was heard in a later one. One would do if every commit waited for
/// everybody; one that removes a device waits for nobody, so that of two or three such, in a row, none loses what is on its way.
pub const PAST_EPOCHS: u64 = 3;

/// Seconds that a bundle is valid; it is renewed daily.
pub const BUNDLE_SECS: u64 = 14 * DAY_SECS;

/// Seconds that a KeyPackage's lifetime begins before it was made: customers' clocks that are slow.
pub const LIFETIME_BEFORE_SECS: u64 = 7 * DAY_SECS;

/// Seconds that a KeyPackage lives: a bundle's validity, 28 days, and customers' clocks that are fast.
pub const LIFETIME_AFTER_SECS: u64 = 42 * DAY_SECS;

/// Seconds that a spare KeyPackage lives: it is renewed when half of this is over, and lies in a drawer with the device.
pub const SPARE_SECS: u64 = 360 * DAY_SECS;

/// Seconds that a customer's certificate may be used to begin conversations. Long, because a wrong clock of the customer
/// must not break a first contact; the certificate is made for one conversation and its key never leaves the device.
pub const CUSTOMER_CERTIFICATE_SECS: u64 = 730 * DAY_SECS;

/// Seconds of a day.
pub const DAY_SECS: u64 = 24 * 3600;
