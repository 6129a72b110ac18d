//! What is printed and which status is left, command by command.

use super::*;
use crate::admin::request::{AppPasswordRow, DirectoryRequest, DkimRow, FigureRow, UserRow};
use crate::admin::socket::{self, Asked};
use expect_test::{Expect, expect};
use std::cell::RefCell;

/// A node that notes what it is asked for and answers the same thing to everything.
struct Node {
    asked: RefCell<Vec<String>>,
    response: Response,
}

impl Node {
    fn note(&self, what: impl Into<String>) {
        self.asked.borrow_mut().push(what.into());
    }
}

impl Actions for Node {
    fn serve(&self, loaded: Loaded, _: Option<&Path>) -> Result<(), Failure> {
        self.note(format!("serve {}", loaded.config.hostname));
        Ok(())
    }

    fn demo(&self, keep: bool, _: &mut dyn Write) -> Result<(), Failure> {
        self.note(format!("demo keep={keep}"));
        Err(Failure::Failed("no mail came back".into()))
    }

    fn hash_password(&self, _: &Config, _: &[String], password: &str) -> Result<String, Failure> {
        Ok(format!("hash of {password}"))
    }

    fn read_hash(&self, _: &Config, bound: &[String], text: &str) -> Result<String, Failure> {
        if !bound.is_empty() {
            self.note(format!("bound to {}", bound.join(" ")));
        }
        Ok(format!("read {text}"))
    }

    fn app_password(&self, _: &Config, given: &[String]) -> Result<AppPassword, Failure> {
        Ok(AppPassword { text: "abcd-efgh".into(), digest: vec![1, 2], keys: given.to_vec() })
    }

    fn ask_stopped(&self, _: &Config, request: &Request) -> Result<Response, Failure> {
        self.note(serde_json::to_string(request).unwrap());
        let is_asked = matches!(request, Request::Directory(DirectoryRequest::ScramTerms { .. }));
        Ok(match (&self.response, is_asked) {
            (Response::Done, true) => Response::ScramTerms(ScramTerms {
                app: vec!["SCRAM-SHA-256$2:eA==".into()],
                own: vec!["SCRAM-SHA-256$1:eA==".into()],
            }),
            (response, _) => response.clone(),
        })
    }

    fn with_stopped(
        &self,
        _: Option<&Path>,
        _: &mut dyn FnMut(&mut dyn Asking) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        Err(Failure::Failed("the store does not open".into()))
    }

    fn answer(&self, _: &Config) -> Result<(), Failure> {
        Err(Failure::Failed("the store does not open".into()))
    }

    fn store(
        &self,
        _: &Config,
        task: &StoreTask,
        json: bool,
        _: &mut dyn Write,
    ) -> Result<(), Failure> {
        self.note(format!("{task:?} json={json}"));
        Ok(())
    }

    fn backup(&self, _: &Config, task: &BackupTask, told: Told<'_>) -> Result<(), Failure> {
        self.note(format!("{task:?} json={}", told.json));
        Ok(())
    }

    fn salvage(
        &self,
        _: &Config,
        to: &Path,
        logs: &[PathBuf],
        told: Told<'_>,
    ) -> Result<(), Failure> {
        self.note(format!("salvage to={} logs={logs:?} json={}", to.display(), told.json));
        Ok(())
    }

    fn restore(&self, _: &Config, task: &RestoreTask, told: Told<'_>) -> Result<(), Failure> {
        self.note(format!("{task:?} json={}", told.json));
        Ok(())
    }

    fn with_backup(
        &self,
        _: &Config,
        task: &RestoreTask,
        address: &str,
        _: &mut dyn FnMut(AskKept<'_>, &AsOf) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.note(format!("{address} of {task:?}"));
        Ok(())
    }
}

/// A directory with a configuration that points into it.
pub(super) fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("hostname = \"mx.example\"\ndata_dir = {:?}\n", dir.path());
    std::fs::write(dir.path().join("pombal.toml"), text).unwrap();
    dir
}

