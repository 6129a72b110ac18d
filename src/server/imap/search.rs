//! SEARCH: which messages are meant, and what is told of them.
//!
//! ```text
//!   rows ─> hits, some of them open ─> messages are read for those ─> SEARCH / ESEARCH, `$`
//! ```
//!
//! Only as many messages are read as the answer needs: for MIN the first that fits, for a page of
//! PARTIAL up to its end. Others get their turn meanwhile, and the client hears how far it is.

use super::fetch::{Lost, Reads, Source};
use super::news::TOLD_AT_ONCE;
use super::query::{Letter, Query, Reader, Surroundings, asks_mod_seq, names_numbers};
use super::selected::Selected;
use super::{Done, Driver, Outcome};
use crate::env::Env;
use crate::env::together::together;
use crate::mailbox::Entry;
use crate::model::id::Uid;
use crate::model::limits::{
    IMAP_PROGRESS_INTERVAL, IMAP_READ_OCTETS_AT_ONCE, IMAP_READS_AT_ONCE,
    IMAP_SEARCH_OCTETS_AT_ONCE, IMAP_SEARCH_STEPS,
};
use crate::model::time::Mono;
use crate::tls::Stream;
use crate::wire::imap::capability::Capabilities;
use crate::wire::imap::command::search::{Key, Returns, Search};
use crate::wire::imap::reply::search::{Esearch, end_found, put_numbers};
use crate::wire::imap::reply::status::{Code, Kind, Status, Word};
use crate::wire::imap::scan::Text;
use crate::wire::imap::set::{Span, merge, runs};
use crate::wire::message::charset;
use std::io;
use std::ops::Range;

/// Charsets that BADCHARSET names; many more are known.
const CHARSETS: &[&str] = &["UTF-8", "US-ASCII", "ISO-8859-1"];

/// What SEARCH, SORT and THREAD have in common.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub tag: &'a str,
    pub uid: bool,
    pub returns: Option<Returns>,
    pub charset: Option<Text<'a>>,
    pub keys: &'a [Key<'a>],
}

/// A message that was found, or that may yet turn out to be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub number: u32,
    pub uid: Uid,
    pub mod_seq: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Found,
    /// It has to be read.
    Open,
    Missed,
}

/// What a search came to.
pub(super) struct Hits {
    /// By rising numbers; SORT puts them into its own order.
    pub hits: Vec<Hit>,
    /// The limit let no messages be searched below this one.
    pub lowest: Option<Uid>,
}

/// How many results are needed, counted from either end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    front: u32,
    back: u32,
}

impl Wanted {
    pub(super) const ALL: Wanted = Wanted { front: u32::MAX, back: 0 };

    fn of(returns: Option<Returns>) -> Wanted {
        let Some(returns) = returns.filter(|returns| !tells_all(*returns)) else {
            return Wanted::ALL;
        };
        let mut wanted = Wanted { front: returns.min.into(), back: returns.max.into() };
        match returns.partial {
            Some(page) if page.from_end => wanted.back = wanted.back.max(page.reach()),
            Some(page) => wanted.front = wanted.front.max(page.reach()),
            None => {}
        }
        wanted
    }
}

/// Whether the answer, or `$`, is about all that was found (RFC 9051 §6.4.4.1, RFC 9394 §3.2).
fn tells_all(returns: Returns) -> bool {
    let some = returns.min || returns.max || returns.partial.is_some();
    returns.all || returns.count || !some
}

/// How far a long command is.
pub(super) struct Progress<'a> {
    tag: &'a str,
    told: Mono,
    pub done: u32,
    pub goal: u32,
}

impl<'a> Progress<'a> {
    pub(super) fn new(tag: &'a str, now: Mono, goal: usize) -> Progress<'a> {
        Progress { tag, told: now, done: 0, goal: u32::try_from(goal).unwrap_or(u32::MAX) }
    }
}

/// An end that came before the result.
pub(super) type Found<T> = io::Result<Result<T, Done>>;

impl<E: Env> Driver<E> {
    pub(super) async fn search(
        &mut self,
        conn: &mut Stream<E>,
        tag: &str,
        search: &Search<'_>,
    ) -> Outcome {
        let Search { uid, returns, charset, ref keys } = *search;
        // RFC 6855 §3: with UTF-8 on there is but one charset; IMAP4rev2 lets it be named.
        if charset.is_some() && self.enabled.utf8 && !self.enabled.rev2 {
            return Ok(Done::Bad("strings are UTF-8, and no charset can be named"));
        }
        let asked = Asked { tag, uid, returns, charset, keys };
        let found = match self.find(conn, &asked, Wanted::of(returns)).await? {
            Ok(found) => found,
            Err(done) => return Ok(self.unsaved(returns, done)),
        };
        self.answer(conn, &asked, "SEARCH", &found).await?;
        Ok(Done::limited(found.lowest, "searched"))
    }

