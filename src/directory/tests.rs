//! The directory through its records: changed, saved, read again, looked up.

use super::*;
use crate::bytes::hash::Sorted;
use crate::model::id::{AccountId, LogId, Lsn};
use crate::model::limits::{ALIAS_DEPTH_MAX, DIRECTORY_CHANGES_MAX};
use crate::model::time::Wall;
use crate::store::record::{OwnedRecord, Record};
use crate::store::{Blobs, Group, Machine};
use expect_test::{Expect, expect};
use std::fmt::Write as _;

mod apps;
mod explain;
mod logs;
mod vacation;

const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA";

/// A directory and the log it came from.
#[derive(Default)]
struct World {
    ledger: Ledger,
    log: Vec<OwnedRecord>,
    settings: Settings,
}

impl World {
    fn apply(&mut self, group: Group) {
        for record in group.records {
            self.log.push(record);
            let at = Lsn(self.log.len() as u64);
            replay(&mut self.ledger, at, &self.log[self.log.len() - 1]);
        }
    }

    /// One line as an operator might say it; the answer is shown.
    fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let now = Wall(1);
        let turn = self.ledger.turn().expect("nobody else changes anything");
        let drafted = turn.draft(|draft| match words[..] {
            ["domain", name] => draft.add_domain(name, now).map(|name| name.to_string()),
            ["undomain", name] => draft.del_domain(name).map(|()| "ok".into()),
            ["user", name] => draft.add_user(name, HASH, 0, now).map(|id| id.to_string()),
            ["unuser", name] => draft.del_user(name).map(|user| user.account.to_string()),
            ["off", name] => draft.set_enabled(name, false).map(|user| user.account.to_string()),
            ["list", name, owner, ref targets @ ..] => {
                draft.add_list(name, targets, Some(owner)).map(|name| name.to_string())
            }
            ["alias", name, ref targets @ ..] => {
                draft.add_alias(name, targets).map(|name| name.to_string())
            }
            ["unalias", name] => draft.del_alias(name).map(|()| "ok".into()),
            _ => panic!("{line}"),
        });
        match drafted {
            Ok((answer, group)) => {
                self.apply(group);
                answer
            }
            Err(error) => error.to_string(),
        }
    }

    fn find(&self, address: &str) -> String {
        let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
        match resolve(&self.ledger.snapshot(), local.as_bytes(), domain, &self.settings) {
            Resolution::Aliased(aliased) => {
                let mut text = String::from("aliased");
                let of = |owner: &Option<Box<str>>| {
                    owner.as_ref().map(|owner| format!(" of {owner}")).unwrap_or_default()
                };
                for Local { account, via, owner, .. } in &aliased.locals {
                    write!(text, " {account}={via}{}", of(owner)).unwrap();
                }
                for Remote { address, owner } in &aliased.remotes {
                    write!(text, " {address}{}", of(owner)).unwrap();
                }
                if let Some(owner) = aliased.list_owner() {
                    write!(text, ", all of {owner}").unwrap();
                }
                text
            }
            Resolution::Account { account, .. } => format!("Account({account:?})"),
            found => format!("{found:?}"),
        }
    }
}

fn replay(ledger: &mut Ledger, at: Lsn, record: &OwnedRecord) {
    let OwnedRecord { kind, version, flags, account, ref body } = *record;
    let record = Record { kind, version, flags, account, body };
    let mut change = |_, _, _| panic!("the directory has no blobs");
    ledger.apply(at, record, &mut Blobs::observed(at, &mut change)).unwrap();
}

fn world(lines: &str) -> World {
    let mut world = World::default();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        world.run(line);
    }
    world
}

/// Runs the lines; `? address` looks up, everything else changes.
#[track_caller]
fn check(lines: &str, want: &Expect) {
    let mut world = World::default();
    let mut got = String::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let answer = match line.strip_prefix("? ") {
            Some(address) => world.find(address),
            None => world.run(line),
        };
        writeln!(got, "{line} -> {answer}").unwrap();
    }
    want.assert_eq(&got);
}

