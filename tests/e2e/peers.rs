//! Mail between our server and those of others, both ways, by TLS: Postfix, Exim and OpenSMTPD, each with what it
//! knows of PIPELINING, CHUNKING, 8BITMIME, DSN and SMTPUTF8.
//!
//! What goes out is found by a real name server (Knot). What comes in was handed to the other server, which
//! brings it to ours. Each message is compared octet for octet below the fields that servers put on top. Which
//! of the extensions were used is read in the logs of the others, and in the reports that were asked for.

use crate::cell::{comes_true, take_mails};
use crate::client::{Maildrop, find, smtp, stuff, without_trace};
use crate::exim::Exim;
use crate::harness::{Port, Server};
use crate::knot::Knot;
use crate::opensmtpd::OpenSmtpd;
use crate::postfix::Postfix;
use std::path::PathBuf;

/// Recipients of one message: `r0`, `r1` and so on, who share the maildir `many`.
pub(crate) const MANY: usize = 120;

/// A mail server of others. It has the users a, b, и, and those of [`MANY`].
pub(crate) trait Peer {
    fn domain(&self) -> &'static str;

    fn port(&self) -> u16;

    fn maildir(&self, user: &str) -> PathBuf;

    fn log(&self) -> String;
}

/// Ours, and one of others.
struct World {
    here: Server,
    peer: Box<dyn Peer>,
    knows: Knows,
    _knot: Knot,
    _dir: tempfile::TempDir,
}

/// What is different from one to the other.
struct Knows {
    utf8: bool,
    chunks: bool,
    /// In its report on a delivery.
    report: &'static [&'static str],
    /// Each in one line of its log.
    log: &'static [&'static [&'static str]],
}

impl World {
    fn new(
        domain: &str,
        start: impl Fn(Port, u16) -> Option<Box<dyn Peer>>,
        knows: Knows,
    ) -> Option<World> {
        let dir = tempfile::tempdir().unwrap();
        let port = Port::find();
        let name = domain.strip_suffix(".example").unwrap();
        let records = format!("{name} MX 10 mx.{name}\nmx.{name} A 127.0.0.1\n");
        let knot = Knot::with_root(dir.path(), &[], &[("example.", &records)], &[])?;
        let settings = format!(
            "[smtp]\nmax_message_size = \"4M\"\nrelay_networks = [\"127.0.0.0/8\"]\n\
             [dns]\nservers = [\"{}\"]\ntrust_anchors = \"{}\"\n\
             [queue]\nport = {}\ntls = \"encrypt\"\nretry = [\"1s\"]\nsite_retry = [\"1s\"]\n",
            knot.address(),
            knot.anchors().display(),
            port.number,
        );
        let here = Server::with_users(&settings, &["a", "b", "c", "d", "и", "ю"]);
        let peer = start(port, here.smtp())?;
        Some(World { here, peer, knows, _knot: knot, _dir: dir })
    }

    /// Somebody at the other server.
    fn there(&self, user: &str) -> String {
        format!("<{user}@{}>", self.peer.domain())
    }

    /// Takes so many mails of a user of the other server.
    fn mails_there(&self, user: &str, count: usize) -> Vec<Vec<u8>> {
        let mails = take_mails(&self.peer.maildir(user), count);
        let mails = mails.unwrap_or_else(|| panic!("no mail for {user}\n{}", self.peer.log()));
        assert_eq!(mails.len(), count, "for {user}");
        mails.into_iter().map(|mail| with_crlf(&mail)).collect()
    }

    /// Takes so many mails of a user of ours.
    fn mails_here(&self, user: &str, count: usize) -> Vec<Vec<u8>> {
        let drop = Maildrop::open_filled(self.here.pop3(), user, count);
        drop.unwrap_or_else(|why| panic!("{why}\n{}", self.peer.log())).quit().unwrap();
        let mut drop = Maildrop::open(self.here.pop3(), user, true).unwrap();
        assert_eq!(drop.count, count, "for {user}");
        let mails = drop.retrieve_all().unwrap();
        drop.clear().unwrap();
        mails
    }

