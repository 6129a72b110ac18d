//! IMAP dialogs: how they are written, and how one is played against a server that can be reached.
//!
//! ```text
//! # a remark; the first one names the RFCs that the file is about
//! @raw                      before the first line: nobody is logged in, the greeting comes
//! @quota 100                before the first line: KiB that the user may keep
//! @message_limit 1000       before the first line: the server's imap.message_limit
//! @no_plaintext             before the first line: no password in clear (simulator only)
//! @slow_disk 11             before the first line: a read takes so many seconds (simulator only)
//! @append Sent (\Seen)      another session appends the message that follows
//! > Subject: x              a line of it
//! @fill 1200                another session appends so many small messages to INBOX
//! C a NOOP                  the client sends this line and CRLF
//! R ab\x00\{9*c}            the client sends these octets, escapes read, without CRLF
//! S a OK                    the server says this line
//! S* a OK                   … a line that begins with this
//! S...                      any lines, up to one that fits the next S
//! C2 b NOOP   S2 b OK …     the same in a second session of the same user
//! @deflate                  from here on the first session is deflated, both ways
//! @inflate                  from here on it is not
//! @drain                    the server is told to stop (simulator only)
//! @wait 60                  so many seconds pass (simulator only)
//! closed                    the server hung up on the first session
//! ```
//!
//! `@{name}` stands for what the server says there the first time, and for the same ever after;
//! `@{}` for anything, `@{user}` for the address of the user. Behind the last line a NOOP
//! must be answered, and nothing else may come before. A wrong answer that is known stays in its
//! file under a `# wrong:` remark.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const PASSWORD: &str = "secret";

/// A line may be cut at each of its first octets, up to this one.
const CUT_POSITIONS_MAX: usize = 200;
/// Longer sends are cut into longer pieces, so that there are no more of them.
const PIECES_MAX: usize = 4_096;

/// A message of `@fill`, as a part of APPEND.
const FILLING: &str = " {14+}\r\nSubject: 1\r\n\r\n";
/// Messages that are appended at once: no more than the least limit of messages.
const FILLED_AT_ONCE: usize = 1_000;

/// Lines of what was heard before something went wrong, which are shown.
const HEARD_LINES: usize = 12;

/// A server, and the user that this play is about.
pub(crate) trait Stage {
    type Wire: Wire;
    async fn connect(&self) -> io::Result<Self::Wire>;
    /// Tells the server to stop.
    fn drain(&self);
    /// Lets time pass.
    async fn wait(&self, time: Duration);
    /// The user's address.
    fn user(&self) -> &str;
}

/// The client's end of a connection.
pub(crate) trait Wire {
    async fn send(&mut self, octets: &[u8]) -> io::Result<()>;
    /// What came, in pieces of any size; empty at the end.
    async fn receive(&mut self) -> io::Result<Vec<u8>>;
    /// Long enough for the server to take what was sent.
    async fn pause(&self);
}

/// How the client's octets are cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// What is sent comes at once, and the next when the answer is there.
    Whole,
    /// Each line, or piece of octets, is cut behind this octet.
    At(usize),
    /// Into pieces of so many octets.
    Into(usize),
    /// All that the client can know is sent ahead of the answers.
    Pipelined,
}

/// One thing that happens; with the number of the session.
enum Event {
    Append(String, Vec<u8>),
    Fill(usize),
    Send(usize, String),
    SendRaw(usize, Vec<u8>),
    Said { session: usize, want: String, whole: bool },
    Skip(usize),
    Deflate,
    Inflate,
    Drain,
    Wait(Duration),
    Closed,
}

/// A file of `tests/dialogs/imap`.
#[derive(Default)]
pub(crate) struct Dialog {
    pub(crate) name: String,
    /// The first line, without its `#`.
    pub(crate) about: String,
    raw: bool,
    pub(crate) quota_kib: Option<u64>,
    pub(crate) message_limit: Option<NonZeroU32>,
    pub(crate) no_plaintext: bool,
    /// Seconds that a read takes; nothing is cached then.
    pub(crate) slow_disk: Option<u32>,
    events: Vec<Event>,
}

/// All dialogs, by their names; with `DIALOG` in the environment, the one of that name.
pub(crate) fn dialogs() -> Vec<Dialog> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogs/imap");
    let entries = std::fs::read_dir(root).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "dialog"));
    files.sort();
    assert!(files.len() >= 10, "the dialogs are where they should be");
    if let Ok(one) = std::env::var("DIALOG") {
        files.retain(|file| file.file_stem().is_some_and(|name| name == &*one));
    }
    files.iter().map(|file| Dialog::read(file)).collect()
}

