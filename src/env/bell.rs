//! A bell: rung again and again, heard by all who wait for the next time.
//!
//! Who waits has a place; one that ends takes its place back, so that the bell holds as many places
//! as waited at once, and no task that is gone.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The wakers of those who wait, at places that stay theirs until they go.
#[derive(Debug, Default)]
struct Places {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

/// See the header.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Cell<u64>,
    places: RefCell<Places>,
}

impl Bell {
    pub fn ring(&self) {
        self.rung.set(self.rung.get() + 1);
        let wakers: Vec<Waker> =
            self.places.borrow_mut().wakers.iter_mut().filter_map(Option::take).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// How often it was rung.
    pub fn rung(&self) -> u64 {
        self.rung.get()
    }

    /// Comes back once it was rung more than `heard` times. May be dropped.
    pub fn past(&self, heard: u64) -> Waiting<'_> {
        Waiting { bell: self, heard, place: None }
    }
}

/// See [`Bell::past`].
#[derive(Debug)]
pub struct Waiting<'b> {
    bell: &'b Bell,
    heard: u64,
    place: Option<usize>,
}

impl Future for Waiting<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.bell.rung() > self.heard {
            return Poll::Ready(());
        }
        let mut places = self.bell.places.borrow_mut();
        let place = self.place.or_else(|| places.free.pop()).unwrap_or_else(|| {
            places.wakers.push(None);
            places.wakers.len() - 1
        });
        match &mut places.wakers[place] {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        drop(places);
        self.place = Some(place);
        Poll::Pending
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let mut places = self.bell.places.borrow_mut();
            places.wakers[place] = None;
            places.free.push(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn wakes_all_who_wait_and_nobody_who_went() {
        let (stays, goes) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let (first, second) = (Waker::from(Arc::clone(&stays)), Waker::from(Arc::clone(&goes)));
        let bell = Bell::default();
        let mut waiting = bell.past(0);
        for _ in 0..3 {
            assert!(Pin::new(&mut waiting).poll(&mut Context::from_waker(&first)).is_pending());
            let mut gone = bell.past(0);
            assert!(Pin::new(&mut gone).poll(&mut Context::from_waker(&second)).is_pending());
        }
        bell.ring();
        let counts = [&stays, &goes].map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(counts, [1, 0]);
        assert!(Pin::new(&mut waiting).poll(&mut Context::from_waker(&first)).is_ready());
    }

    #[test]
    fn keeps_no_more_places_than_waited_at_once() {
        let bell = Bell::default();
        let waker = Waker::from(Arc::new(Count::default()));
        for _ in 0..100 {
            let (mut a, mut b) = (bell.past(0), bell.past(0));
            for waiting in [&mut a, &mut b] {
                assert!(Pin::new(waiting).poll(&mut Context::from_waker(&waker)).is_pending());
            }
        }
        assert_eq!(bell.places.borrow().wakers.len(), 2);
        assert!(bell.places.borrow().wakers.iter().all(Option::is_none));
    }
}
