//! One run: mount the file system, run the workload, read the counters, unmount.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use stable_trace_analysis::event::{Context, WorkloadState};
use stable_trace_common::histogram::Histogram;
use tokio::time::{MissedTickBehavior, interval};

use super::{
    args::ExperimentArgs,
    block_target::BlockTarget,
    error::ExperimentError,
    plan::{Arm, Case},
    process::Process,
    stable_writes,
    system_change::SystemChange,
    undo_journal::UndoJournal,
};
use crate::{
    trace::{emitter::Emitter, tracer::Tracer},
    workload::child::{Child, Message},
};

/// How often the ring buffer is drained and the interrupt flag is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The result of one run.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// Writes whose sync succeeded.
    pub(super) operations_per_second: f64,
    /// Failed calls by errno name.
    pub(super) errors: BTreeMap<String, u64>,
    /// Waits for a stable page on the device.
    pub(super) stalls: Histogram,
    /// Failed checks of protection information, on all devices.
    pub(super) integrity_errors: u64,
}

/// The state that all runs share.
pub(super) struct RunContext<'a> {
    pub(super) args: &'a ExperimentArgs,
    /// This executable, which is started again as the workload.
    pub(super) program: PathBuf,
    pub(super) target: BlockTarget,
    pub(super) journal: &'a mut UndoJournal,
    /// Attached from the first run to the last, so that it costs the same in both arms.
    pub(super) tracer: Tracer,
    /// Receives the events of the tracer.
    pub(super) emitter: Emitter,
    /// Set by a signal.
    pub(super) interrupted: Arc<AtomicBool>,
}

impl RunContext<'_> {
    /// Runs a case for `duration`, after it has written `setting` to `queue/stable_writes`, if any.
    /// On error the changes to the system are in the journal.
    pub(super) async fn run(
        &mut self,
        case: Case,
        setting: Option<Arm>,
        duration: Duration,
    ) -> Result<Run, ExperimentError> {
        // Before the mount, because file systems read the attribute when they are mounted.
        if let Some(arm) = setting {
            stable_writes::set(&self.target.disk.name, arm)?;
        }
        let before = self.journal.len();
        let point = self.journal.mount_point();
        self.target.mount(self.journal, case.fs, &point)?;
        let run = self.run_workload(case, point, duration).await?;
        self.journal.undo_to(before)?;
        Ok(run)
    }

    async fn run_workload(
        &mut self,
        case: Case,
        point: PathBuf,
        duration: Duration,
    ) -> Result<Run, ExperimentError> {
        self.drain();
        let (stall_counts, checks_failed) =
            (self.tracer.stall_counts()?, self.tracer.checks_failed()?);
        let wac = ExperimentArgs { duration, ..self.args.clone() };
        let wac = wac.wac(case.profile.name(), case.file_size, point);
        let mut child = Child::spawn(&self.program, &wac, true)?;
        if let Some(process) = child.pid().and_then(Process::from_pid) {
            self.journal.record(SystemChange::Workload { process }).map_err(|source| {
                ExperimentError::File {
                    action: "write the journal for",
                    path: self.program.clone(),
                    source,
                }
            })?;
        }
        let mut last = None;
        let mut poll = interval(POLL_INTERVAL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = child.next() => match message? {
                    Some(Message::Event { workload, .. }) => last = Some(workload),
                    Some(Message::Malformed(line)) => {
                        log::warn!("the workload wrote a line that is not an event: {line}");
                    }
                    None => break,
                },
                readable = self.tracer.readable() => readable?,
                _ = poll.tick() => {}
            }
            self.drain();
            if self.interrupted.load(Relaxed) {
                return Err(ExperimentError::Interrupted);
            }
        }
        let status = child.wait().await?;
        self.drain();
        // A Ctrl-C reaches the workload as well, which then exits early and with success.
        if self.interrupted.load(Relaxed) {
            return Err(ExperimentError::Interrupted);
        }
        let finished = last.filter(|last| last.state == WorkloadState::Finished);
        let Some(finished) = finished.filter(|_| status.success()) else {
            return Err(ExperimentError::WorkloadFailed(status));
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
            integrity_errors: self.tracer.checks_failed()?.saturating_sub(checks_failed),
        })
    }

    /// Drains the ring buffer.
    fn drain(&mut self) {
        while self.tracer.drain(&mut self.emitter) {}
        self.tracer.tick(&mut self.emitter);
    }
}
