//! The relay against servers that keep to their limits, drag things out, or never come to an end.

use super::Settings;
use super::desk::tests::{Shard, away, live, live_with, port_of};
use crate::bytes::buffer::Buffer;
use crate::bytes::chain::Chain;
use crate::env::sim::{Disk, SimEnv};
use crate::env::{Conn as _, Env, Listener as _};
use crate::model::time::Mono;
use crate::queue::outgoing::QueueId;
use crate::queue::retry::{Retries, Retry};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// What a server does.
#[derive(Clone, Copy)]
struct Manner {
    /// What it offers.
    offers: &'static str,
    /// Before it answers RCPT, and a message that is whole.
    rcpt_pause: Duration,
    final_pause: Duration,
    /// It reads nothing of a message.
    is_stuck: bool,
}

const GOOD: Manner = Manner {
    offers: "8BITMIME",
    rcpt_pause: Duration::ZERO,
    final_pause: Duration::ZERO,
    is_stuck: false,
};

/// What a server was asked for.
#[derive(Default)]
struct Heard {
    connections: usize,
    mails: usize,
    rcpts: usize,
    /// Recipients of each message that it took.
    taken: Vec<Vec<String>>,
}

impl Heard {
    fn recipients(&self) -> usize {
        self.taken.iter().map(Vec::len).sum()
    }
}

struct Server {
    env: SimEnv,
    conn: <SimEnv as Env>::Conn,
    buffer: Buffer,
    manner: Manner,
    heard: Rc<RefCell<Heard>>,
}

impl Server {
    async fn say(&mut self, text: &str) -> io::Result<()> {
        let mut out = Chain::new();
        out.put(text.as_bytes());
        out.put(b"\r\n");
        self.conn.write(&mut out, Mono::NEVER).await
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', self.buffer.filled()) {
                let line = String::from_utf8_lossy(&self.buffer.filled()[..end]).trim().to_owned();
                self.buffer.consume(end + 1);
                return Ok(line);
            }
            if self.conn.read(&mut self.buffer, Mono::NEVER).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn serve(mut self) -> io::Result<()> {
        self.say("220 hi").await?;
        let mut recipients: Vec<String> = Vec::new();
        loop {
            let line = self.line().await?;
            match line.get(..4).unwrap_or_default() {
                "EHLO" => {
                    let offers = self.manner.offers;
                    self.say(&format!("250-x\r\n250 {offers}")).await?;
                }
                "MAIL" => {
                    self.heard.borrow_mut().mails += 1;
                    recipients.clear();
                    self.say("250 yes").await?;
                }
                "RCPT" => {
                    self.heard.borrow_mut().rcpts += 1;
                    self.env.sleep(self.manner.rcpt_pause).await;
                    let address = line.split(['<', '>']).nth(1).unwrap_or_default();
                    recipients.push(address.to_owned());
                    self.say("250 yes").await?;
                }
                "DATA" => {
                    self.say("354 go on").await?;
                    if self.manner.is_stuck {
                        self.env.sleep(Duration::from_hours(1)).await;
                    }
                    while self.line().await? != "." {}
                    self.env.sleep(self.manner.final_pause).await;
                    self.heard.borrow_mut().taken.push(std::mem::take(&mut recipients));
                    self.say("250 taken").await?;
                }
                "QUIT" => {
                    self.say("221 bye").await?;
                    self.conn.close().await;
                    return Ok(());
                }
                _ => self.say("250 yes").await?,
            }
        }
    }
}

/// Serves the site of `domain`.
fn serve(env: &SimEnv, domain: &str, manner: Manner) -> Rc<RefCell<Heard>> {
    let heard = Rc::new(RefCell::new(Heard::default()));
    let listener = env.listen(SocketAddr::from(([127, 0, 0, 1], port_of(domain)))).unwrap();
    let (server, told) = (env.clone(), Rc::clone(&heard));
    env.spawn(async move {
        while let Ok(conn) = listener.accept().await {
            told.borrow_mut().connections += 1;
            let (env, heard) = (server.clone(), Rc::clone(&told));
            let one = Server { env, conn, buffer: Buffer::new(), manner, heard };
            server.spawn(async move { drop(one.serve().await) });
        }
    });
    heard
}

