//! Whole sessions on the bare machines, with drivers that do what a server's driver does short of
//! I/O: keep the body, link the message.

use super::mail::message;
use pombal::bytes::chain::{Chain, Shared};
use pombal::bytes::codec::to_u64;
use pombal::proto::pop3::{self, Maildrop, Sending, octets_sent};
use pombal::proto::smtp::{Outcome, Session, Settings, Step, Verdict, outcome_replies};
use pombal::wire::pop3::put_number;
use std::hint::black_box;
use std::rc::Rc;

const ENVELOPE: &[u8] = b"MAIL FROM:<a@b.example> SIZE=10240\r\nRCPT TO:<c@local.example>\r\n";

/// What a client sends for one message by DATA.
pub(crate) fn by_data(message: &[u8]) -> Vec<u8> {
    [b"EHLO b.example\r\n", ENVELOPE, b"DATA\r\n", message, b".\r\nQUIT\r\n"].concat()
}

/// The same in one chunk (RFC 3030).
pub(crate) fn by_bdat(message: &[u8]) -> Vec<u8> {
    let chunk = format!("BDAT {} LAST\r\n", message.len());
    [b"EHLO b.example\r\n", ENVELOPE, chunk.as_bytes(), message, b"QUIT\r\n"].concat()
}

/// One session from greeting to QUIT; everything is pipelined. Returns the message it took.
pub(crate) fn smtp(settings: &Rc<Settings>, input: &[u8]) -> Vec<u8> {
    let mut session = Session::new(Rc::clone(settings));
    let (mut out, mut draft, mut stored) = (Chain::new(), Vec::new(), Vec::new());
    session.greeting(&mut out);
    let mut at = 0;
    loop {
        let (used, step) = session.step(black_box(&input[at..]), &mut out);
        at += used;
        match step {
            Step::Sender(_) => session.sender(Verdict::Accept, &mut out),
            Step::Recipient(_) => session.recipient(Verdict::Accept, &mut out),
            Step::Begin => session.begin(Verdict::Accept, &mut out),
            Step::Body(octets) => draft.extend_from_slice(octets),
            Step::Commit { .. } => {
                outcome_replies(&[Outcome::Stored("1.2.3")], false, &mut out);
                stored = std::mem::take(&mut draft);
            }
            Step::Secure | Step::Close => break,
            Step::Continue | Step::Abort => {}
            Step::Read | Step::Lookup(_) | Step::Auth(_) | Step::Client(_) => {
                unreachable!("the input has all and asks for nobody")
            }
        }
    }
    assert!(out.to_vec().ends_with(b"\r\n") && at == input.len());
    stored
}

/// Messages that are all the same one.
pub(crate) struct Same {
    pub(crate) count: u32,
    pub(crate) octets: Rc<dyn Shared>,
    pub(crate) size: u64,
}

impl Same {
    pub(crate) fn new(count: u32, octets: usize) -> Rc<Same> {
        let octets = message(octets);
        let size = octets_sent(&octets);
        Rc::new(Same { count, octets: Rc::new(octets), size })
    }
}

struct Drop(Rc<Same>);

impl Maildrop for Drop {
    fn count(&self) -> u32 {
        self.0.count
    }
    fn size(&self, _: u32) -> u64 {
        self.0.size
    }
    fn put_unique_id(&self, index: u32, out: &mut Chain) {
        out.put(b"1700000000.");
        put_number(out, u64::from(index) + 1);
    }
    fn needs_utf8(&self, _: u32) -> bool {
        false
    }
}

/// One session with everything pipelined behind the login. Returns the octets that were sent.
pub(crate) fn pop3(maildrop: &Rc<Same>, commands: &[u8]) -> u64 {
    let mut session = pop3::Session::new(pop3::Settings::default());
    let mut out = Chain::new();
    session.greet(&mut out);
    let input = [b"USER u\r\nPASS p\r\n", commands, b"QUIT\r\n"].concat();
    let (mut at, mut sent) = (0, 0);
    loop {
        let (used, step) = session.step(black_box(&input[at..]), &mut out);
        at += used;
        match step {
            pop3::Step::Continue => {}
            pop3::Step::Login(_) => {
                session.login(pop3::Verdict::Open(Drop(Rc::clone(maildrop))), &mut out);
            }
            pop3::Step::Retrieve { .. } => {
                let octets = &maildrop.octets;
                let mut sending = Sending::whole(0..octets.len(), maildrop.size, &mut out);
                assert!(sending.fill(octets, &mut out), "a small message fits at once");
            }
            pop3::Step::Update => session.updated(true, &mut out),
            pop3::Step::Secure | pop3::Step::Close => break,
            pop3::Step::Read | pop3::Step::Top { .. } | pop3::Step::Auth(_) => {
                unreachable!("nobody asked for it")
            }
        }
        if out.len() > 64 << 10 {
            sent += to_u64(out.slices().map(<[u8]>::len).sum());
            out.consume(out.len());
        }
    }
    sent + to_u64(out.len())
}

/// `RETR 1` to `RETR count`.
pub(crate) fn retrieve_all(count: u32) -> Vec<u8> {
    (1..=count).flat_map(|number| format!("RETR {number}\r\n").into_bytes()).collect()
}

/// Octets that the lines of `LIST` of `count` messages of `size` octets take at least.
pub(crate) fn listing_octets(count: u32, size: u64) -> u64 {
    (1..=u64::from(count)).map(|number| to_u64(format!("{number} {size}\r\n").len())).sum()
}
