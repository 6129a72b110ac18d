//! A Postfix of one's own: in a directory of its own, on a port of its own, with a maildir for each
//! user of postfix.example. What is for others it hands to one server by TLS, if to any.

use crate::cell::{NOBODY, comes_true, take_mails, write_certificate};
use crate::harness::Port;
use crate::peers::{MANY, Peer};
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// Going out of scope stops it and removes the directory.
pub(crate) struct Postfix {
    dir: TempDir,
    port: Port,
    relay: Option<u16>,
}

fn skip(why: &str) -> Option<Postfix> {
    let required = std::env::var_os("CLIENTS_REQUIRED").is_some_and(|set| set == "1");
    assert!(!required, "{why}");
    println!("skipped: {why}");
    None
}

pub(crate) fn user_id(name: &str) -> Option<u32> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find_map(|line| line.strip_prefix(&format!("{name}:")))?;
    line.split(':').nth(1)?.parse().ok()
}

impl Postfix {
    /// Nothing where it is not installed, or where this is not root.
    pub(crate) fn start(port: Port) -> Option<Postfix> {
        Postfix::start_before(port, None)
    }

    /// The same, with a server for what is for others.
    pub(crate) fn start_before(port: Port, relay: Option<u16>) -> Option<Postfix> {
        let Some(owner) = user_id("postfix") else { return skip("Postfix is not installed") };
        if !nix::unistd::geteuid().is_root() {
            return skip("Postfix is started by root alone");
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let postfix = Postfix { dir, port, relay };
        for (name, uid) in [("etc", 0), ("spool", 0), ("data", owner), ("mail", NOBODY), ("log", 0)]
        {
            let path = postfix.path(name);
            fs::create_dir(&path).unwrap();
            chown(&path, Some(uid), None).unwrap();
        }
        postfix.write();
        let started = postfix.run("start");
        assert!(started.0, "Postfix does not start: {}", started.1);
        let listens = || TcpStream::connect(("127.0.0.1", postfix.port.number)).is_ok();
        assert!(comes_true(listens), "Postfix does not listen");
        Some(postfix)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self) {
        let etc = self.path("etc");
        write_certificate(&etc, "mx.postfix.example");
        let mut boxes =
            String::from("a@postfix.example a/\nb@postfix.example b/\nи@postfix.example и/\n");
        (0..MANY).for_each(|number| writeln!(boxes, "r{number}@postfix.example many/").unwrap());
        fs::write(etc.join("boxes"), boxes).unwrap();
        let (etc_text, dir) = (etc.display(), self.dir.path().display());
        let mut main = format!(
            "compatibility_level = 3.6\n\
             queue_directory = {dir}/spool\n\
             data_directory = {dir}/data\n\
             maillog_file = {dir}/log/mail.log\n\
             maillog_file_prefixes = {dir}\n\
             myhostname = mx.postfix.example\n\
             mydestination =\n\
             alias_maps =\n\
             inet_interfaces = 127.0.0.1\n\
             inet_protocols = ipv4\n\
             mynetworks = 127.0.0.0/8\n\
             disable_dns_lookups = yes\n\
             smtpd_peername_lookup = no\n\
             smtputf8_enable = yes\n\
             virtual_mailbox_domains = postfix.example\n\
             virtual_mailbox_base = {dir}/mail\n\
             virtual_mailbox_maps = texthash:{etc_text}/boxes\n\
             virtual_uid_maps = static:{NOBODY}\n\
             virtual_gid_maps = static:{NOBODY}\n\
             smtpd_tls_security_level = may\n\
             smtpd_tls_chain_files = {etc_text}/both.pem\n\
             smtpd_tls_session_cache_database =\n"
        );
        if let Some(relay) = self.relay {
            writeln!(main, "relayhost = [127.0.0.1]:{relay}\nsmtp_tls_security_level = encrypt")
                .unwrap();
        }
        fs::write(etc.join("main.cf"), main).unwrap();
        let port = self.port.number;
        let master = format!(
            "127.0.0.1:{port} inet n - n - 20 smtpd\n\
             postlog unix-dgram n - n - 1 postlogd\n\
             pickup unix n - n 60 1 pickup\n\
             cleanup unix n - n - 0 cleanup\n\
             qmgr unix n - n 300 1 qmgr\n\
             tlsmgr unix - - n 1000? 1 tlsmgr\n\
             rewrite unix - - n - - trivial-rewrite\n\
             bounce unix - - n - 0 bounce\n\
             defer unix - - n - 0 bounce\n\
             trace unix - - n - 0 bounce\n\
             proxymap unix - - n - - proxymap\n\
             error unix - - n - - error\n\
             retry unix - - n - - error\n\
             smtp unix - - n - - smtp -v\n\
             virtual unix - n n - - virtual\n\
             anvil unix - - n - 1 anvil\n"
        );
        fs::write(etc.join("master.cf"), master).unwrap();
    }

    /// Runs one of its commands; whether it went well, and what it said.
    fn run(&self, command: &str) -> (bool, String) {
        let output = Command::new("postfix").arg("-c").arg(self.path("etc")).arg(command).output();
        let output = output.expect("its user is there, so it is");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Waits for so many mails of a user, and takes them.
    pub(crate) fn take_mails(&self, user: &str, count: usize) -> Vec<Vec<u8>> {
        let mails = take_mails(&self.maildir(user), count);
        mails.unwrap_or_else(|| panic!("no mail of {user} came\n{}", self.log()))
    }
}

impl Peer for Postfix {
    fn domain(&self) -> &'static str {
        "postfix.example"
    }

    fn port(&self) -> u16 {
        self.port.number
    }

    fn maildir(&self, user: &str) -> PathBuf {
        self.path("mail").join(user)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log/mail.log")).unwrap_or_default()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        self.run("stop");
    }
}
