//! Verdicts on signed tokens, signed here by keys of each kind.

use super::*;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use expect_test::{Expect, expect};
use futures_lite::future::{block_on, poll_once};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use serde_json::{Value as Json, json};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, RwLock};

/// The time of all tests, in seconds since 1970.
pub(in crate::auth) const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"a secret of more than 32 octets, as it has to be";

fn base64url(octets: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(octets)
}

/// Keys of one authorization server.
pub(in crate::auth) struct Keys {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl Keys {
    pub(in crate::auth) fn generate() -> Keys {
        let random = SystemRandom::new();
        let made = Command::new("openssl")
            .args(["genpkey", "-algorithm", "RSA", "-outform", "DER"])
            .args(["-pkeyopt", "rsa_keygen_bits:2048"])
            .output()
            .unwrap();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ec = ec.as_ref();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Keys {
            // One form or the other, as its version likes.
            rsa: RsaKeyPair::from_pkcs8(&made.stdout)
                .or_else(|_| RsaKeyPair::from_der(&made.stdout))
                .unwrap(),
            ec: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec, &random).unwrap(),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
        }
    }

    /// As it is published, with a secret, which must not be.
    pub(in crate::auth) fn set(&self) -> Json {
        let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        let point = self.ec.public_key().as_ref();
        json!({"keys": [
            {"kty": "unheard of", "kid": "rsa"},
            {"kty": "RSA", "kid": "cipher", "use": "enc", "n": base64url(&n), "e": base64url(&e)},
            {"kty": "RSA", "kid": "rsa", "use": "sig", "n": base64url(n), "e": base64url(e)},
            {"kty": "EC", "kid": "ec", "alg": "ES256", "crv": "P-256",
             "x": base64url(&point[1..33]), "y": base64url(&point[33..])},
            {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "key_ops": ["verify"],
             "x": base64url(self.ed.public_key())},
            {"kty": "oct", "kid": "secret", "k": base64url(SECRET)},
            {"kty": "oct", "kid": "short", "k": base64url("short")},
        ]})
    }

    fn sign(&self, alg: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let by_rsa = |encoding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rsa.public().modulus_len()];
            self.rsa.sign(encoding, &random, message, &mut signature).unwrap();
            signature
        };
        match alg {
            "RS256" => by_rsa(&RSA_PKCS1_SHA256),
            "PS256" => by_rsa(&RSA_PSS_SHA256),
            "ES256" => self.ec.sign(&random, message).unwrap().as_ref().into(),
            "EdDSA" => self.ed.sign(message).as_ref().into(),
            "HS256" => mac(SECRET, message),
            _ => Vec::new(),
        }
    }

    /// A token with this header, signed as `alg` of it says.
    pub(in crate::auth) fn token(&self, header: &Json, claims: &Json) -> String {
        let alg = header["alg"].as_str().unwrap_or_default().to_owned();
        token_by(header, claims, |message| self.sign(&alg, message))
    }
}

/// A token with this header and signature.
fn token_by(header: &Json, claims: &Json, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", base64url(signature))
}

fn mac(secret: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().into()
}

fn boxed(words: &[&str]) -> Vec<Box<str>> {
    words.iter().map(|word| (*word).into()).collect()
}

pub(in crate::auth) fn settings(keys: KeySet) -> Settings {
    Settings {
        introspection: None,
        keys: Some(keys),
        published: None,
        issuers: boxed(&["https://idp.example", "https://other.example"]),
        audiences: boxed(&["mail", "imap"]),
        scopes: boxed(&["mail.read", "mail.send"]),
        user_claims: boxed(&["email", "sub"]),
        email_unverified: false,
        algorithms: vec![Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA],
        token_types: boxed(&["at+jwt", "jwt"]),
        leeway: Duration::from_mins(1),
        remembered_for: Duration::from_mins(5),
        trust: Trust::Nobody,
        timeout: Duration::from_secs(5),
        requests_max: 4,
        discovery: Discovery::default(),
    }
}

/// An authority with these keys, and what it says of tokens, a line for each.
struct Judge {
    authority: Authority,
    keys: Keys,
    said: String,
}

impl Judge {
    fn new(change: impl FnOnce(&mut Settings)) -> Judge {
        let keys = Keys::generate();
        let set = KeySet::published(keys.set().to_string().as_bytes()).unwrap();
        let mut settings = settings(set);
        change(&mut settings);
        let authority = Authority::new(settings, &Concierge::start().unwrap()).unwrap();
        Judge { authority, keys, said: String::new() }
    }

