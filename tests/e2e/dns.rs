//! What the DNS says of clients, by a real name server (Knot) on loopback.
//!
//! Clients have any address that a test likes: they come by a trusted proxy, which names it.

use crate::client::{Link, ok, smtp};
use crate::harness::{PASSWORD, PATIENCE, Server};
use crate::knot::Knot;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// Whose word the server takes for who a client is.
const PROXY: &str = "127.0.0.9";
const ZONES: [(&str, &str); 7] = [
    (
        "2.0.192.in-addr.arpa.",
        "1 PTR mail.client.example.\n2 PTR liar.client.example.\n\
         3 PTR mail.client.example.\n4 PTR bad\\032name.client.example.\n",
    ),
    (
        "8.b.d.0.1.0.0.2.ip6.arpa.",
        "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0 PTR six.client.example.\n",
    ),
    (
        "client.example.",
        "mail A 192.0.2.1\nliar A 203.0.113.1\nsix AAAA 2001:db8::1\nalias CNAME null.example.\n\
         two MX 0 .\ntwo MX 10 mail\none MX 10 mail\n",
    ),
    ("null.example.", "@ MX 0 .\n@ A 192.0.2.1\n"),
    (
        "block.example.",
        "99.2.0.192 A 127.0.0.2\n98.2.0.192 A 127.0.0.20\n97.2.0.192 A 127.0.0.2\n\
         1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2 A 127.0.0.3\n",
    ),
    ("allow.example.", "97.2.0.192 A 127.0.4.1\n"),
    ("refuses.example.", "* A 127.255.255.254\n"),
];

/// A server that asks `dns`, and that is told by [`PROXY`] who its clients are.
pub(crate) fn asking(dns: SocketAddr, extra: &str) -> Server {
    let settings = format!(
        "[proxy]\nnetworks = [\"{PROXY}/32\"]\n[dns]\nservers = [\"{dns}\"]\ntimeout = \"2s\"\n\
         [protect]\nexempt_networks = [\"127.0.0.1/32\"]\n{extra}"
    );
    Server::with_users(&settings, &["a"])
}

/// A session of a client with this address, behind its EHLO.
pub(crate) fn client(server: &Server, address: &str) -> Link {
    let mut link = Link::connect_from(PROXY, server.smtp()).unwrap();
    let (family, to) = if address.contains(':') { ("6", "::1") } else { ("4", "127.0.0.1") };
    link.send(format!("PROXY TCP{family} {address} {to} 4711 25\r\n")).unwrap();
    link.expect(220).unwrap();
    link.command("EHLO c.example", 250).unwrap();
    link
}

/// Sends a message, as far as it gets: the first reply that is no success, or the last.
pub(crate) fn send(link: &mut Link, recipient: &str) -> (u16, String) {
    let rcpt = format!("RCPT TO:<{recipient}>");
    let commands = ["MAIL FROM:<x@remote.example>", &rcpt, "DATA", "Subject: x\r\n\r\nx\r\n."];
    let mut last = (0, String::new());
    for command in commands {
        link.send(format!("{command}\r\n")).unwrap();
        let reply = link.reply().unwrap().expect("a reply");
        last = (reply.code, reply.text);
        if last.0 >= 400 {
            break;
        }
    }
    last
}

/// The last message of a's maildrop.
pub(crate) fn last_mail(server: &Server) -> String {
    let mut link = Link::connect(server.pop3()).unwrap();
    ok(&mut link).unwrap();
    link.send(format!("USER a@local.example\r\nPASS {PASSWORD}\r\nSTAT\r\n")).unwrap();
    ok(&mut link).unwrap();
    ok(&mut link).unwrap();
    let told = ok(&mut link).unwrap();
    let count = told.split(' ').nth(1).unwrap().to_owned();
    link.send(format!("RETR {count}\r\nQUIT\r\n")).unwrap();
    ok(&mut link).unwrap();
    String::from_utf8(link.body().unwrap()).unwrap()
}

/// The name of a client stands in Received and in the log where its address and its name agree.
#[test]
fn a_client_has_the_name_that_the_dns_gives_it() {
    let dir = tempfile::tempdir().unwrap();
    let Some(knot) = Knot::start(dir.path(), &ZONES) else { return };
    let named = [
        ("192.0.2.1", "(mail.client.example [192.0.2.1])"),
        ("192.0.2.2", "([192.0.2.2])"),
        ("192.0.2.3", "([192.0.2.3])"),
        ("192.0.2.4", "([192.0.2.4])"),
        ("192.0.2.5", "([192.0.2.5])"),
        ("2001:db8::1", "(six.client.example [IPv6:2001:db8::1])"),
    ];
    let mut running = asking(knot.address(), "");
    for (address, want) in named {
        // The name is not waited for: it is there soon.
        let is_named = (0..100).any(|_| {
            let mut link = client(&running, address);
            std::thread::park_timeout(Duration::from_millis(20));
            assert_eq!(send(&mut link, "a@local.example").0, 250);
            last_mail(&running).replace("\r\n\t", " ").contains(want)
        });
        assert!(is_named, "{address}: {}", last_mail(&running));
    }
    running.await_log(&["event=message", "peer=192.0.2.1", "name=mail.client.example"]);
    running.stop();
}

