//! What is held against clients on port 25: rates of addresses and networks, from other addresses of
//! this machine, for loopback is exempt by default and every test says otherwise.

use crate::client::Link;
use crate::harness::Server;

/// What an SMTP connection from `source` is told first.
fn greeting(server: &Server, source: &str) -> (Link, u16, String) {
    let mut link = Link::connect_from(source, server.smtp()).unwrap();
    let reply = link.reply().unwrap().expect("a greeting");
    (link, reply.code, reply.text)
}

/// One address has its rate over all shards, others and exempt ones are served, and the operator
/// sees who was refused and why.
#[test]
fn an_address_that_connects_too_often_is_told_so() {
    let mut server = Server::with_users(
        "[protect]\nexempt_networks = [\"127.9.0.0/16\"]\nconnections_per_minute = 20\n",
        &["a"],
    );
    let codes = |source: &str, count: usize| {
        (0..count).map(|_| greeting(&server, source).1).collect::<Vec<u16>>()
    };
    assert_eq!(codes("127.0.0.2", 20), [220; 20]);
    let (mut link, code, text) = greeting(&server, "127.0.0.2");
    assert_eq!((code, text.get(..10)), (421, Some("421 4.7.0 ")), "{text}");
    assert!(text.contains("address connects too often"), "{text}");
    assert!(link.rest().unwrap().is_empty());
    assert_eq!(codes("127.0.0.3", 20), [220; 20]);
    assert_eq!(codes("127.9.0.1", 60), [220; 60]);
    let line = server.await_log(&["event=client_refused", "peer=127.0.0.2", "why=rate"]);
    assert!(line.contains("what=\"connections of the address\""), "{line}");
    assert!(server.figure("pombal_refused_rate_total") >= 1);
    server.stop();
}

/// A network has its rate however many addresses of it connect; LMTP checks nothing by default, and
/// IMAP has the same rates as SMTP together with it.
#[test]
fn a_network_that_connects_too_often_is_told_so() {
    let mut server = Server::with_users(
        "[protect]\nexempt_networks = []\nnetwork_connections_per_minute = 50\n\
         [protect.checks]\nimap = []\n",
        &["a"],
    );
    for host in 1..=50 {
        let (_, code, text) = greeting(&server, &format!("127.0.7.{host}"));
        assert_eq!(code, 220, "{host}: {text}");
    }
    let (_, code, text) = greeting(&server, "127.0.7.200");
    assert_eq!(code, 421);
    assert!(text.contains("network connects too often"), "{text}");
    let mut refused = Link::connect_from("127.0.7.1", server.pop3()).unwrap();
    assert!(refused.line().unwrap().unwrap().starts_with(b"-ERR"));
    let mut open = Link::connect_from("127.0.7.1", server.imap()).unwrap();
    assert!(open.line().unwrap().unwrap().starts_with(b"* OK"));
    let mut lmtp = Link::connect_from("127.0.7.1", server.lmtp()).unwrap();
    lmtp.expect(220).unwrap();
    assert_eq!(greeting(&server, "127.0.8.1").1, 220);
    server.stop();
}

/// All sessions of one address share the rate of commands.
#[test]
fn an_address_that_says_too_much_is_hung_up_on() {
    let mut server =
        Server::with_users("[protect]\nexempt_networks = []\ncommands_per_minute = 60\n", &["a"]);
    let mut told = 0;
    for _ in 0..4 {
        let (mut link, code, _) = greeting(&server, "127.0.0.2");
        assert_eq!(code, 220);
        for _ in 0..25 {
            link.send("NOOP\r\n").unwrap();
            match link.reply().unwrap() {
                Some(reply) if reply.code == 250 => {}
                Some(reply) => {
                    assert_eq!(reply.code, 421, "{}", reply.text);
                    assert!(reply.text.contains("Too many commands"), "{}", reply.text);
                    told += 1;
                    break;
                }
                None => panic!("no reply"),
            }
        }
    }
    assert!(told >= 1, "a hundred commands, and nobody was told");
    let (mut other, _, _) = greeting(&server, "127.0.0.3");
    other.command("NOOP", 250).unwrap();
    server.stop();
}

