//! One SMTP or LMTP command line, without its CRLF (RFC 5321 §4.1, RFC 3030 §2, RFC 2033 §4).
//!
//! Verbs count in any case; exactly one space parts them from what follows. Whether a command
//! is in order now is the session's matter, not the parser's.

use super::param::{Extensions, MailParams, ParamError, RcptParams};
use super::xclient::Xclient;
use crate::model::limits::HELLO_OCTETS_MAX;
use crate::wire::address::{ForwardPath, ReversePath, take_forward_path, take_reverse_path};

/// Which greeting a client used; it tells what it can understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloKind {
    Helo,
    Ehlo,
    Lhlo,
}

/// MAIL: where the message comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender<'a> {
    pub path: ReversePath<'a>,
    pub params: MailParams<'a>,
}

/// RCPT: where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient<'a> {
    pub path: ForwardPath<'a>,
    pub params: RcptParams<'a>,
}

/// BDAT: octets that follow the line (RFC 3030 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub len: u64,
    pub last: bool,
}

/// A command that is sound by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// The name that the client gives itself: graphic ASCII, never empty.
    Hello(HelloKind, &'a str),
    Mail(Sender<'a>),
    Rcpt(Recipient<'a>),
    Data,
    Bdat(Chunk),
    Rset,
    Noop,
    Quit,
    Help,
    /// AUTH (RFC 4954 §4); an initial response as it came, in base64 or `=`.
    Auth {
        mechanism: &'a [u8],
        initial: Option<&'a [u8]>,
    },
    /// From here on by TLS (RFC 3207).
    StartTls,
    /// Whom to verify; never empty.
    Vrfy(&'a str),
    /// Which list to expand; never empty.
    Expn(&'a str),
    /// Who the client of a trusted proxy is.
    Xclient(Box<Xclient>),
}

impl Command<'_> {
    /// It brings no message nearer.
    pub fn is_junk(&self) -> bool {
        match self {
            Command::Hello(..)
            | Command::Rset
            | Command::Noop
            | Command::Help
            | Command::StartTls
            | Command::Vrfy(_)
            | Command::Expn(_) => true,
            Command::Mail(_)
            | Command::Rcpt(_)
            | Command::Data
            | Command::Bdat(_)
            | Command::Auth { .. }
            | Command::Xclient(_)
            | Command::Quit => false,
        }
    }
}

/// Why a line is no command that can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// No command by that verb (500).
    Unknown,
    /// A command of some extension that is not offered (502).
    NotOffered,
    /// A protocol for other ports: hang up (A browser was made to post mail.)
    Foreign,
    /// A bad argument (501).
    Argument,
    /// No reverse path where one belongs (501).
    SenderSyntax,
    /// No forward path where one belongs (501).
    RecipientSyntax,
    /// A MAIL or RCPT parameter that is not known (555).
    UnknownParam,
    /// A MAIL or RCPT parameter with a bad value, or twice (501).
    BadParam,
    /// A BDAT with a bad argument behind its size: the octets follow all the same (501).
    Chunk(u64),
    /// A sender outside ASCII without SMTPUTF8 (550, RFC 6531 §3.5).
    SenderNeedsUtf8,
}

impl From<ParamError> for CommandError {
    fn from(error: ParamError) -> CommandError {
        match error {
            ParamError::Bad => CommandError::BadParam,
            ParamError::Unknown => CommandError::UnknownParam,
        }
    }
}

/// What a listener takes beyond what every one does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dialect {
    /// What is offered, and its parameters known.
    pub extensions: Extensions,
    /// A name of a client with comments and further words behind it; only the first word counts.
    pub odd_hello: bool,
    /// XCLIENT, from proxies that are trusted.
    pub xclient: bool,
}

/// Reads one line.
pub fn parse(line: &[u8], dialect: Dialect) -> Result<Command<'_>, CommandError> {
    let (verb, argument) = match memchr::memchr(b' ', line) {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, &[][..]),
    };
    let mut upper = [0; 8];
    let Some(upper) = upper.get_mut(..verb.len()) else { return Err(foreign(line)) };
    upper.copy_from_slice(verb);
    upper.make_ascii_uppercase();
    match &*upper {
        b"MAIL" => mail(argument, dialect),
        b"RCPT" => rcpt(argument, dialect),
        b"DATA" => alone(argument, Command::Data),
        b"BDAT" => bdat(argument),
        b"EHLO" => hello(HelloKind::Ehlo, argument, dialect),
        b"HELO" => hello(HelloKind::Helo, argument, dialect),
        b"LHLO" => hello(HelloKind::Lhlo, argument, dialect),
        b"RSET" => alone(argument, Command::Rset),
        b"QUIT" => alone(argument, Command::Quit),
        b"NOOP" => Ok(Command::Noop),
        b"HELP" => Ok(Command::Help),
        b"VRFY" => Ok(Command::Vrfy(whom(argument)?)),
        b"EXPN" => Ok(Command::Expn(whom(argument)?)),
        b"AUTH" if dialect.extensions.has(Extensions::AUTH) => auth(argument),
        b"XCLIENT" if dialect.xclient => {
            let told = Xclient::parse(argument).ok_or(CommandError::Argument)?;
            Ok(Command::Xclient(Box::new(told)))
        }
        b"STARTTLS" => alone(argument, Command::StartTls),
        b"AUTH" | b"ETRN" | b"ATRN" | b"TURN" | b"SEND" | b"SOML" | b"SAML" | b"BURL" => {
            Err(CommandError::NotOffered)
        }
        _ => Err(foreign(line)),
    }
}

