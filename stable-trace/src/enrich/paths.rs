//! The paths of files: from the names that the kernel sent, else from the files that a process has open.

use std::{
    collections::HashMap,
    fs::read_dir,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use smol_str::SmolStr;
use stable_trace_analysis::{event::PathFrom, units::DeviceId};
use stable_trace_common::path::{AT_SB_ROOT, COMPLETE, DELETED};

use super::{
    decode::{self, FileNames},
    identity::{device_id, subvolume_dev},
};
use crate::kernel::{mountinfo::Mount, mounts::Mounts, process_tree};

/// How long the result of a search in `/proc` is cached: an inode number can be reused.
const CACHE_TIME: Duration = Duration::from_secs(1);

/// The most files in each cache; a full one is cleared. The kernel sends the names of a file again after
/// a second, and remembers 4,096 files.
const MAX_CACHED: usize = 8192;

/// The most open files of one process that are searched.
const MAX_LINKS: usize = 4096;

/// The most searches within [`CACHE_TIME`]: a workload of many files must not keep the agent from
/// reading the ring.
const MAX_SEARCHES: u32 = 32;

/// A file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct File {
    /// The number of its file system.
    pub(crate) dev: DeviceId,
    /// The number of its btrfs subvolume.
    pub(crate) subvolume: Option<DeviceId>,
    /// Its inode.
    pub(crate) ino: u64,
}

/// The path of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilePath {
    /// The path, with ` (deleted)` appended if the name is gone.
    pub(crate) path: SmolStr,
    /// What it begins at; `None` for the root of the process that has the file open.
    pub(crate) from: Option<PathFrom>,
}

impl FilePath {
    /// The fields `path` and `path_from` of an event.
    pub(super) fn into_fields(self) -> (Option<SmolStr>, Option<PathFrom>) {
        (Some(self.path), self.from)
    }
}

/// The paths of a run.
#[derive(Debug)]
pub(crate) struct Paths {
    proc: PathBuf,
    /// The names that the kernel sent.
    names: HashMap<File, Names>,
    /// What was found in `/proc`.
    found: HashMap<File, CachedPath>,
    /// Start of the current period, and the searches in it.
    searches: (Instant, u32),
}

/// A path from the root of its file system.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Names {
    path: String,
    deleted: bool,
    /// What events show, and the generation of the mounts that it was found with.
    shown: Option<(u64, FilePath)>,
}

#[derive(Debug)]
struct CachedPath {
    path: Option<SmolStr>,
    /// The last process that was seen to use the file.
    user: Option<u32>,
    searched: Instant,
}

impl Paths {
    /// Starts with empty caches. `proc` is the mount point of procfs.
    pub(crate) fn new(proc: &Path) -> Self {
        Self {
            proc: proc.to_owned(),
            names: HashMap::new(),
            found: HashMap::new(),
            searches: (Instant::now(), 0),
        }
    }

    /// Takes the names that the kernel sent for a file.
    pub(crate) fn learn(&mut self, sent: &FileNames) {
        let file = File {
            dev: device_id(&sent.backing),
            subvolume: subvolume_dev(sent.subvolume),
            ino: sent.ino,
        };
        if self.names.len() >= MAX_CACHED {
            self.names.clear();
        }
        match names(sent) {
            Some(names) => self.names.insert(file, names),
            None => self.names.remove(&file),
        };
    }

    /// The current path of a file. `mounts` are those of the agent; `user` is a process that uses the
    /// file.
    pub(crate) fn find(
        &mut self,
        file: File,
        user: Option<u32>,
        mounts: &Mounts,
    ) -> Option<FilePath> {
        if let Some(names) = self.names.get_mut(&file) {
            return Some(names.shown(file.dev, mounts));
        }
        Some(FilePath { path: self.find_open(file, user)?, from: None })
    }

