//! The certificates of a running server: read at the start, read again when they change, and one made
//! by ourselves where none is named.
//!
//! ```text
//! data_dir/tls/self-signed.pem   for clients that name nobody, until the operator names a better one
//! data_dir/tls/self-signed.key   its key, readable by the owner only
//! data_dir/tls/acme.pem          what an authority handed out (`acme`), key and chain
//! ```

use crate::acme::Files;
use crate::config::certificates::{self, Found};
use crate::config::{Clients, Config, Mistake};
use crate::probe::event::{Level, event};
use crate::tls::{Context, For, Identity, Names};
use rcgen::{CertificateParams, DnType, KeyPair};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files and what their last change is told by.
type Marks = Vec<(PathBuf, Option<(i64, i64, u64)>)>;

/// The certificates in force.
#[derive(Clone, Debug)]
pub(super) struct Certificates {
    pub(super) context: Arc<Context>,
    marks: Marks,
}

impl Certificates {
    /// Reads what the configuration names. An error: something of it cannot be used.
    pub(super) fn load(config: &Config) -> Result<Certificates, String> {
        let marks = marks(config);
        let found = certificates::read(&config.tls).map_err(|mistakes| {
            let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            lines.join("\n")
        })?;
        let Found { mut names, has_default, authorities, untimely } = found;
        untimely.iter().for_each(tell_untimely);
        let has_default = handed_out(config, &mut names, has_default) || has_default;
        if !has_default {
            names.add(For::Anybody, self_signed(config)?);
        }
        let context = Context::new(names, authorities).map_err(|error| error.to_string())?;
        Ok(Certificates { context: Arc::new(context), marks })
    }

    /// Whether a file is another than when it was read, or other files are named.
    pub(super) fn have_changed(&self, config: &Config) -> bool {
        self.marks != marks(config)
    }

    /// Does not look at the files again before they change once more.
    pub(super) fn forgive(&mut self, config: &Config) {
        self.marks = marks(config);
    }

    /// Tells the operator what is in force.
    pub(super) fn tell(&self) {
        for identity in self.context.identities() {
            let names = identity.names().join(" ");
            let (_, until) = identity.valid();
            let fields = [
                ("names", names.as_str().into()),
                ("key", identity.kind().into()),
                ("until", u64::try_from(until).unwrap_or(0).into()),
            ];
            event(Level::Info, "certificate", &fields);
        }
    }
}

fn tell_untimely(mistake: &Mistake) {
    let fields = [("file", mistake.file.as_str().into()), ("why", mistake.what.as_str().into())];
    event(Level::Error, "certificate_untimely", &fields);
}

fn marks(config: &Config) -> Marks {
    let tls = &config.tls;
    let all = tls.default.iter().chain(tls.sni.iter().map(|(_, one)| one));
    let named = all.flat_map(|one| [one.certificate.clone(), one.key.clone()]);
    let signers = tls.clients.iter().flat_map(Clients::files).map(Path::to_owned);
    let files = named.chain(signers).chain(handed_out_file(config));
    let mark = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.mtime(), metadata.mtime_nsec(), metadata.ino()))
    };
    files.map(|path| (path.clone(), mark(&path))).collect()
}

/// Where the certificate of an authority lies once there is one.
fn handed_out_file(config: &Config) -> Option<PathBuf> {
    config.acme.is_some().then(|| Files::new(config.tls_dir()).certificate())
}

/// Adds the certificate of an authority for its names, and for anybody else who has none yet; says
/// whether there is one. Its key and chain are in one file.
fn handed_out(config: &Config, names: &mut Names, has_default: bool) -> bool {
    let Some(file) = handed_out_file(config) else { return false };
    let octets = match fs::read(&file) {
        Ok(octets) => octets,
        // It is on its way.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return false,
        Err(error) => {
            tell_unusable(&file, &error.to_string());
            return false;
        }
    };
    let read = || Identity::from_pem(&octets, &octets);
    let identity = match read() {
        Ok(identity) => identity,
        Err(fault) => {
            tell_unusable(&file, &fault.to_string());
            return false;
        }
    };
    for name in identity.names() {
        if let Ok(identity) = read() {
            names.add(For::Name(name), identity);
        }
    }
    if !has_default {
        names.add(For::Anybody, identity);
    }
    true
}

fn tell_unusable(file: &Path, why: &str) {
    let file = file.display().to_string();
    let fields = [("file", file.as_str().into()), ("why", why.into())];
    event(Level::Error, "acme_certificate_unusable", &fields);
}

/// The certificate that we made, or make now.
fn self_signed(config: &Config) -> Result<Identity, String> {
    let (dir, chain) = (config.tls_dir(), config.self_signed());
    let key = chain.with_extension("key");
    let host = config.hostname.as_str();
    if let (Ok(chain), Ok(key)) = (fs::read(&chain), fs::read(&key))
        && let Ok(identity) = Identity::from_pem(&chain, &key)
        && identity.is_for(host)
    {
        return Ok(identity);
    }
    let failed = |error: rcgen::Error| format!("self-signed certificate: {error}");
    let pair = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, host);
    let certificate = params.self_signed(&pair).map_err(failed)?.pem();
    let text = pair.serialize_pem();
    let at = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    fs::create_dir_all(&dir).map_err(|error| at(&dir, error))?;
    // The key first: a certificate without its key would be read as one of another key.
    write(&key, text.as_bytes(), 0o600).map_err(|error| at(&key, error))?;
    write(&chain, certificate.as_bytes(), 0o644).map_err(|error| at(&chain, error))?;
    event(
        Level::Warn,
        "certificate_made",
        &[("host", host.into()), ("set", "tls.certificate".into())],
    );
    Identity::from_pem(certificate.as_bytes(), text.as_bytes())
        .map_err(|fault| format!("self-signed certificate: {fault}"))
}

/// Puts a whole file in place of another.
pub(super) fn write(path: &Path, octets: &[u8], mode: u32) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&fresh)?;
    file.write_all(octets)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}
