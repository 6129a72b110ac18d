//! The tour of README.md, as it stands there: its configurations, and its commands in a shell.
//!
//! Put in their place are the ports and the directories, which are the test's own, the passwords, which a
//! person types, and the lines that build and start the program. The way to other servers wants Knot and
//! Postfix, and root, who starts Postfix; without them it is skipped aloud, or fails with
//! `CLIENTS_REQUIRED=1`.

use crate::cell::comes_true;
use crate::clients;
use crate::harness::{PASSWORD, Port, Server};
use crate::postfix::user_id;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const README: &str = include_str!("../../README.md");

/// The blocks of a language between the heading of the tour and the next one of its kind.
fn blocks(language: &str) -> Vec<&'static str> {
    let (_, tour) = README.split_once("\n## Five minutes\n").expect("the tour");
    let (tour, _) = tour.split_once("\n## ").expect("what follows it");
    let begin = format!("```{language}\n");
    tour.split(&*begin).skip(1).map(|block| block.split_once("```").unwrap().0).collect()
}

/// Where the commands are typed.
struct Tour {
    server: Server,
    /// The directory of the second server's data.
    second: PathBuf,
    names: Port,
    /// Postfix's, which its own users get to.
    postfix: tempfile::TempDir,
}

impl Tour {
    fn new(second: &Server) -> Tour {
        let postfix = tempfile::tempdir().unwrap();
        fs::set_permissions(postfix.path(), Permissions::from_mode(0o755)).unwrap();
        let (server, data) = (Server::set_up(""), second.data_dir());
        let tour = Tour { server, second: data, names: Port::find(), postfix };
        let programs = tour.dir().join("bin");
        fs::create_dir(&programs).unwrap();
        symlink(env!("CARGO_BIN_EXE_pombal"), programs.join("pombal")).unwrap();
        symlink(second.config(), tour.dir().join("second.toml")).unwrap();
        tour
    }

    fn dir(&self) -> &Path {
        self.server.dir()
    }

    /// A block as it is to be here. Each number of a port has another in its place, on every address.
    fn replace(&self, text: &str) -> String {
        let server = &self.server;
        let ports = [
            ("2525", server.smtp()),
            ("2587", server.submission()),
            ("2110", server.pop3()),
            ("2143", server.imap()),
            ("2993", server.imaps()),
            ("9080", server.admin()),
            ("5300", self.names.number),
        ];
        let is_ours = |line: &&str| {
            let starts = line.starts_with("pombal ") && line.contains(" serve ");
            !line.starts_with("cargo build ") && !starts
        };
        let lines = text.lines().filter(is_ours).map(|line| format!("{line}\n"));
        let mut text = lines.collect::<String>();
        for (from, to) in ports {
            text = text.replace(from, &to.to_string());
        }
        for user in ["ann@example.org", "bob@second.example"] {
            let add = format!("user add {user}");
            text = text
                .replace(&format!("--user {user}"), &format!("--user {user}:{PASSWORD}"))
                .replace(&add, &format!("{add} --password-stdin <<<{PASSWORD}"));
        }
        text.replace("\"./data\"", &format!("\"{}\"", server.data_dir().display()))
            .replace("\"./second\"", &format!("\"{}\"", self.second.display()))
            .replace("/tmp/postfix", &self.postfix.path().display().to_string())
            // It is root who goes on the tour here.
            .replace("sudo ", "")
            // What it finds to change is the machine's.
            .replace("pombal doctor", "pombal doctor || [ $? = 1 ]")
    }

    fn try_run(&self, commands: &str) -> Output {
        let path = std::env::var("PATH").unwrap();
        Command::new("bash")
            .args(["-euc", &self.replace(commands)])
            .env("PATH", format!("{}:{path}:/usr/sbin", self.dir().join("bin").display()))
            .current_dir(self.dir())
            .output()
            .unwrap()
    }

