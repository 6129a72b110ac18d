//! Address lists of a header as IMAP's address structures (RFC 5322 §3.4, RFC 9051 §7.5.2).
//!
//! ```text
//! address := "(" name SP route SP mailbox SP host ")"
//! group   := (NIL NIL name NIL) address… (NIL NIL NIL NIL)
//! ```
//!
//! Everything is taken, and each octet looked at once. What has no `@` has the host
//! `MISSING_DOMAIN`, since NIL there would begin a group, and what is more than one atom then is a
//! name, as Dovecot has it; a comment behind an address is its name; words before an address without
//! brackets are its name. Semicolons part addresses too.

use super::envelope::put_spaced;
use super::lexer::{Lexer, trim};
use super::nstring::{Open, put_nil, put_string};

const MISSING_MAILBOX: &[u8] = b"MISSING_MAILBOX";
const MISSING_DOMAIN: &[u8] = b"MISSING_DOMAIN";

/// Room for the words of one address, kept from list to list.
#[derive(Default)]
pub(super) struct Scratch {
    words: Words,
    host: Vec<u8>,
}

/// Words of a phrase or a local part, put together.
#[derive(Default)]
struct Words {
    text: Vec<u8>,
    /// Where the last run of words begins that dots hold together.
    last_run: usize,
    /// One of them at least was quoted.
    is_quoted: bool,
}

impl Words {
    fn clear(&mut self) {
        self.text.clear();
        self.last_run = 0;
        self.is_quoted = false;
    }

    /// Makes room for a word that begins with `first`; `spaced` if space came before it.
    fn begin(&mut self, first: u8, spaced: bool) {
        if spaced && !self.text.is_empty() {
            let is_joined = first == b'.' || self.text.ends_with(b".");
            self.text.push(b' ');
            if !is_joined {
                self.last_run = self.text.len();
            }
        }
    }
}

/// Appends the list of the addresses in `value`; false, and nothing, if there are none.
pub(super) fn put_addresses(value: &[u8], scratch: &mut Scratch, out: &mut Vec<u8>) -> bool {
    let mut list = List { lexer: Lexer::new(value), scratch, start: out.len(), in_group: false };
    while list.put_next(out) {}
    if out.len() == list.start {
        return false;
    }
    if list.in_group {
        out.extend_from_slice(GROUP_END);
    }
    out.push(b')');
    true
}

const GROUP_END: &[u8] = b"(NIL NIL NIL NIL)";

struct List<'a, 's> {
    lexer: Lexer<'a>,
    scratch: &'s mut Scratch,
    /// Of the list, in the output.
    start: usize,
    in_group: bool,
}

