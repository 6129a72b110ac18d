//! Mail while the DNS is silent or answers rubbish, by a name server of this file that does so.
//!
//! Whatever comes of it, mail is put off, and comes back only for what a domain says; and others get
//! theirs meanwhile.

use crate::client::{Link, smtp};
use crate::harness::{Port, Server};
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, UdpSocket};

/// Where the name server listens: the ports of 127.0.0.1 are held by those whom they belong to.
const HERE: &str = "127.0.0.54";
const A: u16 = 1;
const CNAME: u16 = 5;
const MX: u16 = 15;

/// As it stands in a message.
fn wire(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}

fn record(name: &str, kind: u16, data: &[u8]) -> Vec<u8> {
    let mut out = wire(name);
    out.extend_from_slice(&kind.to_be_bytes());
    // Of the internet, for a minute.
    out.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
    out.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
    out.extend_from_slice(data);
    out
}

fn mx(name: &str, host: &str) -> Vec<u8> {
    record(name, MX, &[&[0, 10][..], &wire(host)].concat())
}

fn alias(name: &str, of: &str) -> Vec<u8> {
    record(name, CNAME, &wire(of))
}

/// The name that is asked for, its type, and where the question ends.
fn question(query: &[u8]) -> (String, u16, usize) {
    let (mut labels, mut at) = (Vec::new(), 12);
    while query[at] > 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_ascii_lowercase());
        at = end;
    }
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    (labels.join("."), kind, at + 5)
}

fn reply(query: &[u8], code: u8, records: &[Vec<u8>]) -> Vec<u8> {
    let (_, _, end) = question(query);
    let mut out = query[..end].to_vec();
    (out[2], out[3]) = (0x84 | query[2] & 1, 0x80 | code);
    let count = u8::try_from(records.len()).unwrap();
    out[4..12].copy_from_slice(&[0, 1, 0, count, 0, 0, 0, 0]);
    out.extend(records.iter().flatten());
    out
}

/// What is answered, by the label before `example`; nothing where it is silent.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let (name, kind, _) = question(query);
    let with = |records: &[Vec<u8>]| Some(reply(query, 0, records));
    let zone = name.strip_suffix(".example").and_then(|name| name.rsplit('.').next());
    match (zone.unwrap_or_default(), kind) {
        ("good", MX) => with(&[mx(&name, "mx.good.example")]),
        ("good", A) => with(&[record(&name, A, &[127, 0, 0, 1])]),
        ("good" | "empty", _) => with(&[]),
        // Of another name.
        ("wrong", _) => with(&[mx("other.example", "mx.good.example")]),
        // Of itself; each of the other; by way of the other.
        ("self", _) => with(&[alias(&name, &name)]),
        ("ring", _) => with(&[alias(&name, "b.ring.example"), alias("b.ring.example", &name)]),
        ("tail", _) => {
            with(&[alias(&name, "b.ring.example"), alias("b.ring.example", "b.ring.example")])
        }
        // Its host is such a ring.
        ("hosts", MX) => with(&[mx(&name, "mx.ring.example")]),
        // Over several answers.
        ("long", _) if name == "long.example" => with(&[alias(&name, "b.long.example")]),
        ("long", _) => with(&[alias(&name, "long.example")]),
        ("garbage", _) => Some(b"\xff\x00this is no answer of a name server".to_vec()),
        ("cut", _) => {
            let mut whole = with(&[mx(&name, "mx.good.example")])?;
            whole.truncate(whole.len() - 7);
            Some(whole)
        }
        ("truncated", _) => {
            let mut whole = with(&[])?;
            whole[2] |= 2;
            Some(whole)
        }
        ("number", _) => {
            let mut whole = with(&[mx(&name, "mx.good.example")])?;
            whole[0] ^= 0x55;
            Some(whole)
        }
        ("broken", _) => Some(reply(query, 2, &[])),
        ("silent", _) => None,
        _ => Some(reply(query, 3, &[])),
    }
}

/// Serves for as long as the test runs. By TCP it says nothing.
fn serve() -> SocketAddr {
    let port = Port::find();
    let address = SocketAddr::new(HERE.parse().unwrap(), port.number);
    let (socket, quiet) = (UdpSocket::bind(address).unwrap(), TcpListener::bind(address).unwrap());
    let serve = move || {
        // It is ours for as long.
        let _port = port;
        let mut query = [0; 1_500];
        while let Ok((len, from)) = socket.recv_from(&mut query) {
            let is_whole = len > 16;
            if let Some(answer) = is_whole.then(|| answer(&query[..len])).flatten() {
                drop(socket.send_to(&answer, from));
            }
        }
    };
    std::thread::Builder::new().spawn(serve).unwrap();
    let hold = move || quiet.incoming().collect::<Vec<_>>();
    std::thread::Builder::new().spawn(hold).unwrap();
    address
}

