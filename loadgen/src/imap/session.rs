//! One IMAP connection: tags, answers in order, and what the last SELECT said.
//!
//! Commands may be written ahead: each gets a tag of its own, and answers are awaited in the
//! order in which the commands were begun. An answer with another tag is a protocol error.

use std::net::SocketAddr;

use crate::mails::Mail;
use crate::measure::tally::{IMAP_BAD, IMAP_NO, IMAP_OK};
use crate::values::{Pattern, to_u64, write_number};
use crate::wire::imap::{Response, Status, code_value, items, number, parse};
use crate::wire::link::{Link, Trouble};
use crate::wire::reply::last_text;

/// Octets that LITERAL- lets a client send without asking (RFC 7888 §5).
const LITERAL_MINUS_MAX: usize = 4_096;

/// What the server can do, as far as this tool cares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one for each word of CAPABILITY")]
pub(crate) struct Offers {
    pub(crate) literal_plus: bool,
    pub(crate) literal_minus: bool,
    pub(crate) multi_append: bool,
    pub(crate) condstore: bool,
    pub(crate) qresync: bool,
    pub(crate) uid_plus: bool,
    pub(crate) moves: bool,
}

impl Offers {
    /// Reads the words of a CAPABILITY response.
    pub(crate) fn read(line: &[u8]) -> Offers {
        let mut offers = Offers::default();
        for word in line.split(|octet| *octet == b' ') {
            let flag = match word.to_ascii_uppercase().as_slice() {
                b"LITERAL+" => &mut offers.literal_plus,
                b"LITERAL-" => &mut offers.literal_minus,
                b"MULTIAPPEND" => &mut offers.multi_append,
                b"CONDSTORE" => &mut offers.condstore,
                b"QRESYNC" => &mut offers.qresync,
                b"UIDPLUS" => &mut offers.uid_plus,
                b"MOVE" => &mut offers.moves,
                // RFC 9051 appendix E: what the second revision has of its own.
                b"IMAP4REV2" => {
                    (offers.uid_plus, offers.moves, offers.literal_minus) = (true, true, true);
                    continue;
                }
                _ => continue,
            };
            *flag = true;
        }
        offers
    }

    /// May a literal of so many octets go out at once?
    pub(crate) fn may_send_at_once(self, len: usize) -> bool {
        self.literal_plus || (self.literal_minus && len <= LITERAL_MINUS_MAX)
    }
}

/// How a command ended and what came before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    /// FETCH responses.
    pub(crate) fetched: u64,
    /// Octets of all its responses.
    pub(crate) octets: u64,
}

impl Answer {
    pub(crate) fn is_ok(self) -> bool {
        self.status == Status::Ok
    }

    /// As the tally counts it.
    pub(crate) fn code(self) -> u16 {
        match self.status {
            Status::Ok => IMAP_OK,
            Status::No => IMAP_NO,
            _ => IMAP_BAD,
        }
    }
}

/// A connection and what it knows of the selected mailbox.
pub(crate) struct Session {
    pub(crate) link: Link,
    pub(crate) offers: Offers,
    /// Messages by the last EXISTS, less what was expunged since.
    pub(crate) exists: u32,
    /// By the last SELECT.
    pub(crate) uid_next: u32,
    /// The UID that came last in a FETCH.
    pub(crate) uid_seen: u32,
    begun: u64,
    answered: u64,
    /// Text of the last answer that was not OK.
    pub(crate) said: String,
}

impl Session {
    /// Connects and takes the greeting.
    pub(crate) async fn open(to: SocketAddr) -> Result<Session, Trouble> {
        Session::greeted(Link::connect(to, None).await?).await
    }

    /// Takes the greeting of a connection.
    pub(crate) async fn greeted(mut link: Link) -> Result<Session, Trouble> {
        let len = link.peek_response().await?;
        let greeting = parse(&link.received()[..len])?;
        let good =
            matches!(greeting, Response::Notice { status: Status::Ok | Status::PreAuth, .. });
        link.used(len);
        if !good {
            return Err(Trouble::Denied);
        }
        Ok(Session {
            link,
            offers: Offers::default(),
            exists: 0,
            uid_next: 1,
            uid_seen: 1,
            begun: 0,
            answered: 0,
            said: String::new(),
        })
    }

