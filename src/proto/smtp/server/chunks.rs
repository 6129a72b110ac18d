//! BDAT (RFC 3030 §2): chunks, those that are refused, and the octets of both.

use super::{Chunk, Intake, Mail, Place, Question, Reply, Session, State, Step, reply};
use crate::bytes::chain::Chain;
use crate::bytes::codec::{to_u64, to_usize};
use crate::model::limits::SMTP_DROPPED_OCTETS_MAX;

impl Session {
    pub(super) fn bdat(&mut self, chunk: Chunk, place: Place) -> Step<'static> {
        let max = self.settings.max_message_size;
        match place {
            Place::Ready => self.drop_chunk(reply::NO_MAIL, chunk, place),
            Place::Failed(_) => self.drop_chunk(reply::CHUNK_FAILED, chunk, place),
            Place::Mail(mail) if mail.accepted == 0 => {
                self.drop_chunk(self.no_recipients(mail), chunk, place)
            }
            Place::Mail(mail) if chunk.len > max => {
                self.drop_chunk(reply::TOO_LARGE, chunk, Place::Failed(mail))
            }
            Place::Mail(mail) => {
                self.state = State::Asked(Question::Chunk(mail, chunk));
                Step::Begin
            }
            Place::Chunks(_, intake) if intake.octets().saturating_add(chunk.len) > max => {
                self.drop_chunk(reply::TOO_LARGE, chunk, place)
            }
            Place::Chunks(mail, intake) => {
                self.state = State::Chunk(mail, intake, chunk);
                Step::Continue
            }
        }
    }

    /// Refuses a chunk found in `place`; a message that was under way is lost with it.
    pub(super) fn drop_chunk(
        &mut self,
        reply: Reply<'_>,
        chunk: Chunk,
        place: Place,
    ) -> Step<'static> {
        let (then, step) = match place {
            Place::Chunks(mail, _) => (Place::Failed(mail), Step::Abort),
            Place::Failed(_) => (place, Step::Abort),
            Place::Ready | Place::Mail(_) => (place, Step::Continue),
        };
        self.refuse_chunk(reply, chunk, then);
        step
    }

    /// Has the octets of a chunk used up, and its replies written behind them (RFC 3030 §2).
    pub(super) fn refuse_chunk(&mut self, reply: Reply<'_>, chunk: Chunk, then: Place) {
        let replies = match then {
            Place::Ready => 1,
            Place::Mail(mail) | Place::Chunks(mail, _) | Place::Failed(mail) => {
                self.reply_count(mail, chunk.last)
            }
        };
        self.count(reply);
        // The last chunk ends the transaction, good or bad.
        let ended = chunk.last && matches!(then, Place::Failed(_));
        self.state = State::Dropping {
            left: chunk.len,
            dropped: 0,
            replies: reply.to_octets().repeat(replies).into(),
            then: if ended { Place::Ready } else { then },
        };
    }

    /// Replies to a command that may be the end of a message: LMTP has one per accepted
    /// recipient, even if that makes none (RFC 2033 §4.2, §4.3).
    pub(super) fn reply_count(&self, mail: Mail, ends_message: bool) -> usize {
        if self.settings.is_lmtp() && ends_message { to_usize(u64::from(mail.accepted)) } else { 1 }
    }

    pub(super) fn drop_octets<'a>(
        &mut self,
        input: &'a [u8],
        out: &mut Chain,
    ) -> (usize, Step<'a>) {
        let State::Dropping { left, dropped, replies, then } = &mut self.state else {
            unreachable!("octets are dropped in this state")
        };
        let count = to_u64(input.len()).min(*left);
        *left -= count;
        *dropped += count;
        let used = to_usize(count);
        if *dropped > SMTP_DROPPED_OCTETS_MAX {
            return (used, self.give_up(7, 0, "Message without end", out));
        }
        if *left > 0 {
            return (used, Step::Read);
        }
        if self.errors > self.settings.errors_max {
            return (used, self.give_up(7, 0, "Too many errors", out));
        }
        out.put(replies);
        let then = *then;
        self.state = State::Command(then);
        // Whoever refused the chunk, the transaction is over, unless none had a recipient yet.
        let lives = matches!(then, Place::Mail(_));
        (used, if lives { Step::Continue } else { Step::Abort })
    }

    pub(super) fn chunk<'a>(&mut self, input: &'a [u8], out: &mut Chain) -> (usize, Step<'a>) {
        let State::Chunk(mail, intake, chunk) = &mut self.state else {
            unreachable!("chunks come in this state")
        };
        if chunk.len == 0 {
            let (mail, intake, last) = (*mail, *intake, chunk.last);
            if last {
                return (0, self.finish(mail, intake, out));
            }
            return (0, self.chunk_end(mail, intake, out));
        }
        let count = to_u64(input.len()).min(chunk.len);
        if count == 0 {
            return (0, Step::Read);
        }
        chunk.len -= count;
        let octets = &input[..to_usize(count)];
        let taken = intake.take(octets, &self.settings);
        (octets.len(), self.taken(taken, octets, out))
    }

    /// A chunk that is not the last is whole: one reply, in LMTP too.
    fn chunk_end(&mut self, mail: Mail, intake: Intake, out: &mut Chain) -> Step<'static> {
        if let Some(fault) = intake.fault(&self.settings) {
            self.state = State::Command(Place::Failed(mail));
            return self.refuse(fault.reply(), out);
        }
        self.state = State::Command(Place::Chunks(mail, intake));
        Reply::new(250, 0, 0, &format!("Ok, {} octets so far", intake.octets())).put(out);
        Step::Continue
    }
}
