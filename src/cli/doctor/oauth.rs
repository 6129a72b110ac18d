//! Whether who judges tokens can be asked.

use super::Finding;
use crate::auth::oauth::Authority;
use crate::concierge::Concierge;
use crate::config::{self, Config};
use futures_lite::future::block_on;

const WHAT: &str = "oauth";

/// Nothing where no tokens are taken.
pub(super) fn look(config: &Config) -> Vec<Finding> {
    let wrong = |found: String| {
        let command = "pombal check --effective   # [auth.oauth]: the URLs, the client, ca_file";
        vec![Finding::change(WHAT, found, "nobody can log in by a token until it answers", command)]
    };
    let settings = match config::oauth::read(config) {
        Ok(Some(settings)) => settings,
        Ok(None) => return Vec::new(),
        Err(mistake) => return wrong(mistake.to_string()),
    };
    let concierge = match Concierge::start() {
        Ok(concierge) => concierge,
        Err(error) => return wrong(error.to_string()),
    };
    match Authority::new(settings, &concierge) {
        Ok(authority) => {
            let lines = block_on(authority.probe()).into_iter();
            let found = lines.flat_map(|line| match line {
                Ok(found) => vec![Finding::ok(WHAT, found)],
                Err(failed) => wrong(failed.to_string()),
            });
            found.collect()
        }
        Err(failed) => wrong(failed.to_string()),
    }
}
