//! Reconciles the waits that tracefs counts with a run's summary.

use anyhow::{Result, ensure};
use stable_trace_analysis::event::Summary;

use super::host;

/// The waits whose end a summary tells: each is a stall, a repetition of a stall, a wait without sleep, or a wait that
/// has not ended.
pub(crate) fn accounted_waits(summary: &Summary) -> u64 {
    summary.stalls_total
        + summary.waits_repeated
        + summary.waits_without_sleep
        + summary.waits_unfinished
}

/// Each hit of the wait tracepoint is accounted for.
pub(crate) fn every_wait_is_accounted_for(summary: &Summary, hits: u64) -> Result<()> {
    let accounted = accounted_waits(summary);
    // Linux 7 skips a program while a preempted task is inside one, and counts the skipped run.
    let begin = summary.probe_runs_missed.iter().find(|(probe, _)| probe.starts_with("writeback:"));
    let skipped = begin.map_or(0, |(_, count)| *count);
    ensure!(skipped == 0 || host::preempts_programs(), "the kernel skipped {skipped} runs");
    // A skipped run may belong to another process, so it is a bound and not a summand.
    ensure!(
        accounted <= hits && hits <= accounted + skipped,
        "tracefs counts {hits} waits, the agent accounts for {accounted}, and {skipped} were \
         skipped: {summary:#?}"
    );
    Ok(())
}
