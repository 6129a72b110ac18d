//! The keys of DKIM on the disk: made, listed, removed, and read for the shards.
//!
//! ```text
//! data_dir/dkim/SELECTOR._domainkey.DOMAIN.pem     one private key (PKCS#8), for its owner alone;
//!                                                  the name is that of its record in the DNS
//! ```
//!
//! Keys may be put there by hand, too: SIGHUP has them read.

use super::certificates::write;
use crate::admin::request::{DkimAlgorithm, DkimRequest, DkimRow, Response};
use crate::bytes::hash::Sorted;
use crate::config::Config;
use crate::directory::domain_name;
use crate::model::limits::{DKIM_KEYS_MAX, TLS_FILE_OCTETS_MAX};
use crate::policy::dkim::{Algorithm, Key, Keys, is_selector, record};
use crate::probe::event::{Level, event};
use crate::wire::date;
use rcgen::{KeyPair, PKCS_ED25519};
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Between the selector and the domain of a record (RFC 6376 §3.6.2.1).
const BETWEEN: &str = "._domainkey.";
const SECONDS_A_DAY: u32 = 86_400;

/// What lies in the directory.
#[derive(Default)]
struct Found {
    keys: Keys,
    /// Files that are of no use, with why.
    unusable: Vec<(PathBuf, String)>,
}

/// The keys of all domains, or of one. A directory that is not there has none.
fn read(dir: &Path, only: Option<&str>) -> io::Result<Found> {
    let mut unusable = Vec::new();
    let mut by_domain: Sorted<Box<str>, Vec<Key>> = Sorted::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::default()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(name) = name.strip_suffix(".pem") else { continue };
        let domain = name.split_once(BETWEEN).map(|(_, domain)| domain);
        if only.is_some_and(|only| domain != Some(only)) {
            continue;
        }
        match read_one(&path, name) {
            Ok((domain, key)) => by_domain.entry(domain).or_default().push(key),
            Err(why) => unusable.push((path, why)),
        }
    }
    let mut keys = Keys::default();
    for (domain, own) in by_domain {
        keys.set(&domain, own);
    }
    Ok(Found { keys, unusable })
}

fn read_one(path: &Path, name: &str) -> Result<(Box<str>, Key), String> {
    let (selector, domain) = name
        .split_once(BETWEEN)
        .ok_or_else(|| format!("its name is not SELECTOR{BETWEEN}DOMAIN.pem"))?;
    let named = domain_name(domain).map_err(|error| error.to_string())?;
    if *named != *domain || !is_selector(selector) {
        return Err("its name is not that of a record, in lower case".into());
    }
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if metadata.len() > TLS_FILE_OCTETS_MAX {
        return Err("too large for a key".into());
    }
    let pem = fs::read(path).map_err(|error| error.to_string())?;
    Ok((named, Key::from_pem(selector, &pem).map_err(|error| error.to_string())?))
}

/// All keys for a server, which tells its log what is of no use, and goes on with the rest.
pub(super) fn load(config: &Config) -> Keys {
    let Found { keys, unusable } = read_and_tell(&config.dkim_dir(), None);
    let all = keys.all();
    let count = all.iter().map(|(_, keys)| keys.len() as u64).sum::<u64>();
    if count > 0 || !unusable.is_empty() {
        let fields = [("domains", (all.len() as u64).into()), ("keys", count.into())];
        event(Level::Info, "dkim_keys", &fields);
    }
    keys
}

/// `keys` with those of one domain as they are now.
pub(super) fn refresh(config: &Config, keys: &Keys, domain: &str) -> Keys {
    let found = read_and_tell(&config.dkim_dir(), Some(domain));
    let mut keys = keys.clone();
    keys.follow(domain, &found.keys);
    keys
}

fn read_and_tell(dir: &Path, only: Option<&str>) -> Found {
    let found = read(dir, only).unwrap_or_else(|error| Found {
        keys: Keys::default(),
        unusable: vec![(dir.to_owned(), error.to_string())],
    });
    for (path, why) in &found.unusable {
        let path = path.display().to_string();
        let fields = [("file", path.as_str().into()), ("why", why.as_str().into())];
        event(Level::Error, "dkim_key_unusable", &fields);
    }
    found
}

