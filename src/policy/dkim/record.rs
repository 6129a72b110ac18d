//! The TXT record that others check signatures by (RFC 6376 §3.6.1), written and compared.

use super::keys::{Algorithm, Key};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

/// Octets of one string of a TXT record (RFC 1035 §3.3.14).
const STRING_OCTETS_MAX: usize = 255;

/// Algorithm and parameters of an RSA key in a SubjectPublicKeyInfo: rsaEncryption, NULL (RFC 8017).
const RSA_ENCRYPTION: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// The record of a key, as one text.
pub fn record(key: &Key) -> String {
    let public = match key.algorithm() {
        // RFC 6376 §3.6.1 says RSAPublicKey; what everybody publishes and reads, the RFC's own example
        // too, is SubjectPublicKeyInfo around it.
        Algorithm::Rsa => STANDARD.encode(subject_public_key_info(key.public())),
        Algorithm::Ed25519 => STANDARD.encode(key.public()),
    };
    format!("v=DKIM1; k={}; p={public}", key.algorithm().name())
}

fn subject_public_key_info(key: &[u8]) -> Vec<u8> {
    // No bits of the last octet are unused.
    let bits = der(0x03, &[&[0], key].concat());
    der(0x30, &[&RSA_ENCRYPTION, &*bits].concat())
}

/// One value in DER: tag, length, octets.
fn der(tag: u8, octets: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let len = octets.len().to_be_bytes();
    let len: Vec<u8> = len.into_iter().skip_while(|octet| *octet == 0).collect();
    match *len {
        [] => out.push(0),
        [short @ 1..0x80] => out.push(short),
        _ => {
            out.push(0x80 | u8::try_from(len.len()).unwrap_or_default());
            out.extend_from_slice(&len);
        }
    }
    out.extend_from_slice(octets);
    out
}

/// The record as a line of a zone file, in strings of at most 255 octets.
pub fn zone_line(name: &str, record: &str) -> String {
    let strings = record.as_bytes().chunks(STRING_OCTETS_MAX);
    let strings: Vec<String> =
        strings.map(|octets| format!("\"{}\"", String::from_utf8_lossy(octets))).collect();
    match &*strings {
        [one] => format!("{name}. IN TXT {one}"),
        all => format!("{name}. IN TXT ( {} )", all.join(" ")),
    }
}

/// What the DNS says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Signatures by it are good.
    Good,
    /// There is no record.
    Missing,
    /// More than one record has this name: which one is read is chance (RFC 6376 §3.6.2.2).
    Several,
    /// It is taken back (`p=` is empty).
    Revoked,
    /// Another key stands there.
    Another,
    /// It is the key, but checks fail, or count for nothing, for this reason.
    Weak(&'static str),
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Good => out.write_str("good"),
            Verdict::Missing => out.write_str("there is no record"),
            Verdict::Several => out.write_str("there are several records, and should be one"),
            Verdict::Revoked => out.write_str("the record takes the key back: p= is empty"),
            Verdict::Another => out.write_str("the record has another key"),
            Verdict::Weak(why) => out.write_str(why),
        }
    }
}

/// What a record says.
struct Tags<'t> {
    /// Which tag it is, and its value.
    version: Option<(usize, &'t str)>,
    kind: &'t str,
    /// Without white space, which it may have anywhere.
    public: Option<String>,
    hashes: &'t str,
    services: &'t str,
    flags: &'t str,
}

