//! Going back (docs/decisions/0028), in lives whose accounts have histories.
//!
//! One user's mail is changed by one hand alone, so that it is known what it was at every second: after
//! each change the account is looked at, and held against what the change says. At random moments it is
//! brought back to an earlier second, in place or beside, while mail comes in. What was answered is there,
//! as it was then; what a crash or a disk cut off was done or not, but for mailboxes of a name by which
//! everybody sees what they are. Held are
//!
//! - messages, flags, keywords, dates and UIDs, uses, subscriptions, POP3's unique ids
//! - UIDVALIDITY: what is as it was keeps it, all else has one that there never was before
//! - a UID under a UIDVALIDITY is one message for ever, and does not come back when it is gone
//! - mail that was promised is there, or some second has it that one can go back to

mod tree;

use crate::machine::Machine;
use crate::oracle::Verdict;
use crate::world::World;
use futures_lite::future::zip;
use pombal::directory::Entry as Listed;
use pombal::env::Env as _;
use pombal::env::sim::{Chance, SimEnv};
use pombal::mailbox::undelete::{UndeleteError, Undeleted, Wanted};
use pombal::mailbox::{
    ChangeError, Desk, FlagChange, Flags, Judge, Message, Mode, Picked, Quota, Use,
};
use pombal::model::id::{AccountId, MailboxId, Uid};
use pombal::mta::{Envelope, Outcome, Rcpt};
use pombal::server::shard::Shard;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;
use tree::{Folder, Held, INBOX, Numbers, Seconds, Tree};

/// Whose mail it is. No alias leads to him, and nobody logs in as him.
pub(crate) const WHO: &str = "keeper@example.org";
/// What mailboxes are called while the account is brought back, or if that was cut off,
const MEANWHILE: &str = "undelete-";
/// and those that were brought back beside.
const BESIDE: &str = "beside";
const NAMES: [&str; 4] = ["a", "a/b", "c", "d"];
const WORDS: [&str; 3] = ["work", "$junk", "later"];
/// Times that the last life goes back.
const LAST_TIMES: u64 = 6;
/// Times that mail is handed in to shards that have no room.
const BUSY_TIMES_MAX: u32 = 50;
/// Mailboxes that are made by going back, in all lives: a page names all that an account has and had, and
/// the segments of a seed may be small.
const MADE_MAX: usize = 150;
/// Messages are told apart by their sizes, which begin here.
const SIZE_MIN: u32 = 200;

