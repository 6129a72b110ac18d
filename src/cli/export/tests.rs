//! What is written is read again by the import as it was.

use super::*;
use crate::cli::args::Layout;
use std::fs;
use std::path::Path;

fn folder(name: &str, messages: u32) -> Folder {
    Folder { mailbox: 1, name: name.into(), uses: 0, uidvalidity: 77, uidnext: 30, messages }
}

fn fill(target: &mut dyn Target) {
    let all = [folder("INBOX", 2), folder("Entwürfe/a", 1), folder("Entwürfe", 0)];
    for folder in &all {
        assert_eq!(target.begin(folder, &all).unwrap(), None);
        target.name(&["Work".into(), "$Junk".into()]);
        for uid in 1..=folder.messages {
            let parcel =
                Parcel { uid: uid * 10, date: 1_000_000_000 + uid, flags: 5, ..Parcel::default() };
            let text = b"Subject: a\r\nStatus: x\r\n\r\nFrom me\r\n\r\nFrom a Thu Nov 29 22:33:52 2001\r\n";
            assert_eq!(target.put(&parcel, &["Work"], text).unwrap(), None);
        }
        target.end(folder).unwrap();
    }
    target.close(&["INBOX".into(), "Entwürfe/a".into()]).unwrap();
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn writes_a_maildir_as_dovecot_does() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fill(&mut Maildir::new(root.into(), Layout::MaildirPlusPlus));
    let list = "3 V77 N30\n\
        10 P77.10 W69 :1000000001.M10P77.pombal,S=63,W=69\n\
        20 P77.20 W69 :1000000002.M20P77.pombal,S=63,W=69\n";
    assert_eq!(read(&root.join("dovecot-uidlist")), list);
    assert_eq!(read(&root.join("dovecot-keywords")), "0 Work\n");
    assert_eq!(read(&root.join("subscriptions")), "INBOX\nEntw&APw-rfe.a\n");
    let file = root.join(".Entw&APw-rfe.a/cur/1000000001.M10P77.pombal,S=63,W=69:2,FSa");
    assert!(read(&file).starts_with("Subject: a\nStatus: x\n\nFrom me\n"));
    assert!(root.join(".Entw&APw-rfe/cur").is_dir());
    let again = Maildir::new(root.into(), Layout::MaildirPlusPlus).begin(&folder("INBOX", 0), &[]);
    assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    let mut other = Maildir::new(root.join("x"), Layout::MaildirPlusPlus);
    assert!(other.begin(&folder("a.b", 0), &[]).unwrap().is_some());
    let mut other = Maildir::new(root.join("x"), Layout::Fs);
    assert_eq!(other.begin(&folder("a.b/c", 0), &[]).unwrap(), None);
    assert!(root.join("x/a.b/c/cur").is_dir());
}

#[test]
fn writes_an_mbox_as_dovecot_does() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fill(&mut Mbox::new(root.into(), None));
    let first = "From MAILER-DAEMON Sun Sep  9 01:46:41 2001\nSubject: a\n";
    let text = read(&root.join("inbox"));
    let rest = text.strip_prefix(first).unwrap();
    let want = "X-IMAPbase: 77 0000000029 Work $Junk\nX-UID: 10\nStatus: RO\nX-Status: F\nX-Keywords: Work\n\
        Content-Length: 41\n\nFrom me\n\nFrom a Thu Nov 29 22:33:52 2001\n\nFrom ";
    assert!(rest.starts_with(want), "{text}");
    assert!(root.join("Entw&APw-rfe/a").is_file());
    assert_eq!(read(&root.join(".subscriptions")), "INBOX\nEntw&APw-rfe/a\n");
    let all = [folder("A", 1), folder("A/B", 1)];
    assert!(Mbox::new(root.into(), None).begin(&all[0], &all).unwrap().is_some());
    let mut named = Mbox::new(root.into(), Some("messages".into()));
    assert_eq!(named.begin(&all[0], &all).unwrap(), None);
    assert!(root.join("A/messages").is_file());
}
