//! The experiment measures both arms, and restores what it changed however it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use stable_trace::experiment::cell::Cell;
use tempfile::TempDir;

use crate::harness::console::QuietConsole;
use crate::harness::process::{KillOnDrop, send_signal};
use crate::harness::{
    Agent, Disk, Fs, Requirement, Scratch, SlowDisk, Test, host, program, wait_until,
};

/// The folder of the undo journals.
const JOURNALS: &str = "/run/stable-trace";

const STABLE_WRITES: &str = "queue/stable_writes";

pub(crate) fn tests() -> Vec<Test> {
    let native = |name: &str, body: fn() -> Result<()>| {
        Test::native(name, body)
            .requires_all([Requirement::Root, Requirement::Agent])
            .requires_all(["losetup", "mkfs.ext4", "mkfs.xfs"].map(Requirement::Program))
    };
    let guest = |name: &str, body: fn() -> Result<()>| {
        Test::guest(name, body).requires(Requirement::Agent).requires(Requirement::PiDisk)
    };
    vec![
        native("both_arms_are_measured_and_the_state_is_restored", both_arms),
        native("a_signal_restores_the_state", signal),
        native("clean_restores_the_state_after_a_kill", clean_after_kill),
        native("the_next_run_restores_the_state_after_a_kill", next_run_after_kill),
        native("an_error_restores_the_state", error),
        native("clean_does_not_touch_a_running_experiment", clean_while_running),
        native("stable_writes_of_a_named_device_are_restored", named_device),
        native("a_device_in_use_is_refused", device_in_use),
        guest("the_arms_of_a_pi_disk_depend_on_the_kernel", arms_of_pi_disk),
    ]
}

/// The folder for the scratch file, and the loop device that the experiment will get.
struct Target {
    folder: TempDir,
    device: String,
}

impl Target {
    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn stable_writes(&self) -> PathBuf {
        Path::new("/sys/block").join(&self.device).join(STABLE_WRITES)
    }
}

/// The state of the machine that an experiment changes.
#[derive(Debug, PartialEq, Eq)]
struct State {
    mounts: String,
    /// Mounts of an experiment in the namespace of the first process.
    mounts_of_init: Vec<String>,
    /// `queue/stable_writes` of the experiment's loop device.
    stable_writes: Option<String>,
    /// Loop devices over files in the folder.
    attached: Vec<String>,
    files: Vec<PathBuf>,
    journals: Vec<PathBuf>,
}

impl State {
    fn of(target: &Target) -> Result<Self> {
        let folder = target.folder.path();
        let name = folder.to_string_lossy().into_owned();
        let mounts_of_init = fs::read_to_string("/proc/1/mounts")?;
        let attached = program::run("losetup", &["--all"])?;
        Ok(Self {
            mounts: fs::read_to_string("/proc/self/mounts")?,
            mounts_of_init: lines_with(&mounts_of_init, JOURNALS),
            stable_writes: fs::read_to_string(target.stable_writes()).ok(),
            attached: lines_with(&attached, &name),
            files: files(folder),
            journals: files(Path::new(JOURNALS)),
        })
    }
}

