//! Errors and notices of reading a recording, with their position.

use std::{fmt, io};

use crate::event::FORMAT;

const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// A position in a recording; for a compressed one, in the decompressed text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line, counted from 1.
    pub line: u64,
    /// The offset of the line's first byte, counted from 0.
    pub byte: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} (at byte {})", self.line, self.byte)
    }
}

/// Damage to a recording, or content that only a newer version knows.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant describes it")]
pub enum ReadError {
    #[error(
        "the recording is empty: the run recorded nothing, or the file was cut off at its start"
    )]
    Empty,
    #[error(
        "not a recording: {position} is not the first line of one: {reason}; give a file made with --record"
    )]
    NotARecording { position: Position, reason: String },
    #[error(
        "the recording has format {format}, and this stable-trace reads up to {FORMAT}; use a newer version"
    )]
    NewerFormat { format: u32 },
    #[error("{position} cannot be read: {reason}; the recording is damaged there")]
    Malformed { position: Position, reason: String },
    #[error(
        "{position} is longer than {limit} bytes, the limit of a line; the recording is damaged there"
    )]
    TooLong { position: Position, limit: u64 },
    #[error(
        "the recording is cut off in {position}, or still being written; the lines before are reported"
    )]
    Truncated { position: Position },
    #[error(
        "the recording has no summary: it ends before {position}, cut off, or still being written; the lines before are reported"
    )]
    NoSummary { position: Position },
    #[error(
        "the recording was cut off before {position}: the run could write no more of it, as on a full disk; the lines before are reported"
    )]
    Cut { position: Position },
    #[error(
        "{missing} lines are missing before {position}: the disk was too slow for the run, or the recording was damaged or edited there"
    )]
    MissingLines { position: Position, missing: u64 },
    #[error(
        "{position} has a sequence number that is not above the one before it: the line is skipped; the recording was edited there"
    )]
    OutOfOrder { position: Position },
    #[error(
        "a second run begins at {position}: the first has no summary; report each run by itself"
    )]
    SecondRun { position: Position },
    #[error(
        "the recording goes on after its summary, at {position}: the rest is ignored; report each run by itself"
    )]
    AfterSummary { position: Position },
    #[error("the recording cannot be read from {position} on")]
    Io {
        position: Position,
        #[source]
        source: io::Error,
    },
    #[error(
        "{position} has the type `{kind}`, which this stable-trace ({OWN_VERSION}) does not know: the line is skipped"
    )]
    UnknownType { position: Position, kind: String },
    #[error(
        "{position} has content that this stable-trace ({OWN_VERSION}) does not know: {reason}: the line is skipped"
    )]
    UnknownContent { position: Position, reason: String },
    #[error(
        "recorded by stable-trace {version}, which is newer than this one ({OWN_VERSION}): content that this one does not know is skipped"
    )]
    NewerVersion { version: String },
}

impl ReadError {
    /// Whether the recording is undamaged and this program merely older than its writer.
    pub const fn is_from_newer_version(&self) -> bool {
        matches!(
            self,
            Self::UnknownType { .. } | Self::UnknownContent { .. } | Self::NewerVersion { .. }
        )
    }

    /// Whether only the end of the recording is missing.
    pub const fn is_truncation(&self) -> bool {
        matches!(
            self,
            Self::Truncated { .. } | Self::NoSummary { .. } | Self::Cut { .. } | Self::Empty
        )
    }
}
