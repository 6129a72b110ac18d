//! Answers the monitoring: `/metrics`, `/healthz`, `/readyz` over HTTP/1.1.
//!
//! A request is its head and nothing else. [`respond`] knows no socket and no clock; [`serve`] is
//! the driver on one shard. Heads are bounded, connections are few and have deadlines, a request
//! with a body is answered and the connection closed behind it. When all places are taken, the
//! connection that has waited longest for a request gives up its own.
//!
//! Not meant for the open network: it has no TLS and no password. Bind it to loopback or to a
//! management network.

use super::{calendar, metrics};
use crate::bytes::buffer::Buffer;
use crate::bytes::chain::Chain;
use crate::env::{Conn, Env, Listener};
use crate::model::limits::{
    ADMIN_CONNECTIONS_MAX, ADMIN_FIELDS_MAX, ADMIN_HEAD_TIMEOUT, ADMIN_REQUEST_OCTETS_MAX,
    ADMIN_TIMEOUT,
};
use crate::model::time::{Mono, Wall};
use crate::probe::Registry;
use crate::server::flag::Flag;
use futures_lite::future::or;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Wait after a failed accept, so that a lack of descriptors does not spin the shard.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How the process is; set by the node, read here.
#[derive(Debug, Default)]
pub struct Health {
    ready: AtomicBool,
    broken: AtomicBool,
}

impl Health {
    /// Every listener accepts; `false` again while it drains.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Relaxed);
    }

    /// Some shard has stopped its writes; there is no way back.
    pub fn set_broken(&self) {
        self.broken.store(true, Relaxed);
    }

    pub fn is_ready(&self) -> bool {
        self.ready.load(Relaxed) && !self.is_broken()
    }

    pub fn is_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }
}

/// What there is to see. Clones show the same.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    pub registry: Registry,
    pub health: Arc<Health>,
}

/// What to do with the octets received so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The head is not whole: wait for more.
    More,
    /// Send `octets`, use up `used` of the input; `close` afterwards or go on.
    Send { used: usize, octets: Vec<u8>, close: bool },
}

/// Answers the request at the front of `input`, if it is whole.
pub fn respond(input: &[u8], pages: &Pages, now: Wall) -> Answer {
    let mut fields = [httparse::EMPTY_HEADER; ADMIN_FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let window = input.get(..ADMIN_REQUEST_OCTETS_MAX).unwrap_or(input);
    let used = match request.parse(window) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) if input.len() < ADMIN_REQUEST_OCTETS_MAX => {
            return Answer::More;
        }
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return refuse(input.len(), "431 Request Header Fields Too Large", now);
        }
        Err(_) => return refuse(input.len(), "400 Bad Request", now),
    };
    let field =
        |name: &str| request.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    let modern = request.version == Some(1);
    if modern && field("host").is_none() {
        // RFC 9112 §3.2: a request of HTTP/1.1 without Host is answered 400.
        return refuse(input.len(), "400 Bad Request", now);
    }
    let has_body = field("transfer-encoding").is_some()
        || field("content-length").is_some_and(|field| field.value != b"0");
    let says_close = field("connection").is_some_and(|field| {
        field
            .value
            .split(|octet| *octet == b',')
            .any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close"))
    });
    let close = !modern || has_body || says_close;
    let used = if close { input.len() } else { used };
    let head_only = request.method == Some("HEAD");
    let target = request.path.unwrap_or_default();
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let (status, extra, kind, body) = match (page(path, pages), request.method) {
        (None, _) => ("404 Not Found", "", TEXT, "no such page\n".to_owned()),
        (Some((status, kind, body)), Some("GET" | "HEAD")) => (status, "", kind, body),
        (Some(_), _) => {
            // RFC 9110 §15.5.6: 405 names what is allowed.
            ("405 Method Not Allowed", "Allow: GET, HEAD\r\n", TEXT, "GET or HEAD\n".to_owned())
        }
    };
    Answer::Send { used, octets: answer(status, extra, kind, &body, head_only, close, now), close }
}

const TEXT: &str = "text/plain; charset=utf-8";