/// Unknown, or HTTP: what a browser can be made to send to this port.
fn foreign(line: &[u8]) -> CommandError {
    const VERBS: [&[u8]; 9] = [
        b"GET ",
        b"POST ",
        b"PUT ",
        b"HEAD ",
        b"OPTIONS ",
        b"CONNECT ",
        b"DELETE ",
        b"PATCH ",
        b"PRI ",
    ];
    let is_http = VERBS.iter().any(|verb| line.starts_with(verb))
        && memchr::memmem::find(line, b" HTTP/").is_some();
    if is_http { CommandError::Foreign } else { CommandError::Unknown }
}

/// A command that takes no argument; spaces behind it are no argument (RFC 5321 §4.1.1).
fn alone<'a>(argument: &[u8], command: Command<'a>) -> Result<Command<'a>, CommandError> {
    if argument.trim_ascii_end().is_empty() { Ok(command) } else { Err(CommandError::Argument) }
}

/// One word is a name, whatever it looks like: clients are known to give odd ones, with underscores
/// and without dots (RFC 5321 §4.1.4 forbids to refuse for it). What comments, paths and lists are
/// made of stands in no name.
fn hello(kind: HelloKind, argument: &[u8], dialect: Dialect) -> Result<Command<'_>, CommandError> {
    let argument = argument.trim_ascii();
    let word = argument.split(|&octet| octet == b' ').next().unwrap_or_default();
    let is_name = |octet: &u8| octet.is_ascii_graphic() && !b"()<>,;\"\\".contains(octet);
    let sound = if dialect.odd_hello {
        argument.iter().all(|octet| octet.is_ascii_graphic() || *octet == b' ')
    } else {
        argument.iter().all(is_name)
    };
    let fits = (1..=HELLO_OCTETS_MAX).contains(&word.len());
    let name = std::str::from_utf8(word).map_err(|_| CommandError::Argument)?;
    if sound && fits { Ok(Command::Hello(kind, name)) } else { Err(CommandError::Argument) }
}

/// A string that a person could have typed; SMTPUTF8 may stand behind it (RFC 6531 §3.7.4.2).
fn whom(argument: &[u8]) -> Result<&str, CommandError> {
    const PARAM: &str = " SMTPUTF8";
    let mut text = std::str::from_utf8(argument).map_err(|_| CommandError::Argument)?.trim();
    if let Some((front, end)) =
        text.len().checked_sub(PARAM.len()).and_then(|at| text.split_at_checked(at))
        && end.eq_ignore_ascii_case(PARAM)
    {
        text = front.trim_end();
    }
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(CommandError::Argument);
    }
    Ok(text)
}

/// What follows `keyword:` and the space that some clients put there.
fn behind<'a>(argument: &'a [u8], keyword: &[u8]) -> Option<&'a [u8]> {
    let (front, rest) = argument.split_at_checked(keyword.len())?;
    let rest = front.eq_ignore_ascii_case(keyword).then_some(rest)?;
    Some(rest.strip_prefix(b" ").unwrap_or(rest))
}

fn mail(argument: &[u8], dialect: Dialect) -> Result<Command<'_>, CommandError> {
    let text = behind(argument, b"FROM:").ok_or(CommandError::SenderSyntax)?;
    let (path, rest) = take_reverse_path(text).map_err(|_| CommandError::SenderSyntax)?;
    let params = MailParams::parse(rest, dialect.extensions)?;
    if !path.is_ascii() && !params.utf8 {
        return Err(CommandError::SenderNeedsUtf8);
    }
    Ok(Command::Mail(Sender { path, params }))
}

