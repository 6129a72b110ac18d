//! The bare machine under a driver that has all a driver needs and no socket: for dialogs, fuzzers
//! and the law that cuts do not matter.
//!
//! The server is a script of turns. A turn is said when the client has sent what it has to send and
//! waits; it may hold any octets, more answers than were asked for, or fewer.

use super::{Client, Delivery, Framing, Loss, Mail, Profile, Rcpt, Step, Trouble, Turn, Verdict};
use crate::bytes::chain::Chain;
use crate::model::address::Address;
use crate::wire::dot::stuffed;
use crate::wire::smtp::param::{MailParams, RcptParams};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::rc::Rc;

/// What the server does when it is its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act<'s> {
    Say(&'s [u8]),
    /// It hangs up.
    HangUp,
    /// It says nothing any more.
    Sleep,
}

/// A message to be sent, in a session of its own or behind others.
#[derive(Clone, Debug)]
pub struct Letter<'l> {
    pub sender: Option<Address>,
    pub recipients: Vec<Address>,
    pub params: MailParams<'l>,
    pub rcpt_params: RcptParams<'l>,
    pub octets: &'l [u8],
}

/// All of a session: who said what, in order, and what became of each recipient.
pub struct Replay<'s> {
    client: Client,
    script: VecDeque<Act<'s>>,
    /// Octets come in pieces of at most so many.
    piece: usize,
    /// Of the turn under way.
    coming: &'s [u8],
    held: Vec<u8>,
    out: Chain,
    pub transcript: String,
    /// Octets that the client has sent.
    pub sent: Vec<u8>,
}

