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
use stable_trace_common::counter::Counter;

use super::{narrate::Narrator, stream::Stream};
use crate::{
    event::{Method, Probe},
    kernel::{
        btf::{self, Btf},
        memlock, modules,
        mounts::{Mounts, MountsError},
        symbols::{Symbols, SymbolsError},
        tracefs::{TracefsError, with_tracefs},
    },
    metrics::collect::Collector,
    probes::{
        attach::{AttachError, Attached, attach},
        facts::{Facts, wait_text},
        load::{Settings, loader},
        plan::plan,
    },
    stream::{
        decode::Record,
        identity::{Dev, Identities},
        paths::Paths,
        ring::Ring,
        stacks::Stacks,
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
pub struct Wishes {
    /// What the programs are told.
    pub settings: Settings,
    /// `--attach`.
    pub method: Option<Method>,
    /// `--device`, as disks.
    pub disks: Vec<Dev>,
    /// `--stacks`.
    pub stacks: bool,
    /// `--btf`: where the kernel's types are read instead of from the kernel.
    pub btf: Option<PathBuf>,
}

/// A run that is attached.
pub struct Tracer {
    pub(super) attached: Attached,
    pub(super) ring: Ring,
    pub(super) collector: Collector,
    pub(super) narrator: Narrator,
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
    pub fn attach(wishes: &Wishes) -> Result<Self, TracerError> {
        let loader = loader();
        let modules = modules::fingerprint();
        let symbols = Symbols::load()?;
        let wait_text = wait_text(&symbols);
        let mut attached = with_tracefs(|tracefs| {
            let facts = gather(tracefs, &symbols, wishes.btf.as_deref());
            let plan = plan(&facts, wishes.method);
            attach(loader, plan, &wait_text, &wishes.settings, tracefs)
        })??;
        let logger = EbpfLogger::init(&mut attached.ebpf)
            .inspect_err(|error| log::debug!("the programs' own messages are not shown: {error}"))
            .ok();
        let ebpf = &mut attached.ebpf;
        Ok(Self {
            ring: Ring::new(RingBuf::try_from(map(ebpf, "EVENTS")?)?).map_err(TracerError::Ring)?,
            collector: Collector::new(
                map(ebpf, "HISTOGRAMS")?.try_into()?,
                map(ebpf, "COUNTERS")?.try_into()?,
                map(ebpf, "WAITERS")?.try_into()?,
                map(ebpf, "UNSTABLE_WRITES")?.try_into()?,
                map(ebpf, "PROCESS_STALLS")?.try_into()?,
                map(ebpf, "INTEGRITY_ERRORS")?.try_into()?,
            )?,
            narrator: Narrator {
                stacks: Stacks::new(symbols, map(ebpf, "STACKS")?.try_into()?),
                identities: Identities::new(
                    Mounts::load()?,
                    wishes.disks.clone(),
                    map(ebpf, "DEVICE_FILTER")?.try_into()?,
                    map(ebpf, "CHECKED_DEVICES")?.try_into()?,
                ),
                paths: Paths::new(Path::new("/proc")),
                show_stacks: wishes.stacks,
            },
            logger,
            min_latency_ns: wishes.settings.min_latency_ns,
            filtered: wishes.settings.filters_tasks(),
            ring_bytes: u64::from(wishes.settings.ring_bytes),
            since: Instant::now(),
            method: wishes.method,
            btf: wishes.btf.clone(),
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
    pub fn drain(&mut self, stream: &mut Stream) -> io::Result<bool> {
        let Self { ring, narrator, malformed, .. } = self;
        let mut outcome = Ok(());
        let more = ring.drain(|record| match record {
            Ok(record) => {
                let told = match &record {
                    Record::Stall(record) => (record.end_ns, narrator.stall(record)),
                    Record::Unstable(record) => (record.time_ns, narrator.unstable_write(record)),
                    Record::Integrity(record) => (record.time_ns, narrator.integrity(record)),
                };
                if let (time_ns, Some(event)) = told
                    && outcome.is_ok()
                {
                    outcome = stream.at(time_ns, event);
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
    pub fn tick(&mut self, stream: &mut Stream) -> io::Result<()> {
        self.narrator.identities.follow_mounts();
        self.follow_modules();
        self.report(stream)
    }

    /// Passes on the programs' own messages, and says what was lost.
    ///
    /// # Errors
    /// What the writer says.
    pub(super) fn report(&mut self, stream: &mut Stream) -> io::Result<()> {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        match self.lost() {
            Ok(lost) => stream.lost(lost),
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
        let lost = self.collector.counter(Counter::Lost)?;
        Ok(lost + self.collector.counter(Counter::IntegrityLost)?)
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
        self.narrator.identities.follow_devices();
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
            self.attached.follow(&facts, self.method, tracefs);
        });
        if let Err(error) = followed {
            log::warn!("the probes of new modules are missing: {error}");
        }
        self.narrator.stacks.renew(symbols, now);
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
