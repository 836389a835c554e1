//! The attached probes, the maps that they fill, and the enrichment of what they report.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use aya::maps::{MapError, RingBuf};
use aya_log::EbpfLogger;
use stable_trace_analysis::{
    error_chain::ErrorChain,
    event::{Method, Probe},
    units::DeviceId,
};
use stable_trace_common::counter::Counter;

use super::{
    emitter::Emitter,
    error::TracerError,
    evidence_files::EvidenceFiles,
    filter,
    follow::Seeds,
    long_waits::LongWaits,
    reader::Reader,
    setup::{enricher, gather, map},
};
use crate::{
    collect::{evidence::EvidenceRing, map_memory::map_bytes, maps::CounterMaps, ring::Ring},
    enrich::Enricher,
    kernel::{modules, mounts::Refresh, symbols::Symbols, tracefs::with_tracefs},
    probes::{
        attach::attach,
        attached::Attached,
        facts::{Facts, addresses},
        load::{Scope, Settings, loader},
        plan::{Plan, plan},
    },
};

/// How often the list of loaded modules is checked.
const MODULES_INTERVAL: Duration = Duration::from_secs(1);

/// How often old keys are removed from the maps. Only keys that have not changed for so long are removed.
const ROOM_INTERVAL: Duration = Duration::from_secs(10);

/// How often writes that may not have been seen are looked for: more often than a verdict waits
/// ([`stable_trace_analysis::correlate::verdict`]).
const UNSEEN_INTERVAL: Duration = Duration::from_millis(500);

/// How often lost records are looked for. Not at each turn of the event loop: while a task is preempted in a system call
/// that reads a map, the kernel runs no program of a kprobe or classic tracepoint on its CPU
/// (`bpf_disable_instrumentation`, include/linux/bpf.h, and `trace_call_bpf`, `kernel/trace/bpf_trace.c`, 5.10 to 7.3).
const LOSSES_INTERVAL: Duration = Duration::from_millis(200);

/// What to attach and what to trace.
#[derive(Debug)]
pub(crate) struct TraceConfig {
    /// Settings of the eBPF programs.
    pub(crate) settings: Settings,
    /// `--attach`: the only method to use; `None` for any.
    pub(crate) method: Option<Method>,
    /// `--device`.
    pub(crate) devices: Vec<DeviceId>,
    /// `--btf`: the file to read the kernel's types from.
    pub(crate) btf: Option<PathBuf>,
    /// `--keep-evidence`.
    pub(crate) evidence: Option<EvidenceFiles>,
    /// `--stuck-after`.
    pub(crate) stuck_after: Duration,
}

/// The attached probes, and the state of the run.
pub(crate) struct Tracer {
    pub(super) attached: Attached,
    /// Kernel memory of each map.
    pub(super) map_bytes: BTreeMap<String, u64>,
    pub(super) ring: Ring,
    evidence: EvidenceRing,
    evidence_files: Option<EvidenceFiles>,
    pub(super) counters: CounterMaps,
    pub(super) enricher: Enricher,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    pub(super) min_latency_ns: u64,
    pub(super) long_waits: LongWaits,
    /// `--label cgroup`.
    pub(super) label_cgroup: bool,
    /// The processes that the programs follow; `None` if they follow none.
    seeds: Option<Seeds>,
    /// Which stalls the filters select; `None` for all.
    pub(super) scope: Option<String>,
    pub(super) ring_bytes: u64,
    pub(super) attached_at: Instant,
    method: Option<Method>,
    btf: Option<PathBuf>,
    /// Fingerprint of the loaded modules that the probes were planned with.
    modules: u64,
    modules_checked_at: Instant,
    room_made_at: Instant,
    losses_checked_at: Instant,
    unseen_checked_at: Instant,
    /// Events that were taken from the ring.
    pub(super) received: u64,
    /// Records that could not be decoded.
    pub(super) malformed: u64,
}

