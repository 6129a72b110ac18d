//! What a session does for one ticket: the mixes of `loadgen imap`, as data.
//!
//! A step is a command in which words with a dollar stand for what the session knows:
//!
//! ```text
//! $mailbox  $word   as the command line has them
//! $any              a message by chance           $own         the session's own messages in turn
//! $sign             + the first time round, then - and + by turns
//! $uids             the last 50 UIDs              $uid         the UID that came last
//! ```

use clap::ValueEnum;

use crate::measure::tally::Stage;

/// The mixes that may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mix {
    /// Connect, LOGIN, LOGOUT
    Login,
    /// SELECT
    Select,
    /// EXAMINE and STATUS of the mailbox, LIST of all
    Folders,
    /// FETCH of one whole body by chance
    Fetch,
    /// FETCH of UID, FLAGS, ENVELOPE, INTERNALDATE, RFC822.SIZE of every message
    FetchAll,
    /// FETCH of the flags of every message
    FlagsAll,
    /// STORE of one flag, each message in turn, silent
    Store,
    /// SEARCH of a word in bodies (--word)
    #[value(alias = "search")]
    SearchBody,
    /// SEARCH of a word in subjects
    SearchSubject,
    /// SEARCH by flags and dates, which needs no message
    SearchFlags,
    /// SORT by date
    Sort,
    /// THREAD by references
    Thread,
    /// NOOP
    Noop,
    /// APPEND of one message of --size octets
    Append,
    /// One of each by turns: FETCH of a body, STORE, SEARCH, APPEND, STATUS, NOOP
    Mixed,
    /// All sessions but one watch the mailbox in IDLE; the one appends
    Idle,
    /// A whole session as Thunderbird has it
    Thunderbird,
    /// A whole session as a phone has it
    Phone,
    /// Fills mailboxes: --count messages over all users, by MULTIAPPEND or pipelined APPEND
    Prepare,
}

/// What one step does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// A command without literals.
    Say(&'static str),
    /// The same; there must be one FETCH response for each message of the mailbox.
    SayForAll(&'static str),
    /// The same; the answer must always have as many octets as the first time.
    SayAlike(&'static str),
    Login,
    Append,
    /// IDLE, and DONE as soon as the server has said `+`.
    IdleOnce,
}

/// One step of a mix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) stage: Stage,
    pub(crate) act: Act,
}

/// How a mix is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    /// A connection of its own for each ticket; otherwise one per session, logged in before
    /// the clock starts.
    pub(crate) fresh: bool,
    /// The mailbox is selected before the clock starts.
    pub(crate) selected: bool,
    pub(crate) steps: &'static [Step],
}

impl Script {
    /// Does it set and clear `\Flagged` by turns? Then every STORE must find it the other way.
    pub(crate) fn flags(self) -> bool {
        let flags = |step: &Step| matches!(step.act, Act::Say(text) if text.contains("$own"));
        self.steps.iter().any(flags)
    }
}

const fn say(stage: Stage, text: &'static str) -> Step {
    Step { stage, act: Act::Say(text) }
}

const LOGIN: Step = Step { stage: Stage::Login, act: Act::Login };
const LOGOUT: Step = say(Stage::Logout, "LOGOUT");
const APPEND: Step = Step { stage: Stage::Append, act: Act::Append };
const IDLE: Step = Step { stage: Stage::Idle, act: Act::IdleOnce };

/// Header fields as Thunderbird asks for them.
const THUNDERBIRD: &[Step] = &[
    say(Stage::Other, "CAPABILITY"),
    LOGIN,
    say(Stage::Other, "CAPABILITY"),
    say(Stage::Other, "ID (\"name\" \"Thunderbird\" \"version\" \"128.0\")"),
    say(Stage::Other, "NAMESPACE"),
    say(Stage::List, "LIST \"\" \"INBOX\""),
    say(Stage::List, "LIST \"\" \"*\""),
    say(Stage::Select, "SELECT $mailbox"),
    say(Stage::Fetch, "UID FETCH 1:* (FLAGS)"),
    say(
        Stage::Fetch,
        "UID FETCH $uids (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc \
         Subject Date Message-ID Priority X-Priority References Newsgroups In-Reply-To \
         Content-Type Reply-To)])",
    ),
    say(Stage::Fetch, "UID FETCH $uid (UID RFC822.SIZE BODY.PEEK[])"),
    say(Stage::Store, "UID STORE $uid $signFLAGS (\\Seen)"),
    say(Stage::Noop, "NOOP"),
    IDLE,
    LOGOUT,
];

const PHONE: &[Step] = &[
    LOGIN,
    say(Stage::Status, "STATUS $mailbox (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)"),
    say(Stage::Select, "SELECT $mailbox"),
    say(Stage::Search, "UID SEARCH $uids NOT DELETED"),
    say(Stage::Fetch, "UID FETCH $uids (INTERNALDATE UID RFC822.SIZE FLAGS ENVELOPE)"),
    say(Stage::Fetch, "UID FETCH $uid (UID BODYSTRUCTURE BODY.PEEK[HEADER])"),
    say(Stage::Fetch, "UID FETCH $uid (UID BODY.PEEK[1]<0.4096>)"),
    say(Stage::Store, "UID STORE $uid $signFLAGS.SILENT (\\Seen)"),
    IDLE,
    LOGOUT,
];

