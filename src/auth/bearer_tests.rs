//! Logins by token against a real directory; tokens are signed here, and pauses noted, not waited for.

use super::*;
use crate::auth::oauth::KeySet;
use crate::auth::oauth::tests::{Keys, NOW, claims, settings};
use crate::auth::{Cost, Pool, Settings, Throttle, hash};
use crate::concierge::Concierge;
use crate::directory::{self, Ledger};
use expect_test::{Expect, expect};
use futures_lite::future::block_on;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

struct World {
    ledger: Ledger,
    auth: Authenticator,
    authority: Authority,
    keys: Keys,
    said: String,
}

impl World {
    fn new() -> World {
        let ledger = Ledger::new();
        ledger.change(|draft| {
            draft.add_domain("a.example", Wall(0))?;
            let hash = hash("secret", &[3; 16], Cost::LEAST).unwrap();
            for user in ["ann@a.example", "bob@a.example", "off@a.example"] {
                draft.add_user(user, &hash, 0, Wall(0))?;
            }
            draft.set_enabled("off@a.example", false)
        });
        let throttle = Arc::new(Throttle::new(&[9; 32]));
        let pool = Pool::inline(Cost::LEAST);
        let auth = Authenticator::new(Settings::default(), pool, [9; 32], throttle);
        let keys = Keys::generate();
        let set = KeySet::published(keys.set().to_string().as_bytes()).unwrap();
        let authority = Authority::new(settings(set), &Concierge::start().unwrap()).unwrap();
        World { ledger, auth, authority, keys, said: String::new() }
    }

    fn token(&self, instead: &Value) -> String {
        self.keys.token(&json!({"alg": "EdDSA", "kid": "ed"}), &claims(instead))
    }

    /// What becomes of it so many seconds later, and how long it had to wait.
    fn hear(&mut self, what: &str, token: &str, user: Option<&str>, host: u32, seconds: u64) {
        let snapshot = self.ledger.snapshot();
        let names = directory::Settings::default();
        let directory = || Arc::clone(&snapshot);
        let waited = RefCell::new(Duration::ZERO);
        let bearer = Bearer { token, user, peer: Ipv4Addr::from_bits(host << 8).into() };
        let moment = (Mono(Duration::from_secs(seconds)), Wall((NOW + seconds) * 1_000_000));
        let sleep = async |pause| *waited.borrow_mut() = pause;
        let admitted = self.auth.admit(&self.authority, bearer, directory, &names, moment, sleep);
        let admitted = block_on(admitted);
        let said = match admitted {
            Ok(Admitted { account, user }) => format!("{user} is account {}", account.0),
            Err(Rejected::Token(fault)) => fault.name().into(),
            Err(rejected) => format!("{rejected:?}"),
        };
        let waited = waited.into_inner();
        let pause = if waited.is_zero() { String::new() } else { format!(" after {waited:?}") };
        writeln!(self.said, "{what:<28} {said}{pause}").unwrap();
    }

    #[track_caller]
    fn check(&self, want: &Expect) {
        want.assert_eq(&self.said);
    }
}

#[test]
fn is_who_the_token_says_and_nobody_else() {
    let mut world = World::new();
    let ann = world.token(&json!({}));
    world.hear("no name", &ann, None, 1, 0);
    world.hear("the same name", &ann, Some("ann@a.example"), 1, 0);
    world.hear("in another spelling", &ann, Some("ANN@A.example"), 1, 0);
    world.hear("without the only domain", &ann, Some("ann"), 1, 0);
    world.hear("another name", &ann, Some("bob@a.example"), 1, 0);
    world.hear("nobody's name", &ann, Some("eve@a.example"), 1, 0);
    world.hear("no token", "", Some("ann@a.example"), 1, 0);
    let off = world.token(&json!({"email": "off@a.example"}));
    world.hear("who is switched off", &off, None, 1, 0);
    world.hear("the same by name", &off, Some("off@a.example"), 1, 0);
    let eve = world.token(&json!({"email": "eve@a.example"}));
    world.hear("who is not here", &eve, None, 1, 0);
    world.check(&expect![[r#"
        no name                      ann@a.example is account 1
        the same name                ann@a.example is account 1
        in another spelling          ANN@A.example is account 1
        without the only domain      ann is account 1
        another name                 Foreign
        nobody's name                Foreign
        no token                     absent
        who is switched off          Disabled
        the same by name             Disabled
        who is not here              Unknown("eve@a.example")
    "#]]);
}

#[test]
fn a_remembered_token_ends_when_it_says() {
    let mut world = World::new();
    let short = world.token(&json!({"exp": NOW + 30}));
    world.hear("at once", &short, None, 1, 0);
    world.hear("remembered", &short, None, 1, 29);
    world.hear("within the leeway", &short, None, 1, 89);
    world.hear("over", &short, None, 1, 90);
    world.check(&expect![[r"
        at once                      ann@a.example is account 1
        remembered                   ann@a.example is account 1
        within the leeway            ann@a.example is account 1
        over                         expired
    "]]);
}

#[test]
fn bad_tokens_slow_down_where_they_come_from_and_good_ones_do_not_wait() {
    let mut world = World::new();
    let ann = world.token(&json!({}));
    world.hear("before", &ann, None, 1, 0);
    for index in 0..12 {
        let bad = world.token(&json!({"iss": index.to_string()}));
        let len = world.said.len();
        world.hear("bad", &bad, Some("ann@a.example"), 1, 0);
        world.said.truncate(len);
    }
    let bad = world.token(&json!({"iss": "one more"}));
    world.hear("one more", &bad, Some("ann@a.example"), 1, 0);
    world.hear("remembered", &ann, None, 1, 0);
    let again = world.token(&json!({"exp": NOW + 301}));
    world.hear("a new one from there", &again, None, 1, 0);
    let other = world.token(&json!({"exp": NOW + 302}));
    world.hear("from elsewhere", &other, None, 2, 0);
    world.check(&expect![[r"
        before                       ann@a.example is account 1
        one more                     issuer after 100ms
        remembered                   ann@a.example is account 1
        a new one from there         ann@a.example is account 1 after 300ms
        from elsewhere               ann@a.example is account 1
    "]]);
}

/// Whether there is such a user is not told by the pauses, whatever spelling is tried.
#[test]
fn a_bad_token_of_nobody_waits_as_one_of_somebody_does() {
    let waits = |user: &str| {
        let mut world = World::new();
        for guess in 0..=70_u32 {
            let bad = world.token(&json!({"iss": guess.to_string()}));
            let upper = user.to_ascii_uppercase();
            let spelling = [user, &upper, &format!("{user}."), &format!("{upper}.")]
                [usize::try_from(guess % 4).unwrap()]
            .to_owned();
            world.hear("bad", &bad, Some(&spelling), guess, 0);
        }
        world.said
    };
    let somebody = waits("ann@a.example");
    assert!(somebody.contains("after"), "{somebody}");
    assert_eq!(waits("eve@a.example"), somebody);
}
