//! Sessions with other servers, on real sockets: ours, by SMTP with TLS and without, by LMTP, and with
//! a login; and Postfix, as a server that others wrote.
//!
//! Postfix needs root; without it, or without the program, its tests are skipped aloud, or fail with
//! `CLIENTS_REQUIRED=1`.

use crate::client::{Maildrop, without_trace};
use crate::harness::{PASSWORD, PATIENCE, Port, Server};
use crate::peers::Peer as _;
use crate::postfix::Postfix;
use futures_lite::FutureExt as _;
use pombal::bytes::chain::Shared;
use pombal::env::ring::{Ring, Settings, start};
use pombal::model::address::Address;
use pombal::model::time::Mono;
use pombal::mta::session::{Body, Session, Target, Terms};
use pombal::proto::sasl::Credentials;
use pombal::proto::smtp::client::{Login, Mail, Rcpt, Timeouts, Verdict};
use pombal::tls::{Caller, Demand};
use pombal::wire::message::nature::Nature;
use pombal::wire::smtp::offers::Keywords;
use pombal::wire::smtp::param::{MailParams, Notify, RcptParams, Ret};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::rc::Rc;
use std::sync::mpsc::channel;

/// What is sent, and to whom.
#[derive(Clone, Default)]
struct Letter {
    users: Vec<&'static str>,
    domain: &'static str,
    octets: Vec<u8>,
    utf8: bool,
}

/// How a session is to be.
#[derive(Clone, Copy, Default)]
struct Manner {
    port: u16,
    lmtp: bool,
    encrypted: bool,
    encrypted_first: bool,
    user: Option<&'static str>,
}

/// What came of it: the verdicts in words, what was offered, the version of TLS.
struct Told {
    verdicts: Vec<Vec<String>>,
    offered: Keywords,
    version: Option<&'static str>,
}

/// Sends the letters by one session on a shard of this process.
fn deliver(manner: Manner, letters: Vec<Letter>) -> Told {
    let (sender, receiver) = channel();
    let work = move |ring: Ring| {
        let (letters, sender) = (letters.clone(), sender.clone());
        async move {
            let told = AssertUnwindSafe(session(ring, manner, letters)).catch_unwind().await;
            sender.send(told).expect("the test waits");
        }
    };
    let shards = start(1, Settings::default(), work).expect("the machine has what a shard needs");
    let told = receiver.recv_timeout(PATIENCE).expect("the session ends");
    shards.wait();
    told.unwrap_or_else(|panic| resume_unwind(panic))
}

async fn session(ring: Ring, manner: Manner, letters: Vec<Letter>) -> Told {
    let key = rcgen::KeyPair::generate().unwrap();
    let root = rcgen::CertificateParams::new(vec!["root.example".into()]).unwrap();
    let root = root.self_signed(&key).unwrap().pem();
    let login = manner.user.map(|user| Login {
        credentials: Credentials::new(&format!("{user}@local.example"), PASSWORD),
        in_clear: false,
    });
    let terms = Terms {
        hello: "out.example".into(),
        lmtp: manner.lmtp,
        login,
        timeouts: Timeouts::default(),
        is_encrypted_first: manner.encrypted_first,
        caller: Caller::trusting(root.as_bytes()).unwrap(),
        aside: Rc::new(|step| Box::pin(async { Some(step()) })),
    };
    let demand = if manner.encrypted { Demand::ENCRYPT } else { Demand::NONE };
    let target = Target {
        address: SocketAddr::from(([127, 0, 0, 1], manner.port)),
        source: Some([127, 0, 0, 9].into()),
        host: Some("mx.local.example"),
        demand: &demand,
        end: Mono::NEVER,
    };
    let mut session = Session::open(&ring, target, &terms).await.unwrap();
    assert_eq!(session.local().ip(), std::net::IpAddr::from([127, 0, 0, 9]));
    let offered = session.offers().keywords;
    let version = session.facts().map(|facts| facts.version());
    let mut verdicts = Vec::new();
    for letter in letters {
        assert!(session.is_open());
        verdicts.push(send(&mut session, &letter, manner.user).await);
    }
    session.quit().await;
    Told { verdicts, offered, version }
}

async fn send(session: &mut Session<Ring>, letter: &Letter, user: Option<&str>) -> Vec<String> {
    let owner: Rc<dyn Shared> = Rc::new(letter.octets.clone());
    let addresses: Vec<Address> =
        letter.users.iter().map(|user| Address::from_parts(user, letter.domain)).collect();
    let notify = Some(Notify { failure: true, ..Notify::default() });
    let params = RcptParams { notify, orcpt: Some("rfc822;somebody@local.example") };
    let recipients: Vec<Rcpt<'_>> =
        addresses.iter().map(|address| Rcpt { address, params }).collect();
    let sender = match user {
        Some(user) => Address::from_parts(user, "local.example"),
        None => Address::from_parts("sender", "out.example"),
    };
    let params = MailParams {
        ret: Some(Ret::Headers),
        envid: Some("id"),
        utf8: letter.utf8,
        ..MailParams::default()
    };
    let mail = Mail { sender: Some(&sender), params, recipients: &recipients };
    let nature = Nature::of(&letter.octets);
    let body = Body { front: b"X-Front: yes\r\n", range: 0..owner.len(), owner, nature };
    let delivery = session.deliver(&mail, body, Mono::NEVER).await;
    assert!(delivery.trouble.is_none(), "{delivery:?}");
    let word = |verdict: &Verdict| match verdict {
        Verdict::Delivered(said) => format!("delivered {}", said.code),
        Verdict::Deferred(said) => format!("deferred {said}"),
        Verdict::Failed(said) => format!("failed {}", said.code),
        Verdict::Unfit(said) => format!("unfit {}", said.code),
        Verdict::Again => "again".into(),
    };
    delivery.verdicts.iter().map(word).collect()
}

