//! What the code promises about itself: floors, sizes, headers, citations, dependencies.
//!
//! The table [`FLOORS`] is the architecture: a module names only what stands in its row. A failure
//! prints every offence as `file:line: what`, so that one run is enough to mend all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const ZERO: &str = "bytes model probe";
const TO_FOUR: &str = "bytes model probe wire proto policy sieve env concierge store mesh dns tls";
const FIVE: &str = "mailbox queue directory";
const SIX: &str = "auth search";

/// Module, and the modules that it may name besides itself. `*` is everything.
const FLOORS: &[(&str, &[&str])] = &[
    ("bytes", &["model probe"]),
    ("model", &["bytes"]),
    ("probe", &[]),
    ("wire", &[ZERO]),
    ("proto", &[ZERO, "wire"]),
    ("policy", &[ZERO, "wire"]),
    ("sieve", &[ZERO, "wire"]),
    ("env", &[ZERO]),
    ("concierge", &[ZERO]),
    ("acme", &[ZERO]),
    ("store", &[ZERO, "env"]),
    ("mesh", &[ZERO, "env"]),
    ("dns", &[ZERO, "wire env concierge"]),
    ("tls", &[ZERO, "wire env"]),
    ("mailbox", &[TO_FOUR]),
    ("queue", &[TO_FOUR]),
    ("directory", &[TO_FOUR]),
    ("auth", &[TO_FOUR, FIVE]),
    ("search", &[TO_FOUR, FIVE]),
    ("mta", &[TO_FOUR, FIVE, SIX]),
    ("server", &[TO_FOUR, FIVE, SIX, "mta"]),
    ("node", &["*"]),
    ("config", &["*"]),
    ("admin", &["*"]),
    ("cli", &["*"]),
];

/// Macros stand at the root of the crate; the floor that they belong to.
const MACROS: &[(&str, &str)] = &[("figures", "probe")];

/// Where each of these may be named. A path ends in `/` or is a whole file.
const FENCED: &[(&str, &[&str])] = &[
    ("glommio", &["src/env/ring/"]),
    ("tokio", &["src/concierge/", "src/acme/", "loadgen/"]),
    // The ring, and one system call each: the niceness of the password threads, signal masks.
    ("unsafe", &["src/env/ring/", "src/auth/pool.rs", "src/node/signals.rs", "loadgen/"]),
];

/// Floors that know no clock, no I/O, no task: these words do not occur in them outside tests.
const PURE: &[&str] = &["bytes", "model", "probe", "wire", "proto", "policy", "sieve"];
const IMPURE: &[&str] = &[
    "async fn",
    "async move",
    ".await",
    "std::fs",
    "std::thread",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "std::time::Instant",
    "SystemTime",
];

const LINES_MAX: usize = 800;
const MODULE_NAMES_BANNED: &[&str] = &["util", "utils", "common", "helpers", "types", "manager"];
const CRATES_BANNED: &[&str] = &[
    "openssl",
    "openssl-sys",
    "native-tls",
    "async-std",
    "failure",
    "sieve-rs",
    "rug",
    "gmp-mpfr-sys",
    "readline-sys",
];
/// Put together here so that this file does not offend itself.
const WORDS_BANNED: &[&str] = &[
    concat!("#[", "ignore"),
    concat!("should", "_panic"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("FIX", "ME"),
];
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

#[test]
fn modules_name_only_lower_floors() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        FLOORS.iter().map(|(name, may)| (*name, words(may).collect())).collect();
    let mut offences = String::new();
    for file in sources("src") {
        let Some(module) = floor_of(&file.path) else { continue };
        let Some(may) = allowed.get(module) else {
            offend(&mut offences, &file.path, 1, &format!("`{module}` has no row in FLOORS"));
            continue;
        };
        for (number, named) in crate_names(&file.text) {
            let floor = MACROS.iter().find(|(name, _)| *name == named);
            let floor = floor.map_or(named.as_str(), |(_, floor)| floor);
            if floor == module || may.contains("*") || may.contains(floor) {
                continue;
            }
            offend(&mut offences, &file.path, number, &format!("{module} may not name {floor}"));
        }
    }
    settle(&offences);
}

