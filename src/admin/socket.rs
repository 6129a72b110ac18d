//! The admin socket: `data_dir/admin.sock`, one JSON request a line, one JSON answer a line. Behind a
//! line that tells of octets these follow: mail that moves in or out.
//!
//! The server side is a thread that accepts, and one for each client, a bounded number: the oldest of
//! those that say nothing makes way for a new one. Each request is handed to the node, which answers
//! when a shard has done it. The client side is the command line. Only the owner of the data directory and root can connect: the socket is made in a
//! directory of mode 0700, gets mode 0600 there, and only then its name.
//!
//! Both sides bound what they read and how long they wait.

use self::begun::Begun;
use super::request::{Request, Response};
use crate::bytes::codec::to_usize;
use crate::mailbox::Message;
use crate::model::limits::{
    ADMIN_ASK_OCTETS_MAX, ADMIN_CLIENTS_MAX, ADMIN_HEAD_TIMEOUT, ADMIN_LINE_OCTETS_MAX,
    ADMIN_SOCKET_TIMEOUT, ADMIN_WAITING_MAX, MESSAGE_OCTETS_MAX, MOVING_BATCH_OCTETS_MAX,
};
use crossbeam::channel::{Receiver, Sender, bounded};
use std::fs::{DirBuilder, Permissions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// A request on its way to whoever can answer it.
#[derive(Debug)]
pub struct Asked {
    pub request: Request,
    /// Messages that came along.
    pub brought: Vec<Message>,
    pub answer: Sender<Answer>,
}

/// Nobody can take one more request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// An answer, and the octets that follow it.
#[derive(Debug)]
pub struct Answer {
    pub response: Response,
    pub octets: Vec<u8>,
}

impl From<Response> for Answer {
    fn from(response: Response) -> Answer {
        Answer { response, octets: Vec::new() }
    }
}

impl Asked {
    /// A request and where its answer will come out.
    pub fn new(request: Request, brought: Vec<Message>) -> (Asked, Receiver<Answer>) {
        let (answer, answered) = bounded(1);
        (Asked { request, brought, answer }, answered)
    }

    /// Answers; never waits. Dropping the request instead tells the client that nobody could.
    pub fn answer(self, response: Response) {
        // The client may have given up: nobody to tell.
        drop(self.answer.try_send(response.into()));
    }
}

/// The messages that a request brings, out of the octets behind it; an error in words.
fn open(request: &Request, octets: &[u8]) -> Result<Vec<Message>, Response> {
    let Request::Moving { ask, .. } = request else { return Ok(Vec::new()) };
    ask.open(octets)
        .ok_or_else(|| Response::Wrong("the octets are not those of the messages".into()))
}

/// How many octets follow a request; `None` where they are not as many as its messages have, or
/// more than are taken.
fn octets_behind(request: &Request, message_max: u64) -> Option<u64> {
    match request {
        Request::Moving { ask, octets, .. } => ask
            .octets()
            .filter(|told| told == octets && *octets <= message_max.max(MOVING_BATCH_OCTETS_MAX)),
        _ => Some(0),
    }
}

/// The queue between the socket's thread and the node. Full: the client is told to come back.
pub fn queue() -> (Sender<Asked>, Receiver<Asked>) {
    bounded(ADMIN_WAITING_MAX)
}

/// The listening socket; its file goes away with it.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    /// Octets of the largest message that may come along.
    message_max: u64,
}

impl Server {
    /// Binds `path`. A file left by a server that died is replaced; one that answers means that
    /// another server runs on this directory: `ErrorKind::AddrInUse`.
    pub fn bind(path: &Path) -> io::Result<Server> {
        clear(path)?;
        let own = path.with_file_name(format!(".admin-{}", std::process::id()));
        remove_dir(&own);
        DirBuilder::new().mode(0o700).create(&own)?;
        let bound = bind_in(&own, path);
        remove_dir(&own);
        Ok(Server { listener: bound?, path: path.into(), message_max: MESSAGE_OCTETS_MAX })
    }

    /// The same, for messages of at most so many octets.
    #[must_use]
    pub fn with_message_max(mut self, octets: u64) -> Server {
        self.message_max = octets;
        self
    }

    /// Serves until the process ends. For a thread of its own. `forward` takes a request or gives it
    /// back when too many wait; it must not wait itself.
    pub fn run(&self, forward: impl Fn(Asked) -> Result<(), Busy> + Sync) {
        self.run_with(&forward, ADMIN_SOCKET_TIMEOUT, usize::MAX);
    }

