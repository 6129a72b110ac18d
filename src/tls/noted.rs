//! What rustls tells only while it works on a handshake, and only to those whom it calls.
//!
//! Which certificate was chosen, which name the client asked for, and the secret of the exporters:
//! an unbuffered connection does not show them later. Whoever is called notes them down here, on the
//! thread that works; [`noted`] takes them from there.

use super::identity::Identity;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// Of one handshake, as far as it went.
#[derive(Clone, Debug, Default)]
pub(super) struct Noted {
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) name: Option<Box<str>>,
    pub(super) exporter: Option<Secret>,
}

/// A secret; `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(pub(super) Box<[u8]>);

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(…)")
    }
}

thread_local! {
    static NOTED: RefCell<Noted> = const {
        RefCell::new(Noted { identity: None, name: None, exporter: None })
    };
}

impl Noted {
    /// Adds what was noted later.
    pub(super) fn add(&mut self, later: Noted) {
        self.identity = later.identity.or_else(|| self.identity.take());
        self.name = later.name.or_else(|| self.name.take());
        self.exporter = later.exporter.or_else(|| self.exporter.take());
    }
}

/// Runs `work`, and says what was noted meanwhile.
pub(super) fn noted<T>(work: impl FnOnce() -> T) -> (T, Noted) {
    NOTED.take();
    let done = work();
    (done, NOTED.take())
}

/// This certificate was chosen, for a client that asked for `name`.
pub(super) fn note_choice(identity: &Arc<Identity>, name: Option<&str>) {
    NOTED.with_borrow_mut(|noted| {
        noted.identity = Some(Arc::clone(identity));
        noted.name = name.map(Into::into);
    });
}

/// Takes the secret of the exporters (RFC 8446 §7.5) from where others would write a log for a
/// debugger; no other secret is looked at.
#[derive(Debug)]
pub(super) struct Exporters;

const EXPORTER: &str = "EXPORTER_SECRET";

impl rustls::KeyLog for Exporters {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        if label == EXPORTER {
            NOTED.with_borrow_mut(|noted| noted.exporter = Some(Secret(secret.into())));
        }
    }

    fn will_log(&self, label: &str) -> bool {
        label == EXPORTER
    }
}
