//! `cargo xtask dashboards`: the JSON files that Grafana imports, and pictures of them.

use std::fs;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use stable_trace_dashboards::boards;

use crate::workspace;

/// What to do with the dashboards.
#[derive(Subcommand)]
pub enum DashboardsCommand {
    /// Write `dashboards/*.json` anew from the code that describes them.
    Write,
}

/// `cargo xtask dashboards`.
///
/// # Errors
/// If a file cannot be written.
pub fn dashboards(command: &DashboardsCommand) -> Result<()> {
    match command {
        DashboardsCommand::Write => write(),
    }
}

fn write() -> Result<()> {
    let folder = workspace::root()?.join("dashboards");
    for board in boards::all() {
        let path = folder.join(format!("{}.json", board.name));
        fs::write(&path, board.text())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
