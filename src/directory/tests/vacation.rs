//! What is answered for users who are away.

use super::*;

/// What is answered for a user stands behind all else that a user's record has: others are as they were.
#[test]
fn keeps_what_is_answered_for_a_user() {
    let vacation = Vacation {
        subject: Some("Away".into()),
        text: "text\n".into(),
        from: 1,
        until: 2,
        days: 7,
        addresses: Box::new(["Other@Else.example".into()]),
    };
    let mut world = world("domain a.example\nuser a@a.example\nuser b@a.example");
    let account = |world: &World, name: &str| {
        let snapshot = world.ledger.snapshot();
        let away = snapshot.away().values().find(|user| user.name.as_str() == name);
        away.and_then(|user| user.vacation.clone())
    };
    let set = |world: &mut World, vacation: Option<Vacation>| {
        let turn = world.ledger.turn().unwrap();
        let group = turn.draft(|draft| draft.set_vacation("a@a.example", vacation))?.1;
        drop(turn);
        world.apply(group);
        Ok::<(), ChangeError>(())
    };
    set(&mut world, Some(vacation.clone())).unwrap();
    let mut out = String::new();
    hexadecimal(&mut out, &world.log[3].body[88..]);
    let want = "07000000 01000000 02000000 04000000 41776179 05000000 74657874 \
                0a010000 00120000 004f7468 65724065 6c73652e 6578616d 706c65";
    assert_eq!(out.trim(), want);
    let mut again = World::default();
    for (record, at) in world.log.iter().zip(1..) {
        replay(&mut again.ledger, Lsn(at), record);
    }
    let kept = account(&again, "a@a.example").unwrap();
    let addresses: Box<[Box<str>]> = Box::new(["Other@else.example".into()]);
    assert_eq!(*kept, Vacation { addresses, ..vacation.clone() });
    assert_eq!(account(&again, "b@a.example"), None);
    assert!(kept.is_on(1) && !kept.is_on(2) && !kept.is_on(0));
    for wrong in [
        Vacation { text: " \n".into(), ..vacation.clone() },
        Vacation { subject: Some("a\nb".into()), ..vacation.clone() },
        Vacation { days: 0, ..vacation.clone() },
        Vacation { until: 1, ..vacation.clone() },
        Vacation { addresses: Box::new(["x".into()]), ..vacation },
    ] {
        assert!(set(&mut world, Some(wrong)).is_err_and(|error| error.is_usage()));
    }
    set(&mut world, None).unwrap();
    assert_eq!(account(&world, "a@a.example"), None);
}
