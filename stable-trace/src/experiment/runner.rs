//! Runs the experiment: sets up the device, measures all cases, undoes all changes.

use std::{
    env,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use stable_trace_analysis::{
    correlate::verdict::Limits,
    event::{Device, Group},
};

use super::{
    args::{ExperimentArgs, Fs},
    block_target::{BlockTarget, enter_private_namespace},
    cell::Runs,
    error::ExperimentError,
    mkfs,
    plan::{Arm, Case, Plan, arm_order},
    report::CellWriter,
    run::RunContext,
    stable_writes::{self, MeasurableArms, measurable_arms},
    system_change::SystemChange,
    undo_journal::{self, UndoJournal},
};
use crate::{
    kernel::{
        devices::{self, DevicesError},
        release::System,
    },
    probes::load::Settings,
    trace::{
        emitter::Emitter,
        outputs::Outputs,
        tracer::{TraceConfig, Tracer},
    },
    workload::progress::format_size,
};

/// Longest warm-up run, whose result is dropped.
const WARM_UP: Duration = Duration::from_secs(2);

/// Default directory of the scratch file: /tmp may be in memory.
const SCRATCH_DIR: &str = "/var/tmp";

/// Size of the ring buffer, which carries integrity errors only.
const RING_BYTES: u32 = 4 << 20;

/// Undoes the changes of killed experiments, and prints each.
pub(crate) fn clean() -> Result<(), ExperimentError> {
    let mut nothing = true;
    undo_journal::clean(|done| {
        nothing = false;
        // A closed standard output does not stop the clean-up.
        let _ = writeln!(io::stdout(), "{done}");
    })?;
    if nothing {
        let _ = writeln!(io::stdout(), "nothing to put back");
    }
    Ok(())
}

/// Runs the experiment, writes a line for each cell, and undoes all changes, also on error.
/// `interrupted` is set by signals. Must be called while the process has one thread.
pub(crate) fn run(
    args: &ExperimentArgs,
    quiet: bool,
    interrupted: &Arc<AtomicBool>,
) -> Result<(), ExperimentError> {
    let plan = Plan::new(args, rustix::param::page_size() as u64)?;
    args.file_systems.iter().try_for_each(|&fs| mkfs::require(fs))?;
    let program = env::current_exe().map_err(|source| ExperimentError::File {
        action: "find",
        path: "/proc/self/exe".into(),
        source,
    })?;
    undo_journal::clean(|done| log::warn!("left behind by a killed experiment: {done}"))?;
    let cells = CellWriter::new(output(args)?, args.format);
    enter_private_namespace()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ExperimentError::EventLoop)?;
    let mut journal = UndoJournal::new()?;
    let runner = Runner { args, plan, program, quiet, interrupted, cells };
    let outcome = runtime.block_on(runner.measure(&mut journal));
    // `measure` has closed the device, and the drop of the runtime reaps the workload.
    drop(runtime);
    outcome.and(journal.undo_all())
}

fn output(args: &ExperimentArgs) -> Result<Box<dyn Write>, ExperimentError> {
    match &args.output {
        None => Ok(Box::new(io::stdout())),
        Some(path) => match File::create(path) {
            Ok(file) => Ok(Box::new(file)),
            Err(source) => {
                Err(ExperimentError::File { action: "write", path: path.clone(), source })
            }
        },
    }
}

struct Runner<'a> {
    args: &'a ExperimentArgs,
    plan: Plan,
    program: PathBuf,
    quiet: bool,
    interrupted: &'a Arc<AtomicBool>,
    cells: CellWriter,
}