/// The domain whose keys a request changes, in the form that they are known by.
pub(super) fn changes(request: &DkimRequest) -> Option<Box<str>> {
    match request {
        DkimRequest::Add { domain, .. } | DkimRequest::Del { domain, .. } => {
            domain_name(domain).ok()
        }
        DkimRequest::List { .. } => None,
    }
}

/// Answers a request; `now` is in seconds since 1970. Makes RSA keys, which takes its time.
pub(super) fn answer(config: &Config, request: DkimRequest, now: u32) -> Response {
    let dir = config.dkim_dir();
    let named =
        |domain: &str| domain_name(domain).map_err(|error| Response::Wrong(error.to_string()));
    let done = match request {
        DkimRequest::Add { domain, selector, algorithm, bits, pem } => {
            named(&domain).and_then(|domain| {
                let wanted = Wanted { selector, algorithm, bits, pem };
                add(&dir, &domain, &wanted, now)
            })
        }
        DkimRequest::Del { domain, selector } => {
            named(&domain).and_then(|domain| del(&dir, &domain, selector.as_deref()))
        }
        DkimRequest::List { domain } => domain
            .map(|domain| named(&domain))
            .transpose()
            .and_then(|domain| list(&dir, domain.as_deref())),
    };
    done.unwrap_or_else(|refused| refused)
}

/// What a new key is to be.
struct Wanted {
    selector: Option<String>,
    algorithm: Option<DkimAlgorithm>,
    bits: Option<u32>,
    pem: Option<String>,
}

fn add(dir: &Path, domain: &str, wanted: &Wanted, now: u32) -> Result<Response, Response> {
    let selector = wanted.selector.clone().unwrap_or_else(|| {
        let date::Day { year, month, .. } = date::day(now / SECONDS_A_DAY);
        format!("{year}{month:02}")
    });
    let made = make(&selector, wanted)?;
    let there = read(dir, Some(domain)).map_err(|error| at(dir, &error))?;
    let count = there.keys.all().iter().map(|(_, keys)| keys.len()).sum::<usize>();
    if count + made.len() > DKIM_KEYS_MAX {
        let text = format!("{domain} would have more than {DKIM_KEYS_MAX} keys: remove one first");
        return Err(Response::Refused(text));
    }
    let mut rows = Vec::with_capacity(made.len());
    let mut files = Vec::with_capacity(made.len());
    for (selector, pem) in &made {
        let key = Key::from_pem(selector, pem.as_bytes())
            .map_err(|error| Response::Wrong(error.to_string()))?;
        let path = file(dir, selector, domain);
        if !is_selector(selector) || selector.bytes().any(|octet| octet.is_ascii_uppercase()) {
            let text =
                format!("{selector:?} is no selector: letters in lower case, digits, - and _");
            return Err(Response::Wrong(text));
        }
        if path.exists() {
            let text = format!("{domain} has a key of the selector {selector}: name another one");
            return Err(Response::Refused(text));
        }
        rows.push(row(domain, &key));
        files.push(path);
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(dir, &error)),
        _ => {}
    }
    for (path, (_, pem)) in files.iter().zip(&made) {
        write(path, pem.as_bytes(), 0o600).map_err(|error| at(path, &error))?;
    }
    // A record that was published is of no use if the key is gone with the power.
    let synced = OpenOptions::new().read(true).open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| at(dir, &error))?;
    Ok(Response::DkimKeys(rows))
}

/// Selectors with keys in PEM.
fn make(selector: &str, wanted: &Wanted) -> Result<Vec<(String, String)>, Response> {
    if let Some(pem) = &wanted.pem {
        return Ok(vec![(selector.to_owned(), pem.clone())]);
    }
    let bits = wanted.bits.unwrap_or(2_048);
    if !(2_048..=4_096).contains(&bits) || !bits.is_multiple_of(1_024) {
        return Err(Response::Wrong("an RSA key has 2048, 3072 or 4096 bits".into()));
    }
    Ok(match wanted.algorithm.unwrap_or(DkimAlgorithm::Both) {
        DkimAlgorithm::Rsa => vec![(selector.to_owned(), make_rsa(bits)?)],
        DkimAlgorithm::Ed25519 => vec![(selector.to_owned(), make_ed25519()?)],
        // Each has a record of its own (RFC 8463 §4).
        DkimAlgorithm::Both => vec![
            (format!("{selector}-{}", Algorithm::Rsa.name()), make_rsa(bits)?),
            (format!("{selector}-{}", Algorithm::Ed25519.name()), make_ed25519()?),
        ],
    })
}

