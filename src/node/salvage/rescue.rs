//! One log, on any machine: what is whole of it goes into a new one.

use crate::env::Env;
use crate::mailbox::MendAccounts;
use crate::model::id::{AccountId, LogId};
use crate::node::shard::{Machines, State};
use crate::queue::MendSpool;
use crate::queue::outgoing::MendOutgoing;
use crate::store::Settings;
use crate::store::format::Identity;
use crate::store::record::kind;
use crate::store::salvage::{Mender, Menders, Plain, Rebuilt, Source, rebuild, write};
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

/// A new log, and what the old one had lost.
pub struct Rescued<E: Env> {
    pub state: State<E>,
    pub rebuilt: Rebuilt,
}

/// Reads the log of `source` and writes a new one into `dir`. `progress` hears of octets that were
/// read, then of those that were written.
pub async fn rescue<E: Env>(
    env: E,
    source: &dyn Source,
    identity: Identity,
    dir: &Path,
    settings: Settings,
    progress: &mut dyn FnMut(&'static str, u64),
) -> Result<Rescued<E>, String> {
    let machines = Machines::of(identity.first_logs, settings.logs);
    let mailboxes = MendAccounts::new(Rc::clone(&machines.accounts));
    let queue = MendOutgoing::new(Rc::clone(&machines.outgoing));
    let spool = MendSpool(Rc::clone(&machines.spool));
    let directory = Plain::new(machines.ledger.clone());
    let answered = Rc::clone(&machines.answered);
    let menders: Menders = vec![
        (kind::MAILBOX_FIRST..=kind::MAILBOX_LAST, shared(mailboxes)),
        (kind::SPOOL_FIRST..=kind::SPOOL_LAST, shared(spool)),
        (kind::QUEUE_FIRST..=kind::QUEUE_LAST, shared(queue)),
        (kind::DIRECTORY_FIRST..=kind::DIRECTORY_LAST, shared(directory)),
        (kind::ANSWERED_FIRST..=kind::ANSWERED_LAST, shared(Plain::new(answered))),
    ];
    let rebuilt = rebuild(source, identity, &menders, &mut |octets| progress("read", octets));
    drop(menders);
    let registry = machines.registry();
    let mut tell = |octets| progress("written", octets);
    let written = write(env, dir, settings, (source, &rebuilt), registry, &mut tell).await;
    let log = written.map_err(|error| format!("{}: {error}", dir.display()))?;
    Ok(Rescued { state: machines.with(log), rebuilt })
}

fn shared(mender: impl Mender + 'static) -> Rc<RefCell<dyn Mender>> {
    Rc::new(RefCell::new(mender))
}

/// What is wrong with a log that was just written: nothing, or this release has a fault.
pub async fn check<E: Env>(state: &State<E>) -> Result<(), String> {
    let mut findings = state.log.verify(|_| ()).await;
    findings.faults.extend(state.accounts.borrow().verify().err().map(|damaged| damaged.0));
    match findings.faults.first() {
        None => Ok(()),
        Some(first) => {
            let count = findings.faults.len();
            Err(format!("the new log does not pass its checks, {count} faults, the first: {first}"))
        }
    }
}

/// Gives accounts whose users are lost to users who cannot log in, so that no start takes their mail
/// for that of users who were removed. Their addresses.
pub(super) async fn find_users<E: Env>(
    state: &State<E>,
    accounts: &[(AccountId, LogId)],
) -> Result<Vec<(AccountId, String)>, String> {
    let now = state.log.env().wall();
    let mut found = Vec::new();
    let lost = accounts.iter().filter(|(account, _)| !state.ledger.has_account(*account));
    for &(account, log) in lost {
        let domain = state.ledger.list_domains("", None).first().cloned();
        let turn = state.ledger.turn().ok_or("somebody changes the directory")?;
        let drafted = turn.draft(|draft| {
            let domain = match domain {
                Some(domain) => domain,
                None => draft.add_domain("recovered.invalid", now)?,
            };
            draft.recover_user((account, log), &domain, now)
        });
        let (name, group) = drafted.map_err(|error| error.to_string())?;
        state.log.append(group).await.map_err(|error| error.to_string())?;
        found.push((account, name.as_str().to_owned()));
    }
    Ok(found)
}
