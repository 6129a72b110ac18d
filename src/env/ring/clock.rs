//! The shard's timer wheel: many deadlines, one wake-up per tick, nothing kept after a drop.
//!
//! A connection arms a deadline each time it waits and disarms it when octets come, a million
//! times for each one that is ever reached. So arming must cost nothing: an entry is linked into
//! the slot of its tick and unlinked again. The ticker thread (`pulse.rs`) turns the wheel.
//!
//! ```text
//!   slot 0 .. 1023, each a doubly linked list of entries; tick t lies in slot t mod 1024
//!   an entry that is due in a later turn of the wheel stays until its turn has come
//! ```
//!
//! Promises: an alarm never rings early; it rings within one tick of the wheel plus one period of
//! the ticker; dropping an [`Alarm`] frees its entry at once.

use crate::model::time::Mono;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// What the wheel tells apart.
const TICK: Duration = Duration::from_millis(5);
/// Slots of the wheel: one turn is 5.12 s.
const SLOT_COUNT: usize = 1_024;
/// The end of a list.
const NIL: u32 = u32::MAX;

/// Time since the process first asked, the same on all shards.
#[expect(clippy::disallowed_types, reason = "this is where Env::now comes from")]
pub(super) fn now() -> Mono {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    Mono(START.get_or_init(std::time::Instant::now).elapsed())
}

struct Entry {
    at: Mono,
    /// None: it has rung, or nobody waits.
    waker: Option<Waker>,
    slot: u32,
    previous: u32,
    next: u32,
}

struct Wheel {
    entries: Vec<Entry>,
    /// Entries not in use.
    free: Vec<u32>,
    heads: Vec<u32>,
    /// The last tick that was turned to.
    turned: u64,
}

/// One shard's wheel.
pub(super) struct Clock {
    wheel: RefCell<Wheel>,
}

impl Clock {
    pub(super) fn new() -> Clock {
        Clock {
            wheel: RefCell::new(Wheel {
                entries: Vec::new(),
                free: Vec::new(),
                heads: vec![NIL; SLOT_COUNT],
                turned: tick_before(now()),
            }),
        }
    }

    /// Wakes everybody whose moment has come.
    pub(super) fn turn(&self, now: Mono) {
        // Woken outside the borrow: a waker may run code of its own.
        let due = self.wheel.borrow_mut().turn(now);
        for waker in due {
            waker.wake();
        }
    }

    /// Entries in use, for tests of leaks.
    pub(super) fn armed(&self) -> usize {
        let wheel = self.wheel.borrow();
        wheel.entries.len() - wheel.free.len()
    }
}

impl Wheel {
    fn arm(&mut self, at: Mono, waker: Waker) -> u32 {
        // A moment that the wheel has passed already rings at the next turn.
        let tick = tick_after(at).max(self.turned + 1);
        let slot = slot_of(tick);
        let next = self.heads[slot as usize];
        let entry = Entry { at, waker: Some(waker), slot, previous: NIL, next };
        let key = if let Some(key) = self.free.pop() {
            self.entries[key as usize] = entry;
            key
        } else {
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1).expect("fewer alarms than descriptors")
        };
        if next != NIL {
            self.entries[next as usize].previous = key;
        }
        self.heads[slot as usize] = key;
        key
    }

    fn unlink(&mut self, key: u32) {
        let Entry { slot, previous, next, .. } = self.entries[key as usize];
        if next != NIL {
            self.entries[next as usize].previous = previous;
        }
        if previous == NIL {
            self.heads[slot as usize] = next;
        } else {
            self.entries[previous as usize].next = next;
        }
    }

    /// Frees an entry, whether it has rung or not.
    fn disarm(&mut self, key: u32) -> Option<Waker> {
        let waker = self.entries[key as usize].waker.take();
        if waker.is_some() {
            self.unlink(key);
        }
        self.free.push(key);
        waker
    }

    fn turn(&mut self, now: Mono) -> Vec<Waker> {
        let mut due = Vec::new();
        let last = tick_before(now);
        // After a long stall one full turn sees every entry.
        let first = (self.turned + 1).max(last.saturating_sub(SLOT_COUNT as u64 - 1));
        for tick in first..=last {
            let mut key = self.heads[slot_of(tick) as usize];
            while key != NIL {
                let next = self.entries[key as usize].next;
                if self.entries[key as usize].at <= now {
                    self.unlink(key);
                    due.extend(self.entries[key as usize].waker.take());
                }
                key = next;
            }
        }
        self.turned = self.turned.max(last);
        due
    }
}

/// The last tick at or before `at`.
fn tick_before(at: Mono) -> u64 {
    u64::try_from(at.0.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX / 2)
}

/// The first tick at or after `at`.
fn tick_after(at: Mono) -> u64 {
    u64::try_from(at.0.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX / 2)
}

