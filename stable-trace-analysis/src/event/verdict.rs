//! Verdicts: the cause of an integrity error.

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

/// The cause of an integrity error.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Cause {
    /// A page of the page cache changed while it was written to the device.
    PageRewrittenInFlight,
    /// The data was in a direct I/O buffer: only the application can keep it unchanged.
    DirectIoBuffer,
    /// No page was rewritten: the path or the medium is suspect.
    NoRewriteSeen,
    /// The deciding events were lost or could not be observed.
    Unknown,
}

impl Cause {
    /// Every cause, in the order of reports.
    pub const ALL: [Self; 4] =
        [Self::PageRewrittenInFlight, Self::DirectIoBuffer, Self::NoRewriteSeen, Self::Unknown];
}

/// The cause of one integrity error, with its confidence and its evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// `seq` of the integrity error.
    pub integrity_seq: u64,
    /// The device that reported the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The cause.
    pub cause: Cause,
    /// From 0 to 1.
    pub confidence: f64,
    /// `seq`s of the events that the verdict rests on.
    pub evidence: Vec<u64>,
    /// Stalls on the pages of the error within the window.
    pub stalls_same_page: u64,
    /// Stalls on the files of these pages within the window.
    pub stalls_same_file: u64,
    /// Stalls on the disks of the error and of these files within the window.
    pub stalls_same_device: u64,
    /// The reason in one sentence.
    pub explanation: String,
}
