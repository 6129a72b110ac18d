//! Servers that do all as it is written.

#![expect(clippy::too_many_lines, reason = "dialogs are shown in full")]

use super::*;
use crate::model::limits::CHUNK_AHEAD_OCTETS_MAX;
use std::slice::from_ref;

#[test]
fn goes_step_by_step_where_nothing_is_offered() {
    check(
        2,
        &["220 hi", "250 x", "250 a", "250 b", "250 c", "354 go", "250 2.0.0 kept", "221 bye"],
        expect![[r"
            S 220 hi
            C EHLO me.example
            S 250 x
            C MAIL FROM:<s@me.example>
            S 250 a
            C RCPT TO:<r1@x.example>
            S 250 b
            C RCPT TO:<r2@x.example>
            S 250 c
            C DATA
            S 354 go
            C A: b
            C 
            C ..
            C .
            S 250 2.0.0 kept
            = delivered: 250 2.0.0 kept
            = delivered: 250 2.0.0 kept
            C QUIT
            S 221 bye
        "]],
    );
}

#[test]
fn sends_commands_ahead_of_answers() {
    check(
        2,
        &["220 hi", PIPELINING, "250 a|250 b|250 c|354 go", "250 kept", "221 bye"],
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
            S 250 b
            S 250 c
            S 354 go
            C A: b
            C 
            C ..
            C .
            S 250 kept
            = delivered: 250 kept
            = delivered: 250 kept
            C QUIT
            S 221 bye
        "]],
    );
}

#[test]
fn sends_small_messages_in_chunks_with_their_envelope() {
    check(
        2,
        &["220 hi", CHUNKING, "250 a|250 b|250 c|250 kept", "221 bye"],
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250-CHUNKING
        S 250 PIPELINING
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        C RCPT TO:<r2@x.example>
        C BDAT 11 LAST
        C A: b
        C 
        C .
        S 250 a
        S 250 b
        S 250 c
        S 250 kept
        = delivered: 250 kept
        = delivered: 250 kept
        C QUIT
        S 221 bye
    "]],
    );
}

#[test]
fn waits_for_a_recipient_before_it_sends_a_large_chunk() {
    let large = Letter {
        params: MailParams { size: Some(CHUNK_AHEAD_OCTETS_MAX + 1), ..MailParams::default() },
        ..letter(1)
    };
    let script = &["220 hi", CHUNKING, "250 a|250 b", "250 kept", "221 bye"];
    check_as(
        &profile(),
        from_ref(&large),
        script,
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250-CHUNKING
        S 250 PIPELINING
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        S 250 a
        S 250 b
        C BDAT 32769 LAST
        C A: b
        C 
        C .
        S 250 kept
        = delivered: 250 kept
        C QUIT
        S 221 bye
    "]],
    );
    check_as(
        &profile(),
        &[large],
        &["220 hi", CHUNKING, "250 a|550 b", "221 bye"],
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250-CHUNKING
        S 250 PIPELINING
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        S 250 a
        S 550 b
        = failed: 550 b
        C QUIT
        S 221 bye
    "]],
    );
}

#[test]
fn hears_an_answer_for_each_recipient_by_lmtp() {
    let script = &[
        "220 hi",
        CHUNKING,
        "250 a|250 b|550 5.1.1 c|250 d|354 go",
        "250 one|452 4.2.2 two",
        "221 bye",
    ];
    check_as(
        &lmtp(),
        &[letter(3)],
        script,
        expect![[r"
        S 220 hi
        C LHLO me.example
        S 250-x
        S 250-CHUNKING
        S 250 PIPELINING
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        C RCPT TO:<r2@x.example>
        C RCPT TO:<r3@x.example>
        C DATA
        S 250 a
        S 250 b
        S 550 5.1.1 c
        S 250 d
        S 354 go
        C A: b
        C 
        C ..
        C .
        S 250 one
        S 452 4.2.2 two
        = delivered: 250 one
        = failed: 550 5.1.1 c
        = deferred: 452 4.2.2 two
        C QUIT
        S 221 bye
    "]],
    );
}

#[test]
fn tells_lmtp_recipients_apart_that_were_not_answered_for() {
    let script = &["220 hi", PIPELINING, "250 a|250 b|250 c|354 go", "250 one", "EOF"];
    check_as(
        &lmtp(),
        &[letter(2)],
        script,
        expect![[r"
        S 220 hi
        C LHLO me.example
        S 250-x
        S 250 PIPELINING
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        C RCPT TO:<r2@x.example>
        C DATA
        S 250 a
        S 250 b
        S 250 c
        S 354 go
        C A: b
        C 
        C ..
        C .
        S 250 one
        = delivered: 250 one
        = deferred: 451 4.4.2 connection lost while waiting for the answer to the message
        Dropped at Message: 451 4.4.2 connection lost while waiting for the answer to the message
    "]],
    );
}

#[test]
fn falls_back_to_helo_where_ehlo_is_not_known_alone() {
    check(
        1,
        &["220 hi", "502 what", "250 x", "250 a", "250 b", "354 go", "250 kept", "221 bye"],
        expect![[r"
            S 220 hi
            C EHLO me.example
            S 502 what
            C HELO me.example
            S 250 x
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
    check(
        1,
        &["220 hi", "550 not you"],
        expect![[r#"
        S 220 hi
        C EHLO me.example
        S 550 not you
        trouble Trouble { at: Hello, kind: Refused, said: Said { code: 550, enhanced: None, text: "not you", by_peer: true } }
    "#]],
    );
    check(
        1,
        &["220 hi", "421 not now"],
        expect![[r#"
        S 220 hi
        C EHLO me.example
        S 421 not now
        trouble Trouble { at: Hello, kind: Closing, said: Said { code: 421, enhanced: None, text: "not now", by_peer: true } }
    "#]],
    );
    check_as(
        &lmtp(),
        &[letter(1)],
        &["220 hi", "500 what"],
        expect![[r#"
        S 220 hi
        C LHLO me.example
        S 500 what
        trouble Trouble { at: Hello, kind: Refused, said: Said { code: 500, enhanced: None, text: "what", by_peer: true } }
    "#]],
    );
}

#[test]
fn keeps_one_session_for_several_messages() {
    let script = &["220 hi", CHUNKING, "250 a|250 b|250 kept", "250 a|250 b|250 kept", "221 bye"];
    check_as(
        &profile(),
        &[letter(1), letter(1)],
        script,
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
        S 250 b
        S 250 kept
        = delivered: 250 kept
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        C BDAT 11 LAST
        C A: b
        C 
        C .
        S 250 a
        S 250 b
        S 250 kept
        = delivered: 250 kept
        C QUIT
        S 221 bye
    "]],
    );
}

#[test]
fn keeps_the_verdicts_of_one_transaction_apart() {
    let script = &[
        "220 hi",
        PIPELINING,
        "250 a|250 1|450 4.2.1 2|550 5.1.1 3|354 go",
        "451 4.3.0 later",
        "221 bye",
    ];
    check(
        3,
        script,
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 PIPELINING
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        C RCPT TO:<r2@x.example>
        C RCPT TO:<r3@x.example>
        C DATA
        S 250 a
        S 250 1
        S 450 4.2.1 2
        S 550 5.1.1 3
        S 354 go
        C A: b
        C 
        C ..
        C .
        S 451 4.3.0 later
        = deferred: 451 4.3.0 later
        = deferred: 450 4.2.1 2
        = failed: 550 5.1.1 3
        C QUIT
        S 221 bye
    "]],
    );
}

#[test]
fn sends_the_dot_alone_where_nobody_is_left() {
    let script = &["220 hi", PIPELINING, "250 a|550 1|550 2|354 go", "554 nobody", "221 bye"];
    check(
        2,
        script,
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
        S 550 2
        S 354 go
        C .
        S 554 nobody
        = failed: 550 1
        = failed: 550 2
        C QUIT
        S 221 bye
    "]],
    );
    check(
        2,
        &["220 hi", PIPELINING, "550 a|503 1|503 2|354 go", "554 nobody", "221 bye"],
        expect![[r"
            S 220 hi
            C EHLO me.example
            S 250-x
            S 250 PIPELINING
            C MAIL FROM:<s@me.example>
            C RCPT TO:<r1@x.example>
            C RCPT TO:<r2@x.example>
            C DATA
            S 550 a
            S 503 1
            S 503 2
            S 354 go
            C .
            S 554 nobody
            = failed: 550 a
            = failed: 550 a
            C QUIT
            S 221 bye
        "]],
    );
}

#[test]
fn resets_before_the_next_where_a_transaction_was_left_open() {
    let two = [letter(1), letter(1)];
    let script = &[
        "220 hi",
        PIPELINING,
        "250 a|550 1|503 none",
        "250 reset|250 a|250 1|354 go",
        "250 kept",
        "221 bye",
    ];
    check_as(
        &profile(),
        &two,
        script,
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 PIPELINING
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        C DATA
        S 250 a
        S 550 1
        S 503 none
        = failed: 550 1
        C RSET
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        C DATA
        S 250 reset
        S 250 a
        S 250 1
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
    let script =
        &["220 hi", CHUNKING, "250 a|250 1|452 full", "250 reset|250 a|250 1|250 kept", "221 bye"];
    check_as(
        &profile(),
        &two,
        script,
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
        S 452 full
        = deferred: 452 full
        C RSET
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        C BDAT 11 LAST
        C A: b
        C 
        C .
        S 250 reset
        S 250 a
        S 250 1
        S 250 kept
        = delivered: 250 kept
        C QUIT
        S 221 bye
    "]],
    );
    let script = &["220 hi", "250 x", "250 a", "550 1", "250 reset", "250 a", "450 1", "221 bye"];
    check_as(
        &profile(),
        &two,
        script,
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250 x
        C MAIL FROM:<s@me.example>
        S 250 a
        C RCPT TO:<r1@x.example>
        S 550 1
        = failed: 550 1
        C RSET
        S 250 reset
        C MAIL FROM:<s@me.example>
        S 250 a
        C RCPT TO:<r1@x.example>
        S 450 1
        = deferred: 450 1
        C QUIT
        S 221 bye
    "]],
    );
    // A message that was refused as a whole leaves nothing open.
    let script = &[
        "220 hi",
        PIPELINING,
        "250 a|250 1|354 go",
        "554 spam",
        "250 a|550 1|554 none",
        "221 bye",
    ];
    check_as(
        &profile(),
        &two,
        script,
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
        S 554 spam
        = failed: 554 spam
        C MAIL FROM:<s@me.example>
        C RCPT TO:<r1@x.example>
        C DATA
        S 250 a
        S 550 1
        S 554 none
        = failed: 550 1
        C QUIT
        S 221 bye
    "]],
    );
}

#[test]
fn stops_a_message_that_is_refused_before_its_end() {
    check(
        1,
        &["220 hi", PIPELINING, "250 a|250 1|354 go|552 5.3.4 too large"],
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
        S 552 5.3.4 too large
        = failed: 552 5.3.4 too large
        Refused at Block: 552 5.3.4 too large
    "]],
    );
    check(
        1,
        &["220 hi", PIPELINING, "250 a|250 1|354 go|250 thanks"],
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
        S 250 thanks
        = deferred: 451 4.5.0 senseless answer while sending the message: 250 thanks
        Protocol at Block: 451 4.5.0 senseless answer while sending the message: 250 thanks
    "]],
    );
}

#[test]
fn asks_again_after_a_sender_was_refused() {
    let script = &["220 hi", "250 x", "550 a", "250 a", "250 1", "354 go", "250 kept", "221 bye"];
    check_as(
        &profile(),
        &[letter(1), letter(1)],
        script,
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250 x
        C MAIL FROM:<s@me.example>
        S 550 a
        = failed: 550 a
        C MAIL FROM:<s@me.example>
        S 250 a
        C RCPT TO:<r1@x.example>
        S 250 1
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
}
