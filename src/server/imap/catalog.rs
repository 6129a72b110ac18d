//! CREATE, DELETE, RENAME, SUBSCRIBE; STATUS; quotas.

use super::object::mailbox_id;
use super::{Done, Driver, Outcome, refused};
use crate::env::Env;
use crate::mailbox::{Flags, Quota, SEPARATOR, Use, View};
use crate::model::id::MailboxId;
use crate::tls::Stream;
use crate::wire::imap::capability::Capabilities;
use crate::wire::imap::command::list::StatusItem;
use crate::wire::imap::command::select::SpecialUse;
use crate::wire::imap::mailbox::{self, check_new, net_unicode};
use crate::wire::imap::reply::list::{ListLine, StatusLine};
use crate::wire::imap::reply::status::{Code, Kind, Status, Word};
use crate::wire::imap::reply::{Quota as Shown, put_quota, put_quota_root};
use crate::wire::imap::scan::Text;

/// The name of the one quota root.
const ROOT: &str = "";

const NO_NAME: Done = Done::No(Some(Word::Cannot), "this is no name of a mailbox");
const MISSING: Done = Done::No(Some(Word::NonExistent), "there is no such mailbox");

/// The use that a client named, as it is kept.
pub(super) fn to_use(named: SpecialUse) -> Option<Use> {
    Some(match named {
        SpecialUse::All => Use::ALL,
        SpecialUse::Archive => Use::ARCHIVE,
        SpecialUse::Drafts => Use::DRAFTS,
        SpecialUse::Flagged => Use::FLAGGED,
        SpecialUse::Junk => Use::JUNK,
        SpecialUse::Sent => Use::SENT,
        SpecialUse::Trash => Use::TRASH,
        SpecialUse::Unknown => return None,
    })
}

impl<E: Env> Driver<E> {
    /// A name that a client sent, in the form of the store: that of Net-Unicode (RFC 9051 §5.1), but
    /// for names of before that are there as they stand.
    pub(super) fn name(&self, text: Text<'_>) -> Option<String> {
        let octets = text.octets();
        let name = mailbox::name(&octets, self.enabled.utf8).ok()?;
        let normal = net_unicode(&name);
        let keeps = normal != name && self.is_kept(&name);
        Some(if keeps { name.into_owned() } else { normal.into_owned() })
    }

    fn is_kept(&self, name: &str) -> bool {
        let Some(user) = &self.user else { return false };
        let state = self.shard.accounts.borrow();
        state.named(user.account, name).is_some()
            || state.subscriptions(user.account).iter().any(|known| **known == *name)
    }

    /// What the client sent for a name, if that is not in its form: for OLDNAME (§6.3.9.7).
    pub(super) fn given(&self, text: Text<'_>, name: &str) -> Option<String> {
        let octets = text.octets();
        let given = mailbox::name(&octets, self.enabled.utf8).ok()?;
        (net_unicode(&given) != given && given != name).then(|| given.into_owned())
    }

    /// Tells a client of IMAP4rev2 the name that it is to use from here on (RFC 9051 §6.3.9.7).
    fn put_name_of(&mut self, text: Text<'_>, name: &str, attributes: &[&str]) {
        let Some(given) = self.given(text, name).filter(|_| self.enabled.rev2) else { return };
        let old_name = Some(given.trim_end_matches(SEPARATOR));
        let line = ListLine { attributes, name, old_name, ..ListLine::default() };
        line.put(&mut self.out, self.enabled.utf8);
    }

