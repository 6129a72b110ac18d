//! What is counted, what a report says of it, and who gets it when.

use super::*;
use crate::concierge::dns::{Data, Found, Kind, Tlsa};
use crate::concierge::http::{Endpoint, Failed};
use crate::dns::{Asked, Resolver};
use crate::env::Env as _;
use crate::env::sim::{Faults, Sim, SimEnv};
use crate::model::address::Address;
use crate::model::limits::{TLS_REPORT_DELAY_MAX, TLS_REPORT_RETRY_FIRST, TLS_REPORT_RETRY_SPAN};
use crate::mta::dane::Records;
use crate::wire::message::mime::Tree;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use expect_test::expect;
use flate2::read::GzDecoder;
use std::cell::RefCell;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

/// 2027-01-15T08:00:00Z.
const NOW: Wall = Wall(1_800_000_000_000_000);
const TODAY: Day = 20_833;

fn submitter() -> Submitter {
    let contact = Address::from_parts("postmaster", "mx.local.example");
    Submitter { organization: "Local \"Mail\"".into(), contact }
}

fn policy() -> Policy {
    Policy::parse(
        b"version: STSv1\nmode: testing\nmax_age: 86400\nmx: mx.a.example\nmx: *.b.example",
    )
    .unwrap()
}

fn records() -> Records {
    let tlsa = Tlsa { usage: 3, selector: 1, matching: 1, data: [0xa5; 32].into() };
    Records { base: "mx.a.example".into(), records: [tlsa].into() }
}

fn ends() -> Ends<'static> {
    Ends {
        sender: Some(Ipv4Addr::new(192, 0, 2, 1).into()),
        host: Some("mx.a.example"),
        hello: Some("mail.a.example"),
        receiver: Some("2001:db8::1".parse().unwrap()),
    }
}

