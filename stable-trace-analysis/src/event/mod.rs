//! The schema of the event stream: one JSON object a line.
//!
//! Users script against these types. Fields may be added; an existing field keeps its name, its unit
//! and its meaning. An unknown value is absent.

mod association;
mod integrity;
mod lost;
mod proof;
mod stall;
mod start;
mod summary;
mod unstable_write;
mod verdict;
mod waiting;
mod workload;
mod workload_errors;

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

pub use association::{Association, Latency};
pub use integrity::{Check, IntegrityError, Operation, Page, PageKind, Source};
pub use lost::{Lost, Output};
pub use proof::{Proof, ProofKind};
pub use stall::{Context, PathFrom, Stall};
pub use start::{Device, Group, Method, Preemption, Probe, Protection, Start};
pub use summary::{
    IntegritySummary, StallSummary, Summary, UnstableSummary, VerdictSummary, WaitsFiltered,
};
pub use unstable_write::{Grade, Risk, UnstableWrite};
pub use verdict::{Cause, Verdict};
pub use waiting::{TaskState, Waiting};
pub use workload::{ModeCount, Workload, WorkloadState};
pub use workload_errors::{ErrorInterval, FailedCalls, WorkloadErrors};
pub(crate) use workload_errors::{add_failed, failed_since};

use crate::units::Timestamp;

/// Version of the stream format that this program writes, and the newest that it reads. It
/// increases only if an existing field changes its meaning, not if a field is added.
pub const FORMAT: u32 = 1;

/// One line of the stream: an [`Event`] with its sequence number and its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Sequence number: counts up from 1 within a run, without gaps.
    pub seq: u64,
    /// Time of the event; for a stall, its end.
    pub time: Timestamp,
    /// The same by `CLOCK_MONOTONIC`, in ns, which steps of the wall clock do not change. Absent in recordings of
    /// older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monotonic_ns: Option<u64>,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

impl Line {
    /// The time in ns by the clock that lines are compared by: the monotonic one, or else the wall clock.
    pub const fn instant_ns(&self) -> u64 {
        match self.monotonic_ns {
            Some(ns) => ns,
            None => self.time.unix_ns(),
        }
    }
}

/// An event of the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, IntoStaticStr)]
#[serde(tag = "type", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Event {
    /// The first line: the machine, the probes and the devices.
    Start(Start),
    /// One wait of one task for the writeback of one folio.
    Stall(Stall),
    /// A wait that has lasted long, and has not ended or has just ended.
    Waiting(Waiting),
    /// A page given to a writer while it was under writeback.
    UnstableWrite(UnstableWrite),
    /// A failed check of protection information.
    Integrity(IntegrityError),
    /// The cause of an integrity error.
    Verdict(Verdict),
    /// Progress of the paired workload.
    Workload(Workload),
    /// Events that the ring buffer dropped, or lines that an output lacks.
    Lost(Lost),
    /// The last line: the totals of the run.
    Summary(Summary),
}

impl Event {
    /// The kinds that a summary counts: all but its own.
    pub const COUNTED_KINDS: [&str; 8] =
        ["start", "stall", "waiting", "unstable_write", "integrity", "verdict", "workload", "lost"];

    /// The value of `type`.
    pub fn kind(&self) -> &'static str {
        self.into()
    }
}

/// Gives enums the text form that they have in JSON, for metric labels and text output.
macro_rules! impl_name {
    ($($name:ident),+) => {$(
        impl $name {
            /// The text form, as in JSON.
            pub fn name(self) -> &'static str {
                self.into()
            }
        }
    )+};
}

impl_name!(
    Cause, Check, Context, Grade, Group, Method, Operation, Output, ProofKind, Source, TaskState
);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn same(json: &impl Serialize, name: &str) {
        assert_eq!(serde_json::to_value(json).unwrap(), name);
    }

    #[test]
    fn the_name_of_a_value_is_its_json_form() {
        for context in Context::ALL {
            same(&context, context.name());
        }
        for cause in Cause::ALL {
            same(&cause, cause.name());
        }
        same(&Check::ReferenceTag, Check::ReferenceTag.name());
        same(&Grade::Violation, Grade::Violation.name());
        same(&Group::WritebackWait, Group::WritebackWait.name());
        same(&Method::Tracepoint, Method::Tracepoint.name());
        same(&Operation::Read, Operation::Read.name());
        same(&Source::Nvme, Source::Nvme.name());
        let event = Event::Lost(Lost { count: 1, since_seq: 1, ..Lost::default() });
        assert_eq!(serde_json::to_value(&event).unwrap()["type"], event.kind());
    }
}
