//! `stable-trace wac --no-trace`: the workload without tracing.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use rustix::thread::set_name;
use stable_trace_analysis::{
    event::{Event, Line, Workload, WorkloadState},
    units::Timestamp,
};

use super::args::WacArgs;
use super::child::PARENT_PID_VAR;
use super::drop_privileges::{PrivilegeDrop, drop_privileges};
use super::error::WorkloadError;
use super::plan::{Plan, Target};
use super::progress::ProgressFormatter;
use super::signals::stop_on_signals;
use super::{scratch, wac};

/// The format of standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// One line for each finished profile.
    Text,
    /// One JSON object for each event.
    Json,
}

/// Runs the workload in this process until it is complete, until SIGINT, SIGTERM or SIGHUP, or
/// until standard output cannot be written. Writes progress to standard error unless `quiet`.
///
/// Must be called from the main thread before any other thread exists, because it may change the
/// user of the process. Removes the scratch file in any case.
pub(crate) fn run_standalone(
    args: &WacArgs,
    format: Format,
    quiet: bool,
) -> Result<ExitCode, WorkloadError> {
    let plan = Plan::new(args, rustix::param::page_size() as u64)?;
    let privileges = drop_privileges(&plan.target)?;
    if !exit_with_parent() {
        return Ok(ExitCode::SUCCESS);
    }
    // The stalls of the workload have a process name of their own: this is the process's first thread.
    if let Err(errno) = set_name(c"wac") {
        log::debug!("the workload keeps the program's name: {errno}");
    }
    if !quiet {
        print_notes(&plan, privileges);
    }
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signals(Arc::clone(&stop)).map_err(WorkloadError::Signals)?;

    let mut progress = ProgressFormatter::new(Instant::now());
    let seq = AtomicU64::new(0);
    wac::run(&plan, &stop, |event| {
        let line = progress.line(&event, Instant::now());
        if !quiet {
            // A closed terminal does not stop the workload.
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
            // The reader has closed the pipe: stop without an error message.
            stop.store(true, Relaxed);
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Has the kernel send SIGTERM to this process when the agent that started it ends. Returns `false`
/// if the agent has ended already. Without the variable [`PARENT_PID_VAR`] it does nothing.
///
/// The child sets the signal itself, after it has changed its user: that change, and the `exec` of
/// a file with capabilities, clear a signal that the parent sets between `fork` and `exec`.
pub(super) fn exit_with_parent() -> bool {
    let Ok(parent) = std::env::var(PARENT_PID_VAR) else { return true };
    if let Err(errno) = set_parent_process_death_signal(Some(Signal::TERM)) {
        log::warn!(
            "cannot request a signal at the end of the parent, so this workload may outlive it: {errno}"
        );
    }
    getppid().map(Pid::as_raw_nonzero).map(|pid| pid.to_string()) == Some(parent)
}

fn print_notes(plan: &Plan, privileges: PrivilegeDrop) {
    match privileges {
        PrivilegeDrop::NotNeeded => {}
        PrivilegeDrop::Dropped(user) => eprintln!("wac: runs as user {}, not as root", user.uid),
        PrivilegeDrop::StillRoot(user) => eprintln!(
            "wac: stays root, because user {} cannot write to {}",
            user.uid,
            plan.target.path().display()
        ),
    }
    if let Target::Directory(path) = &plan.target
        && scratch::is_in_memory(path)
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
    let line = serde_json::to_string(&Line {
        seq,
        time,
        monotonic_ns: None,
        event: Event::Workload(event),
    })?;
    // Standard output is line-buffered, so this flushes it.
    writeln!(io::stdout(), "{line}")
}
