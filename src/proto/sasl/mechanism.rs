//! The mechanisms by their names, and which of them are offered.

use super::Hash;
use crate::model::channel::Channel;
use std::fmt;

/// A way to authenticate (RFC 4422 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// The password is proven, and stays where it is (RFC 5802, RFC 7677). `plus`: on this one
    /// connection.
    Scram { hash: Hash, plus: bool },
    /// A token of an authorization server (RFC 7628).
    OauthBearer,
    /// The same before there was an RFC for it.
    Xoauth2,
    /// The certificate that the client has shown to TLS (RFC 4422 appendix A).
    External,
    /// Name and password in clear (RFC 4616).
    Plain,
    /// Name and password in clear, asked for one after the other. In no RFC, and in many clients.
    Login,
}

/// All of them, the best first.
pub const ALL: [Mechanism; 9] = [
    Mechanism::Scram { hash: Hash::Sha256, plus: true },
    Mechanism::Scram { hash: Hash::Sha1, plus: true },
    Mechanism::Scram { hash: Hash::Sha256, plus: false },
    Mechanism::Scram { hash: Hash::Sha1, plus: false },
    Mechanism::OauthBearer,
    Mechanism::Xoauth2,
    Mechanism::External,
    Mechanism::Plain,
    Mechanism::Login,
];

impl Mechanism {
    /// The mechanism of that name, in any case; `None` if there is none.
    pub fn find(name: &[u8]) -> Option<Mechanism> {
        ALL.into_iter().find(|one| name.eq_ignore_ascii_case(one.name().as_bytes()))
    }

    pub const fn name(self) -> &'static str {
        match self {
            Mechanism::Scram { hash: Hash::Sha256, plus: true } => "SCRAM-SHA-256-PLUS",
            Mechanism::Scram { hash: Hash::Sha1, plus: true } => "SCRAM-SHA-1-PLUS",
            Mechanism::Scram { hash: Hash::Sha256, plus: false } => "SCRAM-SHA-256",
            Mechanism::Scram { hash: Hash::Sha1, plus: false } => "SCRAM-SHA-1",
            Mechanism::OauthBearer => "OAUTHBEARER",
            Mechanism::Xoauth2 => "XOAUTH2",
            Mechanism::External => "EXTERNAL",
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
        }
    }

    /// Whoever listens on the wire learns the password, or a token that is as good: not to be had
    /// without TLS by default.
    pub const fn shows_password(self) -> bool {
        match self {
            Mechanism::Login | Mechanism::Plain | Mechanism::OauthBearer | Mechanism::Xoauth2 => {
                true
            }
            Mechanism::Scram { .. } | Mechanism::External => false,
        }
    }

    /// What it carries is a token of an authorization server.
    pub const fn takes_tokens(self) -> bool {
        matches!(self, Mechanism::OauthBearer | Mechanism::Xoauth2)
    }

    /// It binds to the channel (RFC 5056).
    pub const fn binds(self) -> bool {
        matches!(self, Mechanism::Scram { plus: true, .. })
    }

    /// Whether such a connection has what it needs.
    fn is_fit(self, channel: &Channel) -> bool {
        match self {
            Mechanism::External => channel.certificate.is_some(),
            _ => !self.binds() || channel.binding.is_some(),
        }
    }

    fn bit(self) -> u16 {
        let index = ALL.iter().position(|one| *one == self);
        1 << index.expect("all mechanisms are in the list of all")
    }
}

/// Some of the mechanisms.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Mechanisms(u16);

impl Mechanisms {
    pub const NONE: Mechanisms = Mechanisms(0);

    #[must_use]
    pub fn with(self, mechanism: Mechanism) -> Mechanisms {
        Mechanisms(self.0 | mechanism.bit())
    }

    pub fn has(self, mechanism: Mechanism) -> bool {
        self.0 & mechanism.bit() != 0
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
    /// In clear nobody authenticates at all, by whatever mechanism.
    pub encrypted_only: bool,
}

impl Policy {
    /// Nobody authenticates.
    pub const NOTHING: Policy =
        Policy { mechanisms: Mechanisms::NONE, plaintext: false, encrypted_only: true };

    /// Whether the password itself is a way to log in at all: PLAIN or LOGIN is among the mechanisms.
    /// LOGIN of IMAP, and USER and PASS of POP3, are the same in other words, and in no list.
    pub fn has_passwords(self) -> bool {
        self.mechanisms.has(Mechanism::Plain) || self.mechanisms.has(Mechanism::Login)
    }

    /// Whether it is one on such a connection.
    pub fn takes_passwords(self, channel: &Channel) -> bool {
        self.has_passwords() && self.may_show(channel)
    }

    /// What is offered on such a connection.
    pub fn offered(self, channel: &Channel) -> Mechanisms {
        if self.encrypted_only && !channel.encrypted {
            return Mechanisms::NONE;
        }
        let may_show = self.may_show(channel);
        let is_usable =
            |one: &Mechanism| (may_show || !one.shows_password()) && one.is_fit(channel);
        self.mechanisms.each().filter(is_usable).collect()
    }

    /// Passwords and tokens may cross it.
    fn may_show(self, channel: &Channel) -> bool {
        channel.encrypted || (self.plaintext && !self.encrypted_only)
    }
}

impl Default for Policy {
    fn default() -> Policy {
        Policy { mechanisms: ALL.into_iter().collect(), plaintext: false, encrypted_only: false }
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
        let closed = Policy { encrypted_only: true, ..open };
        assert!(closed.offered(&clear).is_empty() && !closed.takes_passwords(&clear));
        assert_eq!(closed.offered(&tls), open.offered(&tls));
        assert!(Policy::NOTHING.offered(&tls).is_empty());
    }

    #[test]
    fn a_password_is_no_way_in_where_no_mechanism_shows_it() {
        let scram = Mechanism::Scram { hash: Hash::Sha256, plus: false };
        let tls = Channel { encrypted: true, ..Channel::default() };
        let takes = |mechanisms: &[Mechanism], plaintext, channel: &Channel| {
            let mechanisms = mechanisms.iter().copied().collect();
            Policy { mechanisms, plaintext, ..Policy::default() }.takes_passwords(channel)
        };
        for one in [Mechanism::Plain, Mechanism::Login] {
            assert!(takes(&[scram, one], false, &tls) && takes(&[one], true, &Channel::default()));
            assert!(!takes(&[scram, one], false, &Channel::default()));
        }
        assert!(!takes(&[scram, Mechanism::OauthBearer], true, &tls));
    }

    #[test]
    fn offers_what_the_connection_has() {
        let offered = |channel: &Channel| Policy::default().offered(channel).to_string();
        let mut channel = Channel::default();
        assert_eq!(offered(&channel), "SCRAM-SHA-256 SCRAM-SHA-1");
        channel.encrypted = true;
        channel.certificate = Some("bob".into());
        channel.binding.exporter = Some([0; 32]);
        let all: Vec<&str> = ALL.iter().map(|one| one.name()).collect();
        assert_eq!(offered(&channel), all.join(" "));
    }
}
