//! Ends a file behind its last complete line after a write that failed.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom, Write},
};

/// A file that can be made shorter.
pub trait CutFile: Write {
    /// Removes all behind the first `length` bytes, and writes on from there.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

impl CutFile for File {
    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)?;
        self.seek(SeekFrom::Start(length)).map(drop)
    }
}

/// Writes all bytes, and counts in `done` what the file has taken, also after a failure.
pub(super) fn write_counted(
    out: &mut impl Write,
    bytes: &[u8],
    done: &mut usize,
) -> io::Result<()> {
    while let Some(rest) = bytes.get(*done..).filter(|rest| !rest.is_empty()) {
        match out.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => *done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    out.flush()
}

/// The text up to the end of its last complete line.
pub(super) fn complete_lines(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    text.get(..end).unwrap_or_default()
}

/// The text without its last complete line.
pub(super) fn without_last_line(text: &[u8]) -> &[u8] {
    complete_lines(text.strip_suffix(b"\n").unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_its_lines() {
        assert_eq!(complete_lines(b"a\nb\nc"), b"a\nb\n");
        assert_eq!(complete_lines(b"abc"), b"");
        assert_eq!(without_last_line(b"a\nb\n"), b"a\n");
        assert_eq!(without_last_line(b"a\n"), b"");
        assert_eq!(without_last_line(b""), b"");
    }
}