    pub(super) async fn create(
        &mut self,
        tag: &str,
        mailbox: Text<'_>,
        uses: &[SpecialUse],
    ) -> Outcome {
        let Some(user) = &self.user else { return Ok(Done::Bad("log in first")) };
        let Some(name) = self.name(mailbox) else { return Ok(NO_NAME) };
        // A separator at the end says that others are to come below (RFC 9051 §6.3.4).
        let name = name.strip_suffix(SEPARATOR).unwrap_or(&name);
        if check_new(name).is_err() {
            return Ok(NO_NAME);
        }
        let mut wanted = Use::default();
        for &named in uses {
            match to_use(named) {
                Some(one) if one == Use::ALL || one == Use::FLAGGED => {
                    return Ok(Done::No(Some(Word::UseAttr), "no mailbox can be that here"));
                }
                Some(one) => wanted = Use(wanted.0 | one.0),
                None => return Ok(Done::No(Some(Word::UseAttr), "this use is not known")),
            }
        }
        let account = user.account;
        match self.shard.desk.create(account, name, wanted).await {
            Ok(made) => {
                self.put_name_of(mailbox, name, &[]);
                if self.hidden.meets(Capabilities::OBJECTID) {
                    return Ok(Done::Ok("made"));
                }
                let id = mailbox_id(account, made);
                let ok = Status::tagged(tag, Kind::Ok, "made");
                ok.with(Code::MailboxId(&id)).put(&mut self.out);
                Ok(Done::Said)
            }
            Err(error) => refused(error),
        }
    }

    pub(super) async fn delete(&mut self, conn: &mut Stream<E>, mailbox: Text<'_>) -> Outcome {
        let Some(user) = &self.user else { return Ok(Done::Bad("log in first")) };
        let Some(name) = self.name(mailbox) else { return Ok(MISSING) };
        let account = user.account;
        if self.shard.accounts.borrow().named(account, &name).is_none() {
            let has_children = self.has_children(&name);
            return Ok(if has_children {
                Done::No(Some(Word::HasChildren), "there are mailboxes below it")
            } else {
                MISSING
            });
        }
        match self.shard.desk.delete(account, &name).await {
            Ok(()) => {
                self.put_name_of(mailbox, &name, &["\\NonExistent"]);
                self.sync(conn, true).await?;
                Ok(Done::Ok("gone"))
            }
            Err(error) => refused(error),
        }
    }

    /// Whether mailboxes lie below a name.
    fn has_children(&self, name: &str) -> bool {
        let Some(user) = &self.user else { return false };
        let mut found = false;
        self.shard.accounts.borrow().each_mailbox(user.account, |one| {
            let rest = one.name.strip_prefix(name);
            found |= rest.is_some_and(|rest| rest.starts_with(SEPARATOR));
        });
        found
    }

    pub(super) async fn rename(&mut self, from: Text<'_>, to: Text<'_>) -> Outcome {
        let Some(user) = &self.user else { return Ok(Done::Bad("log in first")) };
        let Some(name) = self.name(from) else { return Ok(MISSING) };
        let Some(to) = self.name(to) else { return Ok(NO_NAME) };
        let to = to.strip_suffix(SEPARATOR).unwrap_or(&to);
        if check_new(to).is_err() {
            return Ok(NO_NAME);
        }
        match self.shard.desk.rename(user.account, &name, to).await {
            Ok(()) => {
                if self.enabled.rev2 {
                    // As the client called it (RFC 9051 §6.3.6, §6.3.9.7).
                    let given = self.given(from, &name);
                    let old_name = Some(given.as_deref().unwrap_or(&name));
                    let line = ListLine { name: to, old_name, ..ListLine::default() };
                    line.put(&mut self.out, self.enabled.utf8);
                }
                Ok(Done::Ok("renamed"))
            }
            Err(error) => refused(error),
        }
    }

    pub(super) async fn subscribe(&mut self, mailbox: Text<'_>, on: bool) -> Outcome {
        let Some(user) = &self.user else { return Ok(Done::Bad("log in first")) };
        let Some(name) = self.name(mailbox) else { return Ok(NO_NAME) };
        let name = name.strip_suffix(SEPARATOR).unwrap_or(&name);
        // Left open by RFC 9051 §6.3.7; clients ask so whether a name is there. A subscription
        // outlives its mailbox all the same.
        let exists = || self.shard.accounts.borrow().named(user.account, name).is_some();
        if on && !exists() && !self.has_children(name) {
            return Ok(MISSING);
        }
        match self.shard.desk.subscribe(user.account, name, on).await {
            Ok(()) if on => Ok(Done::Ok("subscribed")),
            Ok(()) => Ok(Done::Ok("no longer subscribed")),
            Err(error) => refused(error),
        }
    }

