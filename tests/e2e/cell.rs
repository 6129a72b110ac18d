//! A mail server that others wrote, unpacked by `tests/e2e/peers.sh` beside the build, in namespaces of its own:
//! directories of its test lie where it looks for its own, its users are there, and all of its processes end
//! with it. Nothing outside of its directory is written.
//!
//! Needs root and namespaces. Without them, or without the program, its tests are skipped aloud; that the
//! program is missing, or that this is not root, is a failure with `CLIENTS_REQUIRED=1`.

use crate::clients::required;
use crate::harness::{PATIENCE, Port};
use rcgen::{CertificateParams, KeyPair};
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// A user of the system; owns nothing but mailboxes here.
pub(crate) const NOBODY: u32 = 65_534;

/// The first number of its users, who live in its namespaces only.
const FIRST_USER: u32 = 60_900;

/// Whether it comes true before patience ends.
#[expect(clippy::disallowed_methods, reason = "no shard stops, only this test")]
pub(crate) fn comes_true(is_so: impl Fn() -> bool) -> bool {
    const PAUSE: Duration = Duration::from_millis(20);
    (0..PATIENCE.as_millis() / PAUSE.as_millis()).any(|_| {
        let is_so = is_so();
        if !is_so {
            std::thread::sleep(PAUSE);
        }
        is_so
    })
}

/// Waits for so many mails in a maildir, and takes them.
pub(crate) fn take_mails(maildir: &Path, count: usize) -> Option<Vec<Vec<u8>>> {
    let new = maildir.join("new");
    let list = || -> Vec<PathBuf> {
        let files = fs::read_dir(&new).into_iter().flatten().flatten();
        files.map(|file| file.path()).collect()
    };
    if !comes_true(|| list().len() >= count) {
        return None;
    }
    let take = |file: PathBuf| {
        let mail = fs::read(&file).unwrap();
        fs::remove_file(file).unwrap();
        mail
    };
    Some(list().into_iter().map(take).collect())
}

/// Writes a key and a certificate for a host: `chain.pem` and `key.pem`, and both in `both.pem`.
pub(crate) fn write_certificate(dir: &Path, host: &str) {
    let key = KeyPair::generate().unwrap();
    let chain = CertificateParams::new(vec![host.into()]).unwrap().self_signed(&key).unwrap().pem();
    fs::write(dir.join("chain.pem"), &chain).unwrap();
    fs::write(dir.join("both.pem"), format!("{}{chain}", key.serialize_pem())).unwrap();
    fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    fs::set_permissions(dir.join("key.pem"), Permissions::from_mode(0o600)).unwrap();
}

/// Where it is to run, and then where it runs. Going out of scope ends it and removes the directory.
pub(crate) struct Cell {
    dir: TempDir,
    unpacked: PathBuf,
    users: u32,
    mounts: Vec<(PathBuf, &'static str)>,
    child: Option<Child>,
}

impl Cell {
    /// A directory for the program that was unpacked under this name; none where it cannot be.
    pub(crate) fn new(name: &str) -> Option<Cell> {
        let unpacked = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../peers").join(name);
        if !unpacked.is_dir() {
            let why = format!("{name} is not there; tests/e2e/peers.sh {}", unpacked.display());
            assert!(!required(), "{why}");
            println!("skipped: {why}");
            return None;
        }
        if !nix::unistd::geteuid().is_root() {
            assert!(!required(), "{name} is started by root alone");
            println!("skipped: {name} is started by root alone");
            return None;
        }
        let namespaces = ["--mount", "--pid", "--fork", "true"];
        let tried = Command::new("unshare").args(namespaces).stderr(Stdio::null()).status();
        if !tried.is_ok_and(|status| status.success()) {
            println!("skipped: namespaces are not to be had");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let mut cell = Cell { dir, unpacked, users: 0, mounts: Vec::new(), child: None };
        for file in ["passwd", "group"] {
            let at = cell.dir.path().join(file);
            fs::copy(Path::new("/etc").join(file), &at).unwrap();
            cell.mounts.push((at, if file == "passwd" { "/etc/passwd" } else { "/etc/group" }));
        }
        Some(cell)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a directory in it, and tells where.
    pub(crate) fn directory(&self, name: &str, owner: u32) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        chown(&path, Some(owner), Some(owner)).unwrap();
        path
    }

    /// A user and a group of this name, instead of those that may be there.
    pub(crate) fn user(&mut self, name: &str) -> u32 {
        let number = FIRST_USER + self.users;
        self.users += 1;
        let lines = [
            ("passwd", format!("{name}:x:{number}:{number}::/nonexistent:/bin/false\n")),
            ("group", format!("{name}:x:{number}:\n")),
        ];
        for (file, line) in lines {
            let text = fs::read_to_string(self.path(file)).unwrap();
            let others =
                text.split_inclusive('\n').filter(|other| !other.starts_with(&format!("{name}:")));
            let others: String = others.collect();
            fs::write(self.path(file), line + &others).unwrap();
        }
        number
    }

    /// A directory of the cell lies there for what runs in it.
    pub(crate) fn mount(&mut self, name: &str, at: &'static str) {
        self.mounts.push((self.path(name), at));
    }

    /// What was unpacked lies in the cell itself: those who have no rights get there.
    fn program(&self) -> PathBuf {
        self.path("program")
    }

    /// A file of what was unpacked, as it is called in the cell.
    pub(crate) fn unpacked(&self, name: &str) -> PathBuf {
        self.program().join(name)
    }

    /// A directory of what was unpacked lies there, too.
    pub(crate) fn mount_unpacked(&mut self, name: &str, at: &'static str) {
        self.mounts.push((self.unpacked.join(name), at));
    }

    /// Starts it, and waits until it takes connections.
    pub(crate) fn start(&mut self, command: &[&str], port: &Port) {
        self.directory("program", 0);
        let mut script = String::from("set -eu\n");
        let mut mount = |from: &Path, at: &Path| {
            writeln!(script, "mount --bind '{}' '{}'", from.display(), at.display()).unwrap();
        };
        mount(&self.unpacked, &self.program());
        for (from, at) in &self.mounts {
            mount(from, Path::new(at));
        }
        // The first process of its namespace: with it all others end, and it ends with whoever holds its input.
        let log = self.path("log");
        writeln!(script, "\"$@\" </dev/null >'{}' 2>&1 &\nread -r _ || true", log.display())
            .unwrap();
        let file = self.path("start.sh");
        fs::write(&file, script).unwrap();
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--pid", "--mount-proc", "--fork", "sh"])
            .arg(file)
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let listens = || TcpStream::connect(("127.0.0.1", port.number)).is_ok();
        assert!(comes_true(listens), "{} does not listen: {}", command[0], self.log());
    }

    /// What it said.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(self.path("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        // Then it is told that its input is over, and nothing of it is left when it has ended.
        drop(child.stdin.take());
        drop(child.wait());
    }
}
