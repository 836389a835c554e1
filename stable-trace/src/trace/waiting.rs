//! Waits that have not ended: counted at a scrape, reported where they last long, and listed in the summary.

use std::path::Path;

use aya::maps::MapError;
use stable_trace_analysis::{
    error_chain::ErrorChain,
    event::{Event, TaskState, Waiting},
};
use stable_trace_common::{record::StallRecord, task::process_and_thread, waiter::Waiter};

use super::{clock, emitter::Emitter, tracer::Tracer};
use crate::{
    enrich::{Enricher, identity::Location},
    kernel::{pid_namespace, process_tree},
    metrics::snapshot::{DeviceFs, WaitingTask},
};

/// Waits that the summary lists, at most: those that have lasted longest.
const LISTED: usize = 32;

/// A wait that has lasted so long, in ns, is compared with what its task does, where it may be over.
const SURE_NS: u64 = 1_000_000_000;

impl Tracer {
    /// Reports waits that have lasted long, and those that are over.
    pub(super) fn report_long_waits(&mut self, emitter: &mut Emitter) {
        if !self.long_waits.are_due() {
            return;
        }
        let waiters = match self.waiters() {
            Ok(waiters) => waiters,
            Err(error) => {
                log::debug!("cannot read the waits that last: {}", ErrorChain(&error));
                return;
            }
        };
        let now = clock::monotonic().ns();
        let enricher = &mut self.enricher;
        let reports = self.long_waits.update(now, waiters, |waiter| waiting(enricher, waiter, now));
        for waiting in reports {
            emitter.emit_now(Event::Waiting(waiting));
        }
    }

    /// The tasks that wait at this moment, for metrics.
    pub(super) fn waiting_tasks(&mut self) -> Result<Vec<WaitingTask>, MapError> {
        let now = clock::monotonic().ns();
        let mut tasks = Vec::new();
        for waiter in self.waiters()? {
            let identity = self.enricher.identities.get(&waiter.folio.backing);
            if identity.selected {
                let Location { device, fs, .. } = identity.location();
                tasks.push(WaitingTask {
                    context: self.enricher.stacks.get(waiter.stack).reason.context,
                    device_fs: DeviceFs { device: device.map(Into::into), fs: fs.map(Into::into) },
                    age_ns: now.saturating_sub(waiter.begin_ns),
                });
            }
        }
        Ok(tasks)
    }

    /// The waits that have not ended, those that have lasted longest first, for the summary.
    pub(super) fn longest_waits(&mut self) -> Result<Vec<Waiting>, MapError> {
        let now = clock::monotonic().ns();
        let mut waiters = self.waiters()?;
        waiters.sort_by_key(|waiter| waiter.begin_ns);
        let enricher = &mut self.enricher;
        let longest = waiters.into_iter().filter_map(|waiter| waiting(enricher, &waiter, now));
        Ok(longest.take(LISTED).collect())
    }

    /// What the kernel's map has. A wait whose return was missed stays there until its task waits again or ends, so what
    /// the task does tells.
    fn waiters(&self) -> Result<Vec<Waiter>, MapError> {
        let returns = self.attached.probes_returns();
        let mut waiters = self.counters.waiting(returns)?;
        if returns && self.attached.missed_ends() > 0 && pid_namespace::nested().is_none() {
            let long_ago = clock::monotonic().ns().saturating_sub(SURE_NS);
            waiters.retain(|waiter| waiter.begin_ns > long_ago || is_blocked(waiter));
        }
        Ok(waiters)
    }
}

/// Whether a task is in an uninterruptible sleep.
fn is_blocked(waiter: &Waiter) -> bool {
    let (pid, tid) = process_and_thread(waiter.pid_tgid);
    process_tree::state(Path::new("/proc"), pid, tid) == Some(TaskState::Waiting)
}

/// A wait as an event; `None` if `--device` excludes it.
fn waiting(enricher: &mut Enricher, waiter: &Waiter, now: u64) -> Option<Waiting> {
    let duration_ns = now.saturating_sub(waiter.begin_ns);
    let so_far = StallRecord { end_ns: now, duration_ns, ..StallRecord::from_waiter(waiter) };
    enricher.waiting(&so_far)
}
