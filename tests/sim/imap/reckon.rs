//! The reckoning: while nobody else is there, everything is held against what was told, and every
//! remembered state is brought up to date, which must lead to what is there.

use super::model::{Memory, Message, Whole};
use super::session::{Session, Shared};
use super::wire::{DELETED, Flags, SEEN, set};
use crate::oracle::Verdict;
use crate::ports::address;
use pombal::env::Env as _;
use pombal::env::sim::Chance;
use pombal::server::listener::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

/// A mailbox as it is.
struct Truth {
    uidvalidity: u32,
    messages: BTreeMap<u32, Flags>,
    octets: u64,
    emails: Vec<String>,
}

/// Of one account, after a crash or at the end.
pub(super) async fn reckon(shared: Shared, chance: Chance) -> io::Result<()> {
    let world = std::rc::Rc::clone(&shared.world);
    let opened = Session::open(shared, address(Protocol::Imap), chance, true).await?;
    let Some(mut session) = opened else {
        world.fail("nobody can log in");
        return Ok(());
    };
    session.who = format!("reckoning u{}", session.shared.user);
    let names = session.names().await?;
    let mut truths = Vec::new();
    for name in &names {
        let Some(truth) = session.look(name).await? else { return Ok(()) };
        let memories = std::mem::take(&mut session.shared.account.borrow_mut().memories);
        let (own, others) =
            memories.into_iter().partition(|memory| memory.uidvalidity == truth.uidvalidity);
        session.shared.account.borrow_mut().memories = others;
        for memory in &own as &Vec<Memory> {
            session.catch_up(name, memory, &truth).await?;
        }
        session.shared.account.borrow_mut().memories.extend(own);
        truths.push(truth);
    }
    // What is left is of mailboxes that are no more.
    let is_there = |memory: &Memory| truths.iter().any(|one| one.uidvalidity == memory.uidvalidity);
    session.shared.account.borrow_mut().memories.retain(is_there);
    let verdict = session.wholes(&truths).and_then(|()| session.shared.account.borrow().counts());
    session.check(verdict);
    session.quota(truths.iter().map(|truth| truth.octets).sum()).await
}

impl Session {
    /// LIST, held against the names that are known.
    async fn names(&mut self) -> io::Result<Vec<String>> {
        let (command, _) = self.ask("LIST (SUBSCRIBED) \"\" *").await?;
        let subscribed = command.listed.into_iter().map(|(name, _)| name).collect();
        let (command, _) = self.ask("LIST \"\" *").await?;
        let is_there = |attributes: &[String]| !attributes.iter().any(|one| one == "\\NonExistent");
        let there = command.listed.into_iter().filter(|(_, attributes)| is_there(attributes));
        let there: BTreeSet<String> = there.map(|(name, _)| name).collect();
        let verdict = self.shared.account.borrow_mut().names.settle(&there, &subscribed);
        self.check(verdict);
        Ok(there.into_iter().collect())
    }

    /// Everything in a mailbox.
    async fn look(&mut self, name: &str) -> io::Result<Option<Truth>> {
        let (status, _) = self
            .ask(&format!(
                "STATUS {name} (MESSAGES UIDNEXT UIDVALIDITY UNSEEN SIZE DELETED HIGHESTMODSEQ)"
            ))
            .await?;
        if !self.select(name, true, None).await? {
            return Ok(None);
        }
        let items = "(UID FLAGS MODSEQ EMAILID RFC822.SIZE BODY.PEEK[])";
        let (command, _) = self.ask(&format!("UID FETCH 1:* {items}")).await?;
        let Some(view) = &self.view else { return Ok(None) };
        let mut truth = Truth {
            uidvalidity: view.uidvalidity,
            messages: BTreeMap::new(),
            octets: 0,
            emails: Vec::new(),
        };
        for fetched in command.fetched {
            let (Some(uid), Some(flags), Some(body)) = (fetched.uid, fetched.flags, fetched.body)
            else {
                self.fail(format!("{name}: not everything was told of a message"));
                return Ok(None);
            };
            truth.messages.insert(uid, flags);
            truth.octets += body.len() as u64;
            truth.emails.extend(fetched.email);
        }
        let count =
            |is_meant: fn(&&Flags) -> bool| truth.messages.values().filter(is_meant).count();
        let want = [
            ("MESSAGES", truth.messages.len() as u64),
            ("UIDNEXT", view.uidnext.into()),
            ("UIDVALIDITY", view.uidvalidity.into()),
            ("UNSEEN", count(|flags| *flags & SEEN == 0) as u64),
            ("SIZE", truth.octets),
            ("DELETED", count(|flags| *flags & DELETED != 0) as u64),
            ("HIGHESTMODSEQ", view.highest),
        ];
        let same = want.iter().all(|(word, number)| {
            status.figures.iter().any(|(told, figure)| told == word && figure == number)
        });
        if !same || view.slots.len() != truth.messages.len() {
            self.fail(format!("I10: {name}: STATUS {:?}, counted {want:?}", status.figures));
            return Ok(None);
        }
        let verdict = {
            let mut account = self.shared.account.borrow_mut();
            let now = account.tick();
            let mailbox = account.mailbox(truth.uidvalidity);
            mailbox.seal(view.uidnext);
            let uids = truth.messages.keys().copied().collect();
            mailbox.listed(&uids, command.sent, now).map_err(|what| format!("{name}: {what}"))
        };
        self.check(verdict);
        Ok(Some(truth))
    }

