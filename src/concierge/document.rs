//! A document that somebody publishes at a URL, as it was last read: one for all shards.
//!
//! ```text
//!   read ── fresh? ──────────────────────────────> as it is
//!      ├─ old: as it is, and fetched anew beside
//!      └─ none, or far too old: fetched now, one for all who wait
//!   newer ── another than the one that was of no use, fetched now unless that was done too often of late
//! ```
//! While it cannot be fetched the last one holds, for as long as [`Times::stale`] says.

use super::http::{Client, Endpoint, Failed, Question};
use crate::model::limits::{DOCUMENT_BURST, DOCUMENT_RETRY_PAUSE, DOCUMENT_WAITING_MAX};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

/// How old a document may be, and how often it is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Younger than that it is not fetched, unless a newer one is asked for.
    pub fresh: Duration,
    /// Older than that it is of no use.
    pub stale: Duration,
    /// In it [`DOCUMENT_BURST`] fetches are made at most, and none for [`DOCUMENT_RETRY_PAUSE`] (or for
    /// this, if that is less) after one that failed.
    pub pause: Duration,
}

/// What came of a search for another document than the one that was of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Newer<T> {
    Another(Arc<T>),
    /// It was fetched for this search, and is the same.
    Same,
    /// It was fetched too often of late: there may be another.
    NotLooked,
}

/// The document; clones are the same one.
pub struct Document<T> {
    client: Client,
    url: Endpoint,
    parse: fn(&[u8]) -> Result<T, String>,
    times: Times,
    held: Arc<RwLock<Held<T>>>,
    /// Who has it fetches.
    turn: Arc<Mutex<()>>,
    /// Who may wait for it.
    line: Arc<Semaphore>,
    /// It is being fetched and nobody waits for that.
    renewing: Arc<AtomicBool>,
}

struct Held<T> {
    latest: Option<(Arc<T>, Instant)>,
    /// When it was tried to fetch it, the last few times, the oldest first.
    tried: VecDeque<Instant>,
    /// How often that was tried.
    count: u64,
    /// How the last try ended.
    ended: Result<(), Failed>,
}

/// One fetch that nobody waits for; over when dropped, also undone.
struct Renewing(Arc<AtomicBool>);

impl Renewing {
    /// `None` while there is one.
    fn begin(flag: &Arc<AtomicBool>) -> Option<Renewing> {
        (!flag.swap(true, Ordering::AcqRel)).then(|| Renewing(Arc::clone(flag)))
    }
}

impl Drop for Renewing {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl<T> Clone for Document<T> {
    fn clone(&self) -> Self {
        Document {
            client: self.client.clone(),
            url: self.url.clone(),
            parse: self.parse,
            times: self.times,
            held: Arc::clone(&self.held),
            turn: Arc::clone(&self.turn),
            line: Arc::clone(&self.line),
            renewing: Arc::clone(&self.renewing),
        }
    }
}

impl<T: Send + Sync + 'static> Document<T> {
    /// A document that `parse` makes of the octets at `url`; an error of it is a fetch that failed.
    pub fn new(
        client: Client,
        url: Endpoint,
        times: Times,
        parse: fn(&[u8]) -> Result<T, String>,
    ) -> Document<T> {
        let tried = VecDeque::with_capacity(DOCUMENT_BURST);
        let held = Held { latest: None, tried, count: 0, ended: Ok(()) };
        let (held, turn) = (Arc::new(RwLock::new(held)), Arc::new(Mutex::new(())));
        let line = Arc::new(Semaphore::new(DOCUMENT_WAITING_MAX));
        let renewing = Arc::default();
        Document { client, url, parse, times, held, turn, line, renewing }
    }

    /// The document, from any executor.
    pub async fn read(&self) -> Result<Arc<T>, Failed> {
        if let Some((latest, age)) = self.latest().filter(|(_, age)| *age < self.times.stale) {
            if age >= self.times.fresh
                && self.resting().is_none()
                && let Some(once) = Renewing::begin(&self.renewing)
            {
                let (this, count) = (self.clone(), self.count());
                // Nobody waits for it: what there is holds.
                self.client.begin(async move {
                    drop(this.renew(count).await);
                    drop(once);
                });
            }
            return Ok(latest);
        }
        self.renewed().await?;
        self.latest().map(|(latest, _)| latest).ok_or_else(|| Failed("no document".into()))
    }

    /// Another one than `old`, if there is one; fetched now, unless that was done too often of late.
    pub async fn newer(&self, old: &Arc<T>) -> Result<Newer<T>, Failed> {
        let another =
            || self.latest().map(|(latest, _)| latest).filter(|latest| !Arc::ptr_eq(latest, old));
        if let Some(latest) = another() {
            return Ok(Newer::Another(latest));
        }
        let looked = self.renewed().await?;
        Ok(match another() {
            Some(latest) => Newer::Another(latest),
            None if looked => Newer::Same,
            None => Newer::NotLooked,
        })
    }

