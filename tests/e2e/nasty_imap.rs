//! Every hostile IMAP input of the corpus, and every name of a mailbox, against the running
//! server.
//!
//! After each case the session is in step or closed, the server serves the next client, and memory
//! stays where it was.

use crate::client::is_end;
use crate::harness::Server;
use crate::imap::Imap;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{self, Write as _};

/// What a server may grow by, whatever it is sent.
const GROWTH_KIB_MAX: u64 = 64 << 10;

/// What cases come to: beginnings of lines that come in this order, `|` between them, with any
/// untagged lines between; `closed` for the end of the connection, `A/B` for either, `$` at the end of
/// one that is the whole line.
const WANTS: &[(&str, &[&str])] = &[
    (
        "* BAD",
        &[
            "empty",
            "tag-plus",
            "tag-star",
            "tag-pct",
            "tag-paren",
            "tag-quote",
            "tag-bs",
            "tag-8bit",
            "tag-10k",
        ],
    ),
    ("a1 BAD/* BAD", &["lf-only", "paren-100000"]),
    ("a] OK", &["tag-rbr"]),
    ("EHLO BAD", &["smtp"]),
    ("a1 BAD/a1 OK", &["trail-sp"]),
    ("a1 NO/a1 BAD", &["login-lit-crlf", "select-empty", "create-empty"]),
    ("+ |a1 BAD", &["auth-badb64"]),
    ("* ID|a1 OK", &["id-dup"]),
    ("a1 BAD|* BYE|closed", &["line-16m-nocrlf"]),
    ("+ ", &["lit-lead0"]),
    ("a1 NO [NONEXISTENT]", &["select-none", "delete-none"]),
    ("* 1 EXISTS|a1 OK [READ-WRITE]", &["select-inbox-case"]),
    ("* ENABLED QRESYNC|a1 OK|* 1 EXISTS|a2 OK", &["select-qresync-ok-order"]),
    (
        "a1 NO",
        &[
            "create-inbox",
            "create-inbox-case",
            "create-lead",
            "create-hash",
            "delete-inbox",
            "append-multi-zero",
        ],
    ),
    (
        "a1 NO/a1 OK/a1 BAD",
        &[
            "create-dotdot",
            "create-dot",
            "create-tilde",
            "create-crlf",
            "create-pct",
            "create-long",
        ],
    ),
    ("a1 OK|a2 NO [ALREADYEXISTS]", &["create-exists"]),
    ("a1 OK/a1 NO [USEATTR]", &["create-specialuse"]),
    ("a1 NO [USEATTR]", &["create-use-bad"]),
    (
        "a1 OK",
        &[
            "rename-inbox",
            "unsub-none",
            "list-ref-abs",
            "list-dotdot",
            "fetch-dup",
            "hf-none",
            "preview",
            "check",
            "uidexpunge",
        ],
    ),
    ("a1 OK|a2 NO", &["rename-to-inbox"]),
    ("a1 OK|a2 OK", &["rename-parent", "unselect"]),
    ("a1 OK|a2 OK|a3 OK|* LSUB () \"/\" s|a4 OK", &["sub-survives"]),
    ("* LIST (\\Noselect) \"/\" \"\"|a1 OK", &["list-empty"]),
    ("a1 OK/a1 BAD", &["list-8bit", "dollar-unset", "hf-colon", "changedsince-0"]),
    ("* LIST|a1 OK", &["list-ext"]),
    ("a1 NO [NONEXISTENT]|a2 OK", &["lsub-pct"]),
    ("* STATUS INBOX (RECENT 1)|a1 OK", &["status-recent"]),
    ("* STATUS|a1 OK", &["status-dup"]),
    ("a1 NO [TRYCREATE]", &["append-none"]),
    ("a1 OK/a1 NO/a1 BAD", &["append-lit8", "binary-append", "append-date-31feb"]),
    ("a1 BAD/a1 NO/a1 OK", &["append-flag-unknown", "append-date-1digit"]),
    ("a1 OK [APPENDUID ", &["append-multi"]),
    ("a1 NO [TOOBIG]", &["append-toobig"]),
    ("a1 BAD", &["append-cat", "append-utf8", "genurl", "notify-none"]),
    ("* ENABLED|a1 OK", &["enable-unknown", "enable-imap4rev2"]),
    ("* ENABLED CONDSTORE|a1 OK|* ENABLED|a2 OK", &["enable-twice"]),
    ("* NAMESPACE|a1 OK", &["namespace"]),
    ("+ |a1 OK/a1 BAD", &["idle-done-sp"]),
    ("+ |a1 OK", &["idle-done-case"]),
    // What follows in clear cannot be inflated.
    ("a1 OK|closed", &["compress"]),
    ("* 1 FETCH|a1 OK", &["seq-star", "seq-starstar", "seq-dup", "seq-10000"]),
    ("* 1 FETCH (UID 1|a1 OK", &["uid-star-empty"]),
    (
        "* 1 FETCH (|a1 OK/a1 NO [UNKNOWN-CTE]",
        &[
            "body-1mime",
            "body-header-part",
            "hf-quoted",
            "part-0",
            "part-past",
            "part-big",
            "binary-size",
            "binary-unknowncte",
        ],
    ),
    ("* 1 FETCH (FLAGS (\\Deleted \\Seen \\Recent))|a1 OK", &["store-nopar"]),
    ("a1 OK/a1 BAD/a1 NO", &["store-plus-empty", "store-unknown-sys", "kw-long"]),
    ("a1 OK [MODIFIED 1]", &["store-unch-0"]),
    ("a1 OK|* 1 FETCH (BODY[] {|a2 OK", &["fetch-examine-seen"]),
    ("a1 BAD/a1 NO", &["copy-range"]),
    ("a1 OK [READ-ONLY]|a2 OK", &["close-examine"]),
    ("* 1 EXISTS|a1 OK", &["select-closed"]),
    ("a1 OK|* 1 FETCH|a2 OK", &["uidonly-seq"]),
    ("* ENABLED|a1 OK|a2 BAD", &["search-charset-enabled"]),
    // How deep keys may be nested is the server's affair.
    ("a1 BAD/a1 OK", &["search-or-5000"]),
    (
        "a1 BAD",
        &[
            "search-unknown",
            "search-or1",
            "search-not",
            "search-date-2d",
            "search-ret-unknown",
            "search-kw-bad",
            "search-younger",
            // Not offered.
            "search-fuzzy",
        ],
    ),
    ("* SEARCH 1$|a1 OK", &["search-date-q", "search-date-case"]),
    ("* SEARCH$|a1 OK", &["search-modseq", "search-header-name-empty"]),
    ("* ESEARCH (TAG \"a1\") ALL 1$|a1 OK", &["search-ret-empty"]),
    ("* ESEARCH (TAG \"a1\") COUNT 0$|a1 OK", &["search-ret-none"]),
    ("a1 OK", &["search-ret-save"]),
];

