//! The operator's commands for outgoing mail, while the server runs and while it is stopped.

use crate::client::{Maildrop, find, smtp, stuff};
use crate::harness::Server;
use serde_json::Value;

/// Everything goes to ports that nobody listens at; what could not be reached is left alone.
const DEAD: &str = "[smtp]\nmax_message_size = \"4M\"\nrelay_networks = [\"127.0.0.0/8\"]\n\
    [queue]\nretry = [\"1h\"]\nsite_retry = [\"1h\"]\n\
    [[route]]\ndomain = \"a.example\"\nrelay = \"127.0.0.1:1\"\n\
    [[route]]\ndomain = \"b.example\"\nrelay = \"127.0.0.1:2\"\n\
    [[route]]\ndomain = \"*\"\nrelay = \"127.0.0.1:3\"\n";

fn send(server: &Server, sender: &str, recipients: &[&str]) {
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    link.command(&format!("MAIL FROM:<{sender}>"), 250).unwrap();
    for recipient in recipients {
        link.command(&format!("RCPT TO:<{recipient}>"), 250).unwrap();
    }
    link.command("DATA", 354).unwrap();
    link.send(stuff(b"Subject: to nowhere\r\n\r\nx\r\n")).unwrap();
    link.expect(250).unwrap();
    link.command("QUIT", 221).unwrap();
}

fn json(server: &Server, words: &[&str]) -> Value {
    let mut all = vec!["--json", "queue"];
    all.extend(words);
    serde_json::from_str(&server.pombal(&all, "")).unwrap()
}

/// The states of all entries that a filter finds, by recipient.
fn states(server: &Server, filter: &[&str]) -> Vec<(String, String)> {
    let mut words = vec!["list"];
    words.extend(filter);
    let rows = json(server, &words);
    let mut found: Vec<(String, String)> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&row["recipients"][0]["address"]), text(&row["next"]["state"]))
        })
        .collect();
    found.sort();
    found
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(one, other)| ((*one).into(), (*other).into())).collect()
}

