//! What a run is around: nothing, a command, or the paired workload in a process of its own.

use std::{ffi::OsString, io, os::unix::process::ExitStatusExt as _, process::ExitStatus};

use rustix::process::{Pid, Signal, kill_process};
use stable_trace_analysis::{event::Workload, units::Timestamp};
use tokio::process::{Child, Command};

use crate::workload::{
    WacArgs, WorkloadError,
    child::{Child as WorkloadChild, Message},
};

/// Why there is no subject.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    /// The command cannot be started.
    #[error("cannot run `{}`: {source}; give the command and its arguments after `--`", command.display())]
    Start {
        /// Its first word.
        command: OsString,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The command cannot be waited for.
    #[error("the command cannot be waited for: {0}")]
    Wait(#[source] io::Error),
    /// The workload has trouble.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
}

/// What a run is around.
#[derive(Debug)]
pub enum Subject {
    /// Nothing: until it is told to end.
    Watch,
    /// A command.
    Command(
        /// Its words; not empty.
        Vec<OsString>,
    ),
    /// The paired workload.
    Workload {
        /// Its options.
        args: WacArgs,
        /// Whether it says nothing on stderr.
        quiet: bool,
    },
}

/// An subject under way.
pub enum Running {
    /// Nothing, or something that has ended.
    Nothing,
    /// A command.
    Command(Child),
    /// The paired workload.
    Workload(WorkloadChild),
}

/// What an subject says or does.
#[derive(Debug)]
pub enum ChildEvent {
    /// The workload's numbers.
    Reports {
        /// When it reported them.
        time: Timestamp,
        /// What it said.
        workload: Workload,
    },
    /// It ended.
    Ended(ExitStatus),
    /// Nothing that matters.
    Nothing,
}

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// [`SubjectError`] if there is no such command.
    pub fn start(subject: Subject) -> Result<Self, SubjectError> {
        match subject {
            Subject::Watch => Ok(Self::Nothing),
            Subject::Command(words) => {
                let command = words.first().cloned().unwrap_or_default();
                Command::new(&command)
                    .args(words.iter().skip(1))
                    .spawn()
                    .map(Self::Command)
                    .map_err(|source| SubjectError::Start { command, source })
            }
            Subject::Workload { args, quiet } => {
                let program = std::env::current_exe().map_err(|source| SubjectError::Start {
                    command: "stable-trace".into(),
                    source,
                })?;
                Ok(Self::Workload(WorkloadChild::spawn(&program, &args, quiet)?))
            }
        }
    }

    /// The next thing that it says or does; never returns if nothing runs. Nothing is lost if the
    /// future is dropped.
    ///
    /// # Errors
    /// The child cannot be read or waited for.
    pub async fn next(&mut self) -> Result<ChildEvent, SubjectError> {
        let status = match self {
            Self::Nothing => std::future::pending().await,
            Self::Command(child) => child.wait().await.map_err(SubjectError::Wait)?,
            Self::Workload(child) => match child.next().await? {
                Some(Message::Event { time, workload }) => {
                    return Ok(ChildEvent::Reports { time, workload });
                }
                Some(Message::Malformed(line)) => {
                    log::warn!("the workload said something that is no event: {line}");
                    return Ok(ChildEvent::Nothing);
                }
                None => child.wait().await?,
            },
        };
        *self = Self::Nothing;
        Ok(ChildEvent::Ended(status))
    }

    /// Tells it to end (SIGTERM). Whoever ignores that is waited for all the same.
    pub fn tell_to_end(&self) {
        match self {
            Self::Nothing => {}
            Self::Workload(child) => child.stop(),
            Self::Command(child) => {
                let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
                if let Some(pid) = pid
                    && let Err(error) = kill_process(pid, Signal::TERM)
                {
                    log::debug!("the command could not be told to end: {error}");
                }
            }
        }
    }

    /// Whether there is a process to wait for.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        !matches!(self, Self::Nothing)
    }
}

/// The exit status that passes on a command's own: its code, or 128 and the signal's number.
#[must_use]
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code & 0xff).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_128_and_its_number() {
        assert_eq!(exit_code(ExitStatus::from_raw(0)), 0);
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_code(ExitStatus::from_raw(15)), 143);
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
    }
}