struct World {
    here: Server,
    there: Server,
}

/// Two servers, of which one takes the mail of `*.good.example`.
fn world(timeout: &str, queue: &str) -> World {
    let there = Server::with_users("", &["b"]);
    for number in 0..6 {
        let domain = format!("g{number}.good.example");
        there.pombal(&["domain", "add", &domain], "");
        there.pombal(&["alias", "add", &format!("@{domain}"), "b@local.example"], "");
    }
    let settings = format!(
        "[smtp]\nmax_message_size = \"4M\"\nrelay_networks = [\"127.0.0.0/8\"]\n\
         max_recipients = 1000\n[dns]\nservers = [\"{}\"]\ntimeout = \"{timeout}\"\n\
         dnssec = \"off\"\n[queue]\nport = {}\nretry = [\"1h\"]\n{queue}\
         [mta_sts]\nenabled = false\n",
        serve(),
        there.smtp(),
    );
    World { here: Server::with_users(&settings, &["a"]), there }
}

/// One message; its commands go out together.
fn send(link: &mut Link, recipients: &[String]) {
    let mut commands = "MAIL FROM:<a@local.example>\r\n".to_owned();
    for to in recipients {
        write!(commands, "RCPT TO:<{to}>\r\n").unwrap();
    }
    link.send(commands + "DATA\r\n").unwrap();
    (0..=recipients.len()).for_each(|_| drop(link.expect(250).unwrap()));
    link.expect(354).unwrap();
    link.send("Subject: x\r\n\r\nx\r\n.\r\n").unwrap();
    link.expect(250).unwrap();
}

impl World {
    /// The first attempt for a recipient.
    fn attempt(&self, recipient: &str) -> String {
        self.here.await_log(&["event=attempt", &format!("recipient={recipient} ")])
    }

    fn stop(mut self) {
        self.here.stop();
        self.there.stop();
    }
}

/// What says nothing of a domain, in any way, is no reason for its mail to come back.
#[test]
fn rubbish_of_a_name_server_puts_mail_off_and_holds_up_no_other() {
    let world = world("2s", "");
    let bad = [
        "wrong",
        "self",
        "ring",
        "tail",
        "hosts",
        "long",
        "garbage",
        "cut",
        "truncated",
        "number",
        "broken",
        "silent",
    ];
    let mut link = smtp(world.here.smtp(), "EHLO").unwrap();
    let mut to: Vec<String> = bad.iter().map(|name| format!("u@{name}.example")).collect();
    to.extend(["u@empty.example", "u@nowhere.example", "u@g0.good.example"].map(Into::into));
    send(&mut link, &to);
    let log = world.attempt("u@g0.good.example");
    assert!(log.contains("outcome=delivered"), "{log}");
    for name in bad {
        let log = world.attempt(&format!("u@{name}.example"));
        assert!(log.contains("outcome=deferred") && log.contains("451 4.4.3"), "{log}");
    }
    // What a domain says of itself counts.
    for (name, said) in [("empty", "550 5.4.4"), ("nowhere", "550 5.1.2")] {
        let log = world.attempt(&format!("u@{name}.example"));
        assert!(log.contains("outcome=failed") && log.contains(said), "{log}");
    }
    world.stop();
}

/// More domains whose name servers are silent than there may be questions: others wait for none of them,
/// and nobody is told, nor does it count as an attempt, that we could not ask.
#[test]
fn silent_name_servers_hold_up_their_own_domains_alone() {
    const SILENT: usize = 2_000;
    let world = world("5s", "connections = 4000\n");
    let mut link = smtp(world.here.smtp(), "EHLO").unwrap();
    // By aliases: nobody asks at RCPT where their mail goes.
    let silent: Vec<String> = (0..SILENT).map(|n| format!("u@d{n}.silent.example")).collect();
    let mut aliases = Vec::new();
    for (number, some) in silent.chunks(500).enumerate() {
        let alias = format!("all{number}@local.example");
        let targets = some.iter().map(String::as_str);
        let words: Vec<&str> = ["alias", "add", &alias].into_iter().chain(targets).collect();
        world.here.pombal(&words, "");
        aliases.push(alias);
    }
    send(&mut link, &aliases);
    for number in 0..6 {
        send(&mut link, &[format!("u@g{number}.good.example")]);
    }
    for number in 0..6 {
        let log = world.attempt(&format!("u@g{number}.good.example"));
        assert!(log.contains("outcome=delivered") && log.contains("attempt=1 "), "{log}");
    }
    // Each of the others is given all of its time, some at once: most still wait for it.
    let tried = world.here.logged(&["event=attempt", "silent.example"]);
    assert!(tried < SILENT, "{tried}");
    world.attempt("u@d0.silent.example");
    assert_eq!(world.here.logged(&["event=attempt", "Too many"]), 0);
    world.stop();
}
