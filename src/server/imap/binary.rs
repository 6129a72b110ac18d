//! BINARY and BINARY.SIZE (RFC 3516): a part is decoded on its way out, piece by piece.
//!
//! A first pass tells whether the encoding can be undone, how long the part is, and whether the
//! octets that were asked for hold NUL: all that goes in front of them. The second one sends them.
//! The reader sets the pace, and others have their turn.

use super::Driver;
use super::fetch::Sent;
use crate::bytes::codec::{to_u64, to_usize};
use crate::env::Env;
use crate::tls::Stream;
use crate::wire::imap::command::fetch::{Item, Partial};
use crate::wire::imap::reply::fetch::{FetchLine, Open};
use crate::wire::imap::reply::string::{put_literal, put_literal8};
use crate::wire::message::decode::Decoder;
use crate::wire::message::mime::Encoding;
use std::io;
use std::ops::Range;

/// Encoded octets that are decoded before others have their turn.
const PIECE_OCTETS: usize = 4 << 10;

/// The body of a part, as it stands in the message.
#[derive(Clone, Copy)]
pub(super) struct Body<'b> {
    pub encoding: Encoding,
    pub octets: &'b [u8],
}

/// What the first pass over a body finds.
struct Survey {
    len: u64,
    /// Of the part that was asked for.
    has_nul: bool,
}

/// What of a decoded piece, which begins at `start`, lies in `wanted`.
fn within<'t>(text: &'t [u8], start: u64, wanted: &Range<u64>) -> &'t [u8] {
    let place = |at: u64| to_usize(at.saturating_sub(start)).min(text.len());
    text.get(place(wanted.start)..place(wanted.end)).unwrap_or_default()
}

impl<E: Env> Driver<E> {
    /// Writes a BINARY or BINARY.SIZE item; nothing of it if its encoding cannot be undone. `body`:
    /// `None` if there is no such part.
    pub(super) async fn put_binary(
        &mut self,
        conn: &mut Stream<E>,
        open: Open,
        item: &Item<'_>,
        body: Option<Body<'_>>,
    ) -> io::Result<(Open, Sent)> {
        let partial = if let Item::Binary { partial, .. } = item { *partial } else { None };
        let wanted = match partial {
            Some(Partial { first, count }) => first..first.saturating_add(count),
            None => 0..u64::MAX,
        };
        let survey = match body {
            Some(body) => match self.survey(body, &wanted).await {
                Some(survey) => Some(survey),
                None => return Ok((open, Sent::UnknownEncoding)),
            },
            None => None,
        };
        let mut line = FetchLine::resume(&mut self.out, open);
        let part = match item {
            Item::Binary { part, .. } => part,
            Item::BinarySize(part) => {
                line.binary_size(*part, survey.map_or(0, |survey| survey.len));
                return Ok((line.pause(), Sent::Whole));
            }
            _ => return Ok((line.pause(), Sent::Whole)),
        };
        let out = line.binary(*part, partial.map(|partial| partial.first));
        let (Some(body), Some(survey)) = (body, survey) else {
            out.put(b"NIL");
            return Ok((line.pause(), Sent::Whole));
        };
        let len = wanted.end.min(survey.len).saturating_sub(wanted.start);
        if survey.has_nul {
            put_literal8(out, len);
        } else {
            put_literal(out, len);
        }
        let open = line.pause();
        let (mut decoder, mut text, mut at) = (Decoder::new(body.encoding), Vec::new(), 0);
        for piece in body.octets.chunks(PIECE_OCTETS) {
            if at >= wanted.end {
                break;
            }
            text.clear();
            decoder.feed(piece, &mut text);
            self.out.put(within(&text, at, &wanted));
            at += to_u64(text.len());
            self.flush_if_much(conn).await?;
            self.shard.env.breathe().await;
        }
        text.clear();
        decoder.end(&mut text);
        self.out.put(within(&text, at, &wanted));
        Ok((open, Sent::Whole))
    }

    /// `None` if the encoding cannot be undone.
    async fn survey(&self, body: Body<'_>, wanted: &Range<u64>) -> Option<Survey> {
        let mut survey = Survey { len: 0, has_nul: false };
        let mut add = |text: &[u8]| {
            survey.has_nul |= memchr::memchr(0, within(text, survey.len, wanted)).is_some();
            survey.len += to_u64(text.len());
        };
        let (mut decoder, mut text) = (Decoder::new(body.encoding), Vec::new());
        for piece in body.octets.chunks(PIECE_OCTETS) {
            text.clear();
            decoder.feed(piece, &mut text);
            add(&text);
            self.shard.env.breathe().await;
        }
        text.clear();
        let is_sound = decoder.end(&mut text);
        add(&text);
        (is_sound && body.encoding != Encoding::Unknown).then_some(survey)
    }
}
