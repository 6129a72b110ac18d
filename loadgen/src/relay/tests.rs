//! The whole command against a small relay, which can be told to do one thing wrong.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser as _;
use serde_json::Value;

/// What the relay does wrong with the message of this number, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Lose(u64),
    Double(u64),
    Change(u64),
    /// Delivers it, and says that it could not.
    Both(u64),
}

/// Takes mail, and sends each message on before it answers, to a host of the class of its domain.
struct Relay {
    address: SocketAddr,
}

/// Each test has networks of its own.
static NETWORK: AtomicU64 = AtomicU64::new(10);

impl Relay {
    fn start(fault: Fault, network: u8, port: u16) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::new(AtomicU64::new(0));
        let accept = move || {
            for stream in listener.incoming() {
                let (stream, count) = (stream.unwrap(), Arc::clone(&count));
                let next = move || count.fetch_add(1, Ordering::Relaxed) + 1;
                let serve = move || serve(stream, fault, network, port, &next).ok();
                std::thread::Builder::new().spawn(serve).unwrap();
            }
        };
        std::thread::Builder::new().spawn(accept).unwrap();
        Relay { address }
    }
}

fn serve(
    stream: TcpStream,
    fault: Fault,
    network: u8,
    port: u16,
    next: &dyn Fn() -> u64,
) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    out.write_all(b"220 relay\r\n")?;
    let (mut from, mut to, mut line) = (String::new(), Vec::new(), String::new());
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let address = || line.split(['<', '>']).nth(1).unwrap().to_owned();
        match line.split_whitespace().next().unwrap() {
            "EHLO" => out.write_all(b"250-relay\r\n250-AUTH PLAIN\r\n250 PIPELINING\r\n")?,
            "AUTH" if line == "AUTH PLAIN AG1lAHNlY3JldA==\r\n" => out.write_all(b"235 in\r\n")?,
            "AUTH" => out.write_all(b"535 no\r\n")?,
            "MAIL" => {
                from = address();
                to.clear();
                out.write_all(b"250 ok\r\n")?;
            }
            "RCPT" => {
                to.push(address());
                out.write_all(b"250 ok\r\n")?;
            }
            "DATA" => {
                out.write_all(b"354 go\r\n")?;
                let mut message = String::new();
                while !message.ends_with("\r\n.\r\n") {
                    input.read_line(&mut message)?;
                }
                let number = next();
                for to in &to {
                    relay(fault, number, network, port, &from, to, &message);
                }
                out.write_all(b"250 taken\r\n")?;
            }
            "QUIT" => return out.write_all(b"221 bye\r\n"),
            _ => out.write_all(b"250 ok\r\n")?,
        }
    }
}

/// One recipient; a refusal is reported at once.
fn relay(fault: Fault, number: u64, network: u8, port: u16, from: &str, to: &str, message: &str) {
    let live = Ipv4Addr::new(127, network, 0, 1);
    let class = ["live", "slow", "refusing", "dead"]
        .iter()
        .position(|class| to.contains(&format!(".{class}.")))
        .and_then(|class| u8::try_from(class).ok())
        .unwrap();
    let host = Ipv4Addr::new(127, network + class, 0, 1);
    let changed = message.replace("pigeon", "pidgin");
    let message = if fault == Fault::Change(number) { &changed } else { message };
    let copies = match fault {
        Fault::Lose(bad) if bad == number => 0,
        Fault::Double(bad) if bad == number => 2,
        _ => 1,
    };
    let mut is_refused = fault == Fault::Both(number);
    for _ in 0..copies {
        // A dead host is tried again another day.
        is_refused |=
            deliver(host, port, from, to, message).is_ok_and(|reply| reply.starts_with('5'));
    }
    if is_refused {
        let report = format!(
            "Subject: failed\r\n\r\nFinal-Recipient: rfc822; {to}\r\nAction: failed\r\n\r\n.\r\n"
        );
        deliver(live, port, "", from, &report).unwrap();
    }
}

fn deliver(
    host: Ipv4Addr,
    port: u16,
    from: &str,
    to: &str,
    message: &str,
) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((host, port))?;
    let mut input = BufReader::new(stream.try_clone()?);
    let mut said = String::new();
    input.read_line(&mut said)?;
    for command in [
        "HELO relay\r\n",
        &format!("MAIL FROM:<{from}>\r\n"),
        &format!("RCPT TO:<{to}>\r\n"),
        "DATA\r\n",
        message,
        "QUIT\r\n",
    ] {
        stream.write_all(command.as_bytes())?;
        let mut reply = String::new();
        input.read_line(&mut reply)?;
        if !reply.starts_with(['2', '3']) {
            return Ok(reply);
        }
        said = reply;
    }
    Ok(said)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Runs `loadgen relay` against a relay with this fault.
fn run(fault: Fault, more: &str) -> (Value, bool) {
    let network = u8::try_from(NETWORK.fetch_add(4, Ordering::Relaxed)).unwrap();
    let port = free_port();
    let relay = Relay::start(fault, network, port);
    let line = format!(
        "relay --to {} --sink-port {port} --network 127.{network}.0.0 --addresses 1 --size 2K \
         --sessions 4 --quiet --json {more}",
        relay.address
    );
    loadgen(&line)
}

fn loadgen(line: &str) -> (Value, bool) {
    let words = std::iter::once("loadgen").chain(line.split_whitespace());
    let cli = crate::cli::Cli::try_parse_from(words).unwrap();
    let (shown, good) = crate::execute(&cli).unwrap();
    (serde_json::from_str(&shown).unwrap(), good)
}