impl<'a> List<'a, '_> {
    /// Appends what stands before the next comma; false at the end of the field.
    fn put_next(&mut self, out: &mut Vec<u8>) -> bool {
        self.scratch.words.clear();
        let comment = self.read_words(b",;:<@");
        match self.lexer.peek() {
            Some(b':') => {
                self.lexer.skip();
                self.put_group(out);
                return true;
            }
            Some(b'<') => self.put_angle(out),
            Some(b'@') => self.put_spec(out),
            _ if !self.scratch.words.text.is_empty() => self.put_bare(comment, out),
            _ => {}
        }
        self.skip_to_next(out)
    }

    /// Reads words into the scratch, up to one of `ends`; returns the last comment.
    fn read_words(&mut self, ends: &[u8]) -> Option<&'a [u8]> {
        let words = &mut self.scratch.words;
        let mut comment = None;
        loop {
            let before = self.lexer.rest().len();
            comment = self.lexer.skip_space().or(comment);
            let spaced = self.lexer.rest().len() < before;
            let Some(first) = self.lexer.peek() else { return comment };
            if first == b'"' {
                words.begin(first, spaced);
                words.is_quoted = true;
                self.lexer.quoted(&mut words.text);
                continue;
            }
            let is_end = ends.contains(&first) && !(first == b':' && self.in_group);
            if is_end {
                return comment;
            }
            words.begin(first, spaced);
            words.text.push(first);
            self.lexer.skip();
            let run = self.lexer.run(|octet| !is_special(octet));
            words.text.extend_from_slice(run);
        }
    }

    fn begin(&self, out: &mut Vec<u8>) {
        if out.len() == self.start {
            out.push(b'(');
        }
    }

    fn put_group(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        out.extend_from_slice(b"(NIL NIL ");
        put_string(&self.scratch.words.text, out);
        out.extend_from_slice(b" NIL)");
        self.in_group = true;
    }

    /// Words without an address.
    fn put_bare(&self, comment: Option<&[u8]>, out: &mut Vec<u8>) {
        let Words { text, is_quoted, .. } = &self.scratch.words;
        let is_name = *is_quoted || text.contains(&b' ');
        let (name, mailbox) =
            if is_name { (&text[..], &b""[..]) } else { (comment.unwrap_or_default(), &text[..]) };
        self.begin(out);
        out.push(b'(');
        put_name(name, out);
        out.extend_from_slice(b" NIL ");
        put_mailbox(mailbox, out);
        put_host(None, out);
    }

    /// `name <@route:local@domain>`, the lexer at the bracket.
    fn put_angle(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        out.push(b'(');
        put_name(&self.scratch.words.text, out);
        out.push(b' ');
        self.lexer.skip();
        self.lexer.skip_space();
        if self.lexer.peek() == Some(b'@') {
            let route = self.lexer.run(|octet| !matches!(octet, b':' | b'>'));
            put_string(trim(route), out);
            self.lexer.skip_if(b':');
        } else {
            put_nil(out);
        }
        out.push(b' ');
        self.scratch.words.clear();
        self.read_words(b"@>,");
        put_mailbox(&self.scratch.words.text, out);
        let has_host = self.lexer.skip_if(b'@');
        if has_host {
            self.read_host();
        }
        put_host(has_host.then_some(&self.scratch.host), out);
        self.lexer.skip_if(b'>');
    }

    /// `name local@domain (name)`, the lexer at the `@`.
    fn put_spec(&mut self, out: &mut Vec<u8>) {
        self.lexer.skip();
        let comment = self.read_host();
        let Words { text, last_run, .. } = &self.scratch.words;
        let (name, local) = text.split_at(*last_run);
        self.begin(out);
        out.push(b'(');
        put_name(if name.is_empty() { comment.unwrap_or_default() } else { name }, out);
        out.extend_from_slice(b" NIL ");
        put_mailbox(local, out);
        put_host(Some(&self.scratch.host), out);
    }

    /// Reads a domain into the scratch; returns the comment behind it.
    fn read_host(&mut self) -> Option<&'a [u8]> {
        let host = &mut self.scratch.host;
        host.clear();
        loop {
            let before = self.lexer.rest().len();
            let comment = self.lexer.skip_space();
            let spaced = self.lexer.rest().len() < before;
            let dotted = host.is_empty() || host.ends_with(b".");
            let run = match self.lexer.peek() {
                Some(b'.') => self.lexer.run(|octet| octet == b'.'),
                Some(b'[') if dotted => {
                    let text = self.lexer.run(|octet| !matches!(octet, b']' | b'>' | b','));
                    host.extend_from_slice(text);
                    self.lexer.skip_if(b']');
                    host.push(b']');
                    continue;
                }
                // A word behind a space belongs to no domain, unless a dot holds them together.
                Some(_) if spaced && !dotted => return comment,
                _ => self.lexer.run(|octet| !matches!(octet, b'.' | b'>') && !is_special(octet)),
            };
            if run.is_empty() {
                return comment;
            }
            host.extend_from_slice(run);
        }
    }

    /// Passes over what is left of an address; false at the end of the field.
    fn skip_to_next(&mut self, out: &mut Vec<u8>) -> bool {
        loop {
            self.lexer.skip_space();
            let Some(octet) = self.lexer.peek() else { return false };
            self.lexer.skip();
            match octet {
                b',' => return true,
                b';' => {
                    if std::mem::take(&mut self.in_group) {
                        out.extend_from_slice(GROUP_END);
                    }
                    return true;
                }
                _ => {}
            }
        }
    }
}

/// Ends a word of an address list.
fn is_special(octet: u8) -> bool {
    matches!(
        octet,
        b' ' | b'\t' | b'\r' | b'\n' | b'(' | b'"' | b',' | b';' | b':' | b'<' | b'@' | b'>'
    )
}

fn put_name(name: &[u8], out: &mut Vec<u8>) {
    if name.is_empty() {
        return put_nil(out);
    }
    let open = Open::new(out);
    put_spaced(name, out);
    open.close(out);
}

/// The local part, spaces around its dots left out (RFC 5322 §4.4 `obs-local-part`).
fn put_mailbox(local: &[u8], out: &mut Vec<u8>) {
    let local = trim(local);
    if local.is_empty() {
        return put_string(MISSING_MAILBOX, out);
    }
    let open = Open::new(out);
    let mut rest = local;
    while let Some(at) = memchr::memchr(b' ', rest) {
        let (word, more) = rest.split_at(at);
        out.extend_from_slice(word);
        if !word.ends_with(b".") && more.get(1) != Some(&b'.') {
            out.push(b' ');
        }
        rest = &more[1..];
    }
    out.extend_from_slice(rest);
    open.close(out);
}

