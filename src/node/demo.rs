//! `pombal demo`: a small server in a temporary directory, mail in by SMTP, out by POP3 and IMAP.
//!
//! The client's side is plain blocking sockets on the main thread; the server is the real one.

use super::actions::Node;
use super::boot::{self, News, Ports, Running};
use crate::admin::request::{DirectoryRequest, Request, Response};
use crate::admin::socket;
use crate::bytes::hash::Sorted;
use crate::cli::{Actions as _, Failure};
use crate::config::Config;
use crossbeam::channel::{Receiver, unbounded};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, BufRead as _, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long any one step may take before the demo gives up.
const PATIENCE: Duration = Duration::from_secs(30);
/// The users' password, shown to whoever plays with `--keep`.
const PASSWORD: &str = "dovecote";

/// The sample mails: sender, recipient, text with LF line ends.
const SAMPLES: [(&str, &str, &str); 3] = [
    (
        "carol@elsewhere.example",
        "alice@pombal.test",
        "From: Carol <carol@elsewhere.example>\nTo: Alice <alice@pombal.test>\n\
         Subject: A letter from outside\nDate: Wed, 25 Nov 2026 09:00:00 +0000\n\
         Message-ID: <1@elsewhere.example>\n\nDear Alice,\n\n.this line begins with a dot and must \
         arrive as it is.\n\nCarol\n",
    ),
    (
        "alice@pombal.test",
        "bob@pombal.test",
        "From: Alice <alice@pombal.test>\nTo: Bob <bob@pombal.test>\n\
         Subject: =?utf-8?Q?P=C3=A3o_de_queijo?=\nDate: Wed, 25 Nov 2026 09:01:00 +0000\n\
         Message-ID: <2@pombal.test>\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n\
         Pão de queijo às cinco?\n",
    ),
    (
        "carol@elsewhere.example",
        "bob+lists@pombal.test",
        "From: Carol <carol@elsewhere.example>\nTo: bob+lists@pombal.test\n\
         Subject: By a tag\nDate: Wed, 25 Nov 2026 09:02:00 +0000\n\
         Message-ID: <3@elsewhere.example>\n\nMail for a tag comes to its user.\n",
    ),
];

/// A directory of its own under the system's temporary one; removed at the end.
struct Place(PathBuf);

impl Place {
    fn new() -> io::Result<Place> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let name = format!("pombal-demo-{:016x}", u64::from_le_bytes(random));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)?;
        Ok(Place(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed is the system's to clean: it lies in its temporary directory.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Shows a small server at work; with `keep` it goes on serving until it is interrupted.
pub(super) fn run(keep: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let place = Place::new()?;
    let mut config = Config::small(&place.0);
    config.auth.allow_plaintext = true;
    writeln!(out, "Pombal {} in {}", env!("CARGO_PKG_VERSION"), place.0.display())?;
    let (news, heard) = unbounded();
    let running = boot::start(config.clone(), Ports::bind(&config)?, None, news)?;
    let shown = show(&config, &heard, out);
    match (shown, keep) {
        (Ok(addresses), true) => serve_on(running, &addresses, out),
        (Ok(_), false) => {
            running.stop();
            running.wait()?;
            writeln!(out, "\nAll of it was on stable storage before each 250. Done.")?;
            Ok(())
        }
        (Err(failure), _) => {
            running.stop();
            running.wait()?;
            Err(failure)
        }
    }
}

fn serve_on(
    running: Running,
    addresses: &Sorted<&'static str, SocketAddr>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    writeln!(out, "\nStill serving; end it with Ctrl-C.")?;
    for (protocol, address) in addresses {
        writeln!(out, "  {protocol:<6} {address}")?;
    }
    writeln!(out, "  users  alice@pombal.test and bob@pombal.test, password {PASSWORD}")?;
    out.flush()?;
    running.wait()
}

/// Everything up to the end of the reading: returns where the server listens.
fn show(
    config: &Config,
    heard: &Receiver<News>,
    out: &mut dyn Write,
) -> Result<Sorted<&'static str, SocketAddr>, Failure> {
    let addresses = wait_ready(heard)?;
    let at = |protocol: &str| {
        addresses
            .get(protocol)
            .copied()
            .ok_or_else(|| Failure::Failed(format!("{protocol} is not served")))
    };
    let (smtp, pop3, imap) = (at("smtp")?, at("pop3")?, at("imap")?);
    set_up(config)?;
    writeln!(out, "domain pombal.test, users alice and bob")?;
    writeln!(out, "SMTP on {smtp}, POP3 on {pop3}, IMAP on {imap}\n")?;
    writeln!(out, "In by SMTP")?;
    for (sender, recipient, text) in SAMPLES {
        let reply = send(smtp, sender, recipient, text)
            .map_err(|error| Failure::Failed(format!("SMTP: {error}")))?;
        writeln!(out, "  {sender} -> {recipient}: {reply}")?;
    }
    show_pop3(pop3, out)?;
    writeln!(out, "\nRead by IMAP, bob@pombal.test")?;
    for line in browse(imap).map_err(|error| Failure::Failed(format!("IMAP: {error}")))? {
        writeln!(out, "  {line}")?;
    }
    writeln!(out, "\nRead by IMAP inside TLS, with a certificate that was made just now")?;
    for line in
        encrypted(config, at("imaps")?).map_err(|error| Failure::Failed(format!("TLS: {error}")))?
    {
        writeln!(out, "  {line}")?;
    }
    Ok(addresses)
}

fn show_pop3(pop3: SocketAddr, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "\nOut by POP3")?;
    for user in ["alice@pombal.test", "bob@pombal.test"] {
        let mails = fetch(pop3, user).map_err(|error| Failure::Failed(format!("POP3: {error}")))?;
        writeln!(out, "  {user}: {} messages", mails.len())?;
        for mail in mails {
            let intact = SAMPLES.iter().any(|(_, _, text)| mail.ends_with(&crlf(text)));
            let subject = mail
                .lines()
                .find_map(|line| line.strip_prefix("Subject: "))
                .unwrap_or("(none)")
                .to_owned();
            let state = if intact { "every octet as it was sent" } else { "CHANGED" };
            writeln!(out, "    {subject}: {} octets, {state}", mail.len())?;
            if !intact {
                return Err(Failure::Failed("a message came back changed".into()));
            }
        }
    }
    Ok(())
}

