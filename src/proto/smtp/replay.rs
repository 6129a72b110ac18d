//! The bare machine under a driver that has all a driver needs and no socket: for dialogs, fuzzers
//! and the law that cuts do not matter.
//!
//! Its directory: `local.example` has postmaster, abuse, a, b, user, with subaddresses; `full` is
//! known but cannot be stored for; `other.example` and all else is foreign and refused. `user` logs
//! in with `secret`, `off` is switched off, `busy` is to come back.

use super::{
    Bounds, Dialect, Extensions, Found, Lookup, Outcome, Service, Session, Settings, Step, Verdict,
    outcome_replies,
};
use crate::bytes::chain::Chain;
use crate::model::address::Address;
use crate::model::channel::{CLEAR, Channel};
use crate::proto::sasl::{
    self, Claim, Discovery, Exchange, Keys, Mechanism, Move, Policy, Ring, TokenError, Turn,
};
use crate::wire::address::{ForwardPath, parse_mailbox};
use crate::wire::smtp::reply::Reply;
use crate::wire::text::TextScan;
use std::rc::Rc;

/// A message that the machine gave up for storing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// As in a path, `<>` for the null one.
    pub sender: String,
    pub recipients: Vec<String>,
    pub octets: Vec<u8>,
}

/// One session with its driver.
pub struct Replay {
    session: Session,
    settings: Rc<Settings>,
    lmtp: bool,
    text_line_max: u32,
    held: Vec<u8>,
    said: Vec<u8>,
    exchange: Exchange,
    settled: sasl::Outcome,
    draft: Option<Message>,
    stored: Vec<Message>,
    closed: bool,
}

/// The moment of all that happens: 2026-11-28T20:00:00Z.
const NOW: u32 = 1_795_896_000;

const USERS: [&str; 6] = ["postmaster", "abuse", "a", "b", "user", "full"];

impl Replay {
    /// A session behind its greeting.
    pub fn new(settings: Settings) -> Replay {
        let (lmtp, text_line_max) = (settings.is_lmtp(), settings.text_line_max);
        let settings = Rc::new(settings);
        let mut session = Session::new(Rc::clone(&settings));
        session.at(NOW);
        let mut out = Chain::new();
        session.greeting(&mut out);
        Replay {
            session,
            settings,
            lmtp,
            text_line_max,
            held: Vec::new(),
            said: out.to_vec(),
            exchange: Exchange::new(&CLEAR, false, "snonce"),
            settled: sasl::Outcome::Refused,
            draft: None,
            stored: Vec::new(),
            closed: false,
        }
    }

    /// Lets the client send `input`; it is lost on a closed session.
    pub fn send(&mut self, input: &[u8]) {
        self.held.extend_from_slice(input);
        let held = std::mem::take(&mut self.held);
        let mut at = 0;
        let mut out = Chain::new();
        while !self.closed {
            let (used, step) = self.session.step(&held[at..], &mut out);
            at += used;
            assert!(at <= held.len(), "only given octets are used up");
            if step == Step::Read {
                break;
            }
            if step == Step::Secure {
                // What came in clear behind it is forgotten.
                at = held.len();
            }
            self.act(step, &mut out);
        }
        self.said.extend_from_slice(&out.to_vec());
        self.held = held[at..].to_vec();
    }

    /// Octets that came and were not used up; bounded, whatever comes.
    pub fn held_len(&self) -> usize {
        self.held.len()
    }

    /// Ends the session from the server's side, as a driver does at a deadline.
    pub fn time_out(&mut self) {
        let mut out = Chain::new();
        self.session.timed_out(&mut out);
        self.said.extend_from_slice(&out.to_vec());
        self.closed = true;
    }

