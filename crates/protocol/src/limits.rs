//! Every limit of the relay in one place, each with its reason.

use core::time::Duration;

/// Seconds in one unit of a permit's expiry. Coarse, so that an expiry does not tell when a permit was minted.
pub const EXPIRY_UNIT_SECS: u64 = 6 * 3600;

/// Largest envelope. Signal's `MAX_MESSAGE_SIZE` is the same; larger things are attachments.
pub const MAX_ENVELOPE: usize = 96 * 1024;

/// Largest envelope of the contact class: a Hello with a first message of 4,096 characters, nothing more.
pub const MAX_CONTACT_ENVELOPE: usize = 32 * 1024;

/// Largest contact bundle: KeyPackage and seal key take about 4 KiB.
pub const MAX_BUNDLE: usize = 16 * 1024;

/// Largest frame: an envelope and its permit. Also the WebSocket's message limit.
pub const MAX_FRAME: usize = MAX_ENVELOPE + 1024;

/// Longest relay name, bound into every proof with a one-byte length.
pub const MAX_NAME: usize = 255;

/// Unconfirmed envelopes on their way to one reader; the next one is stored. Signal's window is the same.
pub const WINDOW: usize = 256;

/// Of the window, at most this many of the contact class: a tenth, so that strangers never delay a customer.
pub const CONTACT_WINDOW: usize = WINDOW / 10;

/// How long a live reader may take to confirm before its envelopes go to stable storage.
pub const HANDOVER: Duration = Duration::from_secs(5);

/// Bytes that may wait in one mailbox.
pub const MAILBOX_BYTES: u64 = 256 * 1024 * 1024;

/// Envelopes that may wait in one mailbox.
pub const MAILBOX_ENVELOPES: u64 = 100_000;

/// The contact class's share of a mailbox's bytes and envelopes: one part in this many.
pub const CONTACT_SHARE: u64 = 10;

/// Bytes of unconfirmed envelopes in memory, per mailbox.
pub const MEMORY_PER_MAILBOX: usize = 8 * 1024 * 1024;

/// Bytes of unconfirmed envelopes in memory, in all.
pub const MEMORY_TOTAL: usize = 512 * 1024 * 1024;

/// Whole days that an envelope waits at least; it is gone at most one day later.
pub const RETENTION_DAYS: u32 = 30;

/// Largest sealed commit in a slot: one of a group of 16 members takes about 20 KiB.
pub const MAX_SLOT_COMMIT: usize = 64 * 1024;

/// Whole days that a claimed slot is kept at least; it is gone at most one day later. As long as an envelope: who comes back later than
/// that has lost messages anyhow and begins a new group.
pub const SLOT_DAYS: u32 = 30;

/// Bytes of all slots of a relay: room for a million commits of a group of two, 4 KiB each. Ten thousand conversations in which both sides change
/// keys every day hold 600,000.
pub const SLOT_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// What a slot counts besides its commit, for its keys and its place in the index: otherwise the smallest would be free.
pub const SLOT_OVERHEAD: u64 = 128;

/// Claims of one connection at once: a gateway that commits in 1,000 conversations together, with some retries, is not held up.
pub const SLOT_CLAIM_BURST: u32 = 1_200;

/// Claims of one connection per minute after that: each of 1,000 conversations once in eight minutes, where once a day is usual. It bounds
/// what one connection takes of the writing thread and of [`SLOT_BYTES`].
pub const SLOT_CLAIM_RATE: u32 = 120;

/// Largest blob, sealed and padded: an attachment of 100 MiB, as large as a document may be in the Cloud API.
pub const MAX_BLOB: u64 = 104 * 1024 * 1024;

/// Bytes of a blob's parts, the last one excepted: what is sent again after a lost connection, and what a reader has in memory.
pub const BLOB_PART: u64 = 1024 * 1024;

/// Whole days that a blob is kept after it was made or extended; it is gone at most one day later.
pub const BLOB_DAYS: u32 = 30;

/// Whole days that a blob is kept in all, however often it is extended.
pub const BLOB_DAYS_IN_ALL: u32 = 90;

/// Bytes of all blobs of a relay.
pub const BLOB_BYTES: u64 = 16 * 1024 * 1024 * 1024;

/// What a blob counts besides its bytes, for its row, its files and their folder: otherwise the smallest would be free.
pub const BLOB_OVERHEAD: u64 = 8 * 1024;

/// Bytes that may be uploaded under one grant in a day: some videos of one customer.
pub const BLOB_GRANT_BYTES: u64 = 512 * 1024 * 1024;

/// Bytes that may be uploaded under all grants of a mailbox in a day, the business's own among them.
pub const BLOB_MAILBOX_BYTES: u64 = 8 * 1024 * 1024 * 1024;

/// Mailboxes whose owner was not seen for this many whole months (of 30 days) go: 180 days.
pub const MAILBOX_MONTHS: u32 = 6;

/// Mailboxes one connection may open or make: a gateway has one, a customer's device one per business it talks to.
pub const MAILBOXES_PER_CONNECTION: usize = 1_024;

/// Revoked grants kept per mailbox.
pub const REVOCATIONS_PER_MAILBOX: u64 = 100_000;

/// Requests of one connection that wait for an answer; the next one is answered `BUSY`.
pub const IN_FLIGHT_PER_CONNECTION: usize = 1_024;

/// How long an accepted send id is remembered in memory; after that the recipient's duplicate record takes over.
pub const SEND_ID_MEMORY: Duration = Duration::from_secs(300);

/// How long a new connection may take to say `ClientHello`.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that is silent for this long is dead; clients ping at a third of it.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// Connections at once.
pub const CONNECTIONS: usize = 50_000;

/// Proof of work by default, in leading zero bits: about a tenth of a second of one core in a browser.
pub const WORK_BITS: u32 = 16;

/// The hardest proof of work that a client is willing to do for a relay: a few minutes.
pub const MAX_WORK_BITS: u32 = 28;

/// Contact envelopes per minute and mailbox, whatever a contact permit says.
pub const CONTACT_RATE: u32 = 600;
