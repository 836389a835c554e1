//! Runs of an agent's probes that the kernel skipped, by the kernel's own account.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use stable_trace_analysis::event::Summary;

use super::host::TRACING;

/// How many: those that a program on the same CPU kept from running, and returns for which there
/// was no kretprobe instance.
pub fn by_kernel(pid: u32) -> Result<u64> {
    Ok(recursions(pid)? + instances(pid)?)
}

/// How many, as the agent says at its end.
pub fn by_summary(summary: &Summary) -> u64 {
    summary.probe_runs_missed.values().sum()
}

/// `recursion_misses` of every program that the process holds, once each.
fn recursions(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/fdinfo");
    let mut programs: BTreeMap<u64, u64> = BTreeMap::new();
    for file in fs::read_dir(&path).with_context(|| format!("cannot list {path}"))? {
        // It may have been closed since.
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

/// The last column of `kprobe_profile` for the events that carry the process's number.
fn instances(pid: u32) -> Result<u64> {
    let path = Path::new(TRACING).join("kprobe_profile");
    let profile =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let ours = profile.lines().filter_map(|line| {
        let mut columns = line.split_whitespace();
        let event = columns.next()?;
        event.ends_with(&format!("_{pid}")).then(|| columns.nth(1)?.parse::<u64>().ok())?
    });
    Ok(ours.sum())
}
