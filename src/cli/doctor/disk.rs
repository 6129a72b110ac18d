//! The file systems and the disks under the directories of the store.

use super::{Finding, Machine};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// One mounted file system, out of /proc/self/mountinfo.
struct Mount {
    device: String,
    point: PathBuf,
    kind: String,
    options: String,
}

pub(super) fn look(machine: &Machine) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen: Vec<(Mount, &Path)> = Vec::new();
    for dir in &machine.directories {
        // `data_dir` is made at the first start, and may be named for logs once more.
        if seen.iter().any(|(_, other)| other == dir) {
            continue;
        }
        if !seen.is_empty() && !machine.below(dir).is_dir() {
            findings.push(absent(dir));
            continue;
        }
        let Some(mount) = mount_of(machine, dir) else {
            return vec![Finding::ok("file system", "no mounts to be seen")];
        };
        if let Some((_, other)) = seen.iter().find(|(one, _)| one.device == mount.device) {
            findings.push(shared(&mount, other, dir));
            continue;
        }
        findings.push(file_system(dir, &mount));
        findings.push(direct_io(dir));
        findings.push(write_cache(machine, &mount));
        seen.push((mount, dir));
    }
    findings
}

fn absent(dir: &Path) -> Finding {
    let dir = dir.display();
    Finding::change(
        "directories",
        format!("{dir} of store.directories is not there"),
        "the server does not start without: logs may lie on a device that is not mounted",
        format!("mount {dir}   # on a new device: install -d -m 700 -o USER {dir}"),
    )
}

/// Two directories that one disk has to serve.
fn shared(mount: &Mount, other: &Path, dir: &Path) -> Finding {
    let (other, dir) = (other.display(), dir.display());
    Finding::change(
        "directories",
        format!("{other} and {dir} are both on {}", mount.point.display()),
        "store.directories are for one device each: this one is not mounted, or brings nothing",
        format!("findmnt -T {dir}   # mount its device, or leave it out"),
    )
}

/// The mount that `path`, or its nearest existing parent, lies on.
fn mount_of(machine: &Machine, path: &Path) -> Option<Mount> {
    let path = std::path::absolute(path).ok()?;
    let text = machine.read("/proc/self/mountinfo")?;
    let mounts = text.lines().filter_map(mount);
    // The longest point wins; of equal ones the later lies on top.
    mounts
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.components().count())
}

/// `36 35 98:0 /root /mnt/point rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue`
fn mount(line: &str) -> Option<Mount> {
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ').skip(2);
    let device = front.next()?.to_owned();
    let point = front.nth(1)?.replace("\\040", " ").into();
    let own = front.next()?;
    let mut back = back.split(' ');
    let kind = back.next()?.to_owned();
    let options = format!("{own},{}", back.nth(1).unwrap_or_default());
    Some(Mount { device, point, kind, options })
}

fn file_system(dir: &Path, mount: &Mount) -> Finding {
    const WHAT: &str = "file system";
    let found = format!("{} on {}", mount.kind, mount.point.display());
    let dir = dir.display();
    match mount.kind.as_str() {
        "ext4" | "xfs" | "btrfs" => Finding::ok(WHAT, found),
        "tmpfs" | "ramfs" => Finding::change(
            WHAT,
            found,
            "mail would be gone with the power, whatever the server promises",
            format!("mount /dev/DISK {dir}   # ext4 or xfs"),
        ),
        "overlay" | "nfs" | "nfs4" | "fuse" | "cifs" | "9p" | "virtiofs" => Finding::change(
            WHAT,
            found,
            "a sync there may not reach a disk, and O_DIRECT may quietly be a copy",
            format!("mount /dev/DISK {dir}   # ext4 or xfs; in a container: a volume"),
        ),
        _ => Finding::ok(WHAT, format!("{found} (not one that was measured)")),
    }
}

/// Memory that O_DIRECT can write from.
#[repr(align(4096))]
struct Block([u8; 4096]);

/// Tries one direct write in the directory, or the nearest one above it that exists.
fn direct_io(dir: &Path) -> Finding {
    const WHAT: &str = "direct I/O";
    let Some(dir) = dir.ancestors().find(|dir| dir.is_dir()) else {
        return Finding::ok(WHAT, "no directory to try it in");
    };
    let path = dir.join(format!(".pombal-doctor-{}", std::process::id()));
    let block = Box::new(Block([0; 4096]));
    let tried = OpenOptions::new()
        .write(true)
        .create_new(true)
        .custom_flags(libc::O_DIRECT)
        .open(&path)
        .and_then(|mut file| file.write_all(&block.0).and_then(|()| file.sync_data()));
    // It may not have been made at all.
    drop(std::fs::remove_file(&path));
    let dir = dir.display();
    match tried {
        Ok(()) => Finding::ok(WHAT, format!("works in {dir}")),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Finding::ok(WHAT, format!("not tried: {dir} is not ours to write"))
        }
        Err(error) => Finding::change(
            WHAT,
            format!("{dir}: {error}"),
            "the log is written with O_DIRECT, past the page cache",
            format!("move {dir} to ext4 or xfs on a local disk"),
        ),
    }
}

fn write_cache(machine: &Machine, mount: &Mount) -> Finding {
    const WHAT: &str = "write cache";
    let lazy = mount.options.split(',').any(|word| word == "nobarrier" || word == "barrier=0");
    if lazy {
        return Finding::change(
            WHAT,
            mount.options.clone(),
            "without barriers a sync does not empty the disk's cache, and a power cut loses mail",
            format!("mount -o remount,barrier=1 {}", mount.point.display()),
        );
    }
    // A partition has no queue of its own; the disk above it has.
    let base = format!("/sys/dev/block/{}", mount.device);
    let cache = ["queue", "../queue"]
        .iter()
        .find_map(|queue| machine.read(format!("{base}/{queue}/write_cache")));
    match cache.as_deref() {
        Some("write back") => Finding::ok(WHAT, "write back; each sync empties it"),
        Some(other) => Finding::ok(WHAT, other),
        None => Finding::ok(WHAT, "no block device to be seen"),
    }
}
