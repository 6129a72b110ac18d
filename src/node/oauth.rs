//! Who judges tokens: made at the start, and anew when the configuration or a file of it changes.

use crate::auth::oauth::Authority;
use crate::concierge::Concierge;
use crate::config::{self, Config};
use std::sync::Arc;

/// The one that the configuration and its files ask for: `held`, if that is the one; none where tokens
/// are not taken. An error: what cannot be used.
pub(super) fn authority(
    config: &Config,
    held: Option<&Arc<Authority>>,
    concierge: &Concierge,
) -> Result<Option<Arc<Authority>>, String> {
    let wanted = config::oauth::read(config).map_err(|mistake| mistake.to_string())?;
    let Some(wanted) = wanted else { return Ok(None) };
    if let Some(held) = held.filter(|held| *held.settings() == wanted) {
        return Ok(Some(Arc::clone(held)));
    }
    let authority = Authority::new(wanted, concierge).map_err(|failed| failed.to_string())?;
    Ok(Some(Arc::new(authority)))
}

/// Whether both are the same one, or none.
pub(super) fn is_same(one: Option<&Arc<Authority>>, other: Option<&Arc<Authority>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}