    /// What the server said since it was last asked.
    pub fn take_said(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.said)
    }

    /// The messages stored so far.
    pub fn stored(&self) -> &[Message] {
        &self.stored
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn act(&mut self, step: Step<'_>, out: &mut Chain) {
        match step {
            Step::Read | Step::Continue => {}
            Step::Sender(sender) => {
                let sender = sender.path.to_string();
                self.draft = Some(Message { sender, recipients: vec![], octets: vec![] });
                self.session.sender(Verdict::Accept, out);
            }
            Step::Recipient(recipient) => {
                let verdict = resolve(&recipient.path);
                if verdict == Verdict::Accept {
                    self.draft().recipients.push(recipient.path.to_string());
                }
                self.session.recipient(verdict, out);
            }
            Step::Client(told) => {
                self.session.introduced(told.hello(), Rc::new(Settings::default()), out);
            }
            Step::Lookup(lookup) => self.look_up(lookup, out),
            Step::Auth(said) => self.authenticate(said, out),
            Step::Begin => self.session.begin(Verdict::Accept, out),
            Step::Body(octets) => self.draft().octets.extend_from_slice(octets),
            Step::Commit { is_text } => {
                let message = self.draft.take().expect("a message has a draft");
                let full = Outcome::Refused(Reply::new(452, 2, 2, "Mailbox full"));
                let outcomes: Vec<Outcome<'_>> = message
                    .recipients
                    .iter()
                    .map(|to| if to.starts_with("<full@") { full } else { Outcome::Stored("m1") })
                    .collect();
                let mut scan = TextScan::new(self.text_line_max);
                scan.feed(&message.octets);
                scan.end();
                assert_eq!(is_text, scan.fault().is_none(), "the machine knows what is text");
                assert!(!outcomes.is_empty(), "no message without recipients");
                outcome_replies(&outcomes, self.lmtp, out);
                self.stored.push(message);
            }
            Step::Abort => self.draft = None,
            Step::Secure => {
                self.draft = None;
                self.session = Session::new(Rc::clone(&self.settings));
                self.session.at(NOW);
                self.session.secure(&Channel { encrypted: true, ..Channel::default() });
            }
            Step::Close => {
                self.draft = None;
                self.closed = true;
            }
        }
    }

    fn draft(&mut self) -> &mut Message {
        self.draft.as_mut().expect("MAIL came before")
    }

    fn authenticate(&mut self, said: Move, out: &mut Chain) {
        if let Move::Begin(..) = said {
            let plus = self.session.mechanisms().each().any(Mechanism::binds);
            self.exchange = Exchange::new(self.session.channel(), plus, "snonce");
        }
        let mut turn = self.exchange.step(said);
        let mut is_refused = false;
        let outcome = loop {
            turn = match turn {
                Turn::Challenge(octets) => return self.session.challenge(&octets, is_refused, out),
                Turn::Keys { hash, .. } => {
                    self.exchange.keys(Ring::new(Keys::derive(hash, "secret", b"salt", 1)))
                }
                Turn::Check(claim) => {
                    self.settled = judge(&claim);
                    match self.exchange.settle(self.settled == sasl::Outcome::Accepted, None) {
                        Some(octets) => Turn::Challenge(octets),
                        None => break self.settled,
                    }
                }
                Turn::Judge(token) => {
                    let is_good = token.token.expose() == "good";
                    let (accepted, refused) = (sasl::Outcome::Accepted, sasl::Outcome::Refused);
                    self.settled = if is_good { accepted } else { refused };
                    is_refused = !is_good;
                    let error = (TokenError::Invalid, &Discovery::default());
                    match self.exchange.settle(is_good, Some(error)) {
                        Some(octets) => Turn::Challenge(octets),
                        None => break self.settled,
                    }
                }
                Turn::Settled => break self.settled,
                Turn::Malformed => break sasl::Outcome::Malformed,
            }
        };
        self.session.authenticated(outcome, out);
    }

    fn look_up(&mut self, lookup: Lookup<'_>, out: &mut Chain) {
        let (Lookup::Verify(whom) | Lookup::Expand(whom)) = lookup;
        let known = parse_mailbox(whom).ok().filter(|path| is_known(path.local()));
        match known {
            Some(path) => {
                self.session.found(Found::Mailboxes(&[path.to_address()]), out);
            }
            None if whom == "list" => {
                let members = [
                    Address::from_parts("a", "local.example"),
                    Address::from_parts("b", "local.example"),
                ];
                self.session.found(Found::Mailboxes(&members), out);
            }
            None => self.session.found(Found::Refused(UNKNOWN), out),
        }
    }
}

fn judge(claim: &Claim) -> sasl::Outcome {
    let (user, acting_for, is_right) = match claim {
        Claim::Password(shown) => {
            (&*shown.user, &shown.acting_for, shown.password.expose() == "secret")
        }
        Claim::Proof { user, acting_for, is_right, .. } => (&**user, acting_for, *is_right),
        Claim::Certificate { user, acting_for } => (&**user, acting_for, true),
    };
    match (user, is_right) {
        ("busy", _) => sasl::Outcome::Later,
        ("off", true) => sasl::Outcome::Disabled,
        ("user", true) if acting_for.is_some() => sasl::Outcome::Foreign,
        ("user", true) => sasl::Outcome::Accepted,
        _ => sasl::Outcome::Refused,
    }
}

const UNKNOWN: Reply<'_> = Reply::new(550, 1, 1, "No such user here");
const FOREIGN: Reply<'_> = Reply::new(550, 7, 1, "Relaying denied");

fn is_known(local: &str) -> bool {
    let user = local.split('+').next().unwrap_or_default();
    USERS.iter().any(|known| known.eq_ignore_ascii_case(user))
}

