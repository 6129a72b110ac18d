//! Application passwords: made here, of 128 random bits and a little more, so that nobody guesses one
//! and a plain digest of it may be kept.
//!
//! ```text
//! abcd-efgh-ijkm-npqr-stuv-wxyz-23      32 letters and digits that are hard to mistake
//! ```

use sha2::{Digest, Sha256};

const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Letters of one password: 26 of 5 bits each.
const LEN: usize = 26;

/// A new one out of random octets, as it is shown once.
pub fn app_password(random: &[u8; LEN]) -> String {
    let mut text = String::with_capacity(LEN + LEN / 4);
    for (index, octet) in random.iter().enumerate() {
        if index > 0 && index % 4 == 0 {
            text.push('-');
        }
        text.push(char::from(LETTERS[usize::from(octet % 32)]));
    }
    text
}

/// What is kept of one, whichever case and however many dashes and spaces somebody typed.
pub fn digest(text: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    for octet in text.bytes().filter(|octet| !matches!(octet, b'-' | b' ')) {
        hash.update([octet.to_ascii_lowercase()]);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_password_however_it_is_typed() {
        let random: [u8; LEN] = std::array::from_fn(|index| u8::try_from(index).unwrap() * 7);
        let text = app_password(&random);
        assert_eq!(text.len(), 32);
        let typed = text.replace('-', " ").to_ascii_uppercase();
        assert_eq!(digest(&typed), digest(&text));
        assert_ne!(digest(&text), digest(""));
        let mut letters = LETTERS.to_vec();
        letters.sort_unstable();
        letters.dedup();
        assert_eq!(letters.len(), 32);
    }
}
