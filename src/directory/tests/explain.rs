//! What operators are told of an address.

use super::*;

/// The steps and the outcome of each address.
#[track_caller]
fn check(lines: &str, addresses: &[&str], want: &Expect) {
    let world = world(lines);
    let mut got = String::new();
    for address in addresses {
        let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
        let snapshot = world.ledger.snapshot();
        let told = explain(&snapshot, local.as_bytes(), domain, &world.settings);
        for step in told.steps {
            writeln!(got, "{step}").unwrap();
        }
        writeln!(got, "  -> {}", world.find(address)).unwrap();
        let outcome = resolve(&snapshot, local.as_bytes(), domain, &world.settings);
        assert_eq!(told.outcome, outcome);
    }
    want.assert_eq(&got);
}

#[test]
fn follows_an_address_step_by_step() {
    check(
        "domain a.example\nuser ann@a.example\nuser bob@a.example\noff bob@a.example\n\
         alias team@a.example bob@a.example ann@a.example\n\
         alias all@a.example Ann@a.example team@a.example x@b.example",
        &[
            "Ann@a.example",
            "ann+tag@A.Example",
            "bob@a.example",
            "all@a.example",
            "no@a.example",
            "x@b.example",
        ],
        &expect![[r"
            Ann@a.example: user ann@a.example, account 1
              -> Account(AccountId(1))
            ann+tag@A.Example: without its tag user ann@a.example, account 1
              -> Account(AccountId(1))
            bob@a.example: user bob@a.example, account 2, who is switched off
              -> Disabled
            all@a.example: alias for Ann@a.example, team@a.example, x@b.example
            Ann@a.example: user ann@a.example, account 1
            team@a.example: alias for bob@a.example, ann@a.example
            x@b.example: b.example is not served here
            bob@a.example: user bob@a.example, account 2, who is switched off
            ann@a.example: was there before
              -> aliased 1=Ann@a.example x@b.example
            no@a.example: there is no such user or alias, and no catch-all
              -> UnknownUser
            x@b.example: b.example is not served here
              -> UnknownDomain
        "]],
    );
}

#[test]
fn tells_who_answers_for_all_and_for_a_role() {
    check(
        "domain a.example\nuser ann@a.example\nalias @a.example ann@a.example\ndomain b.example\n\
         user bob@b.example\nuser cid@b.example\nalias team@b.example cid@b.example\n\
         alias @b.example team@b.example\nunuser cid@b.example",
        &["no@a.example", "postmaster@b.example", "abuse@a.example", "team@b.example"],
        &expect![[r"
            no@a.example: nobody; by the catch-all of the domain alias for ann@a.example
            ann@a.example: user ann@a.example, account 1
              -> aliased 1=ann@a.example
            postmaster@b.example: nobody; by the catch-all of the domain alias for team@b.example
            team@b.example: alias for cid@b.example
            cid@b.example: nobody; by the catch-all of the domain alias for team@b.example
            team@b.example: was there before
            postmaster@b.example: has to be answered, and goes to account 2
              -> Account(AccountId(2))
            abuse@a.example: nobody; by the catch-all of the domain alias for ann@a.example
            ann@a.example: user ann@a.example, account 1
            abuse@a.example: has to be answered, and goes to ann@a.example
              -> aliased 1=ann@a.example
            team@b.example: alias for cid@b.example
            cid@b.example: nobody; by the catch-all of the domain alias for team@b.example
            team@b.example: was there before
            the aliases lead only to one another
              -> Broken(Loop)
        "]],
    );
}