/// With dots, octets over 127, and of that many lines.
fn message(lines: usize) -> Vec<u8> {
    let mut octets = b"From: a@local.example\r\nSubject: out\r\n\r\n".to_vec();
    for line in 0..lines {
        octets.extend_from_slice(format!(".{line} é\r\n..\r\n.\r\n").as_bytes());
    }
    octets
}

fn letters() -> Vec<Letter> {
    let letter = |users: &[&'static str], octets: Vec<u8>| Letter {
        users: users.to_vec(),
        domain: "local.example",
        octets,
        utf8: false,
    };
    vec![
        letter(&["a", "b", "nobody"], message(10)),
        letter(&["a"], message(20_000)),
        letter(&["nobody"], message(1)),
        letter(&["b"], message(300)),
    ]
}

const ALL: [&[&str]; 4] = [
    &["delivered 250", "delivered 250", "failed 550"],
    &["delivered 250"],
    &["failed 550"],
    &["delivered 250"],
];

#[track_caller]
fn check_stored(server: &Server, user: &str, wanted: &[Vec<u8>]) {
    let mut drop = Maildrop::open(server.pop3(), user, true).unwrap();
    let stored = drop.retrieve_all().unwrap();
    assert_eq!(stored.len(), wanted.len());
    for (stored, wanted) in stored.iter().zip(wanted) {
        let stored = without_trace(stored).expect("it has trace fields");
        assert!(stored.ends_with(wanted), "the octets are those that were sent");
    }
    drop.clear().unwrap();
}

#[test]
fn brings_mail_to_our_own_server_in_every_manner() {
    let server = Server::with_users("", &["a", "b"]);
    let sent = letters();
    let (smtp, lmtp) = (server.smtp(), server.lmtp());
    let manners = [
        Manner { port: smtp, ..Manner::default() },
        Manner { port: smtp, encrypted: true, ..Manner::default() },
        Manner { port: lmtp, lmtp: true, ..Manner::default() },
    ];
    for manner in manners {
        let told = deliver(manner, sent.clone());
        assert_eq!(told.verdicts, ALL, "lmtp {} TLS {}", manner.lmtp, manner.encrypted);
        assert!(told.offered.has(Keywords::PIPELINING.with(Keywords::CHUNKING)));
        assert_eq!(told.version.is_some(), manner.encrypted);
        let octets = |index: usize| sent[index].octets.clone();
        check_stored(&server, "a", &[octets(0), octets(1)]);
        check_stored(&server, "b", &[octets(0), octets(3)]);
    }
}

#[test]
fn logs_in_where_mail_is_submitted() {
    let server = Server::with_users("", &["a", "b"]);
    let letter =
        Letter { users: vec!["b"], domain: "local.example", octets: message(100), utf8: false };
    let manner = Manner { encrypted: true, user: Some("a"), ..Manner::default() };
    let manners = [
        Manner { port: server.submission(), ..manner },
        Manner { port: server.submissions(), encrypted_first: true, ..manner },
    ];
    for manner in manners {
        let told = deliver(manner, vec![letter.clone()]);
        assert_eq!(told.verdicts, [["delivered 250"]]);
        assert!(told.offered.has(Keywords::AUTH.with(Keywords::DSN)));
        assert!(told.version.is_some());
        let mut drop = Maildrop::open(server.pop3(), "b", true).unwrap();
        let stored = drop.retrieve_all().unwrap();
        let body = letter.octets.split_at(message(0).len()).1;
        assert!(stored.len() == 1 && stored[0].ends_with(body));
        drop.clear().unwrap();
    }
}

#[test]
fn brings_mail_to_postfix() {
    let Some(postfix) = Postfix::start(Port::find()) else { return };
    for encrypted in [false, true] {
        let manner = Manner { port: postfix.port(), encrypted, ..Manner::default() };
        let mut sent = letters();
        for letter in &mut sent {
            letter.domain = "postfix.example";
        }
        sent.push(Letter {
            users: vec!["и"],
            domain: "postfix.example",
            octets: "Subject: и\r\n\r\nи\r\n".into(),
            utf8: true,
        });
        let told = deliver(manner, sent.clone());
        assert_eq!(told.verdicts[..4], ALL);
        assert_eq!(told.verdicts[4], ["delivered 250"]);
        let offered = [
            Keywords::PIPELINING,
            Keywords::CHUNKING,
            Keywords::SIZE,
            Keywords::EIGHT_BIT_MIME,
            Keywords::SMTP_UTF8,
            Keywords::DSN,
        ];
        assert!(offered.into_iter().all(|keyword| told.offered.has(keyword)));
        assert_eq!(told.version.is_some(), encrypted);
        // It writes lines with LF, and fields of its own in front.
        let plain = |octets: &[u8]| String::from_utf8_lossy(octets).replace("\r\n", "\n");
        for (user, indices) in [("a", &[0, 1][..]), ("b", &[0, 3]), ("и", &[4])] {
            let mut stored = postfix.take_mails(user, indices.len());
            stored.sort_by_key(Vec::len);
            let mut wanted: Vec<String> =
                indices.iter().map(|&index| plain(&sent[index].octets)).collect();
            wanted.sort_by_key(String::len);
            for (stored, wanted) in stored.iter().zip(wanted) {
                let stored = plain(stored);
                assert!(stored.ends_with(&wanted) && stored.contains("X-Front: yes\n"));
            }
        }
    }
}
