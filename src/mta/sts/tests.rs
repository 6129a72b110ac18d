//! Policies of a scripted world: what the DNS says, what hosts serve, and when.

use super::*;
use crate::concierge::Concierge;
use crate::concierge::dns::Found;
use crate::dns::Asked;
use crate::env::sim::{Faults, Sim, SimEnv};
use futures_lite::future::zip;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

const DAY: Duration = Duration::from_hours(24);

/// What is published, and what was asked for.
#[derive(Clone)]
struct World {
    env: SimEnv,
    record: Rc<RefCell<Option<String>>>,
    /// The file, or why there is none.
    file: Arc<RwLock<Result<String, String>>>,
    fetched: Arc<AtomicUsize>,
}

impl World {
    fn new(sim: &Sim) -> World {
        sim.set_wall(Wall(1_800_000_000_000_000));
        World {
            env: sim.env(0),
            record: Rc::default(),
            file: Arc::new(RwLock::new(Err("connection refused".into()))),
            fetched: Arc::default(),
        }
    }

    fn publish(&self, id: &str, file: &str) {
        self.tell(id);
        self.serve(Ok(file));
    }

    fn tell(&self, id: &str) {
        *self.record.borrow_mut() = (!id.is_empty()).then(|| format!("v=STSv1; id={id}"));
    }

    fn serve(&self, file: Result<&str, &str>) {
        *self.file.write().unwrap() = file.map(Into::into).map_err(Into::into);
    }

    fn resolver(&self) -> Resolver<SimEnv> {
        let record = Rc::clone(&self.record);
        let ask = move |kind, _, name: &str| -> Asked {
            assert_eq!((kind, name), (Kind::Txt, "_mta-sts.a.example"));
            let records =
                record.borrow().iter().map(|text| Data::Text(text.as_bytes().into())).collect();
            Box::pin(async move { Ok(Found::plain(records, Duration::from_secs(1))) })
        };
        Resolver::new(self.env.clone(), Duration::from_secs(5), 100, ask)
    }

    fn policies(&self, journal: Option<(Journal, Vec<String>)>) -> Policies {
        let (file, fetched) = (Arc::clone(&self.file), Arc::clone(&self.fetched));
        let fetch = move |domain: &str| -> Fetching {
            assert_eq!(domain, "a.example");
            fetched.fetch_add(1, Ordering::Relaxed);
            let file = file.read().unwrap().clone();
            Box::pin(async move {
                futures_lite::future::yield_now().await;
                file.map(String::into_bytes).map_err(|why| Failed(why.into()))
            })
        };
        Policies::new(fetch, DAY, journal, self.env.wall())
    }

    fn fetched(&self) -> usize {
        self.fetched.swap(0, Ordering::Relaxed)
    }
}

fn file(mode: &str, max_age: Duration) -> String {
    let max_age = max_age.as_secs();
    format!("version: STSv1\nmode: {mode}\nmax_age: {max_age}\nmx: mx.a.example\n")
}

/// The mode, and the trouble, in words.
fn told(applied: &Applied) -> (&str, String) {
    let mode = applied.policy.as_ref().map_or("", |policy| policy.mode.name());
    let trouble = match &applied.trouble {
        None => String::new(),
        Some(Trouble::Fetch(why)) => format!("fetch: {why}"),
        Some(Trouble::Certificate(why)) => format!("certificate: {why}"),
        Some(Trouble::Invalid(why)) => format!("invalid: {why}"),
    };
    (mode, trouble)
}

#[test]
fn a_policy_is_fetched_once_and_anew_when_its_id_changes() {
    let sim = Sim::new(1, Faults::none());
    let world = World::new(&sim);
    let (env, dns, policies) = (&world.env, world.resolver(), world.policies(None));
    sim.run_until(async {
        let ask = || policies.applied(env, &dns, "a.example");
        assert_eq!(told(&ask().await), ("", String::new()));
        env.sleep(Duration::from_secs(2)).await;
        world.publish("1", &file("enforce", 10 * DAY));
        let (one, other) = zip(ask(), ask()).await;
        assert_eq!(
            (told(&one), told(&other)),
            (("enforce", String::new()), ("enforce", String::new()))
        );
        assert_eq!(world.fetched(), 1);
        // Whatever the file says now, it is the same policy while the id is the same.
        world.serve(Ok(&file("testing", DAY)));
        env.sleep(Duration::from_secs(2)).await;
        assert_eq!((told(&ask().await), world.fetched()), (("enforce", String::new()), 0));
        world.tell("2");
        env.sleep(Duration::from_secs(2)).await;
        assert_eq!((told(&ask().await), world.fetched()), (("testing", String::new()), 1));
        // That a domain has given it up is a policy too, as good as none.
        world.publish("3", &file("none", DAY));
        env.sleep(Duration::from_secs(2)).await;
        assert_eq!((told(&ask().await), world.fetched()), (("", String::new()), 1));
        assert_eq!((told(&ask().await), world.fetched()), (("", String::new()), 0));
    })
    .unwrap();
}