#[test]
fn a_floor_names_no_floor_above_and_the_table_has_no_circle() {
    for (index, (name, may)) in FLOORS.iter().enumerate() {
        for named in words(may).filter(|named| *named != "*") {
            let at = FLOORS.iter().position(|(other, _)| *other == named);
            let at = at.unwrap_or_else(|| panic!("{name} names {named}, which has no row"));
            // The two lowest may share: bytes has limits, model has codecs.
            assert!(at < index || index < 2, "{name} names {named}, which stands above");
        }
    }
}

#[test]
fn fenced_words_stay_in_their_files() {
    let mut offences = String::new();
    for file in sources("src").into_iter().chain(sources("loadgen")) {
        for (word, places) in FENCED {
            if places.iter().any(|place| file.path.starts_with(place)) {
                continue;
            }
            for (number, line) in code(&file.text) {
                if has_word(line, word) {
                    offend(
                        &mut offences,
                        &file.path,
                        number,
                        &format!("`{word}` belongs elsewhere"),
                    );
                }
            }
        }
    }
    settle(&offences);
}

#[test]
fn pure_floors_know_no_clock_and_no_io() {
    let mut offences = String::new();
    for file in sources("src") {
        let pure = floor_of(&file.path).is_some_and(|floor| PURE.contains(&floor));
        if !pure || file.path.ends_with("tests.rs") {
            continue;
        }
        let production = file.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for (number, line) in code(production) {
            for word in IMPURE.iter().filter(|word| line.contains(*word)) {
                offend(&mut offences, &file.path, number, &format!("`{word}` in a pure floor"));
            }
        }
    }
    settle(&offences);
}

#[test]
fn files_are_short_headed_and_well_named() {
    let mut offences = String::new();
    for file in everything_in_rust() {
        let lines = file.text.lines().count();
        if lines > LINES_MAX {
            offend(&mut offences, &file.path, lines, &format!("longer than {LINES_MAX} lines"));
        }
        if !file.text.starts_with("//! ") {
            offend(&mut offences, &file.path, 1, "no `//!` header");
        }
        for part in Path::new(&file.path).components() {
            let name = part.as_os_str().to_string_lossy();
            let stem = name.strip_suffix(".rs").unwrap_or(&name);
            if MODULE_NAMES_BANNED.contains(&stem) {
                offend(&mut offences, &file.path, 1, &format!("`{stem}` says nothing"));
            }
        }
        for (number, line) in code(&file.text) {
            for word in WORDS_BANNED.iter().filter(|word| line.contains(*word)) {
                offend(&mut offences, &file.path, number, &format!("`{word}` is refused"));
            }
        }
    }
    settle(&offences);
}

/// The index has a row for each RFC that the code cites, and no row claims `yes` without one.
#[test]
fn cited_rfcs_and_the_index_agree() {
    let index = fs::read_to_string(root().join("docs/RFC.md")).expect("docs/RFC.md is there");
    let mut rows = BTreeMap::new();
    let mut offences = String::new();
    for (number, line) in index.lines().enumerate() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, rfc, _, status, ..] = cells.as_slice() else { continue };
        let Ok(rfc) = rfc.parse::<u32>() else { continue };
        if !["yes", "part", "no", "never"].contains(status) {
            offend(&mut offences, "docs/RFC.md", number + 1, "status is yes, part, no or never");
        }
        if rows.insert(rfc, *status).is_some() {
            offend(&mut offences, "docs/RFC.md", number + 1, &format!("RFC {rfc} has two rows"));
        }
    }
    assert!(!rows.is_empty(), "docs/RFC.md has a table");
    let mut cited = BTreeSet::new();
    for file in sources("src") {
        for (number, line) in file.text.lines().enumerate() {
            for rfc in citations(line) {
                cited.insert(rfc);
                if !rows.contains_key(&rfc) {
                    let what = format!("RFC {rfc} has no row in docs/RFC.md");
                    offend(&mut offences, &file.path, number + 1, &what);
                }
            }
        }
    }
    for (rfc, _) in rows.iter().filter(|(rfc, status)| **status == "yes" && !cited.contains(*rfc)) {
        offend(&mut offences, "docs/RFC.md", 1, &format!("RFC {rfc} is `yes` and cited nowhere"));
    }
    settle(&offences);
}

