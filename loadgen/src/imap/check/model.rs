//! What one client knows of the mailbox by the responses it got, and what may not be said.
//!
//! Pure: responses in, a sentence out where one of them contradicts what was said before.
//!
//! ```text
//! EXISTS    never falls (RFC 9051 §7.4.1)       EXPUNGE  in range, not while numbers are in use
//! FETCH     in range; UIDs rise with numbers    VANISHED names what is there (RFC 7162 §3.2.10)
//! MODSEQ    never falls, and rises with each change of flags (RFC 7162 §3.1.1)
//! HIGHESTMODSEQ  no change at or below it is told later (RFC 7162 §3.2 and §6)
//! ```

use crate::wire::imap::{Response, Status, code_value, items, number, ranges};

/// Flags in order, in small letters, without `\recent`.
pub(crate) type Flags = Vec<String>;

/// One message as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) uid: Option<u32>,
    pub(crate) flags: Option<Flags>,
    pub(crate) mod_seq: Option<u64>,
}

/// What the command under way allows the server to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Busy {
    /// FETCH, STORE, SEARCH: message numbers must stand still (RFC 9051 §7.5.1).
    Numbers,
    Other,
}

/// One client's view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model {
    /// By sequence number, from 0.
    pub(crate) entries: Vec<Entry>,
    /// QRESYNC is enabled: removals come as VANISHED.
    pub(crate) vanishes: bool,
    pub(crate) uid_validity: u64,
    pub(crate) uid_next: u64,
    /// By the codes of SELECT and of later answers.
    pub(crate) highest_mod_seq: u64,
    /// Changes that were told too late. The view is right all the same, and goes on.
    pub(crate) late: Vec<String>,
    /// What it was when this command began: everything up to here has been told.
    told_up_to: u64,
    /// UIDs of the messages whose flags came with this command.
    told: Vec<u32>,
}

impl Model {
    /// A command begins.
    pub(crate) fn begin(&mut self) {
        self.told.clear();
        self.told_up_to = self.highest_mod_seq;
    }

    /// Did a FETCH of this command name the flags of the message with this UID?
    pub(crate) fn was_told(&self, uid: u32) -> bool {
        self.told.contains(&uid)
    }

