//! What logging in is in every protocol: the exchange, the check, and the one line of the log that
//! tells of a failure.
//!
//! The words of that line are a promise to those who read logs by machine (`tuning/fail2ban`):
//!
//! ```text
//! event=login_failed protocol=imap peer=192.0.2.7 user=bob method=PLAIN why=refused
//! ```
//! `why` is `refused` (unknown user or wrong password), `disabled` (he is switched off, whatever he
//! shows), `foreign` (may not act for whom
//! he named), `malformed`, or `later`: too much is under way, or waits, to check it, or the password
//! was changed meanwhile.

use super::shard::Shard;
use super::standing::{Ended, Standing};
use crate::auth::{self, Proof, Verdict};
use crate::directory::{self, Snapshot};
use crate::env::Env;
use crate::model::channel::Channel;
use crate::model::id::{AccountId, LogId};
use crate::model::limits::{LOGIN_TIME_MAX, PASSWORD_CHECKS_PER_LOGIN_MAX};
use crate::probe::event::{Level, Value, event};
use crate::proto::sasl::{
    Claim, Credentials, Exchange, Mechanism, Mechanisms, Move, Outcome, Turn, encode,
};
use futures_lite::future::or;
use std::net::IpAddr;

/// Where a client stands.
#[derive(Clone, Debug)]
pub struct Door {
    pub protocol: &'static str,
    pub peer: IpAddr,
    pub channel: Channel,
    /// What it may use.
    pub offered: Mechanisms,
}

/// An exchange under way.
#[derive(Debug)]
pub struct Attempt {
    exchange: Exchange,
    /// The mechanism, for the log.
    method: &'static str,
    /// What came out of it, once it is known and the client has still to hear something else.
    settled: Option<Result<Login, Outcome>>,
}

impl Attempt {
    /// The client has been told that it is not let in, and has only to answer that.
    pub fn is_refused(&self) -> bool {
        matches!(self.settled, Some(Err(_)))
    }
}

/// One who has logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub account: AccountId,
    /// Where it lies.
    pub log: LogId,
    /// As he called himself, or was called by the one who acts for him.
    pub user: Box<str>,
    /// For the log.
    pub method: &'static str,
    pub standing: Standing,
}

/// What a client is to hear next.
#[derive(Debug)]
pub enum Heard {
    Challenge(Vec<u8>),
    /// The exchange is over.
    Done(Result<Login, Outcome>),
}

impl<E: Env> Shard<E> {
    /// Takes a client's move; `attempt` is the exchange of its session between two of them.
    pub async fn hear(&self, door: &Door, attempt: &mut Option<Box<Attempt>>, said: Move) -> Heard {
        let mut open = match (&said, attempt.take()) {
            (Move::Respond(_), Some(open)) => open,
            (Move::Begin(mechanism, _), _) => Box::new(self.attempt(door, *mechanism)),
            (Move::Respond(_), None) => return Heard::Done(Err(Outcome::Malformed)),
        };
        let mut turn = open.exchange.step(said);
        loop {
            turn = match turn {
                Turn::Challenge(octets) => {
                    *attempt = Some(open);
                    return Heard::Challenge(octets);
                }
                Turn::Keys { user, hash } => {
                    let settings = self.settings();
                    let snapshot = self.directory();
                    let names = &settings.directory;
                    open.exchange.keys(self.authenticator.keys(&snapshot, names, &user, hash))
                }
                Turn::Check(claim) => {
                    let done = Box::pin(self.judge(door, claim, open.method)).await;
                    let Some(word) = open.exchange.settle(done.is_ok(), None) else {
                        return Heard::Done(done);
                    };
                    open.settled = Some(done);
                    Turn::Challenge(word)
                }
                Turn::Judge(token) => {
                    let (done, error) = Box::pin(self.take(door, &token, open.method)).await;
                    let error = error.as_ref().map(|(error, discovery)| (*error, discovery));
                    let Some(word) = open.exchange.settle(done.is_ok(), error) else {
                        return Heard::Done(done);
                    };
                    open.settled = Some(done);
                    Turn::Challenge(word)
                }
                Turn::Settled => {
                    return Heard::Done(open.settled.take().unwrap_or(Err(Outcome::Malformed)));
                }
                Turn::Malformed => {
                    tell_failed(door, "", open.method, Outcome::Malformed);
                    return Heard::Done(Err(Outcome::Malformed));
                }
            }
        }
    }

