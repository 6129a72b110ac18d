//! DKIM: keys by the command line, records in a real name server (Knot), and signatures that another
//! implementation (dkimpy) verifies.
//!
//! Needs python3 with dkim (dkimpy) and nacl (PyNaCl), and Knot; `CLIENTS_REQUIRED=1` makes it a failure
//! that they are not there.

use crate::client::{Link, Maildrop, smtp, stuff};
use crate::clients::required;
use crate::harness::{PASSWORD, PATIENCE, Server};
use crate::knot::Knot;
use crossbeam::channel::{Receiver, Sender, unbounded};
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::Builder;

const NO_DNS: &str = "127.0.0.53:1";

/// Whether there is somebody to verify.
fn can_verify() -> bool {
    let tried = Command::new("python3").args(["-c", "import dkim, nacl"]).output();
    let there = tried.is_ok_and(|output| output.status.success());
    if !there {
        println!("skipped: python3 has no dkimpy, or no PyNaCl");
        assert!(!required(), "python3 has no dkimpy, or no PyNaCl");
    }
    there
}

/// What dkimpy says of each signature of a message, by these records.
fn verify(message: &str, records: &Path) -> Vec<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/dkim_verify.py");
    let mut child = Command::new("python3")
        .arg(script)
        .arg(records)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(message.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{message}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn log_in(server: &Server) -> Link {
    let mut link = smtp(server.submission(), "EHLO").unwrap();
    link.command("AUTH PLAIN AGFAbG9jYWwuZXhhbXBsZQBzZWNyZXQ=", 235).unwrap();
    link
}

fn send(link: &mut Link, rcpt: &str, message: &str) {
    link.command("MAIL FROM:<a@local.example>", 250).unwrap();
    link.command(&format!("RCPT TO:<{rcpt}>"), 250).unwrap();
    link.command("DATA", 354).unwrap();
    link.send(stuff(message.as_bytes())).unwrap();
    link.expect(250).unwrap();
}

/// The last of so many messages of a user.
fn last(server: &Server, user: &str, count: usize) -> String {
    let mut maildrop = Maildrop::open_filled(server.pop3(), user, count).unwrap();
    let all = maildrop.retrieve_all().unwrap();
    maildrop.quit().unwrap();
    assert_eq!(all.len(), count);
    String::from_utf8(all.into_iter().last().unwrap()).unwrap()
}

const MESSAGE: &str = "From: Ann <a@local.example>\r\nTo: b@local.example\r\nsubject:  folded\r\n \tonce  \r\n\
    Content-Type: text/plain\r\n\r\nText  with \t spaces \r\n\r\n.\r\n.dots\r\n\r\n\r\n";

/// A server with keys that were made while it was stopped, and a name server with their records.
fn signing(settings: &str) -> Option<(Server, Knot, PathBuf)> {
    if !can_verify() {
        return None;
    }
    let dns = format!("[dns]\nservers = [\"{NO_DNS}\"]\ntimeout = \"2s\"\n");
    let mut server = Server::set_up(&format!("{dns}{settings}"));
    server.pombal(&["domain", "add", "local.example"], "");
    server.add_user_with("a", PASSWORD);
    server.add_user_with("b", PASSWORD);
    let made = server.pombal(&["dkim", "add", "Local.Example", "--selector", "s"], "");
    assert_eq!(made.lines().count(), 2, "{made}");
    assert_eq!(server.pombal(&["dkim", "show", "local.example"], ""), made);
    let records = server.dir().join("records");
    fs::write(&records, &made).unwrap();
    let knot = Knot::start(server.dir(), &[("local.example.", &made)])?;
    server.edit(NO_DNS, |_| knot.address().to_string());
    let good = server.pombal(&["dkim", "check", "local.example"], "");
    assert_eq!(
        good,
        "s-rsa._domainkey.local.example: good\ns-ed25519._domainkey.local.example: good\n"
    );
    server.start();
    Some((server, knot, records))
}

#[test]
fn what_users_send_is_signed_and_others_verify_it() {
    let Some((mut server, _knot, records)) = signing("") else { return };
    let mut link = log_in(&server);
    send(&mut link, "b@local.example", MESSAGE);
    let message = last(&server, "b", 1);
    let header =
        "from:from:to:to:subject:subject:date:date:message-id:message-id:content-type:content-type";
    assert_eq!(
        verify(&message, &records),
        [
            format!("0 good a=rsa-sha256 d=local.example s=s-rsa h={header}"),
            format!("1 good a=ed25519-sha256 d=local.example s=s-ed25519 h={header}"),
        ],
        "{message}"
    );
    assert!(message.contains("\r\nReceived: from client.example"), "{message}");
    // What somebody changes on the way is found out.
    for (from, to) in
        [("spaces", "places"), ("From: Ann", "From: Bob"), ("\r\nTo:", "\r\nFrom: x\r\nTo:")]
    {
        let changed = message.replace(from, to);
        assert!(verify(&changed, &records).iter().all(|line| line.contains(" bad ")), "{from}");
    }
    // The report on it comes from the host, which is below the domain.
    link.command("MAIL FROM:<a@local.example>", 250).unwrap();
    link.command("RCPT TO:<b@local.example> NOTIFY=SUCCESS", 250).unwrap();
    link.command("DATA", 354).unwrap();
    link.send(stuff(MESSAGE.as_bytes())).unwrap();
    link.expect(250).unwrap();
    let report = last(&server, "a", 1);
    assert!(report.contains("report-type=delivery-status"), "{report}");
    let told = verify(&report, &records);
    assert!(told.len() == 2 && told.iter().all(|line| line.contains(" good ")), "{told:?}");
    assert!(server.figure("pombal_dkim_signed_total") == 3);
    // Strangers' mail is not ours to sign.
    let mut stranger = smtp(server.smtp(), "EHLO").unwrap();
    send(&mut stranger, "b@local.example", MESSAGE);
    assert!(!last(&server, "b", 3).contains("DKIM-Signature"));
    server.stop();
}

/// What another server refuses, and what waits for too long for one that is not there, comes back signed:
/// whoever gets a report knows that it is no forgery.
#[test]
fn reports_on_mail_that_left_are_signed() {
    let mut there = Server::with_users("", &["b"]);
    there.pombal(&["domain", "add", "there.example"], "");
    let settings = format!(
        "[queue]\ndelay_warning = \"1s\"\n[[route]]\ndomain = \"there.example\"\n\
         relay = \"127.0.0.1:{}\"\n[[route]]\ndomain = \"*\"\nrelay = \"127.0.0.1:1\"\n",
        there.smtp()
    );
    let Some((mut server, _knot, records)) = signing(&settings) else { return };
    let mut link = log_in(&server);
    for (number, recipient, action) in
        [(1, "nobody@there.example", "failed"), (2, "b@dead.example", "delayed")]
    {
        send(&mut link, recipient, MESSAGE);
        let report = last(&server, "a", number);
        assert!(report.contains(&format!("\r\nAction: {action}\r\n")), "{report}");
        let told = verify(&report, &records);
        let is_good =
            |line: &String| line.contains(" good ") && line.contains("h=from:from:to:to:");
        assert!(told.len() == 2 && told.iter().all(is_good), "{told:?}\n{report}");
    }
    server.stop();
    there.stop();
}

/// A server that knows no extension, on a port of its own; the messages that it takes, dots undone.
fn plain_server() -> (u16, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, taken) = unbounded();
    let serve = move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // The client may hang up when it likes.
            drop(take(&stream, &tell));
        }
    };
    Builder::new().spawn(serve).unwrap();
    (port, taken)
}

