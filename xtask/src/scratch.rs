//! A file system of its own on a loop device that asks for stable pages, gone when it is dropped.

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

/// Size of the image in bytes: room for a journal and some files; sparse, so it costs what is written.
const SIZE: u64 = 128 << 20;

/// The least pause between two tries to unmount, while a last writer ends.
const PAUSE: Duration = Duration::from_millis(200);

/// A mounted ext4 on a loop device with `queue/stable_writes` 1.
///
/// Each part is there once its step has succeeded, so that a failure half-way is cleaned up too.
pub struct Scratch {
    folder: TempDir,
    device: Option<String>,
    /// What `queue/stable_writes` was.
    before: Option<String>,
    mounted: bool,
}

impl Scratch {
    /// Makes and mounts it.
    ///
    /// # Errors
    /// If this machine has no loop devices, or a step fails.
    pub fn ext4() -> Result<Self> {
        debian::ensure(&[("e2fsprogs", "mkfs.ext4"), ("mount", "losetup")])?;
        let folder = tempfile::Builder::new()
            .prefix("stable-trace-")
            .tempdir()
            .context("cannot make a folder for a scratch file system")?;
        let mut scratch = Self { folder, device: None, before: None, mounted: false };

        let image = scratch.image();
        File::create(&image)
            .and_then(|file| file.set_len(SIZE))
            .with_context(|| format!("cannot make {}", image.display()))?;
        let device =
            shell::output(shell::privileged("losetup")?.args(["--find", "--show"]).arg(&image))
                .context("the scratch file system needs a loop device")?;
        scratch.device = Some(device.clone());

        // Before the mount: ext4 looks at it once, then.
        let setting = stable_writes(&device);
        let before = fs::read_to_string(&setting).with_context(|| {
            format!("{device} cannot ask for stable pages: no {}", setting.display())
        })?;
        scratch.before = Some(before.trim().to_owned());
        write(&setting, "1")?;

        shell::run(shell::privileged("mkfs.ext4")?.args(["-q", "-E", "nodiscard", &device]))?;
        let mount_point = scratch.path();
        fs::create_dir(&mount_point)
            .with_context(|| format!("cannot make {}", mount_point.display()))?;
        shell::run(shell::privileged("mount")?.args(["-t", "ext4", &device]).arg(&mount_point))?;
        scratch.mounted = true;
        progress::step(format!(
            "scratch ext4 with stable pages: {device} on {}",
            mount_point.display()
        ));
        Ok(scratch)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mnt")
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn unmount(&mut self) -> Result<()> {
        let path = self.path();
        // A writer that was just told to end may still hold a file open.
        for _ in 0..10 {
            if shell::output(undisturbed("umount")?.arg(&path)).is_ok() {
                self.mounted = false;
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
        // The last one to close a file then ends it; the loop device goes with it.
        shell::output(undisturbed("umount")?.arg("--lazy").arg(&path))?;
        self.mounted = false;
        Ok(())
    }

    fn detach(&mut self) -> Result<()> {
        let Some(device) = self.device.take() else { return Ok(()) };
        if let Some(before) = self.before.take() {
            write(&stable_writes(&device), &before)?;
        }
        shell::output(undisturbed("losetup")?.args(["--detach", &device])).map(drop)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Every step is tried, whatever the one before it did; what stays is named.
        if self.mounted
            && let Err(error) = self.unmount()
        {
            progress::step(format!("the scratch file system stays mounted: {error:#}"));
        }
        if let Err(error) = self.detach() {
            progress::step(format!("the scratch loop device stays: {error:#}"));
        }
    }
}

/// A privileged command that a second Ctrl-C does not end half-way.
fn undisturbed(program: impl AsRef<OsStr>) -> Result<Command> {
    let mut command = shell::privileged("env")?;
    command.arg("--ignore-signal=HUP,INT,TERM").arg(program);
    Ok(command)
}

/// The setting of a device such as `/dev/loop0`.
fn stable_writes(device: &str) -> PathBuf {
    let name = device.trim_start_matches("/dev/");
    Path::new("/sys/block").join(name).join("queue/stable_writes")
}

/// Writes a file of root's.
fn write(path: &Path, text: &str) -> Result<()> {
    let what = || format!("cannot write {text} to {}", path.display());
    if shell::is_root() {
        return fs::write(path, text).with_context(what);
    }
    let mut command = undisturbed("sh")?;
    command.args(["-c", "echo \"$1\" > \"$2\"", "sh", text]).arg(path).stdin(Stdio::null());
    shell::run(&mut command).with_context(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_stands_below_the_device_s_name() {
        assert_eq!(stable_writes("/dev/loop7"), Path::new("/sys/block/loop7/queue/stable_writes"));
    }
}
