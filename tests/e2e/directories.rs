//! A store whose logs lie in several directories, one for each device: users find their mail wherever a log
//! is moved to, and nothing is made anew where a device is missing.

use crate::backup::{Seen, send};
use crate::client::smtp;
use crate::cores::{DEAD, everything, logs, work};
use crate::harness::Server;
use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const USERS: [&str; 4] = ["a", "b", "c", "d"];

/// A server of four logs, and two directories for them, which are not there yet.
fn set_up(extra: &str) -> Server {
    let server = Server::set_up(extra);
    server.edit("shards = 2", |_| "shards = 4".into());
    let named = [device(&server, "one"), device(&server, "two")];
    server.edit("segment_size", |key| format!("directories = {named:?}\n{key}"));
    server
}

fn device(server: &Server, name: &str) -> PathBuf {
    server.dir().join(name)
}

fn mount(server: &Server, name: &str) {
    fs::create_dir(device(server, name)).unwrap();
}

/// The same with users, who have mail; it runs.
fn with_mail() -> Server {
    let mut server = set_up(DEAD);
    for name in ["one", "two"] {
        mount(&server, name);
    }
    server.pombal(&["domain", "add", "local.example"], "");
    for user in USERS {
        server.add_user(user);
    }
    server.start();
    work(&server, &USERS, 1);
    server.await_log(&["event=attempt", "recipient=r1@else.example", "outcome=deferred"]);
    server
}

fn all(server: &Server) -> (Vec<Seen>, Vec<String>) {
    everything(server, &USERS)
}

/// The numbers of the logs that lie in a directory.
fn numbers(dir: &Path) -> Vec<u16> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut found: Vec<u16> =
        names.filter_map(|name| name.to_str()?.strip_prefix("log-")?.parse().ok()).collect();
    found.sort_unstable();
    found
}

/// Where the logs lie: in `data_dir`, in the first directory, in the second.
fn layout(server: &Server) -> [Vec<u16>; 3] {
    ["data", "one", "two"].map(|name| numbers(&device(server, name)))
}

fn rename(server: &Server, from: &str, to: &str) {
    fs::rename(device(server, from), device(server, to)).unwrap();
}

/// What a start says, which is none; and all commands say it that want the store.
#[track_caller]
fn refusal(server: &Server) -> String {
    let said = |words: &[&str]| {
        let done = server.try_pombal(words, "");
        assert_eq!(done.status.code(), Some(1), "{words:?}");
        String::from_utf8(done.stderr).unwrap()
    };
    let why = said(&["serve"]);
    let why = why.lines().last().unwrap().to_owned();
    let vault = server.dir().join("vault");
    for words in [
        &["store", "verify"][..],
        &["store", "grow", "--logs", "9"],
        &["store", "dump"],
        &["user", "list"],
        &["backup", vault.to_str().unwrap()],
    ] {
        assert!(said(words).contains(&*why), "{words:?}: {why}");
    }
    why.replace(&format!("{}/", server.dir().display()), "")
}

#[test]
fn users_find_their_mail_wherever_a_log_lies() {
    let mut server = with_mail();
    assert_eq!(layout(&server), [vec![], vec![0, 2], vec![1, 3]]);
    let told = server.await_log(&["event=log_open", "shard=3"]);
    assert!(told.contains(&format!("directory={}", device(&server, "two").display())), "{told}");
    assert!(server.figure("pombal_store_directory_free_octets") > 0);
    let before = all(&server);
    server.stop();
    server.pombal(&["store", "verify"], "");
    // As `mv` to another device does it: copied, then removed.
    let moved = Command::new("cp")
        .arg("-a")
        .args([device(&server, "two/log-001"), device(&server, "one")])
        .status();
    assert!(moved.unwrap().success());
    let why = refusal(&server);
    assert!(why.contains("log 1 lies twice, in one/log-001 and in two/log-001"), "{why}");
    fs::remove_dir_all(device(&server, "two/log-001")).unwrap();
    server.start();
    assert_eq!(all(&server), before);
    server.stop();
    // The order of the list is nothing that counts, and `data_dir` is looked into as well.
    let one = format!("{:?}", device(&server, "one"));
    let two = format!("{:?}", device(&server, "two"));
    server.edit(&format!("{one}, {two}"), |_| format!("{two}, {one}"));
    rename(&server, "one/log-000", "data/log-000");
    server.start();
    assert_eq!(all(&server), before);
    assert_eq!(layout(&server), [vec![0], vec![1, 2], vec![3]]);
    work(&server, &USERS, 2);
    server.await_log(&["event=attempt", "recipient=r2@else.example", "outcome=deferred"]);
    let before = all(&server);
    // More logs go where the fewest are.
    server.stop();
    let said = server.pombal(&["store", "grow", "--logs", "6"], "");
    let said = said.replace(&format!("{}/", server.dir().display()), "");
    assert_eq!(said, "log 4: made in two\nlog 5: made in two\n6 logs, 4 before\n");
    server.start();
    assert_eq!(all(&server), before);
    let users = ["a", "b", "c", "d", "e", "f"];
    for user in &users[4..] {
        server.add_user(user);
    }
    work(&server, &users, 3);
    server.await_log(&["event=attempt", "recipient=r3@else.example", "outcome=deferred"]);
    let before = everything(&server, &users);
    server.kill9();
    server.start();
    assert_eq!(everything(&server, &users), before);
    server.stop();
    assert_eq!(layout(&server), [vec![0], vec![1, 2], vec![3, 4, 5]]);
    server.pombal(&["store", "compact"], "");
    server.pombal(&["store", "verify"], "");
}

