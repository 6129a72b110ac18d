//! Kernel, io_uring, limits of the process, processor, network cards, clock.

use super::{Finding, Machine};
use crate::config::units::show_size;

/// The first kernel with all that the rings ask for; `env/ring` refuses older ones.
const KERNEL_MIN: (u32, u32) = (5, 8);
/// Octets that one shard locks: its I/O memory of 1 MiB in each of three rings, and the rings.
const MEMLOCK_PER_SHARD: u64 = 3_584 << 10;
/// Files of a process beside its connections: segments, rings, listeners.
const FILES_BESIDE: u64 = 4_096;
/// Connections that may wait to be accepted.
const BACKLOG: u64 = 4_096;

pub(super) fn look(machine: &Machine) -> Vec<Finding> {
    vec![
        kernel(machine),
        io_uring(machine),
        memlock(machine),
        open_files(machine),
        backlog(machine),
        governor(machine),
        network_queues(machine),
        clock_source(machine),
        time_service(machine),
    ]
}

fn kernel(machine: &Machine) -> Finding {
    let release = machine.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    let version = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    };
    if version >= KERNEL_MIN {
        return Finding::ok("kernel", release);
    }
    let (major, minor) = KERNEL_MIN;
    let reason = format!("io_uring of kernels before {major}.{minor} is not complete enough");
    Finding::change("kernel", release, reason, "apt-get install linux-image-amd64 && reboot")
}

fn io_uring(machine: &Machine) -> Finding {
    const WHAT: &str = "io_uring";
    let seccomp = limited_by_seccomp(machine);
    match machine.read("/proc/sys/kernel/io_uring_disabled").as_deref() {
        // Whether the filter lets io_uring through can only be seen by trying, which `serve` does.
        None | Some("0") if seccomp => {
            Finding::ok(WHAT, "allowed by the kernel; a seccomp filter is on and has its own say")
        }
        None => Finding::ok(WHAT, "allowed (this kernel has no switch for it)"),
        Some("0") => Finding::ok(WHAT, "allowed"),
        Some(value) => Finding::change(
            WHAT,
            format!("kernel.io_uring_disabled = {value}"),
            "each shard runs on a ring of its own; without io_uring nothing is served",
            "sysctl -w kernel.io_uring_disabled=0",
        ),
    }
}

