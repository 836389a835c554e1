//! A temporary ext4 on a loop device that requires stable pages; it is removed on drop.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::setup::debian;
use crate::{progress, shell};

/// Size of the image in bytes, enough for a journal and some files. The image is sparse.
const SIZE: u64 = 128 << 20;

/// Delay between two attempts to unmount while a last writer ends.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// A mounted ext4 on a loop device with `queue/stable_writes` 1.
///
/// Each field is set once its step has succeeded, so that drop also cleans up after a partial set-up.
pub(crate) struct Scratch {
    folder: TempDir,
    device: Option<String>,
    /// The value of `queue/stable_writes` to restore.
    stable_writes_before: Option<String>,
    mounted: bool,
}

impl Scratch {
    pub(crate) fn ext4() -> Result<Self> {
        debian::ensure(&[("e2fsprogs", "mkfs.ext4"), ("mount", "losetup")])?;
        let folder = tempfile::Builder::new()
            .prefix("stable-trace-")
            .tempdir()
            .context("cannot create a folder for a scratch file system")?;
        let mut scratch = Self { folder, device: None, stable_writes_before: None, mounted: false };

        let image = scratch.image();
        File::create(&image)
            .and_then(|file| file.set_len(SIZE))
            .with_context(|| format!("cannot create {}", image.display()))?;
        let device =
            shell::output(shell::privileged("losetup")?.args(["--find", "--show"]).arg(&image))
                .context("the scratch file system needs a loop device")?;
        scratch.device = Some(device.clone());

        // ext4 reads the setting at mount time only.
        let setting = stable_writes(&device);
        let before = fs::read_to_string(&setting).with_context(|| {
            format!("{device} cannot require stable pages: cannot read {}", setting.display())
        })?;
        scratch.stable_writes_before = Some(before.trim().to_owned());
        write(&setting, "1")?;

        shell::run(shell::privileged("mkfs.ext4")?.args(["-q", "-E", "nodiscard", &device]))?;
        let mount_point = scratch.mount_point();
        fs::create_dir(&mount_point)
            .with_context(|| format!("cannot create {}", mount_point.display()))?;
        shell::run(shell::privileged("mount")?.args(["-t", "ext4", &device]).arg(&mount_point))?;
        scratch.mounted = true;
        progress::step(format!(
            "scratch ext4 with stable pages: {device} on {}",
            mount_point.display()
        ));
        Ok(scratch)
    }

    pub(crate) fn mount_point(&self) -> PathBuf {
        self.folder.path().join("mnt")
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn unmount(&mut self) -> Result<()> {
        let path = self.mount_point();
        // A writer that has just received its signal may still hold a file open.
        for _ in 0..10 {
            if shell::output(uninterruptible("umount")?.arg(&path)).is_ok() {
                self.mounted = false;
                return Ok(());
            }
            thread::sleep(RETRY_DELAY);
        }
        // The kernel unmounts and frees the loop device when the last file is closed.
        shell::output(uninterruptible("umount")?.arg("--lazy").arg(&path))?;
        self.mounted = false;
        Ok(())
    }

    fn detach(&mut self) -> Result<()> {
        let Some(device) = self.device.take() else { return Ok(()) };
        if let Some(before) = self.stable_writes_before.take() {
            write(&stable_writes(&device), &before)?;
        }
        shell::output(uninterruptible("losetup")?.args(["--detach", &device])).map(drop)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Each step runs even if the one before it failed.
        if self.mounted
            && let Err(error) = self.unmount()
        {
            progress::step(format!("cannot unmount the scratch file system: {error:#}"));
        }
        if let Err(error) = self.detach() {
            progress::step(format!("cannot detach the scratch loop device: {error:#}"));
        }
    }
}

/// A privileged command that ignores signals, so that a second Ctrl-C does not interrupt it.
fn uninterruptible(program: impl AsRef<OsStr>) -> Result<Command> {
    let mut command = shell::privileged("env")?;
    command.arg("--ignore-signal=HUP,INT,TERM").arg(program);
    Ok(command)
}

/// The sysfs file of a device such as `/dev/loop0`.
fn stable_writes(device: &str) -> PathBuf {
    let name = device.trim_start_matches("/dev/");
    Path::new("/sys/block").join(name).join("queue/stable_writes")
}

/// Writes to a file that belongs to root.
fn write(path: &Path, text: &str) -> Result<()> {
    let what = || format!("cannot write {text} to {}", path.display());
    if shell::is_root() {
        return fs::write(path, text).with_context(what);
    }
    let mut command = uninterruptible("sh")?;
    command.args(["-c", "echo \"$1\" > \"$2\"", "sh", text]).arg(path).stdin(Stdio::null());
    shell::run(&mut command).with_context(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sysfs_file_is_below_the_device_s_name() {
        assert_eq!(stable_writes("/dev/loop7"), Path::new("/sys/block/loop7/queue/stable_writes"));
    }
}
