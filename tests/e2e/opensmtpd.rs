//! An OpenSMTPD of one's own: on a port of its own, with a maildir for each user of opensmtpd.example. What is
//! for others it hands to one server by TLS.

use crate::cell::{Cell, NOBODY, write_certificate};
use crate::harness::Port;
use crate::peers::{MANY, Peer};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// Going out of scope ends it.
pub(crate) struct OpenSmtpd {
    cell: Cell,
    port: Port,
}

impl OpenSmtpd {
    /// None where it cannot be.
    pub(crate) fn start(port: Port, relay: u16) -> Option<OpenSmtpd> {
        let mut cell = Cell::new("opensmtpd")?;
        cell.user("opensmtpd");
        cell.user("opensmtpq");
        let mail = cell.directory("mail", NOBODY);
        cell.directory("mail/many", NOBODY);
        for number in 0..MANY {
            symlink("many", mail.join(format!("r{number}"))).unwrap();
        }
        let etc = cell.directory("etc", 0);
        write_certificate(&etc, "mx.opensmtpd.example");
        fs::write(etc.join("smtpd.conf"), OpenSmtpd::configuration(&cell, port.number, relay))
            .unwrap();
        // Its places are built in.
        cell.directory("lib/opensmtpd/empty", 0);
        for (name, at) in [("lib", "/var/lib"), ("spool", "/var/spool"), ("run", "/run")] {
            cell.directory(name, 0);
            cell.mount(name, at);
        }
        cell.mount_unpacked("usr/libexec", "/usr/libexec");
        let program = cell.unpacked("usr/sbin/smtpd");
        let config = etc.join("smtpd.conf");
        let (program, config) = (program.to_str().unwrap(), config.to_str().unwrap());
        // What it is told, in its log.
        cell.start(&[program, "-dF", "-T", "smtp", "-f", config], &port);
        Some(OpenSmtpd { cell, port })
    }

    fn configuration(cell: &Cell, port: u16, relay: u16) -> String {
        let mut users = String::new();
        let many = (0..MANY).map(|number| format!("r{number}"));
        for user in ["a", "b", "и"].map(str::to_owned).into_iter().chain(many) {
            let comma = if users.is_empty() { "" } else { ", " };
            write!(users, "{comma}\"{user}@opensmtpd.example\" = \"nobody\"").unwrap();
        }
        let (etc, mail) = (cell.path("etc"), cell.path("mail"));
        let (etc, mail) = (etc.display(), mail.display());
        format!(
            "pki ours cert \"{etc}/chain.pem\"\n\
             pki ours key \"{etc}/key.pem\"\n\
             smtp max-message-size \"20M\"\n\
             table users {{ {users} }}\n\
             listen on 127.0.0.1 port {port} tls pki ours hostname mx.opensmtpd.example\n\
             action here maildir \"{mail}/%{{rcpt.user}}\" virtual <users>\n\
             action away relay host smtp+tls://127.0.0.1:{relay} tls no-verify helo mx.opensmtpd.example\n\
             match from any for domain opensmtpd.example action here\n\
             match from local for any action away\n"
        )
    }
}

impl Peer for OpenSmtpd {
    fn domain(&self) -> &'static str {
        "opensmtpd.example"
    }

    fn port(&self) -> u16 {
        self.port.number
    }

    fn maildir(&self, user: &str) -> PathBuf {
        self.cell.path("mail").join(user)
    }

    fn log(&self) -> String {
        self.cell.log()
    }
}
