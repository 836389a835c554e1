//! A test that does not end takes all that come after it with it: it is ended, with the tasks that
//! the kernel holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::Result;

/// How long a test may take: some need a minute where each instruction is emulated.
const LIMIT: Duration = Duration::from_mins(4);

/// What libtest ends with if a test failed.
const FAILED: i32 = 101;

/// Runs a test. If it takes too long, says who waits for what in the kernel, and ends this program:
/// nothing can end a thread that the kernel does not let go.
pub fn watched(name: &str, story: impl FnOnce() -> Result<()>) -> Result<()> {
    let (over, end) = channel::<()>();
    let name = name.to_owned();
    let watcher = thread::spawn(move || {
        if matches!(end.recv_timeout(LIMIT), Err(RecvTimeoutError::Timeout)) {
            // After the test's name, which stands there without an end.
            println!("no end after {} s", LIMIT.as_secs());
            eprintln!("{name} does not end; tasks that the kernel holds:");
            for task in held() {
                eprintln!("{task}");
            }
            process::exit(FAILED);
        }
    });
    let outcome = story();
    drop(over);
    // It has nothing to say and cannot panic.
    let _ = watcher.join();
    outcome
}

/// Each thread in uninterruptible sleep: its name, and its kernel stack where we may read it.
fn held() -> Vec<String> {
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