#[test]
fn a_good_relay_is_good() {
    for more in ["--count 60", "--count 20 --recipients 3 --domains 50 --pipelining off"] {
        let (report, good) = run(Fault::None, more);
        assert!(good, "{report}");
        let relay = &report["relay"];
        assert_eq!((&relay["acknowledged"], &relay["arrived"]), (&60.into(), &60.into()));
        assert_eq!(relay["latency"]["count"], 60);
        assert_eq!(report["sink"]["messages"], 60);
        assert_eq!(report["sent"]["recipients"], 60);
    }
}

#[test]
fn each_class_of_domains_ends_as_it_must() {
    let more = "--count 100 --domains 100 --slow 20% --slow-by 1ms --refusing 20% --dead 20%";
    let (report, good) = run(Fault::None, more);
    assert!(good, "{report}");
    let classes = &report["relay"]["classes"];
    let of = |class: &str, what: &str| classes[class][what].as_u64().unwrap();
    let mut all = 0;
    for (class, end) in
        [("live", "arrived"), ("slow", "arrived"), ("refusing", "bounced"), ("dead", "waiting")]
    {
        assert!(of(class, "acknowledged") > 0, "{class}");
        assert_eq!(of(class, "acknowledged"), of(class, end), "{class}");
        all += of(class, end);
    }
    assert_eq!(all, 100);
    assert_eq!(report["sink"]["told"]["failed"], of("refusing", "bounced"));
    assert_eq!(classes["refusing"]["bounce_latency"]["count"], of("refusing", "bounced"));
}

#[test]
fn finds_what_a_relay_did_wrong() {
    for (fault, wrong) in [
        (Fault::Lose(7), "missing"),
        (Fault::Change(7), "changed"),
        (Fault::Both(7), "both"),
        (Fault::Double(7), "doubled"),
    ] {
        let (report, good) = run(fault, "--count 20 --drain 300ms");
        assert!(!good, "{wrong}: {report}");
        let relay = &report["relay"];
        for kind in ["missing", "changed", "both"] {
            assert_eq!(relay[kind], u64::from(kind == wrong), "{wrong}: {kind}: {report}");
        }
        let doubled = u64::from(wrong == "doubled");
        assert_eq!(relay["doubled"]["answer_heard"], doubled, "{wrong}: {report}");
    }
}

#[test]
fn what_is_in_the_queue_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let listing = folder.path().join("queue");
    // The server has the one that it did not deliver; which one that is nobody knows before.
    let lines = (0..20).map(|seq| format!("4F2 <m{seq}.0@d0.live.relay.test> deferred"));
    let all = lines.collect::<Vec<_>>().join("\n");
    std::fs::write(&listing, all).unwrap();
    for (command, good) in [(format!("cat {}", listing.display()), true), ("true".into(), false)] {
        let network = u8::try_from(NETWORK.fetch_add(4, Ordering::Relaxed)).unwrap();
        let port = free_port();
        let relay = Relay::start(Fault::Lose(7), network, port);
        let to = relay.address.to_string();
        let (port, network) = (port.to_string(), format!("127.{network}.0.0"));
        let words = [
            "loadgen",
            "relay",
            "--to",
            &to,
            "--sink-port",
            &port,
            "--network",
            &network,
            "--count",
            "20",
            "--drain",
            "300ms",
            "--quiet",
            "--json",
            "--sessions",
            "2",
            "--queued-by",
            &command,
        ];
        let cli = crate::cli::Cli::try_parse_from(words).unwrap();
        let (shown, is_good) = crate::execute(&cli).unwrap();
        let report: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(is_good, good, "{report}");
        assert_eq!(report["relay"]["queued"], u64::from(good));
        assert_eq!(report["relay"]["missing"], u64::from(!good));
    }
}

#[test]
fn logs_in_where_it_is_told_to() {
    let (report, good) = run(Fault::None, "--count 5 --user me --password secret");
    assert!(good, "{report}");
    let (report, good) = run(Fault::None, "--count 5 --user me --password wrong --sessions 1");
    assert!(!good, "{report}");
    assert!(report["sent"]["replies"]["login"]["535"].as_u64().unwrap() > 0);
}

#[test]
fn reads_the_journal_of_a_sink_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    let network = u8::try_from(NETWORK.fetch_add(4, Ordering::Relaxed)).unwrap();
    let port = free_port();
    let line = format!(
        "sink --listen 127.{network}.0.1:{port} --quiet --json --count 30 --linger 20s --journal {}",
        journal.display()
    );
    let sink = std::thread::Builder::new().spawn(move || loadgen(&line)).unwrap();
    while TcpStream::connect((Ipv4Addr::new(127, network, 0, 1), port)).is_err() {
        std::thread::yield_now();
    }
    let relay = Relay::start(Fault::None, network, port);
    for _ in 0..2 {
        let (report, good) = loadgen(&format!(
            "relay --to {} --sink-journal {} --count 15 --sessions 2 --quiet --json",
            relay.address,
            journal.display()
        ));
        assert!(good, "{report}");
        assert_eq!(report["relay"]["arrived"], 15, "{report}");
        assert_eq!(report["sink"], Value::Null);
    }
    assert!(sink.join().unwrap().1);
}

#[test]
fn the_zone_names_every_domain() {
    let words = "loadgen zone --domains 3 --dead 34%".split(' ');
    let cli = crate::cli::Cli::try_parse_from(words).unwrap();
    let (zone, good) = crate::execute(&cli).unwrap();
    assert!(good && zone.contains("d1.live MX 10 mx1.live\n"), "{zone}");
    assert!(zone.contains("d0.dead MX 10 mx0.dead\n") && !zone.contains("slow"), "{zone}");
}
