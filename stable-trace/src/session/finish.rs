//! The end of a run: detach, stream what is left, count everything.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{Ebpf, maps::MapError, programs::Program};
use rustix::{
    thread::{MembarrierCommand, membarrier},
    time::{ClockId, clock_gettime},
};
use stable_trace_common::{
    counter::Counter,
    histogram::{Histogram, HistogramKey},
    record::StallRecord,
    waiter::ASLEEP,
};

use super::{
    stream::Stream,
    tracer::{Tracer, tell},
};
use crate::{
    correlate::tally::Tally,
    event::{Event, Summary},
};

impl Tracer {
    /// Detaches, streams what is left, and counts everything.
    ///
    /// # Errors
    /// What the writer says, as an I/O error; the kernel refused a map.
    pub fn finish(mut self, stream: &mut Stream) -> Result<Summary, FinishError> {
        let elapsed = self.since.elapsed();
        let bpf_cpu_ns = bpf_cpu_ns(&self.attached.ebpf);
        let probe_runs_missed = missed(&self.attached.ebpf);
        detach(&mut self.attached.ebpf);
        while self.drain(stream)? {}
        self.tick(stream)?;

        let mut tally = Tally::default();
        for (key, histogram) in self.collector.histograms()? {
            self.count(&key, &histogram, &mut tally);
        }
        let mut below = self.collector.counter(Counter::BelowThreshold)?;
        // Tasks that ran on but have not stopped since: their waits are over, and nobody else
        // counts them now that the programs are gone.
        let mut unfinished = 0;
        let mut without_sleep = self.collector.counter(Counter::WithoutSleep)?;
        for waiter in self.collector.waiters()? {
            match waiter.phase {
                ASLEEP => unfinished += 1,
                // Has not stopped running, so no stall.
                _ if waiter.end_ns == 0 => without_sleep += 1,
                _ => below += self.conclude(&waiter.to_record(), &mut tally, stream)?,
            }
        }
        Ok(Summary {
            elapsed_ns: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),
            counts: stream.counts(),
            stalls_total: tally.total(),
            stalls: tally.summaries(),
            stalls_below_threshold: below,
            waits_repeated: self.collector.counter(Counter::Repeated)?,
            waits_unfinished: unfinished,
            waits_without_sleep: without_sleep,
            events_lost: self.collector.counter(Counter::Lost)?,
            records_malformed: self.malformed,
            map_failures: self.map_failures()?,
            probe_runs_missed,
            agent_cpu_ns: own_cpu_ns(),
            bpf_cpu_ns,
            workload: None,
        })
    }

    /// Adds a kernel histogram to the place that its stack and its device name.
    fn count(&mut self, key: &HistogramKey, histogram: &Histogram, tally: &mut Tally) {
        let identity = self.identities.get(&key.bdi);
        if !identity.wanted {
            return;
        }
        let context = self.stacks.get(key.stack).meaning.context;
        let device = identity.backing.as_ref().map(|backing| backing.device.clone());
        let fs = identity.backing.as_ref().and_then(|backing| backing.fs.clone());
        tally.add((context, device, fs), histogram);
    }

    /// Counts and streams the wait of a task that is awake but was not seen to stop again. Returns
    /// how many of it were below the threshold: 0 or 1.
    fn conclude(
        &mut self,
        record: &StallRecord,
        tally: &mut Tally,
        stream: &mut Stream,
    ) -> Result<u64, FinishError> {
        let mut histogram = Histogram::EMPTY;
        histogram.record(record.duration_ns);
        self.count(&HistogramKey { bdi: record.bdi, stack: record.stack }, &histogram, tally);
        if record.duration_ns < self.min_latency_ns {
            return Ok(1);
        }
        let stall = tell(
            record,
            &mut self.stacks,
            &mut self.identities,
            self.show_stacks,
            &self.wait_function,
        );
        if let Some(stall) = stall {
            stream.at(record.end_ns, Event::Stall(stall))?;
        }
        Ok(0)
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
        ] {
            let count = self.collector.counter(counter)?;
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

/// Runs that the kernel skipped because the CPU was running a program already, by program
/// (`recursion_misses` of `bpf_prog_show_fdinfo`, kernel/bpf/syscall.c, from 5.12 on).
fn missed(ebpf: &Ebpf) -> BTreeMap<String, u64> {
    let runs = ebpf.programs().filter_map(|(name, program)| {
        let fd = program.fd().ok()?.as_fd().as_raw_fd();
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        let misses = info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
        Some((name.to_owned(), misses.trim().parse().ok()?))
    });
    runs.collect()
}

/// Detaches every program, and waits until none of them runs any more.
fn detach(ebpf: &mut Ebpf) {
    for (name, program) in ebpf.programs_mut() {
        let outcome = match program {
            Program::TracePoint(program) => program.unload(),
            Program::RawTracePoint(program) => program.unload(),
            _ => continue,
        };
        if let Err(error) = outcome {
            // One that was never loaded has nothing to unload.
            log::debug!("{name}: {error}");
        }
    }
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
