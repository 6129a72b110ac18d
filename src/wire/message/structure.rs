//! BODY and BODYSTRUCTURE as text (RFC 9051 §7.5.2).
//!
//! ```text
//! body      := "(" 1part / mpart ")"
//! 1part     := type SP subtype SP params SP id SP description SP encoding SP octets
//!              [ SP lines ]                            text
//!              [ SP envelope SP body SP lines ]        message/rfc822, message/global
//!              [ SP md5 SP disposition SP language SP location ]
//! mpart     := 1*body SP subtype [ SP params SP disposition SP language SP location ]
//! ```
//!
//! The bracketed last lines are extension data: BODYSTRUCTURE has them, BODY has not. Types are
//! written as the message spells them; a part without a readable type is text/plain in us-ascii. A
//! multipart without parts, which the grammar does not know, shows one empty text; what lies
//! beyond the bounds of [`super::mime`] shows as application/octet-stream.

use super::envelope::put_envelope;
use super::head::{FieldKind, Head};
use super::lexer::{Lexer, put_unfolded, trim};
use super::mime::{Kind, Part, Tree, children};
use super::nstring::{Open, Reader, put_nil, put_number, put_string};
use super::params::{content_type, for_each_param, token_and_params};

const DEFAULT_CHARSET: &[u8] = b"\"charset\" \"us-ascii\"";

/// Appends the BODYSTRUCTURE of a message and its tree, outer parentheses included.
pub fn put_bodystructure(message: &[u8], tree: &Tree, out: &mut Vec<u8>) {
    Writer { message, parts: &tree.parts, extended: true }.put_part(0, &tree.head, out);
}

/// The same as BODY: without extension data.
pub fn put_body(message: &[u8], tree: &Tree, out: &mut Vec<u8>) {
    Writer { message, parts: &tree.parts, extended: false }.put_part(0, &tree.head, out);
}

/// Appends the BODY that belongs to a BODYSTRUCTURE text of ours; `None`, and perhaps a part of
/// it, if the text is none.
pub fn put_body_of(structure: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader::new(structure);
    shorten(&mut reader, out)?;
    reader.rest().is_empty().then_some(())
}

struct Writer<'a> {
    message: &'a [u8],
    parts: &'a [Part],
    extended: bool,
}

impl Writer<'_> {
    /// Part `index`, whose header is `head`; calls itself at most `MIME_DEPTH_MAX` deep.
    fn put_part(&self, index: usize, head: &Head, out: &mut Vec<u8>) {
        let part = &self.parts[index];
        out.push(b'(');
        if part.is_multipart() {
            self.put_multipart(index, head, out);
        } else {
            self.put_single(index, head, out);
        }
        out.push(b')');
    }

    fn put_child(&self, index: usize, out: &mut Vec<u8>) {
        self.put_part(index, &self.head(index), out);
    }

    fn head(&self, index: usize) -> Head {
        let part = &self.parts[index];
        let upto = &self.message[..part.header().end];
        Head::scan(upto, part.header().start, |_| false).0
    }

    fn put_multipart(&self, index: usize, head: &Head, out: &mut Vec<u8>) {
        let mut any = false;
        for child in children(self.parts, index) {
            any = true;
            self.put_child(child, out);
        }
        if !any {
            out.extend_from_slice(b"(\"text\" \"plain\" (");
            out.extend_from_slice(DEFAULT_CHARSET);
            out.extend_from_slice(b") NIL NIL \"7bit\" 0 0");
            out.extend_from_slice(if self.extended { b" NIL NIL NIL NIL)" } else { b")" });
        }
        let named = head.value(self.message, FieldKind::ContentType).and_then(content_type);
        out.push(b' ');
        put_string(named.map_or(b"mixed", |named| named.subtype), out);
        if self.extended {
            out.push(b' ');
            put_params(named.map_or(b"", |named| named.params), false, out);
            self.put_extension(head, out);
        }
    }

    fn put_single(&self, index: usize, head: &Head, out: &mut Vec<u8>) {
        let part = &self.parts[index];
        let named = head.value(self.message, FieldKind::ContentType).and_then(content_type);
        match named {
            _ if part.kind == Kind::Closed => {
                out.extend_from_slice(b"\"application\" \"octet-stream\"");
            }
            Some(named) => {
                put_string(named.kind, out);
                out.push(b' ');
                put_string(named.subtype, out);
            }
            None if part.kind == Kind::Message => out.extend_from_slice(b"\"message\" \"rfc822\""),
            None => out.extend_from_slice(b"\"text\" \"plain\""),
        }
        out.push(b' ');
        put_params(named.map_or(b"", |named| named.params), part.kind == Kind::Text, out);
        for kind in [FieldKind::ContentId, FieldKind::ContentDescription] {
            out.push(b' ');
            self.put_raw(head, kind, out);
        }
        out.push(b' ');
        let encoding = head.value(self.message, FieldKind::ContentTransferEncoding);
        match encoding.and_then(token_and_params) {
            Some((encoding, _)) => put_string(encoding, out),
            None => out.extend_from_slice(b"\"7bit\""),
        }
        out.push(b' ');
        put_number(part.body_len(), out);
        if part.kind == Kind::Message {
            self.put_message(index, out);
        }
        if matches!(part.kind, Kind::Text | Kind::Message) {
            out.push(b' ');
            put_number(part.lines, out);
        }
        if self.extended {
            out.push(b' ');
            self.put_raw(head, FieldKind::ContentMd5, out);
            self.put_extension(head, out);
        }
    }

    /// The ENVELOPE and body of the message within part `index`.
    fn put_message(&self, index: usize, out: &mut Vec<u8>) {
        for child in children(self.parts, index).take(1) {
            let head = self.head(child);
            out.push(b' ');
            put_envelope(&self.message[..self.parts[child].header().end], &head, out);
            out.push(b' ');
            self.put_part(child, &head, out);
        }
    }

    /// Disposition, language and location, each behind a space.
    fn put_extension(&self, head: &Head, out: &mut Vec<u8>) {
        out.push(b' ');
        let disposition = head.value(self.message, FieldKind::ContentDisposition);
        match disposition.and_then(token_and_params) {
            None => put_nil(out),
            Some((disposition, params)) => {
                out.push(b'(');
                put_string(disposition, out);
                out.push(b' ');
                put_params(params, false, out);
                out.push(b')');
            }
        }
        out.push(b' ');
        put_languages(head.value(self.message, FieldKind::ContentLanguage), out);
        out.push(b' ');
        self.put_raw(head, FieldKind::ContentLocation, out);
    }

    /// A field as it stands there, folds undone; NIL if it is missing (RFC 9051 §4.5).
    fn put_raw(&self, head: &Head, kind: FieldKind, out: &mut Vec<u8>) {
        let Some(value) = head.value(self.message, kind).map(trim) else { return put_nil(out) };
        let open = Open::new(out);
        put_unfolded(value, out);
        open.close(out);
    }
}

