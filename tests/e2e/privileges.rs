//! Root binds and becomes a user: what each thread may still do, whose the files are, what is refused.
//!
//! All but the sandbox needs root, and `nobody`; without, a test says that it was skipped.

use crate::client::{Maildrop, smtp};
use crate::harness::Server;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const USER: &str = "nobody";

/// The number of [`USER`], where a test can do anything with it.
pub(crate) fn user() -> Option<u32> {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = users.lines().find_map(|line| line.strip_prefix("nobody:"));
    let uid = line.and_then(|line| line.split(':').nth(1)?.parse().ok());
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root || uid.is_none() {
        println!("skipped: needs root, and {USER}");
    }
    uid.filter(|_| is_root)
}

/// All that lies in a directory, itself included.
fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    let mut next = 0;
    while next < found.len() {
        if found[next].is_dir() {
            let entries = fs::read_dir(&found[next]).unwrap();
            found.extend(entries.map(|entry| entry.unwrap().path()));
        }
        next += 1;
    }
    found
}

pub(crate) fn assert_all_belong_to(uid: u32, dir: &Path) {
    for path in walk(dir) {
        // A log may drop a file meanwhile.
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        assert_eq!(found.uid(), uid, "{}", path.display());
        assert_eq!(found.mode() & 0o077, 0, "{} is open to others", path.display());
    }
}

/// What /proc says of each thread, by key.
fn threads(pid: u32) -> Vec<BTreeMap<String, String>> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    // A thread that ends meanwhile has no more to say.
    let statuses =
        tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("status")).ok());
    statuses
        .map(|text| {
            let pairs = text.lines().filter_map(|line| line.split_once(':'));
            let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            pairs.map(|(key, value)| (key.into(), words(value))).collect()
        })
        .collect()
}

/// A port that only root may bind, and nobody has.
pub(crate) fn low_port() -> u16 {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (600..1_024).rev().find(free).expect("a port below 1024 is free")
}

fn deliver(port: u16, user: &str) {
    let mut link = smtp(port, "EHLO").unwrap();
    link.command("MAIL FROM:<a@b.example>", 250).unwrap();
    link.command(&format!("RCPT TO:<{user}@local.example>"), 250).unwrap();
    link.command("DATA", 354).unwrap();
    link.command("Subject: x\r\n\r\nx\r\n.", 250).unwrap();
    link.command("QUIT", 221).unwrap();
}

#[test]
fn root_binds_its_ports_and_no_thread_stays_root() {
    let Some(uid) = user() else { return };
    let mut server = Server::set_up_openly(&format!("user = \"{USER}\"\n"), "");
    let low = low_port();
    server.edit(&format!("smtp = [\"127.0.0.1:{}\"]", server.smtp()), |line| {
        line.replace(']', &format!(", \"127.0.0.1:{low}\"]"))
    });
    // Commands of root's make the store, and it is the user's all the same.
    server.pombal(&["domain", "add", "local.example"], "");
    server.add_user("ann");
    assert_all_belong_to(uid, &server.data_dir());

    server.start();
    let log = server.await_log(&["event=privileges_dropped"]);
    assert!(log.contains(&format!("user={USER} uid={uid}")), "{log}");
    let mut names = Vec::new();
    for thread in threads(server.pid()) {
        let four = format!("{uid} {uid} {uid} {uid}");
        assert_eq!(thread["Uid"], four, "{thread:?}");
        for group in thread["Gid"].split(' ').chain(thread["Groups"].split(' ')) {
            assert_ne!(group, "0", "{thread:?}");
        }
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(thread[set], "0000000000000000", "{set} of {thread:?}");
        }
        assert_eq!(thread["NoNewPrivs"], "1", "{thread:?}");
        names.push(thread["Name"].clone());
    }
    for name in ["shard-0", "shard-1", "ticker", "log", "signals"] {
        assert!(names.iter().any(|one| one == name), "{name} among {names:?}");
    }

    // Rings write as the user too; root's commands reach the server, and so do the user's.
    server.add_user("bob");
    for _ in 0..20 {
        deliver(low, "bob");
    }
    assert_eq!(Maildrop::open_filled(server.pop3(), "bob", 20).unwrap().count, 20);
    let mut as_user = Command::new(env!("CARGO_BIN_EXE_pombal"));
    as_user.arg("--config").arg(server.config()).args(["user", "list"]).uid(uid);
    match as_user.output() {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) => println!("skipped: {USER} cannot run the binary: {error}"),
    }
    assert_all_belong_to(uid, &server.data_dir());
    assert_eq!(fs::metadata(server.data_dir().join("admin.sock")).unwrap().mode() & 0o777, 0o600);

    let log = server.reload("mx.local.example", "mx2.local.example");
    assert!(log.contains("changed=1 need_restart=0"), "{log}");
    // The second life finds its own store, and binds the port once more.
    server.restart();
    deliver(low, "ann");
    server.stop();
    server.pombal(&["store", "verify"], "");
    assert_all_belong_to(uid, &server.data_dir());
}

