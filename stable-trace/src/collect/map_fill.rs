//! The fill of eBPF maps.

use aya::{
    Pod,
    maps::{IterableMap, MapError},
};

/// The fill of one map.
#[derive(Clone, Debug)]
pub struct MapFill {
    /// The map's name.
    pub name: String,
    /// Entries in the map; for the ring buffer, unread bytes.
    pub entries: u64,
    /// The capacity, in the same unit.
    pub capacity: u64,
}

impl MapFill {
    /// Counts the keys of a map from which nothing is removed. `None` if its capacity cannot be read.
    pub fn count<K: Pod, V>(
        name: &str,
        map: &impl IterableMap<K, V>,
        keys: impl Iterator<Item = Result<K, MapError>>,
    ) -> Option<Self> {
        let capacity = map.map().info().ok()?.max_entries();
        let entries = keys.take_while(Result::is_ok).count() as u64;
        Some(Self { name: name.to_owned(), entries, capacity: u64::from(capacity) })
    }
}
