//! SIGHUP on the running server: what can change changes, everything else is named.

use crate::client::{Link, smtp};
use crate::harness::Server;

#[test]
fn sighup_takes_over_what_it_can_and_names_the_rest() {
    let extra = "[limits]\ndrain_timeout = \"3s\"\nconnections_per_address = 0\n";
    let mut server = Server::with_users(extra, &["a"]);
    let mut open = smtp(server.smtp(), "EHLO").unwrap();
    let log = server.reload("hostname = \"mx.local.example\"", "hostname = \"mx2.local.example\"");
    let changed = "event=setting_changed key=hostname from=mx.local.example to=mx2.local.example";
    assert!(log.contains(changed), "{log}");
    assert!(log.contains("changed=1 need_restart=0"), "{log}");
    for _ in 0..20 {
        // Some of them on each shard, as soon as it has heard.
        let greeted = || Link::connect(server.smtp()).unwrap().expect(220).unwrap().text;
        while !greeted().contains("mx2.local.example") {}
    }
    // A session goes on as it began.
    assert!(open.command("EHLO x", 250).unwrap().text.contains("mx.local.example"));
    open.command("QUIT", 221).unwrap();

    let log = server.reload("drain_timeout = \"3s\"", "drain_timeout = \"4s\"");
    assert!(log.contains("event=setting_needs_restart key=limits.drain_timeout"), "{log}");
    assert!(log.contains("changed=0 need_restart=1"), "{log}");

    let log = server.reload("drain_timeout", "drain_timeouts");
    assert!(log.contains("event=reload_refused"), "{log}");
    server.reload("drain_timeouts", "drain_timeout");
    server.stop();
}
