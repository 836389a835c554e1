//! Recordings: the stream of a run in a file, written as it happens and read back line by line.
//!
//! A recording is the JSON stream, one object a line, with nothing added: what `--format json` prints
//! is a recording, too. Where its file's name ends in `.zst` it is compressed, in a frame each second,
//! so that a recording that was cut can be read up to the last whole frame.

mod ahead;
mod fault;
mod flat;
mod line;
mod open;
mod read;
mod write;
mod zstd;

pub use ahead::ahead;
pub use fault::{Fault, Place};
pub use line::{Parsed, parse};
pub use open::{Growing, OpenError, open};
pub use read::Reader;
pub use write::Recorder;
