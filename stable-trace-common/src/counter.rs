//! What the programs count beside the histograms: one `u64` a CPU for each counter.

/// Declares the counters: a row is a name, and for what should not happen what a run lost by it.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident $(=> $loss:literal)?,)*) => {
        /// Index of a counter in the map `COUNTERS`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Counter {
            $($(#[$doc])* $name,)*
        }

        impl Counter {
            /// Every counter, in the order of its index.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// What the run lost if the counter is not 0; `None` for a counter of normal events.
            #[must_use]
            pub fn loss(self) -> Option<&'static str> {
                let loss: &[&str] = match self {
                    $(Self::$name => &[$($loss)?],)*
                };
                loss.first().copied()
            }
        }
    };
}

counters! {
    /// Stalls written to the ring buffer.
    Streamed,
    /// Stalls that were counted but shorter than the threshold of the stream.
    BelowThreshold,
    /// Stalls and unstable writes that the ring buffer had no room for.
    Lost,
    /// Waits whose folio was written back before the task was switched out.
    WithoutSleep,
    /// Wait tracepoints that fired again for the same folio after a wake-up: one stall.
    Repeated,
    /// Waits that were not followed: the map `WAITERS` was full.
    WaitersFull => "a wait was not followed",
    /// Stacks that were not stored: the map `STACKS` was full. Their stalls count as `other`.
    StacksFull => "a stall counts as other: its stack was not kept",
    /// Stalls whose device and stack had no histogram left: the overflow histogram counts them.
    HistogramsFull => "a stall counts without its device",
    /// Stacks that the kernel could not walk. Their stalls count as `other`.
    StackFailed => "a stack could not be walked",
    /// Stalls that no histogram counts. Always 0: the overflow histogram exists from the start.
    Uncounted => "a stall was not counted",
    /// Unstable writes written to the ring buffer.
    UnstableStreamed,
    /// Unstable writes that are harmless, so counted but not streamed.
    UnstableHarmless,
    /// Unstable writes without a count of their own, or counted twice: a map was full. They are
    /// streamed all the same.
    UnstableFull => "an unstable write was not counted, or counted twice",
    /// Write faults whose return was not followed: the map `FAULTS` was full.
    FaultsFull => "a write fault was not followed",
    /// Waits whose return the kernel did not report. Only with a kretprobe.
    ReturnsMissed => "the end of a wait was not seen",
    /// Integrity failures written to the ring buffer.
    IntegrityStreamed,
    /// Integrity failures that the ring buffer had no room for.
    IntegrityLost,
    /// Failures that a stacked device reported again, already counted for a device below.
    IntegrityRepeated,
    /// Integrity failures that were not counted: the map `INTEGRITY_ERRORS` was full. They are
    /// streamed all the same.
    IntegrityFull => "an integrity error was not counted",
    /// Failed pages that were not stored: a stacked device may count the same failure again.
    FailedPagesFull => "a device above may count an integrity error once more",
    /// Paths that the ring buffer had no room for.
    PathsLost => "an event may lack its path",
    /// Submitters, verifications or logged checks that were not stored: a map was full.
    SubmittersFull => "an integrity error may lack who submitted it, or its check",
    /// Waits of tasks that `--pid`, `--comm`, `--cgroup` or the scope of `run` leaves out.
    OtherTasks,
    /// Waits for devices that `--device` leaves out.
    OtherDevices,
    /// New processes that were not followed: the map `FOLLOWED` was full.
    FollowedFull => "a process was not followed: its stalls are left out",
    /// Stacks that were walked at the beginning of a wait or while it slept: those without a known layout.
    StacksWalked,
    /// Integrity failures of which no evidence was taken, or not all: too many at once, or the ring `EVIDENCE` was
    /// full.
    EvidenceSkipped,
    /// Pages of writes that were not looked at: their probe has room for so many.
    PagesUnchecked,
    /// Samples of stacks that the ring buffer had no room for. Later ones take their place.
    SamplesLost,
}

/// Entries of the map `COUNTERS`.
#[expect(clippy::cast_possible_truncation, reason = "some twenty")]
pub const COUNTERS: u32 = Counter::ALL.len() as u32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_stands_at_its_index() {
        for (index, counter) in (0..COUNTERS).zip(Counter::ALL) {
            assert_eq!(*counter as u32, index);
        }
        assert_eq!(COUNTERS, 29);
    }

    #[test]
    fn only_what_should_not_happen_is_a_loss() {
        assert_eq!(Counter::WaitersFull.loss(), Some("a wait was not followed"));
        assert_eq!(Counter::Streamed.loss(), None);
    }
}