fn lines_with(text: &str, part: &str) -> Vec<String> {
    text.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// A running experiment. Killed on drop.
struct Experiment {
    child: KillOnDrop,
}

/// The output of an experiment.
struct Output {
    status: ExitStatus,
    out: String,
    errors: String,
}

impl Output {
    fn cells(&self) -> Result<Vec<Cell>> {
        let lines = self.out.lines();
        lines.map(|line| serde_json::from_str(line).context(line.to_owned())).collect()
    }
}

impl Experiment {
    fn start(folder: &Path, options: &[&str]) -> Result<Self> {
        let mut command = command(options);
        command.arg("--path").arg(folder);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Self { child: KillOnDrop(command.spawn().context("cannot start the agent")?) })
    }

    fn journal(&self) -> PathBuf {
        Path::new(JOURNALS).join(format!("experiment-{}.json", self.child.id()))
    }

    /// Waits until a workload runs: by then the experiment has made all of its changes.
    fn await_workload(&mut self) -> Result<()> {
        let journal = self.journal();
        wait_until(|| {
            if let Some(status) = self.child.try_wait()? {
                bail!("the experiment ended too early: {status}");
            }
            let text = fs::read_to_string(&journal).unwrap_or_default();
            let runs = text.contains(r#""change":"workload""#);
            Ok((!runs).then(|| format!("no workload in {}: {text}", journal.display())))
        })
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        send_signal(self.child.id(), signal)
    }

    fn wait(mut self) -> Result<Output> {
        // Each stream is shorter than a pipe's buffer.
        let status = self.child.wait()?;
        let read = |stream: Option<&mut dyn std::io::Read>| -> Result<String> {
            let mut text = String::new();
            stream.context("the stream is not captured")?.read_to_string(&mut text)?;
            Ok(text)
        };
        let out = read(self.child.stdout.as_mut().map(|it| it as _))?;
        let errors = read(self.child.stderr.as_mut().map(|it| it as _))?;
        Ok(Output { status, out, errors })
    }
}

fn command(options: &[&str]) -> Command {
    let mut command = Agent::command();
    command.args(["experiment", "-q", "--format=json", "--threads=16"]).args(options);
    command
}

fn clean() -> Result<String> {
    let output = Agent::output(["experiment", "--clean"])?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && errors.is_empty(), "{}: {errors}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Cleans up after earlier experiments, and returns a target with its state.
fn prepare() -> Result<(Target, State)> {
    clean()?;
    let free = program::run("losetup", &["--find"])?;
    let device = free.trim().trim_start_matches("/dev/").to_owned();
    let target = Target { folder: tempfile::tempdir()?, device };
    // Off before the experiment, so that on is a change. A new loop device has it off.
    if target.stable_writes().exists() {
        fs::write(target.stable_writes(), "0")?;
    }
    let state = State::of(&target)?;
    ensure!(state.journals.is_empty(), "another experiment runs: {:?}", state.journals);
    Ok((target, state))
}

fn both_arms() -> Result<()> {
    let (target, before) = prepare()?;
    let options = ["--fs=ext4", "--fs=xfs", "--profile=c", "--pairs=2", "--duration=300ms"];
    let output = Experiment::start(target.path(), &options)?.wait()?;
    ensure!(
        output.status.success() && output.errors.is_empty(),
        "{}: {}",
        output.status,
        output.errors
    );
    let cells = output.cells()?;
    let names: Vec<_> =
        cells.iter().map(|cell| (cell.fs.as_str(), cell.profile.as_str())).collect();
    ensure!(names == [("ext4", "c"), ("xfs", "c")], "{names:?}");
    for cell in &cells {
        ensure!(cell.runs_on.len() == 2 && cell.runs_off.len() == 2, "{cell:?}");
        ensure!(cell.note.is_none() && cell.errors.is_empty(), "{cell:?}");
        let (on, off) = (cell.ops_on.context("no ops_on")?, cell.ops_off.context("no ops_off")?);
        let ratio = cell.ratio.context("no ratio")?;
        ensure!((ratio - on / off).abs() < 1e-9, "{cell:?}");
        let [low, high] = cell.ci95.context("no interval")?;
        ensure!(low <= ratio && ratio <= high, "{cell:?}");
        // Only `stable_writes` makes writers wait.
        ensure!(cell.stalls > 0 && cell.stalls_off == Some(0), "{cell:?}");
    }
    ensure!(State::of(&target)? == before, "{:#?}", State::of(&target)?);
    Ok(())
}

fn signal() -> Result<()> {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (target, before) = prepare()?;
        let mut experiment = Experiment::start(target.path(), &["--duration=1h"])?;
        experiment.await_workload()?;
        let during = State::of(&target)?;
        ensure!(
            during.stable_writes != before.stable_writes,
            "stable_writes was not set: {during:#?}"
        );
        experiment.signal(signal)?;
        let output = experiment.wait()?;
        ensure!(output.status.code() == Some(1), "{signal:?}: {}", output.status);
        ensure!(output.errors.lines().count() == 1, "{signal:?}: {}", output.errors);
        ensure!(output.errors.contains("everything is put back"), "{signal:?}: {}", output.errors);
        let after = State::of(&target)?;
        ensure!(after == before, "{signal:?}: {after:#?}, not {before:#?}");
    }
    Ok(())
}

/// Kills a running experiment.
fn kill(target: &Target, before: &State) -> Result<()> {
    let mut experiment = Experiment::start(target.path(), &["--duration=1h"])?;
    experiment.await_workload()?;
    experiment.signal(Signal::KILL)?;
    let output = experiment.wait()?;
    ensure!(output.status.code().is_none(), "{}", output.status);
    let left = State::of(target)?;
    ensure!(left.stable_writes != before.stable_writes, "nothing was left behind: {left:#?}");
    ensure!(left.journals.len() == 2, "not one journal and one folder: {:?}", left.journals);
    Ok(())
}

fn clean_after_kill() -> Result<()> {
    let (target, before) = prepare()?;
    kill(&target, &before)?;
    let output = clean()?;
    ensure!(output.contains("set /sys/block/loop") && output.contains("to 0"), "{output}");
    let after = State::of(&target)?;
    ensure!(after == before, "{after:#?}, not {before:#?}");
    let output = clean()?;
    ensure!(output.trim() == "nothing to put back", "{output}");
    Ok(())
}

fn next_run_after_kill() -> Result<()> {
    let (target, before) = prepare()?;
    kill(&target, &before)?;
    let output = Experiment::start(target.path(), &["--pairs=1", "--duration=100ms"])?.wait()?;
    ensure!(output.status.success(), "{}: {}", output.status, output.errors);
    let cells = output.cells()?;
    ensure!(cells.len() == 1 && cells[0].ratio.is_some() && cells[0].ci95.is_none(), "{cells:?}");
    let after = State::of(&target)?;
    ensure!(after == before, "{after:#?}, not {before:#?}");
    Ok(())
}

fn error() -> Result<()> {
    let (target, before) = prepare()?;
    // Each error occurs after the loop device was attached and `stable_writes` was tried.
    for (options, expected) in [
        (&["--fs=xfs", "--scratch=16MiB"][..], "mkfs.xfs failed"),
        (&["--profile=d", "--io-size=512"], "multiple of the page size"),
        (&["--file-size=64MiB", "--scratch=64MiB"], "raise --scratch"),
    ] {
        let output = Experiment::start(target.path(), options)?.wait()?;
        ensure!(output.status.code() == Some(1), "{}", output.status);
        ensure!(
            output.errors.lines().count() == 1 && output.errors.contains(expected),
            "{}",
            output.errors
        );
        let after = State::of(&target)?;
        ensure!(after == before, "{after:#?}, not {before:#?}");
    }
    Ok(())
}

fn clean_while_running() -> Result<()> {
    let (target, _) = prepare()?;
    let mut experiment = Experiment::start(target.path(), &["--duration=1h"])?;
    experiment.await_workload()?;
    let during = State::of(&target)?;
    let output = clean()?;
    ensure!(output.trim() == "nothing to put back", "{output}");
    ensure!(State::of(&target)? == during, "{:#?}", State::of(&target)?);
    experiment.signal(Signal::INT)?;
    experiment.wait()?;
    Ok(())
}

/// `stable_writes` is on before, unlike on a new loop device.
fn named_device() -> Result<()> {
    let disk = Disk::loop_device(128)?;
    let before = disk.attribute(STABLE_WRITES).context("the device has no stable_writes")?;
    disk.set_attribute(STABLE_WRITES, "1")?;
    let refused = Experiment::spawn(command(&["--device", &disk.name]))?.wait()?;
    ensure!(refused.status.code() == Some(1), "{}", refused.status);
    ensure!(refused.errors.contains("add --yes"), "{}", refused.errors);

    let options = ["--yes", "--pairs=1", "--duration=100ms", "--device", &disk.name];
    let output = Experiment::spawn(command(&options))?.wait()?;
    ensure!(
        output.status.success() && output.errors.is_empty(),
        "{}: {}",
        output.status,
        output.errors
    );
    ensure!(output.cells()?.len() == 1, "{}", output.out);
    let after = disk.attribute(STABLE_WRITES);
    ensure!(after.as_deref() == Some("1"), "{after:?}");
    disk.set_attribute(STABLE_WRITES, &before)
}

fn device_in_use() -> Result<()> {
    let scratch = Scratch::new(Fs::Ext4, Disk::loop_device(64)?)?;
    let file = scratch.path().join("file");
    fs::write(&file, "unchanged")?;
    let name = scratch.disk().name.clone();
    let output = Experiment::spawn(command(&["--yes", "--device", &name]))?.wait()?;
    ensure!(
        output.status.code() == Some(1) && output.errors.contains("is in use"),
        "{}",
        output.errors
    );
    ensure!(fs::read_to_string(&file)? == "unchanged");
    Ok(())
}

/// Before 6.11 the disk has both arms. From then on its integrity profile alone keeps pages stable,
/// and the experiment notes that.
fn arms_of_pi_disk() -> Result<()> {
    let _quiet = QuietConsole::new()?;
    let disk = Disk::pi()?;
    let _slow = SlowDisk::new(&disk, std::time::Duration::from_millis(2), 4)?;
    let before = disk.attribute(STABLE_WRITES);
    let options = ["--yes", "--pairs=1", "--duration=2s", "--device", &disk.name];
    let output = Experiment::spawn(command(&options))?.wait()?;
    ensure!(output.status.success(), "{}: {}", output.status, output.errors);
    let cells = output.cells()?;
    let [cell] = cells.as_slice() else { bail!("not one cell: {}", output.out) };
    ensure!(cell.stalls > 0 && cell.ops_on.is_some(), "{cell:?}");
    if host::integrity_keeps_pages_stable() {
        let note = cell.note.as_deref().unwrap_or_default();
        ensure!(cell.ratio.is_none() && cell.ops_off.is_none(), "{cell:?}");
        ensure!(note.contains("cannot be switched off"), "{cell:?}");
    } else {
        ensure!(cell.ratio.is_some() && cell.note.is_none(), "{cell:?}");
        ensure!(cell.stalls_off == Some(0), "{cell:?}");
    }
    ensure!(disk.attribute(STABLE_WRITES) == before, "stable_writes was not restored");
    Ok(())
}
