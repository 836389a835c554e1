//! How full the kernel's maps are.

use aya::{
    Pod,
    maps::{IterableMap, MapError},
};

/// How full one kernel map is.
#[derive(Clone, Debug)]
pub struct MapFill {
    /// Its name.
    pub name: String,
    /// Entries in it; bytes of the ring buffer that wait.
    pub entries: u64,
    /// The most it can hold, in the same unit.
    pub capacity: u64,
}

impl MapFill {
    /// Of a kernel map whose entries stay, by walking its keys; nothing if the kernel refuses.
    pub fn of<K: Pod, V>(
        name: &str,
        map: &impl IterableMap<K, V>,
        keys: impl Iterator<Item = Result<K, MapError>>,
    ) -> Option<Self> {
        let capacity = map.map().info().ok()?.max_entries();
        let entries = keys.take_while(Result::is_ok).count() as u64;
        Some(Self { name: name.to_owned(), entries, capacity: u64::from(capacity) })
    }
}