fn wait_ready(heard: &Receiver<News>) -> Result<Sorted<&'static str, SocketAddr>, Failure> {
    let mut addresses = Sorted::new();
    loop {
        match heard.recv_timeout(PATIENCE) {
            Ok(News::Listens(protocol, address)) => {
                addresses.insert(protocol, address);
            }
            Ok(News::Ready) => return Ok(addresses),
            Err(_) => return Err(Failure::Failed("the server does not get ready".into())),
        }
    }
}

fn set_up(config: &Config) -> Result<(), Failure> {
    let socket = config.admin_socket();
    let hash = Node.hash_password(config, &[], PASSWORD)?;
    ask(&socket, DirectoryRequest::DomainAdd { domain: "pombal.test".into() })?;
    for user in ["alice", "bob"] {
        let request = DirectoryRequest::UserAdd {
            address: format!("{user}@pombal.test"),
            password_hash: Some(hash.clone()),
            quota: None,
        };
        ask(&socket, request)?;
    }
    Ok(())
}

fn ask(socket: &Path, request: DirectoryRequest) -> Result<(), Failure> {
    match socket::ask(socket, &Request::Directory(request)) {
        Ok(Response::Done) => Ok(()),
        Ok(other) => Err(Failure::Failed(format!("the directory said {other:?}"))),
        Err(error) => Err(Failure::Failed(format!("{error:?}"))),
    }
}

fn crlf(text: &str) -> String {
    text.replace('\n', "\r\n")
}

/// A client that says one thing and hears one line.
struct Dialog {
    reader: BufReader<TcpStream>,
}

impl Dialog {
    fn connect(to: SocketAddr) -> io::Result<Dialog> {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Dialog { reader: BufReader::new(stream) })
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        self.reader.get_mut().write_all(text.as_bytes())
    }

    fn hear(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        Ok(line)
    }

    /// The last line of a reply, which must begin with `wanted`.
    fn expect(&mut self, wanted: &str) -> io::Result<String> {
        loop {
            let line = self.hear()?;
            if line.as_bytes().get(3) == Some(&b'-') {
                continue;
            }
            if line.starts_with(wanted) {
                return Ok(line.trim_end().to_owned());
            }
            return Err(io::Error::other(format!("the server said {line:?}")));
        }
    }
}

fn send(to: SocketAddr, sender: &str, recipient: &str, text: &str) -> io::Result<String> {
    let mut dialog = Dialog::connect(to)?;
    dialog.expect("220")?;
    for (line, wanted) in [
        ("EHLO client.example\r\n".to_owned(), "250"),
        (format!("MAIL FROM:<{sender}> BODY=8BITMIME\r\n"), "250"),
        (format!("RCPT TO:<{recipient}>\r\n"), "250"),
        ("DATA\r\n".to_owned(), "354"),
    ] {
        dialog.say(&line)?;
        dialog.expect(wanted)?;
    }
    dialog.say(&crlf(text).replace("\r\n.", "\r\n.."))?;
    dialog.say(".\r\n")?;
    let reply = dialog.expect("250")?;
    dialog.say("QUIT\r\n")?;
    dialog.expect("221")?;
    Ok(reply)
}

