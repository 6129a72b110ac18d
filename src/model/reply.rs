//! What an outcome means to a peer, whichever protocol it speaks.

use std::fmt;

/// Who should act, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Done.
    Ok,
    /// Try again later, unchanged (SMTP 4xx).
    Transient,
    /// Do not try again unchanged (SMTP 5xx).
    Permanent,
}

/// An enhanced status code without its class (RFC 3463 §2): `subject.detail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enhanced(pub u16, pub u16);

/// What a server answered, or our own words where it is we who know why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub code: u16,
    pub enhanced: Option<Enhanced>,
    /// One line of printable ASCII, of [`super::limits::SAID_OCTETS_MAX`] octets at most.
    pub text: Box<str>,
    /// A server said it; a report names it as the diagnosis then (RFC 3464 §2.3.6).
    pub by_peer: bool,
}

impl Said {
    /// Our own words.
    pub fn ours(code: u16, subject: u16, detail: u16, text: &str) -> Said {
        Said { code, enhanced: Some(Enhanced(subject, detail)), text: text.into(), by_peer: false }
    }

    /// What it means for what was asked; what is neither done nor refused for good may be tried
    /// again.
    pub const fn class(&self) -> Class {
        match self.code {
            200..300 => Class::Ok,
            500..600 => Class::Permanent,
            _ => Class::Transient,
        }
    }
}

/// As it stands in a log: the code, the enhanced code, the text, as far as there are any.
impl fmt::Display for Said {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.code)?;
        if let Some(Enhanced(subject, detail)) = self.enhanced {
            write!(out, " {}.{subject}.{detail}", self.code / 100)?;
        }
        if !self.text.is_empty() {
            write!(out, " {}", self.text)?;
        }
        Ok(())
    }
}
