//! Installs missing Debian packages.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::{progress, shell};

/// Installs the packages that are missing. Each one comes with its proof of presence: the name of a
/// program, or the absolute path of a file. No network is used if nothing is missing.
pub(crate) fn ensure(packages: &[(&str, &str)]) -> Result<()> {
    let missing = missing(packages, is_present);
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if shell::find("apt-get").is_none() {
        bail!(
            "missing Debian packages, and there is no apt-get: {names}; install them, then run this again"
        );
    }
    progress::step(format!("installing Debian packages: {names}"));
    shell::run(apt()?.args(["update", "--quiet"]))
        .context("cannot fetch Debian's package lists")?;
    shell::run(apt()?.args(["install", "--yes", "--no-install-recommends"]).args(&missing))
        .with_context(|| format!("cannot install {names}: install them, then run this again"))
}

fn apt() -> Result<std::process::Command> {
    // sudo does not pass its environment on.
    let mut command = shell::privileged("env")?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    Ok(command)
}

/// The packages whose proof is not present, without duplicates.
fn missing<'a>(packages: &[(&'a str, &str)], is_present: impl Fn(&str) -> bool) -> Vec<&'a str> {
    let mut missing = Vec::new();
    for (package, proof) in packages {
        if !is_present(proof) && !missing.contains(package) {
            missing.push(*package);
        }
    }
    missing
}

fn is_present(proof: &str) -> bool {
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
        assert!(is_present("sh"));
        assert!(is_present("/etc/passwd"));
        assert!(!is_present("/no/such/file"));
    }
}
