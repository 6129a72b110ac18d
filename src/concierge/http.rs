//! Questions by HTTP, to servers that the operator named or a domain did: asked on the concierge, by hyper
//! and rustls.
//!
//! What is asked for comes whole or not at all: a redirect, another status than 200, more octets than
//! an answer may have, and an answer that takes too long are failures, told in words for the operator.
//! So many questions are under way at once, some more wait, and over that the caller is told at
//! once, so that a slow server cannot take the concierge from others.
//!
//! Illegal: to log what is sent. Secrets are in it.

mod names;

use self::names::Names;
use super::{Concierge, Lost, dns};
use crate::model::limits::{HTTP_ANSWER_OCTETS_MAX, HTTP_IDLE_MAX};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client as Hyper, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Where to ask: an https URL, or an http one of this machine itself, where nobody listens on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Uri);

impl Endpoint {
    /// `None` where `text` is no such URL, or has a user or a fragment in it.
    pub fn parse(text: &str) -> Option<Endpoint> {
        let uri: Uri = text.parse().ok()?;
        let host = uri.host().filter(|host| !host.is_empty())?;
        let plain = !text.contains('#') && !uri.authority()?.as_str().contains('@');
        let is_right = match uri.scheme_str()? {
            "https" => true,
            "http" => is_this_machine(host),
            _ => false,
        };
        (plain && is_right).then_some(Endpoint(uri))
    }

    pub fn is_encrypted(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0)
    }
}

fn is_this_machine(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || inner.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Who vouches for the servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Nobody: all that is asked is this machine itself, in clear.
    Nobody,
    /// The authorities that the system knows.
    System,
    /// These certificates, in PEM form.
    These(Box<[u8]>),
}

/// How much may be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Questions under way at once.
    pub at_once: usize,
    /// Questions that wait for those.
    pub waiting: usize,
    /// How long one may take, the wait included.
    pub timeout: Duration,
}

/// No answer: why, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed(pub Box<str>);

impl Failed {
    /// The server did not prove that it is the one who was asked.
    pub fn is_about_certificate(&self) -> bool {
        // The words of rustls.
        self.0.contains("invalid peer certificate")
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// What is asked; `Debug` does not show it.
#[derive(Clone)]
pub enum Question {
    Get,
    /// A document of type text/plain, of so many octets at most.
    GetText {
        octets_max: usize,
    },
    /// A form (application/x-www-form-urlencoded), with who asks it by RFC 7617.
    Post {
        form: String,
        authorization: String,
    },
    /// A document of this type, to be taken: any 2xx will do, and what is answered is not looked at.
    Give {
        kind: &'static str,
        body: Bytes,
    },
}

impl fmt::Debug for Question {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Question(..)")
    }
}

type Connections = Hyper<HttpsConnector<HttpConnector<Names>>, Full<Bytes>>;

/// Asks; clones are the same one.
#[derive(Clone, Debug)]
pub struct Client {
    concierge: Concierge,
    hyper: Connections,
    line: Arc<Semaphore>,
    places: Arc<Semaphore>,
    timeout: Duration,
}

impl Client {
    /// A client that trusts those, and finds servers as the system does. An error: they cannot be used.
    pub fn new(concierge: &Concierge, trust: &Trust, bounds: Bounds) -> Result<Client, Failed> {
        Client::finding(concierge, trust, bounds, Names::of_system())
    }

    /// As [`Client::new`], with servers found by `resolver`.
    pub fn resolving(
        concierge: &Concierge,
        trust: &Trust,
        bounds: Bounds,
        resolver: dns::Resolver,
    ) -> Result<Client, Failed> {
        Client::finding(concierge, trust, bounds, Names::by(resolver))
    }

    fn finding(
        concierge: &Concierge,
        trust: &Trust,
        bounds: Bounds,
        names: Names,
    ) -> Result<Client, Failed> {
        let mut http = HttpConnector::new_with_resolver(names);
        http.enforce_http(false);
        http.set_connect_timeout(Some(bounds.timeout));
        http.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(trust)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let hyper = Hyper::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(HTTP_IDLE_MAX)
            .pool_max_idle_per_host(bounds.at_once)
            .build(connector);
        let concierge = concierge.clone();
        let line = Arc::new(Semaphore::new(bounds.at_once + bounds.waiting));
        let places = Arc::new(Semaphore::new(bounds.at_once));
        Ok(Client { concierge, hyper, line, places, timeout: bounds.timeout })
    }

