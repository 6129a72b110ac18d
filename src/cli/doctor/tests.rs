//! What the doctor says about machines made of files, and about this one.

use super::*;
use expect_test::{Expect, expect};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

/// A machine with these files, each `path = content`.
#[track_caller]
fn check(files: &str, want: &Expect) {
    check_for(None, files, want);
}

/// The same, where the server becomes `user`, and the certificate is `/etc/pombal/key.pem`.
#[track_caller]
fn check_for(user: Option<&str>, files: &str, want: &Expect) {
    let root = tempfile::tempdir().unwrap();
    for (path, content) in files.lines().filter_map(|line| line.trim().split_once(" = ")) {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content.replace("\\n", "\n").replace("\\t", "\t")).unwrap();
        if path.extension().is_some_and(|end| end == "pem") {
            std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
        }
    }
    let machine = Machine {
        root: root.path().into(),
        cores: 8,
        shards: 8,
        connections: 10_000,
        directories: vec!["/nowhere/pombal".into()],
        user: user.map(str::to_owned),
        certificates: user.iter().map(|_| "/etc/pombal/key.pem".into()).collect(),
    };
    let mut out = Vec::new();
    // The try of O_DIRECT runs on the machine of the test: not a matter of these files.
    let findings: Vec<Finding> = match user {
        Some(_) => user::look(&machine),
        None => look(&machine).into_iter().filter(|one| one.what != "direct I/O").collect(),
    };
    print(&findings, &mut out).unwrap();
    let own = format!("uid {}", nix::unistd::getuid());
    want.assert_eq(&String::from_utf8(out).unwrap().replace(&own, "uid OWN"));
}

