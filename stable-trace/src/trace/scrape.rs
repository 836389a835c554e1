//! One look at everything, for a scrape.

use std::collections::BTreeMap;

use aya::maps::MapError;
use stable_trace_analysis::{
    correlate::verdict::tally::VerdictTally,
    event::{ModeCount, VerdictSummary, Workload, WorkloadState},
};
use stable_trace_common::process::ProcessKey;

use super::tracer::Tracer;
use crate::{
    collect::map_fill::MapFill,
    enrich::{
        decode::name,
        identity::{Identity, Location},
        unstable_write_context, unstable_write_grade,
    },
    metrics::snapshot::{
        Place, ProcessTime, Program, Snapshot, Stalls, UnstableCount, VerdictCount,
    },
};

/// What the paired workload did so far, over all of its profiles.
#[derive(Debug, Default)]
pub struct Workloads {
    finished: BTreeMap<(String, String), ModeCount>,
    current: BTreeMap<(String, String), ModeCount>,
}

impl Workloads {
    /// Takes the workload's last word.
    pub fn hear(&mut self, workload: &Workload) {
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

    /// The sums, by profile and mode.
    fn sums(&self) -> BTreeMap<(String, String), ModeCount> {
        let mut sums = self.finished.clone();
        for (key, counts) in &self.current {
            sums.entry(key.clone()).or_default().add(counts);
        }
        sums
    }
}

impl Tracer {
    /// Reads everything that a scrape shows, but for what the endpoint reads itself: the devices and
    /// the agent's own process.
    ///
    /// # Errors
    /// The kernel refused to read a map.
    pub fn snapshot(
        &mut self,
        workloads: &Workloads,
        verdicts: &VerdictTally,
    ) -> Result<Snapshot, MapError> {
        let lost = self.lost()?;
        let stalls = self.stalls()?;
        let maps = self.fills();
        let mounted = self.enricher.identities.mounted().into_iter();
        Ok(Snapshot {
            places: mounted
                .map(|(device, fs)| Place { device: Some(device), fs: Some(fs) })
                .collect(),
            processes: self.processes()?,
            unstable: self.unstable_counts()?,
            integrity: self.integrity_counts()?,
            verdicts: verdict_counts(verdicts),
            probes: self.attached.probes(),
            missed: self.attached.missed(),
            events_received: self.ring.received(),
            events_lost: lost,
            programs: self.programs(),
            workload: workloads.sums(),
            stalls,
            maps,
            ..Snapshot::default()
        })
    }

    fn stalls(&mut self) -> Result<Vec<Stalls>, MapError> {
        let mut all = Vec::new();
        for (key, histogram) in self.counters.histograms()? {
            let identity = self.enricher.identities.get(&key.backing);
            if identity.selected {
                let context = self.enricher.stacks.get(key.stack).reason.context;
                all.push(Stalls { key, context, place: named(&identity), histogram });
            }
        }
        Ok(all)
    }

    fn processes(&mut self) -> Result<Vec<ProcessTime>, MapError> {
        let mut all = Vec::new();
        for (key, stalls) in self.counters.processes()? {
            let common = key == ProcessKey::COMMON;
            all.push(ProcessTime {
                key,
                comm: (!common).then(|| name(&key.comm)),
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
            if identity.selected {
                let (context, grade) =
                    (unstable_write_context(&key), unstable_write_grade(&key, &identity));
                all.push(UnstableCount { key, context, grade, place: named(&identity), count });
            }
        }
        Ok(all)
    }

    /// What each loaded program costs; nothing where the kernel does not time them.
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

    /// How full the maps are that only fill up, and the ring buffer. Maps whose entries come and go
    /// are left out: walking one that changes may begin anew at any step.
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

fn named(identity: &Identity) -> Place {
    let Location { device, fs, .. } = identity.location();
    Place { device, fs }
}