/// A message to so many of a domain.
async fn send_to(shard: &Shard, count: usize, domain: &str) {
    let names: Vec<String> = (0..count).map(|number| format!("r{number}@{domain}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    shard.send(away("1.0.1", "ann@s.example", &names)).await;
}

#[test]
fn an_entry_whose_time_is_over_while_it_is_tried_comes_back() {
    live(Disk::new(), async |shard, env| {
        let usual = Retry { lifetime: Duration::from_mins(1), ..Retry::default() };
        let retries = Retries { usual: Rc::new(usual), ..Retries::default() };
        shard.intake.set_terms(Rc::new(retries), 1_000);
        let manner = Manner { rcpt_pause: Duration::from_millis(2_500), ..GOOD };
        let heard = serve(&env, "a.example", manner);
        env.spawn(shard.relay.clone().run());
        send_to(&shard, 60, "a.example").await;
        env.sleep(Duration::from_secs(63)).await;
        assert!(shard.intake.outgoing().borrow().is_empty());
        let figures = shard.relay.figures();
        assert_eq!((figures.expired.get(), figures.reports.get()), (60, 1));
        assert!((20..30).contains(&heard.borrow().rcpts), "{}", heard.borrow().rcpts);
        // One whose answer comes late was out in time: it must not come back, and come again.
        let manner = Manner { final_pause: Duration::from_mins(9), ..GOOD };
        let slow = serve(&env, "n1.example", manner);
        send_to(&shard, 2, "n1.example").await;
        env.sleep(Duration::from_mins(10)).await;
        assert_eq!((slow.borrow().recipients(), figures.delivered.get()), (2, 2));
        assert_eq!((figures.expired.get(), figures.overdue.get()), (60, 0));
        shard.relay.stop();
    });
}

#[test]
fn an_attempt_ends_however_a_server_drags_it_out() {
    live(Disk::new(), async |shard, env| {
        let manner = Manner { rcpt_pause: Duration::from_mins(4), ..GOOD };
        let heard = serve(&env, "a.example", manner);
        env.spawn(shard.relay.clone().run());
        send_to(&shard, 1_000, "a.example").await;
        let attempts = || shard.intake.outgoing().borrow().get(QueueId(1)).unwrap().attempts;
        env.sleep(Duration::from_mins(119)).await;
        assert_eq!((attempts(), heard.borrow().rcpts), (0, 30));
        env.sleep(Duration::from_mins(2)).await;
        assert_eq!(attempts(), 1);
        // And so does each other one; nothing of it is a fault of ours.
        env.sleep(Duration::from_hours(12)).await;
        let figures = shard.relay.figures();
        assert!((4..8).contains(&attempts()), "{}", attempts());
        assert_eq!((figures.overdue.get(), figures.broken.get()), (0, 0));
        shard.relay.stop();
    });
}

#[test]
fn servers_that_never_come_to_an_end_leave_room_for_others() {
    let silent = Manner { final_pause: Duration::from_hours(1), ..GOOD };
    let stuck = Manner { is_stuck: true, ..GOOD };
    for (manner, octets, count) in [(silent, 52_000, 5), (stuck, 250_000, 1)] {
        let settings = Settings { memory: 1 << 20, ..Settings::default() };
        live_with(settings, Disk::new(), async |shard, env| {
            let send = async |domain: &str, octets: usize| {
                let line = "a line of some length that goes on for a while\r\n";
                let text = format!("Subject: x\r\n\r\n{}", line.repeat(octets / line.len()));
                let away = away("1.0.1", "ann@s.example", &[&*format!("r@{domain}")]);
                shard.send_octets(away, text.into_bytes()).await;
            };
            env.spawn(shard.relay.clone().run());
            let mut all = Vec::new();
            for domain in ["n0.example", "n1.example", "n2.example", "n3.example"] {
                all.push(serve(&env, domain, manner));
                for _ in 0..count {
                    send(domain, octets).await;
                }
            }
            let good = serve(&env, "n4.example", GOOD);
            env.sleep(Duration::from_secs(30)).await;
            assert!(all.iter().all(|heard| heard.borrow().connections > 0));
            send("n4.example", 60_000).await;
            env.sleep(Duration::from_secs(1)).await;
            assert_eq!(good.borrow().recipients(), 1, "{octets}");
            shard.relay.stop();
        });
    }
}