/// Types `line` behind `pombal --config FILE`; shows what the node was asked, what was printed,
/// and the status.
pub(super) fn typed(dir: &Path, line: &str, response: Response) -> String {
    let node = Node { asked: RefCell::default(), response };
    let file = dir.join("pombal.toml");
    let words = ["pombal", "--config", file.to_str().unwrap()];
    let words = words.into_iter().chain(line.split(' ')).map(OsString::from);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = run(words, &node, &mut out, &mut err);
    let mut shown = String::new();
    for asked in node.asked.into_inner() {
        shown.push_str("node: ");
        shown.push_str(&asked);
        shown.push('\n');
    }
    shown.push_str(&String::from_utf8(out).unwrap());
    shown.push_str(&String::from_utf8(err).unwrap());
    format!("{shown}exit {status}").replace(dir.to_str().unwrap(), "DIR")
}

#[track_caller]
pub(super) fn check(line: &str, response: Response, want: &Expect) {
    want.assert_eq(&typed(place().path(), line, response));
}

#[test]
fn hands_the_nodes_work_to_the_node() {
    check(
        "serve",
        Response::Done,
        &expect![[r"
        node: serve mx.example
        exit 0"]],
    );
    check(
        "demo --keep",
        Response::Done,
        &expect![[r"
        node: demo keep=true
        pombal: no mail came back
        exit 1"]],
    );
    check(
        "store compact --json",
        Response::Done,
        &expect![[r"
        node: Compact json=true
        exit 0"]],
    );
    check(
        "store grow --logs 4 --json",
        Response::Done,
        &expect![[r"
        node: Grow { logs: 4 } json=true
        exit 0"]],
    );
    check(
        "store verify --json",
        Response::Done,
        &expect![[r"
        node: Verify { rate: 0 } json=true
        exit 0"]],
    );
    check(
        "store dump --log 3",
        Response::Done,
        &expect![[r"
        node: Dump { log: Some(3) } json=false
        exit 0"]],
    );
}

#[test]
fn asks_the_stopped_server_through_the_node() {
    check(
        "domain add example.org",
        Response::Done,
        &expect![[r#"
        node: {"directory":{"domain_add":{"domain":"example.org"}}}
        exit 0"#]],
    );
    check(
        "domain list",
        Response::Domains(vec!["example.org".into(), "e\u{1b}[31m.example".into()]),
        &expect![[r#"
            node: {"directory":"domain_list"}
            domain
            example.org
            e\u{1b}[31m.example
            exit 0"#]],
    );
    check(
        "store stats --json",
        Response::Figures(vec![FigureRow { name: "segments".into(), value: 7 }]),
        &expect![[r#"
            node: "store_stats"
            {
              "segments": 7
            }
            exit 0"#]],
    );
}

#[test]
fn shows_users_as_a_table_and_as_json() {
    let row = UserRow {
        address: "ann@example.org".into(),
        account: 12,
        has_password: true,
        enabled: true,
        quota: Some(5 << 30),
        used: Some(1_500),
        messages: None,
        imap_hidden: vec!["MOVE".into(), "IDLE".into()],
    };
    let off = UserRow { address: "off@example.org".into(), enabled: false, ..row.clone() };
    let users = Response::Users(vec![row, off]);
    check(
        "user list",
        users.clone(),
        &expect![[r#"
            node: {"directory":{"user_list":{"domain":null}}}
            address          account  login  quota  used  messages  imap hides
            ann@example.org  12       yes    5G     1500  -         MOVE,IDLE
            off@example.org  12       off    5G     1500  -         MOVE,IDLE
            exit 0"#]],
    );
    check(
        "user show ann@example.org --json",
        users,
        &expect![[r#"
            node: {"directory":{"user_show":{"address":"ann@example.org"}}}
            [
              {
                "address": "ann@example.org",
                "account": 12,
                "has_password": true,
                "enabled": true,
                "quota": 5368709120,
                "used": 1500,
                "messages": null,
                "imap_hidden": [
                  "MOVE",
                  "IDLE"
                ]
              },
              {
                "address": "off@example.org",
                "account": 12,
                "has_password": true,
                "enabled": false,
                "quota": 5368709120,
                "used": 1500,
                "messages": null,
                "imap_hidden": [
                  "MOVE",
                  "IDLE"
                ]
              }
            ]
            exit 0"#]],
    );
}

#[test]
fn switches_users_off_and_on() {
    check(
        "user disable ann@example.org",
        Response::Done,
        &expect![[r#"
        node: {"directory":{"user_enabled":{"address":"ann@example.org","enabled":false}}}
        exit 0"#]],
    );
    check(
        "user enable ann@example.org",
        Response::Done,
        &expect![[r#"
        node: {"directory":{"user_enabled":{"address":"ann@example.org","enabled":true}}}
        exit 0"#]],
    );
}

#[test]
fn shows_an_application_password_once_and_only_where_it_is_kept() {
    check(
        "user apppass add ann@example.org phone",
        Response::Done,
        &expect![[r#"
            node: {"directory":{"scram_terms":{"address":"ann@example.org"}}}
            node: {"directory":{"app_password_add":{"address":"ann@example.org","name":"phone","digest":[1,2],"keys":["SCRAM-SHA-256$2:eA=="]}}}
            abcd-efgh
            exit 0"#]],
    );
    check(
        "user apppass add ann@example.org phone --json",
        Response::Done,
        &expect![[r#"
            node: {"directory":{"scram_terms":{"address":"ann@example.org"}}}
            node: {"directory":{"app_password_add":{"address":"ann@example.org","name":"phone","digest":[1,2],"keys":["SCRAM-SHA-256$2:eA=="]}}}
            {
              "password": "abcd-efgh"
            }
            exit 0"#]],
    );
    let exists = "there is an application password \"phone\" already";
    check(
        "user apppass add ann@example.org phone",
        Response::Refused(exists.into()),
        &expect![[r#"
            node: {"directory":{"scram_terms":{"address":"ann@example.org"}}}
            pombal: there is an application password "phone" already
            exit 1"#]],
    );
    check(
        "user apppass del ann@example.org phone",
        Response::Done,
        &expect![[r#"
        node: {"directory":{"app_password_del":{"address":"ann@example.org","name":"phone"}}}
        exit 0"#]],
    );
    check(
        "user apppass add ann@example.org",
        Response::Done,
        &expect![[r"
        error: the following required arguments were not provided:
          <NAME>

        Usage: pombal user apppass add <ADDRESS> <NAME>

        For more information, try '--help'.
        exit 2"]],
    );
}

#[test]
fn a_new_password_keeps_to_the_terms_of_application_passwords() {
    check(
        "user passwd ann@example.org --password-hash $1$x",
        Response::Done,
        &expect![[r#"
        node: {"directory":{"scram_terms":{"address":"ann@example.org"}}}
        node: bound to SCRAM-SHA-256$1:eA==
        node: {"directory":{"user_password":{"address":"ann@example.org","password_hash":"read $1$x"}}}
        exit 0"#]],
    );
    check(
        "user passwd ann@example.org --password-hash SCRAM-SHA-256$7:eA==$a:b",
        Response::Done,
        &expect![[r#"
            node: {"directory":{"scram_terms":{"address":"ann@example.org"}}}
            node: bound to SCRAM-SHA-256$1:eA==
            node: {"directory":{"user_password":{"address":"ann@example.org","password_hash":"read SCRAM-SHA-256$7:eA==$a:b"}}}
            note: SCRAM takes the application passwords of this user no more: make them anew
            exit 0"#]],
    );
    let no_user = Response::Refused("there is no user ann@example.org".into());
    check(
        "user passwd ann@example.org --password-hash $1$x",
        no_user,
        &expect![[r#"
        node: {"directory":{"scram_terms":{"address":"ann@example.org"}}}
        pombal: there is no user ann@example.org
        exit 1"#]],
    );
}

#[test]
fn lists_application_passwords_by_name_and_day() {
    let row = |name: &str, created, scram| AppPasswordRow { name: name.into(), created, scram };
    let rows = vec![row("phone", 1_795_000_000, true), row("e\u{1b}[2J", 0, false)];
    let all = Response::AppPasswords(rows);
    check(
        "user apppass list ann@example.org",
        all.clone(),
        &expect![[r#"
            node: {"directory":{"app_password_list":{"address":"ann@example.org"}}}
            name        created     scram
            phone       2026-11-18  yes
            e\u{1b}[2J  1970-01-01  no
            exit 0"#]],
    );
    check(
        "user apppass list ann@example.org --json",
        all,
        &expect![[r#"
            node: {"directory":{"app_password_list":{"address":"ann@example.org"}}}
            [
              {
                "name": "phone",
                "created": 1795000000,
                "scram": true
              },
              {
                "name": "e\u001b[2J",
                "created": 0,
                "scram": false
              }
            ]
            exit 0"#]],
    );
}

#[test]
fn makes_users_of_a_file_line_by_line() {
    let dir = place();
    let file = dir.path().join("users");
    std::fs::write(
        &file,
        "# those of the old server\nann:{SSHA}x:1:1::/mail/ann:\n\nbob@else.example:$6$a$b\n\
         root:!$6$a$b:1:::\ne\u{1b}ve:{SSHA}x::::::nologin\n",
    )
    .unwrap();
    let line = format!("user import {} --domain example.org", file.display());
    expect![[r#"
        node: {"directory":{"user_add":{"address":"ann@example.org","password_hash":"read {SSHA}x","quota":null}}}
        node: {"directory":{"user_add":{"address":"bob@else.example","password_hash":"read $6$a$b","quota":null}}}
        line 5: root@example.org: locked
        line 6: e\u{1b}ve@example.org: nologin: may not log in
        2 users made, 2 lines passed over
        note: SCRAM is offered (auth.mechanisms), and most hashes from elsewhere have no keys for it: until a password is set again, or kept anew by a login (auth.rehash), programs have to use PLAIN
        exit 1"#]].assert_eq(&typed(dir.path(), &line, Response::Done));
    // What the server refuses is told of each line, and the rest goes on.
    let refused = Response::Refused("the domain is not served here: add it first".into());
    let line = format!("user import {}", file.display());
    expect![[r#"
        node: {"directory":{"user_add":{"address":"ann","password_hash":"read {SSHA}x","quota":null}}}
        node: {"directory":{"user_add":{"address":"bob@else.example","password_hash":"read $6$a$b","quota":null}}}
        line 2: ann: the domain is not served here: add it first
        line 4: bob@else.example: the domain is not served here: add it first
        line 5: root: locked
        line 6: e\u{1b}ve: nologin: may not log in
        0 users made, 4 lines passed over
        exit 1"#]].assert_eq(&typed(dir.path(), &line, refused));
    std::fs::write(&file, "ann@example.org:{SSHA}x\n").unwrap();
    expect![[r#"
        node: {"directory":{"user_add":{"address":"ann@example.org","password_hash":"read {SSHA}x","quota":null}}}
        1 users made, 0 lines passed over
        note: SCRAM is offered (auth.mechanisms), and most hashes from elsewhere have no keys for it: until a password is set again, or kept anew by a login (auth.rehash), programs have to use PLAIN
        exit 0"#]].assert_eq(&typed(dir.path(), &line, Response::Done));
    std::fs::remove_file(&file).unwrap();
    expect![[r"
        pombal: DIR/users: No such file or directory (os error 2)
        exit 1"]]
    .assert_eq(&typed(dir.path(), &line, Response::Done));
}

/// A key, as the node tells of it.
fn a_key() -> Response {
    Response::DkimKeys(vec![DkimRow {
        domain: "b.example".into(),
        selector: "s".into(),
        algorithm: "ed25519".into(),
        bits: 256,
        name: "s._domainkey.b.example".into(),
        record: "v=DKIM1; k=ed25519; p=AA==".into(),
    }])
}

#[test]
fn shows_keys_as_records_of_a_zone() {
    check(
        "dkim add b.example --selector s --algorithm ed25519",
        a_key(),
        &expect![[r#"
        node: {"dkim":{"add":{"domain":"b.example","selector":"s","algorithm":"ed25519","bits":null,"pem":null}}}
        s._domainkey.b.example. IN TXT "v=DKIM1; k=ed25519; p=AA=="
        exit 0"#]],
    );
    check(
        "dkim show b.example",
        a_key(),
        &expect![[r#"
        node: {"dkim":{"list":{"domain":"b.example"}}}
        s._domainkey.b.example. IN TXT "v=DKIM1; k=ed25519; p=AA=="
        exit 0"#]],
    );
    check(
        "--json dkim show b.example",
        a_key(),
        &expect![[r#"
        node: {"dkim":{"list":{"domain":"b.example"}}}
        [
          {
            "domain": "b.example",
            "selector": "s",
            "algorithm": "ed25519",
            "bits": 256,
            "name": "s._domainkey.b.example",
            "record": "v=DKIM1; k=ed25519; p=AA=="
          }
        ]
        exit 0"#]],
    );
}

#[test]
fn lists_removes_and_checks_keys() {
    check(
        "dkim list",
        a_key(),
        &expect![[r#"
        node: {"dkim":{"list":{"domain":null}}}
        domain     selector  algorithm  bits
        b.example  s         ed25519    256
        exit 0"#]],
    );
    check(
        "dkim del b.example s",
        Response::Done,
        &expect![[r#"
        node: {"dkim":{"del":{"domain":"b.example","selector":"s"}}}
        exit 0"#]],
    );
    check(
        "dkim check b.example",
        Response::Refused("no keys".into()),
        &expect![[r#"
        node: {"dkim":{"list":{"domain":"b.example"}}}
        pombal: no keys
        exit 1"#]],
    );
    check(
        "dkim add b.example --key /nowhere/key --selector s",
        a_key(),
        &expect![[r"
        pombal: /nowhere/key: No such file or directory (os error 2)
        exit 1"]],
    );
}

#[test]
fn copies_the_store_away_and_brings_it_back() {
    check(
        "backup b --keep 7",
        Response::Done,
        &expect![[r#"
        node: Make { dir: "b", keep: Some(7) } json=false
        exit 0"#]],
    );
    check(
        "backup list b --json",
        Response::Done,
        &expect![[r#"
        node: List { dir: "b" } json=true
        exit 0"#]],
    );
    check(
        "backup verify b --backup n",
        Response::Done,
        &expect![[r#"
        node: Verify { dir: "b", name: Some("n") } json=false
        exit 0"#]],
    );
    check(
        "restore b --at 2026-11-29T12:00:00Z --no-verify",
        Response::Done,
        &expect![[r#"
        node: RestoreTask { dir: "b", at: Some(Wall(1795953600000000)), name: None, verify: false } json=false
        exit 0"#]],
    );
    check(
        "restore b --account ann@example.org --dry-run",
        Response::Done,
        &expect![[r#"
        node: ann@example.org of RestoreTask { dir: "b", at: None, name: None, verify: true }
        exit 0"#]],
    );
    check(
        "restore b --account ann@example.org --beside a*b",
        Response::Done,
        &expect![[r"
        error: invalid value 'a*b' for '--beside <NAME>': no name that a mailbox may have

        For more information, try '--help'.
        exit 2"]],
    );
    check(
        "restore b --beside Back",
        Response::Done,
        &expect![[r"
        error: the following required arguments were not provided:
          --account <ADDR>

        Usage: pombal restore --account <ADDR> --beside <NAME> <DIR>

        For more information, try '--help'.
        exit 2"]],
    );
    check(
        "restore b --at yesterday",
        Response::Done,
        &expect![[r"
        error: invalid value 'yesterday' for '--at <TIME>': a moment with its zone, such as 2026-11-29T17:30:00Z (RFC 3339)

        For more information, try '--help'.
        exit 2"]],
    );
}

#[test]
fn undeletes() {
    use crate::mailbox::undelete::{Row, Undeleted};
    let row = |name: &str, messages, unchanged| Row { name: name.into(), messages, unchanged };
    let mailboxes = vec![row("INBOX", 3, true), row("Work/2026", 12, false)];
    let told = Undeleted { mailboxes, removed: vec!["later".into()] };
    let answer = || Response::Undeleted(told.clone());
    let line = "undelete ann@example.org --at 2026-11-29T17:30:00Z";
    check(
        line,
        answer(),
        &expect![[r#"
        node: {"undelete":{"address":"ann@example.org","wanted":{"at":1795973400,"beside":null,"dry_run":false}}}
        INBOX: 3 messages, as it is
        Work/2026: 12 messages
        later: removed, nothing had this name then
        as at 2026-11-29T17:30:00.000000Z: 2 mailboxes, 15 messages
        exit 0"#]],
    );
    check(
        &format!("{line} --dry-run"),
        answer(),
        &expect![[r#"
        node: {"undelete":{"address":"ann@example.org","wanted":{"at":1795973400,"beside":null,"dry_run":true}}}
        INBOX: 3 messages, as it is
        Work/2026: 12 messages
        later: removed, nothing had this name then
        would be as at 2026-11-29T17:30:00.000000Z: 2 mailboxes, 15 messages
        exit 0"#]],
    );
    check(
        &format!("{line} --json --beside Old"),
        answer(),
        &expect![[r#"
        node: {"undelete":{"address":"ann@example.org","wanted":{"at":1795973400,"beside":"Old","dry_run":false}}}
        {
          "mailboxes": [
            {
              "name": "INBOX",
              "messages": 3,
              "unchanged": true
            },
            {
              "name": "Work/2026",
              "messages": 12,
              "unchanged": false
            }
          ],
          "removed": [
            "later"
          ]
        }
        exit 0"#]],
    );
    check(
        "undelete ann@example.org",
        Response::Done,
        &expect![[r"
        error: the following required arguments were not provided:
          --at <TIME>

        Usage: pombal undelete --at <TIME> <ADDRESS>

        For more information, try '--help'.
        exit 2"]],
    );
}

#[test]
fn refuses_wrong_usage_with_two() {
    check(
        "user add a@b.example --quota 5X",
        Response::Done,
        &expect![[r"
        error: invalid value '5X' for '--quota <SIZE>': a number, or one with K, M, G or T, such as 5G

        For more information, try '--help'.
        exit 2"]],
    );
    check(
        "alias add a@b.example",
        Response::Done,
        &expect![[r"
        error: the following required arguments were not provided:
          <TARGET>...

        Usage: pombal alias add <ADDR> <TARGET>...

        For more information, try '--help'.
        exit 2"]],
    );
}

#[test]
fn checks_the_configuration() {
    let dir = place();
    expect![[r"
        DIR/pombal.toml: ok
        exit 0"]]
    .assert_eq(&typed(dir.path(), "check", Response::Done));
    let shown = typed(dir.path(), "check --effective", Response::Done);
    assert!(shown.contains("\n[smtp]\nmax_message_size = \"50M\" "), "{shown}");
    let early = "[smtp]\nrelay_networks = [\"::1/128\"]\n[queue]\nlifetime = \"5d\"\n\
                 [[route]]\ndomain = \"*\"\nrelay = \"mx.example:25\"\n";
    std::fs::write(dir.path().join("pombal.toml"), early).unwrap();
    expect![[r"
        DIR/pombal.toml: ok
        exit 0"]]
    .assert_eq(&typed(dir.path(), "check", Response::Done));
    expect![[r#"
        {
          "mistakes": [],
          "settings": null,
          "source": "DIR/pombal.toml"
        }
        exit 0"#]]
    .assert_eq(&typed(dir.path(), "check --json", Response::Done));
    std::fs::write(dir.path().join("pombal.toml"), "[smpt]\nhostnam = 1\n").unwrap();
    expect![[r"
        pombal: the configuration is wrong
        DIR/pombal.toml:1:2: unknown key `smpt`, did you mean `smtp`?; allowed: acme, auth, data_dir, directory, dns, hostname, imap, limits, listen, log, mta_sts, pop3, protect, proxy, queue, route, sandbox, shards, site, smtp, source, srs, store, submission, tls, tls_report, undelete, user
        exit 2"]].assert_eq(&typed(dir.path(), "check", Response::Done));
    expect![[r"
        pombal: the configuration is wrong
        DIR/pombal.toml:1:2: unknown key `smpt`, did you mean `smtp`?; allowed: acme, auth, data_dir, directory, dns, hostname, imap, limits, listen, log, mta_sts, pop3, protect, proxy, queue, route, sandbox, shards, site, smtp, source, srs, store, submission, tls, tls_report, undelete, user
        exit 2"]].assert_eq(&typed(dir.path(), "serve", Response::Done));
}

#[test]
fn completes_and_helps() {
    let shown = typed(place().path(), "completions bash", Response::Done);
    assert!(shown.contains("_pombal()") && shown.ends_with("exit 0"), "{shown}");
    let shown = typed(place().path(), "--help", Response::Done);
    assert!(shown.contains("EXAMPLES") && shown.ends_with("exit 0"), "{shown}");
}

#[test]
fn asks_the_running_server_over_its_socket() {
    let dir = place();
    let server = socket::Server::bind(&dir.path().join("admin.sock")).unwrap();
    std::thread::Builder::new()
        .spawn(move || {
            server.run(|asked: Asked| {
                let shown = serde_json::to_string(&asked.request).unwrap();
                asked.answer(Response::Refused(format!("the running server got {shown}")));
                Ok(())
            });
        })
        .unwrap();
    let shown = typed(dir.path(), "user del ann@example.org", Response::Done);
    expect![[r#"
        pombal: the running server got {"directory":{"user_del":{"address":"ann@example.org"}}}
        exit 1"#]]
    .assert_eq(&shown);
    let request = DirectoryRequest::UserDel { address: "ann@example.org".into() };
    assert!(shown.contains(&serde_json::to_string(&request).unwrap()));
}
