//! How bad the simulated world is: one number per kind of trouble, all zero unless asked for.
//!
//! Chances are parts per million of the operations of their kind. Nothing here is a promise to go
//! wrong: for that there is [`super::disk::Script`].

/// Always, in parts per million.
pub const ALWAYS: u32 = 1_000_000;

/// The chances of everything that may go wrong. `Faults::default()` is a machine without faults,
/// though still with delays, reordering, and streams cut into segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// A write fails with EIO; any part of it may be on the disk, or garbage in its range.
    pub write_fails: u32,
    /// A read fails with EIO.
    pub read_fails: u32,
    /// A sync fails with EIO; what it covered may be lost, and later syncs say nothing of it.
    pub sync_fails: u32,
    /// A create fails with EIO or ENOSPC and leaves no file.
    pub create_fails: u32,
    /// A read returns with one bit flipped; the disk itself is whole.
    pub read_flips: u32,
    /// A write lands somewhere else in its file and still reports success.
    pub write_strays: u32,
    /// A disk operation takes a hundred times as long.
    pub disk_slow: u32,
    /// Octets that all files together may have.
    pub disk_octets: u64,
    /// Shortest and longest time of a disk operation, in microseconds.
    pub disk_micros: (u32, u32),

    /// A connect is refused.
    pub connect_fails: u32,
    /// A connection is reset while something is written to it.
    pub resets: u32,
    /// A connection falls silent for ever when it is made: nothing arrives, nothing fails.
    pub stalls: u32,
    /// A segment carries 1 to 8 octets only.
    pub cuts: u32,
    /// Shortest and longest way of a segment, in microseconds.
    pub net_micros: (u32, u32),
    /// Octets that may be on their way in one direction before a writer waits.
    pub window_octets: usize,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            write_fails: 0,
            read_fails: 0,
            sync_fails: 0,
            create_fails: 0,
            read_flips: 0,
            write_strays: 0,
            disk_slow: 0,
            disk_octets: 1 << 30,
            disk_micros: (20, 400),
            connect_fails: 0,
            resets: 0,
            stalls: 0,
            cuts: 0,
            net_micros: (5, 200),
            window_octets: 64 << 10,
        }
    }
}

impl Faults {
    /// Nothing fails. Crashes still forget what was not synced.
    pub fn none() -> Faults {
        Faults::default()
    }

    /// Nothing fails, but the disk stutters and the network cuts.
    pub fn rough() -> Faults {
        Faults {
            disk_slow: 20_000,
            cuts: 100_000,
            net_micros: (5, 2_000),
            window_octets: 8 << 10,
            ..Faults::default()
        }
    }

    /// Disk operations fail now and then.
    pub fn bad_disk() -> Faults {
        Faults {
            write_fails: 5_000,
            read_fails: 5_000,
            sync_fails: 5_000,
            create_fails: 50_000,
            disk_slow: 20_000,
            ..Faults::default()
        }
    }

    /// Connections break, stall, and arrive in crumbs.
    pub fn bad_net() -> Faults {
        Faults { connect_fails: 10_000, resets: 10_000, stalls: 5_000, ..Faults::rough() }
    }

    /// A bad disk behind a bad network.
    pub fn hostile() -> Faults {
        let disk = Faults::bad_disk();
        Faults {
            write_fails: disk.write_fails,
            read_fails: disk.read_fails,
            sync_fails: disk.sync_fails,
            create_fails: disk.create_fails,
            ..Faults::bad_net()
        }
    }
}
