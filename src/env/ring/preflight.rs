//! What the kernel must grant before a shard can start, and the command that mends a refusal.
//!
//! glommio panics with a riddle, or starts and reads slowly, where one of these is missing. So
//! each is asked for first and refused in plain words. Limits that this process may raise by
//! itself are raised.
#![expect(unsafe_code, reason = "limits and the probe of io_uring are bare system calls")]

use std::fmt;
use std::io;

/// What glommio insists on, whether it needs it or not.
const MEMLOCK_OCTETS_MIN: u64 = 512 << 10;
/// The first kernel with all that glommio 0.9.0 asks of io_uring.
const KERNEL_MIN: (u32, u32) = (5, 8);

/// Why the machine cannot run a shard, and what mends it; printed as it is.
#[derive(Debug)]
pub struct Refusal(pub String);

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// Asks for everything that `shards` shards need, each with `io_memory_octets` of locked memory.
pub fn preflight(shards: usize, io_memory_octets: usize) -> Result<(), Refusal> {
    kernel()?;
    io_uring()?;
    memlock(shards, io_memory_octets)?;
    raise(libc::RLIMIT_NOFILE, u64::MAX).map(drop)
}

/// Raises the limits of locked memory and of open files for `shards` shards and `files` files, the
/// hard ones too where this process may: to be called before it becomes a user who may not.
pub fn raise_limits(shards: usize, files: u64) -> Result<(), Refusal> {
    let octets = super::Settings::default().io_memory_octets;
    raise(libc::RLIMIT_MEMLOCK, memlock_wanted(shards, octets))?;
    raise(libc::RLIMIT_NOFILE, files).map(drop)
}

fn kernel() -> Result<(), Refusal> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    check_kernel(release.trim())
}

/// An unreadable release is taken for a good one: the probe of io_uring says more.
fn check_kernel(release: &str) -> Result<(), Refusal> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return Ok(());
    };
    if (major, minor) >= KERNEL_MIN {
        return Ok(());
    }
    Err(Refusal(format!(
        "the kernel is {release}, at least {}.{} is needed: install a newer kernel and reboot",
        KERNEL_MIN.0, KERNEL_MIN.1
    )))
}

fn io_uring() -> Result<(), Refusal> {
    // SAFETY: a null pointer for the parameters is refused by the kernel before anything is done.
    let answer = unsafe { libc::syscall(libc::SYS_io_uring_setup, 0, std::ptr::null_mut::<u8>()) };
    debug_assert!(answer < 0, "no ring can be made of nothing");
    let error = io::Error::last_os_error();
    let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    check_io_uring(error.raw_os_error().unwrap_or(0), sysctl.as_deref().map(str::trim))
}

/// `errno` of a call that cannot succeed, and the sysctl where the kernel has it.
fn check_io_uring(errno: i32, sysctl: Option<&str>) -> Result<(), Refusal> {
    let reason = match (errno, sysctl) {
        (libc::EFAULT | libc::EINVAL, _) => return Ok(()),
        (libc::EPERM, Some(mode @ ("1" | "2"))) => format!(
            "io_uring is switched off (kernel.io_uring_disabled = {mode}): \
             run `sysctl -w kernel.io_uring_disabled=0` and keep it in /etc/sysctl.d"
        ),
        (libc::EPERM, _) => "io_uring is forbidden to this process (EPERM), most likely by a \
             seccomp filter: for a container pass `--security-opt seccomp=unconfined` or a profile \
             that allows io_uring_setup, io_uring_enter and io_uring_register; for a unit add \
             `SystemCallFilter=@io-event`"
            .to_owned(),
        (libc::ENOSYS, _) => {
            "io_uring is missing (ENOSYS): the kernel lacks CONFIG_IO_URING, or a \
             sandbox hides it: install a kernel with it, or for a container pass \
             `--security-opt seccomp=unconfined`"
                .to_owned()
        }
        (other, _) => format!(
            "io_uring does not work: {}: try `dmesg | tail`",
            io::Error::from_raw_os_error(other)
        ),
    };
    Err(Refusal(reason))
}

fn memlock(shards: usize, io_memory_octets: usize) -> Result<(), Refusal> {
    check_memlock(raise(libc::RLIMIT_MEMLOCK, memlock_wanted(shards, io_memory_octets))?)
}

fn memlock_wanted(shards: usize, io_memory_octets: usize) -> u64 {
    // Three rings of each shard register its memory, and the rings themselves count too.
    (3 * io_memory_octets as u64 + MEMLOCK_OCTETS_MIN) * shards.max(1) as u64
}

