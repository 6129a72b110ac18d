//! SCRAM, the server's side (RFC 5802, RFC 7677): the client shows that it knows the password, the
//! server that it has keys made of it, and neither learns more than it had.
//!
//! ```text
//!   client-first   n,,n=user,r=cnonce                    gs2 header, then the bare message
//!   server-first   r=cnonce snonce,s=salt,i=4096
//!   client-final   c=biws,r=cnonce snonce,p=proof        c: gs2 header and channel binding again
//!   server-final   v=signature
//! ```
//!
//! Promises:
//!   - a user who does not exist is answered as one who does; the caller gives keys for both
//!   - a client that would use channel binding, and was not told that it could, is refused: somebody
//!     stands between (RFC 5802 §6)
//!   - what the client compares, it compares with what it sent: both ends hash the same octets

use super::keys::{Keys, Ring, equal};
use super::prepare;
use crate::model::channel::Binding;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What the client says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct First {
    pub(super) user: Box<str>,
    pub(super) acting_for: Option<Box<str>>,
    /// What `c=` has to be.
    binding: Box<[u8]>,
    bare: Box<str>,
    nonce: Box<str>,
}

/// An exchange that waits for the client's final message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Last {
    first: First,
    ring: Ring,
    challenge: String,
    nonce: String,
}

/// What the final message showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) first: First,
    /// Those whose password it was, or the first that it was held against.
    pub(super) keys: Keys,
    /// The server's last word, if the client knows the password.
    pub(super) signature: Option<Vec<u8>>,
}

/// Reads the first message; `None` if it is none, or if this end must not go on with it.
///
/// `plus`: the mechanism binds to the channel. `offered`: one that does was offered beside it.
pub(super) fn first(message: &[u8], plus: bool, offered: bool, binding: &Binding) -> Option<First> {
    let text = std::str::from_utf8(message).ok()?;
    let (flag, rest) = text.split_once(',')?;
    let (authzid, bare) = rest.split_once(',')?;
    let header = &message[..message.len() - bare.len()];
    let mut bound = header.to_vec();
    match (flag, plus) {
        ("n", false) => {}
        // The client can bind and thinks that we cannot: we had said that we can.
        ("y", false) if !offered => {}
        (_, true) => match flag.strip_prefix("p=")? {
            "tls-exporter" => bound.extend_from_slice(&binding.exporter?),
            "tls-server-end-point" => bound.extend_from_slice(binding.end_point.as_deref()?),
            _ => return None,
        },
        _ => return None,
    }
    let acting_for = match authzid.strip_prefix("a=") {
        Some(name) => Some(read_name(name)?),
        None if authzid.is_empty() => None,
        None => return None,
    };
    let (name, rest) = bare.strip_prefix("n=")?.split_once(',')?;
    let user = read_name(name)?;
    let nonce = rest.strip_prefix("r=")?.split(',').next()?;
    // What an extension means is nobody's guess, but they are for those who do not know them
    // (RFC 5802 §5.1); only `m=`, which stands first, asks to be known.
    let is_printable = |octet: u8| matches!(octet, b'!'..=b'~') && octet != b',';
    if nonce.is_empty() || !nonce.bytes().all(is_printable) {
        return None;
    }
    let acting_for = acting_for.filter(|other| !other.eq_ignore_ascii_case(&user));
    Some(First { user, acting_for, binding: bound.into(), bare: bare.into(), nonce: nonce.into() })
}

fn read_name(text: &str) -> Option<Box<str>> {
    prepare(unescape(text)?.as_bytes()).ok().map(|name| name.as_ref().into())
}

