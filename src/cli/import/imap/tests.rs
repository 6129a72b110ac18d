//! Servers that are strange, on loopback: what is brought of their mail, what is left out and why, and that
//! nothing hangs or grows.

use super::*;
use crate::cli::args::{Arguments, Command, ImportCommand};
use crate::mailbox::Use;
use clap::Parser as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const MESSAGE_MAX: u64 = 1_000;

/// How a message is answered for.
#[derive(Clone)]
enum Body {
    Whole(&'static str),
    /// In quotes instead of as a literal.
    Quoted(&'static str),
    Nil,
    /// As many octets, whatever was told.
    Octets(usize),
    /// The connection ends within it, this often.
    Cut(usize),
    /// The server says no to a command that asks for it.
    No,
    /// What is no response.
    Noise,
    /// Not a word.
    Nothing,
    /// It was removed meanwhile.
    Gone,
}

/// A server of one mailbox.
struct Fake {
    /// By UID from 1 on.
    messages: Vec<Body>,
    /// Answers come the other way round.
    is_backwards: bool,
    /// Logins that are taken, at once.
    logins_max: usize,
    logins: AtomicUsize,
    cuts: AtomicUsize,
    list: &'static str,
}

impl Fake {
    fn new(messages: &[Body]) -> Fake {
        Fake {
            messages: messages.to_vec(),
            is_backwards: false,
            logins_max: 100,
            logins: AtomicUsize::new(0),
            cuts: AtomicUsize::new(0),
            list: "",
        }
    }

    /// Serves until the test ends; its port.
    fn serve(self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let fake = Arc::new(self);
        let accept = move || {
            for stream in listener.incoming() {
                let (fake, stream) = (Arc::clone(&fake), stream.unwrap());
                let talk = move || {
                    let mut has_login = false;
                    // Who hangs up is no news.
                    let _ = fake.talk(&stream, &mut has_login);
                    if has_login {
                        fake.logins.fetch_sub(1, Ordering::SeqCst);
                    }
                };
                thread::Builder::new().spawn(talk).unwrap();
            }
        };
        thread::Builder::new().spawn(accept).unwrap();
        port
    }

    fn talk(&self, mut stream: &TcpStream, has_login: &mut bool) -> Option<()> {
        stream.write_all(b"* OK hello\r\n").ok()?;
        for line in BufReader::new(stream).lines() {
            let line = line.ok()?;
            let (tag, rest) = line.split_once(' ')?;
            let (mut said, mut end) = (Vec::new(), "OK done");
            match rest.split(' ').next()? {
                "CAPABILITY" => said.extend_from_slice(b"* CAPABILITY IMAP4rev1\r\n"),
                "LOGIN" if self.logins.load(Ordering::SeqCst) >= self.logins_max => {
                    end = "NO too many";
                }
                "LOGIN" => {
                    self.logins.fetch_add(1, Ordering::SeqCst);
                    *has_login = true;
                }
                "LIST" => said.extend_from_slice(self.list.as_bytes()),
                "EXAMINE" => {
                    let head = format!(
                        "* {} EXISTS\r\n* OK [UIDVALIDITY 9] x\r\n* OK [UIDNEXT 99] x\r\n",
                        self.messages.len()
                    );
                    said.extend_from_slice(head.as_bytes());
                }
                "UID" => end = self.fetch(rest, &mut said, stream)?,
                "LOGOUT" => return None,
                _ => {}
            }
            said.extend_from_slice(format!("{tag} {end}\r\n").as_bytes());
            stream.write_all(&said).ok()?;
        }
        None
    }

    /// `UID FETCH set (…)`; `None` to hang up.
    fn fetch(
        &self,
        line: &str,
        said: &mut Vec<u8>,
        mut stream: &TcpStream,
    ) -> Option<&'static str> {
        let set = line.split(' ').nth(2).unwrap().replace('*', "4000000000");
        let is_in = |uid: usize| {
            set.split(',').any(|range| {
                let (first, last) = range.split_once(':').unwrap_or((range, range));
                (first.parse().unwrap()..=last.parse().unwrap()).contains(&uid)
            })
        };
        let mut wanted: Vec<(usize, &Body)> = (1..).zip(&self.messages).collect();
        wanted.retain(|(uid, _)| is_in(*uid));
        if self.is_backwards {
            wanted.reverse();
        }
        for (uid, body) in wanted {
            if line.contains("RFC822.SIZE") {
                let size = if let Body::Whole(text) = body { text.len() } else { 10 };
                let flags = "FLAGS (\\Seen Work)";
                let date = "INTERNALDATE \"01-Feb-2012 10:11:00 +0000\"";
                let row =
                    format!("* {uid} FETCH (UID {uid} {flags} {date} RFC822.SIZE {size})\r\n");
                said.extend_from_slice(row.as_bytes());
                continue;
            }
            if !line.contains("BODY.PEEK[]") {
                if !matches!(body, Body::Gone) {
                    said.extend_from_slice(format!("* {uid} FETCH (UID {uid})\r\n").as_bytes());
                }
                continue;
            }
            let text = match body {
                Body::Whole(text) => format!("{{{}}}\r\n{text}", text.len()),
                Body::Quoted(text) => format!("\"{text}\""),
                Body::Nil => "NIL".into(),
                Body::Octets(count) => format!("{{{count}}}\r\n{}", "x".repeat(*count)),
                Body::No => return Some("NO not this one"),
                Body::Noise => "((((".into(),
                Body::Cut(times) if self.cuts.fetch_add(1, Ordering::SeqCst) < *times => {
                    said.extend_from_slice(
                        format!("* {uid} FETCH (UID {uid} BODY[] {{9}}\r\nab").as_bytes(),
                    );
                    stream.write_all(said).ok()?;
                    return None;
                }
                Body::Cut(_) => "{4}\r\nsafe".into(),
                Body::Nothing | Body::Gone => continue,
            };
            let row = format!("* {uid} FETCH (BODY[] {text} UID {uid})\r\n");
            said.extend_from_slice(row.as_bytes());
        }
        Some("OK done")
    }
}

fn source(port: u16, more: &[&str]) -> Imap {
    let server = format!("imap://ann@127.0.0.1:{port}");
    let words = [&["pombal", "import", "imap", "ann@a.example", &server], more].concat();
    let Command::Import(ImportCommand::Imap(arguments)) =
        Arguments::try_parse_from(words).unwrap().command
    else {
        panic!("another command");
    };
    Imap::new(&arguments, None, MESSAGE_MAX, &mut || Ok("secret".into())).unwrap()
}

/// What comes of the messages of INBOX: octets, or in words.
fn brought(fake: Fake, more: &[&str]) -> Vec<String> {
    let source = source(fake.serve(), more);
    let folders = source.folders(&mut |_, _| ()).unwrap();
    let folder = source.open(&folders[0], &mut |_| ()).unwrap();
    let batch: Vec<u32> = (0..).take(folder.messages.len()).collect();
    let mut all = Vec::new();
    let done = source.load(&folders[0], &folder, &batch, &mut |loaded| {
        all.push(match loaded {
            Loaded::Message(octets) if octets.len() > 20 => format!("{} octets", octets.len()),
            Loaded::Message(octets) => octets.escape_ascii().to_string(),
            Loaded::Odd(why) => format!("odd: {why}"),
            Loaded::Gone => "gone".into(),
        });
        true
    });
    done.unwrap();
    source.stop();
    all
}

#[test]
fn brings_what_it_can_and_says_what_it_cannot() {
    let got = brought(
        Fake::new(&[
            Body::Whole("a\r\n"),
            Body::Quoted("b"),
            Body::Nil,
            Body::Whole("c\n"),
            Body::Octets(1_001),
            Body::Octets(999),
            Body::Gone,
            Body::Whole(""),
        ]),
        &[],
    );
    let want = [
        "a\\r\\n",
        "b",
        "odd: the server has no octets of it",
        "c\\r\\n",
        "odd: larger than smtp.max_message_size",
        "999 octets",
        "gone",
        "",
    ];
    assert_eq!(got, want);
}

#[test]
fn goes_on_where_a_connection_was_lost() {
    let fake = Fake::new(&[Body::Whole("a"), Body::Cut(2), Body::Whole("b")]);
    assert_eq!(brought(fake, &[]), ["a", "safe", "b"]);
}

#[test]
fn leaves_out_one_message_at_which_the_server_fails() {
    let left = |body| brought(Fake::new(&[Body::Whole("a"), body, Body::Whole("b")]), &[]);
    let what = [
        "the server closed the connection",
        "the server says: not this one",
        "the server does not hand it out",
        "the server's answer cannot be read: a list ends",
    ];
    let bodies = [Body::Cut(99), Body::No, Body::Nothing, Body::Noise];
    for (body, what) in bodies.into_iter().zip(what) {
        assert_eq!(left(body), ["a".into(), format!("odd: {what}"), "b".into()]);
    }
}

#[test]
fn messages_that_come_the_other_way_round_are_put_in_order() {
    let mut fake = Fake::new(&[Body::Whole("a"), Body::Whole("b"), Body::Gone, Body::Whole("c")]);
    fake.is_backwards = true;
    assert_eq!(brought(fake, &[]), ["a", "b", "gone", "c"]);
}

#[test]
fn what_is_known_of_messages_is_read() {
    let source = source(Fake::new(&[Body::Whole("a"), Body::Nil]).serve(), &[]);
    let folders = source.folders(&mut |_, _| ()).unwrap();
    let folder = source.open(&folders[0], &mut |_| ()).unwrap();
    assert_eq!((folder.uidvalidity, folder.uidnext, folder.missing), (9, 99, 0));
    assert_eq!(folder.keywords, ["Work"]);
    let one = &folder.messages[1];
    assert_eq!((one.uid, one.octets, one.date, one.flags), (2, 10, 1_328_091_060, Flags::SEEN));
}

/// As many connections as the server takes, however many are wanted.
#[test]
fn does_with_the_connections_that_it_gets() {
    let mut fake = Fake::new(&[Body::Whole("a"), Body::Whole("b")]);
    fake.logins_max = 1;
    let source = source(fake.serve(), &["--connections", "4"]);
    let folders = source.folders(&mut |_, _| ()).unwrap();
    let folder = source.open(&folders[0], &mut |_| ()).unwrap();
    let came = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            let load = || {
                source
                    .load(&folders[0], &folder, &[0, 1], &mut |loaded| {
                        assert!(matches!(loaded, Loaded::Message(_)));
                        came.fetch_add(1, Ordering::SeqCst);
                        true
                    })
                    .unwrap();
            };
            thread::Builder::new().spawn_scoped(scope, load).unwrap();
        }
    });
    assert_eq!(came.load(Ordering::SeqCst), 8);
}

