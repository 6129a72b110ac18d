//! Sessions on the simulated network: with our own server's machine, with one that says what it is
//! told to, and with networks that cut, delay and break.

use super::*;
use crate::bytes::buffer::Buffer;
use crate::bytes::chain::{Chain, Shared};
use crate::env::Listener as _;
use crate::env::sim::{Faults, Sim, SimEnv};
use crate::model::address::Address;
use crate::model::time::Mono;
use crate::proto::smtp::client::Rcpt;
use crate::proto::smtp::replay::{Message, Replay};
use crate::proto::smtp::{Service, Settings};
use crate::tls::{self, Asking, Context, For, Identity, Names};
use crate::wire::smtp::param::RcptParams;
use std::cell::RefCell;
use std::time::Duration;

type SimConn = <SimEnv as Env>::Conn;

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 25))
}

/// A certificate and its key, in PEM form.
fn certificate() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let root = rcgen::CertificateParams::new(vec!["mx.local.example".into()]).unwrap();
    (root.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn terms(lmtp: bool) -> Terms {
    terms_trusting(lmtp, &certificate().0)
}

fn terms_trusting(lmtp: bool, root: &str) -> Terms {
    Terms {
        hello: "me.example".into(),
        lmtp,
        login: None,
        timeouts: Timeouts::default(),
        is_encrypted_first: false,
        caller: Caller::trusting(root.as_bytes()).unwrap(),
        aside: Rc::new(|step| Box::pin(async { Some(step()) })),
    }
}

const TARGET: Target<'static> = Target {
    address: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 25),
    source: None,
    host: None,
    demand: &Demand::NONE,
    end: Mono::NEVER,
};

async fn write(conn: &mut SimConn, octets: &[u8]) -> io::Result<()> {
    let mut out = Chain::new();
    out.put(octets);
    conn.write(&mut out, Mono::NEVER).await
}

/// What a server does where a client wants TLS.
#[derive(Clone)]
enum Tls {
    Good(Rc<Context>),
    /// It says what is no TLS.
    Rubbish,
    /// It says nothing.
    Silence,
}

async fn encrypt(env: &SimEnv, mut stream: Stream<SimEnv>, tls: &Tls) -> Option<Stream<SimEnv>> {
    let context = match tls {
        Tls::Good(context) => context,
        Tls::Rubbish => {
            let mut out = Chain::new();
            out.put(b"250 what is that?\r\n");
            stream.write(&mut out, Mono::NEVER).await.unwrap();
            stream.close().await;
            return None;
        }
        Tls::Silence => {
            env.sleep(Duration::from_hours(1)).await;
            return None;
        }
    };
    let aside: &Aside = &|step| Box::pin(async { Some(step()) });
    let terms = tls::Terms { context, aside, protocol: "smtp", asking: Asking::No };
    stream.secure(env, terms, Mono::NEVER).await.ok()
}

/// One connection with our own server's machine.
async fn converse(env: &SimEnv, conn: SimConn, settings: Settings, tls: &Tls) -> Vec<Message> {
    let (mut replay, mut buffer) = (Replay::new(settings), Buffer::new());
    let (mut stream, mut is_greeted) = (Stream::plain(conn), false);
    loop {
        let said = replay.take_said();
        let mut out = Chain::new();
        out.put(&said);
        if stream.write(&mut out, Mono::NEVER).await.is_err() || replay.is_closed() {
            break;
        }
        if std::mem::replace(&mut is_greeted, true) && said.starts_with(b"220 ") {
            let Some(encrypted) = encrypt(env, stream, tls).await else { return Vec::new() };
            stream = encrypted;
        }
        match stream.read(&mut buffer, Mono::NEVER).await {
            Ok(count) if count > 0 => {
                replay.send(buffer.filled());
                buffer.consume(count);
            }
            _ => break,
        }
    }
    stream.close().await;
    replay.stored().to_vec()
}

/// Our own server's machine behind a listener; what it stored.
fn serve(env: &SimEnv, settings: Settings) -> Rc<RefCell<Vec<Message>>> {
    serve_tls(env, settings, Tls::Silence)
}

