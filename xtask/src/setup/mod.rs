//! Installs what is missing, and costs nothing where all is there.

pub mod debian;
mod linker;
pub mod prometheus;
pub mod rust;

use anyhow::Result;

/// Makes sure of everything that building the agent takes.
///
/// # Errors
/// If something is missing and cannot be installed.
pub fn for_builds() -> Result<()> {
    rust::check_version()?;
    rust::ensure_sources()?;
    linker::ensure()
}