#[test]
fn folders_are_found_without_extensions() {
    let mut fake = Fake::new(&[]);
    fake.list = "* LIST (\\Noselect) \".\" INBOX\r\n* LIST (\\Drafts) \".\" INBOX.Entw&APw-rfe\r\n\
        * LIST () \".\" a/b\r\n* LIST (\\All) \".\" All\r\n* LIST () \".\" Skipped.x\r\n";
    let source = source(fake.serve(), &["--exclude", "Skipped"]);
    let mut passed = Vec::new();
    let folders = source.folders(&mut |name, why| passed.push(format!("{name}: {why}"))).unwrap();
    let names: Vec<_> =
        folders.iter().map(|one| (one.name.clone(), one.uses.unwrap_or(255))).collect();
    let want = [(Ok("INBOX/Entwürfe".into()), Use::DRAFTS.0), (Err("a/b".into()), 0)];
    assert_eq!(names, want);
    assert_eq!(passed, ["All: it shows what lies in other folders; --views brings it"]);
}

#[test]
fn a_server_that_is_none_or_lets_nobody_in_is_told_of() {
    let mut fake = Fake::new(&[]);
    fake.logins_max = 0;
    let refused = source(fake.serve(), &[]).folders(&mut |_, _| ()).unwrap_err();
    assert_eq!(refused, "127.0.0.1: the server says: too many");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let nobody = source(port, &[]).folders(&mut |_, _| ()).unwrap_err();
    assert!(nobody.contains("refused"), "{nobody}");
}

