//! Commands, with what they may change from when they are sent, and what their answers promise.

use super::catalog::Change;
use super::model::{Account, Whole};
use super::session::{Command, Session};
use super::view::{Slot, View};
use super::wire::{DELETED, FLAGS, Flags, Kind, SEEN, Status, named, numbers, set};
use crate::oracle::{Fate, Verdict};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Where messages go and come from.
const PLACES: [&str; 6] = ["INBOX", "INBOX", "a", "a/b", "z", "Trash"];

/// What a command that was sent is about.
pub(super) enum Does {
    Nothing,
    /// Everything is fetched, by number or UID.
    List,
    /// Flags or bodies are fetched; what is not marked as seen gets marked.
    Fetch {
        uids: Vec<u32>,
        marks: bool,
    },
    Store {
        uids: Vec<u32>,
        by_uid: bool,
        silent: bool,
        set: Flags,
        clear: Flags,
        unless: Option<u64>,
    },
    Transfer {
        moves: bool,
        by_uid: bool,
        uids: Vec<u32>,
        from: u32,
        to: &'static str,
        names: Option<u64>,
    },
    Search {
        flag: Flags,
        by_uid: bool,
    },
    /// These are to go.
    Expunge {
        deleted: Vec<Slot>,
    },
    Append {
        to: &'static str,
        brings: Vec<(usize, Flags)>,
        names: Option<u64>,
        replaces: Option<u32>,
    },
    Status {
        name: &'static str,
        names: Option<u64>,
    },
    /// CREATE, DELETE, RENAME, SUBSCRIBE.
    Rename,
    /// CLOSE or UNSELECT.
    Leave,
}

/// An answer that asks to come again: nothing was done.
fn is_for_now(status: &Status) -> bool {
    let code = status.code.first().map(String::as_str);
    matches!(code, Some("UNAVAILABLE" | "OVERQUOTA" | "LIMIT"))
}

/// A verb with the messages that it is about.
fn to_messages(by_uid: bool, verb: &str, targets: &[(u32, u32)]) -> String {
    let chosen = targets.iter().map(|&(number, uid)| if by_uid { uid } else { number });
    format!("{}{verb} {}", if by_uid { "UID " } else { "" }, set(chosen))
}

