//! The workload as a process of its own, so that its waits are not the agent's.

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
use super::lines::Lines;

/// Tells a workload process whose child it is; see [`super::command::follow_parent`].
pub const PARENT: &str = "STABLE_TRACE_WAC_PARENT";

/// What a workload process said on its standard output.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// An event, and when it was said: RFC 3339 in UTC. We may read it much later.
    Event {
        /// When.
        time: Timestamp,
        /// What.
        workload: Workload,
    },
    /// A line that is none, as far as it can be printed. Only the first is reported.
    Garbled(String),
}

/// A line of the stream, of which only the event is wanted.
#[derive(Deserialize)]
struct Said {
    time: Timestamp,
    #[serde(flatten)]
    event: Event,
}

/// The event in one line of a workload's JSON stream; `None` if it is not a `workload` event with a
/// time.
#[must_use]
pub fn parse_line(line: &[u8]) -> Option<Message> {
    match serde_json::from_slice(line) {
        Ok(Said { time, event: Event::Workload(workload) }) => {
            Some(Message::Event { time, workload })
        }
        _ => None,
    }
}

/// Lines to messages.
#[derive(Debug, Default)]
struct Reader {
    lines: Lines,
    messages: VecDeque<Message>,
    garbled: bool,
}

impl Reader {
    fn push(&mut self, bytes: &[u8]) {
        let Self { lines, messages, garbled } = self;
        lines.push(bytes, |line| messages.extend(message(line, garbled)));
    }

    fn finish(&mut self) {
        let Self { lines, messages, garbled } = self;
        lines.finish(|line| messages.extend(message(line, garbled)));
    }
}

fn message(line: &[u8], garbled: &mut bool) -> Option<Message> {
    match parse_line(line) {
        Some(event) => Some(event),
        None if *garbled || line.is_empty() => None,
        None => {
            *garbled = true;
            let text = String::from_utf8_lossy(line);
            let text = text.chars().take(120).map(|c| if c.is_control() { '?' } else { c });
            Some(Message::Garbled(text.collect()))
        }
    }
}

/// A running workload process. Dropped before its end it is told to stop.
#[derive(Debug)]
pub struct Child {
    process: tokio::process::Child,
    stdout: Option<ChildStdout>,
    reader: Reader,
}

impl Child {
    /// Starts `program wac --no-trace --format json` with the options of `args`. Its workers start at
    /// once: attach the probes first. Its progress goes to this process's stderr unless `quiet`.
    ///
    /// If the thread that calls this ends, the workload ends, too, and removes its scratch file: to
    /// the kernel the parent is that thread. Call it from one that lives as long as the process.
    ///
    /// # Errors
    /// [`WorkloadError::Child`] if the program cannot be run.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub fn spawn(program: &Path, args: &WacArgs, quiet: bool) -> Result<Self, WorkloadError> {
        let mut process = Command::new(program)
            .args(words(args, quiet))
            .env(PARENT, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| WorkloadError::Child { program: program.to_owned(), source })?;
        let stdout = process.stdout.take();
        Ok(Self { process, stdout, reader: Reader::default() })
    }

    /// The process's id; `None` once it was waited for.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// What it says next; `None` when it has closed its output, which it does by ending.
    /// Cancel-safe: nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// [`WorkloadError::ChildLost`] if its output cannot be read.
    pub async fn next(&mut self) -> Result<Option<Message>, WorkloadError> {
        let mut bytes = [0; 4096];
        loop {
            if let Some(message) = self.reader.messages.pop_front() {
                return Ok(Some(message));
            }
            let Some(stdout) = &mut self.stdout else { return Ok(None) };
            match stdout.read(&mut bytes).await.map_err(WorkloadError::ChildLost)? {
                0 => {
                    self.stdout = None;
                    self.reader.finish();
                }
                count => self.reader.push(&bytes[..count]),
            }
        }
    }

    /// Asks it to end (SIGTERM): a `finished` event follows, then the end of its output. Asking
    /// again, or asking one that has ended, does nothing.
    pub fn stop(&self) {
        let pid = self.process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended just now; until it is waited for the id stays its own.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Waits for its end. Read its messages until `None` first, or it may wait for a reader.
    ///
    /// # Errors
    /// [`WorkloadError::ChildLost`] if it cannot be waited for.
    pub async fn wait(&mut self) -> Result<ExitStatus, WorkloadError> {
        self.process.wait().await.map_err(WorkloadError::ChildLost)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.stop();
    }
}

fn words(args: &WacArgs, quiet: bool) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["wac", "--no-trace", "--format=json"].map(Into::into).into();
    if quiet {
        words.push("--quiet".into());
    }
    words.extend(args.to_words());
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINE: &[u8] = br#"{"seq":1,"time":"2026-01-01T00:00:00Z","type":"workload","state":"started","profile":"a","threads":4,"file_size":65536,"operations":0,"bytes":0,"errors":{}}"#;

    fn messages(bytes: &[u8]) -> Vec<Message> {
        let mut reader = Reader::default();
        reader.push(bytes);
        reader.finish();
        reader.messages.into()
    }

    #[test]
    fn an_event_is_read_and_garbage_is_reported_once() {
        let text = [LINE, b"\nnonsense \x1b[0m\n\n{}\n", LINE].concat();
        let said = messages(&text);
        assert!(matches!(
            &said[0],
            Message::Event { time, workload }
                if workload.profile == "a" && time.to_string() == "2026-01-01T00:00:00.000000000Z"
        ));
        assert_eq!(said[1], Message::Garbled("nonsense ?[0m".into()));
        assert!(matches!(&said[2], Message::Event { .. }));
        assert_eq!(said.len(), 3);
    }

    #[test]
    fn another_event_is_none_of_a_workload() {
        let lost =
            br#"{"seq":1,"time":"2026-01-01T00:00:00Z","type":"lost","count":1,"since_seq":0}"#;
        assert_eq!(parse_line(lost), None);
        let timeless = String::from_utf8_lossy(LINE).replace("2026-01-01", "2026-13-01");
        assert_eq!(parse_line(timeless.as_bytes()), None);
    }

    proptest! {
        #[test]
        fn reading_is_total(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let garbled = messages(&bytes).len();
            prop_assert!(garbled <= 1);
        }

        #[test]
        fn a_torn_event_is_no_panic(end in 0..LINE.len()) {
            prop_assert_eq!(parse_line(&LINE[..end]), None);
        }
    }
}
