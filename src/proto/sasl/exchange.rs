//! One exchange of any mechanism, whichever protocol carries it.
//!
//! ```text
//!   step ──> Challenge ──> step ──> … ──> Check(what is shown) ──> the caller knows ──> settle
//!              └ Keys(user) ──> keys ─┘                            └ a last challenge, or the end
//! ```
//! What needs the directory is asked of the caller; what follows from the messages alone is found
//! here.

use super::oauth::{self, Discovery, Token, TokenError};
use super::scram;
use super::{Credentials, Hash, Keys, Mechanism, Message, Move, Ring, login, plain, prepare};
use crate::model::channel::Channel;

/// What the caller does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Send this, and hand over what the client answers.
    Challenge(Vec<u8>),
    /// Look up the keys of this user's passwords, or make some for one who has none; then [`Exchange::keys`].
    Keys { user: Box<str>, hash: Hash },
    /// Whether that is so decides it; then [`Exchange::settle`].
    Check(Claim),
    /// Whose token that is decides it; then [`Exchange::settle`].
    Judge(Token),
    /// The client has heard the last challenge: what was settled holds.
    Settled,
    /// The client does not keep to the mechanism: the exchange is over.
    Malformed,
}

/// What a client shows to be known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Is that the password?
    Password(Credentials),
    /// SCRAM: these keys, of those that [`Exchange::keys`] was given, say that it is, or is not. The user
    /// may have others by now.
    Proof { user: Box<str>, acting_for: Option<Box<str>>, keys: Keys, is_right: bool },
    /// Its certificate names this user.
    Certificate { user: Box<str>, acting_for: Option<Box<str>> },
}

/// See the header of this file.
#[derive(Debug)]
pub struct Exchange {
    channel: Channel,
    /// A mechanism that binds to the channel was offered.
    plus: bool,
    nonce: Box<str>,
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
    ScramFirst {
        hash: Hash,
        plus: bool,
    },
    ScramKeys(scram::First),
    ScramLast(scram::Last),
    Token(Mechanism),
    External,
    /// The claim is with the caller; what is said then.
    Asked(Word),
    /// The last challenge is sent.
    Settled,
}

/// What is to be said when it is settled.
#[derive(Debug)]
enum Word {
    Nothing,
    /// To one who is taken in.
    Welcome(Vec<u8>),
    /// To one who is not.
    Refusal(Mechanism),
}

impl Exchange {
    /// An exchange on such a connection; `plus`: a mechanism that binds to it was offered. `nonce` is
    /// printable and without a comma, and nobody can guess it.
    pub fn new(channel: &Channel, plus: bool, nonce: &str) -> Exchange {
        Exchange { channel: channel.clone(), plus, nonce: nonce.into(), state: State::Over }
    }

    /// Takes what the client sent.
    pub fn step(&mut self, said: Move) -> Turn {
        match said {
            Move::Begin(mechanism, initial) => self.begin(mechanism, initial),
            Move::Respond(message) => self.respond(&message),
        }
    }

    /// Answers [`Turn::Keys`].
    pub fn keys(&mut self, ring: Ring) -> Turn {
        let State::ScramKeys(first) = std::mem::take(&mut self.state) else {
            return Turn::Malformed;
        };
        let (challenge, last) = first.challenge(ring, &self.nonce);
        self.state = State::ScramLast(last);
        Turn::Challenge(challenge)
    }

    /// Answers [`Turn::Check`] and [`Turn::Judge`]; `error` is what is wrong with a token, unless that could not be found
    /// out. Returns what the client has to hear, and to answer, before it may hear the outcome.
    pub fn settle(
        &mut self,
        accepted: bool,
        error: Option<(TokenError, &Discovery)>,
    ) -> Option<Vec<u8>> {
        let State::Asked(word) = std::mem::take(&mut self.state) else { return None };
        let word = match (word, accepted, error) {
            (Word::Welcome(octets), true, _) => octets,
            (Word::Refusal(mechanism), false, Some((error, discovery))) => {
                oauth::refusal(mechanism, error, discovery)
            }
            // To be tried again later: a client that hears of a bad token would throw a good one away.
            _ => return None,
        };
        self.state = State::Settled;
        Some(word)
    }

