//! APPEND, of several messages too (RFC 3502), and REPLACE (RFC 8508).
//!
//! The octets of a message are gathered in the shard's room for drafts as they come. What is wrong
//! is answered before the client sends the message, if it waits for that.

use super::change::split;
use super::mask::HIDDEN;
use super::{Done, Driver, Verdict, refused};
use crate::env::Env;
use crate::mailbox::{Brought, ChangeError, Entry, Flags, Message, Quota};
use crate::model::id::{MailboxId, Uid};
use crate::server::draft::Draft;
use crate::tls::Stream;
use crate::wire::imap::capability::Capabilities;
use crate::wire::imap::command::append::{self, Replaced};
use crate::wire::imap::command::split_tag;
use crate::wire::imap::frame::Literal;
use crate::wire::imap::reply::status::{Code, Kind, Status, Word};
use crate::wire::imap::set::{Bound, Span, runs};
use crate::wire::line::with_crlf;
use std::io;

/// Messages of one APPEND.
const MESSAGES_MAX: usize = 1_000;

/// An APPEND under way.
pub(super) struct Appending {
    tag: Box<str>,
    target: MailboxId,
    replaces: Option<Replacing>,
    /// Behind `UTF8 (` a parenthesis follows.
    utf8: bool,
    messages: Vec<Coming>,
}

/// The message that goes when the new one is there.
#[derive(Clone, Copy)]
struct Replacing {
    uid: Uid,
    octets: u64,
}

/// One message of it.
struct Coming {
    flags: Flags,
    keywords: Vec<Box<str>>,
    /// Seconds since 1970.
    date: Option<u32>,
    /// It is not the one that the client gave, but the nearest that can be kept.
    is_other_date: bool,
    draft: Draft,
    is_binary: bool,
}

impl<E: Env> Driver<E> {
    /// A message is announced.
    pub(super) fn on_message(&mut self, text: &[u8], literal: Literal, first: bool) -> Verdict {
        let begun = if first { self.begin(text, literal) } else { self.go_on(text, literal) };
        match begun {
            Ok(()) => {
                if literal.synchronising {
                    self.out.put(b"+ OK\r\n");
                }
                Verdict::Accept
            }
            Err(done) => {
                let tag = match self.appending.take() {
                    Some(appending) => appending.tag,
                    None => split_tag(text).map_or("*", |(tag, _)| tag).into(),
                };
                self.end(&tag, done);
                Verdict::Refuse
            }
        }
    }

    fn begin(&mut self, text: &[u8], literal: Literal) -> Result<(), Done> {
        self.appending = None;
        let command = append::parse(text, self.enabled.utf8).map_err(|bad| Done::Bad(bad.what))?;
        if self.user.is_none() {
            return Err(Done::Bad("log in first"));
        }
        if command.replaces.is_some() && self.hidden.meets(Capabilities::REPLACE) {
            return Err(HIDDEN);
        }
        let target = self.target(command.mailbox);
        let target = target.ok_or(Done::No(Some(Word::TryCreate), "there is no such mailbox"))?;
        let replaces = command.replaces.map(|replaced| self.replaced(replaced)).transpose()?;
        let utf8 = command.message.utf8;
        let coming = self.coming(&command.message, literal, self.quota_beside(replaces))?;
        let (tag, messages) = (command.tag.into(), vec![coming]);
        self.appending = Some(Box::new(Appending { tag, target, replaces, utf8, messages }));
        Ok(())
    }

    fn go_on(&mut self, text: &[u8], literal: Literal) -> Result<(), Done> {
        let appending = self.appending.as_ref().ok_or(Done::Bad("no command"))?;
        let message = append::parse_next(text, appending.utf8).map_err(Done::Bad)?;
        if self.hidden.meets(Capabilities::MULTIAPPEND) {
            return Err(HIDDEN);
        }
        if appending.messages.len() >= self.message_limit() {
            return Err(Done::Limited(Kind::No, None, "too many messages in one command"));
        }
        if appending.replaces.is_some() || appending.messages.len() >= MESSAGES_MAX {
            return Err(Done::Bad("too many messages"));
        }
        let coming = self.coming(&message, literal, self.quota())?;
        if let Some(appending) = &mut self.appending {
            appending.utf8 = message.utf8;
            appending.messages.push(coming);
        }
        Ok(())
    }

