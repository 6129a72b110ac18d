//! Servers that we call: whom they prove to be, by an authority or by records; what they may do to a
//! handshake; and sessions that go on.

use super::*;
use crate::model::limits::{
    TLS_SERVER_CHAIN_ASIDE, TLS_SERVER_CHAIN_MAX, TLS_SERVER_CHAIN_OCTETS_MAX,
};
use crate::model::time::Wall;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, date_time_ymd,
};
use ring::digest::{SHA256, SHA512, digest};
use rustls::pki_types::PrivateKeyDer;
use rustls::version::{TLS12, TLS13};
use std::cell::Cell;
use x509_parser::prelude::{FromDer as _, X509Certificate};

const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];
const SECONDS: u64 = 1_000_000;
/// 2026-06-01.
const NOW: Wall = Wall(1_780_272_000 * SECONDS);
/// 2028-06-01, when no certificate of these tests is good any more.
const LATER: Wall = Wall(1_843_430_400 * SECONDS);
const DOMAIN: &str = "local.example";
const OTHER: &str = "mx.other.example";

/// Who signs, and the chain that leads up to him: his certificate is the first.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    chain: Vec<CertificateDer<'static>>,
}

/// The certificates that a server shows, the first its own, whose key this is.
struct Shown {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ED25519).unwrap()
}

/// Good from 2026 until 2027.
fn params(names: &[&str], common: &str) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common);
    params
}

fn authority(name: &str, depth: Option<u8>) -> CertificateParams {
    let mut params = params(&[], name);
    params.is_ca =
        IsCa::Ca(depth.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
    params
}

impl Ca {
    fn new(depth: Option<u8>) -> Ca {
        let (key, params) = (key(), authority("Those who sign", depth));
        let chain = vec![params.self_signed(&key).unwrap().der().clone()];
        Ca { issuer: Issuer::new(params, key), chain }
    }

    /// One for whom this one signs.
    fn under(&self, params: CertificateParams) -> Ca {
        let key = key();
        let mut chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        chain.extend(self.chain.iter().cloned());
        Ca { issuer: Issuer::new(params, key), chain }
    }

    /// With the whole chain.
    fn sign(&self, names: &[&str]) -> Shown {
        self.sign_as(&params(names, "a server"))
    }

    fn sign_as(&self, params: &CertificateParams) -> Shown {
        let key = key();
        let mut chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        chain.extend(self.chain.iter().cloned());
        Shown { chain, key }
    }

    fn caller(&self) -> Caller {
        let mut roots = RootCertStore::empty();
        roots.add(self.chain.last().unwrap().clone()).unwrap();
        Caller::new(roots).unwrap()
    }
}

impl Shown {
    fn selfmade(names: &[&str]) -> Shown {
        let key = key();
        let chain = vec![params(names, "a server").self_signed(&key).unwrap().der().clone()];
        Shown { chain, key }
    }

    /// Without the last of the chain.
    fn without_root(mut self) -> Shown {
        self.chain.pop();
        self
    }

    fn config(&self, version: &'static SupportedProtocolVersion) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), key);
        Arc::new(config.unwrap())
    }

    /// A record for this one of the chain.
    fn record(&self, at: usize, fields: (u8, u8, u8)) -> Association {
        let (usage, selector, matching) = fields;
        let certificate = &self.chain[at];
        let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
        let octets = if selector == 0 { certificate } else { parsed.public_key().raw };
        let data = match matching {
            0 => octets.to_vec(),
            1 => digest(&SHA256, octets).as_ref().to_vec(),
            _ => digest(&SHA512, octets).as_ref().to_vec(),
        };
        Association::new(usage, selector, matching, &data).unwrap()
    }
}

/// What a call came to: the facts, or why it failed.
fn call_by(
    sim: &Sim,
    caller: &Caller,
    config: &Arc<ServerConfig>,
    demand: &Demand,
    aside: &Aside,
) -> Result<Arc<Facts>, String> {
    let env = sim.env(0);
    sim.run_until(async {
        let (near, far) = pair(&env).await;
        let mut server = Peer::serving(config, far);
        let serve = async {
            server.shake().await?;
            // Its tickets come before what it says.
            server.say(b"220 ready\r\n").await?;
            server.hear(1).await
        };
        let talk = async {
            let terms = Call { caller, aside, host: Some(HOST), demand };
            let deadline = env.now().after(Duration::from_mins(1));
            let stream = Stream::plain(near).call(&env, terms, deadline).await;
            let mut stream = stream.map_err(|failure| failure.to_string())?;
            let facts = Arc::clone(stream.facts().unwrap());
            assert_eq!(read(&mut stream, 11).await.unwrap(), b"220 ready\r\n");
            stream.close().await;
            Ok(facts)
        };
        let (called, served) = zip(talk, serve).await;
        // Whatever came of it, the server hears of the end.
        assert!(called.is_err() || served.is_ok_and(|heard| heard.is_empty()));
        called
    })
    .unwrap()
}

const HERE: &Aside = &|step| Box::pin(async { Some(step()) });

/// The same at this time, and only whom the server has proven to be.
fn verdict(caller: &Caller, shown: &Shown, demand: &Demand, now: Wall) -> String {
    let of = |version: &&'static SupportedProtocolVersion| {
        let sim = Sim::new(1, Faults::none());
        sim.set_wall(now);
        let facts = call_by(&sim, caller, &shown.config(version), demand, HERE);
        match facts {
            Ok(facts) => match facts.server().unwrap().verdict() {
                None => "not asked".to_owned(),
                Some(Ok(proven)) => format!("{proven:?}"),
                Some(Err(why)) => format!("but {why}"),
            },
            Err(why) => why,
        }
    };
    let [old, new] = BOTH.each_ref().map(of);
    assert_eq!(old, new, "TLS 1.2 and 1.3 come to the same");
    new
}

