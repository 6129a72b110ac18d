//! The records of one connection: what was received is opened, what is to be sent is sealed.
//!
//! Knows no socket and no clock. An idle session holds no buffer: a record of which a part has come
//! is kept in so many octets, everything else lies in blocks that go back to the shard's pool.
//!
//! ```text
//!   socket ─> raw ─┬─────────> rustls ─> buffer of the driver ─> (what does not fit) rest
//!                  └─> tail ─────┘ └───> sealed ─> socket
//!                   (no whole record)
//! ```

use super::client::Authorities;
use super::facts::{End, Facts};
use super::noted::{Noted, Secret, noted};
use super::server::Server;
use crate::bytes::buffer::Buffer;
use crate::bytes::chain::Chain;
use crate::model::limits::TLS_MESSAGE_OCTETS_MAX;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::crypto::SupportedKxGroup;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, CommonState, Error, HandshakeKind, ServerConfig};
use std::cell::RefCell;
use std::sync::Arc;

/// Octets in front of the body of a record (RFC 8446 §5.1).
const HEAD_OCTETS: usize = 5;
/// Octets of text of one record (RFC 8446 §5.1).
const RECORD_OCTETS_MAX: usize = 16 << 10;
/// Octets of text that are sealed before they are sent.
const PIECE_OCTETS: usize = 64 << 10;
/// What a record has besides its text, at most, in the suites that are spoken here.
const RECORD_OVERHEAD_OCTETS: usize = 32;

thread_local! {
    /// Short texts are gathered here into one record.
    static GATHERED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Keys, and what rustls knows of the connection, by the end of it that is ours.
enum Tls {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// What rustls has twice, in the same words.
trait Side {
    type Data;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        input: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
        self.process_tls_records(input)
    }
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        input: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, ClientConnectionData> {
        self.process_tls_records(input)
    }
}

/// What is to be sealed.
enum Said<'a> {
    Text(&'a [u8]),
    /// That nothing more is sent.
    End,
}

impl Tls {
    fn state(&self) -> &CommonState {
        match self {
            Tls::Server(tls) => tls,
            Tls::Client(tls) => tls,
        }
    }

    fn work(
        &mut self,
        input: &mut [u8],
        sealed: &mut Vec<u8>,
        sink: &mut Sink<'_>,
        ended: &mut bool,
    ) -> Result<usize, Error> {
        match self {
            Tls::Server(tls) => work(tls, input, sealed, sink, ended),
            Tls::Client(tls) => work(tls, input, sealed, sink, ended),
        }
    }
}

/// One connection's keys and what of its octets is under way.
pub(super) struct Session {
    tls: Tls,
    noted: Noted,
    /// Received and not looked at.
    pub(super) raw: Buffer,
    /// The front of a message of several records, and of a record that is not whole.
    tail: Vec<u8>,
    /// Octets of the first: rustls knows them by where they lie, and has opened them in place, so that
    /// they are no records any more.
    known: usize,
    /// Text that did not fit where it should go.
    rest: Buffer,
    /// Records to be sent.
    sealed: Vec<u8>,
    /// Why nothing more can be received.
    failed: Option<Error>,
    /// The peer has said that it sends no more.
    ended: bool,
}

/// Octets that make the last record of `octets` whole; 0 where it is.
pub(super) fn missing(octets: &[u8]) -> usize {
    match octets.get(whole(octets)..).unwrap_or_default() {
        [] => 0,
        [_, _, _, high, low, body @ ..] => {
            usize::from(u16::from_be_bytes([*high, *low])) - body.len()
        }
        head => HEAD_OCTETS - head.len(),
    }
}

/// Octets of the records at the front that are whole.
fn whole(octets: &[u8]) -> usize {
    let mut whole = 0;
    while let Some(&[_, _, _, high, low]) = octets.get(whole..whole + HEAD_OCTETS) {
        let end = whole + HEAD_OCTETS + usize::from(u16::from_be_bytes([high, low]));
        if end > octets.len() {
            break;
        }
        whole = end;
    }
    whole
}

/// Puts a record of rustls behind `sealed`.
fn encode<Data>(mut data: EncodeTlsData<'_, Data>, sealed: &mut Vec<u8>) -> Result<(), Error> {
    let start = sealed.len();
    let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) else { return Ok(()) };
    sealed.resize(start + size.required_size, 0);
    data.encode(&mut sealed[start..]).map_err(|error| Error::General(error.to_string()))?;
    Ok(())
}

