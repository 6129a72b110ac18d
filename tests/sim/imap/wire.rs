//! What an IMAP server says, one response at a time.

use crate::peer::Peer;
use std::io;

/// Flags of a message as bits, in the order of [`FLAGS`].
pub(super) type Flags = u8;

/// All flags that the clients use.
pub(super) const FLAGS: [&str; 8] =
    ["\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft", "Work", "$Junk", "later"];
pub(super) const DELETED: Flags = 1 << 2;
pub(super) const SEEN: Flags = 1 << 3;

/// The names of flags, in parentheses.
pub(super) fn named(flags: Flags) -> String {
    let names = FLAGS.iter().enumerate().filter(|(bit, _)| flags >> bit & 1 == 1);
    format!("({})", names.map(|(_, name)| *name).collect::<Vec<_>>().join(" "))
}

/// How a command, or a notice, turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ok,
    No,
    Bad,
    Bye,
}

/// `OK [CODE arguments] text`.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub(super) kind: Kind,
    /// The words between the brackets.
    pub(super) code: Vec<String>,
}

impl Status {
    /// The argument of a code with this name.
    pub(super) fn code(&self, name: &str) -> Option<&[String]> {
        self.code.split_first().filter(|(first, _)| *first == name).map(|(_, rest)| rest)
    }

    /// The number that a code with this name gives.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.code(name)?.first()?.parse().ok()
    }
}

/// One FETCH response, as far as it was asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Fetched {
    pub(super) number: u32,
    pub(super) uid: Option<u32>,
    pub(super) flags: Option<Flags>,
    /// Whether `\Recent` is among them.
    pub(super) recent: Option<bool>,
    pub(super) modseq: Option<u64>,
    pub(super) email: Option<String>,
    pub(super) size: Option<u64>,
    pub(super) body: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
pub(super) enum Response {
    Continue,
    Exists(u32),
    Recent(u32),
    Expunge(u32),
    Vanished {
        earlier: bool,
        uids: Vec<u32>,
    },
    Fetch(Fetched),
    Search(Vec<u32>),
    /// LIST: the name of a mailbox or of a subscription, and its attributes.
    Listed {
        name: String,
        attributes: Vec<String>,
    },
    /// STATUS and QUOTA: words and numbers.
    Figures(Vec<(String, u64)>),
    Notice(Status),
    Tagged(String, Status),
    Other,
}