    /// The message that a REPLACE takes the place of.
    fn replaced(&self, replaced: Replaced) -> Result<Replacing, Done> {
        let selected = self.selected().ok_or(Done::Bad("no mailbox is selected"))?;
        if selected.read_only {
            return Err(Done::No(Some(Word::NoPerm), "the mailbox is open for reading only"));
        }
        let missing = Done::No(Some(Word::NonExistent), "there is no such message");
        let number = match replaced.number {
            Bound::Star => selected.count(),
            Bound::Number(uid) if replaced.uid => {
                let found = selected.view.find(Uid(uid));
                return found.map(|(_, entry)| Replacing::new(&entry)).ok_or(missing);
            }
            Bound::Number(number) if number > selected.count() => {
                return Err(Done::Bad("there is no message of this number"));
            }
            Bound::Number(number) => number,
        };
        let there = selected.entry(number).filter(|(_, is_there)| *is_there);
        there.map(|(entry, _)| Replacing::new(&entry)).ok_or(missing)
    }

    /// Whether a message may come, and where its octets go.
    fn coming(
        &self,
        message: &append::Message<'_>,
        literal: Literal,
        quota: Quota,
    ) -> Result<Coming, Done> {
        if literal.binary && !message.utf8 && self.hidden.meets(Capabilities::BINARY) {
            return Err(HIDDEN);
        }
        if message.utf8 && !self.enabled.utf8 {
            return Err(Done::Bad("ENABLE UTF8=ACCEPT first"));
        }
        if literal.octets > self.shard.settings().imap.append_octets_max {
            return Err(Done::No(Some(Word::TooBig), "larger than messages may be"));
        }
        if literal.octets == 0 {
            return Err(Done::No(None, "a message has at least one octet"));
        }
        let account =
            self.user.as_ref().map(|user| user.account).ok_or(Done::Bad("log in first"))?;
        let held: u64 = self.appending.iter().flat_map(|one| &one.messages).count() as u64;
        let room = self.shard.accounts.borrow().room_for(account, quota, literal.octets, held + 1);
        room.map_err(|_| Done::No(Some(Word::OverQuota), "the quota is used up"))?;
        let crowded = Done::No(Some(Word::Unavailable), "no room now, try again later");
        if !self.shard.log.has_room(literal.octets) {
            return Err(crowded);
        }
        let draft = Draft::verbatim(&self.shard.drafts, literal.octets).ok_or(crowded)?;
        let (flags, keywords) = split(&message.flags);
        let seconds = message.date.map(|date| date.seconds);
        let kept = seconds.map(|seconds| seconds.clamp(0, u32::MAX.into()));
        let date = kept.and_then(|kept| u32::try_from(kept).ok());
        let keywords = keywords.into_iter().map(Into::into).collect();
        let is_other_date = kept != seconds;
        Ok(Coming { flags, keywords, date, is_other_date, draft, is_binary: literal.binary })
    }

    /// Octets of the last message.
    pub(super) fn on_data(&mut self, octets: &[u8]) {
        let appending = self.appending.as_mut();
        if let Some(coming) = appending.and_then(|appending| appending.messages.last_mut()) {
            coming.draft.append(octets);
        }
    }

    /// The command is whole.
    pub(super) async fn on_messages_end(
        &mut self,
        conn: &mut Stream<E>,
        text: &[u8],
    ) -> io::Result<()> {
        let Some(appending) = self.appending.take() else { return Ok(()) };
        let tag = appending.tag.clone();
        let done = match append::parse_end(text, appending.utf8) {
            Ok(()) => self.append(conn, *appending).await?,
            Err(what) => Done::Bad(what),
        };
        self.end(&tag, done);
        Ok(())
    }

