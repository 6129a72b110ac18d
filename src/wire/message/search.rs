//! One text looked for in others that come in pieces (RFC 9051 §6.4.4).
//!
//! Both are folded by [`super::casemap`]; then octets are compared. What is ASCII is folded in
//! bulk and searched at the speed of memory.

use super::casemap::{fold, fold_octets};
use super::lexer::put_unfolded;
use super::mime::{Kind, Part};
use super::text::TextReader;
use super::words::put_decoded;
use memchr::memmem::Finder;

/// What is looked for. Made once for a whole SEARCH.
#[derive(Clone, Debug)]
pub struct Needle {
    finder: Finder<'static>,
}

impl Needle {
    /// A text of the client, in UTF-8. An empty one is in every text (RFC 9051 §6.4.4).
    pub fn new(text: &str) -> Needle {
        let mut folded = Vec::new();
        fold(text, &mut folded);
        Needle { finder: Finder::new(&folded).into_owned() }
    }

    fn folded(&self) -> &[u8] {
        self.finder.needle()
    }

    /// Whether `text` has it.
    pub fn is_in(&self, text: &str) -> bool {
        let mut search = Search::new(self);
        search.feed(text);
        search.found()
    }
}

/// A search through one text under way. Memory: the largest piece and the needle.
#[derive(Clone, Debug)]
pub struct Search<'n> {
    needle: &'n Needle,
    /// Folded: the end of what was seen, where the needle may begin, then the piece at hand.
    window: Vec<u8>,
    found: bool,
}

impl<'n> Search<'n> {
    pub fn new(needle: &'n Needle) -> Search<'n> {
        Search { needle, window: Vec::new(), found: needle.folded().is_empty() }
    }

    /// Whether it was in what was fed so far.
    pub fn found(&self) -> bool {
        self.found
    }

    /// Begins with another text; the room stays.
    pub fn restart(&mut self) {
        self.window.clear();
        self.found = self.needle.folded().is_empty();
    }

    /// Looks at the next piece of the text.
    pub fn feed(&mut self, piece: &str) {
        self.feed_octets(piece.as_bytes());
    }

    /// The same for octets that may be no UTF-8; a letter must not be cut.
    pub fn feed_octets(&mut self, piece: &[u8]) {
        if self.found {
            return;
        }
        fold_octets(piece, &mut self.window);
        if self.needle.finder.find(&self.window).is_some() {
            self.found = true;
            return;
        }
        // What is left may be the begin of it.
        let kept = (self.needle.folded().len() - 1).min(self.window.len());
        self.window.drain(..self.window.len() - kept);
    }
}

/// Octets of a body that are worked on at once.
pub const PIECE_OCTETS: usize = 32 << 10;

/// A message of which parts are looked through one after the other; the room stays.
pub struct MessageSearch<'n> {
    search: Search<'n>,
    text: String,
    octets: Vec<u8>,
}

impl<'n> MessageSearch<'n> {
    pub fn new(needle: &'n Needle) -> MessageSearch<'n> {
        MessageSearch { search: Search::new(needle), text: String::new(), octets: Vec::new() }
    }

    /// `SEARCH BODY`: the texts of all parts, decoded; no header of any (RFC 9051 §6.4.4).
    pub fn in_body(&mut self, message: &[u8], parts: &[Part]) -> bool {
        self.hunt(message, parts, false).end()
    }

    /// `SEARCH TEXT`: the headers of the message and of all parts, and their texts.
    pub fn in_message(&mut self, message: &[u8], parts: &[Part]) -> bool {
        self.hunt(message, parts, true).end()
    }

    /// The same piece by piece; with `headers`, in those of all parts too.
    pub fn hunt<'s, 'm>(
        &'s mut self,
        message: &'m [u8],
        parts: &'m [Part],
        headers: bool,
    ) -> Hunt<'s, 'n, 'm> {
        Hunt { search: self, message, parts, headers, part: 0, text: None }
    }

    /// A whole header, folds undone, encoded words read; field names are searched too.
    pub fn in_header(&mut self, header: &[u8]) -> bool {
        self.search.restart();
        self.text.clear();
        if !header.is_ascii() || memchr::memmem::find(header, b"=?").is_some() {
            for line in unfolded_lines(header) {
                put_decoded(line, &mut self.text);
                self.text.push('\n');
            }
            spaces_for_tabs(&mut self.text);
            self.search.feed(&self.text);
        } else if memchr::memmem::find(header, b"\n ").is_none()
            && memchr::memmem::find(header, b"\n\t").is_none()
        {
            self.search.feed_octets(header);
        } else {
            self.octets.clear();
            for line in unfolded_lines(header) {
                put_unfolded(line, &mut self.octets);
                self.octets.push(b'\n');
            }
            for octet in self.octets.iter_mut().filter(|octet| **octet == b'\t') {
                *octet = b' ';
            }
            self.search.feed_octets(&self.octets);
        }
        self.search.found()
    }

    /// The value of one field.
    pub fn in_value(&mut self, value: &[u8]) -> bool {
        self.search.restart();
        self.text.clear();
        put_decoded(value, &mut self.text);
        spaces_for_tabs(&mut self.text);
        self.search.feed(&self.text);
        self.search.found()
    }
}

/// A line that was folded at a TAB reads as one that was folded at a space, as it is shown.
fn spaces_for_tabs(text: &mut String) {
    if memchr::memchr(b'\t', text.as_bytes()).is_some() {
        *text = text.replace('\t', " ");
    }
}

