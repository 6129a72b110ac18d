//! In which log an account lies.

use super::*;

/// Users of before their records said where their accounts lie, and what is written of them from then on.
#[test]
fn places_users_of_earlier_releases_by_how_many_logs_the_store_was_made_with() {
    let mut world = world("domain example.org");
    world.ledger.set_logs(2, 4);
    let old = |account: u8, name: &str| {
        let mut body = vec![account, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        body.extend([0; 8]);
        for text in [name, HASH] {
            body.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
            body.extend(text.as_bytes());
        }
        OwnedRecord { kind: 66, version: 1, flags: 0, account: 0, body }
    };
    for (account, name) in [(1, "a@example.org"), (8, "h@example.org")] {
        replay(&mut world.ledger, Lsn(u64::from(account) + 10), &old(account, name));
    }
    let log_of = |ledger: &Ledger, name: &str| match ledger.snapshot().find(name) {
        Some(Entry::User(user)) => user.log,
        other => panic!("{other:?}"),
    };
    assert_eq!(log_of(&world.ledger, "a@example.org"), LogId(1));
    assert_eq!(log_of(&world.ledger, "h@example.org"), LogId(0));
    let mut pages = Vec::new();
    world.ledger.save(0, Lsn(20), &mut |_, page| pages.extend(page));
    let mut loaded = Ledger::new();
    loaded.set_logs(2, 4);
    loaded.load(0, 0, Lsn(20), &pages[0]).unwrap();
    assert_eq!(log_of(&loaded, "a@example.org"), LogId(1));
    assert_eq!((loaded.logs_needed(), world.ledger.logs_needed()), (2, 2));
    // They are as an earlier release wrote them, and reads them.
    for (account, name) in [(1, "a@example.org"), (8, "h@example.org")] {
        let body = old(account, name).body;
        assert!(pages[0].windows(body.len()).any(|octets| octets == body), "{:x?}", pages[0]);
    }
}

/// Only who lies elsewhere than the hash says so: what no log was added to is read by earlier releases.
#[test]
fn writes_the_log_of_an_account_only_where_the_hash_has_another() {
    let mut world = world("domain a.example");
    world.ledger.set_logs(2, 2);
    for name in ["a", "b", "c", "d"] {
        world.run(&format!("user {name}@a.example"));
    }
    let written = world.log.iter().filter(|record| record.kind == 66).map(|record| {
        let account = AccountId(u32::from(record.body[0]));
        let name = ["", "a", "b", "c", "d"][account.0 as usize];
        let log = match world.ledger.snapshot().find(&format!("{name}@a.example")) {
            Some(Entry::User(user)) => user.log,
            other => panic!("{other:?}"),
        };
        (log == account.log(2), record.body[4] & 32 == 0)
    });
    let written: Vec<(bool, bool)> = written.collect();
    assert!(written.iter().all(|(is_hashed, is_bare)| is_hashed == is_bare), "{written:?}");
    assert!(written.contains(&(true, true)) && written.contains(&(false, false)), "{written:?}");
}

#[test]
fn places_new_users_where_the_fewest_live() {
    let mut world = world("");
    world.ledger.set_logs(2, 2);
    world.run("domain a.example");
    let lives = |world: &mut World, name: &str| {
        world.run(&format!("user {name}@a.example"));
        match world.ledger.snapshot().find(&format!("{name}@a.example")) {
            Some(Entry::User(user)) => user.log.0,
            other => panic!("{other:?}"),
        }
    };
    let first: Vec<u16> = ["a", "b", "c", "d", "e"].map(|name| lives(&mut world, name)).into();
    assert_eq!(first, [0, 1, 0, 1, 0]);
    // Those that go make room.
    world.run("unuser a@a.example");
    world.run("unuser c@a.example");
    assert_eq!(lives(&mut world, "f"), 0);
    // All in one group.
    let turn = world.ledger.turn().unwrap();
    let drafted = turn.draft(|draft| {
        for name in ["g", "h", "i"] {
            draft.add_user(&format!("{name}@a.example"), HASH, 0, Wall(1))?;
        }
        Ok(["g", "h", "i"].map(|name| draft.user(&format!("{name}@a.example")).unwrap().log.0))
    });
    assert_eq!(drafted.unwrap().0, [0, 1, 0]);
    drop(turn);
    // A change of a user moves nobody, and logs that were added fill up first.
    world.run("off b@a.example");
    let mut grown = Ledger::new();
    grown.set_logs(2, 4);
    for (at, record) in world.log.iter().enumerate() {
        replay(&mut grown, Lsn(1 + at as u64), record);
    }
    let turn = grown.turn().unwrap();
    let drafted = turn.draft(|draft| {
        let names = ["p", "q", "r", "s", "t"];
        for name in names {
            draft.add_user(&format!("{name}@a.example"), HASH, 0, Wall(1))?;
        }
        Ok(names.map(|name| draft.user(&format!("{name}@a.example")).unwrap().log.0))
    });
    assert_eq!(drafted.unwrap().0, [2, 3, 2, 3, 0]);
}
