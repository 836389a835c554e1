//! cargo-deny, in one version.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::version;
use crate::{progress, shell, workspace};

const VERSION: &str = "0.20.2";

/// cargo-deny for this workspace and its lock file: the one in `PATH` if it has the right version,
/// else one below `target/tools`, which is built on first use.
pub(crate) fn command() -> Result<Command> {
    let mut command = Command::new(ensure()?);
    command.arg("--locked").current_dir(workspace::root()?);
    Ok(command)
}

fn ensure() -> Result<PathBuf> {
    let tools = workspace::tools()?;
    let own = tools.join("bin/cargo-deny");
    for candidate in [own.as_path(), Path::new("cargo-deny")] {
        if version(candidate).as_deref() == Some(VERSION) {
            return Ok(candidate.to_path_buf());
        }
    }
    progress::step(format!("installing cargo-deny {VERSION} below target/tools (about a minute)"));
    shell::run(&mut install(&tools)?)?;
    Ok(own)
}

/// Without optimisation, which would multiply the build time: a check takes a second.
fn install(tools: &Path) -> Result<Command> {
    let mut command = workspace::cargo()?;
    command.args(["install", "cargo-deny", "--locked", "--no-default-features", "--force"]);
    command.args(["--version", &format!("={VERSION}")]).arg("--root").arg(tools);
    for (setting, value) in
        [("OPT_LEVEL", "0"), ("LTO", "off"), ("DEBUG", "0"), ("CODEGEN_UNITS", "16")]
    {
        command.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
    }
    Ok(command)
}