    fn begin(&mut self, mechanism: Mechanism, initial: Option<Message>) -> Turn {
        let (state, challenge) = match mechanism {
            Mechanism::Plain => (State::Plain, &b""[..]),
            Mechanism::Login => (State::LoginName, login::NAME_PROMPT),
            Mechanism::Scram { hash, plus } => (State::ScramFirst { hash, plus }, &b""[..]),
            Mechanism::OauthBearer | Mechanism::Xoauth2 => (State::Token(mechanism), &b""[..]),
            Mechanism::External => (State::External, &b""[..]),
        };
        self.state = state;
        match initial {
            // LOGIN's server speaks first. Its clients send the name at once all the same.
            Some(message) => self.respond(&message),
            None => Turn::Challenge(challenge.into()),
        }
    }

    fn respond(&mut self, Message(message): &Message) -> Turn {
        let turn = match std::mem::take(&mut self.state) {
            State::Over | State::ScramKeys(_) | State::Asked(_) => None,
            State::Plain => {
                plain::read(message).map(|shown| self.ask(Claim::Password(shown), Word::Nothing))
            }
            State::LoginName => login::name(message).ok().map(|user| {
                self.state = State::LoginPassword(user);
                Turn::Challenge(login::PASSWORD_PROMPT.into())
            }),
            State::LoginPassword(user) => login::password(message).ok().map(|password| {
                let shown = Credentials { user, password, acting_for: None };
                self.ask(Claim::Password(shown), Word::Nothing)
            }),
            State::ScramFirst { hash, plus } => {
                let first = scram::first(message, plus, self.plus, &self.channel.binding);
                first.map(|first| {
                    let user = first.user.clone();
                    self.state = State::ScramKeys(first);
                    Turn::Keys { user, hash }
                })
            }
            State::ScramLast(last) => last.check(message).map(|shown| {
                let scram::Shown { first, keys, signature } = shown;
                let (user, acting_for) = (first.user, first.acting_for);
                let claim = Claim::Proof { user, acting_for, keys, is_right: signature.is_some() };
                self.ask(claim, signature.map_or(Word::Nothing, Word::Welcome))
            }),
            State::Token(mechanism) => {
                let read = match mechanism {
                    Mechanism::Xoauth2 => oauth::xoauth2(message),
                    _ => oauth::bearer(message),
                };
                read.map(|token| {
                    self.state = State::Asked(Word::Refusal(mechanism));
                    Turn::Judge(token)
                })
            }
            State::External => self.external(message),
            State::Settled => Some(Turn::Settled),
        };
        turn.unwrap_or(Turn::Malformed)
    }

    fn ask(&mut self, claim: Claim, word: Word) -> Turn {
        self.state = State::Asked(word);
        Turn::Check(claim)
    }

