//! What can be wrong with a recording, and where.

use std::{fmt, io};

use crate::event::FORMAT;

/// A place in a recording; of a compressed one, in what it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line, counted from 1.
    pub line: u64,
    /// The offset of its first byte, counted from 0.
    pub byte: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} (at byte {})", self.line, self.byte)
    }
}

/// Something that a recording should not have, or that this version does not know.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// There is nothing in it.
    #[error(
        "the recording is empty: nothing had been recorded, or it was cut at its very beginning"
    )]
    Empty,
    /// It begins like no recording.
    #[error(
        "not a recording: {place} is not the first line of one: {reason}; give a file made with --record"
    )]
    Foreign {
        /// Where.
        place: Place,
        /// What was expected.
        reason: String,
    },
    /// Things mean something else in it.
    #[error(
        "the recording has format {format}, and this stable-trace reads up to {FORMAT}; use a newer one"
    )]
    NewerFormat {
        /// Its format.
        format: u32,
    },
    /// A line is no line of the stream.
    #[error("{place} cannot be read: {reason}; the recording is damaged there")]
    Garbled {
        /// Where.
        place: Place,
        /// Why.
        reason: String,
    },
    /// A line is longer than any that is written.
    #[error(
        "{place} is longer than {limit} bytes, which no line of a recording is; the recording is damaged there"
    )]
    TooLong {
        /// Where.
        place: Place,
        /// The most that a line may have.
        limit: u64,
    },
    /// The last line is not all there.
    #[error(
        "the recording is cut off in {place}, or still being written; what is before is reported"
    )]
    Cut {
        /// Where.
        place: Place,
    },
    /// The last line is no summary.
    #[error(
        "the recording has no summary: it ends before {place}, cut off, or still being written; what is before is reported"
    )]
    NoEnd {
        /// Where the next line would be.
        place: Place,
    },
    /// Lines are missing in the middle.
    #[error(
        "{missing} lines are missing before {place}: the recording was damaged or edited there"
    )]
    Gap {
        /// Where it goes on.
        place: Place,
        /// How many are missing.
        missing: u64,
    },
    /// A line is numbered as one before it.
    #[error(
        "{place} has a number that is not above the one before it: passed over; the recording was edited there"
    )]
    Backwards {
        /// Where.
        place: Place,
    },
    /// Another run begins.
    #[error("a second run begins at {place}: the first has no summary; report each run by itself")]
    SecondRun {
        /// Where.
        place: Place,
    },
    /// Something follows the summary.
    #[error(
        "the recording goes on after its summary, at {place}: that is left out; report each run by itself"
    )]
    AfterEnd {
        /// Where.
        place: Place,
    },
    /// The file cannot be read on.
    #[error("the recording cannot be read from {place} on: {source}")]
    Read {
        /// Where.
        place: Place,
        /// What the reader said.
        #[source]
        source: io::Error,
    },
    /// A later version added this; nothing is wrong.
    #[error("{place} is a `{kind}`, which this stable-trace ({ours}) does not know: passed over", ours = env!("CARGO_PKG_VERSION"))]
    Unknown {
        /// Where.
        place: Place,
        /// Its type.
        kind: String,
    },
    /// A later version says something in it that has no meaning here; nothing is wrong.
    #[error("{place} says what this stable-trace ({ours}) does not know: {reason}: passed over", ours = env!("CARGO_PKG_VERSION"))]
    Unfamiliar {
        /// Where.
        place: Place,
        /// What.
        reason: String,
    },
    /// A later version wrote it; nothing is wrong.
    #[error("recorded by stable-trace {version}, which is newer than this {ours}: what this one does not know is passed over", ours = env!("CARGO_PKG_VERSION"))]
    Newer {
        /// Its version.
        version: String,
    },
}

impl Fault {
    /// Whether the recording is as it was written, and merely newer than this program.
    #[must_use]
    pub const fn is_news(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::Unfamiliar { .. } | Self::Newer { .. })
    }

    /// Whether it only says that the end is not there.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        matches!(self, Self::Cut { .. } | Self::NoEnd { .. } | Self::Empty)
    }
}