const UNKNOWN: &str = "the certificate is signed by nobody who is trusted";
const WRONG_NAME: &str = "the certificate is for other names";
const EXPIRED: &str = "the certificate is not good at this time";
const NO_RECORD: &str = "no TLSA record is for the certificate";

#[test]
fn an_authority_vouches_for_a_name_and_for_a_time() {
    let ca = Ca::new(None);
    let (caller, other) = (ca.caller(), Ca::new(None).caller());
    let good = ca.sign(&[HOST]);
    let verify = Demand::verify([HOST]);
    assert_eq!(verdict(&caller, &good, &verify, NOW), "Authority");
    assert_eq!(verdict(&caller, &good, &Demand::verify([OTHER, HOST]), NOW), "Authority");
    assert_eq!(verdict(&caller, &ca.sign(&["*.local.example"]), &verify, NOW), "Authority");
    assert_eq!(verdict(&caller, &ca.sign(&["*.example"]), &verify, NOW), WRONG_NAME);
    assert_eq!(verdict(&caller, &good, &Demand::verify([OTHER]), NOW), WRONG_NAME);
    // Whom nobody is called can be nobody, and so can what is no name.
    assert_eq!(verdict(&caller, &good, &Demand::verify(Vec::<&str>::new()), NOW), WRONG_NAME);
    assert_eq!(verdict(&caller, &good, &Demand::verify([".", "a b", ""]), NOW), WRONG_NAME);
    assert_eq!(verdict(&caller, &good, &verify, LATER), EXPIRED);
    assert_eq!(verdict(&caller, &good, &verify, Wall(0)), EXPIRED);
    assert_eq!(verdict(&other, &good, &verify, NOW), UNKNOWN);
    assert_eq!(verdict(&caller, &Shown::selfmade(&[HOST]), &verify, NOW), UNKNOWN);
    // An intermediate one that is not shown cannot be found.
    let deep = ca.under(authority("Between", None)).sign(&[HOST]);
    assert_eq!(verdict(&caller, &deep, &verify, NOW), "Authority");
    let torn = Shown { chain: vec![deep.chain[0].clone()], key: deep.key };
    assert_eq!(verdict(&caller, &torn, &verify, NOW), UNKNOWN);
}

/// A policy under test tells what it found and stops nobody.
#[test]
fn what_nobody_insists_on_stops_nobody() {
    let ca = Ca::new(None);
    let caller = ca.caller();
    for shown in [ca.sign(&[HOST]), ca.sign(&[OTHER]), Shown::selfmade(&[])] {
        for now in [NOW, LATER] {
            for demand in [Demand::MAY, Demand::ENCRYPT] {
                assert_eq!(verdict(&caller, &shown, &demand, now), "not asked");
            }
        }
    }
    let lenient = Demand::verify([HOST]).leniently();
    assert_eq!(lenient.level(), Level::May);
    assert_eq!(verdict(&caller, &ca.sign(&[HOST]), &lenient, NOW), "Authority");
    let but = |why: &str| format!("but {why}");
    assert_eq!(verdict(&caller, &ca.sign(&[OTHER]), &lenient, NOW), but(WRONG_NAME));
    assert_eq!(verdict(&caller, &Shown::selfmade(&[HOST]), &lenient, NOW), but(UNKNOWN));
    let missed = Demand::dane([ca.sign(&[]).record(0, (3, 1, 1))], [HOST]).leniently();
    assert_eq!(verdict(&caller, &ca.sign(&[HOST]), &missed, NOW), but(NO_RECORD));
    assert_eq!(Demand::NONE.leniently(), Demand::NONE);
}