fn serve_tls(env: &SimEnv, settings: Settings, tls: Tls) -> Rc<RefCell<Vec<Message>>> {
    let stored = Rc::new(RefCell::new(Vec::new()));
    let (listener, server, taken) =
        (env.listen(address()).unwrap(), env.clone(), Rc::clone(&stored));
    env.spawn(async move {
        while let Ok(conn) = listener.accept().await {
            let (settings, taken, tls) = (settings.clone(), Rc::clone(&taken), tls.clone());
            let env = server.clone();
            server.spawn(async move {
                let stored = converse(&env, conn, settings, &tls).await;
                taken.borrow_mut().extend(stored);
            });
        }
    });
    stored
}

fn settings(service: Service) -> Settings {
    Settings { hostname: "mx.local.example".into(), service, ..Settings::default() }
}

/// A message of that many octets, with dots and long lines in it.
fn message(len: usize) -> Vec<u8> {
    let mut octets = b"Subject: x\r\n\r\n".to_vec();
    let lines: [&[u8]; 4] =
        [b".\r\n", b"..a\r\n", b"a line of some length that goes on for a while\r\n", b"\r\n"];
    while octets.len() < len {
        let line = lines[octets.len() % lines.len()];
        octets.extend_from_slice(line);
    }
    octets
}

struct Letter {
    recipients: Vec<Address>,
    octets: Rc<dyn Shared>,
    nature: Nature,
}

impl Letter {
    fn new(users: &[&str], octets: Vec<u8>) -> Letter {
        let nature = Nature::of(&octets);
        let recipients =
            users.iter().map(|user| Address::from_parts(user, "local.example")).collect();
        Letter { recipients, octets: Rc::new(octets), nature }
    }

    async fn send(&self, session: &mut Session<SimEnv>) -> Delivery {
        self.send_until(session, Mono::NEVER).await
    }

    async fn send_until(&self, session: &mut Session<SimEnv>, end: Mono) -> Delivery {
        let params = RcptParams::default();
        let recipients: Vec<Rcpt<'_>> =
            self.recipients.iter().map(|address| Rcpt { address, params }).collect();
        let sender = Address::from_parts("s", "me.example");
        let mail =
            Mail { sender: Some(&sender), params: MailParams::default(), recipients: &recipients };
        let body = Body {
            front: b"Received: here\r\n",
            owner: Rc::clone(&self.octets),
            range: 0..self.octets.len(),
            nature: self.nature,
        };
        session.deliver(&mail, body, end).await
    }
}

fn codes(delivery: &Delivery) -> Vec<String> {
    let verdict = |verdict: &Verdict| match verdict {
        Verdict::Delivered(said) => format!("delivered {}", said.code),
        Verdict::Deferred(said) => format!("deferred {}", said.code),
        Verdict::Failed(said) => format!("failed {}", said.code),
        Verdict::Unfit(said) => format!("unfit {}", said.code),
        Verdict::Again => "again".into(),
    };
    delivery.verdicts.iter().map(verdict).collect()
}

