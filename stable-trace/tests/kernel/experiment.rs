//! The experiment puts back whatever it changed, however it ends; and it measures what it can.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use stable_trace::experiment::cell::Cell;
use tempfile::TempDir;

use crate::harness::console::QuietConsole;
use crate::harness::injection::SlowDisk;
use crate::harness::{Agent, Disk, Fs, Requirement, Scratch, Test, wait_until, program};

const LEDGERS: &str = "/run/stable-trace";

const STABLE_WRITES: &str = "queue/stable_writes";

pub fn tests() -> Vec<Test> {
    let native = |name: &str, body: fn() -> Result<()>| {
        Test::native(format!("experiment::{name}"), body)
            .requires(Requirement::Root)
            .requires(Requirement::Agent)
            .requires(Requirement::Program("losetup"))
            .requires(Requirement::Program("mkfs.ext4"))
            .requires(Requirement::Program("mkfs.xfs"))
    };
    let guest = |name: &str, body: fn() -> Result<()>| {
        Test::guest(format!("experiment::{name}"), body).requires(Requirement::Agent).requires(Requirement::PiDisk)
    };
    vec![
        native("both_arms_are_measured_and_all_is_as_before", both_arms),
        native("told_to_end_it_puts_everything_back", told_to_end),
        native("killed_it_is_put_back_by_clean", killed_then_clean),
        native("killed_it_is_put_back_by_the_next_run", killed_then_next),
        native("an_error_puts_everything_back", an_error),
        native("clean_leaves_one_that_runs_alone", clean_while_it_runs),
        native("a_named_device_keeps_its_switch", named_device),
        native("a_device_in_use_is_refused", device_in_use),
        guest("a_disk_that_checks_has_the_arms_that_its_kernel_has", arms_of_a_checking_disk),
    ]
}

/// What an experiment is given: a folder for its scratch file, and the loop device that is free.
struct Ground {
    folder: TempDir,
    device: String,
}

impl Ground {
    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn switch(&self) -> PathBuf {
        Path::new("/sys/block").join(&self.device).join(STABLE_WRITES)
    }
}

/// What an experiment could leave behind.
#[derive(Debug, PartialEq, Eq)]
struct State {
    mounts: String,
    /// Of the first process, as far as they are an experiment's.
    mounts_of_all: Vec<String>,
    /// Of the loop device that an experiment gets.
    switch: Option<String>,
    /// Loop devices over files in this folder, and of losetup's list what names it.
    attached: Vec<String>,
    files: Vec<PathBuf>,
    ledgers: Vec<PathBuf>,
}

impl State {
    fn of(ground: &Ground) -> Result<Self> {
        let folder = ground.folder.path();
        let name = folder.to_string_lossy().into_owned();
        let mounts_of_all = fs::read_to_string("/proc/1/mounts")?;
        let listed = program::run("losetup", &["--all"])?;
        Ok(Self {
            mounts: fs::read_to_string("/proc/self/mounts")?,
            mounts_of_all: of_lines(&mounts_of_all, LEDGERS),
            switch: fs::read_to_string(ground.switch()).ok(),
            attached: of_lines(&listed, &name),
            files: files(folder),
            ledgers: files(Path::new(LEDGERS)),
        })
    }
}

fn of_lines(text: &str, part: &str) -> Vec<String> {
    text.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// An experiment under way. Dropped, it is killed.
struct Experiment {
    child: Child,
}

/// How an experiment ended.
struct End {
    status: ExitStatus,
    out: String,
    errors: String,
}

impl End {
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
        Ok(Self { child: command.spawn().context("cannot start the agent")? })
    }

    fn ledger(&self) -> PathBuf {
        Path::new(LEDGERS).join(format!("experiment-{}.json", self.child.id()))
    }

    /// Returns once a workload runs, which is when everything there is to put back is there: the
    /// switch is on, the file system is mounted.
    fn await_workload(&mut self) -> Result<()> {
        let ledger = self.ledger();
        wait_until(|| {
            if let Some(status) = self.child.try_wait()? {
                bail!("the experiment ended too early: {status}");
            }
            let text = fs::read_to_string(&ledger).unwrap_or_default();
            let runs = text.contains(r#""change":"workload""#);
            Ok((!runs).then(|| format!("no workload in {}: {text}", ledger.display())))
        })
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed()).context("no pid")?;
        kill_process(pid, signal).context("cannot signal the experiment")
    }

    fn wait(mut self) -> Result<End> {
        // Neither is more than a pipe holds.
        let status = self.child.wait()?;
        let read = |stream: Option<&mut dyn std::io::Read>| -> Result<String> {
            let mut text = String::new();
            stream.context("no stream")?.read_to_string(&mut text)?;
            Ok(text)
        };
        let out = read(self.child.stdout.as_mut().map(|it| it as _))?;
        let errors = read(self.child.stderr.as_mut().map(|it| it as _))?;
        Ok(End { status, out, errors })
    }
}