/// A change.
#[derive(Clone, Debug)]
enum Step {
    Begin,
    Create(&'static str),
    Delete(String),
    Rename(&'static str, &'static str),
    Subscribe(&'static str, bool),
    Flags(String, Vec<u32>, Mode, Flags, &'static str),
    Expunge(String, Vec<u32>),
    /// `true`: they move.
    Copy(String, String, Vec<u32>, bool),
    Mail(u32),
    Back(Going),
}

/// Going back, to a second when the account was as here.
#[derive(Clone, Debug)]
struct Going {
    at: u32,
    then: Tree,
    beside: Option<String>,
    /// Mail that is sent meanwhile.
    meanwhile: BTreeSet<u32>,
}

/// Mail that was promised, and the seconds in which it was sent and answered.
#[derive(Debug)]
struct Mail {
    size: u32,
    sent: u32,
    answered: u32,
}

/// A change that was asked for, and not answered yet.
#[derive(Debug)]
struct Pending {
    begun: u32,
    before: Tree,
    step: Step,
}

/// What is known of the account, over all lives.
#[derive(Debug, Default)]
pub(crate) struct Known {
    seconds: Seconds,
    numbers: Numbers,
    /// As it was when somebody last looked.
    now: Tree,
    pending: Option<Pending>,
    mails: u32,
    /// Mailboxes that were made by going back, at most.
    made: usize,
    /// Histories were given up for want of room, or may have been.
    pub(crate) may_forget: bool,
    /// Times that it went back.
    pub(crate) backs: u64,
}

/// Whoever changes the account in one life. See the header.
pub(crate) struct Keeper {
    env: SimEnv,
    world: Rc<World>,
    known: Rc<RefCell<Known>>,
    chance: Chance,
    account: AccountId,
    /// The shard that has the account,
    owner: Rc<Shard<SimEnv>>,
    /// and those that may take mail for it.
    shards: Vec<Rc<Shard<SimEnv>>>,
    beside: Cell<u64>,
}

/// Why a life of the keeper ends.
enum Ended {
    /// The log takes nothing, or nobody can tell what it took.
    Stopped(String),
    Wrong(String),
}

impl From<String> for Ended {
    fn from(what: String) -> Ended {
        Ended::Wrong(what)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Back(going) => {
                let Going { at, beside, meanwhile, .. } = going;
                write!(out, "back to {at}, beside {beside:?}, with mail {meanwhile:?}")
            }
            other => write!(out, "{other:?}"),
        }
    }
}

/// What becomes of an account.
impl Step {
    /// As the account is then; `None` for going back.
    fn after(&self, before: &Tree) -> Option<Tree> {
        let mut tree = before.clone();
        match self {
            Step::Begin => {
                tree.make(INBOX, Use::default());
                tree.make("Sent", Use::SENT);
                tree.subscribed.extend([INBOX.to_owned(), "Sent".to_owned()]);
            }
            Step::Create(name) => {
                let ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
                ends.filter_map(|end| name.get(..end))
                    .for_each(|path| tree.make(path, Use::default()));
            }
            Step::Delete(name) => drop(tree.folders.remove(name)),
            Step::Rename(from, to) => {
                let folder = tree.folders.remove(*from);
                tree.folders.extend(folder.map(|folder| ((*to).to_owned(), folder)));
            }
            Step::Subscribe(name, true) => drop(tree.subscribed.insert((*name).to_owned())),
            Step::Subscribe(name, false) => drop(tree.subscribed.remove(*name)),
            Step::Flags(name, uids, mode, flags, word) => {
                for held in tree.picked(name, uids) {
                    held.change(*mode, *flags, word);
                }
            }
            Step::Expunge(name, uids) => tree.take(name, uids),
            Step::Copy(from, to, uids, moves) => {
                let taken: Vec<Held> = tree.picked(from, uids).map(|held| held.clone()).collect();
                if *moves {
                    tree.take(from, uids);
                }
                for held in taken {
                    tree.put(to, held);
                }
            }
            Step::Mail(size) => tree.put(INBOX, Held::new(*size)),
            Step::Back(_) => return None,
        }
        Some(tree)
    }
}

impl Held {
    fn new(size: u32) -> Held {
        let (keywords, uidl) = (BTreeSet::new(), String::new());
        Held { blob: 0, dates: (0, 0), size, flags: 0, keywords, uidl }
    }

    fn change(&mut self, mode: Mode, flags: Flags, word: &str) {
        match mode {
            Mode::Add => self.flags |= flags.0,
            Mode::Remove => self.flags &= !flags.0,
            Mode::Replace => {
                self.flags = flags.0;
                self.keywords.clear();
            }
        }
        match mode {
            Mode::Remove => drop(self.keywords.remove(word)),
            Mode::Add | Mode::Replace => drop(self.keywords.insert(word.to_owned())),
        }
    }
}

impl Tree {
    fn make(&mut self, name: &str, uses: Use) {
        let new = || Folder { uses: uses.0, ..Folder::default() };
        self.folders.entry(name.to_owned()).or_insert_with(new);
    }

    fn picked<'t>(&'t mut self, name: &str, uids: &'t [u32]) -> impl Iterator<Item = &'t mut Held> {
        let messages = self.folders.get_mut(name).map(|folder| folder.messages.iter_mut());
        let meant = messages.into_iter().flatten().filter(|(uid, _)| uids.contains(uid));
        meant.map(|(_, held)| held)
    }

    fn take(&mut self, name: &str, uids: &[u32]) {
        if let Some(folder) = self.folders.get_mut(name) {
            folder.messages.retain(|uid, _| !uids.contains(uid));
        }
    }

    fn put(&mut self, name: &str, held: Held) {
        let Some(folder) = self.folders.get_mut(name) else { return };
        // Whichever it is, it is above those that there were.
        let uid = folder.messages.keys().last().map_or(1_000_000, |last| last.max(&1_000_000) + 1);
        folder.messages.insert(uid, held);
    }
}

impl Pending {
    /// It was done, or not; but for mailboxes that tell by their names that it was cut off.
    fn resolve(&self, now: &Tree) -> Verdict {
        let Some(after) = self.step.after(&self.before) else {
            let Step::Back(going) = &self.step else { return Ok(()) };
            let mails = &going.meanwhile;
            let own = going.beside.clone().unwrap_or_default();
            let is_left = |name: &str| {
                name.starts_with(MEANWHILE) || !own.is_empty() && name.starts_with(&own)
            };
            let was_left = |name: &str| self.before.folders.contains_key(name);
            let quiet = now.clone().without_mail(mails);
            let whole = quiet.clone().without(|name| is_left(name) && !was_left(name));
            let not_done = whole.agrees(&self.before, &self.before);
            return match going.beside {
                Some(_) => not_done,
                None => not_done
                    .or_else(|_| quiet.is_as_then(&going.then, &self.before, !mails.is_empty())),
            };
        };
        let not_done = now.agrees(&self.before, &self.before);
        not_done.or_else(|_| now.agrees(&after, &self.before))
    }
}

/// A message that is known by its size.
fn message(size: u32) -> Vec<u8> {
    let mut octets = format!("X-Size: {size}\r\n\r\n").into_bytes();
    let size = usize::try_from(size).expect("small");
    octets.resize(size - 2, b'a' + u8::try_from(size % 26).expect("small"));
    octets.extend_from_slice(b"\r\n");
    octets
}

impl Keeper {
    pub(crate) fn new(
        (world, known): (&Rc<World>, &Rc<RefCell<Known>>),
        machine: &Machine,
        chance: Chance,
    ) -> Option<Keeper> {
        let first = machine.ups.first()?;
        let Some(Listed::User(user)) = first.state.ledger.snapshot().find(WHO).cloned() else {
            return None;
        };
        let shards: Vec<_> = machine.ups.iter().map(|up| Rc::clone(&up.shard)).collect();
        Some(Keeper {
            env: machine.env.clone(),
            world: Rc::clone(world),
            known: Rc::clone(known),
            chance,
            account: user.account,
            owner: Rc::clone(shards.get(usize::from(user.log.0))?),
            shards,
            beside: Cell::new(0),
        })
    }

    /// One life: until the power goes, or the log takes nothing any more.
    pub(crate) async fn run(self) {
        if let Err(ended) = self.changes().await {
            self.end(&ended);
        }
        self.world.done.set(self.world.done.get() + 1);
    }

    fn end(&self, ended: &Ended) {
        match ended {
            Ended::Stopped(why) => self.world.note(&self.env, || format!("keeper: ends: {why}")),
            Ended::Wrong(what) => self.world.fail(format!("the account that goes back: {what}")),
        }
    }

    /// The last life, in which nothing fails.
    pub(crate) async fn reckon(&self) -> Verdict {
        let reckoned = async {
            self.settle().await?;
            for _ in 0..LAST_TIMES {
                self.back().await?;
                self.env.sleep(Duration::from_millis(self.chance.below(1_500))).await;
            }
            self.check_octets().await?;
            Ok(())
        };
        reckoned.await.map_err(|ended| match ended {
            Ended::Stopped(why) | Ended::Wrong(why) => format!("the account that goes back: {why}"),
        })
    }

    async fn changes(&self) -> Result<(), Ended> {
        self.settle().await?;
        for _ in 0..self.chance.between(3, 40) {
            match self.chance.below(8) {
                0 => self.back().await?,
                _ => {
                    if let Some(step) = self.draw() {
                        self.step(step).await?;
                    }
                }
            }
            match self.chance.below(12) {
                0 => self.env.sleep(Duration::from_millis(self.chance.below(1_500))).await,
                1..4 => self.env.sleep(Duration::from_micros(self.chance.below(3_000))).await,
                _ => {}
            }
        }
        Ok(())
    }

    fn second(&self) -> u32 {
        self.env.wall().seconds()
    }

    fn desk(&self) -> &Desk<SimEnv> {
        &self.owner.desk
    }

    fn look(&self) -> Tree {
        Tree::of(&self.owner.accounts.borrow(), self.account)
    }

    fn mailbox(&self, name: &str) -> MailboxId {
        self.owner.accounts.borrow().named(self.account, name).expect("it is there")
    }

    /// What came of the life before.
    async fn settle(&self) -> Result<(), Ended> {
        let now = self.look();
        let pending = self.known.borrow_mut().pending.take();
        if let Some(pending) = &pending {
            let verdict = pending.resolve(&now);
            verdict.map_err(|what| format!("I1: after {}: {what}", pending.step))?;
        } else {
            let before = self.known.borrow().now.clone();
            now.agrees(&before, &before).map_err(|what| format!("I1: {what}"))?;
        }
        let begun = pending.map_or_else(|| self.second(), |pending| pending.begun);
        if !now.folders.is_empty() {
            self.note(begun, now)?;
            return Ok(());
        }
        self.step(Step::Begin).await
    }

    /// So it is from here on.
    fn note(&self, begun: u32, now: Tree) -> Verdict {
        let mut known = self.known.borrow_mut();
        known.numbers.see(&now)?;
        // Before its history is known nobody can go back.
        let from = self.owner.accounts.borrow().known_from(self.account, self.second());
        match (from, known.seconds.first()) {
            (Some(_), _) => known.seconds.note(begun, self.second(), &now),
            (None, Some(_)) if !known.may_forget => return Err("its history is lost".into()),
            (None, _) => {}
        }
        known.now = now;
        Ok(())
    }

    /// A change that can be made.
    fn draw(&self) -> Option<Step> {
        let (known, chance) = (self.known.borrow(), &self.chance);
        let folders = &known.now.folders;
        // What was cut off goes first, and what was beside.
        let is_left = |name: &&String| name.starts_with(MEANWHILE) || name.starts_with(BESIDE);
        if let Some(left) = folders.keys().rev().find(is_left)
            && chance.below(3) > 0
        {
            return Some(Step::Delete(left.clone()));
        }
        let names: Vec<&String> = folders.keys().collect();
        let name = names[chance.index(names.len())].clone();
        let other = NAMES[chance.index(NAMES.len())];
        let all = folders[&name].messages.keys().copied();
        let uids: Vec<u32> = all.filter(|_| chance.below(3) == 0).collect();
        let is_free = |name: &str| !folders.contains_key(name);
        let step = match chance.below(12) {
            0 if is_free(other) => Step::Create(other),
            1 if !is_free(other) => Step::Delete(other.into()),
            2 if !is_free("c") && is_free("d") => Step::Rename("c", "d"),
            2 if !is_free("d") && is_free("c") => Step::Rename("d", "c"),
            3 => Step::Subscribe(other, chance.coin()),
            4 | 5 if !uids.is_empty() => {
                let mode = [Mode::Add, Mode::Remove, Mode::Replace][chance.index(3)];
                let flags = [Flags::SEEN, Flags::FLAGGED, Flags::default()][chance.index(3)];
                Step::Flags(name, uids, mode, flags, WORDS[chance.index(WORDS.len())])
            }
            6 if !uids.is_empty() => Step::Expunge(name, uids),
            7 | 8 if !uids.is_empty() => {
                let to = names[chance.index(names.len())].clone();
                let moves = to != name && chance.coin();
                Step::Copy(name, to, uids, moves)
            }
            9.. => {
                drop(known);
                Step::Mail(self.next_size())
            }
            _ => return None,
        };
        Some(step)
    }

    fn next_size(&self) -> u32 {
        let mut known = self.known.borrow_mut();
        known.mails += 1;
        SIZE_MIN + known.mails + 1_000 * u32::try_from(self.chance.below(3)).expect("small")
    }

    /// Makes a change, and holds against it what is there then.
    async fn step(&self, step: Step) -> Result<(), Ended> {
        let before = self.known.borrow().now.clone();
        let begun = self.second();
        self.world.note(&self.env, || format!("keeper: at {begun} {step}"));
        let pending = Pending { begun, before: before.clone(), step: step.clone() };
        self.known.borrow_mut().pending = Some(pending);
        match self.make(&step).await {
            Ok(()) => {}
            Err(ChangeError::Append(error)) => return Err(Ended::Stopped(error.to_string())),
            Err(error) => return Err(Ended::Wrong(format!("{step}: {error:?}"))),
        }
        self.known.borrow_mut().pending = None;
        let now = self.look();
        let after = step.after(&before).expect("it is not going back");
        now.agrees(&after, &before).map_err(|what| format!("{step}: {what}"))?;
        Ok(self.note(begun, now)?)
    }

    async fn make(&self, step: &Step) -> Result<(), ChangeError> {
        let (desk, who) = (self.desk(), self.account);
        let some = |uids: &[u32]| uids.iter().copied().map(Uid).collect::<Vec<_>>();
        match step {
            Step::Begin => {
                desk.prepare(who, &[("Sent", Use::SENT)]).await?;
                // Where a crash was quicker than the record that begins its history.
                desk.keep(who).await
            }
            Step::Create(name) => desk.create(who, name, Use::default()).await.map(drop),
            Step::Delete(name) => desk.delete(who, name).await,
            Step::Rename(from, to) => desk.rename(who, from, to).await,
            Step::Subscribe(name, on) => desk.subscribe(who, name, *on).await,
            Step::Flags(name, uids, mode, flags, word) => {
                let change = FlagChange { mode: *mode, flags: *flags, keywords: vec![*word] };
                let uids = some(uids);
                desk.store(who, self.mailbox(name), &uids, &change, None).await.map(drop)
            }
            Step::Expunge(name, uids) => {
                desk.expunge(who, self.mailbox(name), &some(uids)).await.map(drop)
            }
            Step::Copy(from, to, uids, moves) => {
                let (from, to, uids) = (self.mailbox(from), self.mailbox(to), some(uids));
                let picked = Picked::All(&uids);
                let placed = match moves {
                    true => desk.shift(who, from, to, picked).await,
                    false => desk.copy(who, from, to, picked, Quota::NONE).await,
                };
                placed.map(drop)
            }
            Step::Mail(size) => match self.mail(*size).await {
                Outcome::Stored => Ok(()),
                other => Err(full(other)),
            },
            Step::Back(_) => unreachable!("another function does that"),
        }
    }

    /// A message comes in, by any of the shards.
    async fn mail(&self, size: u32) -> Outcome {
        let recipients =
            vec![Rcpt { log: self.owner.log.id(), account: self.account, quota: Quota::NONE }];
        let envelope = Envelope { recipients, away: Vec::new(), judge: Judge::Together };
        let message = Message::new(message(size), false, true, self.second());
        let shard = &self.shards[self.chance.index(self.shards.len())];
        for _ in 0..BUSY_TIMES_MAX {
            let outcomes = shard.intake.accept(&envelope, message.clone()).await;
            match outcomes.first() {
                Some(&Outcome::CROWDED) => self.env.sleep(Duration::from_millis(1)).await,
                outcome => return outcome.copied().expect("there is one recipient"),
            }
        }
        Outcome::CROWDED
    }

    /// Goes back to a second of which it is known what was then.
    async fn back(&self) -> Result<(), Ended> {
        let (begun, chance) = (self.second(), &self.chance);
        let drawn = {
            let known = self.known.borrow();
            let at = known.seconds.pick(begun, |len| chance.index(len));
            at.and_then(|at| Some((at, known.seconds.at(at)?.clone())))
        };
        let Some((at, then)) = drawn else { return Ok(()) };
        if !self.may_make(then.folders.len()) {
            return Ok(());
        }
        let beside = chance.coin().then(|| self.next_name());
        // What comes in this very second would be of then too.
        let count = if at < begun { chance.below(4) } else { 0 };
        let meanwhile: BTreeSet<u32> = (0..count).map(|_| self.next_size()).collect();
        let going = Going { at, then, beside, meanwhile };
        let before = self.known.borrow().now.clone();
        let step = Step::Back(going.clone());
        self.world.note(&self.env, || format!("keeper: at {begun} {step}"));
        self.known.borrow_mut().pending = Some(Pending { begun, before: before.clone(), step });
        let wanted = Wanted { at, beside: going.beside.clone(), dry_run: false };
        let (undeleted, mails) =
            zip(self.desk().undelete(self.account, &wanted), self.mails(&going.meanwhile)).await;
        let mails = mails?;
        match undeleted {
            Ok(told) => self.came_back(&going, &before, &told)?,
            Err(UndeleteError::NotKnown(from)) => {
                self.was_forgotten(begun, at, from)?;
                let now = self.look().without_mail(&going.meanwhile);
                now.agrees(&before, &before)?;
            }
            Err(UndeleteError::Change(ChangeError::Append(error))) => {
                return Err(Ended::Stopped(error.to_string()));
            }
            Err(error) => return Err(Ended::Wrong(format!("back to {at}: {error:?}"))),
        }
        {
            let mut known = self.known.borrow_mut();
            known.pending = None;
            known.backs += 1;
        }
        self.note(begun, self.look())?;
        self.nothing_lost(&mails).await
    }

    /// Sends mail; which was promised.
    async fn mails(&self, sizes: &BTreeSet<u32>) -> Result<Vec<Mail>, Ended> {
        let mut promised = Vec::new();
        for &size in sizes {
            self.env.sleep(Duration::from_micros(self.chance.below(2_000))).await;
            let sent = self.second();
            match self.mail(size).await {
                Outcome::Stored => {
                    promised.push(Mail { size, sent, answered: self.second() });
                }
                Outcome::Uncertain => return Err(Ended::Stopped("mail is uncertain".into())),
                _ => {}
            }
        }
        Ok(promised)
    }

    /// All is as it was, in place or beside.
    fn came_back(&self, going: &Going, before: &Tree, told: &Undeleted) -> Verdict {
        let Going { at, then, beside, meanwhile } = going;
        let now = self.look().without_mail(meanwhile);
        let verdict = match beside {
            Some(above) => now.has_beside(above, then, before),
            None => now.is_as_then(then, before, !meanwhile.is_empty()),
        };
        verdict.map_err(|what| format!("back to {at}: {what}"))?;
        let told: u64 = told.mailboxes.iter().map(|row| row.messages).sum();
        let count: usize = then.folders.values().map(|folder| folder.messages.len()).sum();
        if told != count as u64 {
            return Err(format!("back to {at}: {count} messages, told of {told}"));
        }
        Ok(())
    }

    /// Whether a second may be forgotten.
    fn was_forgotten(&self, begun: u32, at: u32, from: Option<u32>) -> Verdict {
        let known = self.known.borrow();
        let retention = self.owner.accounts.borrow().retention(self.account);
        let is_over = at < self.second().saturating_sub(retention);
        self.world.note(&self.env, || format!("keeper: {at} is forgotten, known from {from:?}"));
        if is_over || known.may_forget {
            return Ok(());
        }
        Err(format!("at {begun}: {at} is not known any more, but {from:?}"))
    }

    /// Mail that was promised while the account went back is there, or was at some second.
    async fn nothing_lost(&self, mails: &[Mail]) -> Result<(), Ended> {
        for mail in mails {
            if has(&self.known.borrow().now, INBOX, mail.size) {
                continue;
            }
            let mut seconds = (mail.sent..=mail.answered).rev();
            loop {
                let Some(at) = seconds.next() else {
                    return Err(Ended::Wrong(format!("I1: {mail:?}, promised, is at no second")));
                };
                if self.had(at, mail.size).await? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether a message was there at a second, or may have been if nobody can tell any more.
    async fn had(&self, at: u32, size: u32) -> Result<bool, Ended> {
        let (above, begun, before) = (self.next_name(), self.second(), self.look());
        if !self.may_make(before.folders.len()) {
            return Ok(true);
        }
        let (beside, then) = (Some(above.clone()), before.clone());
        let wanted = Wanted { at, beside: beside.clone(), dry_run: false };
        let step = Step::Back(Going { at, then, beside, meanwhile: BTreeSet::new() });
        self.known.borrow_mut().pending = Some(Pending { begun, before, step });
        let undeleted = self.desk().undelete(self.account, &wanted).await;
        match undeleted {
            Ok(_) => {}
            Err(UndeleteError::NotKnown(from)) => {
                self.was_forgotten(begun, at, from)?;
                self.known.borrow_mut().pending = None;
                return Ok(true);
            }
            Err(UndeleteError::Change(ChangeError::Append(error))) => {
                return Err(Ended::Stopped(error.to_string()));
            }
            Err(error) => return Err(Ended::Wrong(format!("back to {at}: {error:?}"))),
        }
        self.known.borrow_mut().pending = None;
        let now = self.look();
        let is_there = has(&now, &format!("{above}/{INBOX}"), size);
        self.note(begun, now)?;
        Ok(is_there)
    }

    /// Whether so many more mailboxes, and one above them, may be made.
    fn may_make(&self, count: usize) -> bool {
        let mut known = self.known.borrow_mut();
        let made = known.made + count + 1;
        let may = made <= MADE_MAX;
        if may {
            known.made = made;
        }
        may
    }

    fn next_name(&self) -> String {
        self.beside.set(self.beside.get() + 1);
        format!("{BESIDE}{}-{}", self.world.life(), self.beside.get())
    }

    /// Every message has the octets that it was sent with.
    async fn check_octets(&self) -> Verdict {
        let now = self.known.borrow().now.clone();
        for held in now.folders.values().flat_map(|folder| folder.messages.values()) {
            let blob = pombal::model::id::BlobId(held.blob);
            let read = self.owner.log.read(blob).await;
            let read = read.map_err(|error| format!("I8: {error:?}"))?;
            if *read.octets() != message(held.size) {
                return Err(format!("I8: a message of {} octets has others", held.size));
            }
        }
        Ok(())
    }
}

/// Whether a mailbox has the message of this size.
fn has(tree: &Tree, name: &str, size: u32) -> bool {
    let folder = tree.folders.get(name);
    folder.is_some_and(|folder| folder.messages.values().any(|held| held.size == size))
}

fn full(outcome: Outcome) -> ChangeError {
    use pombal::store::AppendError;
    let why = format!("{outcome:?}");
    ChangeError::Append(AppendError::Uncertain(why))
}
