//! Clients that show a certificate: good ones, bad ones, and those who come back with a ticket.

use super::*;
use crate::model::time::Wall;
use rcgen::{
    BasicConstraints, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, SignatureScheme};

const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];
const SECONDS: u64 = 1_000_000;
/// 2026-06-01.
const NOW: Wall = Wall(1_780_272_000 * SECONDS);

/// Who signs.
struct Ca(Issuer<'static, KeyPair>, String);

impl Ca {
    fn new() -> Ca {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "Those who sign");
        let pem = params.self_signed(&key).unwrap().pem();
        Ca(Issuer::new(params, key), pem)
    }

    fn authorities(&self) -> Authorities {
        Authorities::from_pem(self.1.as_bytes(), None).unwrap()
    }

    /// A list with this serial number in it.
    fn revoke(&self, serial: u64) -> String {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2026, 1, 2),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().pem().unwrap()
    }

    /// A certificate for Ann, with its key; good until 2027.
    fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::default();
        params.not_after = date_time_ymd(2027, 1, 1);
        params.serial_number = Some(SerialNumber::from(7));
        params.distinguished_name.push(DnType::CommonName, "ann");
        // emailAddress.
        let email = DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
        params.distinguished_name.push(email, "ann@old.example");
        params.subject_alt_names =
            ["ann@local.example", "a.smith@local.example"].map(of_email).into();
        change(&mut params);
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

fn of_email(address: &str) -> SanType {
    SanType::Rfc822Name(address.try_into().unwrap())
}

/// Shows this certificate whatever it is asked for, and signs with this key.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn showing(
    server: &Server,
    version: &'static SupportedProtocolVersion,
    shown: &(String, String),
) -> Arc<ClientConfig> {
    let chain = CertificateDer::pem_slice_iter(shown.0.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(shown.1.as_bytes()).unwrap();
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let mut config = server.client(version);
    config.client_auth_cert_resolver = Arc::new(Shows(Arc::new(CertifiedKey::new(chain, key))));
    Arc::new(config)
}

/// What the server knows of a client behind the handshake: resumed or not, the names, and the fault.
type Known = (bool, Vec<String>, Option<Error>);

/// One connection at this time; the client has its tickets afterwards.
fn meet(server: &Server, config: &Arc<ClientConfig>, now: Wall) -> Result<Known, String> {
    meet_by(server, config, now, &Sim::new(1, Faults::none()))
}

fn meet_by(
    server: &Server,
    config: &Arc<ClientConfig>,
    now: Wall,
    sim: &Sim,
) -> Result<Known, String> {
    sim.set_wall(now);
    let env = sim.env(0);
    sim.run_until(async {
        let (near, far) = pair(&env).await;
        let mut client = Peer::new(config, HOST, near);
        let shaking = async {
            client.shake().await.map_err(|error| error.to_string())?;
            // In TLS 1.3 the server's answer comes with what it says first.
            let heard = client.hear(6).await.map_err(|error| error.to_string());
            client.conn.finish();
            heard
        };
        let serving = async {
            let mut stream = server.accept(&env, far).await.map_err(|error| error.to_string())?;
            let mut chain = Chain::new();
            chain.put(b"* OK\r\n");
            stream.write(&mut chain, Mono::NEVER).await.unwrap();
            let facts = Arc::clone(stream.facts().unwrap());
            let client = facts.client();
            let names = client.map(|client| owned(client.names(NameField::SanEmail)));
            let fault = client.and_then(|client| client.fault().cloned());
            Ok((facts.is_resumed(), names.unwrap_or_default(), fault))
        };
        let (heard, known) = zip(shaking, serving).await;
        assert_eq!(heard.is_ok(), known.is_ok(), "{heard:?}, {known:?}");
        known
    })
    .unwrap()
}

fn owned<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names.map(str::to_owned).collect()
}

fn good(resumed: bool) -> Known {
    (resumed, vec!["ann@local.example".into(), "a.smith@local.example".into()], None)
}

fn bad(why: CertificateError) -> Known {
    (false, Vec::new(), Some(Error::InvalidCertificate(why)))
}

