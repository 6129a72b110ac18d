//! Logins against a real directory, with the least costs that argon2 takes.

use super::*;
use crate::directory::Ledger;
use crate::model::time::Wall;
use futures_lite::future::{block_on, zip};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

struct World {
    ledger: Ledger,
    auth: Authenticator,
    names: directory::Settings,
    paused: RefCell<Vec<Duration>>,
}

impl World {
    fn new(pool: Pool) -> World {
        let settings = Settings { cost: Cost::LEAST, ..Settings::default() };
        let throttle = Arc::new(Throttle::new(&[9; 32]));
        let auth = Authenticator::new(settings, pool, [9; 32], throttle);
        let names = directory::Settings::default();
        let world = World { ledger: Ledger::new(), auth, names, paused: RefCell::default() };
        let hash = hash("secret", &[3; 16], Cost::LEAST).unwrap();
        world.ledger.change(|draft| {
            draft.add_domain("a.example", Wall(0))?;
            draft.add_user("bob@a.example", &hash, 0, Wall(0))?;
            draft.add_user("off@a.example", &hash, 0, Wall(0))?;
            draft.set_enabled("off@a.example", false)
        });
        world
    }

    fn login(&self, user: &str, password: &str, seconds: u64) -> Verdict {
        block_on(self.begin(user, password, seconds))
    }

    fn begin<'a>(
        &'a self,
        user: &'a str,
        password: &'a str,
        seconds: u64,
    ) -> impl Future<Output = Verdict> + use<'a> {
        self.begin_at(1, user, password, seconds)
    }

    /// From one of many addresses; pauses are noted, not waited for.
    fn begin_at<'a>(
        &'a self,
        place: u8,
        user: &'a str,
        password: &'a str,
        seconds: u64,
    ) -> impl Future<Output = Verdict> + use<'a> {
        let snapshot = self.ledger.snapshot();
        let now = Mono(Duration::from_secs(seconds));
        let claim = Claim { user, password, peer: IpAddr::from([192, 0, 2, place]) };
        async move {
            let sleep = async |pause: Duration| self.paused.borrow_mut().push(pause);
            self.auth.verify(&snapshot, &self.names, claim, now, sleep).await
        }
    }

    fn login_at(&self, place: u8, user: &str, password: &str, seconds: u64) -> Verdict {
        block_on(self.begin_at(place, user, password, seconds))
    }
}

const BOB: Verdict = Verdict::Account(AccountId(1));

#[test]
fn tells_right_from_wrong_and_not_wrong_from_unknown() {
    let world = World::new(Pool::inline(Cost::LEAST));
    assert_eq!(world.login("bob@a.example", "secret", 0), BOB);
    assert_eq!(world.login("Bob", "secret", 0), BOB);
    assert_eq!(world.login("bob@a.example", "Secret", 0), Verdict::Refused);
    assert_eq!(world.login("eve@a.example", "secret", 0), Verdict::Refused);
    assert_eq!(world.login("eve@a.example", "", 0), Verdict::Refused);
    assert_eq!(world.login("off@a.example", "secret", 0), Verdict::Disabled);
    assert_eq!(world.login("off@a.example", "wrong", 0), Verdict::Disabled);
}

#[test]
fn checks_every_kind_of_failure_once_and_for_the_same_cost() {
    for (user, password, want) in [
        ("bob@a.example", "wrong", Verdict::Refused),
        ("eve@a.example", "wrong", Verdict::Refused),
        ("off@a.example", "wrong", Verdict::Disabled),
        // Neither his own nor that of a program is remembered as right, or found without a check.
        ("off@a.example", "secret", Verdict::Disabled),
        ("off@a.example", "app", Verdict::Disabled),
    ] {
        let world = World::new(Pool::inline(Cost::LEAST));
        let digest = app::digest("app");
        world
            .ledger
            .change(|draft| draft.add_app("off@a.example", "phone", (&digest, &[]), Wall(0)));
        for minutes in 0..3 {
            for _ in 0..3 {
                assert_eq!(world.login(user, password, minutes * 60), want);
            }
        }
        assert_eq!(world.auth.pool.count(), 3, "{user} {password}");
    }
}

/// Whatever he shows: pauses grow, and tell nobody that there is such a user.
#[test]
fn who_is_off_is_slowed_down_as_who_guesses_is() {
    let waits = |user: &str, shows: &str| {
        let world = World::new(Pool::inline(Cost::LEAST));
        for minutes in 0..30 {
            // Each time forgotten by then.
            world.login(user, shows, minutes * 61);
            world.login(user, &format!("guess {minutes}"), minutes * 61);
        }
        for _ in 0..20 {
            let proof = Proof { user, is_right: shows == "secret", peer: [192, 0, 2, 9].into() };
            let sleep = async |pause: Duration| world.paused.borrow_mut().push(pause);
            let (snapshot, now) = (world.ledger.snapshot(), Mono(Duration::from_mins(150)));
            block_on(world.auth.prove(&snapshot, &world.names, proof, now, sleep));
        }
        world.paused.take()
    };
    let refused = waits("bob@a.example", "wrong");
    assert!(refused.len() > 3, "{refused:?}");
    assert_eq!(waits("off@a.example", "secret"), refused);
    assert_eq!(waits("off@a.example", "wrong"), refused);
}

