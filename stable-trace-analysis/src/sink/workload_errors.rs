//! What the workload was refused since its last word, beside the integrity errors since then: for
//! the eye, as the lines come. The exact account is in the summary.

use crate::event::{FailedCalls, Workload, WorkloadErrors, WorkloadState, failed_since};

/// Remembers the workload's last word.
#[derive(Debug, Default)]
pub struct WorkloadErrorDeltas {
    failed: FailedCalls,
    integrity_errors: u64,
}

impl WorkloadErrorDeltas {
    /// An integrity error was printed.
    pub const fn integrity(&mut self) {
        self.integrity_errors += 1;
    }

    /// The line for a word of the workload, if it was refused anything since the last one.
    pub fn workload(&mut self, workload: &Workload) -> Option<String> {
        if workload.state == WorkloadState::Started {
            *self = Self::default();
            return None;
        }
        let refused = failed_since(&workload.failed, &self.failed);
        let seen = std::mem::take(&mut self.integrity_errors);
        self.failed.clone_from(&workload.failed);
        (!refused.is_empty()).then(|| {
            format!(
                "wac {}: {} since its last word, beside {seen} integrity errors",
                workload.profile,
                calls(&refused)
            )
        })
    }
}

/// What a profile was refused and what failed in the same time, in one line.
#[must_use]
pub fn account(errors: &WorkloadErrors) -> String {
    let refused = if errors.failed.is_empty() {
        "nothing was refused to the workload".to_owned()
    } else {
        format!("{} to the workload", calls(&errors.failed))
    };
    let (all, own) = (errors.integrity_errors, errors.integrity_errors_own);
    let beside = match all - own {
        0 => format!("{own} integrity errors on its file"),
        _ => format!("{own} integrity errors on its file, {} elsewhere", all - own),
    };
    format!("wac {}: {refused}; {beside} in the same time", errors.profile)
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
    fn a_word_says_what_is_new_in_it() {
        let mut beside = WorkloadErrorDeltas::default();
        let mut word = Workload { profile: "a".into(), ..Workload::default() };
        assert_eq!(beside.workload(&word), None);
        word.state = WorkloadState::Progress;
        assert_eq!(beside.workload(&word), None);
        word.failed = failed(5);
        (0..5).for_each(|_| beside.integrity());
        assert_eq!(
            beside.workload(&word).unwrap(),
            "wac a: 5 EILSEQ (sync_file_range) since its last word, beside 5 integrity errors"
        );
        assert_eq!(beside.workload(&word), None, "nothing new");
        word.failed = failed(6);
        assert!(beside.workload(&word).unwrap().contains("1 EILSEQ"));
    }

    #[test]
    fn an_account_has_both_sides() {
        let mut errors = WorkloadErrors {
            profile: "a".into(),
            failed: failed(1203),
            integrity_errors: 1203,
            integrity_errors_own: 1203,
            intervals: Vec::new(),
        };
        assert_eq!(
            account(&errors),
            "wac a: 1203 EILSEQ (sync_file_range) to the workload; 1203 integrity errors on its \
             file in the same time"
        );
        errors.failed.clear();
        errors.integrity_errors += 2;
        assert_eq!(
            account(&errors),
            "wac a: nothing was refused to the workload; 1203 integrity errors on its file, 2 \
             elsewhere in the same time"
        );
    }
}