    async fn append(&mut self, conn: &mut Stream<E>, appending: Appending) -> super::Outcome {
        let Some(user) = &self.user else { return Ok(Done::Bad("log in first")) };
        let account = user.account;
        let Appending { tag, target, replaces, messages, .. } = appending;
        let now = self.shard.env.wall().seconds();
        let mut brought = Vec::with_capacity(messages.len());
        let mut keywords = Vec::with_capacity(messages.len());
        let other_dates = messages.iter().any(|coming| coming.is_other_date);
        for coming in messages {
            let Coming { flags, keywords: names, date, draft, is_binary, .. } = coming;
            let Some(octets) = draft.end() else {
                return Ok(Done::No(Some(Word::Unavailable), "no room now, try again later"));
            };
            let octets = if is_binary { octets } else { with_crlf(octets) };
            if !is_binary && memchr::memchr(0, &octets).is_some() {
                return Ok(Done::No(Some(Word::Cannot), "NUL takes a binary literal"));
            }
            let message = Message::brought(octets, date.unwrap_or(now));
            brought.push(Brought { message, flags, keywords: Vec::new() });
            keywords.push(names);
        }
        for (brought, names) in brought.iter_mut().zip(&keywords) {
            brought.keywords = names.iter().map(|name| &**name).collect();
        }
        let quota = self.quota_beside(replaces);
        let placed = self.shard.desk.append(account, target, brought, quota).await;
        let placed = match placed {
            Ok(placed) => placed,
            Err(ChangeError::Missing) => {
                return Ok(Done::No(Some(Word::TryCreate), "there is no such mailbox"));
            }
            Err(error) => return refused(error),
        };
        self.shard.figures.imap_appended.add(super::to_u64(placed.uids.len()));
        if other_dates {
            // A warning, not a refusal: old mail with such dates is there, and is to be kept.
            let text = "dates are kept from 1970 to 2106 only, the nearest was taken";
            Status::untagged(Kind::No, text).put(&mut self.out);
        }
        let uids: Vec<Span> = runs(placed.uids.iter().map(|(_, uid)| uid.0)).collect();
        let code = Code::AppendUid { uid_validity: placed.uidvalidity.0, uids: &uids };
        if let Some(replaced) = replaces {
            // The new one is durable before the old one goes (RFC 8508 §3.3).
            Status::untagged(Kind::Ok, "the new one is there").with(code).put(&mut self.out);
            if let Some(mailbox) = self.selected().map(|selected| selected.mailbox)
                && let Err(error) = self.shard.desk.expunge(account, mailbox, &[replaced.uid]).await
            {
                return refused(error);
            }
            self.sync(conn, true).await?;
            return Ok(self.removed(&tag, true, None, "replaced"));
        }
        self.sync(conn, true).await?;
        if self.hidden.meets(Capabilities::UIDPLUS) {
            return Ok(Done::Ok("appended"));
        }
        Status::tagged(&tag, Kind::Ok, "appended").with(code).put(&mut self.out);
        Ok(Done::Said)
    }

    /// What the account may keep while a message waits to be replaced: that one does not count
    /// (RFC 8508 §1).
    fn quota_beside(&self, replaces: Option<Replacing>) -> Quota {
        let quota = self.quota();
        let Some(replaced) = replaces else { return quota };
        Quota {
            octets: quota.octets.saturating_add(replaced.octets),
            messages: quota.messages.saturating_add(1),
        }
    }

    /// What the account may keep.
    pub(super) fn quota(&self) -> Quota {
        let Some(user) = &self.user else { return Quota::NONE };
        let names = &self.shard.settings().directory;
        let snapshot = self.shard.directory();
        let octets = snapshot.login(&user.name, names).map_or(0, |user| user.quota);
        if octets == 0 { Quota::NONE } else { Quota { octets, ..Quota::NONE } }
    }
}

impl Replacing {
    fn new(entry: &Entry) -> Replacing {
        Replacing { uid: entry.uid, octets: entry.size.into() }
    }
}
