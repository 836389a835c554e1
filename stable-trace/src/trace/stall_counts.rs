//! The stalls between two points of one run, which the experiment compares.

use std::collections::{BTreeMap, HashMap};

use aya::maps::MapError;
use stable_trace_analysis::{event::Context, units::DeviceId};
use stable_trace_common::histogram::{Histogram, HistogramKey};

use super::tracer::Tracer;

/// A reading of the kernel's stall histograms.
#[derive(Debug)]
pub(crate) struct StallCounts(HashMap<HistogramKey, Histogram>);

impl Tracer {
    /// Reads the kernel's stall histograms.
    pub(crate) fn stall_counts(&self) -> Result<StallCounts, MapError> {
        Ok(StallCounts(self.counters.histograms()?.into_iter().collect()))
    }

    /// Failed checks of protection information so far, on all devices: a failure below a loop device
    /// is counted for the disk that holds its file.
    pub(crate) fn checks_failed(&self) -> Result<u64, MapError> {
        Ok(self.counters.integrity_errors()?.iter().map(|(_, count)| count).sum())
    }

    /// The stalls on a disk since `earlier`, by context. Call it while the file systems are mounted:
    /// their device numbers cannot be resolved after that.
    pub(crate) fn stalls_since(
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
                let context = self.enricher.stacks.get(key.stack).reason.context;
                stalls.entry(context).or_insert(Histogram::EMPTY).merge(&now.since(&before));
            }
        }
        Ok(stalls)
    }
}