/// A list of names and values, or NIL; a text has a charset even where it does not say so
/// (RFC 2045 §5.2).
fn put_params(params: &[u8], is_text: bool, out: &mut Vec<u8>) {
    let start = out.len();
    let mut has_charset = false;
    for_each_param(params, |name, value| {
        has_charset |= name.eq_ignore_ascii_case(b"charset");
        out.push(if out.len() == start { b'(' } else { b' ' });
        put_string(name, out);
        out.push(b' ');
        put_string(value, out);
    });
    if is_text && !has_charset {
        out.push(if out.len() == start { b'(' } else { b' ' });
        out.extend_from_slice(DEFAULT_CHARSET);
    }
    if out.len() == start {
        put_nil(out);
    } else {
        out.push(b')');
    }
}

/// Language tags as a list, or NIL (RFC 3282 §2).
fn put_languages(value: Option<&[u8]>, out: &mut Vec<u8>) {
    let start = out.len();
    let mut lexer = Lexer::new(value.unwrap_or_default());
    loop {
        lexer.skip_space();
        if let Some(tag) = lexer.token() {
            out.push(if out.len() == start { b'(' } else { b' ' });
            put_string(tag, out);
        } else if lexer.peek().is_none() {
            break;
        } else {
            lexer.skip();
        }
    }
    if out.len() == start {
        put_nil(out);
    } else {
        out.push(b')');
    }
}

/// Copies one body without its extension data.
fn shorten(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Option<()> {
    take(reader, b'(', out)?;
    if reader.peek() == Some(b'(') {
        while reader.peek() == Some(b'(') {
            shorten(reader, out)?;
        }
        take(reader, b' ', out)?;
        copy(reader, out)?;
    } else {
        let kind = copy(reader, out)?;
        take(reader, b' ', out)?;
        let subtype = copy(reader, out)?;
        // Parameters, id, description, encoding, octets.
        for _ in 0..5 {
            take(reader, b' ', out)?;
            copy(reader, out)?;
        }
        let is = |text: &[u8], name: &[u8]| text.eq_ignore_ascii_case(name);
        let is_message =
            is(kind, b"\"message\"") && (is(subtype, b"\"rfc822\"") || is(subtype, b"\"global\""));
        // One that could not be opened has no envelope.
        let is_message = is_message && reader.rest().starts_with(b" (");
        if is_message {
            take(reader, b' ', out)?;
            copy(reader, out)?;
            take(reader, b' ', out)?;
            shorten(reader, out)?;
        }
        if is_message || is(kind, b"\"text\"") {
            take(reader, b' ', out)?;
            copy(reader, out)?;
        }
    }
    while reader.skip_if(b' ') {
        reader.skip_value()?;
    }
    take(reader, b')', out)
}

fn take(reader: &mut Reader<'_>, octet: u8, out: &mut Vec<u8>) -> Option<()> {
    out.push(octet);
    reader.skip_if(octet).then_some(())
}

/// Copies one string or list.
fn copy<'a>(reader: &mut Reader<'a>, out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let before = reader.rest();
    reader.skip_value()?;
    let text = &before[..before.len() - reader.rest().len()];
    out.extend_from_slice(text);
    Some(text)
}

