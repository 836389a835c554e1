//! Starts the measured agent, and the workload.

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

/// Enables the kernel's run-time statistics of BPF programs.
const BPF_STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Calls `run` with the run-time statistics of BPF programs enabled, and restores the setting.
pub(super) fn with_program_statistics<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = fs::read_to_string(BPF_STATS).context("the kernel measures no BPF programs")?;
    fs::write(BPF_STATS, "1")?;
    let result = run();
    fs::write(BPF_STATS, before.trim())?;
    result
}

/// Interval of memory samples.
pub(super) const SAMPLE_INTERVAL: Duration = Duration::from_millis(2);

/// A running agent, which is killed on drop.
pub(crate) struct Agent {
    child: Child,
    /// From exec to the `start` event; none if the stream goes to a file.
    pub(crate) attached_after: Option<Duration>,
    /// Peak resident memory in KiB.
    peak_kib: u64,
    /// URL of the metrics, if it serves any.
    pub(crate) metrics: Option<String>,
}

impl Agent {
    /// Starts an agent that serves no metrics. Only its `start` event is read: the rest of the stream must
    /// fit into the pipe.
    pub(crate) fn idle(program: &Path) -> Result<Self> {
        Self::start(program, &["--listen", "off"])
    }

    /// Starts an agent that serves metrics.
    pub(crate) fn with_metrics(program: &Path) -> Result<Self> {
        // No stall is streamed, since only the first line is read.
        Self::start(program, &["--listen", "127.0.0.1:0", "--min-latency", "1h"])
    }

    fn start(program: &Path, options: &[&str]) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["trace", "-q", "--format", "json"]).args(options).stdout(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn().with_context(|| cannot_start(&command))?;
        let mut first = String::new();
        let out = child.stdout.as_mut().context("the agent has no stdout")?;
        BufReader::new(out).read_line(&mut first).context("cannot read the agent's stream")?;
        let attached_after = started.elapsed();
        let line: Value = serde_json::from_str(&first).unwrap_or_default();
        let metrics = line["metrics"].as_str().map(str::to_owned);
        let agent = Self { child, attached_after: Some(attached_after), peak_kib: 0, metrics };
        if line["type"] != "start" {
            bail!("the agent did not start: it printed `{}`", first.trim());
        }
        Ok(agent)
    }

    /// Starts an agent that writes its stream to a file; returns when its probes are attached.
    pub(crate) fn to_file(program: &Path, options: &[&str], file: &Path) -> Result<Self> {
        let output = File::create(file)
            .with_context(|| format!("cannot write the stream to {}", file.display()))?;
        let mut command = Command::new(program);
        command.args(["trace", "-q", "--listen", "off"]).args(options).stdout(output);
        let child = command.spawn().with_context(|| cannot_start(&command))?;
        let mut agent = Self { child, attached_after: None, peak_kib: 0, metrics: None };
        // The first line is written after all probes are attached.
        while file.metadata().is_ok_and(|file| file.len() == 0) {
            if let Some(status) = agent.child.try_wait().context("cannot wait for the agent")? {
                return Err(shell::failed(&command, status));
            }
            thread::sleep(SAMPLE_INTERVAL);
        }
        Ok(agent)
    }

    /// Stops the agent and returns its peak resident memory in KiB.
    pub(crate) fn stop(mut self) -> Result<u64> {
        self.sample_peak();
        kill_process(Pid::from_child(&self.child), Signal::INT).context("cannot stop the agent")?;
        // The clean-up takes memory too.
        loop {
            self.sample_peak();
            if let Some(status) = self.child.try_wait().context("cannot wait for the agent")? {
                if !status.success() {
                    bail!("the agent failed ({status})");
                }
                return Ok(self.peak_kib);
            }
            thread::sleep(SAMPLE_INTERVAL);
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory in KiB.
    pub(crate) fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        field(&status, "VmRSS:").context("/proc/PID/status has no VmRSS")
    }

    fn sample_peak(&mut self) {
        self.peak_kib = peak_kib(self.child.id()).max(self.peak_kib);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Peak resident memory of a process in KiB; 0 if it has ended. The peak that `wait4` returns would
/// include the memory of the process before `exec`, which is that of xtask.
pub(crate) fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status"));
    status.ok().as_deref().and_then(peak).unwrap_or(0)
}

/// `VmHWM` of `/proc/PID/status`, in KiB.
fn peak(status: &str) -> Option<u64> {
    field(status, "VmHWM:")
}

/// A size in `/proc/PID/status`, in KiB.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Runs wac with profile a and 64 threads in `folder`; returns its operations per second.
pub(crate) fn wac(program: &Path, folder: &Path, duration: Duration) -> Result<f64> {
    workload(program, folder, "a", duration)
}

/// Runs wac with a profile and 64 threads in `folder`; returns its operations per second.
pub(crate) fn workload(
    program: &Path,
    folder: &Path,
    profile: &str,
    duration: Duration,
) -> Result<f64> {
    let mut command = Command::new(program);
    command.args(["wac", "--no-trace", "-q", "--format=json", "--threads=64"]);
    command.args(["--profile", profile]);
    command.arg(format!("--duration={}ms", duration.as_millis()));
    command.arg("--path").arg(folder);
    let operations = operations(&shell::output(&mut command)?)
        .with_context(|| format!("`{}` printed no final event", shell::describe(&command)))?;
    Ok(operations / duration.as_secs_f64())
}

/// Number of operations in the last line of wac's stream.
pub(crate) fn operations(stream: &str) -> Option<f64> {
    let line: Value = serde_json::from_str(stream.lines().last()?).ok()?;
    (line["state"] == "finished").then(|| line["operations"].as_f64()).flatten()
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`", shell::describe(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_parsed_in_kib() {
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
