//! MESSAGELIMIT (RFC 9738) and UIDBATCHES (RFC 10022) over more messages than fit into one.

use crate::harness::Server;
use crate::imap::Imap;

const LIMIT: u32 = 1_000;

/// Puts so many small messages into INBOX, a thousand at a time.
fn fill(imap: &mut Imap, count: u32) {
    let mut left = count;
    while left > 0 {
        let some = left.min(LIMIT);
        let message = " {14+}\r\nSubject: 1\r\n\r\n";
        imap.link.send(format!("tag APPEND INBOX{}\r\n", message.repeat(some as usize))).unwrap();
        let last = imap.answer("tag").unwrap().pop().unwrap();
        assert!(last.starts_with("OK "), "{last}");
        left -= some;
    }
}

fn with_limit(count: u32) -> (Server, Imap) {
    let server = Server::with_users("[imap]\nmessage_limit = 1000\n", &["ann"]);
    let mut imap = Imap::login(&server, "ann").unwrap();
    fill(&mut imap, count);
    imap.ok("SELECT INBOX").unwrap();
    (server, imap)
}

/// The answer to a command: how many untagged lines, the first of them, the tagged one.
fn answer(imap: &mut Imap, command: &str) -> (usize, String, String) {
    let mut lines = imap.command(command).unwrap();
    let last = lines.pop().unwrap();
    (lines.len(), lines.first().cloned().unwrap_or_default(), last)
}

#[track_caller]
fn check(imap: &mut Imap, command: &str, count: usize, first: &str, last: &str) {
    let got = answer(imap, command);
    let want = (count, first, last);
    let fits = got.0 == count && got.1.starts_with(first) && got.2.starts_with(last);
    assert!(fits, "{command}: {got:?}, not {want:?}");
}

#[test]
fn commands_stop_at_the_limit_and_say_where() {
    let (_server, mut imap) = with_limit(1_200);
    let words = imap.ok("CAPABILITY").unwrap();
    assert!(words[0].contains(" MESSAGELIMIT=1000"), "{words:?}");
    let imap = &mut imap;
    // From the highest UID down.
    check(imap, "FETCH 1:* UID", 1_000, "* 1200 FETCH (UID 1200)", "OK [MESSAGELIMIT 1000 201]");
    check(imap, "UID FETCH 1:200 FLAGS", 200, "* 1 FETCH", "OK fetched");
    check(imap, "UID FETCH 101:1100 UID", 1_000, "* 101 FETCH", "OK fetched");
    check(imap, "UID FETCH 1:* UID (PARTIAL 1:1001)", 0, "", "NO [MESSAGELIMIT 1000]");
    check(imap, "UID FETCH 1:* UID (PARTIAL 201:1200)", 1_000, "* 201 FETCH", "OK fetched");
    check(
        imap,
        "UID STORE 1:1100 +FLAGS (\\Flagged)",
        1_000,
        "* 1100 FETCH",
        "OK [MESSAGELIMIT 1000 101]",
    );
    // It is the messages that are searched that count, not those that are found.
    check(imap, "SEARCH SUBJECT none", 1, "* SEARCH", "OK [MESSAGELIMIT 1000 201]");
    check(imap, "SEARCH FLAGGED", 1, "* SEARCH 1100 1099 ", "OK [MESSAGELIMIT 1000 201]");
    check(imap, "SEARCH 1:1000 FLAGGED", 1, "* SEARCH 101 102 ", "OK searched");
    check(imap, "UID SEARCH UIDBEFORE 201 ALL", 1, "* SEARCH 1 2 3 ", "OK searched");
    check(imap, "UID SEARCH (UIDAFTER 200 FLAGGED)", 1, "* SEARCH 201 ", "OK searched");
    check(imap, "UID SEARCH UIDAFTER 200 UIDBEFORE 203", 1, "* SEARCH 201 202", "OK searched");
    check(
        imap,
        "SEARCH RETURN (SAVE ALL) ALL",
        1,
        "* ESEARCH (TAG \"tag\") ALL 201:1200",
        "OK [MESSAGELIMIT 1000 201]",
    );
    check(imap, "FETCH $ UID", 1_000, "* 201 FETCH", "OK fetched");
    check(imap, "SORT (ARRIVAL) UTF-8 ALL", 0, "", "NO [MESSAGELIMIT 1000]");
    check(imap, "UID THREAD REFERENCES UTF-8 ALL", 0, "", "NO [MESSAGELIMIT 1000]");
    check(imap, "SORT (ARRIVAL) UTF-8 UIDAFTER 200", 1, "* SORT 201 ", "OK sorted");
    // COPY is done in full or not at all.
    check(imap, "COPY 1:* Archive", 0, "", "NO [MESSAGELIMIT 1000 201]");
    let status = imap.ok("STATUS Archive (MESSAGES)").unwrap();
    assert_eq!(status, ["* STATUS Archive (MESSAGES 0)"]);
}

