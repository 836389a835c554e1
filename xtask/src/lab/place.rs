//! Where the laboratory keeps its things.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, flock, statvfs};

/// Overrides where kernels and package lists are cached, for example to share them among clones.
const CACHE_VARIABLE: &str = "STABLE_TRACE_LAB_CACHE";

/// The laboratory's folder: kernels, private apt state, and a folder for each run.
#[derive(Clone, Debug)]
pub struct Place {
    root: PathBuf,
}

impl Place {
    /// The folder of this clone, or the one that `STABLE_TRACE_LAB_CACHE` names.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open() -> Result<Self> {
        let root = match std::env::var_os(CACHE_VARIABLE) {
            Some(path) if !path.is_empty() => PathBuf::from(path),
            _ => target().join("lab"),
        };
        fs::create_dir_all(&root)
            .with_context(|| format!("cannot make the laboratory's folder {}", root.display()))?;
        // The guest sees it by its full path.
        let root = root
            .canonicalize()
            .with_context(|| format!("cannot resolve the path {}", root.display()))?;
        Ok(Self { root })
    }

    /// Unpacked kernels, a folder a release.
    #[must_use]
    pub fn kernels(&self) -> PathBuf {
        self.root.join("kernels")
    }

    /// apt's private state for one purpose.
    #[must_use]
    pub fn apt(&self, name: &str) -> PathBuf {
        self.root.join("apt").join(name)
    }

    /// Where the console of the last guest of this kernel that died is kept.
    #[must_use]
    pub fn console(&self, kernel: &str) -> PathBuf {
        self.root.join(format!("console-{kernel}.log"))
    }

    /// Keeps others out while something is fetched; they wait. Ends when the file is dropped.
    ///
    /// # Errors
    /// If the lock's file cannot be made.
    pub fn lock(&self) -> Result<File> {
        let path = self.root.join("lock");
        let file = File::create(&path)
            .with_context(|| format!("cannot make the lock file {}", path.display()))?;
        flock(&file, FlockOperation::LockExclusive)
            .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(file)
    }

    /// A new folder for one run, gone when it is dropped. Folders of runs that were killed go now.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn run(&self) -> Result<tempfile::TempDir> {
        let runs = self.root.join("run");
        fs::create_dir_all(&runs)
            .with_context(|| format!("cannot make the folder {}", runs.display()))?;
        sweep(&runs);
        tempfile::Builder::new()
            .prefix(&format!("{}-", std::process::id()))
            .tempdir_in(&runs)
            .with_context(|| format!("cannot make a folder for this run in {}", runs.display()))
    }

    /// Fails early, and in one line, where a download would fill the disk.
    ///
    /// # Errors
    /// If fewer than `bytes` are free.
    pub fn need_space(&self, bytes: u64, what: &str) -> Result<()> {
        let stat = statvfs(&self.root)
            .with_context(|| format!("cannot ask for the free space of {}", self.root.display()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < bytes {
            bail!(
                "no space for {what}: {} has {} MiB free and {} MiB are needed; free some, or set {CACHE_VARIABLE} to a folder elsewhere",
                self.root.display(),
                free >> 20,
                bytes >> 20
            );
        }
        Ok(())
    }
}

/// Removes what is left of runs whose process is no more.
fn sweep(runs: &Path) {
    let Ok(entries) = fs::read_dir(runs) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.split_once('-')).map(|(pid, _)| pid)
        else {
            continue;
        };
        if pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists() {
            // Whoever else sweeps at this moment may have been faster.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The workspace's folder.
#[must_use]
pub fn workspace() -> PathBuf {
    // cargo sets it when it runs us; a copied binary remembers where it was built.
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or(package.clone(), Path::to_path_buf)
}

/// Cargo's target folder.
#[must_use]
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}