impl Drop for Experiment {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(options: &[&str]) -> Command {
    let mut command = Command::new(Agent::program());
    command.args(["experiment", "-q", "--format=json", "--threads=16"]).args(options);
    // A developer who tests under sudo tests the same as everybody.
    command.env_remove("SUDO_UID").env_remove("SUDO_GID").stdin(Stdio::null());
    command
}

fn clean() -> Result<String> {
    let output = Agent::output(["experiment", "--clean"])?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && errors.is_empty(), "{}: {errors}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Makes sure that nothing is there from before, and says how things are.
fn settled() -> Result<(Ground, State)> {
    clean()?;
    let free = program::run("losetup", &["--find"])?;
    let device = free.trim().trim_start_matches("/dev/").to_owned();
    let ground = Ground { folder: tempfile::tempdir()?, device };
    // Off before, so that on is another state. One that is not there yet is made with it off.
    if ground.switch().exists() {
        fs::write(ground.switch(), "0")?;
    }
    let state = State::of(&ground)?;
    ensure!(state.ledgers.is_empty(), "another experiment runs: {:?}", state.ledgers);
    Ok((ground, state))
}

fn both_arms() -> Result<()> {
    let (folder, before) = settled()?;
    let options = ["--fs=ext4", "--fs=xfs", "--profile=c", "--pairs=2", "--duration=300ms"];
    let end = Experiment::start(folder.path(), &options)?.wait()?;
    ensure!(end.status.success() && end.errors.is_empty(), "{}: {}", end.status, end.errors);
    let cells = end.cells()?;
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
        // The switch is what makes writers wait: the kernel's probes against its own setting.
        ensure!(cell.stalls > 0 && cell.stalls_off == Some(0), "{cell:?}");
    }
    ensure!(State::of(&folder)? == before, "{:#?}", State::of(&folder)?);
    Ok(())
}

fn told_to_end() -> Result<()> {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (folder, before) = settled()?;
        let mut experiment = Experiment::start(folder.path(), &["--duration=1h"])?;
        experiment.await_workload()?;
        let during = State::of(&folder)?;
        ensure!(during.switch != before.switch, "the switch was not set: {during:#?}");
        experiment.signal(signal)?;
        let end = experiment.wait()?;
        ensure!(end.status.code() == Some(1), "{signal:?}: {}", end.status);
        ensure!(end.errors.lines().count() == 1, "{signal:?}: {}", end.errors);
        ensure!(end.errors.contains("everything is put back"), "{signal:?}: {}", end.errors);
        let after = State::of(&folder)?;
        ensure!(after == before, "{signal:?}: {after:#?}, not {before:#?}");
    }
    Ok(())
}

fn kill(folder: &Ground, before: &State) -> Result<()> {
    let mut experiment = Experiment::start(folder.path(), &["--duration=1h"])?;
    experiment.await_workload()?;
    experiment.signal(Signal::KILL)?;
    let end = experiment.wait()?;
    ensure!(end.status.code().is_none(), "{}", end.status);
    let left = State::of(folder)?;
    ensure!(left.switch != before.switch, "nothing was left behind: {left:#?}");
    ensure!(left.ledgers.len() == 2, "not a ledger and a folder: {:?}", left.ledgers);
    Ok(())
}

fn killed_then_clean() -> Result<()> {
    let (folder, before) = settled()?;
    kill(&folder, &before)?;
    let said = clean()?;
    ensure!(said.contains("set /sys/block/loop") && said.contains("to 0"), "{said}");
    let after = State::of(&folder)?;
    ensure!(after == before, "{after:#?}, not {before:#?}");
    let said = clean()?;
    ensure!(said.trim() == "nothing to put back", "{said}");
    Ok(())
}

fn killed_then_next() -> Result<()> {
    let (folder, before) = settled()?;
    kill(&folder, &before)?;
    let end = Experiment::start(folder.path(), &["--pairs=1", "--duration=100ms"])?.wait()?;
    ensure!(end.status.success(), "{}: {}", end.status, end.errors);
    let cells = end.cells()?;
    ensure!(cells.len() == 1 && cells[0].ratio.is_some() && cells[0].ci95.is_none(), "{cells:?}");
    let after = State::of(&folder)?;
    ensure!(after == before, "{after:#?}, not {before:#?}");
    Ok(())
}