/// RFC 7672 §3.1.1: neither a name nor a date nor a signature counts.
#[test]
fn a_record_for_the_server_itself_needs_nothing_else() {
    let caller = Ca::new(None).caller();
    let shown = Ca::new(None).sign(&[OTHER]);
    let selfmade = Shown::selfmade(&[]);
    for selector in 0..2 {
        for matching in 0..3 {
            for shown in [&shown, &selfmade] {
                let record = shown.record(0, (3, selector, matching));
                let demand = Demand::dane([record], [HOST]);
                assert_eq!(verdict(&caller, shown, &demand, LATER), "DaneEndEntity");
            }
            let another = Demand::dane([selfmade.record(0, (3, selector, matching))], [HOST]);
            assert_eq!(verdict(&caller, &shown, &another, NOW), NO_RECORD);
            // That it is somebody else's in the chain does not help.
            let signer = Demand::dane([shown.record(1, (3, selector, matching))], [HOST]);
            assert_eq!(verdict(&caller, &shown, &signer, NOW), NO_RECORD);
        }
    }
    // The next key is announced before it is there (RFC 7671 §8.1).
    let both = [selfmade.record(0, (3, 1, 1)), shown.record(0, (3, 1, 1))];
    assert_eq!(verdict(&caller, &shown, &Demand::dane(both, [HOST]), NOW), "DaneEndEntity");
    assert_eq!(verdict(&caller, &shown, &Demand::dane([], [HOST]), NOW), NO_RECORD);
}

/// RFC 7672 §3.1.2, §3.2.2: whom he has signed, for a name, while it is good.
#[test]
fn a_record_for_who_signs_needs_a_chain_and_a_name() {
    // Not one of whom we trust.
    let caller = Ca::new(None).caller();
    let ca = Ca::new(None);
    let between = ca.under(authority("Between", None));
    let names: &[&str] = &[HOST, DOMAIN];
    for selector in 0..2 {
        for matching in 0..3 {
            let fields = (2, selector, matching);
            let flat = ca.sign(&[HOST]);
            let demand = Demand::dane([flat.record(1, fields)], names.iter().copied());
            assert_eq!(verdict(&caller, &flat, &demand, NOW), "DaneAnchor");
            assert_eq!(verdict(&caller, &flat, &demand, LATER), EXPIRED);
            let deep = between.sign(&[DOMAIN]);
            assert_eq!(verdict(&caller, &deep, &demand, NOW), "DaneAnchor");
            let middle = Demand::dane([deep.record(1, fields)], names.iter().copied());
            assert_eq!(verdict(&caller, &deep, &middle, NOW), "DaneAnchor");
            // It signs, but has not signed this one.
            let found = if (selector, matching) == (0, 0) { UNKNOWN } else { NO_RECORD };
            assert_eq!(verdict(&caller, &flat, &middle, NOW), found);
            assert_eq!(verdict(&caller, &ca.sign(&[OTHER]), &demand, NOW), WRONG_NAME);
            // Who is not shown can only be found where the record has him whole (RFC 7671 §5.2.2).
            let rootless = ca.sign(&[HOST]).without_root();
            let found = if matching == 0 { "DaneAnchor" } else { NO_RECORD };
            assert_eq!(verdict(&caller, &rootless, &demand, NOW), found);
            let rootless = ca.sign(&[OTHER]).without_root();
            let found = if matching == 0 { WRONG_NAME } else { NO_RECORD };
            assert_eq!(verdict(&caller, &rootless, &demand, NOW), found);
            // The server's own certificate is nobody who signs.
            let alone = Demand::dane([flat.record(0, fields)], [HOST]);
            let found = if matching == 0 && selector == 0 { "the trust anchor" } else { NO_RECORD };
            let said = verdict(&caller, &flat, &alone, NOW);
            assert!(said.starts_with(found) || said == UNKNOWN, "{fields:?}: {said}");
        }
    }
}

