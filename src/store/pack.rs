//! Packing: a message as one zstd frame, so that mail that stays takes less room (0034).
//!
//! ```text
//! plain    header | summary | message
//! packed   header | summary | check u64 | zstd frame of the message
//! ```
//!
//! The summary stays as it is, since listings read nothing else. The check in front of the frame is
//! the one that the header of the plain blob had: what comes out of a frame is held against it, so that
//! no octet is served that is not the one that came. The header's own check is, as in a plain blob, over
//! the summary and what is stored: it tells damage without unpacking, and before a decoder sees it.
//!
//! Long messages are worked on in steps of some hundred microseconds, with a breath between them.

use super::Damaged;
use super::format::{BLOB_HEADER_OCTETS, BlobHeader, Identity};
use super::table::BLOB_OCTETS_MAX;
use crate::bytes::codec::{Put, to_u64, to_usize};
use crate::env::Env;
use crate::model::id::BlobId;
use xxhash_rust::xxh3::xxh3_64_with_seed;
use zstd_safe::zstd_sys::ZSTD_EndDirective::{ZSTD_e_continue, ZSTD_e_end};
use zstd_safe::{
    CCtx, CParameter, DCtx, InBuffer, OutBuffer, ResetDirective, get_frame_content_size,
};

/// The codec of a blob that is stored as it is.
pub(super) const PLAIN: u8 = 0;
/// The codec of a packed one.
pub(super) const ZSTD: u8 = 1;

/// The level that takes least time for what it wins (store.md 3.9).
const LEVEL: i32 = 3;
/// What a message has to shrink to at least, in percent, to be packed.
const SHRUNK_PERCENT_MAX: usize = 95;
/// Octets of the check in front of a frame.
const CHECK_OCTETS: usize = 8;
/// More octets of a message for each of its frame are rare: no room is made for them beforehand.
const RATIO_USUAL_MAX: usize = 32;
/// Octets of a message that are packed, or unpacked, without a break.
const STEP_OCTETS: usize = 128 << 10;

/// Octets behind the header of a blob.
pub(super) fn content_octets(header: &BlobHeader) -> usize {
    to_usize(u64::from(header.summary_octets)).saturating_add(to_usize(header.stored_octets))
}

/// Octets of the blob with its header, as it lies on the disk.
pub(super) fn blob_octets(header: &BlobHeader) -> usize {
    BLOB_HEADER_OCTETS.saturating_add(content_octets(header))
}

/// Octets of the message that a frame says it holds; `None` where there is none.
pub(super) fn message_octets(stored: &[u8]) -> Option<u64> {
    get_frame_content_size(stored.get(CHECK_OCTETS..)?).ok().flatten()
}

/// Packs messages, one after the other.
pub(super) struct Packer {
    context: CCtx<'static>,
}

impl Packer {
    /// `None` where there is no memory for it.
    pub(super) fn new() -> Option<Packer> {
        let mut context = CCtx::try_create()?;
        context.set_parameter(CParameter::CompressionLevel(LEVEL)).ok()?;
        Some(Packer { context })
    }

    /// A plain blob that was checked as a packed one: its header, and what follows it. `None` where that is
    /// not worth it, or what comes out again is not what went in.
    pub(super) async fn pack<E: Env>(
        &mut self,
        env: &E,
        header: &BlobHeader,
        content: &[u8],
        identity: &Identity,
    ) -> Option<(BlobHeader, Vec<u8>)> {
        let (summary, message) = content.split_at(to_usize(u64::from(header.summary_octets)));
        let most = message.len() / 100 * SHRUNK_PERCENT_MAX;
        // Blobs begin at multiples of this: less would win nothing.
        let most = most.min(message.len().saturating_sub(BLOB_HEADER_OCTETS));
        if most <= CHECK_OCTETS {
            return None;
        }
        let mut out = Vec::with_capacity(summary.len() + most);
        out.extend_from_slice(summary);
        out.put_u64(header.check);
        self.compress(env, message, &mut out).await?;
        let stored = out.len() - summary.len();
        if stored > most {
            return None;
        }
        let seed = identity.blob_seed(header.id);
        let packed = BlobHeader {
            codec: ZSTD,
            stored_octets: to_u64(stored),
            check: xxh3_64_with_seed(&out, seed),
            summary_check: super::format::summary_check(summary, seed),
            ..*header
        };
        let back = unpack(env, &packed, &out, identity).await;
        back.is_ok_and(|back| back == content).then_some((packed, out))
    }

