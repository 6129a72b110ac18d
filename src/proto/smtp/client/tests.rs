//! Dialogs with servers of every manner, each over all cuts of what they say.

mod login;
mod mad;
mod offers;
mod sound;

use super::Profile;
use super::replay::{Act, Letter, Replay, fuzz_client};
use crate::bytes::codec::to_u64;
use crate::model::address::Address;
use crate::wire::smtp::param::{MailParams, RcptParams};
use expect_test::{Expect, expect};

fn profile() -> Profile {
    Profile { hello: "me.example".into(), ..Profile::default() }
}

fn lmtp() -> Profile {
    Profile { lmtp: true, ..profile() }
}

/// To so many recipients.
fn letter(recipients: usize) -> Letter<'static> {
    let octets = b"A: b\r\n\r\n.\r\n";
    Letter {
        sender: Some(Address::from_parts("s", "me.example")),
        recipients: (1..=recipients)
            .map(|n| Address::from_parts(&format!("r{n}"), "x.example"))
            .collect(),
        params: MailParams { size: Some(to_u64(octets.len())), ..MailParams::default() },
        rcpt_params: RcptParams::default(),
        octets,
    }
}

/// A script as text: `|` for a line end; EOF and SLEEP are what they say.
fn acts(script: &[&str]) -> Vec<Vec<u8>> {
    script.iter().map(|turn| format!("{turn}|").replace('|', "\r\n").into_bytes()).collect()
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
fn check_as(profile: &Profile, letters: &[Letter<'_>], script: &[&str], want: Expect) {
    let octets = acts(script);
    let turns: Vec<Act<'_>> = script
        .iter()
        .zip(&octets)
        .map(|(turn, octets)| match *turn {
            "EOF" => Act::HangUp,
            "SLEEP" => Act::Sleep,
            _ => Act::Say(octets),
        })
        .collect();
    let run = |piece| {
        let mut replay = Replay::new(profile.clone(), &turns, piece);
        replay.run(letters);
        replay.transcript
    };
    let whole = run(usize::MAX);
    for piece in 1..=7 {
        assert_eq!(run(piece), whole, "cut into pieces of {piece}");
    }
    want.assert_eq(&whole);
}

#[track_caller]
fn check(recipients: usize, script: &[&str], want: Expect) {
    check_as(&profile(), &[letter(recipients)], script, want);
}

const PIPELINING: &str = "250-x|250 PIPELINING";
const CHUNKING: &str = "250-x|250-CHUNKING|250 PIPELINING";

#[test]
fn keeps_its_laws_whatever_a_server_says() {
    let words: [&[u8]; 22] = [
        b"220 hi\r\n\xff250-x\r\n250 PIPELINING\r\n\xff",
        b"220 hi\r\n\xff250-x\r\n250-CHUNKING\r\n250 PIPELINING\r\n\xff",
        b"220 hi\r\n\xff250-x\r\n250 LIMITS RCPTMAX=2\r\n\xff250 ok\r\n\xff",
        b"220 hi\r\n\xff250-x\r\n250 STARTTLS\r\n\xff",
        b"250 ok\r\n",
        b"250 ok\r\n",
        b"250 ok\r\n\xff",
        b"250 ok\r\n\xff",
        b"354 go\r\n\xff",
        b"550 5.1.1 no\r\n",
        b"450 later\r\n",
        b"452 4.5.3 many\r\n",
        b"552 full\r\n\xff",
        b"421 bye\r\n",
        b"250-",
        b"\r\n",
        b"\n",
        b"\xff",
        b"220",
        b" x",
        b"503 what\r\n",
        b"199 x\r\n",
    ];
    arbtest::arbtest(|u| {
        let mut data = vec![u.arbitrary::<u8>()?];
        for _ in 0..u.int_in_range(0..=24)? {
            data.extend_from_slice(u.choose(&words)?);
        }
        fuzz_client(&data);
        Ok(())
    });
}
