//! Names and lists of Maildir, as Dovecot and Courier write them.
//!
//! ```text
//! file    := base [":2," flag...]           flag := "DFPRST" of Maildir, "a".."z" keywords
//! uidlist := "1 " UIDVALIDITY " " UIDNEXT   (Dovecot version 1, and Courier's courierimapuiddb)
//!            (UID " " file){…}
//!          | "3 V" UIDVALIDITY " N" UIDNEXT …
//!            (UID (" " letter value){…} " :" file){…}
//! ```
//! Only the base of a file's name stays the same when flags change.

use std::fmt::Write as _;

/// Flags of a file's name.
#[expect(clippy::struct_excessive_bools, reason = "each is a letter of the format")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    pub draft: bool,
    pub flagged: bool,
    /// Resent, forwarded or bounced: what IMAP calls `$Forwarded`.
    pub passed: bool,
    pub replied: bool,
    pub seen: bool,
    pub trashed: bool,
    /// Numbers of keywords, 0 to 25, rising.
    pub keywords: Vec<u8>,
}

/// The base of a file's name, and its flags.
pub fn split(name: &[u8]) -> (&[u8], Info) {
    let Some(at) = memchr::memchr(b':', name) else { return (name, Info::default()) };
    let (base, info) = name.split_at(at);
    let mut flags = Info::default();
    for &flag in info.strip_prefix(b":2,").unwrap_or_default() {
        match flag {
            b'D' => flags.draft = true,
            b'F' => flags.flagged = true,
            b'P' => flags.passed = true,
            b'R' => flags.replied = true,
            b'S' => flags.seen = true,
            b'T' => flags.trashed = true,
            b'a'..=b'z' => flags.keywords.push(flag - b'a'),
            _ => {}
        }
    }
    flags.keywords.sort_unstable();
    flags.keywords.dedup();
    (base, flags)
}

/// The flags in the form in which they stand behind the base.
pub fn put_info(info: &Info, name: &mut String) {
    name.push_str(":2,");
    for (is_set, letter) in [
        (info.draft, 'D'),
        (info.flagged, 'F'),
        (info.passed, 'P'),
        (info.replied, 'R'),
        (info.seen, 'S'),
        (info.trashed, 'T'),
    ] {
        if is_set {
            name.push(letter);
        }
    }
    name.extend(info.keywords.iter().filter(|&&at| at < 26).map(|at| char::from(b'a' + at)));
}

/// When the file was made by its name: seconds since 1970, and microseconds; 0 where it does not say.
pub fn time(base: &[u8]) -> (u32, u32) {
    let mut parts = base.splitn(3, |&octet| octet == b'.');
    let seconds = parts.next().and_then(number).unwrap_or(0);
    let unique = parts.next().unwrap_or_default();
    let at = unique.iter().position(|&octet| octet == b'M');
    let digits = at.and_then(|at| unique.get(at + 1..)).unwrap_or_default();
    let end = digits.iter().position(|octet| !octet.is_ascii_digit()).unwrap_or(digits.len());
    (seconds, digits.get(..end).and_then(number).unwrap_or(0))
}

/// A line of a list of UIDs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<'a> {
    pub uid: u32,
    pub base: &'a [u8],
    /// The unique id of POP3 that was given to it elsewhere.
    pub uidl: Option<&'a str>,
}

/// A list of UIDs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UidList<'a> {
    pub uidvalidity: u32,
    pub uidnext: u32,
    /// Those of them that can be read.
    pub lines: Vec<Listed<'a>>,
    /// Lines that cannot.
    pub broken: usize,
}

/// Reads a list of UIDs; `None` if its first line is none that is known.
pub fn uid_list(text: &[u8]) -> Option<UidList<'_>> {
    let mut lines = text.split(|&octet| octet == b'\n').filter(|line| !line.is_empty());
    let mut words = lines.next()?.split(|&octet| octet == b' ');
    let version = words.next()?;
    let mut list = UidList::default();
    match version {
        b"1" => {
            list.uidvalidity = number(words.next()?)?;
            list.uidnext = number(words.next()?)?;
        }
        b"3" => {
            for word in words {
                match word.split_first() {
                    Some((b'V', rest)) => list.uidvalidity = number(rest)?,
                    Some((b'N', rest)) => list.uidnext = number(rest)?,
                    _ => {}
                }
            }
        }
        _ => return None,
    }
    for line in lines {
        match listed(line, version == b"3") {
            Some(line) => list.lines.push(line),
            None => list.broken += 1,
        }
    }
    (list.uidvalidity != 0).then_some(list)
}

fn listed(line: &[u8], has_fields: bool) -> Option<Listed<'_>> {
    let space = memchr::memchr(b' ', line)?;
    let (uid, mut rest) = (number(line.get(..space)?)?, line.get(space + 1..)?);
    let mut uidl = None;
    while has_fields && !rest.starts_with(b":") {
        let space = memchr::memchr(b' ', rest)?;
        if let Some((b'P', value)) = rest.get(..space)?.split_first() {
            uidl = std::str::from_utf8(value).ok();
        }
        rest = rest.get(space + 1..)?;
    }
    let name = if has_fields { rest.strip_prefix(b":")? } else { rest };
    let (base, _) = split(name);
    (uid != 0 && !base.is_empty()).then_some(Listed { uid, base, uidl })
}

