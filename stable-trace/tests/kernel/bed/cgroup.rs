//! Groups of processes, in the unified hierarchy.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A cgroup of a test's own. Dropped, it is removed; by then its processes must have ended.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Where the unified hierarchy is mounted, if it is.
    pub fn root() -> Option<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        mounts.lines().find_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let point = before.split(' ').nth(4)?;
            (after.split(' ').next() == Some("cgroup2")).then(|| point.into())
        })
    }

    /// A new one below the root.
    pub fn new() -> Result<Self> {
        let root = Self::root().context("no cgroup2 is mounted: the test lacks its `Need`")?;
        Self::at(root.join(format!("stable-trace-{}", std::process::id())))
    }

    /// A new one in this one.
    pub fn child(&self, name: &str) -> Result<Self> {
        Self::at(self.0.join(name))
    }

    fn at(path: PathBuf) -> Result<Self> {
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Its id, which is its folder's inode.
    pub fn id(&self) -> Result<u64> {
        Ok(fs::metadata(&self.0)?.ino())
    }

    /// Moves a process into it.
    pub fn take(&self, pid: u32) -> Result<()> {
        let path = self.0.join("cgroup.procs");
        fs::write(&path, pid.to_string())
            .with_context(|| format!("cannot move {pid} into {}", path.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}