    /// A search that was to be saved and was not leaves `$` empty (RFC 5182 §2.1).
    pub(super) fn unsaved(&mut self, returns: Option<Returns>, done: Done) -> Done {
        let saves = returns.is_some_and(|returns| returns.save);
        if saves
            && !matches!(done, Done::Bad(_))
            && let Some(selected) = self.user.as_mut().and_then(|user| user.selected.as_mut())
        {
            selected.saved.clear();
        }
        done
    }

    /// The messages that are meant, in the order of the mailbox.
    pub(super) async fn find(
        &mut self,
        conn: &mut Stream<E>,
        asked: &Asked<'_>,
        wanted: Wanted,
    ) -> Found<Hits> {
        if asks_mod_seq(asked.keys) {
            self.count_changes();
        }
        // No number may move under a search by numbers (RFC 9051 §7.5.1, RFC 7162 §3.2.10.2).
        self.sync(conn, asked.uid && !names_numbers(asked.keys)).await?;
        let charset = asked.charset.map(Text::octets).unwrap_or_default();
        if !charset.is_empty() && !charset::is_known(&charset) {
            let no = Status::tagged(asked.tag, Kind::No, "the charset is not known");
            no.with(Code::BadCharset(CHARSETS)).put(&mut self.out);
            return Ok(Err(Done::Refused));
        }
        // Taken out, so that it stands still while answers are written and messages are read.
        let Some(selected) = self.user.as_mut().and_then(|user| user.selected.take()) else {
            return Ok(Err(Done::Bad("nothing is selected")));
        };
        let now = self.shard.env.wall().seconds();
        let around = Surroundings { log: self.shard.log.id(), now, charset: &charset };
        let query = Query::new(asked.keys, &selected, around);
        let found = self.hunt(conn, asked.tag, &selected, &query, wanted).await;
        if let Some(user) = &mut self.user {
            user.selected = Some(selected);
        }
        found
    }

    async fn hunt(
        &mut self,
        conn: &mut Stream<E>,
        tag: &str,
        selected: &Selected,
        query: &Query,
        wanted: Wanted,
    ) -> Found<Hits> {
        let known = selected.view.keywords();
        let mut progress = Progress::new(tag, self.shard.env.now(), 0);
        let mut hits = Vec::new();
        let mut seen = Vec::new();
        let limit = self.message_limit();
        let mut steps = 0;
        for (number, entry) in selected.all() {
            let state = match query.row(number, &entry, known) {
                Some(true) => Some(State::Found),
                Some(false) => None,
                None => Some(State::Open),
            };
            hits.extend(state.map(|state| Hit {
                number,
                uid: entry.uid,
                mod_seq: entry.modseq.0,
                state,
            }));
            if limit < usize::MAX && query.looks_at(number, &entry) {
                seen.push(entry.uid);
            }
            steps += query.len;
            if steps >= IMAP_SEARCH_STEPS {
                steps = 0;
                if let Err(done) = self.pause(conn, &mut progress).await? {
                    return Ok(Err(done));
                }
            }
        }
        let lowest = self.limit(&mut seen);
        if let Some(lowest) = lowest {
            hits.retain(|hit| hit.uid >= lowest);
        }
        let open = hits.iter().filter(|hit| hit.state == State::Open).count();
        if open == 0 {
            return Ok(Ok(Hits { hits, lowest }));
        }
        progress.goal = u32::try_from(open).unwrap_or(u32::MAX);
        let mut reader = Reader::new(query);
        let count = hits.len();
        for (range, from_end, enough) in
            [(0..count, false, wanted.front), (0..count, true, wanted.back)]
        {
            let walk = Walk { range, from_end, enough };
            let walked =
                self.settle(conn, selected, &mut reader, &mut hits, walk, &mut progress).await?;
            if let Err(done) = walked {
                return Ok(Err(done));
            }
        }
        hits.retain(|hit| hit.state != State::Missed);
        Ok(Ok(Hits { hits, lowest }))
    }

