//! `cargo xtask run`: runs the agent as root, with the user's arguments or a demonstration.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::Args;

use crate::compile::{self, Options};
use crate::scratch::Scratch;
use crate::supervise::{Supervisor, exit_code};
use crate::{progress, shell};

/// A short workload with enough writers for stalls within the first second.
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

#[derive(Args)]
pub(crate) struct RunArgs {
    /// Arguments of `stable-trace` [default: trace `wac` for a few seconds on a scratch file system].
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn run(args: &RunArgs) -> Result<ExitCode> {
    // Checked before the build, which takes minutes.
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
    supervisor.check_signals()?;
    let mut command = shell::privileged(agent)?;
    command.args(DEMONSTRATION).arg("--path").arg(scratch.mount_point());
    supervise(&mut supervisor, command)
}

fn supervise(supervisor: &mut Supervisor, command: Command) -> Result<ExitCode> {
    progress::step(shell::describe(&command));
    supervisor.run(command).map(exit_code)
}