fn unpack(gzip: &[u8]) -> serde_json::Value {
    let mut text = String::new();
    GzDecoder::new(gzip).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Some of everything.
fn tally() -> Tally {
    let tally = Tally::default();
    let (policy, records) = (policy(), records());
    let count = |basis, outcome| tally.count(NOW, "a.example", basis, ends(), outcome);
    for _ in 0..3 {
        count(Basis::Dane(&records), Ok(()));
    }
    for why in [Distrust::Expired, Distrust::NoRecord, Distrust::NoRecord] {
        let outcome = of_failure(&CallFailure::Distrust(why)).unwrap();
        count(Basis::Dane(&records), outcome);
    }
    count(Basis::Sts(&policy), of_session(None, Basis::Sts(&policy)));
    count(Basis::Sts(&policy), of_skip(Skip::NotInPolicy).unwrap());
    count(Basis::Nothing, Ok(()));
    let trouble = Trouble::Certificate("https://mta-sts.a.example: not\nhim".into());
    tally.count_trouble(NOW, "a.example", Some(&policy), &trouble);
    tally
}

#[test]
#[expect(clippy::too_many_lines, reason = "a report in full")]
fn a_report_says_what_was_counted() {
    let tally = tally();
    assert_eq!(tally.domains(TODAY), ["a.example".into()]);
    let policies = tally.take(TODAY, "a.example").unwrap();
    assert!(tally.domains(TODAY).is_empty());
    let report = Report::new(&submitter(), "a.example", TODAY, &policies, "20833abc").unwrap();
    let json = serde_json::to_string_pretty(&unpack(&report.gzip)).unwrap();
    expect![[r#"
        {
          "contact-info": "postmaster@mx.local.example",
          "date-range": {
            "end-datetime": "2027-01-15T23:59:59Z",
            "start-datetime": "2027-01-15T00:00:00Z"
          },
          "organization-name": "Local \"Mail\"",
          "policies": [
            {
              "policy": {
                "policy-domain": "a.example",
                "policy-type": "no-policy-found"
              },
              "summary": {
                "total-failure-session-count": 0,
                "total-successful-session-count": 1
              }
            },
            {
              "failure-details": [
                {
                  "failed-session-count": 1,
                  "receiving-ip": "2001:db8::1",
                  "receiving-mx-helo": "mail.a.example",
                  "receiving-mx-hostname": "mx.a.example",
                  "result-type": "starttls-not-supported",
                  "sending-mta-ip": "192.0.2.1"
                },
                {
                  "failed-session-count": 1,
                  "failure-reason-code": "the MTA-STS policy does not name it",
                  "receiving-ip": "2001:db8::1",
                  "receiving-mx-helo": "mail.a.example",
                  "receiving-mx-hostname": "mx.a.example",
                  "result-type": "validation-failure",
                  "sending-mta-ip": "192.0.2.1"
                },
                {
                  "failed-session-count": 1,
                  "failure-reason-code": "https://mta-sts.a.example: not him",
                  "result-type": "sts-webpki-invalid"
                }
              ],
              "policy": {
                "mx-host": [
                  "mx.a.example",
                  "*.b.example"
                ],
                "policy-domain": "a.example",
                "policy-string": [
                  "version: STSv1",
                  "mode: testing",
                  "mx: mx.a.example",
                  "mx: *.b.example",
                  "max_age: 86400"
                ],
                "policy-type": "sts"
              },
              "summary": {
                "total-failure-session-count": 3,
                "total-successful-session-count": 0
              }
            },
            {
              "failure-details": [
                {
                  "failed-session-count": 1,
                  "failure-reason-code": "the certificate is not good at this time",
                  "receiving-ip": "2001:db8::1",
                  "receiving-mx-helo": "mail.a.example",
                  "receiving-mx-hostname": "mx.a.example",
                  "result-type": "certificate-expired",
                  "sending-mta-ip": "192.0.2.1"
                },
                {
                  "failed-session-count": 2,
                  "failure-reason-code": "no TLSA record is for the certificate",
                  "receiving-ip": "2001:db8::1",
                  "receiving-mx-helo": "mail.a.example",
                  "receiving-mx-hostname": "mx.a.example",
                  "result-type": "certificate-not-trusted",
                  "sending-mta-ip": "192.0.2.1"
                }
              ],
              "policy": {
                "policy-domain": "mx.a.example",
                "policy-string": [
                  "3 1 1 A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5"
                ],
                "policy-type": "tlsa"
              },
              "summary": {
                "total-failure-session-count": 3,
                "total-successful-session-count": 3
              }
            }
          ],
          "report-id": "20833abc"
        }"#]]
    .assert_eq(&json);
}

#[test]
fn a_mail_brings_the_report() {
    let policies = tally().take(TODAY, "a.example").unwrap();
    let submitter = submitter();
    let report = Report::new(&submitter, "a.example", TODAY, &policies, "20833abc").unwrap();
    let recipient = Address::from_parts("reports", "a.example");
    let mail = report.mail(&submitter, recipient, NOW.seconds());
    let text = String::from_utf8(mail.message.clone()).unwrap();
    assert!(text.split("\r\n").all(|line| line.len() < 200 && !line.contains(['\r', '\n'])));
    let (head, _) = text.split_once("H4sI").unwrap();
    expect![[r#"
        From: postmaster@mx.local.example
        To: reports@a.example
        Date: Fri, 15 Jan 2027 08:00:00 +0000
        Message-ID: <tlsrpt.20833abc@mx.local.example>
        Subject: Report Domain: a.example
         Submitter: mx.local.example
         Report-ID: <20833abc@mx.local.example>
        TLS-Report-Domain: a.example
        TLS-Report-Submitter: mx.local.example
        TLS-Required: No
        Auto-Submitted: auto-generated
        MIME-Version: 1.0
        Content-Type: multipart/report; report-type="tlsrpt";
        	boundary="=_tlsrpt_20833abc"

        --=_tlsrpt_20833abc
        Content-Type: text/plain; charset=us-ascii

        This is a report on connections by TLS to the mail servers of
        a.example, from mx.local.example.

        --=_tlsrpt_20833abc
        Content-Type: application/tlsrpt+gzip
        Content-Transfer-Encoding: base64
        Content-Disposition: attachment;
        	filename="mx.local.example!a.example!1799971200!1800057599!20833abc.json.gz"

    "#]]
    .assert_eq(&head.replace("\r\n", "\n"));
    let tree = Tree::of(&mail.message);
    let part = tree.parts.get(2).unwrap();
    let body = String::from_utf8_lossy(&mail.message[part.body()]);
    let base64: String = body.chars().filter(|letter| !letter.is_whitespace()).collect();
    assert_eq!(STANDARD.decode(base64).unwrap(), report.gzip);
}

/// RFC 8460 §4.3: each event by its name; what passes by itself, and what is about the message, is not
/// told.
#[test]
fn each_failure_has_its_name() {
    let of = |outcome: Outcome| outcome.unwrap_err().0.name();
    let distrust = |why| of(of_failure(&CallFailure::Distrust(why)).unwrap());
    assert_eq!(distrust(Distrust::Expired), "certificate-expired");
    assert_eq!(distrust(Distrust::WrongName), "certificate-host-mismatch");
    assert_eq!(distrust(Distrust::UnknownIssuer), "certificate-not-trusted");
    assert_eq!(distrust(Distrust::NoRecord), "certificate-not-trusted");
    let tls = CallFailure::Tls(rustls::Error::HandshakeNotComplete);
    assert_eq!(of(of_failure(&tls).unwrap()), "validation-failure");
    assert_eq!(of_failure(&CallFailure::Busy), None);
    assert_eq!(of_failure(&CallFailure::Lost(std::io::ErrorKind::TimedOut.into())), None);
    assert_eq!(of(of_session(None, Basis::Nothing)), "starttls-not-supported");
    assert_eq!(of(of_skip(Skip::Unknown).unwrap()), "dnssec-invalid");
    assert_eq!(of_skip(Skip::Unproven), None);
    assert_eq!(of_skip(Skip::NoTls), None);
    assert_eq!(of(of_trouble(&Trouble::Fetch("x".into()))), "sts-policy-fetch-error");
    assert_eq!(of(of_trouble(&Trouble::Certificate("x".into()))), "sts-webpki-invalid");
    assert_eq!(of(of_trouble(&Trouble::Invalid("x".into()))), "sts-policy-invalid");
    let long = of_trouble(&Trouble::Invalid("x".repeat(9_999).into())).unwrap_err().1;
    assert_eq!(&*long, "x".repeat(TLS_REPORT_REASON_CHARS_MAX));
}

#[test]
fn counts_are_bounded_and_nothing_is_lost_of_the_sums() {
    let tally = Tally::default();
    for number in 0..TLS_REPORT_DETAILS_MAX + 10 {
        let host = format!("mx{number}.example");
        let ends = Ends { host: Some(&host), ..Ends::default() };
        tally.count(NOW, "a.example", Basis::Nothing, ends, of_session(None, Basis::Nothing));
    }
    for number in 0..TLS_REPORT_POLICIES_MAX + 10 {
        let records = Records { base: format!("mx{number}.example").into(), ..records() };
        tally.count(NOW, "b.example", Basis::Dane(&records), ends(), Ok(()));
    }
    let many = tally.take(TODAY, "a.example").unwrap();
    let counts = many.values().next().unwrap();
    assert_eq!(counts.failures, TLS_REPORT_DETAILS_MAX as u64 + 10);
    assert_eq!(counts.details.values().sum::<u64>(), counts.failures);
    assert_eq!(counts.details.len(), TLS_REPORT_DETAILS_MAX + 1);
    assert_eq!(tally.take(TODAY, "b.example").unwrap().len(), TLS_REPORT_POLICIES_MAX);
    for number in 0..TLS_REPORT_DOMAINS_MAX + 5 {
        tally.count(NOW, &format!("{number}.example"), Basis::Nothing, ends(), Ok(()));
    }
    assert_eq!(tally.domains(TODAY).len(), TLS_REPORT_DOMAINS_MAX);
    assert_eq!(tally.forget(TODAY + 1), 10 + 5);
    assert!(tally.domains(TODAY).is_empty());
}

/// What went out: to whom, and when after midnight.
#[derive(Clone, Default)]
struct Outbox {
    mails: Rc<RefCell<Vec<(Wall, Mail)>>>,
    posts: Rc<RefCell<Vec<(Wall, String)>>>,
}

fn daily(
    env: &SimEnv,
    tally: &Tally,
    rua: &'static str,
    outbox: &Outbox,
    takes_at: usize,
) -> Daily<SimEnv> {
    let ask = move |kind, _, name: &str| -> Asked {
        assert_eq!(kind, Kind::Txt);
        let record = format!("v=TLSRPTv1; rua={rua}");
        let is_wanted = name == "_smtp._tls.a.example" && !rua.is_empty();
        let records = is_wanted.then(|| Data::Text(record.as_bytes().into())).into_iter().collect();
        Box::pin(async move { Ok(Found::plain(records, Duration::from_mins(1))) })
    };
    let dns = Resolver::new(env.clone(), Duration::from_secs(5), 100, ask);
    let (mails, posts) = (Rc::clone(&outbox.mails), Rc::clone(&outbox.posts));
    let (now, then) = (env.clone(), env.clone());
    Daily {
        env: env.clone(),
        dns,
        tally: tally.clone(),
        submitter: submitter(),
        post: Box::new(move |url: &Endpoint, gzip| {
            assert_eq!(unpack(&gzip)["policies"].as_array().unwrap().len(), 3);
            posts.borrow_mut().push((now.wall(), url.to_string()));
            let is_taken = posts.borrow().len() > takes_at;
            let answer = if is_taken { Ok(()) } else { Err(Failed("503".into())) };
            Box::pin(async move { answer })
        }),
        send: Box::new(move |mail| {
            mails.borrow_mut().push((then.wall(), mail));
            Box::pin(async { true })
        }),
    }
}

const HOUR: Duration = Duration::from_hours(1);

#[test]
fn yesterday_is_reported_once_within_hours_after_midnight() {
    for seed in 0..20 {
        let sim = Sim::new(seed, Faults::none());
        sim.set_wall(NOW);
        let (env, outbox) = (sim.env(0), Outbox::default());
        let tally = tally();
        tally.count(NOW, "b.example", Basis::Nothing, ends(), Ok(()));
        let rua = "mailto:reports@a.example,https://r.a.example/tls";
        env.spawn(daily(&env, &tally, rua, &outbox, 0).run());
        sim.run_for(72 * HOUR).unwrap();
        let mails = outbox.mails.borrow();
        let [(at, mail)] = &mails[..] else { panic!("one mail, not {}", mails.len()) };
        let midnight = Wall((u64::from(TODAY) + 1) * DAY * 1_000_000);
        let late = at.since(midnight);
        assert!(late > Duration::ZERO && late <= TLS_REPORT_DELAY_MAX + HOUR, "{late:?}");
        assert_eq!(mail.recipient.to_string(), "reports@a.example");
        assert!(outbox.posts.borrow().is_empty(), "one is enough");
        assert!(tally.domains(TODAY).is_empty(), "who wants none is forgotten too");
    }
}

#[test]
fn what_is_not_taken_is_posted_again_for_a_day() {
    for (takes_at, want) in [(0, 1), (3, 4), (usize::MAX, 7)] {
        let sim = Sim::new(1, Faults::none());
        sim.set_wall(NOW);
        let (env, outbox) = (sim.env(0), Outbox::default());
        env.spawn(daily(&env, &tally(), "https://r.a.example/tls", &outbox, takes_at).run());
        sim.run_for(96 * HOUR).unwrap();
        let posts = outbox.posts.borrow();
        assert_eq!(posts.len(), want, "{posts:?}");
        let span = posts.last().unwrap().0.since(posts.first().unwrap().0);
        assert!(span <= TLS_REPORT_RETRY_SPAN, "{span:?}");
        let pauses = posts.windows(2).map(|two| two[1].0.since(two[0].0));
        let doubled = pauses.zip(0_u32..).all(|(pause, power)| {
            let whole = TLS_REPORT_RETRY_FIRST * 2_u32.pow(power);
            pause >= whole && pause <= whole + HOUR
        });
        assert!(doubled, "{posts:?}");
    }
}
