//! Stalled time by thread name and stack.

use crate::record::COMM_LEN;

/// What one sum of stalled time is about.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessKey {
    /// Name of the waiter's thread, NUL-padded.
    pub comm: [u8; COMM_LEN],
    /// The stack of its waits; the agent turns it into a context.
    pub stack: u64,
}

impl ProcessKey {
    /// The sum that takes what has no room of its own. It exists from the start; no thread has an
    /// empty name and a known stack of 0 at once.
    pub const COMMON: Self = Self { comm: [0; COMM_LEN], stack: 0 };
}

/// Stalled time: in the kernel one CPU's share of it, in the agent the sum.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessStalls {
    /// Sum of their durations in ns.
    pub sum_ns: u64,
    /// How many.
    pub stalls: u64,
}

impl ProcessStalls {
    /// Nothing counted.
    pub const EMPTY: Self = Self { sum_ns: 0, stalls: 0 };

    /// Counts one stall.
    #[inline]
    pub fn record(&mut self, duration_ns: u64) {
        self.sum_ns = self.sum_ns.wrapping_add(duration_ns);
        self.stalls += 1;
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Self) {
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
        self.stalls += other.stalls;
    }
}

const _: () = assert!(size_of::<ProcessKey>() == COMM_LEN + 8);
const _: () = assert!(size_of::<ProcessStalls>() == 16);
