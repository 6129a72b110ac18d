//! TLS and AUTH.

#![expect(clippy::too_many_lines, reason = "dialogs are shown in full")]

use super::*;
use crate::proto::sasl::Credentials;
use crate::proto::smtp::client::{Login, StartTls};

#[test]
fn begins_anew_behind_starttls_and_drops_what_was_said_ahead() {
    let script = &[
        "220 hi",
        "250-x|250-CHUNKING|250 STARTTLS",
        "220 go|250-evil|250 AUTH PLAIN",
        "250-x|250 PIPELINING",
        "250 a|250 b|354 go",
        "250 kept",
        "221 bye",
    ];
    check_as(
        &profile(),
        &[letter(1)],
        script,
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250-CHUNKING
        S 250 STARTTLS
        C STARTTLS
        S 220 go
        (TLS)
        C EHLO me.example
        S 250-x
        S 250 PIPELINING
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        C DATA
        S 250 a
        S 250 b
        S 354 go
        C A: b
        C 
        C ..
        C .
        S 250 kept
        = delivered: 250 kept
        C QUIT
        S 221 bye
    "]],
    );
}

#[test]
fn goes_on_in_clear_only_where_it_may() {
    let refused = &[
        "220 hi",
        "250-x|250 STARTTLS",
        "454 4.7.0 no",
        "250 a",
        "250 b",
        "354 go",
        "250 kept",
        "221 bye",
    ];
    check_as(
        &profile(),
        &[letter(1)],
        refused,
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 STARTTLS
        C STARTTLS
        S 454 4.7.0 no
        C MAIL FROM:<s@me.example>
        S 250 a
        C RCPT TO:<r1@x.example>
        S 250 b
        C DATA
        S 354 go
        C A: b
        C 
        C ..
        C .
        S 250 kept
        = delivered: 250 kept
        C QUIT
        S 221 bye
    "]],
    );
    let needed = Profile { start_tls: StartTls::Needed, ..profile() };
    check_as(
        &needed,
        &[letter(1)],
        refused,
        expect![[r#"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 STARTTLS
        C STARTTLS
        S 454 4.7.0 no
        trouble Trouble { at: StartTls, kind: Refused, said: Said { code: 454, enhanced: Some(Enhanced(7, 0)), text: "no", by_peer: true } }
    "#]],
    );
    check_as(
        &needed,
        &[letter(1)],
        &["220 hi", "250 x"],
        expect![[r#"
        S 220 hi
        C EHLO me.example
        S 250 x
        trouble Trouble { at: StartTls, kind: NotOffered, said: Said { code: 451, enhanced: Some(Enhanced(7, 10)), text: "server does not offer STARTTLS, which is needed", by_peer: false } }
    "#]],
    );
    check_as(
        &needed,
        &[letter(1)],
        &["220 hi", "500 what", "250 x"],
        expect![[r#"
        S 220 hi
        C EHLO me.example
        S 500 what
        C HELO me.example
        S 250 x
        trouble Trouble { at: StartTls, kind: NotOffered, said: Said { code: 451, enhanced: Some(Enhanced(7, 10)), text: "server does not offer STARTTLS, which is needed", by_peer: false } }
    "#]],
    );
    let never = Profile { start_tls: StartTls::Never, ..profile() };
    check_as(
        &never,
        &[letter(1)],
        &["220 hi", "250-x|250 STARTTLS", "550 no", "221 bye"],
        expect![[r"
            S 220 hi
            C EHLO me.example
            S 250-x
            S 250 STARTTLS
            C MAIL FROM:<s@me.example>
            S 550 no
            = failed: 550 no
            C QUIT
            S 221 bye
        "]],
    );
}

fn user(in_clear: bool) -> Profile {
    let credentials = Credentials::new("user", "pencil");
    Profile { login: Some(Login { credentials, in_clear }), ..profile() }
}

#[test]
fn logs_in_by_the_best_way_that_is_offered() {
    let end = ["250 a", "550 b", "221 bye"];
    let script = |auth: &[&'static str]| [&["220 hi"][..], auth, &end].concat();
    check_as(
        &user(true),
        &[letter(1)],
        &script(&["250-x|250 AUTH PLAIN LOGIN", "235 ok"]),
        expect![[r"
            S 220 hi
            C EHLO me.example
            S 250-x
            S 250 AUTH PLAIN LOGIN
            C AUTH PLAIN AHVzZXIAcGVuY2ls
            S 235 ok
            C MAIL FROM:<s@me.example>
            S 250 a
            C RCPT TO:<r1@x.example>
            S 550 b
            = failed: 550 b
            C QUIT
            S 221 bye
        "]],
    );
    check_as(
        &user(true),
        &[letter(1)],
        &script(&["250-x|250 AUTH LOGIN", "334 VXNlcm5hbWU6", "334 Password please", "235 ok"]),
        expect![[r"
            S 220 hi
            C EHLO me.example
            S 250-x
            S 250 AUTH LOGIN
            C AUTH LOGIN
            S 334 VXNlcm5hbWU6
            C dXNlcg==
            S 334 Password please
            C cGVuY2ls
            S 235 ok
            C MAIL FROM:<s@me.example>
            S 250 a
            C RCPT TO:<r1@x.example>
            S 550 b
            = failed: 550 b
            C QUIT
            S 221 bye
        "]],
    );
    let tls = ["250-x|250 STARTTLS", "220 go", "250-x|250 AUTH PLAIN", "235 ok"];
    check_as(
        &user(false),
        &[letter(1)],
        &script(&tls),
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 STARTTLS
        C STARTTLS
        S 220 go
        (TLS)
        C EHLO me.example
        S 250-x
        S 250 AUTH PLAIN
        C AUTH PLAIN AHVzZXIAcGVuY2ls
        S 235 ok
        C MAIL FROM:<s@me.example>
        S 250 a
        C RCPT TO:<r1@x.example>
        S 550 b
        = failed: 550 b
        C QUIT
        S 221 bye
    "]],
    );
}

#[test]
fn shows_no_password_in_clear_and_none_to_who_does_not_know_it() {
    check_as(
        &user(false),
        &[letter(1)],
        &["220 hi", "250-x|250 AUTH PLAIN LOGIN"],
        expect![[r#"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 AUTH PLAIN LOGIN
        trouble Trouble { at: Login, kind: NotOffered, said: Said { code: 451, enhanced: Some(Enhanced(7, 0)), text: "server offers no way to log in that may be used", by_peer: false } }
    "#]],
    );
    check_as(
        &user(true),
        &[letter(1)],
        &["220 hi", "250 x"],
        expect![[r#"
        S 220 hi
        C EHLO me.example
        S 250 x
        trouble Trouble { at: Login, kind: NotOffered, said: Said { code: 451, enhanced: Some(Enhanced(7, 0)), text: "server offers no way to log in that may be used", by_peer: false } }
    "#]],
    );
    // By SCRAM a server has to show that it knows the password, too.
    check_as(
        &user(false),
        &[letter(1)],
        &["220 hi", "250-x|250 AUTH SCRAM-SHA-256", "235 come in"],
        expect![[r#"
            S 220 hi
            C EHLO me.example
            S 250-x
            S 250 AUTH SCRAM-SHA-256
            C AUTH SCRAM-SHA-256 biwsbj11c2VyLHI9Y25vbmNl
            S 235 come in
            trouble Trouble { at: Login, kind: Protocol, said: Said { code: 451, enhanced: Some(Enhanced(7, 0)), text: "server has not shown that it knows the password", by_peer: false } }
        "#]],
    );
    let challenge = "334 cj1jbm9uY2VYLHM9YzJGc2RBPT0saT0y";
    check_as(
        &user(false),
        &[letter(1)],
        &["220 hi", "250-x|250 AUTH SCRAM-SHA-256", challenge, "235 come in"],
        expect![[r#"
            S 220 hi
            C EHLO me.example
            S 250-x
            S 250 AUTH SCRAM-SHA-256
            C AUTH SCRAM-SHA-256 biwsbj11c2VyLHI9Y25vbmNl
            S 334 cj1jbm9uY2VYLHM9YzJGc2RBPT0saT0y
            C Yz1iaXdzLHI9Y25vbmNlWCxwPTFoMWVNNFkzZDIvTXFFci9tWk8rK1BWRDBSVTNheFJPY0ZJWGl4QUgx
            S 235 come in
            trouble Trouble { at: Login, kind: Protocol, said: Said { code: 451, enhanced: Some(Enhanced(7, 0)), text: "server has not shown that it knows the password", by_peer: false } }
        "#]],
    );
    check_as(
        &user(true),
        &[letter(1)],
        &["220 hi", "250-x|250 AUTH PLAIN", "535 5.7.8 wrong"],
        expect![[r#"
            S 220 hi
            C EHLO me.example
            S 250-x
            S 250 AUTH PLAIN
            C AUTH PLAIN AHVzZXIAcGVuY2ls
            S 535 5.7.8 wrong
            trouble Trouble { at: Login, kind: Refused, said: Said { code: 535, enhanced: Some(Enhanced(7, 8)), text: "wrong", by_peer: true } }
        "#]],
    );
    check_as(
        &user(true),
        &[letter(1)],
        &["220 hi", "250-x|250 AUTH PLAIN", "334 more", "235 x"],
        expect![[r#"
            S 220 hi
            C EHLO me.example
            S 250-x
            S 250 AUTH PLAIN
            C AUTH PLAIN AHVzZXIAcGVuY2ls
            S 334 more
            trouble Trouble { at: Login, kind: Protocol, said: Said { code: 451, enhanced: Some(Enhanced(7, 0)), text: "server does not keep to the way of logging in", by_peer: false } }
        "#]],
    );
}

#[test]
fn holds_back_a_first_message_that_is_too_long_for_its_line() {
    let credentials = Credentials::new("user", &"p".repeat(400));
    let long = Profile { login: Some(Login { credentials, in_clear: true }), ..profile() };
    check_as(
        &long,
        &[letter(1)],
        &["220 hi", "250-x|250 AUTH PLAIN", "334 ", "535 no"],
        expect![[r#"
            S 220 hi
            C EHLO me.example
            S 250-x
            S 250 AUTH PLAIN
            C AUTH PLAIN
            S 334 
            C AHVzZXIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBw
            S 535 no
            trouble Trouble { at: Login, kind: Refused, said: Said { code: 535, enhanced: None, text: "no", by_peer: true } }
        "#]],
    );
}