fn wants(id: &str) -> &'static str {
    let id = id.strip_prefix("imap-").unwrap_or(id);
    let known = WANTS.iter().find(|(_, ids)| ids.contains(&id));
    match known {
        Some((want, _)) => want,
        None => "a1 BAD/a1 NO [TOOBIG]",
    }
}

/// A case of a corpus.
struct Case {
    id: String,
    state: String,
    expect: String,
    sends: Vec<Vec<u8>>,
}

fn lines(name: &str) -> Option<Vec<Value>> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus/protocol/nasty/");
    let text = std::fs::read_to_string(format!("{root}{name}")).ok();
    if text.is_none() {
        println!("skipped: no corpus beside the repository");
    }
    Some(text?.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn case(value: &Value) -> Case {
    let octets = |text: &Value| -> Vec<u8> {
        text.as_str().unwrap().chars().map(|letter| u8::try_from(letter).unwrap()).collect()
    };
    let mut sends: Vec<Vec<u8>> =
        value["send"].as_array().into_iter().flatten().map(octets).collect();
    if let Some(generator) = value.get("gen") {
        let count = usize::try_from(generator["count"].as_u64().unwrap()).unwrap();
        let body = octets(&generator["unit"]).repeat(count);
        sends.push([octets(&generator["prefix"]), body, octets(&generator["suffix"])].concat());
    }
    let text = |name: &str| value[name].as_str().unwrap().to_owned();
    Case { id: text("id"), state: text("state"), expect: text("expect"), sends }
}

#[test]
fn imap_answers_every_nasty_input_and_serves_the_next() {
    let Some(values) = lines("imap.jsonl") else { return };
    let cases: Vec<Case> = values.iter().map(case).collect();
    assert!(cases.len() >= 185, "only {} cases", cases.len());
    let mut server = Server::with_users("", &["next", "flood"]);
    let before = server.memory_kib("VmHWM");
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let user = format!("case{number}");
        server.add_user(&user);
        let played = match &*case.id {
            "imap-fetch-amplify" => waits_for_the_reader(&server, case),
            // The second one has to come deflated: tests/e2e/imap_compress.rs.
            "imap-compress-twice" => Ok(()),
            _ => play(&server, &user, case),
        };
        server.assert_alive();
        let after = played.and_then(|()| Imap::login(&server, "next")?.ok("SELECT INBOX"));
        let grown = server.memory_kib("VmHWM").saturating_sub(before);
        if let Err(error) = after {
            wrong.push(format!("{}: {error}; expected {}", case.id, case.expect));
        } else if grown > GROWTH_KIB_MAX {
            wrong.push(format!("{}: {grown} KiB more memory", case.id));
            break;
        }
    }
    println!("{} cases", cases.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    server.stop();
}

/// A session in the state of the case, with one message of one part in INBOX.
fn session(server: &Server, user: &str, state: &str) -> io::Result<Imap> {
    if state == "notauth" {
        return Imap::connect(server);
    }
    let mut imap = Imap::login(server, user)?;
    imap.append("INBOX", "", b"From: a@b.example\r\nSubject: 1\r\n\r\none\r\n")?;
    if state == "selected" {
        imap.ok("SELECT INBOX")?;
    }
    Ok(imap)
}

fn play(server: &Server, user: &str, case: &Case) -> io::Result<()> {
    let mut imap = session(server, user, &case.state)?;
    for part in &case.sends {
        match imap.link.send(part) {
            Err(error) if is_end(&error) => break,
            other => other?,
        }
    }
    if compare(&mut imap, wants(&case.id))? {
        return Ok(());
    }
    in_step(&mut imap, &case.id)
}

/// Whether a line is what it is held to.
fn is_like(line: &str, want: &str) -> bool {
    want.strip_suffix('$').map_or_else(|| line.starts_with(want), |whole| line == whole)
}

/// Reads what must come. True where that is the end of the connection.
fn compare(imap: &mut Imap, wants: &str) -> io::Result<bool> {
    let mut got = Vec::new();
    for want in wants.split('|') {
        loop {
            let line = imap.link.line()?;
            let Some(line) = line else {
                if want == "closed" {
                    return Ok(true);
                }
                return Err(io::Error::other(format!("hung up; wanted {wants}, got {got:?}")));
            };
            let line = line.escape_ascii().to_string().replace("\\\\", "\\").replace("\\\"", "\"");
            let fits = want.split('/').any(|want| is_like(&line, want)) || is_like(&line, want);
            let may_come = line.starts_with("* ") && !line.starts_with("* BAD");
            let is_tagged = line.starts_with("a1 ") || line.starts_with("a2 ");
            got.push(line);
            if fits {
                break;
            }
            if is_tagged || (!may_come && got.len() > 200) {
                return Err(io::Error::other(format!("wanted {want} of {wants}, got {got:?}")));
            }
        }
    }
    Ok(false)
}

/// A NOOP gets its own answer. A literal that was asked for is given first.
fn in_step(imap: &mut Imap, id: &str) -> io::Result<()> {
    let way_back = match id {
        // The line goes on up to its CRLF.
        "imap-lf-only" => "\r\n",
        // The octet that was asked for, and no password.
        "imap-lit-lead0" => "x\r\n",
        _ => "",
    };
    imap.link.send(format!("{way_back}step NOOP\r\n"))?;
    let lines = imap.answer("step")?;
    let tagged = lines
        .iter()
        .rev()
        .skip(1)
        .find(|line| !line.starts_with("* ") && !line.starts_with("a1 BAD"));
    match (lines.last(), tagged) {
        (Some(last), None) if last.starts_with("OK") => Ok(()),
        _ => Err(io::Error::other(format!("out of step: {lines:?}"))),
    }
}

/// A reader that does not read costs no memory and delays nobody, and gets all in the end.
fn waits_for_the_reader(server: &Server, case: &Case) -> io::Result<()> {
    let mut slow = Imap::login(server, "flood")?;
    slow.append("INBOX", "(\\Seen)", &b"0123456789abcdef\r\n".repeat(1_000))?;
    slow.ok("SELECT INBOX")?;
    let mut writer = slow.link.writer();
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || writer.write_all(&case.sends.concat()));
        let before = server.memory_kib("VmRSS");
        for _ in 0..20 {
            Imap::login(server, "next")?.ok("SELECT INBOX")?;
        }
        let grown = server.memory_kib("VmRSS").saturating_sub(before);
        if grown > 8 << 10 {
            return Err(io::Error::other(format!("{grown} KiB wait for the reader")));
        }
        for _ in 0..1_000 {
            let lines = slow.answer("a")?;
            if lines.len() != 1_000 + 3 {
                return Err(io::Error::other(format!("{} lines", lines.len())));
            }
        }
        writing.join().expect("the writer does not panic")
    })?;
    in_step(&mut slow, &case.id)
}

