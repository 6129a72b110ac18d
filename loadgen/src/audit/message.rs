//! The audit's messages: three header fields and a body that names its number.
//!
//! The digest covers the body as it is stored, from after the empty line to the last line
//! end, so that fields which servers add above it do not matter.

use xxhash_rust::xxh3::Xxh3;

use crate::mails::Mail;
use crate::values::{write_hex, write_number, write_padded};

const RUN_FIELD: &[u8] = b"X-Loadgen-Run: ";
const SEQ_FIELD: &[u8] = b"X-Loadgen-Seq: ";
const DIGEST_FIELD: &[u8] = b"X-Loadgen-Digest: ";
/// Octets of a header that are looked at; fields of ours stand well within.
const HEADER_OCTETS_MAX: usize = 1 << 20;

/// The first line of the body, which makes each body a different one.
fn write_first_line(out: &mut Vec<u8>, run: u64, seq: u64) {
    out.extend_from_slice(b"Message ");
    write_padded(out, seq, 12);
    out.extend_from_slice(b" of run ");
    write_hex(out, u128::from(run));
    out.extend_from_slice(b".\r\n");
}

/// Digest of the body of message `seq` whose text is that of `mail`. `scratch` is cleared.
pub(crate) fn digest(mail: &Mail, run: u64, seq: u64, scratch: &mut Vec<u8>) -> u128 {
    scratch.clear();
    write_first_line(scratch, run, seq);
    let mut hasher = Xxh3::new();
    hasher.update(scratch);
    hasher.update(mail.body());
    hasher.digest128()
}

/// Appends everything up to the shared text.
pub(crate) fn write_head(out: &mut Vec<u8>, from: &[u8], run: u64, seq: u64, digest: u128) {
    out.extend_from_slice(b"From: Audit <");
    out.extend_from_slice(from);
    out.extend_from_slice(b">\r\nTo: undisclosed-recipients:;\r\nSubject: Audit message ");
    write_number(out, seq);
    out.extend_from_slice(b"\r\nMessage-ID: <");
    write_hex(out, u128::from(run));
    out.push(b'.');
    write_number(out, seq);
    out.extend_from_slice(b"@loadgen.example.test>\r\n");
    out.extend_from_slice(RUN_FIELD);
    write_hex(out, u128::from(run));
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(SEQ_FIELD);
    write_number(out, seq);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(DIGEST_FIELD);
    write_hex(out, digest);
    out.extend_from_slice(b"\r\n\r\n");
    write_first_line(out, run, seq);
}

/// What a stored message says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    /// `None` when the message is none of ours.
    pub(crate) run: Option<u64>,
    pub(crate) seq: Option<u64>,
    /// Of the body as it is.
    pub(crate) digest: u128,
    /// Of the body as it was sent.
    pub(crate) announced: Option<u128>,
}

/// Takes a message in pieces of any cut and finds out which one it is.
#[derive(Default)]
pub(crate) struct Reader {
    header: Vec<u8>,
    in_body: bool,
    body: Xxh3,
}

impl Reader {
    pub(crate) fn begin(&mut self) {
        self.header.clear();
        self.in_body = false;
        self.body.reset();
    }

    pub(crate) fn take(&mut self, piece: &[u8]) {
        if self.in_body {
            self.body.update(piece);
            return;
        }
        let searched = self.header.len().saturating_sub(3);
        self.header.extend_from_slice(piece);
        if let Some(at) = memchr::memmem::find(&self.header[searched..], b"\r\n\r\n") {
            let end = searched + at + 4;
            self.body.update(&self.header[end..]);
            self.header.truncate(end);
            self.in_body = true;
        } else if self.header.len() > HEADER_OCTETS_MAX {
            self.in_body = true;
        }
    }

    pub(crate) fn end(&self) -> Read {
        Read {
            run: self.field(RUN_FIELD).and_then(|text| u64::from_str_radix(text, 16).ok()),
            seq: self.field(SEQ_FIELD).and_then(|text| text.parse().ok()),
            digest: self.body.digest128(),
            announced: self
                .field(DIGEST_FIELD)
                .and_then(|text| u128::from_str_radix(text, 16).ok()),
        }
    }

    fn field(&self, name: &[u8]) -> Option<&str> {
        let line = self.header.split(|octet| *octet == b'\n').find(|line| {
            line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
        })?;
        std::str::from_utf8(&line[name.len()..]).ok().map(str::trim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mails::Pool;

    #[test]
    fn a_message_is_known_again_whatever_the_cut_and_the_fields_above() {
        let mail = &Pool::made_up(2_000, "from@example.test", 3).unwrap().mails[0];
        arbtest::arbtest(|u| {
            let (run, seq) = (u.arbitrary()?, u.int_in_range(0..=1 << 32)?);
            let digest = digest(mail, run, seq, &mut Vec::new());
            let mut message = b"Return-Path: <>\r\nReceived: from x\r\n\tby y\r\n".to_vec();
            write_head(&mut message, b"a@b.test", run, seq, digest);
            message.extend_from_slice(mail.body());
            let cut = u.int_in_range(1..=message.len())?;
            let mut reader = Reader::default();
            reader.take(b"something before");
            reader.begin();
            message.chunks(cut).for_each(|piece| reader.take(piece));
            let announced = Some(digest);
            assert_eq!(reader.end(), Read { run: Some(run), seq: Some(seq), digest, announced });
            Ok(())
        });
    }

    #[test]
    fn other_mail_is_none_of_ours() {
        let mut reader = Reader::default();
        reader.take(b"Subject: hello\r\n\r\nX-Loadgen-Run: 1\r\n");
        let read = reader.end();
        assert_eq!((read.run, read.seq), (None, None));
    }
}