#[test]
fn brings_mail_to_our_own_server_over_any_network() {
    for seed in 0..40 {
        let faults = if seed % 2 == 0 { Faults::none() } else { Faults::rough() };
        let window_octets = [64 << 10, 600, 4_096][usize::try_from(seed % 3).unwrap()];
        let sim = Sim::new(seed, Faults { window_octets, ..faults });
        let env = sim.env(0);
        let lmtp = seed % 4 == 3;
        let service = if lmtp { Service::Lmtp } else { Service::Mx };
        let stored = serve(&env, settings(service));
        let letters = [
            Letter::new(&["a", "b", "nobody", "full"], message(10_000)),
            Letter::new(&["a"], message(300_000)),
            Letter::new(&["nobody"], message(10)),
            Letter::new(&["b"], b"Subject: open\r\n\r\nend".to_vec()),
        ];
        let told = sim
            .run_until(async {
                let mut session = Session::open(&env, TARGET, &terms(lmtp)).await.unwrap();
                let mut told = Vec::new();
                for letter in &letters {
                    assert!(session.is_open(), "seed {seed}");
                    let delivery = letter.send(&mut session).await;
                    assert!(delivery.trouble.is_none(), "seed {seed}: {delivery:?}");
                    told.push(codes(&delivery));
                }
                session.quit().await;
                env.sleep(Duration::from_secs(1)).await;
                told
            })
            .unwrap();
        // One answer is for all by SMTP: while one may succeed later, it is that one's.
        let first = if lmtp { "delivered 250" } else { "deferred 452" };
        assert_eq!(told[0], [first, first, "failed 550", "deferred 452"], "seed {seed}");
        assert_eq!(
            told[1..],
            [["delivered 250"], ["failed 550"], ["delivered 250"]],
            "seed {seed}"
        );
        let stored = stored.borrow();
        assert_eq!(stored.len(), 3, "seed {seed}");
        for (message, letter) in stored.iter().zip([&letters[0], &letters[1], &letters[3]]) {
            let mut want = [b"Received: here\r\n", &letter.octets[..]].concat();
            if lmtp && !want.ends_with(b"\r\n") {
                // DATA has no open ends.
                want.extend_from_slice(b"\r\n");
            }
            assert!(message.octets == want, "seed {seed}: the octets are those that were sent");
        }
    }
}

#[test]
fn has_a_verdict_for_each_whatever_breaks() {
    let (mut delivered, mut troubles, mut unopened) = (0, 0, 0);
    for seed in 0..300 {
        let faults = Faults {
            resets: 60_000,
            connect_fails: 20_000,
            stalls: 20_000,
            cuts: 100_000,
            ..Faults::rough()
        };
        let sim = Sim::new(seed, faults);
        let env = sim.env(0);
        let stored = serve(&env, settings(Service::Mx));
        let letter = Letter::new(&["a"], message(30_000));
        let ended = sim.run_until(async {
            let mut count = 0;
            match Session::open(&env, TARGET, &terms(false)).await {
                Err(failed) => {
                    assert!(failed.tls.is_none() && failed.trouble.may_go_elsewhere());
                    unopened += 1;
                }
                Ok(mut session) => {
                    for _ in 0..3 {
                        if !session.is_open() {
                            break;
                        }
                        let delivery = letter.send(&mut session).await;
                        match (&delivery.verdicts[..], &delivery.trouble) {
                            ([Verdict::Delivered(_)], None) => count += 1,
                            ([Verdict::Deferred(said)], Some(trouble)) => {
                                assert_eq!(*said, trouble.said);
                                troubles += 1;
                            }
                            other => unreachable!("seed {seed}: {other:?}"),
                        }
                    }
                    session.quit().await;
                }
            }
            env.sleep(Duration::from_mins(20)).await;
            count
        });
        let count = ended.unwrap();
        delivered += count;
        assert!(stored.borrow().len() >= count, "seed {seed}: what counts as delivered is there");
    }
    assert!(delivered > 100 && troubles > 20 && unopened > 10, "{delivered} {troubles} {unopened}");
}

/// A server that takes the next connection and does what `talk` does with it.
fn talk<F: Future<Output = ()> + 'static>(env: &SimEnv, talk: impl FnOnce(SimConn) -> F + 'static) {
    let listener = env.listen(address()).unwrap();
    env.spawn(async move {
        if let Ok(conn) = listener.accept().await {
            talk(conn).await;
        }
    });
}

async fn drain_until(conn: &mut SimConn, end: &[u8]) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), Buffer::new());
    while !all.ends_with(end) {
        match conn.read(&mut buffer, Mono::NEVER).await {
            Ok(count) if count > 0 => {
                all.extend_from_slice(buffer.filled());
                buffer.consume(count);
            }
            _ => break,
        }
    }
    all
}

