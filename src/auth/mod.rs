//! Who somebody is: passwords checked off the shards, tokens judged, and checked ones remembered.
//!
//! A password hash is made to cost 20 ms and 19 MiB; a shard has neither. The first check of a
//! password goes to a small pool of threads; whoever comes again with the same one within minutes
//! is known by a keyed hash of what he said, which costs a microsecond. The stored hash is part of
//! that, so that a changed password forgets the old one by itself.
//!
//! ```text
//!   name ──> user, or a dummy that costs the same ──> remembered? ──> pause ──> under way? ──> pool
//! ```
//!
//! Promises:
//!   - an unknown user, and one who is switched off, are refused as a wrong password is, take as long,
//!     and count as much
//!   - one wrong password again and again costs one check a minute
//!   - guesses from one address do not keep the owner of an account out who comes from another, and
//!     a flood against one account does not keep other accounts out
//!   - who sends many wrong passwords waits longer and longer for the next check, right or wrong
//!   - checks for those who guess wait behind those for others, and fill no queue but their own
//!   - who is remembered gets in at once, whatever others do
//!
//! Illegal: to log or keep a password.

mod answer;
mod app;
mod bearer;
mod cache;
mod gate;
mod hash;
pub mod oauth;
mod pool;
mod secrets;
mod throttle;

pub use answer::{Answer, Lost};
pub use app::{app_password, digest as app_digest};
pub use bearer::{Admitted, Bearer, Rejected};
pub use hash::{Cost, Imported, NotHashed, hash, import, is_hash, is_outdated, verify};
use pool::Queue;
pub use pool::{Busy, Pool};
pub use secrets::Recipe;
pub use throttle::{Free, Throttle};

use crate::bytes::hash::Map;
use crate::directory::{self, AppPassword, Snapshot, User};
use crate::model::id::AccountId;
use crate::model::limits::{
    CREDENTIALS_REMEMBERED_MAX, PASSWORD_CHECKS_PER_ACCOUNT_MAX, PASSWORD_CHECKS_PER_SITE_MAX,
    PASSWORD_CHECKS_WAITING_MAX, SCRAM_ITERATIONS, SCRAM_KEYS_TRIED_MIN,
};
use crate::model::site::site;
use crate::model::time::Mono;
use crate::proto::sasl::{Hash, Keys, Ring, Secret, Terms, equal};
use cache::{Cache, Tag, tag};
use gate::Gate;
use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use throttle::{Guess, Turn};
use xxhash_rust::xxh3::xxh3_64;

/// What the operator decides about password checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What a new hash costs.
    pub cost: Cost,
    /// Threads that check passwords.
    pub threads: usize,
    /// Checks that may wait for a thread.
    pub waiting_max: usize,
    /// Checks of one account that may be under way.
    pub per_account_max: usize,
    /// Right passwords that a shard remembers, and a quarter of it for wrong ones.
    pub remembered_max: usize,
    /// For how long a right password is remembered.
    pub remembered_for: Duration,
    /// For how long a wrong one is.
    pub refused_for: Duration,
    /// Wrong passwords that cost nothing.
    pub free: Free,
    /// Iterations of new keys of SCRAM, and of those that nobody has.
    pub scram_iterations: u32,
    /// What the salt of users who do not exist is made of: secret, and the same for all shards and
    /// all starts.
    pub salt_key: [u8; 16],
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            cost: Cost::default(),
            threads: 2,
            waiting_max: PASSWORD_CHECKS_WAITING_MAX,
            per_account_max: PASSWORD_CHECKS_PER_ACCOUNT_MAX,
            remembered_max: CREDENTIALS_REMEMBERED_MAX,
            remembered_for: Duration::from_mins(15),
            refused_for: Duration::from_mins(1),
            free: Free::default(),
            scram_iterations: SCRAM_ITERATIONS,
            salt_key: [0; 16],
        }
    }
}

/// What somebody says to be known by. Name and password are prepared by SASLprep
/// ([`crate::proto::sasl::prepare`]).
#[derive(Clone, Copy)]
pub struct Claim<'a> {
    pub user: &'a str,
    pub password: &'a str,
    /// Where the client is.
    pub peer: IpAddr,
}

/// What somebody has shown by SCRAM.
#[derive(Clone, Copy)]
pub struct Proof<'a> {
    pub user: &'a str,
    pub is_right: bool,
    pub peer: IpAddr,
}

