//! The sink as its clients see it, over real sockets.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use clap::Parser as _;

use super::desk::{Action, Batch, Event};
use super::keeper::{Answers, Doubled, Keeper};
use super::options::BehaviourOptions;
use super::profile::Profile;
use super::rule::Stage;
use super::{Running, Settings};

/// A sink that is at work.
struct Sink {
    running: Running,
    batches: Receiver<Batch>,
    addresses: Vec<SocketAddr>,
}

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    behaviour: BehaviourOptions,
}

impl Sink {
    fn start(profile: &str) -> Sink {
        let options = Line::try_parse_from(["sink"]).unwrap().behaviour;
        let profile = Profile::new(&Profile::parse(profile).unwrap()).unwrap();
        let mut settings = Settings::new(profile, &options).unwrap();
        // No test waits for it: it lets the last answers out.
        settings.linger = Duration::from_secs(20);
        let running = Running::start(settings, 1_024).unwrap();
        let addresses = running.addresses();
        let (running, batches) = running.split();
        Sink { running, batches, addresses }
    }

    /// One site on a free port, with these lines.
    fn site(lines: &str) -> Sink {
        Sink::start(&format!("[[site]]\nlisten = ['127.0.0.1:0']\n{lines}"))
    }

    fn client(&self) -> Client {
        Client::new(self.addresses[0])
    }

    /// What it saw, when all clients have gone.
    fn end(self) -> Keeper {
        self.running.stop();
        self.running.join();
        let mut keeper = Keeper::default();
        keeper.take_all(&self.batches);
        keeper
    }
}

/// A client that says lines and hears replies.
struct Client {
    stream: TcpStream,
    input: BufReader<TcpStream>,
}

impl Client {
    fn new(to: SocketAddr) -> Client {
        let stream = TcpStream::connect(to).unwrap();
        let input = BufReader::new(stream.try_clone().unwrap());
        Client { stream, input }
    }

    /// One that was greeted and said EHLO.
    fn greeted(to: SocketAddr) -> Client {
        let mut client = Client::new(to);
        assert_eq!(client.hear(), "220 sink.example.test ESMTP sink");
        client.ask("EHLO client.test");
        client
    }

    /// The last line of a reply; nothing at the end of the stream.
    fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            if self.input.read_line(&mut line).unwrap_or(0) == 0 {
                return String::new();
            }
            if line.get(3..4) != Some("-") {
                return line.trim_end().to_owned();
            }
        }
    }

    fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    fn ask(&mut self, line: &str) -> String {
        self.say(&format!("{line}\r\n"));
        self.hear()
    }

    /// A whole message; the first reply that is no success, or the last one.
    fn deliver(&mut self, from: &str, to: &str, message: &str) -> String {
        for (line, want) in [
            (format!("MAIL FROM:<{from}>"), "250"),
            (format!("RCPT TO:<{to}>"), "250"),
            ("DATA".into(), "354"),
        ] {
            let reply = self.ask(&line);
            if !reply.starts_with(want) {
                self.ask("RSET");
                return reply;
            }
        }
        self.ask(&format!("{message}."))
    }
}

const MESSAGE: &str = "X-Loadgen-Run: 1\r\nX-Loadgen-Seq: 7\r\n\r\nhello\r\n";

fn loadgen(line: &str) -> (serde_json::Value, bool) {
    let words = std::iter::once("loadgen").chain(line.split_whitespace()).chain(["--json"]);
    let cli = crate::cli::Cli::try_parse_from(words).unwrap();
    let (shown, good) = crate::execute(&cli).unwrap();
    (serde_json::from_str(&shown).unwrap(), good)
}

#[test]
fn takes_what_the_senders_of_this_tool_send() {
    for (name, lines, more) in [
        ("smtp", "", ""),
        ("smtp", "", "--pipelining off"),
        ("smtp", "extensions = ['PIPELINING', 'CHUNKING']", "--chunking --depth 5"),
        ("lmtp", "lmtp = true", ""),
    ] {
        let sink = Sink::site(lines);
        let to = sink.addresses[0];
        let (report, good) = loadgen(&format!(
            "{name} --to {to} --quiet --sessions 4 --count 60 --size 20K --recipients 3 {more}"
        ));
        assert!(good, "{name} {more}: {report}");
        let keeper = sink.end();
        assert_eq!((keeper.counts.messages, keeper.counts.recipients), (60, 180), "{more}");
        assert_eq!(keeper.counts.octets, 60 * 20_480, "{more}");
        assert_eq!(keeper.counts.faults.len(), 0, "{more}: {:?}", keeper.counts.faults);
        assert_eq!(keeper.foreign, 60, "{more}");
    }
}