/// Ends an address.
fn put_host(host: Option<&Vec<u8>>, out: &mut Vec<u8>) {
    out.push(b' ');
    let host = host.filter(|host| !host.is_empty());
    put_string(host.map_or(MISSING_DOMAIN, Vec::as_slice), out);
    out.push(b')');
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
    fn check(value: &str, want: Expect) {
        let mut out = Vec::new();
        let any = put_addresses(value.as_bytes(), &mut Scratch::default(), &mut out);
        assert_eq!(any, !out.is_empty());
        want.assert_eq(&String::from_utf8_lossy(&out));
    }

    #[test]
    fn reads_the_examples_of_the_rfc() {
        // RFC 5322 §A.1.2, §A.1.3, §A.5, §A.6.1, §A.6.3.
        check(
            "\"Joe Q. Public\" <john.q.public@example.com>",
            expect![[r#"(("Joe Q. Public" NIL "john.q.public" "example.com"))"#]],
        );
        check(
            "Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>",
            expect![[
                r#"(("Mary Smith" NIL "mary" "x.test")(NIL NIL "jdoe" "example.org")("Who?" NIL "one" "y.test"))"#
            ]],
        );
        check(
            "<boss@nil.test>, \"Giant; \\\"Big\\\" Box\" <sysservices@example.net>",
            expect![[
                r#"((NIL NIL "boss" "nil.test")("Giant; \"Big\" Box" NIL "sysservices" "example.net"))"#
            ]],
        );
        check(
            "A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;",
            expect![[
                r#"((NIL NIL "A Group" NIL)("Ed Jones" NIL "c" "a.test")(NIL NIL "joe" "where.test")("John" NIL "jdoe" "one.test")(NIL NIL NIL NIL))"#
            ]],
        );
        check(
            "Undisclosed recipients:;",
            expect![[r#"((NIL NIL "Undisclosed recipients" NIL)(NIL NIL NIL NIL))"#]],
        );
        check(
            "Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>",
            expect![[r#"(("Pete" NIL "pete" "silly.test"))"#]],
        );
        check(
            "A Group(Some people)\r\n     :Chris Jones <c@(Chris's host.)public.example>,\r\n         \
             joe@example.org,\r\n  John <jdoe@one.test> (my dear friend); (the end of the group)",
            expect![[
                r#"((NIL NIL "A Group" NIL)("Chris Jones" NIL "c" "public.example")(NIL NIL "joe" "example.org")("John" NIL "jdoe" "one.test")(NIL NIL NIL NIL))"#
            ]],
        );
        check(
            "Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example",
            expect![[
                r#"(("Mary Smith" "@node.test" "mary" "example.net")(NIL NIL "jdoe" "test.example"))"#
            ]],
        );
    }

    #[test]
    fn takes_what_is_broken() {
        check("", expect![""]);
        check(" , ;(c)", expect![""]);
        check("someone", expect![[r#"((NIL NIL "someone" "MISSING_DOMAIN"))"#]]);
        check("a (The Name)", expect![[r#"(("The Name" NIL "a" "MISSING_DOMAIN"))"#]]);
        check("The Name", expect![[r#"(("The Name" NIL "MISSING_MAILBOX" "MISSING_DOMAIN"))"#]]);
        check("\"Name\"", expect![[r#"(("Name" NIL "MISSING_MAILBOX" "MISSING_DOMAIN"))"#]]);
        check("\" \" <a@b>", expect![[r#"(("" NIL "a" "b"))"#]]);
        check("<>", expect![[r#"((NIL NIL "MISSING_MAILBOX" "MISSING_DOMAIN"))"#]]);
        check("@b", expect![[r#"((NIL NIL "MISSING_MAILBOX" "b"))"#]]);
        check("a@", expect![[r#"((NIL NIL "a" "MISSING_DOMAIN"))"#]]);
        check("a@b (The Name)", expect![[r#"(("The Name" NIL "a" "b"))"#]]);
        check("John Doe john . doe@x", expect![[r#"(("John Doe" NIL "john.doe" "x"))"#]]);
        check("a@b c@d; e@f", expect![[r#"((NIL NIL "a" "b")(NIL NIL "e" "f"))"#]]);
        check(
            "\"open <a@b>",
            expect![[r#"(("open <a@b>" NIL "MISSING_MAILBOX" "MISSING_DOMAIN"))"#]],
        );
        check("x <a@b, y <c@d>", expect![[r#"(("x" NIL "a" "b")("y" NIL "c" "d"))"#]]);
        check(
            "g: a@b, h: c@d",
            expect![[r#"((NIL NIL "g" NIL)(NIL NIL "a" "b")("h:" NIL "c" "d")(NIL NIL NIL NIL))"#]],
        );
        check(
            "a@[192.0.2.1], <b@[x>",
            expect![[r#"((NIL NIL "a" "[192.0.2.1]")(NIL NIL "b" "[x]"))"#]],
        );
        check("=?utf-8?q?J=F6rg?= <j@x>", expect![[r#"(("=?utf-8?q?J=F6rg?=" NIL "j" "x"))"#]]);
    }
}
