//! Installs what is missing, and costs nothing where all is there.

pub(crate) mod cargo_deny;
pub mod debian;
mod linker;
pub mod prometheus;
pub mod rust;

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::shell;

/// Makes sure of everything that building the agent takes.
///
/// # Errors
/// If something is missing and cannot be installed.
pub fn for_builds() -> Result<()> {
    rust::check_version()?;
    rust::ensure_sources()?;
    linker::ensure()
}

/// The version in what `PROGRAM --version` prints: `bpf-linker 0.10.3`.
fn version(program: &Path) -> Option<String> {
    let text = shell::output(Command::new(program).arg("--version")).ok()?;
    text.split_whitespace().nth(1).map(str::to_owned)
}
