//! Why an address leads where it leads, in words for operators. What it leads to is what
//! [`resolve`] says, which is also what happens; the words follow the same order.

use super::Settings;
use super::lookup::{Fault, Resolution, Resolver, is_role, resolve};
use super::name::lookup_domain;
use super::snapshot::{Entry, Snapshot};
use crate::model::limits::ALIAS_EXPANSION_MAX;
use std::collections::{BTreeSet, VecDeque};

/// See [`explain`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What the directory has of each address on the way, a line each.
    pub steps: Vec<String>,
    pub outcome: Resolution,
}

/// Says where mail for `local@domain` goes, and by what. The parts are as for [`resolve`].
pub fn explain(
    snapshot: &Snapshot,
    local: &[u8],
    domain: &str,
    settings: &Settings,
) -> Explanation {
    let outcome = resolve(snapshot, local, domain, settings);
    let resolver = Resolver { snapshot, settings };
    let mut steps = Vec::new();
    let first = format!("{}@{domain}", String::from_utf8_lossy(local));
    let (mut seen, mut waiting) = (BTreeSet::new(), VecDeque::from([first.clone()]));
    while let Some(address) = waiting.pop_front()
        && steps.len() < ALIAS_EXPANSION_MAX
    {
        if !seen.insert(address.to_lowercase()) {
            steps.push(format!("{address}: was there before"));
            continue;
        }
        let Some((local, domain)) = address.rsplit_once('@') else { continue };
        let (words, targets) = step(&resolver, local.as_bytes(), domain);
        steps.push(format!("{address}: {words}"));
        waiting.extend(targets.iter().map(ToString::to_string));
    }
    if is_role(local) {
        match &outcome {
            Resolution::Account { account, .. } => {
                steps.push(format!("{first}: has to be answered, and goes to account {account}"));
            }
            Resolution::Aliased(aliased) => {
                let locals = aliased.locals.iter().map(|one| &*one.via);
                let all: Vec<&str> =
                    locals.chain(aliased.remotes.iter().map(|one| &*one.address)).collect();
                steps.push(format!("{first}: has to be answered, and goes to {}", all.join(", ")));
            }
            _ => {}
        }
    }
    if let Resolution::Broken(fault) = &outcome {
        steps.push(match fault {
            Fault::Loop => "the aliases lead only to one another".into(),
            Fault::Deep => "too many aliases stand behind one another".into(),
            Fault::Many => "the aliases lead to too many addresses".into(),
        });
    }
    Explanation { steps, outcome }
}

/// What the directory has of one address, and where it leads on.
fn step<'s>(resolver: &Resolver<'s>, local: &[u8], domain: &str) -> (String, &'s [Box<str>]) {
    let Some(domain) = lookup_domain(domain) else {
        return ("its domain is none".into(), &[]);
    };
    let snapshot = resolver.snapshot;
    if !snapshot.serves(&domain) {
        return (format!("{domain} is not served here"), &[]);
    }
    let exact = snapshot.entry(local, &domain);
    let found = exact.or_else(|| resolver.entry(local, &domain));
    let by = if exact.is_some() { "" } else { "without its tag " };
    let (found, by) = match found {
        Some(found) => (Some(found), by),
        None => (snapshot.entry(b"", &domain), "nobody; by the catch-all of the domain "),
    };
    match found {
        Some(Entry::User(user)) => {
            let name = user.name.as_str();
            let off = if user.enabled { "" } else { ", who is switched off" };
            (format!("{by}user {name}, account {}{off}", user.account), &[])
        }
        Some(Entry::Alias(alias)) => {
            let owner = alias.owner.as_ref().map(|owner| format!(", a list of {owner}"));
            let owner = owner.unwrap_or_default();
            (format!("{by}alias for {}{owner}", alias.targets.join(", ")), &alias.targets)
        }
        None => ("there is no such user or alias, and no catch-all".into(), &[]),
    }
}
