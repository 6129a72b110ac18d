//! Where a recipient leads: to accounts here, to addresses elsewhere, or to a refusal.
//!
//! ```text
//!   exact user or alias  >  without the tag  >  postmaster, abuse  >  catch-all  >  no such user
//! ```
//! Aliases are followed until nothing but accounts and foreign addresses is left. Each address is
//! visited once, so that loops end by themselves; depth and number are bounded.
//!
//! Postmaster must always be answered (RFC 5321 §4.5.1), and abuse should (RFC 2142 §4). Whoever
//! was named in the domain comes first, then the domain's catch-all, then the domain's oldest user,
//! for small domains have no other owner. Only where the domain has nobody it is the server's
//! postmaster: who is configured, else who answers for the home domain, which is the one that this
//! host's name lies in, or the only one. It is never somebody of another domain by accident: with
//! nobody left there is no such user. A user who is switched off counts as nobody here.

use super::Settings;
use super::name::lookup_domain;
use super::record::{Alias, User};
use super::snapshot::{Entry, Snapshot};
use crate::model::id::{AccountId, LogId};
use crate::model::limits::{ALIAS_DEPTH_MAX, ALIAS_EXPANSION_MAX};
use std::collections::{BTreeSet, VecDeque};

/// What becomes of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// One account, by its own address or one with a tag. The usual case; allocates nothing.
    Account {
        account: AccountId,
        /// Where it lies.
        log: LogId,
        /// Octets of mail it may keep; 0 for no bound.
        quota: u64,
    },
    /// An alias led here; at least one target is left.
    Aliased(Box<Aliased>),
    /// We do not serve this domain: whether to relay is another question.
    UnknownDomain,
    /// 550 5.1.1.
    UnknownUser,
    /// 550 5.2.1: whoever would get it is switched off.
    Disabled,
    /// 451 4.3.5: the directory is not as it should be, which is the operator's matter.
    Broken(Fault),
}

/// Where an alias led.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aliased {
    /// Each account once.
    pub locals: Vec<Local>,
    /// Each address once.
    pub remotes: Vec<Remote>,
}

impl Aliased {
    /// The owner of the lists that lead to all of them, where it is one.
    pub fn list_owner(&self) -> Option<&str> {
        let locals = self.locals.iter().map(|local| local.owner.as_deref());
        let mut all = locals.chain(self.remotes.iter().map(|remote| remote.owner.as_deref()));
        let first = all.next()??;
        all.all(|owner| owner == Some(first)).then_some(first)
    }
}

/// An address elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Fit for an envelope.
    pub address: Box<str>,
    /// Whom reports on it are for, where a list led there: the owner of the last one that has one.
    pub owner: Option<Box<str>>,
}

/// An account, and the address by which it was reached (for Delivered-To and rules).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    pub account: AccountId,
    /// Where it lies.
    pub log: LogId,
    /// Octets of mail it may keep; 0 for no bound.
    pub quota: u64,
    pub via: Box<str>,
    /// As of a [`Remote`].
    pub owner: Option<Box<str>>,
}

/// Why an address that is served leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Aliases that lead only to one another.
    Loop,
    /// More than [`ALIAS_DEPTH_MAX`] aliases behind one another.
    Deep,
    /// More than [`ALIAS_EXPANSION_MAX`] addresses.
    Many,
}

/// Says where mail for `local@domain` goes. `local` is without quotes and escapes; `domain` is in
/// U- or A-labels, in any case, and empty for the bare `postmaster` of RFC 5321 §4.1.1.3.
pub fn resolve(snapshot: &Snapshot, local: &[u8], domain: &str, settings: &Settings) -> Resolution {
    let Some(domain) = lookup_domain(domain) else {
        return Resolution::UnknownDomain;
    };
    let resolver = Resolver { snapshot, settings };
    let found = resolver.entry(local, &domain);
    if let Some(Entry::User(user)) = found
        && user.enabled
    {
        return account_of(user);
    }
    if is_role(local) {
        return resolver.role(local, &domain);
    }
    resolver.outcome(found.or_else(|| snapshot.entry(b"", &domain)), &domain)
}

fn account_of(user: &User) -> Resolution {
    Resolution::Account { account: user.account, log: user.log, quota: user.quota }
}

pub(super) fn is_role(local: &[u8]) -> bool {
    is_postmaster(local) || local.eq_ignore_ascii_case(b"abuse")
}

fn is_postmaster(local: &[u8]) -> bool {
    local.eq_ignore_ascii_case(b"postmaster")
}

/// How an address stands, before aliases are followed.
enum Found<'s> {
    User(&'s User),
    Alias(&'s Alias),
    Nobody,
    Foreign,
}

pub(super) struct Resolver<'s> {
    pub(super) snapshot: &'s Snapshot,
    pub(super) settings: &'s Settings,
}