    fn run_with(
        &self,
        forward: &(impl Fn(Asked) -> Result<(), Busy> + Sync),
        patience: Duration,
        clients: usize,
    ) {
        std::thread::scope(|scope| {
            let mut open: Vec<Client> = Vec::new();
            for stream in self.listener.incoming().take(clients) {
                let (Ok(stream), true) = (stream, make_place(&mut open)) else {
                    // All are being answered, or accepting failed: in a moment that is over.
                    std::thread::park_timeout(Duration::from_millis(100));
                    continue;
                };
                let state = Arc::new(AtomicU8::new(WAITS));
                let Ok(mine) = stream.try_clone() else { continue };
                let theirs = Arc::clone(&state);
                let thread = std::thread::Builder::new().name("admin-client".into());
                let begun = thread.spawn_scoped(scope, move || {
                    // A client that breaks off is its own affair.
                    drop(serve(&mine, forward, (patience, self.message_max), &theirs));
                    drop(mine.shutdown(Shutdown::Both));
                    theirs.store(ENDED, Ordering::Release);
                });
                if begun.is_ok() {
                    open.push(Client { stream, state });
                }
            }
        });
    }
}

/// How long a client that is alone may be silent, and has to wait for an answer.
const ALONE_PATIENCE: Duration = Duration::from_hours(24);

/// What a client's thread does: it waits for a request, answers one, or has ended.
const WAITS: u8 = 0;
const ANSWERS: u8 = 1;
const ENDED: u8 = 2;

/// A client as the accepting thread sees it.
struct Client {
    stream: UnixStream,
    state: Arc<AtomicU8>,
}

/// Makes sure that one more can be served; false if all that are open are being answered.
fn make_place(open: &mut Vec<Client>) -> bool {
    open.retain(|client| client.state.load(Ordering::Acquire) != ENDED);
    if open.len() < ADMIN_CLIENTS_MAX {
        return true;
    }
    let waits = |client: &Client| client.state.load(Ordering::Acquire) == WAITS;
    let Some(oldest) = open.iter().position(waits) else { return false };
    // Its thread reads an end, and ends.
    drop(open.remove(oldest).stream.shutdown(Shutdown::Both));
    true
}

/// Time by the machine's clock: the threads of this socket belong to no shard.
#[expect(clippy::disallowed_types, reason = "there is no Env to ask on these threads")]
mod begun {
    use std::time::{Duration, Instant};

    #[derive(Clone, Copy)]
    pub(super) struct Begun(Instant);

    impl Begun {
        pub(super) fn now() -> Begun {
            Begun(Instant::now())
        }

        pub(super) fn age(self) -> Duration {
            self.0.elapsed()
        }
    }
}

/// Reads with a deadline for all of a request: from its first octet on it has
/// [`ADMIN_HEAD_TIMEOUT`], before that the patience of the stream.
struct Timed<'a> {
    stream: &'a UnixStream,
    head_begun: Option<Begun>,
    /// Octets behind the line come: each piece may take as long as the patience says.
    is_behind: bool,
    patience: Duration,
}

impl Read for Timed<'_> {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        let left = match self.head_begun {
            None => self.patience,
            Some(_) if self.is_behind => self.patience,
            Some(begun) => ADMIN_HEAD_TIMEOUT.saturating_sub(begun.age()),
        };
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let count = (&mut &*self.stream).read(octets)?;
        self.head_begun.get_or_insert_with(Begun::now);
        Ok(count)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // If it cannot be removed, the next start replaces it.
        drop(std::fs::remove_file(&self.path));
    }
}

/// Makes room at `path`, or says who has it.
fn clear(path: &Path) -> io::Result<()> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let taken = |why: &str| Err(io::Error::new(ErrorKind::AddrInUse, why.to_owned()));
    if !kind.is_socket() {
        return taken("there is a file of this name that is no socket");
    }
    match UnixStream::connect(path) {
        Ok(_) => taken("another server runs on this data directory"),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) => Err(error),
    }
}

fn bind_in(own: &Path, path: &Path) -> io::Result<UnixListener> {
    let hidden = own.join("s");
    let listener = UnixListener::bind(&hidden)?;
    std::fs::set_permissions(&hidden, Permissions::from_mode(0o600))?;
    std::fs::rename(&hidden, path)?;
    Ok(listener)
}

/// The directory that the socket is made in, with what a crash may have left in it.
fn remove_dir(own: &Path) {
    drop(std::fs::remove_file(own.join("s")));
    drop(std::fs::remove_dir(own));
}