impl Dialog {
    fn read(file: &Path) -> Dialog {
        let text = std::fs::read_to_string(file).unwrap();
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let about = text.lines().next().and_then(|line| line.strip_prefix("# "));
        let about = about.unwrap_or_default().into();
        let mut dialog = Dialog { name, about, ..Dialog::default() };
        for line in text.lines() {
            dialog.take(line).unwrap_or_else(|| panic!("{}: {line}", file.display()));
        }
        dialog
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let session = usize::from(kind.contains('2'));
        let said = |whole| Event::Said { session, want: rest.into(), whole };
        let event = match kind {
            "" | "#" => return Some(()),
            "@raw" => {
                self.raw = true;
                return Some(());
            }
            "@quota" => {
                self.quota_kib = Some(rest.parse().ok()?);
                return Some(());
            }
            "@message_limit" => {
                self.message_limit = Some(rest.parse().ok()?);
                return Some(());
            }
            "@no_plaintext" => {
                self.no_plaintext = true;
                return Some(());
            }
            "@slow_disk" => {
                self.slow_disk = Some(rest.parse().ok()?);
                return Some(());
            }
            ">" => {
                let Some(Event::Append(_, message)) = self.events.last_mut() else { return None };
                message.extend_from_slice(rest.as_bytes());
                message.extend_from_slice(b"\r\n");
                return Some(());
            }
            "@append" => Event::Append(rest.into(), Vec::new()),
            "@fill" => Event::Fill(rest.parse().ok()?),
            "C" | "C2" => Event::Send(session, rest.into()),
            "R" | "R2" => Event::SendRaw(session, unescape(rest)),
            "S" | "S2" => said(true),
            "S*" | "S2*" => said(false),
            "S..." | "S2..." => Event::Skip(session),
            "@deflate" => Event::Deflate,
            "@inflate" => Event::Inflate,
            "@drain" => Event::Drain,
            "@wait" => Event::Wait(Duration::from_secs(rest.parse().ok()?)),
            "closed" => Event::Closed,
            _ => return None,
        };
        self.events.push(event);
        Some(())
    }

    /// Whether only a simulated machine can do what the dialog wants.
    pub(crate) fn is_simulated(&self) -> bool {
        let beyond = |event: &Event| matches!(event, Event::Drain | Event::Wait(_));
        self.events.iter().any(beyond) || self.slow_disk.is_some() || self.no_plaintext
    }

    /// Octets behind which the longest line can be cut.
    pub(crate) fn cut_positions(&self) -> usize {
        let lengths = self.events.iter().map(|event| match event {
            Event::Send(_, line) => line.len() + 2,
            Event::SendRaw(_, octets) => octets.len(),
            _ => 0,
        });
        lengths.max().unwrap_or(0).saturating_sub(1).min(CUT_POSITIONS_MAX)
    }

    pub(crate) async fn play<S: Stage>(&self, stage: &S, cut: Cut) -> Result<(), String> {
        let play = Play { stage, cut, raw: self.raw, sessions: [None, None], other: None };
        let mut heard = String::new();
        let played = Box::pin(play.run(&self.events, &mut heard)).await;
        let lines: Vec<&str> = heard.lines().collect();
        let tail = lines[lines.len().saturating_sub(HEARD_LINES)..].join("\n");
        played.map_err(|why| format!("{}, {cut:?}: {why}; heard\n{tail}", self.name))
    }
}

/// `\r`, `\n`, `\\` and `\xHH` are octets, `\{9*c}` is one repeated.
fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        let escaped = if octet == b'\\' { rest.next() } else { None };
        match escaped {
            None | Some(b'\\') => octets.push(octet),
            Some(b'r') => octets.push(b'\r'),
            Some(b'n') => octets.push(b'\n'),
            Some(b'x') => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                let digits = std::str::from_utf8(&digits).unwrap();
                octets.push(u8::from_str_radix(digits, 16).unwrap());
            }
            Some(b'{') => {
                let count: Vec<u8> = rest.by_ref().take_while(|octet| *octet != b'*').collect();
                let count: usize = std::str::from_utf8(&count).unwrap().parse().unwrap();
                let octet = rest.by_ref().take_while(|octet| *octet != b'}').last().unwrap();
                octets.resize(octets.len() + count, octet);
            }
            other => panic!("no such escape: {other:?}"),
        }
    }
    octets
}

/// A connection with what came and was not read yet.
struct Session<W> {
    wire: W,
    held: Vec<u8>,
    squeeze: Option<(Compress, Decompress)>,
    skips: bool,
}

impl<W: Wire> Session<W> {
    /// Nobody is logged in, and the greeting is not read yet.
    async fn open<S: Stage<Wire = W>>(stage: &S) -> io::Result<Session<W>> {
        let wire = stage.connect().await?;
        Ok(Session { wire, held: Vec::new(), squeeze: None, skips: false })
    }

