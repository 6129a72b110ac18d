//! Servers that are out of their minds.

#![expect(clippy::too_many_lines, reason = "dialogs are shown in full")]

use super::*;

#[test]
fn gives_up_on_who_never_says_hello() {
    check(
        1,
        &["SLEEP"],
        expect![[r#"
        trouble Trouble { at: Greeting, kind: TimedOut, said: Said { code: 451, enhanced: Some(Enhanced(4, 2)), text: "timed out while waiting for the greeting", by_peer: false } }
    "#]],
    );
    check(
        1,
        &["EOF"],
        expect![[r#"
        trouble Trouble { at: Greeting, kind: Dropped, said: Said { code: 451, enhanced: Some(Enhanced(4, 2)), text: "connection lost while waiting for the greeting", by_peer: false } }
    "#]],
    );
    check(
        1,
        &["554 5.7.1 go away"],
        expect![[r#"
        S 554 5.7.1 go away
        trouble Trouble { at: Greeting, kind: Refused, said: Said { code: 554, enhanced: Some(Enhanced(7, 1)), text: "go away", by_peer: true } }
    "#]],
    );
    check(
        1,
        &["HTTP/1.1 400 Bad Request||"],
        expect![[r#"
        trouble Trouble { at: Greeting, kind: Protocol, said: Said { code: 451, enhanced: Some(Enhanced(5, 0)), text: "answer of the server has a line without a code", by_peer: false } }
    "#]],
    );
}

#[test]
fn heeds_421_at_any_time() {
    check(
        2,
        &["220 hi", PIPELINING, "250 a|550 1|421 4.3.2 going down"],
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 PIPELINING
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        C RCPT TO:<r2@x.example>
        C DATA
        S 250 a
        S 550 1
        S 421 4.3.2 going down
        = failed: 550 1
        = deferred: 421 4.3.2 going down
        Closing at Rcpt: 421 4.3.2 going down
    "]],
    );
    check(
        1,
        &["220 hi", PIPELINING, "250 a|250 1|354 go", "421 4.3.2 going down"],
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 PIPELINING
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        C DATA
        S 250 a
        S 250 1
        S 354 go
        C A: b
        C 
        C ..
        C .
        S 421 4.3.2 going down
        = deferred: 421 4.3.2 going down
        Closing at Message: 421 4.3.2 going down
    "]],
    );
    // Between two messages: nothing was sent, nothing is lost.
    check_as(
        &profile(),
        &[letter(1), letter(1)],
        &["220 hi", PIPELINING, "250 a|250 1|354 go", "250 kept|421 idle"],
        expect![[r"
            S 220 hi
            C EHLO me.example
            S 250-x
            S 250 PIPELINING
            C MAIL FROM:<s@me.example>
            C RCPT TO:<r1@x.example>
            C DATA
            S 250 a
            S 250 1
            S 354 go
            C A: b
            C 
            C ..
            C .
            S 250 kept
            = delivered: 250 kept
            S 421 idle
            = deferred: 421 idle
            Closing at Mail: 421 idle
        "]],
    );
}

#[test]
fn counts_an_unanswered_message_as_not_delivered() {
    check(
        1,
        &["220 hi", PIPELINING, "250 a|250 1|354 go", "EOF"],
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 PIPELINING
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        C DATA
        S 250 a
        S 250 1
        S 354 go
        C A: b
        C 
        C ..
        C .
        = deferred: 451 4.4.2 connection lost while waiting for the answer to the message
        Dropped at Message: 451 4.4.2 connection lost while waiting for the answer to the message
    "]],
    );
    check(
        1,
        &["220 hi", PIPELINING, "250 a|250 1|354 go", "SLEEP"],
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 PIPELINING
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        C DATA
        S 250 a
        S 250 1
        S 354 go
        C A: b
        C 
        C ..
        C .
        = deferred: 451 4.4.2 timed out while waiting for the answer to the message
        TimedOut at Message: 451 4.4.2 timed out while waiting for the answer to the message
    "]],
    );
    check(
        1,
        &["220 hi", CHUNKING, "250 a|250 1", "EOF"],
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250-CHUNKING
        S 250 PIPELINING
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        C BDAT 11 LAST
        C A: b
        C 
        C .
        S 250 a
        S 250 1
        = deferred: 451 4.4.2 connection lost while waiting for the answer to the message
        Dropped at Message: 451 4.4.2 connection lost while waiting for the answer to the message
    "]],
    );
}

#[test]
fn trusts_no_server_that_answers_once_too_often() {
    check(
        1,
        &["220 hi", PIPELINING, "250 a|250 1|250 1|354 go"],
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 PIPELINING
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        C DATA
        S 250 a
        S 250 1
        S 250 1
        = deferred: 451 4.5.0 senseless answer while waiting for the answer to DATA: 250 1
        Protocol at Data: 451 4.5.0 senseless answer while waiting for the answer to DATA: 250 1
    "]],
    );
    check_as(
        &profile(),
        &[letter(1), letter(1)],
        &["220 hi", PIPELINING, "250 a|250 1|354 go", "250 kept|250 kept"],
        expect![[r"
            S 220 hi
            C EHLO me.example
            S 250-x
            S 250 PIPELINING
            C MAIL FROM:<s@me.example>
            C RCPT TO:<r1@x.example>
            C DATA
            S 250 a
            S 250 1
            S 354 go
            C A: b
            C 
            C ..
            C .
            S 250 kept
            = delivered: 250 kept
            S 250 kept
            = deferred: 451 4.5.0 senseless answer while waiting for the answer to MAIL: 250 kept
            Protocol at Mail: 451 4.5.0 senseless answer while waiting for the answer to MAIL: 250 kept
        "]],
    );
}

#[test]
fn gives_up_on_answers_that_mean_nothing() {
    check(
        1,
        &["220 hi", PIPELINING, "250-a|251 b"],
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 PIPELINING
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        C DATA
        = deferred: 451 4.5.0 answer of the server changes its code
        Protocol at Mail: 451 4.5.0 answer of the server changes its code
    "]],
    );
    check(
        1,
        &["220 hi", PIPELINING, "250 a|354 1"],
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 PIPELINING
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        C DATA
        S 250 a
        S 354 1
        = deferred: 451 4.5.0 senseless answer while waiting for the answer to RCPT: 354 1
        Protocol at Rcpt: 451 4.5.0 senseless answer while waiting for the answer to RCPT: 354 1
    "]],
    );
    check(
        1,
        &["220 hi", PIPELINING, "250 a|250 1|199 what"],
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 PIPELINING
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        C DATA
        S 250 a
        S 250 1
        S 199 what
        = deferred: 451 4.5.0 senseless answer while waiting for the answer to DATA: 199 what
        Protocol at Data: 451 4.5.0 senseless answer while waiting for the answer to DATA: 199 what
    "]],
    );
    check(
        1,
        &["220 hi", PIPELINING, "250 a|250 1|354 go", "354 go on"],
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 PIPELINING
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        C DATA
        S 250 a
        S 250 1
        S 354 go
        C A: b
        C 
        C ..
        C .
        S 354 go on
        = deferred: 451 4.5.0 senseless answer while waiting for the answer to the message: 354 go on
        Protocol at Message: 451 4.5.0 senseless answer while waiting for the answer to the message: 354 go on
    "]],
    );
    check(
        1,
        &["220 hi", PIPELINING, "250 a|250 1|354 go", "650 x"],
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 PIPELINING
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        C DATA
        S 250 a
        S 250 1
        S 354 go
        C A: b
        C 
        C ..
        C .
        S 650 x
        = deferred: 451 4.5.0 senseless answer while waiting for the answer to the message: 650 x
        Protocol at Message: 451 4.5.0 senseless answer while waiting for the answer to the message: 650 x
    "]],
    );
    check(
        1,
        &["220 hi", "354 x"],
        expect![[r#"
        S 220 hi
        C EHLO me.example
        S 354 x
        trouble Trouble { at: Hello, kind: Protocol, said: Said { code: 451, enhanced: Some(Enhanced(5, 0)), text: "senseless answer while waiting for the answer to EHLO: 354 x", by_peer: false } }
    "#]],
    );
}

#[test]
fn gives_up_on_answers_without_end() {
    let long = format!("250 {}", "a".repeat(1 << 20));
    check(
        1,
        &["220 hi", PIPELINING, &long],
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 PIPELINING
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        C DATA
        = deferred: 451 4.5.0 answer of the server does not end
        Protocol at Mail: 451 4.5.0 answer of the server does not end
    "]],
    );
    let endless = "250-a|".repeat(100_000);
    check(
        1,
        &["220 hi", &endless],
        expect![[r#"
        S 220 hi
        C EHLO me.example
        trouble Trouble { at: Hello, kind: Protocol, said: Said { code: 451, enhanced: Some(Enhanced(5, 0)), text: "answer of the server does not end", by_peer: false } }
    "#]],
    );
}