/// What was remembered before counts for nothing, and what was refused is not remembered after it.
#[test]
fn a_user_is_off_and_on_at_once() {
    let world = World::new(Pool::inline(Cost::LEAST));
    assert_eq!(world.login("bob", "secret", 0), BOB);
    world.ledger.change(|draft| draft.set_enabled("bob@a.example", false));
    assert_eq!(world.login("bob", "secret", 0), Verdict::Disabled);
    world.ledger.change(|draft| draft.set_enabled("bob@a.example", true));
    assert_eq!(world.login("bob", "secret", 0), BOB);
}

#[test]
fn remembers_for_a_while() {
    let world = World::new(Pool::inline(Cost::LEAST));
    for second in [0, 1, 899] {
        assert_eq!(world.login("bob@a.example", "secret", second), BOB);
    }
    assert_eq!(world.auth.pool.count(), 1);
    assert_eq!(world.login("bob@a.example", "secret", 900), BOB);
    assert_eq!(world.auth.pool.count(), 2);
    assert_eq!(world.login("bob@a.example", "wrong", 900), Verdict::Refused);
    assert_eq!(world.login("bob@a.example", "wrong", 959), Verdict::Refused);
    assert_eq!(world.auth.pool.count(), 3);
    assert_eq!(world.login("bob@a.example", "wrong", 960), Verdict::Refused);
    assert_eq!(world.auth.pool.count(), 4);
}

#[test]
fn forgets_the_old_password_with_the_change() {
    let world = World::new(Pool::inline(Cost::LEAST));
    assert_eq!(world.login("bob@a.example", "secret", 0), BOB);
    assert_eq!(world.login("bob@a.example", "new", 0), Verdict::Refused);
    let recipe = Recipe { cost: Cost::LEAST, scram: vec![Hash::Sha256], iterations: 1 };
    let new = Secret::new("new");
    let hash = block_on(world.auth.secrets(recipe, "", Vec::new(), &new, [[5; 16]; 3])).unwrap();
    world.ledger.change(|draft| draft.set_hash("bob@a.example", &hash));
    assert_eq!(world.login("bob@a.example", "secret", 0), Verdict::Refused);
    assert_eq!(world.login("bob@a.example", "new", 0), BOB);
}

#[test]
fn checks_once_for_many_who_come_together() {
    let world = World::new(Pool::start(Cost::LEAST, 1, 4).unwrap());
    let both = zip(world.begin("bob", "secret", 0), world.begin("bob", "secret", 0));
    assert_eq!(block_on(zip(both, world.begin("bob", "secret", 0))), ((BOB, BOB), BOB));
    assert_eq!(world.auth.pool.count(), 1);
}

/// Takes the only thread until the sender is dropped.
fn hold(pool: &Pool) -> crossbeam::channel::Sender<()> {
    let (end, may_end) = crossbeam::channel::bounded::<()>(0);
    let (begun, has_begun) = crossbeam::channel::bounded(1);
    let answer = pool.run(move || {
        begun.send(()).unwrap();
        may_end.recv()
    });
    has_begun.recv().unwrap();
    drop(answer);
    end
}

#[test]
fn keeps_a_flood_against_one_account_from_the_others() {
    let world = World::new(Pool::start(Cost::LEAST, 1, 8).unwrap());
    assert_eq!(world.login("bob", "secret", 0), BOB);
    let held = hold(&world.auth.pool);
    let mut context = Context::from_waker(Waker::noop());
    let mut one = pin!(world.begin("bob", "1", 0));
    let mut two = pin!(world.begin("bob", "2", 0));
    assert_eq!(one.as_mut().poll(&mut context), Poll::Pending);
    assert_eq!(two.as_mut().poll(&mut context), Poll::Pending);
    assert_eq!(world.login("bob", "3", 0), Verdict::Busy);
    // Who is remembered gets in, and other accounts have their turn.
    assert_eq!(world.login("bob", "secret", 0), BOB);
    let mut off = pin!(world.begin("off", "secret", 0));
    assert_eq!(off.as_mut().poll(&mut context), Poll::Pending);
    drop(held);
    assert_eq!(block_on(zip(zip(one, two), off)).0, (Verdict::Refused, Verdict::Refused));
    assert_eq!(world.login("bob", "3", 0), Verdict::Refused);
}

