//! Reads a snapshot of all counters for a scrape.

use std::collections::BTreeMap;

use aya::maps::MapError;
use stable_trace_analysis::{
    correlate::verdict::tally::VerdictTally,
    event::{ModeCount, Output, VerdictSummary, Workload, WorkloadState},
};
use stable_trace_common::{counter::Counter, process::ProcessKey};

use super::tracer::Tracer;
use crate::{
    collect::map_fill::MapFill,
    enrich::{
        decode::name,
        identity::{Identity, Location},
        unstable_write_context, unstable_write_grade,
    },
    metrics::snapshot::{
        DeviceFs, ProcessTime, Program, ProofCount, Snapshot, Stalls, UnstableCount, VerdictCount,
    },
};

/// Operations of the paired workload so far, by profile and mode.
#[derive(Debug, Default)]
pub(super) struct WorkloadCounts {
    finished: BTreeMap<(String, String), ModeCount>,
    /// Of the run that is under way.
    current: BTreeMap<(String, String), ModeCount>,
}

impl WorkloadCounts {
    /// Takes the latest counters that the workload reported.
    pub(super) fn observe(&mut self, workload: &Workload) {
        let modes = workload.modes.iter();
        self.current = modes
            .map(|(mode, counts)| ((workload.profile.clone(), mode.clone()), counts.clone()))
            .collect();
        if workload.state == WorkloadState::Finished {
            for (key, counts) in std::mem::take(&mut self.current) {
                self.finished.entry(key).or_default().add(&counts);
            }
        }
    }

    fn sums(&self) -> BTreeMap<(String, String), ModeCount> {
        let mut sums = self.finished.clone();
        for (key, counts) in &self.current {
            sums.entry(key.clone()).or_default().add(counts);
        }
        sums
    }
}

impl Tracer {
    /// Reads all counters of the run. The endpoint itself adds the devices and the metrics of the
    /// agent's process.
    pub(super) fn snapshot(
        &mut self,
        workload: &WorkloadCounts,
        verdicts: &VerdictTally,
        outputs_lost: BTreeMap<Output, u64>,
    ) -> Result<Snapshot, MapError> {
        let lost = self.lost()?;
        let stalls = self.stalls()?;
        let maps = self.fills();
        let mounted = self.enricher.identities.mounted().iter();
        let mounted = mounted
            .map(|(device, fs)| DeviceFs { device: Some(device.clone()), fs: Some(fs.clone()) })
            .collect();
        Ok(Snapshot {
            uptime: self.attached_at.elapsed(),
            mounted,
            waiting: self.waiting_tasks()?,
            processes: self.processes()?,
            unstable: self.unstable_counts()?,
            integrity: self.integrity_counts()?,
            verdicts: verdict_counts(verdicts),
            proofs: proof_counts(verdicts),
            probes: self.attached.probes(),
            missed: self.attached.missed(),
            events_received: self.received,
            events_lost: lost,
            outputs_lost,
            integrity_repeated: self.counters.counter(Counter::IntegrityRepeated)?,
            evidence_skipped: self.evidence_skipped()?,
            stack_walks: self.counters.counter(Counter::StacksWalked)?,
            programs: self.programs(),
            workload: workload.sums(),
            stalls,
            maps,
            map_bytes: self.map_bytes.clone(),
            ..Snapshot::default()
        })
    }

    fn stalls(&mut self) -> Result<Vec<Stalls>, MapError> {
        let mut all = Vec::new();
        for (key, histogram) in self.counters.histograms()? {
            let identity = self.enricher.identities.get(&key.backing);
            if identity.selected {
                let context = self.enricher.stacks.get(key.stack).reason.context;
                all.push(Stalls { key, context, device_fs: device_fs(&identity), histogram });
            }
        }
        Ok(all)
    }

    fn processes(&mut self) -> Result<Vec<ProcessTime>, MapError> {
        let mut all = Vec::new();
        for (key, stalls) in self.counters.processes()? {
            let common = key == ProcessKey::OVERFLOW;
            let cgroup = self.label_cgroup.then(|| {
                let found = self.enricher.cgroups.get(key.cgroup_id);
                found.and_then(|cgroup| cgroup.path.clone()).unwrap_or_default()
            });
            all.push(ProcessTime {
                key,
                name: (!common).then(|| name(&key.process).into()),
                cgroup: cgroup.map(Into::into),
                context: self.enricher.stacks.get(key.stack).reason.context,
                sum_ns: stalls.sum_ns,
            });
        }
        Ok(all)
    }

    fn unstable_counts(&mut self) -> Result<Vec<UnstableCount>, MapError> {
        let mut all = Vec::new();
        for (key, count) in self.counters.unstable_writes()? {
            let identity = self.enricher.identities.get(&key.backing);
            if identity.shows_unstable_writes() {
                let (context, grade) =
                    (unstable_write_context(&key), unstable_write_grade(&key, &identity));
                all.push(UnstableCount {
                    key,
                    context,
                    grade,
                    device_fs: device_fs(&identity),
                    count,
                });
            }
        }
        Ok(all)
    }

    /// The run time of each loaded program; empty where the kernel does not measure it.
    fn programs(&self) -> Vec<Program> {
        if self.attached.statistics.is_none() {
            return Vec::new();
        }
        let infos = self.attached.ebpf.programs();
        let programs = infos.filter_map(|(name, program)| {
            let info = program.info().ok()?;
            Some(Program {
                name: name.to_owned(),
                run_ns: u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX),
                runs: info.run_count(),
            })
        });
        programs.collect()
    }

    /// The fill of the ring buffer and of the maps that only grow. Other maps are left out: an
    /// iteration may restart at any step while entries are removed.
    fn fills(&self) -> Vec<MapFill> {
        let mut fills = self.counters.fills();
        fills.extend(self.enricher.stacks.fill());
        fills.extend(self.ring.unread_bytes().map(|entries| MapFill {
            name: "EVENTS".to_owned(),
            entries,
            capacity: self.ring_bytes,
        }));
        fills
    }
}

fn verdict_counts(tally: &VerdictTally) -> Vec<VerdictCount> {
    let lines = tally.summaries().into_iter();
    lines
        .map(|VerdictSummary { device, cause, count }| VerdictCount { device, cause, count })
        .collect()
}

fn proof_counts(tally: &VerdictTally) -> Vec<ProofCount> {
    let proofs = tally.proofs().filter(|(.., count)| *count > 0);
    proofs
        .map(|(device, kind, count)| ProofCount { device: device.map(str::to_owned), kind, count })
        .collect()
}

fn device_fs(identity: &Identity) -> DeviceFs {
    let Location { device, fs, .. } = identity.location();
    DeviceFs { device: device.map(Into::into), fs: fs.map(Into::into) }
}
