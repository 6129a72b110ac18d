//! Whose turn it is: among the destinations that have mail, and among the mail of one destination.
//!
//! Nothing here is durable; after a start it is made anew of the entries that are due.
//!
//! ```text
//!   an entry is due ──> its lane ──────────> a worker takes the next one, again and again
//!                        by priority, then        └─ a lane gets one more worker whenever it has
//!                        sender after sender         mail for it and the server has a place
//! ```
//!
//! Within a lane the senders take turns: one with a million messages is one sender. Among lanes the
//! first that waits for a worker gets it. A lane rests while its destination cannot be reached; its
//! entries stay where they are meanwhile, and none of them costs an attempt.

use super::outgoing::QueueId;
use crate::bytes::hash::{Map, Sorted};
use crate::bytes::runs::Runs;
use crate::env::bell::Bell;
use crate::model::time::Mono;
use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use xxhash_rust::xxh3::xxh3_64;

/// The order of a lane: higher priority first, then by turns, then as they came.
type Place = (Reverse<i8>, u64, QueueId);

/// An entry, its number's upper half first, and a hash of its sender.
type Sender = (u32, u32, u32);

fn sender_of(queue: QueueId, hash: u32) -> Sender {
    let halves = [queue.0 >> 32, queue.0 & u64::from(u32::MAX)];
    let [upper, lower] = halves.map(|half| u32::try_from(half).expect("32 bits are left"));
    (upper, lower, hash)
}

#[derive(Default)]
struct Lane {
    ready: Runs<Place>,
    /// The turn of each sender's last message that waits; senders without mail are forgotten.
    turns: Map<u32, (u64, usize)>,
    senders: Runs<Sender>,
    /// The turn of the message that was taken last.
    turn: u64,
    workers: usize,
    /// Workers that have not taken an entry yet, or wait for one.
    hungry: usize,
    /// Rung when a worker that waits may find an entry.
    bell: Rc<Bell>,
    /// In the list of those that wait for a worker.
    is_waiting: bool,
    rests_until: Option<Mono>,
    /// An operator wants it to be tried now, whatever is known of its servers.
    is_urged: bool,
    /// The group of servers that its last worker went to.
    site: Option<Box<str>>,
}

impl Lane {
    /// The sender of an entry that waits.
    fn sender(&self, queue: QueueId) -> Option<Sender> {
        let least = sender_of(queue, 0);
        let found = self.senders.at_least(least).next()?;
        ((found.0, found.1) == (least.0, least.1)).then_some(found)
    }
}

/// A worker of a lane; goes back by [`Schedule::end`].
#[derive(Debug)]
#[must_use = "a worker has to be ended"]
pub struct Worker {
    domain: Rc<str>,
    is_hungry: bool,
    /// Its lane was to be tried now, whatever is known of its servers.
    pub is_urged: bool,
}

impl Worker {
    pub fn domain(&self) -> &Rc<str> {
        &self.domain
    }
}

/// The mail of one shard that is due.
#[derive(Default)]
pub struct Schedule {
    lanes: Sorted<Rc<str>, Lane>,
    /// Lanes that want one more worker, in the order in which they came to want it.
    wanting: VecDeque<Rc<str>>,
    resting: BTreeSet<(Mono, Rc<str>)>,
    workers: usize,
    ready: usize,
}

impl Schedule {
    /// An entry is due; it is not in the lane yet.
    pub fn push(&mut self, domain: &Rc<str>, queue: QueueId, priority: i8, sender: &str) {
        let lane = self.lanes.entry(Rc::clone(domain)).or_default();
        if lane.sender(queue).is_some() {
            return;
        }
        let sender = u32::try_from(xxh3_64(sender.as_bytes()) >> 32).expect("32 bits are left");
        lane.senders.insert(sender_of(queue, sender));
        let (last, waiting) = lane.turns.entry(sender).or_insert((0, 0));
        *last = (*last).max(lane.turn) + 1;
        *waiting += 1;
        lane.ready.insert((Reverse(priority), *last, queue));
        if lane.hungry > 0 {
            lane.bell.ring();
        }
        self.ready += 1;
        self.want(domain);
    }

    /// Puts a lane that has work for one more worker into the list.
    fn want(&mut self, domain: &Rc<str>) {
        let Some(lane) = self.lanes.get_mut(domain) else { return };
        let has_work = lane.ready.len() > lane.hungry;
        if has_work && !lane.is_waiting && lane.rests_until.is_none() {
            lane.is_waiting = true;
            self.wanting.push_back(Rc::clone(domain));
        }
    }

