//! STORE, COPY, MOVE and EXPUNGE.

use super::select::deleted;
use super::selected::Own;
use super::{Done, Driver, Outcome, refused};
use crate::env::Env;
use crate::mailbox::{ChangeError, FlagChange, Flags, Mode, Picked, Placed, Stored, View};
use crate::model::id::{AccountId, MailboxId, ModSeq, Uid};
use crate::tls::Stream;
use crate::wire::imap::capability::Capabilities;
use crate::wire::imap::command::store::{Change, Flag, Store};
use crate::wire::imap::reply::fetch::FetchLine;
use crate::wire::imap::reply::status::{Code, Kind, Status, Word};
use crate::wire::imap::scan::{Text, Which};
use crate::wire::imap::set::{Span, runs};
use std::io;

/// Splits flags as they are named into those of the system and keywords.
pub(super) fn split<'a>(flags: &[Flag<'a>]) -> (Flags, Vec<&'a str>) {
    let mut system = Flags::default();
    let mut keywords: Vec<&str> = Vec::new();
    for flag in flags {
        match flag {
            Flag::Answered => system = system.with(Flags::ANSWERED),
            Flag::Deleted => system = system.with(Flags::DELETED),
            Flag::Draft => system = system.with(Flags::DRAFT),
            Flag::Flagged => system = system.with(Flags::FLAGGED),
            Flag::Seen => system = system.with(Flags::SEEN),
            Flag::Keyword(name) => {
                if !keywords.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                    keywords.push(name);
                }
            }
        }
    }
    (system, keywords)
}

/// Messages whose flags are told before the reader is waited for.
const STORED_AT_ONCE: usize = 512;

const NO_NUMBER: Done = Done::Bad("there is no message of this number");
const READ_ONLY: Done = Done::No(Some(Word::NoPerm), "the mailbox is open for reading only");

/// Messages on their way to another mailbox.
struct Transfer {
    account: AccountId,
    from: MailboxId,
    target: MailboxId,
    uids: Vec<Uid>,
    /// By their numbers, which all have a message until the client was told that it went.
    by_number: bool,
    /// The limit cut off all below this one.
    lowest: Option<Uid>,
}

impl Transfer {
    /// A UID that is not there is none (RFC 9051 §6.4.9), a number is one of what is wanted whole.
    fn picked(&self) -> Picked<'_> {
        if self.by_number { Picked::All(&self.uids) } else { Picked::There(&self.uids) }
    }
}

impl<E: Env> Driver<E> {
    /// Messages that a command names and that are there.
    fn named(&self, which: Which<'_>, uid: bool) -> Result<Vec<Uid>, Done> {
        let selected = self.selected().ok_or(Done::Bad("nothing is selected"))?;
        let numbers = selected.numbers(which, uid).map_err(|_| NO_NUMBER)?;
        Ok(selected.entries(&numbers).map(|(_, entry)| entry.uid).collect())
    }

    pub(super) async fn store(
        &mut self,
        conn: &mut Stream<E>,
        tag: &str,
        store: &Store<'_>,
    ) -> Outcome {
        if store.unchanged_since.is_some() {
            self.count_changes();
        }
        let mut uids = match self.named(store.messages, store.uid) {
            Ok(uids) => uids,
            Err(done) => return Ok(done),
        };
        let lowest = self.limit(&mut uids);
        let Some(user) = &self.user else { return Ok(Done::Bad("log in first")) };
        let Some(selected) = &user.selected else { return Ok(Done::Bad("nothing is selected")) };
        if selected.read_only {
            return Ok(READ_ONLY);
        }
        let (flags, keywords) = split(&store.flags);
        let mode = match store.change {
            Change::Add => Mode::Add,
            Change::Remove => Mode::Remove,
            Change::Replace => Mode::Replace,
        };
        let change = FlagChange { mode, flags, keywords };
        let unless = store.unchanged_since.map(ModSeq);
        let (account, mailbox) = (user.account, selected.mailbox);
        let stored = match self.shard.desk.store(account, mailbox, &uids, &change, unless).await {
            Ok(stored) => stored,
            Err(error) => return refused(error),
        };
        let modified = &stored.modified;
        // What this command did is told below, or not at all.
        self.sync_own(conn, store, &uids, &stored, &change).await?;
        if !store.silent {
            if lowest.is_some() {
                uids.reverse();
            }
            for some in uids.chunks(STORED_AT_ONCE) {
                self.put_stored(store, some, modified);
                self.flush_if_much(conn).await?;
            }
        }
        if modified.is_empty() {
            return Ok(Done::limited(lowest, "stored"));
        }
        self.put_limited(lowest);
        let selected = self.selected();
        let number = |uid: &Uid| match selected {
            Some(selected) if !store.uid => selected.number(*uid),
            _ => uid.0,
        };
        let spans: Vec<Span> = runs(modified.iter().map(number)).collect();
        let ok = Status::tagged(tag, Kind::Ok, "some changed meanwhile");
        ok.with(Code::Modified(&spans)).put(&mut self.out);
        Ok(Done::Said)
    }

