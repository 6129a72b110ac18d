//! The client's side of an exchange: a name and a password shown to a server, by PLAIN, LOGIN or
//! SCRAM-SHA-256.
//!
//! ```text
//!   Proving::new ──> initial, if the mechanism begins with the client
//!   a challenge ──> respond ──> the answer to it
//!   success ──> is_satisfied: whether the server has shown, too, that it knows the password
//! ```
//!
//! SCRAM works for as long as the server asks for, up to [`SCRAM_ITERATIONS_SHOWN_MAX`] rounds: what
//! it costs is paid by the shard.

use super::keys::{Hash, equal};
use super::{Credentials, Mechanism};
use crate::model::limits::{SCRAM_ITERATIONS_SHOWN_MAX, SCRAM_SALT_OCTETS_MAX};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The server does not keep to the mechanism, asks for more work than it may, or does not know the
/// password itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsound;

/// One exchange. `Debug` is not there: half of it is the password.
pub struct Proving {
    state: State,
}

enum State {
    /// The next challenge is empty, and this answers it.
    Whole(Vec<u8>),
    LoginName(Credentials),
    LoginPassword(Credentials),
    ScramFirst {
        bare: String,
        nonce: String,
        credentials: Credentials,
    },
    /// What the server has to say.
    ScramSignature(Vec<u8>),
    /// Nothing more is to be said.
    Satisfied,
}

/// Nobody is acted for by SCRAM and PLAIN without this.
fn acting_for(credentials: &Credentials) -> &str {
    credentials.acting_for.as_deref().unwrap_or_default()
}

/// A name in which commas and `=` are written as RFC 5802 §5.1 has them.
fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

impl Proving {
    /// Begins an exchange by `mechanism`: SCRAM-SHA-256 without binding, PLAIN, or LOGIN. `nonce` is
    /// printable and without a comma, and nobody can guess it.
    pub fn new(mechanism: Mechanism, credentials: &Credentials, nonce: &str) -> Option<Proving> {
        let state = match mechanism {
            Mechanism::Plain => {
                let (user, password) = (&credentials.user, credentials.password.expose());
                let message = format!("{}\0{user}\0{password}", acting_for(credentials));
                State::Whole(message.into_bytes())
            }
            Mechanism::Login => State::LoginName(credentials.clone()),
            Mechanism::Scram { hash: Hash::Sha256, plus: false } => {
                let bare = format!("n={},r={nonce}", escape(&credentials.user));
                let (nonce, credentials) = (nonce.into(), credentials.clone());
                State::ScramFirst { bare, nonce, credentials }
            }
            _ => return None,
        };
        Some(Proving { state })
    }

    /// What the client says first, where the mechanism lets it begin. Said once: with the command
    /// that begins the exchange, or as the answer to an empty challenge.
    pub fn initial(&mut self) -> Option<Vec<u8>> {
        match &mut self.state {
            State::Whole(message) => {
                let message = std::mem::take(message);
                self.state = State::Satisfied;
                Some(message)
            }
            State::ScramFirst { bare, credentials, .. } => {
                Some([header(credentials).as_bytes(), bare.as_bytes()].concat())
            }
            _ => None,
        }
    }

    /// Answers a challenge.
    pub fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, Unsound> {
        match std::mem::replace(&mut self.state, State::Satisfied) {
            // What servers ask with differs; what they ask for, and in which order, does not.
            State::LoginName(credentials) => {
                let name = credentials.user.as_bytes().to_vec();
                self.state = State::LoginPassword(credentials);
                Ok(name)
            }
            State::LoginPassword(credentials) => Ok(credentials.password.expose().into()),
            State::ScramFirst { bare, nonce, credentials } => {
                let (answer, signature) =
                    prove(challenge, &bare, &nonce, &credentials).ok_or(Unsound)?;
                self.state = State::ScramSignature(signature);
                Ok(answer)
            }
            State::ScramSignature(signature) => {
                let said = challenge.strip_prefix(b"v=").ok_or(Unsound)?;
                let said = said.split(|&octet| octet == b',').next().unwrap_or_default();
                let said = STANDARD.decode(said).map_err(|_| Unsound)?;
                if equal(&said, &signature) { Ok(Vec::new()) } else { Err(Unsound) }
            }
            State::Whole(_) | State::Satisfied => Err(Unsound),
        }
    }

    /// A server that says now that all is well may be believed. One that was to show that it knows the
    /// password, and did not, may not (RFC 5802 §5).
    pub fn is_satisfied(&self) -> bool {
        matches!(self.state, State::Satisfied)
    }
}

/// The gs2 header: no binding to the channel, and for whom.
fn header(credentials: &Credentials) -> String {
    match acting_for(credentials) {
        "" => "n,,".into(),
        other => format!("n,a={},", escape(other)),
    }
}

