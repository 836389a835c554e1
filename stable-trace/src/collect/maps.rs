//! Reading the kernel's counters and histograms: exact, whatever the stream dropped.

use aya::maps::{HashMap as KernelMap, MapData, MapError, PerCpuArray, PerCpuHashMap};
use stable_trace_common::{
    counter::Counter,
    histogram::{Histogram, HistogramKey},
    integrity::IntegrityKey,
    process::{ProcessKey, ProcessStalls},
    unstable::UnstableKey,
    waiter::Waiter,
};

use super::map_fill::MapFill;

/// The maps that hold numbers.
pub struct CounterMaps {
    histograms: PerCpuHashMap<MapData, HistogramKey, Histogram>,
    counters: PerCpuArray<MapData, u64>,
    waiters: KernelMap<MapData, u64, Waiter>,
    unstable: PerCpuHashMap<MapData, UnstableKey, u64>,
    processes: PerCpuHashMap<MapData, ProcessKey, ProcessStalls>,
    integrity: KernelMap<MapData, IntegrityKey, u64>,
}

impl CounterMaps {
    /// Takes the maps, and creates the overflow histogram and the overflow sum of stall time.
    ///
    /// # Errors
    /// The kernel refused to write to the map.
    pub fn new(
        mut histograms: PerCpuHashMap<MapData, HistogramKey, Histogram>,
        counters: PerCpuArray<MapData, u64>,
        waiters: KernelMap<MapData, u64, Waiter>,
        unstable: PerCpuHashMap<MapData, UnstableKey, u64>,
        mut processes: PerCpuHashMap<MapData, ProcessKey, ProcessStalls>,
        integrity: KernelMap<MapData, IntegrityKey, u64>,
    ) -> Result<Self, MapError> {
        let cpus = aya::util::nr_cpus().map_err(|(_, source)| MapError::IoError(source))?;
        let empty = aya::maps::PerCpuValues::try_from(vec![Histogram::EMPTY; cpus])
            .map_err(MapError::IoError)?;
        histograms.insert(HistogramKey::OVERFLOW, empty, 0)?;
        let empty = aya::maps::PerCpuValues::try_from(vec![ProcessStalls::EMPTY; cpus])
            .map_err(MapError::IoError)?;
        processes.insert(ProcessKey::OVERFLOW, empty, 0)?;
        Ok(Self { histograms, counters, waiters, unstable, processes, integrity })
    }

    /// Every histogram there is, summed over the CPUs; empty ones left out.
    ///
    /// # Errors
    /// The kernel refused to read the map.
    pub fn histograms(&self) -> Result<Vec<(HistogramKey, Histogram)>, MapError> {
        let mut all = Vec::new();
        for entry in &self.histograms {
            let (key, cpus) = entry?;
            let mut sum = Histogram::EMPTY;
            for cpu in cpus.iter() {
                sum.merge(cpu);
            }
            if sum.count() > 0 {
                all.push((key, sum));
            }
        }
        Ok(all)
    }

    /// One counter, summed over the CPUs.
    ///
    /// # Errors
    /// The kernel refused to read the map.
    pub fn counter(&self, counter: Counter) -> Result<u64, MapError> {
        Ok(self.counters.get(&(counter as u32), 0)?.iter().sum())
    }

    /// Every count of unstable writes, summed over the CPUs.
    ///
    /// # Errors
    /// The kernel refused to read the map.
    pub fn unstable_writes(&self) -> Result<Vec<(UnstableKey, u64)>, MapError> {
        let counts = self.unstable.iter();
        counts.map(|entry| entry.map(|(key, cpus)| (key, cpus.iter().sum()))).collect()
    }

    /// Stalled time by thread name and stack, summed over the CPUs.
    ///
    /// # Errors
    /// The kernel refused to read the map.
    pub fn processes(&self) -> Result<Vec<(ProcessKey, ProcessStalls)>, MapError> {
        let mut all = Vec::new();
        for entry in &self.processes {
            let (key, cpus) = entry?;
            let mut sum = ProcessStalls::EMPTY;
            for cpu in cpus.iter() {
                sum.merge(cpu);
            }
            if sum.stalls > 0 {
                all.push((key, sum));
            }
        }
        Ok(all)
    }

    /// How full the maps are that only fill up; one that cannot be walked is left out.
    #[must_use]
    pub fn fills(&self) -> Vec<MapFill> {
        [
            MapFill::of("HISTOGRAMS", &self.histograms, self.histograms.keys()),
            MapFill::of("PROCESS_STALLS", &self.processes, self.processes.keys()),
            MapFill::of("UNSTABLE_WRITES", &self.unstable, self.unstable.keys()),
            MapFill::of("INTEGRITY_ERRORS", &self.integrity, self.integrity.keys()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Every count of integrity failures.
    ///
    /// # Errors
    /// The kernel refused to read the map.
    pub fn integrity_errors(&self) -> Result<Vec<(IntegrityKey, u64)>, MapError> {
        self.integrity.iter().collect()
    }

    /// The tasks that the kernel still follows.
    ///
    /// # Errors
    /// The kernel refused to read the map.
    pub fn waiters(&self) -> Result<Vec<Waiter>, MapError> {
        self.waiters.iter().map(|entry| entry.map(|(_, waiter)| waiter)).collect()
    }
}
