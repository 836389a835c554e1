//! Verdicts: what caused an integrity failure.

use serde::{Deserialize, Serialize};

/// What caused an integrity failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A page of the page cache changed while it was on its way to the device.
    PageRewrittenInFlight,
    /// A buffer of direct I/O: only the application that owns it could have kept it as it was.
    DirectIoBuffer,
    /// Pages were stable and nobody rewrote them: the path or the medium is suspect.
    NoRewriteSeen,
    /// What would tell was lost, or could not be observed.
    Unknown,
}

impl Cause {
    /// Every cause, in the order of reports.
    pub const ALL: [Self; 4] =
        [Self::PageRewrittenInFlight, Self::DirectIoBuffer, Self::NoRewriteSeen, Self::Unknown];

    /// The name that the contract gives it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PageRewrittenInFlight => "page_rewritten_in_flight",
            Self::DirectIoBuffer => "direct_io_buffer",
            Self::NoRewriteSeen => "no_rewrite_seen",
            Self::Unknown => "unknown",
        }
    }
}

/// What caused one integrity failure, how sure that is, and what it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// `seq` of the failure.
    pub integrity_seq: u64,
    /// The device that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// What caused it.
    pub cause: Cause,
    /// From 0 to 1.
    pub confidence: f64,
    /// `seq`s of the events it rests on.
    pub evidence: Vec<u64>,
    /// Stalls on one of its pages within the window.
    pub stalls_same_page: u64,
    /// Stalls on its file within the window.
    pub stalls_same_file: u64,
    /// Stalls on its device within the window.
    pub stalls_same_device: u64,
    /// One sentence for a person.
    pub explanation: String,
}
