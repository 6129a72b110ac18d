//! The Sender Rewriting Scheme: senders of mail that is passed on, so that SPF (RFC 7208) knows this
//! server as one of theirs, and reports find their way back.
//!
//! ```text
//!   a@first.example            -> SRS0=hash=day=first.example=a @ srs domain
//!   SRS0=x…@other.example      -> SRS1=hash=other.example==x…   @ srs domain       not its own twice
//!   SRS1=h=other.example==x…@… -> SRS1=hash=other.example==x…   @ srs domain       never a third time
//! ```
//!
//! The way back: what comes for such an address goes to the one in it, if the hash is ours (nobody
//! else makes us send mail anywhere) and, with SRS0, the day is not long over. Case may get lost on the
//! way: nothing but the sender's own local part depends on it. There is no RFC; what is written is what
//! other servers write and read.
//!
//! A local part has 64 octets (RFC 5321 §4.5.3.1.1). A sender that would need more stays as it is: the
//! mail may fail SPF where it goes, but its path stays one that every server takes.

use crate::model::address::{Address, write_local};
use crate::model::limits::{LOCAL_PART_OCTETS_MAX, SRS_DAYS};
use crate::wire::address::parse_mailbox;
use ring::hmac;

const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Digits of the hash: 30 bits, for each of which somebody has to ask.
const HASH_LEN: usize = 6;
/// Days are told by two digits, and begin anew after that many.
const DAYS_ROUND: u32 = 32 * 32;
const SECONDS_A_DAY: u32 = 86_400;

/// See the header of this file.
#[derive(Clone, Debug)]
pub struct Srs {
    domain: Box<str>,
    key: hmac::Key,
}

impl Srs {
    /// `domain` is ours, in A-labels and lower case; mail for it has to come here. `secret` stays the
    /// same for as long as reports may come back.
    pub fn new(domain: &str, secret: &[u8]) -> Srs {
        // A key of its own, whatever else is made of the secret.
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let key = hmac::sign(&secret, b"pombal sender rewriting");
        Srs { domain: domain.into(), key: hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()) }
    }

    /// The sender under which mail of `sender` is passed on; his own where that is ours already, or
    /// where there is no room for another. `now` is in seconds since 1970.
    pub fn rewrite(&self, sender: &Address, now: u32) -> Address {
        let (local, domain) = (sender.local(), sender.domain());
        if domain == &*self.domain {
            return sender.clone();
        }
        let local = match Scheme::of(local) {
            Some((Scheme::First, rest)) => self.second(domain, rest),
            Some((Scheme::Second, rest)) => match second_parts(rest) {
                Some((_, host, behind)) => self.second(host, behind),
                None => self.first(sender, now),
            },
            None => self.first(sender, now),
        };
        if local.len() > LOCAL_PART_OCTETS_MAX {
            return sender.clone();
        }
        Address::from_parts(&local, &self.domain)
    }

    /// Where mail for one of our addresses goes in truth. `None`: it is none of ours, or forged, or
    /// too old. Nothing but reports, whose sender is the null one, may take this way.
    pub fn resolve(&self, local: &str, domain: &str, now: u32) -> Option<Address> {
        if !domain.eq_ignore_ascii_case(&self.domain) {
            return None;
        }
        let (scheme, rest) = Scheme::of(local)?;
        match scheme {
            Scheme::First => {
                let mut parts = rest.get(1..)?.splitn(4, '=');
                let (hash, day) = (parts.next()?, parts.next()?);
                let (host, user) = (parts.next()?, parts.next()?);
                if !self.is_ours(hash, &[day, host, user]) || !is_recent(day, now) {
                    return None;
                }
                address(user, host)
            }
            Scheme::Second => {
                let (hash, host, behind) = second_parts(rest)?;
                let is_ours = self.is_ours(hash, &[host, behind]);
                is_ours.then(|| address(&format!("SRS0{behind}"), host)).flatten()
            }
        }
    }

    fn first(&self, sender: &Address, now: u32) -> String {
        let day = day(now);
        let (user, host) = (sender.local(), sender.domain());
        let hash = self.hash(&[&day, host, user]);
        format!("SRS0={hash}={day}={host}={user}")
    }

    /// `behind` is what follows `SRS0` in the address that `host` made, its separator first.
    fn second(&self, host: &str, behind: &str) -> String {
        let hash = self.hash(&[host, behind]);
        format!("SRS1={hash}={host}={behind}")
    }

    fn hash(&self, parts: &[&str]) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(part.to_ascii_lowercase().as_bytes());
            context.update(b"=");
        }
        let digest = context.sign();
        digest.as_ref().iter().take(HASH_LEN).map(|octet| digit(u32::from(*octet))).collect()
    }

    /// In any case: some servers write local parts in lower case.
    fn is_ours(&self, hash: &str, parts: &[&str]) -> bool {
        let wanted = self.hash(parts);
        // How many digits are right is nobody's business.
        let differences = wanted
            .bytes()
            .zip(hash.bytes())
            .filter(|(ours, theirs)| !ours.eq_ignore_ascii_case(theirs));
        wanted.len() == hash.len() && differences.count() == 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    First,
    Second,
}

