//! Installs missing tools.

pub(crate) mod cargo_deny;
pub(crate) mod debian;
mod linker;
pub(crate) mod prometheus;
pub(crate) mod rust;

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::shell;

/// Installs the tools that the agent's build needs.
pub(crate) fn for_builds() -> Result<()> {
    rust::check_version()?;
    rust::ensure_sources()?;
    linker::ensure()
}

/// The version in what `PROGRAM --version` prints: `bpf-linker 0.10.3`.
fn version(program: &Path) -> Option<String> {
    let text = shell::output(Command::new(program).arg("--version")).ok()?;
    text.split_whitespace().nth(1).map(str::to_owned)
}
