//! The journal of changes: written down before each is made, so that whatever ends the experiment,
//! somebody can put everything back.
//!
//! It is a file of its own for each experiment in [`FOLDER`], which is in memory, as are the changes
//! that outlive a process. An experiment puts its changes back itself; those of one that was killed
//! are put back by the next one, or by `--clean`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{change::Change, error::ExperimentError, process::Process};

/// Where the ledgers are.
pub const FOLDER: &str = "/run/stable-trace";

/// Between the pid of an experiment and the ends of its journal's name.
const PREFIX: &str = "experiment-";
const SUFFIX: &str = ".json";

/// What stands in the file.
#[derive(Debug, Serialize, Deserialize)]
struct Page {
    owner: Process,
    /// In the order in which they were made.
    changes: Vec<Change>,
}

impl Page {
    /// Takes the changes back, the last one first. What cannot be is kept, with all before it that
    /// it may rest on.
    fn undo(&mut self, mut tell: impl FnMut(&str)) -> Result<(), String> {
        let mut failures = Vec::new();
        let mut kept = Vec::new();
        while let Some(change) = self.changes.pop() {
            match change.undo() {
                Ok(done) => done.iter().for_each(|done| tell(done)),
                Err(why) => {
                    failures.push(why);
                    kept.push(change);
                }
            }
        }
        kept.reverse();
        self.changes = kept;
        if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
    }
}

/// The changes of this process. Dropped, it puts back what is left of them.
#[derive(Debug)]
pub struct UndoJournal {
    path: PathBuf,
    page: Page,
}

impl UndoJournal {
    /// An empty one.
    ///
    /// # Errors
    /// There is no /proc.
    pub fn open() -> Result<Self, ExperimentError> {
        let pid = std::process::id();
        let owner = Process::of(pid).ok_or_else(|| ExperimentError::File {
            doing: "find this process in",
            path: "/proc".into(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        let path = Path::new(FOLDER).join(format!("{PREFIX}{pid}{SUFFIX}"));
        Ok(Self { path, page: Page { owner, changes: Vec::new() } })
    }

    /// A path of this experiment's own in the ledgers' folder, for what it mounts.
    pub fn mount_point(&self) -> PathBuf {
        self.path.with_extension("")
    }

    /// Writes a change down. Make it only after this.
    ///
    /// # Errors
    /// The file cannot be written: then do not make the change.
    pub fn enter(&mut self, change: Change) -> io::Result<()> {
        self.page.changes.push(change);
        self.write().inspect_err(|_| drop(self.page.changes.pop()))
    }

    /// Takes the last change back.
    ///
    /// # Errors
    /// It cannot be: it stays in the journal.
    pub fn take_back(&mut self) -> Result<(), ExperimentError> {
        let Some(change) = self.page.changes.last() else { return Ok(()) };
        change.undo().map_err(ExperimentError::NotPutBack)?;
        self.page.changes.pop();
        self.write().map_err(|source| self.failed(source))
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.page.changes.len()
    }

    /// Takes the last changes back, until so many are left.
    ///
    /// # Errors
    /// One cannot be: it stays in the journal, with those before it.
    pub fn take_back_to(&mut self, left: usize) -> Result<(), ExperimentError> {
        while self.len() > left {
            self.take_back()?;
        }
        Ok(())
    }

    /// Takes everything back.
    ///
    /// # Errors
    /// What cannot be stays in the journal, for another process.
    pub fn close(&mut self) -> Result<(), ExperimentError> {
        let outcome = self.page.undo(|done| log::info!("{done}"));
        let written = self.write().map_err(|source| self.failed(source));
        outcome.map_err(ExperimentError::NotPutBack).and(written)
    }

    fn failed(&self, source: io::Error) -> ExperimentError {
        ExperimentError::File { doing: "write", path: self.path.clone(), source }
    }

    /// What is left to be taken back is what stands in the file; nothing left, no file.
    fn write(&self) -> io::Result<()> {
        if self.page.changes.is_empty() {
            absent(fs::remove_file(&self.path))?;
            // Other experiments may have ledgers there.
            let _ = fs::remove_dir(FOLDER);
            return Ok(());
        }
        write(&self.path, &self.page)
    }
}

impl Drop for UndoJournal {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            log::error!("{error}");
        }
    }
}

/// Puts back what experiments that are gone have left behind, and tells of each thing.
///
/// # Errors
/// Something cannot be put back; the rest is.
pub fn clean(mut tell: impl FnMut(&str)) -> Result<(), ExperimentError> {
    let mut failures = Vec::new();
    for path in ledgers(Path::new(FOLDER)) {
        let page = match read(&path) {
            Ok(page) => page,
            Err(error) => {
                failures.push(format!("{}: {error}", path.display()));
                continue;
            }
        };
        // One that runs puts its changes back itself; this process has made none yet.
        let Some(mut page) = page.filter(|page| !page.owner.runs()) else { continue };
        let undone = page.undo(&mut tell);
        let written =
            if undone.is_ok() { absent(fs::remove_file(&path)) } else { write(&path, &page) };
        failures.extend(undone.err());
        failures.extend(written.err().map(|error| format!("{}: {error}", path.display())));
    }
    // Empty or not there: whoever is next makes it.
    let _ = fs::remove_dir(FOLDER);
    if failures.is_empty() { Ok(()) } else { Err(ExperimentError::NotPutBack(failures.join("; "))) }
}

fn ledgers(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
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

/// A page; nothing if it has gone meanwhile.
fn read(path: &Path) -> io::Result<Option<Page>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// In one step: whoever is killed leaves the old page or the new one.
fn write(path: &Path, page: &Page) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        // Whoever has closed the last other journal has removed it.
        fs::create_dir_all(folder)?;
    }
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec(page)?)?;
    fs::rename(&new, path)
}

fn absent(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(changes: Vec<Change>) -> Page {
        Page { owner: Process::of(std::process::id()).unwrap(), changes }
    }

    #[test]
    fn the_last_change_is_taken_back_first() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        let file = inner.join("file");
        fs::create_dir(&inner).unwrap();
        fs::write(&file, "").unwrap();
        let mut page =
            page(vec![Change::Folder { path: inner.clone() }, Change::File { path: file.clone() }]);
        let mut told = Vec::new();
        page.undo(|done| told.push(done.to_owned())).unwrap();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(!inner.exists() && page.changes.is_empty());
    }

    #[test]
    fn what_cannot_be_taken_back_stays_written_down() {
        let folder = tempfile::tempdir().unwrap();
        let (full, empty) = (folder.path().join("full"), folder.path().join("empty"));
        fs::create_dir(&full).unwrap();
        fs::write(full.join("precious"), "").unwrap();
        fs::create_dir(&empty).unwrap();
        let stays = Change::Folder { path: full.clone() };
        let mut page = page(vec![stays.clone(), Change::Folder { path: empty.clone() }]);
        let why = page.undo(|_| {}).unwrap_err();
        assert!(why.contains("full"), "{why}");
        assert_eq!(page.changes, [stays]);
        assert!(!empty.exists());

        let path = folder.path().join("experiment-1.json");
        write(&path, &page).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().changes, page.changes);
        assert_eq!(ledgers(folder.path()), [path]);
    }

    #[test]
    fn a_torn_page_is_an_error_and_no_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("experiment-1.json");
        assert!(read(&path).unwrap().is_none());
        fs::write(&path, r#"{"owner":{"pid":1"#).unwrap();
        read(&path).unwrap_err();
    }
}
