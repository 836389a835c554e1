//! The experiment from beginning to end.

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
    block_target::{BlockTarget, own_mounts},
    cell::Runs,
    change::Change,
    error::ExperimentError,
    mkfs,
    plan::{Arm, Case, Plan, order},
    report::Report,
    run::{Bench, Nowhere},
    stable_writes::{self, Switching},
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
        tracer::{TraceConfig, Tracer},
    },
    workload::progress::format_size,
};

/// The longest run that warms up: nothing of it is counted.
const WARM_UP: Duration = Duration::from_secs(2);

/// Where the scratch file goes: on a disk, as a rule, where /tmp may be in memory.
const SCRATCH_FOLDER: &str = "/var/tmp";

/// Room in the ring for what is streamed: integrity errors.
const RING_BYTES: u32 = 4 << 20;

/// Puts back what an experiment that was killed has left behind, and prints each thing.
///
/// # Errors
/// Something cannot be put back.
pub fn clean() -> Result<(), ExperimentError> {
    let mut nothing = true;
    undo_journal::clean(|done| {
        nothing = false;
        // Whether anybody reads it changes nothing.
        let _ = writeln!(io::stdout(), "{done}");
    })?;
    if nothing {
        let _ = writeln!(io::stdout(), "nothing to put back");
    }
    Ok(())
}

/// Runs it, prints a line a cell, and puts back whatever it changed, however it ends. `told_to_end`
/// is set by signals. Call it while there is one thread.
///
/// # Errors
/// What keeps it from running to its end. What was measured until then is printed.
pub fn run(
    args: &ExperimentArgs,
    quiet: bool,
    told_to_end: &Arc<AtomicBool>,
) -> Result<(), ExperimentError> {
    let plan = Plan::new(args, rustix::param::page_size() as u64)?;
    args.file_systems.iter().try_for_each(|&fs| mkfs::require(fs))?;
    let program = env::current_exe().map_err(|source| ExperimentError::File {
        doing: "find",
        path: "/proc/self/exe".into(),
        source,
    })?;
    undo_journal::clean(|done| log::warn!("after an experiment that was killed: {done}"))?;
    let report = Report::new(output(args)?, args.format);
    own_mounts()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ExperimentError::Signals)?;
    let mut journal = UndoJournal::open()?;
    let runner = Runner { args, plan, program, quiet, told_to_end, report };
    let outcome = runtime.block_on(runner.measure(&mut journal));
    // The workload's process is reaped with the runtime, and the device closed with the target.
    drop(runtime);
    outcome.and(journal.close())
}

fn output(args: &ExperimentArgs) -> Result<Box<dyn Write>, ExperimentError> {
    match &args.output {
        None => Ok(Box::new(io::stdout())),
        Some(path) => match File::create(path) {
            Ok(file) => Ok(Box::new(file)),
            Err(source) => {
                Err(ExperimentError::File { doing: "write", path: path.clone(), source })
            }
        },
    }
}

struct Runner<'a> {
    args: &'a ExperimentArgs,
    plan: Plan,
    program: PathBuf,
    quiet: bool,
    told_to_end: &'a Arc<AtomicBool>,
    report: Report,
}

