//! Child processes, signals and threads.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustix::process::{
    Pid, Signal, kill_process, kill_process_group, set_parent_process_death_signal,
};
use signal_hook::consts::SIGHUP;

/// A child process that is killed and reaped on drop.
#[derive(Debug)]
pub(crate) struct KillOnDrop(pub Child);

impl Deref for KillOnDrop {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for KillOnDrop {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // The child may have exited already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets the kernel kill the child when the thread that spawns it ends.
pub(crate) fn kill_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes one system call: it takes no lock and
    // allocates nothing.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
}

/// Lets children get SIGHUP, also if this process ignores it, as under `nohup`: they would ignore it too, but a signal
/// with a handler has its default in them (signal(7)).
pub(crate) fn hand_hangups_down() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    if ignored.is_some_and(|mask| mask & 1 << (SIGHUP - 1) != 0)
        && let Err(error) = signal_hook::flag::register(SIGHUP, Arc::default())
    {
        eprintln!("cannot handle SIGHUP: {error}");
    }
}

pub(crate) fn send_signal(pid: u32, signal: Signal) -> Result<()> {
    kill_process(raw_pid(pid)?, signal)
        .with_context(|| format!("cannot send {signal:?} to process {pid}"))
}

/// Kills all processes of a process group.
pub(crate) fn kill_group(leader: u32) -> Result<()> {
    kill_process_group(raw_pid(leader)?, Signal::KILL)
        .with_context(|| format!("cannot kill the process group {leader}"))
}

fn raw_pid(pid: u32) -> Result<Pid> {
    Pid::from_raw(pid.cast_signed()).with_context(|| format!("{pid} is not a process ID"))
}

/// Lists the IDs of a process's threads.
pub(crate) fn threads(pid: u32) -> Result<Vec<u32>> {
    let path = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&path)
        .with_context(|| format!("cannot list {path}: the process may have exited"))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}
