//! What an outcome means to a peer, whichever protocol it speaks.

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
