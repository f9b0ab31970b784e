//! The limits that concern nobody but this process. Those that a client must know are in [`bulla_protocol::limits`].

use std::time::Duration;

/// Bytes that may wait for one client before the relay stops reading its requests and delivering to it: enough to fill a fast link for a
/// round trip, small enough for 50,000 clients that do not read.
pub(crate) const OUTBOX_BYTES: usize = 1024 * 1024;

/// Bytes read from a connection at once. Every connection has that much memory, idle or not; a larger frame gets more while it comes.
pub(crate) const READ_BUFFER: usize = 4 * 1024;

/// Bytes of frames after which a connection's are written, though more wait: its memory keeps that much for the next.
pub(crate) const WRITE_BUFFER: usize = 16 * 1024;

/// Bytes of a connection's sends that wait for their answer; beyond, the relay stops reading from it.
pub(crate) const IN_FLIGHT_BYTES: usize = 8 * 1024 * 1024;

/// What one claim of a slot may take of memory until it is answered: its own commit, and the winner's in the answer. Of
/// [`IN_FLIGHT_BYTES`] it is taken until the answer is written, so that 64 claims of one connection are on their way together.
pub(crate) const CLAIM_BYTES: usize = 2 * bulla_protocol::limits::MAX_SLOT_COMMIT;

/// Slots of one read of their index, when they are counted at the start.
pub(crate) const SLOTS_PAGE: usize = 4_096;

/// Bytes of a request for a new blob; one takes some 250.
pub(crate) const CREATE_BLOB_BYTES: usize = 1_024;

/// Parts of blobs in memory at once, 1 MiB each.
pub(crate) const BLOB_PARTS_AT_ONCE: usize = 256;

/// How long a client may take to send a part, and how long it waits for room: 17 KiB/s, a slow phone.
pub(crate) const BLOB_PATIENCE: Duration = Duration::from_secs(60);

/// When to try again: a grant's share of the day is used up.
pub(crate) const RETRY_BLOB_SHARE_SECS: u32 = 6 * 3600;

/// When to try again: all blobs together are at their limit.
pub(crate) const RETRY_BLOBS_FULL_SECS: u32 = 3600;

/// When to try again: too much at once, or the disk.
pub(crate) const RETRY_BLOB_SECS: u32 = 5;

/// How long a browser remembers that pages of other origins may ask; browsers keep it for two hours at most.
pub(crate) const CORS_AGE: Duration = Duration::from_secs(7_200);

/// Rows of one read from the store.
pub(crate) const PAGE_ROWS: usize = 128;

/// Bytes of one read from the store.
pub(crate) const PAGE_BYTES: usize = 1024 * 1024;

/// Accepted send ids remembered per mailbox: what a busy mailbox sees in the minutes for which they are kept.
pub(crate) const SEND_IDS: usize = 65_536;

/// Grants whose rate is followed per mailbox. More would need as many valid grants in use within one minute.
pub(crate) const RATES: usize = 65_536;

/// A mailbox that nobody used for this long leaves the memory: longer than send ids and rates live.
pub(crate) const MAILBOX_IDLE: Duration = Duration::from_secs(330);

/// How often memory is tidied, and the keys of what was acknowledged are destroyed: within a minute, the work itself included.
pub(crate) const TIDY_EVERY: Duration = Duration::from_secs(30);

/// How often expired rows and mailboxes are looked for, in rounds of [`TIDY_EVERY`]: hourly.
pub(crate) const SWEEP_EVERY: u32 = 120;

/// Mailboxes or slots looked at in one step of a sweep.
pub(crate) const SWEEP_STEP: usize = 256;

/// How long a closing connection may take to read what is left for it.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// When a sender should try again after the mailbox was full: room comes by its owner's reading.
pub(crate) const RETRY_FULL_MS: u32 = 30_000;

/// When a sender should try again after the contact share of a live reader's window was used up: it empties in a round trip.
pub(crate) const RETRY_WINDOW_MS: u32 = 250;

/// When a client should try again after there was no room for its slot: room comes by expiry, which is looked for every hour.
pub(crate) const RETRY_SLOTS_FULL_MS: u32 = 600_000;

/// When a client should try again after the relay could not write.
pub(crate) const RETRY_UNAVAILABLE_MS: u32 = 5_000;

/// When a client should try again after too much was in flight.
pub(crate) const RETRY_BUSY_MS: u32 = 100;