/// What came out of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Account(AccountId),
    /// By a password that one of his programs has: it opens his account, and carries none of the rights
    /// that he has himself beyond it.
    App(AccountId),
    /// Unknown user or wrong password; nobody is told which.
    Refused,
    /// The user is switched off, whatever he shows.
    Disabled,
    /// Too much is under way: the client is to come back.
    Busy,
}

/// Checks passwords for one shard.
pub struct Authenticator {
    pool: Pool,
    /// Made anew for each process: what is remembered means nothing elsewhere.
    key: [u8; 32],
    settings: Settings,
    /// That of all shards.
    throttle: Arc<Throttle>,
    memory: RefCell<Memory>,
    tokens: RefCell<bearer::Tokens>,
}

/// What the shard remembers and what it waits for.
struct Memory {
    right: Cache,
    /// Apart, so that a flood of wrong passwords does not push out the right ones.
    wrong: Cache,
    under_way: Map<Tag, Rc<Gate<bool>>>,
    /// Checks under way by account (or name, where there is no account).
    by_subject: Map<u64, usize>,
    /// The same, by where they come from too.
    by_site: Map<(u64, IpAddr), usize>,
}

impl Authenticator {
    /// `key` is 32 random octets; `throttle` is shared by all shards.
    pub fn new(
        settings: Settings,
        pool: Pool,
        key: [u8; 32],
        throttle: Arc<Throttle>,
    ) -> Authenticator {
        let memory = Memory {
            right: Cache::new(settings.remembered_max),
            wrong: Cache::new(settings.remembered_max / 4),
            under_way: Map::default(),
            by_subject: Map::default(),
            by_site: Map::default(),
        };
        let tokens = RefCell::new(bearer::Tokens::new(settings.remembered_max / 4));
        Authenticator { pool, key, settings, throttle, memory: RefCell::new(memory), tokens }
    }

    /// Whose name and password these are. `sleep` is how a pause is waited for. May be dropped at any
    /// time.
    pub async fn verify(
        &self,
        snapshot: &Snapshot,
        names: &directory::Settings,
        claim: Claim<'_>,
        now: Mono,
        sleep: impl AsyncFn(Duration),
    ) -> Verdict {
        let found = snapshot.login(claim.user, names).cloned();
        // Nobody is one in every spelling, as somebody is.
        let name = snapshot.login_name(claim.user, names);
        let claim = Claim { user: &name, ..claim };
        // Made by us out of 128 random bits: neither remembered nor slowed down.
        let digest = app::digest(claim.password);
        let is_app = |user: &&Arc<User>| user.apps.iter().any(|app| equal(&app.digest, &digest));
        let is_on = |user: &&Arc<User>| user.enabled;
        if let Some(user) = found.as_ref().filter(is_on).filter(is_app) {
            return Verdict::App(user.account);
        }
        let Ok(right) = self.is_right(found.as_deref(), claim, now, sleep).await else {
            return Verdict::Busy;
        };
        match found {
            Some(user) if !user.enabled => Verdict::Disabled,
            Some(user) if right => Verdict::Account(user.account),
            _ => Verdict::Refused,
        }
    }

    /// The keys of SCRAM of a user's passwords; of one who has none, keys that look the same and that
    /// nobody can show to know (RFC 5802 §9 leaves it to us). So many at least that how many are tried
    /// does not tell who has a password for a program or two.
    pub fn keys(
        &self,
        snapshot: &Snapshot,
        names: &directory::Settings,
        user: &str,
        hash: Hash,
    ) -> Ring {
        let name = snapshot.login_name(user, names);
        // Also where it is not needed: it takes as long for both.
        let salt = cache::salt(&self.settings.salt_key, hash.name(), &name).into();
        let iterations = self.settings.scram_iterations;
        let unknown = Keys::unknown(Terms { hash, iterations, salt });
        let found = snapshot.login(user, names);
        let all = found.map(|user| all_keys(user)).into_iter().flatten();
        let mut all = all.map(|(keys, _)| keys).filter(|keys| keys.terms.hash == hash);
        let mut ring = Ring::new(all.next().unwrap_or(unknown));
        for keys in all {
            ring.add(keys);
        }
        while ring.len() < SCRAM_KEYS_TRIED_MIN {
            ring.add(Keys::unknown(ring.terms().clone()));
        }
        ring
    }