fn check_memlock(limit: u64) -> Result<(), Refusal> {
    if limit >= MEMLOCK_OCTETS_MIN {
        return Ok(());
    }
    Err(Refusal(format!(
        "only {} KiB of memory may be locked (RLIMIT_MEMLOCK), at least {} KiB are needed: \
         put `LimitMEMLOCK=infinity` into the unit, or run `ulimit -l unlimited` as root first",
        limit >> 10,
        MEMLOCK_OCTETS_MIN >> 10
    )))
}

#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

/// Raises the soft limit towards `wanted`, past the hard limit only where this process may raise that
/// too; returns what holds now.
fn raise(resource: Resource, wanted: u64) -> Result<u64, Refusal> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a place for the answer that outlives the call.
    if unsafe { libc::getrlimit(resource, &raw mut limit) } != 0 {
        return Err(Refusal(format!("cannot read a limit: {}", io::Error::last_os_error())));
    }
    if limit.rlim_cur >= wanted {
        return Ok(limit.rlim_cur);
    }
    let beyond = libc::rlimit { rlim_cur: wanted, rlim_max: wanted.max(limit.rlim_max) };
    let within = libc::rlimit { rlim_cur: wanted.min(limit.rlim_max), ..limit };
    for raised in [beyond, within] {
        // SAFETY: `raised` is read during the call only.
        if unsafe { libc::setrlimit(resource, &raw const raised) } == 0 {
            return Ok(raised.rlim_cur);
        }
    }
    Ok(limit.rlim_cur)
}

/// The CPUs that this process may use, in order.
pub fn cpus() -> io::Result<Vec<usize>> {
    // SAFETY: a set of CPUs is plain bits, and no bits are a set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a place for as many octets as are said; 0 is the calling thread.
    let failed = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) } != 0;
    if failed {
        return Err(io::Error::last_os_error());
    }
    let count = usize::try_from(libc::CPU_SETSIZE).unwrap_or_default();
    Ok((0..count)
        .filter(|&cpu| {
            // SAFETY: `cpu` is below the number of bits in the set.
            unsafe { libc::CPU_ISSET(cpu, &set) }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "an expectation is made where it is given")]
    fn check(result: Result<(), Refusal>, want: Expect) {
        want.assert_eq(&result.map_or_else(|refusal| refusal.0, |()| "fine".to_owned()));
    }

    #[test]
    fn says_what_mends_a_missing_io_uring() {
        check(check_io_uring(libc::EFAULT, Some("0")), expect!["fine"]);
        check(
            check_io_uring(libc::EPERM, Some("2")),
            expect![
                "io_uring is switched off (kernel.io_uring_disabled = 2): run `sysctl -w kernel.io_uring_disabled=0` and keep it in /etc/sysctl.d"
            ],
        );
        check(
            check_io_uring(libc::EPERM, Some("0")),
            expect![
                "io_uring is forbidden to this process (EPERM), most likely by a seccomp filter: for a container pass `--security-opt seccomp=unconfined` or a profile that allows io_uring_setup, io_uring_enter and io_uring_register; for a unit add `SystemCallFilter=@io-event`"
            ],
        );
        check(
            check_io_uring(libc::ENOSYS, None),
            expect![
                "io_uring is missing (ENOSYS): the kernel lacks CONFIG_IO_URING, or a sandbox hides it: install a kernel with it, or for a container pass `--security-opt seccomp=unconfined`"
            ],
        );
    }

    #[test]
    fn says_what_mends_an_old_kernel() {
        check(check_kernel("5.8.0-rc1"), expect!["fine"]);
        check(check_kernel("6.1.0-13-amd64"), expect!["fine"]);
        check(check_kernel("unknown"), expect!["fine"]);
        check(
            check_kernel("4.19.0-27-amd64"),
            expect![
                "the kernel is 4.19.0-27-amd64, at least 5.8 is needed: install a newer kernel and reboot"
            ],
        );
    }

    #[test]
    fn says_what_mends_too_little_locked_memory() {
        check(check_memlock(512 << 10), expect!["fine"]);
        check(
            check_memlock(64 << 10),
            expect![
                "only 64 KiB of memory may be locked (RLIMIT_MEMLOCK), at least 512 KiB are needed: put `LimitMEMLOCK=infinity` into the unit, or run `ulimit -l unlimited` as root first"
            ],
        );
    }

    #[test]
    fn finds_at_least_one_cpu() {
        assert!(!cpus().expect("the affinity can be read").is_empty());
    }
}
