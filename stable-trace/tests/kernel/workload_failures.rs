//! The workload where it cannot start, or where the file system fails under it: a one-line error or
//! a regular end, and no file left behind.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

use crate::harness::{Agent, Disk, Fs, Requirement, Scratch, Test, Wac, wait_until};

pub(crate) fn tests() -> Vec<Test> {
    let native = |name: &str, body: fn() -> Result<()>| {
        Test::native(name, body).requires_all([
            Requirement::Root,
            Requirement::Agent,
            Requirement::Program("losetup"),
        ])
    };
    vec![
        native("a_full_file_system_is_refused", full),
        native("the_workload_survives_a_file_system_that_fills_up", fills_up)
            .requires(Requirement::Program("mkfs.btrfs")),
        native("a_read_only_file_system_is_refused", read_only),
        native("tmpfs_works_without_direct_io", tmpfs),
        native("the_workload_survives_the_removal_of_its_folder", folder_is_removed),
        native("the_workload_survives_an_unmount", mount_is_detached),
    ]
}

fn wac(folder: &Path, options: &[&str]) -> Result<Output> {
    Agent::command()
        .args(["wac", "--no-trace", "--format=json", "--threads=64", "--duration=300ms"])
        .args(options)
        .arg("--path")
        .arg(folder)
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

/// Lists a folder without the entries of `mkfs` and of the test.
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

/// Writes until the file system is full.
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

/// btrfs writes every page to a new location, and none is free.
fn fills_up() -> Result<()> {
    let scratch = Scratch::new(Fs::Btrfs, Disk::loop_device(128)?)?;
    let mut wac = Wac::spawn_paused(scratch.path(), "c")?;
    wac.start()?;
    fill(scratch.path())?;
    let last = wac.stop()?;
    let unexpected =
        last.errors.keys().find(|name| !["ENOSPC", "SIGBUS", "EIO"].contains(&name.as_str()));
    ensure!(unexpected.is_none(), "{last:?}");
    nothing_left(scratch.path())
}

fn read_only() -> Result<()> {
    let scratch = Scratch::new(Fs::Ext4, Disk::loop_device(32)?)?;
    mount_remount(scratch.path(), MountFlags::RDONLY, "")?;
    let output = wac(scratch.path(), &["-q"])?;
    refused(&output, "the file system is read-only")?;
    nothing_left(scratch.path())
}

fn tmpfs() -> Result<()> {
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

/// The test removes the workload's file and folder. The workload does not touch a new file of the
/// same name.
fn folder_is_removed() -> Result<()> {
    let scratch = Scratch::new(Fs::Ext4, Disk::loop_device(64)?)?;
    let folder = scratch.path().join("folder");
    fs::create_dir(&folder)?;
    let mut wac = Wac::spawn_paused(&folder, "c")?;
    wac.start()?;
    let names = left(&folder)?;
    let [name] = names.as_slice() else { anyhow::bail!("not one file: {names:?}") };
    fs::remove_file(folder.join(name))?;
    fs::remove_dir(&folder)?;
    fs::create_dir(&folder)?;
    fs::write(folder.join(name), "precious")?;
    wac.await_progress()?;
    let last = wac.stop()?;
    ensure!(last.errors.is_empty(), "{last:?}");
    ensure!(fs::read_to_string(folder.join(name))? == "precious");
    Ok(())
}

/// The test detaches the mount. After the workload's end, the device is no longer in use.
fn mount_is_detached() -> Result<()> {
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
