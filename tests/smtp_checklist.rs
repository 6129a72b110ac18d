//! Every line of the SMTP checklist has a test that exists: `docs/SMTP.md` is held against the dialogs
//! and the sources.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The first and the last line of each run of lines.
///
/// Mail authentication, 135 to 138, comes with its issue.
const LINES: [(u16, u16); 9] = [
    (1, 18),
    (20, 39),
    (50, 74),
    (80, 91),
    (100, 103),
    (110, 125),
    (130, 134),
    (139, 140),
    (145, 147),
];

/// The same of outgoing mail.
const OUTGOING: [(u16, u16); 6] = [(1, 11), (20, 46), (50, 61), (70, 78), (80, 89), (100, 105)];

#[test]
fn every_line_has_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("docs/SMTP.md")).unwrap();
    let known = known(root);
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for row in table.lines().filter(|line| line.starts_with("| A") || line.starts_with("| B")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, line, _, shown, _] = cells.as_slice() else {
            wrong.push(format!("{row}: not three cells"));
            continue;
        };
        if !seen.insert((*line).to_owned()) {
            wrong.push(format!("{line}: twice"));
        }
        let words: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        if words.is_empty() {
            wrong.push(format!("{line}: shown by nothing"));
        }
        let missing = words.iter().filter(|word| !known.contains(**word));
        wrong.extend(missing.map(|word| format!("{line}: there is no {word}")));
    }
    let each = |letter: char, runs: &[(u16, u16)]| -> Vec<String> {
        let numbers = runs.iter().flat_map(|(first, last)| *first..=*last);
        numbers.map(|number| format!("{letter}{number:03}")).collect()
    };
    let wanted = each('A', &LINES).into_iter().chain(each('B', &OUTGOING));
    let wanted: BTreeSet<String> = wanted.collect();
    wrong.extend(wanted.difference(&seen).map(|line| format!("{line}: no row")));
    wrong.extend(seen.difference(&wanted).map(|line| format!("{line}: no such line")));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The enhanced codes that are registered (RFC 5248 §2.4), by subject: the highest detail, from 0.
const REGISTERED: [u16; 8] = [0, 10, 4, 6, 7, 6, 11, 30];

/// RFC 3463, RFC 5248: a reply's class and that of its enhanced code agree by construction; what is
/// left to see is that the code exists.
#[test]
fn every_enhanced_code_is_a_registered_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(&root.join("src"), &mut files);
    let (mut seen, mut wrong) = (0, Vec::new());
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "rs")) {
        let text = fs::read_to_string(file).unwrap();
        for (word, skipped) in [("Reply::new(", 1), ("Said::ours(", 1), ("Enhanced(", 0)] {
            for call in text.split(word).skip(1) {
                let numbers = call.split([',', ')']).map(|part| part.trim().parse::<u16>());
                let numbers: Vec<u16> = numbers.map_while(Result::ok).skip(skipped).collect();
                let [subject, detail, ..] = *numbers.as_slice() else { continue };
                seen += 1;
                let highest = REGISTERED.get(usize::from(subject));
                if highest.is_none_or(|highest| detail > *highest) {
                    wrong.push(format!("{}: X.{subject}.{detail}", file.display()));
                }
            }
        }
    }
    assert!(seen > 50, "only {seen} codes were found");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The names of the dialogs, and of all tests in Rust.
fn known(root: &Path) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    let mut files = Vec::new();
    for dir in ["src", "tests"] {
        walk(&root.join(dir), &mut files);
    }
    for file in files {
        let end = file.extension().unwrap_or_default();
        if end == "dialog" && file.parent().is_some_and(|dir| dir.ends_with("dialogs/smtp")) {
            known.insert(file.file_stem().unwrap().to_string_lossy().into_owned());
        } else if file.parent().is_some_and(|dir| dir.ends_with("tests/clients")) {
            known.insert(format!("clients/{}", file.file_stem().unwrap().to_string_lossy()));
        } else if end == "rs" {
            let text = fs::read_to_string(&file).unwrap();
            for test in text.split("#[test]").skip(1) {
                let name = test.split("fn ").nth(1).and_then(|rest| rest.split('(').next());
                known.extend(name.map(str::to_owned));
            }
        }
    }
    known
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            walk(&entry.path(), files);
        } else {
            files.push(entry.path());
        }
    }
}