impl Scheme {
    /// What a local part is, and what follows its tag: a separator, one of three, and the rest.
    fn of(local: &str) -> Option<(Scheme, &str)> {
        let (tag, rest) = local.split_at_checked(4)?;
        if !rest.starts_with(['=', '+', '-']) {
            return None;
        }
        if tag.eq_ignore_ascii_case("SRS0") {
            Some((Scheme::First, rest))
        } else if tag.eq_ignore_ascii_case("SRS1") {
            Some((Scheme::Second, rest))
        } else {
            None
        }
    }
}

/// The hash of an SRS1 local part, the host that made the SRS0 one, and what stood behind its tag.
fn second_parts(rest: &str) -> Option<(&str, &str, &str)> {
    let (hash, rest) = rest.get(1..)?.split_once('=')?;
    let (host, behind) = rest.split_once('=')?;
    let is_whole = !host.is_empty() && behind.starts_with(['=', '+', '-']);
    is_whole.then_some((hash, host, behind))
}

/// What was hashed is not strange, but case may have been lost.
fn address(local: &str, domain: &str) -> Option<Address> {
    let mut text = String::new();
    write_local(local, &mut text).ok()?;
    let text = format!("{text}@{domain}");
    parse_mailbox(&text).ok().map(|path| path.to_address())
}

fn digit(value: u32) -> char {
    char::from(DIGITS[usize::try_from(value % 32).unwrap_or_default()])
}

fn day(now: u32) -> String {
    let days = now / SECONDS_A_DAY % DAYS_ROUND;
    [digit(days / 32), digit(days)].iter().collect()
}

/// From tomorrow, since clocks differ, to as long ago as reports come.
fn is_recent(day: &str, now: u32) -> bool {
    let value = |letter: u8| {
        let at = DIGITS.iter().position(|digit| digit.eq_ignore_ascii_case(&letter));
        at.and_then(|at| u32::try_from(at).ok())
    };
    let [high, low] = day.as_bytes() else { return false };
    let Some((high, low)) = value(*high).zip(value(*low)) else { return false };
    let today = now / SECONDS_A_DAY % DAYS_ROUND;
    let age = (today + 1 + DAYS_ROUND - (high * 32 + low)) % DAYS_ROUND;
    age <= SRS_DAYS + 1
}