#[test]
fn knows_clients_also_when_they_come_back() {
    let ca = Ca::new();
    let mut server = Server::with(&[HOST], Some(ca.authorities()));
    for asking in [Asking::Optional, Asking::Required] {
        server.asking = asking;
        for version in BOTH {
            let config = showing(&server, version, &ca.sign(|_| ()));
            assert_eq!(meet(&server, &config, NOW), Ok(good(false)));
            assert_eq!(meet(&server, &config, NOW), Ok(good(true)));
            assert_eq!(meet(&server, &config, NOW), Ok(good(true)));
        }
    }
}

#[test]
fn finds_names_where_they_are_looked_for() {
    let ca = Ca::new();
    let judge = |shown: (String, String)| {
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(shown.0.as_bytes()).map(Result::unwrap).collect();
        let now = rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_micros(NOW.0));
        ca.authorities().judge(&chain, now).unwrap()
    };
    let read = |shown, field| owned(judge(shown).names(field));
    let sans = ["ann@local.example", "a.smith@local.example"];
    assert_eq!(read(ca.sign(|_| ()), NameField::SanEmail), sans);
    assert_eq!(read(ca.sign(|_| ()), NameField::SubjectCn), ["ann"]);
    assert_eq!(read(ca.sign(|_| ()), NameField::SubjectEmail), ["ann@old.example"]);
    let long = |params: &mut CertificateParams| {
        params.distinguished_name.push(DnType::OrganizationName, "x".repeat(5_000));
    };
    let judged = judge(ca.sign(long));
    let subject = judged.subject();
    assert!(subject.len() == 256 && subject.contains("CN=ann"), "{subject}");
    let bare = |params: &mut CertificateParams| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![SanType::DnsName("ann.local.example".try_into().unwrap())];
    };
    for field in [NameField::SanEmail, NameField::SubjectCn, NameField::SubjectEmail] {
        assert!(read(ca.sign(bare), field).is_empty());
    }
}

/// The handshake goes on, and the certificate counts for nothing.
#[test]
fn what_does_not_hold_is_as_good_as_none_where_none_is_needed() {
    let (ca, other) = (Ca::new(), Ca::new());
    let mut server = Server::with(&[HOST], Some(ca.authorities()));
    server.asking = Asking::Optional;
    let over = |params: &mut CertificateParams| params.not_after = date_time_ymd(2026, 5, 1);
    let of_server = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    };
    for version in BOTH {
        let fault = |shown: &(String, String)| {
            let config = showing(&server, version, shown);
            let (resumed, names, fault) = meet(&server, &config, NOW).unwrap();
            assert!(!resumed && names.is_empty());
            fault.unwrap().to_string()
        };
        // Of the same name, even.
        let foreign = fault(&other.sign(|_| ()));
        assert!(foreign.contains("BadSignature"), "{foreign}");
        assert!(fault(&ca.sign(over)).contains("expired"));
        assert!(
            fault(&ca.sign(of_server)).contains("for client auth"),
            "{}",
            fault(&ca.sign(of_server))
        );
        let none = Arc::new(server.client(version));
        assert_eq!(meet(&server, &none, NOW), Ok((false, Vec::new(), None)));
    }
}

#[test]
fn nobody_gets_in_without_where_one_is_required() {
    let (ca, other) = (Ca::new(), Ca::new());
    let mut server = Server::with(&[HOST], Some(ca.authorities()));
    for version in BOTH {
        server.asking = Asking::Required;
        let none = Arc::new(server.client(version));
        let why = meet(&server, &none, NOW).unwrap_err();
        assert!(why.contains("no certificates"), "{why}");
        let foreign = showing(&server, version, &other.sign(|_| ()));
        assert!(meet(&server, &foreign, NOW).is_err());
        // A ticket of a door that asks for less, or for nothing, opens no other one.
        for asking in [Asking::No, Asking::Optional] {
            server.asking = asking;
            assert!(meet(&server, &none, NOW).is_ok());
            assert!(meet(&server, &none, NOW).unwrap().0, "that door knows its tickets");
            server.asking = Asking::Required;
            assert!(meet(&server, &none, NOW).is_err());
        }
        // A certificate that is over since it was shown.
        let config = showing(&server, version, &ca.sign(|_| ()));
        assert_eq!(meet(&server, &config, NOW), Ok(good(false)));
        let later = Wall(NOW.0 + 365 * 86_400 * SECONDS);
        let why = meet(&server, &config, later).unwrap_err();
        assert!(why.contains("expired"), "{why}");
    }
    // Where nobody is known who could sign, nobody gets in.
    let mut lost = Server::new(&[HOST]);
    lost.asking = Asking::Required;
    let config = showing(&lost, &TLS13, &ca.sign(|_| ()));
    assert!(meet(&lost, &config, NOW).is_err());
}

