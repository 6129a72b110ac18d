//! Every mail of the corpus beside the repository keeps the laws of this floor.

use super::decode::Decoder;
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