    /// Reads messages, from one end on, until so many are found as are wanted from there.
    async fn settle(
        &mut self,
        conn: &mut Stream<E>,
        selected: &Selected,
        reader: &mut Reader<'_>,
        hits: &mut [Hit],
        walk: Walk,
        progress: &mut Progress<'_>,
    ) -> Found<()> {
        let mut steps = walk.steps().peekable();
        let mut left = walk.enough;
        while left > 0 && steps.peek().is_some() {
            let mut group = Group::default();
            let reads_max = IMAP_READS_AT_ONCE.min(usize::try_from(left).unwrap_or(usize::MAX));
            while let Some(at) =
                steps.next_if(|_| group.found < left && group.takes_more(reads_max))
            {
                match hits.get(at) {
                    Some(hit) if hit.state == State::Open => group.add(at, selected, hit.number),
                    Some(hit) if hit.state == State::Found => group.found += 1,
                    _ => {}
                }
            }
            left = left.saturating_sub(group.found);
            if group.open.is_empty() {
                continue;
            }
            if let Err(done) = self.pause(conn, progress).await? {
                return Ok(Err(done));
            }
            progress.done += u32::try_from(group.open.len()).unwrap_or(u32::MAX);
            let found = self.judge(conn, selected, reader, hits, group.open).await?;
            left = left.saturating_sub(found);
        }
        Ok(Ok(()))
    }

    /// Reads as much of these messages as it takes to tell whether they are meant; how many are.
    /// What cannot be read is in the log of the operator, and is not found.
    async fn judge(
        &mut self,
        conn: &mut Stream<E>,
        selected: &Selected,
        reader: &mut Reader<'_>,
        hits: &mut [Hit],
        mut open: Vec<(usize, Entry)>,
    ) -> io::Result<u32> {
        let known = selected.view.keywords();
        let mut found = 0;
        let stages = [(Reads::Summary, reader.wants_summaries()), (Reads::Message, true)];
        for (reads, _) in stages.into_iter().filter(|(_, wanted)| *wanted) {
            let sources = self.read_all(open.iter().map(|(_, entry)| entry), reads).await;
            let mut left = Vec::new();
            for ((at, entry), source) in open.into_iter().zip(sources) {
                let Some(hit) = hits.get_mut(at) else { continue };
                let verdict = match &source {
                    Ok(source) => {
                        let letter = Letter::of(source);
                        self.look_through(conn, reader, letter).await?;
                        reader.matches(hit.number, &entry, known, letter)
                    }
                    Err(_) => Some(false),
                };
                hit.state = if verdict == Some(true) { State::Found } else { State::Missed };
                found += u32::from(verdict == Some(true));
                if verdict.is_none() {
                    left.push((at, entry));
                }
            }
            open = left;
        }
        Ok(found)
    }

    /// Looks for words in a large message, others having their turn between its pieces.
    async fn look_through(
        &mut self,
        conn: &mut Stream<E>,
        reader: &mut Reader<'_>,
        letter: Letter<'_>,
    ) -> io::Result<()> {
        reader.forget();
        let large = |octets: &&[u8]| octets.len() > IMAP_SEARCH_OCTETS_AT_ONCE;
        let Some(octets) = letter.octets.filter(large) else { return Ok(()) };
        for &word in reader.words(letter) {
            let Some(mut hunt) = reader.hunt(octets, word) else { continue };
            let found = loop {
                if let Some(found) = hunt.step() {
                    break found;
                }
                self.take_turns(conn).await?;
            };
            reader.note(word.0, found);
        }
        Ok(())
    }

    /// Reads messages side by side.
    pub(super) async fn read_all(
        &self,
        entries: impl Iterator<Item = &Entry>,
        reads: Reads,
    ) -> Vec<Result<Source, Lost>> {
        together(entries.map(|entry| self.read(entry, reads))).await
    }

    /// Lets others have their turn; tells the client how far it is, every now and then.
    pub(super) async fn pause(
        &mut self,
        conn: &mut Stream<E>,
        progress: &mut Progress<'_>,
    ) -> Found<()> {
        self.take_turns(conn).await?;
        if self.shard.draining.is_set() {
            return Ok(Err(Done::No(Some(Word::Unavailable), "the server stops")));
        }
        let now = self.shard.env.now();
        let tells = !self.hidden.meets(Capabilities::INPROGRESS);
        if tells && now.since(progress.told) >= IMAP_PROGRESS_INTERVAL {
            progress.told = now;
            let Progress { tag, done, goal, .. } = *progress;
            let goal = Some(goal).filter(|goal| *goal > 0);
            let ok = Status::untagged(Kind::Ok, "still at it");
            ok.with(Code::InProgress { tag, done, goal }).put(&mut self.out);
            self.flush(conn).await?;
        }
        Ok(Ok(()))
    }