    /// Takes the mailbox as it is now. After STORE .SILENT change counters are told all the same
    /// (RFC 7162 §3.1.3), and flags where somebody else changed them too (RFC 9051 §6.4.6); else
    /// [`Driver::put_stored`] tells everything of the messages that were stored.
    async fn sync_own(
        &mut self,
        conn: &mut Stream<E>,
        store: &Store<'_>,
        uids: &[Uid],
        stored: &Stored,
        change: &FlagChange<'_>,
    ) -> io::Result<()> {
        let Some(mut view) = self.view_now() else { return Ok(()) };
        let counts = store.silent && self.enabled.condstore;
        let Some(selected) = self.selected_mut() else { return Ok(()) };
        // New keywords have to be told.
        if !counts && change.keywords.is_empty() {
            match selected.take_own(view, stored.modseq) {
                Ok(()) => return Ok(()),
                Err(with_more) => view = with_more,
            }
        }
        let (old, modified) = (&selected.view, &stored.modified);
        let is_own = |uid: &&Uid| {
            modified.binary_search(uid).is_err()
                && (!store.silent || explains(change, old, &view, **uid).unwrap_or(true))
        };
        let own: Vec<Uid> = uids.iter().filter(is_own).copied().collect();
        let own = Own { uids: &own, counters: store.silent };
        self.sync_to(conn, view, false, own).await
    }

    /// The flags of each message after a STORE.
    fn put_stored(&mut self, store: &Store<'_>, uids: &[Uid], modified: &[Uid]) {
        let Some(selected) = self.user.as_ref().and_then(|user| user.selected.as_deref()) else {
            return;
        };
        for &uid in uids {
            let Some((_, entry)) = selected.view.find(uid) else { continue };
            if modified.binary_search(&uid).is_ok() {
                continue;
            }
            let mut line = FetchLine::new(&mut self.out, selected.number(uid));
            // With counters always (RFC 7162 §3.2.4), and in IMAP4rev2 (RFC 9051 §7.5.2).
            if store.uid || self.enabled.condstore || self.enabled.rev2 {
                line.uid(uid.0);
            }
            line.flags(selected.flags(&entry));
            if self.enabled.condstore {
                line.mod_seq(entry.modseq.0);
            }
            line.end();
        }
    }

    /// Of COPY and MOVE; the latter `changes` the selected mailbox, too.
    fn transfer(
        &self,
        uid: bool,
        messages: Which<'_>,
        to: Text<'_>,
        changes: bool,
    ) -> Result<Transfer, Done> {
        let user = self.user.as_ref().ok_or(Done::Bad("log in first"))?;
        let selected = user.selected.as_ref().ok_or(Done::Bad("nothing is selected"))?;
        let numbers = selected.numbers(messages, uid).map_err(|_| NO_NUMBER)?;
        let entries = numbers.iter().flat_map(|span| span.first..=span.last);
        let entries = entries.filter_map(|number| selected.entry(number));
        let mut uids: Vec<Uid> = entries.map(|(entry, _)| entry.uid).collect();
        if changes && selected.read_only {
            return Err(READ_ONLY);
        }
        let missing = Done::No(Some(Word::TryCreate), "there is no such mailbox");
        let target = self.target(to).ok_or(missing)?;
        let lowest = self.limit(&mut uids);
        let (account, from) = (user.account, selected.mailbox);
        Ok(Transfer { account, from, target, uids, by_number: !uid, lowest })
    }

    pub(super) async fn copy(
        &mut self,
        conn: &mut Stream<E>,
        tag: &str,
        uid: bool,
        messages: Which<'_>,
        to: Text<'_>,
    ) -> Outcome {
        let transfer = match self.transfer(uid, messages, to, false) {
            Ok(transfer) => transfer,
            Err(done) => return Ok(done),
        };
        if transfer.lowest.is_some() {
            let text = "too many messages, copy some of them";
            return Ok(Done::Limited(Kind::No, transfer.lowest, text));
        }
        let Transfer { account, from, target, .. } = transfer;
        let quota = self.quota();
        let placed = self.shard.desk.copy(account, from, target, transfer.picked(), quota).await;
        self.sync(conn, uid).await?;
        match placed {
            Ok(placed) if placed.uids.is_empty() => Ok(Done::Ok("nothing to copy")),
            Ok(placed) => {
                self.put_placed(&placed, Some(tag), "copied");
                Ok(Done::Said)
            }
            Err(error) => self.not_placed(to, error),
        }
    }

    /// TRYCREATE only where it would help: not if it is the selected mailbox that was removed.
    fn not_placed(&self, to: Text<'_>, error: ChangeError) -> Outcome {
        match error {
            ChangeError::Missing if self.target(to).is_none() => {
                Ok(Done::No(Some(Word::TryCreate), "there is no such mailbox"))
            }
            error => refused(error),
        }
    }

