//! Where the workspace is.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

/// The folder of the workspace's `Cargo.toml`.
///
/// # Errors
/// If xtask was not started by `cargo xtask`.
pub fn root() -> Result<PathBuf> {
    // Read when it runs, not when it was compiled: a checkout may move, its build directory with it.
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .context("cargo did not start this: run it as `cargo xtask`")?;
    let root = Path::new(&package).parent().context("xtask stands outside its workspace")?;
    Ok(root.to_path_buf())
}

/// A cargo of the toolchain that xtask itself was built by, started in the workspace.
///
/// # Errors
/// See [`root`].
pub fn cargo() -> Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()?);
    Ok(command)
}
