//! Every mail of the corpus beside the repository keeps the laws of this floor.

use super::structure::fuzz_structure;
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
    }
}