    fn attempt(&self, door: &Door, mechanism: Mechanism) -> Attempt {
        let random: Vec<u8> = (0..3).flat_map(|_| self.env.random().to_le_bytes()).collect();
        let plus = door.offered.each().any(Mechanism::binds);
        let exchange = Exchange::new(&door.channel, plus, &encode(&random));
        Attempt { exchange, method: mechanism.name(), settled: None }
    }

    /// Checks a name and a password that came without SASL.
    pub async fn log_in(
        &self,
        door: &Door,
        credentials: Credentials,
        method: &'static str,
    ) -> Result<Login, Outcome> {
        self.judge(door, Claim::Password(credentials), method).await
    }

    async fn judge(
        &self,
        door: &Door,
        mut claim: Claim,
        method: &'static str,
    ) -> Result<Login, Outcome> {
        if let (Claim::Password(shown), false) = (&mut claim, self.settings().masters.is_empty()) {
            part_master(shown);
        }
        let claim = &claim;
        let (user, acting_for) = match claim {
            Claim::Password(shown) => (&*shown.user, shown.acting_for.as_deref()),
            Claim::Proof { user, acting_for, .. } | Claim::Certificate { user, acting_for } => {
                (&**user, acting_for.as_deref())
            }
        };
        let late = async {
            self.env.sleep(LOGIN_TIME_MAX).await;
            Verdict::Busy
        };
        let verdict = or(self.check(door, claim), late).await;
        let who = match (verdict, acting_for) {
            (Verdict::Account(account) | Verdict::App(account), other)
                if other.is_none_or(|other| self.is_name_of(account, other)) =>
            {
                Ok(((account, user), None))
            }
            (Verdict::Account(master), Some(other)) => match self.act(door, user, other) {
                Some(account) => Ok(((account, other), Some((master, user)))),
                None => Err(Outcome::Foreign),
            },
            // The key of a program, not of a master: who finds it in there has one mailbox.
            (Verdict::Account(_) | Verdict::App(_), _) => Err(Outcome::Foreign),
            (Verdict::Refused, _) => Err(Outcome::Refused),
            (Verdict::Disabled, _) => Err(Outcome::Disabled),
            (Verdict::Busy, _) => Err(Outcome::Later),
        };
        let login = who.and_then(|(who, master)| self.let_in(who, master, method));
        login.inspect_err(|&outcome| tell_failed(door, user, method, outcome))
    }

    /// One who has shown who he is, or whom a master acts for. Refused where he is gone by now: nobody
    /// else knows where his account lies.
    pub(super) fn let_in(
        &self,
        who: (AccountId, &str),
        master: Option<(AccountId, &str)>,
        method: &'static str,
    ) -> Result<Login, Outcome> {
        let all: Vec<(AccountId, &str)> = std::iter::once(who).chain(master).collect();
        let (directory, settings) = (self.directory(), self.settings());
        let standing = Standing::new(&directory, &settings.directory, &all);
        let log = lies_in(&directory, &settings.directory, who).ok_or(Outcome::Refused)?;
        Ok(Login { account: who.0, log, user: who.1.into(), method, standing })
    }

    /// Why a session of one who has logged in has to end now, if it has to.
    pub fn ended(&self, standing: &Standing) -> Option<Ended> {
        standing.ended(&self.snapshot.borrow())
    }

    /// Whether this is a name of the account's own user, in whichever spelling: case, U- or A-labels,
    /// with the domain or without it.
    fn is_name_of(&self, account: AccountId, name: &str) -> bool {
        let settings = self.settings();
        let snapshot = self.directory();
        snapshot.login(name, &settings.directory).is_some_and(|user| user.account == account)
    }

    /// The account of `other`, if `master` may act for everybody; the log has both.
    fn act(&self, door: &Door, master: &str, other: &str) -> Option<AccountId> {
        let (snapshot, settings) = (self.directory(), self.settings());
        let name = snapshot.login_name(master, &settings.directory);
        if !settings.masters.iter().any(|one| **one == *name) {
            return None;
        }
        let known = self.authenticator.known(&snapshot, &settings.directory, other);
        let Verdict::Account(account) = known else { return None };
        let fields = [
            ("protocol", door.protocol.into()),
            ("peer", Value::Shown(&door.peer)),
            ("user", other.into()),
            ("master", (&*name).into()),
        ];
        event(Level::Info, "master_login", &fields);
        Some(account)
    }

