//! Passwords of single programs: their octets, and the terms of their keys.

use super::*;
use crate::proto::sasl::{Hash, Keys};

const A: &str = "a@a.example";

/// What a user has beside a password: hidden capabilities, and passwords of single programs.
#[test]
fn writes_application_passwords_in_these_octets_for_ever() {
    let mut world = world("domain a.example\nuser a@a.example");
    let mut change = |write: &dyn Fn(&mut Draft<'_>) -> Result<AccountId, ChangeError>| {
        let (_, group) = world.ledger.turn().unwrap().draft(write).unwrap();
        world.apply(group);
    };
    let digests: [[u8; 32]; 2] = [[0xAA; 32], [0xBB; 32]];
    change(&|draft| draft.set_hash("a@a.example", "$1$x SCRAM-SHA-256$1:eA==$eA==:eA=="));
    change(&|draft| draft.add_app("a@a.example", "phone", (&digests[0], &[]), Wall(0x0102_0304)));
    change(&|draft| draft.add_app("a@a.example", "b\u{fc}ro", (&digests[1], &[]), Wall(5)));
    change(&|draft| draft.set_imap_hidden("a@a.example", &["IDLE".into(), "MOVE".into()]));
    let mut out = String::new();
    let mut page = Vec::new();
    world.ledger.save(0, Lsn(9), &mut |_, saved| page = saved.unwrap());
    for record in &world.log[2..] {
        out.push_str("record");
        hexadecimal(&mut out, &record.body);
    }
    out.push_str("page");
    hexadecimal(&mut out, &page);
    expect![[r"
        record 01000000 01000000 01000000 00000000 00000000 00000000 0b000000 6140612e 6578616d 706c6523 00000024 31247820 53435241 4d2d5348 412d3235 3624313a 65413d3d 2465413d 3d3a6541 3d3d
        record 01000000 05000000 01000000 00000000 00000000 00000000 0b000000 6140612e 6578616d 706c6523 00000024 31247820 53435241 4d2d5348 412d3235 3624313a 65413d3d 2465413d 3d3a6541 3d3d0100 00000403 02010000 00000500 00007068 6f6e6520 000000aa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaa
        record 01000000 05000000 01000000 00000000 00000000 00000000 0b000000 6140612e 6578616d 706c6523 00000024 31247820 53435241 4d2d5348 412d3235 3624313a 65413d3d 2465413d 3d3a6541 3d3d0200 00000403 02010000 00000500 00007068 6f6e6520 000000aa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaa05 00000000 00000005 00000062 c3bc726f 20000000 bbbbbbbb bbbbbbbb bbbbbbbb bbbbbbbb bbbbbbbb bbbbbbbb bbbbbbbb bbbbbbbb
        record 01000000 07000000 01000000 00000000 00000000 00000000 0b000000 6140612e 6578616d 706c6523 00000024 31247820 53435241 4d2d5348 412d3235 3624313a 65413d3d 2465413d 3d3a6541 3d3d0900 00004944 4c45204d 4f564502 00000004 03020100 00000005 00000070 686f6e65 20000000 aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa 05000000 00000000 05000000 62c3bc72 6f200000 00bbbbbb bbbbbbbb bbbbbbbb bbbbbbbb bbbbbbbb bbbbbbbb bbbbbbbb bbbbbbbb bb
        page 01010000 00c90000 00010000 00070000 00010000 00000000 00000000 00000000 000b0000 00614061 2e657861 6d706c65 23000000 24312478 20534352 414d2d53 48412d32 35362431 3a65413d 3d246541 3d3d3a65 413d3d09 00000049 444c4520 4d4f5645 02000000 04030201 00000000 05000000 70686f6e 65200000 00aaaaaa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa aa050000 00000000 00050000 0062c3bc 726f2000 0000bbbb bbbbbbbb bbbbbbbb bbbbbbbb bbbbbbbb bbbbbbbb bbbbbbbb bbbbbbbb bbbb
    "]].assert_eq(&out);

    // And reads them, from the record and from the page.
    let mut replayed = Ledger::new();
    for (at, record) in world.log.iter().enumerate() {
        replay(&mut replayed, Lsn(1 + at as u64), record);
    }
    let mut loaded = Ledger::new();
    loaded.load(0, 0, Lsn(9), &page).unwrap();
    for ledger in [&world.ledger, &replayed, &loaded] {
        let snapshot = ledger.snapshot();
        let Some(Entry::User(user)) = snapshot.find("a@a.example") else { panic!("a is gone") };
        let app = |name: &str, digest: [u8; 32], created| AppPassword {
            name: name.into(),
            digest: digest.into(),
            keys: "".into(),
            created: Wall(created),
        };
        let apps = [app("phone", digests[0], 0x0102_0304), app("b\u{fc}ro", digests[1], 5)];
        assert!(*user.apps == apps, "{} application passwords", user.apps.len());
        let hidden: Vec<&str> = user.imap_hidden.each().map(|(_, name)| name).collect();
        assert_eq!(hidden, ["IDLE", "MOVE"]);
    }
}

/// Keys of application passwords stand behind their digests, of all or of none.
#[test]
fn writes_keys_of_application_passwords_in_these_octets_for_ever() {
    let mut world = world("domain a.example\nuser a@a.example");
    let keys = Keys::derive(Hash::Sha1, "phone", b"salt", 1);
    let mut change = |write: &dyn Fn(&mut Draft<'_>) -> Result<AccountId, ChangeError>| {
        let (_, group) = world.ledger.turn().unwrap().draft(write).unwrap();
        world.apply(group);
    };
    change(&|draft| draft.set_hash("a@a.example", "$1$x"));
    change(&|draft| draft.add_app("a@a.example", "old", (&[0xAA; 32], &[]), Wall(5)));
    let new = (&[0xBB; 32][..], &[keys.clone()][..]);
    change(&|draft| draft.add_app("a@a.example", "new", new, Wall(6)));
    let mut out = String::from("record");
    hexadecimal(&mut out, &world.log.last().unwrap().body);
    expect![[r"
        record 01000000 0d000000 01000000 00000000 00000000 00000000 0b000000 6140612e 6578616d 706c6504 00000024 31247802 00000005 00000000 00000003 0000006f 6c642000 0000aaaa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa aaaa0000 00000600 00000000 00000300 00006e65 77200000 00bbbbbb bbbbbbbb bbbbbbbb bbbbbbbb bbbbbbbb bbbbbbbb bbbbbbbb bbbbbbbb bb500000 00534352 414d2d53 48412d31 24313a63 32467364 413d3d24 46663037 396a3838 6349576e 64446c64 6f5a4f39 57327545 4562733d 3a5a496e 726e6661 3155357a 2b453546 67385245 72506a69 434c7867 3d
    "]].assert_eq(&out);
    let mut replayed = Ledger::new();
    for (at, record) in world.log.iter().enumerate() {
        replay(&mut replayed, Lsn(1 + at as u64), record);
    }
    let snapshot = replayed.snapshot();
    let Some(Entry::User(user)) = snapshot.find("a@a.example") else { panic!("a is gone") };
    let found: Vec<Vec<Keys>> = user.apps.iter().map(|app| app.keys().collect()).collect();
    assert_eq!(found, [vec![], vec![keys]]);
}

/// All passwords of a user have their keys on the same terms: what does not fit is not taken, and what
/// does not fit any more goes.
#[test]
fn keys_of_all_passwords_of_a_user_are_on_the_same_terms() {
    let mut world = world("domain a.example\nuser a@a.example");
    let keys = |password: &str, salt: &[u8]| Keys::derive(Hash::Sha256, password, salt, 1);
    let hash = |password: &str, salt: &[u8]| format!("$1$x {}", keys(password, salt));
    let mut change = |write: &dyn Fn(&mut Draft<'_>) -> Result<AccountId, ChangeError>| {
        let (_, group) = world.ledger.turn().unwrap().draft(write)?;
        world.apply(group);
        let snapshot = world.ledger.snapshot();
        let Some(Entry::User(user)) = snapshot.find(A) else { panic!("a is gone") };
        Ok((user.terms(), user.bound_terms()))
    };
    let (terms, bound) = change(&|draft| draft.set_hash(A, &hash("own", b"salt"))).unwrap();
    assert_eq!((terms, bound), (vec![keys("", b"salt").terms], vec![]));
    let app = |keys: Keys| {
        move |draft: &mut Draft<'_>| {
            draft.add_app(A, "phone", (&[1; 32], std::slice::from_ref(&keys)), Wall(1))
        }
    };
    let changed = ChangeError::PasswordChanged(Name::new("a", "a.example"));
    assert_eq!(change(&app(keys("app", b"pepper"))), Err(changed.clone()));
    let (terms, bound) = change(&app(keys("app", b"salt"))).unwrap();
    assert_eq!(terms, bound);
    // What is kept anew behind a login must not take an application password away.
    let known = hash("own", b"salt");
    let anew = |draft: &mut Draft<'_>| draft.replace_hash(A, &known, &hash("own", b"pepper"));
    assert_eq!(change(&anew), Err(changed));
    // A hash without keys leaves them as they are; keys of elsewhere are the operator's wish.
    let (_, bound) = change(&|draft| draft.set_hash(A, "$1$y")).unwrap();
    assert_eq!(bound, terms);
    let (terms, bound) = change(&|draft| draft.set_hash(A, &hash("own", b"pepper"))).unwrap();
    assert_eq!((terms, bound), (vec![keys("", b"pepper").terms], vec![]));
}
