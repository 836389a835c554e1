//! What one run traces: the whole machine, one command, or the paired workload.

use std::{ffi::OsString, io, os::unix::process::ExitStatusExt as _, process::ExitStatus};

use stable_trace_analysis::{event::Workload, units::Timestamp};

use super::job::Job;
use crate::workload::{
    WacArgs, WorkloadError,
    child::{Child as WorkloadChild, Message},
};

/// Why the subject cannot be started or waited for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubjectError {
    #[error("cannot run `{}` (give the command and its arguments after `--`)", command.display())]
    Start {
        command: OsString,
        #[source]
        source: io::Error,
    },
    #[error("cannot wait for the command")]
    Wait(#[source] io::Error),
    #[error(transparent)]
    Workload(#[from] WorkloadError),
}

/// What to start together with the trace.
#[derive(Debug)]
pub(crate) enum Subject {
    /// No process: the run lasts until a signal or `--duration` ends it.
    Machine,
    /// A command and its arguments; not empty.
    Command(Vec<OsString>),
    /// The paired workload.
    Workload { args: WacArgs, quiet: bool },
}

/// A subject that was started.
pub(crate) enum RunningSubject {
    /// No process, or one that has exited.
    None,
    Command(Job),
    Workload(WorkloadChild),
}

/// What happened to the subject's process.
#[derive(Debug)]
pub(crate) enum ChildEvent {
    /// The workload reported its counters.
    Workload {
        time: Timestamp,
        workload: Workload,
    },
    Exited(ExitStatus),
    /// The workload wrote a line that is not an event.
    Ignored,
}

impl RunningSubject {
    pub(crate) fn start(subject: Subject) -> Result<Self, SubjectError> {
        match subject {
            Subject::Machine => Ok(Self::None),
            Subject::Command(words) => {
                let command = words.first().cloned().unwrap_or_default();
                Job::start(&command, words.get(1..).unwrap_or_default())
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

    /// Waits for the next event; pending for ever where no process runs. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<ChildEvent, SubjectError> {
        let status = match self {
            Self::None => std::future::pending().await,
            Self::Command(job) => job.wait().await.map_err(SubjectError::Wait)?,
            Self::Workload(child) => match child.next().await? {
                Some(Message::Event { time, workload }) => {
                    return Ok(ChildEvent::Workload { time, workload });
                }
                Some(Message::Malformed(line)) => {
                    log::warn!("the workload wrote a line that is not an event: {line}");
                    return Ok(ChildEvent::Ignored);
                }
                None => child.wait().await?,
            },
        };
        *self = Self::None;
        Ok(ChildEvent::Exited(status))
    }

    /// Tells the subject to end. The run goes on until all of it has exited.
    pub(crate) fn terminate(&mut self) {
        match self {
            Self::None => {}
            Self::Workload(child) => child.stop(),
            Self::Command(job) => job.end(),
        }
    }

    pub(crate) const fn is_running(&self) -> bool {
        !matches!(self, Self::None)
    }
}

/// Maps the subject's exit status to ours: its code, or 128 plus the signal number.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code & 0xff).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_becomes_128_plus_its_number() {
        assert_eq!(exit_code(ExitStatus::from_raw(0)), 0);
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_code(ExitStatus::from_raw(15)), 143);
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
    }
}
