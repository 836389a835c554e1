//! From an inode to a path, without guessing: by the files that its users have open or mapped.

use std::{
    collections::HashMap,
    fs::read_dir,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use stable_trace_analysis::units::DeviceId;

/// How long an answer holds: an inode may be another file's later.
const HOLDS: Duration = Duration::from_secs(1);

/// Files that are remembered; past that all are asked about again.
const REMEMBERED: usize = 4096;

/// Open files and mappings of one process that are looked at.
const LOOKED_AT: usize = 4096;

/// Searches within [`HOLDS`]: a workload of very many files does not keep the agent from its ring.
const SEARCHES: u32 = 32;

/// A file: the device number of its file system, and its inode.
pub type File = (DeviceId, u64);

/// The paths of a run.
#[derive(Debug)]
pub struct Paths {
    proc: PathBuf,
    known: HashMap<File, Known>,
    /// Processes that are asked about every file: what the run is around.
    own: Vec<u32>,
    searches: (Instant, u32),
}

#[derive(Debug)]
struct Known {
    path: Option<String>,
    /// The last process that is known to use it.
    user: Option<u32>,
    asked: Instant,
}

impl Paths {
    /// Knows nothing yet. `proc` is where procfs is mounted.
    #[must_use]
    pub fn new(proc: &Path) -> Self {
        Self {
            proc: proc.to_owned(),
            known: HashMap::new(),
            own: Vec::new(),
            searches: (Instant::now(), 0),
        }
    }

    /// Adds a process that is asked about every file.
    pub fn ask(&mut self, pid: u32) {
        if !self.own.contains(&pid) {
            self.own.push(pid);
        }
    }

    /// The path of a file that this process uses, if any: as the process sees it, and as it is now,
    /// so with ` (deleted)` behind a name that is gone. Nothing if nobody asked has it open or
    /// mapped.
    pub fn find(&mut self, file: File, user: Option<u32>) -> Option<String> {
        let now = Instant::now();
        let known = self.known.get(&file);
        if let Some(known) = known
            && now.duration_since(known.asked) < HOLDS
            && (known.path.is_some() || user.is_none() || known.user == user)
        {
            return known.path.clone();
        }
        let user = user.or_else(|| known.and_then(|known| known.user));
        let (since, searches) = self.searches;
        if now.duration_since(since) >= HOLDS {
            self.searches = (now, 0);
        } else if searches >= SEARCHES {
            return None;
        }
        self.searches.1 += 1;
        let path = user.iter().chain(&self.own).find_map(|pid| self.search(*pid, file));
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(file, Known { path: path.clone(), user, asked: now });
        path
    }

    /// Looks through what a process has open and mapped.
    fn search(&self, pid: u32, file: File) -> Option<String> {
        let home = self.proc.join(pid.to_string());
        let entries = ["fd", "map_files"].into_iter().filter_map(|of| read_dir(home.join(of)).ok());
        let mut links = entries.flatten().flatten().take(LOOKED_AT).map(|entry| entry.path());
        let link = links.find(|link| is(link, file))?;
        Some(std::fs::read_link(link).ok()?.to_string_lossy().into_owned())
    }
}

/// Whether a link leads to a file. Never asks a server: that may not answer.
fn is(link: &Path, (dev, ino): File) -> bool {
    let found = statx(CWD, link, AtFlags::STATX_DONT_SYNC, StatxFlags::INO);
    found.is_ok_and(|found| {
        found.stx_ino == ino && DeviceId::new(found.stx_dev_major, found.stx_dev_minor) == dev
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::kernel::sysfs::device_id;

    fn identity(file: &std::fs::File) -> File {
        let metadata = file.metadata().unwrap();
        (device_id(metadata.dev()), metadata.ino())
    }

    #[test]
    fn an_open_file_of_the_user_is_found_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a file");
        let open = std::fs::File::create(&path).unwrap();
        let file = identity(&open);
        let mut paths = Paths::new(Path::new("/proc"));
        assert_eq!(paths.find(file, Some(std::process::id())).as_deref(), path.to_str());
        // From now on the file is known, whoever asks.
        assert_eq!(paths.find(file, None).as_deref(), path.to_str());
        let (dev, ino) = file;
        let mut paths = Paths::new(Path::new("/proc"));
        assert_eq!(paths.find((dev, ino + 1_000_000), Some(std::process::id())), None);
        assert_eq!(
            paths.find((DeviceId::new(dev.major, dev.minor + 1), ino), Some(std::process::id())),
            None
        );
        // Nobody has it open whom we could ask.
        drop(open);
        assert_eq!(paths.find(file, Some(std::process::id())), None);
    }

    #[test]
    fn what_the_run_is_around_is_asked_about_files_of_unknown_users() {
        let open = tempfile::tempfile().unwrap();
        let file = identity(&open);
        let mut paths = Paths::new(Path::new("/proc"));
        assert_eq!(paths.find(file, None), None);
        let mut paths = Paths::new(Path::new("/proc"));
        paths.ask(std::process::id());
        assert!(paths.find(file, None).is_some_and(|path| path.ends_with(" (deleted)")));
    }
}
