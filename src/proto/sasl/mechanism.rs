//! The mechanisms by their names, and which of them are offered.

use crate::model::channel::Channel;
use std::fmt;

/// A way to authenticate (RFC 4422 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// Name and password in clear, asked for one after the other. In no RFC, and in many clients.
    Login,
    /// Name and password in clear (RFC 4616).
    Plain,
}

/// All of them, the best first.
pub const ALL: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];

impl Mechanism {
    /// The mechanism of that name, in any case; `None` if there is none.
    pub fn find(name: &[u8]) -> Option<Mechanism> {
        ALL.into_iter().find(|one| name.eq_ignore_ascii_case(one.name().as_bytes()))
    }

    pub const fn name(self) -> &'static str {
        match self {
            Mechanism::Login => "LOGIN",
            Mechanism::Plain => "PLAIN",
        }
    }

    /// Whoever listens on the wire learns the password: not to be had without TLS by default.
    pub const fn shows_password(self) -> bool {
        match self {
            Mechanism::Login | Mechanism::Plain => true,
        }
    }
}

/// Some of the mechanisms.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Mechanisms(u16);

impl Mechanisms {
    pub const NONE: Mechanisms = Mechanisms(0);

    #[must_use]
    pub const fn with(self, mechanism: Mechanism) -> Mechanisms {
        Mechanisms(self.0 | 1 << mechanism as u16)
    }

    pub const fn has(self, mechanism: Mechanism) -> bool {
        self.0 & 1 << mechanism as u16 != 0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them, the best first.
    pub fn each(self) -> impl Iterator<Item = Mechanism> {
        ALL.into_iter().filter(move |one| self.has(*one))
    }
}

impl FromIterator<Mechanism> for Mechanisms {
    fn from_iter<I: IntoIterator<Item = Mechanism>>(all: I) -> Mechanisms {
        all.into_iter().fold(Mechanisms::NONE, Mechanisms::with)
    }
}

/// Their names, a space between two.
impl fmt::Display for Mechanisms {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, one) in self.each().enumerate() {
            write!(out, "{}{}", if index == 0 { "" } else { " " }, one.name())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Mechanisms {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Mechanisms({self})")
    }
}

/// What the operator lets clients use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub mechanisms: Mechanisms,
    /// Passwords may cross the wire in clear.
    pub plaintext: bool,
}

impl Policy {
    /// Nobody authenticates.
    pub const NOTHING: Policy = Policy { mechanisms: Mechanisms::NONE, plaintext: false };

    /// Whether a password may be sent over such a connection.
    pub fn takes_passwords(self, channel: &Channel) -> bool {
        self.plaintext || channel.encrypted
    }

    /// What is offered on such a connection.
    pub fn offered(self, channel: &Channel) -> Mechanisms {
        let passwords = self.takes_passwords(channel);
        let is_usable = |one: &Mechanism| passwords || !one.shows_password();
        self.mechanisms.each().filter(is_usable).collect()
    }
}

impl Default for Policy {
    fn default() -> Policy {
        Policy { mechanisms: ALL.into_iter().collect(), plaintext: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_each_by_its_name() {
        for one in ALL {
            assert_eq!(Mechanism::find(one.name().to_lowercase().as_bytes()), Some(one));
        }
        assert_eq!(Mechanism::find(b"CRAM-MD5"), None);
        assert_eq!(Mechanism::find(b""), None);
    }

    #[test]
    fn offers_nothing_that_shows_a_password_to_others() {
        let clear = Channel::default();
        let tls = Channel { encrypted: true, ..Channel::default() };
        let policy = Policy::default();
        assert!(policy.offered(&clear).each().all(|one| !one.shows_password()));
        assert!(policy.offered(&tls).has(Mechanism::Plain));
        let open = Policy { plaintext: true, ..policy };
        assert!(open.offered(&clear).has(Mechanism::Login));
        assert!(Policy::NOTHING.offered(&tls).is_empty());
    }
}