/// Seals `text` behind `sealed`.
fn encrypt<Data>(
    traffic: &mut WriteTraffic<'_, Data>,
    text: &[u8],
    sealed: &mut Vec<u8>,
) -> Result<(), Error> {
    let start = sealed.len();
    let records = text.len().div_ceil(RECORD_OCTETS_MAX);
    let mut room = text.len() + records * RECORD_OVERHEAD_OCTETS;
    loop {
        sealed.resize(start + room, 0);
        match traffic.encrypt(text, &mut sealed[start..]) {
            Ok(written) => {
                sealed.truncate(start + written);
                return Ok(());
            }
            Err(EncryptError::InsufficientSize(size)) if size.required_size > room => {
                room = size.required_size;
            }
            Err(error) => return Err(Error::General(error.to_string())),
        }
    }
}

/// Where text goes: into the driver's buffer, and what does not fit into `rest`.
struct Sink<'a> {
    buffer: Option<&'a mut Buffer>,
    rest: &'a mut Buffer,
}

impl Sink<'_> {
    fn put(&mut self, text: &[u8]) {
        let taken = self.buffer.as_mut().map_or(0, |buffer| buffer.push(text));
        let kept = self.rest.push(&text[taken..]);
        // A record fits in a block, and `rest` was empty: see `is_full`.
        assert_eq!(taken + kept, text.len(), "a record fits in a block");
    }

    /// No further record may be opened.
    fn is_full(&self) -> bool {
        !self.rest.is_empty() || self.buffer.as_ref().is_some_and(|buffer| buffer.is_full())
    }
}

impl Session {
    /// Of a client that has said `hello`, in records as they came.
    pub(super) fn new(config: Arc<ServerConfig>, hello: Vec<u8>) -> Result<Session, Error> {
        let tls = UnbufferedServerConnection::new(config)?;
        Ok(Session { tail: hello, ..Session::with(Tls::Server(tls)) })
    }

    /// With a server of this name; what is to be said first is sealed.
    pub(super) fn call(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Session, Error> {
        let tls = UnbufferedClientConnection::new(config, name)?;
        let mut session = Session::with(Tls::Client(tls));
        let Session { tls, rest, sealed, ended, .. } = &mut session;
        tls.work(&mut [], sealed, &mut Sink { buffer: None, rest }, ended)?;
        Ok(session)
    }

    fn with(tls: Tls) -> Session {
        Session {
            tls,
            noted: Noted::default(),
            raw: Buffer::new(),
            tail: Vec::new(),
            known: 0,
            rest: Buffer::new(),
            sealed: Vec::new(),
            failed: None,
            ended: false,
        }
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.state().is_handshaking()
    }

    /// No key exchange is complete: the signature may be still to come.
    pub(super) fn may_sign(&self) -> bool {
        self.tls.state().negotiated_key_exchange_group().is_none()
    }

    /// The certificates that the other side has shown, or had shown in the connection where the session
    /// began; the first is its own.
    pub(super) fn shown(&self) -> &[CertificateDer<'static>] {
        self.tls.state().peer_certificates().unwrap_or_default()
    }

    /// The peer has ended its side properly.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// What is to be sent, by whatever was done before.
    pub(super) fn take_sealed(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.sealed)
    }

    /// Goes on with the handshake as far as what was received reaches. After an error there may be
    /// an alert to be sent.
    pub(super) fn shake(&mut self) -> Result<(), Error> {
        let (done, noted) = noted(|| self.open_into(None));
        self.noted.add(noted);
        done.or_else(|error| self.fail(error))
    }

    /// What was negotiated with a client; `None` before the handshake is done. `authorities`: of those
    /// that the client was asked for.
    pub(super) fn facts(
        &mut self,
        authorities: Option<&Authorities>,
        now: UnixTime,
    ) -> Option<Facts> {
        let noted = std::mem::take(&mut self.noted);
        let identity = noted.identity?;
        let client = authorities.and_then(|authorities| authorities.judge(self.shown(), now));
        let end = End::Ours { identity, client: client.map(Box::new) };
        self.negotiated(noted.name, noted.exporter, end)
    }

    /// What was negotiated with a server that was asked for by `name`, and found to be this one.
    pub(super) fn facts_of(&mut self, name: Option<Box<str>>, server: Server) -> Option<Facts> {
        let noted = std::mem::take(&mut self.noted);
        self.negotiated(name, noted.exporter, End::Theirs(Box::new(server)))
    }

