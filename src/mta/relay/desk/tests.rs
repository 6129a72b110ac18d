//! The desk of a shard that runs in the simulation, and of a log that was opened alone.

use super::ask::{Done, Filter, Next, Order, Row};
use super::*;
use crate::concierge::dns::Failed;
use crate::dns::{Asked, Resolver};
use crate::env::sim::{Disk, Faults, Sim, SimEnv};
use crate::mailbox::{Accounts, Judge, Message, Quota};
use crate::model::address::Address;
use crate::model::id::{AccountId, BlobId, LogId};
use crate::model::reply::Enhanced;
use crate::mta::away::Away;
use crate::mta::intake::Intake;
use crate::mta::message::{Envelope, Places, Rcpt};
use crate::mta::options::MailOptions;
use crate::mta::peers::{Answer, Request, Unreachable};
use crate::mta::published::{Known, Published};
use crate::mta::relay::attempt::Attempt;
use crate::mta::relay::{Counts, Encrypting, Host, Route, Settings, Signed};
use crate::mta::route::{self, Router};
use crate::queue::Spool;
use crate::queue::outgoing::record::{Add, put_add};
use crate::queue::outgoing::{Entry, Envelope as About, Flags, QueueId, Said, Stage, To};
use crate::queue::sites::Sites;
use crate::store::record::kind;
use crate::store::{Identity, Machine};
use crate::tls::Caller;
use crate::wire::smtp::later::Hold;
use std::collections::BTreeSet;
use std::future::ready;
use std::path::Path;
use std::time::Duration;

/// There are no other shards.
pub(in crate::mta::relay) struct Nobody;

impl Peers for Nobody {
    fn ask(
        &self,
        _: LogId,
        _: Request,
    ) -> impl Future<Output = Result<Answer, Unreachable>> + 'static {
        ready(Err(Unreachable::Lost))
    }
}

const SENDER: AccountId = AccountId(7);

/// Senders have a mailbox here, where the directory knows them and is in order; all other mail goes to a
/// port that nobody listens at.
struct Home(RefCell<Rc<Settings>>);

impl Host for Home {
    fn settings(&self) -> Rc<Settings> {
        Rc::clone(&self.0.borrow())
    }

    fn find(&self, address: &Address, _: bool) -> Result<Places, Said> {
        let to = Rcpt { log: LogId(0), account: SENDER, quota: Quota::NONE };
        match address.domain() {
            "s.example" => Ok(Places { accounts: vec![to], ..Places::default() }),
            "broken.example" => Err(Said::ours(451, Enhanced(3, 0), "out of order")),
            _ => Err(Said::ours(550, Enhanced(1, 1), "nobody")),
        }
    }

    fn passed_on(&self, sender: &Address) -> Address {
        sender.clone()
    }

    fn name_message(&self) -> String {
        "report".into()
    }

    fn sign(&self, message: Vec<u8>, _: &str) -> Signed {
        Box::pin(ready(Some(message)))
    }
}

pub(in crate::mta::relay) struct Shard {
    desk: Desk<SimEnv, Nobody>,
    pub(in crate::mta::relay) intake: Intake<SimEnv, Nobody>,
    pub(in crate::mta::relay) relay: Relay<SimEnv, Nobody>,
    home: Rc<Home>,
}

/// Where the server of a domain listens: names with a number have their own.
pub(in crate::mta::relay) fn port_of(domain: &str) -> u16 {
    domain.strip_prefix('n').and_then(|rest| rest.get(..1)?.parse::<u16>().ok()).unwrap_or(25)
        + 2_500
}

