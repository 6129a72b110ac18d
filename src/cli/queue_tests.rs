//! What is printed of the outgoing queue, and asked of it.

use super::tests::{check, place, typed};
use crate::admin::request::{
    Cursor, Destination, Done, Elsewhere, Explained, Lane, Next, Pause, Paused, Recipient,
    Response, Row, Servers, Site, Stats, Way,
};
use expect_test::expect;

/// The clock of the server that answers below.
const NOW: u32 = 1_795_011_520;

fn entry(queue: &str, next: Next) -> Row {
    let told = |address: &str, fate: &str, said: Option<&str>| Recipient {
        address: address.into(),
        fate: fate.into(),
        said: said.map(Into::into),
        host: said.map(|_| "mx.example.net".into()),
        notify: None,
        orcpt: None,
    };
    Row {
        queue: queue.into(),
        id: "6afd5dc0.0.1".into(),
        sender: "ann@example.org".into(),
        domain: "example.net".into(),
        size: 2_048,
        arrived: NOW - 11_520,
        due: NOW + 90,
        warn: Some(NOW + 2_880),
        expires: NOW + 420_480,
        attempts: 4,
        priority: 0,
        flags: vec!["ret_headers".into()],
        envid: None,
        by: None,
        recipients: vec![
            told("eve@example.net", "delivered", None),
            told(
                "bob@example.net",
                "waiting",
                Some(
                    "450 4.2.0 come\u{1b} back, this mailbox is being moved from one place to another",
                ),
            ),
            told("carl@example.net", "waiting", None),
        ],
        next,
    }
}

fn resting() -> Lane {
    let site = Site {
        name: "mx.example.net".into(),
        open: 0,
        window: 1,
        failures: 3,
        rests_until: Some(NOW + 720),
    };
    Lane { ready: 7, workers: 0, rests_until: Some(NOW + 720), site: Some(site) }
}

fn entries(rows: Vec<Row>, next: Option<Cursor>) -> Response {
    Response::Queue { now: NOW, rows, next }
}

