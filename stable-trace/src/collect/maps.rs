//! Reads the maps of counters and histograms. They are exact, whatever the ring buffer dropped.

use aya::{
    Pod,
    maps::{HashMap as KernelMap, MapData, MapError, PerCpuArray, PerCpuHashMap, PerCpuValues},
};
use stable_trace_common::{
    counter::Counter,
    histogram::{Histogram, HistogramKey},
    integrity::IntegrityKey,
    process::{ProcessKey, ProcessStalls},
    unstable::UnstableKey,
    waiter::Waiter,
};

use super::map_fill::MapFill;

/// The maps of counters, histograms and waiters.
pub(crate) struct CounterMaps {
    histograms: PerCpuHashMap<MapData, HistogramKey, Histogram>,
    counters: PerCpuArray<MapData, u64>,
    waiters: KernelMap<MapData, u64, Waiter>,
    unstable: PerCpuHashMap<MapData, UnstableKey, u64>,
    processes: PerCpuHashMap<MapData, ProcessKey, ProcessStalls>,
    integrity: KernelMap<MapData, IntegrityKey, u64>,
}

impl CounterMaps {
    /// Takes the maps, and creates the overflow histogram and the overflow sum of stall time.
    pub(crate) fn new(
        mut histograms: PerCpuHashMap<MapData, HistogramKey, Histogram>,
        counters: PerCpuArray<MapData, u64>,
        waiters: KernelMap<MapData, u64, Waiter>,
        unstable: PerCpuHashMap<MapData, UnstableKey, u64>,
        mut processes: PerCpuHashMap<MapData, ProcessKey, ProcessStalls>,
        integrity: KernelMap<MapData, IntegrityKey, u64>,
    ) -> Result<Self, MapError> {
        histograms.insert(HistogramKey::OVERFLOW, on_each_cpu(Histogram::EMPTY)?, 0)?;
        processes.insert(ProcessKey::OVERFLOW, on_each_cpu(ProcessStalls::EMPTY)?, 0)?;
        Ok(Self { histograms, counters, waiters, unstable, processes, integrity })
    }

    /// All histograms that are not empty, summed over the CPUs.
    pub(crate) fn histograms(&self) -> Result<Vec<(HistogramKey, Histogram)>, MapError> {
        let mut all = sums(&self.histograms, Histogram::EMPTY, Histogram::merge)?;
        all.retain(|(_, histogram)| histogram.count() > 0);
        Ok(all)
    }

    /// One counter, summed over the CPUs.
    pub(crate) fn counter(&self, counter: Counter) -> Result<u64, MapError> {
        Ok(self.counters.get(&(counter as u32), 0)?.iter().sum())
    }

    /// All counts of unstable writes, summed over the CPUs.
    pub(crate) fn unstable_writes(&self) -> Result<Vec<(UnstableKey, u64)>, MapError> {
        sums(&self.unstable, 0, |sum, count| *sum += count)
    }

    /// Stall time by process name and stack, summed over the CPUs.
    pub(crate) fn processes(&self) -> Result<Vec<(ProcessKey, ProcessStalls)>, MapError> {
        let mut all = sums(&self.processes, ProcessStalls::EMPTY, ProcessStalls::merge)?;
        all.retain(|(_, stalls)| stalls.stalls > 0);
        Ok(all)
    }

    /// The fill of the maps from which nothing is removed. A map that cannot be read is skipped.
    pub(crate) fn fills(&self) -> Vec<MapFill> {
        [
            MapFill::count("HISTOGRAMS", &self.histograms, self.histograms.keys()),
            MapFill::count("PROCESS_STALLS", &self.processes, self.processes.keys()),
            MapFill::count("UNSTABLE_WRITES", &self.unstable, self.unstable.keys()),
            MapFill::count("INTEGRITY_ERRORS", &self.integrity, self.integrity.keys()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// All counts of integrity errors.
    pub(crate) fn integrity_errors(&self) -> Result<Vec<(IntegrityKey, u64)>, MapError> {
        self.integrity.iter().collect()
    }

    /// The tasks that wait, or whose wait has not been recorded.
    pub(crate) fn waiters(&self) -> Result<Vec<Waiter>, MapError> {
        self.waiters.iter().map(|entry| entry.map(|(_, waiter)| waiter)).collect()
    }
}

fn on_each_cpu<V: Pod>(value: V) -> Result<PerCpuValues<V>, MapError> {
    let cpus = aya::util::nr_cpus().map_err(|(_, source)| MapError::IoError(source))?;
    PerCpuValues::try_from(vec![value; cpus]).map_err(MapError::IoError)
}

/// Sums each entry of a map over the CPUs.
fn sums<K: Pod, V: Pod>(
    map: &PerCpuHashMap<MapData, K, V>,
    zero: V,
    add: impl Fn(&mut V, &V),
) -> Result<Vec<(K, V)>, MapError> {
    let entries = map.iter().map(|entry| {
        let (key, values) = entry?;
        let mut sum = zero;
        values.iter().for_each(|value| add(&mut sum, value));
        Ok((key, sum))
    });
    entries.collect()
}
