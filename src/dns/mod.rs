//! What the DNS says, as one shard remembers it.
//!
//! A question that was answered lately is answered from memory for as long as the answer holds, a
//! missing name too (RFC 2308 §5), and a failure for a while, so that a dead server is not asked
//! for each client. Who asks what somebody asks already waits for the same answer. Names out of a
//! client's address are a stranger's choice: what is remembered, and what is under way, is bounded.
//!
//! ```text
//!   look_up ── remembered? ── under way? ── a place? ── ask (the concierge, or a script in tests)
//!                  └ young, else old           │ └ none   └ a task of its own
//!                                   a client's ┘   ├ a client: Trouble::Busy
//!                                                  └ mail: waits on the ground for its turn
//! ```
//! Those who ask have places of their own ([`Asker`]): what others wait for in silence holds up nobody.
//! A client may go, and the answer is remembered all the same; where all who asked for the sake of mail
//! have gone the question is taken back, and its place is free.
//!
//! Memory is two generations: when the young one is full it becomes the old one, and what was in
//! that is forgotten. What is asked for in the old one moves to the young one.

use crate::bytes::hash::Sorted;
use crate::concierge::dns::{Failed, Found, Kind, Want};
use crate::env::Env;
use crate::env::bell::Bell;
use crate::model::limits::{
    DNS_FAILURE_TTL, DNS_FLIGHTS_MAX, DNS_GROUND_MAX, DNS_MAIL_FLIGHTS_MAX,
};
use crate::model::time::Mono;
use futures_lite::future::or;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Too many questions are under way.
    Busy,
    /// The servers failed, or did not answer in time.
    Failed,
    /// What came is not what the zone's owner signed.
    Bogus,
}

/// What the DNS says; no records where the name or the type does not exist.
pub type Answer = Result<Rc<Found>, Trouble>;

/// A question that was put.
pub type Asked = Pin<Box<dyn Future<Output = Result<Found, Failed>>>>;

type Ask = dyn Fn(Kind, Want, &str) -> Asked;

type Question = (Kind, Want, Box<str>);

/// Who asks. Each has places of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asker {
    /// A session with a client, which is told at once that there is no place.
    Client,
    /// Who looks for the way of mail.
    Mail,
    /// The same, where the servers fell silent the last time.
    Doubtful,
    /// Who looks for what is published of a server that is about to be called.
    Published,
}

const ASKERS: usize = 4;

#[derive(Clone)]
struct Known {
    answer: Answer,
    until: Mono,
}

/// A question under way, or on the ground, and the answer once it is there.
#[derive(Default)]
struct Flight {
    landed: Bell,
    answer: Cell<Option<Answer>>,
    /// Those who wait for it.
    waiting: Cell<usize>,
    /// Rung when the last of them has gone.
    unwanted: Bell,
}

/// The questions of one asker.
#[derive(Default)]
struct Airfield {
    flights: Sorted<Question, Rc<Flight>>,
    aloft: usize,
    /// What waits for a place.
    ground: VecDeque<(Question, Rc<Flight>)>,
}

#[derive(Default)]
struct Memory {
    young: Sorted<Question, Known>,
    old: Sorted<Question, Known>,
    airfields: [Airfield; ASKERS],
}

/// One who waits for a flight; may go at any time.
struct Passenger {
    memory: Rc<RefCell<Memory>>,
    asker: Asker,
    question: Question,
    flight: Rc<Flight>,
}

