//! Debian packages, installed only where something is missing.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::{progress, shell};

/// Makes sure of packages, each given with what proves that it is there: a program's name, or a
/// file's absolute path.
///
/// What is there costs a look and no network, whoever installed it.
///
/// # Errors
/// If something is missing and apt is not there or cannot install it.
pub fn ensure(packages: &[(&str, &str)]) -> Result<()> {
    let missing = missing(packages, is_there);
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if shell::find("apt-get").is_none() {
        bail!(
            "missing, and no apt-get to install them: {names} (Debian's names); install them, then run this again"
        );
    }
    progress::step(format!("installing Debian packages: {names}"));
    shell::run(apt()?.args(["update", "--quiet"]))
        .context("Debian's package lists cannot be fetched")?;
    shell::run(apt()?.args(["install", "--yes", "--no-install-recommends"]).args(&missing))
        .with_context(|| format!("install them by hand, then run this again: {names}"))
}

fn apt() -> Result<std::process::Command> {
    // Through `env`, since sudo does not hand its own environment on.
    let mut command = shell::privileged("env")?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    Ok(command)
}

/// Names of the packages that nothing proves to be there, each once.
fn missing<'a>(packages: &[(&'a str, &str)], is_there: impl Fn(&str) -> bool) -> Vec<&'a str> {
    let mut missing = Vec::new();
    for (package, proof) in packages {
        if !is_there(proof) && !missing.contains(package) {
            missing.push(*package);
        }
    }
    missing
}

fn is_there(proof: &str) -> bool {
    if proof.starts_with('/') { Path::new(proof).exists() } else { shell::find(proof).is_some() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_named_and_once() {
        let packages =
            [("e2fsprogs", "mkfs.ext4"), ("xfsprogs", "mkfs.xfs"), ("xfsprogs", "xfs_io")];
        assert_eq!(missing(&packages, |proof| proof == "mkfs.ext4"), ["xfsprogs"]);
        assert!(missing(&packages, |_| true).is_empty());
    }

    #[test]
    fn a_proof_is_a_program_or_a_file() {
        assert!(is_there("sh"));
        assert!(is_there("/etc/passwd"));
        assert!(!is_there("/no/such/file"));
    }
}