#[test]
fn nothing_is_made_anew_where_a_device_is_missing() {
    let server = set_up("");
    // A new store is not made on other devices than those that were named.
    let why = refusal_of_new(&server);
    assert!(why.contains("one of `store.directories` is not there"), "{why}");
    drop(server);
    let mut server = with_mail();
    let before = all(&server);
    server.stop();
    rename(&server, "two", "away");
    let why = refusal(&server);
    assert!(why.contains("two of `store.directories` is not there"), "{why}");
    assert!(why.contains("without it the store lacks logs 1, 3"), "{why}");
    // An empty mount point.
    mount(&server, "two");
    let why = refusal(&server);
    assert!(why.contains("logs 1, 3 of the store cannot be found in data, one, two"), "{why}");
    assert_eq!(fs::read_dir(device(&server, "two")).unwrap().count(), 0);
    fs::remove_dir(device(&server, "two")).unwrap();
    rename(&server, "away", "two");
    // It is `data_dir` that is not mounted.
    rename(&server, "data", "away");
    mount(&server, "data");
    let done = server.try_pombal(&["serve"], "");
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(!done.status.success() && said.contains("no store.toml in "), "{said}");
    fs::remove_dir_all(device(&server, "data")).unwrap();
    rename(&server, "away", "data");
    // Another store's log.
    let mut other = with_mail();
    other.stop();
    fs::rename(device(&other, "one/log-002"), device(&server, "one/log-007")).unwrap();
    let why = refusal(&server);
    assert!(why.contains("one/log-007 is of another store"), "{why}");
    fs::remove_dir_all(device(&server, "one/log-007")).unwrap();
    rename(&server, "one/log-002", "one/log-007");
    let why = refusal(&server);
    assert!(why.contains("one/log-007 has log 2 in it"), "{why}");
    rename(&server, "one/log-007", "one/log-002");
    server.start();
    assert_eq!(all(&server), before);
}

fn refusal_of_new(server: &Server) -> String {
    let done = server.try_pombal(&["domain", "add", "local.example"], "");
    assert!(!done.status.success());
    assert!(!server.data_dir().join("store.toml").exists(), "no store was made");
    String::from_utf8(done.stderr).unwrap()
}

#[test]
fn backups_and_salvage_know_all_directories() {
    let mut server = with_mail();
    let vault = server.dir().join("vault").to_str().unwrap().to_owned();
    let running = server.dir().join("running").to_str().unwrap().to_owned();
    server.pombal(&["backup", &running], "");
    let before = all(&server);
    server.stop();
    server.pombal(&["backup", &vault], "");
    for vault in [&running, &vault] {
        // Into as many directories as there are by now.
        let mut back = set_up(DEAD);
        for name in ["one", "two"] {
            mount(&back, name);
        }
        let left = device(&back, "two/log-003");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("superblock"), "").unwrap();
        let done = back.try_pombal(&["restore", vault], "");
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(!done.status.success() && said.contains("log-003 is there"), "{said}");
        fs::remove_dir_all(left).unwrap();
        back.pombal(&["restore", vault], "");
        assert_eq!(layout(&back), [vec![], vec![0, 2], vec![1, 3]]);
        back.start();
        assert_eq!(all(&back), before);
    }
    let mut back = Server::set_up(DEAD);
    back.pombal(&["restore", &vault], "");
    assert_eq!(logs(&back.data_dir()), 4);
    back.start();
    assert_eq!(all(&back), before);
    damage_is_found(&server);
    // Nothing but the logs says which store it is.
    fs::remove_file(server.data_dir().join("store.toml")).unwrap();
    let inside = device(&server, "two/saved");
    let done = server.try_pombal(&["store", "salvage", "--to", inside.to_str().unwrap()], "");
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(!done.status.success() && said.contains("left as it is"), "{said}");
    let saved = server.dir().join("saved");
    let told = server.pombal(&["store", "salvage", "--to", saved.to_str().unwrap()], "");
    assert!(told.contains("nothing is lost"), "{told}");
    assert_eq!(logs(&saved), 4);
    fs::remove_dir_all(&saved).unwrap();
    let mut words = vec!["store", "salvage", "--to", saved.to_str().unwrap()];
    let fresh = ["three", "four"].map(|name| device(&server, name));
    for dir in &fresh {
        words.extend(["--logs", dir.to_str().unwrap()]);
    }
    let done = server.try_pombal(&words, "");
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(!done.status.success() && said.contains("three of `store.directories`"), "{said}");
    for name in ["three", "four"] {
        mount(&server, name);
    }
    let told = server.pombal(&words, "");
    assert!(told.contains("nothing is lost"), "{told}");
    assert_eq!((numbers(&saved), numbers(&fresh[0])), (vec![], vec![1, 3]));
    assert_eq!(numbers(&fresh[1]), [0, 2]);
    let line = |dir: &Path| format!("data_dir = \"{}\"", dir.display());
    server.edit(&line(&server.data_dir()), |_| line(&saved));
    let named = [device(&server, "one"), device(&server, "two")];
    server.edit(&format!("directories = {named:?}"), |_| format!("directories = {fresh:?}"));
    server.start();
    assert_eq!(all(&server).0, before.0);
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    send(&mut link, &USERS, "Subject: 2\r\n\r\ntwo\r\n");
}

