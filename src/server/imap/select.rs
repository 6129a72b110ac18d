//! SELECT and EXAMINE, CLOSE and UNSELECT (RFC 3691).

use super::object::mailbox_id;
use super::selected::Selected;
use super::{Done, Driver, Outcome};
use crate::bytes::chain::Chain;
use crate::env::Env;
use crate::mailbox::{Flags, View};
use crate::model::id::{ModSeq, Uid};
use crate::wire::imap::capability::Capabilities;
use crate::wire::imap::command::select::{Qresync, Select};
use crate::wire::imap::mailbox;
use crate::wire::imap::reply::list::ListLine;
use crate::wire::imap::reply::put_count;
use crate::wire::imap::reply::search::put_vanished;
use crate::wire::imap::reply::status::{Code, Kind, Status, Word};
use crate::wire::imap::set::{Span, intersect, merge};

impl<E: Env> Driver<E> {
    pub(super) fn select(&mut self, tag: &str, select: &Select<'_>, read_only: bool) -> Done {
        // Also a SELECT that fails leaves nothing selected (RFC 9051 §6.3.2), and what follows is
        // about another mailbox (RFC 7162 §3.2.11).
        if self.user.as_mut().is_some_and(|user| user.selected.take().is_some()) {
            let closed = Status::untagged(Kind::Ok, "nothing is selected");
            closed.because(Word::Closed).put(&mut self.out);
        }
        if select.qresync.is_some() && !self.enabled.qresync {
            return Done::Bad("ENABLE QRESYNC first");
        }
        if select.condstore || select.qresync.is_some() {
            self.count_changes();
        }
        let octets = select.mailbox.octets();
        let Ok(name) = mailbox::name(&octets, self.enabled.utf8) else {
            return Done::No(Some(Word::NonExistent), "there is no such mailbox");
        };
        let Some(user) = &mut self.user else { return Done::Bad("log in first") };
        let account = user.account;
        let found = {
            let state = self.shard.accounts.borrow();
            let id = state.named(account, &name);
            id.and_then(|id| Some((id, state.open_view(account, id)?)))
        };
        let Some((id, view)) = found else {
            return Done::No(Some(Word::NonExistent), "there is no such mailbox");
        };
        let selected = Selected::new(id, read_only, view);
        let out = &mut self.out;
        put_count(out, selected.count(), "EXISTS");
        if !self.enabled.rev2 {
            put_count(out, 0, "RECENT");
        }
        selected.put_flags(out);
        let ok = |text: &'static str| Status::untagged(Kind::Ok, text);
        let view = &selected.view;
        if !self.enabled.rev2
            && let Some(first) = view.first_unseen()
        {
            ok("the first that is not seen").with(Code::Unseen(first + 1)).put(out);
        }
        ok("UIDs are valid").with(Code::UidValidity(view.uidvalidity().0)).put(out);
        ok("the next UID").with(Code::UidNext(view.uidnext().0)).put(out);
        let modseq = view.modseq().0.max(1);
        if !self.hidden.meets(Capabilities::CONDSTORE) {
            ok("the highest change counter").with(Code::HighestModSeq(modseq)).put(out);
        }
        if !self.hidden.meets(Capabilities::OBJECTID) {
            ok("its lasting name").with(Code::MailboxId(&mailbox_id(account, id))).put(out);
        }
        if self.enabled.rev2 {
            ListLine { name: &name, ..ListLine::default() }.put(out, self.enabled.utf8);
        }
        if let Some(qresync) = &select.qresync
            && qresync.uid_validity == view.uidvalidity().0
        {
            let since = ModSeq(qresync.mod_seq);
            let runs = self.shard.accounts.borrow().vanished_since(account, id, since);
            put_changes(&selected, qresync, runs, self.enabled, out);
        }
        user.selected = Some(Box::new(selected));
        let word = if read_only { Word::ReadOnly } else { Word::ReadWrite };
        Status::tagged(tag, Kind::Ok, "selected").because(word).put(&mut self.out);
        Done::Said
    }

