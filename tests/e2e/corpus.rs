//! Real mail in by SMTP and LMTP, out by POP3, octet for octet, after a restart and a crash too.
//!
//! Each mail of the corpus is made CRLF (a lone CR stays) and sent by DATA. What DATA may not
//! carry (a lone CR, NUL, an endless line) must get the refusal that is documented for it, and
//! then goes in by LMTP and BDAT with BODY=BINARYMIME, where every octet may. What comes out must
//! be what went in below our own Return-Path and Received, but for the Return-Path fields that a mail
//! brought: there is one, ours. A mail whose last line has no end gets CRLF there, as POP3 must.
//!
//! The corpus is not part of this repository; without it the test says so and passes.

use crate::client::{Link, Maildrop, find, has_header, smtp, stuff, without_trace};
use crate::harness::Server;
use pombal::wire::text::{TextFault, TextScan};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const FOLDERS: [&str; 7] = ["messages", "spamham", "bounces", "eai", "calendar", "tnef", "mbox"];
/// Maildrops that the mails are spread over; the last one takes those with SMTPUTF8.
const USERS: [&str; 9] = ["u0", "u1", "u2", "u3", "u4", "u5", "u6", "u7", "eai"];
/// Octets that the server takes.
const MESSAGE_OCTETS_MAX: usize = 4 << 20;
/// Received fields that the server takes.
const HOPS_MAX: usize = 100;
/// Mails that go to all maildrops at once.
const COUNT: usize = 100;