#[test]
fn dependencies_are_allowed_and_free() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock is tracked");
    let mut offences = String::new();
    for (number, line) in lock.lines().enumerate() {
        let name = line.strip_prefix("name = \"").and_then(|rest| rest.strip_suffix('"'));
        if let Some(name) = name.filter(|name| CRATES_BANNED.contains(name)) {
            offend(&mut offences, "Cargo.lock", number + 1, &format!("{name} is banned"));
        }
    }
    // What each package says of its own licence, out of the sources that are built.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--filter-platform", &platform])
        .current_dir(root())
        .output()
        .expect("cargo runs the tests, so it runs");
    let text = String::from_utf8_lossy(&metadata.stdout);
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let mut licences = 0;
    for package in text.split("\"license\":\"").skip(1) {
        let licence = package.split('"').next().unwrap_or_default();
        licences += 1;
        let free = licence
            .split(" OR ")
            .flat_map(|part| part.split('/'))
            .any(|part| !["GPL", "SSPL", "BUSL", "Commons"].iter().any(|word| part.contains(word)));
        if !free {
            offend(&mut offences, "Cargo.lock", 1, &format!("a package under {licence}"));
        }
    }
    assert!(licences > 50, "cargo metadata told of {licences} licences only");
    settle(&offences);
}

/// Decision 0001 has a row for each crate that a manifest asks for, and none for others; and each is
/// named by the sources.
#[test]
fn direct_dependencies_are_in_use_and_written_down() {
    let page = "docs/decisions/0001-dependencies.md";
    let text = fs::read_to_string(root().join(page)).expect("decision 0001 is there");
    let rows: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name))
        .collect();
    let sources = everything_in_rust();
    let mut offences = String::new();
    let mut asked = BTreeSet::new();
    for path in ["Cargo.toml", "loadgen/Cargo.toml"] {
        let manifest = fs::read_to_string(root().join(path)).expect("the manifest is there");
        let mut in_dependencies = false;
        for (number, line) in manifest.lines().enumerate() {
            if line.starts_with('[') {
                in_dependencies = line.ends_with("dependencies]");
            }
            let Some((name, _)) = line.split_once(" = ").filter(|_| in_dependencies) else {
                continue;
            };
            asked.insert(name.to_owned());
            if name != "pombal" && !rows.contains(name) {
                offend(&mut offences, path, number + 1, &format!("{name} has no row in {page}"));
            }
            let named = name.replace('-', "_");
            if !sources.iter().any(|file| file.text.lines().any(|line| has_word(line, &named))) {
                offend(&mut offences, path, number + 1, &format!("{name} is named nowhere"));
            }
        }
    }
    for row in rows.iter().filter(|row| !asked.contains(**row)) {
        offend(&mut offences, page, 1, &format!("no manifest asks for {row}"));
    }
    settle(&offences);
}

#[test]
fn tracked_files_name_no_machine() {
    let mut offences = String::new();
    for path in tracked() {
        // What is no text has no paths in it that anybody would follow.
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for (number, line) in text.lines().enumerate() {
            for place in MACHINE_PATHS.iter().filter(|place| line.contains(*place)) {
                offend(&mut offences, &path, number + 1, &format!("names {place}"));
            }
        }
    }
    settle(&offences);
}

