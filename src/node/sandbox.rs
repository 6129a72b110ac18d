//! Keeps the running server from every file that is not its business (Landlock).
//!
//! From here on the process reads and writes below `data_dir` and `store.directories`, reads configuration and certificates
//! and the little that libraries ask the system for, runs no program, binds no further TCP port, and
//! signals nobody else. What a path leads to counts, not its name, so directories are given: a file
//! that is replaced by another (certificates are, at each renewal) stays readable.
//!
//! Landlock is asked where the kernel opens a file, for calls and for rings alike (a test below); the
//! kernel's threads of a ring stay who started them, so rings are made after this. No seccomp here: docs/decisions/0016-privileges.md says why.

use crate::cli::Failure;
use crate::config::{Config, Sandbox};
use crate::probe::event::{Level, event};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, RestrictionStatus,
    Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
    path_beneath_rules,
};
use std::path::{Path, PathBuf};

/// What is asked for; an older kernel gives what it has. 6: files, TCP ports, signals (Linux 6.12).
const WANTED: ABI = ABI::V6;

/// What libraries read on the way: names and addresses, certificates of authorities, modules of the
/// C library, the machine's disks and processors, this process.
const SYSTEM: [&str; 24] = [
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/lib",
    "/lib64",
    "/proc/self",
    "/proc/sys",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/run/systemd/resolve",
    "/sys",
    "/usr/lib",
    "/usr/local/share/ca-certificates",
    "/usr/share/ca-certificates",
];
const DEVICES: [&str; 2] = ["/dev/null", "/dev/urandom"];

/// What was reached; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// Landlock of this level holds, in full or as far as the kernel knows it.
    Landlock { abi: i32, in_full: bool },
    /// The kernel has no Landlock, or it was not switched on at boot.
    Nothing,
    /// The configuration says so.
    Off,
}

impl Reached {
    pub(super) fn tell(self) {
        match self {
            Reached::Landlock { abi, in_full } => {
                let abi = u64::try_from(abi).unwrap_or_default();
                let fields = [("landlock", abi.into()), ("in_full", in_full.into())];
                event(Level::Info, "sandbox", &fields);
            }
            Reached::Nothing => {
                let why = "this kernel has no Landlock, or `lsm=` leaves it out";
                event(Level::Warn, "no_sandbox", &[("why", why.into())]);
            }
            Reached::Off => {
                event(Level::Warn, "no_sandbox", &[("why", "sandbox = \"off\"".into())]);
            }
        }
    }
}

/// Shuts this thread in, and all that it starts. `source` is the configuration's file, where there
/// is one; `data_dir` must be there, and those of `store.directories` that are to be used. To be called after the ports are bound and before the first
/// thread is started.
pub(super) fn enter(config: &Config, source: Option<&Path>) -> Result<Reached, Failure> {
    if config.sandbox == Sandbox::Off {
        return Ok(Reached::Off);
    }
    // Mail and keys are in its memory: no core dumps, no debugger of the same user.
    nix::sys::prctl::set_dumpable(false).map_err(|error| Failure::Failed(error.to_string()))?;
    let own: Vec<&Path> = source.into_iter().chain(config.certificate_files()).collect();
    let stores: Vec<&Path> = config.store_directories().collect();
    let status = restrict(&stores, &readable(&own))
        .map_err(|error| Failure::Failed(format!("the sandbox cannot be set up: {error}")))?;
    let reached = reached(&status);
    if reached == Reached::Nothing && config.sandbox == Sandbox::Required {
        return Err(Failure::Failed(
            "`sandbox` is \"required\", and this kernel has no Landlock, or leaves it out (`cat \
             /sys/kernel/security/lsm`): boot with `lsm=landlock,…`, or set \"best-effort\""
                .into(),
        ));
    }
    Ok(reached)
}

fn reached(status: &RestrictionStatus) -> Reached {
    match (&status.ruleset, &status.landlock) {
        (RulesetStatus::NotEnforced, _) => Reached::Nothing,
        (ruleset, LandlockStatus::Available { effective_abi, kernel_abi }) => Reached::Landlock {
            abi: kernel_abi.unwrap_or(*effective_abi as i32),
            in_full: *ruleset == RulesetStatus::FullyEnforced,
        },
        _ => Reached::Nothing,
    }
}

/// The directories of `files`, and those of what they are links to.
fn readable(files: &[&Path]) -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    for file in files {
        let target = std::fs::canonicalize(file).ok();
        for path in [Some(*file), target.as_deref()].into_iter().flatten() {
            let dir = match path.parent() {
                Some(dir) if dir != Path::new("") => dir,
                _ => Path::new("."),
            };
            dirs.push(dir.to_owned());
        }
    }
    dirs.sort();
    dirs.dedup();
    dirs
}