#[test]
fn gives_up_on_a_server_that_never_greets_or_stops_half_way() {
    for (said, at) in [("", Wait::Greeting), ("220-h", Wait::Greeting), ("220 hi\r\n", Wait::Hello)]
    {
        let sim = Sim::new(1, Faults::none());
        let env = sim.env(0);
        let server = env.clone();
        talk(&env, move |mut conn| async move {
            for octet in said.bytes() {
                // A server that says an octet now and then does not keep anybody longer.
                write(&mut conn, &[octet]).await.unwrap();
                server.sleep(Duration::from_secs(10)).await;
            }
            server.sleep(Duration::from_hours(10)).await;
        });
        let (failed, took) = sim
            .run_until(async {
                let failed = Session::open(&env, TARGET, &terms(false)).await.err().unwrap();
                (failed, env.now().0)
            })
            .unwrap();
        assert_eq!((failed.trouble.at, failed.trouble.kind), (at, Kind::TimedOut));
        assert!(took < Duration::from_mins(12), "{took:?}");
    }
}

#[test]
fn reads_a_server_that_does_not_read_until_it_is_read() {
    // The server answers each command with as much as the window holds, and reads on only when that
    // has gone out; the client has more to say than the window holds.
    let sim = Sim::new(3, Faults { window_octets: 700, ..Faults::none() });
    let env = sim.env(0);
    talk(&env, |mut conn| async move {
        write(&mut conn, b"220 hi\r\n").await.unwrap();
        drain_until(&mut conn, b"\r\n").await;
        write(&mut conn, b"250-x\r\n250 PIPELINING\r\n").await.unwrap();
        let (mut buffer, mut lines) = (Buffer::new(), 0);
        let long = format!("250 {}\r\n", "a".repeat(400));
        while lines < 102 {
            if conn.read(&mut buffer, Mono::NEVER).await.unwrap_or(0) == 0 {
                return;
            }
            let count = memchr::memchr_iter(b'\n', buffer.filled()).count();
            buffer.consume(buffer.len());
            for _ in 0..count {
                lines += 1;
                let answer = if lines == 102 { "354 go\r\n" } else { &long };
                write(&mut conn, answer.as_bytes()).await.unwrap();
            }
        }
        drain_until(&mut conn, b"\r\n.\r\n").await;
        write(&mut conn, b"250 kept\r\n").await.unwrap();
        drain_until(&mut conn, b"QUIT\r\n").await;
        write(&mut conn, b"221 bye\r\n").await.unwrap();
        conn.close().await;
    });
    let users: Vec<String> = (0..100).map(|n| format!("user{n}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let letter = Letter::new(&users, message(5_000));
    let delivery = sim
        .run_until(async {
            let mut session = Session::open(&env, TARGET, &terms(false)).await.unwrap();
            let delivery = letter.send(&mut session).await;
            session.quit().await;
            delivery
        })
        .unwrap();
    assert!(delivery.trouble.is_none(), "{:?}", delivery.trouble);
    assert!(codes(&delivery).iter().all(|code| code == "delivered 250"));
}

#[test]
fn hears_the_last_words_of_a_server_that_hangs_up_on_a_message() {
    for seed in 0..20 {
        let sim = Sim::new(seed, Faults { window_octets: 2_000, ..Faults::none() });
        let env = sim.env(0);
        let server = env.clone();
        talk(&env, move |mut conn| async move {
            write(&mut conn, b"220 hi\r\n").await.unwrap();
            drain_until(&mut conn, b"\r\n").await;
            write(&mut conn, b"250-x\r\n250 PIPELINING\r\n").await.unwrap();
            drain_until(&mut conn, b"DATA\r\n").await;
            write(&mut conn, b"250 a\r\n250 b\r\n354 go\r\n").await.unwrap();
            let mut buffer = Buffer::new();
            conn.read(&mut buffer, Mono::NEVER).await.unwrap();
            write(&mut conn, b"554 5.7.1 no such thing here\r\n").await.unwrap();
            // It reads no more, and is still there.
            server.sleep(Duration::from_mins(30)).await;
        });
        let letter = Letter::new(&["a"], message(200_000));
        let (delivery, took) = sim
            .run_until(async {
                let mut session = Session::open(&env, TARGET, &terms(false)).await.unwrap();
                let begin = env.now();
                let delivery = letter.send(&mut session).await;
                assert!(!session.is_open(), "{delivery:?}");
                session.quit().await;
                (delivery, env.now().since(begin))
            })
            .unwrap();
        assert_eq!(codes(&delivery), ["failed 554"], "seed {seed}");
        assert!(took < Duration::from_secs(10), "seed {seed}: {took:?}");
    }
}

#[test]
fn says_goodbye_to_one_who_refuses() {
    let sim = Sim::new(1, Faults::none());
    let env = sim.env(0);
    let heard = Rc::new(RefCell::new(Vec::new()));
    let told = Rc::clone(&heard);
    talk(&env, move |mut conn| async move {
        write(&mut conn, b"554 5.7.1 not you\r\n").await.unwrap();
        *told.borrow_mut() = drain_until(&mut conn, b"QUIT\r\n").await;
        conn.close().await;
    });
    let failed = sim.run_until(async { Session::open(&env, TARGET, &terms(false)).await.err() });
    let Trouble { at, kind, said } = failed.unwrap().unwrap().trouble;
    assert_eq!((at, kind, said.code), (Wait::Greeting, Kind::Refused, 554));
    assert_eq!(*heard.borrow(), b"QUIT\r\n");
}

#[test]
fn tells_where_nobody_listens() {
    let sim = Sim::new(1, Faults::none());
    let env = sim.env(0);
    let failed = sim.run_until(async { Session::open(&env, TARGET, &terms(false)).await.err() });
    let trouble = failed.unwrap().unwrap().trouble;
    assert_eq!((trouble.at, trouble.kind), (Wait::Connect, Kind::Unreachable));
    let wrong = Target { source: Some("::1".parse().unwrap()), ..TARGET };
    let failed = sim.run_until(async { Session::open(&env, wrong, &terms(false)).await.err() });
    let trouble = failed.unwrap().unwrap().trouble;
    assert_eq!((trouble.at, trouble.kind), (Wait::Connect, Kind::Local));
    assert!(!trouble.may_go_elsewhere());
}

#[test]
fn sees_that_a_server_has_gone_before_it_sends_anything() {
    let sim = Sim::new(1, Faults::none());
    let env = sim.env(0);
    let server = env.clone();
    talk(&env, move |mut conn| async move {
        write(&mut conn, b"220 hi\r\n").await.unwrap();
        drain_until(&mut conn, b"\r\n").await;
        write(&mut conn, b"250 x\r\n").await.unwrap();
        server.sleep(Duration::from_secs(5)).await;
        write(&mut conn, b"421 idle\r\n").await.unwrap();
        conn.close().await;
    });
    sim.run_until(async {
        let mut session = Session::open(&env, TARGET, &terms(false)).await.unwrap();
        assert!(session.is_open());
        env.sleep(Duration::from_secs(10)).await;
        assert!(!session.is_open());
        // Who sends all the same hears why.
        let delivery = Letter::new(&["a"], message(10)).send(&mut session).await;
        assert_eq!(codes(&delivery), ["deferred 421"]);
        session.quit().await;
    })
    .unwrap();
}

#[test]
fn ends_when_its_time_is_over_and_keeps_what_was_said() {
    let sim = Sim::new(1, Faults::none());
    let env = sim.env(0);
    let server = env.clone();
    talk(&env, move |mut conn| async move {
        write(&mut conn, b"220 hi\r\n").await.unwrap();
        let mut answer: &[u8] = b"550 not here\r\n";
        loop {
            let command = drain_until(&mut conn, b"\r\n").await;
            if command.starts_with(b"RCPT") {
                server.sleep(Duration::from_millis(2_500)).await;
                write(&mut conn, std::mem::replace(&mut answer, b"250 yes\r\n")).await.unwrap();
            } else if command.is_empty() || write(&mut conn, b"250 x\r\n").await.is_err() {
                return;
            }
        }
    });
    let users: Vec<String> = (0..60).map(|n| format!("user{n}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    sim.run_until(async {
        let mut session = Session::open(&env, TARGET, &terms(false)).await.unwrap();
        let begin = env.now();
        let end = begin.after(Duration::from_mins(1));
        let delivery = Letter::new(&users, message(10)).send_until(&mut session, end).await;
        assert_eq!(env.now().since(begin).as_secs(), 60);
        assert_eq!(delivery.trouble.as_ref().map(|trouble| trouble.kind), Some(Kind::TimedOut));
        let codes = codes(&delivery);
        assert_eq!(codes[0], "failed 550");
        assert!(codes[1..].iter().all(|code| code == "deferred 451"), "{codes:?}");
        assert!(!session.is_open());
        session.quit().await;
    })
    .unwrap();
}

#[test]
fn waits_for_the_answer_to_a_message_that_is_out() {
    for lmtp in [false, true] {
        let sim = Sim::new(1, Faults::none());
        let env = sim.env(0);
        let server = env.clone();
        talk(&env, move |mut conn| async move {
            write(&mut conn, b"220 hi\r\n").await.unwrap();
            drain_until(&mut conn, b"\r\n").await;
            write(&mut conn, b"250-x\r\n250 PIPELINING\r\n").await.unwrap();
            drain_until(&mut conn, b"DATA\r\n").await;
            write(&mut conn, b"250 a\r\n250 b\r\n250 c\r\n250 d\r\n354 go\r\n").await.unwrap();
            drain_until(&mut conn, b"\r\n.\r\n").await;
            for _ in 0..3 {
                server.sleep(Duration::from_mins(9)).await;
                drop(write(&mut conn, b"250 kept\r\n").await);
            }
        });
        sim.run_until(async {
            let mut session = Session::open(&env, TARGET, &terms(lmtp)).await.unwrap();
            let begin = env.now();
            let end = begin.after(Duration::from_secs(1));
            let letter = Letter::new(&["a", "b", "c"], message(300_000));
            let delivery = letter.send_until(&mut session, end).await;
            // By LMTP each has its own answer, and all of them together have that time.
            let (codes, took) = (codes(&delivery), env.now().since(begin).as_secs() / 60);
            if lmtp {
                assert_eq!(
                    (codes.join(", ").as_str(), took),
                    ("delivered 250, deferred 451, deferred 451", 10)
                );
            } else {
                assert_eq!(
                    (codes.join(", ").as_str(), took),
                    ("delivered 250, delivered 250, delivered 250", 9)
                );
            }
            session.quit().await;
        })
        .unwrap();
    }
}

fn encrypting() -> Settings {
    Settings { starttls: true, ..settings(Service::Mx) }
}

#[test]
fn encrypts_and_wants_the_proof_that_is_demanded() {
    let (chain, key) = certificate();
    let mut names = Names::default();
    names.add(For::Anybody, Identity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap());
    let context = Rc::new(Context::new(names, None).unwrap());
    let verified = Demand::verify(["mx.local.example"]);
    let wrong = Demand::verify(["mx.other.example"]);
    for (demand, is_good) in
        [(&Demand::MAY, true), (&Demand::ENCRYPT, true), (&verified, true), (&wrong, false)]
    {
        let sim = Sim::new(1, Faults::rough());
        let env = sim.env(0);
        // What came in clear is not known any more: the second EHLO is that of a stranger.
        let stored = serve_tls(&env, encrypting(), Tls::Good(Rc::clone(&context)));
        let target = Target { host: Some("mx.local.example"), demand, ..TARGET };
        let letter = Letter::new(&["a"], message(100_000));
        sim.run_until(async {
            match Session::open(&env, target, &terms_trusting(false, &chain)).await {
                Ok(mut session) => {
                    assert!(
                        is_good && session.facts().is_some() && session.unencrypted().is_none()
                    );
                    assert_eq!(codes(&letter.send(&mut session).await), ["delivered 250"]);
                    session.quit().await;
                }
                Err(failed) => {
                    assert!(!is_good && matches!(failed.tls, Some(CallFailure::Distrust(_))));
                    assert_eq!(
                        (failed.trouble.at, failed.trouble.kind),
                        (Wait::Handshake, Kind::Tls)
                    );
                }
            }
            env.sleep(Duration::from_secs(1)).await;
        })
        .unwrap();
        assert_eq!(stored.borrow().len(), usize::from(is_good));
    }
}

#[test]
fn goes_on_in_clear_where_tls_fails_that_nobody_insists_on() {
    for tls in [Tls::Rubbish, Tls::Silence] {
        let sim = Sim::new(1, Faults::none());
        let env = sim.env(0);
        let stored = serve_tls(&env, encrypting(), tls);
        let letter = Letter::new(&["a"], message(100));
        sim.run_until(async {
            let may = Target { demand: &Demand::MAY, ..TARGET };
            let mut session = Session::open(&env, may, &terms(false)).await.unwrap();
            assert!(session.facts().is_none() && session.unencrypted().is_some());
            assert_eq!(codes(&letter.send(&mut session).await), ["delivered 250"]);
            session.quit().await;
            let must = Target { demand: &Demand::ENCRYPT, ..TARGET };
            let failed = Session::open(&env, must, &terms(false)).await.err().unwrap();
            assert!(failed.tls.is_some() && failed.trouble.kind == Kind::Tls);
            env.sleep(Duration::from_secs(1)).await;
        })
        .unwrap();
        assert_eq!(stored.borrow().len(), 1);
    }
}

#[test]
fn converts_for_a_server_that_takes_seven_bits_alone() {
    let head = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n";
    let eight_bit = format!("{head}\r\n.grüße, die so lang sind\r\n");
    let long = format!("{head}\r\n{}\r\n", "long ".repeat(300));
    let signed = "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nä\r\n--b--\r\n";
    for (octets, want) in [
        (eight_bit.as_str(), "\r\n\r\n=2Egr=C3=BC=C3=9Fe, die so lang sind\r\n.\r\n"),
        (&long, "long long long=\r\n=20\r\n.\r\n"),
        (signed, ""),
        ("Subject: ä\r\n\r\n", ""),
    ] {
        let sim = Sim::new(1, Faults::none());
        let env = sim.env(0);
        let heard = Rc::new(RefCell::new(String::new()));
        let told = Rc::clone(&heard);
        talk(&env, move |mut conn| async move {
            write(&mut conn, b"220 hi\r\n").await.unwrap();
            for (end, answer) in [
                ("\r\n", "250-x\r\n250 SIZE 10000\r\n"),
                ("\r\n", "250 a\r\n"),
                ("\r\n", "250 b\r\n"),
                ("\r\n", "354 go\r\n"),
                ("\r\n.\r\n", "250 kept\r\n"),
                ("QUIT\r\n", "221 bye\r\n"),
            ] {
                let said = drain_until(&mut conn, end.as_bytes()).await;
                *told.borrow_mut() += std::str::from_utf8(&said).unwrap();
                if said == b"QUIT\r\n" || said.is_empty() {
                    break;
                }
                write(&mut conn, answer.as_bytes()).await.unwrap();
            }
            conn.close().await;
        });
        let delivery = sim
            .run_until(async {
                let mut session = Session::open(&env, TARGET, &terms(false)).await.unwrap();
                let letter = Letter::new(&["a"], octets.as_bytes().to_vec());
                let delivery = letter.send(&mut session).await;
                session.quit().await;
                delivery
            })
            .unwrap();
        let heard = heard.borrow();
        if want.is_empty() {
            assert_eq!(codes(&delivery), ["unfit 554"]);
            assert!(!heard.contains("MAIL"), "nothing is tried");
            continue;
        }
        assert_eq!(codes(&delivery), ["delivered 250"]);
        assert!(heard.is_ascii() && !heard.contains("BODY="), "{heard}");
        assert!(heard.strip_suffix("QUIT\r\n").unwrap().ends_with(want), "{heard}");
    }
}
