//! Reads the elements of IMAP's grammar off the front of a command (RFC 9051 §9).
//!
//! Whatever fails says in words what was wrong: the text of BAD.

use super::frame::Literal;
use super::set::{Bound, Set};
use crate::model::limits::IMAP_LIST_COUNT_MAX;
use memchr::{memchr, memchr2};
use std::borrow::Cow;
use std::fmt;

/// The largest number64 and mod-sequence (RFC 9051 §9, RFC 7162 §7).
const NUMBER64_MAX: u64 = (1 << 63) - 1;

/// What was wrong, for people.
pub type What = &'static str;

/// A string argument, borrowed from the command.
#[derive(Clone, Copy, Default)]
pub struct Text<'a> {
    raw: &'a [u8],
    /// `\` in it quotes the octet that follows.
    escaped: bool,
}

impl<'a> Text<'a> {
    /// A string that stands for itself.
    pub const fn plain(raw: &'a [u8]) -> Text<'a> {
        Text { raw, escaped: false }
    }

    /// The octets meant; copied only if some were quoted.
    pub fn octets(self) -> Cow<'a, [u8]> {
        if !self.escaped {
            return Cow::Borrowed(self.raw);
        }
        let mut octets = Vec::with_capacity(self.raw.len());
        let mut rest = self.raw;
        while let Some(at) = memchr(b'\\', rest) {
            octets.extend_from_slice(&rest[..at]);
            octets.extend(rest.get(at + 1));
            rest = rest.get(at + 2..).unwrap_or_default();
        }
        octets.extend_from_slice(rest);
        Cow::Owned(octets)
    }

    pub fn is_empty(self) -> bool {
        self.raw.is_empty()
    }

    /// Octets as they were sent; an upper bound of those meant.
    pub fn raw_len(self) -> usize {
        self.raw.len()
    }

    /// Equal but for the case of ASCII letters.
    pub fn is(self, word: &str) -> bool {
        self.octets().eq_ignore_ascii_case(word.as_bytes())
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Text<'_>) -> bool {
        self.octets() == other.octets()
    }
}

impl Eq for Text<'_> {}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "\"{}\"", self.octets().escape_ascii())
    }
}

/// A text that is shown to nobody: [`fmt::Debug`] leaves it out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret<'a>(pub Text<'a>);

impl fmt::Debug for Secret<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(_)")
    }
}

/// Which messages are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    Set(Set<'a>),
    /// `$`: what the last search saved (RFC 5182 §2.1).
    Saved,
}

/// ATOM-CHAR: printable ASCII without the specials.
pub(super) const fn is_atom_char(octet: u8) -> bool {
    KINDS[octet as usize] & ATOM != 0
}

/// ASTRING-CHAR, which a tag is made of too, but for `+`.
pub(super) const fn is_astring_char(octet: u8) -> bool {
    KINDS[octet as usize] & ASTRING != 0
}

/// What a pattern of LIST may hold without quotes.
const fn is_list_char(octet: u8) -> bool {
    KINDS[octet as usize] & LIST != 0
}

const ATOM: u8 = 1;
const ASTRING: u8 = 2;
const LIST: u8 = 4;

/// Which runs each octet may stand in.
const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut octet = b'!';
    while octet < 0x7F {
        kinds[octet as usize] = match octet {
            b'(' | b')' | b'{' | b'"' | b'\\' => 0,
            b'%' | b'*' => LIST,
            b']' => LIST | ASTRING,
            _ => LIST | ASTRING | ATOM,
        };
        octet += 1;
    }
    kinds
};

/// The command, and how far it was read.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    rest: &'a [u8],
    /// Quoted strings may hold UTF-8 (RFC 9051 §4.3, RFC 6855 §3).
    utf8: bool,
}

impl<'a> Scan<'a> {
    pub const fn new(text: &'a [u8], utf8: bool) -> Scan<'a> {
        Scan { rest: text, utf8 }
    }

    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The same place, with UTF-8 in quoted strings.
    #[must_use]
    pub const fn with_utf8(self) -> Scan<'a> {
        Scan { rest: self.rest, utf8: true }
    }