    /// Appends the frame to `out`, within its capacity; `None` where it does not fit.
    async fn compress<E: Env>(&mut self, env: &E, message: &[u8], out: &mut Vec<u8>) -> Option<()> {
        self.context.reset(ResetDirective::SessionOnly).ok()?;
        self.context.set_pledged_src_size(Some(to_u64(message.len()))).ok()?;
        let steps = message.len().div_ceil(STEP_OCTETS);
        for (number, step) in message.chunks(STEP_OCTETS).enumerate() {
            let is_last = number + 1 == steps;
            let end = if is_last { ZSTD_e_end } else { ZSTD_e_continue };
            let mut input = InBuffer::around(step);
            loop {
                let at = out.len();
                let mut output = OutBuffer::around_pos(out, at);
                let left = self.context.compress_stream2(&mut output, &mut input, end).ok()?;
                let is_full = output.pos() == output.capacity();
                let is_taken = input.pos() == step.len();
                if is_taken && (left == 0 || !is_last) {
                    break;
                }
                if is_full {
                    return None;
                }
            }
            env.breathe().await;
        }
        Some(())
    }
}

/// A packed blob on its way back, step by step.
pub(super) struct Unpacking<'o> {
    id: BlobId,
    /// Of the plain blob.
    check: u64,
    context: DCtx<'static>,
    frame: InBuffer<'o>,
    frame_octets: usize,
    /// What one step may bring.
    step: Vec<u8>,
    out: Vec<u8>,
    whole: usize,
}

fn broken(id: BlobId, what: &str) -> Damaged {
    Damaged(format!("blob {id}: {what}"))
}

impl<'o> Unpacking<'o> {
    /// Begins with what lies behind the header of a packed blob, and passed the header's check.
    pub(super) fn begin(header: &BlobHeader, content: &'o [u8]) -> Result<Self, Damaged> {
        let id = header.id;
        let no_frame = || broken(id, "there is no frame in it");
        let summary = to_usize(u64::from(header.summary_octets));
        let (summary, stored) = content.split_at_checked(summary).ok_or_else(no_frame)?;
        let (check, frame) = stored.split_first_chunk().ok_or_else(no_frame)?;
        let octets = message_octets(stored).filter(|&octets| octets == header.octets);
        let octets = to_usize(octets.ok_or_else(|| broken(id, "its frame is of another length"))?);
        if octets > BLOB_OCTETS_MAX {
            return Err(broken(id, "it is longer than a blob can be"));
        }
        let context = DCtx::try_create().ok_or_else(|| broken(id, "no memory to unpack it"))?;
        let whole = summary.len() + octets;
        let mut out = Vec::with_capacity(whole.min(frame.len() * RATIO_USUAL_MAX + STEP_OCTETS));
        out.extend_from_slice(summary);
        Ok(Unpacking {
            id,
            check: u64::from_le_bytes(*check),
            context,
            frame: InBuffer::around(frame),
            frame_octets: frame.len(),
            step: vec![0; octets.clamp(1, STEP_OCTETS)],
            out,
            whole,
        })
    }

    /// Unpacks some more; whether that was all.
    pub(super) fn step(&mut self) -> Result<bool, Damaged> {
        let before = self.frame.pos();
        let mut output = OutBuffer::around(self.step.as_mut_slice());
        let left = self.context.decompress_stream(&mut output, &mut self.frame);
        let came = output.pos();
        let left = left.map_err(|_| broken(self.id, "its frame is damaged"))?;
        if self.out.len() + came > self.whole {
            return Err(broken(self.id, "its frame is longer than it says"));
        }
        self.out.extend_from_slice(&self.step[..came]);
        if left > 0 && came == 0 && self.frame.pos() == before {
            return Err(broken(self.id, "its frame is cut off"));
        }
        Ok(left == 0)
    }

    /// What the plain blob has behind its header, held against the check that it had.
    pub(super) fn end(self, identity: &Identity) -> Result<Vec<u8>, Damaged> {
        let is_whole = self.out.len() == self.whole && self.frame.pos() == self.frame_octets;
        if !is_whole || xxh3_64_with_seed(&self.out, identity.blob_seed(self.id)) != self.check {
            return Err(broken(self.id, "what it unpacks to is not what was packed"));
        }
        Ok(self.out)
    }
}

/// Summary and message of a packed blob, out of what lies behind its header.
pub(super) async fn unpack<E: Env>(
    env: &E,
    header: &BlobHeader,
    content: &[u8],
    identity: &Identity,
) -> Result<Vec<u8>, Damaged> {
    let mut unpacking = Unpacking::begin(header, content)?;
    loop {
        let is_over = unpacking.step()?;
        // Behind the last one, too: most messages are one step, and many may follow each other.
        env.breathe().await;
        if is_over {
            return unpacking.end(identity);
        }
    }
}

/// The same for those who have a thread of their own.
pub(super) fn unpack_at_once(
    header: &BlobHeader,
    content: &[u8],
    identity: &Identity,
) -> Result<Vec<u8>, Damaged> {
    let mut unpacking = Unpacking::begin(header, content)?;
    while !unpacking.step()? {}
    unpacking.end(identity)
}

/// The header that the plain blob had: `content` is what was unpacked.
pub(super) fn plain_header(header: &BlobHeader, content: &[u8], identity: &Identity) -> BlobHeader {
    BlobHeader {
        codec: PLAIN,
        stored_octets: header.octets,
        check: xxh3_64_with_seed(content, identity.blob_seed(header.id)),
        ..*header
    }
}