#[test]
fn a_server_that_greets_late_is_waited_for() {
    let sink = Sink::site("delays = { connect = '1500ms' }");
    let to = sink.addresses[0];
    let (report, good) = loadgen(&format!("smtp --to {to} --quiet --sessions 4 --count 8"));
    assert!(good, "{report}");
    assert_eq!(sink.end().counts.messages, 8);
}

#[test]
fn knows_the_marks_and_digests_of_the_audit() {
    let folder = tempfile::tempdir().unwrap();
    let (sink, journal) = (Sink::site(""), folder.path().join("journal"));
    let to = sink.addresses[0];
    let (report, good) = loadgen(&format!(
        "audit --smtp {to} --pop3 {to} --journal {} --phase send --quiet --sessions 3 --count 50",
        journal.display()
    ));
    assert!(good, "{report}");
    let keeper = sink.end();
    assert_eq!((keeper.counts.messages, keeper.foreign, keeper.changed), (50, 0, 0));
    assert_eq!(keeper.doubled(), Doubled::default());
    assert_eq!(keeper.answers, Answers { heard: 50, unheard: 0, lost: 0 });
}

#[test]
fn sees_that_a_message_was_changed() {
    let sink = Sink::site("");
    let mut client = Client::greeted(sink.addresses[0]);
    let message = format!("X-Loadgen-Digest: ff\r\n{MESSAGE}");
    assert_eq!(client.deliver("a@b.test", "c@d.test", &message), "250 2.0.0 taken");
    client.ask("QUIT");
    assert_eq!(sink.end().changed, 1);
}

#[test]
fn greylists_the_first_attempts_of_each_message() {
    let sink = Sink::site("rule = [{ at = 'rcpt', code = 451, text = '4.7.1 grey', first = 2 }]");
    let mut client = Client::greeted(sink.addresses[0]);
    for (to, want) in [
        ("c@d.test", "451 4.7.1 grey"),
        ("e@d.test", "451 4.7.1 grey"),
        ("c@d.test", "451 4.7.1 grey"),
        ("c@d.test", "250 2.0.0 taken"),
        ("e@d.test", "451 4.7.1 grey"),
        ("e@d.test", "250 2.0.0 taken"),
    ] {
        assert_eq!(client.deliver("a@b.test", to, MESSAGE), want, "{to}");
    }
    client.ask("QUIT");
    assert_eq!(sink.end().counts.replies[&(Stage::Rcpt, 451)], 4);
}

#[test]
fn refuses_at_any_command() {
    for (at, asked) in [
        ("connect", ""),
        ("hello", "EHLO x"),
        ("mail", "MAIL FROM:<a@b.test>"),
        ("rcpt", "RCPT TO:<c@d.test>"),
        ("data", "DATA"),
        ("dot", "hello\r\n."),
        ("quit", "QUIT"),
    ] {
        let sink = Sink::site(&format!("rule = [{{ at = '{at}', code = 554 }}]"));
        let mut client = sink.client();
        let mut said = client.hear();
        for line in
            ["EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA", "hello\r\n.", "QUIT"]
        {
            if said.starts_with("554") {
                break;
            }
            said = client.ask(line);
            assert_eq!(said.starts_with("554"), line == asked, "{at}: {line}: {said}");
        }
        // Before EHLO was answered there are no enhanced codes.
        let is_early = at == "connect" || at == "hello";
        assert_eq!(said, if is_early { "554 not here" } else { "554 5.3.0 not here" }, "{at}");
        drop(client);
        let keeper = sink.end();
        assert_eq!(keeper.counts.replies.iter().filter(|((_, code), _)| *code == 554).count(), 1);
        assert_eq!(keeper.counts.messages, u64::from(at == "quit"), "{at}");
    }
}

