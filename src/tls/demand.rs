//! What is asked of a server before anything is said to it: TLS or not, and a proof of who it is.
//!
//! ```text
//!   None     nothing is encrypted
//!   May      encrypted if that can be (RFC 7435 §3); whether the proof fails is told, and held against nobody
//!   Encrypt  encrypted, or nothing is said
//!   Prove    encrypted, and the proof holds, or nothing is said
//! ```

use super::dane::Association;
use super::facts::Facts;
use super::server::Server;
use std::sync::Arc;

/// How much is asked, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    None,
    May,
    Encrypt,
    Prove,
}

/// What is asked of a server. Clones share what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Demand {
    level: Level,
    proof: Proof,
}

/// What would prove who a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Proof {
    /// Nothing is looked at.
    Any,
    /// A certificate by an authority, for one of these names (RFC 9525 §6).
    Authority { names: Arc<[Box<str>]> },
    /// A certificate that one of these records is for (RFC 7672 §3.2), and where that asks for a name,
    /// for one of these.
    Dane { associations: Arc<[Association]>, names: Arc<[Box<str>]> },
}

impl Demand {
    pub const NONE: Demand = Demand { level: Level::None, proof: Proof::Any };
    pub const MAY: Demand = Demand { level: Level::May, proof: Proof::Any };
    pub const ENCRYPT: Demand = Demand { level: Level::Encrypt, proof: Proof::Any };

    /// A certificate by an authority, for one of these names, in A-labels.
    pub fn verify(names: impl IntoIterator<Item = impl Into<Box<str>>>) -> Demand {
        let names = names.into_iter().map(Into::into).collect();
        Demand { level: Level::Prove, proof: Proof::Authority { names } }
    }

    /// A certificate that one of these records is for. The names, in A-labels: the base domain of the
    /// records, then the domain for which the server was found (RFC 7672 §3.2.2).
    pub fn dane(
        associations: impl IntoIterator<Item = Association>,
        names: impl IntoIterator<Item = impl Into<Box<str>>>,
    ) -> Demand {
        let associations: Arc<[Association]> = associations.into_iter().collect();
        // Those for the server itself need none, and so are the same for all domains that it is for.
        let needs_name = associations.iter().any(Association::needs_name);
        let names = names.into_iter().filter(|_| needs_name).map(Into::into).collect();
        Demand { level: Level::Prove, proof: Proof::Dane { associations, names } }
    }

    /// Whether a connection that was made by another demand, and of which these are the facts, will do.
    pub fn is_met(&self, made_by: &Demand, facts: Option<&Facts>) -> bool {
        let verdict = || facts.and_then(Facts::server).and_then(Server::verdict);
        match self.level {
            Level::None | Level::May => true,
            Level::Encrypt => facts.is_some(),
            Level::Prove => self.proof == made_by.proof && matches!(verdict(), Some(Ok(_))),
        }
    }

    /// The same looked at, and nothing made of it but what is told: for a policy under test
    /// (RFC 8461 §5), and for mail that is to arrive rather than to be safe (RFC 8689 §4.2.2).
    #[must_use]
    pub fn leniently(self) -> Demand {
        Demand { level: self.level.min(Level::May), proof: self.proof }
    }

    /// The same, and encrypted at least as that says; whether what is looked at counts is not changed by
    /// it: no level below [`Level::Prove`] does.
    #[must_use]
    pub fn at_least(self, level: Level) -> Demand {
        Demand { level: self.level.max(level), proof: self.proof }
    }

    pub fn level(&self) -> Level {
        self.level
    }

    /// Whether anything is looked at.
    pub fn asks_for_proof(&self) -> bool {
        self.proof != Proof::Any
    }

    pub(super) fn proof(&self) -> &Proof {
        &self.proof
    }
}
