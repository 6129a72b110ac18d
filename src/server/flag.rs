//! A flag that is set once and seen by all who wait for it.
//!
//! Every idle session waits for the end of the server; one that ends takes its place back, so that
//! the flag holds as many places as sessions were open at once, and no task that is gone.

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
pub struct Flag {
    set: Cell<bool>,
    places: RefCell<Places>,
}

impl Flag {
    pub fn set(&self) {
        self.set.set(true);
        let wakers: Vec<Waker> =
            self.places.borrow_mut().wakers.iter_mut().filter_map(Option::take).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    pub fn is_set(&self) -> bool {
        self.set.get()
    }

    /// Comes back once the flag is set. May be dropped.
    pub fn wait(&self) -> Waiting<'_> {
        Waiting { flag: self, place: None }
    }
}

/// See [`Flag::wait`].
#[derive(Debug)]
pub struct Waiting<'f> {
    flag: &'f Flag,
    place: Option<usize>,
}

impl Future for Waiting<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.flag.is_set() {
            return Poll::Ready(());
        }
        let mut places = self.flag.places.borrow_mut();
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
            let mut places = self.flag.places.borrow_mut();
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
        let flag = Flag::default();
        let mut waiting = flag.wait();
        for _ in 0..3 {
            assert!(Pin::new(&mut waiting).poll(&mut Context::from_waker(&first)).is_pending());
            let mut gone = flag.wait();
            assert!(Pin::new(&mut gone).poll(&mut Context::from_waker(&second)).is_pending());
        }
        flag.set();
        let counts = [&stays, &goes].map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(counts, [1, 0]);
        assert!(Pin::new(&mut waiting).poll(&mut Context::from_waker(&first)).is_ready());
    }

    #[test]
    fn keeps_no_more_places_than_waited_at_once() {
        let flag = Flag::default();
        let waker = Waker::from(Arc::new(Count::default()));
        for _ in 0..100 {
            let (mut a, mut b) = (flag.wait(), flag.wait());
            for waiting in [&mut a, &mut b] {
                assert!(Pin::new(waiting).poll(&mut Context::from_waker(&waker)).is_pending());
            }
        }
        assert_eq!(flag.places.borrow().wakers.len(), 2);
        assert!(flag.places.borrow().wakers.iter().all(Option::is_none));
    }
}
