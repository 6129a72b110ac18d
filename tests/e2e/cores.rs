//! The same store on other numbers of cores: whatever `shards` says, users find their mail, UIDs and flags
//! included, and the queue is what it was. More logs there are when the operator makes some, and new users
//! in them.

use crate::backup::{Seen, look, now, send};
use crate::client::smtp;
use crate::harness::Server;
use crate::imap::Imap;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Everything goes to a port that nobody listens at, once an hour.
pub(crate) const DEAD: &str = "[smtp]\nmax_message_size = \"4M\"\nrelay_networks = [\"127.0.0.0/8\"]\n\
    [queue]\nretry = [\"1h\"]\nsite_retry = [\"1h\"]\n\
    [[route]]\ndomain = \"*\"\nrelay = \"127.0.0.1:1\"\n";

/// What users see, and what is in the queue.
pub(crate) fn everything(server: &Server, users: &[&str]) -> (Vec<Seen>, Vec<String>) {
    let queue = server.pombal(&["--json", "queue", "list"], "");
    let queue: serde_json::Value = serde_json::from_str(&queue).unwrap();
    let rows = queue.as_array().unwrap().iter();
    let entry = |row: &serde_json::Value| {
        let (queue, id, attempts) = (&row["queue"], &row["id"], &row["attempts"]);
        format!("{queue} {id} {attempts} {}", row["recipients"][0]["address"])
    };
    let mut entries: Vec<String> = rows.map(entry).collect();
    entries.sort();
    (users.iter().map(|user| look(server, user)).collect(), entries)
}

fn start_with(server: &mut Server, shards: u16) {
    server.stop();
    let text = fs::read_to_string(server.config()).unwrap();
    let line = text.lines().find(|line| line.starts_with("shards")).unwrap().to_owned();
    server.edit(&line, |_| format!("shards = {shards}"));
    server.start();
}

/// Mail for one and for all of them, folders and flags; a message for somebody elsewhere.
pub(crate) fn work(server: &Server, users: &[&str], round: u32) {
    let mut sessions: Vec<(Imap, u32)> = users
        .iter()
        .map(|user| {
            let mut imap = Imap::login(server, user).unwrap();
            let had = exists(&mut imap);
            (imap, had)
        })
        .collect();
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    send(&mut link, users, &format!("Subject: to all {round}\r\n\r\nall\r\n"));
    for user in users {
        send(&mut link, &[user], &format!("Subject: to {user} {round}\r\n\r\none\r\n"));
    }
    link.command("MAIL FROM:<a@local.example>", 250).unwrap();
    link.command(&format!("RCPT TO:<r{round}@else.example>"), 250).unwrap();
    link.command("DATA", 354).unwrap();
    link.command(&format!("Subject: out {round}\r\n\r\nx\r\n."), 250).unwrap();
    for (imap, had) in &mut sessions {
        imap.ok(&format!("CREATE Round{round}")).unwrap();
        // What another shard has promised comes after the answer.
        while exists(imap) < *had + 2 {}
        imap.ok(&format!("COPY 2 Round{round}")).unwrap();
        imap.ok(&format!("STORE 1 +FLAGS (\\Flagged Round{round})")).unwrap();
        imap.ok("STORE 2 +FLAGS (\\Deleted)").unwrap();
        imap.ok("EXPUNGE").unwrap();
    }
}

/// How many messages INBOX has, which is selected.
fn exists(imap: &mut Imap) -> u32 {
    let found = imap.ok("SELECT INBOX").unwrap();
    let exists = found.iter().find_map(|line| line.strip_suffix(" EXISTS"));
    exists.unwrap().trim_start_matches("* ").parse().unwrap()
}