/// The next response.
pub(super) async fn read(peer: &mut Peer) -> io::Result<Response> {
    let mut tokens = Vec::new();
    loop {
        let line = peer.line().await?;
        let literal = literal(&line).filter(|_| line.starts_with(b"* ") || !tokens.is_empty());
        if tokens.is_empty() && literal.is_none() {
            let text = String::from_utf8(line).map_err(|_| strange("octets in a line"))?;
            return plain(&text).ok_or_else(|| strange(&text));
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        tokens.extend(tokens_of(&text));
        let Some(count) = literal else { break };
        tokens.pop();
        tokens.push(Token::Octets(peer.octets(count).await?));
    }
    fetched(&tokens).map(Response::Fetch).ok_or_else(|| strange("a literal where none was asked"))
}

fn strange(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The octets that are announced at the end of a line.
fn literal(line: &[u8]) -> Option<usize> {
    let inner = line.strip_suffix(b"}")?;
    let start = inner.iter().rposition(|&octet| octet == b'{')? + 1;
    std::str::from_utf8(&inner[start..]).ok()?.parse().ok()
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    Word(String),
    Octets(Vec<u8>),
}

fn tokens_of(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let inner = word.trim_start_matches('(');
        tokens.extend(std::iter::repeat_n(Token::Open, word.len() - inner.len()));
        let core = inner.trim_end_matches(')');
        if !core.is_empty() {
            tokens.push(Token::Word(core.to_owned()));
        }
        tokens.extend(std::iter::repeat_n(Token::Close, inner.len() - core.len()));
    }
    tokens
}

/// `* n FETCH (…)`.
fn fetched(tokens: &[Token]) -> Option<Fetched> {
    let word = |at: usize| match tokens.get(at) {
        Some(Token::Word(word)) => Some(word.as_str()),
        _ => None,
    };
    if word(2)? != "FETCH" {
        return None;
    }
    let mut found = Fetched { number: word(1)?.parse().ok()?, ..Fetched::default() };
    let mut at = 3;
    while at < tokens.len() {
        match word(at) {
            Some("UID") => found.uid = Some(word(at + 1)?.parse().ok()?),
            Some("RFC822.SIZE") => found.size = Some(word(at + 1)?.parse().ok()?),
            Some("MODSEQ") => found.modseq = Some(word(at + 2)?.parse().ok()?),
            Some("EMAILID") => found.email = Some(word(at + 2)?.to_owned()),
            Some("BODY[]") => match tokens.get(at + 1)? {
                Token::Octets(octets) => found.body = Some(octets.clone()),
                _ => return None,
            },
            Some("FLAGS") => {
                let names = tokens[at + 2..].iter().take_while(|token| **token != Token::Close);
                let is_recent = |token: &&Token| **token == Token::Word("\\Recent".to_owned());
                found.recent = Some(names.clone().any(|token| is_recent(&token)));
                let bits = names.filter(|token| !is_recent(token)).map(|token| match token {
                    Token::Word(name) => bit(name),
                    _ => None,
                });
                found.flags = Some(bits.sum::<Option<Flags>>()?);
            }
            _ => {}
        }
        at += 1;
    }
    Some(found)
}

fn bit(name: &str) -> Option<Flags> {
    let at = FLAGS.iter().position(|known| known.eq_ignore_ascii_case(name))?;
    Some(1 << at)
}

/// A response without literals.
fn plain(text: &str) -> Option<Response> {
    if text.starts_with('+') {
        return Some(Response::Continue);
    }
    let (tag, rest) = text.split_once(' ')?;
    if let Some(status) = status(rest) {
        return Some(match tag {
            "*" => Response::Notice(status),
            _ => Response::Tagged(tag.to_owned(), status),
        });
    }
    let words: Vec<&str> = rest.split(' ').collect();
    Some(match words.as_slice() {
        [number, "EXISTS"] => Response::Exists(number.parse().ok()?),
        [number, "RECENT"] => Response::Recent(number.parse().ok()?),
        [number, "EXPUNGE"] => Response::Expunge(number.parse().ok()?),
        [_, "FETCH", ..] => Response::Fetch(fetched(&tokens_of(text))?),
        ["VANISHED", "(EARLIER)", set] => Response::Vanished { earlier: true, uids: numbers(set)? },
        ["VANISHED", set] => Response::Vanished { earlier: false, uids: numbers(set)? },
        ["SEARCH", hits @ ..] => {
            let hits = hits.iter().take_while(|hit| !hit.starts_with('('));
            Response::Search(hits.map(|hit| hit.parse().ok()).collect::<Option<_>>()?)
        }
        ["LIST", ..] => {
            let attributes = rest.strip_prefix("LIST (")?.split_once(')')?.0;
            let name = words.last()?.trim_matches('"').to_owned();
            let attributes = attributes.split(' ').map(str::to_owned).collect();
            Response::Listed { name, attributes }
        }
        ["STATUS" | "QUOTA", _, ..] => {
            let inner = rest.split_once('(')?.1.strip_suffix(')')?;
            let words: Vec<&str> = inner.split(' ').filter(|word| !word.is_empty()).collect();
            let width = if rest.starts_with("QUOTA") { 3 } else { 2 };
            let pairs = words
                .chunks(width)
                .map(|pair| Some(((*pair.first()?).to_owned(), pair.get(1)?.parse().ok()?)));
            Response::Figures(pairs.collect::<Option<_>>()?)
        }
        _ => Response::Other,
    })
}

fn status(text: &str) -> Option<Status> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let kind = match word {
        "OK" => Kind::Ok,
        "NO" => Kind::No,
        "BAD" => Kind::Bad,
        "BYE" => Kind::Bye,
        _ => return None,
    };
    let code = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let code = code.map(|(code, _)| code.split(' ').map(str::to_owned).collect());
    Some(Status { kind, code: code.unwrap_or_default() })
}

/// The numbers of a set without `*`, in its order.
pub(super) fn numbers(set: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for range in set.split(',') {
        let (first, last) = range.split_once(':').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        all.extend(first.min(last)..=first.max(last));
    }
    Some(all)
}

/// A set of these numbers.
pub(super) fn set(numbers: impl IntoIterator<Item = u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some(run) if run.1 + 1 == number => run.1 = number,
            _ => runs.push((number, number)),
        }
    }
    let range = |(first, last): (u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}:{last}") }
    };
    runs.into_iter().map(range).collect::<Vec<_>>().join(",")
}
