//! `dump`: the log's batches and records in words, for people who look for something.

use super::batch::open_meta;
use super::format::BatchHeader;
use super::log::Log;
use super::segments::SegmentStore;
use crate::bytes::codec::{to_u64, to_usize};
use crate::env::{BLOCK_OCTETS, Env};

impl<E: Env, S: SegmentStore> Log<E, S> {
    /// Hands out a line per segment, batch, record and blob: of the hot stream in order, then of what
    /// survived cleaning.
    pub async fn dump(&self, mut line: impl FnMut(String)) {
        let hot = self.shared.hot.borrow().clone();
        let cold: Vec<_> = self.shared.cold.borrow().iter().collect();
        let applied = self.shared.applied.get();
        let size = self.shared.segments.segment_octets();
        for one in hot {
            line(format!("segment {} in slot {}", one.segment, one.slot));
            let end = if one.segment == applied.segment { applied.offset } else { size };
            self.dump_segment(one.slot, one.segment, end, &mut line).await;
        }
        for (slot, one) in cold {
            line(format!("cold segment {} in slot {slot}", one.segment));
            self.dump_segment(slot, one.segment, one.end, &mut line).await;
        }
    }

    async fn dump_segment(&self, slot: u32, segment: u64, end: u64, line: &mut impl FnMut(String)) {
        let mut at = to_u64(BLOCK_OCTETS);
        while at < end {
            let Some(next) = self.dump_batch(slot, segment, at, line).await else { break };
            at = next;
            self.shared.env.breathe().await;
        }
    }

    /// Where the next batch begins; `None` where there is no batch any more.
    async fn dump_batch(
        &self,
        slot: u32,
        segment: u64,
        at: u64,
        line: &mut impl FnMut(String),
    ) -> Option<u64> {
        let seed = self.shared.identity.seed(segment, at);
        let first = self.shared.segments.read(slot, at, BLOCK_OCTETS).await.ok()?;
        let (header, _) = BatchHeader::decode(&first, seed)?;
        let len = to_usize(u64::from(header.blocks)) * BLOCK_OCTETS;
        let octets = self.shared.segments.read(slot, at, len).await.ok()?;
        line(format!(
            "  batch {} at {at}: {len} octets, epoch {}, durable up to {}, {} records, {} blobs",
            header.lsn, header.epoch, header.durable_upto, header.record_count, header.blob_count
        ));
        let mut meta = match open_meta(&octets, &header, seed) {
            Ok(meta) => meta,
            Err(damaged) => {
                line(format!("    {}", damaged.0));
                return Some(at + to_u64(len));
            }
        };
        for blob in std::mem::take(&mut meta.blobs) {
            line(format!("    blob {} at {}: {} octets", blob.id, blob.offset, blob.octets));
        }
        while let Ok(Some(record)) = meta.next_record() {
            line(format!(
                "    record kind {} version {} account {}: {} octets",
                record.kind,
                record.version,
                record.account,
                record.body.len()
            ));
        }
        Some(at + to_u64(len))
    }
}