fn take(mut stream: &TcpStream, tell: &Sender<Vec<u8>>) -> io::Result<()> {
    stream.write_all(b"220 plain.example\r\n")?;
    let mut message: Option<Vec<u8>> = None;
    for line in BufReader::new(stream).split(b'\n') {
        let line = [&line?[..], b"\n"].concat();
        let answer: &[u8] = match message.take() {
            Some(whole) if line == b".\r\n" => {
                tell.send(whole).map_err(io::Error::other)?;
                b"250 taken\r\n"
            }
            Some(mut part) => {
                part.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
                message = Some(part);
                continue;
            }
            None if line.starts_with(b"DATA") => {
                message = Some(Vec::new());
                b"354 go\r\n"
            }
            None => b"250 yes\r\n",
        };
        stream.write_all(answer)?;
    }
    Ok(())
}

/// RFC 6376 §5.3: a server that takes 7 bits alone gets a message that is signed as it goes to it. What
/// somebody sends along with a signature that looks like ours gets none.
#[test]
fn what_is_made_into_seven_bits_is_signed_as_it_goes_out() {
    let (port, taken) = plain_server();
    let settings = format!(
        "[smtp]\nmax_message_size = \"4M\"\nrelay_networks = [\"127.0.0.0/8\"]\n[[route]]\ndomain = \"there.example\"\n\
         relay = \"127.0.0.1:{port}\"\n"
    );
    let Some((mut server, _knot, records)) = signing(&settings) else { return };
    let message = MESSAGE.replace("spaces", "späces");
    let mut link = log_in(&server);
    send(&mut link, "x@there.example", &message);
    let went = String::from_utf8(taken.recv_timeout(PATIENCE).unwrap()).unwrap();
    assert!(went.is_ascii() && went.contains("sp=C3=A4ces"), "{went}");
    let told = verify(&went, &records);
    let is_good =
        |line: &String| line.contains(" good ") && line.contains(":content-transfer-encoding");
    assert!(told.len() == 2 && told.iter().all(is_good), "{told:?}\n{went}");
    // What needs nothing goes as it was signed at first.
    send(&mut link, "x@there.example", MESSAGE);
    let went = String::from_utf8(taken.recv_timeout(PATIENCE).unwrap()).unwrap();
    let told = verify(&went, &records);
    assert!(told.len() == 2 && told.iter().all(|line| line.contains(" good ")), "{told:?}\n{went}");
    let mut stranger = smtp(server.smtp(), "EHLO").unwrap();
    let forged = format!("DKIM-Signature: v=1; d=local.example; s=s-rsa; b=x\r\n{message}");
    send(&mut stranger, "x@there.example", &forged);
    let went = String::from_utf8(taken.recv_timeout(PATIENCE).unwrap()).unwrap();
    assert_eq!(went.matches("DKIM-Signature").count(), 1, "{went}");
    assert!(went.is_ascii() && went.contains("s=s-rsa; b=x\r\n"), "{went}");
    server.stop();
}