#[test]
fn a_good_machine_has_nothing_to_change() {
    check(
        r"
        proc/sys/kernel/osrelease = 6.1.0-28-amd64
        proc/sys/kernel/io_uring_disabled = 0
        proc/self/limits = Max open files  100000  100000  files\nMax locked memory  unlimited  unlimited  bytes
        proc/sys/net/core/somaxconn = 4096
        proc/17/comm = chronyd
        sys/devices/system/cpu/cpu0/cpufreq/scaling_governor = performance
        sys/class/net/eth0/queues/rx-0/rps_cpus = 0
        sys/class/net/eth0/queues/rx-1/rps_cpus = 0
        sys/class/net/eth0/device/vendor = 0x8086
        sys/devices/system/clocksource/clocksource0/current_clocksource = tsc
        sys/dev/block/8:1/queue/write_cache = write back
        proc/self/mountinfo = 1 0 8:0 / / rw - ext4 /dev/sda rw\n2 1 8:1 / /nowhere rw,noatime shared:1 - xfs /dev/sdb rw
        ",
        &expect![[r"
            ok      kernel         6.1.0-28-amd64
            ok      io_uring       allowed
            ok      locked memory  unlimited
            ok      open files     100000
            ok      accept queue   net.core.somaxconn = 4096
            ok      cpu governor   performance
            ok      network queues eth0: 2
            ok      clock source   tsc
            ok      time service   chronyd
            ok      file system    xfs on /nowhere
            ok      write cache    write back; each sync empties it
            ok      sandbox        cannot be seen here; event=sandbox of the start says
            ok      user           not set: the server stays whoever starts it
        "]],
    );
}

#[test]
fn a_bad_machine_is_told_why_and_how() {
    check(
        r"
        proc/sys/kernel/osrelease = 5.4.0
        proc/sys/kernel/io_uring_disabled = 2
        proc/self/limits = Max open files  1024  4096  files\nMax locked memory  65536  65536  bytes
        proc/sys/net/core/somaxconn = 128
        sys/devices/system/cpu/cpu0/cpufreq/scaling_governor = performance
        sys/devices/system/cpu/cpu1/cpufreq/scaling_governor = powersave
        sys/class/net/eth0/queues/rx-0/rps_cpus = 0
        sys/class/net/eth0/device/vendor = 0x8086
        sys/devices/system/clocksource/clocksource0/current_clocksource = hpet
        proc/self/mountinfo = 1 0 0:1 / / rw - overlay overlay rw\n2 1 8:1 / /nowhere rw,nobarrier - ext4 /dev/sdb rw\n3 2 0:2 / /nowhere/pombal rw - tmpfs none rw,barrier=0
        ",
        &expect![[r"
            change  kernel         5.4.0
                                   because io_uring of kernels before 5.8 is not complete enough
                                   $ apt-get install linux-image-amd64 && reboot
            change  io_uring       kernel.io_uring_disabled = 2
                                   because each shard runs on a ring of its own; without io_uring nothing is served
                                   $ sysctl -w kernel.io_uring_disabled=0
            change  locked memory  64K
                                   because the rings of 8 shards lock 28M for their buffers
                                   $ ulimit -Hl unlimited   # systemd: LimitMEMLOCK=infinity
            change  open files     4096
                                   because limits.connections is 10000, and each is a file
                                   $ ulimit -Hn 14096   # systemd: LimitNOFILE=14096
            change  accept queue   net.core.somaxconn = 128
                                   because a burst of connections longer than that is dropped and tried again a second later
                                   $ sysctl -w net.core.somaxconn=4096
            change  cpu governor   powersave
                                   because a core that sleeps between commits wakes up at a low frequency, and mail waits for it
                                   $ cpupower frequency-set -g performance
            change  network queues eth0: 1
                                   because all packets come in over one core, which is also a shard
                                   $ ethtool -L eth0 combined 8
            change  clock source   hpet
                                   because each look at the clock is a trap into a slow device, some 20 times the cost
                                   $ echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource   # kernel command line: tsc=reliable
            change  time service   none runs
                                   because dates in Received fields, certificates and signatures need the right time
                                   $ apt-get install chrony   # in a container the host may do it: then ignore this
            change  file system    tmpfs on /nowhere/pombal
                                   because mail would be gone with the power, whatever the server promises
                                   $ mount /dev/DISK /nowhere/pombal   # ext4 or xfs
            change  write cache    rw,rw,barrier=0
                                   because without barriers a sync does not empty the disk's cache, and a power cut loses mail
                                   $ mount -o remount,barrier=1 /nowhere/pombal
            ok      sandbox        cannot be seen here; event=sandbox of the start says
            ok      user           not set: the server stays whoever starts it
        "]],
    );
}

#[test]
fn interrupts_that_share_one_core_are_seen() {
    check(
        r"
        proc/sys/kernel/osrelease = 6.1.0
        proc/self/status = Seccomp:\t2
        proc/self/limits = Max open files  unlimited  unlimited  files\nMax locked memory  65536  100663296  bytes
        proc/17/comm = ntpd
        proc/irq/40/smp_affinity_list = 0
        proc/irq/41/smp_affinity_list = 0
        proc/irq/42/smp_affinity_list = 0
        sys/class/net/eth0/queues/rx-0/rps_cpus = 0
        sys/class/net/eth0/queues/rx-1/rps_cpus = 0
        sys/class/net/eth0/device/msi_irqs/40 = msi
        sys/class/net/eth0/device/msi_irqs/41 = msi
        sys/class/net/eth0/device/msi_irqs/42 = msi
        ",
        &expect![[r"
            ok      kernel         6.1.0
            ok      io_uring       allowed by the kernel; a seccomp filter is on and has its own say
            ok      locked memory  96M
            ok      open files     unlimited
            ok      accept queue   cannot be read here
            ok      cpu governor   no frequency scaling to be seen
            change  network queues eth0: 2, all interrupts on cpu 0
                                   because its queues share one place, so the other cores' packets pass through it
                                   $ set_irq_affinity all eth0   # or: systemctl start irqbalance
            ok      clock source   cannot be read here
            ok      time service   ntpd
            ok      file system    no mounts to be seen
            ok      sandbox        cannot be seen here; event=sandbox of the start says
            ok      user           not set: the server stays whoever starts it
        "]],
    );
}

#[test]
fn each_directory_for_logs_has_a_device_of_its_own() {
    let root = tempfile::tempdir().unwrap();
    for dir in ["proc/self", "srv/a", "srv/b", "srv/c"] {
        std::fs::create_dir_all(root.path().join(dir)).unwrap();
    }
    let mounts = "1 0 8:0 / / rw - ext4 /dev/sda rw\n2 1 8:1 / /srv/a rw - xfs /dev/sdb rw\n\
                  3 1 8:2 / /srv/b rw - tmpfs none rw";
    std::fs::write(root.path().join("proc/self/mountinfo"), mounts).unwrap();
    let dirs = ["/nowhere/pombal", "/srv/a", "/nowhere/pombal", "/srv/b", "/srv/c", "/srv/d"];
    let machine = Machine {
        root: root.path().into(),
        directories: dirs.map(PathBuf::from).into(),
        ..Machine::this(None)
    };
    let mut findings = disk::look(&machine);
    findings.retain(|one| one.what != "direct I/O" && one.what != "write cache");
    let mut out = Vec::new();
    print(&findings, &mut out).unwrap();
    expect![[r"
        ok      file system    ext4 on /
        ok      file system    xfs on /srv/a
        change  file system    tmpfs on /srv/b
                               because mail would be gone with the power, whatever the server promises
                               $ mount /dev/DISK /srv/b   # ext4 or xfs
        change  directories    /nowhere/pombal and /srv/c are both on /
                               because store.directories are for one device each: this one is not mounted, or brings nothing
                               $ findmnt -T /srv/c   # mount its device, or leave it out
        change  directories    /srv/d of store.directories is not there
                               because the server does not start without: logs may lie on a device that is not mounted
                               $ mount /srv/d   # on a new device: install -d -m 700 -o USER /srv/d
    "]]
    .assert_eq(&String::from_utf8(out).unwrap());
}

/// Files of tests belong to whoever runs them: no user of these machines, which have others.
#[test]
fn who_the_server_will_be_must_get_to_its_files() {
    let own = nix::unistd::getuid();
    check_for(
        Some("pombal"),
        "etc/passwd = root:x:0:0::/:/bin/sh",
        &expect![[r"
        ok      sandbox        cannot be seen here; event=sandbox of the start says
        change  user           pombal is not in /etc/passwd
                               because started as root, the server becomes this user when its ports are bound
                               $ systemd-sysusers   # or: useradd --system --home-dir /var/lib/pombal pombal
    "]],
    );
    check_for(
        Some("pombal"),
        r"
        etc/passwd = root:x:0:0::/:/bin/sh\npombal:x:4000997:4000996::/nowhere:/bin/false
        etc/group = pombal:x:4000996:\nssl-cert:x:4000111:ann,pombal
        etc/pombal/key.pem = x
        nowhere/pombal/store.toml = x
        sys/kernel/security/lsm = capability,yama,apparmor
        ",
        &expect![[r"
            change  sandbox        no Landlock among capability,yama,apparmor
                                   because without it an intruder reads every file that the server's user can read
                                   $ kernel command line: lsm=landlock,capability,yama,apparmor   # Linux 5.13 or later
            ok      user           pombal (uid 4000997)
            change  data_dir       /nowhere/pombal belongs to uid OWN
                                   because the server writes it as pombal, and does not take it from others
                                   $ chown -R pombal: /nowhere/pombal   # stop whoever uses it first
            change  certificates   pombal may not read /etc/pombal/key.pem
                                   because they are read as this user, at the start and again at each reload
                                   $ chgrp pombal /etc/pombal/key.pem && chmod g+r /etc/pombal/key.pem
        "]],
    );
    let files = format!(
        "etc/passwd = pombal:x:{own}:4000996::/nowhere:/bin/false\netc/pombal/key.pem = x\n\
         nowhere/pombal/store.toml = x\nsys/kernel/security/lsm = capability,landlock"
    );
    let want = expect![[r"
        ok      sandbox        Landlock is on
        ok      user           pombal (uid OWN)
        ok      data_dir       /nowhere/pombal belongs to pombal
        ok      certificates   readable by pombal
    "]];
    check_for(Some("pombal"), &files, &want);
}

#[test]
fn looks_at_this_machine_without_falling_over() {
    let machine = Machine { directories: vec![std::env::temp_dir()], ..Machine::this(None) };
    let findings = look(&machine);
    assert!(findings.len() >= 10);
    for finding in findings {
        assert_eq!(finding.ok, finding.command.is_empty(), "{finding:?}");
        assert!(!finding.found.is_empty(), "{finding:?}");
    }
}