/// One client: requests until it ends its side or is silent for too long.
fn serve(
    stream: &UnixStream,
    forward: &impl Fn(Asked) -> Result<(), Busy>,
    (patience, message_max): (Duration, u64),
    state: &AtomicU8,
) -> io::Result<()> {
    stream.set_write_timeout(Some(patience))?;
    let mut reader = BufReader::new(Timed { stream, head_begun: None, is_behind: false, patience });
    while let Some(line) = read_line(&mut reader, ADMIN_ASK_OCTETS_MAX)? {
        state.store(ANSWERS, Ordering::Release);
        let answer = match serde_json::from_slice(&line) {
            Ok(Request::Ping) => Response::Done.into(),
            Ok(request) => {
                let Some(octets) = octets_behind(&request, message_max) else {
                    let why = "more octets than are taken at once (smtp.max_message_size)";
                    write_line(stream, &Response::Wrong(why.into()))?;
                    // What follows are octets, and no requests.
                    return Ok(());
                };
                reader.get_mut().is_behind = true;
                let octets = read_octets(&mut reader, octets)?;
                reader.get_mut().is_behind = false;
                match open(&request, &octets) {
                    Ok(brought) => hand_over(request, brought, forward, patience),
                    Err(wrong) => wrong.into(),
                }
            }
            Err(error) => Response::Wrong(format!("no request: {error}")).into(),
        };
        write_line(stream, &answer.response)?;
        (&mut &*stream).write_all(&answer.octets)?;
        // Of the next request some may be here already.
        let begun = !reader.buffer().is_empty();
        reader.get_mut().head_begun = begun.then(Begun::now);
        state.store(WAITS, Ordering::Release);
    }
    Ok(())
}

fn hand_over(
    request: Request,
    brought: Vec<Message>,
    forward: &impl Fn(Asked) -> Result<(), Busy>,
    patience: Duration,
) -> Answer {
    let (asked, answered) = Asked::new(request, brought);
    match forward(asked) {
        Ok(()) => answered.recv_timeout(patience).unwrap_or_else(|_| {
            Response::Refused("the server did not answer in time".into()).into()
        }),
        Err(Busy) => Response::Refused("the server is busy, try again".into()).into(),
    }
}

/// Serves one client, for whom nobody has to wait, until it ends its side: first it hears that all is ready.
pub fn serve_alone(
    stream: &UnixStream,
    forward: &impl Fn(Asked) -> Result<(), Busy>,
    message_max: u64,
) -> io::Result<()> {
    write_line(stream, &Response::Done)?;
    serve(stream, forward, (ALONE_PATIENCE, message_max), &AtomicU8::new(WAITS))
}

/// Octets behind a line.
fn read_octets(reader: &mut impl Read, count: u64) -> io::Result<Vec<u8>> {
    let mut octets = Vec::with_capacity(to_usize(count.min(MOVING_BATCH_OCTETS_MAX)));
    reader.take(count).read_to_end(&mut octets)?;
    if octets.len() as u64 == count { Ok(octets) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

/// Why a request got no answer.
#[derive(Debug)]
pub enum AskError {
    /// Nobody listens: the server is stopped.
    NotRunning,
    Failed(io::Error),
}

/// Asks the server behind `path`.
pub fn ask(path: &Path, request: &Request) -> Result<Response, AskError> {
    exchange(&connect(path)?, request).map_err(AskError::Failed)
}

fn connect(path: &Path) -> Result<UnixStream, AskError> {
    UnixStream::connect(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => AskError::NotRunning,
        _ => AskError::Failed(error),
    })
}

fn exchange(stream: &UnixStream, request: &Request) -> io::Result<Response> {
    be_patient(stream)?;
    write_line(stream, request)?;
    read_response(&mut BufReader::new(stream))
}

/// Longer than the server waits for its shard, so that its own words arrive.
fn be_patient(stream: &UnixStream) -> io::Result<()> {
    let patience = ADMIN_SOCKET_TIMEOUT + Duration::from_secs(5);
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))
}

fn read_response(reader: &mut impl BufRead) -> io::Result<Response> {
    let line = read_line(reader, ADMIN_LINE_OCTETS_MAX)?;
    let line = line.ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
    serde_json::from_slice(&line).map_err(io::Error::other)
}

/// A connection to the server for many requests.
#[derive(Debug)]
pub struct Session(BufReader<UnixStream>);

impl Session {
    /// Connects to the server behind `path`.
    pub fn open(path: &Path) -> Result<Session, AskError> {
        let stream = connect(path)?;
        be_patient(&stream).map_err(AskError::Failed)?;
        Ok(Session::over(stream))
    }

    /// A connection that is there.
    pub fn over(stream: UnixStream) -> Session {
        Session(BufReader::new(stream))
    }

    /// What is said without a question.
    pub fn hear(&mut self) -> io::Result<Response> {
        read_response(&mut self.0)
    }

