//! The workload where it cannot work, or no longer: 64 threads, a clear end, nothing left behind.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

use crate::harness::{Agent, Disk, Fs, Requirement, Scratch, Test, Wac, wait_until};

pub fn tests() -> Vec<Test> {
    let on_loop = |name: &str, body: fn() -> Result<()>| {
        Test::native(format!("rewriting::{name}"), body)
            .requires(Requirement::Root)
            .requires(Requirement::Agent)
            .requires(Requirement::Program("losetup"))
    };
    vec![
        on_loop("a_full_file_system_is_refused", full),
        on_loop("a_file_system_that_fills_up_is_no_end", fills_up)
            .requires(Requirement::Program("mkfs.btrfs")),
        on_loop("a_read_only_file_system_is_refused", read_only),
        on_loop("in_memory_it_runs_but_for_direct_io", in_memory),
        on_loop("a_folder_that_goes_away_is_no_end", folder_goes_away),
        on_loop("a_mount_that_goes_away_is_no_end", mount_goes_away),
    ]
}

fn wac(folder: &Path, options: &[&str]) -> Result<Output> {
    Command::new(Agent::program())
        .args(["wac", "--no-trace", "--format=json", "--threads=64", "--duration=300ms"])
        .args(options)
        .arg("--path")
        .arg(folder)
        // A developer who tests under sudo tests the same as everybody.
        .env_remove("SUDO_UID")
        .env_remove("SUDO_GID")
        .stdin(Stdio::null())
        .output()
        .context("cannot start the workload")
}

fn refused(output: &Output, expected: &str) -> Result<()> {
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}: {errors}", output.status);
    ensure!(errors.lines().count() == 1 && errors.contains(expected), "{errors}");
    ensure!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

/// Nothing but what `mkfs` makes and what the test has put there.
fn left(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.retain(|name| name != "lost+found" && name != "filler");
    Ok(names)
}

fn nothing_left(folder: &Path) -> Result<()> {
    let left = left(folder)?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

/// Writes until there is no room.
fn fill(folder: &Path) -> Result<()> {
    let mut filler = File::create(folder.join("filler"))?;
    for size in [1 << 20, 4096, 512] {
        let zeros = vec![0; size];
        loop {
            match filler.write_all(&zeros).and_then(|()| filler.sync_data()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error).context("cannot fill the file system"),
            }
        }
    }
    Ok(())
}

fn full() -> Result<()> {
    let scratch = Scratch::new(Fs::Ext4, Disk::loop_device(32)?)?;
    fill(scratch.path())?;
    let output = wac(scratch.path(), &["-q", "--file-size=4MiB"])?;
    refused(&output, "the file system is full")?;
    nothing_left(scratch.path())
}

/// btrfs writes every page to a new place, and there is none any more.
fn fills_up() -> Result<()> {
    let scratch = Scratch::new(Fs::Btrfs, Disk::loop_device(128)?)?;
    let mut wac = Wac::spawn_paused(scratch.path(), "c")?;
    wac.start()?;
    fill(scratch.path())?;
    let last = wac.stop()?;
    let strange =
        last.errors.keys().find(|name| !["ENOSPC", "SIGBUS", "EIO"].contains(&name.as_str()));
    ensure!(strange.is_none(), "{last:?}");
    nothing_left(scratch.path())
}

fn read_only() -> Result<()> {
    let scratch = Scratch::new(Fs::Ext4, Disk::loop_device(32)?)?;
    mount_remount(scratch.path(), MountFlags::RDONLY, "")?;
    let output = wac(scratch.path(), &["-q"])?;
    refused(&output, "the file system is read-only")?;
    nothing_left(scratch.path())
}

fn in_memory() -> Result<()> {
    let folder = tempfile::tempdir()?;
    mount("tmpfs", folder.path(), "tmpfs", MountFlags::empty(), None)?;
    let outcome = (|| {
        let output = wac(folder.path(), &["--profile=c"])?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {errors}", output.status);
        ensure!(errors.contains("is in memory and is never written back"), "{errors}");
        refused(&wac(folder.path(), &["-q", "--profile=e"])?, "no O_DIRECT")?;
        nothing_left(folder.path())
    })();
    unmount(folder.path(), UnmountFlags::DETACH)?;
    outcome
}

/// Its file is removed under it, and then the folder; others' files in its place are not touched.
fn folder_goes_away() -> Result<()> {
    let scratch = Scratch::new(Fs::Ext4, Disk::loop_device(64)?)?;
    let folder = scratch.path().join("folder");
    fs::create_dir(&folder)?;
    let mut wac = Wac::spawn_paused(&folder, "c")?;
    wac.start()?;
    let names = left(&folder)?;
    let [name] = names.as_slice() else { anyhow::bail!("not one file: {names:?}") };
    fs::remove_file(folder.join(name))?;
    fs::remove_dir(&folder)?;
    // Somebody else's, of the same name.
    fs::create_dir(&folder)?;
    fs::write(folder.join(name), "precious")?;
    wac.await_progress()?;
    let last = wac.stop()?;
    ensure!(last.errors.is_empty(), "{last:?}");
    ensure!(fs::read_to_string(folder.join(name))? == "precious");
    Ok(())
}

/// The mount is taken away under it; once it has ended, nobody holds the device.
fn mount_goes_away() -> Result<()> {
    let scratch = Scratch::new(Fs::Ext4, Disk::loop_device(64)?)?;
    let name = scratch.disk().name.clone();
    let folder = tempfile::tempdir()?;
    mount_bind(scratch.path(), folder.path())?;
    let mut wac = Wac::spawn_paused(folder.path(), "a")?;
    wac.start()?;
    unmount(folder.path(), UnmountFlags::DETACH)?;
    wac.await_progress()?;
    let last = wac.stop()?;
    ensure!(last.errors.is_empty(), "{last:?}");
    nothing_left(scratch.path())?;
    drop(scratch);
    let file = format!("/sys/block/{name}/loop/backing_file");
    wait_until(|| Ok(Path::new(&file).exists().then(|| format!("{name} is still in use"))))
}
