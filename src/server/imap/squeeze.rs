//! COMPRESS=DEFLATE (RFC 4978): what goes both ways is deflated, without a header of zlib's.
//!
//! ```text
//!   socket ─> raw ─> inflate ─> buffer of the session
//!   chain of the session ─> deflate, piece by piece, flushed at the end of a write ─> socket
//! ```
//!
//! What is inflated goes into the session's buffer, which is bounded; the rest waits deflated.

use super::{Done, Driver, Outcome};
use crate::bytes::buffer::Buffer;
use crate::bytes::chain::Chain;
use crate::env::{Conn, Env};
use crate::model::time::Mono;
use crate::tls::Stream;
use crate::wire::imap::reply::status::{Kind, Status as Reply, Word};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::io;

/// Octets of a reply that are deflated before they are sent.
const PIECE_OCTETS: usize = 64 << 10;

/// What both directions hold, about: windows of 32 KiB, chains of hashes and what waits for a block
/// to become whole.
pub(super) const SQUEEZE_OCTETS: usize = 384 << 10;

/// Both directions of one connection.
pub(super) struct Squeeze {
    inflate: Decompress,
    deflate: Compress,
    /// Received and not inflated yet.
    pub(super) raw: Buffer,
    /// Inflating may give more without another octet.
    pending: bool,
}

impl<E: Env> Driver<E> {
    /// COMPRESS: the answer is the last that is sent as it is.
    pub(super) async fn compress(
        &mut self,
        conn: &mut Stream<E>,
        tag: &str,
        deflate: bool,
    ) -> Outcome {
        if !deflate {
            return Ok(Done::Bad("DEFLATE is the only mechanism"));
        }
        if self.squeeze.is_some() {
            return Ok(Done::No(Some(Word::CompressionActive), "compression is on"));
        }
        // Commands can not do without room, and sessions can without this.
        if !self.lease.hold_more_of_half(SQUEEZE_OCTETS) {
            return Ok(Done::No(Some(Word::Limit), "no room for compression now"));
        }
        Reply::tagged(tag, Kind::Ok, "compression is on from here").put(&mut self.out);
        self.flush(conn).await?;
        self.squeeze = Some(Box::new(Squeeze::new()));
        Ok(Done::Said)
    }
}

/// What a flush ends with: an empty block, stored, which begins at an octet (RFC 1951 §3.2.4).
const MARK: [u8; 4] = [0, 0, 0xff, 0xff];
/// Octets of the shortest command.
const COMMAND_OCTETS_MIN: usize = 8;

/// Where plain text begins behind the last deflated line: behind [`MARK`], if that was not read with
/// the line, and what bits of its block are in front of it. `None` if more has to come to tell.
pub(super) fn seam(octets: &[u8]) -> Option<usize> {
    let front = &octets[..octets.len().min(COMMAND_OCTETS_MIN)];
    if let Some(at) = front.windows(MARK.len()).position(|four| four == MARK) {
        return Some(at + MARK.len());
    }
    // The last octets of a mark of which the rest was read.
    let rest = (1..MARK.len()).rev().find(|&len| octets.starts_with(&MARK[MARK.len() - len..]));
    (octets.len() >= COMMAND_OCTETS_MIN).then(|| rest.unwrap_or(0))
}

impl Squeeze {
    fn new() -> Squeeze {
        Squeeze {
            inflate: Decompress::new(false),
            deflate: Compress::new(Compression::fast(), false),
            raw: Buffer::new(),
            pending: true,
        }
    }

    /// As [`Conn::read`], but inflates into `buffer`, which is empty.
    pub(super) async fn read<C: Conn>(
        &mut self,
        conn: &mut C,
        buffer: &mut Buffer,
        deadline: Mono,
    ) -> io::Result<usize> {
        loop {
            let made = self.inflate(buffer)?;
            if made > 0 || conn.read(&mut self.raw, deadline).await? == 0 {
                return Ok(made);
            }
        }
    }

    /// Inflates as much as fits into `buffer`; 0 if more has to be received first.
    fn inflate(&mut self, buffer: &mut Buffer) -> io::Result<usize> {
        if (self.raw.is_empty() && !self.pending) || buffer.is_full() {
            return Ok(0);
        }
        let (inflate, raw) = (&mut self.inflate, &mut self.raw);
        let mut used = 0;
        let mut is_full = false;
        let made = buffer.fill(|room| {
            let (read, written) = (inflate.total_in(), inflate.total_out());
            let status = inflate
                .decompress(raw.filled(), room, FlushDecompress::None)
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            let count = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
            used = count(inflate.total_in(), read);
            let made = count(inflate.total_out(), written);
            is_full = made == room.len();
            match status {
                // The client ended the stream: nothing it says can follow.
                Status::StreamEnd if made == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ => Ok(made),
            }
        });
        raw.consume(used);
        self.pending = is_full;
        made
    }

