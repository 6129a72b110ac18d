//! A Dovecot without a daemon: `/usr/lib/dovecot/imap` on its standard input, logged in before it says a
//! word. Its mail lies in a directory of its own.

use crate::harness::PATIENCE;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const IMAP: &str = "/usr/lib/dovecot/imap";
const POP3: &str = "/usr/lib/dovecot/pop3";
/// Dovecot does nothing as root.
const NOBODY: u32 = 65_534;

/// See the header.
pub(crate) struct Dovecot {
    dir: TempDir,
    /// Whose mail it is.
    user: u32,
}

/// A message as IMAP tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) uid: u32,
    pub(crate) flags: BTreeSet<String>,
    pub(crate) date: String,
    pub(crate) octets: Vec<u8>,
}

/// A mailbox as IMAP tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) uidvalidity: u32,
    pub(crate) uidnext: u32,
    pub(crate) messages: Vec<Told>,
}

pub(crate) type Mailboxes = BTreeMap<String, Listed>;

impl Dovecot {
    /// `None` where it is not installed, unless `CLIENTS_REQUIRED` says that it has to be.
    pub(crate) fn new(location: &str) -> Option<Dovecot> {
        if !Path::new(IMAP).exists() || !Path::new(POP3).exists() {
            let required = std::env::var("CLIENTS_REQUIRED").is_ok_and(|value| value == "1");
            assert!(!required, "there is no Dovecot");
            println!("skipped: there is no Dovecot");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let user = match fs::metadata(dir.path()).unwrap().uid() {
            0 => NOBODY,
            user => user,
        };
        let dovecot = Dovecot { dir, user };
        fs::create_dir(dovecot.home()).unwrap();
        dovecot.give(&dovecot.home());
        dovecot.set_location(location);
        Some(dovecot)
    }

    /// Where mail lies; `~` is its home.
    pub(crate) fn set_location(&self, location: &str) {
        let (dir, user) = (self.dir.path().display(), self.user);
        let text = format!(
            "protocols = imap pop3\nbase_dir = {dir}/run\nssl = no\nmail_fsync = never\nmail_location = {location}\n\
             first_valid_uid = 1\nfirst_valid_gid = 0\nmail_uid = {user}\nmail_gid = {user}\n\
             log_path = {dir}/user/log\nstats_writer_socket_path =\n"
        );
        fs::write(self.dir.path().join("dovecot.conf"), text).unwrap();
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn user(&self) -> u32 {
        self.user
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("user")
    }

    /// Makes a tree its own.
    pub(crate) fn give(&self, path: &Path) {
        if fs::metadata(self.dir.path()).unwrap().uid() != 0 {
            return;
        }
        chown(path, Some(self.user), Some(self.user)).unwrap();
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                self.give(&entry.unwrap().path());
            }
        }
    }

    /// What runs a program of it, as a shell reads it.
    fn command_of(&self, program: &str) -> String {
        let (dir, user) = (self.dir.path().display(), self.user);
        let drop = match fs::metadata(self.dir.path()).unwrap().uid() {
            0 => format!("setpriv --reuid {user} --regid {user} --clear-groups "),
            _ => String::new(),
        };
        format!("{drop}env TZ=UTC USER=x HOME={dir}/user {program} -c {dir}/dovecot.conf")
    }

    pub(crate) fn command(&self) -> String {
        self.command_of(IMAP)
    }

    fn talk(&self, program: &str, script: &[u8]) -> Vec<u8> {
        let mut child = Command::new("sh")
            .args(["-c", &format!("exec timeout 60 {}", self.command_of(program))])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let script = script.to_vec();
        // Kept open: it ends where its input ends, whatever is still to be said.
        let writing = std::thread::Builder::new()
            .spawn(move || {
                drop(input.write_all(&script));
                input
            })
            .unwrap();
        let mut said = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut said).unwrap();
        drop(writing.join().unwrap());
        child.wait().unwrap();
        said
    }

    /// Commands of IMAP, each with its line end; what was said.
    pub(crate) fn imap(&self, script: &[u8]) -> Vec<u8> {
        let said = self.talk(IMAP, &[script, b"z LOGOUT\r\n"].concat());
        let text = String::from_utf8_lossy(&said);
        assert!(text.contains("z OK"), "{text}");
        let bad = text.lines().find(|line| line.contains(" BAD ") || line.contains(" NO "));
        assert_eq!(bad, None);
        said
    }

    /// Unique ids of POP3, in order.
    pub(crate) fn uidls(&self) -> Vec<String> {
        uidls(&String::from_utf8(self.talk(POP3, b"UIDL\r\nQUIT\r\n")).unwrap())
    }

    pub(crate) fn mailboxes(&self) -> Mailboxes {
        let names = names(&self.imap(b"a LIST \"\" *\r\n"));
        let script = script(&names);
        read(&names, &self.imap(&script))
    }
}

