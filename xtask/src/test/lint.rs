//! Formatting and clippy, each counted as one test.

use std::env::consts::ARCH;
use std::process::Command;

use anyhow::Result;

use crate::report::Tally;
use crate::{progress, setup, shell, workspace};

/// Runs the lints whose name contains `only`.
///
/// # Errors
/// If cargo has no fmt or clippy and they cannot be installed, or it does not start.
pub fn lint(only: Option<&str>) -> Result<Tally> {
    setup::rust::ensure_lints()?;
    let lints =
        [("lint::fmt", fmt()?), ("lint::clippy", clippy()?), ("lint::clippy_ebpf", clippy_ebpf()?)];
    let mut tally = Tally::default();
    for (name, mut command) in lints {
        if only.is_some_and(|only| !name.contains(only)) {
            continue;
        }
        progress::step(format!("{name}: {}", shell::describe(&command)));
        if shell::status(&mut command)?.success() {
            println!("test {name} ... ok");
            tally.pass();
        } else {
            println!("test {name} ... FAILED");
            tally.fail(name);
        }
    }
    Ok(tally)
}

fn fmt() -> Result<Command> {
    let mut command = workspace::cargo()?;
    command.args(["fmt", "--all", "--check"]);
    Ok(command)
}

fn clippy() -> Result<Command> {
    let mut command = workspace::cargo()?;
    command.args(["clippy", "--workspace", "--exclude", "stable-trace-ebpf", "--all-targets"]);
    command.args(["--", "-D", "warnings"]);
    Ok(command)
}

/// The eBPF programs are linted as what they are: code for the BPF target.
fn clippy_ebpf() -> Result<Command> {
    let mut command = workspace::cargo()?;
    command.args(["clippy", "--package", "stable-trace-ebpf", "--bins"]);
    command.args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"]);
    // Its environment differs from that of other builds here, which must not make those stale.
    command.arg("--target-dir").arg(workspace::root()?.join("target/clippy-ebpf"));
    command.args(["--", "-D", "warnings"]);
    command.env("RUSTC_BOOTSTRAP", "1");
    command.env("CARGO_ENCODED_RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{ARCH}\""));
    Ok(command)
}