    fn hear(&mut self, what: &str, token: &str) {
        let wall = Wall(NOW * 1_000_000);
        let judged = block_on(self.authority.judge(token, wall, Mono::default()));
        let said = match judged {
            Ok(Grant { user, expires }) => {
                let left = i128::from(expires.unwrap_or_default()) - i128::from(NOW);
                format!("{user} for {left} s")
            }
            Err(Trouble::Refused(fault)) => fault.name().into(),
            Err(Trouble::Unreachable(why)) => format!("unreachable: {why}"),
            Err(Trouble::Early) => "later".into(),
        };
        writeln!(self.said, "{what:<28} {said}").unwrap();
    }

    #[track_caller]
    fn check(&self, want: &Expect) {
        want.assert_eq(&self.said);
    }
}

/// Claims of a good token, with these instead; null leaves one out.
pub(in crate::auth) fn claims(instead: &Json) -> Json {
    let mut claims = json!({
        "iss": "https://idp.example", "aud": "mail", "exp": NOW + 300, "scope": "mail.send mail.read",
        "email": "ann@a.example", "email_verified": true, "sub": "4711",
    });
    for (name, value) in instead.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

#[test]
fn takes_each_algorithm_by_a_key_that_fits_and_no_other() {
    let mut judge = Judge::new(|_| {});
    let good = claims(&json!({}));
    for (alg, kid) in [
        ("RS256", "rsa"),
        ("PS256", "rsa"),
        ("ES256", "ec"),
        ("EdDSA", "ed"),
        ("RS256", "cipher"),
        ("RS256", "ec"),
        ("ES256", "rsa"),
        ("RS256", "unknown"),
        ("RS384", "rsa"),
        ("HS256", "secret"),
        ("none", "rsa"),
        ("None", "rsa"),
        ("", "rsa"),
    ] {
        let token = judge.keys.token(&json!({"alg": alg, "kid": kid}), &good);
        judge.hear(&format!("{alg} by {kid}"), &token);
    }
    for alg in ["RS256", "ES256", "EdDSA", "none"] {
        let token = judge.keys.token(&json!({"alg": alg}), &good);
        judge.hear(&format!("{alg} by no name"), &token);
    }
    judge.check(&expect![[r"
        RS256 by rsa                 ann@a.example for 300 s
        PS256 by rsa                 ann@a.example for 300 s
        ES256 by ec                  ann@a.example for 300 s
        EdDSA by ed                  ann@a.example for 300 s
        RS256 by cipher              key
        RS256 by ec                  key
        ES256 by rsa                 key
        RS256 by unknown             key
        RS384 by rsa                 algorithm
        HS256 by secret              algorithm
        none by rsa                  algorithm
        None by rsa                  algorithm
         by rsa                      algorithm
        RS256 by no name             ann@a.example for 300 s
        ES256 by no name             ann@a.example for 300 s
        EdDSA by no name             ann@a.example for 300 s
        none by no name              algorithm
    "]]);
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    let mut judge = Judge::new(|settings| settings.algorithms.push(Algorithm::HS256));
    let good = claims(&json!({}));
    let set = judge.keys.set();
    let PublicKeyComponents { n, .. } =
        PublicKeyComponents::<Vec<u8>>::from(judge.keys.rsa.public());
    let der = judge.keys.rsa.public().as_ref().to_vec();
    let point = judge.keys.ec.public_key().as_ref().to_vec();
    let text = set["keys"][2]["n"].as_str().unwrap().as_bytes().to_vec();
    for (kid, secret) in
        [("rsa", n), ("rsa", der), ("rsa", text), ("ec", point), ("rsa", Vec::new())]
    {
        for header in [json!({"alg": "HS256", "kid": kid}), json!({"alg": "HS256"})] {
            let token = token_by(&header, &good, |message| mac(&secret, message));
            judge.hear(&header.to_string(), &token);
        }
    }
    // Nor is a secret that everybody can read.
    let token = judge.keys.token(&json!({"alg": "HS256", "kid": "secret"}), &good);
    judge.hear("a secret that is published", &token);
    let file = KeySet::from_file(set.to_string().as_bytes()).unwrap();
    assert!(file.has_secrets());
    let mut with_secret = settings(file);
    with_secret.algorithms = vec![Algorithm::HS256];
    judge.authority = Authority::new(with_secret, &Concierge::start().unwrap()).unwrap();
    judge.hear("a secret of the operator", &token);
    let short = json!({"alg": "HS256", "kid": "short"});
    let token = token_by(&short, &good, |message| mac(b"short", message));
    judge.hear("one that can be guessed", &token);
    judge.check(&expect![[r#"
        {"alg":"HS256","kid":"rsa"}  key
        {"alg":"HS256"}              key
        {"alg":"HS256","kid":"rsa"}  key
        {"alg":"HS256"}              key
        {"alg":"HS256","kid":"rsa"}  key
        {"alg":"HS256"}              key
        {"alg":"HS256","kid":"ec"}   key
        {"alg":"HS256"}              key
        {"alg":"HS256","kid":"rsa"}  key
        {"alg":"HS256"}              key
        a secret that is published   key
        a secret of the operator     ann@a.example for 300 s
        one that can be guessed      key
    "#]]);
}

#[test]
fn looks_at_all_that_is_claimed() {
    let mut judge = Judge::new(|_| {});
    for (what, instead) in [
        ("as it should be", json!({})),
        ("expired", json!({"exp": NOW - 61})),
        ("expired within the leeway", json!({"exp": NOW - 59, "sub": null})),
        ("expires with a fraction", json!({"exp": 1_800_000_000.5})),
        ("without an end", json!({"exp": null})),
        ("an end that is no number", json!({"exp": "1800000300"})),
        ("an end before 1970", json!({"exp": -5})),
        ("not good yet", json!({"nbf": NOW + 61})),
        ("good within the leeway", json!({"nbf": NOW + 59})),
        ("another issuer", json!({"iss": "https://evil.example"})),
        ("an issuer with a slash", json!({"iss": "https://idp.example/"})),
        ("issuers", json!({"iss": ["https://idp.example"]})),
        ("no issuer", json!({"iss": null})),
        ("the other issuer", json!({"iss": "https://other.example"})),
        ("another audience", json!({"aud": "calendar"})),
        ("no audience", json!({"aud": null})),
        ("an audience among others", json!({"aud": ["calendar", "imap"]})),
        ("audiences that are numbers", json!({"aud": [1]})),
        ("part of an audience", json!({"aud": "mail imap"})),
        ("too small a scope", json!({"scope": "mail.read"})),
        ("no scope", json!({"scope": null})),
        ("a scope by its other name", json!({"scope": null, "scp": ["mail.read", "mail.send"]})),
    ] {
        let token = judge.keys.token(&json!({"alg": "EdDSA", "kid": "ed"}), &claims(&instead));
        judge.hear(what, &token);
    }
    judge.check(&expect![[r"
        as it should be              ann@a.example for 300 s
        expired                      expired
        expired within the leeway    ann@a.example for -59 s
        expires with a fraction      ann@a.example for 0 s
        without an end               malformed
        an end that is no number     malformed
        an end before 1970           malformed
        not good yet                 early
        good within the leeway       ann@a.example for 300 s
        another issuer               issuer
        an issuer with a slash       issuer
        issuers                      issuer
        no issuer                    issuer
        the other issuer             ann@a.example for 300 s
        another audience             audience
        no audience                  audience
        an audience among others     ann@a.example for 300 s
        audiences that are numbers   malformed
        part of an audience          audience
        too small a scope            scope
        no scope                     scope
        a scope by its other name    ann@a.example for 300 s
    "]]);
}

#[test]
fn is_whom_the_claims_name_in_their_own_words() {
    let mut judge = Judge::new(|_| {});
    for (what, instead) in [
        ("another user", json!({"email": "bob@a.example"})),
        ("no address", json!({"email": null})),
        ("nobody", json!({"email": null, "sub": null})),
        ("a number", json!({"email": 7})),
        ("an empty user", json!({"email": ""})),
        ("an address in full width", json!({"email": "\u{ff41}\u{ff4e}\u{ff4e}@a.example"})),
        ("with a soft hyphen", json!({"email": "a\u{ad}nn@a.example"})),
        ("letters beyond ASCII", json!({"email": "bj\u{f8}rn@a.example"})),
        ("an address of his own choice", json!({"email_verified": false})),
        ("an address that is known", json!({"email_verified": true})),
        ("the same as a word", json!({"email_verified": "true"})),
        ("neither yes nor no", json!({"email_verified": 1})),
        ("an empty answer", json!({"email_verified": ""})),
        ("nothing is said of it", json!({"email_verified": null})),
        ("of no use without one", json!({"email": null, "email_verified": false})),
    ] {
        let token = judge.keys.token(&json!({"alg": "EdDSA", "kid": "ed"}), &claims(&instead));
        judge.hear(what, &token);
    }
    judge.check(&expect![[r"
        another user                 bob@a.example for 300 s
        no address                   4711 for 300 s
        nobody                       user
        a number                     user
        an empty user                user
        an address in full width     user
        with a soft hyphen           user
        letters beyond ASCII         bjørn@a.example for 300 s
        an address of his own choice unverified
        an address that is known     ann@a.example for 300 s
        the same as a word           ann@a.example for 300 s
        neither yes nor no           unverified
        an empty answer              unverified
        nothing is said of it        unverified
        of no use without one        4711 for 300 s
    "]]);
    judge = Judge::new(|settings| settings.email_unverified = true);
    for (what, instead) in [
        ("nothing is said of it", json!({"email_verified": null})),
        ("an address of his own choice", json!({"email_verified": false})),
    ] {
        let token = judge.keys.token(&json!({"alg": "EdDSA", "kid": "ed"}), &claims(&instead));
        judge.hear(what, &token);
    }
    judge.check(&expect![[r"
        nothing is said of it        ann@a.example for 300 s
        an address of his own choice unverified
    "]]);
}

#[test]
fn refuses_what_is_no_token_or_was_changed() {
    let mut judge = Judge::new(|_| {});
    let good = claims(&json!({}));
    let head = json!({"alg": "ES256", "kid": "ec"});
    let token = judge.keys.token(&head, &good);
    let parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let [header, body, signature] = [&parts[0], &parts[1], &parts[2]];
    let other = base64url(claims(&json!({"email": "bob@a.example"})).to_string());
    let none = base64url(json!({"alg": "none"}).to_string());
    for (what, token) in [
        ("whole", token.clone()),
        ("other claims", format!("{header}.{other}.{signature}")),
        ("without a signature", format!("{header}.{body}.")),
        ("none, and no signature", format!("{none}.{body}.")),
        ("half a signature", format!("{header}.{body}.{}", base64url([1; 32]))),
        ("a signature of zeros", format!("{header}.{body}.{}", base64url([0; 64]))),
        ("padded", format!("{header}.{body}.{signature}==")),
        ("two parts", format!("{header}.{body}")),
        ("five parts", format!("{token}.a.b")),
        ("no base64", format!("{header}.{body}.***")),
        ("a header that is no JSON", format!("{}.{body}.{signature}", base64url("alg"))),
        ("an opaque one", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==".into()),
    ] {
        judge.hear(what, &token);
    }
    for head in [
        json!({"alg": "ES256", "kid": "ec", "typ": "at+jwt"}),
        json!({"alg": "ES256", "kid": "ec", "typ": "application/AT+JWT"}),
        json!({"alg": "ES256", "kid": "ec", "typ": "logout+jwt"}),
        json!({"alg": "ES256", "kid": "ec", "typ": 1}),
        json!({"alg": "ES256", "kid": 1}),
        json!({"alg": "ES256", "kid": "ec", "crit": ["exp"], "exp": 1}),
        json!({"alg": "ES256", "kid": "ec", "crit": ["b64"], "b64": false}),
        json!({"alg": "ES256", "kid": "x".repeat(2_000)}),
        json!({"kid": "ec"}),
    ] {
        let token = judge.keys.token(&head, &good);
        let mut what = head.to_string();
        what.truncate(60);
        judge.hear(&what, &token);
    }
    let list = judge.keys.token(&head, &json!([1]));
    judge.hear("claims that are a list", &list);
    judge.check(&expect![[r#"
        whole                        ann@a.example for 300 s
        other claims                 signature
        without a signature          signature
        none, and no signature       algorithm
        half a signature             signature
        a signature of zeros         signature
        padded                       malformed
        two parts                    opaque
        five parts                   opaque
        no base64                    malformed
        a header that is no JSON     opaque
        an opaque one                opaque
        {"alg":"ES256","kid":"ec","typ":"at+jwt"} ann@a.example for 300 s
        {"alg":"ES256","kid":"ec","typ":"application/AT+JWT"} ann@a.example for 300 s
        {"alg":"ES256","kid":"ec","typ":"logout+jwt"} type
        {"alg":"ES256","kid":"ec","typ":1} malformed
        {"alg":"ES256","kid":1}      malformed
        {"alg":"ES256","crit":["exp"],"exp":1,"kid":"ec"} malformed
        {"alg":"ES256","b64":false,"crit":["b64"],"kid":"ec"} malformed
        {"alg":"ES256","kid":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx key
        {"kid":"ec"}                 malformed
        claims that are a list       malformed
    "#]]);
}

#[test]
fn a_key_may_be_named_by_nobody_and_a_set_may_hold_none() {
    let set = |text: &str| KeySet::published(text.as_bytes()).map(|set| set.count());
    let mut got = String::new();
    for text in ["", "[]", "{}", r#"{"keys": []}"#, r#"{"keys": [1, {"kty": "RSA"}]}"#] {
        writeln!(got, "{text:<32} {:?}", set(text)).unwrap();
    }
    expect![[r#"
                                         Err("no set of keys (JWKS): EOF while parsing a value at line 1 column 0")
        []                               Err("no set of keys (JWKS): invalid length 0, expected struct Set with 1 element at line 1 column 2")
        {}                               Err("no set of keys (JWKS): missing field `keys` at line 1 column 2")
        {"keys": []}                     Err("no key in it that signatures could be checked with")
        {"keys": [1, {"kty": "RSA"}]}    Err("no key in it that signatures could be checked with")
    "#]].assert_eq(&got);
}

/// Whatever a stranger sends, there is an answer.
#[test]
fn never_panics() {
    let judge = Judge::new(|_| {});
    let good = judge.keys.token(&json!({"alg": "EdDSA", "kid": "ed"}), &claims(&json!({})));
    arbtest::arbtest(|u| {
        let mut octets = good.clone().into_bytes();
        for _ in 0..u.int_in_range(0..=4)? {
            let at = u.choose_index(octets.len())?;
            octets[at] = *u.choose(b"AZaz09-_.=\x00\xff")?;
        }
        let token = String::from_utf8_lossy(&octets).into_owned();
        let judged =
            block_on(judge.authority.judge(&token, Wall(NOW * 1_000_000), Mono::default()));
        assert!(judged.is_err() || token == good, "{token}");
        Ok(())
    });
}

/// Publishes what it is given, and counts how often it was asked.
struct Publisher {
    port: u16,
    shown: Arc<RwLock<String>>,
    asked: Arc<AtomicUsize>,
}

impl Publisher {
    fn start(keys: &Keys) -> Publisher {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (shown, asked) = (Arc::new(RwLock::new(keys.set().to_string())), Arc::default());
        let publisher = Publisher { port, shown: Arc::clone(&shown), asked: Arc::clone(&asked) };
        let serve = move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(stream);
                let mut line = String::new();
                while line != "\r\n" {
                    line.clear();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 {
                        break;
                    }
                }
                asked.fetch_add(1, Ordering::Relaxed);
                let body = shown.read().unwrap().clone();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                // Who asked may be gone.
                drop(reader.get_mut().write_all((head + &body).as_bytes()));
            }
        };
        std::thread::Builder::new().spawn(serve).unwrap();
        publisher
    }

    fn published(&self) -> Published {
        let url = Endpoint::parse(&format!("http://127.0.0.1:{}/jwks", self.port)).unwrap();
        let hour = Duration::from_hours(1);
        Published { url, fresh: hour, pause: hour }
    }

    fn publish(&self, keys: &Json) {
        *self.shown.write().unwrap() = keys.to_string();
    }
}

/// Strangers cannot make a good token a bad one by naming keys that nobody has.
#[test]
fn keys_that_are_exchanged_are_seen_at_once_or_later_and_their_tokens_never_refused() {
    let publisher = Publisher::start(&Keys::generate());
    let mut judge = Judge::new(|settings| {
        settings.keys = None;
        settings.published = Some(publisher.published());
    });
    let renamed = |keys: &Keys, kid: &str| {
        let mut set = keys.set();
        set["keys"][4]["kid"] = json!(kid);
        publisher.publish(&set);
    };
    renamed(&judge.keys, "first");
    let token = |judge: &Judge, kid: &str| {
        judge.keys.token(&json!({"alg": "EdDSA", "kid": kid}), &claims(&json!({})))
    };
    let first = token(&judge, "first");
    judge.hear("the first key", &first);
    renamed(&judge.keys, "second");
    let second = token(&judge, "second");
    judge.hear("exchanged", &second);
    let stranger = token(&judge, "a stranger's");
    judge.hear("that nobody has", &stranger);
    renamed(&judge.keys, "third");
    let third = token(&judge, "third");
    judge.hear("exchanged once more", &third);
    judge.hear("the second", &second);
    let forged =
        Keys::generate().token(&json!({"alg": "EdDSA", "kid": "second"}), &claims(&json!({})));
    judge.hear("a forged one", &forged);
    judge.check(&expect![[r"
        the first key                ann@a.example for 300 s
        exchanged                    ann@a.example for 300 s
        that nobody has              later
        exchanged once more          later
        the second                   ann@a.example for 300 s
        a forged one                 signature
    "]]);
    assert_eq!(publisher.asked.load(Ordering::Relaxed), 2);
}

#[test]
fn keys_of_two_sources_do_not_hide_each_other() {
    let published = Keys::generate();
    let publisher = Publisher::start(&published);
    let mut judge = Judge::new(|settings| settings.published = Some(publisher.published()));
    let (head, good) = (json!({"alg": "EdDSA", "kid": "ed"}), claims(&json!({})));
    let own = judge.keys.token(&head, &good);
    judge.hear("of the operator's", &own);
    judge.hear("of the published", &published.token(&head, &good));
    judge.hear("of neither", &Keys::generate().token(&head, &good));
    judge.check(&expect![[r"
        of the operator's            ann@a.example for 300 s
        of the published             ann@a.example for 300 s
        of neither                   signature
    "]]);
}

/// A secret is as long as the hash that it is used with (RFC 7518 §3.2).
#[test]
fn a_secret_is_as_long_as_the_hash_wants_it() {
    let kinds = [
        (Algorithm::HS256, hmac::HMAC_SHA256, 32_usize),
        (Algorithm::HS384, hmac::HMAC_SHA384, 48),
        (Algorithm::HS512, hmac::HMAC_SHA512, 64),
    ];
    for named in [true, false] {
        for (algorithm, by, octets) in kinds {
            for (len, want) in [(octets - 1, "key"), (octets, "ann@a.example for 300 s")] {
                let secret = vec![7; len];
                let mut key = json!({"kty": "oct", "kid": "own", "k": base64url(&secret)});
                if named {
                    key["alg"] = json!(format!("{algorithm:?}"));
                }
                let other = json!({"kty": "oct", "kid": "other", "k": base64url([8; 64])});
                let set = json!({"keys": [key, other]}).to_string();
                let set = KeySet::from_file(set.as_bytes()).unwrap();
                let mut judge = Judge::new(|settings| {
                    settings.keys = Some(set);
                    settings.algorithms = vec![algorithm];
                });
                let header = json!({"alg": format!("{algorithm:?}"), "kid": "own"});
                let token = token_by(&header, &claims(&json!({})), |message| {
                    hmac::sign(&hmac::Key::new(by, &secret), message).as_ref().into()
                });
                judge.hear("", &token);
                assert_eq!(judge.said.trim(), want, "{algorithm:?} by {len} octets");
            }
        }
    }
}

/// Strangers' tokens that are asked about do not hold up the keys.
#[test]
fn keys_are_fetched_while_all_questions_wait() {
    let keys = Keys::generate();
    let publisher = Publisher::start(&keys);
    // Takes connections and never answers.
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = silent.local_addr().unwrap().port();
    let judge = Judge::new(|settings| {
        settings.keys = None;
        settings.published = Some(publisher.published());
        settings.introspection = Some(Introspection {
            url: Endpoint::parse(&format!("http://127.0.0.1:{port}/")).unwrap(),
            client: "pombal".into(),
            secret: Secret::new("secret"),
        });
        settings.requests_max = 1;
    });
    let tokens: Vec<String> = (0..9).map(|index| format!("opaque-{index}")).collect();
    let ask = |token| {
        let authority = &judge.authority;
        let judged = authority.judge(token, Wall(NOW * 1_000_000), Mono::default());
        let mut judged = Box::pin(judged);
        assert!(block_on(poll_once(&mut judged)).is_none());
        judged
    };
    let waiting: Vec<_> = tokens.iter().map(|token| ask(token)).collect();
    let good = keys.token(&json!({"alg": "EdDSA", "kid": "ed"}), &claims(&json!({})));
    let judged = block_on(judge.authority.judge(&good, Wall(NOW * 1_000_000), Mono::default()));
    assert_eq!(judged.map(|grant| grant.user), Ok("ann@a.example".into()));
    drop(waiting);
}