    /// What a client remembers leads to what is there, by QRESYNC and by CHANGEDSINCE.
    async fn catch_up(&mut self, name: &str, memory: &Memory, truth: &Truth) -> io::Result<()> {
        if !self.select(name, true, Some(memory)).await? {
            return Ok(());
        }
        let Some(view) = &self.view else { return Ok(()) };
        let known = view.slots.iter().filter_map(|slot| Some((slot.uid?, slot.flags?)));
        let known: BTreeMap<u32, Flags> = known.collect();
        // Where only known messages were asked for, those that are new are not told of.
        let new = memory.messages.keys().last().copied().unwrap_or(0);
        let is_meant = |uid: u32| view.is_known() || uid <= new;
        let want = || truth.messages.iter().filter(|&(&uid, _)| is_meant(uid));
        if !known.iter().eq(want()) {
            let want: Vec<_> = want().collect();
            self.fail(format!(
                "I4: {name}: QRESYNC of {memory:?} leads to {known:?}, not {want:?}"
            ));
            return Ok(());
        }
        let since = memory.modseq;
        let text = format!("UID FETCH 1:* (FLAGS) (CHANGEDSINCE {since} VANISHED)");
        let (command, _) = self.ask(&text).await?;
        let mut known = memory.messages.clone();
        for uid in &command.vanished {
            known.remove(uid);
        }
        let told = command.fetched.iter().filter_map(|one| Some((one.uid?, one.flags?)));
        known.extend(told);
        if known != truth.messages {
            let (gone, want) = (set(command.vanished), &truth.messages);
            self.fail(format!(
                "I4: {name}: CHANGEDSINCE of {memory:?} leads to {known:?} without {gone}, not {want:?}"
            ));
        }
        Ok(())
    }

    /// What was not answered was done as a whole or not at all.
    fn wholes(&self, truths: &[Truth]) -> Verdict {
        let mut account = self.shared.account.borrow_mut();
        let under_way = std::mem::take(&mut account.under_way);
        for (number, (sent, whole)) in under_way {
            if account.is_disturbed(number, sent) {
                continue;
            }
            match whole {
                Whole::Append(contents) => {
                    let all = account.mailboxes.values().flat_map(|one| one.messages.values());
                    let there: BTreeSet<usize> = all.filter_map(|one| one.content).collect();
                    let came = contents.iter().filter(|content| there.contains(content)).count();
                    if came != 0 && came != contents.len() {
                        return Err(format!("I12: of one APPEND {came} of {contents:?} came"));
                    }
                }
                Whole::Move { uidvalidity, uids } => {
                    let from = truths.iter().find(|truth| truth.uidvalidity == uidvalidity);
                    let Some(from) = from else { continue };
                    let mailbox = account.mailbox(uidvalidity);
                    let expunged = mailbox.expunged;
                    // Not what went before, by a CLOSE that nobody heard of too.
                    let moved: Vec<&Message> = uids
                        .iter()
                        .filter(|uid| !from.messages.contains_key(uid))
                        .filter_map(|uid| mailbox.messages.get(uid))
                        .filter(|one| one.gone.is_none_or(|gone| gone >= sent))
                        .filter(|one| !(expunged && one.may_be_deleted()))
                        .collect();
                    if !moved.is_empty() && uids.iter().any(|uid| from.messages.contains_key(uid)) {
                        return Err(format!("I12: of one MOVE {} of {uids:?} went", moved.len()));
                    }
                    let is_there =
                        |email: &String| truths.iter().any(|truth| truth.emails.contains(email));
                    let mut emails = moved.iter().filter_map(|one| one.email.as_ref());
                    if let Some(email) = emails.find(|email| !is_there(email)) {
                        return Err(format!("I12: {email} was moved to nowhere"));
                    }
                }
            }
        }
        Ok(())
    }

    /// The quota is the sum of all sizes, once what was deleted is cleared away.
    async fn quota(&mut self, octets: u64) -> io::Result<()> {
        if self.shared.case.quota_of(self.shared.user) == 0 {
            return Ok(());
        }
        let mut told = Vec::new();
        for _ in 0..50 {
            told = self.ask("GETQUOTA \"\"").await?.0.figures;
            if told.first().is_some_and(|(_, usage)| *usage == octets.div_ceil(1024)) {
                return Ok(());
            }
            self.shared.env.sleep(Duration::from_millis(2)).await;
        }
        self.fail(format!("I10: the quota says {told:?}, there are {octets} octets"));
        Ok(())
    }
}