/// A ticket brings the certificate along, not the judgement on it.
#[test]
fn a_ticket_keeps_no_identity_that_is_over_or_revoked() {
    let ca = Ca::new();
    let mut server = Server::with(&[HOST], Some(ca.authorities()));
    server.asking = Asking::Optional;
    for version in BOTH {
        let config = showing(&server, version, &ca.sign(|_| ()));
        assert_eq!(meet(&server, &config, NOW), Ok(good(false)));
        let later = Wall(NOW.0 + 365 * 86_400 * SECONDS);
        let (resumed, names, fault) = meet(&server, &config, later).unwrap();
        assert!(resumed && names.is_empty());
        assert!(fault.unwrap().to_string().contains("expired"));
        assert_eq!(meet(&server, &config, NOW), Ok(good(true)));

        // The same certificate of ours to come back to, and other authorities for clients.
        let reloaded = |authorities| Server {
            asking: Asking::Optional,
            ..Server::showing(server.shown.clone(), Some(authorities))
        };
        let (resumed, names, fault) =
            meet(&reloaded(Ca::new().authorities()), &config, NOW).unwrap();
        assert!(!resumed && names.is_empty() && fault.is_some());
        let text = ca.1.as_bytes();
        let revoking = Authorities::from_pem(text, Some(ca.revoke(7).as_bytes())).unwrap();
        let revoked = Ok(bad(CertificateError::Revoked));
        assert_eq!(meet(&reloaded(revoking), &config, NOW), revoked);
        let other = Authorities::from_pem(text, Some(ca.revoke(8).as_bytes())).unwrap();
        assert_eq!(meet(&reloaded(other), &config, NOW), Ok(good(false)));
    }
}

/// A certificate is no secret: who shows it has to sign with its key.
#[test]
fn a_certificate_without_its_key_ends_the_handshake() {
    let ca = Ca::new();
    let mut server = Server::with(&[HOST], Some(ca.authorities()));
    for asking in [Asking::Optional, Asking::Required] {
        server.asking = asking;
        for version in BOTH {
            let ((chain, _), (_, key)) = (ca.sign(|_| ()), ca.sign(|_| ()));
            let config = showing(&server, version, &(chain, key));
            let why = meet(&server, &config, NOW).unwrap_err();
            assert!(why.contains("BadSignature"), "{why}");
        }
    }
}

/// However small the records are, and whatever the network makes of them.
#[test]
fn takes_messages_of_many_records() {
    let ca = Ca::new();
    let mut server = Server::with(&[HOST], Some(ca.authorities()));
    server.asking = Asking::Optional;
    for (index, version) in [BOTH, BOTH].concat().into_iter().enumerate() {
        let mut config = (*showing(&server, version, &ca.sign(|_| ()))).clone();
        config.max_fragment_size = Some(64);
        let config = Arc::new(config);
        for seed in 0..20 {
            let cuts = [0, 500_000][index / 2];
            let faults = Faults { cuts, ..Faults::none() };
            assert_eq!(meet_by(&server, &config, NOW, &Sim::new(seed, faults)), Ok(good(seed > 0)));
        }
    }
}

