//! What an operator has stopped for a while: mail to a destination, by a route, or of a sender.

use crate::bytes::codec::{Reader, Short};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One thing that is stopped; names in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pause {
    /// All mail.
    All,
    /// Mail to this domain.
    Domain(Box<str>),
    /// Mail of this sender; empty for the null one.
    Sender(Box<str>),
    /// Mail that takes the route with this pattern of domains.
    Route(Box<str>),
}

impl Pause {
    pub(super) fn code(&self) -> (u8, &str) {
        match self {
            Pause::All => (0, ""),
            Pause::Domain(name) => (1, name),
            Pause::Sender(name) => (2, name),
            Pause::Route(name) => (3, name),
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Pause, Short> {
        let kind = reader.u8()?;
        let name = std::str::from_utf8(reader.slice()?).map_err(|_| Short)?;
        match (kind, name) {
            (0, "") => Ok(Pause::All),
            (1, name) => Ok(Pause::Domain(name.into())),
            (2, name) => Ok(Pause::Sender(name.into())),
            (3, name) => Ok(Pause::Route(name.into())),
            _ => Err(Short),
        }
    }
}

/// All that is stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pauses(BTreeSet<Pause>);

impl Pauses {
    pub fn iter(&self) -> impl Iterator<Item = &Pause> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Stops it, or lets it go on. Whether that changed anything.
    pub(super) fn set(&mut self, pause: Pause, on: bool) -> bool {
        if on { self.0.insert(pause) } else { self.0.remove(&pause) }
    }

    /// Whether a route is stopped: else nobody has to know which one mail takes.
    pub fn has_routes(&self) -> bool {
        self.0.iter().any(|pause| matches!(pause, Pause::Route(_)))
    }

    /// All that stops mail of `sender` (empty for the null one) to `domain` by `route`, if it takes one.
    pub fn those_that_stop(
        &self,
        domain: &str,
        route: Option<&str>,
        sender: &str,
    ) -> impl Iterator<Item = &Pause> {
        let any = !self.0.is_empty();
        let all = any.then(|| {
            let sender = Pause::Sender(sender.to_lowercase().into());
            [Pause::All, Pause::Domain(domain.into()), sender]
        });
        let route = route.filter(|_| any).map(|route| Pause::Route(route.into()));
        all.into_iter().flatten().chain(route).filter_map(|pause| self.0.get(&pause))
    }
}