fn make_rsa(bits: u32) -> Result<String, Response> {
    let bits = usize::try_from(bits).unwrap_or_default();
    let failed = |error: &dyn std::fmt::Display| Response::Refused(error.to_string());
    let key = rsa::PrivateKey::new(&mut getrandom::SysRng, bits).map_err(|error| failed(&error))?;
    let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(|error| failed(&error))?;
    Ok(pem.as_str().to_owned())
}

fn make_ed25519() -> Result<String, Response> {
    let pair = KeyPair::generate_for(&PKCS_ED25519);
    pair.map(|pair| pair.serialize_pem()).map_err(|error| Response::Refused(error.to_string()))
}

fn del(dir: &Path, domain: &str, selector: Option<&str>) -> Result<Response, Response> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Response::Refused(format!("{domain} has no keys")));
        }
        Err(error) => return Err(at(dir, &error)),
    };
    // By the names of the files: one that is of no use goes as well.
    let suffix = format!("{BETWEEN}{domain}.pem");
    let mut removed = 0;
    for entry in entries {
        let path = entry.map_err(|error| at(dir, &error))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(found) = name.strip_suffix(&suffix) else { continue };
        if selector.is_none_or(|selector| selector == found) {
            fs::remove_file(&path).map_err(|error| at(&path, &error))?;
            removed += 1;
        }
    }
    match (removed, selector) {
        (0, Some(selector)) => {
            Err(Response::Refused(format!("{domain} has no key of the selector {selector}")))
        }
        (0, None) => Err(Response::Refused(format!("{domain} has no keys"))),
        _ => Ok(Response::Done),
    }
}

fn list(dir: &Path, domain: Option<&str>) -> Result<Response, Response> {
    let Found { keys, unusable } = read(dir, domain).map_err(|error| at(dir, &error))?;
    if let Some((path, why)) = unusable.first() {
        return Err(Response::Refused(format!("{}: {why}", path.display())));
    }
    let all = keys.all().into_iter();
    let rows = all.flat_map(|(domain, keys)| keys.iter().map(move |key| row(domain, key)));
    let rows: Vec<DkimRow> = rows.collect();
    match domain {
        Some(domain) if rows.is_empty() => {
            Err(Response::Refused(format!("{domain} has no keys: pombal dkim add {domain}")))
        }
        _ => Ok(Response::DkimKeys(rows)),
    }
}

fn row(domain: &str, key: &Key) -> DkimRow {
    DkimRow {
        domain: domain.into(),
        selector: key.selector().into(),
        algorithm: key.algorithm().name().into(),
        bits: u32::try_from(key.bits()).unwrap_or(u32::MAX),
        name: format!("{}{BETWEEN}{domain}", key.selector()),
        record: record(key),
    }
}

fn file(dir: &Path, selector: &str, domain: &str) -> PathBuf {
    dir.join(format!("{selector}{BETWEEN}{domain}.pem"))
}

