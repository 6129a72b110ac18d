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
//! A worker begins by looking for the way to its domain, which name servers may hold up. Of those that do
//! so there are a few at once, one in each lane; domains that are in doubt, since theirs were silent, have
//! places of their own, so that others wait for none of them.
//!
//! Within a lane the senders take turns: one with a million messages is one sender. Among lanes the
//! first that waits for a worker gets it. A lane rests while its destination cannot be reached; its
//! entries stay where they are meanwhile, and none of them costs an attempt.

use super::outgoing::QueueId;
use crate::bytes::hash::{Map, Sorted};
use crate::bytes::runs::Runs;
use crate::env::bell::Bell;
use crate::model::time::Mono;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use xxhash_rust::xxh3::xxh3_64;

/// An entry that waits, in the order of a lane: higher priority first, then by turns, then as they came.
/// In words of four octets, which need no padding: a million entries may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// The priority upside down in the highest octet, then the turn.
    order: [u32; 2],
    queue: [u32; 2],
    /// A hash of its sender.
    sender: u32,
}

/// The bits of a turn: a lane that gives a million turns a second has enough of them for 2,000 years.
const TURN_BITS: u32 = 56;

fn halves(number: u64) -> [u32; 2] {
    [number >> 32, number & u64::from(u32::MAX)]
        .map(|half| u32::try_from(half).expect("32 bits are left"))
}

fn whole([upper, lower]: [u32; 2]) -> u64 {
    u64::from(upper) << 32 | u64::from(lower)
}

impl Place {
    fn new(priority: i8, turn: u64, queue: QueueId, sender: u32) -> Place {
        // From 0, the highest, to 255.
        let upside_down = u64::from((i16::from(i8::MAX) - i16::from(priority)).unsigned_abs());
        let order = halves(upside_down << TURN_BITS | turn);
        Place { order, queue: halves(queue.0), sender }
    }

    fn turn(self) -> u64 {
        whole(self.order) & ((1 << TURN_BITS) - 1)
    }
}

#[derive(Default)]
struct Lane {
    ready: Runs<Place>,
    /// The turn of each sender's last message that waits; senders without mail are forgotten.
    turns: Map<u32, (u64, usize)>,
    /// The turn of the message that was taken last.
    turn: u64,
    workers: usize,
    /// Workers that have not taken an entry yet, or wait for one.
    hungry: usize,
    /// Rung when a worker that waits may find an entry.
    bell: Rc<Bell>,
    /// In the list of those that wait for a worker.
    is_waiting: bool,
    /// One of its workers looks for the way.
    looks_up: bool,
    standing: Standing,
    rests_until: Option<Mono>,
    /// An operator wants it to be tried now, whatever is known of its servers.
    is_urged: bool,
    /// The group of servers that its last worker went to.
    site: Option<Box<str>>,
}

/// A worker of a lane; goes back by [`Schedule::end`].
#[derive(Debug)]
#[must_use = "a worker has to be ended"]
pub struct Worker {
    domain: Rc<str>,
    is_hungry: bool,
    /// Its lane was to be tried now, whatever is known of its servers.
    pub is_urged: bool,
    /// Among which it looks for the way, while it does.
    looks_up: Option<Standing>,
    /// Rung when its place is wanted while it idles.
    call: Rc<Bell>,
    is_called: bool,
    /// Its number among those that idle.
    idle: Option<u64>,
}

impl Worker {
    /// What is rung when it is to end, for its place is wanted.
    pub fn call(&self) -> &Rc<Bell> {
        &self.call
    }

    pub fn domain(&self) -> &Rc<str> {
        &self.domain
    }

    /// It looks for the way among those that are in doubt.
    pub fn is_doubtful(&self) -> bool {
        self.looks_up == Some(Standing::Doubtful)
    }
}

/// What is known of the name servers of a domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    /// Nothing against them.
    #[default]
    Good,
    /// They were silent the last time.
    Doubtful,
}

/// What workers that begin may take.
#[derive(Clone, Copy, Debug)]
pub struct Leeway {
    /// Places are getting few: no lane gets a second worker, so that slow lanes leave some to others.
    pub is_tight: bool,
    /// Workers that may look for the way at once, and as many in lanes that are in doubt.
    pub look_ups: usize,
}

/// Lanes that want one more worker, in the order in which they came to want it, and how many look for the
/// way.
#[derive(Default)]
struct Wanting {
    lanes: VecDeque<Rc<str>>,
    looking: usize,
}