    /// Puts a question from any executor. May be dropped at any time.
    pub async fn ask(&self, to: &Endpoint, question: Question) -> Result<Bytes, Failed> {
        let (this, to) = (self.clone(), to.clone());
        self.run(async move { this.asked(&to, question).await }).await
    }

    /// Has an errand done on the concierge, and waits for its answer.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        errand: impl Future<Output = Result<T, Failed>> + Send + 'static,
    ) -> Result<T, Failed> {
        let asked = self.concierge.run(errand);
        match asked.map_err(|_| failed("too much is under way"))?.await {
            Ok(answer) => answer,
            Err(Lost) => Err(failed("no answer")),
        }
    }

    /// Has an errand done on the concierge that nobody waits for, if there is room for it.
    pub(super) fn begin<T: Send + 'static>(
        &self,
        errand: impl Future<Output = T> + Send + 'static,
    ) {
        // Where there is none, the next who needs it begins it.
        let _ = self.concierge.send(async move { drop(errand.await) });
    }

    /// The same as [`Client::ask`], on the concierge.
    pub(super) async fn asked(&self, to: &Endpoint, question: Question) -> Result<Bytes, Failed> {
        let Ok(_in_line) = self.line.try_acquire() else {
            return Err(failed("too many questions are under way"));
        };
        let answer = async {
            let Ok(_place) = self.places.acquire().await else { return Err(failed("no place")) };
            self.exchange(to, question).await
        };
        let answer = tokio::time::timeout(self.timeout, answer).await;
        let answer = answer.unwrap_or_else(|_| Err(failed("no answer in time")));
        answer.map_err(|Failed(why)| failed(format!("{to}: {why}")))
    }

    async fn exchange(&self, to: &Endpoint, question: Question) -> Result<Bytes, Failed> {
        let (octets_max, is_given) = match &question {
            Question::GetText { octets_max } => (*octets_max, false),
            Question::Get | Question::Post { .. } => (HTTP_ANSWER_OCTETS_MAX, false),
            Question::Give { .. } => (0, true),
        };
        let is_text = matches!(question, Question::GetText { .. });
        let request = request(to, question)?;
        let answer = self.hyper.request(request).await.map_err(|error| told(&error))?;
        // A redirect is none either: what is sent is for this server alone.
        let status = answer.status();
        if status != StatusCode::OK && !(is_given && status.is_success()) {
            return Err(failed(format!("it answers {status}")));
        }
        if is_given {
            return Ok(Bytes::new());
        }
        let kind = answer.headers().get(CONTENT_TYPE);
        if is_text && !kind.is_some_and(is_plain_text) {
            return Err(failed("it is no text/plain"));
        }
        let body = Limited::new(answer.into_body(), octets_max).collect().await;
        Ok(body.map_err(|error| told(&*error))?.to_bytes())
    }
}

/// Whatever its parameters are (RFC 8461 §3.2).
fn is_plain_text(kind: &HeaderValue) -> bool {
    let kind = kind.to_str().unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/plain"))
}

fn tls(trust: &Trust) -> Result<ClientConfig, Failed> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unusable = |error: rustls::Error| failed(format!("certificates of authorities: {error}"));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match trust {
        Trust::Nobody => builder.with_root_certificates(RootCertStore::empty()),
        Trust::System => builder.try_with_platform_verifier().map_err(unusable)?,
        Trust::These(pem) => builder.with_root_certificates(roots(pem)?),
    };
    Ok(builder.with_no_client_auth())
}

fn roots(pem: &[u8]) -> Result<RootCertStore, Failed> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        roots.add(certificate).map_err(|error| failed(error.to_string()))?;
    }
    if roots.is_empty() { Err(failed("no certificate in PEM form")) } else { Ok(roots) }
}

/// Whether the file holds certificates that can vouch; why not, else.
pub fn check_roots(pem: &[u8]) -> Result<(), Failed> {
    roots(pem).map(drop)
}

fn request(to: &Endpoint, question: Question) -> Result<Request<Full<Bytes>>, Failed> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = to.0.clone();
    let headers = request.headers_mut();
    let accepted = match question {
        Question::Get | Question::Post { .. } => "application/json",
        Question::GetText { .. } => "text/plain",
        Question::Give { .. } => "*/*",
    };
    headers.insert(ACCEPT, HeaderValue::from_static(accepted));
    if let Question::Give { kind, body } = question {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        *request.method_mut() = Method::POST;
        *request.body_mut() = Full::new(body);
    } else if let Question::Post { form, authorization } = question {
        let mut who = HeaderValue::try_from(authorization)
            .map_err(|_| failed("the credentials are no header"))?;
        who.set_sensitive(true);
        headers.insert(AUTHORIZATION, who);
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, kind);
        *request.method_mut() = Method::POST;
        *request.body_mut() = Full::new(form.into());
    }
    Ok(request)
}

