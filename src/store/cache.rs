//! Blobs written or read lately, within a budget of octets.
//!
//! A fresh message is usually read soon, and its octets are in memory already when it is
//! committed: they are kept as they are, without a copy. Eviction is CLOCK: a blob that was read
//! since the hand last passed gets one more round. Of one that was not, the summary stays for
//! another round: listings read nothing else.

use super::blob::BlobView;
use crate::bytes::hash::Map;
use crate::model::id::BlobId;
use std::collections::VecDeque;
use std::rc::Rc;

/// What a summary costs besides its octets: its place here and in the ring.
const PLACE_OCTETS: usize = 96;

enum Held {
    Blob(BlobView),
    Summary(Rc<[u8]>),
}

struct Kept {
    held: Held,
    used: bool,
}

impl Kept {
    fn cost(&self) -> usize {
        match &self.held {
            Held::Blob(view) => view.cost(),
            Held::Summary(summary) => summary.len() + PLACE_OCTETS,
        }
    }
}

/// The cache of one log.
pub(super) struct Cache {
    budget: usize,
    held: usize,
    blobs: Map<BlobId, Kept>,
    /// Every kept blob once; the hand is at the front. Forgotten ones fall out when it passes.
    ring: VecDeque<BlobId>,
    hits: u64,
    misses: u64,
}

impl Cache {
    /// `budget` in octets, the owners' spare capacity counted.
    pub(super) fn new(budget: usize) -> Cache {
        Cache { budget, held: 0, blobs: Map::default(), ring: VecDeque::new(), hits: 0, misses: 0 }
    }

    pub(super) fn hits(&self) -> u64 {
        self.hits
    }

    pub(super) fn misses(&self) -> u64 {
        self.misses
    }

    /// Octets held.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    pub(super) fn get(&mut self, id: BlobId) -> Option<BlobView> {
        if let Some(Kept { held: Held::Blob(view), used }) = self.blobs.get_mut(&id) {
            *used = true;
            self.hits += 1;
            return Some(view.clone());
        }
        self.misses += 1;
        None
    }

    pub(super) fn summary(&mut self, id: BlobId) -> Option<Rc<[u8]>> {
        let kept = self.blobs.get_mut(&id)?;
        // Most are marked already, and a line that is only read need not be written back.
        if !kept.used {
            kept.used = true;
        }
        Some(match &kept.held {
            Held::Blob(view) => view.shared_summary(),
            Held::Summary(summary) => Rc::clone(summary),
        })
    }

    /// Keeps a blob, unless it alone is larger than a quarter of the budget.
    pub(super) fn put(&mut self, id: BlobId, view: BlobView) {
        if view.cost() > self.budget / 4 {
            let summary = view.shared_summary();
            return self.put_summary(id, &summary);
        }
        if matches!(self.blobs.get(&id), Some(Kept { held: Held::Blob(_), .. })) {
            return;
        }
        self.keep(id, Held::Blob(view));
    }

    /// Keeps a summary, unless the whole blob is there.
    pub(super) fn put_summary(&mut self, id: BlobId, summary: &Rc<[u8]>) {
        if summary.len() <= self.budget / 4 && !self.blobs.contains_key(&id) {
            self.keep(id, Held::Summary(Rc::clone(summary)));
        }
    }

    fn keep(&mut self, id: BlobId, held: Held) {
        let kept = Kept { held, used: false };
        self.held += kept.cost();
        match self.blobs.insert(id, kept) {
            Some(before) => self.held -= before.cost(),
            None => self.ring.push_back(id),
        }
        if self.ring.len() > 2 * self.blobs.len() + 64 {
            let blobs = &self.blobs;
            self.ring.retain(|id| blobs.contains_key(id));
        }
        while self.held > self.budget {
            let Some(oldest) = self.ring.pop_front() else { break };
            let Some(kept) = self.blobs.get_mut(&oldest) else { continue };
            if kept.used {
                kept.used = false;
                self.ring.push_back(oldest);
            } else if let Held::Blob(view) = &kept.held {
                let summary = Held::Summary(view.shared_summary());
                self.held -= kept.cost();
                kept.held = summary;
                self.held += kept.cost();
                self.ring.push_back(oldest);
            } else {
                self.forget(oldest);
            }
        }
    }

    /// The blob is gone.
    pub(super) fn forget(&mut self, id: BlobId) {
        if let Some(kept) = self.blobs.remove(&id) {
            self.held -= kept.cost();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(octets: usize) -> BlobView {
        BlobView::new(Rc::new(vec![0_u8; octets]), Rc::from([].as_slice()), 0..octets, octets)
    }

    #[test]
    fn keeps_within_its_budget_and_spares_what_is_read() {
        let mut cache = Cache::new(1_000);
        for id in 1..=4 {
            cache.put(BlobId(id), view(200));
        }
        assert!(cache.get(BlobId(1)).is_some());
        for id in 5..=6 {
            cache.put(BlobId(id), view(200));
        }
        assert!(cache.held() <= 1_000);
        assert!(cache.get(BlobId(1)).is_some(), "read, so it had another round");
        assert!(cache.get(BlobId(2)).is_none(), "the oldest that nobody read");
        assert!(cache.summary(BlobId(2)).is_some(), "what listings need of it stays");
        cache.put(BlobId(9), view(400));
        assert!(cache.get(BlobId(9)).is_none(), "one blob never empties the cache");
        cache.forget(BlobId(1));
        assert!(cache.held() <= 800);
    }
}
