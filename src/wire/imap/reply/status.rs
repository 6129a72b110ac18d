//! OK, NO, BAD, PREAUTH and BYE, with their codes (RFC 9051 §7.1, RFC 5530).

use super::put_list;
use super::string::put_astring;
use crate::bytes::chain::Chain;
use crate::wire::imap::set::{Span, put_spans};
use crate::wire::pop3::put_number;

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ok,
    No,
    Bad,
    Preauth,
    Bye,
}

/// What a program should know about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code<'a> {
    /// A code that is one word, as it is written.
    Word(Word),
    /// RFC 4315 §3.
    AppendUid {
        uid_validity: u32,
        uids: &'a [Span],
    },
    /// The charsets that are known.
    BadCharset(&'a [&'a str]),
    Capability(&'a [&'a str]),
    /// The n-th of `from` became the n-th of `to` (RFC 4315 §3).
    CopyUid {
        uid_validity: u32,
        from: &'a [Span],
        to: &'a [Span],
    },
    HighestModSeq(u64),
    /// RFC 9585 §4; `goal` if it is known.
    InProgress {
        tag: &'a str,
        done: u32,
        goal: Option<u32>,
    },
    /// RFC 8474 §4.1.
    MailboxId(&'a str),
    /// At most so many messages at once; the lowest UID that was dealt with (RFC 9738 §3.1).
    MessageLimit {
        limit: u32,
        uid: Option<u32>,
    },
    /// Messages that STORE left as they are (RFC 7162 §3.1.3).
    Modified(&'a [Span]),
    /// `\*` among them: new keywords can be made.
    PermanentFlags(&'a [&'a str]),
    UidNext(u32),
    UidValidity(u32),
    Unseen(u32),
}

/// Declares the codes that are one word.
macro_rules! words {
    ($($name:ident $word:literal),* $(,)?) => {
        /// Codes of one word: those of RFC 9051 §7.1 and RFC 5530 §3, and of extensions.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Word { $($name),* }

        impl Word {
            /// All of them.
            pub const ALL: &'static [Word] = &[$(Word::$name),*];

            /// As it is written.
            pub const fn text(self) -> &'static str {
                match self { $(Word::$name => $word),* }
            }
        }
    };
}

words! {
    Alert "ALERT",
    AlreadyExists "ALREADYEXISTS",
    AuthenticationFailed "AUTHENTICATIONFAILED",
    AuthorizationFailed "AUTHORIZATIONFAILED",
    Cannot "CANNOT",
    ClientBug "CLIENTBUG",
    Closed "CLOSED",
    CompressionActive "COMPRESSIONACTIVE",
    ContactAdmin "CONTACTADMIN",
    Corruption "CORRUPTION",
    Expired "EXPIRED",
    ExpungeIssued "EXPUNGEISSUED",
    HasChildren "HASCHILDREN",
    InUse "INUSE",
    Limit "LIMIT",
    NoModSeq "NOMODSEQ",
    NonExistent "NONEXISTENT",
    NoPerm "NOPERM",
    NotSaved "NOTSAVED",
    OverQuota "OVERQUOTA",
    Parse "PARSE",
    PrivacyRequired "PRIVACYREQUIRED",
    ReadOnly "READ-ONLY",
    ReadWrite "READ-WRITE",
    ServerBug "SERVERBUG",
    TooBig "TOOBIG",
    TooFew "TOOFEW",
    TooMany "TOOMANY",
    TryCreate "TRYCREATE",
    UidNotSticky "UIDNOTSTICKY",
    Unavailable "UNAVAILABLE",
    UnknownCte "UNKNOWN-CTE",
    UseAttr "USEATTR",
}

/// A status response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status<'a> {
    /// None: it is untagged.
    pub tag: Option<&'a str>,
    pub kind: Kind,
    pub code: Option<Code<'a>>,
    /// For people. What is not printable ASCII becomes `?`.
    pub text: &'a str,
}

