//! Who the server will be, and whether that user gets to what it needs.
//!
//! Users and groups are those of /etc/passwd and /etc/group, permissions those of the mode; access
//! control lists are not looked at.

use super::{Finding, Machine};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

pub(super) fn look(machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![sandbox(machine)];
    let Some(name) = &machine.user else {
        let found = "not set: the server stays whoever starts it";
        findings.push(Finding::ok("user", found));
        return findings;
    };
    let Some(user) = Account::find(machine, name) else {
        findings.push(Finding::change(
            "user",
            format!("{name} is not in /etc/passwd"),
            "started as root, the server becomes this user when its ports are bound",
            format!("systemd-sysusers   # or: useradd --system --home-dir /var/lib/pombal {name}"),
        ));
        return findings;
    };
    findings.push(Finding::ok("user", format!("{name} (uid {})", user.uid)));
    findings.extend(machine.directories.iter().map(|dir| owner(machine, dir, name, &user)));
    findings.push(certificates(machine, name, &user));
    findings
}

fn sandbox(machine: &Machine) -> Finding {
    const WHAT: &str = "sandbox";
    match machine.read("/sys/kernel/security/lsm") {
        None => Finding::ok(WHAT, "cannot be seen here; event=sandbox of the start says"),
        Some(modules) if modules.split(',').any(|name| name == "landlock") => {
            Finding::ok(WHAT, "Landlock is on")
        }
        Some(modules) => Finding::change(
            WHAT,
            format!("no Landlock among {modules}"),
            "without it an intruder reads every file that the server's user can read",
            format!("kernel command line: lsm=landlock,{modules}   # Linux 5.13 or later"),
        ),
    }
}

/// A user with the numbers of all its groups.
struct Account {
    uid: u32,
    gids: Vec<u32>,
}

impl Account {
    fn find(machine: &Machine, name: &str) -> Option<Account> {
        let users = machine.read("/etc/passwd")?;
        let fields = users
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields.first() == Some(&name))?;
        let number = |index: usize| fields.get(index)?.parse().ok();
        let mut gids = vec![number(3)?];
        let groups = machine.read("/etc/group").unwrap_or_default();
        for line in groups.lines() {
            if let [_, _, gid, members] = line.split(':').collect::<Vec<_>>()[..]
                && members.split(',').any(|member| member == name)
            {
                gids.extend(gid.parse::<u32>());
            }
        }
        Some(Account { uid: number(2)?, gids })
    }

    /// Whether the mode grants `bit` (4 read, 2 write, 1 search).
    fn may(&self, file: &Metadata, bit: u32) -> bool {
        let shift = match file {
            file if file.uid() == self.uid => 6,
            file if self.gids.contains(&file.gid()) => 3,
            _ => 0,
        };
        file.mode() >> shift & bit == bit
    }
}

fn owner(machine: &Machine, dir: &Path, name: &str, user: &Account) -> Finding {
    let is_first = dir == machine.directories[0];
    let what = if is_first { "data_dir" } else { "directories" };
    let found = std::fs::metadata(machine.below(dir));
    let dir = dir.display();
    match found {
        Err(_) if !is_first => Finding::ok(what, format!("{dir} is not there")),
        Err(_) => Finding::ok(what, format!("{dir} is made at the first start")),
        Ok(found) if found.uid() == user.uid => {
            Finding::ok(what, format!("{dir} belongs to {name}"))
        }
        Ok(found) => Finding::change(
            what,
            format!("{dir} belongs to uid {}", found.uid()),
            format!("the server writes it as {name}, and does not take it from others"),
            format!("chown -R {name}: {dir}   # stop whoever uses it first"),
        ),
    }
}

fn certificates(machine: &Machine, name: &str, user: &Account) -> Finding {
    const WHAT: &str = "certificates";
    for file in &machine.certificates {
        let Some((path, bit)) = closed(machine, file, user) else { continue };
        let (shown, right) = (path.display(), if bit == 4 { "r" } else { "x" });
        let verb = if bit == 4 { "read" } else { "pass through" };
        return Finding::change(
            WHAT,
            format!("{name} may not {verb} {shown}"),
            "they are read as this user, at the start and again at each reload",
            format!("chgrp {name} {shown} && chmod g+{right} {shown}"),
        );
    }
    if machine.certificates.is_empty() {
        return Finding::ok(WHAT, "none in the configuration");
    }
    Finding::ok(WHAT, format!("readable by {name}"))
}

/// What lies in the way to `file`, and the right that is missing there. One that does not exist is a
/// matter of `pombal check`.
fn closed(machine: &Machine, file: &Path, user: &Account) -> Option<(PathBuf, u32)> {
    // Links are followed: what counts is where they lead.
    let real = std::fs::canonicalize(machine.below(file)).ok()?;
    let root = std::fs::canonicalize(&machine.root).ok()?;
    let inner = |path: &Path| Path::new("/").join(path.strip_prefix(&root).unwrap_or(path));
    let mut above: Vec<&Path> =
        real.ancestors().skip(1).take_while(|dir| dir.starts_with(&root)).collect();
    above.reverse();
    // The root directory itself is everybody's.
    let ways = above.into_iter().skip(1).map(|dir| (dir, 1));
    for (path, bit) in ways.chain([(real.as_path(), 4)]) {
        let found = std::fs::metadata(path).ok()?;
        if !user.may(&found, bit) {
            return Some((inner(path), bit));
        }
    }
    None
}
