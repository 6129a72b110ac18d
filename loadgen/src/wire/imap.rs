//! Responses of IMAP, taken off a receive buffer without copying (RFC 9051 §7).
//!
//! [`take_response`] finds where a response ends, literals and all; [`parse`] says which kind
//! it is; [`items`] walks through the pairs of a FETCH. What is unknown is passed over, what
//! cannot be right is [`NoReply`]; nothing here panics whatever the octets are.

use memchr::{memchr, memrchr};

use super::reply::NoReply;

/// Octets of one whole response, literals included; more is no response.
pub(crate) const RESPONSE_OCTETS_MAX: usize = 256 << 20;

/// How a command or a notice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    No,
    Bad,
    PreAuth,
    Bye,
}

/// One response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Response<'a> {
    /// `+`: go on.
    Continue,
    /// The end of a command; `code` is what stands between the brackets.
    Tagged {
        tag: &'a [u8],
        status: Status,
        code: Option<&'a [u8]>,
    },
    /// Untagged OK, NO, BAD, PREAUTH or BYE.
    Notice {
        status: Status,
        code: Option<&'a [u8]>,
    },
    Exists(u32),
    Expunge(u32),
    /// `pairs` is what stands between the parentheses; see [`items`].
    Fetch {
        number: u32,
        pairs: &'a [u8],
    },
    Vanished {
        earlier: bool,
        uids: &'a [u8],
    },
    /// Any other untagged data, without `* ` and the line end.
    Data(&'a [u8]),
}

/// Octets of the response at the front; `Ok(None)` asks for more octets.
pub(crate) fn take_response(input: &[u8]) -> Result<Option<usize>, NoReply> {
    let mut len = 0;
    while let Some(lf) = memchr(b'\n', input.get(len..).unwrap_or_default()) {
        let end = len + lf + 1;
        // Human-readable text may look like a literal and is none.
        let literal = literal_at_end(&input[len..end]).filter(|_| may_hold_literals(input));
        let Some(octets) = literal else { return Ok(Some(end)) };
        len = end.checked_add(octets).filter(|len| *len <= RESPONSE_OCTETS_MAX).ok_or(NoReply)?;
    }
    if input.len() >= RESPONSE_OCTETS_MAX { Err(NoReply) } else { Ok(None) }
}

fn may_hold_literals(input: &[u8]) -> bool {
    let Some(rest) = input.strip_prefix(b"* ") else { return false };
    status(word(rest).0).is_none()
}

/// The octets that `{12}` at the end of a line announces.
fn literal_at_end(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"\n")?;
    let line = line.strip_suffix(b"\r").unwrap_or(line).strip_suffix(b"}")?;
    let digits = &line[memrchr(b'{', line)? + 1..];
    usize::try_from(number(digits.strip_suffix(b"+").unwrap_or(digits))?).ok()
}

/// Understands one whole response, as [`take_response`] found it.
pub(crate) fn parse(response: &[u8]) -> Result<Response<'_>, NoReply> {
    let line = response.strip_suffix(b"\n").ok_or(NoReply)?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.first() == Some(&b'+') {
        return Ok(Response::Continue);
    }
    let (first, rest) = word(line);
    let (second, after) = word(rest);
    if first != b"*" {
        let status = status(second).ok_or(NoReply)?;
        return Ok(Response::Tagged { tag: first, status, code: code(after) });
    }
    if let Some(status) = status(second) {
        return Ok(Response::Notice { status, code: code(after) });
    }
    if second.eq_ignore_ascii_case(b"VANISHED") {
        let (mark, uids) = word(after);
        let earlier = mark.eq_ignore_ascii_case(b"(EARLIER)");
        return Ok(Response::Vanished { earlier, uids: if earlier { uids } else { after } });
    }
    let Some(number) = number(second).and_then(|number| u32::try_from(number).ok()) else {
        return if second.is_empty() { Err(NoReply) } else { Ok(Response::Data(rest)) };
    };
    let (kind, pairs) = word(after);
    if kind.eq_ignore_ascii_case(b"FETCH") {
        let pairs = pairs.strip_prefix(b"(").and_then(|pairs| pairs.strip_suffix(b")"));
        return Ok(Response::Fetch { number, pairs: pairs.ok_or(NoReply)? });
    }
    Ok(if kind.eq_ignore_ascii_case(b"EXISTS") {
        Response::Exists(number)
    } else if kind.eq_ignore_ascii_case(b"EXPUNGE") {
        Response::Expunge(number)
    } else {
        Response::Data(rest)
    })
}

/// What stands before the first blank, and what behind it.
pub(crate) fn word(text: &[u8]) -> (&[u8], &[u8]) {
    memchr(b' ', text).map_or((text, &[]), |at| (&text[..at], &text[at + 1..]))
}