/// The mail of one shard that is due.
#[derive(Default)]
pub struct Schedule {
    lanes: Sorted<Rc<str>, Lane>,
    wanting: Wanting,
    /// The same of those that are in doubt.
    wanting_doubtful: Wanting,
    /// As [`Leeway::look_ups`] was the last time.
    look_ups: usize,
    resting: BTreeSet<(Mono, Rc<str>)>,
    /// Workers with a connection and without mail, the one that idles longest first.
    idle: Sorted<u64, Rc<Bell>>,
    idle_number: u64,
    /// Workers that were called and have not ended yet.
    called: usize,
    workers: usize,
    ready: usize,
}

impl Schedule {
    /// An entry is due. It is in no lane yet: who pushes keeps account of that.
    pub fn push(&mut self, domain: &Rc<str>, queue: QueueId, priority: i8, sender: &str) {
        let lane = self.lanes.entry(Rc::clone(domain)).or_default();
        let [sender, _] = halves(xxh3_64(sender.as_bytes()));
        let (last, waiting) = lane.turns.entry(sender).or_insert((0, 0));
        *last = (*last).max(lane.turn) + 1;
        *waiting += 1;
        lane.ready.insert(Place::new(priority, *last, queue, sender));
        if lane.hungry > 0 {
            lane.bell.ring();
        }
        self.ready += 1;
        self.want(domain);
    }

    /// Puts a lane that has work for one more worker into the list.
    fn want(&mut self, domain: &Rc<str>) {
        let Some(lane) = self.lanes.get_mut(domain) else { return };
        let has_work = lane.ready.len() > lane.hungry && !lane.looks_up;
        if has_work && !lane.is_waiting && lane.rests_until.is_none() {
            lane.is_waiting = true;
            let standing = lane.standing;
            self.wanting(standing).lanes.push_back(Rc::clone(domain));
        }
    }

    fn wanting(&mut self, standing: Standing) -> &mut Wanting {
        match standing {
            Standing::Good => &mut self.wanting,
            Standing::Doubtful => &mut self.wanting_doubtful,
        }
    }

    /// Lanes that could have one more worker now, if there is a place for one.
    fn wanting_count(&self) -> usize {
        let of = |one: &Wanting| one.lanes.len().min(self.look_ups.saturating_sub(one.looking));
        of(&self.wanting) + of(&self.wanting_doubtful)
    }

    /// Whether more lanes that are not in doubt wait than there are places to look for the way.
    pub fn wants_look_up(&self) -> bool {
        let free = self.look_ups.saturating_sub(self.wanting.looking);
        self.wanting.lanes.len() > free
    }

    /// A worker looks for the way no longer. `is_doubtful`: its name servers are silent. Whether others may
    /// begin by that.
    pub fn looked_up(&mut self, worker: &mut Worker, is_doubtful: bool) -> bool {
        let Some(standing) = worker.looks_up.take() else { return false };
        self.wanting(standing).looking -= 1;
        if let Some(lane) = self.lanes.get_mut(&worker.domain) {
            lane.looks_up = false;
            lane.standing = if is_doubtful { Standing::Doubtful } else { Standing::Good };
        }
        self.want(&Rc::clone(&worker.domain));
        self.is_wanted()
    }

    /// A worker leaves its place to others without having found out anything, and ends: its lane is in
    /// doubt, and goes on there.
    pub fn turn_out(&mut self, worker: &mut Worker) {
        if let Some(lane) = self.lanes.get_mut(&worker.domain) {
            lane.is_urged |= worker.is_urged;
        }
        self.looked_up(worker, true);
    }

    /// Whether nothing is known here of a domain.
    pub fn is_new(&self, domain: &str) -> bool {
        !self.lanes.contains_key(domain)
    }

    /// A domain of which nothing is known here is in doubt.
    pub fn doubt(&mut self, domain: &Rc<str>) {
        self.lanes.entry(Rc::clone(domain)).or_default().standing = Standing::Doubtful;
    }

    /// Lanes that have rested want a worker again, whether or not there is a place for one.
    pub fn wake_rested(&mut self, now: Mono) {
        while let Some((until, domain)) = self.resting.first().cloned()
            && until <= now
        {
            self.wake(&domain);
        }
    }

    /// The next lane that is to have one more worker, who looks for the way first; counts him as begun.
    pub fn begin(&mut self, now: Mono, leeway: Leeway) -> Option<Worker> {
        self.look_ups = leeway.look_ups;
        self.wake_rested(now);
        // One in doubt is always under way: while others want each place that gets free, none would ever be.
        let mut order = [Standing::Good, Standing::Doubtful];
        if self.wanting_doubtful.looking == 0 {
            order.reverse();
        }
        order.into_iter().find_map(|standing| self.begin_in(standing, leeway))
    }

