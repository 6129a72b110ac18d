//! Servers of others that do as a test wants, each at an address of its own on loopback: where mail goes, by
//! a real name server (Knot), what is said there, and what is made of the answers.

use crate::cell::comes_true;
use crate::client::{Maildrop, smtp, stuff};
use crate::harness::{PATIENCE, Port, Server};
use crate::knot::Knot;
use crate::queue::entries;
use crossbeam::channel::{Receiver, Sender, unbounded};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::Builder;

/// What is said to a line of a client; nothing: what everybody says.
type Answers = fn(&str) -> Option<&'static str>;

/// A server that takes all mail, unless its answers say otherwise.
struct Host {
    heard: Receiver<String>,
    /// What was heard and was not looked for.
    before: Vec<String>,
}

impl Host {
    fn start(ip: &str, port: &Port, answers: Answers) -> Host {
        let listener = TcpListener::bind((ip, port.number)).unwrap();
        let (tell, heard) = unbounded();
        let serve = move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let tell = tell.clone();
                // The client may hang up when it likes.
                Builder::new().spawn(move || drop(talk(&stream, answers, &tell))).unwrap();
            }
        };
        Builder::new().spawn(serve).unwrap();
        Host { heard, before: Vec::new() }
    }

    /// Waits until it has heard a line that begins so; all lines up to that one, since the last time.
    fn await_line(&mut self, begin: &str) -> Vec<String> {
        loop {
            let line = self.heard.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                panic!("{begin} was never heard, but {:?}", self.before);
            });
            let is_it = line.starts_with(begin);
            self.before.push(line);
            if is_it {
                return std::mem::take(&mut self.before);
            }
        }
    }

    /// All that it has heard meanwhile.
    fn so_far(&mut self) -> Vec<String> {
        self.before.extend(self.heard.try_iter());
        std::mem::take(&mut self.before)
    }
}

/// One session; a message is told as the line `.`.
fn talk(mut stream: &TcpStream, answers: Answers, tell: &Sender<String>) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let greeting = answers("").unwrap_or("220 host.example");
    writeln!(stream, "{greeting}\r")?;
    while let Some(line) = lines.next().transpose()? {
        // The test may have heard enough.
        drop(tell.send(line.clone()));
        let verb = line.split([' ', ':']).next().unwrap_or_default();
        let usual = match verb {
            "EHLO" => "250-host.example\r\n250 DSN",
            "DATA" => "354 go on",
            "QUIT" => "221 bye",
            _ => "250 fine",
        };
        let answer = answers(&line).unwrap_or(usual);
        writeln!(stream, "{answer}\r")?;
        if answer.starts_with("354") {
            while lines.next().transpose()?.is_some_and(|line| line != ".") {}
            drop(tell.send(".".into()));
            writeln!(stream, "{}\r", answers(".").unwrap_or("250 taken"))?;
        }
        if verb == "QUIT" {
            break;
        }
    }
    Ok(())
}

const ZONE: &str = "ns A 127.0.0.53\n\
    good A 127.0.0.2\nbroken A 127.0.0.3\ndead A 127.0.0.4\nfamily AAAA 2001:db8::1\nfamily A 127.0.0.2\n\
    one MX 10 good\nfamilies MX 10 family\nbehind-dead MX 10 dead\nbehind-dead MX 20 good\n\
    behind-broken MX 10 broken\nbehind-broken MX 20 good\nall-broken MX 10 broken\n\
    itself A 127.0.0.2\nnull MX 0 .\nnull A 127.0.0.2\nnowhere MX 10 nothing\nnowhere A 127.0.0.2\n\
    alias CNAME one\n";

/// Ours, which knows of the zone `x.example`, and may be told to relay by anybody here.
struct World {
    here: Server,
    port: Port,
    _knot: Knot,
    _dir: tempfile::TempDir,
}