struct Mail {
    name: String,
    octets: Vec<u8>,
    /// Why DATA may not carry it: the reply that it must get.
    refusal: Option<(u16, &'static str)>,
}

/// What became of the mails of one maildrop.
#[derive(Default)]
struct Sent {
    /// In the order in which they were stored.
    stored: Vec<usize>,
    by_smtp: usize,
    by_lmtp: usize,
    refused: BTreeMap<&'static str, usize>,
}

#[test]
fn real_mail_comes_out_as_it_went_in() {
    let Some(mails) = mails() else {
        println!("skipped: no corpus beside the repository");
        return;
    };
    let mut server = Server::with_users("", &USERS);
    let shares = spread(&mails);
    let sent: Vec<Sent> = each_user(|user| send(&server, user, &mails, &shares[user]));
    let total = |count: fn(&Sent) -> usize| sent.iter().map(count).sum::<usize>();
    let (by_smtp, by_lmtp) = (total(|one| one.by_smtp), total(|one| one.by_lmtp));
    let mut refused: BTreeMap<&str, usize> = BTreeMap::new();
    for (why, count) in sent.iter().flat_map(|one| &one.refused) {
        *refused.entry(why).or_default() += count;
    }
    let reasons: Vec<String> =
        refused.iter().map(|(why, count)| format!("{count} for {why}")).collect();
    let brought = mails.iter().filter(|mail| without_return_path(&mail.octets) != mail.octets);
    println!("{} mails bring a Return-Path", brought.count());
    println!(
        "{} mails: sent {} ({by_smtp} by SMTP, {by_lmtp} by LMTP BDAT), DATA refused {} ({})",
        mails.len(),
        by_smtp + by_lmtp,
        refused.values().sum::<usize>(),
        reasons.join(", "),
    );
    assert!(by_smtp > 2_000 && by_lmtp > 0, "the corpus has both kinds");

    let ids = read_all(&server, &mails, &sent, "at once");
    server.restart();
    assert!(ids == read_all(&server, &mails, &sent, "after a restart"), "UIDL changed");
    server.kill9();
    server.start();
    assert!(ids == read_all(&server, &mails, &sent, "after kill -9"), "UIDL changed");
    utf8_mail_needs_a_utf8_reader(&server, &mails, &sent[USERS.len() - 1]);
    server.stop();
}

/// Whatever a message brings, and however it comes, it has one Return-Path (RFC 5321 §4.4).
#[test]
fn a_message_has_one_return_path() {
    let mut server = Server::with_users("", &["u"]);
    let header = "To: a\r\nRETURN-PATH :\r\n <x@other.example>\r\n\t(y)\r\n\
                  Return-Path: <>\r\nReturn-Path-Of: b\r\n";
    let body = "\r\nReturn-Path: <z@other.example>\r\n c\r\n";
    let message = format!("{header}{body}");
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    let envelope = |link: &mut Link| {
        link.command("MAIL FROM:<s@other.example>", 250).unwrap();
        link.command("RCPT TO:<u@local.example>", 250).unwrap();
    };
    envelope(&mut link);
    link.command("DATA", 354).unwrap();
    link.send(stuff(message.as_bytes())).unwrap();
    link.expect(250).unwrap();
    envelope(&mut link);
    // Cut within the name, and in a fold.
    let (first, rest) = message.split_at(13);
    let (second, third) = rest.split_at(15);
    for (part, last) in [(first, ""), (second, ""), (third, " LAST")] {
        link.send(format!("BDAT {}{last}\r\n{part}", part.len())).unwrap();
        link.expect(250).unwrap();
    }
    link.command("QUIT", 221).unwrap();
    let mut maildrop = Maildrop::open_filled(server.pop3(), "u", 2).unwrap();
    let got = maildrop.retrieve_all().unwrap();
    maildrop.quit().unwrap();
    for message in got {
        assert!(message.starts_with(b"Return-Path: <s@other.example>\r\nReceived: "));
        let bare = without_trace(&message).expect("trace on top");
        let want = format!("To: a\r\nReturn-Path-Of: b\r\n{body}");
        assert_eq!(String::from_utf8_lossy(bare), want);
    }
    server.stop();
}

#[test]
fn one_mail_to_many_is_the_same_for_each() {
    let mut server = Server::with_users("", &USERS);
    let body = |index: usize| format!("Subject: {index}\r\n\r\n.{}\r\n", "x".repeat(index * 37));
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    for index in 0..COUNT {
        let mut commands = "MAIL FROM:<s@other.example>\r\n".to_owned();
        for user in USERS {
            writeln!(commands, "RCPT TO:<{user}@local.example>\r").unwrap();
        }
        commands.push_str("DATA\r\n");
        link.send(commands).unwrap();
        for code in std::iter::repeat_n(250, USERS.len() + 1).chain([354]) {
            link.expect(code).unwrap();
        }
        link.send(stuff(body(index).as_bytes())).unwrap();
        link.expect(250).unwrap();
    }
    link.command("QUIT", 221).unwrap();
    // What lives on another shard may still be on its way; a stop brings none of it to an end,
    // the next start does.
    server.restart();
    let want: Vec<Vec<u8>> = {
        let mut all: Vec<Vec<u8>> = (0..COUNT).map(|index| body(index).into_bytes()).collect();
        all.sort();
        all
    };
    for user in USERS {
        let mut maildrop = Maildrop::open_filled(server.pop3(), user, COUNT).unwrap();
        let got = maildrop.retrieve_all().unwrap();
        maildrop.quit().unwrap();
        let bare = |one: &Vec<u8>| without_trace(one).expect("trace on top").to_vec();
        let mut got: Vec<Vec<u8>> = got.iter().map(bare).collect();
        // Copies to other shards overtake each other; none is missing or doubled.
        got.sort();
        assert!(got == want, "{user} has {} mails, not the same {COUNT}", got.len());
    }
    server.stop();
}

/// All mails, in the order of their files; `None` without the corpus.
fn mails() -> Option<Vec<Mail>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    if !corpus.is_dir() {
        return None;
    }
    let mut mails = Vec::new();
    for folder in FOLDERS {
        let mut files = Vec::new();
        walk(&corpus.join(folder), &mut files);
        files.sort();
        for file in files {
            let name = file.strip_prefix(&corpus).unwrap().display().to_string();
            let raw = fs::read(&file).unwrap();
            if folder == "mbox" {
                for (index, mail) in split_mbox(&raw).into_iter().enumerate() {
                    mails.push(mail_of(format!("{name}#{index}"), &mail));
                }
            } else {
                mails.push(mail_of(name, &raw));
            }
        }
    }
    Some(mails)
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

/// The mails between the From_ lines (RFC 4155); a file without any is one mail.
fn split_mbox(raw: &[u8]) -> Vec<Vec<u8>> {
    let mut mails: Vec<Vec<u8>> = Vec::new();
    for line in raw.split_inclusive(|&octet| octet == b'\n') {
        if line.starts_with(b"From ") {
            mails.push(Vec::new());
        } else if let Some(mail) = mails.last_mut() {
            mail.extend_from_slice(line);
        } else {
            mails.push(line.to_vec());
        }
    }
    mails
}

fn mail_of(name: String, raw: &[u8]) -> Mail {
    let mut octets = Vec::with_capacity(raw.len() + raw.len() / 16);
    for &octet in raw {
        if octet == b'\n' && octets.last() != Some(&b'\r') {
            octets.push(b'\r');
        }
        octets.push(octet);
    }
    let refusal = refusal(&octets);
    Mail { name, octets, refusal }
}

/// The reply that DATA must give, if it may not take the mail.
fn refusal(octets: &[u8]) -> Option<(u16, &'static str)> {
    if octets.len() > MESSAGE_OCTETS_MAX {
        return Some((552, "5.3.4"));
    }
    let mut scan = TextScan::new(64 << 10);
    scan.feed(octets);
    // DATA ends the last line itself.
    scan.feed(if octets.ends_with(b"\n") || octets.is_empty() { b"" } else { b"\r\n" });
    scan.end();
    match scan.fault() {
        Some(TextFault::BareLineEnd) => return Some((550, "5.6.11")),
        Some(TextFault::Nul) => return Some((550, "5.6.0")),
        Some(TextFault::LongLine) => return Some((554, "5.6.0")),
        None => {}
    }
    let head = find(octets, b"\r\n\r\n").map_or(octets, |end| &octets[..end]);
    let lines = head.split(|&octet| octet == b'\n');
    let hops = lines.filter(|line| line.len() > 8 && line[..9].eq_ignore_ascii_case(b"received:"));
    (hops.count() > HOPS_MAX).then_some((554, "5.4.6"))
}

/// Which mails go to which of [`USERS`].
fn spread(mails: &[Mail]) -> Vec<Vec<usize>> {
    let mut shares = vec![Vec::new(); USERS.len()];
    let plain = USERS.len() - 1;
    for (index, mail) in mails.iter().enumerate() {
        let user = if mail.name.starts_with("eai/") { plain } else { index % plain };
        shares[user].push(index);
    }
    shares
}

/// Runs `work` for all users side by side.
fn each_user<T: Send>(work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> =
            (0..USERS.len()).map(|user| scope.spawn(move || work(user))).collect();
        running.into_iter().map(|one| one.join().expect("no client panics")).collect()
    })
}

