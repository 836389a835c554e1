//! Reading a recording, whatever became of it.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, Read as _},
};

use super::{
    fault::{Fault, Place},
    line::{self, Parsed, parse},
};
use crate::event::{Event, FORMAT, Line, Start};

/// The most bytes that a line may have. The longest of real ones is a `start` with every probe and
/// device, which is some tens of KiB.
const LONGEST: u64 = 4 << 20;

/// Reads a recording line by line: what can be read, and what is wrong with the rest. A line that is
/// damaged is passed over. Needs no more memory than the longest line.
pub struct Reader<R> {
    input: R,
    longest: u64,
    buffer: Vec<u8>,
    /// Where the next line begins.
    next: Place,
    state: State,
    seq: u64,
    newer: bool,
    wanted: Option<BTreeSet<u64>>,
    /// What is said before anything else is read.
    pending: Option<Fault>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Fresh,
    Started,
    Summed,
    Over,
}

/// What was found where a line should be.
enum Found {
    /// A line, with its end or not.
    Text {
        ended: bool,
    },
    Long,
    Nothing,
}

impl<R: BufRead> Reader<R> {
    /// Reads from `input`.
    pub const fn new(input: R) -> Self {
        Self {
            input,
            longest: LONGEST,
            buffer: Vec::new(),
            next: Place { line: 1, byte: 0 },
            state: State::Fresh,
            seq: 0,
            newer: false,
            wanted: None,
            pending: None,
        }
    }

    /// Passes over most lines of other numbers than these without looking whether they are whole: for
    /// a recording that is known to be.
    #[must_use]
    pub fn only(self, wanted: BTreeSet<u64>) -> Self {
        Self { wanted: Some(wanted), ..self }
    }

    /// The next line, or what is wrong in its place; nothing after the end.
    fn advance(&mut self) -> Option<Result<Line, Fault>> {
        if let Some(fault) = self.pending.take() {
            return Some(Err(fault));
        }
        loop {
            if self.state == State::Over {
                return None;
            }
            let place = self.next;
            let found = match self.fetch() {
                Ok(found) => found,
                Err(source) => return Some(Err(self.unreadable(place, source))),
            };
            let fault = match found {
                Found::Nothing => self.end(place),
                _ if self.state == State::Summed => {
                    if self.buffer.trim_ascii().is_empty() && !matches!(found, Found::Long) {
                        continue;
                    }
                    self.state = State::Over;
                    Some(Fault::AfterEnd { place })
                }
                Found::Long => Some(Fault::TooLong { place, limit: self.longest }),
                Found::Text { .. } if self.buffer.trim_ascii().is_empty() => continue,
                Found::Text { .. } if self.is_unwanted() => continue,
                Found::Text { ended } => return Some(self.understand(place, ended)),
            };
            match fault {
                Some(fault) => return Some(Err(self.judge(place, fault))),
                None => return None,
            }
        }
    }

    /// Whether nobody wants the line: then it counts as read.
    fn is_unwanted(&mut self) -> bool {
        let Some(wanted) = self.wanted.as_ref().filter(|_| self.state == State::Started) else {
            return false;
        };
        let Some(seq) = line::number(&self.buffer) else { return false };
        let unwanted = seq > self.seq && !wanted.contains(&seq);
        if unwanted {
            self.seq = seq;
        }
        unwanted
    }

    /// Takes the next line into the buffer.
    fn fetch(&mut self) -> io::Result<Found> {
        self.buffer.clear();
        let mut limited = (&mut self.input).take(self.longest + 1);
        let read = limited.read_until(b'\n', &mut self.buffer)? as u64;
        self.next.byte += read;
        if read == 0 {
            return Ok(Found::Nothing);
        }
        self.next.line += 1;
        let ended = self.buffer.last() == Some(&b'\n');
        if read <= self.longest || ended {
            return Ok(Found::Text { ended });
        }
        self.buffer.clear();
        self.skip_line()?;
        Ok(Found::Long)
    }

