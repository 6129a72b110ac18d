//! Attempts to have mail sent on to strangers, in every classic form (RFC 2505 §2.1): refused, by all
//! ports, whoever the sender is said to be, and whoever has logged in.

use crate::client::{Link, Maildrop, smtp, stuff};
use crate::harness::Server;
use std::io;

/// What stands between the angle brackets, and the answers that refuse it. Each meant for somebody at
/// foreign.example, by way of local.example, which is served.
const FORMS: &[(&str, &[u16])] = &[
    // Plainly.
    ("a@foreign.example", &[550]),
    ("A@FOREIGN.Example", &[550]),
    ("postmaster@foreign.example", &[550]),
    ("abuse@foreign.example", &[550]),
    ("a@localhost", &[550, 554]),
    ("a@mx.local.example", &[550]),
    // A domain that only looks like ours.
    ("a@local.example.foreign.example", &[550]),
    ("a@xlocal.example", &[550]),
    ("a@local-example", &[550, 554]),
    ("a@local.example.", &[501]),
    ("a@foreign.example.", &[501]),
    ("a@.local.example", &[501]),
    ("a@local..example", &[501]),
    // The percent hack.
    ("a%foreign.example@local.example", &[550]),
    ("\"a%foreign.example\"@local.example", &[550]),
    ("a%foreign.example%local.example@local.example", &[550]),
    ("a%foreign.example", &[501]),
    ("a%foreign.example@", &[501]),
    ("Postmaster%foreign.example", &[501]),
    ("postmaster%foreign.example@local.example", &[550]),
    // Bang paths.
    ("foreign.example!a@local.example", &[550]),
    ("local.example!foreign.example!a@local.example", &[550]),
    ("foreign.example!a", &[501]),
    ("local.example!a@foreign.example", &[550]),
    // Source routes.
    ("@local.example:a@foreign.example", &[550]),
    ("@foreign.example,@local.example:a@foreign.example", &[550]),
    ("@local.example:@foreign.example:a@local.example", &[501]),
    ("@local.example:a%foreign.example@local.example", &[550]),
    ("@local.example:\"a@foreign.example\"@local.example", &[550]),
    // Quotes, and several at signs.
    ("\"a@foreign.example\"@local.example", &[550]),
    ("\"a@foreign.example\"", &[501]),
    ("\"<a@foreign.example>\"@local.example", &[550]),
    ("\"a\\@foreign.example\"@local.example", &[550]),
    ("a@foreign.example@local.example", &[501]),
    ("a@local.example@foreign.example", &[501]),
    ("a\\@foreign.example@local.example", &[501]),
    ("a@local.example,b@foreign.example", &[501]),
    ("a@local.example;b@foreign.example", &[501]),
    ("a@local.example><b@foreign.example", &[501]),
    ("a@foreign.example(@local.example)", &[501]),
    // Address literals, of this host and of others.
    ("a@[127.0.0.1]", &[550]),
    ("a@[192.0.2.1]", &[550]),
    ("a@[IPv6:::1]", &[550]),
    ("a%foreign.example@[127.0.0.1]", &[550]),
    ("\"a@foreign.example\"@[127.0.0.1]", &[550]),
    ("a@[foreign.example]", &[501]),
    ("a@127.0.0.1", &[550]),
    // A tag is no way through.
    ("a+b@foreign.example", &[550]),
    ("nobody+a@foreign.example@local.example", &[501]),
];

/// The same in UTF-8, by letters that look like others.
const UTF8_FORMS: &[(&str, &[u16])] = &[
    // A Cyrillic о, and the domain in its A-labels.
    ("a@lоcal.example", &[550]),
    ("a@xn--lcal-6nd.example", &[550]),
    ("a@local.exаmple", &[550]),
    // An at sign that is none.
    ("a\u{ff20}foreign.example@local.example", &[550]),
    ("a\u{fe6b}foreign.example@local.example", &[550]),
    ("a\u{ff05}foreign.example@local.example", &[550]),
    // Letters that are not there, and turn the direction.
    ("a@loc\u{200b}al.foreign.example", &[501, 550]),
    ("a@local.example\u{2044}foreign.example", &[501, 550]),
    ("a@\u{202e}elpmaxe.lacol", &[501]),
    ("а@local.example", &[550]),
];

const SENDERS: [&str; 4] =
    ["", "a@foreign.example", "a@local.example", "@local.example:a@foreign.example"];

