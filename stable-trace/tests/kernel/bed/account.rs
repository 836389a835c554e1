//! What tracefs counted against what a run says of it.

use anyhow::{Result, ensure};
use stable_trace_analysis::event::Summary;

use super::host;

/// Every time that the tracepoint fired is a stall, a stall's repetition, a wait that was none, or one
/// whose end was still to come.
pub fn every_wait_is_accounted_for(summary: &Summary, hits: u64) -> Result<()> {
    let accounted = summary.stalls_total
        + summary.waits_repeated
        + summary.waits_without_sleep
        + summary.waits_unfinished;
    // Linux 7 skips a program now and then while another task is in one, preempted, and counts it.
    let begin = summary.probe_runs_missed.iter().find(|(probe, _)| probe.starts_with("writeback:"));
    let skipped = begin.map_or(0, |(_, count)| *count);
    ensure!(skipped == 0 || host::kernel_version() >= (7, 0), "the kernel skipped {skipped} runs");
    // What was skipped may have been another process's wait, so it is a bound and no summand.
    ensure!(
        accounted <= hits && hits <= accounted + skipped,
        "tracefs has {hits} waits, we {accounted}, and {skipped} were skipped: {summary:#?}"
    );
    Ok(())
}
