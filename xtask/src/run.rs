//! Runs the agent as root: what the user asks for, or a demonstration.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::Args;

use crate::compile::{self, Options};
use crate::scratch::Scratch;
use crate::supervise::{Supervisor, exit_code};
use crate::{progress, shell};

/// What the demonstration traces: short, and enough writers for stalls within its first second.
const DEMONSTRATION: [&str; 11] = [
    "wac",
    "--profile",
    "a",
    "--profile",
    "b",
    "--threads",
    "16",
    "--duration",
    "3s",
    "--min-latency",
    "5ms",
];

/// Options of `cargo xtask run`.
#[derive(Args)]
pub struct RunArgs {
    /// What `stable-trace` gets; without any, it traces a few seconds of `wac` on a scratch file system.
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// `cargo xtask run`: ends with the agent's own exit status.
///
/// # Errors
/// If the agent does not build or start, or the demonstration finds no place to run.
pub fn run(args: &RunArgs) -> Result<ExitCode> {
    // Asked first: a build of minutes must not end in "there is no sudo".
    shell::privileged("true")?;
    let agent = compile::agent(Options { release: true, ..Options::default() })?;
    if args.arguments.is_empty() {
        return demonstrate(&agent);
    }
    let mut command = shell::privileged(&agent)?;
    command.args(&args.arguments);
    supervise(&mut Supervisor::new()?, command)
}

fn demonstrate(agent: &Path) -> Result<ExitCode> {
    let mut supervisor = Supervisor::new()?;
    let scratch = Scratch::ext4()?;
    supervisor.go_on()?;
    let mut command = shell::privileged(agent)?;
    command.args(DEMONSTRATION).arg("--path").arg(scratch.path());
    supervise(&mut supervisor, command)
}

fn supervise(supervisor: &mut Supervisor, command: Command) -> Result<ExitCode> {
    progress::step(shell::describe(&command));
    supervisor.run(command).map(exit_code)
}