#[test]
fn mail_for_strangers_is_refused_in_every_form() {
    let patient =
        "[smtp]\nmax_message_size = \"4M\"\nmax_errors = 100000\nmax_junk_commands = 100000\n";
    let mut server = Server::with_users(patient, &["a"]);
    let mut wrong = Vec::new();
    for (port, hello) in [(server.smtp(), "EHLO"), (server.lmtp(), "LHLO")] {
        for sender in SENDERS {
            let mut link = smtp(port, hello).unwrap();
            for (form, codes) in FORMS.iter().chain(UTF8_FORMS) {
                let tried = attempt(&mut link, sender, form, codes);
                wrong.extend(tried.err().map(|why| format!("{hello} <{sender}> <{form}>: {why}")));
            }
            link.command("QUIT", 221).unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert_eq!(Maildrop::open(server.pop3(), "a", false).unwrap().count, 0);
    server.stop();
}

/// A message to one recipient, who must be refused; then there is nobody to send it to.
fn attempt(link: &mut Link, sender: &str, form: &str, codes: &[u16]) -> io::Result<()> {
    link.command("RSET", 250)?;
    link.command(&format!("MAIL FROM:<{sender}> SMTPUTF8"), 250)?;
    link.send(format!("RCPT TO:<{form}>\r\n"))?;
    let reply = link.reply()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if !codes.contains(&reply.code) {
        return Err(io::Error::other(reply.text));
    }
    if reply.code == 250 {
        return link.command("RSET", 250).map(drop);
    }
    link.send("DATA\r\n")?;
    let reply = link.reply()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if matches!(reply.code, 503 | 554) { Ok(()) } else { Err(io::Error::other(reply.text)) }
}

/// The same of users, by TLS or not: nothing before they log in; after it what they send goes where they
/// say, and no form of an address here is a way to anywhere else.
#[test]
fn users_have_nothing_sent_on_in_any_form() {
    let patient =
        "[smtp]\nmax_message_size = \"4M\"\nmax_errors = 100000\nmax_junk_commands = 100000\n";
    let mut server = Server::with_users(patient, &["a"]);
    let mut wrong = Vec::new();
    for by_tls in [false, true] {
        let mut link = submission(&server, by_tls).unwrap();
        for (form, _) in FORMS.iter().chain(UTF8_FORMS) {
            let tried = attempt_before_login(&mut link, form);
            wrong.extend(tried.err().map(|why| format!("before AUTH <{form}>: {why}")));
        }
        // a@local.example and his password.
        link.command("AUTH PLAIN AGFAbG9jYWwuZXhhbXBsZQBzZWNyZXQ=", 235).unwrap();
        for sender in ["", "a@local.example", "@foreign.example:a@local.example"] {
            for (form, codes) in FORMS.iter().chain(UTF8_FORMS) {
                let codes = for_users(form, codes);
                let tried = attempt(&mut link, sender, form, &codes);
                wrong.extend(tried.err().map(|why| format!("user <{sender}> <{form}>: {why}")));
            }
        }
        link.command("QUIT", 221).unwrap();
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert_eq!(Maildrop::open(server.pop3(), "a", false).unwrap().count, 0);
    server.stop();
}

fn submission(server: &Server, by_tls: bool) -> io::Result<Link> {
    if !by_tls {
        return smtp(server.submission(), "EHLO");
    }
    let mut link = Link::connect(server.submissions())?.encrypt()?;
    link.expect(220)?;
    link.command("EHLO client.example", 250)?;
    Ok(link)
}

fn attempt_before_login(link: &mut Link, form: &str) -> io::Result<()> {
    link.command("MAIL FROM:<a@local.example> SMTPUTF8", 530)?;
    link.send(format!("RCPT TO:<{form}>\r\nDATA\r\n"))?;
    for _ in 0..2 {
        let reply = link.reply()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if !matches!(reply.code, 501 | 503 | 530) {
            return Err(io::Error::other(reply.text));
        }
    }
    Ok(())
}

/// What a user is answered: of addresses here the same as anybody; others are his to write to.
fn for_users(form: &str, codes: &[u16]) -> Vec<u16> {
    let is_here = form.to_ascii_lowercase().ends_with("@local.example");
    let taken = |&code: &u16| if code == 550 && !is_here { 250 } else { code };
    codes.iter().map(taken).collect()
}

/// Where one reads everything that comes for a domain, that is what a form is: mail for him.
#[test]
fn a_catch_all_reads_it_and_sends_nothing_on() {
    let mut server = Server::with_users("", &["a"]);
    server.pombal(&["alias", "add", "@local.example", "a@local.example"], "");
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    let forms = [
        "a%foreign.example@local.example",
        "foreign.example!a@local.example",
        "\"a@foreign.example\"@local.example",
        "@foreign.example:b@local.example",
        // The dots and the letters of these are ours by IDNA.
        "a@local\u{3002}example",
        "a@\u{ff4c}ocal.example",
    ];
    for form in forms {
        link.command("MAIL FROM:<a@foreign.example> SMTPUTF8", 250).unwrap();
        link.command(&format!("RCPT TO:<{form}>"), 250).unwrap();
        link.command("DATA", 354).unwrap();
        link.send(stuff(b"Subject: x\r\n\r\n")).unwrap();
        link.expect(250).unwrap();
    }
    link.command("MAIL FROM:<>", 250).unwrap();
    link.command("RCPT TO:<\"a@foreign.example\"@foreign.example>", 550).unwrap();
    assert!(Maildrop::open_filled(server.pop3(), "a", forms.len()).is_ok());
    server.stop();
}
