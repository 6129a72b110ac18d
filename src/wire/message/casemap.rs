//! Texts made comparable by i;unicode-casemap (RFC 5051): the collation of SEARCH, SORT and THREAD
//! (RFC 5256 §7, RFC 5255 §4).
//!
//! Each letter becomes its titlecase, which is decomposed (the compatibility way); then octets are
//! compared. It goes letter by letter and never looks back, so pieces can be folded apart.

use unicode_normalization::char::decompose_compatible;

/// Appends the folded form of `text`.
pub fn fold(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    let mut letters = text.chars();
    while !rest.is_empty() {
        // ASCII in bulk: its titlecase is its uppercase, and nothing in it is decomposed.
        let ascii = rest.iter().position(|octet| !octet.is_ascii()).unwrap_or(rest.len());
        let start = out.len();
        out.extend_from_slice(&rest[..ascii]);
        out[start..].make_ascii_uppercase();
        rest = &rest[ascii..];
        letters = text.get(text.len() - rest.len()..).map_or(letters, str::chars);
        for letter in letters.by_ref().take_while(|letter| !letter.is_ascii()) {
            fold_letter(letter, out);
            rest = &rest[letter.len_utf8()..];
        }
    }
}

/// [`fold`] for octets that ought to be UTF-8; what is not stays as it is.
pub fn fold_octets(text: &[u8], out: &mut Vec<u8>) {
    if text.is_ascii() {
        let start = out.len();
        out.extend_from_slice(text);
        out[start..].make_ascii_uppercase();
        return;
    }
    for chunk in text.utf8_chunks() {
        fold(chunk.valid(), out);
        out.extend_from_slice(chunk.invalid());
    }
}

fn fold_letter(letter: char, out: &mut Vec<u8>) {
    decompose_compatible(title(letter), |part| {
        out.extend_from_slice(part.encode_utf8(&mut [0; 4]).as_bytes());
    });
}

/// The simple titlecase of a letter, as the Unicode data has it: one letter for one.
fn title(letter: char) -> char {
    let beside = |by: i32| char::from_u32(u32::from(letter).wrapping_add_signed(by));
    let special = match letter {
        // Digraphs have a form with only the first letter large.
        'Ǆ' | 'Ǉ' | 'Ǌ' | 'Ǳ' => beside(1),
        'ǆ' | 'ǉ' | 'ǌ' | 'ǳ' => beside(-1),
        // Greek letters with a iota below are one letter in titlecase, two in uppercase.
        '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => beside(8),
        '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}' => beside(9),
        // These are in titlecase; Georgian has none.
        'ǅ' | 'ǈ' | 'ǋ' | 'ǲ' | '\u{10d0}'..='\u{10ff}' => Some(letter),
        _ => None,
    };
    special.unwrap_or_else(|| {
        let mut upper = letter.to_uppercase();
        match (upper.next(), upper.next()) {
            (Some(one), None) => one,
            _ => letter,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        let (mut out, mut octets) = (Vec::new(), Vec::new());
        fold(text, &mut out);
        assert_eq!(String::from_utf8(out.clone()).unwrap(), want);
        fold_octets(text.as_bytes(), &mut octets);
        assert_eq!(octets, out);
    }

    #[test]
    fn folds_as_the_rfc_says() {
        check("", "");
        check("aBc-1", "ABC-1");
        // RFC 5051 §2.
        check("Ǆ", "Dz\u{30c}");
        check("ǆ", "Dz\u{30c}");
        check("xé Éy", "XE\u{301} E\u{301}Y");
        check("straße", "STRAßE");
        check("ﬁ", "fi");
        check("ᾳ", "Α\u{345}");
        check("Привет", "ПРИВЕТ");
        check("ა", "ა");
    }

    #[test]
    fn keeps_what_is_no_utf8() {
        let mut out = Vec::new();
        fold_octets(b"a\xffb\xc3", &mut out);
        assert_eq!(out, b"A\xffB\xc3");
    }
}
