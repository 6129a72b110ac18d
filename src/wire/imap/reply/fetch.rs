//! FETCH: one line for a message, item by item (RFC 9051 §7.5.2).

use super::put_list;
use super::string::{put_astring, put_literal, put_literal8, put_nstring};
use crate::bytes::chain::Chain;
use crate::wire::imap::command::fetch::{Content, Part, Section};
use crate::wire::imap::date::put_date_time;
use crate::wire::pop3::put_number;

/// The answer about one message, open until [`FetchLine::end`]. Without an item there is none.
#[derive(Debug)]
pub struct FetchLine<'o> {
    out: &'o mut Chain,
    open: Open,
}

/// How far a line is that goes on later.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    number: u32,
    first: bool,
}

impl<'o> FetchLine<'o> {
    /// About the message of this number.
    pub fn new(out: &'o mut Chain, number: u32) -> FetchLine<'o> {
        FetchLine { out, open: Open { number, first: true } }
    }

    /// Lets go of the chain, so that what was written can be sent.
    pub fn pause(self) -> Open {
        self.open
    }

    /// Goes on where [`FetchLine::pause`] left off.
    pub fn resume(out: &'o mut Chain, open: Open) -> FetchLine<'o> {
        FetchLine { out, open }
    }

    /// The name of an item and a space. Its value must follow, written to what is returned: a
    /// literal's octets, an envelope.
    pub fn item(&mut self, name: &str) -> &mut Chain {
        self.name(name);
        self.out.put(b" ");
        self.out
    }

    fn name(&mut self, name: &str) {
        if self.open.first {
            self.open.first = false;
            self.out.put(b"* ");
            put_number(self.out, u64::from(self.open.number));
            self.out.put(b" FETCH (");
        } else {
            self.out.put(b" ");
        }
        self.out.put(name.as_bytes());
    }

    pub fn uid(&mut self, uid: u32) {
        put_number(self.item("UID"), u64::from(uid));
    }

    pub fn flags<'w>(&mut self, flags: impl IntoIterator<Item = &'w str>) {
        put_list(self.item("FLAGS"), flags);
    }

    /// RFC 7162 §3.1.4.2.
    pub fn mod_seq(&mut self, mod_seq: u64) {
        self.in_parentheses("MODSEQ", |out| put_number(out, mod_seq));
    }

    pub fn size(&mut self, octets: u64) {
        put_number(self.item("RFC822.SIZE"), octets);
    }

    /// Seconds since 1970.
    pub fn internal_date(&mut self, seconds: u32) {
        put_date_time(self.item("INTERNALDATE"), seconds);
    }

    /// Seconds since 1970; none where the mailbox does not keep it (RFC 8514 §4.2).
    pub fn save_date(&mut self, seconds: Option<u32>) {
        let out = self.item("SAVEDATE");
        match seconds {
            Some(seconds) => put_date_time(out, seconds),
            None => out.put(b"NIL"),
        }
    }

    /// RFC 8474 §5.1.
    pub fn email_id(&mut self, id: &str) {
        self.in_parentheses("EMAILID", |out| out.put(id.as_bytes()));
    }

    /// RFC 8474 §5.2; none where threads are not known.
    pub fn thread_id(&mut self, id: Option<&str>) {
        match id {
            Some(id) => self.in_parentheses("THREADID", |out| out.put(id.as_bytes())),
            None => self.item("THREADID").put(b"NIL"),
        }
    }

    /// None: not known, and the client did not want to wait (RFC 8970 §3.1). UTF-8 in it makes it
    /// a literal until the client enabled UTF-8.
    pub fn preview(&mut self, text: Option<&str>, utf8: bool) {
        put_nstring(self.item("PREVIEW"), text.map(str::as_bytes), utf8);
    }

    /// `BODY[section]<first> `, as it was asked for. A literal or NIL must follow, written to what
    /// is returned; `first` if a part of the section was asked for.
    pub fn section(&mut self, section: &Section<'_>, first: Option<u64>) -> &mut Chain {
        self.name("BODY[");
        put_section(self.out, section);
        self.origin(first)
    }

    /// `BINARY[part]<first> `; a literal or NIL must follow (RFC 3516 §4.2).
    pub fn binary(&mut self, part: Part<'_>, first: Option<u64>) -> &mut Chain {
        self.name("BINARY[");
        self.out.put(part.text().as_bytes());
        self.origin(first)
    }

    pub fn binary_size(&mut self, part: Part<'_>, octets: u64) {
        self.name("BINARY.SIZE[");
        self.out.put(part.text().as_bytes());
        self.out.put(b"] ");
        put_number(self.out, octets);
    }

    /// Announces a literal; its octets must follow, written to what is returned.
    pub fn literal(&mut self, octets: u64) -> &mut Chain {
        put_literal(self.out, octets);
        self.out
    }

    /// The same for octets that hold NUL.
    pub fn literal8(&mut self, octets: u64) -> &mut Chain {
        put_literal8(self.out, octets);
        self.out
    }

    /// `)` and the line end.
    pub fn end(self) {
        if !self.open.first {
            self.out.put(b")\r\n");
        }
    }

    fn in_parentheses(&mut self, name: &str, value: impl FnOnce(&mut Chain)) {
        let out = self.item(name);
        out.put(b"(");
        value(out);
        out.put(b")");
    }

    fn origin(&mut self, first: Option<u64>) -> &mut Chain {
        self.out.put(b"]");
        if let Some(first) = first {
            self.out.put(b"<");
            put_number(self.out, first);
            self.out.put(b">");
        }
        self.out.put(b" ");
        self.out
    }
}

/// A section without its brackets.
pub fn put_section(out: &mut Chain, section: &Section<'_>) {
    out.put(section.part.text().as_bytes());
    if !section.part.is_whole() && section.content != Content::All {
        out.put(b".");
    }
    match &section.content {
        Content::All => {}
        Content::Header => out.put(b"HEADER"),
        Content::Text => out.put(b"TEXT"),
        Content::Mime => out.put(b"MIME"),
        Content::HeaderFields { not, names } => {
            out.put(if *not { b"HEADER.FIELDS.NOT (" } else { b"HEADER.FIELDS (" });
            for (index, name) in names.iter().enumerate() {
                if index > 0 {
                    out.put(b" ");
                }
                put_astring(out, &name.octets(), false);
            }
            out.put(b")");
        }
    }
}
