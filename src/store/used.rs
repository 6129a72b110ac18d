//! Whether anything was ever put into a log, as its segments say by themselves: such a log is never made
//! anew, whatever else of it is not there.

use super::format::{BatchHeader, Identity, SegmentHeader, Stream};
use super::segments::slot_of;
use crate::bytes::codec::to_u64;
use crate::env::{BLOCK_OCTETS, Env, File as _};
use crate::model::id::Lsn;
use std::io;
use std::path::Path;

/// Octets at the beginning of a segment that tell: its header, and the head of its first batch.
pub const TELLING_OCTETS: usize = 2 * BLOCK_OCTETS;

/// Whose log it is, if the segment in `slot` that begins with `head` is one of a log that something was put
/// into. Segments of the index do not count: an empty log has one.
pub fn used_by(head: &[u8], slot: u32) -> Option<Identity> {
    let (block, behind) = head.split_at_checked(BLOCK_OCTETS)?;
    let identity = SegmentHeader::whose(block, slot)?;
    let header = SegmentHeader::decode(block, &identity, slot)?;
    let seed = identity.seed(header.segment, to_u64(BLOCK_OCTETS));
    let has_batch = BatchHeader::decode(behind, seed).is_some();
    let is_used = has_batch || header.previous_valid > Lsn(0);
    (is_used && header.stream != Stream::Index).then_some(identity)
}

/// The name of a file in `dir` that says that something was put into a log there.
///
/// # Errors
/// Where a file cannot be read.
pub(super) async fn find_used<E: Env>(env: &E, dir: &Path) -> io::Result<Option<String>> {
    for name in env.list(dir).await? {
        let Some(slot) = slot_of(&name) else { continue };
        let file = env.open(&dir.join(&name)).await?;
        let head = if file.len() < to_u64(TELLING_OCTETS) {
            None
        } else {
            Some(file.read_at(0, TELLING_OCTETS).await)
        };
        file.close().await?;
        if let Some(head) = head.transpose()?
            && used_by(&head, slot).is_some()
        {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
