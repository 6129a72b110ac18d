//! A Dovecot as a daemon over the mail of a [`Dovecot`]: IMAP and POP3 on loopback, with TLS and logins.

use crate::dovecot::Dovecot;
use crate::harness::{PATIENCE, Port};
use rcgen::{CertificateParams, KeyPair};
use std::fs;
use std::io::Read as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The password of everybody there.
pub(crate) const THERE: &str = "pass word\\\"there";
/// That of masters, who log in as USER*MASTER.
pub(crate) const MASTERS: &str = "of-masters";
/// What the certificate is for.
pub(crate) const HOST: &str = "localhost";

/// See the header. Going out of scope ends it.
pub(crate) struct Daemon {
    child: Child,
    dir: PathBuf,
    pub(crate) imap: Port,
    pub(crate) imaps: Port,
    pub(crate) pop3: Port,
    pub(crate) pop3s: Port,
}

impl Daemon {
    /// Begins to serve; `more` are lines of its configuration.
    pub(crate) fn new(dovecot: &Dovecot, more: &str) -> Daemon {
        let dir = dovecot.dir().to_owned();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap().pem();
        fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
        fs::write(dir.join("certificate.pem"), certificate).unwrap();
        fs::write(dir.join("password"), format!("{THERE}\n")).unwrap();
        fs::write(dir.join("masters"), format!("{MASTERS}\n")).unwrap();
        let (imap, imaps, pop3, pop3s) = (Port::find(), Port::find(), Port::find(), Port::find());
        let ports = [imap.number, imaps.number, pop3.number, pop3s.number];
        let path = dir.join("daemon.conf");
        fs::write(&path, configuration(dovecot, ports, more)).unwrap();
        let child = Command::new("/usr/sbin/dovecot")
            .args(["-F", "-c"])
            .arg(&path)
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut daemon = Daemon { child, dir, imap, imaps, pop3, pop3s };
        daemon.wait();
        daemon
    }

    /// Until it greets.
    fn wait(&mut self) {
        const PAUSE: Duration = Duration::from_millis(20);
        for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
            let greeted = TcpStream::connect(("127.0.0.1", self.imap.number))
                .is_ok_and(|mut it| it.read(&mut [0; 9]).is_ok_and(|octets| octets > 0));
            if greeted {
                return;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "{}", self.log());
            std::thread::park_timeout(PAUSE);
        }
        panic!("Dovecot does not get ready: {}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("daemon.log")).unwrap_or_default()
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It takes its processes along.
        drop(Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status());
        drop(self.child.wait());
        if std::thread::panicking() {
            println!("{}", self.log());
        }
    }
}

fn configuration(dovecot: &Dovecot, ports: [u16; 4], more: &str) -> String {
    let (dir, user) = (dovecot.dir().display(), dovecot.user());
    let [imap, imaps, pop3, pop3s] = ports;
    let base = fs::read_to_string(dovecot.dir().join("dovecot.conf")).unwrap();
    let location = base.lines().find(|line| line.starts_with("mail_location")).unwrap();
    let listener = |name: &str, port: u16| format!("inet_listener {name} {{\nport = {port}\n}}\n");
    format!(
        "protocols = imap pop3\nbase_dir = {dir}/daemon\nlisten = 127.0.0.1\n{location}\n\
         ssl = yes\nssl_cert = <{dir}/certificate.pem\nssl_key = <{dir}/key.pem\n\
         first_valid_uid = 1\nfirst_valid_gid = 0\nlog_path = {dir}/daemon.log\n\
         auth_mechanisms = plain login\nauth_master_user_separator = *\n\
         auth_failure_delay = 0\n\
         passdb {{\ndriver = static\nargs = password={MASTERS}\nmaster = yes\n\
         result_success = continue\n}}\n\
         passdb {{\ndriver = passwd-file\nargs = scheme=PLAIN username_format=%n {dir}/users\n}}\n\
         userdb {{\ndriver = static\nargs = uid={user} gid={user} home={dir}/user\n}}\n\
         service imap-login {{\n{}{}}}\nservice pop3-login {{\n{}{}}}\n{more}",
        listener("imap", imap),
        listener("imaps", imaps),
        listener("pop3", pop3),
        listener("pop3s", pop3s),
    )
}