impl<'s> Replay<'s> {
    pub fn new(profile: Profile, script: &[Act<'s>], piece: usize) -> Replay<'s> {
        Replay {
            client: Client::new(Rc::new(profile), false, "cnonce"),
            script: script.iter().copied().collect(),
            piece: piece.max(1),
            coming: &[],
            held: Vec::new(),
            out: Chain::new(),
            transcript: String::new(),
            sent: Vec::new(),
        }
    }

    /// Runs the session with these letters, then QUIT; what became of each, and what ended the
    /// session if it was not us.
    pub fn run(&mut self, letters: &[Letter<'_>]) -> (Vec<Vec<Verdict>>, Option<Trouble>) {
        let mut all = Vec::new();
        if let Err(trouble) = self.open() {
            writeln!(self.transcript, "trouble {trouble:?}").expect("a String takes all text");
            return (all, Some(trouble));
        }
        for letter in letters {
            if self.client.is_spent() {
                break;
            }
            // What is left of a turn has come by then.
            while self.receive_more() {}
            let Delivery { verdicts, trouble } = self.deliver(letter);
            for verdict in &verdicts {
                writeln!(self.transcript, "= {}", shown(verdict)).expect("a String takes all text");
            }
            all.push(verdicts);
            if let Some(trouble) = trouble {
                let Trouble { at, kind, said } = &trouble;
                writeln!(self.transcript, "{kind:?} at {at:?}: {said}").expect("it takes all text");
                return (all, Some(trouble));
            }
        }
        while self.receive_more() {}
        self.client.quit(&mut self.out);
        let end = self.open().err();
        (all, end)
    }

    fn open(&mut self) -> Result<(), Trouble> {
        loop {
            let (used, step) = self.client.step(&self.held, &mut self.out);
            self.used(used);
            match step {
                // Another answer may have come with this one.
                Step::Read(_) if used > 0 => {}
                Step::Read(_) => match self.receive() {
                    Ok(()) => {}
                    Err(loss) => return Err(self.client.lost(loss)),
                },
                Step::Secure => {
                    self.transcript.push_str("(TLS)\n");
                    self.held.clear();
                    self.coming = &[];
                    self.client.secured(&mut self.out);
                    self.send();
                }
                Step::Ready | Step::Closed => return Ok(()),
                Step::Failed(trouble) => return Err(trouble),
            }
        }
    }

    fn deliver(&mut self, letter: &Letter<'_>) -> Delivery {
        let recipients: Vec<Rcpt<'_>> = letter
            .recipients
            .iter()
            .map(|address| Rcpt { address, params: letter.rcpt_params })
            .collect();
        let sender = letter.sender.as_ref();
        let mail = Mail { sender, params: letter.params, recipients: &recipients };
        let Replay { client, script, piece, coming, held, out, transcript, sent } = self;
        let mut transaction = client.transaction(&mail);
        let mut wire = Wire { script, piece: *piece, coming, held, out, transcript, sent };
        loop {
            let (used, turn) = transaction.step(wire.held, wire.out);
            wire.used(used);
            match turn {
                Turn::Read(_) if used > 0 => {}
                Turn::Read(_) => {
                    if let Err(loss) = wire.receive() {
                        transaction.lost(loss);
                    }
                }
                Turn::Body(framing) => {
                    // What the server says already is heard before all is written.
                    if wire.receive_more() || used > 0 {
                        continue;
                    }
                    match framing {
                        Framing::Chunk => wire.out.put(letter.octets),
                        Framing::Data => {
                            for (index, piece) in stuffed(letter.octets, true).enumerate() {
                                wire.out.put(if index > 0 { b"." } else { b"" });
                                wire.out.put(piece);
                            }
                        }
                    }
                    let is_open = !letter.octets.ends_with(b"\r\n");
                    transaction.body_sent(is_open, wire.out);
                }
                Turn::Done => {
                    wire.send();
                    return transaction.finish();
                }
            }
        }
    }

    fn wire(&mut self) -> Wire<'_, 's> {
        let Replay { script, piece, coming, held, out, transcript, sent, .. } = self;
        Wire { script, piece: *piece, coming, held, out, transcript, sent }
    }

    fn used(&mut self, used: usize) {
        self.wire().used(used);
    }

    fn send(&mut self) {
        self.wire().send();
    }

    fn receive(&mut self) -> Result<(), Loss> {
        self.wire().receive()
    }

    fn receive_more(&mut self) -> bool {
        self.wire().receive_more()
    }
}

/// The connection, borrowed beside the client.
struct Wire<'w, 's> {
    script: &'w mut VecDeque<Act<'s>>,
    piece: usize,
    coming: &'w mut &'s [u8],
    held: &'w mut Vec<u8>,
    out: &'w mut Chain,
    transcript: &'w mut String,
    sent: &'w mut Vec<u8>,
}

impl Wire<'_, '_> {
    fn used(&mut self, used: usize) {
        let answer: Vec<u8> = self.held.drain(..used).collect();
        self.show('S', &answer);
        self.send();
    }

    fn send(&mut self) {
        let octets = self.out.to_vec();
        self.out.consume(octets.len());
        self.show('C', &octets);
        self.sent.extend_from_slice(&octets);
    }

    fn show(&mut self, who: char, octets: &[u8]) {
        for line in octets.split_inclusive(|&octet| octet == b'\n') {
            let line = line.strip_suffix(b"\r\n").unwrap_or(line);
            let line = &line[..line.len().min(80)];
            writeln!(self.transcript, "{who} {}", line.escape_ascii()).expect("it takes all text");
        }
    }

    /// More of the turn under way.
    fn receive_more(&mut self) -> bool {
        let count = self.coming.len().min(self.piece);
        let (piece, rest) = self.coming.split_at(count);
        self.held.extend_from_slice(piece);
        *self.coming = rest;
        count > 0
    }

    fn receive(&mut self) -> Result<(), Loss> {
        loop {
            if self.receive_more() {
                return Ok(());
            }
            match self.script.pop_front() {
                Some(Act::Say(octets)) => *self.coming = octets,
                Some(Act::Sleep) => return Err(Loss::TimedOut),
                Some(Act::HangUp) | None => return Err(Loss::Dropped),
            }
        }
    }
}

fn shown(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Delivered(said) => format!("delivered: {said}"),
        Verdict::Deferred(said) => format!("deferred: {said}"),
        Verdict::Failed(said) => format!("failed: {said}"),
        Verdict::Unfit(said) => format!("unfit: {said}"),
        Verdict::Again => "again".into(),
    }
}

/// Laws, whatever a server says: any cut gives the same session; each recipient has a verdict; none
/// is delivered to without a yes behind the message, and a message has at least one recipient; what a
/// session holds is bounded. Octets of 255 part the turns; the first octet chooses what is sent.
pub fn fuzz_client(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let turns: Vec<Act<'_>> = rest.split(|&octet| octet == 255).map(Act::Say).collect();
    let profile =
        Profile { hello: "me.example".into(), lmtp: first & 1 != 0, ..Profile::default() };
    let count = usize::from(first >> 1 & 3) + 1;
    let recipients: Vec<Address> = (0..count)
        .map(|index| Address::from_parts(&format!("u{index}"), &format!("{}.example", index % 2)))
        .collect();
    let octets = b"A: b\r\n\r\n.c\r\n";
    let letter = Letter {
        sender: None,
        recipients,
        params: MailParams { size: Some(octets.len() as u64), ..MailParams::default() },
        rcpt_params: RcptParams::default(),
        octets,
    };
    let letters = [letter.clone(), letter];
    let run = |piece: usize| {
        let mut replay = Replay::new(profile.clone(), &turns, piece);
        let (verdicts, trouble) = replay.run(&letters);
        (verdicts, trouble, replay.transcript, replay.sent)
    };
    let whole = run(data.len());
    for piece in 1..=5 {
        assert_eq!(run(piece), whole, "cut into pieces of {piece}");
    }
    let (verdicts, _, transcript, sent) = whole;
    assert!(verdicts.iter().all(|one| one.len() == count), "each recipient has a verdict");
    let delivered = |verdict: &&Verdict| matches!(verdict, Verdict::Delivered(_));
    let bodies = transcript.lines().filter(|line| *line == "C A: b").count();
    let happy = verdicts.iter().filter(|one| one.iter().any(|one| delivered(&one))).count();
    assert!(happy <= bodies, "nothing is delivered that was not sent\n{transcript}");
    assert!(sent.is_empty() || transcript.starts_with("S "), "the server speaks first");
}
