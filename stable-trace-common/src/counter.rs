//! What the programs count beside the histograms: a per-CPU array, one `u64` an index.

/// Index of a counter in the map `COUNTERS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// Stalls that went into the ring buffer.
    Streamed = 0,
    /// Stalls that were counted but shorter than the threshold of the stream.
    BelowThreshold = 1,
    /// Stalls and unstable writes that the ring buffer had no room for.
    Lost = 2,
    /// Waits whose folio was written back before the task had to stop running.
    WithoutSleep = 3,
    /// Wait tracepoints that fired again for the same folio after a wake-up: one stall.
    Repeated = 4,
    /// Waits that could not be followed: the map of waiters was full.
    WaitersFull = 5,
    /// Stacks that could not be kept: their stalls count as `other`.
    StacksFull = 6,
    /// Stalls whose device and stack had no histogram left: they went to the common one.
    HistogramsFull = 7,
    /// Stacks that the kernel could not walk: their stalls count as `other`.
    StackFailed = 8,
    /// Stalls that no histogram could take. Not one should be: the common histogram always exists.
    Uncounted = 9,
    /// Unstable writes that went into the ring buffer.
    UnstableStreamed = 10,
    /// Unstable writes that harm nobody, so counted but not streamed.
    UnstableHarmless = 11,
    /// Unstable writes whose device had no count left. They are streamed all the same.
    UnstableFull = 12,
    /// Write faults whose return could not be followed: the map of faults was full.
    FaultsFull = 13,
    /// Waits whose return the kernel did not report: only where a kretprobe must do.
    ReturnsMissed = 14,
    /// Integrity failures that went into the ring buffer.
    IntegrityStreamed = 15,
    /// Integrity failures that the ring buffer had no room for.
    IntegrityLost = 16,
    /// Failures that a device reported above the one that they are counted for.
    IntegrityRepeated = 17,
    /// Integrity failures whose kind had no count left. They are streamed all the same.
    IntegrityFull = 18,
    /// Pages of a failure that could not be kept: a device above may count it once more.
    FailedFull = 19,
    /// Submissions or verifications that could not be followed: a map was full.
    SubmittersFull = 20,
}

impl Counter {
    /// Every counter, in the order of its index.
    pub const ALL: [Self; 21] = [
        Self::Streamed,
        Self::BelowThreshold,
        Self::Lost,
        Self::WithoutSleep,
        Self::Repeated,
        Self::WaitersFull,
        Self::StacksFull,
        Self::HistogramsFull,
        Self::StackFailed,
        Self::Uncounted,
        Self::UnstableStreamed,
        Self::UnstableHarmless,
        Self::UnstableFull,
        Self::FaultsFull,
        Self::ReturnsMissed,
        Self::IntegrityStreamed,
        Self::IntegrityLost,
        Self::IntegrityRepeated,
        Self::IntegrityFull,
        Self::FailedFull,
        Self::SubmittersFull,
    ];
}

/// Entries of the map `COUNTERS`.
#[expect(clippy::cast_possible_truncation, reason = "some twenty")]
pub const COUNTERS: u32 = Counter::ALL.len() as u32;
