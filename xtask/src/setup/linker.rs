//! bpf-linker, in the one version that opens the LLVM of stable rustc.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::version;
use crate::{progress, shell, workspace};

/// 0.10.3 loads rustc's own LLVM at run time; later versions need a matching LLVM installation.
const VERSION: &str = "0.10.3";

/// Installs the linker unless `PATH` or `target/tools` has the right version.
///
/// `stable-trace/build.rs` searches `target/tools/bin` first, so that a plain `cargo build` finds it.
pub(crate) fn ensure() -> Result<()> {
    let tools = workspace::tools()?;
    let own = tools.join("bin/bpf-linker");
    if version(&own).as_deref() == Some(VERSION) {
        progress::step(format!("bpf-linker {VERSION} is installed below target/tools"));
        return Ok(());
    }
    // Another version here would hide the right one in `PATH`.
    if own.exists() {
        fs::remove_file(&own).with_context(|| format!("cannot remove {}", own.display()))?;
    }
    match version(Path::new("bpf-linker")) {
        Some(found) if found == VERSION => {
            progress::step(format!("bpf-linker {VERSION} is installed"));
            Ok(())
        }
        Some(found) => {
            progress::step(format!(
                "bpf-linker in PATH has version {found}: installing {VERSION} below target/tools (some minutes)"
            ));
            shell::run(install()?.arg("--root").arg(&tools))
        }
        None => {
            progress::step(format!("installing bpf-linker {VERSION} (some minutes)"));
            shell::run(&mut install()?)?;
            if version(Path::new("bpf-linker")).is_some() {
                return Ok(());
            }
            // Cargo's `bin` folder is not in `PATH`: the build searches `target/tools` only.
            progress::step("cargo's bin folder is not in PATH: installing below target/tools too");
            shell::run(install()?.arg("--root").arg(&tools))
        }
    }
}

fn install() -> Result<Command> {
    let mut command = workspace::cargo()?;
    command.args(["install", "bpf-linker", "--locked", "--version"]).arg(format!("={VERSION}"));
    Ok(command)
}