fn resolve(path: &ForwardPath<'_>) -> Verdict<'static> {
    match path {
        ForwardPath::Postmaster => Verdict::Accept,
        ForwardPath::Path(path) if path.domain() != "local.example" => Verdict::Refuse(FOREIGN),
        ForwardPath::Path(path) if is_known(path.local()) => Verdict::Accept,
        ForwardPath::Path(_) => Verdict::Refuse(UNKNOWN),
    }
}

/// All of a session: what was said, what was stored, whether it was closed.
fn run(settings: &Settings, input: &[u8], piece: usize) -> (Vec<u8>, Vec<Message>, bool) {
    let mut replay = Replay::new(settings.clone());
    input.chunks(piece.max(1)).for_each(|part| replay.send(part));
    (replay.take_said(), replay.stored, replay.closed)
}

/// Laws: any cut gives the same session; replies have sound lines; no message without recipients
/// and none over the limit. The first octet chooses the settings, two bits each for how it begins.
pub fn fuzz_session(data: &[u8]) {
    let Some((&first, input)) = data.split_first() else { return };
    let service = match (first & 1 != 0, first & 64 != 0) {
        (true, _) => Service::Lmtp,
        (false, true) => Service::Submission,
        (false, false) => Service::Mx,
    };
    let settings = Settings {
        hostname: "mx.local.example".into(),
        service,
        max_message_size: 200,
        recipients_max: 3,
        errors_max: if first & 2 != 0 { 3 } else { 100 },
        hops_max: 2,
        vrfy: first & 4 != 0,
        expn: first & 4 != 0,
        auth: Policy { plaintext: true, ..Policy::default() },
        dialect: Dialect { extensions: Extensions::ALL, ..Dialect::default() },
        bounds: Bounds { hold_max: 100, by_min: 10, priority_policy: "MIXER".into() },
        ..Settings::default()
    };
    let opening: &[u8] = match first >> 3 & 3 {
        0 => b"",
        1 => b"EHLO a\r\nLHLO a\r\nMAIL FROM:<>\r\n",
        2 => b"EHLO a\r\nLHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@local.example>\r\n",
        _ => b"EHLO a\r\nLHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@local.example>\r\nDATA\r\n",
    };
    let input = [opening, input].concat();
    let whole = run(&settings, &input, input.len());
    for piece in 1..=7 {
        assert_eq!(run(&settings, &input, piece), whole, "cut into pieces of {piece}");
    }
    let (said, stored, _) = whole;
    assert!(said.ends_with(b"\r\n") && said.is_ascii());
    for line in said.split_inclusive(|&octet| octet == b'\n') {
        assert!(line.ends_with(b"\r\n") && line.len() <= 512 && line.len() >= 6);
        assert!(line[..3].iter().all(u8::is_ascii_digit) && matches!(line[3], b' ' | b'-'));
    }
    assert!(stored.iter().all(|message| message.octets.len() <= 200));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_same_session_over_all_cuts() {
        let words = [
            "EHLO a\r\n",
            "LHLO b\r\n",
            "MAIL FROM:<a@b.example>",
            "MAIL FROM:<> BODY=BINARYMIME",
            "RCPT TO:<a@local.example>",
            "RCPT TO:<b@local.example>\r\n",
            "RCPT TO:<x@y>",
            "DATA",
            "BDAT 3",
            "BDAT 5 LAST\r\n",
            "BDAT 0 LAST",
            "BDAT 300",
            "BDAT 2 X Y\r\n",
            " LAST",
            "\r\n",
            "\r\n",
            "\r\n",
            "\n",
            "\r",
            ".",
            "..",
            "abc",
            "Received: x\r\n",
            "RSET\r\n",
            "NOOP\r\n",
            "QUIT\r\n",
            "VRFY a@local.example\r\n",
            "EXPN list\r\n",
            "AUTH PLAIN AHVzZXIAc2VjcmV0",
            "AUTH LOGIN\r\n",
            "AUTH PLAIN",
            "dXNlcg==\r\n",
            "c2VjcmV0\r\n",
            "=\r\n",
            "*\r\n",
            "\0",
            "é",
            "HELP\r\n",
            "\r\n.\r\n",
            "\r\n.\r\n",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ];
        arbtest::arbtest(|u| {
            let mut data = vec![u.arbitrary::<u8>()?];
            for _ in 0..u.int_in_range(0..=16)? {
                data.extend_from_slice(u.choose(&words)?.as_bytes());
            }
            fuzz_session(&data);
            Ok(())
        });
    }

    #[test]
    fn survives_lines_and_messages_over_all_limits() {
        let long = |word: &[u8], times: usize| word.repeat(times);
        for first in 0..32 {
            for body in [long(b"NOOP a", 900), long(b"..\r\n", 80), long(b"BDAT 1\r\nx", 300)] {
                let data = [&[first][..], &body, b"\r\nNOOP\r\n.\r\nNOOP\r\n"].concat();
                fuzz_session(&data);
            }
        }
    }
}
