//! Threads out of small mailboxes, and out of large ones that mean harm.

use super::*;

/// Id, references, subject, moment.
type Mail = (u64, &'static [u64], &'static str, i64);

#[track_caller]
fn check(algorithm: Algorithm, mails: &[Mail], want: &str) {
    let messages: Vec<Message<'_>> = mails
        .iter()
        .zip(1..)
        .map(|(&(id, references, subject, sent), number)| {
            let base = subject.strip_prefix("Re: ").unwrap_or(subject);
            let is_reply = base.len() < subject.len();
            let base_subject = base.as_bytes();
            Message { number, sent, id: Some(id), references, base_subject, is_reply }
        })
        .collect();
    let mut out = Vec::new();
    put_threads(algorithm, &messages, &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), want);
}

#[test]
fn threads_by_subject() {
    use Algorithm::OrderedSubject;
    check(OrderedSubject, &[], "");
    check(
        OrderedSubject,
        &[(1, &[], "a", 5), (2, &[], "b", 1), (3, &[], "Re: a", 6), (4, &[], "Re: a", 7)],
        "(2)(1 (3)(4))",
    );
    check(OrderedSubject, &[(1, &[], "a", 2), (2, &[], "Re: a", 1)], "(2 1)");
}

#[test]
fn threads_by_references() {
    use Algorithm::References;
    check(References, &[(1, &[], "a", 1), (2, &[1], "b", 2), (3, &[1, 2], "c", 3)], "(1 2 3)");
    check(References, &[(1, &[], "a", 1), (2, &[1], "a", 3), (3, &[1], "a", 2)], "(1 (3)(2))");
    // 9 is only referred to, and has two children: it stays as an empty head.
    check(References, &[(1, &[9], "a", 1), (2, &[9], "b", 2)], "((1)(2))");
    // With one child it goes; in between it goes too.
    check(References, &[(1, &[9], "a", 1), (2, &[], "b", 2)], "(1)(2)");
    check(
        References,
        &[(1, &[], "a", 1), (2, &[1, 9], "b", 2), (3, &[1, 9], "c", 3)],
        "(1 (2)(3))",
    );
    // The second of one id has none.
    check(References, &[(1, &[], "a", 1), (1, &[], "b", 2), (3, &[1], "c", 3)], "(1 3)(2)");
}

#[test]
fn closes_no_circles() {
    use Algorithm::References;
    check(References, &[(1, &[2], "a", 1), (2, &[1], "b", 2)], "(2 1)");
    check(References, &[(1, &[1], "a", 1)], "(1)");
    check(References, &[(1, &[2, 3, 2], "a", 1), (2, &[], "b", 2), (3, &[], "c", 3)], "(2 1)(3)");
}

#[test]
fn gathers_threads_of_one_subject() {
    use Algorithm::{References, Refs};
    check(References, &[(1, &[], "a", 1), (2, &[], "Re: a", 2)], "(1 2)");
    check(References, &[(1, &[], "Re: a", 1), (2, &[], "a", 2)], "(2 1)");
    check(References, &[(1, &[], "a", 1), (2, &[], "a", 2), (3, &[], "a", 3)], "((1)(2)(3))");
    check(
        References,
        &[(1, &[8], "a", 1), (2, &[8], "a", 2), (3, &[9], "a", 3), (4, &[9], "a", 4)],
        "((1)(2)(3)(4))",
    );
    check(References, &[(1, &[], "", 1), (2, &[], "", 2)], "(1)(2)");
    check(Refs, &[(1, &[], "a", 1), (2, &[], "Re: a", 2)], "(1)(2)");
}

#[test]
fn refs_stand_in_the_order_of_their_newest() {
    check(
        Algorithm::Refs,
        &[
            (1, &[], "a", 1),
            (2, &[], "b", 2),
            (3, &[1], "c", 3),
            (4, &[9], "d", 0),
            (5, &[9], "e", 9),
        ],
        "(2)(1 3)((4)(5))",
    );
}

#[test]
fn long_chains_are_quick() {
    let ids: Vec<u64> = (0..50_000).collect();
    let chain: Vec<Message<'_>> = ids
        .iter()
        .map(|&id| {
            let last = usize::try_from(id).unwrap();
            let references = &ids[last.saturating_sub(64)..last];
            // The newest first: each is linked before the one that it answers.
            let number = u32::try_from(50_000 - id).unwrap();
            Message {
                number,
                sent: 0,
                id: Some(id),
                references,
                base_subject: b"",
                is_reply: false,
            }
        })
        .rev()
        .collect();
    for algorithm in [Algorithm::References, Algorithm::Refs, Algorithm::OrderedSubject] {
        let mut out = Vec::new();
        put_threads(algorithm, &chain, &mut out);
        assert!(out.ends_with(b")") && out.len() > 50_000 * 5);
    }
}

/// Laws: every message once, parentheses in pairs.
#[test]
fn loses_nothing() {
    arbtest::arbtest(|u| {
        let count = u.int_in_range(0..=10)?;
        let mut mails = Vec::new();
        for _ in 0..count {
            let id: u64 = u.int_in_range(0..=7)?;
            let references: Vec<u64> = (0..u.int_in_range(0..=3)?)
                .map(|_| u.int_in_range(0..=9))
                .collect::<Result<_, _>>()?;
            let subject = *u.choose(&["", "a", "b"])?;
            mails.push((id, references, subject, u.int_in_range(0..=3)?, u.arbitrary::<bool>()?));
        }
        let messages: Vec<Message<'_>> = mails
            .iter()
            .zip(1..)
            .map(|((id, references, subject, sent, is_reply), number)| Message {
                number,
                sent: *sent,
                id: (*id > 0).then_some(*id),
                references,
                base_subject: subject.as_bytes(),
                is_reply: *is_reply,
            })
            .collect();
        for algorithm in [Algorithm::References, Algorithm::Refs, Algorithm::OrderedSubject] {
            let mut out = Vec::new();
            put_threads(algorithm, &messages, &mut out);
            let text = String::from_utf8(out).unwrap();
            let mut numbers: Vec<u32> = text
                .split(['(', ')', ' '])
                .filter(|word| !word.is_empty())
                .map(|word| word.parse().unwrap())
                .collect();
            numbers.sort_unstable();
            assert_eq!(numbers, (1..=u32::try_from(messages.len()).unwrap()).collect::<Vec<_>>());
            assert_eq!(text.matches('(').count(), text.matches(')').count());
            assert!(!text.contains("()") && !text.contains("( ") && !text.contains("  "), "{text}");
        }
        Ok(())
    });
}