    pub(super) async fn shift(
        &mut self,
        conn: &mut Stream<E>,
        tag: &str,
        uid: bool,
        messages: Which<'_>,
        to: Text<'_>,
    ) -> Outcome {
        let transfer = match self.transfer(uid, messages, to, true) {
            Ok(transfer) => transfer,
            Err(done) => return Ok(done),
        };
        let Transfer { account, from, target, lowest, .. } = transfer;
        match self.shard.desk.shift(account, from, target, transfer.picked()).await {
            Ok(placed) => {
                // COPYUID comes before the messages are told to be gone (RFC 6851 §4.3).
                if !placed.uids.is_empty() {
                    self.put_placed(&placed, None, "moved");
                }
                self.sync(conn, true).await?;
                Ok(self.removed(tag, !placed.uids.is_empty(), lowest, "moved"))
            }
            Err(error) => self.not_placed(to, error),
        }
    }

    /// The end of a command that removed messages: a client that keeps its copy by change counters
    /// gets the one up to which it knows everything now (RFC 7162 §3.2.7).
    pub(super) fn removed(
        &mut self,
        tag: &str,
        any: bool,
        lowest: Option<Uid>,
        text: &'static str,
    ) -> Done {
        let modseq = self.selected().map(|selected| selected.view.modseq().0);
        // 0: the mailbox itself was removed meanwhile.
        let Some(modseq) = modseq.filter(|&modseq| any && modseq > 0 && self.enabled.qresync)
        else {
            return Done::limited(lowest, text);
        };
        self.put_limited(lowest);
        let ok = Status::tagged(tag, Kind::Ok, text);
        ok.with(Code::HighestModSeq(modseq)).put(&mut self.out);
        Done::Said
    }

    /// All that have `\Deleted`, or those of them that are named (RFC 4315 §2.1).
    pub(super) async fn expunge(
        &mut self,
        conn: &mut Stream<E>,
        tag: &str,
        which: Option<Which<'_>>,
    ) -> Outcome {
        self.sync(conn, true).await?;
        let Some(user) = &self.user else { return Ok(Done::Bad("log in first")) };
        let Some(selected) = &user.selected else { return Ok(Done::Bad("nothing is selected")) };
        if selected.read_only {
            return Ok(READ_ONLY);
        }
        let mut uids = deleted(&selected.view);
        // EXPUNGE itself has no limit (RFC 9738 §3.1).
        let mut lowest = None;
        if let Some(which) = which {
            match self.named(which, true) {
                Ok(named) => uids.retain(|uid| named.binary_search(uid).is_ok()),
                Err(done) => return Ok(done),
            }
            lowest = self.limit(&mut uids);
        }
        let (account, mailbox) = (user.account, selected.mailbox);
        if !uids.is_empty()
            && let Err(error) = self.shard.desk.expunge(account, mailbox, &uids).await
        {
            return refused(error);
        }
        self.sync(conn, true).await?;
        Ok(self.removed(tag, !uids.is_empty(), lowest, "expunged"))
    }

    /// COPYUID, in the tagged answer or in front of it.
    fn put_placed(&mut self, placed: &Placed, tag: Option<&str>, text: &str) {
        let status = Status { tag, kind: Kind::Ok, code: None, text };
        if self.hidden.meets(Capabilities::UIDPLUS) {
            return status.put(&mut self.out);
        }
        let from: Vec<Span> = runs(placed.uids.iter().map(|(from, _)| from.0)).collect();
        let to: Vec<Span> = runs(placed.uids.iter().map(|(_, to)| to.0)).collect();
        let uid_validity = placed.uidvalidity.0;
        status.with(Code::CopyUid { uid_validity, from: &from, to: &to }).put(&mut self.out);
    }

    /// The mailbox of a name that a client sent.
    pub(super) fn target(&self, name: Text<'_>) -> Option<MailboxId> {
        let name = self.name(name)?;
        let account = self.user.as_ref()?.account;
        self.shard.accounts.borrow().named(account, &name)
    }
}

/// Whether a client that knows the old flags of a message knows the new ones, having asked for this
/// change; `None`: the message is not in both.
fn explains(change: &FlagChange<'_>, old: &View, new: &View, uid: Uid) -> Option<bool> {
    let (_, before) = old.find(uid)?;
    let (_, after) = new.find(uid)?;
    let Some(known) = new.keywords() else {
        return Some(change.outcome(before.flags, 0, 0).0 == after.flags);
    };
    let mask = old.keywords().map_or(Some(0), |then| then.mask_later(before.keywords, known));
    // A keyword that is no more was taken away by somebody else.
    let Some(mask) = mask else { return Some(false) };
    let named = change.keywords.iter().fold(0, |mask, name| mask | known.bit(name));
    let outcome = change.outcome(before.flags, mask, named);
    Some(outcome == (after.flags, known.mask(after.keywords)))
}
