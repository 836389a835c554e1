//! What a run did not see, and what its outputs lack.

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

/// Where a run writes its lines.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Output {
    /// Standard output.
    Stdout,
    /// `--output`.
    File,
    /// `--record`.
    Recording,
}

impl Output {
    /// Every output.
    pub const ALL: [Self; 3] = [Self::Stdout, Self::File, Self::Recording];
}

/// Events that the ring buffer dropped because it was full, writes that may not have been seen, or lines that an
/// output lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Number of events dropped since the last such line; with `output`, of lines that it lacks.
    pub count: u64,
    /// `seq` of the last line before the loss was detected.
    pub since_seq: u64,
    /// All of them were dropped at most this many ns before the time of this line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ns: Option<u64>,
    /// Writes to pages under writeback that may not have been seen since the last such line: runs of their probes that
    /// the kernel skipped, and pages that a probe did not look at.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unseen: u64,
    /// The output that lacks the lines. It did not take them in time, or could not be written. The run has seen them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
    /// Whether the output takes no more lines because writing to it failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

impl Lost {
    /// The events that the run itself has not seen.
    pub const fn events(&self) -> u64 {
        if self.output.is_none() { self.count } else { 0 }
    }

    /// Whether a recording ends here because it could not be written any further.
    pub const fn cuts_recording(&self) -> bool {
        self.ended && matches!(self.output, Some(Output::Recording))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_an_output_lacks_are_no_lost_events() {
        let lost = Lost { count: 3, ..Lost::default() };
        assert_eq!(lost.events(), 3);
        let lost = Lost { output: Some(Output::Recording), ended: true, ..lost };
        assert_eq!(lost.events(), 0);
        assert!(lost.cuts_recording());
        let json = serde_json::json!({
            "count": 3, "since_seq": 0, "output": "recording", "ended": true
        });
        assert_eq!(serde_json::to_value(lost).unwrap(), json);
        for output in Output::ALL {
            assert_eq!(serde_json::to_value(output).unwrap(), output.name());
        }
    }
}
