//! Child processes that end with this process.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// Makes the kernel send `signal` to the child when the calling thread ends, and lets the child inherit
/// `inherited` with the same numbers. Dropping `command` closes them here.
pub(crate) fn tie(command: &mut Command, signal: Signal, inherited: Vec<OwnedFd>) -> &mut Command {
    let parent = getpid();
    let before_exec = move || {
        set_parent_process_death_signal(Some(signal))?;
        // If the parent ended before the call above, no signal comes.
        if getppid() != Some(parent) {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error()));
        }
        for fd in &inherited {
            fcntl_setfd(fd, FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure only makes system calls. It takes no lock and does not
    // allocate: an `io::Error` made from an error number is on the stack.
    unsafe { command.pre_exec(before_exec) }
}

/// Runs a program to its end and returns its stdout.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = finish(command)?;
    if !done.status.success() {
        bail!("{name} failed ({}): {}", done.status, error_line(&done));
    }
    String::from_utf8(done.stdout).with_context(|| format!("the output of {name} is not UTF-8"))
}

/// Runs a program to its end.
pub(crate) fn finish(command: &mut Command) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    tie(command.stdin(Stdio::null()), Signal::KILL, Vec::new()).output().map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            anyhow::anyhow!("{name} is not installed: install it, then run this again")
        } else {
            anyhow::anyhow!("cannot start {name}: {error}")
        }
    })
}

/// The most useful line of stderr: apt's first error, or else the last line.
pub(crate) fn error_line(done: &Output) -> String {
    let text = String::from_utf8_lossy(&done.stderr);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines()
        .find(|line| line.starts_with("E: "))
        .or_else(|| lines().next_back())
        .unwrap_or("it printed no reason")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named() {
        let error = output(&mut Command::new("no-such-program")).unwrap_err().to_string();
        assert!(error.starts_with("no-such-program is not installed"), "{error}");
    }

    #[test]
    fn the_error_of_a_failing_program_has_its_cause() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'W: hm' >&2; echo 'E: no space' >&2; echo bye >&2; exit 3"]);
        let error = output(&mut command).unwrap_err().to_string();
        assert_eq!(error, "sh failed (exit status: 3): E: no space");
    }
}