#[test]
fn a_store_of_somebody_else_is_refused_with_what_mends_it() {
    let Some(uid) = user() else { return };
    let server = Server::set_up_openly(&format!("user = \"{USER}\"\n"), "");
    server.pombal(&["domain", "add", "local.example"], "");
    let refused = |server: &Server| {
        let output = server.try_pombal(&["serve"], "");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    // One file of root's among those of the user, deep down.
    let file = server.data_dir().join("log-001/left");
    fs::write(&file, "").unwrap();
    let why = refused(&server);
    assert!(why.contains("log-001/left belongs to root"), "{why}");
    assert!(why.contains(&format!("chown -R {USER}:")), "{why}");
    fs::remove_file(file).unwrap();

    // Root does not serve what is the user's: it would leave files of root's.
    server.edit(&format!("user = \"{USER}\""), |_| "user = \"daemon\"".into());
    assert!(
        refused(&server).contains(&format!("belongs to {USER}, and the server runs as daemon"))
    );
    server.edit("user = \"daemon\"", |_| String::new());
    assert!(
        refused(&server).contains(&format!("belongs to {USER}, and the server would run as root"))
    );
    assert_all_belong_to(uid, &server.data_dir());

    // A directory for logs is not handed over, though it is empty: it may be a mount point.
    let server = Server::set_up_openly(&format!("user = \"{USER}\"\n"), "");
    let logs = server.dir().join("logs");
    fs::create_dir(&logs).unwrap();
    server.edit("segment_size", |key| format!("directories = [{logs:?}]\n{key}"));
    let why = refused(&server);
    assert!(why.contains(&format!("{} belongs to root", logs.display())), "{why}");
    chown(&logs, Some(uid), None).unwrap();
    server.pombal(&["domain", "add", "local.example"], "");
    assert_all_belong_to(uid, &logs.join("log-001"));
    fs::write(logs.join("log-001/left"), "").unwrap();
    assert!(refused(&server).contains("log-001/left belongs to root"));

    // A directory that lies where the user cannot get to.
    let server = Server::set_up_openly(&format!("user = \"{USER}\"\n"), "");
    fs::set_permissions(server.dir(), Permissions::from_mode(0o700)).unwrap();
    let why = refused(&server);
    assert!(why.contains(&format!("chmod o+x {}", server.dir().display())), "{why}");
}

#[test]
fn a_user_who_is_not_there_is_a_mistake_of_the_configuration() {
    let Some(uid) = user() else { return };
    for (name, word) in [("no-such-user", "useradd --system"), ("root", "leave the key out")] {
        let server = Server::set_up_openly(&format!("user = \"{name}\"\n"), "");
        let output = server.try_pombal(&["serve"], "");
        let why = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{why}");
        assert!(why.contains(word), "{why}");
        assert_eq!(fs::metadata(server.data_dir()).unwrap().uid(), 0, "nothing was handed over");
        // Somebody else than the one who is named does not serve in his stead.
        server.edit(&format!("user = \"{name}\""), |_| "user = \"daemon\"".into());
        chown(server.data_dir(), Some(uid), None).unwrap();
        let mut as_user = Command::new(env!("CARGO_BIN_EXE_pombal"));
        as_user.arg("--config").arg(server.config()).arg("serve").uid(uid).gid(uid);
        let Ok(output) = as_user.output() else { continue };
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(why.contains("`user` is \"daemon\"") && output.status.code() == Some(2), "{why}");
    }
}

#[test]
fn the_sandbox_keeps_the_server_from_other_files() {
    let elsewhere = tempfile::tempdir().unwrap();
    let outside = elsewhere.path().join("pombal.toml");
    for sandbox in ["best-effort", "off"] {
        let mut server = Server::set_up_openly(&format!("sandbox = \"{sandbox}\"\n"), "");
        server.start();
        let log = server.await_log(&["sandbox"]);
        let is_on = log.contains("event=sandbox landlock=");
        assert!(!is_on || sandbox != "off", "{log}");
        if sandbox != "off" && !is_on {
            println!("skipped: this kernel has no Landlock");
            continue;
        }
        // Editors and configuration management put a new file in the old one's place.
        fs::copy(server.config(), &outside).unwrap();
        fs::rename(server.config(), server.config().with_extension("old")).unwrap();
        fs::copy(&outside, server.config()).unwrap();
        let log = server.reload("mx.local.example", "mx2.local.example");
        assert!(log.contains("event=reloaded"), "{log}");
        // Whatever it could be led to by a name, it does not read.
        fs::remove_file(server.config()).unwrap();
        symlink(&outside, server.config()).unwrap();
        let log = server.reload_as_it_is();
        let is_refused = log.contains("event=reload_refused") && log.contains("Permission denied");
        assert_eq!(is_refused, is_on, "{log}");
        server.stop();
    }
}
