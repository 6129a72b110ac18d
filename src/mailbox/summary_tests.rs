//! The octets of a summary, and what is left out of it.

use super::*;
use expect_test::{Expect, expect};
use std::fmt::Write as _;

const MESSAGE: &str = "\
Date: Wed, 25 Nov 2026 05:11:19 +0100\r
From: A <a@b.example>\r
Subject: Re: Hi\r
Message-ID: <1@b.example>\r
In-Reply-To: <0@b.example>\r
Content-Type: multipart/mixed; boundary=b\r
\r
--b\r
Content-Transfer-Encoding: quoted-printable\r
\r
Hello =C3=A4\r
--b--\r
";

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
fn check(message: &str, want: Expect) {
    let octets = summarize(message.as_bytes());
    let mut got = String::new();
    for line in octets.chunks(16) {
        for octet in line {
            write!(got, "{octet:02x}").unwrap();
        }
        got.push(' ');
        for octet in line {
            got.push(if matches!(octet, b' '..=b'~') { char::from(*octet) } else { '.' });
        }
        got.push('\n');
    }
    want.assert_eq(&got);
    fuzz_summary(message.as_bytes());
}

#[test]
fn writes_these_octets_for_ever() {
    check(
        MESSAGE,
        expect![[r#"
        02180200b300000005000000e75f066b ............._.k
        000000003c000100ce21b6db1655197e ....<....!...U.~
        ac0000007e0000000200080000000000 ....~...........
        7b89d0488296599f00000000b3000000 {..H..Y.........
        fc0000000500000002000200b8000000 ................
        e7000000f30000000000000002002101 ..............!.
        28225765642c203235204e6f76203230 ("Wed, 25 Nov 20
        32362030353a31313a3139202b303130 26 05:11:19 +010
        3022202252653a204869222028282241 0" "Re: Hi" (("A
        22204e494c202261222022622e657861 " NIL "a" "b.exa
        6d706c65222929202828224122204e49 mple")) (("A" NI
        4c202261222022622e6578616d706c65 L "a" "b.example
        222929202828224122204e494c202261 ")) (("A" NIL "a
        222022622e6578616d706c6522292920 " "b.example")) 
        4e494c204e494c204e494c20223c3040 NIL NIL NIL "<0@
        622e6578616d706c653e2220223c3140 b.example>" "<1@
        622e6578616d706c653e222928282274 b.example>")(("t
        657874222022706c61696e2220282263 ext" "plain" ("c
        68617273657422202275732d61736369 harset" "us-asci
        692229204e494c204e494c202271756f i") NIL NIL "quo
        7465642d7072696e7461626c65222031 ted-printable" 1
        322030204e494c204e494c204e494c20 2 0 NIL NIL NIL 
        4e494c2920226d697865642220282262 NIL) "mixed" ("b
        6f756e64617279222022622229204e49 oundary" "b") NI
        4c204e494c204e494c29484948656c6c L NIL NIL)HIHell
        6f20c3a4 o ..
    "#]],
    );
    check(
        "",
        expect![[r#"
        02000100000000000000000000000000 ................
        00000000000000000000000000000000 ................
        290000004a0000000000000000000000 )...J...........
        00000000000000000000000000000000 ................
        01000100284e494c204e494c204e494c ....(NIL NIL NIL
        204e494c204e494c204e494c204e494c  NIL NIL NIL NIL
        204e494c204e494c204e494c29282274  NIL NIL NIL)("t
        657874222022706c61696e2220282263 ext" "plain" ("c
        68617273657422202275732d61736369 harset" "us-asci
        692229204e494c204e494c2022376269 i") NIL NIL "7bi
        742220302030204e494c204e494c204e t" 0 0 NIL NIL N
        494c204e494c29 IL NIL)
    "#]],
    );
}

#[test]
fn tells_what_listings_want() {
    let octets = summarize(MESSAGE.as_bytes());
    let summary = Summary::read(&octets).unwrap();
    assert_eq!(summary.header_len, 179);
    assert_eq!(summary.body_lines, 5);
    assert_eq!(summary.sent(), Some(Sent { seconds: 1_795_579_879, zone_minutes: 60 }));
    assert_eq!((summary.base_subject(), summary.is_reply()), (&b"HI"[..], true));
    assert_eq!(summary.preview(), "Hello ä");
    assert!(summary.message_id().is_some());
    assert_eq!(summary.references().count(), 1);
    assert!(summary.envelope().unwrap().starts_with(b"(\"Wed, 25 Nov 2026"));
    let text = summary.structure().unwrap();
    assert!(text.starts_with(b"((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"quoted-"));
    let mut parts = Vec::new();
    assert!(summary.parts(&mut parts).unwrap());
    assert_eq!(parts, Tree::of(MESSAGE.as_bytes()).parts);
}

#[test]
fn leaves_out_what_is_too_large() {
    let to = "To: ".to_owned() + &"someone@somewhere.example,\r\n ".repeat(2_000) + "x@y\r\n\r\n";
    let octets = summarize(to.as_bytes());
    let summary = Summary::read(&octets).unwrap();
    assert!(summary.envelope().is_none() && summary.structure().is_some());
    fuzz_summary(to.as_bytes());
    let head = "Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_owned();
    let wide = head.clone() + &"--b\r\n\r\n\r\n".repeat(SUMMARY_PARTS_MAX);
    let octets = summarize(wide.as_bytes());
    let summary = Summary::read(&octets).unwrap();
    let mut parts = Vec::new();
    assert!(summary.structure().is_none() && !summary.parts(&mut parts).unwrap());
    // A megabyte with two hundred parts has all of it.
    let part =
        "--b\r\nContent-Type: image/png; name=some.png\r\n\r\n".to_owned() + &"x".repeat(5_000);
    let big = head + &(part + "\r\n").repeat(200);
    let octets = summarize(big.as_bytes());
    let summary = Summary::read(&octets).unwrap();
    assert!(summary.structure().is_some() && summary.parts(&mut parts).unwrap());
    assert_eq!(parts.len(), 201);
}

#[test]
fn reads_version_1() {
    let old = [&[1][..], &[0; 15], &[0; 8], &[0xf8, 0xff, 0xff, 0xff, 0, 0, 0, 0]].concat();
    assert_eq!(Stored::read(&old).unwrap(), Stored::Old(SummaryV1::default()));
    assert!(Stored::read(&[3; 64]).is_err() && Stored::read(&[]).is_err());
}

#[test]
fn keeps_its_laws_on_the_mails_of_the_corpus() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus/messages");
    let Ok(folders) = std::fs::read_dir(root) else {
        println!("skipped: no corpus beside the repository");
        return;
    };
    for folder in folders {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            fuzz_summary(&std::fs::read(file.unwrap().path()).unwrap());
        }
    }
}

#[test]
fn keeps_its_laws_on_any_octets() {
    arbtest::arbtest(|u| {
        let len = u.int_in_range(0..=20)?;
        let words = [
            "Content-Type: multipart/mixed; boundary=b\n",
            "--b",
            "\n",
            "\r\n",
            "x",
            "To: <a@b>, c\n",
            "Date: 1 Jan 2000\n",
            "Subject: re: ",
            "=?utf-8?q?=C3?=",
            "References: <a>\n",
            "é",
        ];
        let text: String = (0..len).map(|_| u.choose(&words).copied()).collect::<Result<_, _>>()?;
        fuzz_summary(text.as_bytes());
        Ok(())
    });
}