fn fetch(from: SocketAddr, user: &str) -> io::Result<Vec<String>> {
    let mut dialog = Dialog::connect(from)?;
    dialog.expect("+OK")?;
    for line in [format!("USER {user}\r\n"), format!("PASS {PASSWORD}\r\n")] {
        dialog.say(&line)?;
        dialog.expect("+OK")?;
    }
    dialog.say("STAT\r\n")?;
    let stat = dialog.expect("+OK")?;
    let count = stat.split(' ').nth(1).and_then(|count| count.parse::<u32>().ok());
    let mut mails = Vec::new();
    for number in 1..=count.unwrap_or(0) {
        dialog.say(&format!("RETR {number}\r\n"))?;
        dialog.expect("+OK")?;
        let mut mail = String::new();
        loop {
            let line = dialog.hear()?;
            if line == ".\r\n" || line.is_empty() {
                break;
            }
            mail.push_str(line.strip_prefix('.').unwrap_or(&line));
        }
        mails.push(mail);
    }
    dialog.say("QUIT\r\n")?;
    dialog.expect("+OK")?;
    Ok(mails)
}

/// What is negotiated with a server that shows the certificate it made, and what is said inside.
fn encrypted(config: &Config, to: SocketAddr) -> io::Result<Vec<String>> {
    let chain = std::fs::read(config.data_dir.join("tls/self-signed.pem"))?;
    let shown = CertificateDer::from_pem_slice(&chain).map_err(io::Error::other)?;
    let mut roots = RootCertStore::empty();
    roots.add(shown).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let host = config.hostname.as_str().to_owned();
    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
    let tls = ClientConnection::new(Arc::new(client), name).map_err(io::Error::other)?;
    let tcp = TcpStream::connect_timeout(&to, PATIENCE)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(StreamOwned::new(tls, tcp));
    let mut lines = Vec::new();
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let suite = reader.get_ref().conn.negotiated_cipher_suite();
    let suite = suite.and_then(|suite| suite.suite().as_str()).unwrap_or_default();
    lines.push(format!("{suite}, and the certificate is {host}'s"));
    let login = format!("b LOGIN bob@pombal.test {PASSWORD}\r\n");
    reader.get_mut().write_all(login.as_bytes())?;
    expect_tag(&mut reader, "b ")?;
    for command in ["c STATUS INBOX (MESSAGES UNSEEN)", "d LOGOUT"] {
        reader.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        lines.push(command.to_owned());
        let said = expect_tag(&mut reader, command.get(..2).unwrap_or_default())?;
        lines.extend(said.lines().map(|line| format!("    {line}")));
    }
    Ok(lines)
}

/// Reads up to the tagged answer, which must be OK.
fn expect_tag(reader: &mut impl io::BufRead, tag: &str) -> io::Result<String> {
    let mut said = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        said.push_str(&line);
        match line.strip_prefix(tag) {
            Some(rest) if rest.starts_with("OK") => return Ok(said),
            None if !line.is_empty() => {}
            _ => return Err(io::Error::other(format!("the server said {line:?}"))),
        }
    }
}

/// What is said and heard while bob looks into his mailbox.
fn browse(from: SocketAddr) -> io::Result<Vec<String>> {
    let mut dialog = Dialog::connect(from)?;
    dialog.expect("* OK")?;
    dialog.say(&format!("a LOGIN bob@pombal.test {PASSWORD}\r\n"))?;
    dialog.expect("a OK")?;
    let mut lines = Vec::new();
    for command in [
        "c EXAMINE INBOX",
        "d SEARCH SUBJECT queijo",
        "e FETCH 1:* (UID FLAGS RFC822.SIZE)",
        "f LOGOUT",
    ] {
        lines.push(command.to_owned());
        dialog.say(&format!("{command}\r\n"))?;
        let tag = command.split_inclusive(' ').next().unwrap_or_default();
        loop {
            let line = dialog.hear()?.trim_end().to_owned();
            if line.is_empty() || line.strip_prefix(tag).is_some_and(|rest| !rest.starts_with("OK"))
            {
                return Err(io::Error::other(format!("{command}: the server said {line:?}")));
            }
            let is_end = line.starts_with(tag);
            lines.push(format!("    {line}"));
            if is_end {
                break;
            }
        }
    }
    Ok(lines)
}
