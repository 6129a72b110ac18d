//! Messages that were signed here and that a server takes in 7 bits alone: they are made so first, and signed
//! anew over the octets that go out (RFC 6376 §5.3).
//!
//! What is signed anew is what [`Flags::SIGNED`] says this server has signed before, in the name that it was
//! signed in: others who send a signature along get none of ours.

use super::Relay;
use super::line::Line;
use crate::bytes::codec::to_u64;
use crate::env::Env;
use crate::mta::peers::Peers;
use crate::mta::session::Body;
use crate::policy::dkim::without_own;
use crate::queue::outgoing::{Entry, Flags};
use crate::wire::message::nature::Nature;
use std::rc::Rc;

impl<E: Env, P: Peers> Relay<E, P> {
    /// The message as the server of `line` takes it, with signatures over that; none: it goes as it is, or
    /// as it comes to be on its way, since nobody here has signed it.
    pub(super) async fn signed_anew<'b>(
        &self,
        line: &Line<E>,
        entry: &Entry,
        body: &Body<'b>,
    ) -> Option<Body<'b>> {
        if !entry.flags.has(Flags::SIGNED) {
            return None;
        }
        let (domain, bare) = without_own(&line.session.converted(body)?)?;
        let signed: Vec<u8> = self.signed_for(bare, &domain).await;
        let nature = Nature::of(&signed);
        let range = 0..signed.len();
        Some(Body { front: body.front, owner: Rc::new(signed), range, nature })
    }

    /// What a message takes that is made anew beside the one that is stored.
    pub(super) fn octets_of(anew: Option<&Body<'_>>) -> u64 {
        anew.map_or(0, |body| to_u64(body.range.len()))
    }
}