    /// Asks, with octets behind the request. The answer has those that follow it.
    pub fn ask(&mut self, request: &Request, octets: &[u8]) -> io::Result<Answer> {
        write_line(self.0.get_ref(), request)?;
        // A server that refuses at once does not read them; what it says is told all the same.
        let sent = self.0.get_mut().write_all(octets);
        let response = match (read_response(&mut self.0), sent) {
            (Ok(response), _) => response,
            (Err(_), Err(error)) | (Err(error), Ok(())) => return Err(error),
        };
        let count = match &response {
            Response::Moving { octets, .. } => *octets,
            _ => 0,
        };
        let octets = read_octets(&mut self.0, count)?;
        Ok(Answer { response, octets })
    }
}

fn write_line(mut stream: &UnixStream, what: &impl serde::Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// One line without its end; `None` at the end of the stream.
fn read_line(reader: &mut impl BufRead, octets_max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.by_ref().take(octets_max).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) => Err(io::Error::new(ErrorKind::InvalidData, "a line without end, or too long")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::request::DirectoryRequest;

    /// A server on a new directory that answers `clients` of them through `answer`.
    fn with_server(
        clients: usize,
        answer: impl Fn(Asked) -> Result<(), Busy> + Send + Sync + 'static,
        client: impl FnOnce(&Path),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let server = Server::bind(&path).unwrap();
        let thread = std::thread::Builder::new()
            .spawn(move || server.run_with(&answer, Duration::from_secs(20), clients))
            .unwrap();
        client(&path);
        thread.join().unwrap();
        assert!(!path.exists(), "the socket goes away with its server");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn hands_a_request_over_and_brings_the_answer_back() {
        let answer = |asked: Asked| {
            let domain = match &asked.request {
                Request::Directory(DirectoryRequest::DomainAdd { domain }) => domain.clone(),
                other => panic!("{other:?}"),
            };
            asked.answer(Response::Domains(vec![domain]));
            Ok(())
        };
        with_server(2, answer, |path| {
            let mode = std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let request =
                Request::Directory(DirectoryRequest::DomainAdd { domain: "a.example".into() });
            let response = ask(path, &request).unwrap();
            assert_eq!(response, Response::Domains(vec!["a.example".into()]));
            assert_eq!(ask(path, &Request::Ping).unwrap(), Response::Done);
        });
    }

    #[test]
    fn says_busy_and_says_nonsense() {
        with_server(
            2,
            |_| Err(Busy),
            |path| {
                let busy = ask(path, &Request::StoreStats).unwrap();
                assert_eq!(busy, Response::Refused("the server is busy, try again".into()));
                let mut stream = UnixStream::connect(path).unwrap();
                stream.write_all(b"{\"format\":\"disk\"}\n\xff\n").unwrap();
                let mut reader = BufReader::new(&stream);
                for _ in 0..2 {
                    let line = read_line(&mut reader, 1_000).unwrap().unwrap();
                    let response: Response = serde_json::from_slice(&line).unwrap();
                    assert!(matches!(response, Response::Wrong(_)), "{response:?}");
                }
            },
        );
    }

    #[test]
    fn those_who_say_nothing_hold_up_nobody() {
        let count = 2 * ADMIN_CLIENTS_MAX;
        with_server(
            count + 1,
            |_| Err(Busy),
            |path| {
                let idle: Vec<UnixStream> =
                    (0..count).map(|_| UnixStream::connect(path).unwrap()).collect();
                assert_eq!(ask(path, &Request::Ping).unwrap(), Response::Done);
                // The oldest were sent away, and have heard of it.
                let mut octet = [0];
                for mut gone in idle.iter().take(count + 1 - ADMIN_CLIENTS_MAX) {
                    assert_eq!(gone.read(&mut octet).unwrap(), 0);
                }
            },
        );
    }

    #[test]
    fn an_answer_that_never_comes_is_a_refusal() {
        let forget = |asked: Asked| {
            drop(asked);
            Ok(())
        };
        with_server(1, forget, |path| {
            let response = ask(path, &Request::StoreStats).unwrap();
            assert!(matches!(response, Response::Refused(_)), "{response:?}");
        });
    }

    #[test]
    fn replaces_the_socket_of_a_dead_server_but_not_of_a_living_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        assert!(matches!(ask(&path, &Request::Ping), Err(AskError::NotRunning)));
        drop(UnixListener::bind(&path).unwrap());
        assert!(matches!(ask(&path, &Request::Ping), Err(AskError::NotRunning)));
        let living = Server::bind(&path).unwrap();
        let error = Server::bind(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        drop(living);
        std::fs::write(&path, "a file").unwrap();
        assert_eq!(Server::bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn bounds_the_length_of_a_line() {
        let mut long = &[b'x'; 100][..];
        assert_eq!(read_line(&mut long, 10).unwrap_err().kind(), ErrorKind::InvalidData);
        let mut exact = &b"123456789\n"[..];
        assert_eq!(read_line(&mut exact, 10).unwrap().unwrap(), b"123456789");
        assert_eq!(read_line(&mut exact, 10).unwrap(), None);
    }
}
