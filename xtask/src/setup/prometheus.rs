//! Debian's Prometheus, unpacked and not installed: its package would start a service that holds
//! port 9090 and scrapes the machine it is on.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{progress, shell, workspace};

/// The server, and the program that checks metrics and rules.
const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];

/// Makes sure of both: those in PATH if they are there, else copies below `target/tools/bin`.
///
/// # Errors
/// If they are missing and cannot be fetched.
pub fn ensure() -> Result<()> {
    let tools = workspace::root()?.join("target/tools/bin");
    let is_there = |program: &&str| shell::find(program).is_some() || tools.join(program).is_file();
    if PROGRAMS.iter().all(is_there) {
        return Ok(());
    }
    if shell::find("apt-get").is_none() {
        bail!(
            "missing, and no apt-get to fetch them: prometheus and promtool; put them into PATH, then run this again"
        );
    }
    progress::step("fetching Debian's prometheus");
    let folder = tempfile::tempdir().context("cannot make a folder to unpack in")?;
    let mut download = download(folder.path());
    if shell::run(&mut download).is_err() {
        // The lists may be missing or old.
        shell::run(shell::privileged("apt-get")?.args(["update", "--quiet"]))
            .context("Debian's package lists cannot be fetched")?;
        shell::run(&mut download)?;
    }
    unpack(folder.path(), &tools)
}

/// PATH with `target/tools/bin` at its end, for tests that start these programs by name.
///
/// # Errors
/// If xtask was not started by `cargo xtask`, or a folder of PATH has a colon in its name.
pub fn path() -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let tools = workspace::root()?.join("target/tools/bin");
    env::join_paths(env::split_paths(&path).chain(std::iter::once(tools)))
        .context("the folder of the workspace has a colon in its name")
}

fn download(into: &Path) -> Command {
    let mut command = Command::new("apt-get");
    // As who runs this: apt's own user cannot write there.
    command.args(["--quiet", "-o", "APT::Sandbox::User=root", "download", "prometheus"]);
    command.current_dir(into);
    command
}

/// Puts the programs of the one package in `folder` into `tools`.
fn unpack(folder: &Path, tools: &Path) -> Result<()> {
    let mut files = fs::read_dir(folder).context("cannot list what apt-get fetched")?;
    let package = files.next().context("apt-get fetched nothing")??.path();
    let unpacked = folder.join("unpacked");
    shell::run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&unpacked))?;
    fs::create_dir_all(tools).with_context(|| format!("cannot make {}", tools.display()))?;
    for program in PROGRAMS {
        let from = unpacked.join("usr/bin").join(program);
        let to = tools.join(program);
        fs::copy(&from, &to)
            .with_context(|| format!("cannot copy {program} to {}", tools.display()))?;
    }
    Ok(())
}
