//! What the directory is made of, and its octets in the log.
//!
//! All records are of version 1. Numbers are little-endian, a text is its length (u32) and UTF-8. A
//! page of a checkpoint is the octet 1, the number of entries (u32), and the entries, each as the
//! body of its record behind its length.
//!
//! | kind | record | body |
//! |---|---|---|
//! | 64 | domain added or changed | `created u64` µs since 1970, `name text` |
//! | 65 | domain removed | `name text` |
//! | 66 | user added or changed | `account u32`, `flags u32` (1: enabled, 2: hidden capabilities are there, 4: application passwords are there, 8: they have keys of SCRAM, 16: what is answered while he is away, 32: the log is there), `created u64`, `quota u64` octets, 0 for none, `name text`, `hash text`: the password's hash, then keys of SCRAM (RFC 5803), a space between two; with 2 `text` names of hidden IMAP capabilities, a space between two; with 4 `count u32`, and of each application password `created u64`, `name text`, `digest` its SHA-256 behind its length, and with 8 `text` its keys of SCRAM, a space between two; with 16 as in `vacation.rs`; with 32 `log u16` |
//! | 67 | user removed | `account u32` |
//! | 68 | alias added or changed | `count u32`, `name text`, `target text`{count}, and, where it has one, `owner text` |
//! | 69 | alias removed | `name text` |
//!
//! | major | page (minor 0) |
//! |---|---|
//! | account / 256 | the users of these accounts |
//! | 0x4000_0000 + hash(name) mod 4096 | the aliases of these names |
//! | 0x8000_0000 + hash(name) mod 256 | the domains of these names |
//! | 0xC000_0000 | 1 octet 1, `u32` the highest account ever given |
//!
//! The hash is xxh3-64. The header of every record says account 0: an account may move to another
//! log, its entry here does not.

use super::name::Name;
use super::vacation::Vacation;
use crate::bytes::codec::{Put, Reader, Short, to_u32};
use crate::model::id::{AccountId, LogId};
use crate::model::time::Wall;
use crate::proto::sasl::{Keys, Terms};
use crate::store::Damaged;
use crate::store::record::kind::DIRECTORY_FIRST;
use crate::wire::imap::capability::Capabilities;
use std::fmt;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

pub(super) const PUT_DOMAIN: u8 = DIRECTORY_FIRST;
pub(super) const DEL_DOMAIN: u8 = DIRECTORY_FIRST + 1;
pub(super) const PUT_USER: u8 = DIRECTORY_FIRST + 2;
pub(super) const DEL_USER: u8 = DIRECTORY_FIRST + 3;
pub(super) const PUT_ALIAS: u8 = DIRECTORY_FIRST + 4;
pub(super) const DEL_ALIAS: u8 = DIRECTORY_FIRST + 5;
pub(super) const VERSION: u8 = 1;

const MAJOR_ALIASES: u32 = 0x4000_0000;
const MAJOR_DOMAINS: u32 = 0x8000_0000;
pub(super) const MAJOR_HIGHEST: u32 = 0xC000_0000;
const ALIAS_BUCKETS: u64 = 4_096;
const DOMAIN_BUCKETS: u64 = 256;

const FLAG_ENABLED: u32 = 1;
const FLAG_HIDDEN: u32 = 2;
const FLAG_APPS: u32 = 4;
const FLAG_APP_KEYS: u32 = 8;
const FLAG_VACATION: u32 = 16;
const FLAG_LOG: u32 = 32;

/// A domain that is served here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Lower-case A-labels.
    pub name: Arc<str>,
    pub created: Wall,
}

/// One who has an account.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    pub account: AccountId,
    /// Where the account lies.
    pub log: LogId,
    pub name: Name,
    /// The password's hash, and keys of SCRAM made of the same password, a space between two.
    pub hash: Box<str>,
    /// Passwords of single programs, the oldest first.
    pub apps: Box<[AppPassword]>,
    /// Octets of mail; 0 for no bound.
    pub quota: u64,
    /// Off: no login, and mail is refused with 550 5.2.1.
    pub enabled: bool,
    /// What IMAP neither offers nor does for this user.
    pub imap_hidden: Capabilities,
    /// What is answered while he is away.
    pub vacation: Option<Arc<Vacation>>,
    pub created: Wall,
}

