//! Plain and salted digests in base64, as LDAP and Dovecot write them (RFC 2307 §5.3), and PBKDF2 in
//! the forms of Dovecot, passlib and Django.
//!
//! ```text
//! {SSHA256}base64(digest salt)      {SHA512.HEX}…      {PBKDF2}$1$salt$rounds$hex
//! $pbkdf2-sha256$rounds$salt$hash   pbkdf2_sha256$rounds$salt$base64
//! ```

use crate::proto::sasl::equal;
use base64::Engine;
use base64::alphabet::Alphabet;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, STANDARD};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

/// Rounds of PBKDF2 that are taken: some seconds.
const PBKDF2_ROUNDS_MAX: u32 = 5_000_000;

/// The hash function under it.
#[derive(Clone, Copy, Debug)]
enum Function {
    Sha1,
    Sha256,
    Sha512,
}

/// A digest that was found sound.
#[derive(Clone, Debug)]
pub(super) struct Digest {
    function: Function,
    /// 0: the digest is of password and salt, once.
    rounds: u32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

/// Reads one; `None` if it is none of these.
pub(super) fn read(text: &str) -> Option<Digest> {
    if let Some((scheme, value)) = text.strip_prefix('{').and_then(|text| text.split_once('}')) {
        return braced(&scheme.to_ascii_uppercase(), value);
    }
    if let Some(rest) = text.strip_prefix("pbkdf2_sha256$") {
        // Django's salt is a text.
        let (rounds, salt, hash) = three(rest)?;
        return pbkdf2(Function::Sha256, rounds, salt.into(), STANDARD.decode(hash).ok()?);
    }
    let (id, rest) = text.strip_prefix('$')?.split_once('$')?;
    let function = match id {
        "pbkdf2" => Function::Sha1,
        "pbkdf2-sha256" => Function::Sha256,
        "pbkdf2-sha512" => Function::Sha512,
        _ => return None,
    };
    let (rounds, salt, hash) = three(rest)?;
    // RustCrypto writes PHC, `i=rounds,l=octets` and base64 as it is; passlib has `.` for `+`.
    match rounds.strip_prefix("i=") {
        Some(params) => {
            let rounds = params.split(',').next()?;
            pbkdf2(function, rounds, unpadded(salt)?, unpadded(hash)?)
        }
        None => pbkdf2(function, rounds, passlib(salt)?, passlib(hash)?),
    }
}

impl Digest {
    pub(super) fn verify(&self, password: &str) -> bool {
        let password = password.as_bytes();
        let salted = [password, &self.salt].concat();
        let mut made = vec![0; self.hash.len()];
        match (self.rounds, self.function) {
            (0, Function::Sha1) => made = Sha1::digest(salted).to_vec(),
            (0, Function::Sha256) => made = Sha256::digest(salted).to_vec(),
            (0, Function::Sha512) => made = Sha512::digest(salted).to_vec(),
            (rounds, Function::Sha1) => {
                pbkdf2::pbkdf2_hmac::<Sha1>(password, &self.salt, rounds, &mut made);
            }
            (rounds, Function::Sha256) => {
                pbkdf2::pbkdf2_hmac::<Sha256>(password, &self.salt, rounds, &mut made);
            }
            (rounds, Function::Sha512) => {
                pbkdf2::pbkdf2_hmac::<Sha512>(password, &self.salt, rounds, &mut made);
            }
        }
        equal(&made, &self.hash)
    }
}

fn braced(scheme: &str, value: &str) -> Option<Digest> {
    let (scheme, coding) = scheme.split_once('.').unwrap_or((scheme, ""));
    let (function, is_salted) = match scheme {
        "SHA" | "SHA1" => (Function::Sha1, false),
        "SSHA" => (Function::Sha1, true),
        "SHA256" => (Function::Sha256, false),
        "SSHA256" => (Function::Sha256, true),
        "SHA512" => (Function::Sha512, false),
        "SSHA512" => (Function::Sha512, true),
        "PBKDF2" => {
            let (salt, rest) = value.strip_prefix("$1$")?.split_once('$')?;
            let (rounds, hash) = rest.split_once('$')?;
            return pbkdf2(Function::Sha1, rounds, salt.into(), hexadecimal(hash)?);
        }
        _ => return None,
    };
    let octets = function.octets();
    let is_hex = coding == "HEX" || coding.is_empty() && !is_salted && value.len() == 2 * octets;
    let mut hash = match (is_hex, coding) {
        (true, _) => hexadecimal(value)?,
        (false, "" | "B64" | "BASE64") => STANDARD.decode(value).ok()?,
        _ => return None,
    };
    if hash.len() < octets || is_salted != (hash.len() > octets) {
        return None;
    }
    let salt = hash.split_off(octets);
    Some(Digest { function, rounds: 0, salt, hash })
}

impl Function {
    const fn octets(self) -> usize {
        match self {
            Function::Sha1 => 20,
            Function::Sha256 => 32,
            Function::Sha512 => 64,
        }
    }
}

fn pbkdf2(function: Function, rounds: &str, salt: Vec<u8>, hash: Vec<u8>) -> Option<Digest> {
    let rounds = rounds.parse().ok().filter(|rounds| (1..=PBKDF2_ROUNDS_MAX).contains(rounds))?;
    // One block of the function is as much as anybody stores; fewer octets are no secret.
    let is_sound = (16..=function.octets()).contains(&hash.len());
    is_sound.then_some(Digest { function, rounds, salt, hash })
}

fn three(text: &str) -> Option<(&str, &str, &str)> {
    let (one, rest) = text.split_once('$')?;
    let (two, three) = rest.split_once('$')?;
    (!three.contains('$')).then_some((one, two, three))
}

fn unpadded(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD_NO_PAD.decode(text).ok()
}

fn passlib(text: &str) -> Option<Vec<u8>> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789./";
    let alphabet = Alphabet::new(DIGITS).ok()?;
    GeneralPurpose::new(&alphabet, NO_PAD).decode(text).ok()
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let is_hex =
        text.len().is_multiple_of(2) && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let octet = |at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    is_hex.then(|| (0..text.len()).step_by(2).map(octet).collect())?
}
