//! The relaxed forms against data of others: their expected outputs, and signatures that they made.

use super::canon::{Body, put_field};
use super::fields::put_named;
use super::sign::body_hash;
use crate::wire::message::fields::{Field, fields, header_len};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{self, UnparsedPublicKey};
use std::path::{Path, PathBuf};

fn corpus(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus/auth"));
    let files = std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = files.map(|file| file.path()).collect();
    if files.is_empty() {
        println!("skipped: no corpus beside the repository");
    }
    files.sort();
    files
}

fn with_crlf(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        let bare = line.strip_suffix(b"\n").unwrap_or(line);
        let bare = bare.strip_suffix(b"\r").unwrap_or(bare);
        out.extend_from_slice(bare);
        if line.ends_with(b"\n") {
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

#[test]
fn relaxes_as_others_expect_it() {
    for path in corpus("mailgun_flanker") {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(number) = name.strip_prefix("dkim__email.") else { continue };
        let message = with_crlf(&std::fs::read(&path).unwrap());
        let want = std::fs::read(path.with_file_name(format!("dkim__relaxed.expected.{number}")));
        let (header, body) = message.split_at(header_len(&message));
        let mut got = Vec::new();
        for Field { name, value } in fields(header) {
            put_field(&header[name], &header[value], &mut got);
            got.extend_from_slice(b"\r\n");
        }
        got.extend_from_slice(b"\r\n");
        let mut relaxed = Body::new(|octets: &[u8]| got.extend_from_slice(octets));
        relaxed.feed(body);
        relaxed.end();
        assert_eq!(
            got.escape_ascii().to_string(),
            want.unwrap().escape_ascii().to_string(),
            "{name}"
        );
    }
}

/// The tags of a signature, white space left out.
fn tags(value: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(value);
    let tag = |tag: &str| {
        let (name, value) = tag.split_once('=')?;
        Some((name.trim().to_owned(), value.split_whitespace().collect()))
    };
    text.split(';').filter_map(tag).collect()
}

fn tag<'t>(tags: &'t [(String, String)], name: &str) -> &'t str {
    tags.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
}

/// What others signed in the relaxed form has the hash that they say.
#[test]
fn hashes_bodies_as_others_do() {
    let mut checked = 0;
    for folder in ["apache_spamassassin", "jstedfast_MimeKit", "stalwartlabs_mail-auth"] {
        for path in corpus(folder) {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if !["pass", "rfc8463", "related", "dkim__00"].iter().any(|part| name.contains(part)) {
                continue;
            }
            let mut message = with_crlf(&std::fs::read(&path).unwrap());
            if folder == "stalwartlabs_mail-auth" {
                // A line with the key comes before the message.
                let at = memchr::memmem::find(&message, b"\r\n\r\n").unwrap() + 4;
                message.drain(..at);
            }
            let (header, body) = message.split_at(header_len(&message));
            for Field { name: field, value } in fields(header) {
                let tags = tags(&header[value]);
                let is_ours = header[field].eq_ignore_ascii_case(b"DKIM-Signature")
                    && tag(&tags, "c").ends_with("/relaxed")
                    && tag(&tags, "a").ends_with("sha256")
                    && tag(&tags, "l").is_empty();
                if is_ours {
                    assert_eq!(STANDARD.encode(body_hash([body])), tag(&tags, "bh"), "{name}");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 4 || corpus("apache_spamassassin").is_empty(), "{checked} hashes");
}

/// The signatures of RFC 8463 §A.3, over the header as the RFC has it.
#[test]
fn reads_the_header_that_the_rfc_signed() {
    for path in corpus("jstedfast_MimeKit") {
        if !path.ends_with("dkim__rfc8463-example.msg") {
            continue;
        }
        let message = with_crlf(&std::fs::read(&path).unwrap());
        let header = &message[..header_len(&message)];
        let field = fields(header).find(|field| {
            let value = &header[field.value.clone()];
            tag(&tags(value), "a") == "ed25519-sha256"
        });
        let value = &header[field.unwrap().value];
        let tags = tags(value);
        let mut data = Vec::new();
        put_named(header, tag(&tags, "h").split(':').map(str::as_bytes), &mut data);
        // Its b= comes last.
        let at = memchr::memmem::rfind(value, b"b=").unwrap() + 2;
        put_field(b"dkim-signature", &value[..at], &mut data);
        let hash = ring::digest::digest(&ring::digest::SHA256, &data);
        let public = STANDARD.decode("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=").unwrap();
        let signature = STANDARD.decode(tag(&tags, "b")).unwrap();
        UnparsedPublicKey::new(&signature::ED25519, public)
            .verify(hash.as_ref(), &signature)
            .expect("the RFC's own signature is good");
    }
}