/// What a session does that stays logged in.
const MIXED: &[Step] = &[
    say(Stage::Fetch, "FETCH $any (UID BODY.PEEK[])"),
    say(Stage::Store, "STORE $own $signFLAGS.SILENT (\\Flagged)"),
    say(Stage::Search, "UID SEARCH $uids UNSEEN"),
    APPEND,
    say(Stage::Status, "STATUS $mailbox (MESSAGES UIDNEXT UNSEEN)"),
    say(Stage::Noop, "NOOP"),
];

const FETCH_ALL: &str = "FETCH 1:* (UID FLAGS ENVELOPE INTERNALDATE RFC822.SIZE)";

impl Mix {
    /// The script; IDLE and the filling of mailboxes are no scripts.
    pub(crate) fn script(self) -> Option<Script> {
        let selected = |steps| Some(Script { fresh: false, selected: true, steps });
        let fresh = |steps| Some(Script { fresh: true, selected: false, steps });
        match self {
            Mix::Login => fresh(const { &[LOGIN, LOGOUT] }),
            Mix::Mixed => selected(MIXED),
            Mix::Thunderbird => fresh(THUNDERBIRD),
            Mix::Phone => fresh(PHONE),
            Mix::Select => selected(const { &[say(Stage::Select, "SELECT $mailbox")] }),
            Mix::Folders => selected(
                const {
                    &[
                        say(Stage::Select, "EXAMINE $mailbox"),
                        say(Stage::Status, "STATUS $mailbox (MESSAGES UIDNEXT UNSEEN)"),
                        say(Stage::List, "LIST \"\" \"*\""),
                    ]
                },
            ),
            Mix::Fetch => selected(const { &[say(Stage::Fetch, "FETCH $any (UID BODY.PEEK[])")] }),
            Mix::FetchAll => {
                selected(const { &[Step { stage: Stage::Fetch, act: Act::SayForAll(FETCH_ALL) }] })
            }
            Mix::FlagsAll => selected(
                const { &[Step { stage: Stage::Fetch, act: Act::SayForAll("FETCH 1:* (FLAGS)") }] },
            ),
            Mix::Store => {
                selected(const { &[say(Stage::Store, "STORE $own $signFLAGS.SILENT (\\Flagged)")] })
            }
            Mix::SearchBody => selected(
                const { &[Step { stage: Stage::Search, act: Act::SayAlike("SEARCH BODY $word") }] },
            ),
            Mix::SearchSubject => selected(
                const { &[Step { stage: Stage::Search, act: Act::SayAlike("SEARCH SUBJECT $word") }] },
            ),
            Mix::SearchFlags => selected(
                const { &[say(Stage::Search, "UID SEARCH UNSEEN SINCE 1-Jan-2020 NOT DELETED")] },
            ),
            Mix::Sort => {
                selected(const { &[say(Stage::Sort, "UID SORT (REVERSE DATE) UTF-8 ALL")] })
            }
            Mix::Thread => {
                selected(const { &[say(Stage::Thread, "UID THREAD REFERENCES UTF-8 ALL")] })
            }
            Mix::Noop => selected(const { &[say(Stage::Noop, "NOOP")] }),
            Mix::Append => {
                Some(Script { fresh: false, selected: false, steps: const { &[APPEND] } })
            }
            Mix::Idle | Mix::Prepare => None,
        }
    }

    /// As the command line has it.
    pub(crate) fn label(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().into())
    }
}

/// What stands for the words with a dollar.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    pub(crate) mailbox: &'a [u8],
    pub(crate) word: &'a [u8],
    pub(crate) any: u64,
    pub(crate) own: u64,
    pub(crate) plus: bool,
    pub(crate) uid: u64,
    /// The first of the last UIDs.
    pub(crate) uids_from: u64,
}

/// Appends a command with everything filled in.
pub(crate) fn write(out: &mut Vec<u8>, template: &str, known: &Known<'_>) {
    use crate::values::write_number;
    let mut parts = template.split('$');
    out.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let end = part.find(|letter: char| !letter.is_ascii_lowercase()).unwrap_or(part.len());
        let (name, rest) = part.split_at(end);
        match name {
            "mailbox" => out.extend_from_slice(known.mailbox),
            "word" => out.extend_from_slice(known.word),
            "any" => write_number(out, known.any),
            "own" => write_number(out, known.own),
            "sign" => out.push(if known.plus { b'+' } else { b'-' }),
            "uid" => write_number(out, known.uid),
            "uids" => {
                write_number(out, known.uids_from);
                out.extend_from_slice(b":*");
            }
            _ => {
                debug_assert!(false, "no such word in the templates: {name}");
            }
        }
        out.extend_from_slice(rest.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known<'_> = Known {
        mailbox: b"\"INBOX\"",
        word: b"\"dove\"",
        any: 3,
        own: 4,
        plus: false,
        uid: 70,
        uids_from: 21,
    };

    #[test]
    fn fills_in_what_the_session_knows() {
        let mut out = Vec::new();
        write(&mut out, "UID FETCH $uids ($own $signFLAGS.SILENT) $mailbox $any $uid", &KNOWN);
        assert_eq!(out, b"UID FETCH 21:* (4 -FLAGS.SILENT) \"INBOX\" 3 70");
    }

    #[test]
    fn every_template_names_what_there_is() {
        for mix in Mix::value_variants() {
            for step in mix.script().map_or(&[][..], |script| script.steps) {
                if let Act::Say(text) | Act::SayForAll(text) | Act::SayAlike(text) = step.act {
                    let mut out = Vec::new();
                    write(&mut out, text, &KNOWN);
                    assert!(!out.contains(&b'$') && !out.is_empty(), "{text}");
                }
            }
        }
    }
}
