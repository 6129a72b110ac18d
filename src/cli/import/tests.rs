//! Sources as servers leave them on the disk: what is found in them.

use super::source::{Place, Source};
use super::*;
use crate::wire::mbox::Quoting;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn write(path: &Path, octets: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, octets).unwrap();
}

fn loaded(source: &dyn Source, named: &Named, folder: &Folder, at: u32) -> Vec<u8> {
    let mut all = Vec::new();
    let mut give = |loaded| {
        all.push(loaded);
        true
    };
    source.load(named, folder, &[at], &mut give).unwrap();
    match all.pop() {
        Some(Loaded::Message(octets)) if all.is_empty() => octets,
        other => panic!("{other:?}"),
    }
}

/// A folder in words: what it is, and a line for each message.
fn shown(source: &dyn Source) -> String {
    let mut text = String::new();
    for named in source.folders(&mut |_, _| ()).unwrap() {
        let mut odd = Vec::new();
        let folder = source.open(&named, &mut |what| odd.push(what)).unwrap();
        let name = named.name.clone().unwrap_or_else(|odd| format!("odd {odd}"));
        let star = if named.subscribed { " *" } else { "" };
        writeln!(text, "{name}{star} {} {}", folder.uidvalidity, folder.uidnext).unwrap();
        for (at, one) in (0..).zip(&folder.messages) {
            let names: Vec<&str> =
                one.keywords.iter().map(|&at| folder.keywords[usize::from(at)].as_str()).collect();
            let octets = loaded(source, &named, &folder, at);
            let uidl = one.uidl.as_deref().or(folder.uidl.as_deref()).unwrap_or("-");
            writeln!(
                text,
                "  {} {} {:?} {uidl} {} {:?}",
                one.uid,
                one.flags.0,
                names,
                if matches!(one.place, Place::File { .. }) { 0 } else { one.date },
                String::from_utf8_lossy(&octets)
            )
            .unwrap();
        }
        for what in &odd {
            writeln!(text, "  note: {what}").unwrap();
        }
    }
    text
}

fn maildir(root: &Path) -> Maildir {
    Maildir { root: root.into(), uidl: None }
}

#[test]
fn reads_a_maildir_of_dovecot() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    write(&root.join("cur/10.M2P1.h,S=3:2,FSab"), "a\nb\n");
    write(&root.join("cur/11.M3P1.h:2,P"), "c\r\n");
    write(&root.join("new/09.M1P1.h"), "d\n");
    write(&root.join("new/12.M1P1.h"), "e\n");
    write(&root.join("new/12.M0P1.h"), "f\n");
    let list = "3 V99 N30 Gabc\n7 :11.M3P1.h:2,\n20 W5 Pold%id :10.M2P1.h,S=3\n21 :gone\n";
    write(&root.join("dovecot-uidlist"), list);
    write(&root.join("dovecot-keywords"), "0 $Junk\n1 Work\n");
    write(&root.join("subscriptions"), "V\t2\n\nINBOX\nA\tB\n");
    write(&root.join(".A.B/cur/1.x:2,S"), "g\n");
    write(&root.join(".A.B/dovecot-uidlist"), "1 5 6\n3 1.x\n");
    write(&root.join(".Entw&APw-rfe/cur/1.x:2,D"), "h\n");
    fs::create_dir_all(root.join(".none")).unwrap();
    let want = "INBOX * 99 30\n  \
        7 0 [\"$Forwarded\"] %08Xu%08Xv 0 \"c\\r\\n\"\n  \
        20 5 [\"$Junk\", \"Work\"] old%%id 0 \"a\\r\\nb\\r\\n\"\n  \
        0 0 [] %08Xu%08Xv 0 \"d\\r\\n\"\n  \
        0 0 [] %08Xu%08Xv 0 \"f\\r\\n\"\n  \
        0 0 [] %08Xu%08Xv 0 \"e\\r\\n\"\n\
        A/B * 5 6\n  3 1 [] - 0 \"g\\r\\n\"\n\
        Entwürfe 0 1\n  0 16 [] - 0 \"h\\r\\n\"\n";
    assert_eq!(shown(&maildir(root)), want);
}

#[test]
fn reads_a_maildir_of_courier() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    write(&root.join("cur/10.a.h:2,S"), "a\n");
    write(&root.join("cur/11.b.h:2,"), "b\n");
    write(&root.join("courierimapuiddb"), "1 77 9\n4 10.a.h\n8 11.b.h\n");
    write(&root.join("courierpop3dsizelist"), "/3 9 77\n10.a.h:2,S 3 4:77:1\n11.b.h 3 0:0:1\n");
    write(&root.join("courierimapkeywords/:list"), "Work\n$Junk\n\n10.a.h:0 1\n11.b.h:0\n");
    write(&root.join("courierimapkeywords/.1.11.b.h"), "Later\n");
    write(&root.join("courierimapkeywords/.0.11.b.h"), "Never\n");
    write(&root.join("courierimapsubscribed"), "INBOX\nINBOX.Sent\n");
    fs::create_dir_all(root.join(".Sent/cur")).unwrap();
    let want = "INBOX * 77 9\n  \
        4 1 [\"Work\", \"$Junk\"] UID4-77 0 \"a\\r\\n\"\n  \
        8 0 [\"Later\"] 11.b.h 0 \"b\\r\\n\"\n\
        Sent * 0 1\n";
    assert_eq!(shown(&maildir(root)), want);
}

