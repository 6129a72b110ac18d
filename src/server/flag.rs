//! A flag that is set once and seen by all who wait for it: the end of the server, say.

use crate::env::bell::{Bell, Waiting};

/// See the header.
#[derive(Debug, Default)]
pub struct Flag(Bell);

impl Flag {
    pub fn set(&self) {
        self.0.ring();
    }

    pub fn is_set(&self) -> bool {
        self.0.rung() > 0
    }

    /// Comes back once the flag is set. May be dropped.
    pub fn wait(&self) -> Waiting<'_> {
        self.0.past(0)
    }
}
