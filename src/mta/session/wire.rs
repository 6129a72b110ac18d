//! A connection under a client's machine: what is written goes out, what comes in is held, and each
//! wait has its deadline.
//!
//! A server that takes nothing may be one that waits for its answers to be read; so a write that
//! stands still lets what came be heard, and then goes on (RFC 2920 §3.1). A server that hangs up may
//! have said why before; so what lies there is heard before the connection counts as lost.

use crate::bytes::buffer::Buffer;
use crate::bytes::chain::Chain;
use crate::env::{Conn as _, Env, Presence};
use crate::model::limits::{LAST_WORDS_PATIENCE, WRITE_STALL};
use crate::model::time::Mono;
use crate::proto::smtp::client::{Loss, Timeouts, Wait};
use crate::tls::Stream;
use std::io;
use std::time::Duration;

/// See the header of this file.
pub(super) struct Wire<E: Env> {
    pub(super) env: E,
    pub(super) stream: Stream<E>,
    pub(super) buffer: Buffer,
    pub(super) out: Chain,
    timeouts: Timeouts,
    /// When all has to be over, however long each wait may be.
    pub(super) end: Mono,
    /// When the answer that is waited for has to be whole.
    deadline: Option<Mono>,
    /// An answer was used up and octets were left: there may be another.
    holds_more: bool,
    /// Some of what was written may not have gone out.
    has_unsent: bool,
    /// What is written does not arrive any more.
    is_deaf: bool,
}

impl<E: Env> Wire<E> {
    pub(super) fn new(env: &E, stream: Stream<E>, timeouts: Timeouts, end: Mono) -> Wire<E> {
        Wire {
            env: env.clone(),
            stream,
            buffer: Buffer::new(),
            out: Chain::new(),
            timeouts,
            end,
            deadline: None,
            holds_more: false,
            has_unsent: false,
            is_deaf: false,
        }
    }

    /// The machine has used up so many octets.
    pub(super) fn used(&mut self, count: usize) {
        self.buffer.consume(count);
        if count > 0 {
            self.deadline = None;
        }
        self.holds_more = count > 0 && !self.buffer.is_empty();
    }

    /// Octets are left that the machine has not looked at since it last used some up.
    pub(super) fn holds_more(&self) -> bool {
        self.holds_more
    }

    /// Some of what was written may not have gone out: the server answered before.
    pub(super) fn has_unsent(&self) -> bool {
        self.has_unsent || !self.out.is_empty()
    }

    /// Nothing has come, and nobody has hung up, as far as is known.
    pub(super) fn is_quiet(&self) -> bool {
        self.buffer.is_empty() && self.stream.presence() == Presence::Here
    }

    fn until(&self, wait: Wait) -> Mono {
        self.env.now().after(self.timeouts.of(wait)).min(self.end)
    }

    /// There is time for the answer to a message from here on: who does not hear it sends twice what was
    /// taken (RFC 5321 §4.5.3.2.6).
    pub(super) fn await_final(&mut self) {
        self.end = self.end.max(self.env.now().after(self.timeouts.of(Wait::Message)));
    }

    /// Sends what was written and waits for octets.
    pub(super) async fn exchange(&mut self, wait: Wait) -> Result<(), Loss> {
        if self.holds_more {
            return Ok(());
        }
        let until = match self.deadline {
            Some(until) => until,
            None => self.until(wait),
        };
        self.deadline = Some(until);
        if self.send(until).await? { Ok(()) } else { self.read(until).await }
    }

    /// Sends a block of a message.
    pub(super) async fn send_block(&mut self) -> Result<(), Loss> {
        let until = self.until(Wait::Block);
        self.send(until).await?;
        self.env.breathe().await;
        Ok(())
    }

    /// Sends what was written. True if the server was heard meanwhile: then some of it may be unsent.
    async fn send(&mut self, until: Mono) -> Result<bool, Loss> {
        self.has_unsent = true;
        while !self.is_deaf {
            let patience = self.env.now().after(WRITE_STALL).min(until);
            match self.stream.write(&mut self.out, patience).await {
                Ok(()) => {
                    self.has_unsent = false;
                    return Ok(false);
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    if self.hear(Duration::ZERO).await {
                        return Ok(true);
                    }
                    if self.env.now() >= until {
                        return Err(Loss::TimedOut);
                    }
                }
                Err(_) => self.is_deaf = true,
            }
        }
        self.out.consume(self.out.len());
        if self.hear(LAST_WORDS_PATIENCE).await { Ok(true) } else { Err(Loss::Dropped) }
    }

    /// Whether octets come within this time.
    async fn hear(&mut self, patience: Duration) -> bool {
        let until = self.env.now().after(patience);
        matches!(self.stream.read(&mut self.buffer, until).await, Ok(count) if count > 0)
    }

    async fn read(&mut self, until: Mono) -> Result<(), Loss> {
        match self.stream.read(&mut self.buffer, until).await {
            Ok(0) => Err(Loss::Dropped),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Loss::TimedOut),
            Err(_) => Err(Loss::Dropped),
        }
    }
}