impl Drop for Passenger {
    fn drop(&mut self) {
        let left = self.flight.waiting.get() - 1;
        self.flight.waiting.set(left);
        if left == 0 && self.asker != Asker::Client {
            // Who comes now asks anew; one that has landed is off the list already.
            self.memory.borrow_mut().airfield(self.asker).strike(&self.question, &self.flight);
            self.flight.unwanted.ring();
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Questions that were answered from memory.
    pub remembered: u64,
    /// Questions that were put to the servers.
    pub asked: u64,
    /// Those of them that were not answered.
    pub failed: u64,
}

/// One shard's resolver; clones are the same one.
pub struct Resolver<E: Env> {
    env: E,
    ask: Rc<Ask>,
    asker: Asker,
    timeout: Duration,
    /// Answers of one generation.
    generation_max: usize,
    /// Questions that each asker may have under way.
    places: [usize; ASKERS],
    memory: Rc<RefCell<Memory>>,
    stats: Rc<Cell<Stats>>,
}

impl<E: Env> Clone for Resolver<E> {
    fn clone(&self) -> Self {
        Resolver {
            env: self.env.clone(),
            ask: Rc::clone(&self.ask),
            asker: self.asker,
            timeout: self.timeout,
            generation_max: self.generation_max,
            places: self.places,
            memory: Rc::clone(&self.memory),
            stats: Rc::clone(&self.stats),
        }
    }
}

impl<E: Env> Resolver<E> {
    /// `ask` puts a question; one that takes longer than `timeout` has failed. About `answers_max`
    /// answers are remembered. Clients ask.
    pub fn new(
        env: E,
        timeout: Duration,
        answers_max: usize,
        ask: impl Fn(Kind, Want, &str) -> Asked + 'static,
    ) -> Resolver<E> {
        Resolver {
            env,
            ask: Rc::new(ask),
            asker: Asker::Client,
            timeout,
            generation_max: (answers_max / 2).max(1),
            places: places(1),
            memory: Rc::default(),
            stats: Rc::default(),
        }
    }

    /// The same resolver where `shards` ask the same servers: what is asked for mail is that of all.
    #[must_use]
    pub fn shared_by(self, shards: u16) -> Resolver<E> {
        Resolver { places: places(shards), ..self }
    }

    /// The same resolver, for somebody else.
    #[must_use]
    pub fn asked_by(&self, asker: Asker) -> Resolver<E> {
        Resolver { asker, ..self.clone() }
    }

    /// Questions that this asker may have under way.
    pub fn places(&self) -> usize {
        self.places[self.asker as usize]
    }

    /// What came of a question the last time, whether or not that still holds, as far as it is remembered.
    pub fn known(&self, kind: Kind, want: Want, name: &str) -> Option<Answer> {
        let memory = self.memory.borrow();
        let question = (kind, want, name.into());
        let known = memory.young.get(&question).or_else(|| memory.old.get(&question))?;
        Some(known.answer.clone())
    }

    pub fn stats(&self) -> Stats {
        self.stats.get()
    }

    fn count(&self, change: impl FnOnce(&mut Stats)) {
        let mut stats = self.stats.get();
        change(&mut stats);
        self.stats.set(stats);
    }

    /// The records of `name`, in A-labels and lower case, of one kind. Comes back within the time that
    /// a question may take; where it is asked for mail, within that and its turn. May be dropped.
    pub async fn look_up(&self, kind: Kind, name: &str) -> Answer {
        self.answer((kind, Want::Plain, name.into())).await
    }

    /// As [`Resolver::look_up`], held against the signatures of the zones, as far as that is set and
    /// the servers pass them on: for what trust is built on.
    pub async fn prove(&self, kind: Kind, name: &str) -> Answer {
        self.answer((kind, Want::Proven, name.into())).await
    }

    async fn answer(&self, question: Question) -> Answer {
        if let Some(answer) = self.memory.borrow_mut().recall(&question, self) {
            self.count(|stats| stats.remembered += 1);
            return answer;
        }
        let passenger = self.board(question)?;
        let flight = &passenger.flight;
        flight.landed.past(0).await;
        let answer = flight.answer.take();
        flight.answer.set(answer.clone());
        answer.unwrap_or(Err(Trouble::Failed))
    }

    /// A seat in the flight that brings this answer: one that is under way, or a new one.
    fn board(&self, question: Question) -> Result<Passenger, Trouble> {
        let mut memory = self.memory.borrow_mut();
        let airfield = memory.airfield(self.asker);
        let known = airfield.flights.get(&question).cloned();
        let is_new = known.is_none();
        let flight = known.unwrap_or_default();
        if is_new {
            let is_full = airfield.aloft >= self.places();
            if is_full && (self.asker == Asker::Client || !airfield.has_ground()) {
                return Err(Trouble::Busy);
            }
            airfield.flights.insert(question.clone(), Rc::clone(&flight));
            if is_full {
                airfield.ground.push_back((question.clone(), Rc::clone(&flight)));
            } else {
                self.take_off(airfield, question.clone(), Rc::clone(&flight));
            }
        }
        drop(memory);
        flight.waiting.set(flight.waiting.get() + 1);
        Ok(Passenger { memory: Rc::clone(&self.memory), asker: self.asker, question, flight })
    }

    fn take_off(&self, airfield: &mut Airfield, question: Question, flight: Rc<Flight>) {
        airfield.aloft += 1;
        let this = self.clone();
        self.env.spawn(async move {
            let unwanted = async {
                flight.unwanted.past(0).await;
                None
            };
            let known = or(async { Some(this.fetch(&question).await) }, unwanted).await;
            this.land(question, &flight, known);
        });
    }

    /// An answer is there, or nobody wants it any more; the next question that waits has its turn.
    fn land(&self, question: Question, flight: &Rc<Flight>, known: Option<Known>) {
        let mut memory = self.memory.borrow_mut();
        let airfield = memory.airfield(self.asker);
        airfield.strike(&question, flight);
        airfield.aloft -= 1;
        while airfield.aloft < self.places()
            && let Some((question, flight)) = airfield.ground.pop_front()
        {
            if flight.waiting.get() > 0 {
                self.take_off(airfield, question, flight);
            }
        }
        let Some(known) = known else { return };
        flight.answer.set(Some(known.answer.clone()));
        // That nobody was asked is nothing to remember.
        if known.answer != Err(Trouble::Busy) {
            memory.keep(question, known, self.generation_max);
        }
        drop(memory);
        flight.landed.ring();
    }

    async fn fetch(&self, (kind, want, name): &Question) -> Known {
        self.count(|stats| stats.asked += 1);
        let asked = (self.ask)(*kind, *want, name);
        let late = async {
            self.env.sleep(self.timeout).await;
            Err(Failed::Servers("no answer in time".into()))
        };
        let found = or(asked, late).await;
        let now = self.env.now();
        let trouble = match found {
            Ok(found) => {
                let until = now.after(found.ttl);
                return Known { answer: Ok(Rc::new(found)), until };
            }
            Err(Failed::Servers(_)) => Trouble::Failed,
            Err(Failed::Bogus) => Trouble::Bogus,
            Err(Failed::Busy) => Trouble::Busy,
        };
        self.count(|stats| stats.failed += 1);
        Known { answer: Err(trouble), until: now.after(DNS_FAILURE_TTL) }
    }
}

/// Questions that each asker may have under way, on one of so many shards.
fn places(shards: u16) -> [usize; ASKERS] {
    let mail = (DNS_MAIL_FLIGHTS_MAX / usize::from(shards.max(1))).max(1);
    [DNS_FLIGHTS_MAX, mail, mail, mail]
}

impl Airfield {
    /// Takes a flight off the list, unless another one is there for the same question.
    fn strike(&mut self, question: &Question, flight: &Rc<Flight>) {
        if self.flights.get(question).is_some_and(|other| Rc::ptr_eq(other, flight)) {
            self.flights.remove(question);
        }
    }

    /// Whether one more question may wait here.
    fn has_ground(&mut self) -> bool {
        if self.ground.len() >= DNS_GROUND_MAX {
            self.ground.retain(|(_, flight)| flight.waiting.get() > 0);
        }
        self.ground.len() < DNS_GROUND_MAX
    }
}

impl Memory {
    fn airfield(&mut self, asker: Asker) -> &mut Airfield {
        &mut self.airfields[asker as usize]
    }

    /// What is known and still holds.
    fn recall<E: Env>(&mut self, question: &Question, resolver: &Resolver<E>) -> Option<Answer> {
        let now = resolver.env.now();
        if let Some(known) = self.young.get(question) {
            return (known.until > now).then(|| known.answer.clone());
        }
        // What holds no more stays where it is: that it was no answer is worth knowing.
        self.old.get(question).filter(|known| known.until > now)?;
        let known = self.old.remove(question)?;
        let answer = known.answer.clone();
        self.keep(question.clone(), known, resolver.generation_max);
        Some(answer)
    }

    fn keep(&mut self, question: Question, known: Known, generation_max: usize) {
        if self.young.len() >= generation_max && !self.young.contains_key(&question) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(question, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::concierge::dns::Data;
    use crate::env::sim::{Faults, Sim};
    use crate::env::together::together;
    use std::net::Ipv4Addr;

    const TIMEOUT: Duration = Duration::from_secs(5);

    /// A resolver over a script, which counts what it is asked: `slow` answers after 2 s, `dead…`
    /// never, `bad` fails, `none` is not there; all else has an address and holds for 60 s.
    fn scripted(sim: &Sim, answers_max: usize) -> (Resolver<impl Env>, Rc<Cell<u32>>) {
        let env = sim.env(0);
        let asked = Rc::new(Cell::new(0));
        let counted = Rc::clone(&asked);
        let ask = {
            let env = env.clone();
            move |_: Kind, _: Want, name: &str| -> Asked {
                counted.set(counted.get() + 1);
                let (env, name) = (env.clone(), name.to_owned());
                Box::pin(async move {
                    let ttl = Duration::from_mins(1);
                    let pause = match &*name {
                        "slow" => Duration::from_secs(2),
                        name if name.starts_with("dead") => Duration::from_hours(1),
                        _ => Duration::from_millis(1),
                    };
                    env.sleep(pause).await;
                    match &*name {
                        "bad" => Err(Failed::Servers("bad".into())),
                        "full" => Err(Failed::Busy),
                        "forged" => Err(Failed::Bogus),
                        "none" => Ok(Found::plain(Vec::new(), ttl)),
                        _ => Ok(Found::plain(vec![Data::Address(Ipv4Addr::LOCALHOST.into())], ttl)),
                    }
                })
            }
        };
        (Resolver::new(env, TIMEOUT, answers_max, ask), asked)
    }

    #[test]
    fn remembers_for_as_long_as_it_holds_and_asks_once_for_all() {
        let sim = Sim::new(1, Faults::none());
        let (resolver, asked) = scripted(&sim, 100);
        let env = sim.env(0);
        sim.run_until(async {
            let many = together((0..10).map(|_| resolver.look_up(Kind::A, "slow"))).await;
            assert!(
                many.iter()
                    .all(|answer| answer.as_ref().is_ok_and(|found| found.records.len() == 1))
            );
            assert_eq!(asked.get(), 1);
            for name in ["slow", "none"] {
                assert!(resolver.look_up(Kind::A, name).await.is_ok());
                assert!(resolver.look_up(Kind::A, name).await.is_ok());
            }
            assert_eq!(asked.get(), 2);
            assert!(resolver.look_up(Kind::Aaaa, "none").await.unwrap().records.is_empty());
            assert_eq!(asked.get(), 3);
            env.sleep(Duration::from_secs(61)).await;
            assert!(resolver.look_up(Kind::A, "slow").await.is_ok());
            assert_eq!(asked.get(), 4);
            assert_eq!(resolver.stats(), Stats { remembered: 3, asked: 4, failed: 0 });
        })
        .unwrap();
    }

    #[test]
    fn gives_a_dead_server_up_in_time_and_leaves_it_alone_for_a_while() {
        let sim = Sim::new(1, Faults::none());
        let (resolver, asked) = scripted(&sim, 100);
        let env = sim.env(0);
        sim.run_until(async {
            let start = env.now();
            for _ in 0..3 {
                assert_eq!(resolver.look_up(Kind::A, "dead").await, Err(Trouble::Failed));
                assert_eq!(resolver.look_up(Kind::A, "bad").await, Err(Trouble::Failed));
            }
            assert!(env.now().since(start) < TIMEOUT * 2);
            assert_eq!(asked.get(), 2);
            env.sleep(DNS_FAILURE_TTL).await;
            assert_eq!(resolver.look_up(Kind::A, "bad").await, Err(Trouble::Failed));
            assert_eq!(asked.get(), 3);
        })
        .unwrap();
    }

    #[test]
    fn tells_a_forged_answer_from_none_and_a_proven_one_from_a_plain_one() {
        let sim = Sim::new(1, Faults::none());
        let (resolver, asked) = scripted(&sim, 100);
        sim.run_until(async {
            assert_eq!(resolver.prove(Kind::Mx, "forged").await, Err(Trouble::Bogus));
            assert!(resolver.look_up(Kind::Mx, "a").await.is_ok());
            assert!(resolver.prove(Kind::Mx, "a").await.is_ok());
            assert!(resolver.prove(Kind::Mx, "a").await.is_ok());
            assert_eq!(asked.get(), 3);
        })
        .unwrap();
    }

    #[test]
    fn holds_a_bounded_number_of_answers_and_questions() {
        let sim = Sim::new(1, Faults::none());
        let (resolver, asked) = scripted(&sim, 64);
        sim.run_until(async {
            let held = || {
                let memory = resolver.memory.borrow();
                memory.young.len() + memory.old.len()
            };
            resolver.look_up(Kind::A, "often").await.unwrap();
            for number in 0..1_000 {
                resolver.look_up(Kind::A, &format!("a{number}")).await.unwrap();
                resolver.look_up(Kind::A, "often").await.unwrap();
                assert!(held() <= 64, "{}", held());
            }
            // What is asked for again and again is not pushed out.
            assert_eq!(asked.get(), 1_001);
            let names: Vec<String> = (0..=DNS_FLIGHTS_MAX).map(|n| format!("b{n}")).collect();
            let flood = together(names.iter().map(|name| resolver.look_up(Kind::A, name))).await;
            let busy = flood.iter().filter(|answer| **answer == Err(Trouble::Busy)).count();
            assert_eq!(busy, 1);
        })
        .unwrap();
    }

    /// Mail is not told that there is no place, it waits for one; what is silent holds up its own kind.
    #[test]
    fn lets_mail_wait_for_its_turn_and_for_no_other_asker() {
        let sim = Sim::new(1, Faults::none());
        let (resolver, _) = scripted(&sim, 100);
        let resolver = resolver.shared_by(64);
        let doubtful = resolver.asked_by(Asker::Doubtful);
        let env = sim.env(0);
        sim.run_until(async {
            assert_eq!((doubtful.places(), resolver.places()), (4, DNS_FLIGHTS_MAX));
            let start = env.now();
            let names: Vec<String> = (0..8).map(|number| format!("dead{number}")).collect();
            let silent = together(names.iter().map(|name| doubtful.look_up(Kind::A, name)));
            let others = async {
                env.sleep(Duration::from_secs(1)).await;
                let all = [Asker::Mail, Asker::Published, Asker::Client];
                for (asker, name) in all.into_iter().zip(["a", "b", "c"]) {
                    assert!(resolver.asked_by(asker).look_up(Kind::A, name).await.is_ok());
                }
                assert!(env.now().since(start) < Duration::from_secs(2));
            };
            let (silent, ()) = futures_lite::future::zip(silent, others).await;
            assert!(silent.iter().all(|answer| *answer == Err(Trouble::Failed)), "{silent:?}");
            let took = env.now().since(start);
            assert!(took >= TIMEOUT * 2 && took < TIMEOUT * 3, "{took:?}");
        })
        .unwrap();
    }

    #[test]
    fn takes_back_what_is_asked_for_mail_that_goes() {
        let sim = Sim::new(1, Faults::none());
        let (resolver, asked) = scripted(&sim, 100);
        let mail = resolver.shared_by(64).asked_by(Asker::Mail);
        let client = mail.asked_by(Asker::Client);
        let env = sim.env(0);
        let question = |name: &str| (Kind::A, Want::Plain, name.into());
        let is_known = |name| mail.known(Kind::A, Want::Plain, name).is_some();
        sim.run_until(async {
            let mut seats: Vec<Passenger> =
                (0..6).map(|n| mail.board(question(&format!("dead{n}"))).unwrap()).collect();
            // Two ask the same, and one of them goes.
            seats.push(mail.board(question("dead0")).unwrap());
            drop(seats.pop());
            env.sleep(Duration::from_secs(1)).await;
            assert_eq!(asked.get(), 4);
            // What is on the ground and not wanted any more is never asked; all places are free at once.
            seats.clear();
            assert!(mail.look_up(Kind::A, "well").await.is_ok());
            assert_eq!((asked.get(), is_known("dead0"), is_known("well")), (5, false, true));
            assert_eq!(mail.memory.borrow().airfields[Asker::Mail as usize].flights.len(), 0);
            // Who comes behind somebody who has just gone has the question put anew.
            drop(mail.board(question("slow")).unwrap());
            assert!(mail.look_up(Kind::A, "slow").await.is_ok());
            // What a client asked for is remembered though he goes.
            drop(client.board(question("none")).unwrap());
            env.sleep(Duration::from_secs(1)).await;
            assert!(is_known("none"));
        })
        .unwrap();
    }

    #[test]
    fn holds_a_bounded_number_of_questions_on_the_ground() {
        let sim = Sim::new(1, Faults::none());
        let (resolver, asked) = scripted(&sim, 100);
        let mail = resolver.shared_by(1).asked_by(Asker::Mail);
        sim.run_until(async {
            let board = |n| mail.board((Kind::A, Want::Plain, format!("dead{n}").into()));
            let most = mail.places() + DNS_GROUND_MAX;
            let mut seats: Vec<Passenger> = (0..most).map(|n| board(n).unwrap()).collect();
            assert_eq!(board(most).err(), Some(Trouble::Busy));
            seats.truncate(most - 1);
            assert!(board(most).is_ok());
        })
        .unwrap();
        assert_eq!(asked.get(), 0);
    }

    /// What the concierge has no room for was asked of nobody, and may be asked again at once; of others it
    /// is known that they failed the last time, however long ago.
    #[test]
    fn tells_who_was_not_asked_from_who_did_not_answer() {
        let sim = Sim::new(1, Faults::none());
        let (resolver, asked) = scripted(&sim, 100);
        let env = sim.env(0);
        let known = |name| resolver.known(Kind::A, Want::Plain, name);
        sim.run_until(async {
            for count in 1..3 {
                assert_eq!(resolver.look_up(Kind::A, "full").await, Err(Trouble::Busy));
                assert_eq!((asked.get(), known("full")), (count, None));
            }
            assert_eq!(resolver.look_up(Kind::A, "bad").await, Err(Trouble::Failed));
            env.sleep(DNS_FAILURE_TTL * 2).await;
            assert_eq!(known("bad"), Some(Err(Trouble::Failed)));
            assert_eq!((known("never"), asked.get()), (None, 3));
        })
        .unwrap();
    }
}
