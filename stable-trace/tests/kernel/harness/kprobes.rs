//! Kprobes, listed by the kernel.

use std::fs;

use anyhow::{Context as _, Result};

/// Counts the kprobes on a function.
pub(crate) fn kprobes_on(function: &str) -> Result<usize> {
    count(function, |_| true)
}

/// Counts those that were not left behind by a module that was removed (`report_probe`, kernel/kprobes.c).
pub(crate) fn live_kprobes_on(function: &str) -> Result<usize> {
    count(function, |line| !line.contains("[GONE]"))
}

/// A line is `ADDRESS  k  FUNCTION+OFFSET    MODULE`.
fn count(function: &str, wanted: impl Fn(&&str) -> bool) -> Result<usize> {
    let path = "/sys/kernel/debug/kprobes/list";
    let list = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let functions = list.lines().filter(wanted).filter_map(|line| line.split_whitespace().nth(2));
    let bare = |name: &str| name.split(['+', '.']).next().unwrap_or_default().to_owned();
    Ok(functions.filter(|name| bare(name) == function).count())
}