    pub(super) async fn status(
        &mut self,
        conn: &mut Stream<E>,
        mailbox: Text<'_>,
        items: &[StatusItem],
    ) -> Outcome {
        // What it tells of the selected mailbox, the client knows then.
        self.sync(conn, true).await?;
        if items.contains(&StatusItem::HighestModSeq) {
            self.count_changes();
        }
        let Some(user) = &self.user else { return Ok(Done::Bad("log in first")) };
        let Some(name) = self.name(mailbox) else { return Ok(MISSING) };
        let account = user.account;
        let found = {
            let state = self.shard.accounts.borrow();
            let id = state.named(account, &name);
            id.and_then(|id| Some((id, state.open_view(account, id)?)))
        };
        let Some((id, view)) = found else { return Ok(MISSING) };
        self.put_status(&name, id, &view, items);
        Ok(Done::Ok("that is how it stands"))
    }

    pub(super) fn put_status(
        &mut self,
        name: &str,
        id: MailboxId,
        view: &View,
        items: &[StatusItem],
    ) {
        let Some(user) = &self.user else { return };
        let limit = self.shard.settings().imap.append_octets_max;
        let selected = user.selected.as_ref().filter(|selected| selected.mailbox == id);
        let recent = match selected {
            Some(selected) => selected.recent.count(view),
            None if self.enabled.rev2 => 0,
            None => view.count() - view.lower_bound(view.recent_from()),
        };
        let mut line = StatusLine::new(&mut self.out, name, self.enabled.utf8);
        for &item in items {
            let number = match item {
                StatusItem::Messages => u64::from(view.count()),
                StatusItem::UidNext => u64::from(view.uidnext().0),
                StatusItem::UidValidity => u64::from(view.uidvalidity().0),
                StatusItem::Unseen => u64::from(view.unseen()),
                StatusItem::Deleted => u64::from(view.deleted()),
                // No less than all RFC822.SIZE together (RFC 8438 §3): the sum.
                StatusItem::Size => view.octets(),
                StatusItem::Recent => u64::from(recent),
                StatusItem::HighestModSeq => view.modseq().0.max(1),
                StatusItem::DeletedStorage => {
                    let deleted = view.iter().filter(|entry| entry.flags.has(Flags::DELETED));
                    deleted.map(|entry| u64::from(entry.size)).sum::<u64>().div_ceil(1024)
                }
                StatusItem::MailboxId => {
                    line.mailbox_id(&mailbox_id(user.account, id));
                    continue;
                }
                StatusItem::AppendLimit => {
                    line.append_limit(Some(limit));
                    continue;
                }
            };
            line.number(item, number);
        }
        line.end();
    }

    pub(super) fn get_quota(&mut self, root: Text<'_>) -> Done {
        if !root.is_empty() || self.quota() == Quota::NONE {
            return Done::No(Some(Word::NonExistent), "there is no such quota root");
        }
        self.put_quota();
        Done::Ok("that is the quota")
    }

    pub(super) fn get_quota_root(&mut self, mailbox: Text<'_>) -> Done {
        let Some(name) = self.name(mailbox) else { return MISSING };
        // An answer of QUOTA names one resource at least (RFC 9208 §7): without a limit, no root.
        let roots: &[&str] = if self.quota() == Quota::NONE { &[] } else { &[ROOT] };
        put_quota_root(&mut self.out, &name, roots, self.enabled.utf8);
        if !roots.is_empty() {
            self.put_quota();
        }
        Done::Ok("that is the quota")
    }

    /// What the account keeps and may keep, in units of 1024 octets (RFC 9208 §5.1).
    fn put_quota(&mut self) {
        let Some(user) = &self.user else { return };
        let usage = self.shard.accounts.borrow().usage(user.account);
        let quota = self.quota();
        let mut shown = Vec::new();
        if quota.octets != Quota::NONE.octets {
            let usage = usage.octets.div_ceil(1024);
            shown.push(Shown { resource: "STORAGE", usage, limit: quota.octets / 1024 });
        }
        if quota.messages != Quota::NONE.messages {
            let (usage, limit) = (usage.messages, quota.messages);
            shown.push(Shown { resource: "MESSAGE", usage, limit });
        }
        put_quota(&mut self.out, ROOT, &shown);
    }
}
