//! SORT and THREAD: what was found, in another order (RFC 5256).
//!
//! Both want the summaries alone; only what arrived before there were any is read as a message.

use super::fetch::{Reads, Source};
use super::query::Letter;
use super::search::{Asked, Found, Hit, Hits, Progress, Wanted};
use super::{Done, Driver, Outcome};
use crate::env::Env;
use crate::mailbox::Entry;
use crate::model::limits::IMAP_READS_AT_ONCE;
use crate::tls::Stream;
use crate::wire::imap::command::search::{Algorithm, By, Order, Sort, Thread};
use crate::wire::imap::reply::status::Kind;
use crate::wire::message::envelope::put_envelope;
use crate::wire::message::head::{FieldKind, Head};
use crate::wire::message::ids::{message_id, references};
use crate::wire::message::sent::sent;
use crate::wire::message::sort::{Criterion, Facts, Row, SortKey, sort};
use crate::wire::message::subject::base_subject;
use crate::wire::message::thread::{self, Message, put_threads};

/// Octets of threads that are put before the reader is waited for.
const THREADS_OCTETS_AT_ONCE: usize = 1 << 10;

impl<E: Env> Driver<E> {
    pub(super) async fn sort(
        &mut self,
        conn: &mut Stream<E>,
        tag: &str,
        sort: &Sort<'_>,
    ) -> Outcome {
        let Sort { uid, returns, ref order, charset, ref keys } = *sort;
        let asked = Asked { tag, uid, returns, charset: Some(charset), keys };
        let hits = match self.find_whole(conn, &asked).await? {
            Ok(hits) => hits,
            Err(done) => return Ok(self.unsaved(returns, done)),
        };
        let criteria: Vec<Criterion> = order.iter().copied().map(criterion).collect();
        let hits = match self.sorted(conn, tag, &criteria, &hits).await? {
            Ok(hits) => hits,
            Err(done) => return Ok(self.unsaved(returns, done)),
        };
        self.answer(conn, &asked, "SORT", &Hits { hits, lowest: None }).await?;
        Ok(Done::Ok("sorted"))
    }

    /// All that is meant: what is put in order has to be there as a whole (RFC 9738 §3.3).
    async fn find_whole(&mut self, conn: &mut Stream<E>, asked: &Asked<'_>) -> Found<Vec<Hit>> {
        Ok(match self.find(conn, asked, Wanted::ALL).await? {
            Ok(Hits { hits, lowest: None }) => Ok(hits),
            Ok(_) => Err(Done::Limited(Kind::No, None, "too many messages to put in order")),
            Err(done) => Err(done),
        })
    }

    async fn sorted(
        &mut self,
        conn: &mut Stream<E>,
        tag: &str,
        criteria: &[Criterion],
        hits: &[Hit],
    ) -> Found<Vec<Hit>> {
        let by_row = |one: &Criterion| matches!(one.key, SortKey::Arrival | SortKey::Size);
        let reads = !criteria.iter().all(by_row);
        let mut progress = Progress::new(tag, self.shard.env.now(), hits.len());
        let mut rows = Vec::with_capacity(hits.len());
        for some in hits.chunks(IMAP_READS_AT_ONCE) {
            let known = match self.known(conn, some, reads, &mut progress).await? {
                Ok(known) => known,
                Err(done) => return Ok(Err(done)),
            };
            for (hit, entry, known) in known {
                let facts = Facts {
                    number: hit.number,
                    arrival: entry.internal_date,
                    sent: known.sent,
                    size: u64::from(entry.size),
                    base_subject: &known.base_subject,
                    envelope: &known.envelope,
                };
                rows.push(Row::new(criteria, &facts));
            }
        }
        sort(&mut rows, criteria);
        let hit = |row: &Row| {
            let at = hits.binary_search_by_key(&row.number(), |hit| hit.number).ok()?;
            hits.get(at).copied()
        };
        Ok(Ok(rows.iter().filter_map(hit).collect()))
    }

    /// What orders are made of, of a few messages; with `reads`, out of their summaries.
    async fn known(
        &mut self,
        conn: &mut Stream<E>,
        hits: &[Hit],
        reads: bool,
        progress: &mut Progress<'_>,
    ) -> Found<Vec<(Hit, Entry, Known)>> {
        if let Err(done) = self.pause(conn, progress).await? {
            return Ok(Err(done));
        }
        progress.done += u32::try_from(hits.len()).unwrap_or(u32::MAX);
        let Some(selected) = self.selected() else { return Ok(Ok(Vec::new())) };
        let entries = hits.iter().filter_map(|hit| Some((*hit, selected.entry(hit.number)?.0)));
        let entries: Vec<(Hit, Entry)> = entries.collect();
        let wanted = entries.iter().map(|(_, entry)| entry).filter(|_| reads);
        let mut sources = self.read_all(wanted, Reads::Summary).await.into_iter();
        let known = entries.into_iter().map(|(hit, entry)| {
            let source = sources.next().and_then(Result::ok);
            (hit, entry, source.as_ref().map_or_else(Known::default, Known::new))
        });
        Ok(Ok(known.collect()))
    }

