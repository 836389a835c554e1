//! Opens a recording, complete or still growing.

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

use super::zstd::{FrameReader, MAGIC};

const BUFFER_BYTES: usize = 256 << 10;

/// How often the end of a growing recording is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A recording cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the recording {}", path.display())]
pub struct OpenError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Opens a recording, compressed or not. With `stop` it is read as it grows: reading ends at the end
/// of the file once `stop` is set.
pub fn open(
    path: &Path,
    stop: Option<Arc<AtomicBool>>,
) -> Result<Box<dyn BufRead + Send>, OpenError> {
    let failed = |source| OpenError { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    let input: Box<dyn Read + Send> = match stop {
        Some(stop) => Box::new(GrowingFile { file, stop }),
        None => Box::new(file),
    };
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    let first = input.fill_buf().map_err(failed)?;
    Ok(if first.starts_with(&MAGIC) {
        Box::new(BufReader::with_capacity(BUFFER_BYTES, FrameReader::new(input)))
    } else {
        Box::new(input)
    })
}

/// A file that another process still writes to. Reads at its end wait for more.
struct GrowingFile {
    file: File,
    stop: Arc<AtomicBool>,
}

impl Read for GrowingFile {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read(out) {
                Ok(0) if !out.is_empty() && !self.stop.load(Ordering::Relaxed) => {
                    thread::sleep(POLL_INTERVAL);
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
    fn a_growing_file_is_read_until_stopped() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"one\n").unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let mut input = open(file.path(), Some(Arc::clone(&stop))).unwrap();
        let mut text = String::new();
        input.read_line(&mut text).unwrap();
        file.write_all(b"two\n").unwrap();
        input.read_line(&mut text).unwrap();
        assert_eq!(text, "one\ntwo\n");
        stop.store(true, Ordering::Relaxed);
        assert_eq!(input.read_line(&mut text).unwrap(), 0);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = open(Path::new("/no/such/recording"), None).err().unwrap().to_string();
        assert_eq!(error, "cannot open the recording /no/such/recording");
        let folder = tempfile::tempdir().unwrap();
        assert!(open(folder.path(), None).is_err());
    }
}