    fn negotiated(
        &self,
        name: Option<Box<str>>,
        exporter: Option<Secret>,
        end: End,
    ) -> Option<Facts> {
        let state = self.tls.state();
        let group = state.negotiated_key_exchange_group();
        Some(Facts {
            version: state.protocol_version()?,
            suite: state.negotiated_cipher_suite()?.suite(),
            group: group.map(SupportedKxGroup::name),
            resumed: state.handshake_kind()? == HandshakeKind::Resumed,
            name,
            alpn: state.alpn_protocol().map(|name| String::from_utf8_lossy(name).into()),
            end,
            exporter,
        })
    }

    /// Puts text that was received into `buffer`, which has room. 0: more has to be received, or
    /// [`Session::has_ended`].
    pub(super) fn open(&mut self, buffer: &mut Buffer) -> Result<usize, Error> {
        let before = buffer.len();
        let moved = buffer.push(self.rest.filled());
        self.rest.consume(moved);
        if moved > 0 {
            return Ok(moved);
        }
        if let Some(error) = self.failed.clone() {
            return Err(error);
        }
        match self.open_into(Some(buffer)) {
            Ok(()) => Ok(buffer.len() - before),
            // What came before it is good.
            Err(error) => match self.fail(error) {
                Err(_) if buffer.len() > before => Ok(buffer.len() - before),
                failed => failed.map(|()| 0),
            },
        }
    }

    /// Remembers the error. From here on rustls is not asked any more: it may know of a message whose
    /// octets are gone.
    fn fail(&mut self, error: Error) -> Result<(), Error> {
        self.failed = Some(error.clone());
        self.raw = Buffer::new();
        self.tail = Vec::new();
        Err(error)
    }

    fn open_into(&mut self, mut buffer: Option<&mut Buffer>) -> Result<(), Error> {
        let Session { tls, raw, tail, known, rest, sealed, ended, .. } = self;
        loop {
            let mut sink = Sink { buffer: buffer.as_deref_mut(), rest };
            if sink.is_full() {
                return Ok(());
            }
            if !tail.is_empty() {
                let wanted = match &tail[*known..] {
                    [] => HEAD_OCTETS,
                    fresh => missing(fresh),
                };
                let count = wanted.min(raw.len());
                tail.extend_from_slice(&raw.filled()[..count]);
                raw.consume(count);
                if count < wanted {
                    return Ok(());
                }
                if missing(&tail[*known..]) > 0 {
                    continue;
                }
                let used = tls.work(tail, sealed, &mut sink, ended)?;
                tail.drain(..used);
                // Where the sink is full what is left are records still.
                *known = if sink.is_full() { 0 } else { tail.len() };
                if tail.is_empty() {
                    *tail = Vec::new();
                } else if *known > TLS_MESSAGE_OCTETS_MAX {
                    return Err(Error::General("a message of too many records".into()));
                }
            } else if raw.is_empty() {
                return Ok(());
            } else {
                let whole = whole(raw.filled());
                let used = tls.work(raw.filled_mut(), sealed, &mut sink, ended)?;
                let is_full = sink.is_full();
                raw.consume(used);
                if is_full {
                    return Ok(());
                }
                *known = whole - used;
                tail.extend_from_slice(raw.filled());
                raw.consume(raw.len());
            }
        }
    }

    /// Seals some of `text`, at least an octet if there is one.
    pub(super) fn seal(&mut self, text: &mut Chain) -> Result<(), Error> {
        let first = text.slices().find(|slice| !slice.is_empty()).unwrap_or_default();
        let piece = if first.len() >= RECORD_OCTETS_MAX || first.len() == text.len() {
            let first = first.get(..PIECE_OCTETS).unwrap_or(first);
            self.write(&Said::Text(first))?;
            first.len()
        } else {
            GATHERED.with_borrow_mut(|gathered| {
                gathered.clear();
                for slice in text.slices() {
                    let room = RECORD_OCTETS_MAX - gathered.len();
                    gathered.extend_from_slice(slice.get(..room).unwrap_or(slice));
                    if gathered.len() == RECORD_OCTETS_MAX {
                        break;
                    }
                }
                self.write(&Said::Text(gathered)).map(|()| gathered.len())
            })?
        };
        text.consume(piece);
        Ok(())
    }

