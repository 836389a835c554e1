//! The end of a run: detach, emitter what is left, count everything.

use std::{collections::BTreeMap, io};

use aya::{Ebpf, maps::MapError};
use rustix::{
    thread::{MembarrierCommand, membarrier},
    time::{ClockId, clock_gettime},
};
use stable_trace_analysis::{
    correlate::tally::Tally,
    event::{Context, Grade, Summary, UnstableSummary},
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
    /// Detaches, streams what is left, and counts everything.
    ///
    /// # Errors
    /// What the writer says, as an I/O error; the kernel refused a map.
    pub fn finish(mut self, emitter: &mut Emitter) -> Result<Summary, FinishError> {
        let elapsed = self.since.elapsed();
        let bpf_cpu_ns = bpf_cpu_ns(&self.attached.ebpf);
        let probe_runs_missed = self.attached.missed();
        self.attached.detach();
        wait_for_programs();
        while self.drain(emitter)? {}
        // Not `tick`, which would attach what a module loaded just now has.
        self.report(emitter)?;

        let mut tally = Tally::default();
        for (key, histogram) in self.counters.histograms()? {
            self.count(&key, &histogram, &mut tally);
        }
        let mut below = self.counters.counter(Counter::BelowThreshold)?;
        // Tasks that ran on but have not stopped since: their waits are over, and nobody else
        // counts them now that the programs are gone.
        let mut unfinished = 0;
        let mut without_sleep = self.counters.counter(Counter::WithoutSleep)?;
        let returns = self.attached.probes_returns();
        for waiter in self.counters.waiters()? {
            match waiter.phase {
                ASLEEP => unfinished += 1,
                // Whoever has returned is no longer in the map.
                _ if returns => unfinished += 1,
                // Has not stopped running, so no stall.
                _ if waiter.end_ns == 0 => without_sleep += 1,
                _ => below += self.conclude(&waiter.to_record(), &mut tally, emitter)?,
            }
        }
        let integrity_errors = self.integrity_errors()?;
        emitter.finish()?;
        let mut summary = Summary {
            elapsed_ns: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),
            counts: emitter.counts(),
            stalls_total: tally.total(),
            stalls: tally.summaries(),
            unstable_writes: self.unstable_writes()?,
            unstable_writes_unstreamed: self.counters.counter(Counter::UnstableHarmless)?,
            integrity_errors_total: integrity_errors.iter().map(|line| line.count).sum(),
            integrity_errors,
            // The emitter's engine has these.
            verdicts: Vec::new(),
            associations: Vec::new(),
            stalls_below_threshold: below,
            waits_repeated: self.counters.counter(Counter::Repeated)?,
            waits_unfinished: unfinished,
            waits_without_sleep: without_sleep,
            events_lost: self.lost()?,
            records_malformed: self.malformed,
            map_failures: self.map_failures()?,
            probe_runs_missed,
            agent_cpu_ns: own_cpu_ns(),
            bpf_cpu_ns,
            workload: None,
            workload_errors: Vec::new(),
            incomplete: false,
        };
        emitter.sum_up(&mut summary);
        Ok(summary)
    }

    /// Adds a kernel histogram to the place that its stack and its device name.
    fn count(&mut self, key: &HistogramKey, histogram: &Histogram, tally: &mut Tally) {
        let identity = self.enricher.identities.get(&key.backing);
        if !identity.selected {
            return;
        }
        let context = self.enricher.stacks.get(key.stack).reason.context;
        let Location { device, fs, .. } = identity.location();
        tally.add((context, device, fs), histogram);
    }

    /// Counts and streams the wait of a task that is awake but was not seen to stop again. Returns
    /// how many of it were below the threshold: 0 or 1.
    fn conclude(
        &mut self,
        record: &StallRecord,
        tally: &mut Tally,
        emitter: &mut Emitter,
    ) -> Result<u64, FinishError> {
        let mut histogram = Histogram::EMPTY;
        histogram.record(record.duration_ns);
        self.count(
            &HistogramKey { backing: record.backing, stack: record.stack },
            &histogram,
            tally,
        );
        if record.duration_ns < self.min_latency_ns {
            return Ok(1);
        }
        if let Some(stall) = self.enricher.stall(record) {
            emitter.at(MonotonicTime::from_ns(record.end_ns), stall)?;
        }
        Ok(0)
    }

    /// Every count of unstable writes, by where and what it means.
    fn unstable_writes(&mut self) -> Result<Vec<UnstableSummary>, MapError> {
        let mut sums: BTreeMap<(Context, Grade, _, _), u64> = BTreeMap::new();
        for (key, count) in self.counters.unstable_writes()? {
            let identity = self.enricher.identities.get(&key.backing);
            if identity.selected {
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
            device,
            fs,
            count,
        });
        Ok(lines.collect())
    }

    /// What kernel maps had no room for, by what was missed.
    fn map_failures(&self) -> Result<BTreeMap<String, u64>, MapError> {
        let mut failures = BTreeMap::new();
        for (counter, what) in [
            (Counter::WaitersFull, "a wait was not followed"),
            (Counter::StacksFull, "a stall counts as other: its stack was not kept"),
            (Counter::StackFailed, "a stack could not be walked"),
            (Counter::HistogramsFull, "a stall counts without its device"),
            (Counter::Uncounted, "a stall was not counted"),
            (Counter::UnstableFull, "an unstable write was not counted, or counted twice"),
            (Counter::FaultsFull, "a write fault was not followed"),
            (Counter::ReturnsMissed, "the end of a wait was not seen"),
            (Counter::IntegrityFull, "an integrity error was not counted"),
            (Counter::FailedFull, "a device above may count an integrity error once more"),
            (Counter::SubmittersFull, "an integrity error may lack who submitted it, or its check"),
        ] {
            let count = self.counters.counter(counter)?;
            if count > 0 {
                failures.insert(what.to_owned(), count);
            }
        }
        Ok(failures)
    }
}

/// Why a run has no end.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// The writer's.
    #[error(transparent)]
    Write(#[from] io::Error),
    /// The kernel's.
    #[error("the counts cannot be read: {0}")]
    Map(#[from] MapError),
}

/// CPU time of the programs in ns.
fn bpf_cpu_ns(ebpf: &Ebpf) -> u64 {
    let infos = ebpf.programs().filter_map(|(_, program)| program.info().ok());
    infos.map(|info| u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX)).sum()
}

/// Waits until no program that was detached runs any more.
fn wait_for_programs() {
    // A closed link starts no more programs, but one may be running still. The programs run under
    // RCU, and this call waits for every reader that began before it (`synchronize_rcu` in
    // sys_membarrier, kernel/sched/membarrier.c, 6.12).
    if let Err(error) = membarrier(MembarrierCommand::Global) {
        log::debug!("no RCU grace period to wait for ({error}): the last stall may be missing");
    }
}

/// CPU time of this process so far, user and system, in ns.
fn own_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let ns = time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec);
    u64::try_from(ns).unwrap_or(0)
}