/// A password that one program of a user has; made by us, so that a plain digest of it is enough.
#[derive(Clone, PartialEq, Eq)]
pub struct AppPassword {
    pub name: Box<str>,
    /// SHA-256.
    pub digest: Box<[u8]>,
    /// Keys of SCRAM, a space between two, on the terms of the user's own if he has such; or none.
    pub keys: Box<str>,
    pub created: Wall,
}

impl AppPassword {
    pub fn keys(&self) -> impl Iterator<Item = Keys> {
        self.keys.split(' ').filter_map(Keys::parse)
    }
}

impl User {
    /// The hash of the password.
    pub fn password_hash(&self) -> &str {
        self.hash.split(' ').next().unwrap_or_default()
    }

    /// Keys of SCRAM made of the password.
    pub fn keys(&self) -> impl Iterator<Item = Keys> {
        self.hash.split(' ').filter_map(Keys::parse)
    }

    /// On which terms keys of application passwords are: a new password of the user's own has to have
    /// its keys on the same, or all of them would be of no use.
    pub fn bound_terms(&self) -> Vec<Terms> {
        let mut all: Vec<Terms> = Vec::new();
        for keys in self.apps.iter().flat_map(AppPassword::keys) {
            if !all.contains(&keys.terms) {
                all.push(keys.terms);
            }
        }
        all
    }

    /// On which terms the keys of a new application password have to be, for each hash that the user
    /// has keys of.
    pub fn terms(&self) -> Vec<Terms> {
        let own = self.keys().map(|keys| keys.terms);
        let mut all: Vec<Terms> = Vec::new();
        for terms in own.chain(self.bound_terms()) {
            if all.iter().all(|one| one.hash != terms.hash) {
                all.push(terms);
            }
        }
        all
    }
}

/// Without the hash: it is nobody's business.
impl fmt::Debug for User {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let User { account, name, quota, enabled, .. } = self;
        write!(out, "User {account} {name} quota {quota} enabled {enabled}")
    }
}

/// An address that stands for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    pub name: Name,
    /// Addresses here or elsewhere; the domain in A-labels, the local part as it was given.
    pub targets: Box<[Box<str>]>,
    /// Whom reports on what goes to the targets are for (RFC 5321 §3.9.2), as a target is written. With
    /// one the alias is a list; without, reports are its sender's.
    pub owner: Option<Box<str>>,
}

/// Something that has a page of its own kind.
pub(super) trait Stored: Sized {
    /// `first_logs`: how many logs the store was made with; by it lies what does not say where.
    fn encode(&self, first_logs: u16) -> Vec<u8>;
    fn decode(body: &[u8], first_logs: u16) -> Result<Self, Damaged>;
}

impl Stored for Domain {
    fn encode(&self, _: u16) -> Vec<u8> {
        let mut body = Vec::new();
        body.put_u64(self.created.0);
        body.put_slice(self.name.as_bytes());
        body
    }

    fn decode(body: &[u8], _: u16) -> Result<Domain, Damaged> {
        let mut fields = Fields(Reader::new(body));
        let created = Wall(fields.u64()?);
        let name = fields.text()?.into();
        fields.end()?;
        Ok(Domain { name, created })
    }
}

