//! DKIM signatures of what users send and of our own reports, made beside the shards: an RSA signature
//! takes about a millisecond, and a body may be large.

use super::shard::Shard;
use crate::auth::Pool;
use crate::env::Env;
use crate::mta::Outcome;
use crate::policy::dkim::{self, Keys, Unsigned};
use crate::wire::message::fields::{fields, header_len};
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

/// The keys as they stand, and the threads that sign.
pub struct Signing {
    /// Exchanged as a whole: [`super::shard::Call::SigningKeys`].
    pub keys: RefCell<Arc<Keys>>,
    pub threads: Pool,
}

impl<E: Env> Shard<E> {
    /// Whether mail from this domain is signed.
    pub fn signs(&self, domain: &str) -> bool {
        self.signing.keys.borrow().of(domain).is_some()
    }

    /// Puts the signatures of `domain` into a message; it stays as it is where there are no keys for
    /// it. The work begins at once, whether or not the future is polled. What comes back instead of a
    /// message is for who sent it: there is more to sign than the threads can do.
    pub fn sign(
        self: &Rc<Self>,
        message: Vec<u8>,
        domain: &str,
    ) -> impl Future<Output = Result<Vec<u8>, (Outcome, Option<Vec<u8>>)>> + use<E> {
        let keys = Arc::clone(&self.signing.keys.borrow());
        let at = self.env.wall().seconds();
        let begun = if keys.of(domain).is_some() {
            let domain = domain.to_owned();
            Ok(self.signing.threads.run(move || signed(message, &keys, &domain, at)))
        } else {
            Err(message)
        };
        let shard = Rc::clone(self);
        async move {
            let answer = match begun {
                Ok(answer) => answer.map_err(|_| (Outcome::CROWDED, None))?,
                Err(unsigned) => return Ok(unsigned),
            };
            match answer.await {
                Ok(Ok(message)) => {
                    shard.figures.signed.one();
                    Ok(message)
                }
                // Of a form that nobody can sign: it goes as it is.
                Ok(Err((message, Unsigned::Header))) => {
                    shard.figures.unsigned.one();
                    Ok(message)
                }
                Ok(Err((message, Unsigned::Key))) => Err((Outcome::BROKEN, Some(message))),
                Err(_) => Err((Outcome::BROKEN, None)),
            }
        }
    }
}

/// The message with its signatures behind our trace fields, on top of those that are signed; or as it
/// is, and why.
fn signed(
    mut message: Vec<u8>,
    keys: &Keys,
    domain: &str,
    at: u32,
) -> Result<Vec<u8>, (Vec<u8>, Unsigned)> {
    let Some((owner, keys)) = keys.of(domain) else { return Ok(message) };
    let (header, body) = message.split_at(header_len(&message));
    let made = match dkim::sign(header, [body], owner, keys, at) {
        Ok(made) => made,
        Err(why) => return Err((message, why)),
    };
    let is_trace = |name: &[u8]| {
        name.eq_ignore_ascii_case(b"Return-Path") || name.eq_ignore_ascii_case(b"Received")
    };
    let first = fields(header).find(|field| !is_trace(&header[field.name.clone()]));
    let place = first.map_or(0, |field| field.name.start);
    message.splice(place..place, made);
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::dkim::Key;

    #[test]
    fn signs_behind_the_trace_fields() {
        let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
        let mut keys = Keys::default();
        keys.set("b.example", vec![Key::from_pem("s", pem.as_bytes()).unwrap()]);
        let message = "Return-Path: <>\r\nReceived: x\r\n\ty\r\nFrom: a@b.example\r\n\r\ntext\r\n";
        let signed = |domain| signed(message.into(), &keys, domain, 0).unwrap();
        let text = String::from_utf8(signed("x.b.example")).unwrap();
        assert!(text.starts_with("Return-Path: <>\r\nReceived: x\r\n\ty\r\nDKIM-Signature: v=1; "));
        assert!(text.contains("d=b.example; s=s;"), "{text}");
        assert!(text.ends_with("\r\nFrom: a@b.example\r\n\r\ntext\r\n"), "{text}");
        assert_eq!(signed("c.example"), message.as_bytes());
    }
}
