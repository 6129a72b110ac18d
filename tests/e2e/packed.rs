//! A directory as text: what stores of earlier releases are kept as.
//!
//! ```text
//! packed := file*
//! file   := "file " path " " octets "\n" line*
//! line   := place " " hexadecimal{32} "\n"      32 octets, or what is left; zeros only are left out
//! ```
//! Paths are relative, with `/`; places and lengths are decimal. Text, so that a change shows what it
//! is, and nothing is needed to read it.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const PIECE_OCTETS: usize = 32;

/// All files below `dir`, without those that are empty.
pub(crate) fn pack(dir: &Path) -> io::Result<String> {
    let mut paths = Vec::new();
    walk(dir, &mut paths)?;
    paths.sort();
    let mut text = String::new();
    for path in paths {
        let octets = fs::read(&path)?;
        if octets.is_empty() {
            continue;
        }
        let name = path.strip_prefix(dir).expect("it lies below").display();
        writeln!(text, "file {name} {}", octets.len()).expect("memory");
        for (number, piece) in octets.chunks(PIECE_OCTETS).enumerate() {
            if piece.iter().all(|&octet| octet == 0) {
                continue;
            }
            write!(text, "{} ", number * PIECE_OCTETS).expect("memory");
            for octet in piece {
                write!(text, "{octet:02x}").expect("memory");
            }
            text.push('\n');
        }
    }
    Ok(text)
}

fn walk(dir: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&entry.path(), paths)?;
        } else if kind.is_file() {
            paths.push(entry.path());
        }
    }
    Ok(())
}

/// Writes the files of `text` below `dir`.
pub(crate) fn unpack(text: &str, dir: &Path) -> io::Result<()> {
    let mut file: Option<(PathBuf, Vec<u8>)> = None;
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("file ") {
            let (name, len) = head.rsplit_once(' ').expect("a name and a length");
            finish(file.replace((dir.join(name), vec![0; len.parse().expect("a length")])))?;
            continue;
        }
        let (place, digits) = line.split_once(' ').expect("a place and octets");
        let place: usize = place.parse().expect("a place");
        let (_, octets) = file.as_mut().expect("a file comes first");
        for (at, target) in octets[place..].iter_mut().take(digits.len() / 2).enumerate() {
            let digits = digits.get(2 * at..2 * at + 2).expect("two digits an octet");
            *target = u8::from_str_radix(digits, 16).expect("hexadecimal");
        }
    }
    finish(file)
}

fn finish(file: Option<(PathBuf, Vec<u8>)>) -> io::Result<()> {
    let Some((path, octets)) = file else { return Ok(()) };
    fs::create_dir_all(path.parent().expect("it lies below a directory"))?;
    fs::write(path, octets)
}

#[test]
fn a_directory_comes_out_as_it_went_in() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(from.path().join("log")).unwrap();
    let mut octets = vec![0; 1000];
    octets[100] = 7;
    octets[999] = 9;
    fs::write(from.path().join("log/a b"), &octets).unwrap();
    fs::write(from.path().join("zeros"), [0; 50]).unwrap();
    fs::write(from.path().join("nothing"), "").unwrap();
    let text = pack(from.path()).unwrap();
    unpack(&text, to.path()).unwrap();
    assert_eq!(fs::read(to.path().join("log/a b")).unwrap(), octets);
    assert_eq!(fs::read(to.path().join("zeros")).unwrap(), [0; 50]);
    assert_eq!(pack(to.path()).unwrap(), text);
}
