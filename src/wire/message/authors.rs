//! Who a From or Sender field says wrote a message, read strictly (RFC 5322 §3.4).
//!
//! ```text
//! list    := mailbox *( "," mailbox )
//! mailbox := [ phrase ] "<" spec ">" / spec
//! ```
//!
//! What a server answers for must mean the same to every reader, so that what is only nearly right is
//! no answer: no groups, routes, empty places or octets that stand nowhere in the grammar. Comments
//! and quoted words are passed over; a phrase may have dots, as most programs write them.

use super::lexer::Lexer;
use crate::model::address::{Address, is_atom_octet};
use crate::model::limits::AUTHORS_MAX;
use crate::wire::address::parse_mailbox;

/// The mailboxes of a field's value, at least one; none if it is not written as it should be, or names
/// more than [`AUTHORS_MAX`].
pub fn authors(value: &[u8]) -> Option<Vec<Address>> {
    let mut lexer = Lexer::new(value);
    let mut all = Vec::new();
    loop {
        if all.len() == AUTHORS_MAX {
            return None;
        }
        all.push(mailbox(&mut lexer)?);
        match lexer.peek() {
            None => return Some(all),
            Some(b',') => lexer.skip(),
            Some(_) => return None,
        }
    }
}

/// One mailbox, and the space behind it.
fn mailbox(lexer: &mut Lexer<'_>) -> Option<Address> {
    // The word that may be a local part; a phrase of any length is not kept.
    let (mut word, mut is_phrase) = (None, false);
    loop {
        lexer.skip_space();
        match lexer.peek() {
            Some(b'<') => {
                lexer.skip();
                lexer.skip_space();
                let local = local(lexer)?;
                let address = spec(&local, lexer)?;
                let is_closed = lexer.skip_if(b'>');
                lexer.skip_space();
                return is_closed.then_some(address);
            }
            Some(b'@') => {
                let local: Vec<u8> = word.filter(|_| !is_phrase)?;
                return spec(&local, lexer);
            }
            Some(_) => is_phrase |= word.replace(local(lexer)?).is_some(),
            None => return None,
        }
    }
}

/// Atoms and dots, or a quoted string with its quotes.
fn local(lexer: &mut Lexer<'_>) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    if lexer.peek() == Some(b'"') {
        let before = lexer.rest();
        lexer.quoted(&mut text);
        let whole = &before[..before.len() - lexer.rest().len()];
        // Another quote than the first has to end it.
        let is_closed = whole.len() >= 2 && whole.ends_with(b"\"");
        let is_plain = text.iter().all(|octet| *octet == b'\t' || !octet.is_ascii_control());
        let mut quoted = vec![b'"'];
        for octet in text {
            if matches!(octet, b'"' | b'\\') {
                quoted.push(b'\\');
            }
            quoted.push(octet);
        }
        quoted.push(b'"');
        return (is_closed && is_plain).then_some(quoted);
    }
    text.extend_from_slice(lexer.run(|octet| octet == b'.' || is_atom_octet(octet)));
    (!text.is_empty()).then_some(text)
}

/// `@domain` behind a local part, and the space behind it.
fn spec(local: &[u8], lexer: &mut Lexer<'_>) -> Option<Address> {
    lexer.skip_space();
    if !lexer.skip_if(b'@') {
        return None;
    }
    lexer.skip_space();
    let domain = if lexer.peek() == Some(b'[') {
        let open = lexer.run(|octet| octet != b']');
        [open, if lexer.skip_if(b']') { b"]" } else { b"" }].concat()
    } else {
        lexer.run(|octet| octet == b'.' || is_atom_octet(octet)).to_vec()
    };
    lexer.skip_space();
    let text = String::from_utf8([local, b"@", &domain].concat()).ok()?;
    Some(parse_mailbox(&text).ok()?.to_address())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> String {
        match authors(value.as_bytes()) {
            Some(all) => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            None => "none".into(),
        }
    }

    #[test]
    fn reads_one_and_several() {
        for (value, want) in [
            (" a@b.example", "a@b.example"),
            (" Ann B. Cee <a@B.Example>", "a@b.example"),
            (" \"Cee, Ann\" <a@b.example> (home)", "a@b.example"),
            (" =?utf-8?q?J=C3=BCrgen?= <j@b.example>", "j@b.example"),
            (" Jürgen <j@bücher.example>", "j@xn--bcher-kva.example"),
            ("\r\n a@b.example,\r\n\t<c@d.example>", "a@b.example, c@d.example"),
            (" (x) \"a b\"@[192.0.2.1] (y)", "\"a b\"@[192.0.2.1]"),
            (" <a(x)@(y)b.example>", "a@b.example"),
            (" <\"a\\\"b\"@b.example>", "\"a\\\"b\"@b.example"),
        ] {
            assert_eq!(shown(value), want, "{value}");
        }
    }

    /// What it says is read back as the same.
    #[test]
    fn reads_what_it_shows() {
        arbtest::arbtest(|u| {
            let words = [
                "a",
                "b.example",
                "@",
                "<",
                ">",
                "\"",
                ",",
                " ",
                "\\",
                "(",
                ")",
                ".",
                "é",
                "\r\n ",
            ];
            let len = u.int_in_range(0..=12)?;
            let value: String =
                (0..len).map(|_| u.choose(&words).copied()).collect::<Result<_, _>>()?;
            if let Some(all) = authors(value.as_bytes()) {
                let again = all.iter().map(|one| format!("<{one}>")).collect::<Vec<_>>().join(",");
                assert_eq!(authors(again.as_bytes()), Some(all), "{value:?}");
            }
            Ok(())
        });
    }

    #[test]
    fn is_not_sure_of_anything_else() {
        for value in [
            "",
            " ",
            " a",
            " Ann",
            " <>",
            " <a@b.example",
            " a@b.example>",
            " a@b.example, ",
            " a@b.example,,c@d.example",
            " a@b.example c@d.example",
            " a@b.example <c@d.example>",
            " <a@b.example> <c@d.example>",
            " <a@b.example> x",
            " Ann Cee a@b.example",
            " team: a@b.example;",
            " undisclosed:;",
            " <@c.example:a@b.example>",
            " a@b.example@c.example",
            " <a@b.example;c@d.example>",
            " \"Ann <a@b.example>",
            " \"a\\\"@b.example",
            " a@",
            " @b.example",
            " a@[192.0.2.1",
            " a\u{0}@b.example",
        ] {
            assert_eq!(shown(value), "none", "{value}");
        }
        assert_eq!(authors(b" \xff@b.example"), None);
    }
}
