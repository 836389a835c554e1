//! `--keep-evidence`: files with the data and the tuples of failed checks.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::mpsc::{SyncSender, TrySendError, sync_channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use stable_trace_analysis::error_chain::ErrorChain;
use stable_trace_common::backing::numbers;

use crate::{
    collect::evidence::{Copied, FailureId},
    kernel::least_privilege::{self, Work},
};

/// Failures that wait to be written, at most. Further ones are not kept.
const MOST_WAITING: usize = 64;

/// Failures of a run that are kept, at most: some 1.5 GiB.
const MOST: u64 = 10_000;

/// The end of a run waits for so long for the files.
const END: Duration = Duration::from_secs(30);

/// How often the end of a run looks whether all files are written.
const END_INTERVAL: Duration = Duration::from_millis(1);

/// The folder that a run keeps evidence in. A thread of its own writes, so that a slow disk delays no event.
#[derive(Debug)]
pub(crate) struct EvidenceFiles {
    /// `None` once nothing more is kept.
    queue: Option<SyncSender<Kept>>,
    writer: Option<JoinHandle<()>>,
    /// Failures that were handed to the writer.
    kept: u64,
    /// Failures that found the queue full.
    skipped: u64,
}

#[derive(Debug)]
struct Kept {
    /// The beginning of the names of its files.
    name: String,
    copied: Copied,
}

impl EvidenceFiles {
    /// Keeps evidence in a folder, which exists.
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        if !fs::metadata(folder)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let (queue, waiting) = sync_channel::<Kept>(MOST_WAITING);
        let folder = folder.to_owned();
        let writer = std::thread::Builder::new().name("evidence".to_owned()).spawn(move || {
            if let Err(error) = least_privilege::keep_only_for(Work::WriteFiles) {
                log::warn!("--keep-evidence: {}", ErrorChain(&error));
            }
            for kept in waiting {
                if let Err(error) = write(&folder, &kept) {
                    log::warn!(
                        "--keep-evidence {}: nothing more is kept: {}",
                        folder.display(),
                        ErrorChain(&error)
                    );
                    return;
                }
            }
        })?;
        Ok(Self { queue: Some(queue), writer: Some(writer), kept: 0, skipped: 0 })
    }

    /// Keeps what was copied of one failure.
    pub(super) fn keep(&mut self, failure: FailureId, copied: Copied) {
        let Some(queue) = &self.queue else { return };
        let kept = Kept { name: name(failure), copied };
        match queue.try_send(kept) {
            Ok(()) => self.kept += 1,
            Err(TrySendError::Full(_)) => self.skipped += 1,
            // The writer has said why.
            Err(TrySendError::Disconnected(_)) => self.queue = None,
        }
        if self.kept >= MOST {
            log::warn!("--keep-evidence: {MOST} failures are kept, and no more");
            self.queue = None;
        }
    }
}

impl Drop for EvidenceFiles {
    fn drop(&mut self) {
        self.queue = None;
        let began = Instant::now();
        while self.writer.as_ref().is_some_and(|writer| !writer.is_finished()) {
            if began.elapsed() > END {
                log::warn!(
                    "--keep-evidence: the last files are missing, since the disk is too slow"
                );
                break;
            }
            std::thread::sleep(END_INTERVAL);
        }
        if self.skipped > 0 {
            log::warn!(
                "--keep-evidence: {} failures were not kept, since the disk is too slow",
                self.skipped
            );
        }
    }
}

/// Device number, first sector and time (`CLOCK_MONOTONIC` in ns) of a failure.
fn name(failure: FailureId) -> String {
    let FailureId { time_ns, sector, dev } = failure;
    let (major, minor) = numbers(dev);
    match sector {
        u64::MAX => format!("{major}-{minor}-passthrough-{time_ns}"),
        sector => format!("{major}-{minor}-{sector}-{time_ns}"),
    }
}

/// Writes the files of one failure, which only the user of the agent can read.
fn write(folder: &Path, kept: &Kept) -> io::Result<()> {
    let Copied { data, again, tuples, .. } = &kept.copied;
    for (what, bytes) in [("data", data), ("again", again), ("tuples", tuples)] {
        if bytes.is_empty() {
            continue;
        }
        let path = folder.join(format!("{}.{what}", kept.name));
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const FAILURE: FailureId = FailureId { time_ns: 7, sector: 4096, dev: 8 << 20 | 16 };

    #[test]
    fn each_part_is_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = EvidenceFiles::new(folder.path()).unwrap();
        let copied = Copied { data: vec![1; 512], tuples: vec![2; 8], ..Copied::default() };
        files.keep(FAILURE, copied.clone());
        files.keep(FailureId { sector: u64::MAX, ..FAILURE }, copied);
        drop(files);
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        let expected = ["8-16-4096-7.data", "8-16-4096-7.tuples"];
        assert_eq!(names[..2], expected);
        assert_eq!(names[2..], expected.map(|name| name.replace("4096", "passthrough")));
        let data = folder.path().join(expected[0]);
        assert_eq!(fs::read(&data).unwrap(), [1; 512]);
        assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_folder_must_exist() {
        let folder = tempfile::tempdir().unwrap();
        assert!(EvidenceFiles::new(&folder.path().join("missing")).is_err());
        let file = folder.path().join("file");
        fs::write(&file, []).unwrap();
        assert_eq!(
            EvidenceFiles::new(&file).err().map(|error| error.kind()),
            Some(io::ErrorKind::NotADirectory)
        );
    }
}
