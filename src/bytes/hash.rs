//! Maps whose order does not change from run to run, so that a simulation replays.

use rustc_hash::FxBuildHasher;

#[expect(clippy::disallowed_types, reason = "with a fixed hasher the order is fixed too")]
pub type Map<K, V> = std::collections::HashMap<K, V, FxBuildHasher>;
#[expect(clippy::disallowed_types, reason = "with a fixed hasher the order is fixed too")]
pub type Set<K> = std::collections::HashSet<K, FxBuildHasher>;
/// For keys that a stranger chooses: no hash to collide on purpose.
pub type Sorted<K, V> = std::collections::BTreeMap<K, V>;