fn rcpt(argument: &[u8], dialect: Dialect) -> Result<Command<'_>, CommandError> {
    let text = behind(argument, b"TO:").ok_or(CommandError::RecipientSyntax)?;
    let (path, rest) = take_forward_path(text).map_err(|_| CommandError::RecipientSyntax)?;
    Ok(Command::Rcpt(Recipient { path, params: RcptParams::parse(rest, dialect.extensions)? }))
}

/// A space at the end is none that an initial response follows.
fn auth(argument: &[u8]) -> Result<Command<'_>, CommandError> {
    let mut words = argument.trim_ascii_end().split(|&octet| octet == b' ');
    match (words.next(), words.next(), words.next()) {
        (Some(mechanism), initial, None) if !mechanism.is_empty() && initial != Some(b"") => {
            Ok(Command::Auth { mechanism, initial })
        }
        _ => Err(CommandError::Argument),
    }
}

fn bdat(argument: &[u8]) -> Result<Command<'_>, CommandError> {
    let mut words = argument.split(|&octet| octet == b' ').filter(|word| !word.is_empty());
    let digits = words.next().ok_or(CommandError::Argument)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(CommandError::Argument);
    }
    // A size that no number holds is as good as endless: the session is given up in time.
    let text = std::str::from_utf8(digits).map_err(|_| CommandError::Argument)?;
    let len = text.parse().unwrap_or(u64::MAX);
    match (words.next(), words.next()) {
        (None, _) => Ok(Command::Bdat(Chunk { len, last: false })),
        (Some(word), None) if word.eq_ignore_ascii_case(b"LAST") => {
            Ok(Command::Bdat(Chunk { len, last: true }))
        }
        _ => Err(CommandError::Chunk(len)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(line: &str, want: Expect) {
        check_in(line, Dialect::default(), want);
    }

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
    fn check_in(line: &str, dialect: Dialect, want: Expect) {
        want.assert_eq(&match parse(line.as_bytes(), dialect) {
            Ok(Command::Mail(Sender { path, params })) => {
                format!("Mail {path} size {:?}", params.size)
            }
            Ok(Command::Rcpt(Recipient { path, .. })) => format!("Rcpt {path}"),
            Ok(command) => format!("{command:?}"),
            Err(error) => format!("{error:?}"),
        });
    }

    #[test]
    fn reads_verbs_in_any_case() {
        check("noop", expect!["Noop"]);
        check("NOOP `id` ;id", expect!["Noop"]);
        check("qUiT ", expect!["Quit"]);
        check("QUIT now", expect!["Argument"]);
        check("data", expect!["Data"]);
        check("lhlo a", expect![[r#"Hello(Lhlo, "a")"#]]);
    }

    #[test]
    fn tells_unknown_from_not_offered_from_foreign() {
        for line in ["", " ", " NOOP", "FOOBAR", "\0", "EHLO\tmx.example", "NOOP\0", "VERYLONGVERB"]
        {
            check(line, expect!["Unknown"]);
        }
        check("STARTTLS", expect!["StartTls"]);
        check("STARTTLS now", expect!["Argument"]);
        check("AUTH PLAIN =", expect!["NotOffered"]);
        check("GET / HTTP/1.1", expect!["Foreign"]);
        check("GET up", expect!["Unknown"]);
    }

    #[test]
    fn reads_names_of_clients() {
        check("EHLO [IPv6:1:2]", expect![[r#"Hello(Ehlo, "[IPv6:1:2]")"#]]);
        check("EHLO my_pc ", expect![[r#"Hello(Ehlo, "my_pc")"#]]);
        check("HELO pc@home/3", expect![[r#"Hello(Helo, "pc@home/3")"#]]);
        check("EHLO", expect!["Argument"]);
        check("EHLO ", expect!["Argument"]);
        check("EHLO a\x1b]0;x\x07", expect!["Argument"]);
        check("EHLO é.example", expect!["Argument"]);
        for odd in ["EHLO a b", "EHLO (x)", "EHLO a (b)", "EHLO <a>", "EHLO a,b", "EHLO \"a\""] {
            check(odd, expect!["Argument"]);
        }
    }

    #[test]
    fn reads_odd_names_where_they_are_allowed() {
        let odd = Dialect { odd_hello: true, ..Dialect::default() };
        check_in("EHLO a_b (my computer)", odd, expect![[r#"Hello(Ehlo, "a_b")"#]]);
        check_in("EHLO (x)", odd, expect![[r#"Hello(Ehlo, "(x)")"#]]);
        check_in("EHLO a\x1b b", odd, expect!["Argument"]);
        check_in("EHLO  ", odd, expect!["Argument"]);
    }

    #[test]
    fn knows_the_parameters_of_dsn_where_it_is_offered() {
        let dsn = Dialect { extensions: Extensions::DSN, ..Dialect::default() };
        for line in ["MAIL FROM:<> RET=HDRS", "MAIL FROM:<> ENVID=a", "MAIL FROM:<> RET=x"] {
            check(line, expect!["UnknownParam"]);
        }
        check_in("MAIL FROM:<> RET=HDRS ENVID=a", dsn, expect!["Mail <> size None"]);
        check_in("MAIL FROM:<> RET=x", dsn, expect!["BadParam"]);
        for line in ["RCPT TO:<a@b.example> NOTIFY=NEVER", "RCPT TO:<a@b.example> ORCPT=x;y"] {
            check(line, expect!["UnknownParam"]);
            check_in(line, dsn, expect!["Rcpt <a@b.example>"]);
        }
    }

    #[test]
    fn knows_auth_where_it_is_offered() {
        let auth = Dialect { extensions: Extensions::AUTH, ..Dialect::default() };
        let check = |line, want: Expect| {
            want.assert_eq(&match parse(line, auth) {
                Ok(Command::Auth { mechanism, initial }) => {
                    let initial = initial.map(<[u8]>::escape_ascii);
                    format!(
                        "{} {}",
                        mechanism.escape_ascii(),
                        initial.map_or("-".into(), |text| text.to_string())
                    )
                }
                other => format!("{other:?}"),
            });
        };
        check(b"AUTH PLAIN", expect!["PLAIN -"]);
        check(b"auth login =", expect!["login ="]);
        check(b"AUTH PLAIN AHUAcA== ", expect!["PLAIN AHUAcA=="]);
        check(b"AUTH PLAIN ", expect!["PLAIN -"]);
        for bad in [&b"AUTH"[..], b"AUTH ", b"AUTH  PLAIN", b"AUTH PLAIN  a", b"AUTH PLAIN a b"] {
            check(bad, expect!["Err(Argument)"]);
        }
        check_in("MAIL FROM:<> AUTH=<>", auth, expect!["Mail <> size None"]);
        check_in("MAIL FROM:<> AUTH=<>", Dialect::default(), expect!["UnknownParam"]);
    }

    #[test]
    fn reads_mail_and_rcpt() {
        check("MAIL FROM:<>", expect!["Mail <> size None"]);
        check("mAiL fRoM: <A@B.example> SIZE=5", expect!["Mail <A@b.example> size Some(5)"]);
        check("MAIL FROM:<a@b.example><c@d.example>", expect!["BadParam"]);
        check("MAIL FROM:<и@b.example>", expect!["SenderNeedsUtf8"]);
        check("MAIL FROM:<и@b.example> SMTPUTF8", expect!["Mail <и@b.example> size None"]);
        check("MAIL FROM <a@b.example>", expect!["SenderSyntax"]);
        check("MAIL", expect!["SenderSyntax"]);
        check("RCPT TO:<Postmaster>", expect!["Rcpt <Postmaster>"]);
        check("RCPT TO:a@local.example", expect!["RecipientSyntax"]);
        check("RCPT TO:<a@b.example> FOO=1", expect!["UnknownParam"]);
    }

    #[test]
    fn reads_whom_to_look_up() {
        check("VRFY a b", expect![[r#"Vrfy("a b")"#]]);
        check("EXPN и smtputf8", expect![[r#"Expn("и")"#]]);
        check("VRFY SMTPUTF8", expect![[r#"Vrfy("SMTPUTF8")"#]]);
        check("VRFY  ", expect!["Argument"]);
        check("VRFY a\x1bb", expect!["Argument"]);
    }

    #[test]
    fn reads_bdat_and_keeps_the_size_of_a_bad_one() {
        check("BDAT 5", expect!["Bdat(Chunk { len: 5, last: false })"]);
        check("bdat 0 last", expect!["Bdat(Chunk { len: 0, last: true })"]);
        check("BDAT LAST", expect!["Argument"]);
        check("BDAT", expect!["Argument"]);
        check("BDAT -1", expect!["Argument"]);
        check("BDAT 1 LAST NOW", expect!["Chunk(1)"]);
        check(
            "BDAT 99999999999999999999999",
            expect!["Bdat(Chunk { len: 18446744073709551615, last: false })"],
        );
    }
}