    /// Lanes that have rested want a worker again, whether or not there is a place for one.
    pub fn wake_rested(&mut self, now: Mono) {
        while let Some((until, domain)) = self.resting.first().cloned()
            && until <= now
        {
            self.wake(&domain);
        }
    }

    /// The next lane that is to have one more worker; counts him as begun. `is_tight`: places are getting
    /// few, and no lane gets a second one, so that slow lanes leave some to others.
    pub fn begin(&mut self, now: Mono, is_tight: bool) -> Option<Worker> {
        self.wake_rested(now);
        while let Some(domain) = self.wanting.pop_front() {
            let Some(lane) = self.lanes.get_mut(&domain) else { continue };
            lane.is_waiting = false;
            let has_one = is_tight && lane.workers > 0;
            if has_one || lane.ready.len() <= lane.hungry || lane.rests_until.is_some() {
                continue;
            }
            lane.workers += 1;
            lane.hungry += 1;
            let is_urged = std::mem::take(&mut lane.is_urged);
            self.workers += 1;
            // Behind the others, if it wants another one.
            self.want(&domain);
            return Some(Worker { domain, is_hungry: true, is_urged });
        }
        None
    }

    /// The entry that goes next; it is out of the lane. None: the worker waits for one, or ends.
    pub fn take(&mut self, worker: &mut Worker) -> Option<QueueId> {
        let lane = self.lanes.get_mut(&worker.domain)?;
        let Some((_, turn, queue)) = lane.ready.pop_first() else {
            self.has_ready(worker);
            return None;
        };
        lane.hungry -= usize::from(worker.is_hungry);
        worker.is_hungry = false;
        self.ready -= 1;
        let domain = Rc::clone(&worker.domain);
        lane.turn = lane.turn.max(turn);
        let sender = lane.sender(queue)?;
        lane.senders.remove(sender);
        if let Some((_, waiting)) = lane.turns.get_mut(&sender.2) {
            *waiting -= 1;
            if *waiting == 0 {
                lane.turns.remove(&sender.2);
            }
        }
        self.want(&domain);
        Some(queue)
    }

    /// Whether a worker would find an entry; where he would not he waits for one from here on.
    pub fn has_ready(&mut self, worker: &mut Worker) -> bool {
        let Some(lane) = self.lanes.get_mut(&worker.domain) else { return false };
        let is_empty = lane.ready.is_empty();
        if is_empty && !worker.is_hungry {
            worker.is_hungry = true;
            lane.hungry += 1;
        }
        !is_empty
    }

    /// What is rung when a worker that found nothing may find something.
    pub fn bell(&self, worker: &Worker) -> Rc<Bell> {
        self.lanes.get(&worker.domain).map(|lane| Rc::clone(&lane.bell)).unwrap_or_default()
    }

    /// Whether other lanes wait for a worker.
    pub fn is_wanted(&self) -> bool {
        !self.wanting.is_empty()
    }

    /// Calls all workers that wait.
    pub fn call(&self) {
        self.lanes.values().filter(|lane| lane.hungry > 0).for_each(|lane| lane.bell.ring());
    }

    /// A worker has ended.
    pub fn end(&mut self, worker: Worker) {
        let Worker { domain, is_hungry, .. } = worker;
        self.workers -= 1;
        if let Some(lane) = self.lanes.get_mut(&domain) {
            lane.workers -= 1;
            lane.hungry -= usize::from(is_hungry);
        }
        self.want(&domain);
        self.tidy(&domain);
    }

    /// No worker begins in this lane before `until`.
    pub fn rest(&mut self, domain: &Rc<str>, until: Mono) {
        let lane = self.lanes.entry(Rc::clone(domain)).or_default();
        if let Some(before) = lane.rests_until.replace(until) {
            self.resting.remove(&(before, Rc::clone(domain)));
        }
        self.resting.insert((until, Rc::clone(domain)));
    }

    /// A lane rests no longer. Whether it has mail that waits.
    pub fn wake(&mut self, domain: &Rc<str>) -> bool {
        if let Some(lane) = self.lanes.get_mut(domain)
            && let Some(until) = lane.rests_until.take()
        {
            self.resting.remove(&(until, Rc::clone(domain)));
        }
        self.want(domain);
        self.tidy(domain);
        self.lanes.get(domain).is_some_and(|lane| !lane.ready.is_empty())
    }

    /// Its next worker tries it whatever is known of its servers, and begins as soon as there is mail.
    pub fn urge(&mut self, domain: &Rc<str>) {
        self.wake(domain);
        self.lanes.entry(Rc::clone(domain)).or_default().is_urged = true;
    }