/// RFC 8461 §3.3: whoever keeps the DNS or the host from us does not get rid of it before its time.
#[test]
fn a_policy_holds_until_its_end_whatever_fails() {
    let sim = Sim::new(1, Faults::none());
    let world = World::new(&sim);
    let (env, dns, policies) = (&world.env, world.resolver(), world.policies(None));
    sim.run_until(async {
        let ask = || policies.applied(env, &dns, "a.example");
        world.publish("1", &file("enforce", 3 * DAY));
        assert_eq!(told(&ask().await), ("enforce", String::new()));
        world.tell("");
        world.serve(Err("connection refused"));
        env.sleep(2 * DAY).await;
        let gone = "fetch: the DNS tells of no policy any more".to_owned();
        assert_eq!(told(&ask().await), ("enforce", gone));
        world.tell("2");
        env.sleep(Duration::from_secs(2)).await;
        assert_eq!(told(&ask().await), ("enforce", "fetch: connection refused".into()));
        env.sleep(DAY).await;
        assert_eq!(told(&ask().await), ("", "fetch: connection refused".into()));
        world.tell("");
        env.sleep(Duration::from_secs(2)).await;
        assert_eq!(told(&ask().await), ("", String::new()));
    })
    .unwrap();
}

#[test]
fn what_failed_is_not_fetched_again_for_a_while_but_another_id_is() {
    let sim = Sim::new(1, Faults::none());
    let world = World::new(&sim);
    let (env, dns, policies) = (&world.env, world.resolver(), world.policies(None));
    sim.run_until(async {
        let ask = || policies.applied(env, &dns, "a.example");
        world.publish("1", "<html>");
        let malformed = "invalid: line 1 of the policy is malformed".to_owned();
        for count in [1, 0, 0] {
            assert_eq!(told(&ask().await), ("", malformed.clone()));
            assert_eq!(world.fetched(), count);
        }
        world.serve(Err("invalid peer certificate: UnknownIssuer"));
        env.sleep(STS_RETRY_PAUSE).await;
        let untrusted = "certificate: invalid peer certificate: UnknownIssuer".to_owned();
        assert_eq!((told(&ask().await), world.fetched()), (("", untrusted), 1));
        world.publish("2", &file("enforce", DAY));
        env.sleep(Duration::from_secs(2)).await;
        assert_eq!((told(&ask().await), world.fetched()), (("enforce", String::new()), 1));
    })
    .unwrap();
}

/// Once a day, so that it holds on: by who sends, without waiting, and where nobody does.
#[test]
fn a_policy_is_renewed_before_it_ends() {
    let sim = Sim::new(1, Faults::none());
    let world = World::new(&sim);
    let (env, dns, policies) = (&world.env, world.resolver(), world.policies(None));
    sim.run_until(async {
        let ask = || policies.applied(env, &dns, "a.example");
        world.publish("1", &file("enforce", 2 * DAY));
        ask().await;
        world.serve(Ok(&file("testing", 2 * DAY)));
        env.sleep(DAY + Duration::from_secs(1)).await;
        assert_eq!(told(&ask().await), ("enforce", String::new()), "it is not waited for");
        env.sleep(Duration::from_secs(1)).await;
        assert_eq!((told(&ask().await), world.fetched()), (("testing", String::new()), 2));
        for _ in 0..30 {
            env.sleep(Duration::from_hours(10)).await;
            policies.renew(env, &dns).await;
        }
        assert_eq!(world.fetched(), 10);
        // While the host is gone it is tried each time, and forgotten in the end.
        world.serve(Err("connection refused"));
        for _ in 0..10 {
            env.sleep(Duration::from_hours(10)).await;
            policies.renew(env, &dns).await;
        }
        assert_eq!((policies.count(), world.fetched()), (0, 2));
    })
    .unwrap();
}

#[test]
fn a_restart_forgets_no_policy() {
    let sim = Sim::new(1, Faults::none());
    let world = World::new(&sim);
    let dir = tempfile::tempdir().unwrap();
    let concierge = Concierge::start().unwrap();
    let open = || Journal::open(&concierge, dir.path().join("mta-sts.journal"), 1 << 20).unwrap();
    let (env, dns) = (&world.env, world.resolver());
    sim.run_until(async {
        world.publish("1", &file("enforce", 3 * DAY));
        let policies = world.policies(Some(open()));
        assert_eq!(
            told(&policies.applied(env, &dns, "a.example").await),
            ("enforce", String::new())
        );
    })
    .unwrap();
    futures_lite::future::block_on(concierge.run(async {}).unwrap()).unwrap();
    sim.run_until(async {
        world.serve(Err("connection refused"));
        let policies = world.policies(Some(open()));
        assert_eq!(
            told(&policies.applied(env, &dns, "a.example").await),
            ("enforce", String::new())
        );
        assert_eq!(world.fetched(), 1);
        env.sleep(3 * DAY).await;
        assert_eq!(world.policies(Some(open())).count(), 0);
    })
    .unwrap();
}