    fn begin_in(&mut self, standing: Standing, leeway: Leeway) -> Option<Worker> {
        while self.wanting(standing).looking < leeway.look_ups
            && let Some(domain) = self.wanting(standing).lanes.pop_front()
        {
            let Some(lane) = self.lanes.get_mut(&domain) else { continue };
            lane.is_waiting = false;
            let has_one = (leeway.is_tight && lane.workers > 0) || lane.looks_up;
            if has_one || lane.ready.len() <= lane.hungry || lane.rests_until.is_some() {
                continue;
            }
            lane.workers += 1;
            lane.hungry += 1;
            lane.looks_up = true;
            let is_urged = std::mem::take(&mut lane.is_urged);
            self.workers += 1;
            self.wanting(standing).looking += 1;
            let (call, looks_up) = (Rc::default(), Some(standing));
            let (is_called, idle) = (false, None);
            return Some(Worker {
                domain,
                is_hungry: true,
                is_urged,
                looks_up,
                call,
                is_called,
                idle,
            });
        }
        None
    }

    /// The entry that goes next; it is out of the lane. None: the worker waits for one, or ends.
    pub fn take(&mut self, worker: &mut Worker) -> Option<QueueId> {
        let lane = self.lanes.get_mut(&worker.domain)?;
        let Some(place) = lane.ready.pop_first() else {
            self.has_ready(worker);
            return None;
        };
        lane.hungry -= usize::from(worker.is_hungry);
        worker.is_hungry = false;
        self.ready -= 1;
        let domain = Rc::clone(&worker.domain);
        lane.turn = lane.turn.max(place.turn());
        if let Some((_, waiting)) = lane.turns.get_mut(&place.sender) {
            *waiting -= 1;
            if *waiting == 0 {
                lane.turns.remove(&place.sender);
            }
        }
        self.want(&domain);
        Some(QueueId(whole(place.queue)))
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
        self.wanting_count() > 0
    }

    /// A worker idles from here on, up to [`Schedule::end_idle`]: whoever wants its place rings
    /// [`Worker::call`].
    pub fn idle(&mut self, worker: &mut Worker) {
        self.idle_number += 1;
        self.idle.insert(self.idle_number, Rc::clone(&worker.call));
        worker.idle = Some(self.idle_number);
    }

    /// A worker idles no longer. Whether it was called, and has to end.
    pub fn end_idle(&mut self, worker: &mut Worker) -> bool {
        if let Some(number) = worker.idle.take() {
            worker.is_called |= self.idle.remove(&number).is_none();
        }
        worker.is_called
    }

    /// There is no place for one more worker: calls as many that idle as there are lanes that want one.
    pub fn call_idle(&mut self) {
        while self.called < self.wanting_count()
            && let Some((_, call)) = self.idle.pop_first()
        {
            self.called += 1;
            call.ring();
        }
    }

    /// Calls all workers that wait.
    pub fn call(&self) {
        self.lanes.values().filter(|lane| lane.hungry > 0).for_each(|lane| lane.bell.ring());
    }