    /// Seals the word that nothing more is sent (RFC 8446 §6.1).
    pub(super) fn end(&mut self) {
        // Who is told of an error already needs no other word.
        drop(self.write(&Said::End));
    }

    fn write(&mut self, said: &Said<'_>) -> Result<(), Error> {
        if let Some(error) = self.failed.clone() {
            return Err(error);
        }
        let Session { tls, tail, known, sealed, .. } = self;
        match tls {
            Tls::Server(tls) => write(tls, tail, known, said, sealed),
            Tls::Client(tls) => write(tls, tail, known, said, sealed),
        }
    }
}

/// Brings the connection to where it may send, and seals what is said.
fn write<S: Side>(
    tls: &mut S,
    tail: &mut Vec<u8>,
    known: &mut usize,
    said: &Said<'_>,
    sealed: &mut Vec<u8>,
) -> Result<(), Error> {
    loop {
        // The front of a message of several records is known to rustls by where it lies.
        let status = tls.process(tail);
        let discard = status.discard;
        match status.state? {
            ConnectionState::EncodeTlsData(data) => encode(data, sealed)?,
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::WriteTraffic(mut traffic) => match said {
                Said::Text(text) => return encrypt(&mut traffic, text, sealed),
                Said::End => {
                    let start = sealed.len();
                    sealed.resize(start + HEAD_OCTETS + 2 + RECORD_OVERHEAD_OCTETS, 0);
                    let room = &mut sealed[start..];
                    let written = traffic.queue_close_notify(room).unwrap_or(0);
                    sealed.truncate(start + written);
                    return Ok(());
                }
            },
            ConnectionState::PeerClosed => {}
            _ => return Err(Error::General("nothing can be sent".into())),
        }
        tail.drain(..discard);
        *known = known.saturating_sub(discard);
    }
}

/// Opens records off the front of `input` into `sink` until it is full or no whole record is left.
/// Returns how many octets of `input` were used up.
fn work<S: Side>(
    tls: &mut S,
    input: &mut [u8],
    sealed: &mut Vec<u8>,
    sink: &mut Sink<'_>,
    ended: &mut bool,
) -> Result<usize, Error> {
    let mut used = 0;
    loop {
        let status = tls.process(&mut input[used..]);
        let mut discard = status.discard;
        let state = match status.state {
            Ok(state) => state,
            Err(error) => {
                alert(tls, &mut input[used + discard..], sealed);
                return Err(error);
            }
        };
        let goes_on = match state {
            ConnectionState::EncodeTlsData(data) => {
                encode(data, sealed)?;
                true
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                true
            }
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    sink.put(record.payload);
                }
                !sink.is_full()
            }
            ConnectionState::PeerClosed => {
                *ended = true;
                true
            }
            ConnectionState::BlockedHandshake
            | ConnectionState::WriteTraffic(_)
            | ConnectionState::Closed => false,
            _ => return Err(Error::General("early data was not asked for".into())),
        };
        used += discard;
        if !goes_on {
            return Ok(used);
        }
    }
}

/// Seals what is to be said of an error. `input` is what lay behind the message that was wrong: rustls
/// may have found another one in it, and looks for it there.
fn alert<S: Side>(tls: &mut S, input: &mut [u8], sealed: &mut Vec<u8>) {
    let mut used = 0;
    loop {
        let start = sealed.len();
        let status = tls.process(&mut input[used..]);
        used += status.discard;
        match status.state {
            Ok(ConnectionState::EncodeTlsData(data)) => {
                // The alert is the last. Asked again, rustls would come to the same error, and panic
                // since it has been told already.
                if encode(data, sealed).is_err() || is_alert(&sealed[start..]) {
                    return;
                }
            }
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            _ => return,
        }
    }
}

/// Whether this record is an alert: by its type, or in TLS 1.3, which hides that, by being shorter than
/// any message of a handshake (RFC 8446 §5.2).
fn is_alert(record: &[u8]) -> bool {
    const ALERT: u8 = 21;
    const HIDDEN: u8 = 23;
    // Level and description, the type, and the tag of all suites that are spoken here.
    const HIDDEN_OCTETS: usize = HEAD_OCTETS + 2 + 1 + 16;
    match record.first() {
        Some(&ALERT) => true,
        Some(&HIDDEN) => record.len() == HIDDEN_OCTETS,
        _ => false,
    }
}