/// The CPUs that shards may run on, and how many shards there are.
fn places(server: &Server) -> (BTreeSet<String>, usize) {
    let tasks = PathBuf::from(format!("/proc/{}/task", server.pid()));
    let mut all: Vec<u32> = fs::read_dir(&tasks)
        .unwrap()
        .filter_map(|task| task.unwrap().file_name().to_str()?.parse().ok())
        .collect();
    all.sort_unstable();
    let mut places: BTreeMap<String, String> = BTreeMap::new();
    for task in all {
        let dir = tasks.join(task.to_string());
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
        let (name, status) = (read("comm"), read("status"));
        let cpus = status.lines().find(|line| line.starts_with("Cpus_allowed_list"));
        if name.starts_with("shard-") {
            // Threads that it has started later bear its name.
            places.entry(name).or_insert_with(|| cpus.unwrap().to_owned());
        }
    }
    let count = places.len();
    (places.into_values().collect(), count)
}

pub(crate) fn logs(dir: &Path) -> usize {
    (0..1_000).take_while(|log| dir.join(format!("log-{log:03}")).is_dir()).count()
}

/// Stops the server and gives the store so many logs; what is said.
fn grow(server: &mut Server, logs: &str) -> String {
    server.stop();
    server.pombal(&["store", "grow", "--logs", logs], "")
}

#[test]
fn serves_the_same_mail_on_any_number_of_cores() {
    let mut users = vec!["a", "b", "c", "d"];
    let mut server = Server::with_users(DEAD, &users);
    work(&server, &users, 1);
    server.await_log(&["event=attempt", "recipient=r1@else.example", "outcome=deferred"]);
    let mut round = 2;
    for had in [2, 4] {
        if had == 4 {
            let before = everything(&server, &users);
            let said = grow(&mut server, "4");
            assert_eq!(said, "log 2: made\nlog 3: made\n4 logs, 2 before\n");
            server.start();
            assert_eq!(everything(&server, &users), before);
            for user in ["e", "f", "g", "h"] {
                server.add_user(user);
                users.push(user);
            }
        }
        for shards in [1, 2, 4] {
            let before = everything(&server, &users);
            start_with(&mut server, shards);
            assert_eq!(everything(&server, &users), before, "{had} logs, {shards} shards");
            assert_eq!(logs(&server.data_dir()), had, "{shards} shards add no log");
            let (cpus, count) = places(&server);
            assert_eq!(count, had, "each log has its executor");
            assert!(cpus.len() <= usize::from(shards), "{shards}: {cpus:?}");
            if usize::from(shards) > had {
                let command = "pombal store grow --logs 4";
                server.await_log(&["event=cores_idle", "cores=4", "logs=2", "idle=2", command]);
            }
            work(&server, &users, round);
            let sent = format!("recipient=r{round}@else.example");
            server.await_log(&["event=attempt", &sent, "outcome=deferred"]);
            round += 1;
        }
    }
    server.stop();
    server.pombal(&["store", "verify"], "");
    // Each log got as many of the users as the others.
    for log in ["0", "1", "2", "3"] {
        let dump = server.pombal(&["store", "dump", "--log", log], "");
        let accounts: BTreeSet<&str> = dump
            .lines()
            .filter(|line| line.contains("record kind 17 "))
            .filter_map(|line| line.split("account ").nth(1)?.split(':').next())
            .collect();
        assert_eq!(accounts.len(), 2, "log {log}: {dump}");
    }
}

