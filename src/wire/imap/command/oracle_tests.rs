//! Another reader of commands, imap-codec, must read ours as we do.
//!
//! Commands are made of a grammar. What both take is written out again by the other one, in its
//! own way, and must mean the same to us. What only one takes is a difference; each kind that is
//! known stands in [`is_known`] with the reason.

use super::{Bad, parse};
use imap_codec::CommandCodec;
use imap_codec::decode::Decoder;
use imap_codec::encode::Encoder;
use std::collections::BTreeMap;

/// `<name>` stands for one of the forms of `name`.
const GRAMMAR: &[(&str, &[&str])] = &[
    (
        "any",
        &[
            "CAPABILITY",
            "noop",
            "LOGOUT",
            "STARTTLS",
            "CHECK",
            "CLOSE",
            "EXPUNGE",
            "UNSELECT",
            "IDLE",
        ],
    ),
    (
        "name",
        &["SELECT", "EXAMINE", "DELETE", "SUBSCRIBE", "unsubscribe", "CREATE", "GETQUOTAROOT"],
    ),
    (
        "command",
        &[
            "<any>",
            "<name> <astring>",
            "LOGIN <astring> <astring>",
            "RENAME <astring> <astring>",
            "LIST <astring> <pattern>",
            "LSUB <astring> <pattern>",
            "STATUS <astring> (<status> <status>)",
            "<uid>FETCH <set> <items>",
            "<uid>STORE <set> <change> <flags>",
            "<uid>COPY <set> <astring>",
            "<uid>MOVE <set> <astring>",
            "<uid>SEARCH <charset><keys>",
            "UID EXPUNGE <set>",
            "ENABLE CONDSTORE",
            "AUTHENTICATE PLAIN",
            "AUTHENTICATE PLAIN AGEAYg==",
            "ID (<string> <string>)",
            "ID NIL",
            "NAMESPACE",
            "COMPRESS DEFLATE",
            "GETQUOTA <astring>",
            "SETQUOTA <astring> (STORAGE <number>)",
            "SORT (<order> REVERSE <order>) UTF-8 <keys>",
            "THREAD REFERENCES UTF-8 <keys>",
            "SELECT <astring> (CONDSTORE)",
            "UID FETCH <set> <items> (CHANGEDSINCE <nz>)",
            "STORE <set> (UNCHANGEDSINCE <number>) <change> <flags>",
            "<junk> <junk>",
            "FETCH <junk> <junk>",
            "SEARCH <junk> <junk>",
            "STORE <set> <junk> <junk>",
            "LOGIN <junk> <junk>",
            "FETCH <set> <junk>",
        ],
    ),
    ("uid", &["", "UID ", "uid "]),
    ("astring", &["INBOX", "a]b", "<string>", "<string>", "x/y", "~me", "NIL"]),
    ("string", &["\"\"", "\"a b\"", "\"a\\\"b\\\\\"", "{3+}\r\na\r\n", "{0+}\r\n", "\"%*(){\""]),
    ("pattern", &["*", "%", "a%b*", "\"%/x\"", "\"\"", "{2+}\r\n**"]),
    (
        "status",
        &[
            "MESSAGES",
            "recent",
            "UIDNEXT",
            "UIDVALIDITY",
            "UNSEEN",
            "DELETED",
            "HIGHESTMODSEQ",
            "FOO",
        ],
    ),
    ("nz", &["1", "7", "4294967295", "10"]),
    ("number", &["0", "<nz>", "4294967295"]),
    ("bound", &["*", "<nz>", "<nz>", "0", "4294967296"]),
    ("range", &["<bound>", "<nz>", "<nz>:<nz>", "<bound>:<bound>"]),
    ("set", &["<nz>", "<range>", "<range>,<range>", "1:*", "2,4:7,9,12:*", "1,,2", "$"]),
    (
        "items",
        &["ALL", "fast", "FULL", "<item>", "(<item>)", "(<item> <item> <item>)", "()", "(ALL)"],
    ),
    (
        "item",
        &[
            "ENVELOPE",
            "flags",
            "INTERNALDATE",
            "RFC822.SIZE",
            "UID",
            "BODYSTRUCTURE",
            "BODY",
            "RFC822",
            "RFC822.HEADER",
            "RFC822.TEXT",
            "BODY[<section>]<partial>",
            "BODY.PEEK[<section>]<partial>",
            "BINARY[<part>]<partial>",
            "BINARY.SIZE[<part>]",
            "MODSEQ",
            "FOO",
        ],
    ),
    ("part", &["", "1", "1.2", "3.4294967295.1", "0"]),
    (
        "section",
        &[
            "<part>",
            "HEADER",
            "TEXT",
            "1.TEXT",
            "1.2.HEADER",
            "2.MIME",
            "MIME",
            "HEADER.FIELDS (<astring>)",
            "1.header.fields.not (From To)",
            "HEADER.FIELDS ()",
            "FOO",
            "1.",
        ],
    ),
    ("partial", &["", "", "\u{3c}0.1024>", "\u{3c}<number>.<number>>", "\u{3c}5>"]),
    ("change", &["FLAGS", "+flags", "-FLAGS.SILENT", "FOO"]),
    (
        "flags",
        &[
            "()",
            "(\\Seen \\deleted)",
            "\\Flagged",
            "$Junk x",
            "(\\Answered \\Draft kw)",
            "(\\Recent)",
            "(\\*)",
        ],
    ),
    ("charset", &["", "", "CHARSET UTF-8 ", "CHARSET <string> "]),
    ("keys", &["<key>", "<key> <key>", "<key> (<key> <key>) <key>"]),
    (
        "key",
        &[
            "ALL",
            "answered",
            "UNSEEN",
            "NEW",
            "OLD",
            "RECENT",
            "<set>",
            "UID <set>",
            "NOT <key>",
            "OR <key> <key>",
            "(<key> <key>)",
            "BEFORE <date>",
            "SENTON <date>",
            "SINCE <date>",
            "FROM <astring>",
            "TEXT <string>",
            "HEADER <astring> <astring>",
            "KEYWORD $Junk",
            "unkeyword x",
            "LARGER <number>",
            "SMALLER <nz>",
            "FOO",
            "YOUNGER <number>",
            "OLDER <nz>",
            "MODSEQ <nz>",
            "BCC <astring>",
            "SUBJECT",
            "DRAFT",
            "UNFLAGGED",
        ],
    ),
    (
        "date",
        &["1-Feb-1994", "\"17-jul-1996\"", "01-Jan-2020", "31-Feb-2020", "1-Feb-94", "1-Foo-1994"],
    ),
    ("order", &["DATE", "subject", "ARRIVAL", "CC", "FROM", "SIZE", "TO", "FOO"]),
    (
        "junk",
        &[
            "",
            "x",
            "(",
            ")",
            "(x)",
            "\"",
            "\"x",
            "{1}",
            "[",
            "1",
            "*",
            "%",
            "\\Seen",
            "é",
            " ",
            "~{1+}\r\nx",
        ],
    ),
];

