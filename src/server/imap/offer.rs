//! What is offered, and what a client switched on.

use super::{Done, Driver, Settings};
use crate::env::Env;
use crate::wire::imap::reply::put_words;
use std::borrow::Cow;

/// What ENABLE, or a command that implies it, switched on (RFC 5161).
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an extension of its own")]
pub(super) struct Enabled {
    /// RFC 9051 Appendix E.
    pub rev2: bool,
    /// Strings and names are UTF-8 (RFC 6855 §3).
    pub utf8: bool,
    /// Change counters go with flags (RFC 7162 §3.1).
    pub condstore: bool,
    /// VANISHED instead of EXPUNGE (RFC 7162 §3.2).
    pub qresync: bool,
}

/// For everybody who logged in.
const ALL: &[&str] = &[
    "NAMESPACE",
    "UNSELECT",
    "CHILDREN",
    "UIDPLUS",
    "MOVE",
    "MULTIAPPEND",
    "REPLACE",
    "CONDSTORE",
    "QRESYNC",
    "LIST-EXTENDED",
    "LIST-STATUS",
    "SPECIAL-USE",
    "CREATE-SPECIAL-USE",
    "STATUS=SIZE",
    "QUOTA",
    "QUOTA=RES-STORAGE",
    "QUOTA=RES-MESSAGE",
    "OBJECTID",
    "SAVEDATE",
    "UTF8=ACCEPT",
    "UNAUTHENTICATE",
    "COMPRESS=DEFLATE",
    "ESEARCH",
    "SEARCHRES",
    "WITHIN",
    "PARTIAL",
    "SORT",
    "SORT=DISPLAY",
    "ESORT",
    "THREAD=ORDEREDSUBJECT",
    "THREAD=REFERENCES",
    "THREAD=REFS",
    "I18NLEVEL=1",
    "INPROGRESS",
    "BINARY",
    "PREVIEW",
];

/// The words of CAPABILITY, before and after login.
pub(super) fn words(settings: &Settings, logged_in: bool) -> Vec<Cow<'static, str>> {
    let mut words: Vec<Cow<'static, str>> = vec![
        "IMAP4rev1".into(),
        "IMAP4rev2".into(),
        "LITERAL+".into(),
        "ID".into(),
        "ENABLE".into(),
        // Python's imaplib asks once, before the login, and believes that for ever.
        "IDLE".into(),
    ];
    if logged_in {
        words.extend(ALL.iter().map(|&word| Cow::from(word)));
        words.push(format!("APPENDLIMIT={}", settings.append_octets_max).into());
    } else if settings.plaintext {
        words.extend(["SASL-IR".into(), "AUTH=PLAIN".into()]);
    } else {
        words.push("LOGINDISABLED".into());
    }
    words
}

impl<E: Env> Driver<E> {
    /// Switches on what is known of `names`, and says what that is.
    pub(super) fn enable(&mut self, names: &[&str]) -> Done {
        let mut enabled: Vec<&str> = Vec::new();
        for name in names {
            let is = |word: &str| name.eq_ignore_ascii_case(word);
            let on = &mut self.enabled;
            if is("CONDSTORE") && !on.condstore {
                self.count_changes();
                enabled.push("CONDSTORE");
            } else if is("QRESYNC") && !on.qresync {
                on.qresync = true;
                self.count_changes();
                enabled.push("QRESYNC");
            } else if is("UTF8=ACCEPT") && !on.utf8 {
                on.utf8 = true;
                enabled.push("UTF8=ACCEPT");
            } else if is("IMAP4rev2") && !on.rev2 {
                (on.rev2, on.utf8) = (true, true);
                enabled.push("IMAP4rev2");
            }
        }
        put_words(&mut self.out, "ENABLED", enabled);
        Done::Ok("enabled")
    }
}
