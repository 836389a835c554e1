//! Runs one child and forwards signals to it. This process survives them and cleans up.

use std::fs::File;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, getpgrp, kill_process};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::shell;

/// While this value exists, SIGHUP, SIGINT, SIGQUIT and SIGTERM do not end this process.
pub(crate) struct Supervisor {
    signals: Signals,
}

impl Supervisor {
    pub(crate) fn new() -> Result<Self> {
        // SIGCHLD is registered before any child starts, so that the child's end always wakes `wait`.
        let signals = Signals::new([SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM])
            .context("cannot register signal handlers")?;
        Ok(Self { signals })
    }

    /// Fails if a termination signal has arrived since the last call.
    pub(crate) fn check_signals(&mut self) -> Result<()> {
        match self.signals.pending().find(|signal| *signal != SIGCHLD) {
            Some(signal) => bail!("ended by signal {signal}"),
            None => Ok(()),
        }
    }

    /// Runs a command to its end and forwards the signals that the kernel does not deliver to it.
    pub(crate) fn run(&mut self, mut command: Command) -> Result<ExitStatus> {
        // In the foreground, the terminal sends SIGINT and SIGQUIT to the child too: they are not
        // forwarded. In the background, the child gets its own process group and every signal is
        // forwarded, so that a signal to xtask's group also arrives once.
        let foreground = in_foreground();
        if !foreground {
            command.process_group(0);
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start `{}`", shell::describe(&command)))?;
        loop {
            // The child is not reaped while signals are forwarded, so its PID is not reused.
            if let Some(status) = child.try_wait().context("cannot wait for the child")? {
                return Ok(status);
            }
            for signal in self.signals.wait() {
                let from_terminal = foreground && matches!(signal, SIGINT | SIGQUIT);
                if signal != SIGCHLD && !from_terminal {
                    forward(&child, signal);
                }
            }
        }
    }
}

/// The child's exit status, or 128 + N after signal N.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

fn in_foreground() -> bool {
    File::open("/dev/tty").is_ok_and(|terminal| {
        rustix::termios::tcgetpgrp(&terminal).is_ok_and(|group| group == getpgrp())
    })
}

/// Sends a signal to the child, which may have ended already.
fn forward(child: &Child, signal: i32) {
    if shell::is_root() {
        let pid = Pid::from_child(child);
        if let Some(signal) = Signal::from_named_raw(signal) {
            let _ = kill_process(pid, signal);
        }
        return;
    }
    // The child is sudo, which runs as root and forwards only signals from outside its process group.
    let _ = Command::new("sudo")
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
    fn the_exit_code_is_the_child_s() {
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
