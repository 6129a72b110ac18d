//! A server of one's own: its directory, its ports, its process.
//!
//! Ports lie below those that the kernel gives to connections, so that none is taken by a client
//! while the server is down between two lives. Each is held by a UDP socket of the same number as
//! long as the server exists: tests that run side by side never get the same, although
//! SO_REUSEPORT would let two servers share it.

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use std::time::Duration;
use tempfile::TempDir;

/// Longer than anything takes on a slow machine: what a hang is told by.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) const PASSWORD: &str = "secret";

/// Below the range that connections come from (`net.ipv4.ip_local_port_range`).
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// A port that is ours.
pub(crate) struct Port {
    pub(crate) number: u16,
    _held: UdpSocket,
}

impl Port {
    pub(crate) fn find() -> Port {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let span = PORTS.end - PORTS.start;
        let first = u16::try_from(std::process::id().wrapping_mul(7) % u32::from(span)).unwrap();
        for _ in 0..span {
            let offset = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = PORTS.start + (first.wrapping_add(offset)) % span;
            let Ok(held) = UdpSocket::bind(("127.0.0.1", number)) else { continue };
            if TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Port { number, _held: held };
            }
        }
        panic!("no port is free");
    }
}

impl Port {
    /// The number alone, for a program that takes UDP there too.
    pub(crate) fn release(self) -> u16 {
        self.number
    }
}

/// One life of a server.
struct Life {
    child: Child,
    /// Says once that it is ready; ends with the process.
    ready: Receiver<()>,
}

/// A server with its directory. Going out of scope ends the process and removes the directory.
pub(crate) struct Server {
    dir: TempDir,
    smtp: Port,
    lmtp: Port,
    submission: Port,
    pop3: Port,
    imap: Port,
    submissions: Port,
    pop3s: Port,
    imaps: Port,
    admin: Port,
    /// What its process finds in its environment, besides.
    env: Vec<(&'static str, String)>,
    life: Option<Life>,
}

impl Server {
    /// Sets a server up, with `extra` lines at the end of its configuration; it is not running.
    pub(crate) fn set_up(extra: &str) -> Server {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Server::set_up_in(dir, "", extra)
    }

    /// The same in a directory that all users of the machine get to; `top` are keys without a table.
    pub(crate) fn set_up_openly(top: &str, extra: &str) -> Server {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).unwrap();
        Server::set_up_in(dir, top, extra)
    }

    fn set_up_in(dir: TempDir, top: &str, extra: &str) -> Server {
        let server = Server {
            smtp: Port::find(),
            lmtp: Port::find(),
            submission: Port::find(),
            pop3: Port::find(),
            imap: Port::find(),
            submissions: Port::find(),
            pop3s: Port::find(),
            imaps: Port::find(),
            admin: Port::find(),
            env: Vec::new(),
            life: None,
            dir,
        };
        fs::create_dir(server.data_dir()).unwrap();
        fs::write(server.config(), format!("{top}{}", server.configuration(extra))).unwrap();
        server
    }

    /// A running server that takes mail for `users` at local.example.
    pub(crate) fn with_users(extra: &str, users: &[&str]) -> Server {
        let mut server = Server::set_up(extra);
        // While it is stopped, then while it runs: both ways are ways that operators go.
        server.pombal(&["domain", "add", "local.example"], "");
        if let Some((first, others)) = users.split_first() {
            server.add_user(first);
            server.start();
            for user in others {
                server.add_user(user);
            }
        } else {
            server.start();
        }
        server
    }

