//! Device, file system and path of a stall, on the set-ups of ordinary machines.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use stable_trace_analysis::event::{Event, Line, PathFrom, Stall};
use stable_trace_analysis::units::DeviceId;
use tempfile::TempDir;

use crate::harness::disk::device_of;
use crate::harness::disk_setting::DiskSetting;
use crate::harness::partition::Partition;
use crate::harness::{
    Agent, Disk, Fs, Recording, Requirement, Scratch, Test, TracefsInstance, Wac,
    every_wait_is_accounted_for, host, program,
};

/// Stalls that a test waits for.
const SOME: u64 = 50;

/// How long a test waits for them.
const LIMIT: Duration = Duration::from_mins(2);

pub(crate) fn tests() -> Vec<Test> {
    let anywhere = |name: &str, body: fn() -> Result<()>| {
        Test::anywhere(name, body).requires_traced_loop_device()
    };
    vec![
        anywhere("a_partition_is_named", a_partition)
            .requires(Requirement::Program("addpart"))
            .requires(Requirement::Program("mkfs.xfs")),
        anywhere("a_file_behind_overlayfs_has_a_path", behind_overlay),
        anywhere("files_of_subvolumes_are_told_apart", two_subvolumes)
            .requires(Requirement::Program("btrfs"))
            // BTF describes the types of modules from 5.11 on.
            .requires(Requirement::KernelFrom(5, 11)),
        anywhere("another_mount_namespace_has_paths_of_its_file_system", other_mount_namespace),
        anywhere("a_device_used_again_is_another_file_system", used_again)
            .requires(Requirement::Program("mkfs.xfs")),
        anywhere("a_deleted_file_is_marked", deleted_file),
        anywhere("every_method_agrees", every_method_agrees),
    ]
}

/// A mount. Unmounted on drop.
struct Mounted(TempDir);

impl Mounted {
    fn new(source: &str, fs: &str, options: Option<&str>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("stable-trace-").tempdir()?;
        let options = options.map(std::ffi::CString::new).transpose()?;
        mount(source, folder.path(), fs, MountFlags::empty(), options.as_deref())
            .with_context(|| format!("cannot mount {fs} on {source}"))?;
        Ok(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = unmount(self.0.path(), UnmountFlags::DETACH) {
            eprintln!("cannot unmount {}: {error}", self.0.path().display());
        }
    }
}

/// Runs a workload in each folder under one agent, one after the other, until each has stalled.
/// Returns the files with their device numbers and inodes, and the recording.
fn stalls_in(folders: &[&Path]) -> Result<(Vec<Rewritten>, Recording)> {
    let mut agent = Agent::start(["--min-latency=0"])?;
    let mut files = Vec::new();
    for folder in folders {
        let mut wac = Wac::spawn_paused_with(16, folder, "a")?;
        wac.start()?;
        let metadata = wac.file()?;
        let pid = wac.pid();
        for _ in 0..SOME {
            let of_file = |event: &Event| matches!(event, Event::Stall(stall) if stall.pid == pid);
            agent.await_line(LIMIT, of_file)?;
        }
        files.push(Rewritten::new(pid, &metadata, folder));
        wac.stop()?;
    }
    Ok((files, agent.stop()?))
}

/// The file of a workload, as `stat` describes it.
struct Rewritten {
    pid: u32,
    dev: DeviceId,
    ino: u64,
    folder: PathBuf,
}

impl Rewritten {
    fn new(pid: u32, metadata: &Metadata, folder: &Path) -> Self {
        let dev = device_of(metadata);
        Self { pid, dev, ino: metadata.ino(), folder: folder.to_owned() }
    }

    /// The stalls of the workload on its file. Its threads wait for nothing else that has an inode of
    /// that number.
    fn stalls<'a>(&'a self, recording: &'a Recording) -> impl Iterator<Item = &'a Stall> {
        recording.stalls().filter(|stall| stall.pid == self.pid && stall.ino == Some(self.ino))
    }

