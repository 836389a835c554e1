//! Ends the test program when a test hangs: a hanging test would block all later ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::Result;

/// On an emulated CPU a test may take a minute.
const TIMEOUT: Duration = Duration::from_mins(4);

/// The exit status of libtest when a test has failed.
const FAILED: i32 = 101;

/// Runs a test. On timeout, prints the blocked tasks and ends this program: a thread that the
/// kernel blocks cannot be ended.
pub(crate) fn run_with_watchdog(name: &str, body: impl FnOnce() -> Result<()>) -> Result<()> {
    let (finished, end) = channel::<()>();
    let name = name.to_owned();
    let watcher = thread::spawn(move || {
        if matches!(end.recv_timeout(TIMEOUT), Err(RecvTimeoutError::Timeout)) {
            // libtest has printed the test's name without a line end.
            println!("timed out after {} s", TIMEOUT.as_secs());
            eprintln!("{name} timed out; tasks in uninterruptible sleep:");
            for task in blocked_tasks() {
                eprintln!("{task}");
            }
            process::exit(FAILED);
        }
    });
    let outcome = body();
    drop(finished);
    // The thread returns nothing and does not panic.
    let _ = watcher.join();
    outcome
}

/// Describes each thread in uninterruptible sleep: its name, and its kernel stack where readable.
fn blocked_tasks() -> Vec<String> {
    let mut tasks = Vec::new();
    for process in entries(Path::new("/proc")) {
        for task in entries(&process.join("task")) {
            let read = |file: &str| fs::read_to_string(task.join(file)).unwrap_or_default();
            let status = read("status");
            if status.lines().any(|line| line.starts_with("State:\tD")) {
                tasks.push(format!("{} {}{}", task.display(), read("comm"), read("stack")));
            }
        }
    }
    tasks
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