/// Status, content type and body of a page.
fn page(path: &str, pages: &Pages) -> Option<(&'static str, &'static str, String)> {
    let state = |good: bool, word: &str| {
        let status = if good { "200 OK" } else { "503 Service Unavailable" };
        Some((status, TEXT, format!("{word}\n")))
    };
    match path {
        "/metrics" => Some(("200 OK", metrics::CONTENT_TYPE, metrics::render(&pages.registry))),
        "/healthz" if pages.health.is_broken() => state(false, "a shard has stopped its writes"),
        "/healthz" => state(true, "ok"),
        "/readyz" if pages.health.is_ready() => state(true, "ready"),
        "/readyz" => state(false, "not ready"),
        _ => None,
    }
}

fn refuse(used: usize, status: &str, now: Wall) -> Answer {
    let body = format!("{status}\n");
    Answer::Send { used, octets: answer(status, "", TEXT, &body, false, true, now), close: true }
}

fn answer(
    status: &str,
    extra: &str,
    kind: &str,
    body: &str,
    head_only: bool,
    close: bool,
    now: Wall,
) -> Vec<u8> {
    let connection = if close { "Connection: close\r\n" } else { "" };
    let body_shown = if head_only { "" } else { body };
    let date = calendar::http_date(now);
    format!(
        "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\n{extra}{connection}\r\n{body_shown}",
        body.len()
    )
    .into_bytes()
}

/// Laws: no panic; an answer uses up octets that are there; a whole head is never waited for.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_request(data: &[u8]) {
    match respond(data, &Pages::default(), Wall(0)) {
        Answer::More => assert!(data.len() < ADMIN_REQUEST_OCTETS_MAX, "heads are bounded"),
        Answer::Send { used, octets, .. } => {
            assert!(used > 0 && used <= data.len(), "an answer uses up its request");
            assert!(octets.starts_with(b"HTTP/1.1 "), "an answer is one of HTTP");
        }
    }
}

