//! What one server of a domain cannot take, or does not want to hear of, goes to another one: by a real
//! name server (Knot), servers of this file that offer little, and one of ours that offers all.

use crate::client::{Maildrop, find, smtp, stuff};
use crate::harness::Server;
use crate::knot::Knot;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

/// `old` takes little, `new` is ours, `broken` refuses all sessions, `gone` is not there at first.
const ZONE: &str = "two MX 10 old\ntwo MX 20 new\nlate MX 10 old\nlate MX 20 gone\n\
    none MX 10 old\nnone MX 20 old2\nsick MX 10 broken\nsick MX 20 new\nill MX 10 broken\n\
    new A 127.0.0.1\nold A 127.0.0.2\nbroken A 127.0.0.3\ngone A 127.0.0.4\nold2 A 127.0.0.5\n";

/// Serves on a loopback address for as long as the test runs, and takes everything.
fn serve(host: u8, port: u16, greeting: &'static str, offers: &'static [&'static str]) {
    let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, host), port)).unwrap();
    let accept = move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let talk = move || drop(talk(&stream, greeting, offers));
            std::thread::Builder::new().spawn(talk).unwrap();
        }
    };
    std::thread::Builder::new().spawn(accept).unwrap();
}

fn talk(mut stream: &TcpStream, greeting: &str, offers: &[&str]) -> std::io::Result<()> {
    write!(stream, "{greeting}\r\n")?;
    let mut is_message = false;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let verb = line.split([' ', ':']).next().unwrap_or_default();
        let answer = match (is_message, verb) {
            (true, ".") => {
                is_message = false;
                "250 taken".into()
            }
            (true, _) => continue,
            (false, "EHLO") => {
                let lines = offers.iter().map(|offer| format!("250-{offer}\r\n"));
                "250-hello\r\n".to_owned() + &lines.collect::<String>() + "250 HELP"
            }
            (false, "DATA") => {
                is_message = true;
                "354 go".into()
            }
            (false, "QUIT") => "221 bye".into(),
            (false, _) => "250 yes".to_owned(),
        };
        write!(stream, "{answer}\r\n")?;
    }
    Ok(())
}

struct World {
    here: Server,
    there: Server,
    _knot: Knot,
    _dir: tempfile::TempDir,
}

fn world() -> Option<World> {
    let dir = tempfile::tempdir().unwrap();
    let there = Server::with_users("", &["b"]);
    for domain in ["two.plain", "sick.plain"] {
        there.pombal(&["domain", "add", domain], "");
        there.pombal(&["alias", "add", &format!("@{domain}"), "b@local.example"], "");
    }
    let port = there.smtp();
    serve(2, port, "220 old", &["SIZE 2000"]);
    serve(3, port, "554 no", &[]);
    serve(5, port, "220 old2", &["SIZE 2000"]);
    let knot = Knot::with_root(dir.path(), &[], &[("plain.", ZONE)], &[])?;
    let settings = format!(
        "[smtp]\nmax_message_size = \"4M\"\nrelay_networks = [\"127.0.0.0/8\"]\n\
         [dns]\nservers = [\"{}\"]\ntrust_anchors = \"{}\"\n\
         [queue]\nport = {port}\nretry = [\"1s\"]\nsite_retry = [\"1s\"]\n\
         [mta_sts]\nenabled = false\n",
        knot.address(),
        knot.anchors().display(),
    );
    let here = Server::with_users(&settings, &["a"]);
    Some(World { here, there, _knot: knot, _dir: dir })
}

impl World {
    fn send(&self, recipient: &str, message: &str) {
        let mut link = smtp(self.here.smtp(), "EHLO").unwrap();
        link.command("MAIL FROM:<a@local.example> BODY=8BITMIME SMTPUTF8", 250).unwrap();
        link.command(&format!("RCPT TO:<{recipient}>"), 250).unwrap();
        link.command("DATA", 354).unwrap();
        link.send(stuff(message.as_bytes())).unwrap();
        link.expect(250).unwrap();
        link.command("QUIT", 221).unwrap();
    }

    /// The attempt that had this outcome.
    fn attempt(&self, recipient: &str, words: &[&str]) -> String {
        let recipient = format!("recipient={recipient} ");
        let words = [&["event=attempt", &recipient], words].concat();
        self.here.await_log(&words)
    }

    fn stop(mut self) {
        self.here.stop();
        self.there.stop();
    }
}

const UTF8: &str = "Subject: \u{438}\r\n\r\ntext\r\n";

/// RFC 6531 §3.5, and the same for its size and its octets.
#[test]
fn what_the_best_server_cannot_take_another_one_takes() {
    let Some(world) = world() else { return };
    let large = format!("Subject: large\r\n\r\n{}", "0123456789\r\n".repeat(300));
    let signed = "MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b; \
        protocol=\"application/pgp-signature\"\r\n\r\n--b\r\nContent-Type: text/plain; \
        charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\u{438}\r\n--b\r\n\
        Content-Type: application/pgp-signature\r\n\r\nx\r\n--b--\r\n";
    for (user, message) in [("header", UTF8), ("size", &large), ("signed", signed)] {
        let recipient = format!("{user}@two.plain");
        world.send(&recipient, message);
        let log = world.attempt(&recipient, &[]);
        assert!(log.contains("outcome=delivered") && log.contains("host=new.plain"), "{log}");
    }
    world.send("\u{438}@two.plain", "Subject: x\r\n\r\n");
    world.here.await_log(&["event=attempt", "\u{438}@two.plain", "outcome=delivered"]);
    // What it can take goes to the best one, as before.
    world.send("plain@two.plain", "Subject: x\r\n\r\n");
    let log = world.attempt("plain@two.plain", &[]);
    assert!(log.contains("outcome=relayed") && log.contains("host=old.plain"), "{log}");
    world.stop();
}

/// A server that might take it is waited for; where none might, it comes back at once.
#[test]
fn what_no_server_can_take_comes_back_and_not_before_all_were_asked() {
    let Some(world) = world() else { return };
    world.send("c@none.plain", UTF8);
    let log = world.attempt("c@none.plain", &[]);
    assert!(log.contains("outcome=failed") && log.contains("attempt=1 "), "{log}");
    let report = Maildrop::open_filled(world.here.pop3(), "a", 1).unwrap().retrieve_all().unwrap();
    assert!(find(&report[0], b"Status: 5.6.9").is_some());
    world.send("c@late.plain", UTF8);
    let log = world.attempt("c@late.plain", &[]);
    assert!(log.contains("outcome=deferred") && log.contains("refuses the connection"), "{log}");
    serve(4, world.there.smtp(), "220 gone", &["8BITMIME", "SMTPUTF8"]);
    world.attempt("c@late.plain", &["outcome=relayed", "host=gone.plain"]);
    world.stop();
}

/// RFC 5321 §5.1: one that refuses all sessions is not the end, alone or beside others.
#[test]
fn a_server_that_refuses_sessions_is_passed_over() {
    let Some(world) = world() else { return };
    world.send("c@sick.plain", "Subject: x\r\n\r\n");
    let log = world.attempt("c@sick.plain", &[]);
    assert!(log.contains("outcome=delivered") && log.contains("host=new.plain"), "{log}");
    world.send("c@ill.plain", "Subject: x\r\n\r\n");
    world.attempt("c@ill.plain", &["outcome=deferred", "454"]);
    world.stop();
}