/// A flood from thousands of addresses, each of which connects once or twice, takes no memory that
/// stays, and a client with a good name is served all the while.
#[test]
fn a_flood_of_addresses_is_remembered_in_fixed_memory() {
    let mut server = Server::with_users(
        "[protect]\nexempt_networks = []\nconnections_per_minute = 10\n\
         network_connections_per_minute = 100\n",
        &["a"],
    );
    // Buffers, tasks and the sketches' own pages are there once it has begun.
    let flood = |networks: std::ops::Range<u8>| {
        let mut refused = 0;
        for third in networks {
            for host in 1..=120 {
                refused +=
                    usize::from(greeting(&server, &format!("127.3.{third}.{host}")).1 == 421);
            }
        }
        refused
    };
    assert!(flood(0..4) >= 4 * 20);
    let before = server.memory_kib("VmRSS");
    assert!(flood(4..40) >= 36 * 20);
    for _ in 0..5 {
        assert_eq!(greeting(&server, "127.200.0.1").1, 220);
    }
    // Four sketches of 1 MiB, which could all be touched by now, and what the allocator keeps.
    let grown = server.memory_kib("VmRSS").saturating_sub(before);
    println!("{grown} KiB for 4,320 more addresses");
    assert!(grown < 8 << 10, "{grown} KiB for 4,320 more addresses");
    server.stop();
}

