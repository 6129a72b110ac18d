//! Commands out of a stream of octets.
//!
//! ```text
//! command  := text { literal text }... CRLF
//! literal  := ["~"] "{" n ["+"] "}" CRLF  n octets      (RFC 9051 §4.3, RFC 7888, RFC 3516)
//! ```
//! A command that came whole is handed out where it lies. What came in pieces is gathered in the
//! framer, each octet looked at once. The message of APPEND or REPLACE is not gathered: its octets
//! are handed through as they come, however long it is.
//!
//! Whatever is refused, the framer finds the next command: of an overlong line and of a refused
//! literal the rest is passed over, and every line end in it is looked at for a literal that comes
//! without being asked for (RFC 7888 §3). Only what can not be passed over in reason ends the
//! session: [`Event::Lost`].
//!
//! Only CRLF ends a line. At a lone LF the command is refused at once and nothing up to the next
//! CRLF is read as a command; a lone CR is left to the parser, which refuses it too.

use super::command::append::awaits_message;
use crate::bytes::codec::to_u64 as octets_u64;
use crate::model::limits::IMAP_SKIPPED_OCTETS_MAX;
use memchr::memchr;
use std::mem::take;
use std::ops::Range;

#[cfg(test)]
mod tests;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// All of the input was used up; more is needed.
    More,
    /// The client waits to be told to go on with a literal: call [`Framer::accept`] and send
    /// `+`, or [`Framer::refuse`] and answer the command. `text` is the command so far, with the
    /// announcement at its end.
    Literal { text: &'a [u8], octets: u64 },
    /// A whole command without its CRLF; its literals stand in it as they came.
    Command(&'a [u8]),
    /// A message comes. `text` is the command so far (or, from the second message on, what
    /// follows the message before), with the announcement at its end. Call [`Framer::accept`],
    /// send `+` if it is synchronising, and take its [`Event::Data`]; or [`Framer::refuse`] and
    /// answer the command.
    Message { text: &'a [u8], literal: Literal, first: bool },
    /// Octets of the message, never empty.
    Data(&'a [u8]),
    /// The command with the messages is whole; this is what followed the last one, without CRLF.
    MessagesEnd(&'a [u8]),
    /// The command can not be read: answer BAD. `head` is its front, for the tag. What is left of
    /// it is passed over.
    Bad { head: &'a [u8], fault: Fault },
    /// What follows can not be told from the rest of a refused command in reason: say BYE.
    Lost,
}

/// Why a command can not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// LF without CR.
    BareLineFeed,
    /// The command has more octets than allowed.
    TooLong,
    /// A literal is longer than a command may be, or than it may be without being asked for.
    LiteralTooLong,
    /// No fault of the command: more came of it than there is room for now.
    NoRoom,
}

/// An announced literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Literal {
    pub octets: u64,
    /// The client waits for `+` before it sends them.
    pub synchronising: bool,
    /// `~{n}`: NUL may be in it (RFC 3516 §4.4).
    pub binary: bool,
}

/// Octets at the end of a line that an announcement may take: `~{18446744073709551615+}` CRLF.
const ANNOUNCEMENT_OCTETS_MAX: usize = 26;

/// Octets kept of a command in error: its tag stands there.
const HEAD_OCTETS_MAX: usize = 256;

impl Literal {
    /// The literal that a line (without its CRLF) announces at its end.
    pub fn at_end(line: &[u8]) -> Option<Literal> {
        let (body, synchronising) = match line.strip_suffix(b"+}") {
            Some(body) => (body, false),
            None => (line.strip_suffix(b"}")?, true),
        };
        let digits = body.iter().rev().take_while(|octet| octet.is_ascii_digit()).count();
        let (front, digits) = body.split_at(body.len() - digits);
        let front = front.strip_suffix(b"{")?;
        if digits.is_empty() || digits.len() > 20 {
            return None;
        }
        let octets = digits.iter().try_fold(0_u64, |value, &digit| {
            value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        });
        // What no number holds is too long for everybody.
        let octets = octets.unwrap_or(u64::MAX);
        Some(Literal { octets, synchronising, binary: front.ends_with(b"~") })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a line of a command.
    Line,
    /// In a literal of a command: octets still to come.
    Literal(u64),
    /// A literal was announced; the session has not said yet what it wants.
    Asked(Literal, Kind),
    /// In the message: octets still to come.
    Message(u64),
    /// Passing over what is left of a command: octets of a literal first, then a line.
    Skip(u64),
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Argument,
    Message,
}

/// Where a text lies: in this input, or in what is held.
enum Place {
    Input(Range<usize>),
    /// Octets from the front.
    Held(usize),
}

/// [`Event`] by places, so that finding borrows nothing.
enum Found {
    More,
    Literal(Place, u64),
    Command(Place),
    Message(Place, Literal, bool),
    Data(Range<usize>),
    MessagesEnd(Place),
    Bad(Place, Fault),
    Lost,
}

/// What becomes of the rest of a command in error.
#[derive(Clone, Copy)]
enum Rest {
    /// It ended, or its client waits for an answer.
    None,
    /// A literal comes.
    Literal(u64),
    /// Its line goes on.
    Line,
}

/// Finds commands. Owns no memory between commands.
#[derive(Debug)]
pub struct Framer {
    state: State,
    /// What came of the command before this call.
    held: Vec<u8>,
    /// Where the current line begins in the text of the command.
    line_start: usize,
    /// `held` was handed out and is to be dropped.
    delivered: bool,
    /// A message came; lines belong to the command that brought it.
    after_message: bool,
    command_octets_max: usize,
    room: usize,
    unasked_octets_max: u64,
    skip: Skip,
}

/// What is known while a command in error is passed over.
#[derive(Debug, Default)]
struct Skip {
    /// The end of the line so far.
    tail: Tail,
    /// Octets of lines and of literals that may still be passed over.
    line_octets_left: u64,
    literal_octets_left: u64,
}

impl Framer {
    /// `command_octets_max` bounds a command with its line ends and literals, messages not counted.
    pub const fn new(command_octets_max: usize) -> Framer {
        Framer {
            state: State::Line,
            held: Vec::new(),
            line_start: 0,
            delivered: false,
            after_message: false,
            command_octets_max,
            room: usize::MAX,
            unasked_octets_max: u64::MAX,
            skip: Skip { tail: Tail::NEW, line_octets_left: 0, literal_octets_left: 0 },
        }
    }

    /// Another bound for commands: the one before login is small.
    pub fn set_command_octets_max(&mut self, octets: usize) {
        self.command_octets_max = octets;
    }

    /// Octets that there is room for in memory: of a command that is not whole when so many are
    /// held, no more is. At first there is no such bound.
    pub fn set_room(&mut self, octets: usize) {
        self.room = octets;
    }

    /// Octets of memory that are held once `count` more have come, at most.
    pub fn held_with(&self, count: usize) -> usize {
        let (len, held) =
            if self.delivered { (0, 0) } else { (self.held.len(), self.held.capacity()) };
        // As a vector grows.
        if len + count <= held { held } else { (held * 2).max(len + count) }
    }

    /// The longest literal that may come without being asked for: 4,096 under LITERAL- (RFC 7888
    /// §5); without a bound, as it begins, under LITERAL+.
    pub fn set_unasked_octets_max(&mut self, octets: u64) {
        self.unasked_octets_max = octets;
    }

    /// Octets held of a command that is not whole.
    pub fn held_len(&self) -> usize {
        self.held.len()
    }

    /// Some of a command came, and not all of it.
    pub fn is_within_command(&self) -> bool {
        let holds = !self.held.is_empty() && !self.delivered;
        self.after_message || holds || self.state != State::Line
    }

    /// Takes the announced literal.
    pub fn accept(&mut self) {
        let State::Asked(literal, kind) = self.state else { return };
        self.state = match kind {
            Kind::Argument => State::Literal(literal.octets),
            Kind::Message => {
                self.forget();
                self.after_message = true;
                State::Message(literal.octets)
            }
        };
    }

    /// Refuses the announced literal and with it the command, which is to be answered now.
    /// A client that waits for `+` goes on with its next command; what others send is passed over.
    pub fn refuse(&mut self) {
        let State::Asked(literal, _) = self.state else { return };
        self.forget();
        let rest = if literal.synchronising { Rest::None } else { Rest::Literal(literal.octets) };
        self.leave(rest, 0);
    }

    /// Finds what stands at the front of `input`. Returns the octets used up, and what was found.
    ///
    /// With [`Event::More`] all of `input` is used up; with all others, call again with the rest.
    pub fn step<'a>(&'a mut self, input: &'a [u8]) -> (usize, Event<'a>) {
        let (used, found) = self.find(input, true);
        (used, self.event(input, found))
    }

    /// As [`Framer::step`], for lines that are no commands: SASL answers, and DONE. Nothing in
    /// them announces a literal; each comes as [`Event::Command`].
    pub fn step_line<'a>(&'a mut self, input: &'a [u8]) -> (usize, Event<'a>) {
        let (used, found) = self.find(input, false);
        (used, self.event(input, found))
    }

    fn event<'a>(&'a self, input: &'a [u8], found: Found) -> Event<'a> {
        let octets = |place| match place {
            Place::Input(range) => &input[range],
            Place::Held(count) => &self.held[..count],
        };
        match found {
            Found::More => Event::More,
            Found::Literal(place, count) => Event::Literal { text: octets(place), octets: count },
            Found::Command(place) => Event::Command(octets(place)),
            Found::Message(place, literal, first) => {
                Event::Message { text: octets(place), literal, first }
            }
            Found::Data(range) => Event::Data(&input[range]),
            Found::MessagesEnd(place) => Event::MessagesEnd(octets(place)),
            Found::Bad(place, fault) => Event::Bad { head: octets(place), fault },
            Found::Lost => Event::Lost,
        }
    }

    fn forget(&mut self) {
        self.held = Vec::new();
        self.line_start = 0;
        self.delivered = false;
    }

    fn find(&mut self, input: &[u8], literals: bool) -> (usize, Found) {
        if self.delivered {
            self.forget();
        }
        let mut start = 0;
        // The text of the command so far is what is held and `input[start..end]`.
        let mut end = 0;
        loop {
            match self.state {
                State::Line => {
                    let Some(line_feed) = memchr(b'\n', &input[end..]) else {
                        return self.hold(input, start);
                    };
                    end += line_feed + 1;
                    if let Some(found) = self.line(input, &mut start, end, literals) {
                        return (end, found);
                    }
                }
                State::Literal(left) => {
                    let count = front_len(input.len() - end, left);
                    end += count;
                    if left > octets_u64(count) {
                        self.state = State::Literal(left - octets_u64(count));
                        return self.hold(input, start);
                    }
                    self.state = State::Line;
                    self.line_start = self.held.len() + end - start;
                }
                State::Message(0) => self.state = State::Line,
                State::Message(left) => {
                    let count = front_len(input.len() - start, left);
                    if count == 0 {
                        return (start, Found::More);
                    }
                    self.state = State::Message(left - octets_u64(count));
                    return (start + count, Found::Data(start..start + count));
                }
                State::Skip(left) => {
                    let count = self.skip(&input[start..], left);
                    start += count;
                    end = start;
                    if matches!(self.state, State::Skip(_)) {
                        return (start, Found::More);
                    }
                }
                State::Asked(..) => return (start, Found::More),
                State::Lost => return (input.len(), Found::Lost),
            }
        }
    }

    /// Keeps what came of a command that is not whole.
    fn hold(&mut self, input: &[u8], start: usize) -> (usize, Found) {
        self.held.extend_from_slice(&input[start..]);
        if self.held.len() <= self.command_octets_max.min(self.room) {
            return (input.len(), Found::More);
        }
        let over = self.held.len().saturating_sub(self.command_octets_max);
        let fault = if over > 0 { Fault::TooLong } else { Fault::NoRoom };
        let found = self.bad(Place::Held(self.held.len()), fault);
        self.skip.tail = Tail::NEW;
        if let State::Literal(left) = self.state {
            self.leave(Rest::Literal(left), 0);
        } else {
            self.skip.tail.push(self.held.get(self.line_start..).unwrap_or_default());
            self.leave(Rest::Line, over);
        }
        (input.len(), found)
    }

    /// Looks at a line that ends at `end`; nothing is found if a literal follows without a stop.
    fn line(
        &mut self,
        input: &[u8],
        start: &mut usize,
        end: usize,
        literals: bool,
    ) -> Option<Found> {
        if !self.held.is_empty() {
            self.held.extend_from_slice(&input[*start..end]);
            *start = end;
        }
        let text = if self.held.is_empty() { &input[*start..end] } else { &self.held };
        let len = text.len();
        let line = text[self.line_start..].strip_suffix(b"\r\n");
        let literal = line.filter(|_| literals).and_then(Literal::at_end);
        let message = literal.is_some() && (self.after_message || awaits_message(text));
        let place = |count| {
            if self.held.is_empty() {
                Place::Input(*start..*start + count)
            } else {
                Place::Held(count)
            }
        };
        let whole = place(len);
        let rest = match literal {
            _ if line.is_none() => Rest::Line,
            Some(Literal { octets, synchronising: false, .. }) => Rest::Literal(octets),
            _ => Rest::None,
        };
        if len > self.command_octets_max {
            let over = len - self.command_octets_max;
            return Some(self.fail(whole, Fault::TooLong, rest, over));
        }
        if line.is_none() {
            return Some(self.fail(whole, Fault::BareLineFeed, rest, 0));
        }
        let Some(literal) = literal else {
            let text = place(len - 2);
            self.delivered = true;
            self.line_start = 0;
            return Some(if take(&mut self.after_message) {
                Found::MessagesEnd(text)
            } else {
                Found::Command(text)
            });
        };
        let room = octets_u64(self.command_octets_max - len);
        let unasked = !literal.synchronising && literal.octets > self.unasked_octets_max;
        if unasked || !message && literal.octets > room {
            return Some(self.fail(whole, Fault::LiteralTooLong, rest, 0));
        }
        if message {
            self.state = State::Asked(literal, Kind::Message);
            return Some(Found::Message(whole, literal, !self.after_message));
        }
        if !literal.synchronising {
            self.state = State::Literal(literal.octets);
            return None;
        }
        if self.held.is_empty() {
            self.held.extend_from_slice(&input[*start..end]);
        }
        self.state = State::Asked(literal, Kind::Argument);
        Some(Found::Literal(Place::Held(len), literal.octets))
    }

    fn fail(&mut self, text: Place, fault: Fault, rest: Rest, over: usize) -> Found {
        let found = self.bad(text, fault);
        self.skip.tail = Tail::NEW;
        self.leave(rest, over);
        found
    }

    /// The front of a text in error, the same however the input was cut.
    fn bad(&mut self, text: Place, fault: Fault) -> Found {
        let most = HEAD_OCTETS_MAX.min(self.command_octets_max);
        self.delivered = true;
        Found::Bad(
            match text {
                Place::Input(range) => Place::Input(range.start..range.end.min(range.start + most)),
                Place::Held(count) => Place::Held(count.min(most)),
            },
            fault,
        )
    }

    /// Leaves a command in error; `over` octets of its lines came already above the bound.
    fn leave(&mut self, rest: Rest, over: usize) {
        self.after_message = false;
        self.line_start = 0;
        self.skip.literal_octets_left = IMAP_SKIPPED_OCTETS_MAX;
        self.skip.line_octets_left = octets_u64(self.command_octets_max);
        self.state = match rest {
            Rest::None => State::Line,
            Rest::Line => State::Skip(0),
            Rest::Literal(octets) => self.skip.literal(octets),
        };
        if !self.skip.lines(over) {
            self.state = State::Lost;
        }
    }

    /// Passes over what it can; the state says whether that was all.
    fn skip(&mut self, input: &[u8], mut literal_left: u64) -> usize {
        let mut used = 0;
        loop {
            let count = front_len(input.len() - used, literal_left);
            used += count;
            literal_left -= octets_u64(count);
            let rest = &input[used..];
            let line_feed = if literal_left > 0 { None } else { memchr(b'\n', rest) };
            let len = line_feed.map_or(rest.len(), |at| at + 1);
            self.skip.tail.push(&rest[..len]);
            used += len;
            if !self.skip.lines(len) {
                self.state = State::Lost;
                return used;
            }
            self.state = State::Skip(literal_left);
            if line_feed.is_none() {
                return used;
            }
            let line = take(&mut self.skip.tail);
            let Some(line) = line.octets().strip_suffix(b"\r\n") else { continue };
            self.state = match Literal::at_end(line) {
                Some(Literal { octets, synchronising: false, .. }) => self.skip.literal(octets),
                _ => State::Line,
            };
            match self.state {
                State::Skip(octets) => literal_left = octets,
                _ => return used,
            }
        }
    }
}

impl Skip {
    /// Counts octets of lines; false if they are too many.
    fn lines(&mut self, count: usize) -> bool {
        let left = self.line_octets_left.checked_sub(octets_u64(count));
        self.line_octets_left = left.unwrap_or(0);
        left.is_some()
    }

    /// What to do about a literal that comes.
    fn literal(&mut self, octets: u64) -> State {
        match self.literal_octets_left.checked_sub(octets) {
            Some(left) => {
                self.literal_octets_left = left;
                State::Skip(octets)
            }
            None => State::Lost,
        }
    }
}

/// The last octets of a line: as many as an announcement with its CRLF has.
#[derive(Debug)]
struct Tail {
    octets: [u8; ANNOUNCEMENT_OCTETS_MAX],
    len: usize,
}

impl Tail {
    const NEW: Tail = Tail { octets: [0; ANNOUNCEMENT_OCTETS_MAX], len: 0 };

    fn octets(&self) -> &[u8] {
        &self.octets[..self.len]
    }

    fn push(&mut self, text: &[u8]) {
        let text = &text[text.len().saturating_sub(ANNOUNCEMENT_OCTETS_MAX)..];
        let kept = self.len.min(ANNOUNCEMENT_OCTETS_MAX - text.len());
        self.octets.copy_within(self.len - kept..self.len, 0);
        self.len = kept + text.len();
        self.octets[kept..self.len].copy_from_slice(text);
    }
}

impl Default for Tail {
    fn default() -> Tail {
        Tail::NEW
    }
}

/// As many of `len` octets as belong to a literal with `left` to come.
fn front_len(len: usize, left: u64) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(len)
}

/// All of `input` in words, fed in pieces of at most `piece` octets. Literals are taken; messages
/// too, unless what stands in front of them can not be read.
#[cfg(any(test, feature = "sim"))]
fn events_cut(input: &[u8], piece: usize, max: usize) -> Vec<String> {
    let (mut words, mut framer, mut message) = (Vec::new(), Framer::new(max), None::<Vec<u8>>);
    let shown = |text: &[u8]| text.escape_ascii().to_string();
    for part in input.chunks(piece.max(1)) {
        let mut rest = part;
        loop {
            let (used, event) = framer.step(rest);
            assert!(used <= rest.len(), "no more is used than there is");
            rest = &rest[used..];
            if let (Some(octets), false) = (&message, matches!(event, Event::Data(_) | Event::More))
            {
                words.push(format!("data {}", shown(octets)));
                message = None;
            }
            let accept = match event {
                Event::More => {
                    assert!(rest.is_empty(), "more is wanted of what is there");
                    break;
                }
                Event::Lost => {
                    words.push("lost".into());
                    return words;
                }
                Event::Data(octets) => {
                    assert!(!octets.is_empty());
                    message.get_or_insert_default().extend_from_slice(octets);
                    continue;
                }
                Event::Command(text) => {
                    words.push(shown(text));
                    continue;
                }
                Event::MessagesEnd(text) => {
                    words.push(format!("end {}", shown(text)));
                    continue;
                }
                Event::Bad { head, fault } => {
                    words.push(format!("bad {fault:?} {}", shown(head)));
                    continue;
                }
                Event::Literal { text, octets } => {
                    words.push(format!("asks for {octets} {}", shown(text)));
                    true
                }
                Event::Message { text, literal, first } => {
                    let wait = if literal.synchronising { " asks" } else { "" };
                    words.push(format!("message {}{wait} {}", literal.octets, shown(text)));
                    let read = super::command::append::parse(text, true);
                    !first || read.is_ok()
                }
            };
            if accept {
                framer.accept();
            } else {
                words.push("refused".into());
                framer.refuse();
            }
        }
        assert!(framer.held_len() <= max, "what is held has its bound");
    }
    words.extend(message.map(|octets| format!("data {}", shown(&octets))));
    words
}

/// Law: however the input is cut, the events are the same. The first octet chooses the bound.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_frame(data: &[u8]) {
    let Some((&first, input)) = data.split_first() else { return };
    let max = 16 + usize::from(first);
    let whole = events_cut(input, input.len(), max);
    for piece in 1..=7 {
        assert_eq!(events_cut(input, piece, max), whole, "cut into pieces of {piece}");
    }
}
