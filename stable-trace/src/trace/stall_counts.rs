//! What was counted between two moments of one run.

use std::collections::{BTreeMap, HashMap};

use aya::maps::MapError;
use stable_trace_analysis::{event::Context, units::DeviceId};
use stable_trace_common::histogram::{Histogram, HistogramKey};

use super::tracer::Tracer;

/// Every stall so far.
#[derive(Debug)]
pub struct StallCounts(HashMap<HistogramKey, Histogram>);

impl Tracer {
    /// Counts every stall so far.
    ///
    /// # Errors
    /// The kernel refused to read the map.
    pub fn stall_counts(&self) -> Result<StallCounts, MapError> {
        Ok(StallCounts(self.counters.histograms()?.into_iter().collect()))
    }

    /// Every failed check of protection information so far, on whichever device: those below a loop
    /// device are the disk's that its file is on.
    ///
    /// # Errors
    /// The kernel refused to read the map.
    pub fn checks_failed(&self) -> Result<u64, MapError> {
        Ok(self.counters.integrity_errors()?.iter().map(|(_, count)| count).sum())
    }

    /// The stalls on a disk since earlier counts, by context. Ask while the file systems that it
    /// is about are mounted: later nobody knows what their names meant.
    ///
    /// # Errors
    /// The kernel refused to read the map.
    pub fn stalls_since(
        &mut self,
        earlier: &StallCounts,
        disk: DeviceId,
    ) -> Result<BTreeMap<Context, Histogram>, MapError> {
        let mut stalls: BTreeMap<_, Histogram> = BTreeMap::new();
        for (key, now) in self.counters.histograms()? {
            let identity = self.enricher.identities.get(&key.backing);
            let backing = identity.backing.as_ref();
            if backing.is_some_and(|backing| backing.disks.contains(&disk)) {
                let before = earlier.0.get(&key).copied().unwrap_or(Histogram::EMPTY);
                let context = self.enricher.stacks.get(key.stack).meaning.context;
                stalls.entry(context).or_insert(Histogram::EMPTY).merge(&now.since(&before));
            }
        }
        Ok(stalls)
    }
}
