//! Messages that were signed here and that a server takes in 7 bits alone: they are made so first, and signed
//! anew over the octets that go out (RFC 6376 §5.3).
//!
//! What is signed anew is what [`Flags::SIGNED`] says this server has signed before, in the name that it was
//! signed in: others who send a signature along get none of ours.

use super::Relay;
use super::line::Line;
use crate::env::Env;
use crate::mailbox::Marks;
use crate::mta::peers::Peers;
use crate::mta::session::Body;
use crate::policy::dkim::without_own;
use crate::queue::outgoing::{Entry, Flags};
use crate::wire::message::nature::Nature;
use crate::wire::smtp::offers::Keywords;
use std::cell::Cell;
use std::rc::Rc;

impl<E: Env, P: Peers> Relay<E, P> {
    /// The message as the server of `line` takes it, with signatures over that; none: it goes as it is, or
    /// as it comes to be on its way, since nobody here has signed it. Holds what [`room_anew`] says.
    pub(super) async fn signed_anew<'b>(
        &self,
        line: &Line<E>,
        entry: &Entry,
        body: &Body<'b>,
    ) -> Option<Body<'b>> {
        if !entry.flags.has(Flags::SIGNED) {
            return None;
        }
        let made = || line.session.converted(body).and_then(without_own);
        let (domain, bare) = made()?;
        // What is at hand is signed first.
        let bare = Cell::new(Some(bare));
        let make = || bare.take().or_else(|| made().map(|(_, bare)| bare)).unwrap_or_default();
        let signed: Vec<u8> = self.signed_for(make, &domain).await;
        let nature = Nature::of(&signed);
        let range = 0..signed.len();
        Some(Body { front: body.front, owner: Rc::new(signed), range, nature })
    }
}

/// Octets that a message may take beside the one that is stored, until the server of `line` has it: made anew it
/// is longer than before.
pub(super) fn room_anew<E: Env>(line: &Line<E>, entry: &Entry) -> u64 {
    let takes = |keywords| line.session.offers().has(keywords);
    let is_binary = Marks(entry.marks).has(Marks::BINARY);
    let takes_all = takes(Keywords::EIGHT_BIT_MIME) && takes(Keywords::CHUNKING);
    let goes_as_it_is = takes_all && (!is_binary || takes(Keywords::BINARY_MIME));
    if entry.flags.has(Flags::SIGNED) && !goes_as_it_is { 2 * u64::from(entry.size) } else { 0 }
}
