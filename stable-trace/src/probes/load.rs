//! Loads the object with the eBPF programs, and sets their globals.

use std::path::PathBuf;

use aya::{Ebpf, EbpfError, EbpfLoader};
use stable_trace_common::{
    follow::MAX_FOLLOWED,
    layout::{AT_BEGIN, AT_SWITCH},
    offsets::Offsets,
};

use super::{
    facts::Addresses,
    plan::{Plan, Point},
};

/// The object that the build script compiled.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/stable-trace-ebpf"));

/// Size of the ring of evidence, of which the programs use a half: some twenty failures with all that is taken of
/// each, or 170 of one page.
const EVIDENCE_BYTES: u32 = 4 << 20;

/// The configuration of the programs.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent options")]
pub(crate) struct Settings {
    /// Size of the ring buffer in bytes: a power of two and a multiple of the page size.
    pub(crate) ring_bytes: u32,
    /// Stream only stalls at least this long, in ns.
    pub(crate) min_latency_ns: u64,
    /// Whose stalls are traced.
    pub(crate) scope: Scope,
    /// The agent's PID namespace, by inode number; `None` for the initial one.
    pub(crate) pid_namespace: Option<u32>,
    /// `--comm`: trace only threads and processes with this name, NUL-padded.
    pub(crate) comm: Option<[u8; 16]>,
    /// `--cgroup`: trace only tasks in this folder of the cgroup2 file system, or below it.
    pub(crate) cgroup: Option<PathBuf>,
    /// Whether `--device` is given.
    pub(crate) only_devices: bool,
    /// Whether harmless unstable writes are streamed, too.
    pub(crate) harmless: bool,
    /// Whether stall time is counted by cgroup, too.
    pub(crate) label_cgroup: bool,
    /// `--stacks`: whether the whole stack of each stall is needed.
    pub(crate) stacks: bool,
    /// Whether a device checks integrity, so that a failed check may be proved.
    pub(crate) takes_evidence: bool,
    /// Whether the kernel measures the run time of programs.
    pub(crate) statistics: bool,
}

impl Settings {
    /// Every task and device, without options. `min_latency_ns`: stream only stalls at least this long.
    pub(crate) const fn of_everybody(ring_bytes: u32, min_latency_ns: u64) -> Self {
        Self {
            ring_bytes,
            min_latency_ns,
            scope: Scope::Everybody,
            pid_namespace: None,
            comm: None,
            cgroup: None,
            only_devices: false,
            harmless: false,
            label_cgroup: false,
            stacks: false,
            takes_evidence: false,
            statistics: false,
        }
    }
}

/// Whose stalls are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Everybody,
    /// `--pid`: this process, in the agent's PID namespace, and its descendants.
    Process(u32),
    /// The process that the agent starts, and its descendants.
    Command,
}

/// Creates the loader. aya reads the kernel's BTF here in any case, which takes some 20 MiB for a
/// moment. Create it before other allocations, to keep the peak low.
pub(crate) fn loader() -> EbpfLoader<'static> {
    let mut loader = EbpfLoader::new();
    // The programs have no relocations against the kernel's types.
    loader.btf(None);
    loader
}

/// Loads the object and creates its maps. The programs themselves load when they attach.
pub(crate) fn load(
    loader: EbpfLoader<'static>,
    plan: &Plan,
    addresses: &Addresses,
    settings: &Settings,
) -> Result<Ebpf, EbpfError> {
    let record = plan.steps.iter().find_map(|step| match &step.point {
        Point::Tracepoint { record, .. } => Some(*record),
        _ => None,
    });
    let mut text = [0_u64; 4];
    for (pair, range) in text.chunks_mut(2).zip(&addresses.wait_text) {
        pair.copy_from_slice(&[range.start, range.end]);
    }
    let follows = plan.follows();
    let follow = u32::from(follows);
    let followed = if follows { MAX_FOLLOWED } else { 1 };
    let pid = match settings.scope {
        Scope::Process(pid) if !follows => pid,
        _ => 0,
    };
    let namespace = settings.pid_namespace.unwrap_or(0);
    let comm = settings.comm.map_or([0; 2], |comm| {
        let (words, _) = comm.as_chunks::<8>();
        [u64::from_ne_bytes(words[0]), u64::from_ne_bytes(words[1])]
    });
    let only_cgroup = u32::from(settings.cgroup.is_some());
    let only_devices = u32::from(settings.only_devices);
    let harmless = u32::from(settings.harmless);
    let label_cgroup = u32::from(settings.label_cgroup);
    let sampled_tables = 1 << AT_SWITCH | u32::from(!settings.stacks) << AT_BEGIN;
    let returns = u32::from(plan.probes_returns());
    let probed_twice = u32::from(plan.probes_requests_twice());
    let page_shift = rustix::param::page_size().trailing_zeros();
    let offsets = Offsets { page_shift, ..plan.offsets };
    let [page_offset_base, vmemmap_base] = addresses.memory;
    let copies = settings.takes_evidence && page_offset_base != 0 && vmemmap_base != 0;
    let take_evidence = u32::from(copies);
    let evidence_bytes = if copies { EVIDENCE_BYTES } else { 4096 };
    let wake_at = u64::from(settings.ring_bytes / 4);
    // Shortens the lifetime: the globals are borrowed from this function.
    let mut loader: EbpfLoader<'_> = loader;
    loader
        .map_max_entries("EVENTS", settings.ring_bytes)
        .override_global("MIN_LATENCY_NS", &settings.min_latency_ns, true)
        .map_max_entries("FOLLOWED", followed)
        .map_max_entries("SEEDS", followed)
        .override_global("FOLLOW", &follow, true)
        .override_global("PIDNS_INUM", &namespace, true)
        .override_global("ONLY_PID", &pid, true)
        .override_global("ONLY_COMM", &comm, true)
        .override_global("ONLY_CGROUP", &only_cgroup, true)
        .override_global("ONLY_DEVICES", &only_devices, true)
        .override_global("STREAM_HARMLESS", &harmless, true)
        .override_global("LABEL_CGROUP", &label_cgroup, true)
        .override_global("SAMPLED_TABLES", &sampled_tables, true)
        .override_global("RETURNS_PROBED", &returns, true)
        .override_global("PROBED_TWICE", &probed_twice, true)
        .override_global("WAKE_AT_BYTES", &wake_at, true)
        .override_global("SWAP_INFO", &addresses.swap_info, true)
        .override_global("WAKE_PAGE_FUNCTION", &addresses.wake_page, true)
        .override_global("PAGE_OFFSET_BASE", &page_offset_base, true)
        .override_global("VMEMMAP_BASE", &vmemmap_base, true)
        .override_global("TAKE_EVIDENCE", &take_evidence, true)
        .map_max_entries("EVIDENCE", evidence_bytes)
        .override_global("OFFSETS", &offsets, true)
        .override_global("WAIT_TEXT", &text, true);
    if let Some(record) = &record {
        loader
            .override_global("WAIT_NAME_AT", &record.name_at, true)
            .override_global("WAIT_INO_AT", &record.ino_at, true)
            .override_global("WAIT_INDEX_AT", &record.index_at, true);
    }
    loader.load(OBJECT)
}
