//! The PROXY protocol on the running server: whose word is taken, and what becomes of it.

use crate::client::Link;
use crate::client_certificates::client;
use crate::harness::{PASSWORD, Server};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;

const TRUSTED: &str = "127.0.0.9";
const SETTINGS: &str = "[proxy]\nnetworks = [\"127.0.0.9/32\"]\ntimeout = \"1s\"\n\
                        [protect]\nexempt_networks = []\nconnections_per_minute = 30\n";

const V2_FRONT: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn v2(command: u8, client: [u8; 4], tlvs: &[u8]) -> Vec<u8> {
    let len = u16::try_from(12 + tlvs.len()).unwrap().to_be_bytes();
    let ports = [0x30, 0x39, 0, 25];
    [V2_FRONT, &[command, 0x11], &len, &client, &[198, 51, 100, 1], &ports, tlvs].concat()
}

/// A connection of the trusted proxy that begins with `header`.
fn behind(port: u16, header: &[u8]) -> io::Result<Link> {
    let mut link = Link::connect_from(TRUSTED, port)?;
    link.send(header)?;
    Ok(link)
}

fn send_mail(link: &mut Link) -> io::Result<()> {
    for (command, code) in [
        ("EHLO c.example", 250),
        ("MAIL FROM:<x@remote.example>", 250),
        ("RCPT TO:<a@local.example>", 250),
        ("DATA", 354),
        ("Subject: x\r\n\r\nx\r\n.", 250),
    ] {
        link.command(command, code)?;
    }
    Ok(())
}

/// The client that the proxy names stands in Received, in the log, and in what is counted.
#[test]
fn the_client_behind_a_proxy_counts_everywhere() {
    let mut server = Server::with_users(SETTINGS, &["a"]);
    // In one piece with the first command, cut in pieces, and with TLVs.
    let header = b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 25\r\n";
    let mut link = behind(server.smtp(), &[&header[..], b"NOOP\r\n"].concat()).unwrap();
    link.expect(220).unwrap();
    link.expect(250).unwrap();
    send_mail(&mut link).unwrap();
    let mut link = Link::connect_from(TRUSTED, server.smtp()).unwrap();
    for octet in v2(0x21, [203, 0, 113, 8], &[4, 0, 2, 0, 0]) {
        link.send([octet]).unwrap();
    }
    link.expect(220).unwrap();
    send_mail(&mut link).unwrap();
    server.await_log(&["event=message", "peer=203.0.113.7"]);
    server.await_log(&["event=message", "peer=203.0.113.8"]);
    let mut reader = behind(server.pop3(), &v2(0x21, [203, 0, 113, 9], &[])).unwrap();
    crate::client::ok(&mut reader).unwrap();
    reader.send(format!("USER a@local.example\r\nPASS {PASSWORD}\r\nRETR 1\r\n")).unwrap();
    for _ in 0..3 {
        crate::client::ok(&mut reader).unwrap();
    }
    let mail = String::from_utf8(reader.body().unwrap()).unwrap();
    assert!(mail.contains("from c.example ([203.0.113.7])"), "{mail}");
    // Rates are those of the client, not of the proxy, which has made more connections by now.
    let greet = |last: u8| {
        let mut link = behind(server.smtp(), &v2(0x21, [203, 0, 114, last], &[])).unwrap();
        link.reply().unwrap().unwrap().code
    };
    assert!((0..50).all(|last| greet(last) == 220));
    assert_eq!((0..40).filter(|_| greet(60) == 421).count(), 10);
    server.stop();
}

/// A connection whose first octets go out with what is written first, in pieces of so many octets.
struct Fronted {
    stream: TcpStream,
    front: Vec<u8>,
    piece: usize,
}