/// Accepts for as long as it is polled; each connection is a task of this shard.
pub async fn serve<E: Env>(env: E, listener: E::Listener, pages: Pages) {
    let places = Places::default();
    loop {
        let Ok(conn) = listener.accept().await else {
            env.sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some(place) = places.take(env.now()) else {
            env.spawn(conn.close());
            continue;
        };
        let (task_env, pages) = (env.clone(), pages.clone());
        env.spawn(async move { session(&task_env, conn, &pages, &place).await });
    }
}

/// The places for connections, [`ADMIN_CONNECTIONS_MAX`].
#[derive(Clone, Default)]
struct Places(Rc<RefCell<Vec<Rc<Seat>>>>);

#[derive(Default)]
struct Seat {
    /// Waits for a request since then; `None` while one is answered.
    waits_since: Cell<Option<Mono>>,
    evicted: Flag,
}

/// One of the places; free again when it is dropped, also by a panic.
struct Place {
    places: Places,
    seat: Rc<Seat>,
}

impl Places {
    /// A free place, or that of the connection which waits longest; `None` if all are answered.
    fn take(&self, now: Mono) -> Option<Place> {
        let mut seats = self.0.borrow_mut();
        if seats.len() >= ADMIN_CONNECTIONS_MAX {
            let waiting = seats
                .iter()
                .enumerate()
                .filter_map(|(index, seat)| seat.waits_since.get().map(|since| (since, index)));
            let (_, index) = waiting.min()?;
            seats.remove(index).evicted.set();
        }
        let seat = Rc::new(Seat::default());
        seat.waits_since.set(Some(now));
        seats.push(Rc::clone(&seat));
        Some(Place { places: self.clone(), seat })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.0.borrow_mut().retain(|seat| !Rc::ptr_eq(seat, &self.seat));
    }
}

/// One connection until it is closed, idles too long, breaks or is evicted.
async fn session<E: Env>(env: &E, mut conn: E::Conn, pages: &Pages, place: &Place) {
    let mut buffer = Buffer::new();
    let mut idle = env.now().after(ADMIN_TIMEOUT);
    // Once a request has begun.
    let mut head = None;
    loop {
        match respond(buffer.filled(), pages, env.wall()) {
            Answer::More => {
                if !buffer.filled().is_empty() {
                    head.get_or_insert(env.now().after(ADMIN_HEAD_TIMEOUT));
                }
                let evicted = async {
                    place.seat.evicted.wait().await;
                    Err(io::ErrorKind::ConnectionAborted.into())
                };
                match or(conn.read(&mut buffer, head.unwrap_or(idle)), evicted).await {
                    Ok(count) if count > 0 => {}
                    Ok(_) | Err(_) => break,
                }
            }
            Answer::Send { used, octets, close } => {
                place.seat.waits_since.set(None);
                buffer.consume(used);
                let mut chain = Chain::new();
                chain.put(&octets);
                idle = env.now().after(ADMIN_TIMEOUT);
                head = None;
                if conn.write(&mut chain, idle).await.is_err() || close {
                    break;
                }
                place.seat.waits_since.set(Some(env.now()));
            }
        }
    }
    conn.close().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::sim::{Faults, Sim, SimEnv};
    use expect_test::{Expect, expect};
    use std::net::SocketAddr;

    /// Status line and what matters of the answer to one request.
    #[track_caller]
    fn check(request: &str, want: &Expect) {
        let got = match respond(request.as_bytes(), &Pages::default(), Wall(0)) {
            Answer::More => "more".into(),
            Answer::Send { used, octets, close } => {
                let rest = request.len() - used;
                let text = String::from_utf8(octets).unwrap();
                format!("{text}-- close {close}, {rest} left").replace('\r', "")
            }
        };
        want.assert_eq(&got);
    }

    #[test]
    fn shows_the_pages_and_keeps_the_connection() {
        check(
            "GET /healthz?x=1 HTTP/1.1\r\nHost: a\r\n\r\nGET /",
            &expect![[r"
            HTTP/1.1 200 OK
            Date: Thu, 01 Jan 1970 00:00:00 GMT
            Content-Type: text/plain; charset=utf-8
            Content-Length: 3
            Cache-Control: no-store

            ok
            -- close false, 5 left"]],
        );
        check(
            "HEAD /readyz HTTP/1.1\r\nhost: a\r\nConnection: x, Close\r\n\r\n",
            &expect![[r"
                HTTP/1.1 503 Service Unavailable
                Date: Thu, 01 Jan 1970 00:00:00 GMT
                Content-Type: text/plain; charset=utf-8
                Content-Length: 10
                Cache-Control: no-store
                Connection: close

                -- close true, 0 left"]],
        );
    }

    #[test]
    fn closes_after_old_clients_and_bodies() {
        check(
            "GET /healthz HTTP/1.0\r\n\r\n",
            &expect![[r"
            HTTP/1.1 200 OK
            Date: Thu, 01 Jan 1970 00:00:00 GMT
            Content-Type: text/plain; charset=utf-8
            Content-Length: 3
            Cache-Control: no-store
            Connection: close

            ok
            -- close true, 0 left"]],
        );
        check(
            "POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
            &expect![[r"
                HTTP/1.1 405 Method Not Allowed
                Date: Thu, 01 Jan 1970 00:00:00 GMT
                Content-Type: text/plain; charset=utf-8
                Content-Length: 12
                Cache-Control: no-store
                Allow: GET, HEAD
                Connection: close

                GET or HEAD
                -- close true, 0 left"]],
        );
        check(
            "GET /passwd HTTP/1.1\r\nHost: a\r\n\r\n",
            &expect![[r"
            HTTP/1.1 404 Not Found
            Date: Thu, 01 Jan 1970 00:00:00 GMT
            Content-Type: text/plain; charset=utf-8
            Content-Length: 13
            Cache-Control: no-store

            no such page
            -- close false, 0 left"]],
        );
    }

    #[test]
    fn refuses_what_is_no_request() {
        check(
            "GET /metrics HTTP/1.1\r\n\r\n",
            &expect![[r"
            HTTP/1.1 400 Bad Request
            Date: Thu, 01 Jan 1970 00:00:00 GMT
            Content-Type: text/plain; charset=utf-8
            Content-Length: 16
            Cache-Control: no-store
            Connection: close

            400 Bad Request
            -- close true, 0 left"]],
        );
        check(
            "EHLO me\r\n",
            &expect![[r"
            HTTP/1.1 400 Bad Request
            Date: Thu, 01 Jan 1970 00:00:00 GMT
            Content-Type: text/plain; charset=utf-8
            Content-Length: 16
            Cache-Control: no-store
            Connection: close

            400 Bad Request
            -- close true, 0 left"]],
        );
        check("GET /metr", &expect!["more"]);
        let many = "a: b\r\n".repeat(ADMIN_FIELDS_MAX + 1);
        check(
            &format!("GET / HTTP/1.1\r\n{many}\r\n"),
            &expect![[r"
            HTTP/1.1 431 Request Header Fields Too Large
            Date: Thu, 01 Jan 1970 00:00:00 GMT
            Content-Type: text/plain; charset=utf-8
            Content-Length: 36
            Cache-Control: no-store
            Connection: close

            431 Request Header Fields Too Large
            -- close true, 0 left"]],
        );
        let long = "a".repeat(ADMIN_REQUEST_OCTETS_MAX);
        check(
            &format!("GET /{long}"),
            &expect![[r"
            HTTP/1.1 431 Request Header Fields Too Large
            Date: Thu, 01 Jan 1970 00:00:00 GMT
            Content-Type: text/plain; charset=utf-8
            Content-Length: 36
            Cache-Control: no-store
            Connection: close

            431 Request Header Fields Too Large
            -- close true, 0 left"]],
        );
    }

    #[test]
    fn tells_ready_only_while_it_is() {
        let pages = Pages::default();
        let status = |path: &str| page(path, &pages).map(|(status, ..)| status);
        assert_eq!(status("/readyz"), Some("503 Service Unavailable"));
        pages.health.set_ready(true);
        assert_eq!(status("/readyz"), Some("200 OK"));
        assert_eq!(status("/healthz"), Some("200 OK"));
        pages.health.set_broken();
        assert_eq!(status("/readyz"), Some("503 Service Unavailable"));
        assert_eq!(status("/healthz"), Some("503 Service Unavailable"));
    }

    /// A client that connects, sends `text`, and is told what came back until the end.
    async fn client(env: SimEnv, address: SocketAddr, text: &str) -> Vec<u8> {
        let deadline = env.now().after(Duration::from_hours(1));
        let mut conn = env.connect(address, None, deadline).await.unwrap();
        let mut chain = Chain::new();
        chain.put(text.as_bytes());
        conn.write(&mut chain, deadline).await.unwrap();
        let mut buffer = Buffer::new();
        while let Ok(1..) = conn.read(&mut buffer, deadline).await {}
        conn.close().await;
        buffer.filled().to_vec()
    }

    #[test]
    fn idle_connections_shut_nobody_out() {
        let sim = Sim::new(3, Faults::none());
        let env = sim.env(0);
        let listener = env.listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local();
        env.spawn(serve(env.clone(), listener, Pages::default()));
        let ended: Rc<RefCell<Vec<usize>>> = Rc::default();
        let come = async {
            for number in 0..ADMIN_CONNECTIONS_MAX {
                let (idle, ended) = (env.clone(), Rc::clone(&ended));
                env.spawn(async move {
                    let text = if number % 2 == 0 { "" } else { "GET /healthz HTTP/1.1\r\n" };
                    assert_eq!(client(idle, address, text).await, b"");
                    ended.borrow_mut().push(number);
                });
                env.sleep(Duration::from_millis(10)).await;
            }
            let asks = "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            let first = client(env.clone(), address, asks).await;
            assert!(first.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", first.escape_ascii());
            env.sleep(Duration::from_millis(100)).await;
            assert_eq!(*ended.borrow(), [0], "the one that waited longest gave up its place");
            // A request that was begun has a few seconds, the others some more.
            env.sleep(ADMIN_HEAD_TIMEOUT).await;
            assert_eq!(ended.borrow().len(), 1 + ADMIN_CONNECTIONS_MAX / 2);
            env.sleep(ADMIN_TIMEOUT).await;
            assert_eq!(ended.borrow().len(), ADMIN_CONNECTIONS_MAX);
        };
        sim.run_until(come).expect("it ends");
    }

    #[test]
    fn always_advances_or_waits_for_a_bounded_head() {
        arbtest::arbtest(|u| {
            let mut input: Vec<u8> = u.arbitrary()?;
            if u.arbitrary()? {
                input.splice(0..0, *b"GET / HTTP/1.1\r\n");
            }
            fuzz_request(&input);
            Ok(())
        });
    }
}
