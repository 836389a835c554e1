//! Verdicts by device and cause, and proofs by device and kind.

use std::collections::BTreeMap;

use crate::event::{Cause, ProofKind, Verdict, VerdictSummary};

/// Maximum number of devices counted by name; verdicts on further devices count without a device.
/// No kernel has that many devices: the limit bounds the memory that a recording can take.
const MAX_DEVICES: usize = 1024;

/// Number of verdicts by device and cause, and of proofs by device and kind.
#[derive(Clone, Debug, Default)]
pub struct VerdictTally {
    devices: BTreeMap<Option<String>, Counts>,
}

/// Counts of one device.
#[derive(Clone, Debug, Default)]
struct Counts {
    causes: [u64; Cause::ALL.len()],
    proofs: [u64; ProofKind::ALL.len()],
}

impl VerdictTally {
    /// Counts a verdict.
    pub fn add(&mut self, verdict: &Verdict) {
        let known = self.devices.contains_key(&verdict.device);
        let device =
            if known || self.devices.len() < MAX_DEVICES { verdict.device.clone() } else { None };
        let counts = self.devices.entry(device).or_default();
        for (cause, count) in Cause::ALL.iter().zip(&mut counts.causes) {
            *count += u64::from(*cause == verdict.cause);
        }
        let kind = verdict.proof.as_ref().map(|proof| proof.kind);
        for (of, count) in ProofKind::ALL.iter().zip(&mut counts.proofs) {
            *count += u64::from(Some(*of) == kind);
        }
    }

    /// The count of every cause for each device, in the order of reports, including zero counts.
    pub fn counts(&self) -> impl Iterator<Item = (Option<&str>, Cause, u64)> {
        self.devices.iter().flat_map(|(device, counts)| {
            Cause::ALL
                .into_iter()
                .zip(&counts.causes)
                .map(move |(cause, count)| (device.as_deref(), cause, *count))
        })
    }

    /// The count of every kind of proof for each device, including zero counts.
    pub fn proofs(&self) -> impl Iterator<Item = (Option<&str>, ProofKind, u64)> {
        self.devices.iter().flat_map(|(device, counts)| {
            ProofKind::ALL
                .iter()
                .zip(&counts.proofs)
                .map(move |(kind, count)| (device.as_deref(), *kind, *count))
        })
    }

    /// A summary line for each device and cause with verdicts.
    pub fn summaries(&self) -> Vec<VerdictSummary> {
        self.counts()
            .filter(|(.., count)| *count > 0)
            .map(|(device, cause, count)| VerdictSummary {
                device: device.map(str::to_owned),
                cause,
                count,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(device: Option<&str>, cause: Cause) -> Verdict {
        Verdict {
            integrity_seq: 1,
            device: device.map(str::to_owned),
            cause,
            confidence: 0.9,
            evidence: vec![1],
            stalls_same_page: 0,
            stalls_same_file: 0,
            stalls_same_device: 0,
            explanation: String::new(),
            proof: None,
        }
    }

    #[test]
    fn verdicts_count_by_device_and_cause() {
        let mut tally = VerdictTally::default();
        tally.add(&verdict(Some("sda"), Cause::NoRewriteSeen));
        tally.add(&verdict(Some("sda"), Cause::NoRewriteSeen));
        tally.add(&verdict(Some("sda"), Cause::DirectIoBuffer));
        tally.add(&verdict(None, Cause::Unknown));
        let lines: Vec<_> = tally
            .summaries()
            .into_iter()
            .map(|line| (line.device.unwrap_or_default(), line.cause, line.count))
            .collect();
        assert_eq!(
            lines,
            [
                (String::new(), Cause::Unknown, 1),
                ("sda".to_owned(), Cause::DirectIoBuffer, 1),
                ("sda".to_owned(), Cause::NoRewriteSeen, 2),
            ]
        );
        assert_eq!(tally.counts().count(), 10, "each of two devices has each cause");
    }

    #[test]
    fn a_recording_cannot_make_the_tally_grow_without_bound() {
        let mut tally = VerdictTally::default();
        for number in 0..2 * MAX_DEVICES {
            tally.add(&verdict(Some(&format!("sd{number}")), Cause::Unknown));
        }
        assert!(tally.devices.len() <= MAX_DEVICES + 1);
        let total: u64 = tally.counts().map(|(.., count)| count).sum();
        assert_eq!(total, 2 * MAX_DEVICES as u64);
    }
}