/// What is small on the wire and large in a mind that takes it as it is said.
#[test]
fn imap_bombs_cost_no_more_than_they_weigh() {
    let mut server = Server::with_users("", &["bob"]);
    let mut imap = Imap::login(&server, "bob").unwrap();
    let before = server.memory_kib("VmHWM");
    for message in [deep(3_000), wide(10_000), fields(20_000)] {
        imap.append("INBOX", "", &message).unwrap();
    }
    imap.ok("SELECT INBOX (CONDSTORE)").unwrap();
    imap.ok("ENABLE QRESYNC").unwrap();
    imap.ok("CREATE aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa").unwrap();
    let commands = [
        "FETCH 1:3 (ENVELOPE BODYSTRUCTURE BODY PREVIEW)".to_owned(),
        format!("FETCH 1:3 BODY.PEEK[1{}]", ".1".repeat(3_000)),
        "FETCH 1:3 (BODY.PEEK[10000] BODY.PEEK[4294967295] BODY.PEEK[HEADER])".into(),
        format!("FETCH 1:3 ({})", "BODY.PEEK[HEADER.FIELDS (X)] ".repeat(1_000).trim_end()),
        format!("LIST \"\" \"{}b\"", "*a%".repeat(300)),
        format!("LIST \"\" ({})", "\"*a*a*a*b\" ".repeat(1_000).trim_end()),
        format!("UID FETCH {} UID", vec!["1:4294967295"; 4_000].join(",")),
        format!("UID STORE {} +FLAGS.SILENT (x)", vec!["4294967295:*"; 4_000].join(",")),
        format!("UID COPY {} nosuch", vec!["1:*"; 4_000].join(",")),
        "SELECT INBOX (QRESYNC (1 1 1:4294967295 (1:4294967295 1:4294967295)))".into(),
        format!("ENABLE {}", "X".repeat(30_000)),
    ];
    for command in &commands {
        let answer = imap.command(command);
        let shown: String = command.chars().take(60).collect();
        let last = answer.unwrap_or_else(|error| panic!("{shown}: {error}")).pop();
        let last = last.unwrap_or_default();
        let answered = ["OK", "NO", "BAD"].iter().any(|word| last.starts_with(word));
        assert!(answered, "{shown}: {last}");
    }
    // Room is taken by what came, not by what was announced.
    let announced: Vec<Imap> = (0..60)
        .map(|_| {
            let mut imap = Imap::login(&server, "bob").unwrap();
            imap.link.send("a APPEND INBOX {4000000+}\r\nnot much").unwrap();
            imap
        })
        .collect();
    imap.ok("NOOP").unwrap();
    let grown = server.memory_kib("VmHWM").saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB more");
    drop(announced);
    assert_eq!(imap.ok("STATUS INBOX (MESSAGES)").unwrap(), ["* STATUS INBOX (MESSAGES 3)"]);
    server.assert_alive();
    server.stop();
}

