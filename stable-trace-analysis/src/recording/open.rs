//! Opening a recording, whole or still growing.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::zstd::{Frames, MAGIC};

const BUFFER_BYTES: usize = 256 << 10;

/// How often a recording that grows is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why there is no recording to read.
#[derive(Debug, thiserror::Error)]
#[error("{}: the recording cannot be opened: {source}", path.display())]
pub struct OpenError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Opens a recording, compressed or not. With `until` it is read as it grows: its end comes once that
/// is set.
///
/// # Errors
/// [`OpenError`] if it is not there or is no file.
pub fn open(
    path: &Path,
    until: Option<Arc<AtomicBool>>,
) -> Result<Box<dyn BufRead + Send>, OpenError> {
    let failed = |source| OpenError { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    let input: Box<dyn Read + Send> = match until {
        Some(until) => Box::new(Growing { input: file, until }),
        None => Box::new(file),
    };
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    let first = input.fill_buf().map_err(failed)?;
    Ok(if first.starts_with(&MAGIC) {
        Box::new(BufReader::with_capacity(BUFFER_BYTES, Frames::new(input)))
    } else {
        Box::new(input)
    })
}

/// A file that somebody else still writes: at its end, more is awaited.
pub struct Growing<R> {
    input: R,
    until: Arc<AtomicBool>,
}

impl<R: Read> Read for Growing<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.input.read(out) {
                Ok(0) if !out.is_empty() && !self.until.load(Ordering::Relaxed) => {
                    thread::sleep(LOOK_EVERY);
                }
                outcome => return outcome,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_written_later_is_read_and_the_end_comes_when_told() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"one\n").unwrap();
        let until = Arc::new(AtomicBool::new(false));
        let mut input = open(file.path(), Some(Arc::clone(&until))).unwrap();
        let mut text = String::new();
        input.read_line(&mut text).unwrap();
        file.write_all(b"two\n").unwrap();
        input.read_line(&mut text).unwrap();
        assert_eq!(text, "one\ntwo\n");
        until.store(true, Ordering::Relaxed);
        assert_eq!(input.read_line(&mut text).unwrap(), 0);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = open(Path::new("/no/such/recording"), None).err().unwrap().to_string();
        assert!(error.starts_with("/no/such/recording: "), "{error}");
        let folder = tempfile::tempdir().unwrap();
        assert!(open(folder.path(), None).is_err());
    }
}
