//! What a run is around: nothing, a command, or the paired workload in a process of its own.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt as _,
    process::{ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::event::{Event, Line, Workload};

/// Why there is no errand.
#[derive(Debug, thiserror::Error)]
pub enum ErrandError {
    /// The command cannot be started.
    #[error("cannot run `{}`: {source}; give the command and its arguments after `--`", command.display())]
    Start {
        /// Its first word.
        command: OsString,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// What a run is around.
#[derive(Debug)]
pub enum Errand {
    /// Nothing: until it is told to end.
    Watch,
    /// A command; its output passes through.
    Command(Vec<OsString>),
    /// The paired workload; its standard output is its `workload` events.
    Workload(Vec<OsString>),
}

/// An errand that runs.
pub struct Running {
    child: Option<Child>,
    events: Option<Lines<BufReader<ChildStdout>>>,
    garbled: bool,
}

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// [`ErrandError::Start`] if there is no such command.
    pub fn start(errand: &Errand) -> Result<Self, ErrandError> {
        let (words, events) = match errand {
            Errand::Watch => return Ok(Self { child: None, events: None, garbled: false }),
            Errand::Command(words) => (words, false),
            Errand::Workload(words) => (words, true),
        };
        let (command, arguments) = words.split_first().map_or_else(Default::default, |(first, rest)| {
            (first.clone(), rest)
        });
        let mut spawn = Command::new(&command);
        spawn.args(arguments);
        if events {
            spawn.stdout(Stdio::piped());
        }
        let mut child =
            spawn.spawn().map_err(|source| ErrandError::Start { command, source })?;
        let events = child.stdout.take().map(|stdout| BufReader::new(stdout).lines());
        Ok(Self { child: Some(child), events, garbled: false })
    }

    /// The next thing that it says or does; never returns for [`Errand::Watch`].
    ///
    /// # Errors
    /// The child cannot be waited for.
    pub async fn next(&mut self) -> io::Result<News> {
        if let Some(events) = &mut self.events {
            match events.next_line().await {
                Ok(Some(line)) => return Ok(self.understand(&line)),
                Ok(None) => {}
                Err(error) => log::warn!("the workload's events cannot be read: {error}"),
            }
            self.events = None;
        }
        match &mut self.child {
            Some(child) => {
                let status = child.wait().await?;
                self.child = None;
                Ok(News::Ended(status))
            }
            None => std::future::pending().await,
        }
    }

    fn understand(&mut self, line: &str) -> News {
        match serde_json::from_str::<Line>(line) {
            Ok(Line { event: Event::Workload(workload), .. }) => return News::Says(workload),
            Ok(_) => {}
            Err(error) if !self.garbled => {
                self.garbled = true;
                log::warn!("the workload said something that is no event: {error}");
            }
            Err(_) => {}
        }
        News::Nothing
    }

    /// Tells it to end. Whoever ignores that is waited for all the same.
    pub fn tell_to_end(&self) {
        let pid = self.child.as_ref().and_then(Child::id);
        let pid = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid
            && let Err(error) = kill_process(pid, Signal::TERM)
        {
            log::debug!("the command could not be told to end: {error}");
        }
    }

    /// Whether there is a process to wait for.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.child.is_some()
    }
}

/// What an errand says or does.
#[derive(Debug)]
pub enum News {
    /// The workload's numbers.
    Says(Workload),
    /// It ended.
    Ended(ExitStatus),
    /// Nothing that matters.
    Nothing,
}

/// The exit status that passes on a command's own: its code, or 128 and the signal's number.
#[must_use]
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code & 0xff).unwrap_or(1)
}