impl Runner<'_> {
    async fn measure(mut self, journal: &mut UndoJournal) -> Result<(), ExperimentError> {
        let target = if let Some(name) = &self.args.device {
            BlockTarget::named(name, &self.plan)?
        } else {
            let dir = self.args.path.clone().or_else(|| env::var_os("TMPDIR").map(Into::into));
            let dir = dir.unwrap_or_else(|| SCRATCH_DIR.into());
            BlockTarget::loop_device(journal, &dir, self.plan.scratch)?
        };
        self.log_progress(&format!("the file systems are made on {}", target.path.display()));
        let point = journal.mount_point();
        let failed =
            |source| ExperimentError::File { action: "create", path: point.clone(), source };
        journal.record(SystemChange::Directory { path: point.clone() }).map_err(failed)?;
        std::fs::create_dir_all(&point).map_err(failed)?;
        let writable = self.check_stable_writes(journal, &target)?;

        let tracer = Tracer::attach(self.config())?;
        let integrity_traced =
            tracer.probes().iter().any(|probe| probe.group == Group::Integrity && probe.attached);
        let mut context = RunContext {
            args: self.args,
            program: self.program.clone(),
            target,
            journal,
            tracer,
            emitter: Emitter::new(Outputs::none(), Limits::default()),
            interrupted: Arc::clone(self.interrupted),
        };
        for case in self.plan.cases.clone() {
            let arms = arms_of(case.fs, &context.target, &writable)?;
            let (runs, note) = self.run_case(&mut context, case, arms).await?;
            let cell = runs.into_cell(case, self.args.threads, integrity_traced, note);
            self.cells.write_cell(&cell).map_err(ExperimentError::Write)?;
        }
        self.cells.finish().map_err(ExperimentError::Write)
    }

    /// Makes a file system and does all runs of one case on it.
    async fn run_case(
        &self,
        context: &mut RunContext<'_>,
        case: Case,
        arms: MeasurableArms,
    ) -> Result<(Runs, Option<String>), ExperimentError> {
        let name = format!("{} {} {}", case.fs, case.profile, format_size(case.file_size));
        mkfs::make(case.fs, &context.target.path)?;
        let (schedule, note) = schedule(arms, self.plan.pairs);
        self.log_progress(&format!("{name}: {} runs of {:?}", schedule.len(), self.args.duration));
        if let Some(note) = &note {
            self.log_progress(&format!("{name}: {note}"));
        }
        if let Some((_, setting)) = schedule.first() {
            context.run(case, *setting, self.args.duration.min(WARM_UP)).await?;
        }
        let mut runs = Runs::default();
        for (number, (arm, setting)) in (1..).zip(&schedule) {
            let run = context.run(case, *setting, self.args.duration).await?;
            self.log_progress(&format!(
                "{name}: run {number} of {}, stable writes {}: {:.0} operations a second, {} stalls",
                schedule.len(),
                if *arm == Arm::On { "on" } else { "off" },
                run.operations_per_second,
                run.stalls.count(),
            ));
            runs.push(*arm, run);
        }
        Ok((runs, note))
    }

    /// Records `queue/stable_writes` in the journal and checks whether it can be written.
    fn check_stable_writes(
        &self,
        journal: &mut UndoJournal,
        target: &BlockTarget,
    ) -> Result<Result<(), String>, ExperimentError> {
        let disk = &target.disk.name;
        if let Some(before) = stable_writes::read(disk) {
            journal.record(SystemChange::StableWrites { disk: disk.clone(), before }).map_err(
                |source| ExperimentError::File {
                    action: "record",
                    path: stable_writes::path(disk),
                    source,
                },
            )?;
        }
        if self.interrupted.load(Relaxed) {
            return Err(ExperimentError::Interrupted);
        }
        Ok(stable_writes::check_writable(disk))
    }

    /// Counts all stalls and streams none of them.
    fn config(&self) -> TraceConfig {
        TraceConfig {
            settings: Settings::of_everybody(RING_BYTES, u64::MAX),
            method: self.args.attach.method(),
            devices: Vec::new(),
            btf: None,
            evidence: None,
            stuck_after: Duration::MAX,
        }
    }

    fn log_progress(&self, text: &str) {
        if !self.quiet {
            // A closed terminal does not stop the experiment.
            let _ = writeln!(io::stderr(), "experiment: {text}");
        }
    }
}

/// The arms that a file system on the target has.
fn arms_of(
    fs: Fs,
    target: &BlockTarget,
    writable: &Result<(), String>,
) -> Result<MeasurableArms, ExperimentError> {
    let kernel = System::read().version();
    let found = devices::list(Path::new("/sys"), kernel)?;
    let name = &target.disk.name;
    let device: Option<Device> = found.into_iter().find(|device| device.device == *name);
    let unknown = || DevicesError::Unknown { name: name.clone(), similar: Vec::new() };
    let device = device.ok_or_else(unknown)?;
    Ok(measurable_arms(fs, &device, devices::integrity_implies_stable(kernel), writable))
}

/// The arm of each run with the value to write to `queue/stable_writes`, if any; and the reason if
/// there is only one arm.
fn schedule(arms: MeasurableArms, pairs: u32) -> (Vec<(Arm, Option<Arm>)>, Option<String>) {
    match arms {
        MeasurableArms::Both => {
            let runs = (0..pairs).flat_map(arm_order).map(|arm| (arm, Some(arm)));
            (runs.collect(), None)
        }
        MeasurableArms::Only(arm, reason) => {
            ((0..pairs).map(|_| (arm, None)).collect(), Some(reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_arm_runs_without_a_write() {
        let (both, note) = schedule(MeasurableArms::Both, 5);
        assert_eq!((both.len(), note), (10, None));
        assert!(both.iter().all(|(arm, setting)| *setting == Some(*arm)));
        let (one, note) = schedule(MeasurableArms::Only(Arm::On, "why".to_owned()), 5);
        assert_eq!(one, [(Arm::On, None); 5]);
        assert_eq!(note.as_deref(), Some("why"));
    }
}