    fn configuration(&self, extra: &str) -> String {
        let Server { smtp, lmtp, submission, pop3, imap, admin, .. } = self;
        let (smtp, lmtp, submission) = (smtp.number, lmtp.number, submission.number);
        let (pop3, imap) = (pop3.number, imap.number);
        // An `extra` table may come twice: its keys are put into the one that is here.
        let mut text = format!(
            "hostname = \"mx.local.example\"\n\
             data_dir = \"{}\"\n\
             shards = 2\n\
             [listen]\n\
             smtp = [\"127.0.0.1:{smtp}\"]\n\
             lmtp = [\"127.0.0.1:{lmtp}\"]\n\
             submission = [\"127.0.0.1:{submission}\"]\n\
             pop3 = [\"127.0.0.1:{pop3}\"]\n\
             imap = [\"127.0.0.1:{imap}\"]\n\
             submissions = [\"127.0.0.1:{}\"]\n\
             pop3s = [\"127.0.0.1:{}\"]\n\
             imaps = [\"127.0.0.1:{}\"]\n\
             admin = \"127.0.0.1:{}\"\n\
             [store]\n\
             segment_size = \"8M\"\n\
             cache_size = \"4M\"\n\
             checkpoint_size = \"16M\"\n\
             checkpoint_interval = \"2s\"\n",
            self.data_dir().display(),
            self.submissions.number,
            self.pop3s(),
            self.imaps(),
            admin.number,
        );
        if !extra.contains("[smtp]") {
            text.push_str("[smtp]\nmax_message_size = \"4M\"\n");
        }
        if !extra.contains("[limits]") {
            text.push_str("[limits]\nconnections_per_address = 0\n");
        }
        if !extra.contains("[auth]") {
            text.push_str("[auth]\nallow_plaintext = true\n");
            text.push_str("argon2_memory = \"8K\"\nargon2_passes = 1\n");
        }
        if !extra.contains("[dns]") {
            // Nobody out there is asked.
            text.push_str("[dns]\nservers = [\"127.0.0.1:1\"]\ntimeout = \"1s\"\n");
        }
        text.push_str(extra);
        text
    }

    pub(crate) fn smtp(&self) -> u16 {
        self.smtp.number
    }

    pub(crate) fn lmtp(&self) -> u16 {
        self.lmtp.number
    }

    pub(crate) fn submission(&self) -> u16 {
        self.submission.number
    }

    pub(crate) fn pop3(&self) -> u16 {
        self.pop3.number
    }

    pub(crate) fn imap(&self) -> u16 {
        self.imap.number
    }

