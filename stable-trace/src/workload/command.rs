//! `stable-trace wac --no-trace`: the workload alone, as a command.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use stable_trace_analysis::{
    event::{Event, Line, Workload, WorkloadState},
    units::Timestamp,
};

use super::args::WacArgs;
use super::child::PARENT;
use super::error::WorkloadError;
use super::identity::{Identity, give_up_root};
use super::plan::{Plan, Target};
use super::progress::Progress;
use super::signals::stop_on_signals;
use super::{scratch, wac};

/// What standard output carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One line for each profile, when it has finished.
    Text,
    /// Every event as an object a line.
    Json,
}

/// Runs the workload in this process until it is done, or told to end by SIGINT, SIGTERM or SIGHUP,
/// or because nobody reads its output any more. Progress goes to stderr unless `quiet`.
///
/// Call it from the main thread before any other exists: it may change the process's user.
///
/// # Errors
/// What keeps the workload from running, one line each. The scratch file is gone in any case.
pub fn run_standalone(
    args: &WacArgs,
    format: Format,
    quiet: bool,
) -> Result<ExitCode, WorkloadError> {
    let plan = Plan::new(args, rustix::param::page_size() as u64)?;
    let identity = give_up_root(&plan.target)?;
    if !follow_parent() {
        return Ok(ExitCode::SUCCESS);
    }
    if !quiet {
        notes(&plan, identity);
    }
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signals(Arc::clone(&stop)).map_err(WorkloadError::Signals)?;

    let mut progress = Progress::new(Instant::now());
    let seq = AtomicU64::new(0);
    wac::run(&plan, &stop, |event| {
        let line = progress.line(&event, Instant::now());
        if !quiet {
            // A terminal that has gone away does not end the workload.
            let _ = writeln!(io::stderr(), "{line}");
        }
        let written = match format {
            Format::Json => print_json(event, seq.fetch_add(1, Relaxed) + 1),
            Format::Text if event.state == WorkloadState::Finished => {
                writeln!(io::stdout(), "{line}")
            }
            Format::Text => Ok(()),
        };
        if written.is_err() {
            // The reader has gone: so do we, quietly.
            stop.store(true, Relaxed);
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Makes this process end with the agent that started it, named by the variable [`PARENT`]; without
/// that variable nothing happens. False if the agent has ended already.
///
/// The child does this for itself, after it has become another user: that change, and an executable
/// with file capabilities, would undo what a parent sets before `exec`.
#[must_use]
pub fn follow_parent() -> bool {
    let Ok(parent) = std::env::var(PARENT) else { return true };
    if let Err(errno) = set_parent_process_death_signal(Some(Signal::TERM)) {
        log::warn!("this workload may outlive stable-trace: {errno}");
    }
    getppid().map(Pid::as_raw_nonzero).map(|pid| pid.to_string()) == Some(parent)
}

fn notes(plan: &Plan, identity: Identity) {
    match identity {
        Identity::Unchanged => {}
        Identity::Dropped(user) => eprintln!("wac: runs as user {}, not as root", user.uid),
        Identity::StillRoot(user) => eprintln!(
            "wac: stays root, because user {} cannot write to {}",
            user.uid,
            plan.target.path().display()
        ),
    }
    if let Target::Directory(path) = &plan.target
        && scratch::in_memory(path)
    {
        eprintln!(
            "wac: {} is in memory and is never written back, so nothing stalls there: choose a \
             --path on a disk",
            path.display()
        );
    }
}

fn print_json(event: Workload, seq: u64) -> io::Result<()> {
    let time = Timestamp::now();
    let line = serde_json::to_string(&Line { seq, time, event: Event::Workload(event) })?;
    // Standard output flushes at the end of a line.
    writeln!(io::stdout(), "{line}")
}