#[test]
fn drops_the_connection_at_any_point() {
    for at in ["connect", "hello", "mail", "rcpt", "data", "body", "dot"] {
        for how in ["drop", "reset"] {
            let sink = Sink::site(&format!("rule = [{{ at = '{at}', do = '{how}' }}]"));
            let mut client = sink.client();
            let mut said = client.hear();
            for line in ["EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA", MESSAGE] {
                if !said.is_empty() {
                    // The peer may be gone already.
                    client.stream.write_all(format!("{line}\r\n").as_bytes()).ok();
                    if line == MESSAGE {
                        client.stream.write_all(b".\r\n").ok();
                    }
                    said = client.hear();
                }
            }
            assert_eq!(said, "", "{at} {how}");
            drop(client);
            let keeper = sink.end();
            let failings: Vec<_> =
                keeper.counts.failings.keys().map(|(at, how)| (at.label(), *how)).collect();
            assert_eq!(failings, [(at, how)]);
            // After the dot it was taken, and the sender does not know.
            let lost = u64::from(at == "dot");
            assert_eq!(keeper.answers, Answers { heard: 0, unheard: 0, lost }, "{at}");
        }
    }
}

#[test]
fn a_duplicate_after_a_lost_answer_is_excused() {
    let sink = Sink::site("rule = [{ at = 'dot', do = 'drop', first = 1 }]");
    for want in ["", "250 2.0.0 taken", "250 2.0.0 taken"] {
        let mut client = Client::greeted(sink.addresses[0]);
        assert_eq!(client.deliver("a@b.test", "c@d.test", MESSAGE), want);
        if !want.is_empty() {
            client.ask("QUIT");
        }
    }
    let doubled = sink.end().doubled();
    assert_eq!(doubled, Doubled { answer_lost: 1, broke_off: 0, answer_heard: 1 });
}

#[test]
fn tells_answers_that_were_heard_from_others() {
    let sink = Sink::site("");
    let mut client = Client::greeted(sink.addresses[0]);
    client.deliver("a@b.test", "c@d.test", MESSAGE);
    client.deliver("a@b.test", "e@d.test", MESSAGE);
    // It leaves without another word.
    drop(client);
    let keeper = sink.end();
    assert_eq!(keeper.answers, Answers { heard: 1, unheard: 1, lost: 0 });
}

#[test]
fn answers_without_end_and_never() {
    for how in ["endless-lines", "endless-line"] {
        let sink = Sink::site(&format!("rule = [{{ at = 'mail', do = '{how}' }}]"));
        let mut client = Client::greeted(sink.addresses[0]);
        client.say("MAIL FROM:<a@b.test>\r\n");
        let mut read = vec![0; 1 << 20];
        client.input.read_exact(&mut read).unwrap();
        let first: &[u8] = if how == "endless-lines" { b"250-and" } else { b"250 and" };
        assert!(read.starts_with(first));
        assert_eq!(memchr::memchr(b'\n', &read).is_some(), how == "endless-lines");
        drop(client);
        assert_eq!(sink.end().counts.failings.len(), 1);
    }
    let sink = Sink::site("rule = [{ at = 'dot', do = 'hang' }]");
    let mut client = Client::greeted(sink.addresses[0]);
    for line in ["MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"] {
        client.ask(line);
    }
    client.say(&format!("{MESSAGE}.\r\nNOOP\r\n"));
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.hear(), "");
    drop(client);
    let keeper = sink.end();
    assert_eq!((keeper.counts.messages, keeper.answers.lost), (1, 1));
}

#[test]
fn keeps_its_limits() {
    let sink = Sink::site(
        "connections_max = 1\nrecipients_max = 1\nmessages_max = 1\n\
         extensions = ['SIZE 100', 'ENHANCEDSTATUSCODES']",
    );
    let mut client = Client::greeted(sink.addresses[0]);
    assert_eq!(sink.client().hear(), "421 4.3.2 too many connections");
    assert_eq!(client.ask("MAIL FROM:<a@b.test> SIZE=101"), "552 5.3.4 that is too large");
    assert_eq!(client.ask("MAIL FROM:<a@b.test> SIZE=100"), "250 2.1.0 ok");
    assert_eq!(client.ask("RCPT TO:<c@d.test>"), "250 2.1.5 ok");
    assert_eq!(client.ask("RCPT TO:<d@d.test>"), "452 4.5.3 too many recipients");
    client.ask("DATA");
    let long = format!("{}\r\n.", "x".repeat(100));
    assert_eq!(client.ask(&long), "552 5.3.4 that is too large");
    let enough = "421 4.7.0 enough messages of one connection";
    assert_eq!(client.ask("MAIL FROM:<a@b.test>"), enough);
    assert_eq!(client.hear(), "");
    let keeper = sink.end();
    assert_eq!((keeper.counts.turned_away, keeper.counts.messages), (1, 0));
}