    /// Every stall has what `expected` says, and a path for which `is_path` holds.
    fn check(
        &self,
        recording: &Recording,
        (device, fs): (&str, &str),
        is_path: impl Fn(&Path) -> bool,
    ) -> Result<()> {
        let mut count = 0;
        for stall in self.stalls(recording) {
            count += 1;
            let path = stall.path.as_deref().unwrap_or_default();
            ensure!(
                stall.device.as_deref() == Some(device)
                    && stall.fs.as_deref() == Some(fs)
                    && is_path(Path::new(path)),
                "not on {device}, {fs}: {stall:?}"
            );
        }
        ensure!(count >= SOME, "{count} stalls of process {}", self.pid);
        Ok(())
    }
}

/// Two mounted partitions of one disk, as on every cloud image.
fn a_partition() -> Result<()> {
    let disk = Disk::loop_device(500)?;
    let _stable = DiskSetting::stable_writes(&disk)?;
    let first = Partition::of(&disk, 1, 2048, 200_000)?;
    let second = Partition::of(&disk, 2, 204_800, 700_000)?;
    program::run("mkfs.ext4", &["-q", "-F", &first.path()])?;
    program::run("mkfs.xfs", &["-q", "-f", &second.path()])?;
    let (ext4, xfs) =
        (Mounted::new(&first.path(), "ext4", None)?, Mounted::new(&second.path(), "xfs", None)?);
    let (files, recording) = stalls_in(&[ext4.path(), xfs.path()])?;
    for (file, (device, fs)) in files.iter().zip([(&first.name, "ext4"), (&second.name, "xfs")]) {
        file.check(&recording, (device, fs), |path| path.starts_with(&file.folder))?;
        let line =
            recording.summary()?.stalls.iter().find(|line| {
                line.device.as_deref() == Some(device) && line.fs.as_deref() == Some(fs)
            });
        ensure!(line.is_some(), "no line of {device}: {:#?}", recording.summary()?.stalls);
    }
    Ok(())
}

/// A container's file: overlayfs over ext4. The stall is on the upper file.
fn behind_overlay() -> Result<()> {
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)?;
    let (upper, work) = (scratch.path().join("upper"), scratch.path().join("work"));
    fs::create_dir(&upper)?;
    fs::create_dir(&work)?;
    let lower = tempfile::tempdir()?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.path().display(),
        upper.display(),
        work.display()
    );
    let merged = Mounted::new("overlay", "overlay", Some(&options))?;
    let wac_folder = merged.path().join("data");
    fs::create_dir(&wac_folder)?;
    let mut agent = Agent::start(["--min-latency=0"])?;
    // Of a file of overlayfs itself `sync_file_range` writes nothing back: its pages are the upper
    // file's. A mapping is of the upper file.
    let mut wac = Wac::spawn_paused_with(16, &wac_folder, "b")?;
    wac.start()?;
    let pid = wac.pid();
    agent.await_stalls(SOME)?;
    let name = fs::read_dir(&wac_folder)?.next().context("no file of the workload")??.file_name();
    let lower_file = upper.join("data").join(&name);
    let metadata = fs::metadata(&lower_file)?;
    wac.stop()?;
    let recording = agent.stop()?;
    let file = Rewritten::new(pid, &metadata, &lower_file);
    file.check(&recording, (&scratch.disk().name, "ext4"), |path| path == lower_file)
}

/// Both files have the same inode number, and a device number of their own in `stat`.
fn two_subvolumes() -> Result<()> {
    let scratch = Scratch::with_stable_writes(Fs::Btrfs, Disk::loop_device(128)?, true)?;
    let folders = ["a", "b"].map(|name| scratch.path().join(name));
    for folder in &folders {
        program::run("btrfs", &["-q", "subvolume", "create", &folder.to_string_lossy()])?;
    }
    let (files, recording) = stalls_in(&[&folders[0], &folders[1]])?;
    ensure!(files[0].ino == files[1].ino && files[0].dev != files[1].dev, "nothing to tell apart");
    for file in &files {
        file.check(&recording, (&scratch.disk().name, "btrfs"), |path| {
            path.starts_with(&file.folder)
        })?;
        let other = file.stalls(&recording).find(|stall| stall.subvolume_dev != Some(file.dev));
        ensure!(other.is_none(), "stat has {}: {other:?}", file.dev);
    }
    Ok(())
}

/// The file system is mounted in another mount namespace only: its path begins at its root.
fn other_mount_namespace() -> Result<()> {
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)?;
    let folder = scratch.path().join("in");
    fs::create_dir(&folder)?;
    let device = scratch.disk().name.clone();
    // The agent unmounts it in a namespace of its own: the workload's stays.
    let script = "umount \"$1\" && exec \"$2\" trace --listen=off --format=json --min-latency=0 \
                  --duration=4s";
    let mut agent = Command::new("unshare");
    agent.args(["-m", "--propagation", "private", "sh", "-c", script, "sh"]);
    agent.arg(scratch.path()).arg(Agent::program());
    let mut wac = Wac::spawn_paused_with(16, &folder, "a")?;
    wac.start()?;
    let pid = wac.pid();
    let text = program::run_command(&mut agent)?;
    wac.stop()?;
    let mut count = 0;
    for line in text.lines() {
        let line: Line = serde_json::from_str(line)?;
        if let Event::Stall(stall) = line.event
            && stall.pid == pid
            && stall.fs.as_deref() == Some("ext4")
            && stall.ino.is_some()
            && stall.path.is_some()
        {
            count += 1;
            ensure!(
                stall.device.as_deref() == Some(&device)
                    && stall.path_from == Some(PathFrom::Filesystem)
                    && stall.path.as_deref().is_some_and(|path| path.starts_with("/in/")),
                "{stall:?}"
            );
        }
    }
    ensure!(count > 0, "no stall of the workload has a path");
    Ok(())
}