#[test]
fn sets_name_neighbours_as_ranges() {
    let found = |uid| Found {
        place: Place::Uid(uid),
        octets: 1,
        uid,
        date: 0,
        flags: Flags::default(),
        keywords: Vec::new(),
        uidl: None,
    };
    let messages = [2, 5, 6, 9, 20, 21].into_iter().map(found).collect();
    let folder = Folder { messages, ..Folder::default() };
    let mut give = |_| true;
    let mut batch = Batch::new(&folder, &[0, 1, 2, 4, 5], &mut give);
    assert_eq!(batch.sets(false), ["2:6,20:21"]);
    assert_eq!(batch.sets(true), ["2"]);
    batch.put(5, Loaded::Gone);
    batch.put(9, Loaded::Gone);
    assert_eq!((batch.next, batch.sets(false)), (0, vec!["2,6,20:21".into()]));
    batch.put(2, Loaded::Gone);
    assert_eq!((batch.next, batch.sets(false)), (2, vec!["6,20:21".into()]));
    // What comes early is held up to a bound.
    batch.put(21, Loaded::Message(vec![0; HELD_OCTETS_MAX]));
    batch.put(20, Loaded::Message(vec![0]));
    assert_eq!((batch.held, batch.sets(false)), (HELD_OCTETS_MAX, vec!["6,20".into()]));
    let many = (1..=20_000).map(|at| found(at * 2)).collect();
    let folder = Folder { messages: many, ..Folder::default() };
    let odd: Vec<u32> = (0..20_000).filter(|at| at % 2 == 0).collect();
    let mut give = |_| true;
    let sets = Batch::new(&folder, &odd, &mut give).sets(false);
    assert!(sets.len() > 5 && sets.iter().all(|set| set.len() < SET_OCTETS_MAX + 25));
}
