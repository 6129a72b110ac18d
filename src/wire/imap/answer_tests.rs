//! Responses of servers, good and bad.

use super::*;
use expect_test::{Expect, expect};
use std::fmt::Write as _;

fn text(value: &Value<'_>) -> String {
    match value {
        Value::Nil => "NIL".into(),
        Value::Atom(atom) => atom.escape_ascii().to_string(),
        Value::Text(text) => format!("{:?}", text.escape_ascii().to_string()),
        Value::Literal(at) => format!("literal {at}"),
        Value::List(all) => {
            format!("({})", all.iter().map(text).collect::<Vec<_>>().join(" "))
        }
    }
}

fn words(all: &[&[u8]]) -> String {
    all.iter().map(|one| one.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
}

fn shown(answer: &Answer<'_>) -> String {
    match answer {
        Answer::Status { tag, condition, code, text } => {
            let (tag, code, text) = (tag.escape_ascii(), code.escape_ascii(), text.escape_ascii());
            format!("{tag} {condition:?} [{code}] {text}")
        }
        Answer::More(rest) => format!("+ {}", rest.escape_ascii()),
        Answer::Capability(rest) => format!("can {}", rest.escape_ascii()),
        Answer::Listed(one) => {
            let separator = one.separator.map_or('-', char::from);
            let (attributes, name) = (words(&one.attributes), text(&one.name));
            format!("listed lsub={} ({attributes}) {separator} {name}", one.is_lsub)
        }
        Answer::Namespace(kinds) => kinds.iter().fold("namespace".into(), |mut all, kind| {
            for (prefix, separator) in kind {
                write!(all, " {}{:?}", text(prefix), separator.map(char::from)).unwrap();
            }
            all + ";"
        }),
        Answer::Exists(count) => format!("{count} exist"),
        Answer::Id(all) => format!("id {}", text(&Value::List(all.clone()))),
        Answer::Fetch(told) => format!(
            "uid {:?} flags {} date {:?} octets {:?} body {}",
            told.uid,
            told.flags.as_ref().map_or("-".into(), |flags| words(flags)),
            told.date,
            told.octets,
            told.body.as_ref().map_or("-".into(), text)
        ),
        Answer::Other => "other".into(),
    }
}

#[track_caller]
fn check(inputs: &[&str], want: &Expect) {
    let mut got = String::new();
    for input in inputs {
        match answer(input.as_bytes()) {
            Ok(answer) => writeln!(got, "{}", shown(&answer)).unwrap(),
            Err(Unsound(what)) => writeln!(got, "unsound: {what}").unwrap(),
        }
    }
    want.assert_eq(&got);
}

#[test]
fn reads_what_servers_say_of_themselves() {
    check(
        &[
            "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] Dovecot ready.",
            "* PREAUTH hello",
            "a1 NO [AUTHENTICATIONFAILED] no",
            "a1 ok",
            "* BYE",
            "* BAD [oops",
            "+ ",
            "+",
            "+ bm9uY2U=",
            "* CAPABILITY IMAP4rev1 IDLE",
            "* 12 EXISTS",
            "* 99999999999 EXISTS",
            "* 3 EXPUNGE",
            "* FLAGS (\\Seen)",
            "* SEARCH 1 2",
            "* ID (\"name\" \"Dovecot\" \"os\" NIL)",
            "* ID NIL",
            "* NAMESPACE ((\"INBOX.\" \".\")) NIL ((\"#shared/\" \"/\")(\"#news.\" NIL))",
            "",
            "what",
            "* 5",
        ],
        &expect![[r##"
            * Ok [CAPABILITY IMAP4rev1 AUTH=PLAIN] Dovecot ready.
            * Preauth [] hello
            a1 No [AUTHENTICATIONFAILED] no
            a1 Ok [] 
            * Bye [] 
            * Bad [] [oops
            + 
            + 
            + bm9uY2U=
            can IMAP4rev1 IDLE
            12 exist
            unsound: a number of messages
            other
            other
            other
            id ("name" "Dovecot" "os" NIL)
            id ()
            namespace "INBOX."Some('.');; "#shared/"Some('/') "#news."None;
            unsound: a response begins with *, + or the tag of a command
            unsound: a response begins with *, + or the tag of a command
            other
        "##]],
    );
}

#[test]
fn reads_lists() {
    check(
        &[
            "* LIST (\\HasNoChildren \\Drafts) \"/\" \"Dr\\\"a\\\\fts\"",
            "* LIST () NIL INBOX",
            "* LIST () \"\\\\\" a\\b",
            "* LSUB (\\Subscribed) \".\" {3}\r\n",
            "* LIST (\\Subscribed) \"/\" NIL (\"CHILDINFO\" (\"SUBSCRIBED\"))",
            "* LIST () \"/\"",
            "* LIST () \"/\" (a)",
            "* LIST (a \"/\" b",
            "* LIST () \"/\" \"open",
            "* LIST () \"/\" \"open\\",
            "* LIST () \"/\" a)",
        ],
        &expect![[r#"
            listed lsub=false (\\HasNoChildren \\Drafts) / "Dr\\\"a\\\\fts"
            listed lsub=false () - INBOX
            listed lsub=false () \ a\\b
            listed lsub=true (\\Subscribed) . literal 0
            listed lsub=false (\\Subscribed) / NIL
            unsound: LIST has attributes, a separator and a name
            unsound: LIST has attributes, a separator and a name
            unsound: a list ends
            unsound: a quoted string ends
            unsound: a quoted string ends
            unsound: a parenthesis is closed twice
        "#]],
    );
}

#[test]
fn reads_messages() {
    check(
        &[
            "* 1 FETCH (UID 5 FLAGS (\\Seen $Junk a]b *) INTERNALDATE \" 1-Feb-2012 10:11:00 +0100\" RFC822.SIZE 20)",
            "* 1 FETCH (UID 5 BODY[] {20}\r\n FLAGS ())",
            "* 1 FETCH (BODY[] NIL UID 5)",
            "* 1 fetch (body[] \"a\" uid 5 X-OTHER (1 (2)) MODSEQ (7))",
            "* 1 FETCH (BODY[HEADER.FIELDS (A B)] {1}\r\n UID 5 BINARY[] ~{2}\r\n)",
            "* 1 FETCH (UID 0)",
            "* 1 FETCH (UID 4294967296)",
            "* 1 FETCH (UID x)",
            "* 1 FETCH (UID)",
            "* 1 FETCH UID 5",
            "* 1 FETCH (RFC822.SIZE 99999999999999999999 UID 5)",
            "* 1 FETCH (INTERNALDATE \"nonsense\" UID 5)",
            "* 1 FETCH (INTERNALDATE \"01-Jan-1960 00:00:00 +0000\" UID 5)",
            "* 1 FETCH (BODY[ UID 5)",
            "* 1 FETCH (UID 5 BODY[] {20}",
            "* 1 FETCH (UID 5",
            "* 1 FETCH",
            "* 1 FETCH (((((((((((((((((((((((((",
        ],
        &expect![[r#"
            uid Some(5) flags \\Seen $Junk a]b * date Some(1328087460) octets Some(20) body -
            uid Some(5) flags  date None octets None body literal 0
            uid Some(5) flags - date None octets None body NIL
            uid Some(5) flags - date None octets None body "a"
            uid Some(5) flags - date None octets None body literal 1
            unsound: a UID
            unsound: a UID
            unsound: a UID
            unsound: FETCH has names and values in parentheses
            unsound: FETCH has names and values in parentheses
            unsound: a number of octets
            uid Some(5) flags - date Some(0) octets None body -
            uid Some(5) flags - date Some(0) octets None body -
            unsound: a section ends
            unsound: a list ends
            unsound: a list ends
            unsound: FETCH has names and values in parentheses
            unsound: lists lie in each other too deeply
        "#]],
    );
}

#[test]
fn knows_where_literals_begin() {
    let at_end = ["a {5}", "{0}", "{7+}", "~{7}", "a {99999999999999999999}", "{}", "{5} ", "{-1}"];
    let got = at_end.map(|line| literal_at_end(line.as_bytes()));
    assert_eq!(got, [Some(5), Some(0), Some(7), Some(7), None, None, None, None]);
    assert!(is_status(b"* OK see {5}") && is_status(b"+ {5}") && is_status(b"a7 NO {5}"));
    assert!(!is_status(b"* LIST () \"/\" {5}") && !is_status(b"* 1 FETCH (BODY[] {5}"));
    let number = |code: &str| code_number(code.as_bytes(), "UIDNEXT");
    assert_eq!(number("UIDNEXT 77"), Some(77));
    assert_eq!(["UIDNEXT", "UIDNEXT x", "UIDVALIDITY 7", ""].map(number), [None; 4]);
}

#[test]
fn reads_anything_without_a_panic() {
    arbtest::arbtest(|u| {
        let parts = [
            "* ",
            "1 FETCH ",
            "(",
            ")",
            "\"",
            "\\",
            "{1}\r\n",
            "{",
            "}",
            "[",
            "]",
            " ",
            "UID ",
            "5",
            "BODY[] ",
            "FLAGS ",
            "LIST ",
            "NIL",
            "a OK ",
            "+ ",
            "\u{e9}",
            "\r\n",
            "~",
            "NAMESPACE ",
            "INTERNALDATE ",
        ];
        let mut data = Vec::new();
        for _ in 0..u.int_in_range(0..=24)? {
            data.extend_from_slice(u.choose(&parts)?.as_bytes());
        }
        fuzz_answer(&data);
        Ok(())
    });
}
