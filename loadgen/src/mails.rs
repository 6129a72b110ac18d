//! The messages that are sent: made up ones of an exact size, or real ones from a folder.
//!
//! A message is a head that each session copies and marks with a number of its own, and a
//! body that all sessions share. The pool lives as long as the process, so that a write can
//! name its octets without copying or counting references.

use std::fs;
use std::path::Path;

use crate::values::{Rng, date_field, to_u64, to_usize, wall_seconds};
use crate::wire::dots;

/// Different messages in a pool, where the memory below allows.
const POOL_COUNT: usize = 64;
/// Octets that a pool of made up messages may take.
const POOL_OCTETS_MAX: usize = 256 << 20;
/// Octets of real mails that are read into memory.
const FOLDER_OCTETS_MAX: usize = 2 << 30;
/// Longest text line of a made up message, without its line end.
const LINE_OCTETS_MAX: u64 = 76;
/// Longest line that DATA must take, without its line end (RFC 5321 §4.5.3.1.6).
const DATA_LINE_OCTETS_MAX: usize = 998;
/// Digits of the mark in the Message-ID.
const MARK_LEN: usize = 16;

/// A message as it is sent.
#[derive(Debug)]
pub(crate) struct Mail {
    /// Header and empty line; the mark stands at `mark_at`. Empty for real mails.
    head: Vec<u8>,
    mark_at: usize,
    body: Vec<u8>,
    /// The body with dots added, where that makes a difference.
    stuffed: Option<Vec<u8>>,
    /// Octets of 128 and above, which BODY=8BITMIME announces.
    pub(crate) is_eight_bit: bool,
}

impl Mail {
    /// Octets of the message, dots not added.
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Appends the head with its mark.
    pub(crate) fn write_head(&self, mark: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.head);
        if !self.head.is_empty() {
            let place = &mut out[start + self.mark_at..][..MARK_LEN];
            for (index, octet) in place.iter_mut().enumerate() {
                let nibble = (mark >> (4 * (MARK_LEN - 1 - index))) & 15;
                *octet = b"0123456789abcdef"[to_usize(nibble)];
            }
        }
    }

    /// The body for BDAT.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body for DATA; the terminator is not part of it.
    pub(crate) fn stuffed(&self) -> &[u8] {
        self.stuffed.as_deref().unwrap_or(&self.body)
    }

    fn new(head: Vec<u8>, mark_at: usize, body: Vec<u8>) -> Mail {
        let mut stuffed = Vec::new();
        dots::stuff(&body, &mut stuffed);
        let stuffed = (stuffed != body).then_some(stuffed);
        let is_eight_bit = !body.is_ascii();
        Mail { head, mark_at, body, stuffed, is_eight_bit }
    }
}

/// All messages of a run.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) mails: Vec<Mail>,
    /// Files that cannot be sent by DATA: bare CR, NUL, over-long lines.
    pub(crate) skipped: usize,
}

impl Pool {
    /// Makes up messages of exactly `size` octets.
    pub(crate) fn made_up(size: usize, from: &str, seed: u64) -> Result<&'static Pool, String> {
        let count = (POOL_OCTETS_MAX / size.max(1)).clamp(1, POOL_COUNT);
        let mut rng = Rng::new(seed, u64::MAX);
        let date = date_field(wall_seconds());
        let mut mails = Vec::with_capacity(count);
        for index in 0..count {
            let (head, mark_at) = make_head(index, from, &date, rng.next());
            let body_len =
                size.checked_sub(head.len()).filter(|len| *len >= 2).ok_or_else(|| {
                    format!("--size {size}: the header alone takes {} octets", head.len() + 2)
                })?;
            mails.push(Mail::new(head, mark_at, text(body_len, &mut rng)));
        }
        Ok(Pool { mails, skipped: 0 }.keep())
    }

    /// Reads every file below `folder`; line ends become CRLF.
    pub(crate) fn folder(folder: &Path, chunking: bool) -> Result<&'static Pool, String> {
        let (mut files, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder).map_err(|error| named(&folder, &error))?;
            for entry in entries {
                let path = entry.map_err(|error| named(&folder, &error))?.path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files.sort();
        let (mut mails, mut skipped, mut octets) = (Vec::new(), 0, 0);
        for file in files {
            let message = crlf(&fs::read(&file).map_err(|error| named(&file, &error))?);
            octets += message.len();
            if octets > FOLDER_OCTETS_MAX {
                return Err(format!("{}: more than 2 GiB of mail", folder.display()));
            }
            if message.is_empty() || (!chunking && !fits_data(&message)) {
                skipped += 1;
            } else {
                mails.push(Mail::new(Vec::new(), 0, message));
            }
        }
        if mails.is_empty() {
            return Err(format!("{}: no mail that can be sent", folder.display()));
        }
        Ok(Pool { mails, skipped }.keep())
    }

    fn keep(self) -> &'static Pool {
        Box::leak(Box::new(self))
    }

    /// The message that a number gets; numbers in a row get all of them.
    pub(crate) fn pick(&self, number: u64) -> &Mail {
        &self.mails[to_usize(number % to_u64(self.mails.len()))]
    }
}

