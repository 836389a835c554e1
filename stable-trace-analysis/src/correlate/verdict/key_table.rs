//! A hash table from keys to the events about them.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable, hash_table::Entry};
use slab::Slab;

use super::event_refs::{EventRef, EventRefs};
use crate::{correlate::disks::Disk, units::DeviceId};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FileId {
    /// Of the subvolume where the file system has subvolumes, else of the file system.
    pub(super) dev: DeviceId,
    pub(super) ino: u64,
}

impl FileId {
    /// The file of an event; `None` if its device or its inode is not known.
    pub(super) fn new(
        subvolume_dev: Option<DeviceId>,
        dev: Option<DeviceId>,
        ino: Option<u64>,
    ) -> Option<Self> {
        Some(Self { dev: subvolume_dev.or(dev)?, ino: ino? })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PageId {
    pub(super) file: FileId,
    pub(super) index: u64,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Page(PageId),
    File(FileId),
    Disk(Disk),
    /// The first sector of an integrity error.
    Sector(Disk, u64),
    /// The first sector of a read that the disk itself reported as bad.
    BadSector(Disk, u64),
}

/// The slot of a key in a [`KeyTable`].
pub(super) type KeyId = u32;

/// The events of each key.
///
/// Tens of thousands of keys come and go, most of them with one event, so memory outside the CPU
/// caches dominates the cost. The hash table therefore holds slot numbers only, which keeps it
/// small. The slots fill in the order of arrival and become free in nearly the same order.
#[derive(Debug, Default)]
pub(super) struct KeyTable {
    slots: Slab<(Key, EventRefs)>,
    ids: HashTable<KeyId>,
    /// Seeded at random: the author of a recording cannot choose keys that collide.
    hasher: DefaultHashBuilder,
}

impl KeyTable {
    /// Adds an event. Returns the slot of the key, which is valid until the last event of the key
    /// is removed; `None` if no slot is left.
    pub(super) fn add(&mut self, key: Key, event: EventRef) -> Option<KeyId> {
        let Self { slots, ids, hasher } = self;
        let same = |id: &KeyId| slot(slots, *id).is_some_and(|(other, _)| *other == key);
        let hash = |id: &KeyId| slot(slots, *id).map_or(0, |(key, _)| hasher.hash_one(key));
        match ids.entry(hasher.hash_one(key), same, hash) {
            Entry::Occupied(id) => {
                let id = *id.get();
                let (_, events) = slots.get_mut(id as usize)?;
                events.add(event);
                Some(id)
            }
            Entry::Vacant(vacant) => {
                let id = KeyId::try_from(slots.vacant_key()).ok()?;
                slots.insert((key, EventRefs::One(event)));
                vacant.insert(id);
                Some(id)
            }
        }
    }

    /// Removes the oldest event of a key.
    pub(super) fn remove_oldest(&mut self, id: KeyId) {
        let Some((key, events)) = self.slots.get_mut(id as usize) else { return };
        if events.remove_oldest() {
            let hash = self.hasher.hash_one(*key);
            if let Ok(entry) = self.ids.find_entry(hash, |other| *other == id) {
                entry.remove();
            }
            self.slots.try_remove(id as usize);
        }
    }

    pub(super) fn events(&self, key: Key) -> Option<&EventRefs> {
        let same = |id: &KeyId| slot(&self.slots, *id).is_some_and(|(other, _)| *other == key);
        let id = self.ids.find(self.hasher.hash_one(key), same)?;
        slot(&self.slots, *id).map(|(_, events)| events)
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.ids.clear();
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.ids.is_empty()
    }
}

fn slot(slots: &Slab<(Key, EventRefs)>, id: KeyId) -> Option<&(Key, EventRefs)> {
    slots.get(id as usize)
}