impl Session {
    fn account(&self) -> std::cell::RefMut<'_, Account> {
        self.shared.account.borrow_mut()
    }

    fn place(&self) -> &'static str {
        PLACES[self.chance.index(PLACES.len())]
    }

    fn some_flags(&self) -> Flags {
        let bits = (0..8).filter(|_| self.chance.below(4) == 0).map(|bit| 1 << bit);
        bits.fold(1 << self.chance.below(8), |flags, bit: Flags| flags | bit)
    }

    /// Some of the messages of the view: numbers and UIDs.
    fn targets(&self) -> Vec<(u32, u32)> {
        let slots = self.view.as_ref().map_or(&[][..], |view| &view.slots);
        let known = (1..).zip(slots).filter_map(|(number, slot)| Some((number, slot.uid?)));
        let known: Vec<(u32, u32)> = known.collect();
        let odds = [1, 2, 4][self.chance.index(3)];
        known.into_iter().filter(|_| self.chance.below(odds) == 0).collect()
    }

    /// Marks messages as about to be changed.
    fn asks(&self, number: u64, uids: &[u32], set: Flags, clear: Flags) {
        let Some(view) = &self.view else { return };
        let mut account = self.account();
        let mailbox = account.mailbox(view.uidvalidity);
        for uid in uids {
            mailbox.message(*uid).asked(number, set, clear);
        }
    }

    /// Marks messages as about to go.
    fn takes(&self, number: u64, uids: &[u32]) {
        let Some(view) = &self.view else { return };
        let mut account = self.account();
        account.removal(number);
        for uid in uids {
            account.mailbox(view.uidvalidity).message(*uid).leaving = true;
        }
    }

    /// One to three commands that go out together: with numbers only those that keep them still.
    pub(super) fn batch(&mut self) {
        let by_uid = self.chance.below(3) > 0;
        for _ in 0..self.chance.between(1, 3) {
            match self.chance.below(if by_uid { 9 } else { 6 }) {
                0 | 1 => self.fetch(by_uid),
                2..=4 => self.store(by_uid),
                5 => self.search(by_uid),
                6 => self.transfer(true),
                7 => self.expunge_some(),
                _ => drop(self.put("NOOP", false, Does::Nothing)),
            }
        }
    }

    /// Fetches everything there is.
    pub(super) fn list(&mut self) {
        let is_empty = self.view.as_ref().is_none_or(|view| view.slots.is_empty());
        let by_uid = is_empty || self.chance.coin();
        let uid = if by_uid { "UID " } else { "" };
        let text = format!("{uid}FETCH 1:* (UID FLAGS MODSEQ EMAILID)");
        self.put(&text, !by_uid, Does::List);
    }

    fn fetch(&mut self, by_uid: bool) {
        let targets = self.targets();
        if targets.is_empty() {
            return;
        }
        let highest = self.view.as_ref().map_or(0, |view| view.highest);
        let since = self.chance.between(1, highest.max(1));
        let (items, marks) = match self.chance.below(6) {
            0 => ("FLAGS".to_owned(), false),
            1 => ("(BODY.PEEK[] RFC822.SIZE)".to_owned(), false),
            2 => (format!("(FLAGS) (CHANGEDSINCE {since})"), false),
            3 if by_uid && self.qresync => {
                (format!("(FLAGS) (CHANGEDSINCE {since} VANISHED)"), false)
            }
            _ => ("BODY[]".to_owned(), true),
        };
        let marks = marks && self.view.as_ref().is_some_and(|view| !view.read_only);
        let uids: Vec<u32> = targets.iter().map(|&(_, uid)| uid).collect();
        let text = format!("{} {items}", to_messages(by_uid, "FETCH", &targets));
        let number = self.put(&text, !by_uid, Does::Fetch { uids: uids.clone(), marks });
        if marks {
            self.asks(number, &uids, SEEN, 0);
        }
    }

    fn store(&mut self, by_uid: bool) {
        let targets = self.targets();
        let Some(view) = self.view.as_ref().filter(|view| !view.read_only) else { return };
        if targets.is_empty() {
            return;
        }
        let flags = self.some_flags();
        let (sign, set, clear) = match self.chance.below(3) {
            0 => ("+", flags, 0),
            1 => ("-", 0, flags),
            _ => ("", flags, !flags),
        };
        let silent = self.chance.coin();
        let modseqs = targets.iter().filter_map(|&(_, uid)| view.get(uid)?.modseq);
        let modseqs: Vec<u64> = modseqs.chain([view.highest]).collect();
        let unless = (self.chance.below(3) == 0).then(|| modseqs[self.chance.index(modseqs.len())]);
        let mut text = to_messages(by_uid, "STORE", &targets);
        if let Some(unless) = unless {
            write!(text, " (UNCHANGEDSINCE {unless})").expect("text takes all text");
        }
        let dot_silent = if silent { ".SILENT" } else { "" };
        write!(text, " {sign}FLAGS{dot_silent} {}", named(flags)).expect("text takes all text");
        let uids: Vec<u32> = targets.iter().map(|&(_, uid)| uid).collect();
        let does = Does::Store { uids: uids.clone(), by_uid, silent, set, clear, unless };
        let number = self.put(&text, !by_uid, does);
        self.asks(number, &uids, set, clear);
    }

    fn search(&mut self, by_uid: bool) {
        let bit = self.chance.index(8);
        let key = match bit {
            0..5 => FLAGS[bit].trim_start_matches('\\').to_owned(),
            _ => format!("KEYWORD {}", FLAGS[bit]),
        };
        let uid = if by_uid { "UID " } else { "" };
        self.put(&format!("{uid}SEARCH {key}"), !by_uid, Does::Search { flag: 1 << bit, by_uid });
    }

    /// COPY or MOVE.
    pub(super) fn transfer(&mut self, by_uid: bool) {
        let targets = self.targets();
        let Some(view) = &self.view else { return };
        let moves = !view.read_only && self.chance.coin();
        let (from, to) = (view.uidvalidity, self.place());
        let uids: Vec<u32> = targets.iter().map(|&(_, uid)| uid).collect();
        if uids.is_empty() {
            return;
        }
        let names = self.account().names.stable();
        let verb = if moves { "MOVE" } else { "COPY" };
        let text = format!("{} {to}", to_messages(by_uid, verb, &targets));
        let does = Does::Transfer { moves, by_uid, uids: uids.clone(), from, to, names };
        let number = self.put(&text, false, does);
        if moves {
            self.takes(number, &uids);
        }
        let mut account = self.account();
        for uid in &uids {
            account.mailbox(from).message(*uid).copies += 1;
        }
        if moves {
            let sent = account.tick();
            account.under_way.insert(number, (sent, Whole::Move { uidvalidity: from, uids }));
        }
    }

    fn slots_of(&self, is_meant: impl Fn(&Slot) -> bool) -> Vec<Slot> {
        let slots = self.view.iter().flat_map(|view| &view.slots);
        slots.filter(|slot| is_meant(slot)).copied().collect()
    }

    fn expunge_some(&mut self) {
        let targets = self.targets();
        if targets.is_empty() || self.view.as_ref().is_none_or(|view| view.read_only) {
            return;
        }
        let uids: Vec<u32> = targets.iter().map(|&(_, uid)| uid).collect();
        let is_meant = |slot: &Slot| slot.uid.is_some_and(|uid| uids.contains(&uid));
        let deleted =
            self.slots_of(|slot| is_meant(slot) && slot.flags.is_some_and(|f| f & DELETED != 0));
        let text = to_messages(true, "EXPUNGE", &targets);
        let number = self.put(&text, false, Does::Expunge { deleted });
        self.takes(number, &uids);
    }

    pub(super) fn expunge(&mut self) {
        let Some(view) = self.view.as_ref().filter(|view| !view.read_only) else { return };
        self.account().mailbox(view.uidvalidity).expunged = true;
        let deleted = self.slots_of(|slot| slot.flags.is_some_and(|flags| flags & DELETED != 0));
        let number = self.put("EXPUNGE", false, Does::Expunge { deleted });
        self.takes(number, &[]);
    }

    /// CLOSE or UNSELECT.
    pub(super) fn leave(&mut self) {
        let Some(view) = &self.view else { return };
        let closes = self.chance.coin();
        let (uidvalidity, removes) = (view.uidvalidity, closes && !view.read_only);
        let number = self.put(if closes { "CLOSE" } else { "UNSELECT" }, false, Does::Leave);
        if removes {
            self.account().mailbox(uidvalidity).expunged = true;
            self.takes(number, &[]);
        }
    }

    pub(super) fn status(&mut self) {
        let (name, names) = (self.place(), self.account().names.stable());
        let items = "MESSAGES UIDNEXT UIDVALIDITY UNSEEN SIZE DELETED HIGHESTMODSEQ";
        self.put(&format!("STATUS {name} ({items})"), false, Does::Status { name, names });
    }

    /// APPEND of one message or several, or REPLACE.
    pub(super) fn append(&mut self) {
        let to = self.place();
        let target = self.targets().first().copied();
        let may = self.view.as_ref().is_some_and(|view| !view.read_only);
        let replaces = target.filter(|_| may && self.chance.below(4) == 0);
        let count = if replaces.is_some() { 1 } else { [1, 1, 2, 3][self.chance.index(4)] };
        let mut text = match replaces {
            Some((_, uid)) => format!("UID REPLACE {uid} {to}"),
            None => format!("APPEND {to}"),
        }
        .into_bytes();
        let mut brings = Vec::new();
        for _ in 0..count {
            let flags = if self.chance.coin() { self.some_flags() } else { 0 };
            let content = self.account().send(|number| octets(number, &self.chance));
            let account = self.account();
            let message = &account.sent[content].octets;
            let front = format!(" {} {{{}+}}\r\n", named(flags), message.len());
            text.extend_from_slice(front.as_bytes());
            text.extend_from_slice(message);
            brings.push((content, flags));
        }
        let names = self.account().names.stable();
        let contents: Vec<usize> = brings.iter().map(|&(content, _)| content).collect();
        let replaced = replaces.map(|(_, uid)| uid);
        let number =
            self.put_octets(&text, false, Does::Append { to, brings, names, replaces: replaced });
        if let Some(uid) = replaced {
            self.takes(number, &[uid]);
        }
        let mut account = self.account();
        let sent = account.tick();
        account.under_way.insert(number, (sent, Whole::Append(contents)));
    }

    /// CREATE, DELETE, RENAME, SUBSCRIBE: by nobody else at the same time.
    pub(super) fn change_names(&mut self) {
        let (one, other) = (self.place(), self.place());
        let change = match self.chance.below(9) {
            0..=3 => Change::Create(one),
            4 => Change::Delete(one),
            5 | 6 if one != "INBOX" || self.chance.below(4) == 0 => Change::Rename(one, other),
            _ => Change::Subscribe(one, self.chance.coin()),
        };
        let mut account = self.account();
        let known = |name: &str| account.names.names.mailboxes.get(name).copied();
        let uidvalidity = match change {
            // What goes with it has to be known.
            Change::Delete(name) | Change::Rename(name @ "INBOX", _)
                if known(name) == Some(None) =>
            {
                return;
            }
            Change::Delete(name) | Change::Rename(name @ "INBOX", _) => known(name).flatten(),
            _ => None,
        };
        if !account.names.begin(&change) {
            return;
        }
        drop(account);
        let text = match &change {
            Change::Create(name) => format!("CREATE {name}"),
            Change::Delete(name) => format!("DELETE {name}"),
            Change::Rename(from, to) => format!("RENAME {from} {to}"),
            Change::Subscribe(name, true) => format!("SUBSCRIBE {name}"),
            Change::Subscribe(name, false) => format!("UNSUBSCRIBE {name}"),
        };
        let number = self.put(&text, false, Does::Rename);
        let may = change != Change::Delete("INBOX");
        let Some(uidvalidity) = uidvalidity.filter(|_| may) else { return };
        let mut account = self.account();
        let sent = account.tick();
        account.removal(number);
        let mailbox = account.mailbox(uidvalidity);
        mailbox.closing = true;
        if matches!(change, Change::Rename(..)) {
            mailbox.messages.values_mut().for_each(|message| message.copies += 1);
            let there = mailbox.messages.iter().filter(|(_, one)| one.gone.is_none());
            let uids = there.map(|(&uid, _)| uid).collect();
            account.under_way.insert(number, (sent, Whole::Move { uidvalidity, uids }));
        }
    }

    /// A command was answered.
    pub(super) fn ended(&mut self, mut command: Command, status: &Status) -> Verdict {
        let does = std::mem::replace(&mut command.does, Does::Nothing);
        self.account().answered(command.number);
        let ok = status.kind == Kind::Ok;
        match does {
            Does::Nothing => Ok(()),
            Does::List => self.was_listed(&command, status),
            Does::Fetch { uids, marks } if ok => self.was_fetched(&command, &uids, marks),
            Does::Store { .. } => self.was_stored(&command, &does, status),
            Does::Transfer { .. } => self.was_placed(&command, &does, status),
            Does::Search { flag, by_uid } if ok => self.was_searched(&command, flag, by_uid),
            Does::Expunge { deleted } if ok => self.was_expunged(&deleted),
            Does::Append { .. } => self.was_appended(&command, &does, status),
            Does::Status { name, names } => self.was_status(&command, name, names, status),
            Does::Rename => {
                let for_now = is_for_now(status);
                self.account().names.end(ok, for_now).map_err(|what| format!("I12: {what}"))
            }
            Does::Leave if ok => {
                self.view = None;
                Ok(())
            }
            Does::Fetch { .. } if self.is_unread(status) => Ok(()),
            Does::Fetch { .. } | Does::Search { .. } | Does::Expunge { .. } | Does::Leave => {
                if is_for_now(status) {
                    Ok(())
                } else {
                    Err(format!("refused: {status:?}"))
                }
            }
        }
    }

    /// What a disk that fails does not give. On a good one there is no such answer.
    fn is_unread(&self, status: &Status) -> bool {
        status.code("SERVERBUG").is_some() && self.shared.world.is_bad_disk()
    }

    fn was_listed(&mut self, command: &Command, status: &Status) -> Verdict {
        if self.is_unread(status) {
            return Ok(());
        }
        let Some(view) = &self.view else { return Ok(()) };
        let mut account = self.shared.account.borrow_mut();
        let now = account.tick();
        let mailbox = account.mailbox(view.uidvalidity);
        if status.kind != Kind::Ok {
            return Err(format!("refused: {status:?}"));
        }
        for slot in &view.slots {
            match slot.uid {
                Some(uid) if command.told.contains_key(&uid) => {}
                // Gone, and the client may not be told yet, only of that.
                Some(uid) => {
                    mailbox.absent(uid, now).map_err(|what| format!("not listed: {what}"))?;
                }
                None if status.code("EXPUNGEISSUED").is_some() => {}
                None => return Err("messages were not listed".to_owned()),
            }
        }
        mailbox.listed(&view.uids(), command.sent, now)?;
        if view.is_known() {
            mailbox.seal(view.uidnext);
        }
        Ok(())
    }

    /// Whether a message that was not told of may be gone, though the client was not told yet.
    fn may_be_gone(account: &mut Account, view: &View, uid: u32) -> bool {
        view.get(uid).is_none() || account.mailbox(view.uidvalidity).may_go(uid)
    }

    fn was_fetched(&mut self, command: &Command, uids: &[u32], marks: bool) -> Verdict {
        let Some(view) = self.view.as_ref().filter(|_| marks) else { return Ok(()) };
        let mut account = self.shared.account.borrow_mut();
        for &uid in uids {
            let mailbox = account.mailbox(view.uidvalidity);
            let message = mailbox.message(uid);
            match command.told.get(&uid) {
                Some(&(Some(modseq), Some(flags))) if flags & SEEN != 0 => {
                    message.made(command.number, modseq, flags)?;
                    continue;
                }
                Some((told, _)) => {
                    message.refused(command.number);
                    if told.is_some() {
                        // It was, and then somebody changed that.
                        continue;
                    }
                }
                None => {}
            }
            let is_seen = view.get(uid).and_then(|slot| slot.flags).is_some_and(|f| f & SEEN != 0);
            if !is_seen
                && !self.shared.world.is_bad_disk()
                && !Self::may_be_gone(&mut account, view, uid)
            {
                return Err(format!("UID {uid} was read and is not marked as seen"));
            }
        }
        Ok(())
    }

    fn was_stored(&mut self, command: &Command, does: &Does, status: &Status) -> Verdict {
        let &Does::Store { ref uids, by_uid, silent, set, clear, unless } = does else {
            return Ok(());
        };
        let Some(view) = &mut self.view else { return Ok(()) };
        let mut account = self.shared.account.borrow_mut();
        let now = account.tick();
        let mailbox = account.mailbox(view.uidvalidity);
        if status.kind != Kind::Ok {
            for uid in uids {
                mailbox.message(*uid).refused(command.number);
            }
            let may = is_for_now(status) || mailbox.closing;
            return if may { Ok(()) } else { Err(format!("refused: {status:?}")) };
        }
        let modified = status.code("MODIFIED").and_then(|words| numbers(words.first()?));
        let modified = modified.unwrap_or_default().into_iter();
        let modified: BTreeSet<u32> = if by_uid {
            modified.collect()
        } else {
            modified.filter_map(|number| view.slots.get(number as usize - 1)?.uid).collect()
        };
        for &uid in uids {
            let may_go = mailbox.may_go(uid);
            let message = mailbox.message(uid);
            let known = message.newest(command.sent);
            let told = command.told.get(&uid).copied();
            let slot = view.find(uid);
            if modified.contains(&uid) {
                message.refused(command.number);
                let after = slot.and_then(|at| view.slots[at].modseq);
                if !may_go && unless.is_none_or(|unless| after.is_some_and(|after| after <= unless))
                {
                    return Err(format!("UID {uid} is MODIFIED, but stands at {after:?}"));
                }
                continue;
            }
            if unless.is_some_and(|unless| known > unless) && !may_go {
                return Err(format!("UID {uid} stood at {known} and is not MODIFIED"));
            }
            match (told, slot) {
                (Some((Some(modseq), Some(flags))), _) => {
                    message.made(command.number, modseq, flags)?;
                }
                (Some((Some(modseq), None)), Some(at)) if silent => {
                    // What the client makes of it by itself.
                    let slot = &mut view.slots[at];
                    let flags = (slot.flags.unwrap_or(0) | set) & !clear;
                    let was_known = slot.flags.is_some() || set | clear == Flags::MAX;
                    slot.flags = Some(flags).filter(|_| was_known);
                    message.made(command.number, modseq, flags)?;
                    if was_known {
                        let place = (modseq, flags);
                        mailbox.flags(uid, place, command.sent, now)?;
                    }
                }
                (None, Some(at)) if silent && !may_go => {
                    message.refused(command.number);
                    let flags = view.slots[at].flags;
                    if flags.is_some_and(|flags| (flags | set) & !clear != flags) {
                        return Err(format!("I5: UID {uid}: {flags:?} is left by a silent STORE"));
                    }
                }
                (None, Some(_)) if !may_go => {
                    return Err(format!("UID {uid}: nothing is said of what was stored"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// `UIDVALIDITY uids`: where messages came to be.
    fn places(words: &[String]) -> Option<(u32, Vec<u32>)> {
        let [uidvalidity, .., uids] = words else { return None };
        Some((uidvalidity.parse().ok()?, numbers(uids)?))
    }

    /// A refusal of a command that names a mailbox to put messages into.
    fn may_refuse(
        account: &Account,
        status: &Status,
        (to, names): (&str, Option<u64>),
        from: Option<u32>,
    ) -> Verdict {
        let stands = names.is_some() && names == account.names.stable();
        let closing = |from: u32| account.mailboxes.get(&from).is_some_and(|one| one.closing);
        let is_there = account.names.names.mailboxes.contains_key(to);
        if stands && is_there && !is_for_now(status) && !from.is_some_and(closing) {
            return Err(format!("{to} is there, but: {status:?}"));
        }
        Ok(())
    }

    fn was_placed(&mut self, command: &Command, does: &Does, status: &Status) -> Verdict {
        let &Does::Transfer { moves, by_uid, ref uids, from, to, names } = does else {
            return Ok(());
        };
        let mut account = self.shared.account.borrow_mut();
        let now = account.tick();
        if status.kind != Kind::Ok {
            for uid in uids {
                account.mailbox(from).message(*uid).copies -= 1;
            }
            if status.code("EXPUNGEISSUED").is_some() {
                let may = !by_uid && uids.iter().any(|&uid| account.mailbox(from).may_go(uid));
                return if may { Ok(()) } else { Err(format!("{uids:?} are there: {status:?}")) };
            }
            return Self::may_refuse(&account, status, (to, names), Some(from));
        }
        let code = command.notice.as_ref().and_then(|notice| notice.code("COPYUID"));
        let code = code.or_else(|| status.code("COPYUID")).unwrap_or_default();
        let Some((uidvalidity, new)) = Self::places(code) else {
            let mut missing = uids.iter().filter(|&&uid| !account.mailbox(from).may_go(uid));
            return match missing.next() {
                Some(uid) => Err(format!("I12: UID {uid} was neither copied nor gone")),
                None => Ok(()),
            };
        };
        let old = code.get(1).and_then(|old| numbers(old)).unwrap_or_default();
        if old.len() != new.len() || old.iter().any(|uid| !uids.contains(uid)) {
            return Err(format!("COPYUID {old:?} {new:?} of {uids:?}"));
        }
        if !by_uid && old.len() != uids.len() {
            return Err(format!("I12: of {uids:?}, by number, {old:?} alone"));
        }
        if names.is_some() && names == account.names.stable() {
            account.names.tell(to, uidvalidity)?;
        }
        for (&old, &new) in old.iter().zip(&new) {
            account.copied((from, old), (uidvalidity, new))?;
            account.mailbox(uidvalidity).message(new).told.get_or_insert(now);
            if moves {
                account.mailbox(from).absent(old, now)?;
                if self.view.as_ref().is_some_and(|view| view.find(old).is_some()) {
                    return Err(format!("UID {old} was moved, and is not told to be gone"));
                }
            }
        }
        Ok(())
    }

    fn was_searched(&mut self, command: &Command, flag: Flags, by_uid: bool) -> Verdict {
        let Some(view) = &self.view else { return Ok(()) };
        let account = self.shared.account.borrow();
        let hits = command.hits.as_deref().unwrap_or_default();
        for (number, slot) in (1..).zip(&view.slots) {
            let (Some(uid), Some(flags)) = (slot.uid, slot.flags) else { continue };
            let is_hit = hits.contains(if by_uid { &uid } else { &number });
            let mailbox = account.mailboxes.get(&view.uidvalidity);
            let may_go = mailbox.is_none_or(|mailbox| mailbox.may_go(uid));
            if is_hit != (flags & flag != 0) && (is_hit || !may_go) {
                return Err(format!("SEARCH: UID {uid} with {flags:#b} is found: {is_hit}"));
            }
        }
        Ok(())
    }

    fn was_expunged(&mut self, deleted: &[Slot]) -> Verdict {
        let Some(view) = &self.view else { return Ok(()) };
        for slot in deleted {
            let left = slot.uid.and_then(|uid| view.get(uid));
            if left.is_some_and(|left| left.modseq == slot.modseq) {
                return Err(format!("{slot:?} was to be expunged and is there"));
            }
        }
        Ok(())
    }

    fn was_appended(&mut self, command: &Command, does: &Does, status: &Status) -> Verdict {
        let Does::Append { to, brings, names, replaces } = does else { return Ok(()) };
        let mut account = self.shared.account.borrow_mut();
        let now = account.tick();
        let code = command.notice.as_ref().and_then(|notice| notice.code("APPENDUID"));
        let Some(code) = code.or_else(|| status.code("APPENDUID")) else {
            for &(content, _) in brings {
                account.sent[content].fate = Fate::Refused;
            }
            if status.kind == Kind::Ok {
                return Err("appended, and not said where".to_owned());
            }
            if replaces.is_some() && status.code("NONEXISTENT").is_some() {
                return Ok(());
            }
            return Self::may_refuse(&account, status, (to, *names), None);
        };
        let (uidvalidity, uids) = Self::places(code).ok_or("APPENDUID without UIDs")?;
        if uids.len() != brings.len() {
            return Err(format!("{} messages were brought, {uids:?} came", brings.len()));
        }
        if names.is_some() && *names == account.names.stable() {
            account.names.tell(to, uidvalidity)?;
        }
        for (&(content, flags), &uid) in brings.iter().zip(&uids) {
            account.sent[content].fate = Fate::Promised;
            account.content(uidvalidity, uid, content)?;
            let mailbox = account.mailbox(uidvalidity);
            mailbox.brought(uid, flags)?;
            mailbox.message(uid).told.get_or_insert(now);
        }
        let left = replaces.filter(|_| status.kind == Kind::Ok);
        match left.filter(|&uid| self.view.as_ref().is_some_and(|view| view.find(uid).is_some())) {
            Some(uid) => Err(format!("UID {uid} was replaced and is there")),
            None => Ok(()),
        }
    }

    fn was_status(
        &mut self,
        command: &Command,
        name: &str,
        names: Option<u64>,
        status: &Status,
    ) -> Verdict {
        let mut account = self.shared.account.borrow_mut();
        let now = account.tick();
        if status.kind != Kind::Ok {
            return Self::may_refuse(&account, status, (name, names), None);
        }
        let figure = |what: &str| {
            let found = command.figures.iter().find(|(word, _)| word == what);
            found.map(|&(_, number)| number).ok_or_else(|| format!("STATUS without {what}"))
        };
        let uidvalidity = u32::try_from(figure("UIDVALIDITY")?).unwrap_or(0);
        if names.is_some() && names == account.names.stable() {
            account.names.tell(name, uidvalidity)?;
        }
        let places = (figure("UIDNEXT")?, figure("HIGHESTMODSEQ")?);
        account.mailbox(uidvalidity).selected(places, command.sent, now)
    }
}

/// A header with the number of the message, then some lines.
pub(super) fn octets(number: usize, chance: &pombal::env::sim::Chance) -> Vec<u8> {
    let mut text = format!("X-Message: {number}\r\nSubject: {:x}\r\n\r\n", chance.bits());
    for _ in 0..chance.below(4) {
        let word = chance.bits();
        write!(text, "{word:x} {}\r\n", "x".repeat(chance.index(300)))
            .expect("text takes all text");
    }
    text.into_bytes()
}
