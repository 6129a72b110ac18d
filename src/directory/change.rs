//! Changes of the directory, checked before they are written down.
//!
//! A draft sees what the directory has and what was drafted before in the same group. The same
//! calls serve a running server and a stopped one. What they say when they refuse is shown to a
//! person as it is.

use super::ledger::Directory;
use super::name::{BadName, Name, domain_name, target};
use super::record::{self, Alias, AppPassword, Domain, Stored, User};
use super::snapshot::Entry;
use super::vacation::Vacation;
use crate::bytes::hash::Sorted;
use crate::model::id::{AccountId, LogId};
use crate::model::limits::{
    ALIAS_DEPTH_MAX, ALIAS_TARGETS_MAX, APP_PASSWORD_NAME_OCTETS_MAX, APP_PASSWORDS_MAX,
    DIRECTORY_CHANGES_MAX, PASSWORD_HASH_OCTETS_MAX,
};
use crate::model::time::Wall;
use crate::proto::sasl::{Keys, Terms};
use crate::store::Group;
use crate::wire::imap::capability::Capabilities;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Why a change is not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeError {
    Bad(Box<str>, BadName),
    DomainExists(Box<str>),
    NoSuchDomain(Box<str>),
    /// Users or aliases are left; one of them.
    DomainInUse(Box<str>, Name),
    UserExists(Name),
    AliasExists(Name),
    NoSuchUser(Name),
    NoSuchAlias(Name),
    /// A target of ours that does not exist.
    NoSuchTarget(Box<str>),
    NoTargets(Name),
    /// More than [`ALIAS_TARGETS_MAX`].
    TooManyTargets(Name),
    /// Following the alias comes back to it.
    Loop(Name),
    /// More than [`ALIAS_DEPTH_MAX`] aliases behind one another.
    TooDeep(Name),
    /// `@domain` stands for everybody and cannot be a user.
    CatchAllUser(Name),
    BadHash(Name),
    /// Without a name, or with one that is too long or has control characters, or what is kept of it is
    /// too long.
    BadAppPassword(Box<str>),
    AppPasswordExists(Box<str>),
    NoSuchAppPassword(Box<str>),
    /// It is not the one any more that was to be replaced, or whose terms were asked for.
    PasswordChanged(Name),
    /// More than [`APP_PASSWORDS_MAX`].
    TooManyAppPasswords(Name),
    /// What is wrong with it.
    BadVacation(&'static str),
    /// Of IMAP, or one that cannot be hidden.
    NoSuchCapability(Box<str>),
    /// All account numbers are given.
    NoAccountLeft,
    /// More than [`DIRECTORY_CHANGES_MAX`] in one group.
    TooManyChanges,
}

impl ChangeError {
    /// Whether it cannot be meant, whatever the directory holds.
    pub fn is_usage(&self) -> bool {
        use ChangeError::{
            Bad, BadAppPassword, BadHash, BadVacation, CatchAllUser, NoSuchCapability, NoTargets,
            TooManyTargets,
        };
        matches!(
            self,
            Bad(..)
                | BadHash(_)
                | BadAppPassword(_)
                | BadVacation(_)
                | CatchAllUser(_)
                | NoSuchCapability(_)
                | NoTargets(_)
                | TooManyTargets(_)
        )
    }
}

impl fmt::Display for ChangeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChangeError::Bad(text, bad) => write!(out, "\"{text}\": {bad}"),
            ChangeError::DomainExists(name) => write!(out, "the domain {name} exists already"),
            ChangeError::NoSuchDomain(name) => {
                write!(out, "the domain {name} is not served here: add it first")
            }
            ChangeError::DomainInUse(name, entry) => {
                write!(out, "the domain {name} is in use: {entry} and maybe others are in it")
            }
            ChangeError::UserExists(name) => write!(out, "there is a user {name} already"),
            ChangeError::AliasExists(name) => write!(out, "there is an alias {name} already"),
            ChangeError::NoSuchUser(name) => write!(out, "there is no user {name}"),
            ChangeError::NoSuchAlias(name) => write!(out, "there is no alias {name}"),
            ChangeError::NoSuchTarget(name) => {
                write!(out, "there is no user or alias {name} in a domain that is served here")
            }
            ChangeError::NoTargets(name) => write!(out, "the alias {name} needs a target"),
            ChangeError::TooManyTargets(name) => {
                write!(out, "the alias {name} has more than {ALIAS_TARGETS_MAX} targets")
            }
            ChangeError::Loop(name) => write!(out, "the alias {name} would lead back to itself"),
            ChangeError::TooDeep(name) => {
                write!(out, "the alias {name} would lead over more than {ALIAS_DEPTH_MAX} others")
            }
            ChangeError::CatchAllUser(name) => write!(out, "{name} can be an alias, not a user"),
            ChangeError::BadHash(name) => write!(out, "no password hash for {name}"),
            ChangeError::BadAppPassword(name) => {
                write!(out, "{name:?} is no name of an application password")
            }
            ChangeError::AppPasswordExists(name) => {
                write!(out, "there is an application password {name:?} already")
            }
            ChangeError::NoSuchAppPassword(name) => {
                write!(out, "there is no application password {name:?}")
            }
            ChangeError::TooManyAppPasswords(name) => {
                write!(out, "{name} has {APP_PASSWORDS_MAX} application passwords already")
            }
            ChangeError::PasswordChanged(name) => {
                write!(out, "the password of {name} was changed meanwhile")
            }
            ChangeError::BadVacation(fault) => {
                write!(out, "nothing is answered like that: {fault}")
            }
            ChangeError::NoSuchCapability(name) => {
                let all = Capabilities::all_names();
                write!(out, "{name:?} is no capability that can be hidden; those are {all}")
            }
            ChangeError::NoAccountLeft => write!(out, "no account number is left"),
            ChangeError::TooManyChanges => {
                write!(out, "more than {DIRECTORY_CHANGES_MAX} changes at once")
            }
        }
    }
}