#[test]
fn a_rate_defers_what_is_above_it() {
    let sink = Sink::site("rate = '0.001/s'");
    let mut client = Client::greeted(sink.addresses[0]);
    assert_eq!(client.ask("MAIL FROM:<a@b.test>"), "250 2.1.0 ok");
    client.ask("RSET");
    assert_eq!(client.ask("MAIL FROM:<a@b.test>"), "450 4.7.1 too many messages a second");
    drop(client);
    sink.end();
}

#[test]
fn a_domain_has_manners_of_its_own() {
    let sink = Sink::start(
        "[[site]]\nlisten = ['127.0.0.1:0']\n\
         [[domain]]\nnames = ['*.full.test']\nrule = [{ at = 'rcpt', code = 552, text = '5.2.2 full' }]\n\
         [[domain]]\nnames = ['later.test']\nrule = [{ at = 'dot', code = 451, text = '4.3.0 later' }]\n",
    );
    let mut client = Client::greeted(sink.addresses[0]);
    assert_eq!(client.deliver("a@b.test", "x@a.full.test", MESSAGE), "552 5.2.2 full");
    assert_eq!(client.deliver("a@b.test", "x@later.test", MESSAGE), "451 4.3.0 later");
    assert_eq!(client.deliver("a@b.test", "x@good.test", MESSAGE), "250 2.0.0 taken");
    drop(client);
    sink.end();
}

#[test]
fn lmtp_answers_for_each_recipient() {
    let sink = Sink::start(
        "[default]\nlmtp = true\n[[site]]\nlisten = ['127.0.0.1:0']\n\
         [[domain]]\nnames = ['full.test']\nrule = [{ at = 'dot', code = 552, text = '5.2.2 full' }]\n",
    );
    let mut client = sink.client();
    assert_eq!(client.hear(), "220 sink.example.test LMTP sink");
    assert_eq!(client.ask("EHLO x").get(..3), Some("500"));
    client.ask("LHLO x");
    client.ask("MAIL FROM:<a@b.test>");
    for to in ["a@full.test", "b@good.test", "c@full.test"] {
        client.ask(&format!("RCPT TO:<{to}>"));
    }
    client.ask("DATA");
    assert_eq!(client.ask(&format!("{MESSAGE}.")), "552 5.2.2 full");
    assert_eq!(client.hear(), "250 2.0.0 taken");
    assert_eq!(client.hear(), "552 5.2.2 full");
    client.ask("QUIT");
    let mut recipients = Vec::new();
    let mut keeper = Keeper::default();
    sink.running.stop();
    sink.running.join();
    for batch in sink.batches {
        keeper.take(&batch, |event| {
            if let Event::Taken(taken) = event {
                recipients.extend(taken.recipients.iter().map(ToString::to_string));
            }
        });
    }
    assert_eq!(recipients, ["b@good.test"]);
    // EHLO is not known by LMTP.
    assert_eq!(keeper.counts.faults["command that is not known"], 1);
}

#[test]
fn sees_what_a_client_may_not_do() {
    let sink = Sink::site("extensions = ['SIZE 1000']");
    let mut client = Client::greeted(sink.addresses[0]);
    for (line, want) in [
        ("MAIL FROM:<a@b.test> BODY=8BITMIME", "555 parameter of an extension that is not offered"),
        ("MAIL FROM:<a@b.test> X=1", "555 parameter that is not known"),
        ("MAIL FROM:<\u{fc}@b.test>", "553 address beyond ASCII"),
        ("RCPT TO:<a@b.test>", "503 RCPT at the wrong time"),
        ("STARTTLS", "502 STARTTLS is not offered"),
        ("BDAT 0 LAST", "502 BDAT is not offered"),
        ("RCPT TO:<>", "501 RCPT without a path"),
    ] {
        assert_eq!(client.ask(line), want);
    }
    client.say("NOOP\r\nNOOP\r\n");
    client.hear();
    client.hear();
    assert_eq!(
        client.deliver("a@b.test", "c@d.test", "a: b\r\n\r\n.bad\r\n\u{fc}\nx\r\n"),
        "250 taken"
    );
    client.ask("QUIT");
    let keeper = sink.end();
    let faults: Vec<_> = keeper.counts.faults.keys().copied().collect();
    assert_eq!(
        faults,
        [
            "8 bit octets without BODY=8BITMIME",
            "BDAT is not offered",
            "RCPT at the wrong time",
            "RCPT without a path",
            "STARTTLS is not offered",
            "address beyond ASCII",
            "bare LF in a message",
            "commands together without PIPELINING",
            "dot that is not doubled",
            "parameter of an extension that is not offered",
            "parameter that is not known",
        ]
    );
}