/// Names in EHLO: odd ones are welcome as RFC 5321 §4.1.4 demands, ours and bare ones only where the
/// operator allows it.
#[test]
fn a_name_that_cannot_be_the_clients_is_refused_where_the_operator_says_so() {
    let exempt = "[protect]\nexempt_networks = []\n";
    let strict = format!("{exempt}refuse_own_hello = true\nrefuse_bare_hello = true\n");
    let cases: [(&str, u16); 8] = [
        ("mx.local.example", 550),
        ("MX.local.example", 550),
        ("local.example", 550),
        ("[127.0.0.1]", 550),
        ("[127.0.0.2]", 250),
        ("localhost", 550),
        ("my_pc.lan", 250),
        ("[IPv6:2001:db8::1]", 250),
    ];
    for (settings, is_strict) in [(exempt, false), (&strict, true)] {
        let mut server = Server::with_users(settings, &["a"]);
        for (name, code) in cases {
            let (mut link, _, _) = greeting(&server, "127.0.0.2");
            link.command(&format!("EHLO {name}"), 250).unwrap();
            let code = if is_strict { code } else { 250 };
            let reply = link.command("MAIL FROM:<x@remote.example>", code);
            reply.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        server.stop();
    }
}

/// With a delay before the greeting, who speaks in it is hung up on; who waits is served.
#[test]
fn who_speaks_before_the_greeting_is_hung_up_on() {
    let mut server =
        Server::with_users("[protect]\nexempt_networks = []\ngreet_delay = \"1s\"\n", &["a"]);
    let mut early = Link::connect_from("127.0.0.2", server.smtp()).unwrap();
    early.send("EHLO a\r\n").unwrap();
    let reply = early.expect(421).unwrap();
    assert!(reply.text.contains("before the greeting"), "{}", reply.text);
    assert!(early.rest().unwrap().is_empty());
    let (mut patient, code, _) = greeting(&server, "127.0.0.2");
    assert_eq!(code, 220);
    patient.command("EHLO a", 250).unwrap();
    server.await_log(&["event=client_refused", "why=early_talker"]);
    assert_eq!(server.figure("pombal_refused_early_talker_total"), 1);
    server.stop();
}

/// Who asks for many that are not there: first slower, then hung up on, then nobody of that address
/// learns who is there and who is not.
#[test]
fn who_guesses_recipients_learns_less_and_less() {
    let mut server = Server::with_users(
        "[protect]\nexempt_networks = []\nfree_unknown_recipients = 2\n\
         max_unknown_recipients = 4\nunknown_recipients_per_hour = 7\n",
        &["a"],
    );
    let begin = |source: &str| {
        let (mut link, _, _) = greeting(&server, source);
        link.command("EHLO a", 250).unwrap();
        link.command("MAIL FROM:<x@remote.example>", 250).unwrap();
        link
    };
    let mut link = begin("127.0.0.2");
    for number in 0..5 {
        link.command(&format!("RCPT TO:<no{number}@local.example>"), 550).unwrap();
    }
    let reply = link.expect(421).unwrap();
    assert!(reply.text.contains("unknown recipients"), "{}", reply.text);
    let mut again = begin("127.0.0.2");
    for number in 0..2 {
        again.command(&format!("RCPT TO:<no{number}@local.example>"), 550).unwrap();
    }
    // Whoever is there and whoever is not get the same answer now.
    again.command("RCPT TO:<a@local.example>", 450).unwrap();
    again.command("RCPT TO:<no9@local.example>", 450).unwrap();
    let mut other = begin("127.0.0.3");
    other.command("RCPT TO:<a@local.example>", 250).unwrap();
    server.await_log(&["event=client_refused", "why=harvest", "peer=127.0.0.2"]);
    assert_eq!(server.figure("pombal_unknown_recipients_total"), 7);
    server.stop();
}

/// VRFY and EXPN tell the same as RCPT, and count the same.
#[test]
fn who_guesses_by_vrfy_and_expn_learns_no_more() {
    let mut server = Server::with_users(
        "[smtp]\nmax_message_size = \"4M\"\nvrfy = true\nexpn = true\n\
         [protect]\nexempt_networks = []\nfree_unknown_recipients = 2\n\
         max_unknown_recipients = 4\nunknown_recipients_per_hour = 7\n",
        &["a"],
    );
    let begin = |source: &str| {
        let (mut link, _, _) = greeting(&server, source);
        link.command("EHLO a", 250).unwrap();
        link
    };
    let mut link = begin("127.0.0.2");
    link.command("VRFY a@local.example", 250).unwrap();
    for number in 0..5 {
        let verb = if number % 2 == 0 { "VRFY" } else { "EXPN" };
        link.command(&format!("{verb} no{number}@local.example"), 550).unwrap();
    }
    let reply = link.expect(421).unwrap();
    assert!(reply.text.contains("unknown recipients"), "{}", reply.text);
    // RCPT counts with them.
    let mut again = begin("127.0.0.2");
    again.command("MAIL FROM:<x@remote.example>", 250).unwrap();
    again.command("RCPT TO:<no5@local.example>", 550).unwrap();
    again.command("VRFY no6@local.example", 550).unwrap();
    // Nobody is told of now, and nobody is denied.
    for user in ["a", "no7"] {
        again.command(&format!("VRFY {user}@local.example"), 252).unwrap();
        again.command(&format!("EXPN {user}@local.example"), 252).unwrap();
    }
    again.command("RCPT TO:<a@local.example>", 450).unwrap();
    begin("127.0.0.3").command("VRFY a@local.example", 250).unwrap();
    server.await_log(&["event=client_refused", "why=harvest", "peer=127.0.0.2"]);
    assert_eq!(server.figure("pombal_unknown_recipients_total"), 7);
    server.stop();
}

/// Who is not known is asked to come back, who does is served, from another machine of the network
/// too, whichever shard it meets; an unknown recipient hears of it at once.
#[test]
fn who_is_not_known_is_asked_to_come_back() {
    let mut server = Server::with_users(
        "[protect]\nexempt_networks = [\"127.9.0.0/16\"]\n\
         [protect.greylist]\nenabled = true\ndelay = \"2s\"\nnetwork_passes = 2\n",
        &["a", "b"],
    );
    let attempt = |source: &str, sender: &str, recipient: &str| {
        let (mut link, code, _) = greeting(&server, source);
        assert_eq!(code, 220);
        link.command("EHLO a", 250).unwrap();
        link.command(&format!("MAIL FROM:<{sender}>"), 250).unwrap();
        link.send(format!("RCPT TO:<{recipient}@local.example>\r\n")).unwrap();
        let reply = link.reply().unwrap().unwrap();
        (reply.code, reply.text)
    };
    let (code, text) = attempt("127.0.5.1", "x@remote.example", "a");
    assert_eq!((code, text.as_str()), (451, "451 4.7.1 Greylisted: come back in 2 seconds\n"));
    assert_eq!(attempt("127.0.5.1", "x@remote.example", "nobody").0, 550);
    assert_eq!(attempt("127.9.0.1", "x@remote.example", "a").0, 250);
    // Until it passes; a shard that did not know of it would say two seconds each time.
    let wait = |source: &str, sender: &str, recipient: &str| {
        for _ in 0..400 {
            let (code, text) = attempt(source, sender, recipient);
            if code == 250 {
                return;
            }
            assert_eq!(code, 451, "{text}");
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
        panic!("{sender} never passed");
    };
    wait("127.0.5.2", "x@remote.example", "a");
    assert_eq!(attempt("127.0.5.1", "X@remote.example", "A").0, 250);
    assert_eq!(attempt("127.0.6.1", "x@remote.example", "a").0, 451);
    assert_eq!(attempt("127.0.5.1", "", "b").0, 451);
    wait("127.0.5.1", "", "b");
    // Two came back: the network is known.
    assert_eq!(attempt("127.0.5.9", "new@remote.example", "b").0, 250);
    server.await_log(&["event=client_refused", "why=greylist"]);
    assert!(server.figure("pombal_greylisted_total") >= 4);
    server.stop();
}