    /// What `/metrics` says of one figure, summed over its labels.
    pub(crate) fn figure(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin.number)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let of = |line: &str| {
            let rest = line.strip_prefix(name)?.trim_start();
            let rest = if rest.starts_with('{') { rest.split_once('}')?.1 } else { rest };
            rest.trim().parse::<u64>().ok()
        };
        text.lines().filter_map(of).sum()
    }

    pub(crate) fn submissions(&self) -> u16 {
        self.submissions.number
    }

    pub(crate) fn pop3s(&self) -> u16 {
        self.pop3s.number
    }

    pub(crate) fn imaps(&self) -> u16 {
        self.imaps.number
    }

    pub(crate) fn admin(&self) -> u16 {
        self.admin.number
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("pombal.toml")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Starts the process and waits until it says that it is ready.
    pub(crate) fn start(&mut self) {
        assert!(self.life.is_none(), "it runs already");
        let mut child = Command::new(env!("CARGO_BIN_EXE_pombal"))
            .arg("--config")
            .arg(self.config())
            .arg("serve")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        let mut log = File::options().create(true).append(true).open(self.log()).unwrap();
        writeln!(log, "---- process {}", child.id()).unwrap();
        let (tell, ready) = bounded(4);
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || {
                for line in lines.split(b'\n').map_while(Result::ok) {
                    let text = String::from_utf8_lossy(&line);
                    if text.split(' ').any(|word| word == "event=ready") {
                        // Whoever started it may have given up.
                        let _ = tell.send(());
                    }
                    writeln!(log, "{text}").unwrap();
                }
            })
            .unwrap();
        let waited = ready.recv_timeout(PATIENCE);
        self.life = Some(Life { child, ready });
        assert_eq!(waited, Ok(()), "the server did not get ready");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.life.as_ref().expect("it runs").child.id()
    }

    /// Ends the process without a chance to do anything.
    pub(crate) fn kill9(&mut self) {
        let mut life = self.life.take().expect("it runs");
        life.child.kill().unwrap();
        let status = life.child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "it died before: {status}\n{}", self.log_tail());
    }

    /// SIGTERM; waits for the end, which must be a good one.
    pub(crate) fn stop(&mut self) {
        let status = self.terminate().expect("it runs");
        assert!(status.success(), "it ended with {status}\n{}", self.log_tail());
    }

    pub(crate) fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// SIGTERM, and no more; [`Server::stop`] waits for the end.
    pub(crate) fn tell_to_stop(&self) {
        self.signal("-TERM");
    }

    fn signal(&self, name: &str) {
        let Some(life) = &self.life else { return };
        // Not waited for yet, so the number is its own.
        let pid = life.child.id().to_string();
        let told = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(told.success(), "{name}");
    }

    /// From the next start on.
    pub(crate) fn set_env(&mut self, name: &'static str, value: &str) {
        self.env.push((name, value.into()));
    }

    /// Changes what stands in the configuration.
    pub(crate) fn edit(&self, from: &str, to: impl Fn(&str) -> String) {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(self.config(), text.replace(from, &to(from))).unwrap();
    }

    /// Puts `to` for `from` in the configuration and sends SIGHUP; what the server logs of it, up
    /// to a line with `event=reload…`.
    pub(crate) fn reload(&self, from: &str, to: &str) -> String {
        self.edit(from, |_| to.into());
        self.reload_as_it_is()
    }

    pub(crate) fn reload_as_it_is(&self) -> String {
        let before = fs::read(self.log()).unwrap().len();
        self.signal("-HUP");
        loop {
            let log = fs::read(self.log()).unwrap();
            let new = String::from_utf8_lossy(&log[before..]).into_owned();
            if new.lines().any(|line| line.contains("event=reload")) && new.ends_with('\n') {
                return new;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    fn terminate(&mut self) -> Option<ExitStatus> {
        self.tell_to_stop();
        let mut life = self.life.take()?;
        while life.ready.recv_timeout(PATIENCE) == Ok(()) {}
        if life.ready.recv_timeout(Duration::ZERO) == Err(RecvTimeoutError::Timeout) {
            life.child.kill().unwrap();
        }
        Some(life.child.wait().unwrap())
    }

    /// Panics where the process ended by itself.
    pub(crate) fn assert_alive(&mut self) {
        let life = self.life.as_mut().expect("it runs");
        if let Some(status) = life.child.try_wait().unwrap() {
            panic!("the server ended with {status}\n{}", self.log_tail());
        }
    }

    /// Runs an operator's command against this server, and demands that it works.
    pub(crate) fn pombal(&self, words: &[&str], input: &str) -> String {
        let output = self.try_pombal(words, input);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "pombal {}: {said}", words.join(" "));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn try_pombal(&self, words: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pombal"))
            .arg("--config")
            .arg(self.config())
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that refuses early does not read its input.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        child.wait_with_output().unwrap()
    }

    /// Waits until the server has logged a line with all of these in it; the line.
    #[expect(clippy::disallowed_methods, reason = "no shard stops, only this test")]
    pub(crate) fn await_log(&self, words: &[&str]) -> String {
        const PAUSE: Duration = Duration::from_millis(5);
        for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            let found = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
            if let Some(line) = found {
                return line.into();
            }
            std::thread::sleep(PAUSE);
        }
        panic!("{words:?} was never logged");
    }

    /// Holds the process, and lets it go on: what is sent meanwhile has all arrived by then.
    pub(crate) fn hold(&self, on: bool) {
        let signal = if on { "-STOP" } else { "-CONT" };
        let pid = self.pid().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(status.success());
    }

    pub(crate) fn add_user(&self, user: &str) {
        self.add_user_with(user, PASSWORD);
    }

    pub(crate) fn add_user_with(&self, user: &str, password: &str) {
        let address = format!("{user}@local.example");
        self.pombal(&["user", "add", &address, "--password-stdin"], &format!("{password}\n"));
    }

    /// A user by the whole address, who may keep so many KiB.
    pub(crate) fn add_user_with_quota(&self, address: &str, quota_kib: Option<u64>) {
        let mut words = vec!["user", "add", address, "--password-stdin"];
        let quota = quota_kib.map(|kib| (kib * 1024).to_string());
        if let Some(quota) = &quota {
            words.extend(["--quota", quota]);
        }
        self.pombal(&words, &format!("{PASSWORD}\n"));
    }

    /// A figure of the process in KiB, such as `VmRSS` or `VmHWM`.
    pub(crate) fn memory_kib(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Lines of the log that have all of these words.
    pub(crate) fn logged(&self, words: &[&str]) -> usize {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }

    fn log_tail(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(6_000)..];
        format!("---- the end of the server's log\n{}", String::from_utf8_lossy(tail))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.log_tail());
            if let Some(life) = &mut self.life {
                drop(life.child.kill());
                drop(life.child.wait());
            }
        } else {
            self.terminate();
        }
    }
}
