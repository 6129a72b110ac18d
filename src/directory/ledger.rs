//! The directory's owner: its state out of the records of log 0, and who may change it.
//!
//! Records may come twice or late: a checkpoint's pages are of different moments, and the log is
//! read again from the oldest. Until all is read, an address may have its old holder and its new
//! one at once; the holders are therefore kept apart by where they are saved, and what the address
//! is follows from all of them together, in whichever order they came.

use super::change::{ChangeError, Draft};
use super::list::{Page, Query};
use super::name::Name;
use super::record::{self, Alias, Domain, MAJOR_HIGHEST, Part, Stored, User};
use super::snapshot::{Entry, Served, Snapshot};
use crate::bytes::hash::Sorted;
use crate::model::id::{AccountId, BlobId, Lsn};
use crate::store::record::{FLAG_SKIPPABLE, Record};
use crate::store::{Blobs, Damaged, Group, Machine};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

/// The directory, shared by the log that applies its records and by those who read it here.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    directory: Rc<RefCell<Directory>>,
    is_changing: Rc<Cell<bool>>,
}

impl Ledger {
    pub fn new() -> Ledger {
        Ledger::default()
    }

    /// Says of which logs the store is: how many it was made with, and how many it has. To be called
    /// before anything is applied.
    pub fn set_logs(&self, first_logs: u16, logs: u16) {
        let mut directory = self.directory.borrow_mut();
        directory.first_logs = first_logs.max(1);
        directory.lodgers = vec![0; usize::from(logs.max(1))];
    }

    /// How many logs there have to be, for all accounts to have theirs.
    pub fn logs_needed(&self) -> u16 {
        let users = &self.directory.borrow().users;
        users.values().map(|user| user.log.0.saturating_add(1)).max().unwrap_or(1)
    }

    /// What every shard is to look up in from now on. Costs a reference count.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.directory.borrow().snapshot)
    }

    /// Whether some user has this account.
    pub fn has_account(&self, account: AccountId) -> bool {
        self.directory.borrow().users.contains_key(&account.0)
    }

    /// The address of the user who has this account.
    pub fn address(&self, account: AccountId) -> Option<Box<str>> {
        let directory = self.directory.borrow();
        directory.users.get(&account.0).map(|user| user.name.as_str().into())
    }

    /// The highest account ever given.
    pub fn highest(&self) -> AccountId {
        self.directory.borrow().highest()
    }

    /// One page of a listing.
    pub fn list(&self, query: &Query<'_>) -> Page {
        self.directory.borrow().list(query)
    }

    /// The domains that begin like this, sorted, a bounded number after `after`.
    pub fn list_domains(&self, prefix: &str, after: Option<&str>) -> Vec<Box<str>> {
        self.directory.borrow().list_domains(prefix, after)
    }

    /// The right to change the directory, held until the change is durable or given up; `None`
    /// while somebody else has it.
    pub fn turn(&self) -> Option<Turn> {
        (!self.is_changing.replace(true)).then(|| Turn { ledger: self.clone() })
    }
}

/// See [`Ledger::turn`]. Ends when dropped.
#[derive(Debug)]
pub struct Turn {
    ledger: Ledger,
}

