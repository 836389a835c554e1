//! Runs one child in the foreground and survives the signals that end it, so that xtask can clean up.

use std::fs::File;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, getpgrp, kill_process};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::shell;

/// From its making on, SIGINT, SIGTERM and SIGHUP no longer end this process.
pub struct Supervisor {
    signals: Signals,
}

impl Supervisor {
    /// Takes the signals over.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn new() -> Result<Self> {
        // SIGCHLD before any child: its end then always wakes `wait`.
        let signals = Signals::new([SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM])
            .context("cannot take over SIGINT, SIGTERM and SIGHUP")?;
        Ok(Self { signals })
    }

    /// Fails if a signal has asked for the end since the last look.
    ///
    /// # Errors
    /// If one has.
    pub fn go_on(&mut self) -> Result<()> {
        match self.signals.pending().find(|signal| *signal != SIGCHLD) {
            Some(signal) => bail!("ended by signal {signal}"),
            None => Ok(()),
        }
    }

    /// Runs a command to its end and hands it the signals that it does not get by itself.
    ///
    /// # Errors
    /// If it does not start.
    pub fn run(&mut self, mut command: Command) -> Result<ExitStatus> {
        // In the foreground of a terminal, its keys reach the child directly: it must get no second
        // SIGINT from here. Anywhere else it gets a process group of its own and every signal from here,
        // so that a signal to xtask's whole group arrives once too.
        let foreground = in_foreground();
        if !foreground {
            command.process_group(0);
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start `{}`", shell::describe(&command)))?;
        loop {
            // The child is not reaped while signals are handed on, so its number is still its own.
            if let Some(status) = child.try_wait().context("cannot wait for the child")? {
                return Ok(status);
            }
            for signal in self.signals.wait() {
                let from_keys = foreground && matches!(signal, SIGINT | SIGQUIT);
                if signal != SIGCHLD && !from_keys {
                    hand_on(&child, signal);
                }
            }
        }
    }
}

/// The exit status to end with for a child's: its own, or 128 + N for signal N.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// Whether this process is in the foreground of its terminal.
fn in_foreground() -> bool {
    File::open("/dev/tty").is_ok_and(|terminal| {
        rustix::termios::tcgetpgrp(&terminal).is_ok_and(|group| group == getpgrp())
    })
}

/// Sends a signal to the child; that it may be gone already is no error.
fn hand_on(child: &Child, signal: i32) {
    if shell::is_root() {
        let pid = Pid::from_child(child);
        if let Some(signal) = Signal::from_named_raw(signal) {
            let _gone = kill_process(pid, signal);
        }
        return;
    }
    // The child is root's sudo, which passes on only signals that come from outside its own group.
    let _gone = Command::new("sudo")
        .args([
            "--non-interactive",
            "--",
            "kill",
            "-s",
            &signal.to_string(),
            &child.id().to_string(),
        ])
        .process_group(0)
        .stderr(Stdio::null())
        .status();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_status_is_the_child_s() {
        for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)] {
            let status = Command::new("sh").args(["-c", script]).status().unwrap();
            assert_eq!(
                format!("{:?}", exit_code(status)),
                format!("{:?}", ExitCode::from(code)),
                "{script}"
            );
        }
    }
}