impl Tracer {
    /// Loads and attaches the programs. Needs a tokio runtime with I/O.
    pub(crate) fn attach(config: TraceConfig) -> Result<Self, TracerError> {
        let loader = loader();
        let modules = modules::fingerprint();
        let symbols = Symbols::load()?;
        let addresses = addresses(&symbols);
        let mut attached = with_tracefs(|tracefs| {
            let facts = gather(tracefs, &symbols, config.btf.as_deref());
            let mut plan = plan(&facts, config.method);
            plan_following(&mut plan, &facts, &config.settings)?;
            Ok::<_, TracerError>(attach(
                loader,
                plan,
                &facts,
                &addresses,
                &config.settings,
                tracefs,
            )?)
        })??;
        if let Err(error) = symbols.check_addresses() {
            log::warn!("the context of every stall is `other`: {error}");
        }
        let seeds = seeds(&mut attached, &config.settings)?;
        let scope = filter::describe(&config.settings, attached.follows(), &config.devices);
        let logger = EbpfLogger::init(&mut attached.ebpf)
            .inspect_err(|error| {
                log::debug!(
                    "log messages of the eBPF programs are not shown: {}",
                    ErrorChain(error)
                );
            })
            .ok();
        // Before they are taken out of it.
        let map_bytes = map_bytes(&attached.ebpf);
        let ebpf = &mut attached.ebpf;
        Ok(Self {
            map_bytes,
            ring: Ring::new(RingBuf::try_from(map(ebpf, "EVENTS")?)?).map_err(TracerError::Ring)?,
            evidence_files: config.evidence,
            evidence: EvidenceRing::new(RingBuf::try_from(map(ebpf, "EVIDENCE")?)?),
            counters: CounterMaps::new(
                map(ebpf, "HISTOGRAMS")?.try_into()?,
                map(ebpf, "COUNTERS")?.try_into()?,
                map(ebpf, "WAITERS")?.try_into()?,
                map(ebpf, "UNSTABLE_WRITES")?.try_into()?,
                map(ebpf, "PROCESS_STALLS")?.try_into()?,
                map(ebpf, "INTEGRITY_ERRORS")?.try_into()?,
            )?,
            enricher: enricher(ebpf, symbols, config.devices, config.settings.stacks)?,
            logger,
            min_latency_ns: config.settings.min_latency_ns,
            long_waits: LongWaits::new(config.stuck_after),
            label_cgroup: config.settings.label_cgroup,
            seeds,
            scope,
            ring_bytes: u64::from(config.settings.ring_bytes),
            attached_at: Instant::now(),
            method: config.method,
            btf: config.btf,
            modules,
            modules_checked_at: Instant::now(),
            room_made_at: Instant::now(),
            losses_checked_at: Instant::now(),
            unseen_checked_at: Instant::now(),
            received: 0,
            malformed: 0,
            attached,
        })
    }

    /// Follows the processes that this process creates while `create` runs, if it follows any.
    pub(super) fn follow_children<T>(&mut self, create: impl FnOnce() -> T) -> Result<T, MapError> {
        match &mut self.seeds {
            Some(seeds) => seeds.add_children(create),
            None => Ok(create()),
        }
    }

    /// Every probe of the plan, attached or not.
    pub(crate) fn probes(&self) -> Vec<Probe> {
        self.attached.probes()
    }

    /// Waits until the kernel reports that the ring fills up.
    pub(crate) async fn readable(&mut self) -> Result<(), TracerError> {
        self.ring.readable().await.map_err(TracerError::Ring)
    }

    /// Whether the records can be left in the ring for a while: it has room for more, and none of them is a failure
    /// whose evidence might have to make room.
    pub(super) fn can_leave_records(&self) -> bool {
        let has_room = |unread: u64| unread < self.ring_bytes / 2;
        !self.evidence.is_pending() && self.ring.unread_bytes().is_some_and(has_room)
    }

    /// Streams at most one batch of records from the ring. Returns whether more may be there.
    pub(crate) fn drain(&mut self, emitter: &mut Emitter) -> bool {
        let (ring, mut reader) = self.split();
        ring.drain(|bytes| reader.receive(bytes, emitter))
    }

    /// Streams a record that does not come from the ring.
    #[cfg(test)]
    pub(super) fn receive(&mut self, bytes: bytes::Bytes, emitter: &mut Emitter) {
        self.split().1.receive(bytes, emitter);
    }

    /// The ring, and what its records need.
    fn split(&mut self) -> (&mut Ring, Reader<'_>) {
        let Self { ring, evidence, evidence_files, enricher, received, malformed, .. } = self;
        (ring, Reader { evidence, evidence_files, enricher, received, malformed })
    }

    /// Does the periodic work of an attached run: follows mounts, devices and modules, and reports
    /// losses.
    pub(crate) fn tick(&mut self, emitter: &mut Emitter) {
        self.enricher.identities.refresh_mounts(Refresh::Periodic);
        // What no record asks for must not fill the ring.
        self.evidence.read();
        self.follow_modules();
        self.make_room();
        if self.losses_checked_at.elapsed() >= LOSSES_INTERVAL {
            self.losses_checked_at = Instant::now();
            self.report_losses(emitter);
        }
        self.report_long_waits(emitter);
        emitter.emit_output_losses(false);
        if self.unseen_checked_at.elapsed() >= UNSEEN_INTERVAL {
            self.report_unseen_writes(emitter);
        }
    }

