//! Takes responses off what a server sends, one by one, within bounds: literals beside the text, and
//! those that are too large dropped as they come.

use crate::wire::imap::answer::{Unsound, is_status, literal_at_end};
use std::io::{self, BufRead as _, BufReader, Read};

/// Octets of a response besides its literals.
const TEXT_OCTETS_MAX: usize = 1 << 20;
/// Literals of one response.
const LITERALS_MAX: usize = 256;
/// Octets that are asked for at once.
const BUFFER_OCTETS: usize = 64 << 10;
/// Octets of a literal that are made room for before any came.
const TRUSTED_OCTETS_MAX: u64 = 1 << 20;

/// What a literal was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Literal {
    Whole(Vec<u8>),
    /// It had so many octets, and nothing of it is kept.
    Dropped(u64),
}

impl Literal {
    /// The octets, if they were kept; they are gone from here then.
    pub(super) fn take(&mut self) -> Literal {
        std::mem::replace(self, Literal::Dropped(0))
    }
}

/// A response: its text, in which `{n}` CRLF stands for each literal, and these.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) text: Vec<u8>,
    pub(super) literals: Vec<Literal>,
}

/// See the header.
pub(super) struct Reader<S> {
    input: BufReader<S>,
    /// Octets of the literals of one response together.
    literals_max: u64,
}

impl<S: Read> Reader<S> {
    pub(super) fn new(stream: S, literals_max: u64) -> Reader<S> {
        Reader { input: BufReader::with_capacity(BUFFER_OCTETS, stream), literals_max }
    }

    /// The stream itself; nothing that came may be waiting to be read.
    pub(super) fn into_inner(self) -> io::Result<S> {
        if self.input.buffer().is_empty() {
            Ok(self.input.into_inner())
        } else {
            // RFC 9051 §11.1: what was said in clear behind STARTTLS is not to be believed.
            Err(io::Error::other("the server said something before TLS began"))
        }
    }

    pub(super) fn stream(&mut self) -> &mut S {
        self.input.get_mut()
    }

    /// The next response, as soon as it is whole.
    pub(super) fn next(&mut self) -> io::Result<Response> {
        let mut response = Response::default();
        let mut room = self.literals_max;
        loop {
            let from = response.text.len();
            self.line(&mut response.text)?;
            let line = response.text.get(from..).unwrap_or_default();
            let announced = literal_at_end(line).filter(|_| from > 0 || !is_status(line));
            let Some(octets) = announced else { return Ok(response) };
            if response.literals.len() == LITERALS_MAX {
                return Err(unsound(Unsound("a response has fewer literals")));
            }
            response.text.extend_from_slice(b"\r\n");
            let literal = self.literal(octets, room)?;
            if let Literal::Whole(whole) = &literal {
                room -= whole.len() as u64;
            }
            response.literals.push(literal);
        }
    }

    /// A line of any protocol, without its end.
    pub(super) fn line(&mut self, text: &mut Vec<u8>) -> io::Result<()> {
        let room = TEXT_OCTETS_MAX.saturating_sub(text.len());
        let limit = u64::try_from(room).unwrap_or(u64::MAX);
        (&mut self.input).take(limit).read_until(b'\n', text)?;
        if text.pop_if(|last| *last == b'\n').is_none() {
            return Err(if text.len() >= TEXT_OCTETS_MAX {
                unsound(Unsound("a response is not as long"))
            } else {
                gone()
            });
        }
        text.pop_if(|last| *last == b'\r');
        Ok(())
    }

    fn literal(&mut self, octets: u64, room: u64) -> io::Result<Literal> {
        let mut part = (&mut self.input).take(octets);
        if octets > room {
            let dropped = io::copy(&mut part, &mut io::sink())?;
            return if dropped == octets { Ok(Literal::Dropped(octets)) } else { Err(gone()) };
        }
        let trusted = octets.min(TRUSTED_OCTETS_MAX);
        let mut whole = Vec::with_capacity(usize::try_from(trusted).unwrap_or(0));
        part.read_to_end(&mut whole)?;
        if whole.len() as u64 == octets { Ok(Literal::Whole(whole)) } else { Err(gone()) }
    }
}

/// The server hung up.
fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")
}

/// What the server says makes no sense.
pub(super) fn unsound(Unsound(expected): Unsound) -> io::Error {
    let what = format!("the server's answer cannot be read: {expected}");
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(octets: &[u8], literals_max: u64) -> (Vec<Response>, io::Error) {
        let mut reader = Reader::new(octets, literals_max);
        let mut all = Vec::new();
        loop {
            match reader.next() {
                Ok(response) => all.push(response),
                Err(error) => return (all, error),
            }
        }
    }

    fn response(text: &str, literals: &[Literal]) -> Response {
        Response { text: text.into(), literals: literals.to_vec() }
    }

    #[test]
    fn literals_stand_beside_the_text_and_large_ones_are_dropped() {
        let said = b"* OK see {5}\r\n* 1 FETCH (A {3}\r\na\nb B {0}\r\n C {9}\r\n123456789 D {1}\r\nx)\r\n* 2 EXISTS\n";
        let (all, error) = read(said, 5);
        let whole = |text: &[u8]| Literal::Whole(text.into());
        let literals = [whole(b"a\nb"), whole(b""), Literal::Dropped(9), whole(b"x")];
        let want = [
            response("* OK see {5}", &[]),
            response("* 1 FETCH (A {3}\r\n B {0}\r\n C {9}\r\n D {1}\r\n)", &literals),
            response("* 2 EXISTS", &[]),
        ];
        assert_eq!(all, want);
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_connection_that_ends_within_a_response_is_told_of() {
        for cut in [&b"* 1 FET"[..], b"* 1 FETCH (A {3}\r\na", b"* 1 FETCH (A {900}\r\na"] {
            let (all, error) = read(cut, 5);
            assert_eq!((all.len(), error.kind()), (0, io::ErrorKind::UnexpectedEof));
        }
    }

    #[test]
    fn what_has_no_end_is_given_up() {
        let (_, error) = read(&vec![b'a'; TEXT_OCTETS_MAX + 5], 5);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let (_, error) = read(&b"* 1 FETCH (A {0}\r\n".repeat(LITERALS_MAX + 5), 5);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        // Much is announced: no room is made for it before it comes.
        let (_, error) = read(b"* 1 FETCH (A {9999999999999999}\r\n", u64::MAX);
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
