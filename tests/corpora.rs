//! Replays what the fuzz targets were fed with: every file of `tests/corpus/<target>`.
//!
//! A target whose corpus is missing, and a corpus without a target, is a failure: what was once
//! found stays found. `tests/fuzz` has the same targets for `cargo fuzz`, and what they are built of is
//! what everything else is built of: `tests/fuzz/lock.py` brings its lock up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Its name, and the law that it holds its input against.
type Target = (&'static str, fn(&[u8]));

const TARGETS: &[Target] = &[
    ("config", pombal::config::fuzz_config),
    ("data", pombal::wire::dot::fuzz_data),
    ("decode", pombal::wire::message::decode::fuzz_decode),
    ("dkim_body", pombal::policy::dkim::fuzz_relaxed),
    ("downgrade", pombal::wire::message::downgrade::fuzz_downgrade),
    ("fields", pombal::wire::message::fields::fuzz_fields),
    ("html", pombal::wire::message::html::fuzz_html),
    ("imap_answer", pombal::wire::imap::answer::fuzz_answer),
    ("imap_command", pombal::wire::imap::command::fuzz_command),
    ("imap_frame", pombal::wire::imap::frame::fuzz_frame),
    ("imap_mailbox", pombal::wire::imap::mailbox::fuzz_mailbox),
    ("imap_pattern", pombal::wire::imap::pattern::fuzz_pattern),
    ("imap_search", pombal::wire::imap::command::search::fuzz_search),
    ("imap_set", pombal::wire::imap::set::fuzz_set),
    ("line", pombal::wire::line::fuzz_line),
    ("mime", pombal::wire::message::structure::fuzz_structure),
    ("path", pombal::wire::address::fuzz_path),
    ("pop3_session", pombal::proto::pop3::replay::fuzz_session),
    ("proxy", pombal::wire::proxy::fuzz_proxy),
    ("request", pombal::admin::http::fuzz_request),
    ("search", pombal::wire::message::search::fuzz_search),
    ("smtp_answer", pombal::wire::smtp::answer::fuzz_answer),
    ("smtp_client", pombal::proto::smtp::client::replay::fuzz_client),
    ("smtp_session", pombal::proto::smtp::replay::fuzz_session),
    ("srs", pombal::mta::srs::fuzz_srs),
    ("store_batch", pombal::store::fuzz::fuzz_batch),
    ("store_record", pombal::store::fuzz::fuzz_record),
    ("store_superblock", pombal::store::fuzz::fuzz_superblock),
    ("summary", pombal::mailbox::summary::fuzz_summary),
    ("words", pombal::wire::message::words::fuzz_words),
];

#[test]
fn every_corpus_is_replayed_by_its_target() {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    for (name, target) in TARGETS {
        let files = std::fs::read_dir(corpus.join(name)).expect("each target has a corpus");
        let mut count = 0;
        for file in files {
            let path = file.expect("a corpus can be listed").path();
            println!("{}", path.display());
            target(&std::fs::read(path).expect("a corpus can be read"));
            count += 1;
        }
        assert!(count > 0, "the corpus of {name} is empty");
    }
}

#[test]
fn every_target_of_cargo_fuzz_has_a_corpus() {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests");
    let names = |dir: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(tests.join(dir)).expect("it is tracked");
        let stem = |path: PathBuf| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        entries.filter_map(|entry| stem(entry.expect("it can be listed").path())).collect()
    };
    assert_eq!(names("fuzz/fuzz_targets"), names("corpus"));
}

/// A lock, as cargo writes it: of each package its versions, and what it depends on.
fn lock(path: &str) -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join(path)).expect("it is tracked");
    let lock: toml::Table = text.parse().expect("cargo wrote it");
    let mut packages = BTreeMap::<String, (BTreeSet<String>, BTreeSet<String>)>::new();
    for package in lock["package"].as_array().expect("a list") {
        let word = |key: &str| package[key].as_str().expect("a text").to_owned();
        let needs = package.get("dependencies").and_then(toml::Value::as_array);
        let needs = needs.into_iter().flatten().filter_map(toml::Value::as_str);
        let name = |need: &str| need.split(' ').next().unwrap_or_default().to_owned();
        let (versions, all) = packages.entry(word("name")).or_default();
        versions.insert(word("version"));
        all.extend(needs.map(name));
    }
    packages
}

/// `cargo fuzz` has a workspace of its own, which nobody builds from day to day.
#[test]
fn what_fuzzers_are_built_of_is_up_to_date() {
    let (ours, fuzz) = (lock("Cargo.lock"), lock("tests/fuzz/Cargo.lock"));
    let mut wrong = Vec::new();
    for (name, (versions, _)) in &fuzz {
        let Some((known, _)) = ours.get(name) else { continue };
        let others = versions.difference(known);
        wrong.extend(others.map(|version| format!("{name} {version} is not in Cargo.lock")));
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("Cargo.toml")).expect("it is tracked");
    let manifest: toml::Table = text.parse().expect("cargo reads it");
    let (_, needs) = &fuzz["pombal"];
    let named = manifest["dependencies"].as_table().expect("a table").iter();
    // Some go by another name here.
    let package = |(name, one): (&String, &toml::Value)| {
        one.get("package").and_then(toml::Value::as_str).unwrap_or(name).to_owned()
    };
    let missing = named.map(package).filter(|name| !needs.contains(name));
    wrong.extend(missing.map(|name| format!("{name} is not in tests/fuzz/Cargo.lock")));
    assert!(wrong.is_empty(), "run tests/fuzz/lock.py:\n{}", wrong.join("\n"));
}
