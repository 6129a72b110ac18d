//! The part of a session in which its client authenticates (RFC 4954).

use super::{HelloKind, Place, Question, Session, Skipping, State, Step};
use crate::bytes::chain::Chain;
use crate::model::limits::SASL_LINE_OCTETS_MAX;
use crate::proto::sasl::{self, Mechanism, Move, NotBase64, Outcome, Response};
use crate::proto::smtp::reply;
use crate::wire::line::{Front, front};
use crate::wire::smtp::reply::Reply;

impl Session {
    /// Answers [`Step::Auth`]: the exchange goes on with this challenge (RFC 4954 §4). `is_refused`: it
    /// tells why the client is not let in.
    pub fn challenge(&mut self, octets: &[u8], is_refused: bool, out: &mut Chain) {
        assert!(matches!(self.state, State::Asked(Question::Auth)), "no exchange is under way");
        out.put(format!("334 {}\r\n", sasl::encode(octets)).as_bytes());
        self.flush = true;
        self.state = State::Exchange { is_refused };
    }

    /// Answers [`Step::Auth`]: the exchange is over (RFC 4954 §6).
    pub fn authenticated(&mut self, outcome: Outcome, out: &mut Chain) {
        assert!(matches!(self.state, State::Asked(Question::Auth)), "no exchange is under way");
        self.state = State::Command(Place::Ready);
        self.flush = true;
        let refusal = match outcome {
            Outcome::Accepted => {
                self.is_authenticated = true;
                return reply::AUTHENTICATED.put(out);
            }
            Outcome::Refused | Outcome::Disabled => reply::AUTH_REFUSED,
            Outcome::Foreign => reply::AUTH_FOREIGN,
            Outcome::Malformed => reply::AUTH_MALFORMED,
            Outcome::Later => reply::AUTH_LATER,
        };
        if outcome == Outcome::Later {
            self.refuse(refusal, out);
        } else {
            self.fail_login(refusal, out);
        }
    }

    /// One failed login more, with this reply; too many end the session.
    fn fail_login(&mut self, refusal: Reply<'_>, out: &mut Chain) -> Step<'static> {
        self.logins_failed = self.logins_failed.saturating_add(1);
        if self.logins_failed >= self.settings.logins_failed_max {
            refusal.put(out);
            self.give_up(7, 0, "Too many failed logins", out)
        } else {
            self.refuse(refusal, out)
        }
    }

    /// AUTH (RFC 4954 §4).
    pub(super) fn auth(
        &mut self,
        name: &[u8],
        initial: Option<&[u8]>,
        place: Place,
        out: &mut Chain,
    ) -> Step<'static> {
        if !matches!(self.hello, Some((HelloKind::Ehlo, _))) {
            return self.refuse(reply::NO_HELLO_AUTH, out);
        }
        if self.is_authenticated {
            return self.refuse(reply::AUTH_TWICE, out);
        }
        if !matches!(place, Place::Ready) {
            return self.refuse(reply::AUTH_IN_MAIL, out);
        }
        let Some(mechanism) = Mechanism::find(name) else {
            return self.refuse(reply::UNKNOWN_MECHANISM, out);
        };
        if !self.mechanisms.has(mechanism) {
            let in_clear =
                self.settings.auth.mechanisms.has(mechanism) && !self.channel().encrypted;
            let refusal = if in_clear { reply::NEEDS_TLS } else { reply::UNKNOWN_MECHANISM };
            return self.refuse(refusal, out);
        }
        match initial.map(sasl::initial_response).transpose() {
            Ok(initial) => self.ask(Move::Begin(mechanism, initial)),
            Err(NotBase64) => self.refuse(reply::AUTH_NOT_BASE64, out),
        }
    }

    /// A line that answers a challenge.
    pub(super) fn response<'a>(
        &mut self,
        input: &'a [u8],
        is_refused: bool,
        out: &mut Chain,
    ) -> (usize, Step<'a>) {
        let (used, found) = front(input, SASL_LINE_OCTETS_MAX);
        if matches!(found, Front::Partial) {
            return (used, Step::Read);
        }
        self.state = State::Command(Place::Ready);
        self.flush = true;
        let refusal = match found {
            Front::Partial => unreachable!("there is a line, or none that can be taken"),
            Front::Line(line) => match sasl::response(line) {
                Ok(Response::Data(message)) => return (used, self.ask(Move::Respond(message))),
                Ok(Response::Cancel) => reply::AUTH_CANCELLED,
                Err(NotBase64) => reply::AUTH_NOT_BASE64,
            },
            Front::Bare => reply::BARE_LINE_END,
            Front::TooLong(skip) => {
                self.skipping = Some(Skipping { skip, octets: 0 });
                reply::AUTH_LINE_TOO_LONG
            }
        };
        // Who gives up when he hears that he is not let in has tried all the same.
        let step =
            if is_refused { self.fail_login(refusal, out) } else { self.refuse(refusal, out) };
        (used, step)
    }

    fn ask(&mut self, said: Move) -> Step<'static> {
        self.state = State::Asked(Question::Auth);
        Step::Auth(said)
    }
}