fn send(server: &Server, user: usize, mails: &[Mail], share: &[usize]) -> Sent {
    let mut sent = Sent::default();
    let name = |index: usize| &mails[index].name;
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    let mut refused = Vec::new();
    for &index in share {
        let reply = by_data(&mut link, user, &mails[index])
            .unwrap_or_else(|error| panic!("{}: {error}", name(index)));
        match mails[index].refusal {
            None => {
                assert!(reply.code == 250, "{}: {}", name(index), reply.text);
                sent.stored.push(index);
                sent.by_smtp += 1;
            }
            Some((code, enhanced)) => {
                let right = reply.code == code && reply.text.contains(enhanced);
                assert!(right, "{}: {} for {code} {enhanced}", name(index), reply.text);
                *sent.refused.entry(reason(code, enhanced)).or_default() += 1;
                refused.push(index);
            }
        }
    }
    link.command("QUIT", 221).unwrap();
    let mut link = smtp(server.lmtp(), "LHLO").unwrap();
    for index in refused {
        let mail = &mails[index];
        let reply =
            by_bdat(&mut link, user, mail).unwrap_or_else(|error| panic!("{}: {error}", mail.name));
        let (code, enhanced) = mail.refusal.expect("it was refused");
        // Size and loops are for BDAT what they are for DATA.
        if matches!(enhanced, "5.3.4" | "5.4.6") {
            assert!(reply.code == code, "{}: {}", mail.name, reply.text);
            continue;
        }
        assert!(reply.code == 250, "{}: {}", mail.name, reply.text);
        sent.stored.push(index);
        sent.by_lmtp += 1;
    }
    link.command("QUIT", 221).unwrap();
    sent
}

fn reason(code: u16, enhanced: &str) -> &'static str {
    match (code, enhanced) {
        (550, "5.6.11") => "a lone CR or LF",
        (550, _) => "NUL",
        (552, _) => "its size",
        (554, "5.4.6") => "its hops",
        _ => "a line over 64 KiB",
    }
}

fn by_data(link: &mut Link, user: usize, mail: &Mail) -> io::Result<crate::client::Reply> {
    let to = USERS[user];
    let utf8 = if to == "eai" { " SMTPUTF8" } else { "" };
    link.send(format!(
        "MAIL FROM:<sender@other.example> BODY=8BITMIME{utf8}\r\n\
         RCPT TO:<{to}@local.example>\r\nDATA\r\n"
    ))?;
    for code in [250, 250, 354] {
        link.expect(code)?;
    }
    link.send(stuff(&mail.octets))?;
    link.reply()?.ok_or_else(|| io::Error::other("closed"))
}

