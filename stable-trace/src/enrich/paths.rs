//! Resolves an inode to a path by the files that processes have open or mapped, without guessing.

use std::{
    collections::HashMap,
    fs::read_dir,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use stable_trace_analysis::units::DeviceId;

/// How long a path is cached: an inode number can be reused.
const CACHE_TIME: Duration = Duration::from_secs(1);

/// The most files in the cache; when it is full it is cleared.
const MAX_CACHED: usize = 4096;

/// The most open files and mappings of one process that are searched.
const MAX_LINKS: usize = 4096;

/// The most searches within [`CACHE_TIME`]: a workload of many files must not keep the agent from
/// reading the ring.
const MAX_SEARCHES: u32 = 32;

/// A file: the device number of its file system, and its inode.
pub type File = (DeviceId, u64);

/// The paths of a run.
#[derive(Debug)]
pub struct Paths {
    proc: PathBuf,
    cache: HashMap<File, CachedPath>,
    /// Processes that are searched for every file: those of the run's subject.
    subject: Vec<u32>,
    /// Start of the current period, and the searches in it.
    searches: (Instant, u32),
}

#[derive(Debug)]
struct CachedPath {
    path: Option<String>,
    /// The last process that was seen to use the file.
    user: Option<u32>,
    searched: Instant,
}

impl Paths {
    /// Starts with an empty cache. `proc` is the mount point of procfs.
    pub fn new(proc: &Path) -> Self {
        Self {
            proc: proc.to_owned(),
            cache: HashMap::new(),
            subject: Vec::new(),
            searches: (Instant::now(), 0),
        }
    }

    /// Adds a process that is searched for every file.
    pub fn add_process(&mut self, pid: u32) {
        if !self.subject.contains(&pid) {
            self.subject.push(pid);
        }
    }

    /// The current path of a file in the mount namespace of a process that uses it, with ` (deleted)`
    /// appended if the name is gone. `None` if neither `user` nor the subject has the file open or
    /// mapped.
    pub fn find(&mut self, file: File, user: Option<u32>) -> Option<String> {
        let now = Instant::now();
        let cached = self.cache.get(&file);
        if let Some(cached) = cached
            && now.duration_since(cached.searched) < CACHE_TIME
            && (cached.path.is_some() || user.is_none() || cached.user == user)
        {
            return cached.path.clone();
        }
        let user = user.or_else(|| cached.and_then(|cached| cached.user));
        let (start, searches) = self.searches;
        if now.duration_since(start) >= CACHE_TIME {
            self.searches = (now, 0);
        } else if searches >= MAX_SEARCHES {
            return None;
        }
        self.searches.1 += 1;
        let path = user.iter().chain(&self.subject).find_map(|pid| self.search(*pid, file));
        if self.cache.len() >= MAX_CACHED {
            self.cache.clear();
        }
        self.cache.insert(file, CachedPath { path: path.clone(), user, searched: now });
        path
    }

    /// Searches the open files and the mappings of a process.
    fn search(&self, pid: u32, file: File) -> Option<String> {
        let folder = self.proc.join(pid.to_string());
        let entries =
            ["fd", "map_files"].into_iter().filter_map(|kind| read_dir(folder.join(kind)).ok());
        let mut links = entries.flatten().flatten().take(MAX_LINKS).map(|entry| entry.path());
        let link = links.find(|link| leads_to(link, file))?;
        Some(std::fs::read_link(link).ok()?.to_string_lossy().into_owned())
    }
}

/// Whether a link leads to a file. Does not query the server of a network file system, which may not
/// answer.
fn leads_to(link: &Path, (dev, ino): File) -> bool {
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
    fn only_an_open_file_of_the_process_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a file");
        let open = std::fs::File::create(&path).unwrap();
        let file = identity(&open);
        let mut paths = Paths::new(Path::new("/proc"));
        assert_eq!(paths.find(file, Some(std::process::id())).as_deref(), path.to_str());
        // The path is cached for callers without a process.
        assert_eq!(paths.find(file, None).as_deref(), path.to_str());
        let (dev, ino) = file;
        let mut paths = Paths::new(Path::new("/proc"));
        assert_eq!(paths.find((dev, ino + 1_000_000), Some(std::process::id())), None);
        assert_eq!(
            paths.find((DeviceId::new(dev.major, dev.minor + 1), ino), Some(std::process::id())),
            None
        );
        // The process has closed it.
        drop(open);
        assert_eq!(paths.find(file, Some(std::process::id())), None);
    }

    #[test]
    fn the_subject_is_searched_for_files_of_unknown_processes() {
        let open = tempfile::tempfile().unwrap();
        let file = identity(&open);
        let mut paths = Paths::new(Path::new("/proc"));
        assert_eq!(paths.find(file, None), None);
        let mut paths = Paths::new(Path::new("/proc"));
        paths.add_process(std::process::id());
        assert!(paths.find(file, None).is_some_and(|path| path.ends_with(" (deleted)")));
    }
}
