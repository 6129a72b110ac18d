//! The tour of README.md, as it stands there: its configuration, and its commands in a shell.
//!
//! Put in their place are the ports and the directory, which are the test's own, the passwords, which a
//! person types, and the lines that build and start the program.

use crate::clients;
use crate::harness::{PASSWORD, Server};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

const README: &str = include_str!("../../README.md");

/// The blocks of a language below the heading of the tour.
fn blocks(language: &str) -> Vec<&'static str> {
    let (_, tour) = README.split_once("\n## Five minutes\n").expect("the tour");
    let (tour, _) = tour.split_once("\n## ").expect("what follows it");
    let begin = format!("```{language}\n");
    tour.split(&*begin).skip(1).map(|block| block.split_once("```").unwrap().0).collect()
}

#[test]
fn the_tour_of_the_readme_works() {
    if !clients::is_there("curl") {
        assert!(!clients::required(), "curl is not installed");
        println!("skipped: curl is not installed");
        return;
    }
    let mut server = Server::set_up("");
    let ports = [
        ("2525", server.smtp()),
        ("2587", server.submission()),
        ("2110", server.pop3()),
        ("2143", server.imap()),
        ("2993", server.imaps()),
        ("9080", server.admin()),
    ];
    let replace = |text: &str| {
        let mut text = text.to_owned();
        for (from, to) in ports {
            text = text.replace(&format!("127.0.0.1:{from}"), &format!("127.0.0.1:{to}"));
        }
        let is_ours =
            |line: &&str| !line.starts_with("cargo build ") && !line.starts_with("pombal serve ");
        let lines = text.lines().filter(is_ours).map(|line| format!("{line}\n"));
        let text = lines.collect::<String>();
        text.replace("\"./data\"", &format!("\"{}\"", server.data_dir().display()))
            .replace("--user ann@example.org", &format!("--user ann@example.org:{PASSWORD}"))
            .replace("user add ann@example.org", &with_password("user add ann@example.org"))
            // What it finds to change is the machine's.
            .replace("pombal doctor", "pombal doctor || [ $? = 1 ]")
    };
    let (configuration, commands) = (blocks("toml"), blocks("sh"));
    let ([configuration], [before, other_terminal]) = (&*configuration, &*commands) else {
        panic!("{} configurations, {} shells", configuration.len(), commands.len());
    };
    let programs = server.dir().join("bin");
    fs::create_dir(&programs).unwrap();
    symlink(env!("CARGO_BIN_EXE_pombal"), programs.join("pombal")).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let run = |dir: &std::path::Path, commands: &str| {
        let output = Command::new("bash")
            .args(["-euc", commands])
            .env("PATH", &path)
            .current_dir(dir)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}\n{said}\n{why}", output.status);
        said
    };
    fs::write(server.config(), replace(configuration)).unwrap();
    run(server.dir(), &replace(before));
    let other_terminal = replace(other_terminal);
    let submitted = format!(
        "curl -sS pop3://127.0.0.1:{}/2 --user ann@example.org:{PASSWORD}\n",
        server.pop3()
    );
    server.start();
    let said = run(server.dir(), &other_terminal);
    assert_eq!(said.matches("\nIs this thing on?").count(), 3, "POP3, IMAP, and by TLS: {said}");
    assert!(said.contains("* SEARCH 1"), "{said}");
    assert!(said.contains("\npombal_"), "no figures: {said}");
    assert!(said.contains("ann@example.org"), "{said}");
    let said = run(server.dir(), &submitted);
    assert!(said.contains("\nSubject: submitted\r\n") && said.contains("\nDate: "), "{said}");
    server.stop();
}

fn with_password(command: &str) -> String {
    format!("{command} --password-stdin <<<{PASSWORD}")
}
