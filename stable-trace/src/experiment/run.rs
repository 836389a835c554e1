//! One run: mount, rewrite, count, unmount.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use stable_trace_analysis::{
    event::{Context, Line, WorkloadState},
    sink::EventSink,
};
use stable_trace_common::histogram::Histogram;
use tokio::time::{MissedTickBehavior, interval};

use super::{
    args::ExperimentArgs,
    block_target::BlockTarget,
    change::Change,
    error::ExperimentError,
    plan::{Arm, Case},
    process::Process,
    stable_writes,
    undo_journal::UndoJournal,
};
use crate::{
    trace::{
        emitter::Emitter,
        tracer::{Tracer, TracerError},
    },
    workload::child::{Child, Message},
};

/// How often the ring and the signals are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What one run came to.
#[derive(Clone, Debug)]
pub struct Run {
    /// Writes with their sync, a second.
    pub operations_per_second: f64,
    /// Failed calls by errno name.
    pub errors: BTreeMap<String, u64>,
    /// Waits for a stable page on the device.
    pub stalls: Histogram,
    /// Failed checks of protection information, on whichever device.
    pub integrity_errors: u64,
}

/// All that a run needs.
pub struct Bench<'a> {
    /// The user's options.
    pub args: &'a ExperimentArgs,
    /// This program, which is the workload as well.
    pub program: PathBuf,
    /// Where the device is.
    pub target: BlockTarget,
    /// Where changes are written down.
    pub journal: &'a mut UndoJournal,
    /// Attached from the first run to the last: it costs the same in both arms.
    pub tracer: Tracer,
    /// Where its lines go.
    pub stream: Emitter,
    /// Set by a signal.
    pub told_to_end: Arc<AtomicBool>,
}

impl Bench<'_> {
    /// Runs a case for so long, with the switch in that position, if it can be in any.
    ///
    /// # Errors
    /// What keeps it from being done to the end; what was changed is in the journal.
    pub async fn run(
        &mut self,
        case: Case,
        position: Option<Arm>,
        duration: Duration,
    ) -> Result<Run, ExperimentError> {
        // Before the mount, which is when file systems look at it.
        if let Some(arm) = position {
            stable_writes::set(&self.target.disk.name, arm)?;
        }
        let before = self.journal.len();
        let point = self.journal.mount_point();
        self.target.mount(self.journal, case.fs, &point)?;
        let run = self.rewrite(case, point, duration).await?;
        self.journal.take_back_to(before)?;
        Ok(run)
    }

    async fn rewrite(
        &mut self,
        case: Case,
        point: PathBuf,
        duration: Duration,
    ) -> Result<Run, ExperimentError> {
        self.drain()?;
        let (stall_counts, failed) = (self.tracer.stall_counts()?, self.tracer.checks_failed()?);
        let wac = ExperimentArgs { duration, ..self.args.clone() };
        let wac = wac.wac(case.profile.name(), case.file_size, point);
        let mut child = Child::spawn(&self.program, &wac, true)?;
        if let Some(process) = child.pid().and_then(Process::of) {
            self.journal.enter(Change::Workload { process }).map_err(|source| {
                ExperimentError::File {
                    doing: "write the journal for",
                    path: self.program.clone(),
                    source,
                }
            })?;
        }
        let mut last = None;
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = child.next() => match message? {
                    Some(Message::Event { workload, .. }) => last = Some(workload),
                    Some(Message::Malformed(line)) => log::warn!("the workload said: {line}"),
                    None => break,
                },
                readable = self.tracer.readable() => readable?,
                _ = look.tick() => {}
            }
            self.drain()?;
            if self.told_to_end.load(Relaxed) {
                return Err(ExperimentError::Interrupted);
            }
        }
        let status = child.wait().await?;
        self.drain()?;
        // A Ctrl-C reaches the workload as well, which then ends well and too early.
        if self.told_to_end.load(Relaxed) {
            return Err(ExperimentError::Interrupted);
        }
        let finished = last.filter(|last| last.state == WorkloadState::Finished);
        let Some(finished) = finished.filter(|_| status.success()) else {
            return Err(ExperimentError::Ended(status));
        };
        let stalls = self.tracer.stalls_since(&stall_counts, self.target.dev())?;
        let mut stable = Histogram::EMPTY;
        for context in [Context::WriteBegin, Context::PageMkwrite] {
            stable.merge(stalls.get(&context).unwrap_or(&Histogram::EMPTY));
        }
        let elapsed = finished.elapsed_ns.map_or(duration, Duration::from_nanos).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a count of operations is below 2^53")]
        let operations = finished.operations as f64;
        Ok(Run {
            operations_per_second: operations / elapsed,
            errors: finished.errors,
            stalls: stable,
            integrity_errors: self.tracer.checks_failed()?.saturating_sub(failed),
        })
    }

    /// Empties the ring.
    fn drain(&mut self) -> Result<(), ExperimentError> {
        let Self { tracer, stream, .. } = self;
        let drained = (|| -> io::Result<()> {
            while tracer.drain(stream)? {}
            tracer.tick(stream)
        })();
        drained.map_err(|error| TracerError::Ring(error).into())
    }
}

/// Passes over all that is streamed: what matters here is counted in the kernel.
pub struct Nowhere;

impl EventSink for Nowhere {
    fn line(&mut self, _: &Line) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
