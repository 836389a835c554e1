//! The undo journal: it records each change to the system before the change is made, so that the
//! change can be undone however the experiment ends.
//!
//! Each experiment has a file in [`JOURNAL_DIR`], which is in memory, like the changes that outlive
//! a process. An experiment undoes its own changes. Those of a killed experiment are undone by the
//! next one, or by `--clean`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use stable_trace_analysis::error_chain::ErrorChain;

use super::{error::ExperimentError, process::Process, system_change::SystemChange};

const JOURNAL_DIR: &str = "/run/stable-trace";

/// A journal's name is its experiment's pid between these.
const PREFIX: &str = "experiment-";
const SUFFIX: &str = ".json";

/// The contents of a journal file.
#[derive(Debug, Serialize, Deserialize)]
struct Contents {
    owner: Process,
    /// In the order in which they were made.
    changes: Vec<SystemChange>,
}

impl Contents {
    /// Undoes the changes, the last one first, and calls `on_undone` with a description of each.
    /// Keeps those that cannot be undone.
    fn undo(&mut self, mut on_undone: impl FnMut(&str)) -> Result<(), String> {
        let mut failures = Vec::new();
        let mut remaining = Vec::new();
        while let Some(change) = self.changes.pop() {
            match change.undo() {
                Ok(done) => done.iter().for_each(|done| on_undone(done)),
                Err(why) => {
                    failures.push(why);
                    remaining.push(change);
                }
            }
        }
        remaining.reverse();
        self.changes = remaining;
        if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
    }
}

/// The changes of this process. Dropping it undoes them.
#[derive(Debug)]
pub(super) struct UndoJournal {
    path: PathBuf,
    contents: Contents,
}

impl UndoJournal {
    /// Creates an empty journal. Its file is created with the first change.
    pub(super) fn new() -> Result<Self, ExperimentError> {
        let pid = std::process::id();
        let owner = Process::from_pid(pid).ok_or_else(|| ExperimentError::File {
            action: "find this process in",
            path: "/proc".into(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        let path = Path::new(JOURNAL_DIR).join(format!("{PREFIX}{pid}{SUFFIX}"));
        Ok(Self { path, contents: Contents { owner, changes: Vec::new() } })
    }

    /// The path at which this experiment mounts.
    pub(super) fn mount_point(&self) -> PathBuf {
        self.path.with_extension("")
    }

    /// Records a change, which must not be made before. If this fails, the change must not be made.
    pub(super) fn record(&mut self, change: SystemChange) -> io::Result<()> {
        self.contents.changes.push(change);
        self.write().inspect_err(|_| drop(self.contents.changes.pop()))
    }

    /// Number of recorded changes.
    pub(super) fn len(&self) -> usize {
        self.contents.changes.len()
    }

    /// Undoes the last changes until `len` are left. A change that cannot be undone stays in the
    /// journal, with those before it.
    pub(super) fn undo_to(&mut self, len: usize) -> Result<(), ExperimentError> {
        while self.len() > len {
            self.undo_last()?;
        }
        Ok(())
    }

    fn undo_last(&mut self) -> Result<(), ExperimentError> {
        let Some(change) = self.contents.changes.last() else { return Ok(()) };
        change.undo().map_err(ExperimentError::Undo)?;
        self.contents.changes.pop();
        self.write().map_err(|source| self.write_error(source))
    }

    /// Undoes all changes. Those that cannot be undone stay in the journal, for another process.
    pub(super) fn undo_all(&mut self) -> Result<(), ExperimentError> {
        let undone = self.contents.undo(|done| log::info!("{done}"));
        let written = self.write().map_err(|source| self.write_error(source));
        undone.map_err(ExperimentError::Undo).and(written)
    }

    fn write_error(&self, source: io::Error) -> ExperimentError {
        ExperimentError::File { action: "write", path: self.path.clone(), source }
    }

    /// Writes the journal; removes its file if it is empty.
    fn write(&self) -> io::Result<()> {
        if self.contents.changes.is_empty() {
            ignore_not_found(fs::remove_file(&self.path))?;
            // Fails if other experiments have journals there.
            let _ = fs::remove_dir(JOURNAL_DIR);
            return Ok(());
        }
        write(&self.path, &self.contents)
    }
}

impl Drop for UndoJournal {
    fn drop(&mut self) {
        if let Err(error) = self.undo_all() {
            log::error!("{}", ErrorChain(&error));
        }
    }
}

/// Undoes the changes of experiments that no longer run, and calls `on_undone` with a description
/// of each. A change that cannot be undone does not keep the others from being undone.
pub(super) fn clean(mut on_undone: impl FnMut(&str)) -> Result<(), ExperimentError> {
    let mut failures = Vec::new();
    for path in journal_paths(Path::new(JOURNAL_DIR)) {
        let contents = match read(&path) {
            Ok(contents) => contents,
            Err(error) => {
                failures.push(format!("{}: {error}", path.display()));
                continue;
            }
        };
        // A running experiment undoes its own changes.
        let Some(mut contents) = contents.filter(|contents| !contents.owner.is_running()) else {
            continue;
        };
        let undone = contents.undo(&mut on_undone);
        let written = if undone.is_ok() {
            ignore_not_found(fs::remove_file(&path))
        } else {
            write(&path, &contents)
        };
        failures.extend(undone.err());
        failures.extend(written.err().map(|error| format!("{}: {error}", path.display())));
    }
    // Fails if the directory is not empty or does not exist.
    let _ = fs::remove_dir(JOURNAL_DIR);
    if failures.is_empty() { Ok(()) } else { Err(ExperimentError::Undo(failures.join("; "))) }
}

fn journal_paths(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(PREFIX) && name.ends_with(SUFFIX)
        })
        .collect();
    paths.sort_unstable();
    paths
}

/// `None` if the file does not exist any more.
fn read(path: &Path) -> io::Result<Option<Contents>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces the file atomically: a process that is killed leaves the old contents or the new ones.
fn write(path: &Path, contents: &Contents) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        // The last experiment to end removes the directory.
        fs::create_dir_all(dir)?;
    }
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec(contents)?)?;
    fs::rename(&new, path)
}