#[test]
fn speaks_tls_and_fails_in_its_middle() {
    use crate::cli::{Protocol, Switch, TlsOptions};
    use crate::wire::secure::Encryption;
    use tokio::io::AsyncWriteExt as _;

    let options = TlsOptions {
        tls: false,
        starttls: Some(Protocol::Smtp),
        tls_resume: Switch::On,
        tls_1_2: false,
        tls_name: "localhost".into(),
    };
    for (lines, works) in [("", true), ("rule = [{ at = 'tls', do = 'drop' }]", false)] {
        let sink = Sink::site(&format!("extensions = ['STARTTLS', 'REQUIRETLS']\n{lines}"));
        let encryption = Encryption::new(&options).unwrap();
        let to = sink.addresses[0];
        let encrypted = crate::run::runtime().block_on(async {
            let stream = tokio::net::TcpStream::connect(to).await.unwrap();
            let (mut stream, _) = encryption.encrypt(stream).await?;
            stream.write_all(b"EHLO x\r\nMAIL FROM:<a@b.test> REQUIRETLS\r\nQUIT\r\n").await?;
            let mut said = String::new();
            tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut said).await?;
            Ok::<_, std::io::Error>(said)
        });
        assert_eq!(encrypted.is_ok(), works, "{encrypted:?}");
        if let Ok(said) = encrypted {
            assert!(
                said.contains("250 REQUIRETLS\r\n250 ok\r\n") && !said.contains("STARTTLS"),
                "{said}"
            );
        }
        assert_eq!(sink.end().counts.encrypted, u64::from(works));
    }
}

#[test]
fn options_of_clients_are_refused() {
    for line in ["loadgen sink --listen 127.0.0.1:0 --tls", "loadgen zone --starttls smtp"] {
        let cli = crate::cli::Cli::try_parse_from(line.split(' ')).unwrap();
        assert!(crate::execute(&cli).unwrap_err().contains("for clients"), "{line}");
    }
}

#[test]
fn reads_reports_that_come_back() {
    let sink = Sink::site("");
    let mut client = Client::greeted(sink.addresses[0]);
    let report = "Subject: failed\r\n\r\nFinal-Recipient: rfc822; a@b.test\r\nAction: failed\r\n\r\n\
        X-Loadgen-Run: 1\r\nX-Loadgen-Seq: 7\r\n";
    assert_eq!(client.deliver("", "me@here.test", report), "250 2.0.0 taken");
    client.ask("QUIT");
    let keeper = sink.end();
    assert_eq!((keeper.told[&Action::Failed], keeper.foreign), (1, 0));
}

#[test]
fn a_blackhole_is_never_connected_to() {
    let sink = Sink::site("blackhole = true");
    let error = TcpStream::connect_timeout(&sink.addresses[0], Duration::from_millis(300));
    assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    sink.end();
}

#[test]
fn ends_by_itself_and_leaves_a_journal() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, keep) = (folder.path().join("journal"), folder.path().join("kept"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let line = format!(
        "sink --listen 127.0.0.1:{port} --count 2 --quiet --journal {} --keep {} --linger 20s",
        journal.display(),
        keep.display()
    );
    let sink = std::thread::Builder::new().spawn(move || loadgen(&line)).unwrap();
    let to: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    while TcpStream::connect(to).is_err() {
        std::thread::yield_now();
    }
    let mut client = Client::greeted(to);
    client.deliver("a@b.test", "c@d.test", MESSAGE);
    client.deliver("a@b.test", "c@d.test", MESSAGE);
    client.ask("QUIT");
    let (report, good) = sink.join().unwrap();
    assert!(!good, "there is a duplicate");
    assert_eq!((&report["messages"], &report["doubled"]["answer_heard"]), (&2.into(), &1.into()));
    let mut keeper = Keeper::default();
    for line in std::fs::read_to_string(journal).unwrap().lines() {
        keeper.event(&super::journal::parse(line).unwrap());
    }
    assert_eq!(keeper.doubled().answer_heard, 1);
    let kept = std::fs::read_to_string(keep.join("1.eml")).unwrap();
    assert_eq!(kept, format!("Return-Path: <a@b.test>\r\nDelivered-To: c@d.test\r\n{MESSAGE}"));
}
