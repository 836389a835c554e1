//! Loading the programs and attaching them as the plan says.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{CgroupArray, MapError},
    programs::{ProgramError, RawTracePoint, TracePoint},
    sys::Stats,
};

use super::{
    facts::Facts,
    plan::{Plan, Point, Step},
};
use crate::event::Probe;

/// The programs, as the build script made them.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/stable-trace-ebpf"));

/// Why nothing is traced.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kernel takes none of the programs.
    #[error("cannot load the eBPF programs: {}; `stable-trace doctor` says what is missing", chain(.0))]
    Load(#[source] EbpfError),
    /// Not one probe of the plan could attach.
    #[error("nothing can attach: {0}; `stable-trace doctor` says more")]
    Nothing(String),
    /// A map of the object is not there or not as expected.
    #[error("the map {name} cannot be used: {source}; please report it")]
    Map {
        /// Its name.
        name: &'static str,
        /// What aya said.
        #[source]
        source: MapError,
    },
    /// The folder of `--cgroup` cannot be used.
    #[error("cannot use the cgroup {}: {source}; name a folder of the cgroup2 file system", path.display())]
    Cgroup {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

/// An error with what caused it, on one line: the verifier's log is left to `-v`.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = first_line(&error.to_string());
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {}", first_line(&cause.to_string()));
        source = cause.source();
    }
    text
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// What the programs are told before they load.
#[derive(Debug)]
pub struct Settings {
    /// Bytes of the ring: a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Stream only stalls at least this long, in ns.
    pub min_latency_ns: u64,
    /// `--pid`: only waiters of this process.
    pub pid: Option<u32>,
    /// `--comm`: only waiters of this name, NUL-padded.
    pub comm: Option<[u8; 16]>,
    /// `--cgroup`: only waiters in this folder of the cgroup2 file system, or below it.
    pub cgroup: Option<PathBuf>,
    /// Whether `--device` was given.
    pub only_devices: bool,
}

/// The programs, attached while this lives.
pub struct Attached {
    /// Programs and maps.
    pub ebpf: Ebpf,
    /// Every probe of the plan, attached or not.
    pub probes: Vec<Probe>,
    /// While it is open the kernel times the programs (`BPF_ENABLE_STATS`, 5.8); absent where it
    /// may not be asked to.
    pub statistics: Option<OwnedFd>,
}

/// Makes the loader. aya reads the kernel's whole BTF here, wanted or not, and that takes some 20 MiB
/// for a moment: make it before anything else is kept, so that the agent's peak is not the sum.
#[must_use]
pub fn loader() -> EbpfLoader<'static> {
    let mut loader = EbpfLoader::new();
    // The programs carry no relocations against the kernel's types.
    loader.btf(None);
    loader
}

/// Loads the programs and attaches them. Must run where tracefs can be seen: aya reads the
/// tracepoints' ids there.
///
/// # Errors
/// [`AttachError`] if nothing could attach; a probe that could not is in the list otherwise.
pub fn attach(
    loader: EbpfLoader<'static>,
    facts: &Facts,
    plan: &Plan,
    settings: &Settings,
) -> Result<Attached, AttachError> {
    if !plan.can_trace() {
        return Err(AttachError::Nothing(reasons(&plan.gaps)));
    }
    let mut ebpf = load(loader, facts, plan, settings)?;
    if let Some(path) = &settings.cgroup {
        choose_cgroup(&mut ebpf, path)?;
    }
    let statistics = aya::sys::enable_stats(Stats::RunTime)
        .inspect_err(|error| log::debug!("the kernel will not time the programs: {error}"))
        .ok();
    let mut probes = Vec::new();
    for step in &plan.steps {
        let outcome = attach_step(&mut ebpf, step);
        let reason = outcome.err().map(|error| chain(&error));
        if let Some(reason) = &reason {
            log::warn!("{} does not attach: {reason}", step.function());
        }
        probes.push(Probe {
            group: step.group,
            function: step.function(),
            method: step.method,
            attached: reason.is_none(),
            reason,
        });
    }
    if probes.iter().any(|probe| !probe.attached) {
        // Half a wait is none: the plan has no step that does without the others.
        return Err(AttachError::Nothing(reasons(&probes)));
    }
    probes.extend(plan.gaps.iter().cloned());
    Ok(Attached { ebpf, probes, statistics })
}

