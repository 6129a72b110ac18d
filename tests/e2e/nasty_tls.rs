//! The hostile SMTP inputs of the corpus about AUTH and STARTTLS, where these are offered: a real
//! handshake where a case stands behind one, and AUTH on the ports of submission, in clear and by TLS.

use crate::client::{Link, is_end, smtp};
use crate::harness::Server;
use crate::smtp_case::{Case, cases};
use std::io;

/// What a server may grow by, whatever it is sent.
const GROWTH_KIB_MAX: u64 = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Clear,
    StartTls,
    Tls,
}

#[test]
fn auth_answers_every_nasty_input() {
    let Some(cases) = cases() else {
        println!("skipped: no corpus beside the repository");
        return;
    };
    let cases: Vec<&Case> = cases.iter().filter(|case| case.id.starts_with("smtp-auth")).collect();
    assert!(cases.len() >= 9, "only {} cases", cases.len());
    let mut server = Server::with_users("", &["user"]);
    for form in [Form::Clear, Form::StartTls, Form::Tls] {
        log_in(&server, form).unwrap();
    }
    let before = server.memory_kib("VmHWM");
    let mut wrong = Vec::new();
    for case in cases {
        for form in [Form::Clear, Form::StartTls, Form::Tls] {
            // The next client is served, whatever became of this one.
            let played = authenticate(&server, form, case).and_then(|()| log_in(&server, form));
            server.assert_alive();
            if let Err(why) = played {
                wrong.push(format!("{} {form:?}: {why}; expected {}", case.id, case.expect));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    let grown = server.memory_kib("VmHWM").saturating_sub(before);
    assert!(grown <= GROWTH_KIB_MAX, "{grown} KiB more memory");
    server.stop();
}

/// A session of submission behind its greeting, and behind EHLO where `hello` says so.
fn submission(server: &Server, form: Form, hello: bool) -> io::Result<Link> {
    let mut link = match form {
        Form::Clear => Link::connect(server.submission())?,
        Form::StartTls => start_tls(server.submission())?,
        Form::Tls => Link::connect(server.submissions())?.encrypt()?,
    };
    if form != Form::StartTls {
        link.expect(220)?;
    }
    if hello {
        let offered = link.command("EHLO client.example", 250)?.text;
        if !offered.contains("AUTH ") {
            return Err(io::Error::other(format!("no AUTH: {offered}")));
        }
    }
    Ok(link)
}

/// A session behind EHLO, STARTTLS and the handshake.
fn start_tls(port: u16) -> io::Result<Link> {
    let mut link = smtp(port, "EHLO")?;
    link.command("STARTTLS", 220)?;
    link.encrypt()
}

/// `user@local.example` and his password.
fn log_in(server: &Server, form: Form) -> io::Result<()> {
    let mut link = submission(server, form, true)?;
    link.command("AUTH PLAIN AHVzZXJAbG9jYWwuZXhhbXBsZQBzZWNyZXQ=", 235)?;
    end(link)
}

/// The session is in step, and ends as it should.
fn end(mut link: Link) -> io::Result<()> {
    link.command("NOOP", 250)?;
    link.command("QUIT", 221)?;
    match &*link.rest()? {
        [] => Ok(()),
        rest => Err(io::Error::other(format!("says {:?} at the end", rest.escape_ascii()))),
    }
}

/// Writes all, or as much as the server lets it.
fn send(link: &mut Link, case: &Case) -> io::Result<()> {
    match link.send(case.sends.concat()) {
        Err(error) if !is_end(&error) => Err(error),
        _ => Ok(()),
    }
}

fn code(link: &mut Link) -> io::Result<u16> {
    Ok(link.reply()?.ok_or(io::ErrorKind::UnexpectedEof)?.code)
}

fn check(case: &Case, got: u16) -> io::Result<()> {
    if case.named().contains(&got) { Ok(()) } else { Err(io::Error::other(format!("{got}"))) }
}

fn authenticate(server: &Server, form: Form, case: &Case) -> io::Result<()> {
    let mut link = submission(server, form, case.state == "helo")?;
    send(&mut link, case)?;
    match &*case.id {
        "smtp-auth-pipelined" => {
            link.expect(535)?;
            link.expect(250)?;
        }
        "smtp-auth-bruteforce" => {
            link.expect(535)?;
            let mut last = 535;
            while last == 535 {
                last = code(&mut link)?;
            }
            let rest = link.rest()?;
            let is_sound = last == 421 && rest.is_empty();
            return if is_sound { Ok(()) } else { Err(io::Error::other(format!("{last}"))) };
        }
        _ => {
            let got = code(&mut link)?;
            check(case, got)?;
        }
    }
    end(link)
}

#[test]
fn starttls_answers_every_nasty_input() {
    let Some(cases) = cases() else {
        println!("skipped: no corpus beside the repository");
        return;
    };
    let mut server = Server::with_users("", &["a"]);
    let mut played = 0;
    for case in cases.iter().filter(|case| case.id.contains("starttls")) {
        let end = if case.state == "tls" { inside(&server, case) } else { in_clear(&server, case) };
        server.assert_alive();
        assert!(end.is_ok(), "{}: {end:?}; expected {}", case.id, case.expect);
        played += 1;
    }
    assert!(played >= 3, "only {played} cases");
    server.stop();
}

/// The case comes first thing behind the handshake, and once more behind an EHLO where it is no
/// matter of what was said before.
fn inside(server: &Server, case: &Case) -> io::Result<()> {
    let mut link = start_tls(server.smtp())?;
    send(&mut link, case)?;
    let got = code(&mut link)?;
    check(case, got)?;
    if case.id == "smtp-starttls-twice" {
        let offered = link.command("EHLO client.example", 250)?.text;
        if offered.contains("STARTTLS") {
            return Err(io::Error::other(offered));
        }
        send(&mut link, case)?;
        let got = code(&mut link)?;
        check(case, got)?;
    }
    end(link)
}

/// MAIL before STARTTLS: refused, or forgotten inside.
fn in_clear(server: &Server, case: &Case) -> io::Result<()> {
    let mut link = smtp(server.smtp(), "EHLO")?;
    send(&mut link, case)?;
    link.expect(250)?;
    match code(&mut link)? {
        503 => end(link),
        220 => {
            let mut link = link.encrypt()?;
            link.command("RCPT TO:<a@local.example>", 503)?;
            link.command("EHLO client.example", 250)?;
            link.command("RCPT TO:<a@local.example>", 503)?;
            end(link)
        }
        got => Err(io::Error::other(format!("{got}"))),
    }
}