    /// Change counters go with flags from here on. Where that comes with a mailbox selected, the
    /// client hears up to where it knows everything (RFC 7162 §3.1).
    pub(super) fn count_changes(&mut self) {
        if std::mem::replace(&mut self.enabled.condstore, true) {
            return;
        }
        if let Some(modseq) = self.selected().map(|selected| selected.told().0.max(1)) {
            let ok = Status::untagged(Kind::Ok, "counters go with flags from here on");
            ok.with(Code::HighestModSeq(modseq)).put(&mut self.out);
        }
    }

    /// Leaves the mailbox.
    pub(super) fn unselect(&mut self) -> Done {
        if let Some(user) = &mut self.user {
            user.selected = None;
        }
        Done::Ok("nothing is selected")
    }

    /// Removes what has `\Deleted`, silently, and leaves.
    pub(super) async fn close(&mut self) -> Outcome {
        let Some(user) = &self.user else { return Ok(Done::Bad("log in first")) };
        let account = user.account;
        let Some(selected) = &user.selected else { return Ok(Done::Bad("nothing is selected")) };
        let (mailbox, read_only) = (selected.mailbox, selected.read_only);
        let deleted: Vec<Uid> = if read_only { Vec::new() } else { deleted(&selected.view) };
        if !deleted.is_empty()
            && let Err(error) = self.shard.desk.expunge(account, mailbox, &deleted).await
        {
            return super::refused(error);
        }
        if let Some(user) = &mut self.user {
            user.selected = None;
        }
        Ok(Done::Ok("closed"))
    }
}

/// UIDs of the messages with `\Deleted`.
pub(super) fn deleted(view: &View) -> Vec<Uid> {
    if view.deleted() == 0 {
        return Vec::new();
    }
    view.iter().filter(|entry| entry.flags.has(Flags::DELETED)).map(|entry| entry.uid).collect()
}

/// What a client that comes back has missed (RFC 7162 §3.2.5.1).
fn put_changes(
    selected: &Selected,
    qresync: &Qresync<'_>,
    runs: Option<Vec<(Uid, Uid)>>,
    enabled: super::offer::Enabled,
    out: &mut Chain,
) {
    let view = &selected.view;
    let since = ModSeq(qresync.mod_seq);
    let all = Span::new(1, view.uidnext().0.saturating_sub(1));
    let known = match qresync.known {
        Some(known) => intersect(&known.spans(view.uidnext().0), all.as_slice()),
        None => all.into_iter().collect(),
    };
    let gone = if let Some(runs) = runs {
        let spans = runs.iter().filter_map(|&(first, last)| Span::new(first.0, last.0));
        merge(spans.collect())
    } else {
        // Forgotten: all that is not there, above what the client can prove to know.
        let unproven = Span::new(proven(view, qresync).saturating_add(1), u32::MAX);
        intersect(&complement(view), unproven.as_slice())
    };
    put_vanished(out, true, intersect(&gone, &known));
    let mut spans = known.iter().peekable();
    for (index, entry) in (0..).zip(view.iter()) {
        while spans.next_if(|span| span.last < entry.uid.0).is_some() {}
        let is_known = spans.peek().is_some_and(|span| span.contains(entry.uid.0));
        if entry.modseq > since && is_known {
            selected.put_state(index + 1, &entry, enabled, out);
        }
    }
}

/// The highest UID up to which nothing went that the client does not know of: there its number is
/// what it was (RFC 7162 §3.2.5.2).
fn proven(view: &View, qresync: &Qresync<'_>) -> u32 {
    let Some((numbers, uids)) = qresync.matched else { return 0 };
    let each = |spans: Vec<Span>| spans.into_iter().flat_map(|span| span.first..=span.last);
    let pairs = each(numbers.spans(view.count())).zip(each(uids.spans(u32::MAX)));
    let holds = |&(number, uid): &(u32, u32)| {
        let entry = number.checked_sub(1).and_then(|index| view.get(index));
        entry.is_some_and(|entry| entry.uid.0 == uid)
    };
    pairs.take_while(holds).last().map_or(0, |(_, uid)| uid)
}

/// All UIDs below UIDNEXT that no message has.
pub(super) fn complement(view: &View) -> Vec<Span> {
    let mut gone = Vec::new();
    let mut next = 1;
    for entry in view.iter() {
        gone.extend(Span::new(next, entry.uid.0 - 1));
        next = entry.uid.0 + 1;
    }
    gone.extend(Span::new(next, view.uidnext().0.saturating_sub(1)));
    gone
}
