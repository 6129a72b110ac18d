//! Hashes of this server, of others, and what is none.

use super::*;

#[test]
fn verifies_what_it_hashed_and_nothing_else() {
    let stored = hash("correct horse", &[7; 16], Cost::LEAST).unwrap();
    assert!(stored.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{stored}");
    assert!(verify("correct horse", &stored));
    assert!(!verify("correct horse ", &stored));
    assert!(!verify("", &stored));
    assert_ne!(stored, hash("correct horse", &[8; 16], Cost::LEAST).unwrap());
}

#[test]
fn takes_hashes_of_other_makers() {
    // Made by the reference implementation: `echo -n password | argon2 somesalt -id -m 16 -t 2`.
    let stored =
        "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
    assert!(is_hash(stored));
    assert!(verify("password", stored));
}

/// Of the password `pässwörd 1`, each by the tool that is said to make it.
const FOREIGN: &[(&str, &[&str])] = &[
    (
        "doveadm pw",
        &[
            "{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$Dgvw5DQPNsiDrqdSNAjsyg$CIC2oBxTGbhMqiAkvZWIaFVYKo1AMQI1DqGg8GqbY8g",
            "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$N7/KoE8aPzVYToQi0xW97w$bV/LcJiJ+L4BINAZ9qzR6H0FiPA1UgB328fv14xhz9A",
            "{BLF-CRYPT}$2y$05$h.0bpLGD818bRbJk1YZV2u1ZZr/Vd6SnTyGAqwa2uilC2wXEbOfBu",
            "{SHA512-CRYPT}$6$A4gYwEsW/uHzYV43$d0qd/3UBCq6EELillpROca8PLeb6Pxvj0NtYdVPPewEkrD/S7SY6n33AQPOjtG2Ju1PO.ezeRodoya/3tlK.V/",
            "{SHA256-CRYPT}$5$s5WH6.vP4e8T0C5q$ZX8fc4NufX/cVjCIIo.xaaPk/mz3T.JC7j4QdA68T8A",
            "{MD5-CRYPT}$1$jNUDrAne$Dt8w48XKceuDH2n/JuS8R/",
            "{SSHA}T/40VITl3Lf6zsOsoxYoc9k1p6VgAd+Y",
            "{SSHA256}CZ7ZYLqhjE5iLPGkMXKnoFIYqO28qn8JfKtRcXJf/nfFxT0m",
            "{SSHA512}zxKxmB8paMK0PzuKnp6y6F2MKnTWpPiM/r7w9DqiwI20+NPf++TymznBGljtQyH0YZEsIcwXAY+zGdqneFp/sFwzYNo=",
            "{SHA}/Hrn08gEogcgvDjo5YNQSGibZVE=",
            "{SHA256}UODX5JZHe18JVwv9yvMbAoeS719Y7fwn28vMuM/OHRU=",
            "{SHA512}MGrCWX/OaIyw5xBZ0RrM2vwe1YHoo2MD/NKt2+vkfLiudEOMnHxXTsVXCSooO5eehIdUJFylnTmr3TTyK23wMw==",
            "{PBKDF2}$1$9ixIDNNqO7fvmlNR$5000$3f1c5a359f83ab3eef21331dbe17a51e1c1aed16",
            "{SCRAM-SHA-1}4096,3G/bLmMrdW6iGhmsmGSkVw==,yKM9zg+S+l/aHoZWpr1eix9l1XE=,0jyrkuJOVa2vB4hxHsXhY8H8kos=",
            "{SCRAM-SHA-256}4096,aQvaPU+VI9LB1tSJU7tWzA==,nAGF8ALVf6vNeC7uIsBcqdzc+fYVW7teFPOlUNEgwQ8=,jpjKavOFbPwXU9HIUmHo2V1hyXy1uCCSWqP1FrjB2sQ=",
            "{SHA256.HEX}50e0d7e496477b5f09570bfdcaf31b028792ef5f58edfc27dbcbccb8cfce1d15",
            "{SHA256}50e0d7e496477b5f09570bfdcaf31b028792ef5f58edfc27dbcbccb8cfce1d15",
            "{SSHA.B64}89lA78PJAe/8CWVTcdsjBBTnI70l9ntd",
            "{CRYPT}$2y$05$/re7eX4qfC.z7tU5ONCQR.twC69G3QTI0pNOUdWnqMcFzKVPG/guS",
        ],
    ),
    (
        "mkpasswd",
        &[
            "$y$j9T$V3fvS2eoy6/2HNNVx50Rm/$Dth4R8Iwru2UBbSRrbu5GSZkvcUno3e4Sm0SS7LZhC3",
            "$7$CU..../....79AswfTqLH7.JF4zwQxRR1$d5zLlhXGM6LXAKXLXtzxDNLq/5OqBY7vX45bl/og0c4",
            "$2b$05$jtZ3YKxPo1kbhXxq6LbUr.D8Bnk.ibPrIi91jDsGmD73d1fr8eAQi",
            "$2a$05$iS7augXAubBmqyGLNmMNZu1BFTsPpxI8L.rF/QPhDenMBZdP3X5Sm",
            "$6$KZrci/3pOHtPEkqZ$0eWdZe3TS3qnna9EOwGwdDTFMLCx0l8tVdHoCuBWJwbxQ1pil1rAT3nvrh7mTkNmYWi7Q7K7UE4wAZ3UtB3ci0",
            "$5$JEdRrAsnmWClOla8$nzDVcytScaKom/R/.EayVAsDx0aqDEjPnDJ5zVes2D/",
            "$1$9k3tJyhl$bZ4i5FzIkdt4rh3xWs9zX.",
        ],
    ),
    (
        "openssl passwd",
        &[
            "$6$iL.xkibPBB93xSg.$ACTP0uAyMdq0JeaIaJYx6sEUUd5WpMHNyWbPyxpUTtCYZm9L8rGlkyiNKFRIZDhiTB7Vs05gP1v12rrFHF1Kj.",
            "$apr1$MJmZdXyO$mosN2L1GVBZsXBxgThV660",
        ],
    ),
    (
        "passlib",
        &[
            "$pbkdf2-sha256$1000$MWZMibGW8v7f27tXau1daw$3aAK9pB0DJB./xAvGX024aCSeKT9W3Qi1rWbbE1mtdU",
            "$pbkdf2-sha512$1000$xvj/fw8BgDCGEGKMEWIMgQ$Qbs9LdYMNPyXNlxd1E9bynveZi4tcSPF7K5QJmBOzBb63WEyzcDL4m2jhTH8duHglYMp2W02yy1WbynDFpPMYQ",
            "$pbkdf2$1000$LgUAwPif834vBUCIEQJgLA$0HDdGG3g12HHhmGcft5cWYb0AIk",
            "$scrypt$ln=10,r=8,p=1$HgOg9D6n9N7b23tPKSVEyA$7HpkXxcmxjUjx6KjITfir0+VYViT20LQq1qbH+2JMDY",
            "pbkdf2_sha256$1000$9tzTijI6NBPX$J0FvpObXwazLrThoT3mXVDUen+T/nKbqFOe2ftLwbCw=",
        ],
    ),
];

#[test]
fn takes_over_what_other_servers_have() {
    for (maker, hashes) in FOREIGN {
        for text in *hashes {
            let Some(Imported::Hash(hash)) = import(text) else { panic!("{maker}: {text}") };
            assert!(verify("p\u{e4}ssw\u{f6}rd 1", &hash), "{maker}: {text}");
            assert!(!verify("p\u{e4}ssw\u{f6}rd 2", &hash), "{maker}: {text}");
            assert!(!verify("", &hash), "{maker}: {text}");
            let is_ours = hash.starts_with("$argon2id$");
            assert_eq!(is_outdated(&hash, Cost::LEAST), !is_ours, "{maker}: {text}");
        }
    }
    assert_eq!(import("{PLAIN}a b"), Some(Imported::Plain("a b".into())));
}

#[test]
fn refuses_what_is_no_hash_or_costs_too_much() {
    let bad = [
        "",
        "x",
        "$",
        "{}",
        "{PLAIN}",
        "{NTLM}x",
        "!",
        "*",
        "!$6$KZrci/3pOHtPEkqZ$0eWdZe3TS3qnna9EOwGwdDTFMLCx0l8tVdHoCuBWJwbxQ1pil1rAT3nvrh7mTkNmYWi7Q7K7UE4wAZ3UtB3ci0",
        "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ",
        "$argon2id$v=19$m=1048576,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        "$argon2id$v=19$m=8,t=1000,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        "$2y$31$h.0bpLGD818bRbJk1YZV2u1ZZr/Vd6SnTyGAqwa2uilC2wXEbOfBu",
        "$2y$05$h.0bpLGD818bRbJk1YZV2u1ZZr",
        "$5$rounds=999999999$s5WH6.vP4e8T0C5q$ZX8fc4NufX/cVjCIIo.xaaPk/mz3T.JC7j4QdA68T8A",
        "$6$salt$",
        "$1$jNUDrAne$",
        // N of 2^40.
        "$7$cU..../....79AswfTqLH7.JF4zwQxRR1$d5zLlhXGM6LXAKXLXtzxDNLq/5OqBY7vX45bl/og0c4",
        "$y$jTT$V3fvS2eoy6/2HNNVx50Rm/$Dth4R8Iwru2UBbSRrbu5GSZkvcUno3e4Sm0SS7LZhC3",
        "$scrypt$ln=30,r=8,p=1$HgOg9D6n9N7b23tPKSVEyA$7HpkXxcmxjUjx6KjITfir0+VYViT20LQq1qbH+2JMDY",
        "{SSHA}/Hrn08gEogcgvDjo5YNQSGibZVE=",
        "{SHA}T/40VITl3Lf6zsOsoxYoc9k1p6VgAd+Y",
        "{SHA256.HEX}50e0",
        "{PBKDF2}$1$9ixIDNNqO7fvmlNR$99999999$3f1c5a359f83ab3eef21331dbe17a51e1c1aed16",
        "$pbkdf2-sha256$1000$MWZMibGW8v7f27tXau1daw$",
    ];
    for stored in bad {
        assert_eq!(import(stored), None, "{stored}");
        assert!(!is_hash(stored) && !verify("password", stored), "{stored}");
    }
}

#[test]
fn knows_an_outdated_hash() {
    let stored = hash("secret", &[7; 16], Cost::LEAST).unwrap();
    assert!(!is_outdated(&stored, Cost::LEAST));
    assert!(is_outdated(&stored, Cost::default()));
    let dear = hash("secret", &[7; 16], Cost { memory_kib: 16, passes: 2, lanes: 2 }).unwrap();
    assert!(!is_outdated(&dear, Cost::LEAST), "what cost more is not made anew");
    assert!(is_outdated(&dear, Cost { memory_kib: 32, ..Cost::LEAST }));
    assert!(is_outdated(&dear, Cost { passes: 3, ..Cost::LEAST }));
}

#[test]
fn never_panics_on_what_it_reads() {
    arbtest::arbtest(|u| {
        let words = [
            "$",
            "5",
            "6",
            "y",
            "7",
            "2b",
            "1",
            "{SSHA}",
            "{PBKDF2}",
            "a",
            ".",
            "=",
            "i=",
            "rounds=",
            "05",
            "é",
            "scrypt",
            "ln=1,r=1,p=1",
        ];
        let mut text = String::new();
        for _ in 0..u.int_in_range(0..=10)? {
            text.push_str(u.choose(&words)?);
        }
        drop(import(&text));
        Ok(())
    });
}
