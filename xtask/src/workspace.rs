//! Folders of the workspace, and its cargo.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

/// The folder of the workspace's `Cargo.toml`.
pub(crate) fn root() -> Result<PathBuf> {
    // Read at run time: a checkout may move together with its target directory.
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .context("CARGO_MANIFEST_DIR is not set: run this as `cargo xtask`")?;
    let root = Path::new(&package).parent().context("xtask is not inside a workspace")?;
    Ok(root.to_path_buf())
}

/// Root of the programs that xtask installs for this workspace; they are in its `bin`.
pub(crate) fn tools() -> Result<PathBuf> {
    Ok(root()?.join("target/tools"))
}

/// The folder of the binary to distribute.
pub(crate) fn dist() -> Result<PathBuf> {
    Ok(root()?.join("target/dist"))
}

/// The cargo that started xtask, with the workspace as its working directory.
pub(crate) fn cargo() -> Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()?);
    Ok(command)
}