async fn open(env: SimEnv, settings: Settings) -> Shard {
    let accounts = Rc::new(RefCell::new(Accounts::new()));
    let spool = Rc::new(RefCell::new(Spool::new()));
    let outgoing = Rc::new(RefCell::new(Outgoing::new()));
    let mailboxes: Rc<RefCell<dyn Machine>> = Rc::<RefCell<Accounts>>::clone(&accounts);
    let queue: Rc<RefCell<dyn Machine>> = Rc::<RefCell<Outgoing>>::clone(&outgoing);
    let registry = vec![
        (kind::MAILBOX_FIRST..=kind::MAILBOX_LAST, mailboxes),
        (kind::QUEUE_FIRST..=kind::QUEUE_LAST, queue),
    ];
    let identity = Identity { store: 42, log: LogId(0), first_logs: 1 };
    let store =
        crate::store::Settings { segment_octets: 1 << 20, ..crate::store::Settings::default() };
    let opened = Log::open(env.clone(), Path::new("/log"), identity, store, registry).await;
    let log = opened.expect("the log opens").0;
    let intake = Intake::new(log, accounts, spool, outgoing, Rc::new(Nobody));
    let ask = |_, _, _: &str| -> Asked { Box::pin(ready(Err(Failed::Servers("none".into())))) };
    let dns = Resolver::new(env.clone(), Duration::from_secs(5), 100, ask);
    let routes = Rc::new(route::Settings {
        hostname: "mx.s.example".into(),
        port: 25,
        ipv4: true,
        ipv6: true,
        is_own: Rc::new(|_| false),
        route: Rc::new(|domain| {
            Some((0, route::Relay::Address(([127, 0, 0, 1], port_of(domain)).into())))
        }),
    });
    let router = Router::new(env.clone(), &dns, move || Rc::clone(&routes));
    let published = Published::new(env, &dns, Known::default());
    let encrypting = Encrypting {
        caller: Caller::trusting_nobody(),
        aside: Rc::new(|step| Box::pin(ready(Some(step())))),
    };
    let home = Rc::new(Home(RefCell::new(Rc::new(settings))));
    let host = Rc::<Home>::clone(&home);
    let (sites, figures) = (Sites::default(), Counts::default());
    let relay = Relay::new(intake.clone(), router, sites, (encrypting, published), host, figures);
    Shard { desk: Desk::of(relay.clone()), intake, relay, home }
}

fn address(text: &str) -> Address {
    let (local, domain) = text.split_once('@').unwrap();
    Address::from_parts(local, domain)
}

pub(in crate::mta::relay) fn away(name: &str, sender: &str, recipients: &[&str]) -> Away {
    let to = |text: &&str| To { address: address(text), notify: None, orcpt: None };
    Away {
        name: name.into(),
        sender: (!sender.is_empty()).then(|| address(sender)),
        options: MailOptions::default(),
        recipients: recipients.iter().map(to).collect(),
        utf8: false,
        is_here: false,
        is_signed: false,
        via: None,
        before: None,
    }
}

const ALL: Cut = Cut { after: 0, most: usize::MAX, before: u32::MAX };

fn domain(name: &str) -> Filter {
    Filter { domain: Some(name.into()), ..Filter::default() }
}

impl Shard {
    pub(in crate::mta::relay) async fn send(&self, away: Away) {
        self.send_octets(away, b"Subject: x\r\n\r\nx\r\n".to_vec()).await;
    }

    pub(in crate::mta::relay) async fn send_octets(&self, away: Away, octets: Vec<u8>) {
        let message = Message::new(octets, false, true, self.relay.now());
        let envelope = Envelope { recipients: vec![], away: vec![away], judge: Judge::Together };
        let outcomes = self.intake.accept(&envelope, message).await;
        assert!(outcomes.iter().all(|outcome| outcome.is_stored()), "{outcomes:?}");
    }

    /// Five entries: a message for two domains, one for a third with two recipients, a report, and one
    /// that its sender wants to go later.
    async fn fill(&self) {
        let both = ["r@a.example", "r@b.example"];
        self.send(away("1.0.1", "Ann@s.example", &both)).await;
        self.send(away("1.0.2", "bob@s.example", &["r@c.example", "Q@c.example"])).await;
        self.send(away("1.0.3", "", &["ann@a.example"])).await;
        let mut later = away("1.0.4", "ann@s.example", &["late@a.example"]);
        later.options.hold = Some(Hold::For(5_000));
        self.send(later).await;
    }

