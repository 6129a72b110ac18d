//! The audit's journal: what was meant to be sent, what was answered, what was deleted.
//!
//! An intent is handed to the kernel before the first octet of its message goes out, so
//! that nothing is ever stored that the journal does not know. Answers may follow a little
//! later: one that is lost with this process only makes its message "unknown". A thread
//! syncs the file a few times a second, and once more at the end.
//!
//! ```text
//! R run                        once, at the top: 16 hexadecimal digits
//! I seq digest user[,user…]    about to send; digest is xxh3-128 of the body
//! A seq mask                   answered with 250; one bit per recipient that RCPT took
//! N seq code                   refused
//! D id user seq[,seq…]         about to send QUIT, these are marked as deleted
//! Q id                         that QUIT was answered with +OK
//! ```
//!
//! Each sequence number is sent at most once, so that any second copy is the server's.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::Scope;
use std::time::Duration;

use pombal::bytes::hash::Map;

use crate::values::{to_u64, to_usize, write_hex, write_number};

/// Recipients of one message at most.
pub(crate) const RECIPIENTS_MAX: usize = 3;
/// Time between syncs.
const SYNC_EVERY: Duration = Duration::from_millis(200);
/// Octets of answers that are kept back at most.
const PENDING_OCTETS_MAX: usize = 4 << 10;
/// Highest sequence number; the ledger is a list indexed by it.
const SEQ_MAX: u64 = 1 << 32;

/// What the server said about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing that arrived here.
    Unknown,
    Acknowledged,
    Refused,
}

/// One message of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) digest: u128,
    users: [u32; RECIPIENTS_MAX],
    users_count: u8,
    pub(crate) state: State,
    /// Recipients that RCPT took, one bit each.
    pub(crate) accepted: u8,
    /// Recipients whose copy was deleted, with +OK to QUIT.
    pub(crate) deleted: u8,
    /// Recipients whose copy may have been deleted: the answer to QUIT is not known.
    pub(crate) maybe_deleted: u8,
}

impl Record {
    pub(crate) fn users(&self) -> &[u32] {
        &self.users[..usize::from(self.users_count)]
    }

    /// Which recipient a user is, if one.
    pub(crate) fn slot(&self, user: u64) -> Option<usize> {
        self.users().iter().position(|one| u64::from(*one) == user)
    }
}

/// Everything that a journal says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// Tells this audit's messages from others in the same maildrops.
    pub(crate) run: u64,
    /// By sequence number.
    pub(crate) records: Vec<Option<Record>>,
    /// Highest number of a deleting session.
    pub(crate) deletions: u64,
    /// Lines that were not understood: a last line cut short, or damage.
    pub(crate) damaged: u64,
}

impl Ledger {
    /// Reads a journal; without a file, an empty one.
    pub(crate) fn load(path: &Path) -> Result<Ledger, String> {
        Ok(Ledger::parse(&text(path)?))
    }

    pub(crate) fn parse(text: &str) -> Ledger {
        let mut ledger = Ledger::default();
        // Deletions whose QUIT is not answered yet.
        let mut open: Map<u64, (u64, Vec<u64>)> = Map::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if ledger.take(line, &mut open).is_none() {
                ledger.damaged += 1;
            }
        }
        for (user, seqs) in open.into_values() {
            for seq in seqs {
                ledger.mark(seq, user, |record, bit| record.maybe_deleted |= bit);
            }
        }
        ledger
    }

    fn take(&mut self, line: &str, open: &mut Map<u64, (u64, Vec<u64>)>) -> Option<()> {
        let mut words = line.split(' ');
        let kind = words.next()?;
        if kind == "R" {
            self.run = u64::from_str_radix(words.next()?, 16).ok()?;
            return Some(());
        }
        let number: u64 = words.next()?.parse().ok()?;
        match kind {
            "I" => {
                let digest = u128::from_str_radix(words.next()?, 16).ok()?;
                let (mut users, mut count) = ([0; RECIPIENTS_MAX], 0);
                for user in words.next()?.split(',') {
                    *users.get_mut(usize::from(count))? = user.parse().ok()?;
                    count += 1;
                }
                let record = Record {
                    digest,
                    users,
                    users_count: count,
                    state: State::Unknown,
                    accepted: 0,
                    deleted: 0,
                    maybe_deleted: 0,
                };
                self.insert(number, record)
            }
            "A" => {
                let accepted = words.next()?.parse().ok()?;
                let record = self.get_mut(number)?;
                (record.state, record.accepted) = (State::Acknowledged, accepted);
                Some(())
            }
            "N" => {
                words.next()?;
                self.get_mut(number)?.state = State::Refused;
                Some(())
            }
            "D" => {
                let user = words.next()?.parse().ok()?;
                let seqs = words.next()?.split(',').map(|seq| seq.parse().ok());
                open.insert(number, (user, seqs.collect::<Option<_>>()?));
                self.deletions = self.deletions.max(number);
                Some(())
            }
            "Q" => {
                let (user, seqs) = open.remove(&number)?;
                for seq in seqs {
                    self.mark(seq, user, |record, bit| record.deleted |= bit);
                }
                Some(())
            }
            _ => None,
        }
    }

    fn insert(&mut self, seq: u64, record: Record) -> Option<()> {
        if seq >= SEQ_MAX {
            return None;
        }
        let index = to_usize(seq);
        if index >= self.records.len() {
            self.records.resize(index + 1, None);
        }
        let place = &mut self.records[index];
        // A number that is used twice would make every verdict about it worthless.
        if place.is_some() {
            return None;
        }
        *place = Some(record);
        Some(())
    }

    pub(crate) fn get(&self, seq: u64) -> Option<&Record> {
        self.records.get(to_usize(seq))?.as_ref()
    }

    fn get_mut(&mut self, seq: u64) -> Option<&mut Record> {
        self.records.get_mut(to_usize(seq))?.as_mut()
    }

    fn mark(&mut self, seq: u64, user: u64, change: impl FnOnce(&mut Record, u8)) {
        if let Some(record) = self.get_mut(seq)
            && let Some(slot) = record.slot(user)
        {
            change(record, 1 << slot);
        }
    }

    /// The first sequence number that was never used.
    pub(crate) fn next_seq(&self) -> u64 {
        to_u64(self.records.len())
    }
}