    /// Notes which servers a lane's mail goes to, for operators.
    pub fn set_site(&mut self, domain: &str, site: &str) {
        if let Some(lane) = self.lanes.get_mut(domain)
            && lane.site.as_deref() != Some(site)
        {
            lane.site = Some(site.into());
        }
    }

    /// Which servers a lane's mail went to last, while there is something to do for it.
    pub fn site_of(&self, domain: &str) -> Option<&str> {
        self.lanes.get(domain)?.site.as_deref()
    }

    /// Entries that wait in one lane.
    pub fn ready_of(&self, domain: &str) -> usize {
        self.lanes.get(domain).map_or(0, |lane| lane.ready.len())
    }

    /// Until when a lane rests, if it does.
    pub fn rests_until(&self, domain: &str) -> Option<Mono> {
        self.lanes.get(domain)?.rests_until
    }

    /// When the next lane has rested.
    pub fn next_wake(&self) -> Option<Mono> {
        self.resting.first().map(|(until, _)| *until)
    }

    /// Takes all that waits out of its lanes: it will be pushed anew.
    pub fn clear(&mut self) {
        self.ready = 0;
        for lane in self.lanes.values_mut() {
            lane.ready.clear();
            lane.turns.clear();
            lane.senders.clear();
        }
        self.lanes.retain(|_, lane| lane.workers > 0 || lane.rests_until.is_some());
    }

    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Workers of one lane.
    pub fn workers_of(&self, domain: &str) -> usize {
        self.lanes.get(domain).map_or(0, |lane| lane.workers)
    }

    /// Entries that wait in lanes.
    pub fn ready(&self) -> usize {
        self.ready
    }