    async fn login<S: Stage<Wire = W>>(stage: &S) -> io::Result<Session<W>> {
        let mut session = Session::open(stage).await?;
        session.line().await?;
        let login = format!("in LOGIN {} {PASSWORD}\r\n", stage.user());
        session.ok(login.as_bytes(), "in").await?;
        Ok(session)
    }

    async fn send(&mut self, octets: &[u8], cut: Cut) -> io::Result<()> {
        let mut octets = octets.to_vec();
        if let Some((deflate, _)) = &mut self.squeeze {
            let mut squeezed = Vec::with_capacity(octets.len() + 1_024);
            deflate.compress_vec(&octets, &mut squeezed, FlushCompress::Sync).unwrap();
            octets = squeezed;
        }
        let (mut rest, piece) = match cut {
            Cut::At(at) if at < octets.len() => (&octets[at..], octets.len()),
            Cut::Into(size) => (&octets[..], size.max(octets.len().div_ceil(PIECES_MAX))),
            _ => (&octets[..], octets.len()),
        };
        let piece = piece.max(1);
        let front = octets.len() - rest.len();
        if front > 0 {
            self.wire.send(&octets[..front]).await?;
        }
        while !rest.is_empty() {
            if rest.len() < octets.len() {
                self.wire.pause().await;
            }
            let sent = self.wire.send(&rest[..piece.min(rest.len())]).await;
            // Deflated, the last octets say nothing: the server may be gone.
            match sent {
                Err(error) if self.squeeze.is_some() && is_end(&error) => break,
                sent => sent?,
            }
            rest = &rest[piece.min(rest.len())..];
        }
        Ok(())
    }

    /// Takes what comes next; false at the end.
    async fn fill(&mut self) -> io::Result<bool> {
        let octets = self.wire.receive().await?;
        let mut plain = octets.clone();
        if let Some((_, inflate)) = &mut self.squeeze {
            plain = Vec::with_capacity(1 << 18);
            inflate.decompress_vec(&octets, &mut plain, FlushDecompress::Sync).unwrap();
        }
        // The end of what was deflated may come behind its last line; no line begins so.
        let is_first = self.held.is_empty() && self.squeeze.is_none();
        let mark = plain.iter().take_while(|octet| is_first && matches!(octet, 0 | 0xff)).count();
        self.held.extend_from_slice(&plain[mark..]);
        Ok(!octets.is_empty())
    }

    /// The next line without its CRLF; octets that are not UTF-8 are shown as such.
    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.held.windows(2).position(|two| two == b"\r\n") {
                let line = String::from_utf8_lossy(&self.held[..end]).into_owned();
                self.held.drain(..end + 2);
                return Ok(line);
            }
            if !self.fill().await? {
                return Err(io::Error::other("the server hung up"));
            }
        }
    }

    /// Sends a command, which must go well.
    async fn ok(&mut self, command: &[u8], tag: &str) -> io::Result<()> {
        self.send(command, Cut::Whole).await?;
        loop {
            let line = self.line().await?;
            if let Some(answer) = line.strip_prefix(tag) {
                let good = answer.starts_with(" OK");
                return if good { Ok(()) } else { Err(io::Error::other(line)) };
            }
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

type Values = BTreeMap<String, String>;

/// One play under way.
struct Play<'a, S: Stage> {
    stage: &'a S,
    cut: Cut,
    raw: bool,
    sessions: [Option<Session<S::Wire>>; 2],
    /// The one that appends.
    other: Option<Session<S::Wire>>,
}

impl<S: Stage> Play<'_, S> {
    async fn run(mut self, events: &[Event], heard: &mut String) -> Result<(), String> {
        let failed = |error: io::Error| error.to_string();
        let mut values = Values::from([("user".into(), self.stage.user().into())]);
        // Up to here everything was sent ahead.
        let mut sent = 0;
        for (at, event) in events.iter().enumerate() {
            let number = match event {
                Event::Send(session, _)
                | Event::SendRaw(session, _)
                | Event::Skip(session)
                | Event::Said { session, .. } => *session,
                Event::Append(..)
                | Event::Fill(_)
                | Event::Deflate
                | Event::Inflate
                | Event::Drain
                | Event::Wait(_)
                | Event::Closed => 0,
            };
            self.open(number).await.map_err(failed)?;
            let Some(session) = &mut self.sessions[number] else { continue };
            match event {
                Event::Append(to, message) => {
                    let head = format!("{to} {{{}+}}\r\n", message.len());
                    self.append(&[head.as_bytes(), message].concat()).await.map_err(failed)?;
                }
                Event::Fill(count) => self.fill(*count).await.map_err(failed)?,
                Event::Send(..) | Event::SendRaw(..) if at < sent => {}
                Event::Send(..) | Event::SendRaw(..) => {
                    let (octets, end) = match self.cut {
                        Cut::Pipelined => ahead(&events[at..], number, &values),
                        _ => ahead(&events[at..=at], number, &values),
                    };
                    sent = at + end;
                    session.send(&octets, self.cut).await.map_err(failed)?;
                }
                Event::Skip(_) => session.skips = true,
                Event::Inflate => session.squeeze = None,
                Event::Deflate => {
                    let deflate = Compress::new(Compression::best(), false);
                    session.squeeze = Some((deflate, Decompress::new(false)));
                }
                Event::Drain => self.stage.drain(),
                Event::Wait(time) => self.stage.wait(*time).await,
                Event::Said { want, whole, .. } => {
                    expect(session, want, *whole, &mut values, heard).await?;
                }
                Event::Closed => {
                    while session.fill().await.map_err(failed)? {}
                    if !session.held.is_empty() {
                        return Err(format!("{} at the end", session.held.escape_ascii()));
                    }
                    self.sessions[number] = None;
                }
            }
        }
        for session in self.sessions.iter_mut().flatten() {
            session.send(b"last NOOP\r\n", Cut::Whole).await.map_err(failed)?;
            let line = session.line().await.map_err(failed)?;
            if !line.starts_with("last OK") {
                return Err(format!("said more: {line}"));
            }
        }
        Ok(())
    }

    async fn open(&mut self, number: usize) -> io::Result<()> {
        if self.sessions[number].is_none() {
            let session = if self.raw {
                Session::open(self.stage).await?
            } else {
                Session::login(self.stage).await?
            };
            self.sessions[number] = Some(session);
        }
        Ok(())
    }

    /// An APPEND with these arguments, of another session.
    async fn append(&mut self, what: &[u8]) -> io::Result<()> {
        if self.other.is_none() {
            self.other = Some(Session::login(self.stage).await?);
        }
        let command = [b"other APPEND ", what, b"\r\n"].concat();
        match &mut self.other {
            Some(other) => other.ok(&command, "other").await,
            None => Ok(()),
        }
    }

    async fn fill(&mut self, count: usize) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            let some = left.min(FILLED_AT_ONCE);
            self.append(format!("INBOX{}", FILLING.repeat(some)).as_bytes()).await?;
            left -= some;
        }
        Ok(())
    }
}