fn words<'a>(lists: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    lists.iter().flat_map(|list| list.split_whitespace())
}

/// One source file, its path relative to the repository.
struct Source {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below `dir`, sorted.
fn sources(dir: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    walk(&root().join(dir), &mut paths);
    paths.sort();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).expect("a source is UTF-8");
        let path = path.strip_prefix(root()).expect("walked below the root");
        Source { path: path.to_string_lossy().into_owned(), text }
    };
    paths.iter().filter(|path| path.extension().is_some_and(|end| end == "rs")).map(read).collect()
}

fn everything_in_rust() -> Vec<Source> {
    ["src", "loadgen", "tests", "benches"].iter().flat_map(|dir| sources(dir)).collect()
}

fn walk(dir: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if name != "target" && name != ".git" && name != "data" {
                walk(&path, paths);
            }
        } else {
            paths.push(path);
        }
    }
}

/// What git tracks; where there is no git, every file.
fn tracked() -> Vec<String> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    match listed {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
            .split_terminator('\0')
            .map(str::to_owned)
            .collect(),
        _ => {
            let mut paths = Vec::new();
            walk(&root(), &mut paths);
            let relative = |path: &PathBuf| path.strip_prefix(root()).ok().map(Path::to_path_buf);
            paths.iter().filter_map(relative).map(|path| path.to_string_lossy().into()).collect()
        }
    }
}

/// `store` of `src/store/log.rs`; nothing for `src/lib.rs`.
fn floor_of(path: &str) -> Option<&str> {
    let inner = path.strip_prefix("src/")?;
    inner.split_once('/').map(|(floor, _)| floor)
}

/// Numbered lines without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(number, line)| {
        let code = line.find("//").map_or(line, |at| line.get(..at).unwrap_or(line));
        (number + 1, code)
    })
}

/// Every module of this crate that the text names, with its line: `crate::store`,
/// `crate::{bytes, model::id}`.
fn crate_names(text: &str) -> Vec<(usize, String)> {
    let stripped = code(text).map(|(_, line)| line).collect::<Vec<_>>().join("\n");
    let mut names = Vec::new();
    for (at, found) in stripped.match_indices("crate::") {
        let (before, rest) = stripped.split_at(at + found.len());
        let number = before.lines().count();
        let Some(list) = rest.strip_prefix('{') else {
            names.push((number, word(rest)));
            continue;
        };
        let mut depth = 0;
        let mut fresh = true;
        for (at, letter) in list.char_indices() {
            match letter {
                '}' if depth == 0 => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => fresh = true,
                letter if fresh && letter.is_alphabetic() => {
                    fresh = false;
                    names.push((number, word(list.get(at..).unwrap_or_default())));
                }
                _ => {}
            }
        }
    }
    names
}

fn word(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

fn has_word(line: &str, wanted: &str) -> bool {
    line.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|word| word == wanted)
}

/// The numbers in `RFC 5321 §4.1 and RFC 6531`.
fn citations(line: &str) -> Vec<u32> {
    let numbers = line.split("RFC ").skip(1).map(word);
    numbers.filter_map(|number| number.parse().ok()).collect()
}

#[test]
fn the_scanner_sees_every_way_to_name_a_floor() {
    let text = "use crate::{\n    store::{Log, log},\n    wire,\n};\n// crate::cli\nlet x = crate::mta::y;\n";
    let names: Vec<String> = crate_names(text).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["store", "wire", "mta"]);
    assert_eq!(citations("(RFC 5321 §4.1, RFC 6531) and RFCs"), [5321, 6531]);
    assert!(has_word("x = unsafe {", "unsafe") && !has_word("unsafe_code", "unsafe"));
}

fn offend(offences: &mut String, path: &str, line: usize, what: &str) {
    writeln!(offences, "{path}:{line}: {what}").expect("a String takes all text");
}

#[track_caller]
fn settle(offences: &str) {
    assert!(offences.is_empty(), "\n{offences}");
}
