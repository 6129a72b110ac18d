//! Accounts of several shards: users who are deleted, with the power going before the mail has, and
//! quotas while much is on its way.

use crate::case::{Bug, Case};
use crate::machine::{Machine, recover_twice};
use pombal::directory::Entry;
use pombal::env::Env as _;
use pombal::env::sim::{Faults, Sim};
use pombal::mailbox::{INBOX, Judge, Message, Quota, delete_account};
use pombal::mesh::Mesh;
use pombal::model::id::{AccountId, LogId, ShardId};
use pombal::model::reply::Class;
use pombal::mta::relay;
use pombal::mta::{Accepting, Envelope, Outcome, Rcpt};
use pombal::node::logs;
use pombal::node::shard::{assemble, open_state};
use pombal::server::shard::Figures;
use std::time::Duration;

/// Messages for each user; one for all of them, the others for him alone.
const MESSAGES: u32 = 3;

/// Where an account lies: as the directory says, or, of one that it does not know, anywhere.
fn home(machine: &Machine, account: u32) -> LogId {
    let directory = machine.ups[0].shard.directory();
    let name = format!("u{}@example.org", account.wrapping_sub(1));
    match directory.find(&name) {
        Some(Entry::User(user)) => user.log,
        _ => AccountId(account).log(machine.mesh.shards()),
    }
}

fn rcpt(machine: &Machine, account: u32) -> Rcpt {
    Rcpt { log: home(machine, account), account: AccountId(account), quota: Quota::NONE }
}

fn boot(sim: &Sim, case: &Case, is_new: bool) -> Machine {
    Machine::boot(sim, &case.host(), is_new).map_err(|error| error.to_string()).unwrap()
}

/// Hands a message in, again while the machine is busy.
async fn send(machine: &Machine, accounts: &[u32]) {
    loop {
        let outcomes = begin(machine, accounts).await;
        match outcomes.first() {
            Some(Outcome::Stored) => return,
            Some(&busy) if busy == Outcome::CROWDED => {}
            other => panic!("{other:?}"),
        }
        machine.env.sleep(Duration::from_millis(1)).await;
    }
}

fn begin(machine: &Machine, accounts: &[u32]) -> Accepting {
    let recipients = accounts.iter().map(|&account| rcpt(machine, account)).collect();
    let envelope = Envelope { recipients, away: Vec::new(), judge: Judge::Together };
    let parts = vec![b"Subject: x\r\n\r\nx\r\n".to_vec()];
    let message = Message { parts, internal_date: 1, ..Message::default() };
    machine.ups[0].shard.intake.accept(&envelope, message)
}

fn count(machine: &Machine, account: u32) -> u32 {
    let owner = usize::from(home(machine, account).0);
    machine.ups[owner].state.accounts.borrow().view(AccountId(account), INBOX).count()
}

fn blobs(machine: &Machine) -> u64 {
    machine.ups.iter().map(|up| up.state.log.figures().blobs).sum()
}

async fn delete_users(machine: &Machine, case: &Case) {
    let state = &machine.ups[0].state;
    let turn = state.ledger.turn().expect("nobody else changes the directory");
    let drafted = turn.draft(|draft| {
        draft.del_alias("all@example.org")?;
        (0..case.users)
            .try_for_each(|user| draft.del_user(&format!("u{user}@example.org")).map(drop))
    });
    let ((), group) = drafted.expect("these users are there");
    state.log.append(group).await.expect("nothing fails");
}

async fn until(machine: &Machine, is_so: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if is_so() {
            return;
        }
        machine.env.sleep(Duration::from_millis(1)).await;
    }
    panic!("it never comes to that");
}

#[test]
fn finishes_a_deletion_that_a_crash_cut_off() {
    for seed in 1..=12 {
        let case = Case::new(seed, Bug::None);
        let users = u32::try_from(case.users).unwrap();
        let sim = Sim::new(seed, Faults::none());
        sim.allow_leaks();
        let machine = boot(&sim, &case, true);
        let worked = sim.run_until(async {
            machine.set_up(&case).await;
            let all: Vec<u32> = (1..=users).collect();
            send(&machine, &all).await;
            for account in 1..=users {
                for _ in 1..MESSAGES {
                    send(&machine, &[account]).await;
                }
            }
            machine.settle().await.unwrap();
            assert!((1..=users).all(|account| count(&machine, account) == MESSAGES));
            delete_users(&machine, &case).await;
        });
        worked.map_err(|halt| halt.to_string()).unwrap();
        assert!(blobs(&machine) > 0);
        let sim = sim.crash();
        drop(machine);
        sim.allow_leaks();
        let machine = boot(&sim, &case, false);
        let swept = sim.run_until(async {
            until(&machine, || blobs(&machine) == 0).await;
            assert!((1..=users).all(|account| count(&machine, account) == 0));
            assert_eq!(machine.faults().await, Vec::<String>::new());
        });
        swept.map_err(|halt| halt.to_string()).unwrap();
        let sim = sim.crash();
        drop(machine);
        recover_twice(seed, sim.disk().fork(), &case.plan).unwrap();
    }
}