    /// The path of a file that a process has open.
    fn find_open(&mut self, file: File, user: Option<u32>) -> Option<SmolStr> {
        let now = Instant::now();
        let cached = self.found.get(&file);
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
        let path = user.and_then(|pid| self.search(pid, file));
        if self.found.len() >= MAX_CACHED {
            self.found.clear();
        }
        self.found.insert(file, CachedPath { path: path.clone(), user, searched: now });
        path
    }

    /// Searches the open files of a process. Not its mappings: listing `map_files` takes the
    /// `mmap_lock` of the process (`proc_map_files_readdir`, fs/proc/base.c, 6.12).
    fn search(&self, pid: u32, file: File) -> Option<SmolStr> {
        let entries = read_dir(process_tree::descriptors(&self.proc, pid)?).ok()?;
        let mut links = entries.flatten().take(MAX_LINKS).map(|entry| entry.path());
        let link = links.find(|link| leads_to(link, file))?;
        Some(SmolStr::new(std::fs::read_link(link).ok()?.to_string_lossy()))
    }
}

impl Names {
    /// The path as events show it. A machine may have thousands of mounts, so they are searched once.
    fn shown(&mut self, dev: DeviceId, mounts: &Mounts) -> FilePath {
        if let Some((generation, shown)) = &self.shown
            && *generation == mounts.generation()
        {
            return shown.clone();
        }
        let (mut path, from) = match mounted_path(mounts.all(), dev, &self.path) {
            Some(path) => (path, PathFrom::Mount),
            None => (self.path.clone(), PathFrom::Filesystem),
        };
        if self.deleted {
            path.push_str(" (deleted)");
        }
        let shown = FilePath { path: path.into(), from: Some(from) };
        self.shown = Some((mounts.generation(), shown.clone()));
        shown
    }
}

/// The path that the kernel's names make; `None` if they do not lead to the root of the file system.
fn names(sent: &FileNames) -> Option<Names> {
    // A network file system has a root dentry for each mount, of which none is `s_root`
    // (`nfs_get_root`, fs/nfs/getroot.c, 6.12). Elsewhere another root is that of a disconnected
    // dentry: the path is not known.
    let own_roots = matches!(decode::name(&sent.backing.fs).as_str(), "nfs" | "nfs4");
    let root = if own_roots { COMPLETE } else { COMPLETE | AT_SB_ROOT };
    if sent.flags & root != root {
        return None;
    }
    let text = sent.names.strip_suffix(&[0])?;
    let mut path = String::new();
    for name in text.rsplit(|byte| *byte == 0) {
        path.push('/');
        path.push_str(&String::from_utf8_lossy(name));
    }
    Some(Names { path, deleted: sent.flags & DELETED != 0, shown: None })
}

/// Where the agent finds a path of a file system: below a mount of all of it, else below the mount that
/// shows the smallest part of it.
fn mounted_path(mounts: &[Mount], dev: DeviceId, path: &str) -> Option<String> {
    let below = |root: &str| match root {
        "/" => Some(path.to_owned()),
        root => path.strip_prefix(root).filter(|rest| rest.starts_with('/')).map(str::to_owned),
    };
    let shown = mounts
        .iter()
        .filter(|mount| mount.dev == dev)
        .filter_map(|mount| Some((mount, below(&mount.root)?)))
        .max_by_key(|(mount, _)| (mount.root == "/", mount.root.len()));
    let (mount, rest) = shown?;
    let point = mount.point.trim_end_matches('/');
    Some(format!("{point}{rest}"))
}

/// Whether a link leads to a file. Does not query the server of a network file system, which may not
/// answer.
fn leads_to(link: &Path, file: File) -> bool {
    let found = statx(CWD, link, AtFlags::STATX_DONT_SYNC, StatxFlags::INO);
    found.is_ok_and(|found| {
        let dev = DeviceId::new(found.stx_dev_major, found.stx_dev_minor);
        found.stx_ino == file.ino && dev == file.subvolume.unwrap_or(file.dev)
    })
}

#[cfg(test)]
mod tests;