fn slot_of(tick: u64) -> u32 {
    u32::try_from(tick % SLOT_COUNT as u64).expect("a slot number is small")
}

/// Rings at its moment; costs an entry only while somebody waits for it.
pub(super) struct Alarm {
    clock: Rc<Clock>,
    at: Mono,
    key: u32,
}

impl Alarm {
    pub(super) fn new(clock: &Rc<Clock>, at: Mono) -> Alarm {
        Alarm { clock: Rc::clone(clock), at, key: NIL }
    }

    /// Ready once the moment has come; else the task is woken then.
    pub(super) fn poll_due(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.at == Mono::NEVER {
            return Poll::Pending;
        }
        if now() >= self.at {
            return Poll::Ready(());
        }
        let mut wheel = self.clock.wheel.borrow_mut();
        if self.key != NIL {
            let armed = &mut wheel.entries[self.key as usize];
            match &mut armed.waker {
                Some(waker) if waker.will_wake(context.waker()) => return Poll::Pending,
                Some(waker) => {
                    let old = std::mem::replace(waker, context.waker().clone());
                    drop(wheel);
                    drop(old);
                    return Poll::Pending;
                }
                // It rang although the moment lies ahead: the clock of the wheel is never ahead.
                None => drop(wheel.disarm(self.key)),
            }
        }
        self.key = wheel.arm(self.at, context.waker().clone());
        Poll::Pending
    }
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.poll_due(context)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if self.key != NIL {
            let waker = self.clock.wheel.borrow_mut().disarm(self.key);
            drop(waker);
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

    fn at(millis: u64) -> Mono {
        Mono(Duration::from_millis(millis))
    }

    /// An hour from now, so that no alarm is due by the real clock while a test runs.
    fn ahead(millis: u64) -> Mono {
        Mono(at(3_600_000 + millis).0)
    }

    #[test]
    fn rings_each_alarm_once_at_its_tick_and_never_early() {
        let clock = Rc::new(Clock::new());
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut alarms: Vec<Alarm> = [12, 10_000, 11, 5_130, 12]
            .iter()
            .map(|&millis| Alarm::new(&clock, ahead(millis)))
            .collect();
        for alarm in &mut alarms {
            assert!(alarm.poll_due(&Context::from_waker(&waker)).is_pending());
        }
        let rung = |to: u64| {
            clock.turn(ahead(to));
            count.0.swap(0, Ordering::Relaxed)
        };
        assert_eq!(rung(10), 0);
        assert_eq!(rung(14), 0, "the tick of 11 and 12 is 15");
        assert_eq!(rung(15), 3);
        assert_eq!(rung(5_129), 0);
        assert_eq!(rung(5_130), 1);
        assert_eq!(rung(60_000), 1, "a long stall loses nobody");
        assert_eq!(clock.armed(), 5);
        drop(alarms);
        assert_eq!(clock.armed(), 0);
    }

    /// Whatever is armed, dropped and turned: the same alarms ring as a plain list would say.
    #[test]
    fn agrees_with_a_list() {
        arbtest::arbtest(|u| {
            let clock = Rc::new(Clock::new());
            let mut time = 0_u64;
            let mut model: Vec<(u64, Arc<Count>, Alarm)> = Vec::new();
            for _ in 0..u.int_in_range(0..=60)? {
                match u.int_in_range(0..=2)? {
                    0 => {
                        let due = time + u.int_in_range(1..=12_000)?;
                        let count = Arc::new(Count::default());
                        let waker = Waker::from(Arc::clone(&count));
                        let mut alarm = Alarm::new(&clock, ahead(due));
                        assert!(alarm.poll_due(&Context::from_waker(&waker)).is_pending());
                        model.push((due, count, alarm));
                    }
                    1 if !model.is_empty() => {
                        let index = u.choose_index(model.len())?;
                        drop(model.swap_remove(index));
                    }
                    _ => {
                        time += 5 * u.int_in_range(0..=1_500_u64)?;
                        clock.turn(ahead(time));
                        for (due, count, _) in &model {
                            let want = usize::from(due.div_ceil(5) * 5 <= time);
                            assert_eq!(
                                count.0.load(Ordering::Relaxed),
                                want,
                                "due {due} at {time}"
                            );
                        }
                    }
                }
            }
            assert_eq!(clock.armed(), model.len());
            Ok(())
        });
    }

    #[test]
    fn is_due_at_once_when_the_moment_has_passed() {
        let clock = Rc::new(Clock::new());
        let mut alarm = Alarm::new(&clock, Mono::default());
        assert!(alarm.poll_due(&Context::from_waker(Waker::noop())).is_ready());
        assert_eq!(clock.armed(), 0);
    }
}