/// What a command that has to fail prints, and its status.
fn refused(server: &Server, words: &[&str]) -> (Option<i32>, String) {
    let output = server.try_pombal(words, "");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn operators_see_the_queue_and_change_it() {
    let mut server = Server::with_users(DEAD, &["ann"]);
    send(&server, "ann@local.example", &["r@a.example", "s@b.example"]);
    send(&server, "ann@local.example", &["t@b.example"]);
    for recipient in ["r@a.example", "s@b.example"] {
        let recipient = format!("recipient={recipient}");
        server.await_log(&["event=attempt", &recipient, "outcome=deferred"]);
    }
    // One of b.example had its attempt, the other waits behind it and costs none.
    assert_eq!(states(&server, &[]).len(), 3);
    assert_eq!(states(&server, &["--domain", "b.example"]).len(), 2);
    let rows = json(&server, &["list", "--recipient", "r@a.example"]);
    let (queue, id) = (rows[0]["queue"].as_str().unwrap(), rows[0]["id"].as_str().unwrap());
    assert_eq!(rows[0]["attempts"], 1);
    let shown = server.pombal(&["queue", "show", queue], "");
    for part in [id, "ann@local.example", "<r@a.example> waiting: ", "tried again in 1h"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let explained = server.pombal(&["explain", "message", id], "");
    assert!(explained.contains("<r@a.example>") && explained.contains("<s@b.example>"));
    assert_eq!(refused(&server, &["explain", "message", "nothing"]).0, Some(1));
    let explained = server.pombal(&["explain", "rcpt", "r@a.example"], "");
    for part in ["is not served here", "127.0.0.1:1", "1 entries", "not reached 1 times"] {
        assert!(explained.contains(part), "{part}: {explained}");
    }

    // Orders are for what was named.
    assert_eq!(refused(&server, &["queue", "delete"]).0, Some(2));
    let hold = server.pombal(&["queue", "hold", "--id", queue], "");
    assert_eq!(hold, "1 entry held\n");
    assert_eq!(states(&server, &["--id", queue]), pairs(&[("r@a.example", "held")]));
    let (status, _) = refused(&server, &["queue", "retry", "--id", queue]);
    assert_eq!(status, Some(1));
    server.pombal(&["queue", "release", "--id", queue], "");
    server.pombal(&["queue", "retry", "--id", queue], "");
    server.await_log(&["event=attempt", "recipient=r@a.example", "attempt=2", "outcome=deferred"]);

    // A paused domain is not tried, and what comes for it waits.
    server.pombal(&["queue", "pause", "--domain", "C.example"], "");
    send(&server, "ann@local.example", &["u@c.example"]);
    assert_eq!(states(&server, &["--domain", "c.example"]), pairs(&[("u@c.example", "paused")]));
    let stats = json(&server, &["stats"]);
    assert_eq!((&stats["stats"]["entries"], &stats["stats"]["held"]), (&4.into(), &0.into()));
    assert_eq!(stats["stats"]["pauses"][0]["entries"], 1);
    let largest = &stats["stats"]["destinations"][0];
    assert_eq!((&largest["domain"], &largest["entries"]), (&"b.example".into(), &2.into()));
    server.pombal(&["queue", "resume", "--domain", "c.example"], "");
    server.await_log(&["event=attempt", "recipient=u@c.example", "outcome=deferred"]);
    assert_eq!(refused(&server, &["queue", "resume", "--domain", "c.example"]).0, Some(1));

    // What is returned comes back; what is deleted does not.
    let bounced = server.pombal(&["queue", "bounce", "--recipient", "r@a.example"], "");
    assert_eq!(bounced, "1 entry returned to their senders\n");
    let report = Maildrop::open_filled(server.pop3(), "ann", 1).unwrap().retrieve_all().unwrap();
    for part in ["Final-Recipient: rfc822; r@a.example", "returned by the operator"] {
        assert!(find(&report[0], part.as_bytes()).is_some(), "{part}");
    }
    server.pombal(&["queue", "hold", "--all"], "");
    server.pombal(&["queue", "delete", "--domain", "b.example"], "");
    assert_eq!(states(&server, &[]), pairs(&[("u@c.example", "held")]));
    assert_eq!(server.figure("pombal_queue_reports_total"), 1);

    // The same out of the logs of a server that is stopped.
    server.stop();
    assert_eq!(states(&server, &[]), pairs(&[("u@c.example", "held")]));
    let (status, said) = refused(&server, &["queue", "bounce", "--all"]);
    assert!(status == Some(1) && said.contains("only a running server"), "{said}");
    server.pombal(&["queue", "pause", "--sender", "ann@local.example"], "");
    server.pombal(&["queue", "release", "--all"], "");
    let explained = server.pombal(&["explain", "rcpt", "u@c.example"], "");
    assert!(explained.contains("by route 2, to 127.0.0.1:3"), "{explained}");
    let found = server.pombal(&["queue", "show", "--domain", "c.example"], "");
    assert!(found.contains("paused (sender ann@local.example)"), "{found}");
    server.start();
    assert_eq!(states(&server, &[]), pairs(&[("u@c.example", "paused")]));
    server.pombal(&["queue", "delete", "--all"], "");
    assert_eq!(states(&server, &[]), pairs(&[]));
    server.stop();
}

#[test]
fn operators_are_told_where_mail_goes() {
    let mut server = Server::with_users(DEAD, &["ann", "bob"]);
    server.pombal(&["alias", "add", "all@local.example", "ann@local.example", "x@a.example"], "");
    server.pombal(&["alias", "add", "@local.example", "bob@local.example"], "");
    let explain =
        |server: &Server, address: &str| server.pombal(&["--json", "explain", "rcpt", address], "");
    let check = |server: &Server| {
        for (address, outcome, step) in [
            ("Ann+tag@local.example", "account", "without its tag user ann@local.example"),
            ("all@local.example", "aliased", "alias for ann@local.example, x@a.example"),
            ("nobody@local.example", "aliased", "by the catch-all of the domain alias for bob"),
            ("x@a.example", "elsewhere", "a.example is not served here"),
        ] {
            let told: Value = serde_json::from_str(&explain(server, address)).unwrap();
            let steps = told["steps"].to_string();
            assert!(steps.contains(step), "{address}: {steps}");
            assert_eq!(told["outcome"], outcome, "{address}");
        }
    };
    check(&server);
    // A sender that was rewritten.
    send(&server, "stranger@far.example", &["all@local.example"]);
    let rows = json(&server, &["list"]);
    let sender = rows[0]["sender"].as_str().unwrap().to_owned();
    let told = server.pombal(&["explain", "rcpt", &sender], "");
    assert!(sender.starts_with("SRS0=") && told.contains("stands for stranger@far.example"));
    server.stop();
    check(&server);
    assert_eq!(
        server.pombal(&["explain", "rcpt", &sender], "").lines().next(),
        told.lines().next()
    );
}