/// What stands in a journal; nothing where there is no file.
pub(crate) fn text(path: &Path) -> Result<String, String> {
    match std::fs::read(path) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(named(path, &error)),
    }
}

fn named(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// One session's end of the journal. Several write to the same file, whole lines each.
pub(crate) struct Writer {
    file: File,
    /// Answers that go out with the next intent.
    pending: Vec<u8>,
    failed: Option<std::io::Error>,
}

impl Writer {
    /// Opens the journal for appending.
    pub(crate) fn open(path: &Path) -> Result<Writer, String> {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let file = file.map_err(|error| named(path, &error))?;
        Ok(Writer { file, pending: Vec::new(), failed: None })
    }

    /// Begins a journal.
    pub(crate) fn run(&mut self, run: u64) {
        self.pending.extend_from_slice(format!("R {run:016x}\n").as_bytes());
        self.flush();
    }

    /// Goes on after a run that was killed, perhaps in the middle of a line.
    pub(crate) fn new_line(&mut self) {
        self.pending.push(b'\n');
        self.flush();
    }

    /// To be called before the first octet of the message is sent.
    pub(crate) fn intent(&mut self, seq: u64, digest: u128, users: &[u64]) {
        self.begin(b'I', seq);
        self.pending.push(b' ');
        write_hex(&mut self.pending, digest);
        self.pending.push(b' ');
        self.list(users);
        self.flush();
    }

    pub(crate) fn acknowledged(&mut self, seq: u64, mask: u64) {
        self.begin(b'A', seq);
        self.pending.push(b' ');
        write_number(&mut self.pending, mask);
        self.end();
    }

    pub(crate) fn refused(&mut self, seq: u64, code: u16) {
        self.begin(b'N', seq);
        self.pending.push(b' ');
        write_number(&mut self.pending, u64::from(code));
        self.end();
    }

    /// To be called before QUIT is sent.
    pub(crate) fn deleting(&mut self, id: u64, user: u64, seqs: &[u64]) {
        self.begin(b'D', id);
        self.pending.push(b' ');
        write_number(&mut self.pending, user);
        self.pending.push(b' ');
        self.list(seqs);
        self.flush();
    }

    pub(crate) fn deleted(&mut self, id: u64) {
        self.begin(b'Q', id);
        self.end();
    }

    /// A line of another kind of audit, handed to the kernel before anything is asked.
    pub(crate) fn line_now(&mut self, line: &[u8]) {
        self.pending.extend_from_slice(line);
        self.flush();
    }

    /// An answer, which may follow with the next line.
    pub(crate) fn line_later(&mut self, line: &[u8]) {
        self.pending.extend_from_slice(line);
        if self.pending.len() >= PENDING_OCTETS_MAX {
            self.flush();
        }
    }

    fn begin(&mut self, kind: u8, number: u64) {
        self.pending.extend_from_slice(&[kind, b' ']);
        write_number(&mut self.pending, number);
    }

    fn list(&mut self, numbers: &[u64]) {
        for (index, number) in numbers.iter().enumerate() {
            if index > 0 {
                self.pending.push(b',');
            }
            write_number(&mut self.pending, *number);
        }
        self.pending.push(b'\n');
    }

    fn end(&mut self) {
        self.line_later(b"\n");
    }

    /// Hands everything to the kernel.
    pub(crate) fn flush(&mut self) {
        let done = self.file.write_all(&self.pending);
        self.pending.clear();
        if let Err(error) = done {
            self.failed.get_or_insert(error);
        }
    }

    /// The journal is worth nothing after a failed write: no message may follow one.
    pub(crate) fn is_broken(&self) -> bool {
        self.failed.is_some()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Syncs the journal now and then until the sender is dropped, and once more then.
/// The thread's answer is the first error.
pub(crate) fn sync_until_dropped<'scope>(
    scope: &'scope Scope<'scope, '_>,
    path: &Path,
) -> Result<(Sender<()>, std::thread::ScopedJoinHandle<'scope, std::io::Result<()>>), String> {
    let file = OpenOptions::new().append(true).open(path).map_err(|error| named(path, &error))?;
    let (stop, stopped) = channel::<()>();
    let thread = scope.spawn(move || {
        loop {
            let wait = stopped.recv_timeout(SYNC_EVERY);
            file.sync_data()?;
            if !matches!(wait, Err(RecvTimeoutError::Timeout)) {
                return Ok(());
            }
        }
    });
    Ok((stop, thread))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(text: &str, want: &Expect) {
        let ledger = Ledger::parse(text);
        let mut out = format!(
            "run {:x}, damaged {}, deletions {}\n",
            ledger.run, ledger.damaged, ledger.deletions
        );
        for (seq, record) in ledger.records.iter().enumerate() {
            if let Some(record) = record {
                writeln!(
                    out,
                    "{seq}: {:?} to {:?}, digest {:x}, accepted {:b}, deleted {:b}, maybe {:b}",
                    record.state,
                    record.users(),
                    record.digest,
                    record.accepted,
                    record.deleted,
                    record.maybe_deleted
                )
                .unwrap();
            }
        }
        want.assert_eq(&out);
    }

    #[test]
    fn tells_what_was_answered_from_what_was_not() {
        check(
            "R ab\nI 0 ff 7\nI 1 1 3,4,5\nI 2 2 1,2\nA 1 5\nN 2 451\n",
            &expect![[r"
                run ab, damaged 0, deletions 0
                0: Unknown to [7], digest ff, accepted 0, deleted 0, maybe 0
                1: Acknowledged to [3, 4, 5], digest 1, accepted 101, deleted 0, maybe 0
                2: Refused to [1, 2], digest 2, accepted 0, deleted 0, maybe 0
            "]],
        );
    }

    #[test]
    fn deletions_count_from_the_answer_to_quit() {
        check(
            "I 0 1 3,4\nI 1 2 4\nA 0 3\nA 1 1\nD 1 4 0,1\nQ 1\nD 2 3 0\n",
            &expect![[r"
                run 0, damaged 0, deletions 2
                0: Acknowledged to [3, 4], digest 1, accepted 11, deleted 10, maybe 1
                1: Acknowledged to [4], digest 2, accepted 1, deleted 1, maybe 0
            "]],
        );
    }

    #[test]
    fn counts_lines_that_make_no_sense() {
        check(
            "I 0 1 1,2,3,4\nI 1 1 1\nI 1 1 1\nA 9 1\nX 1\nQ 5\nI 2 zz 1\nA 1",
            &expect![[r"
                run 0, damaged 7, deletions 0
                1: Unknown to [1], digest 1, accepted 0, deleted 0, maybe 0
            "]],
        );
    }

    #[test]
    fn what_was_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        assert_eq!(Ledger::load(&path).unwrap(), Ledger::default());
        std::thread::scope(|scope| {
            let mut writer = Writer::open(&path).unwrap();
            let (stop, thread) = sync_until_dropped(scope, &path).unwrap();
            writer.run(0xabc);
            writer.intent(0, u128::MAX, &[1, 999]);
            writer.acknowledged(0, 3);
            writer.intent(1, 5, &[2]);
            writer.refused(1, 550);
            writer.deleting(1, 999, &[0]);
            writer.deleted(1);
            drop(writer);
            drop(stop);
            thread.join().unwrap().unwrap();
        });
        let ledger = Ledger::load(&path).unwrap();
        assert_eq!((ledger.run, ledger.damaged, ledger.next_seq()), (0xabc, 0, 2));
        let first = ledger.get(0).unwrap();
        assert_eq!((first.digest, first.accepted, first.deleted), (u128::MAX, 3, 2));
        assert_eq!(ledger.get(1).unwrap().state, State::Refused);
    }
}
