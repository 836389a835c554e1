//! Reads a recording, even if it is damaged or truncated.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, Read as _},
    mem::replace,
};

use super::{
    line::{Parsed, parse, sequence_number},
    read_error::{Position, ReadError},
};
use crate::event::{Event, FORMAT, Line, Start};

/// The length limit of a line. The longest real one is a `start` with every probe and device: some
/// tens of KiB.
const MAX_LINE_BYTES: u64 = 4 << 20;

/// Iterates over the lines of a recording, with an error in place of each damaged line. Needs no
/// more memory than the longest line.
pub struct Reader<R> {
    input: R,
    buffer: Vec<u8>,
    /// The position of the next line.
    next: Position,
    state: State,
    /// The sequence number of the last line.
    seq: u64,
    /// Whether a newer version wrote the recording.
    is_newer: bool,
    /// Whether the last line says that the run could write no more.
    is_cut: bool,
    wanted: Option<BTreeSet<u64>>,
    /// An error to return before the next line.
    pending: Option<ReadError>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    BeforeStart,
    InRun,
    AfterSummary,
    Ended,
}

/// The result of reading one line into the buffer.
enum Fetched {
    Line { has_newline: bool },
    TooLong,
    EndOfFile,
}

impl<R: BufRead> Reader<R> {
    /// Reads the text of a recording from `input`.
    pub const fn new(input: R) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            next: Position { line: 1, byte: 0 },
            state: State::BeforeStart,
            seq: 0,
            is_newer: false,
            is_cut: false,
            wanted: None,
            pending: None,
        }
    }

    /// Skips most lines with other sequence numbers without checking them: for a recording that is
    /// known to be undamaged.
    #[must_use]
    pub(crate) fn only(self, wanted: BTreeSet<u64>) -> Self {
        Self { wanted: Some(wanted), ..self }
    }

    fn advance(&mut self) -> Option<Result<Line, ReadError>> {
        if let Some(error) = self.pending.take() {
            return Some(Err(error));
        }
        loop {
            if self.state == State::Ended {
                return None;
            }
            let position = self.next;
            let fetched = match self.fetch_line() {
                Ok(fetched) => fetched,
                Err(source) => return Some(Err(self.io_error(position, source))),
            };
            let error = match fetched {
                Fetched::EndOfFile => self.end(position)?,
                Fetched::Line { .. } if self.buffer.trim_ascii().is_empty() => continue,
                _ if self.state == State::AfterSummary => {
                    self.state = State::Ended;
                    ReadError::AfterSummary { position }
                }
                Fetched::TooLong => ReadError::TooLong { position, limit: MAX_LINE_BYTES },
                Fetched::Line { .. } if self.skip_unwanted() => continue,
                Fetched::Line { has_newline } => {
                    return Some(self.parse_line(position, has_newline));
                }
            };
            return Some(Err(self.classify(position, error)));
        }
    }

    /// Skips the line in the buffer if it is unwanted. Returns whether it is.
    fn skip_unwanted(&mut self) -> bool {
        let Some(wanted) = self.wanted.as_ref().filter(|_| self.state == State::InRun) else {
            return false;
        };
        let Some(seq) = sequence_number(&self.buffer) else { return false };
        let unwanted = seq > self.seq && !wanted.contains(&seq);
        if unwanted {
            self.seq = seq;
        }
        unwanted
    }

    /// Reads the next line into the buffer.
    fn fetch_line(&mut self) -> io::Result<Fetched> {
        self.buffer.clear();
        let mut limited = (&mut self.input).take(MAX_LINE_BYTES + 1);
        let read = limited.read_until(b'\n', &mut self.buffer)? as u64;
        self.next.byte += read;
        if read == 0 {
            return Ok(Fetched::EndOfFile);
        }
        self.next.line += 1;
        let has_newline = self.buffer.last() == Some(&b'\n');
        if read <= MAX_LINE_BYTES || has_newline {
            return Ok(Fetched::Line { has_newline });
        }
        self.buffer.clear();
        self.skip_rest_of_line()?;
        Ok(Fetched::TooLong)
    }

    fn skip_rest_of_line(&mut self) -> io::Result<()> {
        loop {
            let bytes = self.input.fill_buf()?;
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let skipped = end.map_or(bytes.len(), |end| end + 1);
            self.input.consume(skipped);
            self.next.byte += skipped as u64;
            if end.is_some() || skipped == 0 {
                return Ok(());
            }
        }
    }

    /// Ends at the end of the file. Returns the error that this is, if it is one.
    fn end(&mut self, position: Position) -> Option<ReadError> {
        match replace(&mut self.state, State::Ended) {
            State::BeforeStart => Some(ReadError::Empty),
            State::InRun if self.is_cut => Some(ReadError::Cut { position }),
            State::InRun => Some(ReadError::NoSummary { position }),
            State::AfterSummary | State::Ended => None,
        }
    }

    fn io_error(&mut self, position: Position, source: io::Error) -> ReadError {
        let state = replace(&mut self.state, State::Ended);
        match source.kind() {
            io::ErrorKind::UnexpectedEof if state == State::BeforeStart => ReadError::Empty,
            io::ErrorKind::UnexpectedEof => ReadError::Truncated { position },
            _ => ReadError::Io { position, source },
        }
    }

    /// A file whose first line is malformed is not a recording: reading ends. Later in the file the
    /// malformed line is skipped.
    fn classify(&mut self, position: Position, error: ReadError) -> ReadError {
        let reason = match error {
            ReadError::Malformed { .. } | ReadError::TooLong { .. }
                if self.state != State::BeforeStart =>
            {
                // The malformed line had a sequence number.
                self.seq = self.seq.saturating_add(1);
                return error;
            }
            ReadError::Malformed { reason, .. } => reason,
            ReadError::TooLong { limit, .. } => format!("it is longer than {limit} bytes"),
            _ => return error,
        };
        self.state = State::Ended;
        ReadError::NotARecording { position, reason }
    }

    /// Parses the line in the buffer.
    fn parse_line(&mut self, position: Position, has_newline: bool) -> Result<Line, ReadError> {
        let error = match parse(&self.buffer) {
            Ok(Parsed::Line(line)) => match self.check_order(position, *line) {
                Ok(line) => return Ok(line),
                Err(error) => error,
            },
            Ok(Parsed::UnknownType { kind, .. }) if self.state == State::BeforeStart => {
                ReadError::Malformed { position, reason: not_a_start(&kind) }
            }
            Ok(Parsed::UnknownType { seq, kind }) => {
                self.seq = self.seq.max(seq);
                ReadError::UnknownType { position, kind }
            }
            Err(_) if !has_newline => {
                let state = replace(&mut self.state, State::Ended);
                // An incomplete first line that begins with a brace may be part of a `start`.
                return Err(if state == State::BeforeStart && !self.buffer.starts_with(b"{") {
                    let reason = "it is not a JSON object".to_owned();
                    ReadError::NotARecording { position, reason }
                } else {
                    ReadError::Truncated { position }
                });
            }
            Err(error) if self.is_newer && error.is_data() => {
                self.seq = self.seq.saturating_add(1);
                ReadError::UnknownContent { position, reason: reason(&error) }
            }
            Err(error) => ReadError::Malformed { position, reason: reason(&error) },
        };
        Err(self.classify(position, error))
    }

    /// Checks that the line's type and sequence number can follow the lines before it.
    fn check_order(&mut self, position: Position, line: Line) -> Result<Line, ReadError> {
        match (&line.event, self.state) {
            (Event::Start(start), State::BeforeStart) => self.begin(start)?,
            (event, State::BeforeStart) => {
                let reason = not_a_start(event.kind());
                return Err(ReadError::Malformed { position, reason });
            }
            (Event::Start(_), _) => {
                self.state = State::Ended;
                return Err(ReadError::SecondRun { position });
            }
            _ if line.seq <= self.seq => return Err(ReadError::OutOfOrder { position }),
            (Event::Summary(_), _) => self.state = State::AfterSummary,
            _ => {}
        }
        let missing = line.seq - self.seq.saturating_add(1).min(line.seq);
        self.seq = line.seq;
        self.is_cut = matches!(&line.event, Event::Lost(lost) if lost.cuts_recording());
        if missing > 0 && self.pending.is_none() {
            self.pending = Some(ReadError::MissingLines { position, missing });
        }
        Ok(line)
    }

    fn begin(&mut self, start: &Start) -> Result<(), ReadError> {
        if start.format > FORMAT {
            self.state = State::Ended;
            return Err(ReadError::NewerFormat { format: start.format });
        }
        self.state = State::InRun;
        self.is_newer = version(&start.version) > version(env!("CARGO_PKG_VERSION"));
        if self.is_newer {
            self.pending = Some(ReadError::NewerVersion { version: start.version.clone() });
        }
        Ok(())
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Line, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance()
    }
}

/// The major, minor and patch numbers of a version.
fn version(text: &str) -> Vec<u64> {
    text.split(['.', '-', '+']).map_while(|part| part.parse().ok()).take(3).collect()
}

fn not_a_start(kind: &str) -> String {
    format!("it is a `{kind}`, not a `start`")
}

/// The message of a `serde_json` error, with its column in place of its position: it parses each
/// line by itself, so its line number is always 1.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let column = error.column();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    let text: String = text.chars().take(end).filter(|char| !char.is_control()).collect();
    format!("{} at byte {column} of the line", text.trim())
}

#[cfg(test)]
mod tests;