    /// What a block says, which has to go well.
    fn run(&self, commands: &str) -> String {
        let output = self.try_run(commands);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}\n{said}\n{why}", output.status);
        said
    }
}

/// Runs the block that ends the other programs, wherever the tour was left.
struct Stop<'a>(&'a Tour, &'a str);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.try_run(self.1);
    }
}

/// Whether the way to other servers can be gone; why not is said.
fn has_others() -> bool {
    let lacks = [
        ("Knot is not installed", !Path::new("/usr/sbin/knotd").exists()),
        ("Postfix is not installed", user_id("postfix").is_none()),
        ("Postfix is started by root alone", !nix::unistd::geteuid().is_root()),
    ];
    let why = lacks.into_iter().find(|(_, lacks)| *lacks).map(|(why, _)| why);
    if let Some(why) = why {
        assert!(!clients::required(), "{why}");
        println!("the way to other servers is skipped: {why}");
    }
    why.is_none()
}

#[test]
fn the_tour_of_the_readme_works() {
    if !clients::is_there("curl") {
        assert!(!clients::required(), "curl is not installed");
        println!("skipped: curl is not installed");
        return;
    }
    let (configurations, commands) = (blocks("toml"), blocks("sh"));
    let [first, added, second] = &*configurations else {
        panic!("{} configurations", configurations.len());
    };
    let [before, other_terminal, others, send, look, end] = &*commands else {
        panic!("{} shells", commands.len());
    };
    let mut second_server = Server::set_up("");
    let mut tour = Tour::new(&second_server);
    fs::write(tour.server.config(), tour.replace(first)).unwrap();
    tour.run(before);
    tour.server.start();
    let said = tour.run(other_terminal);
    assert_eq!(said.matches("\nIs this thing on?").count(), 3, "POP3, IMAP, and by TLS: {said}");
    assert!(said.contains("* SEARCH 1"), "{said}");
    assert!(said.contains("\npombal_"), "no figures: {said}");
    assert!(said.contains("ann@example.org"), "{said}");
    let said = tour.run("curl -sS pop3://127.0.0.1:2110/2 --user ann@example.org");
    assert!(said.contains("\nSubject: submitted\r\n") && said.contains("\nDate: "), "{said}");
    tour.server.stop();
    if has_others() {
        let text = tour.replace(&format!("{first}\n{added}"));
        fs::write(tour.server.config(), text).unwrap();
        fs::write(second_server.config(), tour.replace(second)).unwrap();
        tour.server.start();
        to_other_servers(&tour, &mut second_server, [others, send, look, end]);
        tour.server.stop();
    }
}

fn to_other_servers(tour: &Tour, second: &mut Server, [others, send, look, end]: [&str; 4]) {
    let _stop = Stop(tour, end);
    tour.run(others);
    second.start();
    tour.run(send);
    for (recipient, outcome) in [
        ("bob@second.example", "outcome=delivered"),
        ("carol@postfix.example", "outcome=delivered"),
        ("nobody@postfix.example", "outcome=failed"),
    ] {
        tour.server.await_log(&["event=attempt", &format!("recipient={recipient} "), outcome]);
    }
    tour.server.await_log(&["event=report", "outcome=stored"]);
    let new = tour.postfix.path().join("mail/carol/new");
    let is_there = || fs::read_dir(&new).is_ok_and(|mut files| files.next().is_some());
    assert!(comes_true(is_there), "Postfix delivers it");
    let said = tour.run(look);
    // Bob, Carol, and the report that brings it back.
    assert_eq!(said.matches("\nDid it arrive?").count(), 3, "{said}");
    let from_us = "by mx.second.example with ESMTPS";
    for part in [
        from_us,
        "Final-Recipient: rfc822; nobody@postfix.example",
        "Diagnostic-Code: smtp; 550 5.1.1",
        "10 mx.postfix.example 127.0.0.3:",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    second.stop();
}
