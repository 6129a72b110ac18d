//! One turned bit anywhere in a store that was closed is found by `store verify`.
//!
//! A small store of everything there is (domains and users, mail for one and for many, removals,
//! checkpoints) is closed. Then one bit after the other is turned in its files, at places drawn
//! from every octet that is not zero, `pombal store verify` must fail each time, and the files are
//! put back. `FLIPS` says how many bits of each file are turned (12); `SEED` draws others.
//!
//! Zeros are left out: where nothing was written yet there is nothing to find, and the zeros
//! between records are checked by the unit tests of the store. So is a segment that is free: it
//! has a header and no batch, holds nothing, and gets a new header before it is used.

use crate::client::{Link, Maildrop, smtp};
use crate::harness::{PASSWORD, Server};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const USERS: [&str; 4] = ["a", "b", "c", "d"];
/// Octets that a file is read in to look for what is written.
const PIECE_OCTETS: usize = 64;
/// The header of a segment.
const HEADER_OCTETS: usize = 4_096;

#[test]
fn store_verify_finds_every_turned_bit() {
    let mut server = Server::with_users("", &USERS);
    fill(&server);
    server.restart();
    fill(&server);
    // Beside the server.
    let beside = server.pombal(&["store", "verify", "--rate", "100M"], "");
    assert!(beside.contains("all well") && !beside.contains("DAMAGED"), "{beside}");
    // Not in vain, for as long as it may run.
    let beside = server.try_pombal(&["store", "dump"], "");
    let said = String::from_utf8_lossy(&beside.stderr);
    assert!(!beside.status.success() && said.contains("stop it first"), "{said}");
    assert!(!said.contains("waiting"), "{said}");
    server.stop();
    server.pombal(&["store", "verify"], "");
    let mut whole = read_all(&server.dir().join("data"));
    // Certificates lie beside the store and are none of it: a start and `pombal check` read them.
    whole.retain(|(path, _)| !path.starts_with(server.dir().join("data/tls")));
    let flips = number("FLIPS").unwrap_or(12);
    let mut state = number("SEED").unwrap_or(1);
    let mut missed = String::new();
    let mut turned = 0;
    for (path, octets) in &whole {
        let written: Vec<usize> = (0..octets.len().div_ceil(PIECE_OCTETS))
            .map(|piece| piece * PIECE_OCTETS)
            .filter(|&at| octets[at..].iter().take(PIECE_OCTETS).any(|&octet| octet != 0))
            .collect();
        let is_segment =
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"seg-"));
        let is_free = is_segment && written.last().is_none_or(|&last| last < HEADER_OCTETS);
        if written.is_empty() || is_free {
            continue;
        }
        for _ in 0..flips {
            let piece = written[pick(&mut state, written.len())];
            let end = octets.len().min(piece + PIECE_OCTETS);
            let places: Vec<usize> = (piece..end).filter(|&at| octets[at] != 0).collect();
            let at = places[pick(&mut state, places.len())];
            let bit = pick(&mut state, 8);
            let mut wrong = octets.clone();
            wrong[at] ^= 1 << bit;
            fs::write(path, &wrong).unwrap();
            let output = server.try_pombal(&["store", "verify"], "");
            turned += 1;
            if output.status.success() {
                let name = path.strip_prefix(server.dir()).unwrap().display();
                writeln!(missed, "{name}: bit {bit} of octet {at}").unwrap();
            }
            put_back(&server.dir().join("data"), &whole);
        }
    }
    println!("{turned} bits turned, one at a time");
    assert!(missed.is_empty(), "not found:\n{missed}");
    // And what was put back is what it was.
    server.pombal(&["store", "verify"], "");
}

/// Mail of several sizes, for one and for all; some of it is removed again.
fn fill(server: &Server) {
    let mut link: Link = smtp(server.smtp(), "EHLO").unwrap();
    for number in 0..40_usize {
        link.command("MAIL FROM:<x@elsewhere.example>", 250).unwrap();
        let to: &[&str] = if number % 4 == 0 { &USERS } else { &USERS[number % 4..][..1] };
        for user in to {
            link.command(&format!("RCPT TO:<{user}@local.example>"), 250).unwrap();
        }
        link.command("DATA", 354).unwrap();
        let line = format!("line of message {number}\r\n");
        let body = line.repeat(1 + number * number);
        link.command(&format!("Subject: {number}\r\n\r\n{body}."), 250).unwrap();
    }
    link.command("QUIT", 221).unwrap();
    let mut drop = Link::connect(server.pop3()).unwrap();
    let session =
        format!("USER c@local.example\r\nPASS {PASSWORD}\r\nDELE 1\r\nDELE 3\r\nQUIT\r\n");
    drop.send(session).unwrap();
    drop.rest().unwrap();
    assert!(Maildrop::open(server.pop3(), "c", false).unwrap().retrieve_all().unwrap().len() > 1);
}

fn read_all(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(read_all(&path));
        } else if path.is_file() && fs::metadata(&path).unwrap().len() > 0 {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

/// Opening a store writes to it: everything is as it was, and nothing is there that was not.
fn put_back(dir: &Path, whole: &[(PathBuf, Vec<u8>)]) {
    for (path, octets) in read_all(dir) {
        match whole.iter().find(|(known, _)| *known == path) {
            Some((_, before)) if *before == octets => {}
            Some((_, before)) => fs::write(&path, before).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The next place of `count`, by a small generator that anyone can repeat.
fn pick(state: &mut u64, count: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 33).unwrap() % count
}