fn world() -> Option<World> {
    let dir = tempfile::tempdir().unwrap();
    let knot = Knot::start(dir.path(), &[("x.example.", ZONE)])?;
    let port = Port::find();
    let settings = format!(
        "[smtp]\nmax_message_size = \"4M\"\nrelay_networks = [\"127.0.0.0/8\"]\n\
         [dns]\nservers = [\"{}\"]\n\
         [queue]\nport = {}\nretry = [\"1s\"]\nsite_retry = [\"1s\"]\n",
        knot.address(),
        port.number
    );
    let here = Server::with_users(&settings, &["ann"]);
    Some(World { here, port, _knot: knot, _dir: dir })
}

impl World {
    fn send(&self, sender: &str, recipients: &[&str]) {
        let mut link = smtp(self.here.smtp(), "EHLO").unwrap();
        link.command(&format!("MAIL FROM:<{sender}>"), 250).unwrap();
        for recipient in recipients {
            link.command(&format!("RCPT TO:<{recipient}>"), 250).unwrap();
        }
        link.command("DATA", 354).unwrap();
        link.send(stuff(b"Subject: away\r\n\r\ntext\r\n")).unwrap();
        link.expect(250).unwrap();
        link.command("QUIT", 221).unwrap();
    }

    /// What the first attempt for a recipient came to.
    fn first(&self, recipient: &str) -> String {
        self.here.await_log(&["event=attempt", &format!("recipient={recipient} "), "attempt=1 "])
    }

    /// Sends a message of Ann's, and says what its first attempt came to.
    fn try_one(&self, recipient: &str) -> String {
        self.send("ann@local.example", &[recipient]);
        self.first(recipient)
    }
}

#[track_caller]
fn assert_has(log: &str, words: &[&str]) {
    for word in words {
        assert!(log.contains(word), "{word} in {log}");
    }
}

fn count(lines: &[String], begin: &str) -> usize {
    lines.iter().filter(|line| line.starts_with(begin)).count()
}

/// RFC 5321 §5.1: one attempt tries the next address, of the other family or of another host, where the
/// first is dead, and where a server turns everybody away.
#[test]
fn one_attempt_goes_on_to_the_next_address() {
    let Some(world) = world() else { return };
    let mut good = Host::start("127.0.0.2", &world.port, |_| None);
    let mut broken =
        Host::start("127.0.0.3", &world.port, |line| line.is_empty().then_some("554 not here"));
    let there = format!("address=127.0.0.2:{}", world.port.number);
    for domain in ["one", "alias", "itself", "families", "behind-dead", "behind-broken"] {
        let tried = world.try_one(&format!("a@{domain}.x.example"));
        assert_has(&tried, &["outcome=delivered", &there]);
    }
    assert_has(&world.try_one("a@[127.0.0.2]"), &["outcome=delivered", &there]);
    // It was told goodbye, and nothing else.
    assert_eq!(broken.await_line("QUIT"), ["QUIT"]);
    let tried = world.try_one("a@all-broken.x.example");
    assert_has(&tried, &["outcome=deferred", "not here"]);
    assert_eq!(good.so_far().iter().filter(|line| *line == ".").count(), 7);
    let mut here = world.here;
    here.stop();
}

/// RFC 3974 §3: a family of addresses that this machine has none of holds up nobody.
#[test]
fn a_family_that_this_machine_lacks_stops_nobody() {
    let Some(mut world) = world() else { return };
    let mut good = Host::start("127.0.0.2", &world.port, |_| None);
    world.here.stop();
    world.here.edit("[queue]\n", |section| {
        format!("{section}sources = [\"2001:db8::9\", \"127.0.0.1\"]\n")
    });
    world.here.start();
    assert_has(&world.try_one("a@families.x.example"), &["outcome=delivered"]);
    good.await_line("MAIL FROM:<ann@local.example>");
    world.here.stop();
}