/// What the client can send now, before it hears anything, and how many events that are.
fn ahead(events: &[Event], number: usize, values: &Values) -> (Vec<u8>, usize) {
    let mut octets = Vec::new();
    let mut end = 0;
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Send(session, line) if *session == number => {
                let line = filled(line, values);
                if line.contains("@{") {
                    break;
                }
                octets.extend_from_slice(line.as_bytes());
                octets.extend_from_slice(b"\r\n");
                end = at + 1;
            }
            Event::SendRaw(session, raw) if *session == number => {
                octets.extend_from_slice(raw);
                end = at + 1;
            }
            Event::Said { session, .. } | Event::Skip(session) if *session == number => {}
            _ => break,
        }
    }
    (octets, end)
}

/// Reads on up to the line that is wanted.
async fn expect<W: Wire>(
    session: &mut Session<W>,
    want: &str,
    whole: bool,
    values: &mut Values,
    heard: &mut String,
) -> Result<(), String> {
    let want = filled(want, values);
    loop {
        let line = session.line().await.map_err(|error| format!("{error}, for {want}"))?;
        writeln!(heard, "    {line}").unwrap();
        if fits(&want, &line, whole, values) {
            session.skips = false;
            return Ok(());
        }
        let tag = want.split(' ').next().filter(|tag| !matches!(*tag, "" | "*"));
        let ended = tag.is_some() && line.split(' ').next() == tag;
        if !session.skips || ended {
            return Err(format!("wanted {want}"));
        }
    }
}

/// The line with the values that are known.
fn filled(line: &str, values: &Values) -> String {
    let known = |line: String, (name, value): (&String, &String)| {
        line.replace(&format!("@{{{name}}}"), value)
    };
    values.iter().fold(line.to_owned(), known)
}

/// Whether the line is the one that is wanted; learns the values that it tells.
fn fits(want: &str, line: &str, whole: bool, values: &mut Values) -> bool {
    let mut parts = want.split("@{");
    let Some(mut line) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut learnt: Values = Values::new();
    for part in parts {
        let (name, text) = part.split_once('}').expect("a name ends");
        let split = if text.is_empty() { Some((line, "")) } else { line.split_once(text) };
        let Some((value, rest)) = split else { return false };
        if learnt.get(name).is_some_and(|known| !name.is_empty() && known != value) {
            return false;
        }
        learnt.insert(name.to_owned(), value.to_owned());
        line = rest;
    }
    if whole && !line.is_empty() {
        return false;
    }
    values.extend(learnt.into_iter().filter(|(name, _)| !name.is_empty()));
    true
}