    /// Takes `octet` if it is next.
    pub fn take(&mut self, octet: u8) -> bool {
        let rest = self.rest.split_first().filter(|(first, _)| **first == octet);
        self.rest = rest.map_or(self.rest, |(_, rest)| rest);
        rest.is_some()
    }

    /// Takes `word` in any case if it is next, whatever follows it.
    pub fn take_word(&mut self, word: &str) -> bool {
        match self.rest.split_at_checked(word.len()) {
            Some((front, rest)) if front.eq_ignore_ascii_case(word.as_bytes()) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    pub fn expect(&mut self, octet: u8, what: What) -> Result<(), What> {
        if self.take(octet) { Ok(()) } else { Err(what) }
    }

    /// One space.
    pub fn space(&mut self) -> Result<(), What> {
        self.expect(b' ', if self.rest.is_empty() { "missing argument" } else { "missing space" })
    }

    /// Takes a space if more than spaces follow: clients leave some at the end.
    pub fn more(&mut self) -> bool {
        self.rest.iter().any(|&octet| octet != b' ') && self.take(b' ')
    }

    /// Nothing but spaces may be left.
    pub fn end(&mut self) -> Result<(), What> {
        if self.rest.iter().all(|&octet| octet == b' ') {
            Ok(())
        } else {
            Err("unexpected text at the end of the command")
        }
    }

    /// Takes octets while they are of a kind; at least one.
    fn octets(&mut self, kind: impl Fn(u8) -> bool, what: What) -> Result<&'a [u8], What> {
        let len = self.rest.iter().position(|&octet| !kind(octet)).unwrap_or(self.rest.len());
        let (octets, rest) = self.rest.split_at(len);
        self.rest = rest;
        if len > 0 { Ok(octets) } else { Err(what) }
    }

    /// The same where the kind is ASCII only.
    pub fn run(&mut self, kind: impl Fn(u8) -> bool, what: What) -> Result<&'a str, What> {
        std::str::from_utf8(self.octets(kind, what)?).map_err(|_| what)
    }

