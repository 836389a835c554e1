//! The Rust tool chain: its version, its components, its targets.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, bail};

use super::debian;
use crate::{progress, shell, workspace};

/// The oldest compiler that builds the workspace, as `Cargo.toml` states it.
const RUST_VERSION: &str = env!("CARGO_PKG_RUST_VERSION");

/// Refuses a compiler that is too old.
///
/// # Errors
/// If it is, or there is none.
pub fn check_version() -> Result<()> {
    let text = shell::output(Command::new("rustc").arg("--version"))
        .context("no working rustc: install Rust from https://rustup.rs")?;
    let found = release(&text).ok_or_else(|| anyhow!("rustc gives no version: `{text}`"))?;
    let wanted = release(&format!("rustc {RUST_VERSION}"))
        .ok_or_else(|| anyhow!("`rust-version` in Cargo.toml is no version: `{RUST_VERSION}`"))?;
    if found < wanted {
        bail!(
            "this is {text}, the workspace needs {RUST_VERSION} or newer: run `rustup update stable`"
        );
    }
    progress::step(&text);
    Ok(())
}

/// Makes sure of the sources of `core`, which the BPF target is compiled with.
///
/// # Errors
/// If they are missing and rustup cannot add them.
pub fn ensure_sources() -> Result<()> {
    if sysroot()?.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file() {
        progress::step("rust-src is there");
        return Ok(());
    }
    rustup(&["component", "add", "rust-src"])
}

/// Makes sure of `cargo fmt` and `cargo clippy`.
///
/// # Errors
/// If one is missing and rustup cannot add it.
pub fn ensure_lints() -> Result<()> {
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if shell::output(workspace::cargo()?.args([subcommand, "--version"])).is_err() {
            rustup(&["component", "add", component])?;
        }
    }
    Ok(())
}

/// Makes sure of the target of static binaries for this machine's architecture, and names it.
///
/// # Errors
/// If it is missing and rustup cannot add it.
pub fn ensure_musl() -> Result<String> {
    // `ring` has some C in it, which wants a compiler for the target under this name.
    debian::ensure(&[("musl-tools", "musl-gcc")])?;
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    ensure_target(&target)?;
    Ok(target)
}

/// Makes sure of a target's standard library.
pub(crate) fn ensure_target(target: &str) -> Result<()> {
    if sysroot()?.join("lib/rustlib").join(target).join("lib").is_dir() {
        progress::step(format!("target {target} is installed"));
        return Ok(());
    }
    rustup(&["target", "add", target])
}

/// Runs rustup for the tool chain that builds here: cargo has put its name into `RUSTUP_TOOLCHAIN`.
fn rustup(arguments: &[&str]) -> Result<()> {
    if shell::find("rustup").is_none() {
        bail!(
            "there is no rustup to do `rustup {0}`: add that to this Rust by its own means",
            arguments.join(" ")
        );
    }
    progress::step(format!("rustup {}", arguments.join(" ")));
    shell::run(Command::new("rustup").args(arguments))
}

fn sysroot() -> Result<PathBuf> {
    shell::output(Command::new("rustc").args(["--print", "sysroot"])).map(PathBuf::from)
}

/// Major, minor and patch of what `rustc --version` prints; what is not said is 0.
fn release(text: &str) -> Option<[u32; 3]> {
    let version = text.split_whitespace().nth(1)?;
    // `1.97.0-nightly` counts as 1.97.0.
    let version = version.split('-').next()?;
    let mut release = [0; 3];
    for (place, part) in version.split('.').enumerate() {
        *release.get_mut(place)? = part.parse().ok()?;
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