    /// Who is known by keys of which somebody knows the password: his own one, or that of one of his
    /// programs. Busy: they are nobody's any more.
    pub fn holder(
        &self,
        snapshot: &Snapshot,
        names: &directory::Settings,
        user: &str,
        keys: &Keys,
    ) -> Verdict {
        let Some(user) = snapshot.login(user, names) else { return Verdict::Busy };
        match all_keys(user).find(|(one, _)| one == keys) {
            None => Verdict::Busy,
            Some(_) if !user.enabled => Verdict::Disabled,
            Some((_, true)) => Verdict::App(user.account),
            Some((_, false)) => Verdict::Account(user.account),
        }
    }

    /// Whose proof that was; the pauses are those of passwords.
    pub async fn prove(
        &self,
        snapshot: &Snapshot,
        names: &directory::Settings,
        proof: Proof<'_>,
        now: Mono,
        sleep: impl AsyncFn(Duration),
    ) -> Verdict {
        let found = snapshot.login(proof.user, names);
        let subject = subject(found.map(|user| &**user), &snapshot.login_name(proof.user, names));
        let (guess, free) = (Guess { peer: proof.peer, subject }, self.settings.free);
        let Some(Turn { wait: pause, .. }) = self.throttle.enter(guess, free, now) else {
            return Verdict::Busy;
        };
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let now = now.after(pause);
        let known = self.known(snapshot, names, proof.user);
        if known == Verdict::Disabled || !proof.is_right {
            self.throttle.failed(guess, free, now);
            return if known == Verdict::Disabled { known } else { Verdict::Refused };
        }
        self.throttle.welcome(guess, now);
        known
    }

    /// The account of a user whom somebody else has vouched for.
    pub fn known(&self, snapshot: &Snapshot, names: &directory::Settings, user: &str) -> Verdict {
        match snapshot.login(user, names) {
            Some(user) if user.enabled => Verdict::Account(user.account),
            Some(_) => Verdict::Disabled,
            None => Verdict::Refused,
        }
    }

    /// What is to be kept of a password of which this is kept, made on the pool behind those who want
    /// to log in; see [`Recipe::remake`].
    pub async fn secrets(
        &self,
        recipe: Recipe,
        kept: &str,
        bound: Vec<Terms>,
        password: &Secret,
        salts: [[u8; 16]; 3],
    ) -> Result<String, Busy> {
        let (kept, password) = (kept.to_owned(), password.clone());
        let make = move || recipe.remake(&kept, &bound, password.expose(), salts);
        let answer = self.pool.run_in(Queue::Second, make)?;
        match answer.await {
            Ok(Ok(kept)) => Ok(kept),
            Ok(Err(NotHashed)) | Err(Lost) => Err(Busy),
        }
    }

    async fn is_right(
        &self,
        found: Option<&User>,
        claim: Claim<'_>,
        now: Mono,
        sleep: impl AsyncFn(Duration),
    ) -> Result<bool, Busy> {
        let Claim { user: name, password, peer } = claim;
        let site = site(peer);
        let hash = found.map_or_else(|| self.pool.dummy(), |user| Arc::from(user.password_hash()));
        let subject = subject(found, name);
        let (account, name) = found.map_or((AccountId(0), name), |user| {
            // What was right is not remembered as that of one who is switched off, nor the other way round.
            (user.account, if user.enabled { "" } else { "off" })
        });
        let tag = tag(&self.key, account, name, &hash, password);
        // At once only from where it was right before: elsewhere a password that its owner has shown
        // lately could be guessed without a pause.
        if let Some(right) = self.memory.borrow_mut().recall_from(tag, site, now) {
            return Ok(right);
        }
        let (guess, free) = (Guess { peer, subject }, self.settings.free);
        let Turn { wait: pause, is_clean } = self.throttle.enter(guess, free, now).ok_or(Busy)?;
        let queue = if is_clean { Queue::First } else { Queue::Second };
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let now = now.after(pause);
        loop {
            let remembered = self.memory.borrow_mut().recall(tag, now);
            if let Some(right) = remembered {
                self.known_from(guess, tag, right, now);
                return Ok(right);
            }
            let gate = match self.enter(subject, site, tag)? {
                Entered::First(turn) => {
                    let (hash, password) = (Arc::clone(&hash), password.to_owned());
                    let (nobody, cost) = (self.pool.dummy(), self.settings.cost);
                    let answer = self.pool.run_in(queue, move || {
                        let right = verify(&password, &hash);
                        // A cheap hash from elsewhere is not refused sooner than nobody is.
                        if !right && is_outdated(&hash, cost) {
                            verify(&password, &nobody);
                        }
                        right
                    })?;
                    let is_right = answer.await.map_err(|Lost| Busy)?;
                    // As a wrong one in all that can be measured.
                    let right = is_right && found.is_some_and(|user| user.enabled);
                    self.remember(tag, right, now);
                    if !right {
                        self.throttle.failed(guess, free, now);
                    }
                    self.known_from(guess, tag, right, now);
                    turn.gate.open(right);
                    return Ok(right);
                }
                Entered::Behind(gate) => gate,
            };
            // Many sessions of one user, after a restart, say, cost one check.
            if let Some(right) = gate.wait().await {
                self.known_from(guess, tag, right, now);
                return Ok(right);
            }
        }
    }

