//! The event stream: what one run says, an object a line.
//!
//! These types are the contract that users script against. A field may be added; one that stands
//! here keeps its name, its unit and its meaning. What could not be known is absent, never invented.

mod association;
mod integrity;
mod stall;
mod start;
mod summary;
mod unstable_write;
mod verdict;
mod workload;
mod workload_errors;

use serde::{Deserialize, Serialize};

pub use association::{Association, Latency};
pub use integrity::{Check, IntegrityError, Operation, Page, PageKind, Source};
pub use stall::{Context, Stall};
pub use start::{Device, Group, Method, Preemption, Probe, Protection, Start};
pub use summary::{IntegritySummary, StallSummary, Summary, UnstableSummary, VerdictSummary};
pub use unstable_write::{Grade, UnstableWrite};
pub use verdict::{Cause, Verdict};
pub use workload::{ModeCount, Workload, WorkloadState};
pub use workload_errors::{ErrorInterval, Failed, WorkloadErrors};

use crate::units::Timestamp;

/// The form of the stream that this version writes, and the newest that it reads. It rises only when
/// something that stands here changes its meaning, never for what is added.
pub const FORMAT: u32 = 1;

/// One line of the stream: an [`Event`] with its place and its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Counts up from 1 within a run, without gaps.
    pub seq: u64,
    /// When it happened; for a stall, when it ended.
    pub time: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Everything a run can say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The first line: where this is, and what is attached.
    Start(Start),
    /// One wait of one task for one folio's writeback.
    Stall(Stall),
    /// A page given to a writer while it was under writeback.
    UnstableWrite(UnstableWrite),
    /// A failed check of protection information.
    Integrity(IntegrityError),
    /// What caused an integrity failure.
    Verdict(Verdict),
    /// What the paired workload does.
    Workload(Workload),
    /// Lines that the ring buffer had no room for.
    Lost(Lost),
    /// The last line: everything counted.
    Summary(Summary),
}

/// Lines that the ring buffer had no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// How many since the last such line.
    pub count: u64,
    /// The last line before the loss was noticed.
    pub since_seq: u64,
    /// How long before this line's time none of them was lost yet, in ns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ns: Option<u64>,
}

impl Event {
    /// The value of `type`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::Stall(_) => "stall",
            Self::UnstableWrite(_) => "unstable_write",
            Self::Integrity(_) => "integrity",
            Self::Verdict(_) => "verdict",
            Self::Workload(_) => "workload",
            Self::Lost(_) => "lost",
            Self::Summary(_) => "summary",
        }
    }
}