impl Turn {
    /// Makes a group of the changes that `write` asks for; all of them or, on the first that
    /// cannot be, none. Append it to log 0 and keep the turn until it is answered.
    pub fn draft<T>(
        &self,
        write: impl FnOnce(&mut Draft<'_>) -> Result<T, ChangeError>,
    ) -> Result<(T, Group), ChangeError> {
        let directory = self.ledger.directory.borrow();
        let mut draft = Draft::new(&directory);
        let answer = write(&mut draft)?;
        Ok((answer, draft.into_group()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.ledger.is_changing.set(false);
    }
}

impl Machine for Ledger {
    fn apply(&mut self, at: Lsn, record: Record<'_>, _: &mut Blobs<'_>) -> Result<(), Damaged> {
        self.directory.borrow_mut().apply(at, record)
    }

    fn dirty(&self) -> Vec<u32> {
        self.directory.borrow().dirty.iter().copied().collect()
    }

    fn save(&mut self, major: u32, _: Lsn, page: &mut dyn FnMut(u64, Option<Vec<u8>>)) {
        let mut directory = self.directory.borrow_mut();
        directory.dirty.remove(&major);
        page(0, directory.page(major));
    }

    fn load(&mut self, major: u32, minor: u64, at: Lsn, octets: &[u8]) -> Result<(), Damaged> {
        self.directory.borrow_mut().load(major, minor, at, octets)
    }

    /// The directory refers to no blob.
    fn references(&self, _: &mut dyn FnMut(BlobId)) {}

    fn taint(&mut self) {
        let mut directory = self.directory.borrow_mut();
        let Directory { dirty, majors, .. } = &mut *directory;
        dirty.clone_from(majors);
    }
}

#[cfg(test)]
impl Ledger {
    /// Makes a change as the log would bring it, without a log.
    pub(crate) fn change<T>(
        &self,
        write: impl FnOnce(&mut Draft<'_>) -> Result<T, ChangeError>,
    ) -> T {
        use crate::store::record::OwnedRecord;
        let turn = self.turn().expect("nobody else changes it");
        let (changed, group) = turn.draft(write).expect("it can be made");
        drop(turn);
        for OwnedRecord { kind, version, flags, account, body } in &group.records {
            let record =
                Record { kind: *kind, version: *version, flags: *flags, account: *account, body };
            let mut directory = self.directory.borrow_mut();
            let at = Lsn(directory.snapshot.version() + 1);
            directory.apply(at, record).expect("it was just written");
        }
        changed
    }
}

/// Who has an address. More than one only while a log is read again.
#[derive(Debug, Default)]
struct Holders {
    users: Vec<Arc<User>>,
    alias: Option<Arc<Alias>>,
}

/// The state, on the shard that owns it.
#[derive(Debug)]
pub struct Directory {
    /// How many logs the store was made with.
    first_logs: u16,
    /// How many accounts each log has.
    lodgers: Vec<u32>,
    users: Sorted<u32, Arc<User>>,
    aliases: Sorted<u32, Sorted<Name, Arc<Alias>>>,
    domains: Sorted<u32, Sorted<Arc<str>, Domain>>,
    names: Sorted<Name, Holders>,
    /// Enabled accounts by domain.
    enabled_by_domain: BTreeSet<(Arc<str>, u32)>,
    /// The highest account ever given.
    highest: u32,
    dirty: BTreeSet<u32>,
    /// Every major that ever had a page.
    majors: BTreeSet<u32>,
    /// Where the pages of the checkpoint stand.
    loaded: Sorted<u32, Lsn>,
    snapshot: Arc<Snapshot>,
}

impl Default for Directory {
    /// Of a store with one log.
    fn default() -> Directory {
        Directory {
            first_logs: 1,
            lodgers: vec![0],
            users: Sorted::new(),
            aliases: Sorted::new(),
            domains: Sorted::new(),
            names: Sorted::new(),
            enabled_by_domain: BTreeSet::new(),
            highest: 0,
            dirty: BTreeSet::new(),
            majors: BTreeSet::new(),
            loaded: Sorted::new(),
            snapshot: Arc::default(),
        }
    }
}

impl Directory {
    /// The highest account ever given.
    pub(super) fn highest(&self) -> AccountId {
        AccountId(self.highest)
    }

    /// How many accounts each log has.
    pub(super) fn lodgers(&self) -> &[u32] {
        &self.lodgers
    }

    /// How many logs the store was made with.
    pub(super) fn first_logs(&self) -> u16 {
        self.first_logs
    }

    pub(super) fn entry(&self, name: &Name) -> Option<Entry> {
        self.names.get(name).and_then(entry_of)
    }

    pub(super) fn has_domain(&self, name: &str) -> bool {
        self.domains.get(&record::domain_major(name)).is_some_and(|some| some.contains_key(name))
    }

    /// The entries from `from` on, in the order of names.
    pub(super) fn entries_from(&self, from: &Name) -> impl Iterator<Item = (&Name, Entry)> {
        let range = self.names.range(from.clone()..);
        range.filter_map(|(name, holders)| Some((name, entry_of(holders)?)))
    }

    /// All domains, in no useful order.
    pub(super) fn domains(&self) -> impl Iterator<Item = &Domain> {
        self.domains.values().flat_map(Sorted::values)
    }

    fn apply(&mut self, at: Lsn, record: Record<'_>) -> Result<(), Damaged> {
        let is_known = record.version == record::VERSION
            && (record::PUT_DOMAIN..=record::DEL_ALIAS).contains(&record.kind);
        if !is_known {
            if record.flags & FLAG_SKIPPABLE != 0 {
                return Ok(());
            }
            let Record { kind, version, .. } = record;
            return Err(Damaged(format!("directory record of kind {kind} version {version}")));
        }
        match record.kind {
            record::PUT_DOMAIN => {
                let domain = Domain::decode(record.body, self.first_logs)?;
                if self.touch(record::domain_major(&domain.name), at) {
                    self.put_domain(domain);
                }
            }
            record::DEL_DOMAIN => {
                let name = record::decode_text(record.body)?;
                if self.touch(record::domain_major(name), at) {
                    self.del_domain(name);
                }
            }
            record::PUT_USER => {
                let user = User::decode(record.body, self.first_logs)?;
                self.raise_highest(user.account.0);
                if self.touch(record::user_major(user.account), at) {
                    self.put_user(user);
                }
            }
            record::DEL_USER => {
                let account = AccountId(record::decode_number(record.body)?);
                if self.touch(record::user_major(account), at) {
                    self.del_user(account);
                }
            }
            record::PUT_ALIAS => {
                let alias = Alias::decode(record.body, self.first_logs)?;
                if self.touch(record::alias_major(alias.name.as_str()), at) {
                    self.put_alias(alias);
                }
            }
            _ => {
                let name = record::decode_name(record.body)?;
                if self.touch(record::alias_major(name.as_str()), at) {
                    self.del_alias(&name);
                }
            }
        }
        Ok(())
    }

    /// Whether a record at `at` is news to this major; if so it is changed by it.
    fn touch(&mut self, major: u32, at: Lsn) -> bool {
        if self.loaded.get(&major).is_some_and(|&loaded| at <= loaded) {
            return false;
        }
        self.dirty.insert(major);
        self.majors.insert(major);
        true
    }

    fn raise_highest(&mut self, account: u32) {
        if account > self.highest {
            self.highest = account;
            self.dirty.insert(MAJOR_HIGHEST);
            self.majors.insert(MAJOR_HIGHEST);
        }
    }

    fn put_domain(&mut self, domain: Domain) {
        let name = Arc::clone(&domain.name);
        let bucket = self.domains.entry(record::domain_major(&name)).or_default();
        bucket.insert(Arc::clone(&name), domain);
        self.publish_domain(&name);
    }

    fn del_domain(&mut self, name: &str) {
        remove_from(&mut self.domains, record::domain_major(name), name);
        self.publish_domain(name);
    }

    fn put_user(&mut self, user: User) {
        self.del_user(user.account);
        let user = Arc::new(user);
        let account = user.account.0;
        if let Some(count) = self.lodgers.get_mut(usize::from(user.log.0)) {
            *count += 1;
        }
        let domain: Arc<str> = user.name.domain().into();
        if user.enabled {
            self.enabled_by_domain.insert((Arc::clone(&domain), account));
        }
        self.names.entry(user.name.clone()).or_default().users.push(Arc::clone(&user));
        self.users.insert(account, Arc::clone(&user));
        Arc::make_mut(&mut self.snapshot).set_away(user.account, Some(&user));
        self.publish_name(&user.name);
        self.publish_first(&domain);
    }

    fn del_user(&mut self, account: AccountId) {
        let Some(user) = self.users.remove(&account.0) else {
            return;
        };
        if let Some(count) = self.lodgers.get_mut(usize::from(user.log.0)) {
            *count -= 1;
        }
        let domain: Arc<str> = user.name.domain().into();
        self.enabled_by_domain.remove(&(Arc::clone(&domain), account.0));
        if let Some(holders) = self.names.get_mut(&user.name) {
            holders.users.retain(|holder| holder.account != account);
        }
        Arc::make_mut(&mut self.snapshot).set_away(account, None);
        self.publish_name(&user.name);
        self.publish_first(&domain);
    }

    fn put_alias(&mut self, alias: Alias) {
        let alias = Arc::new(alias);
        let bucket = self.aliases.entry(record::alias_major(alias.name.as_str())).or_default();
        bucket.insert(alias.name.clone(), Arc::clone(&alias));
        self.names.entry(alias.name.clone()).or_default().alias = Some(Arc::clone(&alias));
        self.publish_name(&alias.name);
    }

    fn del_alias(&mut self, name: &Name) {
        remove_from(&mut self.aliases, record::alias_major(name.as_str()), name);
        if let Some(holders) = self.names.get_mut(name) {
            holders.alias = None;
        }
        self.publish_name(name);
    }

    /// Brings the snapshot in line with who holds `name`.
    fn publish_name(&mut self, name: &Name) {
        let entry = self.names.get(name).and_then(entry_of);
        if entry.is_none() {
            self.names.remove(name);
        }
        Arc::make_mut(&mut self.snapshot).set_name(name.as_str(), entry);
    }

    fn publish_domain(&mut self, name: &str) {
        let bucket = self.domains.get(&record::domain_major(name));
        let served = bucket
            .and_then(|bucket| bucket.get(name))
            .map(|domain| Served { domain: domain.clone(), first: self.first_of(name) });
        Arc::make_mut(&mut self.snapshot).set_domain(name, served);
    }

    /// Brings the snapshot in line with who is the oldest, if that changed.
    fn publish_first(&mut self, domain: &str) {
        let first_of_domain = self.first_of(domain);
        let shown = self.snapshot.served(domain).map(|served| served.first.clone());
        if shown.is_some_and(|shown| shown != first_of_domain) {
            self.publish_domain(domain);
        }
    }

    fn first_of(&self, domain: &str) -> Option<Arc<User>> {
        let (first_domain, account) =
            self.enabled_by_domain.range((Arc::from(domain), 0)..).next()?;
        if &**first_domain != domain {
            return None;
        }
        self.users.get(account).cloned()
    }

    fn page(&self, major: u32) -> Option<Vec<u8>> {
        match record::part(major) {
            Part::Users => {
                let range = self.users.range(record::accounts_of(major));
                record::encode_page(range.map(|(_, user)| &**user), self.first_logs)
            }
            Part::Aliases => {
                let bucket = self.aliases.get(&major)?;
                record::encode_page(bucket.values().map(|alias| &**alias), self.first_logs)
            }
            Part::Domains => {
                record::encode_page(self.domains.get(&major)?.values(), self.first_logs)
            }
            Part::Highest => {
                let mut page = vec![record::VERSION];
                page.extend(record::encode_number(self.highest));
                Some(page)
            }
        }
    }

    fn load(&mut self, major: u32, minor: u64, at: Lsn, octets: &[u8]) -> Result<(), Damaged> {
        if minor != 0 {
            return Err(Damaged(format!("directory page {major:#x} {minor} cannot be")));
        }
        match record::part(major) {
            Part::Users => {
                for user in record::decode_page::<User>(octets, self.first_logs)? {
                    self.highest = self.highest.max(user.account.0);
                    self.put_user(user);
                }
            }
            Part::Aliases => {
                record::decode_page(octets, self.first_logs)?
                    .into_iter()
                    .for_each(|alias| self.put_alias(alias));
            }
            Part::Domains => {
                record::decode_page(octets, self.first_logs)?
                    .into_iter()
                    .for_each(|domain| self.put_domain(domain));
            }
            Part::Highest => match octets.split_first() {
                Some((&record::VERSION, number)) => {
                    self.highest = self.highest.max(record::decode_number(number)?);
                }
                _ => return Err(Damaged("the page of the highest account is not known".into())),
            },
        }
        self.majors.insert(major);
        let loaded = self.loaded.entry(major).or_default();
        *loaded = at.max(*loaded);
        Ok(())
    }
}

/// The one that counts: what came last has the highest number, and an alias was added after the
/// user of that name was gone, or is gone itself once all is read.
fn entry_of(holders: &Holders) -> Option<Entry> {
    if let Some(alias) = &holders.alias {
        return Some(Entry::Alias(Arc::clone(alias)));
    }
    let user = holders.users.iter().max_by_key(|user| user.account)?;
    Some(Entry::User(Arc::clone(user)))
}

fn remove_from<K: Ord + std::borrow::Borrow<Q>, Q: Ord + ?Sized, V>(
    buckets: &mut Sorted<u32, Sorted<K, V>>,
    major: u32,
    key: &Q,
) {
    if let Some(bucket) = buckets.get_mut(&major) {
        bucket.remove(key);
        if bucket.is_empty() {
            buckets.remove(&major);
        }
    }
}