/// RFC 7505 §4.1, RFC 5321 §5.1: who takes no mail, and whose servers are not there, is not asked, whatever
/// address the domain has.
#[test]
fn who_takes_no_mail_is_not_asked() {
    let Some(world) = world() else { return };
    let mut good = Host::start("127.0.0.2", &world.port, |_| None);
    let mut link = smtp(world.here.smtp(), "EHLO").unwrap();
    link.command("MAIL FROM:<ann@local.example>", 250).unwrap();
    link.command("RCPT TO:<a@null.x.example>", 556).unwrap();
    for (domain, said) in [("nowhere.x.example", "550 5.4.4"), ("nobody.x.example", "550 5.1.2")] {
        assert_has(&world.try_one(&format!("a@{domain}")), &["outcome=failed", said]);
    }
    // An alias was not asked for when it was made.
    world.here.pombal(&["alias", "add", "null@local.example", "a@null.x.example"], "");
    world.send("ann@local.example", &["null@local.example"]);
    assert_has(&world.first("a@null.x.example"), &["outcome=failed", "556 5.1.10"]);
    let reports = Maildrop::open_filled(world.here.pop3(), "ann", 3).unwrap();
    assert_eq!(reports.count, 3);
    assert_eq!(good.so_far(), Vec::<String>::new());
    let mut here = world.here;
    here.stop();
}

/// RFC 5321 §4.5.4.1: all recipients of a domain are in one transaction. Every sender stays who he is, and
/// we are who we say.
#[test]
fn one_copy_goes_to_all_of_a_domain() {
    let Some(world) = world() else { return };
    let mut good = Host::start("127.0.0.2", &world.port, |_| None);
    let to: Vec<String> = (1..=100).map(|number| format!("r{number}@one.x.example")).collect();
    world.send("ann@local.example", &to.iter().map(String::as_str).collect::<Vec<_>>());
    let heard = good.await_line(".");
    assert_eq!(heard.first().map(String::as_str), Some("EHLO mx.local.example"));
    assert_eq!((count(&heard, "MAIL FROM:<ann@local.example>"), count(&heard, "RCPT")), (1, 100));
    world.send("", &["null@one.x.example"]);
    assert_eq!(count(&good.await_line("."), "MAIL FROM:<>"), 1);
    world.send("x@far.example", &["other@one.x.example"]);
    assert_eq!(count(&good.await_line("."), "MAIL FROM:<x@far.example>"), 1);
    let mut here = world.here;
    here.stop();
}

/// RFC 5321 §4.2.1: who is refused for good is asked for once, who is put off again and again; the sender,
/// wherever he is, hears of the former by a report that has no sender and asks for none
/// (RFC 3461 §6.1).
#[test]
fn who_is_refused_is_not_tried_again() {
    let Some(world) = world() else { return };
    let mut good = Host::start("127.0.0.2", &world.port, |line| match line {
        _ if line.starts_with("RCPT TO:<no@") => Some("550 5.1.1 nobody"),
        _ if line.starts_with("RCPT TO:<later@") => Some("450 4.2.1 later"),
        _ => None,
    });
    world.send("sender@itself.x.example", &["no@one.x.example", "later@one.x.example"]);
    let mut heard = Vec::new();
    for _ in 0..4 {
        heard.extend(good.await_line("RCPT TO:<later@"));
    }
    assert_eq!(count(&heard, "RCPT TO:<no@"), 1, "{heard:?}");
    let is_mail = |line: &&String| line.starts_with("MAIL ") && line.contains("<>");
    let mut mails: Vec<String> = heard.iter().filter(is_mail).cloned().collect();
    let mut report = heard.iter().filter(|line| line.contains("<sender@")).cloned();
    let mut recipient = report.find(|line| line.starts_with("RCPT"));
    if recipient.is_none() {
        let more = good.await_line("RCPT TO:<sender@");
        recipient = more.last().cloned();
        mails.extend(more.iter().filter(is_mail).cloned());
    }
    assert_eq!(mails, ["MAIL FROM:<>"]);
    let recipient = recipient.unwrap();
    let is_silent = !recipient.contains("NOTIFY") || recipient.contains("NOTIFY=NEVER");
    assert!(is_silent && !recipient.contains("ORCPT"), "{recipient}");
    // The queue of ours has the one that is put off, and nothing else.
    let shown = world.here.pombal(&["queue", "list"], "");
    assert!(shown.contains("later@one.x.example") && !shown.contains("no@"), "{shown}");
    let mut here = world.here;
    here.stop();
}