impl Stored for User {
    fn encode(&self, first_logs: u16) -> Vec<u8> {
        let mut body = Vec::new();
        body.put_u32(self.account.0);
        let hidden: Vec<&str> = self.imap_hidden.each().map(|(_, name)| name).collect();
        let enabled = if self.enabled { FLAG_ENABLED } else { 0 };
        let has_keys = self.apps.iter().any(|app| !app.keys.is_empty());
        let keys = if has_keys { FLAG_APP_KEYS } else { 0 };
        let apps = if self.apps.is_empty() { 0 } else { FLAG_APPS | keys };
        let vacation = if self.vacation.is_some() { FLAG_VACATION } else { 0 };
        let hides = if hidden.is_empty() { 0 } else { FLAG_HIDDEN };
        // An earlier release reads what lies where it would look for it.
        let lies = if self.log == self.account.log(first_logs) { 0 } else { FLAG_LOG };
        body.put_u32(enabled | apps | vacation | hides | lies);
        body.put_u64(self.created.0);
        body.put_u64(self.quota);
        body.put_slice(self.name.as_str().as_bytes());
        body.put_slice(self.hash.as_bytes());
        if !hidden.is_empty() {
            body.put_slice(hidden.join(" ").as_bytes());
        }
        if apps != 0 {
            body.put_u32(to_u32(self.apps.len()));
            for AppPassword { name, digest, keys, created } in &self.apps {
                body.put_u64(created.0);
                body.put_slice(name.as_bytes());
                body.put_slice(digest);
                if has_keys {
                    body.put_slice(keys.as_bytes());
                }
            }
        }
        if let Some(vacation) = &self.vacation {
            vacation.put(&mut body);
        }
        if lies != 0 {
            body.put_u16(self.log.0);
        }
        body
    }

    fn decode(body: &[u8], first_logs: u16) -> Result<User, Damaged> {
        let mut fields = Fields(Reader::new(body));
        let account = AccountId(fields.u32()?);
        let flags = fields.u32()?;
        let created = Wall(fields.u64()?);
        let quota = fields.u64()?;
        let name = fields.name()?;
        let hash = fields.text()?.into();
        let hidden = if flags & FLAG_HIDDEN != 0 { fields.text()? } else { "" };
        let imap_hidden = hidden.split(' ').collect();
        let count = if flags & FLAG_APPS != 0 { fields.u32()? } else { 0 };
        let has_keys = flags & FLAG_APP_KEYS != 0;
        let apps = (0..count).map(|_| fields.app(has_keys)).collect::<Result<_, _>>()?;
        let is_away = flags & FLAG_VACATION != 0;
        let vacation = is_away.then(|| Vacation::read(&mut fields).map(Arc::new)).transpose()?;
        let log = if flags & FLAG_LOG != 0 { fields.log()? } else { account.log(first_logs) };
        fields.end()?;
        let enabled = flags & FLAG_ENABLED != 0;
        Ok(User { account, log, name, hash, apps, quota, enabled, imap_hidden, vacation, created })
    }
}

impl Stored for Alias {
    fn encode(&self, _: u16) -> Vec<u8> {
        let mut body = Vec::new();
        body.put_u32(to_u32(self.targets.len()));
        body.put_slice(self.name.as_str().as_bytes());
        for target in self.targets.iter().chain(&self.owner) {
            body.put_slice(target.as_bytes());
        }
        body
    }

    fn decode(body: &[u8], _: u16) -> Result<Alias, Damaged> {
        let mut fields = Fields(Reader::new(body));
        let count = fields.u32()?;
        let name = fields.name()?;
        let targets = (0..count).map(|_| fields.text().map(Box::from)).collect::<Result<_, _>>()?;
        let owner = (!fields.0.rest().is_empty()).then(|| fields.text().map(Box::from));
        let owner = owner.transpose()?;
        fields.end()?;
        Ok(Alias { name, targets, owner })
    }
}

pub(super) fn encode_text(text: &str) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_slice(text.as_bytes());
    body
}

pub(super) fn decode_text(body: &[u8]) -> Result<&str, Damaged> {
    let mut fields = Fields(Reader::new(body));
    let text = fields.text()?;
    fields.end()?;
    Ok(text)
}

pub(super) fn decode_name(body: &[u8]) -> Result<Name, Damaged> {
    Name::stored(decode_text(body)?).ok_or_else(damaged)
}