impl<'t> Tags<'t> {
    fn of(text: &'t str) -> Tags<'t> {
        let mut tags =
            Tags { version: None, kind: "rsa", public: None, hashes: "", services: "*", flags: "" };
        for (index, tag) in text.split(';').enumerate() {
            let Some((name, value)) = tag.split_once('=') else { continue };
            let value = value.trim();
            match name.trim() {
                "v" => tags.version = Some((index, value)),
                "k" => tags.kind = value,
                "p" => tags.public = Some(value.split_whitespace().collect()),
                "h" => tags.hashes = value,
                "s" => tags.services = value,
                "t" => tags.flags = value,
                _ => {}
            }
        }
        tags
    }
}

/// Compares the record of a key with those that were found under its name, each with its strings
/// joined.
pub fn judge(ours: &str, found: &[String]) -> Verdict {
    let text = match found {
        [] => return Verdict::Missing,
        [one] => one,
        _ => return Verdict::Several,
    };
    let Tags { version, kind, public, hashes, services, flags } = Tags::of(text);
    let ours = Tags::of(ours);
    let words =
        |list: &str, wanted: &[&str]| list.split(':').any(|word| wanted.contains(&word.trim()));
    match public.as_deref() {
        None => return Verdict::Another,
        Some("") => return Verdict::Revoked,
        Some(_) => {}
    }
    if version.is_some_and(|found| found != (0, "DKIM1")) {
        return Verdict::Weak("v= is not DKIM1, or does not stand first");
    }
    if (kind, &public) != (ours.kind, &ours.public) {
        return Verdict::Another;
    }
    if !hashes.is_empty() && !words(hashes, &["sha256"]) {
        return Verdict::Weak("h= leaves out sha256");
    }
    if !words(services, &["*", "email"]) {
        return Verdict::Weak("s= leaves out email");
    }
    if words(flags, &["y"]) {
        return Verdict::Weak("t=y: it is a test, and counts for nothing");
    }
    Verdict::Good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_lengths_as_der_does() {
        assert_eq!(der(4, b""), [4, 0]);
        assert_eq!(der(4, &[7; 127])[..3], [4, 127, 7]);
        assert_eq!(der(4, &[7; 128])[..4], [4, 0x81, 128, 7]);
        assert_eq!(der(4, &[7; 300])[..5], [4, 0x82, 1, 44, 7]);
    }

    #[test]
    fn splits_long_records() {
        assert_eq!(
            zone_line("s._domainkey.b.example", "v=DKIM1"),
            "s._domainkey.b.example. IN TXT \"v=DKIM1\""
        );
        let line = zone_line("n", &"x".repeat(300));
        assert_eq!(line, format!("n. IN TXT ( \"{}\" \"{}\" )", "x".repeat(255), "x".repeat(45)));
    }

    #[test]
    fn judges_what_the_dns_says() {
        let key = Key::from_pem("s", super::super::sign::tests::ED25519).unwrap();
        let public = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
        let check = |found: &[&str], want: Verdict| {
            let found: Vec<String> = found.iter().map(|text| text.replace('@', public)).collect();
            assert_eq!(judge(&record(&key), &found), want, "{found:?}");
        };
        check(&[], Verdict::Missing);
        check(&["k=ed25519; p=@"], Verdict::Good);
        check(
            &["v=DKIM1;k=ed25519;p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMl rwIaaPcHURo=;"],
            Verdict::Good,
        );
        check(&["k=ed25519; h=sha1:sha256; s=email; t=s; p= @ ;"], Verdict::Good);
        check(&["k=ed25519; p=@", "v=spf1"], Verdict::Several);
        check(&["k=ed25519; p="], Verdict::Revoked);
        check(&["p=@"], Verdict::Another);
        check(&["v=spf1 -all"], Verdict::Another);
        check(&["k=ed25519; p=AAAA"], Verdict::Another);
        check(
            &["k=ed25519; v=DKIM1; p=@"],
            Verdict::Weak("v= is not DKIM1, or does not stand first"),
        );
        check(&["k=ed25519; h=sha1; p=@"], Verdict::Weak("h= leaves out sha256"));
        check(&["k=ed25519; s=x; p=@"], Verdict::Weak("s= leaves out email"));
        check(
            &["k=ed25519; t=y:s; p=@"],
            Verdict::Weak("t=y: it is a test, and counts for nothing"),
        );
    }
}