fn ignore_not_found(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(changes: Vec<SystemChange>) -> Contents {
        Contents { owner: Process::from_pid(std::process::id()).unwrap(), changes }
    }

    #[test]
    fn the_last_change_is_undone_first() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        let file = inner.join("file");
        fs::create_dir(&inner).unwrap();
        fs::write(&file, "").unwrap();
        let mut contents = contents(vec![
            SystemChange::Directory { path: inner.clone() },
            SystemChange::File { path: file.clone() },
        ]);
        let mut undone = Vec::new();
        contents.undo(|done| undone.push(done.to_owned())).unwrap();
        assert_eq!(undone.len(), 2, "{undone:?}");
        assert!(!inner.exists() && contents.changes.is_empty());
    }

    #[test]
    fn a_change_that_cannot_be_undone_stays_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let (full, empty) = (dir.path().join("full"), dir.path().join("empty"));
        fs::create_dir(&full).unwrap();
        fs::write(full.join("precious"), "").unwrap();
        fs::create_dir(&empty).unwrap();
        let stays = SystemChange::Directory { path: full.clone() };
        let mut contents =
            contents(vec![stays.clone(), SystemChange::Directory { path: empty.clone() }]);
        let reason = contents.undo(|_| {}).unwrap_err();
        assert!(reason.contains("full"), "{reason}");
        assert_eq!(contents.changes, [stays]);
        assert!(!empty.exists());

        let path = dir.path().join("experiment-1.json");
        write(&path, &contents).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().changes, contents.changes);
        assert_eq!(journal_paths(dir.path()), [path]);
    }

    #[test]
    fn a_truncated_journal_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("experiment-1.json");
        assert!(read(&path).unwrap().is_none());
        fs::write(&path, r#"{"owner":{"pid":1"#).unwrap();
        read(&path).unwrap_err();
    }
}
