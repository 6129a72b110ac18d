//! The directory as every shard sees it: immutable, shared, swapped whole.
//!
//! Made of tables that share what did not change, so that a change costs some microseconds and not
//! a copy of a million users. Lookups take no lock and allocate nothing.

use super::Settings;
use super::name::{Key, lookup_domain};
use super::record::{Alias, Domain, User};
use super::table::{Named, Table};
use crate::bytes::hash::Map;
use crate::model::id::AccountId;
use std::fmt;
use std::sync::Arc;

/// What an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    User(Arc<User>),
    Alias(Arc<Alias>),
}

impl Named for Entry {
    fn name(&self) -> &str {
        match self {
            Entry::User(user) => user.name.as_str(),
            Entry::Alias(alias) => alias.name.as_str(),
        }
    }
}

/// A served domain and who answers for it if nobody is named.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) domain: Domain,
    /// The enabled user with the lowest account.
    pub(super) first: Option<Arc<User>>,
}

impl Named for Arc<Served> {
    fn name(&self) -> &str {
        &self.domain.name
    }
}

/// The state of the directory at one moment.
#[derive(Clone)]
pub struct Snapshot {
    version: u64,
    names: Table<Entry>,
    domains: Table<Arc<Served>>,
    /// Users whose mail is answered while they are away.
    away: Arc<Map<AccountId, Arc<User>>>,
}

impl Default for Snapshot {
    fn default() -> Snapshot {
        Snapshot { version: 0, names: Table::new(), domains: Table::new(), away: Arc::default() }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (names, domains) = (self.names.len(), self.domains.len());
        write!(out, "Snapshot {} of {names} names in {domains} domains", self.version)
    }
}

impl Snapshot {
    /// Rises with every change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether mail for this domain is ours. In any case, in U- or A-labels.
    pub fn serves(&self, domain: &str) -> bool {
        self.served(domain).is_some()
    }

    /// The user who logs in by this name: an address, or its local part alone in the one domain
    /// that there is or that the settings name. Aliases and tags do not log in.
    pub fn login(&self, name: &str, settings: &Settings) -> Option<&Arc<User>> {
        let (local, domain) = match name.rsplit_once('@') {
            Some((local, domain)) => (local, lookup_domain(domain)?),
            None => (name, lookup_domain(self.login_domain(settings)?)?),
        };
        match self.entry(local.as_bytes(), &domain)? {
            Entry::User(user) => Some(user),
            Entry::Alias(_) => None,
        }
    }

    /// The one form of a name that somebody logs in by, whether or not there is such a user.
    pub fn login_name(&self, name: &str, settings: &Settings) -> String {
        let (local, domain) = match name.rsplit_once('@') {
            Some((local, domain)) => (local, lookup_domain(domain)),
            None => (name, self.login_domain(settings).and_then(lookup_domain)),
        };
        let whole = domain.map(|domain| format!("{local}@{domain}"));
        whole.as_deref().unwrap_or(name).to_ascii_lowercase()
    }

    /// The entry of exactly this address; no tags, no catch-all.
    pub fn find(&self, address: &str) -> Option<&Entry> {
        let (local, domain) = address.rsplit_once('@')?;
        self.entry(local.as_bytes(), &lookup_domain(domain)?)
    }

    /// Names every account with the domain of its user, in lower-case A-labels.
    pub fn each_account(&self, mut each: impl FnMut(&str, AccountId)) {
        for entry in self.names.values() {
            if let Entry::User(user) = entry {
                each(user.name.domain(), user.account);
            }
        }
    }

    /// Users whose mail is answered while they are away, whether or not they are now.
    pub fn away(&self) -> &Arc<Map<AccountId, Arc<User>>> {
        &self.away
    }

    /// Brings in line whether a user's mail is answered; none: there is no such user any more.
    pub(super) fn set_away(&mut self, account: AccountId, user: Option<&Arc<User>>) {
        match user.filter(|user| user.vacation.is_some()) {
            Some(user) => drop(Arc::make_mut(&mut self.away).insert(account, Arc::clone(user))),
            None if self.away.contains_key(&account) => {
                Arc::make_mut(&mut self.away).remove(&account);
            }
            None => {}
        }
    }

    fn login_domain<'a>(&'a self, settings: &'a Settings) -> Option<&'a str> {
        if let Some(domain) = &settings.login_domain {
            return Some(domain);
        }
        self.only_domain()
    }

    fn only_domain(&self) -> Option<&str> {
        let mut domains = self.domains.values();
        match (domains.next(), domains.next()) {
            (Some(only), None) => Some(&only.domain.name),
            _ => None,
        }
    }

    /// The domain that answers for the server itself: the one that the host's name lies in, else
    /// the only one that there is.
    pub(super) fn home(&self, settings: &Settings) -> Option<&str> {
        let mut name = &*settings.hostname;
        loop {
            if let Some(served) = self.served(name) {
                return Some(&served.domain.name);
            }
            match name.split_once('.') {
                Some((_, rest)) => name = rest,
                None => return self.only_domain(),
            }
        }
    }

    /// `domain` is ASCII, in any case.
    pub(super) fn entry(&self, local: &[u8], domain: &str) -> Option<&Entry> {
        self.names.get(Key::new(local, domain)?.octets())
    }

    pub(super) fn served(&self, domain: &str) -> Option<&Served> {
        let domain = lookup_domain(domain)?;
        let key = Key::new(b"", &domain)?;
        self.domains.get(&key.octets()[1..]).map(|served| &**served)
    }

    pub(super) fn set_name(&mut self, name: &str, entry: Option<Entry>) {
        self.version += 1;
        match entry {
            Some(entry) => self.names.set(&entry),
            None => self.names.remove(name.as_bytes()),
        }
    }

    pub(super) fn set_domain(&mut self, name: &str, served: Option<Served>) {
        self.version += 1;
        match served {
            Some(served) => self.domains.set(&Arc::new(served)),
            None => self.domains.remove(name.as_bytes()),
        }
    }
}