    /// The message with this UID, if it is there.
    pub(crate) fn get_mut(&mut self, uid: u32) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.uid == Some(uid))
    }

    /// Takes one response. The error says what it contradicts.
    pub(crate) fn take(&mut self, response: &Response<'_>, busy: Busy) -> Result<(), String> {
        match *response {
            Response::Exists(count) => self.exists(count),
            Response::Expunge(_) | Response::Vanished { earlier: false, .. }
                if busy == Busy::Numbers =>
            {
                Err("a message was removed while numbers are in use".into())
            }
            Response::Expunge(number) => {
                if self.vanishes {
                    return Err("EXPUNGE although QRESYNC is enabled".into());
                }
                let index = self.index(number)?;
                self.entries.remove(index);
                Ok(())
            }
            Response::Vanished { earlier: false, uids } => self.vanished(uids),
            Response::Fetch { number, pairs } => {
                let index = self.index(number)?;
                self.fetched(index, pairs)
            }
            Response::Notice { status: Status::Ok, code } | Response::Tagged { code, .. } => {
                self.code(code)
            }
            _ => Ok(()),
        }
    }

    fn exists(&mut self, count: u32) -> Result<(), String> {
        let (count, known) = (to_usize(count), self.entries.len());
        if count < known {
            return Err(format!("EXISTS fell from {known} to {count}"));
        }
        self.entries.resize(count, Entry::default());
        Ok(())
    }

    fn index(&self, number: u32) -> Result<usize, String> {
        let index = to_usize(number).checked_sub(1).filter(|index| *index < self.entries.len());
        index.ok_or_else(|| format!("number {number} of {} messages", self.entries.len()))
    }

    fn vanished(&mut self, uids: &[u8]) -> Result<(), String> {
        for uid in ranges(uids).flat_map(|(from, to)| from..=to) {
            let known = self.entries.iter().position(|entry| entry.uid == Some(uid));
            // A message that was never fetched: it stands somewhere behind all smaller UIDs.
            let index = known.or_else(|| {
                let behind =
                    self.entries.iter().rposition(|entry| entry.uid.is_some_and(|it| it < uid));
                let from = behind.map_or(0, |index| index + 1);
                self.entries.get(from).filter(|entry| entry.uid.is_none()).map(|_| from)
            });
            let index = index.ok_or_else(|| format!("VANISHED {uid}, which was not there"))?;
            self.entries.remove(index);
        }
        Ok(())
    }

    fn fetched(&mut self, index: usize, pairs: &[u8]) -> Result<(), String> {
        let (mut uid, mut flags, mut mod_seq) = (None, None, None);
        for (name, value) in items(pairs) {
            if name.eq_ignore_ascii_case(b"UID") {
                uid = Some(number(value).ok_or("a UID that is no number")?);
            } else if name.eq_ignore_ascii_case(b"FLAGS") {
                flags = Some(flags_of(value));
            } else if name.eq_ignore_ascii_case(b"MODSEQ") {
                mod_seq = Some(number(inner(value)).ok_or("a MODSEQ that is no number")?);
            }
        }
        if let Some(uid) = uid {
            let uid = u32::try_from(uid).map_err(|_| format!("UID {uid} is too large"))?;
            self.check_uid(index, uid)?;
            self.entries[index].uid = Some(uid);
        }
        let entry = &mut self.entries[index];
        let what = || format!("message {} (UID {:?})", index + 1, entry.uid);
        match (entry.mod_seq, mod_seq) {
            (Some(old), Some(new)) if new < old => {
                return Err(format!("MODSEQ of {} fell from {old} to {new}", what()));
            }
            (Some(old), Some(new)) if new == old => {
                if let (Some(was), Some(is)) = (&entry.flags, &flags)
                    && was != is
                {
                    return Err(format!(
                        "flags of {} went from {was:?} to {is:?} without a new MODSEQ {old}",
                        what()
                    ));
                }
            }
            (Some(old), Some(new)) if new > old && new <= self.told_up_to => {
                let up_to = self.told_up_to;
                let late =
                    format!("{} changed at MODSEQ {new}, told after HIGHESTMODSEQ {up_to}", what());
                self.late.push(late);
            }
            _ => {}
        }
        entry.mod_seq = mod_seq.or(entry.mod_seq);
        if flags.is_some() {
            entry.flags = flags;
            self.told.extend(entry.uid);
        }
        Ok(())
    }

    fn check_uid(&self, index: usize, uid: u32) -> Result<(), String> {
        let wrong = |other: u32| {
            Err(format!("message {} has UID {uid}, which does not fit beside {other}", index + 1))
        };
        if let Some(known) = self.entries[index].uid {
            return if known == uid { Ok(()) } else { wrong(known) };
        }
        if let Some(before) = self.entries[..index].iter().rev().find_map(|entry| entry.uid)
            && before >= uid
        {
            return wrong(before);
        }
        match self.entries[index + 1..].iter().find_map(|entry| entry.uid) {
            Some(after) if after <= uid => wrong(after),
            _ => Ok(()),
        }
    }

    fn code(&mut self, code: Option<&[u8]>) -> Result<(), String> {
        if let Some(mod_seq) = code_value(code, "HIGHESTMODSEQ").and_then(number) {
            if mod_seq < self.highest_mod_seq {
                let was = self.highest_mod_seq;
                return Err(format!("HIGHESTMODSEQ fell from {was} to {mod_seq}"));
            }
            self.highest_mod_seq = mod_seq;
        }
        if let Some(next) = code_value(code, "UIDNEXT").and_then(number) {
            if next < self.uid_next {
                return Err(format!("UIDNEXT fell from {} to {next}", self.uid_next));
            }
            self.uid_next = next;
        }
        if let Some(validity) = code_value(code, "UIDVALIDITY").and_then(number) {
            if self.uid_validity != 0 && validity != self.uid_validity {
                return Err(format!("UIDVALIDITY {} became {validity}", self.uid_validity));
            }
            self.uid_validity = validity;
        }
        Ok(())
    }
}

fn to_usize(number: u32) -> usize {
    crate::values::to_usize(u64::from(number))
}

/// Without the parentheses.
fn inner(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"(").and_then(|value| value.strip_suffix(b")")).unwrap_or(value)
}

