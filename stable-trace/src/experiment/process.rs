//! Whether a process is still the one that was meant: a pid is used again, a start time is not.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// A process, told from any other that ever had its pid since the machine booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    started: u64,
}

/// How often is looked whether a process has ended.
const LOOK: Duration = Duration::from_millis(10);

impl Process {
    /// The process that has a pid now; nothing if none has.
    pub fn of(pid: u32) -> Option<Self> {
        let started = field(pid, STARTED)?.parse().ok()?;
        Some(Self { pid, started })
    }

    /// Whether it still runs. One that is dead and only not waited for does not.
    pub fn runs(&self) -> bool {
        Self::of(self.pid) == Some(*self)
            && !matches!(field(self.pid, STATE).as_deref(), None | Some("Z" | "X"))
    }

    /// Tells it to end (SIGTERM), later makes it (SIGKILL); false if it still runs after that.
    pub fn end(&self, limit: Duration) -> bool {
        for signal in [Signal::TERM, Signal::KILL] {
            let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
            if let (true, Some(pid)) = (self.runs(), pid) {
                // It may end by itself meanwhile.
                let _ = kill_process(pid, signal);
            }
            if until(limit, || !self.runs()) {
                return true;
            }
        }
        false
    }
}

/// Waits until something is true, for so long at most; whether it is.
pub fn until(limit: Duration, mut is_true: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if is_true() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(LOOK);
    }
}

/// Fields of `/proc/PID/stat` after the name (proc(5)): the 3rd and the 22nd of all.
const STATE: usize = 0;
const STARTED: usize = 19;

fn field(pid: u32, index: usize) -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The name stands in brackets and may have some itself.
    let (_, rest) = text.rsplit_once(") ")?;
    rest.split_ascii_whitespace().nth(index).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_runs_until_it_is_told_to_end() {
        let mut child = Command::new("sleep").arg("3600").stdin(Stdio::null()).spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(process.runs());
        assert!(process.end(Duration::from_mins(1)));
        // Nobody has waited for it, so its pid is still its own.
        assert!(!process.runs());
        child.wait().unwrap();
        assert!(!process.runs() && Process::of(u32::MAX).is_none());
    }

    #[test]
    fn another_process_with_its_pid_is_not_it() {
        let own = Process::of(std::process::id()).unwrap();
        assert!(own.runs());
        assert!(!Process { started: own.started + 1, ..own }.runs());
    }
}