/// Names of keywords by their numbers, out of `dovecot-keywords`: lines of a number and a name.
pub fn keywords(text: &str) -> Vec<(u8, &str)> {
    let line = |line: &'_ str| -> Option<(u8, usize)> {
        let (at, name) = line.split_once(' ')?;
        Some((at.parse().ok().filter(|at| *at < 26)?, line.len() - name.len()))
    };
    let named = text.lines().filter_map(|one| line(one).map(|(at, from)| (at, one, from)));
    named.filter_map(|(at, one, from)| Some((at, one.get(from..)?))).collect()
}

/// A line of Courier's list of messages for POP3: the base of the file's name, and the unique id
/// that Courier made of it.
pub fn courier_pop3(line: &[u8]) -> Option<(&[u8], String)> {
    let mut words = line.split(|&octet| octet == b' ');
    // The first line has a version.
    let (base, _) = split(words.next().filter(|name| !name.starts_with(b"/"))?);
    words.next().and_then(number)?;
    let Some(ids) = words.next() else { return Some((base, courier_name(base))) };
    let mut ids = ids.split(|&octet| octet == b':');
    let uid = number(ids.next()?)?;
    let uidvalidity = ids.next().and_then(number).unwrap_or(0);
    Some((
        base,
        match (uid, uidvalidity) {
            (0, _) => courier_name(base),
            (uid, 0) => format!("UID{uid}"),
            (uid, uidvalidity) => format!("UID{uid}-{uidvalidity}"),
        },
    ))
}

/// Courier made the ids of old of the names.
fn courier_name(base: &[u8]) -> String {
    let mut id = String::new();
    for &octet in base {
        if octet.is_ascii_graphic() && !matches!(octet, b'\'' | b'"' | b'+') {
            id.push(char::from(octet));
        } else {
            write!(id, "+{octet:02X}").expect("a string takes all text");
        }
    }
    id
}

fn number(digits: &[u8]) -> Option<u32> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_flags_and_writes_them() {
        let (base, info) = split(b"1276528487.M364837P9451.kurkku,S=1355,W=1394:2,FRScaa");
        assert_eq!(base, b"1276528487.M364837P9451.kurkku,S=1355,W=1394");
        assert!(info.flagged && info.replied && info.seen && !info.draft);
        assert_eq!(info.keywords, [0, 2]);
        let mut name = String::from("x");
        put_info(&info, &mut name);
        assert_eq!(name, "x:2,FRSac");
        assert_eq!(split(b"plain"), (&b"plain"[..], Info::default()));
        assert_eq!(time(base), (1_276_528_487, 364_837));
        assert_eq!(time(b"odd"), (0, 0));
    }

    #[test]
    fn reads_lists_of_both_servers() {
        let old = uid_list(b"1 1138000000 52\n7 1.a.b:2,S\n51 2.a.b\nodd\n").unwrap();
        assert_eq!((old.uidvalidity, old.uidnext, old.broken), (1_138_000_000, 52, 1));
        assert_eq!(old.lines[0], Listed { uid: 7, base: b"1.a.b", uidl: None });
        let text = b"3 V1275660208 N25022 Gabc\n25006 W12345 :1.M2P3.h,S=1:2,\n25007 Pid-1 :2.x\n";
        let new = uid_list(text).unwrap();
        assert_eq!((new.uidvalidity, new.uidnext, new.broken), (1_275_660_208, 25_022, 0));
        assert_eq!(new.lines[1], Listed { uid: 25_007, base: b"2.x", uidl: Some("id-1") });
        assert_eq!(uid_list(b"2 V1 N2\n"), None);
        assert_eq!(keywords("0 $Junk\n1 a b\nx y\n26 z\n"), [(0, "$Junk"), (1, "a b")]);
    }

    #[test]
    fn makes_the_ids_of_courier() {
        let id = |line: &[u8]| courier_pop3(line).map(|(_, id)| id);
        assert_eq!(id(b"1.a.b:2,S 120 7:99:1").as_deref(), Some("UID7-99"));
        assert_eq!(id(b"1.a.b 120 7").as_deref(), Some("UID7"));
        assert_eq!(id(b"1.a+b 120").as_deref(), Some("1.a+2Bb"));
        assert_eq!(id(b"/3 8 99"), None);
    }

    #[test]
    fn reads_any_octets_without_panicking() {
        arbtest::arbtest(|u| {
            let octets = u.arbitrary::<Vec<u8>>()?;
            let (base, info) = split(&octets);
            let mut name = String::from_utf8_lossy(base).into_owned();
            put_info(&info, &mut name);
            time(base);
            uid_list(&octets);
            uid_list(&[b"3 V1 N2\n", &octets[..]].concat());
            courier_pop3(&octets);
            keywords(&String::from_utf8_lossy(&octets));
            Ok(())
        });
    }
}