    /// Writes a `lost` line for writes that may not have been seen, if a verdict may rest on them.
    pub(super) fn report_unseen_writes(&mut self, emitter: &mut Emitter) {
        self.unseen_checked_at = Instant::now();
        if !self.enricher.identities.has_checked_devices() {
            return;
        }
        match self.counters.counter(Counter::PagesUnchecked) {
            Ok(pages) => emitter.emit_unseen(pages + self.attached.missed_writes()),
            Err(error) => {
                log::debug!("cannot read the count of unchecked pages: {}", ErrorChain(&error));
            }
        }
    }

    /// Removes what is gone from the kernel's maps before they are full.
    fn make_room(&mut self) {
        if self.room_made_at.elapsed() < ROOM_INTERVAL {
            return;
        }
        self.room_made_at = Instant::now();
        let identities = &self.enricher.identities;
        if let Err(error) = self.counters.make_room(|backing| identities.is_gone(backing)) {
            log::debug!("cannot remove old keys from the maps: {}", ErrorChain(&error));
        }
    }

    /// Writes a `lost` line for records that were dropped, and shows the log messages of the
    /// programs.
    pub(super) fn report_losses(&mut self, emitter: &mut Emitter) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        match self.lost() {
            Ok(lost) => emitter.emit_lost(lost),
            Err(error) => {
                log::debug!("cannot read the count of lost records: {}", ErrorChain(&error));
            }
        }
    }

    /// Records of every kind that the full ring dropped.
    pub(super) fn lost(&self) -> Result<u64, MapError> {
        let lost = self.counters.counter(Counter::Lost)?;
        Ok(lost + self.counters.counter(Counter::IntegrityLost)?)
    }

    /// Integrity failures whose evidence was not taken, or made room before it was read.
    pub(super) fn evidence_skipped(&self) -> Result<u64, MapError> {
        Ok(self.counters.counter(Counter::EvidenceSkipped)? + self.evidence.dropped())
    }

    /// Attaches the probes of modules that were loaded meanwhile, and updates the list of devices.
    fn follow_modules(&mut self) {
        if self.modules_checked_at.elapsed() < MODULES_INTERVAL {
            return;
        }
        self.modules_checked_at = Instant::now();
        self.enricher.identities.refresh_devices();
        let modules = modules::fingerprint();
        let changed = modules != std::mem::replace(&mut self.modules, modules);
        // A module that was loaded again may have its old address.
        if !changed && !self.attached.lost_a_module() {
            return;
        }
        let symbols = match Symbols::load() {
            Ok(symbols) => symbols,
            Err(error) => {
                log::warn!("cannot attach the probes of new modules: {}", ErrorChain(&error));
                return;
            }
        };
        let followed = with_tracefs(|tracefs| {
            let facts = gather(tracefs, &symbols, self.btf.as_deref());
            self.attached.follow_modules(&facts, self.method, tracefs);
        });
        if let Err(error) = followed {
            log::warn!("cannot attach the probes of new modules: {}", ErrorChain(&error));
        }
        self.enricher.stacks.set_symbols(symbols, modules);
    }
}

/// Plans to follow the processes of the scope. If that is not possible, warns or fails.
fn plan_following(plan: &mut Plan, facts: &Facts, settings: &Settings) -> Result<(), TracerError> {
    if settings.scope == Scope::Everybody {
        return Ok(());
    }
    let nested = settings.pid_namespace.is_some();
    match (plan.follow(facts, nested), settings.scope) {
        (Ok(()), _) | (_, Scope::Everybody) => {}
        (Err(reason), Scope::Process(pid)) if nested => {
            return Err(TracerError::PidNamespace { pid, reason });
        }
        (Err(reason), Scope::Process(pid)) => {
            log::warn!("--pid {pid}: its descendants are not followed: {reason}");
        }
        (Err(reason), Scope::Command) => {
            log::warn!("stalls of all processes are counted, as with --all: {reason}");
        }
    }
    Ok(())
}

/// Names the process of `--pid` to the attached programs.
fn seeds(attached: &mut Attached, settings: &Settings) -> Result<Option<Seeds>, TracerError> {
    if !attached.follows() {
        return Ok(None);
    }
    let mut seeds = Seeds::new(map(&mut attached.ebpf, "SEEDS")?.try_into()?);
    if let Scope::Process(pid) = settings.scope {
        seeds.add_tree(pid)?;
    }
    Ok(Some(seeds))
}
