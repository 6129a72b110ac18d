//! Every mail of the corpus beside the repository keeps the laws of this floor.

use super::decode::Decoder;
use super::downgrade::{Plan, fuzz_downgrade};
use super::encode::fuzz_encode;
use super::fields::fuzz_fields;
use super::head::Head;
use super::html::fuzz_html;
use super::mime::{Kind, Tree};
use super::preview::{PREVIEW_OCTETS_MAX, put_preview};
use super::search::{MessageSearch, Needle};
use super::structure::fuzz_structure;
use super::subject::base_subject;
use super::words::fuzz_words;
use crate::wire::dot::fuzz_data;
use std::path::{Path, PathBuf};

const FOLDERS: &[&str] = &["messages", "bounces", "eai", "spamham", "mbox", "auth", "encodings"];

/// All files below the mail folders of the corpus; none, said aloud, where it is absent.
fn mails() -> Vec<PathBuf> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus"));
    let mut found = Vec::new();
    for folder in FOLDERS {
        let origins = std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        for origin in origins {
            let files = std::fs::read_dir(origin.path()).into_iter().flatten().flatten();
            found.extend(files.map(|file| file.path()));
        }
    }
    if found.is_empty() {
        println!("skipped: no corpus beside the repository");
    }
    found.sort();
    found
}

#[test]
fn every_mail_of_the_corpus_keeps_the_laws() {
    for path in mails() {
        let octets = std::fs::read(&path).unwrap();
        println!("{}", path.display());
        fuzz_structure(&octets);
        let front = &octets[..octets.len().min(4 << 10)];
        fuzz_fields(front);
        fuzz_data(front);
        let tree = Tree::of(&octets);
        let mut preview = String::new();
        put_preview(&octets, &tree, &mut preview);
        assert!(preview.len() <= PREVIEW_OCTETS_MAX);
        let needle = Needle::new("no such wörd, ever");
        assert!(!MessageSearch::new(&needle).in_message(&octets, &tree.parts));
        let header = &octets[..Head::of(&octets).1];
        fuzz_words(header);
        base_subject(header);
        for part in tree.parts.iter().filter(|part| part.kind == Kind::Text) {
            Decoder::new(part.encoding).feed(&octets[part.body()], &mut Vec::new());
            fuzz_html(&octets[part.body()]);
        }
    }
}

/// With the line ends of the wire; most of what needs it can be made fit.
#[test]
fn every_mail_of_the_corpus_can_be_made_fit_or_says_why_not() {
    let (mut changed, mut refused) = (0, 0);
    for path in mails() {
        let octets = std::fs::read(&path).unwrap();
        println!("{}", path.display());
        fuzz_downgrade(&octets);
        fuzz_encode(&octets[..octets.len().min(2 << 10)]);
        let mut wire = Vec::with_capacity(octets.len());
        for line in octets.split_inclusive(|&octet| octet == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            wire.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
            wire.extend_from_slice(b"\r\n");
        }
        fuzz_downgrade(&wire);
        match Plan::of(&wire) {
            Ok(plan) => changed += usize::from(plan.pieces.len() > 1),
            Err(cannot) => {
                println!("  {cannot}");
                refused += 1;
            }
        }
    }
    println!("{changed} changed, {refused} refused");
}