/// A look through one message under way.
pub struct Hunt<'s, 'n, 'm> {
    search: &'s mut MessageSearch<'n>,
    message: &'m [u8],
    parts: &'m [Part],
    headers: bool,
    /// The part that comes next.
    part: usize,
    /// The text of that part, its encodings undone, and how much of its body was read.
    text: Option<(TextReader, usize)>,
}

impl Hunt<'_, '_, '_> {
    /// Looks at one header or at [`PIECE_OCTETS`] of a text; `None` if there may be more.
    pub fn step(&mut self) -> Option<bool> {
        let Some(part) = self.parts.get(self.part) else { return Some(false) };
        let Some((reader, read)) = &mut self.text else {
            let header = &self.message[part.header()];
            if self.headers && self.search.in_header(header) {
                return Some(true);
            }
            if matches!(part.kind, Kind::Text | Kind::Status) {
                self.search.search.restart();
                self.text = Some((TextReader::new(self.message, part), 0));
            } else {
                self.part += 1;
            }
            return None;
        };
        let body = &self.message[part.body()];
        let end = (*read + PIECE_OCTETS).min(body.len());
        if let Some(piece) = body.get(*read..end).filter(|piece| !piece.is_empty()) {
            let search = &mut self.search.search;
            reader.feed(piece, end == body.len(), &mut |text| search.feed(text));
        }
        *read = end;
        if self.search.search.found() {
            return Some(true);
        }
        if end == body.len() {
            (self.text, self.part) = (None, self.part + 1);
        }
        None
    }

    fn end(mut self) -> bool {
        loop {
            if let Some(found) = self.step() {
                return found;
            }
        }
    }
}

/// The lines of a header, each with the folded ones behind it.
fn unfolded_lines(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = header;
    std::iter::from_fn(move || {
        let ends = memchr::memchr_iter(b'\n', rest).map(|lf| lf + 1);
        let mut ends = ends.filter(|&end| !matches!(rest.get(end), Some(b' ' | b'\t')));
        let (line, more) = rest.split_at(ends.next().unwrap_or(rest.len()));
        rest = more;
        Some(line).filter(|line| !line.is_empty())
    })
}

/// Law: a search over pieces finds what a search over the whole finds.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_search(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (needle, text) = text.split_once('\n').unwrap_or(("", &text));
    let needle = Needle::new(needle);
    let mut folded = Vec::new();
    fold(text, &mut folded);
    let want = memchr::memmem::find(&folded, needle.folded()).is_some();
    assert_eq!(needle.is_in(text), want);
    let mut search = Search::new(&needle);
    for letter in text.chars() {
        search.feed(letter.encode_utf8(&mut [0; 4]));
    }
    assert_eq!(search.found(), want);
}

#[cfg(test)]
mod tests {
    use super::super::mime::Tree;
    use super::*;

    #[test]
    fn finds_over_all_cuts() {
        for text in ["aB\nxxAbxx", "é\nE\u{301}", "ab\naab", "\nx", "ß\nSS", "abc\nab"] {
            fuzz_search(text.as_bytes());
        }
        arbtest::arbtest(|u| {
            let len = u.int_in_range(0..=14)?;
            let text: String = (0..len)
                .map(|_| u.choose(&['a', 'B', 'é', 'ﬁ', '\n', 'f']).copied())
                .collect::<Result<_, _>>()?;
            fuzz_search(text.as_bytes());
            Ok(())
        });
    }

    #[track_caller]
    fn check(needle: &str, message: &str, in_body: bool, in_message: bool) {
        let needle = Needle::new(needle);
        let message = message.as_bytes();
        let parts = Tree::of(message).parts;
        let mut search = MessageSearch::new(&needle);
        assert_eq!(search.in_body(message, &parts), in_body);
        assert_eq!(search.in_message(message, &parts), in_message);
    }

    /// However large a message is, one step looks at one piece of it.
    #[test]
    fn looks_through_a_large_message_step_by_step() {
        let line = "c29tZSB0ZXh0IHRoYXQgZ29lcyBvbiBhbmQgb24gYW5kIG9uIGZvciBhIHdoaWxlLiAK\n";
        let head = "Subject: x\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\n";
        let message = format!("{head}{}ZW5kCg==\n", line.repeat(20_000));
        let parts = Tree::of(message.as_bytes()).parts;
        for (text, is_there) in [("end", true), ("none", false)] {
            let needle = Needle::new(text);
            let mut search = MessageSearch::new(&needle);
            let mut hunt = search.hunt(message.as_bytes(), &parts, true);
            let mut steps = 1;
            let found = loop {
                if let Some(found) = hunt.step() {
                    break found;
                }
                steps += 1;
            };
            assert_eq!(found, is_there);
            let pieces = message.len() / PIECE_OCTETS;
            assert!((pieces..pieces + 4).contains(&steps), "{steps} steps, {pieces} pieces");
        }
    }

    #[test]
    fn looks_into_encoded_parts_and_headers() {
        let message = "\
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= from
 afar
Content-Type: multipart/mixed; boundary=b

preamble
--b
Content-Type: text/html; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable
X-Note: inner

<p>G=FC=
te <b>wo</b>rd</p>
--b
Content-Type: application/octet-stream

hidden
--b
Content-Type: text/plain
Content-Transfer-Encoding: base64

U2Vj
cmV0
--b--
";
        check("GRÜSSE", message, false, false);
        check("grüße FROM afar", message, false, true);
        check("güte word", message, true, true);
        check("secret", message, true, true);
        check("note: inner", message, false, true);
        check("hidden", message, false, false);
        check("preamble", message, false, false);
        check("", message, true, true);
        check("plain", "Subject: x\n\nsome Plain text", true, true);
    }
}
