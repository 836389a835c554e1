//! The Rust toolchain: its version, components and targets.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, bail};

use super::debian;
use crate::{progress, shell, workspace};

/// The oldest compiler that builds the workspace.
const RUST_VERSION: &str = env!("CARGO_PKG_RUST_VERSION");

/// Fails if the compiler is too old.
pub(crate) fn check_version() -> Result<()> {
    let text = shell::output(Command::new("rustc").arg("--version"))
        .context("no working rustc: install Rust from https://rustup.rs")?;
    let found = release(&text).ok_or_else(|| anyhow!("rustc prints no version: `{text}`"))?;
    let required = release(&format!("rustc {RUST_VERSION}")).ok_or_else(|| {
        anyhow!("`rust-version` in Cargo.toml is not a version: `{RUST_VERSION}`")
    })?;
    if found < required {
        bail!(
            "this is {text}, the workspace needs {RUST_VERSION} or newer: run `rustup update stable`"
        );
    }
    progress::step(&text);
    Ok(())
}

/// Installs the sources of `core`, which builds for the BPF target compile.
pub(crate) fn ensure_sources() -> Result<()> {
    if sysroot()?.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file() {
        progress::step("rust-src is installed");
        return Ok(());
    }
    rustup(&["component", "add", "rust-src"])
}

/// Installs `cargo fmt` and `cargo clippy`.
pub(crate) fn ensure_lints() -> Result<()> {
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if shell::output(workspace::cargo()?.args([subcommand, "--version"])).is_err() {
            rustup(&["component", "add", component])?;
        }
    }
    Ok(())
}

/// Installs the target of static binaries for this architecture, and returns its name.
pub(crate) fn ensure_musl() -> Result<String> {
    // `ring` compiles C code with this compiler.
    debian::ensure(&[("musl-tools", "musl-gcc")])?;
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    ensure_target(&target)?;
    Ok(target)
}

/// Installs the standard library of a target.
pub(crate) fn ensure_target(target: &str) -> Result<()> {
    if sysroot()?.join("lib/rustlib").join(target).join("lib").is_dir() {
        progress::step(format!("target {target} is installed"));
        return Ok(());
    }
    rustup(&["target", "add", target])
}

/// Runs rustup for the toolchain that built xtask: cargo sets `RUSTUP_TOOLCHAIN`.
fn rustup(arguments: &[&str]) -> Result<()> {
    if shell::find("rustup").is_none() {
        bail!(
            "rustup is not installed: install what `rustup {0}` would add by other means",
            arguments.join(" ")
        );
    }
    progress::step(format!("rustup {}", arguments.join(" ")));
    shell::run(Command::new("rustup").args(arguments))
}

fn sysroot() -> Result<PathBuf> {
    shell::output(Command::new("rustc").args(["--print", "sysroot"])).map(PathBuf::from)
}

/// Major, minor and patch in the output of `rustc --version`; a missing number is 0.
fn release(text: &str) -> Option<[u32; 3]> {
    let version = text.split_whitespace().nth(1)?;
    // `1.97.0-nightly` counts as 1.97.0.
    let version = version.split('-').next()?;
    let mut release = [0; 3];
    for (index, part) in version.split('.').enumerate() {
        *release.get_mut(index)? = part.parse().ok()?;
    }
    Some(release)
}

#[cfg(test)]
mod tests {
    use super::release;

    #[test]
    fn releases_compare_as_numbers() {
        assert_eq!(release("rustc 1.95.0 (59807616e 2026-04-14)"), Some([1, 95, 0]));
        assert_eq!(release("rustc 1.97.0-nightly (abc 2026-05-01)"), Some([1, 97, 0]));
        assert!(release("rustc 1.100.0") > release("rustc 1.95"));
        assert_eq!(release("rustc"), None);
        assert_eq!(release("rustc one"), None);
    }
}
