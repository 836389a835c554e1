//! Debian's Prometheus, unpacked without installation: the installed package would start a service on
//! port 9090.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{progress, shell, workspace};

const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];

/// Unpacks `prometheus` and `promtool` to `target/tools/bin` unless `PATH` has them.
pub(crate) fn ensure() -> Result<()> {
    let tools = workspace::tools()?.join("bin");
    let is_installed =
        |program: &&str| shell::find(program).is_some() || tools.join(program).is_file();
    if PROGRAMS.iter().all(is_installed) {
        return Ok(());
    }
    if shell::find("apt-get").is_none() {
        bail!(
            "prometheus and promtool are not installed and there is no apt-get: put them into PATH, then run this again"
        );
    }
    progress::step("fetching Debian's prometheus");
    let folder = tempfile::tempdir().context("cannot create a folder to unpack in")?;
    let mut download = download(folder.path());
    if shell::run(&mut download).is_err() {
        // The package lists may be missing or old.
        shell::run(shell::privileged("apt-get")?.args(["update", "--quiet"]))
            .context("cannot fetch Debian's package lists")?;
        shell::run(&mut download)?;
    }
    unpack(folder.path(), &tools)
}

/// `PATH` followed by `target/tools/bin`, for tests that start these programs by name.
pub(crate) fn path() -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let tools = workspace::tools()?.join("bin");
    env::join_paths(env::split_paths(&path).chain(std::iter::once(tools)))
        .context("the path of the workspace contains a colon")
}

fn download(into: &Path) -> Command {
    let mut command = Command::new("apt-get");
    // apt's own user cannot write to this folder.
    command.args(["--quiet", "-o", "APT::Sandbox::User=root", "download", "prometheus"]);
    command.current_dir(into);
    command
}

/// Copies the programs of the only package in `folder` to `tools`.
fn unpack(folder: &Path, tools: &Path) -> Result<()> {
    let mut files = fs::read_dir(folder).context("cannot list what apt-get fetched")?;
    let package = files.next().context("apt-get fetched nothing")??.path();
    let unpacked = folder.join("unpacked");
    shell::run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&unpacked))?;
    fs::create_dir_all(tools).with_context(|| format!("cannot create {}", tools.display()))?;
    for program in PROGRAMS {
        let from = unpacked.join("usr/bin").join(program);
        let to = tools.join(program);
        fs::copy(&from, &to)
            .with_context(|| format!("cannot copy {program} to {}", tools.display()))?;
    }
    Ok(())
}
