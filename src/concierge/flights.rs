//! Work that many may want at once, and that is done once for all of them.
//!
//! ```text
//!   join(key) ── somebody does it already? ── wait with the others for the same answer
//!          └──── no: do it                        └ who does it gives up: the next one begins anew
//! ```
//! Nothing is kept of an answer once all who waited have it.

use crate::bytes::hash::Sorted;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use tokio::sync::OnceCell;

type Cells<K, T> = Sorted<K, Arc<OnceCell<T>>>;

/// What is under way; clones are the same one.
pub struct Flights<K, T>(Arc<RwLock<Cells<K, T>>>);

impl<K, T> Clone for Flights<K, T> {
    fn clone(&self) -> Self {
        Flights(Arc::clone(&self.0))
    }
}

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Flights(Arc::default())
    }
}

impl<K: Ord + Clone, T: Clone> Flights<K, T> {
    /// What `work` comes to, or the work that somebody does for the same key. From any executor; may be
    /// dropped at any time. There are no more keys than there are callers.
    pub async fn join<F: Future<Output = T>>(&self, key: &K, work: impl FnOnce() -> F) -> T {
        let cell = Arc::clone(self.cells().entry(key.clone()).or_default());
        let waiting = Waiting { flights: self, key, cell };
        waiting.cell.get_or_init(work).await.clone()
    }

    fn cells(&self) -> RwLockWriteGuard<'_, Cells<K, T>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits; the last of them takes the flight off the list.
struct Waiting<'a, K: Ord + Clone, T: Clone> {
    flights: &'a Flights<K, T>,
    key: &'a K,
    cell: Arc<OnceCell<T>>,
}

impl<K: Ord + Clone, T: Clone> Drop for Waiting<'_, K, T> {
    fn drop(&mut self) {
        // It is let go of while nobody else can: of two who go at once one is the last.
        let mut cells = self.flights.cells();
        let cell = std::mem::take(&mut self.cell);
        // An answer that is there is for those who waited: who comes from now on has it done anew.
        let is_over = cell.initialized() || Arc::strong_count(&cell) <= 2;
        if is_over && cells.get(self.key).is_some_and(|other| Arc::ptr_eq(other, &cell)) {
            cells.remove(self.key);
        }
        drop(cell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, pending, poll_once, yield_now, zip};
    use std::cell::Cell;

    #[test]
    fn is_done_once_for_all_who_wait_and_anew_for_who_comes_later() {
        let flights: Flights<&str, u32> = Flights::default();
        let count = Cell::new(0);
        let work = || async {
            yield_now().await;
            count.set(count.get() + 1);
            count.get()
        };
        let (one, other) = block_on(zip(flights.join(&"a", work), flights.join(&"a", work)));
        assert_eq!((one, other, count.get()), (1, 1, 1));
        assert_eq!(block_on(flights.join(&"a", work)), 2);
        assert_eq!(block_on(zip(flights.join(&"a", work), flights.join(&"b", work))), (3, 4));
        assert!(flights.cells().is_empty());
    }

    #[test]
    fn goes_on_where_who_did_it_gives_up() {
        let flights: Flights<&str, u32> = Flights::default();
        let mut first = Box::pin(flights.join(&"a", pending));
        assert_eq!(block_on(poll_once(&mut first)), None);
        let mut second = Box::pin(flights.join(&"a", || async { 2 }));
        assert_eq!(block_on(poll_once(&mut second)), None);
        drop(first);
        assert_eq!(block_on(second), 2);
        assert!(flights.cells().is_empty());
    }
}
