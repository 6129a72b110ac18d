//! Which checks a listener makes of its clients: a set of names, as the operator writes them.

use std::fmt;

/// A set of checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checks(u16);

/// The names, in the order in which they are made.
const NAMES: [(&str, Checks); 8] = [
    ("rates", Checks::RATES),
    ("reverse_name", Checks::REVERSE_NAME),
    ("early_talker", Checks::EARLY_TALKER),
    ("hello", Checks::HELLO),
    ("null_mx", Checks::NULL_MX),
    ("dns_lists", Checks::DNS_LISTS),
    ("greylist", Checks::GREYLIST),
    ("harvest", Checks::HARVEST),
];

impl Checks {
    pub const NONE: Checks = Checks(0);
    /// Connections and commands in a minute.
    pub const RATES: Checks = Checks(1);
    /// Who speaks before the greeting.
    pub const EARLY_TALKER: Checks = Checks(1 << 1);
    /// Names in EHLO that cannot be the client's.
    pub const HELLO: Checks = Checks(1 << 2);
    /// Recipients that are not there.
    pub const HARVEST: Checks = Checks(1 << 3);
    /// The name that the DNS has for the client, for the log and Received. Refuses nobody.
    pub const REVERSE_NAME: Checks = Checks(1 << 4);
    /// Lists of addresses in the DNS.
    pub const DNS_LISTS: Checks = Checks(1 << 5);
    /// Who does not come back for a first message.
    pub const GREYLIST: Checks = Checks(1 << 6);
    /// Senders whose domain says that it has no mail.
    pub const NULL_MX: Checks = Checks(1 << 7);
    /// All of them.
    pub const ALL: Checks = Checks((1 << 8) - 1);

    pub fn named(name: &str) -> Option<Checks> {
        NAMES.iter().find(|(known, _)| *known == name).map(|&(_, check)| check)
    }

    #[must_use]
    pub const fn and(self, other: Checks) -> Checks {
        Checks(self.0 | other.0)
    }

    /// Those of it that are in `other` too.
    #[must_use]
    pub const fn only(self, other: Checks) -> Checks {
        Checks(self.0 & other.0)
    }

    /// Whether all of `other` are in it.
    pub const fn has(self, other: Checks) -> bool {
        self.0 & other.0 == other.0
    }

    pub fn each(self) -> impl Iterator<Item = (&'static str, Checks)> {
        NAMES.into_iter().filter(move |&(_, check)| self.has(check))
    }
}

impl fmt::Display for Checks {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.each().map(|(name, _)| name).collect();
        out.write_str(&names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_it_reads() {
        let all = Checks::ALL.to_string();
        let read = all.split(", ").map(|name| Checks::named(name).unwrap());
        assert_eq!(read.fold(Checks::NONE, Checks::and), Checks::ALL);
        assert_eq!(Checks::named("rate"), None);
        assert!(!Checks::RATES.has(Checks::HELLO) && Checks::ALL.has(Checks::HARVEST));
    }
}