#[test]
fn finds_users_in_any_case_and_with_a_tag() {
    check(
        "domain Example.org
         user Bob@Example.ORG
         user bob+exact@example.org
         ? bob@example.org
         ? BOB@EXAMPLE.org.
         ? bob+lists+more@example.org
         ? bob+exact@example.org
         ? +bob@example.org
         ? nobody@example.org
         ? bob@other.example
         ? bob",
        &expect![[r"
            domain Example.org -> example.org
            user Bob@Example.ORG -> 1
            user bob+exact@example.org -> 2
            ? bob@example.org -> Account(AccountId(1))
            ? BOB@EXAMPLE.org. -> Account(AccountId(1))
            ? bob+lists+more@example.org -> Account(AccountId(1))
            ? bob+exact@example.org -> Account(AccountId(2))
            ? +bob@example.org -> UnknownUser
            ? nobody@example.org -> UnknownUser
            ? bob@other.example -> UnknownDomain
            ? bob -> UnknownDomain
        "]],
    );
}

#[test]
fn takes_u_labels_and_a_labels_for_the_same_domain() {
    check(
        "domain Grün.example
         user bjørn@grün.example
         ? bjørn@GRÜN.example
         ? bjørn@xn--grn-ioa.example
         ? bjørn@XN--GRN-HOA.EXAMPLE
         ? bjørn@gr\u{fffd}n.example
         domain xn--grn-ioa.example",
        &expect![[r"
            domain Grün.example -> xn--grn-ioa.example
            user bjørn@grün.example -> 1
            ? bjørn@GRÜN.example -> Account(AccountId(1))
            ? bjørn@xn--grn-ioa.example -> Account(AccountId(1))
            ? bjørn@XN--GRN-HOA.EXAMPLE -> UnknownDomain
            ? bjørn@gr�n.example -> UnknownDomain
            domain xn--grn-ioa.example -> the domain xn--grn-ioa.example exists already
        "]],
    );
}

#[test]
fn follows_aliases_and_reaches_each_account_once() {
    check(
        "domain a.example
         domain b.example
         user bob@a.example
         user eve@a.example
         alias team@a.example bob@a.example eve+team@a.example bob@a.example Carol@Else.example
         alias all@b.example team@a.example Bob@A.example carol@else.example Carol@else.example
         alias @b.example all@b.example
         ? team@a.example
         ? TEAM+x@a.example
         ? all@b.example
         ? whoever@b.example
         unuser bob@a.example
         off eve@a.example
         ? all@b.example",
        &expect![[r"
            domain a.example -> a.example
            domain b.example -> b.example
            user bob@a.example -> 1
            user eve@a.example -> 2
            alias team@a.example bob@a.example eve+team@a.example bob@a.example Carol@Else.example -> team@a.example
            alias all@b.example team@a.example Bob@A.example carol@else.example Carol@else.example -> all@b.example
            alias @b.example all@b.example -> @b.example
            ? team@a.example -> aliased 1=bob@a.example 2=eve+team@a.example Carol@else.example
            ? TEAM+x@a.example -> aliased 1=bob@a.example 2=eve+team@a.example Carol@else.example
            ? all@b.example -> aliased 1=Bob@a.example 2=eve+team@a.example carol@else.example Carol@else.example
            ? whoever@b.example -> aliased 1=Bob@a.example 2=eve+team@a.example carol@else.example Carol@else.example
            unuser bob@a.example -> 1
            off eve@a.example -> 2
            ? all@b.example -> aliased carol@else.example Carol@else.example
        "]],
    );
}

#[test]
fn tells_who_is_off_from_who_is_not() {
    check(
        "domain a.example
         user bob@a.example
         alias b@a.example bob@a.example
         off bob@a.example
         ? bob@a.example
         ? bob+x@a.example
         ? b@a.example
         unuser bob@a.example
         ? bob@a.example
         ? b@a.example",
        &expect![[r"
            domain a.example -> a.example
            user bob@a.example -> 1
            alias b@a.example bob@a.example -> b@a.example
            off bob@a.example -> 1
            ? bob@a.example -> Disabled
            ? bob+x@a.example -> Disabled
            ? b@a.example -> Disabled
            unuser bob@a.example -> 1
            ? bob@a.example -> UnknownUser
            ? b@a.example -> UnknownUser
        "]],
    );
}

#[test]
fn answers_postmaster_and_abuse_out_of_their_domain() {
    check(
        "domain a.example
         ? postmaster@a.example
         ? postmaster
         user old@a.example
         ? postmaster
         ? Abuse@a.example
         domain b.example
         ? postmaster
         ? postmaster@b.example
         ? abuse@b.example
         user bob@b.example
         user ann@b.example
         ? PostMaster@b.example
         alias @b.example ann@b.example
         ? postmaster@b.example
         alias postmaster@b.example bob@b.example
         ? postmaster@b.example
         ? abuse@b.example
         off bob@b.example
         ? postmaster@b.example
         unalias @b.example
         ? postmaster@b.example
         off ann@b.example
         ? postmaster@b.example
         ? postmaster@a.example
         ? postmaster@else.example
         ? abuse",
        &expect![[r"
            domain a.example -> a.example
            ? postmaster@a.example -> UnknownUser
            ? postmaster -> UnknownUser
            user old@a.example -> 1
            ? postmaster -> Account(AccountId(1))
            ? Abuse@a.example -> Account(AccountId(1))
            domain b.example -> b.example
            ? postmaster -> UnknownUser
            ? postmaster@b.example -> UnknownUser
            ? abuse@b.example -> UnknownUser
            user bob@b.example -> 2
            user ann@b.example -> 3
            ? PostMaster@b.example -> Account(AccountId(2))
            alias @b.example ann@b.example -> @b.example
            ? postmaster@b.example -> aliased 3=ann@b.example
            alias postmaster@b.example bob@b.example -> postmaster@b.example
            ? postmaster@b.example -> aliased 2=bob@b.example
            ? abuse@b.example -> aliased 3=ann@b.example
            off bob@b.example -> 2
            ? postmaster@b.example -> aliased 3=ann@b.example
            unalias @b.example -> ok
            ? postmaster@b.example -> Account(AccountId(3))
            off ann@b.example -> 3
            ? postmaster@b.example -> UnknownUser
            ? postmaster@a.example -> Account(AccountId(1))
            ? postmaster@else.example -> UnknownDomain
            ? abuse -> UnknownDomain
        "]],
    );
}

#[test]
fn takes_the_configured_postmaster_where_a_domain_has_nobody() {
    let mut world = world("domain a.example\ndomain b.example\nuser bob@a.example");
    world.run("user ops@a.example");
    world.settings.postmaster = Some("ops@a.example".into());
    world.settings.hostname = "mx.else.example".into();
    let found =
        ["postmaster@b.example", "abuse@b.example", "postmaster", "postmaster@MX.else.example"];
    assert_eq!(found.map(|address| world.find(address)), ["aliased 2=ops@a.example"; 4]);
    assert_eq!(world.find("abuse@a.example"), "Account(AccountId(1))");
    world.run("unuser ops@a.example");
    assert_eq!(found.map(|address| world.find(address)), ["UnknownUser"; 4]);
}

#[test]
fn takes_the_postmaster_of_the_domain_that_the_host_lies_in() {
    let mut world =
        world("domain a.example\ndomain b.example\nuser bob@a.example\nuser ann@b.example");
    world.settings.hostname = "mx.b.example".into();
    let found = ["postmaster", "postmaster@mx.b.example", "postmaster@b.example"];
    assert_eq!(found.map(|address| world.find(address)), ["Account(AccountId(2))"; 3]);
    world.run("domain empty.example");
    assert_eq!(world.find("abuse@empty.example"), "Account(AccountId(2))");
    assert_eq!(world.find("abuse@mx.b.example"), "UnknownDomain");
}

/// A login has shown the password while `user passwd` sets another one: that one stays.
#[test]
fn a_hash_is_replaced_only_while_it_is_the_one_that_was_checked() {
    let mut world = world("domain a.example");
    let turn = world.ledger.turn().unwrap();
    let added = turn.draft(|draft| draft.add_user("bob@a.example", "{SSHA}old", 7, Wall(2)));
    drop(turn);
    world.apply(added.unwrap().1);
    let turn = world.ledger.turn().unwrap();
    let replace = |known: &str| {
        turn.draft(|draft| draft.replace_hash("Bob@A.example", known, "$new$ SCRAM$x"))
    };
    let refused = replace("{SSHA}older").map(|_| ()).unwrap_err();
    assert_eq!(refused.to_string(), "the password of bob@a.example was changed meanwhile");
    let (account, group) = replace("{SSHA}old").unwrap();
    assert_eq!((account, group.records.len()), (AccountId(1), 1));
    // What was set in the same moment counts.
    let both = turn.draft(|draft| {
        draft.set_hash("bob@a.example", "$set$")?;
        draft.replace_hash("bob@a.example", "{SSHA}old", "$new$")
    });
    assert!(matches!(both, Err(ChangeError::PasswordChanged(_))));
    drop(turn);
    world.apply(group);
    let snapshot = world.ledger.snapshot();
    let Some(Entry::User(user)) = snapshot.find("bob@a.example") else { panic!("bob is gone") };
    assert_eq!((&*user.hash, user.quota, user.enabled), ("$new$ SCRAM$x", 7, true));
}

#[test]
fn says_clearly_why_a_change_is_not_made() {
    check(
        "user bob@a.example
         domain a..example
         domain a.example
         domain A.EXAMPLE
         user bob
         user a b@a.example
         user @a.example
         user \u{ff41}nn@a.example
         user bob@a.example
         user BOB@a.example
         alias bob@a.example x@else.example
         alias x@a.example
         alias x@a.example nobody@a.example
         alias x@a.example @else.example
         alias x@a.example x@a.example
         alias x@a.example X+tag@A.example
         alias x@a.example bob@a.example
         alias x@a.example bob@a.example
         alias y@a.example x@a.example
         user x@a.example
         unalias x@a.example
         alias x@a.example y@a.example
         unalias bob@a.example
         unuser y@a.example
         undomain a.example
         undomain b.example
         unalias y@a.example
         unuser bob@a.example
         undomain a.example
         domain a.example
         user bob@a.example"
            .replace("user a b@", "user a(b@")
            .as_str(),
        &expect![[r#"
            user bob@a.example -> the domain a.example is not served here: add it first
            domain a..example -> "a..example": not a domain name
            domain a.example -> a.example
            domain A.EXAMPLE -> the domain a.example exists already
            user bob -> "bob": not an address: user@domain is wanted
            user a(b@a.example -> "a(b@a.example": the part before @ may have 64 octets of letters, digits, and single dots between them
            user @a.example -> @a.example can be an alias, not a user
            user ａnn@a.example -> "ａnn@a.example": whoever logs in is compared in another form (SASLprep, RFC 4013): that form is wanted
            user bob@a.example -> 1
            user BOB@a.example -> there is a user bob@a.example already
            alias bob@a.example x@else.example -> there is a user bob@a.example already
            alias x@a.example -> the alias x@a.example needs a target
            alias x@a.example nobody@a.example -> there is no user or alias nobody@a.example in a domain that is served here
            alias x@a.example @else.example -> "@else.example": not an address: user@domain is wanted
            alias x@a.example x@a.example -> the alias x@a.example would lead back to itself
            alias x@a.example X+tag@A.example -> the alias x@a.example would lead back to itself
            alias x@a.example bob@a.example -> x@a.example
            alias x@a.example bob@a.example -> there is an alias x@a.example already
            alias y@a.example x@a.example -> y@a.example
            user x@a.example -> there is an alias x@a.example already
            unalias x@a.example -> ok
            alias x@a.example y@a.example -> the alias x@a.example would lead back to itself
            unalias bob@a.example -> there is no alias bob@a.example
            unuser y@a.example -> there is no user y@a.example
            undomain a.example -> the domain a.example is in use: bob@a.example and maybe others are in it
            undomain b.example -> the domain b.example is not served here: add it first
            unalias y@a.example -> ok
            unuser bob@a.example -> 1
            undomain a.example -> ok
            domain a.example -> a.example
            user bob@a.example -> 2
        "#]],
    );
}

#[test]
fn ends_on_loops_and_long_chains_that_got_in_by_other_ways() {
    // With the user gone, his address falls to the catch-all, which leads back.
    check(
        "domain a.example
         user bob@a.example
         alias team@a.example bob@a.example
         alias @a.example team@a.example
         ? team@a.example
         unuser bob@a.example
         ? team@a.example
         ? bob@a.example",
        &expect![[r"
            domain a.example -> a.example
            user bob@a.example -> 1
            alias team@a.example bob@a.example -> team@a.example
            alias @a.example team@a.example -> @a.example
            ? team@a.example -> aliased 1=bob@a.example
            unuser bob@a.example -> 1
            ? team@a.example -> Broken(Loop)
            ? bob@a.example -> Broken(Loop)
        "]],
    );
    let mut lines = String::from(
        "domain a.example\nuser bob@a.example\nuser eve@a.example
         alias a0@a.example bob@a.example\nalias b0@a.example eve@a.example\n",
    );
    for index in 1..=ALIAS_DEPTH_MAX {
        writeln!(lines, "alias a{index}@a.example a{}@a.example", index - 1).unwrap();
        writeln!(lines, "alias b{index}@a.example b{}@a.example", index - 1).unwrap();
    }
    let mut world = world(&lines);
    assert!(world.run("alias a16@a.example a15@a.example").contains("more than 16 others"));
    assert_eq!(world.run("alias @a.example b14@a.example"), "@a.example");
    assert_eq!(world.find("a15@a.example"), "aliased 1=bob@a.example");
    world.run("unuser bob@a.example");
    assert_eq!(world.find("a15@a.example"), "Broken(Deep)");
}

#[test]
fn never_gives_an_account_number_twice() {
    let mut world =
        world("domain a.example\nuser a@a.example\nuser b@a.example\nunuser b@a.example");
    assert_eq!(world.run("user b@a.example"), "3");
    world.run("unuser b@a.example");
    let mut again = restart(&mut world, 0);
    assert_eq!(again.run("user c@a.example"), "4");
}

/// Saves every dirty page as the store does, and reads all back; then replays the log from `from`.
fn restart(world: &mut World, from: usize) -> World {
    let mut pages: Sorted<u32, (Lsn, Vec<u8>)> = Sorted::new();
    let at = Lsn(world.log.len() as u64);
    world.ledger.taint();
    save(world, at, &mut pages);
    restarted(world, &pages, from)
}

fn save(world: &mut World, at: Lsn, pages: &mut Sorted<u32, (Lsn, Vec<u8>)>) {
    for major in world.ledger.dirty() {
        world.ledger.save(major, at, &mut |minor, octets| {
            assert_eq!(minor, 0);
            match octets {
                Some(octets) => pages.insert(major, (at, octets)),
                None => pages.remove(&major),
            };
        });
    }
}

fn restarted(world: &World, pages: &Sorted<u32, (Lsn, Vec<u8>)>, from: usize) -> World {
    let mut again =
        World { settings: world.settings.clone(), log: world.log.clone(), ..World::default() };
    for (&major, (at, octets)) in pages.iter().rev() {
        again.ledger.load(major, 0, *at, octets).unwrap();
    }
    for (index, record) in world.log.iter().enumerate().skip(from) {
        replay(&mut again.ledger, Lsn(index as u64 + 1), record);
    }
    again
}

/// Everything that can be seen, to compare.
fn show(world: &World) -> String {
    let mut text = String::new();
    for row in world.ledger.list(&Query::default()).rows {
        writeln!(text, "{row:?}").unwrap();
    }
    writeln!(text, "{:?}", world.ledger.list_domains("", None)).unwrap();
    for local in ["u0", "u1", "u2", "u0+t", "nobody", "postmaster"] {
        for domain in ["a.example", "b.example", "c.example"] {
            writeln!(text, "{}", world.find(&format!("{local}@{domain}"))).unwrap();
        }
    }
    text
}

/// Pages of different moments and a log that is read again from any place up to the oldest page
/// give the state that was there.
#[test]
fn comes_back_as_it_was_whatever_was_saved_when() {
    const CHANGES: &[&str] = &["user", "user", "unuser", "unuser", "off", "alias", "unalias"];
    arbtest::arbtest(|u| {
        let mut world = world("domain a.example\ndomain b.example");
        let mut pages = Sorted::new();
        // The first save has everything; later ones only some of what changed.
        save(&mut world, Lsn(2), &mut pages);
        let oldest = world.log.len();
        for _ in 0..u.int_in_range(1..=40)? {
            let change = u.choose(CHANGES)?;
            let name = format!("u{}@{}.example", u.int_in_range(0..=2)?, u.choose(&["a", "b"])?);
            let line = match *change {
                "alias" => {
                    format!("alias {name} u{}@a.example x@else.example", u.int_in_range(0..=2)?)
                }
                change => format!("{change} {name}"),
            };
            world.run(&line);
            if u.ratio(1, 4)? {
                let at = Lsn(world.log.len() as u64);
                for major in world.ledger.dirty() {
                    if u.ratio(1, 2)? {
                        world.ledger.save(major, at, &mut |_, octets| {
                            match octets {
                                Some(octets) => pages.insert(major, (at, octets)),
                                None => pages.remove(&major),
                            };
                        });
                    }
                }
            }
        }
        let again = restarted(&world, &pages, oldest);
        assert_eq!(show(&again), show(&world));
        let from_nothing = restarted(&world, &Sorted::new(), 0);
        assert_eq!(show(&from_nothing), show(&world));
        Ok(())
    });
}

#[test]
fn shows_a_snapshot_as_it_was_when_it_was_taken() {
    let mut world = world("domain a.example\nuser bob@a.example");
    let before = world.ledger.snapshot();
    world.run("unuser bob@a.example");
    let after = world.ledger.snapshot();
    let settings = Settings::default();
    assert_eq!(
        resolve(&before, b"bob", "a.example", &settings),
        Resolution::Account { account: AccountId(1), log: LogId(0), quota: 0 }
    );
    assert_eq!(resolve(&after, b"bob", "a.example", &settings), Resolution::UnknownUser);
    assert!(before.version() < after.version());
}

#[test]
fn finds_who_logs_in() {
    let mut world = world("domain a.example\nuser bob@a.example\nalias b@a.example bob@a.example");
    let mut settings = Settings::default();
    let login = |world: &World, settings: &Settings, name: &str| {
        world.ledger.snapshot().login(name, settings).map(|user| user.account.0)
    };
    assert_eq!(login(&world, &settings, "Bob@A.example"), Some(1));
    assert_eq!(login(&world, &settings, "bob"), Some(1));
    assert_eq!(login(&world, &settings, "b@a.example"), None);
    assert_eq!(login(&world, &settings, "bob+x@a.example"), None);
    assert_eq!(login(&world, &settings, "@a.example"), None);
    assert_eq!(login(&world, &settings, ""), None);
    world.run("domain b.example");
    assert_eq!(login(&world, &settings, "bob"), None);
    settings.login_domain = Some("a.example".into());
    assert_eq!(login(&world, &settings, "bob"), Some(1));
}

#[test]
fn lets_one_change_at_a_time() {
    let world = world("domain a.example");
    let turn = world.ledger.turn().unwrap();
    assert!(world.ledger.turn().is_none());
    let refused = turn.draft(|draft| {
        (0..=DIRECTORY_CHANGES_MAX).try_for_each(|index| {
            draft.add_user(&format!("u{index}@a.example"), HASH, 0, Wall(0)).map(|_| ())
        })
    });
    assert_eq!(refused.unwrap_err(), ChangeError::TooManyChanges);
    // A draft sees its own changes.
    let (accounts, group) = turn
        .draft(|draft| {
            let first = draft.add_user("x@a.example", HASH, 0, Wall(0))?;
            assert!(draft.add_user("x@a.example", HASH, 0, Wall(0)).is_err());
            draft.del_user("x@a.example")?;
            Ok((first, draft.add_user("x@a.example", HASH, 0, Wall(0))?))
        })
        .unwrap();
    assert_eq!((accounts, group.records.len()), ((AccountId(1), AccountId(2)), 3));
    drop(turn);
    assert!(world.ledger.turn().is_some());
}

#[test]
fn lists_page_by_page() {
    let mut lines = String::from("domain a.example\ndomain b.example\n");
    for index in 0..10 {
        writeln!(lines, "user u{index}@a.example\nuser v{index}@b.example").unwrap();
        writeln!(lines, "alias w{index}@a.example u{index}@a.example").unwrap();
    }
    let world = world(&lines);
    let count = |query: Query<'_>| {
        let (mut after, mut pages, mut rows): (Option<Name>, usize, usize) = (None, 0, 0);
        loop {
            let page = world.ledger.list(&Query { after: after.as_ref(), rows: 3, ..query });
            assert!(page.rows.len() <= 3);
            rows += page.rows.len();
            pages += 1;
            after = page.next;
            if after.is_none() {
                return (rows, pages);
            }
        }
    };
    assert_eq!(count(Query::default()), (30, 10));
    assert_eq!(count(Query { aliases: false, ..Query::default() }).0, 20);
    assert_eq!(count(Query { domain: Some("b.example"), ..Query::default() }).0, 10);
    assert_eq!(count(Query { prefix: "u", ..Query::default() }).0, 10);
    let some = Query { domain: Some("a.example"), prefix: "w", ..Query::default() };
    assert_eq!(count(some).0, 10);
    assert_eq!(world.ledger.list_domains("b", None), [Box::from("b.example")]);
}

#[test]
fn refuses_records_that_are_damaged_or_from_the_future() {
    let world =
        world("domain a.example\nuser bob@a.example\nalias b@a.example bob@a.example x@y.example");
    let mut ledger = Ledger::new();
    let mut change = |_, _, _| {};
    for OwnedRecord { kind, version, flags, account, body } in world.log {
        for body in (0..body.len()).map(|len| &body[..len]) {
            let record = Record { kind, version, flags, account, body };
            assert!(
                ledger.apply(Lsn(1), record, &mut Blobs::observed(Lsn(1), &mut change)).is_err()
            );
        }
        let record = Record { kind, version: 9, flags, account, body: &body };
        assert!(ledger.apply(Lsn(1), record, &mut Blobs::observed(Lsn(1), &mut change)).is_err());
        let record = Record { kind: 79, version: 9, flags: 1, account, body: &body };
        assert!(ledger.apply(Lsn(1), record, &mut Blobs::observed(Lsn(1), &mut change)).is_ok());
    }
    assert_eq!(ledger.snapshot().version(), 0);
}

/// RFC 5321 §3.9.2: the last list on the way that has an owner counts; an owner exists, or is elsewhere.
#[test]
fn leads_from_lists_to_their_owners() {
    check(
        "domain a.example
         user ann@a.example
         user bob@a.example
         list all@a.example no@a.example ann@a.example
         list all@a.example Boss@Else.example ann@a.example x@b.example
         ? all@a.example
         alias plain@a.example all@a.example y@b.example
         ? plain@a.example
         list outer@a.example ann@a.example all@a.example
         ? outer@a.example
         list behind@a.example bob@a.example plain@a.example
         ? behind@a.example
         unalias all@a.example
         list all@a.example @a.example bob@a.example",
        &expect![[r#"
            domain a.example -> a.example
            user ann@a.example -> 1
            user bob@a.example -> 2
            list all@a.example no@a.example ann@a.example -> there is no user or alias no@a.example in a domain that is served here
            list all@a.example Boss@Else.example ann@a.example x@b.example -> all@a.example
            ? all@a.example -> aliased 1=ann@a.example of Boss@else.example x@b.example of Boss@else.example, all of Boss@else.example
            alias plain@a.example all@a.example y@b.example -> plain@a.example
            ? plain@a.example -> aliased 1=ann@a.example of Boss@else.example y@b.example x@b.example of Boss@else.example
            list outer@a.example ann@a.example all@a.example -> outer@a.example
            ? outer@a.example -> aliased 1=ann@a.example of Boss@else.example x@b.example of Boss@else.example, all of Boss@else.example
            list behind@a.example bob@a.example plain@a.example -> behind@a.example
            ? behind@a.example -> aliased 1=ann@a.example of Boss@else.example y@b.example of bob@a.example x@b.example of Boss@else.example
            unalias all@a.example -> ok
            list all@a.example @a.example bob@a.example -> "@a.example": not an address: user@domain is wanted
        "#]],
    );
}

/// What a list has more than an alias comes behind it: records of before there were lists are as they were.
#[test]
fn writes_an_owner_behind_the_targets() {
    let mut world = world("domain a.example");
    world.run("list l@a.example o@b.example x@b.example");
    let mut out = String::new();
    hexadecimal(&mut out, &world.log[1].body);
    let want = "01000000 0b000000 6c40612e 6578616d 706c650b 00000078 \
                40622e65 78616d70 6c650b00 00006f40 622e6578 616d706c 65";
    assert_eq!(out.trim(), want);
    let mut again = Ledger::default();
    for (record, at) in world.log.iter().zip(1..) {
        replay(&mut again, Lsn(at), record);
    }
    let snapshot = again.snapshot();
    let Some(Entry::Alias(alias)) = snapshot.find("l@a.example") else { panic!("it is there") };
    assert_eq!(alias.owner.as_deref(), Some("o@b.example"));
}

fn hexadecimal(out: &mut String, octets: &[u8]) {
    for (at, octet) in octets.iter().enumerate() {
        write!(out, "{}{octet:02x}", if at % 4 == 0 { " " } else { "" }).unwrap();
    }
    out.push('\n');
}

/// Every record and every page; see `docs/FORMAT.md`.
#[test]
fn writes_these_octets_for_ever() {
    let mut world = world(
        "domain example.org
         user a@example.org
         alias b@example.org a@example.org c@else.example
         user c@example.org
         off c@example.org",
    );
    let mut out = String::new();
    for major in world.ledger.dirty() {
        world.ledger.save(major, Lsn(9), &mut |minor, page| {
            write!(out, "page {major:#x} {minor}:").unwrap();
            hexadecimal(&mut out, &page.expect("it holds something"));
        });
    }
    for line in ["unuser a@example.org", "unuser c@example.org", "unalias b@example.org"] {
        world.run(line);
    }
    world.run("undomain example.org");
    for record in &world.log {
        let OwnedRecord { kind, version, flags, account, body } = record;
        write!(out, "{kind} v{version} flags {flags} account {account}:").unwrap();
        hexadecimal(&mut out, body);
    }
    expect![[r"
        page 0x0 0: 01020000 005a0000 00010000 00010000 00010000 00000000 00000000 00000000 000d0000 00614065 78616d70 6c652e6f 72672d00 00002461 72676f6e 32696424 763d3139 246d3d38 2c743d31 2c703d31 24633246 7364484e 68624851 24614746 7a61415a 00000002 00000000 00000001 00000000 00000000 00000000 0000000d 00000063 40657861 6d706c65 2e6f7267 2d000000 24617267 6f6e3269 6424763d 3139246d 3d382c74 3d312c70 3d312463 32467364 484e6862 48512461 47467a61 41
        page 0x400009d9 0: 01010000 00380000 00020000 000d0000 00624065 78616d70 6c652e6f 72670d00 00006140 6578616d 706c652e 6f72670e 00000063 40656c73 652e6578 616d706c 65
        page 0x80000045 0: 01010000 00170000 00010000 00000000 000b0000 00657861 6d706c65 2e6f7267
        page 0xc0000000 0: 01020000 00
        64 v1 flags 0 account 0: 01000000 00000000 0b000000 6578616d 706c652e 6f7267
        66 v1 flags 0 account 0: 01000000 01000000 01000000 00000000 00000000 00000000 0d000000 61406578 616d706c 652e6f72 672d0000 00246172 676f6e32 69642476 3d313924 6d3d382c 743d312c 703d3124 63324673 64484e68 62485124 6147467a 6141
        68 v1 flags 0 account 0: 02000000 0d000000 62406578 616d706c 652e6f72 670d0000 00614065 78616d70 6c652e6f 72670e00 00006340 656c7365 2e657861 6d706c65
        66 v1 flags 0 account 0: 02000000 01000000 01000000 00000000 00000000 00000000 0d000000 63406578 616d706c 652e6f72 672d0000 00246172 676f6e32 69642476 3d313924 6d3d382c 743d312c 703d3124 63324673 64484e68 62485124 6147467a 6141
        66 v1 flags 0 account 0: 02000000 00000000 01000000 00000000 00000000 00000000 0d000000 63406578 616d706c 652e6f72 672d0000 00246172 676f6e32 69642476 3d313924 6d3d382c 743d312c 703d3124 63324673 64484e68 62485124 6147467a 6141
        67 v1 flags 0 account 0: 01000000
        67 v1 flags 0 account 0: 02000000
        69 v1 flags 0 account 0: 0d000000 62406578 616d706c 652e6f72 67
        65 v1 flags 0 account 0: 0b000000 6578616d 706c652e 6f7267
    "]].assert_eq(&out);
}
