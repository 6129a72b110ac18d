//! The same store on other numbers of cores: whatever `shards` says, users find their mail, UIDs and flags
//! included, and the queue is what it was. With more cores than logs there are more logs, and new users in
//! them.

use crate::backup::{Seen, look, now, send};
use crate::client::smtp;
use crate::harness::Server;
use crate::imap::Imap;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Everything goes to a port that nobody listens at, once an hour.
const DEAD: &str = "[smtp]\nmax_message_size = \"4M\"\nrelay_networks = [\"127.0.0.0/8\"]\n\
    [queue]\nretry = [\"1h\"]\nsite_retry = [\"1h\"]\n\
    [[route]]\ndomain = \"*\"\nrelay = \"127.0.0.1:1\"\n";

/// What users see, and what is in the queue.
fn everything(server: &Server, users: &[&str]) -> (Vec<Seen>, Vec<String>) {
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
fn work(server: &Server, users: &[&str], round: u32) {
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

fn logs(dir: &Path) -> usize {
    (0..1_000).take_while(|log| dir.join(format!("log-{log:03}")).is_dir()).count()
}

#[test]
fn serves_the_same_mail_on_any_number_of_cores() {
    let mut users = vec!["a", "b", "c", "d"];
    let mut server = Server::with_users(DEAD, &users);
    work(&server, &users, 1);
    server.await_log(&["event=attempt", "recipient=r1@else.example", "outcome=deferred"]);
    for (round, shards) in (2..).zip([1, 4, 2, 1]) {
        let before = everything(&server, &users);
        let had = logs(&server.data_dir());
        start_with(&mut server, shards);
        assert_eq!(everything(&server, &users), before, "{shards} shards");
        let (cpus, count) = places(&server);
        assert_eq!(count, logs(&server.data_dir()), "each log has its executor");
        assert!(cpus.len() <= usize::from(shards), "{shards}: {cpus:?}");
        assert_eq!(count, had.max(shards.into()));
        if shards == 4 {
            server.await_log(&["event=logs_added", "from=2", "to=4"]);
            for user in ["e", "f", "g", "h"] {
                server.add_user(user);
                users.push(user);
            }
        }
        work(&server, &users, round);
        let sent = format!("recipient=r{round}@else.example");
        server.await_log(&["event=attempt", &sent, "outcome=deferred"]);
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
    start_with(&mut server, 3);
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
    start_with(&mut back, 4);
    assert_eq!((everything(&back, &users), logs(&back.data_dir())), (seen.clone(), 4));
    // Nothing but the logs says how many there are.
    server.stop();
    fs::remove_file(server.data_dir().join("store.toml")).unwrap();
    server.edit("shards = 3", |_| "shards = 1".into());
    let saved = server.dir().join("saved");
    let told = server.pombal(&["store", "salvage", "--to", saved.to_str().unwrap()], "");
    assert!(told.contains("nothing is lost"), "{told}");
    let line = |dir: &Path| format!("data_dir = \"{}\"", dir.display());
    server.edit(&line(&server.data_dir()), |_| line(&saved));
    server.start();
    assert_eq!((everything(&server, &users), logs(&saved)), (seen, 3));
}
