//! The attached programs and everything that makes sense of what they say.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    maps::{MapError, RingBuf},
};
use aya_log::EbpfLogger;
use stable_trace_analysis::{
    event::{Method, Probe},
    units::{DeviceId, MonotonicTime},
};
use stable_trace_common::counter::Counter;

use super::emitter::Emitter;
use crate::{
    collect::{maps::CounterMaps, ring::Ring, stacks::StackMap},
    enrich::{
        Enricher,
        decode::{Record, decode},
        identity::Identities,
        paths::Paths,
        stacks::Stacks,
    },
    kernel::{
        btf::{self, Btf},
        memlock, modules,
        mounts::{Mounts, MountsError},
        symbols::{Symbols, SymbolsError},
        tracefs::{TracefsError, with_tracefs},
    },
    probes::{
        attach::{AttachError, Attached, attach},
        facts::{Facts, wait_text},
        load::{Settings, loader},
        plan::plan,
    },
};

/// Why a run cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum TracerError {
    /// The kernel's symbols cannot be read.
    #[error(transparent)]
    Symbols(#[from] SymbolsError),
    /// There is no tracefs.
    #[error(transparent)]
    Tracefs(#[from] TracefsError),
    /// The mounts cannot be read.
    #[error(transparent)]
    Mounts(#[from] MountsError),
    /// Nothing attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// A map cannot be read or written.
    #[error("the kernel refused a map: {0}; please report it")]
    Map(#[from] MapError),
    /// The ring cannot be watched.
    #[error("the ring buffer cannot be watched: {0}")]
    Ring(#[source] io::Error),
}

/// What a run is told beside the programs' settings.
#[derive(Debug)]
pub struct TraceConfig {
    /// What the programs are told.
    pub settings: Settings,
    /// `--attach`.
    pub method: Option<Method>,
    /// `--device`, as disks.
    pub disks: Vec<DeviceId>,
    /// `--stacks`.
    pub stacks: bool,
    /// `--btf`: where the kernel's types are read instead of from the kernel.
    pub btf: Option<PathBuf>,
}

/// A run that is attached.
pub struct Tracer {
    pub(super) attached: Attached,
    pub(super) ring: Ring,
    pub(super) counters: CounterMaps,
    pub(super) enricher: Enricher,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    pub(super) min_latency_ns: u64,
    /// Whether only some waiters and writers are traced.
    pub(super) filtered: bool,
    pub(super) ring_bytes: u64,
    pub(super) since: Instant,
    method: Option<Method>,
    btf: Option<PathBuf>,
    /// The modules that the probes were planned with, and when that was last looked at.
    modules: (u64, Instant),
    /// Records that could not be decoded.
    pub(super) malformed: u64,
}

impl Tracer {
    /// Loads and attaches. Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// [`TracerError`], in one line with what to do.
    pub fn attach(config: &TraceConfig) -> Result<Self, TracerError> {
        let loader = loader();
        let modules = modules::fingerprint();
        let symbols = Symbols::load()?;
        let wait_text = wait_text(&symbols);
        let mut attached = with_tracefs(|tracefs| {
            let facts = gather(tracefs, &symbols, config.btf.as_deref());
            let plan = plan(&facts, config.method);
            attach(loader, plan, &wait_text, &config.settings, tracefs)
        })??;
        let logger = EbpfLogger::init(&mut attached.ebpf)
            .inspect_err(|error| log::debug!("the programs' own messages are not shown: {error}"))
            .ok();
        let ebpf = &mut attached.ebpf;
        Ok(Self {
            ring: Ring::new(RingBuf::try_from(map(ebpf, "EVENTS")?)?).map_err(TracerError::Ring)?,
            counters: CounterMaps::new(
                map(ebpf, "HISTOGRAMS")?.try_into()?,
                map(ebpf, "COUNTERS")?.try_into()?,
                map(ebpf, "WAITERS")?.try_into()?,
                map(ebpf, "UNSTABLE_WRITES")?.try_into()?,
                map(ebpf, "PROCESS_STALLS")?.try_into()?,
                map(ebpf, "INTEGRITY_ERRORS")?.try_into()?,
            )?,
            enricher: Enricher {
                stacks: Stacks::new(symbols, StackMap::new(map(ebpf, "STACKS")?.try_into()?)),
                identities: Identities::new(
                    Mounts::load()?,
                    config.disks.clone(),
                    map(ebpf, "WISHES")?.try_into()?,
                    map(ebpf, "CHECKED_DEVICES")?.try_into()?,
                ),
                paths: Paths::new(Path::new("/proc")),
                show_stacks: config.stacks,
            },
            logger,
            min_latency_ns: config.settings.min_latency_ns,
            filtered: config.settings.filters_tasks(),
            ring_bytes: u64::from(config.settings.ring_bytes),
            since: Instant::now(),
            method: config.method,
            btf: config.btf.clone(),
            modules: (modules, Instant::now()),
            malformed: 0,
            attached,
        })
    }

    /// Every probe of the plan, attached or not.
    #[must_use]
    pub fn probes(&self) -> Vec<Probe> {
        self.attached.probes()
    }

    /// Waits until much is in the ring.
    ///
    /// # Errors
    /// The runtime stopped watching the ring.
    pub async fn readable(&mut self) -> Result<(), TracerError> {
        self.ring.readable().await.map_err(TracerError::Ring)
    }

    /// Streams what is in the ring, at most a batch of it. True if more may be there.
    ///
    /// # Errors
    /// What the writer says.
    pub fn drain(&mut self, emitter: &mut Emitter) -> io::Result<bool> {
        let Self { ring, enricher, malformed, .. } = self;
        let mut outcome = Ok(());
        let more = ring.drain(|bytes| match decode(bytes) {
            Ok(record) => {
                let (time_ns, event) = match &record {
                    Record::Stall(record) => (record.end_ns, enricher.stall(record)),
                    Record::Unstable(record) => (record.time_ns, enricher.unstable_write(record)),
                    Record::Integrity(record) => (record.time_ns, enricher.integrity(record)),
                };
                if let Some(event) = event
                    && outcome.is_ok()
                {
                    outcome = emitter.at(MonotonicTime::from_ns(time_ns), event);
                }
            }
            Err(error) => {
                if *malformed == 0 {
                    log::warn!("{error}; it and others like it are counted and passed over");
                }
                *malformed += 1;
            }
        });
        outcome.map(|()| more)
    }

    /// What is done every so often while programs are attached: mounts, modules, and what
    /// [`report`](Self::report) says.
    ///
    /// # Errors
    /// What the writer says.
    pub fn tick(&mut self, emitter: &mut Emitter) -> io::Result<()> {
        self.enricher.identities.refresh_mounts();
        self.follow_modules();
        self.report(emitter)
    }

    /// Passes on the programs' own messages, and says what was lost.
    ///
    /// # Errors
    /// What the writer says.
    pub(super) fn report(&mut self, emitter: &mut Emitter) -> io::Result<()> {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        match self.lost() {
            Ok(lost) => emitter.lost(lost),
            Err(error) => {
                log::debug!("the count of lost lines cannot be read: {error}");
                Ok(())
            }
        }
    }
}

impl Tracer {
    /// Records that the ring had no room for, of every kind.
    ///
    /// # Errors
    /// The kernel refused to read the map.
    pub(super) fn lost(&self) -> Result<u64, MapError> {
        let lost = self.counters.counter(Counter::Lost)?;
        Ok(lost + self.counters.counter(Counter::IntegrityLost)?)
    }
}

/// How often is looked whether a module was loaded.
const MODULES_EVERY: Duration = Duration::from_secs(1);

impl Tracer {
    /// Gives a module that was loaded since its probes, and looks which block devices there are.
    fn follow_modules(&mut self) {
        let (planned, looked) = self.modules;
        if looked.elapsed() < MODULES_EVERY {
            return;
        }
        self.enricher.identities.refresh_devices();
        let now = modules::fingerprint();
        self.modules = (now, Instant::now());
        if now == planned {
            return;
        }
        let symbols = match Symbols::load() {
            Ok(symbols) => symbols,
            Err(error) => {
                log::warn!("the probes of new modules are missing: {error}");
                return;
            }
        };
        let followed = with_tracefs(|tracefs| {
            let facts = gather(tracefs, &symbols, self.btf.as_deref());
            self.attached.attach_new(&facts, self.method, tracefs);
        });
        if let Err(error) = followed {
            log::warn!("the probes of new modules are missing: {error}");
        }
        self.enricher.stacks.set_symbols(symbols, now);
    }
}

/// The facts of the running kernel; its types from a file, or from itself.
pub fn gather(tracefs: &Path, symbols: &Symbols, btf_file: Option<&Path>) -> Facts {
    // First: from here on programs and maps are made, if only on trial.
    memlock::lift();
    let path = btf_file.unwrap_or(Path::new(btf::VMLINUX));
    let bytes = btf::read(path);
    let types = bytes.as_deref().map_err(ToString::to_string).and_then(|bytes| {
        Btf::parse(bytes).map_err(|error| format!("{}: {error}", path.display()))
    });
    // A module's types go on where those of the running kernel end, and of no other file.
    let module_btf = |module: &str| match btf_file {
        None => btf::read(&btf::module_path(module)).ok(),
        Some(_) => None,
    };
    Facts::gather(tracefs, symbols, &types, module_btf)
}

fn map(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, AttachError> {
    let absent =
        || AttachError::Map { name, source: MapError::InvalidName { name: name.to_owned() } };
    ebpf.take_map(name).ok_or_else(absent)
}