/// Whoever guesses from one address has his own checks refused, not those of the owner elsewhere.
#[test]
fn lets_the_owner_in_while_somebody_guesses() {
    let world = World::new(Pool::start(Cost::LEAST, 1, 8).unwrap());
    let held = hold(&world.auth.pool);
    let mut context = Context::from_waker(Waker::noop());
    let mut one = pin!(world.begin_at(1, "bob", "1", 0));
    let mut two = pin!(world.begin_at(1, "bob", "2", 0));
    assert_eq!(one.as_mut().poll(&mut context), Poll::Pending);
    assert_eq!(two.as_mut().poll(&mut context), Poll::Pending);
    assert_eq!(world.login_at(1, "bob", "3", 0), Verdict::Busy);
    let mut owner = pin!(world.begin_at(2, "bob", "secret", 0));
    assert_eq!(owner.as_mut().poll(&mut context), Poll::Pending);
    drop(held);
    assert_eq!(block_on(zip(zip(one, two), owner)).1, BOB);
    assert!(world.auth.memory.borrow().by_site.is_empty());
}

#[test]
fn slows_down_who_guesses_and_nobody_else() {
    let world = World::new(Pool::inline(Cost::LEAST));
    assert_eq!(world.login_at(1, "bob", "secret", 0), BOB);
    for guess in 0..40 {
        // As long for a user that does not exist as for one that does.
        let user = if guess % 2 == 0 { "bob" } else { "nobody" };
        let verdict = world.login_at(1, user, &format!("guess {guess}"), 1);
        assert!(matches!(verdict, Verdict::Refused | Verdict::Busy), "{verdict:?}");
    }
    let paused = world.paused.take();
    assert!(paused.is_sorted() && paused.len() > 3, "{paused:?}");
    assert_eq!(world.login_at(1, "bob", "one more", 1), Verdict::Busy);
    // Who is remembered does not wait, and who comes from elsewhere does not.
    assert_eq!(world.login_at(1, "bob", "secret", 1), BOB);
    assert_eq!(world.login_at(2, "bob", "wrong", 1), Verdict::Refused);
    assert_eq!(world.login_at(2, "off", "secret", 1), Verdict::Disabled);
    assert!(world.paused.take().is_empty());
}

/// A password that its owner has shown elsewhere is no faster to guess: right or wrong, a guess
/// waits for its turn.
#[test]
fn a_remembered_password_is_not_guessed_without_a_pause() {
    let world = World::new(Pool::inline(Cost::LEAST));
    assert_eq!(world.login_at(1, "bob", "secret", 0), BOB);
    let mut guesses = 0;
    while world.login_at(2, "bob", &format!("guess {guesses}"), 1) != Verdict::Busy {
        guesses += 1;
    }
    world.paused.take();
    assert_eq!(world.login_at(2, "bob", "secret", 1), Verdict::Busy);
    assert_eq!(world.login_at(1, "bob", "secret", 1), BOB);
    assert!(world.paused.take().is_empty());
    // And who is slow to come back is known there from then on.
    assert_eq!(world.login_at(2, "bob", "secret", 600), BOB);
    assert_eq!(world.login_at(2, "bob", "secret", 600), BOB);
}

#[test]
fn nobody_is_one_in_every_spelling_as_somebody_is() {
    let world = World::new(Pool::inline(Cost::LEAST));
    let snapshot = world.ledger.snapshot();
    let name = |text: &str| snapshot.login_name(text, &world.names);
    for (local, domain) in [("bob", "a.example"), ("nobody", "a.example"), ("x", "b.example")] {
        let whole = name(&format!("{local}@{domain}"));
        let upper = format!("{local}@{domain}").to_uppercase();
        assert_eq!([name(&upper), name(&format!("{local}@{domain}."))], [whole.clone(), whole]);
    }
    assert_eq!(name("nobody"), name("nobody@a.example"));
}

#[test]
fn says_busy_when_too_much_waits() {
    let world = World::new(Pool::start(Cost::LEAST, 1, 1).unwrap());
    let held = hold(&world.auth.pool);
    let mut context = Context::from_waker(Waker::noop());
    let mut one = pin!(world.begin("bob", "secret", 0));
    assert_eq!(one.as_mut().poll(&mut context), Poll::Pending);
    assert_eq!(world.login("off", "secret", 0), Verdict::Busy);
    drop(held);
    assert_eq!(block_on(one), BOB);
    assert_eq!(world.login("off", "secret", 0), Verdict::Disabled);
}

