//! Commands of the RFCs and of clients, and what is refused.

use super::append::{parse_end, parse_next};
use super::*;
use expect_test::{Expect, expect};

/// The command, or what is wrong with it.
fn read(text: &str) -> String {
    match parse(text.as_bytes(), false) {
        Ok(tagged) => format!("{:?}", tagged.command),
        Err(Bad { tag, what }) => format!("{} BAD {what}", tag.unwrap_or("*")),
    }
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
fn check(text: &str, want: Expect) {
    want.assert_eq(&read(text));
}

#[track_caller]
fn check_all(texts: &[&str]) {
    for text in texts {
        let got = read(&format!("a {text}"));
        assert!(!got.starts_with("a BAD"), "{text}: {got}");
    }
}

#[track_caller]
fn check_none(texts: &[&str]) {
    for text in texts {
        let got = read(&format!("a {text}"));
        assert!(got.starts_with("a BAD"), "{text}: {got}");
    }
}

#[test]
fn reads_commands_without_arguments_in_any_case() {
    check_all(&[
        "capability",
        "NOOP",
        "nOOp  ",
        "LOGOUT",
        "STARTTLS",
        "NAMESPACE",
        "IDLE",
        "CHECK",
        "CLOSE",
        "UNSELECT",
        "EXPUNGE",
        "UNAUTHENTICATE",
    ]);
    check_none(&[
        "NOOP x",
        "CAPABILITY x",
        "STARTTLS x",
        "UID NOOP",
        "FOO",
        "",
        " NOOP",
        "UID",
        "NOOP\r",
    ]);
}

#[test]
fn tells_what_is_no_tag() {
    for text in
        ["+ NOOP", "* NOOP", "a% NOOP", "(a NOOP", "\"a\" NOOP", "a\\ NOOP", "é NOOP", "", " x"]
    {
        assert!(read(text).starts_with("* BAD"), "{text}");
    }
    check("a] NOOP", expect!["Noop"]);
    check(&format!("{} NOOP", "a".repeat(257)), expect!["* BAD no tag"]);
    check("EHLO x", expect!["EHLO BAD unknown command"]);
    check("a1", expect!["a1 BAD no command"]);
}

#[test]
fn reads_logins() {
    check(
        "a LOGIN \"joe \\\"x\\\\\" {4+}\r\na\r\nb",
        expect![[r#"Login { user: "joe \"x\\", password: Secret(_) }"#]],
    );
    check(
        "a AUTHENTICATE plain =",
        expect![[r#"Authenticate { mechanism: "plain", initial: Some(Secret(_)) }"#]],
    );
    check(
        "a AUTHENTICATE PLAIN",
        expect![[r#"Authenticate { mechanism: "PLAIN", initial: None }"#]],
    );
    check_all(&[
        "LOGIN joe pass]word",
        "LOGIN \"é\" \"ü\"",
        "LOGIN \"\" \"\"",
        "AUTHENTICATE X-Y AAA+/=",
    ]);
    check_none(&[
        "LOGIN",
        "LOGIN u",
        "LOGIN \"u p",
        "LOGIN \"u\0\" p",
        "LOGIN u p x",
        "LOGIN  u p",
        "LOGIN {1}\r\n",
        "LOGIN \"\\a\" b",
        "LOGIN ~{1+}\r\nu p",
        "LOGIN {1+}\r\n\0 p",
        "LOGIN {1{1}\r\nu p",
        "AUTHENTICATE",
        "AUTHENTICATE PLAIN !!",
    ]);
}

#[test]
fn reads_id_with_its_bounds() {
    check(
        "a ID (\"name\" \"x\" \"version\" NIL)",
        expect![[r#"Id([("name", Some("x")), ("version", None)])"#]],
    );
    check_all(&["ID NIL", "ID nil", "ID ()", "ID (\"a\" \"1\" \"a\" \"2\")"]);
    check_none(&["ID", "ID (\"name\")", "ID name", "ID (NIL \"x\")"]);
    let pairs = |count| format!("ID ({})", vec!["\"a\" \"b\""; count].join(" "));
    check_all(&[&pairs(30), &format!("ID (\"{}\" \"b\")", "x".repeat(30))]);
    check_none(&[&pairs(31), &format!("ID (\"{}\" \"b\")", "x".repeat(31))]);
    check_none(&[&format!("ID (\"a\" \"{}\")", "x".repeat(1_025))]);
}

#[test]
fn reads_what_concerns_mailboxes() {
    check(
        "a SELECT INBOX (QRESYNC (67890007 20050715194045000 41,43:211,214:541 (1:3 4:6)) CONDSTORE)",
        expect![[
            r#"Select(Select { mailbox: "INBOX", condstore: true, qresync: Some(Qresync { uid_validity: 67890007, mod_seq: 20050715194045000, known: Some(Set(41,43:211,214:541)), matched: Some((Set(1:3), Set(4:6))) }) })"#
        ]],
    );
    check(
        "a EXAMINE {5}\r\nINBOX (CONDSTORE)",
        expect![[r#"Examine(Select { mailbox: "INBOX", condstore: true, qresync: None })"#]],
    );
    check(
        "a CREATE x (USE (\\Sent \\Foo))",
        expect![[r#"Create { mailbox: "x", uses: [Sent, Unknown] }"#]],
    );
    check("a RENAME \"a b\" c/d", expect![[r#"Rename { from: "a b", to: "c/d" }"#]]);
    check(
        "a STATUS x (MESSAGES messages SIZE HIGHESTMODSEQ)",
        expect![[r#"Status { mailbox: "x", items: [Messages, Size, HighestModSeq] }"#]],
    );
    check(
        "a SETQUOTA \"\" (STORAGE 512 MESSAGE 10)",
        expect![[r#"SetQuota { root: "", limits: [("STORAGE", 512), ("MESSAGE", 10)] }"#]],
    );
    check_all(&[
        "SELECT inbox ",
        "CREATE a]b",
        "DELETE \"\"",
        "SUBSCRIBE x",
        "UNSUBSCRIBE ~other/x",
        "SETQUOTA x ()",
        "STATUS x (UIDNEXT UIDVALIDITY UNSEEN DELETED RECENT MAILBOXID APPENDLIMIT DELETED-STORAGE )",
        "GETQUOTA \"\"",
        "GETQUOTAROOT INBOX",
        "SELECT x (QRESYNC (1 2))",
        "SELECT x (QRESYNC (1 2 (1 1)))",
        "CREATE #news.x",
        "ENABLE CONDSTORE UTF8=ACCEPT",
        "COMPRESS deflate",
        "UIDBATCHES 500",
    ]);
    check_none(&[
        "SELECT",
        "SELECT INBOX x",
        "SELECT INBOX (QRESYNC (0 0))",
        "SELECT x (QRESYNC (1 2 1:*))",
        "SELECT x ()",
        "SELECT x (FOO)",
        "SELECT x y",
        "CREATE a*b",
        "CREATE \"a\nb\"",
        "CREATE {3+}\r\na\0b",
        "CREATE x (FOO)",
        "CREATE x (USE (Sent))",
        "STATUS x ()",
        "STATUS x (FOO)",
        "STATUS x MESSAGES",
        "RENAME a",
        "ENABLE",
        "GETQUOTA",
        "SETQUOTA x (STORAGE)",
        "SETQUOTA x (STORAGE 9223372036854775808)",
        "COMPRESS",
        "UIDBATCHES 0",
        "UIDBATCHES 500 10",
        "CREATE \"ä\"",
        "DELETE é",
    ]);
    check("a UIDBATCHES 2000 21:30", expect!["UidBatches { size: 2000, batches: Some((21, 30)) }"]);
    assert!(parse("a CREATE \"ä\"".as_bytes(), true).is_ok());
    assert!(parse(b"a CREATE \"\xE4\"", true).is_err());
}

#[test]
fn reads_list_in_all_its_forms() {
    check(
        "a LIST \"\" %/*",
        expect![[
            r#"List(List { select: Selection { subscribed: false, remote: false, recursive_match: false, special_use: false }, reference: "", patterns: ["%/*"], returns: Returns { subscribed: false, children: false, special_use: false, status: [] }, extended: false })"#
        ]],
    );
    check(
        "a LIST (SUBSCRIBED RECURSIVEMATCH) \"\" (\"a\" b*) RETURN (CHILDREN STATUS (MESSAGES UNSEEN))",
        expect![[
            r#"List(List { select: Selection { subscribed: true, remote: false, recursive_match: true, special_use: false }, reference: "", patterns: ["a", "b*"], returns: Returns { subscribed: false, children: true, special_use: false, status: [Messages, Unseen] }, extended: true })"#
        ]],
    );
    check("a LSUB \"\" \"*\"", expect![[r#"Lsub { reference: "", pattern: "*" }"#]]);
    check_all(&[
        "LIST \"\" \"\"",
        "LIST () \"\" x",
        "LIST (REMOTE SPECIAL-USE) x/ (y)",
        "LIST \"\" % RETURN ()",
        "LIST \"\" % RETURN (SUBSCRIBED SPECIAL-USE CHILDREN)",
        "LIST foo/ {2+}\r\n%b",
    ]);
    check_none(&[
        "LIST",
        "LIST \"\"",
        "LIST (RECURSIVEMATCH) \"\" *",
        "LIST (FOO) \"\" *",
        "LIST \"\" ()",
        "LIST \"\" * RETURN (FOO)",
        "LIST \"\" * FOO",
        "LIST \"\" * RETURN",
        "LIST \"\" * RETURN (STATUS ())",
        "LSUB \"\" (a b)",
        "LIST * *",
        "LIST (REMOTE RECURSIVEMATCH) \"\" *",
    ]);
}

#[test]
fn reads_fetch_as_clients_send_it() {
    check(
        "a FETCH 2:4 ALL",
        expect![
            "Fetch(Fetch { uid: false, messages: Set(Set(2:4)), items: [Flags, InternalDate, Size, Envelope], changed_since: None, vanished: false, partial: None })"
        ],
    );
    check(
        "a uid fetch 1,3:* (uid rfc822.size flags body.peek[header.fields (From \"To\" {2+}\r\nCc)])",
        expect![[
            r#"Fetch(Fetch { uid: true, messages: Set(Set(1,3:*)), items: [Uid, Size, Flags, Section { peek: true, section: Section { part: Part(""), content: HeaderFields { not: false, names: ["From", "To", "Cc"] } }, partial: None }], changed_since: None, vanished: false, partial: None })"#
        ]],
    );
    check(
        "a UID FETCH 39 (UID RFC822.SIZE RFC822.peek)",
        expect![
            "Fetch(Fetch { uid: true, messages: Set(Set(39)), items: [Uid, Size, Rfc822 { peek: true }], changed_since: None, vanished: false, partial: None })"
        ],
    );
    check(
        "a FETCH 1 BODY.PEEK[1.2.MIME]<0.1024>",
        expect![[
            r#"Fetch(Fetch { uid: false, messages: Set(Set(1)), items: [Section { peek: true, section: Section { part: Part("1.2"), content: Mime }, partial: Some(Partial { first: 0, count: 1024 }) }], changed_since: None, vanished: false, partial: None })"#
        ]],
    );
    check(
        "a FETCH 1:* (FLAGS) (CHANGEDSINCE 0)",
        expect![
            "Fetch(Fetch { uid: false, messages: Set(Set(1:*)), items: [Flags], changed_since: Some(0), vanished: false, partial: None })"
        ],
    );
    check(
        "a UID FETCH $ (FLAGS MODSEQ) (VANISHED CHANGEDSINCE 9 PARTIAL -1:-30)",
        expect![
            "Fetch(Fetch { uid: true, messages: Saved, items: [Flags, ModSeq], changed_since: Some(9), vanished: true, partial: Some(Page { from_end: true, first: 1, last: 30 }) })"
        ],
    );
    check(
        "a FETCH 1 (BINARY.PEEK[1.2]<7.9> BINARY.SIZE[3] BINARY[] PREVIEW (LAZY) PREVIEW)",
        expect![[
            r#"Fetch(Fetch { uid: false, messages: Set(Set(1)), items: [Binary { peek: true, part: Part("1.2"), partial: Some(Partial { first: 7, count: 9 }) }, BinarySize(Part("3")), Binary { peek: false, part: Part(""), partial: None }, Preview { lazy: true }, Preview { lazy: false }], changed_since: None, vanished: false, partial: None })"#
        ]],
    );
    check(
        "a FETCH 1 PREVIEW (CHANGEDSINCE 7)",
        expect![
            "Fetch(Fetch { uid: false, messages: Set(Set(1)), items: [Preview { lazy: false }], changed_since: Some(7), vanished: false, partial: None })"
        ],
    );
    check_all(&[
        "FETCH * FAST",
        "FETCH 1 full",
        "FETCH 1 (FLAGS FLAGS)",
        "FETCH 1 (EMAILID THREADID SAVEDATE)",
        "FETCH 1 BODY[HEADER.FIELDS.NOT (X)]",
        "FETCH 1 BODY[TEXT]",
        "FETCH 1 BODY[1.HEADER]",
        "FETCH 1 BODY",
        "FETCH 1 BODY.PEEK[]<4294967295.10>",
        "FETCH 1 BODY.PEEK[]<1.4294967295>",
        "FETCH 1 RFC822.TEXT",
        "FETCH 1 BODY[HEADER.FIELDS (\"From:\")]",
        "FETCH 1 (ENVELOPE RFC822.HEADER INTERNALDATE BODYSTRUCTURE)",
    ]);
}

#[test]
fn refuses_what_is_no_fetch() {
    check_none(&[
        "FETCH 0 FLAGS",
        "FETCH 1",
        "FETCH 1 ()",
        "FETCH 1,,2 FLAGS",
        "FETCH $,1 FLAGS",
        "FETCH 1 (ALL)",
        "FETCH 1 FOO",
        "FETCH 1 BODY[0]",
        "FETCH 1 BODY[MIME]",
        "FETCH 1 BODY[",
        "FETCH 1 BODY[]<0.0>",
        "FETCH 1 BODY[]<18446744073709551615.1>",
        "FETCH 1 BODY[]<-1.1>",
        "FETCH 1 BINARY[HEADER]",
        "FETCH 1 BODY.PEEK",
        "FETCH 1 (FLAGS",
        "FETCH 1 FLAGS)",
        "FETCH 1 FLAGS UID",
        "FETCH 1 BODY[1.]",
        "FETCH 1:* (FLAGS) (CHANGEDSINCE 9223372036854775808)",
        "UID FETCH 1:* (FLAGS) (PARTIAL 0:1)",
        "FETCH 1 (FLAGS) (VANISHED CHANGEDSINCE 1)",
        "UID FETCH 1 FLAGS (VANISHED)",
        "FETCH 1 (PREVIEW (FOO))",
        "FETCH 1 BODY[HEADER.FIELDS ()]",
        "FETCH 1 BODY[HEADER.FIELDS]",
        "FETCH 1 BODY[HEADER.FIELDS (\"\")]",
        "FETCH 1 BODY[HEADER.FIELDS ({2+}\r\n\r\n)]",
        "UID FETCH 1 FLAGS (PARTIAL 1:-2)",
        "FETCH 1 BODY[1.a]",
    ]);
}

#[test]
fn reads_store_copy_and_move() {
    check(
        "a STORE 1:3 +FLAGS (\\Deleted $Junk)",
        expect![[
            r#"Store(Store { uid: false, messages: Set(Set(1:3)), unchanged_since: None, change: Add, silent: false, flags: [Deleted, Keyword("$Junk")] })"#
        ]],
    );
    check(
        "a uid store * (UNCHANGEDSINCE 12) -flags.silent \\seen \\Draft",
        expect![
            "Store(Store { uid: true, messages: Set(Set(*)), unchanged_since: Some(12), change: Remove, silent: true, flags: [Seen, Draft] })"
        ],
    );
    check(
        "a UID MOVE 42:69 foo",
        expect![[r#"Move { uid: true, messages: Set(Set(42:69)), mailbox: "foo" }"#]],
    );
    check("a COPY $ \"x y\"", expect![[r#"Copy { uid: false, messages: Saved, mailbox: "x y" }"#]]);
    check("a UID EXPUNGE 3000:3002", expect!["UidExpunge(Set(Set(3000:3002)))"]);
    check_all(&[
        "STORE 1 FLAGS ()",
        "STORE 1 +FLAGS \\Seen ",
        "STORE 1 (UNCHANGEDSINCE 0) +FLAGS (x)",
    ]);
    check_none(&[
        "STORE 1 +FLAGS (\\Recent)",
        "STORE 1 +FLAGS (\\Foo)",
        "STORE 1 +FLAGS (\\*)",
        "STORE 1 +FLAGS (é)",
        "STORE 1 +FLAGS",
        "STORE 1 FOO (x)",
        "STORE 1 +-FLAGS (x)",
        "STORE 1 (UNCHANGEDSINCE -1) FLAGS (x)",
        "STORE 1 (UNCHANGEDSINCE 9223372036854775808) +FLAGS (x)",
        "COPY 1",
        "COPY 1 a b",
        "MOVE x y",
        "UID EXPUNGE",
        "EXPUNGE 1",
        "STORE 1 (FOO) FLAGS (x)",
        "STORE 1 FLAGS (a(b))",
    ]);
}

#[test]
fn reads_search_sort_and_thread() {
    check(
        "a SEARCH FLAGGED SINCE 1-Feb-1994 NOT FROM \"Smith\"",
        expect![[
            r#"Search(Search { uid: false, returns: None, charset: None, keys: [Has { mark: Flagged, set: true }, Date { dated: Internal, when: Since, date: Date(8797) }, Not(Contains { within: From, text: "Smith" })] })"#
        ]],
    );
    check(
        "a UID SEARCH RETURN (MIN COUNT SAVE) CHARSET UTF-8 OR (UNSEEN 1:4) OR TO x HEADER Message-ID \"<a@b>\"",
        expect![[
            r#"Search(Search { uid: true, returns: Some(Returns { min: true, max: false, all: false, count: true, save: true, partial: None }), charset: Some("UTF-8"), keys: [Or([And([Has { mark: Seen, set: false }, Numbers(Set(Set(1:4)))]), Contains { within: To, text: "x" }, Contains { within: Header("Message-ID"), text: "<a@b>" }])] })"#
        ]],
    );
    check(
        "a SEARCH NOT NOT NOT OR ALL NOT (NEW)",
        expect![
            "Search(Search { uid: false, returns: None, charset: None, keys: [Not(Or([All, Not(And([New]))]))] })"
        ],
    );
    check(
        "a SEARCH RETURN () UID $",
        expect![
            "Search(Search { uid: false, returns: Some(Returns { min: false, max: false, all: true, count: false, save: false, partial: None }), charset: None, keys: [Uids(Saved)] })"
        ],
    );
    check(
        "a SEARCH MODSEQ \"/flags/\\\\draft\" all 620162338",
        expect![
            "Search(Search { uid: false, returns: None, charset: None, keys: [ModSeq(620162338)] })"
        ],
    );
    check(
        "a UID SORT RETURN (PARTIAL 1:100) (REVERSE DATE displayfrom) UTF-8 YOUNGER 60",
        expect![[
            r#"Sort(Sort { uid: true, returns: Some(Returns { min: false, max: false, all: false, count: false, save: false, partial: Some(Page { from_end: false, first: 1, last: 100 }) }), order: [Order { by: Date, reverse: true }, Order { by: DisplayFrom, reverse: false }], charset: "UTF-8", keys: [Younger(60)] })"#
        ]],
    );
    check(
        "a THREAD references US-ASCII EMAILID M6d99ac3275bb4e",
        expect![[
            r#"Thread(Thread { uid: false, algorithm: References, charset: "US-ASCII", keys: [EmailId("M6d99ac3275bb4e")] })"#
        ]],
    );
    check_all(&[
        "SEARCH SINCE \"1-Feb-2024\"",
        "SEARCH SINCE 1-fEB-2024",
        "SEARCH HEADER \"\" \"\"",
        "SEARCH (ALL )",
        "SEARCH KEYWORD $Junk UNKEYWORD x",
        "SEARCH LARGER 5 SMALLER 5",
        "SEARCH SAVEDON 1-Jan-2024",
        "SEARCH SAVEDATESUPPORTED THREADID a-_9",
        "SEARCH OLDER 1",
        "SEARCH *",
        "SEARCH 1:* ALL ",
        "SEARCH $",
        "SEARCH CHARSET \"x\" TEXT {2+}\r\n\u{e9}",
        "THREAD REFS utf-8 ALL",
    ]);
}

#[test]
fn refuses_what_is_no_search() {
    check_none(&[
        "SEARCH",
        "SEARCH FOO",
        "SEARCH OR ALL",
        "SEARCH OR",
        "SEARCH NOT",
        "SEARCH ()",
        "SEARCH (ALL",
        "SEARCH SINCE 1-Feb-24",
        "SEARCH SINCE 30-Feb-2024",
        "SEARCH RETURN (FOO) ALL",
        "SEARCH YOUNGER 0",
        "SEARCH KEYWORD \\Seen",
        "SEARCH FUZZY SUBJECT x",
        "SEARCH RETURN (ALL PARTIAL 1:2) ALL",
        "SEARCH ALL)",
        "SORT (FOO) UTF-8 ALL",
        "SORT () UTF-8 ALL",
        "SORT (DATE) UTF-8",
        "SORT (REVERSE) UTF-8 ALL",
        "THREAD FOO UTF-8 ALL",
        "SEARCH SUBJECT",
        "SEARCH SUBJECT x y",
        "SEARCH EMAILID {1}\r\na",
        "SEARCH MODSEQ \"/foo\" all 1",
        "SEARCH RETURN (MIN)",
        "SEARCH 1 OR 2",
        "SEARCH UID",
        "SEARCH  ALL",
    ]);
}

#[test]
fn bounds_how_deep_and_how_many_search_keys_are() {
    let parens = |count: usize| format!("SEARCH {}ALL{}", "(".repeat(count), ")".repeat(count));
    check_all(&[&parens(100), &format!("SEARCH {}ALL", "OR ALL ".repeat(5_000))]);
    check_all(&[&format!("SEARCH {}{}", "OR ".repeat(4_000), "SEEN ".repeat(4_001))]);
    check_all(&[&format!("SEARCH {}ALL", "NOT ".repeat(5_000))]);
    check_all(&[&format!("SEARCH {}ALL", "NOT OR ALL ".repeat(100))]);
    check_none(&[&parens(101), &parens(100_000), &format!("SEARCH {}", "(".repeat(1_000))]);
    check_none(&[&format!("SEARCH {}ALL", "NOT OR ALL ".repeat(101))]);
    check_none(&[&format!("SEARCH {}", "ALL ".repeat(10_001))]);
    check_none(&[&format!("FETCH 1 {}", "(".repeat(100_000))]);
    check_none(&[&format!("FETCH 1 ({})", "FLAGS ".repeat(1_001))]);
    check_none(&[&format!("STORE 1 FLAGS {}", "x ".repeat(1_001))]);
}

#[test]
fn holds_its_laws_on_soups_of_words() {
    const WORDS: [&str; 40] = [
        "a ",
        "UID ",
        "FETCH ",
        "SEARCH ",
        "STORE ",
        "LIST ",
        "SELECT ",
        "1:*,3 ",
        "(",
        ")",
        " ",
        "\"\" ",
        "x ",
        "\"a\\\"b\" ",
        "{2+}\r\nab ",
        "BODY[",
        "1.2",
        "HEADER.FIELDS ",
        "]",
        "<0.9>",
        "OR ",
        "NOT ",
        "ALL ",
        "FLAGS ",
        "\\Seen ",
        "RETURN ",
        "(MIN) ",
        "PARTIAL ",
        "1:2",
        "$ ",
        "é",
        "*",
        "APPEND ",
        "UTF8 (~{3+}\r\n",
        "ID ",
        "NIL",
        "THREAD ",
        "REFS ",
        "UTF-8 ",
        "\"1-Jan-2020\" ",
    ];
    arbtest::arbtest(|u| {
        let mut text = b"a ".to_vec();
        for _ in 0..u.int_in_range(0..=16)? {
            text.extend_from_slice(u.choose(&WORDS)?.as_bytes());
        }
        fuzz_command(&text);
        search::fuzz_search(text.get(2..).unwrap_or_default());
        Ok(())
    });
}

#[test]
fn reads_the_pieces_around_messages() {
    let read = |text: &str| match append::parse(text.as_bytes(), false) {
        Ok(append) => format!("{append:?}"),
        Err(Bad { tag, what }) => format!("{} BAD {what}", tag.unwrap_or("*")),
    };
    expect![[r#"Append { tag: "a", mailbox: "saved-messages", replaces: None, message: Message { flags: [Seen], date: Some(DateTime { seconds: 760686745, zone_minutes: -480 }), utf8: false } }"#]].assert_eq(&read(
        "a APPEND saved-messages (\\Seen) \" 7-Feb-1994 21:52:25 -0800\" {310}\r\n",
    ));
    expect![[r#"Append { tag: "a", mailbox: "x", replaces: Some(Replaced { uid: true, number: Star }), message: Message { flags: [], date: None, utf8: false } }"#]].assert_eq(&read("a UID REPLACE * {1+}\r\nx ~{5+}\r\n"));
    expect![[r#"Append { tag: "a", mailbox: "INBOX", replaces: None, message: Message { flags: [], date: None, utf8: true } }"#]].assert_eq(&read("a APPEND INBOX UTF8 (~{3+}\r\n"));
    for text in [
        "a APPEND x (\\Recent) {1}\r\n",
        "a APPEND x \"31-Feb-2024 00:00:00 +0000\" {1}\r\n",
        "a APPEND x UTF8 ({1}\r\n",
        "a APPEND x (\\Seen){1}\r\n",
        "a APPEND x CATENATE (TEXT {1}\r\n",
        "a REPLACE 0 x {1}\r\n",
        "a UID APPEND x {1}\r\n",
        "a APPEND x  {1}\r\n",
    ] {
        assert!(read(text).starts_with("a BAD"), "{text}: {}", read(text));
    }
    assert!(
        parse_next(b" (\\Seen) {5+}\r\n", false).is_ok() && parse_next(b") {5+}\r\n", true).is_ok()
    );
    assert!(parse_next(b" {5+}\r\n", true).is_err() && parse_next(b"{5+}\r\n", false).is_err());
    assert!(
        parse_end(b"", false).is_ok()
            && parse_end(b" ", false).is_ok()
            && parse_end(b")", true).is_ok()
    );
    assert!(parse_end(b"", true).is_err() && parse_end(b")", false).is_err());
}