    /// A worker has ended, whatever it was at.
    pub fn end(&mut self, mut worker: Worker) {
        self.end_idle(&mut worker);
        if let Some(standing) = worker.looks_up.take() {
            self.wanting(standing).looking -= 1;
            if let Some(lane) = self.lanes.get_mut(&worker.domain) {
                lane.looks_up = false;
            }
        }
        let Worker { domain, is_hungry, is_called, .. } = worker;
        self.workers -= 1;
        self.called -= usize::from(is_called);
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

    /// A worker who knows the way at once.
    fn begin(schedule: &mut Schedule, now: Mono, is_tight: bool) -> Option<Worker> {
        let mut worker = schedule.begin(now, Leeway { is_tight, look_ups: usize::MAX })?;
        schedule.looked_up(&mut worker, false);
        Some(worker)
    }

    /// Everything that waits, by one worker who stays.
    fn taken(schedule: &mut Schedule) -> Vec<u64> {
        let Some(mut worker) = begin(schedule, at(0), false) else { return Vec::new() };
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
        let mut worker = begin(&mut schedule, at(0), false).unwrap();
        assert_eq!(schedule.take(&mut worker), Some(QueueId(11)));
        schedule.push(&a, QueueId(16), 0, "one@s.example");
        schedule.end(worker);
        assert_eq!(taken(&mut schedule), [12, 16, 13, 14, 15]);
        assert_eq!((schedule.ready(), schedule.lanes.len()), (0, 0));
    }

    #[test]
    fn orders_by_priority_from_the_least_to_the_highest() {
        let mut schedule = Schedule::default();
        let a = lane("a.example");
        // Numbers beyond 32 bits too.
        let priorities = [(1, i8::MIN), (2, -1), (3, i8::MAX), (4, 0), (1 << 40, 1), (6, i8::MIN)];
        for (queue, priority) in priorities {
            schedule.push(&a, QueueId(queue), priority, "s");
        }
        assert_eq!(taken(&mut schedule), [3, 1 << 40, 4, 2, 1, 6]);
        assert_eq!(size_of::<Place>(), 20);
    }

    #[test]
    fn gives_lanes_their_workers_in_turn() {
        let mut schedule = Schedule::default();
        let (a, b) = (lane("a.example"), lane("b.example"));
        for queue in 1..=3 {
            schedule.push(&a, QueueId(queue), 0, "s");
        }
        schedule.push(&b, QueueId(4), 0, "s");
        let mut begun: Vec<_> = std::iter::from_fn(|| begin(&mut schedule, at(0), false)).collect();
        // As many as there is mail, but never two of one lane while another waits.
        let names: Vec<_> = begun.iter().map(|worker| &**worker.domain()).collect();
        assert_eq!(names, ["a.example", "b.example", "a.example", "a.example"]);
        assert_eq!((schedule.workers(), schedule.workers_of("a.example")), (4, 3));
        // They are busy: one more message wants one more of them, two hungry ones do not.
        assert!(begun.iter_mut().all(|worker| schedule.take(worker).is_some()));
        schedule.push(&b, QueueId(5), 0, "s");
        begun.extend(begin(&mut schedule, at(0), false));
        assert_eq!(schedule.workers_of("b.example"), 2);
        assert_eq!(schedule.take(&mut begun[0]), None);
        let bell = schedule.bell(&begun[0]);
        schedule.push(&a, QueueId(6), 0, "s");
        assert!(bell.rung() == 1 && begin(&mut schedule, at(0), false).is_none());
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
        let mut first = begin(&mut schedule, at(0), true).unwrap();
        assert!(begin(&mut schedule, at(0), true).is_none());
        schedule.push(&b, QueueId(10), 0, "s");
        let second = begin(&mut schedule, at(0), true).unwrap();
        assert_eq!(&**second.domain(), "b.example");
        // The lane asks again with each message that it takes.
        assert!(schedule.take(&mut first).is_some());
        let third = begin(&mut schedule, at(0), false).unwrap();
        assert_eq!(&**third.domain(), "a.example");
        for worker in [first, second, third] {
            schedule.end(worker);
        }
    }

    #[test]
    fn calls_who_idles_for_lanes_that_want_a_place() {
        let mut schedule = Schedule::default();
        let names = ["a.example", "b.example", "c.example"].map(lane);
        let mut idle = Vec::new();
        for (queue, name) in (1..).zip(&names) {
            schedule.push(name, QueueId(queue), 0, "s");
            let mut worker = begin(&mut schedule, at(0), false).unwrap();
            assert!(schedule.take(&mut worker).is_some() && !schedule.has_ready(&mut worker));
            schedule.idle(&mut worker);
            idle.push(worker);
        }
        // Nobody wants a place.
        schedule.call_idle();
        let mut last = idle.pop().unwrap();
        assert!(!schedule.end_idle(&mut last));
        // One lane does: it gets that of who idled longest, and asking again calls nobody else.
        schedule.push(&lane("d.example"), QueueId(4), 0, "s");
        schedule.call_idle();
        schedule.call_idle();
        assert_eq!([&idle[0], &idle[1]].map(|worker| worker.call().rung()), [1, 0]);
        assert!(schedule.end_idle(&mut idle[0]));
        // One that ends while it idles is none of those that idle.
        for worker in idle {
            schedule.end(worker);
        }
        schedule.end(last);
        assert!((schedule.called, schedule.idle.len(), schedule.workers()) == (0, 0, 0));
    }

    #[test]
    fn lets_a_lane_rest() {
        let mut schedule = Schedule::default();
        let a = lane("a.example");
        schedule.push(&a, QueueId(1), 0, "s");
        let worker = begin(&mut schedule, at(0), false).unwrap();
        schedule.push(&a, QueueId(2), 0, "s");
        schedule.rest(&a, at(10));
        schedule.rest(&a, at(5));
        schedule.end(worker);
        assert!(begin(&mut schedule, at(4), false).is_none());
        assert_eq!(schedule.next_wake(), Some(at(5)));
        let mut worker = begin(&mut schedule, at(5), false).unwrap();
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
        assert!(begin(&mut schedule, at(0), false).is_none());
        schedule.urge(&a);
        let worker = begin(&mut schedule, at(0), false).unwrap();
        assert!(worker.is_urged && schedule.rests_until("a.example").is_none());
        schedule.set_site("a.example", "mx.a.example");
        assert_eq!(schedule.site_of("a.example"), Some("mx.a.example"));
        schedule.push(&a, QueueId(2), 0, "s");
        // The wish was that of one worker.
        let second = begin(&mut schedule, at(0), false).unwrap();
        assert!(!second.is_urged && schedule.ready_of("a.example") == 2);
        schedule.end(worker);
        schedule.end(second);
        // The mail may come behind the wish.
        let b = lane("b.example");
        schedule.urge(&b);
        schedule.push(&b, QueueId(3), 0, "s");
        let mut all = std::iter::from_fn(|| begin(&mut schedule, at(0), false));
        assert!(all.any(|worker| &**worker.domain() == "b.example" && worker.is_urged));
    }

    #[test]
    fn forgets_senders_that_have_no_mail() {
        let mut schedule = Schedule::default();
        let a = lane("a.example");
        for queue in 0..100 {
            schedule.push(&a, QueueId(queue), 0, &format!("s{queue}"));
        }
        let mut worker = begin(&mut schedule, at(0), false).unwrap();
        while schedule.take(&mut worker).is_some() {}
        assert!(schedule.lanes[&a].turns.is_empty());
        schedule.push(&a, QueueId(1), 0, "s");
        assert_eq!((schedule.ready(), schedule.take(&mut worker)), (1, Some(QueueId(1))));
        schedule.push(&a, QueueId(2), 0, "s");
        schedule.clear();
        assert!(schedule.ready() == 0 && schedule.take(&mut worker).is_none());
        schedule.end(worker);
        assert!(schedule.lanes.is_empty());
    }

    #[test]
    fn lets_lanes_in_doubt_hold_up_no_others() {
        let mut schedule = Schedule::default();
        let leeway = Leeway { is_tight: false, look_ups: 2 };
        let names = ["a", "b", "c", "d", "e"].map(lane);
        for (queue, name) in (1..).zip(&names) {
            schedule.push(name, QueueId(queue), 0, "s");
            schedule.push(name, QueueId(10 + queue), 0, "s");
        }
        // One worker of each lane looks for the way, and no more than may do so.
        let mut begun: Vec<_> = std::iter::from_fn(|| schedule.begin(at(0), leeway)).collect();
        assert_eq!(begun.len(), 2);
        assert!(schedule.wants_look_up() && !schedule.is_wanted());
        // Who finds it goes on, and leaves the place to the next lane; more of them wait.
        assert!(schedule.looked_up(&mut begun[0], false) && schedule.wants_look_up());
        assert!(!schedule.looked_up(&mut begun[0], false));
        let mut silent = schedule.begin(at(0), leeway).unwrap();
        assert_eq!((&**silent.domain(), silent.is_doubtful()), ("c", false));
        // Who leaves it without having found the way looks for it among those in doubt, of whom one is
        // always under way; the wish of an operator is not lost by that.
        silent.is_urged = true;
        schedule.turn_out(&mut silent);
        schedule.end(silent);
        schedule.looked_up(&mut begun[1], false);
        let rest: Vec<_> = std::iter::from_fn(|| schedule.begin(at(0), leeway)).collect();
        let shown =
            |worker: &Worker| (worker.domain().to_string(), worker.is_doubtful(), worker.is_urged);
        let shown: Vec<_> = rest.iter().map(shown).collect();
        let all = [("c", true, true), ("d", false, false), ("e", false, false)];
        assert_eq!(shown, all.map(|(name, doubt, urged)| (name.to_owned(), doubt, urged)));
        // The wish for a second worker of the first two waits for places, as does a lane that is known
        // to be in doubt from the first.
        assert!(schedule.is_new("f"));
        for name in ["f", "g"].map(lane) {
            schedule.doubt(&name);
            schedule.push(&name, QueueId(20), 0, "s");
        }
        let next = schedule.begin(at(0), leeway).unwrap();
        assert_eq!((&**next.domain(), next.is_doubtful()), ("f", true));
        assert!(schedule.begin(at(0), leeway).is_none());
        // Whoever ends gives back what he has, wherever he was.
        begun.into_iter().chain(rest).chain([next]).for_each(|worker| schedule.end(worker));
        assert_eq!((schedule.wanting.looking, schedule.wanting_doubtful.looking), (0, 0));
        let again = std::iter::from_fn(|| schedule.begin(at(0), leeway)).count();
        assert_eq!(again, 4);
    }
}
