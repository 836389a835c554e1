//! The BPF linker, in the one version that is known to open the LLVM of stable rustc.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::version;
use crate::{progress, shell, workspace};

/// 0.10.3 opens rustc's own LLVM at run time; later ones want an LLVM installation that matches.
const VERSION: &str = "0.10.3";

/// Makes sure of the linker: the one in PATH if it is the right one, else one below `target/tools`.
///
/// `stable-trace/build.rs` looks into `target/tools/bin` first, so plain `cargo build` finds it too.
///
/// # Errors
/// If it is missing and does not install.
pub fn ensure() -> Result<()> {
    let tools = workspace::root()?.join("target/tools");
    let own = tools.join("bin/bpf-linker");
    if version(&own).as_deref() == Some(VERSION) {
        progress::step(format!("bpf-linker {VERSION} is there, below target/tools"));
        return Ok(());
    }
    // One of another version would hide the right one in PATH.
    if own.exists() {
        fs::remove_file(&own).with_context(|| format!("cannot remove {}", own.display()))?;
    }
    match version(Path::new("bpf-linker")) {
        Some(found) if found == VERSION => {
            progress::step(format!("bpf-linker {VERSION} is there"));
            Ok(())
        }
        Some(found) => {
            progress::step(format!(
                "bpf-linker in PATH is {found}: it stays; installing {VERSION} below target/tools (some minutes)"
            ));
            shell::run(install()?.arg("--root").arg(&tools))
        }
        None => {
            progress::step(format!("installing bpf-linker {VERSION} (some minutes)"));
            shell::run(&mut install()?)?;
            if version(Path::new("bpf-linker")).is_some() {
                return Ok(());
            }
            // Cargo's folder of programs is not in PATH: the copy has to stand where builds look.
            progress::step(
                "cargo's folder of programs is not in PATH: installing below target/tools too",
            );
            shell::run(install()?.arg("--root").arg(&tools))
        }
    }
}

fn install() -> Result<Command> {
    let mut command = workspace::cargo()?;
    command.args(["install", "bpf-linker", "--locked", "--version"]).arg(format!("={VERSION}"));
    Ok(command)
}