fn at(path: &Path, error: &io::Error) -> Response {
    Response::Refused(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const NOVEMBER: u32 = 1_795_579_800;

    fn config() -> (tempfile::TempDir, Config) {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::small(dir.path());
        (dir, config)
    }

    fn add(selector: Option<&str>, algorithm: DkimAlgorithm) -> DkimRequest {
        DkimRequest::Add {
            domain: "B.example".into(),
            selector: selector.map(Into::into),
            algorithm: Some(algorithm),
            bits: None,
            pem: None,
        }
    }

    fn rows(response: Response) -> Vec<DkimRow> {
        match response {
            Response::DkimKeys(rows) => rows,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn makes_keys_that_sign_and_removes_them() {
        let (_dir, config) = config();
        let made = rows(answer(&config, add(None, DkimAlgorithm::Both), NOVEMBER));
        let shown: Vec<String> =
            made.iter().map(|row| format!("{} {} {}", row.name, row.algorithm, row.bits)).collect();
        assert_eq!(
            shown,
            [
                "202611-rsa._domainkey.b.example rsa 2048",
                "202611-ed25519._domainkey.b.example ed25519 256"
            ]
        );
        let file = config.dkim_dir().join("202611-rsa._domainkey.b.example.pem");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let Found { keys, unusable } = read(&config.dkim_dir(), None).unwrap();
        assert!(unusable.is_empty() && keys.of("x.b.example").unwrap().1.len() == 2);
        let list = DkimRequest::List { domain: Some("b.example".into()) };
        assert_eq!(rows(answer(&config, list.clone(), 0)), made);
        // RSAPublicKey within SubjectPublicKeyInfo, as OpenSSL writes it.
        assert!(made[0].record.starts_with("v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A"));
        let del = |selector: Option<&str>| DkimRequest::Del {
            domain: "b.example".into(),
            selector: selector.map(Into::into),
        };
        assert_eq!(answer(&config, del(Some("202611-rsa")), 0), Response::Done);
        assert!(matches!(answer(&config, del(Some("202611-rsa")), 0), Response::Refused(_)));
        assert_eq!(answer(&config, del(None), 0), Response::Done);
        assert!(matches!(answer(&config, list, 0), Response::Refused(_)));
    }

    #[test]
    fn takes_a_key_that_is_there_already() {
        let (_dir, config) = config();
        let pem = make_ed25519().unwrap();
        let mut request = add(Some("old"), DkimAlgorithm::Both);
        if let DkimRequest::Add { pem: given, .. } = &mut request {
            *given = Some(pem.clone());
        }
        assert_eq!(rows(answer(&config, request.clone(), 0))[0].name, "old._domainkey.b.example");
        assert!(matches!(answer(&config, request, 0), Response::Refused(_)), "not twice");
        let file = config.dkim_dir().join("old._domainkey.b.example.pem");
        assert_eq!(fs::read_to_string(file).unwrap(), pem);
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        let (_dir, config) = config();
        for (selector, domain, bits, pem) in [
            ("a/../b", "b.example", None, None),
            ("A", "b.example", None, None),
            ("a", "..", None, None),
            ("a", "b.example", Some(1_024), None),
            ("a", "b.example", None, Some("no key".to_owned())),
        ] {
            let request = DkimRequest::Add {
                domain: domain.into(),
                selector: Some(selector.into()),
                algorithm: bits.is_none().then_some(DkimAlgorithm::Ed25519),
                bits,
                pem,
            };
            let answer = answer(&config, request, 0);
            assert!(matches!(answer, Response::Wrong(_)), "{selector} {domain}: {answer:?}");
        }
        for number in 0..DKIM_KEYS_MAX {
            rows(answer(&config, add(Some(&format!("s{number}")), DkimAlgorithm::Ed25519), 0));
        }
        let more = answer(&config, add(Some("more"), DkimAlgorithm::Ed25519), 0);
        assert!(matches!(more, Response::Refused(_)), "{more:?}");
    }

    #[test]
    fn names_files_that_are_of_no_use() {
        let (_dir, config) = config();
        rows(answer(&config, add(Some("s"), DkimAlgorithm::Ed25519), 0));
        let dir = config.dkim_dir();
        fs::write(dir.join("x._domainkey.c.example.pem"), "no key").unwrap();
        fs::write(dir.join("key.pem"), "no key").unwrap();
        fs::write(dir.join("README"), "not looked at").unwrap();
        let Found { keys, unusable } = read(&dir, None).unwrap();
        assert_eq!((keys.all().len(), unusable.len()), (1, 2));
        assert!(keys.of("b.example").is_some());
        let Found { keys, unusable } = read(&dir, Some("b.example")).unwrap();
        assert_eq!((keys.all().len(), unusable.len()), (1, 0));
        // One domain changes, the others stay as they are known.
        fs::remove_file(dir.join("s._domainkey.b.example.pem")).unwrap();
        assert!(refresh(&config, &keys, "c.example").of("b.example").is_some());
        assert!(refresh(&config, &keys, "b.example").is_empty());
    }
}
