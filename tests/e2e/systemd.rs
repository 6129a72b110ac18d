//! The unit of `tuning/systemd`: read by systemd, and run by one (`systemd.sh`).
//!
//! Needs systemd, and root and namespaces to run it; without, a test says that it was skipped.
//! `CLIENTS_REQUIRED=1` makes it a failure that systemd is not installed.

use crate::clients::{is_there, required};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// What `systemd-analyze security` gives the unit at most, in tenths: docs/OPERATIONS.md says so.
const EXPOSURE_MAX: &str = "16";

fn is_installed() -> bool {
    let is_there = is_there("systemd-analyze");
    assert!(is_there || !required(), "systemd is not installed");
    if !is_there {
        println!("skipped: systemd is not installed");
    }
    is_there
}

fn said(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    format!("{}\n{out}{err}", output.status)
}

#[test]
fn the_unit_is_sound_and_shuts_out_what_it_says() {
    if !is_installed() {
        return;
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let unit = dir.path().join("pombal.service");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/systemd/pombal.service");
    let text = fs::read_to_string(source).unwrap();
    // Where a program is not there, the unit is not sound.
    fs::write(&unit, text.replace("/usr/bin/pombal", env!("CARGO_BIN_EXE_pombal"))).unwrap();
    let analyze =
        |words: &[&str]| Command::new("systemd-analyze").args(words).arg(&unit).output().unwrap();
    let verified = analyze(&["verify"]);
    assert!(verified.status.success() && verified.stderr.is_empty(), "{}", said(&verified));
    let rated = analyze(&["security", "--offline=yes", "--no-pager", "--threshold", EXPOSURE_MAX]);
    assert!(rated.status.success(), "{}", said(&rated));
}

#[test]
fn the_unit_runs_reloads_is_watched_and_stops() {
    if !is_installed() {
        return;
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/systemd.sh");
    // The guard of the operating system: a machine that hangs is ended, not waited for.
    let output = Command::new("timeout")
        .args(["--kill-after=10", "300", "bash"])
        .args([&script, Path::new(env!("CARGO_BIN_EXE_pombal")), dir.path()])
        .output()
        .unwrap();
    match output.status.code() {
        Some(0) => {}
        Some(77) => print!("{}", String::from_utf8_lossy(&output.stdout)),
        _ => panic!("{}", said(&output)),
    }
}