#[test]
fn lists_the_queue() {
    let paused = Next::Paused { by: vec![Pause::All, Pause::Sender("".into())] };
    let all = [
        Next::Waits { at: NOW + 90 },
        Next::Ready { lane: Some(resting()) },
        Next::Ready { lane: Some(Lane::default()) },
        Next::Ready { lane: None },
        Next::Later { at: NOW + 90_000 },
        paused,
        Next::Held,
        Next::Active,
    ];
    let rows: Vec<Row> = (1..).zip(all).map(|(n, next)| entry(&format!("0.{n}"), next)).collect();
    check(
        "queue list --domain example.net --older-than 2h",
        entries(rows, None),
        &expect![[r#"
        node: {"queue":{"list":{"filter":{"id":null,"sender":null,"recipient":null,"domain":"example.net"},"older_than":7200,"most":100,"cursor":null}}}
        queue  message       age    size  tries  next            sender           recipients                  said
        0.1    6afd5dc0.0.1  3h12m  2K    4      in 1m           ann@example.org  bob@example.net and 1 more  450 4.2.0 come\u{1b} back, this mailbox is being moved from one p…
        0.2    6afd5dc0.0.1  3h12m  2K    4      rests 12m       ann@example.org  bob@example.net and 1 more  450 4.2.0 come\u{1b} back, this mailbox is being moved from one p…
        0.3    6afd5dc0.0.1  3h12m  2K    4      ready           ann@example.org  bob@example.net and 1 more  450 4.2.0 come\u{1b} back, this mailbox is being moved from one p…
        0.4    6afd5dc0.0.1  3h12m  2K    4      at the start    ann@example.org  bob@example.net and 1 more  450 4.2.0 come\u{1b} back, this mailbox is being moved from one p…
        0.5    6afd5dc0.0.1  3h12m  2K    4      later, in 1d1h  ann@example.org  bob@example.net and 1 more  450 4.2.0 come\u{1b} back, this mailbox is being moved from one p…
        0.6    6afd5dc0.0.1  3h12m  2K    4      paused          ann@example.org  bob@example.net and 1 more  450 4.2.0 come\u{1b} back, this mailbox is being moved from one p…
        0.7    6afd5dc0.0.1  3h12m  2K    4      held            ann@example.org  bob@example.net and 1 more  450 4.2.0 come\u{1b} back, this mailbox is being moved from one p…
        0.8    6afd5dc0.0.1  3h12m  2K    4      active          ann@example.org  bob@example.net and 1 more  450 4.2.0 come\u{1b} back, this mailbox is being moved from one p…
        exit 0"#]],
    );
}

#[test]
fn lists_as_many_as_are_wanted() {
    let cursor = Some(Cursor { log: 1, place: 9, before: NOW });
    let one = vec![entry("0.1", Next::Held)];
    check(
        "queue list --limit 1 --sender <>",
        entries(one.clone(), cursor),
        &expect![[r#"
        node: {"queue":{"list":{"filter":{"id":null,"sender":"<>","recipient":null,"domain":null},"older_than":null,"most":1,"cursor":null}}}
        queue  message       age    size  tries  next  sender           recipients                  said
        0.1    6afd5dc0.0.1  3h12m  2K    4      held  ann@example.org  bob@example.net and 1 more  450 4.2.0 come\u{1b} back, this mailbox is being moved from one p…
        there may be more: --limit 0 lists all
        exit 0"#]],
    );
    check(
        "queue list --json",
        entries(one, None),
        &expect![[r#"
            node: {"queue":{"list":{"filter":{"id":null,"sender":null,"recipient":null,"domain":null},"older_than":null,"most":100,"cursor":null}}}
            [
            {"queue":"0.1","id":"6afd5dc0.0.1","sender":"ann@example.org","domain":"example.net","size":2048,"arrived":1795000000,"due":1795011610,"warn":1795014400,"expires":1795432000,"attempts":4,"priority":0,"flags":["ret_headers"],"envid":null,"by":null,"recipients":[{"address":"eve@example.net","fate":"delivered","said":null,"host":null,"notify":null,"orcpt":null},{"address":"bob@example.net","fate":"waiting","said":"450 4.2.0 come\u001b back, this mailbox is being moved from one place to another","host":"mx.example.net","notify":null,"orcpt":null},{"address":"carl@example.net","fate":"waiting","said":null,"host":null,"notify":null,"orcpt":null}],"next":{"state":"held"}}
            ]
            exit 0"#]],
    );
    check(
        "queue list",
        entries(vec![], None),
        &expect![[r#"
        node: {"queue":{"list":{"filter":{"id":null,"sender":null,"recipient":null,"domain":null},"older_than":null,"most":100,"cursor":null}}}
        queue  message  age  size  tries  next  sender  recipients  said
        exit 0"#]],
    );
}

#[test]
fn shows_all_of_an_entry() {
    let one = entry("0.1f", Next::Ready { lane: Some(resting()) });
    check(
        "queue show 0.1f",
        entries(vec![one], None),
        &expect![[r#"
        node: {"queue":{"list":{"filter":{"id":"0.1f","sender":null,"recipient":null,"domain":null},"older_than":null,"most":100,"cursor":null}}}
        queue        0.1f
        message      6afd5dc0.0.1
        sender       ann@example.org
        domain       example.net
        size         2K
        arrived      2026-11-18T11:06:40Z, 3h12m ago
        attempts     4
        due          2026-11-18T14:20:10Z
        expires      2026-11-23T11:06:40Z, in 4d20h
        next         due; example.net rests for 12m; comes back in 4d20h
        warning      its sender is told in 48m
        servers      mx.example.net: 0 of at most 1 connections, not reached 3 times in a row, left alone for 12m
        flags        ret_headers
        recipient    <eve@example.net> delivered
        recipient    <bob@example.net> waiting: mx.example.net said: 450 4.2.0 come\u{1b} back, this mailbox is being moved from one place to another
        recipient    <carl@example.net> waiting
        exit 0"#]],
    );
    check(
        "queue show --id 0.1f",
        entries(vec![], None),
        &expect![[r#"
        node: {"queue":{"list":{"filter":{"id":"0.1f","sender":null,"recipient":null,"domain":null},"older_than":null,"most":100,"cursor":null}}}
        pombal: no entry of the queue is that
        exit 1"#]],
    );
    check(
        "queue show",
        entries(vec![], None),
        &expect![[r"
        pombal: which entries? name one, or use a filter
        exit 2"]],
    );
    check(
        "queue show 0.1f --id 0.1f",
        entries(vec![], None),
        &expect![[r"
        error: the argument '[ID]' cannot be used with '--id <ID>'

        Usage: pombal queue show <ID>

        For more information, try '--help'.
        exit 2"]],
    );
}

fn done(done: u64, busy: u64, held: u64, unchanged: u64) -> Response {
    Response::QueueDone { done: Done { done, busy, held, unchanged }, next: None }
}

#[test]
fn orders_are_for_what_was_named() {
    check(
        "queue retry --domain example.net",
        done(12, 0, 0, 0),
        &expect![[r#"
        node: {"queue":{"order":{"order":"retry","filter":{"id":null,"sender":null,"recipient":null,"domain":"example.net"},"older_than":null,"most":4294967295,"cursor":null}}}
        12 entries due now
        exit 0"#]],
    );
    check(
        "queue hold --id 0.1f",
        done(0, 0, 0, 1),
        &expect![[r#"
        node: {"queue":{"order":{"order":"hold","filter":{"id":"0.1f","sender":null,"recipient":null,"domain":null},"older_than":null,"most":4294967295,"cursor":null}}}
        0 entries held; 1 so already
        exit 0"#]],
    );
    check(
        "queue release --all --older-than 1d",
        done(1, 0, 0, 0),
        &expect![[r#"
        node: {"queue":{"order":{"order":"release","filter":{"id":null,"sender":null,"recipient":null,"domain":null},"older_than":86400,"most":4294967295,"cursor":null}}}
        1 entry released
        exit 0"#]],
    );
    check(
        "queue bounce --recipient bob@example.net",
        done(1, 2, 0, 0),
        &expect![[r#"
        node: {"queue":{"order":{"order":"bounce","filter":{"id":null,"sender":null,"recipient":"bob@example.net","domain":null},"older_than":null,"most":4294967295,"cursor":null}}}
        1 entry returned to their senders; 2 being delivered, and left alone
        exit 0"#]],
    );
    check(
        "queue delete --sender <> --json",
        done(3, 0, 0, 0),
        &expect![[r#"
        node: {"queue":{"order":{"order":"delete","filter":{"id":null,"sender":"<>","recipient":null,"domain":null},"older_than":null,"most":4294967295,"cursor":null}}}
        {
          "done": 3,
          "busy": 0,
          "held": 0,
          "unchanged": 0
        }
        exit 0"#]],
    );
}

#[test]
fn orders_need_a_filter_and_something_that_it_finds() {
    check(
        "queue retry --id 0.1f",
        done(0, 1, 0, 0),
        &expect![[r#"
        node: {"queue":{"order":{"order":"retry","filter":{"id":"0.1f","sender":null,"recipient":null,"domain":null},"older_than":null,"most":4294967295,"cursor":null}}}
        0 entries due now; 1 being delivered, and left alone
        exit 1"#]],
    );
    check(
        "queue retry --id 0.1f",
        done(0, 0, 0, 0),
        &expect![[r#"
        node: {"queue":{"order":{"order":"retry","filter":{"id":"0.1f","sender":null,"recipient":null,"domain":null},"older_than":null,"most":4294967295,"cursor":null}}}
        no entry of the queue is that
        exit 1"#]],
    );
    for line in ["retry", "hold", "release", "bounce", "delete"] {
        let shown = typed(place().path(), &format!("queue {line}"), done(1, 0, 0, 0));
        let want = format!("pombal: {line} without a filter is for everything: say --all\nexit 2");
        assert_eq!(shown, want);
    }
    check(
        "queue delete --all --domain example.net",
        done(1, 0, 0, 0),
        &expect![[r"
        error: the argument '--all' cannot be used with '--domain <DOMAIN>'

        Usage: pombal queue delete --all

        For more information, try '--help'.
        exit 2"]],
    );
    check(
        "queue hold --older-than soon",
        done(1, 0, 0, 0),
        &expect![[r"
        error: invalid value 'soon' for '--older-than <TIME>': a number with s, m, h or d, such as 90s or 3d

        For more information, try '--help'.
        exit 2"]],
    );
}

#[test]
fn pauses_and_resumes() {
    check(
        "queue pause --all",
        Response::Done,
        &expect![[r#"
        node: {"queue":{"pause":{"on":true,"pause":"all"}}}
        exit 0"#]],
    );
    check(
        "queue pause --domain example.net",
        Response::Done,
        &expect![[r#"
        node: {"queue":{"pause":{"on":true,"pause":{"domain":"example.net"}}}}
        exit 0"#]],
    );
    check(
        "queue pause --route *.example.net",
        Response::Done,
        &expect![[r#"
        node: {"queue":{"pause":{"on":true,"pause":{"route":"*.example.net"}}}}
        exit 0"#]],
    );
    let refused = Response::Refused("that is not paused".into());
    check(
        "queue resume --sender ann@example.org",
        refused,
        &expect![[r#"
        node: {"queue":{"pause":{"on":false,"pause":{"sender":"ann@example.org"}}}}
        pombal: that is not paused
        exit 1"#]],
    );
    check(
        "queue pause",
        Response::Done,
        &expect![[r"
        error: the following required arguments were not provided:
          <--all|--domain <DOMAIN>|--sender <ADDR>|--route <DOMAIN>>

        Usage: pombal queue pause <--all|--domain <DOMAIN>|--sender <ADDR>|--route <DOMAIN>>

        For more information, try '--help'.
        exit 2"]],
    );
}

fn stats() -> Response {
    let destination =
        |domain: &str, entries, lane| Destination { domain: domain.into(), entries, lane };
    let stats = Stats {
        entries: 9,
        ready: 7,
        workers: 1,
        held: 1,
        oldest: Some(NOW - 90_000),
        recipients: [("deferred".into(), 5), ("untried".into(), 6)].into(),
        pauses: vec![
            Paused { pause: Pause::Domain("example.net".into()), entries: Some(8) },
            Paused { pause: Pause::Sender("".into()), entries: None },
        ],
        destinations: vec![
            destination("example.net", 8, resting()),
            destination("example.com", 1, Lane::default()),
        ],
    };
    Response::QueueStats { now: NOW, stats }
}

#[test]
fn shows_the_figures_of_the_queue() {
    check(
        "queue stats",
        stats(),
        &expect![[r#"
        node: {"queue":{"stats":{"top":20}}}
        figure                     value
        entries                    9
        ready                      7
        workers                    1
        held                       1
        oldest                     1d1h
        recipients deferred        5
        recipients untried         6
        paused domain example.net  8 entries
        paused sender <>           yes

        domain       entries  ready  workers  rests  failures  servers
        example.net  8        7      0        12m    3         mx.example.net
        example.com  1        0      0        -      -         -
        exit 0"#]],
    );
}

#[test]
fn shows_the_figures_for_scripts() {
    check(
        "queue stats --top 5 --json",
        stats(),
        &expect![[r#"
        node: {"queue":{"stats":{"top":5}}}
        {
          "now": 1795011520,
          "stats": {
            "destinations": [
              {
                "domain": "example.net",
                "entries": 8,
                "lane": {
                  "ready": 7,
                  "rests_until": 1795012240,
                  "site": {
                    "failures": 3,
                    "name": "mx.example.net",
                    "open": 0,
                    "rests_until": 1795012240,
                    "window": 1
                  },
                  "workers": 0
                }
              },
              {
                "domain": "example.com",
                "entries": 1,
                "lane": {
                  "ready": 0,
                  "rests_until": null,
                  "site": null,
                  "workers": 0
                }
              }
            ],
            "entries": 9,
            "held": 1,
            "oldest": 1794921520,
            "pauses": [
              {
                "entries": 8,
                "pause": {
                  "domain": "example.net"
                }
              },
              {
                "entries": null,
                "pause": {
                  "sender": ""
                }
              }
            ],
            "ready": 7,
            "recipients": {
              "deferred": 5,
              "untried": 6
            },
            "workers": 1
          }
        }
        exit 0"#]],
    );
}

fn explained(outcome: &str, elsewhere: Vec<Elsewhere>) -> Response {
    Response::Explained(Box::new(Explained {
        address: "sales@example.org".into(),
        now: NOW,
        steps: vec!["sales@example.org: alias for bob@example.net".into()],
        outcome: outcome.into(),
        elsewhere,
    }))
}

#[test]
fn explains_where_mail_goes() {
    let elsewhere = Elsewhere {
        address: "bob@example.net".into(),
        domain: "example.net".into(),
        route: None,
        way: Way {
            entries: 8,
            paused: vec![Pause::Domain("example.net".into())],
            lane: resting(),
            servers: Some(Servers {
                found: true,
                lines: vec!["by MX records".into(), "10 mx.example.net 192.0.2.1:25".into()],
            }),
        },
    };
    let stopped = Elsewhere { way: Way::default(), ..elsewhere.clone() };
    let line = "explain rcpt sales@example.org";
    check(
        line,
        explained("aliased", vec![elsewhere.clone()]),
        &expect![[r#"
        node: {"explain_recipient":{"address":"sales@example.org"}}
        sales@example.org: alias for bob@example.net
        it goes to each of them

        bob@example.net:
          by MX records
          10 mx.example.net 192.0.2.1:25
          paused: domain example.net
          8 entries of the queue are for example.net, 7 ready
          it rests for 12m
          mx.example.net: 0 of at most 1 connections, not reached 3 times in a row, left alone for 12m
        exit 0"#]],
    );
    check(
        line,
        explained("elsewhere", vec![stopped]),
        &expect![[r#"
        node: {"explain_recipient":{"address":"sales@example.org"}}
        sales@example.org: alias for bob@example.net
        it goes to other servers, for those who may relay: users who have logged in, and smtp.relay_networks

        bob@example.net:
          by its MX records, which only a running server looks up
          0 entries of the queue are for example.net, 0 ready
        exit 0"#]],
    );
    let routed =
        Elsewhere { route: Some("0, to 192.0.2.5:25".into()), way: Way::default(), ..elsewhere };
    check(
        line,
        explained("elsewhere", vec![routed]),
        &expect![[r#"
        node: {"explain_recipient":{"address":"sales@example.org"}}
        sales@example.org: alias for bob@example.net
        it goes to other servers, for those who may relay: users who have logged in, and smtp.relay_networks

        bob@example.net:
          by route 0, to 192.0.2.5:25
          0 entries of the queue are for example.net, 0 ready
        exit 0"#]],
    );
}

#[test]
fn explains_what_becomes_of_an_address() {
    check(
        "explain rcpt sales@example.org",
        explained("unknown", vec![]),
        &expect![[r#"
        node: {"explain_recipient":{"address":"sales@example.org"}}
        sales@example.org: alias for bob@example.net
        it is refused: there is no such user (550 5.1.1)
        exit 0"#]],
    );
    check(
        "explain rcpt sales@example.org --json",
        explained("account", vec![]),
        &expect![[r#"
        node: {"explain_recipient":{"address":"sales@example.org"}}
        {
          "address": "sales@example.org",
          "now": 1795011520,
          "steps": [
            "sales@example.org: alias for bob@example.net"
          ],
          "outcome": "account",
          "elsewhere": []
        }
        exit 0"#]],
    );
    check(
        "explain rcpt x",
        Response::Wrong("\"x\" is no address".into()),
        &expect![[r#"
        node: {"explain_recipient":{"address":"x"}}
        pombal: "x" is no address
        exit 2"#]],
    );
}

#[test]
fn explains_where_a_message_is() {
    let rows = vec![entry("0.1f", Next::Waits { at: NOW + 90 }), entry("0.20", Next::Held)];
    check(
        "explain message 6afd5dc0.0.1",
        entries(rows, None),
        &expect![[r#"
        node: {"queue":{"list":{"filter":{"id":"6afd5dc0.0.1","sender":null,"recipient":null,"domain":null},"older_than":null,"most":4294967295,"cursor":null}}}
        0.1f: message 6afd5dc0.0.1 of ann@example.org, here for 3h12m
          <eve@example.net> delivered
          <bob@example.net> waiting: mx.example.net said: 450 4.2.0 come\u{1b} back, this mailbox is being moved from one place to another
          <carl@example.net> waiting: not tried yet
          next: tried again in 1m; comes back in 4d20h
        0.20: message 6afd5dc0.0.1 of ann@example.org, here for 3h12m
          <eve@example.net> delivered
          <bob@example.net> waiting: mx.example.net said: 450 4.2.0 come\u{1b} back, this mailbox is being moved from one place to another
          <carl@example.net> waiting: not tried yet
          next: held by the operator: not tried until it is released; comes back in 4d20h
        exit 0"#]],
    );
    check(
        "explain message 6afd5dc0.0.2",
        entries(vec![], None),
        &expect![[r#"
        node: {"queue":{"list":{"filter":{"id":"6afd5dc0.0.2","sender":null,"recipient":null,"domain":null},"older_than":null,"most":4294967295,"cursor":null}}}
        pombal: it is not in the queue. All of its recipients may be over with: delivered to mailboxes here, taken by their servers, or reported to its sender; or it never was here. The log has an event of each recipient's end: look for id=6afd5dc0.0.2
        exit 1"#]],
    );
}