impl Runner<'_> {
    async fn measure(mut self, journal: &mut UndoJournal) -> Result<(), ExperimentError> {
        let target = if let Some(name) = &self.args.device {
            BlockTarget::named(name, &self.plan)?
        } else {
            let folder = self.args.path.clone().or_else(|| env::var_os("TMPDIR").map(Into::into));
            let folder = folder.unwrap_or_else(|| SCRATCH_FOLDER.into());
            BlockTarget::looped(journal, &folder, self.plan.scratch)?
        };
        self.say(&format!("the file systems are made on {}", target.path.display()));
        let point = journal.mount_point();
        let failed = |source| ExperimentError::File { doing: "make", path: point.clone(), source };
        journal.enter(Change::Folder { path: point.clone() }).map_err(failed)?;
        std::fs::create_dir_all(&point).map_err(failed)?;
        let answer = self.try_switch(journal, &target)?;

        let tracer = Tracer::attach(&self.config())?;
        let checks =
            tracer.probes().iter().any(|probe| probe.group == Group::Integrity && probe.attached);
        let mut bench = Bench {
            args: self.args,
            program: self.program.clone(),
            target,
            journal,
            tracer,
            stream: Emitter::new(Box::new(Nowhere), Limits::default()),
            told_to_end: Arc::clone(self.told_to_end),
        };
        for case in self.plan.cases.clone() {
            let switching = switching(case.fs, &bench.target, &answer)?;
            let (runs, note) = self.case(&mut bench, case, switching).await?;
            let cell = runs.cell(case, self.args.threads, checks, note);
            self.report.cell(&cell).map_err(ExperimentError::Write)?;
        }
        self.report.finish().map_err(ExperimentError::Write)
    }

    /// All runs of one case, on a file system made for it.
    async fn case(
        &self,
        bench: &mut Bench<'_>,
        case: Case,
        switching: Switching,
    ) -> Result<(Runs, Option<String>), ExperimentError> {
        let name = format!("{} {} {}", case.fs, case.profile, format_size(case.file_size));
        mkfs::make(case.fs, &bench.target.path)?;
        let (turns, note) = turns(switching, self.plan.pairs);
        self.say(&format!("{name}: {} runs of {:?}", turns.len(), self.args.duration));
        if let Some(note) = &note {
            self.say(&format!("{name}: {note}"));
        }
        if let Some((_, position)) = turns.first() {
            bench.run(case, *position, self.args.duration.min(WARM_UP)).await?;
        }
        let mut runs = Runs::default();
        for (number, (arm, position)) in (1..).zip(&turns) {
            let run = bench.run(case, *position, self.args.duration).await?;
            self.say(&format!(
                "{name}: run {number} of {}, stable writes {}: {:.0} operations a second, {} stalls",
                turns.len(),
                if *arm == Arm::On { "on" } else { "off" },
                run.operations_per_second,
                run.stalls.count(),
            ));
            runs.push(*arm, run);
        }
        Ok((runs, note))
    }

    /// Whether the switch takes what is written to it. From here on the journal has what it was.
    fn try_switch(
        &self,
        journal: &mut UndoJournal,
        target: &BlockTarget,
    ) -> Result<Result<(), String>, ExperimentError> {
        let disk = &target.disk.name;
        if let Some(before) = stable_writes::read(disk) {
            journal.enter(Change::Switch { disk: disk.clone(), before }).map_err(|source| {
                ExperimentError::File { doing: "note", path: stable_writes::path(disk), source }
            })?;
        }
        if self.told_to_end.load(Relaxed) {
            return Err(ExperimentError::Interrupted);
        }
        Ok(stable_writes::answers(disk))
    }

    /// What is traced: everything is counted, and of what is streamed only integrity errors matter.
    fn config(&self) -> TraceConfig {
        TraceConfig {
            settings: Settings {
                statistics: false,
                ring_bytes: RING_BYTES,
                min_latency_ns: u64::MAX,
                pid: None,
                comm: None,
                cgroup: None,
                only_devices: false,
                harmless: false,
            },
            method: self.args.attach.method(),
            disks: Vec::new(),
            stacks: false,
            btf: None,
        }
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            // A terminal that has gone away does not end the experiment.
            let _ = writeln!(io::stderr(), "experiment: {text}");
        }
    }
}

/// Which arms a file system has there.
fn switching(
    fs: Fs,
    target: &BlockTarget,
    answer: &Result<(), String>,
) -> Result<Switching, ExperimentError> {
    let kernel = System::read().version();
    let found = devices::list(Path::new("/sys"), kernel)?;
    let name = &target.disk.name;
    let device: Option<Device> = found.into_iter().find(|device| device.device == *name);
    let unknown = || DevicesError::Unknown { wanted: name.clone(), known: Vec::new() };
    let device = device.ok_or_else(unknown)?;
    Ok(stable_writes::switching(fs, &device, devices::integrity_implies_stable(kernel), answer))
}

/// Each run with the arm that it belongs to and the position of the switch, if it has any; and why
/// there is one arm alone.
fn turns(switching: Switching, pairs: u32) -> (Vec<(Arm, Option<Arm>)>, Option<String>) {
    match switching {
        Switching::Both => {
            let turns = (0..pairs).flat_map(order).map(|arm| (arm, Some(arm)));
            (turns.collect(), None)
        }
        Switching::Only(arm, why) => ((0..pairs).map(|_| (arm, None)).collect(), Some(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_switched_is_run_as_it_is() {
        let (both, note) = turns(Switching::Both, 5);
        assert_eq!((both.len(), note), (10, None));
        assert!(both.iter().all(|(arm, position)| *position == Some(*arm)));
        let (one, note) = turns(Switching::Only(Arm::On, "why".to_owned()), 5);
        assert_eq!(one, [(Arm::On, None); 5]);
        assert_eq!(note.as_deref(), Some("why"));
    }
}