    /// Waits for what came of an attempt to send to a user of the other server.
    fn await_attempt(&self, user: &str, outcome: &str) {
        let recipient = format!("{user}@{}", self.peer.domain());
        let outcome = format!("outcome={outcome}");
        self.here.await_log(&["event=attempt", &recipient, &outcome, "tls=TLSv1.3"]);
    }
}

/// Others keep lines with LF.
fn with_crlf(mail: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(mail.len() + 1_024);
    for line in mail.split_inclusive(|&octet| octet == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        out.extend_from_slice(text);
        if text.len() < line.len() {
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

/// What every server of the world would put into a header is in this one.
fn header(subject: &str) -> String {
    format!(
        "From: a@local.example\r\nTo: somebody@else.example\r\nSubject: {subject}\r\n\
         Date: Sun, 29 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@else.example>\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: 8bit\r\n\r\n"
    )
}

/// All that is hard to bring over: dots, lines that look like others, the longest line, octets over 127 that are
/// no UTF-8, white space and empty lines at the end; of so much that it fills many records of TLS.
fn hard() -> Vec<u8> {
    let mut octets = header("hard").into_bytes();
    octets.extend_from_slice(b".\r\n..\r\n.a\r\nFrom here\r\n>From there\r\n\xc3\xa9 \xff\r\n");
    octets.extend_from_slice(&[b'x'; 998]);
    octets.extend_from_slice(b"\r\n trailing \t\r\n");
    for line in 0..20_000 {
        octets.extend_from_slice(format!(".{line} é\r\n").as_bytes());
    }
    octets.extend_from_slice(b"\r\n.\r\n\r\n");
    octets
}

/// A line that no server has to take.
fn long() -> Vec<u8> {
    format!("{}{}=é\r\nend\r\n", header("long"), "y".repeat(5_000)).into_bytes()
}

fn in_utf8() -> Vec<u8> {
    header("тема").replace("a@local", "и@local").into_bytes()
}

/// Hands a message to a server.
fn hand(port: u16, mail: &str, recipients: &[String], message: &[u8]) {
    let mut link = smtp(port, "EHLO").unwrap();
    link.command(&format!("MAIL FROM:{mail}"), 250).unwrap();
    for recipient in recipients {
        link.command(&format!("RCPT TO:{recipient}"), 250).unwrap();
    }
    link.command("DATA", 354).unwrap();
    link.send(stuff(message)).unwrap();
    link.expect(250).unwrap();
    link.command("QUIT", 221).unwrap();
}

/// The names of the fields in front of a message, in lower case.
fn names(front: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(front).to_lowercase();
    let lines = text.lines().filter(|line| !line.starts_with([' ', '\t']));
    lines.map(|line| line.split(':').next().unwrap().to_owned()).collect()
}

/// A mail in a mailbox of the other server below our own Received, which stands under fields of that server
/// alone, among them the one Return-Path.
#[track_caller]
fn below_ours(stored: &[u8]) -> &[u8] {
    const OF_THE_PEER: [&str; 5] =
        ["return-path", "received", "delivered-to", "x-original-to", "envelope-to"];
    let at = find(stored, b"Received: from client.example ").expect("our Received is there");
    let names = names(&stored[..at]);
    assert!(names.iter().all(|name| OF_THE_PEER.contains(&&**name)), "{names:?}");
    assert_eq!(names.iter().filter(|name| *name == "return-path").count(), 1, "{names:?}");
    let rest = &stored[at..];
    let rest = &rest[find(rest, b";\r\n\t").unwrap() + 4..];
    &rest[find(rest, b"\r\n").unwrap() + 2..]
}

/// A mail in a mailbox of ours is this message, below fields Received of both servers.
#[track_caller]
fn assert_below_theirs(stored: &[u8], with: &str, message: &[u8]) {
    let trace = String::from_utf8_lossy(&stored[..stored.len().min(600)]).replace("\r\n\t", " ");
    assert!(trace.contains(&format!(" with {with} ")), "{trace}");
    assert!(trace.contains(" tls TLS_AES_256_GCM_SHA384 "), "{trace}");
    let rest = without_trace(stored).expect("it has trace fields");
    let front = rest.strip_suffix(message).expect("the octets are those that were sent");
    let names = names(front);
    assert!(names.iter().all(|name| name == "received"), "{names:?}");
}

#[track_caller]
fn assert_has(mail: &[u8], parts: &[&str]) {
    for part in parts {
        let text = String::from_utf8_lossy(mail);
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[track_caller]
fn assert_same(got: &[u8], sent: &[u8]) {
    if got != sent {
        let at = got.iter().zip(sent).take_while(|(got, sent)| got == sent).count();
        let show = |octets: &[u8]| {
            octets[at.min(octets.len())..octets.len().min(at + 60)].escape_ascii().to_string()
        };
        panic!(
            "{} of {} octets, from {at} on: {} for {}",
            got.len(),
            sent.len(),
            show(got),
            show(sent)
        );
    }
}

/// Mail of ours arrives there, and what it is asked for comes back.
fn goes(world: &World) {
    let port = world.here.smtp();
    let there = |user: &str, params: &str| format!("{} {params}", world.there(user));
    let asked = "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;old+2Bx@else.example";
    let envelope = "<a@local.example> BODY=8BITMIME RET=HDRS ENVID=Q+2Bid";
    let (hard, long) = (hard(), long());
    hand(port, envelope, &[world.there("b"), there("a", asked)], &hard);
    let two = header("two").into_bytes();
    hand(port, envelope, &[world.there("b"), there("nobody", asked)], &two);
    hand(port, "<a@local.example>", &[there("never", "NOTIFY=NEVER")], &two);
    let many: Vec<String> = (0..MANY).map(|number| world.there(&format!("r{number}"))).collect();
    hand(port, "<b@local.example>", &many, &two);
    let utf8 = [there("и", "NOTIFY=SUCCESS,FAILURE")];
    hand(port, "<и@local.example> SMTPUTF8 BODY=8BITMIME", &utf8, &in_utf8());
    world.await_attempt("b", "delivered");
    world.await_attempt("never", "failed");

    let [mail] = world.mails_there("a", 1).try_into().unwrap();
    assert_same(below_ours(&mail), &hard);
    let mut mails = world.mails_there("b", 2);
    mails.sort_by_key(Vec::len);
    assert_same(below_ours(&mails[0]), &two);
    assert_same(below_ours(&mails[1]), &hard);
    for mail in world.mails_there("many", MANY) {
        assert_same(below_ours(&mail), &two);
    }
    world.here.await_log(&["event=attempt", &format!("r{}@", MANY - 1), "outcome=delivered"]);
    // The report on a delivery is the other server's, the one on a failure is ours.
    let mut reports = world.mails_here("a", 2);
    reports.sort_by_key(|report| find(report, b"Action: delivered").is_none());
    assert_has(&reports[0], world.knows.report);
    let name = format!("Final-Recipient: rfc822; nobody@{}", world.peer.domain());
    let ours = ["Original-Envelope-Id: Q+id", "Original-Recipient: rfc822; old+x@else.example"];
    assert_has(&reports[1], &[&*name, "Action: failed", ours[0], ours[1]]);
    let [report] = world.mails_here("и", 1).try_into().unwrap();
    if world.knows.utf8 {
        let [mail] = world.mails_there("и", 1).try_into().unwrap();
        assert_same(below_ours(&mail), &in_utf8());
        assert_has(&report, &["delivered", "Subject: тема"]);
    } else {
        assert_has(&report, &["Action: failed", "Status: 5.6.9"]);
    }
    // As it is, or so that it can be made again (RFC 2045 §6.7).
    hand(port, "<a@local.example> BODY=8BITMIME", &[world.there("a")], &long);
    let [mail] = world.mails_there("a", 1).try_into().unwrap();
    if world.knows.chunks {
        assert_same(below_ours(&mail), &long);
    } else {
        let text = String::from_utf8(below_ours(&mail).to_vec()).unwrap();
        assert!(text.lines().all(|line| line.len() <= 998));
        let made = text.replace("=\r\n", "").replace("=3D", "=").replace("=C3=A9", "é");
        let sent = String::from_utf8(long).unwrap();
        let sent = sent.replace("Content-Transfer-Encoding: 8bit\r\n", "");
        let made = made.replace("Content-Transfer-Encoding: quoted-printable\r\n", "");
        assert_eq!(made, sent);
    }
}

/// Mail that the other server brings arrives here, and what that asks for comes back.
fn comes(world: &World) {
    let port = world.peer.port();
    let asked = "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;old+2Bx@else.example";
    let from = |user: &str, params: &str| format!("{} {params}", world.there(user));
    let envelope = |user: &str| from(user, "BODY=8BITMIME RET=HDRS ENVID=Q+2Bid");
    let here = |user: &str, params: &str| format!("<{user}@local.example> {params}");
    let (hard, two) = (hard(), header("two").into_bytes());
    hand(port, &envelope("a"), &[here("d", ""), here("c", asked)], &hard);
    hand(port, &envelope("b"), &[here("d", ""), here("nobody", asked)], &two);
    hand(port, &from("b", ""), &[here("nobody", "NOTIFY=NEVER")], &two);
    let many: Vec<String> = (0..MANY).map(|number| here(&format!("b+{number}"), "")).collect();
    hand(port, &from("b", ""), &many, &two);

    let [mail] = world.mails_here("c", 1).try_into().unwrap();
    assert_below_theirs(&mail, "ESMTPS", &hard);
    let mut mails = world.mails_here("d", 2);
    mails.sort_by_key(Vec::len);
    assert_below_theirs(&mails[0], "ESMTPS", &two);
    assert_below_theirs(&mails[1], "ESMTPS", &hard);
    // A mailbox gets a message once, by however many addresses; how many transactions make one of it is theirs
    // to say.
    for number in 0..MANY {
        let recipient = format!("b+{number}@local.example");
        world.here.await_log(&["event=message", "tls=TLSv1.3", &recipient, "outcome=stored"]);
    }
    let mut drop = Maildrop::open_filled(world.here.pop3(), "b", 1).unwrap();
    assert!(drop.count < 10, "{}", drop.count);
    for mail in drop.retrieve_all().unwrap() {
        assert_below_theirs(&mail, "ESMTPS", &two);
    }
    drop.clear().unwrap();
    // The report on a delivery is ours, the one on a failure the other server's.
    let [report] = world.mails_there("a", 1).try_into().unwrap();
    let ours = ["Original-Envelope-Id: Q+id", "Original-Recipient: rfc822; old+x@else.example"];
    let delivered = ["Final-Recipient: rfc822; c@local.example", "Action: delivered"];
    assert_has(&report, &[&ours[..], &delivered, &["Content-Type: text/rfc822-headers"]].concat());
    let [report] = world.mails_there("b", 1).try_into().unwrap();
    assert_has(&report, &["nobody@local.example", "550 5.1.1 No such user here"]);
    if world.knows.utf8 {
        let utf8 = [here("ю", "NOTIFY=SUCCESS")];
        hand(port, &from("и", "SMTPUTF8 BODY=8BITMIME"), &utf8, &in_utf8());
        let [mail] = world.mails_here("ю", 1).try_into().unwrap();
        assert_below_theirs(&mail, "UTF8SMTPS", &in_utf8());
        let [report] = world.mails_there("и", 1).try_into().unwrap();
        assert_has(
            &report,
            &["global-delivery-status", "utf-8; ю@local.example", "Action: delivered"],
        );
    }
}

/// The log of the other server at the end.
fn both_ways(mut world: World) -> String {
    goes(&world);
    comes(&world);
    // Nobody heard of what nobody wanted to hear of.
    for user in ["a", "b", "c", "d", "и", "ю"] {
        world.mails_here(user, 0);
    }
    for user in ["a", "b", "и"] {
        world.mails_there(user, 0);
    }
    world.here.stop();
    let log = || world.peer.log();
    for words in world.knows.log {
        let is_there = || log().lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(comes_true(is_there), "{words:?} is not in {}", log());
    }
    log()
}

#[test]
fn postfix_sends_and_receives() {
    let knows = Knows {
        utf8: true,
        chunks: true,
        report: &["Original-Envelope-Id: Q+id", "old+x@else.example", "Action: delivered"],
        log: &[
            &["disconnect from ", " starttls=1 ", " bdat="],
            &[
                "> 127.0.0.1",
                "MAIL FROM:<a@postfix.example>",
                "BODY=8BITMIME ENVID=Q+2Bid RET=HDRS",
            ],
            &[
                "> 127.0.0.1",
                "RCPT TO:<c@local.example> ORCPT=rfc822;old+2Bx@else.example NOTIFY=SUCCESS,FAILURE",
            ],
            &["> 127.0.0.1", "MAIL FROM:<и@postfix.example>", " SMTPUTF8"],
        ],
    };
    let start = |port, relay| Some(Box::new(Postfix::start_before(port, Some(relay))?) as Box<_>);
    let Some(world) = World::new("postfix.example", start, knows) else { return };
    let log = both_ways(world);
    // PIPELINING: it goes on before it is answered.
    let mail = log.lines().find(|line| line.contains("MAIL FROM:<a@postfix.example>")).unwrap();
    let (process, _) = mail.split_once("]: > ").unwrap();
    let (_, process) = process.rsplit_once(' ').unwrap();
    let said = log.lines().skip_while(|line| *line != mail).filter_map(|line| {
        let (_, said) = line.split_once(process)?.1.split_once("]: ")?;
        Some(said).filter(|said| said.starts_with(['<', '>']))
    });
    let said: Vec<&str> = said.take(5).collect();
    assert!(said[..4].iter().all(|said| said.starts_with('>')), "{said:?}");
    assert!(said[4].starts_with("< ") && said[4].ends_with(": 250 2.1.0 Ok"), "{said:?}");
}

#[test]
fn exim_sends_and_receives() {
    let knows = Knows {
        utf8: true,
        chunks: true,
        report: &["Q+2Bid", "rfc822;old+2Bx@else.example", "Action: delivered"],
        log: &[
            // L: PIPELINING, K: CHUNKING.
            &[" <= a@local.example ", " P=esmtps L X=TLS1.3:", " K ", " M8S=8"],
            &[" <= и@local.example ", " P=utf8esmtps L X=TLS1.3:", " K "],
            &[" c@local.example R=away ", " X=TLS1.3:", " L K "],
            &[" ю@local.example R=away ", " X=TLS1.3:", " L K "],
        ],
    };
    let start = |port, relay| Some(Box::new(Exim::start(port, relay)?) as Box<_>);
    let Some(world) = World::new("exim.example", start, knows) else { return };
    both_ways(world);
}

#[test]
fn opensmtpd_sends_and_receives() {
    let knows = Knows {
        utf8: false,
        chunks: false,
        report: &["Final-Recipient: rfc822; a@opensmtpd.example", "Action: delivered"],
        log: &[
            &["<<< MAIL FROM:<a@local.example> SIZE=", " BODY=8BITMIME RET=HDRS ENVID=Q+2Bid"],
            &[
                "<<< RCPT TO:<a@opensmtpd.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;old+2Bx@else.example",
            ],
        ],
    };
    let start = |port, relay| Some(Box::new(OpenSmtpd::start(port, relay)?) as Box<_>);
    let Some(world) = World::new("opensmtpd.example", start, knows) else { return };
    both_ways(world);
}
