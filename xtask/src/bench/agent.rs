//! The agent under measurement, and the workload beside it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::shell;

/// How often the memory of an agent that is about to end is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// An agent that traces. Dropped, it is killed.
pub struct Agent {
    child: Child,
    /// From its start until its `start` line was read; none if it goes elsewhere.
    pub attached_after: Option<Duration>,
    /// The most that it was seen to have in memory, in KiB.
    peak_kib: u64,
    /// Where it serves metrics, if it was told to.
    pub metrics: Option<String>,
}

impl Agent {
    /// One whose stream is read until it says that all is attached, and then no more: what follows
    /// must fit into the pipe.
    pub fn idle(program: &Path) -> Result<Self> {
        Self::quiet(program, &["--listen", "off"])
    }

    /// The same, with metrics.
    pub fn scraped(program: &Path) -> Result<Self> {
        // Nothing but the first line is read, so nothing may follow.
        Self::quiet(program, &["--listen", "127.0.0.1:0", "--min-latency", "1h"])
    }

    fn quiet(program: &Path, options: &[&str]) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["trace", "-q", "--format", "json"]).args(options).stdout(Stdio::piped());
        let began = Instant::now();
        let mut child = command.spawn().with_context(|| describe(&command))?;
        let mut first = String::new();
        let out = child.stdout.as_mut().context("the agent has no output")?;
        BufReader::new(out).read_line(&mut first).context("cannot read what the agent says")?;
        let attached_after = began.elapsed();
        let line: Value = serde_json::from_str(&first).unwrap_or_default();
        let metrics = line["metrics"].as_str().map(str::to_owned);
        let agent = Self { child, attached_after: Some(attached_after), peak_kib: 0, metrics };
        if line["type"] != "start" {
            bail!("the agent did not start: it said `{}`", first.trim());
        }
        Ok(agent)
    }

    /// One with these options whose stream goes to a file; returns when it is attached.
    pub fn into_file(program: &Path, options: &[&str], file: &Path) -> Result<Self> {
        let output = File::create(file)
            .with_context(|| format!("cannot write the stream to {}", file.display()))?;
        let mut command = Command::new(program);
        command.args(["trace", "-q", "--listen", "off"]).args(options).stdout(output);
        let child = command.spawn().with_context(|| describe(&command))?;
        let mut agent = Self { child, attached_after: None, peak_kib: 0, metrics: None };
        // The first line comes once everything is attached.
        while file.metadata().is_ok_and(|file| file.len() == 0) {
            if let Some(status) = agent.child.try_wait().context("cannot wait for the agent")? {
                return Err(shell::failed(&command, status));
            }
            thread::sleep(LOOK);
        }
        Ok(agent)
    }

    /// Tells it to end, and how much memory it had at its peak, in KiB.
    pub fn end(mut self) -> Result<u64> {
        self.look();
        kill_process(Pid::from_child(&self.child), Signal::INT)
            .context("cannot tell the agent to end")?;
        // Its end takes memory, too: the last of all counts.
        loop {
            self.look();
            if let Some(status) = self.child.try_wait().context("cannot wait for the agent")? {
                if !status.success() {
                    bail!("the agent ended badly ({status})");
                }
                return Ok(self.peak_kib);
            }
            thread::sleep(LOOK);
        }
    }

    /// What it has in memory now, in KiB.
    pub fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        field(&status, "VmRSS:").context("the kernel does not say what is in memory")
    }

    /// The kernel's own record of the peak. Not the one that `wait4` gives: that includes what the
    /// process had before `exec`, which was ours.
    fn look(&mut self) {
        self.peak_kib = peak_kib(self.child.id()).max(self.peak_kib);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The most that a process has had in memory so far, in KiB, by the kernel's own record; 0 if it is
/// gone. Not what `wait4` gives: that includes what the process had before `exec`, which was ours.
pub fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status"));
    status.ok().as_deref().and_then(peak).unwrap_or(0)
}

/// `VmHWM` of `/proc/PID/status`, in KiB.
fn peak(status: &str) -> Option<u64> {
    field(status, "VmHWM:")
}

/// A size of `/proc/PID/status`, in KiB.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Has wac profile a rewrite a file in `folder` from 64 threads; returns its operations a second.
pub fn wac(program: &Path, folder: &Path, duration: Duration) -> Result<f64> {
    workload(program, folder, "a", duration)
}

/// The same with another profile.
pub fn workload(program: &Path, folder: &Path, profile: &str, duration: Duration) -> Result<f64> {
    let mut command = Command::new(program);
    command.args(["wac", "--no-trace", "-q", "--format=json", "--threads=64"]);
    command.args(["--profile", profile]);
    command.arg(format!("--duration={}ms", duration.as_millis()));
    command.arg("--path").arg(folder);
    let operations = operations(&shell::output(&mut command)?)
        .with_context(|| format!("`{}` did not say how it ended", shell::describe(&command)))?;
    Ok(operations / duration.as_secs_f64())
}

/// What the last line of wac counts.
pub fn operations(said: &str) -> Option<f64> {
    let line: Value = serde_json::from_str(said.lines().last()?).ok()?;
    (line["state"] == "finished").then(|| line["operations"].as_f64()).flatten()
}

fn describe(command: &Command) -> String {
    format!("cannot start `{}`", shell::describe(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_in_kib() {
        assert_eq!(peak("VmPeak:\t  9000 kB\nVmHWM:\t   10904 kB\nVmRSS:\t 1 kB\n"), Some(10904));
        assert_eq!(peak("Name:\tkthread\n"), None);
    }

    #[test]
    fn only_the_last_line_counts_operations() {
        let lines =
            "{\"state\":\"started\",\"operations\":0}\n{\"state\":\"finished\",\"operations\":7}\n";
        assert_eq!(operations(lines), Some(7.0));
        assert_eq!(operations("{\"state\":\"progress\",\"operations\":7}"), None);
        assert_eq!(operations(""), None);
    }
}