/// The reasons of all that did not attach, on one line.
fn reasons(probes: &[Probe]) -> String {
    let reasons = probes.iter().filter_map(|probe| {
        probe.reason.as_ref().map(|reason| format!("{}: {reason}", probe.function))
    });
    reasons.collect::<Vec<_>>().join("; ")
}

fn load(
    loader: EbpfLoader<'static>,
    facts: &Facts,
    plan: &Plan,
    settings: &Settings,
) -> Result<Ebpf, AttachError> {
    let record = plan.steps.iter().find_map(|step| match &step.point {
        Point::Tracepoint { record, .. } => Some(*record),
        Point::RawTracepoint { .. } => None,
    });
    let mut text = [0_u64; 4];
    for (pair, range) in text.chunks_mut(2).zip(facts.wait_text.iter().flatten()) {
        pair.copy_from_slice(&[range.start, range.end]);
    }
    let pid = settings.pid.unwrap_or(0);
    let comm = settings.comm.map_or([0; 2], |comm| {
        let (words, _) = comm.as_chunks::<8>();
        [u64::from_ne_bytes(words[0]), u64::from_ne_bytes(words[1])]
    });
    let only_cgroup = u32::from(settings.cgroup.is_some());
    let only_devices = u32::from(settings.only_devices);
    let wake_at = u64::from(settings.ring_bytes / 4);
    // From here on it may hold what lives as long as this call.
    let mut loader: EbpfLoader<'_> = loader;
    loader
        .map_max_entries("EVENTS", settings.ring_bytes)
        .override_global("MIN_LATENCY_NS", &settings.min_latency_ns, true)
        .override_global("ONLY_PID", &pid, true)
        .override_global("ONLY_COMM", &comm, true)
        .override_global("ONLY_CGROUP", &only_cgroup, true)
        .override_global("ONLY_DEVICES", &only_devices, true)
        .override_global("WAKE_AT_BYTES", &wake_at, true)
        .override_global("WAIT_TEXT", &text, true);
    if let Some(record) = &record {
        loader
            .override_global("WAIT_NAME_AT", &record.name_at, true)
            .override_global("WAIT_INO_AT", &record.ino_at, true)
            .override_global("WAIT_INDEX_AT", &record.index_at, true);
    }
    loader.load(OBJECT).map_err(AttachError::Load)
}

fn attach_step(ebpf: &mut Ebpf, step: &Step) -> Result<(), ProgramError> {
    let Some(program) = ebpf.program_mut(step.program) else {
        return Err(ProgramError::InvalidName { name: step.program.to_owned() });
    };
    match &step.point {
        Point::Tracepoint { system, name, .. } => {
            let program: &mut TracePoint = program.try_into()?;
            program.load()?;
            program.attach(system, name)?;
        }
        Point::RawTracepoint { name } => {
            let program: &mut RawTracePoint = program.try_into()?;
            program.load()?;
            program.attach(name)?;
        }
    }
    Ok(())
}

fn choose_cgroup(ebpf: &mut Ebpf, path: &Path) -> Result<(), AttachError> {
    let cgroup = |source| AttachError::Cgroup { path: path.to_owned(), source };
    let folder = std::fs::File::open(path).map_err(cgroup)?;
    let map = |source| AttachError::Map { name: "CGROUPS", source };
    let slots = ebpf.map_mut("CGROUPS").ok_or(map(MapError::ElementNotFound))?;
    let mut slots = CgroupArray::try_from(slots).map_err(map)?;
    slots
        .set(0, folder.as_raw_fd(), 0)
        .map_err(|error| cgroup(std::io::Error::other(chain(&error))))
}
