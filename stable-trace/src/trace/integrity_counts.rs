//! The kernel's counts of integrity errors.

use std::collections::BTreeMap;

use aya::maps::MapError;
use stable_trace_analysis::event::IntegritySummary;

use super::tracer::Tracer;
use crate::{
    enrich::integrity::{check, disk_number, operation, source},
    metrics::snapshot::IntegrityCount,
};

impl Tracer {
    /// The integrity errors of all devices, summed over kernel keys of the same name.
    pub(super) fn integrity_errors(&mut self) -> Result<Vec<IntegritySummary>, MapError> {
        let mut sums: BTreeMap<_, u64> = BTreeMap::new();
        for IntegrityCount { device, op, check, source, count, .. } in self.integrity_counts()? {
            *sums.entry((device, op, check, source)).or_default() += count;
        }
        let lines = sums.into_iter().map(|((device, op, check, source), count)| IntegritySummary {
            device,
            op,
            check,
            source,
            count,
        });
        Ok(lines.collect())
    }

    /// The integrity errors of all devices, one entry a key of the kernel's map.
    pub(super) fn integrity_counts(&mut self) -> Result<Vec<IntegrityCount>, MapError> {
        let mut all = Vec::new();
        for (key, count) in self.counters.integrity_errors()? {
            let disk = self.enricher.identities.disk(disk_number(&key));
            let (op, check, source) = (operation(&key), check(&key), source(&key, &disk));
            let device = disk.device.clone();
            all.push(IntegrityCount { key, device, op, check, source, count });
        }
        Ok(all)
    }
}
