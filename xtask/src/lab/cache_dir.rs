//! The laboratory's cache: kernels, package lists, and a folder for each run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, flock, statvfs};

use crate::workspace;

/// Overrides the path of the cache, for example to share it among clones.
const CACHE_VARIABLE: &str = "STABLE_TRACE_LAB_CACHE";

#[derive(Clone, Debug)]
pub(crate) struct CacheDir {
    root: PathBuf,
}

impl CacheDir {
    /// Opens `lab` below the target folder, or the folder that `STABLE_TRACE_LAB_CACHE` names.
    pub(crate) fn open() -> Result<Self> {
        let root = match std::env::var_os(CACHE_VARIABLE) {
            Some(path) if !path.is_empty() => PathBuf::from(path),
            _ => target()?.join("lab"),
        };
        fs::create_dir_all(&root)
            .with_context(|| format!("cannot create the laboratory's cache {}", root.display()))?;
        // Guests use the absolute path.
        let root = root
            .canonicalize()
            .with_context(|| format!("cannot resolve the path {}", root.display()))?;
        Ok(Self { root })
    }

    /// Unpacked kernels, one folder per release.
    pub(crate) fn kernels(&self) -> PathBuf {
        self.root.join("kernels")
    }

    pub(crate) fn apt(&self, name: &str) -> PathBuf {
        self.root.join("apt").join(name)
    }

    /// The console log of the last guest with this kernel that failed.
    pub(crate) fn console(&self, kernel: &str) -> PathBuf {
        self.root.join(format!("console-{kernel}.log"))
    }

    /// Takes the lock for a download, and waits for it if another process has it. Dropping the file
    /// releases it.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.root.join("lock");
        let file = File::create(&path)
            .with_context(|| format!("cannot create the lock file {}", path.display()))?;
        flock(&file, FlockOperation::LockExclusive)
            .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(file)
    }

    /// Creates the folder of one run, which is removed on drop. Removes the folders of killed runs.
    pub(crate) fn run(&self) -> Result<tempfile::TempDir> {
        let runs = self.root.join("run");
        fs::create_dir_all(&runs).with_context(|| format!("cannot create {}", runs.display()))?;
        remove_stale_runs(&runs);
        tempfile::Builder::new()
            .prefix(&format!("{}-", std::process::id()))
            .tempdir_in(&runs)
            .with_context(|| format!("cannot create a folder for this run in {}", runs.display()))
    }

    /// Fails if a download of this size would fill the disk.
    pub(crate) fn need_space(&self, bytes: u64, what: &str) -> Result<()> {
        let stat = statvfs(&self.root)
            .with_context(|| format!("cannot read the free space of {}", self.root.display()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < bytes {
            bail!(
                "no space for {what}: {} has {} MiB free and {} MiB are needed; free some, or set {CACHE_VARIABLE} to another folder",
                self.root.display(),
                free >> 20,
                bytes >> 20
            );
        }
        Ok(())
    }
}

/// Removes the folders of runs whose process has ended.
fn remove_stale_runs(runs: &Path) {
    let Ok(entries) = fs::read_dir(runs) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.split_once('-')).map(|(pid, _)| pid)
        else {
            continue;
        };
        if pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists() {
            // Another process may have removed it.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Cargo's target folder.
fn target() -> Result<PathBuf> {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(path) => Ok(path.into()),
        None => Ok(workspace::root()?.join("target")),
    }
}
