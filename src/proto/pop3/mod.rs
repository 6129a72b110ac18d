//! POP3, the server's side: RFC 1939 with CAPA, PIPELINING, SASL and UTF8.
//!
//! The machine reads lines and writes answers; whatever needs the world it asks of its driver by a
//! [`Step`]. One driver fits the real machine, the simulation and the tests:
//!
//! ```text
//!            ┌────────────── Login ─────────────┐
//!  greet ─> AUTHORIZATION ── login(Open) ──> TRANSACTION ── QUIT ── Update ──> updated ─> Close
//!            │    ^ login(anything else)          │   │                           ^
//!            └────┴─ QUIT ─> Close                │   └── QUIT, nothing marked ───┘
//!                                                 └─ Retrieve, Top: the driver sends the message
//! ```
//!
//! Promises:
//!   - the same input gives the same answers, however it is cut
//!   - nothing is kept but the line that is being read, and that by the driver; a listing or a
//!     message is written piece by piece, and the driver stops stepping while the reader is slow
//!   - answers come in the order of the commands (RFC 2449 §6.6)
//!   - the maildrop, and with it the lock, is dropped before the last answer is written
//!
//! Illegal: to step while a question ([`Step::Login`], [`Step::Auth`], [`Step::Update`]) is open.

mod message;
#[cfg(any(test, feature = "sim"))]
pub mod replay;
mod session;
#[cfg(test)]
mod tests;

pub use message::{Sending, octets_sent, top_end};
pub use session::{Departed, Session};

use crate::bytes::chain::Chain;
use crate::model::limits::{POP3_ERRORS_MAX, POP3_LOGINS_FAILED_MAX};
use crate::proto::sasl::{Credentials, Move, Outcome, Policy};

/// What one session serves: fixed at login, so that numbers and sizes hold until the end
/// (RFC 1939 §5). Messages are told by their index, from 0.
pub trait Maildrop {
    /// Messages of the maildrop.
    fn count(&self) -> u32;
    /// Octets of the message as RETR sends it, stuffing not counted ([`octets_sent`]).
    fn size(&self, index: u32) -> u64;
    /// Writes the unique id: 1 to 70 characters of 0x21 to 0x7E (RFC 1939 §7).
    fn put_unique_id(&self, index: u32, out: &mut Chain);
    /// The message came by SMTPUTF8 and has non-ASCII text in its header: only for clients that
    /// asked for UTF8 (RFC 6856 §2.1).
    fn needs_utf8(&self, index: u32) -> bool;
}

/// What the operator decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How clients may authenticate. Where no password may be sent (RFC 2595 §2.3), USER, PASS and
    /// AUTH PLAIN are neither listed nor taken.
    pub auth: Policy,
    /// STLS is offered to those who are in clear (RFC 2595 §4).
    pub stls: bool,
    /// A session with more wrong commands is closed.
    pub errors_max: u32,
    /// A session with so many failed logins is closed.
    pub logins_failed_max: u8,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            auth: Policy { plaintext: true, ..Policy::default() },
            stls: false,
            errors_max: POP3_ERRORS_MAX,
            logins_failed_max: POP3_LOGINS_FAILED_MAX,
        }
    }
}

/// What the driver must do before it steps again.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send what there is to send, then wait for more octets.
    Read,
    /// Step again; not before some was sent if more than
    /// [`REPLY_OCTETS_PENDING_MAX`](crate::model::limits::REPLY_OCTETS_PENDING_MAX) wait.
    Continue,
    /// USER and PASS: check these, open and lock the maildrop, then call [`Session::login`].
    Login(Credentials),
    /// AUTH, or the answer to a challenge: call [`Session::challenge`], or, once the exchange is
    /// over, as for [`Step::Login`].
    Auth(Move),
    /// Send this message by [`Sending::whole`], or call [`unavailable`].
    Retrieve { index: u32 },
    /// Send the head and `lines` lines of the body by [`Sending::top`], or call [`unavailable`].
    Top { index: u32, lines: u32 },
    /// Remove what [`Session::deleted`] names, all at once and durably, then call
    /// [`Session::updated`].
    Update,
    /// Forget whatever was received and not used, send what there is to send, shake hands; then go on
    /// with a new session (RFC 2595 §4), which is told by [`Session::secure`].
    Secure,
    /// Send what there is to send, then hang up. Nothing is removed.
    Close,
}

/// How a login ended.
#[derive(Debug)]
pub enum Verdict<M> {
    /// The maildrop is open and locked. `M` holds the lock and frees it when dropped.
    Open(M),
    /// Unknown user, one who is switched off, or a wrong password: nobody is told which.
    Refused,
    /// The password is right, but the user may not act for the one he named.
    Foreign,
    /// Not what the mechanism says in this place.
    Malformed,
    /// Another session has the maildrop (RFC 2449 §8.1.2).
    InUse,
    /// Not now, whatever the password: overload, or a fault that passes (RFC 3206 §4).
    Later,
    /// Not until an operator acts: damage (RFC 3206 §4).
    Broken,
}

/// Answers RETR or TOP of a message that another session removed: as of one that was never there,
/// without a code, since it is neither the system nor for now (RFC 3206 §4).
pub fn removed(out: &mut Chain) {
    out.put(b"-ERR the message was removed by another session\r\n");
}

impl<M> Verdict<M> {
    /// The verdict on a login that came to nothing.
    pub fn refused(outcome: Outcome) -> Verdict<M> {
        match outcome {
            Outcome::Refused | Outcome::Disabled => Verdict::Refused,
            Outcome::Foreign => Verdict::Foreign,
            Outcome::Malformed => Verdict::Malformed,
            Outcome::Accepted | Outcome::Later => Verdict::Later,
        }
    }
}

/// Answers a command of one whose session the operator has ended (RFC 3206 §4); hang up after it.
pub fn ended(why: &str, out: &mut Chain) {
    out.put(format!("-ERR [SYS/PERM] {why}\r\n").as_bytes());
}

/// Answers RETR or TOP of a message that cannot be read now.
pub fn unavailable(out: &mut Chain) {
    out.put(b"-ERR [SYS/TEMP] the message cannot be read now\r\n");
}

/// Greets a connection that is not served: too many of them.
pub fn turn_away(out: &mut Chain) {
    out.put(b"-ERR [SYS/TEMP] too many connections, try again later\r\n");
}