    async fn rows(&self, filter: Filter, cut: Cut) -> (Vec<Row>, Option<u64>) {
        match self.desk.answer(Ask::List { filter, cut }).await {
            Reply::Rows { rows, next, .. } => (rows, next),
            other => panic!("{other:?}"),
        }
    }

    /// The entries that a filter finds, as `number state`.
    async fn found(&self, filter: Filter) -> String {
        let (rows, next) = self.rows(filter, ALL).await;
        assert_eq!(next, None);
        let shown = rows.iter().map(|row| format!("{} {}", row.queue, row.next.name()));
        shown.collect::<Vec<_>>().join(", ")
    }

    async fn order(&self, order: Order, filter: Filter) -> (u64, u64, u64, u64) {
        match self.desk.answer(Ask::Order { order, filter, cut: ALL }).await {
            Reply::Done { done: Done { done, busy, held, unchanged }, next: None } => {
                (done, busy, held, unchanged)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Changes which routes there are, as a reload does.
    fn set_routes(&self, patterns: &[&str]) {
        let route = |pattern: &&str| Route { pattern: (*pattern).into(), ..Route::default() };
        let routes = patterns.iter().map(route).collect();
        *self.home.0.borrow_mut() = Rc::new(Settings { routes, ..Settings::default() });
    }

    async fn pause(&self, on: bool, pause: Pause) -> Reply {
        self.desk.answer(Ask::Pause { on, pause }).await
    }
}

/// One life of a shard on a disk; comes back with what is on it after a crash.
pub(in crate::mta::relay) fn live(disk: Disk, life: impl AsyncFnOnce(Shard, SimEnv)) -> Disk {
    live_with(Settings::default(), disk, life)
}

pub(in crate::mta::relay) fn live_with(
    settings: Settings,
    disk: Disk,
    life: impl AsyncFnOnce(Shard, SimEnv),
) -> Disk {
    let sim = Sim::with_disk(1, Faults::none(), disk);
    sim.allow_leaks();
    let env = sim.env(0);
    let living = async {
        let shard = open(env.clone(), settings).await;
        life(shard, env).await;
    };
    sim.run_until(living).unwrap_or_else(|halt| panic!("{halt}"));
    sim.crash().disk()
}

#[test]
fn finds_entries_by_each_filter() {
    live(Disk::new(), async |shard, _| {
        shard.fill().await;
        let all = Filter::default();
        let everything = "0.1 ready, 0.2 ready, 0.3 ready, 0.4 ready, 0.5 later";
        assert_eq!(shard.found(all.clone()).await, everything);
        let with = |set: fn(&mut Filter, String), text: &str| {
            let mut filter = Filter::default();
            set(&mut filter, text.into());
            filter
        };
        let id = |text| with(|filter, text| filter.id = Some(text), text);
        let sender = |text| with(|filter, text| filter.sender = Some(text), text);
        let recipient = |text| with(|filter, text| filter.recipient = Some(text), text);
        for (filter, want) in [
            (id("0.3"), "0.3 ready"),
            (id("1.0.1"), "0.1 ready, 0.2 ready"),
            (id("1.3"), ""),
            (id("0.9"), ""),
            (id("nonsense"), ""),
            (sender("ANN@s.example"), "0.1 ready, 0.2 ready, 0.5 later"),
            (sender("<>"), "0.4 ready"),
            (sender("ann@a.example"), ""),
            (recipient("q@C.example"), "0.3 ready"),
            (recipient("ann@s.example"), ""),
            (domain("A.Example"), "0.1 ready, 0.4 ready, 0.5 later"),
            (domain("d.example"), ""),
            (
                Filter { sender: Some("ann@s.example".into()), ..domain("a.example") },
                "0.1 ready, 0.5 later",
            ),
            (Filter { id: Some("1.0.1".into()), ..domain("b.example") }, "0.2 ready"),
            (Filter { id: Some("0.1".into()), ..domain("b.example") }, ""),
        ] {
            assert_eq!(shard.found(filter.clone()).await, want, "{filter:?}");
        }
        for filter in [sender("ann"), recipient("@"), domain("a b"), domain("[1.2.3]")] {
            let told = shard.desk.answer(Ask::List { filter: filter.clone(), cut: ALL }).await;
            assert!(matches!(told, Reply::Wrong(_)), "{filter:?}: {told:?}");
        }
        let now = shard.relay.now();
        let old = Cut { before: now - 1, ..ALL };
        assert_eq!(shard.rows(all, old).await.0.len(), 0);
    });
}

#[test]
fn parts_of_a_list_miss_nothing_and_repeat_nothing() {
    live(Disk::new(), async |shard, _| {
        for number in 0..40 {
            let to = format!("r{number}@a.example");
            shard.send(away(&format!("1.0.{number}"), "ann@s.example", &[&to])).await;
        }
        let sender = Filter { sender: Some("ann@s.example".into()), ..Filter::default() };
        for filter in [Filter::default(), domain("a.example"), sender] {
            let (mut seen, mut after) = (BTreeSet::new(), Some(0));
            while let Some(place) = after {
                let cut = Cut { after: place, most: 7, ..ALL };
                let (rows, next) = shard.rows(filter.clone(), cut).await;
                assert!(rows.len() <= 7);
                // What was seen goes; what comes is not missed for it.
                for row in rows {
                    assert!(seen.insert(row.queue), "it was seen before");
                }
                after = next;
            }
            assert_eq!(seen.len(), 40, "{filter:?}");
        }
        let cut = Cut { most: 10, ..ALL };
        let filter = domain("a.example");
        let told = shard.desk.answer(Ask::Order { order: Order::Delete, filter, cut }).await;
        assert!(matches!(told, Reply::Done { next: Some(_), done } if done.done == 10), "{told:?}");
        assert_eq!(shard.rows(Filter::default(), ALL).await.0.len(), 30);
    });
}

#[test]
fn what_was_ordered_outlives_a_crash() {
    let disk = live(Disk::new(), async |shard, _| {
        shard.fill().await;
        assert_eq!(shard.order(Order::Hold, domain("a.example")).await, (3, 0, 0, 0));
        assert_eq!(shard.order(Order::Hold, domain("a.example")).await, (0, 0, 0, 3));
        // Who is held, or wants to go later, is not simply tried.
        assert_eq!(shard.order(Order::Retry, Filter::default()).await, (2, 0, 3, 0));
        assert_eq!(shard.order(Order::Delete, domain("c.example")).await, (1, 0, 0, 0));
        assert_eq!(shard.order(Order::Delete, domain("c.example")).await, (0, 0, 0, 0));
        let was = shard.pause(true, Pause::Domain("B.Example".into())).await;
        assert_eq!(was, Reply::Paused { was: false });
        let was = shard.pause(true, Pause::Domain("b.example".into())).await;
        assert_eq!(was, Reply::Paused { was: true });
        assert!(matches!(shard.pause(true, Pause::Sender("x".into())).await, Reply::Wrong(_)));
    });
    let disk = live(disk, async |shard, _| {
        let all = Filter::default();
        let held = "0.1 held, 0.2 paused, 0.4 held, 0.5 held";
        assert_eq!(shard.found(all.clone()).await, held);
        assert_eq!(shard.order(Order::Release, all.clone()).await, (3, 0, 0, 1));
        shard.pause(false, Pause::Domain("b.example".into())).await;
        // The one for later goes now as well.
        assert_eq!(shard.found(all).await, "0.1 ready, 0.2 ready, 0.4 ready, 0.5 ready");
    });
    live(disk, async |shard, _| {
        assert_eq!(shard.found(Filter::default()).await.matches("ready").count(), 4);
    });
}

#[test]
fn a_route_that_is_stopped_stops_what_takes_it() {
    live(Disk::new(), async |shard, env| {
        shard.set_routes(&["b.example", "*.example"]);
        shard.send(away("1.0.1", "ann@s.example", &["r@a.example", "r@b.example"])).await;
        let mut here = away("1.0.2", "ann@s.example", &["bob@s.example"]);
        (here.is_here, here.options.hold) = (true, Some(Hold::For(1)));
        shard.send(here).await;
        for unknown in ["c.example", "*", "a b"] {
            let said = shard.pause(true, Pause::Route(unknown.into())).await;
            assert!(matches!(said, Reply::Wrong(_)), "{said:?}");
        }
        let stopped = Pause::Route("*.example".into());
        let was = shard.pause(true, Pause::Route("*.EXAMPLE".into())).await;
        assert_eq!(was, Reply::Paused { was: false });
        env.spawn(shard.relay.clone().run());
        env.sleep(Duration::from_secs(10)).await;
        // Mail for users here takes no route.
        assert_eq!(shard.found(Filter::default()).await, "0.1 paused, 0.2 waits");
        let (rows, _) = shard.rows(Filter::default(), ALL).await;
        assert_eq!(rows[0].next, Next::Paused { by: vec![stopped.clone()] });
        assert_eq!((rows[0].attempts, rows[1].attempts), (0, 1));
        // It has a route of its own now.
        shard.set_routes(&["a.example", "*.example"]);
        env.sleep(Duration::from_mins(2)).await;
        assert_eq!(shard.rows(Filter::default(), ALL).await.0[0].attempts, 1);
        // A route that is gone can go on all the same.
        shard.set_routes(&[]);
        assert_eq!(shard.pause(false, stopped).await, Reply::Paused { was: true });
        shard.relay.stop();
    });
}

#[test]
fn leaves_alone_what_is_being_delivered() {
    live(Disk::new(), async |shard, _| {
        shard.fill().await;
        let until = shard.relay.now() + 100;
        let stage = Stage::Active(until);
        shard.intake.outgoing().borrow_mut().set_stage(QueueId(1), stage);
        let one = || Filter { id: Some("1.0.1".into()), ..Filter::default() };
        for order in [Order::Retry, Order::Hold, Order::Delete, Order::Bounce] {
            let (done, busy, ..) =
                shard.order(order, Filter { domain: Some("a.example".into()), ..one() }).await;
            assert_eq!((done, busy), (0, 1), "{order:?}");
        }
        assert_eq!(shard.found(one()).await, "0.1 active, 0.2 ready");
    });
}

#[test]
fn returns_messages_to_their_senders() {
    live(Disk::new(), async |shard, _| {
        shard.fill().await;
        assert_eq!(shard.order(Order::Bounce, Filter::default()).await, (5, 0, 0, 0));
        assert_eq!(shard.found(Filter::default()).await, "");
        // The report has no sender: nobody is told of it.
        assert_eq!(shard.intake.accounts().borrow().usage(SENDER).messages, 4);
        assert!(shard.intake.outgoing().borrow().is_sound());
    });
    let disk = live(Disk::new(), async |shard, _| shard.fill().await);
    live(disk, async |shard, _| {
        let (log, outgoing) = (shard.intake.log().clone(), Rc::clone(shard.intake.outgoing()));
        let desk: Desk<SimEnv, Nobody> = Desk::alone(log, outgoing);
        let (order, filter) = (Order::Bounce, Filter::default());
        let told = desk.answer(Ask::Order { order, filter, cut: ALL }).await;
        assert!(matches!(told, Reply::Failed(_)), "{told:?}");
        assert_eq!(shard.found(Filter::default()).await.matches("0.").count(), 5);
    });
}

#[test]
fn keeps_a_report_whose_reader_cannot_be_looked_up() {
    live(Disk::new(), async |shard, _| {
        shard.send(away("1.0.1", "ann@broken.example", &["r@a.example"])).await;
        shard.send(away("1.0.2", "ann@gone.example", &["r@a.example"])).await;
        assert_eq!(shard.order(Order::Bounce, Filter::default()).await, (2, 0, 0, 0));
        let (rows, _) = shard.rows(Filter::default(), ALL).await;
        let shown: Vec<_> =
            rows.iter().map(|row| (&*row.domain, &*row.sender, row.attempts)).collect();
        assert_eq!(shown, [("broken.example", "", 0)]);
    });
}

#[test]
fn puts_off_what_an_attempt_breaks_off() {
    live(Disk::new(), async |shard, env| {
        shard.send(away("1.0.1", "ann@s.example", &["r@a.example"])).await;
        let id = QueueId(1);
        let stage = || shard.intake.outgoing().borrow().get(id).map(Entry::stage);
        let size = shard.intake.outgoing().borrow().get(id).unwrap().size;
        for pause in [60, 120, 240, 480, 960, 1_920, 3_840] {
            let attempt = Attempt::new(&shard.relay, id);
            assert_eq!(stage(), Some(Stage::Active(Attempt::until(&shard.relay, size))));
            drop(attempt);
            let at = shard.relay.now() + pause;
            assert_eq!(stage(), Some(Stage::PutOff(at)));
            assert_eq!(shard.rows(Filter::default(), ALL).await.0[0].next, Next::Waits { at });
            assert!(shard.intake.outgoing().borrow().is_sound());
        }
        // It goes on by itself, and what it comes to then counts.
        env.spawn(shard.relay.clone().run());
        env.sleep(Duration::from_mins(63)).await;
        assert_eq!(shard.rows(Filter::default(), ALL).await.0[0].attempts, 0);
        env.sleep(Duration::from_mins(2)).await;
        assert!(shard.rows(Filter::default(), ALL).await.0[0].attempts > 0);
        drop(Attempt::new(&shard.relay, id));
        assert_eq!(stage(), Some(Stage::PutOff(shard.relay.now() + 60)));
        // Who had it before does not end what somebody else has begun.
        let (first, second) = (Attempt::new(&shard.relay, id), Attempt::new(&shard.relay, id));
        drop(first);
        assert!(matches!(stage(), Some(Stage::Active(_))));
        drop(second);
        assert_eq!(stage(), Some(Stage::PutOff(shard.relay.now() + 120)));
        // Retried as soon as that is ordered, and an attempt that comes to something makes good the others.
        assert_eq!(shard.order(Order::Retry, Filter::default()).await, (1, 0, 0, 0));
        let before = env.now();
        while shard.rows(Filter::default(), ALL).await.0[0].attempts < 2 {
            env.sleep(Duration::from_millis(100)).await;
        }
        assert!(env.now().since(before) < Duration::from_secs(30));
        drop(Attempt::new(&shard.relay, id));
        assert_eq!(stage(), Some(Stage::PutOff(shard.relay.now() + 60)));
        // An order is heeded at once; what is gone is put off no more.
        assert_eq!(shard.order(Order::Delete, Filter::default()).await, (1, 0, 0, 0));
        drop(Attempt::new(&shard.relay, id));
        assert_eq!(stage(), None);
        shard.relay.stop();
    });
}

#[test]
fn what_breaks_off_each_time_comes_back_when_its_time_is_over() {
    live(Disk::new(), async |shard, env| {
        let here = Away { is_here: true, ..away("1.0.1", "ann@s.example", &["bob@s.example"]) };
        shard.send(here).await;
        (0..3).for_each(|_| drop(Attempt::new(&shard.relay, QueueId(1))));
        env.sleep(Duration::from_hours(24 * 6)).await;
        env.spawn(shard.relay.clone().run());
        env.sleep(Duration::from_mins(1)).await;
        let figures = shard.relay.figures();
        assert_eq!(
            (figures.expired.get(), figures.reports.get(), figures.delivered.get()),
            (1, 1, 0)
        );
        assert!(shard.intake.outgoing().borrow().is_empty());
        shard.relay.stop();
    });
}

#[test]
fn tries_at_once_what_is_to_be_tried() {
    live(Disk::new(), async |shard, env| {
        env.spawn(shard.relay.clone().run());
        shard.send(away("1.0.1", "ann@s.example", &["r@a.example"])).await;
        let attempts = async |least: u16| loop {
            let row = shard.rows(Filter::default(), ALL).await.0.remove(0);
            if row.attempts >= least && row.next != Next::Active {
                break row;
            }
            env.sleep(Duration::from_millis(100)).await;
        };
        let row = attempts(1).await;
        assert!(matches!(row.next, Next::Waits { .. }), "{row:?}");
        assert!(row.recipients[0].said.is_some(), "{row:?}");
        let before = env.now();
        assert_eq!(shard.order(Order::Retry, Filter::default()).await, (1, 0, 0, 0));
        let row = attempts(2).await;
        // The site was to be left alone for a minute at least.
        assert!(env.now().since(before) < Duration::from_secs(30), "{row:?}");
        let ask = Ask::Way { domain: "A.example".into(), sender: String::new(), look_up: true };
        let Reply::Way(way) = shard.desk.answer(ask).await else { panic!("no way") };
        let site = way.lane.site.expect("it was tried");
        assert_eq!((way.entries, site.name.as_str(), site.failures), (1, "127.0.0.1:2525", 2));
        assert!(site.rests_until.is_some() && way.servers.expect("looked up").found);
        shard.order(Order::Hold, Filter::default()).await;
        env.sleep(Duration::from_hours(1)).await;
        assert_eq!(attempts(0).await.attempts, 2);
        shard.relay.stop();
    });
}

/// A queue without a log: a million entries are as good as these, for what is looked at is counted.
fn many(entries: u64) -> Outgoing {
    let mut outgoing = Outgoing::new();
    for number in 1..=entries {
        let mut group = Group::new();
        let name = match number % 10 {
            0 => "rare.example",
            _ => "big.example",
        };
        let recipients = vec![To {
            address: Address::from_parts(&format!("r{number}"), name),
            notify: None,
            orcpt: None,
        }];
        let add = Add {
            queue: outgoing.assign(),
            blob: BlobId(number),
            size: 1,
            arrived: 100,
            due: 100,
            warn: 200,
            expires: 300,
            flags: if number % 4 == 0 { Flags::HELD } else { Flags::default() },
            priority: 0,
            marks: 0,
            domain: name.into(),
            envelope: About {
                name: format!("m.{number}").into(),
                sender: Some(Address::from_parts("bulk", "s.example")),
                envid: None,
                by: None,
                hold: None,
                via: None,
                recipients,
            },
        };
        put_add(&mut group, &add);
        outgoing.take(&group);
    }
    outgoing
}

#[test]
fn looks_at_no_more_than_it_shows_however_many_there_are() {
    live(Disk::new(), async |shard, _| {
        let queue = Rc::new(RefCell::new(many(20_000)));
        let log = shard.intake.log().clone();
        let desk: Desk<SimEnv, Nobody> = Desk::alone(log, Rc::clone(&queue));
        let filter = |id: &str, recipient: &str, domain: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Filter {
                id: some(id),
                recipient: some(recipient),
                domain: some(domain),
                sender: some(if id.is_empty() { "bulk@s.example" } else { "" }),
            }
        };
        for (filter, most) in [
            (Filter::default(), 50),
            (domain("big.example"), 50),
            (domain("rare.example"), 50),
            (filter("0.4e20", "", ""), 1),
            (filter("m.19999", "", ""), 1),
            (filter("", "r19999@big.example", ""), 1),
            (filter("", "", "big.example"), 60),
        ] {
            let cut = Cut { most: 50, ..ALL };
            let told = desk.answer(Ask::List { filter: filter.clone(), cut }).await;
            let Reply::Rows { rows, looked, .. } = told else { panic!("{told:?}") };
            assert!(!rows.is_empty() && looked <= most, "{filter:?}: {looked}");
        }
        let stats = desk.stats(1);
        assert_eq!((stats.entries, stats.held, stats.oldest), (20_000, 5_000, Some(100)));
        assert_eq!(stats.recipients["untried"], 20_000);
        assert_eq!(
            (&*stats.destinations[0].domain, stats.destinations[0].entries),
            ("big.example", 18_000)
        );
    });
}