/// RFC 7672 §3.2.3: where there is no other name, the common one counts, with a wildcard or without.
#[test]
fn the_common_name_counts_where_there_is_no_other() {
    let ca = Ca::new(None);
    let caller = ca.caller();
    for (names, common, good) in [
        (&[][..], HOST, true),
        (&[], "MX.local.example", true),
        (&[], "*.local.example", true),
        (&[], "*.example", false),
        (&[], OTHER, false),
        (&[OTHER], HOST, false),
    ] {
        let shown = ca.sign_as(&params(names, common));
        let demand = Demand::dane([shown.record(1, (2, 0, 1))], [HOST]);
        let found = if good { "DaneAnchor" } else { WRONG_NAME };
        assert_eq!(verdict(&caller, &shown, &demand, NOW), found, "{names:?} {common}");
        // Authorities have given it up.
        assert_eq!(verdict(&caller, &shown, &Demand::verify([HOST]), NOW), WRONG_NAME);
    }
}

/// RFC 7671 §5.2.1: what he says of himself holds, though it is not he who is trusted but the record.
#[test]
fn who_signs_may_sign_no_more_than_he_says() {
    let caller = Ca::new(None).caller();
    let narrow = Ca::new(Some(0));
    let flat = narrow.sign(&[HOST]);
    let demand = Demand::dane([flat.record(1, (2, 1, 1))], [HOST]);
    assert_eq!(verdict(&caller, &flat, &demand, NOW), "DaneAnchor");
    let deep = narrow.under(authority("Between", None)).sign(&[HOST]);
    assert_eq!(verdict(&caller, &deep, &demand, NOW), UNKNOWN);
    let ca = Ca::new(None);
    let mut none = params(&[], "no authority");
    none.is_ca = IsCa::ExplicitNoCa;
    let none = ca.under(none).sign(&[HOST]);
    let demand = Demand::dane([none.record(1, (2, 0, 1))], [HOST]);
    let said = verdict(&caller, &none, &demand, NOW);
    assert_eq!(said, "the trust anchor: it may sign no certificates");
}

/// The next connection goes on with the session, and what was shown then is looked at again.
#[test]
fn a_session_that_goes_on_proves_no_more_than_the_first() {
    let ca = Ca::new(None);
    for version in BOTH {
        let (caller, shown) = (ca.caller(), ca.sign(&[HOST]));
        let config = shown.config(version);
        let meet = |demand: &Demand, now| {
            let sim = Sim::new(1, Faults::none());
            sim.set_wall(now);
            let facts = call_by(&sim, &caller, &config, demand, HERE);
            facts.map(|facts| {
                let verdict = facts.server().unwrap().verdict().cloned();
                (facts.is_resumed(), verdict.map(Result::unwrap))
            })
        };
        let verify = Demand::verify([HOST]);
        let dane = Demand::dane([shown.record(0, (3, 1, 1))], [HOST]);
        assert_eq!(meet(&Demand::MAY, NOW), Ok((false, None)));
        assert_eq!(meet(&verify, NOW), Ok((true, Some(Proven::Authority))));
        assert_eq!(meet(&dane, NOW), Ok((true, Some(Proven::DaneEndEntity))));
        assert_eq!(meet(&Demand::verify([OTHER]), NOW), Err(WRONG_NAME.to_owned()));
        assert_eq!(meet(&verify, LATER), Err(EXPIRED.to_owned()));
        assert_eq!(meet(&dane, LATER), Ok((true, Some(Proven::DaneEndEntity))));
    }
}