/// Who shows many makes a shard try many: it looks at four.
#[test]
fn looks_at_a_few_certificates_only() {
    let ca = Ca::new();
    let mut server = Server::with(&[HOST], Some(ca.authorities()));
    let (own, key) = ca.sign(|_| ());
    for version in BOTH {
        let showing = |count: usize| {
            let chain = [own.clone(), vec![ca.1.clone(); count - 1].concat()].concat();
            showing(&server, version, &(chain, key.clone()))
        };
        let (few, many) = (showing(4), showing(5));
        server.asking = Asking::Optional;
        assert_eq!(meet(&server, &few, NOW), Ok(good(false)));
        let (_, names, fault) = meet(&server, &many, NOW).unwrap();
        assert!(names.is_empty());
        assert!(fault.unwrap().to_string().contains("more than 4 certificates"));
        server.asking = Asking::Required;
        assert_eq!(meet(&server, &few, NOW), Ok(good(false)));
        assert!(meet(&server, &many, NOW).unwrap_err().contains("more than 4 certificates"));
    }
}

/// A certificate for Ann of so many octets, or a few less.
fn of_size(ca: &Ca, octets: usize) -> (String, String) {
    let padded = |count: usize| {
        ca.sign(|params| {
            params.distinguished_name.push(DnType::OrganizationName, "x".repeat(count));
        })
    };
    let size = |shown: &(String, String)| {
        CertificateDer::from_pem_slice(shown.0.as_bytes()).unwrap().len()
    };
    let bare = size(&padded(10_000)) - 10_000;
    let shown = padded(octets - bare);
    assert!((octets - 4..=octets).contains(&size(&shown)), "{}", size(&shown));
    shown
}

/// A ticket holds the certificate, and has to fit where the client brings it back.
#[test]
fn a_client_with_a_long_certificate_gets_no_ticket() {
    let ca = Ca::new();
    let mut server = Server::with(&[HOST], Some(ca.authorities()));
    server.asking = Asking::Optional;
    for version in BOTH {
        let config = showing(&server, version, &of_size(&ca, 16 << 10));
        assert_eq!(meet(&server, &config, NOW), Ok(good(false)));
        assert_eq!(meet(&server, &config, NOW), Ok(good(false)));
    }
}

/// TLS holds what is shown for as long as the connection lasts, whatever it is worth.
#[test]
fn what_is_too_long_to_be_held_ends_the_handshake() {
    let (ca, other) = (Ca::new(), Ca::new());
    let mut server = Server::with(&[HOST], Some(ca.authorities()));
    for asking in [Asking::Optional, Asking::Required] {
        server.asking = asking;
        for version in BOTH {
            let (chain, key) = of_size(&ca, 16 << 10);
            let (more, _) = other.sign(|_| ());
            for shown in [of_size(&other, (16 << 10) + 5), (chain + &more, key)] {
                let why = meet(&server, &showing(&server, version, &shown), NOW).unwrap_err();
                assert!(why.contains("more than 16384 octets of certificates"), "{why}");
            }
        }
    }
}

/// Where clients are not asked they say nothing.
#[test]
fn a_client_that_is_not_asked_is_not_known() {
    let ca = Ca::new();
    let server = Server::with(&[HOST], Some(ca.authorities()));
    for version in BOTH {
        let config = showing(&server, version, &ca.sign(|_| ()));
        assert_eq!(meet(&server, &config, NOW), Ok((false, Vec::new(), None)));
        assert_eq!(meet(&server, &config, NOW), Ok((true, Vec::new(), None)));
    }
}

#[test]
fn says_what_is_wrong_with_authorities() {
    let ca = Ca::new();
    let fault = |text: &str, revoked: Option<&str>| {
        let made = Authorities::from_pem(text.as_bytes(), revoked.map(str::as_bytes));
        made.unwrap_err().to_string()
    };
    assert_eq!(fault("", None), "no certificate in PEM form is in it");
    assert_eq!(fault(&ca.1, Some("")), "no list of revoked certificates in PEM form is in it");
    assert_eq!(fault(&ca.1, Some(&ca.1)), "no list of revoked certificates in PEM form is in it");
    let torn = ca.revoke(7).replacen("MI", "AI", 1);
    let said = fault(&ca.1, Some(&torn));
    assert!(said.starts_with("this is no sound list of revoked certificates"), "{said}");
    assert!(ca.authorities().until() > 0);
}