    fn tidy(&mut self, domain: &Rc<str>) {
        let is_idle =
            |lane: &Lane| lane.ready.is_empty() && lane.workers == 0 && lane.rests_until.is_none();
        if self.lanes.get(domain).is_some_and(is_idle) {
            self.lanes.remove(domain);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn lane(name: &str) -> Rc<str> {
        name.into()
    }

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    /// Everything that waits, by one worker who stays.
    fn taken(schedule: &mut Schedule) -> Vec<u64> {
        let Some(mut worker) = schedule.begin(at(0), false) else { return Vec::new() };
        let taken = std::iter::from_fn(|| schedule.take(&mut worker)).map(|one| one.0).collect();
        schedule.end(worker);
        taken
    }

    #[test]
    fn lets_senders_take_turns_and_the_urgent_go_first() {
        let mut schedule = Schedule::default();
        let a = lane("a.example");
        for queue in 1..=5 {
            schedule.push(&a, QueueId(queue), 0, "bulk@s.example");
        }
        schedule.push(&a, QueueId(6), 0, "one@s.example");
        schedule.push(&a, QueueId(7), 3, "urgent@s.example");
        schedule.push(&a, QueueId(8), -3, "late@s.example");
        assert_eq!(taken(&mut schedule), [7, 1, 6, 2, 3, 4, 5, 8]);
        // Who comes later does not come before those who wait, nor behind all of a bulk.
        for queue in 11..=15 {
            schedule.push(&a, QueueId(queue), 0, "bulk@s.example");
        }
        let mut worker = schedule.begin(at(0), false).unwrap();
        assert_eq!(schedule.take(&mut worker), Some(QueueId(11)));
        schedule.push(&a, QueueId(16), 0, "one@s.example");
        schedule.end(worker);
        assert_eq!(taken(&mut schedule), [12, 16, 13, 14, 15]);
        assert_eq!((schedule.ready(), schedule.lanes.len()), (0, 0));
    }

    #[test]
    fn gives_lanes_their_workers_in_turn() {
        let mut schedule = Schedule::default();
        let (a, b) = (lane("a.example"), lane("b.example"));
        for queue in 1..=3 {
            schedule.push(&a, QueueId(queue), 0, "s");
        }
        schedule.push(&b, QueueId(4), 0, "s");
        let mut begun: Vec<_> = std::iter::from_fn(|| schedule.begin(at(0), false)).collect();
        // As many as there is mail, but never two of one lane while another waits.
        let names: Vec<_> = begun.iter().map(|worker| &**worker.domain()).collect();
        assert_eq!(names, ["a.example", "b.example", "a.example", "a.example"]);
        assert_eq!((schedule.workers(), schedule.workers_of("a.example")), (4, 3));
        // They are busy: one more message wants one more of them, two hungry ones do not.
        assert!(begun.iter_mut().all(|worker| schedule.take(worker).is_some()));
        schedule.push(&b, QueueId(5), 0, "s");
        begun.extend(schedule.begin(at(0), false));
        assert_eq!(schedule.workers_of("b.example"), 2);
        assert_eq!(schedule.take(&mut begun[0]), None);
        let bell = schedule.bell(&begun[0]);
        schedule.push(&a, QueueId(6), 0, "s");
        assert!(bell.rung() == 1 && schedule.begin(at(0), false).is_none());
        for mut worker in begun {
            while schedule.take(&mut worker).is_some() {}
            schedule.end(worker);
        }
        assert_eq!((schedule.workers(), schedule.lanes.len()), (0, 0));
    }

    #[test]
    fn leaves_places_to_lanes_without_a_worker_when_few_are_left() {
        let mut schedule = Schedule::default();
        let (a, b) = (lane("a.example"), lane("b.example"));
        for queue in 1..=9 {
            schedule.push(&a, QueueId(queue), 0, "s");
        }
        let mut first = schedule.begin(at(0), true).unwrap();
        assert!(schedule.begin(at(0), true).is_none());
        schedule.push(&b, QueueId(10), 0, "s");
        let second = schedule.begin(at(0), true).unwrap();
        assert_eq!(&**second.domain(), "b.example");
        // The lane asks again with each message that it takes.
        assert!(schedule.take(&mut first).is_some());
        let third = schedule.begin(at(0), false).unwrap();
        assert_eq!(&**third.domain(), "a.example");
        for worker in [first, second, third] {
            schedule.end(worker);
        }
    }

    #[test]
    fn lets_a_lane_rest() {
        let mut schedule = Schedule::default();
        let a = lane("a.example");
        schedule.push(&a, QueueId(1), 0, "s");
        let worker = schedule.begin(at(0), false).unwrap();
        schedule.push(&a, QueueId(2), 0, "s");
        schedule.rest(&a, at(10));
        schedule.rest(&a, at(5));
        schedule.end(worker);
        assert!(schedule.begin(at(4), false).is_none());
        assert_eq!(schedule.next_wake(), Some(at(5)));
        let mut worker = schedule.begin(at(5), false).unwrap();
        assert_eq!(schedule.next_wake(), None);
        while schedule.take(&mut worker).is_some() {}
        schedule.end(worker);
        assert!(schedule.lanes.is_empty());
    }

    #[test]
    fn tries_at_once_what_an_operator_wants_to_be_tried() {
        let mut schedule = Schedule::default();
        let a = lane("a.example");
        schedule.push(&a, QueueId(1), 0, "s");
        schedule.rest(&a, at(10));
        assert!(schedule.begin(at(0), false).is_none());
        schedule.urge(&a);
        let worker = schedule.begin(at(0), false).unwrap();
        assert!(worker.is_urged && schedule.rests_until("a.example").is_none());
        schedule.set_site("a.example", "mx.a.example");
        assert_eq!(schedule.site_of("a.example"), Some("mx.a.example"));
        schedule.push(&a, QueueId(2), 0, "s");
        // The wish was that of one worker.
        let second = schedule.begin(at(0), false).unwrap();
        assert!(!second.is_urged && schedule.ready_of("a.example") == 2);
        schedule.end(worker);
        schedule.end(second);
        // The mail may come behind the wish.
        let b = lane("b.example");
        schedule.urge(&b);
        schedule.push(&b, QueueId(3), 0, "s");
        let mut all = std::iter::from_fn(|| schedule.begin(at(0), false));
        assert!(all.any(|worker| &**worker.domain() == "b.example" && worker.is_urged));
    }

    #[test]
    fn forgets_senders_that_have_no_mail() {
        let mut schedule = Schedule::default();
        let a = lane("a.example");
        for queue in 0..100 {
            schedule.push(&a, QueueId(queue), 0, &format!("s{queue}"));
        }
        let mut worker = schedule.begin(at(0), false).unwrap();
        while schedule.take(&mut worker).is_some() {}
        assert!(schedule.lanes[&a].turns.is_empty() && schedule.lanes[&a].senders.is_empty());
        // A second push of one that waits changes nothing.
        schedule.push(&a, QueueId(1), 0, "s");
        schedule.push(&a, QueueId(1), 0, "s");
        assert_eq!((schedule.ready(), schedule.take(&mut worker)), (1, Some(QueueId(1))));
        schedule.push(&a, QueueId(2), 0, "s");
        schedule.clear();
        assert!(schedule.ready() == 0 && schedule.take(&mut worker).is_none());
        schedule.end(worker);
        assert!(schedule.lanes.is_empty());
    }
}
