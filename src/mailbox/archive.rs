//! Archives: rkyv behind a version octet, read back only after every octet was validated.
//!
//! ```text
//! archive := version u8 | zeros{15} | rkyv, root at the end, offsets counted from the start
//! ```

use crate::store::Damaged;
use rkyv::Portable;
use rkyv::api::high::HighValidator;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use rkyv::util::AlignedVec;
#[cfg(test)]
use rkyv::{Serialize, api::high::HighSerializer, ser::allocator::ArenaHandle};

/// Octets in front; keeps what follows aligned.
const HEAD_OCTETS: usize = 16;

/// Archives `value`, a type frozen as version `version`, as releases of the past did.
#[cfg(test)]
pub(super) fn encode(
    version: u8,
    value: &impl for<'a> Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, rancor::Error>>,
) -> Vec<u8> {
    let mut octets = vec![0; HEAD_OCTETS];
    octets[0] = version;
    rkyv::api::high::to_bytes_in::<_, rancor::Error>(value, octets)
        .expect("a vector takes all that is written")
}

/// An archive at an aligned place.
pub(super) struct Archived(AlignedVec);

impl Archived {
    /// Copies `octets`, which must be of this version.
    pub(super) fn new(version: u8, octets: &[u8]) -> Result<Archived, Damaged> {
        if octets.len() < HEAD_OCTETS || octets[0] != version {
            return Err(Damaged("an archive of unknown version".into()));
        }
        let mut aligned = AlignedVec::with_capacity(octets.len());
        aligned.extend_from_slice(octets);
        Ok(Archived(aligned))
    }

    /// Validates the whole and gives access to it.
    pub(super) fn access<T>(&self) -> Result<&T, Damaged>
    where
        T: Portable + for<'a> CheckBytes<HighValidator<'a, rancor::Error>>,
    {
        rkyv::access::<T, rancor::Error>(&self.0)
            .map_err(|error| Damaged(format!("an archive is not as it should be: {error}")))
    }
}
