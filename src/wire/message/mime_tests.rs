//! Messages taken apart, whole and broken.

use super::*;
use expect_test::{Expect, expect};
use std::fmt::Write as _;

/// Each part: depth, kind, lines, body.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
fn check(message: &str, want: Expect) {
    let octets = message.as_bytes();
    let mut got = String::new();
    for part in Tree::of(octets).parts {
        let indent = "  ".repeat(usize::from(part.depth));
        let shown = if children(&Tree::of(octets).parts, 0).next().is_some() && part.depth == 0 {
            "…".to_owned()
        } else {
            octets[part.body()].escape_ascii().to_string()
        };
        writeln!(got, "{indent}{:?} {} {shown}", part.kind, part.lines).unwrap();
    }
    want.assert_eq(&got);
    fuzz_mime(octets);
    fuzz_mime(message.replace('\n', "\r\n").as_bytes());
}

#[test]
fn one_part_is_one_part() {
    check(
        "",
        expect![[r"
        Text 0 
    "]],
    );
    check(
        "Subject: a\n\nb\nc",
        expect![[r"
        Text 1 b\nc
    "]],
    );
    check(
        "Content-Type: image/png\n\nb\n",
        expect![[r"
        Other 1 b\n
    "]],
    );
}

#[test]
fn multiparts_have_parts_preamble_and_epilogue() {
    check(
        "Content-Type: multipart/mixed; boundary=b\n\npreamble\n--b\n\none\n--b  \n\
         Content-Type: image/x\n\ntwo\n\n--b--\nepilogue\n--b\n",
        expect![[r"
            Multipart 12 …
              Text 0 one
              Other 1 two\n
        "]],
    );
}

#[test]
fn boundaries_may_be_missing() {
    check(
        "Content-Type: multipart/mixed\n\n--b\n\none\n",
        expect![[r"
        Multipart 3 --b\n\none\n
    "]],
    );
    check(
        "Content-Type: multipart/mixed; boundary=b\n\nno part\n",
        expect![[r"
        Multipart 1 no part\n
    "]],
    );
    check(
        "Content-Type: multipart/mixed; boundary=b\n\n--b\nA: b\n\nopen\n",
        expect![[r"
        Multipart 4 …
          Text 1 open\n
    "]],
    );
    check(
        "Content-Type: multipart/mixed; boundary=b\n\n--b--\n",
        expect![[r"
        Multipart 1 --b--\n
    "]],
    );
}

#[test]
fn an_outer_boundary_closes_what_is_open_within() {
    check(
        "Content-Type: multipart/mixed; boundary=b\n\n--b\n\
         Content-Type: multipart/alternative; boundary=bb\n\n--bb\n\none\n--b\n\ntwo\n--b--\n",
        expect![[r"
            Multipart 10 …
              Multipart 2 --bb\n\none
                Text 0 one
              Text 0 two
        "]],
    );
}

#[test]
fn the_longest_boundary_wins() {
    check(
        "Content-Type: multipart/mixed; boundary=abc\n\n--abc\n\
         Content-Type: multipart/mixed; boundary=ab\n\n--ab\n\none\n--abc\n\ntwo\n--abc--\n",
        expect![[r"
            Multipart 10 …
              Multipart 2 --ab\n\none
                Text 0 one
              Text 0 two
        "]],
    );
}

#[test]
fn a_boundary_ends_a_header() {
    check(
        "Content-Type: multipart/mixed; boundary=b\n\n--b\nA: c\n--b\n--b\n\ntwo\n--b--\n",
        expect![[r"
            Multipart 7 …
              Text 0 
              Text 0 
              Text 0 two
        "]],
    );
}

#[test]
fn messages_hold_messages() {
    check(
        "Content-Type: message/rfc822\n\nSubject: a\nContent-Type: message/rfc822\n\nTo: b\n\nc\n",
        expect![[r"
            Message 6 …
              Message 3 To: b\n\nc\n
                Text 1 c\n
        "]],
    );
    check(
        "Content-Type: message/delivery-status\n\nA: b\n",
        expect![[r"
        Status 1 A: b\n
    "]],
    );
}

#[test]
fn parts_of_a_digest_are_messages() {
    check(
        "Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: a\n\nb\n--b\n\
         Content-Type: text/x\n\nc\n--b--\n",
        expect![[r"
            Digest 10 …
              Message 2 Subject: a\n\nb
                Text 0 b
              Text 0 c
        "]],
    );
}

#[test]
fn levels_have_a_bound() {
    let mut deep = String::new();
    for level in 0..1_000 {
        write!(deep, "Content-Type: multipart/mixed; boundary=b{level}x\n\n--b{level}x\n").unwrap();
    }
    let tree = Tree::of(deep.as_bytes());
    assert_eq!(tree.parts.len(), MIME_DEPTH_MAX);
    assert_eq!(tree.parts.last().unwrap().kind, Kind::Closed);
    fuzz_mime(deep.as_bytes());
    let deep = "Content-Type: message/rfc822\n\n".repeat(1_000);
    assert_eq!(Tree::of(deep.as_bytes()).parts.last().unwrap().kind, Kind::Closed);
    fuzz_mime(deep.as_bytes());
}

#[test]
fn parts_have_a_bound() {
    let many =
        "Content-Type: multipart/mixed; boundary=b\n\n".to_owned() + &"--b\n\n\n".repeat(12_000);
    let tree = Tree::of(many.as_bytes());
    assert_eq!(tree.parts.len(), MIME_PARTS_MAX);
    assert_eq!(tree.parts.last().unwrap().end, tree.parts[0].end);
    fuzz_mime(many.as_bytes());
}

#[test]
fn keeps_its_laws_on_any_octets() {
    arbtest::arbtest(|u| {
        let len = u.int_in_range(0..=30)?;
        let words = [
            "Content-Type: multipart/mixed; boundary=b\n",
            "Content-Type: multipart/digest; boundary=bb\r\n",
            "Content-Type: message/rfc822\n",
            "--b",
            "--bb",
            "--",
            "\n",
            "\n",
            "\r\n",
            "x",
            "A: b\n",
            " ",
        ];
        let text: String = (0..len).map(|_| u.choose(&words).copied()).collect::<Result<_, _>>()?;
        fuzz_mime(text.as_bytes());
        Ok(())
    });
}

#[test]
fn a_part_without_a_body_has_no_empty_line() {
    // RFC 2046 §5.1.1: the line end before a boundary belongs to the boundary.
    let message = "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: a/b\n\n--b\n\n--b\n--b\n\n\n--b--\n";
    let parts = Tree::of(message.as_bytes()).parts;
    let text = |range| message.get(range).unwrap();
    let texts = parts[1..].iter().map(|part| (text(part.header()), text(part.body())));
    let want = [("Content-Type: a/b\n", ""), ("", ""), ("", ""), ("\n", "")];
    assert_eq!(texts.collect::<Vec<_>>(), want);
    check(
        "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\nA: b\n\n--b--\n",
        expect![[r"
            Multipart 6 …
              Message 1 A: b\n
                Text 0 
        "]],
    );
    check(
        "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\n--b--\n",
        expect![[r"
            Multipart 4 …
              Message 0 
                Text 0 
        "]],
    );
}