/// Mail of another domain may go over it only if that asks for no more than was proven.
#[test]
fn a_connection_does_for_who_asks_for_no_more() {
    let ca = Ca::new(None);
    let (caller, shown) = (ca.caller(), ca.sign(&[HOST]));
    let config = shown.config(&TLS13);
    let facts = |demand: &Demand| {
        let sim = Sim::new(1, Faults::none());
        sim.set_wall(NOW);
        call_by(&sim, &caller, &config, demand, HERE).unwrap()
    };
    let (verify, other) = (Demand::verify([HOST]), Demand::verify([OTHER]));
    let dane = |name: &str| Demand::dane([shown.record(0, (3, 1, 1))], [name.to_owned()]);
    let signed = |name: &str| Demand::dane([shown.record(1, (2, 1, 1))], [HOST, name]);
    for (made_by, met, not_met) in [
        (Demand::MAY, vec![Demand::ENCRYPT], vec![verify.clone(), dane(HOST)]),
        (verify.clone(), vec![verify.clone(), Demand::ENCRYPT], vec![other, dane(HOST)]),
        (verify.clone().leniently(), vec![verify.clone()], vec![dane(HOST)]),
        (dane(HOST), vec![dane("another.example")], vec![verify.clone(), signed("a.example")]),
        (signed("a.example"), vec![signed("a.example")], vec![signed("b.example")]),
    ] {
        let known = facts(&made_by);
        for demand in met.iter().chain([&Demand::NONE, &Demand::MAY]) {
            assert!(demand.is_met(&made_by, Some(&known)), "{demand:?} by {made_by:?}");
        }
        for demand in &not_met {
            assert!(!demand.is_met(&made_by, Some(&known)), "{demand:?} by {made_by:?}");
        }
    }
    assert!(Demand::MAY.is_met(&Demand::NONE, None) && !Demand::ENCRYPT.is_met(&Demand::MAY, None));
    // What was looked at, and found to be wrong, proves nothing.
    let wrong = Demand::verify([OTHER]).leniently();
    assert!(!Demand::verify([OTHER]).is_met(&wrong, Some(&facts(&wrong))));
}

/// Ways through many certificates are tried beside the shard, and through too many not at all.
#[test]
fn long_chains_hold_up_nobody() {
    let ca = Ca::new(None);
    let caller = ca.caller();
    let padded = |count: usize| {
        let mut shown = ca.sign(&[HOST]);
        let last = shown.chain[1].clone();
        shown.chain.resize(count, last);
        shown
    };
    for (count, beside, said) in [
        (TLS_SERVER_CHAIN_ASIDE, 0, Ok(())),
        (TLS_SERVER_CHAIN_ASIDE + 1, 1, Ok(())),
        (TLS_SERVER_CHAIN_MAX, 1, Ok(())),
        (TLS_SERVER_CHAIN_MAX + 1, 1, Err("more than 10 certificates".to_owned())),
    ] {
        let steps = Rc::new(Cell::new(0));
        let counted = Rc::clone(&steps);
        let aside: &Aside = &move |step| {
            counted.set(counted.get() + 1);
            Box::pin(async { Some(step()) })
        };
        let config = padded(count).config(&TLS13);
        let sim = Sim::new(1, Faults::none());
        sim.set_wall(NOW);
        let demand = Demand::verify([HOST]);
        let called = call_by(&sim, &caller, &config, &demand, aside);
        assert_eq!((steps.get(), called.map(drop)), (beside, said), "{count}");
        // Who asks for nothing pays nothing.
        call_by(&sim, &caller, &config, &Demand::MAY, aside).unwrap();
        assert_eq!(steps.get(), beside);
    }
    let config = padded(TLS_SERVER_CHAIN_MAX).config(&TLS13);
    let full: &Aside = &|_| Box::pin(async { None });
    let sim = Sim::new(1, Faults::none());
    sim.set_wall(NOW);
    let why = call_by(&sim, &caller, &config, &Demand::verify([HOST]), full).unwrap_err();
    assert_eq!(why, "too many certificates are being looked through");
    let mut huge = params(&[HOST], "a server");
    let content = vec![0; TLS_SERVER_CHAIN_OCTETS_MAX];
    let extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], content);
    huge.custom_extensions.push(extension);
    let said = verdict(&caller, &ca.sign_as(&huge), &Demand::MAY, NOW);
    assert!(said.contains("octets of certificates"), "{said}");
}

