//! What the DNS says, as one shard remembers it.
//!
//! A question that was answered lately is answered from memory for as long as the answer holds, a
//! missing name too (RFC 2308 §5), and a failure for a while, so that a dead server is not asked
//! for each client. Who asks what somebody asks already waits for the same answer. Names out of a
//! client's address are a stranger's choice: what is remembered, and what is under way, is bounded.
//!
//! ```text
//!   look_up ── remembered? ── under way? ── ask (the concierge, or a script in tests)
//!                  └ young, else old           └ a task of its own: who asked may go
//! ```
//!
//! Memory is two generations: when the young one is full it becomes the old one, and what was in
//! that is forgotten. What is asked for in the old one moves to the young one.

use crate::bytes::hash::Sorted;
use crate::concierge::dns::{Failed, Found, Kind, Want};
use crate::env::Env;
use crate::env::bell::Bell;
use crate::model::limits::{DNS_FAILURE_TTL, DNS_FLIGHTS_MAX};
use crate::model::time::Mono;
use futures_lite::future::or;
use std::cell::{Cell, RefCell};
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

#[derive(Clone)]
struct Known {
    answer: Answer,
    until: Mono,
}

/// A question under way, and the answer once it is there.
#[derive(Default)]
struct Flight {
    landed: Bell,
    answer: Cell<Option<Answer>>,
}

#[derive(Default)]
struct Memory {
    young: Sorted<Question, Known>,
    old: Sorted<Question, Known>,
    flights: Sorted<Question, Rc<Flight>>,
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
    timeout: Duration,
    /// Answers of one generation.
    generation_max: usize,
    memory: Rc<RefCell<Memory>>,
    stats: Rc<Cell<Stats>>,
}

impl<E: Env> Clone for Resolver<E> {
    fn clone(&self) -> Self {
        Resolver {
            env: self.env.clone(),
            ask: Rc::clone(&self.ask),
            timeout: self.timeout,
            generation_max: self.generation_max,
            memory: Rc::clone(&self.memory),
            stats: Rc::clone(&self.stats),
        }
    }
}

impl<E: Env> Resolver<E> {
    /// `ask` puts a question; one that takes longer than `timeout` has failed. About `answers_max`
    /// answers are remembered.
    pub fn new(
        env: E,
        timeout: Duration,
        answers_max: usize,
        ask: impl Fn(Kind, Want, &str) -> Asked + 'static,
    ) -> Resolver<E> {
        Resolver {
            env,
            ask: Rc::new(ask),
            timeout,
            generation_max: (answers_max / 2).max(1),
            memory: Rc::default(),
            stats: Rc::default(),
        }
    }

    pub fn stats(&self) -> Stats {
        self.stats.get()
    }

    fn count(&self, change: impl FnOnce(&mut Stats)) {
        let mut stats = self.stats.get();
        change(&mut stats);
        self.stats.set(stats);
    }

    /// The records of `name`, in A-labels and lower case, of one kind. Comes back within the time
    /// that a question may take; may be dropped.
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
        let flight = self.take_off(question)?;
        flight.landed.past(0).await;
        let answer = flight.answer.take();
        flight.answer.set(answer.clone());
        answer.unwrap_or(Err(Trouble::Failed))
    }

    /// The flight that brings this answer: one that is under way, or a new one.
    fn take_off(&self, question: Question) -> Result<Rc<Flight>, Trouble> {
        let mut memory = self.memory.borrow_mut();
        if let Some(flight) = memory.flights.get(&question) {
            return Ok(Rc::clone(flight));
        }
        if memory.flights.len() >= DNS_FLIGHTS_MAX {
            return Err(Trouble::Busy);
        }
        let flight = Rc::<Flight>::default();
        memory.flights.insert(question.clone(), Rc::clone(&flight));
        drop(memory);
        let (this, landing) = (self.clone(), Rc::clone(&flight));
        self.env.spawn(async move {
            let known = this.fetch(&question).await;
            landing.answer.set(Some(known.answer.clone()));
            this.memory.borrow_mut().remember(question, known, this.generation_max);
            landing.landed.ring();
        });
        Ok(flight)
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
        };
        self.count(|stats| stats.failed += 1);
        Known { answer: Err(trouble), until: now.after(DNS_FAILURE_TTL) }
    }
}

impl Memory {
    /// What is known and still holds.
    fn recall<E: Env>(&mut self, question: &Question, resolver: &Resolver<E>) -> Option<Answer> {
        let now = resolver.env.now();
        if let Some(known) = self.young.get(question) {
            return (known.until > now).then(|| known.answer.clone());
        }
        let known = self.old.remove(question).filter(|known| known.until > now)?;
        let answer = known.answer.clone();
        self.keep(question.clone(), known, resolver.generation_max);
        Some(answer)
    }

    fn remember(&mut self, question: Question, known: Known, generation_max: usize) {
        self.flights.remove(&question);
        self.keep(question, known, generation_max);
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

    /// A resolver over a script, which counts what it is asked: `slow` answers after 2 s, `dead`
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
                        "dead" => Duration::from_hours(1),
                        _ => Duration::from_millis(1),
                    };
                    env.sleep(pause).await;
                    match &*name {
                        "bad" => Err(Failed::Servers("bad".into())),
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
}