/// Records of a client, changed by a seed: an octet, the order, the cuts, what is left out or said
/// twice.
fn garble(octets: &[u8], seed: u64) -> Vec<u8> {
    let mut records = Vec::new();
    let mut left = octets;
    while let Some(&[_, _, _, high, low]) = left.get(..5) {
        let (record, rest) = left.split_at(5 + usize::from(u16::from_be_bytes([high, low])));
        records.push(record.to_vec());
        left = rest;
    }
    let at = to_usize(seed / 8) % records.len();
    let octet = to_usize(seed / 16) % records[at].len();
    let body = records[at][5..].to_vec();
    let record = |octets: &[u8]| {
        let len = u16::try_from(octets.len()).unwrap().to_be_bytes();
        [&[22, 3, 3, len[0], len[1]][..], octets].concat()
    };
    match seed % 8 {
        0 => records[at][octet] ^= 1 << (seed % 7),
        1 => drop(records.remove(at)),
        2 => records.insert(at, records[at].clone()),
        3 => records[at] = record(&[&body[..], &body].concat()),
        4 => records[at] = [record(&body[..octet / 2]), record(&body[octet / 2..])].concat(),
        5 => records[at] = [&records[at][..], &record(&[20, 0, 0, 0])].concat(),
        6 => records[at] = record(&[&body[..], &[20, 0, 0, 0]].concat()),
        _ => records.reverse(),
    }
    records.concat()
}

/// Whatever becomes of what a client sends, the handshake succeeds, fails or comes to its deadline.
#[test]
fn survives_handshakes_that_were_changed() {
    let ca = Ca::new();
    let shown = ca.sign(|_| ());
    let mut server = Server::with(&[HOST], Some(ca.authorities()));
    let (mut good, mut bad) = (0, 0);
    for seed in 0..1_200 {
        server.asking = [Asking::No, Asking::Optional, Asking::Required][to_usize(seed % 3)];
        let config = showing(&server, BOTH[to_usize(seed / 3 % 2)], &shown);
        let sim =
            Sim::new(seed, Faults { cuts: [0, 300_000][to_usize(seed % 2)], ..Faults::none() });
        sim.set_wall(NOW);
        let env = sim.env(0);
        let turn = seed / 6 % 3;
        let shaken = sim
            .run_until(async {
                let (near, far) = pair(&env).await;
                let mut client = Peer::new(&config, HOST, near);
                let attack = async {
                    for index in 0.. {
                        let mut out = Vec::new();
                        while client.tls.wants_write() {
                            client.tls.write_tls(&mut out).unwrap();
                        }
                        if index == turn && !out.is_empty() {
                            out = garble(&out, seed / 18);
                        }
                        let mut chain = Chain::new();
                        chain.put(&out);
                        if client.conn.write(&mut chain, Mono::NEVER).await.is_err()
                            || (!client.tls.is_handshaking() && !client.tls.wants_write())
                        {
                            break;
                        }
                        let read = client.conn.read(&mut client.buffer, Mono::NEVER).await;
                        if read.is_ok_and(|count| count == 0) {
                            break;
                        }
                        let mut front = client.buffer.filled();
                        drop(client.tls.read_tls(&mut front));
                        client.buffer.consume(client.buffer.len());
                        if client.tls.process_new_packets().is_err() {
                            break;
                        }
                    }
                    client.conn.finish();
                };
                let serve = async {
                    let mut stream = server.accept(&env, far).await?;
                    // What comes behind it may be as odd.
                    drop(read(&mut stream, 1).await);
                    stream.close().await;
                    Ok::<(), Failure>(())
                };
                zip(attack, serve).await.1
            })
            .unwrap();
        *if shaken.is_ok() { &mut good } else { &mut bad } += 1;
    }
    assert!(good > 50 && bad > 300, "{good} were good, {bad} were not");
}