/// ext4, and then xfs, on the same device in one run: two file systems.
fn used_again() -> Result<()> {
    let disk = Disk::loop_device(320)?;
    let _stable = DiskSetting::stable_writes(&disk)?;
    let device = disk.path.to_string_lossy().into_owned();
    let mut agent = Agent::start(["--min-latency=0"])?;
    for (fs, mkfs) in [("ext4", ["mkfs.ext4", "-F"]), ("xfs", ["mkfs.xfs", "-f"])] {
        program::run(mkfs[0], &["-q", mkfs[1], &device])?;
        let mounted = Mounted::new(&device, fs, None)?;
        let mut wac = Wac::spawn_paused_with(16, mounted.path(), "a")?;
        wac.start()?;
        agent.await_stalls(SOME)?;
        wac.await_progress()?;
        wac.stop()?;
    }
    let recording = agent.stop()?;
    let summary = recording.summary()?;
    for fs in ["ext4", "xfs"] {
        let counted = summary.stalls.iter().filter(|line| {
            line.device.as_deref() == Some(&disk.name) && line.fs.as_deref() == Some(fs)
        });
        ensure!(counted.map(|line| line.count).sum::<u64>() > 0, "{fs}: {:#?}", summary.stalls);
    }
    let unknown = summary.stalls.iter().find(|line| line.fs.is_none());
    ensure!(unknown.is_none() || host::preempts_programs(), "{unknown:?}");
    Ok(())
}

/// The file is deleted while the workload rewrites it.
fn deleted_file() -> Result<()> {
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)?;
    let mut wac = Wac::spawn_paused_with(16, scratch.path(), "a")?;
    let pid = wac.pid();
    let oracle = TracefsInstance::recording_process(&host::wait_event(), pid)?;
    let mut agent = Agent::start(["--min-latency=0", "--pid", &pid.to_string()])?;
    wac.start()?;
    let path = wac.file_path()?;
    fs::remove_file(&path)?;
    // A path is sent again after a second.
    let wanted = format!("{} (deleted)", path.display());
    agent.await_line(LIMIT, |event| {
        matches!(event, Event::Stall(stall)
            if stall.path.as_deref() == Some(&wanted))
    })?;
    wac.stop()?;
    let recording = agent.stop()?;
    every_wait_is_accounted_for(recording.summary()?, oracle.hits()?)
}

/// Every method gives the stalls of one workload the same device, file system, inode and path, which are those
/// of the file.
fn every_method_agrees() -> Result<()> {
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)?;
    // The native kernel has neither fentry nor kprobes.
    let methods: &[_] = if host::is_guest() {
        &["fentry", "kprobe", "tracepoint"]
    } else {
        &["auto", "tracepoint"]
    };
    let mut agents = Vec::new();
    for method in methods {
        agents.push((method, Agent::start(["--min-latency=0", "--attach", method])?));
    }
    let mut wac = Wac::spawn_paused_with(4, scratch.path(), "c")?;
    wac.start()?;
    let pid = wac.pid();
    let file = Rewritten::new(pid, &wac.file()?, &wac.file_path()?);
    for (_, agent) in &mut agents {
        for _ in 0..SOME {
            let is_own = |event: &Event| matches!(event, Event::Stall(stall) if stall.pid == pid);
            agent.await_line(LIMIT, is_own)?;
        }
    }
    wac.stop()?;
    for (method, agent) in agents {
        let recording = agent.stop()?;
        let about = || format!("--attach {method}");
        file.check(&recording, (&scratch.disk().name, "ext4"), |path| path == file.folder)
            .with_context(about)?;
        let other = file.stalls(&recording).find(|stall| stall.dev != Some(file.dev));
        ensure!(other.is_none(), "--attach {method}: stat has {}: {other:?}", file.dev);
    }
    Ok(())
}