fn failed(why: impl Into<Box<str>>) -> Failed {
    Failed(why.into())
}

/// An error with what is underneath, which says more: "connection refused", "unknown issuer".
fn told(error: &(dyn Error + 'static)) -> Failed {
    let mut why = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !why.ends_with(&inner_text) {
            why = format!("{why}: {inner_text}");
        }
        cause = inner.source();
    }
    failed(why)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use expect_test::expect;
    use futures_lite::future::{block_on, poll_once};
    use std::fmt::Write as _;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Gives one answer after the other, and the last again and again, each on its own connection; an
    /// empty one never comes.
    pub(in crate::concierge) struct Server {
        port: u16,
        asked: Arc<AtomicUsize>,
    }

    impl Server {
        pub(in crate::concierge) fn start(answers: Vec<String>) -> Server {
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let asked = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&asked);
            let serve = move || {
                let mut silent = Vec::new();
                for stream in listener.incoming().map_while(Result::ok) {
                    let mut reader = BufReader::new(stream);
                    let mut line = String::new();
                    while line != "\r\n" {
                        line.clear();
                        if reader.read_line(&mut line).unwrap_or(0) == 0 {
                            break;
                        }
                    }
                    let index = counted.fetch_add(1, Ordering::Relaxed);
                    let answer = answers.get(index).or(answers.last()).unwrap();
                    if answer.is_empty() {
                        silent.push(reader);
                        continue;
                    }
                    // Who asked may be gone.
                    drop(reader.get_mut().write_all(answer.as_bytes()));
                }
            };
            std::thread::Builder::new().spawn(serve).unwrap();
            Server { port, asked }
        }

        pub(in crate::concierge) fn url(&self, path: &str) -> Endpoint {
            Endpoint::parse(&format!("http://127.0.0.1:{}{path}", self.port)).unwrap()
        }

        pub(in crate::concierge) fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }
    }

    pub(in crate::concierge) fn client(trust: &Trust, bounds: Bounds) -> Client {
        Client::new(&Concierge::start().unwrap(), trust, bounds).unwrap()
    }

    const BOUNDS: Bounds = Bounds { at_once: 2, waiting: 1, timeout: Duration::from_mins(1) };

    #[test]
    fn takes_urls_that_nobody_listens_to() {
        let mut got = String::new();
        for text in [
            "https://idp.example/introspect",
            "https://idp.example:8443/a?b=c",
            "https://[2001:db8::1]/",
            "http://127.0.0.1:8080/jwks",
            "http://[::1]/jwks",
            "http://localhost/jwks",
            "http://idp.example/jwks",
            "http://127.0.0.1.evil.example/",
            "https://user@idp.example/",
            "https://user:secret@idp.example/",
            "https://idp.example/#fragment",
            "ftp://idp.example/",
            "idp.example",
            "/jwks",
            "https://",
            "",
        ] {
            writeln!(got, "{text:<34} {}", Endpoint::parse(text).is_some()).unwrap();
        }
        expect![[r"
            https://idp.example/introspect     true
            https://idp.example:8443/a?b=c     true
            https://[2001:db8::1]/             true
            http://127.0.0.1:8080/jwks         true
            http://[::1]/jwks                  true
            http://localhost/jwks              true
            http://idp.example/jwks            false
            http://127.0.0.1.evil.example/     false
            https://user@idp.example/          false
            https://user:secret@idp.example/   false
            https://idp.example/#fragment      false
            ftp://idp.example/                 false
            idp.example                        false
            /jwks                              false
            https://                           false
                                               false
        "]]
        .assert_eq(&got);
    }

    #[test]
    fn what_does_not_come_whole_is_a_failure_with_a_reason() {
        let long = "x".repeat(HTTP_ANSWER_OCTETS_MAX + 1);
        let answers = [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_owned(),
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
                .into(),
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".into(),
            "HTTP/1.1 204 No Content\r\n\r\n".into(),
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".into(),
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{long}", long.len()),
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{long}"),
            "no HTTP\r\n\r\n".into(),
        ];
        let mut got = String::new();
        for answer in answers {
            let server = Server::start(vec![answer]);
            let answer =
                block_on(client(&Trust::Nobody, BOUNDS).ask(&server.url("/a"), Question::Get));
            let said = answer.map(|octets| String::from_utf8(octets.into()).unwrap());
            let said = format!("{said:?}").replace(&server.port.to_string(), "PORT");
            writeln!(got, "{said}").unwrap();
        }
        expect![[r#"
            Ok("hi")
            Err(Failed("http://127.0.0.1:PORT/a: it answers 302 Found"))
            Err(Failed("http://127.0.0.1:PORT/a: it answers 401 Unauthorized"))
            Err(Failed("http://127.0.0.1:PORT/a: it answers 204 No Content"))
            Err(Failed("http://127.0.0.1:PORT/a: error reading a body from connection: end of file before message length reached"))
            Err(Failed("http://127.0.0.1:PORT/a: length limit exceeded"))
            Err(Failed("http://127.0.0.1:PORT/a: length limit exceeded"))
            Err(Failed("http://127.0.0.1:PORT/a: client error (SendRequest): invalid HTTP version parsed"))
        "#]].assert_eq(&got);
    }

    #[test]
    fn a_text_is_of_its_type_and_no_longer_than_it_may_be() {
        let answer = |kind: &str| {
            format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Type: {kind}\r\n\r\ntext")
        };
        let mut got = String::new();
        for (answer, octets_max) in [
            (answer("text/plain"), 4),
            (answer("Text/Plain ; charset=utf-8; x=y"), 4),
            (answer("text/plain"), 3),
            (answer("text/html"), 4),
            (answer("text/plainer"), 4),
            ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntext".to_owned(), 4),
            ("HTTP/1.1 203 Almost\r\nContent-Length: 0\r\n\r\n".to_owned(), 4),
            ("HTTP/1.1 301 Moved\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n".to_owned(), 4),
        ] {
            let server = Server::start(vec![answer]);
            let asked = client(&Trust::Nobody, BOUNDS);
            let question = Question::GetText { octets_max };
            let said = block_on(asked.ask(&server.url("/a"), question));
            let said = said.map(|octets| String::from_utf8(octets.into()).unwrap());
            let said = format!("{said:?}").replace(&server.port.to_string(), "PORT");
            writeln!(got, "{said}").unwrap();
            assert_eq!(server.asked(), 1, "a redirect is not followed");
        }
        expect![[r#"
            Ok("text")
            Ok("text")
            Err(Failed("http://127.0.0.1:PORT/a: length limit exceeded"))
            Err(Failed("http://127.0.0.1:PORT/a: it is no text/plain"))
            Err(Failed("http://127.0.0.1:PORT/a: it is no text/plain"))
            Err(Failed("http://127.0.0.1:PORT/a: it is no text/plain"))
            Err(Failed("http://127.0.0.1:PORT/a: it answers 203 Non Authoritative Information"))
            Err(Failed("http://127.0.0.1:PORT/a: it answers 301 Moved Permanently"))
        "#]]
        .assert_eq(&got);
    }

    #[test]
    fn what_is_given_is_taken_by_any_2xx() {
        for (status, is_taken) in
            [(200, true), (201, true), (202, true), (204, true), (302, false), (503, false)]
        {
            let head = format!("HTTP/1.1 {status} So\r\n");
            let server = Server::start(vec![format!("{head}Content-Length: 0\r\n\r\n")]);
            let question =
                Question::Give { kind: "application/x", body: Bytes::from_static(b"it") };
            let said = block_on(client(&Trust::Nobody, BOUNDS).ask(&server.url("/a"), question));
            assert_eq!(said.is_ok(), is_taken, "{status}: {said:?}");
        }
    }

    #[test]
    fn a_server_that_is_silent_holds_nobody_for_long_and_not_many() {
        let server = Server::start(vec![String::new()]);
        let url = server.url("/");
        let slow = client(&Trust::Nobody, BOUNDS);
        let mut under_way: Vec<_> =
            (0..3).map(|_| Box::pin(slow.ask(&url, Question::Get))).collect();
        for question in &mut under_way {
            assert!(block_on(poll_once(question)).is_none(), "two are under way, one waits");
        }
        for _ in 0..5 {
            let why = block_on(slow.ask(&url, Question::Get)).unwrap_err();
            assert!(why.to_string().contains("too many questions"), "{why}");
        }
        let bounds = Bounds { timeout: Duration::from_millis(50), ..BOUNDS };
        let why = block_on(client(&Trust::Nobody, bounds).ask(&url, Question::Get)).unwrap_err();
        assert!(why.to_string().ends_with("no answer in time"), "{why}");
    }

    #[test]
    fn trusts_whom_it_is_told_to() {
        for pem in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let concierge = Concierge::start().unwrap();
            let these = Trust::These(pem.as_bytes().into());
            assert!(Client::new(&concierge, &these, BOUNDS).is_err(), "{pem}");
        }
    }
}
