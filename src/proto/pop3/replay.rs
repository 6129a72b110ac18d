//! The bare machine under a driver that has all a driver needs and no socket: for dialogs, fuzzers
//! and the law that cuts do not matter. Its users: `u` with password `p`, and one per verdict.

use super::{Maildrop, Sending, Session, Settings, Step, Verdict, octets_sent};
use crate::bytes::chain::{Chain, Shared};
use crate::bytes::codec::to_usize;
use crate::model::channel::{CLEAR, Channel};
use crate::model::limits::SASL_LINE_OCTETS_MAX;
use crate::model::limits::{POP3_LINE_OCTETS_MAX, REPLY_OCTETS_PENDING_MAX};
use crate::proto::sasl::{
    Claim, Credentials, Discovery, Exchange, Keys, Move, Outcome, Policy, Ring, Token, TokenError,
    Turn,
};
use crate::wire::pop3::put_number;
use std::cell::Cell;
use std::rc::Rc;

/// A message in memory.
#[derive(Clone)]
pub(super) struct Mail {
    pub octets: Rc<dyn Shared>,
    pub utf8: bool,
}

pub(super) fn mail(text: &[u8]) -> Mail {
    Mail { octets: Rc::new(text.to_vec()), utf8: false }
}

/// Holds the lock as long as it lives.
pub(super) struct Held {
    mails: Vec<Mail>,
    locked: Rc<Cell<bool>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.locked.set(false);
    }
}

impl Maildrop for Held {
    fn count(&self) -> u32 {
        u32::try_from(self.mails.len()).expect("a maildrop of a test is small")
    }
    fn size(&self, index: u32) -> u64 {
        octets_sent(&self.mails[nth(index)].octets)
    }
    fn put_unique_id(&self, index: u32, out: &mut Chain) {
        out.put(b"1700000000.");
        put_number(out, u64::from(index) + 1);
    }
    fn needs_utf8(&self, index: u32) -> bool {
        self.mails[nth(index)].utf8
    }
}

fn settings(plaintext: bool) -> Settings {
    let auth = Policy { plaintext, ..Policy::default() };
    Settings { auth, stls: false, errors_max: 50, logins_failed_max: 5 }
}

fn sent_to_another_shard<T: Send + 'static>(departed: T) -> T {
    departed
}

/// One session with its world: what the server's driver is, in forty lines.
pub(super) struct World {
    pub session: Session<Held>,
    pub mails: Vec<Mail>,
    pub locked: Rc<Cell<bool>>,
    pub input: Vec<u8>,
    pub out: Chain,
    pub closed: bool,
    pub removed: Vec<u32>,
    pub logins: Vec<String>,
    exchange: Exchange,
    /// Who has shown what, until the client has heard the last challenge.
    shown: (Box<str>, &'static str),
}

impl World {
    pub(super) fn new(plaintext: bool, mails: Vec<Mail>) -> World {
        World::with(settings(plaintext), mails)
    }

    /// One that offers TLS, whose handshake is nothing.
    #[cfg(test)]
    pub(super) fn with_tls(mails: Vec<Mail>) -> World {
        World::with(Settings { stls: true, ..settings(true) }, mails)
    }

    fn with(settings: Settings, mails: Vec<Mail>) -> World {
        let session = Session::new(settings);
        let mut out = Chain::new();
        session.greet(&mut out);
        World {
            session,
            mails,
            locked: Rc::default(),
            input: Vec::new(),
            out,
            closed: false,
            removed: Vec::new(),
            logins: Vec::new(),
            exchange: Exchange::new(&CLEAR, false, "snonce"),
            shown: <_>::default(),
        }
    }

    /// Receives octets, and answers what can be answered. The reader reads everything.
    pub(super) fn receive(&mut self, octets: &[u8]) -> Vec<u8> {
        let mut sent = Vec::new();
        self.input.extend_from_slice(octets);
        let mut at = 0;
        while !self.closed {
            let (used, step) = self.session.step(&self.input[at..], &mut self.out);
            at += used;
            match step {
                Step::Read => break,
                Step::Continue => {}
                Step::Login(credentials) => self.log_in(&credentials),
                Step::Auth(said) => self.authenticate(said),
                Step::Retrieve { index } => {
                    let owner = Rc::clone(&self.mails[nth(index)].octets);
                    let size = octets_sent(&owner);
                    let sending = Sending::whole(0..owner.len(), size, &mut self.out);
                    self.send(sending, &owner, &mut sent);
                }
                Step::Top { index, lines } => {
                    let owner = Rc::clone(&self.mails[nth(index)].octets);
                    let sending = Sending::top(&owner, 0..owner.len(), lines, &mut self.out);
                    self.send(sending, &owner, &mut sent);
                }
                Step::Update => {
                    self.removed = self.session.deleted().collect();
                    self.session.updated(true, &mut self.out);
                }
                Step::Secure => {
                    // What came in clear behind it is forgotten.
                    at = self.input.len();
                    self.session = Session::new(settings(true));
                    self.session.secure(&Channel { encrypted: true, ..Channel::default() });
                }
                Step::Close => self.closed = true,
            }
            if self.out.len() > REPLY_OCTETS_PENDING_MAX {
                self.flush(&mut sent);
            }
        }
        self.input.drain(..at);
        self.flush(&mut sent);
        sent
    }