/// A name in which `=2C` is a comma and `=3D` is `=` (RFC 5802 §5.1).
pub(super) fn unescape(text: &str) -> Option<String> {
    let mut name = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((front, behind)) = rest.split_once('=') {
        name.push_str(front);
        name.push(match behind.get(..2)? {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        rest = behind.get(2..)?;
    }
    name.push_str(rest);
    Some(name)
}

impl First {
    /// Answers with these keys: the challenge, and what waits for its answer. `nonce` is random,
    /// printable and without a comma.
    pub(super) fn challenge(self, ring: Ring, nonce: &str) -> (Vec<u8>, Last) {
        let nonce = format!("{}{nonce}", self.nonce);
        let terms = ring.terms();
        let salt = STANDARD.encode(&terms.salt);
        let challenge = format!("r={nonce},s={salt},i={}", terms.iterations);
        (challenge.clone().into_bytes(), Last { first: self, ring, challenge, nonce })
    }
}

impl Last {
    /// Reads the final message; `None` if it is none, or not an answer to this challenge.
    pub(super) fn check(self, message: &[u8]) -> Option<Shown> {
        let text = std::str::from_utf8(message).ok()?;
        let (unproven, proof) = text.rsplit_once(",p=")?;
        let mut fields = unproven.split(',');
        let binding = STANDARD.decode(fields.next()?.strip_prefix("c=")?).ok()?;
        let nonce = fields.next()?.strip_prefix("r=")?;
        let proof = STANDARD.decode(proof).ok()?;
        let hash = self.ring.terms().hash;
        if nonce != self.nonce || proof.len() != hash.octets() {
            return None;
        }
        let Last { first, ring, challenge, .. } = self;
        let signed = format!("{},{challenge},{unproven}", first.bare);
        let is_bound = equal(&binding, &first.binding);
        let proven = ring.proven(signed.as_bytes(), &proof).filter(|_| is_bound);
        let signature = proven.map(|keys| hash.mac(&keys.server_key, signed.as_bytes()));
        let keys = proven.unwrap_or(ring.first()).clone();
        let signature = signature.map(|octets| format!("v={}", STANDARD.encode(octets)).into());
        Some(Shown { first, keys, signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::sasl::Hash;

    const NO_TLS: Binding = Binding { exporter: None, end_point: None };

    /// A client's side of it, for those tests that change one thing.
    struct Client {
        hash: Hash,
        header: &'static str,
        bound: &'static [u8],
        bare: String,
    }

    impl Client {
        fn new(hash: Hash, header: &'static str, bound: &'static [u8]) -> Client {
            Client { hash, header, bound, bare: "n=user,r=cnonce".into() }
        }

        fn first(&self) -> Vec<u8> {
            [self.header.as_bytes(), self.bare.as_bytes()].concat()
        }

        fn last(&self, challenge: &[u8], password: &str) -> Vec<u8> {
            let challenge = std::str::from_utf8(challenge).unwrap();
            let fields: Vec<&str> = challenge.split(',').collect();
            let nonce = fields[0];
            let salt = STANDARD.decode(fields[1].strip_prefix("s=").unwrap()).unwrap();
            let iterations = fields[2].strip_prefix("i=").unwrap().parse().unwrap();
            let binding = STANDARD.encode([self.header.as_bytes(), self.bound].concat());
            let unproven = format!("c={binding},{nonce}");
            let signed = format!("{},{challenge},{unproven}", self.bare);
            let proof = self.hash.proof(password, &salt, iterations, signed.as_bytes());
            format!("{unproven},p={}", STANDARD.encode(proof)).into_bytes()
        }
    }

    fn keys(hash: Hash, password: &str) -> Ring {
        Ring::new(Keys::derive(hash, password, b"salt of sixteen.", 2))
    }

    #[test]
    fn speaks_as_the_examples_of_the_rfcs_do() {
        // RFC 5802 §5 and RFC 7677 §3: user "user", password "pencil".
        let check = |hash, nonces: [&str; 2], salt, final_message, signature| {
            let message = format!("n,,n=user,r={}", nonces[0]);
            let first = first(message.as_bytes(), false, false, &NO_TLS).unwrap();
            assert_eq!(&*first.user, "user");
            let salt = STANDARD.decode(salt).unwrap();
            let keys = Keys::derive(hash, "pencil", &salt, 4096);
            let (_, last) = first.challenge(Ring::new(keys), nonces[1]);
            let shown = last.check(final_message).unwrap();
            assert_eq!(shown.signature.as_deref(), Some(signature));
        };
        check(
            Hash::Sha1,
            ["fyko+d2lbbFgONRv9qkxdawL", "3rfcNHYJY1ZVvWVs7j"],
            "QSXCR+Q6sek8bf92",
            b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,\
              p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        );
        check(
            Hash::Sha256,
            ["rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"],
            "W22ZaJ0SNY7soEsUEjb6gQ==",
            b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
              p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        );
    }

    #[test]
    fn tells_right_passwords_from_wrong_ones() {
        for hash in [Hash::Sha1, Hash::Sha256] {
            let client = Client::new(hash, "n,,", b"");
            let begin = || {
                let first = first(&client.first(), false, true, &NO_TLS).unwrap();
                first.challenge(keys(hash, "secret"), "snonce")
            };
            let (challenge, last) = begin();
            assert!(last.check(&client.last(&challenge, "secret")).unwrap().signature.is_some());
            let (challenge, last) = begin();
            assert!(last.check(&client.last(&challenge, "Secret")).unwrap().signature.is_none());
        }
    }

    #[test]
    fn binds_to_the_channel() {
        let binding = Binding { exporter: Some([7; 32]), end_point: Some(b"hash"[..].into()) };
        let check = |header, bound, plus, offered, right: Option<bool>| {
            let client = Client::new(Hash::Sha256, header, bound);
            let got = first(&client.first(), plus, offered, &binding).map(|first| {
                let (challenge, last) = first.challenge(keys(Hash::Sha256, "secret"), "snonce");
                let shown = last.check(&client.last(&challenge, "secret")).unwrap();
                shown.signature.is_some()
            });
            assert_eq!(got, right, "{header}");
        };
        check("p=tls-exporter,,", &[7; 32], true, true, Some(true));
        check("p=tls-server-end-point,,", b"hash", true, true, Some(true));
        // Somebody between the two has another connection to each.
        check("p=tls-exporter,,", &[8; 32], true, true, Some(false));
        check("p=tls-server-end-point,,", &[7; 32], true, true, Some(false));
        check("p=tls-unique,,", b"", true, true, None);
        check("n,,", b"", true, true, None);
        check("p=tls-exporter,,", &[7; 32], false, true, None);
        // Somebody took -PLUS out of what we offer.
        check("y,,", b"", false, true, None);
        check("y,,", b"", false, false, Some(true));
    }

    #[test]
    fn reads_names_with_commas_and_others_to_act_for() {
        let read = |message: &str| {
            let first = first(message.as_bytes(), false, false, &NO_TLS)?;
            Some(format!("{} {:?}", first.user, first.acting_for))
        };
        assert_eq!(read("n,,n=a=2Cb=3Dc,r=x").as_deref(), Some("a,b=c None"));
        assert_eq!(read("n,a=bob,n=master,r=x").as_deref(), Some("master Some(\"bob\")"));
        assert_eq!(read("n,a=Bob,n=bob,r=x,more=1").as_deref(), Some("bob None"));
        for bad in [
            "",
            ",",
            ",,",
            "n",
            "n,,",
            "n,,n=",
            "n,,n=,r=x",
            "n,,n=a",
            "n,,n=a,r=",
            "n,,r=x,n=a",
            "n,,n=a=2c,r=x",
            "n,,n=a=,r=x",
            "n,,m=ext,n=a,r=x",
            "n,bob,n=a,r=x",
            "n,a=,n=a,r=x",
            "n,,n=a,r= ",
            "n,,n=a,r=\u{e9}",
            "N,,n=a,r=x",
            "p=,,n=a,r=x",
            "n,,n=\u{7},r=x",
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn takes_no_other_answer_than_one_to_its_challenge() {
        let client = Client::new(Hash::Sha256, "n,,", b"");
        let begin = || {
            let first = first(&client.first(), false, false, &NO_TLS).unwrap();
            first.challenge(keys(Hash::Sha256, "secret"), "snonce")
        };
        let (challenge, last) = begin();
        let good = String::from_utf8(client.last(&challenge, "secret")).unwrap();
        let change = |from: &str, to: &str| {
            let text = good.replace(from, to);
            assert_ne!(text, good, "{from} is in it");
            last.clone().check(text.as_bytes()).map(|shown| shown.signature.is_some())
        };
        assert_eq!(change("r=cnoncesnonce", "r=cnonce"), None);
        assert_eq!(change("r=cnoncesnonce", "r=cnoncesnoncf"), None);
        assert_eq!(change("c=biws", "c=eSws"), Some(false));
        assert_eq!(change("c=biws", "c=!"), None);
        assert_eq!(change("c=biws,", ""), None);
        assert_eq!(change(",p=", ",x=1,p="), Some(false));
        assert_eq!(change(",p=", ",q="), None);
        assert_eq!(change("p=", "p=AA"), None);
    }

    #[test]
    fn never_panics() {
        arbtest::arbtest(|u| {
            let words =
                ["n,", ",", "n=", "r=", "a=", "p=", "tls-exporter", "=2C", "c=biws", "x", "é"];
            let mut text = String::new();
            for _ in 0..u.int_in_range(0..=12)? {
                text.push_str(u.choose(&words)?);
            }
            let plus = u.arbitrary()?;
            let binding = Binding { exporter: Some([0; 32]), end_point: None };
            if let Some(first) = first(text.as_bytes(), plus, u.arbitrary()?, &binding) {
                let (_, last) = first.challenge(keys(Hash::Sha1, "secret"), "snonce");
                assert_eq!(last.check(text.as_bytes()).and_then(|shown| shown.signature), None);
            }
            Ok(())
        });
    }
}
