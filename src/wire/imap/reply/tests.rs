//! Replies as clients get them, and as another reader reads them.

use super::fetch::FetchLine;
use super::list::{ListLine, StatusLine};
use super::search::{Esearch, begin_vanished, end_found, put_numbers, put_uid_batches};
use super::status::{Code, Kind, Status, Word};
use super::string::{put_astring, put_string};
use super::*;
use crate::wire::imap::command::fetch::{Item, Page};
use crate::wire::imap::command::list::StatusItem;
use crate::wire::imap::command::{Command, parse};
use crate::wire::imap::set::{Span, put_spans};
use expect_test::{Expect, expect};
use imap_codec::ResponseCodec;
use imap_codec::decode::Decoder;

fn said(write: impl FnOnce(&mut Chain)) -> String {
    let mut out = Chain::new();
    write(&mut out);
    String::from_utf8(out.to_vec()).expect("what is written here is text")
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
fn check(write: impl FnOnce(&mut Chain), want: Expect) {
    want.assert_eq(&said(write).replace("\r\n", "\n"));
}

fn spans(text: &str) -> Vec<Span> {
    crate::wire::imap::set::Set::parse(text.as_bytes()).unwrap().spans(0)
}

/// The other reader takes it, and all of it.
#[track_caller]
fn check_known(line: &str) {
    let read = ResponseCodec::default().decode(line.as_bytes());
    assert!(matches!(read, Ok((b"", _))), "{line:?}: {read:?}");
}

#[test]
fn chooses_how_a_string_is_written() {
    let string = |text: &str, utf8| said(|out| put_string(out, text.as_bytes(), utf8));
    assert_eq!(string("", false), "\"\"");
    assert_eq!(string("a \"b\\", false), "\"a \\\"b\\\\\"");
    assert_eq!(string("é", true), "\"é\"");
    assert_eq!(string("é", false), "{2}\r\né");
    assert_eq!(string("a\r\nb", true), "{4}\r\na\r\nb");
    assert_eq!(string("a\0b", true), "{3}\r\na?b");
    assert_eq!(string(&"a".repeat(1_001), true), format!("{{1001}}\r\n{}", "a".repeat(1_001)));
    let astring = |text: &str| said(|out| put_astring(out, text.as_bytes(), false));
    assert_eq!([astring("a]"), astring("nil"), astring("a b")], ["a]", "\"nil\"", "\"a b\""]);
    assert_eq!(said(|out| put_mailbox(out, "é/b", false)), "&AOk-/b");
    assert_eq!(said(|out| put_mailbox(out, "é/b", true)), "\"é/b\"");
}

#[test]
fn reads_back_the_strings_that_it_writes() {
    arbtest::arbtest(|u| {
        let mut text = Vec::new();
        for _ in 0..u.int_in_range(0..=12)? {
            text.push(*u.choose(b"a\"\\{} \r\n\xC3\xA9N)")?);
        }
        let utf8 = u.arbitrary()?;
        let mut out = Chain::new();
        out.put(b"a LOGIN ");
        put_string(&mut out, &text, utf8);
        out.put(b" ");
        put_astring(&mut out, &text, utf8);
        let line = out.to_vec();
        let read = parse(&line, utf8).map(|tagged| tagged.command);
        let Ok(Command::Login { user, password }) = read else { panic!("{line:?}: {read:?}") };
        assert_eq!((&*user.octets(), &*password.0.octets()), (&text[..], &text[..]));
        Ok(())
    });
}

#[test]
fn writes_status_responses_with_their_codes() {
    let ok = Status::tagged("a1", Kind::Ok, "Done.");
    let codes = |out: &mut Chain| {
        let two = spans("3:5,9");
        let all = [
            Code::AppendUid { uid_validity: 7, uids: &two },
            Code::BadCharset(&["UTF-8", "US-ASCII"]),
            Code::Capability(&["IMAP4rev1", "IDLE"]),
            Code::CopyUid { uid_validity: 7, from: &two, to: &[Span { first: 1, last: 4 }] },
            Code::HighestModSeq(715_194_045_007),
            Code::InProgress { tag: "a1", done: 5, goal: None },
            Code::MailboxId("F1"),
            Code::MessageLimit { limit: 1_000, uid: Some(23_221) },
            Code::Modified(&two),
            Code::PermanentFlags(&["\\Seen", "\\*"]),
            Code::UidNext(4_392),
            Code::UidValidity(3),
            Code::Unseen(8),
        ];
        for code in all {
            ok.with(code).put(out);
        }
    };
    check(
        codes,
        expect![[r#"
        a1 OK [APPENDUID 7 3:5,9] Done.
        a1 OK [BADCHARSET (UTF-8 US-ASCII)] Done.
        a1 OK [CAPABILITY IMAP4rev1 IDLE] Done.
        a1 OK [COPYUID 7 3:5,9 1:4] Done.
        a1 OK [HIGHESTMODSEQ 715194045007] Done.
        a1 OK [INPROGRESS ("a1" 5 NIL)] Done.
        a1 OK [MAILBOXID (F1)] Done.
        a1 OK [MESSAGELIMIT 1000 23221] Done.
        a1 OK [MODIFIED 3:5,9] Done.
        a1 OK [PERMANENTFLAGS (\Seen \*)] Done.
        a1 OK [UIDNEXT 4392] Done.
        a1 OK [UIDVALIDITY 3] Done.
        a1 OK [UNSEEN 8] Done.
    "#]],
    );
    check(
        |out| Status::untagged(Kind::Bye, "é\r\nx").because(Word::Unavailable).put(out),
        expect![[r"
            * BYE [UNAVAILABLE] ???x
        "]],
    );
    check(
        |out| Status::tagged("a", Kind::Bad, "").put(out),
        expect![[r"
        a BAD -
    "]],
    );
    for word in Word::ALL {
        check_known(&said(|out| ok.because(*word).put(out)));
    }
    said(codes).split_inclusive("\r\n").for_each(check_known);
}

#[test]
fn writes_fetch_lines() {
    let mut sections = Vec::new();
    let text = b"a FETCH 1 (BODY[] BODY.PEEK[1.2.MIME]<0.9> BODY[header.fields.not (from \"a(b\")] BINARY[3])";
    let Ok(Command::Fetch(fetch)) = parse(text, false).map(|tagged| tagged.command) else {
        panic!()
    };
    let line = |out: &mut Chain| {
        let mut line = FetchLine::new(out, 12);
        line.uid(7);
        line.flags(["\\Seen", "$Junk"]);
        line.mod_seq(99);
        line.size(1_024);
        line.internal_date(0);
        line.preview(Some("a \"b\""), false);
        line.item("ENVELOPE").put(b"NIL");
        line.end();
        let mut line = FetchLine::new(out, 13);
        line.email_id("M1");
        line.thread_id(None);
        line.save_date(None);
        for item in &fetch.items {
            match item {
                Item::Section { section, partial, .. } => {
                    line.section(section, partial.map(|partial| partial.first));
                    line.literal(2).put(b"ab");
                }
                Item::Binary { part, .. } => {
                    line.binary_size(*part, 3);
                    line.binary(*part, None);
                    line.literal8(3).put(b"a?b");
                }
                _ => sections.push(item.clone()),
            }
        }
        line.end();
    };
    check(
        line,
        expect![[r#"
        * 12 FETCH (UID 7 FLAGS (\Seen $Junk) MODSEQ (99) RFC822.SIZE 1024 INTERNALDATE " 1-Jan-1970 00:00:00 +0000" PREVIEW "a \"b\"" ENVELOPE NIL)
        * 13 FETCH (EMAILID (M1) THREADID NIL SAVEDATE NIL BODY[] {2}
        ab BODY[1.2.MIME]<0> {2}
        ab BODY[HEADER.FIELDS.NOT (from "a(b")] {2}
        ab BINARY.SIZE[3] 3 BINARY[3] ~{3}
        a?b)
    "#]],
    );
    check_known(&said(|out| {
        let mut line = FetchLine::new(out, 12);
        line.flags([]);
        line.uid(7);
        line.internal_date(951_782_400);
        line.end();
    }));
}

#[test]
fn writes_listings() {
    let write = |out: &mut Chain| {
        let line = ListLine {
            attributes: &["\\HasNoChildren", "\\Sent"],
            name: "Entwürfe",
            ..ListLine::default()
        };
        line.put(out, false);
        line.put(out, true);
        ListLine { lsub: true, ..line }.put(out, false);
        ListLine { attributes: &["\\Noselect"], ..ListLine::default() }.put(out, false);
        ListLine {
            name: "a",
            child_info: &["SUBSCRIBED", "SPECIAL-USE"],
            old_name: Some("b"),
            ..ListLine::default()
        }
        .put(out, false);
        let mut status = StatusLine::new(out, "a b", false);
        status.number(StatusItem::Messages, 231);
        status.number(StatusItem::UidNext, 44_292);
        status.mailbox_id("F2");
        status.append_limit(None);
        status.end();
    };
    check(
        write,
        expect![[r#"
        * LIST (\HasNoChildren \Sent) "/" Entw&APw-rfe
        * LIST (\HasNoChildren \Sent) "/" "Entwürfe"
        * LSUB (\HasNoChildren \Sent) "/" Entw&APw-rfe
        * LIST (\Noselect) "/" ""
        * LIST () "/" a ("CHILDINFO" ("SUBSCRIBED" "SPECIAL-USE") "OLDNAME" ("b"))
        * STATUS "a b" (MESSAGES 231 UIDNEXT 44292 MAILBOXID (F2) APPENDLIMIT NIL)
    "#]],
    );
    check_known("* STATUS \"a b\" (MESSAGES 231 UIDNEXT 44292)\r\n");
}

#[test]
fn writes_what_was_found() {
    let write = |out: &mut Chain| {
        put_numbers(out, [2, 84, 882]);
        end_found(out, None);
        put_numbers(out, [2, 5]);
        end_found(out, Some(917_162_500));
        begin_vanished(out, true);
        put_spans(out, spans("300:310,405,411"));
        out.put(b"\r\n");
        let batches = [Span { first: 99_696, last: 215_295 }, Span { first: 1, last: 1 }];
        put_uid_batches(out, "A143", batches);
        let mut line = Esearch::new(out, "A1", true);
        line.min(2);
        line.max(47);
        line.count(25);
        line.begin_all();
        put_spans(out, spans("1:17,21"));
        let mut line = Esearch::resume(out);
        line.mod_seq(12);
        line.end();
        let mut line = Esearch::new(out, "A2", false);
        line.begin_partial(Page { from_end: true, first: 1, last: 100 });
        out.put(b"NIL");
        let mut line = Esearch::resume(out);
        line.end_partial();
        line.end();
    };
    check(
        write,
        expect![[r#"
         2 84 882
         2 5 (MODSEQ 917162500)
        * VANISHED (EARLIER) 300:310,405,411
        * UIDBATCHES (TAG "A143") 215295:99696,1:1
        * ESEARCH (TAG "A1") UID MIN 2 MAX 47 COUNT 25 ALL 1:17,21 MODSEQ 12
        * ESEARCH (TAG "A2") PARTIAL (-1:-100 NIL)
    "#]],
    );
}

#[test]
fn writes_the_small_answers() {
    let write = |out: &mut Chain| {
        put_count(out, 23, "EXISTS");
        put_words(out, "CAPABILITY", ["IMAP4rev1", "IDLE"]);
        put_words(out, "ENABLED", []);
        put_flags(out, ["\\Answered", "kw"]);
        put_continue(out, "");
        put_id(out, &[("name", Some("Pombal")), ("version", None)]);
        put_id(out, &[]);
        put_namespace(out, "", "/", false);
        let quota = Quota { resource: "STORAGE", usage: 10, limit: 512 };
        put_quota(out, "", &[quota, Quota { resource: "MESSAGE", ..quota }]);
        put_quota_root(out, "INBOX", &[""], false);
    };
    check(
        write,
        expect![[r#"
        * 23 EXISTS
        * CAPABILITY IMAP4rev1 IDLE
        * ENABLED
        * FLAGS (\Answered kw)
        + 
        * ID ("name" "Pombal" "version" NIL)
        * ID NIL
        * NAMESPACE (("" "/")) NIL NIL
        * QUOTA "" (STORAGE 10 512 MESSAGE 10 512)
        * QUOTAROOT INBOX ""
    "#]],
    );
    said(write)
        .split_inclusive("\r\n")
        .filter(|line| *line != "* ENABLED\r\n" && !line.starts_with('+'))
        .for_each(check_known);
}