/// What a session of POP3 said to UIDL.
pub(crate) fn uidls(said: &str) -> Vec<String> {
    let lines = said.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    lines.map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
}

/// All mailboxes of a user of a server on a port.
pub(crate) fn mailboxes_at(port: u16, user: &str, password: &str) -> Mailboxes {
    let talk = |script: &[u8]| -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let login = format!("y LOGIN {user} {password}\r\n");
        let whole = [login.as_bytes(), script, b"z LOGOUT\r\n"].concat();
        stream.write_all(&whole).unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        said
    };
    let names = names(&talk(b"a LIST \"\" *\r\n"));
    read(&names, &talk(&script(&names)))
}

/// Names with the separator that a server has.
fn names(said: &[u8]) -> Vec<(String, char)> {
    let text = String::from_utf8_lossy(said);
    let lines = text.lines().filter(|line| line.starts_with("* LIST"));
    let mut names: Vec<(String, char)> = lines
        .filter(|line| !line.contains("\\NonExistent") && !line.contains("\\Noselect"))
        .map(|line| {
            let (_, rest) = line.split_once(") \"").unwrap();
            let (separator, name) = rest.split_once("\" ").unwrap();
            (name.trim_matches('"').to_owned(), separator.chars().next().unwrap())
        })
        .collect();
    names.sort();
    names
}

fn script(names: &[(String, char)]) -> Vec<u8> {
    let mut script = String::new();
    for (at, (name, _)) in names.iter().enumerate() {
        write!(
            script,
            "e{at} EXAMINE \"{name}\"\r\n\
             f{at} UID FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])\r\n"
        )
        .unwrap();
    }
    script.into_bytes()
}

fn read(names: &[(String, char)], said: &[u8]) -> Mailboxes {
    let mut mailboxes = Mailboxes::new();
    let mut rest = said;
    for (at, (name, separator)) in names.iter().enumerate() {
        let end = format!("\r\nf{at} OK");
        let mut listed = Listed::default();
        loop {
            let eol = rest.windows(2).position(|two| two == b"\r\n").expect("a line ends");
            let line = String::from_utf8_lossy(&rest[..eol]).into_owned();
            let after = &rest[eol + 2..];
            let number = |word: &str| -> Option<u32> {
                let (_, behind) = line.split_once(word)?;
                behind.split([' ', ']', ')']).next()?.parse().ok()
            };
            if line.starts_with(end.trim_start()) {
                rest = after;
                break;
            }
            if let Some(value) = number("[UIDVALIDITY ") {
                listed.uidvalidity = value;
            }
            if let Some(value) = number("[UIDNEXT ") {
                listed.uidnext = value;
            }
            rest = after;
            let Some(count) = line.strip_suffix('}').and_then(|line| line.rsplit_once('{')) else {
                continue;
            };
            let count: usize = count.1.parse().unwrap();
            let (_, flags) = line.split_once("FLAGS (").unwrap();
            let flags = flags.split_once(')').unwrap().0.split(' ').filter(|flag| !flag.is_empty());
            let (_, date) = line.split_once("INTERNALDATE \"").unwrap();
            listed.messages.push(Told {
                uid: number("UID ").unwrap(),
                flags: flags.filter(|flag| *flag != "\\Recent").map(str::to_owned).collect(),
                date: date.split_once('"').unwrap().0.trim_start_matches([' ', '0']).to_owned(),
                octets: rest[..count].to_vec(),
            });
            rest = &rest[count..];
        }
        mailboxes.insert(name.replace(*separator, "/"), listed);
    }
    mailboxes
}
