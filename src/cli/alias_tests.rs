//! What is asked of aliases and lists, and printed of them.

use super::tests::check;
use crate::admin::request::{AliasRow, Response};
use expect_test::expect;

#[test]
fn shows_aliases_and_the_owners_of_lists() {
    check(
        "alias add @example.org ann@example.org bob@example.net",
        Response::Refused("no such domain: example.org".into()),
        &expect![[r#"
            node: {"directory":{"alias_add":{"address":"@example.org","targets":["ann@example.org","bob@example.net"]}}}
            pombal: no such domain: example.org
            exit 1"#]],
    );
    check(
        "alias list example.org",
        Response::Aliases(vec![AliasRow {
            address: "@example.org".into(),
            targets: vec!["ann@example.org".into(), "bob@example.net".into()],
            owner: None,
        }]),
        &expect![[r#"
            node: {"directory":{"alias_list":{"domain":"example.org"}}}
            address       targets
            @example.org  ann@example.org bob@example.net
            exit 0"#]],
    );
    let row = |address: &str, owner: Option<&str>| AliasRow {
        address: address.into(),
        targets: vec!["ann@example.org".into()],
        owner: owner.map(Into::into),
    };
    check(
        "alias list",
        Response::Aliases(vec![
            row("a@example.org", None),
            row("list@example.org", Some("o@b.example")),
        ]),
        &expect![[r#"
            node: {"directory":{"alias_list":{"domain":null}}}
            address           owner        targets
            a@example.org                  ann@example.org
            list@example.org  o@b.example  ann@example.org
            exit 0"#]],
    );
    check(
        "alias list --json",
        Response::Aliases(vec![
            row("a@example.org", None),
            row("list@example.org", Some("o@b.example")),
        ]),
        &expect![[r#"
            node: {"directory":{"alias_list":{"domain":null}}}
            [
              {
                "address": "a@example.org",
                "targets": [
                  "ann@example.org"
                ]
              },
              {
                "address": "list@example.org",
                "targets": [
                  "ann@example.org"
                ],
                "owner": "o@b.example"
              }
            ]
            exit 0"#]],
    );
}

#[test]
fn gives_an_owner_and_takes_him_away() {
    check(
        "alias add a@example.org --owner b@example.net",
        Response::Done,
        &expect![[r#"
        node: {"directory":{"alias_add":{"address":"a@example.org","targets":[],"owner":"b@example.net"}}}
        exit 0"#]],
    );
    check(
        "alias add a@example.org c@example.org --no-owner",
        Response::Done,
        &expect![[r#"
        node: {"directory":{"alias_add":{"address":"a@example.org","targets":["c@example.org"],"no_owner":true}}}
        exit 0"#]],
    );
    check(
        "alias add a@example.org --owner b@example.net --no-owner",
        Response::Done,
        &expect![[r"
            error: the argument '--owner <ADDR>' cannot be used with '--no-owner'

            Usage: pombal alias add --owner <ADDR> <ADDR> [TARGET]...

            For more information, try '--help'.
            exit 2"]],
    );
}