#[test]
fn keys_change_while_the_server_runs() {
    let Some((mut server, _knot, records)) = signing("") else { return };
    let mut link = log_in(&server);
    let words = ["dkim", "add", "local.example", "--selector", "n", "--algorithm", "ed25519"];
    let made = server.pombal(&words, "");
    fs::write(&records, format!("{}{made}", fs::read_to_string(&records).unwrap())).unwrap();
    send(&mut link, "b@local.example", MESSAGE);
    let told = verify(&last(&server, "b", 1), &records);
    assert!(told.len() == 3 && told.iter().all(|line| line.contains(" good ")), "{told:?}");
    let output = server.try_pombal(&["dkim", "check", "local.example"], "");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("n._domainkey.local.example: there is no record\n"), "{said}");
    let output = server.try_pombal(&words, "");
    assert_eq!(output.status.code(), Some(1), "not twice");

    server.pombal(&["dkim", "del", "local.example"], "");
    send(&mut link, "b@local.example", MESSAGE);
    assert!(!last(&server, "b", 2).contains("DKIM-Signature"));
    assert_eq!(server.pombal(&["--json", "dkim", "list"], ""), "[]\n");

    // One by hand, in the form that OpenSSL writes, and a file that is none.
    let key = server.data_dir().join("dkim/o._domainkey.local.example.pem");
    let words = ["genrsa", "-out", key.to_str().unwrap(), "2048"];
    assert!(Command::new("openssl").args(words).output().unwrap().status.success());
    fs::write(server.data_dir().join("dkim/x._domainkey.local.example.pem"), "x").unwrap();
    server.reload_as_it_is();
    server.await_log(&["event=dkim_key_unusable", "x._domainkey.local.example.pem"]);
    server.await_log(&["event=dkim_keys", "domains=1", "keys=1"]);
    send(&mut link, "b@local.example", MESSAGE);
    let message = last(&server, "b", 3);
    server.pombal(&["dkim", "del", "local.example", "x"], "");
    fs::write(&records, server.pombal(&["dkim", "show", "local.example"], "")).unwrap();
    let told = verify(&message, &records);
    assert!(
        told.len() == 1 && told[0].contains("good a=rsa-sha256 d=local.example s=o"),
        "{told:?}"
    );
    server.stop();
}