/// One turned bit in a message that lies in the second directory; it is turned back.
fn damage_is_found(server: &Server) {
    let path = device(server, "two/log-001/seg-000000");
    let whole = fs::read(&path).unwrap();
    let text = b"Subject: to all 1";
    let at = whole.windows(text.len()).position(|part| part == text).unwrap();
    let mut turned = whole.clone();
    turned[at] ^= 1;
    fs::write(&path, turned).unwrap();
    let done = server.try_pombal(&["store", "verify"], "");
    let told = String::from_utf8(done.stdout).unwrap();
    assert!(!done.status.success() && told.contains("log 1"), "{told}");
    fs::write(&path, whole).unwrap();
}

/// A file system of its own, where root may mount one; it is unmounted in the end.
struct Small(PathBuf);

impl Small {
    fn mount(at: PathBuf, size: &str) -> Option<Small> {
        fs::create_dir(&at).unwrap();
        let options = format!("size={size},mode=700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "none"]).arg(&at);
        let small = mount.output().is_ok_and(|done| done.status.success()).then_some(Small(at));
        let tries = small.as_ref().is_some_and(|small| {
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true).custom_flags(libc::O_DIRECT);
            options.open(small.0.join("try")).is_ok()
        });
        if !tries {
            println!("skipped: needs root, and a tmpfs that has O_DIRECT");
        }
        small.filter(|_| tries)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(done.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

/// Whether a message of some size was taken.
fn delivers(server: &Server, user: &str) -> bool {
    let text =
        format!("Subject: large\r\n\r\n{}.", format!("{}\r\n", "x".repeat(70)).repeat(45_000));
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    let to = format!("RCPT TO:<{user}@local.example>");
    link.command("MAIL FROM:<>", 250).is_ok()
        && link.command(&to, 250).is_ok()
        && link.command("DATA", 354).is_ok()
        && link.command(&text, 250).is_ok()
}

#[test]
fn a_full_device_stops_only_what_lies_on_it() {
    let elsewhere = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // Two logs of nine segments, and two segments more for each.
    let Some(small) = Small::mount(elsewhere.path().join("small"), "178M") else { return };
    let mut server = set_up("");
    server.edit(&format!("{:?}", device(&server, "one")), |_| format!("{:?}", small.0));
    mount(&server, "two");
    server.pombal(&["domain", "add", "local.example"], "");
    for user in USERS {
        server.add_user(user);
    }
    server.start();
    assert_eq!((numbers(&small.0), numbers(&device(&server, "two"))), (vec![0, 2], vec![1, 3]));
    let taken = (0..100).take_while(|_| delivers(&server, "a")).count();
    assert!((2..100).contains(&taken), "{taken}");
    let crowded = |log: u16| server.figure(&format!("pombal_store_crowded{{shard=\"{log}\"}}"));
    while crowded(0) == 0 {}
    // Whoever comes to a shard whose log is full is asked to come again, and comes to another one.
    for user in ["b", "d"].repeat(10) {
        assert!((0..1_000).any(|_| delivers(&server, user)), "{user}");
    }
    assert_eq!((crowded(0), crowded(1), crowded(3)), (1, 0, 0));
    assert!(!(0..10).any(|_| delivers(&server, "a")));
    server.stop();
    server.pombal(&["store", "verify"], "");
}