    /// An empty message, or whom to act for (RFC 4422 appendix A).
    fn external(&mut self, message: &[u8]) -> Option<Turn> {
        let user = self.channel.certificate.clone()?;
        let acting_for = match message {
            b"" => None,
            _ => Some(prepare(message).ok()?).filter(|other| !other.eq_ignore_ascii_case(&user)),
        };
        let acting_for = acting_for.map(|other| other.as_ref().into());
        Some(self.ask(Claim::Certificate { user, acting_for }, Word::Nothing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::sasl::encode;
    use expect_test::{Expect, expect};
    use std::fmt::Write as _;

    /// Messages of a client and what becomes of them; the first is initial if `ir`. Whoever shows `p`
    /// or `good` is taken in.
    #[track_caller]
    fn check(mechanism: Mechanism, ir: bool, messages: &[&str], want: &Expect) {
        let channel = Channel { certificate: Some("cert".into()), ..Channel::default() };
        let mut exchange = Exchange::new(&channel, false, "snonce");
        let mut messages = messages.iter().map(|text| Message(text.as_bytes().to_vec()));
        let initial = if ir { messages.next() } else { None };
        let mut turn = exchange.step(Move::Begin(mechanism, initial));
        let mut got = String::new();
        loop {
            match turn {
                Turn::Challenge(challenge) => {
                    writeln!(got, "<- {}", challenge.escape_ascii()).unwrap();
                }
                Turn::Keys { user, hash } => {
                    writeln!(got, "keys of {user}").unwrap();
                    turn = exchange.keys(Ring::new(Keys::derive(hash, "p", b"salt", 1)));
                    continue;
                }
                Turn::Check(claim) => {
                    let (text, accepted) = tell(claim);
                    writeln!(got, "{text}").unwrap();
                    if let Some(octets) = exchange.settle(accepted, None) {
                        turn = Turn::Challenge(octets);
                        continue;
                    }
                }
                Turn::Judge(Token { user, token }) => {
                    writeln!(got, "{user:?} token {}", token.expose()).unwrap();
                    let discovery = Discovery {
                        scope: Some("mail".into()),
                        openid_configuration: Some("https://a.example/openid".into()),
                    };
                    let error = match token.expose() {
                        "later" => None,
                        "small" => Some((TokenError::Scope, &discovery)),
                        _ => Some((TokenError::Invalid, &discovery)),
                    };
                    if let Some(octets) = exchange.settle(token.expose() == "good", error) {
                        turn = Turn::Challenge(octets);
                        continue;
                    }
                }
                Turn::Settled => writeln!(got, "settled").unwrap(),
                Turn::Malformed => writeln!(got, "malformed").unwrap(),
            }
            let Some(message) = messages.next() else { break };
            writeln!(got, "-> {}", message.0.escape_ascii()).unwrap();
            turn = exchange.step(Move::Respond(message));
        }
        want.assert_eq(&got);
    }

    fn tell(claim: Claim) -> (String, bool) {
        let of = |user: &str, acting_for: Option<Box<str>>| {
            format!("{user}{}", acting_for.map_or(String::new(), |other| format!(" for {other}")))
        };
        match claim {
            Claim::Password(Credentials { user, password, acting_for }) => (
                format!("{} / {}", of(&user, acting_for), password.expose()),
                password.expose() == "p",
            ),
            Claim::Proof { user, acting_for, is_right, .. } => {
                (format!("{} proof {is_right}", of(&user, acting_for)), is_right)
            }
            Claim::Certificate { user, acting_for } => {
                (format!("{} certificate", of(&user, acting_for)), true)
            }
        }
    }

    const SCRAM: Mechanism = Mechanism::Scram { hash: Hash::Sha256, plus: false };

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

    #[test]
    fn scram_asks_for_keys_and_has_the_last_word() {
        check(
            SCRAM,
            true,
            &["n,,n=u,r=c", "c=biws,r=csnonce,p=AAAA", ""],
            &expect![[r"
            keys of u
            <- r=csnonce,s=c2FsdA==,i=1
            -> c=biws,r=csnonce,p=AAAA
            malformed
            -> 
            malformed
        "]],
        );
        let wrong = "c=biws,r=csnonce,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        check(
            SCRAM,
            false,
            &["n,a=v,n=u,r=c", wrong, ""],
            &expect![[r"
            <- 
            -> n,a=v,n=u,r=c
            keys of u
            <- r=csnonce,s=c2FsdA==,i=1
            -> c=biws,r=csnonce,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
            u for v proof false
            -> 
            malformed
        "]],
        );
        let signed = b"n=u,r=c,r=csnonce,s=c2FsdA==,i=1,c=biws,r=csnonce";
        let proof = encode(&Hash::Sha256.proof("p", b"salt", 1, signed));
        let right = format!("c=biws,r=csnonce,p={proof}");
        check(
            SCRAM,
            true,
            &["n,,n=u,r=c", &right, "", ""],
            &expect![[r"
            keys of u
            <- r=csnonce,s=c2FsdA==,i=1
            -> c=biws,r=csnonce,p=T5PeYKq9zGCOaHVFmMWvICZED9K0qfhF/HB9f8PNezM=
            u proof true
            <- v=zFl1b9Cl8dPagoD3OZWdVWvpDO7k2fiPGXvA+/Ri1HQ=
            -> 
            settled
            -> 
            malformed
        "]],
        );
    }

    #[test]
    fn a_refused_token_is_told_why_first() {
        let good = "n,a=u,\x01auth=Bearer good\x01\x01";
        check(
            Mechanism::OauthBearer,
            true,
            &[good],
            &expect![[r#"
            Some("u") token good
        "#]],
        );
        let bad = "n,a=u,\x01auth=Bearer bad\x01\x01";
        check(
            Mechanism::OauthBearer,
            true,
            &[bad, "\x01", ""],
            &expect![[r#"
                Some("u") token bad
                <- {\"openid-configuration\":\"https://a.example/openid\",\"scope\":\"mail\",\"status\":\"invalid_token\"}
                -> \x01
                settled
                -> 
                malformed
            "#]],
        );
        let bad = "user=u\x01auth=Bearer bad\x01\x01";
        check(
            Mechanism::Xoauth2,
            false,
            &[bad, ""],
            &expect![[r#"
                <- 
                -> user=u\x01auth=Bearer bad\x01\x01
                Some("u") token bad
                <- {\"openid-configuration\":\"https://a.example/openid\",\"schemes\":\"bearer\",\"scope\":\"mail\",\"status\":\"401\"}
                -> 
                settled
            "#]],
        );
    }

    #[test]
    fn a_token_may_reach_too_little_or_be_judged_later() {
        let small = "n,a=u,\x01auth=Bearer small\x01\x01";
        check(
            Mechanism::OauthBearer,
            true,
            &[small, "\x01"],
            &expect![[r#"
            Some("u") token small
            <- {\"openid-configuration\":\"https://a.example/openid\",\"scope\":\"mail\",\"status\":\"insufficient_scope\"}
            -> \x01
            settled
        "#]],
        );
        let small = "user=u\x01auth=Bearer small\x01\x01";
        check(
            Mechanism::Xoauth2,
            true,
            &[small, "\x01"],
            &expect![[r#"
            Some("u") token small
            <- {\"openid-configuration\":\"https://a.example/openid\",\"schemes\":\"bearer\",\"scope\":\"mail\",\"status\":\"403\"}
            -> \x01
            settled
        "#]],
        );
        // Where nobody could tell, nothing is said of the token.
        let later = "n,a=u,\x01auth=Bearer later\x01\x01";
        check(
            Mechanism::OauthBearer,
            true,
            &[later, "\x01"],
            &expect![[r#"
            Some("u") token later
            -> \x01
            malformed
        "#]],
        );
        check(
            Mechanism::Xoauth2,
            true,
            &["auth=Bearer bad\x01\x01"],
            &expect![[r"
            malformed
        "]],
        );
    }

    #[test]
    fn external_is_who_the_certificate_says() {
        check(
            Mechanism::External,
            true,
            &[""],
            &expect![[r"
            cert certificate
        "]],
        );
        check(
            Mechanism::External,
            false,
            &["CERT"],
            &expect![[r"
            <- 
            -> CERT
            cert certificate
        "]],
        );
        check(
            Mechanism::External,
            true,
            &["other"],
            &expect![[r"
            cert for other certificate
        "]],
        );
        check(
            Mechanism::External,
            true,
            &["\0"],
            &expect![[r"
            malformed
        "]],
        );
    }
}