fn by_bdat(link: &mut Link, user: usize, mail: &Mail) -> io::Result<crate::client::Reply> {
    let to = USERS[user];
    // In two chunks, the first in one write with the commands.
    let (first, second) = mail.octets.split_at(mail.octets.len() / 2);
    let mut all = format!(
        "MAIL FROM:<sender@other.example> BODY=BINARYMIME\r\n\
         RCPT TO:<{to}@local.example>\r\nBDAT {}\r\n",
        first.len()
    )
    .into_bytes();
    all.extend_from_slice(first);
    link.send(all)?;
    link.expect(250)?;
    link.expect(250)?;
    let taken = link.reply()?.ok_or_else(|| io::Error::other("closed"))?;
    link.send([format!("BDAT {} LAST\r\n", second.len()).as_bytes(), second].concat())?;
    let reply = link.reply()?.ok_or_else(|| io::Error::other("closed"))?;
    // A chunk that is refused is the answer, the second only follows.
    let answer = if taken.code == 250 { reply } else { taken };
    Ok(answer)
}

/// Reads every maildrop; panics where anything is not as it went in. Returns the unique ids.
fn read_all(server: &Server, mails: &[Mail], sent: &[Sent], when: &str) -> Vec<Vec<String>> {
    let ids = each_user(|user| {
        let mut maildrop = Maildrop::open(server.pop3(), USERS[user], true).unwrap();
        let stored = &sent[user].stored;
        assert_eq!(maildrop.count, stored.len(), "{} {when}: mails in all", USERS[user]);
        let (sizes, ids) = (maildrop.listing("LIST").unwrap(), maildrop.listing("UIDL").unwrap());
        let messages = maildrop.retrieve_all().unwrap();
        let octets: usize = messages.iter().map(Vec::len).sum();
        assert_eq!(maildrop.octets, octets as u64, "{} {when}: STAT tells octets", USERS[user]);
        for ((message, &index), size) in messages.iter().zip(stored).zip(&sizes) {
            let name = &mails[index].name;
            assert_eq!(size, &message.len().to_string(), "{name} {when}: the size in LIST");
            let got = without_trace(message).unwrap_or_else(|| panic!("{name} {when}: trace"));
            compare(&mails[index], got, when);
        }
        maildrop.quit().unwrap();
        ids
    });
    let identical: usize = ids.iter().map(Vec::len).sum();
    println!("identical {identical} {when}");
    ids
}

fn compare(mail: &Mail, got: &[u8], when: &str) {
    let mut want = as_delivered(&mail.octets);
    if !want.is_empty() && !want.ends_with(b"\n") {
        want.extend_from_slice(b"\r\n");
    }
    if got == want {
        return;
    }
    let at = got.iter().zip(&want).position(|(got, want)| got != want);
    let at = at.unwrap_or(got.len().min(want.len()));
    let near = |octets: &[u8]| {
        let range = at.saturating_sub(20)..octets.len().min(at + 40);
        octets.get(range).unwrap_or_default().escape_ascii().to_string()
    };
    panic!(
        "{} {when}: {} octets for {}, differs at {at}: {} for {}",
        mail.name,
        got.len(),
        want.len(),
        near(got),
        near(&want)
    );
}

/// The mail as it stands behind our trace fields: an empty line parts one without a header from them.
fn as_delivered(octets: &[u8]) -> Vec<u8> {
    if has_header(octets) { without_return_path(octets) } else { [b"\r\n", octets].concat() }
}

/// The mail without the Return-Path fields of its header.
fn without_return_path(octets: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"return-path";
    let (mut kept, mut in_header, mut in_field) = (Vec::with_capacity(octets.len()), true, false);
    for line in octets.split_inclusive(|&octet| octet == b'\n') {
        in_header &= line != b"\r\n";
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            let name = line.split(|&octet| octet == b':').next().unwrap_or_default();
            in_field = name.len() < line.len() && name.trim_ascii_end().eq_ignore_ascii_case(NAME);
        }
        if !in_header || !in_field {
            kept.extend_from_slice(line);
        }
    }
    kept
}

/// What has 8-bit octets in its header and came with SMTPUTF8 is only for readers that said UTF8
/// (RFC 6856 §2); everybody else is told so.
fn utf8_mail_needs_a_utf8_reader(server: &Server, mails: &[Mail], sent: &Sent) {
    let mut maildrop = Maildrop::open(server.pop3(), "eai", false).unwrap();
    for (position, &index) in sent.stored.iter().enumerate() {
        let octets = &mails[index].octets;
        let head = find(octets, b"\r\n\r\n").map_or(&octets[..], |end| &octets[..end]);
        maildrop.link.send(format!("RETR {}\r\n", position + 1)).unwrap();
        let answer = maildrop.link.line().unwrap().unwrap();
        if head.is_ascii() {
            assert!(answer.starts_with(b"+OK"), "{}", mails[index].name);
            maildrop.link.body().unwrap();
        } else {
            assert!(answer.starts_with(b"-ERR [UTF8]"), "{}", mails[index].name);
        }
    }
    maildrop.quit().unwrap();
}