fn flags_of(value: &[u8]) -> Flags {
    let mut flags: Flags = inner(value)
        .split(|octet| *octet == b' ')
        .filter(|flag| !flag.is_empty())
        .map(|flag| String::from_utf8_lossy(flag).to_ascii_lowercase())
        .filter(|flag| flag != "\\recent")
        .collect();
    flags.sort();
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    use crate::wire::imap::parse;
    use expect_test::{Expect, expect};

    /// Says `lines` to a model; what it knows then, or what it objects to.
    #[track_caller]
    fn check(vanishes: bool, busy: Busy, lines: &[&str], want: &Expect) {
        let mut model = Model { vanishes, ..Model::default() };
        let mut out = String::new();
        for line in lines {
            let line = format!("{line}\r\n");
            if line.starts_with("C: ") {
                model.begin();
                continue;
            }
            if let Err(why) = model.take(&parse(line.as_bytes()).unwrap(), busy) {
                out.push_str(&why);
                break;
            }
        }
        out.push_str(&model.late.join(""));
        if out.is_empty() {
            for entry in &model.entries {
                let flags = entry.flags.as_ref().map(|flags| flags.join(" "));
                write!(out, "{:?} {flags:?} {:?}; ", entry.uid, entry.mod_seq).unwrap();
            }
        }
        want.assert_eq(&out);
    }

    #[test]
    fn learns_what_is_said() {
        check(
            false,
            Busy::Other,
            &[
                "* 3 EXISTS",
                "* 1 FETCH (UID 4 FLAGS (\\Seen \\Recent) MODSEQ (7))",
                "* 3 FETCH (UID 9 FLAGS ($a \\Answered))",
                "* 2 EXPUNGE",
                "* 3 EXISTS",
            ],
            &expect![[
                r#"Some(4) Some("\\seen") Some(7); Some(9) Some("$a \\answered") None; None None None; "#
            ]],
        );
    }

    #[test]
    fn objects_to_numbers_that_cannot_be() {
        let other = |lines: &[&str], want: &Expect| check(false, Busy::Other, lines, want);
        other(&["* 3 EXISTS", "* 2 EXISTS"], &expect!["EXISTS fell from 3 to 2"]);
        other(&["* 3 EXISTS", "* 4 EXPUNGE"], &expect!["number 4 of 3 messages"]);
        other(&["* 3 EXISTS", "* 0 FETCH (UID 1)"], &expect!["number 0 of 3 messages"]);
        other(
            &["* 3 EXISTS", "* 1 FETCH (UID 5)", "* 3 FETCH (UID 5)"],
            &expect!["message 3 has UID 5, which does not fit beside 5"],
        );
        other(
            &["* 3 EXISTS", "* 3 FETCH (UID 5)", "* 1 FETCH (UID 6)"],
            &expect!["message 1 has UID 6, which does not fit beside 5"],
        );
        check(
            false,
            Busy::Numbers,
            &["* 3 EXISTS", "* 1 EXPUNGE"],
            &expect!["a message was removed while numbers are in use"],
        );
    }

    #[test]
    fn objects_to_mod_sequences_that_stand_still_or_fall() {
        let other = |lines: &[&str], want: &Expect| check(false, Busy::Other, lines, want);
        let first = "* 1 FETCH (UID 2 FLAGS (a) MODSEQ (5))";
        other(
            &["* 1 EXISTS", first, "* 1 FETCH (MODSEQ (4))"],
            &expect!["MODSEQ of message 1 (UID Some(2)) fell from 5 to 4"],
        );
        other(
            &["* 1 EXISTS", first, "* 1 FETCH (FLAGS (b) MODSEQ (5))"],
            &expect![[
                r#"flags of message 1 (UID Some(2)) went from ["a"] to ["b"] without a new MODSEQ 5"#
            ]],
        );
        let next = "* 1 FETCH (FLAGS (b) MODSEQ (8))";
        other(
            &["* 1 EXISTS", first, "a1 OK [HIGHESTMODSEQ 8] x", "C: NOOP", next],
            &expect!["message 1 (UID Some(2)) changed at MODSEQ 8, told after HIGHESTMODSEQ 8"],
        );
        let in_time = ["* 1 EXISTS", first, next, "a1 OK [HIGHESTMODSEQ 8] x", "C: NOOP", next];
        other(&in_time, &expect![[r#"Some(2) Some("b") Some(8); "#]]);
        other(
            &["* OK [HIGHESTMODSEQ 9] x", "a1 OK [HIGHESTMODSEQ 8] x"],
            &expect!["HIGHESTMODSEQ fell from 9 to 8"],
        );
        other(
            &["* OK [UIDVALIDITY 1]", "* OK [UIDVALIDITY 2]"],
            &expect!["UIDVALIDITY 1 became 2"],
        );
    }

    #[test]
    fn vanished_takes_what_is_there() {
        let start = ["* 3 EXISTS", "* 1 FETCH (UID 2)", "* 2 FETCH (UID 4)"];
        let with = |line| [&start[..], &[line]].concat();
        let check = |line, want: &Expect| check(true, Busy::Other, &with(line), want);
        check("* VANISHED 2,7", &expect!["Some(4) None None; "]);
        check("* VANISHED 3", &expect!["VANISHED 3, which was not there"]);
        check("* VANISHED 6:7", &expect!["VANISHED 7, which was not there"]);
        check("* 1 EXPUNGE", &expect!["EXPUNGE although QRESYNC is enabled"]);
    }
}