    /// Begins a command: writes its tag and gives the text to append to. No flush.
    pub(crate) fn begin(&mut self) -> &mut Vec<u8> {
        self.begun += 1;
        let number = self.begun;
        let text = self.link.text();
        text.push(b'a');
        write_number(text, number);
        text.push(b' ');
        text
    }

    /// One command without literals, from its first octet to its answer.
    pub(crate) async fn command(&mut self, command: &[u8]) -> Result<Answer, Trouble> {
        self.begin().extend_from_slice(command);
        self.link.send("\r\n").await?;
        self.answer(|_, _| {}).await
    }

    /// The same where nothing but OK lets the session go on.
    pub(crate) async fn must(&mut self, command: &[u8]) -> Result<(), Trouble> {
        if self.command(command).await?.is_ok() { Ok(()) } else { Err(Trouble::Denied) }
    }

    /// LOGIN, then what the server offers to this user.
    pub(crate) async fn login(
        &mut self,
        user: &Pattern,
        password: &Pattern,
        number: u64,
    ) -> Result<(), Trouble> {
        write_login(self.begin(), user, password, number);
        self.link.send("\r\n").await?;
        if !self.answer(|_, _| {}).await?.is_ok() {
            return Err(Trouble::Denied);
        }
        self.begin().extend_from_slice(b"CAPABILITY\r\n");
        self.link.flush().await?;
        let mut offers = Offers::default();
        self.answer(|_, response| {
            if let Response::Data(line) = response
                && line.len() > 10
                && line[..10].eq_ignore_ascii_case(b"CAPABILITY")
            {
                offers = Offers::read(line);
            }
        })
        .await?;
        self.offers = offers;
        Ok(())
    }