fn an_error() -> Result<()> {
    let (folder, before) = settled()?;
    // The loop device is there by then, and the switch was tried.
    for (options, expected) in [
        (&["--fs=xfs", "--scratch=16MiB"][..], "mkfs.xfs failed"),
        (&["--profile=d", "--io-size=512"], "multiple of the page size"),
        (&["--file-size=64MiB", "--scratch=64MiB"], "raise --scratch"),
    ] {
        let end = Experiment::start(folder.path(), options)?.wait()?;
        ensure!(end.status.code() == Some(1), "{}", end.status);
        ensure!(end.errors.lines().count() == 1 && end.errors.contains(expected), "{}", end.errors);
        let after = State::of(&folder)?;
        ensure!(after == before, "{after:#?}, not {before:#?}");
    }
    Ok(())
}

fn clean_while_it_runs() -> Result<()> {
    let (folder, _) = settled()?;
    let mut experiment = Experiment::start(folder.path(), &["--duration=1h"])?;
    experiment.await_workload()?;
    let during = State::of(&folder)?;
    let said = clean()?;
    ensure!(said.trim() == "nothing to put back", "{said}");
    ensure!(State::of(&folder)? == during, "{:#?}", State::of(&folder)?);
    experiment.signal(Signal::INT)?;
    experiment.wait()?;
    Ok(())
}

/// Its switch was on before, unlike that of a new loop device.
fn named_device() -> Result<()> {
    let disk = Disk::loop_device(128)?;
    let before = disk.attribute(STABLE_WRITES).context("no switch")?;
    disk.set_attribute(STABLE_WRITES, "1")?;
    let refused = Experiment::spawn(command(&["--device", &disk.name]))?.wait()?;
    ensure!(refused.status.code() == Some(1), "{}", refused.status);
    ensure!(refused.errors.contains("add --yes"), "{}", refused.errors);

    let options = ["--yes", "--pairs=1", "--duration=100ms", "--device", &disk.name];
    let end = Experiment::spawn(command(&options))?.wait()?;
    ensure!(end.status.success() && end.errors.is_empty(), "{}: {}", end.status, end.errors);
    ensure!(end.cells()?.len() == 1, "{}", end.out);
    let after = disk.attribute(STABLE_WRITES);
    ensure!(after.as_deref() == Some("1"), "{after:?}");
    disk.set_attribute(STABLE_WRITES, &before)
}

fn device_in_use() -> Result<()> {
    let scratch = Scratch::new(Fs::Ext4, Disk::loop_device(64)?)?;
    let precious = scratch.path().join("precious");
    fs::write(&precious, "all there")?;
    let name = scratch.disk().name.clone();
    let end = Experiment::spawn(command(&["--yes", "--device", &name]))?.wait()?;
    ensure!(end.status.code() == Some(1) && end.errors.contains("is in use"), "{}", end.errors);
    ensure!(fs::read_to_string(&precious)? == "all there");
    Ok(())
}

/// Before 6.11 both; then its checksums alone keep pages stable, and the experiment says so.
fn arms_of_a_checking_disk() -> Result<()> {
    let _quiet = QuietConsole::new()?;
    let disk = Disk::pi()?;
    let _slow = SlowDisk::new(&disk, std::time::Duration::from_millis(2), 4)?;
    let before = disk.attribute(STABLE_WRITES);
    let options = ["--yes", "--pairs=1", "--duration=2s", "--device", &disk.name];
    let end = Experiment::spawn(command(&options))?.wait()?;
    ensure!(end.status.success(), "{}: {}", end.status, end.errors);
    let cells = end.cells()?;
    let [cell] = cells.as_slice() else { bail!("not one cell: {}", end.out) };
    ensure!(cell.stalls > 0 && cell.ops_on.is_some(), "{cell:?}");
    if crate::harness::host::kernel_version() < (6, 11) {
        ensure!(cell.ratio.is_some() && cell.note.is_none(), "{cell:?}");
        ensure!(cell.stalls_off == Some(0), "{cell:?}");
    } else {
        let note = cell.note.as_deref().unwrap_or_default();
        ensure!(cell.ratio.is_none() && cell.ops_off.is_none(), "{cell:?}");
        ensure!(note.contains("cannot be switched off"), "{cell:?}");
    }
    ensure!(disk.attribute(STABLE_WRITES) == before, "the switch is another");
    Ok(())
}