fn status(word: &[u8]) -> Option<Status> {
    let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
    match word.first()? | 0x20 {
        b'o' if is(b"OK") => Some(Status::Ok),
        b'n' if is(b"NO") => Some(Status::No),
        b'b' if is(b"BAD") => Some(Status::Bad),
        b'b' if is(b"BYE") => Some(Status::Bye),
        b'p' if is(b"PREAUTH") => Some(Status::PreAuth),
        _ => None,
    }
}

fn code(text: &[u8]) -> Option<&[u8]> {
    let inner = text.strip_prefix(b"[")?;
    Some(&inner[..memchr(b']', inner)?])
}

/// The rest of a response code that has this name: `7` of `UIDNEXT 7`.
pub(crate) fn code_value<'a>(code: Option<&'a [u8]>, name: &str) -> Option<&'a [u8]> {
    let (found, rest) = word(code?);
    found.eq_ignore_ascii_case(name.as_bytes()).then_some(rest)
}

/// A number in decimal and nothing else.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// The ranges of a set such as `2,4:7`, each from low to high; what is no number ends it.
pub(crate) fn ranges(set: &[u8]) -> impl Iterator<Item = (u32, u32)> {
    set.split(|octet| *octet == b',').map_while(|range| {
        let at = memchr(b':', range);
        let (from, to) = at.map_or((range, range), |at| (&range[..at], &range[at + 1..]));
        let from = u32::try_from(number(from)?).ok()?;
        let to = u32::try_from(number(to)?).ok()?;
        Some((from.min(to), from.max(to)))
    })
}

/// Sources and destinations of `COPYUID validity sources destinations`, in order (RFC 4315 §3).
pub(crate) fn copies(code: Option<&[u8]>) -> Option<Vec<(u32, u32)>> {
    let (sources, destinations) = word(word(code_value(code, "COPYUID")?).1);
    let flat = |set| ranges(set).flat_map(|(from, to)| from..=to);
    Some(flat(sources).zip(flat(destinations)).collect())
}

/// Walks through `name value name value …` of a FETCH.
pub(crate) fn items(pairs: &[u8]) -> Items<'_> {
    Items { rest: pairs }
}

/// Gives names and values as they stand; ends at the first pair that makes no sense.
#[derive(Clone, Debug)]
pub(crate) struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Items<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let rest = self.rest.trim_ascii_start();
        let name_len = value_len(rest)?;
        let (name, rest) = rest.split_at(name_len);
        let rest = rest.strip_prefix(b" ")?;
        let (value, rest) = rest.split_at(value_len(rest)?);
        self.rest = rest;
        Some((name, value))
    }
}

/// Octets of one value: up to a blank that stands outside of strings, brackets and literals.
fn value_len(text: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_u32);
    loop {
        match text.get(at) {
            None => return (at > 0 && depth == 0).then_some(at),
            Some(b' ' | b')') if depth == 0 => return (at > 0).then_some(at),
            Some(b'(' | b'[') => depth += 1,
            Some(b')' | b']') => depth = depth.checked_sub(1)?,
            Some(b'"') => at += quoted_len(&text[at..])? - 1,
            Some(b'{') => at += literal_len(&text[at..])? - 1,
            Some(_) => {}
        }
        at += 1;
    }
}