    /// Waits for the end of the oldest command that has no answer yet. Each response is shown
    /// as it came and as it was understood.
    pub(crate) async fn answer(
        &mut self,
        mut observe: impl FnMut(&[u8], &Response<'_>),
    ) -> Result<Answer, Trouble> {
        let (mut fetched, mut octets) = (0, 0);
        loop {
            let len = self.link.peek_response().await?;
            octets += to_u64(len);
            let whole = &self.link.received()[..len];
            let response = parse(whole)?;
            observe(whole, &response);
            match response {
                Response::Tagged { tag, status, .. } => {
                    self.answered += 1;
                    if tag.strip_prefix(b"a").and_then(number) != Some(self.answered) {
                        return Err(Trouble::Protocol);
                    }
                    if status != Status::Ok {
                        self.said = last_text(whole);
                    }
                    self.link.used(len);
                    return Ok(Answer { status, fetched, octets });
                }
                Response::Exists(count) => self.exists = count,
                Response::Expunge(_) => self.exists = self.exists.saturating_sub(1),
                Response::Fetch { pairs, .. } => {
                    fetched += 1;
                    if let Some(uid) = uid_of(pairs) {
                        self.uid_seen = uid;
                    }
                }
                Response::Notice { code, .. } => {
                    let next = code_value(code, "UIDNEXT").and_then(number);
                    self.uid_next =
                        next.and_then(|next| u32::try_from(next).ok()).unwrap_or(self.uid_next);
                }
                Response::Continue | Response::Vanished { .. } | Response::Data(_) => {}
            }
            self.link.used(len);
        }
    }

    /// Waits for `+`; `Ok(false)` when the command was answered instead.
    pub(crate) async fn may_go_on(&mut self) -> Result<bool, Trouble> {
        loop {
            let len = self.link.peek_response().await?;
            match parse(&self.link.received()[..len])? {
                Response::Continue => {
                    self.link.used(len);
                    return Ok(true);
                }
                // The answer stays in the buffer for `answer`.
                Response::Tagged { .. } => return Ok(false),
                Response::Exists(count) => self.exists = count,
                _ => {}
            }
            self.link.used(len);
        }
    }

    /// Begins IDLE and waits until the server takes part. [`Trouble::Denied`] when it does not.
    pub(crate) async fn idle(&mut self) -> Result<(), Trouble> {
        self.begin().extend_from_slice(b"IDLE\r\n");
        self.link.flush().await?;
        if self.may_go_on().await? { Ok(()) } else { Err(Trouble::Denied) }
    }

    /// Announces a literal of `len` octets, which the caller then appends. Asks first where
    /// the server wants that; `Ok(false)` when it does not want the literal: the answer is
    /// there to be taken.
    pub(crate) async fn announce(&mut self, len: usize) -> Result<bool, Trouble> {
        let at_once = self.offers.may_send_at_once(len);
        let text = self.link.text();
        text.push(b'{');
        write_number(text, to_u64(len));
        text.extend_from_slice(if at_once { b"+}\r\n" } else { b"}\r\n" });
        if at_once {
            return Ok(true);
        }
        self.link.flush().await?;
        self.may_go_on().await
    }

    /// Appends a message as a literal; see [`Session::announce`].
    pub(crate) async fn literal(
        &mut self,
        mail: &'static Mail,
        mark: u64,
    ) -> Result<bool, Trouble> {
        let wanted = self.announce(mail.len()).await?;
        if wanted {
            mail.write_head(mark, self.link.text());
            self.link.share(mail.body());
        }
        Ok(wanted)
    }
}

/// Appends the LOGIN command; both words are quoted.
pub(crate) fn write_login(out: &mut Vec<u8>, user: &Pattern, password: &Pattern, number: u64) {
    out.extend_from_slice(b"LOGIN ");
    for (index, pattern) in [user, password].into_iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.push(b'"');
        let from = out.len();
        pattern.write(number, out);
        let word = out.split_off(from);
        for octet in word {
            if matches!(octet, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(octet);
        }
        out.push(b'"');
    }
}

/// The UID among the pairs of a FETCH. It stands first or second where this tool asks.
pub(crate) fn uid_of(pairs: &[u8]) -> Option<u32> {
    let (_, value) = items(pairs).take(3).find(|(name, _)| name.eq_ignore_ascii_case(b"UID"))?;
    u32::try_from(number(value)?).ok()
}

/// Where a message of a mailbox of `exists` stands that `share` of `shares` owns: each share
/// goes round its own messages. Returns its number from 1, and how often it came round.
pub(crate) fn own_number(exists: u32, shares: u64, share: u64, step: u64) -> Option<(u64, u64)> {
    let each = u64::from(exists) / shares.max(1);
    (each > 0).then(|| (share * each + step % each + 1, step / each))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_server_offers() {
        let offers = Offers::read(b"CAPABILITY IMAP4rev1 literal+ CONDSTORE X MULTIAPPEND");
        assert!(offers.literal_plus && offers.condstore && offers.multi_append);
        assert!(!offers.uid_plus && !offers.moves && offers.may_send_at_once(1 << 20));
        let offers = Offers::read(b"CAPABILITY IMAP4rev2");
        assert!(offers.uid_plus && offers.moves);
        assert!(offers.may_send_at_once(4_096) && !offers.may_send_at_once(4_097));
    }

    #[test]
    fn quotes_what_must_be_quoted() {
        let mut out = Vec::new();
        let user = Pattern::parse("u%02d").unwrap();
        write_login(&mut out, &user, &Pattern::literal("a\"b\\"), 7);
        assert_eq!(out, br#"LOGIN "u07" "a\"b\\""#);
    }

    #[test]
    fn shares_of_a_mailbox_do_not_overlap() {
        let of = |share, step| own_number(10, 3, share, step);
        assert_eq!((of(0, 0), of(0, 2), of(0, 3)), (Some((1, 0)), Some((3, 0)), Some((1, 1))));
        assert_eq!((of(2, 0), of(2, 2)), (Some((7, 0)), Some((9, 0))));
        assert_eq!(own_number(2, 3, 0, 0), None);
    }
}