fn restrict(stores: &[&Path], readable: &[PathBuf]) -> Result<RestrictionStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let device = AccessFs::ReadFile | AccessFs::WriteFile;
    let strange = AccessFs::Execute
        | AccessFs::MakeChar
        | AccessFs::MakeBlock
        | AccessFs::MakeFifo
        | AccessFs::MakeSym
        | AccessFs::IoctlDev;
    let own: BitFlags<AccessFs> = AccessFs::from_all(WANTED) & !strange;
    // What is not there cannot be read and is passed over.
    Ruleset::default()
        .handle_access(AccessFs::from_all(WANTED))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(WANTED))?
        .create()?
        .add_rules(path_beneath_rules(stores, own))?
        .add_rules(path_beneath_rules(readable, read))?
        .add_rules(path_beneath_rules(SYSTEM, read))?
        .add_rules(path_beneath_rules(DEVICES, device))?
        // Any free port: what a connection goes out from.
        .add_rule(NetPort::new(0, AccessNet::BindTcp))?
        .restrict_self()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env as _;
    use crate::env::ring;
    use std::io::ErrorKind;
    use std::net::TcpListener;
    use std::sync::mpsc::channel;

    /// What a shard and a plain thread find, both started by a thread that is shut in.
    #[test]
    fn neither_the_ring_nor_a_call_gets_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let [inside, config, outside] = ["inside", "config", "outside"].map(|name| {
            let dir = dir.path().join(name);
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join("file"), vec![7; 4_096]).unwrap();
            dir
        });
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        drop(taken);
        // Only the thread that asks is shut in, and what it starts: not the other tests.
        let shut_in = std::thread::Builder::new().spawn(move || {
            let status = restrict(&[&inside], &readable(&[&config.join("file")])).unwrap();
            if reached(&status) == Reached::Nothing {
                println!("skipped: this kernel has no Landlock");
                return;
            }
            let denied = |error: &std::io::Error| error.kind() == ErrorKind::PermissionDenied;
            std::fs::read(config.join("file")).unwrap();
            std::fs::write(inside.join("more"), "x").unwrap();
            assert!(std::fs::write(config.join("more"), "x").is_err_and(|error| denied(&error)));
            assert!(std::fs::read(outside.join("file")).is_err_and(|error| denied(&error)));
            let run = std::process::Command::new("/bin/true").status();
            assert!(run.is_err_and(|error| denied(&error)), "no program runs");
            if matches!(reached(&status), Reached::Landlock { abi: 4.., .. }) {
                let bound = TcpListener::bind(("127.0.0.1", port));
                assert!(bound.is_err_and(|error| denied(&error)), "no other port");
                TcpListener::bind(("127.0.0.1", 0)).unwrap();
            }
            let (tell, told) = channel();
            let shards = ring::start(1, ring::Settings::default(), move |env| {
                let (tell, inside, outside) = (tell.clone(), inside.clone(), outside.clone());
                async move {
                    let open = async |path: PathBuf| env.open(&path).await.map(drop);
                    tell.send(("inside", open(inside.join("file")).await)).unwrap();
                    tell.send(("outside", open(outside.join("file")).await)).unwrap();
                    let made = env.create(&outside.join("new"), 4_096).await.map(drop);
                    tell.send(("new", made)).unwrap();
                    let link = inside.join("link");
                    std::os::unix::fs::symlink(outside.join("file"), &link).unwrap_err();
                    std::fs::hard_link(outside.join("file"), &link).unwrap_err();
                }
            });
            shards.unwrap().wait();
            let opened: Vec<_> = told.iter().collect();
            assert_eq!(opened.len(), 3);
            for (which, result) in opened {
                match which {
                    "inside" => result.unwrap(),
                    _ => assert!(denied(&result.unwrap_err()), "{which}"),
                }
            }
        });
        shut_in.unwrap().join().unwrap();
    }

    #[test]
    fn what_is_read_again_lies_in_directories() {
        let dir = tempfile::tempdir().unwrap();
        let (live, archive) = (dir.path().join("live"), dir.path().join("archive"));
        std::fs::create_dir(&live).unwrap();
        std::fs::create_dir(&archive).unwrap();
        std::fs::write(archive.join("key1.pem"), "").unwrap();
        std::os::unix::fs::symlink(archive.join("key1.pem"), live.join("key.pem")).unwrap();
        let dirs = readable(&[Path::new("pombal.toml"), &live.join("key.pem")]);
        assert!(dirs.contains(&live) && dirs.contains(&PathBuf::from(".")), "{dirs:?}");
        assert!(dirs.contains(&std::fs::canonicalize(archive).unwrap()), "{dirs:?}");
    }
}
