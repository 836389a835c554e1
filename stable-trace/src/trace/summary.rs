//! The end of a run: detaches, streams the rest of the ring, and builds the summary.

use std::collections::BTreeMap;

use aya::{Ebpf, maps::MapError};
use rustix::{
    thread::{MembarrierCommand, membarrier},
    time::{ClockId, clock_gettime},
};
use stable_trace_analysis::{
    correlate::tally::Tally,
    event::{Context, Event, Grade, Summary, UnstableSummary, WaitsFiltered},
    units::MonotonicTime,
};
use stable_trace_common::{
    counter::Counter,
    histogram::{Histogram, HistogramKey},
    record::StallRecord,
    waiter::ASLEEP,
};

use super::{emitter::Emitter, tracer::Tracer};
use crate::enrich::{identity::Location, unstable_write_context, unstable_write_grade};

impl Tracer {
    /// Detaches the probes, streams the rest of the ring, and builds the summary.
    pub(super) fn finish(mut self, emitter: &mut Emitter) -> Result<Summary, FinishError> {
        let elapsed = self.attached_at.elapsed();
        let bpf_cpu_ns = bpf_cpu_ns(&self.attached.ebpf);
        let probe_runs_missed = self.attached.missed();
        self.attached.detach();
        wait_for_programs();
        while self.drain(emitter) {
            emitter.outputs().await_room();
        }
        // Before the verdicts, which rest on them. Not `tick`, which would attach the probes of a module that was
        // loaded just now.
        self.report_losses(emitter);
        self.report_unseen_writes(emitter);

        let mut tally = Tally::default();
        // The programs leave out what the agent has decided on by then.
        let mut other_devices = self.counters.counter(Counter::OtherDevices)?;
        for (key, histogram) in self.counters.histograms()? {
            other_devices += self.count(&key, &histogram, &mut tally);
        }
        let mut below = self.counters.counter(Counter::BelowThreshold)?;
        // A task that runs again and has not blocked since: its wait is over, and the detached
        // programs no longer count it.
        let mut unfinished = 0;
        let mut without_sleep = self.counters.counter(Counter::WithoutSleep)?;
        let returns = self.attached.probes_returns();
        for waiter in self.counters.waiters()? {
            match waiter.phase {
                ASLEEP => unfinished += 1,
                // The return probe removes a wait from the map when it ends, or writes down when that was.
                _ if returns && waiter.end_ns == 0 => unfinished += 1,
                // The task never slept, so there was no stall.
                _ if waiter.end_ns == 0 => without_sleep += 1,
                _ => {
                    let record = StallRecord::from_waiter(&waiter);
                    let left_out = self.count_ended_wait(&record, &mut tally, emitter);
                    below += left_out.below_threshold;
                    other_devices += left_out.other_devices;
                }
            }
        }
        let waiting = self.longest_waits()?;
        let integrity_errors = self.integrity_errors()?;
        emitter.emit_remaining_verdicts();
        emitter.settle_outputs();
        let mut summary = Summary {
            elapsed_ns: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),
            counts: emitter.counts(),
            stalls_total: tally.total(),
            stalls: tally.summaries(),
            unstable_writes: self.unstable_writes()?,
            unstable_writes_unstreamed: self.counters.counter(Counter::UnstableHarmless)?,
            integrity_errors_total: integrity_errors.iter().map(|line| line.count).sum(),
            integrity_errors,
            evidence_skipped: self.evidence_skipped()?,
            // `complete_summary` fills these in.
            verdicts: Vec::new(),
            associations: Vec::new(),
            stalls_below_threshold: below,
            waits_repeated: self.counters.counter(Counter::Repeated)?,
            waits_unfinished: unfinished,
            waiting,
            waits_without_sleep: without_sleep,
            waits_filtered: self.waits_filtered(other_devices)?,
            events_lost: self.lost()?,
            outputs_lost: emitter.outputs().lost_after_next(),
            records_malformed: self.malformed,
            map_failures: self.map_failures()?,
            probe_runs_missed,
            agent_cpu_ns: process_cpu_ns(),
            bpf_cpu_ns,
            workload: None,
            workload_errors: Vec::new(),
            incomplete: false,
        };
        emitter.complete_summary(&mut summary);
        Ok(summary)
    }

    /// The waits that the filters left out; `None` without filters.
    fn waits_filtered(&self, devices: u64) -> Result<Option<WaitsFiltered>, MapError> {
        let Some(scope) = self.scope.clone() else { return Ok(None) };
        let tasks = self.counters.counter(Counter::OtherTasks)?;
        Ok(Some(WaitsFiltered { scope, tasks, devices }))
    }

    /// Adds a kernel histogram to the tally of its context, device and file system. Returns how many
    /// stalls `--device` leaves out.
    fn count(&mut self, key: &HistogramKey, histogram: &Histogram, tally: &mut Tally) -> u64 {
        let identity = self.enricher.identities.get(&key.backing);
        if !identity.selected {
            return histogram.count();
        }
        let context = self.enricher.stacks.get(key.stack).reason.context;
        let Location { device, fs, .. } = identity.location();
        tally.add((context, device.map(Into::into), fs.map(Into::into)), histogram);
        0
    }

    /// Counts and streams a wait that has ended but was not yet counted by the programs.
    fn count_ended_wait(
        &mut self,
        record: &StallRecord,
        tally: &mut Tally,
        emitter: &mut Emitter,
    ) -> LeftOut {
        let mut histogram = Histogram::EMPTY;
        histogram.record(record.duration_ns);
        let other_devices = self.count(
            &HistogramKey { backing: record.backing, stack: record.stack },
            &histogram,
            tally,
        );
        if record.duration_ns < self.min_latency_ns {
            return LeftOut { below_threshold: 1, other_devices };
        }
        if let Some(stall) = self.enricher.stall(record) {
            emitter.emit_at(MonotonicTime::from_ns(record.end_ns), Event::Stall(stall));
        }
        LeftOut { below_threshold: 0, other_devices }
    }

    /// The unstable writes by context, grade, device and file system.
    fn unstable_writes(&mut self) -> Result<Vec<UnstableSummary>, MapError> {
        let mut sums: BTreeMap<(Context, Grade, _, _), u64> = BTreeMap::new();
        for (key, count) in self.counters.unstable_writes()? {
            let identity = self.enricher.identities.get(&key.backing);
            if identity.shows_unstable_writes() {
                let Location { device, fs, .. } = identity.location();
                let sum = sums.entry((
                    unstable_write_context(&key),
                    unstable_write_grade(&key, &identity),
                    device,
                    fs,
                ));
                *sum.or_default() += count;
            }
        }
        let lines = sums.into_iter().map(|((context, grade, device, fs), count)| UnstableSummary {
            context,
            grade,
            device: device.map(Into::into),
            fs: fs.map(Into::into),
            count,
        });
        Ok(lines.collect())
    }

    /// Failed updates of kernel maps, by consequence. The texts are keys of the JSON summary.
    fn map_failures(&self) -> Result<BTreeMap<String, u64>, MapError> {
        let mut failures = BTreeMap::new();
        for counter in Counter::ALL {
            let Some(loss) = counter.loss() else { continue };
            let count = self.counters.counter(*counter)?;
            if count > 0 {
                failures.insert(loss.to_owned(), count);
            }
        }
        Ok(failures)
    }
}

/// How many of one wait are not streamed: 0 or 1.
struct LeftOut {
    below_threshold: u64,
    other_devices: u64,
}

/// Why a run has no summary.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the counters of the eBPF programs")]
pub(super) struct FinishError(#[from] MapError);

/// CPU time of all eBPF programs in ns.
fn bpf_cpu_ns(ebpf: &Ebpf) -> u64 {
    let infos = ebpf.programs().filter_map(|(_, program)| program.info().ok());
    infos.map(|info| u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX)).sum()
}

/// Waits until no detached program is running.
fn wait_for_programs() {
    // A closed link starts no more programs, but one may still be running. Programs run under RCU,
    // and this call waits for every reader that began before it (`synchronize_rcu` in
    // sys_membarrier, kernel/sched/membarrier.c, 6.12).
    if let Err(error) = membarrier(MembarrierCommand::Global) {
        log::debug!("cannot wait for an RCU grace period, the last stall may be missing: {error}");
    }
}

/// CPU time of this process so far, user and system, in ns.
fn process_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let ns = time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec);
    u64::try_from(ns).unwrap_or(0)
}