fn named(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// Every LF gets its CR, and the last line its end.
fn crlf(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + message.len() / 32);
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        out.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// May DATA carry this message?
fn fits_data(message: &[u8]) -> bool {
    message.split(|octet| *octet == b'\n').all(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        line.len() <= DATA_LINE_OCTETS_MAX && !line.contains(&b'\r') && !line.contains(&0)
    })
}

fn make_head(index: usize, from: &str, date: &str, id: u64) -> (Vec<u8>, usize) {
    let before = format!(
        "From: Load Generator <{from}>\r\n\
         To: Readers of list {index:02} <list{index:02}@lists.example.test>\r\n\
         Subject: Report {index:02} of the day, with figures and a few remarks\r\n\
         Date: {date}\r\n\
         Message-ID: <"
    );
    let after = format!(
        ".{id:016x}@loadgen.example.test>\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\
         Content-Transfer-Encoding: 7bit\r\n\
         \r\n"
    );
    let mut head = before.into_bytes();
    let mark_at = head.len();
    head.extend_from_slice(&[b'0'; MARK_LEN]);
    head.extend_from_slice(after.as_bytes());
    (head, mark_at)
}

const WORDS: [&str; 24] = [
    "the", "letter", "of", "pigeon", "post", "carries", "a", "message", "over", "seven", "hills",
    "and", "returns", "before", "noon", "with", "answers", "for", "all", "who", "waited", "at",
    "window", "again",
];

/// Text of exactly `len` octets, at least 2, in lines that end in CRLF; a few begin with a dot.
pub(crate) fn text(len: usize, rng: &mut Rng) -> Vec<u8> {
    assert!(len >= 2, "a text has at least a line end");
    let mut out = Vec::with_capacity(len);
    while out.len() < len {
        let left = to_u64(len - out.len());
        let mut line_len = (40 + rng.below(LINE_OCTETS_MAX - 39)).min(left - 2);
        if left - 2 - line_len == 1 {
            // One octet would be left, and no line is that short.
            line_len = if line_len > 0 { line_len - 1 } else { 1 };
        }
        let end = out.len() + to_usize(line_len);
        if line_len > 2 && rng.below(40) == 0 {
            out.push(b'.');
        }
        while out.len() < end {
            let word = WORDS[to_usize(rng.below(to_u64(WORDS.len())))].as_bytes();
            out.extend_from_slice(&word[..word.len().min(end - out.len())]);
            if out.len() + 1 < end {
                out.push(b' ');
            }
        }
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_messages_have_the_exact_size_and_short_lines() {
        for size in [500, 1_023, 1_024, 1_025, 10_240, 100_000] {
            let pool = Pool::made_up(size, "from@example.test", 1).unwrap();
            for mail in &pool.mails {
                let mut whole = Vec::new();
                mail.write_head(0x00ab_cdef, &mut whole);
                whole.extend_from_slice(mail.body());
                assert_eq!((whole.len(), mail.len()), (size, size));
                let whole = String::from_utf8(whole).unwrap();
                assert!(whole.contains("Message-ID: <0000000000abcdef."));
                assert!(whole.ends_with("\r\n"));
                assert!(whole.split("\r\n").all(|line| line.len() <= 78 && !line.contains('\n')));
            }
        }
        assert!(Pool::made_up(100, "from@example.test", 1).is_err());
    }

    #[test]
    fn text_of_every_small_length_is_whole_lines() {
        let mut rng = Rng::new(1, 1);
        for len in 2..400 {
            let text = text(len, &mut rng);
            assert_eq!(text.len(), len);
            assert!(text.ends_with(b"\r\n"));
        }
    }

    #[test]
    fn reads_a_folder_and_leaves_out_what_data_cannot_carry() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("a"), "Subject: a\n\n.dot\nend").unwrap();
        fs::write(folder.path().join("sub/b"), "Subject: b\r\n\r\n\u{fc}\r\n").unwrap();
        fs::write(folder.path().join("c"), "bare\rCR\n").unwrap();
        fs::write(folder.path().join("d"), "x".repeat(2_000)).unwrap();
        let pool = Pool::folder(folder.path(), false).unwrap();
        assert_eq!((pool.mails.len(), pool.skipped), (2, 2));
        assert_eq!(pool.pick(0).body(), b"Subject: a\r\n\r\n.dot\r\nend\r\n");
        assert_eq!(pool.pick(2).stuffed(), b"Subject: a\r\n\r\n..dot\r\nend\r\n");
        assert!(pool.pick(1).is_eight_bit);
        assert_eq!(Pool::folder(folder.path(), true).unwrap().mails.len(), 4);
    }
}
