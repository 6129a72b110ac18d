//! `auth.rehash`: passwords that were taken over from elsewhere, or are older than SCRAM, are kept anew
//! at their users' next login, whichever shard that comes to.

use crate::client::Maildrop;
use crate::fixture::with_logs;
use crate::harness::{PASSWORD, Server};
use crate::scram::{plain, scram};
use std::fs;

const AUTH: &str = "[auth]\nallow_plaintext = true\nargon2_memory = \"8K\"\nargon2_passes = 1\n";

/// `secret`, as crypt(3), OpenLDAP, bcrypt and Dovecot's argon2id have it; the last costs more than
/// what is made here.
const DEAR: &str = "$argon2id$v=19$m=65536,t=3,p=1$3KFLbNf2VVdLysndMuShvw\
                    $Cf0j7MMy1zPbej3qU5wu6rvyQIqX8M6d3dhiGLqtjlI";
const FOREIGN: [(&str, &str); 3] = [
    (
        "crypt",
        "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.",
    ),
    ("ssha", "{SSHA}1G904nLkTkGWjKNnQuB/hpWXC/hzYWx0c2FsdA=="),
    ("bcrypt", "{BLF-CRYPT}$2y$05$0ppJDVmbubg4fnF6RKPYvOTnpOIMJpS13okbBAol9DTXb.fytbHE."),
];
const USERS: [&str; 4] = ["crypt", "ssha", "bcrypt", "dear"];

/// A server whose users came with hashes of elsewhere.
fn server(rehash: bool) -> Server {
    let server = Server::with_users(&format!("{AUTH}rehash = {rehash}\n"), &[]);
    let mut lines: Vec<String> =
        FOREIGN.iter().map(|(user, hash)| format!("{user}:{hash}:1000::")).collect();
    lines.push(format!("dear:{DEAR}"));
    let file = server.dir().join("users");
    fs::write(&file, lines.join("\n")).unwrap();
    let file = file.to_str().unwrap();
    let said = server.pombal(&["user", "import", file, "--domain", "local.example"], "");
    assert_eq!(said, "4 users made, 0 lines passed over\n");
    server
}

fn address(user: &str) -> String {
    format!("{user}@local.example")
}

/// What is kept of the users' passwords, by a server that does not run.
fn kept(server: &Server) -> Vec<String> {
    with_logs(server, |states| async move {
        let snapshot = states[0].ledger.snapshot();
        let of = |user: &str| match snapshot.find(&address(user)) {
            Some(pombal::directory::Entry::User(user)) => user.hash.to_string(),
            _ => panic!("no user {user}"),
        };
        USERS.iter().map(|user| of(user)).collect()
    })
}

#[test]
fn a_login_has_a_weak_hash_kept_anew() {
    let mut server = server(true);
    for user in USERS {
        assert_eq!(plain(&server, "", &address(user), "wrong"), 535, "{user}");
        assert_eq!(scram(&server, &address(user), PASSWORD), 535, "{user} has no keys yet");
        // Many at once: on both shards, and one change comes out of it.
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| assert_eq!(plain(&server, "", &address(user), PASSWORD), 235));
            }
        });
        let user_is = format!("user={}", address(user));
        server.await_log(&["event=password_rehashed", &user_is]);
        for _ in 0..4 {
            assert_eq!(scram(&server, &address(user), PASSWORD), 235, "{user}");
        }
        assert_eq!(scram(&server, &address(user), "wrong"), 535, "{user}");
        assert_eq!(plain(&server, "", &address(user), PASSWORD), 235, "{user}");
        Maildrop::open(server.pop3(), user, false).unwrap().quit().unwrap();
    }
    assert_eq!(server.figure("pombal_passwords_rehashed_total"), 4);
    // Whoever sets a password says what it is.
    server.pombal(&["user", "passwd", &address("ssha"), "--password-stdin"], "new\n");
    assert_eq!(scram(&server, &address("ssha"), "new"), 235);
    assert_eq!(plain(&server, "", &address("ssha"), PASSWORD), 535);
    // As durable as every change of the directory.
    server.kill9();
    server.start();
    assert_eq!(scram(&server, &address("crypt"), PASSWORD), 235);
    assert_eq!(scram(&server, &address("ssha"), PASSWORD), 535);
    assert_eq!(plain(&server, "", &address("bcrypt"), PASSWORD), 235);
    server.stop();
    let all = kept(&server);
    for (user, kept) in USERS.iter().zip(&all) {
        let words: Vec<&str> = kept.split(' ').collect();
        let cost = if *user == "dear" { "$m=65536,t=3,p=1$" } else { "$m=8,t=1,p=1$" };
        assert!(words[0].starts_with("$argon2id$") && words[0].contains(cost), "{user}: {kept}");
        assert!(words[1].starts_with("SCRAM-SHA-256$10000:"), "{user}: {kept}");
        assert_eq!(words.len(), 2, "{user}: {kept}");
    }
}

#[test]
fn what_the_operator_does_not_want_is_not_done() {
    let mut server = server(false);
    for user in USERS {
        for _ in 0..2 {
            assert_eq!(plain(&server, "", &address(user), PASSWORD), 235, "{user}");
        }
        assert_eq!(scram(&server, &address(user), PASSWORD), 535, "{user}");
    }
    assert_eq!(server.figure("pombal_passwords_rehashed_total"), 0);
    server.stop();
    let before: Vec<&str> = FOREIGN.iter().map(|(_, hash)| *hash).chain([DEAR]).collect();
    for (before, kept) in before.into_iter().zip(kept(&server)) {
        assert!(before.ends_with(&kept), "{before} became {kept}");
    }
    // Switched on while it runs.
    server.start();
    assert_eq!(plain(&server, "", &address("ssha"), PASSWORD), 235);
    let log = server.reload("rehash = false", "rehash = true");
    assert!(log.contains("event=setting_changed key=auth.rehash"), "{log}");
    // Each shard hears of it.
    while server.figure("pombal_passwords_rehashed_total") == 0 {
        assert_eq!(plain(&server, "", &address("ssha"), PASSWORD), 235);
    }
    assert_eq!(scram(&server, &address("ssha"), PASSWORD), 235);
    server.stop();
}

/// An application password is none of the user's own: nothing is made of it.
#[test]
fn a_program_s_password_is_never_kept_as_the_users() {
    let mut server = server(true);
    let app = server.pombal(&["user", "apppass", "add", &address("ssha"), "phone"], "");
    assert_eq!(plain(&server, "", &address("ssha"), app.trim()), 235);
    // Behind it, in the order in which they came.
    assert_eq!(plain(&server, "", &address("crypt"), PASSWORD), 235);
    server.await_log(&["event=password_rehashed", "user=crypt@local.example"]);
    assert_eq!(server.figure("pombal_passwords_rehashed_total"), 1);
    assert_eq!(scram(&server, &address("ssha"), app.trim()), 235);
    // And what is made of the user's leaves it of use.
    assert_eq!(plain(&server, "", &address("ssha"), PASSWORD), 235);
    server.await_log(&["event=password_rehashed", "user=ssha@local.example"]);
    for password in [app.trim(), PASSWORD] {
        assert_eq!(scram(&server, &address("ssha"), password), 235);
    }
    server.stop();
}