fn limited_by_seccomp(machine: &Machine) -> bool {
    let status = machine.read("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}

/// The hard limit of a line of /proc/self/limits, `u64::MAX` for `unlimited`: the server raises
/// its soft limits to that by itself.
fn limit(machine: &Machine, name: &str) -> Option<u64> {
    let limits = machine.read("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn memlock(machine: &Machine) -> Finding {
    const WHAT: &str = "locked memory";
    let wanted = MEMLOCK_PER_SHARD * machine.shards as u64;
    let found = limit(machine, "Max locked memory").unwrap_or(0);
    let shown = if found == u64::MAX { "unlimited".into() } else { show_size(found) };
    if found >= wanted {
        return Finding::ok(WHAT, shown);
    }
    let shards = machine.shards;
    let reason =
        format!("the rings of {shards} shards lock {} for their buffers", show_size(wanted));
    Finding::change(WHAT, shown, reason, "ulimit -Hl unlimited   # systemd: LimitMEMLOCK=infinity")
}

fn open_files(machine: &Machine) -> Finding {
    const WHAT: &str = "open files";
    let wanted = machine.connections + FILES_BESIDE;
    let found = limit(machine, "Max open files").unwrap_or(0);
    let shown = if found == u64::MAX { "unlimited".into() } else { found.to_string() };
    if found >= wanted {
        return Finding::ok(WHAT, shown);
    }
    let reason = format!("limits.connections is {}, and each is a file", machine.connections);
    let command = format!("ulimit -Hn {wanted}   # systemd: LimitNOFILE={wanted}");
    Finding::change(WHAT, shown, reason, command)
}

fn backlog(machine: &Machine) -> Finding {
    const WHAT: &str = "accept queue";
    let found: Option<u64> =
        machine.read("/proc/sys/net/core/somaxconn").and_then(|text| text.parse().ok());
    match found {
        Some(count) if count < BACKLOG => Finding::change(
            WHAT,
            format!("net.core.somaxconn = {count}"),
            "a burst of connections longer than that is dropped and tried again a second later",
            format!("sysctl -w net.core.somaxconn={BACKLOG}"),
        ),
        Some(count) => Finding::ok(WHAT, format!("net.core.somaxconn = {count}")),
        None => Finding::ok(WHAT, "cannot be read here"),
    }
}

fn governor(machine: &Machine) -> Finding {
    const WHAT: &str = "cpu governor";
    let governors: Vec<String> = machine
        .names("/sys/devices/system/cpu")
        .iter()
        .filter_map(|cpu| {
            machine.read(format!("/sys/devices/system/cpu/{cpu}/cpufreq/scaling_governor"))
        })
        .collect();
    let slow = governors.iter().find(|governor| *governor != "performance");
    match slow {
        _ if governors.is_empty() => Finding::ok(WHAT, "no frequency scaling to be seen"),
        None => Finding::ok(WHAT, "performance"),
        Some(governor) => Finding::change(
            WHAT,
            governor.clone(),
            "a core that sleeps between commits wakes up at a low frequency, and mail waits for it",
            "cpupower frequency-set -g performance",
        ),
    }
}

/// Network cards with a device behind them: their receive queues, and who serves the interrupts.
fn network_queues(machine: &Machine) -> Finding {
    const WHAT: &str = "network queues";
    let mut told = Vec::new();
    for card in machine.names("/sys/class/net") {
        let base = format!("/sys/class/net/{card}");
        let queues = machine
            .names(&format!("{base}/queues"))
            .iter()
            .filter(|name| name.starts_with("rx-"))
            .count();
        if queues == 0 || machine.names(&format!("{base}/device")).is_empty() {
            continue;
        }
        if queues < machine.cores && queues < 2 && machine.cores > 2 {
            let reason = "all packets come in over one core, which is also a shard";
            let command = format!("ethtool -L {card} combined {}", machine.cores);
            return Finding::change(WHAT, format!("{card}: {queues}"), reason, command);
        }
        let places = interrupt_places(machine, &base);
        if places.len() > 2 && places.iter().all(|place| *place == places[0]) {
            let found = format!("{card}: {queues}, all interrupts on cpu {}", places[0]);
            let reason = "its queues share one place, so the other cores' packets pass through it";
            let command = format!("set_irq_affinity all {card}   # or: systemctl start irqbalance");
            return Finding::change(WHAT, found, reason, command);
        }
        told.push(format!("{card}: {queues}"));
    }
    let found = if told.is_empty() { "no card to be seen".into() } else { told.join(", ") };
    Finding::ok(WHAT, found)
}

/// Where each interrupt of a card may be served, if it is pinned to one core.
fn interrupt_places(machine: &Machine, base: &str) -> Vec<String> {
    let numbers = machine.names(&format!("{base}/device/msi_irqs"));
    let places = numbers
        .iter()
        .filter_map(|number| machine.read(format!("/proc/irq/{number}/smp_affinity_list")));
    places.filter(|place| place.bytes().all(|octet| octet.is_ascii_digit())).collect()
}

fn clock_source(machine: &Machine) -> Finding {
    const WHAT: &str = "clock source";
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let found = machine.read(path).unwrap_or_else(|| "cannot be read here".into());
    if !matches!(found.as_str(), "hpet" | "acpi_pm" | "jiffies" | "pit") {
        return Finding::ok(WHAT, found);
    }
    let reason = "each look at the clock is a trap into a slow device, some 20 times the cost";
    let command = format!("echo tsc > {path}   # kernel command line: tsc=reliable");
    Finding::change(WHAT, found, reason, command)
}

fn time_service(machine: &Machine) -> Finding {
    const WHAT: &str = "time service";
    // Command names are cut to 15 letters by the kernel.
    let services = ["chronyd", "ntpd", "ntpsec", "systemd-timesyn", "openntpd", "ptp4l"];
    let running = machine
        .names("/proc")
        .iter()
        .filter(|name| name.bytes().all(|octet| octet.is_ascii_digit()))
        .filter_map(|process| machine.read(format!("/proc/{process}/comm")))
        .find(|name| services.contains(&name.as_str()));
    match running {
        Some(name) => Finding::ok(WHAT, name),
        None => Finding::change(
            WHAT,
            "none runs",
            "dates in Received fields, certificates and signatures need the right time",
            "apt-get install chrony   # in a container the host may do it: then ignore this",
        ),
    }
}