    fn latest(&self) -> Option<(Arc<T>, Duration)> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.latest.as_ref().map(|(latest, at)| (Arc::clone(latest), at.elapsed()))
    }

    fn count(&self) -> u64 {
        self.held.read().unwrap_or_else(PoisonError::into_inner).count
    }

    /// How the last try ended, where it is too early for the next.
    fn resting(&self) -> Option<Result<(), Failed>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let is_resting = if held.ended.is_ok() {
            // A few at once, then the pause: what was exchanged is seen at once, though somebody has
            // looked for something else a moment ago.
            held.tried.len() >= DOCUMENT_BURST
                && held.tried.front().is_some_and(|at| at.elapsed() < self.times.pause)
        } else {
            let pause = self.times.pause.min(DOCUMENT_RETRY_PAUSE);
            held.tried.back().is_some_and(|at| at.elapsed() < pause)
        };
        is_resting.then(|| held.ended.clone())
    }

    /// Whether it was fetched; not where it is too early.
    async fn renewed(&self) -> Result<bool, Failed> {
        if let Some(ended) = self.resting() {
            return ended.map(|()| false);
        }
        let (this, count) = (self.clone(), self.count());
        self.client.run(async move { this.renew(count).await }).await
    }

    /// Fetches it, on the concierge, for one who knew of so many tries. Who had to wait for another's
    /// turn takes what that brought. Whether it was fetched since.
    async fn renew(&self, count: u64) -> Result<bool, Failed> {
        let Ok(_in_line) = self.line.try_acquire() else {
            return Err(Failed("too many wait for it".into()));
        };
        let _turn = self.turn.lock().await;
        if self.count() != count {
            let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
            return held.ended.clone().map(|()| true);
        }
        let fetched = self.client.asked(&self.url, Question::Get).await;
        let parsed = fetched.and_then(|octets| {
            (self.parse)(&octets).map_err(|why| Failed(format!("{}: {why}", self.url).into()))
        });
        let now = Instant::now();
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let ended = parsed.map(|parsed| held.latest = Some((Arc::new(parsed), now)));
        held.count += 1;
        held.ended.clone_from(&ended);
        if held.tried.len() >= DOCUMENT_BURST {
            held.tried.pop_front();
        }
        held.tried.push_back(now);
        ended.map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::concierge::http::tests::{Server, client};
    use crate::concierge::http::{Bounds, Trust};
    use futures_lite::future::{block_on, zip};

    const BOUNDS: Bounds = Bounds { at_once: 4, waiting: 4, timeout: Duration::from_mins(1) };

    /// The document of a server: a number.
    fn document(server: &Server, times: Times) -> Document<u32> {
        let parse = |octets: &[u8]| {
            let text = std::str::from_utf8(octets).map_err(|error| error.to_string())?;
            text.parse().map_err(|_| format!("{text:?} is no number"))
        };
        Document::new(client(&Trust::Nobody, BOUNDS), server.url("/"), times, parse)
    }

    fn ok(body: &str) -> String {
        // The server hangs up behind each answer, and says so: nobody asks by a connection that ends.
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n";
        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
    }

    #[track_caller]
    fn another(newer: Result<Newer<u32>, Failed>) -> Arc<u32> {
        match newer {
            Ok(Newer::Another(another)) => another,
            other => panic!("{other:?}"),
        }
    }

    const LONG: Duration = Duration::from_hours(1);

    #[test]
    fn is_fetched_once_for_all_and_not_again_before_the_pause_is_over() {
        let server = Server::start(vec![ok("1"), ok("2")]);
        let times = Times { fresh: LONG, stale: LONG, pause: LONG };
        let document = document(&server, times);
        let (one, other) = block_on(zip(document.read(), document.read()));
        let first = one.unwrap();
        assert!(Arc::ptr_eq(&first, &other.unwrap()) && *first == 1);
        // Twice, then the pause: whoever looks then is told that nobody did.
        let second = another(block_on(document.newer(&first)));
        assert_eq!(*second, 2);
        for _ in 0..2 {
            assert_eq!(block_on(document.newer(&second)), Ok(Newer::NotLooked));
        }
        assert_eq!(block_on(document.read()), Ok(second));
        assert_eq!(server.asked(), 2);
    }

    /// However many read an old one, one fetch waits for the server and nobody else does.
    #[test]
    fn an_old_one_is_fetched_anew_by_one_for_all() {
        let server = Server::start(vec![ok("1"), String::new()]);
        let times = Times { fresh: Duration::ZERO, stale: LONG, pause: Duration::ZERO };
        let document = document(&server, times);
        for _ in 0..100 {
            assert_eq!(block_on(document.read()).as_deref(), Ok(&1));
        }
        while server.asked() < 2 {
            std::thread::yield_now();
        }
        // Behind all others.
        block_on(document.client.run(async { Ok(()) })).unwrap();
        assert_eq!(document.line.available_permits() + 1, DOCUMENT_WAITING_MAX);
    }

    #[test]
    fn a_newer_one_is_fetched_when_it_is_asked_for() {
        let server = Server::start(vec![ok("1"), ok("2")]);
        let times = Times { fresh: LONG, stale: LONG, pause: Duration::ZERO };
        let document = document(&server, times);
        let first = block_on(document.read()).unwrap();
        let second = another(block_on(document.newer(&first)));
        assert_eq!((*first, *second), (1, 2));
        // Who still has the first one is given the second without a question.
        assert_eq!(block_on(document.newer(&first)), Ok(Newer::Another(second)));
        assert_eq!(server.asked(), 2);
    }

    #[test]
    fn the_last_one_holds_while_none_can_be_had() {
        let server = Server::start(vec![ok("1"), ok("nothing"), "HTTP/1.1 500 Oh\r\n\r\n".into()]);
        let times = Times { fresh: Duration::ZERO, stale: LONG, pause: Duration::ZERO };
        let document = document(&server, times);
        let first = block_on(document.read()).unwrap();
        let failed = block_on(document.newer(&first)).unwrap_err();
        assert!(failed.to_string().contains("\"nothing\" is no number"), "{failed}");
        assert_eq!(block_on(document.read()).as_deref(), Ok(&1));
        let times = Times { stale: Duration::ZERO, ..times };
        let useless = Document { times, ..document };
        assert!(block_on(useless.read()).is_err());
    }
}