pub(super) fn encode_number(number: u32) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_u32(number);
    body
}

pub(super) fn decode_number(body: &[u8]) -> Result<u32, Damaged> {
    let mut fields = Fields(Reader::new(body));
    let number = fields.u32()?;
    fields.end()?;
    Ok(number)
}

/// A page of these; `None` if there are none.
pub(super) fn encode_page<'a, T: Stored + 'a>(
    entries: impl Iterator<Item = &'a T>,
    first_logs: u16,
) -> Option<Vec<u8>> {
    let mut page = vec![VERSION, 0, 0, 0, 0];
    let mut count = 0_u32;
    for entry in entries {
        page.put_slice(&entry.encode(first_logs));
        count += 1;
    }
    page[1..5].copy_from_slice(&count.to_le_bytes());
    (count > 0).then_some(page)
}

pub(super) fn decode_page<T: Stored>(page: &[u8], first_logs: u16) -> Result<Vec<T>, Damaged> {
    let mut fields = Fields(Reader::new(page));
    if fields.0.u8() != Ok(VERSION) {
        return Err(Damaged("a directory page of a version that is not known".into()));
    }
    let count = fields.u32()?;
    let entries = (0..count)
        .map(|_| T::decode(fields.0.slice().map_err(|Short| damaged())?, first_logs))
        .collect::<Result<_, _>>()?;
    fields.end()?;
    Ok(entries)
}

pub(super) fn user_major(account: AccountId) -> u32 {
    account.0 >> 8
}

/// The accounts of one major of users.
pub(super) fn accounts_of(major: u32) -> std::ops::RangeInclusive<u32> {
    major << 8..=major << 8 | 0xFF
}

pub(super) fn alias_major(name: &str) -> u32 {
    MAJOR_ALIASES + bucket(name, ALIAS_BUCKETS)
}

pub(super) fn domain_major(name: &str) -> u32 {
    MAJOR_DOMAINS + bucket(name, DOMAIN_BUCKETS)
}

fn bucket(name: &str, buckets: u64) -> u32 {
    u32::try_from(xxh3_64(name.as_bytes()) % buckets).expect("there are fewer buckets than 2^32")
}

/// What a major holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Users,
    Aliases,
    Domains,
    Highest,
}

pub(super) fn part(major: u32) -> Part {
    match major >> 30 {
        0 => Part::Users,
        1 => Part::Aliases,
        2 => Part::Domains,
        _ => Part::Highest,
    }
}

fn damaged() -> Damaged {
    Damaged("a directory record that is cut short or too long".into())
}

pub(super) struct Fields<'a>(pub(super) Reader<'a>);

impl<'a> Fields<'a> {
    pub(super) fn u32(&mut self) -> Result<u32, Damaged> {
        self.0.u32().map_err(|Short| damaged())
    }

    fn log(&mut self) -> Result<LogId, Damaged> {
        self.0.u16().map(LogId).map_err(|Short| damaged())
    }

    fn u64(&mut self) -> Result<u64, Damaged> {
        self.0.u64().map_err(|Short| damaged())
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Damaged> {
        let octets = self.0.slice().map_err(|Short| damaged())?;
        std::str::from_utf8(octets).map_err(|_| Damaged("a directory text is not UTF-8".into()))
    }

    fn app(&mut self, has_keys: bool) -> Result<AppPassword, Damaged> {
        let created = Wall(self.u64()?);
        let name = self.text()?.into();
        let digest = self.0.slice().map_err(|Short| damaged())?.into();
        let keys = if has_keys { self.text()? } else { "" }.into();
        Ok(AppPassword { name, digest, keys, created })
    }

    fn name(&mut self) -> Result<Name, Damaged> {
        Name::stored(self.text()?).ok_or_else(|| Damaged("a directory name without @".into()))
    }

    fn end(&self) -> Result<(), Damaged> {
        if self.0.rest().is_empty() { Ok(()) } else { Err(damaged()) }
    }
}
