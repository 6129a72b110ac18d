//! What the operator sees for right and wrong files.

use super::*;
use expect_test::{Expect, expect};
use std::fmt::Write as _;

/// All mistakes of a file, one a line; or the keys that it sets.
#[track_caller]
fn check(text: &str, want: &Expect) {
    let got: Vec<String> = match parse("pombal.toml", text) {
        Err(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
        Ok(loaded) => {
            let told = loaded.settings.iter().filter(|setting| setting.from_file);
            told.map(|setting| {
                format!("{} = {}", setting.key, setting.value.as_deref().unwrap_or("-"))
            })
            .collect()
        }
    };
    want.assert_eq(&got.join("\n"));
}

#[test]
fn takes_what_the_contract_promises() {
    check(
        r#"
            hostname = "mx.local.example"
            data_dir = "/var/lib/pombal"
            shards   = "cores"
            user     = "pombal"
            [listen]
            smtp        = ["0.0.0.0:25", "[::]:25"]
            lmtp        = ["127.0.0.1:24"]
            pop3        = ["0.0.0.0:110"]
            admin       = "127.0.0.1:9080"
            [tls]
            certificate = "/etc/pombal/fullchain.pem"
            key         = "/etc/pombal/key.pem"
            [[tls.sni]]
            name = "*.example.org"
            certificate = "a"
            key = "b"
            [auth]
            allow_plaintext = false
            [smtp]
            max_message_size = "50M"
            relay_networks   = ["127.0.0.1/32"]
            [dns]
            servers = ["127.0.0.1:53"]
            [queue]
            retry    = ["1m", "5m", "15m", "1h", "4h"]
            lifetime = "5d"
            [[route]]
            domain = "partner.example"
            relay  = "192.0.2.5:25"
        "#,
        &expect![[r#"
            hostname = "mx.local.example"
            data_dir = "/var/lib/pombal"
            shards = "cores"
            user = "pombal"
            listen.smtp = ["0.0.0.0:25", "[::]:25"]
            listen.lmtp = ["127.0.0.1:24"]
            listen.pop3 = ["0.0.0.0:110"]
            listen.admin = "127.0.0.1:9080"
            tls.certificate = "/etc/pombal/fullchain.pem"
            tls.key = "/etc/pombal/key.pem"
            auth.allow_plaintext = false
            smtp.max_message_size = "50M"
            smtp.relay_networks = ["127.0.0.1/32"]
            dns.servers = ["127.0.0.1:53"]
            queue.retry = ["1m", "5m", "15m", "1h", "4h"]
            queue.lifetime = "5d""#]],
    );
}

#[test]
fn names_every_mistake_of_a_file_in_one_run() {
    check(
        r#"
hostnam = "mx.example"
shards = 0
[listen]
smtp = ["0.0.0.0", 25]
imap = ["0.0.0.0:143"]
admin = "localhost:9080"
[smtp]
max_message_size = "50X"
max_recipients = 99
command_timeout = 300
relay_networks = ["10.1.2.3/8", "ten/8"]
vrfy = "yes"
[pop3]
ide_timeout = "10m"
[qeueu]
[tls]
key = "/k"
[[tls.sni]]
name = "a.example"
[[route]]
domain = "*.example"
relay = "relay.example"
[[route]]
"#,
        &expect![[r#"
            pombal.toml:2:1: unknown key `hostnam`, did you mean `hostname`?; allowed: acme, auth, data_dir, directory, dns, hostname, imap, limits, listen, log, mta_sts, pop3, protect, proxy, queue, route, sandbox, shards, site, smtp, source, srs, store, submission, tls, tls_report, undelete, user
            pombal.toml:3:10: `shards` cannot be 0; allowed: "cores" or a number from 1 to 1024
            pombal.toml:5:9: `listen.smtp`: "0.0.0.0" is no socket address; allowed: a list of "ip:port", for IPv6 "[ip]:port"
            pombal.toml:5:20: `listen.smtp`: is a number; allowed: a list of "ip:port", for IPv6 "[ip]:port"
            pombal.toml:7:9: `listen.admin` cannot be "localhost:9080"; allowed: "ip:port", for IPv6 "[ip]:port"
            pombal.toml:9:20: `smtp.max_message_size` cannot be "50X"; allowed: a size from 64K to 4194176K (K, M, G, T)
            pombal.toml:10:18: `smtp.max_recipients` cannot be 99; allowed: a number from 100 to 100000
            pombal.toml:11:19: `smtp.command_timeout` cannot be 300; allowed: a time from 1s to 1d (s, m, h, d)
            pombal.toml:12:19: `smtp.relay_networks`: "10.1.2.3/8" has bits set behind its prefix, did you mean "10.0.0.0/8"?; allowed: a list of "ip/prefix"
            pombal.toml:12:33: `smtp.relay_networks`: "ten/8" is no network; allowed: a list of "ip/prefix"
            pombal.toml:13:8: `smtp.vrfy` cannot be "yes"; allowed: true or false
            pombal.toml:15:1: unknown key `pop3.ide_timeout`, did you mean `idle_timeout`?; allowed: idle_timeout, max_errors, max_failed_logins
            pombal.toml:16:2: unknown key `qeueu`, did you mean `queue`?; allowed: acme, auth, data_dir, directory, dns, hostname, imap, limits, listen, log, mta_sts, pop3, protect, proxy, queue, route, sandbox, shards, site, smtp, source, srs, store, submission, tls, tls_report, undelete, user
            pombal.toml:18:7: a certificate without its key, or the other way round; allowed: both
            pombal.toml:23:9: `route[0].relay` cannot be "relay.example"; allowed: "host:port" or "[ip]:port"
            pombal.toml:24:1: `route[1].domain` is missing; allowed: a domain, "*.domain" or "*"
            pombal.toml:24:1: `route[1].relay` is missing; allowed: "host:port" or "[ip]:port""#]],
    );
}

#[test]
fn names_capabilities_that_cannot_be_hidden_and_clients_without_a_mark() {
    let text = "[imap]\ncapabilities_hidden = [\"MOVE\", \"MOOVE\"]\n\
        [[imap.client]]\nmatch = { nam = \"Out*\" }\nhide = []\n";
    let mistakes = parse("pombal.toml", text).unwrap_err();
    let said: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    let [unknown, fields, field, hide] = &said[..] else { panic!("{said:#?}") };
    let no_such = "pombal.toml:2:32: `imap.capabilities_hidden`: \"MOOVE\" is no capability, \
        or one that cannot be hidden; allowed: a list of IMAP4rev2, LITERAL+, ID, ";
    assert!(unknown.starts_with(no_such), "{unknown}");
    assert!(field.contains("`imap.client[0].match.nam`, did you mean `name`?"), "{field}");
    assert!(fields.contains("`imap.client.match` says nothing"), "{fields}");
    assert!(hide.contains("`imap.client.hide` says nothing"), "{hide}");
}

#[test]
fn names_what_nobody_can_be_allowed_to_send() {
    check(
        r#"
[submission]
from = "maybe"
max_recipients = 1
messages_per_hour = -1
[[submission.allow]]
user = "ann"
[[submission.allow]]
user = "ann@example.org"
send_as = ["*", "*@shop.example"]
"#,
        &expect![[r#"
            pombal.toml:3:8: `submission.from` cannot be "maybe"; allowed: "refuse", "sender" or "take"
            pombal.toml:4:18: `submission.max_recipients` cannot be 1; allowed: a number from 100 to 100000
            pombal.toml:5:21: `submission.messages_per_hour` cannot be -1; allowed: a number from 0 to 1000000000
            pombal.toml:6:1: `submission.allow[0].send_as` is missing; allowed: a list of addresses; "*@example.org" is all of a domain
            pombal.toml:7:8: `submission.allow[0].user` cannot be "ann"; allowed: an address
            pombal.toml:10:12: `submission.allow[1].send_as`: "*" is no address; allowed: a list of addresses; "*@example.org" is all of a domain"#]],
    );
}

#[test]
fn goes_on_behind_broken_syntax() {
    check(
        "shards = \n[smtp]\nvrfy = maybe\nexpn = 3\n",
        &expect![[r#"
        pombal.toml:1:10: string values must be quoted, expected literal string
        pombal.toml:1:10: `shards` cannot be ""; allowed: "cores" or a number from 1 to 1024
        pombal.toml:3:8: string values must be quoted, expected literal string
        pombal.toml:3:8: `smtp.vrfy` cannot be "maybe"; allowed: true or false
        pombal.toml:4:8: `smtp.expn` cannot be 3; allowed: true or false"#]],
    );
}

#[test]
fn points_at_columns_by_character() {
    check(
        "# ü\n[log]\nformat = \"ü\"; x\n",
        &expect![[r#"
        pombal.toml:3:10: `log.format` cannot be "ü"; allowed: "logfmt" or "json"
        pombal.toml:3:13: unexpected key or value, expected newline, `#`"#]],
    );
    check(
        "[log] # ü\n\"lével\" = 1\n",
        &expect![
            "pombal.toml:2:1: unknown key `log.lével`, did you mean `level`?; allowed: format, level"
        ],
    );
}

#[test]
fn holds_the_largest_message_against_the_segment() {
    check(
        "[store]\nsegment_size = \"16M\"\n",
        &expect![
            "pombal.toml:2:16: `smtp.max_message_size` 50M does not fit a segment: `store.segment_size` is 16M; allowed: max_message_size up to 16256K, or a larger segment_size"
        ],
    );
    check(
        "[smtp]\nmax_message_size = \"64M\"\n[store]\nsegment_size = \"64M\"\n",
        &expect![
            "pombal.toml:2:20: `smtp.max_message_size` 64M does not fit a segment: `store.segment_size` is 64M; allowed: max_message_size up to 65408K, or a larger segment_size"
        ],
    );
    check(
        "[smtp]\nmax_message_size = \"896K\"\n[store]\nsegment_size = \"1M\"\nbatch_size = \"1M\"\n",
        &expect![[r#"
            smtp.max_message_size = "896K"
            store.segment_size = "1M"
            store.batch_size = "1M""#]],
    );
    check(
        "[store]\nsegment_size = 268435457\n",
        &expect![
            "pombal.toml:2:16: `store.segment_size` is no multiple of 4K; allowed: whole blocks of 4K"
        ],
    );
}

#[test]
fn refuses_one_address_for_two_listeners() {
    check(
        "[listen]\nsmtp = [\"127.0.0.1:2525\"]\nlmtp = [\"127.0.0.1:2525\"]\npop3 = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\n",
        &expect![
            "pombal.toml:3:8: 127.0.0.1:2525 is listened on twice; allowed: each address once"
        ],
    );
}

#[test]
fn refuses_lmtp_on_the_port_of_smtp() {
    check(
        "[listen]\nlmtp = [\"127.0.0.1:2525\", \"[::1]:25\"]\n",
        &expect!["pombal.toml:2:8: LMTP cannot be on port 25; allowed: another port"],
    );
}

#[test]
fn asks_for_certificates_where_users_log_in() {
    let tls = |text: &str| parse("a", &format!("[tls]\n{text}")).unwrap().config.tls;
    assert_eq!(tls("client_listeners = [\"imap\"]").clients, None);
    let clients = tls("client_ca = \"ca.pem\"").clients.unwrap();
    assert_eq!(clients.asked, [Protocol::Submission, Protocol::Pop3, Protocol::Imap]);
    assert!(clients.required.is_empty());
    let all = "client_ca = \"ca.pem\"\nclient_crl = \"crl.pem\"\nclient_name = \"subject-cn\"\n\
               client_listeners = [\"imap\", \"pop3\"]\nclient_required = [\"imap\"]";
    let clients = tls(all).clients.unwrap();
    assert_eq!(clients.name_field, NameField::SubjectCn);
    assert_eq!(clients.required, [Protocol::Imap]);
    let files: Vec<&Path> = clients.files().collect();
    assert_eq!(files, [Path::new("ca.pem"), Path::new("crl.pem")]);
    check(
        "[tls]\nclient_crl = \"crl.pem\"\nclient_required = [\"imap\"]\nclient_name = \"uid\"\n\
         client_listeners = [\"smtp\", \"pop3\"]\n",
        &expect![[r#"
            pombal.toml:2:14: `tls.client_crl` without `tls.client_ca`; allowed: both
            pombal.toml:3:19: `tls.client_required` names a listener that `tls.client_listeners` does not; allowed: listeners that are in both
            pombal.toml:3:19: `tls.client_required` without `tls.client_ca`; allowed: both
            pombal.toml:4:15: `tls.client_name` cannot be "uid"; allowed: one of "san-email", "subject-cn", "subject-email"
            pombal.toml:5:21: `tls.client_listeners`: "smtp" is no listener where users log in; allowed: a list of submission, pop3, imap"#]],
    );
}

#[test]
fn refuses_mechanisms_that_all_stand_on_nothing() {
    check(
        "[auth]\nmechanisms = [\"OAUTHBEARER\"]\n",
        &expect![
            "pombal.toml:2:14: `auth.mechanisms` has nothing but OAUTHBEARER, without [auth.oauth]: nobody could log in; allowed: what they need, or PLAIN, LOGIN or SCRAM beside them"
        ],
    );
    check(
        "[auth]\nmechanisms = [\"XOAUTH2\", \"EXTERNAL\"]\n\
         [tls]\nclient_ca = \"ca.pem\"\nclient_listeners = []\n",
        &expect![
            "pombal.toml:2:14: `auth.mechanisms` has nothing but XOAUTH2, EXTERNAL, without `tls.client_ca` and `tls.client_listeners` and [auth.oauth]: nobody could log in; allowed: what they need, or PLAIN, LOGIN or SCRAM beside them"
        ],
    );
    let tls = "[tls]\nclient_ca = \"ca.pem\"\n";
    let oauth = "[auth.oauth]\njwks_file = \"keys\"\nissuers = [\"a\"]\naudiences = [\"b\"]\n";
    for (mechanisms, rest) in
        [("\"EXTERNAL\"", tls), ("\"OAUTHBEARER\"", oauth), ("\"EXTERNAL\", \"LOGIN\"", "")]
    {
        let text = format!("[auth]\nmechanisms = [{mechanisms}]\n{rest}");
        parse("a", &text).unwrap_or_else(|mistakes| panic!("{text}{mistakes:?}"));
    }
}

#[test]
fn a_route_with_a_login_proves_its_server() {
    let level = |text: &str| {
        let route = "[[route]]\ndomain = \"*\"\nrelay = \"a.example:587\"\n";
        parse("a", &format!("{route}{text}")).unwrap().config.routes[0].tls
    };
    let login = "user = \"u\"\npassword_file = \"p\"\n";
    assert_eq!(level(""), None);
    assert_eq!(level(login), Some(Level::Prove));
    assert_eq!(level(&format!("{login}tls = \"encrypt\"\n")), Some(Level::Encrypt));
    let allowed = format!("{login}allow_plaintext = true\n");
    assert_eq!(level(&allowed), Some(Level::Prove));
    assert_eq!(level(&format!("{allowed}tls = \"none\"\n")), Some(Level::None));
    check(
        &format!(
            "[[route]]\ndomain = \"*\"\nrelay = \"a.example:587\"\n{login}tls = \"may\"\n\
             [[route]]\ndomain = \"*\"\nrelay = \"a.example:587\"\n{login}tls = \"none\"\n"
        ),
        &expect![[r#"
            pombal.toml:6:7: with this `tls` a route would show its password to whoever listens; allowed: "verify" or "encrypt", or `allow_plaintext = true` beside it
            pombal.toml:12:7: with this `tls` a route would show its password to whoever listens; allowed: "verify" or "encrypt", or `allow_plaintext = true` beside it"#]],
    );
}

#[test]
fn an_address_that_is_warmed_up_is_one_of_a_pool() {
    let source = "[[source]]\naddress = \"192.0.2.7\"\nsince = \"2026-11-29\"\n";
    let pool = "[queue]\nsources = [\"192.0.2.7\", \"192.0.2.8\"]\n";
    let parsed = parse("a", &format!("{pool}{source}per_day = [5, 7]\n")).unwrap();
    assert_eq!(parsed.config.sources[0].warmup.per_day, [5, 7]);
    let site = "[[site]]\nmatch = \"a.example\"\nsources = [\"192.0.2.7\"]\n";
    let parsed = parse("a", &format!("{site}{source}")).unwrap();
    assert_eq!(parsed.config.sources[0].warmup.per_day.len(), 21);
    check(
        source,
        &expect![
            "pombal.toml:1:1: 192.0.2.7 is warmed up, and in no list of addresses to send from; allowed: one in `queue.sources`, or `sources` of a [[site]]"
        ],
    );
    check(
        &format!("{pool}{source}{source}[[source]]\naddress = \"x\"\nper_day = [0]\n"),
        &expect![[r#"
            pombal.toml:3:1: 192.0.2.7 is a source twice; allowed: each address once
            pombal.toml:9:1: `source[2].since` is missing; allowed: a day such as "2026-11-29"
            pombal.toml:10:11: `source[2].address` cannot be "x"; allowed: an address of this machine
            pombal.toml:11:11: `source[2].per_day` cannot be a list; allowed: a list of numbers of messages, from 1 to 1000000000, a day each"#]],
    );
}

#[test]
fn the_embedded_defaults_listen_on_the_usual_ports() {
    let config = parse(EMBEDDED_NAME, EMBEDDED).expect("the embedded defaults are right").config;
    let Listen { smtp, lmtp, submission, pop3, .. } = &config.listen;
    let ports: Vec<u16> =
        [smtp, lmtp, submission, pop3].into_iter().flatten().map(SocketAddr::port).collect();
    assert_eq!(ports, [25, 25, 24, 587, 587, 110, 110]);
    assert_eq!(config.smtp.max_message_size, crate::model::limits::MESSAGE_OCTETS_MAX);
}

#[test]
fn the_small_server_holds_the_largest_message() {
    let config = Config::small(Path::new("/nowhere"));
    assert!(config.smtp.max_message_size + (128 << 10) <= config.store.segment_size);
    assert_eq!(config.admin_socket(), Path::new("/nowhere/admin.sock"));
}

/// What `check --effective` prints can be put into a file again.
#[test]
fn effective_values_read_back_as_themselves() {
    let first = parse("a", "hostname = \"mx.example\"").unwrap();
    let mut text = String::new();
    for setting in &first.settings {
        if let Some(value) = &setting.value {
            writeln!(text, "{} = {value}", setting.key).unwrap();
        }
    }
    let second = parse("b", &text).unwrap_or_else(|mistakes| panic!("{mistakes:?}\n{text}"));
    assert_eq!(first.config, second.config);
    let values = |loaded: &Loaded| -> Vec<_> {
        loaded.settings.iter().map(|setting| (setting.key.clone(), setting.value.clone())).collect()
    };
    assert_eq!(values(&first), values(&second));
}

#[test]
fn no_file_makes_the_reader_fall_over() {
    let keys = ["smtp", "listen", "route", "[", "]", "=", "\"", "\n", "25", "50M", ".", "ü", "{"];
    arbtest::arbtest(|u| {
        let mut text = String::new();
        for _ in 0..u.int_in_range(0..=24)? {
            text.push_str(u.choose(&keys)?);
        }
        fuzz_config(text.as_bytes());
        Ok(())
    });
}

#[test]
fn a_named_file_that_is_missing_is_a_mistake() {
    let error = load(Some(Path::new("/nowhere/pombal.toml"))).unwrap_err();
    assert!(error[0].to_string().starts_with("/nowhere/pombal.toml: "), "{error:?}");
}
