//! SELECT and EXAMINE, CLOSE and UNSELECT (RFC 3691).

use super::object::mailbox_id;
use super::selected::{Own, Selected};
use super::{Done, Driver, Outcome};
use crate::env::Env;
use crate::mailbox::{Flags, View};
use crate::model::id::{ModSeq, Uid};
use crate::tls::Stream;
use crate::wire::imap::capability::Capabilities;
use crate::wire::imap::command::select::{Qresync, Select};
use crate::wire::imap::reply::list::ListLine;
use crate::wire::imap::reply::put_count;
use crate::wire::imap::reply::status::{Code, Kind, Status, Word};
use crate::wire::imap::set::{Span, intersect, merge};

impl<E: Env> Driver<E> {
    pub(super) async fn select(
        &mut self,
        conn: &mut Stream<E>,
        tag: &str,
        select: &Select<'_>,
        read_only: bool,
    ) -> Outcome {
        // Also a SELECT that fails leaves nothing selected (RFC 9051 §6.3.2), and what follows is
        // about another mailbox (RFC 7162 §3.2.11).
        if self.user.as_mut().is_some_and(|user| user.selected.take().is_some()) {
            let closed = Status::untagged(Kind::Ok, "nothing is selected");
            closed.because(Word::Closed).put(&mut self.out);
        }
        if select.qresync.is_some() && !self.enabled.qresync {
            return Ok(Done::Bad("ENABLE QRESYNC first"));
        }
        if select.condstore || select.qresync.is_some() {
            self.count_changes();
        }
        let Some(name) = self.name(select.mailbox) else {
            return Ok(Done::No(Some(Word::NonExistent), "there is no such mailbox"));
        };
        let Some(user) = &self.user else { return Ok(Done::Bad("log in first")) };
        let account = user.account;
        let id = self.shard.accounts.borrow().named(account, &name);
        let found = id.and_then(|id| Some((id, self.take_view(account, id, read_only)?)));
        let Some((id, view)) = found else {
            return Ok(Done::No(Some(Word::NonExistent), "there is no such mailbox"));
        };
        let given = self.given(select.mailbox, &name);
        let selected = Selected::new(id, read_only, view);
        let out = &mut self.out;
        put_count(out, selected.count(), "EXISTS");
        if !self.enabled.rev2 {
            put_count(out, selected.recent.count(&selected.view), "RECENT");
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
            let old_name = given.as_deref();
            ListLine { name: &name, old_name, ..ListLine::default() }.put(out, self.enabled.utf8);
        }
        let resumes = select.qresync.filter(|it| it.uid_validity == view.uidvalidity().0);
        let missed = resumes.map(|qresync| {
            let since = ModSeq(qresync.mod_seq);
            let runs = self.shard.accounts.borrow().vanished_since(account, id, since);
            Missed::of(view, &qresync, runs)
        });
        if let Some(user) = &mut self.user {
            user.selected = Some(Box::new(selected));
        }
        if let Some(missed) = missed {
            self.tell_vanished(conn, true, missed.gone).await?;
            self.tell_changed(conn, &missed.changed, Own::NONE).await?;
        }
        let word = if read_only { Word::ReadOnly } else { Word::ReadWrite };
        Status::tagged(tag, Kind::Ok, "selected").because(word).put(&mut self.out);
        Ok(Done::Said)
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
struct Missed {
    gone: Vec<Span>,
    /// Messages that changed, by rising UID.
    changed: Vec<Uid>,
}

impl Missed {
    /// `runs`: what went since, `None` if that is forgotten.
    fn of(view: &View, qresync: &Qresync<'_>, runs: Option<Vec<(Uid, Uid)>>) -> Missed {
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
            // All that is not there, above what the client can prove to know.
            let unproven = Span::new(proven(view, qresync).saturating_add(1), u32::MAX);
            intersect(&complement(view), unproven.as_slice())
        };
        let mut spans = known.iter().peekable();
        let mut is_known = |uid: u32| {
            while spans.next_if(|span| span.last < uid).is_some() {}
            spans.peek().is_some_and(|span| span.contains(uid))
        };
        let changed = view.iter().filter(|entry| entry.modseq > since && is_known(entry.uid.0));
        let changed = changed.map(|entry| entry.uid).collect();
        Missed { gone: intersect(&gone, &known), changed }
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
