//! One exchange of any mechanism, whichever protocol carries it.
//!
//! ```text
//!   begin ──> Challenge ──> respond ──> … ──> Check(who and what is shown) ──> the caller knows
//! ```
//! What needs the directory is asked of the caller; what follows from the messages alone is found
//! here.

use super::{Credentials, Mechanism, Message, Move, login, plain};

/// What the caller does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Send this, and hand over what the client answers.
    Challenge(Vec<u8>),
    /// Whether that is so decides it: the exchange is over.
    Check(Credentials),
    /// The client does not keep to the mechanism: the exchange is over.
    Malformed,
}

/// See the header of this file.
#[derive(Debug, Default)]
pub struct Exchange {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// Not begun, or over.
    #[default]
    Over,
    Plain,
    LoginName,
    LoginPassword(Box<str>),
}

impl Exchange {
    pub fn new() -> Exchange {
        Exchange::default()
    }

    /// Takes what the client sent.
    pub fn step(&mut self, said: Move) -> Turn {
        match said {
            Move::Begin(mechanism, initial) => self.begin(mechanism, initial),
            Move::Respond(message) => self.respond(&message),
        }
    }

    fn begin(&mut self, mechanism: Mechanism, initial: Option<Message>) -> Turn {
        let (state, challenge) = match mechanism {
            Mechanism::Plain => (State::Plain, &b""[..]),
            Mechanism::Login => (State::LoginName, login::NAME_PROMPT),
        };
        self.state = state;
        match initial {
            // LOGIN's server speaks first. Its clients send the name at once all the same.
            Some(message) => self.respond(&message),
            None => Turn::Challenge(challenge.into()),
        }
    }

    fn respond(&mut self, Message(message): &Message) -> Turn {
        match std::mem::take(&mut self.state) {
            State::Over => Turn::Malformed,
            State::Plain => plain::read(message).map_or(Turn::Malformed, Turn::Check),
            State::LoginName => match login::name(message) {
                Ok(user) => {
                    self.state = State::LoginPassword(user);
                    Turn::Challenge(login::PASSWORD_PROMPT.into())
                }
                Err(_) => Turn::Malformed,
            },
            State::LoginPassword(user) => match login::password(message) {
                Ok(password) => Turn::Check(Credentials { user, password, acting_for: None }),
                Err(_) => Turn::Malformed,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use std::fmt::Write as _;

    /// Messages of a client and what becomes of them; the first is initial if `ir`.
    #[track_caller]
    fn check(mechanism: Mechanism, ir: bool, messages: &[&str], want: &Expect) {
        let mut exchange = Exchange::new();
        let mut messages = messages.iter().map(|text| Message(text.as_bytes().to_vec()));
        let initial = if ir { messages.next() } else { None };
        let mut turn = exchange.step(Move::Begin(mechanism, initial));
        let mut got = String::new();
        loop {
            match turn {
                Turn::Challenge(ref challenge) => {
                    writeln!(got, "<- {}", challenge.escape_ascii()).unwrap();
                }
                Turn::Check(ref shown) => {
                    writeln!(got, "{} / {}", shown.user, shown.password.expose()).unwrap();
                }
                Turn::Malformed => writeln!(got, "malformed").unwrap(),
            }
            let Some(message) = messages.next() else { break };
            writeln!(got, "-> {}", message.0.escape_ascii()).unwrap();
            turn = exchange.step(Move::Respond(message));
        }
        want.assert_eq(&got);
    }

    #[test]
    fn plain_is_one_message() {
        check(
            Mechanism::Plain,
            true,
            &["\0u\0p"],
            &expect![[r"
            u / p
        "]],
        );
        check(
            Mechanism::Plain,
            false,
            &["\0u\0p", "again"],
            &expect![[r"
            <- 
            -> \x00u\x00p
            u / p
            -> again
            malformed
        "]],
        );
    }

    #[test]
    fn login_asks_twice() {
        check(
            Mechanism::Login,
            false,
            &["u", "p"],
            &expect![[r"
            <- Username:
            -> u
            <- Password:
            -> p
            u / p
        "]],
        );
        check(
            Mechanism::Login,
            true,
            &["u", "p"],
            &expect![[r"
            <- Password:
            -> p
            u / p
        "]],
        );
        check(
            Mechanism::Login,
            false,
            &["", "p"],
            &expect![[r"
            <- Username:
            -> 
            malformed
            -> p
            malformed
        "]],
        );
    }
}
