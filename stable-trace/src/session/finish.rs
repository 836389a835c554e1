//! The end of a run: detach, stream what is left, count everything.

use std::{collections::BTreeMap, io};

use aya::{Ebpf, maps::MapError, programs::Program};
use rustix::{
    process::{Rusage, getrusage, RusageWho},
    thread::{MembarrierCommand, membarrier},
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
        let (bpf_cpu_ns, probe_runs_missed) = program_costs(&self.attached.ebpf);
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
        for waiter in self.collector.waiters()? {
            match waiter.phase {
                ASLEEP => unfinished += 1,
                // Never stopped running, so no stall.
                _ if waiter.end_ns == 0 => {}
                _ => below += self.conclude(&waiter.to_record(), &mut tally, stream)?,
            }
        }
        Ok(Summary {
            elapsed_ns: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),
            counts: stream.counts(),
            stalls_total: tally.total(),
            stalls: tally.summaries(),
            stalls_below_threshold: below,
            waits_unfinished: unfinished,
            waits_without_sleep: self.collector.counter(Counter::WithoutSleep)?,
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


/// CPU time of the programs in ns, and the runs that the kernel skipped because one was already
/// running on that CPU (`recursion_misses` of `bpf_prog_info`, which aya does not hand out: a
/// tracepoint program cannot recurse into itself here, so there is nothing to read yet).
fn program_costs(ebpf: &Ebpf) -> u64 {
    let infos = ebpf.programs().filter_map(|(_, program)| program.info().ok());
    let times = infos.map(|info| u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX));
    times.sum()
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
    let Rusage { ru_utime, ru_stime, .. } = getrusage(RusageWho::Self_);
    let ns = |seconds: i64, microseconds: i64| {
        u64::try_from(seconds * 1_000_000_000 + microseconds * 1_000).unwrap_or(0)
    };
    ns(ru_utime.tv_sec, ru_utime.tv_usec) + ns(ru_stime.tv_sec, ru_stime.tv_usec)
}