    /// The right password came from there: it does not wait the next time.
    fn known_from(&self, guess: Guess, tag: Tag, right: bool, now: Mono) {
        if right {
            self.throttle.welcome(guess, now);
            let until = now.after(self.settings.remembered_for);
            self.memory.borrow_mut().right.insert(cache::from(tag, site(guess.peer)), until, now);
        }
    }

    fn remember(&self, tag: Tag, right: bool, now: Mono) {
        let Settings { remembered_for, refused_for, .. } = self.settings;
        let mut memory = self.memory.borrow_mut();
        if right {
            memory.right.insert(tag, now.after(remembered_for), now);
        } else {
            memory.wrong.insert(tag, now.after(refused_for), now);
        }
    }

    fn enter(&self, subject: u64, site: IpAddr, tag: Tag) -> Result<Entered<'_>, Busy> {
        let mut memory = self.memory.borrow_mut();
        if let Some(gate) = memory.under_way.get(&tag) {
            return Ok(Entered::Behind(Rc::clone(gate)));
        }
        let all = memory.by_subject.get(&subject).copied().unwrap_or(0);
        let here = memory.by_site.get(&(subject, site)).copied().unwrap_or(0);
        if all >= self.settings.per_account_max || here >= PASSWORD_CHECKS_PER_SITE_MAX {
            return Err(Busy);
        }
        memory.by_subject.insert(subject, all + 1);
        memory.by_site.insert((subject, site), here + 1);
        let gate = Rc::new(Gate::default());
        memory.under_way.insert(tag, Rc::clone(&gate));
        Ok(Entered::First(CheckTurn { of: self, subject, site, tag, gate }))
    }
}

/// Whose checks are counted: an account, or a name that is none, in its one form (nobody is one in every
/// spelling, as somebody is); its upper half tells.
fn subject(found: Option<&User>, name: &str) -> u64 {
    found.map_or_else(|| xxh3_64(name.as_bytes()) | 1 << 63, |user| u64::from(user.account.0))
}

/// Keys of a user's own password, then those of his programs' (true).
fn all_keys(user: &User) -> impl Iterator<Item = (Keys, bool)> {
    let apps = user.apps.iter().flat_map(AppPassword::keys);
    user.keys().map(|keys| (keys, false)).chain(apps.map(|keys| (keys, true)))
}

/// One less; none is not kept.
fn leave<K: Eq + std::hash::Hash>(counts: &mut Map<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Memory {
    fn recall_from(&mut self, tag: Tag, site: IpAddr, now: Mono) -> Option<bool> {
        if self.right.contains(cache::from(tag, site), now) {
            return Some(true);
        }
        self.wrong.contains(tag, now).then_some(false)
    }

    fn recall(&mut self, tag: Tag, now: Mono) -> Option<bool> {
        if self.right.contains(tag, now) {
            return Some(true);
        }
        self.wrong.contains(tag, now).then_some(false)
    }
}

enum Entered<'a> {
    First(CheckTurn<'a>),
    Behind(Rc<Gate<bool>>),
}

/// The one check of a credential that is under way. Ends when dropped, also unanswered: then one of
/// those behind takes over.
struct CheckTurn<'a> {
    of: &'a Authenticator,
    subject: u64,
    site: IpAddr,
    tag: Tag,
    gate: Rc<Gate<bool>>,
}

impl Drop for CheckTurn<'_> {
    fn drop(&mut self) {
        let mut memory = self.of.memory.borrow_mut();
        memory.under_way.remove(&self.tag);
        leave(&mut memory.by_subject, &self.subject);
        leave(&mut memory.by_site, &(self.subject, self.site));
        drop(memory);
        self.gate.leave();
    }
}

#[cfg(test)]
mod tests;