/// What is in the way of more logs is said, and nothing is made.
#[test]
fn refuses_logs_that_cannot_be() {
    let mut server = Server::with_users("", &["a"]);
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    send(&mut link, &["a"], "Subject: 1\r\n\r\none\r\n");
    let refused = |server: &Server, count: &str| {
        let done = server.try_pombal(&["store", "grow", "--logs", count], "");
        assert_eq!((done.status.success(), logs(&server.data_dir())), (false, 2), "{count}");
        String::from_utf8_lossy(&done.stderr).into_owned()
    };
    assert!(refused(&server, "3").contains("stop it first"));
    server.stop();
    assert!(refused(&server, "2").contains("the store has 2 logs"));
    assert!(refused(&server, "5000").contains("at most"));
    // One that cannot be made takes away those before it.
    fs::write(server.data_dir().join("log-003"), "in the way").unwrap();
    let done = server.try_pombal(&["store", "grow", "--logs", "4"], "");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && said.contains("log 3: it cannot be made"), "{said}");
    assert!(!server.data_dir().join("log-002").exists(), "it is removed again");
    fs::remove_file(server.data_dir().join("log-003")).unwrap();
    let older = fs::read_to_string(server.data_dir().join("store.toml")).unwrap();
    // Segments are as those that there are, whatever the configuration says by now.
    let size = |log: &str| {
        let path = server.data_dir().join(log).join("seg-000000");
        fs::metadata(path).unwrap().len()
    };
    server.edit("segment_size = \"8M\"", |_| "segment_size = \"16M\"".into());
    let text = server.pombal(&["--json", "store", "grow", "--logs", "3"], "");
    let row: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(row, serde_json::json!({ "before": 2, "logs": 3 }));
    assert_eq!(size("log-002"), size("log-000"));
    server.start();
    let users = ["a", "b", "c"];
    for user in &users[1..] {
        server.add_user(user);
    }
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    send(&mut link, &users, "Subject: 2\r\n\r\ntwo\r\n");
    for (user, count) in users.into_iter().zip([2, 1, 1]) {
        let mut imap = Imap::login(&server, user).unwrap();
        while exists(&mut imap) < count {}
    }
    let seen = everything(&server, &users);
    // A store.toml of before the new log, which has mail by now.
    server.stop();
    fs::write(server.data_dir().join("store.toml"), older).unwrap();
    let done = server.try_pombal(&["store", "verify"], "");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("is older than the logs") && said.contains("log-002"), "{said}");
    let saved = server.dir().join("saved");
    let told = server.pombal(&["store", "salvage", "--to", saved.to_str().unwrap()], "");
    assert!(told.contains("log 2: store.toml does not have it"), "{told}");
    assert!(told.contains("nothing is lost"), "{told}");
    let line = |dir: &Path| format!("data_dir = \"{}\"", dir.display());
    server.edit(&line(&server.data_dir()), |_| line(&saved));
    server.start();
    assert_eq!(everything(&server, &users), seen);
}

/// What a backup or salvage makes of a store is opened with any number of cores too.
#[test]
fn comes_back_with_all_its_logs_whatever_the_shards() {
    let mut server = Server::with_users("", &["a"]);
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    send(&mut link, &["a"], "Subject: 1\r\n\r\none\r\n");
    let vault = server.dir().join("vault");
    let vault = vault.to_str().unwrap().to_owned();
    server.pombal(&["backup", &vault], "");
    let between = now();
    grow(&mut server, "3");
    server.start();
    let users = ["a", "b", "c"];
    for user in &users[1..] {
        server.add_user(user);
    }
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    for user in users {
        send(&mut link, &[user], "Subject: 2\r\n\r\ntwo\r\n");
    }
    let seen = everything(&server, &users);
    server.pombal(&["backup", &vault], "");
    let mut back = Server::set_up("");
    back.edit("shards = 2", |_| "shards = 1".into());
    let refused = back.try_pombal(&["restore", &vault, "--at", &between], "");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("logs were added"), "{said}");
    back.pombal(&["restore", &vault], "");
    back.start();
    assert_eq!((everything(&back, &users), logs(&back.data_dir())), (seen.clone(), 3));
    grow(&mut back, "4");
    back.start();
    assert_eq!((everything(&back, &users), logs(&back.data_dir())), (seen.clone(), 4));
    // Nothing but the logs says how many there are.
    server.stop();
    fs::remove_file(server.data_dir().join("store.toml")).unwrap();
    server.edit("shards = 2", |_| "shards = 1".into());
    let saved = server.dir().join("saved");
    let told = server.pombal(&["store", "salvage", "--to", saved.to_str().unwrap()], "");
    assert!(told.contains("nothing is lost"), "{told}");
    let line = |dir: &Path| format!("data_dir = \"{}\"", dir.display());
    server.edit(&line(&server.data_dir()), |_| line(&saved));
    server.start();
    assert_eq!((everything(&server, &users), logs(&saved)), (seen, 3));
}