    /// Deflates at most [`PIECE_OCTETS`] of `plain`. Empty only if `plain` is.
    pub(super) fn deflate(&mut self, plain: &mut Chain) -> io::Result<Chain> {
        let mut out = Vec::with_capacity(4 << 10);
        let mut left = PIECE_OCTETS;
        while left > 0 {
            let Some(slice) = plain.slices().next() else { break };
            let slice = slice.get(..left.min(slice.len())).unwrap_or(slice);
            let mut done = 0;
            while let Some(rest) = slice.get(done..).filter(|rest| !rest.is_empty()) {
                done += self.step(rest, &mut out, FlushCompress::None)?;
            }
            plain.consume(done);
            left -= done;
        }
        if plain.is_empty() {
            // The client must be able to read all of it now.
            loop {
                self.step(&[], &mut out, FlushCompress::Sync)?;
                // It filled the room: there may be more.
                if out.len() < out.capacity() {
                    break;
                }
            }
        }
        let mut chain = Chain::new();
        chain.put(&out);
        Ok(chain)
    }

    /// One call of the compressor with some room; says how much of `input` it took.
    fn step(&mut self, input: &[u8], out: &mut Vec<u8>, flush: FlushCompress) -> io::Result<usize> {
        out.reserve(1 << 10);
        let before = self.deflate.total_in();
        let status = self.deflate.compress_vec(input, out, flush);
        status.map_err(|error| io::Error::other(error.to_string()))?;
        Ok(usize::try_from(self.deflate.total_in() - before).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflated(inflate: &mut Decompress, octets: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 << 20);
        inflate.decompress_vec(octets, &mut out, FlushDecompress::Sync).unwrap();
        out
    }

    #[test]
    fn finds_where_plain_text_goes_on() {
        let plain = b"a LOGIN b c\r\n";
        for front in [&b""[..], &MARK, &MARK[1..], &MARK[3..], b"\x02\x00\x00\x00\xff\xff"] {
            let octets = [front, plain].concat();
            assert_eq!(seam(&octets), Some(front.len()), "{front:?}");
        }
        assert_eq!(seam(b"\x00\x00\xff"), None);
        assert_eq!(seam(b""), None);
    }

    #[test]
    fn what_is_sent_can_be_read_at_the_end_of_each_write() {
        let mut squeeze = Squeeze::new();
        let mut client = Decompress::new(false);
        for len in [0, 1, 100, 5_000, 200_000] {
            let text: Vec<u8> = (0..len).map(|at: u32| at.to_le_bytes()[0] ^ 0x5a).collect();
            let mut plain = Chain::new();
            plain.put(&text);
            let mut read = Vec::new();
            while !plain.is_empty() {
                let sent = squeeze.deflate(&mut plain).unwrap().to_vec();
                read.extend(inflated(&mut client, &sent));
            }
            assert!(read == text, "{len} octets");
        }
    }

    #[test]
    fn what_comes_is_inflated_into_a_bounded_buffer() {
        let mut client = Compress::new(Compression::best(), false);
        let text = vec![b'x'; 3 << 20];
        let mut sent = Vec::with_capacity(1 << 20);
        client.compress_vec(&text, &mut sent, FlushCompress::Sync).unwrap();
        assert!(sent.len() < 8 << 10, "a bomb of {} octets", sent.len());
        let mut squeeze = Squeeze::new();
        let mut buffer = Buffer::new();
        let (mut seen, mut rest) = (0, &sent[..]);
        loop {
            rest = &rest[squeeze.raw.push(rest)..];
            let made = squeeze.inflate(&mut buffer).unwrap();
            assert!(buffer.filled().iter().all(|&octet| octet == b'x'));
            seen += buffer.len();
            buffer.consume(buffer.len());
            if made == 0 && rest.is_empty() {
                break;
            }
        }
        assert_eq!(seen, text.len());
    }

    #[test]
    fn refuses_what_was_not_deflated() {
        let mut squeeze = Squeeze::new();
        squeeze.raw.push(b"a NOOP\r\n");
        assert!(squeeze.inflate(&mut Buffer::new()).is_err());
    }
}