/// Octets of a quoted string with both its quotes.
fn quoted_len(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Octets of a literal with its announcement.
fn literal_len(text: &[u8]) -> Option<usize> {
    let head = memchr(b'\n', text)? + 1;
    let len = head.checked_add(literal_at_end(&text[..head])?)?;
    (len <= text.len()).then_some(len)
}

/// The octets of a quoted string (as they stand) or of a literal; an atom is its own text.
pub(crate) fn text(value: &[u8]) -> &[u8] {
    match value.strip_prefix(b"~").unwrap_or(value) {
        [b'"', inner @ .., b'"'] => inner,
        literal @ [b'{', ..] => {
            let from = memchr(b'\n', literal).map_or(literal.len(), |at| at + 1);
            &literal[from..]
        }
        atom => atom,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// Takes all responses off `input` and shows them with the names and values of FETCH.
    #[track_caller]
    fn check(input: &str, want: &Expect) {
        use std::fmt::Write as _;
        let (mut rest, mut out) = (input.as_bytes(), String::new());
        let show = |octets: &[u8]| {
            String::from_utf8_lossy(octets).replace("\r\n", "|").replace('\u{1}', "?")
        };
        let show_code = |code: Option<&[u8]>| code.map_or_else(String::new, show);
        while let Ok(Some(len)) = take_response(rest) {
            match parse(&rest[..len]) {
                Ok(Response::Fetch { number, pairs }) => {
                    write!(out, "FETCH {number}").unwrap();
                    for (name, value) in items(pairs) {
                        write!(out, " <{}={}>", show(name), show(text(value))).unwrap();
                    }
                }
                Ok(Response::Tagged { tag, status, code }) => {
                    write!(out, "{} {status:?} {}", show(tag), show_code(code)).unwrap();
                }
                Ok(Response::Notice { status, code }) => {
                    write!(out, "* {status:?} {}", show_code(code)).unwrap();
                }
                Ok(Response::Vanished { earlier, uids }) => {
                    let uids: Vec<_> = ranges(uids).collect();
                    write!(out, "VANISHED {earlier} {uids:?}").unwrap();
                }
                Ok(Response::Data(data)) => write!(out, "DATA {}", show(data)).unwrap(),
                other => write!(out, "{other:?}").unwrap(),
            }
            out.push('\n');
            rest = &rest[len..];
        }
        writeln!(out, "left {}: {:?}", rest.len(), take_response(rest)).unwrap();
        want.assert_eq(&out);
    }

    #[test]
    fn tells_the_kinds_apart() {
        check(
            "* OK [UIDNEXT 12] hi {3}\r\n* 3 EXISTS\r\n* 0 recent\r\n* 2 EXPUNGE\r\n+ go\r\n\
             * SEARCH 1 2\r\n* VANISHED 4,9:7\r\n* VANISHED (EARLIER) 1:2\r\n\
             a1 OK [APPENDUID 1 2] done {99}\r\na2 NO what\r\n* BYE\r\n",
            &expect![[r"
                * Ok UIDNEXT 12
                Ok(Exists(3))
                DATA 0 recent
                Ok(Expunge(2))
                Ok(Continue)
                DATA SEARCH 1 2
                VANISHED false [(4, 4), (7, 9)]
                VANISHED true [(1, 2)]
                a1 Ok APPENDUID 1 2
                a2 No 
                * Bye 
                left 0: Ok(None)
            "]],
        );
    }

    #[test]
    fn literals_belong_to_their_response() {
        check(
            "* 1 FETCH (UID 7 BODY[] {9}\r\na)\r\n{5}\r\n FLAGS (\\Seen $a) ENVELOPE (\"x)\" NIL {2}\r\nhi))\r\n* 2 FETCH (BODY[] {4}\r\nab",
            &expect![[r#"
                FETCH 1 <UID=7> <BODY[]=a)|{5}|> <FLAGS=(\Seen $a)> <ENVELOPE=("x)" NIL {2}|hi)>
                left 25: Ok(None)
            "#]],
        );
        check(
            "* 1 FETCH (BODY[HEADER.FIELDS (\"to\" from)]<0> \"\" BINARY[1] ~{3}\r\n\x01\r\n MODSEQ (5))\r\n* LIST () \"/\" {3}\r\na\"b\r\n",
            &expect![[r#"
                FETCH 1 <BODY[HEADER.FIELDS ("to" from)]<0>=> <BINARY[1]=?|> <MODSEQ=(5)>
                DATA LIST () "/" {3}|a"b
                left 0: Ok(None)
            "#]],
        );
    }

    #[test]
    fn reads_which_copy_is_whose() {
        let wanted = Some(vec![(2, 10), (4, 11), (5, 12)]);
        assert_eq!(copies(Some(b"COPYUID 7 2,4:5 10:12")), wanted);
        assert_eq!(copies(Some(b"APPENDUID 7 2")), None);
    }

    #[test]
    fn refuses_what_is_no_response() {
        for input in ["\r\n", "* \r\n", "a1 WHAT\r\n", "* 1 FETCH UID 7\r\n", "250-ok\r\n"] {
            assert_eq!(parse(input.as_bytes()), Err(NoReply), "{input:?}");
        }
        assert_eq!(take_response(b"* 1 FETCH (X {99999999999}\r\n"), Err(NoReply));
    }

    #[test]
    fn never_panics_and_does_not_depend_on_segmentation() {
        arbtest::arbtest(|u| {
            let mut whole = b"* 1 FETCH (".to_vec();
            for _ in 0..u.int_in_range(0..=40)? {
                whole.push(*u.choose(b"{}()[]\"\\ 0123+~\r\nUa")?);
            }
            whole.extend_from_slice(b")\r\n* 2 EXISTS\r\n");
            let cut = u.int_in_range(0..=whole.len())?;
            let Ok(Some(len)) = take_response(&whole) else { return Ok(()) };
            if cut < len {
                assert_eq!(take_response(&whole[..cut]), Ok(None));
            }
            if let Ok(Response::Fetch { pairs, .. }) = parse(&whole[..len]) {
                assert!(
                    items(pairs).map(|(name, value)| name.len() + text(value).len()).sum::<usize>()
                        <= pairs.len()
                );
            }
            Ok(())
        });
    }
}
