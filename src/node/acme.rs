//! The thread that gets certificates of an authority, and how the operator's wish comes to it.
//!
//! Its ports are bound, and the key of an external account is read, while the process may be root
//! still; the thread itself is started like all others when that is over.

use crate::acme::{self, Settings, Wishes};
use crate::admin::request::Response;
use crate::admin::socket::Asked;
use crate::cli::Failure;
use crate::config::Config;
use crate::probe::event::{Level, event};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::net::TcpListener;
use std::path::Path;

/// What it takes to start the thread.
pub(super) struct Prepared {
    settings: Settings,
    ports: Vec<TcpListener>,
}

/// `None` where the configuration names no domains for it.
pub(super) fn prepare(config: &Config) -> Result<Option<Prepared>, Failure> {
    let Some(acme) = &config.acme else { return Ok(None) };
    let bind = |address| {
        TcpListener::bind(address)
            .map_err(|error| Failure::Failed(format!("acme.listen: {address}: {error}")))
    };
    let ports = acme.listen.iter().map(bind).collect::<Result<_, _>>()?;
    let external_account = match &acme.external {
        Some((name, file)) => Some((name.clone(), external_key(file)?)),
        None => None,
    };
    let settings = Settings {
        directory: acme.directory.clone(),
        contacts: acme.contact.iter().map(ToString::to_string).collect(),
        domains: acme.domains.iter().map(ToString::to_string).collect(),
        challenge: acme.challenge,
        ca_file: acme.ca_file.clone(),
        external_account,
        dir: config.tls_dir(),
    };
    Ok(Some(Prepared { settings, ports }))
}

/// As authorities hand it out: base64url (RFC 4648 §5), without the padding that some add.
fn external_key(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |why: String| Failure::Wrong(format!("{}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    URL_SAFE_NO_PAD
        .decode(text.trim().trim_end_matches('='))
        .map_err(|error| failed(format!("no key in base64url: {error}")))
}

impl Prepared {
    /// Starts the thread.
    pub(super) fn start(self) -> std::io::Result<Wishes> {
        let Prepared { settings, ports } = self;
        let (wishes, work) = acme::thread(settings, ports);
        std::thread::Builder::new().name("acme".into()).spawn(move || {
            if let Err(error) = work() {
                event(Level::Error, "acme_ended", &[("why", (&error).into())]);
            }
        })?;
        Ok(wishes)
    }
}

/// Hands a wish of the command line over; the thread answers.
pub(super) fn renew(wishes: Option<&Wishes>, asked: Asked) {
    let Some(wishes) = wishes else {
        let why = "acme.domains names no domains: there is nothing to ask an authority for";
        return asked.answer(Response::Refused(why.into()));
    };
    wishes.ask(move |done| {
        asked.answer(match done {
            Ok(()) => Response::Done,
            Err(why) => Response::Refused(why),
        });
    });
}