/// Changes that become durable together. See [`super::Turn::draft`].
#[derive(Debug)]
pub struct Draft<'a> {
    base: &'a Directory,
    /// What is different from `base`; `None` for what is no more.
    names: Sorted<Name, Option<Entry>>,
    domains: Sorted<Box<str>, bool>,
    highest: u32,
    /// How many accounts each log has, by this draft.
    lodgers: Vec<u32>,
    group: Group,
}

impl<'a> Draft<'a> {
    pub(super) fn new(base: &'a Directory) -> Draft<'a> {
        Draft {
            base,
            names: Sorted::new(),
            domains: Sorted::new(),
            highest: base.highest().0,
            lodgers: base.lodgers().to_vec(),
            group: Group::new(),
        }
    }

    pub(super) fn into_group(self) -> Group {
        self.group
    }

    /// Serves a domain from now on. Returns its name as it is kept.
    pub fn add_domain(&mut self, domain: &str, now: Wall) -> Result<Box<str>, ChangeError> {
        let name = read_domain(domain)?;
        if self.has_domain(&name) {
            return Err(ChangeError::DomainExists(name));
        }
        let domain = Domain { name: name.clone().into(), created: now };
        self.write(record::PUT_DOMAIN, domain.encode(self.base.first_logs()))?;
        self.domains.insert(name.clone(), true);
        Ok(name)
    }

    /// Serves a domain no more. Its users and aliases must be gone.
    pub fn del_domain(&mut self, domain: &str) -> Result<(), ChangeError> {
        let name = read_domain(domain)?;
        if !self.has_domain(&name) {
            return Err(ChangeError::NoSuchDomain(name));
        }
        if let Some(entry) = self.any_of(&name) {
            return Err(ChangeError::DomainInUse(name, entry));
        }
        self.write(record::DEL_DOMAIN, record::encode_text(&name))?;
        self.domains.insert(name, false);
        Ok(())
    }

    /// Adds a user, in the log in which the fewest accounts are; `hash` is what [`User::hash`] holds, `quota` is octets, 0 for no bound.
    pub fn add_user(
        &mut self,
        address: &str,
        hash: &str,
        quota: u64,
        now: Wall,
    ) -> Result<AccountId, ChangeError> {
        let name = self.free_name(address)?;
        if name.is_catch_all() {
            return Err(ChangeError::CatchAllUser(name));
        }
        name.check_prepared().map_err(|bad| ChangeError::Bad(address.into(), bad))?;
        check_hash(&name, hash)?;
        let account = AccountId(self.highest.checked_add(1).ok_or(ChangeError::NoAccountLeft)?);
        let user = User {
            account,
            log: self.emptiest(),
            name,
            hash: hash.into(),
            apps: Box::default(),
            quota,
            enabled: true,
            imap_hidden: Capabilities::NONE,
            vacation: None,
            created: now,
        };
        self.lodge(user.log, true);
        self.put_user(user)?;
        self.highest = account.0;
        Ok(account)
    }

    /// Gives an account of a log, whose user is lost, to a user of the domain who cannot log in: its address.
    pub fn recover_user(
        &mut self,
        (account, log): (AccountId, LogId),
        domain: &str,
        now: Wall,
    ) -> Result<Name, ChangeError> {
        let name = self.free_name(&format!("recovered-{account}@{domain}"))?;
        let user = User {
            account,
            log,
            name: name.clone(),
            // Of no password.
            hash: "{NONE}".into(),
            apps: Box::default(),
            quota: 0,
            enabled: false,
            imap_hidden: Capabilities::NONE,
            vacation: None,
            created: now,
        };
        self.lodge(log, true);
        self.put_user(user)?;
        self.highest = self.highest.max(account.0);
        Ok(name)
    }

    /// Removes a user; the number is never given again. What to do with the account's mail is the
    /// caller's matter.
    pub fn del_user(&mut self, address: &str) -> Result<Arc<User>, ChangeError> {
        let user = self.user(address)?;
        self.write(record::DEL_USER, record::encode_number(user.account.0))?;
        self.names.insert(user.name.clone(), None);
        self.lodge(user.log, false);
        Ok(user)
    }

    /// Sets a user's password by what [`User::hash`] holds. Keys of application passwords that are on
    /// other terms than its own are of no use any more, and go.
    pub fn set_hash(&mut self, address: &str, hash: &str) -> Result<AccountId, ChangeError> {
        let user = self.user(address)?;
        check_hash(&user.name, hash)?;
        let mut changed = User { hash: hash.into(), ..User::clone(&user) };
        let own: Vec<Terms> = changed.keys().map(|keys| keys.terms).collect();
        for app in &mut changed.apps {
            let kept = app.keys().filter(|keys| fits(&keys.terms, &own));
            let kept: Vec<String> = kept.map(|keys| keys.to_string()).collect();
            app.keys = kept.join(" ").into();
        }
        self.put_user(changed)
    }

    /// Keeps the same password in another way: only where [`User::hash`] is still what it was when
    /// the password was shown.
    pub fn replace_hash(
        &mut self,
        address: &str,
        known: &str,
        hash: &str,
    ) -> Result<AccountId, ChangeError> {
        let user = self.user(address)?;
        let own: Vec<Terms> =
            hash.split(' ').filter_map(Keys::parse).map(|keys| keys.terms).collect();
        if *user.hash != *known || !user.bound_terms().iter().all(|terms| fits(terms, &own)) {
            return Err(ChangeError::PasswordChanged(user.name.clone()));
        }
        self.set_hash(address, hash)
    }

    /// Adds an application password by its SHA-256, and its keys of SCRAM: on the terms of
    /// [`User::terms`] where there are such.
    pub fn add_app(
        &mut self,
        address: &str,
        name: &str,
        (digest, keys): (&[u8], &[Keys]),
        now: Wall,
    ) -> Result<AccountId, ChangeError> {
        let user = self.user(address)?;
        let terms = user.terms();
        if !keys.iter().all(|keys| fits(&keys.terms, &terms)) {
            return Err(ChangeError::PasswordChanged(user.name.clone()));
        }
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        let keys = keys.join(" ");
        let is_sound = !name.trim().is_empty()
            && name.len() <= APP_PASSWORD_NAME_OCTETS_MAX
            && !name.chars().any(char::is_control)
            && digest.len() == 32
            && keys.len() <= PASSWORD_HASH_OCTETS_MAX;
        if !is_sound {
            return Err(ChangeError::BadAppPassword(name.into()));
        }
        if user.apps.iter().any(|app| &*app.name == name) {
            return Err(ChangeError::AppPasswordExists(name.into()));
        }
        if user.apps.len() >= APP_PASSWORDS_MAX {
            return Err(ChangeError::TooManyAppPasswords(user.name.clone()));
        }
        let mut apps = user.apps.to_vec();
        let (name, digest, keys) = (name.into(), digest.into(), keys.into());
        apps.push(AppPassword { name, digest, keys, created: now });
        self.put_user(User { apps: apps.into(), ..User::clone(&user) })
    }

    pub fn del_app(&mut self, address: &str, name: &str) -> Result<AccountId, ChangeError> {
        let user = self.user(address)?;
        let apps: Vec<AppPassword> =
            user.apps.iter().filter(|app| &*app.name != name).cloned().collect();
        if apps.len() == user.apps.len() {
            return Err(ChangeError::NoSuchAppPassword(name.into()));
        }
        self.put_user(User { apps: apps.into(), ..User::clone(&user) })
    }

    /// Sets a user's quota in octets; 0 for no bound.
    pub fn set_quota(&mut self, address: &str, quota: u64) -> Result<AccountId, ChangeError> {
        let user = self.user(address)?;
        self.put_user(User { quota, ..User::clone(&user) })
    }

    /// Sets the capabilities that IMAP hides from a user, by their names; none to hide nothing.
    pub fn set_imap_hidden(
        &mut self,
        address: &str,
        names: &[String],
    ) -> Result<AccountId, ChangeError> {
        let user = self.user(address)?;
        let unknown = names.iter().find(|name| Capabilities::named(name).is_none());
        if let Some(unknown) = unknown {
            return Err(ChangeError::NoSuchCapability(unknown.as_str().into()));
        }
        let imap_hidden = names.iter().map(String::as_str).collect();
        self.put_user(User { imap_hidden, ..User::clone(&user) })
    }

    /// Switches a user on or off.
    pub fn set_enabled(&mut self, address: &str, enabled: bool) -> Result<Arc<User>, ChangeError> {
        let user = self.user(address)?;
        self.put_user(User { enabled, ..User::clone(&user) })?;
        Ok(user)
    }

    /// Has a user's mail answered while he is away, or no more.
    pub fn set_vacation(
        &mut self,
        address: &str,
        vacation: Option<Vacation>,
    ) -> Result<AccountId, ChangeError> {
        let user = self.user(address)?;
        let read = |text: &str| target(text).map_err(|bad| ChangeError::Bad(text.into(), bad));
        let vacation = match vacation {
            None => None,
            Some(one) => {
                if let Some(fault) = one.fault() {
                    return Err(ChangeError::BadVacation(fault));
                }
                let addresses = one.addresses.iter().map(|text| read(text));
                let addresses = addresses.collect::<Result<_, _>>()?;
                Some(Arc::new(Vacation { addresses, ..one }))
            }
        };
        self.put_user(User { vacation, ..User::clone(&user) })
    }

    /// Adds an alias, or with `@domain` a catch-all.
    pub fn add_alias(&mut self, address: &str, targets: &[&str]) -> Result<Name, ChangeError> {
        self.add_list(address, targets, None)
    }

    /// The same with an owner: a list.
    pub fn add_list(
        &mut self,
        address: &str,
        targets: &[&str],
        owner: Option<&str>,
    ) -> Result<Name, ChangeError> {
        let name = self.free_name(address)?;
        if targets.is_empty() {
            return Err(ChangeError::NoTargets(name));
        }
        if targets.len() > ALIAS_TARGETS_MAX {
            return Err(ChangeError::TooManyTargets(name));
        }
        let read = |text: &str| target(text).map_err(|bad| ChangeError::Bad(text.into(), bad));
        let owner = owner.map(read).transpose()?;
        let mut checked: Vec<Box<str>> = Vec::with_capacity(targets.len());
        for text in targets {
            let target = read(text)?;
            if !checked.contains(&target) {
                checked.push(target);
            }
        }
        let alias = Arc::new(Alias { name: name.clone(), targets: checked.into(), owner });
        let before = self.names.insert(name.clone(), Some(Entry::Alias(Arc::clone(&alias))));
        let written = self
            .check_targets(&alias)
            .and_then(|()| self.write(record::PUT_ALIAS, alias.encode(self.base.first_logs())));
        if let Err(error) = written {
            match before {
                Some(before) => self.names.insert(name, before),
                None => self.names.remove(&name),
            };
            return Err(error);
        }
        Ok(name)
    }

    pub fn del_alias(&mut self, address: &str) -> Result<(), ChangeError> {
        let name = read_name(address)?;
        let Some(Entry::Alias(_)) = self.entry(&name) else {
            return Err(ChangeError::NoSuchAlias(name));
        };
        self.write(record::DEL_ALIAS, record::encode_text(name.as_str()))?;
        self.names.insert(name, None);
        Ok(())
    }

    /// The user of this address, as the draft has it.
    pub fn user(&self, address: &str) -> Result<Arc<User>, ChangeError> {
        let name = read_name(address)?;
        match self.entry(&name) {
            Some(Entry::User(user)) => Ok(user),
            _ => Err(ChangeError::NoSuchUser(name)),
        }
    }

    /// The log with the fewest accounts, the first of several.
    fn emptiest(&self) -> LogId {
        let counts = (0..).map(LogId).zip(&self.lodgers);
        counts.min_by_key(|&(log, count)| (count, log)).map_or(LogId(0), |(log, _)| log)
    }

    /// An account came to a log, or went.
    fn lodge(&mut self, log: LogId, comes: bool) {
        if let Some(count) = self.lodgers.get_mut(usize::from(log.0)) {
            *count = if comes { *count + 1 } else { count.saturating_sub(1) };
        }
    }

    fn write(&mut self, kind: u8, body: Vec<u8>) -> Result<(), ChangeError> {
        if self.group.records.len() >= DIRECTORY_CHANGES_MAX {
            return Err(ChangeError::TooManyChanges);
        }
        self.group.record(kind, record::VERSION, 0, body);
        Ok(())
    }

    fn put_user(&mut self, user: User) -> Result<AccountId, ChangeError> {
        self.write(record::PUT_USER, user.encode(self.base.first_logs()))?;
        let account = user.account;
        self.names.insert(user.name.clone(), Some(Entry::User(Arc::new(user))));
        Ok(account)
    }

    fn entry(&self, name: &Name) -> Option<Entry> {
        match self.names.get(name) {
            Some(drafted) => drafted.clone(),
            None => self.base.entry(name),
        }
    }

    fn has_domain(&self, name: &str) -> bool {
        self.domains.get(name).copied().unwrap_or_else(|| self.base.has_domain(name))
    }

    /// Any entry of this domain.
    fn any_of(&self, domain: &str) -> Option<Name> {
        let from = Name::new("", domain);
        let of_domain = |name: &&Name| name.domain() == domain;
        let drafted = self.names.range(from.clone()..).take_while(|(name, _)| of_domain(name));
        if let Some((name, _)) = drafted.into_iter().find(|(_, entry)| entry.is_some()) {
            return Some(name.clone());
        }
        let kept = self.base.entries_from(&from).map(|(name, _)| name).take_while(of_domain);
        kept.into_iter().find(|name| !self.names.contains_key(*name)).cloned()
    }

    /// A name that nobody has, in a domain that is ours.
    fn free_name(&self, address: &str) -> Result<Name, ChangeError> {
        let name = read_name(address)?;
        if !self.has_domain(name.domain()) {
            return Err(ChangeError::NoSuchDomain(name.domain().into()));
        }
        match self.entry(&name) {
            Some(Entry::User(_)) => Err(ChangeError::UserExists(name)),
            Some(Entry::Alias(_)) => Err(ChangeError::AliasExists(name)),
            None => Ok(name),
        }
    }

    /// Every target of ours and the owner exist, and no way leads back; the alias itself is drafted already. Tags
    /// are looked at as if `+` were the separator: lookups end on loops by themselves, so that this
    /// need not be exact.
    fn check_targets(&self, alias: &Alias) -> Result<(), ChangeError> {
        for target in alias.targets.iter().chain(&alias.owner) {
            let here = target.rsplit_once('@').is_some_and(|(_, domain)| self.has_domain(domain));
            if here && self.leads(target).is_none() {
                return Err(ChangeError::NoSuchTarget(target.clone()));
            }
        }
        let mut seen: BTreeSet<Name> = BTreeSet::new();
        let mut level: Vec<Box<str>> = alias.targets.to_vec();
        for _ in 0..ALIAS_DEPTH_MAX {
            let mut next_level = Vec::new();
            for target in level {
                match self.leads(&target) {
                    Some(Entry::Alias(next)) if next.name == alias.name => {
                        return Err(ChangeError::Loop(alias.name.clone()));
                    }
                    Some(Entry::Alias(next)) if seen.insert(next.name.clone()) => {
                        next_level.extend(next.targets.iter().cloned());
                    }
                    _ => {}
                }
            }
            if next_level.is_empty() {
                return Ok(());
            }
            level = next_level;
        }
        Err(ChangeError::TooDeep(alias.name.clone()))
    }

    /// What answers for a target: its own entry, the one without its tag, or the catch-all.
    fn leads(&self, target: &str) -> Option<Entry> {
        let (local, domain) = target.rsplit_once('@')?;
        let untagged = local.split('+').next().filter(|base| !base.is_empty()).unwrap_or(local);
        [local, untagged, ""].iter().find_map(|local| self.entry(&Name::new(local, domain)))
    }
}

fn read_domain(text: &str) -> Result<Box<str>, ChangeError> {
    domain_name(text).map_err(|bad| ChangeError::Bad(text.into(), bad))
}

fn read_name(text: &str) -> Result<Name, ChangeError> {
    Name::read(text).map_err(|bad| ChangeError::Bad(text.into(), bad))
}

/// Whether keys on these terms can stand beside keys on those.
fn fits(terms: &Terms, others: &[Terms]) -> bool {
    others.iter().all(|other| other.hash != terms.hash || other == terms)
}

/// What the words mean is known where they are made and checked; here they only have to be some.
fn check_hash(name: &Name, hash: &str) -> Result<(), ChangeError> {
    let is_word = |word: &str| {
        (word.contains('$') || word.starts_with('{'))
            && word.bytes().all(|octet| octet.is_ascii_graphic())
    };
    let is_sound = hash.len() <= PASSWORD_HASH_OCTETS_MAX && hash.split(' ').all(is_word);
    if is_sound { Ok(()) } else { Err(ChangeError::BadHash(name.clone())) }
}