    /// Tells what was found, in this order, and saves it if that was asked for.
    pub(super) async fn answer(
        &mut self,
        conn: &mut Stream<E>,
        asked: &Asked<'_>,
        what: &'static str,
        found: &Hits,
    ) -> io::Result<()> {
        let hits = &*found.hits;
        let number = |hit: &Hit| if asked.uid { hit.uid.0 } else { hit.number };
        let asks = asks_mod_seq(asked.keys);
        let is_extended = asked.returns.is_some() || self.enabled.rev2 && what == "SEARCH";
        if !is_extended {
            let highest = hits.iter().map(|hit| hit.mod_seq).max().filter(|_| asks);
            let mut numbers: Vec<u32> = hits.iter().map(number).collect();
            if found.lowest.is_some() {
                numbers.reverse();
            }
            self.out.put(b"* ");
            self.out.put(what.as_bytes());
            for some in numbers.chunks(TOLD_AT_ONCE) {
                put_numbers(&mut self.out, some.iter().copied());
                self.flush_if_much(conn).await?;
            }
            end_found(&mut self.out, highest);
            return Ok(());
        }
        let returns = asked.returns.unwrap_or(Returns { all: true, ..Returns::default() });
        let told = told(returns, hits);
        if returns.save
            && let Some(selected) = self.user.as_mut().and_then(|user| user.selected.as_mut())
        {
            let uids = told.iter().filter_map(|hit| Span::new(hit.uid.0, hit.uid.0));
            selected.saved = merge(uids.collect());
        }
        let highest = told.iter().map(|hit| hit.mod_seq).max().filter(|_| asks);
        drop(told);
        // RFC 5182 §2.1: SAVE alone is answered by the tagged line alone.
        if returns == (Returns { save: true, ..Returns::default() }) {
            return Ok(());
        }
        let mut line = Esearch::new(&mut self.out, asked.tag, asked.uid);
        if let Some(first) = hits.first().filter(|_| returns.min) {
            line.min(number(first));
        }
        if let Some(last) = hits.last().filter(|_| returns.max) {
            line.max(number(last));
        }
        if returns.count {
            line.count(u32::try_from(hits.len()).unwrap_or(u32::MAX));
        }
        if returns.all && !hits.is_empty() {
            line.begin_all();
            self.put_set(conn, runs(hits.iter().map(number))).await?;
        }
        if let Some(page) = returns.partial {
            Esearch::resume(&mut self.out).begin_partial(page);
            let some = hits.get(page.cut(hits.len())).unwrap_or_default();
            if some.is_empty() {
                self.out.put(b"NIL");
            }
            self.put_set(conn, runs(some.iter().map(number))).await?;
            Esearch::resume(&mut self.out).end_partial();
        }
        let mut line = Esearch::resume(&mut self.out);
        if let Some(highest) = highest {
            line.mod_seq(highest);
        }
        line.end();
        Ok(())
    }
}

/// Those of the hits that the answer is about: `$`, and MODSEQ (RFC 4731 §3.2), are theirs.
fn told(returns: Returns, hits: &[Hit]) -> Vec<Hit> {
    if tells_all(returns) {
        return hits.to_vec();
    }
    let mut told = Vec::new();
    told.extend(hits.first().filter(|_| returns.min));
    told.extend(hits.last().filter(|_| returns.max));
    if let Some(page) = returns.partial {
        told.extend_from_slice(hits.get(page.cut(hits.len())).unwrap_or_default());
    }
    told
}

/// A way through hits.
struct Walk {
    range: Range<usize>,
    from_end: bool,
    /// Hits after which it ends.
    enough: u32,
}

impl Walk {
    fn steps(&self) -> impl Iterator<Item = usize> + use<> {
        let Range { start, end } = self.range;
        let from_end = self.from_end;
        (start..end).map(move |at| if from_end { end - 1 - (at - start) } else { at })
    }
}

/// Messages that are read together.
#[derive(Default)]
struct Group {
    /// Index of the hit, and its entry.
    open: Vec<(usize, Entry)>,
    octets: u64,
    /// Hits among them that need no read.
    found: u32,
}

impl Group {
    fn takes_more(&self, reads_max: usize) -> bool {
        self.open.len() < reads_max && self.octets < IMAP_READ_OCTETS_AT_ONCE
    }

    fn add(&mut self, at: usize, selected: &Selected, number: u32) {
        if let Some((entry, _)) = selected.entry(number) {
            self.octets += u64::from(entry.size);
            self.open.push((at, entry));
        }
    }
}
