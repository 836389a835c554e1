//! Probe runs that the kernel skipped.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use stable_trace_analysis::event::Summary;

use super::host::TRACING;

/// Counts the runs that an agent missed: programs that another program on the same CPU kept from
/// running, and returns without a free kretprobe instance.
pub(crate) fn counted_by_kernel(pid: u32) -> Result<u64> {
    Ok(recursion_misses(pid)? + kretprobe_misses(pid)?)
}

/// Sums the missed runs that the agent reports.
pub(crate) fn reported_in(summary: &Summary) -> u64 {
    summary.probe_runs_missed.values().sum()
}

/// Fails if a map operation failed for another reason than that the end of a wait was not seen, or if that happened
/// more often than runs were missed.
pub(crate) fn explain_failures(summary: &Summary) -> Result<()> {
    let ends = summary.map_failures.get("the end of a wait was not seen").copied().unwrap_or(0);
    let all: u64 = summary.map_failures.values().sum();
    ensure!(all == ends && ends <= reported_in(summary), "{:?}", summary.map_failures);
    Ok(())
}

/// Sums `recursion_misses` over the programs that the process holds, each counted once.
fn recursion_misses(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/fdinfo");
    let mut programs: BTreeMap<u64, u64> = BTreeMap::new();
    for file in fs::read_dir(&path).with_context(|| format!("cannot list {path}"))? {
        // The file may have been closed since.
        let Ok(info) = fs::read_to_string(file?.path()) else { continue };
        let value = |name: &str| {
            let mut lines = info.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(key, _)| *key == name)?.1.trim().parse().ok()
        };
        if let (Some(id), Some(misses)) = (value("prog_id"), value("recursion_misses")) {
            programs.insert(id, misses);
        }
    }
    Ok(programs.values().sum())
}

/// Sums the last column of `kprobe_profile` over the events whose name ends with the process ID.
fn kretprobe_misses(pid: u32) -> Result<u64> {
    let path = Path::new(TRACING).join("kprobe_profile");
    let profile =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let misses = profile.lines().filter_map(|line| {
        let mut columns = line.split_whitespace();
        let event = columns.next()?;
        event.ends_with(&format!("_{pid}")).then(|| columns.nth(1)?.parse::<u64>().ok())?
    });
    Ok(misses.sum())
}
