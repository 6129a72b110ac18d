//! The least rate at which a message must come in, and the time that a command has, so that who
//! drips holds no memory and no connection for ever.

use super::shard::Settings;
use crate::model::limits::COMMAND_TIME_MAX;
use crate::model::time::Mono;
use std::time::Duration;

/// How a message has come in so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    begun: Mono,
    /// As they were received, some of another message perhaps.
    octets: u64,
}

impl Pace {
    pub(super) fn new(now: Mono) -> Pace {
        Pace { begun: now, octets: 0 }
    }

    pub(super) fn add(&mut self, octets: u64) {
        self.octets += octets;
    }

    /// `deadline`, or an earlier one by which the next octets must come.
    pub(super) fn deadline(&self, settings: &Settings, deadline: Mono) -> Mono {
        if settings.message_rate_min == 0 {
            return deadline;
        }
        let grace = settings.data_timeout.max(settings.command_timeout);
        let micros = self.octets.saturating_mul(1_000_000) / settings.message_rate_min;
        deadline.min(self.begun.after(grace.saturating_add(Duration::from_micros(micros))))
    }
}

/// When the command under way began to come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Coming(Option<Mono>);

impl Coming {
    /// A command was taken: what follows it has its own time.
    pub(super) fn ended(&mut self) {
        self.0 = None;
    }

    /// `deadline`, or an earlier one by which the command must be whole, where some of it is here.
    pub(super) fn deadline(&mut self, is_begun: bool, now: Mono, deadline: Mono) -> Mono {
        if !is_begun {
            self.0 = None;
            return deadline;
        }
        deadline.min(self.0.get_or_insert(now).after(COMMAND_TIME_MAX))
    }
}
