//! The workload as a child process, so that its stalls are not the agent's.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use stable_trace_analysis::{
    event::{Event, Workload},
    units::Timestamp,
};
use tokio::io::AsyncReadExt;
use tokio::process::{ChildStdout, Command};

use super::args::WacArgs;
use super::error::WorkloadError;
use super::line_splitter::LineSplitter;
use crate::kernel::limits;

/// The environment variable with the agent's pid; see [`super::command::exit_with_parent`].
pub(super) const PARENT_PID_VAR: &str = "STABLE_TRACE_WAC_PARENT";

/// A line that the workload process wrote to its standard output.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// A `workload` event.
    Event {
        /// When the workload wrote the line, which may be much earlier than it is read.
        time: Timestamp,
        /// The event.
        workload: Workload,
    },
    /// The beginning of a line that is not a `workload` event, without control characters. Only the
    /// first such line is reported.
    Malformed(String),
}

/// The fields of a stream line that are used here.
#[derive(Deserialize)]
struct StreamLine {
    time: Timestamp,
    #[serde(flatten)]
    event: Event,
}

/// Parses one line of the JSON stream; `None` unless it is a `workload` event with a time.
fn parse_line(line: &[u8]) -> Option<Message> {
    match serde_json::from_slice(line) {
        Ok(StreamLine { time, event: Event::Workload(workload) }) => {
            Some(Message::Event { time, workload })
        }
        _ => None,
    }
}

/// Converts the bytes of the workload's output to messages.
#[derive(Debug, Default)]
struct MessageReader {
    lines: LineSplitter,
    messages: VecDeque<Message>,
    /// Whether a malformed line has been reported.
    malformed: bool,
}

impl MessageReader {
    fn push(&mut self, bytes: &[u8]) {
        let Self { lines, messages, malformed } = self;
        lines.push(bytes, |line| messages.extend(message(line, malformed)));
    }

    fn finish(&mut self) {
        let Self { lines, messages, malformed } = self;
        lines.finish(|line| messages.extend(message(line, malformed)));
    }
}

fn message(line: &[u8], malformed: &mut bool) -> Option<Message> {
    match parse_line(line) {
        Some(event) => Some(event),
        None if *malformed || line.is_empty() => None,
        None => {
            *malformed = true;
            let text = String::from_utf8_lossy(line);
            let text = text.chars().take(120).map(|c| if c.is_control() { '?' } else { c });
            Some(Message::Malformed(text.collect()))
        }
    }
}

/// A workload process. Dropping it sends SIGTERM.
#[derive(Debug)]
pub struct Child {
    process: tokio::process::Child,
    stdout: Option<ChildStdout>,
    reader: MessageReader,
}

impl Child {
    /// Starts `program wac --no-trace --format json` with the options of `args`. Its workers start
    /// immediately, so probes must be attached before. It writes its progress to the agent's
    /// standard error unless `quiet`.
    ///
    /// The workload ends with the calling thread: for the kernel that thread is the parent
    /// (`PR_SET_PDEATHSIG`). It must live as long as the workload.
    ///
    /// # Errors
    /// [`WorkloadError::Spawn`] if the program cannot be run.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub fn spawn(program: &Path, args: &WacArgs, quiet: bool) -> Result<Self, WorkloadError> {
        let mut command = Command::new(program);
        // SAFETY: between fork and exec the function makes system calls only.
        unsafe { command.pre_exec(limits::restore) };
        let mut process = command
            .args(arguments(args, quiet))
            .env(PARENT_PID_VAR, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| WorkloadError::Spawn { program: program.to_owned(), source })?;
        let stdout = process.stdout.take();
        Ok(Self { process, stdout, reader: MessageReader::default() })
    }

    /// The process id; `None` after [`Child::wait`].
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Reads the next message; `None` at the end of the output. Cancel-safe.
    ///
    /// # Errors
    /// [`WorkloadError::Read`] if the output cannot be read.
    pub async fn next(&mut self) -> Result<Option<Message>, WorkloadError> {
        let mut bytes = [0; 4096];
        loop {
            if let Some(message) = self.reader.messages.pop_front() {
                return Ok(Some(message));
            }
            let Some(stdout) = &mut self.stdout else { return Ok(None) };
            match stdout.read(&mut bytes).await.map_err(WorkloadError::Read)? {
                0 => {
                    self.stdout = None;
                    self.reader.finish();
                }
                count => self.reader.push(&bytes[..count]),
            }
        }
    }

    /// Sends SIGTERM: a `finished` event follows, then the end of the output. Has no effect on a
    /// process that has exited or has got the signal before.
    pub fn stop(&self) {
        let pid = self.process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // The process may have exited, but its pid is not reused before it is waited for.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Waits for the process to exit. Read all messages before: the process may block on a full
    /// pipe.
    ///
    /// # Errors
    /// [`WorkloadError::Wait`] if the kernel refuses.
    pub async fn wait(&mut self) -> Result<ExitStatus, WorkloadError> {
        self.process.wait().await.map_err(WorkloadError::Wait)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.stop();
    }
}

fn arguments(args: &WacArgs, quiet: bool) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        ["wac", "--no-trace", "--format=json"].map(Into::into).into();
    if quiet {
        arguments.push("--quiet".into());
    }
    arguments.extend(args.to_arguments());
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINE: &[u8] = br#"{"seq":1,"time":"2026-01-01T00:00:00Z","type":"workload","state":"started","profile":"a","threads":4,"file_size":65536,"operations":0,"bytes":0,"errors":{}}"#;

    fn messages(bytes: &[u8]) -> Vec<Message> {
        let mut reader = MessageReader::default();
        reader.push(bytes);
        reader.finish();
        reader.messages.into()
    }

    #[test]
    fn malformed_lines_are_reported_once() {
        let text = [LINE, b"\nnonsense \x1b[0m\n\n{}\n", LINE].concat();
        let read = messages(&text);
        assert!(matches!(
            &read[0],
            Message::Event { time, workload }
                if workload.profile == "a" && time.to_string() == "2026-01-01T00:00:00.000000000Z"
        ));
        assert_eq!(read[1], Message::Malformed("nonsense ?[0m".into()));
        assert!(matches!(&read[2], Message::Event { .. }));
        assert_eq!(read.len(), 3);
    }

    #[test]
    fn other_events_and_events_without_a_time_are_not_messages() {
        let lost =
            br#"{"seq":1,"time":"2026-01-01T00:00:00Z","type":"lost","count":1,"since_seq":0}"#;
        assert_eq!(parse_line(lost), None);
        let timeless = String::from_utf8_lossy(LINE).replace("2026-01-01", "2026-13-01");
        assert_eq!(parse_line(timeless.as_bytes()), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_give_at_most_one_message(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let count = messages(&bytes).len();
            prop_assert!(count <= 1);
        }

        #[test]
        fn a_truncated_event_is_not_a_message(end in 0..LINE.len()) {
            prop_assert_eq!(parse_line(&LINE[..end]), None);
        }
    }
}
