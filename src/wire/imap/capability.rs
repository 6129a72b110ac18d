//! Capabilities by name, and sets of them: what is offered, and what an operator hides.
//!
//! A capability may stand on others. Where one is hidden, all that stand on it are: a server that
//! says IMAP4rev2 and refuses MOVE would promise what it does not do.

/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u64);

/// Declares the capabilities, in the order in which they are told.
macro_rules! capabilities {
    ($($name:ident $word:literal $(on $($need:ident)+)?),* $(,)?) => {
        /// Their numbers.
        #[expect(non_camel_case_types, clippy::upper_case_acronyms, reason = "names of constants")]
        enum Number { $($name),* }

        impl Capabilities {
            $(pub const $name: Capabilities = Capabilities(1 << Number::$name as u32);)*
        }

        /// Each with its name and what it stands on.
        const TABLE: &[(Capabilities, &str, Capabilities)] = &[$((
            Capabilities::$name,
            $word,
            Capabilities::NONE$($(.and(Capabilities::$need))+)?,
        )),*];
    };
}

capabilities! {
    // What RFC 9051 Appendix E makes part of it, but for LITERAL- and AUTH.
    REV2 "IMAP4rev2" on BINARY CHILDREN ENABLE ESEARCH IDLE LIST_EXTENDED LIST_STATUS LITERAL MOVE
        NAMESPACE SASL_IR SEARCHRES SPECIAL_USE STATUS_SIZE UIDPLUS UNSELECT,
    LITERAL "LITERAL+",
    ID "ID",
    ENABLE "ENABLE",
    IDLE "IDLE",
    SASL_IR "SASL-IR",
    NAMESPACE "NAMESPACE",
    UNSELECT "UNSELECT",
    CHILDREN "CHILDREN",
    UIDPLUS "UIDPLUS",
    MOVE "MOVE",
    MULTIAPPEND "MULTIAPPEND",
    REPLACE "REPLACE",
    CONDSTORE "CONDSTORE",
    QRESYNC "QRESYNC" on CONDSTORE ENABLE,
    LIST_EXTENDED "LIST-EXTENDED",
    LIST_STATUS "LIST-STATUS" on LIST_EXTENDED,
    SPECIAL_USE "SPECIAL-USE",
    CREATE_SPECIAL_USE "CREATE-SPECIAL-USE" on SPECIAL_USE,
    STATUS_SIZE "STATUS=SIZE",
    QUOTA "QUOTA",
    QUOTA_STORAGE "QUOTA=RES-STORAGE" on QUOTA,
    QUOTA_MESSAGE "QUOTA=RES-MESSAGE" on QUOTA,
    OBJECTID "OBJECTID",
    SAVEDATE "SAVEDATE",
    UTF8_ACCEPT "UTF8=ACCEPT" on ENABLE,
    UNAUTHENTICATE "UNAUTHENTICATE",
    COMPRESS "COMPRESS=DEFLATE",
    ESEARCH "ESEARCH",
    SEARCHRES "SEARCHRES" on ESEARCH,
    WITHIN "WITHIN",
    PARTIAL "PARTIAL" on ESEARCH,
    SORT "SORT",
    SORT_DISPLAY "SORT=DISPLAY" on SORT,
    ESORT "ESORT" on SORT ESEARCH,
    THREAD_SUBJECT "THREAD=ORDEREDSUBJECT",
    THREAD_REFERENCES "THREAD=REFERENCES",
    THREAD_REFS "THREAD=REFS",
    I18NLEVEL "I18NLEVEL=1",
    INPROGRESS "INPROGRESS",
    BINARY "BINARY",
    PREVIEW "PREVIEW",
    APPENDLIMIT "APPENDLIMIT",
    UIDBATCHES "UIDBATCHES",
    MESSAGELIMIT "MESSAGELIMIT",
}

impl Capabilities {
    pub const NONE: Capabilities = Capabilities(0);
    pub const ALL: Capabilities = Capabilities((1 << TABLE.len()) - 1);

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 | other.0)
    }

    /// Whether the sets have something in common.
    pub const fn meets(self, other: Capabilities) -> bool {
        self.0 & other.0 != 0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The capability of this name, in any case of letters. Names that depend on how the server is
    /// set up (`AUTH=…`, `LOGINDISABLED`), and IMAP4rev1, which everything rests on, are none.
    pub fn named(name: &str) -> Option<Capabilities> {
        let found = TABLE.iter().find(|(_, word, _)| word.eq_ignore_ascii_case(name));
        found.map(|(one, ..)| *one)
    }

    /// All names, for people.
    pub fn all_names() -> String {
        let names: Vec<&str> = TABLE.iter().map(|(_, word, _)| *word).collect();
        names.join(", ")
    }

    /// The members one by one, in the order in which they are told, with their names. What
    /// stands behind the sign of equality of APPENDLIMIT and MESSAGELIMIT is not in it.
    pub fn each(self) -> impl Iterator<Item = (Capabilities, &'static str)> {
        let members = TABLE.iter().filter(move |(one, ..)| self.meets(*one));
        members.map(|(one, word, _)| (*one, *word))
    }

    /// All but these; see [`Capabilities::with_dependants`].
    #[must_use]
    pub const fn without(self, others: Capabilities) -> Capabilities {
        Capabilities(self.0 & !others.0)
    }

    /// These, and what stands on them.
    #[must_use]
    pub fn with_dependants(self) -> Capabilities {
        let mut whole = self;
        loop {
            let next = TABLE.iter().filter(|(_, _, needs)| needs.meets(whole));
            let next = next.fold(whole, |whole, (one, ..)| whole.and(*one));
            if next == whole {
                return whole;
            }
            whole = next;
        }
    }
}

/// By the names of its members.
impl<'a> FromIterator<&'a str> for Capabilities {
    /// Names that are not known are passed over: a later release may know them.
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Capabilities {
        let known = names.into_iter().filter_map(Capabilities::named);
        known.fold(Capabilities::NONE, Capabilities::and)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(set: Capabilities) -> String {
        set.each().map(|(_, word)| word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_stands_on_a_hidden_one_is_hidden_too() {
        let hidden = |name| names(Capabilities::named(name).unwrap().with_dependants());
        assert_eq!(hidden("qresync"), "QRESYNC");
        assert_eq!(hidden("CONDSTORE"), "CONDSTORE QRESYNC");
        assert_eq!(hidden("Move"), "IMAP4rev2 MOVE");
        assert_eq!(hidden("ESEARCH"), "IMAP4rev2 ESEARCH SEARCHRES PARTIAL ESORT");
        assert_eq!(hidden("ENABLE"), "IMAP4rev2 ENABLE QRESYNC UTF8=ACCEPT");
    }

    #[test]
    fn every_name_leads_back_to_its_capability() {
        for (one, word, _) in TABLE {
            assert_eq!(Capabilities::named(&word.to_ascii_lowercase()), Some(*one));
            assert_eq!(names(*one), *word);
        }
        assert_eq!(Capabilities::named("IMAP4rev1"), None);
        assert_eq!(Capabilities::named("AUTH=PLAIN"), None);
        assert_eq!(["IDLE", "NONE-SUCH"].into_iter().collect::<Capabilities>(), Capabilities::IDLE);
    }
}