    async fn check(&self, door: &Door, claim: &Claim) -> Verdict {
        let snapshot = self.directory();
        let settings = self.settings();
        let names = &settings.directory;
        let env = self.env.clone();
        let sleep = async move |pause| env.sleep(pause).await;
        let (now, peer) = (self.env.now(), door.peer);
        match claim {
            Claim::Password(shown) => self.check_password(peer, shown).await,
            Claim::Proof { user, keys, is_right, .. } => {
                let proof = Proof { user, is_right: *is_right, peer };
                let proved = self.authenticator.prove(&snapshot, names, proof, now, sleep).await;
                // A client may take its time between the keys and the proof.
                let snapshot = self.directory();
                match proved {
                    Verdict::Account(_) => self.authenticator.holder(&snapshot, names, user, keys),
                    proved => proved,
                }
            }
            // TLS has seen the proof: what is left are the pauses.
            Claim::Certificate { user, .. } => {
                let proof = Proof { user, is_right: true, peer };
                let proved = self.authenticator.prove(&snapshot, names, proof, now, sleep).await;
                match proved {
                    // He may be gone by the end of one.
                    Verdict::Account(_) => self.authenticator.known(&self.directory(), names, user),
                    proved => proved,
                }
            }
        }
    }

    /// Once more where the user's record is another one by then: his password may have been changed,
    /// or he removed. What an earlier login had kept anew is no reason to send him away.
    async fn check_password(&self, peer: IpAddr, shown: &Credentials) -> Verdict {
        let Credentials { user, password, .. } = shown;
        let settings = self.settings();
        let names = &settings.directory;
        for _ in 0..PASSWORD_CHECKS_PER_LOGIN_MAX {
            let snapshot = self.directory();
            let env = self.env.clone();
            let sleep = async move |pause| env.sleep(pause).await;
            let (claim, now) =
                (auth::Claim { user, password: password.expose(), peer }, self.env.now());
            let verdict = self.authenticator.verify(&snapshot, names, claim, now, sleep).await;
            let found = snapshot.login(user, names);
            if self.directory().login(user, names) == found {
                if let (Verdict::Account(_), Some(user)) = (verdict, found) {
                    self.rehash(user, password);
                }
                return verdict;
            }
        }
        Verdict::Busy
    }
}

/// In which log the account of a user lies; `None` where he is not in the directory any more.
fn lies_in(
    directory: &Snapshot,
    names: &directory::Settings,
    (account, name): (AccountId, &str),
) -> Option<LogId> {
    directory.login(name, names).filter(|user| user.account == account).map(|user| user.log)
}

/// `other*master` is how the master says whom he acts for, in protocols that have no other way.
fn part_master(shown: &mut Credentials) {
    let parted = shown.user.split_once('*').filter(|(other, master)| {
        shown.acting_for.is_none() && !other.is_empty() && !master.is_empty()
    });
    if let Some((other, master)) = parted {
        let (other, master) = (other.into(), master.into());
        shown.acting_for = Some(other);
        shown.user = master;
    }
}

/// Writes the line of a login that came to nothing.
pub fn tell_failed(door: &Door, user: &str, method: &str, outcome: Outcome) {
    let why = match outcome {
        Outcome::Accepted | Outcome::Refused => "refused",
        Outcome::Disabled => "disabled",
        Outcome::Foreign => "foreign",
        Outcome::Malformed => "malformed",
        Outcome::Later => "later",
    };
    let fields = [
        ("protocol", door.protocol.into()),
        ("peer", Value::Shown(&door.peer)),
        ("user", user.into()),
        ("method", method.into()),
        ("why", why.into()),
    ];
    event(Level::Info, "login_failed", &fields);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_a_master_from_whom_he_acts_for() {
        let part = |user: &str| {
            let mut shown = Credentials::new(user, "secret");
            part_master(&mut shown);
            (shown.user.into_string(), shown.acting_for.map(String::from))
        };
        assert_eq!(part("bob*admin@a.example"), ("admin@a.example".into(), Some("bob".into())));
        for whole in ["bob", "*admin", "bob*"] {
            assert_eq!(part(whole), (whole.into(), None));
        }
    }

    #[test]
    fn knows_no_log_of_an_account_that_is_gone() {
        let ledger = directory::Ledger::new();
        ledger.set_logs(2, 2);
        let names = directory::Settings::default();
        assert_eq!(lies_in(&ledger.snapshot(), &names, (AccountId(1), "a@b.example")), None);
    }
}