/// Whatever the network does to the records, both ends hear what the other said.
#[test]
fn carries_everything_as_the_client_too() {
    let ca = Ca::new(None);
    let (caller, shown) = (ca.caller(), ca.sign(&[HOST]));
    for seed in 0..60 {
        let config = shown.config(BOTH[to_usize(seed % 2)]);
        let cuts = [0, 200_000, 900_000][to_usize(seed % 3)];
        let sim = Sim::new(seed, Faults { cuts, window_octets: 20_000, ..Faults::none() });
        sim.set_wall(NOW);
        let env = sim.env(0);
        let (up, down) = (text(3 + 997 * to_usize(seed)), text(5 + 1_999 * to_usize(seed)));
        sim.run_until(async {
            let (near, far) = pair(&env).await;
            let mut server = Peer::serving(&config, far);
            let demand = Demand::verify([HOST]);
            let terms = Call { caller: &caller, aside: HERE, host: Some(HOST), demand: &demand };
            let calling = Stream::plain(near).call(&env, terms, Mono::NEVER);
            let (shaken, stream) = zip(server.shake(), calling).await;
            shaken.unwrap();
            let mut stream = stream.unwrap();
            let facts = Arc::clone(stream.facts().unwrap());
            assert_eq!(facts.is_1_3(), seed % 2 == 1);
            assert_eq!(facts.name(), Some(HOST));
            let Connection::Server(at_server) = &server.tls else { panic!("a server") };
            assert_eq!(at_server.server_name(), Some(HOST));
            let label = b"EXPORTER-Channel-Binding";
            let binding = server.tls.export_keying_material([0; 32], label, Some(b"")).unwrap();
            assert_eq!(facts.exporter(), facts.is_1_3().then_some(binding));
            let (said, heard) = zip(server.say(&down), read(&mut stream, down.len())).await;
            said.unwrap();
            assert!(heard.unwrap() == down, "seed {seed}");
            let mut chain = Chain::new();
            chain.put(&up);
            let (written, heard) =
                zip(stream.write(&mut chain, Mono::NEVER), server.hear(up.len())).await;
            written.unwrap();
            assert!(heard.unwrap() == up, "seed {seed}");
            let ((), rest) = zip(stream.close(), server.hear(1)).await;
            assert_eq!(rest.unwrap(), b"", "the end is a proper one");
        })
        .unwrap();
    }
}

/// What is no handshake ends the call, and says why.
#[test]
fn a_server_that_answers_rubbish_is_left() {
    let caller = Ca::new(None).caller();
    let alert = vec![21, 3, 3, 0, 2, 2, 40];
    let torn = vec![22, 3, 3, 0, 200, 2, 0];
    let endless = [vec![22, 3, 3, 0, 1, 2], [22, 3, 3, 0, 1, 0].repeat(60_000)].concat();
    for (sent, want) in [
        (b"554 no TLS today, sorry, not at all\r\n".to_vec(), "received corrupt message"),
        (alert, "received fatal alert"),
        (torn, "the server went away"),
        (Vec::new(), "the server went away"),
        (endless, ""),
    ] {
        let sim = Sim::new(1, Faults { cuts: 100_000, ..Faults::none() });
        let env = sim.env(0);
        sim.run_until(async {
            let (near, mut far) = pair(&env).await;
            let mut chain = Chain::new();
            chain.put(&sent);
            let talk = async {
                // It may be hung up on before all is sent.
                drop(far.write(&mut chain, Mono::NEVER).await);
                far.finish();
                let mut buffer = Buffer::new();
                while far.read(&mut buffer, Mono::NEVER).await.is_ok_and(|count| count > 0) {
                    buffer.consume(buffer.len());
                }
            };
            let demand = Demand::MAY;
            let terms = Call { caller: &caller, aside: HERE, host: None, demand: &demand };
            let calling = Stream::plain(near).call(&env, terms, Mono::NEVER);
            let ((), called) = zip(talk, calling).await;
            let failure = called.err().expect("that is no handshake").to_string();
            assert!(failure.starts_with(want), "{failure}, not {want}");
        })
        .unwrap();
    }
}

#[test]
fn a_silent_server_is_left_at_the_deadline() {
    let caller = Ca::new(None).caller();
    let sim = Sim::new(1, Faults::none());
    let env = sim.env(0);
    sim.run_until(async {
        let (near, _far) = pair(&env).await;
        let terms = Call { caller: &caller, aside: HERE, host: None, demand: &Demand::MAY };
        let deadline = env.now().after(Duration::from_secs(30));
        let failure = Stream::plain(near).call(&env, terms, deadline).await.err().unwrap();
        assert_eq!(failure.to_string(), "the server is too slow");
        assert!(env.now().since(deadline) < Duration::from_secs(5));
    })
    .unwrap();
}

#[test]
fn whom_to_trust_is_read_from_pem() {
    for (text, why) in [
        ("", "no certificate in PEM form"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "invalid"),
    ] {
        let said = Caller::trusting(text.as_bytes()).unwrap_err().to_string();
        assert!(said.contains(why), "{said}");
    }
    let (chain, _) = pem(HOST, &PKCS_ED25519);
    Caller::trusting(chain.as_bytes()).unwrap();
    Caller::trusting_system().unwrap();
}
