//! Reports of every kind, and held to what every report has to be.

use super::*;
use crate::wire::message::mime::{Tree, children};
use expect_test::{Expect, expect};

const HEADER: &str = "From: a@local.example\r\nMessage-ID: <x@local.example>\r\nSubject: x\r\n\r\n";

/// A report with one recipient of each fate that is asked for.
struct Case {
    sender: Address,
    recipients: Vec<(Address, Option<&'static str>)>,
    header: Vec<u8>,
    body: Option<Vec<u8>>,
    ret: Option<Ret>,
    require_tls: bool,
    by: Option<u32>,
    hold: Option<Hold>,
}

impl Case {
    fn new() -> Case {
        Case {
            sender: Address::from_parts("a", "local.example"),
            recipients: vec![(Address::from_parts("b", "x.example"), None)],
            header: HEADER.into(),
            body: Some(b"text\r\n".to_vec()),
            ret: None,
            require_tls: false,
            by: None,
            hold: None,
        }
    }

    fn compose(&self, fates: &[(Fate, Option<&str>, Option<Said<'_>>)]) -> Composed {
        let recipients: Vec<Reported<'_>> = fates
            .iter()
            .enumerate()
            .map(|(index, &(fate, remote, said))| {
                let (address, orcpt) = &self.recipients[index.min(self.recipients.len() - 1)];
                Reported {
                    address,
                    orcpt: *orcpt,
                    fate,
                    said,
                    remote,
                    attempted: Some(1_795_579_860),
                }
            })
            .collect();
        let report = Report {
            sender: &self.sender,
            envid: Some("QQ+2B1"),
            ret: self.ret,
            require_tls: self.require_tls,
            arrived: 1_795_579_800,
            by: self.by,
            hold: self.hold,
            id: "1.0.1",
            recipients: &recipients,
            header: &self.header,
            body: self.body.as_deref(),
        };
        report.compose("mx.local.example", "1.0.2", 1_795_579_879)
    }
}

/// The report, held to what every report has to be.
fn octets(composed: &Composed) -> Vec<u8> {
    let octets = composed.parts.concat();
    assert!(octets.split(|octet| *octet == b'\n').all(|line| line.len() <= 999));
    assert_ne!(kind_of(&octets), Kind::Binary);
    assert_eq!(composed.is_8bit, !octets.is_ascii());
    let tree = Tree::of(&octets);
    assert_eq!(children(&tree.parts, 0).count(), 3, "{}", octets.escape_ascii());
    octets
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
fn check(composed: &Composed, want: Expect) {
    let text = String::from_utf8(octets(composed)).unwrap();
    want.assert_eq(&text.replace("\r\n", "\n"));
}

fn holds(composed: &Composed, parts: &[&str]) {
    let octets = octets(composed);
    for part in parts {
        let is_there = memchr::memmem::find(&octets, part.as_bytes()).is_some();
        assert!(is_there, "{part} in {}", String::from_utf8_lossy(&octets));
    }
}

const UNKNOWN: Said<'_> = Said { code: 550, enhanced: Some(Enhanced(1, 1)), text: "no such user" };
const BUSY: Said<'_> = Said { code: 451, enhanced: None, text: "try\r\nlater" };

#[test]
fn reports_a_failure_with_the_message() {
    check(
        &Case::new().compose(&[(Fate::Failed, Some("mx.x.example"), Some(UNKNOWN))]),
        expect![[r#"
            Return-Path: <>
            From: Mail Delivery System <postmaster@mx.local.example>
            To: <a@local.example>
            Subject: Not delivered: your message to b@x.example
            Date: Wed, 25 Nov 2026 04:11:19 +0000
            Message-ID: <1.0.2@mx.local.example>
            In-Reply-To: <x@local.example>
            References: <x@local.example>
            Auto-Submitted: auto-replied
            MIME-Version: 1.0
            Content-Type: multipart/report; report-type=delivery-status;
            	boundary="=_1.0.2"

            --=_1.0.2
            Content-Type: text/plain; charset=us-ascii

            This is the mail server mx.local.example. It writes about your message of Wed,
            25 Nov 2026 04:10:00 +0000.

            Your message could not be delivered to:

                b@x.example
                    mx.x.example said: 550 5.1.1 no such user
                    Please check the address: nobody seems to have it.

            If you do not know what to do, send this report to
            postmaster@mx.local.example, who finds your message under the name 1.0.1.

            --=_1.0.2
            Content-Type: message/delivery-status

            Reporting-MTA: dns; mx.local.example
            Original-Envelope-Id: QQ+1
            Arrival-Date: Wed, 25 Nov 2026 04:10:00 +0000

            Final-Recipient: rfc822; b@x.example
            Action: failed
            Status: 5.1.1
            Remote-MTA: dns; mx.x.example
            Diagnostic-Code: smtp; 550 5.1.1 no such user
            Last-Attempt-Date: Wed, 25 Nov 2026 04:11:00 +0000
            Final-Log-ID: 1.0.1

            --=_1.0.2
            Content-Type: message/rfc822

            From: a@local.example
            Message-ID: <x@local.example>
            Subject: x

            text

            --=_1.0.2--
        "#]],
    );
}

#[test]
fn reports_a_delay_with_the_header() {
    check(
        &Case::new().compose(&[(
            Fate::Delayed { until: 1_796_000_000 },
            Some("mx.x.example"),
            Some(BUSY),
        )]),
        expect![[r#"
            Return-Path: <>
            From: Mail Delivery System <postmaster@mx.local.example>
            To: <a@local.example>
            Subject: Delayed: your message to b@x.example
            Date: Wed, 25 Nov 2026 04:11:19 +0000
            Message-ID: <1.0.2@mx.local.example>
            In-Reply-To: <x@local.example>
            References: <x@local.example>
            Auto-Submitted: auto-replied
            MIME-Version: 1.0
            Content-Type: multipart/report; report-type=delivery-status;
            	boundary="=_1.0.2"

            --=_1.0.2
            Content-Type: text/plain; charset=us-ascii

            This is the mail server mx.local.example. It writes about your message of Wed,
            25 Nov 2026 04:10:00 +0000.

            Your message is late. It could not yet be delivered to:

                b@x.example
                    mx.x.example said: 451 try later

            You need not do anything: it is tried again until Mon, 30 Nov 2026 00:53:20
            +0000. If it cannot be delivered by then, you will hear of it.

            --=_1.0.2
            Content-Type: message/delivery-status

            Reporting-MTA: dns; mx.local.example
            Original-Envelope-Id: QQ+1
            Arrival-Date: Wed, 25 Nov 2026 04:10:00 +0000

            Final-Recipient: rfc822; b@x.example
            Action: delayed
            Status: 4.0.0
            Remote-MTA: dns; mx.x.example
            Diagnostic-Code: smtp; 451 try later
            Last-Attempt-Date: Wed, 25 Nov 2026 04:11:00 +0000
            Final-Log-ID: 1.0.1
            Will-Retry-Until: Mon, 30 Nov 2026 00:53:20 +0000

            --=_1.0.2
            Content-Type: text/rfc822-headers

            From: a@local.example
            Message-ID: <x@local.example>
            Subject: x

            --=_1.0.2--
        "#]],
    );
}

/// One recipient of each fate.
fn all_fates() -> Composed {
    let mut case = Case::new();
    case.recipients = ["b", "c", "d", "e", "f", "g"]
        .map(|local| (Address::from_parts(local, "x.example"), None))
        .to_vec();
    case.recipients[0].1 = Some("rfc822;b+2Bc@d.example");
    let taken = Said { code: 250, enhanced: None, text: "ok" };
    let dead = Said { code: 451, enhanced: Some(Enhanced(4, 1)), text: "no server answers" };
    case.compose(&[
        (Fate::Delivered, None, None),
        (Fate::Relayed, Some("mx.x.example"), Some(taken)),
        (Fate::Expanded, None, None),
        (Fate::Delayed { until: 1_796_000_000 }, None, None),
        (Fate::Expired, None, Some(dead)),
        (Fate::Failed, None, None),
    ])
}

/// One part of three.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
fn check_part(composed: &Composed, number: usize, want: Expect) {
    let octets = octets(composed);
    let tree = Tree::of(&octets);
    let index = children(&tree.parts, 0).nth(number).unwrap();
    let text = String::from_utf8(octets[tree.parts[index].body()].to_vec()).unwrap();
    want.assert_eq(&text.replace("\r\n", "\n"));
}

#[test]
fn tells_people_the_worst_first() {
    check_part(
        &all_fates(),
        0,
        expect![[r"
        This is the mail server mx.local.example. It writes about your message of Wed,
        25 Nov 2026 04:10:00 +0000.

        Your message could not be delivered to:

            g@x.example

        Your message could not be delivered in time, and is no longer tried, to:

            f@x.example
                mx.local.example said: 451 4.4.1 no server answers
                The other server could not be reached. Please send it again later.

        Your message is late. It could not yet be delivered to:

            e@x.example

        You need not do anything: it is tried again until Mon, 30 Nov 2026 00:53:20
        +0000. If it cannot be delivered by then, you will hear of it.

        Your message was passed to all who share the address:

            d@x.example

        Your message was passed on to the next server, which does not report on its
        delivery, for:

            c@x.example
                mx.x.example said: 250 ok

        Your message is in the mailbox of:

            b@x.example

        If you do not know what to do, send this report to
        postmaster@mx.local.example, who finds your message under the name 1.0.1.
    "]],
    );
}

#[test]
fn tells_programs_in_the_order_of_the_envelope() {
    check_part(
        &all_fates(),
        1,
        expect![[r"
        Reporting-MTA: dns; mx.local.example
        Original-Envelope-Id: QQ+1
        Arrival-Date: Wed, 25 Nov 2026 04:10:00 +0000

        Original-Recipient: rfc822; b+c@d.example
        Final-Recipient: rfc822; b@x.example
        Action: delivered
        Status: 2.1.5
        Last-Attempt-Date: Wed, 25 Nov 2026 04:11:00 +0000
        Final-Log-ID: 1.0.1

        Final-Recipient: rfc822; c@x.example
        Action: relayed
        Status: 2.1.9
        Remote-MTA: dns; mx.x.example
        Diagnostic-Code: smtp; 250 ok
        Last-Attempt-Date: Wed, 25 Nov 2026 04:11:00 +0000
        Final-Log-ID: 1.0.1

        Final-Recipient: rfc822; d@x.example
        Action: expanded
        Status: 2.1.5
        Last-Attempt-Date: Wed, 25 Nov 2026 04:11:00 +0000
        Final-Log-ID: 1.0.1

        Final-Recipient: rfc822; e@x.example
        Action: delayed
        Status: 4.0.0
        Last-Attempt-Date: Wed, 25 Nov 2026 04:11:00 +0000
        Final-Log-ID: 1.0.1
        Will-Retry-Until: Mon, 30 Nov 2026 00:53:20 +0000

        Final-Recipient: rfc822; f@x.example
        Action: failed
        Status: 4.4.1
        Diagnostic-Code: x-pombal; 451 4.4.1 no server answers
        Last-Attempt-Date: Wed, 25 Nov 2026 04:11:00 +0000
        Final-Log-ID: 1.0.1

        Final-Recipient: rfc822; g@x.example
        Action: failed
        Status: 5.0.0
        Last-Attempt-Date: Wed, 25 Nov 2026 04:11:00 +0000
        Final-Log-ID: 1.0.1
    "]],
    );
}

#[test]
fn brings_back_the_message_only_where_it_failed_and_may_be_seen() {
    let all = "Content-Type: message/rfc822\r\n\r\n";
    let header = "Content-Type: text/rfc822-headers\r\n\r\nFrom:";
    let failed = [(Fate::Failed, None, None)];
    let mut case = Case::new();
    holds(&case.compose(&failed), &[all, "\r\n\r\ntext\r\n\r\n--=_"]);
    holds(&case.compose(&[(Fate::Expired, None, None)]), &[all]);
    holds(&case.compose(&[(Fate::Relayed, None, None)]), &[header]);
    case.require_tls = true;
    case.ret = Some(Ret::Full);
    holds(&case.compose(&failed), &[header]);
    case.require_tls = false;
    holds(&case.compose(&failed), &[all]);
    case.ret = Some(Ret::Headers);
    holds(&case.compose(&failed), &[header]);
    case.ret = None;
    for body in [None, Some(b"a\0\r\n".to_vec()), Some(b"x".repeat(1_000))] {
        case.body = body;
        holds(&case.compose(&failed), &[header]);
    }
    case.body = Some(b"x\r\n".repeat(usize::try_from(REPORT_MESSAGE_OCTETS_MAX).unwrap() / 3));
    holds(&case.compose(&failed), &[header]);
}

#[test]
fn brings_back_eight_bits_as_they_are() {
    let mut case = Case::new();
    case.body = Some("и\r\n".as_bytes().to_vec());
    let composed = case.compose(&[(Fate::Failed, None, None)]);
    assert!(composed.is_8bit && !composed.is_utf8);
    let part = "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nFrom";
    holds(&composed, &[part, "\r\n\r\nи\r\n"]);
}

#[test]
fn hides_utf8_from_who_may_not_take_it() {
    let mut case = Case::new();
    case.recipients =
        vec![(Address::from_parts("и", "x.example"), Some(r"utf-8;\x{438}@x.example"))];
    case.header = "Subject: и\r\n\r\n".into();
    let composed = case.compose(&[(Fate::Failed, None, None)]);
    assert!(!composed.is_8bit && !composed.is_utf8);
    holds(
        &composed,
        &[
            "Subject: Not delivered: your message\r\n",
            "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n",
            "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: quoted-printable\r\n",
            "Original-Recipient: utf-8; =D0=B8@x.example\r\nFinal-Recipient: utf-8; =D0=B8@x.example\r\n",
            "Content-Type: message/global\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nSubject: =D0=B8\r\n",
        ],
    );
    // As Postfix has it, which calls it by the other type.
    case.recipients[0].1 = Some("rfc822;+D0+B8@x.example");
    let original = "Original-Recipient: utf-8; =D0=B8@x.example\r\nFinal-Recipient: utf-8; ";
    holds(&case.compose(&[(Fate::Failed, None, None)]), &[original]);
    case.ret = Some(Ret::Headers);
    let part =
        "Content-Type: message/global-headers\r\nContent-Transfer-Encoding: quoted-printable\r\n";
    holds(&case.compose(&[(Fate::Failed, None, None)]), &[part]);
}

#[test]
fn writes_utf8_to_who_writes_it() {
    let mut case = Case::new();
    case.sender = Address::from_parts("и", "local.example");
    case.recipients = vec![(Address::from_parts("и", "x.example"), None)];
    case.header = "Subject: и\r\n\r\n".into();
    let composed = case.compose(&[(Fate::Failed, None, None)]);
    assert!(composed.is_8bit && composed.is_utf8);
    holds(
        &composed,
        &[
            "To: <и@local.example>\r\n",
            "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n",
            "Content-Type: message/global\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: и\r\n",
        ],
    );
    // UTF-8 nowhere but in the address of who hears of it: nothing else is of another kind.
    case.recipients = vec![(Address::from_parts("b", "x.example"), None)];
    case.header = HEADER.into();
    holds(
        &case.compose(&[(Fate::Failed, None, None)]),
        &["Content-Type: message/delivery-status\r\n\r\n", "Content-Type: message/rfc822\r\n\r\n"],
    );
}

/// A header that is neither ASCII nor UTF-8, or has long lines, comes back readable.
#[test]
fn encodes_a_header_that_is_broken() {
    let mut case = Case::new();
    let part =
        "Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: quoted-printable\r\n";
    case.header = b"Subject: \xff\r\n\r\n".to_vec();
    holds(&case.compose(&[(Fate::Failed, None, None)]), &[part, "Subject: =FF"]);
    case.header = format!("X: {}\r\n\r\n", "x".repeat(2_000)).into();
    holds(&case.compose(&[(Fate::Failed, None, None)]), &[part, "X: xxx"]);
    case.header = b"\r\n".to_vec();
    holds(&case.compose(&[(Fate::Failed, None, None)]), &["message/rfc822\r\n\r\n\r\ntext"]);
}

#[test]
fn lets_nobody_write_fields_or_parts() {
    let mut case = Case::new();
    case.header = b"Message-ID: <a@b>\r\n\tX: y\r\nA: --=_1.0.2\r\n\r\n".to_vec();
    case.body = Some(b"\r\n--=_1.0.2--\r\n--=_1_1.0.2\r\n".to_vec());
    let text = format!("a\r\nAction: delivered\r\n\r\nи {}", "y".repeat(5_000));
    let said = Said { code: 550, enhanced: None, text: &text };
    let composed = case.compose(&[(Fate::Failed, Some("mx\r\nX: y"), Some(said))]);
    let text = String::from_utf8(octets(&composed)).unwrap();
    assert!(text.contains("boundary=\"=_2_1.0.2\""), "{text}");
    assert!(text.contains("Remote-MTA: dns; mx  X: y\r\n"));
    assert!(text.contains("Diagnostic-Code: smtp; 550 a Action: delivered ?\r\n\tyyy"), "{text}");
    assert!(!text.contains("In-Reply-To") && !text.contains("\nAction: delivered"), "{text}");
}

#[test]
fn names_many_and_counts_the_rest() {
    let case = Case::new();
    let composed = case.compose(&[(Fate::Failed, None, None); 150]);
    let text = String::from_utf8(octets(&composed)).unwrap();
    assert_eq!(text.matches("    b@x.example\r\n").count(), 100);
    assert!(text.contains("    and 50 more"));
    assert_eq!(text.matches("Final-Recipient: rfc822; b@x.example\r\n").count(), 150);
}

#[test]
fn takes_the_status_from_what_was_said() {
    let address = Address::from_parts("b", "x.example");
    let check = |fate, code, enhanced, want: &str| {
        let said = Some(Said { code, enhanced, text: "" });
        let one =
            Reported { address: &address, orcpt: None, fate, said, remote: None, attempted: None };
        let (class, Enhanced(subject, detail)) = status::status(&one);
        assert_eq!(format!("{class}.{subject}.{detail}"), want);
    };
    let full = Some(Enhanced(2, 2));
    check(Fate::Failed, 552, full, "5.2.2");
    check(Fate::Failed, 554, None, "5.0.0");
    check(Fate::Failed, 421, full, "4.2.2");
    check(Fate::Failed, 250, full, "5.0.0");
    check(Fate::Expired, 450, full, "4.2.2");
    check(Fate::Expired, 250, full, "4.4.7");
    check(Fate::Delayed { until: 0 }, 450, full, "4.2.2");
    check(Fate::Delayed { until: 0 }, 550, full, "4.0.0");
    check(Fate::Relayed, 250, None, "2.1.9");
    check(Fate::Relayed, 250, Some(Enhanced(6, 0)), "2.6.0");
    check(Fate::Expanded, 250, full, "2.1.5");
    check(Fate::Delivered, 250, full, "2.1.5");
}

/// B081: every word of NOTIFY against every fate.
#[test]
fn tells_only_who_wants_to_hear() {
    let sender = Address::from_parts("a", "local.example");
    let fates = [
        Fate::Failed,
        Fate::Expired,
        Fate::Delayed { until: 0 },
        Fate::Expanded,
        Fate::Relayed,
        Fate::Delivered,
    ];
    let check = |notify: Option<Notify>, want: &[Fate]| {
        let told = addressees(Some(&sender), &fates, |fate| (notify, *fate));
        assert_eq!(told, want.iter().collect::<Vec<_>>(), "{notify:?}");
        assert!(addressees(None, &fates, |fate| (notify, *fate)).is_empty());
    };
    let never = Notify::default();
    check(Some(never), &[]);
    check(None, &fates[..3]);
    check(Some(Notify { failure: true, ..never }), &fates[..2]);
    check(Some(Notify { delay: true, ..never }), &fates[2..3]);
    check(Some(Notify { success: true, ..never }), &fates[3..]);
    check(Some(Notify { success: true, failure: true, delay: true }), &fates);
}

#[test]
fn brings_back_whole_lines_of_a_long_header() {
    let field = format!("X: {}\r\n", "x".repeat(1_000));
    let message = format!("{}\r\ntext", field.repeat(100));
    let header = header_of(message.as_bytes());
    assert!(header.len() <= REPORT_HEADER_OCTETS_MAX && header.len() > 60_000);
    assert!(header.ends_with(b"x\r\n"));
    assert_eq!(header_of(b"A: b\r\n\r\ntext"), b"A: b\r\n\r\n");
}

#[test]
fn tells_what_was_asked_of_the_time() {
    let mut case = Case::new();
    (case.by, case.hold) = (Some(1_795_579_879), Some(Hold::For(600)));
    let passed = case.compose(&[(Fate::Passed, Some("mx.x.example"), None)]);
    holds(
        &passed,
        &[
            "Subject: Passed on: your message to b@x.example\r\n",
            "Arrival-Date: Wed, 25 Nov 2026 04:10:00 +0000\r\n\
             Deliver-By-Date: Wed, 25 Nov 2026 04:11:19 +0000\r\n\
             Future-Release-Request: for;600\r\n\r\n",
            "Action: relayed\r\nStatus: 2.0.0\r\n",
        ],
    );
    let notify = |success, failure, delay| Some(Notify { success, failure, delay });
    // RFC 2852 §4.1.4: whatever he wants to hear of, unless that is nothing.
    assert!(Fate::Passed.is_wanted(None) && Fate::Passed.is_wanted(notify(false, true, false)));
    assert!(!Fate::Passed.is_wanted(notify(false, false, false)));
}