/// The client's last message, and what the server has to answer it with.
fn prove(
    challenge: &[u8],
    bare: &str,
    nonce: &str,
    credentials: &Credentials,
) -> Option<(Vec<u8>, Vec<u8>)> {
    let text = std::str::from_utf8(challenge).ok()?;
    let mut fields = text.split(',');
    let joined = fields.next()?.strip_prefix("r=")?;
    let salt = STANDARD.decode(fields.next()?.strip_prefix("s=")?).ok()?;
    let iterations: u32 = fields.next()?.strip_prefix("i=")?.parse().ok()?;
    let is_sound = joined.len() > nonce.len()
        && joined.starts_with(nonce)
        && (1..=SCRAM_SALT_OCTETS_MAX).contains(&salt.len())
        && (1..=SCRAM_ITERATIONS_SHOWN_MAX).contains(&iterations);
    if !is_sound {
        return None;
    }
    let unproven = format!("c={},r={joined}", STANDARD.encode(header(credentials)));
    let signed = format!("{bare},{text},{unproven}");
    let password = credentials.password.expose();
    let (proof, signature) = Hash::Sha256.prove(password, &salt, iterations, signed.as_bytes());
    Some((format!("{unproven},p={}", STANDARD.encode(proof)).into_bytes(), signature))
}

#[cfg(test)]
mod tests {
    use super::super::{Exchange, Keys, Ring, Turn};
    use super::*;
    use crate::model::channel::CLEAR;
    use crate::proto::sasl::{Claim, Message, Move};

    const SCRAM: Mechanism = Mechanism::Scram { hash: Hash::Sha256, plus: false };

    #[test]
    fn speaks_as_the_example_of_the_rfc_does() {
        // RFC 7677 §3.
        let credentials = Credentials::new("user", "pencil");
        let mut proving = Proving::new(SCRAM, &credentials, "rOprNGfwEbeRWgbNEkqO").unwrap();
        assert_eq!(proving.initial().unwrap(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let challenge = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                          s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(
            proving.respond(challenge).unwrap(),
            b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
              p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(!proving.is_satisfied());
        let signature = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(proving.respond(signature), Ok(Vec::new()));
        assert!(proving.is_satisfied());
    }

    /// Against the server's side of this floor; whether both are content.
    fn run(mechanism: Mechanism, shown: &Credentials, password: &str) -> bool {
        let mut proving = Proving::new(mechanism, shown, "cnonce").unwrap();
        let mut exchange = Exchange::new(&CLEAR, false, "snonce");
        let mut turn = exchange.step(Move::Begin(mechanism, proving.initial().map(Message)));
        loop {
            turn = match turn {
                Turn::Challenge(challenge) => match proving.respond(&challenge) {
                    Ok(answer) => exchange.step(Move::Respond(Message(answer))),
                    Err(Unsound) => return false,
                },
                Turn::Keys { hash, .. } => {
                    exchange.keys(Ring::new(Keys::derive(hash, password, b"salt of sixteen.", 2)))
                }
                Turn::Check(claim) => {
                    let is_right = match &claim {
                        Claim::Password(found) => found.password.expose() == password,
                        Claim::Proof { is_right, .. } => *is_right,
                        Claim::Certificate { .. } => false,
                    };
                    match exchange.settle(is_right, None) {
                        Some(challenge) => Turn::Challenge(challenge),
                        None => return is_right && proving.is_satisfied(),
                    }
                }
                Turn::Settled => return proving.is_satisfied(),
                Turn::Judge(_) | Turn::Malformed => return false,
            };
        }
    }

    #[test]
    fn is_let_in_by_our_own_server_with_the_right_password_alone() {
        for mechanism in [SCRAM, Mechanism::Plain, Mechanism::Login] {
            for user in ["user", "a,b=c@x.example"] {
                let right = Credentials::new(user, "secret");
                assert!(run(mechanism, &right, "secret"), "{mechanism:?}");
                assert!(!run(mechanism, &right, "Secret"), "{mechanism:?}");
            }
        }
        let other = Credentials { acting_for: Some("b,b".into()), ..Credentials::new("a", "p") };
        assert!(run(SCRAM, &other, "p") && run(Mechanism::Plain, &other, "p"));
    }

    #[test]
    fn believes_no_server_that_does_not_keep_to_it() {
        let credentials = Credentials::new("user", "pencil");
        for challenge in [
            "",
            "r=cnonce,s=c2FsdA==,i=4096",
            "r=other,s=c2FsdA==,i=4096",
            "r=cnonceX,s=,i=4096",
            "r=cnonceX,s=!,i=4096",
            "r=cnonceX,s=c2FsdA==,i=0",
            "r=cnonceX,s=c2FsdA==,i=99999999",
            "r=cnonceX,s=c2FsdA==",
            "m=x,r=cnonceX,s=c2FsdA==,i=4096",
        ] {
            let mut proving = Proving::new(SCRAM, &credentials, "cnonce").unwrap();
            assert_eq!(proving.respond(challenge.as_bytes()), Err(Unsound), "{challenge}");
        }
        for last in ["", "v=", "v=AAAA", "e=other-error", "v=!"] {
            let mut proving = Proving::new(SCRAM, &credentials, "cnonce").unwrap();
            proving.respond(b"r=cnonceX,s=c2FsdA==,i=2").unwrap();
            assert_eq!(proving.respond(last.as_bytes()), Err(Unsound), "{last}");
        }
        let mut proving = Proving::new(Mechanism::Plain, &credentials, "").unwrap();
        assert_eq!(proving.initial().unwrap(), b"\0user\0pencil");
        assert_eq!(proving.respond(b"more"), Err(Unsound));
        assert!(Proving::new(Mechanism::External, &credentials, "").is_none());
    }
}