    fn send(&mut self, mut sending: Sending, owner: &Rc<dyn Shared>, sent: &mut Vec<u8>) {
        while !sending.fill(owner, &mut self.out) {
            self.flush(sent);
        }
    }

    fn flush(&mut self, sent: &mut Vec<u8>) {
        sent.extend(self.out.to_vec());
        self.out.consume(self.out.len());
    }

    fn authenticate(&mut self, said: Move) {
        if let Move::Begin(..) = said {
            self.exchange = Exchange::new(self.session.channel(), false, "snonce");
        }
        let mut turn = self.exchange.step(said);
        let mut is_refused = false;
        loop {
            turn = match turn {
                Turn::Challenge(octets) => {
                    return self.session.challenge(&octets, is_refused, &mut self.out);
                }
                Turn::Keys { hash, .. } => {
                    self.exchange.keys(Ring::new(Keys::derive(hash, "secret", b"salt", 1)))
                }
                Turn::Check(Claim::Password(credentials)) => return self.log_in(&credentials),
                Turn::Check(claim) => {
                    let (user, is_right) = match claim {
                        Claim::Proof { user, is_right, .. } => (user, is_right),
                        Claim::Password(_) | Claim::Certificate { .. } => ("".into(), false),
                    };
                    self.shown = (user, if is_right { "secret" } else { "wrong" });
                    match self.exchange.settle(is_right, None) {
                        Some(octets) => Turn::Challenge(octets),
                        None => Turn::Settled,
                    }
                }
                Turn::Judge(Token { user, token }) => {
                    let is_good = token.expose() == "good";
                    is_refused = !is_good;
                    let password = if is_good { "secret" } else { "wrong" };
                    self.shown = (user.unwrap_or_default(), password);
                    let error = (TokenError::Invalid, &Discovery::default());
                    match self.exchange.settle(is_good, Some(error)) {
                        Some(octets) => Turn::Challenge(octets),
                        None => Turn::Settled,
                    }
                }
                Turn::Settled => {
                    let (user, password) = std::mem::take(&mut self.shown);
                    return self.log_in(&Credentials::new(&user, password));
                }
                Turn::Malformed => {
                    return self.session.login(Verdict::Malformed, &mut self.out);
                }
            }
        }
    }

    fn log_in(&mut self, credentials: &Credentials) {
        let password = credentials.password.expose().to_owned();
        self.logins.push(format!("{} {password}", credentials.user));
        let verdict = match credentials.acting_for {
            Some(_) => Verdict::Foreign,
            None => self.verdict(&credentials.user, &password),
        };
        // Every login moves to another shard, as far as the machine can tell.
        let here = std::mem::replace(&mut self.session, Session::new(settings(true)));
        self.session = Session::arrive(sent_to_another_shard(here.depart()));
        self.session.login(verdict, &mut self.out);
    }

    fn verdict(&self, user: &str, password: &str) -> Verdict<Held> {
        match (user, password) {
            ("bob@example.org" | "u", "secret" | "p" | "a b  c ") => {
                self.locked.set(true);
                let locked = Rc::clone(&self.locked);
                Verdict::Open(Held { mails: self.mails.clone(), locked })
            }
            ("held@example.org", _) => Verdict::InUse,
            ("off@example.org", _) => Verdict::refused(Outcome::Disabled),
            ("later@example.org", _) => Verdict::Later,
            ("broken@example.org", _) => Verdict::Broken,
            _ => Verdict::Refused,
        }
    }
}

fn nth(index: u32) -> usize {
    to_usize(u64::from(index))
}

/// All of a session: what was said, what is removed, whether it was closed.
fn run(plaintext: bool, input: &[u8], piece: usize) -> (Vec<u8>, Vec<u32>, bool) {
    let mails = vec![mail(b"A: b\r\n\r\n.x\r\ny"), mail(b"C: d\r\n\r\n"), mail(b"\n.\n")];
    let mut world = World::new(plaintext, mails);
    let mut said = world.receive(b"");
    for part in input.chunks(piece.max(1)) {
        said.extend(world.receive(part));
        let held = world.input.len();
        assert!(
            world.closed || held <= SASL_LINE_OCTETS_MAX + POP3_LINE_OCTETS_MAX,
            "{held} octets pile up"
        );
    }
    assert!(!world.closed || !world.locked.get(), "the lock outlives the session");
    (said, world.removed, world.closed)
}

/// Laws: any cut gives the same session; every line said ends with CRLF; nothing piles up. The
/// first octet chooses whether plain passwords are taken, and whether the client is logged in.
pub fn fuzz_session(data: &[u8]) {
    let Some((&first, input)) = data.split_first() else { return };
    let plaintext = first & 1 == 0;
    let login: &[u8] = if first & 2 == 0 { b"" } else { b"USER u\r\nPASS p\r\n" };
    let input = [login, input].concat();
    let (said, removed, closed) = run(plaintext, &input, input.len());
    assert!(said.starts_with(b"+OK POP3 ready\r\n") && said.ends_with(b"\r\n"));
    assert!(removed.is_empty() || closed, "removed while the session goes on");
    for piece in 1..=7 {
        let cut = run(plaintext, &input, piece);
        assert!(cut.0 == said, "cut into pieces of {piece}");
        assert_eq!((&cut.1, cut.2), (&removed, closed), "cut into pieces of {piece}");
    }
}
