//! The hashes of crypt(3), as /etc/shadow, htpasswd and Dovecot have them.
//!
//! ```text
//! $1$salt$hash   $apr1$salt$hash     MD5-crypt, of Unix and of Apache
//! $5$…   $6$…                        SHA-crypt
//! $2a$cost$…   $2b$   $2y$           bcrypt
//! $7$Nrrrrrpppppsalt$hash            scrypt, of libxcrypt
//! $y$params$salt$hash                yescrypt
//! ```

use super::{MEMORY_KIB_MAX, base64_crypt};
use crate::proto::sasl::equal;
use md5::{Digest, Md5};
use sha_crypt::ShaCrypt;
use sha_crypt::password_hash::PasswordVerifier;
use yescrypt::Yescrypt;

/// Rounds of SHA-crypt that are taken: a second or so.
const SHA_CRYPT_ROUNDS_MAX: u32 = 1_000_000;
/// The cost of bcrypt that is taken, in powers of two: some seconds.
const BCRYPT_COST_MAX: u32 = 16;
/// Octets times passes of scrypt and yescrypt.
const SCRYPT_WORK_MAX: u64 = (MEMORY_KIB_MAX as u64) << 12;

/// The base64 of crypt(3).
const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A hash that was found sound, and not too dear.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crypt<'a> {
    text: &'a str,
    kind: Kind<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Kind<'a> {
    Md5 { magic: &'static str, salt: &'a str, hash: &'a str },
    Sha,
    Bcrypt,
    Scrypt,
    Yescrypt,
}

/// Reads one; `None` if it is none of these.
pub(super) fn read(text: &str) -> Option<Crypt<'_>> {
    let (id, rest) = text.strip_prefix('$')?.split_once('$')?;
    let kind = match id {
        "1" => md5("$1$", rest)?,
        "apr1" => md5("$apr1$", rest)?,
        "5" | "6" => sha(rest)?,
        "2a" | "2b" | "2y" => bcrypt(rest)?,
        "7" => scrypt(rest)?,
        "y" => yescrypt(rest)?,
        _ => return None,
    };
    Some(Crypt { text, kind })
}

impl Crypt<'_> {
    pub(super) fn verify(&self, password: &str) -> bool {
        let octets = password.as_bytes();
        match self.kind {
            Kind::Md5 { magic, salt, hash } => {
                let made = md5_crypt(octets, magic, salt.as_bytes());
                equal(made.as_bytes(), hash.as_bytes())
            }
            Kind::Sha => ShaCrypt::default().verify_password(octets, self.text).is_ok(),
            Kind::Bcrypt => bcrypt::verify(octets, self.text).unwrap_or(false),
            Kind::Scrypt => {
                let hash = scrypt::mcf::PasswordHashRef::new(self.text);
                hash.is_ok_and(|hash| scrypt::Scrypt::new().verify_password(octets, hash).is_ok())
            }
            Kind::Yescrypt => Yescrypt::default().verify_password(octets, self.text).is_ok(),
        }
    }
}

fn is_base64(text: &str) -> bool {
    text.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'/'))
}

fn md5<'a>(magic: &'static str, rest: &'a str) -> Option<Kind<'a>> {
    let (salt, hash) = rest.split_once('$')?;
    (salt.len() <= 8 && hash.len() == 22 && is_base64(hash)).then_some(Kind::Md5 {
        magic,
        salt,
        hash,
    })
}

fn sha(rest: &str) -> Option<Kind<'_>> {
    let mut fields = rest.split('$');
    let mut salt = fields.next()?;
    if let Some(rounds) = salt.strip_prefix("rounds=") {
        let rounds: u32 = rounds.parse().ok()?;
        if !(1_000..=SHA_CRYPT_ROUNDS_MAX).contains(&rounds) {
            return None;
        }
        salt = fields.next()?;
    }
    let hash = fields.next()?;
    let is_sound = salt.len() <= 16 && matches!(hash.len(), 43 | 86) && is_base64(hash);
    (is_sound && fields.next().is_none()).then_some(Kind::Sha)
}

fn bcrypt(rest: &str) -> Option<Kind<'_>> {
    let (cost, hash) = rest.split_once('$')?;
    let cost: u32 = cost.parse().ok()?;
    let is_sound = (4..=BCRYPT_COST_MAX).contains(&cost) && hash.len() == 53 && is_base64(hash);
    is_sound.then_some(Kind::Bcrypt)
}

/// N is one digit, r and p five each, the least first.
fn scrypt(rest: &str) -> Option<Kind<'_>> {
    let (head, hash) = rest.split_once('$')?;
    let digits = head.get(..11).filter(|digits| is_base64(digits))?.as_bytes();
    let digit = |octet: u8| u64::from(base64_crypt(octet));
    let number = |digits: &[u8]| digits.iter().rev().fold(0, |sum, &one| sum << 6 | digit(one));
    let (log_n, r, p) = (digit(digits[0]), number(&digits[1..6]), number(&digits[6..11]));
    (is_cheap(log_n, r, p) && hash.len() == 43 && is_base64(hash)).then_some(Kind::Scrypt)
}

fn yescrypt(rest: &str) -> Option<Kind<'_>> {
    let mut fields = rest.split('$');
    let params: yescrypt::Params = fields.next()?.parse().ok()?;
    let (salt, hash) = (fields.next()?, fields.next()?);
    let log_n = u64::from(params.n().ilog2());
    let is_sound = is_cheap(log_n, u64::from(params.r()), u64::from(params.p()))
        && is_base64(salt)
        && hash.len() == 43
        && is_base64(hash);
    (is_sound && fields.next().is_none()).then_some(Kind::Yescrypt)
}

/// Whether scrypt may be asked for that: 128 N r octets, p times.
pub(super) fn is_cheap(log_n: u64, r: u64, p: u64) -> bool {
    if !(1..=40).contains(&log_n) || r == 0 || p == 0 || r > 1 << 20 || p > 1 << 20 {
        return false;
    }
    let octets = (128 * r) << log_n;
    octets <= u64::from(MEMORY_KIB_MAX) << 10 && octets.saturating_mul(p) <= SCRYPT_WORK_MAX
}

/// Poul-Henning Kamp's MD5-crypt: a thousand rounds of MD5 in a strange order.
fn md5_crypt(password: &[u8], magic: &str, salt: &[u8]) -> String {
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password);
    let inner = inner.finalize();
    let mut outer = Md5::new();
    outer.update(password);
    outer.update(magic);
    outer.update(salt);
    for piece in password.chunks(16) {
        outer.update(&inner[..piece.len()]);
    }
    let mut bits = password.len();
    while bits > 0 {
        outer.update(if bits & 1 == 1 { &[0][..] } else { &password[..1] });
        bits >>= 1;
    }
    let mut hash = outer.finalize();
    for round in 0..1_000 {
        let mut next = Md5::new();
        let is_odd = round & 1 == 1;
        next.update(if is_odd { password } else { &hash[..] });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if is_odd { &hash[..] } else { password });
        hash = next.finalize();
    }
    let mut text = String::with_capacity(22);
    let mut put = |mut number: u32, count: usize| {
        for _ in 0..count {
            text.push(char::from(DIGITS[usize::from((number & 0x3F) as u8)]));
            number >>= 6;
        }
    };
    for [a, b, c] in [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]] {
        put(u32::from(hash[a]) << 16 | u32::from(hash[b]) << 8 | u32::from(hash[c]), 4);
    }
    put(u32::from(hash[11]), 2);
    text
}
