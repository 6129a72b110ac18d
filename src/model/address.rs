//! A mailbox address that somebody owns: the local part by value, the domain in its one form.
//!
//! Two spellings of one mailbox are one `Address`: quotes and backslashes around the local part
//! are gone, and the domain is in A-labels and lower case (RFC 5890 §2.3.2.1) or an address literal
//! in its shortest form. The local part keeps its case (RFC 5321 §2.4); whether case matters is
//! the directory's decision.

use std::fmt;

/// `local@domain`. Both parts are never empty. Made by `wire::address`, which knows the grammar.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    local: Box<str>,
    domain: Box<str>,
}

impl Address {
    /// An address out of parts that were parsed before: `local` by value, without quotes and
    /// controls; `domain` in A-labels and lower case, or a literal in brackets.
    pub fn from_parts(local: &str, domain: &str) -> Address {
        debug_assert!(!local.is_empty() && !domain.is_empty(), "an address has two parts");
        debug_assert!(domain.is_ascii(), "domains are kept in A-labels");
        Address { local: local.into(), domain: domain.into() }
    }

    /// The local part by value, its case kept.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The domain in A-labels and lower case, or a literal in brackets.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Only ASCII: no SMTPUTF8 is needed to name it (RFC 6531 §3.5).
    pub fn is_ascii(&self) -> bool {
        self.local.is_ascii()
    }
}

/// As in a path, without the angle brackets; quoted where RFC 5321 §4.1.2 needs it.
impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_local(&self.local, out)?;
        write!(out, "@{}", self.domain)
    }
}

/// Writes a local part as a dot-string if it is one, else as a quoted string.
pub fn write_local(local: &str, out: &mut impl fmt::Write) -> fmt::Result {
    if is_dot_string(local) {
        return out.write_str(local);
    }
    out.write_char('"')?;
    for letter in local.chars() {
        if matches!(letter, '"' | '\\') {
            out.write_char('\\')?;
        }
        out.write_char(letter)?;
    }
    out.write_char('"')
}

/// Atoms joined by single dots (RFC 5321 §4.1.2, RFC 6531 §3.3).
fn is_dot_string(local: &str) -> bool {
    local.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_atom_octet))
}

/// An octet of an atom (RFC 5322 §3.2.3), or of a character outside ASCII (RFC 6531 §3.3).
pub const fn is_atom_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || octet >= 0x80
        || matches!(
            octet,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'/'
                | b'='
                | b'?'
                | b'^'
                | b'_'
                | b'`'
                | b'{'
                | b'|'
                | b'}'
                | b'~'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_only_what_is_no_dot_string() {
        let shown = |local: &str| Address::from_parts(local, "c.example").to_string();
        assert_eq!(shown("a.b+c"), "a.b+c@c.example");
        assert_eq!(shown("a b"), "\"a b\"@c.example");
        assert_eq!(shown("a\"b\\c"), "\"a\\\"b\\\\c\"@c.example");
        assert_eq!(shown("..a"), "\"..a\"@c.example");
        assert_eq!(shown("и"), "и@c.example");
    }
}
