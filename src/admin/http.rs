//! Answers the monitoring: `/metrics`, `/healthz`, `/readyz` over HTTP/1.1.
//!
//! A request is its head and nothing else. [`respond`] knows no socket and no clock; [`serve`] is
//! the driver on one shard. Heads are bounded, connections are few and have deadlines, a request
//! with a body is answered and the connection closed behind it.
//!
//! Not meant for the open network: it has no TLS and no password. Bind it to loopback or to a
//! management network.

use super::{calendar, metrics};
use crate::bytes::buffer::Buffer;
use crate::bytes::chain::Chain;
use crate::env::{Conn, Env, Listener};
use crate::model::limits::{
    ADMIN_CONNECTIONS_MAX, ADMIN_FIELDS_MAX, ADMIN_REQUEST_OCTETS_MAX, ADMIN_TIMEOUT,
};
use crate::model::time::Wall;
use crate::probe::Registry;
use std::cell::Cell;
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
    let open = Rc::new(Cell::new(0_u32));
    loop {
        let Ok(conn) = listener.accept().await else {
            env.sleep(ACCEPT_PAUSE).await;
            continue;
        };
        if open.get() >= ADMIN_CONNECTIONS_MAX {
            env.spawn(conn.close());
            continue;
        }
        let place = Place::take(&open);
        let (task_env, pages) = (env.clone(), pages.clone());
        env.spawn(async move {
            let _place = place;
            session(&task_env, conn, &pages).await;
        });
    }
}

/// One of the places for connections; free again when it is dropped, also by a panic.
struct Place(Rc<Cell<u32>>);

impl Place {
    fn take(open: &Rc<Cell<u32>>) -> Place {
        open.set(open.get() + 1);
        Place(Rc::clone(open))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// One connection until it is closed, idles too long or breaks.
async fn session<E: Env>(env: &E, mut conn: E::Conn, pages: &Pages) {
    let mut buffer = Buffer::new();
    let mut deadline = env.now().after(ADMIN_TIMEOUT);
    loop {
        match respond(buffer.filled(), pages, env.wall()) {
            Answer::More => match conn.read(&mut buffer, deadline).await {
                Ok(count) if count > 0 => {}
                Ok(_) | Err(_) => break,
            },
            Answer::Send { used, octets, close } => {
                buffer.consume(used);
                let mut chain = Chain::new();
                chain.put(&octets);
                deadline = env.now().after(ADMIN_TIMEOUT);
                if conn.write(&mut chain, deadline).await.is_err() || close {
                    break;
                }
            }
        }
    }
    conn.close().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

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
