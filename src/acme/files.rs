//! What is kept on disk: the certificate, the account, how the last try went.

use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Files in `data_dir/tls`.
#[derive(Clone, Debug)]
pub struct Files(PathBuf);

/// How tries go, for the one that is next, also after a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// Seconds since 1970 of the last try.
    pub at: u64,
    /// Tries that failed since the last that did not.
    pub failures: u32,
    /// Why the last failed; empty if it did not.
    pub why: String,
    /// Seconds since 1970 before which no other is made.
    pub next: u64,
}

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Certificate {
    pub names: Vec<String>,
    /// Seconds since 1970.
    pub not_before: u64,
    pub not_after: u64,
    /// Its first certificate, DER.
    #[serde(skip)]
    pub der: Vec<u8>,
}

impl Files {
    pub fn new(dir: PathBuf) -> Files {
        Files(dir)
    }

    /// Where the certificate is, with its key and chain.
    pub fn certificate(&self) -> PathBuf {
        self.0.join("acme.pem")
    }

    fn account(&self) -> PathBuf {
        self.0.join("acme-account.json")
    }

    fn state(&self) -> PathBuf {
        self.0.join("acme-state.json")
    }

    /// The certificate that is there, if one is.
    pub fn read_certificate(&self) -> io::Result<Option<Certificate>> {
        let Some(text) = read(&self.certificate())? else { return Ok(None) };
        Certificate::from_pem(text.as_bytes()).map(Some)
    }

    pub(super) fn keep_certificate(&self, key: &str, chain: &str) -> io::Result<()> {
        let break_line = if key.ends_with('\n') { "" } else { "\n" };
        self.write(&self.certificate(), &format!("{key}{break_line}{chain}"))
    }

    /// The account at the directory of this URL, as it was kept.
    pub(super) fn read_account<T: for<'a> Deserialize<'a>>(
        &self,
        directory: &str,
    ) -> io::Result<Option<T>> {
        let Some(text) = read(&self.account())? else { return Ok(None) };
        let kept: Kept<T> = serde_json::from_str(&text).map_err(io::Error::other)?;
        Ok((kept.directory == directory).then_some(kept.account))
    }

    pub(super) fn keep_account<T: Serialize>(&self, directory: &str, account: T) -> io::Result<()> {
        let kept = Kept { directory: directory.into(), account };
        let text = serde_json::to_string(&kept).map_err(io::Error::other)?;
        self.write(&self.account(), &text)
    }

    /// Nothing was tried where nothing is noted, or nothing that can be read.
    pub fn read_state(&self) -> Tried {
        let text = read(&self.state()).ok().flatten().unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    pub(super) fn keep_state(&self, tried: &Tried) -> io::Result<()> {
        let text = serde_json::to_string(tried).map_err(io::Error::other)?;
        self.write(&self.state(), &text)
    }

    /// Under another name first: a reader sees the old file or the new one.
    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let fresh = path.with_extension("new");
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        OpenOptions::new().read(true).open(&self.0)?.sync_all()
    }
}

#[derive(Serialize, Deserialize)]
struct Kept<T> {
    directory: String,
    account: T,
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Certificate {
    /// The first certificate among what is in PEM form.
    pub fn from_pem(text: &[u8]) -> io::Result<Certificate> {
        let pem = x509_parser::pem::Pem::iter_from_buffer(text)
            .filter_map(Result::ok)
            .find(|pem| pem.label == "CERTIFICATE")
            .ok_or_else(|| io::Error::other("no certificate in PEM form is in it"))?;
        let (_, parsed) = X509Certificate::from_der(&pem.contents).map_err(io::Error::other)?;
        let mut names = Vec::new();
        if let Ok(Some(others)) = parsed.subject_alternative_name() {
            for name in &others.value.general_names {
                if let GeneralName::DNSName(name) = name {
                    names.push(name.to_ascii_lowercase());
                }
            }
        }
        let seconds = |time: i64| u64::try_from(time).unwrap_or_default();
        let validity = parsed.validity();
        let (not_before, not_after) =
            (seconds(validity.not_before.timestamp()), seconds(validity.not_after.timestamp()));
        Ok(Certificate { names, not_before, not_after, der: pem.contents.clone() })
    }

    /// Whether it is for these domains, and for no others.
    pub(super) fn is_for(&self, domains: &[String]) -> bool {
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort();
            names
        };
        sorted(&self.names) == sorted(domains)
    }
}