impl<'a> Status<'a> {
    /// The end of a command.
    pub const fn tagged(tag: &'a str, kind: Kind, text: &'a str) -> Status<'a> {
        Status { tag: Some(tag), kind, code: None, text }
    }

    /// News.
    pub const fn untagged(kind: Kind, text: &'a str) -> Status<'a> {
        Status { tag: None, kind, code: None, text }
    }

    /// The same with a code.
    #[must_use]
    pub const fn with(mut self, code: Code<'a>) -> Status<'a> {
        self.code = Some(code);
        self
    }

    /// The same with a code of one word.
    #[must_use]
    pub const fn because(self, word: Word) -> Status<'a> {
        self.with(Code::Word(word))
    }

    /// Writes the line.
    pub fn put(&self, out: &mut Chain) {
        out.put(self.tag.unwrap_or("*").as_bytes());
        out.put(match self.kind {
            Kind::Ok => b" OK ",
            Kind::No => b" NO ",
            Kind::Bad => b" BAD ",
            Kind::Preauth => b" PREAUTH ",
            Kind::Bye => b" BYE ",
        });
        if let Some(code) = self.code {
            out.put(b"[");
            code.put(out);
            out.put(b"] ");
        }
        put_human(out, self.text);
        out.put(b"\r\n");
    }
}

/// At least one character, all of them printable.
fn put_human(out: &mut Chain, text: &str) {
    let printable = |letter: char| matches!(letter, ' '..='~');
    if text.is_empty() {
        out.put(b"-");
    } else if text.chars().all(printable) {
        out.put(text.as_bytes());
    } else {
        let shown = |letter| if printable(letter) { letter } else { '?' };
        out.put(text.chars().map(shown).collect::<String>().as_bytes());
    }
}

impl Code<'_> {
    fn put(&self, out: &mut Chain) {
        let number = |out: &mut Chain, name: &[u8], number: u64| {
            out.put(name);
            put_number(out, number);
        };
        match *self {
            Code::Word(word) => out.put(word.text().as_bytes()),
            Code::AppendUid { uid_validity, uids } => {
                number(out, b"APPENDUID ", uid_validity.into());
                out.put(b" ");
                put_spans(out, uids.iter().copied());
            }
            Code::CopyUid { uid_validity, from, to } => {
                number(out, b"COPYUID ", uid_validity.into());
                for spans in [from, to] {
                    out.put(b" ");
                    put_spans(out, spans.iter().copied());
                }
            }
            Code::BadCharset(charsets) => {
                out.put(b"BADCHARSET (");
                for (index, charset) in charsets.iter().enumerate() {
                    out.put(if index > 0 { b" " } else { b"" });
                    put_astring(out, charset.as_bytes(), false);
                }
                out.put(b")");
            }
            Code::Capability(words) => {
                out.put(b"CAPABILITY");
                for word in words {
                    out.put(b" ");
                    out.put(word.as_bytes());
                }
            }
            Code::HighestModSeq(mod_seq) => number(out, b"HIGHESTMODSEQ ", mod_seq),
            Code::InProgress { tag, done, goal } => put_progress(out, tag, done, goal),
            Code::MailboxId(id) => {
                out.put(b"MAILBOXID (");
                out.put(id.as_bytes());
                out.put(b")");
            }
            Code::MessageLimit { limit, uid } => {
                number(out, b"MESSAGELIMIT ", limit.into());
                if let Some(uid) = uid {
                    number(out, b" ", uid.into());
                }
            }
            Code::Modified(spans) => {
                out.put(b"MODIFIED ");
                put_spans(out, spans.iter().copied());
            }
            Code::PermanentFlags(flags) => {
                out.put(b"PERMANENTFLAGS ");
                put_list(out, flags.iter().copied());
            }
            Code::UidNext(uid) => number(out, b"UIDNEXT ", uid.into()),
            Code::UidValidity(uid_validity) => number(out, b"UIDVALIDITY ", uid_validity.into()),
            Code::Unseen(seq) => number(out, b"UNSEEN ", seq.into()),
        }
    }
}

/// `INPROGRESS ("tag" done goal)`.
fn put_progress(out: &mut Chain, tag: &str, done: u32, goal: Option<u32>) {
    out.put(b"INPROGRESS (");
    // RFC 9585 §4: the code would end there for who looks for its end.
    if tag.contains(']') {
        out.put(b"NIL ");
    } else {
        out.put(b"\"");
        out.put(tag.as_bytes());
        out.put(b"\" ");
    }
    put_number(out, done.into());
    out.put(b" ");
    match goal {
        Some(goal) => put_number(out, goal.into()),
        None => out.put(b"NIL"),
    }
    out.put(b")");
}
