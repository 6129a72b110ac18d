//! What a server offers, and what it limits.

#![expect(clippy::too_many_lines, reason = "dialogs are shown in full")]

use super::*;
use crate::model::limits::COMMANDS_IN_FLIGHT_MAX;
use crate::wire::smtp::later::By;
use crate::wire::smtp::param::{Body, Notify, Ret};
use std::slice::from_ref;

#[test]
fn passes_on_what_is_offered_and_leaves_out_the_rest() {
    let full = Letter {
        params: MailParams {
            body: Body::EightBit,
            ret: Some(Ret::Headers),
            envid: Some("id+2B1"),
            by: Some(By { seconds: 60, returns: false, traces: true }),
            priority: Some(-3),
            ..letter(1).params
        },
        rcpt_params: RcptParams {
            notify: Some(Notify { success: true, ..Notify::default() }),
            orcpt: Some("utf-8;и@b.example"),
        },
        ..letter(1)
    };
    let all = "250-x|250-SIZE 1000|250-8BITMIME|250-DSN|250-DELIVERBY|250 MT-PRIORITY";
    check_as(
        &profile(),
        from_ref(&full),
        &["220 hi", all, "250 a", "550 b", "221 bye"],
        expect![[r"
            S 220 hi
            C EHLO me.example
            S 250-x
            S 250-SIZE 1000
            S 250-8BITMIME
            S 250-DSN
            S 250-DELIVERBY
            S 250 MT-PRIORITY
            C MAIL FROM:<s@me.example> SIZE=11 BODY=8BITMIME RET=HDRS ENVID=id+2B1 BY=60;NT MT
            S 250 a
            C RCPT TO:<r1@x.example> NOTIFY=SUCCESS ORCPT=utf-8;\\x{438}@b.example
            S 550 b
            = failed: 550 b
            C QUIT
            S 221 bye
        "]],
    );
    let dsn = "250-x|250-8BITMIME|250 DSN";
    check_as(
        &profile(),
        from_ref(&full),
        &["220 hi", dsn, "250 a", "550 b", "221 bye"],
        expect![[r"
            S 220 hi
            C EHLO me.example
            S 250-x
            S 250-8BITMIME
            S 250 DSN
            C MAIL FROM:<s@me.example> BODY=8BITMIME RET=HDRS ENVID=id+2B1
            S 250 a
            C RCPT TO:<r1@x.example> NOTIFY=SUCCESS,DELAY ORCPT=utf-8;\\x{438}@b.example
            S 550 b
            = failed: 550 b
            C QUIT
            S 221 bye
        "]],
    );
    check_as(
        &profile(),
        from_ref(&full),
        &["220 hi", "250-x|250 8BITMIME", "250 a", "550 b", "221 bye"],
        expect![[r"
            S 220 hi
            C EHLO me.example
            S 250-x
            S 250 8BITMIME
            C MAIL FROM:<s@me.example> BODY=8BITMIME
            S 250 a
            C RCPT TO:<r1@x.example>
            S 550 b
            = failed: 550 b
            C QUIT
            S 221 bye
        "]],
    );
    check_as(
        &profile(),
        &[full],
        &["220 hi", "250-x|250 SMTPUTF8", "221 bye"],
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 SMTPUTF8
        = unfit: 554 5.6.3 server does not take octets of this kind, and the message has them
        C QUIT
        S 221 bye
    "]],
    );
}

#[test]
fn does_not_send_what_the_server_cannot_take() {
    let check = |params: MailParams<'static>, offers: &str, want: Expect| {
        let size = letter(1).params.size;
        let mail = Letter { params: MailParams { size, ..params }, ..letter(1) };
        check_as(&profile(), &[mail], &["220 hi", offers, "221 bye"], want);
    };
    let params = MailParams::default;
    check(
        params(),
        "250-x|250 SIZE 5",
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 SIZE 5
        = unfit: 552 5.3.4 message is larger than the server takes
        C QUIT
        S 221 bye
    "]],
    );
    check(
        MailParams { body: Body::Binary, ..params() },
        CHUNKING,
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250-CHUNKING
        S 250 PIPELINING
        = unfit: 554 5.6.3 server does not take octets of this kind, and the message has them
        C QUIT
        S 221 bye
    "]],
    );
    check(
        MailParams { utf8: true, ..params() },
        PIPELINING,
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 PIPELINING
        = unfit: 554 5.6.9 server takes no header in UTF-8 (SMTPUTF8)
        C QUIT
        S 221 bye
    "]],
    );
    check(
        MailParams { require_tls: true, ..params() },
        "250-x|250 REQUIRETLS",
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 REQUIRETLS
        = unfit: 550 5.7.10 message requires TLS, which is not there
        C QUIT
        S 221 bye
    "]],
    );
    let by = |seconds| Some(By { seconds, returns: true, traces: false });
    check(
        MailParams { by: by(60), ..params() },
        PIPELINING,
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 PIPELINING
        = unfit: 554 5.4.7 server does not promise to deliver in time
        C QUIT
        S 221 bye
    "]],
    );
    check(
        MailParams { by: by(60), ..params() },
        "250-x|250 DELIVERBY 61",
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 DELIVERBY 61
        = unfit: 554 5.4.7 server does not promise to deliver in time
        C QUIT
        S 221 bye
    "]],
    );
    check(
        MailParams { by: by(0), ..params() },
        "250-x|250 DELIVERBY",
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250 DELIVERBY
        = unfit: 554 5.4.7 server does not promise to deliver in time
        C QUIT
        S 221 bye
    "]],
    );
}

/// RFC 8689 §5.
#[test]
fn a_report_goes_on_where_nobody_can_be_asked_for_tls() {
    let params = MailParams { require_tls: true, ..MailParams::default() };
    let report = Letter { sender: None, params, ..letter(1) };
    check_as(
        &profile(),
        &[report],
        &["220 hi", "250-x|250 REQUIRETLS", "250 a", "550 b", "221 bye"],
        expect![[r"
            S 220 hi
            C EHLO me.example
            S 250-x
            S 250 REQUIRETLS
            C MAIL FROM:<>
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
fn asks_for_utf8_only_where_somebody_needs_it() {
    let utf8 = || Letter {
        recipients: vec![
            Address::from_parts("a", "x.example"),
            Address::from_parts("и", "x.example"),
        ],
        ..letter(1)
    };
    let script = &[
        "220 hi",
        "250-x|250-PIPELINING|250-8BITMIME|250 SMTPUTF8",
        "250 a|250 b|250 c|354 go",
        "250 kept",
        "221 bye",
    ];
    check_as(
        &profile(),
        &[utf8()],
        script,
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250-PIPELINING
        S 250-8BITMIME
        S 250 SMTPUTF8
        C MAIL FROM:<s@me.example> SMTPUTF8
        C RCPT TO:<a@x.example>
        C RCPT TO:<\xd0\xb8@x.example>
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
    check_as(
        &profile(),
        &[letter(1)],
        &["220 hi", "250-x|250 SMTPUTF8", "550 a", "221 bye"],
        expect![[r"
            S 220 hi
            C EHLO me.example
            S 250-x
            S 250 SMTPUTF8
            C MAIL FROM:<s@me.example>
            S 550 a
            = failed: 550 a
            C QUIT
            S 221 bye
        "]],
    );
    // Without it the one recipient is left out, and the other is served.
    check_as(
        &profile(),
        &[utf8()],
        &["220 hi", PIPELINING, "250 a|250 b|354 go", "250 kept", "221 bye"],
        expect![[r"
            S 220 hi
            C EHLO me.example
            S 250-x
            S 250 PIPELINING
            C MAIL FROM:<s@me.example>
            C RCPT TO:<a@x.example>
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
            = unfit: 553 5.6.7 server takes no recipient in UTF-8 (SMTPUTF8)
            C QUIT
            S 221 bye
        "]],
    );
}

#[test]
fn splits_recipients_as_the_limits_say() {
    let limits = "250-x|250-PIPELINING|250 LIMITS RCPTMAX=2 MAILMAX=1";
    let script = &["220 hi", limits, "250 a|250 b|250 c|354 go", "250 kept", "221 bye"];
    check_as(
        &profile(),
        &[letter(3), letter(1)],
        script,
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250-PIPELINING
        S 250 LIMITS RCPTMAX=2 MAILMAX=1
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
        = again
        C QUIT
        S 221 bye
    "]],
    );
}

#[test]
fn keeps_to_the_domains_of_a_session() {
    let address = |domain| Address::from_parts("a", domain);
    let two = Letter { recipients: vec![address("x.example"), address("y.example")], ..letter(1) };
    let limits = "250-x|250-PIPELINING|250 LIMITS RCPTDOMAINMAX=1";
    let script = &["220 hi", limits, "250 a|250 b|354 go", "250 kept", "221 bye"];
    check_as(
        &profile(),
        &[two, letter(1)],
        script,
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250-x
        S 250-PIPELINING
        S 250 LIMITS RCPTDOMAINMAX=1
        C MAIL FROM:<s@me.example>
        C RCPT TO:<a@x.example>
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
        = again
        C QUIT
        S 221 bye
    "]],
    );
}

#[test]
fn tells_too_many_recipients_from_those_that_are_refused() {
    // RFC 5321 §4.5.3.1.10: 552 as 452; what says that it is something else is believed.
    let script = &[
        "220 hi",
        PIPELINING,
        "250 a|250 1|552 2|452 4.5.3 3|452 4.2.2 4|552 5.2.2 5|354 go",
        "250 kept",
        "221 bye",
    ];
    check(
        5,
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
        C RCPT TO:<r4@x.example>
        C RCPT TO:<r5@x.example>
        C DATA
        S 250 a
        S 250 1
        S 552 2
        S 452 4.5.3 3
        S 452 4.2.2 4
        S 552 5.2.2 5
        S 354 go
        C A: b
        C 
        C ..
        C .
        S 250 kept
        = delivered: 250 kept
        = again
        = again
        = deferred: 452 4.2.2 4
        = failed: 552 5.2.2 5
        C QUIT
        S 221 bye
    "]],
    );
    // Nobody was taken before: it is the recipient that is meant.
    check(
        2,
        &["220 hi", "250 x", "250 a", "452 1", "552 2", "221 bye"],
        expect![[r"
        S 220 hi
        C EHLO me.example
        S 250 x
        C MAIL FROM:<s@me.example>
        S 250 a
        C RCPT TO:<r1@x.example>
        S 452 1
        C RCPT TO:<r2@x.example>
        S 552 2
        = deferred: 452 1
        = failed: 552 2
        C QUIT
        S 221 bye
    "]],
    );
    // Who is one too many is not the last: no further one is asked for.
    check(
        4,
        &["220 hi", "250 x", "250 a", "250 1", "452 4.5.3 2", "354 go", "250 kept", "221 bye"],
        expect![[r"
            S 220 hi
            C EHLO me.example
            S 250 x
            C MAIL FROM:<s@me.example>
            S 250 a
            C RCPT TO:<r1@x.example>
            S 250 1
            C RCPT TO:<r2@x.example>
            S 452 4.5.3 2
            C DATA
            S 354 go
            C A: b
            C 
            C ..
            C .
            S 250 kept
            = delivered: 250 kept
            = again
            = again
            = again
            C QUIT
            S 221 bye
        "]],
    );
}

#[test]
fn writes_ahead_no_more_than_it_may() {
    let many = letter(COMMANDS_IN_FLIGHT_MAX * 2);
    let octets: Vec<Vec<u8>> =
        vec![b"220 hi\r\n".into(), b"250-x\r\n250 PIPELINING\r\n".into(), b"250 a\r\n".repeat(10)];
    let turns: Vec<Act<'_>> = octets.iter().map(|octets| Act::Say(octets)).collect();
    let mut replay = Replay::new(profile(), &turns, usize::MAX);
    let (verdicts, trouble) = replay.run(&[many]);
    assert_eq!(verdicts[0].len(), COMMANDS_IN_FLIGHT_MAX * 2);
    assert!(trouble.is_some());
    let commands =
        replay.sent.split(|&octet| octet == b'\n').filter(|line| line.starts_with(b"RCPT")).count();
    assert_eq!(commands, COMMANDS_IN_FLIGHT_MAX - 1);
}