/// Laws: what is written can be read back; the BODY out of the BODYSTRUCTURE is the BODY.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_structure(data: &[u8]) {
    super::mime::fuzz_mime(data);
    super::envelope::fuzz_envelope(data);
    let tree = Tree::of(data);
    let (mut structure, mut body, mut short) = (Vec::new(), Vec::new(), Vec::new());
    put_bodystructure(data, &tree, &mut structure);
    put_body(data, &tree, &mut body);
    let mut reader = Reader::new(&structure);
    assert_eq!(reader.skip_value(), Some(()));
    assert_eq!(reader.rest(), b"");
    assert_eq!(put_body_of(&structure, &mut short), Some(()));
    assert_eq!(short.escape_ascii().to_string(), body.escape_ascii().to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
    fn check(message: &str, want: Expect) {
        let mut out = Vec::new();
        put_bodystructure(message.as_bytes(), &Tree::of(message.as_bytes()), &mut out);
        want.assert_eq(&String::from_utf8_lossy(&out));
        fuzz_structure(message.as_bytes());
    }

    /// One of every field, and a message within.
    const NESTED: &str = "\
From: user@domain.example
Mime-Version: 1.0
Content-Type: multipart/mixed; boundary=\"foo
 bar\"

preamble

--foo bar
Content-Type: text/x-myown; charset=us-ascii; foo=\"quoted\\\"string\"
Content-ID: <foo@example.com>
Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==
Content-Disposition: inline; foo=bar
Content-Description: hellodescription
Content-Language: en, fi, se
Content-Location: http://example.com/test.txt

hello

--foo bar
Content-Type: message/rfc822

From: sub@domain.example
To: to1@domain.example, to2@domain.example
Subject: submsg
Content-Type: multipart/alternative; boundary=\"sub1\"

preamble
--sub1
Content-Type: text/html
Content-Transfer-Encoding: 8bit

<p>Hello world</p>

--sub1
Content-Type: text/plain
Content-Transfer-Encoding: ?invalid

Hello another world

--sub1--
epilogue

--foo bar--
epilogue
";

    #[test]
    fn writes_every_field() {
        check(
            NESTED,
            expect![[
                r#"(("text" "x-myown" ("charset" "us-ascii" "foo" "quoted\"string") "<foo@example.com>" "hellodescription" "7bit" 6 1 "Q2hlY2sgSW50ZWdyaXR5IQ==" ("inline" ("foo" "bar")) ("en" "fi" "se") "http://example.com/test.txt")("message" "rfc822" NIL NIL NIL "7bit" 339 (NIL "submsg" ((NIL NIL "sub" "domain.example")) ((NIL NIL "sub" "domain.example")) ((NIL NIL "sub" "domain.example")) ((NIL NIL "to1" "domain.example")(NIL NIL "to2" "domain.example")) NIL NIL NIL NIL) (("text" "html" ("charset" "us-ascii") NIL NIL "8bit" 19 1 NIL NIL NIL NIL)("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 20 1 NIL NIL NIL NIL) "alternative" ("boundary" "sub1") NIL NIL NIL) 20 NIL NIL NIL NIL) "mixed" ("boundary" "foo bar") NIL NIL NIL)"#
            ]],
        );
    }

    #[test]
    fn defaults_what_is_missing() {
        check(
            "",
            expect![[
                r#"("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)"#
            ]],
        );
        check(
            "Content-Type: text\n\na\n",
            expect![[
                r#"("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 2 1 NIL NIL NIL NIL)"#
            ]],
        );
        check(
            "Content-Type: multipart/mixed\n\na\n",
            expect![[
                r#"(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL) "mixed" NIL NIL NIL NIL)"#
            ]],
        );
        check(
            "Content-Type: image/png; name*0=a; name*1=b\nContent-Disposition: attachment;\n filename*=utf-8''x%20y\n\na",
            expect![[
                r#"("image" "png" ("name" "ab") NIL NIL "7bit" 1 NIL ("attachment" ("filename*" "utf-8''x%20y")) NIL NIL)"#
            ]],
        );
        check(
            "Content-ID:\nContent-Description: \n\n",
            expect![[
                r#"("text" "plain" ("charset" "us-ascii") "" "" "7bit" 0 0 NIL NIL NIL NIL)"#
            ]],
        );
        check(
            "Content-Type: message/rfc822\n\n",
            expect![[
                r#"("message" "rfc822" NIL NIL NIL "7bit" 0 (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL) ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL) 0 NIL NIL NIL NIL)"#
            ]],
        );
    }

    #[test]
    fn deep_and_wide_messages_are_answered() {
        fuzz_structure("Content-Type: message/rfc822\n\n".repeat(1_000).as_bytes());
        let wide = "Content-Type: multipart/mixed; boundary=b\n\n".to_owned();
        fuzz_structure((wide + &"--b\n\n\n".repeat(12_000)).as_bytes());
    }
}
