//! Verdicts: the cause of an integrity error.

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use super::Proof;

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
    /// User space supplied protection information that does not match its data.
    ApplicationTuple,
    /// The deciding events were lost or could not be observed.
    Unknown,
}

impl Cause {
    /// Every cause, in the order of reports.
    pub const ALL: [Self; 5] = [
        Self::PageRewrittenInFlight,
        Self::DirectIoBuffer,
        Self::NoRewriteSeen,
        Self::ApplicationTuple,
        Self::Unknown,
    ];
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
    /// What was computed from data and protection information; absent where they were not copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
}

impl Verdict {
    /// Whether `other` has the same cause, confidence and evidence. The wording of the explanation
    /// may differ: it is not the same in all versions.
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        let Self {
            integrity_seq,
            device,
            cause,
            confidence,
            evidence,
            stalls_same_page,
            stalls_same_file,
            stalls_same_device,
            explanation: _,
            proof,
        } = self;
        *integrity_seq == other.integrity_seq
            && *device == other.device
            && *cause == other.cause
            && confidence.to_bits() == other.confidence.to_bits()
            && *evidence == other.evidence
            && *stalls_same_page == other.stalls_same_page
            && *stalls_same_file == other.stalls_same_file
            && *stalls_same_device == other.stalls_same_device
            && *proof == other.proof
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_agree_whatever_the_wording() {
        let verdict = Verdict {
            integrity_seq: 7,
            device: Some("sda".to_owned()),
            cause: Cause::Unknown,
            confidence: 0.2,
            evidence: vec![7],
            stalls_same_page: 0,
            stalls_same_file: 1,
            stalls_same_device: 2,
            explanation: "one".to_owned(),
            proof: None,
        };
        let reworded = Verdict { explanation: "two".to_owned(), ..verdict.clone() };
        assert!(verdict.agrees_with(&reworded));
        let other = Verdict { cause: Cause::NoRewriteSeen, ..verdict.clone() };
        assert!(!verdict.agrees_with(&other));
        let other = Verdict { evidence: vec![7, 8], ..verdict.clone() };
        assert!(!verdict.agrees_with(&other));
    }
}
