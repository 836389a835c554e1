//! The lints: each counts as one test.

use std::env::consts::ARCH;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::architecture;
use crate::report::Tally;
use crate::setup::{self, cargo_deny};
use crate::{progress, shell, workspace};

/// A target that is not Linux: code that compiles for it uses nothing of Linux. `cargo check` needs
/// no linker for it.
const OTHER_TARGET: &str = "aarch64-apple-darwin";

enum Outcome {
    Passed,
    Failed,
    Skipped(String),
}

/// What the name of every lint starts with.
pub(super) const PREFIX: &str = "lint::";

type Lint = fn() -> Result<Outcome>;

/// The lints by name, the quickest first.
const LINTS: [(&str, Lint); 8] = [
    ("lint::architecture", architecture),
    ("lint::fmt", fmt),
    ("lint::deny", deny),
    ("lint::advisories", advisories),
    ("lint::analysis_portable", analysis_portable),
    ("lint::clippy", clippy),
    ("lint::clippy_ebpf", clippy_ebpf),
    ("lint::docs", docs),
];

/// Runs the lints whose name contains `only`.
pub(crate) fn lint(only: Option<&str>) -> Result<Tally> {
    setup::rust::ensure_lints()?;
    let mut tally = Tally::default();
    for (name, run) in LINTS {
        if only.is_some_and(|only| !name.contains(only)) {
            continue;
        }
        progress::step(name);
        match run()? {
            Outcome::Passed => {
                println!("test {name} ... ok");
                tally.pass();
            }
            Outcome::Failed => {
                println!("test {name} ... FAILED");
                tally.fail(name);
            }
            Outcome::Skipped(reason) => {
                println!("test {name} ... ignored, {reason}");
                tally.skip(name, reason);
            }
        }
    }
    Ok(tally)
}

fn architecture() -> Result<Outcome> {
    let violations = architecture::violations(&workspace::root()?)?;
    for violation in &violations {
        println!("{violation}");
    }
    Ok(if violations.is_empty() { Outcome::Passed } else { Outcome::Failed })
}

fn fmt() -> Result<Outcome> {
    run(workspace::cargo()?.args(["fmt", "--all", "--check"]))
}

/// Licences, duplicate and wildcard dependencies, and where dependencies come from: `deny.toml`.
fn deny() -> Result<Outcome> {
    run(cargo_deny::command()?.args([
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ]))
}

/// Known vulnerabilities of dependencies. The list of them is a git repository, which some networks
/// do not reach.
fn advisories() -> Result<Outcome> {
    let mut command = cargo_deny::command()?;
    command.args(["check", "advisories"]);
    progress::step(shell::describe(&command));
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", shell::describe(&command)))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(Outcome::Passed);
    }
    if text.contains("failed to fetch advisory database") {
        return Ok(Outcome::Skipped("the advisory database cannot be fetched here".to_owned()));
    }
    eprint!("{text}");
    Ok(Outcome::Failed)
}

/// The analysis crate compiles for a system that is not Linux.
fn analysis_portable() -> Result<Outcome> {
    setup::rust::ensure_target(OTHER_TARGET)?;
    run(workspace::cargo()?.args([
        "check",
        "--package",
        "stable-trace-analysis",
        "--target",
        OTHER_TARGET,
    ]))
}

fn clippy() -> Result<Outcome> {
    let mut command = workspace::cargo()?;
    command.args(["clippy", "--workspace", "--exclude", "stable-trace-ebpf", "--all-targets"]);
    run(command.args(["--", "-D", "warnings"]))
}

/// The eBPF programs are linted for the target that they are compiled for.
fn clippy_ebpf() -> Result<Outcome> {
    let mut command = workspace::cargo()?;
    command.args(["clippy", "--package", "stable-trace-ebpf", "--bins"]);
    command.args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"]);
    // Its environment differs from that of other builds here, which must not make those stale.
    command.arg("--target-dir").arg(workspace::root()?.join("target/clippy-ebpf"));
    command.args(["--", "-D", "warnings"]);
    command.env("RUSTC_BOOTSTRAP", "1");
    command.env("CARGO_ENCODED_RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{ARCH}\""));
    run(&mut command)
}

/// Rustdoc without a warning, private items included: links in their comments must lead somewhere.
fn docs() -> Result<Outcome> {
    let mut command = workspace::cargo()?;
    command.args(["doc", "--workspace", "--exclude", "stable-trace-ebpf", "--no-deps"]);
    command.arg("--document-private-items");
    run(command.env("RUSTDOCFLAGS", "-D warnings"))
}

fn run(command: &mut Command) -> Result<Outcome> {
    progress::step(shell::describe(command));
    Ok(if shell::status(command)?.success() { Outcome::Passed } else { Outcome::Failed })
}