impl Read for Fronted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Fronted {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let mut all = std::mem::take(&mut self.front);
        all.extend_from_slice(octets);
        for piece in all.chunks(self.piece) {
            self.stream.write_all(piece)?;
        }
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// The header comes before TLS, in one segment with the client's first message or cut anywhere; what is
/// said inside comes from the client that it names.
#[test]
fn a_header_comes_before_tls() {
    let mut server = Server::with_users(SETTINGS, &["a"]);
    let v1 =
        |last: u8| format!("PROXY TCP4 203.0.113.{last} 198.51.100.1 4711 993\r\n").into_bytes();
    let mut last = 0;
    for version in [&TLS12, &TLS13] {
        for is_v2 in [false, true] {
            for piece in [usize::MAX, 1, 60] {
                last += 1;
                let front =
                    if is_v2 { v2(0x21, [203, 0, 113, last], &[4, 0, 1, 0]) } else { v1(last) };
                for (port, command, answer) in [
                    (server.imaps(), format!("a LOGIN a@local.example {PASSWORD}"), "a OK"),
                    (server.pop3s(), format!("USER a@local.example\r\nPASS {PASSWORD}"), "+OK"),
                    (server.submissions(), "EHLO c.example".into(), "250"),
                ] {
                    let stream = Link::connect_from(TRUSTED, port).unwrap().writer();
                    let front = front.clone();
                    let fronted = Fronted { stream, front, piece };
                    let name = ServerName::try_from("mx.local.example").unwrap();
                    let tls = ClientConnection::new(client(version, None), name).unwrap();
                    let mut session = BufReader::new(StreamOwned::new(tls, fronted));
                    let mut line = String::new();
                    session.read_line(&mut line).unwrap();
                    assert!(["*", "+", "2"].iter().any(|begin| line.starts_with(begin)), "{line}");
                    session.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap();
                    line.clear();
                    session.read_line(&mut line).unwrap();
                    if port == server.pop3s() {
                        line.clear();
                        session.read_line(&mut line).unwrap();
                    }
                    assert!(line.starts_with(answer), "{line}, not {answer}");
                }
                let peer = format!("peer=203.0.113.{last} ");
                for protocol in ["imap", "pop3"] {
                    let protocol = format!("protocol={protocol}");
                    server.await_log(&["event=login ", &protocol, &peer, "tls=TLSv1."]);
                }
            }
        }
    }
    // TLS without a header, and a header inside of it, which is of no use there.
    let stream = Link::connect_from(TRUSTED, server.imaps()).unwrap().writer();
    let name = ServerName::try_from("mx.local.example").unwrap();
    let tls = ClientConnection::new(client(&TLS13, None), name).unwrap();
    let mut session = BufReader::new(StreamOwned::new(tls, stream));
    let mut heard = Vec::new();
    assert!(session.read_until(b'\n', &mut heard).is_err() || heard.is_empty());
    assert_eq!(server.figure("pombal_proxy_headers_bad_total"), 1);
    server.stop();
}

/// A health check speaks for the proxy itself.
#[test]
fn a_proxy_may_speak_for_itself() {
    let mut server = Server::with_users(SETTINGS, &["a"]);
    for header in [v2(0x20, [0; 4], &[]), b"PROXY UNKNOWN\r\n".to_vec()] {
        let mut link = behind(server.smtp(), &header).unwrap();
        link.expect(220).unwrap();
        link.command("QUIT", 221).unwrap();
    }
    server.stop();
}

/// No word to who does not say for whom it speaks; a header from elsewhere is a bad command; and a
/// listener that is not named expects none.
#[test]
fn a_bad_header_and_a_strangers_header_get_nowhere() {
    let listeners = SETTINGS.replace("timeout", "listeners = [\"smtp\"]\ntimeout");
    let mut server = Server::with_users(&listeners, &["a"]);
    let bad: [&[u8]; 4] = [
        b"EHLO a\r\n",
        b"PROXY TCP4 203.0.113.7\r\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 25",
        &v2(0x31, [0; 4], &[]),
    ];
    for header in bad {
        let mut link = behind(server.smtp(), header).unwrap();
        let told = link.rest().unwrap();
        assert!(told.is_empty(), "{}", told.escape_ascii());
    }
    server.await_log(&["event=client_refused", "why=proxy", "peer=127.0.0.9"]);
    assert_eq!(server.figure("pombal_proxy_headers_bad_total"), 4);
    let mut stranger = Link::connect_from("127.0.0.8", server.smtp()).unwrap();
    stranger.expect(220).unwrap();
    stranger.command("PROXY TCP4 203.0.113.7 198.51.100.1 4711 25", 500).unwrap();
    let mut plain = Link::connect_from(TRUSTED, server.imap()).unwrap();
    assert!(plain.line().unwrap().unwrap().starts_with(b"* OK"));
    server.stop();
}

/// XCLIENT: offered to and taken from trusted proxies alone; the session begins anew with their client,
/// who counts everywhere.
#[test]
fn xclient_is_taken_from_trusted_proxies_alone() {
    let settings = "[smtp]\nxclient_networks = [\"127.0.0.9/32\"]\nmax_message_size = \"4M\"\n\
                    [protect]\nexempt_networks = [\"127.0.0.9/32\"]\nconnections_per_minute = 20\n";
    let mut server = Server::with_users(settings, &["a"]);
    let begin = |source: &str| {
        let mut link = Link::connect_from(source, server.smtp()).unwrap();
        link.expect(220).unwrap();
        let told = link.command("EHLO proxy.example", 250).unwrap().text;
        (link, told)
    };
    let (mut stranger, told) = begin("127.0.0.8");
    assert!(!told.contains("XCLIENT"), "{told}");
    stranger.command("XCLIENT ADDR=203.0.113.7", 500).unwrap();
    let (mut link, told) = begin(TRUSTED);
    assert!(told.contains("XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"), "{told}");
    link.command("XCLIENT", 501).unwrap();
    link.command("XCLIENT ADDR=203.0.113.7 FOO=1", 501).unwrap();
    link.command("MAIL FROM:<x@remote.example>", 250).unwrap();
    link.command("XCLIENT ADDR=203.0.113.7", 503).unwrap();
    link.command("RSET", 250).unwrap();
    link.command(
        "XCLIENT NAME=mail.client.example ADDR=203.0.113.7 PROTO=SMTP HELO=c.example",
        220,
    )
    .unwrap();
    // It greeted already, by the word of the proxy.
    link.command("MAIL FROM:<x@remote.example>", 250).unwrap();
    link.command("RCPT TO:<a@local.example>", 250).unwrap();
    link.command("DATA", 354).unwrap();
    link.command("Subject: x\r\n\r\nx\r\n.", 250).unwrap();
    server.await_log(&["event=message", "peer=203.0.113.7", "name=mail.client.example"]);
    // What it says from here on may be its client's word: nobody else is named by it.
    let told = link.command("EHLO c.example", 250).unwrap().text;
    assert!(!told.contains("XCLIENT"), "{told}");
    link.command("XCLIENT ADDR=127.0.0.9 LOGIN=root", 500).unwrap();
    send_mail(&mut link).unwrap();
    // A client without a name has to greet.
    let (mut link, _) = begin(TRUSTED);
    link.command("XCLIENT ADDR=IPV6:2001:db8::7 NAME=[UNAVAILABLE]", 220).unwrap();
    link.command("MAIL FROM:<x@remote.example>", 503).unwrap();
    send_mail(&mut link).unwrap();
    server.await_log(&["event=message", "peer=2001:db8::7"]);
    let mut reader = Link::connect(server.pop3()).unwrap();
    crate::client::ok(&mut reader).unwrap();
    reader.send(format!("USER a@local.example\r\nPASS {PASSWORD}\r\nRETR 1\r\n")).unwrap();
    for _ in 0..3 {
        crate::client::ok(&mut reader).unwrap();
    }
    let mail = String::from_utf8(reader.body().unwrap()).unwrap().replace("\r\n\t", " ");
    assert!(mail.contains("from c.example (mail.client.example [203.0.113.7]) by"), "{mail}");
    assert!(mail.contains("with SMTP id"), "{mail}");
    // The rate is the client's.
    let introduce = |last: u8| {
        let (mut link, _) = begin(TRUSTED);
        link.send(format!("XCLIENT ADDR=203.0.113.{last}\r\n")).unwrap();
        link.reply().unwrap().map_or(0, |reply| reply.code)
    };
    let codes: Vec<u16> = (0..25).map(|_| introduce(60)).collect();
    assert!(codes.contains(&421), "{codes:?}");
    server.stop();
}

/// What a proxy may is not for its clients: neither where it names them, nor where it cannot.
#[test]
fn nobody_has_the_rights_of_the_proxy_that_he_comes_by() {
    let settings = "[smtp]\nxclient_networks = [\"127.0.0.9/32\", \"203.0.113.1/32\"]\n\
                    relay_networks = [\"127.0.0.9/32\"]\nmax_message_size = \"4M\"\n\
                    [proxy]\nnetworks = [\"127.0.0.9/32\"]\nlisteners = [\"smtp\"]\n\
                    [protect]\nexempt_networks = [\"127.0.0.9/32\"]\nconnections_per_minute = 1200\n";
    let mut server = Server::with_users(settings, &["a"]);
    // Whether XCLIENT is offered, and what mail for elsewhere is told.
    let may = |header: &[u8], more: &str| {
        let mut link = behind(server.smtp(), header).unwrap();
        link.expect(220).unwrap();
        if !more.is_empty() {
            link.command("EHLO c.example", 250).unwrap();
            link.command(more, 220).unwrap();
        }
        let told = link.command("EHLO c.example", 250).unwrap().text;
        link.command("MAIL FROM:<x@remote.example>", 250).unwrap();
        link.send("RCPT TO:<x@else.example>\r\n").unwrap();
        (told.contains("XCLIENT"), link.reply().unwrap().unwrap().code)
    };
    let from = |client: [u8; 4]| v2(0x21, client, &[]);
    let unix = [V2_FRONT, &[0x21, 0x31, 0, 216], &[0; 216]].concat();
    let unspecified = [V2_FRONT, &[0x21, 0x00, 0, 0]].concat();
    // The proxy itself, by its own word.
    assert_eq!(may(&v2(0x20, [0; 4], &[]), ""), (true, 250));
    assert_eq!(may(&from([127, 0, 0, 9]), ""), (true, 250));
    for header in [&b"PROXY UNKNOWN\r\n"[..], &unix, &unspecified, &from([203, 0, 113, 7])] {
        assert_eq!(may(header, ""), (false, 550), "{}", header.escape_ascii());
    }
    // One proxy behind another, whose address has the right to name a third.
    let second = from([203, 0, 113, 1]);
    assert_eq!(may(&second, ""), (true, 550));
    assert_eq!(may(&second, "XCLIENT ADDR=203.0.113.7"), (false, 550));
    for unnamed in ["XCLIENT NAME=c.example", "XCLIENT ADDR=[UNAVAILABLE]", "XCLIENT LOGIN=a"] {
        assert_eq!(may(&from([127, 0, 0, 9]), unnamed), (false, 550), "{unnamed}");
    }
    // Named by who may, an address has what it has.
    assert_eq!(may(&second, "XCLIENT ADDR=127.0.0.9"), (false, 250));
    server.stop();
}
