//! Identifiers that outlive numbers and sessions (RFC 8474).

use crate::model::id::{AccountId, BlobId, LogId, MailboxId};
use crate::wire::message::head::Head;
use crate::wire::message::ids::{message_id, references, thread};

/// MAILBOXID (RFC 8474 §4): never given to another mailbox of this server.
pub(super) fn mailbox_id(account: AccountId, mailbox: MailboxId) -> String {
    format!("F{:x}-{:x}", account.0, mailbox.0)
}

/// EMAILID (RFC 8474 §5.1): of the blob, so that copies share it.
pub(super) fn email_id(log: LogId, blob: BlobId) -> String {
    format!("M{:x}-{:x}", log.0, blob.0)
}

/// The blob that an EMAILID names.
pub(super) fn email_blob(log: LogId, id: &str) -> Option<BlobId> {
    let (_, number) = id.split_once('-')?;
    let blob = BlobId(u64::from_str_radix(number, 16).ok()?);
    (email_id(log, blob) == id).then_some(blob)
}

/// THREADID (RFC 8474 §5.2).
pub(super) fn thread_id(thread: u64) -> String {
    format!("T{thread:x}")
}

/// The thread that a THREADID names.
pub(super) fn named_thread(id: &str) -> Option<u64> {
    let thread = u64::from_str_radix(id.strip_prefix('T')?, 16).ok()?;
    (thread_id(thread) == id).then_some(thread)
}

/// The thread of a message that has no summary of today.
pub(super) fn thread_of(message: &[u8]) -> Option<u64> {
    let (head, _) = Head::of(message);
    let mut ids = Vec::new();
    references(message, &head, &mut ids);
    thread(message_id(message, &head), ids.first().copied(), ids.len())
}
