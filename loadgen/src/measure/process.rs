//! Reads what the kernel says about one process under /proc.
//!
//! A process may end between any two reads: every function answers `None` then.

use std::fs;

/// Clock ticks per second of the figures in `stat`; Linux shows 100 on every machine.
const TICKS_PER_SECOND: u64 = 100;
const NS_PER_TICK: u64 = 1_000_000_000 / TICKS_PER_SECOND;
/// Octets of a page; `statm` counts in pages.
const PAGE_OCTETS: u64 = 4_096;

/// One line of `/proc/PID/stat`, what is needed of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) parent: u32,
    /// User and system time of all threads, dead ones too, and of all children waited for.
    pub(crate) cpu_ns: u64,
    /// When the process began, in ticks since boot: tells a reused number from the old process.
    pub(crate) began: u64,
    pub(crate) is_zombie: bool,
}

/// Parses `stat`. The name in parentheses may hold anything, parentheses too.
pub(crate) fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // proc(5) numbers the fields from 1; `state`, field 3, is the first one here.
    let field = |number: usize| fields.get(number - 3).copied();
    let number = |at: usize| field(at)?.parse::<u64>().ok();
    // cutime and cstime are signed in the kernel's format.
    let ticks = number(14)? + number(15)? + number(16).unwrap_or(0) + number(17).unwrap_or(0);
    Some(Stat {
        parent: field(4)?.parse().ok()?,
        cpu_ns: ticks * NS_PER_TICK,
        began: number(22)?,
        is_zombie: matches!(field(3)?, "Z" | "X"),
    })
}

pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Every process there is: number and `stat`.
pub(crate) fn all() -> Vec<(u32, Stat)> {
    numbers_in("/proc").into_iter().filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

/// The threads of a process.
pub(crate) fn threads(pid: u32) -> Vec<u32> {
    numbers_in(&format!("/proc/{pid}/task"))
}

fn numbers_in(folder: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// What one thread has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Thread {
    /// Time on a core in nanoseconds; `None` where the kernel keeps no schedstat.
    pub(crate) cpu_ns: Option<u64>,
    pub(crate) voluntary: u64,
    pub(crate) involuntary: u64,
}

pub(crate) fn thread(pid: u32, tid: u32) -> Option<Thread> {
    let status = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).ok()?;
    let schedstat = fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).ok();
    let cpu_ns =
        schedstat.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
    Some(Thread {
        cpu_ns,
        voluntary: value(&status, "voluntary_ctxt_switches:").unwrap_or(0),
        involuntary: value(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0),
    })
}

/// Octets that the process and its waited-for children caused to be written to the disk.
/// `None` where one may not look.
pub(crate) fn write_octets(pid: u32) -> Option<u64> {
    value(&fs::read_to_string(format!("/proc/{pid}/io")).ok()?, "write_bytes:")
}

/// Memory of one process in octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Resident, shared pages counted in full.
    pub(crate) resident: u64,
    /// Resident and nobody else's; `None` where the kernel does not say.
    pub(crate) private: Option<u64>,
}

pub(crate) fn memory(pid: u32) -> Option<Memory> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let private = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok().and_then(|rollup| {
        let kib = value(&rollup, "Private_Clean:")? + value(&rollup, "Private_Dirty:")?;
        Some(kib * 1_024)
    });
    Some(Memory { resident: pages * PAGE_OCTETS, private })
}

/// The number behind `key` in lines of `key: number`.
pub(crate) fn value(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(text: &str, want: &Expect) {
        want.assert_eq(&format!("{:?}", parse_stat(text)));
    }

    #[test]
    fn reads_stat_whatever_the_process_is_called() {
        check(
            "14107 (a) S 1 (b) S 14100 14100 14100 0 -1 4194304 100 0 0 0 14 1 7 2 20 0 1 0 333772 62046208 14857 1",
            &expect![
                "Some(Stat { parent: 14100, cpu_ns: 240000000, began: 333772, is_zombie: false })"
            ],
        );
        check("", &expect!["None"]);
        check("12 (x) S 1", &expect!["None"]);
    }

    #[test]
    fn does_not_take_one_key_for_another() {
        let status = "voluntary_ctxt_switches:\t2\nnonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(value(status, "voluntary_ctxt_switches:"), Some(2));
        assert_eq!(value(status, "nonvoluntary_ctxt_switches:"), Some(7));
        assert_eq!(value(status, "switches:"), None);
    }

    #[test]
    fn knows_this_very_process() {
        let pid = std::process::id();
        assert!(stat(pid).is_some_and(|stat| !stat.is_zombie));
        assert!(threads(pid).iter().all(|tid| thread(pid, *tid).is_some() || *tid != pid));
        assert!(memory(pid).is_some_and(|memory| memory.resident > 0));
        assert_eq!(stat(u32::MAX), None);
    }
}
