//! A document that somebody publishes at a URL, as it was last read: one for all shards.
//!
//! ```text
//!   read ── fresh? ──────────────────────────────> as it is
//!      ├─ old: as it is, and fetched anew beside
//!      └─ none, or far too old: fetched now, one for all who wait
//!   newer ── another than the one that was of no use, fetched now unless that was done a moment ago
//! ```
//! While it cannot be fetched the last one holds, for as long as [`Times::stale`] says.

use super::http::{Client, Endpoint, Failed, Question};
use crate::model::limits::{DOCUMENT_RETRY_PAUSE, DOCUMENT_WAITING_MAX};
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
    /// Between two fetches, or [`DOCUMENT_RETRY_PAUSE`] after one that failed if that is less.
    pub pause: Duration,
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
}

struct Held<T> {
    latest: Option<(Arc<T>, Instant)>,
    /// When it was tried to fetch it last, and how that ended.
    tried: Option<(Instant, Result<(), Failed>)>,
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
        let held = Held { latest: None, tried: None };
        let (held, turn) = (Arc::new(RwLock::new(held)), Arc::new(Mutex::new(())));
        let line = Arc::new(Semaphore::new(DOCUMENT_WAITING_MAX));
        Document { client, url, parse, times, held, turn, line }
    }

    /// The document, from any executor.
    pub async fn read(&self) -> Result<Arc<T>, Failed> {
        if let Some((latest, age)) = self.latest().filter(|(_, age)| *age < self.times.stale) {
            if age >= self.times.fresh && self.is_due() {
                let this = self.clone();
                // Nobody waits for it: what there is holds.
                self.client.begin(async move { this.renew().await });
            }
            return Ok(latest);
        }
        self.renewed().await?;
        self.latest().map(|(latest, _)| latest).ok_or_else(|| Failed("no document".into()))
    }

    /// Another one than `old`, if there is one; fetched now, unless that was done a moment ago.
    pub async fn newer(&self, old: &Arc<T>) -> Result<Option<Arc<T>>, Failed> {
        let another =
            || self.latest().map(|(latest, _)| latest).filter(|latest| !Arc::ptr_eq(latest, old));
        if let Some(latest) = another() {
            return Ok(Some(latest));
        }
        self.renewed().await?;
        Ok(another())
    }

    fn latest(&self) -> Option<(Arc<T>, Duration)> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.latest.as_ref().map(|(latest, at)| (Arc::clone(latest), at.elapsed()))
    }

    /// Whether the pause since the last try is over.
    fn is_due(&self) -> bool {
        self.last_try().is_none()
    }

    /// How the last try ended, where it was made a moment ago.
    fn last_try(&self) -> Option<Result<(), Failed>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let (at, ended) = held.tried.as_ref()?;
        let pause = match ended {
            Ok(()) => self.times.pause,
            Err(_) => self.times.pause.min(DOCUMENT_RETRY_PAUSE),
        };
        (at.elapsed() < pause).then(|| ended.clone())
    }

    async fn renewed(&self) -> Result<(), Failed> {
        if let Some(ended) = self.last_try() {
            return ended;
        }
        let this = self.clone();
        self.client.run(async move { this.renew().await }).await
    }

    /// Fetches it, on the concierge. Who had to wait for another's turn takes what that brought.
    async fn renew(&self) -> Result<(), Failed> {
        let Ok(_in_line) = self.line.try_acquire() else {
            return Err(Failed("too many wait for it".into()));
        };
        let _turn = self.turn.lock().await;
        if let Some(ended) = self.last_try() {
            return ended;
        }
        let fetched = self.client.asked(&self.url, Question::Get).await;
        let parsed = fetched.and_then(|octets| {
            (self.parse)(&octets).map_err(|why| Failed(format!("{}: {why}", self.url).into()))
        });
        let now = Instant::now();
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let ended = parsed.map(|parsed| held.latest = Some((Arc::new(parsed), now)));
        held.tried = Some((now, ended.clone()));
        ended
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
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
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
        assert_eq!(block_on(document.newer(&first)), Ok(None));
        assert_eq!(server.asked(), 1);
    }

    #[test]
    fn a_newer_one_is_fetched_when_it_is_asked_for() {
        let server = Server::start(vec![ok("1"), ok("2")]);
        let times = Times { fresh: LONG, stale: LONG, pause: Duration::ZERO };
        let document = document(&server, times);
        let first = block_on(document.read()).unwrap();
        let second = block_on(document.newer(&first)).unwrap().unwrap();
        assert_eq!((*first, *second), (1, 2));
        // Who still has the first one is given the second without a question.
        assert_eq!(block_on(document.newer(&first)), Ok(Some(second)));
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