/// One sentence of the grammar; below a depth the first, simplest form is taken.
fn make(
    u: &mut arbtest::arbitrary::Unstructured<'_>,
    form: &str,
    depth: u32,
    out: &mut String,
) -> arbtest::arbitrary::Result<()> {
    let mut rest = form;
    while let Some((before, after)) = rest.split_once('<') {
        out.push_str(before);
        let (name, after) = after.split_once('>').unwrap_or(("", after));
        rest = after;
        let Some((_, forms)) = GRAMMAR.iter().find(|(known, _)| *known == name) else {
            out.push('<');
            out.push_str(name);
            out.push('>');
            continue;
        };
        let form = if depth == 0 { forms[0] } else { *u.choose(forms)? };
        make(u, form, depth.saturating_sub(1), out)?;
    }
    out.push_str(rest);
    Ok(())
}

/// Why only one of the two takes a command, where that is known.
fn is_known(command: &str, ours: Result<(), &str>) -> Option<&'static str> {
    let has = |word: &str| command.to_ascii_uppercase().contains(word);
    match ours {
        Ok(()) if has("$") => Some("the other one does not know RFC 5182"),
        Err("\\Recent can not be set") => {
            Some("RFC 3501 §2.3.2; the other one leaves it to its user")
        }
        Ok(()) if command.ends_with(' ') => Some("clients leave spaces at the end"),
        Ok(()) if has("CHARSET {") => Some("RFC 3501 §9 has an astring, RFC 9051 §9 no literal"),
        Err("not the name of a header field") => {
            Some("no header has such a field, and it is echoed")
        }
        Err("a list is empty") if has("FETCH") => Some("RFC 9051 §9 has at least one item"),
        _ => None,
    }
}

#[test]
fn reads_as_another_reader_does() {
    let mut differences: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let (mut both, mut neither) = (0_usize, 0_usize);
    arbtest::arbtest(|u| {
        let mut text = String::from("a ");
        make(u, "<command>", 6, &mut text)?;
        let line = format!("{text}\r\n");
        let ours = parse(text.as_bytes(), false);
        let theirs = CommandCodec::default().decode(line.as_bytes());
        let theirs = theirs.ok().filter(|(rest, _)| rest.is_empty()).map(|(_, command)| command);
        match (&ours, theirs) {
            (Ok(read), Some(command)) => {
                both += 1;
                let again = CommandCodec::default().encode(&command).dump();
                let again = again.strip_suffix(b"\r\n").expect("a command ends with CRLF");
                let other = parse(again, false);
                if other.as_ref() != Ok(read) {
                    let what = format!("means another: {}", command.name());
                    let entry = differences.entry(what).or_default();
                    entry.0 += 1;
                    entry.1 = format!("{text} / {}", again.escape_ascii());
                }
            }
            (Err(_), None) => neither += 1,
            (ours, _) => {
                let ours = ours.as_ref().map(|_| ()).map_err(|Bad { what, .. }| *what);
                if is_known(&text, ours).is_none() {
                    let what = format!("{ours:?} {}", text.split(' ').nth(1).unwrap_or_default());
                    let entry = differences.entry(what).or_default();
                    entry.0 += 1;
                    if entry.1.is_empty() || entry.1.len() > text.len() {
                        entry.1.clone_from(&text);
                    }
                }
            }
        }
        Ok(())
    })
    .size_min(1_024)
    .size_max(65_536)
    .budget_ms(1_000);
    println!("{both} taken by both, {neither} by neither");
    assert!(both > 10 && neither > 5, "{both} and {neither}");
    let list: Vec<String> = differences
        .iter()
        .map(|(what, (count, text))| format!("{count} {what}: {text:?}"))
        .collect();
    assert!(list.is_empty(), "{} differences:\n{}", list.len(), list.join("\n"));
}
