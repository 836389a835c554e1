//! Kprobes, listed by the kernel.

use std::fs;

use anyhow::{Context as _, Result};

/// Counts the kprobes on a function. A line is `ADDRESS  k  FUNCTION+OFFSET    MODULE`.
pub(crate) fn kprobes_on(function: &str) -> Result<usize> {
    let path = "/sys/kernel/debug/kprobes/list";
    let list = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let functions = list.lines().filter_map(|line| line.split_whitespace().nth(2));
    let bare = |name: &str| name.split(['+', '.']).next().unwrap_or_default().to_owned();
    Ok(functions.filter(|name| bare(name) == function).count())
}