impl<'s> Resolver<'s> {
    /// The entry of this address, or of the one without its tag. `domain` is ASCII.
    pub(super) fn entry(&self, local: &[u8], domain: &str) -> Option<&'s Entry> {
        let exact = self.snapshot.entry(local, domain);
        if exact.is_some() || self.settings.separators.is_empty() {
            return exact;
        }
        let separators = self.settings.separators.as_bytes();
        let tag = local.iter().position(|octet| separators.contains(octet)).filter(|&at| at > 0)?;
        self.snapshot.entry(&local[..tag], domain)
    }

    fn outcome(&self, found: Option<&'s Entry>, domain: &str) -> Resolution {
        match found {
            Some(Entry::User(user)) if user.enabled => account_of(user),
            Some(Entry::User(_)) => Resolution::Disabled,
            Some(Entry::Alias(alias)) => self.follow(alias),
            None if self.snapshot.serves(domain) => Resolution::UnknownUser,
            None => Resolution::UnknownDomain,
        }
    }

    fn role(&self, local: &[u8], domain: &str) -> Resolution {
        let own = domain.is_empty() || domain.eq_ignore_ascii_case(&self.settings.hostname);
        let is_ours = self.snapshot.serves(domain) || (own && is_postmaster(local));
        if !is_ours {
            return Resolution::UnknownDomain;
        }
        self.role_of(local, domain)
            .or_else(|| self.configured())
            .or_else(|| self.role_of(local, self.snapshot.home(self.settings)?))
            .unwrap_or(Resolution::UnknownUser)
    }

    /// Who answers for a role in a domain, out of that domain.
    fn role_of(&self, local: &[u8], domain: &str) -> Option<Resolution> {
        let usable = |entry: Option<&'s Entry>| match self.outcome(entry, domain) {
            found @ (Resolution::Account { .. } | Resolution::Aliased(_)) => Some(found),
            _ => None,
        };
        let oldest = || {
            let user = self.snapshot.served(domain)?.first.as_ref()?;
            Some(account_of(user))
        };
        usable(self.entry(local, domain))
            .or_else(|| usable(self.snapshot.entry(b"", domain)))
            .or_else(oldest)
    }

    /// Who is named for the whole server; may be an address elsewhere.
    fn configured(&self) -> Option<Resolution> {
        let address = self.settings.postmaster.as_deref()?;
        let configured = Alias {
            name: super::name::Name::stored("@")?,
            targets: Box::new([address.into()]),
            owner: None,
        };
        match self.follow(&configured) {
            found @ Resolution::Aliased(_) => Some(found),
            _ => None,
        }
    }

    /// One address of an alias' targets.
    fn found(&self, local: &[u8], domain: &str) -> Found<'s> {
        match self.entry(local, domain).or_else(|| self.snapshot.entry(b"", domain)) {
            Some(Entry::User(user)) => Found::User(user),
            Some(Entry::Alias(alias)) => Found::Alias(alias),
            None if self.snapshot.serves(domain) => Found::Nobody,
            None => Found::Foreign,
        }
    }

    fn follow(&self, alias: &Alias) -> Resolution {
        let mut seen: BTreeSet<Box<str>> = BTreeSet::new();
        seen.insert(alias.name.as_str().into());
        let mut accounts: BTreeSet<AccountId> = BTreeSet::new();
        let mut aliased = Aliased::default();
        let (mut is_disabled, mut is_loop) = (false, false);
        let own = alias.owner.as_deref();
        let mut waiting: VecDeque<(Box<str>, usize, Option<&str>)> =
            alias.targets.iter().map(|target| (target.clone(), 1, own)).collect();
        let mut count = 0;
        while let Some((address, depth, owner)) = waiting.pop_front() {
            count += 1;
            if count > ALIAS_EXPANSION_MAX {
                return Resolution::Broken(Fault::Many);
            }
            let Some((local, domain)) = address.rsplit_once('@') else {
                continue;
            };
            match self.found(local.as_bytes(), domain) {
                Found::User(user) if !user.enabled => is_disabled = true,
                Found::User(user) => {
                    if accounts.insert(user.account) {
                        aliased.locals.push(Local {
                            account: user.account,
                            log: user.log,
                            quota: user.quota,
                            via: address,
                            owner: owner.map(Box::from),
                        });
                    }
                }
                Found::Alias(next) => {
                    if !seen.insert(next.name.as_str().into()) {
                        is_loop = true;
                        continue;
                    }
                    if depth >= ALIAS_DEPTH_MAX {
                        return Resolution::Broken(Fault::Deep);
                    }
                    // RFC 5321 §3.9.2: a list without an owner of its own leaves it to who led there.
                    let owner = next.owner.as_deref().or(owner);
                    let behind = next.targets.iter().map(|to| (to.clone(), depth + 1, owner));
                    waiting.extend(behind);
                }
                Found::Foreign => {
                    if seen.insert(address.clone()) {
                        let owner = owner.map(Box::from);
                        aliased.remotes.push(Remote { address, owner });
                    }
                }
                Found::Nobody => {}
            }
        }
        if !aliased.locals.is_empty() || !aliased.remotes.is_empty() {
            Resolution::Aliased(Box::new(aliased))
        } else if is_disabled {
            Resolution::Disabled
        } else if is_loop {
            Resolution::Broken(Fault::Loop)
        } else {
            Resolution::UnknownUser
        }
    }
}