    /// Passes over the rest of a line without keeping it.
    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let bytes = self.input.fill_buf()?;
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let passed = end.map_or(bytes.len(), |end| end + 1);
            self.input.consume(passed);
            self.next.byte += passed as u64;
            if end.is_some() || passed == 0 {
                return Ok(());
            }
        }
    }

    /// What the end of the file means.
    fn end(&mut self, place: Place) -> Option<Fault> {
        let state = self.state;
        self.state = State::Over;
        match state {
            State::Fresh => Some(Fault::Empty),
            State::Started => Some(Fault::NoEnd { place }),
            State::Summed | State::Over => None,
        }
    }

    fn unreadable(&mut self, place: Place, source: io::Error) -> Fault {
        let fresh = self.state == State::Fresh;
        self.state = State::Over;
        match source.kind() {
            io::ErrorKind::UnexpectedEof if fresh => Fault::Empty,
            io::ErrorKind::UnexpectedEof => Fault::Cut { place },
            _ => Fault::Read { place, source },
        }
    }

    /// A file whose first line is at fault is no recording, and is read no further.
    fn judge(&mut self, place: Place, fault: Fault) -> Fault {
        let reason = match fault {
            Fault::Garbled { .. } | Fault::TooLong { .. } if self.state != State::Fresh => {
                // It had a number, too.
                self.seq = self.seq.saturating_add(1);
                return fault;
            }
            Fault::Garbled { reason, .. } => reason,
            Fault::TooLong { limit, .. } => format!("it is longer than {limit} bytes"),
            _ => return fault,
        };
        self.state = State::Over;
        Fault::Foreign { place, reason }
    }

    fn understand(&mut self, place: Place, ended: bool) -> Result<Line, Fault> {
        let fault = match parse(&self.buffer) {
            Ok(Parsed::Line(line)) => match self.follow(place, *line) {
                Ok(line) => return Ok(line),
                Err(fault) => fault,
            },
            Ok(Parsed::Unknown { kind, .. }) if self.state == State::Fresh => {
                Fault::Garbled { place, reason: format!("it is a `{kind}`, not a `start`") }
            }
            Ok(Parsed::Unknown { seq, kind }) => {
                self.seq = self.seq.max(seq);
                Fault::Unknown { place, kind }
            }
            Err(_) if !ended => {
                let fresh = self.state == State::Fresh;
                self.state = State::Over;
                // Whatever begins with a brace may be the beginning of a `start`.
                return Err(if fresh && !self.buffer.starts_with(b"{") {
                    Fault::Foreign { place, reason: "it is no JSON object".to_owned() }
                } else {
                    Fault::Cut { place }
                });
            }
            // What a later version added to what is known here.
            Err(error) if self.newer && error.is_data() => {
                self.seq = self.seq.saturating_add(1);
                Fault::Unfamiliar { place, reason: without_position(&error) }
            }
            Err(error) => Fault::Garbled { place, reason: without_position(&error) },
        };
        Err(self.judge(place, fault))
    }

    /// Whether a line belongs where it stands.
    fn follow(&mut self, place: Place, line: Line) -> Result<Line, Fault> {
        match (&line.event, self.state) {
            (Event::Start(start), State::Fresh) => self.begin(start)?,
            (event, State::Fresh) => {
                let reason = format!("it is a `{}`, not a `start`", event.kind());
                return Err(Fault::Garbled { place, reason });
            }
            (Event::Start(_), _) => {
                self.state = State::Over;
                return Err(Fault::SecondRun { place });
            }
            _ if line.seq <= self.seq => return Err(Fault::Backwards { place }),
            (Event::Summary(_), _) => self.state = State::Summed,
            _ => {}
        }
        let missing = line.seq - self.seq.saturating_add(1).min(line.seq);
        self.seq = line.seq;
        if missing > 0 && self.pending.is_none() {
            self.pending = Some(Fault::Gap { place, missing });
        }
        Ok(line)
    }

    fn begin(&mut self, start: &Start) -> Result<(), Fault> {
        if start.format > FORMAT {
            self.state = State::Over;
            return Err(Fault::NewerFormat { format: start.format });
        }
        self.state = State::Started;
        self.newer = version(&start.version) > version(env!("CARGO_PKG_VERSION"));
        if self.newer {
            self.pending = Some(Fault::Newer { version: start.version.clone() });
        }
        Ok(())
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Line, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance()
    }
}

/// The numbers of a version, for comparing.
fn version(text: &str) -> Vec<u64> {
    text.split(['.', '-', '+']).map_while(|part| part.parse().ok()).take(3).collect()
}

/// What serde says, without the place, which is that of one line alone.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let column = error.column();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    let text: String = text.chars().take(end).filter(|char| !char.is_control()).collect();
    format!("{} at its byte {column}", text.trim())
}

#[cfg(test)]
mod tests;
