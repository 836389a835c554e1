//! Identifies a process by its pid and its start time, because a pid is reused.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// A process, distinct from any other that has had its pid since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Start time, in clock ticks since boot.
    started: u64,
}

const POLL_INTERVAL: Duration = Duration::from_millis(10);

impl Process {
    /// The process that has this pid now.
    pub(super) fn from_pid(pid: u32) -> Option<Self> {
        let started = stat_field(pid, START_TIME)?.parse().ok()?;
        Some(Self { pid, started })
    }

    /// Whether the process runs. A zombie does not.
    pub(super) fn is_running(&self) -> bool {
        Self::from_pid(self.pid) == Some(*self)
            && !matches!(stat_field(self.pid, STATE).as_deref(), None | Some("Z" | "X"))
    }

    /// Sends SIGTERM and, after `timeout`, SIGKILL. Returns `false` if the process runs after
    /// another `timeout`.
    pub(super) fn terminate(&self, timeout: Duration) -> bool {
        for signal in [Signal::TERM, Signal::KILL] {
            let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
            if let (true, Some(pid)) = (self.is_running(), pid) {
                // The process may exit before the signal arrives.
                let _ = kill_process(pid, signal);
            }
            if wait_until(timeout, || !self.is_running()) {
                return true;
            }
        }
        false
    }
}

/// Polls a condition until it holds or times out; returns whether it holds.
pub(super) fn wait_until(timeout: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + timeout;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Fields of `/proc/PID/stat` (proc(5)), counted from the first one after the command name.
const STATE: usize = 0;
const START_TIME: usize = 19;

fn stat_field(pid: u32, index: usize) -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The command name is in parentheses and may contain some.
    let (_, rest) = text.rsplit_once(") ")?;
    rest.split_ascii_whitespace().nth(index).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_runs_until_it_is_terminated() {
        let mut child = Command::new("sleep").arg("3600").stdin(Stdio::null()).spawn().unwrap();
        let process = Process::from_pid(child.id()).unwrap();
        assert!(process.is_running());
        assert!(process.terminate(Duration::from_mins(1)));
        // The child is a zombie, so its pid is not reused.
        assert!(!process.is_running());
        child.wait().unwrap();
        assert!(!process.is_running() && Process::from_pid(u32::MAX).is_none());
    }

    #[test]
    fn a_process_with_another_start_time_is_another_process() {
        let own = Process::from_pid(std::process::id()).unwrap();
        assert!(own.is_running());
        assert!(!Process { started: own.started + 1, ..own }.is_running());
    }
}
