//! Failed calls of the workload next to the integrity errors of the same time.

use crate::event::{FailedCalls, Workload, WorkloadErrors, WorkloadState, failed_since};

/// Compares each report of the workload with the one before. Lines of the stream are not ordered
/// exactly by time, so these numbers are approximate; those of the summary are exact.
#[derive(Debug, Default)]
pub(super) struct WorkloadErrorDeltas {
    /// The failed calls of the last report.
    failed: FailedCalls,
    /// Integrity errors since then.
    integrity_errors: u64,
}

impl WorkloadErrorDeltas {
    pub(super) const fn integrity_error(&mut self) {
        self.integrity_errors += 1;
    }

    /// Describes the calls that have failed since the last report; `None` if there are none.
    pub(super) fn workload(&mut self, workload: &Workload) -> Option<String> {
        if workload.state == WorkloadState::Started {
            *self = Self::default();
            return None;
        }
        let failed = failed_since(&workload.failed, &self.failed);
        let integrity_errors = std::mem::take(&mut self.integrity_errors);
        self.failed.clone_from(&workload.failed);
        (!failed.is_empty()).then(|| {
            format!(
                "wac {}: {} since its last report; {integrity_errors} integrity errors in that time",
                workload.profile,
                calls(&failed)
            )
        })
    }
}

/// The failed calls of a profile and the integrity errors of the same time, in one line.
pub(super) fn summary_line(errors: &WorkloadErrors) -> String {
    let failed = if errors.failed.is_empty() {
        "no failed calls".to_owned()
    } else {
        format!("failed calls: {}", calls(&errors.failed))
    };
    let (all, own) = (errors.integrity_errors, errors.integrity_errors_own);
    let elsewhere = match all - own {
        0 => String::new(),
        count => format!(", {count} elsewhere"),
    };
    format!(
        "wac {}: {failed}; in the same time: {own} integrity errors on its file{elsewhere}",
        errors.profile
    )
}

/// `1203 EILSEQ (sync_file_range), 2 EIO (pwrite)`.
fn calls(failed: &FailedCalls) -> String {
    let each = failed.iter().flat_map(|(call, errors)| {
        errors.iter().map(move |(name, count)| format!("{count} {name} ({call})"))
    });
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn failed(count: u64) -> FailedCalls {
        let errors = BTreeMap::from([("EILSEQ".to_owned(), count)]);
        BTreeMap::from([("sync_file_range".to_owned(), errors)])
    }

    #[test]
    fn a_report_shows_only_new_failures() {
        let mut deltas = WorkloadErrorDeltas::default();
        let mut report = Workload { profile: "a".into(), ..Workload::default() };
        assert_eq!(deltas.workload(&report), None);
        report.state = WorkloadState::Progress;
        assert_eq!(deltas.workload(&report), None);
        report.failed = failed(5);
        (0..5).for_each(|_| deltas.integrity_error());
        assert_eq!(
            deltas.workload(&report).unwrap(),
            "wac a: 5 EILSEQ (sync_file_range) since its last report; 5 integrity errors in that time"
        );
        assert_eq!(deltas.workload(&report), None, "nothing new");
        report.failed = failed(6);
        assert!(deltas.workload(&report).unwrap().contains("1 EILSEQ"));
    }

    #[test]
    fn a_summary_line_has_failed_calls_and_integrity_errors() {
        let mut errors = WorkloadErrors {
            profile: "a".into(),
            failed: failed(1203),
            integrity_errors: 1203,
            integrity_errors_own: 1203,
            intervals: Vec::new(),
        };
        assert_eq!(
            summary_line(&errors),
            "wac a: failed calls: 1203 EILSEQ (sync_file_range); in the same time: 1203 integrity \
             errors on its file"
        );
        errors.failed.clear();
        errors.integrity_errors += 2;
        assert_eq!(
            summary_line(&errors),
            "wac a: no failed calls; in the same time: 1203 integrity errors on its file, 2 elsewhere"
        );
    }
}