/// Name servers that do not answer hold nobody up.
#[test]
fn a_dead_name_server_delays_nobody() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let checks = "[protect.checks]\nsmtp = [\"reverse_name\"]\n";
    let mut server = asking(silent.local_addr().unwrap(), checks);
    let mut link = client(&server, "192.0.2.1");
    assert_eq!(send(&mut link, "a@local.example").0, 250);
    assert!(last_mail(&server).contains("([192.0.2.1])"));
    // The answer was there before the time was over, which shows in what is counted as failed later.
    let count = |name: &str| server.figure(name);
    for _ in 0..PATIENCE.as_millis() / 20 {
        if count("pombal_dns_failed_total") > 0 {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert_eq!((count("pombal_dns_asked_total"), count("pombal_dns_failed_total")), (1, 1));
    server.stop();
}

const LISTS: &str = "[[protect.dns_list]]\nzone = \"block.example\"\nanswers = [\"127.0.0.2-11\"]\nweight = 2\n\
                     [[protect.dns_list]]\nzone = \"allow.example\"\nanswers = [\"127.0.0-255.1-3\"]\nweight = -2\n\
                     [[protect.dns_list]]\nzone = \"refuses.example\"\nweight = 9\n\
                     [[protect.dns_list]]\nzone = \"nowhere.example\"\nweight = 9\n";

/// Who is on a list is refused, IPv4 and IPv6; who is on none, with an answer that does not count, or
/// on an allow list too, is not; lists that refuse us or do not exist list nobody.
#[test]
fn who_is_on_a_list_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let Some(knot) = Knot::start(dir.path(), &ZONES) else { return };
    let mut server = asking(knot.address(), &format!("dns_lists_reject = 2\n{LISTS}"));
    for (address, code) in [
        ("192.0.2.99", 550),
        ("2001:db8::1", 550),
        ("192.0.2.98", 250),
        ("192.0.2.97", 250),
        ("192.0.2.1", 250),
    ] {
        let (told, text) = send(&mut client(&server, address), "a@local.example");
        assert_eq!(told, code, "{address}: {text}");
        if code == 550 {
            let want = format!("550 5.7.1 Your address {address} is listed by block.example\n");
            assert_eq!(text, want);
        }
    }
    // Postmaster hears who was listed wrongly.
    let (told, text) = send(&mut client(&server, "192.0.2.99"), "postmaster@local.example");
    assert_eq!(told, 250, "{text}");
    assert!(last_mail(&server).contains("X-DNS-Lists: score=2; block.example\r\n"));
    server.await_log(&["event=client_refused", "why=dns_list", "what=block.example"]);
    server.await_log(&["event=dns_list_useless", "level=warn"]);
    assert_eq!(server.figure("pombal_refused_dns_list_total"), 2);
    assert!(server.figure("pombal_dns_list_errors_total") >= 6);
    server.stop();
}

/// A list may do no more than mark; and commands that come in one piece with EHLO do not slip through.
#[test]
fn who_is_on_a_list_is_marked_where_the_operator_wants_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let Some(knot) = Knot::start(dir.path(), &ZONES) else { return };
    let mut server = asking(knot.address(), &format!("dns_lists_reject = 0\n{LISTS}"));
    assert_eq!(send(&mut client(&server, "192.0.2.99"), "a@local.example").0, 250);
    assert!(last_mail(&server).contains("X-DNS-Lists: score=2; block.example\r\n"));
    assert_eq!(send(&mut client(&server, "192.0.2.98"), "a@local.example").0, 250);
    assert!(!last_mail(&server).contains("X-DNS-Lists"));
    server.stop();
    let mut strict = asking(knot.address(), LISTS);
    let mut link = Link::connect_from(PROXY, strict.smtp()).unwrap();
    link.send(
        "PROXY TCP4 192.0.2.99 127.0.0.1 4711 25\r\nEHLO a\r\nMAIL FROM:<>\r\n\
         RCPT TO:<a@local.example>\r\nDATA\r\n",
    )
    .unwrap();
    for code in [220, 250, 250, 550, 554] {
        link.expect(code).unwrap();
    }
    strict.stop();
}

/// Name servers that are dead cost one wait, and list nobody.
#[test]
fn a_dead_list_lists_nobody() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut server = asking(silent.local_addr().unwrap(), LISTS);
    assert_eq!(send(&mut client(&server, "192.0.2.99"), "a@local.example").0, 250);
    server.await_log(&["event=dns_list_useless", "answer=\"no answer\""]);
    server.stop();
}