/// Multiparts in multiparts.
fn deep(levels: usize) -> Vec<u8> {
    let mut text = String::from("Subject: deep\r\nMIME-Version: 1.0\r\n");
    for level in 0..levels {
        write!(text, "Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n")
            .unwrap();
    }
    text.into_bytes()
}

/// Empty parts side by side.
fn wide(parts: usize) -> Vec<u8> {
    let head = "Subject: wide\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n";
    format!("{head}{}--b--\r\n", "--b\r\n\r\nx\r\n".repeat(parts)).into_bytes()
}

/// A header of addresses.
fn fields(count: usize) -> Vec<u8> {
    format!("Subject: fields\r\n{}\r\nx\r\n", "To: a@b.example, <c@d>\r\n".repeat(count))
        .into_bytes()
}

/// Names that are good are made and listed as they were given; others are refused.
#[test]
fn every_name_of_a_mailbox_is_kept_or_refused() {
    let Some(names) = lines("mailbox-names.jsonl") else { return };
    let server = Server::with_users("", &["names"]);
    let mut imap = Imap::login(&server, "names").unwrap();
    let mut wrong = Vec::new();
    for name in &names {
        let (id, name_7) = (name["id"].as_str().unwrap(), name["mutf7"].as_str().unwrap());
        let valid = name["valid"].as_bool().unwrap();
        imap.link.send(format!("tag CREATE {{{}+}}\r\n{name_7}\r\n", name_7.len())).unwrap();
        let made = imap.answer("tag").unwrap().pop().unwrap();
        // INBOX is there; a server may refuse more than it must (RFC 9051 §5.1).
        let may_refuse = ["INBOX", "#news", "per%cent", "st*r", "&ICg-", "trailing "];
        let good = match (made.starts_with("OK"), valid) {
            (true, true) => is_listed(&mut imap, name_7).unwrap(),
            (false, false) => true,
            (false, true) => may_refuse.contains(&name_7),
            (true, false) => false,
        };
        if !good {
            wrong.push(format!("{id} {name_7:?}: {made}; {name}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), names.len(), wrong.join("\n"));
}

fn is_listed(imap: &mut Imap, name: &str) -> io::Result<bool> {
    let lines = imap.ok("LIST \"\" *")?;
    let quoted = format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
    Ok(lines.iter().any(|line| line.ends_with(&format!(" {name}")) || line.ends_with(&quoted)))
}