/// Laws: no panic; what is written fits a local part, and is read back.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_srs(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let srs = Srs::new("srs.example", b"secret");
    drop(srs.resolve(text, "srs.example", 0));
    let Ok(path) = parse_mailbox(text) else { return };
    let sender = path.to_address();
    let rewritten = srs.rewrite(&sender, 0);
    assert!(rewritten == sender || rewritten.local().len() <= LOCAL_PART_OCTETS_MAX);
    if Scheme::of(sender.local()).is_none() && rewritten != sender {
        let back = srs.resolve(rewritten.local(), rewritten.domain(), 0);
        assert_eq!(back, Some(sender), "there and back");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u32 = 1_795_579_800;
    const DAY: u32 = SECONDS_A_DAY;

    fn srs(domain: &str) -> Srs {
        Srs::new(domain, domain.as_bytes())
    }

    fn parse(text: &str) -> Address {
        parse_mailbox(text).unwrap().to_address()
    }

    #[track_caller]
    fn back(srs: &Srs, address: &Address, now: u32) -> Option<String> {
        srs.resolve(address.local(), address.domain(), now).map(|address| address.to_string())
    }

    #[test]
    fn writes_a_sender_of_ours_and_reads_it_back() {
        let here = srs("srs.example");
        for sender in
            ["a@first.example", "A.b+c=d@first.example", "\"a b\"@[192.0.2.1]", "и@x.example"]
        {
            let address = here.rewrite(&parse(sender), NOW);
            assert_eq!(address.domain(), "srs.example");
            assert_eq!(back(&here, &address, NOW).as_deref(), Some(sender));
        }
        let address = here.rewrite(&parse("a@first.example"), NOW);
        let words: Vec<&str> = address.local().split('=').collect();
        assert_eq!((words[0], words[1].len(), words[2].len()), ("SRS0", 6, 2));
        assert_eq!(&words[3..], ["first.example", "a"]);
    }

    #[test]
    fn takes_three_hops_and_back() {
        let (one, two, three) = (srs("one.example"), srs("two.example"), srs("three.example"));
        let first = one.rewrite(&parse("a@first.example"), NOW);
        let second = two.rewrite(&first, NOW);
        assert!(second.local().starts_with("SRS1=") && second.local().contains("=one.example=="));
        // The second server is left out of the way back, and the third one asks the first.
        let third = three.rewrite(&second, NOW);
        assert!(third.local().starts_with("SRS1=") && third.local().len() <= second.local().len());
        assert_eq!(back(&two, &second, NOW), Some(first.to_string()));
        assert_eq!(back(&three, &third, NOW), Some(first.to_string()));
        assert_eq!(back(&one, &first, NOW).as_deref(), Some("a@first.example"));
        // Nobody else reads it.
        assert_eq!(back(&three, &second, NOW), None);
        assert_eq!(srs("three.example").resolve(second.local(), "three.example", NOW), None);
    }

    #[test]
    fn keeps_the_separators_of_others() {
        let here = srs("srs.example");
        for theirs in ["SRS0+abc=de=first.example=a@x.example", "srs0-a=b=c=d@x.example"] {
            let address = here.rewrite(&parse(theirs), NOW);
            let back = back(&here, &address, NOW).unwrap();
            assert!(back.eq_ignore_ascii_case(theirs), "{back}");
        }
    }

    #[test]
    fn survives_a_loss_of_case() {
        let here = srs("srs.example");
        for (sender, want) in [
            ("Ab@first.example", "ab@first.example"),
            ("SRS0=XyZ=AB=first.example=q@x.example", "SRS0=xyz=ab=first.example=q@x.example"),
        ] {
            let address = here.rewrite(&parse(sender), NOW);
            let lower = Address::from_parts(&address.local().to_lowercase(), "srs.example");
            assert_eq!(back(&here, &lower, NOW).as_deref(), Some(want));
        }
    }

    #[test]
    fn refuses_what_is_forged_or_over() {
        let here = srs("srs.example");
        let address = here.rewrite(&parse("a@first.example"), NOW);
        assert!(back(&here, &address, NOW + SRS_DAYS * DAY).is_some());
        assert!(back(&here, &address, NOW - DAY).is_some());
        assert!(back(&here, &address, NOW + (SRS_DAYS + 1) * DAY).is_none());
        assert!(back(&here, &address, NOW - 2 * DAY).is_none());
        let local = address.local();
        for forged in [
            local.replace("first", "other"),
            local.replace("=a", "=b"),
            local.replacen("SRS0=", "SRS0=A", 1),
            local.replace("SRS0", "SRS1"),
            "SRS0=a=b=c".into(),
            "SRS0=".into(),
            "SRS1=a=b=c".into(),
            "SRS".into(),
            "a".into(),
        ] {
            assert_eq!(here.resolve(&forged, "srs.example", NOW), None, "{forged}");
        }
        assert_eq!(here.resolve(local, "x.example", NOW), None);
        assert!(here.resolve(local, "SRS.example", NOW).is_some());
        assert_eq!(Srs::new("srs.example", b"other").resolve(local, "srs.example", NOW), None);
    }

    #[test]
    fn leaves_alone_what_is_ours_or_does_not_fit() {
        let here = srs("srs.example");
        let own = here.rewrite(&parse("a@first.example"), NOW);
        assert_eq!(here.rewrite(&own, NOW), own);
        let fits = format!("{}@first.example", "x".repeat(64 - 15 - "first.example=".len()));
        assert_eq!(here.rewrite(&parse(&fits), NOW).local().len(), 64);
        let long = parse(&format!("x{fits}"));
        assert_eq!(here.rewrite(&long, NOW), long);
    }

    #[test]
    fn goes_there_and_back_with_any_address() {
        arbtest::arbtest(|u| {
            let letters = ["a", "=", "@", "SRS0", "SRS1", "+", "-", "x.example", "\"", " ", "é"];
            let count = u.int_in_range(0..=9)?;
            let words = (0..count).map(|_| u.choose(&letters).copied());
            fuzz_srs(words.collect::<Result<String, _>>()?.as_bytes());
            fuzz_srs(format!("a{}@x.example", u.arbitrary::<String>()?).as_bytes());
            Ok(())
        });
    }
}
