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
    assert!(grown < 8 << 10, "{grown} KiB for 4,320 more addresses");
    server.stop();
}
