//! Reads the maps of counters and histograms. They are exact, whatever the ring buffer dropped.

use std::{collections::HashMap, hash::Hash};

use aya::{
    Pod,
    maps::{
        HashMap as KernelMap, IterableMap as _, MapData, MapError, PerCpuArray, PerCpuHashMap,
        PerCpuValues,
    },
};
use stable_trace_common::{
    backing::Backing,
    counter::Counter,
    histogram::{Histogram, HistogramKey},
    integrity::IntegrityKey,
    process::{ProcessKey, ProcessStalls},
    unstable::UnstableKey,
    waiter::{ASLEEP, Waiter},
};

use super::{map_fill::MapFill, retired::Retired};

/// Steps through the waiters at most: twice as many as the map can have.
const MOST_STEPS: usize = 32_768;

/// The maps of counters, histograms and waiters.
pub(crate) struct CounterMaps {
    histograms: PerCpuHashMap<MapData, HistogramKey, Histogram>,
    counters: PerCpuArray<MapData, u64>,
    waiters: KernelMap<MapData, u64, Waiter>,
    unstable: PerCpuHashMap<MapData, UnstableKey, u64>,
    processes: PerCpuHashMap<MapData, ProcessKey, ProcessStalls>,
    integrity: KernelMap<MapData, IntegrityKey, u64>,
    retired_histograms: Retired<HistogramKey, Histogram>,
    retired_unstable: Retired<UnstableKey, u64>,
    retired_processes: Retired<ProcessKey, ProcessStalls>,
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
        Ok(Self {
            histograms,
            counters,
            waiters,
            unstable,
            processes,
            integrity,
            retired_histograms: Retired::default(),
            retired_unstable: Retired::default(),
            retired_processes: Retired::default(),
        })
    }

    /// All histograms that are not empty, summed over the CPUs.
    pub(crate) fn histograms(&self) -> Result<Vec<(HistogramKey, Histogram)>, MapError> {
        let all = sums(&self.histograms, Histogram::EMPTY, Histogram::merge)?;
        let mut all = self.retired_histograms.add_to(all, Histogram::merge);
        all.retain(|(_, histogram)| histogram.count() > 0);
        Ok(all)
    }

    /// One counter, summed over the CPUs.
    pub(crate) fn counter(&self, counter: Counter) -> Result<u64, MapError> {
        Ok(self.counters.get(&(counter as u32), 0)?.iter().sum())
    }

    /// All counts of unstable writes, summed over the CPUs.
    pub(crate) fn unstable_writes(&self) -> Result<Vec<(UnstableKey, u64)>, MapError> {
        let all = sums(&self.unstable, 0, add_count)?;
        Ok(self.retired_unstable.add_to(all, add_count))
    }

    /// Stall time by process name and stack, summed over the CPUs.
    pub(crate) fn processes(&self) -> Result<Vec<(ProcessKey, ProcessStalls)>, MapError> {
        let all = sums(&self.processes, ProcessStalls::EMPTY, ProcessStalls::merge)?;
        let mut all = self.retired_processes.add_to(all, ProcessStalls::merge);
        all.retain(|(_, stalls)| stalls.stalls > 0);
        Ok(all)
    }

    /// Makes room in the maps of which an eighth or more is used: removes keys that have not changed since the last
    /// call, of file systems for which `is_gone` holds, and of any process. Their counts are kept.
    pub(crate) fn make_room(&mut self, is_gone: impl Fn(&Backing) -> bool) -> Result<(), MapError> {
        make_room(
            &mut self.histograms,
            &mut self.retired_histograms,
            (Histogram::EMPTY, Histogram::merge),
            |key| *key != HistogramKey::OVERFLOW && is_gone(&key.backing),
        )?;
        make_room(&mut self.unstable, &mut self.retired_unstable, (0, add_count), |key| {
            is_gone(&key.backing)
        })?;
        make_room(
            &mut self.processes,
            &mut self.retired_processes,
            (ProcessStalls::EMPTY, ProcessStalls::merge),
            |key| *key != ProcessKey::OVERFLOW,
        )
    }

    /// The fill of the maps that the programs fill. A map that cannot be read is skipped.
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

    /// The tasks that wait at this moment. `returns`: the end of a wait is seen at the return of the wait function. The
    /// map changes meanwhile: where an entry was removed, the iteration begins again, so it has a bound.
    pub(crate) fn waiting(&self, returns: bool) -> Result<Vec<Waiter>, MapError> {
        let mut tasks = HashMap::new();
        for entry in self.waiters.iter().take(MOST_STEPS) {
            let (task, waiter) = entry?;
            let waits = if returns { waiter.end_ns == 0 } else { waiter.phase == ASLEEP };
            if waits {
                tasks.insert(task, waiter);
            }
        }
        Ok(tasks.into_values().collect())
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as the others that sum values")]
const fn add_count(sum: &mut u64, count: &u64) {
    *sum += *count;
}

/// Removes the keys that may go, and keeps their counts. `zero` and `add` sum the values of the CPUs.
fn make_room<K: Pod + Eq + Hash, V: Pod + PartialEq>(
    map: &mut PerCpuHashMap<MapData, K, V>,
    retired: &mut Retired<K, V>,
    (zero, add): (V, impl Fn(&mut V, &V) + Copy),
    may_go: impl Fn(&K) -> bool,
) -> Result<(), MapError> {
    let capacity = map.map().info()?.max_entries() as usize;
    // Without a read of the values, which are as many as CPUs.
    if map.keys().take_while(Result::is_ok).count() * 8 < capacity {
        retired.forget_before();
        return Ok(());
    }
    let entries = sums(map, zero, add)?;
    for key in retired.removable(&entries, may_go) {
        let mut last = zero;
        map.get(&key, 0)?.iter().for_each(|value| add(&mut last, value));
        map.remove(&key)?;
        retired.keep(key, last, add);
    }
    Ok(())
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