    pub fn atom(&mut self) -> Result<&'a str, What> {
        self.run(is_atom_char, "an atom was expected")
    }

    /// A name of the protocol: an atom up to `[` or `<`, which may follow it.
    pub fn name(&mut self) -> Result<&'a str, What> {
        self.run(
            |octet| is_atom_char(octet) && !matches!(octet, b'[' | b'<'),
            "a name was expected",
        )
    }

    pub fn astring(&mut self) -> Result<Text<'a>, What> {
        match self.peek() {
            Some(b'"' | b'{' | b'~') if !self.is_tilde_atom() => self.string(),
            _ => self.octets(is_astring_char, "a string was expected").map(Text::plain),
        }
    }

    /// `~` begins a literal8, or an atom.
    fn is_tilde_atom(&self) -> bool {
        matches!(self.rest, [b'~', next, ..] if *next != b'{') || self.rest == b"~"
    }

    /// A pattern of LIST: wildcards may stand in it without quotes.
    pub fn list_mailbox(&mut self) -> Result<Text<'a>, What> {
        match self.peek() {
            Some(b'"' | b'{') => self.string(),
            _ => self.octets(is_list_char, "a pattern was expected").map(Text::plain),
        }
    }

    pub fn string(&mut self) -> Result<Text<'a>, What> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{') => self.literal(),
            Some(b'~') => Err("a binary literal can not stand here"),
            _ => Err("a string was expected"),
        }
    }

    /// A string, or NIL for none.
    pub fn nstring(&mut self) -> Result<Option<Text<'a>>, What> {
        if matches!(self.peek(), Some(b'"' | b'{')) {
            return self.string().map(Some);
        }
        if self.take_word("NIL") { Ok(None) } else { Err("a string or NIL was expected") }
    }

    fn quoted(&mut self) -> Result<Text<'a>, What> {
        const OPEN: What = "a quoted string has no end";
        let body = self.rest.get(1..).ok_or(OPEN)?;
        let (mut at, mut escaped) = (0, false);
        loop {
            at += memchr2(b'"', b'\\', &body[at..]).ok_or(OPEN)?;
            if body[at] == b'"' {
                break;
            }
            if !matches!(body.get(at + 1), Some(b'"' | b'\\')) {
                return Err("only \\\" and \\\\ are quoted in a string");
            }
            escaped = true;
            at += 2;
        }
        let raw = &body[..at];
        if raw.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0)) {
            return Err("CR, LF and NUL can not stand in a quoted string");
        }
        let good = raw.is_ascii() || self.utf8 && std::str::from_utf8(raw).is_ok();
        if !good {
            return Err(if self.utf8 { "not UTF-8" } else { "8-bit octets in a quoted string" });
        }
        self.rest = &body[at + 1..];
        Ok(Text { raw, escaped })
    }

    fn literal(&mut self) -> Result<Text<'a>, What> {
        const BAD: What = "a literal is not announced as {n} or {n+}";
        let line = memchr(b'\n', self.rest).ok_or(BAD)?;
        let (announced, rest) = self.rest.split_at(line + 1);
        let announced = announced.strip_suffix(b"\r\n").ok_or(BAD)?;
        let literal = Literal::at_end(announced).ok_or(BAD)?;
        if memchr::memrchr(b'{', announced) != Some(0) {
            return Err(BAD);
        }
        let octets = usize::try_from(literal.octets).map_err(|_| BAD)?;
        let (raw, rest) = rest.split_at_checked(octets).ok_or("a literal is not whole")?;
        if memchr(0, raw).is_some() {
            return Err("NUL can stand in a binary literal only");
        }
        self.rest = rest;
        Ok(Text::plain(raw))
    }

    /// Up to 2^32-1.
    pub fn number(&mut self) -> Result<u32, What> {
        u32::try_from(self.number64()?).map_err(|_| "a number is too large")
    }

    /// From 1 to 2^32-1.
    pub fn nz_number(&mut self) -> Result<u32, What> {
        let number = self.number()?;
        if number == 0 { Err("a number must not be 0") } else { Ok(number) }
    }

    /// Up to 2^63-1.
    pub fn number64(&mut self) -> Result<u64, What> {
        let digits = self.run(|octet| octet.is_ascii_digit(), "a number was expected")?;
        let number = digits.bytes().try_fold(0_u64, |value, digit| {
            let value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
            (value <= NUMBER64_MAX).then_some(value)
        });
        number.ok_or("a number is too large")
    }

    /// A message number, or `*`.
    pub fn bound(&mut self) -> Result<Bound, What> {
        if self.take(b'*') { Ok(Bound::Star) } else { self.nz_number().map(Bound::Number) }
    }

    pub fn set(&mut self) -> Result<Set<'a>, What> {
        let (text, rest) = Set::split(self.rest);
        let set = Set::parse(text).ok_or("not a set of message numbers")?;
        self.rest = rest;
        Ok(set)
    }

    /// A set, or `$`.
    pub fn which(&mut self) -> Result<Which<'a>, What> {
        if !self.take(b'$') {
            return self.set().map(Which::Set);
        }
        match self.peek() {
            Some(b',' | b':') => Err("$ can not be part of a set"),
            _ => Ok(Which::Saved),
        }
    }

    /// Elements in parentheses, parted by spaces; may be none.
    pub fn list<T>(
        &mut self,
        mut element: impl FnMut(&mut Scan<'a>) -> Result<T, What>,
    ) -> Result<Vec<T>, What> {
        self.expect(b'(', "a list in parentheses was expected")?;
        let mut list = Vec::new();
        loop {
            // A space before the closing parenthesis hurts nobody.
            while matches!(self.rest, [b' ', b')' | b' ', ..]) {
                self.take(b' ');
            }
            if self.take(b')') {
                return Ok(list);
            }
            if !list.is_empty() {
                self.space()?;
            }
            if list.len() == IMAP_LIST_COUNT_MAX {
                return Err("a list is too long");
            }
            list.push(element(self)?);
        }
    }

    /// Elements in parentheses; at least one.
    pub fn list_some<T>(
        &mut self,
        element: impl FnMut(&mut Scan<'a>) -> Result<T, What>,
    ) -> Result<Vec<T>, What> {
        let list = self.list(element)?;
        if list.is_empty() { Err("a list is empty") } else { Ok(list) }
    }
}
