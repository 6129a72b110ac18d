//! The client of an SMTP session, as far as it is held against it.

use super::listener::Protocol;
use super::shard::Shard;
use crate::env::Env;
use crate::policy::Checks;
use std::net::IpAddr;

/// See the header.
pub(super) struct Guest {
    protocol: Protocol,
    address: IpAddr,
    checks: Checks,
    /// Commands that were not counted against the rate yet.
    commands: u32,
}

impl Guest {
    pub(super) fn new<E: Env>(shard: &Shard<E>, protocol: Protocol, address: IpAddr) -> Guest {
        let checks = shard.settings().protect.checks(protocol, address);
        Guest { protocol, address, checks, commands: 0 }
    }

    /// A command was worked through.
    pub(super) fn count(&mut self, is_command: bool) {
        self.commands += u32::from(is_command);
    }

    /// Counts the commands since the last time against the rate of the address; false where they are
    /// too many.
    pub(super) fn may_go_on<E: Env>(&mut self, shard: &Shard<E>) -> bool {
        let count = std::mem::take(&mut self.commands);
        if count == 0 || !self.checks.has(Checks::RATES) {
            return true;
        }
        let now = shard.env.now();
        let may = shard.guard.commands(self.address, count, &shard.settings().protect, now);
        if !may {
            shard.figures.refused_rate.one();
            shard.guard.tell(self.address, self.protocol, "rate", "commands of the address", now);
        }
        may
    }
}
