//! Recordings: writes the stream of a run to a file as it happens, and reads it back line by line.
//!
//! A recording is the JSON stream, one object a line: the output of `--format json` is a recording,
//! too. A file whose name ends in `.zst` is compressed, in one frame a second, so that a recording
//! that was cut off can be read up to its last complete frame.

mod cut;
mod flat_json;
mod line;
mod open;
mod read;
mod read_ahead;
mod read_error;
mod write;
mod zstd;

pub use cut::CutFile;
pub use open::{OpenError, open};
pub use read::Reader;
pub use read_ahead::read_ahead;
pub use read_error::{Position, ReadError};
pub use write::Recorder;