/// RFC 5321 §4.5.5, RFC 3461 §5.2: a message without a sender that fails is not told of to anybody, and
/// neither is a report that fails.
#[test]
fn nobody_reports_on_a_report() {
    let Some(world) = world() else { return };
    let mut good = Host::start("127.0.0.2", &world.port, |line| {
        line.starts_with("RCPT").then_some("550 5.1.1 nobody")
    });
    world.send("", &["a@one.x.example"]);
    assert_has(&world.first("a@one.x.example"), &["outcome=failed"]);
    world.send("x@itself.x.example", &["b@one.x.example"]);
    assert_has(&world.first("b@one.x.example"), &["outcome=failed"]);
    // The report on the second one, which fails as well.
    assert_has(&world.first("x@itself.x.example"), &["outcome=failed"]);
    assert!(comes_true(|| entries(&world.here) == 0), "nothing is left");
    assert_eq!(world.here.figure("pombal_queue_reports_total"), 1);
    assert_eq!(count(&good.so_far(), "RCPT"), 3);
    let mut here = world.here;
    here.stop();
}

/// RFC 3461 §5.2.7: who leads to one other passes on what his sender asked for; who leads to several says
/// so himself, and they tell of no success.
#[test]
fn an_alias_is_reported_on_once() {
    let Some(world) = world() else { return };
    let mut good = Host::start("127.0.0.2", &world.port, |_| None);
    world.here.pombal(&["user", "add", "bob@local.example", "--password-stdin"], "secret\n");
    for (alias, targets) in
        [("one", &["y@one.x.example"][..]), ("team", &["bob@local.example", "x@one.x.example"])]
    {
        let alias = format!("{alias}@local.example");
        let words = [&["alias", "add", &*alias], targets].concat();
        world.here.pombal(&words, "");
    }
    let mut link = smtp(world.here.submission(), "EHLO").unwrap();
    link.command("AUTH PLAIN AGFubkBsb2NhbC5leGFtcGxlAHNlY3JldA==", 235).unwrap();
    for alias in ["one", "team"] {
        link.command("MAIL FROM:<ann@local.example> RET=HDRS ENVID=id", 250).unwrap();
        let parameters = format!("NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;{alias}@local.example");
        link.command(&format!("RCPT TO:<{alias}@local.example> {parameters}"), 250).unwrap();
        link.command("DATA", 354).unwrap();
        link.send(stuff(b"From: ann@local.example\r\nSubject: x\r\n\r\n")).unwrap();
        link.expect(250).unwrap();
        let heard = good.await_line(".");
        let is_it = |line: &&String| line.starts_with("MAIL") || line.starts_with("RCPT");
        let commands: Vec<&String> = heard.iter().filter(is_it).collect();
        let (to, notify) = if alias == "one" { ("y", "SUCCESS,FAILURE") } else { ("x", "FAILURE") };
        assert_eq!(
            commands,
            [
                "MAIL FROM:<ann@local.example> RET=HDRS ENVID=id",
                &format!(
                    "RCPT TO:<{to}@one.x.example> NOTIFY={notify} ORCPT=rfc822;{alias}@local.example"
                ),
            ]
        );
    }
    world.first("x@one.x.example");
    let reports = Maildrop::open_filled(world.here.pop3(), "ann", 1).unwrap().retrieve_all();
    let reports = reports.unwrap();
    let report = String::from_utf8_lossy(&reports[0]);
    assert_eq!(reports.len(), 1, "{report}");
    for part in [
        "Final-Recipient: rfc822; team@local.example\r\nAction: expanded\r\nStatus: 2.",
        "Original-Recipient: rfc822; team@local.example\r\n",
        "Original-Envelope-Id: id\r\n",
    ] {
        assert!(report.contains(part), "{part} in {report}");
    }
    assert!(!report.contains("x@one.x.example"), "{report}");
    let mut here = world.here;
    here.stop();
}
