//! Two clocks: one that only goes forward, one that people read.

use std::time::Duration;

/// Time since the machine (or the simulation) started. Never goes backwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mono(pub Duration);

impl Mono {
    /// A moment that never comes.
    pub const NEVER: Mono = Mono(Duration::MAX);

    /// This moment plus `pause`; saturates at [`Mono::NEVER`].
    #[must_use]
    pub fn after(self, pause: Duration) -> Mono {
        Mono(self.0.saturating_add(pause))
    }

    /// Time from `earlier` to here; zero if `earlier` lies ahead.
    pub fn since(self, earlier: Mono) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Microseconds since 1970-01-01T00:00:00Z. May jump when the clock is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wall(pub u64);

impl Wall {
    /// Whole seconds since 1970. Good until the year 2106, as the columns of the index are.
    pub fn seconds(self) -> u32 {
        u32::try_from(self.0 / 1_000_000).unwrap_or(u32::MAX)
    }

    /// Time from `earlier` to here; zero if `earlier` lies ahead.
    pub fn since(self, earlier: Wall) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    pub fn from_seconds(seconds: u32) -> Wall {
        Wall(u64::from(seconds) * 1_000_000)
    }
}