    pub(super) async fn thread(
        &mut self,
        conn: &mut Stream<E>,
        tag: &str,
        thread: &Thread<'_>,
    ) -> Outcome {
        let Thread { uid, algorithm, charset, ref keys } = *thread;
        let asked = Asked { tag, uid, returns: None, charset: Some(charset), keys };
        let hits = match self.find_whole(conn, &asked).await? {
            Ok(hits) => hits,
            Err(done) => return Ok(done),
        };
        let mut progress = Progress::new(tag, self.shard.env.now(), hits.len());
        let mut known = Vec::with_capacity(hits.len());
        for some in hits.chunks(IMAP_READS_AT_ONCE) {
            match self.known(conn, some, true, &mut progress).await? {
                Ok(more) => known.extend(more),
                Err(done) => return Ok(done),
            }
        }
        let messages = known.iter().map(|(hit, entry, one)| Message {
            number: if uid { hit.uid.0 } else { hit.number },
            sent: one.sent.unwrap_or(entry.internal_date.into()),
            id: one.id,
            references: &one.references,
            base_subject: &one.base_subject,
            is_reply: one.is_reply,
        });
        let messages: Vec<Message<'_>> = messages.collect();
        let mut text = Vec::new();
        put_threads(of(algorithm), &messages, &mut text);
        drop(messages);
        drop(known);
        self.out.put(b"* THREAD");
        if !text.is_empty() {
            self.out.put(b" ");
        }
        for piece in text.chunks(THREADS_OCTETS_AT_ONCE) {
            self.out.put(piece);
            self.flush_if_much(conn).await?;
        }
        self.out.put(b"\r\n");
        Ok(Done::Ok("threaded"))
    }
}

fn of(algorithm: Algorithm) -> thread::Algorithm {
    match algorithm {
        Algorithm::OrderedSubject => thread::Algorithm::OrderedSubject,
        Algorithm::References => thread::Algorithm::References,
        Algorithm::Refs => thread::Algorithm::Refs,
    }
}

fn criterion(order: Order) -> Criterion {
    let key = match order.by {
        By::Arrival => SortKey::Arrival,
        By::Cc => SortKey::Cc,
        By::Date => SortKey::Date,
        By::DisplayFrom => SortKey::DisplayFrom,
        By::DisplayTo => SortKey::DisplayTo,
        By::From => SortKey::From,
        By::Size => SortKey::Size,
        By::Subject => SortKey::Subject,
        By::To => SortKey::To,
    };
    Criterion { key, reverse: order.reverse }
}

/// What orders are made of, out of one message. Of one that cannot be read nothing is known.
#[derive(Default)]
struct Known {
    sent: Option<i64>,
    id: Option<u64>,
    references: Vec<u64>,
    base_subject: Vec<u8>,
    is_reply: bool,
    envelope: Vec<u8>,
}

impl Known {
    fn new(source: &Source) -> Known {
        let letter = Letter::of(source);
        let octets = letter.octets.unwrap_or_default();
        let Some(summary) = letter.read() else { return Known::of_message(octets) };
        // An envelope that was too long for the summary came with the message.
        let envelope = summary.envelope().map_or_else(
            || {
                let mut text = Vec::new();
                put_envelope(octets, &Head::of(octets).0, &mut text);
                text
            },
            <[u8]>::to_vec,
        );
        Known {
            sent: summary.sent().map(|sent| sent.seconds),
            id: summary.message_id(),
            references: summary.references().collect(),
            base_subject: summary.base_subject().to_vec(),
            is_reply: summary.is_reply(),
            envelope,
        }
    }

    /// Of a message that has no summary of today.
    fn of_message(message: &[u8]) -> Known {
        let (head, _) = Head::of(message);
        let subject = base_subject(head.value(message, FieldKind::Subject).unwrap_or_default());
        let mut known = Known {
            sent: head.value(message, FieldKind::Date).and_then(sent).map(|sent| sent.seconds),
            id: message_id(message, &head),
            base_subject: subject.folded,
            is_reply: subject.is_reply,
            ..Known::default()
        };
        references(message, &head, &mut known.references);
        put_envelope(message, &head, &mut known.envelope);
        known
    }
}
