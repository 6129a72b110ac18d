//! What a client waits for, how long that may take, and what ends a session before its time.

use crate::model::reply::Said;
use std::time::Duration;

/// What is waited for: each has its own patience (RFC 5321 §4.5.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wait {
    /// The connection itself.
    Connect,
    Greeting,
    /// The answer to EHLO, LHLO or HELO.
    Hello,
    StartTls,
    /// The handshake of TLS.
    Handshake,
    /// An answer of AUTH.
    Login,
    Reset,
    Mail,
    Rcpt,
    Data,
    /// A block of the message taken by the server.
    Block,
    /// The answer to the whole message.
    Message,
    Quit,
}

impl Wait {
    /// What is done meanwhile, for people.
    pub const fn words(self) -> &'static str {
        match self {
            Wait::Connect => "connecting",
            Wait::Greeting => "waiting for the greeting",
            Wait::Hello => "waiting for the answer to EHLO",
            Wait::StartTls => "waiting for the answer to STARTTLS",
            Wait::Handshake => "agreeing on TLS",
            Wait::Login => "logging in",
            Wait::Reset => "waiting for the answer to RSET",
            Wait::Mail => "waiting for the answer to MAIL",
            Wait::Rcpt => "waiting for the answer to RCPT",
            Wait::Data => "waiting for the answer to DATA",
            Wait::Block => "sending the message",
            Wait::Message => "waiting for the answer to the message",
            Wait::Quit => "saying goodbye",
        }
    }
}

/// How long each wait may take. The defaults are those of RFC 5321 §4.5.3.2 where it has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP; one address of several that are tried.
    pub connect: Duration,
    pub greeting: Duration,
    /// EHLO, LHLO, HELO, STARTTLS, AUTH.
    pub hello: Duration,
    pub handshake: Duration,
    pub mail: Duration,
    pub rcpt: Duration,
    /// The 354 behind DATA.
    pub data: Duration,
    /// A block of the message, until the kernel has taken it.
    pub block: Duration,
    /// The answer to the whole message: who gives up early sends it twice.
    pub message: Duration,
    pub reset: Duration,
    /// The message is delivered by then, and nothing depends on it.
    pub quit: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(30),
            greeting: Duration::from_mins(5),
            hello: Duration::from_mins(5),
            handshake: Duration::from_mins(1),
            mail: Duration::from_mins(5),
            rcpt: Duration::from_mins(5),
            data: Duration::from_mins(2),
            block: Duration::from_mins(3),
            message: Duration::from_mins(10),
            reset: Duration::from_secs(20),
            quit: Duration::from_secs(5),
        }
    }
}

impl Timeouts {
    pub const fn of(&self, wait: Wait) -> Duration {
        match wait {
            Wait::Connect => self.connect,
            Wait::Greeting => self.greeting,
            Wait::Hello | Wait::StartTls | Wait::Login => self.hello,
            Wait::Handshake => self.handshake,
            Wait::Reset => self.reset,
            Wait::Mail => self.mail,
            Wait::Rcpt => self.rcpt,
            Wait::Data => self.data,
            Wait::Block => self.block,
            Wait::Message => self.message,
            Wait::Quit => self.quit,
        }
    }
}

/// What became of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The server has ended it, or it broke.
    Dropped,
    /// The server took too long.
    TimedOut,
}

/// What kind of trouble it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// No connection can be made from here, whomever it is to: no source address, no descriptors.
    Local,
    /// No connection was made.
    Unreachable,
    /// The server refused what the session cannot do without.
    Refused,
    /// 421: the server has no time for us (RFC 5321 §4.2.2).
    Closing,
    Dropped,
    TimedOut,
    /// The server does not speak the protocol.
    Protocol,
    /// The server does not offer what the session cannot do without.
    NotOffered,
    /// TLS could not be made, or the server's certificate is not what it has to be.
    Tls,
}

/// Why a session ended before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What was waited for.
    pub at: Wait,
    pub kind: Kind,
    /// What the server said, or our words for it. It may be 5xx; for whom that is the last word,
    /// another server of the same domain may still take the mail.
    pub said: Said,
}

impl Trouble {
    pub(crate) fn lost(at: Wait, loss: Loss) -> Trouble {
        let (kind, what) = match loss {
            Loss::Dropped => (Kind::Dropped, "connection lost"),
            Loss::TimedOut => (Kind::TimedOut, "timed out"),
        };
        let text = format!("{what} while {}", at.words());
        Trouble { at, kind, said: Said::ours(451, 4, 2, &text) }
    }

    /// Another host of the plan may do better at once; where not, one whose address is of the other family
    /// may: this machine may have no address of the one (RFC 3974 §3).
    pub fn may_go_elsewhere(&self) -> bool {
        self.kind != Kind::Local
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_as_long_as_the_rfc_says() {
        let timeouts = Timeouts::default();
        for (wait, minutes) in [
            (Wait::Greeting, 5),
            (Wait::Mail, 5),
            (Wait::Rcpt, 5),
            (Wait::Data, 2),
            (Wait::Block, 3),
            (Wait::Message, 10),
        ] {
            assert_eq!(timeouts.of(wait), Duration::from_mins(minutes), "{wait:?}");
        }
    }
}