#[test]
fn lets_another_take_over_from_a_client_who_hung_up() {
    let world = World::new(Pool::start(Cost::LEAST, 1, 4).unwrap());
    let held = hold(&world.auth.pool);
    let mut context = Context::from_waker(Waker::noop());
    let mut first = Box::pin(world.begin("bob", "secret", 0));
    let mut second = pin!(world.begin("bob", "secret", 0));
    assert_eq!(first.as_mut().poll(&mut context), Poll::Pending);
    assert_eq!(second.as_mut().poll(&mut context), Poll::Pending);
    drop(first);
    drop(held);
    assert_eq!(block_on(second), BOB);
    assert!(world.auth.memory.borrow().under_way.is_empty());
    assert!(world.auth.memory.borrow().by_subject.is_empty());
}

/// The pauses of an account hold for a name that is none in whichever spelling, or they would tell one
/// from the other.
#[test]
fn a_proof_of_nobody_waits_as_one_of_somebody_does() {
    let waits = |user: &str| {
        let world = World::new(Pool::inline(Cost::LEAST));
        let snapshot = world.ledger.snapshot();
        let sleep = async |pause: Duration| world.paused.borrow_mut().push(pause);
        for guess in 0..=70_u8 {
            let spelling: String = user
                .chars()
                .enumerate()
                .map(|(at, letter)| match guess >> (at % 7) & 1 {
                    1 => letter.to_ascii_uppercase(),
                    _ => letter,
                })
                .collect();
            let peer = IpAddr::from([192, 0, guess, 1]);
            let proof = Proof { user: &spelling, is_right: false, peer };
            let now = Mono::default();
            let proved = block_on(world.auth.prove(&snapshot, &world.names, proof, now, sleep));
            assert!(matches!(proved, Verdict::Refused | Verdict::Busy), "{proved:?}");
        }
        world.paused.take()
    };
    let somebody = waits("bob@a.example");
    assert!(somebody.len() > 3, "{somebody:?}");
    assert_eq!(waits("eve@a.example"), somebody);
}

/// It costs a few checks, and nobody waits for it.
#[test]
fn what_is_kept_anew_takes_no_place_of_a_login() {
    let world = World::new(Pool::start(Cost::LEAST, 1, 1).unwrap());
    let held = hold(&world.auth.pool);
    let mut context = Context::from_waker(Waker::noop());
    let recipe = Recipe { cost: Cost::LEAST, scram: vec![Hash::Sha256], iterations: 1 };
    let secret = Secret::new("secret");
    let mut anew = pin!(world.auth.secrets(recipe, "", Vec::new(), &secret, [[5; 16]; 3]));
    assert!(anew.as_mut().poll(&mut context).is_pending());
    let mut login = pin!(world.begin("bob", "secret", 0));
    assert_eq!(login.as_mut().poll(&mut context), Poll::Pending);
    drop(held);
    let (login, anew) = block_on(zip(login, anew));
    assert!(login == BOB && anew.is_ok());
}

/// SCRAM takes each of a user's passwords, and tells whose it is by then; how many there are is not told
/// by how many are tried.
#[test]
fn keys_of_programs_are_tried_beside_his_own() {
    let world = World::new(Pool::inline(Cost::LEAST));
    let keys = |password: &str| Keys::derive(Hash::Sha256, password, b"salt", 2);
    let of = |world: &World, user| {
        let snapshot = world.ledger.snapshot();
        world.auth.keys(&snapshot, &world.names, user, Hash::Sha256)
    };
    let holder = |world: &World, password| {
        let snapshot = world.ledger.snapshot();
        world.auth.holder(&snapshot, &world.names, "bob", &keys(password))
    };
    let hash = format!("{{PLAIN}}x {}", keys("secret"));
    world.ledger.change(|draft| draft.set_hash("bob@a.example", &hash));
    let add = |draft: &mut directory::Draft<'_>, name: &str| {
        let digest = app::digest(name);
        draft.add_app("bob@a.example", name, (&digest, &[keys(name)]), Wall(0))
    };
    world.ledger.change(|draft| add(draft, "phone"));
    assert_eq!(holder(&world, "secret"), BOB);
    assert_eq!(holder(&world, "phone"), Verdict::App(AccountId(1)));
    assert_eq!(holder(&world, "laptop"), Verdict::Busy);
    for user in ["bob", "nobody"] {
        assert_eq!(of(&world, user).len(), SCRAM_KEYS_TRIED_MIN, "{user}");
    }
    for number in 0..SCRAM_KEYS_TRIED_MIN {
        world.ledger.change(|draft| add(draft, &format!("program {number}")));
    }
    assert_eq!(of(&world, "bob").len(), SCRAM_KEYS_TRIED_MIN + 2);
    world.ledger.change(|draft| draft.set_enabled("bob@a.example", false));
    assert_eq!(holder(&world, "phone"), Verdict::Disabled);
}
