//! Cgroups of the unified hierarchy.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A cgroup of one test. Removed on drop; its processes must have ended by then.
#[derive(Debug)]
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// The mount point of the unified hierarchy.
    pub(crate) fn root() -> Option<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        mounts.lines().find_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let point = before.split(' ').nth(4)?;
            (after.split(' ').next() == Some("cgroup2")).then(|| point.into())
        })
    }

    /// Creates a cgroup below the root.
    pub(crate) fn new() -> Result<Self> {
        let root =
            Self::root().context("no cgroup2 is mounted: the test lacks its `Requirement`")?;
        Self::create(root.join(format!("stable-trace-{}", std::process::id())))
    }

    /// Creates a cgroup in this one.
    pub(crate) fn child(&self, name: &str) -> Result<Self> {
        Self::create(self.0.join(name))
    }

    fn create(path: PathBuf) -> Result<Self> {
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The cgroup's ID, which is the inode number of its folder.
    pub(crate) fn id(&self) -> Result<u64> {
        Ok(fs::metadata(&self.0)?.ino())
    }

    pub(crate) fn add_process(&self, pid: u32) -> Result<()> {
        let path = self.0.join("cgroup.procs");
        fs::write(&path, pid.to_string())
            .with_context(|| format!("cannot move process {pid} into {}", path.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}
