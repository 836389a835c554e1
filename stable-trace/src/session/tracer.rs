//! The attached programs and everything that makes sense of what they say.

use std::{io, time::Instant};

use aya::{
    Ebpf,
    maps::{MapError, RingBuf},
};
use aya_log::EbpfLogger;
use stable_trace_common::{counter::Counter, record::StallRecord};

use super::stream::Stream;
use crate::{
    event::{Event, Method, Probe, Stall},
    kernel::{
        mounts::{Mounts, MountsError},
        symbols::{Symbols, SymbolsError},
        tracefs::{TracefsError, with_tracefs},
    },
    metrics::collect::Collector,
    probes::{
        attach::{AttachError, Attached, Settings, attach, loader},
        facts::Facts,
        plan::plan,
    },
    stream::{
        decode::{Record, name},
        identity::{Dev, Identities},
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
}

/// A run that is attached.
pub struct Tracer {
    pub(super) attached: Attached,
    ring: Ring,
    pub(super) collector: Collector,
    pub(super) stacks: Stacks,
    pub(super) identities: Identities,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    /// The wait tracepoint: what a stall is named by if its stack names nothing.
    pub(super) wait_function: String,
    pub(super) show_stacks: bool,
    pub(super) min_latency_ns: u64,
    pub(super) since: Instant,
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
        let symbols = Symbols::load()?;
        let mut attached = with_tracefs(|tracefs| {
            let facts = Facts::gather(tracefs, &symbols);
            let plan = plan(&facts, wishes.method);
            attach(loader, &facts, &plan, &wishes.settings)
        })??;
        let wait_function = attached
            .probes
            .iter()
            .find(|probe| probe.attached && probe.function.starts_with("writeback:"))
            .map_or_else(|| "writeback".to_owned(), |probe| probe.function.clone());
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
            )?,
            stacks: Stacks::new(symbols, map(ebpf, "STACKS")?.try_into()?),
            identities: Identities::new(
                Mounts::load()?,
                wishes.disks.clone(),
                map(ebpf, "WISHES")?.try_into()?,
            ),
            logger,
            wait_function,
            show_stacks: wishes.stacks,
            min_latency_ns: wishes.settings.min_latency_ns,
            since: Instant::now(),
            malformed: 0,
            attached,
        })
    }

    /// Every probe of the plan, attached or not.
    #[must_use]
    pub fn probes(&self) -> Vec<Probe> {
        self.attached.probes.clone()
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
        let Self { ring, stacks, identities, show_stacks, wait_function, malformed, .. } = self;
        let mut outcome = Ok(());
        let more = ring.drain(|record| match record {
            Ok(Record::Stall(record)) => {
                if outcome.is_ok() {
                    let end_ns = record.end_ns;
                    if let Some(stall) =
                        tell(&record, stacks, identities, *show_stacks, wait_function)
                    {
                        outcome = stream.at(end_ns, Event::Stall(stall));
                    }
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

    /// What is done every so often: loss, mounts, messages of the programs.
    ///
    /// # Errors
    /// What the writer says.
    pub fn tick(&mut self, stream: &mut Stream) -> io::Result<()> {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        self.identities.follow_mounts();
        match self.collector.counter(Counter::Lost) {
            Ok(lost) => stream.lost(lost),
            Err(error) => {
                log::debug!("the count of lost lines cannot be read: {error}");
                Ok(())
            }
        }
    }
}

/// Turns a record into a stall; nothing if the user did not ask for its device.
pub(super) fn tell(
    record: &StallRecord,
    stacks: &mut Stacks,
    identities: &mut Identities,
    show_stacks: bool,
    wait_function: &str,
) -> Option<Stall> {
    let identity = identities.get(&record.bdi);
    if !identity.wanted {
        return None;
    }
    let known = stacks.get(record.stack);
    let backing = identity.backing.as_ref();
    Some(Stall {
        context: known.meaning.context,
        function: known.meaning.function.clone().unwrap_or_else(|| wait_function.to_owned()),
        duration_ns: record.duration_ns,
        pid: record.pid,
        tid: record.tid,
        comm: name(&record.comm),
        cgroup_id: record.cgroup_id,
        device: backing.map(|backing| backing.device.clone()),
        dev: backing.map(|backing| backing.dev.clone()),
        fs: backing.and_then(|backing| backing.fs.clone()),
        ino: record.ino,
        index: record.index,
        path: None,
        stack: (show_stacks && !known.frames.is_empty()).then(|| known.frames.clone()),
    })
}

fn map(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, AttachError> {
    let absent =
        || AttachError::Map { name, source: MapError::InvalidName { name: name.to_owned() } };
    ebpf.take_map(name).ok_or_else(absent)
}