/// What `MAIL FROM:<sender>` is answered; a 250 is taken back.
fn mail(link: &mut Link, sender: &str) -> String {
    link.send(format!("MAIL FROM:<{sender}>\r\nRSET\r\n")).unwrap();
    let told = link.reply().unwrap().expect("a reply").text;
    link.expect(250).unwrap();
    told
}

/// RFC 7505 §4.2: nobody could answer to a sender whose domain has no mail.
#[test]
fn who_has_no_mail_sends_none() {
    let dir = tempfile::tempdir().unwrap();
    let Some(knot) = Knot::start(dir.path(), &ZONES) else { return };
    let mut server = asking(knot.address(), "");
    let mut link = client(&server, "192.0.2.1");
    for sender in ["x@null.example", "X@NULL.example", "x@alias.client.example"] {
        let told = mail(&mut link, sender);
        assert!(told.starts_with("550 5.7.27 "), "{sender}: {told}");
    }
    for sender in [
        "",
        "x@one.client.example",
        // No null MX: it is not alone.
        "x@two.client.example",
        "x@mail.client.example",
        "x@nowhere.client.example",
        "x@nowhere.example",
        "x@local.example",
        "x@[192.0.2.1]",
    ] {
        let told = mail(&mut link, sender);
        assert!(told.starts_with("250 "), "{sender}: {told}");
    }
    // What is pipelined behind it waits with it.
    link.send("MAIL FROM:<x@null.example>\r\nRCPT TO:<a@local.example>\r\nDATA\r\n").unwrap();
    for code in [550, 503, 503] {
        link.expect(code).unwrap();
    }
    server.await_log(&["event=client_refused", "why=null_mx", "what=x@null.example"]);
    assert_eq!(server.figure("pombal_refused_null_mx_total"), 4);
    // Who is exempt, LMTP, and where the operator does without.
    let told = mail(&mut smtp(server.smtp(), "EHLO").unwrap(), "x@null.example");
    assert!(told.starts_with("250 "), "{told}");
    let told = mail(&mut smtp(server.lmtp(), "LHLO").unwrap(), "x@null.example");
    assert!(told.starts_with("250 "), "{told}");
    server.stop();
    let mut lenient = asking(knot.address(), "[protect.checks]\nsmtp = [\"rates\"]\n");
    let told = mail(&mut client(&lenient, "192.0.2.1"), "x@null.example");
    assert!(told.starts_with("250 "), "{told}");
    lenient.stop();
}

const RELAYING: &str = "[smtp]\nmax_message_size = \"4M\"\nrelay_networks = [\"192.0.2.1/32\"]\n";

/// RFC 7505 §4.1: who may send elsewhere is told at once that there is no mail.
#[test]
fn nothing_is_sent_to_who_has_no_mail() {
    let dir = tempfile::tempdir().unwrap();
    let Some(knot) = Knot::start(dir.path(), &ZONES) else { return };
    let mut server = asking(knot.address(), RELAYING);
    let mut user = smtp(server.submission(), "EHLO").unwrap();
    user.command("AUTH PLAIN AGFAbG9jYWwuZXhhbXBsZQBzZWNyZXQ=", 235).unwrap();
    for (link, sender) in [
        (&mut user, "a@local.example"),
        (&mut client(&server, "192.0.2.1"), "x@one.client.example"),
    ] {
        link.command(&format!("MAIL FROM:<{sender}>"), 250).unwrap();
        let mut ask = |recipient: &str| {
            link.send(format!("RCPT TO:<{recipient}>\r\n")).unwrap();
            link.reply().unwrap().expect("a reply").text
        };
        for recipient in ["b@null.example", "B@Alias.client.example"] {
            let told = ask(recipient);
            assert!(told.starts_with("556 5.1.10 "), "{recipient}: {told}");
        }
        for recipient in ["b@one.client.example", "b@two.client.example", "a@local.example"] {
            let told = ask(recipient);
            assert!(!told.starts_with('5'), "{recipient}: {told}");
        }
    }
    // Who may not is told that, and nothing is asked.
    let mut link = client(&server, "192.0.2.2");
    link.command("MAIL FROM:<x@one.client.example>", 250).unwrap();
    link.command("RCPT TO:<b@null.example>", 550).unwrap();
    server.stop();
}

/// The check costs one wait where the name servers are dead, and refuses nobody.
#[test]
fn a_dead_name_server_refuses_no_sender() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut server = asking(silent.local_addr().unwrap(), "");
    assert_eq!(send(&mut client(&server, "192.0.2.1"), "a@local.example").0, 250);
    assert_eq!(server.figure("pombal_refused_null_mx_total"), 0);
    server.stop();
}