#[test]
fn reads_folders_that_lie_in_each_other_and_names_that_are_odd() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for path in ["cur", "A.x/cur", "A.x/B&C/cur", "Entwürfe/cur", "D/E/new", "D/E/cur", "t%t/cur"]
    {
        fs::create_dir_all(root.join(path)).unwrap();
    }
    write(&root.join("subscriptions"), "A.x/B&C\n");
    let want = "INBOX 0 1\nA.x 0 1\nA.x/B&C * 0 1\nD/E 0 1\nEntwürfe 0 1\nt%t 0 1\n";
    assert_eq!(shown(&maildir(root)), want);
    assert!(maildir(&root.join("D")).folders(&mut |_, _| ()).is_err());
}

fn mbox(root: &Path) -> Mbox {
    Mbox {
        root: root.into(),
        folder: "X".into(),
        file_name: None,
        quoting: Quoting::Rd,
        zone: 0,
        uidl: None,
    }
}

#[test]
fn reads_mboxes_by_length_or_by_the_lines_between() {
    let dir = tempfile::tempdir().unwrap();
    let line = "From a@b.example Thu Nov 29 22:33:52 2001\n";
    let text = format!(
        "{line}X-IMAPbase: 50 9 Work\nX-UID: 2\nStatus: RO\nX-Keywords: Work\nContent-Length: 59\n\n\
         x\n\n{line}>From q\nyyyyy\n\n\
         {line}X-UID: 5\nX-Status: F\nContent-Length: 3\n\nbody\n>From q\nFrom me\n\nend\n\n\
         {line}Subject: last\n\n"
    );
    let path = dir.path().join("mail/A/B");
    write(&path, &text);
    let one = "  2 1 [\"Work\"] - 1007073232 \"\\r\\nx\\r\\n\\r\\nFrom a@b.example Thu Nov 29 22:33:52 \
        2001\\r\\n>From q\\r\\nyyyyy\\r\\n\"\n  \
        5 4 [] - 1007073232 \"\\r\\nbody\\r\\nFrom q\\r\\nFrom me\\r\\n\\r\\nend\\r\\n\"\n  \
        0 0 [] - 1007073232 \"Subject: last\\r\\n\\r\\n\"\n";
    assert_eq!(shown(&mbox(&path)), format!("X 50 10\n{one}"));
    write(&dir.path().join("mail/inbox"), "");
    write(&dir.path().join("mail/.subscriptions"), "A/B\n");
    write(&dir.path().join("mail/.imap/x"), "no mbox");
    let tree = format!("A/B * 50 10\n{one}INBOX 0 1\n");
    assert_eq!(shown(&mbox(&dir.path().join("mail"))), tree);
    write(&dir.path().join("odd"), "no mbox\n");
    let odd = mbox(&dir.path().join("odd"));
    let named = odd.folders(&mut |_, _| ()).unwrap().remove(0);
    assert!(odd.open(&named, &mut |_| ()).is_err());
}

#[test]
fn a_file_of_a_given_name_is_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("A/messages"), "");
    write(&dir.path().join("A/B/messages"), "");
    let mut source = mbox(dir.path());
    source.file_name = Some("messages".into());
    assert_eq!(shown(&source), "A 0 1\nA/B 0 1\n");
}

#[test]
fn batches_are_bounded_and_lose_nothing() {
    arbtest::arbtest(|u| {
        let mut found = Vec::new();
        for _ in 0..u.int_in_range(0..=40)? {
            found.push(Found {
                place: Place::Part { from: 0, is_told: false },
                octets: u.int_in_range(0..=MOVING_BATCH_OCTETS_MAX * 2)?,
                uid: 0,
                date: 0,
                flags: crate::mailbox::Flags::default(),
                keywords: Vec::new(),
                uidl: None,
            });
        }
        let folder = Folder { messages: found, ..Folder::default() };
        let wanted: Vec<u32> = (0..).take(folder.messages.len()).collect();
        let batches = batches(&folder, &wanted);
        assert_eq!(batches.concat(), wanted);
        for batch in batches {
            let octets = |at: &u32| folder.messages[usize::try_from(*at).unwrap()].octets;
            let octets: u64 = batch.iter().map(octets).sum();
            assert!(batch.len() == 1 || octets <= MOVING_BATCH_OCTETS_MAX);
        }
        Ok(())
    });
}

#[test]
fn a_uid_that_two_have_is_one_s() {
    let mut folder = Folder::default();
    for (uid, from) in [(5, 1), (0, 2), (5, 3), (2, 4)] {
        folder.messages.push(Found {
            place: Place::Part { from, is_told: false },
            octets: 1,
            uid,
            date: 0,
            flags: crate::mailbox::Flags::default(),
            keywords: Vec::new(),
            uidl: None,
        });
    }
    let mut told = Vec::new();
    folder.sort(&mut |what| told.push(what));
    let uids: Vec<u32> = folder.messages.iter().map(|one| one.uid).collect();
    assert_eq!((uids, folder.uidnext, told.len()), (vec![2, 5, 0, 0], 6, 1));
}

#[test]
fn paths_that_are_not_there_are_told_of() {
    assert!(mbox(&PathBuf::from("/nowhere/at/all")).folders(&mut |_, _| ()).is_err());
}
