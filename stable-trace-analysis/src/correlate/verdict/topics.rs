//! Moments by what they are about.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable, hash_table::Entry};
use slab::Slab;

use super::moments::{Moment, Moments};
use crate::{correlate::disks::Disk, units::DeviceId};

/// A file: device number and inode.
pub type File = (DeviceId, u64);

/// A page: its file, and its index in it.
pub type Page = (File, u64);

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A page.
    Page(Page),
    /// A file.
    File(File),
    /// A disk.
    Disk(Disk),
    /// A disk's sector on which something failed.
    Sector(Disk, u64),
    /// The same, if it was the disk that found what it had read to be bad.
    BadSector(Disk, u64),
}

/// A topic of which there is a moment, by number.
pub type Number = u32;

/// Moments by topic.
///
/// Tens of thousands of topics come and go, most of them once, and what that costs is memory that
/// is in no cache. So the table holds numbers alone, which makes it small; what they stand for lies
/// in the order in which it came, and is forgotten in nearly the same.
#[derive(Debug, Default)]
pub struct Topics {
    known: Slab<(Topic, Moments)>,
    numbers: HashTable<Number>,
    /// Seeded by chance: whoever wrote a recording cannot choose topics that collide.
    hashes: DefaultHashBuilder,
}

impl Topics {
    /// Adds a moment. Gives the topic's number, which holds until its last moment is dropped;
    /// nothing if there is no number left for it.
    pub fn add(&mut self, topic: Topic, moment: Moment) -> Option<Number> {
        let Self { known, numbers, hashes } = self;
        let same = |number: &Number| of(known, *number).is_some_and(|(other, _)| *other == topic);
        let hash =
            |number: &Number| of(known, *number).map_or(0, |(topic, _)| hashes.hash_one(topic));
        match numbers.entry(hashes.hash_one(topic), same, hash) {
            Entry::Occupied(number) => {
                let number = *number.get();
                let (_, moments) = known.get_mut(number as usize)?;
                moments.add(moment);
                Some(number)
            }
            Entry::Vacant(vacant) => {
                let number = Number::try_from(known.vacant_key()).ok()?;
                known.insert((topic, Moments::One(moment)));
                vacant.insert(number);
                Some(number)
            }
        }
    }

    /// Drops the oldest moment of a topic.
    pub fn drop_oldest(&mut self, number: Number) {
        let Some((topic, moments)) = self.known.get_mut(number as usize) else { return };
        if moments.drop_oldest() {
            let hash = self.hashes.hash_one(*topic);
            if let Ok(entry) = self.numbers.find_entry(hash, |other| *other == number) {
                entry.remove();
            }
            self.known.try_remove(number as usize);
        }
    }

    /// What there is of a topic.
    pub fn moments(&self, topic: Topic) -> Option<&Moments> {
        let same =
            |number: &Number| of(&self.known, *number).is_some_and(|(other, _)| *other == topic);
        let number = self.numbers.find(self.hashes.hash_one(topic), same)?;
        of(&self.known, *number).map(|(_, moments)| moments)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.known.clear();
        self.numbers.clear();
    }

    /// Whether there is none.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.numbers.is_empty()
    }
}

fn of(known: &Slab<(Topic, Moments)>, number: Number) -> Option<&(Topic, Moments)> {
    known.get(number as usize)
}