/// Deleted while mail for it is on its way: nothing comes behind the deletion in the log.
#[test]
fn deletes_an_account_that_mail_is_coming_in_for() {
    for seed in 1..=12 {
        let case = Case::new(seed, Bug::None);
        let sim = Sim::new(seed, Faults::none());
        sim.allow_leaks();
        let machine = boot(&sim, &case, true);
        let worked = sim.run_until(async {
            machine.set_up(&case).await;
            let is_in_first = |account: &u32| home(&machine, *account) == LogId(0);
            let account = (1..100).find(is_in_first).unwrap();
            let before = begin(&machine, &[account]);
            let state = &machine.ups[0].state;
            let (log, accounts) = (&state.log, &state.accounts);
            let mut deleting = Box::pin(delete_account(log, accounts, AccountId(account)));
            assert!(futures_lite::future::poll_once(&mut deleting).await.is_none());
            let behind = begin(&machine, &[account]).await;
            assert_eq!(behind.first().map(|one| one.class()), Some(Class::Permanent));
            assert_eq!(before.await, [Outcome::Stored]);
            deleting.await.unwrap();
            assert_eq!((count(&machine, account), blobs(&machine)), (0, 0));
            assert_eq!(machine.faults().await, Vec::<String>::new());
        });
        worked.map_err(|halt| halt.to_string()).unwrap();
    }
}

/// However much is under way at once from one shard, a quota on another one holds.
#[test]
fn a_quota_holds_for_what_is_on_its_way() {
    for seed in (1..=24).filter(|&seed| Case::new(seed, Bug::None).plan.shards > 1) {
        let case = Case::new(seed, Bug::None);
        let sim = Sim::new(seed, Faults::none());
        sim.allow_leaks();
        let machine = boot(&sim, &case, true);
        let worked = sim.run_until(async {
            machine.set_up(&case).await;
            let on = |shard| {
                let owned = |account: &u32| rcpt(&machine, *account).log.0 == shard;
                rcpt(&machine, (1..100).find(owned).unwrap())
            };
            let quota = Quota { octets: 170, ..Quota::NONE };
            let recipients = vec![on(0), Rcpt { quota, ..on(1) }];
            let under_way: Vec<Accepting> = (0..50)
                .map(|_| {
                    let parts = vec![b"Subject: x\r\n\r\nx\r\n".to_vec()];
                    let message = Message { parts, ..Message::default() };
                    let (recipients, away) = (recipients.clone(), Vec::new());
                    let envelope = Envelope { recipients, away, judge: Judge::Each };
                    machine.ups[0].shard.intake.accept(&envelope, message)
                })
                .collect();
            let mut stored = [0, 0];
            for accepting in under_way {
                let outcomes = accepting.await;
                for (count, outcome) in stored.iter_mut().zip(outcomes) {
                    *count += u32::from(outcome == Outcome::Stored);
                }
            }
            machine.settle().await.unwrap();
            let counts = [on(0), on(1)].map(|to| count(&machine, to.account.0));
            assert_eq!(counts, stored, "seed {seed}");
            assert!(counts[0] == 50 && (1..=10).contains(&counts[1]), "seed {seed}: {counts:?}");
            if case.inbox >= 50 {
                assert_eq!(counts[1], 10, "seed {seed}: 17 octets each");
            }
        });
        worked.map_err(|halt| halt.to_string()).unwrap();
    }
}

/// An owner that goes without an answer may have stored the message; one with a full inbox has not.
#[test]
fn an_answer_that_is_lost_is_neither_yes_nor_no() {
    let cases = (1..100).map(|seed| Case::new(seed, Bug::None));
    let case = cases.into_iter().find(|case| case.plan.shards > 1).unwrap();
    let sim = Sim::new(1, Faults::none());
    sim.allow_leaks();
    let worked = sim.run_until(async {
        let (env, mut plan) = (sim.env(0), case.plan.clone());
        plan.store.may_create = true;
        let (state, _) = open_state(env.clone(), &plan, LogId(0)).await.unwrap();
        let (mesh, mut inboxes) = Mesh::with_capacity(plan.shards, 1);
        let shard = assemble(
            env,
            &plan,
            ShardId(0),
            &state,
            mesh,
            (Figures::default(), relay::Counts::default()),
        );
        let accept = || {
            let to = Rcpt { log: LogId(1), account: AccountId(1), quota: Quota::NONE };
            let (recipients, away) = (vec![to], Vec::new());
            let envelope = Envelope { recipients, away, judge: Judge::Together };
            shard.intake.accept(&envelope, Message::default())
        };
        let lost = accept();
        assert_eq!(accept().await, [Outcome::CROWDED]);
        drop(inboxes[1].try_recv());
        assert_eq!(lost.await, [Outcome::Uncertain]);
    });
    worked.map_err(|halt| halt.to_string()).unwrap();
}

/// A `store.toml` of before logs were added is an old one: nothing is served then, and nothing overwritten.
#[test]
fn logs_that_hold_something_are_not_taken_for_new_ones() {
    let cases = (1..100).map(|seed| Case::new(seed, Bug::None));
    let case = cases.into_iter().find(|case| case.plan.shards == 2).unwrap();
    let sim = Sim::new(1, Faults::none());
    sim.allow_leaks();
    let machine = boot(&sim, &case, true);
    let worked = sim.run_until(async {
        machine.set_up(&case).await;
        send(&machine, &[2]).await;
        machine.settle().await.unwrap();
    });
    worked.map_err(|halt| halt.to_string()).unwrap();
    assert_eq!(home(&machine, 2), LogId(1), "the first is in the other log");
    let sim = sim.crash();
    drop(machine);
    sim.allow_leaks();
    let refused = sim.run_until(async {
        let env = sim.env(0);
        let old = case.plan.clone().with_logs(1);
        let opened = open_state(env.clone(), &old, LogId(0)).await;
        let served = opened.err().map(|error| error.to_string()).unwrap_or_default();
        let made = logs::make(&env, &case.plan, LogId(1)).await.err();
        (served, made.map(|error| error.to_string()).unwrap_or_default())
    });
    let (served, made) = refused.map_err(|halt| halt.to_string()).unwrap();
    assert!(served.contains("accounts lie in 2 logs"), "{served}");
    assert!(made.contains("there is something in it"), "{made}");
    let machine = boot(&sim, &case, false);
    assert_eq!(count(&machine, 2), 1);
}