#[test]
fn a_second_code_goes_into_a_line_of_its_own() {
    let (_server, mut imap) = with_limit(1_200);
    let imap = &mut imap;
    let lines = imap.command("UID STORE 1:* (UNCHANGEDSINCE 1) +FLAGS.SILENT (\\Seen)").unwrap();
    let told = lines.iter().any(|line| line.starts_with("* NO [MESSAGELIMIT 1000 201] "));
    assert!(told && lines.last().unwrap().starts_with("OK [MODIFIED 201:1200]"), "{lines:?}");
    imap.ok("ENABLE QRESYNC").unwrap();
    imap.ok("UID STORE 1:1000 +FLAGS.SILENT (\\Deleted)").unwrap();
    imap.ok("UID STORE 1001:* +FLAGS.SILENT (\\Deleted)").unwrap();
    let lines = imap.command("UID EXPUNGE 1:*").unwrap();
    assert!(lines.contains(&"* VANISHED 201:1200".into()), "{lines:?}");
    let told = lines.iter().any(|line| line.starts_with("* NO [MESSAGELIMIT 1000 201] "));
    assert!(told && lines.last().unwrap().starts_with("OK [HIGHESTMODSEQ "), "{lines:?}");
}

#[test]
fn removals_stop_at_the_limit_but_expunge_does_not() {
    let (_server, mut imap) = with_limit(2_300);
    let imap = &mut imap;
    let lines = imap.command("UID MOVE 1:* Archive").unwrap();
    assert!(lines[0].starts_with("* OK [COPYUID "), "{}", lines[0]);
    assert_eq!(lines[1], "* 2300 EXPUNGE");
    assert!(lines.last().unwrap().starts_with("OK [MESSAGELIMIT 1000 1301]"), "{lines:?}");
    imap.ok("STORE 1:1000 +FLAGS.SILENT (\\Deleted)").unwrap();
    imap.ok("STORE 1001:* +FLAGS.SILENT (\\Deleted)").unwrap();
    check(imap, "UID EXPUNGE 1:*", 1_000, "* 1300 EXPUNGE", "OK [MESSAGELIMIT 1000 301]");
    fill(imap, 900);
    imap.ok("STORE 1:* +FLAGS.SILENT (\\Deleted)").unwrap();
    imap.ok("UID STORE 1:300 +FLAGS.SILENT (\\Deleted)").unwrap();
    check(imap, "EXPUNGE", 1_200, "* 1200 EXPUNGE", "OK expunged");
    // One message too many in one APPEND.
    let message = " {14+}\r\nSubject: 1\r\n\r\n".repeat(1_001);
    imap.link.send(format!("tag APPEND INBOX{message}\r\n")).unwrap();
    let last = imap.answer("tag").unwrap().pop().unwrap();
    assert!(last.starts_with("NO [MESSAGELIMIT 1000]"), "{last}");
}

#[test]
fn batches_cover_all_uids_without_a_gap() {
    let server = Server::with_users("", &["ann"]);
    let mut imap = Imap::login(&server, "ann").unwrap();
    let words = imap.ok("CAPABILITY").unwrap();
    assert!(words[0].contains(" UIDBATCHES") && !words[0].contains("MESSAGELIMIT"), "{words:?}");
    fill(&mut imap, 1_700);
    imap.ok("SELECT INBOX").unwrap();
    imap.ok("UID STORE 101:200 +FLAGS.SILENT (\\Deleted)").unwrap();
    imap.ok("EXPUNGE").unwrap();
    let mut batches = |command: &str| imap.ok(command).unwrap().pop().unwrap();
    let front = "* UIDBATCHES (TAG \"tag\")";
    assert_eq!(batches("UIDBATCHES 500"), format!("{front} 1700:1201,1200:701,700:201,200:1"));
    assert_eq!(batches("UIDBATCHES 1600"), format!("{front} 1700:1"));
    assert_eq!(batches("UIDBATCHES 500 2:3"), format!("{front} 1200:701,700:201"));
    assert_eq!(batches("UIDBATCHES 500 4:9"), format!("{front} 200:1"));
}
