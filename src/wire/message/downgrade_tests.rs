//! Messages made fit for 7 bits, and those that cannot be.

use super::*;
use expect_test::{Expect, expect};

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
fn check(message: &str, want: Expect) {
    let message = message.replace('\n', "\r\n");
    let got = match Plan::of(message.as_bytes()) {
        Ok(plan) => String::from_utf8(to_vec(message.as_bytes(), &plan)).unwrap(),
        Err(cannot) => format!("{cannot:?}: {cannot}"),
    };
    want.assert_eq(&got.replace("\r\n", "\n"));
    fuzz_downgrade(message.as_bytes());
}

#[test]
fn leaves_alone_what_is_fit() {
    check(
        "Subject: a\nContent-Transfer-Encoding: 8bit\n\nbody\n",
        expect![[r"
        Subject: a
        Content-Transfer-Encoding: 8bit

        body
    "]],
    );
    check("", expect![""]);
}

#[test]
fn encodes_text_so_that_it_can_be_read() {
    check(
        "Subject: a\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding:\n 8bit\nX: y\n\nGrüße von\n.hier= \n-- \n",
        expect![[r"
            Subject: a
            MIME-Version: 1.0
            Content-Type: text/plain; charset=utf-8
            Content-Transfer-Encoding: base64
            X: y

            R3LDvMOfZSB2b24NCi5oaWVyPSANCi0tIA0K
        "]],
    );
    check(
        "Subject: a\n\nno charset é, and much else that is plain\n",
        expect![[r"
        Subject: a
        MIME-Version: 1.0
        Content-Type: text/plain; charset=unknown-8bit
        Content-Transfer-Encoding: quoted-printable

        no charset =C3=A9, and much else that is plain
    "]],
    );
    check(
        "Content-Type: text/plain; charset=koi8-r\n\nпривет, как дела\n",
        expect![[r"
        Content-Type: text/plain; charset=koi8-r
        MIME-Version: 1.0
        Content-Transfer-Encoding: base64

        0L/RgNC40LLQtdGCLCDQutCw0Log0LTQtdC70LANCg==
    "]],
    );
    check(
        &format!("Subject: a\n\n{}\n", "long ".repeat(250)),
        expect![[r"
        Subject: a
        MIME-Version: 1.0
        Content-Transfer-Encoding: quoted-printable

        long long long long long long long long long long long long long long long =
        long long long long long long long long long long long long long long long =
        long long long long long long long long long long long long long long long =
        long long long long long long long long long long long long long long long =
        long long long long long long long long long long long long long long long =
        long long long long long long long long long long long long long long long =
        long long long long long long long long long long long long long long long =
        long long long long long long long long long long long long long long long =
        long long long long long long long long long long long long long long long =
        long long long long long long long long long long long long long long long =
        long long long long long long long long long long long long long long long =
        long long long long long long long long long long long long long long long =
        long long long long long long long long long long long long long long long =
        long long long long long long long long long long long long long long long =
        long long long long long long long long long long long long long long long =
        long long long long long long long long long long long long long long long =
        long long long long long long long long long long=20
    "]],
    );
}

#[test]
fn encodes_each_part_that_needs_it() {
    check(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 8bit\n\nпреамбула\n--b\nContent-Type: text/plain; charset=utf-8\n\nein längerer Text, der auf Deutsch ist\n--b\n\nplain\n--b\nContent-Type: image/png\nContent-Transfer-Encoding: binary\n\nÿ\n--b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nSubject: inner\n\nünd\n--b\nContent-Type: multipart/alternative; boundary=bb\n\n--bb\n\né and so on and so forth\n--bb--\n--b--\n",
        expect![[r"
            MIME-Version: 1.0
            Content-Type: multipart/mixed; boundary=b
            Content-Transfer-Encoding: 7bit

            ??????????????????
            --b
            Content-Type: text/plain; charset=utf-8
            Content-Transfer-Encoding: quoted-printable

            ein l=C3=A4ngerer Text, der auf Deutsch ist
            --b

            plain
            --b
            Content-Type: image/png
            Content-Transfer-Encoding: base64

            w78=
            --b
            Content-Type: message/rfc822
            Content-Transfer-Encoding: 7bit

            Subject: inner
            MIME-Version: 1.0
            Content-Type: text/plain; charset=unknown-8bit
            Content-Transfer-Encoding: base64

            w7xuZA==
            --b
            Content-Type: multipart/alternative; boundary=bb

            --bb
            Content-Type: text/plain; charset=unknown-8bit
            Content-Transfer-Encoding: quoted-printable

            =C3=A9 and so on and so forth
            --bb--
            --b--
        "]],
    );
}

#[test]
fn keeps_what_is_encoded_already_in_its_encoding() {
    let base64 = "QUJD".repeat(300);
    check(
        &format!("Content-Transfer-Encoding: base64\n\n{base64}\n"),
        expect![[r"
        Content-Transfer-Encoding: base64
        MIME-Version: 1.0

        QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJD
        QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJD
        QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJD
        QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJD
        QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJD
        QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJD
        QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJD
        QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJD
        QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJD
        QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJD
        QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJD
        QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJD
        QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJD
        QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJD
        QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJD
        QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJD
    "]],
    );
    check(
        "Content-Transfer-Encoding: quoted-printable\n\na=C3=A4 ä\n",
        expect![[r"
        Content-Transfer-Encoding: quoted-printable
        MIME-Version: 1.0
        Content-Type: text/plain; charset=unknown-8bit

        a=C3=A4 =C3=A4
    "]],
    );
    check(
        "Content-Transfer-Encoding: x-uuencode\n\nä\n",
        expect!["Encoding: a part of it has an unknown or broken encoding"],
    );
    check(
        "Content-Transfer-Encoding: base64\n\nQUä\n",
        expect!["Encoding: a part of it has an unknown or broken encoding"],
    );
}

#[test]
fn tells_what_cannot_be_changed() {
    check("Subject: ä\n\na\n", expect!["EightBitHeader: its header has octets over 127"]);
    check(
        "Content-Type: multipart/signed; boundary=b\n\n--b\n\nä\n--b--\n",
        expect!["Signed: it is signed"],
    );
    check(
        "Content-Type: multipart/mixed; boundary=b\n\n--b\nX: ä\n\na\n--b--\n",
        expect!["EightBitHeader: its header has octets over 127"],
    );
    check(
        "Content-Type: multipart/mixed\n\nä\n",
        expect!["Composite: it has a composite part that must not be encoded"],
    );
    check(
        "Content-Type: message/partial\n\nä\n",
        expect!["Composite: it has a composite part that must not be encoded"],
    );
    check(
        "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nä\n",
        expect!["EightBitHeader: its header has octets over 127"],
    );
    check(
        &format!("X: {}\n\na\n", "a".repeat(1_000)),
        expect!["BrokenHeader: its header has lines that cannot be made shorter"],
    );
    // What is signed elsewhere may stay, and what stands beside it may change.
    check(
        "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/signed; boundary=c\n\n--c\n\na\n--c--\n--b\n\nä\n--b--\n",
        expect![[r"
            Content-Type: multipart/mixed; boundary=b

            --b
            Content-Type: multipart/signed; boundary=c

            --c

            a
            --c--
            --b
            Content-Type: text/plain; charset=unknown-8bit
            Content-Transfer-Encoding: base64

            w6Q=
            --b--
        "]],
    );
}

#[test]
fn folds_header_lines_that_are_too_long() {
    let list = "<a@b.example> ".repeat(90);
    check(
        &format!("References: {list}\n\na\n"),
        expect![[r"
        References: <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example>
         <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> 

        a
    "]],
    );
    check(
        &format!("Content-Type: multipart/mixed; boundary=b\n\n--b\nX-Y: {list}\n\na\n--b--\n"),
        expect![[r"
            Content-Type: multipart/mixed; boundary=b

            --b
            X-Y: <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example>
             <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> <a@b.example> 

            a
            --b--
        "]],
    );
}

#[test]
fn takes_binary_parts_apart_from_their_line_ends() {
    let message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: a/b\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\r\n\n\r\xff\r\r\n--b--\r\n";
    let plan = Plan::of(message).unwrap();
    let text = String::from_utf8(to_vec(message, &plan)).unwrap();
    assert!(
        text.contains("Content-Transfer-Encoding: base64\r\n\r\nAA0KCg3/DQ==\r\n--b--\r\n"),
        "{text}"
    );
    fuzz_downgrade(message);
}

#[test]
fn keeps_its_laws_on_any_message() {
    let words = [
        "Content-Type: multipart/mixed; boundary=b\r\n",
        "Content-Type: multipart/signed; boundary=c\r\n",
        "Content-Type: message/rfc822\r\n",
        "Content-Type: text/plain\r\n",
        "Content-Type: a/b\r\n",
        "Content-Transfer-Encoding: base64\r\n",
        "Content-Transfer-Encoding: quoted-printable\r\n",
        "Content-Transfer-Encoding: 8bit\r\n",
        "\r\n",
        "\r\n",
        "\r\n",
        "--b\r\n",
        "--b--\r\n",
        "--c\r\n",
        "--c--\r\n",
        "é",
        "QUJD",
        "=3D=",
        "a b ",
        "\n",
        "\r",
        "\0",
        ".",
        "--",
        "x: y\r\n",
        "MIME-Version: 1.0\r\n",
    ];
    let long = "long word ".repeat(110);
    arbtest::arbtest(|u| {
        let mut message = String::new();
        for _ in 0..u.int_in_range(0..=24)? {
            message.push_str(if u.ratio(1, 30)? { &long } else { u.choose(&words)? });
        }
        fuzz_downgrade(message.as_bytes());
        Ok(())
    });
}
